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
        Time { mono: self.mono(), wall: wall_millis() }
    }

    /// [`Self::now`] for whoever knows a time before it: in the same millisecond the wall's clock is not read again.
    /// Monotonic clocks of some machines step back for a moment ([`Instant`] tells which); then the time stands still.
    pub(crate) fn now_after(&self, before: Time) -> Time {
        let mono = self.mono();
        if mono <= before.mono { before } else { Time { mono, wall: wall_millis() } }
    }

    fn mono(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stands_still_where_the_clock_steps_back() {
        let clock = Clock::new();
        let ahead = Time { mono: clock.now().mono + 60_000, wall: 7 };
        assert_eq!(clock.now_after(ahead), ahead);
        std::thread::sleep(std::time::Duration::from_millis(2));
        let behind = Time { mono: 0, wall: 7 };
        assert!(clock.now_after(behind).mono > 0);
    }
}
