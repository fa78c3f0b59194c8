//! Elections among a few servers whose messages are handed on one by one.

mod net;
mod voiceless;

use super::*;
use crate::config::{Config, Durable, Ensemble, QuorumVerifier};
use bytes::Bytes;
use farrier_proto::{AcceptedEpoch, CurrentEpoch, Zxid};
use net::Net;
use proptest::prelude::*;

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
        Output::Note { text, .. } if text.starts_with("no leader yet") => None,
        other => panic!("an election only talks: {other:?}"),
    };
    out.list.iter().filter_map(told).collect()
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

/// As one of Apache's servers does that heard a worse vote of its own round: it says nothing.
#[test]
fn who_said_nothing_is_asked_in_an_earlier_round() {
    let mut core = core(1, &majority(3), durable(1, 1));
    core.election_links = ids([2, 3]);
    let mut election = Election::new(&core);
    let rounds = |out: &Outputs| notified(out).iter().map(|(to, n)| (*to, n.round.0)).collect::<Vec<_>>();
    let mut out = Outputs::default();
    election.start(&mut core, 1000, &mut out);
    assert_eq!(rounds(&out), [(2, 1), (3, 1)], "at first everybody is told");

    let mut out = Outputs::default();
    assert_eq!(
        election.notification(
            &mut core,
            1000,
            ServerId(3),
            said(ServerState::Looking, vote(1, 0x1_0000_0001, 1), 1),
            &mut out
        ),
        None
    );
    let mut out = Outputs::default();
    election.timer(&mut core, 1000 + NOTIFICATION_INTERVAL_MIN, &mut out);
    assert_eq!(rounds(&out), [(2, 0), (3, 1)], "server 2 was not heard");

    let mut out = Outputs::default();
    let same = said(ServerState::Looking, vote(1, 0x1_0000_0001, 1), 1);
    assert!(election.notification(&mut core, 1100, ServerId(2), same, &mut out).is_some());
    assert_eq!(rounds(&out), [(2, 1)], "and may have missed this server's vote");
    election.timer(&mut core, 1400, &mut out);
    assert_eq!(rounds(&out), [(2, 1), (2, 1), (3, 1)]);
}

/// Each message makes Apache's servers begin their final wait anew.
#[test]
fn a_voter_without_a_voice_leaves_others_the_time_that_they_wait() {
    for (server, voiceless, waits) in [(1, false, 40), (1, true, 400), (90, false, 40)] {
        let mut core = core(server, &majority(3), durable(1, 1));
        core.silent_until = voiceless.then_some(60_000);
        let mut election = Election::new(&core);
        let mut out = Outputs::default();
        election.start(&mut core, 1000, &mut out);
        assert_eq!(election.next_deadline(), Some(1000 + NOTIFICATION_INTERVAL_MIN));
        election.timer(&mut core, 1020, &mut out);
        assert_eq!(election.next_deadline(), Some(1020 + waits), "{server}, without a voice: {voiceless}");
    }
    // Whose answers are no reason to ask again at once.
    let mut core = core(1, &majority(3), Durable { recovering: Recovering::Promise, ..durable(1, 1) });
    let mut election = Election::new(&core);
    let mut out = Outputs::default();
    election.start(&mut core, 1000, &mut out);
    for at in [1020, 1420] {
        election.timer(&mut core, at, &mut out);
        let looks = said(ServerState::Looking, vote(2, 0x1_0000_0001, 1), 1);
        election.notification(&mut core, at + 1, ServerId(2), looks, &mut out);
        assert!(election.next_deadline() >= Some(at + 400), "after {at}");
        assert!(election.next_deadline() <= Some(at + 401), "after {at}: others elect meanwhile");
    }
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
