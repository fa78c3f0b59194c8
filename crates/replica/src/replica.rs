//! The state machine itself: its parts, its inputs, its deadlines.

use crate::config::ReplicaConfig;
use crate::conn::{Asked, Conn, Phase, Waiting};
use crate::conns::Conns;
use crate::fence::{Digests, Since};
use crate::hand_over::Reluctance;
use crate::io::{Action, Actions, ConnId, Input, Level, Time};
use crate::limits::{
    CONN_UNFLUSHED_MAX, CONN_UNFLUSHED_PAUSE, CONN_WAITING_BYTES_MAX, CONN_WAITING_MAX, FORCED_READS_MAX, LATE_MIN,
    LONG_REPLIES_MAX,
};
use crate::log_lag::LogLag;
use crate::members::{Alone, Membership};
use crate::quietly::Nuisances;
use crate::restore::TreeRestore;
use crate::stats::ServerStats;
use crate::sweep::Sweeper;
use crate::throttle::{ConnectionThrottle, Random};
use crate::tracker::SessionTracker;
use bytes::Bytes;
use farrier_proto::session::first_session_id;
use farrier_proto::{Blocks, SessionId, Zxid};
use farrier_tree::{Prep, Tree, WatchTable};
use farrier_zab::LinkId;
use hashbrown::{HashMap, HashSet};
use std::collections::{BTreeSet, VecDeque};

/// Who waits for the commit of a transaction.
#[derive(Debug)]
pub(crate) enum Origin {
    /// The server itself: expiry, the sweeper.
    Server,
    /// A handshake, for the session that the transaction creates.
    Connect(ConnId),
    /// A request.
    Request { conn: ConnId, asked: Asked },
    /// At a leader, a client of this learner's.
    Learner(LinkId),
    /// At a learner, another server, or one of its clients.
    Elsewhere,
}

/// A transaction that was proposed and is not yet committed.
#[derive(Debug)]
pub(crate) struct Outstanding {
    pub(crate) zxid: Zxid,
    /// Whose it is.
    pub(crate) session: SessionId,
    pub(crate) txn: Bytes,
    pub(crate) origin: Origin,
}

/// One server. See the crate's documentation for the contract.
#[derive(Debug)]
pub struct Replica {
    pub(crate) config: ReplicaConfig,
    pub(crate) membership: Membership,
    pub(crate) tree: Tree,
    pub(crate) prep: Prep,
    pub(crate) watches: WatchTable<ConnId>,
    pub(crate) tracker: SessionTracker,
    pub(crate) conns: Conns,
    /// The connection that a session is attached to.
    pub(crate) attached: HashMap<SessionId, ConnId, foldhash::fast::FixedState>,
    pub(crate) outstanding: VecDeque<Outstanding>,
    /// Connections that wait for what others wrote, by the last of it.
    pub(crate) awaited: BTreeSet<(Zxid, ConnId)>,
    /// Writes of own clients that were sent to the leader.
    pub(crate) forwarded: usize,
    pub(crate) next_session: SessionId,
    pub(crate) sweeper: Sweeper,
    pub(crate) throttle: ConnectionThrottle,
    pub(crate) random: Random,
    pub(crate) stats: ServerStats,
    /// Bytes of the transactions in `outstanding`, and of what was forwarded.
    pub(crate) outstanding_bytes: usize,
    /// Those among them that own clients asked for.
    pub(crate) asked_bytes: usize,
    pub(crate) log_lag: LogLag,
    /// Memory of transactions, and of what is forwarded.
    pub(crate) blocks: Blocks,
    /// Inputs taken so far.
    steps: u64,
    /// The newest time that an input brought.
    pub(crate) newest: u64,
    /// Bytes at which a connection that does not read is closed.
    unflushed_max: usize,
    /// Bytes of replies longer than `jute.maxbuffer` that connections have not taken.
    long_replies: usize,
    /// Bytes of large requests in flight.
    pub(crate) large_in_flight: usize,
    /// What requests took in this step; see [`WORK_MAX`](crate::limits::WORK_MAX).
    pub(crate) work: usize,
    /// Connections whose queue goes on with the next timer, in the order of their turns.
    pub(crate) unfinished: VecDeque<ConnId>,
    /// Connections that wait until the replica [is not throttled](Self::is_throttled) any more.
    pub(crate) throttled: VecDeque<ConnId>,
    /// Connections that this server does not read from though they take their replies.
    pub(crate) unread: HashSet<ConnId, foldhash::fast::FixedState>,
    pub(crate) snapshot: SnapshotSchedule,
    pub(crate) digests: Digests,
    pub(crate) reluctance: Reluctance,
    pub(crate) nuisances: Nuisances,
    /// When an exceeded quota may be warned of again.
    pub(crate) quota_warning_due: u64,
    /// When a reply that is too long may be warned of again.
    pub(crate) long_reply_warning_due: u64,
    /// When connections are looked through for silent ones.
    pub(crate) silence_due: u64,
    stopping: bool,
    pub(crate) halted: bool,
}

