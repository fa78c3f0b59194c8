//! A learner, with a vote or without: discovery, synchronization and broadcast from the other side.
//!
//! Connecting → Discovering → Promising → Choosing → (Cutting) → Receiving → Adopting → Adopted → Broadcast.
//! Each is a type that is consumed by the transition. What the leader may send in each of them is in
//! [`discovery`], [`sync`] and [`broadcast`]; what holds of the stream of proposals in all of them is in [`stream`].
//!
//! A packet that the protocol does not allow ends the role: the reason names the rule, the zxid and the leader. What
//! is logged by then stays, and the next leader says what becomes of it.

mod broadcast;
mod canonical;
mod discovery;
mod inquiry;
mod stream;
mod sync;

use crate::core::{Core, Resign, Setback};
use crate::io::{Input, Level, LinkId, LinkKind, Output, Outputs, ShownConfig, WriteId};
use crate::limits::{REDIAL_INTERVAL, REJOIN_PAUSE_MAX};
use crate::peer::{Phase, Status};
use broadcast::{Adopted, Broadcast};
use discovery::{Connecting, Discovering, Promising};
use farrier_proto::quorum::{LeaderPacket, LearnerPacket};
use farrier_proto::{ServerId, Zxid};
use inquiry::Inquiry;
use sync::{Adopting, Choosing, Cutting, Receiving};

/// A server that follows or observes a leader.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Learner {
    leader: ServerId,
    link: Option<Link>,
    stage: Stage,
    /// When a silent leader is given up. `None` while the leader has nothing to say: it waits for our disk.
    deadline: Option<u64>,
    /// The log could not be cut where the leader wanted it: the next attempt says that nothing is there.
    history_unusable: bool,
    /// A state that the leader sent or added to is in memory, and its way to disk has not begun.
    snapshot_uninstalled: bool,
    /// Whether a quorum could do without this server is being asked.
    inquiry: Option<Inquiry>,
    /// Why the link is closed, if it is.
    reason: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Stage {
    Connecting(Connecting),
    Discovering(Discovering),
    Promising(Promising),
    Choosing(Choosing),
    Cutting(Cutting),
    Receiving(Receiving),
    Adopting(Adopting),
    Adopted(Adopted),
    Broadcast(Broadcast),
    /// The role ended.
    Left,
}

/// The connection with the leader.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Link {
    id: LinkId,
    leader: ServerId,
    /// Whether ACK and COMMIT stand for everything before them, too. LEADERINFO says so.
    cumulative: bool,
}

impl Link {
    fn send(self, packet: LearnerPacket, out: &mut Outputs) {
        out.push(Output::SendLeader { link: self.id, packet });
    }

    /// The leader sent what it must not.
    fn violation(self, rule: impl std::fmt::Display) -> Resign {
        Resign::new(Level::Warn, format!("leader {} breaks the protocol: {rule}", self.leader))
    }

    /// A packet that has no place in a stage.
    fn misplaced(self, packet: &LeaderPacket, stage: &str) -> Resign {
        self.violation(format_args!("{} {stage}", name(packet)))
    }
}

impl Learner {
    pub(crate) fn start(core: &mut Core, now: u64, leader: ServerId, out: &mut Outputs) -> Self {
        Self {
            leader,
            link: None,
            stage: Stage::Connecting(Connecting::start(core, now, leader, out)),
            deadline: None,
            history_unusable: false,
            snapshot_uninstalled: false,
            inquiry: None,
            reason: String::new(),
        }
    }

    pub(crate) fn step(&mut self, core: &mut Core, now: u64, input: Input, out: &mut Outputs) -> Result<(), Resign> {
        let result = self.take(core, now, input, out);
        if let Err(resign) = &result {
            self.reason.clone_from(&resign.reason);
            core.setback = Some(self.setback(core.setback, now));
        }
        result
    }

