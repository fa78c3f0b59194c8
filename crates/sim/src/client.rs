//! Simulated clients: ZooKeeper's client protocol as a state machine without sockets or clocks.
//!
//! A client dials servers, opens and re-attaches its session, pings, reconnects with back-off, moves between servers of
//! its own will, and makes the requests that its [`Workload`] draws. It decides nothing about right and wrong: it tells
//! what it did and heard ([`ClientEvent`]), and checkers judge. Everything follows from the seed and the inputs.

mod book;
mod wire;
mod workload;

pub use workload::{Deed, Workload};

use crate::observe::{CallId, ClientEvent, ClientId, DialId, Moment, Parting, Request};
use crate::random::Random;
use book::WatchBook;
use farrier_proto::client::{ConnectResponse, EventType, ReplyHeader, WatcherEvent};
use farrier_proto::limits::PASSWORD_LEN;
use farrier_proto::{ErrorCode, Field, Reader, ServerId, SessionId, Xid};
use std::collections::VecDeque;
use workload::{Draw, Memory};

/// Requests without an answer; with more, bursts wait.
const PENDING_MAX: usize = 64;
/// First pause before another dial; doubles up to [`BACK_OFF_MAX`]. Milliseconds.
const BACK_OFF_MIN: u64 = 20;
const BACK_OFF_MAX: u64 = 1000;
/// How long a dial and its connect request may take at most. Milliseconds.
const ATTACH_MAX: u64 = 3000;

/// Everything that can wake a client. Inputs of connections that it has closed, or was told to be closed, are ignored.
#[derive(Debug)]
pub enum ClientInput<'a> {
    /// The dial succeeded.
    Connected(DialId),
    /// The connection is gone, or the dial was refused.
    Disconnected(DialId),
    /// A whole frame arrived, without its length word.
    Frame(DialId, &'a [u8]),
    /// The moment of [`Client::next_deadline`] came. Also the first input.
    Timer,
    /// From now on make no new requests; keep the session alive. Answers to requests under way still come.
    Rest,
    /// Be gone without a word, for good: the session is left to expire.
    Vanish,
    /// From now on make these requests.
    Manner(Manner),
}

/// What requests a client makes: what waits for a leader that does not answer holds up everything behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// What its workload draws.
    Free,
    /// Reads only, which its server answers by itself.
    Reads,
    /// Reads, many of them behind a sync.
    SyncedReads,
}

/// What is to be done for a client, in this order.
#[derive(Debug)]
pub enum ClientOutput {
    /// Dial a server; then [`ClientInput::Connected`] or [`ClientInput::Disconnected`].
    Dial(DialId, ServerId),
    /// Send a whole frame, without its length word.
    Send(DialId, Vec<u8>),
    /// Close the connection. What was sent before still leaves; what arrives is for nobody.
    Close(DialId),
    /// Tell this, at the moment of the input.
    Observed(ClientEvent),
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    password: [u8; PASSWORD_LEN],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Dialling,
    /// The connect request is sent.
    Asking,
    Attached,
}

/// A connection, from the dial on.
#[derive(Debug)]
struct Link {
    dial: DialId,
    server: ServerId,
    stage: Stage,
    last_sent: Moment,
    last_heard: Moment,
    /// Requests without an answer, in their order.
    pending: VecDeque<(Xid, Pending)>,
}

#[derive(Debug)]
enum Pending {
    Ping,
    Call(CallId, Request),
}

/// One client for a whole run: one session after the other, one connection at a time.
#[derive(Debug)]
pub struct Client {
    id: ClientId,
    servers: Vec<ServerId>,
    workload: Workload,
    random: Random,
    link: Option<Link>,
    session: Option<Session>,
    /// Negotiated, in milliseconds; before the first session what is asked for.
    timeout: u64,
    /// Newest zxid of a reply.
    seen: i64,
    xid: i32,
    dials: u32,
    calls: u32,
    watches: WatchBook,
    memory: Memory,
    /// No dial before this.
    dial_at: Moment,
    back_off: u64,
    burst_at: Moment,
    /// Nothing is sent before this.
    silent_until: Option<Moment>,
    grounded: bool,
    resting: bool,
    gone: bool,
    manner: Manner,
}

impl Client {
    /// A client that may connect to any of `servers`. It does nothing before its first input.
    ///
    /// # Panics
    /// When there is no server.
    #[must_use]
    pub fn new(id: ClientId, servers: Vec<ServerId>, workload: Workload, random: Random) -> Self {
        assert!(!servers.is_empty(), "a client has a server to connect to");
        Self {
            id,
            servers,
            timeout: u64::from(workload.timeout_ms.unsigned_abs()),
            workload,
            random,
            link: None,
            session: None,
            seen: 0,
            xid: 0,
            dials: 0,
            calls: 0,
            watches: WatchBook::default(),
            memory: Memory::default(),
            dial_at: Moment::default(),
            back_off: BACK_OFF_MIN,
            burst_at: Moment::default(),
            silent_until: None,
            grounded: false,
            resting: false,
            gone: false,
            manner: Manner::Free,
        }
    }

