//! The tree against a dumb twin: maps of whole records, every rule written down naively, everything
//! derived computed from scratch.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which the exemption for tests does not reach")]

use farrier_proto::client::EventType;
use farrier_proto::path::split;
use farrier_proto::stat::StatPersisted;
use farrier_proto::txn::{
    CheckVersionTxn, CreateContainerTxn, CreateTtlTxn, CreateTxn, SetAclTxn, SetDataTxn, TxnHeader,
};
use farrier_proto::{Acl, ErrorCode, Owner, SessionId, Stat, Txn, Zxid};
use farrier_tree::digest::node_digest;
use farrier_tree::quota::QuotaText;
use farrier_tree::{Change, Outcome, Tree, TreeConfig, TreeImage, TreeLoader};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

const CONFIG: TreeConfig =
    TreeConfig { extended_types: true, ttl_353: false, digest: true, list_closed: true, enforce_quota: false };

#[derive(Clone, PartialEq, Eq, Debug)]
struct TwinNode {
    data: Option<Vec<u8>>,
    acl: Vec<Acl<'static>>,
    stat: StatPersisted,
}

/// Everything that a snapshot could tell of a state, and quota paths.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Twin {
    nodes: BTreeMap<String, TwinNode>,
    sessions: BTreeMap<SessionId, i32>,
    quotas: BTreeSet<String>,
    zxid: Zxid,
}

