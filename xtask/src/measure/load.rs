//! The load generator: many connections on one thread, each a closed loop of a fixed depth.
//!
//! It owns sockets, frames, order of replies and clocks. What is asked and what a good answer looks like
//! is a [`Source`]'s business. Requests of one connection go out in one write and replies come in with
//! one read, so that it costs a small part of what a server costs; where it does not, its own CPU tells.

use anyhow::{Context as _, Result, bail, ensure};
use farrier_proto::client::ConnectResponse;
use farrier_proto::{Field as _, Reader};
use farrier_testkit::raw::{Connect, framed};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Session timeout that connections ask for, in milliseconds.
const SESSION_TIMEOUT_MS: i32 = 40_000;
/// Bytes that one read may bring; also the longest reply.
const READ_MAX: usize = 256 << 10;
/// A server that answers nothing for so long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Longest latency that is told apart, in microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;
/// The request code of closeSession.
const CLOSE_SESSION: i32 = -11;

/// What to ask, and judge of the answers.
pub(super) trait Source {
    /// Appends one whole frame for connection `conn` with this xid, and returns what [`Self::reply`] needs
    /// to know about it; `None` when this connection has nothing left to ask.
    fn next(&mut self, conn: usize, xid: i32, out: &mut Vec<u8>) -> Option<u64>;

    /// Judges a reply: its error code and the record behind the header.
    fn reply(&mut self, conn: usize, tag: u64, error: i32, body: &[u8]) -> Result<()>;
}

/// How long a run takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Span {
    /// Not counted at first, then counted for so long.
    Timed { ramp: Duration, window: Duration },
    /// Until the source has nothing left.
    Exhausted,
}

/// What happened in the counted part of a run. `P` is what the probe sees at its ends.
#[derive(Debug)]
pub(super) struct Window<P> {
    /// Its length.
    pub(super) elapsed: Duration,
    /// Replies that came in it.
    pub(super) replies: u64,
    /// The probe's findings at its beginning.
    pub(super) before: P,
    /// The probe's findings at its end.
    pub(super) after: P,
    /// Microseconds from request to reply.
    pub(super) latency: Histogram<u64>,
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    out: Vec<u8>,
    sent: usize,
    waits_for_room: bool,
    input: Vec<u8>,
    filled: usize,
    pending: VecDeque<(i32, u64, Instant)>,
    xid: i32,
    exhausted: bool,
}

/// Connections to one server or to several, each with a session.
#[derive(Debug)]
pub(super) struct Pool {
    clients: Vec<Client>,
    epoll: OwnedFd,
}

impl Pool {
    /// Opens `count` sessions, spread evenly over these servers.
    pub(super) fn open(addrs: &[SocketAddr], count: usize) -> Result<Self> {
        ensure!(!addrs.is_empty(), "no server was given");
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("creating an epoll")?;
        let mut clients = Vec::with_capacity(count);
        for index in 0..count {
            let client = Client::open(addrs[index % addrs.len()])?;
            let data = epoll::EventData::new_u64(u64::try_from(index)?);
            epoll::add(&epoll, &client.stream, data, epoll::EventFlags::IN)?;
            clients.push(client);
        }
        Ok(Self { clients, epoll })
    }

    /// Closes the sessions and the connections.
    pub(super) fn close(self) -> Result<()> {
        for mut client in self.clients {
            client.stream.set_nonblocking(false)?;
            client.stream.set_read_timeout(Some(SILENCE_MAX))?;
            let mut payload = client.xid.to_be_bytes().to_vec();
            payload.extend_from_slice(&CLOSE_SESSION.to_be_bytes());
            client.stream.write_all(&framed(&payload))?;
            let mut reply = [0; 20];
            client.stream.read_exact(&mut reply).context("closing a session")?;
        }
        Ok(())
    }

    /// Keeps `depth` requests outstanding on every connection for `span`, then waits for the last replies.
    pub(super) fn run<S: Source, P>(
        &mut self,
        depth: usize,
        span: Span,
        source: &mut S,
        probe: &mut dyn FnMut() -> Result<P>,
    ) -> Result<Window<P>> {
        let start = Instant::now();
        let (from, until) = match span {
            Span::Timed { ramp, window } => (start + ramp, Some(start + ramp + window)),
            Span::Exhausted => (start, None),
        };
        let mut before = None;
        let mut end = None;
        let mut replies = 0;
        let mut latency = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).context("a histogram")?;
        let mut events: Vec<epoll::Event> = Vec::with_capacity(self.clients.len());
        let mut last_reply = start;

