//! One client as a state machine: session, connection, requests and watches. It does no I/O and asks no clock; the
//! shell tells it what happened and when, and does what [`Output`] says, in order.
//!
//! ```text
//! Waiting ──tick──► Dialing ──connected──► Handshaking ──session──► Connected
//!    ▲                 │                        │                      │
//!    └─────────────────┴────────────────────────┴──── lost ◄───────────┘        any ──► Ended
//! ```
//!
//! Requests keep one order ([`mod@line`]): what a connection was given and did not answer is never given to
//! another one. Of what waits behind it, writes are refused if a lost one was a write, so that the writes which are
//! executed are always the first of those that were made, but for the unknown ones.

mod alive;
mod hosts;
mod incoming;
mod lease;
mod line;
mod reply;
mod watches;

#[cfg(test)]
mod tests;

pub(crate) use reply::{Part, Response};
pub(crate) use watches::{Effect, Registration};

use crate::connect_string::Host;
use crate::error::SILENT;
use crate::limits::{DIAL_MAX, DIAL_MIN, IDENTITIES_MAX, PROBE_MAX, STABLE, WATCHES_MAX};
use crate::watch::{EventQueue, WatchEvent, WatchKind};
use crate::{Lease, SessionState, Time};
use alive::Beat;
use farrier_proto::client::{AuthPacket, ConnectRequest, PathKind, RequestHeader, WatcherType, begin_frame, end_frame};
use farrier_proto::limits::PASSWORD_LEN;
use farrier_proto::{ErrorCode, Field as _, OpCode, SessionId, Xid, Zxid};
use hosts::Hosts;
use lease::Touches;
use line::{Entry, Keep, Line, Times};
use reply::code;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use watches::{Chunk, Watches};

/// How a machine is set up.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) hosts: Vec<Host>,
    pub(crate) session_timeout: Duration,
    pub(crate) allow_read_only: bool,
    pub(crate) renew_session: bool,
    pub(crate) outstanding_max: usize,
    pub(crate) unsent_bytes_max: usize,
    pub(crate) request_max: usize,
    pub(crate) reply_max: usize,
    /// Scheme and credentials, presented on every connection.
    pub(crate) identities: Vec<(String, Vec<u8>)>,
}

/// A connection, from its dialling on. Words about another one are stale and ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkId(u64);

/// What the shell has to do, in the order in which it stands.
#[derive(Debug)]
pub(crate) enum Output {
    /// Connect to a server, within this time.
    Dial { link: LinkId, host: Host, within: Duration },
    /// Drop the connection, or the attempt to make it.
    Hangup,
    /// Ask a server (`isro`) whether it takes writes.
    Probe { link: LinkId, index: usize, host: Host },
    /// Answer a call.
    Answer { reply: oneshot::Sender<Outcome>, outcome: Outcome },
    /// Pass an event on; nothing follows the `last` one.
    Event { queue: Arc<EventQueue>, event: WatchEvent, last: bool },
    /// Nothing more comes into it.
    End { queue: Arc<EventQueue> },
    /// The session's state is another one.
    State(SessionState),
}

/// The end of a call.
pub(crate) type Outcome = Result<Response, Failure>;

/// Why a call did not succeed.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The server said so.
    Refused(Refusal),
    /// A write was sent, and no answer came.
    Unknown { server: Arc<str>, reason: Arc<str> },
    /// Nothing was changed.
    NotDone { reason: Arc<str>, again: bool },
    /// The answer to what changes nothing came, and is of no use.
    Unreadable { server: Arc<str>, reason: Arc<str> },
    /// The session had expired.
    Expired,
    /// The client ended.
    Ended(End),
}

/// A server's refusal.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    /// Which operation of a multi.
    pub(crate) index: Option<usize>,
    pub(crate) server: Arc<str>,
}

/// Why a request was not taken.
#[derive(Clone, Debug)]
pub(crate) enum Rejection {
    Ended(End),
    Full(Arc<str>),
    TooLong(usize),
}

/// How a client ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Closed,
    AuthFailed,
    Expired,
}

#[derive(Debug)]
struct Grant {
    id: SessionId,
    password: [u8; PASSWORD_LEN],
    timeout: Duration,
    /// Given by a read-only server: no other one knows it.
    local: bool,
}

