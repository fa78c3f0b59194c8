//! What must hold in every state.

use crate::disk::{Disk, Entry, last};
use farrier_proto::Zxid;
use std::fmt;

/// A property.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rule {
    /// No epoch is established by two leaders, or twice by one.
    OneLeader,
    /// What is served is a prefix of one history on all servers.
    Agreement,
    /// A newly established leader has everything that was committed before.
    Survival,
    /// A quorum of disks has everything that is committed, at any moment.
    Durability,
    /// Epochs on a disk only grow, and none is adopted that was not promised.
    Epochs,
    /// Logs have no gaps.
    Log,
    /// No zxid is given to two transactions.
    Integrity,
    /// What is told is durable where it is told.
    Told,
    /// An assertion of the peer failed.
    Panic,
    /// The peer asks for what this model has no meaning for.
    Unknown,
}

/// A broken property.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// What happened.
    pub detail: String,
}

impl Violation {
    pub(crate) fn new(rule: Rule, detail: impl Into<String>) -> Self {
        Self { rule, detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.detail)
    }
}

/// What was ever committed and established, as nobody in the ensemble can know it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Truth {
    committed: Vec<Entry>,
    /// Epochs, in order.
    established: Vec<u32>,
    proposed: Vec<Zxid>,
}

impl Truth {
    /// A leader proposes. Returns the content.
    pub(crate) fn propose(&mut self, zxid: Zxid) -> Result<u8, Violation> {
        if self.proposed.contains(&zxid) {
            return Err(Violation::new(Rule::Integrity, format!("{zxid} is proposed a second time")));
        }
        self.proposed.push(zxid);
        Ok(u8::try_from(self.proposed.len()).expect("few proposals"))
    }

    /// A quorum acknowledged NEWLEADER: the leader's history is committed.
    pub(crate) fn establish(&mut self, epoch: u32, history: &[Entry]) -> Result<(), Violation> {
        if self.established.contains(&epoch) {
            return Err(Violation::new(Rule::OneLeader, format!("epoch {epoch} is established a second time")));
        }
        // The establishment of an epoch may be noticed behind that of a later one.
        let latest = self.established.last().is_none_or(|e| *e < epoch);
        if latest && history.len() < self.committed.len() {
            let (ours, lost) = (last(history), last(&self.committed));
            let text = format!("epoch {epoch} begins behind {ours}, and {lost} was committed");
            return Err(Violation::new(Rule::Survival, text));
        }
        self.established.push(epoch);
        self.established.sort_unstable();
        self.commit(history)
    }

    /// A leader delivered all this.
    pub(crate) fn commit(&mut self, history: &[Entry]) -> Result<(), Violation> {
        agree(history, &self.committed)?;
        if history.len() > self.committed.len() {
            self.committed = history.to_vec();
        }
        Ok(())
    }

    /// A learner serves this.
    pub(crate) fn serve(&self, history: &[Entry]) -> Result<(), Violation> {
        agree(history, &self.committed)?;
        if history.len() > self.committed.len() {
            let text = format!("{} is served, and only {} is committed", last(history), last(&self.committed));
            return Err(Violation::new(Rule::Agreement, text));
        }
        Ok(())
    }

    /// Looks at the disks.
    pub(crate) fn is_durable<'d>(&self, disks: impl Iterator<Item = &'d Disk>, quorum: usize) -> Result<(), Violation> {
        let copies = disks.filter(|d| d.history.starts_with(&self.committed)).count();
        if copies < quorum {
            let text = format!("{} is committed, and {copies} disks have all up to there", last(&self.committed));
            return Err(Violation::new(Rule::Durability, text));
        }
        Ok(())
    }
}

/// One is a prefix of the other.
fn agree(one: &[Entry], other: &[Entry]) -> Result<(), Violation> {
    match one.iter().zip(other).find(|(a, b)| a != b) {
        None => Ok(()),
        Some((a, b)) => Err(Violation::new(Rule::Agreement, format!("{a:?} stands where {b:?} is committed"))),
    }
}
