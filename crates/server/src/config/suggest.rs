//! The known key that a misspelled one most resembles.

/// Longest key that is compared; longer ones resemble nothing.
const KEY_MAX: usize = 128;

/// The candidate nearest to `key` by edit distance (insertions, deletions, replacements and swapped
/// neighbours; case differences count half), or `None` if none is near enough to be meant.
pub(super) fn nearest<'a>(key: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if key.is_empty() || key.len() > KEY_MAX {
        return None;
    }
    // A third of the letters wrong is a typing error; more is another word.
    let limit = 2 * key.chars().count().div_ceil(3).min(8);
    candidates.map(|c| (distance(key, c), c)).filter(|(d, _)| *d <= limit).min().map(|(_, c)| c)
}

/// Twice the edit distance, so that a difference in case can count half.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let replace = |x: char, y: char| match (x == y, x.eq_ignore_ascii_case(&y)) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 2,
    };
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).map(|j| 2 * j).collect();
    for i in 1..=a.len() {
        let mut next = vec![2 * i; b.len() + 1];
        for j in 1..=b.len() {
            let mut best = (row[j] + 2).min(next[j - 1] + 2).min(row[j - 1] + replace(a[i - 1], b[j - 1]));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 2);
            }
            next[j] = best;
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, twice) in
            [("abc", "abc", 0), ("abc", "abd", 2), ("abc", "acb", 2), ("abc", "aBc", 1), ("", "ab", 4), ("ab", "", 4)]
        {
            assert_eq!(distance(a, b), twice, "{a} {b}");
        }
    }

    #[test]
    fn far_words_resemble_nothing() {
        let known = ["tickTime", "dataDir", "maxClientCnxns"];
        assert_eq!(nearest("tikcTime", known.into_iter()), Some("tickTime"));
        assert_eq!(nearest("ticktime", known.into_iter()), Some("tickTime"));
        assert_eq!(nearest("maxClientConnections", known.into_iter()), Some("maxClientCnxns"));
        assert_eq!(nearest("quux", known.into_iter()), None);
        assert_eq!(nearest("", known.into_iter()), None);
        assert_eq!(nearest(&"a".repeat(500), known.into_iter()), None);
    }
}
