//! Excuses: why an Apache leader may predict another digest than that of a tree which is the same as its own.
//!
//! **Owners.** Apache predicts a create by the flags of the request and applies it by the type of the transaction. A
//! `create` with the flags of a container is counted as one and becomes a persistent znode; a `createContainer` with other
//! flags becomes a container all the same. Each prediction begins with the one before it while anything is outstanding, so
//! what the first was off by goes on until the leader has applied all that it has, and it becomes another value where a
//! znode that was miscounted changes meanwhile.
//!
//! **Charset.** Before Java 18 the bytes of paths follow the locale: see [`Tree::ascii_excess`]. That takes a walk, so it
//! is asked only where a mismatch would become a verdict, and remembered; it is another one once such a znode changes.

use crate::io::{Actions, Level, Time};
use crate::limits::{DIGEST_CARRIED_MAX, DIGEST_MISCOUNTED_MAX, DIGEST_WALK_PAUSE};
use crate::replica::Replica;
use farrier_proto::path::split;
use farrier_proto::stat::StatPersisted;
use farrier_proto::{Owner, Txn, TxnHeader};
use farrier_tree::Tree;
use farrier_tree::digest::node_digest;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher as _};

/// The leader encodes paths in ASCII.
#[derive(Clone, Copy, Debug)]
struct Charset {
    /// By how much that made its digest larger when last looked at.
    excess: u64,
    looked_at: u64,
}

/// A prediction that is not the tree's digest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prediction<'a> {
    /// By how much it is larger, modulo 2^64.
    pub(crate) excess: u64,
    /// Of this transaction.
    pub(crate) header: &'a TxnHeader,
    pub(crate) txn: &'a Txn<'a>,
}

/// What is known of one term's leader.
#[derive(Debug, Default)]
pub(crate) struct Excuses {
    epoch: Option<u32>,
    /// What the last prediction was off by for wrong owners, and how many more may be.
    carried: u64,
    carried_left: u32,
    /// Hashes of the paths of the znodes with which that began.
    miscounted: BTreeSet<u64>,
    charset: Option<Charset>,
}

fn hash(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(path.as_bytes());
    hasher.finish()
}

/// The path of what Apache may have counted for another one, and by how much too high.
fn miscounts<'a>(p: &Prediction<'a>, tree: &Tree) -> Option<(&'a str, [u64; 2])> {
    let (path, owners) = match p.txn {
        Txn::Create(t) | Txn::Create2(t) if !t.ephemeral => (&*t.path, [Owner::Container; 2]),
        Txn::CreateContainer(t) => (&*t.path, [Owner::Persistent, Owner::Ephemeral(p.header.session)]),
        _ => return None,
    };
    let node = tree.node(path)?;
    let stat = node.persisted();
    if stat.czxid != p.header.zxid {
        return None;
    }
    let excess = |owner: Owner| {
        let stat = StatPersisted { ephemeral_owner: owner.encode(), ..stat };
        u64::from(node_digest(path, node.data(), &stat)).wrapping_sub(node.digest())
    };
    Some((path, owners.map(excess)))
}

/// Whether a transaction may change a znode, or the parent of one, for whose path `is_it` holds.
fn changes(txn: &Txn<'_>, is_it: &impl Fn(&str) -> bool) -> bool {
    let at = |path: &str| is_it(path) || split(path).is_some_and(|(parent, _)| is_it(parent));
    match txn {
        Txn::Create(t) | Txn::Create2(t) => at(&t.path),
        Txn::CreateContainer(t) => at(&t.path),
        Txn::CreateTtl(t) => at(&t.path),
        Txn::Delete(path) | Txn::DeleteContainer(path) => at(path),
        Txn::SetData(t) => is_it(&t.path),
        Txn::SetAcl(t) => is_it(&t.path),
        Txn::CloseSession(paths) => paths.iter().flatten().any(|path| at(path)),
        Txn::Multi(txns) => txns.iter().any(|txn| changes(txn, is_it)),
        Txn::Reconfig(_) | Txn::Check(_) | Txn::Error(_) | Txn::CreateSession(_) => false,
    }
}

impl Excuses {
    pub(crate) const fn new() -> Self {
        Self { epoch: None, carried: 0, carried_left: 0, miscounted: BTreeSet::new(), charset: None }
    }

    /// Another term has another leader.
    pub(crate) fn led_in(&mut self, epoch: Option<u32>) {
        if self.epoch != epoch {
            *self = Self { epoch, ..Self::new() };
        }
    }

    /// Whether the leader is known to encode paths in ASCII.
    pub(crate) const fn has_charset(&self) -> bool {
        self.charset.is_some()
    }

