//! What the four kinds of create have in common.

use farrier_proto::stat::StatPersisted;
use farrier_proto::{Acl, Owner, Txn, TxnHeader};

/// A znode that a transaction is to create.
pub(crate) struct Creation<'t> {
    pub(crate) path: &'t str,
    pub(crate) data: Option<&'t [u8]>,
    pub(crate) acl: &'t [Acl<'t>],
    pub(crate) parent_cversion: i32,
    /// Plain creates raise the parent's counter even if the node exists.
    pub(crate) fixes_parent: bool,
    /// What it begins with.
    pub(crate) stat: StatPersisted,
}

impl<'t> Creation<'t> {
    /// That of `txn`, if it is a create; but for one whose TTL has no encoding: a leader that lets one pass dies of it.
    pub(crate) fn of(header: &TxnHeader, txn: &'t Txn<'_>) -> Option<Self> {
        let owner = match txn {
            Txn::Create(t) | Txn::Create2(t) => {
                if t.ephemeral {
                    header.session.0
                } else {
                    0
                }
            }
            Txn::CreateContainer(_) => Owner::Container.encode(),
            Txn::CreateTtl(t) if (Owner::TTL_MIN..=Owner::TTL_MAX).contains(&t.ttl) => {
                Owner::Ttl(u64::try_from(t.ttl).ok()?).encode()
            }
            _ => return None,
        };
        let stat = StatPersisted {
            czxid: header.zxid,
            mzxid: header.zxid,
            ctime: header.time,
            mtime: header.time,
            version: 0,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: owner,
            pzxid: header.zxid,
        };
        let fixes_parent = matches!(txn, Txn::Create(_));
        let (path, data, acl, parent_cversion) = match txn {
            Txn::Create(t) | Txn::Create2(t) => (&t.path, &t.data, &t.acl, t.parent_cversion),
            Txn::CreateContainer(t) => (&t.path, &t.data, &t.acl, t.parent_cversion),
            Txn::CreateTtl(t) => (&t.path, &t.data, &t.acl, t.parent_cversion),
            _ => return None,
        };
        Some(Self { path, data: data.as_deref(), acl, parent_cversion, fixes_parent, stat })
    }
}
