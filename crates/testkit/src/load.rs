//! Clients that write and read while servers come and go, and the verdict on what became of their writes.
//!
//! Every client is a thread with one session, which moves between servers when it loses its connection.
//! It keeps three kinds of outcome apart: acknowledged, refused and unknown (sent, answer lost), and turns
//! none into another. While the load runs, each client checks what only it can see: its zxid never goes
//! back, it reads its own writes, its session lives. When the load rests, every server's tree is compared
//! with what was written down (`check`).

mod check;
mod roaming;

pub use check::{Known, Record, Set, Znode};

use crate::enc::{Body, body};
use crate::raw::{Client, Connect, Reply, Sessions};
use crate::walk::{Tree, differences, digests, walk};
use anyhow::{Context as _, Result, bail, ensure};
use farrier_proto::OpCode;
use roaming::{Outcome, Roaming};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Everything that a load writes lies below here.
pub const ROOT: &str = "/load";
/// Session timeout of the clients that write.
const TIMEOUT_MS: i32 = 40_000;
/// Session timeout of the clients that only ping. It has to hold one silent server, one election and what a busy
/// machine adds to both.
const PING_TIMEOUT_MS: i32 = 25_000;
/// Clients that only hold an ephemeral and ping.
const PINGERS: usize = 2;
/// Pause between two requests of a client.
const PACE: Duration = Duration::from_millis(4);
/// Pause between two pings.
const PING_EVERY: Duration = Duration::from_millis(500);
/// Longest lists that a client keeps of znodes to delete again.
const KEPT_MAX: usize = 40;
/// How long writes may stand still until the load counts as stuck.
const PROGRESS_MAX: Duration = Duration::from_secs(240);
/// Error codes of refusals.
const NODE_EXISTS: i32 = -110;
const BAD_VERSION: i32 = -103;
const NO_NODE: i32 = -101;

const WORK: u8 = 0;
const REST: u8 = 1;
const END: u8 = 2;

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    phase: Arc<AtomicU8>,
    acknowledged: Arc<AtomicU64>,
    records: Receiver<(usize, i64, Record)>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

/// A load that rests: its sessions live on, and all that they wrote is written down.
#[derive(Debug)]
pub struct Resting {
    phase: Arc<AtomicU8>,
    clients: Vec<JoinHandle<Vec<String>>>,
    /// What was written.
    pub record: Record,
    /// Whether digests that servers know for the same zxid have to be equal; they have at first.
    pub compares_digests: bool,
    sessions: BTreeSet<i64>,
}

impl Load {
    /// Starts `writers` clients, and a few that only ping, over these servers.
    pub fn start(servers: &[SocketAddr], writers: usize) -> Result<Self> {
        prepare(servers, writers)?;
        let phase = Arc::new(AtomicU8::new(WORK));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (send, records) = channel();
        let mut clients = Vec::new();
        for index in 0..writers + PINGERS {
            let timeout = if index < writers { TIMEOUT_MS } else { PING_TIMEOUT_MS };
            let worker = Worker {
                index,
                session: Roaming::new(servers, index, timeout),
                record: Record::default(),
                random: 0x9e37_79b9_7f4a_7c15 ^ (index as u64 + 1),
                step: 0,
                plain: VecDeque::new(),
                ephemeral: VecDeque::new(),
                newest: BTreeMap::new(),
                last_name: String::new(),
                acknowledged: acknowledged.clone(),
                phase: phase.clone(),
            };
            let send = send.clone();
            let run = move || worker.run(index < writers, &send);
            clients.push(std::thread::Builder::new().name(format!("client {index}")).spawn(run)?);
        }
        Ok(Self { phase, acknowledged, records, clients })
    }

