//! kill -9 under write load, again and again, on one directory.
//!
//! Several clients pipeline writes, each in a part of the tree of its own, against a model that predicts
//! every reply. The process is killed at random moments, while it starts too. After each restart the
//! part of every client must be what its model says after all acknowledged writes and *some prefix* of
//! the unanswered ones: nothing acknowledged is missing, nothing is half applied, nothing overtakes.
//!
//! `FARRIER_KILLS` sets the number of kills (100), `FARRIER_SEED` the choices.

mod support;

use farrier_proto::multi::MultiHeader;
use farrier_proto::{Field as _, OpCode, Stat};
use farrier_testkit::enc::{Body, body};
use farrier_testkit::raw::{Answer, Client, Conn, Connect, Handshake, Reply, Sessions};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};
use support::{PATIENCE, Process, Random, tell};

/// Clients that write.
const WRITERS: usize = 3;
/// Longer than any test takes, so that no session expires.
const TIMEOUT: i32 = 600_000;
/// A kill of so many waits for a load first, however slow the machine is.
const LOADED_EVERY: u64 = 8;
/// Acknowledged writes of such a load: more than there are to a snapshot.
const LOAD: u64 = 300;
/// How long such a load may take.
const LOAD_MAX: Duration = Duration::from_secs(20);
const NO_NODE: i32 = -101;
const NODE_EXISTS: i32 = -110;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Node {
    data: Vec<u8>,
    version: i32,
    ephemeral: bool,
}

/// A client's part of the tree, names below its root.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Part {
    nodes: BTreeMap<String, Node>,
    /// Children that `q` ever had: the next sequence number.
    sequence: i32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Op {
    Create { name: String, data: Vec<u8>, ephemeral: bool },
    Sequential { data: Vec<u8> },
    Set { name: String, data: Vec<u8> },
    Delete { name: String },
    Multi(Vec<Self>),
    Get { name: String },
    Close,
}

/// What a reply must say.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Outcome {
    Path(String),
    Version(i32),
    Data(Vec<u8>, i32),
    Done,
    Refused(i32),
    MultiRefused,
}

impl Part {
    fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Create { name, data, ephemeral } => {
                if self.nodes.contains_key(name) {
                    return Outcome::Refused(NODE_EXISTS);
                }
                let node = Node { data: data.clone(), version: 0, ephemeral: *ephemeral };
                self.nodes.insert(name.clone(), node);
                Outcome::Path(name.clone())
            }
            Op::Sequential { data } => {
                let name = format!("q/s-{:010}", self.sequence);
                self.sequence += 1;
                self.apply(&Op::Create { name, data: data.clone(), ephemeral: false })
            }
            Op::Set { name, data } => match self.nodes.get_mut(name) {
                None => Outcome::Refused(NO_NODE),
                Some(node) => {
                    node.data.clone_from(data);
                    node.version += 1;
                    Outcome::Version(node.version)
                }
            },
            Op::Delete { name } => match self.nodes.remove(name) {
                None => Outcome::Refused(NO_NODE),
                Some(_) => Outcome::Done,
            },
            Op::Multi(ops) => {
                let mut next = self.clone();
                for op in ops {
                    if matches!(next.apply(op), Outcome::Refused(_)) {
                        return Outcome::MultiRefused;
                    }
                }
                *self = next;
                Outcome::Done
            }
            Op::Get { name } => match self.nodes.get(name) {
                None => Outcome::Refused(NO_NODE),
                Some(node) => Outcome::Data(node.data.clone(), node.version),
            },
            Op::Close => {
                self.nodes.retain(|_, n| !n.ephemeral);
                Outcome::Done
            }
        }
    }
}

impl Op {
    const fn is_write(&self) -> bool {
        !matches!(self, Self::Get { .. })
    }

    fn code(&self) -> OpCode {
        match self {
            Self::Create { .. } | Self::Sequential { .. } => OpCode::Create,
            Self::Set { .. } => OpCode::SetData,
            Self::Delete { .. } => OpCode::Delete,
            Self::Multi(_) => OpCode::Multi,
            Self::Get { .. } => OpCode::GetData,
            Self::Close => OpCode::CloseSession,
        }
    }

