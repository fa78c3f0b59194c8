//! Many connections on one thread: each a closed loop of a fixed depth, or all together an open loop of a fixed rate.
//!
//! It owns sockets, frames, order of replies and clocks. What is asked and what a good answer looks like
//! is a [`Source`]'s business. Requests of one connection go out in one write and replies come in with
//! one read, so that it costs a small part of what a server costs; where it does not, its own CPU tells.

use crate::frame::put_request;
use crate::handshake;
use anyhow::{Context as _, Result, bail, ensure};
use farrier_proto::{Field as _, OpCode, Reader, Xid};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Bytes that one read may bring; also the longest reply.
const READ_MAX: usize = 256 << 10;
/// A server that answers nothing for so long has failed.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(30);
/// A run that is ended from outside waits for so long for answers to what it has asked: whoever takes everything away
/// behind it would miss what is created meanwhile.
const SETTLED_MAX: Duration = Duration::from_secs(3);
/// Longest latency that is told apart, in microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;
/// A connection that sent nothing for so long sends a ping.
const PING_AFTER: Duration = Duration::from_secs(10);
/// How often a run tells how far it is.
pub(crate) const TOLD_EVERY: Duration = Duration::from_millis(200);

/// What to ask, and judge of the answers.
pub trait Source {
    /// Appends one whole frame for connection `conn` with this xid, and returns what [`Self::reply`] needs
    /// to know about it; `None` when this connection has nothing left to ask.
    fn next(&mut self, conn: usize, xid: i32, out: &mut Vec<u8>) -> Option<u64>;

    /// Judges a reply: its error code and the record behind the header.
    ///
    /// # Errors
    ///
    /// The answer is wrong; the run ends.
    fn reply(&mut self, conn: usize, tag: u64, error: i32, body: &[u8]) -> Result<()>;

    /// Since when the reply to a request with this tag counts, which was asked then; `None` if it is a means to an end.
    fn counts(&self, _conn: usize, _tag: u64, asked: Instant) -> Option<Instant> {
        Some(asked)
    }

    /// A watch event came; the record behind the header. Some time if it counts: how long it took to come.
    ///
    /// # Errors
    ///
    /// The event is wrong; the run ends. So it does where no event was asked for.
    fn event(&mut self, conn: usize, _body: &[u8], _now: Instant) -> Result<Option<Duration>> {
        bail!("connection {conn} got a watch event that nobody asked for")
    }

    /// Another connection that has something to ask since the last reply or event; asked until there is none.
    fn wake(&mut self) -> Option<usize> {
        None
    }

    /// A connection that has an event to get yet, which the run waits for at its end.
    fn awaits(&self) -> Option<usize> {
        None
    }
}

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As soon as fewer than so many are outstanding on a connection: a closed loop.
    Depth(usize),
    /// So many per second over all connections, whatever the server does: an open loop. Latency counts from when a
    /// request was due, so a stall is not hidden by the requests that it holds up. Where every connection has something
    /// due within a millisecond, what is due is gathered for so long, and so much of a latency may be this program's: one
    /// write for each request would keep it busier than the server, and the server busier than it is with as many
    /// requests that come together.
    Rate {
        /// Requests per second.
        per_second: f64,
        /// Most outstanding on one connection; what is due beyond that waits, and its time runs. What still waits at the
        /// end is not sent any more, and counts with its time so far, which is less than it would have taken.
        depth_max: usize,
    },
}

/// How long a run takes.
#[derive(Clone, Copy, Debug)]
pub enum Span {
    /// Not counted at first, then counted for so long.
    Timed {
        /// Not counted.
        ramp: Duration,
        /// Counted.
        window: Duration,
    },
    /// Until the source has nothing left.
    Exhausted,
}

