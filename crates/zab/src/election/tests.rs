//! Elections among a few servers whose messages are handed on one by one.

use super::*;
use crate::config::{Config, Durable, Ensemble, QuorumVerifier};
use bytes::Bytes;
use farrier_proto::{AcceptedEpoch, CurrentEpoch, Zxid};
use proptest::prelude::*;
use std::collections::VecDeque;

fn ids(numbers: impl IntoIterator<Item = i64>) -> BTreeSet<ServerId> {
    numbers.into_iter().map(ServerId).collect()
}

fn majority(voters: i64) -> Ensemble {
    Ensemble::new(0, ids(1..=voters), ids([90, 91]), QuorumVerifier::Majority, Bytes::from_static(b"version=0"))
        .unwrap()
}

const fn durable(epoch: u32, counter: u32) -> Durable {
    Durable {
        accepted: AcceptedEpoch(epoch),
        current: CurrentEpoch(epoch),
        last_logged: Zxid::new(epoch, counter),
        recovering: Recovering::No,
    }
}

fn core(server: i64, ensemble: &Ensemble, durable: Durable) -> Core {
    Core::new(Config::new(ServerId(server)), ensemble.clone(), durable)
}

const fn vote(leader: i64, zxid: i64, peer_epoch: i64) -> Vote {
    Vote { leader: ServerId(leader), zxid, peer_epoch }
}

fn said(state: ServerState, vote: Vote, round: i64) -> Notification {
    Notification { state, vote, round: ElectionRound(round), version: Notification::VERSION, config: None }
}

fn notified(out: &Outputs) -> Vec<(i64, Notification)> {
    let told = |o: &Output| match o {
        Output::Notify { to, notification } => Some((to.0, notification.clone())),
        other => panic!("an election only talks: {other:?}"),
    };
    out.list.iter().filter_map(told).collect()
}

struct Server {
    core: Core,
    election: Election,
    elected: Option<Elected>,
}

/// Servers and the links between them. Time passes only where a test says so.
struct Net {
    now: u64,
    servers: BTreeMap<ServerId, Server>,
    wire: VecDeque<(ServerId, ServerId, Notification)>,
    last: BTreeMap<(ServerId, ServerId), Notification>,
}

impl Net {
    const fn new() -> Self {
        Self { now: 1000, servers: BTreeMap::new(), wire: VecDeque::new(), last: BTreeMap::new() }
    }

    /// Servers that have all links and have not begun.
    fn linked(cores: impl IntoIterator<Item = Core>) -> Self {
        let mut net = Self::new();
        for core in cores {
            net.add(core);
        }
        let all: Vec<_> = net.servers.keys().map(|s| s.0).collect();
        for server in &all {
            net.link(*server, &all);
        }
        net
    }

    fn majority(states: &[(i64, Durable)], voters: i64) -> Self {
        let ensemble = majority(voters);
        Self::linked(states.iter().map(|(s, d)| core(*s, &ensemble, *d)))
    }

    fn add(&mut self, core: Core) {
        self.servers.insert(core.me(), Server { election: Election::new(&core), core, elected: None });
    }

    fn server(&mut self, server: i64) -> &mut Server {
        self.servers.get_mut(&ServerId(server)).expect("it was added")
    }

    fn said_by(&mut self, server: ServerId, out: &Outputs) {
        for (to, notification) in notified(out) {
            self.last.insert((server, ServerId(to)), notification.clone());
            self.wire.push_back((server, ServerId(to), notification));
        }
    }

    fn act(&mut self, id: ServerId, act: impl FnOnce(&mut Election, &mut Core, u64, &mut Outputs) -> Option<Elected>) {
        let mut out = Outputs::default();
        let server = self.servers.get_mut(&id).expect("it was added");
        if let Some(elected) = act(&mut server.election, &mut server.core, self.now, &mut out) {
            server.core.round = elected.round;
            server.core.vote = elected.vote;
            server.elected = Some(elected);
        }
        self.said_by(id, &out);
    }

    fn start(&mut self, servers: impl IntoIterator<Item = i64>) {
        for server in servers {
            let core = &self.server(server).core;
            let election = Election::new(core);
            *self.server(server) = Server { election, elected: None, core: core.clone() };
            self.act(ServerId(server), Election::start);
        }
    }

    /// Links of one server with others, in both directions. As with Apache the last message is said again.
    fn link(&mut self, one: i64, others: &[i64]) {
        for other in others {
            for (a, b) in [(ServerId(one), ServerId(*other)), (ServerId(*other), ServerId(one))] {
                if a == b || !self.server(a.0).core.election_links.insert(b) {
                    continue;
                }
                if let Some(last) = self.last.get(&(a, b)) {
                    self.wire.push_back((a, b, last.clone()));
                }
                if self.server(a.0).elected.is_none() && self.server(a.0).election.resend_at > 0 {
                    self.act(a, Election::links_changed);
                }
            }
        }
    }

