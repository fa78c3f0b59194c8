//! What the operator decides: `zoo.cfg` in Apache's format, `-D` items of the JVM variables, and
//! `--set`.
//!
//! This module owns the one table of known keys (`keys`); parsing, refusals, suggestions, `--check`
//! and the reference page all derive from it. It reads the files that it is told to read and nothing
//! else: the environment is an argument, and nothing after start-up asks for a setting by name.

mod ensemble;
mod settings;

pub use ensemble::{EnsembleConfig, HostPort, Member, PeerAddress, Role};
pub use settings::{
    AuthSettings, ClientListener, ConnectionThrottle, FourLetterWords, PasswordHash, PurgeSettings, RequestLimits,
    RequestThrottle, ServerConfig, SnapshotCompression, StorageSettings, SweepSettings, TreeSettings,
};