/// What happened in the counted part of a run. `P` is what the probe sees at its ends.
#[derive(Debug)]
pub struct Window<P> {
    /// Its length.
    pub elapsed: Duration,
    /// Replies that came in it.
    pub replies: u64,
    /// The probe's findings at its beginning.
    pub before: P,
    /// The probe's findings at its end.
    pub after: P,
    /// Microseconds from request to reply; of what an open loop could not send until the end, those until then.
    pub latency: Histogram<u64>,
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
    sent_at: Instant,
}

/// Connections to one server or to several, each with a session.
#[derive(Debug)]
pub struct Pool {
    clients: Vec<Client>,
    epoll: OwnedFd,
    unsent: u64,
}

/// Hears how long a run has gone on, and how many replies were counted. An error ends the run.
pub type Progress<'a> = &'a mut dyn FnMut(Duration, u64) -> Result<()>;

/// How long requests of an open loop wait for each other at most.
const GATHERED: Duration = Duration::from_millis(1);

/// When the requests of an open loop are due.
struct Schedule {
    next: Instant,
    period: Duration,
    conn: usize,
    /// Time between two looks at what is due, at least.
    pause: Duration,
    /// Connections that have something to send.
    filled: Vec<usize>,
}

impl Schedule {
    fn new(start: Instant, per_second: f64, conns: usize) -> Self {
        let period = Duration::from_secs_f64(per_second.recip());
        let round = period.saturating_mul(u32::try_from(conns).unwrap_or(u32::MAX));
        let pause = if round <= GATHERED { GATHERED } else { Duration::ZERO };
        Self { next: start, period, conn: 0, pause, filled: Vec::new() }
    }

    /// Counts the time until `end` of every request that is due and was not sent; how many those are.
    fn count_unsent(&self, end: Instant, latency: &mut Histogram<u64>) -> u64 {
        /// So many are told apart; an overload may leave thousands of millions behind.
        const STEPS_MAX: u128 = 10_000;
        let (waited, period) = (end.duration_since(self.next).as_nanos(), self.period.as_nanos().max(1));
        let all = waited / period + 1;
        let steps = all.min(STEPS_MAX);
        for step in 0..steps {
            let (from, to) = (all * step / steps, all * (step + 1) / steps);
            let us = u64::try_from((waited - from * period) / 1000).unwrap_or(u64::MAX);
            latency.saturating_record_n(us.max(1), u64::try_from(to - from).unwrap_or(u64::MAX));
        }
        u64::try_from(all).unwrap_or(u64::MAX)
    }
}

impl Pool {
    /// Opens `count` sessions, spread evenly over these servers.
    ///
    /// # Errors
    ///
    /// No server was given, or one refuses a connection or a session.
    pub fn open(addrs: &[SocketAddr], count: usize) -> Result<Self> {
        Self::open_with(addrs, count, Client::open)
    }

    /// Opens `count` connections without sessions, for servers that know of none, such as [`crate::echo`]'s.
    ///
    /// # Errors
    ///
    /// No server was given, or one refuses a connection.
    pub fn open_bare(addrs: &[SocketAddr], count: usize) -> Result<Self> {
        Self::open_with(addrs, count, |addr| Client::new(TcpStream::connect(addr).context("connecting")?))
    }

    fn open_with(addrs: &[SocketAddr], count: usize, open: impl Fn(SocketAddr) -> Result<Client>) -> Result<Self> {
        ensure!(!addrs.is_empty(), "no server was given");
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("creating an epoll")?;
        let mut pool = Self { clients: Vec::with_capacity(count), epoll, unsent: 0 };
        let mut pinged = Instant::now();
        for index in 0..count {
            let addr = addrs[index % addrs.len()];
            let client = open(addr).with_context(|| handshake::failed(index, addr))?;
            let data = epoll::EventData::new_u64(u64::try_from(index)?);
            epoll::add(&pool.epoll, &client.stream, data, epoll::EventFlags::IN)?;
            pool.clients.push(client);
            if pinged.elapsed() > PING_AFTER {
                // So many may take longer than a session lives without a sign.
                pinged = Instant::now();
                pool.ping(pinged)?;
            }
        }
        Ok(pool)
    }

