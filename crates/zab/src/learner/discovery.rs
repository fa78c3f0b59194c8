//! Finding the leader, and promising it an epoch.
//!
//! The promise is on disk before ACKEPOCH says so (safety contract 1.3). An epoch that was promised before is not
//! promised again: ACKEPOCH then carries none, and does not count.

use super::sync::Choosing;
use super::{Link, Stage};
use crate::config::Recovering;
use crate::core::{Core, Resign};
use crate::io::{Level, Output, Outputs, WriteId};
use crate::limits::{EPOCH_MAX, REDIAL_INTERVAL};
use farrier_proto::quorum::{LEARNER_PROTOCOL_VERSION, LeaderPacket, LearnerInfo, LearnerPacket};
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId, Zxid};

/// Dialling.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Connecting {
    give_up: u64,
    /// When to dial again, once a dial failed.
    redial: Option<u64>,
}

impl Connecting {
    pub(super) fn start(core: &Core, now: u64, leader: ServerId, out: &mut Outputs) -> Self {
        let limit = match core.config.connect_limit {
            0 => core.config.init_limit,
            ticks => ticks,
        };
        let give_up = now + core.ticks(limit);
        match core.setback {
            Some(setback) if setback.leader == leader && now < setback.until => {
                Self { give_up, redial: Some(setback.until) }
            }
            Some(_) | None => {
                out.push(Output::Dial { leader });
                Self { give_up, redial: None }
            }
        }
    }

    /// A leader that is slow is dialled again. One whose election port is gone as well is dead, or cut off from here:
    /// while this server waits for it, it is missing in the next election.
    pub(super) fn failed(&mut self, core: &Core, now: u64, leader: ServerId) -> Result<(), Resign> {
        if !core.election_links.contains(&leader) {
            return Err(Resign::lost(format!("leader {leader} cannot be reached")));
        }
        self.redial = Some(now + REDIAL_INTERVAL);
        Ok(())
    }

    /// See [`Peer::canonicalize`](crate::Peer::canonicalize).
    pub(super) fn canonicalize(&mut self) {
        self.give_up = 0;
        self.redial = self.redial.map(|_| 0);
    }

    pub(super) fn next_deadline(&self) -> u64 {
        self.redial.map_or(self.give_up, |redial| redial.min(self.give_up))
    }

    pub(super) fn timer(&mut self, now: u64, leader: ServerId, out: &mut Outputs) -> Result<(), Resign> {
        if self.give_up <= now {
            return Err(Resign::lost(format!("leader {leader} cannot be reached")));
        }
        if self.redial.take_if(|redial| *redial <= now).is_some() {
            out.push(Output::Dial { leader });
        }
        Ok(())
    }
}

/// Said who it is; the leader says which epoch begins.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Discovering;

/// The promise is on its way to disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Promising {
    epoch: u32,
    write: WriteId,
}

/// The history that the leader may build upon: all that is logged, or none.
///
/// A server that may have forgotten what it acknowledged offers none and is not counted (safety contract 3). If it
/// may even have forgotten its promise, it joins an established leader only; whom to join is the election's choice.
pub(super) fn usable_history(core: &Core, unusable: bool) -> Option<Zxid> {
    let whole = farrier_proto::planted!(ForgetfulHistoryOffered)
        || match core.recovering {
            Recovering::No | Recovering::Fresh => true,
            Recovering::History | Recovering::Promise => false,
        };
    (whole && !unusable).then(|| core.history.last())
}

impl Discovering {
    pub(super) fn start(core: &Core, link: Link, out: &mut Outputs) -> Self {
        let accepted = core.accepted;
        let info = LearnerInfo {
            server: Some(core.me()),
            protocol_version: LEARNER_PROTOCOL_VERSION,
            config_version: core.ensemble.version(),
            cumulative: core.config.cumulative,
        };
        let packet = if core.ensemble.is_observer(core.me()) {
            LearnerPacket::ObserverInfo { accepted, info }
        } else {
            LearnerPacket::FollowerInfo { accepted, info }
        };
        link.send(packet, out);
        Self
    }

    pub(super) fn packet(
        self,
        core: &mut Core,
        link: Link,
        history: Option<Zxid>,
        packet: LeaderPacket,
        out: &mut Outputs,
    ) -> Result<Stage, Resign> {
        match packet {
            LeaderPacket::LeaderInfo { epoch, .. } => {
                let promised = core.accepted;
                // A promise of an observer counts nowhere, so it binds nobody: otherwise one that promised to a leader that
                // failed would stay away from all others until the next election. Whoever is in no configuration that it
                // knows comes as a follower, and a leader that has a newer one may count it.
                let binding = if core.ensemble.is_observer(core.me()) { core.current.0 } else { promised.0 };
                if epoch < binding {
                    return Err(Resign::new(
                        Level::Warn,
                        format!("leader {} begins epoch {epoch}, but {binding} is promised", link.leader),
                    ));
                }
                if epoch >= EPOCH_MAX {
                    return Err(link.violation(format_args!("LEADERINFO of epoch {epoch}, which cannot be")));
                }
                if epoch <= promised.0 {
                    let history = history.filter(|_| core.state_wanted != Some(epoch));
                    return Ok(Stage::Choosing(ack_epoch(link, epoch, None, history, out)));
                }
                let write = core.save_accepted(AcceptedEpoch(epoch), out);
                let promising = Promising { epoch, write };
                if farrier_proto::planted!(PromiseBeforeSync) {
                    return Ok(Stage::Choosing(promising.kept(core, link, history, out)));
                }
                Ok(Stage::Promising(promising))
            }
            LeaderPacket::Diff { .. }
            | LeaderPacket::Trunc { .. }
            | LeaderPacket::Snap { .. }
            | LeaderPacket::NewLeader { .. }
            | LeaderPacket::UpToDate
            | LeaderPacket::Proposal { .. }
            | LeaderPacket::Commit { .. }
            | LeaderPacket::Inform { .. }
            | LeaderPacket::CommitAndActivate { .. }
            | LeaderPacket::InformAndActivate { .. }
            | LeaderPacket::Ping { .. }
            | LeaderPacket::Revalidate { .. }
            | LeaderPacket::Sync => Err(link.misplaced(&packet, "instead of LEADERINFO")),
        }
    }
}

impl Promising {
    /// See [`Peer::canonicalize`](crate::Peer::canonicalize).
    pub(super) const fn canonicalize(&mut self, durable: WriteId) {
        self.write = self.write.renumbered(durable);
    }

    pub(super) fn is_kept_by(&self, id: WriteId) -> bool {
        self.write <= id
    }

    /// The promise is on disk.
    pub(super) fn kept(self, core: &Core, link: Link, history: Option<Zxid>, out: &mut Outputs) -> Choosing {
        ack_epoch(link, self.epoch, Some(core.current), history, out)
    }
}

/// Without a usable history it does not count either.
fn ack_epoch(
    link: Link,
    epoch: u32,
    current: Option<CurrentEpoch>,
    history: Option<Zxid>,
    out: &mut Outputs,
) -> Choosing {
    let base = history.unwrap_or(Zxid::ZERO);
    let current = history.and(current);
    link.send(LearnerPacket::AckEpoch { last_logged: base.to_wire(), current }, out);
    Choosing { epoch, base }
}
