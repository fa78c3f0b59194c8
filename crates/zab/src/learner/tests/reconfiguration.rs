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

/// Its election, or it begins to follow: epoch 2 is promised with write 1, and [`OLD`] is in force.
fn promised(last: Zxid) -> Bench {
    let mut b = Bench::promised(1, Durable { last_logged: last, ..disk() });
    b.core.ensemble = Ensemble::of(&MemberList::parse(OLD.as_bytes()).unwrap()).unwrap();
    b
}

/// Version 1:9, in which servers 5 and 6 take the places of 1 and 2.
fn other_quorums() -> &'static str {
    let text = OLD.replace("server.1=a", "server.5=e").replace("server.2=b", "server.6=f");
    Box::leak(text.replace("version=0", "version=100000009").into_boxed_str())
}

fn snapshot(zxid: Zxid, shows: &'static str) -> Input {
    Input::SnapReceived { link: LINK, zxid, config: Some(shown(shows, false)) }
}

fn shown(text: &'static str, in_log: bool) -> ShownConfig {
    ShownConfig { text: Bytes::from_static(text.as_bytes()), in_log }
}

fn says_new_leader(b: &mut Bench, config: &'static str) -> Vec<Output> {
    b.says(LeaderPacket::NewLeader { zxid: z(2, 0), config: Bytes::from_static(config.as_bytes()) })
}

fn save_pending(id: u64, config: Option<&'static str>) -> Output {
    Output::SavePending { id: WriteId(id), config: config.map(|text| Bytes::from_static(text.as_bytes())) }
}

fn pending(b: &Bench) -> Option<u64> {
    b.core.ensemble.pending().map(Ensemble::version)
}

fn is_quorum(b: &Bench, ids: &[i64]) -> bool {
    b.core.ensemble.is_quorum(&ids.iter().map(|id| ServerId(*id)).collect())
}

const NINE: u64 = 0x1_0000_0009;

#[test]
fn what_was_pending_goes_with_a_cut_of_the_log() {
    let cut = |after, config: Option<&'static str>| {
        let mut b = member(1);
        b.says(LeaderPacket::Proposal { zxid: z(2, 1), txn: reconfig(z(2, 1), changed("b:1:2", "b:1:7")) });
        b.core.history.truncate(after);
        let config = config.map(|text| shown(text, true));
        b.step(Input::Truncated { id: WriteId(3), done: true, config });
        pending(&b)
    };
    assert_eq!(cut(z(2, 1), Some(changed("b:1:2", "b:1:7"))), Some(0x2_0000_0001), "it is kept");
    assert_eq!(cut(z(1, 2), Some(OLD)), None);
    assert_eq!(cut(z(1, 2), None), None);
    assert_eq!(cut(z(1, 2), Some(other_quorums())), Some(NINE), "one that was logged before, and is not in force here");
}

/// Servers 3, 5 and 6 may be in force once this server acknowledged NEWLEADER: it must not elect with 2 alone.
#[test]
fn what_a_snapshot_shows_is_pending_before_newleader_is_acknowledged() {
    let mut b = promised(z(1, 2));
    b.step(snapshot(z(1, 9), other_quorums()));
    assert_eq!(pending(&b), Some(NINE));
    says_new_leader(&mut b, other_quorums());
    assert_eq!(pending(&b), Some(NINE));
    assert!(!is_quorum(&b, &[1, 2, 3]) && !is_quorum(&b, &[3, 5, 6]) && is_quorum(&b, &[1, 3, 5]));
    b.durable(3);
    let out = b.says(LeaderPacket::UpToDate);
    assert_eq!(activated(&out), [other_quorums()]);
    assert_eq!((b.core.ensemble.version(), pending(&b)), (NINE, None));
}

/// The reconfiguration got to this server only, and the leader that proposed it is gone.
#[test]
fn what_is_not_in_the_snapshot_is_pending_no_more() {
    let mut b = promised(z(1, 2));
    b.core.note_pending(&reconfig(z(1, 9), other_quorums()), &mut Outputs::default());
    assert!(!is_quorum(&b, &[1, 2, 3]));
    b.step(snapshot(z(1, 8), OLD));
    assert_eq!(pending(&b), None);
    assert_eq!(without_notes(says_new_leader(&mut b, OLD)).len(), 1, "there is nothing to write but the state");
    assert!(is_quorum(&b, &[1, 2]));
}

#[test]
fn what_follows_a_snapshot_is_pending_from_its_proposal_on() {
    let mut b = promised(z(1, 2));
    b.step(snapshot(z(1, 8), OLD));
    let txn = reconfig(z(1, 9), other_quorums());
    b.says(LeaderPacket::Proposal { zxid: z(1, 9), txn });
    assert_eq!(pending(&b), Some(NINE));
    b.says(commit(z(1, 9)));
    assert_eq!(pending(&b), Some(NINE), "committed, and not known to be in force");
}

