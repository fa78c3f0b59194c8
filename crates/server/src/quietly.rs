//! Lines in our log, of which strangers could make too many.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Between two lines about the same nuisance.
const QUIET: Duration = Duration::from_secs(10);

/// One line for many of a kind.
#[derive(Debug, Default)]
pub(crate) struct Quietly {
    last: Cell<Option<Instant>>,
    unsaid: Cell<u64>,
}

impl Quietly {
    /// Says it, unless something like it was said a moment ago.
    pub(crate) fn warn(&self, text: impl FnOnce() -> String) {
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
