//! Reading a snapshot: streaming, in bounded memory, believing nothing before its seal.

use super::{END_BYTES, MAGIC, VERSION, zxid_of_name};
use crate::compress::{Compression, READ_CHUNK, Stream, split_error};
use crate::disk::{Disk, DiskError, DiskFile, DiskPath, OpenMode};
use crate::state::{NodeRecord, Restore, RestoreError, SnapshotDigest};
use farrier_proto::limits::TXN_MAX;
use farrier_proto::stat::StatPersisted;
use farrier_proto::{Acl, DecodeError, Field, Reader, SessionId, Txn, TxnDigest, TxnHeader, Zxid};
use simd_adler32::Adler32;
use std::io::Read;

/// Bytes of a znode behind its data: ACL key and stat.
const NODE_TAIL: usize = 8 + 60;
/// Bytes of a seal: checksum and end marker.
const SEAL: usize = 8 + END_BYTES.len();
/// Hexadecimal digits of a digest of the algorithms before version 2.
const OLD_DIGEST_MAX: usize = 16;

/// Why a snapshot cannot be loaded. The state that was being filled is partial and must be reset.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The bytes are not a whole, unchanged snapshot.
    #[error("{file} is damaged or incomplete at byte {offset}: {message}")]
    Damaged {
        /// The file as the operator knows it.
        file: String,
        /// Where, counted in uncompressed bytes.
        offset: u64,
        /// What was found and what was expected.
        message: String,
    },
    /// A field is longer than the limit in force. Whether the rest is whole was not looked at;
    /// [`measure_snapshot`] tells.
    #[error("{file} has a field of {len} bytes at byte {offset}, more than the {max} that jute.maxbuffer admits")]
    Limit {
        /// The file as the operator knows it.
        file: String,
        /// Where, counted in uncompressed bytes.
        offset: u64,
        /// The field's length in bytes.
        len: u64,
        /// The limit.
        max: usize,
    },
    /// The bytes are a snapshot, but the state can't take what they say.
    #[error("{file} cannot be loaded, at byte {offset}: {reason}")]
    Refused {
        /// The file as the operator knows it.
        file: String,
        /// Where, counted in uncompressed bytes.
        offset: u64,
        /// What contradicts what.
        reason: RestoreError,
    },
}

/// What was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotRead {
    /// From the file's name.
    pub zxid: Zxid,
    /// Sessions.
    pub sessions: u64,
    /// Entries of the ACL table.
    pub acls: u64,
    /// Znodes.
    pub nodes: u64,
    /// The digest trailer, unless it is missing, empty, or older than the snapshot.
    pub digest: Option<SnapshotDigest>,
    /// The last-zxid trailer, if there is one.
    pub last_zxid: Option<Zxid>,
    /// The last checksum that was verified.
    pub seal: u32,
    /// Uncompressed bytes that were used.
    pub bytes: u64,
    /// Uncompressed bytes up to the first seal, it included: a whole snapshot without trailers.
    pub body: u64,
    /// The longest path, data or ACL list, in bytes: the least limit under which it loads.
    pub widest: u64,
}

/// Loads a snapshot into `state` and ends with [`Restore::loaded`]. Fields are bounded by [`TXN_MAX`].
///
/// # Errors
/// Any [`SnapshotError`]; `state` is then partly filled and wants [`Restore::reset`].
pub fn read_snapshot<D: Disk>(
    disk: &D,
    path: &DiskPath,
    state: &mut dyn Restore,
) -> Result<SnapshotRead, SnapshotError> {
    read_snapshot_bounded(disk, path, TXN_MAX, state)
}

/// [`read_snapshot`] for servers with a raised `jute.maxbuffer`: `max` bounds a path, a znode's data and
/// an ACL list, each in bytes.
///
/// # Errors
/// As [`read_snapshot`].
pub fn read_snapshot_bounded<D: Disk>(
    disk: &D,
    path: &DiskPath,
    max: usize,
    state: &mut dyn Restore,
) -> Result<SnapshotRead, SnapshotError> {
    let Some(zxid) = zxid_of_name("snapshot", &path.name) else {
        let message = "the name has no zxid".to_owned();
        return Err(SnapshotError::Damaged { file: disk.describe(path), offset: 0, message });
    };
    let compression = Compression::of_name(&path.name);
    let file = disk.open(path, OpenMode::Read)?;
    read_from(disk, path, zxid, &mut Body::new(Stream::new(file, compression), max), state)
}

