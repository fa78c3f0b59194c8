//! Writing a snapshot.

use super::body::{GATHER, write_body};
use super::{END, MAGIC, VERSION, snapshot_name, zxid_of_name};
use crate::compress::{Compression, Pace, Writer, split_error};
use crate::disk::{Dir, Disk, DiskError, DiskErrorKind, DiskFile, DiskPath, DiskResult, OpenMode};
use crate::log::keep_reserve;
use crate::own;
use crate::state::Image;
use farrier_proto::jute::{put_buffer, put_i32, put_i64};
use farrier_proto::{Field, TxnDigest, Zxid};
use simd_adler32::Adler32;
use std::io;

/// Start of the names under which snapshots are written. Nobody loads them.
pub(crate) const TEMPORARY: &str = "farrier.snapshot.";

/// How to write snapshots.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SnapshotOptions {
    /// `zookeeper.serializeLastProcessedZxid.enabled=false`: leave out the trailer of 3.9.
    pub omit_last_zxid: bool,
    /// Key `snapshot.compression.method`.
    pub compression: Compression,
}

/// A snapshot that is durable under its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotWritten {
    /// Where it is.
    pub path: DiskPath,
    /// From the image.
    pub zxid: Zxid,
    /// Bytes in the file.
    pub len: u64,
    /// Znodes in it.
    pub nodes: u64,
    /// The last checksum in the file.
    pub seal: u32,
}

/// Writes `image` as a snapshot: temporary name, sync, entry in the list of own snapshots, rename, sync
/// of the directory. A file of the same name is replaced.
///
/// The log must be durable up to the image's zxid. One snapshot is written at a time.
///
/// # Errors
/// The first failed operation. The temporary file is removed, or left under a name that nobody loads.
pub fn write_snapshot<D: Disk, I: Image>(
    disk: &D,
    image: &I,
    options: &SnapshotOptions,
) -> DiskResult<SnapshotWritten> {
    write(disk, image, options, Pace::at_once(&mut |_| Ok(())))
}

/// [`write_snapshot`]; after each write of 256 KiB and its sync `pace` hears how many bytes it took and may block
/// for a while, so that a large snapshot leaves the disk to others.
///
/// # Errors
/// As [`write_snapshot`]; and a full disk already where less than [`crate::log::RESERVE`] would be left.
pub fn write_snapshot_paced<D: Disk, I: Image>(
    disk: &D,
    image: &I,
    options: &SnapshotOptions,
    pace: &mut dyn FnMut(u64),
) -> DiskResult<SnapshotWritten> {
    keep_reserve(disk, Dir::DataVersion, 0)?;
    let mut written = |bytes| {
        pace(bytes);
        keep_reserve(disk, Dir::DataVersion, 0)
    };
    write(disk, image, options, Pace::beside_requests(&mut written))
}

fn write<D: Disk, I: Image>(
    disk: &D,
    image: &I,
    options: &SnapshotOptions,
    pace: Pace<'_>,
) -> DiskResult<SnapshotWritten> {
    let path = path_of(disk, image.zxid(), options)?;
    let temporary = DiskPath::new(Dir::DataVersion, format!("{TEMPORARY}{:x}", image.zxid().get()));
    let written = write_temporary(disk, image, options, pace, &temporary, path).and_then(|written| {
        own::record(disk, &written)?;
        disk.rename(&temporary, &written.path)?;
        disk.sync_dir(Dir::DataVersion)?;
        Ok(written)
    });
    if written.is_err() {
        // Best effort: what counts is the first error, and the name is one that nobody loads.
        let _ = disk.remove(&temporary);
    }
    written
}

/// Writes `image` under a name of the caller's that nobody loads, synced; the caller makes the name durable and
/// renames the file to the path that is answered. On failure the file is left.
pub(crate) fn write_unnamed<D: Disk, I: Image>(
    disk: &D,
    image: &I,
    options: &SnapshotOptions,
    temporary: &DiskPath,
) -> DiskResult<SnapshotWritten> {
    let path = path_of(disk, image.zxid(), options)?;
    write_temporary(disk, image, options, Pace::at_once(&mut |_| Ok(())), temporary, path)
}

