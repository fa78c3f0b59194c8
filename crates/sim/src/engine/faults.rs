//! Planned faults made real: who is hit is decided here, and whether the ensemble could recover from it.
//!
//! Two bounds. Unless a fault is bold, it leaves a quorum of voters that run and reach each other. And what destroys data
//! on a disk comes only while every voter serves, and never to so many that those who remember everything are no quorum:
//! beyond that nobody could promise anything.

use super::clock::TRUE_RATE;
use super::event::Event;
use super::machine::fresh_disk;
use super::net::{ConnKey, ConnKind, Party};
use super::process::Death;
use super::world::World;
use crate::client::{ClientInput, Manner};
use crate::observe::{ClientId, Ending, Fault, FaultId, Role, What};
use crate::plan::{FaultKind, PlannedFault};
use farrier_proto::ServerId;
use farrier_replica::Input;
use farrier_storage::mark::{MarkRead, read_mark};
use farrier_storage::mem::{FailOn, Lost};
use farrier_storage::{Dir, Disk as _, DiskErrorKind, DiskPath};
use std::collections::{BTreeMap, BTreeSet};

/// What ends a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Undo {
    Resume(ServerId),
    Mend { from: ServerId, to: ServerId, both: bool, refuses: bool },
    Rate(ServerId),
    Hurry(ServerId, ServerId),
    Reach(ClientId),
    FastDisk(ServerId, u64),
    Room(ServerId),
}

/// What is in force.
#[derive(Default)]
pub(crate) struct Faults {
    named: u32,
    /// By the place in the plan.
    active: BTreeMap<usize, Vec<(FaultId, Undo)>>,
    /// The clients that are cut off as a part of a fault.
    absent: BTreeMap<usize, Vec<(FaultId, Undo)>>,
    /// The clients that keep to some requests as a part of a fault.
    mannered: BTreeMap<usize, Vec<ClientId>>,
    /// The leader that is being deposed, by the fault.
    pub(crate) deposing: Option<(usize, ServerId)>,
    /// The server that another one takes over when the fault ends.
    taken: Option<Taken>,
    /// Servers whose planned crash between disk operations takes the power.
    power: BTreeSet<ServerId>,
    over: bool,
}

impl Faults {
    pub(crate) const fn name(&mut self) -> FaultId {
        self.named += 1;
        FaultId(self.named)
    }

    /// Whether the crash that was planned for a server's disk is one of the power.
    pub(crate) fn crash_takes_power(&mut self, id: ServerId) -> bool {
        self.power.remove(&id)
    }
}

/// See [`FaultKind::Takeover`].
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// The fault at whose end it happens.
    of: usize,
    server: ServerId,
    /// It was stopped for that, and is left alone if somebody starts it again, or changes its disk, before.
    is_learner: bool,
}

impl World {
    /// A planned fault begins, or is skipped.
    pub(crate) fn fault_begins(&mut self, index: usize) {
        if self.faults.over {
            return;
        }
        let fault = self.plan.faults[index].clone();
        if self.strike(index, &fault) {
            *self.tally.planned.entry(fault.kind).or_default() += 1;
            let at = self.now + fault.lasts_ms * 1000;
            self.queue.plan(at, Event::FaultEnds(index));
        } else {
            self.transcript.line(self.now, || format!("skipped {:?}", fault.kind));
            self.tally.skipped += 1;
        }
    }

    /// Its time is over.
    pub(crate) fn fault_ends(&mut self, index: usize) {
        if self.faults.deposing.is_some_and(|(deposing, _)| deposing == index) {
            // Nobody deposed it.
            self.faults.deposing = None;
            self.queue.plan(self.now, Event::ClientsBack(index));
        }
        if let Some(Taken { server, is_learner, .. }) = self.faults.taken.take_if(|taken| taken.of == index) {
            let machine = self.machine(server);
            let undisturbed = machine.process.is_none() && !machine.impaired;
            if !is_learner || undisturbed {
                self.take_over(server);
            } else if machine.process.is_none() {
                self.plan_start(server, 0);
            }
        }
        for client in self.faults.mannered.remove(&index).unwrap_or_default() {
            self.client_step(client, ClientInput::Manner(Manner::Free));
        }
        for (id, undo) in self.faults.active.remove(&index).unwrap_or_default() {
            self.undo(undo);
            self.tell(What::FaultEnded(id));
        }
    }

