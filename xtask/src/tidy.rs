//! Rules of the workspace that no compiler checks: which crate may use which, what the pure ones must
//! ban, what the shell must not know, and what must not be left lying about.

mod documents;

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Who may depend on whom, besides what is not ours.
const ALLOWED: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("tree", &["proto"]),
    ("zab", &["proto"]),
    ("storage", &["proto"]),
    ("replica", &["proto", "zab", "tree", "storage"]),
    ("server", &["proto", "zab", "tree", "storage", "replica"]),
    ("model", &["proto", "zab"]),
    ("tls", &[]),
    ("client", &["proto", "tls"]),
    ("recipes", &["client"]),
    ("bench", &["proto"]),
    ("farrier", &["client", "recipes", "server"]),
    ("cli", &["proto", "tree", "storage", "server", "client", "recipes", "bench"]),
    ("sim", &["proto", "zab", "tree", "storage", "replica"]),
    ("sim-recipes", &["proto", "client", "recipes", "sim"]),
    ("sim-run", &["proto", "sim", "sim-recipes"]),
    ("testkit", &["proto"]),
];

const PURE: &[&str] = &["proto", "zab", "tree", "storage", "replica", "sim"];

/// Bans that each pure crate's clippy.toml must carry.
const BANS: &[&str] = &[
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::thread::spawn",
    "std::env::var",
    "std::fs::File",
    "std::net::TcpStream",
    "std::collections::HashMap",
];

/// Names by which protocol logic would show in the shell.
const NOT_IN_SHELL: &[&str] =
    &["OpCode", "TxnHeader", "TxnType", "ReplyHeader", "RequestHeader", "WatchKind", "WriteRequest", "WatcherType"];

/// Words that have no place in sources.
const LEFT_OVERS: &[&str] = &["todo!(", "unimplemented!(", "TODO", "FIXME", "XXX:", "#[ignore"];

/// Longest source file in lines; tests may be longer.
const FILE_LINES_MAX: usize = 800;

/// Checks the workspace below `root`; one line per finding.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (name, allowed) in ALLOWED {
        let path = root.join("crates").join(name).join("Cargo.toml");
        let manifest = read(&path)?;
        let normal = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        for line in normal.lines() {
            let Some(used) = line.strip_prefix("farrier-").and_then(|l| l.split(['.', ' ', '=']).next()) else {
                continue;
            };
            if !allowed.contains(&used) {
                found.push(format!("{}: {name} must not use {used}", path.display()));
            }
        }
    }
    for name in PURE {
        let path = root.join("crates").join(name).join("clippy.toml");
        let bans = read(&path)?;
        for ban in BANS.iter().filter(|ban| !bans.contains(*ban)) {
            found.push(format!("{}: does not ban {ban}", path.display()));
        }
    }
    for path in sources(root)? {
        let text = read(&path)?;
        let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        let is_test = shown.contains("tests") || shown.starts_with("crates/testkit");
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX && !is_test {
            found.push(format!("{shown}: {lines} lines; split it at the noun"));
        }
        if shown.ends_with("xtask/src/tidy.rs") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            for word in LEFT_OVERS.iter().filter(|w| line.contains(*w)) {
                found.push(format!("{shown}:{}: {word}", number + 1));
            }
            if shown.starts_with("crates/server/src") {
                for word in NOT_IN_SHELL.iter().filter(|w| line.contains(*w)) {
                    found.push(format!("{shown}:{}: {word} belongs in replica, not in the shell", number + 1));
                }
            }
        }
    }
    found.extend(documents::check(root)?);
    Ok(found)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut open = vec![root.join("crates"), root.join("xtask"), root.join("fuzz")];
    let mut files = Vec::new();
    while let Some(dir) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("target") {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
        let found = check(root).expect("the workspace is readable");
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    #[test]
    fn a_forbidden_dependency_is_found() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (name, _) in ALLOWED {
            let path = dir.path().join("crates").join(name);
            std::fs::create_dir_all(&path).expect("writable");
            std::fs::write(path.join("Cargo.toml"), "[dependencies]\nfarrier-server.workspace = true\n")
                .expect("writable");
            std::fs::write(path.join("clippy.toml"), BANS.join("\n")).expect("writable");
        }
        let found = check(dir.path()).expect("readable");
        assert_eq!(found.len(), ALLOWED.len() - 2, "all but farrier and cli: {found:?}");
    }
}
