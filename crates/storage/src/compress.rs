//! The three stream formats that wrap a snapshot: plain, gzip, and the framing of Java's snappy
//! library (not the standard snappy frame format). Buffered positional writing and reading underneath.
//!
//! Checksums of the snapshot format cover the uncompressed bytes and are none of this module's business.

use crate::disk::{DiskError, DiskFile, DiskResult};
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use std::io::{self, BufRead, Read, Write};

/// Bytes gathered before the file is written.
const WRITE_CHUNK: usize = 256 << 10;

/// How a file is written beside others' work on the same device.
pub(crate) struct Pace<'p> {
    /// Bytes between two syncs while the file grows.
    pub(crate) sync_every: u64,
    /// Hears how many bytes each write took.
    pub(crate) written: &'p mut dyn FnMut(u64) -> DiskResult<()>,
}

impl<'p> Pace<'p> {
    /// Beside requests: so little at a time that a sync of the log, which may have to wait for the file's, hardly takes longer.
    pub(crate) fn beside_requests(written: &'p mut dyn FnMut(u64) -> DiskResult<()>) -> Self {
        Self { sync_every: WRITE_CHUNK as u64, written }
    }

    /// Somebody waits for the file: no sync meets so many dirty pages that it holds up others for long, and there are few.
    pub(crate) fn at_once(written: &'p mut dyn FnMut(u64) -> DiskResult<()>) -> Self {
        Self { sync_every: 4 << 20, written }
    }
}

/// Bytes asked from the file at once.
pub(crate) const READ_CHUNK: usize = 256 << 10;

/// First bytes of a snappy stream of Java's library.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];

/// Uncompressed bytes of a snappy block, as Java writes them.
const SNAPPY_BLOCK: usize = 32 << 10;

/// Largest uncompressed snappy block that is read; bounds memory.
const SNAPPY_BLOCK_MAX: usize = 1 << 20;

/// First bytes of a gzip stream.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// How the bytes of a snapshot file are compressed. The file's name tells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    Plain,
    /// gzip; suffix `.gz`.
    Gz,
    /// Snappy blocks in the framing of Java's library; suffix `.snappy`.
    Snappy,
}

impl Compression {
    /// From the value of `snapshot.compression.method`: `gz`, `snappy`, or nothing for plain.
    #[must_use]
    pub fn from_method(method: &str) -> Option<Self> {
        match method {
            "" => Some(Self::Plain),
            "gz" => Some(Self::Gz),
            "snappy" => Some(Self::Snappy),
            _ => None,
        }
    }

    /// The format that a reader takes from a file name: everything that is not marked is plain.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        match name.rsplit_once('.') {
            Some((stem, "gz")) if stem.contains('.') => Self::Gz,
            Some((stem, "snappy")) if stem.contains('.') => Self::Snappy,
            _ => Self::Plain,
        }
    }

    /// What is appended to the file name.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Gz => ".gz",
            Self::Snappy => ".snappy",
        }
    }

    /// Whether a compressed stream may begin like this. Plain streams may begin with anything.
    #[must_use]
    pub fn may_begin_with(self, bytes: &[u8]) -> bool {
        match self {
            Self::Plain => true,
            Self::Gz => bytes.starts_with(&GZIP_MAGIC),
            Self::Snappy => bytes.starts_with(&XERIAL_MAGIC),
        }
    }
}

/// The disk's error inside of an I/O error, or the I/O error's own words.
pub(crate) fn split_error(error: io::Error) -> Result<DiskError, String> {
    error.downcast::<DiskError>().map_err(|other| other.to_string())
}

/// Sequential, buffered writing of one new file. After the first failure nothing more is written.
struct Sink<'p, F> {
    file: F,
    buffer: Vec<u8>,
    offset: u64,
    synced: u64,
    failed: bool,
    pace: Pace<'p>,
}

impl<F: DiskFile> Sink<'_, F> {
    fn spill(&mut self) -> Result<(), DiskError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.failed = true;
        self.file.write_at(self.offset, &self.buffer)?;
        let written = self.buffer.len() as u64;
        self.offset += written;
        self.buffer.clear();
        if self.offset - self.synced >= self.pace.sync_every {
            self.sync()?;
        }
        (self.pace.written)(written)?;
        self.failed = false;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        if self.synced < self.offset && !farrier_proto::planted!(SnapshotNotSynced) {
            self.file.sync()?;
            self.synced = self.offset;
        }
        Ok(())
    }
}

