//! Who has the processors first: threads that do work in bulk take what requests leave of them, and those that gather work
//! from others let these run before them.

use std::sync::atomic::{AtomicU64, Ordering};
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

/// Letting others run first is worth no more than this.
const COURTESY_MAX: Duration = Duration::from_millis(1);

/// When it took longer, nobody is let first for so many times as long.
const COURTESY_PAUSES: u32 = 30;

/// Lets whoever else can run do so first, for a thread that has the more to do at a time the later it runs. Where
/// processors are idle this takes about a microsecond. Beside work that does not end by itself, other programs' above all,
/// it takes a slice of the scheduler's, some milliseconds: then not for a while, so that little of all time goes that way.
#[derive(Debug)]
pub(crate) struct Courtesy {
    began: Instant,
    /// Nobody is let first until then, in microseconds since the beginning.
    until: AtomicU64,
}

impl Courtesy {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), until: AtomicU64::new(0) }
    }

    pub(crate) fn others_first(&self) {
        let start = self.began.elapsed();
        if self.is_in_place(start) {
            std::thread::yield_now();
            self.took(start, self.began.elapsed());
        }
    }

    fn is_in_place(&self, now: Duration) -> bool {
        micros(now) >= self.until.load(Ordering::Relaxed)
    }

    fn took(&self, start: Duration, end: Duration) {
        let took = end.saturating_sub(start);
        if took > COURTESY_MAX {
            self.until.store(micros(end + took * COURTESY_PAUSES), Ordering::Relaxed);
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The longest rest.
const REST_MAX: Duration = Duration::from_millis(200);

/// The longest part of a rest without a look at whether it is still wanted.
const REST_STEP: Duration = Duration::from_millis(10);

/// Work that goes on for so long has half of the disk's time from then on: the log grows until a snapshot is done.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rests between pieces of work on the disk, so that others have it meanwhile.
pub(crate) struct Rests<'a> {
    times: u32,
    /// Whether the work is given up.
    over: &'a dyn Fn() -> bool,
    began: Instant,
    since: Instant,
}

impl<'a> Rests<'a> {
    /// Each rest lasts `times` as long as the piece of work before it, within [`REST_MAX`].
    pub(crate) fn new(times: u32, over: &'a dyn Fn() -> bool) -> Self {
        let now = Instant::now();
        Self { times, over, began: now, since: now }
    }

    /// A piece of work is done.
    pub(crate) fn rest(&mut self) {
        let now = Instant::now();
        let times = if now - self.began < PATIENCE { self.times } else { 1 };
        let end = now + (now - self.since).saturating_mul(times).min(REST_MAX);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if (self.over)() || left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(REST_STEP));
        }
        self.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn others_are_let_first_until_that_takes_long_and_again_later() {
        let courtesy = Courtesy::new();
        let at = Duration::from_micros;
        courtesy.took(at(0), at(900));
        assert!(courtesy.is_in_place(at(900)));
        courtesy.took(at(5000), at(7000));
        assert!(!courtesy.is_in_place(at(7000)) && !courtesy.is_in_place(at(66_999)));
        assert!(courtesy.is_in_place(at(67_000)));
        courtesy.others_first();
    }

    #[test]
    fn a_rest_lasts_as_often_as_long_as_the_work_unless_it_is_given_up() {
        let looks = Cell::new(0);
        let over = || {
            looks.set(looks.get() + 1);
            looks.get() > 3
        };
        let mut rests = Rests::new(4, &over);
        std::thread::sleep(Duration::from_millis(2));
        let start = Instant::now();
        rests.rest();
        assert!(start.elapsed() >= Duration::from_millis(8) || looks.get() > 3);
        looks.set(3);
        std::thread::sleep(Duration::from_millis(50));
        rests.rest();
        assert_eq!(looks.get(), 4, "it was given up at the first look");
    }
}