type Event = (EventType, String, Vec<Acl<'static>>);

impl Twin {
    fn virgin() -> Self {
        Self::of(&Tree::new(CONFIG).image())
    }

    /// What an image shows.
    fn of(image: &TreeImage) -> Self {
        let acls: BTreeMap<i64, Vec<Acl<'static>>> = image.acls().into_iter().map(|(k, l)| (k, l.to_vec())).collect();
        let mut twin = Self { zxid: image.zxid(), sessions: image.sessions().into_iter().collect(), ..Self::default() };
        let mut used = BTreeSet::new();
        image
            .nodes::<()>(&mut |node| {
                assert!(node.path.is_empty() || twin.nodes.contains_key(split(node.path).unwrap().0), "parents first");
                let acl = if node.acl == -1 { vec![Acl::world(31)] } else { acls[&node.acl].clone() };
                used.insert(node.acl);
                let twin_node = TwinNode { data: node.data.map(<[u8]>::to_vec), acl, stat: node.stat };
                assert!(twin.nodes.insert(node.path.to_owned(), twin_node).is_none(), "each node once");
                Ok(())
            })
            .unwrap();
        used.remove(&-1);
        assert_eq!(used, acls.keys().copied().collect(), "the ACL table holds what is used, nothing else");
        assert_eq!(image.digest(), Some(twin.digest()));
        twin
    }

    fn digest(&self) -> u64 {
        self.nodes
            .iter()
            .fold(0_u64, |sum, (path, n)| sum.wrapping_add(node_digest(path, n.data.as_deref(), &n.stat).into()))
    }

    fn children(&self, path: &str) -> BTreeSet<String> {
        let of = |p: &String| split(p).filter(|(parent, _)| *parent == path).map(|(_, name)| name.to_owned());
        self.nodes.keys().filter_map(of).collect()
    }

    fn stat(&self, path: &str) -> Stat {
        let (node, children) = (&self.nodes[path], self.children(path).len() as i32);
        let s = node.stat;
        let owner = match Owner::decode(s.ephemeral_owner, CONFIG.extended_types, CONFIG.ttl_353) {
            Some(Owner::Ephemeral(session)) => session.0,
            _ => 0,
        };
        Stat {
            czxid: s.czxid,
            mzxid: s.mzxid,
            ctime: s.ctime,
            mtime: s.mtime,
            version: s.version,
            cversion: s.cversion.wrapping_mul(2).wrapping_sub(children),
            aversion: s.aversion,
            ephemeral_owner: owner,
            data_length: node.data.as_ref().map_or(0, Vec::len) as i32,
            num_children: children,
            pzxid: s.pzxid,
        }
    }

    fn ephemerals(&self) -> BTreeMap<SessionId, Vec<String>> {
        let mut all: BTreeMap<SessionId, Vec<String>> = BTreeMap::new();
        for (path, node) in &self.nodes {
            if let Some(Owner::Ephemeral(s)) = Owner::decode(node.stat.ephemeral_owner, true, false) {
                all.entry(s).or_default().push(path.clone());
            }
        }
        all
    }

    fn usage(&mut self, path: &str, count: i64, bytes: i64) {
        let encloses = |q: &&String| path == *q || path.starts_with(&format!("{q}/"));
        let Some(quota) = self.quotas.iter().filter(encloses).max_by_key(|q| q.len()) else { return };
        let Some(node) = self.nodes.get_mut(&format!("/zookeeper/quota{quota}/zookeeper_stats")) else { return };
        let text = node.data.as_deref().and_then(|d| QuotaText::parse(d).ok());
        let mut text = text.unwrap_or_else(|| QuotaText::usage(0, 0));
        text.add(count, bytes);
        node.data = Some(text.to_string().into_bytes());
    }

    fn apply(&mut self, h: &TxnHeader, txn: &Txn<'_>, events: &mut Vec<Event>) -> Outcome {
        self.zxid = self.zxid.max(h.zxid);
        match txn {
            Txn::CreateSession(timeout) => {
                self.sessions.insert(h.session, *timeout);
                Outcome::Done
            }
            Txn::CloseSession(listed) => {
                self.sessions.remove(&h.session);
                for path in listed.iter().flatten() {
                    self.delete(h, path, events);
                }
                for path in self.ephemerals().remove(&h.session).unwrap_or_default() {
                    self.delete(h, &path, events);
                }
                Outcome::Done
            }
            Txn::Multi(txns) if txns.iter().any(|t| matches!(t, Txn::Error(_))) => {
                let code = |t: &Txn<'_>| Outcome::Failed(if let Txn::Error(code) = t { *code } else { 0 });
                Outcome::Multi(txns.iter().map(code).collect())
            }
            Txn::Multi(txns) => Outcome::Multi(txns.iter().map(|t| self.apply(h, t, events)).collect()),
            Txn::Create(t) | Txn::Create2(t) => {
                let owner = if t.ephemeral { h.session.0 } else { 0 };
                let plain = matches!(txn, Txn::Create(_));
                self.create(h, &t.path, &t.data, &t.acl, t.parent_cversion, owner, plain, events)
            }
            Txn::CreateContainer(t) => {
                self.create(h, &t.path, &t.data, &t.acl, t.parent_cversion, i64::MIN, false, events)
            }
            Txn::CreateTtl(t) => {
                let owner = Owner::Ttl(t.ttl as u64).encode();
                self.create(h, &t.path, &t.data, &t.acl, t.parent_cversion, owner, false, events)
            }
            Txn::Delete(path) | Txn::DeleteContainer(path) => self.delete(h, path, events),
            Txn::SetData(t) | Txn::Reconfig(t) => {
                let Some(node) = self.nodes.get_mut(&*t.path) else {
                    return Outcome::Failed(ErrorCode::NoNode.code());
                };
                let old = node.data.as_ref().map_or(0, Vec::len) as i64;
                node.data = t.data.as_deref().map(<[u8]>::to_vec);
                (node.stat.mzxid, node.stat.mtime, node.stat.version) = (h.zxid, h.time, t.version);
                events.push((EventType::NodeDataChanged, shown(&t.path), node.acl.clone()));
                self.usage(&t.path, 0, t.data.as_ref().map_or(0, |d| d.len()) as i64 - old);
                Outcome::Stat(self.stat(&t.path))
            }
            Txn::SetAcl(t) => {
                let Some(node) = self.nodes.get_mut(&*t.path) else {
                    return Outcome::Failed(ErrorCode::NoNode.code());
                };
                node.acl = t.acl.iter().cloned().map(Acl::into_owned).collect();
                node.stat.aversion = t.version;
                Outcome::Stat(self.stat(&t.path))
            }
            Txn::Check(_) => Outcome::Done,
            Txn::Error(code) => Outcome::Failed(*code),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one naive rule, spelled out")]
    fn create(
        &mut self,
        h: &TxnHeader,
        path: &str,
        data: &Option<Cow<'_, [u8]>>,
        acl: &[Acl<'_>],
        cversion: i32,
        owner: i64,
        plain: bool,
        events: &mut Vec<Event>,
    ) -> Outcome {
        let (parent_path, name) = split(path).unwrap();
        let acl: Vec<Acl<'static>> = acl.iter().cloned().map(Acl::into_owned).collect();
        let exists = self.nodes.contains_key(path);
        let Some(parent) = self.nodes.get_mut(parent_path) else { return Outcome::Failed(ErrorCode::NoNode.code()) };
        let to = if cversion == -1 { parent.stat.cversion + 1 } else { cversion };
        if (!exists || plain) && to > parent.stat.cversion {
            parent.stat.cversion = to;
            parent.stat.pzxid = h.zxid;
        }
        if exists {
            self.nodes.get_mut(path).unwrap().acl = acl;
            return Outcome::Failed(ErrorCode::NodeExists.code());
        }
        events.push((EventType::NodeCreated, path.to_owned(), acl.clone()));
        events.push((EventType::NodeChildrenChanged, shown(parent_path), parent.acl.clone()));
        let stat = StatPersisted {
            czxid: h.zxid,
            mzxid: h.zxid,
            ctime: h.time,
            mtime: h.time,
            version: 0,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: owner,
            pzxid: h.zxid,
        };
        let data = data.as_deref().map(<[u8]>::to_vec);
        let len = data.as_ref().map_or(0, Vec::len) as i64;
        self.nodes.insert(path.to_owned(), TwinNode { data, acl, stat });
        if let Some(governed) = parent_path.strip_prefix("/zookeeper/quota/") {
            let governed = format!("/{governed}");
            if name == "zookeeper_limits" {
                self.quotas.insert(governed);
            } else if name == "zookeeper_stats" {
                self.recount(&governed);
            }
        }
        self.usage(path, 1, len);
        Outcome::Created { path: path.to_owned(), stat: self.stat(path) }
    }

    fn recount(&mut self, governed: &str) {
        let within = |p: &&String| **p == governed || p.starts_with(&format!("{governed}/"));
        let below: Vec<_> = self.nodes.keys().filter(within).cloned().collect();
        let bytes: usize = below.iter().map(|p| self.nodes[p].data.as_ref().map_or(0, Vec::len)).sum();
        if let Some(node) = self.nodes.get_mut(&format!("/zookeeper/quota{governed}/zookeeper_stats")) {
            node.data = Some(format!("count={},bytes={bytes}", below.len()).into_bytes());
        }
    }

    fn delete(&mut self, h: &TxnHeader, path: &str, events: &mut Vec<Event>) -> Outcome {
        let (parent_path, _) = split(path).unwrap();
        let Some(parent) = self.nodes.get_mut(parent_path) else { return Outcome::Failed(ErrorCode::NoNode.code()) };
        parent.stat.pzxid = parent.stat.pzxid.max(h.zxid);
        let parent_acl = parent.acl.clone();
        if !self.nodes.contains_key(path) {
            return Outcome::Failed(ErrorCode::NoNode.code());
        }
        let acl = self.nodes[path].acl.clone();
        let within = |p: &&String| **p == path || p.starts_with(&format!("{path}/"));
        let gone: Vec<String> = self.nodes.keys().filter(within).cloned().collect();
        for p in gone.iter().rev() {
            let node = self.nodes.remove(p).unwrap();
            if let (Some(q), "zookeeper_limits") = (p.strip_prefix("/zookeeper/quota"), split(p).unwrap().1)
                && let (governed, _) = split(q).unwrap()
            {
                self.quotas.remove(governed);
            }
            self.usage(p, -1, -(node.data.as_ref().map_or(0, Vec::len) as i64));
        }
        events.push((EventType::NodeDeleted, path.to_owned(), acl));
        events.push((EventType::NodeChildrenChanged, shown(parent_path), parent_acl));
        Outcome::Done
    }

    /// The state without the usage texts, which depend on when a quota was set up.
    fn without_usage(&self) -> Self {
        let mut twin = self.clone();
        twin.nodes.retain(|path, _| !path.ends_with("/zookeeper_stats"));
        twin.quotas.clear();
        twin
    }
}

fn shown(path: &str) -> String {
    if path.is_empty() { "/".to_owned() } else { path.to_owned() }
}

/// Tree and twin agree in everything that can be asked for.
fn assert_agree(tree: &Tree, twin: &Twin) {
    let mut seen = Twin::of(&tree.image());
    seen.quotas = twin.quotas.clone();
    assert_eq!(&seen, twin);
    assert_eq!(tree.zxid(), twin.zxid);
    assert_eq!(tree.digest(), twin.digest());
    assert_eq!(tree.node_count(), twin.nodes.len() + 1);
    let size: usize =
        twin.nodes.iter().map(|(p, n)| p.encode_utf16().count() + n.data.as_ref().map_or(0, Vec::len)).sum();
    assert_eq!(tree.approximate_data_size(), size as u64 + 1);
    for (path, twin_node) in &twin.nodes {
        let node = tree.node(path).unwrap();
        assert_eq!(node.stat(), twin.stat(path), "{path}");
        assert_eq!(node.persisted(), twin_node.stat);
        assert_eq!(node.data(), twin_node.data.as_deref());
        let digest = node_digest(path, twin_node.data.as_deref(), &twin_node.stat);
        assert_eq!(node.digest(), u64::from(digest), "what {path} keeps");
        assert_eq!(node.acl(), twin_node.acl);
        assert_eq!(node.path(), *path);
        let children: Vec<&str> = node.children().collect();
        assert_eq!(children.len(), node.child_count());
        assert_eq!(children.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), twin.children(path));
        let below = twin.nodes.keys().filter(|p| p.starts_with(&format!("{path}/"))).count();
        assert_eq!(tree.descendants(path), Some(below));
    }
    let ephemerals = twin.ephemerals();
    assert_eq!(tree.ephemeral_owners().map(|s| (s, tree.ephemerals(s))).collect::<BTreeMap<_, _>>(), ephemerals);
    assert_eq!(tree.ephemerals_count(), ephemerals.values().map(Vec::len).sum::<usize>());
    let expired: BTreeSet<String> = tree.expired_candidates(1050, 40, usize::MAX).into_iter().collect();
    let is_over = |(path, n): &(&String, &TwinNode)| {
        let over = match Owner::decode(n.stat.ephemeral_owner, true, false) {
            Some(Owner::Container) => n.stat.cversion > 0 || 1050 - n.stat.mtime > 40,
            Some(Owner::Ttl(ttl)) => 1050 - n.stat.mtime > ttl as i64,
            _ => false,
        };
        over && twin.children(path).is_empty()
    };
    assert_eq!(expired, twin.nodes.iter().filter(is_over).map(|(p, _)| p.clone()).collect());
}

/// Applies to both and compares outcome and events.
fn apply_both(tree: &mut Tree, twin: &mut Twin, header: &TxnHeader, txn: &Txn<'_>) {
    let (mut changes, mut events) = (Vec::new(), Vec::new());
    let outcome = tree.apply(header, txn, Some(&mut changes));
    assert_eq!(outcome, twin.apply(header, txn, &mut events), "{txn:?}");
    let changes: Vec<Event> =
        changes.into_iter().map(|c: Change<'_>| (c.kind, c.path.into_owned(), c.acl.to_vec())).collect();
    assert_eq!(changes, events, "{txn:?}");
}

const NAMES: [&str; 16] = [
    "/a",
    "/b",
    "/a/a",
    "/a/b",
    "/a/b/c",
    "/b/é",
    "/zookeeper/x",
    "/zookeeper/quota/a",
    "/zookeeper/quota/a/zookeeper_limits",
    "/zookeeper/quota/a/zookeeper_stats",
    "/zookeeper/quota/a/b",
    "/zookeeper/quota/a/b/zookeeper_limits",
    "/zookeeper/quota/a/b/zookeeper_stats",
    // Tells the usage of what it stands in itself.
    "/zookeeper/quota/zookeeper",
    "/zookeeper/quota/zookeeper/zookeeper_limits",
    "/zookeeper/quota/zookeeper/zookeeper_stats",
];

fn acl(which: u8) -> Vec<Acl<'static>> {
    let digest = Acl { perms: 31, scheme: "digest".into(), id: "u:h".into() };
    match which % 4 {
        0 => vec![Acl::world(31)],
        1 => vec![Acl::world(1), digest],
        2 => vec![digest],
        _ => vec![Acl::world(1)],
    }
}

fn path() -> impl Strategy<Value = Cow<'static, str>> {
    proptest::sample::select(&NAMES[..]).prop_map(Cow::Borrowed)
}

fn data() -> impl Strategy<Value = Option<Cow<'static, [u8]>>> {
    let bytes =
        prop_oneof![proptest::collection::vec(any::<u8>(), 0..6), Just(b"count=3,bytes=7=;countHardLimit=2".to_vec())];
    proptest::option::of(bytes.prop_map(Cow::Owned))
}

fn op() -> impl Strategy<Value = Txn<'static>> {
    let create = || {
        (path(), data(), any::<u8>(), any::<bool>(), prop_oneof![Just(-1), 0..6i32]).prop_map(
            |(path, data, which, ephemeral, parent_cversion)| CreateTxn {
                path,
                data,
                acl: acl(which),
                ephemeral,
                parent_cversion,
            },
        )
    };
    prop_oneof![
        4 => create().prop_map(Txn::Create),
        2 => create().prop_map(Txn::Create2),
        1 => create().prop_map(|c| Txn::CreateContainer(CreateContainerTxn {
            path: c.path, data: c.data, acl: c.acl, parent_cversion: c.parent_cversion
        })),
        1 => (create(), 1..100i64).prop_map(|(c, ttl)| Txn::CreateTtl(CreateTtlTxn {
            path: c.path, data: c.data, acl: c.acl, parent_cversion: c.parent_cversion, ttl
        })),
        3 => path().prop_map(Txn::Delete),
        1 => path().prop_map(Txn::DeleteContainer),
        3 => (path(), data(), 0..9i32).prop_map(|(path, data, version)| Txn::SetData(SetDataTxn { path, data, version })),
        1 => path().prop_map(|path| Txn::Check(CheckVersionTxn { path, version: 0 })),
    ]
}

