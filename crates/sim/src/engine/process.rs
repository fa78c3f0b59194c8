//! Processes of servers: their start over the disk, their steps, their work beside the replica, and their end.

use super::event::{Event, Look, Task};
use super::machine::{EpochWrite, Process, SimHost};
use super::net::ConnKey;
use super::world::World;
use crate::observe::{Ending, Fault, Replacement, Role, ServerEvent};
use farrier_proto::limits::TXN_MAX;
use farrier_proto::quorum::LeaderPacket;
use farrier_proto::{ServerId, Zxid};
use farrier_replica::{
    Action, Actions, ContainerConfig, Input, LogCommand, LogWork, Replica, ReplicaConfig, RestoreFailed, durable,
    restore,
};
use farrier_storage::mem::Crash;
use farrier_storage::{
    Dir, LogCursor, LogOptions, LogWriter, PurgePolicy, RecoverOptions, Recovering, RefusalKind, SnapshotOptions,
    locate, prepare_segment, purge, write_snapshot_paced,
};
use farrier_zab::{Input as Zab, Located};
use std::collections::{BTreeMap, VecDeque};

/// Between a process's own failure and its next start, at least. Microseconds.
const RESTART_US_MIN: u64 = 50_000;

/// Most more.
const RESTART_US_SPREAD: u64 = 3_000_000;

/// What an orderly stop may take (`request_throttler.shutdownTimeout`). Microseconds.
const STOP_US_MAX: u64 = 10_000_000;

/// Most time of a look into the log; longer, and a busy leader would outrun a learner for ever. Microseconds.
const LOOK_US_MAX: u64 = 20_000;

/// Places in the log that are remembered, as in the server.
const CURSORS_MAX: usize = 64;

/// How long a server waits before it tries again to prepare a log segment. Microseconds.
const PREPARE_PAUSE_US: u64 = 5_000_000;

/// Of a thousand batches for the log: in how many the disk is copied to see what a start would make of it, if there is
/// something else than appends among them.
const PROBES: u64 = 250;

/// The same for batches of appends.
const PROBES_OF_APPENDS: u64 = 3;

/// The same for what is written beside the log.
const PROBES_BESIDE: u64 = 20;

/// How a process ends, as far as the disk and the others are concerned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Death {
    /// Killed, or by its own decision.
    Process(Ending),
    /// With the machine.
    Power,
}

impl World {
    pub(crate) fn recover_options(&self) -> RecoverOptions {
        RecoverOptions {
            standalone: false,
            txn_max: TXN_MAX,
            separate_log_dir: self.plan.servers.separate_log,
            ..RecoverOptions::default()
        }
    }

    pub(crate) const fn snapshot_options(&self) -> SnapshotOptions {
        SnapshotOptions { omit_last_zxid: false, compression: self.plan.servers.compression }
    }

    fn replica_config(&self, me: ServerId, seed: u64) -> ReplicaConfig {
        let s = &self.plan.servers;
        let tick = i32::try_from(s.tick_ms).expect("a tick is short");
        ReplicaConfig {
            server_id: me,
            tick_time: s.tick_ms,
            min_session_timeout: 2 * tick,
            max_session_timeout: 20 * tick,
            snap_count: s.snap_count,
            image_slice: s.image_slice,
            container: ContainerConfig { check_interval: s.sweep_ms, ..ContainerConfig::default() },
            config_node: Some((self.ensemble.text().to_vec(), self.ensemble.version())),
            peers_apply_create2: self.plan.seed.is_multiple_of(2),
            tree: self.tree_config(),
            seed,
            ..ReplicaConfig::default()
        }
    }

    fn zab_config(&self, me: ServerId, seed: u64) -> farrier_zab::Config {
        let s = &self.plan.servers;
        farrier_zab::Config {
            tick_time: s.tick_ms,
            init_limit: s.init_limit,
            sync_limit: s.sync_limit,
            window_txns: s.window_txns,
            log_diff_permille: s.log_diff_permille,
            force_snapshot_sync: s.force_snapshot_sync,
            // In every fourth ensemble some have an ACK and a COMMIT for each proposal, as beside Apache's servers.
            cumulative: !(self.plan.seed / 2).is_multiple_of(4) || me.0 % 2 == 1,
            seed,
            ..farrier_zab::Config::new(me)
        }
    }

