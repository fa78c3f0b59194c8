//! When nothing hinders anybody any more, a client is answered, and its connection lasts.
//!
//! Nothing hinders once all faults are over, and every server has served in one role under one leader for some time. A
//! client that sends nothing on purpose, one whose session is ended and one that moves on are none of this.

use super::{Checker, Facts};
use crate::observe::{ClientEvent, Moment, Observation, Parting, Phase, ServerEvent, What};
use farrier_proto::ServerId;

/// For how long faults and failovers may still be felt: reconnects, retransmissions, queues. Milliseconds.
const AFTERMATH: u64 = 3000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct UnhinderedAreServed {
    /// Since when everybody serves, and no role has changed.
    calm: Option<Moment>,
}

impl Checker for UnhinderedAreServed {
    fn name(&self) -> &'static str {
        "unhindered-are-served"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        match &observation.what {
            What::Phase(Phase::Healed)
            | What::Server(_, ServerEvent::Started { .. } | ServerEvent::Ended(_) | ServerEvent::Role { .. }) => {
                self.calm = (facts.phase >= Phase::Healed && all_serve(facts)).then_some(facts.now);
            }
            What::Client(client, ClientEvent::Disconnected { dial, why }) if *why != Parting::Left => {
                let Some(lost) = facts.lost().filter(|a| a.dial == *dial) else { return Ok(()) };
                // Who heard nothing had waited for two thirds of its timeout.
                let waited = if *why == Parting::Unheard { lost.timeout * 2 / 3 } else { 0 };
                let Some(since) = self.calm else { return Ok(()) };
                let calm = facts.now.millis_since(since) > waited + AFTERMATH;
                // The session may have moved back then, which shows only with the next request.
                let moved =
                    facts.gave_up_before(lost.session, lost.dial) && lost.since.millis_since(since) <= AFTERMATH;
                if calm && !moved && !lost.silent && !facts.end_proposed(lost.session) {
                    return Err(format!(
                        "{client:?} loses its connection to server {} ({why:?}, session {}, attached since {}), and nothing hinders it",
                        lost.server, lost.session, lost.since
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether every server serves under one established leader.
fn all_serve(facts: &Facts) -> bool {
    let mut members = facts.setup.voters.iter().map(|v| v.id).chain(facts.setup.observers.iter().copied());
    let leads = |id: ServerId| Some(facts.server(id)).filter(|s| s.serving && s.established().is_some())?.leader(id);
    let first = facts.setup.voters.first().and_then(|v| leads(v.id));
    first.is_some() && members.all(|id| leads(id) == first)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, following, looking};
    use super::*;
    use crate::observe::DialId;
    use farrier_proto::Zxid;

    fn loses(why: Parting, before: impl FnOnce(&mut Play)) -> Result<(), String> {
        let mut play = Play::elected();
        let dial = play.connect();
        play.phase(Phase::Healed);
        play.pass(20_000);
        before(&mut play);
        play.client(ClientEvent::Disconnected { dial, why });
        play.verdict(Box::<UnhinderedAreServed>::default())
    }

    #[test]
    fn a_connection_that_nothing_hinders_lasts() {
        assert_eq!(loses(Parting::Left, |_| {}), Ok(()));
        assert!(loses(Parting::Unheard, |_| {}).is_err());
        assert!(loses(Parting::Broken, |_| {}).is_err());
    }

    #[test]
    fn who_is_silent_and_who_was_hindered_may_lose_it() {
        let silent = |p: &mut Play| p.client(ClientEvent::FellSilent { session: p.session() });
        assert_eq!(loses(Parting::Broken, silent), Ok(()));
        assert_eq!(loses(Parting::Broken, |p| p.server(2, looking())), Ok(()));
        let again = |ms| {
            move |p: &mut Play| {
                p.server(2, looking());
                p.server(2, following(1, 1));
                p.pass(ms);
            }
        };
        assert_eq!(loses(Parting::Broken, again(1000)), Ok(()));
        assert!(loses(Parting::Broken, again(4000)).is_err());
        assert_eq!(loses(Parting::Unheard, again(4000)), Ok(()), "it has waited since before");
        assert!(loses(Parting::Unheard, again(8000)).is_err());
    }

    #[test]
    fn a_session_that_was_asked_for_twice_may_have_moved_back() {
        let again = |ms| {
            move |p: &mut Play| {
                p.server(2, following(1, 1));
                p.pass(ms);
                let (dial, server, session) = (DialId(0), ServerId(2), p.session());
                p.client(ClientEvent::Dialled { dial, server, session, seen: Zxid::ZERO, timeout: 6000 });
                let dial = p.reconnect();
                p.pass(20_000);
                p.client(ClientEvent::Disconnected { dial, why: Parting::Broken });
            }
        };
        assert_eq!(loses(Parting::Left, again(1000)), Ok(()));
        assert!(loses(Parting::Left, again(5000)).is_err());
    }

    #[test]
    fn while_faults_come_nothing_is_demanded() {
        let mut play = Play::elected();
        let dial = play.connect();
        play.pass(20_000);
        play.client(ClientEvent::Disconnected { dial, why: Parting::Broken });
        assert_eq!(play.verdict(Box::<UnhinderedAreServed>::default()), Ok(()));
    }
}
