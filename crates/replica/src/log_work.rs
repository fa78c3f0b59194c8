//! What a replica wants done with its history on disk, and how that is carried out: in the order in which it asked,
//! with one sync for all appends that wait. Every completion leaves only after the write that it quotes.
//!
//! It owns the order and the meaning of the commands; where they wait and what else runs beside them belongs to the
//! shell, which is asked through [`LogHost`]. It has no clock and starts no thread.

use crate::io::{Input, SnapshotImage};
use crate::restore::TreeRestore;
use bytes::Bytes;
use farrier_proto::{AcceptedEpoch, CurrentEpoch, Zxid};
use farrier_storage::{
    Committed, Disk, DiskError, DiskErrorKind, DiskResult, Image, LogWriter, RecoverOptions, Recovering,
    SnapshotOptions, reload,
};
use farrier_tree::TreeConfig;
use farrier_zab::WriteId;
use std::sync::Arc;

/// An [`Action`](crate::Action) that changes the history on disk.
#[derive(Debug)]
pub enum LogCommand {
    /// [`Action::Append`](crate::Action::Append).
    Append {
        /// Quoted by the completion.
        id: WriteId,
        /// The transaction's.
        zxid: Zxid,
        /// Header, body and digest.
        txn: Bytes,
    },
    /// [`Action::RollLog`](crate::Action::RollLog).
    Roll,
    /// [`Action::TakeSnapshot`](crate::Action::TakeSnapshot).
    TakeSnapshot {
        /// The state.
        image: Box<SnapshotImage>,
    },
    /// [`Action::SaveAcceptedEpoch`](crate::Action::SaveAcceptedEpoch).
    SaveAcceptedEpoch {
        /// Quoted by the completion.
        id: WriteId,
        /// The number.
        epoch: AcceptedEpoch,
    },
    /// [`Action::SaveCurrentEpoch`](crate::Action::SaveCurrentEpoch).
    SaveCurrentEpoch {
        /// Quoted by the completion.
        id: WriteId,
        /// The number.
        epoch: CurrentEpoch,
    },
    /// [`Action::SavePending`](crate::Action::SavePending).
    SavePending {
        /// Quoted by the completion.
        id: WriteId,
        /// The text, if any.
        config: Option<Bytes>,
    },
    /// [`Action::RaiseRecovering`](crate::Action::RaiseRecovering).
    RaiseRecovering {
        /// Quoted by the completion.
        id: WriteId,
    },
    /// [`Action::Truncate`](crate::Action::Truncate).
    Truncate {
        /// Quoted by the completion.
        id: WriteId,
        /// The last transaction to keep.
        after: Zxid,
    },
    /// [`Action::InstallSnapshot`](crate::Action::InstallSnapshot).
    Install {
        /// Quoted by the completion.
        id: WriteId,
        /// Goes into the file `currentEpoch`.
        epoch: CurrentEpoch,
        /// The state.
        image: Box<SnapshotImage>,
    },
    /// [`Action::Reload`](crate::Action::Reload).
    Reload {
        /// Quoted by the completion.
        id: WriteId,
    },
}

impl LogCommand {
    /// Bytes that it adds to a batch.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        match self {
            Self::Append { txn, .. } => txn.len(),
            Self::Roll
            | Self::TakeSnapshot { .. }
            | Self::SaveAcceptedEpoch { .. }
            | Self::SaveCurrentEpoch { .. }
            | Self::SavePending { .. }
            | Self::RaiseRecovering { .. }
            | Self::Truncate { .. }
            | Self::Install { .. }
            | Self::Reload { .. } => 0,
        }
    }
}

/// What the work asks of the shell around it.
pub trait LogHost {
    /// Keeps everybody else off snapshots and prepared segments while it exists.
    type Claim;

