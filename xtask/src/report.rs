//! Medians, ranges and the tables.

use std::fmt::Write as _;

/// Samples of one figure, one per round.
#[derive(Clone, Default, Debug)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order in which they came.
    pub(crate) fn each(&self) -> impl Iterator<Item = f64> {
        self.0.iter().copied()
    }

    /// NaN without samples.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len();
        match n {
            0 => f64::NAN,
            _ if n % 2 == 1 => sorted[n / 2],
            _ => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        }
    }

    /// `median (least–most)`.
    pub(crate) fn show(&self) -> String {
        if self.is_empty() {
            return "–".to_owned();
        }
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if self.0.len() == 1 {
            return number(least);
        }
        format!("{} ({}–{})", number(self.median()), number(least), number(most))
    }
}

/// Three digits that count; thousands apart.
pub(crate) fn number(v: f64) -> String {
    if !v.is_finite() {
        return "–".to_owned();
    }
    if v.abs() >= 100.0 {
        let digits = format!("{v:.0}");
        let mut out = String::new();
        for (i, c) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) && c.is_ascii_digit() && !out.ends_with('-') {
                out.push(',');
            }
            out.push(c);
        }
        return out;
    }
    if v.abs() >= 10.0 { format!("{v:.1}") } else { format!("{v:.2}") }
}

/// A table in Markdown.
#[derive(Debug)]
pub(crate) struct Table {
    text: String,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        let mut table = Self { text: String::new() };
        table.row(&head.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>());
        let _ = writeln!(table.text, "|{}", "---|".repeat(head.len()));
        table
    }

    pub(crate) fn row(&mut self, cells: &[String]) {
        let _ = writeln!(self.text, "| {} |", cells.join(" | "));
    }

    pub(crate) fn text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        let mut s = Samples::default();
        assert!(s.median().is_nan());
        for v in [5.0, 1.0, 3.0] {
            s.push(v);
        }
        assert_eq!(s.show(), "3.00 (1.00–5.00)");
        s.push(4.0);
        assert_eq!(s.show(), "3.50 (1.00–5.00)");
    }

    #[test]
    fn numbers_keep_three_digits_and_set_thousands_apart() {
        assert_eq!(number(1_234_567.4), "1,234,567");
        assert_eq!(number(123.4), "123");
        assert_eq!(number(-123.4), "-123");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(0.126), "0.13");
    }
}
