//! The conformance cases that concern one server or an ensemble of three, and their runner.
//!
//! One file per section of the list of cases. A case tells what it saw as text, and that text is
//! compared with what the target should answer; so a table of both servers' answers comes for free.

use crate::case::{Case, Ctx, Lane, Profile, Steps};
use crate::raw::four_letter_word;
use crate::server::{Config, Server, Target};
use anyhow::{Context as _, Result, anyhow, bail};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread;

mod auth;
mod create;
mod data;
mod dispatch;
mod ensemble;
mod framing;
mod multi;
mod persistent;
mod quota;
mod rearm;
mod restart;
mod sessions;
mod trio;
mod upstream;
mod watches;
mod words;

pub use trio::{Role, Trio};

/// Numbers of the list of cases that are covered here: what is left out concerns local sessions and
/// read-only servers.
pub const NUMBERS: [std::ops::RangeInclusive<u16>; 2] = [1..=226, 243..=245];

/// Every case, by number.
#[must_use]
pub fn cases() -> Vec<Case> {
    let sections: [&[Case]; 15] = [
        framing::CASES,
        dispatch::CASES,
        create::CASES,
        data::CASES,
        multi::CASES,
        watches::CASES,
        persistent::CASES,
        rearm::CASES,
        auth::CASES,
        sessions::CASES,
        quota::CASES,
        ensemble::CASES,
        restart::CASES,
        upstream::CASES,
        words::CASES,
    ];
    let mut all: Vec<Case> = sections.into_iter().flatten().copied().collect();
    all.sort_by_key(|c| c.number);
    all
}

/// The super user's password is `admin`.
const SUPER: &str = "zookeeper.DigestAuthenticationProvider.superDigest=super:xQJmxLMiHGwaqBvst5y6rkB6HQs=";

/// The configuration that a profile stands for.
#[must_use]
pub fn config(profile: Profile) -> Config {
    let every_word = "4lw.commands.whitelist=*";
    let (zoo, flags): (&[&str], &[&str]) = match profile {
        Profile::D => (&[every_word], &[]),
        Profile::S => (&[every_word, "enforceQuota=true"], &[SUPER]),
        Profile::X => (&[every_word, "extendedTypesEnabled=true"], &["znode.container.checkIntervalMs=300"]),
        Profile::E => (&[every_word, "enforce.auth.enabled=true", "enforce.auth.schemes=digest"], &[]),
        Profile::K => (&[every_word], &["zookeeper.skipACL=yes"]),
        Profile::M => (&["maxClientCnxns=3"], &["jute.maxbuffer=4096"]),
        Profile::Q => (&["reconfigEnabled=true"], &[SUPER]),
        Profile::G => (&[], &[SUPER, "zookeeper.enableEagerACLCheck=true"]),
    };
    let owned = |items: &[&str]| items.iter().map(|s| (*s).to_owned()).collect();
    Config { zoo: owned(zoo), flags: owned(flags) }
}

/// Which cases to run.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Numbers; empty for all.
    pub numbers: Vec<u16>,
    /// Profiles; empty for all.
    pub profiles: Vec<Profile>,
    /// Lanes; empty for all.
    pub lanes: Vec<Lane>,
}

impl Filter {
    /// Whether the case is meant.
    #[must_use]
    pub fn takes(&self, case: &Case) -> bool {
        fn any<T: PartialEq>(wanted: &[T], item: &T) -> bool {
            wanted.is_empty() || wanted.contains(item)
        }
        any(&self.numbers, &case.number) && any(&self.profiles, &case.profile) && any(&self.lanes, &case.lane)
    }
}

/// What came of one case.
#[derive(Clone, Debug)]
pub struct Row {
    /// The case.
    pub case: Case,
    /// What the target should answer.
    pub accepted: &'static str,
    /// What it answered; `Err` tells where the steps broke off.
    pub observed: Result<String, String>,
}

impl Row {
    /// Whether the answer is the right one.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.observed.as_deref() == Ok(self.accepted)
    }

    /// The answer, or the error marked as one.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.observed {
            Ok(text) => text.clone(),
            Err(e) => format!("! {e}"),
        }
    }
}

/// What came of a run against one target.
#[derive(Clone, Debug)]
pub struct Report {
    /// Name of the target.
    pub target: String,
    /// By number.
    pub rows: Vec<Row>,
}

impl Report {
    /// Rows with another answer than the target should give.
    pub fn failures(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|r| !r.is_ok())
    }

    /// The failures as text, a paragraph each; empty if there are none.
    #[must_use]
    pub fn failure_list(&self) -> String {
        let mut out = String::new();
        for row in self.failures() {
            let c = &row.case;
            write!(
                out,
                "case {} ({:?}) {}\n  expected  {}\n  observed  {}\n",
                c.number,
                c.profile,
                c.title,
                row.accepted,
                row.shown()
            )
            .expect("writing to a string");
        }
        out
    }
}

