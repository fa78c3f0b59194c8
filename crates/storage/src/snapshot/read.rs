//! Reading a snapshot: streaming, in bounded memory, believing nothing before its seal.

use super::body::{Failure, Parser, Step, checked_len, damaged};
use super::{END_BYTES, MAGIC, VERSION, zxid_of_name};
use crate::compress::{Compression, READ_CHUNK, Stream, split_error};
use crate::disk::{Disk, DiskError, DiskFile, DiskPath, OpenMode};
use crate::state::{LoggedTxn, NodeRecord, Restore, RestoreError, SnapshotDigest};
use farrier_proto::limits::TXN_MAX;
use farrier_proto::{Acl, Reader, SessionId, TxnDigest, Zxid};
use simd_adler32::Adler32;
use std::io::Read;

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
        /// Where, counted in uncompressed bytes: of the record, or of a later one if the state takes in later what it
        /// is handed. The reason tells the path.
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

impl SnapshotRead {
    /// The last transaction of which it may hold effects: Apache goes on while it writes one, and tells in the
    /// trailers how far it came.
    #[must_use]
    pub(crate) fn testified(&self) -> Zxid {
        let digest = self.digest.map_or(Zxid::ZERO, |d| d.zxid);
        let last = self.last_zxid.filter(|z| z.to_wire() > 0).unwrap_or(Zxid::ZERO);
        digest.max(last)
    }
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
    read_snapshot_named(disk, path, &path.name, max, state)
}

/// [`read_snapshot_bounded`] of a file that lies under another name than the one that tells zxid and
/// compression, `name`: one that was moved aside.
///
/// # Errors
/// As [`read_snapshot`].
pub fn read_snapshot_named<D: Disk>(
    disk: &D,
    path: &DiskPath,
    name: &str,
    max: usize,
    state: &mut dyn Restore,
) -> Result<SnapshotRead, SnapshotError> {
    let Some(zxid) = zxid_of_name("snapshot", name) else {
        let message = "the name has no zxid".to_owned();
        return Err(SnapshotError::Damaged { file: disk.describe(path), offset: 0, message });
    };
    let compression = Compression::of_name(name);
    let file = disk.open(path, OpenMode::Read)?;
    read_from(disk, path, zxid, compression, &mut Body::new(Stream::new(file, compression), max), state)
}

fn read_from<D: Disk>(
    disk: &D,
    path: &DiskPath,
    zxid: Zxid,
    compression: Compression,
    body: &mut Body<D::File>,
    state: &mut dyn Restore,
) -> Result<SnapshotRead, SnapshotError> {
    read_content(body, zxid, compression, state)
        .map_err(|failure| failure.at(disk.describe(path), body.offset, body.max))
}

impl Failure {
    /// The error that tells of it: in which file, at which byte, under which limit.
    pub(super) fn at(self, file: String, offset: u64, max: usize) -> SnapshotError {
        match self {
            Self::Disk(error) => SnapshotError::Disk(error),
            Self::Damaged(message) => SnapshotError::Damaged { file, offset, message },
            Self::Limit(len) => SnapshotError::Limit { file, offset, len, max },
            Self::Refused(reason) => SnapshotError::Refused { file, offset, reason },
        }
    }
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
    measure_unnamed(disk, path, path)
}

/// [`measure_snapshot`] of a file that has yet to get the name that tells zxid and compression.
pub(crate) fn measure_unnamed<D: Disk>(
    disk: &D,
    path: &DiskPath,
    name: &DiskPath,
) -> Result<SnapshotRead, SnapshotError> {
    let Some(zxid) = zxid_of_name("snapshot", &name.name) else {
        return verify_snapshot(disk, path, TXN_MAX);
    };
    let file = disk.open(path, OpenMode::Read)?;
    let compression = Compression::of_name(&name.name);
    let mut body = Body::new(Stream::new(file, compression), usize::try_from(i32::MAX).unwrap_or(usize::MAX));
    body.skim = true;
    read_from(disk, path, zxid, compression, &mut body, &mut Discard)
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
    fn replay(&mut self, _: &LoggedTxn<'_>) -> Result<(), RestoreError> {
        Ok(())
    }
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

    fn i32(&mut self, what: &str) -> Result<i32, Failure> {
        let v = Reader::new(self.peek(4, what)?).i32()?;
        self.consume(4);
        Ok(v)
    }

    fn i64(&mut self, what: &str) -> Result<i64, Failure> {
        let v = Reader::new(self.peek(8, what)?).i64()?;
        self.consume(8);
        Ok(v)
    }

    /// A seal: the checksum of everything before it.
    fn seal(&mut self) -> Result<u32, Failure> {
        let sum = self.adler.finish();
        let bytes = self.peek(SEAL, "a checksum")?;
        let (stored, end) = (Reader::new(bytes).i64()?, &bytes[8..] == END_BYTES.as_slice());
        if stored != i64::from(sum) && !farrier_proto::planted!(DamagedSnapshotLoaded) {
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
    let mut parser = if body.skim { Parser::measuring(body.max) } else { Parser::new(body.max) };
    while !parser.has_ended() {
        match parser.step(&body.buffer[body.pos..body.end], state)? {
            Step::Need { bytes, what } => {
                body.peek(bytes, what)?;
            }
            Step::Took(n) | Step::End(n) => body.consume(n),
            Step::Skip(n) => body.skip(n, "a znode")?,
        }
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
    Ok(SnapshotRead {
        zxid,
        sessions: parser.sessions,
        acls: parser.acls,
        nodes: parser.nodes,
        digest,
        last_zxid,
        seal,
        bytes,
        body: sealed,
        widest: parser.widest as u64,
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

/// The digest trailer; `None` if it says that there is no digest.
fn read_digest<F: DiskFile>(body: &mut Body<F>) -> Result<Option<SnapshotDigest>, Failure> {
    const WHAT: &str = "the digest";
    let zxid = Zxid::from_wire(body.i64(WHAT)?);
    let version = body.i32(WHAT)?;
    let digest = if version < TxnDigest::VERSION {
        match checked_len(Reader::new(body.peek(4, WHAT)?).i32()?, body.max, WHAT)? {
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
