//! What a run, or many, came to: how much was done, and how often what happened.

use crate::observe::{ClientEvent, Fault, Phase, Role, ServerEvent, SyncKind, What};
use crate::plan::FaultKind;
use std::collections::BTreeMap;

/// Counts of one run, or of several together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Simulated microseconds.
    pub simulated_us: u64,
    /// Transactions that an established leader applied.
    pub txns: u64,
    /// Leaders that were established, but for the first of each run.
    pub leader_changes: u64,
    /// Learners that were brought up to date, by what was sent.
    pub syncs: BTreeMap<SyncKind, u64>,
    /// Planned faults that came, by kind.
    pub planned: BTreeMap<FaultKind, u64>,
    /// Planned faults that must not come in their moment.
    pub skipped: u64,
    /// Faults as they were told, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Writes that failed as it was planned.
    pub failed_writes: u64,
    /// Syncs that failed as it was planned.
    pub failed_syncs: u64,
    /// Unsynced writes of which nothing was left.
    pub lost_writes: u64,
    /// Processes that ended themselves.
    pub halts: u64,
    /// Snapshots that servers took of their own.
    pub snapshots: u64,
    /// Files that were purged.
    pub purged: u64,
    /// Requests of clients.
    pub calls: u64,
    /// Of these, with a reply that is no error.
    pub successes: u64,
    /// Of these, without a reply.
    pub unknown: u64,
    /// Sessions that clients were told to have expired.
    pub expired: u64,
    /// Watch events.
    pub watched: u64,
    /// Established leaders so far.
    leaders: u64,
}

impl Tally {
    pub(crate) fn count(&mut self, what: &What) {
        match what {
            What::Server(_, event) => self.count_server(event),
            What::Client(_, event) => match event {
                ClientEvent::Invoked { .. } => self.calls += 1,
                ClientEvent::Returned { outcome: Ok(_), .. } => self.successes += 1,
                ClientEvent::Unknown { .. } => self.unknown += 1,
                ClientEvent::Expired { .. } => self.expired += 1,
                ClientEvent::Watched { .. } => self.watched += 1,
                _ => {}
            },
            What::FaultBegan(_, fault) => *self.faults.entry(name(fault)).or_default() += 1,
            What::FaultEnded(_) | What::Phase(Phase::Safety | Phase::Healed | Phase::Quiet | Phase::Settled) => {}
        }
    }

    fn count_server(&mut self, event: &ServerEvent) {
        match event {
            ServerEvent::Role { role: Role::Leading { epoch: Some(_) }, serving: true } => {
                self.leaders += 1;
                if self.leaders > 1 {
                    self.leader_changes += 1;
                }
            }
            ServerEvent::Synchronizing { how, .. } => *self.syncs.entry(*how).or_default() += 1,
            ServerEvent::Ended(crate::observe::Ending::Halted(_)) => self.halts += 1,
            ServerEvent::SnapshotTaken { .. } => self.snapshots += 1,
            _ => {}
        }
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        fn add_all<K: Ord + Copy>(to: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
            for (key, n) in from {
                *to.entry(*key).or_default() += n;
            }
        }
        self.simulated_us += other.simulated_us;
        self.txns += other.txns;
        self.leader_changes += other.leader_changes;
        add_all(&mut self.syncs, &other.syncs);
        add_all(&mut self.planned, &other.planned);
        self.skipped += other.skipped;
        add_all(&mut self.faults, &other.faults);
        self.failed_writes += other.failed_writes;
        self.failed_syncs += other.failed_syncs;
        self.lost_writes += other.lost_writes;
        self.halts += other.halts;
        self.snapshots += other.snapshots;
        self.purged += other.purged;
        self.calls += other.calls;
        self.successes += other.successes;
        self.unknown += other.unknown;
        self.expired += other.expired;
        self.watched += other.watched;
    }
}

/// Every kind of fault that is counted, so that one that never came is seen.
pub const FAULT_NAMES: [&str; 22] = [
    "process crash",
    "power crash",
    "pause",
    "clock jump",
    "clock skew",
    "link loss",
    "cut one way",
    "cut, silent",
    "cut, refused",
    "slow link",
    "client's link loss",
    "client's cut",
    "slow disk",
    "failed write",
    "failed sync",
    "full disk",
    "bit rot",
    "wiped disk",
    "taken over",
    "torn write",
    "reordered write",
    "lost rename",
];

/// What operators ask for, counted beside the faults.
pub const REQUEST_NAMES: [&str; 2] = ["hand-over", "orderly stop"];

const fn name(fault: &Fault) -> &'static str {
    match fault {
        Fault::ProcessCrash(_) => "process crash",
        Fault::PowerCrash(_) => "power crash",
        Fault::Pause(_) => "pause",
        Fault::ClockJump(..) => "clock jump",
        Fault::ClockSkew(..) => "clock skew",
        Fault::LinkLoss(..) => "link loss",
        Fault::Cut { both: false, .. } => "cut one way",
        Fault::Cut { silent: true, .. } => "cut, silent",
        Fault::Cut { silent: false, .. } => "cut, refused",
        Fault::SlowLink(..) => "slow link",
        Fault::ClientLinkLoss(_) => "client's link loss",
        Fault::ClientCut(_) => "client's cut",
        Fault::SlowDisk(..) => "slow disk",
        Fault::FailedWrite(_) => "failed write",
        Fault::FailedSync(_) => "failed sync",
        Fault::FullDisk(_) => "full disk",
        Fault::BitRot(_) => "bit rot",
        Fault::Wiped(_) => "wiped disk",
        Fault::TakenOver(_) => "taken over",
        Fault::TornWrite(_) => "torn write",
        Fault::ReorderedWrite(_) => "reordered write",
        Fault::LostRename(_) => "lost rename",
        Fault::HandOver(_) => "hand-over",
        Fault::OrderlyStop(_) => "orderly stop",
    }
}
