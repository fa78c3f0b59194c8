//! What processes on this machine use, from `/proc`.

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::time::Duration;

/// The times of several processes together.
///
/// # Errors
///
/// One of them is gone.
pub fn cpu_times(pids: &[u32]) -> Result<Duration> {
    pids.iter().map(|pid| cpu_time(*pid)).sum()
}

/// User and system time that a process has used, ended threads included.
///
/// # Errors
///
/// It is gone.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("reading the process's times")?;
    // The name in parentheses may hold anything, so fields are counted behind it.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat has no name")?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut field = || -> Result<u64> { Ok(fields.next().context("/proc/PID/stat is short")?.parse()?) };
    Ok(ticks(field()? + field()?))
}

/// Time that all CPUs spent working, and that the hypervisor took.
///
/// # Errors
///
/// `/proc` is not there.
pub fn machine_time() -> Result<(Duration, Duration)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let fields: Vec<u64> = line.split_ascii_whitespace().skip(1).map_while(|f| f.parse().ok()).collect();
    ensure!(fields.len() >= 8, "/proc/stat is short");
    // user, nice, system, idle, iowait, irq, softirq, steal
    let busy = fields[0] + fields[1] + fields[2] + fields[5] + fields[6];
    Ok((ticks(busy), ticks(fields[7])))
}

fn ticks(n: u64) -> Duration {
    Duration::from_millis(n * 1000 / rustix::param::clock_ticks_per_second())
}

/// Makes `VmHWM` of a process start over from what it holds now.
///
/// # Errors
///
/// It is gone, or another user's.
pub fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("starting the peak of memory over")
}

/// A line such as `VmRSS` of a process's status, in bytes.
///
/// # Errors
///
/// It is gone, or there is no such line.
pub fn memory(pid: u32, line: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).context("no such line")?;
    let kb: u64 = value.trim().trim_end_matches(" kB").parse()?;
    Ok(kb * 1024)
}
