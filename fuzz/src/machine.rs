//! The whole replica, driven by choices: a few connections send frames, valid and not, in any order with
//! completions of the log, the passing of time, flushes and ends.
//!
//! Besides never panicking: replies leave each connection in the order of its requests, nothing leaves
//! a closed connection, no reply shows a write that is not durable, and zxids never go back.

use crate::disk::{survives, tree_config, zxid};
use crate::input::Choices;
use farrier_proto::client::{ConnectRequest, ConnectResponse, ReplyHeader, RequestHeader};
use farrier_proto::jute::{put_buffer, put_i32, put_i64};
use farrier_proto::multi::put_end;
use farrier_proto::{Field as _, OpCode, Reader, SessionId, Xid, Zxid};
use farrier_replica::{
    Action, Actions, ConnId, ContainerConfig, Input, Replica, ReplicaConfig, Time, TreeRestore, WriteId,
};
use farrier_storage::{LoggedTxn, Restore as _};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};

fn config(choices: &mut Choices<'_>) -> ReplicaConfig {
    let variant = choices.byte();
    let mut tree = tree_config();
    tree.enforce_quota = variant & 1 == 1;
    ReplicaConfig {
        snap_count: 20,
        image_slice: if variant & 4 == 4 { 1 } else { 4096 },
        jute_max_buffer: if variant & 2 == 2 { 4096 } else { 0xf_ffff },
        txn_max: if variant & 2 == 2 { 8192 } else { 2 * 0xf_ffff },
        global_outstanding_limit: if variant & 4 == 4 { 3 } else { 1000 },
        request_throttle_max: if variant & 8 == 8 { 4 } else { 0 },
        throttled_op_wait: if variant & 16 == 16 { 500 } else { 0 },
        drop_stale_requests: variant & 128 == 128,
        large_request_threshold: (variant & 32 == 32).then_some(60),
        large_request_max_bytes: 400,
        container: ContainerConfig { check_interval: 1000, max_per_minute: 10_000, max_never_used: 3000 },
        enforce_auth_schemes: if variant & 64 == 64 { vec!["digest".into()] } else { Vec::new() },
        reconfig_enabled: variant & 1 == 1,
        tree,
        seed: 5,
        ..ReplicaConfig::default()
    }
}

/// A connection as its client knows it.
#[derive(Debug, Default)]
struct Client {
    /// Whether the handshake was answered.
    established: bool,
    /// xids in the order in which their replies must come, and what may stand there instead: a ping's
    /// reply has an xid of its own, unless the ping is refused.
    expected: VecDeque<(i32, Option<i32>)>,
    last_zxid: i64,
    flush_asked: bool,
    /// Bytes that it was sent, and how many of them the system has told to have taken.
    sent: u64,
    taken: u64,
}

struct World {
    replica: Replica,
    out: Actions,
    now: Time,
    clients: BTreeMap<ConnId, Client>,
    /// Places that frames are sent from; each holds the newest connection there.
    places: [Option<ConnId>; 3],
    next_conn: u64,
    /// Appended, not durable.
    pending: VecDeque<(WriteId, Zxid)>,
    appended: Zxid,
    durable: Zxid,
    sessions: Vec<(SessionId, [u8; 16])>,
    snapshots: usize,
    frame_max: usize,
    /// From then on requests are not answered.
    stopping: bool,
    ended: bool,
}

impl World {
    fn new(choices: &mut Choices<'_>) -> Self {
        let now = Time { mono: 1000, wall: 1_700_000_000_000 };
        let config = config(choices);
        let frame_max = config.jute_max_buffer;
        let state = TreeRestore::new(config.tree, 3);
        Self {
            replica: Replica::standalone(config, state, Zxid::ZERO, 0, now),
            out: Actions::default(),
            now,
            clients: BTreeMap::new(),
            places: [None; 3],
            next_conn: 1,
            pending: VecDeque::new(),
            appended: Zxid::ZERO,
            durable: Zxid::ZERO,
            sessions: Vec::new(),
            snapshots: 0,
            frame_max,
            stopping: false,
            ended: false,
        }
    }

