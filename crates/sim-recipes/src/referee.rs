//! What the recipes promise, and whether it was kept.

use crate::programs::{COUNTER, ELECTION, LOCK, QUEUE};
use farrier_recipes::{Guard, HoldState, Leadership, Token};
use farrier_sim::guest::Left;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Weak;

/// What somebody holds, as long as it exists.
pub(super) enum Held {
    Lock(Weak<Guard>),
    Leader(Weak<Leadership>),
}

impl Held {
    /// Whether nobody else may hold it at this moment, by the holder's word: also while it is suspended. `None` once it has
    /// let go.
    fn is_held(&self) -> Option<bool> {
        let state = match self {
            Self::Lock(guard) => guard.upgrade().map(|guard| guard.state()),
            Self::Leader(leader) => leader.upgrade().map(|leader| leader.state()),
        };
        state.map(|state| state != HoldState::Lost)
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Referee {
    /// By what is held: who holds it, in the order of acquiring.
    holders: BTreeMap<&'static str, Vec<(usize, Held)>>,
    /// The newest token of each.
    tokens: BTreeMap<&'static str, Token>,
    /// Tokens that were written under the lock, by the zxid of the write.
    register: BTreeMap<u64, Token>,
    /// Items of the queue that were put for certain.
    put: BTreeSet<String>,
    /// Those that may have been put.
    maybe_put: BTreeSet<String>,
    taken: BTreeSet<String>,
    /// Those that are done, by a taker's word.
    acked: BTreeSet<String>,
    /// Those that a taker has said to be done, heard or not.
    maybe_acked: BTreeSet<String>,
    /// Additions to the counter that were made, and that may have been.
    added: u64,
    maybe_added: u64,
    /// Who has done something since nothing hinders anybody.
    served: BTreeSet<usize>,
    /// Counts, for people.
    acquired: u64,
    lost: u64,
    /// Holds there had been when nothing hindered anybody any more.
    service_from: Option<u64>,
    violation: Option<String>,
}

impl Referee {
    fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// Called after every step: at most one holder of anything believes in it.
    pub(super) fn judge(&mut self) -> Result<(), String> {
        for (path, holders) in &mut self.holders {
            let mut believers = Vec::new();
            holders.retain(|(who, held)| match held.is_held() {
                None => false,
                Some(held) => {
                    if held {
                        believers.push(*who);
                    }
                    true
                }
            });
            if believers.len() > 1 {
                return Err(format!("{path} is held by programs {believers:?} at once"));
            }
        }
        self.violation.take().map_or(Ok(()), Err)
    }

    /// Answers how many holds there have been.
    pub(super) fn acquired(&mut self, path: &'static str, who: usize, held: Held, token: Token) -> u64 {
        self.acquired += 1;
        self.served.insert(who);
        if let Some(before) = self.tokens.insert(path, token)
            && before >= token
        {
            self.violated(format!("{path}: token {token} was given after {before}"));
        }
        self.holders.entry(path).or_default().push((who, held));
        self.acquired
    }

    /// `acquired`: how many holds there had been when this one began.
    pub(super) fn lost(&mut self, acquired: u64) {
        self.lost += 1;
        if self.service_from.is_some_and(|from| acquired > from) {
            self.violated("a hold was lost, and nothing hindered its holder".to_owned());
        }
    }

    pub(super) fn wrote(&mut self, zxid: u64, token: Token) {
        self.register.insert(zxid, token);
    }

    pub(super) fn put(&mut self, who: usize, item: String, certain: bool) {
        if certain {
            self.served.insert(who);
            self.put.insert(item);
        } else {
            self.maybe_put.insert(item);
        }
    }

    pub(super) fn took(&mut self, item: &str) {
        if self.acked.contains(item) {
            self.violated(format!("item {item} was taken after it was done"));
        } else if !self.put.contains(item) && !self.maybe_put.contains(item) {
            // Its putter has not heard yet.
            self.maybe_put.insert(item.to_owned());
        }
        self.taken.insert(item.to_owned());
    }

    /// A taker is about to say that it is done.
    pub(super) fn acks(&mut self, item: &str) {
        self.maybe_acked.insert(item.to_owned());
    }

    pub(super) fn acked(&mut self, who: usize, item: &str) {
        self.served.insert(who);
        if !self.acked.insert(item.to_owned()) {
            self.violated(format!("item {item} was done twice"));
        }
    }

    pub(super) const fn adds(&mut self) {
        self.maybe_added += 1;
    }

    pub(super) fn added(&mut self, who: usize) {
        self.served.insert(who);
        self.added += 1;
        self.maybe_added -= 1;
    }

    /// From now on nothing hinders anybody.
    pub(super) fn begin_service(&mut self) {
        self.served.clear();
        self.service_from = Some(self.acquired);
    }

    /// Who has done nothing since.
    pub(super) fn unserved(&self, programs: usize) -> Option<String> {
        let idle: Vec<usize> = (0..programs).filter(|who| !self.served.contains(who)).collect();
        (!idle.is_empty()).then(|| format!("programs {idle:?} have done nothing"))
    }

    /// When all are gone.
    pub(super) fn finish(&self, left: &dyn Left) -> Result<String, String> {
        let behind: Vec<String> = [LOCK, ELECTION].iter().flat_map(|path| left.children(path)).collect();
        if !behind.is_empty() {
            return Err(format!("all are gone, and left {behind:?} behind"));
        }
        let mut last = None;
        for (zxid, token) in &self.register {
            if let Some((before, other)) = last
                && other > *token
            {
                return Err(format!(
                    "the register went back: token {token} was written in {zxid:#x}, behind {other} in {before:#x}"
                ));
            }
            last = Some((*zxid, *token));
        }
        let entries = format!("{QUEUE}/entries");
        let waiting = left.children(&entries).into_iter().filter_map(|name| left.data(&format!("{entries}/{name}")));
        let waiting: BTreeSet<String> = waiting.map(|data| String::from_utf8_lossy(&data).into_owned()).collect();
        let gone: Vec<&String> =
            self.put.difference(&self.maybe_acked).filter(|item| !waiting.contains(item.as_str())).collect();
        if !gone.is_empty() {
            return Err(format!("items {gone:?} were put, nobody said that they are done, and they are gone"));
        }
        let count = match left.data(COUNTER) {
            Some(bytes) => std::str::from_utf8(&bytes).ok().and_then(|text| text.parse::<u64>().ok()),
            None => Some(0),
        };
        match count {
            Some(n) if (self.added..=self.added + self.maybe_added).contains(&n) => Ok(self.describe()),
            other => Err(format!(
                "the counter is at {other:?} after {} additions, and {} more that may have been made",
                self.added, self.maybe_added
            )),
        }
    }

    /// One line for people.
    fn describe(&self) -> String {
        format!(
            "programs: {} holds, {} of them lost, {} guarded writes, {} items put, {} taken, {} done, {} additions",
            self.acquired,
            self.lost,
            self.register.len(),
            self.put.len(),
            self.taken.len(),
            self.acked.len(),
            self.added
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ensemble with nothing in it but these entries of the queue, and a counter.
    struct Rest(Vec<&'static str>, &'static str);

    impl Left for Rest {
        fn children(&self, path: &str) -> Vec<String> {
            if path.ends_with("/entries") { (0..self.0.len()).map(|n| n.to_string()).collect() } else { Vec::new() }
        }

        fn data(&self, path: &str) -> Option<Vec<u8>> {
            if path == COUNTER {
                return Some(self.1.into());
            }
            let n: usize = path.rsplit('/').next()?.parse().ok()?;
            self.0.get(n).map(|data| data.as_bytes().to_vec())
        }
    }

    #[test]
    fn an_item_that_nobody_did_is_still_there() {
        let mut referee = Referee::default();
        for item in ["a", "b", "c"] {
            referee.put(0, item.to_owned(), true);
        }
        referee.put(0, "never put".to_owned(), false);
        referee.took("a");
        referee.acks("a");
        referee.acked(1, "a");
        referee.took("b");
        assert!(referee.finish(&Rest(vec!["b", "c"], "0")).is_ok());
        assert!(referee.finish(&Rest(vec!["c", "other"], "0")).is_err(), "b was taken, and not done");
        referee.acks("b");
        assert!(referee.finish(&Rest(vec!["c"], "0")).is_ok(), "its end may have been heard");
        assert!(referee.finish(&Rest(vec!["other"], "0")).is_err());
    }

    #[test]
    fn what_is_done_is_not_taken_or_done_again() {
        let mut referee = Referee::default();
        referee.put(0, "a".to_owned(), true);
        referee.took("a");
        referee.acked(1, "a");
        assert_eq!(referee.judge(), Ok(()));
        referee.took("a");
        assert!(referee.judge().is_err());
        referee.acked(2, "a");
        assert!(referee.judge().is_err());
    }

    #[test]
    fn additions_are_made_once_and_the_register_never_goes_back() {
        let mut referee = Referee::default();
        referee.adds();
        referee.added(0);
        referee.adds();
        for (counter, lawful) in [("0", false), ("1", true), ("2", true), ("3", false), ("x", false)] {
            assert_eq!(referee.finish(&Rest(Vec::new(), counter)).is_ok(), lawful, "{counter}");
        }
        referee.begin_service();
        assert!(referee.unserved(1).is_some());
        referee.lost(0);
        assert_eq!(referee.judge(), Ok(()), "it began before nothing hindered anybody");
        referee.lost(1);
        assert!(referee.judge().is_err());
    }
}
