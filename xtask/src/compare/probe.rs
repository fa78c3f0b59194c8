//! What the machine itself takes: its disk's syncs, alone and three at once, and a bare echo on its loopback interface. Each
//! is a process of its own, as a server is.

use super::figures::{Figures, Metric, Who};
use super::lines::WRITE_FLOOR;
use crate::servers::{Home, Process};
use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand};
use farrier_bench::echo;
use farrier_bench::process::cpu_time;
use farrier_testkit::ports::free_ports;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Bytes of a synced write, and of the file that they go to.
const BLOCK: usize = 4096;
const FILE_LEN: usize = 512 * BLOCK;
/// How long anything may take that ends by itself or is soon there.
const SOON: Duration = Duration::from_secs(30);
/// Connections and depth of the echoes.
const ECHOES: [(&str, usize, usize); 3] = [("echo-64x1", 64, 1), ("echo-16x64", 16, 64), ("echo-1x1", 1, 1)];

/// Arguments of the hidden command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Send everything back that comes to this port
    Echo { port: u16 },
    /// Write and sync blocks of this file for so many milliseconds; print median and 99th percentile in microseconds
    Sync { file: PathBuf, millis: u64 },
}

/// Runs one probe's process.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.what {
        What::Echo { port } => echo::serve(&TcpListener::bind((Ipv4Addr::LOCALHOST, *port))?)?,
        What::Sync { file, millis } => {
            let (median, p99) = sync(file, Duration::from_millis(*millis))?;
            crate::say(&format!("{} {}", median.as_micros(), p99.as_micros()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn sync(path: &Path, span: Duration) -> Result<(Duration, Duration)> {
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    // Written once before, so that only data is synced, as in a server's prepared log.
    file.write_all(&vec![0; FILE_LEN])?;
    file.sync_all()?;
    let (start, mut times, mut at) = (Instant::now(), Vec::new(), 0);
    while start.elapsed() < span {
        let begun = Instant::now();
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; BLOCK], u64::try_from(at)?)?;
        file.sync_data()?;
        at = (at + BLOCK) % FILE_LEN;
        // The others may not have begun at first.
        if begun.duration_since(start) > span / 10 {
            times.push(begun.elapsed());
        }
    }
    times.sort_unstable();
    let median = *times.get(times.len() / 2).context("not one sync in the whole time")?;
    Ok((median, times[times.len() * 99 / 100]))
}

/// Measures once what rows of so many servers are compared with.
pub(super) fn measure(figures: &mut Figures, dir: &Path, window: Duration, size: usize) -> Result<()> {
    let home = Home::new(dir, "probe-")?;
    for (row, count) in [("sync-1", 1), ("sync-3", 3)] {
        if count != size {
            continue;
        }
        let mut each = syncs(home.path(), count, window)?;
        each.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (median, p99) = each[count / 2];
        figures.add(row, Who::Machine, Metric::P50Ms, median / 1e3);
        figures.add(row, Who::Machine, Metric::P99Ms, p99 / 1e3);
    }
    let port = free_ports(1)?[0];
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["probe", "echo", &port.to_string()]);
    let server = Process::spawn(command, &home.path().join("echo.log"))?;
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let begun = Instant::now();
    while TcpStream::connect(addr).is_err() {
        ensure!(begun.elapsed() < SOON, "the echo does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    // What one server is asked in the rows, and one write's round trip of three.
    for (row, conns, depth) in ECHOES.into_iter().filter(|(_, conns, _)| (*conns > 1) == (size == 1)) {
        let mut probe = || Ok((cpu_time(server.id())?, cpu_time(std::process::id())?));
        let seen = echo::measure(addr, conns, depth, window, &mut probe)?;
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 replies")]
        let (replies, seconds) = (seen.replies as f64, seen.elapsed.as_secs_f64());
        let server = (seen.after.0 - seen.before.0).as_secs_f64();
        let generator = (seen.after.1 - seen.before.1).as_secs_f64();
        figures.add(row, Who::Machine, Metric::CpuUs, server * 1e6 / replies);
        figures.add(row, Who::Machine, Metric::Rate, replies / seconds);
        figures.add(row, Who::Machine, Metric::Generator, generator / seconds);
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 microseconds")]
        figures.add(row, Who::Machine, Metric::P50Ms, seen.latency.value_at_quantile(0.5) as f64 / 1e3);
    }
    server.kill()?;
    if size == 1 {
        return Ok(());
    }
    let last = |row| figures.get(row, Who::Machine, Metric::P50Ms).and_then(|samples| samples.each().last());
    if let (Some(sync), Some(trip)) = (last("sync-3"), last("echo-1x1")) {
        figures.add(WRITE_FLOOR, Who::Machine, Metric::P50Ms, sync + 2.0 * trip);
    }
    Ok(())
}

/// Median and 99th percentile of each of `count` processes that sync at the same time, in microseconds.
fn syncs(dir: &Path, count: usize, window: Duration) -> Result<Vec<(f64, f64)>> {
    let mut running = Vec::new();
    for index in 0..count {
        let mut command = Command::new(std::env::current_exe()?);
        let file = dir.join(format!("sync-{index}"));
        command.args(["probe", "sync"]).arg(file).arg(window.as_millis().to_string());
        let log = dir.join(format!("sync-{count}-{index}.log"));
        // One log for each run.
        let _ = fs::remove_file(&log);
        running.push((Process::spawn(command, &log)?, log));
    }
    running
        .into_iter()
        .map(|(process, log)| {
            let status = process.wait(window + SOON).context("waiting for a probe of the disk")?;
            let text = fs::read_to_string(&log)?;
            ensure!(status.success(), "a probe of the disk failed: {text}");
            read(&text)
        })
        .collect()
}

fn read(text: &str) -> Result<(f64, f64)> {
    let figures: Vec<f64> = text.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    match figures[..] {
        [median, p99] => Ok((median, p99)),
        _ => bail!("a probe of the disk said {text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_probed_and_the_answer_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let (median, p99) = sync(&dir.path().join("probe"), Duration::from_millis(20)).expect("syncs");
        assert!(!p99.is_zero() && median <= p99);
        assert_eq!(read("120 4000\n").expect("two figures"), (120.0, 4000.0));
        read("no disk\n").expect_err("no figures");
    }
}
