//! Start-up: from the files of a directory to a state that is known to be durable.
//!
//! Owns the choice of the snapshot, the replay, the verdict "torn tail or damage" (see `scan`), and that
//! everything recovered is durable before anybody may quote it: a process may have died between write and
//! sync, so what was read back past the mark is written again in place and synced. Nothing on disk changes
//! before the whole state has been read and found good; a refusal leaves the directory as it was.
//!
//! An ensemble's member: see `member`.
//!
//! Order of durable steps, each of which leaves the directory recoverable: torn ends cut, segments without
//! any record removed, records past the mark written again, leftovers removed, directories synced, mark.

mod loading;
mod member;
mod refusal;
pub(crate) mod scan;

pub(crate) use loading::{Loaded, Unreadable, load_snapshot};
pub(crate) use member::with_epoch;
pub use refusal::{Refusal, RefusalKind};
pub(crate) use refusal::{repair_remedy, repair_what};

use crate::aside::Aside;
use crate::disk::{Dir, DirEntry, Disk, DiskErrorKind, DiskFile, DiskPath, DiskResult, OpenMode};
use crate::log::install::{self, Intent, IntentRead, discard_unnamed, intent_path, read_intent};
use crate::log::{NEW_NAME, NEXT_NAME, NEXT_TMP_NAME, prepared_len};
use crate::mark::{Mark, MarkFile, MarkRead, mark_of_epoch, mark_path, read_mark};
use crate::own;
use crate::pending;
use crate::recovering::{self, Recovering, read_recovering};
use crate::segment::{FIRST_RECORD, Segment, SegmentHeader, apache_zxid, list_segments, log_path, parse_log_name};
use crate::snapshot::{
    SnapshotError, SnapshotFile, SnapshotRead, list_snapshots, may_be_whole, measure_snapshot, name_to_be,
    remove_temporaries,
};
use crate::state::{LoggedTxn, Restore};
use farrier_proto::limits::TXN_MAX;
use farrier_proto::{AcceptedEpoch, CurrentEpoch, Zxid};
use scan::{Rest, Scan, Scanner, Why};
use std::sync::Arc;

/// Marker of an operator who vouches that an empty directory is a new server's.
const INITIALIZE: &str = "initialize";

/// Bytes rewritten at once.
const REWRITE_CHUNK: usize = 1 << 20;

/// What recovery is told.
#[derive(Clone, Debug)]
pub struct RecoverOptions {
    /// `snapshot.trust.empty`: replay a log without any snapshot over an empty tree.
    pub trust_empty_snapshot: bool,
    /// `db.autocreate`: an empty directory is a new, empty database.
    pub db_autocreate: bool,
    /// A standalone server: there is nobody to ask for what is missing. Otherwise a member of an ensemble, which
    /// moves damage aside and counts as recovering.
    pub standalone: bool,
    /// Largest transaction accepted, in bytes.
    pub txn_max: usize,
    /// Of the marks that are written: 0 for a standalone server. Not asked of a member: recovery reads its files.
    pub current_epoch: u32,
    /// Whether `dataLogDir` is another directory than `dataDir`, whatever the two are called.
    pub separate_log_dir: bool,
    /// The configuration file, for the commands that a refusal names.
    pub config_file: Option<String>,
}

impl Default for RecoverOptions {
    fn default() -> Self {
        Self {
            trust_empty_snapshot: false,
            db_autocreate: true,
            standalone: true,
            txn_max: TXN_MAX,
            current_epoch: 0,
            separate_log_dir: false,
            config_file: None,
        }
    }
}

