//! Connections per address and in total.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};

/// File descriptors that no client gets, since a server that cannot open the next segment of its log halts. They are for
/// files, for the workers and their listeners, and for what connects to the two ports for the other servers.
const DESCRIPTORS_KEPT: u64 = 256;

/// How many of the descriptors that a process may have are for clients, the lowest ones first.
pub(crate) fn descriptors_for_clients(limit: u64) -> u64 {
    limit - DESCRIPTORS_KEPT.min(limit / 2)
}

/// Why a connection was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    /// `maxClientCnxns`.
    Address,
    /// `maxCnxns`.
    Total,
}

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    by_address: HashMap<IpAddr, u32>,
    refused: u64,
}

/// Counts open sockets against `maxClientCnxns` and `maxCnxns`; 0 is no limit.
#[derive(Debug)]
pub(crate) struct ConnectionLimits {
    per_address: u32,
    total: u32,
    counts: Mutex<Counts>,
}

impl ConnectionLimits {
    pub(crate) fn new(per_address: u32, total: u32) -> Self {
        Self { per_address, total, counts: Mutex::default() }
    }

    /// Admits a socket, or says which limit it would exceed.
    pub(crate) fn enter(&self, address: IpAddr) -> Result<(), Excess> {
        let mut counts = self.counts();
        if self.total > 0 && counts.total >= self.total {
            counts.refused += 1;
            return Err(Excess::Total);
        }
        let here = counts.by_address.entry(address).or_insert(0);
        if self.per_address > 0 && *here >= self.per_address {
            counts.refused += 1;
            return Err(Excess::Address);
        }
        *here += 1;
        counts.total += 1;
        Ok(())
    }

    /// A socket was not admitted for another reason.
    pub(crate) fn refuse(&self) {
        self.counts().refused += 1;
    }

    /// Sockets that were not admitted since [`Self::reset`].
    pub(crate) fn refused(&self) -> u64 {
        self.counts().refused
    }

    /// `srst`.
    pub(crate) fn reset(&self) {
        self.counts().refused = 0;
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("nothing panics while it holds this lock")
    }

    /// An admitted socket is gone.
    pub(crate) fn leave(&self, address: IpAddr) {
        let mut counts = self.counts();
        counts.total -= 1;
        if let Some(here) = counts.by_address.get_mut(&address) {
            *here -= 1;
            if *here == 0 {
                counts.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_kept_and_tiny_limits_are_halved() {
        assert_eq!(descriptors_for_clients(1024), 768);
        assert_eq!(descriptors_for_clients(64), 32);
        assert_eq!(descriptors_for_clients(0), 0);
        assert_eq!(descriptors_for_clients(u64::MAX), u64::MAX - DESCRIPTORS_KEPT);
    }

    #[test]
    fn both_limits_hold_and_are_given_back() {
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let limits = ConnectionLimits::new(2, 3);
        assert_eq!(limits.enter(a), Ok(()));
        assert_eq!(limits.enter(a), Ok(()));
        assert_eq!(limits.enter(a), Err(Excess::Address));
        assert_eq!(limits.enter(b), Ok(()));
        assert_eq!(limits.enter(b), Err(Excess::Total));
        assert_eq!(limits.refused(), 2);
        limits.reset();
        assert_eq!(limits.refused(), 0);
        limits.leave(a);
        assert_eq!(limits.enter(b), Ok(()));
    }
}
