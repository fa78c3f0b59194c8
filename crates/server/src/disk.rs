//! The operating system's files as [`farrier_storage::Disk`], and the lock that keeps a second server
//! out of the same directories.
//!
//! It executes positional reads and writes, syncs and renames, and decides nothing: what is written
//! when, and what a failure means, is storage's.

use farrier_storage::mark::MARK_NAME;
use farrier_storage::{Dir, DirEntry, Disk, DiskError, DiskErrorKind, DiskFile, DiskPath, DiskResult, OpenMode};
use rustix::io::Errno;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Directory below dataDir and dataLogDir that holds the files of format version 2, the only one there is.
const VERSION_DIR: &str = "version-2";

/// Name of the lock file in dataDir and dataLogDir.
const LOCK: &str = "farrier.lock";

/// Bytes of a lock file that are read to learn the holder.
const HOLDER_MAX: u64 = 64;

/// Why the directories can't be used. A server exits with code 3 then, as Apache does.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A directory is missing and must not be created.
    #[error(
        "the directory {} does not exist, and zookeeper.datadir.autocreate=false forbids to create it: \
         create it, or correct dataDir and dataLogDir in the configuration",
        path.display()
    )]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {operation} the directory {}: {error}", path.display())]
    Failed {
        /// What was tried.
        operation: &'static str,
        /// The directory.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
}

/// dataDir and dataLogDir of one server.
#[derive(Debug)]
pub struct RealDisk {
    data: PathBuf,
    data_version: PathBuf,
    log: PathBuf,
    log_version: PathBuf,
    separate: bool,
}

impl RealDisk {
    /// Checks the two directories, which may be one, and creates what is missing of them and of their
    /// `version-2`, durably, unless `autocreate` is off (`zookeeper.datadir.autocreate=false`). To be
    /// called after the ports are bound, since it writes.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn open(data_dir: &Path, data_log_dir: &Path, autocreate: bool) -> Result<Self, DirectoryError> {
        for dir in [data_log_dir, data_dir] {
            let path = &dir.join(VERSION_DIR);
            create(path, autocreate)?;
            rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
                .map_err(|e| failed("write to", path)(e.into()))?;
        }
        if autocreate && !data_log_dir.join(MARK_NAME).exists() {
            // Somebody may have made them a moment ago: `farrier init`, an operator, a start that was killed behind it.
            for dir in [data_log_dir, data_dir] {
                sync_above(&dir.join(VERSION_DIR))?;
            }
        }
        Self::open_to_read(data_dir, data_log_dir)
    }

    /// The two directories as they are, for who changes nothing there and perhaps could not.
    ///
    /// # Errors
    /// [`DirectoryError`]: `version-2` is missing in one.
    pub fn open_to_read(data_dir: &Path, data_log_dir: &Path) -> Result<Self, DirectoryError> {
        let (data_version, log_version) = (data_dir.join(VERSION_DIR), data_log_dir.join(VERSION_DIR));
        let separate = !same_file(&data_version, &log_version)?;
        Ok(Self { data: data_dir.to_owned(), data_version, log: data_log_dir.to_owned(), log_version, separate })
    }

    /// Whether logs have a directory of their own, whatever the names of the two look like.
    #[must_use]
    pub const fn is_separate(&self) -> bool {
        self.separate
    }

    fn dir(&self, dir: Dir) -> &Path {
        match dir {
            Dir::Data => &self.data,
            Dir::DataVersion => &self.data_version,
            Dir::Log => &self.log,
            Dir::LogVersion => &self.log_version,
        }
    }

    fn path(&self, path: &DiskPath) -> PathBuf {
        assert!(!path.name.is_empty() && !path.name.contains('/'), "{:?} is the name of a file", path.name);
        self.dir(path.dir).join(&path.name)
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |error| DirectoryError::Failed { operation, path, error }
}

/// Makes sure that `path` is a directory; a new one is durable with all its new parents.
fn create(path: &Path, autocreate: bool) -> Result<(), DirectoryError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => return Err(failed("use", path)(io::ErrorKind::NotADirectory.into())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed("use", path)(e)),
    }
    if !autocreate {
        return Err(DirectoryError::Missing { path: path.to_owned() });
    }
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(failed("create", path)(io::ErrorKind::NotFound.into())),
    };
    create(parent, autocreate)?;
    match std::fs::create_dir(path) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(e) => return Err(failed("create", path)(e)),
    }
    sync_directory(parent).map_err(failed("sync", parent))
}

