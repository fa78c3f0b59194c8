use super::*;
use crate::quota::{STATS, SoftExcess};
use crate::{AuthConfig, Identity, Outcome, TreeLoader};
use farrier_proto::txn::{CreateTtlTxn, CreateTxn, SetAclTxn, SetDataTxn, TxnHeader};
use farrier_proto::{Stat, Txn};
use std::borrow::Cow;

/// A tree with a history of its own.
struct Bench {
    tree: Tree,
    counter: u32,
}

impl Bench {
    fn new(config: TreeConfig) -> Self {
        Self { tree: Tree::new(config), counter: 0 }
    }

    fn apply(&mut self, txn: &Txn<'_>) -> Outcome {
        self.counter += 1;
        let zxid = Zxid::new(1, self.counter);
        let time = i64::from(self.counter);
        let header = TxnHeader { session: SessionId(7), cxid: 0, zxid, time, kind: txn.kind().code() };
        self.tree.apply(&header, txn, None)
    }

    fn create(&mut self, path: &str, data: Option<&[u8]>) -> Outcome {
        self.create_with(path, data, vec![Acl::world(31)])
    }

    fn create_with(&mut self, path: &str, data: Option<&[u8]>, acl: Vec<Acl<'_>>) -> Outcome {
        self.apply(&Txn::Create2(CreateTxn {
            path: path.into(),
            data: data.map(Cow::Borrowed),
            acl,
            ephemeral: false,
            parent_cversion: -1,
        }))
    }

    fn set(&mut self, path: &str, data: Option<&[u8]>) -> Outcome {
        self.apply(&Txn::SetData(SetDataTxn { path: path.into(), data: data.map(Cow::Borrowed), version: 1 }))
    }

    fn delete(&mut self, path: &str) -> Outcome {
        self.apply(&Txn::Delete(path.into()))
    }

    fn stat(&self, path: &str) -> Stat {
        self.tree.node(path).unwrap().stat()
    }

    fn text(&self, path: &str) -> &str {
        std::str::from_utf8(self.tree.node(path).unwrap().data().unwrap()).unwrap()
    }
}

#[test]
fn a_virgin_tree() {
    let tree = Tree::new(TreeConfig::default());
    assert_eq!(tree.digest(), 0x51c6_d660);
    assert_eq!((tree.node_count(), tree.descendants("/"), tree.approximate_data_size()), (5, Some(3), 44));
    assert_eq!(tree.node("/").unwrap().stat().cversion, -1);
    assert_eq!(tree.node("/zookeeper").unwrap().stat().cversion, -2);
    let config = tree.node("/zookeeper/config").unwrap();
    assert_eq!((config.stat().aversion, config.acl()), (-1, &[Acl::world(perms::READ)][..]));
    let image = tree.image();
    assert_eq!(
        image.acls().iter().map(|(key, list)| (*key, list.to_vec())).collect::<Vec<_>>(),
        [(1, vec![Acl::world(perms::READ)])]
    );
    let mut nodes = Vec::new();
    image
        .nodes::<()>(&mut |n| {
            nodes.push((n.path.to_owned(), n.data.map(<[u8]>::len), n.acl));
            Ok(())
        })
        .unwrap();
    let expected = [("", -1), ("/zookeeper", -1), ("/zookeeper/config", 1), ("/zookeeper/quota", -1)];
    assert_eq!(nodes, expected.map(|(path, acl)| (path.to_owned(), Some(0), acl)), "as in Apache's snapshot.0");
}

#[test]
fn the_digest_of_a_live_server() {
    let mut tree = Tree::new(TreeConfig::default());
    let txn = Txn::Create(CreateTxn {
        path: "/a".into(),
        data: Some(b"hello".as_slice().into()),
        acl: vec![Acl::world(31)],
        ephemeral: false,
        parent_cversion: 1,
    });
    let zxid = Zxid::new(1, 2);
    let header = TxnHeader { session: SessionId(1), cxid: 1, zxid, time: 0x1a2_0446_6704, kind: 1 };
    tree.apply(&header, &txn, None);
    assert_eq!(tree.digest(), 0x2_1cd7_93a4);
    assert_eq!(tree.image().digest(), Some(0x2_1cd7_93a4));
    assert_eq!(tree.node("/a").unwrap().digest() + tree.node("/").unwrap().digest() + 0x4db4_4d58, tree.digest());
}