    /// Gives the replica an input, behind those that were given before.
    fn step(&mut self, input: Input<'static>);
    /// A commit begins. For the clock.
    fn committing(&mut self);
    /// What was appended up to `id` is durable: the replica is to hear of it.
    fn committed(&mut self, id: WriteId, done: Committed);
    /// A snapshot is wanted of a state whose transactions are all durable, and below a durable mark. Whoever writes it gives
    /// [`Input::SnapshotDone`], and gives up if the history is claimed before it is finished.
    fn take_snapshot(&mut self, image: Box<SnapshotImage>);
    /// The history is about to change: what was begun with snapshots and segments is given up.
    fn claim(&mut self) -> Self::Claim;
    /// Differences from the log end here from now on.
    fn set_floor(&mut self, floor: Zxid);
    /// The state was loaded again from disk, up to this transaction.
    fn reloaded(&mut self, last: Zxid);
    /// Milliseconds of a clock that never goes back.
    fn mono(&self) -> u64;
}

/// The log's writer, and what is needed to load the state again.
#[derive(Debug)]
pub struct LogWork<D: Disk> {
    /// Where everything is.
    pub disk: Arc<D>,
    /// The log's.
    pub writer: LogWriter<D>,
    /// How a snapshot that a leader sent is written.
    pub snapshot_options: SnapshotOptions,
    /// How the state is loaded when the history was cut.
    pub recover: RecoverOptions,
    /// Of a tree that is loaded.
    pub tree: TreeConfig,
    /// Of its index.
    pub hash_seed: u64,
}

impl<D: Disk> LogWork<D> {
    /// Carries out what waits, and leaves `batch` empty. Completions are given as soon as they are true.
    ///
    /// # Errors
    /// File, error and remedy, for [`Input::WriteFailed`]: final. Nothing of the batch behind it is done.
    pub fn run<H: LogHost>(&mut self, batch: &mut Vec<LogCommand>, host: &mut H) -> Result<(), String> {
        let mut newest = None;
        for command in batch.drain(..) {
            match command {
                LogCommand::Append { id, zxid, txn } => {
                    self.writer.append(zxid, &txn);
                    newest = Some(id);
                }
                LogCommand::Roll => self.writer.roll(),
                // The others come behind whatever was appended before them.
                other => {
                    let behind = if farrier_proto::planted!(CommandsBeforeAppends) { None } else { newest.take() };
                    self.commit(behind, host).map_err(|error| failure(&error))?;
                    self.carry_out(other, host)?;
                }
            }
        }
        let done = self.commit(newest, host).and_then(|()| self.writer.maintain(host.mono()));
        done.map_err(|error| failure(&error))
    }

    /// Ends in order, with nothing left to do.
    ///
    /// # Errors
    /// The first failed operation. Everything acknowledged was synced before; only the mark may be behind.
    pub fn close(self) -> DiskResult<()> {
        self.writer.close()
    }

    /// Makes what was appended durable; `newest` is the last of it.
    fn commit<H: LogHost>(&mut self, newest: Option<WriteId>, host: &mut H) -> DiskResult<()> {
        let Some(id) = newest else { return Ok(()) };
        host.committing();
        let done = self.writer.commit()?;
        host.committed(id, done);
        Ok(())
    }

    /// Does what is no append.
    fn carry_out<H: LogHost>(&mut self, command: LogCommand, host: &mut H) -> Result<(), String> {
        let final_error = |error| failure(&error);
        match command {
            LogCommand::Append { .. } | LogCommand::Roll => unreachable!("these gather in a batch"),
            LogCommand::TakeSnapshot { image } => {
                self.writer.settle().map_err(final_error)?;
                host.take_snapshot(image);
            }
            LogCommand::SaveAcceptedEpoch { id, epoch } => {
                self.writer.save_accepted_epoch(epoch).map_err(final_error)?;
                host.step(Input::Durable { id });
            }
            LogCommand::SaveCurrentEpoch { id, epoch } => {
                self.writer.save_current_epoch(epoch).map_err(final_error)?;
                host.step(Input::Durable { id });
            }
            LogCommand::SavePending { id, config } => {
                self.writer.save_pending(config.as_deref()).map_err(final_error)?;
                host.step(Input::Durable { id });
            }
            LogCommand::RaiseRecovering { id } => {
                self.writer.raise_recovering(Recovering::Promise).map_err(final_error)?;
                host.step(Input::Durable { id });
            }
            LogCommand::Install { id, epoch, image } => {
                let floor = Image::zxid(&*image);
                let claim = host.claim();
                let installed = self.writer.install(&*image, epoch, &self.snapshot_options);
                installed.map_err(|error| install_failure(&error))?;
                drop(claim);
                host.set_floor(floor);
                // Many znodes: their memory goes before anybody is told.
                drop(image);
                host.step(Input::Durable { id });
            }
            LogCommand::Truncate { id, after } => {
                let claim = host.claim();
                let done = self.writer.truncate(after).map_err(final_error)?;
                let state = if done { Some(self.load(host)?) } else { None };
                drop(claim);
                host.step(Input::Truncated { id, state });
            }
            LogCommand::Reload { id } => {
                let claim = host.claim();
                let state = self.load(host)?;
                drop(claim);
                host.step(Input::Reloaded { id, state });
            }
        }
        Ok(())
    }

