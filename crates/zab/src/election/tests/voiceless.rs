//! Servers without a vote: observers, and those that may have forgotten something.

use super::*;

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
