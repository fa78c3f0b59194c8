//! Transactions: what a leader computed from a request, as bytes in logs and proposals.
//!
//! A transaction's bytes are its header, a body that depends on the type, and since 3.6 a digest of the
//! tree after it. The same bytes stand in the log, in a PROPOSAL and in the replica's queues.

use crate::jute::{Field, JBuf, Reader, plain_record, put_i32, put_len, record};
use crate::limits::{MULTI_OPS_MAX, MULTI_USUAL};
use crate::numbered::numbered;
use crate::{Acl, DecodeError, ErrorCode, SessionId, Zxid};
use std::borrow::Cow;

plain_record! {
    /// Start of every transaction; 32 bytes.
    pub struct TxnHeader {
        /// Session of the request; [`SessionId::NONE`] where the server originated it.
        pub session: SessionId,
        /// The request's xid; 0 where the server originated it.
        pub cxid: i32,
        /// Identifier.
        pub zxid: Zxid,
        /// The leader's wall clock in milliseconds.
        pub time: i64,
        /// See [`TxnType`].
        pub kind: i32,
    }

    /// Digest of the tree after the transaction.
    pub struct TxnDigest {
        /// [`TxnDigest::VERSION`]; others are not compared.
        pub version: i32,
        /// The digest.
        pub tree: i64,
    }
}

impl TxnHeader {
    /// Bytes of a header.
    pub const LEN: usize = 32;
}

impl TxnDigest {
    /// The one algorithm of 3.6 and later.
    pub const VERSION: i32 = 2;
    /// Bytes of a digest.
    pub const LEN: usize = 12;

    /// A digest by the current algorithm.
    #[must_use]
    pub const fn new(tree: u64) -> Self {
        Self { version: Self::VERSION, tree: tree.cast_signed() }
    }
}

numbered! {
    /// Type of a transaction.
    pub enum TxnType {
        /// A request that failed; takes a zxid and changes nothing.
        Error = -1,
        /// Start of a session.
        CreateSession = -10,
        /// End of a session, with its ephemerals.
        CloseSession = -11,
        /// A node that the client learns by path.
        Create = 1,
        /// A node's removal.
        Delete = 2,
        /// A node's data.
        SetData = 5,
        /// A node's ACL.
        SetAcl = 7,
        /// A version that was checked; inside a multi only.
        Check = 13,
        /// Several at once.
        Multi = 14,
        /// A node that the client learns by path and stat.
        Create2 = 15,
        /// A new membership.
        Reconfig = 16,
        /// A container.
        CreateContainer = 19,
        /// A container's or TTL node's removal by the sweeper.
        DeleteContainer = 20,
        /// A TTL node.
        CreateTtl = 21,
    }
}

record! {
    /// A node without expiry.
    pub struct CreateTxn<'a> {
        /// Final path.
        pub path: Cow<'a, str>,
        /// Data.
        pub data: JBuf<'a>,
        /// Valid, fixed-up list.
        pub acl: Vec<Acl<'a>>,
        /// Whether the header's session owns it.
        pub ephemeral: bool,
        /// The parent's counter of creations after this one; -1 in transactions of 3.4 betas, "one more".
        pub parent_cversion: i32,
    }

    /// A container.
    pub struct CreateContainerTxn<'a> {
        /// Final path.
        pub path: Cow<'a, str>,
        /// Data.
        pub data: JBuf<'a>,
        /// Valid, fixed-up list.
        pub acl: Vec<Acl<'a>>,
        /// See [`CreateTxn::parent_cversion`].
        pub parent_cversion: i32,
    }

    /// A TTL node.
    pub struct CreateTtlTxn<'a> {
        /// Final path.
        pub path: Cow<'a, str>,
        /// Data.
        pub data: JBuf<'a>,
        /// Valid, fixed-up list.
        pub acl: Vec<Acl<'a>>,
        /// See [`CreateTxn::parent_cversion`].
        pub parent_cversion: i32,
        /// Time to live in milliseconds.
        pub ttl: i64,
    }

    /// Data of a node, or the text of a new membership.
    pub struct SetDataTxn<'a> {
        /// Path.
        pub path: Cow<'a, str>,
        /// New data.
        pub data: JBuf<'a>,
        /// The version after it.
        pub version: i32,
    }

    /// ACL of a node.
    pub struct SetAclTxn<'a> {
        /// Path.
        pub path: Cow<'a, str>,
        /// Valid, fixed-up list.
        pub acl: Vec<Acl<'a>>,
        /// The aversion after it.
        pub version: i32,
    }

    /// A version that was checked.
    pub struct CheckVersionTxn<'a> {
        /// Path.
        pub path: Cow<'a, str>,
        /// The version.
        pub version: i32,
    }
}

