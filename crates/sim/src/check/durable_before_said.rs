//! What others rely on is on disk before it is said: an epoch that is offered or promised, the history that a vote for
//! oneself quotes, a proposal that is acknowledged. Whoever may have forgotten what it said has no vote, nor a promise that
//! counts.

use super::{Checker, Facts};
use crate::observe::{Fault, Observation, Saying, ServerEvent, What};
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId, Zxid};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct DurableBeforeSaid {
    accepted: BTreeMap<ServerId, AcceptedEpoch>,
    current: BTreeMap<ServerId, CurrentEpoch>,
    /// What was offered on each connection.
    offers: BTreeMap<u64, u32>,
    /// They may have forgotten, and no leader has given them everything since.
    forgot: BTreeSet<ServerId>,
    /// The same of those whose disk was replaced, with what the old one ended with: only others can tell them that there
    /// is something to forget.
    blank: BTreeMap<ServerId, Zxid>,
}

impl DurableBeforeSaid {
    fn must_have(&self, me: ServerId, epoch: u32, what: &str) -> Result<(), String> {
        let accepted = self.accepted.get(&me).copied().unwrap_or_default();
        if accepted.0 < epoch {
            return Err(format!("server {me} {what} epoch {epoch}, and has acceptedEpoch {} on disk", accepted.0));
        }
        Ok(())
    }
}

