//! Hand-over of the leadership, as the replica has a part in it: what its clients get meanwhile.
//!
//! Requests that come behind its beginning are not begun. Those before it are answered, since the peer gives the
//! leadership away only once everything is committed; then the connections are closed, and clients find the next
//! leader. Connect requests wait for that leader here.

use crate::io::{Actions, Level, Time};
use crate::limits::AUTOMATIC_HAND_OVER_PAUSE;
use crate::members::Membership;
use crate::replica::Replica;
use farrier_zab::HandOverRefused;
use std::collections::BTreeSet;

/// Why this server should not lead, if it does and another one can.
#[derive(Debug, Default)]
pub(crate) struct Reluctance {
    /// The next log segment could not be prepared.
    disk: bool,
    /// Too much waits for the log's disk, and others commit without it.
    log: bool,
    /// What this leader predicted of its own state did not come true.
    state: bool,
    /// When it is tried again; `None` while there is no reason.
    next_try: Option<u64>,
    /// Why the last attempt did not begin: told when it changes.
    refused: Option<HandOverRefused>,
    /// The leadership was given away, and is not again before that moment: if all disks are nearly full, it must not go
    /// round in circles.
    not_before: u64,
}

impl Reluctance {
    /// When an attempt is due, on a leader.
    pub(crate) const fn next_try(&self) -> Option<u64> {
        self.next_try
    }

    /// A reason came or went, or the role did.
    fn weigh(&mut self, now: u64) {
        self.next_try = (self.disk || self.log || self.state).then(|| self.not_before.max(now));
    }

    const fn reason(&self) -> &'static str {
        if self.state {
            "the state here is not what this leader predicted"
        } else if self.log {
            "too much waits for the log's disk here"
        } else {
            "the next log segment cannot be prepared"
        }
    }
}

impl Membership {
    /// Whether this server leads still and hands that over.
    pub(crate) fn is_handing_over(&self) -> bool {
        match self {
            Self::Alone(_) => false,
            Self::Ensemble(m) => m.peer.is_handing_over(),
        }
    }
}

impl Replica {
    /// Whether [`Input::HandOver`](crate::Input::HandOver) would begin.
    ///
    /// # Errors
    /// Why it would not.
    pub fn may_hand_over(&self, now: Time) -> Result<(), HandOverRefused> {
        match &self.membership {
            Membership::Alone(_) => Err(HandOverRefused::NoOtherQuorum { ready: BTreeSet::new() }),
            Membership::Ensemble(m) => m.peer.may_hand_over(now.mono),
        }
    }

    /// Somebody wants another server to lead.
    pub(crate) fn hand_over(&mut self, now: Time, out: &mut Actions) {
        if let Err(refused) = self.begin_hand_over(now) {
            out.note(Level::Warn, format!("the leadership is not handed over: {refused}"));
        }
    }

    /// A leader that stops hands over first, if the others can do without it.
    pub(crate) fn hand_over_to_stop(&mut self, now: Time, out: &mut Actions) {
        match self.begin_hand_over(now) {
            Ok(()) | Err(HandOverRefused::NotLeading { .. } | HandOverRefused::UnderWay) => {}
            Err(refused @ (HandOverRefused::NotEstablished | HandOverRefused::NoOtherQuorum { .. })) => {
                out.note(Level::Info, format!("stopping without a hand-over: {refused}"));
            }
        }
    }

    /// The log thread goes on with the current segment for now.
    pub(crate) fn segment_prepared(&mut self, now: Time, error: Option<String>, out: &mut Actions) {
        let low = error.is_some();
        if low == self.reluctance.disk {
            return;
        }
        match error {
            Some(error) => out.note(
                Level::Warn,
                format!(
                    "the next log segment cannot be prepared: {error}. The current one goes on; when it is full and there is still no room, the server stops. Make room on the disk that holds dataLogDir"
                ),
            ),
            None => out.note(Level::Info, "the next log segment is prepared: there is room again".into()),
        }
        self.reluctance.disk = low;
        self.reluctance.weigh(now.mono);
    }

    /// The log's disk fell far behind, or has caught up.
    pub(crate) fn log_is_behind(&mut self, now: Time, behind: bool) {
        self.reluctance.log = behind;
        self.reluctance.weigh(now.mono);
    }

    /// This leader's own prediction failed. Its tree is made anew of what is on disk once it leads no more.
    pub(crate) fn distrust_own_state(&mut self, now: Time) {
        if let Membership::Ensemble(m) = &mut self.membership {
            m.peer.state_diverged();
            self.reluctance.state = true;
            self.reluctance.weigh(now.mono);
        }
    }

