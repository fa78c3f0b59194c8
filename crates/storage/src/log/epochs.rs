//! The small files in the order of the log.

use super::LogWriter;
use crate::disk::{Disk, DiskResult};
use crate::epochs::{write_accepted_epoch, write_current_epoch};
use crate::mark::Mark;
use crate::pending::write_pending;
use crate::recovering::{Recovering, clear_recovering, raise_recovering};
use farrier_proto::{AcceptedEpoch, CurrentEpoch};

impl<D: Disk> LogWriter<D> {
    /// Makes `acceptedEpoch` durable, after everything that was appended. An error is final, as in a commit.
    pub fn save_accepted_epoch(&mut self, epoch: AcceptedEpoch) -> DiskResult<()> {
        self.step(|log| write_accepted_epoch(&*log.disk, epoch))
    }

    /// Makes it durable, after everything that was appended, which configuration of members may come into force without
    /// being in the log, or that none may; see [`read_pending`](crate::read_pending). An error is final, as in a commit.
    pub fn save_pending(&mut self, config: Option<&[u8]>) -> DiskResult<()> {
        self.step(|log| write_pending(&*log.disk, config))
    }

    /// Makes it durable that this member may have forgotten what it acknowledged; see
    /// [`Recovered::fresh_without_initialize`](crate::Recovered::fresh_without_initialize). An error is final, as in
    /// a commit.
    pub fn raise_recovering(&mut self, at_least: Recovering) -> DiskResult<()> {
        self.step(|log| {
            log.recovering = raise_recovering(&*log.disk, at_least)? != Recovering::No;
            Ok(())
        })
    }

    /// Makes `currentEpoch` durable, after everything that was appended; then the member no longer counts as
    /// recovering. An error is final, as in a commit.
    ///
    /// The mark of the new epoch is written before the file, while the other slot keeps the old one's: whatever
    /// the file says after a crash, a mark is in force.
    pub fn save_current_epoch(&mut self, epoch: CurrentEpoch) -> DiskResult<()> {
        self.step(|log| {
            log.mark.sync()?;
            log.epoch = epoch.0;
            log.mark.write(&*log.disk, Mark { epoch: epoch.0, ..log.mark.last() })?;
            log.mark.sync()?;
            write_current_epoch(&*log.disk, epoch)?;
            if log.recovering {
                clear_recovering(&*log.disk)?;
                log.recovering = false;
            }
            Ok(())
        })
    }
}
