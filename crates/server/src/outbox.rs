//! What the replica wants done with a worker's connections, in order. Filled under the replica's lock by
//! whoever stepped it, drained by the worker that owns the sockets, or by others where it is little ([`Desk`](crate::desk)).

use super::sync::{AtomicBool, Mutex, Notify, Ordering};
use farrier_replica::ConnId;

/// One thing to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery<'a> {
    /// Send these frames.
    Send(&'a [u8]),
    /// Close it once everything before is sent.
    Close,
    /// Stop reading frames.
    Pause,
    /// Read on.
    Resume,
    /// Report when nothing is left to send.
    ReportFlush,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Send(usize),
    Close,
    Pause,
    Resume,
    ReportFlush,
}

/// A batch of deliveries. Bounded by the replica, which stops taking requests of a connection long before
/// its replies pile up.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    items: Vec<(ConnId, Kind)>,
    bytes: Vec<u8>,
}

impl Deliveries {
    /// The frames, if that is all there is.
    pub(crate) fn only_frames(&self) -> Option<(ConnId, &[u8])> {
        let [(conn, Kind::Send(_))] = self.items[..] else { return None };
        Some((conn, &self.bytes))
    }

    /// Is empty afterwards.
    pub(crate) fn clear(&mut self) {
        self.drain(|_, _| ());
    }

    /// Hands every delivery to `f`, in order, and is empty afterwards.
    pub(crate) fn drain(&mut self, mut f: impl FnMut(ConnId, Delivery<'_>)) {
        let mut at = 0;
        for (conn, kind) in self.items.drain(..) {
            let delivery = match kind {
                Kind::Send(len) => {
                    at += len;
                    Delivery::Send(&self.bytes[at - len..at])
                }
                Kind::Close => Delivery::Close,
                Kind::Pause => Delivery::Pause,
                Kind::Resume => Delivery::Resume,
                Kind::ReportFlush => Delivery::ReportFlush,
            };
            f(conn, delivery);
        }
        self.bytes.clear();
        if self.bytes.capacity() > KEEP_MAX {
            self.bytes.shrink_to(KEEP_MAX);
        }
    }
}

/// Frames that whoever stepped the replica writes. What is more is done faster by the workers, beside the next step.
pub(crate) const LITTLE_MAX: usize = 4;

/// Bytes of those of one worker.
const LITTLE_BYTES_MAX: usize = 16 << 10;

/// Memory that is kept from batch to batch.
const KEEP_MAX: usize = 1 << 20;

/// The queue between the replica and one worker.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Deliveries>,
    /// Whether there may be something, so that an idle look costs no lock.
    filled: AtomicBool,
    notify: Notify,
    /// The worker is about to look anyway: no need to wake it.
    attended: AtomicBool,
}

impl Outbox {
    /// Appends. Only under the replica's lock.
    pub(crate) fn push(&self, conn: ConnId, delivery: Delivery<'_>) {
        let mut w = self.waiting.lock().expect("nothing panics while it holds this lock");
        let kind = match delivery {
            Delivery::Send(bytes) => {
                w.bytes.extend_from_slice(bytes);
                Kind::Send(bytes.len())
            }
            Delivery::Close => Kind::Close,
            Delivery::Pause => Kind::Pause,
            Delivery::Resume => Kind::Resume,
            Delivery::ReportFlush => Kind::ReportFlush,
        };
        w.items.push((conn, kind));
        // Before the look at `attended` in `wake`, as `take` clears that before it looks here: in one order
        // for both, or each could miss what the other did.
        self.filled.store(true, Ordering::SeqCst);
    }

    /// Tells the worker, unless it is about to look.
    pub(crate) fn wake(&self) {
        if !self.is_attended() {
            self.notify.notify_one();
        }
    }

    /// Tells the worker something that is not in the queue: that the server closes.
    pub(crate) fn wake_always(&self) {
        self.notify.notify_one();
    }

    /// The worker will look right after what it is doing now; no wake-ups until [`Self::take`].
    pub(crate) fn attend(&self) {
        self.attended.store(true, Ordering::SeqCst);
    }

    /// Swaps what waits for an empty batch.
    pub(crate) fn take(&self, into: &mut Deliveries) {
        debug_assert!(into.items.is_empty());
        self.attended.store(false, Ordering::SeqCst);
        if self.filled.load(Ordering::SeqCst) {
            let mut w = self.waiting.lock().expect("nothing panics while it holds this lock");
            self.filled.store(false, Ordering::SeqCst);
            std::mem::swap(&mut *w, into);
        }
    }

    /// The same for anybody who does the worker's work, if it is within this budget of frames and nothing but frames: what
    /// else there is to do concerns the worker's tasks.
    fn take_little(&self, into: &mut Deliveries, budget: &mut usize) -> bool {
        debug_assert!(into.items.is_empty());
        let mut w = self.waiting.lock().expect("nothing panics while it holds this lock");
        let little = w.items.len() <= *budget
            && w.bytes.len() <= LITTLE_BYTES_MAX
            && w.items.iter().all(|(_, kind)| matches!(kind, Kind::Send(_)));
        if little {
            *budget -= w.items.len();
            self.filled.store(false, Ordering::SeqCst);
            std::mem::swap(&mut *w, into);
        }
        little
    }

    /// The worker is about to look anyway.
    pub(crate) fn is_attended(&self) -> bool {
        self.attended.load(Ordering::SeqCst)
    }

    /// Waits for a wake-up.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }
}

/// An outbox with what it is written to. Whoever takes a batch holds the lock until it is written, so that batches are written
/// in their order, by whomever.
#[derive(Debug, Default)]
pub(crate) struct Writing<T> {
    pub(crate) outbox: Outbox,
    open: Mutex<(T, Deliveries)>,
}

impl<T> Writing<T> {
    /// What it is written to; batches wait meanwhile.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.open.lock().expect("nothing panics while it holds this lock").0)
    }

    /// For the worker: writes everything that waits.
    pub(crate) fn deliver<R>(&self, write: impl FnOnce(&mut T, &mut Deliveries) -> R) -> R {
        let mut open = self.open.lock().expect("nothing panics while it holds this lock");
        let (to, batch) = &mut *open;
        self.outbox.take(batch);
        write(to, batch)
    }

    /// For whoever stepped the replica: writes what waits if it is within the budget and nobody else is at it, and wakes the
    /// worker otherwise.
    pub(crate) fn deliver_or_wake<R>(
        &self,
        budget: &mut usize,
        write: impl FnOnce(&mut T, &mut Deliveries) -> R,
    ) -> Option<R> {
        if let Ok(mut open) = self.open.try_lock() {
            let (to, batch) = &mut *open;
            if self.outbox.take_little(batch, budget) {
                return Some(write(to, batch));
            }
        }
        self.outbox.wake();
        None
    }
}