    fn put(&self, root: &str, to: Body) -> Body {
        match self {
            Self::Create { name, data, ephemeral } => to.create(format!("{root}/{name}"), data, i32::from(*ephemeral)),
            Self::Sequential { data } => to.create(format!("{root}/q/s-"), data, 2),
            Self::Set { name, data } => to.s(format!("{root}/{name}")).s(data).i(-1),
            Self::Delete { name } => to.s(format!("{root}/{name}")).i(-1),
            Self::Multi(ops) => ops.iter().fold(to, |b, op| op.put(root, b.op(op.code().code()))).end(),
            Self::Get { name } => to.s(format!("{root}/{name}")).z(0),
            Self::Close => to,
        }
    }
}

/// What the clients together have seen.
#[derive(Debug, Default)]
struct Seen {
    /// zxid of every acknowledged write of the run: none is given twice, not even across a crash.
    zxids: BTreeSet<i64>,
    acknowledged: u64,
    unknown: u64,
    /// Unknown writes that turned out to be applied.
    survived: u64,
    newest: i64,
}

#[derive(Debug)]
struct Writer {
    root: String,
    /// After everything acknowledged.
    part: Part,
    /// Sent and not answered, in order.
    unanswered: VecDeque<(i32, Op)>,
    session: Option<(i64, Vec<u8>)>,
    last_zxid: i64,
    counter: u64,
    random: Random,
}

impl Writer {
    fn set_up(index: usize, seed: u64, addr: SocketAddr) -> Self {
        let root = format!("/w{index}");
        let mut client = Client::open(addr, &Connect { timeout: TIMEOUT, ..Connect::default() }, &Sessions::default())
            .expect("a session");
        let mut part = Part::default();
        client.create(&root, b"").and_then(Reply::ok).expect("a root of one's own");
        for name in ["q", "marker"] {
            client.create(format!("{root}/{name}"), b"").and_then(Reply::ok).expect("a fixed node");
            part.apply(&Op::Create { name: name.into(), data: Vec::new(), ephemeral: false });
        }
        let session = Some((client.session, client.password));
        let random = Random(seed.wrapping_add(index as u64 * 7919));
        Self { root, part, unanswered: VecDeque::new(), session, last_zxid: 0, counter: 0, random }
    }

    fn value(&mut self) -> Vec<u8> {
        self.counter += 1;
        let mut data = format!("{}-{}", self.root, self.counter).into_bytes();
        let len = if self.random.one_in(40) { 20_000 } else { self.random.below(200) };
        data.resize(data.len() + len as usize, b'.');
        data
    }

    /// The next operation, given what the tree will be if everything sent so far is applied.
    fn choose(&mut self, then: &Part, reads_much: bool) -> Op {
        let name = format!("n{}", self.random.below(8));
        if reads_much && self.random.one_in(2) {
            return Op::Get { name };
        }
        match self.random.below(20) {
            0..=3 => Op::Create { name, data: self.value(), ephemeral: false },
            4..=7 => Op::Set { name, data: self.value() },
            8..=9 => Op::Delete { name },
            10..=12 => {
                let queue: Vec<&String> = then.nodes.keys().filter(|n| n.starts_with("q/")).collect();
                if queue.len() > 12 {
                    Op::Delete { name: queue[0].clone() }
                } else {
                    Op::Sequential { data: self.value() }
                }
            }
            13..=14 => {
                let name = format!("e{}", self.random.below(4));
                if then.nodes.contains_key(&name) && self.random.one_in(2) {
                    Op::Delete { name }
                } else {
                    Op::Create { name, data: self.value(), ephemeral: true }
                }
            }
            15..=18 => {
                let pair = self.random.below(3);
                let (a, b) = (format!("m{pair}a"), format!("m{pair}b"));
                let set = Op::Set { name: "marker".into(), data: self.value() };
                let mut ops = if then.nodes.contains_key(&a) {
                    vec![Op::Delete { name: a }, set, Op::Delete { name: b }]
                } else {
                    let data = self.value();
                    vec![
                        Op::Create { name: a, data: data.clone(), ephemeral: false },
                        set,
                        Op::Create { name: b, data, ephemeral: false },
                        Op::Sequential { data: self.value() },
                    ]
                };
                if self.random.one_in(4) {
                    // Refused at its end, so that everything before must be undone.
                    ops.push(Op::Delete { name: "never".into() });
                }
                Op::Multi(ops)
            }
            _ => Op::Get { name },
        }
    }

