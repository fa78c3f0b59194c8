//! What a command that runs a server waits for: signals, and the ends of what it started.

use std::io;
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

/// Sends the first signals to `events` and ends the process at once on the one after [`PATIENCE`].
/// When this returns, no signal is lost any more.
///
/// # Errors
/// The operating system refused the handlers.
pub(crate) fn listen(events: SyncSender<Event>) -> anyhow::Result<()> {
    let (ready, registered) = sync_channel(1);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let Some((runtime, mut signals)) = register(&ready) else { return };
        runtime.block_on(async {
            for count in 1.. {
                let found = signals.next().await;
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

/// Installs the handlers on this thread's runtime and reports the outcome.
fn register(ready: &SyncSender<io::Result<()>>) -> Option<(tokio::runtime::Runtime, StopSignals)> {
    let install = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let guard = runtime.enter();
        let signals = StopSignals::listen()?;
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
