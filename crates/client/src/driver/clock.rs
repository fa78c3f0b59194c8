//! The only place that reads the system's clock.

use crate::{Clock, Time};
use rustix::time::{ClockId, clock_gettime};

/// A clock that goes on while the machine is suspended.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
/// On macOS the monotonic clock does; elsewhere there may be none that does.
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// The system's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Time {
        let at = clock_gettime(CLOCK);
        let (secs, nanos) = (at.tv_sec.unsigned_abs(), at.tv_nsec.unsigned_abs());
        Time::from_nanos(secs.saturating_mul(1_000_000_000).saturating_add(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on() {
        let before = BootClock.now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(BootClock.now() > before);
    }
}
