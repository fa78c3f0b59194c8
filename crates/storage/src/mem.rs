//! A disk in memory that forgets like a real one, for tests and the simulator.
//!
//! Every file and directory has two states: what everybody sees, and what the medium holds. A write, a
//! length or a name becomes durable by a sync, as [`crate::disk`] says and not a bit sooner. A *process*
//! crash keeps what everybody sees, still volatile; a *power* crash keeps of the unsynced operations
//! what a [`Chooser`] picks, sector by sector and in any combination. A failed sync leaves pages that
//! look written, and that no later sync writes.
//!
//! Every operation that changes something is counted, and recorded unless that was switched off; failures and
//! crashes are planned by that count.

mod file;

pub use file::MemFile;

use crate::disk::{Dir, DirEntry, Disk, DiskError, DiskErrorKind, DiskPath, DiskResult, OpenMode};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

/// Unit in which a power crash keeps or loses a write, in bytes, unless [`MemDisk::set_sector`] says otherwise.
pub const SECTOR: usize = 512;

/// Decides what a crash keeps: called with a number of possibilities, answers one below it.
pub type Chooser<'a> = dyn FnMut(usize) -> usize + 'a;

/// What dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// The process: unsynced pages survive, still volatile.
    Process,
    /// The machine: unsynced operations go, in part, in any combination.
    Power,
}

/// What power crashes took.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Lost {
    /// Writes of which nothing is left.
    pub writes: u64,
    /// Writes of which some sectors are left and others are not.
    pub torn: u64,
    /// Writes of which something is left although an earlier one to the same file is gone.
    pub reordered: u64,
    /// Creates, renames and removals that have not happened.
    pub names: u64,
}

/// An operation that is to fail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FailOn {
    /// A write to a file.
    Write,
    /// A sync of a file.
    Sync,
}

/// A recorded operation. `file` numbers files by creation and stays the same when one is renamed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// A file came to be under a name.
    Create {
        /// Its number.
        file: usize,
        /// Its name.
        path: DiskPath,
    },
    /// Bytes were written.
    Write {
        /// The file.
        file: usize,
        /// Where.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A length was set.
    SetLen {
        /// The file.
        file: usize,
        /// The length.
        len: u64,
    },
    /// A file was synced; only successful syncs are recorded.
    Sync {
        /// The file.
        file: usize,
    },
    /// A file got another name.
    Rename {
        /// The file.
        file: usize,
        /// Old name.
        from: DiskPath,
        /// New name.
        to: DiskPath,
    },
    /// A name went.
    Remove {
        /// The name.
        path: DiskPath,
    },
    /// A directory was synced.
    SyncDir {
        /// Which.
        dir: Dir,
    },
    /// Something that the test wants to see in its place, such as an acknowledgement; no operation.
    Note(u64),
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Len(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
            Self::Len(len) => content.resize(*len, 0),
        }
    }
}

#[derive(Clone, Default)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// A sync failed: pages may look written that no later sync writes.
    doubtful: bool,
    /// Bytes that no read gives.
    unreadable: Option<Range<usize>>,
    /// Reads that failed because of them.
    refused: u64,
}

impl Inode {
    /// Whether the medium holds all that is seen. What it lacks of zeros at the end is no content.
    fn is_synced(&self) -> bool {
        let trimmed = |content: &[u8]| content.len() - content.iter().rev().take_while(|b| **b == 0).count();
        let same = || self.seen[..trimmed(&self.seen)] == self.durable[..trimmed(&self.durable)];
        (self.unsynced.is_empty() && !self.doubtful) || same()
    }
}

/// A change of names: all of it or nothing.
#[derive(Clone, Debug)]
struct Renaming {
    dir: Dir,
    /// Name and the file that it stands for afterwards.
    sets: Vec<(DiskPath, Option<usize>)>,
}