/// Makes the name of a directory durable, with those of its parents as far as they are on its file system: what is above
/// was there when that was mounted.
fn sync_above(path: &Path) -> Result<(), DirectoryError> {
    let path = std::fs::canonicalize(path).map_err(failed("use", path))?;
    let device = |path: &Path| std::fs::metadata(path).map(|m| m.dev()).map_err(failed("use", path));
    for (below, above) in path.ancestors().zip(path.ancestors().skip(1)) {
        if device(below)? != device(above)? {
            break;
        }
        match sync_directory(above) {
            // It takes the right to read it, which nothing else here needs.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced.map_err(failed("sync", above))?,
        }
    }
    Ok(())
}

/// Makes the names in a directory durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        // Some network and user-space file systems know no sync of directories. They say so with EINVAL,
        // and have no better offer.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

fn same_file(a: &Path, b: &Path) -> Result<bool, DirectoryError> {
    let a_id = identity(&std::fs::metadata(a).map_err(failed("use", a))?);
    let b_id = identity(&std::fs::metadata(b).map_err(failed("use", b))?);
    Ok(a_id == b_id)
}

/// Two names with one identity are one file.
fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// The kinds that storage tells apart.
fn kind_of(error: &io::Error) -> DiskErrorKind {
    if let Some(Errno::MFILE | Errno::NFILE) = Errno::from_io_error(error) {
        return DiskErrorKind::TooManyFiles;
    }
    match error.kind() {
        io::ErrorKind::NotFound => DiskErrorKind::NotFound,
        io::ErrorKind::AlreadyExists => DiskErrorKind::Exists,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskErrorKind::Full,
        io::ErrorKind::ReadOnlyFilesystem => DiskErrorKind::ReadOnly,
        io::ErrorKind::PermissionDenied => DiskErrorKind::Denied,
        // io::ErrorKind can grow; nobody treats the rest differently.
        _ => DiskErrorKind::Other,
    }
}

fn disk_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    move |error| DiskError {
        operation,
        path: path.display().to_string(),
        kind: kind_of(&error),
        message: error.to_string(),
    }
}

impl Disk for RealDisk {
    type File = RealFile;

    fn list(&self, dir: Dir) -> DiskResult<Vec<DirEntry>> {
        let path = self.dir(dir);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(disk_error("list", path))? {
            let entry = entry.map_err(disk_error("list", path))?;
            // A name that is not UTF-8 is neither Apache's nor ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let file = entry.path();
            match std::fs::metadata(&file) {
                Ok(metadata) if metadata.is_file() => files.push(DirEntry { name, len: metadata.len() }),
                Ok(_) => {}
                // Gone since it was listed, or a link to nowhere.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(disk_error("examine", &file)(e)),
            }
        }
        Ok(files)
    }

    fn open(&self, path: &DiskPath, mode: OpenMode) -> DiskResult<RealFile> {
        let path = self.path(path);
        let mut options = OpenOptions::new();
        options.read(true);
        let operation = match mode {
            OpenMode::Read => "open",
            OpenMode::Write => {
                options.write(true);
                "open"
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
                "create"
            }
            OpenMode::CreateTruncate => {
                options.write(true).create(true).truncate(true);
                "create"
            }
        };
        let file = options.open(&path).map_err(disk_error(operation, &path))?;
        Ok(RealFile::new(file, path))
    }

    fn rename(&self, from: &DiskPath, to: &DiskPath) -> DiskResult<()> {
        let (from, to) = (self.path(from), self.path(to));
        std::fs::rename(&from, &to).map_err(disk_error("rename", &from))
    }

    fn remove(&self, path: &DiskPath) -> DiskResult<()> {
        let path = self.path(path);
        std::fs::remove_file(&path).map_err(disk_error("remove", &path))
    }

    fn sync_dir(&self, dir: Dir) -> DiskResult<()> {
        let path = self.dir(dir);
        sync_directory(path).map_err(disk_error("sync", path))
    }

