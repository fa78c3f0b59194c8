//! What a command that runs a server waits for: signals, and the ends of what it started.

use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

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

    /// Its number, for the exit code of a program that it ends.
    const fn number(self) -> i32 {
        match self {
            Self::Interrupt => 2,
            Self::Terminate => 15,
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
    CommandEnded(std::io::Result<ExitStatus>),
}

/// Ends of the queue of events, with room for all that can happen: the signals up to [`PATIENCE`], the
/// ends of the servers, the end of the command.
pub(crate) fn events(servers: usize) -> (SyncSender<Event>, Receiver<Event>) {
    sync_channel(PATIENCE + servers + 1)
}

/// How often a signal may repeat before the program gives up on an orderly end.
const PATIENCE: usize = 2;

/// Sends the first signals to `events` and ends the process at once on the one after [`PATIENCE`].
/// When this returns, no signal is lost any more.
///
/// # Errors
/// The operating system refused the handlers.
pub(crate) fn listen(events: SyncSender<Event>) -> anyhow::Result<()> {
    let (ready, registered) = sync_channel(1);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let Some((runtime, mut interrupt, mut terminate)) = register(&ready) else { return };
        runtime.block_on(async {
            for count in 1.. {
                let found = tokio::select! {
                    _ = interrupt.recv() => StopSignal::Interrupt,
                    _ = terminate.recv() => StopSignal::Terminate,
                };
                if count > PATIENCE {
                    std::process::exit(128 + found.number());
                }
                // If nobody waits any more, the program is ending.
                drop(events.try_send(Event::Stop(found)));
            }
        });
    })?;
    registered.recv()??;
    Ok(())
}

/// Installs the handlers on this thread's runtime and reports the outcome.
fn register(ready: &SyncSender<std::io::Result<()>>) -> Option<(tokio::runtime::Runtime, Signal, Signal)> {
    let install = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let guard = runtime.enter();
        let handlers = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        drop(guard);
        Ok((runtime, handlers.0, handlers.1))
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