impl<F: DiskFile> Write for Sink<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::Error::other("an earlier write of this file failed"));
        }
        let taken = bytes.len().min(WRITE_CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == WRITE_CHUNK {
            self.spill().map_err(io::Error::other)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        // Whoever calls it half-way wants no small writes; `finish` writes the rest.
        Ok(())
    }
}

/// Cuts a stream into snappy blocks.
struct SnappyWriter<W> {
    to: W,
    block: Vec<u8>,
    encoder: snap::raw::Encoder,
    begun: bool,
}

impl<W: Write> SnappyWriter<W> {
    fn end_block(&mut self) -> io::Result<()> {
        if !self.begun {
            self.begun = true;
            self.to.write_all(&XERIAL_MAGIC)?;
            self.to.write_all(&[0, 0, 0, 1, 0, 0, 0, 1])?;
        }
        if self.block.is_empty() {
            return Ok(());
        }
        let packed = self.encoder.compress_vec(&self.block).map_err(io::Error::other)?;
        let len = u32::try_from(packed.len()).expect("a packed block is little larger than 32 KiB");
        self.to.write_all(&len.to_be_bytes())?;
        self.to.write_all(&packed)?;
        self.block.clear();
        Ok(())
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = bytes.len().min(SNAPPY_BLOCK - self.block.len());
            self.block.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.block.len() == SNAPPY_BLOCK {
                self.end_block()?;
            }
        }
        Ok(())
    }
}

enum Encoder<'p, F: DiskFile> {
    Plain(Sink<'p, F>),
    Gz(Box<GzEncoder<Sink<'p, F>>>),
    Snappy(Box<SnappyWriter<Sink<'p, F>>>),
}

/// A compressed file that is being written from start to end.
pub(crate) struct Writer<'p, F: DiskFile>(Encoder<'p, F>);

impl<'p, F: DiskFile> Writer<'p, F> {
    /// Starts at the beginning of the empty `file`; see [`Pace`].
    pub(crate) fn new(file: F, compression: Compression, pace: Pace<'p>) -> Self {
        let sink = Sink { file, buffer: Vec::with_capacity(WRITE_CHUNK), offset: 0, synced: 0, failed: false, pace };
        Self(match compression {
            Compression::Plain => Encoder::Plain(sink),
            Compression::Gz => Encoder::Gz(Box::new(GzEncoder::new(sink, flate2::Compression::fast()))),
            Compression::Snappy => Encoder::Snappy(Box::new(SnappyWriter {
                to: sink,
                block: Vec::with_capacity(SNAPPY_BLOCK),
                encoder: snap::raw::Encoder::new(),
                begun: false,
            })),
        })
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Encoder::Plain(w) => w.write_all(bytes),
            Encoder::Gz(w) => w.write_all(bytes),
            Encoder::Snappy(w) => w.write_all(bytes),
        }
    }

    /// Writes and syncs what is left. Returns the file's length.
    pub(crate) fn finish(self) -> io::Result<u64> {
        let mut sink = match self.0 {
            Encoder::Plain(sink) => sink,
            Encoder::Gz(w) => w.finish()?,
            Encoder::Snappy(mut w) => {
                w.end_block()?;
                w.to
            }
        };
        sink.spill().and_then(|()| sink.sync()).map_err(io::Error::other)?;
        Ok(sink.offset)
    }
}

/// Sequential reading of one file in large pieces.
struct Source<F> {
    file: F,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
}

impl<F: DiskFile> Source<F> {
    fn new(file: F) -> Self {
        Self { file, buffer: Vec::new(), start: 0, end: 0, offset: 0 }
    }

    fn read_file(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(self.offset, into).map_err(io::Error::other)?;
        self.offset += n as u64;
        Ok(n)
    }
}

impl<F: DiskFile> Read for Source<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end && into.len() >= READ_CHUNK {
            return self.read_file(into);
        }
        let have = self.fill_buf()?;
        let n = have.len().min(into.len());
        into[..n].copy_from_slice(&have[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl<F: DiskFile> BufRead for Source<F> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize(READ_CHUNK, 0);
            let read = self.read_file(&mut buffer);
            self.buffer = buffer;
            self.start = 0;
            self.end = 0;
            self.end = read?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }
}