    /// Whatever is in force ends, and nothing more begins. Every machine works, and its server is started.
    pub(crate) fn heal(&mut self) {
        self.faults.over = true;
        let in_force = self.faults.active.keys().chain(self.faults.mannered.keys()).copied();
        for index in in_force.collect::<BTreeSet<_>>() {
            self.fault_ends(index);
        }
        for index in self.faults.absent.keys().copied().collect::<Vec<_>>() {
            self.clients_back(index);
        }
        self.faults.power.clear();
        self.faults.taken = None;
        let all: Vec<ServerId> = self.machines.iter().map(|m| m.id).collect();
        for id in all {
            self.machine(id).disk.heal();
            if self.machine(id).process.is_none() {
                self.plan_start(id, 0);
            }
        }
    }

    /// Nobody writes any more until another leader is there and has taken in the one that is deposed.
    pub(crate) fn cut_clients(&mut self, index: usize) {
        if !self.faults.active.contains_key(&index) {
            return;
        }
        for n in 0..self.people.len() {
            let client = ClientId(u32::try_from(n).expect("few clients"));
            if self.net.lonely.insert(client) {
                let id = self.tell_fault_began(Fault::ClientCut(client));
                self.faults.absent.entry(index).or_default().push((id, Undo::Reach(client)));
            }
        }
    }

    /// What clients had under way is answered: the fault that they were prepared for comes, if there is still a leader.
    pub(crate) fn clients_ready(&mut self, index: usize) {
        let fault = self.plan.faults[index].clone();
        let Some(leader) = self.established().filter(|leader| self.can_spare(&fault, &[*leader])) else { return };
        if !self.faults.mannered.contains_key(&index) {
            return;
        }
        if fault.kind == FaultKind::LeaderPause {
            let borne_us = self.plan.servers.tick_ms * self.plan.servers.sync_limit * 1000;
            let us = borne_us * (600 + fault.size % 350) / 1000;
            self.machine_mut(leader).pauses += 1;
            self.last(index, Fault::Pause(leader), Undo::Resume(leader));
            self.queue.plan(self.now + us, Event::FaultEnds(index));
            return;
        }
        self.cut_off(index, &BTreeSet::from([leader]), true);
        let end_of_others = |c: &super::net::Conn| {
            let end = c.ends.iter().position(|end| *end == Party::Server(leader))?;
            (c.kind != ConnKind::Client).then_some(1 - end)
        };
        let ends: Vec<_> = self.net.conns.iter().filter_map(|(key, c)| Some((*key, end_of_others(c)?))).collect();
        for (key, end) in ends {
            self.refuse_end(key, end);
        }
    }

    /// Clients that are attached to such servers keep to some requests until the fault ends. False if there are none.
    fn prepare_clients(&mut self, index: usize, manner: Manner, of: impl Fn(ServerId) -> bool) -> bool {
        let theirs = |key: &ConnKey| match self.net.conns.get(key).map(|c| c.ends[1]) {
            Some(Party::Server(id)) => of(id),
            Some(Party::Client(..)) | None => false,
        };
        let clients: Vec<ClientId> =
            self.dials.iter().filter(|(_, key)| theirs(key)).map(|((client, _), _)| *client).collect();
        for client in &clients {
            self.client_step(*client, ClientInput::Manner(manner));
        }
        let any = !clients.is_empty();
        if any {
            self.faults.mannered.insert(index, clients);
            let ready = self.random.fault.between(50, 800) * 1000;
            self.queue.plan(self.now + ready, Event::ClientsReady(index));
        }
        any
    }

    /// They are back.
    pub(crate) fn clients_back(&mut self, index: usize) {
        for (id, undo) in self.faults.absent.remove(&index).unwrap_or_default() {
            self.undo(undo);
            self.tell(What::FaultEnded(id));
        }
    }

