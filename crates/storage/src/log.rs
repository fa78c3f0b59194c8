//! The log's writer: group commit into segments, and the mark behind it.
//!
//! Owns the order of durable steps while a server runs. Nothing is acknowledged before
//! [`LogWriter::commit`] returned; a failed write or sync is final for the writer, since the state of the
//! bytes is unknown then and a retry could report success for bytes that never reached the disk. It has
//! no clock and starts no thread.
//!
//! **How a segment starts.** The old one is synced. `farrier.next`, zero-filled beforehand, is renamed to
//! `log.<first zxid>` (or a file with nothing but a header is made under another name, synced and
//! renamed), and the directory is synced. Then the first record *alone* is written and synced, and the
//! mark that names the segment is written and synced; the rest of the batch follows. So a segment that
//! the mark does not name holds at most one record that may be torn, and one that it does name can't be
//! mistaken for a file that Apache made later under the same name: Apache continues behind the first
//! record, with another name.
//!
//! **Without `forceSync`** the syncs of ordinary commits are left out and the mark stays where it is. The
//! syncs above stay, once per segment, because recovery relies on them, and so do those
//! [before a snapshot](LogWriter::settle).

mod epochs;
pub(crate) mod install;
mod truncate;

use crate::disk::{
    Dir, Disk, DiskError, DiskErrorKind, DiskFile, DiskPath, DiskResult, OpenMode, ZEROS_CHUNK, dir_name,
};
use crate::mark::{Mark, MarkFile};
use crate::record;
use crate::recover::Recovered;
use crate::recovering::Recovering;
use crate::segment::{FIRST_RECORD, HEADER_LEN, SEGMENT_SIZE, SegmentReader, header, log_path};
use farrier_proto::limits::TXN_MAX;
use farrier_proto::{TxnHeader, Zxid};
use std::sync::Arc;

/// A zero-filled segment that waits to be used.
pub const NEXT_NAME: &str = "farrier.next";
/// The same while it is being filled.
pub const NEXT_TMP_NAME: &str = "farrier.next.tmp";
/// A segment without zeros, between its creation and its proper name.
pub const NEW_NAME: &str = "farrier.new";

/// The mark is synced no more often than this by [`LogWriter::maintain`], in milliseconds.
pub const MARK_SYNC_INTERVAL_MS: u64 = 1000;

/// Bytes of the disk that whatever can wait leaves to the log's commits.
pub const RESERVE: u64 = 2 * TXN_MAX as u64;

/// Bytes written at once while a segment is zero-filled.
const FILL_CHUNK: u64 = ZEROS_CHUNK as u64;

/// Bytes between two syncs while a segment is filled, so that none has so much to write that the log's syncs on the same
/// device wait for long.
const FILL_SYNC_EVERY: u64 = 4 << 20;

/// How the log is written.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// A segment that was not prepared is full at this size, in bytes; 0 for never. A prepared one is
    /// full at the size it was given.
    pub segment_size: u64,
    /// `txnLogSizeLimitInKb` in bytes: a commit that leaves a larger segment behind makes the next append
    /// start a new one. 0 for no limit.
    pub size_limit: u64,
    /// `forceSync`. False leaves out syncs: what is acknowledged may be lost with the power.
    pub force_sync: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_size: SEGMENT_SIZE, size_limit: 0, force_sync: true }
    }
}

/// What a commit made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    /// The last transaction that is durable now, older ones included.
    pub zxid: Zxid,
    /// Records in this commit.
    pub records: usize,
    /// Bytes of these records in the log.
    pub bytes: usize,
    /// The last segment that was started, if any: a prepared one was used up, and the next should be
    /// prepared.
    pub started: Option<Zxid>,
}

/// A record that was appended and not committed.
#[derive(Clone, Copy, Debug)]
struct Pending {
    zxid: Zxid,
    /// Where it ends in the buffer.
    end: usize,
    /// A new segment starts with it.
    roll: bool,
}

