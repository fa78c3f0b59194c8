//! Log files: names, header, order, and reading one from a place.
//!
//! Owns what a `log.<hex>` file looks like and how to read it in bounded memory. It changes nothing on
//! disk.

use crate::disk::{Dir, DirEntry, Disk, DiskFile, DiskPath, DiskResult, OpenMode};
use crate::log::follows;
use crate::record::{self, Decoded, PREFIX, Stop};
use farrier_proto::limits::TXN_MAX;
use farrier_proto::txn::{TxnHeader, read_header};
use farrier_proto::{TxnType, Zxid};

/// "ZKLG".
pub const MAGIC: u32 = 0x5a4b_4c47;

/// Format version.
pub const VERSION: u32 = 2;

/// Bytes before the first record.
pub const HEADER_LEN: usize = 16;

/// [`HEADER_LEN`] as an offset.
pub(crate) const FIRST_RECORD: u64 = HEADER_LEN as u64;

/// Default size of a segment, zero-filled before it is used: Apache's 64 MiB and its header.
pub const SEGMENT_SIZE: u64 = (64 << 20) + HEADER_LEN as u64;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// The same in a file that cannot be read everywhere.
const CHUNK_OF_BAD: usize = 4096;

/// What unused parts of a segment are compared with.
static ZEROS: [u8; 4096] = [0; 4096];

/// Bytes that [`SegmentReader::valid_record_after`] checksums before it gives up. Honest logs need a
/// fraction; only a file made for it needs more.
const SCAN_BUDGET: u64 = 1 << 30;

/// The header of every segment: magic, version, dbid 0.
#[must_use]
pub fn header() -> [u8; HEADER_LEN] {
    let mut out = [0; HEADER_LEN];
    out[..4].copy_from_slice(&MAGIC.to_be_bytes());
    out[4..8].copy_from_slice(&VERSION.to_be_bytes());
    out
}

/// Name of the segment that starts with `first`.
#[must_use]
pub fn log_name(first: Zxid) -> String {
    format!("log.{:x}", first.get())
}

/// Path of the segment that starts with `first`.
#[must_use]
pub fn log_path(first: Zxid) -> DiskPath {
    DiskPath::new(Dir::LogVersion, log_name(first))
}

/// The zxid that Apache would see in a name with this prefix (`log` or `snapshot`): the second component,
/// as a positive signed hexadecimal number, whatever follows.
#[must_use]
pub fn apache_zxid(name: &str, prefix: &str) -> Option<Zxid> {
    let mut parts = name.split('.');
    if parts.next() != Some(prefix) {
        return None;
    }
    i64::from_str_radix(parts.next()?, 16).ok().filter(|z| *z >= 0).map(Zxid::from_wire)
}

/// The zxid in a segment's name, if it is a name that a server writes.
#[must_use]
pub fn parse_log_name(name: &str) -> Option<Zxid> {
    let zxid = apache_zxid(name, "log")?;
    (log_name(zxid) == name).then_some(zxid)
}

/// A segment of a listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// The zxid in its name, which is that of its first record.
    pub first: Zxid,
    /// Bytes.
    pub len: u64,
}

/// The segments among `entries`, oldest first.
#[must_use]
pub fn segments(entries: &[DirEntry]) -> Vec<Segment> {
    let mut all: Vec<Segment> =
        entries.iter().filter_map(|e| parse_log_name(&e.name).map(|first| Segment { first, len: e.len })).collect();
    all.sort_by_key(|s| s.first);
    all
}

/// The segments on a disk, oldest first.
pub fn list_segments<D: Disk>(disk: &D) -> DiskResult<Vec<Segment>> {
    Ok(segments(&disk.list(Dir::LogVersion)?))
}

/// Index of the segment in which reading for `zxid` starts: the newest that begins at or before it, else
/// the oldest.
#[must_use]
pub fn start_index(segments: &[Segment], zxid: Zxid) -> usize {
    segments.partition_point(|s| s.first <= zxid).saturating_sub(1)
}

/// The zxid before that of a segment's first record, for [`SegmentReader::behind_bad`].
#[must_use]
pub fn before(first: Zxid) -> Zxid {
    Zxid::from_wire(first.to_wire().saturating_sub(1).max(0))
}

/// The record behind a bad one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Behind {
    /// Where it begins.
    pub offset: u64,
    /// Its transaction.
    pub zxid: Zxid,
    /// The bad record's transaction, where the records around it leave only one.
    pub bad: Option<Zxid>,
}

