//! What a seed stands for: members, settings, rates, clients and faults. Everything is drawn here, before the run, so
//! that a run can be repeated with less of it.
//!
//! Swarm style: each seed also draws which kinds of fault there are at all, and how large, slow and busy everything is.
//! Who is hit is drawn as a number that is made into a server only when the moment comes: the leader of that moment, for
//! instance.

use crate::client::Workload;
use crate::random::Random;
use farrier_proto::ServerId;
use farrier_proto::membership::{Member, MemberList, PeerAddress, Role};
use farrier_storage::Compression;
use std::collections::BTreeMap;

/// Number of the generator. It goes up with every change that makes other runs of old seeds: of plans, of the engine, or of
/// what clients do. Seeds that were run add up for one number only (`blocks.txt`).
pub const GENERATOR: u32 = 7;

/// Kinds of fault as they are planned. What happens is told as [`Fault`](crate::observe::Fault), and may be several of
/// those, or none where it would forbid the ensemble to recover.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FaultKind {
    /// A process is killed.
    ProcessCrash,
    /// A machine loses power.
    PowerCrash,
    /// A process is killed between two disk operations, or in the middle of one.
    ProcessCrashInDisk,
    /// A machine loses power there.
    PowerCrashInDisk,
    /// All machines lose power at once.
    Blackout,
    /// A process is not scheduled.
    Pause,
    /// A wall clock jumps.
    ClockJump,
    /// A clock runs at another rate.
    ClockSkew,
    /// A connection between two servers breaks.
    LinkLoss,
    /// A server reaches no other one.
    Isolation,
    /// A leader is cut off with writes that nobody else has, and comes back when another leads that has committed
    /// nothing yet.
    Deposition,
    /// The same, but before the one that was deposed comes back, a server that writes as Apache does runs on its directory;
    /// or another server is stopped for a while, and that happens to it before it comes back.
    Takeover,
    /// The others leave a leader that hears nothing of it: it leads on for a while, and clients that are attached to
    /// it read and sync there while others write elsewhere.
    Desertion,
    /// A leader is not scheduled for nearly as long as its learners bear it, while clients of theirs only read and ping.
    LeaderPause,
    /// The servers fall into two parts.
    Split,
    /// Nothing passes from one server to another, but back.
    OneWay,
    /// Messages between two servers are slow.
    SlowLink,
    /// A client's connection breaks.
    ClientLinkLoss,
    /// A client reaches nobody.
    ClientCut,
    /// A disk is slow.
    SlowDisk,
    /// A write fails.
    FailedWrite,
    /// A sync fails.
    FailedSync,
    /// A disk is full.
    FullDisk,
    /// Bits change on a disk.
    BitRot,
    /// A disk is replaced by an empty one.
    Wipe,
    /// An operator asks for another leader.
    HandOver,
    /// An operator stops a server in order.
    OrderlyStop,
}

impl FaultKind {
    /// All, each with how often it is drawn compared to the others.
    pub const WEIGHTS: [(Self, u32); 27] = [
        (Self::ProcessCrash, 10),
        (Self::PowerCrash, 10),
        (Self::ProcessCrashInDisk, 6),
        (Self::PowerCrashInDisk, 10),
        (Self::Blackout, 2),
        (Self::Pause, 8),
        (Self::ClockJump, 4),
        (Self::ClockSkew, 4),
        (Self::LinkLoss, 8),
        (Self::Isolation, 14),
        (Self::Deposition, 56),
        (Self::Takeover, 10),
        (Self::Desertion, 12),
        (Self::LeaderPause, 8),
        (Self::Split, 6),
        (Self::OneWay, 8),
        (Self::SlowLink, 6),
        (Self::ClientLinkLoss, 6),
        (Self::ClientCut, 4),
        (Self::SlowDisk, 6),
        (Self::FailedWrite, 3),
        (Self::FailedSync, 4),
        (Self::FullDisk, 3),
        (Self::BitRot, 3),
        (Self::Wipe, 3),
        (Self::HandOver, 4),
        (Self::OrderlyStop, 4),
    ];

