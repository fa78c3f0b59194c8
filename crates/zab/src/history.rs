//! The end of the log in memory: what learners may lack, and what is logged and not yet delivered.

use bytes::Bytes;
use farrier_proto::Zxid;
use std::collections::VecDeque;

/// A contiguous run of logged transactions that ends with the last one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct History {
    /// The transaction directly before the first entry.
    floor: Zxid,
    entries: VecDeque<(Zxid, Bytes)>,
    bytes: usize,
    /// The last delivered transaction; never below `floor`.
    delivered: Zxid,
}

impl History {
    /// Of a state that has everything up to `last`.
    pub(crate) const fn new(last: Zxid) -> Self {
        Self { floor: last, entries: VecDeque::new(), bytes: 0, delivered: last }
    }

    /// The last transaction handed to the log; it may not be durable yet.
    pub(crate) fn last(&self) -> Zxid {
        self.entries.back().map_or(self.floor, |(zxid, _)| *zxid)
    }

    /// The last delivered transaction.
    pub(crate) const fn delivered(&self) -> Zxid {
        self.delivered
    }

    /// The transaction directly before the first one in memory.
    pub(crate) const fn floor(&self) -> Zxid {
        self.floor
    }

    /// Adds the next transaction.
    ///
    /// # Panics
    /// When it does not follow the last one.
    pub(crate) fn append(&mut self, zxid: Zxid, txn: Bytes) {
        assert!(zxid.follows(self.last()), "{zxid} does not follow {}, the end of the history", self.last());
        self.bytes += txn.len();
        self.entries.push_back((zxid, txn));
    }

    /// The transaction directly behind `zxid`, which is at or above the floor.
    pub(crate) fn after(&self, zxid: Zxid) -> Option<&(Zxid, Bytes)> {
        assert!(zxid >= self.floor, "{zxid} is below the history in memory, which begins behind {}", self.floor);
        self.entries.get(self.place_behind(zxid))
    }

    /// How many entries are at or below `zxid`. Within an epoch zxids are consecutive, so that it mostly follows from the
    /// last one's.
    fn place_behind(&self, zxid: Zxid) -> usize {
        let behind = self.last().get().checked_sub(zxid.get()).and_then(|n| usize::try_from(n).ok());
        let place = behind.and_then(|n| self.entries.len().checked_sub(n));
        match place.and_then(|n| n.checked_sub(1)) {
            Some(i) if self.entries[i].0 == zxid => i + 1,
            _ => self.entries.partition_point(|(z, _)| *z <= zxid),
        }
    }

    /// The newest transaction at or below `zxid`, which is at or above the floor.
    pub(crate) fn at_or_before(&self, zxid: Zxid) -> Zxid {
        assert!(zxid >= self.floor, "{zxid} is below the history in memory, which begins behind {}", self.floor);
        self.place_behind(zxid).checked_sub(1).map_or(self.floor, |i| self.entries[i].0)
    }

    /// What is not delivered yet, in order.
    pub(crate) fn undelivered(&self) -> impl Iterator<Item = &Bytes> {
        self.entries.range(self.place_behind(self.delivered)..).map(|(_, txn)| txn)
    }

    /// The next transaction to deliver, which is delivered with this.
    pub(crate) fn deliver_next(&mut self) -> Option<(Zxid, Bytes)> {
        let next = self.after(self.delivered).cloned()?;
        self.delivered = next.0;
        Some(next)
    }

    /// Forgets what is behind `zxid`; the log is being cut there. A state that was delivered beyond is brought back
    /// by whoever holds it.
    pub(crate) fn truncate(&mut self, zxid: Zxid) {
        if zxid < self.floor {
            *self = Self::new(zxid);
            return;
        }
        while let Some((last, _)) = self.entries.back()
            && *last > zxid
        {
            let (_, txn) = self.entries.pop_back().expect("there is a last one");
            self.bytes -= txn.len();
        }
        assert_eq!(self.last(), zxid, "the log is cut behind one of its transactions");
        self.delivered = self.delivered.min(zxid);
    }

