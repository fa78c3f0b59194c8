//! What a command that runs a server waits for: signals, and the ends of what it started.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use farrier_server::ExitReason;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that asks the program to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopSignal {
    /// Ctrl-C.
    Interrupt,
    /// A service manager.
    Terminate,
    /// The end of the terminal.
    HangUp,
}

impl StopSignal {
    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::HangUp => "SIGHUP",
        }
    }

    /// The exit code of a program that it ends.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Interrupt => 128 + 2,
            Self::Terminate => 128 + 15,
            Self::HangUp => 128 + 1,
        }
    }
}

/// The signals that ask to stop, for an event loop.
pub(crate) struct StopSignals {
    interrupt: Option<Signal>,
    terminate: Signal,
    hang_up: Option<Signal>,
}

impl StopSignals {
    /// From now on neither of the two that are sent on purpose ends this program; the end of the terminal does.
    pub(crate) fn listen() -> io::Result<Self> {
        let interrupt = Some(signal(SignalKind::interrupt())?);
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())?, hang_up: None })
    }

    /// The same, and the end of the terminal, unless whoever started this program had it ignore that.
    pub(crate) fn with_hang_up() -> io::Result<Self> {
        Ok(Self { hang_up: unless_ignored(SignalKind::hangup())?, ..Self::listen()? })
    }

    /// The same, but Ctrl-C stays ignored as well where whoever started this program had it ignore that: a shell does so
    /// with what a script runs in the background.
    pub(crate) fn as_started() -> io::Result<Self> {
        let (interrupt, hang_up) = (unless_ignored(SignalKind::interrupt())?, unless_ignored(SignalKind::hangup())?);
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())?, hang_up })
    }

    /// The next one. Dropping the call loses none.
    pub(crate) async fn next(&mut self) -> StopSignal {
        tokio::select! {
            () = next_of(&mut self.interrupt) => StopSignal::Interrupt,
            _ = self.terminate.recv() => StopSignal::Terminate,
            () = next_of(&mut self.hang_up) => StopSignal::HangUp,
        }
    }
}

/// What the main thread waits for.
#[derive(Debug)]
pub(crate) enum Event {
    /// A signal asks to stop.
    Stop(StopSignal),
    /// A server ended, by itself or because it was stopped: its place in the order of the started, and why.
    ServerEnded(usize, ExitReason),
    /// The command that runs beside the server ended.
    CommandEnded(io::Result<ExitStatus>),
}

/// Ends of the queue of events, with room for all that can happen: the signals up to [`PATIENCE`], the
/// ends of the servers, the end of the command.
pub(crate) fn events(servers: usize) -> (SyncSender<Event>, Receiver<Event>) {
    sync_channel(PATIENCE + servers + 1)
}

/// How often a signal may repeat before the program gives up on an orderly end.
const PATIENCE: usize = 2;

/// How long a start may still take to be over once it is asked to end: it serves before its caller knows.
const STARTED_MAX: Duration = Duration::from_secs(2);

/// Pause between two looks whether it is.
const LOOK: Duration = Duration::from_millis(20);

/// Sends the first of these signals to `events` and ends the process at once on the one after [`PATIENCE`]; on the first one where
/// `starting` stays set, since nobody waits for events yet. When this returns, no signal is lost any more.
///
/// # Errors
/// The operating system refused the handlers.
pub(crate) fn listen(
    events: SyncSender<Event>,
    starting: &Arc<AtomicBool>,
    which: fn() -> io::Result<StopSignals>,
) -> anyhow::Result<()> {
    let (ready, registered) = sync_channel(1);
    let starting = starting.clone();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let Some((runtime, mut signals)) = register(&ready, which) else { return };
        runtime.block_on(async {
            for count in 1.. {
                let found = signals.next().await;
                let asked = Instant::now();
                while starting.load(Ordering::Relaxed) && asked.elapsed() < STARTED_MAX {
                    tokio::time::sleep(LOOK).await;
                }
                if starting.load(Ordering::Relaxed) {
                    // Whatever the start has done so far, the next one goes on from there, as after a kill.
                    tracing::info!("{}: ends before it served", found.name());
                    std::process::exit(found.code().into());
                }
                if count > PATIENCE {
                    std::process::exit(found.code().into());
                }
                // If nobody waits any more, the program is ending.
                drop(events.try_send(Event::Stop(found)));
            }
        });
    })?;
    registered.recv()??;
    Ok(())
}

/// From now on the signals that ask to stop set `stop`, and so does the end of the terminal, unless whoever started this
/// program had it ignore that; none of them ends it. When this returns, no signal is lost any more.
///
/// # Errors
/// The operating system refused the handlers.
pub(crate) fn flag(stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let (ready, registered) = sync_channel(1);
    let stop = stop.clone();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let Some((runtime, mut signals)) = register(&ready, StopSignals::with_hang_up) else { return };
        runtime.block_on(async {
            loop {
                signals.next().await;
                stop.store(true, Ordering::Relaxed);
            }
        });
    })?;
    registered.recv()??;
    Ok(())
}

/// A handler, unless this program was started with that signal ignored: to outlive its terminal, as with nohup, or in the
/// background of a script.
fn unless_ignored(kind: SignalKind) -> io::Result<Option<Signal>> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::trim);
    let mask = mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or_default();
    // Signal 1 is the lowest bit.
    let is_ignored = mask >> (kind.as_raw_value() - 1) & 1 == 1;
    if is_ignored { Ok(None) } else { signal(kind).map(Some) }
}

/// From now on Ctrl-C does not end this program.
pub(crate) fn catch_interrupt() -> io::Result<Signal> {
    signal(SignalKind::interrupt())
}

/// Waits for a signal, or for ever where there is no handler. Dropping the call loses none.
async fn next_of(handled: &mut Option<Signal>) {
    match handled {
        Some(handled) => drop(handled.recv().await),
        None => std::future::pending().await,
    }
}

/// Installs the handlers on this thread's runtime and reports the outcome.
fn register<T>(
    ready: &SyncSender<io::Result<()>>,
    handlers: impl FnOnce() -> io::Result<T>,
) -> Option<(tokio::runtime::Runtime, T)> {
    let install = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        let signals = handlers()?;
        drop(guard);
        Ok((runtime, signals))
    };
    match install() {
        Ok(installed) => {
            ready.send(Ok(())).ok()?;
            Some(installed)
        }
        Err(error) => {
            // The receiver waits for exactly this; if it is gone, the program is ending.
            let _ = ready.send(Err(error));
            None
        }
    }
}