    /// Longest that it lasts, or that a server stays down behind it. Milliseconds.
    const fn lasts_max(self) -> u64 {
        match self {
            Self::ProcessCrash | Self::PowerCrash | Self::ProcessCrashInDisk | Self::PowerCrashInDisk => 12_000,
            Self::Blackout | Self::OrderlyStop | Self::FailedWrite | Self::FailedSync | Self::Wipe => 5_000,
            Self::BitRot => 8_000,
            Self::Isolation | Self::Split | Self::OneWay | Self::ClientCut => 15_000,
            Self::Deposition | Self::Takeover => 30_000,
            Self::Desertion => 8_000,
            // As long as learners bear it; see the engine.
            Self::LeaderPause => 12_000,
            Self::Pause | Self::SlowLink | Self::SlowDisk | Self::FullDisk => 10_000,
            Self::ClockSkew => 40_000,
            Self::ClockJump | Self::LinkLoss | Self::ClientLinkLoss | Self::HandOver => 0,
        }
    }

    /// Shortest that it lasts, unless the faults end before. Milliseconds.
    const fn lasts_min(self) -> u64 {
        match self {
            Self::Desertion => 1_500,
            Self::LeaderPause => self.lasts_max(),
            _ => 0,
        }
    }
}

/// A fault that is to come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedFault {
    /// When, in milliseconds since the run began.
    pub at_ms: u64,
    /// What.
    pub kind: FaultKind,
    /// Decides who is hit.
    pub whom: u64,
    /// How long it lasts, in milliseconds.
    pub lasts_ms: u64,
    /// Decides how bad it is.
    pub size: u64,
    /// It comes even if that leaves no quorum for a while.
    pub bold: bool,
}

impl PlannedFault {
    /// A leader that is to be deposed comes back while the promises for its successor are still gathered.
    #[must_use]
    pub const fn returns_early(&self) -> bool {
        matches!(self.kind, FaultKind::Deposition) && (self.size >> 4).is_multiple_of(4)
    }
}

/// A member of the ensemble.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedMember {
    /// Who.
    pub id: ServerId,
    /// Without a vote.
    pub observer: bool,
    /// Its group, if there are groups.
    pub group: Option<i64>,
    /// Its weight.
    pub weight: u64,
}

/// Settings of all servers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerSettings {
    /// `tickTime`. Milliseconds.
    pub tick_ms: u64,
    /// `initLimit`. Ticks.
    pub init_limit: u64,
    /// `syncLimit`. Ticks.
    pub sync_limit: u64,
    /// `snapCount`.
    pub snap_count: u64,
    /// `commitLogCount`: transactions in memory for learners.
    pub window_txns: usize,
    /// `snapshotSizeFactor` in thousandths.
    pub log_diff_permille: Option<u64>,
    /// `forceSnapshotSync`.
    pub force_snapshot_sync: bool,
    /// Bytes of a prepared log segment; 0 for none.
    pub segment_size: u64,
    /// `txnLogSizeLimitInKb`, in bytes; 0 for none.
    pub log_size_limit: u64,
    /// Unit in which a power failure keeps or loses a write. Bytes.
    pub sector: usize,
    /// Compression of snapshots.
    pub compression: Compression,
    /// Log and snapshots in directories of their own.
    pub separate_log: bool,
    /// Most commands that are carried out together.
    pub batch_max: usize,
    /// Between two purges. Milliseconds.
    pub purge_ms: u64,
    /// `znode.container.checkIntervalMs`.
    pub sweep_ms: u64,
    /// Bytes of a page of the log for a learner.
    pub page_bytes: usize,
    /// Znodes of a snapshot's image that are gathered at once. The trees are so small that by the server's own number each
    /// image is whole in its first step.
    pub image_slice: u32,
}

/// How fast everything is. Microseconds, unless said otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rates {
    /// Least time of a message on its way.
    pub message_min: u64,
    /// Most.
    pub message_max: u64,
    /// Bytes that a connection holds before its sender has to wait.
    pub socket_bytes: u64,
    /// Least time of a batch on the disk.
    pub sync_min: u64,
    /// Most.
    pub sync_max: u64,
    /// Most time between a sync and the word of it.
    pub word_max: u64,
    /// Most time of a snapshot or a prepared segment.
    pub background_max: u64,
}

/// A simulated client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedClient {
    /// Its own chance.
    pub seed: u64,
    /// What it does.
    pub workload: Workload,
}

