//! One server as a deterministic state machine.
//!
//! [`Replica`] owns the tree, the outstanding requests, sessions, watches and client connections. It is
//! driven by [`Replica::step`]: an [`Input`] goes in, [`Actions`] come out, to be executed in their
//! order. It never blocks, and never touches a socket, a file, a clock or a random source: time is an
//! argument, randomness a seed. The server and the simulator run the same code.
//!
//! Replies, events and log records leave in the order in which they are emitted. That one sentence gives
//! the guarantees of a session: replies in request order, an event before any reply that shows its
//! change, and nothing acknowledged before it is durable: a standalone server emits a write's reply only with
//! the [`Input::Durable`] that covers it, a member of an ensemble once a quorum has the write.
//!
//! A server is one or the other for life: [`Replica::standalone`], [`Replica::ensemble`]. They share everything but
//! the way from a request to a commit.

mod commit;
mod config;
mod conn;
mod conns;
mod earlier;
mod ephemerals;
mod excuses;
mod fence;
mod forward;
mod hand_over;
mod handshake;
mod held;
mod inspect;
mod io;
mod leading;
mod limits;
mod log_lag;
mod log_work;
mod members;
mod quietly;
mod reads;
mod replica;
mod requests;
mod restore;
mod rewatch;
mod silence;
mod start;
mod stats;
mod sweep;
mod throttle;
mod tracker;
mod waiting;
mod writes;

pub use config::{ConnectionThrottleConfig, ContainerConfig, ReplicaConfig};
pub use farrier_zab::{HandOverRefused, WriteId};
pub use inspect::{ConnectionInfo, SessionBucket};
pub use io::{Action, Actions, ConnId, Input, Level, SnapshotImage, Time};
pub use limits::{CONN_UNFLUSHED_MAX, FRAME_SKIP_MAX, IMAGE_SLICE, LOG_LAG_MAX, OUTSTANDING_BYTES_MAX, REPLY_MAX};
pub use log_work::{LogCommand, LogHost, LogWork};
pub use replica::Replica;
pub use restore::TreeRestore;
pub use start::{RestoreFailed, complete, durable, restore};
pub use stats::{LatencyStats, ServerStats, Sizes};
