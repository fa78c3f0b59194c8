//! How many open files the system lets a process have; each connection is one of them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// Lets this process and those that it starts from now on have `wanted` open files, or as many as the system allows
/// without a privilege. How many they may have then.
///
/// # Errors
///
/// The system's words; the limit is what it was.
pub fn allow(wanted: u64) -> io::Result<u64> {
    let now = getrlimit(Resource::Nofile);
    match now.current {
        Some(current) if current < wanted => {
            let allowed = now.maximum.map_or(wanted, |maximum| maximum.min(wanted));
            setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum: now.maximum })?;
            Ok(allowed)
        }
        current => Ok(current.unwrap_or(u64::MAX)),
    }
}