    /// A server was established as the leader: whom it deposes may come back now.
    pub(crate) fn note_leader(&mut self, leader: ServerId) {
        if let Some((index, deposed)) = self.faults.deposing.filter(|(_, old)| *old != leader) {
            self.faults.deposing = None;
            let (back, served) = (self.random.fault.below(300_000), self.random.fault.below(1_500_000));
            self.transcript.line(self.now, || format!("{deposed} is deposed by {leader}"));
            if self.plan.faults[index].kind == FaultKind::Takeover {
                // The new leader commits something first.
                self.faults.taken = Some(Taken { of: index, server: deposed, is_learner: false });
                self.queue.plan(self.now + back, Event::ClientsBack(index));
                self.queue.plan(self.now + back + served, Event::FaultEnds(index));
                return;
            }
            self.queue.plan(self.now + back, Event::FaultEnds(index));
            self.queue.plan(self.now + back + served, Event::ClientsBack(index));
        }
    }

    /// The leader that serves, if there is one that says so.
    pub(crate) fn established(&self) -> Option<ServerId> {
        let leads = |m: &&super::machine::Machine| {
            let told = m.process.as_ref().and_then(|p| p.told);
            told.is_some_and(|(role, serves)| serves && matches!(role, Role::Leading { .. }))
        };
        self.machines.iter().find(leads).map(|m| m.id)
    }

    fn undo(&mut self, undo: Undo) {
        let now = self.now;
        match undo {
            Undo::Resume(id) => {
                let machine = self.machine_mut(id);
                // A process that was killed meanwhile is not paused any more.
                if machine.pauses > 0 {
                    machine.pauses -= 1;
                    if machine.pauses == 0 {
                        self.resume(id);
                    }
                }
            }
            Undo::Mend { from, to, both, refuses } => {
                self.net.mend(from, to, refuses);
                if both {
                    self.net.mend(to, from, refuses);
                }
                self.pump_all();
            }
            Undo::Rate(id) => {
                self.machine_mut(id).clock.set_rate(now, TRUE_RATE);
                self.rearm_timer(id);
            }
            Undo::Hurry(a, b) => {
                self.net.slow.remove(&(a, b));
            }
            Undo::Reach(client) => {
                self.net.lonely.remove(&client);
                self.pump_all();
            }
            Undo::FastDisk(id, us) => self.machine_mut(id).slow_disk -= us,
            Undo::Room(id) => self.machine(id).disk.set_full(false),
        }
    }

    pub(crate) fn last(&mut self, index: usize, fault: Fault, undo: Undo) {
        let id = self.tell_fault_began(fault);
        self.faults.active.entry(index).or_default().push((id, undo));
    }

    /// The server that is hit: half of the time the leader, if there is one.
    fn victim(&self, fault: &PlannedFault) -> ServerId {
        let of_leader = fault.whom.is_multiple_of(2) || fault.kind == FaultKind::Deposition;
        if of_leader && let Some(leader) = self.established() {
            return leader;
        }
        self.machines[(fault.whom / 2) as usize % self.machines.len()].id
    }

    /// Two servers, and the first is [`Self::victim`].
    fn pair(&self, fault: &PlannedFault) -> (ServerId, ServerId) {
        let first = self.victim(fault);
        let others: Vec<ServerId> = self.machines.iter().map(|m| m.id).filter(|id| *id != first).collect();
        (first, others[(fault.size >> 8) as usize % others.len()])
    }

    /// Whether a quorum is left that runs and whose members reach each other, without these.
    fn can_spare(&self, fault: &PlannedFault, without: &[ServerId]) -> bool {
        if fault.bold {
            return true;
        }
        let up = |id: ServerId| !without.contains(&id) && self.machine(id).runs();
        let healthy: Vec<ServerId> =
            self.machines.iter().map(|m| m.id).filter(|id| up(*id) && self.ensemble.is_voter(*id)).collect();
        healthy.iter().any(|center| {
            let around = healthy.iter().copied().filter(|id| id == center || self.net.joins(*center, *id)).collect();
            self.ensemble.is_quorum(&around)
        })
    }

    /// Whether a server may lose what is on its disk.
    fn may_forget(&self, victim: ServerId) -> bool {
        let voters = || self.machines.iter().filter(|m| self.ensemble.is_voter(m.id));
        let sound = voters().filter(|m| !m.impaired && m.id != victim).map(|m| m.id).collect();
        voters().all(|m| m.serves()) && self.ensemble.is_quorum(&sound)
    }

