//! `<dataLogDir>/farrier.mark`: how far the log is known to be durable.
//!
//! Two slots in two sectors, each with magic, version, sequence number and checksum.
//! One slot is written until a sync of it has returned, then the other one: a torn slot leaves one that
//! is durable. A mark is written after the log sync that it tells of and never
//! before, so what it claims is true whenever it reaches the disk; it may only be old.
//!
//! Slot, big-endian, 64 bytes, at 0 and 4096: `FARRMARK`, version u32, currentEpoch u32, sequence u64,
//! segment u64, offset u64, zxid u64, floor u64, zero u32, CRC-32 of the 60 bytes before it.

use crate::disk::{Dir, Disk, DiskErrorKind, DiskFile, DiskPath, DiskResult, OpenMode};
use farrier_proto::Zxid;

/// Name of the file.
pub const MARK_NAME: &str = "farrier.mark";

/// Version of the format.
pub const MARK_VERSION: u32 = 1;

/// Distance of the slots: one physical sector or more, so that a torn write hurts one.
pub const SLOT_SPACING: u64 = 4096;

/// Bytes of a slot.
pub const SLOT_LEN: usize = 64;

const MAGIC: &[u8; 8] = b"FARRMARK";
const CHECKED: usize = SLOT_LEN - 4;

/// Path of the file.
#[must_use]
pub fn mark_path() -> DiskPath {
    DiskPath::new(Dir::Log, MARK_NAME)
}

/// What is durable. Everything in `segment` before `offset`, and all older segments, were synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    /// Counts the marks that were written; the higher one is the newer.
    pub sequence: u64,
    /// First zxid of the segment written to; zero for none.
    pub segment: Zxid,
    /// Offset behind the last synced record.
    pub offset: u64,
    /// The last synced transaction.
    pub zxid: Zxid,
    /// currentEpoch at that time; 0 for a standalone server.
    pub epoch: u32,
    /// A difference from the log may not reach below this (safety contract 4.3).
    pub floor: Zxid,
}

impl Mark {
    /// The slot's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SLOT_LEN] {
        let mut out = Vec::with_capacity(SLOT_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&MARK_VERSION.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        for word in [self.sequence, self.segment.get(), self.offset, self.zxid.get(), self.floor.get()] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&[0; 4]);
        let sum = crc(&out);
        out.extend_from_slice(&sum.to_be_bytes());
        out.try_into().expect("the fields make up one slot")
    }

    /// Offset of the slot in the file.
    #[must_use]
    pub const fn slot_offset(&self) -> u64 {
        (self.sequence % 2) * SLOT_SPACING
    }
}

/// CRC-32 of so few bytes that tables of its own, which flate2's copies each time, would cost more than the sum.
fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// What a slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Slot {
    /// Nothing, or something torn.
    Bad,
    /// Whole, but of a version that this code does not know.
    Newer(u32),
    /// A mark.
    Good(Mark),
}

fn decode(bytes: &[u8]) -> Slot {
    let Some(bytes) = bytes.get(..SLOT_LEN) else { return Slot::Bad };
    let u32_at = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("within the slot"));
    let zxid_at = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("within the slot"));
    if &bytes[..8] != MAGIC || crc(&bytes[..CHECKED]) != u32_at(CHECKED) {
        return Slot::Bad;
    }
    if u32_at(8) != MARK_VERSION {
        return Slot::Newer(u32_at(8));
    }
    let zxid = |at: usize| Zxid::from_wire(zxid_at(at).cast_signed());
    Slot::Good(Mark {
        sequence: zxid_at(16),
        segment: zxid(24),
        offset: zxid_at(32),
        zxid: zxid(40),
        epoch: u32_at(12),
        floor: zxid(48),
    })
}

/// What the file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MarkRead {
    /// There is no file.
    Absent,
    /// There is a file, and neither slot is whole: its first write was cut short, or it is damaged.
    Unreadable,
    /// The newer of the whole slots.
    Mark(Mark),
    /// A slot was written by a version that this code does not know.
    Newer(u32),
}

/// Reads the mark.
pub fn read_mark<D: Disk>(disk: &D) -> DiskResult<MarkRead> {
    let Some(slots) = read_slots(disk)? else { return Ok(MarkRead::Absent) };
    let mut best = MarkRead::Unreadable;
    for slot in slots {
        match (slot, &best) {
            (Slot::Newer(version), _) => return Ok(MarkRead::Newer(version)),
            (Slot::Good(mark), MarkRead::Mark(other)) if other.sequence >= mark.sequence => {}
            (Slot::Good(mark), _) => best = MarkRead::Mark(mark),
            (Slot::Bad, _) => {}
        }
    }
    Ok(best)
}