#[test]
fn without_digests_there_is_none() {
    let mut bench = Bench::new(TreeConfig { digest: false, ..TreeConfig::default() });
    for n in 0..200 {
        bench.create(&format!("/{n}"), None);
    }
    assert_eq!((bench.tree.digest(), bench.tree.image().digest()), (0, None));
    assert_eq!(bench.tree.digest_log().count(), 0);
}

#[test]
fn the_digest_log_has_every_128th() {
    let mut bench = Bench::new(TreeConfig::default());
    for n in 0..300 {
        bench.create(&format!("/{n}"), None);
    }
    let zxids: Vec<Zxid> = bench.tree.digest_log().map(|(zxid, _)| zxid).collect();
    assert_eq!(zxids, [Zxid::new(1, 128), Zxid::new(1, 256)]);
}

#[test]
fn names_and_data_of_any_length() {
    let mut bench = Bench::new(TreeConfig::default());
    let lengths = [1, 255, 256, 65_535, 65_536, 1_000_000];
    for len in lengths {
        let path = format!("/{}", "n".repeat(len));
        assert!(matches!(bench.create(&path, Some(&vec![1; len])), Outcome::Created { .. }));
        bench.create(&format!("{path}/child"), None);
        bench.set(&path, Some(&vec![2; len + 1]));
    }
    for len in lengths {
        let path = format!("/{}", "n".repeat(len));
        let node = bench.tree.node(&path).unwrap();
        assert_eq!((node.path(), node.child_count(), node.data().map(<[u8]>::len)), (path.clone(), 1, Some(len + 1)));
        bench.delete(&format!("{path}/child"));
        assert_eq!(bench.delete(&path), Outcome::Done);
    }
    assert_eq!((bench.tree.node_count(), bench.tree.approximate_data_size()), (5, 44));
}

#[test]
fn null_and_empty_data_are_distinct() {
    let mut bench = Bench::new(TreeConfig::default());
    bench.create("/null", None);
    bench.create("/empty", Some(b""));
    assert_eq!(bench.tree.node("/null").unwrap().data(), None);
    assert_eq!(bench.tree.node("/empty").unwrap().data(), Some(b"".as_slice()));
    bench.set("/null", Some(b""));
    bench.set("/empty", None);
    assert_eq!(bench.tree.node("/null").unwrap().data(), Some(b"".as_slice()));
    assert_eq!(bench.tree.node("/empty").unwrap().data(), None);
}

/// Values that do not fit into the short form of an untouched leaf.
#[test]
fn stats_beyond_the_short_form() {
    for (epoch, time) in [(u32::MAX, 5), (1, -1), (1, i64::MAX), (1 << 24, 1 << 48), (0xff_ffff, (1 << 48) - 1)] {
        let mut tree = Tree::new(TreeConfig::default());
        let txn =
            Txn::Create(CreateTxn { path: "/a".into(), data: None, acl: vec![], ephemeral: true, parent_cversion: -1 });
        let header = TxnHeader { session: SessionId(-3), cxid: 1, zxid: Zxid::new(epoch, 9), time, kind: 1 };
        tree.apply(&header, &txn, None);
        let stat = tree.node("/a").unwrap().persisted();
        let expected = (header.zxid, header.zxid, header.zxid, time, time, -3);
        assert_eq!((stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime, stat.ephemeral_owner), expected);
    }
}

