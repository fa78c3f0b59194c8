//! One worker's connections, as every thread reaches them.
//!
//! What the replica emitted for them is written by the worker, or, if it is little, by whoever stepped the replica: to wake
//! another thread up costs more than a few writes.

use crate::connection::Conn;
use crate::core::Core;
use crate::outbox::{Deliveries, Delivery, Outbox, Writing};
use farrier_replica::{ConnId, Input};
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug, Default)]
struct Conns {
    /// The server counts names of connections up, so nobody chooses them.
    by_id: HashMap<ConnId, Arc<Conn>, FixedState>,
    dirty: Vec<Arc<Conn>>,
}

/// A worker's outbox, and the connections whose sockets it is written to.
#[derive(Debug, Default)]
pub(crate) struct Desk(Writing<Conns>);

impl Desk {
    pub(crate) const fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }

    pub(crate) fn register(&self, conn: &Arc<Conn>) {
        self.0.with(|conns| conns.by_id.insert(conn.id(), conn.clone()));
    }

    pub(crate) fn unregister(&self, id: ConnId) {
        self.0.with(|conns| conns.by_id.remove(&id));
    }

    pub(crate) fn connections(&self) -> Vec<Arc<Conn>> {
        self.0.with(|conns| conns.by_id.values().cloned().collect())
    }

    /// The worker is gone, and nothing is written for it any more.
    pub(crate) fn clear(&self) {
        self.0.with(|conns| conns.by_id.clear());
    }

    /// For the worker: hands out everything that waits, and writes it.
    pub(crate) fn deliver(&self, core: &Core) {
        // A report of a flush may bring new deliveries; each round needs a megabyte to have been sent, so
        // rounds end.
        loop {
            let drained = self.0.deliver(Conns::write);
            if drained.is_empty() {
                return;
            }
            report(core, drained);
        }
    }

    /// For whoever stepped the replica: writes what waits if it is little and nobody else is at it, and leaves it to the
    /// worker otherwise. `budget` is what is still little.
    pub(crate) fn deliver_or_wake(&self, core: &Core, budget: &mut usize) {
        if let Some(drained) = self.0.deliver_or_wake(budget, Conns::write) {
            report(core, drained);
        }
    }
}

impl Conns {
    /// Hands the batch out and writes it, one write per connection. Connections that everything was sent to, where somebody
    /// wants to know.
    fn write(&mut self, batch: &mut Deliveries) -> Vec<ConnId> {
        let Self { by_id, dirty } = self;
        if let Some((id, frames)) = batch.only_frames()
            && by_id.get(&id).is_none_or(|conn| conn.send(frames))
        {
            batch.clear();
            return Vec::new();
        }
        batch.drain(|id, delivery| {
            let Some(conn) = by_id.get(&id) else { return };
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