    fn free_bytes(&self, dir: Dir) -> DiskResult<Option<u64>> {
        let path = self.dir(dir);
        let stat = rustix::fs::statvfs(path).map_err(|e| disk_error("examine", path)(e.into()))?;
        // Without those that only the superuser may take.
        Ok(stat.f_bavail.checked_mul(stat.f_frsize))
    }

    fn describe(&self, path: &DiskPath) -> String {
        self.path(path).display().to_string()
    }
}

/// An open file of a [`RealDisk`].
#[derive(Debug)]
pub struct RealFile {
    file: File,
    path: PathBuf,
    /// Bytes of a log up to here have left the page cache.
    left: AtomicU64,
    /// Bytes up to here are on their way from the disk.
    ahead: AtomicU64,
}

/// Bytes of a log that leave the page cache together, once as many were written behind them: nobody reads them but
/// learners that are far behind, and the memory goes on to what is written next.
const LEAVE: u64 = 1 << 20;

/// Bytes of a file that are fetched together ahead of who reads it.
const AHEAD: NonZeroU64 = NonZeroU64::new(8 << 20).expect("it is not zero");

/// Who has read less of a file may want nothing but its beginning, in bytes.
const AHEAD_FROM: u64 = 1 << 20;

impl RealFile {
    const fn new(file: File, path: PathBuf) -> Self {
        Self { file, path, left: AtomicU64::new(0), ahead: AtomicU64::new(0) }
    }

    /// What was written and synced long before `offset` leaves the page cache.
    fn leave_behind(&self, offset: u64) {
        let left = self.left.load(Ordering::Relaxed);
        let end = offset.saturating_sub(LEAVE) / LEAVE * LEAVE;
        if let Some(len) = end.checked_sub(left).and_then(NonZeroU64::new) {
            advise(&self.file, left, len, Advice::Leave);
            self.left.store(end, Ordering::Relaxed);
        }
    }

