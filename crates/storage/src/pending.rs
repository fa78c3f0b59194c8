//! `<dataDir>/farrier.pending`: the configuration of members that a leader told of, which this member acknowledged and
//! which may come into force. Until it is known, whatever needs a quorum needs one of it, too, and it need not stand in
//! any log (`zab/activate.rs`). It is what `zoo.cfg.dynamic.next` is for Apache.
//!
//! The first line is `farrier.pending 1 <checksum of the rest>`, in eight hexadecimal digits; the rest is the
//! configuration's text.

use crate::disk::{Dir, Disk, DiskErrorKind, DiskFile, DiskPath, DiskResult, OpenMode};
use crate::epochs::replace;

const NAME: &str = "farrier.pending";
pub(crate) const TEMPORARY: &str = "farrier.pending.tmp";
const HEADER: &str = "farrier.pending 1";
/// Bytes that are read; a longer configuration is never written.
const BYTES_MAX: u64 = 64 << 20;

fn path() -> DiskPath {
    DiskPath::new(Dir::Data, NAME)
}

fn whole(config: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{HEADER} {:08x}\n", simd_adler32::adler32(&config)).into_bytes();
    bytes.extend_from_slice(config);
    bytes
}

/// What the file says.
#[derive(Debug, PartialEq, Eq)]
pub enum Pending {
    /// Nothing is pending.
    Nothing,
    /// The configuration of this text.
    Config(Vec<u8>),
    /// It is not as it was written, and nobody knows what it said: to do without it could let this member vote in a
    /// configuration that others have left. The file's path.
    Damaged(String),
}

/// Reads the file.
///
/// # Errors
/// The disk failed.
pub fn read_pending<D: Disk>(disk: &D) -> DiskResult<Pending> {
    let file = match disk.open(&path(), OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind == DiskErrorKind::NotFound => return Ok(Pending::Nothing),
        Err(e) => return Err(e),
    };
    let len = usize::try_from(file.len()?.min(BYTES_MAX)).expect("the bound is small");
    let mut bytes = vec![0; len];
    let n = file.read_at(0, &mut bytes)?;
    bytes.truncate(n);
    let config = bytes.iter().position(|b| *b == b'\n').map(|end| bytes[end + 1..].to_vec());
    Ok(match config {
        Some(config) if whole(&config) == bytes => Pending::Config(config),
        Some(_) | None => Pending::Damaged(disk.describe(&path())),
    })
}

/// Makes it durable that this configuration is pending, or none.
///
/// # Errors
/// The first failed operation.
pub(crate) fn write_pending<D: Disk>(disk: &D, config: Option<&[u8]>) -> DiskResult<()> {
    if let Some(config) = config {
        return replace(disk, Dir::Data, NAME, TEMPORARY, &whole(config));
    }
    match disk.remove(&path()) {
        Ok(()) => {}
        Err(e) if e.kind == DiskErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    // Also where it was gone: a process that died may have removed it and not synced.
    disk.sync_dir(Dir::Data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::MemDisk;

    #[test]
    fn it_is_there_until_it_is_void() {
        let disk = MemDisk::new(false);
        assert_eq!(read_pending(&disk), Ok(Pending::Nothing));
        write_pending(&disk, None).unwrap();
        for text in [&b"server.1=a:1:2\nversion=5"[..], b"", b"\n\n"] {
            write_pending(&disk, Some(text)).unwrap();
            assert_eq!(read_pending(&disk), Ok(Pending::Config(text.to_vec())));
        }
        write_pending(&disk, None).unwrap();
        assert_eq!(read_pending(&disk), Ok(Pending::Nothing));
        assert!(disk.content(&path()).is_none());
    }

    #[test]
    fn a_damaged_one_is_not_taken_for_none() {
        let disk = MemDisk::new(false);
        write_pending(&disk, Some(b"server.1=a:1:2\nversion=5")).unwrap();
        let bytes = disk.content(&path()).unwrap();
        for cut in 0..bytes.len() {
            disk.put(&path(), bytes[..cut].to_vec());
            let damaged = Ok(Pending::Damaged(disk.describe(&path())));
            assert_eq!(read_pending(&disk), damaged);
            disk.put(&path(), bytes.iter().enumerate().map(|(i, b)| b ^ u8::from(i == cut)).collect());
            assert_eq!(read_pending(&disk), damaged, "byte {cut}");
        }
    }
}