    fn step(&mut self, input: Input<'_>) {
        self.replica.step(self.now, input, &mut self.out);
        let bytes = std::mem::take(&mut self.out.bytes);
        for action in std::mem::take(&mut self.out.list) {
            assert!(!self.ended, "nothing follows the end: {action:?}");
            match action {
                Action::Send { conn, start, end } => self.sent(conn, &bytes[start..end]),
                Action::CloseClient { conn } => {
                    self.clients.remove(&conn);
                }
                Action::ReportFlush { conn } => {
                    self.clients.get_mut(&conn).expect("a closed connection is not asked").flush_asked = true;
                }
                Action::Append { id, zxid, .. } => {
                    assert!(zxid.follows(self.appended), "the log is one history");
                    self.appended = zxid;
                    self.pending.push_back((id, zxid));
                }
                Action::TakeSnapshot { image } => {
                    use farrier_storage::Image as _;
                    assert!(image.zxid() <= self.durable, "a snapshot is never ahead of the log");
                    self.snapshots += 1;
                }
                Action::Stopped | Action::Halt { .. } => self.ended = true,
                Action::PauseClient { conn } | Action::ResumeClient { conn } => {
                    assert!(self.clients.contains_key(&conn), "a closed connection is not heard of again");
                }
                Action::Note { .. } | Action::RollLog => {}
                Action::SavePending { .. }
                | Action::RaiseRecovering { .. }
                | Action::Activate { .. }
                | Action::SaveAcceptedEpoch { .. }
                | Action::SaveCurrentEpoch { .. }
                | Action::Truncate { .. }
                | Action::InstallSnapshot { .. }
                | Action::Reload { .. }
                | Action::Locate { .. }
                | Action::ReadTxns { .. }
                | Action::Notify { .. }
                | Action::Dial { .. }
                | Action::SendLeader { .. }
                | Action::SendLearner { .. }
                | Action::SendSnapshot { .. }
                | Action::ReportLinkFlush { .. }
                | Action::PauseLink { .. }
                | Action::ResumeLink { .. }
                | Action::CloseLink { .. } => panic!("a standalone server has no peers: {action:?}"),
            }
        }
    }

    fn sent(&mut self, conn: ConnId, frames: &[u8]) {
        let client = self.clients.get_mut(&conn).expect("nothing is sent to a closed connection");
        client.sent += frames.len() as u64;
        let mut reader = Reader::new(frames);
        while !reader.is_empty() {
            let frame = reader.buffer().expect("whole frames").expect("not null");
            if !client.established {
                let answer = ConnectResponse::read(&mut Reader::new(frame)).expect("the answer to a handshake");
                if answer.timeout > 0 {
                    client.established = true;
                    self.sessions.push((answer.session, answer.password));
                }
                continue;
            }
            let header = ReplyHeader::read(&mut Reader::new(frame)).expect("a reply");
            if header.xid == Xid::NOTIFICATION {
                assert!(header.zxid <= self.durable.to_wire(), "an event of a write that is not durable");
                continue;
            }
            let (xid, instead) = client.expected.pop_front().expect("a reply answers a request");
            if Some(header.xid.0) != instead {
                assert_eq!(header.xid.0, xid, "replies leave in the order of requests");
            }
            if header.zxid > 0 {
                assert!(header.zxid <= self.durable.to_wire(), "a reply shows a write that is not durable");
                assert!(header.zxid >= client.last_zxid, "a client's zxid went back");
                client.last_zxid = header.zxid;
            }
        }
    }