/// A parent's block moves when an image holds it, and only then.
#[test]
fn large_parents_are_not_copied_for_each_child() {
    let mut bench = Bench::new(TreeConfig::default());
    bench.create("/big", Some(&[1; 100_000]));
    bench.create("/big/first", None);
    let place = |bench: &Bench| bench.tree.node("/big").unwrap().data().unwrap().as_ptr();
    let before = place(&bench);
    bench.create("/big/second", None);
    bench.delete("/big/first");
    assert_eq!(place(&bench), before);
    let image = bench.tree.image();
    bench.create("/big/third", None);
    let moved = place(&bench);
    assert_ne!(moved, before);
    bench.create("/big/fourth", None);
    assert_eq!(place(&bench), moved, "one copy per image");
    drop(image);
}

#[test]
fn a_failed_multi_changes_nothing() {
    let mut bench = Bench::new(TreeConfig::default());
    let digest = bench.tree.digest();
    let txn = Txn::Multi(vec![Txn::Delete("/x".into()), Txn::Error(-101), Txn::Error(-2)]);
    let codes = [0, -101, -2].map(Outcome::Failed).to_vec();
    assert_eq!(bench.apply(&txn), Outcome::Multi(codes));
    assert_eq!((bench.tree.digest(), bench.tree.zxid()), (digest, Zxid::new(1, 1)));
}

#[test]
fn what_no_leader_prepares_is_refused() {
    let mut bench = Bench::new(TreeConfig { extended_types: true, ..TreeConfig::default() });
    let refused = Outcome::Failed(ErrorCode::BadArguments.code());
    for ttl in [i64::MIN, -1, 0, Owner::TTL_MAX + 1] {
        let path = "/ttl".into();
        let txn = Txn::CreateTtl(CreateTtlTxn { path, data: None, acl: vec![], parent_cversion: 1, ttl });
        assert_eq!(bench.apply(&txn), refused);
    }
    for path in ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"] {
        assert_eq!(bench.delete(path), refused);
    }
    assert_eq!(bench.create("/", None), refused);
    for path in ["", "a", "zookeeper"] {
        assert_eq!(bench.create(path, None), Outcome::Failed(ErrorCode::NoNode.code()));
        assert_eq!(bench.delete(path), Outcome::Failed(ErrorCode::NoNode.code()));
    }
    assert_eq!(bench.tree.digest(), 0x51c6_d660);
}

#[test]
fn acl_lists_are_stored_once_and_counted() {
    let mut bench = Bench::new(TreeConfig::default());
    bench.create_with("/open", None, vec![Acl::world(31)]);
    bench.create_with("/read", None, vec![Acl::world(1)]);
    bench.create_with("/open/too", None, vec![Acl::world(31)]);
    let key = |bench: &Bench, path: &str| bench.tree.node(path).unwrap().acl_key().to_disk();
    assert_eq!(["/", "/open", "/read", "/open/too"].map(|p| key(&bench, p)), [-1, 2, 1, 2]);
    bench.apply(&Txn::SetAcl(SetAclTxn { path: "/".into(), acl: vec![Acl::world(3)], version: 1 }));
    assert_eq!(key(&bench, "/"), 3);
    bench.delete("/open/too");
    bench.delete("/open");
    let keys: Vec<i64> = bench.tree.image().acls().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [1, 3]);
    bench.create_with("/again", None, vec![Acl::world(31)]);
    assert_eq!(key(&bench, "/again"), 4, "keys are not used twice");
}

#[test]
fn more_acl_lists_than_short_keys() {
    let mut loader = TreeLoader::new(TreeConfig::default());
    loader.node("", None, -1, StatPersisted::ZERO).unwrap();
    loader.acl(70_000, vec![Acl::world(2)]).unwrap();
    loader.acl(65_535, vec![Acl::world(4)]).unwrap();
    loader.node("/wide", None, 70_000, StatPersisted::ZERO).unwrap();
    loader.node("/short", None, 65_535, StatPersisted::ZERO).unwrap();
    let mut bench = Bench { tree: loader.finish(Zxid::ZERO).unwrap(), counter: 0 };
    for (path, perms) in [("/wide", 4), ("/short", 2), ("/wide", 8)] {
        bench.apply(&Txn::SetAcl(SetAclTxn { path: path.into(), acl: vec![Acl::world(perms)], version: 1 }));
    }
    let keys = ["/wide", "/short"].map(|p| bench.tree.node(p).unwrap().acl_key().to_disk());
    assert_eq!(keys[1], 70_002, "70000 went with its last user, 70001 is the configuration's");
    assert_eq!(bench.tree.node("/wide").unwrap().acl(), [Acl::world(8)]);
}

