//! Sessions that come and go, many at a time on one thread.
//!
//! It owns their sockets and the two things that each asks: a session, and its end. A server sets up and takes down for every
//! one of them, so what a session costs here has to be little beside that.

use crate::frame::put_request;
use crate::handshake;
use crate::pool::{Progress, SILENCE_MAX, TOLD_EVERY, Window};
use anyhow::{Context as _, Result, bail, ensure};
use farrier_proto::client::ReplyHeader;
use farrier_proto::{Field as _, OpCode, Reader, Xid};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest answer with its length: that to a handshake has 41 bytes, that to a close 20.
const ANSWER_MAX: usize = 64;
/// The xid of the only request of a session.
const CLOSE_XID: i32 = 1;
/// Longest wait for an event, after which it is looked whether a session takes too long.
const WAIT_MAX: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// What opening sessions took.
#[derive(Debug)]
pub struct Connects {
    /// Sessions that were opened and closed again.
    pub sessions: u64,
    /// How long all of it took.
    pub elapsed: Duration,
    /// Microseconds from the dial to the answer to the handshake.
    pub latency: Histogram<u64>,
}

/// Opens sessions and closes them again for `span`, `parallel` at a time, spread over the servers. Tells `progress` how many
/// were opened.
///
/// # Errors
///
/// No server was given; one refuses a session, answers wrongly, or takes half a minute for one; or `progress` ends it.
pub fn connect(addrs: &[SocketAddr], parallel: usize, span: Duration, progress: Progress<'_>) -> Result<Connects> {
    let span = Warmed { ramp: Duration::ZERO, window: span };
    let seen = connect_within(addrs, parallel, span, SILENCE_MAX, &mut || Ok(()), progress)?;
    Ok(Connects { sessions: seen.replies, elapsed: seen.elapsed, latency: seen.latency })
}

/// Sessions that do not count at first, then do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Warmed {
    pub(crate) ramp: Duration,
    pub(crate) window: Duration,
}

/// [`connect`] where sessions count that have the answer to their handshake behind the ramp; the probe is asked there and at
/// the end.
pub(crate) fn connect_warmed<P>(
    addrs: &[SocketAddr],
    parallel: usize,
    span: Warmed,
    probe: &mut dyn FnMut() -> Result<P>,
    progress: Progress<'_>,
) -> Result<Window<P>> {
    connect_within(addrs, parallel, span, SILENCE_MAX, probe, progress)
}

/// [`connect_warmed`], where a session may take at most `session_max` from its dial to its end.
fn connect_within<P>(
    addrs: &[SocketAddr],
    parallel: usize,
    span: Warmed,
    session_max: Duration,
    probe: &mut dyn FnMut() -> Result<P>,
    progress: Progress<'_>,
) -> Result<Window<P>> {
    ensure!(!addrs.is_empty(), "no server was given");
    let line = Line::new()?;
    let mut latency = Histogram::new(3).context("a histogram")?;
    let start = Instant::now();
    let mut last_told = start;
    // What opens the first sessions counts, too, where there is no ramp.
    let mut before = if span.ramp.is_zero() { Some((start, probe()?)) } else { None };
    let mut places = Vec::with_capacity(parallel);
    for index in 0..parallel {
        places.push(Some(Session::dial(index, index, addrs, &line)?));
    }
    let mut open = parallel;
    let mut events: Vec<epoll::Event> = Vec::with_capacity(parallel.max(1));
    while open > 0 {
        let now = Instant::now();
        if before.is_none() && now.duration_since(start) >= span.ramp {
            latency.reset();
            before = Some((now, probe()?));
        }
        match epoll::wait(&line.epoll, spare_capacity(&mut events), Some(&WAIT_MAX)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e).context("waiting for answers"),
        }
        for event in events.drain(..) {
            let index = usize::try_from(event.data.u64())?;
            let session = places[index].as_mut().context("an event of a session that is over")?;
            let step = session.step;
            let answered = session.advance(index, &line).with_context(|| handshake::failed(index, session.addr))?;
            if !answered {
                continue;
            }
            let now = Instant::now();
            match step {
                Step::Open => {
                    let us = u64::try_from(now.duration_since(session.dialled).as_micros())?;
                    latency.record(us.max(1)).context("a latency")?;
                }
                Step::Close => {
                    let turn = session.turn + 1;
                    // The old connection goes before the next one comes.
                    places[index] = None;
                    // The time that counts begins at the top of the loop, and so maybe late.
                    if before.as_ref().is_none_or(|(begun, _)| now.duration_since(*begun) < span.window) {
                        places[index] = Some(Session::dial(index, turn, addrs, &line)?);
                    } else {
                        open -= 1;
                    }
                }
            }
        }
        let now = Instant::now();
        if now.duration_since(last_told) >= TOLD_EVERY {
            last_told = now;
            progress(now.duration_since(start), latency.len())?;
            for (index, session) in places.iter().enumerate() {
                if let Some(session) = session
                    && now.duration_since(session.dialled) >= session_max
                {
                    let what = session.step.name();
                    return Err(anyhow::anyhow!("no answer to {what} {session_max:?} after the dial"))
                        .with_context(|| handshake::failed(index, session.addr));
                }
            }
        }
    }
    let (begun, before) = before.context("the sessions were over before they counted")?;
    Ok(Window { elapsed: begun.elapsed(), replies: latency.len(), before, after: probe()?, latency })
}