    /// A completion for the oldest `n` writes.
    fn complete(&mut self, n: usize) {
        let mut newest = None;
        for _ in 0..n {
            newest = self.pending.pop_front().or(newest);
        }
        let Some((id, zxid)) = newest else { return };
        self.durable = zxid;
        self.step(Input::Durable { id });
    }

    fn connect(&mut self, choices: &mut Choices<'_>, place: usize) {
        if let Some(old) = self.places[place].take()
            && self.clients.remove(&old).is_some()
        {
            self.step(Input::ClientDown { conn: old });
        }
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.places[place] = Some(conn);
        self.clients.insert(conn, Client::default());
        self.step(Input::ClientUp { conn, peer: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1) });
        let known = if choices.one_in(2) && !self.sessions.is_empty() {
            Some(self.sessions[choices.below(self.sessions.len())])
        } else {
            None
        };
        let mut frame = Vec::new();
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: if choices.one_in(16) { zxid(1 << 33) } else { Zxid::ZERO },
            timeout: if choices.one_in(4) { choices.int() } else { 5000 },
            session: known.map_or(SessionId::NONE, |(s, _)| s),
            password: Some(known.map_or([0; 16], |(_, p)| p).to_vec().into()),
            read_only: Some(false),
        }
        .write(&mut frame);
        if choices.one_in(16) {
            frame.truncate(choices.below(frame.len()));
        }
        self.frame(conn, &frame);
    }

    fn frame(&mut self, conn: ConnId, frame: &[u8]) {
        if self.replica.takes_frames(conn) {
            self.step(Input::ClientFrame { conn, frame });
        }
    }

    fn request(&mut self, choices: &mut Choices<'_>, conn: ConnId) {
        let Some(client) = self.clients.get_mut(&conn) else { return };
        if !client.established || !self.replica.takes_frames(conn) {
            return;
        }
        // Never that of a notification; -2, -4 and -8 are what clients use.
        let xid = [1, 2, 3, -2, -4, -8, i32::MAX][choices.below(7)];
        let code = op_code(choices);
        let mut frame = Vec::new();
        RequestHeader { xid: Xid(xid), op: code }.write(&mut frame);
        put_body(choices, code, &mut frame);
        if choices.one_in(12) {
            let at = 8 + choices.below(frame.len().max(9) - 8);
            frame.truncate(at);
        }
        if choices.one_in(12) && frame.len() > 8 {
            let at = 8 + choices.below(frame.len() - 8);
            frame[at] = choices.byte();
        }
        // The shell hands over no longer ones.
        if frame.len() > self.frame_max {
            return;
        }
        let is_ping = code == OpCode::Ping.code();
        if !self.stopping {
            client.expected.push_back((xid, is_ping.then_some(Xid::PING.0)));
        }
        self.frame(conn, &frame);
    }

    fn act(&mut self, choices: &mut Choices<'_>) {
        let place = choices.below(3);
        let conn = self.places[place].filter(|c| self.clients.contains_key(c));
        match (choices.below(24), conn) {
            (0..=13, Some(conn)) => self.request(choices, conn),
            (0..=13, None) | (14, _) => self.connect(choices, place),
            (15..=17, _) => {
                let n = 1 + choices.below(4);
                self.complete(n);
            }
            (18, _) => self.complete(self.pending.len()),
            (19, _) => {
                self.now.mono += [1, 100, 2000, 9000, 60_000][choices.below(5)];
                self.now.wall += [0, 5000, -5000][choices.below(3)];
                if self.replica.next_deadline().is_some_and(|d| d <= self.now.mono) {
                    self.step(Input::TimerFired);
                }
            }
            (20, Some(conn)) => {
                let client = self.clients.get_mut(&conn).expect("it was looked up");
                if client.flush_asked && choices.below(4) == 0 {
                    client.taken += (client.sent - client.taken) / 2;
                    let taken = client.taken;
                    self.step(Input::Draining { conn, taken });
                } else if std::mem::take(&mut client.flush_asked) {
                    self.step(Input::Flushed { conn });
                }
            }
            (21, Some(conn)) => {
                let client = self.clients.get_mut(&conn).expect("it was looked up");
                if client.established && self.replica.takes_frames(conn) {
                    if !self.stopping {
                        client.expected.push_back((9, None));
                    }
                    self.step(Input::ClientOversized { conn, head: [0, 0, 0, 9, 0, 0, 0, 1], len: 2 << 20 });
                }
            }
            (22, _) if self.snapshots > 0 => {
                self.snapshots -= 1;
                let error = choices.one_in(2).then(|| "a full disk".to_owned());
                self.step(Input::SnapshotDone { error });
            }
            (23, Some(conn)) if choices.one_in(4) => {
                self.clients.remove(&conn);
                self.step(Input::ClientDown { conn });
            }
            (23, _) if choices.one_in(64) => {
                self.stopping = true;
                self.step(Input::Stop);
            }
            (23, _) if choices.one_in(64) => self.step(Input::WriteFailed { error: "a broken disk".into() }),
            _ => {}
        }
    }
}

