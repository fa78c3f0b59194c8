//! What an answer proves of the session's life, and how often a lease that somebody relies on is renewed.
//!
//! A server that is cut off from its leader goes on to answer pings and reads from its own memory, until it gives the
//! leader up, while the leader lets the session expire. So only an answer that came through the leader proves anything:
//! that to a write, or to a `sync`. What it proves follows from how a leader hears of a session (`T` is its timeout):
//!
//! - A learner tells its leader of the sessions that it heard of in its answers to the leader's pings, one every half
//!   tick. The last of those answers is on the link before the request is, and links keep their order. So when the leader
//!   takes a request that the client sent at `s`, it has counted the client as alive by whatever the learner had heard at
//!   `s - tick / 2`. Apache's leader does no more. Farrier's counts the forwarded request itself, and so does any leader
//!   with its own clients; there the session lives until `s + T`.
//! - While the lease is kept the client sends a `sync` every `T / 6` ([`beat_span`]). The leader's count is then not older
//!   than `s - tick / 2 - T / 6`, the session lives until `s + 5T / 6 - tick / 2` at least, and the lease ends at
//!   `s + 2T / 3`: in time if `T` is three ticks or more, by `T / 6 - tick / 2`. So late may the leader's pings be.
//! - That is not taken for granted: a client that begins to rely on its lease has sent pings every `T / 3` until then,
//!   timers are late, and what was sent may have been on its way for long. So what had been *answered* a quarter of `T`
//!   before `s` is remembered, and the lease begins a third of `T` after that had been sent, or at `s` if that is earlier
//!   ([`Touches::since`]). Such a lease ends before the session as long as half a tick is no more than that quarter: if
//!   `T` is two ticks or more, which servers see to unless `minSessionTimeout` is less. At two ticks nothing is left for pings that are late, but for what
//!   the leader adds when it rounds the end of a session up to a tick.
//!
//! A quorum confirms every write, and under Farrier's leaders every `sync`; a leader that took over in between gives all
//! sessions their whole timeout from then on. An Apache leader answers a `sync` by itself.

use crate::Time;
use farrier_proto::{ErrorCode, OpCode, Xid};
use std::collections::VecDeque;
use std::time::Duration;

/// Number of the `sync` that renews a lease, the only one on its way; no other request has it.
pub(super) const BEAT: Xid = Xid(i32::MAX);

/// How often a lease that is kept is renewed.
pub(super) fn beat_span(timeout: Duration) -> Duration {
    timeout / 6
}

/// How long a server may be silent while a lease is kept: that leaves a third of the timeout to find another one.
pub(super) fn silence_max(timeout: Duration) -> Duration {
    timeout / 3
}

/// The longest half tick that is reckoned with.
fn half_tick(timeout: Duration) -> Duration {
    timeout / 4
}

/// What was sent sooner after the last one that is remembered, is not. Forgetting makes a lease shorter, never longer.
fn spacing(timeout: Duration) -> Duration {
    timeout / 24
}

/// Whether an answer of this kind came through the leader. Of refusals only those that say what the leader knows best,
/// the newest state of the tree: others a server can give by itself, since it is too busy, say, or can't read the request.
pub(super) fn is_leaders(op: OpCode, err: i32) -> bool {
    match ErrorCode::from_code(err) {
        None if err == 0 => op.is_write() || op == OpCode::Sync,
        Some(
            ErrorCode::NoNode
            | ErrorCode::NodeExists
            | ErrorCode::BadVersion
            | ErrorCode::NotEmpty
            | ErrorCode::NoChildrenForEphemerals,
        ) => op.is_write(),
        Some(_) | None => false,
    }
}

/// What a connection's server has heard: each makes it count the client as alive.
#[derive(Debug)]
pub(super) struct Touches {
    /// When a request was sent, or earlier, and when its answer came: of the newest that was answered half a tick ago, and
    /// of later ones.
    heard: VecDeque<(Time, Time)>,
}

impl Touches {
    /// Of a connection whose session was asked for at `asked`: the leader itself hears of that.
    pub(super) fn new(asked: Time) -> Self {
        Self { heard: VecDeque::from([(asked, asked)]) }
    }

    /// What was sent at `sent` is answered now.
    pub(super) fn add(&mut self, sent: Time, now: Time, timeout: Duration) {
        // Not by when it was answered: behind a pause answers to old requests and to new ones come together.
        if self.heard.back().is_some_and(|last| sent < last.0 + spacing(timeout)) {
            return;
        }
        self.heard.push_back((sent, now));
        while self.heard.get(1).is_some_and(|next| next.1 + half_tick(timeout) <= now) {
            self.heard.pop_front();
        }
    }