    /// Drops delivered transactions from the front beyond a number and a size.
    pub(crate) fn trim(&mut self, txns: usize, bytes: usize) {
        while (self.entries.len() > txns || self.bytes > bytes)
            && let Some((zxid, txn)) = self.entries.front()
            && *zxid <= self.delivered
        {
            if !farrier_proto::planted!(WindowHasAGap) {
                self.floor = *zxid;
            }
            self.bytes -= txn.len();
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_delivered_yet_comes_in_order() {
        let mut history = History::new(Zxid::new(1, 3));
        let left = |history: &History| history.undelivered().cloned().collect::<Vec<_>>();
        assert!(left(&history).is_empty());
        for (zxid, txn) in [(Zxid::new(1, 4), "a"), (Zxid::new(1, 5), "b"), (Zxid::new(2, 1), "c")] {
            history.append(zxid, Bytes::from_static(txn.as_bytes()));
        }
        for expected in [&["a", "b", "c"][..], &["b", "c"], &["c"], &[]] {
            assert_eq!(left(&history), expected);
            history.deliver_next();
        }
    }

    fn filled() -> History {
        let mut history = History::new(Zxid::new(1, 3));
        for zxid in [Zxid::new(1, 4), Zxid::new(1, 5), Zxid::new(2, 1)] {
            history.append(zxid, Bytes::from_static(b"xx"));
        }
        history
    }

    #[test]
    fn neighbours() {
        let h = filled();
        assert_eq!(h.last(), Zxid::new(2, 1));
        assert_eq!(h.after(Zxid::new(1, 5)).map(|e| e.0), Some(Zxid::new(2, 1)));
        assert_eq!(h.after(Zxid::new(1, 9)).map(|e| e.0), Some(Zxid::new(2, 1)));
        assert_eq!(h.after(Zxid::new(2, 1)), None);
        assert_eq!(h.at_or_before(Zxid::new(1, 9)), Zxid::new(1, 5));
        assert_eq!(h.at_or_before(Zxid::new(1, 3)), Zxid::new(1, 3));
    }

    /// The guess and the search find the same place, wherever epochs begin.
    #[test]
    fn the_place_behind_any_zxid() {
        let mut h = History::new(Zxid::new(1, 3));
        for (epoch, counters) in [(1, 4..9), (2, 1..3), (5, 1..2), (6, 1..12)] {
            for counter in counters {
                h.append(Zxid::new(epoch, counter), Bytes::from_static(b"x"));
            }
        }
        for zxid in (1..8).flat_map(|epoch| (0..14).map(move |counter| Zxid::new(epoch, counter))) {
            let expected = h.entries.iter().filter(|(z, _)| *z <= zxid).count();
            assert_eq!(h.place_behind(zxid), expected, "behind {zxid}");
        }
    }

    #[test]
    fn only_delivered_transactions_leave() {
        let mut h = filled();
        h.trim(0, 0);
        assert_eq!(h.floor(), Zxid::new(1, 3), "nothing is delivered yet");
        assert_eq!(h.deliver_next().map(|e| e.0), Some(Zxid::new(1, 4)));
        h.trim(0, 0);
        assert_eq!((h.floor(), h.last()), (Zxid::new(1, 4), Zxid::new(2, 1)));
        h.deliver_next();
        h.trim(2, 100);
        assert_eq!(h.floor(), Zxid::new(1, 4), "two may stay");
    }

    #[test]
    fn a_cut_takes_the_delivery_back() {
        let mut h = filled();
        while h.deliver_next().is_some() {}
        h.truncate(Zxid::new(1, 5));
        assert_eq!((h.last(), h.delivered()), (Zxid::new(1, 5), Zxid::new(1, 5)));
        h.truncate(Zxid::new(1, 1));
        assert_eq!((h.last(), h.floor()), (Zxid::new(1, 1), Zxid::new(1, 1)));
    }

    #[test]
    #[should_panic(expected = "does not follow")]
    fn a_gap_is_a_broken_invariant() {
        filled().append(Zxid::new(2, 3), Bytes::new());
    }
}
