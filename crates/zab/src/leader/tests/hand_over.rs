//! Hand-over: who may begin, what has to be done before the links close, and what ends it otherwise.

use super::*;
use crate::leader::HandOverRefused;
use crate::limits::{COUNTER_LAST, HAND_OVER_MS_MAX};
use farrier_proto::quorum::{Notification, ServerState, Vote};

/// Servers 1 and 2 are up to date on the links 1 and 2.
fn broadcasting() -> Run {
    let mut run = setup(1, &[(1, 1)], |_| {});
    run.establish();
    run.join(1, 1, Zxid::new(1, 1));
    run.ack(1, 2, 0);
    run.ack(1, 2, 0);
    run
}

impl Run {
    fn hand_over(&mut self) -> Result<Vec<String>, HandOverRefused> {
        let mut out = Outputs::default();
        self.peer.hand_over(self.now, &mut out)?;
        Ok(self.show(out))
    }
}

const CLOSED: [&str; 4] =
    ["1 close: this server leads no more", "1 gone", "2 close: this server leads no more", "2 gone"];

fn closed() -> Vec<String> {
    CLOSED.into_iter().chain(["looking"]).map(str::to_owned).collect()
}

#[test]
fn everything_is_committed_and_handed_to_the_system_before_the_links_close() {
    let mut run = broadcasting();
    run.propose(2, 1, 1);
    assert_eq!(run.hand_over(), Ok(vec![]));
    assert_eq!(run.peer.next_zxid(), None, "nothing is proposed any more");
    assert!(run.peer.is_handing_over() && run.peer.status().handing_over);
    assert_eq!(run.hand_over(), Err(HandOverRefused::UnderWay));
    run.durable();
    assert_eq!(run.ack(1, 2, 1), ["deliver 2:1", "1> COMMIT 2:1", "2> COMMIT 2:1", "1 flush?", "2 flush?"]);
    assert_eq!(run.flushed(1), NONE);
    assert_eq!(run.flushed(2), NONE, "server 2 has not acknowledged it: alone, server 1 is no quorum");
    assert_eq!(run.ack(2, 2, 1), closed());
    assert!(run.peer.status().handing_over);
    assert_eq!(run.peer.status().state, ServerState::Looking);
}

#[test]
fn what_comes_behind_is_asked_for_without_a_vote_until_another_server_leads_or_is_late() {
    let mut run = broadcasting();
    run.hand_over().unwrap();
    run.flushed(1);
    let mut out = Outputs::default();
    run.peer.step(run.now, Input::Flushed { link: LinkId(2) }, &mut out);
    let votes = |out: &Outputs| {
        let vote = |o: &Output| match o {
            Output::Notify { notification, .. } => Some((notification.state, notification.vote)),
            _ => None,
        };
        out.list.iter().filter_map(vote).collect::<Vec<_>>()
    };
    assert_eq!(votes(&out), [(ServerState::Looking, Vote::NONE); 2]);
    let said = |state, vote, round| Notification {
        state,
        vote,
        round: farrier_proto::quorum::ElectionRound(round),
        version: Notification::VERSION,
        config: None,
    };
    // Late words of its own followers, and votes for it: it is nobody's leader.
    let mine = Vote { leader: ServerId(3), zxid: Zxid::new(1, 1).to_wire(), peer_epoch: 1 };
    for state in [ServerState::Following, ServerState::Looking] {
        for from in [1, 2] {
            for round in [0, 1, 2] {
                let mut out = Outputs::default();
                let input = Input::Notification { from: ServerId(from), notification: said(state, mine, round) };
                run.peer.step(run.now, input, &mut out);
                assert!(votes(&out).iter().all(|(_, vote)| *vote == Vote::NONE), "{out:?}");
                assert_eq!(run.peer.status().state, ServerState::Looking);
            }
        }
    }
    let init = TICK * 10;
    run.now += init - 1;
    let mut out = Outputs::default();
    run.peer.step(run.now, Input::Timer, &mut out);
    assert!(votes(&out).iter().all(|(_, vote)| *vote == Vote::NONE), "{out:?}");
    assert!(run.peer.next_deadline().is_some_and(|at| at <= run.now + 1));
    run.now += 1;
    let mut out = Outputs::default();
    run.peer.step(run.now, Input::Timer, &mut out);
    assert!(votes(&out).contains(&(ServerState::Looking, Vote { peer_epoch: 2, ..mine })), "{out:?}");
    assert!(!run.peer.status().handing_over);
}

#[test]
fn who_misses_the_others_has_a_voice_again() {
    let mut run = broadcasting();
    for peer in [1, 2] {
        run.step(Input::ElectionUp { peer: ServerId(peer) });
    }
    run.hand_over().unwrap();
    run.flushed(1);
    assert_eq!(run.flushed(2), closed());
    assert!(run.peer.status().handing_over);
    run.step(Input::ElectionDown { peer: ServerId(1) });
    assert!(!run.peer.status().handing_over, "server 2 alone elects nobody");
}

#[test]
fn refusals() {
    let mut run = setup(1, &[(1, 1)], |_| {});
    assert_eq!(run.hand_over(), Err(HandOverRefused::NotLeading { leader: None }));
    run.lead();
    assert_eq!(run.hand_over(), Err(HandOverRefused::NotEstablished));
    let mut run = setup(1, &[(1, 1)], |_| {});
    run.establish();
    let ready = [ServerId(2)].into();
    assert_eq!(run.hand_over(), Err(HandOverRefused::NoOtherQuorum { ready }));
    run.join(1, 1, Zxid::ZERO);
    let ready = [ServerId(2)].into();
    assert_eq!(run.hand_over(), Err(HandOverRefused::NoOtherQuorum { ready }), "server 1 is synchronized still");

    let mut run = broadcasting();
    run.propose(2, 1, 1);
    run.ack(2, 2, 1);
    run.now += TICK / 2 + 1;
    let ready = [ServerId(2)].into();
    assert_eq!(run.hand_over(), Err(HandOverRefused::NoOtherQuorum { ready }), "server 1 does not keep up");
    assert_eq!(run.peer.next_zxid(), Some(Zxid::new(2, 2)));
}

#[test]
fn a_hand_over_that_cannot_succeed_is_a_plain_election() {
    let mut run = broadcasting();
    run.hand_over().unwrap();
    assert_eq!(run.down(1), ["1 gone", "2 close: this server leads no more", "2 gone", "looking"]);
    assert!(!run.peer.status().handing_over, "it has a voice");

    let mut run = broadcasting();
    run.hand_over().unwrap();
    for at in [TICK / 2, TICK] {
        run.now = at;
        run.step(Input::Timer);
        run.pong(1);
        run.pong(2);
    }
    assert!(run.peer.next_deadline().is_some_and(|at| at <= HAND_OVER_MS_MAX), "nobody is waited for longer");
    run.now = HAND_OVER_MS_MAX;
    let got = run.step(Input::Timer);
    assert_eq!(got[got.len() - 5..], closed());
    assert!(!run.peer.status().handing_over, "it has a voice");
}

#[test]
fn an_epoch_without_numbers_is_handed_over() {
    let mut run = broadcasting();
    run.propose(2, 1, 1);
    run.ack(1, 2, 1);
    run.ack(2, 2, 1);
    run.durable();
    let last = Zxid::new(2, COUNTER_LAST);
    run.peer.core_mut().history = History::new(last);
    run.pong(1);
    assert!(run.peer.is_handing_over());
}
