//! What is wrong with log files: all of it, for people who look at files, one after the other.
//!
//! Recovery stops at the first thing that it must not pass over, and reads only what follows a snapshot.
//! This reads every record of every file that it is given, by the same rules, and goes on behind what it
//! found. It changes nothing and keeps nothing but what the next record is compared with.

use crate::aside::DAMAGED_PREFIX;
use crate::disk::{Dir, Disk, DiskPath, DiskResult};
use crate::epochs::read_current_epoch;
use crate::log::follows;
use crate::mark::{Mark, MarkRead, mark_of_epoch, mark_path, read_mark};
use crate::record::{Decoded, Stop, record_len};
use crate::recover::scan::Why;
use crate::segment::{FIRST_RECORD, SegmentHeader, SegmentReader, apache_zxid, before, list_segments, log_path};
use crate::snapshot::list_snapshots;
use farrier_proto::txn::{read_header, read_txn};
use farrier_proto::{TxnHeader, Zxid};
use std::fmt;

/// Longest transaction that the format can name, in bytes. Nobody says under which limit a file was
/// written, so everything is read; memory is bounded by the file's own length.
pub const ANY_TXN: usize = 0x7fff_ffff;

/// What a finding means for a server that starts on the files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Worth knowing; nothing is lost.
    Note,
    /// The end of a write that was never acknowledged. A start cuts it off.
    Torn,
    /// Something is missing or was changed. Where a server needs it, it refuses to start.
    Damage,
}

/// One thing that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What it means.
    pub severity: Severity,
    /// The file as the operator knows it.
    pub file: String,
    /// Where in the file, in bytes.
    pub offset: Option<u64>,
    /// What was found.
    pub found: String,
    /// What should be there; empty where that is plain.
    pub expected: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(offset) = self.offset {
            write!(f, ", offset {offset}")?;
        }
        write!(f, ": {}", self.found)?;
        if self.expected.is_empty() { Ok(()) } else { write!(f, "; expected {}", self.expected) }
    }
}

/// A file that was read to the end of its good part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedLog {
    /// The file as the operator knows it.
    pub file: String,
    /// Good records.
    pub records: u64,
    /// The first of them.
    pub first: Option<Zxid>,
    /// The last of them.
    pub last: Option<Zxid>,
    /// Behind the last good record; 0 if not even the header is good.
    pub end: u64,
    /// Bytes in the file.
    pub len: u64,
}

/// The name that a file had before recovery or repair moved it aside.
#[must_use]
pub fn name_before_aside(name: &str) -> &str {
    let Some(rest) = name.strip_prefix(DAMAGED_PREFIX) else { return name };
    match rest.split_once('.') {
        Some((number, name)) if number.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => name,
    }
}

/// Bytes behind a file's good part that no later record has shown to be harmless yet.
#[derive(Debug)]
struct Unclean {
    path: DiskPath,
    file: String,
    at: u64,
    why: Why,
}

/// Reads log files in the order of their zxids.
#[derive(Debug)]
pub struct LogVerifier<'d, D> {
    disk: &'d D,
    /// The mark beside the files, if it may tell of them.
    mark: Option<Mark>,
    /// Its segment was read, and a record ends where it says.
    mark_fits: bool,
    mark_segment_read: bool,
    /// The newest segment of the directory that has any bytes.
    newest: Option<Zxid>,
    /// Of the snapshots beside the files, ascending.
    snapshots: Vec<Zxid>,
    /// The last transaction, unless what came before is unknown.
    last: Option<Zxid>,
    unclean: Option<Unclean>,
    /// Damage was told of.
    damaged: bool,
}

/// Called with each finding.
pub type Report<'r> = dyn FnMut(Finding) + 'r;

