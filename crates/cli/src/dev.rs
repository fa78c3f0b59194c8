//! `farrier dev`: servers to try things with, on this machine only.

mod cluster;
mod place;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use farrier_server::ExitReason;
use rustix::process::{Pid, Signal, kill_process};

use crate::logging::{self, LogOptions};
use crate::open_files;
use crate::output::{complain, print};
use crate::signals::{self, Event, StopSignal, StopSignals};
use cluster::Cluster;
use place::Place;

const EXAMPLES: &str = "\
Examples:
  farrier dev
  farrier dev --servers 1           one server alone
  farrier dev --data ./zk           keeps data, number of servers and ports
  farrier dev -- pytest tests/      runs the command with FARRIER_SERVER set, then stops

The first line on standard output is `connect string: HOST:PORT,…`; with a command, whose output that is,
it goes to standard error. Every four-letter word is answered, TTL nodes are on, connections aren't limited, writes are synced.

Each server takes 64 MiB of disk at once and several times that under load, below TMPDIR (or /tmp); where that is small, set
TMPDIR or --data to a directory with room. A server that can't write its log any more ends all of it.

Exit codes: 0 stopped on request, 1 the server failed, 2 usage. With a command: its own, 128+N when
signal N ended it, 125 a server didn't start or failed, 126 the command can't be run, 127 it isn't found.";

/// Options of `farrier dev`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Servers to run: one alone, or an ensemble [default: 3, or as many as --data keeps]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(SERVERS_MAX)))]
    servers: Option<u8>,

    /// Keep data and ports in DIR (made if missing) instead of a temporary directory; each server has DIR/N
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// First port to try; the next free ones are taken, for clients and then between the servers [default: 2181, with
    /// 2888 and 3888 between the servers, or the ports that --data keeps]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,

    #[command(flatten)]
    log: LogOptions,

    /// Run this with FARRIER_SERVER set, stop after it, and exit with its code
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Servers if nothing is said.
const SERVERS: u8 = 3;

/// Most servers of one process.
const SERVERS_MAX: u8 = 9;

/// With a command: the failure is not the command's.
const SERVER_FAILED: u8 = 125;

/// How long a command may take for its end, once a server has failed.
const COMMAND_END_MAX: Duration = Duration::from_secs(5);

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    logging::start(&arguments.log, "warn");
    match start_and_wait(arguments) {
        Ok(code) => code,
        Err(error) => {
            complain("farrier dev: error", format_args!("{error:#}"));
            if arguments.command.is_empty() { ExitCode::FAILURE } else { ExitCode::from(SERVER_FAILED) }
        }
    }
}

fn start_and_wait(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (send, events) = signals::events(usize::from(SERVERS_MAX));
    // A directory that is made for this run is to be removed, whenever it ends.
    signals::listen(send.clone(), &Arc::default(), StopSignals::with_hang_up).context("signals can't be handled")?;

    open_files::raise();
    let turn = place::turn_to_choose();
    let place = Place::prepare(arguments.data.as_deref())?;
    let count = place.count(arguments.servers, SERVERS)?;
    let ports = place.choose_ports(count, arguments.port)?;
    // Other ports are kept only once they are served: the directory may be in use. But of a start that fails, or is cut off,
    // the next one has to know how many servers it was for.
    if place.is_new() {
        place.keep(&ports)?;
    }
    let cluster = Cluster::start(&place, &ports)?;
    // Every port is taken now.
    drop(turn);
    place.keep(&ports)?;
    cluster.watched(&send, || serve(arguments, &cluster, &send, &events))
}

fn serve(
    arguments: &Arguments,
    cluster: &Cluster,
    send: &SyncSender<Event>,
    events: &Receiver<Event>,
) -> anyhow::Result<ExitCode> {
    // A signal ends the wait as it ends the servers.
    if !cluster.wait_serving(events)? {
        return Ok(if arguments.command.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(SERVER_FAILED) });
    }

    let addresses = cluster.connect_string();
    match arguments.command.split_first() {
        None => {
            if let Err(error) = print(&format!("connect string: {addresses}\n{}", examples(&addresses))) {
                tracing::warn!("standard output can't be written: {error}");
            }
            Cluster::wait_stop(events)?;
            cluster.stop()?;
            Ok(ExitCode::SUCCESS)
        }
        Some((program, words)) => {
            // Standard output is the command's.
            complain("connect string", &addresses);
            run_command(Command::new(program).args(words), cluster, send, events)
        }
    }
}

