//! The table: what each line compares, what its target is, and whether that is met.

use super::figures::{Figures, Metric, Ratio, Who};
use crate::report::{Table, number};

/// What Farrier has to reach.
#[derive(Clone, Copy, Debug)]
enum Target {
    /// At most so many times Apache's figure.
    AtMostOfApache(f64),
    /// At least so many times Apache's figure.
    AtLeastOfApache(f64),
    /// At most so much, whatever others do.
    AtMost(f64),
    /// At most so many times what the machine itself takes; the row of that.
    AtMostOfFloor(f64, &'static str),
    /// Nothing was promised; the row of what the machine itself takes.
    BesideFloor(&'static str),
    /// Nothing was promised.
    None,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
struct Line {
    what: &'static str,
    row: &'static str,
    metric: Metric,
    target: Target,
    /// The target as it is promised.
    promised: &'static str,
}

const fn line(what: &'static str, row: &'static str, metric: Metric, target: Target, promised: &'static str) -> Line {
    Line { what, row, metric, target, promised }
}

impl Line {
    const fn promises_nothing(&self) -> bool {
        matches!(self.target, Target::BesideFloor(_) | Target::None)
    }
}

/// The row of what the disk and the loopback interface take for one write to three servers.
pub(super) const WRITE_FLOOR: &str = "floor of set3-1x1";
/// The rows of bare sends to so many watchers.
pub(super) const HERALD_FLOORS: [(&str, usize); 2] = [("send-1000", 1000), ("send-10000", 10_000)];
/// The row of sessions on three servers that only answer.
pub(super) const DOOR_FLOOR: &str = "answer3-16";

const LINES: &[Line] = {
    use Metric::{Bytes, CpuUs, Mb, P50Ms, P99Ms, Rate, Seconds, Share};
    use Target::{AtLeastOfApache as Least, AtMost, AtMostOfApache as Most, AtMostOfFloor as Floor, BesideFloor};
    &[
        line("get, 64 × 1", "get-64x1", CpuUs, Most(1.0 / 3.0), "≤ 1/3"),
        line("get, 64 × 1, beside a bare echo", "get-64x1", CpuUs, Floor(1.3, "echo-64x1"), "≤ 1.3× echo"),
        line("get, 64 × 1", "get-64x1", Rate, Least(2.0), "≥ 2×"),
        line("get, 16 × 64", "get-16x64", CpuUs, Most(1.0 / 15.0), "≤ 1/15"),
        line("get, 16 × 64", "get-16x64", Rate, Least(8.0), "≥ 8×"),
        line("set, one server, 16 × 64", "set-16x64", CpuUs, Most(1.0 / 8.0), "≤ 1/8"),
        line("set, one server, 16 × 64", "set-16x64", Rate, Least(4.0), "≥ 4×"),
        line("create, one server, 16 × 64", "create-16x64", CpuUs, Most(1.0 / 8.0), "≤ 1/8"),
        line("create, one server, 16 × 64", "create-16x64", Rate, Least(4.0), "≥ 4×"),
        line("set, three servers, 16 × 64, CPU of all", "set3-16x64", CpuUs, Most(1.0 / 8.0), "≤ 1/8"),
        line("set, three servers, 16 × 64", "set3-16x64", Rate, Least(4.0), "≥ 4×"),
        line("set, three servers, 1 × 1", "set3-1x1", P50Ms, Most(0.6), "≤ 0.6×"),
        line(
            "set, three servers, 1 × 1, beside three syncs at once and two round trips",
            "set3-1x1",
            P50Ms,
            Floor(2.0, WRITE_FLOOR),
            "≤ 2× floor",
        ),
        line("90/10 mix, three servers, 16 × 64", "mix3-16x64", Rate, Least(5.0), "≥ 5×"),
        line("90/10 mix, three servers, 16 × 64", "mix3-16x64", P99Ms, Most(0.25), "≤ 1/4"),
        line("children of a znode with 1,000, 16 × 16", "children-16x16", Rate, Least(4.0), "≥ 4×"),
        line("multi of 10 sets, 16 × 16", "multi-16x16", Rate, Least(4.0), "≥ 4×"),
        line("events to 1,000 watchers", "fanout-1000", CpuUs, Most(1.0 / 6.0), "≤ 1/6"),
        line("events to 10,000 watchers", "fanout-10000", CpuUs, Most(1.0 / 6.0), "≤ 1/6"),
        line("events to 1,000 watchers, beside bare sends", "fanout-1000", CpuUs, BesideFloor(HERALD_FLOORS[0].0), ""),
        line(
            "events to 10,000 watchers, beside bare sends",
            "fanout-10000",
            CpuUs,
            BesideFloor(HERALD_FLOORS[1].0),
            "",
        ),
        line("lock hand-offs, three servers, 16 contenders", "locks3-16", Rate, Least(2.5), "≥ 2.5×"),
        line("sessions opened and closed, three servers", "connect3-16", Rate, Least(5.0), "≥ 5×"),
        line("sessions, beside three servers that only answer", "connect3-16", Rate, BesideFloor(DOOR_FLOOR), ""),
        line("sessions, beside three servers that only answer", "connect3-16", CpuUs, BesideFloor(DOOR_FLOOR), ""),
        line("memory of an idle session", "idle3-6000", Bytes, AtMost(2048.0), "≤ 2,048"),
        line("RSS, empty", "rss-empty", Mb, AtMost(12.0), "≤ 12"),
        line("RSS, full", "rss-full", Mb, AtMost(260.0), "≤ 260"),
        line("peak RSS while a snapshot is written", "rss-snapshot", Mb, Target::None, ""),
        line("peak RSS of a leader that sends a SNAP", "rss-snap", Mb, Target::None, ""),
        line("cold start, empty", "start-empty", Seconds, Most(1.0 / 15.0), "≤ 1/15"),
        line("restart, full", "start-full", Seconds, Most(1.0 / 6.0), "≤ 1/6"),
        line("p99 of sets at half load, with a snapshot through without", "snapshot", Share, AtMost(1.3), "≤ 1.3"),
        line("failover gap, session on a survivor", "failover-survivor", P50Ms, AtMost(100.0), "≤ 100"),
        line("failover gap, session on the leader", "failover-leader", P50Ms, AtMost(100.0), "≤ 100"),
        line("gap while the killed server comes back", "failover-return", P50Ms, Target::None, ""),
        line("a follower 100,000 transactions behind has caught up", "join-behind", Seconds, Target::None, ""),
        line("an empty follower has caught up, full", "join-empty", Seconds, Target::None, ""),
        line("others' p99 of sets meanwhile", "join-empty", P99Ms, Target::None, ""),
    ]
};

/// Every row that some line shows.
#[cfg(test)]
pub(super) fn rows() -> impl Iterator<Item = &'static str> {
    LINES.iter().map(|line| line.row)
}

/// The table, and how many targets are met, missed and not measured.
pub(super) fn table(figures: &Figures, apache: &str, etcd: &str) -> String {
    let mut table = Table::new(&["", "unit", "Farrier", apache, etcd, "Farrier : Apache", "target", ""]);
    let mut counts = [0; 3];
    for line in LINES {
        let show = |who| figures.show(line.row, who, line.metric);
        let verdict = verdict(line, figures);
        let mut unit = line.metric.name();
        if line.row.starts_with("failover") {
            unit = "median of the kills, ms";
        }
        table.row(&[
            line.what.to_owned(),
            unit.to_owned(),
            show(Who::Farrier),
            show(Who::Apache),
            show(Who::Etcd),
            compared(line, figures),
            line.promised.to_owned(),
            match verdict {
                Some(true) => "met",
                Some(false) => "**missed**",
                None if line.promises_nothing() => "",
                None => "not measured",
            }
            .to_owned(),
        ]);
        match verdict {
            Some(true) => counts[0] += 1,
            Some(false) => counts[1] += 1,
            None if line.promises_nothing() => {}
            None => counts[2] += 1,
        }
    }
    format!("{}\n{} met, {} missed, {} not measured.\n", table.text(), counts[0], counts[1], counts[2])
}

/// Farrier's figure through that of Apache, or of the floor.
fn compared(line: &Line, figures: &Figures) -> String {
    let Some(farrier) = figures.get(line.row, Who::Farrier, line.metric) else { return String::new() };
    let (row, who) = match line.target {
        Target::AtMostOfFloor(_, floor) | Target::BesideFloor(floor) => (floor, Who::Machine),
        _ => (line.row, Who::Apache),
    };
    let Some(other) = figures.get(row, who, line.metric) else { return String::new() };
    let ratio = Ratio::new(farrier, other).show();
    match who {
        Who::Machine => format!("{ratio} of {}", number(other.median())),
        _ => ratio,
    }
}

/// Whether the target is met; `None` where there is none, or something was not measured.
fn verdict(line: &Line, figures: &Figures) -> Option<bool> {
    let farrier = figures.median(line.row, Who::Farrier, line.metric)?;
    let apache = || figures.median(line.row, Who::Apache, line.metric);
    match line.target {
        Target::AtMostOfApache(factor) => Some(farrier <= factor * apache()?),
        Target::AtLeastOfApache(factor) => Some(farrier >= factor * apache()?),
        Target::AtMost(most) => Some(farrier <= most),
        Target::AtMostOfFloor(factor, floor) => {
            Some(farrier <= factor * figures.median(floor, Who::Machine, line.metric)?)
        }
        Target::BesideFloor(_) | Target::None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_missed_or_not_measured() {
        let mut figures = Figures::default();
        let find = |row: &str, metric| *LINES.iter().find(|l| l.row == row && l.metric == metric).unwrap();
        let get = find("get-64x1", Metric::CpuUs);
        assert_eq!(verdict(&get, &figures), None);
        figures.add(get.row, Who::Farrier, Metric::CpuUs, 10.0);
        assert_eq!(verdict(&get, &figures), None, "Apache was not measured");
        figures.add(get.row, Who::Apache, Metric::CpuUs, 31.0);
        assert_eq!(verdict(&get, &figures), Some(true));
        figures.add("echo-64x1", Who::Machine, Metric::CpuUs, 7.0);
        let echo = *LINES.iter().find(|l| matches!(l.target, Target::AtMostOfFloor(_, "echo-64x1"))).unwrap();
        assert_eq!(verdict(&echo, &figures), Some(false), "10 is more than 1.3 times 7");
        figures.add("rss-empty", Who::Farrier, Metric::Mb, 12.5);
        assert_eq!(verdict(&find("rss-empty", Metric::Mb), &figures), Some(false));
        figures.add("rss-snap", Who::Farrier, Metric::Mb, 1.0);
        assert_eq!(verdict(&find("rss-snap", Metric::Mb), &figures), None, "nothing was promised");
        let text = table(&figures, "Apache", "etcd");
        assert!(text.contains("1 met, 2 missed"), "{text}");
        assert!(text.contains("1.43× of 7.00"), "{text}");
    }
}
