//! Servers with what rows need on them, and what they have acknowledged so far.

use super::{Ensemble, Program, rest};
use crate::measure::note;
use anyhow::{Context as _, Result, ensure};
use farrier_bench::frame::{children_of, put_read, put_request};
use farrier_bench::plan::{Outcome, Plan, Task};
use farrier_bench::rows::{self, Kind, Ledger, Space};
use farrier_bench::{Pace, Pool, Script, Span};
use farrier_proto::OpCode;
use std::path::Path;
use std::time::Duration;

/// Below this lies everything.
pub(crate) const ROOT: &str = "/measure";
/// Znodes that reads and writes are spread over.
pub(crate) const KEYS: u32 = 10_000;
/// Parents of created and filled znodes.
const PARENTS: u32 = 1000;
/// Bytes of a value.
pub(crate) const VALUE_LEN: usize = 100;
/// Not counted at the beginning of every row.
const RAMP: Duration = Duration::from_millis(500);
/// The load before anything counts, each with connections and depth: requests, which share its time.
const REQUESTS: [(Task, u32, usize); 8] = [
    (Task::Row(Kind::Set), 16, 64),
    (Task::Row(Kind::Get), 16, 64),
    (Task::Row(Kind::Mix), 16, 64),
    (Task::Row(Kind::Create), 16, 64),
    (Task::Row(Kind::Get), 64, 1),
    (Task::Row(Kind::Set), 64, 1),
    (Task::Row(Kind::Children), 16, 16),
    (Task::Row(Kind::Multi), 16, 16),
];
/// And what else is measured, each for as long as one kind of requests, on top.
const OTHERS: [(Task, u32, usize); 3] = [(Task::Locks, 16, 1), (Task::Connect, 16, 1), (Task::Fanout, 257, 1)];

/// Whether servers that are warmed have had such load.
#[cfg(test)]
pub(crate) fn is_warmed(task: Task) -> bool {
    REQUESTS.into_iter().chain(OTHERS).any(|(warmed, ..)| warmed == task)
}

/// One contestant.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) ensemble: Ensemble,
    space: Space,
    ledger: Ledger,
    /// Znodes right below [`ROOT`]: those that are read and written, the parents of others, and the one with many children.
    first: u32,
}

impl Stage {
    /// Starts so many servers, and creates what rows need.
    pub(crate) fn new(program: &Program, base: &Path, size: usize) -> Result<Self> {
        Self::sized(program, base, size, KEYS, PARENTS)
    }

    /// The same, with another number of znodes that are read and written, for at most `conns` connections.
    pub(crate) fn sized(program: &Program, base: &Path, size: usize, keys: u32, conns: u32) -> Result<Self> {
        let ensemble = Ensemble::start(program, base, size)?;
        let space = Space::new(ROOT, keys, conns, VALUE_LEN)?;
        let ledger = rows::prepare(&ensemble.addrs(), &space).with_context(|| ensemble.obituary())?;
        Ok(Self { ensemble, space, ledger, first: keys + conns + 1 })
    }

    /// The same, and `warm` of load.
    pub(crate) fn warmed(program: &Program, base: &Path, size: usize, warm: Duration) -> Result<Self> {
        let mut stage = Self::new(program, base, size)?;
        note(&format!("warming {size} of {} for {} s", program.name(), warm.as_secs()))?;
        stage.warm(warm)?;
        Ok(stage)
    }

    pub(crate) fn name(&self) -> String {
        self.ensemble.name()
    }

    /// Puts requests of all kinds on the servers for so long, and events, locks and sessions for a while more, which does not
    /// count.
    pub(crate) fn warm(&mut self, time: Duration) -> Result<()> {
        let window = time / u32::try_from(REQUESTS.len())?;
        if window.is_zero() {
            return Ok(());
        }
        for (task, conns, depth) in REQUESTS.into_iter().chain(OTHERS) {
            self.run(task, conns, Pace::Depth(depth), Duration::ZERO, window).context("warming")?;
        }
        Ok(())
    }

    /// One measurement; all servers are at rest before, those of others as well.
    pub(crate) fn measure(&mut self, task: Task, conns: u32, depth: usize, window: Duration) -> Result<Outcome> {
        rest()?;
        // Many watches take longer to leave than a ramp.
        let ramp = if conns > 5000 { 6 * RAMP } else { RAMP };
        self.run(task, conns, Pace::Depth(depth), ramp, window)
    }

    fn run(&mut self, task: Task, conns: u32, pace: Pace, ramp: Duration, window: Duration) -> Result<Outcome> {
        let mut addrs = self.ensemble.addrs();
        if conns == 1 && addrs.len() > 1 {
            // One connection is the leader's: a follower would add its own way there.
            let leader = self.ensemble.wait_serving()?;
            addrs.swap(0, leader);
        }
        let plan = Plan { addrs, conns, pace, ramp, window, count: 0, pids: self.ensemble.pids() };
        let outcome = plan.run(task, &self.space, &mut self.ledger, &mut |_, _| Ok(()));
        outcome.with_context(|| self.ensemble.obituary()).with_context(|| format!("{task:?} on {}", self.name()))
    }

    /// A source of requests, for whoever has a pool of their own.
    pub(crate) fn row(&mut self, kind: Kind, conns: u32) -> rows::Row<'_> {
        rows::Row::new(kind, conns, &self.space, &mut self.ledger)
    }

    /// Creates `count` znodes; returns how long that took.
    pub(crate) fn fill(&mut self, count: u32) -> Result<Duration> {
        rows::fill(&self.ensemble.addrs(), &self.space, &mut self.ledger, count)
            .with_context(|| self.ensemble.obituary())
            .context("filling")
    }

    /// Every server that runs shows every acknowledged write.
    pub(crate) fn verify(&self) -> Result<()> {
        rows::verify(&self.ensemble.addrs(), &self.space, &self.ledger)
            .with_context(|| self.ensemble.obituary())
            .context("reading back what was acknowledged")
    }

    /// Every server that runs has as many znodes as were created at first; much cheaper than [`Self::verify`].
    pub(crate) fn count_first(&self) -> Result<()> {
        for addr in self.ensemble.addrs() {
            let mut found = None;
            let ask = Script::new(1, 1, |_, xid, out| {
                put_request(out, xid, OpCode::Exists, |out| put_read(out, ROOT, false))
            });
            let mut ask = ask.checked(|_, body| {
                found = children_of(body);
                Ok(())
            });
            let mut pool = Pool::open(&[addr], 1)?;
            pool.run(Pace::Depth(1), Span::Exhausted, &mut ask, &mut || Ok(()))
                .with_context(|| self.ensemble.obituary())?;
            pool.close()?;
            drop(ask);
            ensure!(
                found == Some(self.first),
                "{addr} has {found:?} of {} acknowledged znodes below {ROOT}",
                self.first
            );
        }
        Ok(())
    }

    /// Every server that runs has as many filled znodes as it should; much cheaper than [`Self::verify`].
    pub(crate) fn count(&self, filled: u32) -> Result<()> {
        for addr in self.ensemble.addrs() {
            let found = rows::count_created(addr, &self.space).with_context(|| self.ensemble.obituary())?;
            ensure!(found == u64::from(filled), "{addr} has {found} of {filled} acknowledged znodes");
        }
        Ok(())
    }
}
