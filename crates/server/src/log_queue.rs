//! The queue between the replica and the log thread.

use super::sync::{AtomicBool, AtomicU64, Condvar, Mutex, MutexGuard, Ordering};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Transactions of one sync together, in bytes, unless a single one is longer: what is buffered and
/// written at once.
pub(crate) const BATCH_BYTES_MAX: usize = 8 << 20;

/// So many bytes are worth a sync, whoever may have more to add: some hundred small transactions.
const WORTH_A_SYNC: usize = 64 << 10;

/// What waits in a [`LogQueue`].
pub(crate) trait Weighed {
    /// Bytes that it adds to a batch.
    fn len(&self) -> usize;
}

/// What the log thread waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waits {
    /// Nothing: it does not wait.
    No,
    /// Any command.
    ForAny,
    /// So many commands, or bytes that are [worth a sync](WORTH_A_SYNC). For any once the last feeder sleeps.
    ForMany(usize),
}

#[derive(Debug)]
struct Queue<C> {
    commands: VecDeque<C>,
    /// Of the transactions in it.
    bytes: usize,
    waits: Waits,
    closed: bool,
    /// Nothing is taken up any more.
    abandoned: bool,
}

impl<C> Queue<C> {
    /// Whether the log thread has what it waits for.
    fn is_enough(&self) -> bool {
        match self.waits {
            Waits::No => false,
            Waits::ForAny => true,
            Waits::ForMany(most) => self.commands.len() >= most || self.bytes >= WORTH_A_SYNC,
        }
    }
}

/// Commands on their way to the log thread. The replica bounds them: by what it lets be outstanding, and in an ensemble, where
/// others may commit without this disk, by what is not durable (`LOG_LAG_MAX`): then clients' writes wait, a leader hands over,
/// and a learner does not read from its leader.
#[derive(Debug)]
pub(crate) struct LogQueue<C> {
    queue: Mutex<Queue<C>>,
    filled: Condvar,
    /// [Feeders](Feeder) that are awake.
    awake: AtomicU64,
}

impl<C> Default for LogQueue<C> {
    fn default() -> Self {
        let commands = VecDeque::new();
        let queue = Queue { commands, bytes: 0, waits: Waits::No, closed: false, abandoned: false };
        Self { queue: Mutex::new(queue), filled: Condvar::new(), awake: AtomicU64::new(0) }
    }
}

/// How a batch is taken.
pub(crate) struct Taking<'a> {
    /// Most commands.
    pub(crate) max: usize,
    /// How long the first of a batch waits for others; zero unless the operator asks.
    pub(crate) gather: Duration,
    /// A gathering batch that got nothing new for so long is taken.
    pub(crate) idle: Duration,
    /// Others may add to the batch even if it is a single command.
    pub(crate) crowded: bool,
    /// How long a batch that is not [worth a sync](WORTH_A_SYNC) yet waits for the threads that feed the queue to sleep
    /// (see [`Feeder`]); zero where they are not likely to be at more of it.
    pub(crate) patience: Duration,
    /// Lets others run, who may add to the batch.
    pub(crate) others_first: &'a dyn Fn(),
}

impl<C: Weighed> LogQueue<C> {
    /// Adds what is in `commands`, in its order, and leaves it empty.
    pub(crate) fn append(&self, commands: &mut Vec<C>) {
        let mut queue = self.lock();
        if queue.abandoned {
            return commands.clear();
        }
        queue.bytes += commands.iter().map(C::len).sum::<usize>();
        queue.commands.extend(commands.drain(..));
        let enough = queue.is_enough();
        drop(queue);
        if enough {
            self.filled.notify_one();
        }
    }

    /// The log thread ends when nothing waits any more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    /// The log thread ends with what it is at. What waits is lost, and so is what comes behind it.
    pub(crate) fn abandon(&self) {
        let mut queue = self.lock();
        (queue.closed, queue.abandoned, queue.bytes) = (true, true, 0);
        queue.commands.clear();
        drop(queue);
        self.filled.notify_all();
    }

