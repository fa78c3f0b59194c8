//! Threads that must never hold up requests: snapshots, the next log segment, purging.

use crate::core::Core;
use crate::files::Files;
use crate::priority::{Rests, behind_requests};
use farrier_replica::{Input, SnapshotImage};
use farrier_storage::{
    Dir, DirEntry, Disk, DiskError, DiskErrorKind, DiskFile, DiskPath, DiskResult, OpenMode, PurgePolicy, Purged,
    SnapshotOptions, prepare_segment, purge, write_snapshot_paced,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

/// A snapshot has a sixth of the disk's time, and more only where its pieces take long: where one is due after the other
/// they are written without end, and the log's syncs must not notice.
const SNAPSHOT_RESTS: u32 = 5;

/// The next segment has half of it: it has to be there before the one in use is full.
const PREPARER_RESTS: u32 = 1;

/// Where snapshots are asked for.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots(pub(crate) SyncSender<SnapshotTask>);

/// An image, and the history that it belongs to.
pub(crate) type SnapshotTask = (u64, Box<SnapshotImage>);

impl Snapshots {
    /// False if nobody writes snapshots any more. The replica asks for one at a time, so there is room.
    pub(crate) fn ask(&self, files: &Files, image: Box<SnapshotImage>) -> bool {
        self.0.try_send((files.history(), image)).is_ok()
    }
}

/// A disk whose files fail once the server closes, or the log thread wants them: work that can be given up ends
/// early. What is left behind is what a crash would leave.
#[derive(Debug)]
struct UntilClosing<D> {
    disk: Arc<D>,
    closing: Arc<AtomicBool>,
    files: Arc<Files>,
}

impl<D: Disk> UntilClosing<D> {
    fn new(disk: &Arc<D>, core: &Core, files: &Arc<Files>) -> Self {
        Self { disk: disk.clone(), closing: core.closing_flag(), files: files.clone() }
    }

    /// Whether files fail now.
    fn is_given_up(&self) -> bool {
        self.closing.load(Ordering::Relaxed) || self.files.are_claimed()
    }
}

impl<D: Disk> Disk for UntilClosing<D> {
    type File = FileUntilClosing<D::File>;

    fn list(&self, dir: Dir) -> DiskResult<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn open(&self, path: &DiskPath, mode: OpenMode) -> DiskResult<Self::File> {
        let file = self.disk.open(path, mode)?;
        let (closing, files) = (self.closing.clone(), self.files.clone());
        Ok(FileUntilClosing { file, path: self.disk.describe(path), closing, files })
    }

    fn rename(&self, from: &DiskPath, to: &DiskPath) -> DiskResult<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &DiskPath) -> DiskResult<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: Dir) -> DiskResult<()> {
        self.disk.sync_dir(dir)
    }

    fn free_bytes(&self, dir: Dir) -> DiskResult<Option<u64>> {
        self.disk.free_bytes(dir)
    }

    fn describe(&self, path: &DiskPath) -> String {
        self.disk.describe(path)
    }
}

#[derive(Debug)]
struct FileUntilClosing<F> {
    file: F,
    path: String,
    closing: Arc<AtomicBool>,
    files: Arc<Files>,
}

impl<F> FileUntilClosing<F> {
    fn check(&self, operation: &'static str) -> DiskResult<()> {
        let why = if self.closing.load(Ordering::Relaxed) {
            "the server stops"
        } else if self.files.are_claimed() {
            "a leader's history takes the place of this one"
        } else {
            return Ok(());
        };
        let (path, message) = (self.path.clone(), why.to_owned());
        Err(DiskError { operation, path, kind: DiskErrorKind::Other, message })
    }
}

