//! What strangers could make too much of: connections that say nothing yet, and lines in our log.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// Connections of one port that may be silent at once. One more ends the oldest of them, so that a peer,
/// which speaks at once, gets through however many do not.
pub(super) const HANDSHAKES_MAX: usize = 64;

/// Between two lines about the same nuisance.
const QUIET: Duration = Duration::from_secs(10);

/// The connections whose first words are awaited.
#[derive(Debug, Default)]
pub(super) struct Handshakes(RefCell<VecDeque<AbortHandle>>);

impl Handshakes {
    /// Takes one more in. True if another had to go for it.
    pub(super) fn enter(&self, task: AbortHandle) -> bool {
        let mut tasks = self.0.borrow_mut();
        tasks.retain(|t| !t.is_finished());
        let full = tasks.len() >= HANDSHAKES_MAX;
        if full && let Some(oldest) = tasks.pop_front() {
            oldest.abort();
        }
        tasks.push_back(task);
        full
    }
}

/// One line for many of a kind.
#[derive(Debug, Default)]
pub(super) struct Quietly {
    last: Cell<Option<Instant>>,
    unsaid: Cell<u64>,
}

impl Quietly {
    /// Says it, unless something like it was said a moment ago.
    pub(super) fn warn(&self, text: impl FnOnce() -> String) {
        let now = Instant::now();
        if self.last.get().is_some_and(|last| now.duration_since(last) < QUIET) {
            self.unsaid.set(self.unsaid.get() + 1);
            return;
        }
        self.last.set(Some(now));
        match self.unsaid.take() {
            0 => tracing::warn!("{}", text()),
            more => tracing::warn!("{} ({more} more of the kind before)", text()),
        }
    }
}
