//! `farrier server`: the server that a configuration describes, until it is told to stop.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread;

use clap::Args;
use farrier_server::config::{self, ConfigError, Loaded, Overrides};
use farrier_server::{ExitReason, Server};

use crate::logging::{self, LogOptions};
use crate::memory;
use crate::open_files;
use crate::output::{complain, print};
use crate::signals::{self, Event, StopSignals};

const EXAMPLES: &str = "\
Examples:
  farrier server zoo.cfg
  farrier server zoo.cfg --check
  farrier server zoo.cfg --set clientPort=2182 --set dataDir=/tmp/try
  farrier server 2181 /var/lib/zookeeper

-D items in SERVER_JVMFLAGS and JVMFLAGS count as they do for Apache; the file overrides them, and
--set overrides both. java.env and zookeeper-env.sh beside the file are not executed: what only they set
is warned of, and refused where it demands protection.

Exit codes: 0 stopped on request or check passed, 1 the server failed, 2 arguments or configuration,
3 data directory, 14 a port for the other servers can't be had, 128+N signal N came before it
served, or a third time.";

/// Options of `farrier server`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A configuration file; or Apache's bare form: PORT DATADIR TICKTIME MAXCNXNS, of which the last two may be left out
    #[arg(required = true, num_args = 1..=4, value_name = "ZOO.CFG")]
    what: Vec<String>,

    /// Print the values that count and where each comes from; don't start
    #[arg(long)]
    check: bool,

    /// Set a key, over the file (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_set)]
    set: Vec<(String, String)>,

    #[command(flatten)]
    log: LogOptions,
}

pub(crate) fn parse_set(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let loaded = match load(arguments) {
        Ok(loaded) => loaded,
        Err(error) => return refuse("server", &error),
    };
    if arguments.check {
        return check(&loaded);
    }
    if let Err(error) = loaded.config.runnable() {
        return refuse("server", &error);
    }
    logging::start(&arguments.log, "info");
    serve(loaded)
}

fn load(arguments: &Arguments) -> Result<Loaded, ConfigError> {
    match arguments.what.as_slice() {
        [file] => load_file(Path::new(file), &arguments.set),
        bare => with_overrides(&arguments.set, |overrides| config::from_arguments(bare, overrides)),
    }
}

/// Reads a configuration file with what the environment and the command line say besides.
pub(crate) fn load_file(file: &Path, set: &[(String, String)]) -> Result<Loaded, ConfigError> {
    with_overrides(set, |overrides| config::load(file, overrides))
}

fn with_overrides<T>(set: &[(String, String)], load: impl FnOnce(&Overrides<'_>) -> T) -> T {
    let flags: Vec<(&str, String)> = ["SERVER_JVMFLAGS", "JVMFLAGS"]
        .into_iter()
        .filter_map(|name| std::env::var_os(name).map(|text| (name, text.to_string_lossy().into_owned())))
        .collect();
    let flags: Vec<(&str, &str)> = flags.iter().map(|(name, text)| (*name, text.as_str())).collect();
    load(&Overrides { jvm_flags: &flags, sets: set })
}

/// Tells why a configuration is of no use to `command`.
pub(crate) fn refuse(command: &str, error: &ConfigError) -> ExitCode {
    for problem in &error.problems {
        complain(&format!("farrier {command}: error"), format_args!("{}: {}", problem.place, problem.message));
    }
    ExitCode::from(ConfigError::EXIT_CODE)
}

fn check(loaded: &Loaded) -> ExitCode {
    for warning in &loaded.warnings {
        complain("farrier server: warning", warning);
    }
    if let Err(error) = print(&config::render(&loaded.effective)) {
        complain("farrier server: error", format_args!("standard output can't be written: {error}"));
        return ExitCode::FAILURE;
    }
    match loaded.config.runnable() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse("server", &error),
    }
}

fn serve(loaded: Loaded) -> ExitCode {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let (send, events) = signals::events(1);
    let starting = Arc::new(AtomicBool::new(true));
    if let Err(error) = signals::listen(send.clone(), &starting, StopSignals::listen) {
        complain("farrier server: error", format_args!("signals can't be handled: {error:#}"));
        return ExitCode::FAILURE;
    }
    open_files::raise();
    memory::grow(&loaded.config.data_dir);
    let server = match Server::start(loaded.config) {
        Ok(server) => server,
        Err(error) => {
            tracing::error!("not started: {error}");
            return ExitCode::from(error.exit_code());
        }
    };
    starting.store(false, Ordering::Relaxed);
    match run_until_stopped(&server, &send, &events) {
        ExitReason::Stopped => ExitCode::SUCCESS,
        ExitReason::Halted(reason) => {
            tracing::error!("halted: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Waits until a signal stops the server or it ends by itself.
pub(crate) fn run_until_stopped(server: &Server, send: &SyncSender<Event>, events: &Receiver<Event>) -> ExitReason {
    thread::scope(|scope| {
        scope.spawn(|| send.try_send(Event::ServerEnded(0, server.wait())));
        for event in events {
            match event {
                Event::Stop(signal) => {
                    tracing::info!("{}: stopping", signal.name());
                    server.stop();
                }
                Event::ServerEnded(_, reason) => return reason,
                Event::CommandEnded(_) => {}
            }
        }
        unreachable!("this function holds a sender")
    })
}
