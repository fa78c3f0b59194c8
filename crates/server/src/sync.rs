//! What threads share is built from these. The tests of interleavings put others in their place, which a scheduler
//! of their own stops at every step.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use tokio::sync::Notify;
