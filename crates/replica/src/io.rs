//! What goes into a replica and what comes out.

use crate::restore::TreeRestore;
use bytes::Bytes;
use core::net::SocketAddr;
use farrier_proto::membership::MemberList;
use farrier_proto::quorum::{LeaderPacket, LearnerPacket, Notification};
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId};
use farrier_proto::{Acl, SessionId, Zxid};
use farrier_storage::{Image, NodeRecord};
use farrier_tree::TreeImage;
use farrier_zab::{LinkId, ReadId, WriteId};

/// The two clocks, read by the shell once per input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Time {
    /// Milliseconds of a clock that never goes back, from any origin. Decides timeouts.
    pub mono: u64,
    /// Milliseconds since 1970. Only stamps znodes and messages.
    pub wall: i64,
}

/// A client connection. Fresh per connection, so that whatever is late for an old one is recognised.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub u64);

/// Everything that can wake a replica.
#[derive(Debug)]
pub enum Input<'a> {
    /// A client connected.
    ClientUp {
        /// Its name from now on.
        conn: ConnId,
        /// Where it connected from.
        peer: SocketAddr,
    },
    /// A whole frame arrived, without its length word, no longer than `jute.maxbuffer`. Only to be given
    /// while [`Replica::takes_frames`](crate::Replica::takes_frames).
    ClientFrame {
        /// From whom.
        conn: ConnId,
        /// The payload.
        frame: &'a [u8],
    },
    /// A frame longer than `jute.maxbuffer` arrived and was skipped.
    ClientOversized {
        /// From whom.
        conn: ConnId,
        /// The first bytes of it: the request header.
        head: [u8; 8],
        /// How long it was.
        len: usize,
    },
    /// The connection is gone. Not given for connections that the replica closed.
    ClientDown {
        /// Which.
        conn: ConnId,
    },
    /// Everything emitted for this connection was handed to the system, after
    /// [`Action::ReportFlush`].
    Flushed {
        /// Which.
        conn: ConnId,
    },
    /// The system had no room left for what was emitted for this connection, and has now, after [`Action::ReportFlush`]: its
    /// client reads, and lives.
    Draining {
        /// Which.
        conn: ConnId,
        /// Bytes that the system has taken of all that was ever emitted for the connection. A total and not what is left: a shell
        /// does not know what is emitted while it counts, or waits between the replica and the connection's buffer.
        taken: u64,
    },
    /// This and every earlier write to the log is durable.
    Durable {
        /// The newest of them.
        id: WriteId,
    },
    /// A write or sync of the log failed. Nothing will be acknowledged any more.
    WriteFailed {
        /// File, error and remedy.
        error: String,
    },
    /// The snapshot asked for by [`Action::TakeSnapshot`] is written, or failed.
    SnapshotDone {
        /// What went wrong.
        error: Option<String>,
    },
    /// The log segment that comes behind the current one was prepared, or could not be, for which the usual cause is a
    /// disk that is nearly full. Given with each attempt.
    SegmentPrepared {
        /// What went wrong.
        error: Option<String>,
    },
    /// Ensemble: everything that concerns the peers, their links and the log, except completions of writes
    /// ([`Self::Durable`] and the three below).
    Zab(farrier_zab::Input),
    /// Ensemble: a SNAP and its whole stream arrived on this link.
    SnapReceived {
        /// On which link.
        link: LinkId,
        /// The packet's zxid.
        zxid: Zxid,
        /// What the stream held, not yet finished.
        state: Box<TreeRestore>,
    },
    /// Ensemble: [`Action::Truncate`] was carried out, or refused.
    Truncated {
        /// Which write.
        id: WriteId,
        /// The state as the disk has it now; `None` if the log could not be cut there and nothing was changed.
        state: Option<Box<TreeRestore>>,
    },
    /// Ensemble: [`Action::Reload`] was carried out.
    Reloaded {
        /// Which write.
        id: WriteId,
        /// The state as the disk has it.
        state: Box<TreeRestore>,
    },
    /// A deadline passed.
    TimerFired,
    /// Somebody wants another server to lead. [`Replica::may_hand_over`](crate::Replica::may_hand_over) tells what
    /// comes of it.
    HandOver,
    /// Orderly stop: take no new requests, finish what is outstanding; a leader hands over first if it can.
    Stop,
}