fn path_of<D: Disk>(disk: &D, zxid: Zxid, options: &SnapshotOptions) -> DiskResult<DiskPath> {
    let path = DiskPath::new(Dir::DataVersion, snapshot_name(zxid, options.compression));
    if zxid_of_name("snapshot", &path.name).is_none() {
        return Err(error_of(disk, &path, "no reader would find the zxid in this name".to_owned()));
    }
    Ok(path)
}

/// Removes what writers that died left behind. Only while no snapshot is being written.
///
/// # Errors
/// The first failed operation.
pub fn remove_temporaries<D: Disk>(disk: &D) -> DiskResult<()> {
    let mut any = false;
    for entry in disk.list(Dir::DataVersion)? {
        if entry.name.starts_with(TEMPORARY) {
            disk.remove(&DiskPath::new(Dir::DataVersion, entry.name))?;
            any = true;
        }
    }
    if any { disk.sync_dir(Dir::DataVersion) } else { Ok(()) }
}

fn error_of<D: Disk>(disk: &D, path: &DiskPath, message: String) -> DiskError {
    DiskError { operation: "write", path: disk.describe(path), kind: DiskErrorKind::Other, message }
}

fn write_temporary<D: Disk, I: Image>(
    disk: &D,
    image: &I,
    options: &SnapshotOptions,
    pace: Pace<'_>,
    temporary: &DiskPath,
    path: DiskPath,
) -> DiskResult<SnapshotWritten> {
    let file = disk.open(temporary, OpenMode::CreateTruncate)?;
    let mut out = Sealed {
        gathered: Vec::with_capacity(2 * GATHER),
        adler: Adler32::new(),
        to: Writer::new(file, options.compression, pace),
    };
    let written = write_content(&mut out, image, options.omit_last_zxid)
        .and_then(|(nodes, seal)| Ok((nodes, seal, out.to.finish()?)))
        .map_err(|e| split_error(e).unwrap_or_else(|message| error_of(disk, temporary, message)));
    let (nodes, seal, len) = written?;
    Ok(SnapshotWritten { path, zxid: image.zxid(), len, nodes, seal })
}

/// Content on its way into the file, with the running checksum.
struct Sealed<'p, F: DiskFile> {
    gathered: Vec<u8>,
    adler: Adler32,
    to: Writer<'p, F>,
}

impl<F: DiskFile> Sealed<'_, F> {
    /// Hands over what was gathered.
    fn hand_over(&mut self) -> io::Result<()> {
        hand_over(&mut self.gathered, &mut self.adler, &mut self.to)
    }

    /// Checksum of everything so far, and the end marker.
    fn seal(&mut self) -> io::Result<u32> {
        self.hand_over()?;
        let sum = self.adler.finish();
        put_i64(&mut self.gathered, i64::from(sum));
        put_buffer(&mut self.gathered, Some(END));
        self.hand_over()?;
        Ok(sum)
    }
}

fn hand_over<F: DiskFile>(gathered: &mut Vec<u8>, adler: &mut Adler32, to: &mut Writer<'_, F>) -> io::Result<()> {
    adler.write(gathered);
    to.write_all(gathered)?;
    gathered.clear();
    Ok(())
}

/// The whole content; returns the number of znodes and the last checksum.
fn write_content<F: DiskFile, I: Image>(
    out: &mut Sealed<'_, F>,
    image: &I,
    omit_last_zxid: bool,
) -> io::Result<(u64, u32)> {
    put_i32(&mut out.gathered, MAGIC);
    put_i32(&mut out.gathered, VERSION);
    put_i64(&mut out.gathered, -1);

    let Sealed { gathered, adler, to } = out;
    let nodes = write_body(image, gathered, &mut |gathered| hand_over(gathered, adler, to))?;
    out.seal()?;

    // Readers of 3.9 take a last-zxid trailer without a digest trailer for a broken digest, so both
    // are always there; zxid 0 says that there is no digest, and then it is 0, as Apache writes it.
    let zxid = image.zxid();
    let (digest_zxid, digest) = match image.digest() {
        Some(digest) if zxid != Zxid::ZERO => (zxid, digest),
        _ => (Zxid::ZERO, 0),
    };
    put_i64(&mut out.gathered, digest_zxid.to_wire());
    TxnDigest::new(digest).write(&mut out.gathered);
    let seal = out.seal()?;
    if omit_last_zxid {
        return Ok((nodes, seal));
    }
    put_i64(&mut out.gathered, zxid.to_wire());
    let seal = out.seal()?;
    Ok((nodes, seal))
}
