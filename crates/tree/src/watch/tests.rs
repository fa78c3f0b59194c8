use super::*;
use EventType::{
    NodeChildrenChanged as Children, NodeCreated as Created, NodeDataChanged as Changed, NodeDeleted as Deleted,
};
use proptest::prelude::*;
use std::collections::BTreeSet;

type Table = WatchTable<u32>;

fn fired(t: &mut Table, kind: EventType, path: &str) -> Vec<u32> {
    let mut out = Vec::new();
    t.trigger(kind, path, &mut |w| out.push(w));
    out
}

/// The events of a change that also touches the parent, as (type, path) of watcher 1.
fn heard(t: &mut Table, kind: EventType, path: &str) -> Vec<(i32, String)> {
    let mut out = Vec::new();
    let mut event = |kind: EventType, path: &str| {
        for _ in fired(t, kind, path) {
            out.push((kind.code(), path.to_owned()));
        }
    };
    event(kind, path);
    if matches!(kind, Created | Deleted) {
        let parent = &path[..path.rfind('/').unwrap()];
        event(Children, if parent.is_empty() { "/" } else { parent });
    }
    out
}

fn script(t: &mut Table, changes: &[(EventType, &str)]) -> Vec<String> {
    let events = changes.iter().flat_map(|(kind, path)| heard(t, *kind, path)).collect::<Vec<_>>();
    events.into_iter().map(|(kind, path)| format!("{kind}({path})")).collect()
}

#[test]
fn one_shots_fire_once() {
    let mut t = Table::new();
    t.add("/p", 1, WatchKind::Data);
    t.add("/p", 1, WatchKind::Data);
    t.add("/p", 1, WatchKind::Child);
    assert_eq!((t.watch_count(), t.path_count(), t.watcher_count()), (2, 1, 1));
    assert_eq!(fired(&mut t, Changed, "/p"), [1]);
    assert_eq!(fired(&mut t, Changed, "/p"), [] as [u32; 0]);
    assert_eq!(fired(&mut t, Children, "/p"), [1]);
    assert_eq!(fired(&mut t, Children, "/p"), [] as [u32; 0]);
    assert!(t.is_empty());
    assert_eq!((t.path_count(), t.watcher_count()), (0, 0));
}

#[test]
fn deletion_is_told_once_and_consumes_both_one_shots() {
    let mut t = Table::new();
    t.add("/p/n", 1, WatchKind::Data);
    t.add("/p/n", 1, WatchKind::Child);
    t.add("/p/n", 2, WatchKind::Child);
    t.add("/p/n", 3, WatchKind::Persistent);
    t.add("/p", 1, WatchKind::Child);
    assert_eq!(fired(&mut t, Deleted, "/p/n"), [1, 3, 2], "data table first, then the rest of the child table");
    assert_eq!(fired(&mut t, Children, "/p"), [1]);
    assert_eq!(fired(&mut t, Deleted, "/p/n"), [3]);
}

#[test]
fn child_watch_alone_hears_of_the_deletion() {
    let mut t = Table::new();
    t.add("/p/n", 1, WatchKind::Child);
    assert_eq!(script(&mut t, &[(Deleted, "/p/n")]), ["2(/p/n)"]);
}

#[test]
fn a_recursive_watch_above_suppresses_the_child_tables_deletion() {
    let mut t = Table::new();
    t.add("/p", 1, WatchKind::Recursive);
    t.add("/p/n", 1, WatchKind::Child);
    assert_eq!(fired(&mut t, Deleted, "/p/n"), [1]);
    assert!(!t.contains("/p/n", 1, WatcherType::Children), "suppressed, yet consumed");
}

const STORY: &[(EventType, &str)] = &[
    (Created, "/w"),
    (Changed, "/w"),
    (Created, "/w/k"),
    (Created, "/w/k/kk"),
    (Changed, "/w/k"),
    (Deleted, "/w/k/kk"),
    (Deleted, "/w/k"),
    (Deleted, "/w"),
    (Created, "/w"),
];

