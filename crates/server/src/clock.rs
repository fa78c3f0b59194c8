//! The only place that reads the system's clocks.

use farrier_replica::Time;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Monotonic and wall time of one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { origin: Instant::now() }
    }

    pub(crate) fn now(&self) -> Time {
        let mono = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        Time { mono, wall: wall_millis() }
    }

    /// Milliseconds of wall time at which the monotonic clock shows `mono`.
    pub(crate) fn wall_of(&self, mono: u64) -> i64 {
        let now = self.now();
        now.wall + (i128::from(mono) - i128::from(now.mono)) as i64
    }
}

/// Milliseconds since 1970; 0 if the machine's clock stands before.
pub(crate) fn wall_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
