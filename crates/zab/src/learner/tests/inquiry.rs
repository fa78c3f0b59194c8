//! A learner whose state is not the leader's: when it leaves to get that, and what it says when it comes again.

use super::*;

/// What a server says that looks for whoever has a leader.
fn query(to: i64) -> Output {
    let notification = Notification {
        state: ServerState::Looking,
        vote: Vote::NONE,
        round: ElectionRound::default(),
        version: Notification::VERSION,
        config: Some(Bytes::from_static(b"version=5")),
    };
    Output::Notify { to: ServerId(to), notification }
}

fn says(state: ServerState, leader: i64, epoch: i64) -> Notification {
    let vote = Vote { leader: ServerId(leader), zxid: 0, peer_epoch: epoch };
    Notification { state, vote, round: ElectionRound(7), version: Notification::VERSION, config: None }
}

impl Bench {
    fn hears(&mut self, from: i64, notification: &Notification) -> Result<(), Resign> {
        self.learner.notification(&mut self.core, ServerId(from), notification, &mut Outputs::default())
    }
}

#[test]
fn it_stays_until_a_quorum_is_known_to_follow_without_it() {
    use ServerState::{Following, Leading, Looking};
    let mut b = Bench::broadcast(1);
    b.hears(3, &says(Leading, 3, 2)).unwrap();
    b.hears(2, &says(Following, 3, 2)).expect("nobody asked");
    assert!(b.learner.ask_for_state(&b.core, b.now));
    assert_eq!(b.learner.next_deadline(), Some(b.now), "its turn is the first");
    assert_eq!(b.step(Input::Timer), vec![query(2), query(3)]);
    assert_eq!(b.learner.next_deadline(), Some(b.now + 2000));
    b.hears(3, &says(Leading, 3, 2)).unwrap();
    for (state, leader, epoch) in [(Looking, 3, 2), (Following, 2, 2), (Following, 3, 1)] {
        b.hears(2, &says(state, leader, epoch)).expect("it does not follow the leader in this epoch");
    }
    b.hears(1, &says(Following, 3, 2)).expect("its own word does not count");
    b.hears(4, &says(Following, 3, 2)).expect("no voter");
    b.now += 2000;
    assert_eq!(b.step(Input::Timer), vec![query(2), query(3)]);
    b.hears(2, &says(Following, 3, 2)).expect("the leader has to say it again");
    let left = b.hears(3, &says(Leading, 3, 2)).expect_err("a quorum stays");
    assert_eq!(left.reason, "the state here is not the one of leader 3: its whole state is asked for");
    assert_eq!(b.core.state_wanted, Some(2));
}

#[test]
fn servers_take_turns_and_who_does_not_vote_is_missed_by_nobody() {
    let mut b = Bench::broadcast(2);
    assert!(b.learner.ask_for_state(&b.core, b.now));
    b.learner.deadline = None;
    assert_eq!(b.learner.next_deadline(), Some(b.now + 20_000), "server 1 is first");
    assert_eq!(b.step(Input::Timer), vec![]);
    let mut b = Bench::broadcast(4);
    assert!(b.learner.ask_for_state(&b.core, b.now));
    assert!(b.ends(Input::Timer).ends_with("its whole state is asked for"));
    let mut b = Bench::in_step(1);
    assert!(!b.learner.ask_for_state(&b.core, b.now), "it is about to get what the leader has");
}

#[test]
fn who_comes_for_the_state_says_that_it_has_none_in_that_epoch_only() {
    let later = Durable { accepted: AcceptedEpoch(2), current: CurrentEpoch(2), ..disk() };
    let mut b = Bench::new(1, later);
    b.core.state_wanted = Some(2);
    b.core.diverged = true;
    b.connect();
    assert_eq!(b.says(leader_info(2)), vec![ack_epoch(Zxid::ZERO, None)]);
    b.step(Input::SnapReceived { link: LINK, zxid: z(1, 9), config: None });
    assert_eq!((b.core.state_wanted, b.core.diverged), (None, false), "it is given once");

    let mut b = Bench::new(1, later);
    b.core.state_wanted = Some(2);
    b.connect();
    b.says(leader_info(3));
    assert_eq!(b.durable(1), vec![ack_epoch(z(1, 2), Some(2))], "another leader may need the history");
}

#[test]
fn a_server_that_was_elected_and_says_it_does_not_lead_is_not_dialled_on() {
    use ServerState::{Following, Leading, Looking};
    let of = |n: &Notification, round| Notification { round: ElectionRound(round), ..n.clone() };
    let bench = || {
        let mut b = Bench::new(1, disk());
        b.core.round = ElectionRound(7);
        b
    };
    let another = "server 3, which was elected, looks for a leader";
    for (n, why) in [
        (says(Looking, 2, 1), another),
        (of(&says(Looking, 3, 1), 8), another),
        (says(Following, 2, 2), "server 3, which was elected, follows another"),
    ] {
        assert_eq!(bench().hears(3, &n).expect_err("it does not lead").reason, why);
        bench().hears(2, &n).expect("another server's word");
        let mut b = bench();
        b.connect();
        b.hears(3, &n).expect("it answered since");
    }
    let mut b = bench();
    b.core.setback = Some(Setback { leader: ServerId(3), pause: 640, until: 9000 });
    b.hears(3, &of(&says(Looking, 3, 1), 8)).expect_err("it begins anew");
    assert_eq!(b.core.setback, None, "and is dialled at once when it is elected again");
    for n in [
        says(Looking, 3, 1),
        of(&says(Looking, 2, 1), 6),
        of(&says(Following, 2, 2), 6),
        says(Looking, Vote::NONE.leader.0, 1),
        says(Leading, 3, 2),
    ] {
        bench().hears(3, &n).expect("it may be about to lead");
    }
}
