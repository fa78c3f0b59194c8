//! A run: faults, then none, then service; and what became of it.

use crate::engine::{Failure, World};
use crate::observe::Phase;
use crate::plan::Plan;
use crate::tally::Tally;
use farrier_storage::mem::FailOn;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How long clients go on after the last fault, at least. Microseconds.
const SERVICE_US: u64 = 5_000_000;

/// The whole run may take this long until it has its transactions. Microseconds.
const RUN_US_MAX: u64 = 900_000_000;

/// Ticks that a session may live beyond its timeout: it ends with one, its learner's last word of it comes with another,
/// and its end is to be committed.
const EXPIRY_TICKS_MAX: u64 = 4;

/// Between two looks at whether something has come about. Microseconds.
const LOOK_US: u64 = 50_000;

/// What became of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Its counts.
    pub tally: Tally,
    /// `None` if everything held.
    pub failure: Option<Failure>,
    /// Empty unless it was asked for.
    pub transcript: String,
}

/// Runs a plan.
#[must_use]
pub fn run(plan: &Plan, keep_transcript: bool) -> Outcome {
    catch(World::new(plan.clone(), keep_transcript), World::play)
}

/// Plays in a world; a panic is a failure of the run.
pub(crate) fn catch(mut world: World, play: impl FnOnce(&mut World)) -> Outcome {
    let result = catch_unwind(AssertUnwindSafe(|| play(&mut world)));
    if let Err(panic) = result {
        let what = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_else(|| "something that is no text".to_owned());
        world.fail("panic", what);
    }
    world.into_outcome()
}

impl World {
    fn play(&mut self) {
        self.begin();
        self.run_until(self.plan.safety_ms * 1000);
        let healed = self.now;
        if !self.heals() {
            return;
        }
        let enough = |w: &Self| w.tally.txns >= w.plan.txns_min && w.now >= healed + SERVICE_US;
        if !self.run_while(RUN_US_MAX, |w| !enough(w)) {
            let txns = self.tally.txns;
            self.fail("liveness", format!("only {txns} transactions were committed, and nothing hinders clients"));
        }
        if self.comes_to_rest() {
            self.tell_phase(Phase::Settled);
            self.inspect_all();
            self.finish_checks();
        }
    }

    /// Faults end, and all servers serve again. False if the run has failed.
    pub(crate) fn heals(&mut self) -> bool {
        if self.failure.is_some() {
            return false;
        }
        self.heal();
        self.tell_phase(Phase::Healed);
        let bound = self.service_bound();
        if !self.run_while(self.now + bound, |w| !w.all_serve()) {
            let idle = self.who_does_not_serve();
            self.fail("liveness", format!("{bound} us after the last fault {idle} does not serve"));
        }
        self.failure.is_none()
    }

    /// Clients ask for nothing more, and all servers show the same. False if the run has failed.
    pub(crate) fn comes_to_rest(&mut self) -> bool {
        if self.failure.is_some() {
            return false;
        }
        self.rest();
        self.tell_phase(Phase::Quiet);
        let bound = self.service_bound();
        if !self.run_while(self.now + bound, |w| !w.is_settled()) {
            let states = self.states();
            self.fail("liveness", format!("{bound} us after the last request servers differ: {states}"));
        }
        self.sessions_end();
        self.failure.is_none()
    }

    /// Sessions that nobody keeps alive end within their timeout, and servers show the same afterwards.
    fn sessions_end(&mut self) {
        let Some((_, longest)) = self.sessions_left() else { return };
        let bound = longest * 1000 + EXPIRY_TICKS_MAX * self.plan.servers.tick_ms * 1000;
        if !self.run_while(self.now + bound, |w| w.sessions_left().is_some() || !w.is_settled()) {
            let (left, states) = (self.sessions_left(), self.states());
            self.fail(
                "liveness",
                format!("{bound} us after all was quiet nobody uses sessions {left:?}, and servers have {states}"),
            );
        }
    }

    /// Within this, servers that nothing hinders have a leader and are brought up to date. Microseconds.
    fn service_bound(&self) -> u64 {
        let s = &self.plan.servers;
        30_000_000 + 4 * s.tick_ms * 1000 * (s.init_limit + s.sync_limit)
    }

    /// Lets time pass while something is so, up to a moment. False if it is still so then.
    pub(crate) fn run_while(&mut self, end: u64, is_so: impl Fn(&Self) -> bool) -> bool {
        while self.failure.is_none() && is_so(self) {
            if self.now >= end {
                return false;
            }
            self.run_until(self.now + LOOK_US);
        }
        true
    }

    fn into_outcome(mut self) -> Outcome {
        self.tally.simulated_us = self.now;
        // Of disks that were replaced meanwhile nobody knows.
        let failed = |on| self.machines.iter().map(|m| m.disk.failed(on)).sum();
        (self.tally.failed_writes, self.tally.failed_syncs) = (failed(FailOn::Write), failed(FailOn::Sync));
        Outcome { tally: self.tally, failure: self.failure, transcript: self.transcript.into_text() }
    }
}