    /// Plans a start, instead of any that is planned.
    pub(crate) fn plan_start(&mut self, server: ServerId, after: u64) {
        let machine = self.machine_mut(server);
        machine.start_planned += 1;
        let planned = machine.start_planned;
        self.queue.plan(self.now + after, Event::Start { server, planned });
    }

    /// A process begins: recovery, then the replica.
    pub(crate) fn start(&mut self, id: ServerId) {
        let (recover, snapshots, tree) = (self.recover_options(), self.snapshot_options(), self.tree_config());
        let machine = self.machine_mut(id);
        machine.powered = true;
        let seed = machine.random.draw();
        let disk = machine.disk.clone();
        self.plan_probe(id, PROBES);
        let restored = restore(&disk, &recover, &snapshots, tree, seed);
        self.probe(id);
        if disk.has_crashed() {
            return self.died_in_disk(id);
        }
        let (state, recovered) = match restored {
            Ok(restored) => restored,
            Err(failed) => return self.start_refused(id, &failed),
        };
        for warning in recovered.warnings.iter().chain(&state.warnings()) {
            self.transcript.line(self.now, || format!("{id} warns: {warning}"));
        }
        // What a server has that may have forgotten something counts for nothing: a leader gives it everything.
        let counts = recovered.recovering == Recovering::No;
        for warning in state.warnings() {
            if counts && warning.contains("diverged") {
                self.engine_fails(format!("{id} at its start: {warning}"));
            }
        }
        let s = &self.plan.servers;
        let options = LogOptions { segment_size: s.segment_size, size_limit: s.log_size_limit, force_sync: true };
        let writer = LogWriter::open(disk.clone(), &recovered, options).with_txn_max(TXN_MAX);
        let (config, zab) = (self.replica_config(id, seed), self.zab_config(id, seed));
        let (now, ensemble) = (self.now, self.ensemble.clone());
        let machine = self.machine_mut(id);
        machine.lives += 1;
        machine.refused = 0;
        let began = machine.clock.own(now);
        let time = machine.clock.time(now, began);
        let start = durable(&recovered);
        let replica = Replica::ensemble(config, zab, ensemble, start, state, recovered.replayed, time);
        let digest = Some(replica.tree().digest());
        machine.process = Some(Process {
            life: machine.lives,
            began,
            replica,
            out: Actions::default(),
            work: LogWork { disk, writer, snapshot_options: snapshots, recover, tree, hash_seed: seed },
            commands: VecDeque::new(),
            log_busy: false,
            done: VecDeque::new(),
            reloaded: VecDeque::new(),
            history: 0,
            floor: recovered.mark.floor,
            snapshot: None,
            preparing: false,
            prepare_again: None,
            cursors: BTreeMap::new(),
            dials: 0,
            voices: BTreeMap::new(),
            armed: None,
            known: BTreeMap::new(),
            told: None,
            applied: recovered.last_zxid,
        });
        let synced = machine.disk.is_synced(Dir::LogVersion, "log.");
        let started = ServerEvent::Started {
            accepted: recovered.accepted,
            current: recovered.current,
            last: recovered.last_zxid,
            digest,
            recovering: recovered.recovering != Recovering::No,
        };
        self.tell_server(id, started);
        if synced {
            self.tell_server(id, ServerEvent::LogDurable { upto: recovered.last_zxid });
        }
        self.arm_timer(id);
        if self.plan.servers.segment_size > 0 {
            self.want_segment(id);
        }
        self.plan_task(id, self.plan.servers.purge_ms * 1000, Task::Purge);
        self.pump_all();
    }

