//! Whole ensembles whose members change while servers crash and connections break: there is one history, and in the end
//! somebody leads. Leaders begin reconfigurations as Apache's do, which Farrier's own never would: the one that proposed
//! puts it in force with its commit and says COMMITANDACTIVATE, and servers die between their note of it and their log.

use super::*;
use crate::io::{LinkId, Role, WriteId};
use crate::testing::Random;
use farrier_proto::quorum::LeaderPacket;
use farrier_proto::txn::{SetDataTxn, write_txn};
use farrier_proto::{Txn, TxnHeader, TxnType};
use std::collections::{BTreeMap, BTreeSet};

const SERVERS: i64 = 6;
const SEEDS: u64 = 400;

type History = Vec<(Zxid, Bytes)>;

enum Write {
    Append(Zxid, Bytes),
    Accepted(AcceptedEpoch),
    Current(CurrentEpoch),
    Pending(Option<Bytes>),
    Truncate(Zxid),
    Install(History, CurrentEpoch),
    Reload,
}

/// What survives a crash.
struct Disk {
    accepted: AcceptedEpoch,
    current: CurrentEpoch,
    log: History,
    pending: Option<Bytes>,
    /// The operator's file.
    config: Bytes,
}

struct Server {
    peer: Option<Peer>,
    disk: Disk,
    writes: VecDeque<(WriteId, Write)>,
    /// What is applied.
    tree: History,
    received: Option<History>,
    serves: bool,
    /// In force, and not in the file yet.
    unwritten: Option<Bytes>,
}

impl Server {
    fn describe(&self) -> String {
        let Some(peer) = &self.peer else { return "down".to_owned() };
        let members =
            |e: &Ensemble| format!("{:x} {:?}", e.version(), e.voters().iter().map(|s| s.0).collect::<Vec<_>>());
        let (status, own) = (peer.status(), peer.ensemble());
        format!(
            "{:?} {:?} of {:?}, {} of {} in epoch {}, promised {}; {} in force, pending {:?} (told {:?})",
            status.state,
            status.phase,
            status.leader.map(|l| l.0),
            status.delivered,
            status.last_logged,
            self.disk.current.0,
            self.disk.accepted.0,
            members(own),
            own.pending().map(members),
            self.disk.pending.as_deref().map(MemberList::version_of)
        )
    }
}

enum Item {
    Down(LeaderPacket),
    Up(LearnerPacket),
    Snap(History),
    Close,
}

struct Link {
    /// Learner and leader; whoever closed it is gone.
    ends: [Option<i64>; 2],
    /// To the learner, to the leader.
    queues: [VecDeque<Item>; 2],
}

struct World {
    random: Random,
    /// Whether every learner gets a SNAP.
    snapshots: bool,
    now: u64,
    servers: BTreeMap<i64, Server>,
    cut: BTreeSet<(i64, i64)>,
    joined: BTreeSet<(i64, i64)>,
    said: BTreeMap<(i64, i64), Input>,
    links: BTreeMap<LinkId, Link>,
    next_link: u64,
    /// What a server's own shell answers.
    answers: VecDeque<(i64, Input)>,
    /// What was committed, by anybody.
    committed: History,
    proposed: u64,
    in_force: u64,
    /// Who is about to be cut off from the others.
    side: Option<BTreeSet<i64>>,
}

fn ensemble(text: &[u8]) -> Ensemble {
    Ensemble::of(&MemberList::parse(text).unwrap()).unwrap()
}

/// What a state shows in `/zookeeper/config`.
fn shown(history: &History, in_log: bool) -> Option<ShownConfig> {
    let text = history.iter().rev().find_map(|(_, txn)| crate::activate::configuration(txn))?;
    Some(ShownConfig { text, in_log })
}