impl<'d, D: Disk> LogVerifier<'d, D> {
    /// Looks at what lies beside the files: mark, epoch, snapshots.
    ///
    /// # Errors
    /// A directory that can't be listed, or a mark that can't be read.
    pub fn new(disk: &'d D, report: &mut Report<'_>) -> DiskResult<Self> {
        let newest = list_segments(disk)?.into_iter().filter(|s| s.len > 0).map(|s| s.first).next_back();
        let mut snapshots: Vec<Zxid> =
            list_snapshots(disk)?.into_iter().filter(|s| s.regular).map(|s| s.zxid).collect();
        snapshots.sort_unstable();
        let mark = applicable_mark(disk, report)?;
        Ok(Self {
            disk,
            mark,
            mark_fits: false,
            mark_segment_read: false,
            newest,
            snapshots,
            last: None,
            unclean: None,
            damaged: false,
        })
    }

    /// Reads the file `name` of the log directory.
    ///
    /// # Errors
    /// It can't be opened or read.
    pub fn file(&mut self, name: &str, report: &mut Report<'_>) -> DiskResult<VerifiedLog> {
        let path = DiskPath::new(Dir::LogVersion, name);
        let mut reader = SegmentReader::open(self.disk, &path, ANY_TXN)?;
        let named = apache_zxid(name_before_aside(name), "log");
        // Where there is a later segment, continuity shows what is missing, whoever wrote it.
        let claimed = self.mark.filter(|m| Some(m.segment) == named && m.offset > FIRST_RECORD);
        self.mark_segment_read |= claimed.is_some();
        let claimed = claimed.filter(|m| self.newest.is_none_or(|newest| newest <= m.segment));
        let file = self.disk.describe(&path);
        let mut log = VerifiedLog { file, records: 0, first: None, last: None, end: 0, len: reader.file_len() };
        let why = match reader.header()? {
            SegmentHeader::Good => {
                log.end = FIRST_RECORD;
                loop {
                    match reader.record(log.end)? {
                        Decoded::Stop(stop) => {
                            if !self.pass_bad(&mut reader, &mut log, named, claimed, stop, report)? {
                                break Why::Record(stop);
                            }
                        }
                        Decoded::Good(txn) => {
                            self.record(&mut log, named, txn, report);
                            self.mark_fits |= claimed.is_some_and(|m| m.offset == log.end && Some(m.zxid) == log.last);
                        }
                    }
                }
            }
            header => Why::Header(header),
        };
        if reader.is_zero_from(log.end)? {
            return Ok(log);
        }
        let unclean = Unclean { path, file: log.file.clone(), at: log.end, why };
        if let Some(earlier) = self.unclean.take() {
            self.damage(
                &earlier.file,
                earlier.at,
                earlier.why.to_string(),
                "a clean end, since a later log was begun",
                report,
            );
        }
        let covered = matches!(why, Why::Header(_)) && named.is_some_and(|n| self.snapshots.last() >= Some(&n));
        if covered {
            self.damage(
                &unclean.file,
                unclean.at,
                why.to_string(),
                "a log's header: a snapshot has what the file began with",
                report,
            );
        } else if claimed.is_some_and(|m| log.end < m.offset && self.last.is_none_or(|last| last < m.zxid)) {
            self.damage(
                &unclean.file,
                unclean.at,
                why.to_string(),
                "a good record, since this part of the log was acknowledged and synced",
                report,
            );
        } else {
            self.unclean = Some(unclean);
        }
        Ok(log)
    }

    /// Tells of the bad record at `log.end` and goes to the next one, if it stands where this one's length says. Not where
    /// a start cuts the log off, whatever follows.
    fn pass_bad(
        &mut self,
        reader: &mut SegmentReader<D::File>,
        log: &mut VerifiedLog,
        named: Option<Zxid>,
        claimed: Option<Mark>,
        stop: Stop,
        report: &mut Report<'_>,
    ) -> DiskResult<bool> {
        let Some(first) = named.filter(|_| !self.mark_fits) else { return Ok(false) };
        let joins = |last: Zxid| first <= last || follows(first, last);
        if log.records == 0 && (self.unclean.is_some() || !self.last.is_none_or(joins)) {
            return Ok(false);
        }
        let last = log.last.unwrap_or_else(|| before(first));
        let Some(behind) = reader.behind_bad(log.end, last)? else { return Ok(false) };
        if self.goes_on_in_next(first, last).unwrap_or(true) {
            return Ok(false);
        }
        let zxid = behind.bad.map(|zxid| format!("; it is that of zxid {zxid}")).unwrap_or_default();
        let synced = claimed.is_some_and(|m| log.end < m.offset && last < m.zxid);
        let expected = if synced {
            "a good record, since this part of the log was acknowledged and synced".to_owned()
        } else {
            format!("a good record, since another one follows at offset {}", behind.offset)
        };
        self.damage(&log.file, log.end, format!("{stop}{zxid}"), &expected, report);
        log.end = behind.offset;
        self.last = behind.bad;
        Ok(true)
    }