    fn start_refused(&mut self, id: ServerId, failed: &RestoreFailed) {
        let disk_failed = match failed {
            RestoreFailed::Disk(_) => true,
            RestoreFailed::Refused(refusal) => refusal.kind == RefusalKind::Disk,
        };
        self.tell_server(id, ServerEvent::Ended(Ending::Halted(failed.to_string())));
        if !disk_failed {
            // A member moves damage aside.
            self.engine_fails(format!("{id} does not start: {failed}"));
        }
        self.machine_mut(id).refused += 1;
        self.plan_restart(id);
    }

    fn plan_restart(&mut self, id: ServerId) {
        let after = RESTART_US_MIN + self.random.process.below(RESTART_US_SPREAD);
        self.plan_start(id, after);
    }

    /// A planned crash between two operations has happened.
    fn died_in_disk(&mut self, id: ServerId) {
        let power = self.faults.crash_takes_power(id);
        self.tell_fault(if power { Fault::PowerCrash(id) } else { Fault::ProcessCrash(id) });
        let death = if power { Death::Power } else { Death::Process(Ending::ProcessCrash) };
        self.end(id, &death);
        self.plan_restart(id);
    }

    /// A process is no more. Nothing is planned for its next start.
    pub(crate) fn end(&mut self, id: ServerId, death: &Death) {
        let power = *death == Death::Power;
        self.abandon(id, !power);
        let machine = self.machine_mut(id);
        machine.process = None;
        machine.deferred.clear();
        machine.pauses = 0;
        machine.powered = !power;
        let disk = machine.disk.clone();
        let before = disk.lost();
        if power {
            let random = &mut machine.random;
            disk.restart(Crash::Power, &mut |n| random.below(n as u64) as usize);
        } else {
            disk.restart(Crash::Process, &mut |_| 0);
        }
        let ending = match death {
            Death::Process(ending) => ending.clone(),
            Death::Power => Ending::PowerCrash,
        };
        self.tell_server(id, ServerEvent::Ended(ending));
        self.tell_losses(id, before);
    }

    /// Gives the replica of a server an input and does what it wants. Nothing, if no process runs.
    pub(crate) fn step(&mut self, id: ServerId, input: Input<'_>) {
        let now = self.now;
        let machine = self.machine_mut(id);
        let clock = machine.clock;
        let Some(process) = &mut machine.process else { return };
        let replaced = match &input {
            Input::SnapReceived { link, zxid, .. } => Some((Some(*link), *zxid, Replacement::Snap)),
            Input::Truncated { state: Some(_), .. } | Input::Reloaded { .. } => {
                let last = process.reloaded.pop_front().expect("a state that was loaded has an end");
                Some((None, last, Replacement::Reload))
            }
            _ => None,
        };
        let time = clock.time(now, process.began);
        let mut out = std::mem::take(&mut process.out);
        process.replica.foresee_inputs(std::slice::from_ref(&input));
        process.replica.step(time, input, &mut out);
        // A state that came on a link which was closed for it is not adopted.
        let replaced = replaced.and_then(|(link, zxid, why)| {
            let gone = |a: &Action| matches!(a, Action::CloseLink { link: closed, .. } if Some(*closed) == link);
            let stays = process.replica.last_zxid() >= zxid && !out.list.iter().any(gone);
            stays.then_some((zxid, why))
        });
        self.tell_state(id, &out, replaced);
        self.act(id, out);
        self.arm_timer(id);
    }