impl<F: DiskFile> DiskFile for FileUntilClosing<F> {
    fn len(&self) -> DiskResult<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> DiskResult<usize> {
        self.check("read")?;
        self.file.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> DiskResult<()> {
        self.check("write")?;
        self.file.write_at(offset, bytes)
    }

    fn write_zeros(&self, offset: u64, len: u64) -> DiskResult<()> {
        self.check("write")?;
        self.file.write_zeros(offset, len)
    }

    fn set_len(&self, len: u64) -> DiskResult<()> {
        self.check("resize")?;
        self.file.set_len(len)
    }

    fn sync(&self) -> DiskResult<()> {
        self.check("sync")?;
        self.file.sync()
    }
}

/// Writes the snapshots that the replica asks for, until the server closes.
pub(crate) fn run_snapshots<D: Disk>(
    core: &Core,
    disk: &Arc<D>,
    options: SnapshotOptions,
    images: &Receiver<SnapshotTask>,
    files: &Arc<Files>,
) {
    behind_requests();
    let disk = UntilClosing::new(disk, core, files);
    let over = || disk.is_given_up();
    while let Some((history, image)) = next_image(core, images) {
        let start = Instant::now();
        let guard = files.snapshots();
        if history != files.history() {
            drop(guard);
            let error = "no snapshot was written: a leader's history took the place of the one it belonged to";
            core.step_in_bulk(Input::SnapshotDone { error: Some(error.into()) });
            continue;
        }
        let mut rests = Rests::new(SNAPSHOT_RESTS, &over);
        let written = write_snapshot_paced(&disk, &*image, &options, &mut |_written| rests.rest());
        drop(guard);
        // Many znodes: their memory goes before anybody is told.
        drop(image);
        let error = match written {
            Ok(done) => {
                let ms = start.elapsed().as_millis();
                tracing::info!("snapshot {} written: {} znodes, {} bytes, {ms} ms", done.zxid, done.nodes, done.len);
                None
            }
            Err(_) if core.is_closing() => {
                tracing::info!("a snapshot was given up because the server stops; the log keeps everything");
                return;
            }
            Err(e) => Some(unwritten(&e)),
        };
        core.step_in_bulk(Input::SnapshotDone { error });
    }
}

/// Why there is no snapshot, and what that means.
fn unwritten(error: &DiskError) -> String {
    let remedy = match error.kind {
        DiskErrorKind::Full => ". Make room on the disk that holds dataDir",
        _ => "",
    };
    format!(
        "no snapshot was written: {error}{remedy}. The log keeps everything, so nothing is lost; the next one is tried after snapCount \
         more transactions"
    )
}

fn next_image(core: &Core, images: &Receiver<SnapshotTask>) -> Option<SnapshotTask> {
    loop {
        match images.recv_timeout(Duration::from_millis(500)) {
            _ if core.is_closing() => return None,
            Ok(image) => return Some(image),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// How long the preparer waits before it tries again what failed.
const PREPARE_PAUSE: Duration = Duration::from_secs(5);

/// Before what was given up for a change of the history is tried again, which then waits for the end of that.
const CLAIM_PAUSE: Duration = Duration::from_millis(100);

/// Zero-fills the next log segment whenever one was begun, until the channel or the server closes. What comes of it is
/// told to the replica: a disk that is nearly full shows here first.
pub(crate) fn run_preparer<D: Disk>(
    core: &Core,
    disk: &Arc<D>,
    segment_size: u64,
    wanted: &Receiver<()>,
    files: &Arc<Files>,
) {
    behind_requests();
    let disk = UntilClosing::new(disk, core, files);
    let over = || disk.is_given_up();
    let mut pause = None;
    loop {
        let woken = match pause {
            Some(pause) => wanted.recv_timeout(pause),
            None => wanted.recv().map_err(Into::into),
        };
        if woken == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        let guard = files.segments();
        let mut rests = Rests::new(PREPARER_RESTS, &over);
        let prepared = prepare_segment(&disk, segment_size, &mut |_written| rests.rest());
        // Under the lock: whoever claimed the files meanwhile waits for it.
        let claimed = files.are_claimed();
        drop(guard);
        let error = match prepared {
            Ok(()) => None,
            Err(_) if core.is_closing() => return,
            // Nobody asks again before a segment is begun, and that may take hours.
            Err(_) if claimed => {
                pause = Some(CLAIM_PAUSE);
                continue;
            }
            Err(e) => Some(e.to_string()),
        };
        pause = error.is_some().then_some(PREPARE_PAUSE);
        core.step_in_bulk(Input::SegmentPrepared { error });
    }
}

/// Purges at every interval, the first time one interval after the start.
pub(crate) fn run_purge<D: Disk>(
    core: &Core,
    disk: &Arc<D>,
    policy: &PurgePolicy,
    interval: Duration,
    files: &Arc<Files>,
) {
    behind_requests();
    let disk = UntilClosing::new(disk, core, files);
    let mut next = Instant::now() + interval;
    while !core.is_closing() {
        let now = Instant::now();
        if now < next {
            std::thread::sleep((next - now).min(Duration::from_millis(500)));
            continue;
        }
        let Some(purged) = purge_unless_given_up(&disk, policy) else {
            next = Instant::now() + interval.min(CLAIM_PAUSE);
            continue;
        };
        next = now + interval;
        match purged {
            Ok(purged) => {
                for text in &purged.invalid {
                    tracing::warn!("a snapshot does not read back: {text}");
                }
                if let Some(why) = purged.held_back {
                    tracing::info!("nothing purged yet: {why}");
                }
                if let Some(e) = purged.failed {
                    tracing::warn!("purging stopped: {e}");
                }
            }
            Err(e) => tracing::warn!("nothing purged: {e}"),
        }
    }
}

/// Purges once, and tells what was removed. `None` if the server closes, or the history is about to change: what could
/// not be read in time was not found wanting.
fn purge_unless_given_up<D: Disk>(disk: &UntilClosing<D>, policy: &PurgePolicy) -> Option<DiskResult<Purged>> {
    let guard = disk.files.snapshots();
    let purged = purge(disk, policy);
    // Under the lock: whoever claimed the files meanwhile waits for it.
    let given_up = disk.is_given_up();
    drop(guard);
    for file in purged.iter().flat_map(|purged| &purged.removed) {
        tracing::info!("purged {file}");
    }
    (!given_up).then_some(purged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use crate::testing;
    use farrier_storage::mem::{MemDisk, Op};
    use farrier_storage::write_snapshot;

    #[test]
    fn a_snapshot_for_which_there_is_no_room_says_what_to_do() {
        let error = |kind| DiskError { operation: "write", path: "/p".into(), kind, message: "why".into() };
        // In the order in which it is to be done.
        let full = unwritten(&error(DiskErrorKind::Full));
        assert!(full.contains(": why. Make room on the disk that holds dataDir. The log keeps everything"), "{full}");
        assert!(unwritten(&error(DiskErrorKind::Other)).ends_with("snapCount more transactions"));
    }

    #[test]
    fn files_fail_once_the_server_closes_and_no_image_is_taken_up() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let disk = Arc::new(RealDisk::open(dir.path(), dir.path(), true).expect("a disk"));
        let core = testing::core();
        let disk = UntilClosing::new(&disk, &core, &Arc::default());
        let path = DiskPath::new(Dir::Data, "some");
        let file = disk.open(&path, OpenMode::CreateNew).expect("made");
        file.write_at(0, b"abc").and_then(|()| file.sync()).expect("written");
        core.close();
        let error = file.write_at(3, b"d").expect_err("the server closes").to_string();
        assert!(error.contains("cannot write") && error.ends_with("the server stops"), "{error}");
        file.sync().expect_err("the server closes");
        file.read_at(0, &mut [0; 3]).expect_err("the server closes");
        assert_eq!(file.len(), Ok(3));
        disk.remove(&path).expect("what is half done may be cleaned up");

        let (sender, images) = std::sync::mpsc::sync_channel(1);
        let mut state = farrier_replica::TreeRestore::new(farrier_tree::TreeConfig::default(), 7);
        sender.send((0, Box::new(state.image()))).expect("there is room");
        assert!(next_image(&core, &images).is_none());
    }

    /// Until it is so; panics if that takes too long.
    fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < end, "never: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_purge_that_meets_a_change_of_the_history_finds_no_snapshot_wanting() {
        let (disk, core, files) = (Arc::new(MemDisk::default()), testing::core(), Arc::<Files>::default());
        let mut state = farrier_replica::TreeRestore::new(farrier_tree::TreeConfig::default(), 7);
        write_snapshot(&*disk, &state.image(), &SnapshotOptions::default()).expect("a healthy disk");
        let disk = UntilClosing::new(&disk, &core, &files);
        let purged = || purge_unless_given_up(&disk, &PurgePolicy::default());
        files.set_claimed(true);
        assert_eq!(purged(), None, "it is tried again");
        files.set_claimed(false);
        let purged = purged().expect("it came to its end").expect("a healthy disk");
        assert_eq!((purged.kept.len(), purged.invalid.len()), (1, 0));
    }

    #[test]
    fn a_preparation_that_was_given_up_for_a_change_of_the_history_is_made_up_for() {
        let (disk, core, files) = (Arc::new(MemDisk::default()), testing::core(), Arc::<Files>::default());
        let (ask, wanted) = std::sync::mpsc::sync_channel(1);
        files.set_claimed(true);
        std::thread::scope(|scope| {
            let (core, disk, files) = (&core, &disk, &files);
            scope.spawn(move || run_preparer(core, disk, 1 << 16, &wanted, files));
            ask.send(()).expect("it waits");
            until("it gives up", || disk.ops().iter().any(|op| matches!(op, Op::Remove { .. })));
            files.set_claimed(false);
            let is_there =
                || disk.list(Dir::LogVersion).expect("a healthy disk").iter().any(|f| f.name == "farrier.next");
            let made = std::panic::catch_unwind(|| until("a segment", is_there));
            drop(ask);
            made.expect("it is tried again by itself");
        });
    }

    /// What a disk is asked for in which order by who writes as the background does.
    fn asked(wrap: bool) -> Vec<Op> {
        fn work<D: Disk>(disk: &D) {
            let mut state = farrier_replica::TreeRestore::new(farrier_tree::TreeConfig::default(), 7);
            write_snapshot(disk, &state.image(), &SnapshotOptions::default()).expect("a healthy disk");
            prepare_segment(disk, 1 << 16, &mut |_written| ()).expect("a healthy disk");
            let path = DiskPath::new(Dir::Data, "some");
            let file = disk.open(&path, OpenMode::CreateNew).expect("a healthy disk");
            file.write_at(0, b"abcd")
                .and_then(|()| file.set_len(2))
                .and_then(|()| file.sync())
                .expect("a healthy disk");
            disk.rename(&path, &DiskPath::new(Dir::Data, "other")).expect("a healthy disk");
            disk.remove(&DiskPath::new(Dir::Data, "other")).expect("a healthy disk");
            disk.sync_dir(Dir::Data).expect("a healthy disk");
        }
        let disk = Arc::new(MemDisk::default());
        if wrap {
            work(&UntilClosing::new(&disk, &testing::core(), &Arc::default()))
        } else {
            work(&*disk)
        }
        disk.ops()
    }

    #[test]
    fn every_write_and_every_sync_reaches_the_disk() {
        let ops = asked(false);
        let count = |is: fn(&Op) -> bool| ops.iter().filter(|op| is(op)).count();
        let syncs = (count(|op| matches!(op, Op::Sync { .. })), count(|op| matches!(op, Op::SyncDir { .. })));
        assert!(syncs.0 > 2 && syncs.1 > 2, "{syncs:?}: there is something to lose");
        // Not told in full: a segment has many bytes.
        let differs = asked(true).iter().zip(&ops).position(|(wrapped, plain)| wrapped != plain);
        assert_eq!((differs, asked(true).len()), (None, ops.len()));
    }
}