    fn unlink(&mut self, one: i64, others: &[i64]) {
        for other in others {
            for (a, b) in [(ServerId(one), ServerId(*other)), (ServerId(*other), ServerId(one))] {
                self.server(a.0).core.election_links.remove(&b);
                if self.server(a.0).elected.is_none() && self.server(a.0).election.resend_at > 0 {
                    self.act(a, Election::links_changed);
                }
            }
        }
        self.wire.retain(|(from, to, _)| self.servers[from].core.election_links.contains(to));
    }

    fn state(&self, server: &Server) -> ServerState {
        match server.elected {
            None => ServerState::Looking,
            Some(e) if e.vote.leader == server.core.me() => ServerState::Leading,
            Some(_) if server.core.ensemble.is_observer(server.core.me()) => ServerState::Observing,
            Some(_) => ServerState::Following,
        }
    }

    fn deliver_one(&mut self, at: usize) {
        let Some((from, to, notification)) = self.wire.remove(at) else { return };
        let Some(server) = self.servers.get(&to) else { return };
        if !server.core.election_links.contains(&from) || server.election.resend_at == 0 {
            return;
        }
        if server.elected.is_none() {
            self.act(to, |e, core, now, out| e.notification(core, now, from, notification, out));
        } else {
            let mut out = Outputs::default();
            answer(&server.core, self.state(server), from, &notification, &mut out);
            self.said_by(to, &out);
        }
    }

    /// Hands on everything that was said, and what is said to it.
    fn settle(&mut self) {
        for _ in 0..2000 {
            self.deliver_one(0);
            if self.wire.is_empty() {
                return;
            }
        }
        panic!("they never stop talking");
    }

    /// Lets time pass, with its deadlines.
    fn pass(&mut self, millis: u64) {
        let end = self.now + millis;
        loop {
            self.settle();
            let looking = self.servers.iter().filter(|(_, s)| s.elected.is_none() && s.election.resend_at > 0);
            let due = looking.filter_map(|(id, s)| Some((s.election.next_deadline()?, *id))).min();
            let Some((at, id)) = due.filter(|(at, _)| *at <= end) else { break };
            self.now = self.now.max(at);
            self.act(id, Election::timer);
        }
        self.now = end;
    }

    /// Whom each of these servers elected; 0 for nobody yet.
    fn leaders(&self, servers: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let leader = |s: i64| self.servers[&ServerId(s)].elected.map_or(0, |e| e.vote.leader.0);
        servers.into_iter().map(leader).collect()
    }

    /// What members say once an epoch is established.
    fn establish(&mut self, epoch: i64) {
        for server in self.servers.values_mut().filter(|s| s.elected.is_some()) {
            server.core.vote.peer_epoch = epoch;
        }
    }
}

#[test]
fn a_cold_start_takes_no_time() {
    let mut net = Net::majority(&[(1, durable(0, 0)), (2, durable(0, 0)), (3, durable(0, 0))], 3);
    net.start(1..=3);
    net.settle();
    assert_eq!(net.leaders(1..=3), [3, 3, 3]);
    assert!(net.servers.values().all(|s| s.core.round == ElectionRound(1)));
}

#[test]
fn a_server_alone_elects_itself() {
    let mut net = Net::majority(&[(1, durable(4, 2))], 1);
    net.start([1]);
    assert_eq!(net.server(1).elected, Some(Elected { vote: vote(1, 0x4_0000_0002, 4), round: ElectionRound(1) }));
    assert!(net.wire.is_empty());
}

#[test]
fn two_of_three_are_enough_and_one_is_not() {
    let mut net = Net::majority(&[(1, durable(0, 0)), (2, durable(0, 0))], 3);
    net.start([1]);
    net.pass(100_000);
    assert_eq!(net.leaders([1]), [0]);
    net.start([2]);
    net.settle();
    assert_eq!(net.leaders([1, 2]), [2, 2]);
}