fn reconfig(zxid: Zxid, voters: &[i64]) -> Bytes {
    let header = TxnHeader { session: SessionId::NONE, cxid: 0, zxid, time: 0, kind: TxnType::Reconfig.code() };
    let data = text(zxid.get(), voters);
    let path = "/zookeeper/config".into();
    let body = Txn::Reconfig(SetDataTxn { path, data: Some((&data[..]).into()), version: -1 });
    let mut bytes = Vec::new();
    write_txn(&mut bytes, &header, &body, None);
    bytes.into()
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = || Disk {
            accepted: AcceptedEpoch(0),
            current: CurrentEpoch(0),
            log: Vec::new(),
            pending: None,
            config: text(1, &[1, 2, 3]),
        };
        let server = |id| {
            let (peer, writes) = (None, VecDeque::new());
            (
                id,
                Server { peer, disk: disk(), writes, tree: Vec::new(), received: None, serves: false, unwritten: None },
            )
        };
        let mut world = Self {
            random: Random(seed),
            snapshots: seed.is_multiple_of(2),
            now: 0,
            servers: (1..=SERVERS).map(server).collect(),
            cut: BTreeSet::new(),
            joined: BTreeSet::new(),
            said: BTreeMap::new(),
            links: BTreeMap::new(),
            next_link: 0,
            answers: VecDeque::new(),
            committed: Vec::new(),
            proposed: 0,
            in_force: 0,
            side: None,
        };
        (1..=SERVERS).for_each(|id| world.start(id));
        world
    }

    fn server(&mut self, id: i64) -> &mut Server {
        self.servers.get_mut(&id).unwrap()
    }

    fn start(&mut self, id: i64) {
        let snapshots = self.snapshots;
        let server = self.server(id);
        let disk = &server.disk;
        let durable = Durable {
            accepted: disk.accepted,
            current: disk.current,
            last_logged: disk.log.last().map_or(Zxid::ZERO, |(zxid, _)| *zxid),
            recovering: Recovering::No,
        };
        let told = disk.pending.as_deref().map(ensemble);
        let members = ensemble(&disk.config).with_pending(told);
        let config = Config {
            tick_time: 100,
            reconfig: true,
            cumulative: false,
            force_snapshot_sync: snapshots,
            seed: id.cast_unsigned(),
            ..Config::new(ServerId(id))
        };
        let peer =
            Peer::new(config, members, durable).over_state(shown(&disk.log, true).as_ref(), &mut Outputs::default());
        server.tree.clone_from(&server.disk.log);
        server.peer = Some(peer);
        self.step(id, Input::Timer);
        self.join_up();
    }

    fn crash(&mut self, id: i64) {
        let server = self.server(id);
        server.peer = None;
        server.writes.clear();
        server.received = None;
        server.serves = false;
        server.unwritten = None;
        self.answers.retain(|(to, _)| *to != id);
        self.said.retain(|(from, _), _| *from != id);
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.close(id, link);
        }
        self.join_up();
    }

    /// Who can be heard by whom has changed.
    fn join_up(&mut self) {
        for (a, b) in (1..=SERVERS).flat_map(|a| (a + 1..=SERVERS).map(move |b| (a, b))) {
            let up = self.servers[&a].peer.is_some() && self.servers[&b].peer.is_some() && !self.cut.contains(&(a, b));
            if up == self.joined.contains(&(a, b)) {
                continue;
            }
            let input = |peer| if up { Input::ElectionUp { peer } } else { Input::ElectionDown { peer } };
            if up {
                self.joined.insert((a, b));
            } else {
                self.joined.remove(&(a, b));
                let between = |l: &Link| l.ends == [Some(a), Some(b)] || l.ends == [Some(b), Some(a)];
                let broken: Vec<_> = self.links.iter().filter(|(_, l)| between(l)).map(|(id, _)| *id).collect();
                for link in broken {
                    self.links.remove(&link);
                    self.step(a, Input::LinkDown { link });
                    self.step(b, Input::LinkDown { link });
                }
            }
            self.step(a, input(ServerId(b)));
            self.step(b, input(ServerId(a)));
        }
    }

    fn close(&mut self, id: i64, link: LinkId) {
        let Some(l) = self.links.get_mut(&link) else { return };
        if let Some(end) = l.ends.iter().position(|e| *e == Some(id)) {
            l.ends[end] = None;
            l.queues[end].clear();
            l.queues[1 - end].push_back(Item::Close);
            if l.ends[1 - end].is_none() {
                self.links.remove(&link);
            }
        }
    }

    fn step(&mut self, id: i64, input: Input) {
        let now = self.now;
        let mut out = Outputs::default();
        let Some(peer) = &mut self.server(id).peer else { return };
        peer.step(now, input, &mut out);
        self.take(id, out);
    }

    fn send(&mut self, id: i64, link: LinkId, item: Item) {
        if let Some(l) = self.links.get_mut(&link)
            && let Some(end) = l.ends.iter().position(|e| *e == Some(id))
        {
            l.queues[1 - end].push_back(item);
        }
    }

    fn take(&mut self, id: i64, out: Outputs) {
        for output in out.list {
            let write = |s: &mut Self, w, write| s.server(id).writes.push_back((w, write));
            match output {
                Output::Notify { to, notification } => {
                    self.said.insert((id, to.0), Input::Notification { from: ServerId(id), notification });
                }
                Output::Dial { leader } => self.dial(id, leader),
                Output::SendLeader { link, packet } => self.send(id, link, Item::Up(packet)),
                Output::SendLearner { link, packet } => {
                    let packet = self.as_apache(id, packet);
                    self.send(id, link, Item::Down(packet));
                }
                Output::SendSnapshot { link, .. } => {
                    let tree = self.servers[&id].tree.clone();
                    self.send(id, link, Item::Snap(tree));
                }
                Output::ReportFlush { link } => self.answers.push_back((id, Input::Flushed { link })),
                Output::CloseLink { link, .. } => self.close(id, link),
                Output::Append { id: w, zxid, txn } => write(self, w, Write::Append(zxid, txn)),
                Output::SaveAcceptedEpoch { id: w, epoch } => write(self, w, Write::Accepted(epoch)),
                Output::SaveCurrentEpoch { id: w, epoch } => write(self, w, Write::Current(epoch)),
                Output::SavePending { id: w, config } => write(self, w, Write::Pending(config)),
                Output::Truncate { id: w, after } => write(self, w, Write::Truncate(after)),
                Output::Reload { id: w } => write(self, w, Write::Reload),
                Output::InstallSnapshot { id: w, epoch, .. } => {
                    let tree = self.servers[&id].tree.clone();
                    write(self, w, Write::Install(tree, epoch));
                }
                Output::AdoptSnapshot { .. } => {
                    let server = self.server(id);
                    server.tree = server.received.take().expect("it came");
                }
                Output::Locate { read, link, .. } => {
                    self.answers.push_back((id, Input::Located { read, link, located: None }));
                }
                Output::ReadTxns { read, link, after, to } => {
                    let log = self.servers[&id].disk.log.iter();
                    let txns = log.filter(|(z, _)| *z > after && *z <= to).cloned().collect();
                    self.answers.push_back((id, Input::TxnsRead { read, link, txns }));
                }
                Output::Deliver { zxid, txn } => self.deliver(id, zxid, txn),
                Output::Role(role) => {
                    let server = self.server(id);
                    server.serves = role != Role::Looking;
                    if server.serves {
                        self.agree(id);
                    }
                }
                Output::PingReceived { zxid } => {
                    let mut out = Outputs::default();
                    self.server(id).peer.as_mut().unwrap().answer_ping(zxid, Vec::new(), &mut out);
                    self.take(id, out);
                }
                Output::Activate { config } => {
                    self.in_force = self.in_force.max(MemberList::version_of(&config));
                    self.server(id).unwritten = Some(config);
                }
                Output::Halt { reason } => panic!("{reason}"),
                Output::RaiseRecovering { .. } => panic!("nothing is lost"),
                Output::PauseLink { .. }
                | Output::ResumeLink { .. }
                | Output::FromLearner { .. }
                | Output::LearnerGone { .. }
                | Output::FromLeader { .. }
                | Output::Synced { .. }
                | Output::Note { .. } => {}
            }
        }
    }

    fn dial(&mut self, id: i64, leader: ServerId) {
        if !self.joined.contains(&(id.min(leader.0), id.max(leader.0))) {
            self.answers.push_back((id, Input::DialFailed { leader }));
            return;
        }
        self.next_link += 1;
        let link = LinkId(self.next_link);
        self.links.insert(link, Link { ends: [Some(id), Some(leader.0)], queues: Default::default() });
        self.answers.push_back((leader.0, Input::LinkUp { link, kind: LinkKind::Learner }));
        self.answers.push_back((id, Input::LinkUp { link, kind: LinkKind::Leader(leader) }));
    }

    /// The leader that proposed a reconfiguration says that its commit puts it in force.
    fn as_apache(&self, id: i64, packet: LeaderPacket) -> LeaderPacket {
        let LeaderPacket::Commit { zxid } = packet else { return packet };
        let server = &self.servers[&id];
        let proposed = server.peer.as_ref().and_then(|p| p.status().epoch) == Some(zxid.epoch());
        let txn = server.tree.iter().find(|(z, _)| *z == zxid);
        let Some(config) = txn.and_then(|(_, txn)| crate::activate::configuration(txn)).filter(|_| proposed) else {
            return packet;
        };
        let voters = ensemble(&config).voters().clone();
        let designated = if voters.contains(&ServerId(id)) { ServerId(id) } else { *voters.first().unwrap() };
        LeaderPacket::CommitAndActivate { zxid, designated }
    }

    /// What is delivered by a server that serves is committed.
    fn agree(&mut self, id: i64) {
        let tree = &self.servers[&id].tree;
        let common = tree.len().min(self.committed.len());
        assert_eq!(tree[..common], self.committed[..common], "server {id} has another history");
        self.committed.extend_from_slice(&tree[common..]);
    }

    fn deliver(&mut self, id: i64, zxid: Zxid, txn: Bytes) {
        let config = crate::activate::configuration(&txn);
        let server = self.server(id);
        server.tree.push((zxid, txn));
        if !server.serves {
            return;
        }
        self.agree(id);
        let peer = self.server(id).peer.as_mut().unwrap();
        if let (Some(config), State::Leading(_)) = (config, &peer.state) {
            let mut out = Outputs::default();
            let (old, new) = (peer.core.ensemble.clone(), ensemble(&config));
            let stays = new.voters().contains(&ServerId(id));
            peer.core.activate(&config, Some(ServerId(id)), None, &mut out).unwrap();
            self.take(id, out);
            self.part(id, &old, &new);
            if !stays {
                // It must not commit any more. What it said so far arrives, or not.
                self.answers.push_back((id, Input::ElectionDown { peer: ServerId(id) }));
            }
        }
    }

    /// The moment at which two configurations could go on beside each other: the leader alone knows that the new one is in
    /// force, or a quorum of it does, and as few as possible of the old one's voters are among them.
    fn part(&mut self, leader: i64, old: &Ensemble, new: &Ensemble) {
        let mut side = BTreeSet::from([ServerId(leader)]);
        match self.random.below(4) {
            0 => return,
            1 => {}
            _ => {
                let strangers = new.voters().difference(old.voters());
                for server in strangers.chain(new.voters()) {
                    if !new.is_quorum(&side) {
                        side.insert(*server);
                    }
                }
            }
        }
        self.side = Some(side.into_iter().map(|s| s.0).collect());
    }

    fn cut_off(&mut self, side: &BTreeSet<i64>) {
        let pairs = (1..=SERVERS).flat_map(|a| (a + 1..=SERVERS).map(move |b| (a, b)));
        self.cut = pairs.filter(|(a, b)| side.contains(a) != side.contains(b)).collect();
        self.join_up();
    }

    /// One write of a server is done.
    fn persist(&mut self, id: i64) {
        let server = self.server(id);
        let Some((w, write)) = server.writes.pop_front() else { return };
        let disk = &mut server.disk;
        let input = match write {
            Write::Append(zxid, txn) => {
                disk.log.push((zxid, txn));
                Input::Durable { id: w }
            }
            Write::Accepted(epoch) => {
                disk.accepted = epoch;
                Input::Durable { id: w }
            }
            Write::Current(epoch) => {
                disk.current = epoch;
                Input::Durable { id: w }
            }
            Write::Pending(config) => {
                disk.pending = config;
                Input::Durable { id: w }
            }
            Write::Install(history, epoch) => {
                disk.log = history;
                disk.current = epoch;
                Input::Durable { id: w }
            }
            Write::Truncate(after) => {
                disk.log.retain(|(zxid, _)| *zxid <= after);
                server.tree.clone_from(&disk.log);
                Input::Truncated { id: w, done: true, config: shown(&disk.log, true) }
            }
            Write::Reload => {
                server.tree.clone_from(&disk.log);
                let last = disk.log.last().map_or(Zxid::ZERO, |(zxid, _)| *zxid);
                Input::Reloaded { id: w, last, config: shown(&disk.log, true) }
            }
        };
        self.step(id, input);
    }

    fn pass(&mut self, link: LinkId, end: usize) {
        let Some(l) = self.links.get_mut(&link) else { return };
        let Some(to) = l.ends[end] else { return };
        let Some(item) = l.queues[end].pop_front() else { return };
        match item {
            Item::Close => {
                self.links.remove(&link);
                self.step(to, Input::LinkDown { link });
            }
            Item::Up(packet) => self.step(to, Input::LearnerPacket { link, packet }),
            Item::Snap(history) => {
                let zxid = history.last().map_or(Zxid::ZERO, |(zxid, _)| *zxid);
                let config = shown(&history, false);
                self.server(to).received = Some(history);
                self.step(to, Input::SnapReceived { link, zxid, config });
            }
            Item::Down(packet) => {
                if let LeaderPacket::Proposal { txn, .. } = &packet
                    && let Some(config) = crate::activate::configuration(txn)
                    && self.random.below(6) == 0
                {
                    // Apache's servers write it down before they log the transaction.
                    self.server(to).disk.pending = Some(config);
                    return self.crash(to);
                }
                self.step(to, Input::LeaderPacket { link, packet });
            }
        }
    }

    fn answer(&mut self) {
        let Some((id, input)) = self.answers.pop_front() else { return };
        match input {
            Input::ElectionDown { .. } => self.crash(id),
            Input::LinkUp { link, .. } if !self.links.contains_key(&link) => {
                if let Input::LinkUp { kind: LinkKind::Leader(leader), .. } = input {
                    self.step(id, Input::DialFailed { leader });
                }
            }
            input => self.step(id, input),
        }
    }

    fn pick(&mut self) -> i64 {
        1 + i64::try_from(self.random.below(6)).unwrap()
    }

    /// Something that goes on anyway.
    fn happen(&mut self) {
        match self.random.below(10) {
            0..4 => {
                let busy = |l: &Link, end: usize| !l.queues[end].is_empty();
                let full: Vec<_> = self
                    .links
                    .iter()
                    .flat_map(|(id, l)| [0, 1].into_iter().filter(|end| busy(l, *end)).map(|end| (*id, end)))
                    .collect();
                if !full.is_empty() {
                    let (link, end) = full[self.random.below(full.len())];
                    self.pass(link, end);
                }
            }
            4..6 => {
                let pairs: Vec<_> = self.said.keys().copied().collect();
                let heard: Vec<_> =
                    pairs.into_iter().filter(|(a, b)| self.joined.contains(&(*a.min(b), *a.max(b)))).collect();
                if !heard.is_empty() {
                    let pair = heard[self.random.below(heard.len())];
                    let input = self.said.remove(&pair).unwrap();
                    self.step(pair.1, input);
                }
            }
            6..8 => {
                let id = self.pick();
                self.persist(id);
            }
            8 => self.answer(),
            _ => {
                self.now += 5;
                for id in 1..=SERVERS {
                    let due = self.servers[&id].peer.as_ref().and_then(Peer::next_deadline);
                    if due.is_some_and(|due| due <= self.now) {
                        self.step(id, Input::Timer);
                    }
                }
            }
        }
    }

    fn propose(&mut self, change: bool) {
        let id = self.pick();
        let voters: Vec<_> = (1..=SERVERS).filter(|_| self.random.below(2) == 0).collect();
        let (now, n) = (self.now, self.proposed);
        let Some(peer) = &mut self.server(id).peer else { return };
        let Some(zxid) = peer.next_zxid() else { return };
        let settled = peer.ensemble().pending().is_none();
        let txn =
            if change && settled && !voters.is_empty() { reconfig(zxid, &voters) } else { Bytes::from(n.to_string()) };
        let mut out = Outputs::default();
        peer.propose(now, zxid, txn, &mut out);
        self.proposed += 1;
        self.take(id, out);
    }

    fn trouble(&mut self) {
        if let Some(side) = self.side.take() {
            self.cut_off(&side);
            for id in (1..=SERVERS).filter(|id| !side.contains(id)) {
                if self.random.below(3) == 0 {
                    self.crash(id);
                    self.start(id);
                }
            }
        }
        match self.random.below(300) {
            0 => {
                let id = self.pick();
                self.crash(id);
            }
            1..4 => {
                let id = self.pick();
                if self.servers[&id].peer.is_none() {
                    self.start(id);
                }
            }
            4 => {
                let side: BTreeSet<_> = (1..=SERVERS).filter(|_| self.random.below(2) == 0).collect();
                self.cut_off(&side);
            }
            5 => {
                self.cut.clear();
                self.join_up();
            }
            6..9 => self.propose(false),
            9..11 => self.propose(true),
            11 => {
                let id = self.pick();
                let server = self.server(id);
                if let Some(config) = server.unwritten.take() {
                    server.disk.config = config;
                }
            }
            _ => {}
        }
    }

    /// Somebody has logged a reconfiguration of which others have not heard, and is ahead of them; they are needed for it,
    /// and know nothing of the server that would have to lead, or have no voice. With Apache's servers it is the same.
    fn is_stuck(&self) -> bool {
        let peers = || self.servers.values().filter_map(|s| s.peer.as_ref());
        let newest: BTreeSet<_> = peers().map(|p| p.core.newest().version()).collect();
        newest.len() > 1 && !self.servers.values().any(|s| s.serves)
    }

    /// It waits for a quorum of a reconfiguration that the others never got, and those that have a leader are none without
    /// it. It is needed for nothing, and Apache's servers wait as well.
    fn is_left_out(&self, server: &Server) -> bool {
        let serving = self.servers.iter().filter(|(_, s)| s.serves).map(|(id, _)| ServerId(*id)).collect();
        server.peer.as_ref().is_some_and(|p| p.ensemble().pending().is_some() && !p.ensemble().is_quorum(&serving))
    }

    /// Everybody is up and heard: somebody leads everybody, and a proposal is committed. False if nobody can.
    fn comes_to_rest(&mut self, seed: u64) -> bool {
        self.cut.clear();
        self.join_up();
        let before = self.proposed;
        let mut round = 0;
        loop {
            round += 1;
            if round % 500 == 0 {
                (1..=SERVERS).for_each(|id| {
                    if self.servers[&id].peer.is_none() {
                        self.start(id);
                    }
                });
                self.propose(false);
            }
            let last = Bytes::from((self.proposed.max(1) - 1).to_string());
            let all_serve = self.servers.values().all(|s| s.serves || self.is_left_out(s));
            if all_serve && self.proposed > before && self.committed.last().is_some_and(|(_, txn)| *txn == last) {
                return true;
            }
            if round > 200_000 && self.is_stuck() {
                return false;
            }
            if round > 200_000 {
                let states: String = self.servers.iter().map(|(id, s)| format!("\n{id}: {}", s.describe())).collect();
                panic!("seed {seed}: nobody leads:{states}");
            }
            self.happen();
        }
    }
}

#[test]
fn there_is_one_history_while_the_members_change() {
    let (mut changes, mut commits, mut stuck) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..12_000 {
            world.happen();
            world.trouble();
        }
        stuck += u64::from(!world.comes_to_rest(seed));
        changes += u64::from(world.in_force > 1);
        commits += world.committed.len();
    }
    assert!(
        changes > SEEDS / 2 && commits > 2000 && stuck < SEEDS / 4,
        "{changes} changes, {commits} commits, {stuck} stuck"
    );
}