    /// How many connections there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// How many requests of the last run, an open loop, were due at its end and not sent, since no connection had room.
    #[must_use]
    pub const fn unsent(&self) -> u64 {
        self.unsent
    }

    /// Closes the sessions and the connections.
    ///
    /// # Errors
    ///
    /// A server does not answer.
    pub fn close(self) -> Result<()> {
        for client in self.clients {
            client.close()?;
        }
        Ok(())
    }

    /// Sends requests at this pace for `span`, then waits for the last replies.
    ///
    /// # Errors
    ///
    /// A connection is lost, an answer is wrong, or no answer comes any more.
    pub fn run<S: Source, P>(
        &mut self,
        pace: Pace,
        span: Span,
        source: &mut S,
        probe: &mut dyn FnMut() -> Result<P>,
    ) -> Result<Window<P>> {
        self.run_told(pace, span, source, probe, &mut |_, _| Ok(()))
    }

    /// [`Self::run`] that tells how far it is.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub fn run_told<S: Source, P>(
        &mut self,
        pace: Pace,
        span: Span,
        source: &mut S,
        probe: &mut dyn FnMut() -> Result<P>,
        progress: Progress<'_>,
    ) -> Result<Window<P>> {
        let start = Instant::now();
        let (from, until) = match span {
            Span::Timed { ramp, window } => (start + ramp, Some(start + ramp + window)),
            Span::Exhausted => (start, None),
        };
        let (depth, mut schedule) = match pace {
            Pace::Depth(depth) => (depth, None),
            Pace::Rate { per_second, depth_max } => {
                ensure!(per_second > 0.0, "a rate of {per_second} requests per second");
                (depth_max, Some(Schedule::new(start, per_second, self.clients.len())))
            }
        };
        let mut before = None;
        let mut end = None;
        let mut seen = Seen { replies: 0, latency: Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)? };
        let mut events: Vec<epoll::Event> = Vec::with_capacity(self.clients.len());
        let (mut last_reply, mut last_told) = (start, start);
        // When requests of an open loop are looked for next.
        let mut look = start;
        self.unsent = 0;
        // Why it is ended from outside, and when.
        let mut ended_by: Option<(Instant, anyhow::Error)> = None;

        for (index, client) in self.clients.iter_mut().enumerate() {
            client.exhausted = false;
            if schedule.is_none() {
                client.refill(index, depth, source, start);
                client.flush(&self.epoll, index)?;
            }
        }
        loop {
            let now = Instant::now();
            if before.is_none() && now >= from {
                seen.replies = 0;
                seen.latency.reset();
                before = Some((now, probe()?));
            }
            if end.is_none() && until.is_some_and(|t| now >= t) {
                end = Some((now, probe()?, seen.replies));
                if ended_by.is_none()
                    && let Some(schedule) = &mut schedule
                    && !self.send_due(schedule, depth, source, now)?
                    && self.clients.iter().any(|client| !client.exhausted)
                {
                    self.unsent = schedule.count_unsent(now, &mut seen.latency);
                }
            }
            if now.duration_since(last_told) >= TOLD_EVERY {
                last_told = now;
                if ended_by.is_none() {
                    let told = progress(now.duration_since(start), seen.replies);
                    ended_by = told.err().map(|error| (now, error));
                }
                self.ping(now)?;
            }
            let mut wait = Duration::from_millis(100);
            if let (Some(schedule), None, None) = (&mut schedule, &end, &ended_by) {
                // Without room, replies are waited for.
                let mut has_room = true;
                if now >= look {
                    has_room = self.send_due(schedule, depth, source, now)?;
                    look = if has_room { schedule.next.max(now + schedule.pause) } else { now };
                }
                if has_room {
                    wait = wait.min(look.saturating_duration_since(now));
                }
            }
            let waits = self.clients.iter().any(|c| !c.pending.is_empty());
            let is_settled = |(at, _): &mut (Instant, anyhow::Error)| !waits || now.duration_since(*at) >= SETTLED_MAX;
            if let Some((_, error)) = ended_by.take_if(is_settled) {
                return Err(error);
            }
            let is_exhausted = schedule.is_none() || self.clients.iter().all(|c| c.exhausted);
            // Until its time is over, a source may wait for events alone.
            if !waits && ((until.is_none() && is_exhausted) || end.is_some()) {
                let Some(conn) = source.awaits() else { break };
                let late = end.as_ref().map_or(last_reply, |(ended, ..)| *ended);
                ensure!(now.duration_since(late) < SILENCE_MAX, "an event to connection {conn} is lost");
            }
            ensure!(!waits || now.duration_since(last_reply) < SILENCE_MAX, "the server answers nothing any more");
            let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e).context("waiting for replies"),
            }
            for event in events.drain(..) {
                let index = usize::try_from(event.data.u64())?;
                let client = &mut self.clients[index];
                let now = Instant::now();
                if client.receive(index, now, source, &mut seen)? > 0 || client.pending.is_empty() {
                    last_reply = now;
                }
                if end.is_none() && ended_by.is_none() && schedule.is_none() {
                    client.refill(index, depth, source, now);
                }
                client.flush(&self.epoll, index)?;
            }
            while let Some(index) = source.wake() {
                if end.is_none() && ended_by.is_none() {
                    let client = &mut self.clients[index];
                    client.exhausted = false;
                    client.refill(index, depth, source, Instant::now());
                    client.flush(&self.epoll, index)?;
                }
            }
        }
        let (begun, before) = before.context("the run ended before it was counted")?;
        let (ended, after, replies) = match end {
            Some(end) => end,
            None => (Instant::now(), probe()?, seen.replies),
        };
        Ok(Window { elapsed: ended.duration_since(begun), replies, before, after, latency: seen.latency })
    }

    /// Keeps every session alive for `span`, and asks nothing.
    ///
    /// # Errors
    ///
    /// A connection is lost, or something comes that nobody asked for.
    pub fn hold(&mut self, span: Duration, progress: Progress<'_>) -> Result<()> {
        let start = Instant::now();
        let mut events: Vec<epoll::Event> = Vec::with_capacity(self.clients.len().max(1));
        let mut seen = Seen { replies: 0, latency: Histogram::new(3)? };
        while start.elapsed() < span {
            progress(start.elapsed(), 0)?;
            self.ping(Instant::now())?;
            let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e).context("waiting"),
            }
            for event in events.drain(..) {
                let index = usize::try_from(event.data.u64())?;
                self.clients[index].receive(index, Instant::now(), &mut Silence, &mut seen)?;
                self.clients[index].flush(&self.epoll, index)?;
            }
        }
        Ok(())
    }

    /// Keeps the sessions of connections that ask nothing.
    fn ping(&mut self, now: Instant) -> Result<()> {
        for (index, client) in self.clients.iter_mut().enumerate() {
            if client.out.is_empty() && now.duration_since(client.sent_at) >= PING_AFTER {
                put_request(&mut client.out, Xid::PING.0, OpCode::Ping, |_| {});
                client.flush(&self.epoll, index)?;
            }
        }
        Ok(())
    }

    /// Sends what is due, each request on the next connection that has room; whether there was room for all.
    fn send_due<S: Source>(
        &mut self,
        schedule: &mut Schedule,
        depth: usize,
        source: &mut S,
        now: Instant,
    ) -> Result<bool> {
        let count = self.clients.len();
        let mut has_room = true;
        while schedule.next <= now {
            let free = (0..count)
                .map(|step| (schedule.conn + step) % count)
                .find(|index| !self.clients[*index].exhausted && self.clients[*index].pending.len() < depth);
            let Some(index) = free else {
                has_room = false;
                break;
            };
            let client = &mut self.clients[index];
            if client.out.is_empty() {
                schedule.filled.push(index);
            }
            client.refill(index, client.pending.len() + 1, source, schedule.next);
            schedule.conn = (index + 1) % count;
            schedule.next += schedule.period;
        }
        for index in schedule.filled.drain(..) {
            self.clients[index].flush(&self.epoll, index)?;
        }
        Ok(has_room)
    }
}