#[test]
fn epoch_then_zxid_then_id() {
    for (states, best) in [
        ([(1, durable(2, 0)), (2, durable(1, 9)), (3, durable(1, 9))], 1),
        ([(1, durable(1, 3)), (2, durable(1, 9)), (3, durable(1, 8))], 2),
        ([(1, durable(1, 9)), (2, durable(1, 9)), (3, durable(1, 9))], 3),
    ] {
        let mut net = Net::majority(&states, 3);
        net.start(1..=3);
        net.settle();
        assert_eq!(net.leaders(1..=3), [best; 3]);
    }
    let ahead = Durable { current: CurrentEpoch(3), accepted: AcceptedEpoch(3), ..durable(1, 1) };
    let mut net = Net::majority(&[(1, ahead), (2, durable(2, 9))], 3);
    net.start([1, 2]);
    net.settle();
    assert_eq!(net.leaders([1, 2]), [1, 1], "the epoch that was adopted, not that of the zxid");
}

#[test]
fn a_late_server_joins_the_leader_there_is() {
    let mut net = Net::majority(&[(1, durable(1, 1)), (2, durable(1, 1)), (3, durable(1, 9))], 3);
    net.unlink(3, &[1, 2]);
    net.start([1, 2]);
    net.settle();
    net.establish(2);
    net.start([3]);
    net.link(3, &[1]);
    net.pass(1000);
    assert_eq!(net.leaders([3]), [0], "the leader itself did not say so");
    net.link(3, &[2]);
    net.settle();
    assert_eq!(net.leaders(1..=3), [2, 2, 2]);
    let elected = net.server(3).elected.unwrap();
    assert_eq!((elected.vote.peer_epoch, elected.round), (2, ElectionRound(1)));
}

#[test]
fn the_final_wait_is_for_those_who_have_a_link_and_said_nothing() {
    let states = [(1, durable(1, 1)), (2, durable(1, 1)), (3, durable(1, 2))];
    let mut net = Net::majority(&states, 3);
    net.start([1, 2]);
    net.pass(199);
    assert_eq!(net.leaders([1, 2]), [0, 0]);
    net.pass(1);
    assert_eq!(net.leaders([1, 2]), [2, 2]);

    let mut net = Net::majority(&states, 3);
    net.start([1, 2]);
    net.pass(199);
    net.start([3]);
    net.settle();
    assert_eq!(net.leaders(1..=3), [3, 3, 3], "it had something better to offer");

    let mut net = Net::majority(&states, 3);
    net.start([1, 2]);
    net.pass(100);
    net.unlink(3, &[1, 2]);
    assert_eq!(net.leaders([1, 2]), [2, 2], "nobody is left to wait for");
}

#[test]
fn the_side_with_a_quorum_elects() {
    let states: Vec<_> = (1..=5).map(|s| (s, durable(1, s as u32))).collect();
    let mut net = Net::majority(&states, 5);
    for one in [4, 5] {
        net.unlink(one, &[1, 2, 3]);
    }
    net.start(1..=5);
    net.pass(10_000);
    assert_eq!(net.leaders(1..=5), [3, 3, 3, 0, 0]);
    net.establish(2);
    for one in [4, 5] {
        net.link(one, &[1, 2, 3]);
    }
    net.settle();
    assert_eq!(net.leaders(1..=5), [3; 5]);
}

#[test]
fn who_is_behind_adopts_the_round() {
    let mut net = Net::majority(&[(1, durable(1, 1)), (2, durable(1, 1)), (3, durable(1, 1))], 3);
    net.server(1).core.round = ElectionRound(7);
    net.start(1..=3);
    net.settle();
    assert_eq!(net.leaders(1..=3), [3, 3, 3]);
    assert!(net.servers.values().all(|s| s.core.round == ElectionRound(8)));
}

#[test]
fn votes_of_an_earlier_round_are_answered_and_not_counted() {
    let ensemble = majority(3);
    let mut core = core(3, &ensemble, durable(1, 5));
    core.round = ElectionRound(4);
    let mut election = Election::new(&core);
    let mut out = Outputs::default();
    election.start(&mut core, 0, &mut out);
    out.list.clear();
    let old = said(ServerState::Looking, vote(3, 0x1_0000_0005, 1), 4);
    assert_eq!(election.notification(&mut core, 0, ServerId(1), old, &mut out), None);
    let told = notified(&out);
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].0, told[0].1.vote, told[0].1.round), (1, vote(3, 0x1_0000_0005, 1), ElectionRound(5)));
    assert_eq!(told[0].1.config.as_deref(), Some(&b"version=0"[..]));
}