    fn note(&mut self, reply: &Reply, op: &Op, seen: &Mutex<Seen>) {
        assert!(reply.zxid >= self.last_zxid, "{}: a reply's zxid went back to {:#x}", self.root, reply.zxid);
        if op.is_write() {
            assert!(reply.zxid > self.last_zxid, "{}: a write has the zxid of what came before", self.root);
            let mut seen = seen.lock().expect("another client failed");
            assert!(seen.zxids.insert(reply.zxid), "{}: zxid {:#x} was given to two writes", self.root, reply.zxid);
            seen.acknowledged += 1;
            seen.newest = seen.newest.max(reply.zxid);
        }
        self.last_zxid = reply.zxid;
    }

    /// Compares a reply with the model, which moves on.
    fn check(&mut self, reply: &Reply, op: &Op) {
        let expected = self.part.apply(op);
        let found = read_outcome(reply, op, &self.root);
        assert_eq!(found, expected, "{}: reply {} to {op:?}", self.root, reply.xid);
    }

    fn connect(&mut self, addr: SocketAddr) -> Option<Client> {
        let ask = match &self.session {
            Some((id, password)) => {
                Connect { last_zxid: self.last_zxid, timeout: TIMEOUT, ..Connect::again(*id, password) }
            }
            None => Connect { last_zxid: self.last_zxid, timeout: TIMEOUT, ..Connect::default() },
        };
        let mut conn = Conn::open(addr).ok()?;
        match conn.handshake(&ask).ok()? {
            Handshake::Closed => None,
            Handshake::Response { response, .. } if response.timeout == 0 => {
                panic!("{}: a session that nobody closed is gone", self.root)
            }
            Handshake::Response { response, .. } => {
                let client = Client::on(conn, &response, &Sessions::default()).expect("a session");
                self.session = Some((client.session, client.password.clone()));
                Some(client)
            }
        }
    }

    /// Writes until the server is gone, or the session was closed.
    fn load(&mut self, addr: SocketAddr, seen: &Mutex<Seen>) {
        let Some(mut client) = self.connect(addr) else { return };
        let depth = 1 + self.random.below(64) as usize;
        // Writes behind many reads wait in the server for what stands before them.
        let reads_much = self.random.one_in(3);
        let closes = self.random.one_in(6);
        let mut left = if closes { self.random.below(400) } else { u64::MAX };
        let mut then = self.part.clone();
        let mut closing = false;
        loop {
            while !closing && self.unanswered.len() < depth {
                let op = if left == 0 { Op::Close } else { self.choose(&then, reads_much) };
                left = left.saturating_sub(1);
                closing = op == Op::Close;
                then.apply(&op);
                let bytes = op.put(&self.root, body());
                let Ok(xid) = client.send(op.code().code(), bytes) else { return };
                self.unanswered.push_back((xid, op));
            }
            let until = if closing { 0 } else { depth / 2 };
            while self.unanswered.len() > until {
                let reply = match client.answer(PATIENCE) {
                    Ok(Answer::Reply(reply)) => reply,
                    // The connection may end inside a frame.
                    Ok(Answer::Closed) | Err(_) => return,
                    Ok(Answer::Silent) => panic!("{}: no reply, and the server lives", self.root),
                };
                let (xid, op) = self.unanswered.pop_front().expect("the loop asks for one");
                assert_eq!(reply.xid, xid, "{}: replies leave in the order of requests", self.root);
                self.note(&reply, &op, seen);
                self.check(&reply, &op);
            }
            if closing {
                self.session = None;
                return;
            }
        }
    }

