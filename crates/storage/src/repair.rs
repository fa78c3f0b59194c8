//! `farrier repair`: what is wrong with a directory, and how to go on without what is lost.
//!
//! Owns the verdict for the operator and the moving aside of bad files. It never deletes: what it takes
//! out of a server's way stays beside it as `farrier.damaged.<n>.<old name>`, a name that neither Apache
//! nor Farrier loads. Nothing changes without [`accept_loss`].
//!
//! Order of durable steps: the damaged segment is copied aside, up to where only zeros are left; later segments are
//! renamed, newest first; then bad snapshots; only then the segment is cut; the mark comes last. A crash between any two
//! leaves a directory that is refused again, or one that starts with just what the repair would have kept.
//!
//! A file that the disk does not give refuses a start, since the next read may succeed. Whoever asks for a repair is told
//! of it as of damage: a snapshot is moved aside, and a segment is cut before the place.

use crate::aside::Aside;
pub use crate::aside::DAMAGED_PREFIX;
use crate::compress::{Compression, Stream, split_error};
use crate::disk::{Dir, Disk, DiskFile, DiskPath, DiskResult, OpenMode};
use crate::epochs::{NumberError, accepted_epoch_path, current_epoch_path, read_current_epoch};
use crate::log::install::intent_path;
use crate::mark::{Mark, MarkFile, mark_of_epoch};
use crate::record::Decoded;
use crate::recover::scan::{Damage, Scan, ScanError, Scanner};
use crate::recover::{
    Loaded, RecoverOptions, Refusal, RefusalKind, Unreadable, check_directories, check_log_is_there, check_rejected,
    check_snapshot_is_marked, check_testified, install_pends, known_mark, load_snapshot, newer_temporaries, none_whole,
    testified, trust_empty, with_epoch,
};
use crate::recovering::{Recovering, clear_recovering, read_recovering};
use crate::segment::{FIRST_RECORD, Segment, SegmentReader, list_segments, log_path};
use crate::snapshot::{SNAPSHOT_TEMPORARY, SnapshotFile, name_to_be, snapshot_name};
use crate::state::{LoggedTxn, Restore};
use farrier_proto::Zxid;
use farrier_proto::txn::read_header;
use std::fmt;
use std::io::Read;

/// Rounds of examining and moving aside. Each takes a file away or shortens one; a few suffice.
const ROUNDS_MAX: usize = 64;

/// Good records are searched behind a bad one this often, to tell what may be lost.
const SEARCHES_MAX: usize = 64;

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The file, as the operator knows it.
    pub file: Option<String>,
    /// Where in it.
    pub offset: Option<u64>,
    /// What is wrong, and what was expected.
    pub problem: String,
    /// What [`accept_loss`] does about it.
    pub remedy: String,
}

/// Transactions that are not among what remains.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loss {
    /// The last one that remains.
    pub after: Zxid,
    /// The last one that is known to have existed. There may have been later ones.
    pub up_to: Zxid,
}

/// The state of a directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// The snapshot that loads.
    pub snapshot: Option<Zxid>,
    /// The last transaction that snapshot and log lead to.
    pub last: Zxid,
    /// What is wrong; empty if a server starts on it.
    pub findings: Vec<Finding>,
    /// What accepting the loss gives up.
    pub loss: Option<Loss>,
    /// What is odd and harms nothing.
    pub warnings: Vec<String>,
}

impl Report {
    /// Whether a server starts on this directory.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    /// A member without a vote: it starts, but an operator may want it back.
    fn add_recovering(&mut self, recovering: Recovering) {
        let problem = match recovering {
            Recovering::No => return,
            Recovering::History => "transactions that this member acknowledged may be missing",
            Recovering::Promise => {
                "transactions that this member acknowledged, and epochs that it promised, may be missing"
            }
        };
        self.findings.push(Finding {
            file: None,
            offset: None,
            problem: format!("{problem}; it has no vote until a leader has given it everything"),
            remedy:
                "it votes with what it has. Only where no leader can be elected otherwise: the ensemble may lose what \
                     it had acknowledged"
                    .to_owned(),
        });
        self.loss.get_or_insert(Loss { after: self.last, up_to: self.last });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.snapshot {
            Some(zxid) => writeln!(f, "snapshot: {zxid}")?,
            None => writeln!(f, "snapshot: none that loads")?,
        }
        writeln!(f, "last transaction: {}", self.last)?;
        for finding in &self.findings {
            write!(f, "damaged: ")?;
            if let Some(file) = &finding.file {
                write!(f, "{file}")?;
                if let Some(offset) = finding.offset {
                    write!(f, ", offset {offset}")?;
                }
                write!(f, ": ")?;
            }
            writeln!(f, "{}\n  with --accept-loss: {}", finding.problem, finding.remedy)?;
        }
        for warning in &self.warnings {
            writeln!(f, "note: {warning}")?;
        }
        match self.loss {
            Some(Loss { after, up_to }) if up_to > after => {
                writeln!(f, "may be lost: every transaction after zxid {after}; known of are those up to {up_to}")
            }
            Some(Loss { after, .. }) => writeln!(f, "may be lost: transactions after zxid {after}, if there were any"),
            None => Ok(()),
        }
    }
}