/// What recovery found and left behind; everything in it is durable.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// The last transaction of the state; the first append follows it.
    pub last_zxid: Zxid,
    /// The snapshot that was loaded.
    pub snapshot_zxid: Option<Zxid>,
    /// Transactions replayed from the log.
    pub replayed: u64,
    /// For the operator, one sentence each.
    pub warnings: Vec<String>,
    /// There was nothing; see [`Recovered::needs_snapshot`].
    pub fresh: bool,
    /// The directory was empty and must not count as an empty database (`db.autocreate=false`): the server
    /// may join a leader, and its vote says that it knows nothing.
    pub voteless: bool,
    /// The mark as it stands on disk.
    pub mark: Mark,
    /// A member: the file `acceptedEpoch`.
    pub accepted: AcceptedEpoch,
    /// A member: the file `currentEpoch`.
    pub current: CurrentEpoch,
    /// A member: whether it remembers everything that it acknowledged. While it may not, its state is what was
    /// left, and of no use but to an operator who accepts the loss.
    pub recovering: Recovering,
    /// A member: there is neither a transaction nor an epoch, and no file `initialize` vouches that there never
    /// was. It counts as one that has forgotten everything as soon as others show an epoch above 0; then
    /// [`LogWriter::raise_recovering`](crate::LogWriter::raise_recovering) comes before it votes.
    pub fresh_without_initialize: bool,
}

impl Recovered {
    /// Whether no snapshot stands behind the state: the directory was new, or a log was replayed over the
    /// empty tree. The caller writes one of the state, then calls [`remove_initialize`], and only then
    /// appends or serves; without it the next start would be refused.
    #[must_use]
    pub const fn needs_snapshot(&self) -> bool {
        self.snapshot_zxid.is_none() && !self.voteless
    }
}

/// Brings the files of a directory into `state` and makes sure that all of it is durable.
///
/// A member's damage is no reason for a refusal: what is bad is moved aside, after
/// [`Recovered::recovering`] has become durable.
///
/// # Errors
/// A [`Refusal`], which says what to do. The content of `state` is then undefined.
pub fn recover<D: Disk>(
    disk: &Arc<D>,
    options: &RecoverOptions,
    state: &mut dyn Restore,
) -> Result<Recovered, Refusal> {
    let disk = &**disk;
    if !options.standalone {
        return member::recover_member(disk, options, state);
    }
    if read_recovering(disk)? != Recovering::No {
        let what = repair_what(disk, options);
        return Err(Refusal::setup(
            None,
            "as a member of its ensemble this server may have forgotten what it acknowledged, and it has not been given \
             everything by a leader since",
            "a start as a member",
            format!("Nothing was changed. `farrier repair {what} --accept-loss` goes on with what is there"),
        ));
    }
    finish_install(disk, options)?;
    // Where a member worked last its mark judges; what is written from here on is no member's.
    let judged = with_epoch(disk, options)?;
    recover_files(disk, &judged, state, &mut |_, _| Ok(options.current_epoch))
}

/// Called with the last transaction, and asked twice: for the epoch that the mark is to carry, before a mark is
/// written, and to write the epoch files, when one mark and all the history are durable.
type Epochs<'e> = dyn FnMut(Zxid, EpochStep) -> DiskResult<u32> + 'e;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum EpochStep {
    Tell,
    Write,
}

/// Whether there is an interrupted installation; or why it can't be finished.
pub(crate) fn install_pends<D: Disk>(disk: &D) -> DiskResult<Result<bool, String>> {
    Ok(pending_install(disk)?.map(|intent| intent.is_some()))
}

fn pending_install<D: Disk>(disk: &D) -> DiskResult<Result<Option<Intent>, String>> {
    match read_intent(disk)? {
        _ if farrier_proto::planted!(IntentIgnored) => Ok(Ok(None)),
        IntentRead::Absent => Ok(Ok(None)),
        IntentRead::Damaged => Ok(Err("the file says nothing that could be carried out".to_owned())),
        IntentRead::Intent(intent) => match intent.verify(disk) {
            Ok(()) => Ok(intent.overtaken(disk)?.map_or(Ok(Some(intent)), Err)),
            Err(SnapshotError::Disk(e)) if e.kind != DiskErrorKind::NotFound => Err(e),
            Err(e) => Ok(Err(e.to_string())),
        },
    }
}

