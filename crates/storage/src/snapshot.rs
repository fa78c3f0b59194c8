//! Snapshot files: their names, writing one from an [`crate::Image`], reading one into a
//! [`crate::Restore`], and the checks in between; and the same content as a stream between servers.
//!
//! A snapshot is written under a name that nobody loads, synced, and renamed; so a file under its final
//! name is whole, unless Apache wrote it. The zxid is that of the name. This module never decides which
//! snapshots go (see `purge`) nor whether the log reaches up to one.

mod body;
mod read;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
mod write;

pub(crate) use read::measure_unnamed;
pub use read::{
    SnapshotError, SnapshotRead, measure_snapshot, read_snapshot, read_snapshot_bounded, read_snapshot_named,
    verify_snapshot,
};
pub use stream::{Progress, StreamReader, write_stream};
pub use write::{SnapshotOptions, SnapshotWritten, remove_temporaries, write_snapshot, write_snapshot_paced};
pub(crate) use write::{TEMPORARY as SNAPSHOT_TEMPORARY, write_unnamed};

use crate::compress::Compression;
use crate::disk::{Dir, Disk, DiskFile, DiskPath, DiskResult, OpenMode};
use farrier_proto::Zxid;

/// "ZKSN".
const MAGIC: i32 = 0x5a4b_534e;
/// Version of the format, unchanged since 3.0.
const VERSION: i32 = 2;
/// Ends the body and every seal, as a string: `00 00 00 01 2f`.
const END: &[u8] = b"/";
/// The same with its length.
const END_BYTES: [u8; 5] = [0, 0, 0, 1, b'/'];
/// A plain file below this length is no snapshot.
const PLAUSIBLE_MIN: u64 = 10;

/// A file that Apache would take for a snapshot by its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotFile {
    /// Where it is.
    pub path: DiskPath,
    /// From the name: the state is at least that of this transaction.
    pub zxid: Zxid,
    /// Bytes in the file.
    pub len: u64,
    /// From the name.
    pub compression: Compression,
    /// Whether the name is exactly what a server writes for this zxid. Left-over `snapshot.<hex>.tmp`
    /// files and an operator's copies are not, but load if nothing better is there.
    pub regular: bool,
}

/// The zxid in a file name: `prefix`, a dot, and a hexadecimal number that is positive as a signed 64-bit
/// one; behind a second dot anything may follow. `None` for every other name.
#[must_use]
pub fn zxid_of_name(prefix: &str, name: &str) -> Option<Zxid> {
    let mut parts = name.split('.');
    if parts.next()? != prefix {
        return None;
    }
    let hex = parts.next()?;
    if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    i64::from_str_radix(hex, 16).ok().map(Zxid::from_wire)
}

/// The name of the snapshot of `zxid`.
#[must_use]
pub fn snapshot_name(zxid: Zxid, compression: Compression) -> String {
    format!("snapshot.{:x}{}", zxid.get(), compression.suffix())
}

/// Behind the whole name of a snapshot that Apache writes and will rename.
const APACHES_TEMPORARY: &str = ".tmp";

/// The name that Apache was going to give a file, if it has the one under which Apache writes it.
#[must_use]
pub(crate) fn name_to_be(file: &SnapshotFile) -> Option<&str> {
    let name = file.path.name.strip_suffix(APACHES_TEMPORARY)?;
    (name == snapshot_name(file.zxid, Compression::of_name(name))).then_some(name)
}

/// Whether a file that Apache has not renamed may be whole. A plain one shows that at its end; the beginning of a compressed
/// one shows nothing, and it is read.
pub(crate) fn may_be_whole<D: Disk>(disk: &D, file: &SnapshotFile, name: &str) -> DiskResult<bool> {
    if Compression::of_name(name) == Compression::Plain {
        return is_plausible(disk, file);
    }
    match measure_unnamed(disk, &file.path, &DiskPath::new(Dir::DataVersion, name)) {
        Ok(_) => Ok(true),
        Err(SnapshotError::Disk(e)) => Err(e),
        Err(_) => Ok(false),
    }
}

/// The files that are snapshots by name, newest first. Of one zxid, the regular names come first.
pub fn list_snapshots<D: Disk>(disk: &D) -> DiskResult<Vec<SnapshotFile>> {
    let mut files: Vec<_> = disk
        .list(Dir::DataVersion)?
        .into_iter()
        .filter_map(|entry| {
            let zxid = zxid_of_name("snapshot", &entry.name)?;
            let compression = Compression::of_name(&entry.name);
            let regular = entry.name == snapshot_name(zxid, compression);
            let path = DiskPath::new(Dir::DataVersion, entry.name);
            Some(SnapshotFile { path, zxid, len: entry.len, compression, regular })
        })
        .collect();
    files.sort_by(|a, b| (b.zxid, b.regular).cmp(&(a.zxid, a.regular)).then_with(|| a.path.cmp(&b.path)));
    Ok(files)
}

/// Apache's quick check of a candidate: the end marker of a plain file, the magic of a compressed one.
/// Passing it is no proof; [`verify_snapshot`] is.
pub fn is_plausible<D: Disk>(disk: &D, file: &SnapshotFile) -> DiskResult<bool> {
    let f = disk.open(&file.path, OpenMode::Read)?;
    match file.compression {
        Compression::Plain => {
            let len = f.len()?;
            let mut tail = [0; END_BYTES.len()];
            Ok(len >= PLAUSIBLE_MIN
                && f.read_at(len - tail.len() as u64, &mut tail)? == tail.len()
                && tail == END_BYTES)
        }
        Compression::Gz | Compression::Snappy => {
            let mut head = [0; 8];
            let n = f.read_at(0, &mut head)?;
            Ok(file.compression.may_begin_with(&head[..n]))
        }
    }
}
