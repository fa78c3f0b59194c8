//! What a snapshot does to writes meanwhile.

use super::Options;
use crate::servers::Stage;
use anyhow::{Context as _, Result};
use farrier_bench::rows::Kind;
use farrier_bench::{Pace, Pool, Source, Span};
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Connections of the sets beside a snapshot, and their depth.
pub(super) const CONNS: u32 = 16;
pub(super) const DEPTH: usize = 64;
/// Time between two looks for a snapshot's file.
const LOOK: Duration = Duration::from_millis(5);
/// What is counted to a snapshot after its file grew last: its sync.
const SYNCS: Duration = Duration::from_millis(100);
/// Not counted at the beginning of a load.
const RAMP: Duration = Duration::from_secs(1);
/// A server told this writes no snapshot during a run.
pub(super) const NO_SNAPSHOT: &str = "snapCount=1000000000";

/// Sets at a fixed rate.
#[derive(Debug)]
pub(super) struct Sets {
    /// How many were due each second.
    pub(super) rate: f64,
    /// What those took that met a snapshot.
    beside: Vec<Duration>,
    /// What the others took.
    apart: Vec<Duration>,
    /// How long snapshots were being written.
    pub(super) written: Duration,
}

/// Sets at this rate, or at half of what the server can, for long enough to meet a snapshot.
pub(super) fn sets(stage: &mut Stage, options: &Options, rate: Option<f64>) -> Result<Sets> {
    let mut pool = Pool::open(&stage.ensemble.addrs(), CONNS as usize)?;
    let rate = match rate {
        Some(rate) => rate,
        None => {
            let span = Span::Timed { ramp: RAMP, window: options.window };
            let all = pool.run(Pace::Depth(DEPTH), span, &mut stage.row(Kind::Set, CONNS), &mut || Ok(()))?;
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 replies")]
            let replies = all.replies as f64;
            replies / all.elapsed.as_secs_f64() / 2.0
        }
    };
    stage.ensemble.rest()?;
    let dir = stage.ensemble.data_dir(0).join("version-2");
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let (seen, spans) = std::thread::scope(|scope| -> Result<_> {
        let watch = scope.spawn(|| snapshots(&dir, &stop));
        let mut timed = Timed { source: stage.row(Kind::Set, CONNS), seen: RefCell::default() };
        let pace = Pace::Rate { per_second: rate, depth_max: 4096 };
        let span = Span::Timed { ramp: Duration::ZERO, window: options.beside_snapshot };
        let ran = pool.run(pace, span, &mut timed, &mut || Ok(()));
        stop.store(true, Ordering::Relaxed);
        let spans = watch.join().map_err(|_| anyhow::anyhow!("the watch over snapshots panicked"))?;
        ran?;
        Ok((timed.seen.into_inner(), spans?))
    })?;
    pool.close()?;
    let (from, until) = (begun + RAMP, begun + options.beside_snapshot);
    let written = spans.iter().map(|(from, until)| until.duration_since(*from)).sum();
    let mut sets = Sets { rate, beside: Vec::new(), apart: Vec::new(), written };
    for (due, took) in seen.into_iter().filter(|(due, _)| *due >= from && *due < until) {
        if overlaps(&spans, due, due + took) { sets.beside.push(took) } else { sets.apart.push(took) }
    }
    Ok(sets)
}

/// The p99 beside snapshots and the one without any, in milliseconds; or why there are not both.
pub(super) fn share(with: &Sets, without: &Sets) -> Result<(f64, f64), &'static str> {
    if !without.beside.is_empty() {
        return Err("one was written although none should have been");
    }
    let beside = p99_ms(&with.beside).ok_or("none was written during the sets")?;
    Ok((beside, p99_ms(&without.apart).ok_or("nothing was set without one")?))
}

/// Whether something from `due` to `done` met one of these spans.
fn overlaps(spans: &[(Instant, Instant)], due: Instant, done: Instant) -> bool {
    spans.iter().any(|(from, until)| due < *until && done > *from)
}

fn p99_ms(times: &[Duration]) -> Option<f64> {
    let mut times = times.to_vec();
    times.sort_unstable();
    let rank = (times.len() * 99).div_ceil(100);
    times.get(rank.checked_sub(1)?).map(|time| time.as_secs_f64() * 1e3)
}

/// A source whose replies are remembered, each with when it was due and how long it took.
struct Timed<S> {
    source: S,
    seen: RefCell<Vec<(Instant, Duration)>>,
}

impl<S: Source> Source for Timed<S> {
    fn next(&mut self, conn: usize, xid: i32, out: &mut Vec<u8>) -> Option<u64> {
        self.source.next(conn, xid, out)
    }