    fn take(&mut self, core: &mut Core, now: u64, input: Input, out: &mut Outputs) -> Result<(), Resign> {
        match input {
            Input::LinkUp { link, kind } => {
                self.link_up(core, now, link, kind, out);
                Ok(())
            }
            Input::DialFailed { leader } => {
                if let Stage::Connecting(connecting) = &mut self.stage
                    && leader == self.leader
                {
                    return connecting.failed(core, now, leader);
                }
                Ok(())
            }
            Input::LinkDown { link } => match self.link {
                Some(Link { id, .. }) if id == link => {
                    self.link = None;
                    Err(Resign::lost(format!("leader {} closed the connection", self.leader)))
                }
                Some(_) | None => Ok(()),
            },
            Input::LeaderPacket { link, packet } => match self.link {
                Some(ours) if ours.id == link => self.packet(core, now, ours, packet, out),
                Some(_) | None => Ok(()),
            },
            Input::SnapProgress { link } => {
                if self.link.is_some_and(|ours| ours.id == link) {
                    self.restart_clock(core, now);
                }
                Ok(())
            }
            Input::SnapReceived { link, zxid, config } => match self.link {
                Some(ours) if ours.id == link => self.snapshot(core, now, ours, (zxid, config), out),
                Some(_) | None => Ok(()),
            },
            Input::Durable { id } | Input::Reloaded { id, .. } => {
                self.durable(core, now, id, out);
                Ok(())
            }
            Input::Truncated { id, done, config: _ } => self.truncated(core, now, id, done, out),
            Input::Timer => self.timer(core, now, out),
            Input::ElectionUp { .. }
            | Input::ElectionDown { .. }
            | Input::Notification { .. }
            | Input::LearnerPacket { .. }
            | Input::Flushed { .. }
            | Input::Located { .. }
            | Input::TxnsRead { .. } => Ok(()),
        }
    }

    /// What the next attempt with this leader has to wait for.
    fn setback(&self, last: Option<Setback>, now: u64) -> Setback {
        let pause = match last {
            Some(last) if last.leader == self.leader && now < last.until + REJOIN_PAUSE_MAX => {
                (2 * last.pause).min(REJOIN_PAUSE_MAX)
            }
            Some(_) | None => REDIAL_INTERVAL,
        };
        Setback { leader: self.leader, pause, until: now + pause }
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        match &self.stage {
            Stage::Connecting(connecting) => Some(connecting.next_deadline()),
            Stage::Discovering(_)
            | Stage::Promising(_)
            | Stage::Choosing(_)
            | Stage::Cutting(_)
            | Stage::Receiving(_)
            | Stage::Adopting(_)
            | Stage::Adopted(_)
            | Stage::Broadcast(_)
            | Stage::Left => {
                let inquiry = self.inquiry.as_ref().map(|inquiry| inquiry.ask_at);
                self.deadline.into_iter().chain(inquiry).min()
            }
        }
    }

    /// False unless this server is up to date.
    pub(crate) fn send(&self, packet: LearnerPacket, out: &mut Outputs) -> bool {
        let (Stage::Broadcast(_), Some(link)) = (&self.stage, self.link) else { return false };
        link.send(packet, out);
        true
    }

    /// Whether it got UPTODATE.
    pub(crate) const fn is_in_broadcast(&self) -> bool {
        matches!(self.stage, Stage::Broadcast(_))
    }

    pub(crate) fn describe(&self, status: &mut Status) {
        status.leader = Some(self.leader);
        status.phase = match &self.stage {
            Stage::Connecting(_) | Stage::Discovering(_) | Stage::Promising(_) => Phase::Discovery,
            Stage::Choosing(_) | Stage::Cutting(_) | Stage::Receiving(_) | Stage::Adopting(_) | Stage::Adopted(_) => {
                Phase::Synchronization
            }
            Stage::Broadcast(broadcast) => {
                status.epoch = Some(broadcast.epoch());
                Phase::Broadcast
            }
            Stage::Left => Phase::Election,
        };
    }

    /// Whether the leader, which was not as far as this server, ended without beginning to synchronize. This server, which
    /// votes only by what is pending, did not stand against it; and perhaps it is needed (see [`Core::stands`]).
    pub(crate) fn is_passed_over(&self, core: &Core) -> bool {
        let ahead = (i64::from(core.current.0), core.history.last().to_wire()) > (core.vote.peer_epoch, core.vote.zxid);
        matches!(self.stage, Stage::Choosing(_)) && ahead && core.may_vote() && !core.stands()
    }

    pub(crate) fn close_link(&mut self, out: &mut Outputs) {
        if let Some(link) = self.link.take() {
            out.push(Output::CloseLink { link: link.id, reason: std::mem::take(&mut self.reason) });
        }
    }