    /// Whether the next file of the directory begins where the one named `first` became unclean behind `last`.
    fn goes_on_in_next(&self, first: Zxid, last: Zxid) -> DiskResult<bool> {
        for next in list_segments(self.disk)?.into_iter().filter(|s| s.first > first && s.len > 0) {
            if SegmentReader::open(self.disk, &log_path(next.first), ANY_TXN)?.has_records()? {
                return Ok(goes_on(next.first, last));
            }
        }
        Ok(false)
    }

    /// One good record, at `log.end`.
    fn record(&mut self, log: &mut VerifiedLog, named: Option<Zxid>, txn: &[u8], report: &mut Report<'_>) {
        let offset = log.end;
        log.end += record_len(txn.len()) as u64;
        log.records += 1;
        if let Err(error) = read_txn(txn) {
            let found = format!("the record is whole, and its transaction can't be decoded: {error}");
            self.damage(&log.file, offset, found, "a transaction of ZooKeeper 3.4 to 3.9", report);
        }
        let Ok(TxnHeader { zxid, .. }) = read_header(txn) else { return };
        if offset == FIRST_RECORD
            && let Some(named) = named.filter(|named| *named != zxid)
        {
            let found = format!("the file begins with zxid {zxid}");
            let expected = format!("{named}, as its name says: readers choose files by name");
            report(Finding {
                severity: Severity::Damage,
                file: log.file.clone(),
                offset: Some(offset),
                found,
                expected,
            });
        }
        log.first.get_or_insert(zxid);
        log.last = Some(zxid);
        self.pass_unclean(zxid, report);
        let Some(last) = self.last.replace(zxid) else { return };
        if follows(zxid, last) && zxid.to_wire() >= 0 {
            return;
        }
        let note = |found: String, expected: String| Finding {
            severity: Severity::Note,
            file: log.file.clone(),
            offset: Some(offset),
            found,
            expected,
        };
        if zxid == last {
            report(note(format!("zxid {zxid} stands twice; the first one counts"), String::new()));
        } else if let Some(snapshot) = self.bridge(last, zxid) {
            report(note(
                format!("zxid {zxid} comes after {last}; snapshot {snapshot} has what was between"),
                String::new(),
            ));
        } else {
            let found = format!("a transaction with zxid {zxid}");
            let expected = format!("the one that follows zxid {last}");
            report(Finding { severity: Severity::Damage, ..note(found, expected) });
        }
    }

    /// A snapshot with which the history goes on from `last` to `next` without a gap: a leader sent it, and
    /// it replaced what was before.
    fn bridge(&self, last: Zxid, next: Zxid) -> Option<Zxid> {
        self.snapshots.iter().copied().find(|s| *s > last && (next <= *s || follows(next, *s))).filter(|_| next > last)
    }

    /// The first good record behind a file that ended in something unclean. A server that went on behind a
    /// torn tail wrote the same zxid again, or the next one.
    fn pass_unclean(&mut self, zxid: Zxid, report: &mut Report<'_>) {
        let Some(Unclean { file, at, why, .. }) = self.unclean.take() else { return };
        if matches!(why, Why::Record(_)) && self.last.is_some_and(|last| goes_on(zxid, last)) {
            let found = format!("{why}. The log goes on in the next file without a gap");
            report(Finding { severity: Severity::Note, file, offset: Some(at), found, expected: String::new() });
            return;
        }
        let found = format!("{why}, and the next good record has zxid {zxid}");
        let expected =
            self.last.map_or_else(|| "a good record".to_owned(), |last| format!("the record that follows zxid {last}"));
        self.damage(&file, at, found, &expected, report);
    }

