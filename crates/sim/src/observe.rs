//! What happens in a simulated world, told as one stream of observations in the exact order in which it happened.
//! Checkers read this stream and nothing else; the transcript is made of it.
//!
//! The engine tells what happens to servers, faults and phases; the simulated clients tell what they do and hear.
//!
//! **Order within one step of a server.** The engine compares the server's status after the step, and tells a changed
//! role first; then [`ServerEvent::StateReplaced`] if the tree was replaced; then what was handed to the log, applied, and
//! the rest in the order of the actions. Replies reach clients later, so what a reply shows was always told before.

mod request;

pub use request::{HeldWatches, MultiPart, PartReply, ReadPart, ReadPartReply, Reply, Request};

use bytes::Bytes;
use core::fmt;
use farrier_proto::client::EventType;
use farrier_proto::{AcceptedEpoch, Acl, CurrentEpoch, ErrorCode, ServerId, SessionId, Stat, Zxid};

/// Virtual time: microseconds since the run began. It is the world's, not that of any server's clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment `ms` milliseconds after the run began.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * 1000)
    }

    /// Whole milliseconds since the run began.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0 / 1000
    }

    /// So many milliseconds later.
    #[must_use]
    pub const fn plus_millis(self, ms: u64) -> Self {
        Self(self.0 + ms * 1000)
    }

    /// Milliseconds from `earlier` to this moment; 0 if it is later.
    #[must_use]
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1000
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}s")
    }
}

/// A simulated client, for the whole run; its sessions and connections change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(pub u32);

/// A connection of a client as the client counts them: fresh per dial, and unique together with the [`ClientId`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DialId(pub u32);

/// A request of a client, unique in the client's life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub u32);

/// Names a fault from its beginning to its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FaultId(pub u32);

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Observation {
    /// When.
    pub at: Moment,
    /// What.
    pub what: What,
}

/// To whom it happened.
#[derive(Clone, Debug)]
pub enum What {
    /// To a server.
    Server(ServerId, ServerEvent),
    /// To a client.
    Client(ClientId, ClientEvent),
    /// A fault began.
    FaultBegan(FaultId, Fault),
    /// A fault ended, or was over at once.
    FaultEnded(FaultId),
    /// The run went on to its next phase.
    Phase(Phase),
}

/// Parts of a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    /// Faults may come.
    Safety,
    /// No fault is in force any more, and none will come: the ensemble has to serve within a bound.
    Healed,
    /// Clients make no requests any more.
    Quiet,
    /// Every server serves; what they have is shown next ([`ServerEvent::Inspected`]).
    Settled,
}

/// How a server's process ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Killed: what it wrote survives in the system's memory, and is volatile until synced.
    ProcessCrash,
    /// Power failed: of what was not synced any part may be gone. May follow another ending.
    PowerCrash,
    /// It stopped in order.
    Orderly,
    /// It ended itself: [`farrier_replica::Action::Halt`], or a start that was refused.
    Halted(String),
}

/// What a server is to the others, from its peer status.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// No leader.
    Looking,
    /// Elected.
    Leading {
        /// Once a quorum acknowledged NEWLEADER: established.
        epoch: Option<u32>,
    },
    /// Connected, or about to connect, to a leader.
    Learning {
        /// Whose.
        leader: ServerId,
        /// Once UPTODATE arrived.
        epoch: Option<u32>,
        /// Without a vote.
        observing: bool,
    },
}

/// A znode as a server has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeenZnode {
    /// `/` for the root.
    pub path: String,
    /// What clients see.
    pub stat: Stat,
    /// Null and empty are distinct.
    pub data: Option<Bytes>,
    /// Its access control list.
    pub acl: Vec<Acl<'static>>,
}

/// Why a tree jumped instead of applying one transaction after the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Replacement {
    /// A SNAP of the leader arrived; on disk it is only with [`ServerEvent::SnapshotInstalled`].
    Snap,
    /// TRUNC, or an adopted SNAP that did not stay: loaded from disk again.
    Reload,
}

