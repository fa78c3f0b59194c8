//! The one replica behind a lock, and the distribution of what it wants done.
//!
//! Whoever has inputs (a network worker with a batch of frames, the log thread with a completion, the
//! timer) takes the lock, steps the replica, and hands its actions over while it still holds the lock:
//! that keeps them in order. Nothing blocks under the lock; sockets and files are touched after it. Packets for peers it
//! then writes itself, and a few frames for clients too.

use crate::clock::Clock;
use crate::desk::Desk;
use crate::log_queue::{Feeder, LogQueue};
use crate::log_reader::{Look, LookQueue};
use crate::outbox::{Delivery, LITTLE_MAX, Outbox};
use crate::peers::{PeerCommand, PeerOutbox, Port, Ports, later};
use farrier_proto::membership::MemberList;
use farrier_replica::{Action, Actions, ConnId, HandOverRefused, Input, Level, LogCommand, Replica, Time, WriteId};
use farrier_zab::Ensemble;
use smallvec::SmallVec;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Low bits of a connection's name that tell its worker.
const WORKER_BITS: u32 = 8;

/// Most network workers.
pub(crate) const WORKERS_MAX: usize = 1 << WORKER_BITS;

/// Why a server no longer runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// It was asked to.
    Stopped,
    /// It must not go on: a write or sync of the log failed, or an invariant did not hold. Or it was asked
    /// to stop and could not answer everything in time.
    Halted(String),
}

/// Where the server is in its life.
#[derive(Debug, Default)]
struct Life {
    drained: bool,
    halted: Option<String>,
}

#[derive(Debug)]
struct Engine {
    replica: Replica,
    out: Actions,
    notes: Vec<(Level, String)>,
    /// For the log thread, while actions are handed over.
    commands: Vec<LogCommand>,
    /// The deadline that the timer thread knows of.
    armed: Option<u64>,
    /// When the lock was had last.
    newest: Time,
    /// Version of the configuration of which the peers' thread knows that it may come into force; 0 for none.
    pending: u64,
}

/// Links that are to be flushed.
type DuePorts = SmallVec<[Arc<Port>; PORTS_MAX]>;

fn flush(ports: DuePorts) {
    for port in ports {
        port.flush();
    }
}

/// What whoever stepped the replica does once it released the lock.
#[derive(Default)]
struct Due {
    /// Links that are to be flushed.
    ports: DuePorts,
    /// Workers that have to hear of what is in their outboxes, a bit for each.
    workers: [u64; WORKERS_MAX / 64],
    /// The replica halted: every loop is told to end.
    halted: bool,
}

impl Due {
    const fn tell(&mut self, worker: usize) {
        self.workers[worker / 64] |= 1 << (worker % 64);
    }

    const fn tells(&self, worker: usize) -> bool {
        self.workers[worker / 64] & 1 << (worker % 64) != 0
    }

    /// Something was put into the outbox of this link.
    fn flush(&mut self, port: Arc<Port>) {
        if self.ports.iter().any(|known| Arc::ptr_eq(known, &port)) {
            return;
        }
        if self.ports.len() < PORTS_MAX {
            return self.ports.push(port);
        }
        port.leave_to_task();
    }
}

/// Whom an action goes to.
enum Task<'a> {
    Client(ConnId, Delivery<'a>),
    Log(LogCommand),
    Look(Look),
    Peer(PeerCommand),
    /// Something was put into a link's outbox, if that is still there.
    Link(Option<Arc<Port>>),
    Note(Level, String),
    /// The server is drained, or has halted.
    Life(Option<String>),
}

