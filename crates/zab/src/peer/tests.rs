//! What a server does between two roles.

mod members_change;

use super::*;
use crate::config::Recovering;
use bytes::Bytes;
use farrier_proto::membership::MemberList;
use farrier_proto::quorum::ElectionRound;
use farrier_proto::{AcceptedEpoch, CurrentEpoch};

fn text(version: u64, voters: &[i64]) -> Bytes {
    let lines: String = voters.iter().map(|v| format!("server.{v}=h{v}:1:2:participant\n")).collect();
    format!("{lines}version={version:x}").into()
}

/// A server that looks for a leader, and what it said so far.
fn looking(server: i64, config: &Bytes, last: u32, reconfig: bool) -> (Peer, Outputs) {
    let ensemble = Ensemble::of(&MemberList::parse(config).unwrap()).unwrap();
    let durable = Durable {
        accepted: AcceptedEpoch(1),
        current: CurrentEpoch(1),
        last_logged: Zxid::new(1, last),
        recovering: Recovering::No,
    };
    let config = Config { reconfig, ..Config::new(ServerId(server)) };
    let mut peer = Peer::new(config, ensemble, durable);
    let mut out = Outputs::default();
    peer.step(0, Input::Timer, &mut out);
    (peer, out)
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
