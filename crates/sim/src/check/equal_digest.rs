//! Trees at the same zxid have the same digest, and it is the one that the leader predicted. Not so what a server reads back
//! that knows that it may have forgotten: a leader gives it everything before it counts.

use super::{Checker, Facts};
use crate::observe::{Observation, ServerEvent, What};
use farrier_proto::txn::read_txn;
use farrier_proto::{ServerId, TxnDigest, Zxid};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct EqualDigest {
    seen: BTreeMap<Zxid, (u64, ServerId)>,
}

impl Checker for EqualDigest {
    fn name(&self) -> &'static str {
        "equal-digest"
    }

    fn observe(&mut self, _facts: &Facts, observation: &Observation) -> Result<(), String> {
        let What::Server(me, event) = &observation.what else { return Ok(()) };
        let (zxid, digest, txn) = match event {
            ServerEvent::Applied { zxid, txn, digest: Some(digest) } => (zxid, digest, Some(txn)),
            ServerEvent::Started { last: zxid, digest: Some(digest), recovering: false, .. }
            | ServerEvent::WouldStart { last: zxid, digest: Some(digest), recovering: false, .. }
            | ServerEvent::WouldReplay { last: zxid, digest: Some(digest) }
            | ServerEvent::StateReplaced { zxid, digest: Some(digest), .. }
            | ServerEvent::Inspected { zxid, digest: Some(digest), .. } => (zxid, digest, None),
            _ => return Ok(()),
        };
        let (first, other) = *self.seen.entry(*zxid).or_insert((*digest, *me));
        if first != *digest {
            return Err(format!("at {zxid} server {me} has digest {digest:#x}, server {other} had {first:#x}"));
        }
        let predicted = txn.and_then(|t| read_txn(t).ok()).and_then(|(_, _, d)| d);
        match predicted {
            Some(TxnDigest { version: TxnDigest::VERSION, tree }) if tree.cast_unsigned() != *digest => {
                Err(format!("at {zxid} server {me} has digest {digest:#x}, the leader predicted {tree:#x}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, set_data};
    use super::*;
    use farrier_proto::{AcceptedEpoch, CurrentEpoch};

    #[test]
    fn another_digest_is_caught() {
        let mut play = Play::elected();
        let (zxid, txn) = play.commit_but(set_data("/", 0, "x"), &[2, 3]);
        let applied = |digest| ServerEvent::Applied { zxid, txn: txn.clone(), digest: Some(digest) };
        play.server(2, applied(7));
        assert_eq!(play.verdict(Box::<EqualDigest>::default()), Ok(()));
        play.server(3, applied(8));
        assert!(play.verdict(Box::<EqualDigest>::default()).is_err());
    }

    #[test]
    fn what_a_server_reads_back_counts_unless_it_may_have_forgotten() {
        for (recovering, lawful) in [(true, true), (false, false)] {
            let mut play = Play::elected();
            let (zxid, txn) = play.commit_but(set_data("/", 0, "x"), &[2, 3]);
            play.server(2, ServerEvent::Applied { zxid, txn, digest: Some(7) });
            let (accepted, current) = (AcceptedEpoch(1), CurrentEpoch(1));
            play.server(3, ServerEvent::Started { accepted, current, last: zxid, digest: Some(8), recovering });
            assert_eq!(play.verdict(Box::<EqualDigest>::default()).is_ok(), lawful);
        }
    }
}