    /// Which client.
    #[must_use]
    pub const fn id(&self) -> ClientId {
        self.id
    }

    /// Whether it has a session and a connection on which it was attached.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.link.as_ref().is_some_and(|l| l.stage == Stage::Attached)
    }

    /// The session of the connection on which it is attached.
    #[must_use]
    pub fn attached_session(&self) -> Option<SessionId> {
        self.session.as_ref().filter(|_| self.is_attached()).map(|s| s.id)
    }

    /// Whether it sends nothing, on purpose.
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        self.gone || self.silent_until.is_some()
    }

    /// Requests without an answer, pings not among them.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        let calls = |l: &Link| l.pending.iter().filter(|(_, p)| matches!(p, Pending::Call(..))).count();
        self.link.as_ref().map_or(0, calls)
    }

    /// Takes one input, and appends what follows from it.
    pub fn step(&mut self, now: Moment, input: ClientInput<'_>, out: &mut Vec<ClientOutput>) {
        match input {
            ClientInput::Connected(dial) if self.is_current(dial) => self.connected(now, out),
            ClientInput::Disconnected(dial) if self.is_current(dial) => self.lost(now, Parting::Broken, out),
            ClientInput::Frame(dial, frame) if self.is_current(dial) => self.frame(now, frame, out),
            ClientInput::Connected(_) | ClientInput::Disconnected(_) | ClientInput::Frame(..) => {}
            ClientInput::Timer => {}
            ClientInput::Rest => self.resting = true,
            ClientInput::Vanish => {
                self.give_up(now, Parting::Left, 0, out);
                self.end_session();
                self.gone = true;
            }
            ClientInput::Manner(manner) => self.manner = manner,
        }
        self.timers(now, out);
    }

    /// When it wants [`ClientInput::Timer`] at the latest; it always wants it some time, until it is gone.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        if self.gone {
            return None;
        }
        if let Some(until) = self.silent_until {
            return Some(until);
        }
        let Some(link) = &self.link else { return Some(self.dial_at) };
        Some(match link.stage {
            Stage::Dialling | Stage::Asking => link.last_sent.plus_millis(self.attach_limit()),
            Stage::Attached => {
                let ping = link.last_sent.plus_millis(self.timeout / 3);
                let deaf = link.last_heard.plus_millis(self.timeout * 2 / 3);
                let next = ping.min(deaf);
                if self.may_burst() { next.min(self.burst_at) } else { next }
            }
        })
    }

    fn is_current(&self, dial: DialId) -> bool {
        self.link.as_ref().is_some_and(|l| l.dial == dial)
    }

    fn attach_limit(&self) -> u64 {
        (self.timeout / 3).min(ATTACH_MAX)
    }

    fn may_burst(&self) -> bool {
        !self.resting && self.outstanding() < PENDING_MAX
    }

    fn timers(&mut self, now: Moment, out: &mut Vec<ClientOutput>) {
        if self.gone {
            return;
        }
        if let Some(until) = self.silent_until {
            if now < until {
                return;
            }
            self.silent_until = None;
            self.give_up(now, Parting::Left, 0, out);
        }
        let Some(link) = &mut self.link else {
            if now >= self.dial_at {
                self.dial(now, out);
            }
            return;
        };
        match link.stage {
            Stage::Dialling | Stage::Asking => {
                if now >= link.last_sent.plus_millis(self.attach_limit()) {
                    self.give_up(now, Parting::Unheard, self.back_off, out);
                }
            }
            Stage::Attached => {
                if now >= link.last_heard.plus_millis(self.timeout * 2 / 3) {
                    return self.give_up(now, Parting::Unheard, self.back_off, out);
                }
                if now >= link.last_sent.plus_millis(self.timeout / 3) {
                    link.last_sent = now;
                    link.pending.push_back((Xid::PING, Pending::Ping));
                    out.push(ClientOutput::Send(link.dial, wire::ping()));
                    out.push(ClientOutput::Observed(ClientEvent::Pinged { dial: link.dial }));
                }
                if self.may_burst() && now >= self.burst_at {
                    self.burst(now, out);
                }
            }
        }
    }

    fn dial(&mut self, now: Moment, out: &mut Vec<ClientOutput>) {
        let dial = DialId(self.dials);
        self.dials += 1;
        let server = *self.random.pick(&self.servers);
        self.link = Some(Link {
            dial,
            server,
            stage: Stage::Dialling,
            last_sent: now,
            last_heard: now,
            pending: VecDeque::new(),
        });
        out.push(ClientOutput::Dial(dial, server));
    }

    fn connected(&mut self, now: Moment, out: &mut Vec<ClientOutput>) {
        let Some(link) = &mut self.link else { return };
        link.stage = Stage::Asking;
        (link.last_sent, link.last_heard) = (now, now);
        let none = Session { id: SessionId::NONE, password: [0; PASSWORD_LEN] };
        let session = self.session.as_ref().unwrap_or(&none);
        let timeout = self.workload.timeout_ms;
        out.push(ClientOutput::Send(link.dial, wire::connect(session.id, &session.password, self.seen, timeout)));
        out.push(ClientOutput::Observed(ClientEvent::Dialled {
            dial: link.dial,
            server: link.server,
            session: session.id,
            seen: farrier_proto::Zxid::from_wire(self.seen),
            timeout,
        }));
    }

    /// Closes the connection of its own will.
    fn give_up(&mut self, now: Moment, why: Parting, pause: u64, out: &mut Vec<ClientOutput>) {
        if let Some(link) = &self.link {
            out.push(ClientOutput::Close(link.dial));
        }
        self.lost(now, why, out);
        self.dial_at = now.plus_millis(pause);
    }

    fn lost(&mut self, now: Moment, why: Parting, out: &mut Vec<ClientOutput>) {
        let Some(link) = self.link.take() else { return };
        out.push(ClientOutput::Observed(ClientEvent::Disconnected { dial: link.dial, why }));
        for (_, pending) in link.pending {
            if let Pending::Call(call, _) = pending {
                out.push(ClientOutput::Observed(ClientEvent::Unknown { call }));
            }
        }
        self.dial_at = now.plus_millis(self.random.between(BACK_OFF_MIN / 2, self.back_off));
        self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
    }

    fn end_session(&mut self) {
        self.session = None;
        self.seen = 0;
        self.watches = WatchBook::default();
    }

    fn frame(&mut self, now: Moment, frame: &[u8], out: &mut Vec<ClientOutput>) {
        let Some(link) = &mut self.link else { return };
        link.last_heard = now;
        let dial = link.dial;
        let result = match link.stage {
            Stage::Dialling => Err("a frame before the connect request".to_owned()),
            Stage::Asking => self.connect_response(now, frame, out),
            Stage::Attached => self.reply(now, frame, out),
        };
        if let Err(why) = result {
            out.push(ClientOutput::Observed(ClientEvent::Nonsense { dial, why }));
            self.give_up(now, Parting::Left, BACK_OFF_MAX, out);
        }
    }

    fn connect_response(&mut self, now: Moment, frame: &[u8], out: &mut Vec<ClientOutput>) -> Result<(), String> {
        let response =
            ConnectResponse::read(&mut Reader::new(frame)).map_err(|e| format!("a connect response: {e}"))?;
        let Some(link) = &mut self.link else { return Ok(()) };
        let asked = self.session.as_ref().map(|s| s.id);
        if response.timeout <= 0 {
            let Some(session) = asked else { return Err("a new session is refused as expired".to_owned()) };
            out.push(ClientOutput::Observed(ClientEvent::Expired { session }));
            self.end_session();
            self.give_up(now, Parting::Left, 0, out);
            return Ok(());
        }
        if asked.is_some_and(|s| s != response.session) || response.session == SessionId::NONE {
            return Err(format!("asked for session {asked:?}, got {}", response.session));
        }
        link.stage = Stage::Attached;
        let (dial, server) = (link.dial, link.server);
        self.session = Some(Session { id: response.session, password: response.password });
        self.timeout = u64::from(response.timeout.unsigned_abs());
        self.back_off = BACK_OFF_MIN;
        out.push(ClientOutput::Observed(ClientEvent::Attached {
            dial,
            server,
            session: response.session,
            fresh: asked.is_none(),
            timeout: response.timeout,
        }));
        if self.watches.len() > 0 {
            let held = Request::SetWatches(self.watches.held(self.seen));
            self.call(now, held, out);
        }
        if !self.grounded && !self.resting {
            self.grounded = true;
            for request in workload::groundwork() {
                self.call(now, request, out);
            }
        }
        self.burst_at = now.plus_millis(self.random.below(self.workload.pause_ms + 1));
        Ok(())
    }

    fn reply(&mut self, now: Moment, frame: &[u8], out: &mut Vec<ClientOutput>) -> Result<(), String> {
        let mut body = Reader::new(frame);
        let header = ReplyHeader::read(&mut body).map_err(|e| format!("a reply header: {e}"))?;
        let Some(link) = &mut self.link else { return Ok(()) };
        let dial = link.dial;
        if header.xid == Xid::NOTIFICATION {
            return self.event(dial, header.zxid, &mut body, out);
        }
        let Some((xid, pending)) = link.pending.pop_front() else {
            return Err(format!("an answer to {:?}, and nothing was asked", header.xid));
        };
        if xid != header.xid {
            return Err(format!("an answer to {:?} where that to {xid:?} is due", header.xid));
        }
        if header.zxid > self.seen {
            self.seen = header.zxid;
        }
        let Pending::Call(call, request) = pending else {
            out.push(ClientOutput::Observed(ClientEvent::Ponged { dial, zxid: header.zxid }));
            return Ok(());
        };
        let outcome = match header.err {
            0 => Ok(wire::reply(&request, &mut body).map_err(|e| format!("the reply to {request:?}: {e}"))?),
            err => Err(ErrorCode::from_code(err).ok_or_else(|| format!("error {err} in reply to {request:?}"))?),
        };
        self.watches.answered(&request, &outcome);
        let then = self.memory.answered(&request, &outcome, &mut self.random);
        let closed = request == Request::Close && outcome.is_ok();
        out.push(ClientOutput::Observed(ClientEvent::Returned { call, dial, zxid: header.zxid, outcome }));
        if closed {
            if let Some(session) = &self.session {
                out.push(ClientOutput::Observed(ClientEvent::Closed { session: session.id }));
            }
            self.end_session();
            self.give_up(now, Parting::Left, 0, out);
        } else if let Some(request) = then
            && !self.resting
            && self.manner == Manner::Free
            && self.silent_until.is_none()
        {
            self.call(now, request, out);
        }
        Ok(())
    }

    fn event(
        &mut self,
        dial: DialId,
        zxid: i64,
        body: &mut Reader<'_>,
        out: &mut Vec<ClientOutput>,
    ) -> Result<(), String> {
        let event = WatcherEvent::read(body).map_err(|e| format!("a watch event: {e}"))?;
        let kind = EventType::from_code(event.kind).ok_or_else(|| format!("an event of type {}", event.kind))?;
        self.watches.fired(kind, &event.path);
        let path = event.path.into_owned();
        out.push(ClientOutput::Observed(ClientEvent::Watched { dial, zxid, kind, path }));
        Ok(())
    }

    fn call(&mut self, now: Moment, request: Request, out: &mut Vec<ClientOutput>) {
        let (Some(link), Some(session)) = (&mut self.link, &self.session) else { return };
        let xid = if matches!(request, Request::SetWatches(_)) {
            Xid::SET_WATCHES
        } else {
            self.xid += 1;
            Xid(self.xid)
        };
        let call = CallId(self.calls);
        self.calls += 1;
        link.last_sent = now;
        out.push(ClientOutput::Send(link.dial, wire::request(xid.0, &request)));
        out.push(ClientOutput::Observed(ClientEvent::Invoked {
            call,
            dial: link.dial,
            session: session.id,
            xid: xid.0,
            request: request.clone(),
        }));
        link.pending.push_back((xid, Pending::Call(call, request)));
    }

    fn burst(&mut self, now: Moment, out: &mut Vec<ClientOutput>) {
        self.burst_at = now.plus_millis(self.random.between(1, self.workload.pause_ms * 2));
        for _ in 0..self.random.between(1, self.workload.burst_max) {
            let deed = match self.manner {
                Manner::Free => Deed::ALL[self.random.weighted(&self.workload.weights)],
                Manner::Reads => *self.random.pick(&Deed::READS),
                Manner::SyncedReads if self.random.percent(50) => Deed::SyncAndRead,
                Manner::SyncedReads => *self.random.pick(&Deed::READS),
            };
            match deed {
                Deed::Move => return self.give_up(now, Parting::Left, 0, out),
                Deed::FallSilent => {
                    let Some(session) = &self.session else { return };
                    out.push(ClientOutput::Observed(ClientEvent::FellSilent { session: session.id }));
                    let ms = self.timeout + self.random.below(self.timeout * 2);
                    self.silent_until = Some(now.plus_millis(ms));
                    return;
                }
                _ => {}
            }
            let requests = Draw {
                workload: &self.workload,
                memory: &self.memory,
                watches: &self.watches,
                random: &mut self.random,
            }
            .requests(deed);
            requests.into_iter().for_each(|r| self.call(now, r, out));
            if deed == Deed::Close {
                // Behind it nothing is answered.
                self.burst_at = now.plus_millis(self.timeout);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
