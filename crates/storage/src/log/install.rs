//! A leader's snapshot becomes the whole of a disk's history: either all of it, or nothing.
//!
//! The snapshot is written and synced under a name that nobody loads. Then `<dataDir>/farrier.install` is written,
//! durably: the intent, which names the snapshot and the epoch. From there on there is no way back: the snapshot
//! gets its name, all others go and the whole log with them, the mark is set to it, then `currentEpoch`, and last
//! the intent goes. A start that finds an intent finishes it before it looks at anything else. So old records are
//! never read on top of the new state, nor is the new epoch ever quoted without it.
//!
//! An intent may lie there while Apache works in the directory, which knows nothing of it. To finish it then would
//! remove what was acknowledged since. So the intent also tells what it is going to remove, and the epoch that it
//! replaces: where anything else is found, it is not finished.
//!
//! The first line is `farrier.install 2 <checksum of the rest>`, in eight hexadecimal digits; the next one is
//! `<snapshot> <epoch> <epoch before, or ->`; each other one is the length and the name of a log segment or snapshot that
//! goes. Version 1 had one line `<snapshot> <epoch> <checksum of the line so far>`.

use super::LogWriter;
use crate::disk::{Dir, Disk, DiskErrorKind, DiskFile, DiskPath, DiskResult, OpenMode};
use crate::epochs::{NumberError, current_epoch_path, read_current_epoch, replace, write_current_epoch};
use crate::mark::{Mark, MarkFile, MarkRead, read_mark};
use crate::own;
use crate::recovering::clear_recovering;
use crate::segment::{list_segments, log_path};
use crate::snapshot::{
    SNAPSHOT_TEMPORARY, SnapshotError, SnapshotOptions, list_snapshots, measure_unnamed, write_unnamed, zxid_of_name,
};
use crate::state::Image;
use farrier_proto::{CurrentEpoch, Zxid};
use std::collections::BTreeSet;
use std::fmt::Write as _;

const NAME: &str = "farrier.install";
pub(crate) const TEMPORARY: &str = "farrier.install.tmp";
const HEADER: &str = "farrier.install 2";
/// Of intents that do not tell what they found.
const HEADER_1: &str = "farrier.install 1";
/// In the place of an epoch that there was not.
const NONE: &str = "-";
/// Bytes that are read; no directory has so many files.
const BYTES_MAX: u64 = 64 << 20;

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
    /// What was there when it was begun; `None` in an intent of version 1.
    before: Option<Before>,
}

/// What an installation found, and replaces.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Before {
    current: Option<CurrentEpoch>,
    /// A [`line_of`] each file.
    files: BTreeSet<String>,
}

/// A log segment or a snapshot that goes.
struct Doomed {
    path: DiskPath,
    zxid: Zxid,
    len: u64,
    /// Whether the name is one that a server gives.
    regular: bool,
}

/// As it stands in an intent. An operator's copies may have any name.
fn line_of(file: &Doomed) -> String {
    format!("{} {}", file.len, file.path.name.escape_default())
}

/// What an installation removes that gives a snapshot this name.
fn doomed<D: Disk>(disk: &D, snapshot: &DiskPath) -> DiskResult<Vec<Doomed>> {
    let segments = list_segments(disk)?.into_iter().map(|s| {
        let path = log_path(s.first);
        Doomed { path, zxid: s.first, len: s.len, regular: true }
    });
    let snapshots = list_snapshots(disk)?.into_iter().filter(|s| s.path != *snapshot);
    let snapshots = snapshots.map(|s| Doomed { path: s.path, zxid: s.zxid, len: s.len, regular: s.regular });
    Ok(segments.chain(snapshots).collect())
}

