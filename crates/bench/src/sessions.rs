//! Sessions that come and go.

use crate::Pool;
use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// What opening sessions took.
#[derive(Debug)]
pub struct Connects {
    /// Sessions that were opened and closed again.
    pub sessions: u64,
    /// How long all of it took.
    pub elapsed: Duration,
    /// Microseconds from the dial to the answer to the handshake.
    pub latency: Histogram<u64>,
}

/// Opens sessions and closes them again for `span`, `parallel` at a time, spread over the servers.
///
/// # Errors
///
/// A server refuses one.
pub fn connect(addrs: &[SocketAddr], parallel: usize, span: Duration) -> Result<Connects> {
    let start = Instant::now();
    let parts: Vec<Result<Histogram<u64>>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..parallel).map(|first| scope.spawn(move || one(addrs, first, start + span))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no connecting thread panics")).collect()
    });
    let elapsed = start.elapsed();
    let mut latency = Histogram::new(3).context("a histogram")?;
    for part in parts {
        latency.add(part?).context("adding latencies up")?;
    }
    Ok(Connects { sessions: latency.len(), elapsed, latency })
}

fn one(addrs: &[SocketAddr], first: usize, until: Instant) -> Result<Histogram<u64>> {
    let mut latency = Histogram::new(3).context("a histogram")?;
    let mut turn = first;
    while Instant::now() < until {
        let asked = Instant::now();
        let pool = Pool::open(&[addrs[turn % addrs.len()]], 1)?;
        let us = u64::try_from(asked.elapsed().as_micros())?;
        latency.record(us.max(1)).context("a latency")?;
        pool.close()?;
        turn += 1;
    }
    Ok(latency)
}