fn read_from<D: Disk>(
    disk: &D,
    path: &DiskPath,
    zxid: Zxid,
    body: &mut Body<D::File>,
    state: &mut dyn Restore,
) -> Result<SnapshotRead, SnapshotError> {
    read_content(body, zxid, Compression::of_name(&path.name), state).map_err(|failure| {
        let (file, offset) = (disk.describe(path), body.offset);
        match failure {
            Failure::Disk(error) => SnapshotError::Disk(error),
            Failure::Damaged(message) => SnapshotError::Damaged { file, offset, message },
            Failure::Limit(len) => SnapshotError::Limit { file, offset, len, max: body.max },
            Failure::Refused(reason) => SnapshotError::Refused { file, offset, reason },
        }
    })
}

/// Reads a snapshot from start to end and checks everything but the tree that it makes.
///
/// # Errors
/// As [`read_snapshot`].
pub fn verify_snapshot<D: Disk>(disk: &D, path: &DiskPath, max: usize) -> Result<SnapshotRead, SnapshotError> {
    read_snapshot_bounded(disk, path, max, &mut Discard)
}

/// [`verify_snapshot`] without a limit: tells a whole file with fields longer than the limit in force from a
/// damaged one. Long data passes through a bounded window.
///
/// # Errors
/// As [`read_snapshot`], but never [`SnapshotError::Limit`] for what the format allows.
pub fn measure_snapshot<D: Disk>(disk: &D, path: &DiskPath) -> Result<SnapshotRead, SnapshotError> {
    let Some(zxid) = zxid_of_name("snapshot", &path.name) else {
        return verify_snapshot(disk, path, TXN_MAX);
    };
    let file = disk.open(path, OpenMode::Read)?;
    let stream = Stream::new(file, Compression::of_name(&path.name));
    let mut body = Body::new(stream, usize::try_from(i32::MAX).unwrap_or(usize::MAX));
    body.skim = true;
    read_from(disk, path, zxid, &mut body, &mut Discard)
}

/// A state that forgets what it is told.
struct Discard;

impl Restore for Discard {
    fn reset(&mut self) {}
    fn session(&mut self, _: SessionId, _: i32) -> Result<(), RestoreError> {
        Ok(())
    }
    fn acl(&mut self, _: i64, _: Vec<Acl<'_>>) -> Result<(), RestoreError> {
        Ok(())
    }
    fn node(&mut self, _: NodeRecord<'_>) -> Result<(), RestoreError> {
        Ok(())
    }
    fn loaded(&mut self, _: Zxid, _: Option<SnapshotDigest>) -> Result<(), RestoreError> {
        Ok(())
    }
    fn replay(&mut self, _: &TxnHeader, _: &Txn<'_>, _: Option<TxnDigest>) -> Result<(), RestoreError> {
        Ok(())
    }
}

enum Failure {
    Disk(DiskError),
    Damaged(String),
    /// A field of that many bytes is over the limit.
    Limit(u64),
    Refused(RestoreError),
}

impl From<RestoreError> for Failure {
    fn from(reason: RestoreError) -> Self {
        Self::Refused(reason)
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::Damaged(error.to_string())
    }
}

fn damaged(message: impl Into<String>) -> Failure {
    Failure::Damaged(message.into())
}

/// The uncompressed bytes, with a window for the record at hand and the checksum of what was consumed.
struct Body<F: DiskFile> {
    from: Stream<F>,
    /// `buffer[pos..end]` was read and not consumed.
    buffer: Vec<u8>,
    pos: usize,
    end: usize,
    ended: bool,
    /// Of the byte at `pos`.
    offset: u64,
    adler: Adler32,
    max: usize,
    /// Long data is checksummed and not shown to the state.
    skim: bool,
    widest: usize,
}

impl<F: DiskFile> Body<F> {
    fn new(from: Stream<F>, max: usize) -> Self {
        Self {
            from,
            buffer: Vec::new(),
            pos: 0,
            end: 0,
            ended: false,
            offset: 0,
            adler: Adler32::new(),
            max,
            skim: false,
            widest: 0,
        }
    }

    /// Consumes `n` bytes through a bounded window.
    fn skip(&mut self, mut n: usize, what: &str) -> Result<(), Failure> {
        while n > 0 {
            let step = n.min(READ_CHUNK);
            self.peek(step, what)?;
            self.consume(step);
            n -= step;
        }
        Ok(())
    }

    /// Tries to have `n` bytes in the window; returns how many there are at most. Memory grows with what
    /// was really read, not with what a length field says.
    fn fill(&mut self, n: usize) -> Result<usize, Failure> {
        while self.end - self.pos < n && !self.ended {
            if self.buffer.len() - self.end < READ_CHUNK {
                if self.pos > 0 {
                    self.buffer.copy_within(self.pos..self.end, 0);
                    self.end -= self.pos;
                    self.pos = 0;
                }
                if self.buffer.len() - self.end < READ_CHUNK {
                    self.buffer.resize(self.end + 2 * READ_CHUNK, 0);
                }
            }
            let read = self.from.read(&mut self.buffer[self.end..]);
            match read.map_err(|e| split_error(e).map_or_else(Failure::Damaged, Failure::Disk))? {
                0 => self.ended = true,
                n => self.end += n,
            }
        }
        Ok(n.min(self.end - self.pos))
    }

