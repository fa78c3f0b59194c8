//! Digests: whether the tree here is the one that the leader has, and what follows if it is not (safety contract 7).
//!
//! The first mismatch is told with its transaction. If mismatches last, the *tree* is fenced: clients are closed and
//! turned away, while this server goes on to log and to acknowledge, and it asks the leader for its whole state, once
//! in its term. If mismatches come back behind that state, the leader is the odd one: that is an alarm, nothing is
//! compared any more in its term, and clients are served.
//!
//! A digest that matches lifts the fence: the trees are the same, whatever was before. One that Apache is known to predict
//! wrongly matches too (`excuses.rs`).

use crate::excuses::{Excuses, Prediction};
use crate::io::{Actions, ConnId, Level, Time};
use crate::limits::DIGEST_MISMATCHES_MAX;
use crate::members::Membership;
use crate::replica::Replica;
use farrier_proto::{Txn, TxnDigest, TxnHeader, Zxid};

/// From where on the digests of transactions say something about the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Since {
    /// Behind this transaction. A state may hold effects of transactions that are yet to come.
    After(Zxid),
    /// Once the first ping behind a state from the leader tells up to where it may.
    AfterPing,
}

/// What was compared.
#[derive(Debug)]
pub(crate) struct Digests {
    since: Since,
    /// The first mismatch, and how many there were without a match in between.
    mismatches: Option<(Zxid, u32)>,
    fenced: bool,
    /// The term in which the leader was last asked for its state.
    asked_in: Option<u32>,
    /// The term whose leader is the odd one.
    ignored_in: Option<u32>,
    pub(crate) excuses: Excuses,
}

/// What a comparison means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Finding {
    Same,
    /// The same again, after mismatches.
    Recovered,
    /// The first mismatch.
    First,
    /// Another one.
    Again,
    /// It has lasted, and began with this transaction.
    Lasting(Zxid),
}

impl Digests {
    pub(crate) const fn new(since: Since) -> Self {
        Self { since, mismatches: None, fenced: false, asked_in: None, ignored_in: None, excuses: Excuses::new() }
    }

    /// Whether clients must not be served.
    pub(crate) const fn is_fenced(&self) -> bool {
        self.fenced
    }

    /// Whether the tree may be a wrong one: then it gets into no snapshot. Under a leader with another charset that would
    /// be so for most of the time, and the log would grow without end.
    pub(crate) const fn are_in_doubt(&self) -> bool {
        self.mismatches.is_some() && (self.fenced || !self.excuses.has_charset())
    }

    /// The tree is another one.
    pub(crate) const fn replaced(&mut self, since: Since) {
        self.since = since;
        self.mismatches = None;
        self.fenced = false;
    }

    /// The mismatches so far were none.
    pub(crate) const fn excuse(&mut self) {
        self.mismatches = None;
    }

    /// The first ping behind a state from the leader tells what that may hold the effects of.
    pub(crate) const fn pinged(&mut self, last: Zxid) {
        if matches!(self.since, Since::AfterPing) {
            self.since = Since::After(last);
        }
    }

    fn counts(&self, zxid: Zxid, epoch: Option<u32>) -> bool {
        let odd_leader = epoch.is_some() && self.ignored_in == epoch;
        match self.since {
            Since::After(last) => zxid > last && !odd_leader,
            Since::AfterPing => false,
        }
    }

    fn compare(&mut self, zxid: Zxid, same: bool) -> Finding {
        if same {
            if std::mem::take(&mut self.fenced) {
                // Nothing came of it, so it may be asked for once more.
                self.asked_in = None;
            }
            return if self.mismatches.take().is_some() { Finding::Recovered } else { Finding::Same };
        }
        let (first, count) = self.mismatches.get_or_insert((zxid, 0));
        *count = count.saturating_add(1);
        match *count {
            1 => Finding::First,
            n if n >= DIGEST_MISMATCHES_MAX => Finding::Lasting(*first),
            _ => Finding::Again,
        }
    }
}