#[test]
fn a_new_round_begins_with_our_own_vote() {
    let propose = |vote_of_2: Vote| {
        let mut core = core(1, &majority(3), durable(1, 5));
        let mut election = Election::new(&core);
        let mut out = Outputs::default();
        election.start(&mut core, 0, &mut out);
        let best = said(ServerState::Looking, vote(3, 0x1_0000_0009, 1), 1);
        election.notification(&mut core, 0, ServerId(3), best, &mut out);
        assert_eq!(election.proposal, vote(3, 0x1_0000_0009, 1));
        out.list.clear();
        let next = said(ServerState::Looking, vote_of_2, 2);
        election.notification(&mut core, 0, ServerId(2), next, &mut out);
        assert_eq!(election.round, ElectionRound(2));
        assert_eq!(election.votes.keys().copied().collect::<BTreeSet<_>>(), ids([1, 2]), "the vote of 3 is forgotten");
        assert_eq!(notified(&out).len(), 2, "everybody is told");
        election.proposal
    };
    assert_eq!(propose(vote(2, 0x1_0000_0001, 1)), vote(1, 0x1_0000_0005, 1));
    assert_eq!(propose(vote(2, 0x1_0000_0006, 1)), vote(2, 0x1_0000_0006, 1), "better than ours is enough");
}

#[test]
fn one_that_missed_our_vote_gets_it_when_it_asks() {
    let mut net = Net::majority(&[(1, durable(1, 1)), (2, durable(1, 2))], 3);
    net.start([2]);
    net.settle();
    net.start([1]);
    net.settle();
    assert_eq!(net.leaders([1, 2]), [2, 2]);
}

#[test]
fn observers_are_answered_and_never_addressed() {
    let ensemble = majority(3);
    let all = [1, 2, 3, 90].map(|s| core(s, &ensemble, durable(1, 1)));
    let mut net = Net::linked(all);
    net.start([1, 2, 3]);
    assert!(net.wire.iter().all(|(_, to, _)| *to != ServerId(90)));
    net.settle();
    net.start([90]);
    assert!(net.wire.iter().all(|(_, _, n)| n.vote == Vote::NONE));
    net.settle();
    assert_eq!(net.leaders([1, 2, 3, 90]), [3; 4]);
    assert!(net.server(90).elected.is_some_and(|e| e.round == ElectionRound(1)));
}

#[test]
fn an_observer_that_was_first_asks_again() {
    let ensemble = majority(3);
    let mut net = Net::linked([1, 2, 90].map(|s| core(s, &ensemble, durable(1, 1))));
    net.start([90]);
    net.pass(500);
    net.start([1, 2]);
    net.pass(1500);
    assert_eq!(net.leaders([1, 2, 90]), [2, 2, 2]);
}

#[test]
fn an_observer_that_joins_an_election_waits_for_its_quorum() {
    let ensemble = majority(5);
    let mut net = Net::linked([1, 2, 90].map(|s| core(s, &ensemble, durable(1, 1))));
    net.start([1, 2, 90]);
    net.pass(5000);
    assert_eq!(net.leaders([1, 2, 90]), [0, 0, 0]);
}

/// A voter answers observers at once, and whoever is behind gets told: together that must come to an end.
#[test]
fn an_observer_whose_round_is_ahead_does_not_talk_without_end() {
    let ensemble = majority(3);
    let mut net = Net::linked([1, 2, 90].map(|s| core(s, &ensemble, durable(1, 1))));
    net.server(90).core.round = ElectionRound(5);
    net.start([1, 90]);
    net.settle();
    assert_eq!(net.leaders([1, 90]), [0, 0]);
    net.start([2]);
    net.pass(1500);
    assert_eq!(net.leaders([1, 2, 90]), [2, 2, 2]);
}

/// Apache's observers tell who is behind.
#[test]
fn an_observer_whose_round_is_ahead_has_no_use_for_an_answer() {
    let ensemble = majority(3);
    let mut core = core(1, &ensemble, durable(1, 1));
    let mut election = Election::new(&core);
    election.start(&mut core, 1000, &mut Outputs::default());
    for (round, answers) in [(1, 1), (2, 0)] {
        let mut out = Outputs::default();
        let asks = said(ServerState::Looking, Vote::NONE, round);
        assert_eq!(election.notification(&mut core, 1000, ServerId(90), asks, &mut out), None);
        assert_eq!(notified(&out).len(), answers, "round {round}");
    }
}

fn recovering(how: Recovering) -> Durable {
    Durable { recovering: how, ..durable(5, 9) }
}

#[test]
fn a_server_that_forgot_is_no_voter() {
    for how in [Recovering::History, Recovering::Promise] {
        let mut net = Net::majority(&[(1, durable(1, 1)), (2, recovering(how))], 3);
        net.start([1, 2]);
        assert!(net.wire.iter().all(|(from, _, n)| *from == ServerId(1) || n.vote == Vote::NONE));
        net.pass(10_000);
        assert_eq!(net.leaders([1, 2]), [0, 0], "one voice of three");
    }
}

