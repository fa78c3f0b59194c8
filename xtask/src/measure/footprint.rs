//! Memory with many znodes, and the time from start to the first reply.

use super::process::{Program, Server};
use super::rates::{complaints, pass};
use super::report::{Samples, Table, number};
use super::work;
use super::{Options, note};
use anyhow::{Context as _, Result, ensure};
use farrier_bench::process::{cpu_time, memory};
use std::process::Command;
use std::time::Duration;

/// Connections of the passes.
const CONNS: usize = 16;
/// How long memory may settle before it is read.
const SETTLE: Duration = Duration::from_secs(5);
/// Share of filled znodes that is read back.
const STRIDE: u32 = 20;

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Parts {
    /// Memory.
    pub(super) memory: bool,
    /// Start-up time.
    pub(super) start: bool,
}

#[derive(Default, Debug)]
struct Starts {
    empty: Samples,
    stopped: Samples,
    killed: Samples,
    stop: Samples,
}

/// Fills each server in turn; returns the report.
pub(super) fn run(options: &Options, programs: &[Program], parts: Parts) -> Result<String> {
    let znodes = options.znodes;
    let mut memories = Table::new(&[
        "server",
        "RSS empty, MB",
        &format!("RSS with {} znodes, MB", number(f64::from(znodes))),
        "peak RSS, MB",
        "bytes per znode",
        "data directory, MB",
        "fill, znodes/s",
        "fill, server CPU µs per znode",
    ]);
    let mut notes = String::new();
    let mut starts: Vec<Starts> = programs.iter().map(|_| Starts::default()).collect();
    if parts.start {
        for _ in 0..options.rounds {
            for (program, times) in programs.iter().zip(&mut starts) {
                let mut server = Server::new(program, &options.dir)?;
                times.empty.push(server.start()?.as_secs_f64());
                server.kill()?;
            }
        }
    }
    for (program, times) in programs.iter().zip(&mut starts) {
        let name = program.name();
        let mut server = Server::new(program, &options.dir)?;
        server.start()?;
        std::thread::sleep(SETTLE);
        let pid = server.pid()?;
        let empty = memory(pid, "VmRSS")?;
        pass(&server, work::fill_parents(CONNS))?;
        let cpu = cpu_time(pid)?;
        let window = pass(&server, work::fill(CONNS, znodes))?;
        let cpu = cpu_time(pid)? - cpu;
        server.rest()?;
        std::thread::sleep(SETTLE);
        let full = memory(pid, "VmRSS")?;
        let peak = memory(pid, "VmHWM")?;
        check(&server, znodes)?;
        #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
        let [empty, full, peak, disk] = [empty, full, peak, server.disk_bytes()?].map(|bytes| bytes as f64);
        let count = f64::from(znodes);
        memories.row(&[
            name.clone(),
            number(empty / 1e6),
            number(full / 1e6),
            number(peak / 1e6),
            number((full - empty) / count),
            number(disk / 1e6),
            number(count / window.elapsed.as_secs_f64()),
            number(cpu.as_secs_f64() * 1e6 / count),
        ]);
        note(&format!("memory {name}: {} MB empty, {} MB full", number(empty / 1e6), number(full / 1e6)))?;
        if let Program::Apache { .. } = program {
            notes.push_str(&format!("\n{name}'s live set after a full collection: {}\n", live_set(pid)));
        }
        if parts.start {
            restarts(options, &mut server, times)?;
        }
        if program.is_farrier() {
            // Apache complains about the clients that come while it starts.
            notes.push_str(&complaints(&server));
        }
    }
    let mut text = String::new();
    if parts.memory {
        text.push_str(&format!("\n## Memory\n\n{}", memories.text()));
    }
    if parts.start {
        let mut table = Table::new(&[
            "server",
            "empty directory, s",
            "after an orderly stop, s",
            "after kill -9, s",
            "the orderly stop itself, s",
        ]);
        for (program, times) in programs.iter().zip(&starts) {
            table.row(&[
                program.name(),
                times.empty.show(),
                times.stopped.show(),
                times.killed.show(),
                times.stop.show(),
            ]);
        }
        text.push_str(&format!(
            "\n## Start until the first reply\n\nWith {} znodes, except for the empty directory; files in the page \
             cache.\n\n{}",
            number(f64::from(znodes)),
            table.text()
        ));
    }
    text.push_str(&notes);
    Ok(text)
}

fn restarts(options: &Options, server: &mut Server, times: &mut Starts) -> Result<()> {
    let name = server.program().name();
    for _ in 0..options.rounds {
        times.stop.push(server.stop()?.as_secs_f64());
        let after_stop = server.start().with_context(|| format!("restarting {name} after a stop"))?;
        times.stopped.push(after_stop.as_secs_f64());
        check(server, options.znodes)?;
        server.rest()?;
        server.kill()?;
        let after_kill = server.start().with_context(|| format!("restarting {name} after a kill"))?;
        times.killed.push(after_kill.as_secs_f64());
        check(server, options.znodes)?;
        note(&format!(
            "start {name}: {} s after a stop, {} s after a kill",
            number(after_stop.as_secs_f64()),
            number(after_kill.as_secs_f64())
        ))?;
    }
    let pid = server.pid()?;
    #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
    let [rss, peak] = [memory(pid, "VmRSS")?, memory(pid, "VmHWM")?].map(|bytes| bytes as f64 / 1e6);
    note(&format!("memory {name} after the last restart: {} MB, peak {} MB", number(rss), number(peak)))
}

/// All filled znodes are there: by number, and a share of them by value.
fn check(server: &Server, znodes: u32) -> Result<()> {
    let mut total = 0;
    pass(server, work::count_filled(CONNS, &mut total))?;
    ensure!(total == znodes, "{} has {total} of {znodes} acknowledged znodes", server.program().name());
    pass(server, work::check_filled(CONNS, znodes, STRIDE))?;
    Ok(())
}

/// What the JVM's own tool says about the heap.
pub(super) fn live_set(pid: u32) -> String {
    let ask = |command: &str| Command::new("jcmd").args([&pid.to_string(), command]).output();
    if let Err(e) = ask("GC.run") {
        return format!("unknown ({e})");
    }
    match ask("GC.heap_info") {
        Ok(out) => String::from_utf8_lossy(&out.stdout)
            .lines()
            .find(|l| l.contains("used"))
            .map_or_else(|| "unknown".to_owned(), |l| format!("`{}`", l.trim())),
        Err(e) => format!("unknown ({e})"),
    }
}