/// What all sessions share.
#[derive(Debug)]
struct Line {
    epoll: OwnedFd,
    /// The frames that every session sends.
    open: Vec<u8>,
    close: Vec<u8>,
}

impl Line {
    fn new() -> Result<Self> {
        let (mut open, mut close) = (Vec::new(), Vec::new());
        handshake::put(&mut open);
        put_request(&mut close, CLOSE_XID, OpCode::CloseSession, |_| {});
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("creating an epoll")?;
        Ok(Self { epoll, open, close })
    }
}

/// What a session has asked, or is about to ask once its connection is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Open,
    Close,
}

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Self::Open => "the handshake",
            Self::Close => "the end of a session",
        }
    }
}

/// One session.
#[derive(Debug)]
struct Session {
    stream: TcpStream,
    addr: SocketAddr,
    /// Counts on from session to session, so that each goes to the server after the last one's.
    turn: usize,
    dialled: Instant,
    step: Step,
    /// Bytes of what the step asks.
    sent: usize,
    answer: [u8; ANSWER_MAX],
    filled: usize,
}

impl Session {
    /// Begins a connection, and sends what it can.
    fn dial(index: usize, turn: usize, addrs: &[SocketAddr], line: &Line) -> Result<Self> {
        let addr = addrs[turn % addrs.len()];
        let dialled = Instant::now();
        let begin = || -> Result<Self> {
            let stream = TcpStream::from(begin_connection(addr).context("connecting")?);
            let step = Step::Open;
            let mut session = Self { stream, addr, turn, dialled, step, sent: 0, answer: [0; ANSWER_MAX], filled: 0 };
            let awaited = session.send(line)?;
            epoll::add(&line.epoll, &session.stream, data(index)?, awaited)?;
            Ok(session)
        };
        begin().with_context(|| handshake::failed(index, addr))
    }

    /// Goes on after an event; whether the step that it was in has its answer. Opened, it asks for its end at once.
    fn advance(&mut self, index: usize, line: &Line) -> Result<bool> {
        if self.sent < self.ask(line).len() {
            let awaited = self.send(line)?;
            epoll::modify(&line.epoll, &self.stream, data(index)?, awaited)?;
            return Ok(false);
        }
        match self.stream.read(&mut self.answer[self.filled..]) {
            Ok(0) => bail!("the server closed the connection before it answered {}", self.step.name()),
            Ok(n) => self.filled += n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(false),
            Err(e) => return Err(e).with_context(|| format!("waiting for the answer to {}", self.step.name())),
        }
        let Some(answer) = whole(&self.answer[..self.filled])? else { return Ok(false) };
        match self.step {
            Step::Open => {
                handshake::check(answer)?;
                (self.step, self.sent, self.filled) = (Step::Close, 0, 0);
                let awaited = self.send(line)?;
                if awaited != epoll::EventFlags::IN {
                    epoll::modify(&line.epoll, &self.stream, data(index)?, awaited)?;
                }
            }
            Step::Close => check_closed(answer)?,
        }
        Ok(true)
    }

