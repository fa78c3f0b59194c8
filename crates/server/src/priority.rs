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
const REST_MAX: Duration = Duration::from_millis(20);

/// Rests as long as each piece of work took, so that half of the disk's time is the log's.
#[derive(Debug)]
pub(crate) struct Rests {
    since: Instant,
}

impl Rests {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now() }
    }

    /// A piece of work is done.
    pub(crate) fn rest(&mut self) {
        std::thread::sleep(self.since.elapsed().min(REST_MAX));
        self.since = Instant::now();
    }
}
