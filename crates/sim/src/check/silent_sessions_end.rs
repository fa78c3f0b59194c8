//! The session of a client that sends nothing ends with its timeout: who comes back much later under the leader that has led
//! all the while does not get it again.
//!
//! What the client sent before may be heard late, where it, its server or the leader was cut off or paused; and behind a
//! pause a leader has to hear its learners first.

use super::{Checker, Facts};
use crate::observe::{ClientEvent, ClientId, Fault, Moment, Observation, What};
use farrier_proto::{ServerId, SessionId};
use std::collections::BTreeMap;

/// For how long after its end a fault may still be felt: reconnects, retransmissions, queues. Milliseconds.
const AFTERMATH: u64 = 3000;

/// Beyond its timeout a session lives until the next tick, and its learner's last word of it comes with another one.
const TICKS_MAX: u64 = 3;

/// Messages under way, and timers. Milliseconds.
const SLACK: u64 = 1000;

#[derive(Clone, Copy, Debug)]
struct Silence {
    since: Moment,
    timeout: u64,
    /// When the client asked for its session again.
    back: Option<Moment>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct SilentSessionsEnd {
    silent: BTreeMap<SessionId, Silence>,
}

impl Checker for SilentSessionsEnd {
    fn name(&self) -> &'static str {
        "silent-sessions-end"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let What::Client(client, event) = &observation.what else { return Ok(()) };
        match event {
            ClientEvent::FellSilent { session } => {
                if let Some(a) = facts.attachment(*client) {
                    let silence = Silence { since: facts.now, timeout: a.timeout, back: None };
                    self.silent.insert(*session, silence);
                }
            }
            ClientEvent::Dialled { session, .. } => {
                if let Some(silence) = self.silent.get_mut(session) {
                    silence.back.get_or_insert(facts.now);
                }
            }
            ClientEvent::Attached { server, session, .. } => {
                if let Some(silence) = self.silent.remove(session) {
                    return judge(facts, *client, *server, *session, silence);
                }
            }
            ClientEvent::Expired { session } => drop(self.silent.remove(session)),
            _ => {}
        }
        Ok(())
    }
}

/// It has its session back.
fn judge(
    facts: &Facts,
    client: ClientId,
    server: ServerId,
    session: SessionId,
    silence: Silence,
) -> Result<(), String> {
    let Silence { since, timeout, back } = silence;
    let for_ms = back.map_or(0, |back| back.millis_since(since));
    if for_ms <= timeout + TICKS_MAX * facts.setup.tick_ms + SLACK {
        return Ok(());
    }
    let Some(leader) = facts.server(server).leader(server) else { return Ok(()) };
    let leads = facts.server(leader);
    let led = leads.leader(leader) == Some(leader)
        && leads.established().is_some()
        && leads.established() == facts.server(server).established()
        && leads.role_since <= since;
    let from = Moment(since.0.saturating_sub(AFTERMATH * 1000));
    if !led || facts.faults_since(from).any(|fault| may_delay(fault, facts, client, session, leader)) {
        return Ok(());
    }
    Err(format!(
        "{client:?} was silent for {for_ms} ms, and gets session {session} again, with a timeout of {timeout} ms, from server {server} under server {leader}, which has led since {}",
        leads.role_since
    ))
}

/// Whether the leader may have heard of the session later than the client sent its last word, or have waited for others.
/// Servers where it was before, or was to be, may tell of it late, too.
fn may_delay(fault: &Fault, facts: &Facts, client: ClientId, session: SessionId, leader: ServerId) -> bool {
    let one = |who: &ServerId| *who == leader || facts.was_asked_for_at(session, *who);
    match fault {
        Fault::ProcessCrash(_)
        | Fault::PowerCrash(_)
        | Fault::OrderlyStop(_)
        | Fault::HandOver(_)
        | Fault::ClockJump(..)
        | Fault::BitRot(_)
        | Fault::Wiped(_)
        | Fault::TakenOver(_)
        | Fault::TornWrite(_)
        | Fault::ReorderedWrite(_)
        | Fault::LostRename(_)
        | Fault::SlowDisk(..)
        | Fault::FailedWrite(_)
        | Fault::FailedSync(_)
        | Fault::FullDisk(_) => false,
        Fault::Pause(who) | Fault::ClockSkew(who, _) => one(who),
        Fault::LinkLoss(a, b) | Fault::SlowLink(a, b, _) | Fault::Cut { from: a, to: b, .. } => one(a) && one(b),
        Fault::ClientLinkLoss(cut) | Fault::ClientCut(cut) => *cut == client,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Play;
    use super::*;
    use crate::observe::{FaultId, Parting};
    use farrier_proto::Zxid;

    fn comes_back(after: u64, between: impl FnOnce(&mut Play)) -> Result<(), String> {
        let mut play = Play::elected();
        let dial = play.connect();
        let session = play.session();
        play.client(ClientEvent::FellSilent { session });
        between(&mut play);
        play.pass(after);
        play.client(ClientEvent::Disconnected { dial, why: Parting::Left });
        let (seen, timeout) = (Zxid::ZERO, 6000);
        play.client(ClientEvent::Dialled { dial, server: ServerId(1), session, seen, timeout });
        play.reconnect();
        play.verdict(Box::<SilentSessionsEnd>::default())
    }

    #[test]
    fn a_session_that_outlives_its_timeout_is_caught() {
        assert_eq!(comes_back(7000, |_| {}), Ok(()));
        assert!(comes_back(15_000, |_| {}).is_err());
        assert!(comes_back(15_000, |p| p.fault(FaultId(1), Fault::Pause(ServerId(3)))).is_err(), "another server");
    }

    #[test]
    fn what_may_be_heard_late_and_another_leader_keep_it() {
        assert_eq!(comes_back(15_000, |p| p.fault(FaultId(1), Fault::ClientCut(ClientId(0)))), Ok(()));
        assert_eq!(comes_back(15_000, |p| p.fault(FaultId(1), Fault::Pause(ServerId(1)))), Ok(()));
        assert_eq!(comes_back(15_000, |p| p.re_elect(2, 2, &[1, 3])), Ok(()));
    }
}
