//! Zab phase 2: what a learner gets so that its history becomes ours.

use super::Leader;
use super::stream::{Stage, Transfer};
use crate::config::Config;
use crate::core::Core;
use crate::history::History;
use crate::io::{Level, LinkId, Located, Output, Outputs, ReadId};
use crate::limits::LEARNERS_MAX;
use bytes::Bytes;
use farrier_proto::Zxid;
use farrier_proto::quorum::LeaderPacket;

/// How a learner's history becomes ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Choice {
    /// It is ours up to here; what is behind follows.
    Diff { base: Zxid },
    /// It has our committed history and more.
    Trunc,
    /// It cannot be told, or is too long ago.
    Snap,
    /// The log on disk may tell.
    Locate,
}

impl Leader {
    /// Begins to synchronize a learner that promised, or sent -1 because it had before.
    pub(super) fn synchronize(&mut self, core: &mut Core, now: u64, link: LinkId, out: &mut Outputs) {
        let Some(learner) = self.learners.get(&link) else { return };
        let Stage::Promised { last_logged } = learner.stage else { return };
        let choice = if self.want_snapshot.remove(&learner.server) {
            Choice::Snap
        } else {
            choose(&core.history, &core.config, last_logged)
        };
        self.transfer(core, now, link, Zxid::from_wire(last_logged), choice, out);
    }

    /// The log on disk was looked at.
    pub(super) fn located(
        &mut self,
        core: &mut Core,
        now: u64,
        link: LinkId,
        read: ReadId,
        located: Option<Located>,
        out: &mut Outputs,
    ) {
        let Some(learner) = self.learners.get(&link) else { return };
        let Stage::Locating { read: asked, peer } = learner.stage else { return };
        if asked != read {
            return;
        }
        let choice = located.map_or(Choice::Snap, |l| on_disk(&core.config, peer, l));
        self.transfer(core, now, link, peer, choice, out);
    }

    /// What was read from the log on disk for a learner's stream. If it has nothing for us, the learner comes
    /// again and gets a SNAP.
    pub(super) fn txns_read(
        &mut self,
        core: &mut Core,
        now: u64,
        link: LinkId,
        read: ReadId,
        txns: Vec<(Zxid, Bytes)>,
        out: &mut Outputs,
    ) {
        let Some(learner) = self.learners.get_mut(&link) else { return };
        let Some(to) = learner.takes(read) else { return };
        let server = learner.server;
        if !txns.is_empty() && txns.into_iter().all(|(zxid, txn)| learner.send_read(link, zxid, txn, to, out)) {
            self.pump(core, now, link, out);
            return;
        }
        let sent = learner.sent();
        out.note(
            Level::Warn,
            format!("the log on disk does not say what follows {sent}: server {server} needs a snapshot"),
        );
        if self.want_snapshot.len() < LEARNERS_MAX {
            self.want_snapshot.insert(server);
        }
        self.close(link, "what it lacks cannot be read here; the next time it gets a snapshot", out);
    }

    fn transfer(&mut self, core: &mut Core, now: u64, link: LinkId, peer: Zxid, choice: Choice, out: &mut Outputs) {
        let kind = match choice {
            Choice::Diff { .. } | Choice::Trunc => Transfer::Difference,
            Choice::Snap => Transfer::Snapshot,
            Choice::Locate => {
                let read = core.read_id();
                if let Some(learner) = self.learners.get_mut(&link) {
                    learner.stage = Stage::Locating { read, peer };
                }
                out.push(Output::Locate { read, link, zxid: peer });
                return;
            }
        };
        let max = match kind {
            Transfer::Snapshot => core.config.snap_syncs_max,
            Transfer::Difference => core.config.diff_syncs_max,
        };
        let busy = self.learners.values().filter(|l| l.transfer() == Some(kind)).count();
        let Some(learner) = self.learners.get_mut(&link) else { return };
        if !learner.votes && busy >= max {
            self.close(link, "too many learners are synchronized at once", out);
            return;
        }
        // While nothing is established this is the end of the initial history.
        let bound = if farrier_proto::planted!(UncommittedSentAsCommitted) && matches!(choice, Choice::Diff { .. }) {
            core.history.last()
        } else {
            core.history.delivered()
        };
        match choice {
            Choice::Diff { base } => {
                learner.send(link, LeaderPacket::Diff { zxid: bound }, out);
                learner.begin(base, bound, kind);
            }
            Choice::Trunc => {
                learner.send(link, LeaderPacket::Trunc { zxid: bound }, out);
                learner.begin(bound, bound, kind);
            }
            Choice::Snap => {
                out.push(Output::SendSnapshot { link, zxid: bound });
                learner.begin(bound, bound, kind);
                learner.report_flush(link, None, out);
            }
            Choice::Locate => unreachable!("handled above"),
        }
        let server = learner.server;
        out.note(Level::Info, format!("server {server}, which has {peer}, gets {} up to {bound}", choice.name()));
        self.pump(core, now, link, out);
    }
}

impl Choice {
    const fn name(self) -> &'static str {
        match self {
            Self::Diff { .. } => "DIFF",
            Self::Trunc => "TRUNC",
            Self::Snap => "SNAP",
            Self::Locate => "a look at the log",
        }
    }
}

/// From what is in memory. Counter 0 is the NEWLEADER of an established epoch: whoever has it has exactly what
/// preceded that epoch in our history, if our history reaches into that epoch or beyond.
fn choose(history: &History, config: &Config, last_logged: i64) -> Choice {
    let bound = history.delivered();
    if config.force_snapshot_sync || last_logged < 0 {
        return Choice::Snap;
    }
    let peer = Zxid::from_wire(last_logged);
    if peer == bound {
        Choice::Diff { base: bound }
    } else if peer == Zxid::ZERO {
        // Empty, or unknown: a transaction may hide in it that the log does not name.
        Choice::Snap
    } else if peer > bound {
        // No log has a record with counter 0 behind which it could be cut.
        if peer.counter() == 0 || bound.counter() == 0 { Choice::Snap } else { Choice::Trunc }
    } else if peer >= history.floor() {
        difference(peer, history.at_or_before(peer))
    } else if config.log_diff_permille.is_some() {
        Choice::Locate
    } else {
        Choice::Snap
    }
}

/// From what the log on disk says.
fn on_disk(config: &Config, peer: Zxid, located: Located) -> Choice {
    let small = config.log_diff_permille.is_some_and(|permille| {
        permille == 0
            || located.snapshot_bytes == 0
            || located.bytes_behind.saturating_mul(1000) <= located.snapshot_bytes.saturating_mul(permille)
    });
    match located.before {
        Some(before) if small => difference(peer, before),
        Some(_) | None => Choice::Snap,
    }
}

/// `before` is our newest transaction at or below the learner's last. If it is another one, the learner's
/// last is not in our history, although that goes on behind it: in another epoch, since epochs have no gaps. A cut
/// across epochs may miss, so it gets a snapshot.
fn difference(peer: Zxid, before: Zxid) -> Choice {
    if farrier_proto::planted!(ForeignTailKept)
        || before == peer
        || (peer.counter() == 0 && before < peer && before != Zxid::ZERO)
    {
        Choice::Diff { base: before }
    } else {
        Choice::Snap
    }
}
