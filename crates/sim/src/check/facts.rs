//! What follows from the observations, without judgement.

use super::Setup;
use super::history::{History, Proposal};
use super::model::Model;
use super::twin::{WatchFault, WatchTwin};
use crate::observe::{
    CallId, ClientEvent, ClientId, DialId, Fault, FaultId, Moment, Observation, Phase, Replacement, Reply, Request,
    Role, ServerEvent, What,
};
use farrier_proto::txn::read_header;
use farrier_proto::{ErrorCode, ServerId, SessionId, TxnType, Zxid};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a server.
#[derive(Clone, Copy, Debug)]
pub struct ServerFacts {
    /// A process runs.
    pub up: bool,
    /// What it is to the others.
    pub role: Role,
    /// Since when.
    pub role_since: Moment,
    /// Clients are served.
    pub serving: bool,
    /// It may have forgotten something.
    pub recovering: bool,
    /// What its log ends with.
    pub logged: Zxid,
    /// What its log ends with on the platter.
    pub durable: Zxid,
    /// The last transaction in its tree.
    pub applied: Zxid,
    /// Its tree came from its leader and is not on disk yet: what is applied to it need not be logged.
    pub adopting: bool,
    /// Its log was cut, and the tree that goes with that is not told yet.
    cut: bool,
}

impl Default for ServerFacts {
    fn default() -> Self {
        Self {
            up: false,
            role: Role::Looking,
            role_since: Moment::default(),
            serving: false,
            recovering: false,
            logged: Zxid::ZERO,
            durable: Zxid::ZERO,
            applied: Zxid::ZERO,
            adopting: false,
            cut: false,
        }
    }
}

impl ServerFacts {
    /// The epoch of the established leader that it is or follows. Then everything in its tree is committed.
    #[must_use]
    pub const fn established(&self) -> Option<u32> {
        match self.role {
            Role::Looking => None,
            Role::Leading { epoch } | Role::Learning { epoch, .. } => epoch,
        }
    }

    /// The server that leads it.
    #[must_use]
    pub const fn leader(&self, me: ServerId) -> Option<ServerId> {
        match self.role {
            Role::Looking => None,
            Role::Leading { .. } => Some(me),
            Role::Learning { leader, .. } => Some(leader),
        }
    }
}

/// A client's request.
#[derive(Clone, Debug)]
pub struct Call {
    /// On which connection.
    pub dial: DialId,
    /// In which session.
    pub session: SessionId,
    /// The client's number for it.
    pub xid: i32,
    /// What it asks.
    pub request: Request,
    /// The newest zxid that any client had been shown when it was made.
    pub floor: Zxid,
    /// What became of it.
    pub end: End,
}

/// What became of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// Nothing yet.
    Open,
    /// The reply says that it was done.
    Done,
    /// The reply says that it was not done.
    Refused(ErrorCode),
    /// The connection broke first.
    Unknown,
}

/// An attached connection of a client.
#[derive(Clone, Copy, Debug)]
pub struct Attachment {
    /// Which.
    pub dial: DialId,
    /// To whom.
    pub server: ServerId,
    /// Of which session.
    pub session: SessionId,
    /// Negotiated, in milliseconds.
    pub timeout: u64,
    /// Since when.
    pub since: Moment,
    /// When the client last sent something on it.
    pub sent: Moment,
    /// It sends nothing any more, on purpose.
    pub silent: bool,
}

/// A connection on which a session was asked for.
#[derive(Clone, Copy, Debug)]
struct Dial {
    server: ServerId,
    /// It got its session there.
    attached: bool,
}

/// What one observation adds.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// Transactions that are known to be committed from now on, in order.
    pub committed: Vec<Zxid>,
    /// A server with an established role has this in its tree, which does not go together with what is committed.
    pub forked: Option<(ServerId, Zxid)>,
    /// What no leader may propose was committed.
    pub unlawful: Option<String>,
    /// An event or a missing event.
    pub watch: Option<WatchFault>,
    /// The transaction was handed to a log for the first time: it is broadcast.
    pub broadcast: bool,
}

