//! `cargo xtask scale`: what a request costs Farrier as znodes, sessions, watches and servers grow.

use crate::measure::{Common, farrier, heading, note};
use crate::report::{Table, number};
use crate::servers::{KEYS, Program, Stage, end_on_signals};
use anyhow::{Context as _, Result};
use clap::Args;
use farrier_bench::frame::{put_create, put_read, put_request};
use farrier_bench::plan::{Outcome, Task, allow_connections};
use farrier_bench::process::memory;
use farrier_bench::rows::Kind;
use farrier_bench::{Pace, Pool, Script, Span};
use farrier_proto::OpCode;
use farrier_proto::client::CreateMode;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Znodes that are read and written.
const ZNODES: [u32; 3] = [10_000, 100_000, 1_000_000];
/// Sessions; a process of a server and this one have 20,000 open files each where nobody raised that.
const SESSIONS: [u32; 4] = [10, 1_000, 10_000, 19_500];
/// Files that this process opens beside those sessions.
const OTHERS: u32 = 256;
/// Connections that leave watches, and how many watches there are in all.
const WATCHERS: u32 = 100;
const WATCHES: [u32; 4] = [0, 1_000, 10_000, 100_000];
const SERVERS: [usize; 3] = [1, 3, 5];
/// Time for sessions that ask nothing to give a sign of life between two measurements.
const SIGN: Duration = Duration::from_millis(500);
/// Where the watched znodes are; nobody writes them.
const WATCHED: &str = "/watched";

/// Arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Seconds of each measurement that count
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    #[command(flatten)]
    common: Common,
}

/// Measures, and prints the report.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    end_on_signals()?;
    // Beyond this the system may refuse; the row that needs more says so.
    allow_connections(SESSIONS[SESSIONS.len() - 1] + OTHERS)?;
    let dir = arguments.common.dir()?;
    let program = Program::Farrier(farrier(&arguments.common)?);
    let window = Duration::from_secs(arguments.seconds);
    let mut report = heading("What a request costs as things grow", &dir)?;
    report.push_str(&format!(
        "- {} s for each figure; N × M: N connections with M requests outstanding each; CPU is that of all servers\n",
        arguments.seconds
    ));
    report.push_str(&znodes(&program, &dir, window)?);
    report.push_str(&sessions(&program, &dir, window)?);
    report.push_str(&watches(&program, &dir, window)?);
    report.push_str(&servers(&program, &dir, window)?);
    arguments.common.publish(&mut report)?;
    Ok(ExitCode::SUCCESS)
}

fn znodes(program: &Program, dir: &Path, window: Duration) -> Result<String> {
    let mut table = Table::new(&[
        "znodes",
        "get 64 × 1, µs",
        "get 16 × 64, µs",
        "set 16 × 64, µs",
        "set 16 × 64, p99 ms",
        "RSS, MB",
    ]);
    for keys in ZNODES {
        let mut stage = Stage::sized(program, dir, 1, keys, WATCHERS)?;
        let one = stage.measure(Task::Row(Kind::Get), 64, 1, window)?;
        let get = stage.measure(Task::Row(Kind::Get), 16, 64, window)?;
        let set = stage.measure(Task::Row(Kind::Set), 16, 64, window)?;
        let rss = megabytes(memory(stage.ensemble.pid(0)?, "VmRSS")?);
        table.row(&[count_of(keys), us(&one), us(&get), us(&set), p99(&set), number(rss)]);
        note(&format!("{keys} znodes: get {} {} set {} µs", us(&one), us(&get), us(&set)))?;
    }
    Ok(format!("\n## Znodes\n\n{}", table.text()))
}

fn sessions(program: &Program, dir: &Path, window: Duration) -> Result<String> {
    let mut table = Table::new(&[
        "sessions",
        "idle beside: get 64 × 1, µs",
        "idle beside: set 16 × 64, µs",
        "bytes of an idle one",
        "all asking: get N × 1, µs",
        "all asking, per second",
    ]);
    for count in SESSIONS {
        let mut stage = Stage::sized(program, dir, 1, KEYS.max(count), count.max(64))?;
        let pid = stage.ensemble.pid(0)?;
        // What the first connections allocate is not the sessions'.
        stage.measure(Task::Row(Kind::Get), 64, 1, Duration::from_secs(1))?;
        let before = memory(pid, "VmRSS")?;
        // The generator's own connections come on top.
        let opened = count - if count > 1000 { 128 } else { 0 };
        let mut idle = Pool::open(&stage.ensemble.addrs(), opened as usize)?;
        let grown = memory(pid, "VmRSS")?.saturating_sub(before);
        let get = stage.measure(Task::Row(Kind::Get), 64, 1, window)?;
        idle.hold(SIGN, &mut |_, _| Ok(()))?;
        let set = stage.measure(Task::Row(Kind::Set), 16, 64, window)?;
        idle.close()?;
        let all = stage.measure(Task::Row(Kind::Get), count, 1, window)?;
        #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
        let each = grown as f64 / f64::from(opened);
        table.row(&[count_of(count), us(&get), us(&set), number(each), us(&all), number(all.rate())]);
        note(&format!("{count} sessions: get {} set {} µs; all asking {} µs", us(&get), us(&set), us(&all)))?;
    }
    Ok(format!("\n## Sessions\n\n{}", table.text()))
}