fn op_code(choices: &mut Choices<'_>) -> i32 {
    const COMMON: [i32; 12] = [1, 1, 1, 2, 5, 14, 14, 15, 3, 4, 8, 106];
    const ALL: [i32; 31] = [
        0, 6, 7, 9, 11, 12, 13, 16, 17, 18, 19, 20, 21, 22, 100, 101, 102, 103, 104, 105, 107, -10, -11, -1, 3, 4, 8,
        12, 19, 21, 99,
    ];
    if choices.one_in(2) { ALL[choices.below(ALL.len())] } else { COMMON[choices.below(COMMON.len())] }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_buffer(out, Some(text.as_bytes()));
}

fn put_acl(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    const ENTRIES: [(i32, &str, &str); 6] = [
        (31, "world", "anyone"),
        (1, "world", "anyone"),
        (31, "auth", ""),
        (31, "digest", "u:x"),
        (31, "ip", "127.0.0.1/8"),
        (0, "none", ""),
    ];
    let entries: Vec<_> = match choices.below(10) {
        0 => return put_i32(out, -1),
        1 => Vec::new(),
        2 => ENTRIES[choices.below(6)..].to_vec(),
        3 => vec![ENTRIES[choices.below(6)]],
        _ => vec![ENTRIES[0]],
    };
    put_i32(out, entries.len() as i32);
    for (perms, scheme, id) in entries {
        put_i32(out, perms);
        put_text(out, scheme);
        put_text(out, id);
    }
}

