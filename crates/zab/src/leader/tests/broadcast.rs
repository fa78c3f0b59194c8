//! An established leader.

use super::{NONE, Run, TICK, info, request, setup};
use crate::history::History;
use crate::io::{Input, Level, Output, Outputs};
use crate::limits::{COUNTER_LAST, LINK_UNFLUSHED_MAX};
use crate::peer::Phase;
use bytes::Bytes;
use farrier_proto::quorum::{LearnerInfo, LearnerPacket};
use farrier_proto::{AcceptedEpoch, ServerId, SessionId, Zxid};

/// Servers 1 and 2 are up to date on links 1 and 2, in epoch 2.
fn broadcasting() -> Run {
    let mut run = setup(1, &[(1, 1)], |_| {});
    run.establish();
    run.join(1, 1, Zxid::new(1, 1));
    assert_eq!(run.ack(1, 2, 0), ["1> UPTODATE"]);
    assert_eq!(run.ack(1, 2, 0), NONE);
    run
}

#[test]
fn a_quorum_of_copies_commits_in_order() {
    let mut run = broadcasting();
    for counter in 1..=3 {
        assert_eq!(
            run.propose(2, counter, 1),
            [format!("append 2:{counter}"), format!("1> PROPOSAL 2:{counter}"), format!("2> PROPOSAL 2:{counter}")]
        );
    }
    assert_eq!(run.ack(1, 2, 3), NONE);
    assert_eq!(
        run.ack(2, 2, 2),
        ["deliver 2:1", "deliver 2:2", "1> COMMIT 2:1", "1> COMMIT 2:2", "2> COMMIT 2:1", "2> COMMIT 2:2"],
        "this server's own copy is not needed"
    );
    assert_eq!(run.ack(2, 2, 1), NONE, "late acknowledgements");
    assert_eq!(run.ack(1, 1, 1), NONE, "old releases acknowledge what they got in a DIFF");
    assert_eq!(run.durable(), ["deliver 2:3", "1> COMMIT 2:3", "2> COMMIT 2:3"]);
}

/// As [`broadcasting`], but server 1 takes a COMMIT for everything before it, and server 2 does not.
fn broadcasting_to_one_cumulative() -> Run {
    let mut run = setup(1, &[(1, 1)], |_| {});
    run.establish();
    run.up(1);
    let info = LearnerInfo { cumulative: true, ..info(1) };
    run.says(1, LearnerPacket::FollowerInfo { accepted: AcceptedEpoch(0), info });
    run.ack_epoch(1, Zxid::new(1, 1), None);
    assert_eq!(run.ack(1, 2, 0), ["1> UPTODATE"]);
    assert_eq!(run.ack(1, 2, 0), NONE);
    run
}

#[test]
fn a_learner_that_says_so_gets_one_commit_for_a_run() {
    let mut run = broadcasting_to_one_cumulative();
    for counter in 1..=3 {
        run.propose(2, counter, 1);
    }
    assert_eq!(run.ack(1, 2, 3), NONE);
    assert_eq!(run.ack(2, 2, 2), ["deliver 2:1", "deliver 2:2", "1> COMMIT 2:2", "2> COMMIT 2:1", "2> COMMIT 2:2"]);
    assert_eq!(run.durable(), ["deliver 2:3", "1> COMMIT 2:3", "2> COMMIT 2:3"]);
}

#[test]
fn a_commit_for_a_run_does_not_overtake_a_sync() {
    let mut run = broadcasting_to_one_cumulative();
    run.propose(2, 1, 1);
    run.sync_learner(1);
    assert_eq!(run.propose(2, 2, LINK_UNFLUSHED_MAX)[2..], ["1 flush?", "2> PROPOSAL 2:2", "2 flush?"]);
    run.flushed(2);
    // Confirms the sync, too.
    run.ack(2, 2, 2);
    assert_eq!(run.durable(), ["deliver 2:1", "deliver 2:2", "2> COMMIT 2:1", "2> COMMIT 2:2"]);
    assert_eq!(run.flushed(1), ["1> COMMIT 2:1", "1> SYNC", "1> COMMIT 2:2"]);
}

