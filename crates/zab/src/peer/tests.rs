//! What a server does between two roles.

mod members_change;

use super::*;
use crate::config::Recovering;
use bytes::Bytes;
use farrier_proto::membership::MemberList;
use farrier_proto::quorum::{ElectionRound, LeaderPacket};
use farrier_proto::{AcceptedEpoch, CurrentEpoch};

fn text(version: u64, voters: &[i64]) -> Bytes {
    let lines: String = voters.iter().map(|v| format!("server.{v}=h{v}:1:2:participant\n")).collect();
    format!("{lines}version={version:x}").into()
}

/// A server that looks for a leader, and what it said so far.
fn looking(server: i64, config: &Bytes, last: u32, reconfig: bool) -> (Peer, Outputs) {
    looking_with(server, config, None, last, reconfig)
}

/// The same, with this in its log and not in force.
fn looking_with(server: i64, config: &Bytes, logged: Option<Bytes>, last: u32, reconfig: bool) -> (Peer, Outputs) {
    let ensemble = Ensemble::of(&MemberList::parse(config).unwrap()).unwrap();
    let durable = Durable {
        accepted: AcceptedEpoch(1),
        current: CurrentEpoch(1),
        last_logged: Zxid::new(1, last),
        recovering: Recovering::No,
    };
    let config = Config { reconfig, ..Config::new(ServerId(server)) };
    let mut out = Outputs::default();
    let shown = logged.map(|text| ShownConfig { text, in_log: true });
    let mut peer = Peer::new(config, ensemble, durable).over_state(shown.as_ref(), &mut out);
    peer.step(0, Input::Timer, &mut out);
    (peer, out)
}

/// Servers that hear each other, until nothing is left to say: whom each of them has then.
fn elect(servers: &mut [(Peer, Outputs)], now: u64) -> Vec<Option<i64>> {
    let ids: Vec<_> = servers.iter().map(|(peer, _)| peer.core.me()).collect();
    for (peer, out) in servers.iter_mut() {
        let me = peer.core.me();
        for other in ids.iter().filter(|id| **id != me) {
            peer.step(now, Input::ElectionUp { peer: *other }, out);
        }
    }
    for round in 0.. {
        assert!(round < 20, "they talk without end");
        let said: Vec<_> = servers.iter_mut().map(|(_, out)| std::mem::take(out)).collect();
        if said.iter().all(|out| out.list.is_empty()) {
            break;
        }
        for (to, (peer, out)) in servers.iter_mut().enumerate() {
            for from in (0..ids.len()).filter(|from| *from != to) {
                for input in said_by(ids[from].0, &said[from], ids[to].0) {
                    peer.step(now, input, out);
                }
            }
        }
    }
    servers.iter().map(|(peer, _)| peer.status().leader.map(|l| l.0)).collect()
}

/// Server 1 proposed that 4 votes as well, and died before anybody heard that it is so. The largest id does not win:
/// those of Apache's servers that follow could not dial it. But it votes, and without its vote there is no quorum.
#[test]
fn who_is_to_vote_by_what_is_pending_elects_and_is_not_elected() {
    let (old, new) = (text(0, &[1, 2, 3]), text(0x1_0000_0005, &[1, 2, 3, 4]));
    let server = |id| looking_with(id, &old, Some(new.clone()), 5, true);
    let mut three = [2, 3, 4].map(server);
    let voted: Vec<_> = said_by(4, &three[2].1, 2)
        .into_iter()
        .map(|input| matches!(input, Input::Notification { notification, .. } if notification.vote != Vote::NONE))
        .collect();
    assert_eq!(voted, [false], "it does not propose itself");
    // It has seen more elections than the others: what it says in a later round would be no vote, and move nobody there.
    three[2].0.core.round = ElectionRound(9);
    three[2].0.state = State::Settling { reload: None };
    three[2].1 = Outputs::default();
    let (peer, out) = &mut three[2];
    peer.step(0, Input::Timer, out);
    assert_eq!(elect(&mut three, 0), [Some(3); 3]);
    let mut without_it = [2, 3].map(server);
    assert_eq!(elect(&mut without_it, 0), [None; 2]);
}