    /// When that was sent by which the leader counts the client as alive once it takes what is sent now, at the earliest.
    fn counted(&self, now: Time, timeout: Duration) -> Time {
        let first = self.heard.front().expect("the first one is only removed for a later one");
        let old = self.heard.iter().take_while(|heard| heard.1 + half_tick(timeout) <= now);
        old.last().unwrap_or(first).0
    }

    /// When after `sent` the leader counts the client as alive by more than it did then, if it hears of nothing new.
    pub(super) fn counts_more(&self, sent: Time, timeout: Duration) -> Time {
        let mut counts = self.heard.iter().map(|heard| heard.1 + half_tick(timeout));
        counts.find(|at| *at > sent).unwrap_or(Time::MAX)
    }

    /// What [`crate::Lease::since`] is if what is sent now is answered through the leader.
    pub(super) fn since(&self, now: Time, timeout: Duration) -> Time {
        now.min(self.counted(now, timeout) + timeout / 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T: Duration = Duration::from_millis(12_000);

    const fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn regular_beats_give_the_whole_lease_and_pings_too_little() {
        let mut touches = Touches::new(at(0));
        assert_eq!(touches.since(at(0), T), at(0));
        for beat in 1..20 {
            assert_eq!(touches.since(at(beat * 2000), T), at(beat * 2000));
            touches.add(at(beat * 2000), at(beat * 2000 + 900), T);
        }
        let mut touches = Touches::new(at(0));
        touches.add(at(4000), at(4500), T);
        assert_eq!(touches.since(at(4500), T), at(4000), "the ping may not have been passed on yet");
        assert_eq!(touches.since(at(7499), T), at(4000));
        assert_eq!(touches.since(at(7500), T), at(7500), "now it was");
        assert_eq!((touches.counts_more(at(4600), T), touches.counts_more(at(7500), T)), (at(7500), Time::MAX));
        assert_eq!(touches.since(at(27_000), T), at(8000), "after a long silence");
    }

    #[test]
    fn what_only_the_leader_knows_is_a_proof() {
        assert!(is_leaders(OpCode::Sync, 0) && is_leaders(OpCode::Multi, 0) && is_leaders(OpCode::Delete, -101));
        assert!(!is_leaders(OpCode::GetData, 0) && !is_leaders(OpCode::GetData, -101) && !is_leaders(OpCode::Ping, 0));
        for local in
            [ErrorCode::ThrottledOp, ErrorCode::MarshallingError, ErrorCode::Unimplemented, ErrorCode::NotReadOnly]
        {
            assert!(!is_leaders(OpCode::Create, local.code()) && !is_leaders(OpCode::Sync, local.code()), "{local:?}");
        }
        assert!(!is_leaders(OpCode::Create, -9999), "nobody knows this one");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// A learner as it is, whose leader's pings come every half tick; it hears of the client after any delay and
        /// answers at once. No lease outlives the session.
        #[test]
        fn no_lease_outlives_its_session(
            requests in prop::collection::vec((1u64..6000, prop_oneof![0u64..50, 0u64..9000]), 1..60),
            tick in 500u64..=6000,
            first_ping in 0u64..3000,
        ) {
            let timeout = 12_000;
            let mut touches = Touches::new(at(0));
            // When the leader counted the session last, and whether the learner heard of it since.
            let (mut counted, mut heard, mut ping) = (0, false, first_ping % (tick / 2));
            let mut on_its_way = VecDeque::new();
            let (mut now, mut arrived) = (0, 0);
            let last = (u64::MAX / 4_000_000, 0);
            for (pause, delay) in requests.into_iter().chain([last]) {
                now += pause;
                while let Some((sent, arrives, since)) = on_its_way.pop_front_if(|(_, arrives, _)| *arrives <= now) {
                    while ping <= arrives {
                        if std::mem::take(&mut heard) {
                            counted = ping;
                        }
                        ping += tick / 2;
                    }
                    if arrives >= counted + timeout {
                        return Ok(());
                    }
                    heard = true;
                    touches.add(at(sent), at(arrives), T);
                    let lease = crate::Lease { session: farrier_proto::SessionId(1), since, timeout: T };
                    prop_assert!(lease.ends() <= at(counted + timeout), "sent at {sent}, counted at {counted}");
                }
                arrived = arrived.max(now + delay);
                on_its_way.push_back((now, arrived, touches.since(at(now), T)));
            }
        }
    }
}
