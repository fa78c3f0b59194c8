//! The learner's half of a reconfiguration.

use super::*;

/// Of [`OLD`], changed.
fn changed(from: &str, to: &str) -> &'static str {
    let text = OLD.replace(from, to).replace("version=0", "version=200000001");
    assert_ne!(text, OLD);
    Box::leak(text.into_boxed_str())
}

fn member(server: i64) -> Bench {
    let mut b = Bench::broadcast(server);
    b.core.ensemble = Ensemble::of(&MemberList::parse(OLD.as_bytes()).unwrap()).unwrap();
    b
}

#[test]
fn a_committed_reconfiguration_is_activated() {
    let text = changed("b:1:2", "b:1:7");
    let txn = reconfig(z(2, 1), text);
    let expected = vec![
        Output::Deliver { zxid: z(2, 1), txn: txn.clone() },
        Output::Activate { config: Bytes::from_static(text.as_bytes()) },
    ];
    let mut b = member(1);
    b.says(LeaderPacket::Proposal { zxid: z(2, 1), txn: txn.clone() });
    assert_eq!(b.core.ensemble.pending().map(Ensemble::version), Some(0x2_0000_0001), "both quorums from now on");
    let activate = LeaderPacket::CommitAndActivate { zxid: z(2, 1), designated: LEADER };
    assert_eq!(without_notes(b.says(activate)), expected);
    assert_eq!((b.core.ensemble.version(), b.core.ensemble.pending()), (0x2_0000_0001, None));

    let mut b = member(4);
    let inform = LeaderPacket::InformAndActivate { zxid: z(2, 1), designated: LEADER, txn: txn.clone() };
    let mut appended = vec![Output::Append { id: WriteId(3), zxid: z(2, 1), txn }];
    appended.extend(expected);
    assert_eq!(without_notes(b.says(inform)), appended);
}

#[test]
fn who_gets_another_part_or_leader_leaves() {
    let leaves = |server, text, designated| {
        let mut b = member(server);
        let txn = reconfig(z(2, 1), text);
        let packet = if server == 4 {
            LeaderPacket::InformAndActivate { zxid: z(2, 1), designated: ServerId(designated), txn }
        } else {
            b.says(LeaderPacket::Proposal { zxid: z(2, 1), txn });
            LeaderPacket::CommitAndActivate { zxid: z(2, 1), designated: ServerId(designated) }
        };
        let (out, result) = b.try_step(Input::LeaderPacket { link: LINK, packet });
        assert_eq!(activated(&out).len(), 1, "{text}");
        assert_eq!(b.core.designated, result.is_err().then_some(ServerId(designated)));
        result.is_err()
    };
    assert!(leaves(1, changed("server.1=a:1:2:participant", "server.1=a:1:2:observer"), 3), "demoted");
    assert!(leaves(4, changed("server.4=d:1:2:observer", "server.4=d:1:2:participant"), 3), "promoted");
    assert!(leaves(1, changed("server.3=c:1:2:participant\n", ""), 2), "another leads");
    assert!(!leaves(1, changed("server.2=b:1:2:participant\n", ""), 3), "another server went");
    assert!(!leaves(1, changed("server.1=a:1:2:participant\n", ""), 3), "it stays without a vote");
}

#[test]
fn what_was_pending_goes_with_a_cut_of_the_log() {
    let mut b = member(1);
    b.says(LeaderPacket::Proposal { zxid: z(2, 1), txn: reconfig(z(2, 1), changed("b:1:2", "b:1:7")) });
    b.core.forget_pending(z(2, 1));
    assert!(b.core.ensemble.pending().is_some(), "it is kept");
    b.core.forget_pending(z(1, 5));
    assert!(b.core.ensemble.pending().is_none());
}

#[test]
fn only_a_reconfiguration_can_be_activated() {
    let mut b = Bench::broadcast(1);
    b.says(proposal(z(2, 1)));
    let packet = LeaderPacket::CommitAndActivate { zxid: z(2, 1), designated: LEADER };
    let (_, result) = b.try_step(Input::LeaderPacket { link: LINK, packet });
    assert_eq!(
        result.unwrap_err().reason,
        "leader 3 breaks the protocol: 0x200000001 is to be activated and is no reconfiguration"
    );
}
