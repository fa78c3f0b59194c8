//! `farrier dev`: a server to try things with, on this machine only.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{self, IsTerminal as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread;

use anyhow::{Context as _, bail};
use clap::Args;
use farrier_server::config::{FourLetterWords, ServerConfig, properties};
use farrier_server::{ExitReason, Server};

use crate::logging::{self, LogOptions};
use crate::output::{complain, print};
use crate::server::run_until_stopped;
use crate::signals::{self, Event, StopSignal};

const EXAMPLES: &str = "\
Examples:
  farrier dev
  farrier dev --data ./zk           keeps its data and its port
  farrier dev -- pytest tests/      runs the command with FARRIER_SERVER set, then stops

Every four-letter word is answered, TTL nodes are on, connections aren't limited, writes are synced.

Exit codes: 0 stopped on request, 1 the server failed, 2 usage. With a command: its own, 128+N when
signal N ended it, 125 the server didn't start, 126 the command can't be run, 127 it isn't found.";

/// Options of `farrier dev`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Keep data and port in DIR (made if missing) instead of a temporary directory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// First port to try; the next free one is taken [default: 2181, or the port that --data kept]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,

    #[command(flatten)]
    log: LogOptions,

    /// Run this with FARRIER_SERVER set, stop after it, and exit with its code
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// First port that is tried.
const PORT: u16 = 2181;

/// Ports that are tried from the first one on.
const PORTS_MAX: u16 = 100;

/// File in `--data DIR` that keeps the number of servers and their ports.
const KEPT: &str = "farrier-dev.properties";

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
    let (send, events) = signals::events();
    signals::listen(send.clone()).context("signals can't be handled")?;

    let place = Place::prepare(arguments.data.as_deref())?;
    let port = place.choose_port(arguments.port)?;
    let server = Server::start(config(&place.server_dir(), port)).map_err(|e| anyhow::anyhow!("not started: {e}"))?;
    let address = server.client_addr();
    place.keep(address.port())?;

    let code = match arguments.command.split_first() {
        None => {
            announce(address, true);
            match run_until_stopped(&server, &send, &events) {
                ExitReason::Stopped => ExitCode::SUCCESS,
                ExitReason::Halted(reason) => bail!("the server halted: {reason}"),
            }
        }
        Some((program, words)) => {
            announce(address, false);
            let code = run_command(Command::new(program).args(words), address, &send, &events);
            server.stop();
            code
        }
    };
    Ok(code)
}