#[test]
fn a_server_that_forgot_joins_whom_others_elect() {
    for how in [Recovering::History, Recovering::Promise] {
        let mut net = Net::majority(&[(1, durable(1, 1)), (2, durable(1, 1)), (3, recovering(how))], 3);
        net.start(1..=3);
        net.pass(5000);
        assert_eq!(net.leaders(1..=3), [2, 2, 2]);
    }
}

#[test]
fn one_that_lost_its_promise_waits_until_others_have_a_leader() {
    for (how, joins) in [(Recovering::History, true), (Recovering::Promise, false)] {
        let mut core = core(3, &majority(3), recovering(how));
        let mut election = Election::new(&core);
        let mut out = Outputs::default();
        election.start(&mut core, 0, &mut out);
        let two = vote(2, 0x1_0000_0001, 1);
        election.notification(&mut core, 0, ServerId(1), said(ServerState::Looking, two, 1), &mut out);
        let elected = election.notification(&mut core, 0, ServerId(2), said(ServerState::Looking, two, 1), &mut out);
        assert_eq!(elected.is_some(), joins);
        if joins {
            continue;
        }
        election.notification(&mut core, 0, ServerId(1), said(ServerState::Following, two, 1), &mut out);
        let elected = election.notification(&mut core, 0, ServerId(2), said(ServerState::Leading, two, 1), &mut out);
        assert_eq!(elected, Some(Elected { vote: two, round: ElectionRound(1) }));
    }
}

#[test]
fn a_server_that_forgot_never_leads_whatever_others_remember() {
    let mut core = core(3, &majority(3), recovering(Recovering::History));
    let mut election = Election::new(&core);
    let mut out = Outputs::default();
    election.start(&mut core, 0, &mut out);
    let me = vote(3, 0x5_0000_0009, 5);
    for state in [ServerState::Looking, ServerState::Following] {
        for from in [1, 2] {
            let elected = election.notification(&mut core, 0, ServerId(from), said(state, me, 1), &mut out);
            assert_eq!(elected, None);
        }
    }
    assert_eq!(election.timer(&mut core, 1000, &mut out), None);
    assert!(notified(&out).iter().all(|(_, n)| n.vote == Vote::NONE));
}

#[test]
fn two_servers_that_forgot_do_not_talk_without_end() {
    let states = [(1, durable(1, 1)), (2, recovering(Recovering::History)), (3, recovering(Recovering::Promise))];
    let mut net = Net::majority(&states, 3);
    net.start(1..=3);
    net.settle();
    assert_eq!(net.leaders(1..=3), [0, 0, 0]);
}

#[test]
fn votes_without_a_voice_change_nothing() {
    let mut core = core(2, &majority(3), durable(1, 5));
    let mut election = Election::new(&core);
    let mut out = Outputs::default();
    election.start(&mut core, 0, &mut out);
    let before = election.clone();
    for nothing in [vote(3, -1, 9), vote(3, i64::MIN, 9), vote(i64::MIN, 5, 9), vote(7, 5, 9)] {
        for round in [1, 2, i64::MAX] {
            let n = said(ServerState::Looking, nothing, round);
            assert_eq!(election.notification(&mut core, 0, ServerId(3), n, &mut out), None);
            assert_eq!(election, before);
        }
    }
    for state in [ServerState::Following, ServerState::Leading, ServerState::Observing] {
        let n = said(state, vote(90, 5, 9), 1);
        assert_eq!(election.notification(&mut core, 0, ServerId(3), n, &mut out), None);
        assert_eq!(election, before);
    }
    let mine = said(ServerState::Looking, vote(3, 99, 9), 1);
    election.notification(&mut core, 0, ServerId(2), mine, &mut out);
    assert_eq!(election, before, "nobody else speaks for this server");
    for round in [1, 2, i64::MAX] {
        let n = said(ServerState::Looking, Vote::NONE, round);
        assert_eq!(election.notification(&mut core, 0, ServerId(3), n, &mut out), None);
        assert_eq!(election, Election { voiceless: ids([3]), ..before.clone() });
    }
}

#[test]
fn nobody_waits_for_the_vote_of_who_has_no_voice() {
    let mut core = core(2, &majority(3), durable(1, 5));
    core.election_links = ids([1, 3]);
    let mut election = Election::new(&core);
    let mut out = Outputs::default();
    election.start(&mut core, 0, &mut out);
    let mut hear = |from, vote| {
        let n = said(ServerState::Looking, vote, 1);
        election.notification(&mut core, 0, ServerId(from), n, &mut out)
    };
    let ours = vote(2, Zxid::new(1, 5).to_wire(), 1);
    assert_eq!(hear(1, ours), None, "server 3 may have a better vote");
    assert_eq!(hear(3, Vote::NONE).map(|e| e.vote), Some(ours));
    assert_eq!(hear(3, vote(3, 0, 0)), None, "it has one again");
}