/// One run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The ensemble.
    pub members: Vec<PlannedMember>,
    /// Settings of the servers.
    pub servers: ServerSettings,
    /// Speeds.
    pub rates: Rates,
    /// Clients.
    pub clients: Vec<PlannedClient>,
    /// Faults, in the order of time.
    pub faults: Vec<PlannedFault>,
    /// Until then faults may come. Milliseconds.
    pub safety_ms: u64,
    /// The run goes on without faults until so many transactions are committed.
    pub txns_min: u64,
}

/// Least simulated time of a run. Milliseconds.
pub const RUN_MS_MIN: u64 = 120_000;

/// Least committed transactions of a run.
pub const RUN_TXNS_MIN: u64 = 1000;

/// Most deeds of all clients of a run in a second, in the mean. Faults need time more than traffic, and traffic is what a run
/// costs.
pub const DEEDS_PER_SECOND_MAX: u64 = 30;

impl Plan {
    /// What the seed stands for.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let members = draw_members(&mut random.fork("members"));
        let servers = draw_settings(&mut random.fork("settings"));
        let rates = draw_rates(&mut random.fork("rates"));
        let mut of_clients = random.fork("clients");
        let mut clients: Vec<PlannedClient> = (0..of_clients.between(2, 5))
            .map(|_| PlannedClient { seed: of_clients.draw(), workload: Workload::draw(&mut of_clients) })
            .collect();
        slow_down(&mut clients);
        let safety_ms = RUN_MS_MIN + random.below(20_000);
        let faults = draw_faults(&mut random.fork("faults"), safety_ms);
        Self { seed, members, servers, rates, clients, faults, safety_ms, txns_min: RUN_TXNS_MIN }
    }

    /// The members as servers know them.
    #[must_use]
    pub fn member_list(&self) -> MemberList {
        let member = |m: &PlannedMember| Member {
            addresses: vec![PeerAddress { host: format!("s{}", m.id.0), quorum_port: 2888, election_port: 3888 }],
            role: if m.observer { Role::Observer } else { Role::Participant },
            client: None,
            secure_client: None,
        };
        let mut groups: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for m in &self.members {
            if let Some(group) = m.group {
                groups.entry(group).or_default().push(m.id.0);
            }
        }
        let weights = if groups.is_empty() {
            BTreeMap::new()
        } else {
            self.members.iter().filter(|m| m.group.is_some()).map(|m| (m.id.0, m.weight)).collect()
        };
        let members = self.members.iter().map(|m| (m.id.0, member(m))).collect();
        MemberList { members, groups, weights, version: 0 }
    }
}

fn draw_members(random: &mut Random) -> Vec<PlannedMember> {
    let voters = [3, 5, 7][random.weighted(&[75, 20, 5])];
    let observers = [0, 1, 2][random.weighted(&[70, 20, 10])];
    // Three groups of one, two or three; each has a majority of the weight in it by itself.
    let grouped = voters > 3 && random.percent(25) || voters == 3 && random.percent(8);
    let mut members = Vec::new();
    for n in 0..voters {
        let group = grouped.then_some(n % 3 + 1);
        let weight = if grouped { random.between(1, 3) } else { 1 };
        members.push(PlannedMember { id: ServerId(n + 1), observer: false, group, weight });
    }
    for n in voters..voters + observers {
        members.push(PlannedMember { id: ServerId(n + 1), observer: true, group: None, weight: 1 });
    }
    members
}

/// What clients do in bursts they go on doing in bursts, but together not more than [`DEEDS_PER_SECOND_MAX`].
fn slow_down(clients: &mut [PlannedClient]) {
    let per_second = |c: &PlannedClient| 500 * (1 + c.workload.burst_max) / c.workload.pause_ms;
    let all: u64 = clients.iter().map(per_second).sum();
    if all > DEEDS_PER_SECOND_MAX {
        for client in clients {
            client.workload.pause_ms = client.workload.pause_ms * all / DEEDS_PER_SECOND_MAX;
        }
    }
}