/// Fields that suit the operation, with values that need not.
fn put_body(choices: &mut Choices<'_>, code: i32, out: &mut Vec<u8>) {
    match OpCode::from_code(code) {
        Some(OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl) => {
            put_text(out, choices.path());
            put_buffer(out, choices.data().as_deref());
            put_acl(choices, out);
            put_i32(out, choices.int());
            if code == OpCode::CreateTtl.code() {
                put_i64(out, choices.long());
            }
        }
        Some(OpCode::Delete | OpCode::Check | OpCode::AddWatch | OpCode::CheckWatches | OpCode::RemoveWatches) => {
            put_text(out, choices.path());
            put_i32(out, choices.int());
        }
        Some(OpCode::SetData) => {
            put_text(out, choices.path());
            put_buffer(out, choices.data().as_deref());
            put_i32(out, choices.int());
        }
        Some(OpCode::SetAcl) => {
            put_text(out, choices.path());
            put_acl(choices, out);
            put_i32(out, choices.int());
        }
        Some(OpCode::Multi) => {
            for _ in 0..choices.below(5) {
                let code = [1, 2, 5, 13, 15, 19, 21, 1, 5][choices.below(9)];
                put_i32(out, code);
                out.push(0);
                put_i32(out, -1);
                put_body(choices, code, out);
            }
            put_end(out);
        }
        Some(OpCode::MultiRead) => {
            for _ in 0..choices.below(5) {
                put_i32(out, [4, 8][choices.below(2)]);
                out.push(0);
                put_i32(out, -1);
                put_text(out, choices.path());
                out.push(0);
            }
            put_end(out);
        }
        Some(OpCode::SetWatches | OpCode::SetWatches2) => {
            put_i64(out, choices.long());
            for _ in 0..if code == 101 { 3 } else { 5 } {
                let n = choices.below(3);
                put_i32(out, n as i32);
                for _ in 0..n {
                    put_text(out, choices.path());
                }
            }
        }
        Some(OpCode::Auth) => {
            put_i32(out, 0);
            put_text(out, ["digest", "world", "ip", "x509", ""][choices.below(5)]);
            put_text(out, ["u:p", "", "v:q"][choices.below(3)]);
        }
        Some(OpCode::Reconfig) => {
            for _ in 0..3 {
                put_buffer(out, None);
            }
            put_i64(out, -1);
        }
        Some(
            OpCode::Exists
            | OpCode::GetData
            | OpCode::GetAcl
            | OpCode::GetChildren
            | OpCode::GetChildren2
            | OpCode::Sync
            | OpCode::GetEphemerals
            | OpCode::GetAllChildrenNumber
            | OpCode::DeleteContainer,
        ) => {
            put_text(out, choices.path());
            out.push(choices.byte() & 1);
        }
        Some(OpCode::Sasl | OpCode::Ping | OpCode::WhoAmI | OpCode::CreateSession | OpCode::CloseSession) | None => {
            out.extend_from_slice(choices.take(4));
        }
    }
}

/// See the module.
pub fn fuzz_replica(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut world = World::new(&mut choices);
    while !choices.is_empty() && !world.ended {
        world.act(&mut choices);
    }
    if world.ended {
        return;
    }
    // Once everything is durable and taken, every request that still has a connection is answered.
    for _ in 0..1000 {
        let asked: Vec<ConnId> =
            world.clients.iter_mut().filter_map(|(id, c)| std::mem::take(&mut c.flush_asked).then_some(*id)).collect();
        if world.pending.is_empty() && asked.is_empty() {
            break;
        }
        world.complete(world.pending.len());
        for conn in asked {
            world.step(Input::Flushed { conn });
        }
    }
    for (conn, client) in &world.clients {
        assert!(
            client.expected.is_empty() || !world.replica.takes_frames(*conn),
            "{conn:?} waits for {:?}, and nothing is outstanding",
            client.expected
        );
    }
    world.step(Input::Stop);
    world.complete(world.pending.len());
    assert!(world.ended, "a stop ends");
}

