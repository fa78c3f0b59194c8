//! Watches: which connections hear of a change to which path.
//!
//! Owns the registrations of one server and the rules which of them a change fires and consumes. It
//! sends nothing and filters nothing: the caller gets the watchers to notify, and a watcher that an ACL
//! then keeps from hearing has had its one-shot watch consumed all the same, as in Apache.
//!
//! A registration is a mode on a path by a watcher. The four modes are independent. They form two
//! tables: data (one-shot data, persistent, recursive) and child (one-shot child, persistent); a change
//! notifies each watcher at most once per table.
//!
//! Paths and watchers are interned, so that a registration costs some tens of bytes; the number of
//! watchers of a path, or of paths of a watcher, does not matter to the cost of adding or removing one.

use farrier_proto::client::{EventType, WatcherType};
use foldhash::fast::FixedState;
use hashbrown::hash_table::Entry;
use hashbrown::{HashMap, HashSet, HashTable};
use std::collections::{BTreeMap, btree_map};
use std::hash::{BuildHasher, Hash};

/// How a watcher watches a path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WatchKind {
    /// One-shot, left by getData and exists.
    Data,
    /// One-shot, left by getChildren.
    Child,
    /// Stays; the path alone, children included.
    Persistent,
    /// Stays; the path and everything below, but no events about children lists.
    Recursive,
}

/// A set of modes.
type Modes = u8;
const DATA: Modes = 1;
const CHILD: Modes = 2;
const PERSISTENT: Modes = 4;
const RECURSIVE: Modes = 8;
/// Modes that events on a path itself fire, in each of the two tables.
const DATA_TABLE: Modes = DATA | PERSISTENT | RECURSIVE;
const CHILD_TABLE: Modes = CHILD | PERSISTENT;

const fn modes_of(kind: WatchKind) -> Modes {
    match kind {
        WatchKind::Data => DATA,
        WatchKind::Child => CHILD,
        WatchKind::Persistent => PERSISTENT,
        WatchKind::Recursive => RECURSIVE,
    }
}

const fn modes_meant(kind: WatcherType) -> Modes {
    match kind {
        WatcherType::Children => CHILD,
        WatcherType::Data => DATA,
        WatcherType::Any => DATA | CHILD | PERSISTENT | RECURSIVE,
        WatcherType::Persistent => PERSISTENT,
        WatcherType::PersistentRecursive => RECURSIVE,
    }
}

/// Registrations as the gauge counts them: one per table that a watcher is in.
const fn weight(modes: Modes) -> usize {
    (modes & DATA_TABLE != 0) as usize + (modes & CHILD_TABLE != 0) as usize
}

/// Slots for paths or watchers that an empty table keeps.
const KEPT_MAX: usize = 1024;

type PathId = u32;
type WatcherId = u32;

/// The watchers of one path. Most paths have one.
#[derive(Debug)]
enum Watchers {
    None,
    One(WatcherId, Modes),
    Many(Box<HashMap<WatcherId, Modes, FixedState>>),
}

impl Watchers {
    fn get(&self, watcher: WatcherId) -> Modes {
        match self {
            Self::None => 0,
            Self::One(w, modes) if *w == watcher => *modes,
            Self::One(..) => 0,
            Self::Many(map) => map.get(&watcher).copied().unwrap_or(0),
        }
    }

    /// Sets the modes of a watcher; 0 removes it.
    fn set(&mut self, watcher: WatcherId, modes: Modes) {
        match self {
            Self::Many(map) if modes == 0 => {
                map.remove(&watcher);
                if map.is_empty() {
                    *self = Self::None;
                }
            }
            Self::Many(map) => {
                map.insert(watcher, modes);
            }
            Self::One(w, m) if *w == watcher => {
                if modes == 0 {
                    *self = Self::None;
                } else {
                    *m = modes;
                }
            }
            Self::None if modes != 0 => *self = Self::One(watcher, modes),
            Self::One(w, m) if modes != 0 => {
                let mut map = HashMap::with_hasher(FixedState::default());
                map.insert(*w, *m);
                map.insert(watcher, modes);
                *self = Self::Many(Box::new(map));
            }
            Self::None | Self::One(..) => {}
        }
    }

    fn for_each(&self, mut f: impl FnMut(WatcherId, Modes)) {
        match self {
            Self::None => {}
            Self::One(w, modes) => f(*w, *modes),
            Self::Many(map) => map.iter().for_each(|(w, modes)| f(*w, *modes)),
        }
    }
}

#[derive(Debug)]
struct PathEntry {
    /// Empty and boxed empty in a free slot.
    path: Box<str>,
    watchers: Watchers,
}

#[derive(Debug)]
struct WatcherEntry<W> {
    watcher: W,
    paths: HashSet<PathId, FixedState>,
}