/// How much a note matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Somebody should act.
    Error,
    /// Somebody should know.
    Warn,
    /// State changes.
    Info,
    /// Details of single sessions and connections.
    Debug,
}

/// What a shell has to do.
#[derive(Debug)]
pub enum Action {
    /// Send `bytes[start..end]` of the [`Actions`] to a client: one or more whole frames.
    Send {
        /// To whom.
        conn: ConnId,
        /// First byte.
        start: usize,
        /// Behind the last byte.
        end: usize,
    },
    /// Close a connection after what was sent to it. The replica has forgotten it.
    CloseClient {
        /// Which.
        conn: ConnId,
    },
    /// Stop giving frames of this connection.
    PauseClient {
        /// Which.
        conn: ConnId,
    },
    /// Give frames again.
    ResumeClient {
        /// Which.
        conn: ConnId,
    },
    /// Give [`Input::Flushed`] once nothing for this connection is left to send, and [`Input::Draining`] meanwhile.
    ReportFlush {
        /// Which.
        conn: ConnId,
    },
    /// Append a transaction to the log and sync it; then give [`Input::Durable`]. What waits may be
    /// written and synced together.
    Append {
        /// Quoted by the completion.
        id: WriteId,
        /// The transaction's.
        zxid: Zxid,
        /// Header, body and digest.
        txn: Bytes,
    },
    /// Begin a new log segment with the next append, if the current one is full enough to be left.
    RollLog,
    /// Write a snapshot once every append before this is durable, then give [`Input::SnapshotDone`].
    TakeSnapshot {
        /// The state; everything in it is in the appends before.
        image: Box<SnapshotImage>,
    },
    /// Ensemble, in order with the appends, then [`Input::Durable`]: write the file `acceptedEpoch`.
    SaveAcceptedEpoch {
        /// Quoted by the completion.
        id: WriteId,
        /// The number.
        epoch: AcceptedEpoch,
    },
    /// Ensemble, in order with the appends, then [`Input::Durable`]: write the file `currentEpoch`.
    SaveCurrentEpoch {
        /// Quoted by the completion.
        id: WriteId,
        /// The number.
        epoch: CurrentEpoch,
    },
    /// Ensemble, in order with the appends, then [`Input::Durable`]: write down the configuration of members that may come
    /// into force, or that none may.
    SavePending {
        /// Quoted by the completion.
        id: WriteId,
        /// Its text.
        config: Option<Bytes>,
    },
    /// Ensemble, in order with the appends, then [`Input::Durable`]: write the mark `recovering`.
    RaiseRecovering {
        /// Quoted by the completion.
        id: WriteId,
    },
    /// Ensemble, in order with the appends, then [`Input::Truncated`]: cut the log and load the state again.
    Truncate {
        /// Quoted by the completion.
        id: WriteId,
        /// The last transaction to keep.
        after: Zxid,
    },
    /// Ensemble, in order with the appends, then [`Input::Durable`]: make this state the whole history on disk, and
    /// write `currentEpoch` (safety contract 4.1).
    InstallSnapshot {
        /// Quoted by the completion.
        id: WriteId,
        /// Goes into the file `currentEpoch`.
        epoch: CurrentEpoch,
        /// The state; its zxid is where the log goes on.
        image: Box<SnapshotImage>,
    },
    /// Ensemble, in order with the appends, then [`Input::Reloaded`]: load the state from disk.
    Reload {
        /// Quoted by the completion.
        id: WriteId,
    },
    /// Ensemble: find a zxid in the log; then [`farrier_zab::Input::Located`].
    Locate {
        /// Quoted by the answer.
        read: ReadId,
        /// Quoted by the answer.
        link: LinkId,
        /// The zxid.
        zxid: Zxid,
    },
    /// Ensemble: read transactions from the log; then [`farrier_zab::Input::TxnsRead`].
    ReadTxns {
        /// Quoted by the answer.
        read: ReadId,
        /// Quoted by the answer.
        link: LinkId,
        /// Exclusive.
        after: Zxid,
        /// Inclusive.
        to: Zxid,
    },
    /// Ensemble: send a message to a server's election port. A newer one replaces an unsent older one.
    Notify {
        /// To whom.
        to: ServerId,
        /// What to say.
        notification: Notification,
    },
    /// Ensemble: dial a server's quorum port; then [`farrier_zab::Input::LinkUp`] or
    /// [`farrier_zab::Input::DialFailed`]. Replaces any earlier dial.
    Dial {
        /// Whose.
        leader: ServerId,
    },
    /// Ensemble: send to our leader.
    SendLeader {
        /// The link.
        link: LinkId,
        /// The packet.
        packet: LearnerPacket,
    },
    /// Ensemble: send to a learner of ours.
    SendLearner {
        /// The link.
        link: LinkId,
        /// The packet.
        packet: LeaderPacket,
    },
    /// Ensemble: send a SNAP packet with the image's zxid, then the image as a stream.
    SendSnapshot {
        /// The link.
        link: LinkId,
        /// The state.
        image: Box<SnapshotImage>,
    },
    /// Ensemble: give [`farrier_zab::Input::Flushed`] once nothing for this link is left to send.
    ReportLinkFlush {
        /// Which.
        link: LinkId,
    },
    /// Ensemble: stop reading from a link.
    PauseLink {
        /// Which.
        link: LinkId,
    },
    /// Ensemble: read from it again.
    ResumeLink {
        /// Which.
        link: LinkId,
    },
    /// Ensemble: close a link after what was sent to it.
    CloseLink {
        /// Which.
        link: LinkId,
        /// Why.
        reason: String,
    },
    /// Something for the log of the server.
    Note {
        /// How much it matters.
        level: Level,
        /// What happened.
        text: String,
    },
    /// After [`Input::Stop`]: everything outstanding is answered.
    Stopped,
    /// Another configuration is in force: these are the members from now on. For their addresses, and for the files
    /// from which the next start reads it.
    Activate {
        /// Who.
        members: Box<MemberList>,
    },
    /// End the process: nothing more may leave it.
    Halt {
        /// File, error and remedy.
        reason: String,
    },
}