/// Whether exactly one transaction may be missing between `last` and `next`; and which, if only one comes into question.
fn bad_between(last: Zxid, next: Zxid) -> Option<Option<Zxid>> {
    if next.to_wire() < 0 || next <= last {
        return None;
    }
    let before_next = before(next);
    if next.epoch() == last.epoch() {
        return follows(before_next, last).then_some(Some(before_next));
    }
    // The last one of an epoch, or the first of one: nothing tells which.
    match next.counter() {
        0 | 1 => Some(None),
        2 => Some(Some(before_next)),
        _ => None,
    }
}

/// How a segment begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentHeader {
    /// With the magic.
    Good,
    /// The file has no bytes.
    Empty,
    /// Fewer bytes than a header.
    Short,
    /// Another magic; Apache looks at nothing else.
    BadMagic(u32),
}

/// Reads one segment, at places that mostly move forward.
#[derive(Debug)]
pub struct SegmentReader<F> {
    file: F,
    len: u64,
    txn_max: usize,
    buf: Vec<u8>,
    at: u64,
    /// Bytes that are read at once.
    chunk: usize,
}

impl<F: DiskFile> SegmentReader<F> {
    /// Opens `path` for records of at most `txn_max` bytes.
    pub fn open<D: Disk<File = F>>(disk: &D, path: &DiskPath, txn_max: usize) -> DiskResult<Self> {
        let file = disk.open(path, OpenMode::Read)?;
        let len = file.len()?;
        Ok(Self { file, len, txn_max, buf: Vec::new(), at: 0, chunk: CHUNK })
    }

    /// Bytes in the file.
    #[must_use]
    pub const fn file_len(&self) -> u64 {
        self.len
    }

