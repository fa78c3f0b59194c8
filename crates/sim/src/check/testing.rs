//! Histories for the checkers' tests: three servers, of which one leads, and one client.

use super::{Checker, Checkers, Facts, Setup, Voter};
use crate::observe::{
    CallId, ClientEvent, ClientId, DialId, Fault, FaultId, Moment, Observation, Parting, Phase, Reply, Request, Role,
    ServerEvent, What,
};
use bytes::Bytes;
use farrier_proto::txn::{CreateTxn, SetDataTxn, write_txn};
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ErrorCode, ServerId, SessionId, Txn, TxnHeader, Zxid};
use std::borrow::Cow;

const CLIENT: ClientId = ClientId(0);
const SESSION: SessionId = SessionId(0x0100_0000_0000_0000);
const TIMEOUT: i32 = 6000;

/// Session, cxid and body of a transaction.
pub(super) type Change = (SessionId, i32, Txn<'static>);

pub(super) const fn z(epoch: u32, counter: u32) -> Zxid {
    Zxid::new(epoch, counter)
}

pub(super) const fn leading(epoch: u32) -> ServerEvent {
    ServerEvent::Role { role: Role::Leading { epoch: Some(epoch) }, serving: true }
}

pub(super) const fn following(leader: i64, epoch: u32) -> ServerEvent {
    let role = Role::Learning { leader: ServerId(leader), epoch: Some(epoch), observing: false };
    ServerEvent::Role { role, serving: true }
}

pub(super) const fn looking() -> ServerEvent {
    ServerEvent::Role { role: Role::Looking, serving: false }
}

pub(super) const fn started(last: Zxid, recovering: bool) -> ServerEvent {
    let (accepted, current) = (AcceptedEpoch(last.epoch()), CurrentEpoch(last.epoch()));
    ServerEvent::Started { accepted, current, last, digest: None, recovering }
}

pub(super) fn set_data(path: &'static str, before: i32, data: &'static str) -> Change {
    let txn = SetDataTxn { path: path.into(), data: Some(Cow::Borrowed(data.as_bytes())), version: before + 1 };
    (SessionId::NONE, 0, Txn::SetData(txn))
}

fn creation(path: &str, parent_cversion: i32, ephemeral: bool) -> Txn<'static> {
    let path = Cow::Owned(path.to_owned());
    Txn::Create(CreateTxn { path, data: Some(Cow::Borrowed(b"")), acl: vec![], ephemeral, parent_cversion })
}

/// A creation that is the `n`th under its parent.
pub(super) fn create(path: &str, n: i32) -> Txn<'static> {
    creation(path, n, false)
}

pub(super) fn ephemeral(path: &str, n: i32) -> Txn<'static> {
    creation(path, n, true)
}

/// A history under construction. It is lawful unless a test makes it something else.
#[derive(Clone)]
pub(super) struct Play {
    observations: Vec<Observation>,
    now: Moment,
    leader: i64,
    last: Zxid,
    dial: DialId,
    calls: u32,
    /// The client's requests: number and call.
    xid: i32,
}

impl Play {
    /// Server 1 leads epoch 1, and the others follow.
    pub(super) fn elected() -> Self {
        let mut play = Self {
            observations: Vec::new(),
            now: Moment::from_millis(1000),
            leader: 1,
            last: Zxid::ZERO,
            dial: DialId(0),
            calls: 0,
            xid: 0,
        };
        (1..=3).for_each(|s| play.server(s, started(Zxid::ZERO, false)));
        play.re_elect(1, 1, &[2, 3]);
        play
    }

    /// Another leader takes over with what it has, and `followers` follow; what they have more is cut.
    pub(super) fn re_elect(&mut self, leader: i64, epoch: u32, followers: &[i64]) {
        let has = self.facts().server(ServerId(leader)).logged;
        for server in [&[leader], followers].concat() {
            self.server(server, looking());
            if server != leader {
                let facts = self.facts();
                if !facts.history.holds(has, facts.server(ServerId(server)).logged) {
                    self.server(server, ServerEvent::LogCut { after: facts.history.tip() });
                    let why = crate::observe::Replacement::Reload;
                    self.server(server, ServerEvent::StateReplaced { zxid: facts.history.tip(), digest: None, why });
                }
            }
            self.server(server, ServerEvent::AcceptedEpochDurable(AcceptedEpoch(epoch)));
            self.server(server, ServerEvent::CurrentEpochDurable(CurrentEpoch(epoch)));
        }
        self.server(leader, leading(epoch));
        followers.iter().for_each(|s| self.server(*s, following(leader, epoch)));
        self.leader = leader;
        self.last = Zxid::new(epoch, 0);
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.now = self.now.plus_millis(ms);
    }