/// What accepting the loss did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Repaired {
    /// The directory as it was found.
    pub before: Report,
    /// The directory as it is now.
    pub after: Report,
    /// Copies and moved files, as the operator knows them.
    pub aside: Vec<String>,
}

/// What one look found, with what is needed to act on it.
struct Look {
    report: Report,
    loaded: Loaded,
    segments: Vec<Segment>,
    mark: Option<Mark>,
    scan: Option<Scan>,
    damage: Option<Damage>,
    /// The snapshots that were rejected have to go.
    bad_snapshots: bool,
    /// The log directory is not the one that the snapshot's server had.
    log_is_gone: bool,
    /// The loaded snapshot tells of more than there is.
    testifies: bool,
    /// Whole snapshots without a proper name that are newer than all else.
    temporaries: Vec<SnapshotFile>,
    /// An installation that was interrupted and can't be finished.
    bad_intent: bool,
}

impl Look {
    fn check_log_is_there<D: Disk>(&mut self, disk: &D, options: &RecoverOptions) -> Result<(), Refusal> {
        match check_log_is_there(disk, options) {
            Err(refusal) if refusal.kind == RefusalKind::Setup => {
                self.log_is_gone = true;
                self.report.findings.push(Finding {
                    file: refusal.file,
                    offset: None,
                    problem: format!("{}; expected {}. Is dataLogDir mounted?", refusal.found, refusal.expected),
                    remedy: "the server goes on with the snapshot alone".to_owned(),
                });
                Ok(())
            }
            other => other,
        }
    }
}

/// Looks at a directory and changes nothing. `state` is filled on the way, so that a tree which cannot
/// take a record is found out too; its content is of no use afterwards.
///
/// # Errors
/// A [`Refusal`] where the files are not what has to be repaired: a failing disk, a limit that is too
/// small, directories that were confused.
pub fn examine<D: Disk>(disk: &D, options: &RecoverOptions, state: &mut dyn Restore) -> Result<Report, Refusal> {
    let options = &with_epoch(disk, options)?;
    let mut report = look(disk, options, Unreadable::IsDamage, state)?.report;
    if !options.standalone {
        report.add_recovering(read_recovering(disk)?);
    }
    Ok(report)
}

/// Whether the files are a member's, where nobody says whose they are: under its epoch the mark is in force. Those of a
/// server that worked alone last are not, whatever it was before: its marks are of epoch 0.
///
/// # Errors
/// The disk failed, or a newer version wrote the mark.
pub fn is_members<D: Disk>(disk: &D) -> Result<bool, Refusal> {
    let files = [accepted_epoch_path(), current_epoch_path()];
    let any = disk.list(Dir::DataVersion)?.iter().any(|entry| files.iter().any(|file| file.name == entry.name));
    let current = match read_current_epoch(disk) {
        Err(NumberError::Disk(e)) => return Err(e.into()),
        Err(NumberError::Value { .. }) | Ok(None) => 0,
        Ok(Some(epoch)) => epoch.0,
    };
    let alone = known_mark(disk, &mut Vec::new())?.is_some_and(|mark| mark.epoch == 0) && current > 0;
    Ok(any && !alone)
}

/// Moves what is bad aside, so that a server starts on what is left, and tells what that was. A member then has its
/// vote again. Does nothing to a sound directory.
///
/// # Errors
/// As [`examine`]; it can simply be called again.
pub fn accept_loss<D: Disk>(disk: &D, options: &RecoverOptions, state: &mut dyn Restore) -> Result<Repaired, Refusal> {
    let options = &with_epoch(disk, options)?;
    let mut repaired = move_aside(disk, options, Unreadable::IsDamage, state)?;
    let recovering = read_recovering(disk)?;
    if recovering != Recovering::No {
        repaired.before.add_recovering(recovering);
        clear_recovering(disk)?;
    }
    Ok(repaired)
}

