//! One row after the other, each with what it showed.

use crate::fanout::Fanout;
use crate::frame::{put_create, put_request};
use crate::locks::Locks;
use crate::process::{cpu_time, cpu_times, memory};
use crate::rows::{self, Kind, Ledger, Row, Space};
use crate::sessions::{self, Warmed};
use crate::{Pace, Pool, Progress, Script, Source, Span, Window, open_files};
use anyhow::{Context as _, Result, ensure};
use farrier_proto::OpCode;
use farrier_proto::client::CreateMode;
use farrier_proto::jute::put_str;
use hdrhistogram::Histogram;
use std::net::SocketAddr;
use std::time::Duration;

/// The generator is the bottleneck above this share of its one CPU.
pub const GENERATOR_BUSY: f64 = 0.9;

/// Shorter measurements tell nothing of that: the system counts a process's time in ticks of 10 ms.
const JUDGED_MIN: Duration = Duration::from_millis(200);

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    /// Requests of one kind.
    Row(Kind),
    /// Events to watchers: every connection but one watches a znode that the one sets.
    Fanout,
    /// A lock that goes from hand to hand.
    Locks,
    /// Sessions opened and closed.
    Connect,
    /// Sessions that do nothing.
    Idle,
    /// Znodes that are created and stay until the end.
    Fill,
}

/// How it is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The servers; connections are spread over them.
    pub addrs: Vec<SocketAddr>,
    /// Connections.
    pub conns: u32,
    /// When requests are sent.
    pub pace: Pace,
    /// Not counted at first.
    pub ramp: Duration,
    /// Counted.
    pub window: Duration,
    /// How many znodes [`Kind::Delete`] and [`Task::Fill`] are about.
    pub count: u32,
    /// Processes whose CPU time and memory are looked at: the servers', if they run on this machine.
    pub pids: Vec<u32>,
}

/// What a row showed.
#[derive(Debug)]
pub struct Outcome {
    /// Requests, events, hand-offs or sessions that were counted.
    pub count: u64,
    /// In so much time.
    pub elapsed: Duration,
    /// Microseconds each.
    pub latency: Histogram<u64>,
    /// CPU time of the processes that were looked at.
    pub server_cpu: Option<Duration>,
    /// Resident memory of those processes at the end, in bytes.
    pub server_rss: Option<u64>,
    /// What they had before the sessions of [`Task::Idle`] were opened.
    pub server_rss_before: Option<u64>,
    /// CPU time of the generator.
    pub generator_cpu: Duration,
    /// How many requests of an open loop were due at the end and not sent.
    pub unsent: u64,
    /// Whether every acknowledged write was looked for on every server, and found.
    pub is_verified: bool,
}

impl Outcome {
    /// Per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }

    /// Microseconds of the servers' CPUs for each.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    pub fn server_us(&self) -> Option<f64> {
        self.server_cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / self.count as f64)
    }

    /// The share of one CPU that the generator used.
    #[must_use]
    pub fn generator(&self) -> f64 {
        self.generator_cpu.as_secs_f64() / self.elapsed.as_secs_f64()
    }

    /// Whether the generator was what limited the rate.
    #[must_use]
    pub fn is_generator_bound(&self) -> bool {
        self.elapsed >= JUDGED_MIN && self.generator() > GENERATOR_BUSY
    }
}

/// CPU times at one moment.
#[derive(Clone, Copy, Debug)]
struct Cpu {
    servers: Duration,
    generator: Duration,
}