/// What happens to one server.
#[derive(Clone, Debug)]
pub enum ServerEvent {
    /// A process began, and recovery is done.
    Started {
        /// As the disk has it.
        accepted: AcceptedEpoch,
        /// As the disk has it.
        current: CurrentEpoch,
        /// The last transaction that was recovered: the tree holds it and everything before, committed or not.
        last: Zxid,
        /// The tree's digest, if it keeps one.
        digest: Option<u64>,
        /// It may have forgotten something, and has no vote.
        recovering: bool,
    },
    /// What a start would recover, had the process or the machine failed a moment ago: between two operations of the disk.
    /// Told where that moment was, among what is told of the disk.
    WouldStart {
        /// The machine had failed, not only the process.
        power: bool,
        /// As in [`Self::Started`].
        accepted: AcceptedEpoch,
        /// As in [`Self::Started`].
        current: CurrentEpoch,
        /// As in [`Self::Started`].
        last: Zxid,
        /// As in [`Self::Started`].
        digest: Option<u64>,
        /// As in [`Self::Started`].
        recovering: bool,
        /// What it would send from its log, were it the leader, to a learner that is as far behind as the log reaches:
        /// the transaction behind which that begins, and all that follow. `None` if it would send no difference.
        difference: Option<(Zxid, Vec<Zxid>)>,
        /// There is a log with something in it, and it ends before the snapshot that would be loaded.
        falls_short: bool,
    },
    /// What the same start would make of a fuzzy snapshot, as Apache takes them: with all of the end in it, and the name of
    /// the one that was loaded, so that everything behind that is replayed on its own effects.
    WouldReplay {
        /// The last transaction.
        last: Zxid,
        /// The tree's digest.
        digest: Option<u64>,
    },
    /// The process is no more.
    Ended(Ending),
    /// Another role, or the same with `serving` changed.
    Role {
        /// Which.
        role: Role,
        /// Whether clients are served.
        serving: bool,
    },
    /// The file is written and synced.
    AcceptedEpochDurable(AcceptedEpoch),
    /// The file is written and synced.
    CurrentEpochDurable(CurrentEpoch),
    /// A transaction was handed to the log. On a leader that is also its broadcast.
    Appended {
        /// Which.
        zxid: Zxid,
        /// Header, body and digest.
        txn: Bytes,
    },
    /// The log is on the platter up to here: the truth of the simulated disk, not what the server was told. Also told
    /// after a start, when what was recovered has been written again.
    LogDurable {
        /// The last transaction, or the zxid of the snapshot below an empty log.
        upto: Zxid,
    },
    /// TRUNC was carried out, durably.
    LogCut {
        /// The last transaction that is left.
        after: Zxid,
    },
    /// A SNAP became the whole history on disk, durably.
    SnapshotInstalled {
        /// Of the state; the log goes on behind it.
        zxid: Zxid,
    },
    /// A snapshot of the server's own was written.
    SnapshotTaken {
        /// Of the state.
        zxid: Zxid,
    },
    /// The tree is another one.
    StateReplaced {
        /// Of the new state.
        zxid: Zxid,
        /// Its digest, if it keeps one.
        digest: Option<u64>,
        /// Why.
        why: Replacement,
    },
    /// A transaction was applied to the tree. While the server has no established role, that is history which may not
    /// be committed; once it has one, everything in the tree is committed, and this too.
    Applied {
        /// Which.
        zxid: Zxid,
        /// Header, body and digest.
        txn: Bytes,
        /// Of the tree directly after it; `None` where another was applied in the same step, and if there is none.
        digest: Option<u64>,
    },
    /// It closed a link because of what a peer sent, a `PeerViolation`.
    PeerRefused {
        /// Whose link.
        peer: Option<ServerId>,
        /// The rule.
        reason: String,
    },
    /// It said something to another server that must be durable by then.
    Said(Saying),
    /// A voter's ACKEPOCH reaches it while it is an elected leader that gathers promises.
    PromiseHeard {
        /// Whose.
        by: ServerId,
        /// The epoch of its history.
        current: CurrentEpoch,
        /// The end of its history.
        last: Zxid,
    },
    /// How a learner is brought up to date: the leader sent this.
    Synchronizing {
        /// The learner.
        learner: ServerId,
        /// DIFF, TRUNC or SNAP.
        how: SyncKind,
    },
    /// The whole tree, for the oracle. Told of each server when the run is [`Phase::Settled`], and whenever the engine
    /// likes.
    Inspected {
        /// Of the tree.
        zxid: Zxid,
        /// Its digest, if it keeps one.
        digest: Option<u64>,
        /// Every znode, in any order.
        znodes: Vec<SeenZnode>,
        /// Every session with its timeout in milliseconds.
        sessions: Vec<(SessionId, i32)>,
    },
}

/// What others rely on when they hear it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Saying {
    /// LEADERINFO: it leads this epoch, if a quorum promises it.
    Offer {
        /// The connection.
        link: u64,
        /// The epoch.
        epoch: u32,
    },
    /// ACKEPOCH: it promises the epoch that was offered to it on the same connection.
    Promise {
        /// The connection.
        link: u64,
        /// It comes with a history, so that it counts.
        counts: bool,
    },
    /// ACK: it has everything up to here; of NEWLEADER with counter 0.
    Ack {
        /// Up to where.
        zxid: Zxid,
    },
    /// NEWLEADER: its history is the one of this epoch.
    NewLeader {
        /// The epoch.
        epoch: u32,
    },
    /// A notification while it looks for a leader.
    Vote {
        /// For whom.
        leader: ServerId,
        /// Which last transaction it claims for them; negative from who has no voice.
        zxid: i64,
    },
}

/// How a learner is brought up to date.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SyncKind {
    /// It gets what it lacks.
    Diff,
    /// Its log is cut.
    Trunc,
    /// It gets the whole state.
    Snap,
}

