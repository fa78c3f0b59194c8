//! What the clients of a load wrote down, and whether a tree agrees with it.

use crate::walk::Tree;
use std::collections::{BTreeMap, BTreeSet};

/// How much is known of a write that was not refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Known {
    /// The server said that it was done.
    Acknowledged,
    /// It was sent, and nothing was heard of it.
    Unknown,
}

/// A znode with a name of its own: created once, deleted at most once.
#[derive(Clone, Debug)]
pub struct Znode {
    /// What it was created with.
    pub data: Vec<u8>,
    /// The create.
    pub created: Known,
    /// The delete, if one was sent.
    pub deleted: Option<Known>,
    /// Its session, for an ephemeral.
    pub owner: i64,
    /// It was created or not together with this one, in one transaction.
    pub twin: Option<String>,
}

/// A setData that names the version that it replaces. What it wrote is in its data and nowhere else.
#[derive(Clone, Debug)]
pub struct Set {
    /// The znode.
    pub path: String,
    /// The version it named.
    pub expected: i32,
    /// What it wrote.
    pub data: Vec<u8>,
    /// What is known.
    pub known: Known,
}

/// All that clients know of their writes. Refused ones are counted and leave no other trace, so that
/// whatever they did shows as something that nobody wrote.
#[derive(Clone, Default, Debug)]
pub struct Record {
    /// Znodes with names of their own.
    pub znodes: BTreeMap<String, Znode>,
    /// Data of sequential znodes, and the path where the server told it.
    pub sequential: BTreeMap<Vec<u8>, Option<String>>,
    /// Conditional sets.
    pub sets: Vec<Set>,
    /// Writes that were refused.
    pub refused: u64,
    /// Times that a session found a server.
    pub moves: u32,
    /// What clients saw by themselves that must not be.
    pub violations: Vec<String>,
}

impl Record {
    /// Adds another client's.
    pub fn add(&mut self, other: Self) {
        self.znodes.extend(other.znodes);
        self.sequential.extend(other.sequential);
        self.sets.extend(other.sets);
        self.refused += other.refused;
        self.moves += other.moves;
        self.violations.extend(other.violations);
    }

