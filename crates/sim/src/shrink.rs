//! A failing run with less in it: fewer faults, clients and servers, and no time behind the failure.

use crate::engine::Failure;
use crate::plan::Plan;
use crate::run::run;

/// Runs that are tried at most.
const TRIALS_MAX: usize = 300;

/// Takes away what the failure does not need, one thing after the other, as long as the same checker finds something.
/// Answers the smallest failing plan and its failure; `progress` hears how many trials were made.
pub fn shrink(plan: &Plan, failure: &Failure, progress: &mut dyn FnMut(usize)) -> (Plan, Failure) {
    let mut best = Best { plan: plan.clone(), failure: failure.clone(), trials: 0 };
    best.end_early(progress);
    loop {
        let before = best.plan.clone();
        best.fewer_faults(progress);
        best.fewer_clients(progress);
        best.fewer_servers(progress);
        best.end_early(progress);
        if best.plan == before || best.trials >= TRIALS_MAX {
            return (best.plan, best.failure);
        }
    }
}

struct Best {
    plan: Plan,
    failure: Failure,
    trials: usize,
}

impl Best {
    /// Takes the plan if it fails in the same way.
    fn try_plan(&mut self, plan: Plan, progress: &mut dyn FnMut(usize)) -> bool {
        if self.trials >= TRIALS_MAX {
            return false;
        }
        self.trials += 1;
        progress(self.trials);
        match run(&plan, false).failure {
            Some(failure) if failure.by == self.failure.by => {
                self.plan = plan;
                self.failure = failure;
                true
            }
            _ => false,
        }
    }

    /// Faults end where the failure is.
    fn end_early(&mut self, progress: &mut dyn FnMut(usize)) {
        let end = self.failure.at.millis() + 1;
        let mut plan = self.plan.clone();
        plan.faults.retain(|f| f.at_ms <= end);
        if self.failure.by != "liveness" {
            plan.txns_min = 0;
            plan.safety_ms = plan.safety_ms.min(end);
        }
        if plan != self.plan {
            self.try_plan(plan, progress);
        }
    }

    /// Halves first, single ones last.
    fn fewer_faults(&mut self, progress: &mut dyn FnMut(usize)) {
        let mut chunk = self.plan.faults.len().div_ceil(2);
        while chunk > 0 {
            let mut from = 0;
            while from < self.plan.faults.len() {
                let mut plan = self.plan.clone();
                plan.faults.drain(from..(from + chunk).min(plan.faults.len()));
                if !self.try_plan(plan, progress) {
                    from += chunk;
                }
            }
            chunk /= 2;
        }
    }

    fn fewer_clients(&mut self, progress: &mut dyn FnMut(usize)) {
        let mut n = self.plan.clients.len();
        while n > 0 && self.plan.clients.len() > 1 {
            n -= 1;
            let mut plan = self.plan.clone();
            plan.clients.remove(n);
            self.try_plan(plan, progress);
        }
    }

    /// Without observers, then with three voters.
    fn fewer_servers(&mut self, progress: &mut dyn FnMut(usize)) {
        let mut plan = self.plan.clone();
        plan.members.retain(|m| !m.observer);
        if plan != self.plan {
            self.try_plan(plan, progress);
        }
        let mut plan = self.plan.clone();
        plan.members.retain(|m| m.id.0 <= 3);
        if plan != self.plan {
            self.try_plan(plan, progress);
        }
    }
}
