//! Reading the log from a snapshot on: continuity, and what a bad record means where it stands.
//!
//! Changes nothing. Recovery replays through it and carries out what it found; repair asks it what is
//! wrong.

use super::{RecoverOptions, Refusal, RefusalKind, Unreadable};
use crate::disk::{Dir, Disk, DiskError, dir_name};
use crate::log::follows;
use crate::mark::Mark;
use crate::record::{Decoded, Stop, record_len};
use crate::segment::{FIRST_RECORD, Segment, SegmentHeader, SegmentReader, log_path, start_index};
use farrier_proto::txn::read_header;
use farrier_proto::{TxnHeader, Zxid};

/// Something that recovery must not pass over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Damage {
    /// Segment, if it is about one.
    pub(crate) segment: Option<Zxid>,
    pub(crate) offset: Option<u64>,
    pub(crate) found: String,
    pub(crate) expected: String,
    /// The segment's file isn't there at all.
    pub(crate) missing: bool,
}

impl Damage {
    /// The file that it is about. Without a segment the mark tells of a snapshot that was installed: if nothing is there,
    /// that is what is missing.
    pub(crate) fn file<D: Disk>(&self, disk: &D) -> Option<String> {
        match self.segment {
            Some(segment) => Some(disk.describe(&log_path(segment))),
            None => self.missing.then(|| dir_name(disk, Dir::DataVersion)),
        }
    }
}

/// Why a scan ended early.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ScanError {
    Damage(Damage),
    /// A whole record that is larger than the limit in force: no damage, and nothing to cut.
    Oversized {
        segment: Zxid,
        offset: u64,
        len: i32,
    },
    Disk(DiskError),
}

impl From<DiskError> for ScanError {
    fn from(e: DiskError) -> Self {
        Self::Disk(e)
    }
}

impl ScanError {
    pub(crate) fn into_refusal<D: Disk>(self, disk: &D, options: &RecoverOptions) -> Refusal {
        match self {
            Self::Disk(e) => Refusal::disk(&e),
            Self::Oversized { segment, offset, len } => Refusal {
                kind: RefusalKind::Setup,
                file: Some(disk.describe(&log_path(segment))),
                offset: Some(offset),
                found: format!("a whole record of {len} bytes, more than the limit in force"),
                expected: "a configuration that admits it".to_owned(),
                remedy: "Set jute.maxbuffer to the value under which the log was written".to_owned(),
            },
            Self::Damage(d) => Refusal {
                kind: RefusalKind::Damage,
                file: d.file(disk),
                offset: d.offset,
                found: d.found,
                expected: d.expected,
                remedy: if d.missing { missing_remedy(disk, options) } else { super::repair_remedy(disk, options) },
            },
        }
    }
}

/// A disk that isn't mounted looks like that, and then nothing is lost.
pub(super) fn missing_remedy<D: Disk>(disk: &D, options: &RecoverOptions) -> String {
    let what = super::repair_what(disk, options);
    format!(
        "Nothing was changed. Is the right disk mounted there, and are dataDir and dataLogDir the right ones? If files were \
         moved away, bring them back. Only if they are lost for good: `farrier repair {what}` shows what that may cost, and \
         with --accept-loss goes on without them"
    )
}

/// A segment's good part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extent {
    pub(crate) first: Zxid,
    /// Behind its last good record; 0 if not even the header is good.
    pub(crate) end: u64,
    /// Bytes in the file.
    pub(crate) len: u64,
    /// Good records in it.
    pub(crate) records: u64,
    /// The last of them.
    pub(crate) last: Zxid,
    /// What stands at `end`, if that is anything but zeros up to the end of the file.
    pub(crate) rest: Option<Rest>,
}

/// Bytes behind a segment's good part that are not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rest {
    pub(crate) why: Why,
}

/// Why a segment's good part ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    Record(Stop),
    Header(SegmentHeader),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Record(stop) => stop.fmt(f),
            Self::Header(SegmentHeader::Empty) => write!(f, "the file is empty"),
            Self::Header(SegmentHeader::Short) => write!(f, "the file is shorter than a header"),
            Self::Header(SegmentHeader::BadMagic(magic)) => {
                write!(f, "the file starts with {magic:#010x}, not \"ZKLG\"")
            }
            Self::Header(SegmentHeader::Good) => write!(f, "the header is good"),
        }
    }
}