#[test]
fn a_quota_counts_and_limits() {
    let mut bench = Bench::new(TreeConfig { enforce_quota: true, ..TreeConfig::default() });
    bench.create("/a", Some(b"123"));
    bench.create("/zookeeper/quota/a", None);
    bench.create("/zookeeper/quota/a/zookeeper_limits", Some(b"count=1,bytes=1=;byteHardLimit=10;countHardLimit=3"));
    bench.create("/zookeeper/quota/a/zookeeper_stats", Some(b"overwritten"));
    let stats = "/zookeeper/quota/a/zookeeper_stats";
    assert_eq!(bench.text(stats), "count=1,bytes=3");
    let stat = bench.stat(stats);
    bench.create("/a/b", Some(b"4567"));
    assert_eq!(bench.text(stats), "count=2,bytes=7");
    bench.set("/a", None);
    assert_eq!(bench.text(stats), "count=2,bytes=4");
    bench.create("/ab", Some(b"elsewhere"));
    assert_eq!(bench.text(stats), "count=2,bytes=4");
    let after = bench.stat(stats);
    assert_eq!((after.version, after.mzxid, after.mtime), (stat.version, stat.mzxid, stat.mtime));

    assert_eq!(bench.tree.check_quota("/a/c", 1, 6), Ok(None));
    assert_eq!(bench.tree.check_quota("/a/c", 1, 7), Err(ErrorCode::QuotaExceeded));
    assert_eq!(bench.tree.check_quota("/a/c", 2, 0), Err(ErrorCode::QuotaExceeded));
    assert_eq!(bench.tree.check_quota("/ab", 9, 99), Ok(None));
    bench.set("/a", Some(b"beyond the limit"));
    assert_eq!(bench.tree.check_quota("/a", 0, 0), Ok(None));
    assert_eq!(bench.tree.check_quota("/a", 0, -1), Err(ErrorCode::QuotaExceeded), "still above");
    bench.set("/a", None);
    bench.delete("/a/b");
    assert_eq!(bench.text(stats), "count=1,bytes=0");

    bench.set("/zookeeper/quota/a/zookeeper_limits", Some(b"count=1,bytes=5;countHardLimit=-1"));
    assert_eq!(bench.tree.check_quota("/a", 0, 5), Ok(None));
    let excess = |what, limit, usage| Ok(Some(SoftExcess { path: "/a".to_owned(), what, limit, usage }));
    assert_eq!(bench.tree.check_quota("/a/b", 1, 9), excess("znodes", 1, 2));
    assert_eq!(bench.tree.check_quota("/a", 0, 6), excess("bytes", 5, 6));

    bench.set("/zookeeper/quota/a/zookeeper_limits", Some(b"garbage"));
    assert_eq!(bench.tree.check_quota("/a", 1, 1), Err(ErrorCode::MarshallingError));
    bench.tree.config.enforce_quota = false;
    assert_eq!(bench.tree.check_quota("/a", 1, 1), Ok(None));
    bench.delete("/zookeeper/quota/a/zookeeper_limits");
    bench.create("/a/d", None);
    assert_eq!(bench.text(stats), "count=1,bytes=0", "no limits, no quota");
}

