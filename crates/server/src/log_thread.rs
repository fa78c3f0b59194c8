//! The thread that owns the transaction log: it takes every append that waits, writes them together,
//! syncs once, and reports. No timer: while one sync runs, the next batch gathers.

use crate::core::Core;
use bytes::Bytes;
use farrier_proto::Zxid;
use farrier_replica::{Input, WriteId};
use farrier_storage::{Disk, LogWriter};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// What the replica wants of the log.
#[derive(Debug)]
pub(crate) enum LogCommand {
    Append { id: WriteId, zxid: Zxid, txn: Bytes },
    Roll,
}

impl LogCommand {
    /// Bytes that it adds to a batch.
    const fn len(&self) -> usize {
        match self {
            Self::Append { txn, .. } => txn.len(),
            Self::Roll => 0,
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    commands: VecDeque<LogCommand>,
    /// Of the transactions in it.
    bytes: usize,
    closed: bool,
}

/// Transactions of one sync together, in bytes, unless a single one is longer: what is buffered and
/// written at once.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Commands on their way to the log thread. Bounded by what the replica lets be outstanding: a connection
/// that has an unfinished write is not read from beyond `globalOutstandingLimit`, so that there are at most
/// that many transactions and one more per connection, each no longer than the transaction limit.
#[derive(Debug, Default)]
pub(crate) struct LogQueue {
    queue: Mutex<Queue>,
    filled: Condvar,
}

impl LogQueue {
    pub(crate) fn push(&self, command: LogCommand) {
        let mut queue = self.queue.lock().expect("nothing panics while it holds this lock");
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

    /// Waits for commands and takes at most `max`, and no more than [`BATCH_BYTES_MAX`] bytes unless the
    /// first is longer. Empty when the queue is closed and empty.
    fn take(&self, into: &mut Vec<LogCommand>, max: usize, gather: Duration, idle: Duration) {
        let empty = |q: &mut Queue| q.commands.is_empty() && !q.closed;
        let guard = self.queue.lock().expect("nothing panics while it holds this lock");
        let mut queue = self.filled.wait_while(guard, empty).expect("nothing panics while it holds this lock");
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
        let fits = |command: &&LogCommand| {
            bytes += command.len();
            bytes <= BATCH_BYTES_MAX
        };
        let n = queue.commands.iter().take(max).take_while(fits).count();
        let n = n.max(usize::from(!queue.commands.is_empty()));
        into.extend(queue.commands.drain(..n));
        queue.bytes -= into.iter().map(LogCommand::len).sum::<usize>();
    }
}

/// Settings of the thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogThread {
    /// Most transactions in one sync.
    pub(crate) max_batch: usize,
    /// How long the first of a batch waits for others; zero unless the operator asks.
    pub(crate) gather: Duration,
    /// A gathering batch that got nothing new for so long is written.
    pub(crate) idle: Duration,
    /// A longer sync is reported.
    pub(crate) slow: Duration,
}

impl LogThread {
    /// Runs until the queue is closed and empty, or the log fails.
    pub(crate) fn run<D: Disk>(self, core: &Core, mut writer: LogWriter<D>, segment_opened: impl Fn()) {
        let mut batch = Vec::new();
        loop {
            core.log.take(&mut batch, self.max_batch, self.gather, self.idle);
            if batch.is_empty() {
                if let Err(error) = writer.close() {
                    // Everything acknowledged was synced before; only the mark may be behind.
                    tracing::error!("the log did not close in order: {error}");
                }
                return;
            }
            let mut newest = None;
            for command in batch.drain(..) {
                match command {
                    LogCommand::Append { id, zxid, txn } => {
                        writer.append(zxid, &txn);
                        newest = Some(id);
                    }
                    LogCommand::Roll => writer.roll(),
                }
            }
            let Some(id) = newest else { continue };
            let start = Instant::now();
            let done = match writer.commit() {
                Ok(done) => done,
                Err(error) => return core.step(Input::WriteFailed { error: failure(&error) }),
            };
            let took = start.elapsed();
            core.step(Input::Durable { id });
            if took >= self.slow {
                tracing::warn!(
                    "fsync-ing the write ahead log took {}ms which will adversely effect operation latency; {} transactions were in it",
                    took.as_millis(),
                    done.records
                );
            }
            if done.started.is_some() {
                segment_opened();
            }
            if let Err(error) = writer.maintain(core.clock().now().mono) {
                return core.step(Input::WriteFailed { error: failure(&error) });
            }
        }
    }
}

fn failure(error: &farrier_storage::DiskError) -> String {
    let remedy = match error.kind {
        farrier_storage::DiskErrorKind::Full => "make room on the disk that holds dataLogDir",
        farrier_storage::DiskErrorKind::ReadOnly => "remount the file system for writing",
        farrier_storage::DiskErrorKind::Denied => "give the server's user access",
        farrier_storage::DiskErrorKind::NotFound
        | farrier_storage::DiskErrorKind::Exists
        | farrier_storage::DiskErrorKind::Other => "check the disk and the kernel's log",
    };
    format!(
        "the transaction log failed: {error}. Nothing more is acknowledged, and whatever was acknowledged is safe. Remedy: {remedy}, then start the server again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(lens: &[usize], max: usize) -> Vec<Vec<usize>> {
        let queue = LogQueue::default();
        for (n, len) in (1..).zip(lens) {
            let txn = vec![0; *len].into();
            queue.push(LogCommand::Append { id: WriteId(n), zxid: Zxid::ZERO, txn });
        }
        queue.close();
        let mut all = Vec::new();
        loop {
            let mut batch = Vec::new();
            queue.take(&mut batch, max, Duration::ZERO, Duration::ZERO);
            if batch.is_empty() {
                assert_eq!(queue.queue.lock().expect("nobody panicked").bytes, 0);
                return all;
            }
            all.push(batch.iter().map(LogCommand::len).collect());
        }
    }

    #[test]
    fn a_batch_is_bounded_in_number_and_bytes_and_takes_what_alone_is_too_long() {
        const HALF: usize = BATCH_BYTES_MAX / 2;
        assert_eq!(batches(&[1, 2, 3], 2), [vec![1, 2], vec![3]]);
        assert_eq!(batches(&[HALF, HALF, 1], 9), [vec![HALF, HALF], vec![1]]);
        assert_eq!(
            batches(&[HALF, HALF + 1, 2 * HALF + 1, 4], 9),
            [vec![HALF], vec![HALF + 1], vec![2 * HALF + 1], vec![4]]
        );
    }
}
