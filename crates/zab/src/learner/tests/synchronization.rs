//! From ACKEPOCH to UPTODATE.

use super::*;

/// Whom a server follows, what it got, and that it has everything: each is told once.
#[test]
fn whom_it_follows_and_how_it_caught_up_is_told() {
    let mut b = Bench::promised(1, disk());
    b.says(LeaderPacket::Diff { zxid: z(1, 3) });
    assert_eq!(b.told, [format!("following leader 3 in epoch 2: it sends DIFF, which goes on behind {}", z(1, 2))]);
    b.says(proposal(z(1, 3)));
    b.says(new_leader(2));
    b.durable(3);
    b.says(LeaderPacket::UpToDate);
    let caught_up = format!("caught up with leader 3 in epoch 2: the last zxid is {}", z(1, 3));
    assert_eq!(b.told[1..], [caught_up]);

    let mut b = Bench::promised(1, Durable { last_logged: z(1, 9), ..disk() });
    b.says(LeaderPacket::Trunc { zxid: z(1, 4) });
    assert!(b.told.len() == 1 && b.told[0].ends_with(&format!("TRUNC, which cuts the log behind {}", z(1, 4))));
    let mut b = Bench::promised(1, disk());
    b.step(Input::SnapReceived { link: LINK, zxid: z(1, 5), config: None });
    assert!(b.told.len() == 1 && b.told[0].ends_with(&format!("SNAP, its whole state at {}", z(1, 5))), "{:?}", b.told);
}

#[test]
fn diff_appends_at_arrival_and_delivers_at_commit() {
    let mut b = Bench::promised(1, disk());
    assert_eq!(b.says(LeaderPacket::Diff { zxid: z(1, 4) }), vec![]);
    assert_eq!(b.says(proposal(z(1, 3))), vec![append(2, z(1, 3))]);
    assert_eq!(b.says(commit(z(1, 3))), vec![deliver(z(1, 3))]);
    assert_eq!(b.says(proposal(z(1, 4))), vec![append(3, z(1, 4))]);
    assert_eq!(b.says(commit(z(1, 4))), vec![deliver(z(1, 4))]);
    assert_eq!(b.durable(3), vec![], "nothing is acknowledged before NEWLEADER");
    assert_eq!(b.says(new_leader(2)), vec![save_current(4, 2)]);
    assert_eq!(b.core.current, CurrentEpoch(1), "not yet");
    assert_eq!(b.durable(4), vec![ack(z(2, 0))]);
    assert_eq!(b.core.current, CurrentEpoch(2));
    assert_eq!(b.learner.next_deadline(), Some(11_000), "syncLimit of 5 ticks from now on");
    assert_eq!(b.says(LeaderPacket::UpToDate), vec![role(2, false), ack(z(2, 0))]);
    assert_eq!(b.core.vote.peer_epoch, 2);
}

#[test]
fn the_acknowledgement_of_newleader_is_the_first() {
    let mut b = Bench::in_step(1);
    assert_eq!(b.says(proposal(z(2, 1))), vec![append(2, z(2, 1))]);
    assert_eq!(b.says(new_leader(2)), vec![save_current(3, 2)]);
    assert_eq!(b.says(proposal(z(2, 2))), vec![append(4, z(2, 2))]);
    assert_eq!(b.durable(2), vec![], "2:1 is on disk, but the epoch is not");
    assert_eq!(b.durable(3), vec![ack(z(2, 0)), ack(z(2, 1))]);
    assert_eq!(b.says(proposal(z(2, 3))), vec![append(5, z(2, 3))]);
    assert_eq!(b.durable(5), vec![ack(z(2, 2)), ack(z(2, 3))]);
}

#[test]
fn what_is_committed_before_newleader_is_not_acknowledged() {
    let mut b = Bench::in_step(1);
    b.says(proposal(z(2, 1)));
    b.says(commit(z(2, 1)));
    b.says(proposal(z(2, 2)));
    assert_eq!(b.says(new_leader(2)), vec![save_current(4, 2)]);
    assert_eq!(b.durable(4), vec![ack(z(2, 0)), ack(z(2, 2))]);
}

