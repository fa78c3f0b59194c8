//! A leader's snapshot becomes the whole of a disk's history: either all of it, or nothing.
//!
//! The snapshot is written and synced under a name that nobody loads. Then `<dataDir>/farrier.install` is written,
//! durably: the intent, which names the snapshot and the epoch. From there on there is no way back: the snapshot
//! gets its name, all others go and the whole log with them, the mark is set to it, then `currentEpoch`, and last
//! the intent goes. A start that finds an intent finishes it before it looks at anything else. So old records are
//! never read on top of the new state, nor is the new epoch ever quoted without it.

use super::LogWriter;
use crate::disk::{Dir, Disk, DiskErrorKind, DiskFile, DiskPath, DiskResult, OpenMode};
use crate::epochs::{replace, write_current_epoch};
use crate::mark::{Mark, MarkFile, MarkRead, read_mark};
use crate::own;
use crate::recovering::clear_recovering;
use crate::segment::{list_segments, log_path};
use crate::snapshot::{
    SNAPSHOT_TEMPORARY, SnapshotError, SnapshotOptions, list_snapshots, measure_unnamed, write_unnamed, zxid_of_name,
};
use crate::state::Image;
use farrier_proto::{CurrentEpoch, Zxid};

const NAME: &str = "farrier.install";
pub(crate) const TEMPORARY: &str = "farrier.install.tmp";
const HEADER: &str = "farrier.install 1";
/// Bytes that are read.
const BYTES_MAX: usize = 256;

/// Path of the intent.
pub(crate) fn intent_path() -> DiskPath {
    DiskPath::new(Dir::Data, NAME)
}

/// The snapshot before it has its name.
fn unnamed() -> DiskPath {
    DiskPath::new(Dir::DataVersion, format!("{SNAPSHOT_TEMPORARY}install"))
}

/// Removes a snapshot without a name, which is worth nothing where there is no intent. It may be what fills the disk, so
/// this comes before anything that needs room.
pub(crate) fn discard_unnamed<D: Disk>(disk: &D) -> DiskResult<()> {
    match disk.remove(&unnamed()) {
        Ok(()) => disk.sync_dir(Dir::DataVersion),
        Err(e) if e.kind == DiskErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// What is being installed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Intent {
    /// The snapshot's name, once it has one.
    pub(crate) snapshot: DiskPath,
    pub(crate) zxid: Zxid,
    pub(crate) epoch: CurrentEpoch,
}

/// What the file of the intent says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum IntentRead {
    Absent,
    /// Neither a crash nor a server leaves such a one.
    Damaged,
    Intent(Intent),
}

impl Intent {
    fn line(&self) -> String {
        let line = format!("{} {}", self.snapshot.name, self.epoch.0);
        let sum = simd_adler32::adler32(&line.as_bytes());
        format!("{line} {sum:08x}")
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.strip_prefix(HEADER)?.strip_prefix('\n')?.strip_suffix('\n')?;
        let mut words = line.split(' ');
        let (name, epoch) = (words.next()?, words.next()?.parse().ok()?);
        let zxid = zxid_of_name("snapshot", name)?;
        let intent = Self { snapshot: DiskPath::new(Dir::DataVersion, name), zxid, epoch: CurrentEpoch(epoch) };
        (intent.line() == line).then_some(intent)
    }

    /// Whether the snapshot is there and whole, under either name.
    pub(crate) fn verify<D: Disk>(&self, disk: &D) -> Result<(), SnapshotError> {
        match measure_unnamed(disk, &unnamed(), &self.snapshot) {
            Err(SnapshotError::Disk(e)) if e.kind == DiskErrorKind::NotFound => {
                measure_unnamed(disk, &self.snapshot, &self.snapshot).map(drop)
            }
            other => other.map(drop),
        }
    }

