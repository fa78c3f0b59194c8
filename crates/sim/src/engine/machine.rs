//! A machine, and the process of a server that may run on it.

use super::clock::MachineClock;
use super::election::Voice;
use super::event::Event;
use crate::observe::{Role, ServerEvent};
use crate::plan::ServerSettings;
use crate::random::Random;
use bytes::Bytes;
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId, Zxid};
use farrier_replica::{Actions, Input, LogCommand, LogHost, LogWork, Replica, SnapshotImage, Time, WriteId};
use farrier_storage::mem::MemDisk;
use farrier_storage::{Committed, Dir, DiskPath, LogCursor};
use farrier_zab::LinkId;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A machine with one disk.
pub(crate) struct Machine {
    pub(crate) id: ServerId,
    pub(crate) disk: Arc<MemDisk>,
    pub(crate) clock: MachineClock,
    /// There is power: an operating system answers for processes that are gone.
    pub(crate) powered: bool,
    pub(crate) process: Option<Process>,
    /// How many faults want the process not to be scheduled.
    pub(crate) pauses: u32,
    /// What the paused process would have done.
    pub(crate) deferred: Vec<Event>,
    /// Counts processes.
    pub(crate) lives: u32,
    /// Names the newest plan to start a process.
    pub(crate) start_planned: u32,
    /// Microseconds that its disk takes more.
    pub(crate) slow_disk: u64,
    /// What the disk says may be gone, and the server has not been given it again.
    pub(crate) impaired: bool,
    /// Starts in a row that were refused.
    pub(crate) refused: u32,
    pub(crate) random: Random,
}

impl Machine {
    pub(crate) fn new(id: ServerId, settings: &ServerSettings, random: Random) -> Self {
        Self {
            id,
            disk: fresh_disk(settings),
            clock: MachineClock::default(),
            powered: true,
            process: None,
            pauses: 0,
            deferred: Vec::new(),
            lives: 0,
            start_planned: 0,
            slow_disk: 0,
            impaired: false,
            refused: 0,
            random,
        }
    }

    /// Whether messages get to a process or a system here.
    pub(crate) const fn receives(&self) -> bool {
        self.powered && self.pauses == 0
    }

    /// Whether a process runs and is scheduled.
    pub(crate) const fn runs(&self) -> bool {
        self.process.is_some() && self.pauses == 0
    }

    /// Whether a process serves and is scheduled.
    pub(crate) fn serves(&self) -> bool {
        self.pauses == 0 && self.process.as_ref().is_some_and(|p| p.replica.is_serving())
    }
}

/// A disk with nothing on it.
pub(crate) fn fresh_disk(settings: &ServerSettings) -> Arc<MemDisk> {
    let disk = MemDisk::new(settings.separate_log);
    disk.stop_recording();
    disk.set_sector(settings.sector);
    Arc::new(disk)
}

/// A process of a server.
pub(crate) struct Process {
    pub(crate) life: u32,
    /// Own microseconds of the machine at which it began.
    pub(crate) began: u64,
    pub(crate) replica: Replica,
    pub(crate) out: Actions,
    pub(crate) work: LogWork<MemDisk>,
    /// Commands for the log.
    pub(crate) commands: VecDeque<LogCommand>,
    /// Commands are being carried out, or the word of it is on its way.
    pub(crate) log_busy: bool,
    /// The word that is on its way.
    pub(crate) done: VecDeque<Input<'static>>,
    /// Where the states end that were loaded again and that the replica has not been given yet.
    pub(crate) reloaded: VecDeque<Zxid>,
    /// Changes of the history on disk.
    pub(crate) history: u64,
    /// Where differences end.
    pub(crate) floor: Zxid,
    /// The snapshot that is to be written, and the history that it is of.
    pub(crate) snapshot: Option<(u64, Box<SnapshotImage>)>,
    /// A log segment is being prepared.
    pub(crate) preparing: bool,
    /// The last attempt failed, and the next is due then. Microseconds.
    pub(crate) prepare_again: Option<u64>,
    /// Places in the log, of learners.
    pub(crate) cursors: BTreeMap<LinkId, LogCursor>,
    /// Counts dials of the learner channel; only the newest counts.
    pub(crate) dials: u32,
    /// What is said on the election ports.
    pub(crate) voices: BTreeMap<ServerId, Voice>,
    /// When the timer fires, in the world's microseconds.
    pub(crate) armed: Option<u64>,
    /// Transactions that may be applied.
    pub(crate) known: BTreeMap<Zxid, Bytes>,
    /// The role that was told last.
    pub(crate) told: Option<(Role, bool)>,
    /// Up to where the tree was when that was told last.
    pub(crate) applied: Zxid,
}