/// Joins snappy blocks to a stream.
struct SnappyReader<R> {
    from: R,
    packed: Vec<u8>,
    block: Vec<u8>,
    pos: usize,
    begun: bool,
}

fn bad(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}

impl<R: Read> SnappyReader<R> {
    /// Fills `into`; false when the stream ends before its first byte.
    fn exactly(&mut self, into: &mut [u8]) -> io::Result<bool> {
        let mut have = 0;
        while have < into.len() {
            match self.from.read(&mut into[have..])? {
                0 if have == 0 => return Ok(false),
                0 => return Err(bad("the file ends inside a snappy block")),
                n => have += n,
            }
        }
        Ok(true)
    }

    /// Behind the magic: two version numbers, of which the second is the oldest reader's.
    fn header(&mut self, magic: &[u8]) -> io::Result<()> {
        let mut versions = [0; 8];
        if magic != XERIAL_MAGIC || !self.exactly(&mut versions)? {
            return Err(bad("the file does not begin like a snappy stream of Java's library"));
        }
        if versions[4..] != [0, 0, 0, 1] {
            return Err(bad("the snappy stream asks for a newer reader"));
        }
        Ok(())
    }

    /// Unpacks the next block; false at the end.
    fn next_block(&mut self) -> io::Result<bool> {
        if !self.begun {
            let mut magic = [0; 8];
            if !self.exactly(&mut magic)? {
                return Err(bad("the file is empty"));
            }
            self.header(&magic)?;
            self.begun = true;
        }
        let mut word = [0; 4];
        if !self.exactly(&mut word)? {
            return Ok(false);
        }
        let len = u32::from_be_bytes(word) as usize;
        if len == 0 || len > snap::raw::max_compress_len(SNAPPY_BLOCK_MAX) {
            return Err(bad(format!("a snappy block has the length {len}")));
        }
        let mut packed = std::mem::take(&mut self.packed);
        packed.resize(len, 0);
        let whole = self.exactly(&mut packed);
        self.packed = packed;
        if !whole? {
            return Err(bad("the file ends inside a snappy block"));
        }
        let unpacked = snap::raw::decompress_len(&self.packed).map_err(|e| bad(e.to_string()))?;
        if unpacked > SNAPPY_BLOCK_MAX {
            return Err(bad(format!("a snappy block of {unpacked} bytes is larger than any writer's")));
        }
        self.block.resize(unpacked, 0);
        self.pos = 0;
        let n = snap::raw::Decoder::new()
            .decompress(&self.packed, &mut self.block)
            .map_err(|e| bad(format!("a snappy block does not unpack: {e}")))?;
        self.block.truncate(n);
        Ok(true)
    }
}

impl<R: Read> Read for SnappyReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.pos == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let n = into.len().min(self.block.len() - self.pos);
        into[..n].copy_from_slice(&self.block[self.pos..self.pos + n]);
        self.pos += n;
        Ok(n)
    }
}

enum Decoder<F: DiskFile> {
    Plain(Source<F>),
    Gz(Box<GzDecoder<Source<F>>>),
    Snappy(SnappyReader<Source<F>>),
}

/// The uncompressed bytes of a file, from start to end.
pub(crate) struct Stream<F: DiskFile>(Decoder<F>);

impl<F: DiskFile> Stream<F> {
    pub(crate) fn new(file: F, compression: Compression) -> Self {
        let source = Source::new(file);
        Self(match compression {
            Compression::Plain => Decoder::Plain(source),
            Compression::Gz => Decoder::Gz(Box::new(GzDecoder::new(source))),
            Compression::Snappy => Decoder::Snappy(SnappyReader {
                from: source,
                packed: Vec::new(),
                block: Vec::new(),
                pos: 0,
                begun: false,
            }),
        })
    }
}

impl<F: DiskFile> Read for Stream<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Decoder::Plain(r) => r.read(into),
            Decoder::Gz(r) => r.read(into),
            Decoder::Snappy(r) => r.read(into),
        }
    }
}