#[test]
fn answers_to_revalidate_come_behind_their_commits_and_in_order() {
    let of = |session: i64| SessionId(session);
    let mut run = broadcasting_to_one_cumulative();
    assert_eq!(run.answer_revalidate(1, 5, Zxid::ZERO), [format!("1> REVALIDATE {} true", of(5))]);
    for counter in 1..=3 {
        run.propose(2, counter, 1);
    }
    assert_eq!(run.answer_revalidate(2, 6, Zxid::ZERO), [format!("2> REVALIDATE {} true", of(6))], "it awaits nothing");
    assert_eq!(run.answer_revalidate(1, 7, Zxid::new(2, 2)), NONE);
    assert_eq!(run.answer_revalidate(1, 8, Zxid::ZERO), NONE, "nor overtakes others on its link");
    run.ack(2, 2, 3);
    assert_eq!(
        run.durable(),
        [
            "deliver 2:1".to_owned(),
            "deliver 2:2".to_owned(),
            "deliver 2:3".to_owned(),
            "1> COMMIT 2:2".to_owned(),
            format!("1> REVALIDATE {} true", of(7)),
            format!("1> REVALIDATE {} true", of(8)),
            "1> COMMIT 2:3".to_owned(),
            "2> COMMIT 2:1".to_owned(),
            "2> COMMIT 2:2".to_owned(),
            "2> COMMIT 2:3".to_owned(),
        ]
    );
    // What is committed, but was not sent to a link that takes nothing.
    assert_eq!(run.propose(2, 4, LINK_UNFLUSHED_MAX)[2..], ["1 flush?", "2> PROPOSAL 2:4", "2 flush?"]);
    run.flushed(2);
    run.ack(2, 2, 4);
    assert_eq!(run.durable(), ["deliver 2:4", "2> COMMIT 2:4"]);
    assert_eq!(run.answer_revalidate(1, 9, Zxid::ZERO), NONE);
    assert_eq!(run.flushed(1), ["1> COMMIT 2:4".to_owned(), format!("1> REVALIDATE {} true", of(9))]);
    // One whose link is gone gets nothing.
    run.propose(2, 5, 1);
    assert_eq!(run.answer_revalidate(1, 10, Zxid::new(2, 5)), NONE);
    run.down(1);
    run.ack(2, 2, 5);
    assert_eq!(run.durable(), ["deliver 2:5", "2> COMMIT 2:5"]);
    assert_eq!(run.answer_revalidate(1, 11, Zxid::ZERO), NONE);
}

#[test]
fn the_acknowledgement_of_an_older_write_does_not_vouch_for_a_newer_one() {
    let mut run = broadcasting();
    run.propose(2, 1, 1);
    let first = run.written;
    run.propose(2, 2, 1);
    run.ack(1, 2, 2);
    assert_eq!(run.step(Input::Durable { id: first }), ["deliver 2:1", "1> COMMIT 2:1", "2> COMMIT 2:1"]);
}

#[test]
fn learners_without_a_vote_do_not_count() {
    let mut run = setup(1, &[(1, 1)], |_| {});
    run.establish();
    run.join(9, 9, Zxid::new(1, 1));
    assert_eq!(run.ack(9, 2, 0), ["9> UPTODATE"]);
    assert_eq!(run.propose(2, 1, 1), ["append 2:1", "2> PROPOSAL 2:1", "9> PROPOSAL 2:1"]);
    assert_eq!(run.ack(9, 2, 1), NONE);
    assert_eq!(run.durable(), NONE);
    assert_eq!(run.ack(2, 2, 1), ["deliver 2:1", "2> COMMIT 2:1", "9> COMMIT 2:1"]);
}