#[test]
fn the_last_of_all_rounds() {
    let mut net = Net::majority(&[(1, durable(1, 1)), (2, durable(1, 1))], 3);
    net.server(1).core.round = ElectionRound(i64::MAX);
    net.start([1, 2]);
    net.settle();
    assert_eq!(net.leaders([1, 2]), [2, 2]);
    net.start([1, 2]);
    net.settle();
    assert_eq!(net.leaders([1, 2]), [2, 2]);
}

#[test]
fn a_leader_that_is_gone_is_not_joined() {
    let mut core = core(3, &majority(3), durable(1, 1));
    core.election_links = ids([1, 2]);
    let mut election = Election::new(&core);
    let mut out = Outputs::default();
    election.start(&mut core, 0, &mut out);
    let two = vote(2, 0x1_0000_0001, 2);
    assert_eq!(election.notification(&mut core, 0, ServerId(2), said(ServerState::Leading, two, 4), &mut out), None);
    core.election_links = ids([1]);
    assert_eq!(election.links_changed(&mut core, 0, &mut out), None);
    assert_eq!(election.notification(&mut core, 0, ServerId(1), said(ServerState::Following, two, 4), &mut out), None);
    core.election_links = ids([1, 2]);
    out.list.clear();
    assert_eq!(election.links_changed(&mut core, 0, &mut out), None);
    assert_eq!(notified(&out).iter().map(|n| n.0).collect::<Vec<_>>(), [2], "it hears of us at once, alone");
    let elected = election.notification(&mut core, 0, ServerId(2), said(ServerState::Leading, two, 4), &mut out);
    assert_eq!(elected, Some(Elected { vote: two, round: ElectionRound(4) }));
}

#[test]
fn a_quorum_of_followers_has_no_leader_until_it_says_so() {
    for round in [1, 4] {
        let mut core = core(5, &majority(5), durable(1, 1));
        let mut election = Election::new(&core);
        let mut out = Outputs::default();
        election.start(&mut core, 0, &mut out);
        let two = vote(2, 0x1_0000_0001, 2);
        for (from, state) in [(1, ServerState::Following), (3, ServerState::Following), (4, ServerState::Following)] {
            assert_eq!(election.notification(&mut core, 0, ServerId(from), said(state, two, round), &mut out), None);
        }
        let follows = said(ServerState::Following, two, round);
        assert_eq!(election.notification(&mut core, 0, ServerId(2), follows, &mut out), None, "not even of itself");
        let leads = said(ServerState::Leading, two, round);
        let joined = Some(Elected { vote: two, round: ElectionRound(round) });
        assert_eq!(election.notification(&mut core, 0, ServerId(2), leads, &mut out), joined);
    }
}

#[test]
fn a_better_vote_begins_its_own_final_wait() {
    let mut core = core(1, &majority(3), durable(1, 1));
    core.election_links = ids([2, 3]);
    let mut election = Election::new(&core);
    let mut out = Outputs::default();
    election.start(&mut core, 0, &mut out);
    let two = said(ServerState::Looking, vote(2, 0x1_0000_0001, 1), 1);
    let three = said(ServerState::Looking, vote(3, 0x1_0000_0001, 1), 1);
    assert_eq!(election.notification(&mut core, 0, ServerId(2), two, &mut out), None);
    assert_eq!(election.notification(&mut core, 199, ServerId(3), three, &mut out), None);
    assert_eq!(election.timer(&mut core, 398, &mut out), None);
    assert_eq!(election.timer(&mut core, 399, &mut out).map(|e| e.vote.leader), Some(ServerId(3)));
}

#[test]
fn a_leader_that_goes_during_the_final_wait_is_not_elected() {
    let mut core = core(1, &majority(3), durable(1, 1));
    core.election_links = ids([2, 3]);
    let mut election = Election::new(&core);
    let mut out = Outputs::default();
    election.start(&mut core, 0, &mut out);
    let two = said(ServerState::Looking, vote(2, 0x1_0000_0001, 1), 1);
    assert_eq!(
        election.notification(&mut core, 0, ServerId(2), two.clone(), &mut out),
        None,
        "3 may have a better one"
    );
    core.election_links = ids([3]);
    assert_eq!(election.links_changed(&mut core, 0, &mut out), None);
    assert_eq!(election.timer(&mut core, 500, &mut out), None);
    core.election_links = ids([2, 3]);
    election.links_changed(&mut core, 500, &mut out);
    assert_eq!(election.notification(&mut core, 500, ServerId(2), two, &mut out), None);
    assert_eq!(election.timer(&mut core, 699, &mut out), None, "it waits anew");
    assert_eq!(election.timer(&mut core, 700, &mut out).map(|e| e.vote.leader), Some(ServerId(2)));
}

