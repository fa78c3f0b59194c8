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
}

impl StopSignal {
    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// The exit code of a program that it ends.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Interrupt => 128 + 2,
            Self::Terminate => 128 + 15,
        }
    }
}

/// The signals that ask to stop, for an event loop.
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// From now on neither ends this program.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The next one. Dropping the call loses none.
    pub(crate) async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            _ = self.terminate.recv() => StopSignal::Terminate,
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

/// Sends the first signals to `events` and ends the process at once on the one after [`PATIENCE`]; on the first one where
/// `starting` stays set, since nobody waits for events yet. When this returns, no signal is lost any more.
///
/// # Errors
/// The operating system refused the handlers.
pub(crate) fn listen(events: SyncSender<Event>, starting: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let (ready, registered) = sync_channel(1);
    let starting = starting.clone();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let Some((runtime, mut signals)) = register(&ready, StopSignals::listen) else { return };
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
    let install = || {
        let hang_up = if ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok((StopSignals::listen()?, hang_up))
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let Some((runtime, (mut signals, mut hang_up))) = register(&ready, install) else { return };
        runtime.block_on(async {
            loop {
                let hung_up = async {
                    match &mut hang_up {
                        Some(hang_up) => hang_up.recv().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    _ = signals.next() => {}
                    _ = hung_up => {}
                }
                stop.store(true, Ordering::Relaxed);
            }
        });
    })?;
    registered.recv()??;
    Ok(())
}

/// Whether this program was started to outlive its terminal, as with nohup.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::trim);
    // Signal 1 is the lowest bit.
    mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask & 1 == 1)
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
