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

#[derive(Debug, Default)]
struct Queue {
    commands: VecDeque<LogCommand>,
    closed: bool,
}

/// Commands on their way to the log thread. Bounded by the replica's limit of outstanding requests.
#[derive(Debug, Default)]
pub(crate) struct LogQueue {
    queue: Mutex<Queue>,
    filled: Condvar,
}

impl LogQueue {
    pub(crate) fn push(&self, command: LogCommand) {
        self.queue.lock().expect("nothing panics while it holds this lock").commands.push_back(command);
    }

    pub(crate) fn wake(&self) {
        self.filled.notify_one();
    }

    /// The log thread ends when nothing waits any more.
    pub(crate) fn close(&self) {
        self.queue.lock().expect("nothing panics while it holds this lock").closed = true;
        self.filled.notify_all();
    }

    /// Waits for commands and takes at most `max`. Empty when the queue is closed and empty.
    fn take(&self, into: &mut Vec<LogCommand>, max: usize, gather: Duration, idle: Duration) {
        let empty = |q: &mut Queue| q.commands.is_empty() && !q.closed;
        let guard = self.queue.lock().expect("nothing panics while it holds this lock");
        let mut queue = self.filled.wait_while(guard, empty).expect("nothing panics while it holds this lock");
        let end = (gather > Duration::ZERO).then(|| Instant::now() + gather);
        while let Some(end) = end
            && queue.commands.len() < max
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
        let n = queue.commands.len().min(max);
        into.extend(queue.commands.drain(..n));
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
