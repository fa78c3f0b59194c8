//! One worker's connections, as every thread reaches them.
//!
//! What the replica emitted for them is written by the worker, or, if it is little, by whoever stepped the replica: to wake
//! another thread up costs more than a few writes. The lock is held from taking a batch until it is written, so that batches
//! reach a socket in order, whoever writes them.

use crate::connection::Conn;
use crate::core::Core;
use crate::outbox::{Deliveries, Delivery, Outbox};
use farrier_replica::{ConnId, Input};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Debug, Default)]
struct Open {
    conns: HashMap<ConnId, Arc<Conn>>,
    deliveries: Deliveries,
    dirty: Vec<Arc<Conn>>,
}

/// A worker's outbox, and the connections whose sockets it is written to.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) outbox: Outbox,
    open: Mutex<Open>,
}

impl Desk {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("nothing panics while it holds this lock")
    }

    pub(crate) fn register(&self, conn: &Arc<Conn>) {
        self.open().conns.insert(conn.id(), conn.clone());
    }

    pub(crate) fn unregister(&self, id: ConnId) {
        self.open().conns.remove(&id);
    }

    /// The worker is gone, and nothing is written for it any more.
    pub(crate) fn clear(&self) {
        self.open().conns.clear();
    }

    pub(crate) fn connections(&self) -> Vec<Arc<Conn>> {
        self.open().conns.values().cloned().collect()
    }

    /// For the worker: hands out everything that waits, and writes it.
    pub(crate) fn deliver(&self, core: &Core) {
        // A report of a flush may bring new deliveries; each round needs a megabyte to have been sent, so
        // rounds end.
        loop {
            let mut open = self.open();
            self.outbox.take(&mut open.deliveries);
            let drained = open.write();
            drop(open);
            if drained.is_empty() {
                return;
            }
            report(core, drained);
        }
    }

    /// For whoever stepped the replica: writes what waits if it is little and nobody else is at it, and leaves it to the
    /// worker otherwise.
    pub(crate) fn deliver_or_wake(&self, core: &Core) {
        if let Ok(mut open) = self.open.try_lock()
            && self.outbox.take_little(&mut open.deliveries)
        {
            let drained = open.write();
            drop(open);
            report(core, drained);
        } else {
            self.outbox.wake();
        }
    }
}

impl Open {
    /// Hands the batch out and writes it, one write per connection. Connections that everything was sent to, where somebody
    /// wants to know.
    fn write(&mut self) -> Vec<ConnId> {
        let Self { conns, deliveries, dirty } = self;
        deliveries.drain(|id, delivery| {
            let Some(conn) = conns.get(&id) else { return };
            let newly = match delivery {
                Delivery::Send(frames) => conn.queue(frames),
                Delivery::ReportFlush => conn.report_flush(),
                Delivery::Close => {
                    conn.close();
                    false
                }
                Delivery::Pause => {
                    conn.pause();
                    false
                }
                Delivery::Resume => {
                    conn.resume();
                    false
                }
            };
            if newly {
                dirty.push(conn.clone());
            }
        });
        dirty.drain(..).filter(|conn| conn.flush()).map(|conn| conn.id()).collect()
    }
}

/// What may bring new deliveries, so not under the lock.
fn report(core: &Core, drained: Vec<ConnId>) {
    for conn in drained {
        core.step(Input::Flushed { conn });
    }
}