    /// Tells what a step changed: role, tree, log, in this order.
    fn tell_state(&mut self, id: ServerId, out: &Actions, replaced: Option<(Zxid, Replacement)>) {
        let Some(process) = &mut self.machine_mut(id).process else { return };
        let mut events = Vec::new();
        let mut elected = false;
        let role = role_of(&process.replica);
        let serving = process.replica.is_serving();
        if process.told != Some((role, serving)) {
            elected = matches!(role, Role::Leading { epoch: None }) && process.told.is_none_or(|(r, _)| r != role);
            process.told = Some((role, serving));
            events.push(ServerEvent::Role { role, serving });
        }
        let (zxid, digest) = (process.replica.last_zxid(), Some(process.replica.tree().digest()));
        if let Some((to, why)) = replaced {
            process.applied = to;
            // What was held back until then may be applied in the same step.
            let digest = digest.filter(|_| to == zxid);
            events.push(ServerEvent::StateReplaced { zxid: to, digest, why });
        }
        for action in &out.list {
            if let Action::Append { zxid, txn, .. } = action {
                process.known.insert(*zxid, txn.clone());
                events.push(ServerEvent::Appended { zxid: *zxid, txn: txn.clone() });
            }
        }
        let (mut lost, mut committed) = (None, 0);
        if zxid != process.applied {
            let from = process.applied;
            let applied: Vec<_> = if from < zxid {
                process.known.range(from..=zxid).filter(|(z, _)| **z > from).map(|(z, t)| (*z, t.clone())).collect()
            } else {
                Vec::new()
            };
            if applied.last().is_none_or(|(last, _)| *last != zxid) {
                lost = Some(format!("the tree of {id} went from {from} to {zxid} by no transaction that it was given"));
            }
            let last = applied.len();
            if let Role::Leading { epoch: Some(_) } = role {
                committed = last as u64;
            }
            for (n, (zxid, txn)) in (1..).zip(applied) {
                events.push(ServerEvent::Applied { zxid, txn, digest: digest.filter(|_| n == last) });
            }
            process.applied = zxid;
            process.known = process.known.split_off(&zxid);
        }
        self.tally.txns += committed;
        for event in events {
            self.tell_server(id, event);
        }
        self.note_sound(id);
        if let (Role::Leading { epoch: Some(_) }, true) = (role, serving) {
            self.note_leader(id);
        } else if elected {
            self.note_elected(id);
        }
        if let Some(lost) = lost {
            self.engine_fails(lost);
        }
    }

    /// A packet of the leader brings a transaction, which may be applied later.
    pub(crate) fn note_txn(&mut self, me: ServerId, packet: &LeaderPacket) {
        let Some(process) = &mut self.machine_mut(me).process else { return };
        match packet {
            LeaderPacket::Proposal { zxid, txn }
            | LeaderPacket::Inform { zxid, txn }
            | LeaderPacket::InformAndActivate { zxid, txn, .. } => {
                process.known.insert(*zxid, txn.clone());
            }
            // What was above belongs to a history that ends here.
            LeaderPacket::Trunc { zxid } | LeaderPacket::Snap { zxid } => process.known.retain(|z, _| z <= zxid),
            _ => {}
        }
    }

    /// Plans the replica's timer, unless it is planned for as early.
    fn arm_timer(&mut self, id: ServerId) {
        let now = self.now;
        let machine = self.machine_mut(id);
        let clock = machine.clock;
        let Some(process) = &mut machine.process else { return };
        let Some(due) = process.replica.next_deadline() else { return };
        let at = clock.when(due, process.began).max(now);
        if process.armed.is_none_or(|armed| at < armed) {
            process.armed = Some(at);
            let life = process.life;
            self.queue.plan(at, Event::Process { server: id, life, task: Task::Timer });
        }
    }

    /// Clocks changed: deadlines are at other moments.
    pub(crate) fn rearm_timer(&mut self, id: ServerId) {
        if let Some(process) = &mut self.machine_mut(id).process {
            process.armed = None;
        }
        self.arm_timer(id);
    }

    /// Something that a process does by itself.
    pub(crate) fn do_task(&mut self, id: ServerId, task: Task) {
        match task {
            Task::Timer => self.timer(id),
            Task::Log => self.work_on_log(id),
            Task::Completions => self.complete(id),
            Task::Snapshot => self.write_snapshot(id),
            Task::Prepare => self.prepare(id),
            Task::PrepareAgain => self.prepare_again(id),
            Task::Purge => self.purge(id),
            Task::Look(look) => self.look(id, look),
            Task::Dialled { attempt, leader, answered } => self.dialled(id, attempt, leader, answered),
            Task::ElectionDial { to } => self.election_dial(id, to),
            Task::StopOverdue => {
                self.end(id, &Death::Process(Ending::ProcessCrash));
                self.plan_restart(id);
            }
        }
    }