#[test]
fn a_commit_before_uptodate_is_delivered() {
    let mut b = Bench::in_step(1);
    b.says(proposal(z(2, 1)));
    b.says(new_leader(2));
    assert_eq!(b.says(LeaderPacket::Ping { zxid: 0 }), vec![], "not answered, as by Apache");
    assert_eq!(b.says(commit(z(2, 1))), vec![deliver(z(2, 1))]);
    assert_eq!(b.durable(3), vec![ack(z(2, 0)), ack(z(2, 1))]);
    assert_eq!(b.says(LeaderPacket::Ping { zxid: 0 }), vec![]);
    assert_eq!(b.says(proposal(z(2, 2))), vec![append(4, z(2, 2))]);
    assert_eq!(b.says(LeaderPacket::UpToDate), vec![role(2, false), ack(z(2, 0))]);
    assert_eq!(b.says(commit(z(2, 2))), vec![deliver(z(2, 2))], "a quorum has it, whether we have or not");
}

#[test]
fn uptodate_commits_the_initial_history_and_nothing_else() {
    let mut b = Bench::in_step(1);
    b.says(proposal(z(1, 3)));
    b.says(proposal(z(1, 4)));
    b.says(commit(z(1, 3)));
    b.says(proposal(z(2, 1)));
    b.says(new_leader(2));
    assert_eq!(b.durable(5), vec![ack(z(2, 0)), ack(z(2, 1))]);
    assert_eq!(b.says(LeaderPacket::UpToDate), vec![deliver(z(1, 4)), role(2, false), ack(z(2, 0))]);
    assert_eq!(b.says(commit(z(1, 4))), vec![], "late, and known");
    assert_eq!(b.says(commit(z(2, 1))), vec![deliver(z(2, 1))]);
}

#[test]
fn what_the_synchronization_began_from_may_come_again() {
    let mut b = Bench::in_step(1);
    for zxid in [z(1, 1), z(1, 2)] {
        assert_eq!(b.says(proposal(zxid)), vec![]);
        assert_eq!(b.says(commit(zxid)), vec![]);
        assert_eq!(b.says(inform(zxid)), vec![]);
    }
    assert_eq!(b.says(proposal(z(1, 3))), vec![append(2, z(1, 3))]);
}

#[test]
fn a_configuration_of_newleader_is_in_force_with_uptodate() {
    let mut b = Bench::in_step(1);
    let config = Bytes::from_static(b"server.3=c:1:2:participant\nserver.4=d:1:2:observer\nversion=6");
    b.says(LeaderPacket::NewLeader { zxid: z(2, 0), config: config.clone() });
    b.durable(3);
    b.core.ensemble =
        Ensemble::of(&MemberList::parse(b"server.3=c:1:2:participant\nserver.4=d:1:2:observer\nversion=0").unwrap())
            .unwrap();
    let out = b.says(LeaderPacket::UpToDate);
    assert_eq!(activated(&out), [config]);
    assert_eq!(without_notes(out)[1..], [role(2, false), ack(z(2, 0))]);
    assert_eq!(b.core.ensemble.version(), 6);
}

#[test]
fn a_configuration_that_is_not_to_be_taken_is_not() {
    let mut b = Bench::in_step(1);
    b.core.config.reconfig = false;
    b.says(LeaderPacket::NewLeader { zxid: z(2, 0), config: Bytes::from_static(b"version=6") });
    b.durable(2);
    assert_eq!(b.says(LeaderPacket::UpToDate), vec![role(2, false), ack(z(2, 0))], "reconfigEnabled=false");
}

#[test]
fn a_configuration_of_one_byte_is_none() {
    let mut b = Bench::in_step(1);
    b.says(LeaderPacket::NewLeader { zxid: z(2, 0), config: Bytes::from_static(b"\0") });
    b.durable(2);
    assert_eq!(b.says(LeaderPacket::UpToDate), vec![role(2, false), ack(z(2, 0))]);
}

#[test]
fn trunc_cuts_and_then_appends() {
    let mut b = Bench::promised(1, Durable { last_logged: z(1, 9), ..disk() });
    let cut = Output::Truncate { id: WriteId(2), after: z(1, 4) };
    assert_eq!(b.says(LeaderPacket::Trunc { zxid: z(1, 4) }), vec![cut]);
    assert_eq!(b.learner.next_deadline(), None);
    assert_eq!(b.says(proposal(z(1, 5))), vec![], "held");
    assert_eq!(b.says(commit(z(1, 5))), vec![], "held");
    assert_eq!(
        b.step(Input::Truncated { id: WriteId(2), done: true, config: None }),
        vec![append(3, z(1, 5)), deliver(z(1, 5))]
    );
    assert_eq!(b.learner.next_deadline(), Some(21_000));
    assert_eq!(b.says(new_leader(2)), vec![save_current(4, 2)]);
    assert_eq!(b.durable(4), vec![ack(z(2, 0))]);
}