impl Checker for DurableBeforeSaid {
    fn name(&self) -> &'static str {
        "durable-before-said"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let (me, event) = match &observation.what {
            What::Server(me, event) => (me, event),
            What::FaultBegan(_, Fault::Wiped(server)) => {
                self.blank.entry(*server).or_insert_with(|| facts.server(*server).durable);
                return Ok(());
            }
            _ => return Ok(()),
        };
        match event {
            ServerEvent::Started { accepted, current, last, recovering, .. } => {
                self.accepted.insert(*me, *accepted);
                self.current.insert(*me, *current);
                // A crash can come between the last durable step of a synchronization and the word of it.
                if current.0 > 0
                    && !recovering
                    && self.blank.get(me).is_some_and(|had| !facts.history.lacks(*last, *had))
                {
                    self.blank.remove(me);
                }
                if *recovering {
                    self.forgot.insert(*me);
                } else {
                    self.forgot.remove(me);
                }
            }
            ServerEvent::AcceptedEpochDurable(epoch) => {
                self.accepted.insert(*me, *epoch);
            }
            // The last durable step before the ACK of NEWLEADER.
            ServerEvent::CurrentEpochDurable(epoch) => {
                self.current.insert(*me, *epoch);
                self.forgot.remove(me);
                self.blank.remove(me);
            }
            ServerEvent::Said(Saying::Offer { link, epoch }) => {
                self.offers.insert(*link, *epoch);
                self.must_have(*me, *epoch, "offers")?;
            }
            ServerEvent::Said(Saying::Promise { link, counts }) => {
                if *counts && self.forgot.contains(me) {
                    return Err(format!("server {me}, which may have forgotten, promises with a history"));
                }
                // An observer's promise does not count.
                if let Some(epoch) = self.offers.get(link)
                    && !facts.setup.observers.contains(me)
                {
                    self.must_have(*me, *epoch, "promises")?;
                }
            }
            // Counter 0 stands for NEWLEADER.
            ServerEvent::Said(Saying::Ack { zxid }) if zxid.counter() == 0 => {
                let current = self.current.get(me).copied().unwrap_or_default();
                if current.0 < zxid.epoch() {
                    return Err(format!("server {me} acknowledges {zxid}, and has currentEpoch {} on disk", current.0));
                }
            }
            ServerEvent::Said(Saying::Ack { zxid }) => {
                let durable = facts.server(*me).durable;
                if *zxid > durable {
                    return Err(format!("server {me} acknowledges {zxid}, and has {durable} on disk"));
                }
            }
            ServerEvent::Said(Saying::Vote { leader, zxid }) => {
                if self.forgot.contains(me) && *zxid >= 0 {
                    return Err(format!("server {me}, which may have forgotten, votes for {leader}"));
                }
                if self.blank.contains_key(me) && leader != me && *zxid > 0 {
                    return Err(format!("server {me}, whose disk was replaced, votes for {leader} with {zxid:#x}"));
                }
                let durable = facts.server(*me).durable;
                if leader == me && *zxid >= 0 && *zxid != durable.to_wire() {
                    return Err(format!("server {me} votes for itself with {zxid:#x}, and has {durable} on disk"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, create, started, z};
    use super::*;
    use crate::observe::FaultId;
    use farrier_proto::SessionId;

    fn verdict(said: &[(i64, Saying)]) -> bool {
        let mut play = Play::elected();
        said.iter().for_each(|(server, saying)| play.server(*server, ServerEvent::Said(*saying)));
        play.verdict(Box::<DurableBeforeSaid>::default()).is_ok()
    }

    #[test]
    fn what_is_on_disk_may_be_said() {
        let vote = Saying::Vote { leader: ServerId(2), zxid: 0 };
        assert!(verdict(&[
            (1, Saying::Offer { link: 7, epoch: 1 }),
            (2, Saying::Promise { link: 7, counts: true }),
            (2, vote)
        ]));
    }

    #[test]
    fn an_epoch_that_is_not_on_disk_is_caught() {
        assert!(!verdict(&[(1, Saying::Offer { link: 7, epoch: 2 })]));
        let mut play = Play::elected();
        play.server(1, ServerEvent::AcceptedEpochDurable(AcceptedEpoch(2)));
        play.server(1, ServerEvent::Said(Saying::Offer { link: 7, epoch: 2 }));
        assert!(play.verdict(Box::<DurableBeforeSaid>::default()).is_ok());
        play.server(2, ServerEvent::Said(Saying::Promise { link: 7, counts: true }));
        assert!(play.verdict(Box::<DurableBeforeSaid>::default()).is_err());
    }

    #[test]
    fn an_acknowledgement_of_what_is_not_on_disk_is_caught() {
        assert!(verdict(&[(2, Saying::Ack { zxid: z(1, 0) })]));
        assert!(!verdict(&[(2, Saying::Ack { zxid: z(1, 5) })]));
    }

    #[test]
    fn an_acknowledgement_of_a_leader_whose_epoch_is_not_on_disk_is_caught() {
        assert!(!verdict(&[(2, Saying::Ack { zxid: z(2, 0) })]));
        let mut play = Play::elected();
        play.server(2, ServerEvent::AcceptedEpochDurable(AcceptedEpoch(2)));
        play.server(2, ServerEvent::CurrentEpochDurable(CurrentEpoch(2)));
        play.server(2, ServerEvent::Said(Saying::Ack { zxid: z(2, 0) }));
        assert_eq!(play.verdict(Box::<DurableBeforeSaid>::default()), Ok(()));
    }

    #[test]
    fn a_vote_that_quotes_what_is_not_on_disk_is_caught() {
        assert!(!verdict(&[(2, Saying::Vote { leader: ServerId(2), zxid: z(1, 5).to_wire() })]));
    }

    #[test]
    fn a_vote_of_who_may_have_forgotten_is_caught() {
        let mut play = Play::elected();
        play.server(2, started(z(1, 0), true));
        play.server(2, ServerEvent::Said(Saying::Vote { leader: ServerId(i64::MIN), zxid: i64::MIN }));
        assert!(play.verdict(Box::<DurableBeforeSaid>::default()).is_ok());
        play.server(2, ServerEvent::Said(Saying::Promise { link: 7, counts: false }));
        assert!(play.verdict(Box::<DurableBeforeSaid>::default()).is_ok());
        let mut promising = play.clone();
        promising.server(2, ServerEvent::Said(Saying::Promise { link: 8, counts: true }));
        assert!(promising.verdict(Box::<DurableBeforeSaid>::default()).is_err());
        play.server(2, ServerEvent::Said(Saying::Vote { leader: ServerId(3), zxid: 0 }));
        assert!(play.verdict(Box::<DurableBeforeSaid>::default()).is_err());
    }

    #[test]
    fn a_vote_from_a_replaced_disk_for_somebody_who_has_something_is_caught() {
        let mut play = Play::elected();
        play.fault(FaultId(1), Fault::Wiped(ServerId(2)));
        play.server(2, started(z(0, 0), false));
        play.server(2, ServerEvent::Said(Saying::Vote { leader: ServerId(2), zxid: 0 }));
        assert!(play.verdict(Box::<DurableBeforeSaid>::default()).is_ok());
        play.server(2, ServerEvent::Said(Saying::Vote { leader: ServerId(3), zxid: z(1, 1).to_wire() }));
        assert!(play.verdict(Box::<DurableBeforeSaid>::default()).is_err());
    }

    #[test]
    fn a_replaced_disk_that_took_a_history_in_before_a_crash_may_vote_if_nothing_is_missing_in_it() {
        for (got, lawful) in [(z(1, 2), true), (z(1, 1), false)] {
            let mut play = Play::elected();
            for (n, path) in (1..).zip(["/a", "/b"]) {
                play.commit((SessionId::NONE, 0, create(path, n)));
            }
            play.fault(FaultId(1), Fault::Wiped(ServerId(2)));
            play.server(2, started(z(0, 0), false));
            play.server(2, started(got, false));
            play.server(2, ServerEvent::Said(Saying::Vote { leader: ServerId(3), zxid: z(1, 2).to_wire() }));
            let verdict = play.verdict(Box::<DurableBeforeSaid>::default());
            assert_eq!(verdict.is_ok(), lawful, "with {got} on disk: {verdict:?}");
        }
    }
}
