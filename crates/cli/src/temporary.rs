//! Directories that are gone when the program is.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

/// A new directory whose name begins so, for this user only.
pub(crate) fn directory(name: &str) -> anyhow::Result<PathBuf> {
    let parent = std::env::temp_dir();
    for attempt in 0..1000 {
        let dir = parent.join(format!("{name}-{}-{attempt}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("{} can't be made", dir.display())),
        }
    }
    bail!("{} has a thousand directories of this name", parent.display())
}