#[derive(Clone, Default)]
struct State {
    inodes: Vec<Inode>,
    seen: BTreeMap<DiskPath, usize>,
    durable: BTreeMap<DiskPath, usize>,
    unsynced: Vec<Renaming>,
    ops: Vec<Op>,
    /// Nobody wants `ops`.
    unrecorded: bool,
    count: u64,
    fail_on: Option<(FailOn, DiskErrorKind)>,
    /// How often that happened.
    failed: BTreeMap<FailOn, u64>,
    /// No file grows and none comes to be.
    full: bool,
    lost: Lost,
    /// 0 for [`SECTOR`].
    sector: usize,
    fail_at: Option<(u64, DiskErrorKind)>,
    fail_from: Option<(u64, DiskErrorKind)>,
    crash_after: Option<u64>,
    /// How many bytes of the write during which it happens get through.
    torn: usize,
    copy_after: Option<u64>,
    copy: Option<Box<Self>>,
    crashed: bool,
    /// What [`Disk::free_bytes`] counts down from.
    capacity: Option<u64>,
    /// Handles opened before a restart are of a dead process.
    life: u64,
}

/// The disk. Clones are the same disk.
#[derive(Clone)]
pub struct MemDisk {
    separate: bool,
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for MemDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemDisk").field("files", &self.lock().seen.len()).finish_non_exhaustive()
    }
}

impl Default for MemDisk {
    fn default() -> Self {
        Self::new(false)
    }
}

impl MemDisk {
    /// An empty disk. `separate`: whether the log has directories of its own.
    #[must_use]
    pub fn new(separate: bool) -> Self {
        Self { separate, state: Arc::default() }
    }

