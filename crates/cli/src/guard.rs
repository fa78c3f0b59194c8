//! Writes that are done only while a lock is held.

use clap::Args;

use crate::output::Failure;

/// Which lock.
#[derive(Clone, Debug, Args)]
pub(crate) struct GuardOption {
    /// Only while the lock is held whose znode is NODE; without NODE, that of the `farrier lock` or `farrier elect`
    /// which runs this command, in FARRIER_LOCK_NODE
    #[arg(long, value_name = "NODE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    guard: Option<String>,
}

impl GuardOption {
    /// The znode of the lock, if there is to be one.
    pub(crate) fn node(&self) -> anyhow::Result<Option<String>> {
        match self.guard.as_deref() {
            Some("") => match std::env::var("FARRIER_LOCK_NODE") {
                Ok(node) if !node.is_empty() => Ok(Some(node)),
                Ok(_) | Err(_) => Err(Failure::usage(
                    "--guard: FARRIER_LOCK_NODE isn't set; run this below `farrier lock`, or name the znode: --guard=NODE",
                )),
            },
            named => Ok(named.map(str::to_owned)),
        }
    }
}