/// What the data table holds: watches left by getData and exists, and both persistent ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DataTable {
    /// Watchers with a watch in it.
    pub watchers: usize,
    /// Paths with a watch in it.
    pub paths: usize,
    /// Pairs of a path and a watcher.
    pub watches: usize,
}

/// All watches of one server. `W` names a connection.
#[derive(Debug)]
pub struct WatchTable<W> {
    paths: Vec<PathEntry>,
    free_paths: Vec<PathId>,
    by_path: HashTable<PathId>,
    watchers: Vec<Option<WatcherEntry<W>>>,
    free_watchers: Vec<WatcherId>,
    by_watcher: HashMap<W, WatcherId, FixedState>,
    hasher: FixedState,
    /// Sum of [`weight`] over all registrations.
    count: usize,
    /// How many registrations with the recursive mode there are on paths of each length: a change looks only
    /// at those of its ancestors, however deep its path is.
    recursive: BTreeMap<usize, usize>,
    /// Watchers to notify; kept to reuse its memory.
    notified: Vec<W>,
    /// Registrations that a trigger consumed modes of; kept to reuse its memory.
    consumed: Vec<(WatcherId, Modes)>,
}

impl<W: Copy + Eq + Hash + Ord> Default for WatchTable<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: Copy + Eq + Hash + Ord> WatchTable<W> {
    /// A table without watches.
    #[must_use]
    pub fn new() -> Self {
        Self::with_hasher(FixedState::default())
    }

    /// The same with a seed for the hashes of paths, so that nobody can choose paths that collide. The seed
    /// shows in no result.
    #[must_use]
    pub fn with_hash_seed(seed: u64) -> Self {
        Self::with_hasher(FixedState::with_seed(seed))
    }

    fn with_hasher(hasher: FixedState) -> Self {
        Self {
            paths: Vec::new(),
            free_paths: Vec::new(),
            by_path: HashTable::new(),
            watchers: Vec::new(),
            free_watchers: Vec::new(),
            by_watcher: HashMap::with_hasher(FixedState::default()),
            hasher,
            count: 0,
            recursive: BTreeMap::new(),
            notified: Vec::new(),
            consumed: Vec::new(),
        }
    }

    /// Registers a watch; repeating one changes nothing. Any text may be watched; what is no path of an
    /// event (`""` among others) never fires.
    ///
    /// # Panics
    /// With 2^32 paths or watchers.
    pub fn add(&mut self, path: &str, watcher: W, kind: WatchKind) {
        let path = self.intern_path(path);
        let watcher = self.intern_watcher(watcher);
        let before = self.paths[path as usize].watchers.get(watcher);
        self.set(path, watcher, before, before | modes_of(kind));
    }

    /// Reports who hears of a change: each watcher once per table, in their order. One-shot watches that
    /// the change fires are gone afterwards.
    ///
    /// A deletion fires both tables of the path, the child table only for watchers that the data table
    /// did not notify. The event on the parent is a change of its own, [`EventType::NodeChildrenChanged`],
    /// to be triggered after it. `""` is taken for `"/"`, the name that events give to the root.
    pub fn trigger(&mut self, kind: EventType, path: &str, notify: &mut dyn FnMut(W)) {
        if self.count == 0 {
            return;
        }
        let path = if path.is_empty() { "/" } else { path };
        let id = self.find_path(path);
        match kind {
            EventType::NodeCreated | EventType::NodeDataChanged => self.fire(id, DATA_TABLE, path),
            EventType::NodeChildrenChanged => self.fire(id, CHILD_TABLE, path),
            EventType::NodeDeleted => {
                self.fire(id, DATA_TABLE, path);
                let first = std::mem::take(&mut self.notified);
                first.iter().copied().for_each(&mut *notify);
                // The data table may have let go of the path's last watcher.
                self.fire(self.find_path(path), CHILD_TABLE, path);
                self.notified.retain(|w| first.binary_search(w).is_err());
            }
        }
        let notified = std::mem::take(&mut self.notified);
        notified.iter().copied().for_each(notify);
        self.notified = notified;
    }

    /// Collects into `notified`, sorted, whom an event in one table concerns, and consumes what is
    /// one-shot.
    fn fire(&mut self, id: Option<PathId>, table: Modes, path: &str) {
        self.notified.clear();
        if let Some(id) = id {
            self.fire_at(id, table);
        }
        if table & RECURSIVE != 0 {
            self.collect_ancestors(path);
        }
        if self.notified.len() > 1 {
            self.notified.sort_unstable();
            self.notified.dedup();
        }
    }

