//! The list of snapshots that Farrier itself wrote: `farrier.own` in dataDir.
//!
//! Apache's and Farrier's snapshots have one format, so nothing in a file tells who wrote it. Purging by
//! default must not begin before there are enough own ones (safety contract, section 9), so each is
//! entered here, durably, before it gets its name. A snapshot counts as own while its name, its length
//! and its last checksum are those of an entry: a file that Apache put under the same name later does
//! not. A lost or damaged list only means that purging waits longer.
//!
//! That there is a list at all tells that Farrier has worked here: a start makes one, empty at first, once its mark is
//! durable. So dataDir tells what dataLogDir must hold, should that not be mounted.
//!
//! Text; the first line is [`HEADER`], each other one `<name> <length> <last checksum> <checksum of the
//! line so far>`, the checksums in eight hexadecimal digits. Lines that are not so are ignored.

use crate::disk::{Dir, Disk, DiskErrorKind, DiskFile, DiskPath, DiskResult, OpenMode};
use crate::epochs::replace;
use crate::snapshot::{SnapshotFile, SnapshotWritten};
use std::fmt::Write as _;

/// Name of the file, in dataDir.
const NAME: &str = "farrier.own";
pub(crate) const TEMPORARY: &str = "farrier.own.tmp";
const HEADER: &str = "farrier.own 1";
/// Entries that are kept; the oldest go first.
const ENTRIES_MAX: usize = 1024;
/// Bytes that are read.
const BYTES_MAX: u64 = (ENTRIES_MAX as u64 + 1) * 80;

/// A snapshot that was written by Farrier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OwnSnapshot {
    /// Name in dataDir's version-2.
    pub(crate) name: String,
    /// Bytes in the file.
    pub(crate) len: u64,
    /// Last checksum in it.
    pub(crate) seal: u32,
}

impl OwnSnapshot {
    fn line(&self) -> String {
        let mut line = format!("{} {} {:08x}", self.name, self.len, self.seal);
        let sum = simd_adler32::adler32(&line.as_bytes());
        let _ = write!(line, " {sum:08x}");
        line
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (name, len, seal) = (words.next()?, words.next()?, words.next()?);
        let own = Self { name: name.to_owned(), len: len.parse().ok()?, seal: u32::from_str_radix(seal, 16).ok()? };
        (own.line() == line).then_some(own)
    }
}

/// The entries, oldest first; none if there is no file.
pub(crate) fn read<D: Disk>(disk: &D) -> DiskResult<Vec<OwnSnapshot>> {
    let file = match disk.open(&DiskPath::new(Dir::Data, NAME), OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind == DiskErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let len = usize::try_from(file.len()?.min(BYTES_MAX)).expect("the bound is small");
    let mut bytes = vec![0; len];
    let n = file.read_at(0, &mut bytes)?;
    let text = String::from_utf8_lossy(&bytes[..n]);
    Ok(text.lines().filter_map(OwnSnapshot::parse).collect())
}

/// Whether there is a list, be it an empty one: then a mark was made durable in dataLogDir before.
pub(crate) fn exists<D: Disk>(disk: &D) -> DiskResult<bool> {
    Ok(disk.list(Dir::Data)?.iter().any(|e| e.name == NAME))
}

/// Makes an empty list where there is none, durably. Only once a mark is durable.
pub(crate) fn begin<D: Disk>(disk: &D) -> DiskResult<()> {
    if exists(disk)? {
        return Ok(());
    }
    replace(disk, Dir::Data, NAME, TEMPORARY, format!("{HEADER}\n").as_bytes())
}

/// Where it stands, as the operator knows it.
pub(crate) fn describe<D: Disk>(disk: &D) -> String {
    disk.describe(&DiskPath::new(Dir::Data, NAME))
}

/// Whether a snapshot with that last checksum is an entry.
pub(crate) fn is_own<D: Disk>(disk: &D, file: &SnapshotFile, seal: u32) -> DiskResult<bool> {
    Ok(read(disk)?.iter().any(|o| o.name == file.path.name && o.len == file.len && o.seal == seal))
}

/// Enters a snapshot whose content is durable and which is about to get its name. Entries of files that
/// are gone are dropped.
pub(crate) fn record<D: Disk>(disk: &D, written: &SnapshotWritten) -> DiskResult<()> {
    let listed = disk.list(Dir::DataVersion)?;
    let mut entries = read(disk)?;
    entries.retain(|e| e.name != written.path.name && listed.iter().any(|l| l.name == e.name && l.len == e.len));
    entries.drain(..(entries.len() + 1).saturating_sub(ENTRIES_MAX));
    entries.push(OwnSnapshot { name: written.path.name.clone(), len: written.len, seal: written.seal });
    let mut text = format!("{HEADER}\n");
    for entry in &entries {
        text.push_str(&entry.line());
        text.push('\n');
    }
    replace(disk, Dir::Data, NAME, TEMPORARY, text.as_bytes())
}
