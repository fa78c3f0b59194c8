//! What leaves on one link of the learner channel, in order.
//!
//! Filled under the replica's lock by whoever stepped it, who afterwards writes it to the socket as well: a packet that
//! waited for another thread to wake up would cost both more than its write. What a socket does not take at once, and
//! what is more than bytes, is left to the link's own task.

use super::sync::{Mutex, MutexGuard, Notify};
use farrier_replica::SnapshotImage;
use std::collections::VecDeque;
use std::io;

/// Bytes that are written by whoever put them in. More means that much is going on: then the task, which writes what several
/// steps have put in with one call, costs less.
const LITTLE_BYTES_MAX: usize = 2 << 10;

/// Times that one thread writes what others put in meanwhile.
const ROUNDS_MAX: usize = 2;

/// Memory that is kept from batch to batch.
const KEEP_MAX: usize = 256 << 10;

/// Something that leaves in its turn.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Packets.
    Bytes(Vec<u8>),
    /// The stream behind SNAP.
    Snapshot(Box<SnapshotImage>),
    /// The replica wants to know that everything before was handed to the system.
    ReportFlush,
}

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    /// Bytes of packets that wait, or are being written.
    bytes: usize,
    /// Somebody writes what was in front; nobody else may write before that is done.
    taken: bool,
    /// Nothing more comes.
    closing: bool,
    /// Why the socket takes no more.
    broken: Option<io::Error>,
    spare: Vec<u8>,
}

/// The queue between whoever steps the replica and one link's socket. Bounded by the replica, which sends a learner
/// nothing more while too much waits for it.
#[derive(Debug, Default)]
pub(crate) struct LinkOutbox {
    queue: Mutex<Queue>,
    /// Wakes the link's task.
    task: Notify,
}

impl LinkOutbox {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics while it holds this lock")
    }

    /// Appends what `write` writes. Returns how many bytes wait then. [`Self::flush`] has to follow.
    pub(crate) fn push_bytes(&self, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let mut queue = self.queue();
        let queue = &mut *queue;
        if !matches!(queue.pieces.back(), Some(Piece::Bytes(_))) {
            queue.pieces.push_back(Piece::Bytes(std::mem::take(&mut queue.spare)));
        }
        if let Some(Piece::Bytes(bytes)) = queue.pieces.back_mut() {
            let before = bytes.len();
            write(bytes);
            queue.bytes += bytes.len() - before;
        }
        queue.bytes
    }

    /// Appends something else. [`Self::flush`] has to follow.
    pub(crate) fn push(&self, piece: Piece) {
        self.queue().pieces.push_back(piece);
    }

    /// Nothing more comes: once all of it left, the task is told so.
    pub(crate) fn close(&self) {
        self.queue().closing = true;
        self.task.notify_one();
    }

    /// Writes what `socket` takes at once, if it is little. Whoever finds somebody else at it leaves it to them: they look again before
    /// they stop. The task goes on where a socket has to be waited for, where there is more to do than writing, and where
    /// others put in more all the time.
    pub(crate) fn flush(&self, socket: impl Fn(&[u8]) -> io::Result<usize>) {
        for _ in 0..ROUNDS_MAX {
            let mut queue = self.queue();
            if queue.taken {
                return;
            }
            if queue.bytes > LITTLE_BYTES_MAX {
                break;
            }
            let Some(Piece::Bytes(bytes)) = queue.pieces.pop_front_if(|piece| matches!(piece, Piece::Bytes(_))) else {
                if !queue.pieces.is_empty() || queue.closing {
                    self.task.notify_one();
                }
                return;
            };
            queue.taken = true;
            drop(queue);
            let (sent, stopped) = write_some(&bytes, &socket);
            let mut queue = self.queue();
            queue.bytes -= sent;
            match stopped {
                None => queue.keep(bytes),
                Some(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut rest = bytes;
                    rest.drain(..sent);
                    queue.pieces.push_front(Piece::Bytes(rest));
                    queue.taken = false;
                    return self.task.notify_one();
                }
                Some(error) => {
                    // Still taken: nothing may be written behind what was lost.
                    queue.broken = Some(error);
                    return self.task.notify_one();
                }
            }
            queue.taken = false;
        }
        self.leave_to_task();
    }

    /// What waits is written by the link's task.
    pub(crate) fn leave_to_task(&self) {
        self.task.notify_one();
    }

    /// For the link's task: waits for what it has to do. Nobody else writes before it says that this is
    /// [`done`](Self::done). `None` once everything left and nothing more comes.
    ///
    /// # Errors
    /// The socket takes no more.
    pub(crate) async fn next(&self) -> io::Result<Option<Piece>> {
        loop {
            {
                let mut queue = self.queue();
                if let Some(error) = queue.broken.take() {
                    return Err(error);
                }
                if !queue.taken {
                    if let Some(piece) = queue.pieces.pop_front() {
                        queue.taken = true;
                        return Ok(Some(piece));
                    }
                    if queue.closing {
                        return Ok(None);
                    }
                }
            }
            self.task.notified().await;
        }
    }

    /// What [`Self::next`] returned is dealt with; these packets were in it.
    pub(crate) fn done(&self, sent: Vec<u8>) {
        let mut queue = self.queue();
        queue.taken = false;
        queue.bytes -= sent.len();
        queue.keep(sent);
    }
}

impl Queue {
    /// Its memory is for the next batch.
    fn keep(&mut self, mut bytes: Vec<u8>) {
        if (self.spare.capacity()..=KEEP_MAX).contains(&bytes.capacity()) {
            bytes.clear();
            self.spare = bytes;
        }
    }
}

/// How much was written, and what stopped it before the end.
fn write_some(bytes: &[u8], socket: &impl Fn(&[u8]) -> io::Result<usize>) -> (usize, Option<io::Error>) {
    let mut sent = 0;
    while sent < bytes.len() {
        match socket(&bytes[sent..]) {
            Ok(0) => return (sent, Some(io::ErrorKind::WriteZero.into())),
            Ok(n) => sent += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (sent, Some(error)),
        }
    }
    (sent, None)
}