fn watches(program: &Program, dir: &Path, window: Duration) -> Result<String> {
    let mut table = Table::new(&[
        "watches that stay",
        "get 64 × 1, µs",
        "set 16 × 64, µs",
        "create 16 × 64, µs",
        "bytes of a watch",
    ]);
    for count in WATCHES {
        let mut stage = Stage::new(program, dir, 1)?;
        let addrs = stage.ensemble.addrs();
        let pid = stage.ensemble.pid(0)?;
        let each = count / WATCHERS;
        create_watched(&addrs, each)?;
        let before = memory(pid, "VmRSS")?;
        let mut pool = Pool::open(&addrs, WATCHERS as usize)?;
        let mut watch = Script::new(WATCHERS as usize, WATCHERS * each, |number, xid, out| {
            let path = format!("{WATCHED}/n{}", number / WATCHERS);
            put_request(out, xid, OpCode::GetData, |out| put_read(out, &path, true));
        });
        pool.run(Pace::Depth(16), Span::Exhausted, &mut watch, &mut || Ok(()))?;
        let grown = memory(pid, "VmRSS")?.saturating_sub(before);
        let get = stage.measure(Task::Row(Kind::Get), 64, 1, window)?;
        pool.hold(SIGN, &mut |_, _| Ok(()))?;
        let set = stage.measure(Task::Row(Kind::Set), 16, 64, window)?;
        pool.hold(SIGN, &mut |_, _| Ok(()))?;
        let create = stage.measure(Task::Row(Kind::Create), 16, 64, window)?;
        pool.close()?;
        #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
        let bytes = if count == 0 { f64::NAN } else { grown as f64 / f64::from(count) };
        table.row(&[count_of(count), us(&get), us(&set), us(&create), number(bytes)]);
        note(&format!("{count} watches: get {} set {} create {} µs", us(&get), us(&set), us(&create)))?;
    }
    Ok(format!("\n## Watches\n\n{}", table.text()))
}

fn create_watched(addrs: &[SocketAddr], count: u32) -> Result<()> {
    let mut pool = Pool::open(addrs, 1)?;
    let mut create = Script::new(1, count + 1, |number, xid, out| {
        let path = number.checked_sub(1).map_or_else(|| WATCHED.to_owned(), |number| format!("{WATCHED}/n{number}"));
        put_request(out, xid, OpCode::Create, |out| put_create(out, &path, b"", CreateMode::Persistent));
    });
    pool.run(Pace::Depth(64), Span::Exhausted, &mut create, &mut || Ok(())).context("creating what is watched")?;
    pool.close()
}

fn servers(program: &Program, dir: &Path, window: Duration) -> Result<String> {
    let mut table = Table::new(&[
        "servers",
        "set 16 × 64, µs of all",
        "set 16 × 64, per second",
        "set 1 × 1, p50 ms",
        "get 16 × 64, µs of all",
        "get 16 × 64, per second",
    ]);
    for size in SERVERS {
        let mut stage = Stage::new(program, dir, size)?;
        let set = stage.measure(Task::Row(Kind::Set), 16, 64, window)?;
        let one = stage.measure(Task::Row(Kind::Set), 1, 1, window)?;
        let get = stage.measure(Task::Row(Kind::Get), 16, 64, window)?;
        #[expect(clippy::cast_precision_loss, reason = "microseconds far below 2^52")]
        let p50 = one.latency.value_at_quantile(0.5) as f64 / 1e3;
        table.row(&[size.to_string(), us(&set), number(set.rate()), number(p50), us(&get), number(get.rate())]);
        note(&format!("{size} servers: set {} µs of all, get {} µs", us(&set), us(&get)))?;
    }
    Ok(format!("\n## Servers\n\n{}", table.text()))
}

/// A count for a table: thousands apart, and no fractions.
fn count_of(count: u32) -> String {
    if count < 100 { count.to_string() } else { number(f64::from(count)) }
}

fn us(outcome: &Outcome) -> String {
    number(outcome.server_us().unwrap_or(f64::NAN))
}

#[expect(clippy::cast_precision_loss, reason = "microseconds far below 2^52")]
fn p99(outcome: &Outcome) -> String {
    number(outcome.latency.value_at_quantile(0.99) as f64 / 1e3)
}

#[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