/// Transactions in any order and with any content, as a replay could meet them: none panics, and the
/// state that they make survives a snapshot.
pub fn fuzz_apply(data: &[u8]) {
    use farrier_proto::txn::{
        CheckVersionTxn, CreateContainerTxn, CreateTtlTxn, CreateTxn, SetAclTxn, SetDataTxn, write_txn,
    };
    use farrier_proto::{Acl, Txn, TxnHeader};

    fn txn(choices: &mut Choices<'_>, depth: usize) -> Txn<'static> {
        let path = choices.path().into();
        let acl = |choices: &mut Choices<'_>| {
            let one = Acl::world(choices.int());
            vec![one; choices.below(3)]
        };
        let data = |choices: &mut Choices<'_>| choices.data().map(Into::into);
        match choices.below(15) {
            0 => Txn::Error(choices.int()),
            1 => Txn::CreateSession(choices.int()),
            2 => Txn::CloseSession(None),
            3 => Txn::CloseSession(Some((0..choices.below(3)).map(|_| choices.path().into()).collect())),
            4..=6 => {
                let ephemeral = choices.one_in(3);
                let (data, acl, parent_cversion) = (data(choices), acl(choices), choices.int());
                Txn::Create(CreateTxn { path, data, acl, ephemeral, parent_cversion })
            }
            7 => {
                let (data, acl, parent_cversion) = (data(choices), acl(choices), choices.int());
                Txn::CreateContainer(CreateContainerTxn { path, data, acl, parent_cversion })
            }
            8 => {
                let (data, acl, parent_cversion) = (data(choices), acl(choices), choices.int());
                Txn::CreateTtl(CreateTtlTxn { path, data, acl, parent_cversion, ttl: choices.long() })
            }
            9 => Txn::Delete(path),
            10 => Txn::DeleteContainer(path),
            11 => Txn::SetData(SetDataTxn { path, data: data(choices), version: choices.int() }),
            12 => Txn::SetAcl(SetAclTxn { path, acl: acl(choices), version: choices.int() }),
            13 if depth == 0 => Txn::Multi((0..choices.below(5)).map(|_| txn(choices, 1)).collect()),
            13 => Txn::Check(CheckVersionTxn { path, version: choices.int() }),
            _ => Txn::Reconfig(SetDataTxn { path, data: data(choices), version: choices.int() }),
        }
    }

    let mut choices = Choices::new(data);
    let mut state = TreeRestore::new(tree_config(), 3);
    let mut z = 0;
    while !choices.is_empty() {
        z += 1;
        let txn = txn(&mut choices, 0);
        let session = SessionId(choices.below(3) as i64);
        let time = choices.long();
        let header = TxnHeader { session, cxid: 1, zxid: zxid(z), time, kind: txn.kind().code() };
        let mut bytes = Vec::new();
        write_txn(&mut bytes, &header, &txn, None);
        // What a log cannot hold is no replay.
        let Ok(txn) = LoggedTxn::read(&bytes) else { continue };
        if state.replay(&txn).is_err() {
            return;
        }
    }
    survives(&mut state);
}

/// Watches against the plainest model: who was told what, and when.
pub fn fuzz_watches(data: &[u8]) {
    use farrier_proto::client::{EventType, WatcherType};
    use farrier_tree::{WatchKind, WatchTable};

    const KINDS: [WatchKind; 4] = [WatchKind::Data, WatchKind::Child, WatchKind::Persistent, WatchKind::Recursive];
    let mut choices = Choices::new(data);
    let mut table: WatchTable<u8> = WatchTable::new();
    while !choices.is_empty() {
        // Events name the root "/", and so does whoever watches it.
        let path = Some(choices.path()).filter(|p| !p.is_empty()).unwrap_or("/");
        let who = choices.byte() % 4;
        match choices.below(6) {
            0..=2 => {
                let kind = KINDS[choices.below(4)];
                table.add(path, who, kind);
                assert!(table.contains(path, who, WatcherType::Any), "what was added is there");
            }
            3 => {
                let kind =
                    [EventType::NodeCreated, EventType::NodeDeleted, EventType::NodeDataChanged][choices.below(3)];
                let mut heard = Vec::new();
                table.trigger(kind, path, &mut |w| heard.push(w));
                let mut once = heard.clone();
                once.sort_unstable();
                once.dedup();
                assert_eq!(once.len(), heard.len(), "nobody hears one event twice");
                assert!(!table.contains(path, who, WatcherType::Data), "one-shot watches are used up");
            }
            4 => {
                let had = table.contains(path, who, WatcherType::Any);
                assert_eq!(table.remove(path, who, WatcherType::Any), had);
                assert!(!table.contains(path, who, WatcherType::Any));
            }
            _ => {
                table.drop_watcher(who);
                assert!(!table.contains(path, who, WatcherType::Any) && !table.data_by_watcher().contains_key(&who));
            }
        }
    }
    for who in 0..4 {
        table.drop_watcher(who);
    }
    assert!(table.is_empty() && table.watch_count() == 0 && table.path_count() == 0 && table.watcher_count() == 0);
}