/// Asks nothing.
struct Silence;

impl Source for Silence {
    fn next(&mut self, _conn: usize, _xid: i32, _out: &mut Vec<u8>) -> Option<u64> {
        None
    }

    fn reply(&mut self, conn: usize, _tag: u64, _error: i32, _body: &[u8]) -> Result<()> {
        bail!("connection {conn} got a reply to nothing")
    }
}

/// What was counted so far.
struct Seen {
    replies: u64,
    latency: Histogram<u64>,
}

impl Seen {
    fn count(&mut self, took: Duration) {
        self.replies += 1;
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latency.saturating_record(us.max(1));
    }
}

impl Client {
    fn open(addr: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(addr).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        let mut ask = Vec::new();
        handshake::put(&mut ask);
        stream.write_all(&ask)?;
        let mut len = [0; 4];
        stream.read_exact(&mut len).context("reading the answer to the handshake")?;
        let len = usize::try_from(i32::from_be_bytes(len))?;
        ensure!(len < READ_MAX, "a handshake of {len} bytes");
        let mut payload = vec![0; len];
        stream.read_exact(&mut payload)?;
        handshake::check(&payload)?;
        Self::new(stream)
    }

    fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
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
            sent_at: Instant::now(),
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
                Ok(n) => {
                    self.sent += n;
                    self.sent_at = Instant::now();
                }
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