    fn fire_at(&mut self, id: PathId, table: Modes) {
        let one_shot = table & (DATA | CHILD);
        let mut consumed = std::mem::take(&mut self.consumed);
        consumed.clear();
        self.paths[id as usize].watchers.for_each(|w, modes| {
            if modes & table != 0 {
                self.notified.push(watcher_entry(&self.watchers, w).watcher);
            }
            if modes & one_shot != 0 {
                consumed.push((w, modes));
            }
        });
        if farrier_proto::planted!(WatchFiresTwice) {
            consumed.clear();
        }
        for (watcher, modes) in consumed.drain(..) {
            self.set(id, watcher, modes, modes & !one_shot);
        }
        self.consumed = consumed;
    }

    fn collect_ancestors(&mut self, path: &str) {
        // A watch on "" never fires.
        for len in self.recursive.range(..path.len()).map(|(len, _)| *len).filter(|len| *len > 0) {
            let ancestor = match path.as_bytes()[len] {
                b'/' => &path[..len],
                _ if len == 1 => "/",
                _ => continue,
            };
            let Some(id) = self.find_path(ancestor) else { continue };
            self.paths[id as usize].watchers.for_each(|w, modes| {
                if modes & RECURSIVE != 0 {
                    self.notified.push(watcher_entry(&self.watchers, w).watcher);
                }
            });
        }
    }

    /// Whether the watcher has a watch of this type on this path.
    #[must_use]
    pub fn contains(&self, path: &str, watcher: W, kind: WatcherType) -> bool {
        self.modes(path, watcher).is_some_and(|(_, _, modes)| modes & modes_meant(kind) != 0)
    }

    /// Removes the watches of this type; false when there was none. Nobody is notified.
    pub fn remove(&mut self, path: &str, watcher: W, kind: WatcherType) -> bool {
        let Some((path, watcher, before)) = self.modes(path, watcher) else { return false };
        let after = before & !modes_meant(kind);
        self.set(path, watcher, before, after);
        before != after
    }

    fn modes(&self, path: &str, watcher: W) -> Option<(PathId, WatcherId, Modes)> {
        let watcher = *self.by_watcher.get(&watcher)?;
        let path = self.find_path(path)?;
        Some((path, watcher, self.paths[path as usize].watchers.get(watcher)))
    }

    /// Removes everything of a watcher: its connection is gone.
    pub fn drop_watcher(&mut self, watcher: W) {
        let Some(id) = self.by_watcher.get(&watcher).copied() else { return };
        let paths = std::mem::take(&mut watcher_entry_mut(&mut self.watchers, id).paths);
        for path in paths {
            let before = self.paths[path as usize].watchers.get(id);
            self.count_change(path, before, 0);
            self.set_on_path(path, id, 0);
        }
        self.forget_watcher(id);
        self.shrink();
    }

    /// Whether there is no watch at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All watches: one per path, watcher and table.
    #[must_use]
    pub const fn watch_count(&self) -> usize {
        self.count
    }

    /// Paths with a watch.
    #[must_use]
    pub fn path_count(&self) -> usize {
        self.by_path.len()
    }

    /// Watchers with a watch.
    #[must_use]
    pub fn watcher_count(&self) -> usize {
        self.by_watcher.len()
    }

    /// How much the data table holds, by one look at every registration.
    #[must_use]
    pub fn data_table(&self) -> DataTable {
        let mut size = DataTable::default();
        for id in &self.by_path {
            let before = size.watches;
            self.paths[*id as usize].watchers.for_each(|_, modes| size.watches += usize::from(modes & DATA_TABLE != 0));
            size.paths += usize::from(size.watches > before);
        }
        let has_any = |id: WatcherId| watcher_entry(&self.watchers, id).paths.iter().any(|p| self.is_data(*p, id));
        size.watchers = self.by_watcher.values().filter(|id| has_any(**id)).count();
        size
    }

    /// The paths of each watcher in the data table, all sorted.
    #[must_use]
    pub fn data_by_watcher(&self) -> BTreeMap<W, Vec<&str>> {
        let paths = |id: WatcherId, e: &WatcherEntry<W>| {
            let in_table = e.paths.iter().filter(|p| self.is_data(**p, id));
            let mut paths: Vec<_> = in_table.map(|p| &*self.paths[*p as usize].path).collect();
            paths.sort_unstable();
            paths
        };
        let entries =
            self.by_watcher.iter().map(|(watcher, id)| (*watcher, paths(*id, watcher_entry(&self.watchers, *id))));
        entries.filter(|(_, paths)| !paths.is_empty()).collect()
    }

    /// The watchers of each path in the data table, all sorted.
    #[must_use]
    pub fn data_by_path(&self) -> BTreeMap<&str, Vec<W>> {
        let watchers = |id: PathId| {
            let mut out = Vec::new();
            self.paths[id as usize].watchers.for_each(|w, modes| {
                if modes & DATA_TABLE != 0 {
                    out.push(watcher_entry(&self.watchers, w).watcher);
                }
            });
            out.sort_unstable();
            out
        };
        let entries = self.by_path.iter().map(|id| (&*self.paths[*id as usize].path, watchers(*id)));
        entries.filter(|(_, watchers)| !watchers.is_empty()).collect()
    }