/// The segment being written.
#[derive(Debug)]
struct Current<F> {
    file: F,
    first: Zxid,
    pos: u64,
    /// Bytes after which it is full; `u64::MAX` for never.
    capacity: u64,
    /// Where the zeros end that were prepared; 0 where there are none.
    zeros_end: u64,
    /// Written since the last sync.
    unsynced: bool,
}

impl<F> Current<F> {
    /// A segment takes a record that fits; the first one is in it from the beginning, however long it is.
    const fn takes(&self, len: u64) -> bool {
        self.pos.saturating_add(len) <= self.capacity
    }

    /// Without prepared zeros, or half full.
    const fn is_worth_leaving(&self) -> bool {
        self.pos >= self.zeros_end / 2
    }
}

/// Writes the log.
#[derive(Debug)]
pub struct LogWriter<D: Disk> {
    disk: Arc<D>,
    options: LogOptions,
    mark: MarkFile<D::File>,
    mark_synced_ms: Option<u64>,
    current: Option<Current<D::File>>,
    buffer: Vec<u8>,
    pending: Vec<Pending>,
    appended: Zxid,
    durable: Zxid,
    epoch: u32,
    floor: Zxid,
    roll: bool,
    /// The file [`crate::recovering`] is about is there.
    recovering: bool,
    txn_max: usize,
    failed: Option<DiskError>,
}

impl<D: Disk> LogWriter<D> {
    /// A writer that goes on behind what was recovered. The first append starts a new segment. Where
    /// [`Recovered::fresh`] is set, the caller has written `snapshot.0` before.
    #[must_use]
    pub fn open(disk: Arc<D>, recovered: &Recovered, options: LogOptions) -> Self {
        Self {
            disk,
            options,
            mark: MarkFile::resume(recovered.mark),
            mark_synced_ms: None,
            current: None,
            buffer: Vec::new(),
            pending: Vec::new(),
            appended: recovered.last_zxid,
            durable: recovered.last_zxid,
            epoch: recovered.mark.epoch,
            floor: recovered.mark.floor,
            roll: false,
            recovering: recovered.recovering != Recovering::No,
            txn_max: TXN_MAX,
            failed: None,
        }
    }

    /// Transactions in the log have up to this many bytes; [`TXN_MAX`] unless told.
    #[must_use]
    pub const fn with_txn_max(mut self, txn_max: usize) -> Self {
        self.txn_max = txn_max;
        self
    }

    /// Takes a transaction into the next commit. After a failure it is dropped: no commit will succeed.
    ///
    /// # Panics
    /// When `zxid` does not follow the last one appended or recovered, or the transaction is shorter than
    /// its header. Its upper bound is the caller's to keep.
    pub fn append(&mut self, zxid: Zxid, txn: &[u8]) {
        assert!(
            follows(zxid, self.appended),
            "the log ends with zxid {}, and {zxid} does not follow it",
            self.appended
        );
        assert!(txn.len() >= TxnHeader::LEN, "a transaction has a header");
        if self.failed.is_some() {
            return;
        }
        record::encode(&mut self.buffer, txn);
        self.pending.push(Pending { zxid, end: self.buffer.len(), roll: std::mem::take(&mut self.roll) });
        self.appended = zxid;
    }

    /// Bytes that wait for a commit, for the caller's bound on a batch.
    #[must_use]
    pub const fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The last transaction that is durable.
    #[must_use]
    pub const fn durable(&self) -> Zxid {
        self.durable
    }

    /// No difference from the log may reach below this.
    #[must_use]
    pub const fn floor(&self) -> Zxid {
        self.floor
    }

