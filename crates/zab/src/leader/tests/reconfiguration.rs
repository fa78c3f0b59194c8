//! A reconfiguration that an earlier leader began: it is completed, whether this server leads on or not.

use super::*;
use crate::io::ShownConfig;
use farrier_proto::quorum::{ElectionRound, Notification, ServerState, Vote};
use std::collections::BTreeSet;

const OLD: &[(i64, &str)] = &[(1, "participant"), (2, "participant"), (3, "participant"), (4, "observer")];

fn text(members: &[(i64, &str)], version: u64) -> String {
    let lines = members.iter().map(|(id, role)| format!("server.{id}=h{id}:1:2:{role}\n"));
    format!("{}version={version:x}", lines.collect::<String>())
}

fn ensemble(text: &str) -> Ensemble {
    Ensemble::of(&MemberList::parse(text.as_bytes()).unwrap()).unwrap()
}

/// Server 3 of [`OLD`], whose log ends with 1:1: there the voters became these, of version 1:1.
fn pending(members: &[(i64, &str)]) -> Run {
    shown(members, true)
}

/// The same, or its state shows that and no log does.
fn shown(members: &[(i64, &str)], in_log: bool) -> Run {
    let mut run = setup(1, &[(1, 1)], |c| c.reconfig = true);
    let core = run.peer.core_mut();
    core.ensemble = ensemble(&text(OLD, 0));
    let mut out = Outputs::default();
    core.state_shows(Some(&ShownConfig { text: text(members, 0x1_0000_0001).into(), in_log }), &mut out);
    assert_eq!(out.list, []);
    run
}

impl Run {
    /// It leads; these come on links of their numbers, promise and get NEWLEADER.
    fn gather(&mut self, servers: &[i64]) -> Vec<String> {
        self.lead();
        let mut out = Vec::new();
        for server in servers {
            self.up(server.cast_unsigned());
            self.follower(server.cast_unsigned(), *server, 1);
        }
        self.durable();
        for server in servers {
            out.extend(self.ack_epoch(server.cast_unsigned(), Zxid::new(1, 1), Some(1)));
        }
        self.durable();
        out
    }

    fn in_force(&mut self) -> (u64, bool) {
        let ensemble = &self.peer.core_mut().ensemble;
        (ensemble.version(), ensemble.pending().is_some())
    }

    fn notified(out: Outputs) -> BTreeSet<(i64, u64)> {
        let said = |o| match o {
            Output::Notify { to, notification } => {
                Some((to.0, notification.config.map_or(0, |text| MemberList::version_of(&text))))
            }
            _ => None,
        };
        out.list.into_iter().filter_map(said).collect()
    }
}

const NEW_VERSION: u64 = 0x1_0000_0001;

#[test]
fn what_is_pending_goes_with_newleader_and_is_in_force_once_quorums_of_both_have_it() {
    let mut run = pending(&[(3, "participant"), (5, "participant"), (6, "participant")]);
    let out = run.gather(&[1, 5]);
    let new_leader: Vec<_> = out.iter().filter(|line| line.contains("NEWLEADER")).collect();
    assert_eq!(new_leader, ["1> NEWLEADER 2:0 of 100000001", "5> NEWLEADER 2:0 of 100000001"]);
    assert_eq!(run.ack(1, 2, 0), NONE, "a quorum of the old ones only");
    assert_eq!(run.in_force(), (0, true));
    assert_eq!(run.ack(5, 2, 0), ["activate 100000001", "leading 2", "1> UPTODATE", "5> UPTODATE"]);
    assert_eq!(run.in_force(), (NEW_VERSION, false));
    assert!(!run.peer.is_handing_over());
    run.ack(1, 2, 0);
    run.ack(5, 2, 0);
    assert_eq!(run.join(6, 6, Zxid::new(1, 1)), ["6> DIFF 1:1", "6> NEWLEADER 2:0 of 100000001"]);

    // The new quorum decides from now on.
    run.propose(2, 1, 1);
    run.durable();
    assert_eq!(run.ack(1, 2, 1), NONE, "server 1 votes no more");
    assert!(run.ack(5, 2, 1).contains(&"deliver 2:1".to_owned()));
}

/// A directory that came from elsewhere, or whose servers have other addresses by now: the operator's file is right.
#[test]
fn what_only_the_state_shows_is_not_completed() {
    let mut run = shown(&[(1, "participant"), (3, "participant"), (5, "participant")], false);
    let out = run.gather(&[1]);
    assert!(out.contains(&"1> NEWLEADER 2:0".to_owned()), "{out:?}");
    assert_eq!(run.ack(1, 2, 0), ["leading 2", "1> UPTODATE"]);
    assert_eq!(run.in_force(), (0, true), "its quorums count all the same");
    // It is completed once a log has it as well.
    let mut run = pending(&[(1, "participant"), (3, "participant"), (5, "participant")]);
    let again = ShownConfig {
        text: text(&[(1, "participant"), (3, "participant"), (5, "participant")], NEW_VERSION).into(),
        in_log: false,
    };
    run.peer.core_mut().state_shows(Some(&again), &mut Outputs::default());
    run.gather(&[1]);
    assert!(run.ack(1, 2, 0).contains(&"activate 100000001".to_owned()), "a snapshot of its own took the log's place");
}

