//! What was durable is there after a restart, or the server says that it may have forgotten it, or a leader was
//! about to replace it. Whatever the excuse, a quorum has on disk what is committed, unless a disk changed by itself. Nobody
//! says without a reason that it may have forgotten.

use super::{Checker, Facts};
use crate::observe::{Ending, Fault, Observation, Role, ServerEvent, What};
use farrier_proto::{ServerId, Zxid};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct DurableSurvives {
    durable: BTreeMap<ServerId, Zxid>,
    /// Servers whose disk changed by itself.
    rotten: BTreeSet<ServerId>,
    /// Those of them whose mark shows what is missing: bits changed below it, and no power failure took its newest state.
    marked: BTreeSet<ServerId>,
    /// Servers that have no reason to say that they may have forgotten.
    sound: BTreeSet<ServerId>,
    /// Servers that a leader brings up to date: TRUNC and SNAP take away what is durable, and may be carried out without
    /// word of it when the process ends.
    synchronizing: BTreeSet<ServerId>,
    /// Servers on whose disk another one ran, until they are started again.
    taken: BTreeSet<ServerId>,
    /// Servers whose disk changed by itself, and that do not have again what is committed.
    behind: BTreeSet<ServerId>,
}

impl Checker for DurableSurvives {
    fn name(&self) -> &'static str {
        "durable-survives"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let (me, event) = match &observation.what {
            What::FaultBegan(_, fault @ (Fault::BitRot(server) | Fault::Wiped(server))) => {
                self.rotten.insert(*server);
                self.behind.insert(*server);
                self.sound.remove(server);
                if matches!(fault, Fault::BitRot(_)) {
                    self.marked.insert(*server);
                } else {
                    self.marked.remove(server);
                }
                return Ok(());
            }
            What::FaultBegan(_, Fault::TakenOver(server)) => {
                self.sound.remove(server);
                self.taken.insert(*server);
                return Ok(());
            }
            What::Server(me, event) => (*me, event),
            _ => return Ok(()),
        };
        match event {
            ServerEvent::LogDurable { upto: zxid }
            | ServerEvent::SnapshotInstalled { zxid }
            | ServerEvent::LogCut { after: zxid } => {
                self.durable.insert(me, *zxid);
            }
            ServerEvent::Role { role: Role::Learning { epoch: None, .. }, .. } => {
                self.synchronizing.insert(me);
            }
            ServerEvent::Role { role: Role::Learning { .. } | Role::Leading { .. }, .. } => {
                self.synchronizing.remove(&me);
            }
            ServerEvent::CurrentEpochDurable(_) => {
                self.sound.insert(me);
            }
            ServerEvent::Ended(Ending::PowerCrash) => {
                self.marked.remove(&me);
            }
            ServerEvent::Started { last, recovering, .. } => {
                if *recovering && self.sound.remove(&me) {
                    return Err(format!(
                        "server {me} says that it may have forgotten, and nothing happened to its disk"
                    ));
                }
                let durable = self.durable.get(&me).copied().unwrap_or_default();
                let rotten = self.rotten.remove(&me) & !self.marked.remove(&me);
                let excused = rotten | self.synchronizing.remove(&me) | *recovering;
                // What a server had beyond its leader's history may be gone where another one ran on its directory.
                let has_all = if self.taken.remove(&me) {
                    !facts.history.lacks(*last, durable)
                } else {
                    facts.history.holds(*last, durable)
                };
                if !excused && !has_all {
                    return Err(format!("server {me} had {durable} on disk, and starts with {last}"));
                }
                if !facts.history.holds(*last, durable) {
                    self.durable.insert(me, *last);
                }
                return self.quorum_has_it(facts);
            }
            _ => {}
        }
        Ok(())
    }
}

impl DurableSurvives {
    fn quorum_has_it(&mut self, facts: &Facts) -> Result<(), String> {
        let tip = facts.history.tip();
        let has = |server: ServerId| facts.history.holds(facts.server(server).durable, tip);
        self.behind.retain(|server| self.rotten.contains(server) || !has(*server));
        if self.behind.is_empty() && !facts.is_quorum(has) {
            let all: Vec<String> = facts.servers().map(|(id, s)| format!("server {id} has {}", s.durable)).collect();
            return Err(format!("{tip} is committed, and no quorum has it on disk: {}", all.join(", ")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, set_data, started, z};
    use super::*;
    use crate::observe::{Ending, FaultId};

    #[test]
    fn forgetting_is_caught_unless_it_is_admitted() {
        let mut play = Play::elected();
        play.commit(set_data("/", 0, "x"));
        play.server(3, ServerEvent::Ended(Ending::PowerCrash));
        let mut lawful = play.clone();
        lawful.server(3, started(z(1, 1), false));
        assert_eq!(lawful.verdict(Box::<DurableSurvives>::default()), Ok(()));
        let mut admitted = play.clone();
        admitted.fault(FaultId(1), Fault::BitRot(ServerId(3)));
        let mut silent = admitted.clone();
        admitted.server(3, started(z(0, 0), true));
        assert_eq!(admitted.verdict(Box::<DurableSurvives>::default()), Ok(()));
        silent.server(3, started(z(0, 0), false));
        assert!(silent.verdict(Box::<DurableSurvives>::default()).is_err());
        let mut groundless = play.clone();
        groundless.server(3, ServerEvent::CurrentEpochDurable(farrier_proto::CurrentEpoch(1)));
        groundless.server(3, started(z(1, 1), true));
        assert!(groundless.verdict(Box::<DurableSurvives>::default()).is_err());
        play.server(3, started(z(0, 0), false));
        assert!(play.verdict(Box::<DurableSurvives>::default()).is_err());
    }

    #[test]
    fn no_excuse_covers_what_no_quorum_has() {
        let mut play = Play::elected();
        play.commit(set_data("/", 0, "x"));
        let lost = |play: &mut Play, server: i64| {
            let role = Role::Learning { leader: ServerId(1), epoch: None, observing: false };
            play.server(server, ServerEvent::Role { role, serving: false });
            play.server(server, ServerEvent::Ended(Ending::ProcessCrash));
            play.server(server, started(z(0, 0), false));
        };
        lost(&mut play, 3);
        assert_eq!(play.verdict(Box::<DurableSurvives>::default()), Ok(()), "two have it");
        let mut rotten = play.clone();
        rotten.fault(FaultId(1), Fault::Wiped(ServerId(2)));
        lost(&mut rotten, 2);
        assert_eq!(rotten.verdict(Box::<DurableSurvives>::default()), Ok(()), "its disk is another one");
        lost(&mut play, 2);
        assert!(play.verdict(Box::<DurableSurvives>::default()).is_err());
    }

    #[test]
    fn who_was_taken_over_may_lose_what_was_never_committed() {
        let mut play = Play::elected();
        play.commit(set_data("/", 0, "x"));
        let (proposed, _) = play.propose(set_data("/", 1, "y"));
        play.server(1, ServerEvent::LogDurable { upto: proposed });
        play.fault(FaultId(9), Fault::TakenOver(ServerId(1)));
        play.server(1, ServerEvent::Ended(Ending::ProcessCrash));
        let mut lawful = play.clone();
        lawful.server(1, started(z(1, 1), false));
        assert_eq!(lawful.verdict(Box::<DurableSurvives>::default()), Ok(()));
        play.server(1, started(z(0, 0), false));
        let said = play.verdict(Box::<DurableSurvives>::default()).expect_err("the first was committed");
        assert!(said.contains("server 1 had"), "{said}");
    }
}
