//! The thread that owns the transaction log: it takes every command that waits and carries them out together
//! ([`LogWork`]). No timer: while one sync runs, the next batch gathers.

use crate::background::Snapshots;
use crate::core::Core;
use crate::files::{Claim, Files};
use crate::log_queue::{Taking, Weighed};
use crate::log_reader::Floor;
use crate::priority::Courtesy;
use farrier_proto::Zxid;
use farrier_replica::{Input, LogCommand, LogHost, LogWork, SnapshotImage, WriteId};
use farrier_storage::{Committed, Disk};
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Weighed for LogCommand {
    fn len(&self) -> usize {
        self.bytes()
    }
}

/// A batch of so many transactions takes longer to apply than it takes to wake another thread up for that.
const MANY: usize = 64;

/// So do several of so many bytes: a few multis may change as much as many other transactions.
const MANY_BYTES: usize = 8 << 10;

/// Behind a batch of so many transactions there are likely to be others.
const PRESSED: usize = 32;

/// What is not worth a sync yet waits for others no longer than the sync before took, nor than this.
const PATIENCE_MAX: Duration = Duration::from_micros(500);

/// Where it waited in vain, nothing waits for so many batches: those who write have all they want in the log, and others,
/// who only read, keep the threads awake.
const IMPATIENT: u32 = 30;

/// How the thread gathers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gathering {
    /// Most transactions in one sync.
    pub(crate) max_batch: usize,
    /// How long the first of a batch waits for others; zero unless the operator asks.
    pub(crate) gather: Duration,
    /// A gathering batch that got nothing new for so long is written.
    pub(crate) idle: Duration,
    /// A longer sync is reported.
    pub(crate) slow: Duration,
}

/// The thread's parts.
#[derive(Debug)]
pub(crate) struct LogThread<D: Disk> {
    pub(crate) gathering: Gathering,
    /// This server needs no others to commit: what is durable is applied at once, which takes about as long as the sync. So
    /// a worker does it for a large batch while the next one, if there is one, goes to the disk.
    pub(crate) alone: bool,
    pub(crate) work: LogWork<D>,
    pub(crate) snapshots: Snapshots,
    pub(crate) files: Arc<Files>,
    pub(crate) floor: Arc<Floor>,
}

impl<D: Disk> LogThread<D> {
    /// Runs until the queue is closed and empty, or the log fails.
    pub(crate) fn run(self, core: &Core, segment_opened: impl Fn()) {
        let Self { gathering, alone, mut work, snapshots, files, floor } = self;
        let Gathering { max_batch, gather, idle, slow } = gathering;
        let mut batch = Vec::new();
        // On a server alone that has one write at a time, nobody is going to add to it. Others' proposals had better leave
        // before this thread goes to the disk.
        let mut crowded = true;
        let (mut patience, mut impatient) = (Duration::ZERO, 0_u32);
        let courtesy = Courtesy::new();
        let mut host = Host {
            core,
            alone,
            snapshots: &snapshots,
            files: &files,
            floor: &floor,
            slow,
            segment_opened: &segment_opened,
            began: Instant::now(),
            took: Duration::ZERO,
        };
        loop {
            let others_first = &|| courtesy.others_first();
            let in_vain =
                core.log.take(&mut batch, &Taking { max: max_batch, gather, idle, crowded, patience, others_first });
            crowded = !alone || batch.len() > 1;
            let pressed = batch.len() >= PRESSED;
            if batch.is_empty() {
                if core.is_killed() {
                    return;
                }
                if let Err(error) = work.close() {
                    // Everything acknowledged was synced before; only the mark may be behind.
                    tracing::error!("the log did not close in order: {error}");
                }
                return;
            }
            if let Err(error) = work.run(&mut batch, &mut host) {
                return core.step(Input::WriteFailed { error });
            }
            impatient = if in_vain { IMPATIENT } else { impatient.saturating_sub(1) };
            patience = if pressed && impatient == 0 { host.took.min(PATIENCE_MAX) } else { Duration::ZERO };
        }
    }
}

/// The server as the work on the log needs it.
struct Host<'a> {
    core: &'a Core,
    alone: bool,
    snapshots: &'a Snapshots,
    files: &'a Files,
    floor: &'a Floor,
    slow: Duration,
    segment_opened: &'a dyn Fn(),
    /// When the commit began that runs.
    began: Instant,
    /// How long the last one took.
    took: Duration,
}

impl<'a> LogHost for Host<'a> {
    type Claim = Claim<'a>;

    fn step(&mut self, input: Input<'static>) {
        self.core.step(input);
    }

    fn committing(&mut self) {
        self.began = Instant::now();
    }

    fn committed(&mut self, id: WriteId, done: Committed) {
        let took = self.began.elapsed();
        self.took = took;
        let many = done.records >= MANY || (done.records > 1 && done.bytes >= MANY_BYTES);
        let soon = !self.alone || !many || self.core.log.is_empty();
        self.core.durable(id, soon);
        if took >= self.slow {
            tracing::warn!(
                "fsync-ing the write ahead log took {}ms which will adversely effect operation latency; {} transactions were in it",
                took.as_millis(),
                done.records
            );
        }
        if done.started.is_some() {
            (self.segment_opened)();
        }
    }

    fn take_snapshot(&mut self, image: Box<SnapshotImage>) {
        if !self.snapshots.ask(self.files, image) {
            tracing::error!("the snapshot thread is gone; no snapshot was taken");
        }
    }

    fn claim(&mut self) -> Claim<'a> {
        self.files.claim()
    }

    fn set_floor(&mut self, floor: Zxid) {
        self.floor.set(floor);
    }

    fn reloaded(&mut self, last: Zxid) {
        tracing::info!("state loaded again: last zxid {last}");
    }

    fn mono(&self) -> u64 {
        self.core.clock().now().mono
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_queue::{BATCH_BYTES_MAX, LogQueue};
    use crate::testing;

    fn batches(lens: &[usize], max: usize) -> Vec<Vec<usize>> {
        let queue = LogQueue::default();
        for (n, len) in (1..).zip(lens) {
            let txn = vec![0; *len].into();
            queue.append(&mut vec![LogCommand::Append { id: WriteId(n), zxid: Zxid::ZERO, txn }]);
        }
        queue.close();
        let mut all = Vec::new();
        loop {
            let mut batch = Vec::new();
            queue.take(&mut batch, &Taking { max, ..testing::TAKING });
            if batch.is_empty() {
                assert_eq!(queue.bytes(), 0);
                return all;
            }
            all.push(batch.iter().map(LogCommand::bytes).collect());
        }
    }

    #[test]
    fn patience_is_in_vain_only_where_nothing_came_while_a_feeder_was_awake() {
        let queue = Arc::new(LogQueue::default());
        let append = || LogCommand::Append { id: WriteId(1), zxid: Zxid::ZERO, txn: vec![0].into() };
        let patient = Taking { patience: Duration::from_millis(1), ..testing::TAKING };
        let take = |how: &Taking<'_>| {
            queue.append(&mut vec![append()]);
            let mut batch = Vec::new();
            let in_vain = queue.take(&mut batch, how);
            assert_eq!(batch.len(), 1);
            in_vain
        };
        assert!(!take(&patient), "nobody might add to it");
        let feeder = crate::log_queue::Feeder::new(queue.clone());
        assert!(take(&patient), "it might have");
        assert!(!take(&testing::TAKING), "there was no patience");
        assert!(!take(&Taking { max: 1, ..patient }), "that is all it may have");
        feeder.sleeps();
        assert!(!take(&patient));
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
