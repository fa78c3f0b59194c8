//! What the allocator is told: huge pages are off while a server is small, and on once it is not; free memory is kept for a
//! while.
//!
//! The allocator asks for huge pages. They make look-ups among a million znodes a quarter faster, and cost a server that
//! holds nearly nothing more than half of its memory, since of each that is touched all is resident. The first ones are
//! touched before `main`, so the process begins once more, with huge pages off.

use std::env;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use farrier_storage::segment::apache_zxid;
use rustix::thread::{disable_transparent_huge_pages, transparent_huge_pages_are_disabled};

/// A server whose resident memory is below this does without, in bytes.
const SMALL_MAX: u64 = 32 << 20;
/// A server that starts from a snapshot above this has them from the beginning: its memory will be a multiple, in bytes.
const SNAPSHOT_MAX: u64 = 4 << 20;
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Tells a process that it has begun anew, and that huge pages are off for this reason.
const BEGUN: &str = "FARRIER_HUGE_PAGES";
/// Its value.
const LATER: &str = "later";

/// How long the allocator keeps free memory before the system gets it back.
const KEEP: &str = "MIMALLOC_PURGE_DELAY";
/// Its value, in milliseconds: what snapshots and bursts of requests leave behind is mostly wanted again within it.
const KEEP_MS: &str = "60000";

/// Begins this process anew with huge pages off, for one that starts no others and calls [`grow`]. Where the system knows
/// no such switch, or somebody has used it before, everything stays as it is.
pub(crate) fn begin_small() {
    if begins_anew() || !matches!(transparent_huge_pages_are_disabled(), Ok(false)) {
        return;
    }
    if let Ok(binary) = env::current_exe()
        && disable_transparent_huge_pages(true).is_ok()
    {
        let mut arguments = env::args_os();
        let mut again = Command::new(binary);
        again.arg0(arguments.next().unwrap_or_else(|| "farrier".into())).args(arguments).env(BEGUN, LATER);
        if env::var_os(KEEP).is_none() {
            again.env(KEEP, KEEP_MS);
        }
        // It only returns if it fails: the binary may have been replaced a moment ago.
        let _ = again.exec();
        switch_on();
    }
}

fn begins_anew() -> bool {
    env::var_os(BEGUN).is_some_and(|value| value == LATER)
}

/// Switches huge pages on as soon as this process, a server on this data directory, is large; at once if it is going to
/// be.
pub(crate) fn grow(data_dir: &Path) {
    if !begins_anew() {
        return;
    }
    if largest_snapshot(data_dir) > SNAPSHOT_MAX {
        return switch_on();
    }
    let watch = || {
        while resident().is_ok_and(|bytes| bytes <= SMALL_MAX) {
            thread::sleep(LOOK);
        }
        switch_on();
    };
    if thread::Builder::new().name("memory".into()).stack_size(64 << 10).spawn(watch).is_err() {
        switch_on();
    }
}

fn switch_on() {
    if let Err(error) = disable_transparent_huge_pages(false) {
        tracing::warn!("huge pages stay off, which makes many znodes slower: {error}");
    }
}

/// Bytes of the largest snapshot, 0 where there is none.
fn largest_snapshot(data_dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(data_dir.join("version-2")) else { return 0 };
    let is_snapshot =
        |entry: &fs::DirEntry| entry.file_name().to_str().is_some_and(|name| apache_zxid(name, "snapshot").is_some());
    entries.flatten().filter(is_snapshot).filter_map(|e| e.metadata().ok()).map(|m| m.len()).max().unwrap_or(0)
}

/// Bytes of this process that are in memory.
fn resident() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kb = line.trim().trim_end_matches(" kB").parse::<u64>();
    kb.map(|kb| kb << 10).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{line:?}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_in_memory() {
        assert!((1 << 16..1 << 40).contains(&resident().expect("Linux tells")), "{:?}", resident());
    }

    #[test]
    fn the_largest_snapshot_counts_and_other_files_do_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(largest_snapshot(dir.path()), 0);
        let version = dir.path().join("version-2");
        fs::create_dir(&version).expect("made");
        for (name, len) in [("snapshot.0", 10), ("snapshot.1f.sz", 300), ("snapshot.2", 20), ("log.1", 5000)] {
            fs::write(version.join(name), vec![0; len]).expect("written");
        }
        assert_eq!(largest_snapshot(dir.path()), 300);
    }
}