#[test]
fn trunc_to_the_last_transaction_cuts_nothing() {
    let mut b = Bench::promised(1, disk());
    assert_eq!(b.says(LeaderPacket::Trunc { zxid: z(1, 2) }), vec![]);
    assert_eq!(b.says(proposal(z(2, 1))), vec![append(2, z(2, 1))]);
}

#[test]
fn trunc_beyond_the_log_is_a_violation() {
    let mut b = Bench::promised(1, disk());
    assert_eq!(
        b.ends_at(LeaderPacket::Trunc { zxid: z(1, 3) }),
        "leader 3 breaks the protocol: TRUNC to 0x100000003, but the log ends with 0x100000002"
    );
}

#[test]
fn a_log_that_cannot_be_cut_is_replaced_by_a_snapshot() {
    let mut b = Bench::promised(1, Durable { last_logged: z(1, 9), ..disk() });
    b.says(LeaderPacket::Trunc { zxid: z(1, 4) });
    b.says(proposal(z(1, 5)));
    let what = "the log cannot be cut where leader 3 wants it";
    assert_eq!(
        b.step(Input::Truncated { id: WriteId(2), done: false, config: None }),
        vec![
            Output::Note { level: Level::Warn, text: format!("{what}; asking for a snapshot") },
            Output::CloseLink { link: LINK, reason: what.into() },
            Output::Dial { leader: LEADER },
        ]
    );
    assert_eq!(b.core.history.last(), z(1, 9), "nothing was changed");
    b.step(Input::LinkUp { link: LinkId(8), kind: LinkKind::Leader(LEADER) });
    let says = |packet| Input::LeaderPacket { link: LinkId(8), packet };
    let packet = LearnerPacket::AckEpoch { last_logged: 0, current: None };
    assert_eq!(b.step(says(leader_info(2))), vec![Output::SendLeader { link: LinkId(8), packet }]);
    // A leader that wants it cut all the same does not get a third attempt.
    b.step(says(LeaderPacket::Trunc { zxid: Zxid::ZERO }));
    let reason = b.ends(Input::Truncated { id: WriteId(3), done: false, config: None });
    assert_eq!(reason, format!("{what}, and it sends no snapshot"));
}

#[test]
fn a_link_pauses_while_the_log_is_cut() {
    let mut b = Bench::promised(1, disk());
    b.says(LeaderPacket::Trunc { zxid: z(1, 1) });
    let half = crate::limits::HELD_PACKETS_MAX / 2;
    for _ in 1..half {
        assert_eq!(b.says(LeaderPacket::Ping { zxid: 0 }), vec![]);
    }
    assert_eq!(b.says(LeaderPacket::Ping { zxid: 0 }), vec![Output::PauseLink { link: LINK }]);
    assert_eq!(b.says(proposal(z(1, 2))), vec![]);
    let resume = Output::ResumeLink { link: LINK };
    assert_eq!(b.step(Input::Truncated { id: WriteId(2), done: true, config: None }), vec![append(3, z(1, 2)), resume]);

    let mut b = Bench::promised(1, disk());
    b.says(LeaderPacket::Trunc { zxid: z(1, 1) });
    for _ in 0..2 * half {
        b.says(LeaderPacket::Ping { zxid: 0 });
    }
    assert_eq!(b.ends_at(LeaderPacket::Ping { zxid: 0 }), "too many packets came while the log was being cut");
}

#[test]
fn what_is_held_while_the_log_is_cut_is_bounded_by_bytes_too() {
    let mut b = Bench::promised(1, disk());
    b.says(LeaderPacket::Trunc { zxid: z(1, 1) });
    let large = Bytes::from(vec![0; crate::limits::HELD_BYTES_MAX / 4]);
    let proposal = || LeaderPacket::Proposal { zxid: z(1, 2), txn: large.clone() };
    assert_eq!(b.says(proposal()), vec![]);
    assert_eq!(b.says(proposal()), vec![Output::PauseLink { link: LINK }]);
    assert_eq!(b.says(proposal()), vec![]);
    assert_eq!(b.ends_at(proposal()), "too many packets came while the log was being cut");
}

#[test]
fn a_link_lost_while_the_log_is_cut_ends_the_role_and_the_cut_goes_on() {
    let mut b = Bench::promised(1, disk());
    b.says(LeaderPacket::Trunc { zxid: z(1, 1) });
    b.says(proposal(z(1, 2)));
    assert_eq!(b.ends(Input::LinkDown { link: LINK }), "leader 3 closed the connection");
    assert_eq!(
        b.step(Input::Truncated { id: WriteId(2), done: true, config: None }),
        vec![],
        "what was held is forgotten"
    );
    assert_eq!(b.core.history.last(), z(1, 1));
}

