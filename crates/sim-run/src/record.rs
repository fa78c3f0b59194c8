//! The stored catching seeds: `crates/sim/planted.txt`, and the table made of it in `docs/simulation.md`.

use crate::hunt::{by_name, found_by};
use crate::say;
use anyhow::{Context, Result, bail};
use farrier_proto::planted::{Bug, activate};
use farrier_sim::plan::Plan;
use farrier_sim::run::run as play;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

/// So many must be caught by checkers, and not only by the product's own assertions.
const BY_CHECKERS_MIN: usize = 40;

const HEADER: &str = "\
# For each planted bug that was caught: a seed that catches it, by what, and after how many seeds and simulated seconds
# of the default generator. CI replays these (`cargo xtask sim --planted recorded`). A change of the generator makes other
# runs of them: then `cargo xtask sim --planted all --record` writes this file, and the table in docs/simulation.md, anew.
";

const TABLE_BEGINS: &str = "<!-- planted bugs, written by `cargo xtask sim --planted all --record` -->\n";
const TABLE_ENDS: &str = "<!-- end of planted bugs -->\n";

/// A planted bug that was caught.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    /// Which.
    pub(crate) bug: Bug,
    /// The seed that fails with it, and not without.
    pub(crate) seed: u64,
    /// The checker, or `assert:FILE`.
    pub(crate) by: String,
    /// How many seeds it took.
    pub(crate) seeds: u64,
    /// Simulated seconds of these.
    pub(crate) seconds: u64,
}

impl Record {
    /// Not only an assertion of the product saw it.
    pub(crate) fn is_by_checker(&self) -> bool {
        !self.by.starts_with("assert:")
    }

    fn parse(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [bug, seed, by, seeds, seconds] = words[..] else { bail!("is no bug, seed, checker, seeds and seconds") };
        let bug = by_name(bug).with_context(|| format!("there is no planted bug {bug}"))?;
        Ok(Self { bug, seed: seed.parse()?, by: by.to_owned(), seeds: seeds.parse()?, seconds: seconds.parse()? })
    }

    fn line(&self) -> String {
        format!("{} {} {} {} {}\n", self.bug.name(), self.seed, self.by, self.seeds, self.seconds)
    }
}

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", name].iter().collect()
}

fn load() -> Result<BTreeMap<Bug, Record>> {
    let path = path("crates/sim/planted.txt");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut records = BTreeMap::new();
    for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
        let record = Record::parse(line).with_context(|| format!("{}:{}: `{line}`", path.display(), n + 1))?;
        records.insert(record.bug, record);
    }
    Ok(records)
}

/// Runs every stored seed with its bug: it must fail as it did when it was stored, and must not without. A seed that fails
/// otherwise may have lost what it showed about its checker.
pub(crate) fn replay() -> Result<ExitCode> {
    let records = load()?;
    let (mut passed, mut failed) = (0, 0);
    let mut tell = |holds: bool, line: String| {
        say(&line);
        *(if holds { &mut passed } else { &mut failed }) += 1;
    };
    let mut by_checkers = 0;
    for record in records.values() {
        let (name, seed) = (record.bug.name(), record.seed);
        activate(Some(record.bug));
        let outcome = play(&Plan::draw(seed), false);
        activate(None);
        match outcome.failure {
            Some(failure) => {
                let found = Record { by: found_by(&failure), ..record.clone() };
                by_checkers += usize::from(found.is_by_checker());
                let same = found.by == record.by;
                let instead = if same { String::new() } else { format!(", and {} is recorded", record.by) };
                tell(same, format!("{name}: caught by {} with seed {seed}{instead}", found.by));
            }
            None => tell(false, format!("{name}: NOT caught with seed {seed}, which {} caught once", record.by)),
        }
    }
    for seed in records.values().map(|r| r.seed).collect::<BTreeSet<_>>() {
        if let Some(failure) = play(&Plan::draw(seed), false).failure {
            tell(false, format!("seed {seed} fails without a planted bug: {}: {}", failure.by, failure.what));
        }
    }
    for (what, n, least) in
        [("planted bugs", records.len(), Bug::ALL.len()), ("of them caught by checkers", by_checkers, BY_CHECKERS_MIN)]
    {
        tell(n >= least, format!("{n} {what}; {least} are demanded"));
    }
    say(&format!("{passed} passed, {failed} failed"));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Puts these into the stored ones. The line of a bug that was not caught again stays, since a hunt may have been too short:
/// whether it still holds is what the replay tells.
pub(crate) fn store(caught: &[Record]) -> Result<()> {
    let mut records = load()?;
    records.extend(caught.iter().map(|record| (record.bug, record.clone())));
    let lines: String = records.values().map(Record::line).collect();
    let stored = path("crates/sim/planted.txt");
    std::fs::write(&stored, format!("{HEADER}{lines}"))
        .with_context(|| format!("cannot write {}", stored.display()))?;

    let page = path("docs/simulation.md");
    let text = std::fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let parts = text.split_once(TABLE_BEGINS).and_then(|(before, rest)| Some((before, rest.split_once(TABLE_ENDS)?.1)));
    let Some((before, behind)) = parts else { bail!("{} has no place for the table of planted bugs", page.display()) };
    let text = format!("{before}{TABLE_BEGINS}{}{TABLE_ENDS}{behind}", table(&records));
    std::fs::write(&page, text).with_context(|| format!("cannot write {}", page.display()))
}

/// All planted bugs, as people read of them.
fn table(records: &BTreeMap<Bug, Record>) -> String {
    let mut text =
        "| planted bug | what is done wrong | caught by | seeds | simulated seconds |\n|---|---|---|---|---|\n"
            .to_owned();
    for bug in Bug::ALL {
        let (name, what) = (bug.name(), bug.description().trim());
        text += &match records.get(bug) {
            Some(r) => format!("| {name} | {what} | {} | {} | {} |\n", r.by, r.seeds, r.seconds),
            None => format!("| {name} | {what} | **not caught yet** | | |\n"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let record = Record { bug: Bug::ALL[3], seed: 17, by: "Agreement".into(), seeds: 9, seconds: 1234 };
        assert_eq!(Record::parse(record.line().trim()).expect("a line"), record);
        assert!(Record::parse("Nothing 17 Agreement 9 1234").is_err());
        assert!(Record::parse("AckBeforeSync 17 Agreement 9").is_err());
    }
}