    /// Whether a prediction is one of the same tree as the one here. Where that is `in_doubt` already, nothing that could be
    /// anything is taken for an excuse.
    pub(crate) fn cover(&mut self, p: Prediction<'_>, in_doubt: bool, tree: &Tree) -> bool {
        let charset = self.charset.map_or(0, |charset| charset.excess);
        self.owners_cover(p, 0, in_doubt, tree) || charset != 0 && self.owners_cover(p, charset, in_doubt, tree)
    }

    /// The same of a leader whose charset adds so much.
    fn owners_cover(&mut self, p: Prediction<'_>, charset: u64, in_doubt: bool, tree: &Tree) -> bool {
        let excess = p.excess.wrapping_sub(charset);
        if excess == 0 {
            self.carried_left = 0;
            self.miscounted.clear();
            return true;
        }
        let carries = self.carried_left > 0;
        if carries && excess == self.carried {
            self.carried_left -= 1;
            return true;
        }
        if let Some((path, own)) = miscounts(&p, tree)
            && own.into_iter().any(|own| excess == own || carries && excess == self.carried.wrapping_add(own))
        {
            self.carried = excess;
            self.carried_left = DIGEST_CARRIED_MAX;
            if self.miscounted.len() == DIGEST_MISCOUNTED_MAX {
                self.miscounted.pop_first();
            }
            self.miscounted.insert(hash(path));
            return true;
        }
        if carries && !in_doubt && changes(p.txn, &|path| self.miscounted.contains(&hash(path))) {
            self.carried = excess;
            self.carried_left -= 1;
            return true;
        }
        false
    }
}

impl Replica {
    /// Whether a mismatch that lasts, up to this prediction, comes of the charset of the leader, or may.
    pub(crate) fn charset_covers(&mut self, now: Time, p: Prediction<'_>, out: &mut Actions) -> bool {
        let excuses = &mut self.digests.excuses;
        if let Some(charset) = excuses.charset
            && now.mono < charset.looked_at.saturating_add(DIGEST_WALK_PAUSE)
        {
            // It is looked at again, and judged, by and by.
            return true;
        }
        let Some(excess) = self.tree.ascii_excess() else { return false };
        if !excuses.owners_cover(p, excess, true, &self.tree) {
            return false;
        }
        let is_known = excuses.charset.replace(Charset { excess, looked_at: now.mono }).is_some();
        self.digests.excuse();
        if !is_known {
            out.note(
                Level::Warn,
                "the leader's digests are those of the tree here with a ? for each character in a path that is not ASCII: its Java, older than 18, runs in a locale without UTF-8. The trees are the same, and clients are served. Start that JVM with -Dfile.encoding=UTF-8 or in a UTF-8 locale: until then, trees that differ would be noticed late".to_owned(),
            );
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::txn::CreateContainerTxn;
    use farrier_proto::{Acl, SessionId, Zxid};
    use farrier_tree::TreeConfig;

    #[test]
    fn what_a_create_was_off_by_goes_on_for_so_long_and_in_its_term() {
        let mut tree = Tree::new(TreeConfig::default());
        let txn = Txn::CreateContainer(CreateContainerTxn {
            path: "/a".into(),
            data: None,
            acl: vec![Acl::world(31)],
            parent_cversion: 1,
        });
        let header =
            TxnHeader { session: SessionId(7), cxid: 0, zxid: Zxid::new(1, 1), time: 5, kind: txn.kind().code() };
        tree.apply(&header, &txn, None);
        let create = |excess| Prediction { excess, header: &header, txn: &txn };
        let other = |excess| Prediction { excess, header: &header, txn: &Txn::Error(0) };
        let (path, [persistent, ephemeral]) = miscounts(&create(1), &tree).expect("a container");
        assert!(path == "/a" && persistent != 0 && ephemeral != 0 && persistent != ephemeral);

        let mut e = Excuses::new();
        assert!(!e.cover(other(persistent), false, &tree) && !e.cover(create(1), false, &tree));
        assert!(e.cover(create(persistent), false, &tree) && e.cover(other(persistent), false, &tree));
        let both = persistent.wrapping_add(ephemeral);
        assert!(
            !e.cover(other(both), false, &tree) && e.cover(create(both), false, &tree),
            "what went on, and one more"
        );
        for _ in 0..DIGEST_CARRIED_MAX {
            assert!(e.cover(other(both), false, &tree));
        }
        assert!(!e.cover(other(both), false, &tree), "it does not go on for ever");
        assert!(e.cover(create(ephemeral), false, &tree) && e.cover(other(ephemeral), false, &tree));
        e.led_in(Some(2));
        assert!(!e.cover(other(ephemeral), false, &tree), "another leader");
    }
}
