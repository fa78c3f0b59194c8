//! Rows of requests: the same load on every contestant in turn, round by round.

use super::etcd::{self, Load};
use super::figures::{Figures, Metric, Who};
use crate::measure::note;
use crate::report::number;
use crate::servers::Stage;
use anyhow::{Context as _, Result};
use farrier_bench::plan::Task;
use farrier_bench::rows::Kind;
use std::time::Duration;

/// One row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// Servers.
    pub(super) size: usize,
    task: Task,
    conns: u32,
    depth: usize,
    /// What comes close on etcd.
    etcd: Option<Load>,
}

const fn row(name: &'static str, size: usize, task: Task, conns: u32, depth: usize, etcd: Option<Load>) -> Row {
    Row { name, size, task, conns, depth, etcd }
}

/// All of them.
pub(super) const ROWS: &[Row] = &[
    row("get-64x1", 1, Task::Row(Kind::Get), 64, 1, Some(Load::Range)),
    row("get-16x64", 1, Task::Row(Kind::Get), 16, 64, Some(Load::Range)),
    row("set-16x64", 1, Task::Row(Kind::Set), 16, 64, Some(Load::Put)),
    row("create-16x64", 1, Task::Row(Kind::Create), 16, 64, None),
    row("children-16x16", 1, Task::Row(Kind::Children), 16, 16, None),
    row("multi-16x16", 1, Task::Row(Kind::Multi), 16, 16, Some(Load::Txn)),
    row("fanout-1000", 1, Task::Fanout, 1001, 1, None),
    row("fanout-10000", 1, Task::Fanout, 10_001, 1, None),
    row("set3-16x64", 3, Task::Row(Kind::Set), 16, 64, Some(Load::Put)),
    row("set3-1x1", 3, Task::Row(Kind::Set), 1, 1, Some(Load::Put)),
    row("mix3-16x64", 3, Task::Row(Kind::Mix), 16, 64, Some(Load::Mixed)),
    row("locks3-16", 3, Task::Locks, 16, 1, None),
    row("connect3-16", 3, Task::Connect, 16, 1, None),
];

/// Who is measured: servers of our protocol, and etcd if it takes part.
#[derive(Debug)]
pub(super) struct Contest {
    pub(super) stages: Vec<(Who, Stage)>,
    pub(super) etcd: Option<etcd::Members>,
}

impl Contest {
    /// One round of one row. Who goes first changes from round to round.
    pub(super) fn run(&mut self, row: &Row, round: u32, window: Duration, figures: &mut Figures) -> Result<()> {
        let count = self.stages.len() + 1;
        for turn in 0..count {
            let index = (turn + round as usize) % count;
            if let Some((who, stage)) = self.stages.get_mut(index) {
                measure(*who, stage, row, window, figures)
                    .with_context(|| format!("row {}, round {}, {}", row.name, round + 1, stage.name()))?;
            } else if let (Some(members), Some(load)) = (&self.etcd, row.etcd) {
                let last = figures.median(row.name, Who::Etcd, Metric::Rate);
                let seen = members
                    .run(load, row.conns, row.depth, window, last)
                    .with_context(|| format!("row {}, round {}, etcd", row.name, round + 1))?;
                let mut add = |metric, value| figures.add(row.name, Who::Etcd, metric, value);
                add(Metric::Rate, seen.rate);
                add(Metric::CpuUs, seen.cpu_us);
                add(Metric::P50Ms, seen.p50_ms);
                add(Metric::P99Ms, seen.p99_ms);
                add(Metric::Generator, seen.generator);
                tell(row.name, "etcd", seen.rate, Some(seen.cpu_us), seen.p99_ms, seen.generator)?;
            }
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds far below 2^52")]
fn measure(who: Who, stage: &mut Stage, row: &Row, window: Duration, figures: &mut Figures) -> Result<()> {
    let seen = stage.measure(row.task, row.conns, row.depth, window)?;
    let ms = |quantile| seen.latency.value_at_quantile(quantile) as f64 / 1e3;
    let mut add = |metric, value| figures.add(row.name, who, metric, value);
    add(Metric::Rate, seen.rate());
    if let Some(us) = seen.server_us() {
        add(Metric::CpuUs, us);
    }
    add(Metric::P50Ms, ms(0.5));
    add(Metric::P99Ms, ms(0.99));
    add(Metric::Generator, seen.generator());
    tell(row.name, &stage.name(), seen.rate(), seen.server_us(), ms(0.99), seen.generator())
}

fn tell(row: &str, name: &str, rate: f64, cpu_us: Option<f64>, p99_ms: f64, generator: f64) -> Result<()> {
    note(&format!(
        "{row:14} {name:14} {:>9}/s  server {:>6} µs each  p99 {:>6} ms  generator {generator:.2} CPUs",
        number(rate),
        number(cpu_us.unwrap_or(f64::NAN)),
        number(p99_ms),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::is_warmed;

    #[test]
    fn what_is_measured_was_asked_for_before_it_counts() {
        for row in ROWS {
            assert!(is_warmed(row.task), "{} runs for the first time when it counts", row.name);
        }
    }
}
