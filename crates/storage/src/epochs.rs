//! The small files: `acceptedEpoch`, `currentEpoch`, `myid`.
//!
//! An epoch is durable, with its name, when [`write_accepted_epoch`] or [`write_current_epoch`] returns;
//! only then may a packet quote it. When which one is written is not decided here.

use crate::disk::{Dir, Disk, DiskError, DiskErrorKind, DiskFile, DiskPath, DiskResult, OpenMode};
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId};

const ACCEPTED: &str = "acceptedEpoch";
const CURRENT: &str = "currentEpoch";
const ACCEPTED_TMP: &str = "acceptedEpoch.tmp";
const CURRENT_TMP: &str = "currentEpoch.tmp";
const MYID: &str = "myid";

/// Bytes of a small file that are read; the first line of any legal one is shorter.
const SMALL_FILE_MAX: usize = 128;

/// Why a small file has no usable number.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NumberError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The first line is no number, or one out of range.
    #[error("the first line of {file} must be {expected}, but it is {found:?}")]
    Value {
        /// The file as the operator knows it.
        file: String,
        /// What it must be.
        expected: &'static str,
        /// What it is, cut to 128 bytes.
        found: String,
    },
}

/// Path of `acceptedEpoch`.
pub(crate) fn accepted_epoch_path() -> DiskPath {
    DiskPath::new(Dir::DataVersion, ACCEPTED)
}

/// Path of `currentEpoch`.
pub(crate) fn current_epoch_path() -> DiskPath {
    DiskPath::new(Dir::DataVersion, CURRENT)
}

/// Reads `acceptedEpoch`; `None` if the file does not exist.
///
/// # Errors
/// [`NumberError`]: a file that exists but says nothing usable is never taken for a missing one.
pub fn read_accepted_epoch<D: Disk>(disk: &D) -> Result<Option<AcceptedEpoch>, NumberError> {
    Ok(read_epoch(disk, ACCEPTED)?.map(AcceptedEpoch))
}

/// Reads `currentEpoch`; `None` if the file does not exist.
///
/// # Errors
/// As [`read_accepted_epoch`].
pub fn read_current_epoch<D: Disk>(disk: &D) -> Result<Option<CurrentEpoch>, NumberError> {
    Ok(read_epoch(disk, CURRENT)?.map(CurrentEpoch))
}

/// Writes `acceptedEpoch` durably.
///
/// # Errors
/// The first failed operation. Which of the two values a restart reads is then open.
pub fn write_accepted_epoch<D: Disk>(disk: &D, epoch: AcceptedEpoch) -> DiskResult<()> {
    replace(disk, Dir::DataVersion, ACCEPTED, ACCEPTED_TMP, epoch.0.to_string().as_bytes())
}

/// Writes `currentEpoch` durably.
///
/// # Errors
/// As [`write_accepted_epoch`].
pub fn write_current_epoch<D: Disk>(disk: &D, epoch: CurrentEpoch) -> DiskResult<()> {
    replace(disk, Dir::DataVersion, CURRENT, CURRENT_TMP, epoch.0.to_string().as_bytes())
}

/// Removes what a server that died while writing an epoch left; Apache may adopt the number in one.
pub(crate) fn remove_epoch_leftovers<D: Disk>(disk: &D) -> DiskResult<()> {
    let mut any = false;
    for entry in disk.list(Dir::DataVersion)? {
        if matches!(entry.name.as_str(), ACCEPTED_TMP | CURRENT_TMP) {
            disk.remove(&DiskPath::new(Dir::DataVersion, entry.name))?;
            any = true;
        }
    }
    if any { disk.sync_dir(Dir::DataVersion) } else { Ok(()) }
}

/// Reads `myid`; `None` if the file does not exist, which only a standalone server may shrug at.
///
/// # Errors
/// As [`read_accepted_epoch`].
pub fn read_myid<D: Disk>(disk: &D) -> Result<Option<ServerId>, NumberError> {
    let path = DiskPath::new(Dir::Data, MYID);
    let Some(line) = first_line(disk, &path)? else { return Ok(None) };
    match decimal(&line).and_then(|n| i64::try_from(n).ok()) {
        Some(n) => Ok(Some(ServerId(n))),
        None => Err(bad(disk, &path, "the server's number, in decimal digits", line)),
    }
}

fn read_epoch<D: Disk>(disk: &D, name: &str) -> Result<Option<u32>, NumberError> {
    let path = DiskPath::new(Dir::DataVersion, name);
    let Some(line) = first_line(disk, &path)? else { return Ok(None) };
    match decimal(&line).and_then(|n| u32::try_from(n).ok()) {
        Some(n) => Ok(Some(n)),
        None => Err(bad(disk, &path, "an epoch from 0 to 4294967295, in decimal digits", line)),
    }
}

fn bad<D: Disk>(disk: &D, path: &DiskPath, expected: &'static str, found: String) -> NumberError {
    NumberError::Value { file: disk.describe(path), expected, found }
}

/// Digits and nothing else: no sign, no blanks within.
fn decimal(line: &str) -> Option<u64> {
    if line.bytes().all(|b| b.is_ascii_digit()) { line.parse().ok() } else { None }
}

/// The first line without the blanks around it.
fn first_line<D: Disk>(disk: &D, path: &DiskPath) -> DiskResult<Option<String>> {
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind == DiskErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut bytes = [0; SMALL_FILE_MAX];
    let n = file.read_at(0, &mut bytes)?;
    let text = String::from_utf8_lossy(&bytes[..n]);
    Ok(Some(text.lines().next().unwrap_or_default().trim().to_owned()))
}

/// Replaces a small file: temporary name, sync, rename, sync of the directory.
pub(crate) fn replace<D: Disk>(disk: &D, dir: Dir, name: &str, temporary: &str, bytes: &[u8]) -> DiskResult<()> {
    let temporary = DiskPath::new(dir, temporary);
    let written = write_whole(disk, &temporary, bytes);
    let renamed = written.and_then(|()| disk.rename(&temporary, &DiskPath::new(dir, name)));
    if renamed.is_err() {
        // Best effort. Apache may adopt the number in a left-over `currentEpoch.tmp`.
        let _ = disk.remove(&temporary);
    }
    renamed?;
    if farrier_proto::planted!(SmallFileNameNotSynced) {
        return Ok(());
    }
    disk.sync_dir(dir)
}

fn write_whole<D: Disk>(disk: &D, path: &DiskPath, bytes: &[u8]) -> DiskResult<()> {
    let file = disk.open(path, OpenMode::CreateTruncate)?;
    file.write_at(0, bytes)?;
    if farrier_proto::planted!(EpochFileNotSynced) {
        return Ok(());
    }
    file.sync()
}

#[cfg(test)]
mod tests;