    /// The state as the disk has it. Nothing is mended here, as at a start: damage ends the process, since others may
    /// rely on what this server acknowledged.
    fn load<H: LogHost>(&self, host: &mut H) -> Result<Box<TreeRestore>, String> {
        let mut state = Box::new(TreeRestore::new(self.tree, self.hash_seed));
        let last = reload(&*self.disk, &self.recover, &mut *state)
            .map_err(|refusal| format!("the state cannot be loaded again from the disk: {refusal}"))?;
        host.set_floor(self.writer.floor());
        host.reloaded(last);
        Ok(state)
    }
}

fn failure(error: &DiskError) -> String {
    let remedy = remedy(error, "make room on the disk that holds dataLogDir");
    format!(
        "the transaction log failed: {error}. Nothing more is acknowledged, and whatever was acknowledged is safe. Remedy: {remedy}, then start the server again"
    )
}

/// A snapshot that a leader sent could not become the history.
fn install_failure(error: &DiskError) -> String {
    let remedy =
        remedy(error, "make room on the disk that holds dataDir, for a snapshot of this size beside the old ones");
    format!(
        "the leader's snapshot of its whole state cannot take the place of this server's history: {error}. Nothing of it was acknowledged, and the next start finds the old history whole or finishes the new one. Remedy: {remedy}, then start the server again"
    )
}

/// What to do where no more files can be opened.
const TOO_MANY_FILES: &str = "raise the limit of open files (ulimit -n, LimitNOFILE= in its systemd unit, or the system's fs.file-max), or let fewer clients connect (maxClientCnxns, maxCnxns)";

/// What to do about an error; `room` if the disk is full.
const fn remedy(error: &DiskError, room: &'static str) -> &'static str {
    match error.kind {
        DiskErrorKind::Full => room,
        DiskErrorKind::ReadOnly => "remount the file system for writing",
        DiskErrorKind::Denied => "give the server's user access",
        DiskErrorKind::TooManyFiles => TOO_MANY_FILES,
        DiskErrorKind::NotFound | DiskErrorKind::Exists | DiskErrorKind::Other => "check the disk and the kernel's log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_file_can_be_opened_the_disk_is_not_to_blame() {
        let error = DiskError {
            operation: "create",
            path: "/l/version-2/log.7".to_owned(),
            kind: DiskErrorKind::TooManyFiles,
            message: "Too many open files".to_owned(),
        };
        let text = failure(&error);
        assert!(text.contains("Remedy: raise the limit of open files (ulimit -n, LimitNOFILE="), "{text}");
        assert!(!text.contains("check the disk"), "{text}");
    }

    #[test]
    fn a_full_disk_is_told_by_what_was_to_be_written() {
        let error = |path: &str| DiskError {
            operation: "write",
            path: path.to_owned(),
            kind: DiskErrorKind::Full,
            message: "No space left on device".to_owned(),
        };
        let install = install_failure(&error("/d/version-2/farrier.snapshot.install"));
        assert!(!install.contains("log") && install.contains("farrier.snapshot.install"), "{install}");
        assert!(install.contains("disk that holds dataDir"), "{install}");
        let log = failure(&error("/l/version-2/log.1"));
        assert!(log.contains("transaction log") && log.contains("disk that holds dataLogDir"), "{log}");
    }
}
