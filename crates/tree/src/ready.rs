//! Znodes, made apart from the tree that will hold them.
//!
//! Owns what needs no look into the tree: the heap block, the share in the digest, the size. Whoever reads a snapshot
//! or a log makes them ahead of whoever fills the tree ([`crate::TreeLoader::ready`], [`crate::Tree::replay`]), on
//! another thread if there is one.

use crate::arena::{Block, Fields};
use crate::config::TreeConfig;
use crate::creation::Creation;
use crate::digest::node_digest;
use crate::tree::path_size;
use farrier_proto::path;
use farrier_proto::stat::StatPersisted;
use farrier_proto::{Txn, TxnHeader, Zxid};

/// A znode that stands nowhere yet. Its path is known to whoever made it.
#[derive(Debug)]
pub struct ReadyNode {
    pub(crate) block: Block,
    /// As in the stat.
    pub(crate) owner: i64,
    /// What it adds to the size of the tree.
    pub(crate) size: u64,
    pub(crate) path_len: usize,
    /// Bytes of the path that are the parent's.
    pub(crate) parent_len: usize,
}

impl ReadyNode {
    /// Bytes of name, stat and data, for whoever bounds how many are on their way.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.block.len()
    }

    /// Whether it can have been made of this path and transaction.
    pub(crate) fn is_of(&self, path: &str, created: Zxid) -> bool {
        self.path_len == path.len() && self.block.fields().stat.czxid == created
    }
}

/// Makes znodes for trees of one configuration.
#[derive(Debug)]
pub struct NodeMaker {
    digest: bool,
    scratch: Vec<u8>,
}

impl NodeMaker {
    /// One for [trees](crate::Tree) of this configuration and their [loaders](crate::TreeLoader).
    #[must_use]
    pub const fn new(config: TreeConfig) -> Self {
        Self { digest: config.digest, scratch: Vec::new() }
    }

    /// A znode of a snapshot, without children.
    ///
    /// # Errors
    /// When the path is illegal; `""` is the root's.
    pub fn make(&mut self, path: &str, data: Option<&[u8]>, mut stat: StatPersisted) -> Result<ReadyNode, String> {
        let name = match path::split(path) {
            None if path.is_empty() => "",
            Some((_, name)) if !name.is_empty() => name,
            _ => return Err(format!("{path:?} is no path of a znode")),
        };
        if farrier_proto::planted!(SequenceForgottenAtRestart) && !path.is_empty() {
            stat.cversion = 0;
        }
        Ok(self.made(path, name, data, stat))
    }

    /// The znode that `txn` creates; nothing for what creates none, or several. Whether it can be created, the tree knows.
    pub fn creation(&mut self, header: &TxnHeader, txn: &Txn<'_>) -> Option<ReadyNode> {
        let creation = Creation::of(header, txn)?;
        let (_, name) = path::split(creation.path).filter(|(_, name)| !name.is_empty())?;
        Some(self.made(creation.path, name, creation.data, creation.stat))
    }