/// The moving aside, which leaves a member what it is. What cannot be read may be read the next time.
pub(crate) fn set_aside<D: Disk>(
    disk: &D,
    options: &RecoverOptions,
    state: &mut dyn Restore,
) -> Result<Repaired, Refusal> {
    move_aside(disk, options, Unreadable::IsRefused, state)
}

fn move_aside<D: Disk>(
    disk: &D,
    options: &RecoverOptions,
    unreadable: Unreadable,
    state: &mut dyn Restore,
) -> Result<Repaired, Refusal> {
    let mut aside = Aside::of(disk, unreadable)?;
    let mut before = None;
    for _ in 0..ROUNDS_MAX {
        state.reset();
        let look = look(disk, options, unreadable, state)?;
        let before = before.get_or_insert_with(|| look.report.clone());
        if look.report.is_sound() {
            return Ok(Repaired { before: before.clone(), after: look.report, aside: aside.moved });
        }
        repair_once(disk, options, &look, &mut aside)?;
    }
    Err(Refusal {
        kind: RefusalKind::Damage,
        file: None,
        offset: None,
        found: format!("still damaged after {ROUNDS_MAX} rounds of moving files aside"),
        expected: String::new(),
        remedy: "Keep a copy of the directory, and report this".to_owned(),
    })
}

fn look<D: Disk>(
    disk: &D,
    options: &RecoverOptions,
    unreadable: Unreadable,
    state: &mut dyn Restore,
) -> Result<Look, Refusal> {
    let mut report = Report { warnings: check_directories(disk, options)?, ..Report::default() };
    let mark = known_mark(disk, &mut report.warnings)?;
    let loaded = load_snapshot(disk, options, unreadable, state, &mut report.warnings)?;
    let segments = list_segments(disk)?;
    report.snapshot = loaded.snapshot.as_ref().map(|s| s.zxid);
    let after = report.snapshot.unwrap_or(Zxid::ZERO);
    report.last = after;
    let mut look = Look {
        report,
        loaded,
        segments,
        mark,
        scan: None,
        damage: None,
        bad_snapshots: false,
        log_is_gone: false,
        testifies: false,
        temporaries: Vec::new(),
        bad_intent: false,
    };

    let pends = match install_pends(disk) {
        Err(e) if unreadable.is_damage(&e) => Err(e.to_string()),
        other => other?,
    };
    match pends {
        Ok(false) => {}
        Ok(true) => {
            let note = "a leader's snapshot is being installed; the next start finishes that first";
            look.report.warnings.push(note.to_owned());
            look.check_log_is_there(disk, options)?;
            return Ok(look);
        }
        Err(problem) => {
            look.bad_intent = true;
            look.report.findings.push(Finding {
                file: Some(disk.describe(&intent_path())),
                offset: None,
                problem: format!("the installation of a leader's snapshot can't be finished: {problem}"),
                remedy: "it is given up".to_owned(),
            });
        }
    }

    let log_exists = look.segments.iter().any(|s| s.len > 0);
    let none_loads = look.loaded.reason.as_ref().filter(|_| look.loaded.snapshot.is_none());
    if look.loaded.snapshot.is_none() && (none_loads.is_some() || (log_exists && !options.trust_empty_snapshot)) {
        let problem = match none_loads {
            Some((candidates, reason)) => format!("none of {candidates} snapshots can be loaded; the newest: {reason}"),
            None => none_whole(disk, &look.loaded)
                .unwrap_or_else(|| "there is a log, and no snapshot that it could follow".to_owned()),
        };
        let hint = trust_empty(&look.loaded, &look.segments);
        let kept = hint.map_or_else(String::new, |hint| format!(". Before that: {hint}"));
        look.bad_snapshots = true;
        look.report.findings.push(Finding {
            file: None,
            offset: None,
            problem,
            remedy: format!("all snapshots and logs are moved aside, and the server starts empty{kept}"),
        });
        look.report.last = Zxid::ZERO;
        look.report.loss = Some(Loss { after: Zxid::ZERO, up_to: known(disk, options, unreadable, &look, None)? });
        return Ok(look);
    }
    if look.loaded.snapshot.is_some() {
        look.check_log_is_there(disk, options)?;
    }
    for (snapshot, error) in &look.loaded.unreadable {
        look.bad_snapshots = true;
        look.report.findings.push(Finding {
            file: Some(disk.describe(&snapshot.path)),
            offset: None,
            problem: error.to_string(),
            remedy: "the snapshot is moved aside".to_owned(),
        });
    }
    let epoch_mark = mark_of_epoch(disk, options.current_epoch)?;
    let scanner = Scanner {
        disk,
        segments: &look.segments,
        options,
        mark: epoch_mark,
        after,
        bare: look.loaded.snapshot.is_none(),
        unreadable,
    };
    let mut last = after;
    let scanned = scanner.run(&mut |header, bytes| {
        let txn = LoggedTxn::read(bytes).map_err(|e| e.to_string())?;
        state.replay(&txn).map_err(|e| e.0)?;
        last = header.zxid;
        Ok(())
    });
    look.report.last = last;
    match scanned {
        Ok(mut scan) => {
            look.report.warnings.append(&mut scan.warnings);
            if let Err(refusal) = check_rejected(disk, options, &look.loaded.rejected, &scan) {
                look.bad_snapshots = true;
                look.report.findings.push(Finding {
                    file: refusal.file,
                    offset: None,
                    problem: format!("{}; expected {}", refusal.found, refusal.expected),
                    remedy: "the snapshot is moved aside".to_owned(),
                });
            }
            if let Err(refusal) = check_testified(disk, options, &look.loaded, &scan) {
                look.testifies = true;
                look.report.findings.push(Finding {
                    file: refusal.file,
                    offset: None,
                    problem: format!("{}; expected {}", refusal.found, refusal.expected),
                    remedy: "it is kept aside, and used without its trailers".to_owned(),
                });
            }
            if let Err(refusal) = check_snapshot_is_marked(disk, options, &look.loaded, look.mark, &scan) {
                look.report.findings.push(Finding {
                    file: refusal.file,
                    offset: None,
                    problem: format!("{}; expected {}", refusal.found, refusal.expected),
                    remedy: "the server goes on with what is there; better bring the log back, if it still exists"
                        .to_owned(),
                });
            }
            look.temporaries = newer_temporaries(disk, &look.loaded, scan.last, unreadable)?;
            for file in &look.temporaries {
                look.report.findings.push(Finding {
                    file: Some(disk.describe(&file.path)),
                    offset: None,
                    problem: format!("a snapshot that never got its name, while the rest ends with zxid {}", scan.last),
                    remedy: format!(
                        "it is moved aside. To use it instead, rename it to {}",
                        name_to_be(file).unwrap_or(&file.path.name)
                    ),
                });
            }
            look.scan = Some(scan);
        }
        Err(ScanError::Damage(damage)) => {
            look.report.findings.push(finding(disk, &damage));
            look.damage = Some(damage);
        }
        Err(other) => return Err(other.into_refusal(disk, options)),
    }
    if !look.report.is_sound() {
        let up_to = known(disk, options, unreadable, &look, look.damage.as_ref())?;
        look.report.loss = Some(Loss { after: last, up_to });
    }
    Ok(look)
}