#[test]
fn usage_that_a_client_spoiled_counts_from_zero() {
    let mut bench = Bench::new(TreeConfig::default());
    bench.create("/a", None);
    bench.create("/zookeeper/quota/a", None);
    bench.create("/zookeeper/quota/a/zookeeper_limits", Some(b"count=5"));
    bench.create("/zookeeper/quota/a/zookeeper_stats", None);
    for (spoiled, then) in [
        (Some(b"garbage".as_slice()), "count=1,bytes=2"),
        (None, "count=1,bytes=2"),
        (Some(b"\xff"), "count=1,bytes=2"),
        (Some(b"count=9223372036854775807,bytes=-1"), "count=-9223372036854775808,bytes=1"),
        (Some(b"count=3=;x=1"), "count=4,bytes=1=;x=1"),
    ] {
        bench.set("/zookeeper/quota/a/zookeeper_stats", spoiled);
        bench.create("/a/b", Some(b"12"));
        assert_eq!(bench.text("/zookeeper/quota/a/zookeeper_stats"), then, "{spoiled:?}");
        bench.delete("/a/b");
    }
}

#[test]
fn the_root_cannot_have_a_quota() {
    let mut bench = Bench::new(TreeConfig { enforce_quota: true, ..TreeConfig::default() });
    bench.create("/zookeeper/quota/zookeeper_limits", Some(b"countHardLimit=0"));
    bench.create("/zookeeper/quota/zookeeper_stats", Some(b"mine"));
    bench.create("/a", None);
    assert_eq!(bench.text(&format!("/zookeeper/quota/{STATS}")), "mine");
    assert_eq!(bench.tree.check_quota("/a", 1, 1), Ok(None));
    bench.delete("/zookeeper/quota/zookeeper_limits");
}

#[test]
fn what_a_snapshot_may_not_hold() {
    let config = TreeConfig { extended_types: true, ..TreeConfig::default() };
    let loaded = || {
        let mut loader = TreeLoader::new(config);
        loader.node("", None, -1, StatPersisted::ZERO).unwrap();
        loader.node("/a", None, -1, StatPersisted::ZERO).unwrap();
        loader
    };
    assert_eq!(
        loaded().node("/x/y", None, -1, StatPersisted::ZERO).unwrap_err(),
        "znode \"/x/y\" comes without its parent"
    );
    assert!(loaded().node("/a", None, -1, StatPersisted::ZERO).unwrap_err().contains("twice"));
    assert!(loaded().node("", None, -1, StatPersisted::ZERO).unwrap_err().contains("twice"));
    for path in ["/", "/a/", "b"] {
        assert!(loaded().node(path, None, -1, StatPersisted::ZERO).is_err(), "{path:?}");
    }
    let stat = StatPersisted { ephemeral_owner: -7, ..StatPersisted::ZERO };
    assert_eq!(loaded().node("/b", None, -1, stat), Ok(()), "what replay takes, a snapshot of it may hold");
    assert!(loaded().acl(-1, vec![]).is_err());
    assert!(TreeLoader::new(config).finish(Zxid::ZERO).is_err());
}

#[test]
fn what_a_snapshot_may_lack() {
    let mut loader = TreeLoader::new(TreeConfig::default());
    loader.acl(5, vec![Acl::world(1)]).unwrap();
    loader.node("", Some(b"root"), -1, StatPersisted::ZERO).unwrap();
    loader.node("/a", None, 9, StatPersisted::ZERO).unwrap();
    let orphan = StatPersisted { ephemeral_owner: 77, ..StatPersisted::ZERO };
    loader.node("/e", None, 9, orphan).unwrap();
    let tree = loader.finish(Zxid::new(3, 1)).unwrap();
    assert_eq!(tree.unlisted(1), (2, vec!["/a".to_owned()]));
    let auth = AuthConfig::default();
    let (list, anybody) =
        (tree.node("/a").unwrap().acl(), [Identity::new("digest", "a:b"), Identity::new("ip", "::1")]);
    for perm in [perms::ALL, perms::READ, perms::WRITE, perms::CREATE, perms::DELETE, perms::ADMIN] {
        assert!(!auth.permits(list, perm, &anybody), "a list that is not there permits nothing");
        assert!(auth.permits(list, perm, &[Identity::superuser()]));
    }
    assert_eq!(tree.image().acls().iter().map(|(key, _)| *key).collect::<Vec<_>>(), [9, 10], "unused ones go");
    assert!(BUILT_IN.iter().all(|path| tree.node(path).is_some()));
    assert_eq!(tree.ephemeral_owners().collect::<Vec<_>>(), [SessionId(77)]);
    assert_eq!((tree.node("").unwrap().data(), tree.zxid()), (Some(b"root".as_slice()), Zxid::new(3, 1)));
    assert_eq!(tree.approximate_data_size(), 44 + 4 + 2 + 2);

    // What made them comes again when the log is replayed.
    let mut bench = Bench { tree, counter: 0 };
    for path in ["/a", "/e"] {
        assert_eq!(bench.create_with(path, None, vec![Acl::world(1)]), Outcome::Failed(ErrorCode::NodeExists.code()));
        assert_eq!(bench.tree.node(path).unwrap().acl(), [Acl::world(1)]);
    }
    assert_eq!(bench.tree.unlisted(9), (0, vec![]));
    assert_eq!(bench.tree.image().acls().len(), 1, "nobody needs what stood for the list");
}