/// When the next snapshot is due.
#[derive(Debug)]
pub(crate) struct SnapshotSchedule {
    pub(crate) running: bool,
    /// When the image of the one that is running is gone on with, until it is whole.
    pub(crate) gather_at: Option<u64>,
    pub(crate) txns: u64,
    pub(crate) bytes: u64,
    pub(crate) at_txns: u64,
    pub(crate) at_bytes: u64,
}

impl SnapshotSchedule {
    fn draw(config: &ReplicaConfig, random: &mut Random) -> Self {
        let spread = |limit: u64, random: &mut Random| {
            let half = (limit / 2).max(1);
            half + random.below(half) + 1
        };
        Self {
            running: false,
            gather_at: None,
            txns: 0,
            bytes: 0,
            at_txns: spread(config.snap_count, random),
            at_bytes: if config.snap_size_limit == 0 { u64::MAX } else { spread(config.snap_size_limit, random) },
        }
    }
}

impl Replica {
    /// A standalone server over the state that recovery restored. `last_zxid` and `replayed` are
    /// recovery's.
    ///
    /// Sessions of the state get their full timeout from `now` on.
    ///
    /// # Panics
    /// When `last_zxid` is not the state's.
    #[must_use]
    pub fn standalone(config: ReplicaConfig, state: TreeRestore, last_zxid: Zxid, replayed: u64, now: Time) -> Self {
        let tree = state.into_tree();
        assert_eq!(tree.zxid(), last_zxid, "recovery and tree agree on the last transaction");
        let mut replica = Self::over(config, tree, Membership::Alone(Alone::new(last_zxid)), replayed, now);
        replica.track_sessions(now);
        replica.find_orphans();
        replica
    }

    /// What both kinds of server begin with.
    pub(crate) fn over(config: ReplicaConfig, tree: Tree, membership: Membership, replayed: u64, now: Time) -> Self {
        let mut random = Random::new(config.seed);
        let mut snapshot = SnapshotSchedule::draw(&config, &mut random);
        snapshot.txns = replayed;
        let plain_creates = membership.is_ensemble() && !config.peers_apply_create2;
        Self {
            membership,
            prep: Prep::new(config.auth.clone(), config.txn_max).with_plain_creates_in_multi(plain_creates),
            watches: WatchTable::with_hash_seed(config.seed),
            tracker: SessionTracker::new(config.tick_time),
            conns: Conns::default(),
            attached: HashMap::default(),
            outstanding: VecDeque::new(),
            awaited: BTreeSet::new(),
            forwarded: 0,
            next_session: first_session_id(config.server_id, now.wall),
            sweeper: Sweeper::new(now.mono + config.container.check_interval),
            throttle: ConnectionThrottle::new(config.connection_throttle.clone()),
            random,
            stats: ServerStats::default(),
            outstanding_bytes: 0,
            asked_bytes: 0,
            log_lag: LogLag::default(),
            blocks: Blocks::default(),
            steps: 0,
            newest: now.mono,
            unflushed_max: CONN_UNFLUSHED_MAX
                .max(CONN_UNFLUSHED_PAUSE + (FORCED_READS_MAX + 4) * config.jute_max_buffer),
            long_replies: 0,
            large_in_flight: 0,
            work: 0,
            unfinished: VecDeque::new(),
            throttled: VecDeque::new(),
            unread: HashSet::default(),
            snapshot,
            digests: Digests::new(Since::After(Zxid::ZERO)),
            reluctance: Reluctance::default(),
            nuisances: Nuisances::default(),
            quota_warning_due: 0,
            long_reply_warning_due: 0,
            silence_due: 0,
            stopping: false,
            halted: false,
            tree,
            config,
        }
    }

    /// Nobody expires here.
    pub(crate) fn track_nobody(&mut self) {
        self.tracker = SessionTracker::new(self.config.tick_time);
    }

    /// Every session of the tree gets its full timeout from now on.
    pub(crate) fn track_sessions(&mut self, now: Time) {
        self.track_nobody();
        for (session, timeout) in self.tree.sessions() {
            self.tracker.add(session, timeout, now);
        }
    }