    /// Who has read up to `end` finds what follows: a start reads whole files that are no longer in the page cache, or are not yet.
    fn fetch_ahead(&self, end: u64) {
        let ahead = self.ahead.load(Ordering::Relaxed);
        if end >= AHEAD_FROM && end.saturating_add(AHEAD.get() / 2) > ahead {
            let from = ahead.max(end);
            advise(&self.file, from, AHEAD, Advice::Fetch);
            self.ahead.store(from.saturating_add(AHEAD.get()), Ordering::Relaxed);
        }
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> DiskResult<u64> {
        Ok(self.file.metadata().map_err(disk_error("examine", &self.path))?.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> DiskResult<usize> {
        let mut have = 0;
        while have < buf.len() {
            match self.file.read_at(&mut buf[have..], offset + have as u64) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(disk_error("read", &self.path)(e)),
            }
        }
        self.fetch_ahead(offset.saturating_add(have as u64));
        Ok(have)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> DiskResult<()> {
        self.file.write_all_at(bytes, offset).map_err(disk_error("write", &self.path))
    }

    fn write_zeros(&self, offset: u64, len: u64) -> DiskResult<()> {
        write_zeros(&self.file, offset, len).map_err(disk_error("write", &self.path))
    }

    fn write_into_zeros(&self, offset: u64, bytes: &[u8], end: u64) -> DiskResult<()> {
        write_into_zeros(&self.file, offset, bytes, end).map_err(disk_error("write", &self.path))?;
        self.leave_behind(offset);
        Ok(())
    }

    fn set_len(&self, len: u64) -> DiskResult<()> {
        self.file.set_len(len).map_err(disk_error("set the length of", &self.path))
    }

    fn sync(&self) -> DiskResult<()> {
        // fdatasync: everything that is needed to read the bytes back, a changed length included.
        self.file.sync_data().map_err(disk_error("sync", &self.path))
    }
}

/// A page of most systems' cache, and a multiple of most disks' blocks. Where it is neither, writes only take longer.
const PAGE: u64 = 4096;

/// Bytes of whole pages that are written at once.
const ZERO_PAGES_MAX: usize = 256 << 10;

/// Zeros for the rest of a page.
static ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];

/// Zeros in whole pages go past the page cache where the file system lets them: they would fill memory of which
/// nobody reads a byte, and taking and copying it costs more than writing.
fn write_zeros(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let end = offset.checked_add(len).ok_or(io::ErrorKind::FileTooLarge)?;
    let (from, to) = (offset.next_multiple_of(PAGE).min(end), end / PAGE * PAGE);
    file.write_all_at(&ZEROS[..usize::try_from(from - offset).map_err(io::Error::other)?], offset)?;
    if from < to {
        let pages = |file: &File| write_zero_pages(file, from, to);
        // Many file systems know no such writes, or only larger units, and say so in many ways. A disk that is at its end
        // says it again.
        past_the_cache(file, pages).or_else(|_| pages(file))?;
    }
    let rest = end.saturating_sub(to.max(from));
    file.write_all_at(&ZEROS[..usize::try_from(rest).map_err(io::Error::other)?], end - rest)
}

/// Zeros from one multiple of a page to another, from memory that begins at one.
fn write_zero_pages(file: &File, from: u64, to: u64) -> io::Result<()> {
    static MEMORY: LazyLock<Vec<u8>> = LazyLock::new(|| vec![0; ZERO_PAGES_MAX + ZEROS.len()]);
    let aligned = MEMORY.as_ptr().align_offset(ZEROS.len());
    let mut at = from;
    while at < to {
        let n = usize::try_from(to - at).unwrap_or(ZERO_PAGES_MAX).min(ZERO_PAGES_MAX);
        file.write_all_at(&MEMORY[aligned..aligned + n], at)?;
        at += n as u64;
    }
    Ok(())
}

/// Lets `write` write to the disk from its own memory, which has to stand in whole pages.
#[cfg(target_os = "linux")]
fn past_the_cache(file: &File, write: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let flags = fcntl_getfl(file)?;
    fcntl_setfl(file, flags | OFlags::DIRECT)?;
    let written = write(file);
    fcntl_setfl(file, flags)?;
    written
}

/// What the page cache is told of a part of a file.
#[derive(Clone, Copy, Debug)]
enum Advice {
    /// Nobody needs it soon.
    Leave,
    /// Somebody does.
    Fetch,
}

/// Only advice: where it is not followed, there is less free memory, or reading takes longer.
#[cfg(target_os = "linux")]
fn advise(file: &File, offset: u64, len: NonZeroU64, advice: Advice) {
    let advice = match advice {
        Advice::Leave => rustix::fs::Advice::DontNeed,
        Advice::Fetch => rustix::fs::Advice::WillNeed,
    };
    let _ = rustix::fs::fadvise(file, offset, Some(len), advice);
}

/// Elsewhere the system decides alone.
#[cfg(not(target_os = "linux"))]
const fn advise(_: &File, _: u64, _: NonZeroU64, _: Advice) {}

/// Elsewhere a write is a write.
#[cfg(not(target_os = "linux"))]
fn past_the_cache(file: &File, write: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    write(file)
}

/// Writes up to the end of a page, if zeros stand up to there: a part of a page that is not in the cache would be
/// read from the disk first.
fn write_into_zeros(file: &File, offset: u64, bytes: &[u8], end: u64) -> io::Result<()> {
    let at = offset.checked_add(bytes.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
    let rest = at.next_multiple_of(PAGE).min(end).saturating_sub(at);
    let pieces =
        [io::IoSlice::new(bytes), io::IoSlice::new(&ZEROS[..usize::try_from(rest).map_err(io::Error::other)?])];
    let written = match rustix::io::pwritev(file, &pieces, offset) {
        Err(Errno::INTR) => 0,
        other => other?,
    };
    // Mostly nothing; the zeros are there already.
    let left = bytes.get(written..).unwrap_or_default();
    file.write_all_at(left, at - left.len() as u64)
}

/// Why the directories can't be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds the lock.
    #[error(
        "the directory {} is in use by another server{}: stop that server, or give this one a dataDir and \
         dataLogDir of its own",
        dir.display(),
        holder.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    Held {
        /// The directory.
        dir: PathBuf,
        /// The other process, if it could be learnt.
        holder: Option<u32>,
    },
    /// The operating system refused.
    #[error(
        "cannot {operation} {}: {error}; a server needs a file system on which it can lock this file",
        path.display()
    )]
    Failed {
        /// What was tried.
        operation: &'static str,
        /// The lock file.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
}

/// The locks on `farrier.lock` in dataDir and dataLogDir, held until it is dropped or the process ends,
/// however it ends. That the files exist means nothing, and neither does what is in them.
#[derive(Debug, Default)]
pub struct DirectoryLock {
    files: Vec<(File, (u64, u64))>,
}

impl DirectoryLock {
    /// Locks both directories, which must exist and may be one.
    ///
    /// # Errors
    /// [`LockError`]; nothing is locked then.
    pub fn acquire(data_dir: &Path, data_log_dir: &Path) -> Result<Self, LockError> {
        Self::default().complete(data_dir, data_log_dir)
    }

