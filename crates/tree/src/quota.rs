//! Quotas: which paths have one, and the text in which limits and usage are written.
//!
//! The quota of path P lives in `/zookeeper/quota<P>/zookeeper_limits` (what clients allow) and
//! `…/zookeeper_stats` (what the server counts). Owns the set of active paths and the text format;
//! the tree keeps the counts up to date as it changes.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::BuildHasher;

/// Parent of everything about quotas.
pub const QUOTA_ROOT: &str = "/zookeeper/quota";
/// Name of the node with the limits.
pub const LIMITS: &str = "zookeeper_limits";
/// Name of the node with the usage.
pub const STATS: &str = "zookeeper_stats";

/// Most bytes of limits and of usage that a client may write. With all numbers that servers know they have 130 at most, and any
/// other ones are read and written again with every change below the quota, by every member and at each start.
pub const TEXT_MAX: usize = 256;

/// Most creations of nodes with usage in one multi: each counts the subtree of its quota from end to end.
pub const COUNTS_MAX: usize = 16;

/// What stands in the node with the usage before anything was counted.
pub const NO_USAGE: &str = "count=0,bytes=0";

/// The path whose quota stands in the children of `parent`, if `parent` is such a place. The root can
/// have no quota: limits directly under [`QUOTA_ROOT`] are an ordinary node.
#[must_use]
pub fn governed_path(parent: &str) -> Option<&str> {
    parent.strip_prefix(QUOTA_ROOT).filter(|path| path.starts_with('/'))
}

/// Whether Apache's servers stop for good when they delete a znode of this name: they look for the path that limits are for
/// behind [`QUOTA_ROOT`], wherever below `/zookeeper` these stand, and fail where no component of it is left
/// (`DataTree.deleteNode`, `PathTrie`). A transaction that does so stops them again at each start.
#[must_use]
pub fn deletion_stops_apache(parent: &str, name: &str) -> bool {
    if name != LIMITS || !parent.starts_with("/zookeeper") {
        return false;
    }
    let mut units = 0;
    let mut behind = parent.chars().skip_while(|c| {
        let skip = units < QUOTA_ROOT.len();
        units += c.len_utf16();
        skip
    });
    // What it is given is at least so long; of what is left it drops components that are blank.
    !behind.any(|c| !matches!(c, '/' | '\0'..=' '))
}

/// Whether Apache's servers stop for good, at once or when they load or delete it, where a znode of this name is created, or
/// understand it as the quota of another path than [`governed_path`] says: they take limits anywhere below `/zookeeper` for
/// those of a path, drop its blank components, and cut it off at the first `/zookeeper_limits` (`DataTree.createNode`,
/// `deleteNode` and `traverseNode`).
#[must_use]
pub fn creation_stops_apache(parent: &str, name: &str) -> bool {
    let is_concerned = match name {
        LIMITS => parent.starts_with("/zookeeper"),
        STATS => parent.starts_with(QUOTA_ROOT),
        _ => false,
    };
    let is_plain = |component: &str| !component.starts_with(LIMITS) && component.chars().any(|c| c > ' ');
    is_concerned && !governed_path(parent).is_some_and(|path| path.split('/').skip(1).all(is_plain))
}

/// Whether this is the znode `name` of a quota.
fn is_of_quota(path: &str, name: &str) -> bool {
    path.strip_suffix(name).and_then(|parent| parent.strip_suffix('/')).is_some_and(|p| governed_path(p).is_some())
}

/// Whether this is what a server counts under a quota.
#[must_use]
pub fn is_usage(path: &str) -> bool {
    is_of_quota(path, STATS)
}

/// Whether this is what a server counts under a quota, and `data` no such count: Apache's servers stop for good at the next write
/// below the quota (`DataTree.updateQuotaStat`).
#[must_use]
pub fn is_no_usage(path: &str, data: Option<&[u8]>) -> bool {
    is_usage(path) && data.is_none_or(|text| QuotaText::parse(text).is_err())
}

/// Whether these are limits or usage, and longer than [`TEXT_MAX`].
#[must_use]
pub fn is_too_long(path: &str, data: Option<&[u8]>) -> bool {
    data.is_some_and(|text| text.len() > TEXT_MAX) && (is_usage(path) || is_of_quota(path, LIMITS))
}

/// Path of the limits of the quota on `path`.
#[must_use]
pub fn limits_path(path: &str) -> String {
    format!("{QUOTA_ROOT}{path}/{LIMITS}")
}