    fn ask<'a>(&self, line: &'a Line) -> &'a [u8] {
        match self.step {
            Step::Open => &line.open,
            Step::Close => &line.close,
        }
    }

    /// Sends what the connection takes; returns what is waited for now. A connection that is not there yet takes nothing.
    fn send(&mut self, line: &Line) -> Result<epoll::EventFlags> {
        let ask = self.ask(line);
        while self.sent < ask.len() {
            match self.stream.write(&ask[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(epoll::EventFlags::OUT),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e).with_context(|| format!("connecting, or sending {}", self.step.name())),
            }
        }
        Ok(epoll::EventFlags::IN)
    }
}

fn data(index: usize) -> Result<epoll::EventData> {
    Ok(epoll::EventData::new_u64(u64::try_from(index)?))
}

/// A socket whose connection is on its way.
fn begin_connection(addr: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match net::connect(&socket, &addr) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(e) => Err(e),
    }
}

/// The answer without its length, once it is all there. Nothing may follow it.
fn whole(bytes: &[u8]) -> Result<Option<&[u8]>> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let len = usize::try_from(i32::from_be_bytes(*prefix)).context("an answer of negative length")?;
    ensure!(len <= ANSWER_MAX - prefix.len(), "an answer of {len} bytes");
    ensure!(rest.len() <= len, "{} bytes behind an answer that nobody asked for", rest.len() - len);
    Ok((rest.len() == len).then_some(rest))
}