    /// Up to `need` bytes at `offset`: fewer only where the file ends.
    pub(crate) fn bytes(&mut self, offset: u64, need: usize) -> DiskResult<&[u8]> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let need = need.min(left);
        if need == 0 {
            return Ok(&[]);
        }
        let have_end = self.at + self.buf.len() as u64;
        if offset < self.at || offset + need as u64 > have_end {
            let size = need.max(self.chunk).min(left);
            self.buf.resize(size, 0);
            let read = match self.file.read_at(offset, &mut self.buf) {
                // What cannot be read may lie behind what is asked for. A disk may take seconds to say so: it is not asked
                // for all of that again with each record.
                Err(_) if size > need => {
                    self.chunk = CHUNK_OF_BAD;
                    self.buf.truncate(need);
                    self.file.read_at(offset, &mut self.buf)
                }
                read => read,
            };
            self.buf.truncate(*read.as_ref().unwrap_or(&0));
            self.at = offset;
            read?;
        }
        let from = usize::try_from(offset - self.at).expect("the offset lies in the buffer");
        let to = (from + need).min(self.buf.len());
        Ok(&self.buf[from..to])
    }

    /// Judges the file's header.
    pub fn header(&mut self) -> DiskResult<SegmentHeader> {
        if self.len == 0 {
            return Ok(SegmentHeader::Empty);
        }
        let bytes = self.bytes(0, HEADER_LEN)?;
        let Some(magic) = bytes.get(..4).filter(|_| bytes.len() == HEADER_LEN) else {
            return Ok(SegmentHeader::Short);
        };
        let magic = u32::from_be_bytes(magic.try_into().expect("four bytes"));
        Ok(if magic == MAGIC { SegmentHeader::Good } else { SegmentHeader::BadMagic(magic) })
    }

    /// The record at `offset`.
    pub fn record(&mut self, offset: u64) -> DiskResult<Decoded<'_>> {
        let txn_max = self.txn_max;
        let want = record::wanted(self.bytes(offset, PREFIX)?, txn_max);
        Ok(record::decode(self.bytes(offset, want)?, txn_max))
    }

    /// Whether a record of `len` bytes, which is over the limit, stands whole and with a good checksum at
    /// `offset`.
    pub(crate) fn is_whole_beyond_limit(&mut self, offset: u64, len: i32) -> DiskResult<bool> {
        let Ok(mut left) = u64::try_from(len) else { return Ok(false) };
        let mut at = offset + PREFIX as u64;
        if left <= self.txn_max as u64 || at + left >= self.len {
            return Ok(false);
        }
        let mut stored = [0; 8];
        stored.copy_from_slice(match self.bytes(offset, 8)? {
            bytes if bytes.len() == 8 => bytes,
            _ => return Ok(false),
        });
        if self.bytes(at + left, 1)? != [record::MARKER] {
            return Ok(false);
        }
        let mut sum = simd_adler32::Adler32::new();
        while left > 0 {
            let bytes = self.bytes(at, usize::try_from(left).unwrap_or(CHUNK).min(CHUNK))?;
            if bytes.is_empty() {
                return Ok(false);
            }
            sum.write(bytes);
            at += bytes.len() as u64;
            left -= bytes.len() as u64;
        }
        Ok(u64::from_be_bytes(stored) == u64::from(sum.finish()))
    }

    /// Whether only zeros, or nothing, stand from `offset` on.
    pub fn is_zero_from(&mut self, offset: u64) -> DiskResult<bool> {
        Ok(self.next_nonzero(offset)?.is_none())
    }

    fn next_nonzero(&mut self, mut offset: u64) -> DiskResult<Option<u64>> {
        loop {
            let bytes = self.bytes(offset, ZEROS.len())?;
            if bytes.is_empty() {
                return Ok(None);
            }
            // The common case, at the speed of a comparison of memory.
            if bytes != &ZEROS[..bytes.len()]
                && let Some(i) = bytes.iter().position(|b| *b != 0)
            {
                return Ok(Some(offset + i as u64));
            }
            offset += bytes.len() as u64;
        }
    }

    /// Looks, at every byte behind `offset`, for a whole record of a later transaction than `after`. What a
    /// client stored may look like a record: inside a record at `offset` that bears the next transaction,
    /// only that counts which starts where this one would end if merely its length were wrong.
    /// Answers its offset. A file so made that the search would cost too much counts as one that has
    /// such a record, at the place where the search gave up.
    pub fn valid_record_after(&mut self, offset: u64, after: Zxid) -> DiskResult<Option<u64>> {
        let mut budget = SCAN_BUDGET;
        let mut at = offset + 1;
        let inside = self.claimed_end(offset, after)?;
        loop {
            // A record starts with four zero bytes and four of a checksum, and its length is not zero:
            // in a run of zeros only the last 11 places can start one.
            let Some(nonzero) = self.next_nonzero(at)? else { return Ok(None) };
            at = at.max(nonzero.saturating_sub(PREFIX as u64 - 1));
            let limit = nonzero + 1;
            while at < limit {
                match self.candidate(at, after)? {
                    Some((cost, true)) if cost <= budget => {
                        if at >= inside || self.ends_at(offset, at)? {
                            return Ok(Some(at));
                        }
                        budget -= cost;
                    }
                    Some((cost, _)) if cost > budget => return Ok(Some(at)),
                    Some((cost, _)) => budget -= cost,
                    None => {}
                }
                at += 1;
            }
        }
    }

    /// Where the record at `offset` says that it ends, if it bears a transaction that follows `after`;
    /// otherwise 0.
    fn claimed_end(&mut self, offset: u64, after: Zxid) -> DiskResult<u64> {
        let txn_max = self.txn_max;
        let prefix = self.bytes(offset, PREFIX + TxnHeader::LEN)?;
        let Some(Ok(head)) = prefix.get(PREFIX..).map(read_header) else { return Ok(0) };
        if prefix[..4] != [0; 4] || !follows(head.zxid, after) || TxnType::from_code(head.kind).is_none() {
            return Ok(0);
        }
        Ok(offset + record::wanted(prefix, txn_max) as u64)
    }

    /// Whether the record at `offset` is good but for its length if it ends before `end`.
    fn ends_at(&mut self, offset: u64, end: u64) -> DiskResult<bool> {
        let want = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let bytes = self.bytes(offset, want)?;
        if bytes.len() < want || want < record::record_len(TxnHeader::LEN) || bytes[want - 1] != record::MARKER {
            return Ok(false);
        }
        let stored = u64::from_be_bytes(bytes[..8].try_into().expect("the length was checked"));
        Ok(stored == u64::from(record::checksum(&bytes[PREFIX..want - 1])))
    }

    /// Whether a record of a later transaction than `after` starts at `at`, with the bytes that it cost to
    /// find out; `None` if a look at its first bytes was enough.
    fn candidate(&mut self, at: u64, after: Zxid) -> DiskResult<Option<(u64, bool)>> {
        let txn_max = self.txn_max;
        let prefix = self.bytes(at, PREFIX + TxnHeader::LEN)?;
        if prefix.len() < PREFIX + TxnHeader::LEN || prefix[..4] != [0; 4] {
            return Ok(None);
        }
        let Ok(head) = read_header(&prefix[PREFIX..]) else { return Ok(None) };
        if head.zxid <= after || TxnType::from_code(head.kind).is_none() {
            return Ok(None);
        }
        let want = record::wanted(prefix, txn_max);
        if want < record::record_len(TxnHeader::LEN) {
            return Ok(None);
        }
        let bytes = self.bytes(at, want)?;
        if bytes.len() < want || bytes.last() != Some(&record::MARKER) {
            return Ok(None);
        }
        Ok(Some((want as u64, matches!(record::decode(bytes, txn_max), Decoded::Good(_)))))
    }

    /// What stands behind the bad record at `offset`, if its length still tells where it ends: there a whole record has to
    /// begin whose transaction comes right after the one that follows `last`. Nothing is searched for.
    ///
    /// # Errors
    /// The disk failed.
    pub fn behind_bad(&mut self, offset: u64, last: Zxid) -> DiskResult<Option<Behind>> {
        let txn_max = self.txn_max;
        let want = record::wanted(self.bytes(offset, PREFIX)?, txn_max);
        let is_framed = match self.record(offset)? {
            Decoded::Stop(Stop::Checksum { .. }) => !self.may_end_elsewhere(offset, want),
            // Only the marker is bad where the checksum is right.
            Decoded::Stop(Stop::Marker(_)) => {
                let bytes = self.bytes(offset, want - 1)?;
                bytes[..8] == u64::from(record::checksum(&bytes[PREFIX..])).to_be_bytes()
            }
            Decoded::Stop(Stop::Zero | Stop::Short | Stop::Length(_)) | Decoded::Good(_) => false,
        };
        if !is_framed {
            return Ok(None);
        }
        let at = offset + want as u64;
        let Decoded::Good(txn) = self.record(at)? else { return Ok(None) };
        let Ok(TxnHeader { zxid, .. }) = read_header(txn) else { return Ok(None) };
        let bad = bad_between(last, zxid);
        Ok(bad.map(|bad| Behind { offset: at, zxid, bad }))
    }

    /// Whether the checksum of the record at `offset` is right for another length than the stored one, with which it takes
    /// `len` bytes: then the length is what is bad, and what stands behind it may be anything that a client stored.
    fn may_end_elsewhere(&mut self, offset: u64, len: usize) -> bool {
        const MODULUS: u64 = 65_521;
        // What cannot be read tells nothing.
        let Ok(bytes) = self.bytes(offset, record::record_len(self.txn_max.min(TXN_MAX)).max(len)) else {
            return true;
        };
        let Some((prefix, rest)) = bytes.split_at_checked(PREFIX) else { return false };
        let stored = u64::from_be_bytes(prefix[..8].try_into().expect("a prefix begins with the checksum"));
        let (mut a, mut b) = (1_u64, 0_u64);
        for (i, pair) in rest.windows(2).enumerate() {
            a = (a + u64::from(pair[0])) % MODULUS;
            b = (b + a) % MODULUS;
            if pair[1] == record::MARKER && (b << 16 | a) == stored && record::record_len(i + 1) != len {
                return true;
            }
        }
        false
    }

    /// Whether the segment holds a good header and at least one good record.
    pub fn has_records(&mut self) -> DiskResult<bool> {
        Ok(self.header()? == SegmentHeader::Good && matches!(self.record(FIRST_RECORD)?, Decoded::Good(_)))
    }

    /// Walks the records from the header on: calls `visit` with offset and transaction until it answers
    /// false or there is no good record. Answers where the walk ended and why (`None`: by `visit`).
    pub fn walk(&mut self, visit: &mut dyn FnMut(u64, &[u8]) -> bool) -> DiskResult<(u64, Option<Stop>)> {
        self.walk_from(FIRST_RECORD, visit)
    }

    /// The same from the record at `at` on.
    pub fn walk_from(
        &mut self,
        mut at: u64,
        visit: &mut dyn FnMut(u64, &[u8]) -> bool,
    ) -> DiskResult<(u64, Option<Stop>)> {
        loop {
            match self.record(at)? {
                Decoded::Good(txn) => {
                    let len = record::record_len(txn.len()) as u64;
                    if !visit(at, txn) {
                        return Ok((at, None));
                    }
                    at += len;
                }
                Decoded::Stop(stop) => return Ok((at, Some(stop))),
            }
        }
    }
}

#[cfg(test)]
mod tests;