/// The output of one or more steps, in order. Reused: the shell clears it after it has acted.
#[derive(Debug, Default)]
pub struct Actions {
    /// What to do.
    pub list: Vec<Action>,
    /// Frames that [`Action::Send`] points into.
    pub bytes: Vec<u8>,
}

impl Actions {
    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
    }

    pub(crate) fn push(&mut self, action: Action) {
        self.list.push(action);
    }

    pub(crate) fn note(&mut self, level: Level, text: String) {
        self.push(Action::Note { level, text });
    }

    /// Emits `bytes[start..]` for `conn`, together with the send before it if that went to the same
    /// connection.
    pub(crate) fn send(&mut self, conn: ConnId, start: usize) {
        let to = self.bytes.len();
        if let Some(Action::Send { conn: last, end, .. }) = self.list.last_mut()
            && *last == conn
            && *end == start
        {
            *end = to;
            return;
        }
        self.push(Action::Send { conn, start, end: to });
    }
}

/// A point-in-time state on its way into a snapshot.
#[derive(Debug)]
pub struct SnapshotImage(pub(crate) TreeImage);

impl SnapshotImage {
    /// Of a tree's image.
    #[must_use]
    pub const fn of(image: TreeImage) -> Self {
        Self(image)
    }
}

impl Image for SnapshotImage {
    fn zxid(&self) -> Zxid {
        self.0.zxid()
    }
    fn digest(&self) -> Option<u64> {
        self.0.digest()
    }
    fn sessions(&self) -> Vec<(SessionId, i32)> {
        if farrier_proto::planted!(SnapshotWithoutSessions) {
            return Vec::new();
        }
        self.0.sessions()
    }
    fn acls(&self) -> Vec<(i64, Vec<Acl<'static>>)> {
        self.0.acls().into_iter().map(|(key, list)| (key, list.to_vec())).collect()
    }
    fn nodes<E>(&self, visit: &mut dyn FnMut(NodeRecord<'_>) -> Result<(), E>) -> Result<(), E> {
        self.0.nodes(&mut |n| visit(NodeRecord { path: n.path, data: n.data, acl: n.acl, stat: n.stat }))
    }
}