/// What is done to the world. Counted by kind in a run's summary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A process is killed; over at once, the start comes with [`ServerEvent::Started`].
    ProcessCrash(ServerId),
    /// Power fails; over at once.
    PowerCrash(ServerId),
    /// A process is not scheduled; its sockets keep what arrives.
    Pause(ServerId),
    /// A wall clock jumps by so many milliseconds.
    ClockJump(ServerId, i64),
    /// A monotonic clock runs at so many thousandths of the true rate.
    ClockSkew(ServerId, u32),
    /// One connection between servers breaks; over at once.
    LinkLoss(ServerId, ServerId),
    /// Nothing passes from the first to the second (and back, if `both`).
    Cut {
        /// From.
        from: ServerId,
        /// To.
        to: ServerId,
        /// Both ways.
        both: bool,
        /// Nobody is told: connections stay open and silent.
        silent: bool,
    },
    /// Messages take this many milliseconds more.
    SlowLink(ServerId, ServerId, u32),
    /// A client's connection breaks; over at once.
    ClientLinkLoss(ClientId),
    /// A client reaches nobody.
    ClientCut(ClientId),
    /// The disk takes this many milliseconds more for each operation.
    SlowDisk(ServerId, u32),
    /// The next write fails.
    FailedWrite(ServerId),
    /// The next sync fails.
    FailedSync(ServerId),
    /// No space is left.
    FullDisk(ServerId),
    /// Bits changed on the disk.
    BitRot(ServerId),
    /// The disk is replaced by an empty one.
    Wiped(ServerId),
    /// Between two processes of the server another one ran on its directory, which writes files as Apache's does: a
    /// snapshot of what is not committed, or one of its leader's above the logs of another history.
    TakenOver(ServerId),
    /// Of what was written and not synced, a part was lost by a power failure in the middle of a sector or block.
    TornWrite(ServerId),
    /// Blocks that were written later survived a power failure, and earlier ones did not.
    ReorderedWrite(ServerId),
    /// A rename whose directory was not synced was lost by a power failure.
    LostRename(ServerId),
    /// An operator asks for another leader.
    HandOver(ServerId),
    /// An operator stops a server in order; the start comes with [`ServerEvent::Started`].
    OrderlyStop(ServerId),
}

/// Why a client has a connection no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parting {
    /// It left of its own will, or because its session is over.
    Left,
    /// It had heard nothing for too long, although it asked.
    Unheard,
    /// The other side closed it, or the network broke it.
    Broken,
}

/// What a client does and hears.
#[derive(Clone, Debug)]
pub enum ClientEvent {
    /// It dialled a server, with the connect request as its first frame.
    Dialled {
        /// The connection.
        dial: DialId,
        /// Whom.
        server: ServerId,
        /// The session that it wants back; [`SessionId::NONE`] for a new one.
        session: SessionId,
        /// The newest zxid that it saw.
        seen: Zxid,
        /// The session timeout that it asks for, in milliseconds.
        timeout: i32,
    },
    /// The connect request was answered: the session is attached.
    Attached {
        /// The connection.
        dial: DialId,
        /// Whose.
        server: ServerId,
        /// The session.
        session: SessionId,
        /// Whether it is a new one.
        fresh: bool,
        /// Negotiated, in milliseconds.
        timeout: i32,
    },
    /// The connection is gone. Calls without an answer are told as [`Self::Unknown`] right behind this.
    Disconnected {
        /// The connection.
        dial: DialId,
        /// Why.
        why: Parting,
    },
    /// A server said that the session is no more.
    Expired {
        /// Which.
        session: SessionId,
    },
    /// closeSession was answered.
    Closed {
        /// Which.
        session: SessionId,
    },
    /// A request was sent.
    Invoked {
        /// Its name.
        call: CallId,
        /// On which connection.
        dial: DialId,
        /// In which session.
        session: SessionId,
        /// The client's number for it, fresh in the session.
        xid: i32,
        /// What it asks.
        request: Request,
    },
    /// Its reply arrived.
    Returned {
        /// Which.
        call: CallId,
        /// On which connection.
        dial: DialId,
        /// Of the reply's header.
        zxid: i64,
        /// What it says.
        outcome: Result<Reply, ErrorCode>,
    },
    /// The connection broke before the reply: it was done, or not, or will be.
    Unknown {
        /// Which.
        call: CallId,
    },
    /// A ping was sent.
    Pinged {
        /// On which connection.
        dial: DialId,
    },
    /// The answer to a ping.
    Ponged {
        /// On which connection.
        dial: DialId,
        /// Of the header.
        zxid: i64,
    },
    /// A watch event arrived.
    Watched {
        /// On which connection.
        dial: DialId,
        /// Of the header: the transaction of the change, or -1 for an event that catches up.
        zxid: i64,
        /// What happened.
        kind: EventType,
        /// To which znode.
        path: String,
    },
    /// The client sends nothing on purpose, so that its session expires.
    FellSilent {
        /// Which.
        session: SessionId,
    },
    /// What arrived cannot be an answer: undecodable, an xid out of turn, a body of another kind.
    Nonsense {
        /// On which connection.
        dial: DialId,
        /// What is wrong with it.
        why: String,
    },
}
