//! The queue between the replica and the log thread.

use super::sync::{Condvar, Mutex};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Transactions of one sync together, in bytes, unless a single one is longer: what is buffered and
/// written at once.
pub(crate) const BATCH_BYTES_MAX: usize = 8 << 20;

/// What waits in a [`LogQueue`].
pub(crate) trait Weighed {
    /// Bytes that it adds to a batch.
    fn len(&self) -> usize;
}

#[derive(Debug)]
struct Queue<C> {
    commands: VecDeque<C>,
    /// Of the transactions in it.
    bytes: usize,
    closed: bool,
    /// Nothing is taken up any more.
    abandoned: bool,
}

/// Commands on their way to the log thread. Bounded by what the replica lets be outstanding: a connection
/// that has an unfinished write is not read from beyond `globalOutstandingLimit`, so that there are at most
/// that many transactions and one more per connection, each no longer than the transaction limit.
#[derive(Debug)]
pub(crate) struct LogQueue<C> {
    queue: Mutex<Queue<C>>,
    filled: Condvar,
}

impl<C> Default for LogQueue<C> {
    fn default() -> Self {
        let queue = Queue { commands: VecDeque::new(), bytes: 0, closed: false, abandoned: false };
        Self { queue: Mutex::new(queue), filled: Condvar::new() }
    }
}

impl<C: Weighed> LogQueue<C> {
    pub(crate) fn push(&self, command: C) {
        let mut queue = self.queue.lock().expect("nothing panics while it holds this lock");
        if queue.abandoned {
            return;
        }
        queue.bytes += command.len();
        queue.commands.push_back(command);
    }

    pub(crate) fn wake(&self) {
        self.filled.notify_one();
    }

    /// The log thread ends when nothing waits any more.
    pub(crate) fn close(&self) {
        self.queue.lock().expect("nothing panics while it holds this lock").closed = true;
        self.filled.notify_all();
    }

    /// The log thread ends with what it is at. What waits is lost, and so is what comes behind it.
    pub(crate) fn abandon(&self) {
        let mut queue = self.queue.lock().expect("nothing panics while it holds this lock");
        (queue.closed, queue.abandoned, queue.bytes) = (true, true, 0);
        queue.commands.clear();
        drop(queue);
        self.filled.notify_all();
    }

    /// Waits for commands and takes at most `max`, and no more than [`BATCH_BYTES_MAX`] bytes unless the
    /// first is longer. Empty when the queue is closed and empty.
    ///
    /// Where there are several commands, or `crowded` expects more than the one, `others_first` lets others add to them.
    pub(crate) fn take(
        &self,
        into: &mut Vec<C>,
        max: usize,
        gather: Duration,
        idle: Duration,
        crowded: bool,
        others_first: &dyn Fn(),
    ) {
        let empty = |q: &mut Queue<C>| q.commands.is_empty() && !q.closed;
        let guard = self.queue.lock().expect("nothing panics while it holds this lock");
        let mut queue = self.filled.wait_while(guard, empty).expect("nothing panics while it holds this lock");
        if crowded || queue.commands.len() > 1 {
            drop(queue);
            others_first();
            queue = self.queue.lock().expect("nothing panics while it holds this lock");
        }
        let end = (gather > Duration::ZERO).then(|| Instant::now() + gather);
        while let Some(end) = end
            && queue.commands.len() < max
            && queue.bytes < BATCH_BYTES_MAX
            && !queue.closed
        {
            let (seen, left) = (queue.commands.len(), end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            queue = self.filled.wait_timeout(queue, left.min(idle)).expect("nothing panics while it holds this lock").0;
            if queue.commands.len() == seen {
                break;
            }
        }
        let mut bytes = 0;
        let fits = |command: &&C| {
            bytes += command.len();
            bytes <= BATCH_BYTES_MAX
        };
        let n = queue.commands.iter().take(max).take_while(fits).count();
        let n = n.max(usize::from(!queue.commands.is_empty()));
        into.extend(queue.commands.drain(..n));
        queue.bytes -= into.iter().map(C::len).sum::<usize>();
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.lock().expect("nothing panics while it holds this lock").commands.is_empty()
    }

    /// Bytes of what waits.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.queue.lock().expect("nothing panics while it holds this lock").bytes
    }
}