#[test]
fn persistent_stays_and_ignores_descendants() {
    let mut t = Table::new();
    t.add("/w", 1, WatchKind::Persistent);
    assert_eq!(script(&mut t, STORY), ["1(/w)", "3(/w)", "4(/w)", "4(/w)", "2(/w)", "1(/w)"]);
}

#[test]
fn recursive_hears_of_descendants_and_never_of_children_lists() {
    let mut t = Table::new();
    t.add("/w", 1, WatchKind::Recursive);
    assert_eq!(
        script(&mut t, STORY),
        ["1(/w)", "3(/w)", "1(/w/k)", "1(/w/k/kk)", "3(/w/k)", "2(/w/k/kk)", "2(/w/k)", "2(/w)", "1(/w)"]
    );
}

#[test]
fn persistent_and_recursive_together_tell_once() {
    let mut t = Table::new();
    t.add("/w", 1, WatchKind::Recursive);
    t.add("/w", 1, WatchKind::Persistent);
    let story = [(Created, "/w"), (Created, "/w/x"), (Changed, "/w/x"), (Deleted, "/w/x"), (Deleted, "/w")];
    assert_eq!(script(&mut t, &story), ["1(/w)", "1(/w/x)", "4(/w)", "3(/w/x)", "2(/w/x)", "4(/w)", "2(/w)"]);
}

#[test]
fn recursive_shares_the_event_of_a_one_shot() {
    let mut t = Table::new();
    t.add("/p", 1, WatchKind::Recursive);
    t.add("/p/t", 1, WatchKind::Data);
    assert_eq!(fired(&mut t, Changed, "/p/t"), [1]);
    t.add("/p", 1, WatchKind::Child);
    assert_eq!(script(&mut t, &[(Created, "/p/u")]), ["1(/p/u)", "4(/p)"]);
}

#[test]
fn the_root_is_watched_as_a_slash_only() {
    for root in ["/", ""] {
        let mut t = Table::new();
        t.add("/", 1, WatchKind::Recursive);
        t.add("/", 2, WatchKind::Persistent);
        for kind in [WatchKind::Data, WatchKind::Child, WatchKind::Persistent, WatchKind::Recursive] {
            t.add("", 3, kind);
        }
        assert_eq!(fired(&mut t, Changed, root), [1, 2]);
        assert_eq!(fired(&mut t, Children, root), [2]);
        assert_eq!(fired(&mut t, Created, "/x"), [1]);
        assert_eq!(fired(&mut t, Deleted, "/x/y"), [1]);
    }
}

#[test]
fn a_sibling_with_the_same_prefix_is_no_descendant() {
    let mut t = Table::new();
    t.add("/p", 1, WatchKind::Recursive);
    assert!(fired(&mut t, Created, "/px").is_empty());
    assert!(fired(&mut t, Created, "/px/y").is_empty());
}

#[test]
fn check_and_remove_by_type_as_in_cases_142_to_148() {
    use WatcherType::{Any, Children, Data, Persistent, PersistentRecursive};
    let types = [Children, Data, Any, Persistent, PersistentRecursive];
    let mut t = Table::new();
    t.add("/q", 1, WatchKind::Persistent);
    t.add("/q", 1, WatchKind::Recursive);
    assert_eq!(types.map(|k| t.contains("/q", 1, k)), [false, false, true, true, true]);
    t.add("/p", 1, WatchKind::Data);
    t.add("/p", 1, WatchKind::Child);
    assert_eq!(types.map(|k| t.contains("/p", 1, k)), [true, true, true, false, false]);
    assert_eq!(types.map(|k| t.contains("/p", 2, k)), [false; 5]);

    assert!(t.remove("/p", 1, Data));
    assert!(!t.remove("/p", 1, Data));
    assert!(fired(&mut t, Changed, "/p").is_empty());
    assert_eq!(fired(&mut t, EventType::NodeChildrenChanged, "/p"), [1]);

    assert!(t.remove("/q", 1, PersistentRecursive));
    assert_eq!(script(&mut t, &[(Created, "/q/a"), (Changed, "/q")]), ["4(/q)", "3(/q)"]);
    assert!(t.remove("/q", 1, Persistent));
    assert_eq!(script(&mut t, &[(Created, "/q/a"), (Changed, "/q")]), [] as [&str; 0]);

    for kind in [WatchKind::Data, WatchKind::Child, WatchKind::Persistent, WatchKind::Recursive] {
        t.add("/q", 1, kind);
    }
    assert!(t.remove("/q", 1, Any));
    assert!(!t.remove("/q", 1, Any));
    assert!(t.is_empty());

    t.add("/q", 1, WatchKind::Persistent);
    t.add("/q", 1, WatchKind::Data);
    assert_eq!(script(&mut t, &[(Changed, "/q"), (Changed, "/q")]), ["3(/q)", "3(/q)"]);
    assert!(!t.contains("/q", 1, Data));
}

