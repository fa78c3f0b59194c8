//! Which snapshot a start loads.

use super::{RecoverOptions, Refusal, RefusalKind};
use crate::disk::{Disk, DiskError, DiskErrorKind, DiskPath, DiskResult};
use crate::snapshot::{
    SnapshotError, SnapshotFile, SnapshotRead, is_plausible, list_snapshots, measure_snapshot, read_snapshot_bounded,
};
use crate::state::Restore;

/// Snapshots that are tried before giving up, as in Apache.
const CANDIDATES_MAX: usize = 100;

/// What it means that the disk does not give what stands in a snapshot or a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unreadable {
    /// The next attempt may succeed, so nothing is decided.
    IsRefused,
    /// Somebody who knows that it stays so wants to go on without the file.
    IsDamage,
}

impl Unreadable {
    pub(crate) fn is_damage(self, error: &DiskError) -> bool {
        self == Self::IsDamage && error.kind == DiskErrorKind::Other
    }

    /// What was read; `None` if it cannot be, and that is damage.
    pub(crate) fn tolerate<T>(self, read: DiskResult<T>) -> DiskResult<Option<T>> {
        match read {
            Err(e) if self.is_damage(&e) => Ok(None),
            other => other.map(Some),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) snapshot: Option<SnapshotFile>,
    /// What was read from it.
    pub(crate) read: Option<SnapshotRead>,
    /// Newer ones that could not be loaded.
    pub(crate) rejected: Vec<SnapshotFile>,
    /// How many were tried and why the newest of them failed.
    pub(crate) reason: Option<(usize, String)>,
    /// Of the rejected ones those that could not be read, and what the disk says.
    pub(crate) unreadable: Vec<(SnapshotFile, DiskError)>,
}

/// Loads the newest snapshot that is whole. Files with other names than a server gives come last.
pub(crate) fn load_snapshot<D: Disk>(
    disk: &D,
    options: &RecoverOptions,
    unreadable: Unreadable,
    state: &mut dyn Restore,
    warnings: &mut Vec<String>,
) -> Result<Loaded, Refusal> {
    let mut loaded = Loaded::default();
    let (regular, odd): (Vec<_>, Vec<_>) = list_snapshots(disk)?.into_iter().partition(|s| s.regular);
    let mut candidates = 0;
    let mut reason = None;
    for snapshot in regular.into_iter().chain(odd) {
        let failed = match is_plausible(disk, &snapshot) {
            Ok(false) => {
                warnings.push(format!("{}: not a whole snapshot; it is passed over", disk.describe(&snapshot.path)));
                loaded.rejected.push(snapshot);
                continue;
            }
            Ok(true) | Err(_) if candidates == CANDIDATES_MAX => break,
            Ok(true) => {
                candidates += 1;
                match read_snapshot_bounded(disk, &snapshot.path, options.txn_max, state) {
                    Ok(read) => {
                        loaded.snapshot = Some(snapshot);
                        loaded.read = Some(read);
                        return Ok(loaded);
                    }
                    Err(e) => refuse_whole(disk, &snapshot.path, e)?,
                }
            }
            Err(e) => {
                candidates += 1;
                SnapshotError::Disk(e)
            }
        };
        if let SnapshotError::Disk(e) = &failed {
            if !unreadable.is_damage(e) {
                return Err(Refusal::disk(e));
            }
            loaded.unreadable.push((snapshot.clone(), e.clone()));
        }
        state.reset();
        warnings.push(format!("{failed}; it is passed over"));
        reason.get_or_insert_with(|| failed.to_string());
        loaded.rejected.push(snapshot);
    }
    loaded.reason = reason.map(|reason| (candidates, reason));
    Ok(loaded)
}

/// A snapshot that is whole and does not fit the configuration is no damage: with another setting it loads,
/// and to go on without it would lose data. Hands back why a snapshot that is not whole is not, or cannot be read.
fn refuse_whole<D: Disk>(disk: &D, path: &DiskPath, error: SnapshotError) -> Result<SnapshotError, Refusal> {
    let (offset, found) = match &error {
        SnapshotError::Disk(_) | SnapshotError::Damaged { .. } => return Ok(error),
        SnapshotError::Limit { offset, len, max, .. } => {
            (*offset, format!("a field of {len} bytes, more than the {max} in force, in a snapshot that is whole"))
        }
        SnapshotError::Refused { offset, reason, .. } => (*offset, format!("{reason}, in a snapshot that is whole")),
    };
    let remedy = match measure_snapshot(disk, path) {
        Err(damaged) => return Ok(damaged),
        Ok(read) if matches!(error, SnapshotError::Limit { .. }) => {
            format!("Nothing was changed. Set jute.maxbuffer to at least {}", read.widest)
        }
        Ok(_) => "Nothing was changed. Start with the settings under which it was written, \
                  zookeeper.extendedTypesEnabled first"
            .to_owned(),
    };
    Err(Refusal {
        kind: RefusalKind::Setup,
        file: Some(disk.describe(path)),
        offset: Some(offset),
        found,
        expected: "a configuration that admits it".to_owned(),
        remedy,
    })
}
