//! What goes into a peer and what comes out.

use bytes::Bytes;
use farrier_proto::quorum::{LeaderPacket, LearnerPacket, Notification};
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId, Zxid};

/// A connection of the learner channel. Fresh per connection: a packet from a replaced link is recognised
/// as stale. FIFO, and silent once it is down or closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// A write to disk. Fresh per write: a zxid names a transaction, not one particular write of it. After a
/// truncation the same zxid may be written again, and a late completion must not vouch for the new copy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WriteId(pub u64);

impl WriteId {
    /// Its name once everything up to `durable` has none any more.
    pub(crate) const fn renumbered(self, durable: Self) -> Self {
        Self(self.0.saturating_sub(durable.0))
    }
}

/// A look into the log on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ReadId(pub u64);

/// Other names for servers and links.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// The new name of a server; one to one.
    pub server: &'a dyn Fn(ServerId) -> ServerId,
    /// The new name of a link; one to one.
    pub link: &'a dyn Fn(LinkId) -> LinkId,
}

/// A sync of this server's own client, named by whoever asks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SyncTicket(pub u64);

/// Who dialled a link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LinkKind {
    /// A learner dialled our quorum port.
    Learner,
    /// We dialled this leader, after [`Output::Dial`].
    Leader(ServerId),
}

/// Where a zxid stands in the log on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Located {
    /// The newest transaction at or below it, at or above the floor for differences. `None` if the log
    /// does not reach back so far.
    pub before: Option<Zxid>,
    /// Bytes of the records behind it.
    pub bytes_behind: u64,
    /// Bytes of the newest snapshot; 0 if there is none.
    pub snapshot_bytes: u64,
}

/// The configuration of members that a state shows (`/zookeeper/config`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ShownConfig {
    /// Its text.
    pub text: Bytes,
    /// Whether the reconfiguration that made it is in the log, above the snapshot that the state was made from. Otherwise nobody
    /// knows whether it has to do with this ensemble: a snapshot may have come with its directory from another one.
    pub in_log: bool,
}

/// Everything that can wake a peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// There is a connection with this server's election port now (either direction).
    ElectionUp {
        /// Whose.
        peer: ServerId,
    },
    /// There is none any more.
    ElectionDown {
        /// Whose.
        peer: ServerId,
    },
    /// A message on the election port. Links replay the last one after a reconnect.
    Notification {
        /// From whom.
        from: ServerId,
        /// What it says.
        notification: Notification,
    },
    /// A connection of the learner channel stands.
    LinkUp {
        /// Its name from now on.
        link: LinkId,
        /// Who dialled.
        kind: LinkKind,
    },
    /// What [`Output::Dial`] asked for did not come about.
    DialFailed {
        /// Who was dialled.
        leader: ServerId,
    },
    /// A connection of the learner channel is gone. Not given for links that the peer closed.
    LinkDown {
        /// Which.
        link: LinkId,
    },
    /// From one of our learners.
    LearnerPacket {
        /// On which link.
        link: LinkId,
        /// What it says.
        packet: LearnerPacket,
    },
    /// From our leader.
    LeaderPacket {
        /// On which link.
        link: LinkId,
        /// What it says. A SNAP is given only once its stream is read, see [`Input::SnapReceived`].
        packet: LeaderPacket,
    },
    /// A SNAP or more of its stream arrived, which takes its time: the leader is not silent. Given now and then, by time,
    /// however little it was: Apache's limits are those of a single read too.
    SnapProgress {
        /// On which link.
        link: LinkId,
    },
    /// A SNAP and its whole stream arrived; whoever drives the peer holds the state.
    SnapReceived {
        /// On which link.
        link: LinkId,
        /// The packet's zxid.
        zxid: Zxid,
        /// The configuration that the state shows, if any.
        config: Option<ShownConfig>,
    },
    /// Everything emitted for this link was handed to the system, after [`Output::ReportFlush`].
    Flushed {
        /// Which.
        link: LinkId,
    },
    /// Answer to [`Output::Locate`]. `None` if the log cannot be read.
    Located {
        /// Which look.
        read: ReadId,
        /// For which learner.
        link: LinkId,
        /// What was found.
        located: Option<Located>,
    },
    /// Answer to [`Output::ReadTxns`]: the transactions directly behind the given zxid, in order and without a
    /// gap. Empty if the log cannot be read, or does not have them.
    TxnsRead {
        /// Which look.
        read: ReadId,
        /// For which learner.
        link: LinkId,
        /// What was read.
        txns: Vec<(Zxid, Bytes)>,
    },
    /// This and every earlier write is durable.
    Durable {
        /// The newest of them.
        id: WriteId,
    },
    /// [`Output::Truncate`] was carried out (then it is durable), or could not be because no snapshot at or
    /// below the cut is left or the log holds no such transaction (then nothing was changed).
    Truncated {
        /// Which write.
        id: WriteId,
        /// Whether it was done.
        done: bool,
        /// If so, the configuration that the state shows now, if any.
        config: Option<ShownConfig>,
    },
    /// [`Output::Reload`] was carried out: the state is again what the disk says.
    Reloaded {
        /// Which write.
        id: WriteId,
        /// The last transaction of it.
        last: Zxid,
        /// The configuration that it shows, if any.
        config: Option<ShownConfig>,
    },
    /// A deadline passed.
    Timer,
}

