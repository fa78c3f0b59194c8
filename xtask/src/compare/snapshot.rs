//! What a snapshot does to writes meanwhile: sets on one full server at half of what it can, in turns with snapshots and
//! without any. They go to all of its znodes, so that none of those that a snapshot still has to write is spared.

use super::Options;
use super::figures::{Figures, Metric, Who};
use super::footprint::megabytes;
use crate::measure::note;
use crate::report::{Samples, number};
use crate::servers::{Stage, rest};
use anyhow::{Context as _, Result};
use farrier_bench::process::{cpu_time, forget_peak, memory};
use farrier_bench::rows::Kind;
use farrier_bench::{Pace, Pool, Source, Span};
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Connections of the sets, and their depth while the server does what it can.
pub(super) const CONNS: u32 = 16;
const DEPTH: usize = 64;
/// Most sets outstanding on one connection at a fixed rate.
const DEPTH_MAX: usize = 4096;
/// Time between two looks for a snapshot's file.
const LOOK: Duration = Duration::from_millis(5);
/// What is counted to a snapshot after its file grew last: its sync.
const SYNCS: Duration = Duration::from_millis(100);
/// Not counted at the beginning of a load.
const RAMP: Duration = Duration::from_secs(1);
/// A server told this writes no snapshot during a turn.
const NO_SNAPSHOT: &str = "snapCount=1000000000";

/// What a server is told about snapshots. At half load one snapshot may follow the other, so that there is no time without:
/// so the other turn goes without them altogether.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    /// Nothing, so that it writes them as usual.
    With,
    /// To write none.
    Without,
}

impl Turn {
    /// The two of a round. Who goes first changes from round to round.
    const fn order(round: u32) -> [Self; 2] {
        if round.is_multiple_of(2) { [Self::With, Self::Without] } else { [Self::Without, Self::With] }
    }

    const fn configuration(self) -> &'static [&'static str] {
        match self {
            Self::With => &[],
            Self::Without => &[NO_SNAPSHOT],
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::With => "with snapshots",
            Self::Without => "without any",
        }
    }

    /// The p99 that stands for the turn, in milliseconds; or why it does not count.
    fn p99_ms(self, seen: &Sets) -> Result<f64, &'static str> {
        match self {
            Self::With => p99_ms(&seen.beside).ok_or("no snapshot was written during the sets"),
            Self::Without if !seen.beside.is_empty() => Err("a snapshot was written although none should have been"),
            Self::Without => p99_ms(&seen.apart).ok_or("nothing was set"),
        }
    }
}

/// How many sets a second are half of what the server can.
fn half_load(stage: &mut Stage, options: &Options, who: Who) -> Result<f64> {
    // Nothing was asked of it but creates so far.
    let ramp = if who == Who::Apache { options.warm } else { options.window };
    let (replies, elapsed) = full_load(stage, Span::Timed { ramp: ramp.max(RAMP), window: options.window })?;
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 replies")]
    let replies = replies as f64;
    Ok(replies / elapsed.as_secs_f64() / 2.0)
}

/// Sets at half load, in turns with snapshots and without, everybody in each round: the share of each round, and the peak of
/// memory beside a snapshot. Returns what to tell of it.
pub(super) fn turns(stages: &mut [(Who, Stage)], options: &Options, figures: &mut Figures) -> Result<String> {
    let mut all = Vec::new();
    for (who, stage) in stages.iter_mut() {
        rest()?;
        all.push((half_load(stage, options, *who)?, Rounds::default()));
    }
    for round in 0..options.rounds {
        for turn in 0..stages.len() {
            let index = (turn + round as usize) % stages.len();
            let ((who, stage), (rate, rounds)) = (&mut stages[index], &mut all[index]);
            let order = Turn::order(round);
            let mut take = |turn| turn_of(stage, options, *who, *rate, turn).with_context(|| stage.ensemble.obituary());
            let (first, second) = (take(order[0])?, take(order[1])?);
            let (with, without) = if order[0] == Turn::With { (first, second) } else { (second, first) };
            if !with.beside.is_empty() {
                figures.add("rss-snapshot", *who, Metric::Mb, megabytes(with.peak));
            }
            figures.add("snapshot", *who, Metric::Generator, with.generator.max(without.generator));
            if let Some(share) = rounds.add(&with, &without) {
                figures.add("snapshot", *who, Metric::Share, share);
            }
        }
    }
    let told = stages.iter().zip(&all).map(|((who, stage), (rate, rounds))| {
        rounds.told(&stage.name(), *rate, warming(options, *who), options.beside_snapshot)
    });
    Ok(told.collect())
}