    /// After a restart: the part must be what the model says after some prefix of what was not answered.
    fn verify(&mut self, addr: SocketAddr, seen: &Mutex<Seen>) {
        let mut unanswered: Vec<Op> = std::mem::take(&mut self.unanswered).into_iter().map(|(_, op)| op).collect();
        let asked_to_close = unanswered.last() == Some(&Op::Close);
        let mut client = match (asked_to_close, self.try_again(addr)) {
            (_, Some(client)) => {
                if asked_to_close {
                    unanswered.pop();
                }
                client
            }
            (true, None) => {
                // The close was applied, so everything before it was.
                for op in std::mem::take(&mut unanswered) {
                    self.part.apply(&op);
                }
                self.session = None;
                self.connect(addr).expect("a new session")
            }
            (false, None) => {
                assert!(self.session.is_none(), "{}: the session did not survive the crash", self.root);
                self.connect(addr).expect("a new session")
            }
        };
        let found = self.observe(&mut client);
        let mut model = self.part.clone();
        let mut applied = (model == found).then_some(0);
        for (i, op) in unanswered.iter().enumerate() {
            if applied.is_some() {
                break;
            }
            model.apply(op);
            applied = (model == found).then_some(i + 1);
        }
        let Some(applied) = applied else {
            panic!(
                "{}: no prefix of the {} unanswered operations explains the tree\nacknowledged: {:#?}\nunanswered: {unanswered:#?}\nfound: {found:#?}",
                self.root,
                unanswered.len(),
                self.part
            )
        };
        self.part = found;
        let mut seen = seen.lock().expect("another client failed");
        seen.unknown += unanswered.iter().filter(|op| op.is_write()).count() as u64;
        seen.survived += unanswered[..applied].iter().filter(|op| op.is_write()).count() as u64;
        let now = client.z().expect("a ping is answered");
        assert!(now >= seen.newest, "the server is at {now:#x}, and {:#x} was acknowledged", seen.newest);
    }

    /// Re-attaches to the session; `None` if there is none or the server says that it has expired.
    fn try_again(&self, addr: SocketAddr) -> Option<Client> {
        let (id, password) = self.session.as_ref()?;
        let ask = Connect { last_zxid: self.last_zxid, timeout: TIMEOUT, ..Connect::again(*id, password) };
        let mut conn = Conn::open(addr).expect("the server listens");
        let answer = conn.handshake(&ask).expect("an answer");
        if answer.is_expired() {
            return None;
        }
        let response = answer.response().expect("the server is not behind its client");
        assert_eq!(response.session.0, *id, "the session keeps its number");
        Some(Client::on(conn, &response, &Sessions::default()).expect("a session"))
    }

    fn observe(&self, client: &mut Client) -> Part {
        let mut part = Part::default();
        let mut names = client.children(&self.root, false).and_then(|r| r.names()).expect("the root has children");
        let queue = client.children2(format!("{}/q", self.root)).expect("a reply");
        let stat = queue.stat().expect("a stat");
        let queued = queue.names().expect("names");
        // As on disk: the number of creations; on the wire it is twice that less the children there are.
        part.sequence = (stat.cversion + stat.num_children) / 2;
        assert_eq!(stat.num_children as usize, queued.len());
        names.extend(queued.into_iter().map(|n| format!("q/{n}")));
        for name in &names {
            client.send(OpCode::GetData.code(), body().s(format!("{}/{name}", self.root)).z(0)).expect("sent");
        }
        for name in names {
            let reply = client.reply().and_then(Reply::ok).expect("a listed node exists");
            let stat: Stat = reply.stat().expect("a stat");
            let owner = stat.ephemeral_owner;
            assert!(owner == 0 || owner == client.session, "{name} belongs to the session {owner:#x}");
            let data = reply.data().expect("data").unwrap_or_default();
            part.nodes.insert(name, Node { data, version: stat.version, ephemeral: owner != 0 });
        }
        part
    }
}

