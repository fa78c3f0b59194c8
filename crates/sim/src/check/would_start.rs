//! Wherever a machine might fail, a start would find what was durable, no epoch that went back, nothing that was never in
//! its log, and in its log what a leader may send on: the history, without a gap or a foreign record. A log that is there
//! reaches up to the snapshot: own ones are of what is durable, and a leader's comes in the place of everything.

use super::{Checker, Facts};
use crate::observe::{Ending, Fault, Observation, Replacement, Role, ServerEvent, What};
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId, Zxid};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct WouldStart {
    disks: BTreeMap<ServerId, (AcceptedEpoch, CurrentEpoch)>,
    /// What the log on disk ends with while a leader's state has taken the place of its own in memory only.
    replaced: BTreeMap<ServerId, Zxid>,
    /// Ends of the logs, before the observation.
    logged: BTreeMap<ServerId, Zxid>,
    /// What they had on disk, before the observation.
    durable: BTreeMap<ServerId, Zxid>,
    /// What servers had on disk that said at their start that they may have forgotten, until a leader gave them everything.
    forgot: BTreeMap<ServerId, Zxid>,
    /// Servers whose disk changed by itself, and that nobody has given everything since.
    rotten: BTreeSet<ServerId>,
    /// Those of them that still have to say so at their next start: bits changed below the mark, whose newest state is there
    /// as long as the power is.
    marked: BTreeSet<ServerId>,
    /// Servers that a leader brings up to date, until they are, or are started again: TRUNC and SNAP take away what was
    /// durable before they are told.
    synchronizing: BTreeSet<ServerId>,
    /// Servers on whose disk another one ran, until they are started again.
    taken: BTreeSet<ServerId>,
    /// The same until a leader's snapshot has taken the place of everything there, or the log goes on beyond what the first
    /// start found: another one's log may end before its snapshot.
    inherited: BTreeMap<ServerId, Option<Zxid>>,
}

