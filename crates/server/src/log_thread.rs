//! The thread that owns the transaction log: it takes every append that waits, writes them together,
//! syncs once, and reports. No timer: while one sync runs, the next batch gathers.
//!
//! Whatever else changes the history on disk happens here too, in the order in which the replica asked for it:
//! epoch files, cuts, the installation of a leader's snapshot.

use crate::background::Snapshots;
use crate::core::Core;
use crate::files::Files;
use crate::log_queue::Weighed;
use crate::log_reader::Floor;
use bytes::Bytes;
use farrier_proto::{AcceptedEpoch, CurrentEpoch, Zxid};
use farrier_replica::{Input, SnapshotImage, TreeRestore, WriteId};
use farrier_storage::{Disk, DiskResult, LogWriter, RecoverOptions, Recovering, SnapshotOptions, reload};
use farrier_tree::TreeConfig;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the replica wants of the log.
#[derive(Debug)]
pub(crate) enum LogCommand {
    Append { id: WriteId, zxid: Zxid, txn: Bytes },
    Roll,
    TakeSnapshot { image: Box<SnapshotImage> },
    SaveAcceptedEpoch { id: WriteId, epoch: AcceptedEpoch },
    SaveCurrentEpoch { id: WriteId, epoch: CurrentEpoch },
    RaiseRecovering { id: WriteId },
    Truncate { id: WriteId, after: Zxid },
    Install { id: WriteId, epoch: CurrentEpoch, image: Box<SnapshotImage> },
    Reload { id: WriteId },
}

impl Weighed for LogCommand {
    fn len(&self) -> usize {
        match self {
            Self::Append { txn, .. } => txn.len(),
            Self::Roll
            | Self::TakeSnapshot { .. }
            | Self::SaveAcceptedEpoch { .. }
            | Self::SaveCurrentEpoch { .. }
            | Self::RaiseRecovering { .. }
            | Self::Truncate { .. }
            | Self::Install { .. }
            | Self::Reload { .. } => 0,
        }
    }
}

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
    pub(crate) disk: Arc<D>,
    pub(crate) snapshot_options: SnapshotOptions,
    /// How the state is loaded when the history was cut.
    pub(crate) recover: RecoverOptions,
    pub(crate) tree: TreeConfig,
    pub(crate) hash_seed: u64,
    pub(crate) snapshots: Snapshots,
    pub(crate) files: Arc<Files>,
    pub(crate) floor: Arc<Floor>,
}

impl<D: Disk> LogThread<D> {
    /// Runs until the queue is closed and empty, or the log fails.
    pub(crate) fn run(self, core: &Core, mut writer: LogWriter<D>, segment_opened: impl Fn()) {
        let mut batch = Vec::new();
        let Gathering { max_batch, gather, idle, .. } = self.gathering;
        loop {
            core.log.take(&mut batch, max_batch, gather, idle);
            if batch.is_empty() {
                if let Err(error) = writer.close() {
                    // Everything acknowledged was synced before; only the mark may be behind.
                    tracing::error!("the log did not close in order: {error}");
                }
                return;
            }
            let mut newest = None;
            for command in batch.drain(..) {
                let done = match command {
                    LogCommand::Append { id, zxid, txn } => {
                        writer.append(zxid, &txn);
                        newest = Some(id);
                        continue;
                    }
                    LogCommand::Roll => {
                        writer.roll();
                        continue;
                    }
                    // The others come behind whatever was appended before them.
                    other => self
                        .commit(core, &mut writer, newest.take(), &segment_opened)
                        .map_err(|error| failure(&error))
                        .and_then(|()| self.carry_out(core, &mut writer, other)),
                };
                if let Err(error) = done {
                    return core.step(Input::WriteFailed { error });
                }
            }
            let done = self
                .commit(core, &mut writer, newest, &segment_opened)
                .and_then(|()| writer.maintain(core.clock().now().mono));
            if let Err(error) = done {
                return core.step(Input::WriteFailed { error: failure(&error) });
            }
        }
    }

    /// Makes what was appended durable; `newest` is the last of it.
    fn commit(
        &self,
        core: &Core,
        writer: &mut LogWriter<D>,
        newest: Option<WriteId>,
        segment_opened: &impl Fn(),
    ) -> DiskResult<()> {
        let Some(id) = newest else { return Ok(()) };
        let start = Instant::now();
        let done = writer.commit()?;
        let took = start.elapsed();
        core.step(Input::Durable { id });
        if took >= self.gathering.slow {
            tracing::warn!(
                "fsync-ing the write ahead log took {}ms which will adversely effect operation latency; {} transactions were in it",
                took.as_millis(),
                done.records
            );
        }
        if done.started.is_some() {
            segment_opened();
        }
        Ok(())
    }

    /// Does what is no append.
    fn carry_out(&self, core: &Core, writer: &mut LogWriter<D>, command: LogCommand) -> Result<(), String> {
        let final_error = |error| failure(&error);
        match command {
            LogCommand::Append { .. } | LogCommand::Roll => unreachable!("these gather in a batch"),
            LogCommand::TakeSnapshot { image } => {
                if !self.snapshots.ask(&self.files, image) {
                    tracing::error!("the snapshot thread is gone; no snapshot was taken");
                }
            }
            LogCommand::SaveAcceptedEpoch { id, epoch } => {
                writer.save_accepted_epoch(epoch).map_err(final_error)?;
                core.step(Input::Durable { id });
            }
            LogCommand::SaveCurrentEpoch { id, epoch } => {
                writer.save_current_epoch(epoch).map_err(final_error)?;
                core.step(Input::Durable { id });
            }
            LogCommand::RaiseRecovering { id } => {
                writer.raise_recovering(Recovering::Promise).map_err(final_error)?;
                core.step(Input::Durable { id });
            }
            LogCommand::Install { id, epoch, image } => {
                let floor = farrier_storage::Image::zxid(&*image);
                let guard = self.files.claim();
                writer.install(&*image, epoch, &self.snapshot_options).map_err(final_error)?;
                drop(guard);
                self.floor.set(floor);
                // Many znodes: their memory goes before anybody is told.
                drop(image);
                core.step(Input::Durable { id });
            }
            LogCommand::Truncate { id, after } => {
                let guard = self.files.claim();
                if !writer.truncate(after).map_err(final_error)? {
                    drop(guard);
                    core.step(Input::Truncated { id, state: None });
                    return Ok(());
                }
                let state = self.load(writer)?;
                drop(guard);
                core.step(Input::Truncated { id, state: Some(state) });
            }
            LogCommand::Reload { id } => {
                let guard = self.files.claim();
                let state = self.load(writer)?;
                drop(guard);
                core.step(Input::Reloaded { id, state });
            }
        }
        Ok(())
    }

    /// The state as the disk has it. Nothing is mended here, as at a start: damage ends the process, since others may
    /// rely on what this server acknowledged.
    fn load(&self, writer: &LogWriter<D>) -> Result<Box<TreeRestore>, String> {
        let mut state = Box::new(TreeRestore::new(self.tree, self.hash_seed));
        let last = reload(&*self.disk, &self.recover, &mut *state)
            .map_err(|refusal| format!("the state cannot be loaded again from the disk: {refusal}"))?;
        self.floor.set(writer.floor());
        tracing::info!("state loaded again: last zxid {last}");
        Ok(state)
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
    use crate::log_queue::{BATCH_BYTES_MAX, LogQueue};

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
                assert_eq!(queue.bytes(), 0);
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
