//! Cutting the log behind a transaction that a leader names.
//!
//! First it is made sure that what remains is a history of its own: a snapshot that reads back whole and holds
//! nothing later, and every record from there up to the cut. Only then it is synced, the mark is set back, newer snapshots go,
//! then later segments from the newest on, then the segment is cut, each synced. A crash between any two leaves
//! the same history, not yet cut as far.

use super::{LogWriter, follows};
use crate::disk::{Dir, Disk, DiskFile, DiskPath, DiskResult, OpenMode};
use crate::mark::Mark;
use crate::own;
use crate::record::{Decoded, record_len};
use crate::segment::{FIRST_RECORD, SegmentHeader, SegmentReader, list_segments, log_path, start_index};
use crate::snapshot::{SnapshotError, SnapshotFile, SnapshotRead, list_snapshots, verify_snapshot};
use farrier_proto::Zxid;
use farrier_proto::txn::read_header;

/// What goes, and what is left.
struct Cut {
    /// The snapshot on which the rest of the log stands, and its file.
    base: Zxid,
    file: DiskPath,
    /// Newest first.
    snapshots: Vec<DiskPath>,
    /// Newest first.
    segments: Vec<Zxid>,
    /// The segment that is cut, and where.
    shorten: Option<(Zxid, u64)>,
    /// The segment of the last record that is left, and where that ends.
    position: Option<(Zxid, u64)>,
}

impl<D: Disk> LogWriter<D> {
    /// Cuts the log behind `after`, which is the last transaction from then on, and all that is durable. Answers
    /// false, and changes nothing, if no whole snapshot at or below remains, or the log does not hold `after`
    /// and everything up to it from there on, or the floor lies between. The next append starts a new segment. An
    /// error is final, as in a commit.
    ///
    /// Nobody may be writing or removing snapshots meanwhile.
    pub fn truncate(&mut self, after: Zxid) -> DiskResult<bool> {
        self.step(|log| {
            if after >= log.appended {
                return Ok(after == log.appended);
            }
            let Some(cut) = log.plan(after)? else { return Ok(false) };
            log.cut(after, &cut)?;
            Ok(true)
        })
    }

    fn plan(&self, after: Zxid) -> DiskResult<Option<Cut>> {
        let disk = &*self.disk;
        let mut snapshots = Vec::new();
        let mut base = None;
        for snapshot in list_snapshots(disk)? {
            if snapshot.zxid > after {
                snapshots.push(snapshot.path);
            } else if base.is_none() && snapshot.regular {
                match verify_snapshot(disk, &snapshot.path, self.txn_max) {
                    Ok(read) if ends_by(disk, &snapshot, &read, after)? => base = Some(snapshot),
                    // It would be loaded, and with it what is to go.
                    Ok(_) => snapshots.push(snapshot.path),
                    Err(SnapshotError::Disk(e)) => return Err(e),
                    // Recovery passes over it as well.
                    Err(_) => {}
                }
            }
        }
        let Some(base) = base else { return Ok(None) };
        // What the log lacks below the floor looks like no gap where the next epoch follows.
        if base.zxid < self.floor && self.floor <= after {
            return Ok(None);
        }
        let (base, file) = (base.zxid, base.path);
        let mut cut = Cut { base, file, snapshots, segments: Vec::new(), shorten: None, position: None };
        Ok(self.follow(after, &mut cut)?.then_some(cut))
    }

