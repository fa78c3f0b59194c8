//! A file of the disk in memory.

use super::{Change, FailOn, Fate, MemDisk, Op, State};
use crate::disk::{DiskErrorKind, DiskFile, DiskPath, DiskResult};
use std::sync::MutexGuard;

/// An open file.
#[derive(Debug)]
pub struct MemFile {
    pub(super) disk: MemDisk,
    pub(super) file: usize,
    pub(super) path: DiskPath,
    pub(super) life: u64,
    pub(super) writable: bool,
}

impl MemFile {
    fn alive(&self, operation: &'static str) -> DiskResult<MutexGuard<'_, State>> {
        let state = self.disk.lock();
        if state.life != self.life || state.crashed {
            return Err(self.disk.error(operation, &self.path, DiskErrorKind::Other));
        }
        Ok(state)
    }

    fn change(&self, operation: &'static str) -> DiskResult<MutexGuard<'_, State>> {
        if !self.writable {
            return Err(self.disk.error(operation, &self.path, DiskErrorKind::Denied));
        }
        self.alive(operation)
    }
}

impl DiskFile for MemFile {
    fn len(&self) -> DiskResult<u64> {
        Ok(self.alive("measure")?.inodes[self.file].seen.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> DiskResult<usize> {
        let mut state = self.alive("read")?;
        let content = &state.inodes[self.file].seen;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let n = buf.len().min(content.len() - from);
        let bad = state.inodes[self.file].unreadable.as_ref();
        if bad.is_some_and(|bad| from < bad.end.min(content.len()) && bad.start < from + n) {
            state.inodes[self.file].refused += 1;
            return Err(self.disk.error("read", &self.path, DiskErrorKind::Other));
        }
        buf[..n].copy_from_slice(&content[from..from + n]);
        Ok(n)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> DiskResult<()> {
        let mut state = self.change("write")?;
        let end = usize::try_from(offset).expect("a file in memory") + bytes.len();
        let (kept, result) = match state.fate_of(Some(FailOn::Write)) {
            Fate::Goes if state.has_no_room(self.file, end) => (bytes.len() / 2, Err(DiskErrorKind::Full)),
            Fate::Goes => (bytes.len(), Ok(())),
            Fate::Fails(kind) => (bytes.len() / 2, Err(kind)),
            Fate::Dies => (state.torn.min(bytes.len()), Err(DiskErrorKind::Other)),
        };
        if kept > 0 {
            let bytes = bytes[..kept].to_vec();
            state.record(|| Op::Write { file: self.file, offset, bytes: bytes.clone() });
            let offset = usize::try_from(offset).expect("a file in memory");
            state.alter(self.file, Change::Write { offset, bytes });
        }
        result.map_err(|kind| self.disk.error("write", &self.path, kind))
    }

    fn write_into_zeros(&self, offset: u64, bytes: &[u8], end: u64) -> DiskResult<()> {
        let state = self.change("write")?;
        let behind = offset + bytes.len() as u64;
        if behind < end {
            let (from, to) = (usize::try_from(behind), usize::try_from(end));
            let (from, to) = (from.expect("a file in memory"), to.expect("a file in memory"));
            let promised = state.inodes[self.file].seen.get(from..to).expect("the zeros lie within the file");
            // As far as a disk's block may reach.
            assert!(
                promised.iter().take(1 << 12).all(|b| *b == 0),
                "only zeros stand behind what is written into zeros"
            );
        }
        drop(state);
        self.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> DiskResult<()> {
        let mut state = self.change("resize")?;
        state.whole().map_err(|kind| self.disk.error("resize", &self.path, kind))?;
        if state.has_no_room(self.file, usize::try_from(len).expect("a file in memory")) {
            return Err(self.disk.error("resize", &self.path, DiskErrorKind::Full));
        }
        state.record(|| Op::SetLen { file: self.file, len });
        state.alter(self.file, Change::Len(usize::try_from(len).expect("a file in memory")));
        Ok(())
    }

    fn sync(&self) -> DiskResult<()> {
        // Unlike a write, a sync needs no handle that may write.
        let mut state = self.alive("sync")?;
        let fate = state.fate_of(Some(FailOn::Sync));
        let file = self.file;
        match fate {
            Fate::Goes => {
                let inode = &mut state.inodes[file];
                for change in std::mem::take(&mut inode.unsynced) {
                    change.apply(&mut inode.durable);
                }
                state.record(|| Op::Sync { file });
                Ok(())
            }
            Fate::Fails(kind) => {
                // The pages count as clean now, and are on no medium.
                let inode = &mut state.inodes[file];
                inode.unsynced.clear();
                inode.doubtful = true;
                Err(self.disk.error("sync", &self.path, kind))
            }
            Fate::Dies => Err(self.disk.error("sync", &self.path, DiskErrorKind::Other)),
        }
    }
}