fn txn() -> impl Strategy<Value = Txn<'static>> {
    prop_oneof![
        12 => op(),
        2 => proptest::collection::vec(op(), 0..5).prop_map(Txn::Multi),
        1 => (proptest::collection::vec(op(), 0..3), proptest::collection::vec(Just(Txn::Error(-2)), 0..3))
            .prop_map(|(mut ops, rest)| { ops.push(Txn::Error(-101)); ops.extend(rest); Txn::Multi(ops) }),
        1 => Just(Txn::Error(-110)),
        1 => (1..9i32).prop_map(Txn::CreateSession),
        1 => proptest::option::of(proptest::collection::vec(path(), 0..3)).prop_map(Txn::CloseSession),
        1 => (path(), any::<u8>(), 0..9i32)
            .prop_map(|(path, which, version)| Txn::SetAcl(SetAclTxn { path, acl: acl(which), version })),
        1 => (data()).prop_map(|data| Txn::Reconfig(SetDataTxn { path: "/zookeeper/config".into(), data, version: -1 })),
    ]
}

fn header(session: i64, counter: u32, txn: &Txn<'_>) -> TxnHeader {
    TxnHeader {
        session: SessionId(session),
        cxid: 1,
        zxid: Zxid::new(1, counter),
        time: 1000 + i64::from(counter),
        kind: txn.kind().code(),
    }
}