fn read_outcome(reply: &Reply, op: &Op, root: &str) -> Outcome {
    if reply.err != 0 {
        return Outcome::Refused(reply.err);
    }
    match op {
        Op::Create { .. } | Op::Sequential { .. } => {
            let path = reply.path().expect("a path");
            Outcome::Path(path.strip_prefix(root).and_then(|p| p.strip_prefix('/')).expect("below the root").to_owned())
        }
        Op::Set { .. } => Outcome::Version(reply.stat().expect("a stat").version),
        Op::Get { .. } => {
            let version = reply.stat().expect("a stat").version;
            Outcome::Data(reply.data().expect("data").unwrap_or_default(), version)
        }
        Op::Multi(_) => {
            let first = MultiHeader::read(&mut reply.reader()).expect("a result");
            if first.op == -1 && !first.done { Outcome::MultiRefused } else { Outcome::Done }
        }
        Op::Delete { .. } | Op::Close => Outcome::Done,
    }
}

/// Sessions that come and go, each with an ephemeral node.
#[derive(Debug)]
struct Churn {
    random: Random,
    counter: u64,
    /// Acknowledged, node included, and never asked to close.
    open: Vec<(i64, Vec<u8>, String)>,
    /// Acknowledged to be closed.
    closed: Vec<(i64, Vec<u8>, String)>,
    /// Every session that was ever granted.
    ids: BTreeSet<i64>,
}

impl Churn {
    fn load(&mut self, addr: SocketAddr) {
        loop {
            let Ok(mut conn) = Conn::open(addr) else { return };
            let ask = Connect { timeout: TIMEOUT, ..Connect::default() };
            let Ok(Handshake::Response { response, .. }) = conn.handshake(&ask) else { return };
            let mut client = Client::on(conn, &response, &Sessions::default()).expect("a new session");
            assert!(self.ids.insert(client.session), "session {:#x} was granted twice", client.session);
            self.counter += 1;
            let path = format!("/churn/c{}", self.counter);
            let Ok(reply) = client.create_flags(&path, b"", 1) else { return };
            assert_eq!(reply.err, 0, "{path}");
            let this = (client.session, client.password.clone(), path);
            if self.random.one_in(2) {
                match client.close() {
                    Ok(reply) => {
                        assert_eq!(reply.err, 0);
                        self.closed.push(this);
                    }
                    // Unknown: neither list.
                    Err(_) => return,
                }
            } else {
                self.open.push(this);
            }
        }
    }

    fn verify(&mut self, addr: SocketAddr) {
        for (id, password, path) in self.open.drain(..) {
            let mut client = Client::open(addr, &Connect::again(id, &password), &Sessions::default())
                .unwrap_or_else(|e| panic!("session {id:#x} of {path} is gone: {e:#}"));
            let stat = client.stat(&path).unwrap_or_else(|e| panic!("{path}, ephemeral of a live session: {e:#}"));
            assert_eq!(stat.ephemeral_owner, id, "{path}");
            client.close().and_then(Reply::ok).expect("a session can be closed");
        }
        let mut client = Client::open(addr, &Connect::default(), &Sessions::default()).expect("a session");
        for (id, password, path) in self.closed.drain(..) {
            let mut conn = Conn::open(addr).expect("the server listens");
            let answer = conn.handshake(&Connect::again(id, &password)).expect("an answer");
            assert!(answer.is_expired(), "session {id:#x} was closed and is back");
            assert_eq!(client.exists(&path, false).expect("a reply").err, NO_NODE, "{path} outlived its session");
        }
        client.close().and_then(Reply::ok).expect("a session can be closed");
    }
}

/// A directory that outlives a test that failed, for whoever looks into it.
struct Evidence(Option<tempfile::TempDir>);

impl Evidence {
    fn path(&self) -> &Path {
        self.0.as_ref().expect("it lives as long as this").path()
    }
}