/// What a scan found, when nothing forbids going on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Scan {
    /// The last transaction: of the log, or of the snapshot if that is newer.
    pub(crate) last: Zxid,
    pub(crate) replayed: u64,
    /// Every segment that was read.
    pub(crate) extents: Vec<Extent>,
    /// Steps from one epoch to a later one among what was replayed.
    pub(crate) jumps: Vec<(Zxid, Zxid)>,
    pub(crate) warnings: Vec<String>,
    /// The mark, if it is in force: nobody has written a segment since, and its own segment bears it out.
    pub(crate) mark: Option<Mark>,
    /// An extent with an unclean end that no later record has shown to be harmless yet.
    unproven: Option<usize>,
}

/// What is scanned.
#[derive(Debug)]
pub(crate) struct Scanner<'a, D: Disk> {
    pub(crate) disk: &'a D,
    pub(crate) segments: &'a [Segment],
    pub(crate) options: &'a RecoverOptions,
    /// The mark, if it was written under this currentEpoch.
    pub(crate) mark: Option<Mark>,
    /// The state before the log: the snapshot's zxid.
    pub(crate) after: Zxid,
    /// There is no snapshot.
    pub(crate) bare: bool,
    /// What a segment is that cannot be read.
    pub(crate) unreadable: Unreadable,
}

/// Called with each transaction to replay.
pub(crate) type Visit<'v> = dyn FnMut(&TxnHeader, &[u8]) -> Result<(), String> + 'v;