/// The same, and 4 alone has something more: 3 leads nobody, since the promise of 4 does not count, and 4 may be all that
/// is left to make a quorum. It stands once, and then the others do again.
#[test]
fn who_is_passed_over_stands_in_the_next_election() {
    let (old, new) = (text(0, &[1, 2, 3]), text(0x1_0000_0005, &[1, 2, 3, 4]));
    let server = |id| looking_with(id, &old, Some(new.clone()), if id == 4 { 6 } else { 5 }, true);
    let mut three = [2, 3, 4].map(server);
    assert_eq!(elect(&mut three, 0), [Some(3); 3]);
    let four = &mut three[2].0;
    let link = LinkId(1);
    let mut out = Outputs::default();
    four.step(0, Input::LinkUp { link, kind: LinkKind::Leader(ServerId(3)) }, &mut out);
    let packet = LeaderPacket::LeaderInfo { epoch: 2, protocol_version: 0x10000, cumulative: true };
    four.step(0, Input::LeaderPacket { link, packet }, &mut out);
    let promise = |o: &Output| if let Output::SaveAcceptedEpoch { id, .. } = o { Some(*id) } else { None };
    let id = out.list.iter().find_map(promise).expect("it promises");
    four.step(0, Input::Durable { id }, &mut out);
    four.step(0, Input::LinkDown { link }, &mut out);
    // The others come back from that leadership as well.
    let (two, _) = server(2);
    let (next, said) = server(3);
    let mut again = [(two, Outputs::default()), (next, said), (std::mem::replace(four, server(4).0), out)];
    assert_eq!(elect(&mut again, 0), [Some(4); 3]);
    assert!(!again[2].0.core.passed_over, "once");
}

fn said_by(from: i64, out: &Outputs, to: i64) -> Vec<Input> {
    let said = |o: &Output| match o {
        Output::Notify { to: t, notification } if t.0 == to => {
            Some(Input::Notification { from: ServerId(from), notification: notification.clone() })
        }
        _ => None,
    };
    out.list.iter().filter_map(said).collect()
}

fn says(from: i64, config: Bytes) -> Input {
    let vote = Vote { leader: ServerId(from), zxid: Zxid::new(1, 9).to_wire(), peer_epoch: 1 };
    let notification = Notification {
        state: ServerState::Looking,
        vote,
        round: ElectionRound(1),
        version: Notification::VERSION,
        config: Some(config),
    };
    Input::Notification { from: ServerId(from), notification }
}

/// Servers 1 and 2 are gone for good, 5 is down, and 3 was when 4 and 5 took their places: 4 is in no configuration
/// that it knows.
#[test]
fn whoever_was_away_hears_of_a_newer_configuration_from_a_new_member() {
    let (mut three, _) = looking(3, &text(0, &[1, 2, 3]), 1, true);
    let (mut four, out) = looking(4, &text(0x1_0000_0005, &[3, 4, 5]), 9, true);
    let mut to_three = said_by(4, &out, 3);
    let mut rounds = 0;
    for server in [&mut three, &mut four] {
        server.step(0, Input::ElectionUp { peer: ServerId(7 - server.core.me().0) }, &mut Outputs::default());
    }
    while !to_three.is_empty() && rounds < 10 {
        rounds += 1;
        let (mut out, mut answers) = (Outputs::default(), Outputs::default());
        to_three.drain(..).for_each(|input| three.step(0, input, &mut out));
        said_by(3, &out, 4).into_iter().for_each(|input| four.step(0, input, &mut answers));
        to_three = said_by(4, &answers, 3);
    }
    assert_eq!(three.ensemble().version(), 0x1_0000_0005);
    assert_eq!((three.status().leader, four.status().leader), (Some(ServerId(4)), Some(ServerId(4))));
}