/// Path of the usage under the quota on `path`.
#[must_use]
pub fn stats_path(path: &str) -> String {
    format!("{QUOTA_ROOT}{path}/{STATS}")
}

/// Limits or usage: numbers by name, `count=<n>,bytes=<m>` and then `=;name=number` for each other
/// name in order. An absent number is -1: no limit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QuotaText(BTreeMap<String, i64>);

/// The limits of a quota. With `enforceQuota`, the server warns in its log beyond a soft one, and refuses beyond a hard
/// one, in whose presence the soft one means nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Znodes, soft.
    pub count: Option<i64>,
    /// Bytes of data, soft.
    pub bytes: Option<i64>,
    /// Znodes, hard.
    pub count_hard: Option<i64>,
    /// Bytes of data, hard.
    pub byte_hard: Option<i64>,
}

/// A soft limit that a write exceeds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SoftExcess {
    /// Where the quota is.
    pub path: String,
    /// What it limits: znodes or bytes.
    pub what: &'static str,
    /// The limit.
    pub limit: i64,
    /// The usage after the write.
    pub usage: i64,
}

/// Text that is not of this form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the text is no list of name=number")]
pub struct MalformedQuota;

impl QuotaText {
    /// Reads the text as Apache does: items between runs of `,` and `;`, each `name=number` with
    /// anything behind a second `=` ignored. Empty text has no numbers.
    pub fn parse(text: &[u8]) -> Result<Self, MalformedQuota> {
        let text = std::str::from_utf8(text).map_err(|_| MalformedQuota)?;
        let mut numbers = BTreeMap::new();
        let separator = |c| c == ',' || c == ';';
        let items = text.trim_end_matches(separator);
        if items.starts_with(separator) {
            return Err(MalformedQuota);
        }
        for item in items.split(separator).filter(|item| !item.is_empty()) {
            let mut parts = item.trim_end_matches('=').split('=');
            let (Some(name), Some(number)) = (parts.next(), parts.next()) else { return Err(MalformedQuota) };
            let number = if number.is_empty() { -1 } else { number.parse().map_err(|_| MalformedQuota)? };
            numbers.insert(name.to_owned(), number);
        }
        Ok(Self(numbers))
    }

    /// Usage of `count` znodes with `bytes` of data.
    #[must_use]
    pub fn usage(count: i64, bytes: i64) -> Self {
        let mut text = Self::default();
        text.0.insert("count".to_owned(), count);
        text.0.insert("bytes".to_owned(), bytes);
        text
    }

    /// Limits; what is `None` is not limited.
    #[must_use]
    pub fn limits(limits: Limits) -> Self {
        let mut text = Self::default();
        text.set_limits(limits, true);
        text
    }

    /// Sets those limits that are not `None`; with `all` takes the others away.
    pub fn set_limits(&mut self, limits: Limits, all: bool) {
        let Limits { count, bytes, count_hard, byte_hard } = limits;
        for (name, limit) in
            [("count", count), ("bytes", bytes), ("countHardLimit", count_hard), ("byteHardLimit", byte_hard)]
        {
            if all || limit.is_some() {
                self.0.insert(name.to_owned(), limit.unwrap_or(-1));
            }
        }
    }

    fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(-1)
    }

    /// Znodes: used, or the soft limit.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.get("count")
    }

    /// Bytes of data: used, or the soft limit.
    #[must_use]
    pub fn bytes(&self) -> i64 {
        self.get("bytes")
    }

    /// Hard limit of znodes.
    #[must_use]
    pub fn count_hard_limit(&self) -> i64 {
        self.get("countHardLimit")
    }

    /// Hard limit of bytes.
    #[must_use]
    pub fn byte_hard_limit(&self) -> i64 {
        self.get("byteHardLimit")
    }

    /// Adds to the usage; wraps, as the text is a client's to write and any number may stand in it.
    pub fn add(&mut self, count: i64, bytes: i64) {
        let count = self.count().wrapping_add(count);
        let bytes = self.bytes().wrapping_add(bytes);
        self.0.insert("count".to_owned(), count);
        self.0.insert("bytes".to_owned(), bytes);
    }
}

impl fmt::Display for QuotaText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "count={},bytes={}", self.count(), self.bytes())?;
        let mut first = true;
        for (name, number) in self.0.iter().filter(|(name, _)| *name != "count" && *name != "bytes") {
            // Parsers of 3.4 stop at the second "=" and so do not see what follows.
            write!(f, "{};{name}={number}", if first { "=" } else { "" })?;
            first = false;
        }
        Ok(())
    }
}

