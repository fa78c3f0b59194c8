//! How long writes stand still when the leader is killed.
//!
//! Two sessions write without a pause that counts: one on a survivor, one on the leader. The leader dies by
//! `kill -9`, the sessions go on elsewhere, and the server that was killed comes back before the next kill.

use super::writer::{Ack, Done, Pace, Watch, Writer};
use crate::servers::{Ensemble, Stage};
use anyhow::{Context as _, Result, anyhow, ensure};
use std::thread::{Scope, ScopedJoinHandle, scope, sleep};
use std::time::{Duration, Instant};

/// Pause of a writer between two writes.
pub(super) const PAUSE: Duration = Duration::from_millis(1);
/// Writing before the kill.
const BEFORE: Duration = Duration::from_millis(1500);
/// Acknowledgements of each writer after the kill until service counts as back.
const BACK: usize = 50;
/// How long writes are watched after service is back: a second election would be a gap too.
const AFTER: Duration = Duration::from_secs(1);
/// How long service may take to come back.
const BACK_MAX: Duration = Duration::from_secs(60);

/// The sessions, by the server that each is on when the leader dies.
pub(super) const SESSIONS: [&str; 2] = ["on a survivor", "on the killed leader"];

/// The longest time of each session without an acknowledgement.
#[derive(Debug)]
pub(super) struct Gaps {
    /// When the leader died.
    pub(super) died: [Duration; 2],
    /// While it came back.
    pub(super) returned: [Duration; 2],
}

/// Kills the leader of three and brings it back, and looks on every server for what the sessions wrote.
pub(super) fn kill_leader(stage: &mut Stage, kill: u32) -> Result<Gaps> {
    let ensemble = &mut stage.ensemble;
    let size = ensemble.size();
    let leader = ensemble.wait_serving()?;
    let survivor = (leader + 1 + usize::try_from(kill)? % (size - 1)) % size;
    let servers: Vec<_> = (0..size).map(|index| ensemble.addr(index)).collect();
    let watches: [Watch; 2] = Default::default();
    let (gaps, done) = scope(|scope| -> Result<_> {
        let writers: Vec<ScopedJoinHandle<'_, Result<Done>>> = [survivor, leader]
            .iter()
            .zip(&watches)
            .enumerate()
            .map(|(index, (first, watch))| {
                let name = format!("failover-{kill}-{index}");
                start(scope, Writer::new(&servers, *first, &name, Pace::After(PAUSE), watch))
            })
            .collect();
        let seen = watch(ensemble, leader, &watches);
        watches.iter().for_each(Watch::stop);
        let done: Result<Vec<Done>> = writers.into_iter().map(join).collect();
        // What became of a writer explains why the kill could not be watched to its end.
        let done = done?;
        Ok((seen?, done))
    })?;
    for (session, done) in SESSIONS.iter().zip(&done) {
        for addr in ensemble.addrs() {
            done.verify(addr).with_context(|| format!("the session {session}"))?;
        }
    }
    Ok(gaps)
}

pub(super) fn start<'s>(scope: &'s Scope<'s, '_>, writer: Writer) -> ScopedJoinHandle<'s, Result<Done>> {
    scope.spawn(move || writer.run())
}

pub(super) fn join(writer: ScopedJoinHandle<'_, Result<Done>>) -> Result<Done> {
    writer.join().map_err(|_| anyhow!("a writer panicked"))?
}

/// Kills the leader and brings it back; returns the longest gap of each session after the kill, and from
/// the start of the new process until it has caught up.
fn watch(ensemble: &mut Ensemble, leader: usize, watches: &[Watch; 2]) -> Result<Gaps> {
    let begun = Instant::now();
    wait_acks(watches, begun)?;
    sleep(BEFORE.saturating_sub(begun.elapsed()));
    let killed = Instant::now();
    ensemble.kill(leader)?;
    wait_acks(watches, Instant::now())?;
    sleep(AFTER);
    let restarted = Instant::now();
    ensemble.spawn(leader)?;
    ensemble.wait_first_reply(leader)?;
    ensemble.wait_serving()?;
    sleep(AFTER);
    let end = Instant::now();
    let mut died = [Duration::ZERO; 2];
    let mut returned = [Duration::ZERO; 2];
    for (index, watch) in watches.iter().enumerate() {
        let acks = watch.acks()?;
        died[index] = longest_gap(&acks, killed, restarted);
        returned[index] = longest_gap(&acks, restarted, end);
    }
    Ok(Gaps { died, returned })
}

/// Waits until every session writes again.
fn wait_acks(watches: &[Watch; 2], since: Instant) -> Result<()> {
    let deadline = Instant::now() + BACK_MAX;
    for (session, watch) in SESSIONS.iter().zip(watches) {
        while watch.count_since(since)? < BACK {
            ensure!(Instant::now() < deadline, "the session {session} makes no progress");
            sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

/// The longest time without an acknowledgement that reaches into the span.
fn longest_gap(acks: &[Ack], from: Instant, until: Instant) -> Duration {
    let mut last: Option<Instant> = None;
    let mut longest = Duration::ZERO;
    for at in acks.iter().map(|ack| ack.at).chain([until]) {
        let at = at.min(until);
        if at > from {
            longest = longest.max(at.saturating_duration_since(last.unwrap_or(from)));
        }
        last = Some(at);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_may_begin_before_the_span_and_be_open_at_its_end() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let acks: Vec<Ack> = [0, 50, 90, 300, 310].map(|ms| Ack { due: zero, at: at(ms) }).to_vec();
        let gap = |from, until| longest_gap(&acks, at(from), at(until)).as_millis();
        assert_eq!(gap(100, 320), 210);
        assert_eq!(gap(91, 95), 5);
        assert_eq!(gap(305, 400), 90);
        assert_eq!(gap(300, 312), 10);
        assert_eq!(gap(320, 330), 20);
        assert_eq!(longest_gap(&[], at(5), at(8)), Duration::from_millis(3));
    }
}
