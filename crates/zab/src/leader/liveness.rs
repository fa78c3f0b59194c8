//! Pings, and who is given up.

use super::{Leader, Progress, half_tick};
use crate::core::{Core, Resign};
use crate::io::{LinkId, Outputs};
use std::collections::BTreeSet;

impl Leader {
    /// Every half tick.
    pub(super) fn timer(&mut self, core: &Core, now: u64, out: &mut Outputs) -> Result<(), Resign> {
        if now < self.next_timer {
            return Ok(());
        }
        let half = half_tick(core);
        if now - self.next_timer > half {
            // This process was not scheduled. What the others sent meanwhile comes now, and so do answers to
            // another ping.
            self.grace_until = now + core.ticks(1);
            self.next_timer = now;
        }
        self.next_timer += half;
        self.half_ticks += 1;
        if now >= self.grace_until {
            self.give_up_learners(core, now, out);
            self.check_waits(core, now)?;
            self.check_promises()?;
            if self.half_ticks.is_multiple_of(2) {
                self.check_quorum(core, now)?;
            }
        }
        self.ping(core, |_| true, out);
        Ok(())
    }

    fn give_up_learners(&mut self, core: &Core, now: u64, out: &mut Outputs) {
        let limit = core.ticks(core.config.sync_limit);
        let late: Vec<(LinkId, String)> = self
            .learners
            .iter()
            .filter_map(|(link, learner)| {
                if learner.silent_at.is_some_and(|at| now > at) {
                    return Some((*link, format!("nothing was heard of server {} for too long", learner.server)));
                }
                let (zxid, since) = learner.unacked?;
                (now > since + limit)
                    .then(|| (*link, format!("server {} did not acknowledge {zxid} within syncLimit", learner.server)))
            })
            .collect();
        for (link, reason) in late {
            self.close(link, reason, out);
        }
    }

    fn check_waits(&self, core: &Core, now: u64) -> Result<(), Resign> {
        let what = match self.progress {
            Progress::Choosing => "of voters came within initLimit",
            Progress::Gathering => "of voters promised the epoch within initLimit",
            Progress::Synchronizing => "of voters acknowledged NEWLEADER within initLimit",
            // The own disk.
            Progress::Promising | Progress::Broadcasting => return Ok(()),
        };
        if now <= self.wait_until {
            return Ok(());
        }
        let there: Vec<_> = self.voters().map(|l| l.server.0).collect();
        Err(Resign::lost(format!("no quorum {what}; beside server {} there are {there:?}", core.me())))
    }

    /// A voter that promised a later epoch, to a leader that failed, joins none of this one however long it lasts.
    /// Another epoch brings it back.
    fn check_promises(&self) -> Result<(), Resign> {
        if !self.established() || self.highest.0 <= self.epoch {
            return Ok(());
        }
        let (promised, epoch) = (self.highest.0, self.epoch);
        Err(Resign::lost(format!(
            "a voter promised epoch {promised} and cannot join epoch {epoch}: there has to be a new one"
        )))
    }

    fn check_quorum(&self, core: &Core, now: u64) -> Result<(), Resign> {
        if !self.established() {
            return Ok(());
        }
        let mut alive: BTreeSet<_> = self.voters().filter(|l| l.is_alive(now)).map(|l| l.server).collect();
        alive.insert(core.me());
        if core.ensemble.is_quorum(&alive) {
            return Ok(());
        }
        let alive: Vec<_> = alive.iter().map(|s| s.0).collect();
        Err(Resign::lost(format!("no quorum of voters was heard of within syncLimit, only {alive:?}")))
    }
}