    /// Carries it out, from wherever it was left.
    pub(crate) fn finish<D: Disk>(&self, disk: &D) -> DiskResult<MarkFile<D::File>> {
        match disk.rename(&unnamed(), &self.snapshot) {
            Ok(()) => {}
            Err(e) if e.kind == DiskErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        disk.sync_dir(Dir::DataVersion)?;
        for snapshot in list_snapshots(disk)?.into_iter().filter(|s| s.path != self.snapshot) {
            disk.remove(&snapshot.path)?;
        }
        disk.sync_dir(Dir::DataVersion)?;
        for segment in list_segments(disk)?.iter().rev().filter(|_| !farrier_proto::planted!(OldLogsSurviveInstall)) {
            disk.remove(&log_path(segment.first))?;
        }
        disk.sync_dir(Dir::LogVersion)?;
        let sequence = match read_mark(disk)? {
            MarkRead::Mark(mark) => mark.sequence,
            MarkRead::Absent | MarkRead::Unreadable | MarkRead::Newer(_) => 0,
        };
        let mark =
            Mark { sequence, segment: Zxid::ZERO, offset: 0, zxid: self.zxid, epoch: self.epoch.0, floor: self.zxid };
        let mark = MarkFile::create(disk, mark)?;
        write_current_epoch(disk, self.epoch)?;
        clear_recovering(disk)?;
        if !farrier_proto::planted!(InstallWithoutIntent) {
            disk.remove(&intent_path())?;
        }
        disk.sync_dir(Dir::Data)?;
        Ok(mark)
    }
}

/// Reads the intent.
pub(crate) fn read_intent<D: Disk>(disk: &D) -> DiskResult<IntentRead> {
    let file = match disk.open(&intent_path(), OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind == DiskErrorKind::NotFound => return Ok(IntentRead::Absent),
        Err(e) => return Err(e),
    };
    let mut bytes = [0; BYTES_MAX];
    let n = file.read_at(0, &mut bytes)?;
    let intent = std::str::from_utf8(&bytes[..n]).ok().and_then(Intent::parse);
    Ok(intent.map_or(IntentRead::Damaged, IntentRead::Intent))
}

impl<D: Disk> LogWriter<D> {
    /// Makes `image` the whole of the disk's history, with `epoch` as currentEpoch: everything older or newer
    /// goes, log and snapshots. Then the member no longer counts as recovering. The next append starts a new
    /// segment behind the image's zxid, below which no difference may reach from then on. An error is final, as
    /// in a commit; the next start finds the old history or finishes the new one. What was written of a snapshot that
    /// has no intent is removed again, since it may be what fills the disk.
    ///
    /// Nobody may be writing or removing snapshots meanwhile.
    pub fn install<I: Image>(&mut self, image: &I, epoch: CurrentEpoch, options: &SnapshotOptions) -> DiskResult<()> {
        let done = self.step(|log| {
            let disk = &*log.disk;
            if farrier_proto::planted!(RecoveringClearedEarly) {
                clear_recovering(disk)?;
            }
            let written = write_unnamed(disk, image, options, &unnamed())?;
            own::record(disk, &written)?;
            disk.sync_dir(Dir::DataVersion)?;
            let intent = Intent { snapshot: written.path, zxid: written.zxid, epoch };
            let text = format!("{HEADER}\n{}\n", intent.line());
            if farrier_proto::planted!(EpochBeforeInstall) {
                write_current_epoch(disk, epoch)?;
            }
            if !farrier_proto::planted!(InstallWithoutIntent) {
                replace(disk, Dir::Data, NAME, TEMPORARY, text.as_bytes())?;
            }
            log.current = None;
            log.mark = intent.finish(disk)?;
            log.epoch = epoch.0;
            log.floor = intent.zxid;
            log.appended = intent.zxid;
            log.durable = intent.zxid;
            log.recovering = false;
            log.roll = false;
            Ok(())
        });
        if done.is_err() && matches!(read_intent(&*self.disk), Ok(IntentRead::Absent)) {
            // Best effort: what counts is the first error.
            let _ = discard_unnamed(&*self.disk);
        }
        done
    }
}