const ROOT: u32 = 0;

#[derive(Debug)]
struct Branch {
    parent: u32,
    name: Box<str>,
    /// Whether the path that ends here has a quota.
    active: bool,
    children: u32,
}

/// The paths with a quota: a trie over path components, flat, so that depth costs no recursion.
#[derive(Debug)]
pub(crate) struct QuotaPaths {
    branches: Vec<Branch>,
    free: Vec<u32>,
    by_name: HashTable<u32>,
    hasher: FixedState,
    active: usize,
}

fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|c| !c.is_empty())
}

impl QuotaPaths {
    pub(crate) fn new(seed: u64) -> Self {
        let root = Branch { parent: ROOT, name: "".into(), active: false, children: 0 };
        let hasher = FixedState::with_seed(seed);
        Self { branches: vec![root], free: Vec::new(), by_name: HashTable::new(), hasher, active: 0 }
    }

    /// Of a name below a parent: clients choose names.
    pub(crate) fn hash_of(&self, parent: u32, name: &str) -> u64 {
        self.hasher.hash_one((parent, name))
    }

    fn child(&self, parent: u32, name: &str) -> Option<u32> {
        let is_it = |id: &u32| {
            let b = &self.branches[*id as usize];
            b.parent == parent && *b.name == *name
        };
        self.by_name.find(self.hash_of(parent, name), is_it).copied()
    }

    /// Activates the quota on `path`, which is not the root.
    pub(crate) fn insert(&mut self, path: &str) {
        let mut at = ROOT;
        for name in components(path) {
            at = self.child(at, name).unwrap_or_else(|| self.grow(at, name));
        }
        assert!(at != ROOT, "the root has no quota");
        if !self.branches[at as usize].active {
            self.branches[at as usize].active = true;
            self.active += 1;
        }
    }

    fn grow(&mut self, parent: u32, name: &str) -> u32 {
        let branch = Branch { parent, name: name.into(), active: false, children: 0 };
        let id = if let Some(id) = self.free.pop() {
            self.branches[id as usize] = branch;
            id
        } else {
            self.branches.push(branch);
            u32::try_from(self.branches.len() - 1).expect("there are fewer quotas than znodes")
        };
        self.branches[parent as usize].children += 1;
        let (branches, hasher) = (&self.branches, &self.hasher);
        self.by_name.insert_unique(hasher.hash_one((parent, name)), id, |id| {
            let b = &branches[*id as usize];
            hasher.hash_one((b.parent, &*b.name))
        });
        id
    }

    /// Deactivates the quota on `path`, if there is one.
    pub(crate) fn remove(&mut self, path: &str) {
        let mut at = ROOT;
        for name in components(path) {
            let Some(next) = self.child(at, name) else { return };
            at = next;
        }
        if !std::mem::replace(&mut self.branches[at as usize].active, false) {
            return;
        }
        self.active -= 1;
        while at != ROOT && !self.branches[at as usize].active && self.branches[at as usize].children == 0 {
            let parent = self.branches[at as usize].parent;
            let hash = self.hash_of(parent, &self.branches[at as usize].name);
            if let Ok(found) = self.by_name.find_entry(hash, |id| *id == at) {
                found.remove();
            }
            self.branches[at as usize].name = "".into();
            self.branches[parent as usize].children -= 1;
            self.free.push(at);
            at = parent;
        }
    }