fn draw_settings(random: &mut Random) -> ServerSettings {
    let page_bytes = *random.pick(&[4 << 10, 16 << 10, 1 << 20]);
    ServerSettings {
        tick_ms: *random.pick(&[200, 500, 1000, 2000]),
        init_limit: random.between(5, 10),
        sync_limit: random.between(2, 5),
        snap_count: random.between(40, 600),
        window_txns: *random.pick(&[1, 5, 50, 500]),
        log_diff_permille: *random.pick(&[None, Some(330), Some(330), Some(0)]),
        force_snapshot_sync: random.percent(5),
        segment_size: *random.pick(&[0, 4 << 10, 32 << 10, 256 << 10]),
        log_size_limit: *random.pick(&[0, 0, 8 << 10]),
        sector: *random.pick(&[64, 512, 512, 4096]),
        compression: *random.pick(&[Compression::Plain, Compression::Plain, Compression::Gz, Compression::Snappy]),
        separate_log: random.percent(30),
        batch_max: *random.pick(&[1, 3, 1000]),
        purge_ms: random.between(5_000, 40_000),
        sweep_ms: random.between(2_000, 10_000),
        page_bytes,
        image_slice: *random.pick(&[4096, 4096, 4096, 1]),
    }
}

fn draw_rates(random: &mut Random) -> Rates {
    let message_min = *random.pick(&[20, 100, 1000]);
    let sync_min = *random.pick(&[50, 500, 4000]);
    Rates {
        message_min,
        message_max: message_min * random.between(2, 10),
        socket_bytes: *random.pick(&[512, 8 << 10, 256 << 10]),
        sync_min,
        sync_max: sync_min * random.between(2, 8),
        word_max: *random.pick(&[1, 100, 2000]),
        background_max: *random.pick(&[100, 20_000, 500_000]),
    }
}

fn draw_faults(random: &mut Random, safety_ms: u64) -> Vec<PlannedFault> {
    let weights: Vec<u32> =
        FaultKind::WEIGHTS.iter().map(|(_, weight)| if random.percent(30) { 0 } else { *weight }).collect();
    if weights.iter().all(|w| *w == 0) {
        return Vec::new();
    }
    let gap = random.between(2_000, 9_000);
    let bold = random.below(30);
    // The ensemble gets to its feet first.
    let mut at_ms = 1_500;
    let mut faults = Vec::new();
    loop {
        at_ms += random.below(2 * gap);
        if at_ms + 2_000 >= safety_ms {
            return faults;
        }
        let (kind, _) = FaultKind::WEIGHTS[random.weighted(&weights)];
        // Mostly short ones.
        let (a, b) = (random.below(1000), random.below(1000));
        let (least, most) = (kind.lasts_min(), kind.lasts_max());
        let lasts_ms = (least + (most - least) * a / 1000 * b / 1000).min(safety_ms - at_ms);
        faults.push(PlannedFault {
            at_ms,
            kind,
            whom: random.draw(),
            lasts_ms,
            size: random.draw(),
            bold: random.percent(bold),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_zab::Ensemble;
    use std::collections::BTreeSet;

    #[test]
    fn every_plan_is_one_and_the_same_seed_gives_the_same() {
        let mut kinds = BTreeSet::new();
        for seed in 0..300 {
            let plan = Plan::draw(seed);
            assert_eq!(plan, Plan::draw(seed));
            assert!(plan.safety_ms >= RUN_MS_MIN && !plan.clients.is_empty());
            assert!(plan.faults.is_sorted_by_key(|f| f.at_ms));
            assert!(plan.faults.iter().all(|f| f.at_ms + f.lasts_ms <= plan.safety_ms));
            Ensemble::of(&plan.member_list()).expect("an ensemble");
            kinds.extend(plan.faults.iter().map(|f| f.kind));
        }
        assert_eq!(kinds.len(), FaultKind::WEIGHTS.len(), "every kind is drawn");
    }

    #[test]
    fn other_plans_are_another_generator() {
        let mut sum = 0;
        for seed in 0..20 {
            for byte in format!("{:?}", Plan::draw(seed)).bytes() {
                sum = u64::rotate_left(sum, 5) ^ u64::from(byte).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            }
        }
        assert_eq!(
            (GENERATOR, sum),
            (7, 12_143_746_937_803_018_517),
            "count GENERATOR up, record planted bugs again, and put the new sum here"
        );
    }
}