/// It is needed for nothing, and what it alone has is not committed. It cannot be elected, so a leader that gave way to it
/// would do so for ever.
#[test]
fn the_promise_of_who_is_ahead_and_votes_only_by_what_is_pending_does_not_count() {
    let mut run = pending(&[(1, "participant"), (2, "participant"), (3, "participant"), (5, "participant")]);
    run.lead();
    for server in [1, 2, 5] {
        run.up(server);
        run.follower(server, server.cast_signed(), 1);
    }
    run.durable();
    assert_eq!(run.ack_epoch(5, Zxid::new(1, 2), Some(1)), NONE, "the leader stays");
    assert_eq!(run.ack_epoch(1, Zxid::new(1, 1), Some(1)), NONE, "two of four, and the one that is ahead");
    let out = run.ack_epoch(2, Zxid::new(1, 1), Some(1));
    assert!(out.contains(&"5> TRUNC 1:1".to_owned()), "{out:?}");
}

#[test]
fn quorums_of_both_promise() {
    let mut run = pending(&[(3, "participant"), (5, "participant"), (6, "participant")]);
    run.lead();
    for server in [1, 2, 5] {
        run.up(server);
    }
    assert_eq!(run.follower(1, 1, 1), NONE);
    assert_eq!(run.follower(2, 2, 1), NONE, "all of the old ones");
    assert_eq!(run.follower(5, 5, 1), ["accepted 2"]);
}

#[test]
fn whoever_has_it_in_force_is_let_in() {
    let mut run = pending(&[(3, "participant"), (5, "participant"), (6, "participant")]);
    run.lead();
    for (link, config_version, refused) in
        [(5, NEW_VERSION, false), (6, NEW_VERSION + 1, true), (7, NEW_VERSION - 1, true)]
    {
        run.up(link);
        let info = LearnerInfo { config_version, ..info(link.cast_signed()) };
        let out = run.says(link, LearnerPacket::FollowerInfo { accepted: AcceptedEpoch(1), info });
        assert_eq!(out.iter().any(|line| line.contains("close: it knows configuration")), refused, "{out:?}");
    }
}

/// Servers 1, 5 and 6 are to go on without this one. They are told, and hear it from nobody else.
#[test]
fn a_leader_that_has_no_place_in_it_tells_the_others_and_goes() {
    let mut run = pending(&[(1, "participant"), (5, "participant"), (6, "participant")]);
    run.gather(&[1, 2, 5, 6]);
    run.ack(1, 2, 0);
    run.ack(2, 2, 0);
    let out = run.ack(5, 2, 0);
    assert_eq!(out[..5], ["activate 100000001", "leading 2", "1> UPTODATE", "2> UPTODATE", "5> UPTODATE"]);
    assert_eq!(out[5..], ["1 flush?", "2 flush?", "5 flush?"]);
    assert_eq!(run.peer.next_zxid(), None, "nothing is proposed any more");
    assert!(run.peer.is_handing_over());

    // Learners leave because of what UPTODATE put in force. One that was late is told too, while this lasts.
    assert_eq!(run.down(1), ["1 gone"]);
    assert_eq!(run.flushed(2), NONE);
    assert_eq!(run.ack(6, 2, 0), ["6> UPTODATE", "6 flush?"]);
    assert_eq!(run.down(5), ["5 gone"]);
    let mut out = Outputs::default();
    run.peer.step(run.now, Input::Flushed { link: LinkId(6) }, &mut out);
    assert!(out.list.contains(&Output::Role(Role::Looking)));
    assert_eq!(run.peer.status().state, ServerState::Looking);
    let all = [1, 5, 6].map(|to| (to, NEW_VERSION)).into();
    assert_eq!(Run::notified(out), all, "it asks, and tells the new members what is in force");
    assert!(!run.peer.core_mut().may_vote());
}

#[test]
fn a_leader_that_has_no_place_in_it_does_not_wait_for_ever() {
    let mut run = pending(&[(1, "participant"), (5, "participant"), (6, "participant")]);
    run.gather(&[1, 5]);
    run.ack(1, 2, 0);
    run.ack(5, 2, 0);
    let due = run.peer.next_deadline().unwrap();
    assert!(due <= run.now + crate::limits::HAND_OVER_MS_MAX);
    for _ in 0..4 {
        run.timer(1000);
    }
    assert_eq!(run.peer.status().state, ServerState::Looking);
    assert_eq!(run.in_force(), (NEW_VERSION, false));
}

#[test]
fn a_leader_that_is_to_observe_goes() {
    let mut run = pending(&[(1, "participant"), (2, "participant"), (3, "observer")]);
    run.gather(&[1, 2]);
    run.ack(1, 2, 0);
    assert!(run.ack(2, 2, 0).starts_with(&["activate 100000001".to_owned(), "leading 2".to_owned()]));
    run.down(1);
    assert!(run.down(2).contains(&"looking".to_owned()));
    assert!(run.peer.ensemble().is_observer(ServerId(3)));
}

/// It was in force at the members that are gone, and nobody of the others knew: they say so when they are asked.
#[test]
fn what_is_in_force_elsewhere_is_not_completed_again() {
    let mut run = pending(&[(3, "participant"), (5, "participant"), (6, "participant")]);
    run.step(Input::Timer);
    let config = Some(text(&[(3, "participant"), (5, "participant"), (6, "participant")], NEW_VERSION).into());
    let notification = Notification {
        state: ServerState::Looking,
        vote: Vote::NONE,
        round: ElectionRound(1),
        version: Notification::VERSION,
        config,
    };
    assert_eq!(run.step(Input::Notification { from: ServerId(5), notification }), ["activate 100000001"]);
    assert_eq!(run.in_force(), (NEW_VERSION, false));
    let out = run.gather(&[5]);
    assert!(out.contains(&"5> NEWLEADER 2:0 of 100000001".to_owned()), "{out:?}");
    assert_eq!(run.ack(5, 2, 0), ["leading 2", "5> UPTODATE"]);
}
