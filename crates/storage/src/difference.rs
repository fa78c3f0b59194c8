//! Reading the log for learners: where a transaction stands, and what follows it, page by page.
//!
//! Changes nothing, and may run while the log is being appended to: what the writer has made durable is read whole,
//! and whatever stands behind it ends the reading like the end of the file. Whether the records may be sent is not
//! decided here.

use crate::disk::{Disk, DiskFile, DiskResult};
use crate::log::follows;
use crate::record::{Decoded, PREFIX, record_len};
use crate::segment::{FIRST_RECORD, Segment, SegmentHeader, SegmentReader, list_segments, log_path, start_index};
use crate::snapshot::{is_plausible, list_snapshots};
use bytes::Bytes;
use farrier_proto::Zxid;
use farrier_proto::txn::read_header;

/// Where a zxid stands in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Location {
    /// The newest transaction at or below it and not below the floor, behind which the log goes on without a gap;
    /// or the zxid of the snapshot behind which it begins. `None` if the log does not reach back so far.
    pub before: Option<Zxid>,
    /// Bytes of the records behind `before`.
    pub bytes_behind: u64,
    /// Bytes of the newest snapshot; 0 if there is none.
    pub snapshot_bytes: u64,
}

/// Looks for a transaction in the log. No difference may reach below `floor`. Reads the log from there to its end.
///
/// # Errors
/// The disk failed, or a segment went meanwhile.
pub fn locate<D: Disk>(disk: &D, zxid: Zxid, floor: Zxid, txn_max: usize) -> DiskResult<Location> {
    let mut snapshots = Vec::new();
    for snapshot in list_snapshots(disk)?.into_iter().filter(|s| s.regular) {
        if is_plausible(disk, &snapshot)? {
            snapshots.push(snapshot);
        }
    }
    let mut location =
        Location { before: None, bytes_behind: 0, snapshot_bytes: snapshots.first().map_or(0, |s| s.len) };
    let floor = if farrier_proto::planted!(DiffBelowFloor) { Zxid::ZERO } else { floor };
    if zxid < floor {
        return Ok(location);
    }
    let segments = list_segments(disk)?;
    let mut walk = Walk::start(&segments, start_index(&segments, zxid), txn_max);
    let mut last = None;
    // Around the zxid, in the stretch without a gap that reaches up to the end.
    let (mut below, mut above) = (None, None);
    // What that stretch begins behind, if it is no beginning of the log, and whether damage lies between.
    let mut gap = None;
    while let Some((found, bytes)) = walk.next(disk)? {
        if last.is_some_and(|last| found != last && !walk.joins(found, last)) {
            // Only a snapshot knows what is missing here.
            (below, above, location.bytes_behind) = (None, None, 0);
            gap = last.map(|last| (last, walk.broken));
        }
        if found <= zxid {
            below = Some(found);
        } else {
            above.get_or_insert(found);
            location.bytes_behind += record_len(bytes) as u64;
        }
        last = Some(found);
    }
    let beyond = |z: Zxid| {
        // The stretch may have lost its first transactions, and the number of the next epoch does not tell.
        let adjoins = || below.is_some() || above.is_none_or(|above| above.epoch() == z.epoch());
        gap.is_none_or(|(end, broken)| z > end && (!broken || adjoins()))
    };
    let joins = |z: Zxid| beyond(z) && goes_on(below, z, above);
    location.before = below
        .filter(|z| *z >= floor)
        .or_else(|| snapshots.iter().map(|s| s.zxid).find(|z| (floor..=zxid).contains(z) && joins(*z)));
    if location.before.is_none() {
        location.bytes_behind = 0;
    }
    Ok(location)
}

/// Whether a zxid that is not in the log stands right between two neighbours in it: the log begins behind it, or it
/// is the beginning of an epoch, which no record tells of.
fn goes_on(below: Option<Zxid>, zxid: Zxid, above: Option<Zxid>) -> bool {
    below.is_none_or(|below| zxid.counter() == 0 && follows(zxid, below))
        && above.is_none_or(|above| follows(above, zxid))
}

/// The transactions directly behind `after` up to `to`, without a gap, and about `max_bytes` of them, but one at
/// least if there is one. `after` must be in the log, or be what
/// the log or an epoch in it begins behind; otherwise nothing is found.
///
/// # Errors
/// As [`locate`].
pub fn read_txns<D: Disk>(
    disk: &D,
    after: Zxid,
    to: Zxid,
    max_bytes: usize,
    txn_max: usize,
) -> DiskResult<Vec<(Zxid, Bytes)>> {
    LogCursor::new(txn_max).read(disk, after, to, max_bytes)
}

/// Reads the log page by page: each one goes on where the last one ended.
#[derive(Clone, Debug)]
pub struct LogCursor {
    txn_max: usize,
    place: Option<Place>,
}

/// Behind the record of a transaction.
#[derive(Clone, Copy, Debug)]
struct Place {
    behind: Zxid,
    segment: Zxid,
    offset: u64,
}

impl LogCursor {
    /// A cursor that stands nowhere yet. `txn_max` bounds a transaction.
    #[must_use]
    pub const fn new(txn_max: usize) -> Self {
        Self { txn_max, place: None }
    }