#[test]
fn a_leader_of_this_round_is_joined_by_its_name() {
    let mut core = core(3, &majority(3), durable(1, 1));
    let mut election = Election::new(&core);
    let mut out = Outputs::default();
    election.start(&mut core, 0, &mut out);
    let before = said(ServerState::Leading, vote(2, 0x1_0000_0001, 1), 1);
    let after = said(ServerState::Following, vote(2, 0x1_0000_0001, 2), 1);
    assert_eq!(election.notification(&mut core, 0, ServerId(2), before, &mut out), None);
    let elected = election.notification(&mut core, 0, ServerId(1), after, &mut out);
    assert_eq!(elected.map(|e| e.vote.leader), Some(ServerId(2)), "one of them has the new epoch already");
}

#[test]
fn a_leader_that_looks_again_is_not_joined() {
    let mut core = core(3, &majority(3), durable(1, 1));
    let mut election = Election::new(&core);
    let mut out = Outputs::default();
    election.start(&mut core, 0, &mut out);
    let two = vote(2, 0x1_0000_0001, 2);
    election.notification(&mut core, 0, ServerId(2), said(ServerState::Leading, two, 4), &mut out);
    election.notification(&mut core, 0, ServerId(2), said(ServerState::Looking, two, 0), &mut out);
    assert_eq!(election.notification(&mut core, 0, ServerId(1), said(ServerState::Following, two, 4), &mut out), None);
}

#[test]
fn others_may_have_made_us_their_leader() {
    let elect = |round| {
        let mut core = core(3, &majority(3), durable(1, 1));
        let mut election = Election::new(&core);
        let mut out = Outputs::default();
        election.start(&mut core, 0, &mut out);
        let me = said(ServerState::Following, vote(3, 0x1_0000_0001, 1), round);
        election.notification(&mut core, 0, ServerId(1), me.clone(), &mut out);
        election.notification(&mut core, 0, ServerId(2), me, &mut out)
    };
    assert_eq!(elect(1).map(|e| e.vote.leader), Some(ServerId(3)));
    assert_eq!(elect(2), None, "in another round that was somebody else's election");
}

#[test]
fn established_votes_agree_on_leader_and_epoch() {
    let ballot = |state, zxid, peer_epoch, round, version| {
        Ballot::of(&Notification { version, ..said(state, vote(3, zxid, peer_epoch), round) })
    };
    use ServerState::{Following, Leading, Looking};
    let leading = ballot(Leading, 5, 2, 1, 2);
    assert!(leading.agrees(&ballot(Following, 6, 2, 9, 2)), "zxid and round differ among members");
    assert!(!leading.agrees(&ballot(Following, 5, 3, 1, 2)));
    assert!(leading.agrees(&ballot(Following, 5, 3, 1, 0)), "an old message's epoch means nothing");
    assert!(!ballot(Leading, 5, 2, 1, 0).agrees(&ballot(Following, 5, 3, 1, 0)), "unless both are old");
    let looking = ballot(Looking, 5, 2, 1, 2);
    assert!(looking.agrees(&leading) && leading.agrees(&looking));
    for other in [ballot(Leading, 6, 2, 1, 2), ballot(Leading, 5, 3, 1, 2), ballot(Leading, 5, 2, 2, 2)] {
        assert!(!looking.agrees(&other) && !other.agrees(&looking));
    }
}

#[test]
fn without_weight_nobody_leads() {
    let groups = BTreeMap::from([(1, ids([1, 2, 3]))]);
    let verifier = QuorumVerifier::Hierarchical { groups, weights: BTreeMap::from([(ServerId(3), 0)]) };
    let ensemble = Ensemble::new(0, ids(1..=3), ids([]), verifier, Bytes::new()).unwrap();
    let mut net = Net::linked([
        core(1, &ensemble, durable(1, 1)),
        core(2, &ensemble, durable(1, 1)),
        core(3, &ensemble, durable(2, 9)),
    ]);
    net.start(1..=3);
    net.pass(5000);
    assert_eq!(net.leaders(1..=3), [2, 2, 2]);
}