    /// A disk of its own with the same content, history and plans.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { separate: self.separate, state: Arc::new(Mutex::new(self.lock().clone())) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding the lock")
    }

    /// Directories that are one and the same get one name.
    fn path(&self, path: &DiskPath) -> DiskPath {
        DiskPath::new(self.dir(path.dir), path.name.clone())
    }

    const fn dir(&self, dir: Dir) -> Dir {
        match dir {
            Dir::Log if !self.separate => Dir::Data,
            Dir::LogVersion if !self.separate => Dir::DataVersion,
            other => other,
        }
    }

    /// Operations are counted and no longer recorded.
    pub fn stop_recording(&self) {
        let mut state = self.lock();
        state.unrecorded = true;
        state.ops = Vec::new();
    }

    /// From now on [`Disk::free_bytes`] answers what all files together leave of `bytes`. Writes do not fail
    /// for it.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = Some(bytes);
    }

    /// Changing operations so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.lock().count
    }

    /// The `n`-th changing operation from now on (1 is the next) fails once.
    pub fn fail_nth(&self, n: u64, kind: DiskErrorKind) {
        let mut state = self.lock();
        state.fail_at = Some((state.count + n, kind));
    }

    /// The `n`-th changing operation from now on and all after it fail, until [`Self::heal`].
    pub fn fail_from(&self, n: u64, kind: DiskErrorKind) {
        let mut state = self.lock();
        state.fail_from = Some((state.count + n, kind));
    }

    /// The next operation of this kind fails, once.
    pub fn fail_on(&self, operation: FailOn, kind: DiskErrorKind) {
        self.lock().fail_on = Some((operation, kind));
    }

    /// How many operations of this kind failed because of [`Self::fail_on`].
    #[must_use]
    pub fn failed(&self, operation: FailOn) -> u64 {
        self.lock().failed.get(&operation).copied().unwrap_or_default()
    }

    /// Power crashes keep or lose writes in units of so many bytes; at least 1.
    pub fn set_sector(&self, bytes: usize) {
        assert!(bytes > 0, "a sector has bytes");
        self.lock().sector = bytes;
    }

    /// While it is full, no file grows and none comes to be; a restart does not change that.
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// No more planned failures or crashes.
    pub fn heal(&self) {
        self.lock().unplan();
    }

    /// The process dies after `n` more changing operations: whatever it tries then fails. If the first that
    /// it tries is a write, up to `torn` of its bytes get through.
    pub fn crash_after(&self, n: u64, torn: usize) {
        let mut state = self.lock();
        state.crash_after = Some(state.count + n);
        state.torn = torn;
    }

    /// After `n` more changing operations, and before the next one, the disk is copied as it is then, for
    /// [`Self::take_copy`]. This takes the place of an older plan and of an older copy.
    pub fn copy_after(&self, n: u64) {
        let mut state = self.lock();
        state.copy_after = Some(state.count + n);
        state.copy = None;
    }

    /// Whether the planned copy was made.
    #[must_use]
    pub fn has_copy(&self) -> bool {
        self.lock().copy.is_some()
    }

    /// The copy that was planned, a disk of its own that nobody has opened; `None` if its time has not come. Then it will
    /// not come any more.
    #[must_use]
    pub fn take_copy(&self) -> Option<Self> {
        let mut state = self.lock();
        state.copy_after = None;
        let copy = state.copy.take()?;
        Some(Self { separate: self.separate, state: Arc::new(Mutex::new(*copy)) })
    }

    /// Whether a planned crash has happened.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// Crashes now, or finishes a planned crash, and starts again on a healthy disk. Handles from before
    /// are dead.
    pub fn restart(&self, crash: Crash, choose: &mut Chooser<'_>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.crashed = false;
        state.unplan();
        state.life += 1;
        match crash {
            Crash::Process => {}
            Crash::Power => state.lose_power(choose),
        }
        state.forget_nameless();
    }

    /// What all power crashes so far took.
    #[must_use]
    pub fn lost(&self) -> Lost {
        self.lock().lost
    }

    /// Whether every byte and every name of the files in a directory whose names begin so is on the medium.
    #[must_use]
    pub fn is_synced(&self, dir: Dir, prefix: &str) -> bool {
        let dir = self.dir(dir);
        let state = self.lock();
        let mine = |path: &DiskPath| path.dir == dir && path.name.starts_with(prefix);
        state.seen.iter().all(|(path, file)| !mine(path) || state.inodes[*file].is_synced())
            && !state.unsynced.iter().flat_map(|r| &r.sets).any(|(path, _)| mine(path))
    }

    /// What the medium holds under a name.
    #[must_use]
    pub fn durable_content(&self, path: &DiskPath) -> Option<Vec<u8>> {
        let state = self.lock();
        state.durable.get(&self.path(path)).map(|i| state.inodes[*i].durable.clone())
    }

    /// Inverts the bits of `mask` in a byte that is on the medium. False where there is none.
    pub fn rot(&self, path: &DiskPath, offset: usize, mask: u8) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(file) = state.durable.get(&self.path(path)) else { return false };
        let Inode { seen, durable, unsynced, .. } = &mut state.inodes[*file];
        let Some(byte) = durable.get_mut(offset).filter(|_| unsynced.is_empty()) else { return false };
        *byte ^= mask;
        seen[offset] ^= mask;
        true
    }

    /// No read that reaches into these bytes of a file succeeds any more, whatever its name, until it is put there anew.
    /// False where there is no such file.
    pub fn make_unreadable(&self, path: &DiskPath, bytes: Range<usize>) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(file) = state.seen.get(&self.path(path)) else { return false };
        state.inodes[*file].unreadable = Some(bytes);
        true
    }

    /// How often somebody tried to read bytes of a file that were made unreadable.
    #[must_use]
    pub fn refused_reads(&self, path: &DiskPath) -> u64 {
        let state = self.lock();
        state.seen.get(&self.path(path)).map_or(0, |file| state.inodes[*file].refused)
    }

    /// What was done, in order.
    #[must_use]
    pub fn ops(&self) -> Vec<Op> {
        self.lock().ops.clone()
    }

    /// Forgets what was done.
    pub fn clear_ops(&self) {
        self.lock().ops.clear();
    }

    /// Puts a note among the recorded operations.
    pub fn note(&self, value: u64) {
        self.lock().record(|| Op::Note(value));
    }

    /// A file's content as everybody sees it.
    #[must_use]
    pub fn content(&self, path: &DiskPath) -> Option<Vec<u8>> {
        let state = self.lock();
        state.seen.get(&self.path(path)).map(|i| state.inodes[*i].seen.clone())
    }

    /// Puts a durable file there, not as an operation.
    pub fn put(&self, path: &DiskPath, content: Vec<u8>) {
        let mut state = self.lock();
        let file = state.inodes.len();
        state.inodes.push(Inode { seen: content.clone(), durable: content, ..Inode::default() });
        state.seen.insert(self.path(path), file);
        state.durable.insert(self.path(path), file);
    }

    /// Names in a directory, as everybody sees them.
    #[must_use]
    pub fn names(&self, dir: Dir) -> Vec<String> {
        let dir = self.dir(dir);
        self.lock().seen.keys().filter(|p| p.dir == dir).map(|p| p.name.clone()).collect()
    }

    fn error(&self, operation: &'static str, path: &DiskPath, kind: DiskErrorKind) -> DiskError {
        DiskError { operation, path: self.describe(path), kind, message: format!("{kind:?}") }
    }
}