/// What every thread of a server shares.
#[derive(Debug)]
pub(crate) struct Core {
    /// A thread that comes back at once would take it from those who must wake up first, and being fair each
    /// time would leave it idle while they do. So the first release of each millisecond hands it to one of
    /// them, and so does the end of a turn that took long: see [`Session::give_way`].
    engine: parking_lot::Mutex<Engine>,
    desks: Vec<Desk>,
    /// The newest write that is durable and of which the replica has yet to hear; 0 for none.
    durable: AtomicU64,
    pub(crate) log: Arc<LogQueue<LogCommand>>,
    looks: LookQueue,
    peers: PeerOutbox,
    ports: Arc<Ports>,
    clock: Clock,
    next_conn: AtomicU64,
    life: Mutex<Life>,
    life_changed: Condvar,
    timer: parking_lot::Condvar,
    /// Set once the server goes down; loops end when they see it.
    closing: Arc<AtomicBool>,
    /// That others go away is part of the end.
    stop_expected: AtomicBool,
    /// Set before that if it goes down without any farewell.
    killed: AtomicBool,
}

impl Core {
    /// A server with so many network workers, whose replica was made at `made`.
    pub(crate) fn new(replica: Replica, made: Time, clock: Clock, workers: usize) -> Self {
        assert!((1..=WORKERS_MAX).contains(&workers), "1 to {WORKERS_MAX} network workers");
        let engine = Engine {
            replica,
            out: Actions::default(),
            notes: Vec::new(),
            commands: Vec::new(),
            armed: None,
            newest: made,
            pending: 0,
        };
        Self {
            engine: parking_lot::Mutex::new(engine),
            desks: (0..workers).map(|_| Desk::default()).collect(),
            durable: AtomicU64::new(0),
            log: Arc::default(),
            looks: LookQueue::default(),
            peers: PeerOutbox::default(),
            ports: Arc::default(),
            clock,
            next_conn: AtomicU64::new(1),
            life: Mutex::default(),
            life_changed: Condvar::new(),
            timer: parking_lot::Condvar::new(),
            closing: Arc::default(),
            stop_expected: AtomicBool::default(),
            killed: AtomicBool::new(false),
        }
    }

    /// A fresh name for a connection of `worker`.
    pub(crate) fn name_connection(&self, worker: usize) -> ConnId {
        let n = self.next_conn.fetch_add(1, Ordering::Relaxed);
        ConnId((n << WORKER_BITS) | worker as u64)
    }

    /// A worker's connections.
    pub(crate) fn desk(&self, worker: usize) -> &Desk {
        &self.desks[worker]
    }

    pub(crate) fn outbox(&self, worker: usize) -> &Outbox {
        self.desks[worker].outbox()
    }

    /// What the peers' thread is to do.
    pub(crate) const fn peers(&self) -> &PeerOutbox {
        &self.peers
    }

    /// For a thread that brings the replica requests.
    pub(crate) fn feeder(&self) -> Arc<Feeder<LogCommand>> {
        Arc::new(Feeder::new(self.log.clone()))
    }

    /// The links to peers.
    pub(crate) const fn ports(&self) -> &Arc<Ports> {
        &self.ports
    }

    /// What the log's reader is to look up.
    pub(crate) const fn looks(&self) -> &LookQueue {
        &self.looks
    }

    pub(crate) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Steps the replica with one input.
    pub(crate) fn step(&self, input: Input<'_>) {
        self.with(|session| session.step(input));
    }

    /// The same for threads [behind requests](crate::priority::behind_requests), and for inputs that need not come behind
    /// what is durable: to apply that takes long, and everybody waits for whoever has the replica.
    pub(crate) fn step_in_bulk(&self, input: Input<'_>) {
        let ((), ports) = self.locked(false, |session| session.step(input));
        flush(ports);
    }

    /// Everything up to this write is durable. The replica hears of it before anything else that requests bring: at once,
    /// or, if the caller has something better to do than to apply transactions, from whoever has the replica next. A
    /// worker is woken for that.
    pub(crate) fn durable(&self, id: WriteId, at_once: bool) {
        self.durable.store(id.0, Ordering::SeqCst);
        if at_once {
            self.tell_durable();
        } else {
            self.desks[0].outbox().wake_always();
        }
    }

    /// Tells the replica what is durable, if it does not know.
    pub(crate) fn tell_durable(&self) {
        if self.durable.load(Ordering::SeqCst) > 0 {
            self.with(|_| ());
        }
    }

