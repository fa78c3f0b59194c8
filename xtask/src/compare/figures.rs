//! Everything that was measured, by row, contestant and what it is.

use crate::report::{Samples, number};
use std::collections::BTreeMap;

/// Whose figure it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Who {
    Farrier,
    Apache,
    Etcd,
    /// The machine itself: its disk, and a bare echo on its loopback interface.
    Machine,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Metric {
    /// Microseconds of all servers' CPUs for each request, event, hand-off or session.
    CpuUs,
    /// Of those per second.
    Rate,
    /// Milliseconds.
    P50Ms,
    P99Ms,
    /// CPUs that the load generator used.
    Generator,
    /// Bytes of each session.
    Bytes,
    /// Millions of bytes.
    Mb,
    Seconds,
    /// One figure of a contestant through another one of it.
    Share,
}

impl Metric {
    /// Name and unit for tables.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::CpuUs => "server CPU, µs each",
            Self::Rate => "per second",
            Self::P50Ms => "p50, ms",
            Self::P99Ms => "p99, ms",
            Self::Generator => "generator, CPUs",
            Self::Bytes => "bytes each",
            Self::Mb => "MB",
            Self::Seconds => "s",
            Self::Share => "share",
        }
    }
}

/// Samples, one for each round.
#[derive(Default, Debug)]
pub(super) struct Figures {
    all: BTreeMap<(&'static str, Who, Metric), Samples>,
    rounds: usize,
}

impl Figures {
    /// Where a figure has fewer samples than `rounds`, that is shown.
    pub(super) fn new(rounds: u32) -> Self {
        Self { all: BTreeMap::new(), rounds: rounds as usize }
    }

    pub(super) fn add(&mut self, row: &'static str, who: Who, metric: Metric, value: f64) {
        self.all.entry((row, who, metric)).or_default().push(value);
    }

    pub(super) fn get(&self, row: &'static str, who: Who, metric: Metric) -> Option<&Samples> {
        self.all.get(&(row, who, metric))
    }

    pub(super) fn median(&self, row: &'static str, who: Who, metric: Metric) -> Option<f64> {
        self.get(row, who, metric).map(Samples::median)
    }

    /// What a table's cell shows.
    pub(super) fn show(&self, row: &'static str, who: Who, metric: Metric) -> String {
        self.get(row, who, metric).map_or_else(|| "–".to_owned(), |samples| self.shown(samples))
    }

    /// Median and range, and how many samples there are if that is not what stands above the table.
    pub(super) fn shown(&self, samples: &Samples) -> String {
        let n = samples.each().count();
        let few = if n < self.rounds { format!(", n = {n}") } else { String::new() };
        samples.show() + &few
    }

    /// Everything, in the order of rows.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, Who, Metric, &Samples)> {
        self.all.iter().map(|((row, who, metric), samples)| (*row, *who, *metric, samples))
    }
}

/// A ratio with its range over the rounds, in each of which both were measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Ratio {
    pub(super) of_medians: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Ratio {
    pub(super) fn new(a: &Samples, b: &Samples) -> Self {
        // Where one has fewer, nobody knows which belong to one round.
        let paired = a.each().count() == b.each().count();
        let each: Vec<f64> = a.each().zip(b.each()).filter(|_| paired).map(|(a, b)| a / b).collect();
        Self {
            of_medians: a.median() / b.median(),
            least: each.iter().copied().fold(f64::INFINITY, f64::min),
            most: each.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    pub(super) fn show(&self) -> String {
        let shown = |ratio: f64| if ratio < 0.1 { format!("{ratio:.3}") } else { number(ratio) };
        if self.least < self.most && self.most.is_finite() {
            format!("{}× ({}–{})", shown(self.of_medians), shown(self.least), shown(self.most))
        } else {
            format!("{}×", shown(self.of_medians))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_pairs_rounds_and_divides_medians() {
        let mut figures = Figures::new(3);
        for (a, b) in [(1.0, 10.0), (3.0, 20.0), (2.0, 40.0)] {
            figures.add("row", Who::Farrier, Metric::Rate, a);
            figures.add("row", Who::Apache, Metric::Rate, b);
        }
        let get = |who| figures.get("row", who, Metric::Rate).unwrap();
        let ratio = Ratio::new(get(Who::Farrier), get(Who::Apache));
        assert_eq!(ratio, Ratio { of_medians: 0.1, least: 0.05, most: 0.15 });
        assert_eq!(ratio.show(), "0.10× (0.050–0.15)");
        assert_eq!(figures.show("other", Who::Farrier, Metric::Rate), "–");
        assert_eq!(figures.show("row", Who::Farrier, Metric::Rate), "2.00 (1.00–3.00)");
    }

    #[test]
    fn fewer_samples_than_rounds_are_marked_and_not_paired() {
        let mut figures = Figures::new(3);
        figures.add("row", Who::Farrier, Metric::Mb, 5.0);
        figures.add("row", Who::Apache, Metric::Mb, 10.0);
        figures.add("row", Who::Apache, Metric::Mb, 30.0);
        assert_eq!(figures.show("row", Who::Farrier, Metric::Mb), "5.00, n = 1");
        assert_eq!(figures.show("row", Who::Apache, Metric::Mb), "20.0 (10.0–30.0), n = 2");
        let get = |who| figures.get("row", who, Metric::Mb).unwrap();
        assert_eq!(Ratio::new(get(Who::Farrier), get(Who::Apache)).show(), "0.25×");
    }
}