    /// Makes everything appended durable: one write and one sync, and more only where a segment starts.
    /// Then the mark is written, not synced. An error is final: every later call returns it again, and
    /// nothing of this batch may be acknowledged, though parts of it may be on disk.
    pub fn commit(&mut self) -> DiskResult<Committed> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        self.try_commit().map_err(|e| self.fail(e))
    }

    /// The next append starts a new segment, as behind a snapshot, so that what lies before it can be purged. Not if the
    /// current one was prepared and what was committed fills less than half of it: its zeros were written to the disk, and
    /// would be for nothing. Recovery then begins in the middle of a segment, and reads up to one that the snapshot has.
    pub fn roll(&mut self) {
        self.roll |= self.current.as_ref().is_some_and(Current::is_worth_leaving);
    }

    /// Makes what was appended durable, and the mark that tells so, whatever `forceSync` says: before a snapshot is begun,
    /// so that whatever of the log it has is below the mark, and damage there is never taken for a torn tail. An error is
    /// final, as in a commit.
    pub fn settle(&mut self) -> DiskResult<()> {
        self.step(|log| log.mark.sync())
    }

    /// From now on marks carry this currentEpoch and this floor for differences.
    pub const fn set_epoch(&mut self, epoch: u32, floor: Zxid) {
        self.epoch = epoch;
        self.floor = floor;
    }

    /// Syncs the mark if that is due. For after the acknowledgements of a commit have left, with a
    /// monotonic time in milliseconds. An error is final, as in a commit.
    pub fn maintain(&mut self, now_ms: u64) -> DiskResult<()> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let due = self.mark_synced_ms.is_none_or(|at| now_ms.saturating_sub(at) >= MARK_SYNC_INTERVAL_MS);
        if due && self.mark.is_unsynced() {
            self.mark.sync().map_err(|e| self.fail(e))?;
            self.mark_synced_ms = Some(now_ms);
        }
        Ok(())
    }

    /// Ends in order: commits what waits and syncs the mark, whatever `forceSync` says.
    pub fn close(mut self) -> DiskResult<()> {
        self.options.force_sync = true;
        self.commit()?;
        self.mark.sync()
    }

    /// A step that is no commit: after everything appended, and just as final when it fails. What the commit in it
    /// did is not told; whoever wants to know commits before.
    fn step<T>(&mut self, step: impl FnOnce(&mut Self) -> DiskResult<T>) -> DiskResult<T> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let done = self.try_commit().and_then(|_| self.sync_log()).and_then(|()| step(self));
        done.map_err(|e| self.fail(e))
    }

    /// Syncs what commits without `forceSync` have left unsynced.
    fn sync_log(&mut self) -> DiskResult<()> {
        if let Some(current) = self.current.as_mut().filter(|c| c.unsynced) {
            current.file.sync()?;
            current.unsynced = false;
            self.write_mark()?;
        }
        Ok(())
    }

    fn fail(&mut self, error: DiskError) -> DiskError {
        self.buffer = Vec::new();
        self.pending = Vec::new();
        if !farrier_proto::planted!(FailedWriteForgotten) {
            self.failed = Some(error.clone());
        }
        error
    }

    fn try_commit(&mut self) -> DiskResult<Committed> {
        let pending = std::mem::take(&mut self.pending);
        let buffer = std::mem::take(&mut self.buffer);
        let mut started = None;
        let mut from = 0;
        let mut i = 0;
        while let Some(next) = pending.get(i) {
            let fits = |c: &Current<D::File>| !next.roll && c.takes((next.end - from) as u64);
            if self.current.as_ref().is_some_and(fits) {
                // As many records as the segment takes, with one write.
                let current = self.current.as_mut().expect("there is one that fits");
                let mut end = next.end;
                i += 1;
                while let Some(more) = pending.get(i).filter(|p| !p.roll && current.takes((p.end - from) as u64)) {
                    end = more.end;
                    i += 1;
                }
                current.file.write_into_zeros(current.pos, &buffer[from..end], current.zeros_end)?;
                current.pos += (end - from) as u64;
                current.unsynced = true;
                from = end;
            } else {
                self.start_segment(next.zxid, &buffer[from..next.end])?;
                started = Some(next.zxid);
                from = next.end;
                i += 1;
            }
        }
        assert_eq!(from, buffer.len(), "every buffered byte belongs to a record that was written");
        self.finish_commit()?;
        let (records, bytes) = (pending.len(), buffer.len());
        self.recycle(buffer, pending);
        Ok(Committed { zxid: self.durable, records, bytes, started })
    }

    /// Syncs what the commit wrote. Once, whatever comes of it (safety contract 1.4).
    fn sync_commit(&mut self) -> DiskResult<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        if !farrier_proto::planted!(LogNotSynced) {
            match current.file.sync() {
                Err(_) if farrier_proto::planted!(FailedSyncRetried) => current.file.sync()?,
                other => other?,
            }
        }
        current.unsynced = false;
        Ok(())
    }

    /// Syncs what the commit wrote and tells the mark.
    fn finish_commit(&mut self) -> DiskResult<()> {
        if let Some(current) = &mut self.current {
            if current.unsynced && self.options.force_sync {
                if farrier_proto::planted!(MarkBeforeSync) {
                    self.durable = self.appended;
                    self.write_mark()?;
                    self.mark.sync()?;
                }
                self.sync_commit()?;
                self.durable = self.appended;
                self.write_mark()?;
            }
            let pos = self.current.as_ref().map_or(0, |c| c.pos);
            if self.options.size_limit > 0 && pos > self.options.size_limit {
                self.roll = true;
            }
        }
        self.durable = self.appended;
        Ok(())
    }

    /// Keeps the buffers for the next batch, unless a batch was out of the ordinary.
    fn recycle(&mut self, mut buffer: Vec<u8>, mut pending: Vec<Pending>) {
        buffer.clear();
        pending.clear();
        if buffer.capacity() <= 2 * TXN_MAX {
            self.buffer = buffer;
        }
        if pending.capacity() <= 1 << 16 {
            self.pending = pending;
        }
    }

    fn write_mark(&mut self) -> DiskResult<()> {
        let Some(current) = &self.current else { return Ok(()) };
        let mark = Mark {
            sequence: 0,
            segment: current.first,
            offset: current.pos,
            zxid: self.durable,
            epoch: self.epoch,
            floor: self.floor,
        };
        self.mark.write(&*self.disk, mark)
    }

    /// Ends the current segment and starts the next with one record; see the module's text.
    fn start_segment(&mut self, first: Zxid, record: &[u8]) -> DiskResult<()> {
        if let Some(old) = self.current.take().filter(|old| old.unsynced) {
            old.file.sync()?;
        }
        let path = log_path(first);
        refuse_to_overwrite(&*self.disk, &path)?;
        let prepared = take_prepared(&*self.disk, &path)?;
        let file = self.disk.open(&path, OpenMode::Write)?;
        let capacity = match (prepared, self.options.segment_size) {
            (Some(len), _) => len,
            (None, 0) => u64::MAX,
            (None, size) => size,
        };
        let zeros_end = prepared.unwrap_or(0);
        file.write_into_zeros(FIRST_RECORD, record, zeros_end)?;
        file.sync()?;
        let pos = FIRST_RECORD + record.len() as u64;
        self.current = Some(Current { file, first, pos, capacity, zeros_end, unsynced: false });
        self.durable = first;
        self.write_mark()?;
        self.mark.sync()
    }
}

