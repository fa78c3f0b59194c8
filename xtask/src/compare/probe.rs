//! What the machine itself takes: its disk's syncs, alone and three at once, and servers on its loopback interface that do
//! nothing but answer. Each is a process of its own, as a server is.

use super::figures::{Figures, Metric, Who};
use super::lines::{DOOR_FLOOR, HERALD_FLOORS, WRITE_FLOOR};
use crate::servers::{Home, Process, rest};
use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand};
use farrier_bench::process::{cpu_time, cpu_times};
use farrier_bench::{Window, door, echo, herald, sessions};
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
/// Sessions at a time, and servers that they come to.
const SESSIONS: usize = 16;
const DOORS: usize = 3;

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
    /// Tell everybody on this port of every write
    Herald { port: u16 },
    /// Give a session to everybody on this port
    Door { port: u16 },
    /// Write and sync blocks of this file for so many milliseconds; print median and 99th percentile in microseconds
    Sync { file: PathBuf, millis: u64 },
}

/// Runs one probe's process.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.what {
        What::Echo { port } => echo::serve(&listen(*port)?)?,
        What::Herald { port } => herald::serve(&listen(*port)?)?,
        What::Door { port } => door::serve(&listen(*port)?)?,
        What::Sync { file, millis } => {
            let (median, p99) = sync(file, Duration::from_millis(*millis))?;
            crate::say(&format!("{} {}", median.as_micros(), p99.as_micros()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn listen(port: u16) -> Result<TcpListener> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?)
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

/// Measures once what rows of so many servers are compared with. Whoever was loaded before is at rest ahead of each.
pub(super) fn measure(figures: &mut Figures, dir: &Path, window: Duration, size: usize) -> Result<()> {
    let home = Home::new(dir, "probe-")?;
    for (row, count) in [("sync-1", 1), ("sync-3", 3)] {
        if count != size {
            continue;
        }
        rest()?;
        let mut each = syncs(home.path(), count, window)?;
        each.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (median, p99) = each[count / 2];
        figures.add(row, Who::Machine, Metric::P50Ms, median / 1e3);
        figures.add(row, Who::Machine, Metric::P99Ms, p99 / 1e3);
    }
    // What one server is asked in the rows, and one write's round trip of three.
    let (server, addr) = bare(home.path(), "echo")?;
    let mut probe = || Ok((cpu_time(server.id())?, cpu_time(std::process::id())?));
    for (row, conns, depth) in ECHOES.into_iter().filter(|(_, conns, _)| (*conns > 1) == (size == 1)) {
        rest()?;
        add(figures, row, &echo::measure(addr, conns, depth, window, &mut probe)?);
    }
    server.kill()?;
    if size == 1 {
        let (server, addr) = bare(home.path(), "herald")?;
        let mut probe = || Ok((cpu_time(server.id())?, cpu_time(std::process::id())?));
        for (row, watchers) in HERALD_FLOORS {
            rest()?;
            add(figures, row, &herald::measure(addr, watchers, window, &mut probe)?);
        }
        server.kill()?;
    } else {
        doors(figures, home.path(), window)?;
    }
    if size == 1 {
        return Ok(());
    }
    let last = |row| figures.get(row, Who::Machine, Metric::P50Ms).and_then(|samples| samples.each().last());
    if let (Some(sync), Some(trip)) = (last("sync-3"), last("echo-1x1")) {
        figures.add(WRITE_FLOOR, Who::Machine, Metric::P50Ms, sync + 2.0 * trip);
    }
    Ok(())
}

/// Starts a bare server of this kind, and waits until it listens.
fn bare(dir: &Path, kind: &str) -> Result<(Process, SocketAddr)> {
    let port = free_ports(1)?[0];
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["probe", kind, &port.to_string()]);
    let server = Process::spawn(command, &dir.join(format!("{kind}-{port}.log")))?;
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let begun = Instant::now();
    while TcpStream::connect(addr).is_err() {
        ensure!(begun.elapsed() < SOON, "the bare server `{kind}` does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok((server, addr))
}

/// Adds what a bare server and this process, whose CPU times the probe saw, did for each reply or event.
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 replies and microseconds")]
fn add(figures: &mut Figures, row: &'static str, seen: &Window<(Duration, Duration)>) {
    let (replies, seconds) = (seen.replies as f64, seen.elapsed.as_secs_f64());
    let server = (seen.after.0 - seen.before.0).as_secs_f64();
    let generator = (seen.after.1 - seen.before.1).as_secs_f64();
    figures.add(row, Who::Machine, Metric::CpuUs, server * 1e6 / replies);
    figures.add(row, Who::Machine, Metric::Rate, replies / seconds);
    figures.add(row, Who::Machine, Metric::Generator, generator / seconds);
    figures.add(row, Who::Machine, Metric::P50Ms, seen.latency.value_at_quantile(0.5) as f64 / 1e3);
}

/// Sessions that come and go on servers that keep none.
fn doors(figures: &mut Figures, dir: &Path, window: Duration) -> Result<()> {
    let servers = (0..DOORS).map(|_| bare(dir, "door")).collect::<Result<Vec<_>>>()?;
    let pids: Vec<u32> = servers.iter().map(|(server, _)| server.id()).collect();
    let addrs: Vec<SocketAddr> = servers.iter().map(|(_, addr)| *addr).collect();
    let cpu = || Ok::<_, anyhow::Error>((cpu_times(&pids)?, cpu_time(std::process::id())?));
    rest()?;
    let before = cpu()?;
    let seen = sessions::connect(&addrs, SESSIONS, window, &mut |_, _| Ok(()))?;
    let after = cpu()?;
    let sessions::Connects { sessions: replies, elapsed, latency } = seen;
    add(figures, DOOR_FLOOR, &Window { elapsed, replies, before, after, latency });
    servers.into_iter().try_for_each(|(server, _)| server.kill())
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