    /// Follows the log from the snapshot to `after`, and notes what is behind. False if there is no way.
    fn follow(&self, after: Zxid, cut: &mut Cut) -> DiskResult<bool> {
        let disk = &*self.disk;
        let segments = list_segments(disk)?;
        let from = start_index(&segments, Zxid::from_wire(cut.base.to_wire().saturating_add(1)));
        let mut last = cut.base;
        // Where the last segment that was read ends in something else than zeros.
        let mut unclean = None;
        for segment in segments.get(from..).unwrap_or_default() {
            if segment.first > after {
                cut.segments.push(segment.first);
                continue;
            }
            let mut reader = SegmentReader::open(disk, &log_path(segment.first), self.txn_max)?;
            if reader.header()? != SegmentHeader::Good || cut.shorten.is_some() {
                return Ok(false);
            }
            let mut at = FIRST_RECORD;
            let mut held = None;
            while let Decoded::Good(txn) = reader.record(at)? {
                let Ok(header) = read_header(txn) else { return Ok(false) };
                let zxid = header.zxid;
                if zxid > after {
                    cut.shorten = Some((segment.first, at));
                    break;
                }
                // Across an epoch nothing shows that a bad record was none of the history.
                if unclean.take().is_some() && zxid > last && zxid.epoch() != last.epoch() {
                    return Ok(false);
                }
                if zxid > cut.base && zxid != last {
                    if !follows(zxid, last) {
                        return Ok(false);
                    }
                    last = zxid;
                }
                at += record_len(txn.len()) as u64;
                held = Some(zxid);
            }
            if held.is_none() {
                // Its name says that it begins at or below the cut.
                return Ok(false);
            }
            cut.position = (held == Some(after)).then_some((segment.first, at));
            if cut.shorten.is_none() && !reader.is_zero_from(at)? {
                unclean = Some((segment.first, at));
            }
        }
        // What is behind `after` goes, be it good or not.
        cut.shorten = cut.shorten.or(unclean);
        cut.segments.reverse();
        Ok(last == after)
    }

    fn cut(&mut self, after: Zxid, cut: &Cut) -> DiskResult<()> {
        let disk = &*self.disk;
        // Apache renames snapshots without syncing them, and a start syncs only the one that it loads.
        disk.open(&cut.file, OpenMode::Read)?.sync()?;
        if after < self.floor {
            self.floor = cut.base;
        }
        // Nothing beyond is claimed any more, and nothing about where.
        let mark =
            Mark { sequence: 0, segment: Zxid::ZERO, offset: 0, zxid: after, epoch: self.epoch, floor: self.floor };
        self.mark.write_both(disk, mark)?;
        self.current = None;
        for snapshot in cut.snapshots.iter().filter(|_| !farrier_proto::planted!(NewerSnapshotSurvivesCut)) {
            disk.remove(snapshot)?;
            disk.sync_dir(snapshot.dir)?;
        }
        for segment in &cut.segments {
            disk.remove(&log_path(*segment))?;
            disk.sync_dir(Dir::LogVersion)?;
        }
        if let Some((segment, at)) = cut.shorten {
            let file = disk.open(&log_path(segment), OpenMode::Write)?;
            #[cfg(farrier_planted)]
            let at =
                if farrier_proto::planted!(TruncKeepsARecord) { behind_next(&*self.disk, segment, at)? } else { at };
            file.set_len(at)?;
            if !farrier_proto::planted!(CutNotSynced) {
                file.sync()?;
            }
        }
        if let Some((segment, offset)) = cut.position {
            self.mark.write(disk, Mark { segment, offset, ..mark })?;
            self.mark.sync()?;
        }
        self.appended = after;
        self.durable = after;
        self.roll = false;
        Ok(())
    }
}

/// Where the record ends that begins at `at`: the place of a cut that is wrong by one.
#[cfg(farrier_planted)]
fn behind_next<D: Disk>(disk: &D, segment: Zxid, at: u64) -> DiskResult<u64> {
    let mut reader = SegmentReader::open(disk, &log_path(segment), farrier_proto::limits::TXN_MAX)?;
    Ok(match reader.record(at)? {
        Decoded::Good(txn) => at + record_len(txn.len()) as u64,
        Decoded::Stop(_) => at,
    })
}

/// Whether a whole snapshot is known to hold nothing later than `after`. Apache goes on while it writes one; its
/// trailers tell how far it came, and without them nobody knows.
fn ends_by<D: Disk>(disk: &D, snapshot: &SnapshotFile, read: &SnapshotRead, after: Zxid) -> DiskResult<bool> {
    let told = read.digest.is_some() || read.last_zxid.is_some_and(|z| z.to_wire() > 0) || snapshot.zxid == Zxid::ZERO;
    Ok(read.testified() <= after && (told || own::is_own(disk, snapshot, read.seal)?))
}