        for (index, client) in self.clients.iter_mut().enumerate() {
            client.exhausted = false;
            client.refill(index, depth, source, start);
            client.flush(&self.epoll, index)?;
        }
        loop {
            let now = Instant::now();
            if before.is_none() && now >= from {
                replies = 0;
                latency.reset();
                before = Some((now, probe()?));
            }
            if end.is_none() && until.is_some_and(|t| now >= t) {
                end = Some((now, probe()?, replies));
            }
            if self.clients.iter().all(|c| c.pending.is_empty()) {
                break;
            }
            ensure!(now.duration_since(last_reply) < SILENCE_MAX, "the server answers nothing any more");
            let second = Timespec { tv_sec: 1, tv_nsec: 0 };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&second)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e).context("waiting for replies"),
            }
            for event in events.drain(..) {
                let index = usize::try_from(event.data.u64())?;
                let client = &mut self.clients[index];
                let now = Instant::now();
                let got = client.receive(index, now, source, &mut latency)?;
                if got > 0 {
                    replies += got;
                    last_reply = now;
                }
                if end.is_none() {
                    client.refill(index, depth, source, now);
                }
                client.flush(&self.epoll, index)?;
            }
        }
        let (begun, before) = before.context("the run ended before it was counted")?;
        let (ended, after, replies) = match end {
            Some(end) => end,
            None => (Instant::now(), probe()?, replies),
        };
        Ok(Window { elapsed: ended.duration_since(begun), replies, before, after, latency })
    }
}

impl Client {
    fn open(addr: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(addr).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        let ask = Connect { timeout: SESSION_TIMEOUT_MS, ..Connect::default() };
        stream.write_all(&framed(&ask.encode()))?;
        let mut len = [0; 4];
        stream.read_exact(&mut len).context("reading the answer to the handshake")?;
        let len = usize::try_from(i32::from_be_bytes(len))?;
        ensure!(len < READ_MAX, "a handshake of {len} bytes");
        let mut payload = vec![0; len];
        stream.read_exact(&mut payload)?;
        let response = ConnectResponse::read(&mut Reader::new(&payload))?;
        ensure!(response.timeout > 0, "the server refuses a session");
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            out: Vec::new(),
            sent: 0,
            waits_for_room: false,
            input: vec![0; READ_MAX],
            filled: 0,
            pending: VecDeque::new(),
            xid: 1,
            exhausted: false,
        })
    }

    fn refill<S: Source>(&mut self, index: usize, depth: usize, source: &mut S, now: Instant) {
        while !self.exhausted && self.pending.len() < depth {
            match source.next(index, self.xid, &mut self.out) {
                Some(tag) => {
                    self.pending.push_back((self.xid, tag, now));
                    // A run is over long before 2^31 requests on one connection; starting over is legal.
                    self.xid = self.xid.checked_add(1).unwrap_or(1);
                }
                None => self.exhausted = true,
            }
        }
    }

    fn flush(&mut self, epoll: &OwnedFd, index: usize) -> Result<()> {
        let mut blocked = false;
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    blocked = true;
                    break;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e).context("sending"),
            }
        }
        if !blocked {
            self.out.clear();
            self.sent = 0;
        }
        if blocked != self.waits_for_room {
            self.waits_for_room = blocked;
            let room = if blocked { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
            let data = epoll::EventData::new_u64(u64::try_from(index)?);
            epoll::modify(epoll, &self.stream, data, epoll::EventFlags::IN | room)?;
        }
        Ok(())
    }

    fn receive<S: Source>(
        &mut self,
        index: usize,
        now: Instant,
        source: &mut S,
        latency: &mut Histogram<u64>,
    ) -> Result<u64> {
        match self.stream.read(&mut self.input[self.filled..]) {
            Ok(0) => bail!("the server closed connection {index} with {} requests outstanding", self.pending.len()),
            Ok(n) => self.filled += n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(0),
            Err(e) => return Err(e).context("receiving"),
        }
        let mut replies = 0;
        let mut used = 0;
        while let Some(prefix) = self.input[used..self.filled].first_chunk::<4>() {
            let len = usize::try_from(i32::from_be_bytes(*prefix)).context("a reply of negative length")?;
            ensure!((16..READ_MAX - 4).contains(&len), "a reply of {len} bytes");
            let Some(frame) = self.input[used + 4..self.filled].get(..len) else { break };
            used += 4 + len;
            let mut head = Reader::new(frame);
            let (xid, _zxid, error) = (i32::read(&mut head)?, i64::read(&mut head)?, i32::read(&mut head)?);
            let Some((expected, tag, asked)) = self.pending.pop_front() else {
                bail!("a reply with xid {xid} to nothing");
            };
            ensure!(xid == expected, "reply {xid} came where {expected} was due");
            source.reply(index, tag, error, &frame[16..])?;
            let us = u64::try_from(now.duration_since(asked).as_micros())?;
            latency.saturating_record(us.max(1));
            replies += 1;
        }
        self.input.copy_within(used..self.filled, 0);
        self.filled -= used;
        Ok(replies)
    }
}
