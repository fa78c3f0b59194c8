//! Several servers, with the clock, the network, the disks and the clients in the hands of the test.

use super::{config, connect_frame, request};
use bytes::Bytes;
use farrier_proto::client::{ConnectResponse, ReplyHeader};
use farrier_proto::quorum::{LeaderPacket, Notification};
use farrier_proto::session::password;
use farrier_proto::stat::StatPersisted;
use farrier_proto::{AcceptedEpoch, Acl, CurrentEpoch, Field, OpCode, Reader, ServerId, SessionId, TxnDigest, Zxid};
use farrier_replica::{Action, Actions, ConnId, Input, Replica, ReplicaConfig, Time, TreeRestore, WriteId};
use farrier_storage::{Image, LoggedTxn, NodeRecord, Restore as _};
use farrier_zab::{Durable, Ensemble, Input as Zab, LinkId, LinkKind, Located, QuorumVerifier, Recovering};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A whole state, as a snapshot file or a stream holds it.
#[derive(Clone, Default)]
struct Stored {
    zxid: Zxid,
    sessions: Vec<(SessionId, i32)>,
    acls: Vec<(i64, Vec<Acl<'static>>)>,
    nodes: Vec<(String, Option<Vec<u8>>, i64, StatPersisted)>,
}

impl Stored {
    fn of(image: &impl Image) -> Self {
        let mut nodes = Vec::new();
        let visit = &mut |n: NodeRecord<'_>| {
            nodes.push((n.path.to_owned(), n.data.map(<[u8]>::to_vec), n.acl, n.stat));
            Ok::<(), ()>(())
        };
        image.nodes(visit).expect("nothing fails here");
        Self { zxid: image.zxid(), sessions: image.sessions(), acls: image.acls(), nodes }
    }

    fn feed(&self, state: &mut TreeRestore) {
        for (session, timeout) in &self.sessions {
            state.session(*session, *timeout).expect("a session");
        }
        for (key, acl) in &self.acls {
            state.acl(*key, acl.clone()).expect("a list");
        }
        for (path, data, acl, stat) in &self.nodes {
            let record = NodeRecord { path, data: data.as_deref(), acl: *acl, stat: *stat };
            state.node(record).expect("a znode");
        }
    }
}

/// The state of an image, loaded, has the digest that the image says.
pub(crate) fn assert_shows_its_digest(image: &impl Image) {
    let mut state = TreeRestore::new(config().tree, 1);
    Stored::of(image).feed(&mut state);
    state.loaded(image.zxid(), None).expect("a tree");
    assert_eq!(Some(state.digest()), image.digest(), "the image of {}", image.zxid());
}

/// What survives a crash.
#[derive(Clone)]
struct Disk {
    base: Option<Stored>,
    log: Vec<(Zxid, Bytes)>,
    accepted: AcceptedEpoch,
    current: CurrentEpoch,
}

impl Disk {
    fn floor(&self) -> Zxid {
        self.base.as_ref().map_or(Zxid::ZERO, |b| b.zxid)
    }

    fn last(&self) -> Zxid {
        self.log.last().map_or_else(|| self.floor(), |(zxid, _)| *zxid)
    }

    fn load(&self, config: &ReplicaConfig) -> TreeRestore {
        let mut state = TreeRestore::new(config.tree, config.seed);
        if let Some(base) = &self.base {
            base.feed(&mut state);
            state.loaded(base.zxid, None).expect("a tree");
        }
        for (_, txn) in &self.log {
            state.replay(&LoggedTxn::read(txn).expect("a record")).expect("a transaction");
        }
        state
    }
}