    pub(super) fn phase(&mut self, phase: Phase) {
        self.push(What::Phase(phase));
    }

    fn push(&mut self, what: What) {
        self.now = Moment(self.now.0 + 1);
        self.observations.push(Observation { at: self.now, what });
    }

    pub(super) fn server(&mut self, id: i64, event: ServerEvent) {
        self.push(What::Server(ServerId(id), event));
    }

    pub(super) fn client(&mut self, event: ClientEvent) {
        self.push(What::Client(CLIENT, event));
    }

    pub(super) fn fault(&mut self, id: FaultId, fault: Fault) {
        self.push(What::FaultBegan(id, fault));
    }

    /// The bytes of a transaction.
    pub(super) fn txn(&self, zxid: Zxid, (session, cxid, txn): &Change) -> Bytes {
        let mut out = Vec::new();
        let time = self.now.millis() as i64;
        let header = TxnHeader { session: *session, cxid: *cxid, zxid, time, kind: txn.kind().code() };
        write_txn(&mut out, &header, txn, None);
        Bytes::from(out)
    }

    /// The leader proposes.
    pub(super) fn propose(&mut self, change: Change) -> (Zxid, Bytes) {
        self.last = self.last.next().expect("few proposals");
        let txn = self.txn(self.last, &change);
        self.server(self.leader, ServerEvent::Appended { zxid: self.last, txn: txn.clone() });
        (self.last, txn)
    }

    /// The leader proposes, and everybody delivers.
    pub(super) fn commit(&mut self, change: Change) -> (Zxid, Bytes) {
        self.commit_but(change, &[])
    }

    /// The leader proposes, and everybody has it durably, and delivers it, but those.
    pub(super) fn commit_but(&mut self, change: Change, not: &[i64]) -> (Zxid, Bytes) {
        let (zxid, txn) = self.propose(change);
        self.server(self.leader, ServerEvent::LogDurable { upto: zxid });
        let others: Vec<i64> = (1..=3).filter(|s| *s != self.leader).collect();
        for server in &others {
            if self.facts().server(ServerId(*server)).logged < zxid && self.follows(*server) {
                self.server(*server, ServerEvent::Appended { zxid, txn: txn.clone() });
                self.server(*server, ServerEvent::LogDurable { upto: zxid });
            }
        }
        for server in [&[self.leader], &others[..]].concat() {
            if !not.contains(&server) && self.follows(server) {
                self.server(server, ServerEvent::Applied { zxid, txn: txn.clone(), digest: None });
            }
        }
        (zxid, txn)
    }

    fn follows(&self, server: i64) -> bool {
        self.facts().server(ServerId(server)).established() == Some(self.last.epoch())
    }

    /// The client opens a session with the leader.
    pub(super) fn connect(&mut self) -> DialId {
        self.commit((SESSION, 0, Txn::CreateSession(TIMEOUT)));
        self.attach(true)
    }

    /// It comes again on another connection.
    pub(super) fn reconnect(&mut self) -> DialId {
        self.client(ClientEvent::Disconnected { dial: self.dial, why: Parting::Left });
        self.dial = DialId(self.dial.0 + 1);
        self.attach(false)
    }

    fn attach(&mut self, fresh: bool) -> DialId {
        let server = ServerId(self.leader);
        self.client(ClientEvent::Attached { dial: self.dial, server, session: SESSION, fresh, timeout: TIMEOUT });
        self.dial
    }

    pub(super) const fn session(&self) -> SessionId {
        SESSION
    }