/// The process as the work on its log needs it.
pub(crate) struct SimHost<'a> {
    pub(crate) disk: &'a MemDisk,
    pub(crate) now: Time,
    pub(crate) history: &'a mut u64,
    pub(crate) floor: &'a mut Zxid,
    pub(crate) snapshot: &'a mut Option<(u64, Box<SnapshotImage>)>,
    /// Epoch files and installations among the commands, by the write that their completion quotes.
    pub(crate) writes: BTreeMap<WriteId, EpochWrite>,
    /// What is to be told to the replica.
    pub(crate) done: Vec<Input<'static>>,
    /// What is true of the disk.
    pub(crate) facts: Vec<ServerEvent>,
    /// How much of that was so when the disk was copied.
    pub(crate) copied: Option<usize>,
    /// Where the states end that were loaded again.
    pub(crate) reloaded: Vec<Zxid>,
    pub(crate) segment_started: bool,
    pub(crate) snapshot_wanted: bool,
}

/// A write that is no append.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EpochWrite {
    Accepted(AcceptedEpoch),
    Current(CurrentEpoch),
    Install(Zxid, CurrentEpoch),
    Truncate(Zxid),
}

impl EpochWrite {
    /// What a command writes beside the log, and the name of the write.
    pub(crate) fn of(command: &LogCommand) -> Option<(WriteId, Self)> {
        match command {
            LogCommand::SaveAcceptedEpoch { id, epoch } => Some((*id, Self::Accepted(*epoch))),
            LogCommand::SaveCurrentEpoch { id, epoch } => Some((*id, Self::Current(*epoch))),
            LogCommand::Install { id, epoch, image } => {
                Some((*id, Self::Install(farrier_storage::Image::zxid(&**image), *epoch)))
            }
            LogCommand::Truncate { id, after } => Some((*id, Self::Truncate(*after))),
            LogCommand::Append { .. }
            | LogCommand::Roll
            | LogCommand::TakeSnapshot { .. }
            | LogCommand::SavePending { .. }
            | LogCommand::RaiseRecovering { .. }
            | LogCommand::Reload { .. } => None,
        }
    }
}

impl SimHost<'_> {
    /// Whether the medium holds this number in an epoch file.
    fn holds(&self, name: &str, epoch: u32) -> bool {
        let content = self.disk.durable_content(&DiskPath::new(Dir::DataVersion, name));
        content.is_some_and(|bytes| bytes == epoch.to_string().as_bytes())
    }

    fn tell(&mut self, fact: ServerEvent) {
        self.note_copy();
        self.facts.push(fact);
    }

    /// Of the disk, which may have been copied since it was asked last.
    pub(crate) fn note_copy(&mut self) {
        if self.copied.is_none() && self.disk.has_copy() {
            self.copied = Some(self.facts.len());
        }
    }

    fn written(&mut self, write: EpochWrite) {
        match write {
            EpochWrite::Accepted(epoch) if self.holds("acceptedEpoch", epoch.0) => {
                self.tell(ServerEvent::AcceptedEpochDurable(epoch));
            }
            EpochWrite::Current(epoch) if self.holds("currentEpoch", epoch.0) => {
                self.tell(ServerEvent::CurrentEpochDurable(epoch));
            }
            EpochWrite::Install(zxid, epoch) if self.disk.is_synced(Dir::DataVersion, "snapshot.") => {
                self.tell(ServerEvent::SnapshotInstalled { zxid });
                if self.holds("currentEpoch", epoch.0) {
                    self.tell(ServerEvent::CurrentEpochDurable(epoch));
                }
            }
            EpochWrite::Truncate(after) if self.disk.is_synced(Dir::LogVersion, "log.") => {
                self.tell(ServerEvent::LogCut { after });
            }
            EpochWrite::Accepted(_) | EpochWrite::Current(_) | EpochWrite::Install(..) | EpochWrite::Truncate(_) => {}
        }
    }
}

impl LogHost for SimHost<'_> {
    type Claim = ();

    fn step(&mut self, input: Input<'static>) {
        let (id, done) = match &input {
            Input::Durable { id } => (Some(*id), true),
            Input::Truncated { id, state } => (Some(*id), state.is_some()),
            _ => (None, true),
        };
        if let Some(write) = id.and_then(|id| self.writes.remove(&id)).filter(|_| done) {
            self.written(write);
        }
        self.done.push(input);
    }

    fn committing(&mut self) {}

    fn committed(&mut self, id: WriteId, done: Committed) {
        if self.disk.is_synced(Dir::LogVersion, "log.") {
            self.tell(ServerEvent::LogDurable { upto: done.zxid });
        }
        self.segment_started |= done.started.is_some();
        self.done.push(Input::Durable { id });
    }

    fn take_snapshot(&mut self, image: Box<SnapshotImage>) {
        *self.snapshot = Some((*self.history, image));
        self.snapshot_wanted = true;
    }

    fn claim(&mut self) {
        *self.history += 1;
    }

    fn set_floor(&mut self, floor: Zxid) {
        *self.floor = floor;
    }

    fn reloaded(&mut self, last: Zxid) {
        self.reloaded.push(last);
    }

    fn mono(&self) -> u64 {
        self.now.mono
    }
}
