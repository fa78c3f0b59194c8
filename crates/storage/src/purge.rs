//! Removal of old snapshots and logs.
//!
//! The newest snapshots that read back whole are kept, with every log that replay from the oldest of
//! them needs; what is older goes. If there are too few, nothing goes: a damaged snapshot never counts,
//! and by default neither does one that somebody else wrote, so that a takeover leaves Apache's files
//! alone until there are enough own ones. Names that no server writes are never removed.

use crate::disk::{Dir, Disk, DiskError, DiskFile, DiskPath, DiskResult, OpenMode};
use crate::own;
use crate::segment::parse_log_name;
use crate::snapshot::{SnapshotFile, list_snapshots, name_to_be, verify_snapshot};
use farrier_proto::Zxid;
use farrier_proto::limits::TXN_MAX;
use std::fmt;

/// Least number of snapshots that are kept, as in Apache.
pub const RETAIN_MIN: usize = 3;

/// What to keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PurgePolicy {
    /// Valid snapshots to keep (`autopurge.snapRetainCount`); fewer than [`RETAIN_MIN`] counts as that.
    pub retain: usize,
    /// How many of the snapshots kept must have been written by Farrier. More than `retain` keeps more.
    /// `None` when the operator asked for purging in so many words.
    pub require_own: Option<usize>,
    /// Bound of a path, a znode's data and an ACL list when snapshots are read back, in bytes.
    pub field_max: usize,
}

impl Default for PurgePolicy {
    /// The policy when the configuration is silent.
    fn default() -> Self {
        Self { retain: RETAIN_MIN, require_own: Some(RETAIN_MIN), field_max: TXN_MAX }
    }
}

/// Why nothing was removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeldBack {
    /// Too few snapshots read back whole.
    FewValid {
        /// How many did.
        valid: usize,
        /// How many must.
        needed: usize,
    },
    /// Too many of the newest snapshots were written by somebody else.
    FewOwn {
        /// How many are own.
        own: usize,
        /// How many must be.
        needed: usize,
    },
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FewValid { valid, needed } => {
                write!(f, "{valid} snapshots read back whole, {needed} must before older files are removed")
            }
            Self::FewOwn { own, needed } => write!(
                f,
                "{own} of the newest snapshots were written by Farrier, {needed} must be before older files are removed"
            ),
        }
    }
}

/// What a purge did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Purged {
    /// Files removed, in order, as the operator knows them: one line of the server's log each.
    pub removed: Vec<String>,
    /// Snapshots kept, newest first.
    pub kept: Vec<String>,
    /// Snapshots that did not read back, each with the reason: a warning each.
    pub invalid: Vec<String>,
    /// Set if nothing was removed because too little would have been left.
    pub held_back: Option<HeldBack>,
    /// Set if the sync of what is kept, a removal, or the sync after it failed; the purge stopped there.
    pub failed: Option<DiskError>,
}

/// Removes what `policy` does not keep. Reads the kept snapshots whole; only while no snapshot is being
/// written or installed.
///
/// # Errors
/// The directories, or the list of own snapshots, can't be read; nothing was removed.
pub fn purge<D: Disk>(disk: &D, policy: &PurgePolicy) -> DiskResult<Purged> {
    let snapshots = list_snapshots(disk)?;
    let logs = disk.list(Dir::LogVersion)?;
    let own = own::read(disk)?;
    let needed = policy.retain.max(RETAIN_MIN).max(policy.require_own.unwrap_or(0));

    let mut result = Purged::default();
    let mut kept = Vec::new();
    let mut oldest = None;
    let mut own_kept = 0;
    for file in snapshots.iter().filter(|f| f.regular) {
        if result.kept.len() == needed {
            break;
        }
        if oldest == Some(file.zxid) {
            // The same state in another compression is no second way back.
            continue;
        }
        match verify_snapshot(disk, &file.path, policy.field_max) {
            Ok(read) => {
                oldest = Some(file.zxid);
                own_kept += usize::from(
                    own.iter().any(|o| o.name == file.path.name && o.len == file.len && o.seal == read.seal),
                );
                result.kept.push(disk.describe(&file.path));
                kept.push(&file.path);
            }
            Err(error) => result.invalid.push(error.to_string()),
        }
    }
    let valid = result.kept.len();
    let own_needed = policy.require_own.unwrap_or(0);
    match oldest {
        Some(oldest) if valid == needed && own_kept >= own_needed => {
            remove_older(disk, (oldest, &kept), &snapshots, logs.into_iter().map(|l| l.name), &mut result);
        }
        _ if valid < needed => result.held_back = Some(HeldBack::FewValid { valid, needed }),
        _ => result.held_back = Some(HeldBack::FewOwn { own: own_kept, needed: own_needed }),
    }
    Ok(result)
}

/// The names below, oldest first: snapshots before logs, so that a crash half-way never leaves a
/// snapshot without the log behind it. What is kept is synced before, since Apache does not do that.
fn remove_older<D: Disk>(
    disk: &D,
    (oldest, kept): (Zxid, &[&DiskPath]),
    snapshots: &[SnapshotFile],
    logs: impl Iterator<Item = String>,
    result: &mut Purged,
) {
    let snapshots: Vec<_> = snapshots
        .iter()
        .rev()
        .filter(|f| f.zxid < oldest && (f.regular || name_to_be(f).is_some()))
        .map(|f| f.path.clone())
        .collect();
    let mut logs: Vec<(Zxid, String)> = logs
        .filter_map(|name| {
            let zxid = parse_log_name(&name)?;
            Some((zxid, name))
        })
        .collect();
    logs.sort();
    // The newest log that starts at or below the oldest snapshot holds what follows the snapshot.
    let below = logs.partition_point(|(zxid, _)| *zxid <= oldest);
    logs.truncate(below.saturating_sub(1));
    let logs: Vec<_> = logs.into_iter().map(|(_, name)| DiskPath::new(Dir::LogVersion, name)).collect();

    let nothing = snapshots.is_empty() && logs.is_empty();
    let mut synced = kept.iter().filter(|_| !nothing).map(|path| disk.open(path, OpenMode::Read)?.sync());
    if let Err(error) = synced.try_for_each(|synced| synced) {
        result.failed = Some(error);
        return;
    }
    for (dir, files) in [(Dir::DataVersion, snapshots), (Dir::LogVersion, logs)] {
        if let Err(error) = remove_all(disk, dir, files, &mut result.removed) {
            result.failed = Some(error);
            return;
        }
    }
}

fn remove_all<D: Disk>(disk: &D, dir: Dir, files: Vec<DiskPath>, removed: &mut Vec<String>) -> DiskResult<()> {
    if files.is_empty() {
        return Ok(());
    }
    for file in files {
        disk.remove(&file)?;
        removed.push(disk.describe(&file));
        // One at a time: removals that are not synced may survive in any combination, and a log without its middle looks
        // whole where an epoch ends.
        if !farrier_proto::planted!(PurgeNotSynced) {
            disk.sync_dir(dir)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