fn load(twin: &Twin, shuffle_keys: bool) -> Tree {
    let mut loader = TreeLoader::new(CONFIG);
    for (session, timeout) in &twin.sessions {
        loader.session(*session, *timeout);
    }
    let lists: BTreeSet<String> = twin.nodes.values().map(|n| format!("{:?}", n.acl)).collect();
    let key = |n: &TwinNode| {
        let at = lists.iter().position(|l| *l == format!("{:?}", n.acl)).unwrap() as i64;
        if shuffle_keys { (1 << 40) - at } else { 7 + at }
    };
    let mut known = BTreeSet::new();
    for node in twin.nodes.values() {
        if known.insert(key(node)) {
            loader.acl(key(node), node.acl.clone()).unwrap();
        }
    }
    loader.acl(3, vec![Acl::world(2)]).unwrap();
    for (path, node) in &twin.nodes {
        loader.node(path, node.data.as_deref(), key(node), node.stat).unwrap();
    }
    loader.finish(twin.zxid).unwrap()
}

/// The same cases on every run.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(0x6b), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(200))]

    /// Any transactions, possible or not: tree and twin agree after each, and images that were taken on
    /// the way still show their moment.
    #[test]
    fn agrees_with_the_twin(
        txns in proptest::collection::vec((1..4i64, txn(), any::<bool>()), 1..60),
    ) {
        let (mut tree, mut twin) = (Tree::new(CONFIG), Twin::virgin());
        let mut images = Vec::new();
        for (counter, (session, txn, keep)) in (1..).zip(&txns) {
            apply_both(&mut tree, &mut twin, &header(*session, counter, txn), txn);
            assert_agree(&tree, &twin);
            if *keep {
                images.push((tree.image(), twin.clone()));
            }
            if images.len() > 3 {
                images.remove(0);
            }
        }
        for (image, twin) in images {
            let mut seen = Twin::of(&image);
            seen.quotas = twin.quotas.clone();
            prop_assert_eq!(seen, twin);
        }
        // What was loaded agrees too, once its usage was counted anew.
        for shuffle_keys in [false, true] {
            let mut twin = twin.clone();
            let loaded = load(&twin, shuffle_keys);
            for quota in twin.quotas.clone() {
                twin.recount(&quota);
            }
            assert_agree(&loaded, &twin);
        }
    }
}