/// By how much a prediction of the leader is to be larger than the right one.
type OffBy = dyn FnMut(&LoggedTxn<'_>) -> u64;

/// The same transaction, whose leader predicts another tree.
fn with_digest_off(txn: &Bytes, off_by: &mut OffBy) -> Bytes {
    let read = LoggedTxn::read(txn).expect("a transaction");
    let mut bytes = txn.to_vec();
    if let Some(digest) = &read.digest {
        let digest = TxnDigest::new(digest.tree.cast_unsigned().wrapping_add(off_by(&read)));
        bytes.truncate(txn.len() - TxnDigest::LEN);
        digest.write(&mut bytes);
    }
    bytes.into()
}

enum Write {
    Append(WriteId, Zxid, Bytes),
    Accepted(WriteId, AcceptedEpoch),
    Current(WriteId, CurrentEpoch),
    Truncate(WriteId, Zxid),
    Install(WriteId, CurrentEpoch, Stored),
    Reload(WriteId),
}

struct Server {
    replica: Option<Replica>,
    disk: Disk,
    writes: VecDeque<Write>,
    /// Writes stay in the queue.
    disk_held: bool,
}

struct Link {
    dialler: i64,
    acceptor: i64,
    /// Who may still hear of it.
    open: BTreeSet<i64>,
}

#[derive(Default)]
struct Conn {
    server: i64,
    received: Vec<u8>,
    closed: bool,
    paused: bool,
    /// The client takes nothing of what is sent.
    stuck: bool,
}

/// The servers and everything between them.
pub(crate) struct Cluster {
    servers: BTreeMap<i64, Server>,
    members: BTreeSet<i64>,
    pub(crate) now: Time,
    events: VecDeque<(i64, Input<'static>)>,
    /// Servers that are not scheduled, and what waits for them.
    frozen: BTreeMap<i64, Vec<Input<'static>>>,
    links: BTreeMap<LinkId, Link>,
    /// Who does not read from which link. What comes on it is given all the same.
    pub(crate) links_paused: BTreeSet<(i64, LinkId)>,
    conns: BTreeMap<ConnId, Conn>,
    last_said: BTreeMap<(i64, i64), Notification>,
    pub(crate) configure: fn(&mut ReplicaConfig, &mut farrier_zab::Config),
    pub(crate) notes: Vec<(i64, String)>,
    /// Snapshots that were taken.
    pub(crate) snapshots: usize,
    /// SNAPs that were sent.
    pub(crate) streams: usize,
    /// Who gets proposals with a digest that is not the leader's, and by how much it is larger.
    pub(crate) misled: BTreeSet<i64>,
    pub(crate) off_by: Box<OffBy>,
    next: u64,
}

/// A client of one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) conn: ConnId,
    pub(crate) session: SessionId,
}

impl Cluster {
    /// Members with these numbers; none of them runs yet.
    pub(crate) fn new(members: &[i64], configure: fn(&mut ReplicaConfig, &mut farrier_zab::Config)) -> Self {
        let disk = Disk { base: None, log: Vec::new(), accepted: AcceptedEpoch(0), current: CurrentEpoch(0) };
        let server = || Server { replica: None, disk: disk.clone(), writes: VecDeque::new(), disk_held: false };
        Self {
            servers: members.iter().map(|s| (*s, server())).collect(),
            members: members.iter().copied().collect(),
            now: Time { mono: 1_000_000, wall: 1_700_000_000_000 },
            events: VecDeque::new(),
            frozen: BTreeMap::new(),
            links: BTreeMap::new(),
            links_paused: BTreeSet::new(),
            conns: BTreeMap::new(),
            last_said: BTreeMap::new(),
            configure,
            notes: Vec::new(),
            snapshots: 0,
            streams: 0,
            misled: BTreeSet::new(),
            off_by: Box::new(|_| 1),
            next: 1,
        }
    }

    /// Three members with a leader.
    pub(crate) fn of_three() -> Self {
        Self::of_three_with(|_, _| {})
    }

    pub(crate) fn of_three_with(configure: fn(&mut ReplicaConfig, &mut farrier_zab::Config)) -> Self {
        let mut c = Self::new(&[1, 2, 3], configure);
        for s in [1, 2, 3] {
            c.start(s);
        }
        c.settle();
        c
    }

    pub(crate) fn start(&mut self, server: i64) {
        let mut config = ReplicaConfig { server_id: ServerId(server), ..config() };
        let mut zab = farrier_zab::Config::new(ServerId(server));
        zab.seed = server.unsigned_abs();
        (self.configure)(&mut config, &mut zab);
        let voters: BTreeSet<ServerId> = self.members.iter().map(|s| ServerId(*s)).collect();
        let text = Bytes::from_static(b"server.1=a\nversion=0");
        config.config_node = Some((text.to_vec(), 0));
        let ensemble = Ensemble::new(0, voters, BTreeSet::new(), QuorumVerifier::Majority, text).expect("an ensemble");
        let now = self.now;
        let s = self.server(server);
        let durable = Durable {
            accepted: s.disk.accepted,
            current: s.disk.current,
            last_logged: s.disk.last(),
            recovering: Recovering::No,
        };
        let state = s.disk.load(&config);
        assert_eq!(state.warnings(), [""; 0]);
        s.replica = Some(Replica::ensemble(config, zab, ensemble, durable, state, 0, now));
        for other in self.running() {
            if other != server {
                self.say(server, Zab::ElectionUp { peer: ServerId(other) });
                self.say(other, Zab::ElectionUp { peer: ServerId(server) });
                for (from, to) in [(server, other), (other, server)] {
                    if let Some(n) = self.last_said.get(&(from, to)).cloned() {
                        self.say(to, Zab::Notification { from: ServerId(from), notification: n });
                    }
                }
            }
        }
        self.run();
    }

    /// Kills a server: what is not on its disk is lost.
    pub(crate) fn crash(&mut self, server: i64) {
        let s = self.server(server);
        s.replica = None;
        s.writes.clear();
        self.events.retain(|(to, _)| *to != server);
        self.last_said.retain(|(from, _), _| *from != server);
        let mut lost = Vec::new();
        for (id, link) in &mut self.links {
            if link.open.remove(&server) {
                lost.extend(link.open.iter().map(|other| (*other, *id)));
            }
        }
        for (other, link) in lost {
            self.say(other, Zab::LinkDown { link });
        }
        for other in self.running() {
            self.say(other, Zab::ElectionDown { peer: ServerId(server) });
        }
        for conn in self.conns.values_mut().filter(|c| c.server == server) {
            conn.closed = true;
        }
        self.run();
    }

    /// Every server stops. Its disk then holds a snapshot of all that it held, without this session, and no log.
    pub(crate) fn stop_and_forget(&mut self, lost: SessionId) {
        for server in self.running() {
            self.crash(server);
            let mut state = self.servers[&server].disk.load(&config());
            let mut stored = Stored::of(&state.image());
            stored.sessions.retain(|(session, _)| *session != lost);
            let disk = &mut self.server(server).disk;
            (disk.base, disk.log) = (Some(stored), Vec::new());
        }
    }

    pub(crate) fn running(&self) -> Vec<i64> {
        self.servers.iter().filter(|(_, s)| s.replica.is_some()).map(|(id, _)| *id).collect()
    }

    fn scheduled(&self) -> Vec<i64> {
        self.running().into_iter().filter(|s| !self.frozen.contains_key(s)).collect()
    }

    /// The server is not scheduled; what is sent to it waits in its sockets.
    pub(crate) fn freeze(&mut self, server: i64) {
        self.run();
        self.frozen.insert(server, Vec::new());
    }

    pub(crate) fn thaw(&mut self, server: i64) {
        let waiting = self.frozen.remove(&server).expect("a frozen server");
        self.events.extend(waiting.into_iter().map(|input| (server, input)));
    }

    pub(crate) fn fire(&mut self, server: i64) {
        self.step(server, Input::TimerFired);
    }

    /// Wishes of whoever runs the server.
    pub(crate) fn ask(&mut self, server: i64, input: Input<'static>) {
        self.step(server, input);
    }

    /// The open link between a learner and its leader.
    pub(crate) fn link(&self, learner: i64) -> LinkId {
        let open = self.links.iter().rev().find(|(_, l)| l.dialler == learner && l.open.len() == 2);
        *open.expect("a link").0
    }

    /// Gives a server what another one might have sent.
    pub(crate) fn inject(&mut self, to: i64, input: Zab) {
        self.say(to, input);
        self.run();
    }

    /// The log on a server's disk.
    pub(crate) fn log(&self, server: i64) -> &[(Zxid, Bytes)] {
        &self.servers[&server].disk.log
    }

    fn server(&mut self, server: i64) -> &mut Server {
        self.servers.get_mut(&server).expect("a member")
    }

    pub(crate) fn replica(&self, server: i64) -> &Replica {
        self.servers[&server].replica.as_ref().expect("a running server")
    }

    pub(crate) fn reset_connection_stats(&mut self, server: i64) {
        self.server(server).replica.as_mut().expect("a running server").reset_connection_stats();
    }

    pub(crate) fn hold_disk(&mut self, server: i64, held: bool) {
        self.server(server).disk_held = held;
        self.run();
    }

    pub(crate) fn leader(&self) -> i64 {
        let leads = |s: &&i64| {
            let status = self.replica(**s).peer_status().expect("a member of an ensemble");
            status.epoch.is_some() && status.leader == Some(ServerId(**s))
        };
        let running = self.running();
        let leaders: Vec<_> = running.iter().filter(leads).copied().collect();
        assert_eq!(leaders.len(), 1, "leaders: {leaders:?}; notes: {:#?}", self.notes);
        leaders[0]
    }

    pub(crate) fn followers(&self) -> Vec<i64> {
        let leader = self.leader();
        self.running().into_iter().filter(|s| *s != leader).collect()
    }

    fn say(&mut self, to: i64, input: Zab) {
        self.events.push_back((to, Input::Zab(input)));
    }

    /// Lets everything happen that needs no time.
    pub(crate) fn run(&mut self) {
        loop {
            while let Some((to, input)) = self.events.pop_front() {
                match self.frozen.get_mut(&to) {
                    Some(waiting) => waiting.push(input),
                    None => self.step(to, input),
                }
            }
            for id in self.scheduled() {
                self.run_disk(id);
            }
            if self.events.is_empty() {
                return;
            }
        }
    }

    fn run_disk(&mut self, id: i64) {
        let s = self.server(id);
        if s.disk_held {
            return;
        }
        let config = config();
        let mut done = Vec::new();
        for write in s.writes.drain(..) {
            let disk = &mut s.disk;
            done.push(match write {
                Write::Append(id, zxid, txn) => {
                    assert!(zxid.follows(disk.last()), "the log is one history");
                    disk.log.push((zxid, txn));
                    Input::Durable { id }
                }
                Write::Accepted(id, epoch) => {
                    disk.accepted = epoch;
                    Input::Durable { id }
                }
                Write::Current(id, epoch) => {
                    disk.current = epoch;
                    Input::Durable { id }
                }
                Write::Truncate(id, after) => {
                    assert!(after >= disk.floor(), "the log reaches back so far");
                    disk.log.retain(|(zxid, _)| *zxid <= after);
                    Input::Truncated { id, state: Some(Box::new(disk.load(&config))) }
                }
                Write::Install(id, epoch, state) => {
                    disk.base = Some(state);
                    disk.log.clear();
                    disk.current = epoch;
                    Input::Durable { id }
                }
                Write::Reload(id) => Input::Reloaded { id, state: Box::new(disk.load(&config)) },
            });
        }
        self.events.extend(done.into_iter().map(|input| (id, input)));
    }

    fn step(&mut self, to: i64, input: Input<'_>) {
        let now = self.now;
        let link = match &input {
            Input::Zab(Zab::LinkDown { link } | Zab::LearnerPacket { link, .. } | Zab::LeaderPacket { link, .. })
            | Input::SnapReceived { link, .. } => Some(*link),
            _ => None,
        };
        if link.is_some_and(|l| !self.links[&l].open.contains(&to)) {
            return;
        }
        let Some(replica) = &mut self.server(to).replica else { return };
        let mut out = Actions::default();
        replica.foresee_inputs(std::slice::from_ref(&input));
        replica.step(now, input, &mut out);
        let bytes = std::mem::take(&mut out.bytes);
        for action in out.list {
            self.act(to, action, &bytes);
        }
    }

    fn act(&mut self, me: i64, action: Action, bytes: &[u8]) {
        match action {
            Action::Send { conn, start, end } => {
                let conn = self.conns.get_mut(&conn).expect("a connection");
                assert!(!conn.closed, "nothing is sent to a closed connection");
                conn.received.extend_from_slice(&bytes[start..end]);
            }
            Action::CloseClient { conn } => self.conns.get_mut(&conn).expect("a connection").closed = true,
            Action::PauseClient { conn } => self.conns.get_mut(&conn).expect("a connection").paused = true,
            Action::ResumeClient { conn } => self.conns.get_mut(&conn).expect("a connection").paused = false,
            Action::ReportFlush { conn } if self.conns[&conn].stuck => {}
            Action::ReportFlush { conn } => self.events.push_back((me, Input::Flushed { conn })),
            Action::Append { id, zxid, txn } => self.server(me).writes.push_back(Write::Append(id, zxid, txn)),
            Action::SavePending { .. } => unreachable!("nobody reconfigures in these tests"),
            Action::RaiseRecovering { .. } => unreachable!("no disk of these tests is fresh"),
            Action::SaveAcceptedEpoch { id, epoch } => self.server(me).writes.push_back(Write::Accepted(id, epoch)),
            Action::SaveCurrentEpoch { id, epoch } => self.server(me).writes.push_back(Write::Current(id, epoch)),
            Action::Truncate { id, after } => self.server(me).writes.push_back(Write::Truncate(id, after)),
            Action::InstallSnapshot { id, epoch, image } => {
                let state = Stored::of(&*image);
                self.server(me).writes.push_back(Write::Install(id, epoch, state));
            }
            Action::Reload { id } => self.server(me).writes.push_back(Write::Reload(id)),
            Action::RollLog => {}
            Action::TakeSnapshot { image } => {
                let s = self.server(me);
                let asked = s.writes.iter().any(|w| matches!(w, Write::Append(_, z, _) if *z == image.zxid()));
                assert!(asked || image.zxid() <= s.disk.last(), "a snapshot is never ahead of the log");
                assert_shows_its_digest(&*image);
                self.snapshots += 1;
                self.events.push_back((me, Input::SnapshotDone { error: None }));
            }
            Action::Locate { read, link, zxid } => {
                let disk = &self.server(me).disk;
                let behind = disk.log.iter().filter(|(z, _)| *z > zxid).map(|(_, t)| t.len() as u64).sum();
                let known = disk.log.iter().map(|(z, _)| *z).rev().find(|z| *z <= zxid);
                let before = known.or_else(|| (disk.floor() <= zxid).then(|| disk.floor()));
                let located = Some(Located { before, bytes_behind: behind, snapshot_bytes: 1 << 30 });
                self.say(me, Zab::Located { read, link, located });
            }
            Action::ReadTxns { read, link, after, to } => {
                let log = &self.server(me).disk.log;
                let txns = log.iter().filter(|(z, _)| *z > after && *z <= to).cloned().collect();
                self.say(me, Zab::TxnsRead { read, link, txns });
            }
            Action::Notify { to, notification } => {
                self.last_said.insert((me, to.0), notification.clone());
                self.say(to.0, Zab::Notification { from: ServerId(me), notification });
            }
            Action::Dial { leader } => {
                if self.servers[&leader.0].replica.is_none() {
                    return self.say(me, Zab::DialFailed { leader });
                }
                let link = LinkId(self.name());
                let open = BTreeSet::from([me, leader.0]);
                self.links.insert(link, Link { dialler: me, acceptor: leader.0, open });
                self.say(leader.0, Zab::LinkUp { link, kind: LinkKind::Learner });
                self.say(me, Zab::LinkUp { link, kind: LinkKind::Leader(leader) });
            }
            Action::SendLeader { link, packet } => {
                let to = self.links[&link].acceptor;
                self.say(to, Zab::LearnerPacket { link, packet });
            }
            Action::SendLearner { link, packet } => {
                let to = self.links[&link].dialler;
                let packet = match packet {
                    LeaderPacket::Proposal { zxid, txn } if self.misled.contains(&to) => {
                        LeaderPacket::Proposal { zxid, txn: with_digest_off(&txn, &mut self.off_by) }
                    }
                    packet => packet,
                };
                self.say(to, Zab::LeaderPacket { link, packet });
            }
            Action::SendSnapshot { link, image } => {
                self.streams += 1;
                let stored = Stored::of(&*image);
                let mut state = TreeRestore::new(config().tree, 1);
                stored.feed(&mut state);
                let to = self.links[&link].dialler;
                let input = Input::SnapReceived { link, zxid: stored.zxid, state: Box::new(state) };
                self.events.push_back((to, input));
            }
            Action::ReportLinkFlush { link } => self.say(me, Zab::Flushed { link }),
            Action::PauseLink { link } => assert!(self.links_paused.insert((me, link)), "paused once"),
            Action::ResumeLink { link } => assert!(self.links_paused.remove(&(me, link)), "resumed when paused"),
            Action::CloseLink { link, .. } => {
                let l = self.links.get_mut(&link).expect("a link");
                l.open.remove(&me);
                for other in l.open.clone() {
                    self.say(other, Zab::LinkDown { link });
                }
            }
            Action::Note { text, .. } => {
                assert!(!self.misled.is_empty() || !text.contains("digest mismatch"), "{me}: {text}");
                self.notes.push((me, text));
            }
            Action::Activate { .. } => {}
            Action::Stopped => self.server(me).replica = None,
            Action::Halt { reason } => panic!("{me} halts: {reason}"),
        }
    }

    fn name(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Lets time pass, with timers firing when they are due.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.run();
        let end = self.now.mono + ms;
        loop {
            let due = self.scheduled().into_iter().filter_map(|s| Some((self.replica(s).next_deadline()?, s))).min();
            let Some((at, server)) = due.filter(|(at, _)| *at <= end) else { break };
            self.advance(at.saturating_sub(self.now.mono));
            self.step(server, Input::TimerFired);
            self.run();
        }
        self.advance(end - self.now.mono);
    }

    /// The clock goes on and nobody notices.
    pub(crate) fn advance(&mut self, ms: u64) {
        self.now.mono += ms;
        self.now.wall += ms.cast_signed();
    }

    /// Until every server that runs serves.
    pub(crate) fn settle(&mut self) {
        for _ in 0..200 {
            if self.running().iter().all(|s| self.replica(*s).is_serving()) {
                return;
            }
            self.pass(100);
        }
        panic!("no leader for everybody: {:#?}", self.notes);
    }

    // ---- clients ----

    pub(crate) fn dial(&mut self, server: i64) -> ConnId {
        let conn = ConnId(self.name());
        self.conns.insert(conn, Conn { server, ..Conn::default() });
        let peer = "127.0.0.1:40000".parse().expect("an address");
        self.step(server, Input::ClientUp { conn, peer });
        conn
    }

    pub(crate) fn frame(&mut self, conn: ConnId, frame: &[u8]) {
        assert!(!self.is_closed(conn), "{conn:?} is closed");
        assert!(!self.conns[&conn].paused, "{conn:?} is paused");
        let server = self.conns[&conn].server;
        self.step(server, Input::ClientFrame { conn, frame });
    }

    pub(crate) fn is_closed(&self, conn: ConnId) -> bool {
        self.conns[&conn].closed
    }

    pub(crate) fn is_paused(&self, conn: ConnId) -> bool {
        self.conns[&conn].paused
    }

    /// What is sent to this client from now on does not leave the server.
    pub(crate) fn stop_taking(&mut self, conn: ConnId) {
        self.conns.get_mut(&conn).expect("a connection").stuck = true;
    }

    pub(crate) fn connect(&mut self, server: i64, timeout: i32) -> Client {
        let conn = self.dial(server);
        self.frame(conn, &connect_frame(timeout, SessionId::NONE, &[0; 16], 0));
        self.run();
        let session = self.connected(conn).expect("a session");
        Client { conn, session }
    }

    /// The session in the answer to a connect request; `None` if there is no answer, or it is "expired".
    pub(crate) fn connected(&mut self, conn: ConnId) -> Option<SessionId> {
        let frames = self.frames(conn);
        let response = ConnectResponse::read(&mut Reader::new(frames.first()?)).expect("a connect response");
        (response.timeout > 0).then_some(response.session)
    }

    /// Takes a session along to a server.
    pub(crate) fn reattach(&mut self, server: i64, session: SessionId) -> Option<Client> {
        let conn = self.dial(server);
        self.frame(conn, &connect_frame(10_000, session, &password(session), 0));
        self.run();
        self.connected(conn).map(|session| Client { conn, session })
    }

    pub(crate) fn request(&mut self, client: Client, xid: i32, op: OpCode, body: &[u8]) {
        self.frame(client.conn, &request(xid, op, body));
    }

    pub(crate) fn frames(&mut self, conn: ConnId) -> Vec<Vec<u8>> {
        let bytes = std::mem::take(&mut self.conns.get_mut(&conn).expect("a connection").received);
        let mut rest = &bytes[..];
        let mut frames = Vec::new();
        while let Some(prefix) = rest.first_chunk::<4>() {
            let len = i32::from_be_bytes(*prefix) as usize;
            frames.push(rest[4..4 + len].to_vec());
            rest = &rest[4 + len..];
        }
        frames
    }

    /// Xids and errors of what arrived, after everything that needs no time.
    pub(crate) fn replies(&mut self, client: Client) -> Vec<(i32, i32)> {
        self.run();
        let header = |f: &Vec<u8>| ReplyHeader::read(&mut Reader::new(f)).expect("a reply header");
        self.frames(client.conn).iter().map(header).map(|h| (h.xid.0, h.err)).collect()
    }

    /// All running servers are at one transaction, with one tree.
    pub(crate) fn assert_equal(&mut self) {
        self.run();
        let of = |s: i64| {
            let tree = self.replica(s).tree();
            (tree.zxid(), tree.digest(), tree.node_count(), tree.sessions().collect::<Vec<_>>())
        };
        let all: Vec<_> = self.running().into_iter().map(of).collect();
        assert!(all.windows(2).all(|w| w[0] == w[1]), "{all:#?}");
        for s in self.running() {
            assert_eq!(self.replica(s).stats().digest_mismatches, 0);
        }
    }
}