    fn timer(&mut self, id: ServerId) {
        let now = self.now;
        let machine = self.machine_mut(id);
        let clock = machine.clock;
        let Some(process) = &mut machine.process else { return };
        if process.armed.is_some_and(|armed| armed <= now) {
            process.armed = None;
        }
        let time = clock.time(now, process.began);
        if process.replica.next_deadline().is_some_and(|due| due <= time.mono) {
            self.step(id, Input::TimerFired);
        } else {
            self.arm_timer(id);
        }
    }

    /// Commands wait for the log: they are carried out when the disk comes to them.
    pub(crate) fn wake_log(&mut self, id: ServerId) {
        let (min, max) = (self.plan.rates.sync_min, self.plan.rates.sync_max);
        let slow = self.machine(id).slow_disk;
        let Some(process) = &mut self.machine_mut(id).process else { return };
        if !process.log_busy && !process.commands.is_empty() {
            process.log_busy = true;
            let wait = self.random.disk.between(min, max) + slow;
            self.plan_task(id, wait, Task::Log);
        }
    }

    fn work_on_log(&mut self, id: ServerId) {
        let (now, max) = (self.now, self.plan.servers.batch_max);
        let Some(process) = &mut self.machine_mut(id).process else { return };
        let n = process.commands.len().min(max);
        let mut batch: Vec<_> = process.commands.drain(..n).collect();
        let appends = batch.iter().all(|c| matches!(c, LogCommand::Append { .. }));
        self.plan_probe(id, if appends { PROBES_OF_APPENDS } else { PROBES });
        let machine = self.machine_mut(id);
        let (clock, disk) = (machine.clock, machine.disk.clone());
        let Some(process) = &mut machine.process else { return };
        let mut host = SimHost {
            disk: &disk,
            now: clock.time(now, process.began),
            history: &mut process.history,
            floor: &mut process.floor,
            snapshot: &mut process.snapshot,
            writes: batch.iter().filter_map(EpochWrite::of).collect(),
            done: Vec::new(),
            facts: Vec::new(),
            copied: None,
            reloaded: Vec::new(),
            segment_started: false,
            snapshot_wanted: false,
        };
        let result = process.work.run(&mut batch, &mut host);
        host.note_copy();
        let SimHost { done, facts, copied, reloaded, segment_started, snapshot_wanted, .. } = host;
        process.done.extend(done);
        process.reloaded.extend(reloaded);
        let end = facts.len();
        for (n, fact) in facts.into_iter().enumerate() {
            if copied == Some(n) {
                self.probe(id);
            }
            self.tell_server(id, fact);
        }
        // Also if there is no copy: a plan does not outlive the batch.
        if copied.is_none_or(|n| n == end) {
            self.probe(id);
        }
        if disk.has_crashed() {
            // Whether what was done before the crash was still told is a matter of luck.
            if self.random.process.percent(50) {
                self.tell_completions(id);
            }
            if self.machine(id).process.is_some() {
                self.died_in_disk(id);
            }
            return;
        }
        let Some(process) = &mut self.machine_mut(id).process else { return };
        if let Err(error) = result {
            process.done.push_back(Input::WriteFailed { error });
        }
        let word = self.random.disk.below(self.plan.rates.word_max);
        self.plan_task(id, word, Task::Completions);
        if snapshot_wanted {
            let wait = self.background(id);
            self.plan_task(id, wait, Task::Snapshot);
        }
        if segment_started && self.plan.servers.segment_size > 0 {
            self.want_segment(id);
        }
    }

    /// Microseconds of something that is done beside the log.
    fn background(&mut self, id: ServerId) -> u64 {
        self.random.disk.below(self.plan.rates.background_max) + self.machine(id).slow_disk
    }