impl<D: Disk> Scanner<'_, D> {
    /// The mark, if it tells of `segment` and nobody has written a later one since. Where there is a newer
    /// one, the mark's segment was synced and left by Farrier, or Apache has written: either way the rule
    /// without a mark is right. So it is for older segments, where continuity shows what is missing.
    fn mark_of(&self, segment: Zxid) -> Option<Mark> {
        self.mark
            .filter(|mark| mark.segment == segment && mark.offset > FIRST_RECORD)
            .filter(|mark| !self.segments.iter().any(|s| s.first > mark.segment && s.len > 0))
    }

    /// Reads all that follows the snapshot.
    pub(crate) fn run(&self, visit: &mut Visit<'_>) -> Result<Scan, ScanError> {
        let mut scan = Scan { last: self.after, ..Scan::default() };
        let wanted = Zxid::from_wire(self.after.to_wire().saturating_add(1));
        let from = start_index(self.segments, wanted);
        for segment in self.segments.get(from..).unwrap_or_default() {
            let extent = self.read(segment, &mut scan, visit)?;
            if extent.rest.is_some() && scan.unproven.is_none() {
                scan.unproven = Some(scan.extents.len());
            }
            scan.extents.push(extent);
        }
        self.judge_tail(&mut scan)?;
        if let Some(mark) = self.mark.filter(|mark| scan.last < mark.zxid) {
            return Err(ScanError::Damage(self.cut_short(mark, scan.last)));
        }
        Ok(scan)
    }

    /// The data ends with `last`, before what the mark tells of.
    fn cut_short(&self, mark: Mark, last: Zxid) -> Damage {
        let segment = Some(mark.segment).filter(|s| *s > Zxid::ZERO);
        let is_there = |first: Zxid| self.segments.iter().any(|s| s.first == first);
        let nothing = self.bare && self.segments.is_empty();
        let missing = nothing || segment.is_some_and(|first| !is_there(first));
        let found = match segment {
            _ if !missing => format!("the data ends with zxid {last}"),
            None => "there is neither a log nor a whole snapshot".to_owned(),
            Some(_) if nothing => {
                "the file is missing, and there is neither another log nor a whole snapshot".to_owned()
            }
            Some(_) if self.segments.is_empty() => {
                format!("the file is missing, and there is no other log; the data ends with zxid {last}")
            }
            Some(_) => format!("the file is missing; the data ends with zxid {last}"),
        };
        let expected = format!("all up to zxid {}, which was acknowledged and synced", mark.zxid);
        Damage { segment, offset: None, found, expected, missing }
    }

    /// A segment is good up to `offset`, and there or behind the disk fails.
    fn unread(&self, segment: Zxid, offset: u64, error: DiskError) -> ScanError {
        if !self.unreadable.is_damage(&error) {
            return ScanError::Disk(error);
        }
        ScanError::Damage(Damage {
            segment: Some(segment),
            offset: Some(offset),
            found: error.to_string(),
            expected: "a file that can be read".to_owned(),
            missing: false,
        })
    }

    fn read(&self, segment: &Segment, scan: &mut Scan, visit: &mut Visit<'_>) -> Result<Extent, ScanError> {
        let path = log_path(segment.first);
        let opened = SegmentReader::open(self.disk, &path, self.options.txn_max);
        let mut reader = opened.map_err(|e| self.unread(segment.first, 0, e))?;
        let mut extent =
            Extent { first: segment.first, end: 0, len: reader.file_len(), records: 0, last: Zxid::ZERO, rest: None };
        let claimed = self.mark_of(segment.first);
        let header = reader.header().map_err(|e| self.unread(segment.first, 0, e))?;
        let why = if header == SegmentHeader::Good {
            extent.end = FIRST_RECORD;
            loop {
                let at = extent.end;
                match reader.record(at).map_err(|e| self.unread(segment.first, at, e))? {
                    Decoded::Stop(stop) => break Why::Record(stop),
                    Decoded::Good(txn) => {
                        let len = record_len(txn.len()) as u64;
                        extent.last = self.take(segment.first, at, txn, scan, visit)?;
                        extent.end += len;
                        extent.records += 1;
                        // A mark of another life of a file of the same name does not fit into this one.
                        if claimed.is_some_and(|m| m.offset == extent.end && m.zxid == extent.last) {
                            scan.mark = claimed;
                        }
                    }
                }
            }
        } else {
            Why::Header(header)
        };
        if matches!(why, Why::Header(SegmentHeader::Short | SegmentHeader::BadMagic(_))) && segment.first <= self.after
        {
            // The snapshot has what this segment began with, so its start was written long ago.
            return Err(ScanError::Damage(Damage {
                segment: Some(segment.first),
                offset: Some(0),
                found: why.to_string(),
                expected: "a log segment's header".to_owned(),
                missing: false,
            }));
        }
        if let Why::Record(Stop::Length(len)) = why
            && reader.is_whole_beyond_limit(extent.end, len).map_err(|e| self.unread(segment.first, extent.end, e))?
        {
            return Err(ScanError::Oversized { segment: segment.first, offset: extent.end, len });
        }
        if claimed.is_some_and(|m| extent.end < m.offset && extent.last < m.zxid) {
            return Err(ScanError::Damage(Damage {
                segment: Some(segment.first),
                offset: Some(extent.end),
                found: why.to_string(),
                expected: "a good record, since this part of the log was acknowledged and synced".to_owned(),
                missing: false,
            }));
        }
        if !reader.is_zero_from(extent.end).map_err(|e| self.unread(segment.first, extent.end, e))? {
            extent.rest = Some(Rest { why });
        }
        Ok(extent)
    }

    /// One good record; answers its zxid.
    fn take(
        &self,
        segment: Zxid,
        offset: u64,
        txn: &[u8],
        scan: &mut Scan,
        visit: &mut Visit<'_>,
    ) -> Result<Zxid, ScanError> {
        let damage = |found: String, expected: String| {
            Err(ScanError::Damage(Damage {
                segment: Some(segment),
                offset: Some(offset),
                found,
                expected,
                missing: false,
            }))
        };
        let header = match read_header(txn) {
            Ok(header) => header,
            Err(e) => return damage(format!("the transaction has no header: {e}"), "a transaction".to_owned()),
        };
        let zxid = header.zxid;
        self.pass_unclean(zxid, scan)?;
        if zxid <= self.after {
            return Ok(zxid);
        }
        if zxid == scan.last {
            scan.warnings.push(format!(
                "{}, offset {offset}: zxid {zxid} stands twice in the log; the first one counts",
                self.disk.describe(&log_path(segment)),
            ));
            return Ok(zxid);
        }
        if zxid.to_wire() < 0 || !(follows(zxid, scan.last) || farrier_proto::planted!(GapReplayed)) {
            return damage(
                format!("a transaction with zxid {zxid}"),
                format!("the one that follows zxid {}", scan.last),
            );
        }
        if self.bare && scan.replayed == 0 && zxid.epoch() > 1 {
            return damage(
                format!("a log without a snapshot that begins with zxid {zxid}"),
                "the very first transaction, of epoch 0 or 1".to_owned(),
            );
        }
        if let Err(e) = visit(&header, txn) {
            return damage(format!("the transaction with zxid {zxid} cannot be used: {e}"), "one that fits".to_owned());
        }
        if zxid.epoch() != scan.last.epoch() {
            scan.jumps.push((scan.last, zxid));
        }
        scan.last = zxid;
        scan.replayed += 1;
        Ok(zxid)
    }

    /// The first record behind a segment that ends in something unclean: nothing is missing if the record's
    /// zxid shows it. A server that went on behind a torn tail wrote the same zxid again.
    ///
    /// A later epoch shows nothing: Apache passes over a half-written record and goes on with the first one of that epoch,
    /// and a record that was acknowledged and has lost its end since looks the same. To pass over that one would leave a
    /// tree that lacks a transaction, and a vote that quotes later ones.
    fn pass_unclean(&self, zxid: Zxid, scan: &mut Scan) -> Result<(), ScanError> {
        let unproven = scan.unproven.take().and_then(|i| scan.extents.get(i));
        let Some((extent, rest)) = unproven.and_then(|e| e.rest.map(|rest| (e, rest))) else { return Ok(()) };
        if farrier_proto::planted!(GapReplayed) {
            return Ok(());
        }
        let started = matches!(rest.why, Why::Record(_));
        if started && (zxid <= scan.last || zxid.epoch() == scan.last.epoch() && follows(zxid, scan.last)) {
            let file = self.disk.describe(&log_path(extent.first));
            scan.warnings.push(format!(
                "{file}, offset {}: {}. The log goes on in the next file without a gap; the torn end is cut off",
                extent.end, rest.why,
            ));
            return Ok(());
        }
        Err(ScanError::Damage(Damage {
            segment: Some(extent.first),
            offset: Some(extent.end),
            found: format!("{}, and the next good record has zxid {zxid}", rest.why),
            expected: format!("the record that follows zxid {}", scan.last),
            missing: false,
        }))
    }

    /// What follows the last good record of all.
    fn judge_tail(&self, scan: &mut Scan) -> Result<(), ScanError> {
        let tail = scan.extents.iter().rposition(|e| e.records > 0).unwrap_or(0);
        let mut unclean = scan.extents.iter().skip(tail).filter(|e| e.rest.is_some());
        let (Some(first), second) = (unclean.next(), unclean.next()) else { return Ok(()) };
        let Some(rest) = first.rest else { return Ok(()) };
        let damage = |offset: u64, expected: &str| {
            Err(ScanError::Damage(Damage {
                segment: Some(first.first),
                offset: Some(offset),
                found: rest.why.to_string(),
                expected: expected.to_owned(),
                missing: false,
            }))
        };
        if second.is_some() {
            return damage(first.end, "a clean end, since a later segment was begun");
        }
        let judged_without_mark = scan.mark.is_none() && !farrier_proto::planted!(DamageIsATornTail);
        if judged_without_mark || farrier_proto::planted!(TornTailIsDamage) {
            let mut reader = SegmentReader::open(self.disk, &log_path(first.first), self.options.txn_max)?;
            let behind = reader.valid_record_after(first.end, scan.last);
            if let Some(at) = behind.map_err(|e| self.unread(first.first, first.end, e))? {
                let expected = format!("a good record, since another one follows at offset {at}");
                return damage(first.end, &expected);
            }
        }
        scan.warnings.push(format!(
            "{}, offset {}: {}. This is the torn end of a write that was never acknowledged; it is cut off \
             ({} bytes)",
            self.disk.describe(&log_path(first.first)),
            first.end,
            rest.why,
            first.len.saturating_sub(first.end),
        ));
        Ok(())
    }
}