    /// Whether a state is in memory that is not on its way to disk.
    pub(crate) const fn has_uninstalled_snapshot(&self) -> bool {
        self.snapshot_uninstalled
    }

    /// Whether the leader said that it takes one ACK for a run of proposals.
    pub(crate) fn leader_is_cumulative(&self) -> bool {
        self.link.is_some_and(|link| link.cumulative)
    }

    fn link_up(&mut self, core: &Core, now: u64, id: LinkId, kind: LinkKind, out: &mut Outputs) {
        let wanted = matches!(self.stage, Stage::Connecting(_)) && kind == LinkKind::Leader(self.leader);
        if !wanted {
            out.push(Output::CloseLink { link: id, reason: "nobody waits for this connection".into() });
            return;
        }
        let link = Link { id, leader: self.leader, cumulative: false };
        self.link = Some(link);
        self.stage = Stage::Discovering(Discovering::start(core, link, out));
        self.restart_clock(core, now);
    }

    fn packet(
        &mut self,
        core: &mut Core,
        now: u64,
        link: Link,
        packet: LeaderPacket,
        out: &mut Outputs,
    ) -> Result<(), Resign> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Left) {
            Stage::Discovering(stage) => {
                if let LeaderPacket::LeaderInfo { cumulative, .. } = packet {
                    let cumulative = cumulative && core.config.cumulative;
                    self.link = Some(Link { cumulative, ..link });
                }
                let told = discovery::usable_history(core, self.history_unusable);
                stage.packet(core, link, told, packet, out)?
            }
            Stage::Promising(_) => return Err(link.misplaced(&packet, "before it got ACKEPOCH")),
            Stage::Choosing(stage) => {
                let stage = stage.packet(core, link, packet, out)?;
                self.snapshot_uninstalled = matches!(&stage, Stage::Receiving(s) if s.is_to_be_installed());
                stage
            }
            Stage::Cutting(stage) => Stage::Cutting(stage.hold(link, packet, out)?),
            Stage::Receiving(stage) => {
                let stage = stage.packet(core, link, packet, out)?;
                if matches!(stage, Stage::Adopting(_)) {
                    self.snapshot_uninstalled = false;
                }
                match stage {
                    Stage::Adopting(adopting) if farrier_proto::planted!(NewLeaderAckBeforeHistory) => {
                        Stage::Adopted(adopting.adopted(link, WriteId(0), out))
                    }
                    stage => stage,
                }
            }
            Stage::Adopting(stage) => Stage::Adopting(stage.packet(core, link, packet, out)?),
            Stage::Adopted(stage) => stage.packet(core, link, packet, out)?,
            Stage::Broadcast(mut stage) => {
                stage.packet(core, link, packet, out)?;
                Stage::Broadcast(stage)
            }
            // Without a link there are no packets.
            stage @ (Stage::Connecting(_) | Stage::Left) => stage,
        };
        self.restart_clock(core, now);
        Ok(())
    }

    fn snapshot(
        &mut self,
        core: &mut Core,
        now: u64,
        link: Link,
        (zxid, config): (Zxid, Option<ShownConfig>),
        out: &mut Outputs,
    ) -> Result<(), Resign> {
        if let Stage::Choosing(stage) = &self.stage {
            self.stage = Stage::Receiving(stage.snapshot(core, link, (zxid, config), out)?);
            self.snapshot_uninstalled = true;
            self.restart_clock(core, now);
            return Ok(());
        }
        Err(link.violation(format_args!("SNAP of {zxid} that is not the first packet of synchronization")))
    }

    /// Everything up to `id` is on disk.
    fn durable(&mut self, core: &Core, now: u64, id: WriteId, out: &mut Outputs) {
        let Some(link) = self.link else { return };
        match std::mem::replace(&mut self.stage, Stage::Left) {
            Stage::Promising(stage) if stage.is_kept_by(id) => {
                let told = discovery::usable_history(core, self.history_unusable);
                self.stage = Stage::Choosing(stage.kept(core, link, told, out));
                self.restart_clock(core, now);
            }
            Stage::Adopting(stage) if stage.is_adopted_by(id) => {
                self.stage = Stage::Adopted(stage.adopted(link, id, out));
                self.restart_clock(core, now);
            }
            mut stage => {
                match &mut stage {
                    Stage::Adopted(adopted) => adopted.durable(link, id, out),
                    Stage::Broadcast(broadcast) => broadcast.durable(link, id, out),
                    Stage::Connecting(_)
                    | Stage::Discovering(_)
                    | Stage::Promising(_)
                    | Stage::Choosing(_)
                    | Stage::Cutting(_)
                    | Stage::Receiving(_)
                    | Stage::Adopting(_)
                    | Stage::Left => {}
                }
                self.stage = stage;
            }
        }
    }

    fn truncated(
        &mut self,
        core: &mut Core,
        now: u64,
        id: WriteId,
        done: bool,
        out: &mut Outputs,
    ) -> Result<(), Resign> {
        let (Stage::Cutting(cutting), Some(link)) = (&mut self.stage, self.link) else { return Ok(()) };
        if !cutting.is_done_by(id) {
            return Ok(());
        }
        if !done {
            return self.ask_for_snapshot(core, now, link, out);
        }
        let (stage, held, paused) = cutting.done(core);
        self.stage = Stage::Receiving(stage);
        self.restart_clock(core, now);
        for packet in held {
            self.packet(core, now, link, packet, out)?;
        }
        if paused {
            out.push(Output::ResumeLink { link: link.id });
        }
        Ok(())
    }

    /// The log cannot be cut: a new connection says that there is none.
    fn ask_for_snapshot(&mut self, core: &Core, now: u64, link: Link, out: &mut Outputs) -> Result<(), Resign> {
        let what = format!("the log cannot be cut where leader {} wants it", self.leader);
        if std::mem::replace(&mut self.history_unusable, true) {
            return Err(Resign::new(Level::Error, format!("{what}, and it sends no snapshot")));
        }
        out.note(Level::Warn, format!("{what}; asking for a snapshot"));
        self.link = None;
        self.deadline = None;
        out.push(Output::CloseLink { link: link.id, reason: what });
        self.stage = Stage::Connecting(Connecting::start(core, now, self.leader, out));
        Ok(())
    }

    fn timer(&mut self, core: &mut Core, now: u64, out: &mut Outputs) -> Result<(), Resign> {
        if let Stage::Connecting(connecting) = &mut self.stage {
            return connecting.timer(now, self.leader, out);
        }
        match self.deadline {
            Some(deadline) if deadline <= now => Err(Resign::lost(format!("leader {} is silent", self.leader))),
            Some(_) | None => self.inquire(core, now, out),
        }
    }

    /// The leader said something, or has to from now on.
    fn restart_clock(&mut self, core: &Core, now: u64) {
        let limit = match &self.stage {
            Stage::Discovering(_) | Stage::Choosing(_) | Stage::Receiving(_) => Some(core.config.init_limit),
            Stage::Adopted(_) | Stage::Broadcast(_) => Some(core.config.sync_limit),
            Stage::Connecting(_) | Stage::Promising(_) | Stage::Cutting(_) | Stage::Adopting(_) | Stage::Left => None,
        };
        self.deadline = limit.map(|ticks| now + core.ticks(ticks));
    }
}

/// As the protocol calls it.
const fn name(packet: &LeaderPacket) -> &'static str {
    match packet {
        LeaderPacket::LeaderInfo { .. } => "LEADERINFO",
        LeaderPacket::Diff { .. } => "DIFF",
        LeaderPacket::Trunc { .. } => "TRUNC",
        LeaderPacket::Snap { .. } => "SNAP",
        LeaderPacket::NewLeader { .. } => "NEWLEADER",
        LeaderPacket::UpToDate => "UPTODATE",
        LeaderPacket::Proposal { .. } => "PROPOSAL",
        LeaderPacket::Commit { .. } => "COMMIT",
        LeaderPacket::Inform { .. } => "INFORM",
        LeaderPacket::CommitAndActivate { .. } => "COMMITANDACTIVATE",
        LeaderPacket::InformAndActivate { .. } => "INFORMANDACTIVATE",
        LeaderPacket::Ping { .. } => "PING",
        LeaderPacket::Revalidate { .. } => "REVALIDATE",
        LeaderPacket::Sync => "SYNC",
    }
}

#[cfg(test)]
mod tests;