/// Judges the answer to the end of a session.
fn check_closed(answer: &[u8]) -> Result<()> {
    let head = ReplyHeader::read(&mut Reader::new(answer)).context("reading the answer to the end of a session")?;
    ensure!(head.xid == Xid(CLOSE_XID), "a reply with xid {} came where {CLOSE_XID} was due", head.xid.0);
    ensure!(head.err == 0, "a session was not closed: error {}", head.err);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::SessionId;
    use farrier_proto::client::{ConnectResponse, begin_frame, end_frame};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    /// Long enough for many sessions; every run ends by itself.
    const SPAN: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(60);

    fn framed(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut frame = Vec::new();
        let at = begin_frame(&mut frame);
        write(&mut frame);
        end_frame(&mut frame, at);
        frame
    }

    fn opened(session: i64) -> Vec<u8> {
        let response =
            ConnectResponse { timeout: 40_000, session: SessionId(session), password: [7; 16], read_only: Some(false) };
        framed(|out| response.write(out))
    }

    fn closed(xid: i32, err: i32) -> Vec<u8> {
        framed(|out| ReplyHeader { xid: Xid(xid), zxid: 0, err }.write(out))
    }

    /// A server that gives every session these two answers, in pieces of so many bytes; it closes where one is empty.
    fn server(open: &[u8], close: &[u8], piece: usize) -> SocketAddr {
        counting_server(open, close, piece).0
    }

    /// The same, and how many sessions it has opened.
    fn counting_server(open: &[u8], close: &[u8], piece: usize) -> (SocketAddr, Arc<AtomicU64>) {
        let count = Arc::new(AtomicU64::new(0));
        let counter = count.clone();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let answers = [open.to_vec(), close.to_vec()];
        // It ends with the tests' process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answers, counter) = (answers.clone(), counter.clone());
                thread::spawn(move || answer(&mut stream.expect("a connection"), &answers, piece, &counter));
            }
        });
        (addr, count)
    }

    /// The client may be gone at any time.
    fn answer(stream: &mut TcpStream, answers: &[Vec<u8>], piece: usize, opened: &AtomicU64) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        for (step, answer) in answers.iter().enumerate() {
            let mut len = [0; 4];
            stream.read_exact(&mut len).ok()?;
            let mut ask = vec![0; usize::try_from(i32::from_be_bytes(len)).ok()?];
            stream.read_exact(&mut ask).ok()?;
            if answer.is_empty() {
                break;
            }
            if step == 0 {
                opened.fetch_add(1, Ordering::SeqCst);
            }
            for piece in answer.chunks(piece) {
                stream.write_all(piece).ok()?;
            }
        }
        Some(())
    }

    fn run(addrs: &[SocketAddr], session_max: Duration) -> Result<Window<()>> {
        let span = Warmed { ramp: Duration::ZERO, window: SPAN };
        connect_within(addrs, 3, span, session_max, &mut || Ok(()), &mut |_, _| Ok(()))
    }

    #[test]
    fn sessions_go_on_one_after_the_other_until_the_time_is_over() {
        for piece in [1, 7, 100] {
            let addrs = [server(&opened(5), &closed(1, 0), piece), server(&opened(-5), &closed(1, 0), piece)];
            let seen = run(&addrs, LONG).expect("sessions");
            assert!(seen.replies >= 3 && seen.replies == seen.latency.len(), "{}", seen.replies);
            assert!(seen.elapsed >= SPAN, "places dial again until it is over");
        }
    }

    #[test]
    fn sessions_of_the_ramp_do_not_count() {
        let (addr, opened_so_far) = counting_server(&opened(5), &closed(1, 0), 100);
        let span = Warmed { ramp: 3 * SPAN, window: SPAN };
        let mut looks = || Ok(opened_so_far.load(Ordering::SeqCst));
        let seen = connect_warmed(&[addr], 3, span, &mut looks, &mut |_, _| Ok(())).expect("sessions");
        assert!(seen.before > 3, "the ramp opened some");
        // Of each of three, an answer may have been on its way where the ramp ended.
        assert!(seen.replies <= seen.after - seen.before + 3, "{seen:?}");
    }

    #[test]
    fn a_wrong_answer_is_told_with_the_server_that_gave_it() {
        for (open, close, told) in [
            (opened(0), closed(1, 0), "refuses a session"),
            (opened(5), closed(1, -4), "error -4"),
            (opened(5), closed(2, 0), "xid 2"),
            (opened(5), vec![], "closed the connection before it answered the end of a session"),
            (vec![], vec![], "closed the connection before it answered the handshake"),
            ([opened(5), closed(1, 0)].concat(), vec![], "nobody asked for"),
        ] {
            let addr = server(&open, &close, 100);
            let error = format!("{:#}", run(&[addr], LONG).expect_err(told));
            assert!(error.contains(told) && error.contains(&addr.to_string()), "{error}");
        }
        run(&[], LONG).expect_err("no server");
    }

    #[test]
    fn a_server_that_is_not_there_or_silent_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        // The system takes connections for it, and nobody answers.
        let error = format!("{:#}", run(&[addr], Duration::from_millis(1)).expect_err("silence"));
        assert!(error.contains("no answer to the handshake") && error.contains(&addr.to_string()), "{error}");
        drop(listener);
        let error = format!("{:#}", run(&[addr], LONG).expect_err("nobody"));
        assert!(error.contains("refused") && error.contains(&addr.to_string()), "{error}");
    }

    #[test]
    fn whoever_hears_of_the_progress_can_end_it() {
        let addr = server(&opened(5), &closed(1, 0), 100);
        let error = connect(&[addr], 2, LONG, &mut |_, _| bail!("enough")).expect_err("it was ended");
        assert_eq!(error.to_string(), "enough");
    }

    #[test]
    fn an_answer_is_whole_or_not_yet_or_too_long() {
        let answer = closed(1, 0);
        for len in 0..answer.len() {
            assert_eq!(whole(&answer[..len]).expect("a beginning"), None);
        }
        assert_eq!(whole(&answer).expect("all"), Some(&answer[4..]));
        whole(&[answer.as_slice(), &[0]].concat()).expect_err("more than an answer");
        whole(&[0xff; 4]).expect_err("a negative length");
        whole(&61i32.to_be_bytes()).expect_err("longer than there is room for");
    }
}