    /// Starts a fault. False if it must not be now.
    fn strike(&mut self, index: usize, fault: &PlannedFault) -> bool {
        let victim = self.victim(fault);
        let (size, lasts_us) = (fault.size, fault.lasts_ms * 1000);
        let runs = self.machine(victim).process.is_some();
        match fault.kind {
            FaultKind::ProcessCrash => {
                if !runs || !self.can_spare(fault, &[victim]) {
                    return false;
                }
                self.crash(victim, false, lasts_us);
            }
            FaultKind::PowerCrash => {
                // Also of a machine whose process is gone already.
                if !self.can_spare(fault, &[victim]) {
                    return false;
                }
                self.crash(victim, true, lasts_us);
            }
            FaultKind::ProcessCrashInDisk | FaultKind::PowerCrashInDisk => {
                if !self.can_spare(fault, &[victim]) {
                    return false;
                }
                self.machine(victim).disk.crash_after(size % 40, (size >> 8) as usize % 700);
                if fault.kind == FaultKind::PowerCrashInDisk {
                    self.faults.power.insert(victim);
                } else {
                    self.faults.power.remove(&victim);
                }
            }
            FaultKind::Blackout => {
                if !fault.whom.is_multiple_of(3) && !fault.bold {
                    return false;
                }
                for id in self.machines.iter().map(|m| m.id).collect::<Vec<_>>() {
                    let back = self.random.fault.below(lasts_us + 1);
                    self.crash(id, true, back);
                }
            }
            FaultKind::Pause => {
                if !runs || !self.can_spare(fault, &[victim]) {
                    return false;
                }
                self.machine_mut(victim).pauses += 1;
                self.last(index, Fault::Pause(victim), Undo::Resume(victim));
            }
            FaultKind::ClockJump => {
                let ms = (size % 7_200_000).cast_signed() - 3_600_000;
                self.machine_mut(victim).clock.jump(ms);
                self.tell_fault(Fault::ClockJump(victim, ms));
            }
            FaultKind::ClockSkew => {
                let rate = 950 + size % 101;
                let now = self.now;
                self.machine_mut(victim).clock.set_rate(now, rate);
                self.rearm_timer(victim);
                let rate = u32::try_from(rate).expect("about a thousand");
                self.last(index, Fault::ClockSkew(victim, rate), Undo::Rate(victim));
            }
            FaultKind::LinkLoss => {
                let (a, b) = self.pair(fault);
                let between = |c: &super::net::Conn| {
                    c.kind != ConnKind::Client
                        && c.ends.contains(&Party::Server(a))
                        && c.ends.contains(&Party::Server(b))
                        && c.open == [true; 2]
                };
                let keys: Vec<_> = self.net.conns.iter().filter(|(_, c)| between(c)).map(|(key, _)| *key).collect();
                if keys.is_empty() {
                    return false;
                }
                self.tell_fault(Fault::LinkLoss(a, b));
                for key in keys {
                    self.break_conn(key);
                }
            }
            FaultKind::Isolation => {
                if !self.can_spare(fault, &[victim]) {
                    return false;
                }
                self.divide(index, fault, &BTreeSet::from([victim]));
            }
            FaultKind::Deposition | FaultKind::Takeover => {
                if self.faults.deposing.is_some() || self.faults.taken.is_some() || !self.can_spare(fault, &[victim]) {
                    return false;
                }
                if self.established() != Some(victim) {
                    if fault.kind == FaultKind::Deposition || !runs {
                        return false;
                    }
                    self.tell_fault(Fault::ProcessCrash(victim));
                    self.end(victim, &Death::Process(Ending::ProcessCrash));
                    self.faults.taken = Some(Taken { of: index, server: victim, is_learner: true });
                    return true;
                }
                self.faults.deposing = Some((index, victim));
                self.divide(index, fault, &BTreeSet::from([victim]));
                let gets = self.random.fault.below(600_000);
                self.queue.plan(self.now + gets, Event::ClientsCut(index));
            }
            FaultKind::Desertion | FaultKind::LeaderPause => {
                let Some(leader) = self.established().filter(|leader| self.can_spare(fault, &[*leader])) else {
                    return false;
                };
                let (manner, attached_to_leader) = if fault.kind == FaultKind::Desertion {
                    (Manner::SyncedReads, true)
                } else {
                    (Manner::Reads, false)
                };
                return self.prepare_clients(index, manner, |server| (server == leader) == attached_to_leader);
            }
            FaultKind::Split => {
                let part: BTreeSet<ServerId> =
                    self.machines.iter().map(|m| m.id).filter(|id| size >> id.0 & 1 == 1).collect();
                let spared: Vec<ServerId> = part.iter().copied().collect();
                if part.is_empty() || part.len() == self.machines.len() || !self.can_spare(fault, &spared) {
                    return false;
                }
                self.divide(index, fault, &part);
            }
            FaultKind::OneWay => {
                let (from, to) = self.pair(fault);
                if !self.can_spare(fault, &[from]) {
                    return false;
                }
                self.net.cut(from, to, false);
                let told = Fault::Cut { from, to, both: false, silent: true };
                self.last(index, told, Undo::Mend { from, to, both: false, refuses: false });
            }
            FaultKind::SlowLink => {
                let (a, b) = self.pair(fault);
                let (a, b) = (a.min(b), a.max(b));
                if self.net.slow.contains_key(&(a, b)) {
                    return false;
                }
                let ms = 1 + size % self.plan.servers.tick_ms;
                self.net.slow.insert((a, b), ms * 1000);
                let ms = u32::try_from(ms).expect("less than a tick");
                self.last(index, Fault::SlowLink(a, b, ms), Undo::Hurry(a, b));
            }
            FaultKind::ClientLinkLoss => {
                let open: Vec<_> = self.dials.iter().map(|((client, _), key)| (*client, *key)).collect();
                if open.is_empty() {
                    return false;
                }
                let (client, key) = open[size as usize % open.len()];
                self.tell_fault(Fault::ClientLinkLoss(client));
                self.break_conn(key);
            }
            FaultKind::ClientCut => {
                let client = self.any_client(size);
                if !self.net.lonely.insert(client) {
                    return false;
                }
                self.last(index, Fault::ClientCut(client), Undo::Reach(client));
            }
            FaultKind::SlowDisk => {
                let ms = 1 + size % 400;
                self.machine_mut(victim).slow_disk += ms * 1000;
                let told = Fault::SlowDisk(victim, u32::try_from(ms).expect("less than a second"));
                self.last(index, told, Undo::FastDisk(victim, ms * 1000));
            }
            FaultKind::FailedWrite | FaultKind::FailedSync => {
                if !runs || !self.can_spare(fault, &[victim]) {
                    return false;
                }
                let is_write = fault.kind == FaultKind::FailedWrite;
                let (on, told) = if is_write {
                    (FailOn::Write, Fault::FailedWrite(victim))
                } else {
                    (FailOn::Sync, Fault::FailedSync(victim))
                };
                self.machine(victim).disk.fail_on(on, DiskErrorKind::Other);
                self.tell_fault(told);
            }
            FaultKind::FullDisk => {
                if !self.can_spare(fault, &[victim]) {
                    return false;
                }
                self.machine(victim).disk.set_full(true);
                self.last(index, Fault::FullDisk(victim), Undo::Room(victim));
            }
            FaultKind::BitRot => {
                if !self.may_forget(victim) || !self.rot(victim, size) {
                    return false;
                }
                self.machine_mut(victim).impaired = true;
                self.tell_fault(Fault::BitRot(victim));
                self.crash(victim, false, lasts_us);
            }
            FaultKind::Wipe => {
                if !self.may_forget(victim) {
                    return false;
                }
                self.crash(victim, true, lasts_us);
                let disk = fresh_disk(&self.plan.servers);
                let machine = self.machine_mut(victim);
                machine.disk = disk;
                machine.impaired = true;
                self.tell_fault(Fault::Wiped(victim));
            }
            FaultKind::HandOver => {
                if !self.machine(victim).serves() {
                    return false;
                }
                self.tell_fault(Fault::HandOver(victim));
                self.step(victim, Input::HandOver);
            }
            FaultKind::OrderlyStop => {
                if !self.machine(victim).runs() || !self.can_spare(fault, &[victim]) {
                    return false;
                }
                self.tell_fault(Fault::OrderlyStop(victim));
                self.stop(victim);
            }
        }
        true
    }

