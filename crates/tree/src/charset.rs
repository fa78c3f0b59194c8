//! The digest that a Java server computes which encodes paths in ASCII.
//!
//! Apache takes the bytes of a path in the JVM's default charset. Before Java 18 that follows the locale, and is ASCII in
//! the POSIX one: each character that it lacks becomes a `?`, one beyond the BMP too.

use crate::arena::NodeId;
use crate::digest::node_digest;
use crate::tree::Tree;

/// A path as such a server digests it.
fn in_ascii(path: &str) -> String {
    path.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
}

impl Tree {
    /// By how much (modulo 2^64) the digest of this tree is larger on a Java server that encodes paths in ASCII; `None`
    /// where no path has any other character. Looks at every znode, and builds the paths of those that are concerned.
    #[must_use]
    pub fn ascii_excess(&self) -> Option<u64> {
        let mut excess = None;
        let chunks = self.arena.chunks();
        let is_odd = |id: NodeId| chunks.get(id).is_some_and(|block| !block.name_bytes().is_ascii());
        for top in chunks.ids().filter(|id| is_odd(*id)) {
            let is_below_another = {
                let mut at = self.arena.get(top).parent();
                while at != NodeId::ROOT && !is_odd(at) {
                    at = self.arena.get(at).parent();
                }
                at != NodeId::ROOT
            };
            if is_below_another {
                continue;
            }
            self.walk(top, |id| {
                let block = self.arena.get(id);
                let path = in_ascii(&self.path_of(id));
                let theirs =
                    if self.config.digest { node_digest(&path, block.data(), &block.fields().stat) } else { 0 };
                let sum = excess.get_or_insert(0_u64);
                *sum = sum.wrapping_add(theirs.into()).wrapping_sub(block.share().into());
            });
        }
        excess
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TreeConfig;
    use farrier_proto::txn::{CreateTxn, TxnHeader};
    use farrier_proto::{Acl, SessionId, Txn, Zxid};

    #[test]
    fn characters_that_ascii_lacks_are_one_question_mark_each() {
        // As Java 17 encodes them with -Dfile.encoding=US-ASCII.
        for (path, theirs) in
            [("/a", "/a"), ("/é", "/?"), ("/€", "/?"), ("/a\u{1f600}b", "/a?b"), ("/\u{fffd}x", "/?x")]
        {
            assert_eq!(in_ascii(path), theirs);
        }
    }

    /// A tree with these znodes.
    fn tree(paths: &[&str]) -> Tree {
        let mut tree = Tree::new(TreeConfig::default());
        for (counter, path) in (1..).zip(paths) {
            let txn = Txn::Create(CreateTxn {
                path: (*path).into(),
                data: Some(b"data".as_slice().into()),
                acl: vec![Acl::world(31)],
                ephemeral: false,
                parent_cversion: -1,
            });
            let header = TxnHeader {
                session: SessionId(7),
                cxid: 0,
                zxid: Zxid::new(1, counter),
                time: 5,
                kind: txn.kind().code(),
            };
            tree.apply(&header, &txn, None);
        }
        tree
    }

    #[test]
    fn the_excess_is_that_of_the_tree_with_question_marks() {
        let ours = tree(&["/a", "/é", "/é/b", "/é/b/ü", "/a/c", "/a/c/\u{1f600}", "/zookeeper/ö"]);
        let theirs = tree(&["/a", "/?", "/?/b", "/?/b/?", "/a/c", "/a/c/?", "/zookeeper/?"]);
        assert_ne!(ours.digest(), theirs.digest());
        let excess = ours.ascii_excess().expect("there are such paths");
        assert_eq!(ours.digest().wrapping_add(excess), theirs.digest());
        assert_eq!(theirs.ascii_excess(), None);
    }
}