fn finding<D: Disk>(disk: &D, damage: &Damage) -> Finding {
    let remedy = match damage.offset {
        None if damage.missing => {
            "the mark is set back to what is there; better bring the file back, if it still exists"
        }
        None => "the mark is set back to what is there",
        Some(offset) if offset <= FIRST_RECORD => "this segment and all later ones are moved aside",
        Some(_) => "the segment is copied aside and cut here, and all later ones are moved aside",
    };
    Finding {
        file: damage.file(disk),
        offset: damage.offset,
        problem: format!("{}; expected {}", damage.found, damage.expected),
        remedy: remedy.to_owned(),
    }
}

/// The last transaction that anything on disk tells of: mark, names, and good records behind the bad one.
fn known<D: Disk>(
    disk: &D,
    options: &RecoverOptions,
    unreadable: Unreadable,
    look: &Look,
    damage: Option<&Damage>,
) -> DiskResult<Zxid> {
    let mut up_to = look.mark.map_or(Zxid::ZERO, |m| m.zxid).max(testified(&look.loaded));
    for snapshot in &look.temporaries {
        up_to = up_to.max(snapshot.zxid);
    }
    for snapshot in look.loaded.rejected.iter().filter(|s| s.regular) {
        up_to = up_to.max(snapshot.zxid);
    }
    let (from, offset) = match damage {
        Some(Damage { segment: Some(segment), offset: Some(offset), .. }) => (*segment, *offset),
        Some(_) => return Ok(up_to),
        None => (Zxid::ZERO, 0),
    };
    for segment in look.segments.iter().filter(|s| s.first >= from) {
        let at = if segment.first == from { offset.max(FIRST_RECORD) } else { FIRST_RECORD };
        unreadable.tolerate(known_of(disk, options, segment.first, at, &mut up_to))?;
    }
    Ok(up_to)
}