    /// A term begins or ends.
    pub(crate) fn reconsider(&mut self, now: Time) {
        self.reluctance.state = false;
        self.reluctance.refused = None;
        self.reluctance.weigh(now.mono);
    }

    /// A leader that should not lead hands over as soon as others can do without it.
    pub(crate) fn give_up_leadership(&mut self, now: Time, out: &mut Actions) {
        if !self.membership.leads() || self.reluctance.next_try().is_none_or(|at| now.mono < at) {
            return;
        }
        let reason = self.reluctance.reason();
        match self.begin_hand_over(now) {
            Ok(()) => {
                self.reluctance.next_try = None;
                self.reluctance.not_before = now.mono + AUTOMATIC_HAND_OVER_PAUSE;
                out.note(Level::Warn, format!("another server is to lead: {reason}"));
            }
            Err(refused) => {
                self.reluctance.next_try = Some(now.mono + self.config.tick_time);
                if self.reluctance.refused.as_ref() != Some(&refused) {
                    out.note(Level::Warn, format!("another server should lead, since {reason}; but {refused}"));
                    self.reluctance.refused = Some(refused);
                }
            }
        }
    }

    fn begin_hand_over(&mut self, now: Time) -> Result<(), HandOverRefused> {
        match &mut self.membership {
            Membership::Alone(_) => self.may_hand_over(now),
            Membership::Ensemble(m) => m.peer.hand_over(now.mono, &mut m.outputs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Action;
    use crate::{Input, ReplicaConfig, TreeRestore};
    use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId, SessionId, Txn, TxnDigest, TxnHeader, Zxid};
    use farrier_zab::{Config, Durable, Ensemble, QuorumVerifier, Recovering};

    /// A leader of nobody else, with whatever it says.
    struct Alone {
        replica: Replica,
        now: Time,
        notes: Vec<String>,
    }

    impl Alone {
        fn leading() -> Self {
            let config = ReplicaConfig::default();
            let ensemble = Ensemble::new(
                0,
                [ServerId(1)].into(),
                BTreeSet::new(),
                QuorumVerifier::Majority,
                bytes::Bytes::from_static(b"version=0"),
            )
            .expect("one voter");
            let durable = Durable {
                accepted: AcceptedEpoch(0),
                current: CurrentEpoch(0),
                last_logged: Zxid::ZERO,
                recovering: Recovering::No,
            };
            let now = Time { mono: 1000, wall: 0 };
            let state = TreeRestore::new(config.tree, 0);
            let replica = Replica::ensemble(config, Config::new(ServerId(1)), ensemble, durable, state, 0, now);
            let mut alone = Self { replica, now, notes: Vec::new() };
            alone.step(Input::TimerFired);
            assert!(alone.replica.membership.leads());
            alone
        }

        fn step(&mut self, input: Input<'_>) {
            let mut out = Actions::default();
            self.replica.step(self.now, input, &mut out);
            self.act(out);
        }

        /// Every write is durable at once.
        fn act(&mut self, out: Actions) {
            for action in out.list {
                match action {
                    Action::SaveAcceptedEpoch { id, .. }
                    | Action::SaveCurrentEpoch { id, .. }
                    | Action::Append { id, .. } => self.step(Input::Durable { id }),
                    Action::Note { text, .. } => self.notes.push(text),
                    _ => {}
                }
            }
        }

        fn count(&self, text: &str) -> usize {
            self.notes.iter().filter(|n| n.contains(text)).count()
        }
    }

    #[test]
    fn a_leader_whose_prediction_fails_wants_another_one_to_lead() {
        let mut alone = Alone::leading();
        let txn = Txn::Error(0);
        let header =
            TxnHeader { session: SessionId(7), cxid: 0, zxid: Zxid::new(1, 1), time: 5, kind: txn.kind().code() };
        let wrong = |r: &Replica| TxnDigest {
            version: TxnDigest::VERSION,
            tree: r.tree.digest().wrapping_add(1).cast_signed(),
        };
        let mut out = Actions::default();
        for _ in 0..300 {
            let digest = wrong(&alone.replica);
            alone.replica.check_digest(alone.now, &header, &txn, Some(digest), true, &mut out);
        }
        alone.act(out);
        assert_eq!(alone.count("digest mismatch at 0x100000001: predicted"), 1);
        assert!(!alone.replica.is_fenced(), "nobody has a better state");
        assert!(alone.replica.next_deadline().is_some_and(|at| at <= alone.now.mono), "it tries at once");
        for _ in 0..5 {
            alone.now.mono += 2000;
            alone.step(Input::TimerFired);
        }
        assert_eq!(
            alone.count("another server should lead, since the state here is not what this leader predicted"),
            1
        );
        assert_eq!(alone.replica.stats.digest_mismatches, 300);
    }
}
