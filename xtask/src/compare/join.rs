//! How long a follower takes to join, and what that costs the others.
//!
//! The leader and the other follower serve clients that write at a fixed pace while the follower starts.

use crate::servers::{Ensemble, ROOT, Stage, VALUE_LEN, rest};
use anyhow::{Result, ensure};
use farrier_bench::failover::{Ack, Done, Pace, Running, Watch, Writer};
use farrier_bench::process::{forget_peak, memory};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// Clients that write meanwhile, on the two servers that run.
const WRITERS: usize = 8;
/// One write of each is due so often.
const PERIOD: Duration = Duration::from_millis(10);
/// Writing before anything counts.
const RAMP: Duration = Duration::from_secs(1);
/// What counts as during the join, after the follower's first reply.
const AFTER: Duration = Duration::from_secs(1);
/// What counts of the writes before a join.
const BEFORE: Duration = Duration::from_secs(5);

/// What a join showed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Join {
    /// From the follower's start to the first reply that a client on it gets.
    pub(super) serves: Duration,
    /// Until it has applied what the leader had then.
    pub(super) caught_up: Duration,
    /// The 99th percentile of the others' writes, in milliseconds, before and meanwhile.
    pub(super) before_ms: f64,
    pub(super) during_ms: f64,
    /// The most that the leader's process held meanwhile, in bytes.
    pub(super) peak: u64,
}

/// Kills a follower, lets it miss `count` creates, and starts it again; every server has them then.
pub(super) fn behind(stage: &mut Stage, count: u32, name: &str) -> Result<Join> {
    let follower = (stage.ensemble.wait_serving()? + 1) % stage.ensemble.size();
    stage.ensemble.kill(follower)?;
    stage.fill(count)?;
    measure(&mut stage.ensemble, follower, name)
}

/// Kills a follower, takes its directory away, and starts it again.
pub(super) fn empty(stage: &mut Stage, name: &str) -> Result<Join> {
    let follower = (stage.ensemble.wait_serving()? + 1) % stage.ensemble.size();
    rest()?;
    stage.ensemble.kill(follower)?;
    stage.ensemble.wipe(follower)?;
    measure(&mut stage.ensemble, follower, name)
}

/// What was seen of one join.
struct Joined {
    started: Instant,
    serves: Instant,
    caught_up: Instant,
    end: Instant,
    peak: u64,
}

/// Starts the follower under the writers' eyes.
fn measure(ensemble: &mut Ensemble, follower: usize, name: &str) -> Result<Join> {
    rest()?;
    let leader = ensemble.wait_serving()?;
    let servers = ensemble.addrs();
    let watches: Vec<Watch> = (0..WRITERS).map(|_| Watch::default()).collect();
    let begun = Instant::now();
    let (joined, done) = scope(|scope| -> Result<_> {
        let writers: Vec<Running<'_>> = watches
            .iter()
            .enumerate()
            .map(|(index, watch)| {
                let first = index % servers.len();
                let path = format!("{ROOT}/join-{name}-{index}");
                Writer::new(&servers, first, &path, VALUE_LEN, Pace::Every(PERIOD), watch).start(scope)
            })
            .collect();
        let joined = watch(ensemble, leader, follower);
        watches.iter().for_each(Watch::stop);
        let done: Result<Vec<Done>> = writers.into_iter().map(Running::join).collect();
        // What became of a writer explains why the join could not be watched to its end.
        let done = done?;
        Ok((joined?, done))
    })?;
    for addr in ensemble.addrs() {
        for done in &done {
            done.verify(addr)?;
        }
    }
    let mut acks = Vec::new();
    for watch in &watches {
        acks.extend(watch.acks()?);
    }
    Ok(Join {
        serves: joined.serves - joined.started,
        caught_up: joined.caught_up - joined.started,
        before_ms: p99_ms(&acks, begun + RAMP, joined.started),
        during_ms: p99_ms(&acks, joined.started, joined.end),
        peak: joined.peak,
    })
}

fn watch(ensemble: &mut Ensemble, leader: usize, follower: usize) -> Result<Joined> {
    sleep(RAMP + BEFORE);
    let pid = ensemble.pid(leader)?;
    forget_peak(pid)?;
    let started = Instant::now();
    ensemble.spawn(follower)?;
    let serves = ensemble.wait_first_reply(follower)?;
    let still = ensemble.wait_serving()?;
    let caught_up = Instant::now();
    ensure!(still == leader, "server {} leads instead of server {} now", still + 1, leader + 1);
    sleep((serves + AFTER).saturating_duration_since(caught_up));
    let end = serves + AFTER;
    Ok(Joined { started, serves, caught_up, end, peak: memory(pid, "VmHWM")? })
}

/// The 99th percentile of the time from when a write was due to its reply, of those due in a span.
fn p99_ms(acks: &[Ack], from: Instant, until: Instant) -> f64 {
    let due = acks.iter().filter(|ack| ack.due >= from && ack.due < until);
    let mut times: Vec<Duration> = due.map(|ack| ack.at.saturating_duration_since(ack.due)).collect();
    times.sort_unstable();
    let rank = (times.len() * 99).div_ceil(100);
    rank.checked_sub(1).and_then(|i| times.get(i)).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_counts_writes_by_when_they_were_due() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let acks: Vec<Ack> = (0..200).map(|i| Ack { due: at(i), at: at(i + i % 100 + 1) }).collect();
        assert!((p99_ms(&acks, at(0), at(100)) - 99.0).abs() < 1e-9);
        assert!((p99_ms(&acks, at(0), at(1)) - 1.0).abs() < 1e-9);
        assert!(p99_ms(&acks, at(500), at(600)).is_nan());
    }
}