/// One turn, on the server started anew.
fn turn_of(stage: &mut Stage, options: &Options, who: Who, rate: f64, turn: Turn) -> Result<Sets> {
    stage.ensemble.configure(turn.configuration());
    stage.ensemble.stop(0)?;
    stage.ensemble.time_start(0)?;
    stage.count_first()?;
    full_load(stage, Span::Timed { ramp: Duration::ZERO, window: warming(options, who) })?;
    let seen = sets(stage, rate, options.beside_snapshot)?;
    note(&format!(
        "{:14} {:14} p99 {} ms, snapshots for {} s, generator {:.2} CPUs",
        turn.name(),
        stage.name(),
        turn.p99_ms(&seen).map_or_else(str::to_owned, number),
        number(seen.written.as_secs_f64()),
        seen.generator,
    ))?;
    Ok(seen)
}

/// How long a process that is new is under load before anything counts. Farrier's has nothing to compile.
fn warming(options: &Options, who: Who) -> Duration {
    if who == Who::Apache { options.warm_again } else { options.window }
}

/// As many sets as the server can; how many replies came in the window, and its length. Nothing is taken away afterwards: the
/// server stays full.
fn full_load(stage: &mut Stage, span: Span) -> Result<(u64, Duration)> {
    let mut pool = Pool::open(&stage.ensemble.addrs(), CONNS as usize)?;
    let ran = pool.run(Pace::Depth(DEPTH), span, &mut stage.row(Kind::Set, CONNS), &mut || Ok(()))?;
    pool.close()?;
    Ok((ran.replies, ran.elapsed))
}

/// Sets at a fixed rate.
#[derive(Debug)]
struct Sets {
    /// What those took that met a snapshot.
    beside: Vec<Duration>,
    /// What the others took.
    apart: Vec<Duration>,
    /// How long snapshots were being written, of the time that counts.
    written: Duration,
    /// CPUs that the load generator used.
    generator: f64,
    /// The most that the server's process held meanwhile, in bytes.
    peak: u64,
}

/// Sets at this rate for so long, on a server at rest.
fn sets(stage: &mut Stage, rate: f64, window: Duration) -> Result<Sets> {
    let mut pool = Pool::open(&stage.ensemble.addrs(), CONNS as usize)?;
    rest()?;
    let pid = stage.ensemble.pid(0)?;
    forget_peak(pid)?;
    let dir = stage.ensemble.data_dir(0).join("version-2");
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let (seen, spans, generator) = std::thread::scope(|scope| -> Result<_> {
        let watch = scope.spawn(|| snapshots(&dir, &stop));
        let mut timed = Timed { source: stage.row(Kind::Set, CONNS), seen: RefCell::default() };
        let pace = Pace::Rate { per_second: rate, depth_max: DEPTH_MAX };
        let span = Span::Timed { ramp: Duration::ZERO, window };
        let ran = pool.run(pace, span, &mut timed, &mut || cpu_time(std::process::id()));
        stop.store(true, Ordering::Relaxed);
        let spans = watch.join().map_err(|_| anyhow::anyhow!("the watch over snapshots panicked"))?;
        let ran = ran?;
        let generator = (ran.after - ran.before).as_secs_f64() / ran.elapsed.as_secs_f64();
        Ok((timed.seen.into_inner(), spans?, generator))
    })?;
    let peak = memory(pid, "VmHWM")?;
    pool.close()?;
    let (from, until) = (begun + RAMP, begun + window);
    let written = covered(&spans, from, until);
    let mut sets = Sets { beside: Vec::new(), apart: Vec::new(), written, generator, peak };
    for (due, took) in seen.into_iter().filter(|(due, _)| *due >= from && *due < until) {
        if overlaps(&spans, due, due + took) { sets.beside.push(took) } else { sets.apart.push(took) }
    }
    Ok(sets)
}