impl State {
    fn lose_power(&mut self, choose: &mut Chooser<'_>) {
        let sector = if self.sector == 0 { SECTOR } else { self.sector };
        let lost = &mut self.lost;
        for inode in self.inodes.iter_mut().filter(|inode| inode.doubtful || !inode.unsynced.is_empty()) {
            let mut gone = false;
            inode.doubtful = false;
            for change in std::mem::take(&mut inode.unsynced) {
                match change {
                    Change::Len(_) => {
                        if choose(2) == 1 {
                            change.apply(&mut inode.durable);
                        }
                    }
                    Change::Write { offset, bytes } => {
                        match keep_some(&mut inode.durable, offset, &bytes, sector, choose) {
                            Kept::Nothing => {
                                lost.writes += 1;
                                gone = true;
                            }
                            Kept::Some => {
                                lost.torn += 1;
                                lost.reordered += u64::from(gone);
                                gone = true;
                            }
                            Kept::All => lost.reordered += u64::from(gone),
                        }
                    }
                }
            }
            inode.seen.clone_from(&inode.durable);
        }
        for renaming in std::mem::take(&mut self.unsynced) {
            if choose(2) == 1 {
                set_names(&mut self.durable, &renaming);
            } else {
                lost.names += 1;
            }
        }
        self.seen.clone_from(&self.durable);
    }

    const fn unplan(&mut self) {
        (self.fail_at, self.fail_from, self.fail_on, self.crash_after) = (None, None, None, None);
    }

    /// Files that have a name, or may get it back.
    fn named(&self) -> BTreeSet<usize> {
        let unsynced = self.unsynced.iter().flat_map(|r| r.sets.iter().filter_map(|(_, file)| *file));
        self.seen.values().chain(self.durable.values()).copied().chain(unsynced).collect()
    }

    /// The same content with no plans, and nothing of files that have no name.
    fn copied(&self) -> Self {
        let named = self.named();
        let inode =
            |(file, inode): (usize, &Inode)| if named.contains(&file) { inode.clone() } else { Inode::default() };
        Self {
            inodes: self.inodes.iter().enumerate().map(inode).collect(),
            seen: self.seen.clone(),
            durable: self.durable.clone(),
            unsynced: self.unsynced.clone(),
            unrecorded: self.unrecorded,
            sector: self.sector,
            life: self.life,
            ..Self::default()
        }
    }

    /// Frees the content of files that have no name any more. Only while no handle is alive.
    fn forget_nameless(&mut self) {
        let named = self.named();
        for (file, inode) in self.inodes.iter_mut().enumerate() {
            if !named.contains(&file) {
                *inode = Inode::default();
            }
        }
    }

