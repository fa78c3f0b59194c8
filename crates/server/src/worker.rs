//! A network worker: one thread, one current-thread runtime, its share of the connections.

use crate::accept::Acceptor;
use crate::connection::{self, Conn};
use crate::core::Core;
use crate::desk::Desk;
use crate::limits::ConnectionLimits;
use crate::peers::later;
use crate::words::WordSettings;
use farrier_replica::{ConnId, Input};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// Accepted sockets on their way to another worker.
pub(crate) const HAND_OFF_MAX: usize = 1024;

/// Most threads that read files for the four-letter words of one worker.
const ASIDE_MAX: usize = 2;

/// What a worker is told at its start.
#[derive(Clone, Debug)]
pub(crate) struct WorkerSettings {
    /// Longest frame in bytes.
    pub(crate) frame_max: usize,
    /// How long a socket may stay without a connect request.
    pub(crate) sessionless_timeout: Duration,
    /// Connections per address and in total.
    pub(crate) limits: Arc<ConnectionLimits>,
    /// For the four-letter words.
    pub(crate) words: Arc<WordSettings>,
}

/// A worker as its own tasks see it. Never leaves the thread.
pub(crate) struct WorkerContext {
    core: Arc<Core>,
    index: usize,
    settings: WorkerSettings,
    /// Number of connections.
    count: Cell<usize>,
}

impl WorkerContext {
    pub(crate) fn new(core: &Arc<Core>, index: usize, settings: WorkerSettings) -> Self {
        Self { core: core.clone(), index, settings, count: Cell::new(0) }
    }

    /// Serves a connection that counts against the limits.
    pub(crate) fn serve(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        tokio::task::spawn_local(connection::serve(self.clone(), stream, peer));
    }

    /// Without this worker the server is none.
    pub(crate) fn fail(&self, error: &str) {
        fail(&self.core, error);
    }

    #[cfg(test)]
    pub(crate) fn only_connection(&self) -> Option<Arc<Conn>> {
        self.desk().connections().pop()
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    pub(crate) const fn index(&self) -> usize {
        self.index
    }

    pub(crate) const fn frame_max(&self) -> usize {
        self.settings.frame_max
    }

    pub(crate) const fn sessionless_timeout(&self) -> Duration {
        self.settings.sessionless_timeout
    }

    pub(crate) fn limits(&self) -> &ConnectionLimits {
        &self.settings.limits
    }

    pub(crate) fn words(&self) -> &WordSettings {
        &self.settings.words
    }

    /// Whether memory should be given back rather than kept for the next request: with many connections,
    /// most are idle.
    pub(crate) fn is_idle(&self) -> bool {
        self.count.get() > 256
    }

    fn desk(&self) -> &Desk {
        self.core.desk(self.index)
    }

    pub(crate) fn register(&self, conn: &Arc<Conn>) {
        self.count.set(self.count.get() + 1);
        self.desk().register(conn);
    }

    pub(crate) fn unregister(&self, id: ConnId) {
        self.count.set(self.count.get() - 1);
        self.desk().unregister(id);
    }

    /// Announces that [`Self::deliver`] follows, so that nobody needs to wake this worker.
    pub(crate) fn attend(&self) {
        self.core.outbox(self.index).attend();
    }

    /// Hands out what the replica emitted for this worker's connections and writes it, one write per
    /// connection.
    pub(crate) fn deliver(&self) {
        self.desk().deliver(&self.core);
    }
}

fn fail(core: &Core, error: &str) {
    core.step(Input::WriteFailed { error: error.to_owned() });
}

/// Runs a worker until the server closes. The first one takes connections, for the others as well.
pub(crate) fn run(
    core: &Arc<Core>,
    index: usize,
    settings: WorkerSettings,
    mut accepted: mpsc::Receiver<(std::net::TcpStream, SocketAddr)>,
    acceptor: Option<Acceptor>,
) {
    let feeder = core.feeder();
    let feeding = feeder.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(ASIDE_MAX)
        .on_thread_park(move || {
            later::flush();
            feeder.sleeps();
        })
        .on_thread_unpark(move || feeding.wakes())
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(core, &format!("a network worker cannot start: {error}"));
        }
    };
    let context = Rc::new(WorkerContext::new(core, index, settings));
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let acceptor = acceptor.map(|acceptor| tokio::task::spawn_local(acceptor.run(context.clone())));
        loop {
            tokio::select! {
                biased;
                () = context.core.outbox(index).wait() => {
                    context.attend();
                    context.core.tell_durable();
                    context.deliver();
                    if context.core.is_closing() {
                        break;
                    }
                }
                socket = accepted.recv() => {
                    let Some((socket, peer)) = socket else { break };
                    match TcpStream::from_std(socket) {
                        Ok(stream) => context.serve(stream, peer),
                        Err(error) => {
                            tracing::warn!("cannot serve {peer}: {error}");
                            context.settings.limits.leave(peer.ip());
                        }
                    }
                }
            }
        }
        if let Some(acceptor) = acceptor {
            acceptor.abort();
        }
        accepted.close();
        while let Ok((_, peer)) = accepted.try_recv() {
            context.settings.limits.leave(peer.ip());
        }
        if context.core.is_killed() {
            return;
        }
        // Connections get their last replies and end; each is bounded in time.
        for conn in context.desk().connections() {
            conn.close();
        }
        let patience = tokio::time::Instant::now() + Duration::from_secs(2);
        while context.count.get() > 0 && tokio::time::Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    drop(local);
    later::flush();
    core.desk(index).clear();
}