impl Plan {
    /// Runs one task. Needs what [`rows::prepare`] created.
    ///
    /// # Errors
    ///
    /// A server refuses something, gives a wrong answer or none, or an acknowledged write is not there afterwards.
    pub fn run(&self, task: Task, space: &Space, ledger: &mut Ledger, progress: Progress<'_>) -> Result<Outcome> {
        ensure!(self.conns > 0, "no connections");
        match task {
            Task::Row(kind) => self.row(kind, space, ledger, progress),
            Task::Fanout => {
                ensure!(self.conns > 1, "one connection writes, so there must be others that watch");
                let path = format!("{}/fanout", space.root());
                self.create(&path, progress)?;
                let value = [b'v'; 100];
                let mut fanout = Fanout::new(&path, &value, self.conns as usize - 1);
                let outcome = self.source(&mut fanout, Pace::Depth(1), progress)?;
                rows::delete(&self.addrs, &[path], progress)?;
                Ok(outcome)
            }
            Task::Locks => {
                let path = format!("{}/lock", space.root());
                self.create(&path, progress)?;
                let outcome = self.source(&mut Locks::new(&path, self.conns as usize), Pace::Depth(1), progress)?;
                rows::delete(&self.addrs, &[path], progress)?;
                Ok(outcome)
            }
            Task::Connect => self.connect(progress),
            Task::Idle => self.idle(progress),
            Task::Fill => self.fill(space, ledger, progress),
        }
    }

    /// Creates a znode, and waits until every server has it, whichever a connection goes to.
    fn create(&self, path: &str, progress: Progress<'_>) -> Result<()> {
        let create = Script::new(rows::PASS_CONNS, 1, |_, xid, out| {
            put_request(out, xid, OpCode::Create, |out| put_create(out, path, b"", CreateMode::Persistent));
        });
        rows::pass(&self.addrs, create, progress).with_context(|| format!("creating {path}"))?;
        for addr in &self.addrs {
            rows::pass(
                &[*addr],
                Script::new(rows::PASS_CONNS, 1, |_, xid, out| {
                    put_request(out, xid, OpCode::Sync, |out| put_str(out, path));
                }),
                progress,
            )?;
        }
        Ok(())
    }

    fn cpu(&self) -> Result<Cpu> {
        Ok(Cpu { servers: cpu_times(&self.pids)?, generator: cpu_time(std::process::id())? })
    }

    fn rss(&self) -> Result<Option<u64>> {
        let all: Result<Vec<u64>> = self.pids.iter().map(|pid| memory(*pid, "VmRSS")).collect();
        Ok((!self.pids.is_empty()).then_some(all?.iter().sum()))
    }

    fn outcome(&self, seen: Window<Cpu>) -> Result<Outcome> {
        Ok(Outcome {
            count: seen.replies,
            elapsed: seen.elapsed,
            latency: seen.latency,
            server_cpu: (!self.pids.is_empty()).then(|| seen.after.servers - seen.before.servers),
            server_rss: self.rss()?,
            server_rss_before: None,
            generator_cpu: seen.after.generator - seen.before.generator,
            unsent: 0,
            is_verified: false,
        })
    }

    fn source<S: Source>(&self, source: &mut S, pace: Pace, progress: Progress<'_>) -> Result<Outcome> {
        allow_connections(self.conns)?;
        let mut pool = Pool::open(&self.addrs, self.conns as usize)?;
        let span = Span::Timed { ramp: self.ramp, window: self.window };
        let seen = pool.run_told(pace, span, source, &mut || self.cpu(), progress)?;
        pool.close()?;
        self.outcome(seen)
    }

