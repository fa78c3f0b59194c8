//! Who is alive: sessions in buckets by the tick in which they expire.
//!
//! A session that is touched at `t` with timeout `T` expires at the end of the tick that `t + T` falls
//! into: never before `T` has passed, and at most one tick later (`ExpiryQueue` in Apache).

use crate::io::Time;
use farrier_proto::SessionId;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
struct Tracked {
    timeout: u64,
    expires: u64,
}

#[derive(Debug)]
pub(crate) struct SessionTracker {
    tick: u64,
    sessions: HashMap<SessionId, Tracked, foldhash::fast::FixedState>,
    buckets: BTreeMap<u64, BTreeSet<SessionId>>,
    /// Nothing expires before: set when the process was not scheduled for a while, so that pings which
    /// wait in socket buffers are heard first (safety contract 5.2).
    hold_until: u64,
}

impl SessionTracker {
    pub(crate) fn new(tick: u64) -> Self {
        assert!(tick > 0, "a tick lasts at least a millisecond");
        Self { tick, sessions: HashMap::default(), buckets: BTreeMap::new(), hold_until: 0 }
    }

    /// Starts to track a session, or gives a tracked one another timeout.
    pub(crate) fn add(&mut self, session: SessionId, timeout: i32, now: Time) {
        let timeout = u64::try_from(timeout).unwrap_or(0);
        let expires = bucket(self.tick, now.mono + timeout);
        if let Some(old) = self.sessions.insert(session, Tracked { timeout, expires }) {
            self.leave(session, old.expires);
        }
        self.buckets.entry(expires).or_default().insert(session);
    }

    /// Notes a sign of life. False for a session that is not tracked.
    pub(crate) fn touch(&mut self, session: SessionId, now: Time) -> bool {
        let tick = self.tick;
        let Some(t) = self.sessions.get_mut(&session) else { return false };
        let expires = bucket(tick, now.mono + t.timeout);
        if expires > t.expires {
            let old = std::mem::replace(&mut t.expires, expires);
            self.leave(session, old);
            self.buckets.entry(expires).or_default().insert(session);
        }
        true
    }

    /// Notes a sign of life that somebody else took, with the timeout that the session has there. False for a
    /// session that is not tracked.
    pub(crate) fn touch_with(&mut self, session: SessionId, timeout: i32, now: Time) -> bool {
        let timeout_ms = u64::try_from(timeout).unwrap_or(0);
        match self.sessions.get(&session) {
            None => return false,
            Some(t) if t.timeout == timeout_ms || timeout_ms == 0 => {}
            Some(_) => self.add(session, timeout, now),
        }
        self.touch(session, now)
    }

    pub(crate) fn remove(&mut self, session: SessionId) {
        if let Some(t) = self.sessions.remove(&session) {
            self.leave(session, t.expires);
        }
    }

    pub(crate) fn contains(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    fn leave(&mut self, session: SessionId, bucket: u64) {
        if let Some(b) = self.buckets.get_mut(&bucket) {
            b.remove(&session);
            if b.is_empty() {
                self.buckets.remove(&bucket);
            }
        }
    }

    /// Nothing expires before `until`.
    pub(crate) fn hold(&mut self, until: u64) {
        self.hold_until = self.hold_until.max(until);
    }

    /// When [`Self::expire`] has something to do next.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        self.buckets.keys().next().map(|b| (*b).max(self.hold_until))
    }

    /// Takes the sessions whose time is up, in order of their ids per bucket.
    pub(crate) fn expire(&mut self, now: Time) -> Vec<SessionId> {
        let mut out = Vec::new();
        if now.mono < self.hold_until {
            return out;
        }
        while let Some(entry) = self.buckets.first_entry() {
            if *entry.key() > now.mono {
                break;
            }
            for session in entry.remove() {
                self.sessions.remove(&session);
                out.push(session);
            }
        }
        out
    }

    /// Buckets with their sessions, by time.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (u64, &BTreeSet<SessionId>)> {
        self.buckets.iter().map(|(at, sessions)| (*at, sessions))
    }
}

/// End of the tick that `at` falls into.
const fn bucket(tick: u64, at: u64) -> u64 {
    (at / tick + 1) * tick
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(mono: u64) -> Time {
        Time { mono, wall: 0 }
    }

    #[test]
    fn never_before_the_timeout_and_at_most_a_tick_after() {
        for start in [0, 1, 1999, 2000, 2001] {
            let mut t = SessionTracker::new(2000);
            t.add(SessionId(1), 4000, at(start));
            assert!(t.expire(at(start + 4000)).is_empty(), "from {start}");
            assert_eq!(t.expire(at(start + 6000)), vec![SessionId(1)], "from {start}");
            assert_eq!(t.len(), 0);
        }
    }

    #[test]
    fn a_touch_moves_the_session_on() {
        let mut t = SessionTracker::new(1000);
        t.add(SessionId(1), 3000, at(0));
        t.add(SessionId(2), 3000, at(0));
        assert!(t.touch(SessionId(1), at(2500)));
        assert_eq!(t.expire(at(4000)), vec![SessionId(2)]);
        assert!(!t.touch(SessionId(2), at(4000)), "gone");
        assert_eq!(t.next_expiry(), Some(6000));
        t.remove(SessionId(1));
        assert_eq!(t.next_expiry(), None);
    }

    #[test]
    fn another_timeout_counts_from_now_on() {
        let mut t = SessionTracker::new(1000);
        t.add(SessionId(1), 2000, at(0));
        t.add(SessionId(1), 9000, at(500));
        assert_eq!(t.len(), 1);
        assert!(t.expire(at(9400)).is_empty());
        assert_eq!(t.expire(at(10_500)), vec![SessionId(1)]);
    }

    #[test]
    fn nothing_expires_while_held() {
        let mut t = SessionTracker::new(1000);
        t.add(SessionId(1), 2000, at(0));
        t.hold(8000);
        assert!(t.expire(at(7999)).is_empty());
        assert_eq!(t.next_expiry(), Some(8000));
        assert!(t.touch(SessionId(1), at(7999)), "a ping that waited is heard");
        assert!(t.expire(at(8000)).is_empty());
    }
}