/// An installation that was interrupted is finished before anything else is looked at.
fn finish_install<D: Disk>(disk: &D, options: &RecoverOptions) -> Result<(), Refusal> {
    match pending_install(disk)? {
        Ok(None) => Ok(discard_unnamed(disk)?),
        Ok(Some(intent)) => {
            known_mark(disk, &mut Vec::new())?;
            check_log_is_there(disk, options)?;
            // A process that died may have left the intent's name unsynced, and what it tells of is about to replace
            // everything else.
            disk.sync_dir(Dir::Data)?;
            intent.finish(disk)?;
            Ok(())
        }
        Err(found) => Err(Refusal {
            kind: RefusalKind::Damage,
            file: Some(disk.describe(&intent_path())),
            offset: None,
            found: format!("the installation of a leader's snapshot was interrupted and can't be finished: {found}"),
            expected: "the whole snapshot, and beside it only what it replaces".to_owned(),
            remedy: repair_remedy(disk, options),
        }),
    }
}

/// What was read, when nothing forbids going on.
struct Replayed {
    loaded: Loaded,
    scan: Scan,
    /// The newest mark.
    on_disk: Option<Mark>,
    /// The mark of the epoch in force.
    mark: Option<Mark>,
    warnings: Vec<String>,
}

/// Reads snapshot and log into `state`, and changes nothing.
fn replay<D: Disk>(disk: &D, options: &RecoverOptions, state: &mut dyn Restore) -> Result<Replayed, Refusal> {
    let mut warnings = check_directories(disk, options)?;
    let on_disk = known_mark(disk, &mut warnings)?;
    let mark = mark_of_epoch(disk, options.current_epoch)?.filter(|_| !farrier_proto::planted!(DamageIsATornTail));
    let loaded = load_snapshot(disk, options, Unreadable::IsRefused, state, &mut warnings)?;
    check_loaded(disk, options, &loaded)?;
    let segments = list_segments(disk)?;
    if loaded.snapshot.is_some() {
        check_log_is_there(disk, options)?;
    }
    check_without_snapshot(disk, options, &loaded, &segments)?;
    let after = loaded.snapshot.as_ref().map_or(Zxid::ZERO, |s| s.zxid);
    let bare = loaded.snapshot.is_none();
    let scanner = Scanner { disk, segments: &segments, options, mark, after, bare, unreadable: Unreadable::IsRefused };
    let mut scan = scanner
        .run(&mut |_, bytes| {
            let txn = LoggedTxn::read(bytes).map_err(|e| e.to_string())?;
            state.replay(&txn).map_err(|e| e.0)
        })
        .map_err(|e| e.into_refusal(disk, options))?;
    state.catch_up();
    check_rejected(disk, options, &loaded.rejected, &scan)?;
    check_testified(disk, options, &loaded, &scan)?;
    check_snapshot_is_marked(disk, options, &loaded, on_disk, &scan)?;
    check_temporaries(disk, options, &loaded, &scan)?;
    warnings.append(&mut scan.warnings);
    Ok(Replayed { loaded, scan, on_disk, mark, warnings })
}

/// Brings what is durable into `state` once more, while a [`LogWriter`](crate::LogWriter) is open and does nothing
/// meanwhile. Changes nothing on disk. Answers the last transaction, which is the writer's.
///
/// # Errors
/// A [`Refusal`], also of a member's damage: only a start may move it aside, since only then nobody relies on it.
pub fn reload<D: Disk>(disk: &D, options: &RecoverOptions, state: &mut dyn Restore) -> Result<Zxid, Refusal> {
    let options = with_epoch(disk, options)?;
    Ok(replay(disk, &options, state)?.scan.last)
}