    /// Ends the run, once all files were read. `whole` says that these were all logs of the directory.
    ///
    /// # Errors
    /// A file that was read before can't be read again.
    pub fn finish(mut self, whole: bool, report: &mut Report<'_>) -> DiskResult<()> {
        let last = self.last;
        if let Some(Unclean { path, file, at, why }) = self.unclean.take() {
            let next = if self.mark_fits {
                None
            } else {
                let mut reader = SegmentReader::open(self.disk, &path, ANY_TXN)?;
                reader.valid_record_after(at, last.unwrap_or(Zxid::ZERO))?
            };
            let (severity, expected) = match next {
                Some(next) => (Severity::Damage, format!("a good record, since another one follows at offset {next}")),
                None => (Severity::Torn, String::new()),
            };
            let tail = if next.is_none() { ". It was never acknowledged, and a start cuts it off" } else { "" };
            report(Finding { severity, file, offset: Some(at), found: format!("{why}{tail}"), expected });
        }
        // Where records could not be read, what is missing was told of.
        let asked = !self.damaged && (whole || self.mark_segment_read);
        let Some(mark) = self.mark.filter(|_| asked) else { return Ok(()) };
        let known = last.max(self.snapshots.last().copied()).unwrap_or(Zxid::ZERO);
        if known < mark.zxid {
            report(Finding {
                severity: Severity::Damage,
                file: self.disk.describe(&mark_path()),
                offset: None,
                found: format!("the log ends with zxid {known}"),
                expected: format!("all up to zxid {}, which was acknowledged and synced", mark.zxid),
            });
        }
        Ok(())
    }

    /// Tells of damage. What stood there is unknown, so the next record need not follow the last one.
    fn damage(&mut self, file: &str, offset: u64, found: String, expected: &str, report: &mut Report<'_>) {
        let (file, expected) = (file.to_owned(), expected.to_owned());
        report(Finding { severity: Severity::Damage, file, offset: Some(offset), found, expected });
        self.last = None;
        self.damaged = true;
    }
}

/// Whether a server that went on behind a torn tail, the last whole record before which is `last`, may have written
/// `next` first: the same zxid again, or the next one.
fn goes_on(next: Zxid, last: Zxid) -> bool {
    next <= last || next.epoch() == last.epoch() && follows(next, last)
}

/// The mark beside the files, if nothing says that it is of other files than these.
fn applicable_mark<D: Disk>(disk: &D, report: &mut Report<'_>) -> DiskResult<Option<Mark>> {
    let mut note = |found: String| {
        let (file, expected) = (disk.describe(&mark_path()), String::new());
        report(Finding { severity: Severity::Note, file, offset: None, found, expected });
    };
    let newest = match read_mark(disk)? {
        MarkRead::Mark(mark) => mark,
        MarkRead::Absent => return Ok(None),
        MarkRead::Unreadable => {
            note("neither copy of the mark is whole; how far the log was synced is judged without it".to_owned());
            return Ok(None);
        }
        MarkRead::Newer(version) => {
            note(format!("the mark has format version {version}, which a later Farrier wrote; it is not used"));
            return Ok(None);
        }
    };
    match read_current_epoch(disk) {
        Ok(epoch) if epoch.is_some() || newest.epoch == 0 => {
            let epoch = epoch.map_or(0, |e| e.0);
            let mark = mark_of_epoch(disk, epoch)?;
            if mark.is_none() {
                note(format!("the mark is of epoch {}, and currentEpoch is {epoch}; it is not used", newest.epoch));
            }
            Ok(mark)
        }
        Ok(_) => {
            note(format!(
                "the mark is of epoch {}, and no currentEpoch is beside; it is taken to be valid",
                newest.epoch
            ));
            Ok(Some(newest))
        }
        Err(error) => {
            note(format!("{error}; the mark, of epoch {}, is taken to be valid", newest.epoch));
            Ok(Some(newest))
        }
    }
}

#[cfg(test)]
mod tests;