proptest! {
    #![proptest_config(config(200))]

    /// An image that is gathered while the tree changes shows the moment at which it was begun, and so does one that takes the
    /// place of another.
    #[test]
    fn an_image_that_is_gathered_meanwhile_shows_its_beginning(
        txns in proptest::collection::vec((1..4i64, txn(), 0..8u32, 0..4u32), 1..60),
    ) {
        let (mut tree, mut twin) = (Tree::new(CONFIG), Twin::virgin());
        let (mut begun, mut gathered) = (None, 0);
        for (counter, (session, txn, begin, slice)) in (1..).zip(&txns) {
            // Begun anew now and then, also where one is on its way.
            if *begin == 0 || begun.is_none() {
                tree.begin_image();
                begun = Some(twin.clone());
            }
            if let Some(image) = tree.gather_image(*slice) {
                let mut seen = Twin::of(&image);
                let Some(then) = begun.take() else { panic!("nothing was begun") };
                seen.quotas = then.quotas.clone();
                prop_assert_eq!(image.digest(), Some(then.digest()));
                prop_assert_eq!(seen, then);
                gathered += 1;
            }
            apply_both(&mut tree, &mut twin, &header(*session, counter, txn), txn);
            assert_agree(&tree, &twin);
        }
        let last = tree.gather_image(u32::MAX);
        prop_assert_eq!(last.is_some(), begun.is_some());
        if let (Some(image), Some(then)) = (last, begun) {
            let mut seen = Twin::of(&image);
            seen.quotas = then.quotas.clone();
            prop_assert_eq!(seen, then);
            gathered += 1;
        }
        prop_assert!(gathered > 0);
        prop_assert!(tree.gather_image(u32::MAX).is_none(), "none is on its way");
    }
}