    fn row(&self, kind: Kind, space: &Space, ledger: &mut Ledger, progress: Progress<'_>) -> Result<Outcome> {
        let mut span = Span::Timed { ramp: self.ramp, window: self.window };
        // What Task::Fill created stays.
        let kept = ledger.kept();
        if kind == Kind::Delete {
            rows::fill_told(&self.addrs, space, ledger, self.count, progress)?;
            ledger.spare(&kept);
            span = Span::Exhausted;
        }
        allow_connections(self.conns)?;
        let mut pool = Pool::open(&self.addrs, self.conns as usize)?;
        let mut row = Row::new(kind, self.conns, space, ledger);
        let seen = pool.run_told(self.pace, span, &mut row, &mut || self.cpu(), progress)?;
        let ephemerals = row.ephemerals();
        if kind == Kind::Ephemeral {
            // They go with their sessions, so they are counted while those live.
            for addr in &self.addrs {
                let (found, others) = (rows::count_created(*addr, space)?, kept.len());
                ensure!(
                    found == others + ephemerals,
                    "{addr} has {found} znodes where {ephemerals} acknowledged ephemeral ones and {others} others should be"
                );
            }
        }
        let unsent = pool.unsent();
        pool.close()?;
        let mut outcome = self.outcome(seen)?;
        outcome.unsent = unsent;
        if !matches!(kind, Kind::Get | Kind::Children | Kind::Sync) {
            if kind == Kind::Delete {
                ledger.forget_since(&kept);
            }
            rows::verify_since(&self.addrs, space, ledger, kept.created(), progress)
                .context("an acknowledged write is looked for")?;
            outcome.is_verified = true;
            rows::clear(&self.addrs, space, ledger, &kept, progress)?;
        }
        Ok(outcome)
    }

    fn connect(&self, progress: Progress<'_>) -> Result<Outcome> {
        allow_connections(self.conns)?;
        let span = Warmed { ramp: self.ramp, window: self.window };
        let conns = self.conns as usize;
        self.outcome(sessions::connect_warmed(&self.addrs, conns, span, &mut || self.cpu(), progress)?)
    }

    fn idle(&self, progress: Progress<'_>) -> Result<Outcome> {
        allow_connections(self.conns)?;
        let rss = self.rss()?;
        let mut pool = Pool::open(&self.addrs, self.conns as usize)?;
        let before = self.cpu()?;
        pool.hold(self.window, progress)?;
        let after = self.cpu()?;
        let latency = Histogram::new(3).context("a histogram")?;
        let seen = Window { elapsed: self.window, replies: u64::from(self.conns), before, after, latency };
        let mut outcome = self.outcome(seen)?;
        outcome.server_rss_before = rss;
        pool.close()?;
        Ok(outcome)
    }

    fn fill(&self, space: &Space, ledger: &mut Ledger, progress: Progress<'_>) -> Result<Outcome> {
        let kept = ledger.kept();
        let before = self.cpu()?;
        let elapsed = rows::fill_told(&self.addrs, space, ledger, self.count, progress)?;
        let after = self.cpu()?;
        let latency = Histogram::new(3).context("a histogram")?;
        let seen = Window { elapsed, replies: u64::from(self.count), before, after, latency };
        let mut outcome = self.outcome(seen)?;
        rows::verify_since(&self.addrs, space, ledger, kept.created(), progress)
            .context("an acknowledged write is looked for")?;
        outcome.is_verified = true;
        Ok(outcome)
    }
}

/// Lets this process and those that it starts from now on have so many connections.
///
/// # Errors
///
/// The system does not allow as many.
pub fn allow_connections(conns: u32) -> Result<()> {
    /// Files beside the connections.
    const OTHERS: u64 = 64;
    let wanted = u64::from(conns) + OTHERS;
    let allowed = open_files::allow(wanted).context("raising the limit of open files")?;
    ensure!(
        allowed >= wanted,
        "{conns} connections need {wanted} open files, and the system allows {allowed}: raise it with ulimit -Hn"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_in_a_short_measurement_is_no_bottleneck() {
        let outcome = |elapsed, generator_cpu| Outcome {
            count: 1,
            elapsed: Duration::from_micros(elapsed),
            latency: Histogram::new(3).expect("three digits"),
            server_cpu: None,
            server_rss: None,
            server_rss_before: None,
            generator_cpu: Duration::from_millis(generator_cpu),
            unsent: 0,
            is_verified: false,
        };
        assert!(!outcome(310, 10).is_generator_bound());
        assert!(!outcome(1_000_000, 800).is_generator_bound());
        assert!(outcome(1_000_000, 950).is_generator_bound());
    }
}
