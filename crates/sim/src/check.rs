//! Checkers: what must always hold, one file each, over the stream of observations.
//!
//! [`Checkers`] keeps the facts that follow from the observations : who proposed what on top of what, what each
//! server has, what is committed, which state that makes. It passes no judgement; each [`Checker`] compares an observation
//! with the facts and finds it lawful, or a [`Violation`].

use crate::observe::{Moment, Observation};
use core::fmt;
use farrier_proto::ServerId;

/// Something that must not happen did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The checker's name.
    pub checker: &'static str,
    /// When it was seen.
    pub at: Moment,
    /// What, by and to whom.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.checker, self.at, self.what)
    }
}

/// A member of the ensemble with a vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Voter {
    /// Who.
    pub id: ServerId,
    /// Its group, 0 where there are none.
    pub group: u64,
    /// Its weight in the group, 1 where there are none.
    pub weight: u64,
}

/// What checkers have to know of the world beforehand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setup {
    /// Who votes.
    pub voters: Vec<Voter>,
    /// Who follows without a vote.
    pub observers: Vec<ServerId>,
}

/// One property. It may keep state of its own, and looks at the facts as they are *with* the observation.
pub trait Checker {
    /// As in the list of the specification's invariants.
    fn name(&self) -> &'static str;

    /// Judges one observation.
    ///
    /// # Errors
    /// What is wrong, for whoever reads the transcript.
    fn observe(&mut self, observation: &Observation) -> Result<(), String>;

    /// Judges what is left when the run is over.
    ///
    /// # Errors
    /// What is wrong.
    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// All checkers over one run.
#[derive(Default)]
pub struct Checkers {
    all: Vec<Box<dyn Checker>>,
    now: Moment,
}

impl Checkers {
    /// At the beginning of a run.
    #[must_use]
    pub fn new(_setup: &Setup) -> Self {
        Self::default()
    }

    /// Takes the next observation.
    ///
    /// # Errors
    /// The first checker's finding.
    pub fn observe(&mut self, observation: &Observation) -> Result<(), Violation> {
        self.now = observation.at;
        let at = observation.at;
        self.all
            .iter_mut()
            .try_for_each(|c| c.observe(observation).map_err(|what| Violation { checker: c.name(), at, what }))
    }

    /// The run is over.
    ///
    /// # Errors
    /// The first checker's finding.
    pub fn finish(&mut self) -> Result<(), Violation> {
        let at = self.now;
        self.all.iter_mut().try_for_each(|c| c.finish().map_err(|what| Violation { checker: c.name(), at, what }))
    }
}
