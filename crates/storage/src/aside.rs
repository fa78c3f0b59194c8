//! Bad files are never deleted: they get names that neither Apache nor Farrier loads.

use crate::disk::{Dir, Disk, DiskFile, DiskPath, DiskResult, OpenMode};

/// Start of the names that files get when they are moved aside.
pub const DAMAGED_PREFIX: &str = "farrier.damaged.";

/// Bytes copied at once.
const COPY_CHUNK: usize = 1 << 20;

/// Moves files aside, under one number for one repair.
#[derive(Debug)]
pub(crate) struct Aside<'a, D> {
    disk: &'a D,
    number: u64,
    /// Copies and moved files, as the operator knows them.
    pub(crate) moved: Vec<String>,
}

impl<'a, D: Disk> Aside<'a, D> {
    pub(crate) fn new(disk: &'a D) -> DiskResult<Self> {
        Ok(Self { disk, number: next_number(disk)?, moved: Vec::new() })
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

    /// A copy of the whole file, durable when this returns.
    pub(crate) fn copy(&mut self, path: &DiskPath) -> DiskResult<()> {
        let to = self.name(path);
        let from = self.disk.open(path, OpenMode::Read)?;
        let copy = self.disk.open(&to, OpenMode::CreateTruncate)?;
        let mut buf = vec![0; COPY_CHUNK];
        let mut at = 0;
        loop {
            let got = from.read_at(at, &mut buf)?;
            if got == 0 {
                break;
            }
            copy.write_at(at, &buf[..got])?;
            at += got as u64;
        }
        copy.sync()?;
        self.disk.sync_dir(path.dir)?;
        self.moved.push(self.disk.describe(&to));
        Ok(())
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
