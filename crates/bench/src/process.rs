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

/// Whether any process of a process group still runs. One that has ended and that nobody has waited for does not.
///
/// # Errors
///
/// `/proc` is not there.
pub fn group_runs(group: u32) -> Result<bool> {
    for entry in fs::read_dir("/proc").context("looking for processes")? {
        let name = entry?.file_name();
        if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // One that is gone by now does not run.
        let Ok(stat) = fs::read(format!("/proc/{}/stat", name.display())) else { continue };
        if let Some(seen) = Seen::read(&String::from_utf8_lossy(&stat))
            && seen.group == group
            && seen.runs
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a process's `stat` says of its life.
#[derive(PartialEq, Eq, Debug)]
struct Seen {
    group: u32,
    runs: bool,
}

impl Seen {
    fn read(stat: &str) -> Option<Self> {
        // The name in parentheses may hold anything, so fields are counted behind it.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let (state, group, threads) = (*fields.first()?, fields.get(2)?.parse().ok()?, *fields.get(17)?);
        // The first thread has ended, and others are about to: what the process holds is let go by the last of them.
        let lingers = threads.parse::<u32>().ok()? > 1;
        Some(Self { group, runs: !matches!(state, "Z" | "X") || lingers })
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    #[test]
    fn a_group_runs_until_its_last_process_has_ended() {
        let seen = |state, threads| {
            let stat = format!("5 (a) b (c) {state} 1 77 77 0 -1 4194560 5 6 7 8 9 10 11 12 20 0 {threads} 0 1234");
            Seen::read(&stat).expect("it is whole")
        };
        assert_eq!(seen("S", 1), Seen { group: 77, runs: true });
        assert_eq!([seen("Z", 1).runs, seen("Z", 2).runs], [false, true]);
        assert_eq!(Seen::read("5 (a) S 1 77"), None);
        let mut sleep = Command::new("sleep").arg("600").process_group(0).spawn().expect("sleep runs");
        assert!(group_runs(sleep.id()).expect("/proc"));
        sleep.kill().expect("it is ours");
        while group_runs(sleep.id()).expect("/proc") {
            std::thread::yield_now();
        }
        sleep.wait().expect("it has ended");
    }
}
