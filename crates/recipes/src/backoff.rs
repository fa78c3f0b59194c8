//! Pauses of random length, so that those who wait for the same thing do not all come back at once.

use farrier_client::Client;
use std::time::Duration;

/// A part of `longest`, chosen at random.
pub(crate) fn random_part(client: &Client, longest: Duration) -> Duration {
    // Without random numbers everybody comes back half-way, which is only slower.
    let drawn = client.random_bytes().map_or(u32::MAX / 2, |[a, b, c, d, ..]| u32::from_be_bytes([a, b, c, d]));
    longest.mul_f64(f64::from(drawn) / f64::from(u32::MAX))
}