    /// Acknowledged and unknown writes.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let single = self.znodes.values().flat_map(|z| [Some(z.created), z.deleted]).flatten();
        let sequential =
            self.sequential.values().map(|path| if path.is_some() { Known::Acknowledged } else { Known::Unknown });
        let all: Vec<Known> = single.chain(sequential).chain(self.sets.iter().map(|s| s.known)).collect();
        let acknowledged = all.iter().filter(|k| **k == Known::Acknowledged).count();
        (acknowledged, all.len() - acknowledged)
    }

    /// Compares with what one server shows below `root`. `open` holds the sessions that still live.
    #[must_use]
    pub fn check(&self, root: &str, open: &BTreeSet<i64>, tree: &Tree) -> Vec<String> {
        let mut wrong = Vec::new();
        for (path, znode) in &self.znodes {
            self.check_znode(path, znode, open, tree, &mut wrong);
        }
        let cells: BTreeSet<&str> = self.sets.iter().map(|s| s.path.as_str()).collect();
        for path in &cells {
            self.check_cell(path, tree, &mut wrong);
        }
        self.check_sequential(&format!("{root}/seq/"), tree, &mut wrong);
        let below = format!("{root}/");
        for (path, _) in tree.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below)) {
            let is_known = self.znodes.contains_key(path)
                || cells.contains(path.as_str())
                || path.starts_with(&format!("{root}/seq/"));
            // Directories stand one below the root and hold no data.
            if !is_known && path[below.len()..].contains('/') {
                wrong.push(format!("{path} exists, and no create of it can have been done"));
            }
        }
        wrong
    }

    fn check_znode(&self, path: &str, znode: &Znode, open: &BTreeSet<i64>, tree: &Tree, wrong: &mut Vec<String>) {
        let may_be = znode.deleted != Some(Known::Acknowledged) && (znode.owner == 0 || open.contains(&znode.owner));
        let must_be = may_be && znode.created == Known::Acknowledged && znode.deleted.is_none();
        match tree.get(path) {
            None if must_be => wrong.push(format!("{path}: its create was acknowledged, and it is not there")),
            None => {}
            Some(_) if !may_be => {
                wrong.push(format!("{path}: its delete or the end of its session was acknowledged, and it is there"));
            }
            Some(seen) if seen.data.as_ref() != Some(&znode.data) || seen.stat.ephemeral_owner != znode.owner => {
                wrong.push(format!("{path}: shows {seen:?} instead of {znode:?}"));
            }
            Some(_) => {}
        }
        if let Some(twin) = &znode.twin
            && tree.contains_key(path) != tree.contains_key(twin)
        {
            wrong.push(format!("{path} and {twin} were created in one transaction, and only one is there"));
        }
    }

    /// Every version up to the last was made by exactly one set that named the one before it.
    fn check_cell(&self, path: &str, tree: &Tree, wrong: &mut Vec<String>) {
        let Some(seen) = tree.get(path) else {
            wrong.push(format!("{path} is gone"));
            return;
        };
        let last = seen.stat.version;
        let mut by_version: BTreeMap<i32, Vec<&Set>> = BTreeMap::new();
        for set in self.sets.iter().filter(|s| s.path == path) {
            by_version.entry(set.expected).or_default().push(set);
        }
        let acknowledged = |sets: &[&Set]| sets.iter().filter(|s| s.known == Known::Acknowledged).count();
        for version in 0..last {
            match by_version.get(&version).map(|sets| (acknowledged(sets), sets.len())) {
                None => wrong.push(format!("{path}: version {} was made by nobody", version + 1)),
                Some((0 | 1, _)) => {}
                Some((n, _)) => wrong.push(format!("{path}: {n} sets of version {version} were acknowledged")),
            }
        }
        for (version, sets) in by_version.range(last..) {
            if acknowledged(sets) > 0 {
                wrong.push(format!("{path}: a set of version {version} was acknowledged, and the version is {last}"));
            }
        }
        if let Some(sets) = by_version.get(&(last - 1)) {
            let makers: Vec<&&Set> = match sets.iter().find(|s| s.known == Known::Acknowledged) {
                Some(only) => vec![only],
                None => sets.iter().collect(),
            };
            if !makers.iter().any(|s| Some(&s.data) == seen.data.as_ref()) {
                wrong.push(format!("{path}: version {last} holds {:?}, which {makers:?} did not write", seen.data));
            }
        }
    }

    fn check_sequential(&self, below: &str, tree: &Tree, wrong: &mut Vec<String>) {
        let mut found: BTreeMap<&[u8], Vec<&str>> = BTreeMap::new();
        for (path, seen) in tree.range(below.to_owned()..).take_while(|(path, _)| path.starts_with(below)) {
            found.entry(seen.data.as_deref().unwrap_or_default()).or_default().push(path);
        }
        for (data, paths) in &found {
            let text = String::from_utf8_lossy(data);
            if paths.len() > 1 {
                wrong.push(format!("the create of {text} was applied {} times: {paths:?}", paths.len()));
            }
            match self.sequential.get(*data) {
                None => wrong.push(format!("{paths:?} holds {text}, and no create of that can have been done")),
                Some(Some(told)) if !paths.contains(&told.as_str()) => {
                    wrong.push(format!("the create of {text} was told to be {told}, and it is {paths:?}"));
                }
                Some(_) => {}
            }
        }
        for (data, path) in &self.sequential {
            if let Some(path) = path
                && !found.contains_key(data.as_slice())
            {
                wrong.push(format!("{path}: its create was acknowledged, and it is not there"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::Seen;
    use farrier_proto::Stat;

    fn seen(data: &[u8], version: i32, owner: i64) -> Seen {
        let stat = Stat { version, ephemeral_owner: owner, ..crate::walk::blank_stat() };
        Seen { data: Some(data.to_vec()), stat, acl: vec![] }
    }

    fn znode(created: Known, deleted: Option<Known>, owner: i64) -> Znode {
        Znode { data: b"d".to_vec(), created, deleted, owner, twin: None }
    }

    fn set(expected: i32, data: &[u8], known: Known) -> Set {
        Set { path: "/l/w/cell".to_owned(), expected, data: data.to_vec(), known }
    }

    /// A record and a tree that agree.
    fn agreeing() -> (Record, Tree) {
        let mut record = Record::default();
        record.znodes.insert("/l/w/kept".into(), znode(Known::Acknowledged, None, 0));
        record.znodes.insert("/l/w/gone".into(), znode(Known::Acknowledged, Some(Known::Acknowledged), 0));
        record.znodes.insert("/l/w/maybe".into(), znode(Known::Unknown, None, 0));
        record.znodes.insert("/l/w/eph".into(), znode(Known::Acknowledged, None, 7));
        record.sequential.insert(b"s1".to_vec(), Some("/l/seq/n-1".into()));
        record.sequential.insert(b"s2".to_vec(), None);
        record.sets = vec![
            set(0, b"a", Known::Acknowledged),
            set(1, b"lost", Known::Unknown),
            set(1, b"b", Known::Acknowledged),
            set(2, b"c", Known::Unknown),
        ];
        let tree = [
            ("/l/w", seen(b"", 0, 0)),
            ("/l/w/kept", seen(b"d", 0, 0)),
            ("/l/w/eph", seen(b"d", 0, 7)),
            ("/l/w/cell", seen(b"c", 3, 0)),
            ("/l/seq", seen(b"", 0, 0)),
            ("/l/seq/n-1", seen(b"s1", 0, 0)),
            ("/l/seq/n-2", seen(b"s2", 0, 0)),
        ];
        (record, tree.into_iter().map(|(path, seen)| (path.to_owned(), seen)).collect())
    }

    fn wrong(record: &Record, tree: &Tree) -> String {
        record.check("/l", &BTreeSet::from([7]), tree).join("\n")
    }

    #[test]
    fn what_agrees_passes_with_unknown_writes_done_and_not_done() {
        let (record, mut tree) = agreeing();
        assert_eq!(wrong(&record, &tree), "");
        tree.insert("/l/w/maybe".into(), seen(b"d", 0, 0));
        tree.remove("/l/seq/n-2");
        tree.insert("/l/w/cell".into(), seen(b"b", 2, 0));
        assert_eq!(wrong(&record, &tree), "");
    }

    #[test]
    fn every_kind_of_loss_and_repetition_is_found() {
        type Spoil = fn(&mut Tree);
        let cases: [(Spoil, &str); 11] = [
            (|t| drop(t.remove("/l/w/kept")), "/l/w/kept: its create was acknowledged"),
            (|t| drop(t.remove("/l/w/eph")), "/l/w/eph: its create was acknowledged"),
            (|t| drop(t.insert("/l/w/gone".into(), seen(b"d", 0, 0))), "/l/w/gone: its delete"),
            (|t| drop(t.insert("/l/w/kept".into(), seen(b"x", 0, 0))), "/l/w/kept: shows"),
            (|t| drop(t.insert("/l/w/new".into(), seen(b"d", 0, 0))), "/l/w/new exists, and no create"),
            (|t| drop(t.insert("/l/w/cell".into(), seen(b"a", 1, 0))), "a set of version 1 was acknowledged"),
            (|t| drop(t.insert("/l/w/cell".into(), seen(b"c", 4, 0))), "version 4 was made by nobody"),
            (|t| drop(t.insert("/l/w/cell".into(), seen(b"lost", 2, 0))), "version 2 holds"),
            (|t| drop(t.insert("/l/seq/n-3".into(), seen(b"s1", 0, 0))), "was applied 2 times"),
            (|t| drop(t.remove("/l/seq/n-1")), "/l/seq/n-1: its create was acknowledged"),
            (|t| drop(t.insert("/l/seq/n-3".into(), seen(b"s9", 0, 0))), "no create of that"),
        ];
        for (spoil, why) in cases {
            let (record, mut tree) = agreeing();
            spoil(&mut tree);
            let found = wrong(&record, &tree);
            assert!(found.contains(why), "{why}: {found:?}");
        }
    }

    #[test]
    fn half_a_transaction_two_winners_and_ghosts_of_a_session_are_found() {
        let (mut record, tree) = agreeing();
        record.znodes.get_mut("/l/w/kept").expect("it is there").twin = Some("/l/w/gone".into());
        assert!(wrong(&record, &tree).contains("only one is there"));
        let (mut record, tree) = agreeing();
        record.sets.push(set(0, b"z", Known::Acknowledged));
        assert!(wrong(&record, &tree).contains("2 sets of version 0"));
        let (record, tree) = agreeing();
        assert!(record.check("/l", &BTreeSet::new(), &tree)[0].contains("the end of its session"));
    }
}
