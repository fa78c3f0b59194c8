//! Requests per second, server CPU per request and latency, row by row, the servers alternating.

use super::process::{Program, Server};
use super::report::{Samples, Table, number, ratio};
use super::work::{self, Kind, Ledger, Paths, Row};
use super::{Options, note};
use anyhow::{Context as _, Result};
use farrier_bench::process::{cpu_time, cpu_times, machine_time};
use farrier_bench::{Pace, Pool, Source, Span, Window};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Connections of passes that are not measured, and their depth.
pub(super) const CONNS: usize = 16;
const DEPTH: usize = 32;
/// The generator is the bottleneck above this share of its one CPU.
const GENERATOR_BUSY: f64 = 0.9;
/// Not counted at the beginning of every row.
pub(super) const RAMP: Duration = Duration::from_millis(1000);

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) depth: usize,
    pub(super) conns: usize,
}

/// All rows.
pub(super) const ROWS: &[Spec] = &[
    Spec { name: "get-1", kind: Kind::Get, depth: 1, conns: 64 },
    Spec { name: "get-64", kind: Kind::Get, depth: 64, conns: 16 },
    Spec { name: "set-1", kind: Kind::Set, depth: 1, conns: 64 },
    Spec { name: "set-64", kind: Kind::Set, depth: 64, conns: 16 },
    Spec { name: "create-1", kind: Kind::Create, depth: 1, conns: 64 },
    Spec { name: "create-64", kind: Kind::Create, depth: 64, conns: 16 },
    Spec { name: "mix-1", kind: Kind::Mix, depth: 1, conns: 64 },
    Spec { name: "mix-64", kind: Kind::Mix, depth: 64, conns: 16 },
];

/// Figures of one row of one contestant.
#[derive(Default, Debug)]
pub(super) struct Figures {
    rate: Samples,
    cpu_us: Samples,
    generator: Samples,
    generator_us: Samples,
    others: Samples,
    p50: Samples,
    p99: Samples,
    max: Samples,
}

impl Figures {
    /// Takes over what a run saw, and says it.
    pub(super) fn add(&mut self, row: &str, name: &str, seen: &Window<Cpu>) -> Result<()> {
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 replies and microseconds")]
        let [replies, p50, p99, max] = [
            seen.replies,
            seen.latency.value_at_quantile(0.5),
            seen.latency.value_at_quantile(0.99),
            seen.latency.max(),
        ]
        .map(|n| n as f64);
        let seconds = seen.elapsed.as_secs_f64();
        let server_cpu = (seen.after.server - seen.before.server).as_secs_f64();
        let generator = (seen.after.generator - seen.before.generator).as_secs_f64();
        let machine = (seen.after.machine - seen.before.machine).as_secs_f64();
        let stolen = (seen.after.stolen - seen.before.stolen).as_secs_f64();
        let others = ((machine - server_cpu - generator).max(0.0) + stolen) / seconds;
        self.rate.push(replies / seconds);
        self.cpu_us.push(server_cpu * 1e6 / replies);
        self.generator.push(generator / seconds);
        self.generator_us.push(generator * 1e6 / replies);
        self.others.push(others);
        self.p50.push(p50 / 1e3);
        self.p99.push(p99 / 1e3);
        self.max.push(max / 1e3);
        note(&format!(
            "{:9} {name:14} {:>9}/s  server {:>6} µs/request, {:.2} CPUs; generator {:.2}, others {others:.2} CPUs; \
             ms p50 {} p99 {} max {}",
            row,
            number(replies / seconds),
            number(server_cpu * 1e6 / replies),
            server_cpu / seconds,
            generator / seconds,
            number(p50 / 1e3),
            number(p99 / 1e3),
            number(max / 1e3),
        ))
    }
}

/// Rows with figures.
pub(super) type Rows = BTreeMap<&'static str, Figures>;

struct Contestant {
    server: Server,
    ledger: Ledger,
    figures: Rows,
}

/// CPU time of everybody at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpu {
    server: Duration,
    generator: Duration,
    machine: Duration,
    stolen: Duration,
}

/// CPU time now, with the servers' processes.
pub(super) fn cpu(pids: &[u32]) -> Result<Cpu> {
    let (machine, stolen) = machine_time()?;
    Ok(Cpu { server: cpu_times(pids)?, generator: cpu_time(std::process::id())?, machine, stolen })
}

/// Measures `rows` of `programs`; returns the report.
pub(super) fn run(options: &Options, programs: &[Program], rows: &[Spec]) -> Result<String> {
    let paths = Paths::new();
    let mut contestants = Vec::new();
    for program in programs {
        let mut server = Server::new(program, &options.dir)?;
        server.start()?;
        pass(&server, work::root(CONNS))?;
        pass(&server, work::setup(CONNS))?;
        contestants.push(Contestant { server, ledger: Ledger::new(), figures: BTreeMap::new() });
    }
    for contestant in &mut contestants {
        note(&format!("warming {} for {} s", contestant.server.program().name(), options.warm.as_secs()))?;
        let each = options.warm / u32::try_from(rows.len())?;
        for row in rows {
            measure(contestant, row, &paths, each, false)
                .with_context(|| contestant.server.obituary())
                .with_context(|| format!("row {}, warming", row.name))?;
        }
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
                measure(contestant, row, &paths, options.seconds, true)
                    .with_context(|| contestant.server.obituary())
                    .with_context(|| format!("row {}, round {}", row.name, round + 1))?;
            }
        }
    }
    let columns: Vec<Column<'_>> =
        contestants.iter().map(|c| Column { program: c.server.program(), figures: &c.figures }).collect();
    let mut text = tables(&columns, rows);
    for contestant in &contestants {
        text.push_str(&complaints(&contestant.server));
    }
    Ok(text)
}