/// From files without an unfinished installation to a state that is durable.
fn recover_files<D: Disk>(
    disk: &D,
    options: &RecoverOptions,
    state: &mut dyn Restore,
    epochs: &mut Epochs<'_>,
) -> Result<Recovered, Refusal> {
    let Replayed { loaded, scan, on_disk, mark, mut warnings } = replay(disk, options, state)?;
    let after = loaded.snapshot.as_ref().map_or(Zxid::ZERO, |s| s.zxid);
    let empty = loaded.snapshot.is_none() && scan.extents.iter().all(|e| e.records == 0);
    let voteless = empty && !options.db_autocreate && !has_initialize(disk)?;
    if voteless && options.standalone {
        return Err(Refusal::setup(
            Some(disk.describe(&DiskPath::new(Dir::DataVersion, ""))),
            "there is no data, and db.autocreate=false forbids to begin with an empty tree",
            "the data, or a file named initialize",
            format!(
                "Bring back the data, or create an empty file {}",
                disk.describe(&DiskPath::new(Dir::Data, INITIALIZE))
            ),
        ));
    }
    let in_force = scan.mark;
    settle(disk, &scan, loaded.snapshot.as_ref(), &mut warnings)?;
    remove_leftovers(disk, loaded.snapshot.as_ref(), empty && !voteless, &mut warnings)?;
    if !farrier_proto::planted!(StartSyncsNoDirectory) {
        for dir in [Dir::LogVersion, Dir::DataVersion, Dir::Log, Dir::Data] {
            disk.sync_dir(dir)?;
        }
    }
    // A log that ends before the snapshot does not bear out a mark, and nothing of it is needed. What comes behind the
    // snapshot may look as if it followed the log's end, so no difference reaches across that.
    let position = scan.extents.iter().rev().find(|e| e.records > 0).filter(|e| e.last == scan.last);
    let is_borne_out = position.is_some() || farrier_proto::planted!(DiffAcrossSnapshot);
    let floor = match (in_force.filter(|_| is_borne_out), on_disk) {
        (Some(mark), _) => mark.floor,
        (None, Some(mark)) => mark.floor.max(after),
        (None, None) => after,
    };
    // The first mark goes into the slot of the one that is not in force, if there is such a one.
    let sequence = match (on_disk, mark) {
        (Some(newest), Some(mark)) if newest.sequence != mark.sequence => newest.sequence.wrapping_add(1),
        (newest, _) => newest.map_or(0, |m| m.sequence),
    };
    let is_marked = mark.is_some();
    let mark = Mark {
        sequence,
        segment: position.map_or(Zxid::ZERO, |e| e.first),
        offset: position.map_or(0, |e| e.end),
        zxid: scan.last,
        epoch: epochs(scan.last, EpochStep::Tell)?,
        floor,
    };
    let mut file = MarkFile::take_over(disk, sequence)?;
    // Until the epoch's file is written a slot has a mark of the old one: that in force or, where there is none, this.
    file.write(disk, if is_marked { mark } else { Mark { epoch: options.current_epoch, ..mark } })?;
    file.sync()?;
    disk.sync_dir(Dir::Log)?;
    // Only now: an epoch tells that its whole initial history is there.
    epochs(scan.last, EpochStep::Write)?;
    file.write(disk, mark)?;
    file.sync()?;
    // What the server acknowledges from here on stands in dataLogDir alone until its next snapshot.
    match own::begin(disk) {
        // Only a later check is without it then.
        Err(e) if e.kind == DiskErrorKind::Full => warnings.push(e.to_string()),
        begun => begun?,
    }
    let mark = file.last();
    Ok(Recovered {
        last_zxid: scan.last,
        snapshot_zxid: loaded.snapshot.map(|s| s.zxid),
        replayed: scan.replayed,
        warnings,
        fresh: empty && !voteless,
        voteless,
        mark,
        ..Recovered::default()
    })
}

