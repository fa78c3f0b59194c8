//! Bounds of a replica's memory.

use farrier_proto::limits::JUTE_MAX_BUFFER;

/// Frames of one connection that wait behind its unfinished writes. From here on the connection is not
/// read from until some are answered.
pub(crate) const CONN_WAITING_MAX: usize = 2048;

/// Bytes of those frames; one frame may exceed it.
pub(crate) const CONN_WAITING_BYTES_MAX: usize = 4 << 20;

/// Bytes of replies and events that were emitted for a connection since it was last seen to be drained.
/// From here on its requests wait, and the shell is asked to report when all is sent.
pub(crate) const CONN_UNFLUSHED_PAUSE: usize = 1 << 20;

/// Bytes at which a connection that does not read is closed. Only watch events get a connection from
/// [`CONN_UNFLUSHED_PAUSE`] to here, since its requests wait.
pub const CONN_UNFLUSHED_MAX: usize = 16 << 20;

/// Largest request that is skipped and answered with an error. A longer one closes the connection: nobody
/// sends that by mistake.
pub const FRAME_SKIP_MAX: usize = 64 << 20;

/// Ephemeral orphans ended per step after a restart; the rest follow in later steps.
pub(crate) const SWEEP_CHUNK: usize = 100;

const _: () = assert!(CONN_UNFLUSHED_PAUSE + 2 * JUTE_MAX_BUFFER < CONN_UNFLUSHED_MAX);
const _: () = assert!(CONN_WAITING_BYTES_MAX > JUTE_MAX_BUFFER);
