//! `dump`: sessions and connections by the moment at which they expire, and who owns ephemerals.

use super::java_address;
use crate::worker::WorkerContext;
use farrier_replica::ConnectionInfo;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;

/// Apache puts connections into buckets as wide as the time that one may stay without a session, by their
/// last activity; what was answered last stands for that here.
struct Buckets {
    /// Milliseconds.
    sessionless: u64,
}

impl Buckets {
    /// Monotonic milliseconds at which the bucket of a connection ends that was active at `at`.
    const fn end(&self, at: u64, timeout: u64) -> u64 {
        (at.saturating_add(timeout) / self.sessionless + 1).saturating_mul(self.sessionless)
    }

    fn of(&self, c: &ConnectionInfo) -> u64 {
        let timeout = if c.session.is_some() { u64::from(c.timeout.unsigned_abs()) } else { self.sessionless };
        self.end(c.established.mono.max(c.last_response), timeout)
    }
}

pub(super) fn text(context: &WorkerContext, asking: SocketAddr) -> String {
    let clock = *context.core().clock();
    let sessionless = u64::try_from(context.sessionless_timeout().as_millis()).unwrap_or(u64::MAX).max(1);
    let buckets = Buckets { sessionless };
    context.core().with(|s| {
        let replica = &*s.replica;
        let tree = replica.tree();
        let mut out = String::from("SessionTracker dump:\n");
        if replica.is_learning() {
            // When they expire is the leader's to know.
            let _ = writeln!(out, "Global Sessions({}):", tree.session_count());
            for (session, timeout) in tree.sessions() {
                let _ = writeln!(out, "{session}\t{timeout}ms");
            }
        } else {
            let sessions = replica.session_buckets();
            let _ = writeln!(out, "Session Sets ({})/({}):", sessions.len(), replica.session_count());
            for bucket in &sessions {
                put_set(&mut out, clock.wall_of(bucket.expires), &bucket.sessions);
            }
        }
        let owners: BTreeSet<_> = tree.ephemeral_owners().collect();
        let _ = writeln!(out, "ephemeral nodes dump:\nSessions with Ephemerals ({}):", owners.len());
        for owner in owners {
            let _ = writeln!(out, "{owner}:");
            for path in tree.ephemerals(owner) {
                let _ = writeln!(out, "\t{path}");
            }
        }
        let line = |peer, session: &dyn std::fmt::Display| format!("ip: {} sessionId: {session}", java_address(peer));
        let mut sets: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        let connections = replica.connections();
        for c in &connections {
            sets.entry(buckets.of(c)).or_default().push(line(c.peer, &c.session.unwrap_or_default()));
        }
        let end = buckets.end(clock.now().mono, sessionless);
        sets.entry(end).or_default().push(line(asking, &"0x0"));
        let _ = writeln!(out, "Connections dump:\nConnections Sets ({})/({}):", sets.len(), connections.len() + 1);
        for (end, set) in &sets {
            put_set(&mut out, clock.wall_of(*end), set);
        }
        out
    })
}

fn put_set(out: &mut String, wall_ms: i64, items: &[impl std::fmt::Display]) {
    let _ = writeln!(out, "{} expire at {}:", items.len(), java_date(wall_ms));
    for item in items {
        let _ = writeln!(out, "\t{item}");
    }
}

/// `java.util.Date.toString` in UTC.
fn java_date(wall_ms: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = wall_ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to civil date, in eras of 400 years that begin on 1 March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = year_of_era + era * 400 + i64::from(month < 2);
    format!(
        "{} {} {day:02} {:02}:{:02}:{:02} UTC {year}",
        DAYS[days.rem_euclid(7) as usize],
        MONTHS[month as usize],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_java_prints_them() {
        assert_eq!(java_date(0), "Thu Jan 01 00:00:00 UTC 1970");
        assert_eq!(java_date(1_795_367_710_000), "Sun Nov 22 17:15:10 UTC 2026");
        assert_eq!(java_date(951_782_400_000), "Tue Feb 29 00:00:00 UTC 2000");
    }

    #[test]
    fn a_bucket_ends_behind_the_timeout_and_at_most_its_width_later() {
        let buckets = Buckets { sessionless: 10_000 };
        for (at, timeout, end) in [(0, 0, 10_000), (0, 9_999, 10_000), (0, 10_000, 20_000), (12_345, 30_000, 50_000)] {
            assert_eq!(buckets.end(at, timeout), end);
        }
        assert!(buckets.end(u64::MAX, 1) > 0, "no overflow");
    }
}