    /// Runs `f` with the replica locked, then hands over what followed.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Session<'_>) -> R) -> R {
        let (result, ports) = self.locked(true, f);
        flush(ports);
        result
    }

    /// See [`Self::with`]; for a worker, which writes to peers [`later`].
    pub(crate) fn with_requests<R>(&self, f: impl FnOnce(&mut Session<'_>) -> R) -> R {
        let (result, ports) = self.locked(true, f);
        later::put_off(ports);
        result
    }

    /// See [`Self::with`]; `hears` tells whether the replica first hears what is durable.
    fn locked<R>(&self, hears: bool, f: impl FnOnce(&mut Session<'_>) -> R) -> (R, DuePorts) {
        let mut engine = self.engine.lock();
        let whole = Whole;
        // Read under the lock: whoever waited for it must not bring an older time than whoever had it.
        let now = self.clock.now_after(engine.newest);
        let Engine { replica, out, .. } = &mut *engine;
        let mut session = Session { replica, out, now, emitted_before: 0, gives_way: false };
        // Taken under the lock, so that no older one comes behind a newer one.
        if hears && self.durable.load(Ordering::SeqCst) > 0 {
            session.step(Input::Durable { id: WriteId(self.durable.swap(0, Ordering::SeqCst)) });
            session.emitted_before = session.out.bytes.len();
        }
        let result = f(&mut session);
        let gives_way = session.gives_way || now.mono > engine.newest.mono;
        engine.newest = now;
        let due = if engine.out.list.is_empty() { Due::default() } else { self.hand_over(&mut engine) };
        let deadline = engine.replica.next_deadline();
        if deadline != engine.armed && deadline.is_some_and(|d| engine.armed.is_none_or(|a| d < a)) {
            self.timer.notify_one();
        }
        let notes = std::mem::take(&mut engine.notes);
        std::mem::forget(whole);
        if gives_way {
            parking_lot::MutexGuard::unlock_fair(engine);
        } else {
            drop(engine);
        }
        let mut budget = LITTLE_MAX;
        for (worker, desk) in self.desks.iter().enumerate() {
            if due.tells(worker) && !desk.outbox().is_attended() {
                desk.deliver_or_wake(self, &mut budget);
            }
        }
        for (level, text) in notes {
            match level {
                Level::Error => tracing::error!("{text}"),
                Level::Warn if self.stop_expected.load(Ordering::Relaxed) => tracing::info!("{text}"),
                Level::Warn => tracing::warn!("{text}"),
                Level::Info => tracing::info!("{text}"),
                Level::Debug => tracing::debug!("{text}"),
            }
        }
        if due.halted {
            // Whoever runs it may have others in the same process, and not look: its sockets must not go on as if it lived.
            self.close();
        }
        (result, due.ports)
    }

    fn hand_over(&self, engine: &mut Engine) -> Due {
        let Engine { replica, out, notes, commands, pending, .. } = engine;
        let mut due = Due::default();
        let bytes = &out.bytes;
        let mut peers_have_work = false;
        let expected = replica.ensemble_members().and_then(Ensemble::pending);
        let now_pending = expected.map_or(0, Ensemble::version);
        let changed = std::mem::replace(pending, now_pending) != now_pending;
        // Before anything is said to its members; and whoever is no member any more was told something before that.
        if changed && let Some(expected) = expected {
            self.peers.push(PeerCommand::Pending { members: MemberList::parse(expected.text()).ok().map(Box::new) });
            peers_have_work = true;
        }
        for action in out.list.drain(..) {
            let task = match action {
                Action::Send { conn, start, end } => Task::Client(conn, Delivery::Send(&bytes[start..end])),
                Action::CloseClient { conn } => Task::Client(conn, Delivery::Close),
                Action::PauseClient { conn } => Task::Client(conn, Delivery::Pause),
                Action::ResumeClient { conn } => Task::Client(conn, Delivery::Resume),
                Action::ReportFlush { conn } => Task::Client(conn, Delivery::ReportFlush),
                Action::Append { id, zxid, txn } => Task::Log(LogCommand::Append { id, zxid, txn }),
                Action::RollLog => Task::Log(LogCommand::Roll),
                Action::TakeSnapshot { image } => Task::Log(LogCommand::TakeSnapshot { image }),
                Action::SavePending { id, config } => Task::Log(LogCommand::SavePending { id, config }),
                Action::RaiseRecovering { id } => Task::Log(LogCommand::RaiseRecovering { id }),
                Action::SaveAcceptedEpoch { id, epoch } => Task::Log(LogCommand::SaveAcceptedEpoch { id, epoch }),
                Action::SaveCurrentEpoch { id, epoch } => Task::Log(LogCommand::SaveCurrentEpoch { id, epoch }),
                Action::Truncate { id, after } => Task::Log(LogCommand::Truncate { id, after }),
                Action::InstallSnapshot { id, epoch, image } => Task::Log(LogCommand::Install { id, epoch, image }),
                Action::Reload { id } => Task::Log(LogCommand::Reload { id }),
                Action::Locate { read, link, zxid } => Task::Look(Look::Locate { read, link, zxid }),
                Action::ReadTxns { read, link, after, to } => Task::Look(Look::ReadTxns { read, link, after, to }),
                Action::Notify { to, notification } => Task::Peer(PeerCommand::Notify { to, notification }),
                Action::Dial { leader } => Task::Peer(PeerCommand::Dial { leader }),
                Action::SendLeader { link, packet } => Task::Link(self.ports.send(link, |out| packet.write(out))),
                Action::SendLearner { link, packet } => Task::Link(self.ports.send(link, |out| packet.write(out))),
                Action::SendSnapshot { link, image } => Task::Link(self.ports.send_snapshot(link, image)),
                Action::ReportLinkFlush { link } => Task::Link(self.ports.report_flush(link)),
                Action::PauseLink { link } => Task::Peer(PeerCommand::Pause { link }),
                Action::ResumeLink { link } => Task::Peer(PeerCommand::Resume { link }),
                Action::CloseLink { link, reason } => Task::Peer(PeerCommand::Close { link, reason }),
                Action::Note { level, text } => Task::Note(level, text),
                Action::Activate { members } => Task::Peer(PeerCommand::Activate { members }),
                Action::Stopped => Task::Life(None),
                Action::Halt { reason } => Task::Life(Some(reason)),
            };
            match task {
                Task::Client(conn, delivery) => {
                    let worker = (conn.0 & (WORKERS_MAX as u64 - 1)) as usize;
                    self.desks[worker].outbox().push(conn, delivery);
                    due.tell(worker);
                }
                Task::Log(command) => commands.push(command),
                Task::Look(look) => self.looks.push(look),
                Task::Peer(command) => {
                    self.peers.push(command);
                    peers_have_work = true;
                }
                Task::Link(None) => {}
                Task::Link(Some(port)) => due.flush(port),
                Task::Note(level, text) => notes.push((level, text)),
                Task::Life(halted) => {
                    let mut life = self.life();
                    match halted {
                        Some(reason) => {
                            life.halted = Some(reason);
                            due.halted = true;
                        }
                        None => life.drained = true,
                    }
                    self.life_changed.notify_all();
                }
            }
        }
        if changed && now_pending == 0 {
            self.peers.push(PeerCommand::Pending { members: None });
            peers_have_work = true;
        }
        out.bytes.clear();
        if out.bytes.capacity() > OUT_KEEP_MAX {
            out.bytes.shrink_to(OUT_KEEP_MAX);
        }
        if !commands.is_empty() {
            self.log.append(commands);
        }
        if peers_have_work {
            self.peers.wake();
        }
        due
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().expect("nothing panics while it holds this lock")
    }

    /// Blocks until the server halted, or every outstanding request was answered after a stop.
    pub(crate) fn wait(&self) -> ExitReason {
        let mut life = self.life();
        loop {
            if let Some(reason) = &life.halted {
                return ExitReason::Halted(reason.clone());
            }
            if life.drained {
                return ExitReason::Stopped;
            }
            life = self.life_changed.wait(life).expect("nothing panics while it holds this lock");
        }
    }

    /// Like [`Self::wait`], for so long at most.
    pub(crate) fn wait_drained(&self, patience: Duration) -> Option<ExitReason> {
        let guard = self.life();
        let (life, _) = self
            .life_changed
            .wait_timeout_while(guard, patience, |l| l.halted.is_none() && !l.drained)
            .expect("nothing panics while it holds this lock");
        match (&life.halted, life.drained) {
            (Some(reason), _) => Some(ExitReason::Halted(reason.clone())),
            (None, true) => Some(ExitReason::Stopped),
            (None, false) => None,
        }
    }

    /// Ends the wait of an orderly stop whose time is over, unless it was drained in this moment.
    pub(crate) fn give_up_draining(&self) -> ExitReason {
        let left = self.with(|s| s.replica.outstanding_requests());
        let mut life = self.life();
        if left == 0 {
            // Only the others were waited for.
            life.drained = true;
        }
        if !life.drained && life.halted.is_none() {
            life.halted = Some(format!(
                "the time for an orderly stop (request_throttler.shutdownTimeout) is over and {left} requests are not answered: the log's disk is slow or hangs. Whatever was acknowledged is safe"
            ));
            self.life_changed.notify_all();
        }
        life.halted.clone().map_or(ExitReason::Stopped, ExitReason::Halted)
    }

    /// Tells every loop to end.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.log.close();
        self.looks.close();
        self.peers.wake();
        // Under the lock: between its look at the flag and its sleep the timer thread would not hear it.
        let engine = self.engine.lock();
        self.timer.notify_all();
        drop(engine);
        for desk in &self.desks {
            desk.outbox().wake_always();
        }
    }

    /// Tells every loop to end with nothing finished: what was not yet written to the log is lost.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.log.abandon();
        self.close();
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }

    /// From now on the replica's warnings are for the record only.
    pub(crate) fn expect_stop(&self) {
        self.stop_expected.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// What [`Self::is_closing`] reads, for those who outlive a look at it.
    pub(crate) fn closing_flag(&self) -> Arc<AtomicBool> {
        self.closing.clone()
    }

    /// The timer thread: fires deadlines until the server closes.
    pub(crate) fn run_timer(&self) {
        loop {
            if self.is_closing() {
                return;
            }
            let now = self.clock.now();
            self.with(|s| {
                if s.replica.next_deadline().is_some_and(|d| d <= now.mono) {
                    s.step(Input::TimerFired);
                }
            });
            let mut engine = self.engine.lock();
            // Again: what followed from the step was written meanwhile.
            let now = self.clock.now();
            engine.armed = engine.replica.next_deadline();
            let wait =
                engine.armed.map_or(IDLE_TIMER_MAX, |d| Duration::from_millis(d.saturating_sub(now.mono).max(1)));
            if self.is_closing() {
                return;
            }
            // Woken for an earlier deadline, or at the end; spurious wake-ups only look again.
            self.timer.wait_for(&mut engine, wait.min(IDLE_TIMER_MAX));
        }
    }
}