    /// Takes one input and appends what follows from it to `out`.
    pub fn step(&mut self, now: Time, input: Input<'_>, out: &mut Actions) {
        if self.halted {
            return;
        }
        self.steps += 1;
        self.work = 0;
        assert!(now.mono >= self.newest, "time does not go back");
        self.newest = now.mono;
        self.notice_pause(now);
        match input {
            Input::ClientUp { conn, peer } => self.client_up(now, conn, peer, out),
            Input::ClientFrame { conn, frame } => self.client_frame(now, conn, frame, out),
            Input::ClientOversized { conn, head, len } => self.client_oversized(now, conn, head, len, out),
            Input::ClientDown { conn } => self.client_down(conn),
            Input::Flushed { conn } => self.flushed(now, conn, out),
            Input::Draining { conn, taken } => self.draining(now, conn, taken, out),
            Input::Durable { id } => self.durable(now, id, out),
            Input::WriteFailed { .. } if farrier_proto::planted!(FailedWriteForgotten) => {}
            Input::WriteFailed { error } => self.halt(error, out),
            Input::SnapshotDone { error } => {
                self.snapshot.running = false;
                match error {
                    None => self.stats.snapshots += 1,
                    Some(text) => out.note(Level::Error, text),
                }
            }
            Input::TimerFired => self.timer(now, out),
            Input::Zab(input) => self.peer_input(now, input, out),
            Input::SnapReceived { link, zxid, state } => self.snap_received(now, link, zxid, *state, out),
            Input::Truncated { id, state } => self.truncated(now, id, state, out),
            Input::Reloaded { id, state } => self.reloaded(now, id, *state, out),
            Input::SegmentPrepared { error } => self.segment_prepared(now, error, out),
            Input::HandOver => self.hand_over(now, out),
            Input::Stop => {
                self.stopping = true;
                if self.membership.is_ensemble() {
                    // Reported behind what the peer puts out.
                    self.hand_over_to_stop(now, out);
                } else {
                    self.report_stopped(out);
                }
            }
        }
        self.follow_peer(now, out);
        self.pace_leader(out);
    }

    /// Nothing may leave any more.
    pub(crate) fn halt(&mut self, reason: String, out: &mut Actions) {
        self.halted = true;
        out.push(Action::Halt { reason });
    }

