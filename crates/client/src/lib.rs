//! An async client for ZooKeeper servers, Farrier's and Apache's.
//!
//! [`Client`] is the way in. Calls are typed requests with options; watches are streams; the session can be
//! observed. What a caller may rely on:
//!
//! - **Order.** Requests are executed in the order in which they were made, and are sent without waiting for each
//!   other. Of writes that were on their way when a connection was lost, the first ones were executed and the others
//!   not; which ones is told by [`Error::Unknown`] and [`Error::NotDone`].
//! - **No write twice.** A write that was sent and not answered is never sent again.
//! - **No step back.** The client goes to no server that is behind what it has seen.
//! - **Watches survive.** They are set again on every new connection, and say so when they may have missed something.
//! - **Time.** Every call ends by its deadline, connected or not. Dropping a call is safe at any time.
//!
//! The protocol is a state machine without I/O; [`ClientBuilder::detached`] gives it to shells other than tokio.

mod call;
mod chance;
mod client;
mod connect_string;
mod driver;
mod error;
pub mod limits;
mod machine;
mod ops;
mod options;
mod shared;
mod state;
mod time;
mod watch;
mod word;

pub use call::Call;
pub use client::{Client, LeaseKeeper};
pub use connect_string::{ConnectString, ConnectStringError, Host};
pub use error::Error;
pub use machine::LinkId;
pub use ops::{
    Children, ChildrenOf, Create, Created, Delete, Descendants, Ephemerals, Exists, Get, GetAcl, HasWatch, Identity,
    List, Multi, MultiRead, NewZnode, Op, OpResult, ReadOp, ReadResult, Reconfig, RemoveWatches, Set, SetAcl, SetWatch,
    Sync, Value, Watched, WhoAmI,
};
pub use options::ClientBuilder;
pub use shared::{Action, Engine, Input};
pub use state::{Lease, SessionState};
pub use time::{Clock, Time};
pub use watch::{Change, Watch, WatchEvent, WatchKind};

pub use farrier_proto::acl::perms;
pub use farrier_proto::client::{EventType, WatcherType};
pub use farrier_proto::{Acl, ErrorCode, SessionId, Stat, Zxid};
pub use farrier_tls::{ClientTls, TlsError};

use farrier_proto::Owner;