    /// Takes in what there is; returns how many replies and events that was.
    fn receive<S: Source>(&mut self, index: usize, now: Instant, source: &mut S, seen: &mut Seen) -> Result<u64> {
        match self.stream.read(&mut self.input[self.filled..]) {
            Ok(0) => bail!("the server closed connection {index} with {} requests outstanding", self.pending.len()),
            Ok(n) => self.filled += n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(0),
            Err(e) => return Err(e).context("receiving"),
        }
        let mut frames = 0;
        let mut used = 0;
        while let Some(prefix) = self.input[used..self.filled].first_chunk::<4>() {
            let len = usize::try_from(i32::from_be_bytes(*prefix)).context("a reply of negative length")?;
            ensure!((16..READ_MAX - 4).contains(&len), "a reply of {len} bytes");
            let Some(frame) = self.input[used + 4..self.filled].get(..len) else { break };
            used += 4 + len;
            frames += 1;
            let mut head = Reader::new(frame);
            let (xid, _zxid, error) = (i32::read(&mut head)?, i64::read(&mut head)?, i32::read(&mut head)?);
            if Xid(xid) == Xid::NOTIFICATION {
                if let Some(took) = source.event(index, &frame[16..], now)? {
                    seen.count(took);
                }
                continue;
            }
            if Xid(xid) == Xid::PING {
                continue;
            }
            let Some((expected, tag, asked)) = self.pending.pop_front() else {
                bail!("a reply with xid {xid} to nothing");
            };
            ensure!(xid == expected, "reply {xid} came where {expected} was due");
            source.reply(index, tag, error, &frame[16..])?;
            if let Some(since) = source.counts(index, tag, asked) {
                seen.count(now.duration_since(since));
            }
        }
        self.input.copy_within(used..self.filled, 0);
        self.filled -= used;
        Ok(frames)
    }

