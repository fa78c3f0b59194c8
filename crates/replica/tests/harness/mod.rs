//! A replica with a clock, a log and connections that the test holds in its hands.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod ensemble;

use farrier_proto::client::{ConnectRequest, ConnectResponse, ReplyHeader, RequestHeader};
use farrier_proto::{Field, OpCode, Reader, SessionId, Xid, Zxid};
use farrier_replica::{Action, Actions, ConnId, Input, Replica, ReplicaConfig, Time, TreeRestore, WriteId};
use farrier_storage::{Image as _, NodeRecord, Restore as _};
use farrier_tree::TreeConfig;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn config() -> ReplicaConfig {
    ReplicaConfig {
        tree: TreeConfig { extended_types: true, ..TreeConfig::default() },
        seed: 7,
        ..ReplicaConfig::default()
    }
}

/// A replica and everything around it.
pub(crate) struct World {
    pub(crate) replica: Replica,
    pub(crate) now: Time,
    /// Appends that no completion has covered yet.
    pub(crate) appended: Vec<(WriteId, Zxid)>,
    /// Every append so far, and up to which of them all is durable.
    appends: Vec<(WriteId, Zxid)>,
    durable: Zxid,
    /// Completions follow every step at once.
    pub(crate) sync_at_once: bool,
    received: BTreeMap<ConnId, Vec<u8>>,
    /// Bytes that each connection was sent in all.
    sent: BTreeMap<ConnId, u64>,
    pub(crate) closed: BTreeSet<ConnId>,
    pub(crate) paused: BTreeSet<ConnId>,
    pub(crate) flush_asked: BTreeSet<ConnId>,
    pub(crate) snapshots: usize,
    /// What the last of them ends with.
    pub(crate) imaged: Zxid,
    pub(crate) rolls: usize,
    pub(crate) halted: Option<String>,
    pub(crate) stopped: bool,
    pub(crate) notes: Vec<String>,
    next: u64,
}

impl World {
    pub(crate) fn new(config: ReplicaConfig) -> Self {
        Self::at(config, Time { mono: 1_000_000, wall: 1_700_000_000_000 })
    }

    pub(crate) fn at(config: ReplicaConfig, now: Time) -> Self {
        let state = TreeRestore::new(config.tree, config.seed);
        Self::over(Replica::standalone(config, state, Zxid::ZERO, 0, now), now)
    }

    /// Another server on the state of this one, as a snapshot hands it on.
    pub(crate) fn restart_with(&self, config: ReplicaConfig) -> Self {
        self.restart_without(config, SessionId::NONE)
    }

