//! Which server is next, and when.

use crate::chance::Random;
use crate::connect_string::Host;
use crate::limits::{BACKOFF_MAX, BACKOFF_MIN};
use std::sync::Arc;
use std::time::Duration;

/// Failures that a message names; with more servers the rest is counted.
const FAILURES_SHOWN: usize = 3;

/// The servers in a random order, tried in turn. Within a round nobody waits; between rounds everybody does, for
/// a random time, so that the clients of a server that dies do not come to the next one in step.
#[derive(Debug)]
pub(crate) struct Hosts {
    hosts: Vec<Host>,
    failures: Vec<Option<Arc<str>>>,
    next: usize,
    tried: usize,
    rounds: u32,
    random: Random,
}

impl Hosts {
    pub(crate) fn new(mut hosts: Vec<Host>, seed: u64) -> Self {
        assert!(!hosts.is_empty(), "a connect string names a server");
        let mut random = Random(seed);
        for i in (1..hosts.len()).rev() {
            hosts.swap(i, random.below(i as u64 + 1) as usize);
        }
        Self { failures: vec![None; hosts.len()], hosts, next: 0, tried: 0, rounds: 0, random }
    }

    pub(crate) fn len(&self) -> usize {
        self.hosts.len()
    }

    pub(crate) fn get(&self, index: usize) -> &Host {
        &self.hosts[index]
    }

    /// The server to try now.
    pub(crate) fn advance(&mut self) -> usize {
        let index = self.next;
        self.next = (self.next + 1) % self.hosts.len();
        self.tried += 1;
        index
    }

    /// How long to wait before the next try.
    pub(crate) fn pause(&mut self) -> Duration {
        if self.tried < self.hosts.len() {
            return Duration::ZERO;
        }
        self.tried = 0;
        let span = BACKOFF_MIN.saturating_mul(1 << self.rounds.min(16)).min(BACKOFF_MAX);
        self.rounds = self.rounds.saturating_add(1);
        let half = span / 2;
        half + Duration::from_nanos(self.random.below(u64::try_from(half.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// A good connection was lost: what failed before it counts no longer.
    pub(crate) fn forget(&mut self) {
        (self.tried, self.rounds) = (0, 0);
        self.failures.fill(None);
    }

    /// Makes `index` the next to be tried.
    pub(crate) fn prefer(&mut self, index: usize) {
        self.next = index;
    }

    /// The neighbour of `index`.
    pub(crate) fn after(&self, index: usize) -> usize {
        (index + 1) % self.hosts.len()
    }

    pub(crate) fn failed(&mut self, index: usize, reason: &Arc<str>) {
        self.failures[index] = Some(Arc::clone(reason));
    }

    /// The failures so far, for messages.
    pub(crate) fn describe(&self) -> String {
        let failed: Vec<String> = (self.hosts.iter().zip(&self.failures))
            .filter_map(|(host, failure)| Some(format!("{host}: {}", failure.as_ref()?)))
            .collect();
        match failed.len() {
            0 => "no server has answered yet".to_owned(),
            n if n <= FAILURES_SHOWN => failed.join("; "),
            n => format!("{}; and {} more", failed[..FAILURES_SHOWN].join("; "), n - FAILURES_SHOWN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(n: u16, seed: u64) -> Hosts {
        Hosts::new((1..=n).map(|port| Host { name: "h".into(), port }).collect(), seed)
    }

    #[test]
    fn a_round_tries_each_server_once_without_a_pause() {
        let mut ring = hosts(3, 1);
        let mut seen = Vec::new();
        for _ in 0..3 {
            assert_eq!(ring.pause(), Duration::ZERO);
            seen.push(ring.advance());
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2]);
        assert!(ring.pause() >= BACKOFF_MIN / 2);
    }

    #[test]
    fn pauses_grow_to_a_bound_and_differ_between_clients() {
        let pauses = |seed| {
            let mut ring = hosts(1, seed);
            (0..20).map(|_| (ring.advance(), ring.pause()).1).collect::<Vec<_>>()
        };
        let (a, b) = (pauses(1), pauses(2));
        assert_ne!(a, b);
        assert!(a[0] < BACKOFF_MIN && a.iter().all(|p| *p >= BACKOFF_MIN / 2 && *p <= BACKOFF_MAX));
        assert!(a[19] >= BACKOFF_MAX / 2);
    }

    #[test]
    fn clients_begin_at_different_servers() {
        let first: std::collections::BTreeSet<u16> = (0..50).map(|seed| hosts(3, seed).get(0).port).collect();
        assert_eq!(first.len(), 3);
    }
}