    fn record(&mut self, op: impl FnOnce() -> Op) {
        if !self.unrecorded {
            self.ops.push(op());
        }
    }

    /// Whether the disk is too full for a file to get this long.
    fn has_no_room(&self, file: usize, len: usize) -> bool {
        self.full && len > self.inodes[file].seen.len()
    }

    fn alter(&mut self, file: usize, change: Change) {
        change.apply(&mut self.inodes[file].seen);
        self.inodes[file].unsynced.push(change);
    }

    fn rename(&mut self, renaming: Renaming) {
        set_names(&mut self.seen, &renaming);
        self.unsynced.push(renaming);
    }
}

/// What is left of a write.
#[derive(PartialEq, Eq)]
enum Kept {
    Nothing,
    Some,
    All,
}

/// Keeps of a write what is chosen: all, nothing, or some of its sectors.
fn keep_some(content: &mut Vec<u8>, offset: usize, bytes: &[u8], sector: usize, choose: &mut Chooser<'_>) -> Kept {
    let mode = choose(3);
    let (mut from, mut kept) = (0, 0);
    while from < bytes.len() {
        // Up to the next sector boundary of the file.
        let to = bytes.len().min(from + sector - (offset + from) % sector);
        if mode == 1 || (mode == 2 && choose(2) == 1) {
            Change::Write { offset: offset + from, bytes: bytes[from..to].to_vec() }.apply(content);
            kept += to - from;
        }
        from = to;
    }
    match kept {
        0 => Kept::Nothing,
        all if all == bytes.len() => Kept::All,
        _ => Kept::Some,
    }
}

fn set_names(names: &mut BTreeMap<DiskPath, usize>, renaming: &Renaming) {
    for (path, file) in &renaming.sets {
        match file {
            Some(file) => names.insert(path.clone(), *file),
            None => names.remove(path),
        };
    }
}

/// What becomes of a changing operation.
enum Fate {
    Goes,
    Fails(DiskErrorKind),
    /// The process dies with it.
    Dies,
}

impl State {
    fn fate_of(&mut self, operation: Option<FailOn>) -> Fate {
        if self.crashed {
            return Fate::Fails(DiskErrorKind::Other);
        }
        if self.copy_after.is_some_and(|at| self.count >= at) {
            self.copy_after = None;
            self.copy = Some(Box::new(self.copied()));
        }
        if self.crash_after.is_some_and(|at| self.count >= at) {
            self.crashed = true;
            return Fate::Dies;
        }
        self.count += 1;
        if let Some((on, kind)) = self.fail_on
            && operation == Some(on)
        {
            self.fail_on = None;
            *self.failed.entry(on).or_default() += 1;
            return Fate::Fails(kind);
        }
        if let Some((_, kind)) = self.fail_at.filter(|(at, _)| *at == self.count) {
            return Fate::Fails(kind);
        }
        match self.fail_from {
            Some((at, kind)) if self.count >= at => Fate::Fails(kind),
            _ => Fate::Goes,
        }
    }

    /// For operations that happen or do not.
    fn whole(&mut self) -> Result<(), DiskErrorKind> {
        match self.fate_of(None) {
            Fate::Goes => Ok(()),
            Fate::Fails(kind) => Err(kind),
            Fate::Dies => Err(DiskErrorKind::Other),
        }
    }
}

impl Disk for MemDisk {
    type File = MemFile;

    fn list(&self, dir: Dir) -> DiskResult<Vec<DirEntry>> {
        let dir = self.dir(dir);
        let state = self.lock();
        let entry =
            |(p, i): (&DiskPath, &usize)| DirEntry { name: p.name.clone(), len: state.inodes[*i].seen.len() as u64 };
        Ok(state.seen.iter().filter(|(p, _)| p.dir == dir).map(entry).collect())
    }