#[test]
fn groups_have_to_agree() {
    let groups = BTreeMap::from([(1, ids([1, 2, 3])), (2, ids([4, 5, 6])), (3, ids([7, 8, 9]))]);
    let verifier = QuorumVerifier::Hierarchical { groups, weights: BTreeMap::new() };
    let ensemble = Ensemble::new(0, ids(1..=9), ids([]), verifier, Bytes::new()).unwrap();
    let elect = |servers: &[i64]| {
        let mut net = Net::linked(servers.iter().map(|s| core(*s, &ensemble, durable(1, 1))));
        net.start(servers.iter().copied());
        net.pass(5000);
        net.leaders(servers.iter().copied())
    };
    assert_eq!(elect(&[1, 2, 4, 5]), [5; 4]);
    assert_eq!(elect(&[1, 2, 3, 4, 7]), [0; 5]);
}

#[test]
fn votes_are_repeated_ever_more_slowly() {
    let mut core = core(1, &majority(3), durable(1, 1));
    core.config.notification_interval_max = 150;
    let mut election = Election::new(&core);
    let mut out = Outputs::default();
    election.start(&mut core, 0, &mut out);
    let mut at = Vec::new();
    for _ in 0..6 {
        let now = election.next_deadline().unwrap();
        at.push(now);
        out.list.clear();
        election.timer(&mut core, now - 1, &mut out);
        assert!(out.list.is_empty(), "not before its time");
        election.timer(&mut core, now, &mut out);
        assert_eq!(notified(&out).iter().map(|n| n.0).collect::<Vec<_>>(), [2, 3]);
    }
    assert_eq!(at, [20, 60, 140, 290, 440, 590]);
}

#[test]
fn who_has_a_leader_answers_those_who_look() {
    let mut core = core(1, &majority(3), durable(1, 1));
    core.round = ElectionRound(6);
    core.vote = vote(2, 0x1_0000_0001, 2);
    let answers = |from, state| {
        let mut out = Outputs::default();
        answer(&core, ServerState::Following, ServerId(from), &said(state, Vote::NONE, 9), &mut out);
        notified(&out)
    };
    for from in [2, 3, 90, 1234] {
        let config = Some(Bytes::from_static(b"version=0"));
        let expected = Notification { config, ..said(ServerState::Following, core.vote, 6) };
        assert_eq!(answers(from, ServerState::Looking), [(from, expected)]);
        for state in [ServerState::Following, ServerState::Leading, ServerState::Observing] {
            assert_eq!(answers(from, state), []);
        }
    }
}

proptest! {
    /// Messages of different links overtake each other, are said twice, links break and come back: in the end
    /// everybody has one leader.
    #[test]
    fn whatever_happens_to_messages_an_election_ends(
        states in proptest::collection::vec((1..3_u32, 0..3_u32, 0..3_i64), 3..6),
        events in proptest::collection::vec((0..8_u8, any::<u16>()), 0..200),
    ) {
        let voters = states.len() as i64;
        let ensemble = majority(voters);
        let mut net = Net::linked(states.iter().zip(1..).map(|((epoch, counter, round), s)| {
            let mut core = core(s, &ensemble, durable(*epoch, *counter));
            core.round = ElectionRound(*round);
            core
        }));
        net.start(1..=voters);
        for (kind, pick) in events {
            let pick = usize::from(pick);
            let (a, b) = (pick as i64 % voters + 1, pick as i64 / voters % voters + 1);
            match kind {
                0 => net.unlink(a, &[b]),
                1 => net.link(a, &[b]),
                2 => net.pass(pick as u64 % 300),
                3 if !net.wire.is_empty() => {
                    let again = net.wire[pick % net.wire.len()].clone();
                    net.wire.push_back(again);
                }
                // The oldest message of some link.
                _ if !net.wire.is_empty() => {
                    let (from, to, _) = net.wire[pick % net.wire.len()];
                    let oldest = net.wire.iter().position(|(f, t, _)| (*f, *t) == (from, to)).expect("there is one");
                    net.deliver_one(oldest);
                }
                _ => {}
            }
        }
        let all: Vec<_> = (1..=voters).collect();
        for server in &all {
            net.link(*server, &all);
        }
        // Whoever has a leader that does not lead, or leads without a quorum, looks again, as after initLimit.
        for _ in 0..20 {
            net.pass(2000);
            let leaders = net.leaders(1..=voters);
            let mut again = Vec::new();
            for (server, leader) in all.iter().zip(&leaders) {
                let followers = all.iter().zip(&leaders).filter(|(_, l)| *l == leader).map(|(s, _)| *s);
                let leads = *leader > 0 && leaders[*leader as usize - 1] == *leader;
                if *leader > 0 && !(leads && ensemble.is_quorum(&ids(followers))) {
                    again.push(*server);
                }
            }
            net.start(again);
        }
        let leaders = net.leaders(1..=voters);
        prop_assert!(leaders[0] > 0 && leaders.iter().all(|l| *l == leaders[0]), "{:?}", leaders);
    }
}
