//! Checkers: what must always hold, one file each, over the stream of observations.
//!
//! [`Checkers`] keeps the [`Facts`] that follow from the observations: who proposed what on top of what, what each server
//! has, what is committed, which states that makes. They pass no judgement; each [`Checker`] compares an observation with
//! the facts and finds it lawful, or a [`Violation`].
//!
//! To add one: a file with a type that is a [`Checker`], its line in [`all`], and a test that a lawful history passes
//! and a broken one does not.

mod acknowledged_write_survives;
mod agreement;
mod commit_needs_quorum;
mod durable_before_said;
mod durable_survives;
mod ephemerals;
mod epoch_has_its_history;
mod equal_digest;
mod established_by_quorum;
mod facts;
mod freshest_leads;
mod global_primary_order;
mod history;
mod integrity;
mod leadership1;
mod leadership2;
mod linearizable;
mod local_primary_order;
mod log_contiguous;
mod model;
mod monotone_epochs;
mod multi;
mod oracle;
mod peers_keep_the_rules;
mod prefix_consistency;
mod primary_integrity;
mod reads_never_go_back;
mod sequence_numbers;
mod session_fifo;
mod sessions_expire_lawfully;
mod silent_sessions_end;
mod total_order;
mod twin;
mod unhindered_are_served;
mod unknown_is_once;
mod watch_before_data;
mod watch_exactly_once;
mod would_start;

pub use facts::{Attachment, Call, End, Facts, News, ServerFacts};
pub use history::{History, Proposal};
pub use model::{Change, Effect, Model, Record, SessionSpan, Znode};
pub use twin::WatchFault;

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
    /// `tickTime`. Milliseconds.
    pub tick_ms: u64,
}

/// One property. It may keep state of its own, and looks at the facts as they are *with* the observation.
pub trait Checker {
    /// As in the list of the specification's invariants.
    fn name(&self) -> &'static str;

    /// Judges one observation.
    ///
    /// # Errors
    /// What is wrong, for whoever reads the transcript.
    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String>;

    /// Judges what is left when the run is over.
    ///
    /// # Errors
    /// What is wrong.
    fn finish(&mut self, _facts: &Facts) -> Result<(), String> {
        Ok(())
    }
}

/// Every checker, in the order in which they are asked.
#[must_use]
pub fn all() -> Vec<Box<dyn Checker>> {
    vec![
        Box::<leadership1::Leadership1>::default(),
        Box::<leadership2::Leadership2>::default(),
        Box::<integrity::Integrity>::default(),
        Box::<log_contiguous::LogContiguous>::default(),
        Box::<durable_before_said::DurableBeforeSaid>::default(),
        Box::<durable_survives::DurableSurvives>::default(),
        Box::<would_start::WouldStart>::default(),
        Box::<epoch_has_its_history::EpochHasItsHistory>::default(),
        Box::<established_by_quorum::EstablishedByQuorum>::default(),
        Box::<freshest_leads::FreshestLeads>::default(),
        Box::<commit_needs_quorum::CommitNeedsQuorum>::default(),
        Box::<acknowledged_write_survives::AcknowledgedWriteSurvives>::default(),
        Box::<prefix_consistency::PrefixConsistency>::default(),
        Box::<agreement::Agreement>::default(),
        Box::<total_order::TotalOrder>::default(),
        Box::<local_primary_order::LocalPrimaryOrder>::default(),
        Box::<global_primary_order::GlobalPrimaryOrder>::default(),
        Box::<primary_integrity::PrimaryIntegrity>::default(),
        Box::<monotone_epochs::MonotoneEpochs>::default(),
        Box::<peers_keep_the_rules::PeersKeepTheRules>::default(),
        Box::<equal_digest::EqualDigest>::default(),
        Box::<session_fifo::SessionFifo>::default(),
        Box::<reads_never_go_back::ReadsNeverGoBack>::default(),
        Box::<linearizable::Linearizable>::default(),
        Box::<unknown_is_once::UnknownIsOnce>::default(),
        Box::<unhindered_are_served::UnhinderedAreServed>::default(),
        Box::<ephemerals::Ephemerals>::default(),
        Box::<sessions_expire_lawfully::SessionsExpireLawfully>::default(),
        Box::<silent_sessions_end::SilentSessionsEnd>::default(),
        Box::<sequence_numbers::SequenceNumbers>::default(),
        Box::<watch_before_data::WatchBeforeData>::default(),
        Box::<watch_exactly_once::WatchExactlyOnce>::default(),
        Box::<oracle::Oracle>::default(),
    ]
}

/// All checkers over one run.
pub struct Checkers {
    facts: Facts,
    all: Vec<Box<dyn Checker>>,
}

impl Checkers {
    /// At the beginning of a run.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        Self::only(setup.clone(), all())
    }

    /// Some of the checkers.
    #[must_use]
    pub fn only(setup: Setup, checkers: Vec<Box<dyn Checker>>) -> Self {
        Self { facts: Facts::new(setup), all: checkers }
    }

    /// What is known so far.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Takes the next observation.
    ///
    /// # Errors
    /// The first checker's finding.
    pub fn observe(&mut self, observation: &Observation) -> Result<(), Violation> {
        self.facts.observe(observation);
        let (facts, at) = (&self.facts, observation.at);
        self.all
            .iter_mut()
            .try_for_each(|c| c.observe(facts, observation).map_err(|what| Violation { checker: c.name(), at, what }))
    }

    /// The run is over.
    ///
    /// # Errors
    /// The first checker's finding.
    pub fn finish(&mut self) -> Result<(), Violation> {
        let facts = &self.facts;
        let at = facts.now;
        self.all.iter_mut().try_for_each(|c| c.finish(facts).map_err(|what| Violation { checker: c.name(), at, what }))
    }
}

#[cfg(test)]
mod testing;
