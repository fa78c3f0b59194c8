//! How long a follower takes to join, and what that costs the others.
//!
//! The leader and the other follower serve clients that write at a fixed pace while the follower starts.

use super::super::footprint::live_set;
use super::super::note;
use super::super::process::Program;
use super::super::rates::{CONNS, pass_over};
use super::super::report::{Samples, Table, number, ratio};
use super::super::work::{self, Ledger, Paths};
use super::failover::{join, start};
use super::members::{Ensemble, SERVERS};
use super::writer::{Ack, Done, Pace, Watch, Writer};
use super::{Options, Parts};
use anyhow::{Context as _, Result, ensure};
use farrier_bench::process::{forget_peak, memory};
use std::thread::{ScopedJoinHandle, scope, sleep};
use std::time::{Duration, Instant};

/// Clients that write meanwhile, on the two servers that run.
const WRITERS: usize = 8;
/// One write of each is due so often.
const PERIOD: Duration = Duration::from_millis(10);
/// Writing before anything counts.
const RAMP: Duration = Duration::from_secs(1);
/// What counts as during the join, after the follower's first reply.
const AFTER: Duration = Duration::from_secs(1);
/// Share of filled znodes that is read back.
const STRIDE: u32 = 20;

#[derive(Default, Debug)]
struct Figures {
    serves_s: Samples,
    caught_up_s: Samples,
    before_ms: Samples,
    during_ms: Samples,
    rss_mb: Samples,
    peak_mb: Samples,
    losses: u32,
}

struct Contestant {
    ensemble: Ensemble,
    ledger: Ledger,
    /// The follower that joins.
    follower: usize,
    behind: Figures,
    empty: Figures,
    live_set: String,
}

/// Lets followers join; returns this part of the report.
pub(super) fn run(options: &Options, programs: &[Program], parts: Parts) -> Result<String> {
    let paths = Paths::new();
    let mut contestants = Vec::new();
    for program in programs {
        let mut ledger = Ledger::new();
        let mut ensemble = Ensemble::ready(program, options, &paths, &mut ledger)?;
        let follower = (ensemble.wait_serving()? + 1) % SERVERS;
        contestants.push(Contestant {
            ensemble,
            ledger,
            follower,
            behind: Figures::default(),
            empty: Figures::default(),
            live_set: String::new(),
        });
    }
    if parts.behind {
        each(options, &mut contestants, |c, round| behind(c, options, &paths, round).context("a follower behind"))?;
    }
    if parts.empty {
        for c in &mut contestants {
            fill(c, options).with_context(|| c.ensemble.obituary()).context("filling")?;
        }
        each(options, &mut contestants, |c, round| empty(c, options, round).context("an empty follower"))?;
        for c in contestants.iter_mut().filter(|c| !c.ensemble.program().is_farrier()) {
            let leader = c.ensemble.wait_serving()?;
            c.live_set = live_set(c.ensemble.pid(leader)?);
        }
    }
    Ok(report(options, &contestants))
}

/// Every contestant in every round; who goes first alternates.
fn each(
    options: &Options,
    contestants: &mut [Contestant],
    mut one: impl FnMut(&mut Contestant, u32) -> Result<()>,
) -> Result<()> {
    for round in 0..options.rounds {
        let mut order: Vec<usize> = (0..contestants.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let contestant = &mut contestants[index];
            one(contestant, round)
                .with_context(|| contestant.ensemble.obituary())
                .with_context(|| format!("{}, round {}", contestant.ensemble.name(), round + 1))?;
        }
    }
    Ok(())
}

fn behind(c: &mut Contestant, options: &Options, paths: &Paths, round: u32) -> Result<()> {
    c.ensemble.kill(c.follower)?;
    pass_over(&c.ensemble.addrs(), work::rewrite(CONNS, options.behind, paths, &mut c.ledger))?;
    let mut figures = std::mem::take(&mut c.behind);
    let joined = measure(c, options, &format!("behind-{round}"), &mut figures);
    c.behind = figures;
    joined?;
    c.ensemble.verify(paths, &c.ledger)
}