/// Removes the marker `initialize`, which has served its purpose once `snapshot.0` is durable.
///
/// # Errors
/// The first failed operation.
pub fn remove_initialize<D: Disk>(disk: &D) -> DiskResult<()> {
    for dir in [Dir::Data, Dir::Log] {
        match disk.remove(&DiskPath::new(dir, INITIALIZE)) {
            Ok(()) => disk.sync_dir(dir)?,
            Err(e) if e.kind == DiskErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn has_initialize<D: Disk>(disk: &D) -> DiskResult<bool> {
    let in_dir = |dir| Ok(disk.list(dir)?.iter().any(|e| e.name == INITIALIZE));
    Ok(in_dir(Dir::Data)? || in_dir(Dir::Log)?)
}

/// Snapshots among logs or the other way round, where the two have directories of their own, mean that
/// the directories were confused; and names that Apache would load and Farrier does not are told.
pub(crate) fn check_directories<D: Disk>(disk: &D, options: &RecoverOptions) -> Result<Vec<String>, Refusal> {
    let sorted = |dir| -> DiskResult<Vec<DirEntry>> {
        let mut entries = disk.list(dir)?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    };
    let (data, log) = (sorted(Dir::DataVersion)?, sorted(Dir::LogVersion)?);
    if options.separate_log_dir || data != log {
        for (entries, dir, prefix, key) in
            [(&data, Dir::DataVersion, "log", "dataLogDir"), (&log, Dir::LogVersion, "snapshot", "dataDir")]
        {
            if let Some(entry) = entries.iter().find(|e| apache_zxid(&e.name, prefix).is_some()) {
                return Err(Refusal {
                    kind: RefusalKind::Misplaced,
                    file: Some(disk.describe(&DiskPath::new(dir, &*entry.name))),
                    offset: None,
                    found: "a file of the other kind, while dataDir and dataLogDir differ".to_owned(),
                    expected: format!("{prefix}.* only in {key}"),
                    remedy: "Check dataDir and dataLogDir, or move the files to where they belong".to_owned(),
                });
            }
        }
    }
    let odd = log.iter().filter(|e| apache_zxid(&e.name, "log").is_some() && parse_log_name(&e.name).is_none());
    Ok(odd
        .map(|e| {
            let file = disk.describe(&DiskPath::new(Dir::LogVersion, &*e.name));
            format!("{file}: not the name of a log segment; it is ignored here, but Apache would read it as one")
        })
        .collect())
}

pub(crate) fn known_mark<D: Disk>(disk: &D, warnings: &mut Vec<String>) -> Result<Option<Mark>, Refusal> {
    let file = disk.describe(&mark_path());
    match read_mark(disk)? {
        MarkRead::Mark(mark) => Ok(Some(mark)),
        MarkRead::Absent => Ok(None),
        MarkRead::Unreadable => {
            warnings.push(format!(
                "{file}: neither copy of the mark is whole; how far the log was synced is judged without it"
            ));
            Ok(None)
        }
        MarkRead::Newer(version) => Err(Refusal::setup(
            Some(file),
            &format!("the mark has format version {version}"),
            &format!("{} at most", crate::mark::MARK_VERSION),
            "Start the newer version of Farrier that wrote it".to_owned(),
        )),
    }
}

/// There are snapshots, and none of them loads.
fn check_loaded<D: Disk>(disk: &D, options: &RecoverOptions, loaded: &Loaded) -> Result<(), Refusal> {
    match &loaded.reason {
        Some((candidates, reason)) if loaded.snapshot.is_none() => Err(Refusal {
            kind: RefusalKind::Damage,
            file: Some(disk.describe(&DiskPath::new(Dir::DataVersion, "snapshot.*"))),
            offset: None,
            found: format!("none of {candidates} snapshots can be loaded; the newest: {reason}"),
            expected: "one whole snapshot".to_owned(),
            remedy: repair_remedy(disk, options),
        }),
        _ => Ok(()),
    }
}

/// Every start makes the mark durable, and then the list of own snapshots. That list with neither mark nor log is what
/// a dataLogDir that is not mounted looks like.
pub(crate) fn check_log_is_there<D: Disk>(disk: &D, options: &RecoverOptions) -> Result<(), Refusal> {
    if !list_segments(disk)?.is_empty() || read_mark(disk)? != MarkRead::Absent || !own::exists(disk)? {
        return Ok(());
    }
    let what = repair_what(disk, options);
    Err(Refusal::setup(
        Some(disk.describe(&mark_path())),
        &format!(
            "neither this file nor any log is there, while {} tells that Farrier has worked here",
            own::describe(disk)
        ),
        "the log directory in which that server worked",
        format!(
            "Nothing was changed. Is dataLogDir mounted, and is it the right one? If the log is lost for good, \
             `farrier repair {what} --accept-loss` goes on with the snapshot alone"
        ),
    ))
}

/// A log without a snapshot: the snapshots were lost, or the data is of 3.4. Where Farrier has never worked nothing tells
/// that anything was lost, so that is no damage, which a member would move aside.
fn check_without_snapshot<D: Disk>(
    disk: &D,
    options: &RecoverOptions,
    loaded: &Loaded,
    segments: &[Segment],
) -> Result<(), Refusal> {
    let missing = loaded.snapshot.is_none() && !options.trust_empty_snapshot;
    let Some(segment) = segments.iter().find(|s| s.len > 0).filter(|_| missing) else { return Ok(()) };
    let is_apaches = loaded.rejected.is_empty() && read_mark(disk)? == MarkRead::Absent && !own::exists(disk)?;
    let (file, found) = match none_whole(disk, loaded) {
        Some(found) => (DiskPath::new(Dir::DataVersion, "snapshot.*"), found),
        None => (log_path(segment.first), "a log, and no snapshot that it could follow".to_owned()),
    };
    let mut remedy = repair_remedy(disk, options);
    if let Some(hint) = trust_empty(loaded, segments) {
        remedy = format!("{remedy}. Before that: {hint}");
    }
    if loaded.rejected.is_empty() {
        remedy = format!("Bring back the snapshots: is the right disk mounted, and is dataDir the right one? {remedy}");
    }
    Err(Refusal {
        kind: if is_apaches { RefusalKind::Setup } else { RefusalKind::Damage },
        file: Some(disk.describe(&file)),
        offset: None,
        found,
        expected: "a whole snapshot; every server writes one before its first transaction".to_owned(),
        remedy,
    })
}

/// What brings everything back where only the snapshots are gone, if the log may begin where the data does. That epoch 1 does is
/// not certain: a server alone may have written before, or a leader have sent what was before.
pub(crate) fn trust_empty(loaded: &Loaded, segments: &[Segment]) -> Option<String> {
    let first = segments.iter().find(|s| s.len > 0)?.first;
    let is_behind_another = loaded.rejected.iter().any(|s| s.zxid > Zxid::ZERO && s.zxid < first);
    let may_be_the_first = first.epoch() <= 1 && first.follows(Zxid::ZERO) && !is_behind_another;
    may_be_the_first.then(|| {
        format!(
            "if the very first transaction of this data is {first}, with which the log begins, it needs no snapshot: move the files \
             snapshot.* elsewhere, if any are left, and set snapshot.trust.empty=true for one start"
        )
    })
}

/// Where there are snapshots, and none even ends as one: what is wrong with the newest.
pub(crate) fn none_whole<D: Disk>(disk: &D, loaded: &Loaded) -> Option<String> {
    let newest = loaded.rejected.first().filter(|_| loaded.snapshot.is_none())?;
    let n = loaded.rejected.len();
    Some(match measure_snapshot(disk, &newest.path) {
        Err(error) => format!("none of {n} snapshots is whole; the newest: {error}"),
        Ok(_) => format!("none of {n} snapshots is whole; the newest: {}", disk.describe(&newest.path)),
    })
}

/// An older snapshot and the log replace a newer one only if the log shows that it has everything.
pub(crate) fn check_rejected<D: Disk>(
    disk: &D,
    options: &RecoverOptions,
    rejected: &[SnapshotFile],
    scan: &Scan,
) -> Result<(), Refusal> {
    for snapshot in rejected.iter().filter(|s| s.regular) {
        let beyond = snapshot.zxid > scan.last;
        let bridged = scan.jumps.iter().any(|(from, to)| *from < snapshot.zxid && snapshot.zxid < *to);
        if beyond || bridged {
            return Err(Refusal {
                kind: RefusalKind::Damage,
                file: Some(disk.describe(&snapshot.path)),
                offset: None,
                found: "this snapshot is not whole, and the log does not show that it holds the same".to_owned(),
                expected: format!("a whole snapshot, or log records up to zxid {}", snapshot.zxid),
                remedy: repair_remedy(disk, options),
            });
        }
    }
    Ok(())
}

/// The last transaction of which the loaded snapshot may hold effects.
pub(crate) fn testified(loaded: &Loaded) -> Zxid {
    loaded.read.as_ref().map_or(Zxid::ZERO, SnapshotRead::testified)
}

/// A log that ends before what the snapshot tells of has lost something, and its zxids would be given twice.
pub(crate) fn check_testified<D: Disk>(
    disk: &D,
    options: &RecoverOptions,
    loaded: &Loaded,
    scan: &Scan,
) -> Result<(), Refusal> {
    let testified = testified(loaded);
    match &loaded.snapshot {
        Some(snapshot) if testified > scan.last => Err(Refusal {
            kind: RefusalKind::Damage,
            file: Some(disk.describe(&snapshot.path)),
            offset: None,
            found: format!("this snapshot holds effects up to zxid {testified}, and the log ends with {}", scan.last),
            expected: format!("log records up to zxid {testified}"),
            remedy: repair_remedy(disk, options),
        }),
        _ => Ok(()),
    }
}

/// Log and mark are durable up to a snapshot of our own before it is begun, and a cut takes it before the log. If neither
/// reaches it, dataLogDir is of an earlier time: what was acknowledged behind the snapshot is lost with its log.
pub(crate) fn check_snapshot_is_marked<D: Disk>(
    disk: &D,
    options: &RecoverOptions,
    loaded: &Loaded,
    newest: Option<Mark>,
    scan: &Scan,
) -> Result<(), Refusal> {
    let (Some(snapshot), Some(read), Some(mark)) = (&loaded.snapshot, &loaded.read, newest) else { return Ok(()) };
    if !options.separate_log_dir {
        // No part of it is of another time, but a copy of a directory in use may have its files in that order.
        return Ok(());
    }
    let is_reached = mark.zxid >= snapshot.zxid || scan.extents.iter().any(|e| e.last >= snapshot.zxid);
    if is_reached || !own::is_own(disk, snapshot, read.seal)? {
        return Ok(());
    }
    Err(Refusal {
        kind: RefusalKind::Damage,
        file: Some(disk.describe(&snapshot.path)),
        offset: None,
        found: format!(
            "Farrier wrote this snapshot after its log was synced up to it, and {} tells of zxid {} at most",
            disk.describe(&mark_path()),
            mark.zxid
        ),
        expected: format!("a log up to zxid {} or beyond", snapshot.zxid),
        remedy: scan::missing_remedy(disk, options),
    })
}

/// Half-written snapshots that go: Apache's left-overs that are not whole, or that the log has overtaken.
fn is_temporary(file: &SnapshotFile, loaded: Option<&SnapshotFile>) -> bool {
    name_to_be(file).is_some() && loaded.is_none_or(|s| s.path != file.path)
}

/// Whole ones that are newer than everything else. Their server may have acknowledged what they hold: nothing makes the
/// names that Apache gives durable.
pub(crate) fn newer_temporaries<D: Disk>(
    disk: &D,
    loaded: &Loaded,
    last: Zxid,
    unreadable: Unreadable,
) -> DiskResult<Vec<SnapshotFile>> {
    let mut newer = Vec::new();
    for file in list_snapshots(disk)? {
        if file.zxid > last
            && is_temporary(&file, loaded.snapshot.as_ref())
            && let Some(name) = name_to_be(&file)
            && unreadable.tolerate(may_be_whole(disk, &file, name))?.unwrap_or(true)
        {
            newer.push(file);
        }
    }
    Ok(newer)
}

/// A whole snapshot that was not renamed any more may hold what nothing else does.
pub(crate) fn check_temporaries<D: Disk>(
    disk: &D,
    options: &RecoverOptions,
    loaded: &Loaded,
    scan: &Scan,
) -> Result<(), Refusal> {
    let Some(file) = newer_temporaries(disk, loaded, scan.last, Unreadable::IsRefused)?.into_iter().next() else {
        return Ok(());
    };
    Err(Refusal {
        kind: RefusalKind::Damage,
        file: Some(disk.describe(&file.path)),
        offset: None,
        found: format!("a snapshot that never got its name, and the rest ends with zxid {}", scan.last),
        expected: format!("log records up to zxid {}", file.zxid),
        remedy: format!(
            "Rename it to {} to start with it. {}",
            name_to_be(&file).unwrap_or(&file.path.name),
            repair_remedy(disk, options)
        ),
    })
}

/// Carries out on the log what the scan found, and makes it durable.
fn settle<D: Disk>(
    disk: &D,
    scan: &Scan,
    snapshot: Option<&SnapshotFile>,
    warnings: &mut Vec<String>,
) -> DiskResult<()> {
    for extent in &scan.extents {
        let path = log_path(extent.first);
        if extent.records == 0 && (extent.first > scan.last || extent.end == 0) {
            // Free the name for the transaction that will have it; Apache would stumble over a bad header.
            match extent.rest {
                Some(Rest { why: Why::Header(SegmentHeader::BadMagic(_)) }) => {
                    // This was never cut short by a crash. Somebody may still make sense of it.
                    let mut aside = Aside::new(disk)?;
                    aside.take(&path)?;
                    warnings.push(format!(
                        "{}: no log segment; kept as {}",
                        disk.describe(&path),
                        aside.moved.join(", ")
                    ));
                }
                _ => disk.remove(&path)?,
            }
            continue;
        }
        let from = match scan.mark {
            Some(mark) if extent.first < mark.segment => extent.end,
            Some(mark) if extent.first == mark.segment => mark.offset,
            _ => 0,
        };
        let cut = extent.rest.is_some() && !farrier_proto::planted!(TornTailKept);
        if !cut && from >= extent.end {
            continue;
        }
        let file = disk.open(&path, OpenMode::Write)?;
        if cut {
            file.set_len(extent.end.max(FIRST_RECORD))?;
        }
        if !farrier_proto::planted!(ReplayedNotRewritten) {
            rewrite(&file, from, extent.end)?;
            file.sync()?;
        }
    }
    if let Some(snapshot) = snapshot {
        // Apache renames snapshots without syncing them, and this one is about to be relied on.
        disk.open(&snapshot.path, OpenMode::Read)?.sync()?;
    }
    Ok(())
}

/// Writes the same bytes in the same place, so that a sync has something to do even where an earlier,
/// failed one left the pages clean.
fn rewrite<F: DiskFile>(file: &F, mut from: u64, to: u64) -> DiskResult<()> {
    let mut buf = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(REWRITE_CHUNK).min(REWRITE_CHUNK)];
    while from < to {
        let want = usize::try_from(to - from).unwrap_or(REWRITE_CHUNK).min(buf.len());
        let got = file.read_at(from, &mut buf[..want])?;
        assert!(got > 0, "the segment was this long a moment ago");
        file.write_at(from, &buf[..got])?;
        from += got as u64;
    }
    Ok(())
}

/// Removes what an interrupted process left under names that only Farrier uses, half-written snapshots
/// that Apache would load, and `initialize`, unless `keep_initialize`.
fn remove_leftovers<D: Disk>(
    disk: &D,
    snapshot: Option<&SnapshotFile>,
    keep_initialize: bool,
    warnings: &mut Vec<String>,
) -> DiskResult<()> {
    let keep_next = prepared_len(disk)?.is_some();
    for entry in disk.list(Dir::LogVersion)? {
        let ours = matches!(entry.name.as_str(), NEW_NAME | NEXT_TMP_NAME) || (entry.name == NEXT_NAME && !keep_next);
        if ours {
            disk.remove(&DiskPath::new(Dir::LogVersion, entry.name))?;
        }
    }
    remove_temporaries(disk)?;
    for entry in disk.list(Dir::Data)? {
        let ours = [own::TEMPORARY, install::TEMPORARY, recovering::TEMPORARY, pending::TEMPORARY];
        if ours.contains(&entry.name.as_str()) {
            disk.remove(&DiskPath::new(Dir::Data, entry.name))?;
        }
    }
    for file in list_snapshots(disk)? {
        if is_temporary(&file, snapshot) {
            warnings.push(format!("{}: left over from an interrupted write; removed", disk.describe(&file.path)));
            disk.remove(&file.path)?;
        }
    }
    if keep_initialize { Ok(()) } else { remove_initialize(disk) }
}

#[cfg(test)]
mod tests;
