//! `<dataDir>/farrier.recovering`: this member may have forgotten what it acknowledged, and has no vote until
//! a leader has given it everything (safety contract, section 3).
//!
//! It is written before anything that shows the loss is moved or replaced, and goes only when a leader's
//! history and its epoch are durable, or when an operator accepts the loss. The content is one word.

use crate::disk::{Dir, Disk, DiskErrorKind, DiskFile, DiskPath, DiskResult, OpenMode};
use crate::epochs::replace;

const NAME: &str = "farrier.recovering";
pub(crate) const TEMPORARY: &str = "farrier.recovering.tmp";
const HISTORY: &[u8] = b"history\n";
const PROMISE: &[u8] = b"promise\n";

/// Whether a member remembers everything that it acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Recovering {
    /// It does.
    #[default]
    No,
    /// Its history may lack transactions that it acknowledged.
    History,
    /// So it may, and even which epochs it promised may be lost.
    Promise,
}

fn path() -> DiskPath {
    DiskPath::new(Dir::Data, NAME)
}

/// Reads the mark. One that can't be understood says the worst.
///
/// # Errors
/// The disk failed.
pub fn read_recovering<D: Disk>(disk: &D) -> DiskResult<Recovering> {
    let file = match disk.open(&path(), OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind == DiskErrorKind::NotFound => return Ok(Recovering::No),
        Err(e) => return Err(e),
    };
    let mut bytes = [0; 16];
    let n = file.read_at(0, &mut bytes)?;
    Ok(if &bytes[..n] == HISTORY { Recovering::History } else { Recovering::Promise })
}

/// Makes the mark say at least this much, durably; answers what it says. It never takes anything back.
///
/// # Errors
/// The first failed operation.
pub fn raise_recovering<D: Disk>(disk: &D, at_least: Recovering) -> DiskResult<Recovering> {
    let old = read_recovering(disk)?;
    let bytes = match at_least {
        _ if old >= at_least => {
            // A process that died may have written it and not synced its name.
            disk.sync_dir(Dir::Data)?;
            return Ok(old);
        }
        // Not reached: nothing is below it.
        Recovering::No => return Ok(old),
        Recovering::History => HISTORY,
        Recovering::Promise => PROMISE,
    };
    replace(disk, Dir::Data, NAME, TEMPORARY, bytes)?;
    Ok(at_least)
}

/// Removes the mark, durably; answers whether there was one.
///
/// # Errors
/// The first failed operation.
pub(crate) fn clear_recovering<D: Disk>(disk: &D) -> DiskResult<bool> {
    let removed = match disk.remove(&path()) {
        Ok(()) => true,
        Err(e) if e.kind == DiskErrorKind::NotFound => false,
        Err(e) => return Err(e),
    };
    // Also where it was gone: a process that died may have removed it and not synced.
    disk.sync_dir(Dir::Data)?;
    Ok(removed)
}
