//! A leader among learners that behave, while links break, disks are slow and everything takes its time:
//! every stream makes the learner's log a copy of the leader's, and nothing is committed that a quorum lacks.

use super::{LOGGED, info, setup};
use crate::history::History;
use crate::io::{Input, LinkId, LinkKind, Located, Output, Outputs, ReadId, Role, SyncTicket, WriteId};
use crate::peer::Peer;
use crate::testing::Random;
use bytes::Bytes;
use farrier_proto::quorum::{LeaderPacket, LearnerPacket};
use farrier_proto::{AcceptedEpoch, CurrentEpoch, Zxid};
use std::collections::{BTreeMap, VecDeque};

static TXN: [u8; 400_000] = [0; 400_000];

/// A learner as the protocol wants it.
#[derive(Default)]
struct Model {
    server: i64,
    observer: bool,
    accepted: u32,
    log: Vec<Zxid>,
    link: Option<u64>,
    from_leader: VecDeque<LeaderPacket>,
    to_leader: VecDeque<LearnerPacket>,
    /// How many of the log are committed.
    committed: usize,
    /// How many were there at NEWLEADER.
    at_new_leader: Option<usize>,
    up_to_date: bool,
    syncs: VecDeque<Zxid>,
}

struct World {
    peer: Peer,
    random: Random,
    now: u64,
    links: u64,
    models: Vec<Model>,
    /// Of the leader, and how many of them are durable.
    log: Vec<Zxid>,
    durable: usize,
    writes: BTreeMap<WriteId, usize>,
    written: WriteId,
    locates: VecDeque<(ReadId, LinkId, Zxid)>,
    reads: VecDeque<(ReadId, LinkId, Zxid, Zxid)>,
    flushes: VecDeque<LinkId>,
    tickets: u64,
    synced: u64,
    established: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut run = setup(2, &LOGGED, |c| {
            c.window_txns = 2;
            c.log_diff_permille = Some(0);
        });
        let log: Vec<_> = LOGGED.map(|(e, c)| Zxid::new(e, c)).into();
        if random.one_in(2) {
            run.peer.core_mut().history = History::new(Zxid::new(2, 4));
        }
        let models = [(1, false), (2, false), (4, true)]
            .map(|(server, observer)| {
                let mut log = log[..random.below(log.len() + 1)].to_vec();
                // What nobody else has.
                for _ in 0..random.below(3) {
                    if let Some(last) = log.last().copied()
                        && server != 2
                    {
                        log.push(last.next().unwrap());
                    }
                }
                Model { server, observer, accepted: 2, log, ..Model::default() }
            })
            .into();
        let durable = log.len();
        run.lead();
        Self {
            peer: run.peer,
            random,
            now: 0,
            links: 0,
            models,
            log,
            durable,
            writes: BTreeMap::new(),
            written: WriteId(0),
            locates: VecDeque::new(),
            reads: VecDeque::new(),
            flushes: VecDeque::new(),
            tickets: 0,
            synced: 0,
            established: false,
        }
    }

    fn step(&mut self, input: Input) {
        let mut out = Outputs::default();
        self.peer.step(self.now, input, &mut out);
        self.take(out);
    }

    fn model(&mut self, link: LinkId) -> Option<&mut Model> {
        self.models.iter_mut().find(|m| m.link == Some(link.0))
    }

    fn take(&mut self, out: Outputs) {
        for output in out.list {
            match output {
                Output::Note { .. } | Output::FromLearner { .. } | Output::LearnerGone { .. } => {}
                Output::SendLearner { link, packet } => {
                    self.model(link).expect("the link stands").from_leader.push_back(packet);
                }
                Output::SendSnapshot { link, zxid } => {
                    self.model(link).expect("the link stands").from_leader.push_back(LeaderPacket::Snap { zxid });
                }
                Output::ReportFlush { link } => self.flushes.push_back(link),
                Output::CloseLink { link, reason } => {
                    assert!(!reason.contains("PeerViolation"), "{reason}");
                    if let Some(model) = self.model(link) {
                        model.lose_link();
                    }
                }
                Output::Append { id, zxid, .. } => {
                    self.log.push(zxid);
                    self.written = id;
                    self.writes.insert(id, self.log.len());
                }
                Output::SaveAcceptedEpoch { id, .. } | Output::SaveCurrentEpoch { id, .. } => self.written = id,
                Output::Locate { read, link, zxid } => self.locates.push_back((read, link, zxid)),
                Output::ReadTxns { read, link, after, to } => self.reads.push_back((read, link, after, to)),
                Output::Deliver { zxid, .. } => {
                    assert!(self.established);
                    let copies = self.models.iter().filter(|m| !m.observer && m.log.contains(&zxid)).count();
                    let own = usize::from(self.log[..self.durable].contains(&zxid));
                    assert!(copies + own >= 2, "{zxid} is committed with {copies} copies elsewhere and {own} here");
                }
                Output::Role(Role::Leading { epoch: 3 }) => self.established = true,
                Output::Synced { ticket } => {
                    assert_eq!(ticket.0, self.synced + 1, "in order");
                    self.synced += 1;
                }
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    /// One thing happens. False if that thing cannot happen now.
    fn happen(&mut self, what: usize, who: usize) -> bool {
        match what {
            0 => {
                if self.models[who].link.is_some() {
                    return false;
                }
                self.links += 1;
                let link = self.links;
                self.models[who].connect(link);
                self.step(Input::LinkUp { link: LinkId(link), kind: LinkKind::Learner });
            }
            1 => {
                let Some(packet) = self.models[who].from_leader.pop_front() else { return false };
                let log = self.log.clone();
                self.models[who].process(packet, &log);
            }
            2 => {
                let Some(packet) = self.models[who].to_leader.pop_front() else { return false };
                let link = LinkId(self.models[who].link.expect("it has a link"));
                self.step(Input::LearnerPacket { link, packet });
            }
            3 => {
                let Some(link) = self.flushes.pop_front() else { return false };
                self.step(Input::Flushed { link });
            }
            4 => {
                let Some((read, link, zxid)) = self.locates.pop_front() else { return false };
                let before = self.log[..self.durable].iter().rev().find(|z| **z <= zxid).copied();
                let located = Some(Located { before, bytes_behind: 1, snapshot_bytes: 1 });
                self.step(Input::Located { read, link, located });
            }
            5 => {
                let Some((read, link, after, to)) = self.reads.pop_front() else { return false };
                let found = self.log[..self.durable].iter().filter(|z| **z > after && **z <= to);
                let n = 1 + self.random.below(3);
                let txns: Vec<_> = found.take(n).map(|z| (*z, Bytes::from_static(&TXN))).collect();
                assert!(!txns.is_empty(), "only what is durable is read");
                self.step(Input::TxnsRead { read, link, txns });
            }
            6 => {
                let id = self.written;
                self.durable = self.writes.range(..=id).next_back().map_or(self.durable, |(_, n)| *n);
                self.step(Input::Durable { id });
            }
            _ => unreachable!(),
        }
        true
    }

    /// Something that need not happen.
    fn trouble(&mut self, who: usize) {
        match self.random.below(40) {
            0..12 => {
                if let Some(zxid) = self.peer.next_zxid() {
                    let mut out = Outputs::default();
                    self.peer.propose(self.now, zxid, Bytes::from_static(&TXN), &mut out);
                    self.take(out);
                }
            }
            12..16 => {
                let mut out = Outputs::default();
                if self.peer.sync(self.now, SyncTicket(self.tickets + 1), &mut out) {
                    self.tickets += 1;
                }
                self.take(out);
            }
            16..20 if self.models[who].up_to_date => {
                let link = LinkId(self.models[who].link.expect("it is up to date"));
                let last = *self.log.last().unwrap();
                self.models[who].syncs.push_back(last);
                let mut out = Outputs::default();
                self.peer.sync_learner(self.now, link, &mut out);
                self.take(out);
            }
            20 => {
                // A promise that is lost on the way is not given again, and only server 2 gives one that counts.
                if let Some(link) = self.models[who].link
                    && self.established
                {
                    self.models[who].lose_link();
                    self.step(Input::LinkDown { link: LinkId(link) });
                }
            }
            21 => {
                self.now += 1;
                self.step(Input::Timer);
            }
            _ => {}
        }
    }
}

impl Model {
    fn lose_link(&mut self) {
        self.link = None;
        self.from_leader.clear();
        self.to_leader.clear();
        self.syncs.clear();
        self.up_to_date = false;
        self.at_new_leader = None;
    }

    fn connect(&mut self, link: u64) {
        self.link = Some(link);
        let (accepted, info) = (AcceptedEpoch(self.accepted), info(self.server));
        self.to_leader.push_back(if self.observer {
            LearnerPacket::ObserverInfo { accepted, info }
        } else {
            LearnerPacket::FollowerInfo { accepted, info }
        });
    }

    fn last(&self) -> Zxid {
        self.log.last().copied().unwrap_or(Zxid::ZERO)
    }

    fn append(&mut self, zxid: Zxid) {
        assert!(zxid.follows(self.last()), "server {} gets {zxid} behind {}", self.server, self.last());
        self.log.push(zxid);
    }

    fn process(&mut self, packet: LeaderPacket, leader: &[Zxid]) {
        match packet {
            LeaderPacket::LeaderInfo { epoch, .. } => {
                // Of the tails that nobody else has, the leader hears only once nothing depends on it.
                let counts = epoch > self.accepted && self.server == 2;
                self.accepted = epoch;
                let last_logged = self.last().to_wire();
                self.to_leader
                    .push_back(LearnerPacket::AckEpoch { last_logged, current: counts.then_some(CurrentEpoch(2)) });
            }
            LeaderPacket::Diff { .. } => self.committed = self.log.len(),
            LeaderPacket::Trunc { zxid } => {
                let at = self.log.iter().position(|z| *z == zxid).expect("it has what it is cut behind");
                self.log.truncate(at + 1);
                self.committed = self.log.len();
            }
            LeaderPacket::Snap { zxid } => {
                self.log = leader.iter().copied().filter(|z| *z <= zxid).collect();
                self.committed = self.log.len();
            }
            LeaderPacket::NewLeader { .. } => {
                assert_eq!(self.committed, self.log.len(), "nothing open precedes NEWLEADER");
                assert_eq!(self.log, leader[..self.log.len()], "it has the leader's history");
                self.at_new_leader = Some(self.log.len());
                self.to_leader.push_back(LearnerPacket::Ack { zxid: Zxid::new(3, 0) });
            }
            LeaderPacket::UpToDate => {
                self.up_to_date = true;
                self.to_leader.push_back(LearnerPacket::Ack { zxid: Zxid::new(3, 0) });
            }
            LeaderPacket::Proposal { zxid, .. } => {
                assert!(!self.observer || self.at_new_leader.is_none());
                self.append(zxid);
                if self.at_new_leader.is_some() {
                    self.to_leader.push_back(LearnerPacket::Ack { zxid });
                }
            }
            LeaderPacket::Commit { zxid } => {
                assert_eq!(self.log.get(self.committed), Some(&zxid), "commits go in order");
                assert!(!self.observer || self.at_new_leader.is_none());
                self.committed += 1;
                assert!(self.at_new_leader.is_none_or(|n| self.committed > n));
            }
            LeaderPacket::Inform { zxid, .. } => {
                assert!(self.observer && self.up_to_date);
                self.append(zxid);
                self.committed += 1;
            }
            LeaderPacket::Ping { zxid } => {
                assert!(self.at_new_leader.is_some());
                if self.up_to_date {
                    self.to_leader.push_back(LearnerPacket::Ping { zxid, touched: Vec::new() });
                }
            }
            LeaderPacket::Sync => {
                let target = self.syncs.pop_front().expect("it asked");
                assert!(self.committed > 0 && self.log[self.committed - 1] >= target);
            }
            LeaderPacket::Revalidate { .. }
            | LeaderPacket::CommitAndActivate { .. }
            | LeaderPacket::InformAndActivate { .. } => panic!("nobody asked for {packet:?}"),
        }
    }
}

#[test]
fn streams_copy_the_leaders_log() {
    let mut proposed = 0;
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            let (what, who) = (world.random.below(7), world.random.below(3));
            world.happen(what, who);
            world.trouble(who);
        }
        // Trouble ends: everybody gets everything.
        let mut rounds = 0;
        let mut moved = true;
        while moved {
            moved = world.durable < world.log.len() || !world.established;
            for what in 0..6 {
                for who in 0..3 {
                    moved |= world.happen(what, who);
                }
            }
            world.happen(6, 0);
            rounds += 1;
            assert!(rounds < 10_000, "seed {seed}: it does not come to an end");
        }
        for model in &world.models {
            assert!(model.up_to_date, "seed {seed}: server {} was left behind", model.server);
            assert_eq!(model.log, world.log, "seed {seed}");
            assert_eq!(model.committed, world.log.len(), "seed {seed}");
            assert!(model.syncs.is_empty(), "seed {seed}");
        }
        assert_eq!(world.synced, world.tickets, "seed {seed}");
        assert_eq!(world.peer.status().pending_syncs, 0, "seed {seed}");
        proposed += world.log.len() - LOGGED.len();
    }
    assert!(proposed > 1000, "only {proposed} proposals in all");
}