/// Makes a transaction out of an arbitrary one that a leader could have prepared on `twin`, or none.
fn legal(twin: &Twin, session: SessionId, txn: &Txn<'static>) -> Option<Txn<'static>> {
    let next_cversion = |path: &str| {
        let parent = twin.nodes.get(split(path)?.0)?;
        let ephemeral = matches!(Owner::decode(parent.stat.ephemeral_owner, true, false)?, Owner::Ephemeral(_));
        (!ephemeral && !twin.nodes.contains_key(path)).then_some(parent.stat.cversion + 1)
    };
    Some(match txn {
        // Only plain creates repair the parent of a node that exists; the others lose a count when a
        // snapshot is fuzzy, in Apache as here.
        Txn::Create(t) | Txn::Create2(t) => {
            let ephemeral = t.ephemeral && twin.sessions.contains_key(&session);
            Txn::Create(CreateTxn { parent_cversion: next_cversion(&t.path)?, ephemeral, ..t.clone() })
        }
        Txn::Delete(path) => {
            (twin.nodes.contains_key(&**path) && twin.children(path).is_empty()).then(|| txn.clone())?
        }
        Txn::SetData(t) => {
            Txn::SetData(SetDataTxn { version: twin.nodes.get(&*t.path)?.stat.version + 1, ..t.clone() })
        }
        Txn::SetAcl(t) => Txn::SetAcl(SetAclTxn { version: twin.nodes.get(&*t.path)?.stat.aversion + 1, ..t.clone() }),
        Txn::CreateSession(_) if !twin.sessions.contains_key(&session) => txn.clone(),
        // Without the list, as before 3.6, an ephemeral that the snapshot just missed leaves no trace in
        // its parent: the reason for the list.
        Txn::CloseSession(_) if twin.sessions.contains_key(&session) => {
            let own = twin.ephemerals().remove(&session).unwrap_or_default();
            Txn::CloseSession(Some(own.into_iter().map(Cow::Owned).collect()))
        }
        Txn::CreateContainer(_)
        | Txn::CreateTtl(_)
        | Txn::DeleteContainer(_)
        | Txn::CreateSession(_)
        | Txn::CloseSession(_)
        | Txn::Check(_)
        | Txn::Multi(_)
        | Txn::Reconfig(_)
        | Txn::Error(_) => return None,
    })
}

/// Writes what Apache would write: node by node, while transactions go on.
fn fuzzy(
    twin: &mut Twin,
    path: &str,
    pending: &mut std::iter::Peekable<std::slice::Iter<'_, (TxnHeader, Txn<'static>)>>,
    pace: &mut impl Iterator<Item = u8>,
    out: &mut Twin,
) {
    let Some(node) = twin.nodes.get(path).cloned() else { return };
    out.nodes.insert(path.to_owned(), node);
    for name in twin.children(path) {
        for _ in 0..pace.next().unwrap_or(0) {
            if let Some((header, txn)) = pending.next() {
                twin.apply(header, txn, &mut Vec::new());
            }
        }
        fuzzy(twin, &format!("{path}/{name}"), pending, pace, out);
    }
}