impl Checker for WouldStart {
    fn name(&self) -> &'static str {
        "would-start"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let (me, event) = match &observation.what {
            What::Server(me, event) => (*me, event),
            What::FaultBegan(_, Fault::BitRot(server)) => {
                self.rotten.insert(*server);
                self.marked.insert(*server);
                return Ok(());
            }
            What::FaultBegan(_, Fault::Wiped(server)) => {
                self.rotten.insert(*server);
                self.marked.remove(server);
                return Ok(());
            }
            What::FaultBegan(_, Fault::TakenOver(server)) => {
                self.taken.insert(*server);
                self.inherited.insert(*server, None);
                return Ok(());
            }
            _ => return Ok(()),
        };
        let server = facts.server(me);
        let before = self.logged.insert(me, server.logged).unwrap_or_default();
        let had = self.durable.insert(me, server.durable).unwrap_or_default();
        self.inherited.retain(|id, start| *id != me || start.is_none_or(|start| server.durable <= start));
        match event {
            ServerEvent::Started { accepted, current, last, recovering, .. } => {
                self.disks.insert(me, (*accepted, *current));
                if let Some(start) = self.inherited.get_mut(&me) {
                    start.get_or_insert(*last);
                }
                if *recovering {
                    self.forgot.entry(me).or_insert(had);
                } else {
                    self.forgot.remove(&me);
                }
                self.replaced.remove(&me);
                self.synchronizing.remove(&me);
                self.taken.remove(&me);
                self.marked.remove(&me);
            }
            ServerEvent::Ended(Ending::PowerCrash) => {
                self.marked.remove(&me);
            }
            ServerEvent::AcceptedEpochDurable(accepted) => self.disks.entry(me).or_default().0 = *accepted,
            ServerEvent::CurrentEpochDurable(current) => self.disks.entry(me).or_default().1 = *current,
            ServerEvent::StateReplaced { why: Replacement::Snap, .. } => {
                self.replaced.entry(me).or_insert(before);
            }
            ServerEvent::StateReplaced { why: Replacement::Reload, .. } => {
                self.replaced.remove(&me);
            }
            ServerEvent::SnapshotInstalled { .. } => {
                self.replaced.remove(&me);
                self.inherited.remove(&me);
            }
            ServerEvent::Role { role: Role::Learning { epoch: None, .. }, .. } => {
                self.synchronizing.insert(me);
            }
            ServerEvent::Role { role: Role::Learning { .. }, .. } => {
                self.rotten.remove(&me);
                self.forgot.remove(&me);
                self.synchronizing.remove(&me);
            }
            ServerEvent::Role { role: Role::Leading { .. }, .. } => {
                self.synchronizing.remove(&me);
            }
            ServerEvent::WouldStart { recovering: true, .. } => {}
            ServerEvent::WouldStart { last, .. } if self.forgets(facts, me, *last) => {
                return Err(format!(
                    "server {me} has forgotten something, and would start with {last} as if it had not"
                ));
            }
            ServerEvent::WouldStart { power: false, last, .. }
                if self.marked.contains(&me) && !self.taken.contains(&me) =>
            {
                self.remembers(facts, me, *last)?;
            }
            ServerEvent::WouldStart { .. } if self.rotten.contains(&me) || self.taken.contains(&me) => {}
            ServerEvent::WouldStart { accepted, current, last, difference, falls_short, .. } => {
                if *falls_short && !self.inherited.contains_key(&me) {
                    return Err(format!(
                        "server {me} would start with a snapshot at {last} beside a log that ends before it: two histories"
                    ));
                }
                self.epochs(me, *accepted, *current)?;
                self.history(facts, me, *last)?;
                if let Some((from, txns)) = difference {
                    sendable(facts, me, *last, *from, txns)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl WouldStart {
    fn epochs(&self, me: ServerId, accepted: AcceptedEpoch, current: CurrentEpoch) -> Result<(), String> {
        let (had_accepted, had_current) = self.disks.get(&me).copied().unwrap_or_default();
        if accepted < had_accepted || current < had_current || current.0 > accepted.0 {
            return Err(format!(
                "server {me} has acceptedEpoch {} and currentEpoch {} on disk, and would start with {} and {}",
                had_accepted.0, had_current.0, accepted.0, current.0
            ));
        }
        Ok(())
    }

    /// Whether it had something on disk that is committed, has said that it may have forgotten it, and has not got it again.
    fn forgets(&self, facts: &Facts, me: ServerId, last: Zxid) -> bool {
        self.forgot.get(&me).is_some_and(|had| facts.history.lacks(last, *had))
    }

    fn remembers(&self, facts: &Facts, me: ServerId, last: Zxid) -> Result<(), String> {
        let durable = facts.server(me).durable;
        if !self.synchronizing.contains(&me) && !facts.history.holds(last, durable) {
            return Err(format!("server {me} has {durable} on disk, and would start with {last}"));
        }
        Ok(())
    }

    fn history(&self, facts: &Facts, me: ServerId, last: Zxid) -> Result<(), String> {
        self.remembers(facts, me, last)?;
        let server = facts.server(me);
        let replaced = self.replaced.get(&me);
        let had = |end: Zxid| facts.history.holds(end, last);
        if had(server.logged) || replaced.is_some_and(|end| had(*end)) {
            return Ok(());
        }
        Err(format!("server {me} has logged up to {}, and would start with {last}", server.logged))
    }
}

/// Whether a leader may send these: all that lies between, and nothing else.
fn sendable(facts: &Facts, me: ServerId, last: Zxid, from: Zxid, txns: &[Zxid]) -> Result<(), String> {
    if facts.history.between(from, last).is_some_and(|path| path == txns) {
        return Ok(());
    }
    let foreign = txns.iter().find(|zxid| !facts.history.holds(last, **zxid));
    Err(match foreign {
        Some(foreign) => {
            format!("server {me} would start with {last}, and could send {foreign} on, which is not in that history")
        }
        None => format!(
            "server {me} would start with {last}, and could send on what follows {from} up to {}, {} transactions with gaps",
            txns.last().copied().unwrap_or(from),
            txns.len()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, set_data, started, z};
    use super::*;
    use crate::observe::FaultId;

    fn would(last: Zxid, difference: Option<(Zxid, Vec<Zxid>)>) -> ServerEvent {
        let (accepted, current) = (AcceptedEpoch(1), CurrentEpoch(1));
        let (power, digest, recovering, falls_short) = (true, None, false, false);
        ServerEvent::WouldStart { power, accepted, current, last, digest, recovering, difference, falls_short }
    }

    fn verdict(event: ServerEvent) -> bool {
        let mut play = Play::elected();
        (0..3).for_each(|n| drop(play.commit(set_data("/", n, "x"))));
        play.server(3, event);
        play.verdict(Box::<WouldStart>::default()).is_ok()
    }

    #[test]
    fn what_was_durable_would_be_there() {
        assert!(verdict(would(z(1, 3), Some((z(1, 1), vec![z(1, 2), z(1, 3)])))));
        assert!(!verdict(would(z(1, 2), None)));
    }

    #[test]
    fn what_was_never_logged_is_caught() {
        assert!(!verdict(would(z(1, 4), None)));
        assert!(!verdict(would(z(2, 1), None)));
    }

    #[test]
    fn epochs_that_would_go_back_are_caught() {
        let (accepted, current) = (AcceptedEpoch(1), CurrentEpoch(0));
        let (last, digest, difference) = (z(1, 3), None, None);
        assert!(!verdict(ServerEvent::WouldStart {
            power: true,
            accepted,
            current,
            last,
            digest,
            recovering: false,
            difference,
            falls_short: false,
        }));
    }

    #[test]
    fn a_log_that_ends_before_the_snapshot_is_caught() {
        let mut event = would(z(1, 3), None);
        assert!(verdict(event.clone()));
        let ServerEvent::WouldStart { falls_short, .. } = &mut event else { unreachable!("it is one") };
        *falls_short = true;
        assert!(!verdict(event.clone()));
        let mut play = Play::elected();
        (0..3).for_each(|n| drop(play.commit(set_data("/", n, "x"))));
        play.fault(FaultId(1), Fault::TakenOver(ServerId(3)));
        play.server(3, ServerEvent::Ended(Ending::ProcessCrash));
        play.server(3, started(z(1, 3), false));
        play.server(3, event);
        assert!(play.verdict(Box::<WouldStart>::default()).is_ok(), "the other one's log");
    }

    #[test]
    fn a_difference_with_a_gap_or_a_foreign_record_is_caught() {
        assert!(!verdict(would(z(1, 3), Some((z(1, 1), vec![z(1, 3)])))));
        assert!(!verdict(would(z(1, 3), Some((z(1, 1), vec![z(1, 2)])))));
        assert!(!verdict(would(z(1, 3), Some((Zxid::ZERO, vec![z(1, 1), z(0, 7), z(1, 2), z(1, 3)])))));
    }

    #[test]
    fn who_has_forgotten_says_so_until_it_has_it_again() {
        let mut play = Play::elected();
        (0..3).for_each(|n| drop(play.commit(set_data("/", n, "x"))));
        play.fault(FaultId(1), Fault::BitRot(ServerId(3)));
        play.server(3, ServerEvent::Ended(Ending::ProcessCrash));
        play.server(3, started(z(1, 2), true));
        for (last, lawful) in [(z(1, 2), false), (z(1, 3), true)] {
            let mut play = play.clone();
            play.server(3, would(last, None));
            assert_eq!(play.verdict(Box::<WouldStart>::default()).is_ok(), lawful);
        }
    }

    #[test]
    fn bits_that_changed_below_the_mark_must_be_told() {
        let mut play = Play::elected();
        (0..3).for_each(|n| drop(play.commit(set_data("/", n, "x"))));
        play.fault(FaultId(1), Fault::BitRot(ServerId(3)));
        play.server(3, ServerEvent::Ended(Ending::ProcessCrash));
        let mut torn = play.clone();
        torn.server(3, would(z(1, 2), None));
        assert!(torn.verdict(Box::<WouldStart>::default()).is_ok(), "without power the mark may be an older one");
        let (accepted, current) = (AcceptedEpoch(1), CurrentEpoch(1));
        for recovering in [true, false] {
            let mut play = play.clone();
            let (last, digest, difference) = (z(1, 2), None, None);
            let (power, falls_short) = (false, false);
            let event =
                ServerEvent::WouldStart { power, accepted, current, last, digest, recovering, difference, falls_short };
            play.server(3, event);
            assert_eq!(play.verdict(Box::<WouldStart>::default()).is_ok(), recovering);
        }
    }
}