    fn open(&self, path: &DiskPath, mode: OpenMode) -> DiskResult<MemFile> {
        let path = self.path(path);
        let mut guard = self.lock();
        let state = &mut *guard;
        let fail = |kind| self.error("open", &path, kind);
        if state.crashed {
            return Err(fail(DiskErrorKind::Other));
        }
        let existing = state.seen.get(&path).copied();
        let file = match (mode, existing) {
            (OpenMode::Read | OpenMode::Write, None) => return Err(fail(DiskErrorKind::NotFound)),
            (OpenMode::CreateNew, Some(_)) => return Err(fail(DiskErrorKind::Exists)),
            (OpenMode::Read | OpenMode::Write, Some(file)) => file,
            (OpenMode::CreateTruncate, Some(file)) => {
                state.whole().map_err(fail)?;
                state.record(|| Op::SetLen { file, len: 0 });
                state.alter(file, Change::Len(0));
                file
            }
            (OpenMode::CreateNew | OpenMode::CreateTruncate, None) => {
                state.whole().map_err(fail)?;
                if state.full {
                    return Err(fail(DiskErrorKind::Full));
                }
                let file = state.inodes.len();
                state.inodes.push(Inode::default());
                state.rename(Renaming { dir: path.dir, sets: vec![(path.clone(), Some(file))] });
                state.record(|| Op::Create { file, path: path.clone() });
                file
            }
        };
        let life = state.life;
        drop(guard);
        Ok(MemFile { disk: self.clone(), file, path, life, writable: mode != OpenMode::Read })
    }

    fn rename(&self, from: &DiskPath, to: &DiskPath) -> DiskResult<()> {
        let (from, to) = (self.path(from), self.path(to));
        assert_eq!(from.dir, to.dir, "files stay in their directory");
        let mut state = self.lock();
        let fail = |kind| self.error("rename", &from, kind);
        let Some(file) = state.seen.get(&from).copied() else { return Err(fail(DiskErrorKind::NotFound)) };
        state.whole().map_err(fail)?;
        state.record(|| Op::Rename { file, from: from.clone(), to: to.clone() });
        state.rename(Renaming { dir: from.dir, sets: vec![(from.clone(), None), (to, Some(file))] });
        Ok(())
    }

    fn remove(&self, path: &DiskPath) -> DiskResult<()> {
        let path = self.path(path);
        let mut state = self.lock();
        let fail = |kind| self.error("remove", &path, kind);
        if !state.seen.contains_key(&path) {
            return Err(fail(DiskErrorKind::NotFound));
        }
        state.whole().map_err(fail)?;
        state.record(|| Op::Remove { path: path.clone() });
        state.rename(Renaming { dir: path.dir, sets: vec![(path.clone(), None)] });
        Ok(())
    }

    fn sync_dir(&self, dir: Dir) -> DiskResult<()> {
        let dir = self.dir(dir);
        let mut guard = self.lock();
        let state = &mut *guard;
        state.whole().map_err(|kind| self.error("sync", &DiskPath::new(dir, "."), kind))?;
        let State { unsynced, durable, .. } = state;
        unsynced.retain(|renaming| {
            if renaming.dir == dir {
                set_names(durable, renaming);
            }
            renaming.dir != dir
        });
        state.record(|| Op::SyncDir { dir });
        Ok(())
    }

    fn free_bytes(&self, _: Dir) -> DiskResult<Option<u64>> {
        let state = self.lock();
        let used: u64 = state.seen.values().map(|i| state.inodes[*i].seen.len() as u64).sum();
        Ok(if state.full { Some(0) } else { state.capacity.map(|capacity| capacity.saturating_sub(used)) })
    }

    fn describe(&self, path: &DiskPath) -> String {
        let dir = match path.dir {
            Dir::Data => "/data",
            Dir::DataVersion => "/data/version-2",
            Dir::Log if self.separate => "/log",
            Dir::LogVersion if self.separate => "/log/version-2",
            Dir::Log => "/data",
            Dir::LogVersion => "/data/version-2",
        };
        format!("{dir}/{}", path.name)
    }
}

#[cfg(test)]
mod tests;
