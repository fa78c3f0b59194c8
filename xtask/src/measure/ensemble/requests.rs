//! Requests per second, latency and the CPU of all servers together, with clients on every server.

use super::super::process::Program;
use super::super::rates::{Column, RAMP, Rows, Spec, tables};
use super::super::work::{Kind, Ledger, Paths, Row};
use super::Options;
use super::members::Ensemble;
use anyhow::{Context as _, Result};
use farrier_bench::{Pace, Pool, Span};

struct Contestant {
    ensemble: Ensemble,
    ledger: Ledger,
    figures: Rows,
}

/// Measures `rows`; returns their part of the report.
pub(super) fn run(options: &Options, programs: &[Program], rows: &[Spec]) -> Result<String> {
    let paths = Paths::new();
    let mut contestants = Vec::new();
    for program in programs {
        let mut ledger = Ledger::new();
        let ensemble = Ensemble::ready(program, options, &paths, &mut ledger)?;
        contestants.push(Contestant { ensemble, ledger, figures: Rows::new() });
    }
    for round in 0..options.rounds {
        for row in rows {
            // Who goes first alternates too.
            let order: Vec<usize> = match round % 2 {
                0 => (0..contestants.len()).collect(),
                _ => (0..contestants.len()).rev().collect(),
            };
            for index in order {
                let contestant = &mut contestants[index];
                measure(contestant, row, options, &paths)
                    .with_context(|| contestant.ensemble.obituary())
                    .with_context(|| format!("row {}, round {}", row.name, round + 1))?;
            }
        }
    }
    let columns: Vec<Column<'_>> =
        contestants.iter().map(|c| Column { program: c.ensemble.program(), figures: &c.figures }).collect();
    let mut text = tables(&columns, rows);
    for contestant in &contestants {
        text.push_str(&contestant.ensemble.complaints());
    }
    Ok(text)
}

fn measure(contestant: &mut Contestant, row: &Spec, options: &Options, paths: &Paths) -> Result<()> {
    let Contestant { ensemble, ledger, figures } = contestant;
    ensemble.rest()?;
    let mut pool = Pool::open(&ensemble.addrs(), row.conns)?;
    let mut source = Row::new(row.kind, u32::try_from(row.conns)?, paths, ledger);
    let span = Span::Timed { ramp: RAMP, window: options.window };
    let seen = pool.run(Pace::Depth(row.depth), span, &mut source, &mut || ensemble.probe())?;
    pool.close()?;
    if row.kind != Kind::Get {
        ensemble.verify(paths, ledger).with_context(|| format!("checking {} after {}", ensemble.name(), row.name))?;
    }
    figures.entry(row.name).or_default().add(row.name, &ensemble.name(), &seen)
}
