//! Recovery of a member of an ensemble: its epochs, and what it does about damage, since there are others to ask.
//!
//! Owns when a member counts as recovering (safety contract, section 3), and that this is durable before anything
//! is moved aside or written that would hide the loss.

use super::{
    EpochStep, RecoverOptions, Recovered, Refusal, RefusalKind, finish_install, has_initialize, known_mark,
    recover_files,
};
use crate::aside::Aside;
use crate::disk::{Disk, DiskPath, DiskResult};
use crate::epochs::{
    NumberError, accepted_epoch_path, current_epoch_path, read_accepted_epoch, read_current_epoch,
    remove_epoch_leftovers, write_accepted_epoch, write_current_epoch,
};
use crate::mark::{Mark, mark_of_epoch, mark_path};
use crate::recovering::{Recovering, clear_recovering, raise_recovering, read_recovering};
use crate::repair;
use crate::segment::list_segments;
use crate::snapshot::list_snapshots;
use crate::state::Restore;
use farrier_proto::{AcceptedEpoch, CurrentEpoch, Zxid};

/// What the epoch files say. A file with anything else in it is as good as none.
struct EpochFiles {
    accepted: Option<AcceptedEpoch>,
    current: Option<CurrentEpoch>,
    /// Files that say nothing, and what they say instead.
    bad: Vec<(DiskPath, String)>,
}

impl EpochFiles {
    fn read<D: Disk>(disk: &D) -> DiskResult<Self> {
        let mut bad = Vec::new();
        let accepted = usable(read_accepted_epoch(disk), accepted_epoch_path(), &mut bad)?;
        let current = usable(read_current_epoch(disk), current_epoch_path(), &mut bad)?;
        Ok(Self { accepted, current, bad })
    }

    /// Under which epoch the files are read: without its file, that of the newest mark.
    fn effective(&self, mark: Option<Mark>) -> u32 {
        self.current.map_or_else(|| mark.map_or(0, |m| m.epoch), |c| c.0)
    }
}

fn usable<T>(
    read: Result<Option<T>, NumberError>,
    path: DiskPath,
    bad: &mut Vec<(DiskPath, String)>,
) -> DiskResult<Option<T>> {
    match read {
        Ok(epoch) => Ok(epoch),
        Err(NumberError::Disk(e)) => Err(e),
        Err(e @ NumberError::Value { .. }) => {
            bad.push((path, e.to_string()));
            Ok(None)
        }
    }
}

/// The options under which a directory is looked at: a member's epoch stands in its files. A server alone asks none, but
/// where a member worked last the mark is in force that is in force for a member.
pub(crate) fn with_epoch<D: Disk>(disk: &D, options: &RecoverOptions) -> Result<RecoverOptions, Refusal> {
    let mark = known_mark(disk, &mut Vec::new())?;
    let files = EpochFiles::read(disk)?;
    let current_epoch = match (options.standalone, mark, files.current) {
        (false, ..) => files.effective(mark),
        (true, Some(mark), Some(current)) if mark.epoch > 0 => current.0,
        (true, ..) => options.current_epoch,
    };
    Ok(RecoverOptions { current_epoch, ..options.clone() })
}

/// What a member starts from.
struct Member {
    files: EpochFiles,
    mark: Option<Mark>,
    /// Snapshots or logs are there.
    data: bool,
    initialize: bool,
    recovering: Recovering,
}

impl Member {
    fn look<D: Disk>(disk: &D) -> Result<Self, Refusal> {
        let log = list_segments(disk)?.iter().any(|s| s.len > 0);
        Ok(Self {
            files: EpochFiles::read(disk)?,
            mark: known_mark(disk, &mut Vec::new())?,
            data: log || !list_snapshots(disk)?.is_empty(),
            initialize: has_initialize(disk)?,
            recovering: read_recovering(disk)?,
        })
    }

