//! From the files of a directory to what a replica begins with.

use crate::restore::TreeRestore;
use farrier_storage::{
    Disk, DiskError, RecoverOptions, Recovered, Refusal, SnapshotOptions, recover, remove_initialize, write_snapshot,
};
use farrier_tree::TreeConfig;
use farrier_zab::{Durable, Recovering};
use std::sync::Arc;

/// Why a server can't begin with what is on disk.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFailed {
    /// The files can't be taken up as they are.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Brings what is on disk into a state, all of it durable, with a first snapshot behind it where there was none.
///
/// # Errors
/// See [`RestoreFailed`]. Nothing was acknowledged.
pub fn restore<D: Disk>(
    disk: &Arc<D>,
    options: &RecoverOptions,
    snapshots: &SnapshotOptions,
    tree: TreeConfig,
    hash_seed: u64,
) -> Result<(TreeRestore, Recovered), RestoreFailed> {
    let mut state = TreeRestore::new(tree, hash_seed);
    let recovered = recover(disk, options, &mut state)?;
    complete(&**disk, snapshots, &recovered, &mut state)?;
    Ok((state, recovered))
}

/// What [`restore`] does behind a recovery, for a shell that fills the state in its own way: puts a first snapshot
/// behind the state where there was none.
///
/// # Errors
/// The first failed operation of the disk. Nothing was acknowledged.
pub fn complete<D: Disk>(
    disk: &D,
    snapshots: &SnapshotOptions,
    recovered: &Recovered,
    state: &mut TreeRestore,
) -> Result<(), DiskError> {
    if recovered.needs_snapshot() {
        write_snapshot(disk, &state.image(), snapshots)?;
        remove_initialize(disk)?;
    }
    Ok(())
}

/// What recovery left behind, as a member of an ensemble starts from it.
#[must_use]
pub const fn durable(recovered: &Recovered) -> Durable {
    Durable {
        accepted: recovered.accepted,
        current: recovered.current,
        last_logged: recovered.last_zxid,
        recovering: match recovered.recovering {
            // `db.autocreate=false`: an empty directory is not an empty state.
            farrier_storage::Recovering::No if recovered.voteless => Recovering::Promise,
            farrier_storage::Recovering::No if recovered.fresh_without_initialize => Recovering::Fresh,
            farrier_storage::Recovering::No => Recovering::No,
            farrier_storage::Recovering::History => Recovering::History,
            farrier_storage::Recovering::Promise => Recovering::Promise,
        },
    }
}
