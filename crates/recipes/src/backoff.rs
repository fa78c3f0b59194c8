//! Pauses of random length, so that those who wait for the same thing do not all come back at once.

use std::time::Duration;

/// A part of `longest`, chosen at random.
pub(crate) fn random_part(longest: Duration) -> Duration {
    // Without random numbers everybody comes back half-way, which is only slower.
    let drawn = getrandom::u32().unwrap_or(u32::MAX / 2);
    longest.mul_f64(f64::from(drawn) / f64::from(u32::MAX))
}
