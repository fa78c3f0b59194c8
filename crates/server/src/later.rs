//! Packets for peers that a worker writes before it sleeps.
//!
//! What the requests of one connection bring is often followed by those of the next: one write takes all of them, and wakes
//! the peer once. Each thread knows what it has put off; it is written by others meanwhile where they flush the
//! same link.

use crate::peers::Port;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::sync::Arc;

/// Turns of connections after which a worker that does not sleep writes.
const TURNS_MAX: usize = 8;

#[derive(Debug, Default)]
struct Later {
    ports: SmallVec<[Arc<Port>; 4]>,
    turns: usize,
}

thread_local! {
    static LATER: RefCell<Later> = RefCell::default();
}

/// Something was put into the outboxes of these links. [`flush`] follows before this thread sleeps.
pub(crate) fn put_off(ports: impl IntoIterator<Item = Arc<Port>>) {
    let due = LATER.with_borrow_mut(|later| {
        for port in ports {
            if !later.ports.iter().any(|known| Arc::ptr_eq(known, &port)) {
                later.ports.push(port);
            }
        }
        if later.ports.is_empty() {
            return false;
        }
        later.turns += 1;
        later.turns == TURNS_MAX
    });
    if due {
        flush();
    }
}

/// Writes what was put off.
pub(crate) fn flush() {
    let Later { ports, .. } = LATER.take();
    for port in ports {
        port.flush();
    }
}