    /// What the epoch files alone show to be lost.
    fn lost<D: Disk>(&self, disk: &D) -> DiskResult<Recovering> {
        // Before its first snapshot a server has promised nothing, and died at most between the two files.
        let begun = self.data || self.mark.is_some_and(|m| m.zxid > Zxid::ZERO || m.epoch > 0);
        let lost = match (self.files.accepted, self.files.current) {
            (Some(accepted), Some(current)) if !begun && (accepted.0 > 0 || current.0 > 0) => Recovering::History,
            (Some(_), Some(_)) => Recovering::No,
            (None | Some(AcceptedEpoch(0)), None) if !begun && self.files.bad.is_empty() => Recovering::No,
            (None | Some(AcceptedEpoch(0)), None) if self.was_standalone(disk)? => Recovering::No,
            (None, _) => Recovering::Promise,
            (Some(_), None) => Recovering::History,
        };
        Ok(lost)
    }

    /// The newest mark, if only a later epoch's are there. Nobody sets an epoch back, and until one's file is written a slot
    /// has the mark of the epoch before: so the file is of an earlier time.
    fn later_mark<D: Disk>(&self, disk: &D) -> DiskResult<Option<Mark>> {
        let Some(current) = self.files.current else { return Ok(None) };
        let later = self.mark.filter(|mark| mark.epoch > current.0);
        Ok(if mark_of_epoch(disk, current.0)?.is_none() { later } else { None })
    }

    /// Whether neither a transaction nor an epoch was ever here.
    fn is_blank<D: Disk>(&self, disk: &D) -> DiskResult<bool> {
        let zero = |epoch: Option<u32>| epoch == Some(0);
        Ok(zero(self.files.accepted.map(|e| e.0))
            && zero(self.files.current.map(|e| e.0))
            && self.mark.is_some_and(|m| m.zxid == Zxid::ZERO && m.epoch == 0)
            && list_segments(disk)?.iter().all(|s| s.len == 0)
            && list_snapshots(disk)?.iter().all(|s| s.zxid == Zxid::ZERO))
    }

    /// Whether only a standalone server has ever worked here, which has no epoch files: its transactions are of
    /// epoch 0, and every ensemble's of a later one. A restart begins a new segment, so the names tell.
    fn was_standalone<D: Disk>(&self, disk: &D) -> DiskResult<bool> {
        let snapshots = list_snapshots(disk)?.into_iter().map(|s| s.zxid);
        let newest = list_segments(disk)?.into_iter().map(|s| s.first).chain(snapshots).max();
        Ok(self.files.bad.is_empty()
            && newest.is_some_and(|z| z > Zxid::ZERO && z.epoch() == 0)
            && self.mark.is_none_or(|m| m.epoch == 0))
    }

    /// The epochs that stand in the files after recovery, if it ended with `last`. A record of an epoch shows that
    /// its whole initial history is there: a server that died before it could write the epoch may raise it.
    fn epochs(&self, last: Zxid) -> (AcceptedEpoch, CurrentEpoch) {
        let current = self.files.effective(self.mark).max(last.epoch());
        let marked = self.mark.filter(|_| self.files.accepted.is_none()).map_or(0, |m| m.epoch);
        let accepted = self.files.accepted.map_or(0, |a| a.0).max(current).max(marked);
        (AcceptedEpoch(accepted), CurrentEpoch(current))
    }

    fn write_epochs<D: Disk>(&self, disk: &D, last: Zxid) -> DiskResult<()> {
        let (accepted, current) = self.epochs(last);
        if self.files.accepted != Some(accepted) {
            write_accepted_epoch(disk, accepted)?;
        }
        if self.files.current != Some(current) {
            write_current_epoch(disk, current)?;
        }
        remove_epoch_leftovers(disk)
    }
}

