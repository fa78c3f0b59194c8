//! What people build on a coordination service: locks, elections, configuration, membership, queues, counters,
//! barriers and caches, over [`farrier_client::Client`], against Farrier's servers and Apache's alike.
//!
//! What every recipe keeps:
//!
//! - **No step is lost or done twice.** What was sent and not answered is not sent again, unless repeating it is
//!   harmless; where it matters, the znode is found again by the [`Unique`] name that it was given.
//! - **Lost is final.** Whoever holds something learns that it may have lost it before anybody else can have it, and
//!   never gets it back in silence.
//! - **No leftovers.** What is dropped half-way deletes its znodes.
//! - **No herds.** A step forward wakes who is next, and nobody else, where the recipe allows it.

mod backoff;
mod barrier;
mod cache;
mod config;
mod counter;
mod election;
mod error;
mod guard;
mod hold;
mod limits;
mod lock;
mod membership;
mod mirror;
mod names;
mod parents;
mod place;
mod queue;
mod rwlock;
mod semaphore;
mod standing;
mod steady;
mod token;
mod unique;
mod withdraw;

pub use barrier::{Barrier, DoubleBarrier, Entered};
pub use cache::{Cache, CacheEvent, CacheView};
pub use config::{ConfigStore, ConfigWatch, Earlier, Expected, History, KEEP as CONFIG_KEEP};
pub use counter::{Counter, Encoding};
pub use election::{Candidate, Election, Latch, Leadership};
pub use error::Error;
pub use guard::{Guard, guarded_multi};
pub use hold::{Hold, HoldState};
pub use lock::Lock;
pub use membership::{Group, GroupEvent, GroupWatch, Member, Membership};
pub use mirror::Znode;
pub use names::Layout;
pub use queue::{Item, LIMIT as QUEUE_LIMIT, PRIORITY as QUEUE_PRIORITY, PRIORITY_MAX as QUEUE_PRIORITY_MAX, Queue};
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
pub use semaphore::{Permit, Semaphore};
pub use token::Token;
pub use unique::Unique;