    /// Writes that were acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `count` more writes were acknowledged.
    pub fn wait_progress(&self, count: u64) -> Result<()> {
        let goal = self.acknowledged() + count;
        let deadline = Instant::now() + PROGRESS_MAX;
        while self.acknowledged() < goal {
            ensure!(Instant::now() < deadline, "no {count} writes were acknowledged within {PROGRESS_MAX:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Lets the clients finish their requests; then they only ping.
    pub fn rest(self) -> Result<Resting> {
        self.phase.store(REST, Ordering::Relaxed);
        let mut record = Record::default();
        let mut sessions = BTreeSet::new();
        for _ in &self.clients {
            let (index, session, one) = self.records.recv().context("a client's thread ended early")?;
            ensure!(session != 0, "client {index} never had a session");
            sessions.insert(session);
            record.add(one);
        }
        Ok(Resting { phase: self.phase, clients: self.clients, record, compares_digests: true, sessions })
    }
}

impl Resting {
    /// Compares the trees of all servers with what was written and with each other, and their digests.
    pub fn verify(&self, servers: &[SocketAddr]) -> Result<Seen> {
        self.judge(servers, &self.sessions)
    }

    fn judge(&self, servers: &[SocketAddr], open: &BTreeSet<i64>) -> Result<Seen> {
        let mut wrong = self.record.violations.clone();
        let mut trees = Vec::new();
        for addr in servers {
            let tree = walk(*addr).with_context(|| format!("reading the tree of {addr}"))?;
            wrong.extend(self.record.check(ROOT, open, &tree).into_iter().map(|line| format!("{addr}: {line}")));
            trees.push(tree);
        }
        compare_trees(servers, &trees, &mut wrong);
        let compared = if self.compares_digests { compare_digests(servers, &mut wrong)? } else { 0 };
        wrong.truncate(30);
        ensure!(wrong.is_empty(), "{}", wrong.join("\n     "));
        Ok(Seen { znodes: trees.first().map_or(0, Tree::len), digests: compared })
    }

    /// Ends all sessions, and checks that their ephemerals are gone everywhere.
    pub fn end(mut self, servers: &[SocketAddr]) -> Result<()> {
        self.phase.store(END, Ordering::Relaxed);
        for client in std::mem::take(&mut self.clients) {
            let Ok(violations) = client.join() else { bail!("a client's thread panicked") };
            self.record.violations.extend(violations);
        }
        self.judge(servers, &BTreeSet::new()).context("after the sessions were closed")?;
        Ok(())
    }
}

/// What was compared.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Znodes of every tree.
    pub znodes: usize,
    /// Digests that two servers knew for the same zxid.
    pub digests: usize,
}

/// Whether several servers show the same in every field.
fn compare_trees(servers: &[SocketAddr], trees: &[Tree], wrong: &mut Vec<String>) {
    for (addr, tree) in servers.iter().zip(trees) {
        for line in differences(&trees[0], tree) {
            wrong.push(format!("{} and {addr} differ at {line}", servers[0]));
        }
    }
}

/// Whether digests are equal wherever two servers know one for the same zxid. Returns how many of those there were.
fn compare_digests(servers: &[SocketAddr], wrong: &mut Vec<String>) -> Result<usize> {
    let mut known: BTreeMap<u64, (SocketAddr, String)> = BTreeMap::new();
    let mut compared = 0;
    for addr in servers {
        for (zxid, digest) in digests(*addr)? {
            match known.get(&zxid) {
                Some((first, of_first)) => {
                    compared += 1;
                    if *of_first != digest {
                        wrong.push(format!("digests at 0x{zxid:x}: {first} {of_first}, {addr} {digest}"));
                    }
                }
                None => drop(known.insert(zxid, (*addr, digest))),
            }
        }
    }
    Ok(compared)
}

/// The znodes under which clients write.
fn prepare(servers: &[SocketAddr], writers: usize) -> Result<()> {
    let first = servers.first().context("no server was given")?;
    let mut client = Client::open(*first, &Connect::default(), &Sessions::default())?;
    let mut create = |path: &str| -> Result<()> {
        let reply = client.create(path, b"")?;
        ensure!(reply.err == 0 || reply.err == NODE_EXISTS, "creating {path}: error {}", reply.err);
        Ok(())
    };
    create(ROOT)?;
    for name in ["seq", "e", "shared"] {
        create(&format!("{ROOT}/{name}"))?;
    }
    create(&format!("{ROOT}/shared/counter"))?;
    for index in 0..writers {
        create(&format!("{ROOT}/w{index}"))?;
        create(&format!("{ROOT}/w{index}/cell"))?;
    }
    client.close()?;
    Ok(())
}

struct Worker {
    index: usize,
    session: Roaming,
    record: Record,
    random: u64,
    step: u64,
    /// Acknowledged and not deleted yet.
    plain: VecDeque<String>,
    ephemeral: VecDeque<String>,
    /// Newest version of each cell that this session has seen.
    newest: BTreeMap<String, i32>,
    /// Name of the last sequential znode that this session created.
    last_name: String,
    acknowledged: Arc<AtomicU64>,
    phase: Arc<AtomicU8>,
}

impl Worker {
    fn run(mut self, writes: bool, records: &Sender<(usize, i64, Record)>) -> Vec<String> {
        self.ephemeral_create();
        while self.phase.load(Ordering::Relaxed) == WORK {
            if writes {
                self.work();
                std::thread::sleep(PACE);
            } else {
                self.session.ping();
                std::thread::sleep(PING_EVERY);
            }
        }
        // One request that is answered: whatever an older server still held of this session is refused
        // from now on.
        while matches!(self.session.ask(OpCode::Sync, body().s("/")), Outcome::Unknown) {}
        let mut record = std::mem::take(&mut self.record);
        record.moves = self.session.moves;
        record.violations.append(&mut self.session.violations);
        if records.send((self.index, self.session.session(), record)).is_err() {
            return Vec::new();
        }
        while self.phase.load(Ordering::Relaxed) == REST {
            self.session.ping();
            std::thread::sleep(PING_EVERY);
        }
        if !matches!(self.session.close(), Outcome::Told(_)) {
            self.session.violations.push(format!("client {} could not close its session", self.index));
        }
        self.session.violations
    }

    /// One step, whichever the dice say.
    fn work(&mut self) {
        self.step += 1;
        match self.dice(16) {
            0..=3 => self.plain_create(),
            4 => self.plain_delete(),
            5 | 6 => self.sequential_create(),
            7 | 8 => self.set(&format!("{ROOT}/w{}/cell", self.index)),
            9 | 10 => self.set(&format!("{ROOT}/shared/counter")),
            11 if self.ephemeral.len() < KEPT_MAX => self.ephemeral_create(),
            11 => self.ephemeral_delete(),
            12 => self.multi(),
            _ => self.look(),
        }
    }

    /// Marsaglia's xorshift: the same steps in every run of the same client.
    fn dice(&mut self, sides: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % sides
    }

    /// A write; `None` if it was refused, which only `allowed` errors may do.
    fn write(&mut self, op: OpCode, request: Body, allowed: &[i32]) -> Option<(Known, Option<Reply>)> {
        match self.session.ask(op, request) {
            Outcome::Told(reply) if reply.err == 0 => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                Some((Known::Acknowledged, Some(reply)))
            }
            Outcome::Told(reply) => {
                self.record.refused += 1;
                // The session has moved on while this request was on its way: not done.
                if !allowed.contains(&reply.err) && reply.err != -118 {
                    self.wrong(format!("{op:?} was refused with {}", reply.err));
                }
                None
            }
            Outcome::Unknown => Some((Known::Unknown, None)),
            Outcome::Ended => None,
        }
    }

    fn wrong(&mut self, what: String) {
        self.record.violations.push(format!("client {}: {what}", self.index));
    }

    fn token(&self) -> String {
        format!("{}:{}", self.index, self.step)
    }

    fn plain_create(&mut self) {
        let (path, data) = (format!("{ROOT}/w{}/u{}", self.index, self.step), self.token().into_bytes());
        if let Some((known, _)) = self.write(OpCode::Create, body().create(&path, &data, 0), &[]) {
            if known == Known::Acknowledged {
                self.plain.push_back(path.clone());
            }
            self.created(path, data, known, 0, None);
        }
        if self.plain.len() > KEPT_MAX {
            self.plain_delete();
        }
    }

    fn created(&mut self, path: String, data: Vec<u8>, created: Known, owner: i64, twin: Option<String>) {
        self.record.znodes.insert(path, Znode { data, created, deleted: None, owner, twin });
    }

    fn plain_delete(&mut self) {
        if let Some(path) = self.plain.pop_front() {
            self.delete(&path);
        }
    }

    fn delete(&mut self, path: &str) {
        if let Some((known, _)) = self.write(OpCode::Delete, body().s(path).i(-1), &[])
            && let Some(znode) = self.record.znodes.get_mut(path)
        {
            znode.deleted = Some(known);
        }
    }

    fn ephemeral_create(&mut self) {
        let path = format!("{ROOT}/e/c{}-{}", self.index, self.step);
        let data = self.token().into_bytes();
        if let Some((known, _)) = self.write(OpCode::Create, body().create(&path, &data, 1), &[]) {
            if known == Known::Acknowledged {
                self.ephemeral.push_back(path.clone());
            }
            self.created(path, data, known, self.session.session(), None);
        }
    }

    fn ephemeral_delete(&mut self) {
        if let Some(path) = self.ephemeral.pop_front() {
            self.delete(&path);
        }
    }

    fn sequential_create(&mut self) {
        let data = self.token().into_bytes();
        let request = body().create(format!("{ROOT}/seq/n-"), &data, 2);
        let Some((_, reply)) = self.write(OpCode::Create, request, &[]) else { return };
        let name = reply.and_then(|r| r.path().ok());
        if let Some(name) = &name {
            if *name <= self.last_name {
                self.wrong(format!("created {name} after {}", self.last_name));
            }
            self.last_name.clone_from(name);
        }
        self.record.sequential.insert(data, name);
    }

    fn multi(&mut self) {
        let path = |half| format!("{ROOT}/w{}/m{}-{half}", self.index, self.step);
        let (a, b, data) = (path('a'), path('b'), self.token().into_bytes());
        let create = OpCode::Create.code();
        let request = body().op(create).create(&a, &data, 0).op(create).create(&b, &data, 0).end();
        if let Some((known, _)) = self.write(OpCode::Multi, request, &[]) {
            self.created(a.clone(), data.clone(), known, 0, Some(b.clone()));
            self.created(b, data, known, 0, Some(a));
        }
    }

    /// Reads a cell and writes it on the condition that nobody did so in between.
    fn set(&mut self, path: &str) {
        let Some(version) = self.version(path) else { return };
        let data = self.token().into_bytes();
        let request = body().s(path).s(&data).i(version);
        let Some((known, reply)) = self.write(OpCode::SetData, request, &[BAD_VERSION]) else { return };
        if let Some(found) = reply.and_then(|r| r.stat().ok()) {
            if found.version != version + 1 {
                self.wrong(format!("{path}: set of version {version} made version {}", found.version));
            }
            self.newest.insert(path.to_owned(), found.version);
        }
        self.record.sets.push(Set { path: path.to_owned(), expected: version, data, known });
    }

    /// The version of a cell; it never goes back within a session.
    fn version(&mut self, path: &str) -> Option<i32> {
        let Outcome::Told(reply) = self.session.ask(OpCode::GetData, body().s(path).z(0)) else { return None };
        let Ok(stat) = reply.stat() else {
            self.wrong(format!("{path} can't be read: error {}", reply.err));
            return None;
        };
        let newest = self.newest.entry(path.to_owned()).or_default();
        let before = std::mem::replace(newest, (*newest).max(stat.version));
        if stat.version < before {
            self.wrong(format!("{path} went back from version {before} to {}", stat.version));
        }
        Some(stat.version)
    }

    /// Reads something of one's own that must be there.
    fn look(&mut self) {
        let Some(path) = self.plain.back().cloned() else {
            self.version(&format!("{ROOT}/shared/counter"));
            return;
        };
        if let Outcome::Told(reply) = self.session.ask(OpCode::Exists, body().s(&path).z(0))
            && reply.err == NO_NODE
        {
            self.wrong(format!("{path} was acknowledged, and its own session does not see it"));
        }
    }
}
