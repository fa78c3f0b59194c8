//! Identifiers. Each counter has its own type, so that an epoch cannot be compared with a round or a
//! session with a server by accident.

use std::fmt;

/// Identifier of a transaction: epoch in the high 32 bits, counter in the low 32.
///
/// Signed on the wire and on disk, unsigned here: the order is the total order of transactions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Zxid(u64);

impl Zxid {
    /// Before the first transaction.
    pub const ZERO: Self = Self(0);

    /// The transaction `counter` of `epoch`.
    #[must_use]
    pub const fn new(epoch: u32, counter: u32) -> Self {
        Self(((epoch as u64) << 32) | counter as u64)
    }

    /// From the signed integer of wire and disk.
    #[must_use]
    pub const fn from_wire(raw: i64) -> Self {
        Self(raw.cast_unsigned())
    }

    /// The signed integer of wire and disk.
    #[must_use]
    pub const fn to_wire(self) -> i64 {
        self.0.cast_signed()
    }

    /// The number that stands, in hexadecimal, in file names.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// High half: the epoch of the leader that proposed it (0 for a standalone server).
    #[must_use]
    pub const fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Low half: position within the epoch.
    #[must_use]
    pub const fn counter(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// The next transaction of the same epoch, or `None` when the counter is used up.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        if self.counter() == u32::MAX { None } else { Some(Self(self.0 + 1)) }
    }

    /// Whether `self` may directly follow `before` in a history: the next counter of the same epoch,
    /// or counter 0 or 1 of a later one.
    ///
    /// A new leader's first proposal has counter 1; counter 0 is the epoch's NEWLEADER, which is not
    /// logged by a leader but names snapshots.
    #[must_use]
    pub const fn follows(self, before: Self) -> bool {
        if self.epoch() == before.epoch() {
            self.0 == before.0.wrapping_add(1)
        } else {
            self.epoch() > before.epoch() && self.counter() <= 1
        }
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zxid({:#x})", self.0)
    }
}

/// Identifier of a session. Negative values are ordinary (server ids from 128 on).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(pub i64);

impl SessionId {
    /// "No session": asks for a new one in a handshake, and stands in transactions that the server
    /// originates.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({:#x})", self.0)
    }
}

/// A server's number in its ensemble (`myid`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServerId(pub i64);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A client's number for a request. Echoed; never interpreted, except for pings.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Xid(pub i32);

impl Xid {
    /// Server to client: a watch event.
    pub const NOTIFICATION: Self = Self(-1);
    /// Every reply to a ping carries it, whatever the request carried.
    pub const PING: Self = Self(-2);
    /// Conventional for auth packets.
    pub const AUTH: Self = Self(-4);
    /// Conventional for setWatches in clients other than Java's.
    pub const SET_WATCHES: Self = Self(-8);
}

/// The highest epoch that a server promised not to go below (file `acceptedEpoch`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct AcceptedEpoch(pub u32);

/// The epoch of the last leader whose history a server adopted (file `currentEpoch`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CurrentEpoch(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zxid_halves_and_order() {
        let z = Zxid::new(2, 5);
        assert_eq!((z.epoch(), z.counter(), z.get()), (2, 5, 0x2_0000_0005));
        assert_eq!(z.to_string(), "0x200000005");
        assert_eq!(Zxid::from_wire(z.to_wire()), z);
        assert!(Zxid::from_wire(-1) > z, "the order is unsigned");
        assert_eq!(Zxid::new(1, u32::MAX).next(), None);
    }

    #[test]
    fn follows_within_and_across_epochs() {
        assert!(Zxid::new(1, 3).follows(Zxid::new(1, 2)));
        assert!(!Zxid::new(1, 4).follows(Zxid::new(1, 2)));
        assert!(!Zxid::new(1, 2).follows(Zxid::new(1, 2)));
        assert!(Zxid::new(3, 1).follows(Zxid::new(1, 900)));
        assert!(!Zxid::new(3, 2).follows(Zxid::new(1, 900)));
        assert!(!Zxid::new(1, 1).follows(Zxid::new(2, 0)));
        let last = Zxid::from_wire(-1);
        assert!(!Zxid::ZERO.follows(last) && !last.follows(last), "nothing follows the last one");
    }
}
