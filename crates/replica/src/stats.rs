//! Counters of the server and its connections, as the four-letter words show them.

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct LatencyStats {
    count: u64,
    sum: u64,
    min: u64,
    max: u64,
}

impl LatencyStats {
    pub(crate) fn record(&mut self, ms: u64) {
        self.min = if self.count == 0 { ms } else { self.min.min(ms) };
        self.max = self.max.max(ms);
        self.count += 1;
        self.sum += ms;
    }

    /// Smallest; 0 before the first.
    #[must_use]
    pub const fn min(&self) -> u64 {
        self.min
    }

    /// Largest.
    #[must_use]
    pub const fn max(&self) -> u64 {
        self.max
    }

    /// How many.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Sum and count, for an average.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// Mean; 0 before the first.
    #[must_use]
    pub fn average(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }
}

/// Sizes in bytes, since the last `srst`: of the transactions that a leader proposed since it leads, or of replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Of the newest; -1 before the first, as the others.
    pub last: i64,
    /// Smallest.
    pub min: i64,
    /// Largest.
    pub max: i64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { last: -1, min: -1, max: -1 }
    }
}

impl Sizes {
    pub(crate) fn record(&mut self, len: usize) {
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        self.min = if self.last < 0 { len } else { self.min.min(len) };
        self.max = self.max.max(len);
        self.last = len;
    }
}

/// Counters since the start or the last `srst`.
#[derive(Clone, Debug, Default)]
pub struct ServerStats {
    /// Of requests, from arrival to reply.
    pub latency: LatencyStats,
    /// Frames received.
    pub received: u64,
    /// Frames sent: replies and events.
    pub sent: u64,
    /// Connections refused by the throttle at their connect request.
    pub rejected_connections: u64,
    /// Requests answered -127.
    pub throttled_ops: u64,
    /// Requests refused because large ones in flight used up their budget.
    pub rejected_large: u64,
    /// Connections that ended before their session did: clients that went away, and those that were closed because they
    /// did not read or had waited too long.
    pub dropped_connections: u64,
    /// Of replies and events.
    pub reply_sizes: Sizes,
    /// Failed authentications.
    pub auth_failures: u64,
    /// Sessions expired.
    pub expired_sessions: u64,
    /// Snapshots written.
    pub snapshots: u64,
    /// Transactions whose predicted digest was not the tree's.
    pub digest_mismatches: u64,
    /// Transactions committed.
    pub commits: u64,
}
