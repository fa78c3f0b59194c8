//! Bounds of a replica's memory.

use farrier_proto::limits::JUTE_MAX_BUFFER;

/// Frames of one connection that wait behind its unfinished writes. From here on the connection is not
/// read from until some are answered.
pub(crate) const CONN_WAITING_MAX: usize = 2048;

/// Bytes of those frames; one frame may exceed it.
pub(crate) const CONN_WAITING_BYTES_MAX: usize = 4 << 20;

/// Bytes of replies and events that were emitted for a connection and that the system has not taken, as far as the shell has
/// told. From here on its requests wait, and the shell is asked to report what is taken, and when all is.
pub(crate) const CONN_UNFLUSHED_PAUSE: usize = 1 << 20;

/// Bytes at which a connection that does not read is closed, or more where `jute.maxbuffer` is larger. Watch
/// events and a few replies can get a connection here; other requests wait from 1 MiB on.
pub const CONN_UNFLUSHED_MAX: usize = 16 << 20;

/// Longest reply, or `jute.maxbuffer` where that is more: Apache sends replies of any length, and clients give up at
/// bounds of their own. At most so many bytes of replies to reads that are longer than `jute.maxbuffer` wait for one connection
/// to take them, besides what counts against [`CONN_UNFLUSHED_MAX`]. Those to writes are bounded by what is outstanding.
pub const REPLY_MAX: usize = 64 << 20;

/// Bytes of replies longer than `jute.maxbuffer` that wait for all connections to take them. Reads that would make more
/// are refused.
pub(crate) const LONG_REPLIES_MAX: usize = 1 << 30;

/// Largest request that is skipped and answered with an error. A longer one closes the connection: nobody
/// sends that by mistake.
pub const FRAME_SKIP_MAX: usize = 64 << 20;

/// Requests that may wait in front of a write when it is proposed: its commit makes them run, whether the
/// connection takes their replies or not.
pub(crate) const FORCED_READS_MAX: usize = 8;

/// Bytes of all transactions that are proposed and not committed, and of requests that the leader was sent and has not answered.
/// From here on, connections with something outstanding wait. From twice as much on every write does, or each of many idle
/// connections could add one.
pub const OUTSTANDING_BYTES_MAX: usize = 64 << 20;

/// Bytes of transactions that a member of an ensemble gave its log and that are not durable. From here on clients' writes wait, a
/// leader wants another server to lead, and a learner does not read from its leader.
pub const LOG_LAG_MAX: usize = 256 << 20;

/// Znodes of a snapshot's image that are gathered in one step, and in each millisecond from then on: 0.1 ms of it or less.
pub const IMAGE_SLICE: u32 = 4096;

/// Bytes of all identities of one connection.
pub(crate) const IDENTITY_BYTES_MAX: usize = 64 << 10;

/// Identities that one connection may collect. Nobody needs more; without bounds they would multiply the
/// size of ACLs of scheme `auth`.
pub(crate) const IDENTITIES_MAX: usize = 64;

/// Work that queued requests of all connections may make in one step; the rest follow in later steps, so that others get their
/// turn. What takes as long as to count a znode, some tens of nanoseconds, is one.
pub(crate) const WORK_MAX: usize = 250_000;

/// Bytes of requests and replies that are one unit of work, also those of replies that are refused for their length.
pub(crate) const BYTES_PER_WORK: usize = 64;

/// Work of any request.
pub(crate) const REQUEST_WORK: usize = 16;

/// Work of any path that a request has besides its first, and of an ephemeral that is looked at.
pub(crate) const PATH_WORK: usize = 4;

/// Sessions that one answer to a leader's PING tells of, 12 bytes each: more than the 2 MiB that Apache's leaders take for
/// the data of a packet (`jute.maxbuffer` and 1 MiB) would end the connection.
pub(crate) const PING_TOUCHED_MAX: usize = 160_000;

/// Connect requests that wait for a role.
pub(crate) const HELD_MAX: usize = 4096;

/// Longest of them. The usual ones have 45 bytes.
pub(crate) const HELD_FRAME_MAX: usize = 256;

/// How long they wait. Milliseconds.
pub(crate) const HELD_MS_MAX: u64 = 500;

/// From one look for silent connections to the next, and how much longer than their timeout they may be silent. Milliseconds;
/// as long as Apache's (`ConnectionExpirerThread`).
pub(crate) const SILENCE_MS: u64 = 10_000;

/// Questions of each kind to the leader that wait for an answer: syncs, and sessions of clients that moved here.
pub(crate) const ASKED_MAX: usize = 1 << 16;

/// Writes of connections that are gone, which a learner sent to the leader: a session's order is kept behind so many of its
/// own, and of all sessions' together. Whoever makes more by losing connections is the first whose order is lost.
pub(crate) const LEFT_BEHIND_SESSION_MAX: usize = 2 * CONN_WAITING_MAX;
pub(crate) const LEFT_BEHIND_MAX: usize = 1 << 18;

/// Transactions in a row whose digest is not the tree's, behind which it is certain that the trees differ.
pub(crate) const DIGEST_MISMATCHES_MAX: u32 = 128;

/// Transactions in a row for which an Apache leader may go on with what its digest of a create was off by. It does while
/// anything is outstanding, which under load is so for many seconds.
pub(crate) const DIGEST_CARRIED_MAX: u32 = 1 << 20;

/// Znodes with which that began, of which it is remembered that changes of them change it.
pub(crate) const DIGEST_MISCOUNTED_MAX: usize = 1 << 14;

/// From one walk over all znodes for the digests of a leader with another charset to the next. Milliseconds.
pub(crate) const DIGEST_WALK_PAUSE: u64 = 10_000;

/// A leader that has given the leadership away by its own will, and has it back, keeps it for so long. Milliseconds.
pub(crate) const AUTOMATIC_HAND_OVER_PAUSE: u64 = 600_000;

/// A timer that is late by more than this, or by half a tick if that is more, shows that the process was
/// stopped or starved. Milliseconds.
pub(crate) const LATE_MIN: u64 = 50;

/// From one warning of an exceeded quota to the next. Milliseconds.
pub(crate) const QUOTA_WARNING_PAUSE: u64 = 60_000;

/// From one warning of a reply that is too long to the next. Milliseconds.
pub(crate) const LONG_REPLY_WARNING_PAUSE: u64 = 10_000;

/// From one line about what a client does wrong to the next of its kind. Milliseconds.
pub(crate) const NUISANCE_PAUSE: u64 = 10_000;

/// Most characters of a client's path, or other text of a stranger, in a line of the log.
pub(crate) const TEXT_SHOWN_MAX: usize = 300;

/// Deletions of the sweeper, and ends of sessions that left orphans, per step; the rest follow in later steps.
pub(crate) const SWEEP_CHUNK: usize = 100;

const _: () = assert!(CONN_UNFLUSHED_PAUSE + (FORCED_READS_MAX + 3) * JUTE_MAX_BUFFER < CONN_UNFLUSHED_MAX);
const _: () = assert!(CONN_WAITING_BYTES_MAX > JUTE_MAX_BUFFER);
const _: () = assert!(LONG_REPLIES_MAX > REPLY_MAX);
// A multi of many setData has the longest reply for its request: four times as long.
const _: () = assert!(REPLY_MAX > 4 * JUTE_MAX_BUFFER);

/// Places for outputs of a peer that are kept from step to step.
pub(crate) const OUTPUTS_KEPT_MAX: usize = 1024;