#[test]
fn deep_trees_take_no_stack() {
    let mut loader = TreeLoader::new(TreeConfig::default());
    loader.node("", None, -1, StatPersisted::ZERO).unwrap();
    let mut path = String::new();
    for _ in 0..4000 {
        path.push_str("/d");
        loader.node(&path, None, -1, StatPersisted::ZERO).unwrap();
    }
    let mut bench = Bench { tree: loader.finish(Zxid::ZERO).unwrap(), counter: 0 };
    assert_eq!(bench.tree.descendants("/d"), Some(3999));
    assert_eq!(bench.delete("/d"), Outcome::Done, "with everything below, as replay may have to");
    let root = bench.tree.node("/").unwrap().digest();
    assert_eq!((bench.tree.node_count(), bench.tree.digest()), (5, root + 0x4db4_4d58));
}

#[test]
fn the_membership_stands_outside_of_transactions_and_digest() {
    let mut tree = Tree::new(TreeConfig::default());
    let (digest, size) = (tree.digest(), tree.approximate_data_size());
    tree.set_membership(b"server.1=a", Zxid::new(1, 7), 99);
    tree.set_membership(b"server.2=b:1", Zxid::new(1, 8), 100);
    let node = tree.node(CONFIG_PATH).unwrap();
    let stat = node.stat();
    assert_eq!(node.data(), Some(b"server.2=b:1".as_slice()));
    assert_eq!((stat.version, stat.aversion, stat.mzxid, stat.mtime), (-1, -1, Zxid::new(1, 8), 100));
    assert_eq!((tree.digest(), tree.approximate_data_size(), tree.zxid()), (digest, size + 12, Zxid::ZERO));
}

#[test]
fn to_foresee_is_to_look_at_any_paths() {
    let mut bench = Bench::new(TreeConfig::default());
    let paths: Vec<String> = (0..100).map(|n| format!("/n{n}")).collect();
    paths.iter().step_by(3).for_each(|path| assert!(matches!(bench.create(path, None), Outcome::Created { .. })));
    let mut all: Vec<&[u8]> = paths.iter().map(String::as_bytes).collect();
    all.extend(["", "/", "no path", "/n1/below", CONFIG_PATH].map(str::as_bytes));
    all.push(b"/\xff");
    for len in [0, 1, 31, 32, 33, all.len()] {
        bench.tree.foresee(all[..len].iter().copied());
    }
}

/// Or they could choose names that collide.
#[test]
fn clients_do_not_know_the_hashes_of_what_they_choose() {
    let hashes = |seed| {
        let tree = Tree::with_hash_seed(TreeConfig::default(), seed);
        [tree.hash_of("/a"), tree.acls.hash_of(&[Acl::world(1)]), tree.quotas.hash_of(0, "a")]
    };
    assert_eq!(hashes(1), hashes(1));
    assert!(hashes(1).iter().zip(hashes(2)).all(|(one, other)| *one != other));
}