    fn is_data(&self, path: PathId, watcher: WatcherId) -> bool {
        self.paths[path as usize].watchers.get(watcher) & DATA_TABLE != 0
    }

    fn find_path(&self, path: &str) -> Option<PathId> {
        let hash = self.hasher.hash_one(path);
        self.by_path.find(hash, |id| *self.paths[*id as usize].path == *path).copied()
    }

    fn intern_path(&mut self, path: &str) -> PathId {
        let hash = self.hasher.hash_one(path);
        let paths = &mut self.paths;
        let hasher = &self.hasher;
        let at = match self.by_path.entry(
            hash,
            |id| *paths[*id as usize].path == *path,
            |id| hasher.hash_one(&*paths[*id as usize].path),
        ) {
            Entry::Occupied(found) => return *found.get(),
            Entry::Vacant(vacant) => vacant,
        };
        let entry = PathEntry { path: path.into(), watchers: Watchers::None };
        let id = if let Some(id) = self.free_paths.pop() {
            paths[id as usize] = entry;
            id
        } else {
            paths.push(entry);
            PathId::try_from(paths.len() - 1).expect("fewer than 2^32 watched paths")
        };
        at.insert(id);
        id
    }

    fn intern_watcher(&mut self, watcher: W) -> WatcherId {
        let (watchers, free) = (&mut self.watchers, &mut self.free_watchers);
        *self.by_watcher.entry(watcher).or_insert_with(|| {
            let entry = Some(WatcherEntry { watcher, paths: HashSet::with_hasher(FixedState::default()) });
            if let Some(id) = free.pop() {
                watchers[id as usize] = entry;
                id
            } else {
                watchers.push(entry);
                WatcherId::try_from(watchers.len() - 1).expect("fewer than 2^32 connections")
            }
        })
    }

    /// The one place that changes a registration, both ways round.
    fn set(&mut self, path: PathId, watcher: WatcherId, before: Modes, after: Modes) {
        if before == after {
            return;
        }
        self.count_change(path, before, after);
        let entry = watcher_entry_mut(&mut self.watchers, watcher);
        if before == 0 {
            entry.paths.insert(path);
        }
        if after == 0 {
            entry.paths.remove(&path);
            if entry.paths.is_empty() {
                self.forget_watcher(watcher);
            }
        }
        self.set_on_path(path, watcher, after);
    }

    fn count_change(&mut self, path: PathId, before: Modes, after: Modes) {
        self.count = self.count + weight(after) - weight(before);
        let len = self.paths[path as usize].path.len();
        match (before & RECURSIVE != 0, after & RECURSIVE != 0) {
            (false, true) => *self.recursive.entry(len).or_default() += 1,
            (true, false) => {
                if let btree_map::Entry::Occupied(mut count) = self.recursive.entry(len) {
                    *count.get_mut() -= 1;
                    if *count.get() == 0 {
                        count.remove();
                    }
                }
            }
            _ => {}
        }
    }

    fn set_on_path(&mut self, path: PathId, watcher: WatcherId, modes: Modes) {
        let entry = &mut self.paths[path as usize];
        entry.watchers.set(watcher, modes);
        if !matches!(entry.watchers, Watchers::None) {
            return;
        }
        let hash = self.hasher.hash_one(&*entry.path);
        entry.path = Box::default();
        let found = self.by_path.find_entry(hash, |id| *id == path);
        found.expect("a path with an entry is in the index").remove();
        self.free_paths.push(path);
    }

    fn forget_watcher(&mut self, id: WatcherId) {
        let entry = self.watchers[id as usize].take().expect("a watcher that is forgotten was known");
        self.by_watcher.remove(&entry.watcher);
        self.free_watchers.push(id);
    }

    /// Gives back the memory of many watches once the last one is gone.
    fn shrink(&mut self) {
        if self.count == 0 && self.paths.capacity().max(self.watchers.capacity()) > KEPT_MAX {
            *self = Self::with_hasher(self.hasher.clone());
        }
    }
}

fn watcher_entry<W>(watchers: &[Option<WatcherEntry<W>>], id: WatcherId) -> &WatcherEntry<W> {
    watchers[id as usize].as_ref().expect("a registration names a known watcher")
}

fn watcher_entry_mut<W>(watchers: &mut [Option<WatcherEntry<W>>], id: WatcherId) -> &mut WatcherEntry<W> {
    watchers[id as usize].as_mut().expect("a registration names a known watcher")
}

#[cfg(test)]
mod tests;