#[derive(Debug)]
struct Identity {
    id: u64,
    scheme: String,
    credentials: Vec<u8>,
    confirmed: bool,
    reply: Option<oneshot::Sender<Outcome>>,
    deadline: Time,
}

#[derive(Debug)]
struct Connected {
    since: Time,
    read_only: bool,
    heard: Time,
    sent: Time,
    touches: Touches,
    /// When each ping was sent that has no answer yet.
    pings: VecDeque<Time>,
    /// The newest `sync` that renews the lease.
    beat: Option<Beat>,
    chunks: VecDeque<Chunk>,
    identities: VecDeque<u64>,
    /// The state was told: at once, or when the identities were accepted.
    announced: bool,
    /// When to look for a server that takes writes, which one, and the pause before the next look.
    probe: Option<(Time, usize, Duration)>,
}

#[derive(Debug)]
enum Phase {
    Waiting { until: Time },
    Dialing { host: usize, until: Time },
    Handshaking { host: usize, sent: Time, until: Time },
    Connected { host: usize, state: Box<Connected> },
    Ended(End),
}

/// The machine. See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    settings: Settings,
    hosts: Hosts,
    phase: Phase,
    link: LinkId,
    session: Option<Grant>,
    lease: Option<Time>,
    /// How many rely on the lease.
    keepers: usize,
    /// Newest zxid that anything showed: no server behind it will do.
    seen: i64,
    /// Newest zxid of an answer: whatever a watch had to tell up to it was told.
    answered: i64,
    identities: Vec<Identity>,
    watches: Watches,
    line: Line,
    /// Bytes that go out before the line's.
    control: Vec<u8>,
    input: Vec<u8>,
    out: Vec<Output>,
    next_id: u64,
    /// Set by a close; its answer, and when it is given up.
    closing: Option<(Option<oneshot::Sender<Outcome>>, Time)>,
    name: Arc<str>,
}

impl Machine {
    /// A client that dials at once. `seed` makes the order of its servers and its pauses its own.
    pub(crate) fn new(settings: Settings, seed: u64, now: Time) -> Self {
        let hosts = Hosts::new(settings.hosts.clone(), seed);
        let mut machine = Self {
            hosts,
            phase: Phase::Waiting { until: now },
            link: LinkId(0),
            session: None,
            lease: None,
            keepers: 0,
            seen: 0,
            answered: 0,
            identities: Vec::new(),
            watches: Watches::default(),
            line: Line::new(),
            control: Vec::new(),
            input: Vec::new(),
            out: Vec::new(),
            next_id: 1,
            closing: None,
            name: "no server".into(),
            settings,
        };
        for (scheme, credentials) in std::mem::take(&mut machine.settings.identities) {
            machine.add_identity(scheme, credentials, Time::MAX, None);
        }
        machine
    }

    // What the shell asks.

    /// When to call [`Self::tick`] at the latest.
    pub(crate) fn next_deadline(&self) -> Time {
        let phase = match &self.phase {
            Phase::Waiting { until } | Phase::Dialing { until, .. } | Phase::Handshaking { until, .. } => *until,
            Phase::Connected { state, .. } => {
                let probe = state.probe.map_or(Time::MAX, |(at, ..)| at);
                self.beat_at(state).min(self.ping_at(state)).min(self.silent_at(state)).min(probe)
            }
            Phase::Ended(_) => return Time::MAX,
        };
        let closing = self.closing.as_ref().map_or(Time::MAX, |(_, until)| *until);
        let identities = self.identities.iter().filter(|i| i.reply.is_some()).map(|i| i.deadline).min();
        phase.min(self.line.earliest()).min(closing).min(identities.unwrap_or(Time::MAX))
    }

    /// What there is to do, appended to `into`.
    pub(crate) fn take_outputs(&mut self, into: &mut Vec<Output>) {
        into.append(&mut self.out);
    }

    /// Moves the bytes that are to be sent to `into`. They count as sent from now on.
    pub(crate) fn take_bytes(&mut self, now: Time, into: &mut Vec<u8>) {
        let Phase::Connected { state, .. } = &mut self.phase else {
            into.append(&mut self.control);
            return;
        };
        if self.control.is_empty() && !self.line.has_unsent() {
            return;
        }
        state.sent = now;
        into.append(&mut self.control);
        self.line.take_unsent(into);
    }

