//! What can go wrong with a recipe, beside what can go wrong with a request.

use std::time::Duration;

/// Why a step of a recipe did not succeed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A request did not succeed. After [`farrier_client::Error::Unknown`] its change may have been made.
    #[error(transparent)]
    Client(#[from] farrier_client::Error),
    /// It was not acquired in the time that the caller gave; nothing is left of the attempt.
    #[error("{path}: not acquired {}; others hold it", within(*waited))]
    NotAcquired {
        /// The lock, election, semaphore or barrier.
        path: String,
        /// How long the caller was willing to wait.
        waited: Duration,
    },
    /// The lock is not held any more: its znode is gone, or the lease ran out. Nothing was changed.
    #[error("{path}: the lock was lost, and nothing was changed; acquire it anew")]
    LockLost {
        /// The holder's znode.
        path: String,
    },
    /// The claim on a queue's item is gone, and somebody else may take the item. Nothing was changed.
    #[error("{path}: the claim was lost with its session, so the item will be delivered again")]
    ClaimLost {
        /// The item.
        path: String,
    },
    /// The queue holds as many items as it may. Nothing was put.
    #[error("{path}: the queue is full ({limit} items); take some, or raise its limit")]
    QueueFull {
        /// The queue.
        path: String,
        /// As many items may wait.
        limit: usize,
    },
    /// Children of this path belong to another layout or recipe. Sharing it would exclude nobody.
    #[error("{path}: {found:?} belongs to {layout}; use another path, or that layout")]
    OtherLayout {
        /// The path of the recipe.
        path: String,
        /// A child that is not of this layout.
        found: String,
        /// Whose it is, in words.
        layout: &'static str,
    },
    /// The znode does not hold what the recipe keeps there.
    #[error("{path}: {found}; it was not changed")]
    Unreadable {
        /// The znode.
        path: String,
        /// What is there, and what should be.
        found: String,
    },
    /// The call cannot be right, and nothing was done.
    #[error("{path}: {reason}")]
    Invalid {
        /// The path of the recipe.
        path: String,
        /// The rule that it breaks.
        reason: String,
    },
}

/// How long was long enough, in words.
fn within(waited: Duration) -> String {
    match (waited.as_secs(), waited.subsec_millis()) {
        (0, 0) => "at once".to_owned(),
        (seconds, 0) => format!("within {seconds} s"),
        (0, millis) => format!("within {millis} ms"),
        (seconds, millis) => format!("within {seconds}.{millis:03} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_as_it_was_given() {
        for (ms, told) in [(0, "at once"), (60_000, "within 60 s"), (500, "within 500 ms"), (1500, "within 1.500 s")] {
            let error = Error::NotAcquired { path: "/l".to_owned(), waited: Duration::from_millis(ms) };
            assert_eq!(error.to_string(), format!("/l: not acquired {told}; others hold it"));
        }
    }
}