/// What a server said that an operator would look into.
pub(super) fn complaints(server: &Server) -> String {
    let lines = server.complaints();
    let Some(last) = lines.last() else { return String::new() };
    format!("\n{} warned {} times in its log, last: `{last}`\n", server.program().name(), lines.len())
}

/// A pass over a server that has to succeed and is not measured.
pub(super) fn pass<S: Source>(server: &Server, source: S) -> Result<Window<()>> {
    pass_over(&[server.addr()], source)
}

/// A pass whose connections are spread over several servers.
pub(super) fn pass_over<S: Source>(addrs: &[SocketAddr], mut source: S) -> Result<Window<()>> {
    let mut pool = Pool::open(addrs, CONNS)?;
    let window = pool.run(Pace::Depth(DEPTH), Span::Exhausted, &mut source, &mut || Ok(()))?;
    pool.close()?;
    Ok(window)
}

fn measure(contestant: &mut Contestant, row: &Spec, paths: &Paths, window: Duration, counts: bool) -> Result<()> {
    let Contestant { server, ledger, figures } = contestant;
    let name = server.program().name();
    server.rest()?;
    let pid = server.pid()?;
    let mut pool = Pool::open(&[server.addr()], row.conns)?;
    let conns = u32::try_from(row.conns)?;
    let mut source = Row::new(row.kind, conns, paths, ledger);
    let seen =
        pool.run(Pace::Depth(row.depth), Span::Timed { ramp: RAMP, window }, &mut source, &mut || cpu(&[pid]))?;
    pool.close()?;
    if row.kind != Kind::Get {
        verify(server, paths, ledger).with_context(|| format!("checking {name} after {}", row.name))?;
    }
    if counts { figures.entry(row.name).or_default().add(row.name, &name, &seen) } else { Ok(()) }
}

/// Every acknowledged write can be read; what was created goes away again.
fn verify(server: &Server, paths: &Paths, ledger: &mut Ledger) -> Result<()> {
    pass(server, work::check_keys(CONNS, paths, ledger))?;
    if ledger.created() > 0 {
        pass(server, work::count_created(CONNS, ledger))?;
        pass(server, work::check_created(CONNS, ledger))?;
        pass(server, work::delete_created(CONNS, ledger))?;
        work::forget_created(ledger);
        pass(server, work::count_created(CONNS, ledger))?;
    }
    Ok(())
}

/// A contestant in the tables.
#[derive(Debug)]
pub(super) struct Column<'a> {
    pub(super) program: &'a Program,
    pub(super) figures: &'a Rows,
}

/// Both tables.
pub(super) fn tables(contestants: &[Column<'_>], rows: &[Spec]) -> String {
    let mut cpu =
        Table::new(&["row", "server", "server CPU, µs per request", "requests/s", "generator CPUs", "others' CPUs"]);
    let mut latency = Table::new(&["row", "server", "p50, ms", "p99, ms", "max, ms"]);
    let mut bound = Vec::new();
    for row in rows {
        for contestant in contestants {
            let Some(f) = contestant.figures.get(row.name) else { continue };
            let name = contestant.program.name();
            let is_bound = f.generator.median() > GENERATOR_BUSY;
            if is_bound {
                bound.push(format!("{} of {name}", row.name));
            }
            let mark = if is_bound { " †" } else { "" };
            cpu.row(&[
                row.name.to_owned(),
                name.clone(),
                f.cpu_us.show(),
                format!("{}{mark}", f.rate.show()),
                f.generator.show(),
                f.others.show(),
            ]);
            latency.row(&[row.name.to_owned(), name, f.p50.show(), f.p99.show(), f.max.show()]);
        }
        let farrier = contestants.iter().find(|c| c.program.is_farrier());
        let apache = contestants.iter().find(|c| !c.program.is_farrier());
        if let (Some(farrier), Some(apache)) = (farrier, apache)
            && let (Some(f), Some(a)) = (farrier.figures.get(row.name), apache.figures.get(row.name))
        {
            cpu.row(&[
                row.name.to_owned(),
                "Farrier : Apache".to_owned(),
                ratio(f.cpu_us.median(), a.cpu_us.median()),
                ratio(f.rate.median(), a.rate.median()),
                String::new(),
                String::new(),
            ]);
        }
    }
    let mut text = format!("## Requests\n\n{}", cpu.text());
    if !bound.is_empty() {
        text.push_str(&format!(
            "\n† The generator used more than {:.0} % of its CPU, so the server could do more: {}.\n",
            GENERATOR_BUSY * 100.0,
            bound.join(", ")
        ));
    }
    text.push_str(&format!("\n## Latency under that load\n\n{}", latency.text()));
    text
}
