//! Hand-over: the end of a leadership by its own will, behind which another server leads at once.
//!
//! Nothing is proposed any more. Once everything is committed, and enough of the other voters have all of it with
//! its commits, the links are closed and this server looks for a leader without a voice. The protocol has no word
//! by which a leader names another: the most up to date voter with the largest id wins their election.
//!
//! It never goes back: requests that came meanwhile were not proposed, and nothing may be proposed behind them on the
//! same link. If the others are not ready in time there is an election with all voices.

use super::stream::Stage;
use super::{Leader, half_tick};
use crate::core::{Core, Resign};
use crate::io::{Level, Outputs};
use crate::limits::HAND_OVER_MS_MAX;
use core::fmt;
use farrier_proto::ServerId;
use std::collections::BTreeSet;

/// Why a server does not hand its leadership over.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HandOverRefused {
    /// It has none.
    NotLeading {
        /// Who leads instead, if anybody is known to.
        leader: Option<ServerId>,
    },
    /// It was elected, and no quorum has acknowledged its history yet.
    NotEstablished,
    /// Without it the voters that are up to date are no quorum: nobody could be elected.
    NoOtherQuorum {
        /// Those that are.
        ready: BTreeSet<ServerId>,
    },
    /// It does so already.
    UnderWay,
}

impl fmt::Display for HandOverRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeading { leader: Some(leader) } => {
                write!(f, "this server does not lead; server {leader} does")
            }
            Self::NotLeading { leader: None } => {
                write!(f, "this server does not lead, and nobody that it knows of does")
            }
            Self::NotEstablished => write!(f, "this server was elected a moment ago and does not lead a quorum yet"),
            Self::NoOtherQuorum { ready } if ready.is_empty() => {
                write!(f, "no other voter is up to date, so that none could lead")
            }
            Self::NoOtherQuorum { ready } => {
                let ready: Vec<_> = ready.iter().map(ToString::to_string).collect();
                write!(f, "the other voters that are up to date ({}) are no quorum without this one", ready.join(", "))
            }
            Self::UnderWay => write!(f, "the leadership is being handed over already"),
        }
    }
}

impl std::error::Error for HandOverRefused {}

impl Leader {
    /// Whether [`Self::hand_over`] would begin.
    pub(crate) fn may_hand_over(&self, core: &Core, now: u64) -> Result<(), HandOverRefused> {
        if !self.established() {
            return Err(HandOverRefused::NotEstablished);
        }
        if self.handing_over.is_some() {
            return Err(HandOverRefused::UnderWay);
        }
        let patience = half_tick(core);
        let ready: BTreeSet<_> = self
            .voters()
            .filter(|l| l.stage == Stage::UpToDate && l.server != core.me() && now <= l.alive_until)
            .filter(|l| l.unacked.is_none_or(|(_, since)| now <= since + patience))
            .map(|l| l.server)
            .collect();
        if core.ensemble.is_quorum(&ready) { Ok(()) } else { Err(HandOverRefused::NoOtherQuorum { ready }) }
    }

    /// Begins to hand over; [`Self::advance`] goes on with it.
    pub(crate) fn hand_over(&mut self, core: &Core, now: u64, out: &mut Outputs) -> Result<(), HandOverRefused> {
        self.may_hand_over(core, now)?;
        self.handing_over = Some(now + HAND_OVER_MS_MAX);
        out.note(Level::Info, format!("handing the leadership over behind {}", core.history.last()));
        Ok(())
    }

    pub(crate) const fn is_handing_over(&self) -> bool {
        self.handing_over.is_some()
    }

    /// Ends the leadership once the others have everything.
    pub(super) fn finish_hand_over(&mut self, core: &Core, now: u64, out: &mut Outputs) -> Result<(), Resign> {
        let Some(until) = self.handing_over else { return Ok(()) };
        if self.is_retiring() {
            return self.retire(core, now, until, out);
        }
        let me = core.me();
        let left: BTreeSet<_> =
            self.voters().filter(|l| l.stage == Stage::UpToDate && l.server != me).map(|l| l.server).collect();
        if !core.ensemble.is_quorum(&left) {
            return Err(Resign::lost("the hand-over failed: the other voters are no quorum any more"));
        }
        if now >= until {
            return Err(Resign::lost("the hand-over failed: the other voters did not take everything in time"));
        }
        let last = core.history.last();
        if core.history.delivered() < last {
            return Ok(());
        }
        let mut ready = BTreeSet::new();
        for (link, learner) in &mut self.learners {
            if learner.is_drained(*link, last, out) && learner.votes && learner.server != me && learner.acked() >= last
            {
                ready.insert(learner.server);
            }
        }
        if core.ensemble.is_quorum(&ready) { Err(Resign::handed_over(&ready, last)) } else { Ok(()) }
    }
}