    fn reply(&mut self, conn: usize, tag: u64, error: i32, body: &[u8]) -> Result<()> {
        self.source.reply(conn, tag, error, body)
    }

    fn counts(&self, conn: usize, tag: u64, asked: Instant) -> Option<Instant> {
        self.seen.borrow_mut().push((asked, asked.elapsed()));
        self.source.counts(conn, tag, asked)
    }
}

/// When snapshots were being written to this directory, until `stop`.
fn snapshots(dir: &Path, stop: &AtomicBool) -> Result<Vec<(Instant, Instant)>> {
    let mut growth = Growth::new(sizes(dir)?);
    while !stop.load(Ordering::Relaxed) {
        growth.look(Instant::now(), sizes(dir)?);
        sleep(LOOK);
    }
    Ok(growth.spans())
}

/// Files of snapshots, whole or not, with their sizes.
fn sizes(dir: &Path) -> Result<Vec<(OsString, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        // One that is renamed while it is looked at is seen the next time.
        if let Ok(meta) = entry.metadata()
            && entry.file_name().to_string_lossy().contains("snapshot.")
        {
            found.push((entry.file_name(), meta.len()));
        }
    }
    Ok(found)
}

/// Files that grow: each from its first sight until it grew last.
#[derive(Debug)]
struct Growth {
    old: Vec<OsString>,
    new: Vec<(OsString, Instant, Instant, u64)>,
}

impl Growth {
    fn new(there: Vec<(OsString, u64)>) -> Self {
        Self { old: there.into_iter().map(|(name, _)| name).collect(), new: Vec::new() }
    }

    fn look(&mut self, now: Instant, sizes: Vec<(OsString, u64)>) {
        for (name, len) in sizes.into_iter().filter(|(name, _)| !self.old.contains(name)) {
            match self.new.iter_mut().find(|(known, ..)| *known == name) {
                Some((_, _, grown, known)) if len > *known => (*grown, *known) = (now, len),
                Some(_) => {}
                None => self.new.push((name, now, now, len)),
            }
        }
    }

    /// A file that was whole at its first sight has only got its name then, and does not count.
    fn spans(self) -> Vec<(Instant, Instant)> {
        let all = self.new.into_iter().map(|(_, begun, grown, _)| (begun, grown));
        all.filter(|(begun, grown)| begun < grown).map(|(begun, grown)| (begun, grown + SYNCS)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_beside_a_snapshot_if_any_part_of_it_is() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let spans = [(at(100), at(200))];
        assert!(
            overlaps(&spans, at(50), at(101))
                && overlaps(&spans, at(199), at(300))
                && overlaps(&spans, at(50), at(300))
        );
        assert!(!overlaps(&spans, at(50), at(100)) && !overlaps(&spans, at(200), at(201)));
    }

    #[test]
    fn a_share_needs_sets_beside_a_snapshot_and_a_run_without() {
        let sets = |beside: u64, apart: u64| {
            let times = |most| (1..=most).map(Duration::from_millis).collect();
            Sets { rate: 1.0, beside: times(beside), apart: times(apart), written: Duration::ZERO }
        };
        assert_eq!(share(&sets(200, 7), &sets(0, 100)), Ok((198.0, 99.0)));
        share(&sets(0, 7), &sets(0, 100)).unwrap_err();
        share(&sets(200, 7), &sets(1, 100)).unwrap_err();
        share(&sets(200, 7), &sets(0, 0)).unwrap_err();
    }

    #[test]
    fn a_snapshot_lasts_while_its_file_grows() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let file = |name: &str, len| (OsString::from(name), len);
        let mut growth = Growth::new(vec![file("snapshot.1", 10)]);
        growth.look(at(1), vec![file("snapshot.1", 10)]);
        growth.look(at(2), vec![file("snapshot.1", 10), file("farrier.snapshot.2", 0)]);
        growth.look(at(9), vec![file("snapshot.1", 10), file("farrier.snapshot.2", 7)]);
        growth.look(at(12), vec![file("snapshot.1", 10), file("farrier.snapshot.2", 7)]);
        growth.look(at(13), vec![file("snapshot.1", 10), file("snapshot.2", 7)]);
        assert_eq!(growth.spans(), [(at(2), at(9) + SYNCS)]);
    }

    #[test]
    fn only_snapshots_are_looked_at() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["snapshot.1", "farrier.snapshot.2", "log.1"] {
            fs::write(dir.path().join(name), "12345").expect("writable");
        }
        let mut found = sizes(dir.path()).expect("a directory");
        found.sort();
        assert_eq!(found, [("farrier.snapshot.2".into(), 5), ("snapshot.1".into(), 5)]);
    }
}