fn fill(c: &Contestant, options: &Options) -> Result<()> {
    note(&format!("filling three of {} with {} znodes", c.ensemble.name(), options.znodes))?;
    pass_over(&c.ensemble.addrs(), work::fill_parents(CONNS))?;
    pass_over(&c.ensemble.addrs(), work::fill(CONNS, options.znodes))?;
    Ok(())
}

fn empty(c: &mut Contestant, options: &Options, round: u32) -> Result<()> {
    c.ensemble.rest()?;
    c.ensemble.kill(c.follower)?;
    c.ensemble.wipe(c.follower)?;
    let mut figures = std::mem::take(&mut c.empty);
    let joined = measure(c, options, &format!("empty-{round}"), &mut figures);
    c.empty = figures;
    joined?;
    for addr in c.ensemble.addrs() {
        let mut total = 0;
        pass_over(&[addr], work::sync(CONNS))?;
        pass_over(&[addr], work::count_filled(CONNS, &mut total))?;
        ensure!(total == options.znodes, "{addr} has {total} of {} acknowledged znodes", options.znodes);
        pass_over(&[addr], work::check_filled(CONNS, options.znodes, STRIDE))?;
    }
    Ok(())
}

/// What was seen of one join.
struct Joined {
    started: Instant,
    serves: Instant,
    caught_up: Instant,
    end: Instant,
    rss: u64,
    peak: u64,
}