    /// The next `n` bytes, which stay in the window.
    fn peek(&mut self, n: usize, what: &str) -> Result<&[u8], Failure> {
        let have = self.fill(n)?;
        if have < n {
            return Err(damaged(format!("the file ends inside {what}: it needs {n} bytes, {have} are left")));
        }
        Ok(&self.buffer[self.pos..self.pos + n])
    }

    fn consume(&mut self, n: usize) {
        self.adler.write(&self.buffer[self.pos..self.pos + n]);
        self.pos += n;
        self.offset += n as u64;
    }

    fn peek_i32(&mut self, at: usize, what: &str) -> Result<i32, Failure> {
        let bytes = self.peek(at + 4, what)?;
        Ok(Reader::new(&bytes[at..]).i32()?)
    }

    /// The length field `at` bytes into the window: `None` for null.
    fn peek_len(&mut self, at: usize, what: &str) -> Result<Option<usize>, Failure> {
        let len = self.peek_i32(at, what)?;
        match usize::try_from(len) {
            Ok(n) if n <= self.max => {
                self.widest = self.widest.max(n);
                Ok(Some(n))
            }
            Ok(n) => Err(Failure::Limit(n as u64)),
            Err(_) if len == -1 => Ok(None),
            Err(_) => Err(damaged(format!("{what} has the length {len}, allowed are 0 to {}", self.max))),
        }
    }

    fn i32(&mut self, what: &str) -> Result<i32, Failure> {
        let v = self.peek_i32(0, what)?;
        self.consume(4);
        Ok(v)
    }

    fn i64(&mut self, what: &str) -> Result<i64, Failure> {
        let v = Reader::new(self.peek(8, what)?).i64()?;
        self.consume(8);
        Ok(v)
    }

    /// A count, of which nothing is believed but its sign.
    fn count(&mut self, what: &str) -> Result<u32, Failure> {
        let n = self.i32(what)?;
        u32::try_from(n).map_err(|_| damaged(format!("{what} is {n}")))
    }

    /// A seal: the checksum of everything before it.
    fn seal(&mut self) -> Result<u32, Failure> {
        let sum = self.adler.finish();
        let bytes = self.peek(SEAL, "a checksum")?;
        let (stored, end) = (Reader::new(bytes).i64()?, &bytes[8..] == END_BYTES.as_slice());
        if stored != i64::from(sum) {
            return Err(damaged(format!(
                "the checksum of all bytes before is {sum:#010x}, the file says {stored:#010x}"
            )));
        }
        if !end {
            return Err(damaged("no end marker follows the checksum"));
        }
        self.consume(SEAL);
        Ok(sum)
    }

    /// Whether what follows is a last-zxid trailer, as Apache 3.9 writes it without a digest trailer when
    /// digests are off. It would be misread as a digest trailer; its seal tells them apart.
    fn last_zxid_follows(&mut self) -> Result<bool, Failure> {
        if self.fill(8 + SEAL)? < 8 + SEAL {
            return Ok(false);
        }
        let bytes = &self.buffer[self.pos..self.pos + 8 + SEAL];
        let mut adler = self.adler.clone();
        adler.write(&bytes[..8]);
        Ok(bytes[8..16] == i64::from(adler.finish()).to_be_bytes() && bytes[16..] == END_BYTES)
    }
}

fn read_content<F: DiskFile>(
    body: &mut Body<F>,
    zxid: Zxid,
    compression: Compression,
    state: &mut dyn Restore,
) -> Result<SnapshotRead, Failure> {
    read_header(body)?;
    let sessions = body.count("the number of sessions")?;
    for _ in 0..sessions {
        let session = SessionId(body.i64("a session")?);
        let timeout = body.i32("a session")?;
        state.session(session, timeout)?;
    }
    let acls = body.count("the number of ACL lists")?;
    for _ in 0..acls {
        read_acl(body, state)?;
    }
    let mut nodes = 0;
    while read_node(body, state)? {
        nodes += 1;
    }
    let mut seal = body.seal()?;
    let sealed = body.offset;
    let mut digest = None;
    let mut last_zxid = None;
    if body.fill(1)? > 0 && !body.last_zxid_follows()? {
        digest = read_digest(body)?.filter(|d| d.zxid >= zxid);
        seal = body.seal()?;
    }
    if body.fill(1)? > 0 {
        last_zxid = Some(Zxid::from_wire(body.i64("the last zxid")?));
        seal = body.seal()?;
    }
    let bytes = body.offset;
    match compression {
        // Later versions may append more; gzip's own checksum stands at the very end.
        Compression::Gz => {
            while body.fill(1)? > 0 {
                let n = body.end - body.pos;
                body.consume(n);
            }
        }
        Compression::Plain | Compression::Snappy => {}
    }
    state.loaded(zxid, digest)?;
    let (sessions, acls) = (u64::from(sessions), u64::from(acls));
    Ok(SnapshotRead {
        zxid,
        sessions,
        acls,
        nodes,
        digest,
        last_zxid,
        seal,
        bytes,
        body: sealed,
        widest: body.widest as u64,
    })
}

