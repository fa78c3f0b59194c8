//! A reconfiguration that another leader began, and of which nobody knows whether it is in force: it is completed.
//!
//! As by Apache's leaders (`Leader.getQuorumVerifierBytes`, `startZkServer`): NEWLEADER carries what is pending, quorums of
//! both configurations acknowledge it, and with that it is in force, here and, with UPTODATE, at every learner. The
//! packet names no designated leader; so whoever sees that the leader has no place in it, or another address, leaves it
//! then, and so does a learner whose own part has changed. The leader itself goes last.

use super::Leader;
use super::stream::Stage;
use crate::core::{Core, Resign};
use crate::io::{Level, Outputs};
use crate::limits::HAND_OVER_MS_MAX;

impl Leader {
    /// Quorums of both configurations have the initial history, and know what is pending.
    pub(super) fn complete_reconfiguration(&mut self, core: &mut Core, now: u64, out: &mut Outputs) {
        let Some(text) = core.to_complete().map(|pending| pending.text().clone()) else { return };
        match core.activate(&text, Some(core.me()), None, out) {
            Ok(leaves) => self.retiring = leaves,
            // It was read before it was pending. Until it is in force, quorums of both go on to be needed.
            Err(why) => out.note(Level::Error, format!("the pending configuration cannot be read: {why}")),
        }
        if self.retiring {
            self.handing_over = Some(now + HAND_OVER_MS_MAX);
            out.note(
                Level::Info,
                "in this configuration another server has to lead: this one tells the others and goes",
            );
        }
    }

    /// Whether this leadership only goes on until the others know what is in force.
    pub(super) const fn is_retiring(&self) -> bool {
        self.retiring
    }

    /// Ends the leadership once UPTODATE was handed to the system for everybody who awaits it, or left because of it.
    pub(super) fn retire(&mut self, core: &Core, now: u64, until: u64, out: &mut Outputs) -> Result<(), Resign> {
        let last = core.history.last();
        let mut told = true;
        for (link, learner) in &mut self.learners {
            if matches!(learner.stage, Stage::Acked { .. } | Stage::UpToDate) {
                told &= learner.is_drained(*link, last, out);
            }
        }
        if !told && now < until {
            return Ok(());
        }
        let version = core.ensemble.version();
        Err(Resign::new(Level::Info, format!("another server has to lead in configuration {version:#x}")))
    }
}