/// The newest whole mark of this currentEpoch. A server writes the mark of a new epoch before that epoch's
/// file; if it died in between, the other slot still has the old epoch's, and that one counts.
pub(crate) fn mark_of_epoch<D: Disk>(disk: &D, epoch: u32) -> DiskResult<Option<Mark>> {
    let slots = read_slots(disk)?.unwrap_or([Slot::Bad; 2]);
    let marks = slots.into_iter().filter_map(|slot| match slot {
        Slot::Good(mark) => Some(mark),
        Slot::Bad | Slot::Newer(_) => None,
    });
    Ok(marks.filter(|mark| mark.epoch == epoch).max_by_key(|mark| mark.sequence))
}

fn read_slots<D: Disk>(disk: &D) -> DiskResult<Option<[Slot; 2]>> {
    let file = match disk.open(&mark_path(), OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind == DiskErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut slots = [Slot::Bad; 2];
    for (slot, offset) in slots.iter_mut().zip([0, SLOT_SPACING]) {
        let mut bytes = [0; SLOT_LEN];
        let got = file.read_at(offset, &mut bytes)?;
        *slot = decode(&bytes[..got]);
    }
    Ok(Some(slots))
}

/// The mark being kept up by whoever writes the log.
#[derive(Debug)]
pub struct MarkFile<F> {
    file: Option<F>,
    last: Mark,
    unsynced: bool,
}

impl<F: DiskFile> MarkFile<F> {
    /// Goes on from `last`, which stands in the file. The file is opened when it is first needed.
    #[must_use]
    pub const fn resume(last: Mark) -> Self {
        Self { file: None, last, unsynced: false }
    }

    /// Creates the file or takes over whatever stands in it, with `mark` in both slots, durable by the time
    /// this returns, name included.
    pub fn create<D: Disk<File = F>>(disk: &D, mark: Mark) -> DiskResult<Self> {
        let mut this = Self::take_over(disk, mark.sequence)?;
        this.write_both(disk, mark)?;
        disk.sync_dir(Dir::Log)?;
        Ok(this)
    }

    /// Creates the file or takes over whatever stands in it. The first mark goes into the slot that does not
    /// hold the one with this sequence number.
    pub(crate) fn take_over<D: Disk<File = F>>(disk: &D, sequence: u64) -> DiskResult<Self> {
        let file = match disk.open(&mark_path(), OpenMode::Write) {
            Err(e) if e.kind == DiskErrorKind::NotFound => disk.open(&mark_path(), OpenMode::CreateNew)?,
            other => other?,
        };
        // What a process that died has left unsynced is as good as lost, until it is synced.
        file.sync()?;
        Ok(Self { file: Some(file), last: Mark { sequence, ..Mark::default() }, unsynced: false })
    }

    /// Writes `mark` into both slots, one after the other, so that one is whole at any time.
    pub(crate) fn write_both<D: Disk<File = F>>(&mut self, disk: &D, mark: Mark) -> DiskResult<()> {
        for _ in 0..2 {
            self.write(disk, mark)?;
            self.sync()?;
        }
        Ok(())
    }

    /// The last mark written.
    #[must_use]
    pub const fn last(&self) -> Mark {
        self.last
    }

    /// Whether a mark was written since the last sync.
    #[must_use]
    pub const fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Writes a mark into the slot that is not durable; gives it a higher sequence number.
    pub fn write<D: Disk<File = F>>(&mut self, disk: &D, mark: Mark) -> DiskResult<()> {
        // The parity chooses the slot.
        let step = if self.unsynced { 2 } else { 1 };
        let mark = Mark { sequence: self.last.sequence.wrapping_add(step), ..mark };
        if self.file.is_none() {
            self.file = Some(disk.open(&mark_path(), OpenMode::Write)?);
        }
        let file = self.file.as_ref().expect("the file was opened above");
        file.write_at(mark.slot_offset(), &mark.encode())?;
        self.last = mark;
        self.unsynced = true;
        Ok(())
    }

    /// Makes the last mark durable.
    pub fn sync(&mut self) -> DiskResult<()> {
        if let Some(file) = self.file.as_ref().filter(|_| self.unsynced) {
            file.sync()?;
        }
        self.unsynced = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::{Crash, MemDisk};

    /// However many marks were written since the last sync, all of them torn, the synced one is left.
    #[test]
    fn the_synced_mark_survives_unsynced_ones() {
        for writes in 1..6 {
            let disk = MemDisk::default();
            let mut file = MarkFile::create(&disk, Mark::default()).unwrap();
            file.write(&disk, Mark { offset: 100, ..Mark::default() }).unwrap();
            file.sync().unwrap();
            for n in 1..=writes {
                file.write(&disk, Mark { offset: 100 + n, ..Mark::default() }).unwrap();
            }
            let newest = file.last().slot_offset();
            assert!(matches!(read_mark(&disk).unwrap(), MarkRead::Mark(m) if m.offset == 100 + writes));
            let torn = disk.open(&mark_path(), OpenMode::Write).unwrap();
            torn.write_at(newest, &[0xee; SLOT_LEN / 2]).unwrap();
            disk.restart(Crash::Process, &mut |_| 0);
            let read = read_mark(&disk).unwrap();
            assert!(matches!(read, MarkRead::Mark(m) if m.offset == 100), "{writes}: {read:?}");
        }
    }
}
