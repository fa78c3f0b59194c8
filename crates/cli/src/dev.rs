//! `farrier dev`: servers to try things with, on this machine only.

mod cluster;
mod place;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread;

use anyhow::Context as _;
use clap::Args;

use crate::logging::{self, LogOptions};
use crate::output::{complain, print};
use crate::signals::{self, Event, StopSignal};
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

Exit codes: 0 stopped on request, 1 the server failed, 2 usage. With a command: its own, 128+N when
signal N ended it, 125 the server didn't start, 126 the command can't be run, 127 it isn't found.";

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

    /// First port to try; the next free ones are taken [default: 2181, or the ports that --data keeps]
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

/// Failure before the command ran.
const NOT_STARTED: u8 = 125;

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    logging::start(&arguments.log, "warn");
    match start_and_wait(arguments) {
        Ok(code) => code,
        Err(error) => {
            complain("farrier dev: error", format_args!("{error:#}"));
            if arguments.command.is_empty() { ExitCode::FAILURE } else { ExitCode::from(NOT_STARTED) }
        }
    }
}

fn start_and_wait(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (send, events) = signals::events(usize::from(SERVERS_MAX));
    signals::listen(send.clone()).context("signals can't be handled")?;

    let place = Place::prepare(arguments.data.as_deref())?;
    let count = place.count(arguments.servers, SERVERS)?;
    let turn = place::turn_to_choose();
    let ports = place.choose_ports(count, arguments.port)?;
    let cluster = Cluster::start(&place, &ports)?;
    // Every port is taken now.
    drop(turn);
    place.keep(&cluster.client_ports())?;
    // A signal ends the wait as it ends the servers.
    if !cluster.wait_serving(&events)? {
        cluster.stop();
        return Ok(if arguments.command.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(NOT_STARTED) });
    }

    let addresses = cluster.connect_string();
    match arguments.command.split_first() {
        None => {
            if let Err(error) = print(&format!("connect string: {addresses}\n{}", examples(&addresses))) {
                tracing::warn!("standard output can't be written: {error}");
            }
            cluster.run_until_stopped(&send, &events)?;
            Ok(ExitCode::SUCCESS)
        }
        Some((program, words)) => {
            // Standard output is the command's.
            complain("connect string", &addresses);
            let code = run_command(Command::new(program).args(words), &addresses, &send, &events);
            cluster.stop();
            Ok(code)
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

/// Runs `command` until it ends and returns the code to exit with.
fn run_command(command: &mut Command, addresses: &str, send: &SyncSender<Event>, events: &Receiver<Event>) -> ExitCode {
    let mut child = match command.env("FARRIER_SERVER", addresses).spawn() {
        Ok(child) => child,
        Err(error) => {
            complain("farrier dev: error", format_args!("{} can't be run: {error}", command.get_program().display()));
            return ExitCode::from(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 });
        }
    };
    let id = rustix::process::Pid::from_child(&child);
    let wait = |child: &mut Child| Event::CommandEnded(child.wait());
    thread::scope(|scope| {
        scope.spawn(|| send.try_send(wait(&mut child)));
        let mut signals = 0;
        for event in events {
            match event {
                Event::CommandEnded(Ok(status)) => return ExitCode::from(code_of(status)),
                Event::CommandEnded(Err(error)) => {
                    complain("farrier dev: error", format_args!("the command can't be waited for: {error}"));
                    return ExitCode::from(NOT_STARTED);
                }
                Event::Stop(signal) => {
                    signals += 1;
                    pass_on(signal, signals, id);
                }
                Event::ServerEnded(..) => {}
            }
        }
        unreachable!("this function holds a sender")
    })
}

/// Passes a signal on to the command. A Ctrl-C on a terminal has reached it already, as it reaches
/// everything in the foreground; the second one ends it for good.
fn pass_on(signal: StopSignal, count: u32, id: rustix::process::Pid) {
    use rustix::process::{Signal, kill_process};
    let sent = match (signal, count) {
        (StopSignal::Interrupt, 1) if io::stdin().is_terminal() => return,
        (StopSignal::Interrupt, 1) => Signal::INT,
        (StopSignal::Interrupt | StopSignal::Terminate, _) => Signal::TERM,
    };
    // It may have ended in this moment.
    let _ = kill_process(id, sent);
}

/// A shell's code for `status`.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(NOT_STARTED)
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