    /// The deepest path with a quota that is `path` or encloses it.
    pub(crate) fn enclosing<'p>(&self, path: &'p str) -> Option<&'p str> {
        if self.active == 0 {
            return None;
        }
        let (mut at, mut end, mut deepest) = (ROOT, 0, None);
        for name in path.strip_prefix('/')?.split('/') {
            let Some(next) = self.child(at, name) else { break };
            at = next;
            end += 1 + name.len();
            if self.branches[at as usize].active {
                deepest = Some(end);
            }
        }
        deepest.map(|end| &path[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> Option<String> {
        QuotaText::parse(text.as_bytes()).ok().map(|t| t.to_string())
    }

    #[test]
    fn text_as_apache_reads_and_writes_it() {
        assert_eq!(round("").as_deref(), Some("count=-1,bytes=-1"));
        assert_eq!(round("count=4,bytes=5").as_deref(), Some("count=4,bytes=5"));
        assert_eq!(
            round("count=-1,bytes=-1=;byteHardLimit=12;countHardLimit=3").as_deref(),
            Some("count=-1,bytes=-1=;byteHardLimit=12;countHardLimit=3")
        );
        assert_eq!(
            round("countHardLimit=3;;bytes=+7,,x=1;").as_deref(),
            Some("count=-1,bytes=7=;countHardLimit=3;x=1")
        );
        assert_eq!(round("count==5").as_deref(), Some("count=-1,bytes=-1"), "an empty number is -1");
        assert_eq!(round(",;,").as_deref(), Some("count=-1,bytes=-1"), "nothing but separators");
        for bad in ["garbage", "count=", "count", ",count=1", "count=x", "count=99999999999999999999", "="] {
            assert_eq!(round(bad), None, "{bad:?}");
        }
        assert!(QuotaText::parse(&[0xff]).is_err());
    }

    #[test]
    fn the_deepest_enclosing_quota_counts() {
        let mut paths = QuotaPaths::new(7);
        assert_eq!(paths.enclosing("/a"), None);
        paths.insert("/a");
        paths.insert("/a/b/c");
        paths.insert("/a");
        assert_eq!(paths.enclosing("/a"), Some("/a"));
        assert_eq!(paths.enclosing("/ab"), None);
        assert_eq!(paths.enclosing("/a/b"), Some("/a"));
        assert_eq!(paths.enclosing("/a/b/c/d"), Some("/a/b/c"));
        assert_eq!(paths.enclosing(""), None);
        assert_eq!(paths.enclosing("/"), None);
        paths.remove("/a");
        assert_eq!(paths.enclosing("/a/b"), None);
        assert_eq!(paths.enclosing("/a/b/c"), Some("/a/b/c"));
        paths.remove("/a/b");
        paths.remove("/a/b/c");
        assert_eq!((paths.active, paths.by_name.len(), paths.free.len()), (0, 0, 3));
        paths.insert("/x/y");
        assert_eq!(paths.enclosing("/x/y/z"), Some("/x/y"));
    }

    #[test]
    fn the_root_has_no_quota() {
        assert_eq!(governed_path("/zookeeper/quota"), None);
        assert_eq!(governed_path("/zookeeper/quotas/a"), None);
        assert_eq!(governed_path("/zookeeper/quota/a/b"), Some("/a/b"));
        for parent in ["/zookeeper", "/zookeeper/a", "/zookeeperx", "/zookeeper/quota", "/zookeeper/\u{10437}123"] {
            assert!(deletion_stops_apache(parent, LIMITS) && creation_stops_apache(parent, LIMITS), "{parent}");
            assert!(!deletion_stops_apache(parent, STATS), "{parent}");
        }
        for parent in ["/zookeeper/quota/ ", "/zookeeper/quota/ /  ", "/zookeeper/12345 "] {
            assert!(deletion_stops_apache(parent, LIMITS) && creation_stops_apache(parent, LIMITS), "{parent:?}");
        }
        for parent in
            ["/zookeeper/quotas", "/zookeeper/abcde/q", "/zookeeper/quota/a/ /b", "/zookeeper/quota/zookeeper_limits-x"]
        {
            assert!(!deletion_stops_apache(parent, LIMITS) && creation_stops_apache(parent, LIMITS), "{parent:?}");
        }
        for parent in ["", "/a", "/zookeepe", "/zookeeper/quota/a", "/zookeeper/quota/a b/c"] {
            assert!(!deletion_stops_apache(parent, LIMITS) && !creation_stops_apache(parent, LIMITS), "{parent}");
            assert!(!creation_stops_apache(parent, STATS), "{parent}");
        }
        for (parent, refused) in [("/zookeeper/quota", true), ("/zookeeper/quotas", true), ("/zookeeper/x", false)] {
            assert_eq!(creation_stops_apache(parent, STATS), refused, "{parent}");
        }
        let stats = stats_path("/a");
        for (path, data, expected) in [
            (&*stats, Some("count=1,bytes=2"), false),
            (&stats, Some(""), false),
            (&stats, Some("garbage"), true),
            (&stats, None, true),
            ("/zookeeper/quota/zookeeper_stats", None, false),
            ("/zookeeper/quota/azookeeper_stats", None, false),
            ("/a/zookeeper_stats", None, false),
        ] {
            assert_eq!(is_no_usage(path, data.map(str::as_bytes)), expected, "{path} {data:?}");
        }
    }
}