    /// Waits for commands and takes as many as `how` says, and no more than [`BATCH_BYTES_MAX`] bytes unless the
    /// first is longer. None when the queue is closed and empty. Tells whether patience ran out and brought nothing.
    pub(crate) fn take(&self, into: &mut Vec<C>, how: &Taking<'_>) -> bool {
        let mut queue = self.lock();
        queue.waits = Waits::ForAny;
        let empty = |q: &mut Queue<C>| q.commands.is_empty() && !q.closed;
        queue = self.filled.wait_while(queue, empty).expect("nothing panics while it holds this lock");
        if how.crowded || queue.commands.len() > 1 {
            queue.waits = Waits::No;
            drop(queue);
            (how.others_first)();
            queue = self.lock();
        }
        let mut in_vain = false;
        if how.patience > Duration::ZERO {
            (queue, in_vain) = self.wait_for_feeders(queue, how);
        }
        queue = self.gather(queue, how);
        queue.waits = Waits::No;
        let mut bytes = 0;
        let fits = |command: &&C| {
            bytes += command.len();
            bytes <= BATCH_BYTES_MAX
        };
        let n = queue.commands.iter().take(how.max).take_while(fits).count();
        let n = n.max(usize::from(!queue.commands.is_empty()));
        let before = into.len();
        into.extend(queue.commands.drain(..n));
        queue.bytes -= into[before..].iter().map(C::len).sum::<usize>();
        in_vain
    }

    /// Until enough waits, or nobody is about to add to it. Whether patience ran out and brought nothing.
    fn wait_for_feeders<'q>(
        &'q self,
        mut queue: MutexGuard<'q, Queue<C>>,
        how: &Taking<'_>,
    ) -> (MutexGuard<'q, Queue<C>>, bool) {
        let (end, before) = (Instant::now() + how.patience, queue.commands.len());
        queue.waits = Waits::ForMany(how.max);
        while !queue.is_enough() && !queue.closed && self.awake.load(Ordering::SeqCst) > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let in_vain = queue.commands.len() == before;
                return (queue, in_vain);
            }
            queue = self.filled.wait_timeout(queue, left).expect("nothing panics while it holds this lock").0;
        }
        (queue, false)
    }

    /// As long as the operator asks.
    fn gather<'q>(&'q self, mut queue: MutexGuard<'q, Queue<C>>, how: &Taking<'_>) -> MutexGuard<'q, Queue<C>> {
        let end = (how.gather > Duration::ZERO).then(|| Instant::now() + how.gather);
        queue.waits = Waits::ForAny;
        while let Some(end) = end
            && queue.commands.len() < how.max
            && queue.bytes < BATCH_BYTES_MAX
            && !queue.closed
        {
            let (seen, left) = (queue.commands.len(), end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            let left = left.min(how.idle);
            queue = self.filled.wait_timeout(queue, left).expect("nothing panics while it holds this lock").0;
            if queue.commands.len() == seen {
                break;
            }
        }
        queue
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().commands.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Queue<C>> {
        self.queue.lock().expect("nothing panics while it holds this lock")
    }

    /// Feeders that are awake.
    #[cfg(test)]
    pub(crate) fn awake(&self) -> u64 {
        self.awake.load(Ordering::SeqCst)
    }

    /// Bytes of what waits.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

/// A thread that brings the replica requests and so feeds the log's queue. While it is awake there may be more of them; when
/// all such threads sleep, nobody is about to add to what waits.
#[derive(Debug)]
pub(crate) struct Feeder<C: Weighed> {
    queue: Arc<LogQueue<C>>,
    awake: AtomicBool,
}

impl<C: Weighed> Feeder<C> {
    /// One that is awake.
    pub(crate) fn new(queue: Arc<LogQueue<C>>) -> Self {
        let feeder = Self { queue, awake: AtomicBool::new(false) };
        feeder.wakes();
        feeder
    }

    pub(crate) fn wakes(&self) {
        if !self.awake.swap(true, Ordering::SeqCst) {
            self.queue.awake.fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(crate) fn sleeps(&self) {
        let is_last = self.awake.swap(false, Ordering::SeqCst) && self.queue.awake.fetch_sub(1, Ordering::SeqCst) == 1;
        if is_last {
            // Under the lock the log thread has not looked yet, or it waits. By the time at which it runs, one of the feeders may
            // be awake again.
            let mut queue = self.queue.lock();
            if matches!(queue.waits, Waits::ForMany(_)) {
                queue.waits = Waits::ForAny;
                drop(queue);
                self.queue.filled.notify_one();
            }
        }
    }
}

impl<C: Weighed> Drop for Feeder<C> {
    fn drop(&mut self) {
        self.sleeps();
    }
}