/// Loopback, everything that helps to try things, nothing that loses data.
fn config(dir: &Path, port: u16) -> ServerConfig {
    let mut config = ServerConfig::standalone(dir, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    config.tick_time_ms = 2000;
    config.min_session_timeout_ms = 2 * config.tick_time_ms;
    config.max_session_timeout_ms = 20 * config.tick_time_ms;
    config.client.max_per_address = 0;
    config.tree.extended_types = true;
    config.words = FourLetterWords::All;
    config
}

/// Prints the connect string, which scripts read from the first line, and lines to try.
fn announce(address: SocketAddr, with_examples: bool) {
    let mut text = format!("connect string: {address}\n");
    if with_examples {
        text.push_str(&examples(address));
    }
    if let Err(error) = print(&text) {
        tracing::warn!("standard output can't be written: {error}");
    }
}

fn examples(address: SocketAddr) -> String {
    let port = address.port();
    format!(
        "
Try:
  zkCli.sh -server {address} ls /
  python3 -c 'from kazoo.client import KazooClient; z = KazooClient(\"{address}\"); z.start(); print(z.get_children(\"/\"))'
  go:     conn, _, err := zk.Connect([]string{{\"{address}\"}}, 10*time.Second)
  java:   CuratorFrameworkFactory.newClient(\"{address}\", new ExponentialBackoffRetry(100, 3))
  echo srvr | nc 127.0.0.1 {port}

Ctrl-C stops it.
"
    )
}

/// Where the data is: a directory that stays, or one that goes when this does.
#[derive(Debug)]
struct Place {
    dir: PathBuf,
    temporary: bool,
    /// Port that the directory kept from an earlier run.
    kept: Option<u16>,
}

impl Place {
    fn prepare(data: Option<&Path>) -> anyhow::Result<Self> {
        let Some(dir) = data else {
            return Ok(Self { dir: temporary_dir()?, temporary: true, kept: None });
        };
        fs::create_dir_all(dir).with_context(|| format!("{} can't be made", dir.display()))?;
        let file = dir.join(KEPT);
        let kept = match fs::read(&file) {
            Ok(bytes) => Some(read_kept(&bytes).with_context(|| file.display().to_string())?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("{} can't be read", file.display())),
        };
        Ok(Self { dir: dir.to_owned(), temporary: false, kept })
    }

    /// The directory of the first server.
    fn server_dir(&self) -> PathBuf {
        self.dir.join("1")
    }

    /// A free port from `wanted` on; the one that was kept is never exchanged in silence.
    fn choose_port(&self, wanted: Option<u16>) -> anyhow::Result<u16> {
        if let (None, Some(kept)) = (wanted, self.kept) {
            if !is_free(kept) {
                let file = self.dir.join(KEPT);
                bail!("port {kept}, which {} keeps, is taken; stop what uses it, or give --port", file.display());
            }
            return Ok(kept);
        }
        let first = wanted.unwrap_or(PORT);
        let last = first.saturating_add(PORTS_MAX - 1);
        (first..=last).find(|&port| is_free(port)).with_context(|| format!("no port from {first} to {last} is free"))
    }

    /// Writes down the number of servers and the port, for the next run.
    fn keep(&self, port: u16) -> anyhow::Result<()> {
        if self.temporary || self.kept == Some(port) {
            return Ok(());
        }
        let (file, fresh) = (self.dir.join(KEPT), self.dir.join("farrier-dev.tmp"));
        let text = format!("# Written by farrier dev.\nservers=1\nports={port}\n");
        let written = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &file));
        written.with_context(|| format!("{} can't be written", file.display()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            tracing::warn!("{} can't be removed: {error}", self.dir.display());
        }
    }
}

/// A fresh directory that only this user can enter.
fn temporary_dir() -> anyhow::Result<PathBuf> {
    let parent = std::env::temp_dir();
    for attempt in 0..1000 {
        let dir = parent.join(format!("farrier-dev-{}-{attempt}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("{} can't be made", dir.display())),
        }
    }
    bail!("{} has a thousand directories of this name", parent.display())
}

/// The port of a directory that one server used.
fn read_kept(bytes: &[u8]) -> anyhow::Result<u16> {
    let found = properties::parse(bytes).map_err(|error| anyhow::anyhow!("line {}: {}", error.line, error.message))?;
    let value = |key: &str| found.entries.iter().rev().find(|e| e.key == key).map(|e| e.value.as_str());
    let servers = value("servers").context("no line `servers=`")?;
    if servers != "1" {
        bail!(
            "the directory belongs to {servers} servers, and another number can't be made of them; use another directory"
        );
    }
    let ports = value("ports").context("no line `ports=`")?;
    ports.parse().ok().filter(|&port| port > 0).with_context(|| format!("ports={ports}: expected one port"))
}

/// Whether nobody listens on `port` of the loopback address. The server binds it again right after.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Runs `command` until it ends and returns the code to exit with.
fn run_command(
    command: &mut Command,
    address: SocketAddr,
    send: &SyncSender<Event>,
    events: &Receiver<Event>,
) -> ExitCode {
    let mut child = match command.env("FARRIER_SERVER", address.to_string()).spawn() {
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
                Event::ServerEnded(_) => {}
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
    fn the_kept_file_names_one_server_and_its_port() {
        assert_eq!(read_kept(b"# x\nservers=1\nports=2183\n").expect("valid"), 2183);
        for (text, why) in [
            (&b"servers=3\nports=1,2,3"[..], "belongs to 3 servers"),
            (b"ports=1", "no line `servers=`"),
            (b"servers=1", "no line `ports=`"),
            (b"servers=1\nports=0", "expected one port"),
            (b"servers=1\nports=\\u1", "line 2"),
        ] {
            let error = read_kept(text).expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_taken_port_gives_way_to_the_next_unless_it_was_kept() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = taken.local_addr().expect("it is bound").port();
        let place = |kept| Place { dir: PathBuf::from("/nowhere"), temporary: false, kept };
        if let Ok(chosen) = place(None).choose_port(Some(port)) {
            assert!(chosen > port);
        }
        let error = place(Some(port)).choose_port(None).expect_err("it is taken").to_string();
        assert!(error.contains(&format!("port {port}, which /nowhere/{KEPT} keeps, is taken")), "{error}");
    }

    #[test]
    fn a_place_keeps_what_it_was_given_and_a_temporary_one_goes() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join("zk");
        let place = Place::prepare(Some(&data)).expect("made");
        assert_eq!(place.kept, None);
        place.keep(2199).expect("written");
        drop(place);
        assert_eq!(Place::prepare(Some(&data)).expect("read").kept, Some(2199));

        let place = Place::prepare(None).expect("made");
        let gone = place.dir.clone();
        assert!(gone.is_dir());
        drop(place);
        assert!(!gone.exists());
    }

    #[test]
    fn the_connect_string_is_an_address_and_the_examples_use_it() {
        let text = examples(SocketAddr::from((Ipv4Addr::LOCALHOST, 2188)));
        assert_eq!(text.matches("127.0.0.1:2188").count(), 4);
        assert!(text.contains("nc 127.0.0.1 2188"));
    }
}
