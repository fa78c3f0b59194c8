//! Bounds and pauses that recipes share.

use std::time::Duration;

/// Pause before a request is made again that no server dealt with.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// Pause before a member of a barrier that is open looks again whether somebody came in by that.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Reads of one listing that are on their way at once.
pub(crate) const READS_AHEAD: usize = 32;