/// What the turns of all rounds showed.
#[derive(Default, Debug)]
struct Rounds {
    /// The p99s of the turns that count, in milliseconds.
    with: Samples,
    without: Samples,
    /// How long snapshots were being written in each turn with them, in seconds.
    written: Samples,
    /// Turns that do not count, and why.
    left_out: Vec<String>,
    taken: u32,
}

impl Rounds {
    /// Takes in a round; returns p99 beside snapshots through p99 without any, if both turns count.
    fn add(&mut self, with: &Sets, without: &Sets) -> Option<f64> {
        self.taken += 1;
        let round = self.taken;
        let mut take = |turn: Turn, seen: &Sets| match turn.p99_ms(seen) {
            Ok(p99_ms) => Some(p99_ms),
            Err(why) => {
                self.left_out.push(format!("the turn {} of round {round} does not count: {why}", turn.name()));
                None
            }
        };
        let (with_ms, without_ms) = (take(Turn::With, with), take(Turn::Without, without));
        if let Some(ms) = with_ms {
            self.with.push(ms);
            self.written.push(with.written.as_secs_f64());
        }
        if let Some(ms) = without_ms {
            self.without.push(ms);
        }
        Some(with_ms? / without_ms?)
    }

    /// For the report.
    fn told(&self, name: &str, rate: f64, warming: Duration, window: Duration) -> String {
        let mut told = format!(
            "- {name}: {} sets/s, half of what it can; p99 {} ms while a snapshot is written (which is {} of the {} s that \
             count of a turn), {} ms without any (`{NO_SNAPSHOT}`); {} turns of {} s each, each after a restart and {} s of sets\n",
            number(rate),
            self.with.show(),
            self.written.show(),
            window.saturating_sub(RAMP).as_secs(),
            self.without.show(),
            2 * self.taken,
            window.as_secs(),
            warming.as_secs(),
        );
        for line in &self.left_out {
            told.push_str(&format!("- {name}: {line}\n"));
        }
        told
    }
}

/// Whether something from `due` to `done` met one of these spans.
fn overlaps(spans: &[(Instant, Instant)], due: Instant, done: Instant) -> bool {
    spans.iter().any(|(from, until)| due < *until && done > *from)
}