    fn complete(&mut self, id: ServerId) {
        self.tell_completions(id);
        if let Some(process) = &mut self.machine_mut(id).process {
            process.log_busy = false;
        }
        self.wake_log(id);
    }

    fn tell_completions(&mut self, id: ServerId) {
        let life = self.machine(id).process.as_ref().map(|p| p.life);
        loop {
            let process = self.machine_mut(id).process.as_mut().filter(|p| Some(p.life) == life);
            let Some(input) = process.and_then(|p| p.done.pop_front()) else { return };
            self.transcript.line(self.now, || format!("{id} hears {}", super::describe::completion(&input)));
            self.step(id, input);
        }
    }

    fn write_snapshot(&mut self, id: ServerId) {
        let options = self.snapshot_options();
        let machine = self.machine_mut(id);
        let disk = machine.disk.clone();
        let Some(process) = &mut machine.process else { return };
        let Some((history, image)) = process.snapshot.take() else { return };
        if history != process.history {
            let error = "no snapshot was written: a leader's history took the place of the one it belonged to";
            return self.step(id, Input::SnapshotDone { error: Some(error.into()) });
        }
        self.plan_probe(id, PROBES_BESIDE);
        let written = write_snapshot_paced(&*disk, &*image, &options, &mut |_| {});
        self.probe(id);
        if disk.has_crashed() {
            return self.died_in_disk(id);
        }
        let error = match written {
            Ok(done) => {
                self.tell_server(id, ServerEvent::SnapshotTaken { zxid: done.zxid });
                None
            }
            Err(error) => Some(format!("no snapshot was written: {error}")),
        };
        self.step(id, Input::SnapshotDone { error });
    }

    fn want_segment(&mut self, id: ServerId) {
        let wait = self.background(id);
        if let Some(process) = &mut self.machine_mut(id).process
            && !process.preparing
        {
            process.preparing = true;
            self.plan_task(id, wait, Task::Prepare);
        }
    }

    fn prepare_again(&mut self, id: ServerId) {
        let now = self.now;
        let due = |p: &Process| p.prepare_again.is_some_and(|at| at <= now);
        if self.machine(id).process.as_ref().is_some_and(due) {
            self.prepare(id);
        }
    }

    /// What comes of it is told to the replica: a disk that is full shows here first.
    fn prepare(&mut self, id: ServerId) {
        let size = self.plan.servers.segment_size;
        let machine = self.machine_mut(id);
        let disk = machine.disk.clone();
        if let Some(process) = &mut machine.process {
            process.preparing = false;
        }
        self.plan_probe(id, PROBES_BESIDE);
        let prepared = prepare_segment(&*disk, size, &mut |_| {});
        self.probe(id);
        if disk.has_crashed() {
            return self.died_in_disk(id);
        }
        let again = prepared.is_err().then_some(self.now + PREPARE_PAUSE_US);
        if let Some(process) = &mut self.machine_mut(id).process {
            process.prepare_again = again;
        }
        if again.is_some() {
            self.plan_task(id, PREPARE_PAUSE_US, Task::PrepareAgain);
        }
        let error = prepared.err().map(|e| e.to_string());
        self.transcript.line(self.now, || format!("{id} has prepared the next segment: {error:?}"));
        self.step(id, Input::SegmentPrepared { error });
    }

    fn purge(&mut self, id: ServerId) {
        let disk = self.machine(id).disk.clone();
        self.plan_probe(id, PROBES_BESIDE);
        let purged = purge(&*disk, &PurgePolicy { field_max: TXN_MAX, ..PurgePolicy::default() });
        self.probe(id);
        if disk.has_crashed() {
            return self.died_in_disk(id);
        }
        match purged {
            Ok(purged) => {
                self.tally.purged += purged.removed.len() as u64;
                self.transcript.line(self.now, || format!("{id} purged {:?}", purged.removed));
            }
            Err(error) => self.transcript.line(self.now, || format!("{id} warns: nothing purged: {error}")),
        }
        self.plan_task(id, self.plan.servers.purge_ms * 1000, Task::Purge);
    }