    /// The moment of [`Time::mono`] at which [`Input::TimerFired`] is wanted next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.halted {
            return None;
        }
        if !self.unfinished.is_empty() {
            return Some(self.newest);
        }
        let expires = self.membership.proposes() && !self.membership.is_handing_over();
        let own = expires.then(|| {
            let sweep = self.sweeper.next_at();
            let hand_over = self.reluctance.next_try().filter(|_| self.membership.leads());
            self.tracker.next_expiry().into_iter().chain(hand_over).fold(sweep, u64::min)
        });
        let others = self.membership.next_deadline().into_iter().chain(self.next_silence());
        own.into_iter().chain(others).chain(self.snapshot.gather_at).min()
    }

    /// Whether frames of this connection may be given.
    #[must_use]
    pub fn takes_frames(&self, conn: ConnId) -> bool {
        self.conns.get(conn).is_some_and(|c| !c.paused)
    }

    /// A process that was stopped or starved wakes up with pings waiting in its sockets, and must hear
    /// them before it may call a session silent.
    fn notice_pause(&mut self, now: Time) {
        let tick = self.config.tick_time;
        let late = LATE_MIN.max(tick / 2);
        let due = self.membership.next_ping().into_iter().chain(self.tracker.next_expiry()).min();
        if due.is_some_and(|due| now.mono > due + late) && !farrier_proto::planted!(ExpiryRightAfterPause) {
            self.tracker.hold(now.mono + tick);
            self.membership.expect_pings();
        }
    }

    fn client_up(&mut self, now: Time, conn: ConnId, peer: core::net::SocketAddr, out: &mut Actions) {
        if self.stopping {
            out.push(Action::CloseClient { conn });
            return;
        }
        self.conns.insert(conn, Conn::new(peer, now));
    }

    fn timer(&mut self, now: Time, out: &mut Actions) {
        self.run_unfinished(now, out);
        self.peer_timer(now);
        self.drop_overdue(now, out);
        self.drop_silent(now, out);
        if self.snapshot.gather_at.is_some_and(|at| at <= now.mono) {
            self.gather_snapshot(out);
        }
        if !self.membership.proposes() || self.membership.is_handing_over() {
            return;
        }
        if self.membership.awaits_pings() {
            self.tracker.hold(now.mono + self.config.tick_time.div_ceil(2));
        }
        self.spare_unread(now);
        for session in self.tracker.expire(now) {
            self.stats.expired_sessions += 1;
            out.note(Level::Info, format!("Expiring session {session}: nothing heard within its timeout"));
            self.close_session_of_server(now, session, out);
        }
        self.sweep(now, out);
        self.give_up_leadership(now, out);
    }

    /// A connection is gone. One that this server closed is forgotten already; a word or a probe had no session to lose.
    fn client_down(&mut self, id: ConnId) {
        if self.conns.get(id).is_some_and(|conn| conn.phase != Phase::Fresh) {
            self.stats.dropped_connections += 1;
        }
        self.forget(id);
    }

    /// Forgets a connection; its session lives on.
    pub(crate) fn forget(&mut self, id: ConnId) {
        let Some(conn) = self.conns.remove(id) else { return };
        self.long_replies -= conn.unflushed_long;
        if conn.unread {
            self.unread.remove(&id);
        }
        if conn.session != SessionId::NONE && self.attached.get(&conn.session) == Some(&id) {
            self.attached.remove(&conn.session);
        }
        self.watches.drop_watcher(id);
        self.leave_behind(&conn);
        self.drop_waiting(&conn.waiting);
        if conn.phase == Phase::Held {
            self.membership.let_go(id);
        }
    }

    /// Nobody waits any more for what stood in a connection's queue.
    pub(crate) fn drop_waiting(&mut self, waiting: &VecDeque<Waiting>) {
        let large: usize = waiting.iter().map(|w| self.large_size(w)).sum();
        self.large_in_flight -= large;
        for item in waiting {
            if let Waiting::Forwarded { bytes, .. } = item {
                self.forwarded -= 1;
                self.outstanding_bytes -= bytes;
                self.asked_bytes -= bytes;
            }
        }
    }

    /// Closes a connection without a word.
    pub(crate) fn close(&mut self, id: ConnId, out: &mut Actions) {
        if self.conns.contains(id) {
            self.forget(id);
            out.push(Action::CloseClient { conn: id });
        }
    }

    /// Longest reply.
    pub(crate) fn reply_max(&self) -> usize {
        self.config.reply_max.max(self.config.jute_max_buffer)
    }

    /// Longest reply for which this connection's account has room. What is no longer than a request always has.
    pub(crate) fn reply_room(&self, id: ConnId) -> usize {
        let taken = self.conns.get(id).map_or(0, |conn| conn.unflushed_long);
        let left = self.reply_max().saturating_sub(taken).min(LONG_REPLIES_MAX.saturating_sub(self.long_replies));
        left.max(self.config.jute_max_buffer)
    }

    /// Emits what was appended to the bytes from `start` on, one frame, and keeps the accounts of what a
    /// connection has not taken yet.
    pub(crate) fn emit(&mut self, id: ConnId, start: usize, out: &mut Actions) {
        self.stats.reply_sizes.record(out.bytes.len() - start - 4);
        self.emit_unmeasured(id, start, out);
    }

    /// See [`Self::emit`]; the size of the answer to a connect request is in no statistics of Apache's.
    pub(crate) fn emit_unmeasured(&mut self, id: ConnId, start: usize, out: &mut Actions) {
        let Some(conn) = self.conns.get_mut(id) else {
            out.bytes.truncate(start);
            return;
        };
        self.stats.sent += 1;
        conn.stats.sent += 1;
        let len = out.bytes.len() - start;
        conn.emitted += len as u64;
        conn.unflushed += len;
        if len > 4 + self.config.jute_max_buffer {
            conn.unflushed_long += len;
            self.long_replies += len;
        }
        out.send(id, start);
        // A long one is given back only once the client took it, however short it is.
        if conn.unflushed < CONN_UNFLUSHED_PAUSE && conn.unflushed_long == 0 {
            return;
        }
        let asked = *conn.flush_asked.get_or_insert_with(|| {
            out.push(Action::ReportFlush { conn: id });
            self.steps
        });
        // What one step emits may be a lot; whoever is to be blamed for not reading must have had a chance.
        if conn.unflushed - conn.unflushed_long >= self.unflushed_max && asked < self.steps {
            let (peer, bytes) = (conn.peer, conn.unflushed);
            self.stats.dropped_connections += 1;
            out.note(Level::Warn, format!("closing {peer}: it does not read, and {bytes} bytes wait for it"));
            self.close(id, out);
        }
    }

    /// Nothing is read from a connection that does not take its replies, pings neither: that it takes them must do.
    ///
    /// What waits for it is what was emitted and is not taken. Both are totals: what is in the shell's outboxes, or was emitted
    /// since the shell counted, is not among what was taken, so it waits still, and the bound holds whatever else goes on. A
    /// count that comes late takes back nothing that is known already.
    fn draining(&mut self, now: Time, id: ConnId, taken: u64, out: &mut Actions) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let left = conn.emitted.checked_sub(taken).expect("nothing is taken that was not emitted");
        conn.unflushed = conn.unflushed.min(usize::try_from(left).unwrap_or(usize::MAX));
        let long = conn.unflushed_long.min(conn.unflushed);
        self.long_replies -= std::mem::replace(&mut conn.unflushed_long, long) - long;
        if conn.phase == Phase::Serving {
            conn.heard = now.mono;
            let (session, timeout) = (conn.session, conn.timeout);
            self.touch(now, session, timeout);
        }
        if self.conns.get(id).is_some_and(|conn| !conn.is_stalled()) {
            self.run_waiting(now, id, out);
            self.balance(id, out);
        }
    }

    fn flushed(&mut self, now: Time, id: ConnId, out: &mut Actions) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.unflushed = 0;
        self.long_replies -= std::mem::take(&mut conn.unflushed_long);
        conn.flush_asked = None;
        self.run_waiting(now, id, out);
        self.balance(id, out);
    }

    /// Whether so many bytes are on their way that no write may add to them, on whatever connection. What other servers ask a
    /// leader for does not count: each of them bounds its own, and clients here would never have their turn.
    pub(crate) const fn is_congested(&self) -> bool {
        self.asked_bytes >= 2 * self.config.outstanding_bytes_max || self.log_lag.is_long()
    }

    /// Whether every connection with a request waits.
    pub(crate) fn is_throttled(&self) -> bool {
        let most = self.config.request_throttle_max;
        self.is_congested() || (most > 0 && self.outstanding_requests() >= most)
    }

    /// Goes on with the connections that waited for that to end, in their order, until it begins again.
    pub(crate) fn wake_throttled(&mut self, now: Time, out: &mut Actions) {
        while !self.halted && !self.throttled.is_empty() && !self.is_throttled() {
            let Some(id) = self.throttled.pop_front() else { return };
            if let Some(conn) = self.conns.get_mut(id) {
                conn.throttled = false;
            }
            self.run_waiting(now, id, out);
            self.balance(id, out);
        }
    }

    /// Pauses or resumes a connection, as the bounds demand.
    pub(crate) fn balance(&mut self, id: ConnId, out: &mut Actions) {
        let outstanding = self.outstanding_requests();
        let throttled = self.is_throttled();
        let Some(conn) = self.conns.get_mut(id) else { return };
        let must_wait = match conn.phase {
            Phase::Held | Phase::Creating | Phase::Ending => true,
            Phase::Fresh => false,
            Phase::Serving => {
                conn.waiting.len() >= CONN_WAITING_MAX
                    || conn.waiting_bytes >= CONN_WAITING_BYTES_MAX
                    || conn.is_stalled()
                    || (!conn.waiting.is_empty()
                        && (outstanding >= self.config.global_outstanding_limit
                            || self.outstanding_bytes >= self.config.outstanding_bytes_max))
                    || throttled
            }
        };
        if throttled && !conn.throttled {
            conn.throttled = true;
            self.throttled.push_back(id);
        }
        let unread = must_wait && conn.phase == Phase::Serving && !conn.is_stalled();
        let changes = must_wait != conn.paused;
        conn.paused = must_wait;
        self.note_unread(id, unread);
        if changes {
            out.push(if must_wait { Action::PauseClient { conn: id } } else { Action::ResumeClient { conn: id } });
        }
    }

    /// After a stop: says so once nothing is outstanding, and the leadership is another's if it can be.
    pub(crate) fn report_stopped(&mut self, out: &mut Actions) {
        let busy = self.outstanding_requests() > 0 || self.membership.is_handing_over();
        if self.stopping && !self.halted && !busy {
            self.halted = true;
            out.push(Action::Stopped);
        }
    }

    /// Whether an orderly stop has begun.
    pub(crate) const fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(crate) fn redraw_snapshot(&mut self) {
        let SnapshotSchedule { running, gather_at, .. } = self.snapshot;
        self.snapshot =
            SnapshotSchedule { running, gather_at, ..SnapshotSchedule::draw(&self.config, &mut self.random) };
    }
}