#[test]
fn the_state_that_is_loaded_again_says_what_is_pending() {
    let config = Config { reconfig: true, ..Config::new(ServerId(1)) };
    let old = Ensemble::of(&MemberList::parse(OLD.as_bytes()).unwrap()).unwrap();
    let mut out = Outputs::default();
    let shows = shown(other_quorums(), true);
    let mut peer = crate::Peer::new(config, old, disk()).over_state(Some(&shows), &mut out);
    assert_eq!(peer.ensemble().pending().map(Ensemble::version), Some(NINE), "as at a start");
    peer.state_diverged();
    peer.lead(0, &mut out);
    (1..=30).for_each(|second| peer.step(1000 * second, Input::Timer, &mut out));
    let reload = out.list.iter().find_map(|o| if let Output::Reload { id } = o { Some(*id) } else { None });
    let config = Some(shown(OLD, true));
    peer.step(30_000, Input::Reloaded { id: reload.unwrap(), last: z(1, 2), config }, &mut out);
    assert_eq!(peer.ensemble().pending(), None);
}

/// An Apache server may lead with a configuration that it wrote down before it died, and that is in no log.
#[test]
fn what_newleader_tells_is_on_disk_before_it_is_acknowledged() {
    let mut b = promised(z(1, 2));
    b.says(LeaderPacket::Diff { zxid: z(1, 2) });
    assert_eq!(says_new_leader(&mut b, other_quorums()), [save_pending(2, Some(other_quorums())), save_current(3, 2)]);
    assert_eq!(pending(&b), Some(NINE), "before the acknowledgement");
    assert_eq!(b.durable(2), []);
    assert_eq!(b.durable(3), [ack(z(2, 0))]);

    let mut b = promised(z(1, 2));
    b.step(snapshot(z(1, 9), OLD));
    let install = Output::InstallSnapshot { id: WriteId(3), zxid: z(1, 9), epoch: CurrentEpoch(2) };
    assert_eq!(says_new_leader(&mut b, other_quorums()), [save_pending(2, Some(other_quorums())), install]);
    assert_eq!(pending(&b), Some(NINE), "the state showed what was in force for its sender");
}

#[test]
fn the_next_leader_may_know_nothing_of_it() {
    let old = Ensemble::of(&MemberList::parse(OLD.as_bytes()).unwrap()).unwrap();
    let told = Ensemble::of(&MemberList::parse(other_quorums().as_bytes()).unwrap()).unwrap();
    let next = |config: &'static str| {
        let mut b = promised(z(1, 2));
        // As the disk says at the start.
        b.core.ensemble = old.clone().with_pending(Some(told.clone()));
        b.core.told = Some(told.clone());
        b.says(LeaderPacket::Diff { zxid: z(1, 2) });
        let out = says_new_leader(&mut b, config);
        (pending(&b), out)
    };
    assert_eq!(next(OLD), (None, vec![save_pending(2, None), save_current(3, 2)]));
    assert_eq!(next(other_quorums()), (Some(NINE), vec![save_current(2, 2)]), "it is on disk");
    let config = Config { reconfig: true, ..Config::new(ServerId(1)) };
    assert_eq!(Core::new(config, old.with_pending(Some(told.clone())), disk()).told, Some(told));
}

/// What is in the history stays, whatever a leader says.
#[test]
fn what_is_logged_is_pending_though_newleader_has_an_older_one() {
    let mut b = promised(z(1, 8));
    b.says(LeaderPacket::Diff { zxid: z(1, 9) });
    b.says(LeaderPacket::Proposal { zxid: z(1, 9), txn: reconfig(z(1, 9), other_quorums()) });
    b.says(commit(z(1, 9)));
    assert_eq!(says_new_leader(&mut b, OLD).len(), 1);
    assert_eq!(pending(&b), Some(NINE));
}

/// Apache's leader sends what it proposed last with NEWLEADER, and its own learners put it in force with UPTODATE.
#[test]
fn what_the_leader_proposed_and_has_not_committed_is_not_in_force_with_uptodate() {
    let text = changed("b:1:2", "b:1:7");
    let txn = reconfig(z(2, 1), text);
    let joins = |committed: bool| {
        let mut b = promised(z(1, 2));
        b.says(LeaderPacket::Diff { zxid: z(1, 2) });
        says_new_leader(&mut b, text);
        b.says(LeaderPacket::Proposal { zxid: z(2, 1), txn: txn.clone() });
        b.durable(4);
        if committed {
            b.says(commit(z(2, 1)));
        }
        let out = b.says(LeaderPacket::UpToDate);
        (b, activated(&out))
    };
    let (mut b, in_force) = joins(false);
    assert_eq!((in_force, pending(&b)), (vec![], Some(0x2_0000_0001)));
    let out = b.says(LeaderPacket::CommitAndActivate { zxid: z(2, 1), designated: LEADER });
    assert_eq!(activated(&out), [text]);
    assert_eq!(joins(true).1, [text], "an Apache leader says only COMMIT to those that synchronize");
}

#[test]
fn a_configuration_of_newleader_that_cannot_be_read_is_not_acknowledged() {
    let mut b = promised(z(1, 2));
    b.says(LeaderPacket::Diff { zxid: z(1, 2) });
    let config = Bytes::from_static(b"server.1=\nversion=100000009");
    let reason = b.ends_at(LeaderPacket::NewLeader { zxid: z(2, 0), config });
    assert!(reason.starts_with("leader 3 breaks the protocol: its configuration cannot be read"), "{reason}");
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