/// Whether `next` may follow `last`; nothing follows the end of the number range.
pub(crate) fn follows(next: Zxid, last: Zxid) -> bool {
    last.get() < u64::MAX && next.follows(last)
}

/// A segment of that name with anything in it but its header is somebody's history.
fn refuse_to_overwrite<D: Disk>(disk: &D, path: &DiskPath) -> DiskResult<()> {
    match SegmentReader::open(disk, path, TXN_MAX) {
        Ok(mut reader) => {
            if !reader.is_zero_from(FIRST_RECORD)? {
                return Err(DiskError {
                    operation: "start the log segment",
                    path: disk.describe(path),
                    kind: DiskErrorKind::Exists,
                    message: "the file exists and is not empty".to_owned(),
                });
            }
            Ok(())
        }
        Err(e) if e.kind == DiskErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Gives `path` a durable name and header. Answers the length of the zeros that were prepared for it.
fn take_prepared<D: Disk>(disk: &D, path: &DiskPath) -> DiskResult<Option<u64>> {
    let next = DiskPath::new(Dir::LogVersion, NEXT_NAME);
    let prepared = prepared_len(disk)?;
    if prepared.is_some() {
        disk.rename(&next, path)?;
    } else {
        let new = DiskPath::new(Dir::LogVersion, NEW_NAME);
        let file = disk.open(&new, OpenMode::CreateTruncate)?;
        file.write_at(0, &header())?;
        file.sync()?;
        drop(file);
        disk.rename(&new, path)?;
    }
    if !farrier_proto::planted!(SegmentNameNotSynced) {
        disk.sync_dir(Dir::LogVersion)?;
    }
    Ok(prepared)
}

/// Length of the prepared segment, if there is one with a proper header and no record.
pub(crate) fn prepared_len<D: Disk>(disk: &D) -> DiskResult<Option<u64>> {
    match disk.open(&DiskPath::new(Dir::LogVersion, NEXT_NAME), OpenMode::Read) {
        Ok(file) => {
            let mut start = [0; HEADER_LEN + record::PREFIX];
            let got = file.read_at(0, &mut start)?;
            let good = start[..HEADER_LEN] == header() && start[HEADER_LEN..] == [0; record::PREFIX];
            Ok(if good && got >= HEADER_LEN { Some(file.len()?) } else { None })
        }
        Err(e) if e.kind == DiskErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Prepares the next segment: a header and zeros up to `len` bytes, durable, as `farrier.next`. Does
/// nothing if one of that length waits. `pace` is called with the bytes written so far, and may take its
/// time. May run beside the writer, but not twice at once. A failure harms nothing: the disk is full
/// before the log needs it, and the caller warns.
pub fn prepare_segment<D: Disk>(disk: &D, len: u64, pace: &mut dyn FnMut(u64)) -> DiskResult<()> {
    if prepared_len(disk)? == Some(len.max(FIRST_RECORD)) {
        return Ok(());
    }
    keep_reserve(disk, Dir::LogVersion, len)?;
    let tmp = DiskPath::new(Dir::LogVersion, NEXT_TMP_NAME);
    let filled = fill(disk, &tmp, len, pace);
    if let Err(e) = filled {
        // Give the space back; if that fails too, the next start removes it.
        let _ = disk.remove(&tmp);
        return Err(e);
    }
    disk.rename(&tmp, &DiskPath::new(Dir::LogVersion, NEXT_NAME))?;
    disk.sync_dir(Dir::LogVersion)
}

/// Refuses what can wait, and would need `len` more bytes, where less than [`RESERVE`] would be left: what is
/// made beforehand must not fill the disk under a commit.
pub(crate) fn keep_reserve<D: Disk>(disk: &D, dir: Dir, len: u64) -> DiskResult<()> {
    match disk.free_bytes(dir)? {
        Some(free) if free < len.saturating_add(RESERVE) => Err(DiskError {
            operation: "take more room in",
            path: dir_name(disk, dir),
            kind: DiskErrorKind::Full,
            message: match len {
                0 => format!("{free} bytes are free, and up to {RESERVE} of them are kept for the log"),
                _ => {
                    format!("{len} bytes are needed, {free} are free, and up to {RESERVE} of them are kept for the log")
                }
            },
        }),
        _ => Ok(()),
    }
}

fn fill<D: Disk>(disk: &D, tmp: &DiskPath, len: u64, pace: &mut dyn FnMut(u64)) -> DiskResult<()> {
    let file = disk.open(tmp, OpenMode::CreateTruncate)?;
    file.write_at(0, &header())?;
    let (mut at, mut synced) = (FIRST_RECORD, 0);
    while at < len {
        // Up to a multiple, where blocks end.
        let n = (FILL_CHUNK - at % FILL_CHUNK).min(len - at);
        file.write_zeros(at, n)?;
        at += n;
        if at - synced >= FILL_SYNC_EVERY {
            file.sync()?;
            synced = at;
        }
        // Others write to the same disk meanwhile.
        keep_reserve(disk, Dir::LogVersion, 0)?;
        pace(at);
    }
    file.sync()
}

#[cfg(test)]
mod tests;