    /// The same, where nothing is left of this session but its ephemerals.
    pub(crate) fn restart_without(&self, config: ReplicaConfig, lost: SessionId) -> Self {
        let image = self.replica.tree().image();
        let mut state = TreeRestore::new(config.tree, config.seed);
        for (session, timeout) in image.sessions().into_iter().filter(|(session, _)| *session != lost) {
            state.session(session, timeout).expect("a session");
        }
        for (key, acl) in image.acls() {
            state.acl(key, acl.to_vec()).expect("a list");
        }
        let visit = &mut |n: farrier_tree::ImageNode<'_>| {
            state.node(NodeRecord { path: n.path, data: n.data, acl: n.acl, stat: n.stat })
        };
        image.nodes(visit).expect("nodes");
        state.loaded(image.zxid(), None).expect("a tree");
        Self::over(Replica::standalone(config, state, image.zxid(), 0, self.now), self.now)
    }

    fn over(replica: Replica, now: Time) -> Self {
        let durable = replica.tree().zxid();
        Self {
            replica,
            now,
            appended: Vec::new(),
            appends: Vec::new(),
            durable,
            sync_at_once: true,
            received: BTreeMap::new(),
            sent: BTreeMap::new(),
            closed: BTreeSet::new(),
            paused: BTreeSet::new(),
            flush_asked: BTreeSet::new(),
            snapshots: 0,
            imaged: Zxid::ZERO,
            rolls: 0,
            halted: None,
            stopped: false,
            notes: Vec::new(),
            next: 1,
        }
    }

    pub(crate) fn step(&mut self, input: Input<'_>) {
        let mut out = Actions::default();
        if let Input::Durable { id } = input {
            let covered = self.appends.iter().filter(|(i, _)| i.0 <= id.0);
            self.durable = covered.map(|(_, zxid)| *zxid).max().expect("a completion quotes an append");
        }
        self.replica.step(self.now, input, &mut out);
        assert!(self.replica.tree().zxid() <= self.durable, "nothing is shown that is not durable");
        for action in std::mem::take(&mut out.list) {
            match action {
                Action::Send { conn, start, end } => {
                    assert!(!self.closed.contains(&conn), "nothing is sent to a closed connection");
                    *self.sent.entry(conn).or_default() += (end - start) as u64;
                    self.received.entry(conn).or_default().extend_from_slice(&out.bytes[start..end]);
                }
                Action::CloseClient { conn } => assert!(self.closed.insert(conn), "closed once"),
                Action::PauseClient { conn } => assert!(self.paused.insert(conn), "paused once"),
                Action::ResumeClient { conn } => assert!(self.paused.remove(&conn), "resumed when paused"),
                Action::ReportFlush { conn } => {
                    self.flush_asked.insert(conn);
                }
                Action::Append { id, zxid, .. } => {
                    self.appended.push((id, zxid));
                    self.appends.push((id, zxid));
                }
                Action::RollLog => self.rolls += 1,
                Action::TakeSnapshot { image } => {
                    ensemble::assert_shows_its_digest(&*image);
                    self.imaged = image.zxid();
                    self.snapshots += 1;
                }
                Action::Note { text, .. } => self.notes.push(text),
                Action::Halt { reason } => self.halted = Some(reason),
                Action::Stopped => self.stopped = true,
                other => panic!("a standalone server has no peers: {other:?}"),
            }
        }
        if self.sync_at_once {
            self.sync();
        }
    }

    /// Everything appended becomes durable.
    pub(crate) fn sync(&mut self) {
        while let Some((id, _)) = self.appended.last().copied() {
            self.appended.clear();
            self.step(Input::Durable { id });
        }
    }

    /// Lets time pass, with the timer firing when it wants to.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.now.mono + ms;
        while let Some(due) = self.replica.next_deadline().filter(|d| *d <= end) {
            let skip = due.saturating_sub(self.now.mono);
            self.now.mono += skip;
            self.now.wall += skip as i64;
            self.step(Input::TimerFired);
        }
        self.now.wall += (end - self.now.mono) as i64;
        self.now.mono = end;
    }

    pub(crate) fn dial(&mut self) -> ConnId {
        let conn = ConnId(self.next);
        self.next += 1;
        let peer = "127.0.0.1:40000".parse().expect("an address");
        self.step(Input::ClientUp { conn, peer });
        conn
    }

    /// Gives a frame, as the shell would: not while the connection is paused.
    pub(crate) fn frame(&mut self, conn: ConnId, frame: &[u8]) {
        assert!(self.replica.takes_frames(conn), "{conn:?} is paused or closed");
        self.step(Input::ClientFrame { conn, frame });
    }

    /// The system takes all that the connection was sent but the last `left` bytes.
    pub(crate) fn drain(&mut self, conn: ConnId, left: u64) {
        let taken = self.sent.get(&conn).copied().unwrap_or(0).saturating_sub(left);
        self.step(Input::Draining { conn, taken });
    }

    /// Everything received since the last call.
    pub(crate) fn take(&mut self, conn: ConnId) -> Vec<u8> {
        self.received.remove(&conn).unwrap_or_default()
    }

    /// The frames received since the last call, without their length words.
    pub(crate) fn frames(&mut self, conn: ConnId) -> Vec<Vec<u8>> {
        let bytes = self.take(conn);
        let mut rest = &bytes[..];
        let mut frames = Vec::new();
        while let Some(prefix) = rest.first_chunk::<4>() {
            let len = i32::from_be_bytes(*prefix) as usize;
            frames.push(rest[4..4 + len].to_vec());
            rest = &rest[4 + len..];
        }
        assert!(rest.is_empty(), "frames are whole");
        frames
    }

    /// Xids and errors of the frames received since the last call.
    pub(crate) fn replies(&mut self, conn: ConnId) -> Vec<(i32, i32)> {
        let header = |f: &Vec<u8>| ReplyHeader::read(&mut Reader::new(f)).expect("a reply header");
        self.frames(conn).iter().map(header).map(|h| (h.xid.0, h.err)).collect()
    }

    pub(crate) fn connect(&mut self, timeout: i32) -> (ConnId, SessionId) {
        let conn = self.dial();
        self.frame(conn, &connect_frame(timeout, SessionId::NONE, &[0; 16], 0));
        let frames = self.frames(conn);
        let response = ConnectResponse::read(&mut Reader::new(&frames[0])).expect("a connect response");
        assert_ne!(response.timeout, 0);
        (conn, response.session)
    }

    pub(crate) fn request(&mut self, conn: ConnId, xid: i32, op: OpCode, body: &[u8]) {
        let frame = request(xid, op, body);
        self.frame(conn, &frame);
    }
}

pub(crate) fn connect_frame(timeout: i32, session: SessionId, password: &[u8], seen: i64) -> Vec<u8> {
    let mut out = Vec::new();
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::from_wire(seen),
        timeout,
        session,
        password: Some(password.into()),
        read_only: Some(false),
    }
    .write(&mut out);
    out
}

pub(crate) fn request(xid: i32, op: OpCode, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    RequestHeader { xid: Xid(xid), op: op.code() }.write(&mut out);
    out.extend_from_slice(body);
    out
}

pub(crate) fn encode<'a>(record: &impl Field<'a>) -> Vec<u8> {
    let mut out = Vec::new();
    record.write(&mut out);
    out
}
