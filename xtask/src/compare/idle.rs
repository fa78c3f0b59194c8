//! What a session that does nothing holds.
//!
//! Servers that did something before have free pages, which sessions fill and nobody sees. So the servers are fresh, and what
//! counts is the growth from some sessions to many: what the first ones allocate for all is in neither.

use super::Options;
use super::figures::{Figures, Metric, Who};
use super::footprint::megabytes;
use crate::measure::note;
use crate::report::number;
use crate::servers::{Ensemble, Program, rest};
use anyhow::{Context as _, Result};
use farrier_bench::Pool;
use farrier_bench::process::memory;
use std::time::{Duration, Instant};

/// Servers, and sessions on all of them together: at first, and in the end.
const SERVERS: usize = 3;
const SOME: usize = 1000;
const MANY: usize = 6000;
/// So many are opened without a sign of life from the others; both counts are multiples of it.
const AT_A_TIME: usize = 500;
const _: () = assert!(SOME.is_multiple_of(AT_A_TIME) && MANY.is_multiple_of(AT_A_TIME));
/// How long memory may settle before it is read.
const SETTLE: Duration = Duration::from_secs(3);
/// Time for sessions to give a sign of life.
const SIGN: Duration = Duration::from_millis(1);

/// One sample, on servers that were just started.
pub(super) fn sample(options: &Options, who: Who, program: &Program, figures: &mut Figures) -> Result<()> {
    let ensemble = Ensemble::start(program, &options.dir, SERVERS)?;
    rest()?;
    let (some, many) = grown(&ensemble).with_context(|| ensemble.obituary())?;
    let each = each(some, many);
    if let Some(each) = each {
        figures.add("idle3-6000", who, Metric::Bytes, each);
    }
    note(&format!(
        "idle           {:14} {} bytes each; {} and {} MB with {SOME} and {MANY}",
        ensemble.name(),
        each.map_or_else(|| "–".to_owned(), number),
        number(megabytes(some)),
        number(megabytes(many)),
    ))
}

/// What all servers hold with some sessions, and with many.
fn grown(ensemble: &Ensemble) -> Result<(u64, u64)> {
    let mut pools = Vec::new();
    open(ensemble, &mut pools, SOME)?;
    let some = settled(ensemble, &mut pools)?;
    open(ensemble, &mut pools, MANY)?;
    let many = settled(ensemble, &mut pools)?;
    // Nobody closes them: the servers go as well.
    Ok((some, many))
}

/// Opens sessions until there are so many.
fn open(ensemble: &Ensemble, pools: &mut Vec<Pool>, count: usize) -> Result<()> {
    while pools.len() * AT_A_TIME < count {
        pools.push(Pool::open(&ensemble.addrs(), AT_A_TIME)?);
        signs(pools)?;
    }
    Ok(())
}

fn signs(pools: &mut [Pool]) -> Result<()> {
    pools.iter_mut().try_for_each(|pool| pool.hold(SIGN, &mut |_, _| Ok(())))
}

/// The resident memory of all servers after a while.
fn settled(ensemble: &Ensemble, pools: &mut [Pool]) -> Result<u64> {
    let begun = Instant::now();
    while begun.elapsed() < SETTLE {
        signs(pools)?;
    }
    ensemble.pids().into_iter().map(|pid| memory(pid, "VmRSS")).sum()
}

/// Bytes of each session; nothing where no growth can be told from what the servers have free.
#[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
fn each(some: u64, many: u64) -> Option<f64> {
    let grown = many.checked_sub(some).filter(|grown| *grown > 0)?;
    Some(grown as f64 / (MANY - SOME) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sessions_are_not_charged_and_no_growth_is_no_figure() {
        assert_eq!(each(30_000_000, 40_000_000), Some(2000.0));
        assert_eq!(each(30_000_000, 30_000_000), None);
        assert_eq!(each(30_000_000, 29_000_000), None);
    }
}
