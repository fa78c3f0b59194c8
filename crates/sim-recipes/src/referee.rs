//! What the recipes promise, and whether it was kept.

use crate::programs::{COUNTER, ELECTION, LOCK, QUEUE};
use farrier_recipes::{Guard, Leadership, Token};
use farrier_sim::guest::Left;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Weak;

/// What somebody holds, as long as it exists.
pub(super) enum Held {
    Lock(Weak<Guard>),
    Leader(Weak<Leadership>),
}

impl Held {
    /// Whether the holder would say at this moment that it holds it; `None` once it has let go.
    fn is_held(&self) -> Option<bool> {
        match self {
            Self::Lock(guard) => guard.upgrade().map(|guard| guard.is_held()),
            Self::Leader(leader) => leader.upgrade().map(|leader| leader.is_held()),
        }
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
        let gone = self.put.difference(&self.acked).filter(|item| !self.taken.contains(*item)).count();
        let waiting = left.children(&format!("{QUEUE}/entries")).len();
        if gone > waiting {
            return Err(format!("{gone} items were put and never taken, and only {waiting} are left"));
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