    fn close(mut self) -> Result<()> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_read_timeout(Some(SILENCE_MAX))?;
        self.out.clear();
        put_request(&mut self.out, self.xid, OpCode::CloseSession, |_| {});
        self.stream.write_all(&self.out)?;
        // Events may come first.
        loop {
            let mut len = [0; 4];
            self.stream.read_exact(&mut len).context("closing a session")?;
            let len = usize::try_from(i32::from_be_bytes(len))?;
            ensure!((16..READ_MAX).contains(&len), "a reply of {len} bytes");
            let frame = &mut self.input[..len];
            self.stream.read_exact(frame).context("closing a session")?;
            if i32::read(&mut Reader::new(frame))? == self.xid {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    /// A server that answers every request, and the first one not before it is told to.
    fn held_up(told: Receiver<()>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        // It ends with the connection.
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut len = [0; 4];
            let mut first = true;
            while stream.read_exact(&mut len).is_ok() {
                let mut ask = vec![0; usize::try_from(i32::from_be_bytes(len)).expect("a length")];
                stream.read_exact(&mut ask).expect("a request");
                if std::mem::take(&mut first) {
                    told.recv().expect("the window ends");
                }
                let mut answer = 16i32.to_be_bytes().to_vec();
                answer.extend_from_slice(&ask[..4]);
                answer.extend_from_slice(&[0; 12]);
                stream.write_all(&answer).expect("the client is there");
            }
        });
        addr
    }

    struct Pings {
        replies: usize,
    }

    impl Source for Pings {
        fn next(&mut self, _conn: usize, xid: i32, out: &mut Vec<u8>) -> Option<u64> {
            put_request(out, xid, OpCode::Ping, |_| {});
            Some(0)
        }

        fn reply(&mut self, _conn: usize, _tag: u64, _error: i32, _body: &[u8]) -> Result<()> {
            self.replies += 1;
            Ok(())
        }
    }

    #[test]
    fn what_is_due_and_held_up_until_the_end_counts() {
        let (tell, told) = channel();
        let mut pool = Pool::open_bare(&[held_up(told)], 1).expect("a connection");
        let pace = Pace::Rate { per_second: 1000.0, depth_max: 2 };
        let span = Span::Timed { ramp: Duration::ZERO, window: Duration::from_millis(200) };
        let mut looks = 0;
        let mut probe = || {
            looks += 1;
            if looks == 2 {
                tell.send(()).expect("the server waits");
            }
            Ok(())
        };
        let seen = pool.run(pace, span, &mut Pings { replies: 0 }, &mut probe).expect("answers");
        assert_eq!(seen.replies, 0, "the server stood still");
        // One each millisecond, of which two were sent.
        assert!(pool.unsent() >= 198, "{}", pool.unsent());
        assert_eq!(seen.latency.len(), pool.unsent() + 2);
        assert!(seen.latency.value_at_quantile(0.5) >= 90_000, "they waited");
    }

    #[test]
    fn a_run_that_is_ended_waits_for_what_it_has_asked() {
        let (tell, told) = channel();
        let mut pool = Pool::open_bare(&[held_up(told)], 1).expect("a connection");
        let mut pings = Pings { replies: 0 };
        let mut progress = |_, _| {
            tell.send(()).expect("the server waits");
            bail!("enough")
        };
        let ended = pool.run_told(Pace::Depth(3), Span::Exhausted, &mut pings, &mut || Ok(()), &mut progress);
        assert_eq!(ended.expect_err("it was ended").to_string(), "enough");
        assert_eq!(pings.replies, 3);
    }

    #[test]
    fn however_many_are_left_behind_they_are_counted_soon() {
        let start = Instant::now();
        let mut latency = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("a histogram");
        let end = start + Duration::from_secs(3600);
        let count = Schedule::new(start, 4e9, 1).count_unsent(end, &mut latency);
        assert!(count >= 3_600_000_000_000, "{count}");
        assert_eq!(latency.len(), count);
        assert_eq!(Schedule::new(end, 5.0, 1).count_unsent(end, &mut latency), 1, "it is due now");
    }
}
