//! Whose turn it is with the files of the history.

use super::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering};

/// Who may touch snapshots and the next segment. Writing the one, purging and preparing the other must not see
/// each other's work half done, and all of it ends when the log thread changes the history.
#[derive(Debug, Default)]
pub(crate) struct Files {
    snapshots: Mutex<()>,
    segments: Mutex<()>,
    /// The log thread waits for both.
    claimed: AtomicBool,
    /// Counts its changes: a snapshot that was asked for before one is of another history.
    history: AtomicU64,
}

/// All files are the log thread's.
pub(crate) struct Claim<'f>(#[expect(dead_code, reason = "held")] (MutexGuard<'f, ()>, MutexGuard<'f, ()>));

impl Files {
    pub(crate) fn snapshots(&self) -> MutexGuard<'_, ()> {
        self.snapshots.lock().expect("nothing panics while it holds this lock")
    }

    pub(crate) fn segments(&self) -> MutexGuard<'_, ()> {
        self.segments.lock().expect("nothing panics while it holds this lock")
    }

    /// Takes the files for a change of the history; a snapshot that is being written is given up.
    pub(crate) fn claim(&self) -> Claim<'_> {
        self.claimed.store(true, Ordering::SeqCst);
        let locks = (self.snapshots(), self.segments());
        self.history.fetch_add(1, Ordering::SeqCst);
        self.claimed.store(false, Ordering::SeqCst);
        Claim(locks)
    }

    /// Whether the log thread waits for the files: whoever has some is to give up what it does.
    pub(crate) fn are_claimed(&self) -> bool {
        self.claimed.load(Ordering::SeqCst)
    }

    /// Lets whoever asks believe it, or no longer.
    #[cfg(test)]
    #[allow(dead_code, reason = "the tests of interleavings compile this file too")]
    pub(crate) fn set_claimed(&self, claimed: bool) {
        self.claimed.store(claimed, Ordering::SeqCst);
    }

    /// The number of the history: another one behind each claim.
    pub(crate) fn history(&self) -> u64 {
        self.history.load(Ordering::SeqCst)
    }
}