impl Replica {
    /// Compares the tree, to which a transaction was just applied, with what its leader predicted.
    pub(crate) fn check_digest(
        &mut self,
        now: Time,
        header: &TxnHeader,
        txn: &Txn<'_>,
        digest: Option<TxnDigest>,
        ours: bool,
        out: &mut Actions,
    ) {
        let Some(digest) = digest else { return };
        let (zxid, epoch) = (header.zxid, self.membership.epoch());
        if digest.version != TxnDigest::VERSION || !self.config.tree.digest || !self.digests.counts(zxid, epoch) {
            return;
        }
        let (predicted, have) = (digest.tree.cast_unsigned(), self.tree.digest());
        let excess = predicted.wrapping_sub(have);
        let prediction = Prediction { excess, header, txn };
        if excess != 0 {
            self.stats.digest_mismatches += 1;
        }
        self.digests.excuses.led_in(epoch);
        let in_doubt = self.digests.fenced || self.digests.mismatches.is_some();
        let same = if ours { excess == 0 } else { self.digests.excuses.cover(prediction, in_doubt, &self.tree) };
        let expected = self.digests.excuses.has_charset() && !self.digests.fenced;
        let finding = self.digests.compare(zxid, same);
        match (finding, ours) {
            (Finding::Same, _) | (Finding::Again, _) | (Finding::Lasting(_), true) => {}
            (Finding::First, false) if expected => {}
            (Finding::Recovered, _) => {
                if let Membership::Ensemble(m) = &mut self.membership
                    && !ours
                {
                    m.peer.state_agrees();
                }
                if !expected {
                    out.note(Level::Warn, format!("the digests agree again at {zxid}"));
                }
            }
            (Finding::First, true) => {
                out.note(
                    Level::Error,
                    format!(
                        "digest mismatch at {zxid}: predicted {predicted:#x}, the tree has {have:#x}; a follower would report it too. Please report this as a bug with the log segment that holds {zxid}"
                    ),
                );
                // Tests of a server that is alone end here; in an ensemble they look at the counter.
                debug_assert!(
                    self.membership.is_ensemble(),
                    "predicted {predicted:#x}, the tree has {have:#x} at {zxid}"
                );
                self.distrust_own_state(now);
            }
            (Finding::First, false) => {
                out.note(
                    Level::Error,
                    format!(
                        "digest mismatch at {zxid}: the leader's tree has {predicted:#x}, the one here {have:#x}. One of them is wrong: compare the servers' data, and report this with the log segment that holds {zxid}"
                    ),
                );
            }
            (Finding::Lasting(_), false) if self.digests.fenced || epoch.is_none() => {}
            (Finding::Lasting(_), false) if self.charset_covers(now, prediction, out) => {}
            (Finding::Lasting(first), false) => self.judge(now, first, epoch, out),
        }
    }

    /// The mismatch began with `first` and lasts, and there is no excuse for it.
    fn judge(&mut self, now: Time, first: Zxid, epoch: Option<u32>, out: &mut Actions) {
        let Membership::Ensemble(m) = &mut self.membership else { return };
        if self.digests.asked_in == epoch {
            self.digests.ignored_in = epoch;
            self.digests.mismatches = None;
            out.note(
                Level::Error,
                format!(
                    "the tree here is the one that the leader sent, and its digests differ again since {first}: the leader's tree is the odd one. Nothing is compared any more while it leads, and clients are served. Let another server lead, then restart that one and report this with its log segment that holds {first}"
                ),
            );
            return;
        }
        self.digests.fenced = true;
        self.digests.asked_in = epoch;
        m.peer.state_diverged();
        m.peer.ask_for_state(now.mono);
        out.note(
            Level::Error,
            format!(
                "the tree here is not the leader's since {first}: no clients are served until it is, while this server goes on to log and to vote. The leader is asked for its whole state once a quorum can do without this server"
            ),
        );
    }

    /// Closes whoever was served, while the tree is fenced.
    pub(crate) fn enforce_fence(&mut self, out: &mut Actions) {
        if self.digests.is_fenced() {
            self.close_served(out);
        }
    }

    /// Closes every connection for which anything was done.
    pub(crate) fn close_served(&mut self, out: &mut Actions) {
        let mut served: Vec<ConnId> = self.conns.iter().filter(|(_, c)| !c.is_new()).map(|(id, _)| id).collect();
        served.sort_unstable();
        for id in served {
            self.close(id, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn z(n: u64) -> Zxid {
        Zxid::new(1, n as u32)
    }

    #[test]
    fn a_verdict_takes_its_time_and_a_match_ends_it() {
        let mut d = Digests::new(Since::After(z(0)));
        assert_eq!(d.compare(z(1), true), Finding::Same);
        assert_eq!(d.compare(z(2), false), Finding::First);
        assert!(d.are_in_doubt());
        for n in 1..u64::from(DIGEST_MISMATCHES_MAX) - 1 {
            assert_eq!(d.compare(z(2 + n), false), Finding::Again);
        }
        assert_eq!(d.compare(z(900), true), Finding::Recovered);
        assert_eq!(d.compare(z(901), false), Finding::First);
        for n in 1..u64::from(DIGEST_MISMATCHES_MAX) - 1 {
            assert_eq!(d.compare(z(901 + n), false), Finding::Again);
        }
        assert_eq!(d.compare(z(2000), false), Finding::Lasting(z(901)));
        assert_eq!(d.compare(z(2001), false), Finding::Lasting(z(901)), "whoever could not judge yet judges now");
        d.fenced = true;
        assert_eq!(d.compare(z(2002), true), Finding::Recovered);
        assert!(!d.is_fenced() && !d.are_in_doubt());
    }

    #[test]
    fn what_may_hold_effects_of_later_transactions_is_not_compared() {
        let mut d = Digests::new(Since::After(z(5)));
        assert!(!d.counts(z(5), Some(1)) && d.counts(z(6), Some(1)));
        d.replaced(Since::AfterPing);
        assert!(!d.counts(z(900), Some(1)));
        d.pinged(z(7));
        d.pinged(z(900));
        assert!(!d.counts(z(7), Some(1)) && d.counts(z(8), Some(1)), "the first ping tells");
        d.ignored_in = Some(1);
        assert!(!d.counts(z(8), Some(1)) && d.counts(z(8), Some(2)) && d.counts(z(8), None));
    }
}
