//! What a reader has to know about the machine to judge figures.

use anyhow::{Context as _, Result};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Synced writes in the disk's probe.
const SYNCS: usize = 300;

/// `(what, value)`, in the order of printing.
pub(crate) fn machine(base: &Path) -> Result<Vec<(String, String)>> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:")).unwrap_or("?").trim().to_owned();
    let sync = sync_latency(base)?;
    let facts = [
        ("date", run("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("commit", run("git", &["describe", "--always", "--dirty", "--abbrev=12"])),
        ("CPU", format!("{} × {}", std::thread::available_parallelism()?, cpu.unwrap_or("?"))),
        ("memory", memory),
        ("kernel", run("uname", &["-sr"])),
        ("file system", file_system(base)?),
        ("4 KiB write + fdatasync", format!("median {:.0} µs, p99 {:.0} µs", micros(sync.0), micros(sync.1))),
        ("Java", java()),
        ("load average before", load_average()),
    ];
    Ok(facts.into_iter().map(|(what, value)| (what.to_owned(), value)).collect())
}

/// The three figures of `/proc/loadavg`.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn micros(d: Duration) -> f64 {
    d.as_secs_f64() * 1e6
}

fn run(program: &str, args: &[&str]) -> String {
    match Command::new(program).args(args).output() {
        Ok(out) => String::from_utf8_lossy(&out.stdout).trim().to_owned(),
        Err(e) => format!("unknown ({e})"),
    }
}

fn java() -> String {
    match Command::new("java").arg("-version").output() {
        Ok(out) => String::from_utf8_lossy(&out.stderr).lines().nth(1).unwrap_or("?").trim().to_owned(),
        Err(e) => format!("none ({e})"),
    }
}

fn file_system(base: &Path) -> Result<String> {
    let base = fs::canonicalize(base)?;
    let mounts = fs::read_to_string("/proc/mounts")?;
    let longest = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (device, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
            base.starts_with(point).then(|| (point.len(), format!("{kind} on {device}")))
        })
        .max_by_key(|(len, _)| *len);
    Ok(longest.map_or_else(|| "?".to_owned(), |(_, text)| text))
}

fn sync_latency(base: &Path) -> Result<(Duration, Duration)> {
    let dir = tempfile::tempdir_in(base)?;
    let mut file = File::create(dir.path().join("probe"))?;
    // Written once before, so that only data is synced, as in a server's prepared log.
    file.write_all(&vec![0; SYNCS * 4096])?;
    file.sync_all()?;
    let mut times = Vec::with_capacity(SYNCS);
    for i in 0..SYNCS {
        let begun = Instant::now();
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4096], u64::try_from(i * 4096)?)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let median = *times.get(SYNCS / 2).context("no syncs")?;
    Ok((median, times[SYNCS * 99 / 100]))
}
