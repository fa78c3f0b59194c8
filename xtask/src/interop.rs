//! Interoperation with others' unmodified programs: stock clients against one server, a data directory that
//! goes back and forth between Farrier and Apache ZooKeeper, and applications on an ensemble that changes under them.
//!
//! The programs that run here live in the workspace's `interop` directory, each in its client's own
//! language, with versions pinned; what they need is installed into the tools directory. This module
//! starts servers, runs the programs and counts their verdicts. It asserts no duration; every wait is
//! bounded.

mod applications;
mod clients;
mod damage;
mod dump;
mod exchange;
mod holder;
mod peer;
mod program;
mod tools;

pub(crate) use applications::{Arguments as ApplicationsArguments, run as applications};
pub(crate) use clients::{Arguments as ClientsArguments, run as clients};
pub(crate) use exchange::{Arguments as ExchangeArguments, run as exchange};
pub(crate) use tools::farrier;

use anyhow::Result;
use farrier_testkit::server::Config;
use std::fmt::Display;
use std::io::Write as _;

/// Lines of `zoo.cfg` that every server here gets. The superuser's password is `farrier`.
const ZOO: [&str; 8] = [
    "minSessionTimeout=1000",
    "maxSessionTimeout=3600000",
    "maxClientCnxns=0",
    "4lw.commands.whitelist=*",
    "extendedTypesEnabled=true",
    "enforceQuota=true",
    "preAllocSize=2048",
    "DigestAuthenticationProvider.superDigest=super:fx2HD8GgdexSvSDjBW9lv9lX9KQ=",
];

/// The common configuration, with the time between two looks for containers and TTL nodes to remove.
fn config(sweep_ms: u64, zoo: &[&str]) -> Config {
    Config {
        zoo: ZOO.iter().chain(zoo).map(|&line| line.to_owned()).collect(),
        flags: vec![format!("znode.container.checkIntervalMs={sweep_ms}")],
    }
}

/// One line of a program: `ok NAME: SEEN` or `FAIL NAME: WHY`.
#[derive(Debug)]
struct Verdict {
    name: String,
    /// What was seen, or why it fails.
    outcome: Result<String, String>,
}

impl Verdict {
    /// Reads a line; nothing if it is no verdict.
    fn read(line: &str) -> Option<Self> {
        let (rest, passed) = match line.strip_prefix("ok ") {
            Some(rest) => (rest, true),
            None => (line.strip_prefix("FAIL ")?, false),
        };
        let (name, told) = rest.split_once(": ").unwrap_or((rest, ""));
        let outcome = match (passed, told) {
            (true, "") => Ok("as expected".to_owned()),
            (true, seen) => Ok(seen.to_owned()),
            (false, "") => Err("no reason given".to_owned()),
            (false, why) => Err(why.to_owned()),
        };
        Some(Self { name: name.to_owned(), outcome })
    }
}

/// Verdicts, printed as they come and counted.
#[derive(Default)]
struct Report {
    passed: usize,
    failed: usize,
}

impl Report {
    /// One check: what was checked, and what was seen or why it fails.
    fn check(&mut self, what: impl Display, verdict: Result<impl Display>) -> Result<()> {
        let mut out = std::io::stdout().lock();
        match verdict {
            Ok(seen) => {
                self.passed += 1;
                writeln!(out, "ok   {what}: {seen}")?;
            }
            Err(why) => {
                self.failed += 1;
                writeln!(out, "FAIL {what}: {why:#}")?;
            }
        }
        Ok(out.flush()?)
    }

    /// A line that is no verdict.
    fn say(&self, line: impl Display) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")?;
        Ok(out.flush()?)
    }
}