    /// Whether the client has ended, so that nothing will ever be done again.
    pub(crate) const fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    pub(crate) fn lease(&self) -> Option<Lease> {
        let (session, since) = (self.session.as_ref()?, self.lease?);
        Some(Lease { session: session.id, since, timeout: session.timeout })
    }

    /// The newest zxid that the client saw.
    pub(crate) const fn seen(&self) -> Zxid {
        Zxid::from_wire(self.seen)
    }

    /// The server that is connected, or was last.
    pub(crate) fn server(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// Why there is no connection.
    pub(crate) fn describe(&self) -> String {
        self.hosts.describe()
    }

    // What the caller wants.

    /// Takes a request. `body` writes it behind its header.
    pub(crate) fn submit(
        &mut self,
        now: Time,
        deadline: Time,
        op: OpCode,
        reply: Option<oneshot::Sender<Outcome>>,
        effect: Option<Effect>,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Rejection> {
        if let Phase::Ended(end) = self.phase {
            return Err(Rejection::Ended(end));
        }
        if self.closing.is_some() {
            return Err(Rejection::Ended(End::Closed));
        }
        let Settings { outstanding_max, unsent_bytes_max, request_max, .. } = self.settings;
        if self.line.len() >= outstanding_max {
            return Err(Rejection::Full(format!("{outstanding_max} requests wait already").into()));
        }
        if self.line.unsent_bytes() > unsent_bytes_max {
            return Err(Rejection::Full(format!("{unsent_bytes_max} bytes of requests wait to be sent").into()));
        }
        if matches!(effect, Some(Effect::Set(_))) && self.watches.len() >= WATCHES_MAX {
            return Err(Rejection::Full(format!("{WATCHES_MAX} watches are set already").into()));
        }
        let effect = effect.map(Box::new);
        let since = match &self.phase {
            Phase::Connected { state, .. } => state.touches.since(now, self.timeout()),
            // It is told when a connection begins.
            Phase::Waiting { .. } | Phase::Dialing { .. } | Phase::Handshaking { .. } | Phase::Ended(_) => now,
        };
        self.line
            .push(op, Times { sent: now, since, deadline }, reply, effect, request_max, body)
            .map_err(Rejection::TooLong)
    }

    /// Presents an identity, on this connection and on all to come.
    pub(crate) fn authenticate(
        &mut self,
        deadline: Time,
        (scheme, credentials): (String, Vec<u8>),
        reply: oneshot::Sender<Outcome>,
    ) -> Result<(), Rejection> {
        if let Phase::Ended(end) = self.phase {
            return Err(Rejection::Ended(end));
        }
        let same = |i: &&Identity| i.confirmed && i.scheme == scheme && i.credentials == credentials;
        if self.identities.iter().any(|i| same(&i)) {
            self.out.push(Output::Answer { reply, outcome: Ok(Response::Nothing) });
            return Ok(());
        }
        if self.identities.len() >= IDENTITIES_MAX {
            return Err(Rejection::Full(format!("the client has {IDENTITIES_MAX} identities already").into()));
        }
        self.add_identity(scheme, credentials, deadline, Some(reply));
        Ok(())
    }

    fn add_identity(
        &mut self,
        scheme: String,
        credentials: Vec<u8>,
        deadline: Time,
        reply: Option<oneshot::Sender<Outcome>>,
    ) {
        let id = self.fresh_id();
        self.identities.push(Identity { id, scheme, credentials, confirmed: false, reply, deadline });
        if let Phase::Connected { state, .. } = &mut self.phase {
            state.identities.push_back(id);
            let identity = self.identities.last().expect("it was pushed above");
            put_identity(&mut self.control, identity);
        }
    }

    /// A number that no other watch or identity of this client has.
    pub(crate) const fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Nobody listens to this watch any more.
    pub(crate) fn unwatch(&mut self, now: Time, kind: WatchKind, path: &str, id: u64) {
        if self.watches.remove(kind, path, id) {
            self.drop_at_server(now, kind, path);
        }
        if kind == WatchKind::Data {
            // An exists that found nothing left it there.
            self.watches.remove(WatchKind::Exist, path, id);
        }
    }

    /// Has the server forget a persistent watch, unless somebody is about to share it. One-shot ones are left
    /// to fire into the void.
    fn drop_at_server(&mut self, now: Time, kind: WatchKind, path: &str) {
        let watcher = match kind {
            WatchKind::Persistent => WatcherType::Persistent,
            WatchKind::Recursive => WatcherType::PersistentRecursive,
            WatchKind::Data | WatchKind::Exist | WatchKind::Child => return,
        };
        let asked = |e: &Entry| matches!(e.effect.as_deref(), Some(Effect::Set(watch)) if watch.kind == kind && *watch.path == *path);
        if !matches!(self.phase, Phase::Connected { .. }) || self.line.iter().any(asked) {
            return;
        }
        let body = |out: &mut Vec<u8>| PathKind { path: Some(path.into()), kind: watcher.code() }.write(out);
        // If there is no room for it, the server keeps a watch that nobody hears: events come and are dropped.
        let _ = self.submit(now, Time::MAX, OpCode::RemoveWatches, None, None, body);
    }

    /// Ends the session, after what was asked for before.
    pub(crate) fn close(
        &mut self,
        now: Time,
        deadline: Time,
        reply: Option<oneshot::Sender<Outcome>>,
    ) -> Result<(), Rejection> {
        if let Phase::Ended(end) = self.phase {
            return Err(Rejection::Ended(end));
        }
        if self.closing.is_some() {
            return Err(Rejection::Ended(End::Closed));
        }
        if !matches!(self.phase, Phase::Connected { .. }) {
            if let Some(reply) = reply {
                let reason = match &self.session {
                    None => "there was no session".into(),
                    Some(grant) => format!("no server is connected; session {} ends by its timeout", grant.id).into(),
                };
                self.out.push(Output::Answer { reply, outcome: Err(Failure::NotDone { reason, again: false }) });
            }
            self.end(End::Closed, &"the client was closed".into());
            return Ok(());
        }
        // The line has room for this one, whatever its limits are: nothing comes behind it.
        let max = self.settings.request_max;
        let times = Times { sent: now, since: now, deadline: Time::MAX };
        let pushed = self.line.push(OpCode::CloseSession, times, None, None, max, |_| {});
        assert!(pushed.is_ok(), "a header alone is no long frame");
        self.closing = Some((reply, deadline));
        Ok(())
    }

    /// Nobody moves the bytes any more.
    pub(crate) fn abort(&mut self) {
        self.end(End::Closed, &"the client was dropped, or its runtime ended".into());
    }

    // What happened.

    /// The connection stands.
    pub(crate) fn connected(&mut self, now: Time, link: LinkId) {
        let Phase::Dialing { host, .. } = self.phase else { return };
        if link != self.link {
            return;
        }
        let known = self.session.as_ref().filter(|grant| !grant.local);
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::from_wire(self.seen),
            timeout: millis(self.settings.session_timeout),
            session: known.map_or(SessionId::NONE, |grant| grant.id),
            password: Some(known.map_or([0; PASSWORD_LEN], |grant| grant.password).to_vec().into()),
            read_only: Some(self.settings.allow_read_only),
        };
        let at = begin_frame(&mut self.control);
        request.write(&mut self.control);
        end_frame(&mut self.control, at);
        self.phase = Phase::Handshaking { host, sent: now, until: now + self.dial_time() };
    }

    /// The connection is gone, or could not be made.
    pub(crate) fn lost(&mut self, now: Time, link: LinkId, reason: &str) {
        if link == self.link {
            self.drop_link(now, reason);
        }
    }

    /// Bytes came, cut anywhere.
    pub(crate) fn received(&mut self, now: Time, link: LinkId, bytes: &[u8]) {
        if link != self.link || !self.has_link() {
            return;
        }
        if let Phase::Connected { state, .. } = &mut self.phase {
            state.heard = now;
        }
        if self.input.is_empty() {
            let used = self.frames(now, bytes);
            if link == self.link && self.has_link() {
                self.input.extend_from_slice(&bytes[used..]);
            }
            return;
        }
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let used = self.frames(now, &input);
        if link == self.link && self.has_link() {
            input.drain(..used);
            self.input = input;
        }
    }

    /// What a server said to `isro`.
    pub(crate) fn probed(&mut self, now: Time, link: LinkId, index: usize, takes_writes: bool) {
        if link == self.link && takes_writes && matches!(&self.phase, Phase::Connected { state, .. } if state.read_only)
        {
            let better = format!("{} takes writes, {} does not", self.hosts.get(index), self.name);
            self.hang_up(now, &better);
            self.hosts.forget();
            self.hosts.prefer(index);
            self.phase = Phase::Waiting { until: now };
        }
    }

    /// Time went on.
    pub(crate) fn tick(&mut self, now: Time) {
        if now >= self.line.earliest() {
            self.expire(now);
        }
        self.expire_identities(now);
        if self.closing.as_ref().is_some_and(|(_, until)| *until <= now) {
            self.end(End::Closed, &"the session's end was not confirmed in time".into());
        }
        match &mut self.phase {
            Phase::Waiting { until } if *until <= now => self.dial(now),
            Phase::Dialing { until, .. } if *until <= now => self.hang_up(now, "it does not take the connection"),
            Phase::Handshaking { until, .. } if *until <= now => {
                self.hang_up(now, SILENT);
            }
            Phase::Waiting { .. } | Phase::Dialing { .. } | Phase::Handshaking { .. } | Phase::Ended(_) => {}
            Phase::Connected { state, .. } => {
                if let Some((at, index, pause)) = &mut state.probe
                    && *at <= now
                {
                    let output = Output::Probe { link: self.link, index: *index, host: self.hosts.get(*index).clone() };
                    self.out.push(output);
                    (*at, *index) = (now + *pause, self.hosts.after(*index));
                    *pause = (*pause * 2).min(PROBE_MAX);
                }
                self.watch_over(now);
            }
        }
    }

    // Connections.

    fn dial(&mut self, now: Time) {
        let host = self.hosts.advance();
        self.link = LinkId(self.link.0 + 1);
        let within = self.dial_time();
        self.out.push(Output::Dial { link: self.link, host: self.hosts.get(host).clone(), within });
        self.phase = Phase::Dialing { host, until: now + within };
    }

    /// Time for one server, so that all get their turn within a session timeout.
    fn dial_time(&self) -> Duration {
        let count = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        (self.settings.session_timeout / count).clamp(DIAL_MIN, DIAL_MAX)
    }

    const fn has_link(&self) -> bool {
        matches!(self.phase, Phase::Handshaking { .. } | Phase::Connected { .. })
    }

    fn timeout(&self) -> Duration {
        self.session.as_ref().map_or(self.settings.session_timeout, |grant| grant.timeout)
    }

    fn hang_up(&mut self, now: Time, reason: &str) {
        self.out.push(Output::Hangup);
        self.drop_link(now, reason);
    }

    fn drop_link(&mut self, now: Time, reason: &str) {
        self.control.clear();
        self.input.clear();
        let reason: Arc<str> = reason.into();
        match &self.phase {
            Phase::Waiting { .. } | Phase::Ended(_) => return,
            Phase::Dialing { host, .. } | Phase::Handshaking { host, .. } => self.hosts.failed(*host, &reason),
            Phase::Connected { host, state } => {
                let (host, stable) = (*host, now - state.since >= STABLE);
                if stable {
                    self.hosts.forget();
                }
                self.hosts.failed(host, &reason);
                self.lose_requests(&reason);
                if let Some(grant) = &self.session {
                    self.out.push(Output::State(SessionState::Suspended { session: grant.id }));
                }
            }
        }
        // Words about this connection are stale from now on.
        self.link = LinkId(self.link.0 + 1);
        if self.closing.is_some() {
            self.end(End::Closed, &reason);
            return;
        }
        self.phase = Phase::Waiting { until: now + self.hosts.pause() };
    }

    fn lose_requests(&mut self, reason: &Arc<str>) {
        let lost: Arc<str> = format!("the connection to {} was lost: {reason}", self.name).into();
        let mut unknown = false;
        for entry in self.line.take_sent() {
            unknown |= !entry.is_harmless();
            let failure = if entry.is_harmless() {
                Failure::NotDone { reason: Arc::clone(&lost), again: true }
            } else {
                Failure::Unknown { server: Arc::clone(&self.name), reason: Arc::clone(reason) }
            };
            answer(&mut self.out, entry, Err(failure));
        }
        if unknown {
            let behind: Arc<str> = format!("a write before it may be lost, since {lost}").into();
            let harmful = |entry: &Entry| if entry.is_harmless() { Keep::Yes } else { Keep::No };
            for entry in self.line.retain_unsent(harmful) {
                let failure = Failure::NotDone { reason: Arc::clone(&behind), again: false };
                answer(&mut self.out, entry, Err(failure));
            }
        }
    }

    fn end(&mut self, end: End, reason: &Arc<str>) {
        if self.has_ended() {
            return;
        }
        if !matches!(self.phase, Phase::Waiting { .. }) {
            self.out.push(Output::Hangup);
        }
        for entry in self.line.take_sent() {
            let failure = if entry.is_harmless() {
                Failure::Ended(end)
            } else {
                Failure::Unknown { server: Arc::clone(&self.name), reason: Arc::clone(reason) }
            };
            answer(&mut self.out, entry, Err(failure));
        }
        for entry in self.line.take_all() {
            answer(&mut self.out, entry, Err(Failure::Ended(end)));
        }
        for identity in &mut self.identities {
            if let Some(reply) = identity.reply.take() {
                self.out.push(Output::Answer { reply, outcome: Err(Failure::Ended(end)) });
            }
        }
        if let Some((Some(reply), _)) = self.closing.take() {
            let failure = Failure::Unknown { server: Arc::clone(&self.name), reason: Arc::clone(reason) };
            self.out.push(Output::Answer { reply, outcome: Err(failure) });
        }
        self.watches.end(&mut self.out);
        self.control.clear();
        self.input.clear();
        let state = match (end, &self.session) {
            (End::Closed, _) | (End::Expired, None) => SessionState::Closed,
            (End::AuthFailed, _) => SessionState::AuthFailed,
            (End::Expired, Some(grant)) => SessionState::Expired { session: grant.id },
        };
        self.out.push(Output::State(state));
        (self.session, self.lease) = (None, None);
        self.phase = Phase::Ended(end);
    }

    // Deadlines.

    fn expire(&mut self, now: Time) {
        let late: Arc<str> = "no answer came before the deadline".into();
        let name = Arc::clone(&self.name);
        let gone = self.line.expire(now, |entry| {
            let reason = Arc::clone(&late);
            if entry.is_harmless() {
                Err(Failure::NotDone { reason, again: false })
            } else {
                Err(Failure::Unknown { server: Arc::clone(&name), reason })
            }
        });
        if gone.is_empty() {
            return;
        }
        let reason: Arc<str> = format!("it could not be sent before the deadline: {}", self.hosts.describe()).into();
        for entry in gone {
            let failure = Failure::NotDone { reason: Arc::clone(&reason), again: false };
            answer(&mut self.out, entry, Err(failure));
        }
    }

    fn expire_identities(&mut self, now: Time) {
        if self.identities.iter().all(|i| i.reply.is_none() || i.deadline > now) {
            return;
        }
        for mut identity in std::mem::take(&mut self.identities) {
            if identity.deadline <= now
                && let Some(reply) = identity.reply.take()
            {
                let reason = format!("no answer came before the deadline: {}", self.hosts.describe()).into();
                self.out.push(Output::Answer { reply, outcome: Err(Failure::NotDone { reason, again: false }) });
            } else {
                self.identities.push(identity);
            }
        }
    }
}

fn answer(out: &mut Vec<Output>, entry: Entry, outcome: Outcome) {
    if let Some(reply) = entry.reply {
        out.push(Output::Answer { reply, outcome });
    }
}

fn put_request(out: &mut Vec<u8>, xid: Xid, op: OpCode, body: impl FnOnce(&mut Vec<u8>)) {
    let at = begin_frame(out);
    RequestHeader { xid, op: op.code() }.write(out);
    body(out);
    end_frame(out, at);
}

fn put_identity(out: &mut Vec<u8>, identity: &Identity) {
    put_request(out, Xid::AUTH, OpCode::Auth, |out| {
        let (scheme, auth) = (Some((&*identity.scheme).into()), Some((&*identity.credentials).into()));
        AuthPacket { kind: 0, scheme, auth }.write(out);
    });
}

fn millis(span: Duration) -> i32 {
    i32::try_from(span.as_millis()).unwrap_or(i32::MAX)
}