#[test]
fn a_snapshot_may_take_its_time_as_long_as_it_goes_on() {
    let mut b = Bench::promised(1, disk());
    let limit = b.learner.next_deadline().expect("the leader has to say something");
    b.now = limit - 1;
    b.step(Input::SnapProgress { link: LinkId(99) });
    assert_eq!(b.learner.next_deadline(), Some(limit), "not our leader's");
    b.step(Input::SnapProgress { link: LINK });
    assert!(b.learner.next_deadline() > Some(limit));
}

#[test]
fn a_snapshot_goes_to_disk_at_newleader() {
    let mut b = Bench::promised(1, disk());
    let snap = Input::SnapReceived { link: LINK, zxid: z(1, 5), config: None };
    assert_eq!(b.step(snap), vec![Output::AdoptSnapshot { zxid: z(1, 5) }]);
    assert!(b.learner.has_uninstalled_snapshot());
    assert_eq!(b.says(proposal(z(1, 5))), vec![], "is in the snapshot");
    assert_eq!(b.says(commit(z(1, 5))), vec![]);
    assert_eq!(b.says(proposal(z(1, 6))), vec![], "not logged");
    assert_eq!(b.says(proposal(z(2, 1))), vec![]);
    assert_eq!(b.says(commit(z(1, 6))), vec![deliver(z(1, 6))]);
    assert_eq!(b.core.history.last(), z(1, 6));
    let install = Output::InstallSnapshot { id: WriteId(2), zxid: z(1, 6), epoch: CurrentEpoch(2) };
    assert_eq!(b.says(new_leader(2)), vec![install, append(3, z(2, 1))]);
    assert!(!b.learner.has_uninstalled_snapshot());
    assert_eq!(b.says(commit(z(2, 1))), vec![deliver(z(2, 1))]);
    assert_eq!(b.says(proposal(z(2, 2))), vec![append(4, z(2, 2))]);
    assert_eq!(b.durable(2), vec![ack(z(2, 0))]);
    assert_eq!(b.durable(4), vec![ack(z(2, 1)), ack(z(2, 2))], "a leader waits for what it sent behind NEWLEADER");
    assert_eq!(b.says(LeaderPacket::UpToDate), vec![role(2, false), ack(z(2, 0))]);
}

#[test]
fn a_snapshot_of_an_established_leader_without_proposals() {
    let mut b = Bench::promised(1, disk());
    b.step(Input::SnapReceived { link: LINK, zxid: z(2, 0), config: None });
    let install = Output::InstallSnapshot { id: WriteId(2), zxid: z(2, 0), epoch: CurrentEpoch(2) };
    assert_eq!(b.says(new_leader(2)), vec![install]);
    assert_eq!(b.says(proposal(z(2, 1))), vec![append(3, z(2, 1))]);
}

#[test]
fn a_link_lost_before_newleader_leaves_a_state_to_be_reloaded() {
    let mut b = Bench::promised(1, disk());
    b.step(Input::SnapReceived { link: LINK, zxid: z(1, 5), config: None });
    b.ends(Input::LinkDown { link: LINK });
    assert!(b.learner.has_uninstalled_snapshot());
    let mut out = Outputs::default();
    b.learner.close_link(&mut out);
    assert_eq!(out.list, vec![], "it is closed");
}

#[test]
fn a_violation_behind_a_snapshot_leaves_a_state_to_be_reloaded() {
    let mut b = Bench::promised(1, disk());
    b.step(Input::SnapReceived { link: LINK, zxid: z(1, 5), config: None });
    let reason = b.ends_at(new_leader(3));
    assert_eq!(reason, "leader 3 breaks the protocol: NEWLEADER 0x300000000 after LEADERINFO of epoch 2");
    assert!(b.learner.has_uninstalled_snapshot());
    let mut out = Outputs::default();
    b.learner.close_link(&mut out);
    assert_eq!(out.list, vec![Output::CloseLink { link: LINK, reason }]);
}