/// The same of one segment from `at` on.
fn known_of<D: Disk>(
    disk: &D,
    options: &RecoverOptions,
    segment: Zxid,
    mut at: u64,
    up_to: &mut Zxid,
) -> DiskResult<()> {
    let mut reader = SegmentReader::open(disk, &log_path(segment), options.txn_max)?;
    for _ in 0..SEARCHES_MAX {
        while let Decoded::Good(txn) = reader.record(at)? {
            let len = crate::record::record_len(txn.len()) as u64;
            if let Ok(header) = read_header(txn)
                && header.zxid.to_wire() > 0
            {
                *up_to = (*up_to).max(header.zxid);
            }
            at += len;
        }
        match reader.valid_record_after(at, Zxid::ZERO)? {
            Some(next) if matches!(reader.record(next)?, Decoded::Good(_)) => at = next,
            _ => break,
        }
    }
    Ok(())
}

/// One round: everything that this look found.
fn repair_once<D: Disk>(
    disk: &D,
    options: &RecoverOptions,
    look: &Look,
    aside: &mut Aside<'_, D>,
) -> Result<(), Refusal> {
    let (from, cut) = match &look.damage {
        Some(Damage { segment: Some(segment), offset: Some(offset), .. }) => {
            (Some(*segment), (*offset > FIRST_RECORD).then_some((*segment, *offset)))
        }
        // The log is sound and too short: nothing to move.
        Some(_) => (None, None),
        // Without any snapshot the whole log goes; otherwise only snapshots do.
        None => (look.scan.is_none().then_some(Zxid::ZERO), None),
    };
    if look.bad_intent {
        aside.take(&intent_path())?;
    }
    if let Some((segment, _)) = cut {
        aside.copy(&log_path(segment))?;
    }
    let doomed = |s: &&Segment| from.is_some_and(|from| s.first >= from) && cut.is_none_or(|(kept, _)| s.first != kept);
    for segment in look.segments.iter().rev().filter(doomed) {
        aside.take(&log_path(segment.first))?;
    }
    if look.bad_snapshots {
        for snapshot in &look.loaded.rejected {
            aside.take(&snapshot.path)?;
        }
    }
    for snapshot in &look.temporaries {
        aside.take(&snapshot.path)?;
    }
    if look.testifies
        && let (Some(snapshot), Some(read)) = (&look.loaded.snapshot, &look.loaded.read)
    {
        without_trailers(disk, snapshot, read.body, aside)?;
    }
    if let Some((segment, offset)) = cut {
        let file = disk.open(&log_path(segment), OpenMode::Write)?;
        file.set_len(offset)?;
        file.sync()?;
    }
    if look.mark.is_some() || look.log_is_gone {
        // Only what was found is claimed, and nothing about where: the next start judges the log's end
        // without it, and writes a proper one.
        let last = if look.scan.is_none() && look.damage.is_none() { Zxid::ZERO } else { look.report.last };
        let old = look.mark.unwrap_or_default();
        let mark = Mark {
            sequence: old.sequence,
            segment: Zxid::ZERO,
            offset: 0,
            zxid: last,
            epoch: options.current_epoch,
            floor: old.floor.min(last),
        };
        MarkFile::create(disk, mark)?;
    }
    Ok(())
}

/// Replaces a snapshot by its part before the trailers, which every reader accepts.
fn without_trailers<D: Disk>(
    disk: &D,
    snapshot: &SnapshotFile,
    len: u64,
    aside: &mut Aside<'_, D>,
) -> Result<(), Refusal> {
    let plain = DiskPath::new(Dir::DataVersion, snapshot_name(snapshot.zxid, Compression::Plain));
    if plain == snapshot.path {
        aside.copy(&plain)?;
    }
    let temporary = DiskPath::new(Dir::DataVersion, format!("{SNAPSHOT_TEMPORARY}{:x}", snapshot.zxid.get()));
    let mut from = Stream::new(disk.open(&snapshot.path, OpenMode::Read)?, snapshot.compression).take(len);
    let file = disk.open(&temporary, OpenMode::CreateTruncate)?;
    let mut buf = vec![0; 1 << 16];
    let mut at = 0;
    loop {
        let got = from.read(&mut buf).map_err(|e| match split_error(e) {
            Ok(error) => Refusal::disk(&error),
            Err(message) => Refusal {
                kind: RefusalKind::Damage,
                file: Some(disk.describe(&snapshot.path)),
                offset: None,
                found: message,
                expected: "what was read a moment ago".to_owned(),
                remedy: "Check the disk".to_owned(),
            },
        })?;
        if got == 0 {
            break;
        }
        file.write_at(at, &buf[..got])?;
        at += got as u64;
    }
    file.sync()?;
    disk.rename(&temporary, &plain)?;
    disk.sync_dir(Dir::DataVersion)?;
    if plain != snapshot.path {
        aside.take(&snapshot.path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
