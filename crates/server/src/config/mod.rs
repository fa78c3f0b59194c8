//! What the operator decides: `zoo.cfg` in Apache's format, `-D` items of the JVM variables, and
//! `--set`.
//!
//! This module owns the one table of known keys (`keys`); parsing, refusals, suggestions, `--check`
//! and the reference page all derive from it. It reads the files that it is told to read, and those beside
//! the main one that Apache's scripts would execute, and nothing else: the environment is an argument,
//! and nothing after start-up asks for a setting by name.

mod check;
mod ensemble;
mod jvmflags;
mod keys;
mod load;
mod membership;
pub mod properties;
mod scripts;
mod settings;
mod sources;
mod suggest;
mod value;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

pub use check::{Effective, reference, render};
pub use ensemble::{EnsembleConfig, HostPort, Member, PeerAddress, Role, Tuning};
pub use load::{from_arguments, load};
pub use settings::{
    AuthSettings, ClientListener, ConnectionThrottle, FourLetterWords, PasswordHash, PurgeSettings, RequestLimits,
    RequestThrottle, ServerConfig, SnapshotCompression, StorageSettings, SweepSettings, TreeSettings,
};
pub use sources::Origin;

/// A directory as a value in `zoo.cfg`; `None` where it can't stand there: a backslash would be an escape, and the file
/// holds lines of text.
#[must_use]
pub fn as_value(dir: &Path) -> Option<&str> {
    dir.to_str().filter(|d| !d.contains(['\\', '\n', '\r']))
}

/// What counts besides the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides<'a> {
    /// Environment variables with JVM flags, name and content; a later one wins. Apache's scripts
    /// read `SERVER_JVMFLAGS`, then `JVMFLAGS`. Below the file.
    pub jvm_flags: &'a [(&'a str, &'a str)],
    /// `--set` items, name and value; a later one wins. Above the file.
    pub sets: &'a [(String, String)],
}

/// A configuration that was accepted.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: ServerConfig,
    /// What the operator should know, one sentence each.
    pub warnings: Vec<String>,
    /// Every value that counts and who set it.
    pub effective: Vec<Effective>,
}

/// One reason to refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// File and line, or whatever else the value came from.
    pub place: String,
    /// Key, value, what is wrong, what is allowed.
    pub message: String,
}

impl Problem {
    const fn at(place: String, message: String) -> Self {
        Self { place, message }
    }
}

/// A configuration that was refused, with every reason found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// Apache's exit code for bad arguments or configuration.
    pub const EXIT_CODE: u8 = 2;

    /// A list of members that makes no ensemble.
    pub(crate) fn members(place: String, message: String) -> Self {
        Self::one(Problem::at(place, message))
    }

    fn one(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}: {}", problem.place, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