    /// Takes only the locks whose files are there, creates nothing, and writes nothing but this process's number into them,
    /// so that whoever else runs on these directories is found before the ports are. [`Self::complete`] takes the rest.
    ///
    /// # Errors
    /// [`LockError::Held`]; nothing is locked then.
    pub fn existing(data_dir: &Path, data_log_dir: &Path) -> Result<Self, LockError> {
        let mut lock = Self::default();
        for dir in [data_dir, data_log_dir] {
            match lock.take(dir, false) {
                Err(held @ LockError::Held { .. }) => return Err(held),
                // Mostly there is no such file; what else it may be, `complete` meets again.
                Ok(()) | Err(LockError::Failed { .. }) => {}
            }
        }
        Ok(lock)
    }

    /// For who changes nothing there: keeps servers off as far as the lock files are there and can be read. Creates and
    /// writes nothing, so that it works on a disk that takes nothing any more.
    ///
    /// # Errors
    /// [`LockError::Held`]: a server runs there.
    pub fn to_read(data_dir: &Path, data_log_dir: &Path) -> Result<Self, LockError> {
        let mut lock = Self::default();
        for dir in [data_dir, data_log_dir] {
            // Where there is none, no server of ours has ever run, and where it can't be read nothing can be told.
            let Ok(mut file) = File::open(dir.join(LOCK)) else { continue };
            match file.try_lock_shared() {
                Ok(()) => {
                    let id = identity(&file.metadata().map_err(|error| LockError::Failed {
                        operation: "examine",
                        path: dir.join(LOCK),
                        error,
                    })?);
                    lock.files.push((file, id));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Held { dir: dir.to_owned(), holder: holder(&mut file) });
                }
                // A file system without locks: nothing can be told either.
                Err(TryLockError::Error(_)) => {}
            }
        }
        Ok(lock)
    }

    /// Locks what is not locked yet of both directories, which must exist and may be one.
    ///
    /// # Errors
    /// [`LockError`]; nothing is locked then.
    pub fn complete(mut self, data_dir: &Path, data_log_dir: &Path) -> Result<Self, LockError> {
        for dir in [data_dir, data_log_dir] {
            self.take(dir, true)?;
        }
        Ok(self)
    }

    fn take(&mut self, dir: &Path, create: bool) -> Result<(), LockError> {
        let path = dir.join(LOCK);
        let refused = |operation, error| LockError::Failed { operation, path: path.clone(), error };
        // Not truncated: until it is locked, it may be somebody else's.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .open(&path)
            .map_err(|e| refused("open", e))?;
        let id = identity(&file.metadata().map_err(|e| refused("examine", e))?);
        if self.files.iter().any(|(_, locked)| *locked == id) {
            return Ok(());
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held { dir: dir.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(e)) => return Err(refused("lock", e)),
        }
        // For the message above, in the process that comes second. A full disk does not matter.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        self.files.push((file, id));
        Ok(())
    }
}

/// The process that a lock file names, if it runs: whoever only reads leaves the name of an earlier one there.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(HOLDER_MAX).read_to_string(&mut text).ok()?;
    let holder: u32 = text.trim().parse().ok()?;
    let pid = rustix::process::Pid::from_raw(holder.try_into().ok()?)?;
    let is_gone = rustix::process::test_kill_process(pid) == Err(Errno::SRCH);
    (!is_gone).then_some(holder)
}

#[cfg(test)]
mod tests;