    /// A process or a machine dies, and comes back.
    fn crash(&mut self, id: ServerId, power: bool, back_us: u64) {
        let (told, death) = if power {
            (Fault::PowerCrash(id), Death::Power)
        } else {
            (Fault::ProcessCrash(id), Death::Process(Ending::ProcessCrash))
        };
        self.tell_fault(told);
        self.end(id, &death);
        self.plan_start(id, back_us);
    }

    /// Nothing passes between these servers and the others.
    fn divide(&mut self, index: usize, fault: &PlannedFault, part: &BTreeSet<ServerId>) {
        let silent = !fault.size.is_multiple_of(3);
        self.cut_off(index, part, silent);
        if !silent {
            self.refuse_across(part);
        }
    }

    fn cut_off(&mut self, index: usize, part: &BTreeSet<ServerId>, silent: bool) {
        let others: Vec<ServerId> = self.machines.iter().map(|m| m.id).filter(|id| !part.contains(id)).collect();
        for from in part {
            for to in &others {
                let (from, to) = (*from, *to);
                let told = Fault::Cut { from, to, both: true, silent };
                self.net.cut(from, to, !silent);
                self.net.cut(to, from, !silent);
                self.last(index, told, Undo::Mend { from, to, both: true, refuses: !silent });
            }
        }
    }