impl Drop for Evidence {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.0.take()
        {
            tell(&format!("the directory is kept: {}", dir.keep().display()));
        }
    }
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is no number")))
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let kills = from_env("FARRIER_KILLS").unwrap_or(100);
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a sane clock");
    let seed = from_env("FARRIER_SEED").unwrap_or(clock.as_nanos() as u64);
    tell(&format!("FARRIER_SEED={seed} FARRIER_KILLS={kills}"));
    let mut random = Random(seed);
    let dir = Evidence(Some(tempfile::tempdir().expect("a temporary directory")));
    let mut server = Process::new(dir.path(), &["snapCount=150", "preAllocSize=64", "maxClientCnxns=0"]);
    server.start();
    let addr = server.addr();
    let mut writers: Vec<Writer> = (0..WRITERS).map(|i| Writer::set_up(i, seed, addr)).collect();
    server.client().create("/churn", b"").and_then(Reply::ok).expect("a fixed node");
    let (open, closed, ids) = (Vec::new(), Vec::new(), BTreeSet::new());
    let mut churn = Churn { random: Random(!seed), counter: 0, open, closed, ids };
    let seen = Mutex::new(Seen::default());
    let (mut killed, mut while_starting) = (0, 0);
    while killed < kills {
        let rest = Duration::from_micros(2000 + random.below(200_000));
        std::thread::scope(|scope| {
            let seen = &seen;
            for writer in &mut writers {
                scope.spawn(move || writer.load(addr, seen));
            }
            scope.spawn(|| churn.load(addr));
            std::thread::sleep(rest);
            if killed % LOADED_EVERY == 0 {
                wait_load(seen);
            }
            server.kill();
        });
        killed += 1;
        while random.one_in(6) {
            server.spawn();
            std::thread::sleep(Duration::from_micros(random.below(40_000)));
            server.kill();
            killed += 1;
            while_starting += 1;
        }
        server.start();
        std::thread::scope(|scope| {
            let seen = &seen;
            for writer in &mut writers {
                scope.spawn(move || writer.verify(addr, seen));
            }
            scope.spawn(|| churn.verify(addr));
        });
    }
    let seen = seen.into_inner().expect("no client failed");
    let names = std::fs::read_dir(server.data().join("version-2")).expect("a directory");
    let (mut logs, mut snapshots) = (0, 0);
    for entry in names {
        let name = entry.expect("an entry").file_name().into_string().expect("plain names");
        logs += u32::from(name.starts_with("log."));
        snapshots += u32::from(name.starts_with("snapshot."));
    }
    tell(&format!(
        "{killed} kills, {while_starting} of them during the start; {} writes acknowledged, {} unknown of which {} took place; {} sessions; {logs} log segments, {snapshots} snapshots",
        seen.acknowledged,
        seen.unknown,
        seen.survived,
        churn.ids.len()
    ));
    assert!(seen.acknowledged > kills && seen.unknown > 0, "the load was no load");
    assert!(logs > 10 && snapshots > 3, "segments and snapshots were part of it");
}

/// Waits until enough was acknowledged for another snapshot, or patience ends: the clients may all have closed.
fn wait_load(seen: &Mutex<Seen>) {
    let acknowledged = || seen.lock().expect("another client failed").acknowledged;
    let goal = acknowledged() + LOAD;
    let end = Instant::now() + LOAD_MAX;
    while acknowledged() < goal && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copied");
        }
    }
}

/// A server that comes back without what it acknowledged must not pass.
#[test]
fn a_lost_write_is_noticed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut server = Process::new(dir.path(), &["preAllocSize=64"]);
    server.start();
    let addr = server.addr();
    let mut writer = Writer::set_up(0, 1, addr);
    let seen = Mutex::new(Seen::default());
    server.kill();
    let old = dir.path().join("old");
    copy(&server.data(), &old);

    server.start();
    let mut client = writer.connect(addr).expect("the session lives");
    let op = Op::Set { name: "marker".into(), data: b"new".to_vec() };
    let reply = client.call(op.code(), op.put(&writer.root, body())).expect("a reply");
    writer.check(&reply, &op);
    // Not noted: then the client's zxid alone would give it away.
    server.kill();
    std::fs::remove_dir_all(server.data()).expect("removed");
    std::fs::rename(&old, server.data()).expect("renamed");

    server.start();
    let verdict = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.verify(addr, &seen)));
    let panic = verdict.expect_err("the write is lost");
    let text = panic.downcast_ref::<String>().expect("a message");
    assert!(text.contains("no prefix"), "{text}");
}
