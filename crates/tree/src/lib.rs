//! The replicated state of a server: the znode tree with its ACLs, quotas, sessions and digest.
//!
//! This crate owns the committed state ([`Tree`]), the one path by which transactions change it
//! ([`Tree::apply`], for live commits and replay alike) and point-in-time images of it
//! ([`Tree::image`]). It knows no clock, file, socket or thread, and two trees that applied the same
//! transactions are equal in everything that clients or snapshots can see.

pub mod acl_table;
mod apply;
mod arena;
pub mod auth;
mod charset;
pub mod config;
mod creation;
pub mod digest;
mod gathering;
pub mod image;
mod index;
pub mod load;
pub mod node;
mod outstanding;
pub mod prep;
pub mod quota;
pub mod ready;
mod sessions;
pub mod tree;
pub mod watch;

pub use acl_table::{AclKey, SharedAcl};
pub use apply::{Change, Outcome};
pub use auth::{AuthConfig, DigestAlgorithm, Identity};
pub use config::TreeConfig;
pub use image::{ImageNode, TreeImage};
pub use load::TreeLoader;
pub use node::Node;
pub use prep::{Prep, Prepared, RequestContext, WriteRequest};
pub use ready::{NodeMaker, ReadyNode};
pub use tree::Tree;
pub use watch::{DataTable, WatchKind, WatchTable};