/// How much a note matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// Somebody should act.
    Error,
    /// Somebody should know.
    Warn,
    /// State changes.
    Info,
    /// Details.
    Debug,
}

/// What a server may do for its clients.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// No leader: nothing is served.
    Looking,
    /// UPTODATE arrived, and all that was committed until then is delivered.
    Learning {
        /// Whom it follows.
        leader: ServerId,
        /// The epoch.
        epoch: u32,
        /// Whether it has no vote in it.
        observing: bool,
    },
    /// A quorum acknowledged NEWLEADER, and the whole initial history is delivered.
    Leading {
        /// The epoch.
        epoch: u32,
    },
}

/// What is to be done, in this order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Output {
    // ---- sockets ----
    /// Send a message to a server's election port, dialling it if necessary. A newer one replaces an unsent
    /// older one.
    Notify {
        /// To whom; never this server itself.
        to: ServerId,
        /// What to say.
        notification: Notification,
    },
    /// Dial the quorum port of a server. Replaces any earlier dial. Answered by [`Input::LinkUp`] or
    /// [`Input::DialFailed`].
    Dial {
        /// Whose.
        leader: ServerId,
    },
    /// Send to our leader.
    SendLeader {
        /// The link.
        link: LinkId,
        /// The packet.
        packet: LearnerPacket,
    },
    /// Send to a learner of ours.
    SendLearner {
        /// The link.
        link: LinkId,
        /// The packet.
        packet: LeaderPacket,
    },
    /// Send SNAP with this zxid, and the state as it is now as a stream behind it.
    SendSnapshot {
        /// The link.
        link: LinkId,
        /// Of the last delivered transaction: the state's.
        zxid: Zxid,
    },
    /// Give [`Input::Flushed`] once nothing for this link is left to send.
    ReportFlush {
        /// Which.
        link: LinkId,
    },
    /// Stop reading from a link, until it is resumed.
    PauseLink {
        /// Which.
        link: LinkId,
    },
    /// Read from it again.
    ResumeLink {
        /// Which.
        link: LinkId,
    },
    /// Close a link after what was sent to it. The peer has forgotten it.
    CloseLink {
        /// Which.
        link: LinkId,
        /// Why.
        reason: String,
    },

    // ---- the log, in order; each is completed by `Durable`, `Truncated` or `Reloaded` ----
    /// Append a transaction.
    Append {
        /// Quoted by the completion.
        id: WriteId,
        /// The transaction's.
        zxid: Zxid,
        /// Header, body and digest, verbatim as proposed.
        txn: Bytes,
    },
    /// Write the file `acceptedEpoch`.
    SaveAcceptedEpoch {
        /// Quoted by the completion.
        id: WriteId,
        /// The number.
        epoch: AcceptedEpoch,
    },
    /// Write the file `currentEpoch`; then clear the `recovering` mark if it is set.
    SaveCurrentEpoch {
        /// Quoted by the completion.
        id: WriteId,
        /// The number.
        epoch: CurrentEpoch,
    },
    /// Write down the configuration that NEWLEADER had, which is newer than the one in force, for
    /// [`Peer::new`](crate::Peer::new) at the next start. `None`: it had none, and what was written before is void.
    SavePending {
        /// Quoted by the completion.
        id: WriteId,
        /// Its text.
        config: Option<Bytes>,
    },
    /// Write the mark `recovering`: this server may have forgotten what it acknowledged.
    RaiseRecovering {
        /// Quoted by the completion.
        id: WriteId,
    },
    /// Cut the log behind a transaction and bring the state back to it.
    Truncate {
        /// Quoted by [`Input::Truncated`].
        id: WriteId,
        /// The last transaction to keep.
        after: Zxid,
    },
    /// The state that came with [`Input::SnapReceived`] is the state from now on, in memory.
    AdoptSnapshot {
        /// The packet's zxid.
        zxid: Zxid,
    },
    /// Make the adopted state, with what was delivered since, the whole of the disk's history: snapshot, intent,
    /// removal of older logs and snapshots, `currentEpoch`, in this order (safety contract 4.1).
    InstallSnapshot {
        /// Quoted by the completion.
        id: WriteId,
        /// Of the last delivered transaction: the state's.
        zxid: Zxid,
        /// Goes into the file `currentEpoch`.
        epoch: CurrentEpoch,
    },
    /// An adopted state was not installed and must not stay: load the state from disk.
    Reload {
        /// Quoted by [`Input::Reloaded`].
        id: WriteId,
    },
    /// Find a zxid in the log on disk.
    Locate {
        /// Quoted by the answer.
        read: ReadId,
        /// For which learner.
        link: LinkId,
        /// The zxid.
        zxid: Zxid,
    },
    /// Read transactions from the log on disk: those directly behind `after`, not beyond `to`, and about a
    /// mebibyte of them (at least one).
    ReadTxns {
        /// Quoted by the answer.
        read: ReadId,
        /// For which learner.
        link: LinkId,
        /// Exclusive.
        after: Zxid,
        /// Inclusive.
        to: Zxid,
    },

    // ---- the state machine above ----
    /// A transaction is committed (or, while nothing is served, belongs to the logged history): apply it.
    Deliver {
        /// The transaction's.
        zxid: Zxid,
        /// Header, body and digest.
        txn: Bytes,
    },
    /// What may be served from now on.
    Role(Role),
    /// Leader: a REQUEST, REVALIDATE or PING of a learner that is up to date.
    FromLearner {
        /// On which link.
        link: LinkId,
        /// Of which server.
        server: ServerId,
        /// The packet.
        packet: LearnerPacket,
    },
    /// Leader: this link, from which [`Output::FromLearner`] may have come, is gone.
    LearnerGone {
        /// Which.
        link: LinkId,
    },
    /// Learner: a REVALIDATE or SYNC of the leader.
    FromLeader {
        /// The packet.
        packet: LeaderPacket,
    },
    /// Learner: the leader pings; answer with [`Peer::answer_ping`](crate::Peer::answer_ping) in this same
    /// step.
    PingReceived {
        /// To be copied.
        zxid: i64,
    },
    /// Leader: a quorum confirmed that this server still led after the sync was asked for, and everything
    /// proposed before is delivered.
    Synced {
        /// Which.
        ticket: SyncTicket,
    },
    /// A committed reconfiguration, or a newer configuration from the leader, is in force.
    Activate {
        /// Text of the configuration.
        config: Bytes,
    },
    /// End the process: nothing more may leave it.
    Halt {
        /// What happened and what to do.
        reason: String,
    },
    /// Something for the log of the server.
    Note {
        /// How much it matters.
        level: Level,
        /// What happened.
        text: String,
    },
}

/// The outputs of one or more steps, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outputs {
    /// What is to be done.
    pub list: Vec<Output>,
}

impl Outputs {
    pub(crate) fn push(&mut self, output: Output) {
        self.list.push(output);
    }

    pub(crate) fn note(&mut self, level: Level, text: impl Into<String>) {
        self.push(Output::Note { level, text: text.into() });
    }
}