/// What a server says to its operator while it looks for a leader until then.
fn told(peer: &mut Peer, until: u64) -> Vec<String> {
    let mut out = Outputs::default();
    while let Some(due) = peer.next_deadline().filter(|due| *due <= until) {
        peer.step(due, Input::Timer, &mut out);
    }
    let text = |o| if let Output::Note { level: Level::Warn, text } = o { Some(text) } else { None };
    out.list.into_iter().filter_map(text).collect()
}

#[test]
fn a_server_that_finds_no_leader_tells_for_whom_it_waits_more_and_more_rarely() {
    let (mut peer, _) = looking(1, &text(0, &[1, 2, 3, 4]), 1, true);
    for peer_up in [2, 3] {
        peer.step(0, Input::ElectionUp { peer: ServerId(peer_up) }, &mut Outputs::default());
    }
    peer.step(0, says(2, text(0, &[1, 2, 3, 4])), &mut Outputs::default());
    assert_eq!(told(&mut peer, 1000), [""; 0], "elections end sooner");
    let once = "no leader yet: servers [2] were heard, [3] are connected and say nothing, [4] are not connected";
    assert_eq!(told(&mut peer, 2000), [once]);
    assert!((4..20).contains(&told(&mut peer, 600_000).len()));
}

/// A directory that was copied to other hosts: nothing that these servers can do brings the members of the old ones.
#[test]
fn whoever_waits_for_the_members_of_a_copied_state_is_told_what_to_do() {
    let (mut peer, _) = looking_with(1, &text(0, &[1, 2, 3]), Some(text(0x1_0000_0005, &[7, 8])), 6, true);
    let waits = "configuration 0x100000005 may come into force, so a quorum of [7, 8] is needed, too";
    let said = told(&mut peer, 2000).concat();
    assert!(said.ends_with(waits), "{said}");
    let shown = ShownConfig { text: text(0x1_0000_0007, &[7, 8]), in_log: false };
    peer.core.state_shows(Some(&shown), &mut Outputs::default());
    let said = told(&mut peer, 6000).concat();
    assert!(said.contains("a copy from another ensemble") && said.contains("zoo.cfg.dynamic.100000008"), "{said}");
}

#[test]
fn only_a_newer_configuration_that_can_be_read_is_taken_over() {
    let taken = |input: Input, reconfig: bool| {
        let (mut peer, _) = looking(3, &text(7, &[1, 2, 3]), 1, reconfig);
        let mut out = Outputs::default();
        peer.step(0, input, &mut out);
        let activated = out.list.iter().any(|o| matches!(o, Output::Activate { .. }));
        assert_eq!(activated, peer.ensemble().version() > 7);
        activated
    };
    assert!(taken(says(1, text(8, &[3, 4, 5])), true), "of a member");
    assert!(taken(says(4, text(8, &[3, 4, 5])), true), "of a new one");
    assert!(taken(says(9, text(8, &[3, 4, 5])), true), "of one that went");
    assert!(taken(says(4, text(8, &[4, 5])), true), "in which this server has no part");
    assert!(!taken(says(4, text(7, &[3, 4, 5])), true), "as old");
    assert!(!taken(says(4, text(6, &[3, 4, 5])), true), "older");
    assert!(!taken(says(4, text(8, &[])), true), "nobody votes");
    assert!(!taken(says(4, Bytes::from_static(b"server.4=\nversion=8")), true));
    assert!(!taken(says(4, text(8, &[3, 4, 5])), false), "reconfigEnabled=no");
}

#[test]
fn a_configuration_that_cannot_be_read_is_told_of() {
    let (mut peer, _) = looking(3, &text(7, &[1, 2, 3]), 1, true);
    let mut out = Outputs::default();
    peer.step(0, says(4, Bytes::from_static(b"server.4=\nversion=8")), &mut out);
    let told =
        |o: &Output| matches!(o, Output::Note { level: Level::Warn, text } if text.contains("of server 4 cannot"));
    assert!(out.list.iter().any(told), "{out:?}");
}