#[test]
fn nothing_is_committed_with_the_copy_of_a_link_that_is_gone() {
    let mut run = broadcasting();
    run.propose(2, 1, 1);
    assert_eq!(run.ack(1, 2, 1), NONE);
    assert_eq!(run.down(1), ["1 gone"]);
    assert_eq!(run.durable(), NONE);
    assert_eq!(
        run.join(5, 1, Zxid::new(2, 1)),
        ["5> TRUNC 1:1", "5> NEWLEADER 2:0", "5> PROPOSAL 2:1"],
        "who comes again gets it again"
    );
    assert_eq!(run.ack(5, 2, 0), ["5> UPTODATE"]);
    assert_eq!(run.ack(5, 2, 1), ["deliver 2:1", "2> COMMIT 2:1", "5> COMMIT 2:1"]);
    assert_eq!(run.down(1), NONE, "of the former link");
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_closes_the_link() {
    let mut run = broadcasting();
    assert_eq!(run.ack(1, 2, 1), ["1 close: PeerViolation", "1 gone"]);
    run.up(5);
    run.follower(5, 1, 2);
    assert_eq!(run.ack(5, 2, 0), ["5 close: PeerViolation"], "NEWLEADER was not sent");
}

#[test]
fn requests_come_from_learners_that_are_up_to_date() {
    let mut run = broadcasting();
    assert_eq!(run.says(1, request()), ["from 1 on 1: REQUEST"]);
    let revalidate = LearnerPacket::Revalidate { session: SessionId(1), timeout: 1 };
    assert_eq!(run.says(1, revalidate), ["from 1 on 1: REVALIDATE"]);
    run.join(5, 9, Zxid::new(1, 1));
    assert_eq!(run.pong(5), NONE);
    assert_eq!(run.says(5, request()), ["5 close: PeerViolation"]);
}

#[test]
fn of_two_servers_with_one_id_the_second_is_turned_away() {
    let mut run = broadcasting();
    run.up(5);
    let refused = ["5 close: server 1 is here already, on another connection, and was heard of a moment ago"];
    assert_eq!(run.follower(5, 1, 2), refused);
    run.timer(TICK / 2);
    run.pong(1);
    run.now += TICK;
    run.up(6);
    assert_eq!(run.follower(6, 1, 2)[0][..8], *"6 close:");
    // Nothing is heard on the first link, which may be a remainder.
    run.now += 1;
    run.up(7);
    assert_eq!(
        run.follower(7, 1, 2),
        ["1 close: server 1 came again on another link", "1 gone", "7> LEADERINFO 2 0x10000"]
    );
}

#[test]
fn a_voter_that_takes_a_snapshot_is_there_as_long_as_it_takes() {
    let mut run = setup(1, &[(1, 1)], |_| {});
    run.establish();
    run.join(1, 1, Zxid::ZERO);
    run.down(2);
    for _ in 0..100 {
        assert_eq!(run.timer(TICK / 2), NONE, "who sends a snapshot does not give up");
    }
    run.flushed(1);
    for _ in 0..10 {
        run.timer(TICK / 2);
    }
    assert_eq!(run.peer.status().phase, Phase::Broadcast, "it has time to put it on disk");
    for _ in 0..40 {
        run.timer(TICK / 2);
    }
    assert_eq!(run.peer.status().phase, Phase::Election, "it never acknowledged it");
}

#[test]
fn who_leads_is_warned_of_the_end_of_an_epoch_once() {
    let mut run = setup(1, &[(1, 1)], |c| c.counter_last = 8);
    run.establish();
    let mut out = Outputs::default();
    for counter in 1..=8 {
        run.peer.propose(0, Zxid::new(2, counter), Bytes::new(), &mut out);
        let warned = out.list.iter().filter(|o| matches!(o, Output::Note { level: Level::Warn, .. })).count();
        assert_eq!(warned, usize::from(counter >= 6), "three quarters of 8");
    }
    assert_eq!(run.peer.next_zxid(), None);
}

#[test]
fn the_last_number_of_an_epoch_ends_it_also_if_nobody_could_take_over() {
    let mut run = broadcasting();
    run.down(2);
    run.forget_history(Zxid::new(2, COUNTER_LAST - 1));
    assert_eq!(run.peer.next_zxid(), Some(Zxid::new(2, COUNTER_LAST)));
    let core = run.peer.core_mut();
    let mut out = Outputs::default();
    core.append(Zxid::new(2, COUNTER_LAST), Bytes::new(), &mut out);
    assert_eq!(run.peer.next_zxid(), None, "0xffffffff is no transaction");
    assert_eq!(run.pong(1), ["from 1 on 1: PING"], "it is not committed yet");
    run.peer.core_mut().deliver(Zxid::new(2, COUNTER_LAST), &mut out);
    run.peer.core_mut().history = History::new(Zxid::new(2, COUNTER_LAST));
    let got = run.step(Input::DialFailed { leader: ServerId(1) });
    assert!(got.contains(&"looking".into()), "{got:?}");
}

// ---- liveness ----

#[test]
fn pings_begin_behind_newleader() {
    let mut run = setup(1, &[(1, 1)], |_| {});
    run.establish();
    run.join(1, 1, Zxid::ZERO);
    assert_eq!(run.peer.next_deadline(), Some(TICK / 2));
    assert_eq!(run.timer(TICK / 2), ["2> PING 2:0"], "not while a snapshot is sent");
    run.flushed(1);
    assert_eq!(run.timer(TICK / 2), ["1> PING 2:0", "2> PING 2:0"]);
    run.propose(2, 1, 1);
    assert_eq!(run.timer(TICK / 2), ["1> PING 2:1", "2> PING 2:1"]);
    assert_eq!(run.timer(TICK / 2 - 1), NONE);
}

#[test]
fn without_a_quorum_a_leader_resigns() {
    let mut run = broadcasting();
    run.timer(TICK / 2);
    run.down(1);
    run.timer(TICK / 2);
    assert!(run.peer.next_zxid().is_some(), "two of three are enough");
    assert_eq!(run.down(2), ["2 gone"]);
    run.timer(TICK / 2);
    assert_eq!(run.timer(TICK / 2), ["looking"]);
}

#[test]
fn a_learner_that_says_nothing_is_given_up() {
    let mut run = broadcasting();
    for _ in 0..10 {
        run.timer(TICK / 2);
        run.pong(2);
    }
    let got = run.timer(TICK / 2);
    assert_eq!(got, ["1 close: nothing was heard of server 1 for too long", "1 gone", "2> PING 2:0"]);
}

#[test]
fn a_voter_that_does_not_acknowledge_is_given_up() {
    let mut run = broadcasting();
    run.propose(2, 1, 1);
    run.durable();
    run.ack(2, 2, 1);
    for _ in 0..10 {
        run.timer(TICK / 2);
        run.pong(1);
        run.pong(2);
    }
    assert_eq!(
        run.timer(TICK / 2)[..2],
        ["1 close: server 1 did not acknowledge 0x200000001 within syncLimit", "1 gone"]
    );
}

#[test]
fn each_wait_for_a_quorum_ends() {
    let run_out = |run: &mut Run| {
        let mut halves = 0;
        while !run.timer(TICK / 2).contains(&"looking".into()) {
            halves += 1;
        }
        halves
    };
    let mut run = setup(1, &[(1, 1)], |_| {});
    run.lead();
    assert_eq!(run_out(&mut run), 20, "nobody came");
    let mut run = setup(1, &[(1, 1)], |_| {});
    run.lead();
    for _ in 0..15 {
        run.timer(TICK / 2);
    }
    run.up(1);
    run.follower(1, 1, 1);
    run.durable();
    run.ack_epoch(1, Zxid::new(1, 1), Some(1));
    run.durable();
    assert_eq!(run_out(&mut run), 20, "nobody acknowledged NEWLEADER");
}

#[test]
fn after_a_pause_learners_have_time_for_an_answer() {
    let mut run = broadcasting();
    run.timer(TICK / 2);
    assert_eq!(run.peer.ping_rounds(), (1, 0));
    assert_eq!(run.timer(60 * TICK), ["1> PING 2:0", "2> PING 2:0"]);
    assert_eq!(run.peer.ping_rounds(), (2, 0));
    for link in [1, 2, 1, 2] {
        run.pong(link);
    }
    assert_eq!(run.peer.ping_rounds(), (2, 2));
    for _ in 0..4 {
        assert_eq!(run.timer(TICK / 2), ["1> PING 2:0", "2> PING 2:0"], "both answered");
    }
    let mut run = broadcasting();
    run.timer(60 * TICK);
    assert_eq!(run.timer(TICK / 2), ["1> PING 2:0", "2> PING 2:0"]);
    assert_eq!(run.timer(TICK / 2)[1], "1 gone", "nobody answered");
    assert_eq!(run.timer(TICK / 2), ["looking"]);
}

// ---- syncs ----

#[test]
fn a_sync_waits_for_a_quorum_that_still_follows() {
    let mut run = broadcasting();
    assert_eq!(run.sync(1), ["1> PING 2:0", "2> PING 2:0"]);
    assert_eq!(run.sync(2), NONE, "it shares the next round");
    assert_eq!(run.sync_learner(2), NONE);
    assert_eq!(run.peer.status().pending_syncs, 3);
    assert_eq!(run.pong(1), ["from 1 on 1: PING", "1> PING 2:0", "2> PING 2:0", "synced 1"]);
    assert_eq!(run.pong(2), ["from 2 on 2: PING"], "the answer to the first ping");
    assert_eq!(run.pong(2), ["from 2 on 2: PING", "2> SYNC", "synced 2"]);
    assert_eq!(run.peer.status().pending_syncs, 0);
}

#[test]
fn sync_follows_the_commit_of_what_was_proposed_before() {
    let mut run = broadcasting();
    run.propose(2, 1, 1);
    assert_eq!(run.sync_learner(1), ["1> PING 2:1", "2> PING 2:1"]);
    run.sync(7);
    run.propose(2, 2, 1);
    run.pong(1);
    run.pong(1);
    assert_eq!(run.durable(), NONE);
    assert_eq!(
        run.ack(2, 2, 1),
        ["deliver 2:1", "1> COMMIT 2:1", "1> SYNC", "2> COMMIT 2:1", "synced 7"],
        "what was proposed later need not be committed"
    );
}

#[test]
fn an_acknowledgement_of_a_later_proposal_confirms_too() {
    let mut run = broadcasting();
    run.propose(2, 1, 1);
    run.sync(1);
    run.propose(2, 2, 1);
    run.durable();
    assert_eq!(run.ack(1, 2, 1), ["deliver 2:1", "1> COMMIT 2:1", "2> COMMIT 2:1"], "it may have been on its way");
    assert_eq!(run.ack(1, 2, 2), ["synced 1", "deliver 2:2", "1> COMMIT 2:2", "2> COMMIT 2:2"]);
}

/// Which of Apache's servers are told of the commit is no question of who made it possible.
#[test]
fn a_voter_that_counts_for_a_commit_before_it_is_up_to_date_confirms_the_syncs_before_it() {
    let mut run = setup(1, &[(1, 1)], |_| {});
    run.establish();
    run.join(1, 1, Zxid::new(1, 1));
    assert_eq!(run.sync_learner(2), ["2> PING 2:0"]);
    assert_eq!(run.sync_learner(2), NONE, "it shares the next round");
    assert_eq!(run.propose(2, 1, LINK_UNFLUSHED_MAX).len(), 5, "to both, which have to take it");
    run.flushed(2);
    run.durable();
    assert_eq!(run.ack(1, 2, 0), NONE, "UPTODATE waits for the link");
    assert_eq!(run.ack(1, 2, 1), ["2> SYNC", "2> SYNC", "deliver 2:1", "2> COMMIT 2:1"]);
    assert_eq!(run.pong(2), ["from 2 on 2: PING"]);
    assert_eq!(run.flushed(1), ["1> COMMIT 2:1", "1> UPTODATE"]);
}

#[test]
fn answers_that_precede_the_second_acknowledgement_confirm_nothing() {
    let mut run = setup(1, &[(1, 1)], |_| {});
    run.lead();
    run.up(2);
    run.follower(2, 2, 1);
    run.durable();
    run.ack_epoch(2, Zxid::new(1, 1), Some(1));
    assert_eq!(run.timer(TICK / 2), ["2> PING 2:0"]);
    run.durable();
    assert_eq!(run.ack(2, 2, 0), ["leading 2", "2> UPTODATE"]);
    assert_eq!(run.sync(1), ["2> PING 2:0"]);
    assert_eq!(run.pong(2), ["from 2 on 2: PING"], "of the ping before UPTODATE, which Apache does not answer");
    assert_eq!(run.ack(2, 2, 0), NONE);
    assert_eq!(run.pong(2), ["from 2 on 2: PING", "synced 1"]);
}

#[test]
fn the_syncs_of_a_learner_go_with_it() {
    let mut run = broadcasting();
    run.sync_learner(1);
    run.sync_learner(1);
    assert_eq!(run.down(1), ["1 gone"]);
    assert_eq!(run.peer.status().pending_syncs, 0);
    assert_eq!(run.sync_learner(1), NONE);
    run.sync(1);
    run.pong(2);
    assert_eq!(run.pong(2), ["from 2 on 2: PING", "synced 1"]);
}

#[test]
fn a_voter_that_comes_while_a_sync_waits_is_asked_too() {
    let mut run = setup(1, &[(1, 1)], |_| {});
    run.establish();
    assert_eq!(run.sync(1), ["2> PING 2:0"]);
    run.down(2);
    run.join(1, 1, Zxid::new(1, 1));
    assert_eq!(run.ack(1, 2, 0), ["1> UPTODATE", "1> PING 2:0"]);
    assert_eq!(run.ack(1, 2, 0), NONE);
    assert_eq!(run.pong(1), ["from 1 on 1: PING", "synced 1"]);
}