/// Everything that checkers look at.
#[derive(Debug)]
pub struct Facts {
    /// The world.
    pub setup: Setup,
    /// Of the last observation.
    pub now: Moment,
    /// Of the run.
    pub phase: Phase,
    /// Of the last observation.
    pub news: News,
    /// Proposals and commits.
    pub history: History,
    /// The states.
    pub model: Model,
    servers: BTreeMap<ServerId, ServerFacts>,
    calls: BTreeMap<(ClientId, CallId), Call>,
    by_xid: BTreeMap<(SessionId, i32), (ClientId, CallId)>,
    attachments: BTreeMap<ClientId, Attachment>,
    /// Connections on which sessions were asked for.
    dials: BTreeMap<SessionId, BTreeMap<DialId, Dial>>,
    /// The attachment that ended with the last observation.
    lost: Option<Attachment>,
    /// The newest zxid that any client was shown.
    shown: Zxid,
    twin: WatchTwin,
    /// Sessions whose end was proposed, committed or not.
    ends_proposed: BTreeSet<SessionId>,
    faults: BTreeMap<FaultId, (Fault, Moment, Option<Moment>)>,
}

impl Facts {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup,
            now: Moment::default(),
            phase: Phase::Safety,
            news: News::default(),
            history: History::default(),
            model: Model::default(),
            servers: BTreeMap::new(),
            calls: BTreeMap::new(),
            by_xid: BTreeMap::new(),
            attachments: BTreeMap::new(),
            dials: BTreeMap::new(),
            lost: None,
            shown: Zxid::ZERO,
            twin: WatchTwin::default(),
            ends_proposed: BTreeSet::new(),
            faults: BTreeMap::new(),
        }
    }

    /// A server; a default one before it is first heard of.
    #[must_use]
    pub fn server(&self, id: ServerId) -> ServerFacts {
        self.servers.get(&id).copied().unwrap_or_default()
    }

    /// All servers heard of.
    pub fn servers(&self) -> impl Iterator<Item = (ServerId, &ServerFacts)> {
        self.servers.iter().map(|(id, s)| (*id, s))
    }

    /// A request of a client.
    #[must_use]
    pub fn call(&self, client: ClientId, call: CallId) -> Option<&Call> {
        self.calls.get(&(client, call))
    }

    /// The write with this number in this session.
    #[must_use]
    pub fn write(&self, session: SessionId, xid: i32) -> Option<&Call> {
        self.calls.get(self.by_xid.get(&(session, xid))?)
    }

    /// The connection on which a client is attached.
    #[must_use]
    pub fn attachment(&self, client: ClientId) -> Option<&Attachment> {
        self.attachments.get(&client)
    }

    /// The attached connection that a client lost with the last observation.
    #[must_use]
    pub const fn lost(&self) -> Option<&Attachment> {
        self.lost.as_ref()
    }

    /// The connection on which a session is attached, as its client sees it.
    #[must_use]
    pub fn attached(&self, session: SessionId) -> Option<(ClientId, &Attachment)> {
        self.attachments.iter().find(|(_, a)| a.session == session).map(|(id, a)| (*id, a))
    }

    /// Whether the session of a request may be another connection's than the one on which it was made: a later one, or
    /// one whose connect request was given up without an answer and may be under way for long.
    #[must_use]
    pub fn may_have_moved(&self, call: &Call) -> bool {
        let later = |dials: &BTreeMap<DialId, Dial>| dials.keys().any(|dial| *dial > call.dial);
        self.dials.get(&call.session).is_some_and(later) || self.gave_up_before(call.session, call.dial)
    }

    /// Whether the session was asked for on an earlier connection that was given up without an answer. That a leader hears
    /// of both in the other order, behind a pause, moves the session back.
    #[must_use]
    pub fn gave_up_before(&self, session: SessionId, dial: DialId) -> bool {
        self.dials.get(&session).is_some_and(|dials| dials.range(..dial).any(|(_, before)| !before.attached))
    }

    /// Whether the session was ever asked for at this server, which then may tell its leader late that it was heard of.
    #[must_use]
    pub fn was_asked_for_at(&self, session: SessionId, server: ServerId) -> bool {
        self.dials.get(&session).is_some_and(|dials| dials.values().any(|dial| dial.server == server))
    }

    /// Whether the end of the session was ever proposed.
    #[must_use]
    pub fn end_proposed(&self, session: SessionId) -> bool {
        self.ends_proposed.contains(&session)
    }

    /// Faults that were in force at any time since `from`.
    pub fn faults_since(&self, from: Moment) -> impl Iterator<Item = &Fault> {
        let in_force = move |ended: &Option<Moment>| ended.is_none_or(|at| at >= from);
        self.faults.values().filter(move |(_, _, ended)| in_force(ended)).map(|(fault, _, _)| fault)
    }

    /// Whether the voters for which `has` is true are a quorum.
    #[must_use]
    pub fn is_quorum(&self, has: impl Fn(ServerId) -> bool) -> bool {
        let mut groups: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for voter in &self.setup.voters {
            let (all, with) = groups.entry(voter.group).or_default();
            *all += voter.weight;
            *with += if has(voter.id) { voter.weight } else { 0 };
        }
        // A group without weight has no say.
        groups.retain(|_, (all, _)| *all > 0);
        let won = groups.values().filter(|(all, with)| with * 2 > *all).count();
        won * 2 > groups.len()
    }

    pub(super) fn observe(&mut self, observation: &Observation) {
        self.now = observation.at;
        self.news = News::default();
        self.lost = None;
        match &observation.what {
            What::Server(id, event) => self.server_event(*id, event),
            What::Client(id, event) => self.client_event(*id, event),
            What::FaultBegan(id, fault) => drop(self.faults.insert(*id, (fault.clone(), self.now, None))),
            What::FaultEnded(id) => {
                if let Some((_, _, ended)) = self.faults.get_mut(id) {
                    *ended = Some(self.now);
                }
            }
            What::Phase(phase) => self.phase = *phase,
        }
    }

    fn server_event(&mut self, id: ServerId, event: &ServerEvent) {
        let now = self.now;
        let s = self.servers.entry(id).or_default();
        match event {
            ServerEvent::Started { last, recovering, .. } => {
                // A fork may end with a larger zxid.
                let durable = if self.history.holds(*last, s.durable) { s.durable } else { *last };
                *s = ServerFacts {
                    up: true,
                    role: Role::Looking,
                    role_since: now,
                    serving: false,
                    recovering: *recovering,
                    logged: *last,
                    durable,
                    applied: *last,
                    adopting: false,
                    cut: false,
                };
            }
            ServerEvent::Ended(_) => {
                (s.up, s.role, s.role_since, s.serving) = (false, Role::Looking, now, false);
            }
            ServerEvent::Role { role, serving } => {
                if s.role != *role {
                    s.role_since = now;
                }
                (s.role, s.serving) = (*role, *serving);
                let applied = s.applied;
                if s.established().is_some() {
                    self.commit(id, applied);
                }
            }
            ServerEvent::Appended { zxid, txn } => {
                let proposal = Proposal { parent: s.logged, txn: txn.clone(), by: id, at: now };
                s.logged = *zxid;
                self.news.broadcast = self.history.propose(*zxid, proposal);
                if self.news.broadcast
                    && let Ok(header) = read_header(txn)
                    && header.kind == TxnType::CloseSession.code()
                {
                    self.ends_proposed.insert(header.session);
                }
            }
            ServerEvent::LogDurable { upto } => s.durable = *upto,
            ServerEvent::LogCut { after } => {
                (s.logged, s.cut) = (*after, true);
                s.durable = s.durable.min(*after);
            }
            ServerEvent::SnapshotInstalled { zxid } => (s.durable, s.adopting) = (*zxid, false),
            ServerEvent::StateReplaced { zxid, why, .. } => {
                s.applied = *zxid;
                // What came behind a TRUNC is taken up in the same step, so that the tree may be ahead already.
                if !std::mem::take(&mut s.cut) {
                    s.logged = *zxid;
                }
                s.adopting = *why == Replacement::Snap;
            }
            ServerEvent::Applied { zxid, .. } => {
                s.applied = *zxid;
                if s.adopting {
                    s.logged = s.logged.max(*zxid);
                }
                if s.established().is_some() {
                    self.commit(id, *zxid);
                }
            }
            ServerEvent::AcceptedEpochDurable(_)
            | ServerEvent::CurrentEpochDurable(_)
            | ServerEvent::SnapshotTaken { .. }
            | ServerEvent::WouldStart { .. }
            | ServerEvent::WouldReplay { .. }
            | ServerEvent::PromiseHeard { .. }
            | ServerEvent::PeerRefused { .. }
            | ServerEvent::Said(_)
            | ServerEvent::Synchronizing { .. }
            | ServerEvent::Inspected { .. } => {}
        }
    }

    fn commit(&mut self, server: ServerId, zxid: Zxid) {
        let tip = self.history.tip();
        if self.history.holds(tip, zxid) {
            return;
        }
        let Some(path) = self.history.between(tip, zxid) else {
            self.news.forked = Some((server, zxid));
            return;
        };
        for zxid in &path {
            let txn = self.history.proposal(*zxid).expect("what lies between was proposed").txn.clone();
            self.history.commit(*zxid);
            if let Err(why) = self.model.apply(&txn) {
                self.news.unlawful.get_or_insert(why);
            }
        }
        self.news.committed = path;
    }

    fn show(&mut self, client: ClientId, dial: DialId, zxid: i64) -> bool {
        if zxid <= 0 {
            return false;
        }
        let zxid = Zxid::from_wire(zxid);
        self.shown = self.shown.max(zxid);
        if let Err(fault) = self.twin.shown(&self.model, client, dial, zxid) {
            self.news.watch = Some(fault);
        }
        self.news.watch.is_none()
    }

    fn sent(&mut self, client: ClientId) {
        if let Some(a) = self.attachments.get_mut(&client) {
            a.sent = self.now;
        }
    }

    fn client_event(&mut self, id: ClientId, event: &ClientEvent) {
        match event {
            ClientEvent::Attached { dial, server, session, timeout, .. } => {
                self.twin.attached(id, *dial);
                let timeout = u64::from(timeout.unsigned_abs());
                let (dial, server, session) = (*dial, *server, *session);
                let attachment =
                    Attachment { dial, server, session, timeout, since: self.now, sent: self.now, silent: false };
                self.attachments.insert(id, attachment);
                self.dials.entry(session).or_default().insert(dial, Dial { server, attached: true });
            }
            ClientEvent::Disconnected { dial, .. } => {
                self.twin.disconnected(id, *dial);
                self.lost = self.attachments.remove(&id);
            }
            ClientEvent::Invoked { call, dial, session, xid, request } => {
                self.sent(id);
                if request.is_write() {
                    self.by_xid.insert((*session, *xid), (id, *call));
                }
                let (dial, session, xid, request) = (*dial, *session, *xid, request.clone());
                let new = Call { dial, session, xid, request, floor: self.shown, end: End::Open };
                self.calls.insert((id, *call), new);
            }
            ClientEvent::Returned { call, dial, zxid, outcome } => {
                if let Some(call) = self.calls.get_mut(&(id, *call)) {
                    call.end = outcome_end(outcome);
                }
                if self.show(id, *dial, *zxid)
                    && let Some(call) = self.calls.get(&(id, *call))
                {
                    let zxid = Zxid::from_wire(*zxid);
                    let twin = &mut self.twin;
                    self.news.watch = twin.answered(&self.model, id, *dial, zxid, &call.request, outcome).err();
                }
            }
            ClientEvent::Unknown { call } => {
                if let Some(call) = self.calls.get_mut(&(id, *call)) {
                    call.end = End::Unknown;
                }
            }
            ClientEvent::Pinged { .. } => self.sent(id),
            ClientEvent::Ponged { dial, zxid } => drop(self.show(id, *dial, *zxid)),
            ClientEvent::Watched { dial, zxid, kind, path } => {
                self.news.watch = self.twin.event(&self.model, id, *dial, *zxid, *kind, path).err();
            }
            ClientEvent::FellSilent { .. } => {
                if let Some(a) = self.attachments.get_mut(&id) {
                    a.silent = true;
                }
            }
            ClientEvent::Dialled { dial, server, session, .. } => {
                if *session != SessionId::NONE {
                    self.dials.entry(*session).or_default().insert(*dial, Dial { server: *server, attached: false });
                }
            }
            ClientEvent::Expired { .. } | ClientEvent::Closed { .. } | ClientEvent::Nonsense { .. } => {}
        }
    }
}

/// A multi that failed says so in its results, not in the header.
fn outcome_end(outcome: &Result<Reply, ErrorCode>) -> End {
    use crate::observe::PartReply;
    match outcome {
        Err(code) => End::Refused(*code),
        Ok(Reply::Multi(parts)) => {
            let failed = parts.iter().find_map(|p| match p {
                PartReply::Failed(code) if *code != 0 => Some(*code),
                _ => None,
            });
            let code = failed.map(|c| ErrorCode::from_code(c).unwrap_or(ErrorCode::SystemError));
            code.map_or(End::Done, End::Refused)
        }
        Ok(_) => End::Done,
    }
}
