//! Durable state in Apache ZooKeeper's formats: transaction log, snapshots, epoch files; and beside
//! them Farrier's own mark, which tells a torn tail from damage.
//!
//! This crate owns what happens on disk and in which order: batching, recovery, truncation, purge and
//! repair. It acts on a byte-level [`Disk`] and knows neither the operating system nor the tree: a tree
//! is loaded through [`Restore`] and written through [`Image`].
//!
//! Formats: `docs/disk.md`; rules: `docs/safety.md`.

pub mod disk;
pub mod state;

pub use disk::{Dir, DirEntry, Disk, DiskError, DiskErrorKind, DiskFile, DiskPath, DiskResult, OpenMode};
pub use state::{Image, NodeRecord, Restore, RestoreError, SnapshotDigest};
