//! Connections per address and in total.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

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
        let mut counts = self.counts.lock().expect("nothing panics while it holds this lock");
        if self.total > 0 && counts.total >= self.total {
            return Err(Excess::Total);
        }
        let here = counts.by_address.entry(address).or_insert(0);
        if self.per_address > 0 && *here >= self.per_address {
            return Err(Excess::Address);
        }
        *here += 1;
        counts.total += 1;
        Ok(())
    }

    /// An admitted socket is gone.
    pub(crate) fn leave(&self, address: IpAddr) {
        let mut counts = self.counts.lock().expect("nothing panics while it holds this lock");
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
    fn both_limits_hold_and_are_given_back() {
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let limits = ConnectionLimits::new(2, 3);
        assert_eq!(limits.enter(a), Ok(()));
        assert_eq!(limits.enter(a), Ok(()));
        assert_eq!(limits.enter(a), Err(Excess::Address));
        assert_eq!(limits.enter(b), Ok(()));
        assert_eq!(limits.enter(b), Err(Excess::Total));
        limits.leave(a);
        assert_eq!(limits.enter(b), Ok(()));
    }
}
