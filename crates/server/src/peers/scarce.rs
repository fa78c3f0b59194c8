//! What strangers could make too much of: connections that say nothing yet.

use std::cell::RefCell;
use std::collections::VecDeque;
use tokio::task::AbortHandle;

/// Connections of one port that may be silent at once. One more ends the oldest of them, so that a peer,
/// which speaks at once, gets through however many do not.
pub(super) const HANDSHAKES_MAX: usize = 64;

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