/// How much of the time between these two is in one of these spans.
fn covered(spans: &[(Instant, Instant)], from: Instant, until: Instant) -> Duration {
    let mut spans = spans.to_vec();
    spans.sort_unstable();
    let (mut sum, mut at) = (Duration::ZERO, from);
    for (begun, ended) in spans {
        let ended = ended.min(until);
        sum += ended.saturating_duration_since(begun.max(at));
        at = at.max(ended);
    }
    sum
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
    let mut growth = Growth::default();
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

/// Files that grow: each from its first sight until it grew last. One that was begun before the first look counts from then.
#[derive(Default, Debug)]
struct Growth(Vec<(OsString, Instant, Instant, u64)>);

impl Growth {
    fn look(&mut self, now: Instant, sizes: Vec<(OsString, u64)>) {
        for (name, len) in sizes {
            match self.0.iter_mut().find(|(known, ..)| *known == name) {
                Some((_, _, grown, known)) if len > *known => (*grown, *known) = (now, len),
                Some(_) => {}
                None => self.0.push((name, now, now, len)),
            }
        }
    }

    /// A file that never grew was whole at its first sight: it is old, or has only got its name then.
    fn spans(self) -> Vec<(Instant, Instant)> {
        let all = self.0.into_iter().map(|(_, begun, grown, _)| (begun, grown));
        all.filter(|(begun, grown)| begun < grown).map(|(begun, grown)| (begun, grown + SYNCS)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets that took 1 ms, 2 ms and so on, so many that met a snapshot and so many that did not.
    fn sets(beside: u64, apart: u64) -> Sets {
        let times = |most| (1..=most).map(Duration::from_millis).collect();
        Sets { beside: times(beside), apart: times(apart), written: Duration::from_secs(7), generator: 0.5, peak: 0 }
    }

    #[test]
    fn who_goes_first_changes_from_round_to_round() {
        for round in 0..4 {
            let (order, next) = (Turn::order(round), Turn::order(round + 1));
            assert_ne!(order[0], order[1]);
            assert_eq!(order, [next[1], next[0]]);
        }
    }

    #[test]
    fn a_share_needs_sets_beside_a_snapshot_and_a_turn_without_any() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.add(&sets(200, 7), &sets(0, 100)), Some(2.0));
        assert_eq!(rounds.add(&sets(0, 7), &sets(0, 100)), None);
        assert_eq!(rounds.add(&sets(100, 7), &sets(1, 100)), None);
        assert_eq!(rounds.add(&sets(100, 7), &sets(0, 0)), None);
        let told = rounds.told("Farrier", 50.0, Duration::from_secs(4), Duration::from_secs(10));
        assert!(
            told.contains("p99 99.0 (99.0–198) ms while a snapshot is written (which is 7.00 (7.00–7.00) of the 9 s"),
            "{told}"
        );
        assert!(told.contains(", 99.0 (99.0–99.0) ms without any"), "{told}");
        for (turn, round) in [("with snapshots", 2), ("without any", 3), ("without any", 4)] {
            assert!(told.contains(&format!("the turn {turn} of round {round} does not count")), "{told}");
        }
    }

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
    fn what_snapshots_cover_is_never_more_than_what_counts() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let spans = [(at(300), at(500)), (at(0), at(150)), (at(450), at(600)), (at(900), at(1100))];
        assert_eq!(covered(&spans, at(100), at(1000)), Duration::from_millis(50 + 300 + 100));
        assert_eq!(covered(&spans, at(150), at(250)), Duration::ZERO);
        assert_eq!(covered(&[(at(0), at(2000))], at(100), at(1000)), Duration::from_millis(900));
    }

    #[test]
    fn a_snapshot_lasts_while_its_file_grows() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let file = |name: &str, len| (OsString::from(name), len);
        let mut growth = Growth::default();
        growth.look(at(1), vec![file("snapshot.1", 10)]);
        growth.look(at(2), vec![file("snapshot.1", 10), file("farrier.snapshot.2", 0)]);
        growth.look(at(9), vec![file("snapshot.1", 10), file("farrier.snapshot.2", 7)]);
        growth.look(at(12), vec![file("snapshot.1", 10), file("farrier.snapshot.2", 7)]);
        growth.look(at(13), vec![file("snapshot.1", 10), file("snapshot.2", 7)]);
        assert_eq!(growth.spans(), [(at(2), at(9) + SYNCS)]);
    }

    #[test]
    fn a_snapshot_that_was_begun_before_counts_from_the_first_look() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let mut growth = Growth::default();
        for (ms, len) in [(1, 5), (2, 5), (9, 8), (12, 8)] {
            growth.look(at(ms), vec![("farrier.snapshot.2".into(), len)]);
        }
        assert_eq!(growth.spans(), [(at(1), at(9) + SYNCS)]);
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
