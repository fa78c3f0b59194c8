//! ACL lists, each stored once and counted.
//!
//! Owns the mapping between lists and the keys that znodes and snapshots hold. Keys are local to a
//! server: 1, 2, 3… in the order of first use, removed with their last user. The key -1 stands for
//! "world:anyone, everything" of the built-in nodes and has no entry; the same list from a client gets
//! an ordinary key.

use farrier_proto::{Acl, perms};
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

/// A list that is shared by its users; cloning it is cheap.
pub type SharedAcl = Arc<[Acl<'static>]>;

/// Key of an ACL list in the table of one server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AclKey(u32);

impl AclKey {
    /// The built-in open list; -1 on disk.
    pub const OPEN: Self = Self(0);

    /// The number in a snapshot.
    #[must_use]
    pub const fn to_disk(self) -> i64 {
        if self.0 == 0 { -1 } else { self.0 as i64 }
    }

    /// The word in a znode's block.
    pub(crate) const fn to_bits(self) -> u32 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

/// The open list of the built-in nodes.
static OPEN: LazyLock<SharedAcl> = LazyLock::new(|| Arc::from([Acl::world(perms::ALL)]));

/// Lists by key, as an image keeps them.
pub(crate) type Lists = HashMap<u32, SharedAcl, FixedState>;

fn same(a: &[Acl<'_>], b: &[Acl<'_>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.perms == b.perms && a.scheme == b.scheme && a.id == b.id)
}

/// The table of one tree.
#[derive(Debug)]
pub(crate) struct AclTable {
    /// Shared with images; copied when a list comes or goes while one is held.
    lists: Arc<Lists>,
    /// Users of each key.
    refs: HashMap<u32, u64, FixedState>,
    /// Keys by the hash of their list.
    by_list: HashTable<u32>,
    /// Of lists: clients choose them.
    hasher: FixedState,
    /// The last key that was given out.
    newest: u32,
    /// The key that was interned last: most creates use the same list as the one before.
    recent: Option<(u32, SharedAcl)>,
}

impl AclTable {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            lists: Arc::new(Lists::default()),
            refs: HashMap::default(),
            by_list: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            newest: 0,
            recent: None,
        }
    }

    pub(crate) fn hash_of(&self, list: &[Acl<'_>]) -> u64 {
        self.hasher.hash_one(list)
    }

    /// The key for `list`, with one user more.
    pub(crate) fn intern(&mut self, list: &[Acl<'_>]) -> AclKey {
        let recent = self.recent.as_ref().filter(|(_, known)| same(known, list)).map(|(key, _)| *key);
        let known = recent.or_else(|| {
            self.by_list.find(self.hash_of(list), |key| self.lists.get(key).is_some_and(|l| same(l, list))).copied()
        });
        let key = known.unwrap_or_else(|| {
            let key = self.unused_key();
            self.newest = key;
            self.insert(key, list.iter().cloned().map(Acl::into_owned).collect());
            key
        });
        if recent.is_none() {
            self.recent = self.lists.get(&key).map(|list| (key, Arc::clone(list)));
        }
        *self.refs.entry(key).or_insert(0) += 1;
        AclKey(key)
    }

    /// One user more for a key that has an entry, or is [`AclKey::OPEN`].
    pub(crate) fn retain(&mut self, key: AclKey) {
        if key == AclKey::OPEN {
            return;
        }
        if let Some(users) = self.refs.get_mut(&key.0) {
            *users += 1;
        } else {
            assert!(self.lists.contains_key(&key.0), "an ACL key in use has an entry");
            self.refs.insert(key.0, 1);
        }
    }

    /// One user less; the last one takes the entry with it.
    pub(crate) fn release(&mut self, key: AclKey) {
        if key == AclKey::OPEN {
            return;
        }
        let refs = self.refs.get_mut(&key.0).expect("an ACL key in use is counted");
        *refs = refs.checked_sub(1).expect("an ACL key has no fewer users than znodes that hold it");
        if *refs == 0 {
            self.refs.remove(&key.0);
            self.remove(key.0);
        }
    }

    /// Puts a list of a snapshot under its key, without a user yet. A later list with the same key
    /// replaces the earlier one.
    pub(crate) fn load(&mut self, key: u32, list: SharedAcl) -> AclKey {
        assert!(key != 0, "key 0 stands for the open list");
        if self.lists.contains_key(&key) {
            self.remove(key);
        }
        self.newest = self.newest.max(key);
        self.insert(key, list);
        AclKey(key)
    }

    /// A key that no list has.
    pub(crate) fn unused_key(&self) -> u32 {
        let mut key = self.newest;
        loop {
            key = key.checked_add(1).unwrap_or(1);
            if !self.lists.contains_key(&key) {
                return key;
            }
            assert!(key != self.newest, "there are fewer ACL lists than keys");
        }
    }

    pub(crate) fn has(&self, key: u32) -> bool {
        self.lists.contains_key(&key)
    }

    /// Drops the entries without users.
    pub(crate) fn drop_unused(&mut self) {
        let mut unused: Vec<u32> = self.lists.keys().filter(|key| !self.refs.contains_key(*key)).copied().collect();
        unused.sort_unstable();
        for key in unused {
            self.remove(key);
        }
    }

    /// The list of a key that is in use.
    pub(crate) fn get(&self, key: AclKey) -> &SharedAcl {
        if key == AclKey::OPEN {
            return &OPEN;
        }
        self.lists.get(&key.0).expect("an ACL key in use has an entry")
    }

    /// The lists as they are now, for an image.
    pub(crate) fn snapshot(&self) -> Arc<Lists> {
        Arc::clone(&self.lists)
    }

    fn insert(&mut self, key: u32, list: SharedAcl) {
        let lists = Arc::make_mut(&mut self.lists);
        let hash = self.hasher.hash_one(&*list);
        lists.insert(key, list);
        let (lists, hasher) = (&self.lists, &self.hasher);
        self.by_list.insert_unique(hash, key, |key| lists.get(key).map_or(0, |l| hasher.hash_one(&**l)));
    }

    fn remove(&mut self, key: u32) {
        if self.recent.as_ref().is_some_and(|(recent, _)| *recent == key) {
            self.recent = None;
        }
        let list = Arc::make_mut(&mut self.lists).remove(&key).expect("a key that is removed has an entry");
        if let Ok(found) = self.by_list.find_entry(self.hasher.hash_one(&*list), |other| *other == key) {
            found.remove();
        }
    }
}