    /// As [`read_txns`]; cheap where `after` ended the last page.
    ///
    /// # Errors
    /// As [`locate`].
    pub fn read<D: Disk>(
        &mut self,
        disk: &D,
        after: Zxid,
        to: Zxid,
        max_bytes: usize,
    ) -> DiskResult<Vec<(Zxid, Bytes)>> {
        let segments = list_segments(disk)?;
        let known = self.place.take().filter(|place| place.behind == after);
        let at = known.and_then(|place| {
            let index = segments.iter().position(|s| s.first == place.segment)?;
            Some((index, place.offset))
        });
        let mut walk = match at {
            Some((index, offset)) => Walk { at: offset, ..Walk::start(&segments, index, self.txn_max) },
            None => Walk::start(&segments, start_index(&segments, after), self.txn_max),
        };
        // Whether `after` has been passed.
        let mut behind = at.is_some();
        let mut last = after;
        let mut bytes = 0;
        let mut txns = Vec::new();
        let mut passed = None;
        while bytes < max_bytes || txns.is_empty() {
            let Some((zxid, len)) = walk.next(disk)? else { break };
            if zxid > to && behind {
                // It is read again when it is wanted.
                break;
            }
            if !behind {
                // What is missing in a gap is not in the log: it begins anew.
                passed = passed.filter(|passed| zxid == *passed || walk.joins(zxid, *passed));
                if zxid < after {
                    passed = Some(zxid);
                } else if zxid == after
                    || zxid <= to && goes_on(passed, after, Some(zxid)) && walk.may_follow(zxid, after)
                {
                    behind = true;
                } else {
                    break;
                }
                if zxid <= after {
                    self.place = behind.then(|| walk.place(zxid));
                    continue;
                }
            }
            if zxid == last {
                // It stands twice; the first one counts.
                self.place = Some(walk.place(zxid));
                continue;
            }
            if !walk.joins(zxid, last) {
                break;
            }
            bytes += len;
            txns.push((zxid, Bytes::copy_from_slice(walk.txn(len)?)));
            last = zxid;
            self.place = Some(walk.place(zxid));
        }
        if txns.is_empty() && self.place.is_none() {
            self.place = known.filter(|_| at.is_some());
        }
        Ok(txns)
    }
}

/// Goes through good records, from segment to segment.
struct Walk<'s, F> {
    segments: &'s [Segment],
    index: usize,
    reader: Option<SegmentReader<F>>,
    at: u64,
    txn_max: usize,
    /// Between the last record and the one before, a segment ended with something else than its last record.
    broken: bool,
}

impl<'s, F: DiskFile> Walk<'s, F> {
    const fn start(segments: &'s [Segment], index: usize, txn_max: usize) -> Self {
        Self { segments, index, reader: None, at: FIRST_RECORD, txn_max, broken: false }
    }

    /// Whether nothing is missing between the record that came last, `zxid`, and the one before it. Within an epoch the
    /// numbers tell. Another epoch follows any number: there only a segment that ends well shows that nothing was lost.
    fn joins(&self, zxid: Zxid, before: Zxid) -> bool {
        follows(zxid, before) && self.may_follow(zxid, before)
    }

    const fn may_follow(&self, zxid: Zxid, before: Zxid) -> bool {
        !self.broken || zxid.epoch() == before.epoch()
    }

    /// Behind the record that came last, which is that of `behind`.
    fn place(&self, behind: Zxid) -> Place {
        let segment = self.segments.get(self.index).map_or(Zxid::ZERO, |s| s.first);
        Place { behind, segment, offset: self.at }
    }

    /// The transaction of so many bytes that came last.
    fn txn(&mut self, len: usize) -> DiskResult<&[u8]> {
        let at = self.at - record_len(len) as u64;
        self.reader.as_mut().expect("the record was read through it").bytes(at + PREFIX as u64, len)
    }

    /// The next good record, and the bytes of its transaction; `None` where there is none yet.
    fn next<D: Disk<File = F>>(&mut self, disk: &D) -> DiskResult<Option<(Zxid, usize)>> {
        self.broken = false;
        loop {
            let Some(segment) = self.segments.get(self.index) else { return Ok(None) };
            if self.reader.is_none() {
                let mut reader = SegmentReader::open(disk, &log_path(segment.first), self.txn_max)?;
                if reader.header()? == SegmentHeader::Good {
                    self.reader = Some(reader);
                }
            }
            let at = self.at;
            let good = match &mut self.reader {
                Some(reader) => match reader.record(at)? {
                    Decoded::Good(txn) => read_header(txn).ok().map(|header| (header.zxid, txn.len())),
                    Decoded::Stop(_) => None,
                },
                None => None,
            };
            let Some((zxid, len)) = good else {
                if self.index + 1 >= self.segments.len() {
                    return Ok(None);
                }
                self.broken |= match &mut self.reader {
                    Some(reader) => !reader.is_zero_from(at)?,
                    None => true,
                };
                self.index += 1;
                self.reader = None;
                self.at = FIRST_RECORD;
                continue;
            };
            self.at += record_len(len) as u64;
            return Ok(Some((zxid, len)));
        }
    }
}

#[cfg(test)]
mod tests;
