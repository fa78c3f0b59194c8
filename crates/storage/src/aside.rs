//! Bad files are never deleted: they get names that neither Apache nor Farrier loads.

use crate::disk::{Dir, Disk, DiskFile, DiskPath, DiskResult, OpenMode};
use crate::recover::Unreadable;

/// Start of the names that files get when they are moved aside.
pub const DAMAGED_PREFIX: &str = "farrier.damaged.";

/// Bytes copied at once.
const COPY_CHUNK: usize = 1 << 20;

/// Bytes that are given up together where they cannot be read.
const UNREADABLE_UNIT: usize = 4096;

/// Moves files aside, under one number for one repair.
#[derive(Debug)]
pub(crate) struct Aside<'a, D> {
    disk: &'a D,
    number: u64,
    unreadable: Unreadable,
    /// Copies and moved files, as the operator knows them.
    pub(crate) moved: Vec<String>,
}

impl<'a, D: Disk> Aside<'a, D> {
    pub(crate) fn new(disk: &'a D) -> DiskResult<Self> {
        Self::of(disk, Unreadable::IsRefused)
    }

    /// Where what cannot be read is damage, copies go without.
    pub(crate) fn of(disk: &'a D, unreadable: Unreadable) -> DiskResult<Self> {
        Ok(Self { disk, number: next_number(disk)?, unreadable, moved: Vec::new() })
    }

    fn name(&self, path: &DiskPath) -> DiskPath {
        DiskPath::new(path.dir, format!("{DAMAGED_PREFIX}{}.{}", self.number, path.name))
    }

    /// Renames the file, durably.
    pub(crate) fn take(&mut self, path: &DiskPath) -> DiskResult<()> {
        let to = self.name(path);
        self.disk.rename(path, &to)?;
        self.disk.sync_dir(path.dir)?;
        self.moved.push(self.disk.describe(&to));
        Ok(())
    }

    /// A copy of the file up to its last byte that is not zero, durable when this returns. If that fails nothing of it
    /// stays: each attempt would leave another one on a disk that is full.
    pub(crate) fn copy(&mut self, path: &DiskPath) -> DiskResult<()> {
        let to = self.name(path);
        let copied = self.try_copy(path, &to);
        if copied.is_err() {
            // Best effort: what counts is the first error.
            let _ = self.disk.remove(&to);
        }
        let lost = copied?;
        let name = self.disk.describe(&to);
        self.moved.push(if lost == 0 { name } else { format!("{name} ({lost} bytes could not be read)") });
        Ok(())
    }

    /// Answers how many bytes were not read, and are zeros in the copy.
    fn try_copy(&self, path: &DiskPath, to: &DiskPath) -> DiskResult<usize> {
        let from = self.disk.open(path, OpenMode::Read)?;
        let copy = self.disk.open(to, OpenMode::CreateTruncate)?;
        let mut buf = vec![0; COPY_CHUNK];
        let (mut at, mut lost) = (0, 0);
        loop {
            let got = match from.read_at(at, &mut buf) {
                Err(e) if self.unreadable.is_damage(&e) => {
                    let (got, unread) = self.read_parts(&from, at, &mut buf)?;
                    lost += unread;
                    got
                }
                other => other?,
            };
            if got == 0 {
                break;
            }
            // Zeros need no room, be they a segment's rest.
            let used = buf[..got].iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
            if used > 0 {
                copy.write_at(at, &buf[..used])?;
            }
            at += got as u64;
        }
        copy.sync()?;
        self.disk.sync_dir(path.dir)?;
        Ok(lost)
    }

    /// Reads what can be read. Answers the bytes up to the file's end, and how many of them are missing.
    fn read_parts(&self, from: &D::File, at: u64, buf: &mut [u8]) -> DiskResult<(usize, usize)> {
        let left = usize::try_from(from.len()?.saturating_sub(at)).unwrap_or(usize::MAX);
        let end = buf.len().min(left);
        let mut lost = 0;
        for (part, offset) in buf[..end].chunks_mut(UNREADABLE_UNIT).zip((at..).step_by(UNREADABLE_UNIT)) {
            if self.unreadable.tolerate(from.read_at(offset, part))?.is_none() {
                part.fill(0);
                lost += part.len();
            }
        }
        Ok((end, lost))
    }
}

/// A number that no file aside has.
pub(crate) fn next_number<D: Disk>(disk: &D) -> DiskResult<u64> {
    let mut next = 1;
    for dir in [Dir::Data, Dir::DataVersion, Dir::LogVersion] {
        for entry in disk.list(dir)? {
            let number = entry.name.strip_prefix(DAMAGED_PREFIX).and_then(|rest| rest.split('.').next()?.parse().ok());
            next = next.max(number.map_or(0, |n: u64| n.saturating_add(1)));
        }
    }
    Ok(next)
}
