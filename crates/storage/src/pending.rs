//! `<dataDir>/farrier.pending`: the configuration of members that a leader told of, which this member acknowledged and
//! which may come into force. Until it is known, whatever needs a quorum needs one of it, too, and it need not stand in
//! any log (`zab/activate.rs`). It is what `zoo.cfg.dynamic.next` is for Apache.
//!
//! The first line is `farrier.pending 1 <checksum of the rest>`, in eight hexadecimal digits; the rest is the
//! configuration's text.

use crate::disk::{Dir, Disk, DiskError, DiskErrorKind, DiskFile, DiskPath, DiskResult, OpenMode};
use crate::epochs::replace;

const NAME: &str = "farrier.pending";
pub(crate) const TEMPORARY: &str = "farrier.pending.tmp";
const HEADER: &str = "farrier.pending 1";
/// Bytes that are read; a longer configuration is never written.
const BYTES_MAX: u64 = 4 << 20;

fn path() -> DiskPath {
    DiskPath::new(Dir::Data, NAME)
}

fn whole(config: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{HEADER} {:08x}\n", simd_adler32::adler32(&config)).into_bytes();
    bytes.extend_from_slice(config);
    bytes
}

/// The configuration's text; `None` if nothing is pending.
///
/// # Errors
/// The disk failed, or the file is not as it was written: then nobody knows what it said, and to do without it could
/// let this member vote in a configuration that others have left.
pub fn read_pending<D: Disk>(disk: &D) -> DiskResult<Option<Vec<u8>>> {
    let file = match disk.open(&path(), OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind == DiskErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let len = usize::try_from(file.len()?.min(BYTES_MAX)).expect("the bound is small");
    let mut bytes = vec![0; len];
    let n = file.read_at(0, &mut bytes)?;
    bytes.truncate(n);
    let config = bytes.iter().position(|b| *b == b'\n').map(|end| bytes[end + 1..].to_vec());
    match config {
        Some(config) if whole(&config) == bytes => Ok(Some(config)),
        Some(_) | None => Err(DiskError {
            operation: "use",
            path: disk.describe(&path()),
            kind: DiskErrorKind::Other,
            message: "it is damaged. It held the members of a reconfiguration that may be in force by now: if no \
                      reconfiguration was under way when this server was last up, remove it"
                .to_owned(),
        }),
    }
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
        assert_eq!(read_pending(&disk), Ok(None));
        write_pending(&disk, None).unwrap();
        for text in [&b"server.1=a:1:2\nversion=5"[..], b"", b"\n\n"] {
            write_pending(&disk, Some(text)).unwrap();
            assert_eq!(read_pending(&disk), Ok(Some(text.to_vec())));
        }
        write_pending(&disk, None).unwrap();
        assert_eq!(read_pending(&disk), Ok(None));
        assert!(disk.content(&path()).is_none());
    }

    #[test]
    fn a_damaged_one_is_not_taken_for_none() {
        let disk = MemDisk::new(false);
        write_pending(&disk, Some(b"server.1=a:1:2\nversion=5")).unwrap();
        let bytes = disk.content(&path()).unwrap();
        for cut in 0..bytes.len() {
            disk.put(&path(), bytes[..cut].to_vec());
            let error = read_pending(&disk).unwrap_err();
            assert!(error.to_string().contains("farrier.pending"), "{error}");
            disk.put(&path(), bytes.iter().enumerate().map(|(i, b)| b ^ u8::from(i == cut)).collect());
            assert!(read_pending(&disk).is_err(), "byte {cut}");
        }
    }
}
