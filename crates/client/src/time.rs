//! Time as the client sees it: a number that only grows, and counts while the machine is suspended.

use std::ops::{Add, Sub};
use std::time::Duration;

/// An instant of the client's clock.
///
/// Unlike [`std::time::Instant`], the clock goes on while the machine is suspended, since a server's does too:
/// a session that a laptop slept through must not look alive when it wakes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Time(u64);

impl Time {
    /// The farthest instant.
    pub const MAX: Self = Self(u64::MAX);

    /// The instant `nanos` nanoseconds after the clock's beginning.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's beginning.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// Saturates at [`Time::MAX`].
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Time {
    type Output = Duration;

    /// Nothing if `earlier` is the later one.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Where a client's time comes from.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Now. Must never go back.
    fn now(&self) -> Time;
}
