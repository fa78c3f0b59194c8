//! Durable state in Apache ZooKeeper's formats: transaction log, snapshots, epoch files; and beside
//! them Farrier's own mark, which tells a torn tail from damage.
//!
//! This crate owns what happens on disk and in which order: batching, recovery, truncation, purge and
//! repair. It acts on a byte-level [`Disk`] and knows neither the operating system nor the tree: a tree
//! is loaded through [`Restore`] and written through [`Image`].
//!
//! What is durable when, and how a torn tail is told from damage: ARCHITECTURE.md, "Disk".

#![expect(clippy::len_without_is_empty, reason = "a file's length is asked of a disk and can fail")]

mod aside;
pub mod compress;
pub mod difference;
pub mod disk;
pub mod epochs;
pub mod log;
pub mod mark;
pub mod mem;
mod own;
pub mod pending;
pub mod purge;
pub mod record;
pub mod recover;
pub mod recovering;
pub mod repair;
pub mod segment;
pub mod snapshot;
pub mod state;
#[cfg(test)]
mod testing;
pub mod verify;

pub use compress::Compression;
pub use difference::{Location, LogCursor, locate, read_txns};
pub use disk::{Dir, DirEntry, Disk, DiskError, DiskErrorKind, DiskFile, DiskPath, DiskResult, OpenMode};
pub use epochs::{
    NumberError, read_accepted_epoch, read_current_epoch, read_myid, write_accepted_epoch, write_current_epoch,
};
pub use log::{Committed, LogOptions, LogWriter, prepare_segment};
pub use mark::Mark;
pub use pending::{Pending, read_pending};
pub use purge::{HeldBack, PurgePolicy, Purged, purge};
pub use recover::{RecoverOptions, Recovered, Refusal, RefusalKind, recover, reload, remove_initialize};
pub use recovering::{Recovering, raise_recovering, read_recovering};
pub use snapshot::{
    Progress, SnapshotError, SnapshotFile, SnapshotOptions, SnapshotRead, SnapshotWritten, StreamReader, is_plausible,
    list_snapshots, measure_snapshot, read_snapshot, read_snapshot_bounded, read_snapshot_named, remove_temporaries,
    verify_snapshot, write_snapshot, write_snapshot_paced, write_stream,
};
pub use state::{Image, LoggedTxn, NodeRecord, Restore, RestoreError, SnapshotDigest};
pub use verify::{Finding, LogVerifier, Severity, VerifiedLog};