/// Runs the cases that the filter takes, each profile on servers of its own, profiles side by side.
pub fn run(target: &Target, filter: &Filter) -> Result<Report> {
    let mut groups: BTreeMap<(Profile, Lane), Vec<Case>> = BTreeMap::new();
    for case in cases().into_iter().filter(|c| filter.takes(c)) {
        // A server is virgin only at first, so what needs that shares it with what follows.
        let lane = match case.lane {
            Lane::Virgin | Lane::Empty | Lane::Shared => Lane::Shared,
            Lane::Slow => Lane::Slow,
            Lane::Restart => Lane::Restart,
            Lane::Own => Lane::Own,
        };
        groups.entry((case.profile, lane)).or_default().push(case);
    }
    if groups.is_empty() {
        bail!("no case has this number");
    }
    let results: Vec<Result<Vec<Row>>> = thread::scope(|scope| {
        let threads: Vec<_> = groups
            .into_iter()
            .map(|((profile, lane), cases)| scope.spawn(move || run_group(target, profile, lane, cases)))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(anyhow!("a case panicked")))).collect()
    });
    let mut rows = Vec::new();
    for result in results {
        rows.extend(result?);
    }
    rows.sort_by_key(|r| r.case.number);
    Ok(Report { target: target.name(), rows })
}

fn run_group(target: &Target, profile: Profile, lane: Lane, mut cases: Vec<Case>) -> Result<Vec<Row>> {
    if matches!(profile, Profile::Q | Profile::G) {
        return trio::run_group(target, profile, cases);
    }
    cases.sort_by_key(|c| (c.lane, c.number));
    let start =
        || Server::start(target, &config(profile)).with_context(|| format!("profile {profile:?}, lane {lane:?}"));
    let mut server = start()?;
    let mut fresh = true;
    let mut rows = Vec::new();
    for case in cases {
        let reusable = lane != Lane::Own && (lane == Lane::Restart || four_letter_word(server.addr(), "srvr").is_ok());
        if !fresh && !reusable {
            // A server of its own is wanted, or the last case brought this one down.
            drop(server);
            server = start()?;
        }
        fresh = false;
        let mut ctx = Ctx::new(&mut server, case.number);
        let Steps::One(run) = case.steps else { bail!("case {} needs an ensemble", case.number) };
        let mut observed = run(&mut ctx).map_err(|e| format!("{e:#}"));
        if lane != Lane::Own
            && let Err(e) = ctx.clean_up(profile == Profile::E)
            && observed.is_ok()
        {
            observed = Err(format!("cleaning up: {e:#}"));
        }
        let (accepted, _) = case.accepts(target.is_farrier());
        rows.push(Row { case, accepted, observed });
    }
    Ok(rows)
}

/// A table of every case: what should be seen, and what each target answered.
#[must_use]
pub fn table(reports: &[Report]) -> String {
    let mut out = String::new();
    let mut rows: BTreeMap<u16, Vec<(&str, &Row)>> = BTreeMap::new();
    for report in reports {
        for row in &report.rows {
            rows.entry(row.case.number).or_default().push((&report.target, row));
        }
    }
    for (number, answers) in &rows {
        let Some((_, first)) = answers.first() else { continue };
        let case = &first.case;
        writeln!(out, "{number:>3} {:?}  {}\n       expected   {}", case.profile, case.title, case.expected)
            .expect("writing to a string");
        for (target, row) in answers {
            let verdict = if row.is_ok() { "OK" } else { "DIFFERS" };
            let why = if row.accepted == case.expected {
                String::new()
            } else {
                let is_farrier = case.farrier.is_some_and(|o| o.answer == row.accepted);
                let (answer, why) = case.accepts(is_farrier);
                format!("\n                  [{answer}: {}]", why.unwrap_or_default())
            };
            writeln!(out, "       {target:<13} {verdict:<8} {}{why}", row.shown()).expect("writing to a string");
        }
    }
    for report in reports {
        let failed = report.failures().count();
        writeln!(
            out,
            "{}: {} cases, {} as expected, {failed} differ",
            report.target,
            report.rows.len(),
            report.rows.len() - failed
        )
        .expect("writing to a string");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_exactly_one_case() {
        let have: Vec<u16> = cases().iter().map(|c| c.number).filter(|n| *n < 900).collect();
        let want: Vec<u16> = NUMBERS.into_iter().flatten().collect();
        assert_eq!(have, want);
    }

    #[test]
    fn numbers_are_distinct() {
        let all = cases();
        for (a, b) in all.iter().zip(all.iter().skip(1)) {
            assert_ne!(a.number, b.number);
        }
    }
}
