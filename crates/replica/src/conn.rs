//! A client connection as the replica sees it.

use crate::ephemerals::{Counted, Ephemerals};
use crate::io::Time;
use crate::stats::LatencyStats;
use core::net::SocketAddr;
use farrier_proto::{OpCode, SessionId, Xid, Zxid};
use farrier_tree::{AuthConfig, Identity};
use farrier_zab::SyncTicket;
use std::collections::VecDeque;
use std::sync::Arc;

/// How far a connection got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Nothing received yet: the next frame is a connect request.
    Fresh,
    /// Its connect request waits for this server to have a role; frames wait in the shell.
    Held,
    /// Its createSession is outstanding, or the leader is asked for its session; frames wait in the shell.
    Creating,
    /// Requests are served.
    Serving,
    /// Its closeSession is outstanding, or a last reply waits for its turn; further frames are ignored.
    Ending,
}

/// What the reply to a write needs of the request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) xid: Xid,
    pub(crate) op: OpCode,
    pub(crate) arrived: u64,
    /// What it counts against the budget of large requests.
    pub(crate) large: usize,
    /// What it creates.
    pub(crate) ephemerals: Ephemerals,
    /// Of a multi with a create2: which operations are one. The transaction may say create for all of them.
    pub(crate) create2: Box<[bool]>,
}

/// Something that takes its turn in the order of a connection's replies.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// A write that was proposed; its commit answers it.
    Write(Zxid),
    /// A write that was sent to the leader, with the bytes of the request; the commit of a transaction with its
    /// session and xid answers it.
    Forwarded { asked: Asked, bytes: usize },
    /// Writes that are not this connection's own, up to this one; `None` until the last of them has a number. What is behind
    /// it waits until that is applied.
    Earlier(Option<Zxid>),
    /// A sync that was asked for, and whether it is confirmed.
    Sync { ticket: SyncTicket, frame: Box<[u8]>, identities: Arc<[Identity]>, arrived: u64, done: bool },
    /// A request that may only run when the writes before it are applied, with the identities that the
    /// connection had when it arrived.
    Frame { frame: Box<[u8]>, identities: Arc<[Identity]>, arrived: u64 },
    /// An answer that was known at once. `close` ends the connection behind it.
    Answer { frame: Vec<u8>, close: bool },
}

impl Waiting {
    /// Whether what is behind it has to wait, where everything up to `applied` is in the tree.
    pub(crate) fn blocks(&self, applied: Zxid) -> bool {
        match self {
            Self::Write(_) | Self::Forwarded { .. } => true,
            Self::Earlier(until) => until.is_none_or(|until| until > applied),
            Self::Sync { done, .. } => !*done,
            Self::Frame { .. } | Self::Answer { .. } => false,
        }
    }
}

/// Counters of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnStats {
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) latency: LatencyStats,
    pub(crate) last_op: &'static str,
    pub(crate) last_cxid: i64,
    pub(crate) last_zxid: i64,
    pub(crate) last_response: u64,
    pub(crate) last_latency: u64,
    pub(crate) established: Time,
}

impl ConnStats {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            received: 0,
            sent: 0,
            latency: LatencyStats::default(),
            last_op: "NA",
            last_cxid: -1,
            last_zxid: -1,
            last_response: 0,
            last_latency: 0,
            established: now,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) peer: SocketAddr,
    pub(crate) phase: Phase,
    pub(crate) session: SessionId,
    pub(crate) timeout: i32,
    /// Whether the connect request had the byte that asks for read-only mode.
    pub(crate) read_only_byte: bool,
    pub(crate) identities: Arc<[Identity]>,
    pub(crate) waiting: VecDeque<Waiting>,
    pub(crate) waiting_bytes: usize,
    /// Requests among them.
    pub(crate) reads_waiting: usize,
    /// Writes among those.
    pub(crate) writes_deferred: usize,
    /// Its session's ephemerals, where another server leads; `None` until it matters.
    pub(crate) ephemerals: Option<Counted>,
    /// Bytes emitted so far.
    pub(crate) emitted: u64,
    /// Those among them that the system has not taken, as far as the shell has told. Never less, but for what was emitted
    /// while the shell told that nothing was left.
    pub(crate) unflushed: usize,
    /// Replies among those that are longer than `jute.maxbuffer`.
    pub(crate) unflushed_long: usize,
    /// The step in which the shell was asked to report that everything is sent.
    pub(crate) flush_asked: Option<u64>,
    /// Listed among those that wait until the replica is not throttled any more.
    pub(crate) throttled: bool,
    /// Listed among those whose queue goes on with the next timer.
    pub(crate) unfinished: bool,
    pub(crate) paused: bool,
    /// Paused though it takes its replies: its pings wait for this server. Listed among those.
    pub(crate) unread: bool,
    /// When the client last showed that it lives. [`Time::mono`].
    pub(crate) heard: u64,
    pub(crate) stats: ConnStats,
}

impl Conn {
    pub(crate) fn new(peer: SocketAddr, now: Time) -> Self {
        Self {
            peer,
            phase: Phase::Fresh,
            session: SessionId::NONE,
            timeout: 0,
            read_only_byte: false,
            identities: Arc::new([AuthConfig::ip_identity(peer.ip())]),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            reads_waiting: 0,
            writes_deferred: 0,
            ephemerals: None,
            emitted: 0,
            unflushed: 0,
            unflushed_long: 0,
            flush_asked: None,
            throttled: false,
            unfinished: false,
            paused: false,
            unread: false,
            heard: now.mono,
            stats: ConnStats::new(now),
        }
    }

    /// Whether nothing was done for it yet.
    pub(crate) const fn is_new(&self) -> bool {
        matches!(self.phase, Phase::Fresh | Phase::Held)
    }

    /// Whether requests may run now, as far as the connection's own output is concerned.
    pub(crate) const fn is_stalled(&self) -> bool {
        self.unflushed >= crate::limits::CONN_UNFLUSHED_PAUSE
    }
}