    /// Something is to be looked up in the log.
    pub(crate) fn want_look(&mut self, id: ServerId, look: Look) {
        let most = self.plan.rates.background_max.min(LOOK_US_MAX);
        let wait = self.random.disk.below(most) + self.machine(id).slow_disk;
        self.plan_task(id, wait, Task::Look(look));
    }

    fn look(&mut self, id: ServerId, look: Look) {
        let page = self.plan.servers.page_bytes;
        let machine = self.machine_mut(id);
        let disk = machine.disk.clone();
        let Some(process) = &mut machine.process else { return };
        let answer = match look {
            Look::Locate { read, link, zxid } => {
                let located = locate(&*disk, zxid, process.floor, TXN_MAX).ok().map(|l| Located {
                    before: l.before,
                    bytes_behind: l.bytes_behind,
                    snapshot_bytes: l.snapshot_bytes,
                });
                Zab::Located { read, link, located }
            }
            Look::ReadTxns { read, link, after, to } => {
                if process.cursors.len() >= CURSORS_MAX && !process.cursors.contains_key(&link) {
                    process.cursors.pop_first();
                }
                let cursor = process.cursors.entry(link).or_insert_with(|| LogCursor::new(TXN_MAX));
                let txns = cursor.read(&*disk, after, to, page).unwrap_or_default();
                Zab::TxnsRead { read, link, txns }
            }
        };
        self.step(id, Input::Zab(answer));
    }

    /// What was sent by an end is with its system.
    pub(crate) fn flushed(&mut self, key: ConnKey, end: usize) {
        use super::net::{ConnKind, Party};
        let Some(conn) = self.net.conns.get(&key).filter(|c| c.open[end]) else { return };
        let Party::Server(id) = conn.ends[end] else { return };
        let input = match conn.kind {
            ConnKind::Channel => Input::Zab(Zab::Flushed { link: farrier_zab::LinkId(key.0) }),
            ConnKind::Client => Input::Flushed { conn: farrier_replica::ConnId(key.0) },
            ConnKind::Election => return,
        };
        let machine = self.machine_mut(id);
        if machine.pauses > 0 {
            machine.deferred.push(Event::Flushed { conn: key, end });
        } else {
            self.step(id, input);
        }
    }

    /// Everything is answered, and the process ends by itself.
    pub(crate) fn stopped(&mut self, id: ServerId) {
        if let Some(process) = self.machine_mut(id).process.take() {
            // Everything acknowledged is synced; only the mark may be behind.
            let closed = process.work.close();
            self.transcript.line(self.now, || format!("{id} closed its log: {closed:?}"));
        }
        if self.machine(id).disk.has_crashed() {
            return self.died_in_disk(id);
        }
        self.end(id, &Death::Process(Ending::Orderly));
        self.plan_restart(id);
    }

    /// It ends itself.
    pub(crate) fn halted(&mut self, id: ServerId, reason: String) {
        self.end(id, &Death::Process(Ending::Halted(reason)));
        self.plan_restart(id);
    }

    /// An operator stops it in order.
    pub(crate) fn stop(&mut self, id: ServerId) {
        self.plan_task(id, STOP_US_MAX, Task::StopOverdue);
        self.step(id, Input::Stop);
    }
}

/// What a server is to the others.
fn role_of(replica: &Replica) -> Role {
    use farrier_proto::quorum::ServerState;
    let status = replica.peer_status().expect("a member of an ensemble");
    match (status.state, status.leader) {
        (ServerState::Leading, _) => Role::Leading { epoch: status.epoch },
        (ServerState::Following, Some(leader)) => Role::Learning { leader, epoch: status.epoch, observing: false },
        (ServerState::Observing, Some(leader)) => Role::Learning { leader, epoch: status.epoch, observing: true },
        (ServerState::Looking | ServerState::Following | ServerState::Observing, _) => Role::Looking,
    }
}