/// Lines to try, behind the first one with the connect string, which scripts read.
fn examples(addresses: &str) -> String {
    let first = addresses.split(',').next().unwrap_or(addresses).replace(':', " ");
    format!(
        "
Try:
  zkCli.sh -server {addresses} ls /
  python3 -c 'from kazoo.client import KazooClient; z = KazooClient(\"{addresses}\"); z.start(); print(z.get_children(\"/\"))'
  go:     conn, _, err := zk.Connect(strings.Split(\"{addresses}\", \",\"), 10*time.Second)
  java:   CuratorFrameworkFactory.newClient(\"{addresses}\", new ExponentialBackoffRetry(100, 3))
  farrier status --server {addresses}
  echo srvr | nc {first}

Ctrl-C stops it.
"
    )
}

/// Runs `command` until it ends and returns the code to exit with. A server that halts ends the command as well, which would
/// wait for it, and is an error.
fn run_command(
    command: &mut Command,
    cluster: &Cluster,
    send: &SyncSender<Event>,
    events: &Receiver<Event>,
) -> anyhow::Result<ExitCode> {
    let mut child = match command.env("FARRIER_SERVER", cluster.connect_string()).spawn() {
        Ok(child) => child,
        Err(error) => {
            complain("farrier dev: error", format_args!("{} can't be run: {error}", command.get_program().display()));
            return Ok(ExitCode::from(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }));
        }
    };
    let id = Pid::from_child(&child);
    let wait = |child: &mut Child| Event::CommandEnded(child.wait());
    thread::scope(|scope| {
        scope.spawn(|| send.try_send(wait(&mut child)));
        let mut signals = 0;
        let ended = loop {
            match events.recv().context("this function holds a sender")? {
                Event::CommandEnded(ended) => break ended,
                Event::Stop(signal) => {
                    signals += 1;
                    pass_on(signal, signals, id);
                }
                Event::ServerEnded(index, ExitReason::Halted(reason)) => {
                    let what = cluster::halted(index, &reason);
                    // At once: the command's end can take a while.
                    tracing::error!("{what}");
                    end(id, events);
                    bail!(what);
                }
                Event::ServerEnded(_, ExitReason::Stopped) => {}
            }
        };
        Ok(ExitCode::from(code_of(ended.context("the command can't be waited for")?)))
    })
}

/// Asks the command to end, and after a while ends it.
fn end(id: Pid, events: &Receiver<Event>) {
    send_signal(id, Signal::TERM);
    let deadline = Instant::now() + COMMAND_END_MAX;
    while let Ok(event) = events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if let Event::CommandEnded(_) = event {
            return;
        }
    }
    send_signal(id, Signal::KILL);
}

/// Passes a signal on to the command. A Ctrl-C on a terminal has reached it already, as it reaches
/// everything in the foreground; the second one ends it for good.
fn pass_on(signal: StopSignal, count: u32, id: Pid) {
    let sent = match (signal, count) {
        (StopSignal::Interrupt, 1) if io::stdin().is_terminal() => return,
        (StopSignal::Interrupt, 1) => Signal::INT,
        // Where the whole group of the terminal gets it, the command does twice.
        (StopSignal::HangUp, 1) => Signal::HUP,
        (StopSignal::Interrupt | StopSignal::Terminate | StopSignal::HangUp, _) => Signal::TERM,
    };
    send_signal(id, sent);
}

fn send_signal(id: Pid, signal: Signal) {
    // It may have ended in this moment.
    let _ = kill_process(id, signal);
}

/// A shell's code for `status`.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(SERVER_FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_a_shells() {
        assert_eq!(code_of(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(code_of(ExitStatus::from_raw(0)), 0);
        assert_eq!(code_of(ExitStatus::from_raw(9)), 137);
    }

    #[test]
    fn the_examples_use_the_connect_string() {
        let text = examples("127.0.0.1:2188,127.0.0.1:2189");
        assert_eq!(text.matches("127.0.0.1:2188,127.0.0.1:2189").count(), 5);
        assert!(text.contains("nc 127.0.0.1 2188\n"));
    }
}
