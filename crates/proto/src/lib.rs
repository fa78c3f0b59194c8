//! ZooKeeper's records as bytes: the client protocol, transactions as they stand in logs and
//! proposals, identifiers, error codes and limits.
//!
//! This crate owns encoding and decoding and the types that every other crate shares. It holds no
//! state and performs no I/O. Nothing that arrives from a socket or a file can make it panic: every
//! decoder returns [`DecodeError`].
//!
//! The formats are those of Apache ZooKeeper 3.9 (`zookeeper.jute`); multi-byte integers are
//! big-endian throughout.

pub mod acl;
mod blocks;
pub mod client;
pub mod error;
pub mod ids;
pub mod jute;
pub mod limits;
pub mod membership;
pub mod multi;
mod numbered;
pub mod opcode;
pub mod owner;
pub mod path;
pub mod planted;
pub mod quorum;
pub mod session;
pub mod stat;
pub mod txn;

pub use acl::{Acl, RawAcl, perms};
pub use blocks::Blocks;
pub use error::{DecodeError, ErrorCode};
pub use ids::{AcceptedEpoch, CurrentEpoch, ServerId, SessionId, Xid, Zxid};
pub use jute::{Field, Reader};
pub use opcode::OpCode;
pub use owner::Owner;
pub use stat::Stat;
pub use txn::{Txn, TxnDigest, TxnHeader, TxnType};
