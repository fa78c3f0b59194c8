//! Reconfiguration as a learner takes part in it: what is logged and pending, and what comes into force.
//!
//! From the proposal of a reconfiguration on, whatever needs a quorum needs one of each configuration. It comes into
//! force with COMMITANDACTIVATE or INFORMANDACTIVATE, with the configuration of NEWLEADER at UPTODATE, or with the word
//! of a peer for which it is in force already, while this server looks for a leader.

use crate::core::Core;
use crate::ensemble::Ensemble;
use crate::io::{Level, Output, Outputs};
use bytes::Bytes;
use farrier_proto::membership::{MemberList, Role};
use farrier_proto::txn::read_txn;
use farrier_proto::{ServerId, Txn, TxnType, Zxid};

/// Where the type stands in a transaction's header.
const TYPE_AT: core::ops::Range<usize> = 28..32;

/// The text that a reconfiguration brings; `None` if the transaction is none.
pub(crate) fn configuration(txn: &[u8]) -> Option<Bytes> {
    if txn.get(TYPE_AT)? != TxnType::Reconfig.code().to_be_bytes() {
        return None;
    }
    match read_txn(txn) {
        Ok((_, Txn::Reconfig(reconfig), _)) => reconfig.data.as_deref().map(Bytes::copy_from_slice),
        Ok(_) | Err(_) => None,
    }
}

impl Core {
    /// A transaction gets into the log: if it is a reconfiguration, its quorums count from now on.
    pub(crate) fn note_pending(&mut self, txn: &[u8], out: &mut Outputs) {
        if !self.config.reconfig {
            return;
        }
        let Some(text) = configuration(txn) else { return };
        match parse(&text) {
            Ok((_, pending)) => self.ensemble = self.ensemble.clone().with_pending(Some(pending)),
            Err(why) => out.note(Level::Error, format!("a reconfiguration was proposed that cannot be read: {why}")),
        }
    }

    /// The log was cut.
    pub(crate) fn forget_pending(&mut self, after: Zxid) {
        if self.ensemble.pending().is_some_and(|p| p.version() > after.get()) {
            self.ensemble = self.ensemble.clone().with_pending(None);
        }
    }

    /// A configuration is in force, if it is newer than ours. `leader` is whom this server has, if any, and
    /// `designated` whom the reconfiguration made the leader. True if this server has to leave it: its own part has
    /// changed, or the leader has.
    ///
    /// # Errors
    /// Why the text is no configuration.
    pub(crate) fn activate(
        &mut self,
        text: &Bytes,
        leader: Option<ServerId>,
        designated: Option<ServerId>,
        out: &mut Outputs,
    ) -> Result<bool, String> {
        if !self.config.reconfig || MemberList::version_of(text) <= self.ensemble.version() {
            return Ok(false);
        }
        let (list, ensemble) = parse(text)?;
        let me = self.me();
        let old = MemberList::parse(self.ensemble.text()).ok();
        let same = old.as_ref().is_some_and(|old| old.members == list.members && old.groups == list.groups);
        let observed = self.ensemble.is_observer(me);
        let pending = self.ensemble.pending().cloned();
        self.ensemble = ensemble.with_pending(pending);
        out.note(Level::Info, format!("configuration {:#x} is in force", self.ensemble.version()));
        out.push(Output::Activate { config: text.clone() });
        if same {
            return Ok(false);
        }
        let place = |list: &MemberList, of: ServerId| {
            list.get(of).filter(|m| m.role == Role::Participant).map(|m| m.addresses.clone())
        };
        let leader_changed = match (designated, leader) {
            (Some(designated), leader) => leader != Some(designated),
            (None, Some(leader)) => {
                let (before, now) = (old.as_ref().and_then(|old| place(old, leader)), place(&list, leader));
                now.is_none() || before != now
            }
            (None, None) => false,
        };
        let leaves = leader_changed || observed != self.ensemble.is_observer(me);
        self.designated = designated.filter(|_| leaves);
        Ok(leaves)
    }
}

fn parse(text: &[u8]) -> Result<(MemberList, Ensemble), String> {
    let list = MemberList::parse(text)?;
    let ensemble = Ensemble::of(&list).map_err(|e| e.to_string())?;
    Ok((list, ensemble))
}
