//! One ACK and one COMMIT for a run of proposals, where both ends say that they take them so.

use super::*;

fn cumulative_leader_info() -> LeaderPacket {
    LeaderPacket::LeaderInfo { epoch: 2, protocol_version: LEARNER_PROTOCOL_VERSION, cumulative: true }
}

/// Connected with a leader that takes ACK for a run, and epoch 2 promised with write 1.
fn promised(cumulative: bool) -> Bench {
    let mut b = Bench::new(1, disk());
    b.core.config.cumulative = cumulative;
    b.connect();
    b.says(cumulative_leader_info());
    b.durable(1);
    b
}

/// Up to date in epoch 2 with history 1:2; write 2 was the last.
fn broadcast(cumulative: bool) -> Bench {
    let mut b = promised(cumulative);
    b.says(LeaderPacket::Diff { zxid: z(1, 2) });
    b.says(new_leader(2));
    b.durable(2);
    b.says(LeaderPacket::UpToDate);
    b
}

#[test]
fn one_ack_says_what_a_sync_made_durable() {
    let mut b = broadcast(true);
    for counter in 1..=3 {
        b.says(proposal(z(2, counter)));
    }
    assert_eq!(b.durable(4), vec![ack(z(2, 2))]);
    assert_eq!(b.durable(4), vec![], "once");
    assert_eq!(b.durable(5), vec![ack(z(2, 3))]);
}

#[test]
fn one_commit_delivers_everything_up_to_it() {
    let mut b = broadcast(true);
    for counter in 1..=3 {
        b.says(proposal(z(2, counter)));
    }
    assert_eq!(b.says(commit(z(2, 2))), vec![deliver(z(2, 1)), deliver(z(2, 2))]);
    assert_eq!(b.says(commit(z(2, 3))), vec![deliver(z(2, 3))]);
}

#[test]
fn a_commit_names_a_proposal_that_came_and_is_not_committed() {
    for (zxid, what) in [
        (z(2, 4), "commit of 0x200000004, but 0x200000002 is the oldest proposal"),
        (z(2, 1), "commit of 0x200000001, but 0x200000002 is the oldest proposal"),
        (z(3, 1), "commit of 0x300000001, but 0x200000002 is the oldest proposal"),
    ] {
        let mut b = broadcast(true);
        for counter in 1..=3 {
            b.says(proposal(z(2, counter)));
        }
        b.says(commit(z(2, 1)));
        assert_eq!(b.ends_at(commit(zxid)), format!("leader 3 breaks the protocol: {what}"));
    }
}

#[test]
fn a_state_that_is_not_on_disk_takes_it_too() {
    let mut b = promised(true);
    b.step(Input::SnapReceived { link: LINK, zxid: z(1, 5), config: None });
    for counter in 6..=8 {
        b.says(proposal(z(1, counter)));
    }
    assert_eq!(b.says(commit(z(1, 7))), vec![deliver(z(1, 6)), deliver(z(1, 7))]);
    assert_eq!(
        b.ends_at(commit(z(1, 9))),
        "leader 3 breaks the protocol: commit of 0x100000009, but 0x100000008 is the oldest proposal"
    );
}

#[test]
fn a_run_is_committed_between_newleader_and_uptodate_too() {
    for snapshot in [false, true] {
        let mut b = promised(true);
        if snapshot {
            b.step(Input::SnapReceived { link: LINK, zxid: z(1, 2), config: None });
        } else {
            b.says(LeaderPacket::Diff { zxid: z(1, 2) });
        }
        for counter in 3..=5 {
            b.says(proposal(z(1, counter)));
        }
        assert_eq!(b.says(commit(z(1, 4))), vec![deliver(z(1, 3)), deliver(z(1, 4))], "{snapshot}");
        b.says(new_leader(2));
        for counter in 1..=3 {
            b.says(proposal(z(2, counter)));
        }
        // 1:5 came without a commit: one of the new epoch stands for it as well.
        let run = vec![deliver(z(1, 5)), deliver(z(2, 1)), deliver(z(2, 2))];
        assert_eq!(b.says(commit(z(2, 2))), run, "{snapshot}");
        let acks = b.durable(if snapshot { 6 } else { 8 });
        assert_eq!(without_notes(acks), vec![ack(z(2, 0)), ack(z(2, 3))], "{snapshot}");
        let up = without_notes(b.says(LeaderPacket::UpToDate));
        assert_eq!(up, vec![role(2, false), ack(z(2, 0))], "{snapshot}");
        assert_eq!(b.says(commit(z(2, 3))), vec![deliver(z(2, 3))], "{snapshot}");
    }
}

#[test]
fn whoever_does_not_say_it_of_itself_does_not_do_it() {
    let mut b = broadcast(false);
    for counter in 1..=3 {
        b.says(proposal(z(2, counter)));
    }
    assert_eq!(b.durable(4), vec![ack(z(2, 1)), ack(z(2, 2))]);
    assert_eq!(
        b.ends_at(commit(z(2, 2))),
        "leader 3 breaks the protocol: commit of 0x200000002, but 0x200000001 is the oldest proposal"
    );
}