proptest! {
    #![proptest_config(config(500))]

    /// A snapshot that was written while transactions went on, and the replay of the transactions since
    /// it was begun, give the state that the transactions alone give.
    #[test]
    fn replay_mends_a_fuzzy_snapshot(
        wishes in proptest::collection::vec((1..4i64, txn()), 1..120),
        start in any::<prop::sample::Index>(),
        pace in proptest::collection::vec(0..4u8, 60),
    ) {
        let mut twin = Twin::virgin();
        let mut history: Vec<(TxnHeader, Txn<'static>)> = Vec::new();
        for (session, wish) in &wishes {
            let Some(txn) = legal(&twin, SessionId(*session), wish) else { continue };
            let header = header(*session, history.len() as u32 + 1, &txn);
            twin.apply(&header, &txn, &mut Vec::new());
            history.push((header, txn));
        }
        let start = start.index(history.len() + 1);
        let mut then = Twin::virgin();
        for (header, txn) in &history[..start] {
            then.apply(header, txn, &mut Vec::new());
        }
        let mut snapshot = Twin { sessions: then.sessions.clone(), zxid: then.zxid, ..Twin::default() };
        let mut pending = history[start..].iter().peekable();
        fuzzy(&mut then, "", &mut pending, &mut pace.into_iter(), &mut snapshot);
        let mut tree = load(&snapshot, false);
        for (header, txn) in &history[start..] {
            tree.apply(header, txn, None);
        }
        prop_assert_eq!(Twin::of(&tree.image()).without_usage(), twin.without_usage());
        prop_assert_eq!(tree.digest(), Twin::of(&tree.image()).digest());
        // And once more over the end.
        for (header, txn) in &history[start..] {
            tree.apply(header, txn, None);
        }
        prop_assert_eq!(Twin::of(&tree.image()).without_usage(), twin.without_usage());
        prop_assert_eq!(tree.digest(), Twin::of(&tree.image()).digest());
    }
}