/// The body of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Txn<'a> {
    /// The request failed with this code. Kept as the number: logs may hold codes of other versions.
    Error(i32),
    /// Timeout in milliseconds.
    CreateSession(i32),
    /// Ephemerals to delete. `None` in logs of 3.5, and of Apache's servers with `closeSessionTxn.enabled=false`:
    /// they delete what the tree knows.
    CloseSession(Option<Vec<Cow<'a, str>>>),
    /// See [`TxnType::Create`].
    Create(CreateTxn<'a>),
    /// See [`TxnType::Create2`].
    Create2(CreateTxn<'a>),
    /// See [`TxnType::CreateContainer`].
    CreateContainer(CreateContainerTxn<'a>),
    /// See [`TxnType::CreateTtl`].
    CreateTtl(CreateTtlTxn<'a>),
    /// Path.
    Delete(Cow<'a, str>),
    /// Path.
    DeleteContainer(Cow<'a, str>),
    /// See [`TxnType::SetData`].
    SetData(SetDataTxn<'a>),
    /// See [`TxnType::Reconfig`].
    Reconfig(SetDataTxn<'a>),
    /// See [`TxnType::SetAcl`].
    SetAcl(SetAclTxn<'a>),
    /// See [`TxnType::Check`]; inside a multi only.
    Check(CheckVersionTxn<'a>),
    /// In order; if one is [`Txn::Error`], none is applied.
    Multi(Vec<Self>),
}

impl<'a> Txn<'a> {
    /// The error transaction of a failed request.
    #[must_use]
    pub const fn error(code: ErrorCode) -> Self {
        Txn::Error(code.code())
    }

    /// The type that goes into the header.
    #[must_use]
    pub const fn kind(&self) -> TxnType {
        match self {
            Txn::Error(_) => TxnType::Error,
            Txn::CreateSession(_) => TxnType::CreateSession,
            Txn::CloseSession(_) => TxnType::CloseSession,
            Txn::Create(_) => TxnType::Create,
            Txn::Create2(_) => TxnType::Create2,
            Txn::CreateContainer(_) => TxnType::CreateContainer,
            Txn::CreateTtl(_) => TxnType::CreateTtl,
            Txn::Delete(_) => TxnType::Delete,
            Txn::DeleteContainer(_) => TxnType::DeleteContainer,
            Txn::SetData(_) => TxnType::SetData,
            Txn::Reconfig(_) => TxnType::Reconfig,
            Txn::SetAcl(_) => TxnType::SetAcl,
            Txn::Check(_) => TxnType::Check,
            Txn::Multi(_) => TxnType::Multi,
        }
    }

    /// Appends the body's bytes.
    pub fn write_body(&self, out: &mut Vec<u8>) {
        match self {
            Txn::Error(code) => code.write(out),
            Txn::CreateSession(timeout) => timeout.write(out),
            Txn::CloseSession(None) => {}
            Txn::CloseSession(Some(paths)) => paths.write(out),
            Txn::Create(t) | Txn::Create2(t) => t.write(out),
            Txn::CreateContainer(t) => t.write(out),
            Txn::CreateTtl(t) => t.write(out),
            Txn::Delete(path) | Txn::DeleteContainer(path) => path.write(out),
            Txn::SetData(t) | Txn::Reconfig(t) => t.write(out),
            Txn::SetAcl(t) => t.write(out),
            Txn::Check(t) => t.write(out),
            Txn::Multi(txns) => {
                put_len(out, txns.len());
                for t in txns {
                    put_i32(out, t.kind().code());
                    let start = out.len();
                    put_i32(out, 0);
                    t.write_body(out);
                    let len = i32::try_from(out.len() - start - 4).expect("a transaction is shorter than 2 GiB");
                    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
                }
            }
        }
    }

    fn read_create(r: &mut Reader<'a>) -> Result<CreateTxn<'a>, DecodeError> {
        Ok(CreateTxn {
            path: Field::read(r)?,
            data: Field::read(r)?,
            acl: Field::read(r)?,
            ephemeral: Field::read(r)?,
            // 3.4 betas wrote no counter.
            parent_cversion: if r.is_empty() { -1 } else { Field::read(r)? },
        })
    }

    /// Decodes a body of type `kind`. `nested` says that it stands inside a multi, where checks may and
    /// session transactions and further multis may not.
    fn read_body(kind: TxnType, r: &mut Reader<'a>, nested: bool) -> Result<Self, DecodeError> {
        Ok(match kind {
            TxnType::Error => Txn::Error(r.i32()?),
            TxnType::Create => Txn::Create(Self::read_create(r)?),
            TxnType::Create2 => Txn::Create2(Self::read_create(r)?),
            TxnType::CreateContainer => Txn::CreateContainer(Field::read(r)?),
            TxnType::CreateTtl => Txn::CreateTtl(Field::read(r)?),
            TxnType::Delete => Txn::Delete(Field::read(r)?),
            TxnType::DeleteContainer => Txn::DeleteContainer(Field::read(r)?),
            TxnType::SetData => Txn::SetData(Field::read(r)?),
            TxnType::Check if nested => Txn::Check(Field::read(r)?),
            TxnType::Reconfig if !nested => Txn::Reconfig(Field::read(r)?),
            TxnType::SetAcl if !nested => Txn::SetAcl(Field::read(r)?),
            TxnType::CreateSession if !nested => Txn::CreateSession(r.i32()?),
            TxnType::CloseSession if !nested => {
                Txn::CloseSession(if lists_nothing(r.rest()) { None } else { Field::read(r)? })
            }
            TxnType::Multi if !nested => Txn::Multi(Self::read_multi(r)?),
            TxnType::Check
            | TxnType::Reconfig
            | TxnType::SetAcl
            | TxnType::CreateSession
            | TxnType::CloseSession
            | TxnType::Multi => {
                return Err(DecodeError::Shape(
                    "this type of transaction may not stand here (inside or outside of a multi)",
                ));
            }
        })
    }

    fn read_multi(r: &mut Reader<'a>) -> Result<Vec<Self>, DecodeError> {
        let n = r.count()?.ok_or(DecodeError::Null("vector"))?;
        if n > MULTI_OPS_MAX {
            return Err(DecodeError::Shape("a multi has more operations than the limit allows"));
        }
        let mut txns = Vec::with_capacity(n.min(MULTI_USUAL));
        for _ in 0..n {
            let kind = read_kind(r.i32()?)?;
            let body = r.buffer()?.ok_or(DecodeError::Null("buffer"))?;
            txns.push(Self::read_body(kind, &mut Reader::new(body), true)?);
        }
        Ok(txns)
    }
}

/// Whether a closeSession with these bytes behind its header has no list of paths: nothing follows, or exactly a
/// digest. The digest's version would read as two paths, which are both empty in so few bytes, and no ephemeral's path
/// is. Such are the transactions of Apache's servers with `closeSessionTxn.enabled=false`.
fn lists_nothing(behind_header: &[u8]) -> bool {
    behind_header.is_empty()
        || behind_header.len() == TxnDigest::LEN && behind_header.starts_with(&TxnDigest::VERSION.to_be_bytes())
}

fn read_kind(code: i32) -> Result<TxnType, DecodeError> {
    TxnType::from_code(code).ok_or_else(|| DecodeError::Value { field: "transaction type", value: i64::from(code) })
}

/// Appends a whole transaction: header, body, and the digest if there is one. The header's type must be
/// the body's.
///
/// # Panics
/// When the types differ, and for a closeSession without a body but with a digest of another version than
/// [`TxnDigest::VERSION`], which [`read_txn`] would take for something else.
pub fn write_txn(out: &mut Vec<u8>, header: &TxnHeader, txn: &Txn<'_>, digest: Option<TxnDigest>) {
    assert_eq!(header.kind, txn.kind().code(), "header and body of a transaction have one type");
    header.write(out);
    txn.write_body(out);
    if let Some(digest) = digest {
        let told_apart = !matches!(txn, Txn::CloseSession(None)) || digest.version == TxnDigest::VERSION;
        assert!(told_apart, "a digest behind an absent body would read as the body");
        digest.write(out);
    }
}

/// Decodes the header alone.
pub fn read_header(bytes: &[u8]) -> Result<TxnHeader, DecodeError> {
    TxnHeader::read(&mut Reader::new(bytes))
}

/// Decodes a whole transaction. Fewer than [`TxnDigest::LEN`] bytes behind the body are no digest, and
/// bytes behind a digest are ignored, as by Apache.
pub fn read_txn(bytes: &[u8]) -> Result<(TxnHeader, Txn<'_>, Option<TxnDigest>), DecodeError> {
    let mut r = Reader::new(bytes);
    let header = TxnHeader::read(&mut r)?;
    let txn = Txn::read_body(read_kind(header.kind)?, &mut r, false)?;
    let digest = if r.rest().len() >= TxnDigest::LEN { Some(TxnDigest::read(&mut r)?) } else { None };
    Ok((header, txn, digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Apache 3.6 to 3.9 log for a session that ends under `closeSessionTxn.enabled=false` (`Util.marshallTxnEntry`
    /// of a null record and a digest).
    fn bodiless(behind_header: &[u8]) -> Vec<u8> {
        let header = TxnHeader {
            session: SessionId(0x10),
            cxid: 3,
            zxid: Zxid::new(1, 7),
            time: 1,
            kind: TxnType::CloseSession.code(),
        };
        let mut bytes = Vec::new();
        header.write(&mut bytes);
        bytes.extend_from_slice(behind_header);
        bytes
    }

    #[test]
    fn a_digest_behind_a_close_session_without_a_list_is_no_list() {
        for tree in [0x1234_5678_9abc_def0, 0, -1, 5, i64::MAX, i64::MIN] {
            let mut behind = Vec::new();
            TxnDigest { version: TxnDigest::VERSION, tree }.write(&mut behind);
            let bytes = bodiless(&behind);
            let (header, txn, digest) = read_txn(&bytes).unwrap();
            assert_eq!((&txn, &digest), (&Txn::CloseSession(None), &Some(TxnDigest { version: 2, tree })));
            let mut again = Vec::new();
            write_txn(&mut again, &header, &txn, digest);
            assert_eq!(again, bytes, "what is passed on is what came");
        }
        let nothing = bodiless(&[]);
        let (_, txn, digest) = read_txn(&nothing).unwrap();
        assert_eq!((txn, digest), (Txn::CloseSession(None), None));
    }

    #[test]
    fn lists_of_a_close_session_are_read_as_before() {
        for paths in [vec![], vec!["/a"], vec!["/a", "/b"], vec!["/a", "/b", "/c"]] {
            for digest in [None, Some(TxnDigest::new(9))] {
                let list: Vec<Cow<'_, str>> = paths.iter().map(|path| Cow::from(*path)).collect();
                let mut behind = Vec::new();
                list.write(&mut behind);
                if let Some(digest) = &digest {
                    digest.write(&mut behind);
                }
                let bytes = bodiless(&behind);
                let (_, txn, read) = read_txn(&bytes).unwrap();
                assert_eq!((txn, read), (Txn::CloseSession(Some(list)), digest));
            }
        }
        let torn = bodiless(&[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert!(read_txn(&torn).is_err(), "a digest has twelve bytes");
    }
}