#[test]
fn a_dropped_watcher_leaves_nothing() {
    let mut t = Table::new();
    for w in 0..1000 {
        t.add("/hot", w, WatchKind::Data);
        t.add(&format!("/own/{w}"), w, WatchKind::Recursive);
    }
    for w in (0..1000).filter(|w| w % 2 == 0) {
        t.drop_watcher(w);
    }
    assert_eq!((t.watch_count(), t.path_count(), t.watcher_count()), (1000, 501, 500));
    assert_eq!(fired(&mut t, Changed, "/hot"), (0..1000).filter(|w| w % 2 == 1).collect::<Vec<_>>());
    for w in 0..1000 {
        t.drop_watcher(w);
    }
    assert!(t.is_empty() && t.path_count() == 0 && t.watcher_count() == 0);
}

#[test]
fn an_empty_table_keeps_little_memory() {
    let mut t = Table::new();
    for w in 0..5000 {
        t.add(&format!("/own/{w}"), w, WatchKind::Data);
    }
    for w in 0..5000 {
        t.drop_watcher(w);
    }
    assert!(t.paths.capacity() + t.watchers.capacity() <= 2 * KEPT_MAX);
    t.add("/again", 1, WatchKind::Data);
    assert_eq!(fired(&mut t, Changed, "/again"), [1]);
}

#[test]
fn slots_of_gone_paths_are_used_again() {
    let mut t = Table::new();
    for i in 0..1000 {
        t.add(&format!("/p{i}"), i, WatchKind::Data);
        assert_eq!(fired(&mut t, Deleted, &format!("/p{i}")), [i]);
    }
    assert_eq!((t.paths.len(), t.watchers.len()), (1, 1));
}

#[test]
fn a_registration_is_small() {
    assert!(size_of::<PathEntry>() <= 40);
    assert!(size_of::<Watchers>() <= 16);
}

#[test]
fn lists_of_the_data_table_are_sorted_and_leave_child_watches_out() {
    let mut t = Table::new();
    for (path, w, kind) in [
        ("/b", 2, WatchKind::Data),
        ("/a", 2, WatchKind::Recursive),
        ("/b", 1, WatchKind::Persistent),
        ("/a", 1, WatchKind::Child),
        ("/c", 3, WatchKind::Child),
    ] {
        t.add(path, w, kind);
    }
    assert_eq!(t.data_by_watcher(), BTreeMap::from([(1, vec!["/b"]), (2, vec!["/a", "/b"])]));
    assert_eq!(t.data_by_path(), BTreeMap::from([("/a", vec![2]), ("/b", vec![1, 2])]));
    assert_eq!(t.data_table(), DataTable { watchers: 2, paths: 2, watches: 3 });
    assert_eq!((t.watcher_count(), t.path_count(), t.watch_count()), (3, 3, 6), "the gauge counts both tables");
}

/// The rules of the protocol reference, section 3.12, over a plain set.
#[derive(Default)]
struct Twin(BTreeSet<(String, u32, u8)>);

impl Twin {
    fn take(&mut self, path: &str, modes: &[Modes]) -> BTreeSet<u32> {
        let hit: Vec<_> = self.0.iter().filter(|(p, _, m)| p == path && modes.contains(m)).cloned().collect();
        for entry in &hit {
            if entry.2 == DATA || entry.2 == CHILD {
                self.0.remove(entry);
            }
        }
        hit.into_iter().map(|(_, w, _)| w).collect()
    }