    pub(super) fn invoke(&mut self, request: Request) -> CallId {
        let call = CallId(self.calls);
        self.calls += 1;
        self.xid += 1;
        let (dial, xid) = (self.dial, self.xid);
        self.client(ClientEvent::Invoked { call, dial, session: SESSION, xid, request });
        call
    }

    /// The same change as the client's request.
    pub(super) fn of_client(&self, call: CallId, change: impl Into<Changed>) -> Change {
        let xid = self.facts().call(CLIENT, call).expect("it was made").xid;
        (SESSION, xid, change.into().0)
    }

    pub(super) fn answer(&mut self, call: CallId, zxid: Zxid, outcome: Result<Reply, ErrorCode>) {
        self.client(ClientEvent::Returned { call, dial: self.dial, zxid: zxid.to_wire(), outcome });
    }

    /// Answers a read, or the like, truly, in the newest state.
    pub(super) fn answer_read(&mut self, call: CallId) {
        let facts = self.facts();
        let at = facts.history.tip();
        let reply = match &facts.call(CLIENT, call).expect("it was made").request {
            Request::GetData { path, .. } => {
                let znode = facts.model.latest(path).expect("it is there").clone();
                Reply::Data { data: znode.data, stat: znode.stat }
            }
            Request::GetChildren { path, .. } => {
                let names = facts.model.children(path, at).into_iter().map(str::to_owned).collect();
                Reply::Children { names, stat: facts.model.latest(path).expect("it is there").stat }
            }
            _ => Reply::Done,
        };
        self.answer(call, at, Ok(reply));
    }

    pub(super) fn set_request(path: &str, data: &'static str) -> Request {
        Request::SetData { path: path.into(), data: Bytes::from_static(data.as_bytes()), version: -1 }
    }

    /// The client writes, and is answered.
    pub(super) fn write(&mut self, path: &'static str, data: &'static str) {
        let version = self.facts().model.latest(path).expect("it is there").stat.version;
        let call = self.invoke(Self::set_request(path, data));
        let (zxid, _) = self.commit(self.of_client(call, set_data(path, version, data)));
        let stat = self.facts().model.latest(path).expect("it is there").stat;
        self.answer(call, zxid, Ok(Reply::Stat(stat)));
    }

    /// The last committed transaction.
    pub(super) fn tip(&self) -> Zxid {
        self.facts().history.tip()
    }

    fn setup() -> Setup {
        let voters = (1..=3).map(|id| Voter { id: ServerId(id), group: 0, weight: 1 }).collect();
        Setup { voters, observers: vec![], tick_ms: 2000 }
    }

    /// What follows from the history.
    pub(super) fn facts(&self) -> Facts {
        let mut facts = Facts::new(Self::setup());
        self.observations.iter().for_each(|o| facts.observe(o));
        facts
    }

    /// What one checker says of the history.
    pub(super) fn verdict(&self, checker: Box<dyn Checker>) -> Result<(), String> {
        self.run(vec![checker])
    }

    fn run(&self, checkers: Vec<Box<dyn Checker>>) -> Result<(), String> {
        let mut checkers = Checkers::only(Self::setup(), checkers);
        self.observations.iter().try_for_each(|o| checkers.observe(o)).map_err(|v| v.to_string())?;
        checkers.finish().map_err(|v| v.to_string())
    }
}

/// A body, with or without a session.
pub(super) struct Changed(Txn<'static>);

impl From<Change> for Changed {
    fn from(change: Change) -> Self {
        Self(change.2)
    }
}

impl From<Txn<'static>> for Changed {
    fn from(txn: Txn<'static>) -> Self {
        Self(txn)
    }
}

#[test]
fn a_lawful_history_passes_every_checker() {
    let mut play = Play::elected();
    play.connect();
    play.write("/", "x");
    let call = play.invoke(Request::GetData { path: "/".into(), watch: false });
    play.answer_read(call);
    play.re_elect(2, 2, &[1, 3]);
    play.reconnect();
    play.write("/", "y");
    let call = play.invoke(Request::GetChildren { path: "/".into(), watch: false });
    play.answer_read(call);
    assert_eq!(play.run(super::all()), Ok(()));
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = super::all().iter().map(|c| c.name()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