/// What `currentEpoch` says, if that is of any use.
fn usable_epoch<D: Disk>(disk: &D) -> DiskResult<Option<CurrentEpoch>> {
    match read_current_epoch(disk) {
        Ok(epoch) => Ok(epoch),
        Err(NumberError::Disk(e)) => Err(e),
        Err(NumberError::Value { .. }) => Ok(None),
    }
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
    /// Of an installation that is about to begin. Whoever removes a segment or a snapshot makes that durable, so none comes
    /// back beside an intent that does not tell of it.
    fn begin<D: Disk>(disk: &D, snapshot: DiskPath, zxid: Zxid, epoch: CurrentEpoch) -> DiskResult<Self> {
        let files = doomed(disk, &snapshot)?.iter().map(line_of).collect();
        let before = Some(Before { current: usable_epoch(disk)?, files });
        Ok(Self { snapshot, zxid, epoch, before })
    }

    fn text(&self) -> String {
        let Some(before) = &self.before else { return format!("{HEADER_1}\n{}\n", self.line_1()) };
        let current = before.current.map_or_else(|| NONE.to_owned(), |epoch| epoch.0.to_string());
        let mut rest = format!("{} {} {current}\n", self.snapshot.name, self.epoch.0);
        for file in &before.files {
            let _ = writeln!(rest, "{file}");
        }
        format!("{HEADER} {:08x}\n{rest}", simd_adler32::adler32(&rest.as_bytes()))
    }

    fn line_1(&self) -> String {
        let line = format!("{} {}", self.snapshot.name, self.epoch.0);
        let sum = simd_adler32::adler32(&line.as_bytes());
        format!("{line} {sum:08x}")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let header = lines.next()?;
        let mut words = lines.next()?.split(' ');
        let (name, epoch) = (words.next()?, words.next()?.parse().ok()?);
        let zxid = zxid_of_name("snapshot", name)?;
        let before = if header == HEADER_1 {
            None
        } else {
            let current = match words.next()? {
                NONE => None,
                epoch => Some(CurrentEpoch(epoch.parse().ok()?)),
            };
            Some(Before { current, files: lines.map(str::to_owned).collect() })
        };
        let snapshot = DiskPath::new(Dir::DataVersion, name);
        let intent = Self { snapshot, zxid, epoch: CurrentEpoch(epoch), before };
        (intent.text() == text).then_some(intent)
    }

    /// What shows that somebody has worked in the directory since this was begun. Whoever carries it out leaves fewer files,
    /// and the new epoch only when none is left.
    pub(crate) fn overtaken<D: Disk>(&self, disk: &D) -> DiskResult<Option<String>> {
        let files = doomed(disk, &self.snapshot)?;
        let current = usable_epoch(disk)?;
        let (is_other, is_expected) = match &self.before {
            Some(before) => {
                let is_new = current == Some(self.epoch) && files.is_empty();
                let other = files.iter().find(|file| !before.files.contains(&line_of(file)));
                (other, current == before.current || is_new)
            }
            None => (self.beyond_mark(disk, &files)?, current <= Some(self.epoch)),
        };
        Ok(match is_other {
            Some(file) => Some(format!(
                "{} was not there, or not of this length, when it was begun: another server has worked here since",
                disk.describe(&file.path)
            )),
            None if is_expected => None,
            None => Some(format!(
                "{} is neither what it was when it was begun nor what it is to become: another server has worked here \
                 since",
                disk.describe(&current_epoch_path())
            )),
        })
    }

    /// An intent of version 1 tells nothing of the files. The mark does: it names the newest segment as soon as there is
    /// one, and it is durable up to a snapshot before that is begun.
    fn beyond_mark<'f, D: Disk>(&self, disk: &D, files: &'f [Doomed]) -> DiskResult<Option<&'f Doomed>> {
        let MarkRead::Mark(mark) = read_mark(disk)? else { return Ok(None) };
        let last = mark.zxid.max(mark.segment);
        Ok(files.iter().find(|file| file.regular && file.zxid > last))
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
    let len = usize::try_from(file.len()?.min(BYTES_MAX)).expect("the bound is small");
    let mut bytes = vec![0; len];
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
            if farrier_proto::planted!(EpochBeforeInstall) {
                write_current_epoch(disk, epoch)?;
            }
            let intent = Intent::begin(disk, written.path, written.zxid, epoch)?;
            if !farrier_proto::planted!(InstallWithoutIntent) {
                replace(disk, Dir::Data, NAME, TEMPORARY, intent.text().as_bytes())?;
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