    fn data_table(&mut self, path: &str) -> BTreeSet<u32> {
        let mut out = self.take(path, &[DATA, PERSISTENT, RECURSIVE]);
        out.extend(
            self.0
                .iter()
                .filter(|(p, _, m)| {
                    *m == RECURSIVE && (p == "/" || path.starts_with(&format!("{p}/"))) && !p.is_empty()
                })
                .map(|(_, w, _)| *w),
        );
        out
    }

    fn fire(&mut self, kind: EventType, path: &str) -> Vec<u32> {
        match kind {
            Created | Changed => self.data_table(path).into_iter().collect(),
            Children => self.take(path, &[CHILD, PERSISTENT]).into_iter().collect(),
            Deleted => {
                let first = self.data_table(path);
                let second = self.take(path, &[CHILD, PERSISTENT]);
                first.iter().chain(second.difference(&first)).copied().collect()
            }
        }
    }
}

fn kind_of(i: u8) -> WatchKind {
    [WatchKind::Data, WatchKind::Child, WatchKind::Persistent, WatchKind::Recursive][usize::from(i % 4)]
}

const PATHS: [&str; 7] = ["", "/", "/a", "/a/b", "/a/b/c", "/ab", "/x"];

proptest! {
    #[test]
    fn behaves_as_its_dumb_twin(steps in prop::collection::vec((0..5u8, 0..7usize, 0..4u32, 0..5u8), 0..80)) {
        let mut t = Table::new();
        let mut twin = Twin::default();
        for (what, path, w, kind) in steps {
            let path = PATHS[path];
            match what {
                0 | 1 => {
                    t.add(path, w, kind_of(kind));
                    twin.0.insert((path.to_owned(), w, modes_of(kind_of(kind))));
                }
                2 => {
                    let event = [Created, Deleted, Changed, Children][usize::from(kind % 4)];
                    let path = if path.is_empty() { "/" } else { path };
                    prop_assert_eq!(fired(&mut t, event, path), twin.fire(event, path));
                }
                3 => {
                    let meant = WatcherType::from_code(i32::from(kind) + 1).unwrap();
                    let before = twin.0.len();
                    twin.0.retain(|(p, v, m)| p != path || *v != w || m & modes_meant(meant) == 0);
                    prop_assert_eq!(t.contains(path, w, meant), before != twin.0.len());
                    prop_assert_eq!(t.remove(path, w, meant), before != twin.0.len());
                }
                _ => {
                    t.drop_watcher(w);
                    twin.0.retain(|(_, v, _)| *v != w);
                }
            }
            let mut modes = BTreeMap::<(&str, u32), Modes>::new();
            for (p, v, m) in &twin.0 {
                *modes.entry((p, *v)).or_default() |= m;
            }
            prop_assert_eq!(t.watch_count(), modes.values().map(|m| weight(*m)).sum::<usize>());
            prop_assert_eq!(t.path_count(), modes.keys().map(|(p, _)| *p).collect::<BTreeSet<_>>().len());
            prop_assert_eq!(t.watcher_count(), modes.keys().map(|(_, v)| *v).collect::<BTreeSet<_>>().len());
            let data: BTreeSet<_> = modes.iter().filter(|(_, m)| **m & DATA_TABLE != 0).map(|(key, _)| *key).collect();
            let listed = t.data_by_path().into_iter().flat_map(|(p, all)| all.into_iter().map(move |v| (p, v)));
            prop_assert_eq!(listed.collect::<BTreeSet<_>>(), data.clone());
            let listed = t.data_by_watcher().into_iter().flat_map(|(v, all)| all.into_iter().map(move |p| (p, v)));
            prop_assert_eq!(listed.collect::<BTreeSet<_>>(), data.clone());
            let size = DataTable {
                watchers: data.iter().map(|(_, v)| *v).collect::<BTreeSet<_>>().len(),
                paths: data.iter().map(|(p, _)| *p).collect::<BTreeSet<_>>().len(),
                watches: data.len(),
            };
            prop_assert_eq!(t.data_table(), size);
        }
    }
}