/// Starts the follower under the writers' eyes.
fn measure(c: &mut Contestant, options: &Options, name: &str, figures: &mut Figures) -> Result<()> {
    let ensemble = &mut c.ensemble;
    ensemble.rest()?;
    let leader = ensemble.wait_serving()?;
    let servers = ensemble.addrs();
    let watches: Vec<Watch> = (0..WRITERS).map(|_| Watch::default()).collect();
    let begun = Instant::now();
    let (joined, done) = scope(|scope| -> Result<_> {
        let writers: Vec<ScopedJoinHandle<'_, Result<Done>>> = watches
            .iter()
            .enumerate()
            .map(|(index, watch)| {
                let first = index % servers.len();
                let name = format!("join-{name}-{index}");
                start(scope, Writer::new(&servers, first, &name, Pace::Every(PERIOD), watch))
            })
            .collect();
        let joined = watch(ensemble, leader, c.follower, options);
        watches.iter().for_each(Watch::stop);
        let done: Result<Vec<Done>> = writers.into_iter().map(join).collect();
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
    let before = p99_ms(&acks, begun + RAMP, joined.started);
    let during = p99_ms(&acks, joined.started, joined.end);
    figures.serves_s.push((joined.serves - joined.started).as_secs_f64());
    figures.caught_up_s.push((joined.caught_up - joined.started).as_secs_f64());
    figures.before_ms.push(before);
    figures.during_ms.push(during);
    #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
    let [rss, peak] = [joined.rss, joined.peak].map(|bytes| bytes as f64 / 1e6);
    figures.rss_mb.push(rss);
    figures.peak_mb.push(peak);
    figures.losses += done.iter().map(|d| d.losses).sum::<u32>();
    note(&format!(
        "join {name:9} {:14} serves after {} s, caught up after {} s; others' p99 {} ms before, {} ms during; leader {} MB, \
         peak {} MB",
        ensemble.name(),
        number((joined.serves - joined.started).as_secs_f64()),
        number((joined.caught_up - joined.started).as_secs_f64()),
        number(before),
        number(during),
        number(rss),
        number(peak),
    ))
}

fn watch(ensemble: &mut Ensemble, leader: usize, follower: usize, options: &Options) -> Result<Joined> {
    sleep(RAMP + options.before);
    let pid = ensemble.pid(leader)?;
    let rss = memory(pid, "VmRSS")?;
    forget_peak(pid)?;
    let started = Instant::now();
    ensemble.spawn(follower)?;
    let serves = ensemble.wait_first_reply(follower)?;
    let still = ensemble.wait_serving()?;
    let caught_up = Instant::now();
    ensure!(still == leader, "server {} leads instead of server {} now", still + 1, leader + 1);
    sleep((serves + AFTER).saturating_duration_since(caught_up));
    let end = serves + AFTER;
    Ok(Joined { started, serves, caught_up, end, rss, peak: memory(pid, "VmHWM")? })
}

/// The 99th percentile of the time from when a write was due to its reply, of those due in a span.
fn p99_ms(acks: &[Ack], from: Instant, until: Instant) -> f64 {
    let due = acks.iter().filter(|ack| ack.due >= from && ack.due < until);
    let mut times: Vec<Duration> = due.map(|ack| ack.at.saturating_duration_since(ack.due)).collect();
    times.sort_unstable();
    let rank = (times.len() * 99).div_ceil(100);
    rank.checked_sub(1).and_then(|i| times.get(i)).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

fn report(options: &Options, contestants: &[Contestant]) -> String {
    let mut table = Table::new(&[
        "follower",
        "server",
        "start until it serves, s",
        "until it has caught up, s",
        "others' p99 before, ms",
        "others' p99 during, ms",
        "leader's RSS before, MB",
        "leader's peak RSS, MB",
        "connections lost",
    ]);
    type Pick = fn(&Contestant) -> &Figures;
    let rows: [(String, Pick); 2] = [
        (format!("{} transactions behind", number(f64::from(options.behind))), |c| &c.behind),
        (format!("empty, {} znodes", number(f64::from(options.znodes))), |c| &c.empty),
    ];
    for (row, pick) in &rows {
        if contestants.iter().all(|c| pick(c).serves_s.is_empty()) {
            continue;
        }
        for c in contestants {
            let f = pick(c);
            table.row(&[
                row.clone(),
                c.ensemble.name(),
                f.serves_s.show(),
                f.caught_up_s.show(),
                f.before_ms.show(),
                f.during_ms.show(),
                f.rss_mb.show(),
                f.peak_mb.show(),
                f.losses.to_string(),
            ]);
        }
        if let [f, a] = contestants {
            let share = |figure: fn(&Figures) -> &Samples| ratio(figure(pick(f)).median(), figure(pick(a)).median());
            table.row(&[
                row.clone(),
                "Farrier : Apache".to_owned(),
                share(|f| &f.serves_s),
                share(|f| &f.caught_up_s),
                share(|f| &f.before_ms),
                share(|f| &f.during_ms),
                share(|f| &f.rss_mb),
                share(|f| &f.peak_mb),
                String::new(),
            ]);
        }
    }
    let mut text = format!(
        "\n## Joining\n\n{} rounds, median (least–most). A follower is killed, misses its transactions or loses its \
         directory, and is started again; files are in the page cache. It serves when a client on it has its first \
         reply, and has caught up when it has applied what the leader had then. Meanwhile {WRITERS} clients on the \
         other two servers have one write of 100 bytes due every {} ms each; their latency counts from when a write was \
         due, before over {} s, during until {} s after the follower serves. Afterwards every server shows every \
         acknowledged write.\n\n{}",
        options.rounds,
        PERIOD.as_millis(),
        options.before.as_secs(),
        AFTER.as_secs(),
        table.text()
    );
    for c in contestants {
        if !c.live_set.is_empty() {
            text.push_str(&format!(
                "\nLive set of {}'s leader after a full collection: {}\n",
                c.ensemble.name(),
                c.live_set
            ));
        }
        if c.ensemble.program().is_farrier() {
            text.push_str(&c.ensemble.complaints());
        }
    }
    text
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
