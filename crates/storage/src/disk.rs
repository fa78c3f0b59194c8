//! The byte-level disk under everything in this crate: named files in four directories, positional
//! reads and writes, syncs, renames. The shell implements it over the operating system, the simulator
//! over memory with faults.
//!
//! The contract is POSIX's, no stronger: a write is durable only after a later [`DiskFile::sync`] of the
//! same file returned; a create, rename or removal only after a later [`Disk::sync_dir`]; a file's first
//! sync does not make its name durable. After a failed sync the state of the unsynced bytes is unknown,
//! and nobody may try again on the same file (safety contract 1.4).

use std::fmt;

/// Where a file lives. Two directories may be one and the same; names never collide between the plain
/// ones and their `version-2`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Dir {
    /// `dataDir`: `myid`, `initialize`, `farrier.lock`.
    Data,
    /// `dataDir/version-2`: snapshots and epoch files.
    DataVersion,
    /// `dataLogDir`: `farrier.mark`, `farrier.lock`, `initialize`.
    Log,
    /// `dataLogDir/version-2`: log segments.
    LogVersion,
}

/// A file by directory and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DiskPath {
    /// Directory.
    pub dir: Dir,
    /// Name within it; no separators.
    pub name: String,
}

impl DiskPath {
    /// The file `name` in `dir`.
    #[must_use]
    pub fn new(dir: Dir, name: impl Into<String>) -> Self {
        Self { dir, name: name.into() }
    }
}

/// One file of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// Name.
    pub name: String,
    /// Bytes.
    pub len: u64,
}

/// Zeros that [`DiskFile::write_zeros`] writes at once where a disk has no better way.
pub(crate) const ZEROS_CHUNK: usize = 1 << 20;

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing in place.
    Write,
    /// A new file, for reading and writing; fails if the name exists.
    CreateNew,
    /// A file for reading and writing that is empty afterwards, whether it existed or not.
    CreateTruncate,
}

/// What kind of failure it was, as far as anybody treats kinds differently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskErrorKind {
    /// No such file or directory.
    NotFound,
    /// The name exists.
    Exists,
    /// No space, or over quota.
    Full,
    /// A read-only file system.
    ReadOnly,
    /// No permission.
    Denied,
    /// The process or the system has as many files open as it may.
    TooManyFiles,
    /// Everything else, input/output errors first.
    Other,
}

/// A failed operation, told for a person: what was tried, on which file, what the system said.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("cannot {operation} {path}: {message}")]
pub struct DiskError {
    /// "write", "sync", "rename", and so on.
    pub operation: &'static str,
    /// The file as the operator knows it.
    pub path: String,
    /// Kind.
    pub kind: DiskErrorKind,
    /// The system's words.
    pub message: String,
}

/// Result of a disk operation.
pub type DiskResult<T> = Result<T, DiskError>;

/// A directory as the operator knows it.
pub(crate) fn dir_name<D: Disk>(disk: &D, dir: Dir) -> String {
    let file = disk.describe(&DiskPath::new(dir, "x"));
    file.strip_suffix("/x").unwrap_or(&file).to_owned()
}

/// The disk. Operations block; the shell calls from threads of their own, never while it holds the
/// replica.
pub trait Disk: Send + Sync + fmt::Debug + 'static {
    /// An open file.
    type File: DiskFile;

    /// The plain files of a directory, in no order.
    fn list(&self, dir: Dir) -> DiskResult<Vec<DirEntry>>;
    /// Opens a file.
    fn open(&self, path: &DiskPath, mode: OpenMode) -> DiskResult<Self::File>;
    /// Renames a file, replacing `to` if it exists.
    fn rename(&self, from: &DiskPath, to: &DiskPath) -> DiskResult<()>;
    /// Removes a file.
    fn remove(&self, path: &DiskPath) -> DiskResult<()>;
    /// Makes creates, renames and removals in a directory durable.
    fn sync_dir(&self, dir: Dir) -> DiskResult<()>;
    /// Bytes that may still be written to files in a directory; `None` where the system can't tell.
    fn free_bytes(&self, dir: Dir) -> DiskResult<Option<u64>>;
    /// The file as the operator knows it, for messages.
    fn describe(&self, path: &DiskPath) -> String;
}

/// An open file.
pub trait DiskFile: Send + fmt::Debug + 'static {
    /// Bytes in the file.
    fn len(&self) -> DiskResult<u64>;
    /// Reads at `offset` until `buf` is full or the file ends; returns the bytes read.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> DiskResult<usize>;
    /// Writes all of `bytes` at `offset`, growing the file as needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> DiskResult<()>;
    /// Writes `len` zeros at `offset`, growing the file as needed. Many of them: their memory is the disk's own affair.
    fn write_zeros(&self, offset: u64, len: u64) -> DiskResult<()> {
        let zeros = vec![0; usize::try_from(len).unwrap_or(ZEROS_CHUNK).min(ZEROS_CHUNK)];
        let end = offset.saturating_add(len);
        let mut at = offset;
        while at < end {
            let n = usize::try_from(end - at).unwrap_or(ZEROS_CHUNK).min(zeros.len());
            self.write_at(at, &zeros[..n])?;
            at += n as u64;
        }
        Ok(())
    }
    /// [`Self::write_at`] where everything behind `bytes` is zeros up to `end`, which lies within the file: some of
    /// these may be written again. A disk that knows its blocks need not read what it writes whole.
    fn write_into_zeros(&self, offset: u64, bytes: &[u8], end: u64) -> DiskResult<()> {
        let _ = end;
        self.write_at(offset, bytes)
    }
    /// Cuts or grows the file to `len` bytes; new bytes read as zeros.
    fn set_len(&self, len: u64) -> DiskResult<()>;
    /// Makes the file's bytes and length durable.
    fn sync(&self) -> DiskResult<()>;
}