fn read_header<F: DiskFile>(body: &mut Body<F>) -> Result<(), Failure> {
    let magic = body.i32("the header")?;
    if magic != MAGIC {
        return Err(damaged(format!("the header begins with {magic:#010x} instead of {MAGIC:#010x}")));
    }
    let version = body.i32("the header")?;
    if version != VERSION {
        return Err(damaged(format!("the format has version {version}, known is {VERSION}")));
    }
    body.i64("the header")?;
    Ok(())
}

/// One entry of the ACL table.
fn read_acl<F: DiskFile>(body: &mut Body<F>, state: &mut dyn Restore) -> Result<(), Failure> {
    const WHAT: &str = "an ACL list";
    let count = body.peek_i32(8, WHAT)?;
    if count == -1 {
        return Err(damaged("an ACL list is null"));
    }
    // Other negative counts read as empty, as everywhere in jute.
    let mut len = 8 + 4;
    for _ in 0..count {
        len += 4;
        for _ in 0..2 {
            let n = body.peek_len(len, WHAT)?.ok_or_else(|| damaged("a string in an ACL list is null"))?;
            len += 4 + n;
            if len > body.max.saturating_add(8) {
                return Err(Failure::Limit(len as u64));
            }
        }
    }
    body.widest = body.widest.max(len - 8);
    let bytes = body.peek(len, WHAT)?;
    let mut r = Reader::new(bytes);
    let key = r.i64()?;
    r.i32()?;
    let mut acl = Vec::new();
    while !r.is_empty() {
        acl.push(Acl::read(&mut r)?);
    }
    state.acl(key, acl)?;
    body.consume(len);
    Ok(())
}

/// One znode; false for the end of them.
fn read_node<F: DiskFile>(body: &mut Body<F>, state: &mut dyn Restore) -> Result<bool, Failure> {
    let path_len = body.peek_len(0, "a path")?.ok_or_else(|| damaged("a path is null"))?;
    if path_len == 1 && body.peek(END_BYTES.len(), "the end of the znodes")? == END_BYTES {
        body.consume(END_BYTES.len());
        return Ok(false);
    }
    let data_at = 4 + path_len + 4;
    let data_len = body.peek_len(4 + path_len, "a znode's data")?;
    let tail_at = data_at + data_len.unwrap_or(0);
    let len = tail_at + NODE_TAIL;
    if body.skim && len > READ_CHUNK {
        body.skip(len, "a znode")?;
        return Ok(true);
    }
    let bytes = body.peek(len, "a znode")?;
    let path = std::str::from_utf8(&bytes[4..4 + path_len]).map_err(|_| damaged("a path is not UTF-8"))?;
    let data = data_len.map(|n| &bytes[data_at..data_at + n]);
    let mut tail = Reader::new(&bytes[tail_at..]);
    let acl = tail.i64()?;
    let stat = StatPersisted::read(&mut tail)?;
    state.node(NodeRecord { path, data, acl, stat })?;
    body.consume(len);
    Ok(true)
}

/// The digest trailer; `None` if it says that there is no digest.
fn read_digest<F: DiskFile>(body: &mut Body<F>) -> Result<Option<SnapshotDigest>, Failure> {
    const WHAT: &str = "the digest";
    let zxid = Zxid::from_wire(body.i64(WHAT)?);
    let version = body.i32(WHAT)?;
    let digest = if version < TxnDigest::VERSION {
        match body.peek_len(0, WHAT)? {
            None => {
                body.consume(4);
                0
            }
            Some(n) if n > OLD_DIGEST_MAX => {
                return Err(damaged(format!("the digest has {n} digits, at most {OLD_DIGEST_MAX} are possible")));
            }
            Some(n) => {
                let text = std::str::from_utf8(&body.peek(4 + n, WHAT)?[4..]).unwrap_or_default();
                let value = u64::from_str_radix(text, 16)
                    .map_err(|_| damaged(format!("the digest {text:?} is no hexadecimal number")))?;
                body.consume(4 + n);
                value
            }
        }
    } else {
        body.i64(WHAT)?.cast_unsigned()
    };
    Ok((zxid != Zxid::ZERO).then_some(SnapshotDigest { zxid, version, digest }))
}