    /// A znode of a path that ends with this name; `""` is the root's.
    pub(crate) fn made(&mut self, path: &str, name: &str, data: Option<&[u8]>, stat: StatPersisted) -> ReadyNode {
        let share = if self.digest { node_digest(path, data, &stat) } else { 0 };
        ReadyNode {
            block: Block::loose(&mut self.scratch, name, &Fields::childless(stat, share), data),
            owner: stat.ephemeral_owner,
            size: path_size(path) + data.map_or(0, <[u8]>::len) as u64,
            path_len: path.len(),
            // The slash between them belongs to neither.
            parent_len: path.len().saturating_sub(name.len() + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tree, TreeImage, TreeLoader};
    use farrier_proto::txn::{CreateContainerTxn, CreateTtlTxn, CreateTxn};
    use farrier_proto::{Acl, OpCode, SessionId, Zxid};

    const CONFIG: TreeConfig =
        TreeConfig { extended_types: true, ttl_353: false, digest: true, list_closed: true, enforce_quota: false };

    /// Znodes of every shape, and the keys of their ACLs: one short, one wide, one that the table lacks, the open one.
    fn nodes() -> Vec<(String, Option<Vec<u8>>, i64, StatPersisted)> {
        let touched = StatPersisted { czxid: Zxid::new(1, 2), version: 7, cversion: 3, ..StatPersisted::ZERO };
        let owned = StatPersisted { ephemeral_owner: 77, ..StatPersisted::ZERO };
        let mut nodes = vec![
            (String::new(), Some(b"root".to_vec()), -1, StatPersisted::ZERO),
            ("/zookeeper".into(), Some(Vec::new()), -1, StatPersisted::ZERO),
        ];
        for (n, key) in (0..40).zip([5, 70_000, 9, -1].into_iter().cycle()) {
            let stat = [StatPersisted::ZERO, owned, touched][n % 3];
            nodes.push((format!("/é{n}"), (n % 5 > 0).then(|| vec![n as u8; n * 20]), key, stat));
            nodes.push((format!("/é{}/{}", n / 2, "x".repeat(n * 10 + 1)), None, key, touched));
        }
        nodes
    }

    fn loader() -> TreeLoader {
        let mut loader = TreeLoader::new(CONFIG);
        loader.session(SessionId(77), 4000);
        loader.acl(5, vec![Acl::world(1)]).unwrap();
        loader.acl(70_000, vec![Acl::world(2)]).unwrap();
        loader
    }

    fn shown(image: &TreeImage) -> String {
        let mut shown = format!("{:?} {:?} {:?}", image.digest(), image.sessions(), image.acls());
        let end: Result<(), ()> = image.nodes(&mut |node| {
            shown.push_str(&format!("\n{node:?}"));
            Ok(())
        });
        end.unwrap();
        shown
    }

    #[test]
    fn znodes_that_are_made_ahead_make_the_same_tree() {
        let mut one_by_one = loader();
        let mut maker = NodeMaker::new(CONFIG);
        let mut made = Vec::new();
        for (path, data, key, stat) in nodes() {
            one_by_one.node(&path, data.as_deref(), key, stat).unwrap();
            made.push((key, maker.make(&path, data.as_deref(), stat).unwrap(), path));
        }
        let mut ahead = loader();
        for (key, node, path) in made {
            ahead.ready(&path, key, node).unwrap();
        }
        let (one_by_one, ahead) = (one_by_one.finish(Zxid::new(1, 9)).unwrap(), ahead.finish(Zxid::new(1, 9)).unwrap());
        assert_eq!(shown(&ahead.image()), shown(&one_by_one.image()));
        assert_eq!(ahead.approximate_data_size(), one_by_one.approximate_data_size());
        assert_eq!(ahead.ephemerals(SessionId(77)), one_by_one.ephemerals(SessionId(77)));
        let mut digest = 0_u64;
        for (path, data, key, stat) in nodes() {
            let node = ahead.node(&path).expect("it was taken in");
            assert_eq!((node.path(), node.data(), node.persisted()), (path, data.as_deref(), stat));
            let perms: Vec<i32> = node.acl().iter().map(|acl| acl.perms).collect();
            assert_eq!(
                perms,
                [(5, &[1][..]), (70_000, &[2]), (9, &[0]), (-1, &[31])].iter().find(|k| k.0 == key).unwrap().1
            );
            digest = digest.wrapping_add(node.digest());
        }
        assert_eq!(ahead.digest(), digest, "what the loader adds to them has no part in the digest");
    }

    #[test]
    fn what_is_made_is_refused_where_it_has_no_place() {
        let mut maker = NodeMaker::new(CONFIG);
        for path in ["/", "/a/", "b"] {
            let error = maker.make(path, None, StatPersisted::ZERO).unwrap_err();
            assert!(error.contains(path), "{error}");
        }
        let mut ready = |path| maker.make(path, None, StatPersisted::ZERO).unwrap();
        let mut loader = loader();
        loader.ready("", -1, ready("")).unwrap();
        loader.ready("/a", 5, ready("/a")).unwrap();
        loader.ready("/a/b", 5, ready("/a/b")).unwrap();
        for path in ["/a", "/a/b"] {
            let error = loader.ready(path, 5, ready(path)).unwrap_err();
            assert_eq!(error, format!("znode {path:?} comes twice"));
        }
        assert_eq!(loader.ready("/x/b", 5, ready("/x/b")).unwrap_err(), "znode \"/x/b\" comes without its parent");
        loader.ready("/a/c", 5, ready("/a/c")).unwrap();
        let tree = loader.finish(Zxid::ZERO).unwrap();
        assert_eq!(
            tree.node("/a").unwrap().children().collect::<Vec<_>>(),
            ["b", "c"],
            "what was refused left nothing"
        );
    }

    /// Creates of every kind, one that fails, one that meets itself, and what creates nothing.
    fn txns() -> Vec<(TxnHeader, Txn<'static>)> {
        let (acl, data) = (vec![Acl::world(7)], Some(b"data".as_slice().into()));
        let create = |path: &'static str, ephemeral| CreateTxn {
            path: path.into(),
            data: data.clone(),
            acl: acl.clone(),
            ephemeral,
            parent_cversion: 9,
        };
        let ttl = |ttl| CreateTtlTxn { path: "/ttl".into(), data: None, acl: acl.clone(), parent_cversion: 3, ttl };
        let container =
            CreateContainerTxn { path: "/c".into(), data: None, acl: vec![Acl::world(1)], parent_cversion: -1 };
        let txns = vec![
            Txn::CreateSession(4000),
            Txn::Create(create("/a", false)),
            Txn::Create2(create("/a/b", true)),
            Txn::Create2(create("/a", false)),
            Txn::Create(create("/a", false)),
            Txn::Create(create("/nowhere/b", false)),
            Txn::Create(create("/a/", false)),
            Txn::CreateContainer(container),
            Txn::CreateTtl(ttl(0)),
            Txn::CreateTtl(ttl(500)),
            Txn::Multi(vec![Txn::Create(create("/m", false)), Txn::Delete("/a/b".into())]),
            Txn::Delete("/ttl".into()),
        ];
        (1..).zip(txns).map(|(n, txn)| (header(n), txn)).collect()
    }

    fn header(counter: u32) -> TxnHeader {
        TxnHeader {
            session: SessionId(77),
            cxid: 1,
            zxid: Zxid::new(1, counter),
            time: i64::from(counter) * 10,
            kind: OpCode::Create.code(),
        }
    }

    #[test]
    fn creates_that_were_made_ahead_make_the_same_tree() {
        let (mut live, mut ahead) = (Tree::new(CONFIG), Tree::new(CONFIG));
        let mut maker = NodeMaker::new(CONFIG);
        let mut made = 0;
        for (header, txn) in txns() {
            let node = maker.creation(&header, &txn);
            made += usize::from(node.is_some());
            let expected = live.apply(&header, &txn, None);
            assert_eq!(ahead.replay(&header, &txn, node), expected, "{txn:?}");
            assert_eq!(shown(&ahead.image()), shown(&live.image()), "{txn:?}");
            assert_eq!(ahead.approximate_data_size(), live.approximate_data_size());
        }
        assert_eq!(made, 7, "single creates of a path and an owner that can be");
        assert!(live.node("/a").is_some() && live.node("/c").is_some() && live.node("/m").is_some());
        assert_eq!(ahead.ephemerals_count_of(SessionId(77)), 0);
    }

    #[test]
    #[should_panic(expected = "by the transaction of which it was made")]
    fn a_znode_has_one_transaction() {
        let txns = txns();
        let node = NodeMaker::new(CONFIG).creation(&header(99), &txns[1].1);
        Tree::new(CONFIG).replay(&txns[1].0, &txns[1].1, node);
    }

    #[test]
    #[should_panic(expected = "under the path of which it was made")]
    fn a_znode_has_one_path() {
        let node = NodeMaker::new(CONFIG).make("/a", None, StatPersisted::ZERO).unwrap();
        let _ = loader().ready("/a/b", -1, node);
    }
}