/// Longest sleep of the timer.
const IDLE_TIMER_MAX: Duration = Duration::from_secs(1);

/// Links that whoever stepped the replica writes to. Others are left to their tasks.
const PORTS_MAX: usize = 8;

/// Memory for emitted frames that is kept from batch to batch.
const OUT_KEEP_MAX: usize = 1 << 20;

/// Exists while the replica is stepped. Dropped by a panic only, before the lock is released: an invariant
/// did not hold, the replica's state can't be trusted, and nothing may leave it any more.
struct Whole;

impl Drop for Whole {
    fn drop(&mut self) {
        tracing::error!("an invariant of the replica did not hold (see the panic above); the process ends");
        std::process::abort()
    }
}

/// The replica while it is locked.
pub(crate) struct Session<'a> {
    pub(crate) replica: &'a mut Replica,
    out: &'a mut Actions,
    now: Time,
    /// Bytes for clients that have nothing to do with whoever locked it.
    emitted_before: usize,
    gives_way: bool,
}

impl Session<'_> {
    pub(crate) fn step(&mut self, input: Input<'_>) {
        self.replica.step(self.now, input, self.out);
    }

    pub(crate) fn may_hand_over(&self) -> Result<(), HandOverRefused> {
        self.replica.may_hand_over(self.now)
    }

    /// Whoever waits for the replica has it next, however soon this thread comes back. For those who have had it
    /// for long and have more to do.
    pub(crate) const fn give_way(&mut self) {
        self.gives_way = true;
    }

    /// Bytes for clients that were emitted by what whoever locked the replica did with it.
    pub(crate) const fn emitted(&self) -> usize {
        self.out.bytes.len() - self.emitted_before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::Deliveries;
    use crate::testing;
    use farrier_proto::ServerId;
    use farrier_proto::quorum::{ElectionRound, Notification, ServerState, Vote};
    use std::sync::atomic::AtomicUsize;
    use std::time::Instant;

    #[test]
    fn a_stop_that_cannot_drain_is_a_failure_and_says_what_is_left() {
        let core = testing::core();
        testing::connect(&core);
        core.step(Input::Stop);
        // Nobody writes the log here, so the new session's transaction stays on its way.
        assert_eq!(core.wait_drained(Duration::ZERO), None);
        let ExitReason::Halted(why) = core.give_up_draining() else { panic!("something was outstanding") };
        assert!(why.contains("1 requests are not answered"), "{why}");
        assert_eq!(core.wait(), ExitReason::Halted(why));

        let idle = testing::core();
        idle.step(Input::Stop);
        assert_eq!(idle.give_up_draining(), ExitReason::Stopped);
    }

    fn members(text: &'static str) -> Ensemble {
        Ensemble::of(&MemberList::parse(text.as_bytes()).expect("a list")).expect("members")
    }

    #[test]
    fn where_those_are_that_may_become_members_is_told_before_anything_is_said_to_them() {
        const OLD: &str = "server.1=a:1:2\nserver.2=b:1:2\nversion=0";
        const NEW: &str = "server.1=a:1:2\nserver.2=b:1:2\nserver.4=d:1:2\nversion=7";
        let config = crate::config::ServerConfig::standalone("/nowhere", ([127, 0, 0, 1], 0).into());
        let clock = Clock::new();
        let made = clock.now();
        let state = farrier_replica::TreeRestore::new(crate::mapping::tree(&config), 7);
        let replica = Replica::ensemble(
            crate::mapping::replica(&config, None, 7),
            farrier_zab::Config { reconfig: true, ..farrier_zab::Config::new(ServerId(1)) },
            members(OLD).with_pending(Some(members(NEW))),
            farrier_zab::Durable {
                accepted: farrier_proto::AcceptedEpoch(1),
                current: farrier_proto::CurrentEpoch(1),
                last_logged: farrier_proto::Zxid::ZERO,
                recovering: farrier_zab::Recovering::No,
            },
            state,
            0,
            made,
        );
        let core = Core::new(replica, made, clock, 1);
        core.step(Input::TimerFired);
        let first = core.peers.waiting_now();
        let [PeerCommand::Pending { members: Some(told) }, said @ ..] = &first[..] else { panic!("{first:?}") };
        assert!(told.get(ServerId(4)).is_some());
        assert!(said.iter().any(|c| matches!(c, PeerCommand::Notify { to: ServerId(4), .. })), "{said:?}");

        let notification = Notification {
            state: ServerState::Looking,
            vote: Vote::NONE,
            round: ElectionRound(1),
            version: Notification::VERSION,
            config: Some(NEW.into()),
        };
        core.step(Input::Zab(farrier_zab::Input::Notification { from: ServerId(4), notification }));
        let then = core.peers.waiting_now();
        assert!(then.iter().any(|c| matches!(c, PeerCommand::Activate { .. })), "{then:?}");
        assert!(matches!(then.last(), Some(PeerCommand::Pending { members: None })), "{then:?}");
    }

    /// Frames for clients of the worker, which is about to look.
    fn sent(core: &Core) -> usize {
        let (mut waiting, mut sent) = (Deliveries::default(), 0);
        core.outbox(0).take(&mut waiting);
        waiting.drain(|_, delivery| sent += usize::from(matches!(delivery, Delivery::Send(_))));
        core.outbox(0).attend();
        sent
    }

    #[test]
    fn whoever_has_the_replica_next_tells_it_what_is_durable_and_once() {
        let core = testing::core();
        testing::connect(&core);
        let id = testing::append(&core);
        core.outbox(0).attend();
        core.durable(id, false);
        assert_eq!(sent(&core), 0, "the log's thread has something better to do");
        core.step_in_bulk(Input::SegmentPrepared { error: None });
        assert_eq!(sent(&core), 0, "and so has this one");
        core.with(|session| {
            assert_eq!(session.replica.outstanding_requests(), 0, "it hears that first");
            assert_eq!(session.emitted(), 0, "the reply is not this one's");
        });
        assert_eq!(sent(&core), 1);
        core.with(|_| ());
        core.tell_durable();
        assert_eq!(sent(&core), 0);

        testing::connect(&core);
        core.durable(testing::append(&core), true);
        assert_eq!(sent(&core), 1, "at once");
    }

    #[test]
    fn a_worker_wakes_up_for_what_is_durable() {
        let core = testing::core();
        let settings = testing::worker_settings(&core);
        let (accepted, sockets) = tokio::sync::mpsc::channel(1);
        std::thread::scope(|scope| {
            scope.spawn(|| crate::worker::run(&core, 0, settings, sockets, None));
            // All of them first: a connection that is new may wake the worker, too.
            let connect = |_| {
                testing::connect(&core);
                testing::append(&core)
            };
            for id in (0..100).map(connect).collect::<Vec<_>>() {
                core.durable(id, false);
                let patience = Instant::now() + Duration::from_secs(60);
                // Without the replica, or this thread would tell it.
                while core.durable.load(Ordering::SeqCst) > 0 {
                    assert!(Instant::now() < patience, "nobody told the replica");
                    std::thread::yield_now();
                }
            }
            let patience = Instant::now() + Duration::from_secs(60);
            while core.log.awake() > 0 {
                assert!(Instant::now() < patience, "the worker has nothing to do, and the log thread is told so");
                std::thread::yield_now();
            }
            drop(accepted);
        });
    }

    /// Two threads want the replica, and one comes back for it in the moment in which it released it. Returns
    /// how many long turns that one had until the other had had its own.
    fn long_turns_beside(turns_of_other: usize, gives_way: bool) -> usize {
        let core = testing::core();
        let left = AtomicUsize::new(turns_of_other);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..turns_of_other {
                    core.with(|_| left.fetch_sub(1, Ordering::Relaxed));
                }
            });
            let mut turns = 0;
            while left.load(Ordering::Relaxed) > 0 && turns < 100 * turns_of_other {
                turns += 1;
                core.with(|session| {
                    // Leaves the processor to the other, who can only come to wait.
                    std::thread::sleep(Duration::from_millis(2));
                    if gives_way {
                        session.give_way();
                    }
                });
            }
            turns
        })
    }

    #[test]
    fn whoever_waits_has_the_replica_before_a_long_turn_is_followed_by_the_next() {
        for gives_way in [true, false] {
            let turns = long_turns_beside(20, gives_way);
            // About 20 where the other comes to wait during each; a hundred times that is nobody's scheduler.
            assert!(turns < 2000, "the other did not have its turns beside {turns}");
        }
    }
}
