//! The priority of threads that do work in bulk: they take what requests leave of the processors.

use std::time::{Duration, Instant};

/// Nice value of a thread in bulk: about a tenth of the weight of one that serves requests, so that it still goes on
/// where every processor is busy.
const BULK_NICE: i32 = 10;

/// Puts the calling thread behind those that serve requests. Where the system does not let it, it stays as it is.
pub(crate) fn behind_requests() {
    // On Linux the value belongs to the thread.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, BULK_NICE) {
        tracing::debug!("the priority of a background thread stays as it is: {error}");
    }
}

/// The longest rest.
const REST_MAX: Duration = Duration::from_millis(200);

/// Rests between pieces of work on the disk, so that others have it meanwhile.
#[derive(Debug)]
pub(crate) struct Rests {
    times: u32,
    since: Instant,
}

impl Rests {
    /// Each rest lasts `times` as long as the piece of work before it.
    pub(crate) fn new(times: u32) -> Self {
        Self { times, since: Instant::now() }
    }

    /// A piece of work is done.
    pub(crate) fn rest(&mut self) {
        std::thread::sleep(self.since.elapsed().saturating_mul(self.times).min(REST_MAX));
        self.since = Instant::now();
    }
}