/// A leader whose history is empty sends a DIFF to whoever has nothing. A server that may have forgotten something need not
/// even have a snapshot: its state becomes the disk's history as a SNAP does.
#[test]
fn a_server_without_a_vote_installs_what_a_diff_leads_to() {
    for recovering in [Recovering::History, Recovering::Promise] {
        let nothing =
            Durable { accepted: AcceptedEpoch(0), current: CurrentEpoch(0), last_logged: Zxid::ZERO, recovering };
        let mut b = Bench::promised(1, nothing);
        assert_eq!(b.says(LeaderPacket::Diff { zxid: Zxid::ZERO }), vec![]);
        assert!(b.learner.has_uninstalled_snapshot());
        assert_eq!(b.says(proposal(z(2, 1))), vec![], "no snapshot is below it yet");
        assert_eq!(b.says(proposal(z(2, 2))), vec![]);
        assert_eq!(b.says(commit(z(2, 1))), vec![deliver(z(2, 1))]);
        let install = Output::InstallSnapshot { id: WriteId(2), zxid: z(2, 1), epoch: CurrentEpoch(2) };
        assert_eq!(b.says(new_leader(2)), vec![install, append(3, z(2, 2))]);
        assert!(!b.learner.has_uninstalled_snapshot());
        assert!(b.core.recovering.is_voiceless());
        assert_eq!(b.durable(3), vec![ack(z(2, 0)), ack(z(2, 2))]);
        assert_eq!(b.core.recovering, Recovering::No);
    }
}

#[test]
fn a_snapshot_comes_first_and_whole() {
    let mut b = Bench::in_step(1);
    assert_eq!(
        b.ends(Input::SnapReceived { link: LINK, zxid: z(1, 5), config: None }),
        "leader 3 breaks the protocol: SNAP of 0x100000005 that is not the first packet of synchronization"
    );
    let mut b = Bench::promised(1, disk());
    assert_eq!(
        b.ends_at(LeaderPacket::Snap { zxid: z(1, 5) }),
        "leader 3 breaks the protocol: SNAP instead of DIFF, TRUNC or a whole SNAP"
    );
    let mut b = Bench::promised(1, disk());
    assert_eq!(
        b.ends(Input::SnapReceived { link: LINK, zxid: z(3, 1), config: None }),
        "leader 3 breaks the protocol: SNAP of 0x300000001, which is behind its epoch 2"
    );
}

#[test]
fn a_gap_in_the_stream_is_a_violation() {
    for (packet, what) in [
        (proposal(z(1, 4)), "proposal 0x100000004 does not follow 0x100000002"),
        (proposal(z(2, 2)), "proposal 0x200000002 does not follow 0x100000002"),
        (proposal(z(3, 1)), "proposal 0x300000001 is not of its epoch 2"),
        (inform(z(1, 4)), "proposal 0x100000004 does not follow 0x100000002"),
        (commit(z(1, 3)), "commit of 0x100000003, but no proposal waits for one"),
        (LeaderPacket::UpToDate, "UPTODATE before NEWLEADER"),
        (LeaderPacket::Diff { zxid: z(1, 2) }, "DIFF before NEWLEADER"),
    ] {
        assert_eq!(Bench::in_step(1).ends_at(packet), format!("leader 3 breaks the protocol: {what}"));
    }
}

#[test]
fn behind_newleader_only_its_epoch_follows() {
    let mut b = Bench::in_step(1);
    b.says(new_leader(2));
    assert_eq!(
        b.ends_at(proposal(z(1, 3))),
        "leader 3 breaks the protocol: proposal 0x100000003 is not of its epoch 2"
    );
    for acknowledged in [false, true] {
        let mut b = Bench::in_step(1);
        b.says(new_leader(2));
        if acknowledged {
            b.durable(2);
        }
        assert!(b.ends_at(new_leader(2)).contains("NEWLEADER before"));
    }
}

#[test]
fn uptodate_does_not_overtake_the_acknowledgement() {
    let mut b = Bench::in_step(1);
    b.says(new_leader(2));
    let reason = b.ends_at(LeaderPacket::UpToDate);
    assert_eq!(reason, "leader 3 breaks the protocol: UPTODATE before it got ACK of NEWLEADER");
}

#[test]
fn uncommitted_proposals_are_bounded() {
    let mut b = Bench::in_step(1);
    let part = Bytes::from(vec![0; crate::limits::UNCOMMITTED_BYTES_MAX / 2]);
    let mut propose = |counter, txn: &Bytes| {
        let packet = LeaderPacket::Proposal { zxid: z(2, counter), txn: txn.clone() };
        b.try_step(Input::LeaderPacket { link: LINK, packet }).1
    };
    assert_eq!(propose(1, &part), Ok(()));
    assert_eq!(propose(2, &part), Ok(()));
    let resign = propose(3, &Bytes::from_static(b"x")).unwrap_err();
    assert_eq!(resign.reason, "leader 3 breaks the protocol: too much is not committed before proposal 0x200000003");
}

// ---- broadcast ----