    /// A firewall that says no: both ends of each connection hear it.
    fn refuse_across(&mut self, part: &BTreeSet<ServerId>) {
        let across = |c: &super::net::Conn| match c.ends {
            [Party::Server(a), Party::Server(b)] => part.contains(&a) != part.contains(&b),
            _ => false,
        };
        let keys: Vec<_> = self.net.conns.iter().filter(|(_, c)| across(c)).map(|(key, _)| *key).collect();
        for key in keys {
            self.refuse_conn(key);
        }
    }

    /// Changes bits in what is on the medium for long: logs as far as the mark tells them from a torn tail, and snapshots.
    fn rot(&mut self, id: ServerId, size: u64) -> bool {
        let disk = self.machine(id).disk.clone();
        let named = |dir: Dir, prefix: &str| -> Vec<(u64, DiskPath, u64)> {
            let mut files: Vec<_> = disk
                .list(dir)
                .unwrap_or_default()
                .into_iter()
                .filter_map(|e| {
                    let zxid = e.name.strip_prefix(prefix)?.split('.').next()?.to_owned();
                    Some((u64::from_str_radix(&zxid, 16).ok()?, DiskPath::new(dir, e.name), e.len))
                })
                .collect();
            files.sort();
            files
        };
        let mut files = named(Dir::LogVersion, "log.");
        // Of the newest log only what the mark vouches for.
        if let Some((newest, path, _)) = files.pop()
            && let Ok(MarkRead::Mark(mark)) = read_mark(&*disk)
            && mark.segment.get() == newest
        {
            files.push((newest, path, mark.offset));
        }
        files.extend(named(Dir::DataVersion, "snapshot."));
        files.retain(|(_, _, len)| *len > 0);
        if files.is_empty() {
            return false;
        }
        let (_, path, len) = &files[size as usize % files.len()];
        let mut any = false;
        for _ in 0..=size % 3 {
            let offset = self.random.fault.below(*len) as usize;
            let mask = 1 << self.random.fault.below(8);
            any |= disk.rot(path, offset, mask);
        }
        self.transcript.line(self.now, || format!("{id}: bits of {} change: {any}", path.name));
        any
    }

    /// Tells what a power failure took, as faults of their own.
    pub(crate) fn tell_losses(&mut self, id: ServerId, before: Lost) {
        let now = self.machine(id).disk.lost();
        for (lost, fault) in [
            (now.torn > before.torn, Fault::TornWrite(id)),
            (now.reordered > before.reordered, Fault::ReorderedWrite(id)),
            (now.names > before.names, Fault::LostRename(id)),
        ] {
            if lost {
                self.tell_fault(fault);
            }
        }
        self.tally.lost_writes += now.writes - before.writes;
    }

    /// A server that was given everything again has nothing to forget.
    pub(crate) fn note_sound(&mut self, id: ServerId) {
        let machine = self.machine_mut(id);
        if machine.impaired
            && let Some(process) = &machine.process
        {
            let recovering = process.replica.peer_status().is_none_or(|s| s.recovering);
            machine.impaired = !process.replica.is_serving() || recovering;
        }
    }
}