pub(super) fn recover_member<D: Disk>(
    disk: &D,
    options: &RecoverOptions,
    state: &mut dyn Restore,
) -> Result<Recovered, Refusal> {
    let mut warnings = Vec::new();
    match finish_install(disk, options) {
        Err(refusal) if refusal.kind == RefusalKind::Damage => {
            set_aside(disk, &with_epoch(disk, options)?, state, &refusal, &mut warnings)?;
        }
        other => other?,
    }
    let mut member = Member::look(disk)?;
    if member.recovering != Recovering::No && member.initialize && member.is_blank(disk)? {
        // Somebody vouches for a directory that has never held anything.
        clear_recovering(disk)?;
        member.recovering = Recovering::No;
    }
    let lost = member.lost(disk)?;
    if lost > member.recovering {
        member.recovering = raise_recovering(disk, lost)?;
        warnings.push(format!(
            "{}, {}: missing or of no use, while this server was in use: it may have forgotten what it promised or \
             acknowledged",
            disk.describe(&accepted_epoch_path()),
            current_epoch_path().name,
        ));
    }
    if let Some(mark) = member.later_mark(disk)?
        && member.recovering < Recovering::Promise
    {
        member.recovering = raise_recovering(disk, Recovering::Promise)?;
        warnings.push(format!(
            "{}: of an earlier time than {}, which tells of epoch {}: this server may have forgotten what it promised and \
             acknowledged. Are dataDir and dataLogDir of one server and one time?",
            disk.describe(&current_epoch_path()),
            disk.describe(&mark_path()),
            mark.epoch,
        ));
    }
    for (path, what) in &member.files.bad {
        let mut aside = Aside::new(disk)?;
        aside.take(path)?;
        warnings.push(format!("{what}; kept as {}", aside.moved.join(", ")));
    }
    let options = RecoverOptions { current_epoch: member.files.effective(member.mark), ..options.clone() };
    let recovered = match member.recover(disk, &options, state) {
        Err(refusal) if refusal.kind == RefusalKind::Damage => {
            member.recovering = set_aside(disk, &options, state, &refusal, &mut warnings)?;
            state.reset();
            member.recover(disk, &options, state)?
        }
        other => other?,
    };
    if member.recovering != Recovering::No {
        warnings.push(format!(
            "this server may have forgotten what it acknowledged: it has no vote until a leader has given it everything. \
             Where there is none, `farrier repair {} --accept-loss` lets it vote with what it has",
            super::repair_what(disk, &options)
        ));
    }
    let (accepted, current) = member.epochs(recovered.last_zxid);
    let untouched = recovered.last_zxid == Zxid::ZERO && accepted.0 == 0 && current.0 == 0;
    warnings.extend(recovered.warnings);
    Ok(Recovered {
        accepted,
        current,
        recovering: member.recovering,
        fresh_without_initialize: untouched && !member.initialize && member.recovering == Recovering::No,
        warnings,
        ..recovered
    })
}

impl Member {
    fn recover<D: Disk>(
        &self,
        disk: &D,
        options: &RecoverOptions,
        state: &mut dyn Restore,
    ) -> Result<Recovered, Refusal> {
        recover_files(disk, options, state, &mut |last, step| {
            if step == EpochStep::Write {
                self.write_epochs(disk, last)?;
            }
            Ok(self.epochs(last).1.0)
        })
    }
}

/// Damage: the member counts as recovering, durably, and only then the bad files are moved aside.
fn set_aside<D: Disk>(
    disk: &D,
    options: &RecoverOptions,
    state: &mut dyn Restore,
    refusal: &Refusal,
    warnings: &mut Vec<String>,
) -> Result<Recovering, Refusal> {
    if farrier_proto::planted!(AsideBeforeRecovering) {
        state.reset();
        repair::set_aside(disk, options, state)?;
    }
    let recovering = raise_recovering(disk, Recovering::History)?;
    warnings.push(refusal.damage());
    state.reset();
    let repaired = repair::set_aside(disk, options, state)?;
    if !repaired.aside.is_empty() {
        warnings.push(format!("moved aside: {}", repaired.aside.join(", ")));
    }
    state.reset();
    Ok(recovering)
}

#[cfg(test)]
mod tests;
