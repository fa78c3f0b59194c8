//! Transactions that no reader of the log would take are never made.

use super::{Checked, Op, Prep, WriteRequest, multi};
use crate::auth::{AuthConfig, ENTRIES_MAX, ENTRY_MIN, EXPANDED_MAX, Identity};
use farrier_proto::client::{CreateMode, CreateRequest};
use farrier_proto::jute::{JBuf, JStr};
use farrier_proto::multi::MultiOp;
use farrier_proto::txn::{CheckVersionTxn, CreateContainerTxn, CreateTtlTxn, CreateTxn, SetAclTxn, SetDataTxn};
use farrier_proto::{ErrorCode, OpCode, RawAcl, Txn, TxnDigest, TxnHeader};
use std::borrow::Cow;

/// Bytes of a transaction besides its body.
const AROUND_BODY: usize = TxnHeader::LEN + TxnDigest::LEN;

/// More than an operation's fixed fields take in a transaction: lengths, versions, flags, TTL, a sequence
/// number, and its frame inside a multi.
const FIXED: usize = 64;

/// What a body takes at most, told from the request alone and without making anything: too much rather than too little.
#[derive(Clone, Copy, Debug)]
struct Bound {
    /// All of it but what scheme `auth` stands for.
    len: usize,
    /// Entries of scheme `auth`.
    auth: usize,
    /// Entries of the longest list, and of scheme `auth` in the one that has most of those.
    longest: (usize, usize),
}

impl Bound {
    fn of(request: &WriteRequest<'_>) -> Self {
        let mut bound = Self { len: FIXED, auth: 0, longest: (0, 0) };
        match request {
            WriteRequest::Create { request, .. } => bound.create(request),
            WriteRequest::Delete(r) => bound.text(&r.path),
            WriteRequest::SetData(r) => {
                bound.text(&r.path);
                bound.data(&r.data);
            }
            WriteRequest::SetAcl(r) => {
                bound.text(&r.path);
                bound.list(r.acl.as_deref());
            }
            WriteRequest::Multi(ops) => bound.multi(ops),
            WriteRequest::DeleteContainer(path) => bound.len += java_len_at_most(path.len()),
            // The list of a closeSession is left out if it does not fit.
            WriteRequest::CloseSession | WriteRequest::CreateSession { .. } | WriteRequest::Failed(_) => {}
        }
        bound
    }

    fn multi(&mut self, ops: &[MultiOp<'_>]) {
        for op in ops {
            self.len += FIXED;
            match op {
                MultiOp::Create { request, .. } => self.create(request),
                MultiOp::Delete(r) | MultiOp::Check(r) => self.text(&r.path),
                MultiOp::SetData(r) => {
                    self.text(&r.path);
                    self.data(&r.data);
                }
            }
        }
    }

    fn create(&mut self, r: &CreateRequest<'_>) {
        self.text(&r.path);
        self.data(&r.data);
        self.list(r.acl.as_deref());
    }

    fn text(&mut self, field: &JStr<'_>) {
        self.len += java_len_at_most(field.as_ref().map_or(0, |f| f.len()));
    }

    fn data(&mut self, field: &JBuf<'_>) {
        self.len += field.as_ref().map_or(0, |f| f.len());
    }

    fn list(&mut self, acl: Option<&[RawAcl<'_>]>) {
        let before = self.auth;
        for a in acl.unwrap_or_default() {
            if a.scheme.as_deref() == Some("auth") {
                self.auth += 1;
            } else {
                self.len += ENTRY_MIN;
                self.text(&a.scheme);
                self.text(&a.id);
            }
        }
        let (entries, auth) = self.longest;
        self.longest = (entries.max(acl.map_or(0, <[_]>::len)), auth.max(self.auth - before));
    }

    /// Whether a list may have more entries than one may have.
    const fn has_long_list(self, identities: &[Identity]) -> bool {
        let (entries, auth) = self.longest;
        entries + auth * identities.len() > ENTRIES_MAX
    }

    /// What scheme `auth` stands for, if all these identities count.
    fn expanded(self, identities: &[Identity]) -> usize {
        if self.auth == 0 {
            return 0;
        }
        let entry = |i: &Identity| ENTRY_MIN + java_len_at_most(i.scheme.len()) + java_len_at_most(i.id.len());
        self.auth * identities.iter().map(entry).sum::<usize>()
    }

    fn total(self, identities: &[Identity]) -> usize {
        self.len + self.expanded(identities)
    }
}

/// Whether the body of the request's transaction might exceed `max`.
pub(super) fn may_exceed(request: &WriteRequest<'_>, identities: &[Identity], max: usize) -> bool {
    // A multi makes and takes back its own changes; see `Op::multi`.
    !matches!(request, WriteRequest::Multi(_)) && Bound::of(request).total(identities) > max
}

/// The same for a multi.
pub(super) fn multi_may_exceed(ops: &[MultiOp<'_>], identities: &[Identity], max: usize) -> bool {
    let mut bound = Bound { len: FIXED, auth: 0, longest: (0, 0) };
    bound.multi(ops);
    bound.total(identities) > max
}

impl Prep {
    /// Bytes that the body of a transaction may take.
    #[must_use]
    pub const fn body_max(&self) -> usize {
        self.txn_max.saturating_sub(AROUND_BODY)
    }

    /// The error of a request whose transaction would be too long for those who read the log, or would have an ACL of more than
    /// [`ENTRIES_MAX`]. A leader finds that while
    /// it [prepares](Self::prepare) it; one of Apache's does not look (`PrepRequestProcessor.fixupACL`,
    /// `BinaryOutputArchive`), and neither it nor any follower can read what it has logged then. So whoever forwards
    /// requests asks here first.
    ///
    /// The state is not asked: a multi that would fail before its list gets too long is refused as well, and as a
    /// whole.
    #[must_use]
    pub fn oversize(&self, request: &WriteRequest<'_>, identities: &[Identity]) -> Option<ErrorCode> {
        let bound = Bound::of(request);
        if bound.expanded(identities) <= EXPANDED_MAX
            && bound.total(identities) <= self.body_max()
            && !bound.has_long_list(identities)
        {
            return None;
        }
        match longest(&self.auth, request, identities) {
            Ok(txn) => (body_len(&txn) > self.body_max()).then_some(ErrorCode::MarshallingError),
            Err(code) => Some(code),
        }
    }
}

/// The transaction that a leader makes of a request at most, with numbers that only it knows left at 0.
fn longest<'r>(auth: &AuthConfig, request: &'r WriteRequest<'_>, ids: &[Identity]) -> Result<Txn<'r>, ErrorCode> {
    Ok(match request {
        WriteRequest::Create { op, request, .. } => created(auth, *op, request, ids)?,
        WriteRequest::Delete(r) => Txn::Delete(path(&r.path)),
        WriteRequest::SetData(r) => Txn::SetData(data_set(&r.path, &r.data)),
        WriteRequest::SetAcl(r) => {
            let acl = auth.fix_up(r.acl.as_deref(), ids)?;
            Txn::SetAcl(SetAclTxn { path: path(&r.path), acl, version: 0 })
        }
        WriteRequest::Multi(ops) => {
            let mut expanded = 0;
            let txn = |op: &'r MultiOp<'_>| match op {
                MultiOp::Create { op, request, .. } => {
                    let txn = created(auth, *op, request, ids)?;
                    expanded += multi::grown(multi::asked_len(request), &txn);
                    if expanded > EXPANDED_MAX { Err(ErrorCode::InvalidAcl) } else { Ok(txn) }
                }
                MultiOp::Delete(r) => Ok(Txn::Delete(path(&r.path))),
                MultiOp::SetData(r) => Ok(Txn::SetData(data_set(&r.path, &r.data))),
                MultiOp::Check(r) => Ok(Txn::Check(CheckVersionTxn { path: path(&r.path), version: 0 })),
            };
            Txn::Multi(ops.iter().map(txn).collect::<Result<_, _>>()?)
        }
        WriteRequest::DeleteContainer(path) => Txn::DeleteContainer(Cow::Borrowed(path)),
        WriteRequest::CreateSession { timeout } => Txn::CreateSession(*timeout),
        WriteRequest::CloseSession => Txn::CloseSession(None),
        WriteRequest::Failed(code) => Txn::error(*code),
    })
}

fn created<'r>(
    auth: &AuthConfig,
    op: OpCode,
    request: &'r CreateRequest<'_>,
    ids: &[Identity],
) -> Result<Txn<'r>, ErrorCode> {
    let acl = auth.fix_up(request.acl.as_deref(), ids)?;
    let (mut path, data) = (path(&request.path), request.data.as_deref().map(Cow::Borrowed));
    if CreateMode::from_code(request.flags).is_some_and(CreateMode::is_sequential) {
        path = Cow::Owned(format!("{path}{:010}", 0));
    }
    let parent_cversion = 0;
    Ok(match op {
        OpCode::CreateContainer => Txn::CreateContainer(CreateContainerTxn { path, data, acl, parent_cversion }),
        OpCode::CreateTtl => Txn::CreateTtl(CreateTtlTxn { path, data, acl, parent_cversion, ttl: 0 }),
        _ => Txn::Create(CreateTxn { path, data, acl, ephemeral: false, parent_cversion }),
    })
}

fn data_set<'r>(of: &'r JStr<'_>, data: &'r JBuf<'_>) -> SetDataTxn<'r> {
    SetDataTxn { path: path(of), data: data.as_deref().map(Cow::Borrowed), version: 0 }
}

fn path<'r>(field: &'r JStr<'_>) -> Cow<'r, str> {
    Cow::Borrowed(field.as_deref().unwrap_or_default())
}

/// Bytes of a text as a Java server writes it: it turns each half of a character beyond the basic plane into three
/// bytes (`BinaryOutputArchive.stringToByteBuffer`), where UTF-8 has four for the whole. Followers write what they are
/// sent anew, and do not look whether they can read it again.
fn java_len(text: &str) -> usize {
    const FIRST_OF_FOUR: u8 = 0xf0;
    text.len() + 2 * text.bytes().filter(|b| *b >= FIRST_OF_FOUR).count()
}

/// At least [`java_len`] of a text of `len` bytes.
const fn java_len_at_most(len: usize) -> usize {
    len + len / 2
}

/// Bytes of a body, where the server that writes it makes it longest.
pub(super) fn body_len(txn: &Txn<'_>) -> usize {
    let mut bytes = Vec::new();
    txn.write_body(&mut bytes);
    bytes.len() + growth(txn)
}

/// How much longer a Java server writes the texts of a body. None but those of lists can be: a legal path has no
/// character beyond the basic plane.
fn growth(txn: &Txn<'_>) -> usize {
    let acl = match txn {
        Txn::Create(t) | Txn::Create2(t) => &t.acl,
        Txn::CreateContainer(t) => &t.acl,
        Txn::CreateTtl(t) => &t.acl,
        Txn::SetAcl(t) => &t.acl,
        Txn::Multi(txns) => return txns.iter().map(growth).sum(),
        _ => return 0,
    };
    acl.iter().map(|a| java_len(&a.id) - a.id.len()).sum()
}

impl Op<'_> {
    /// Ends what [`crate::outstanding::Outstanding::begin`] began.
    pub(super) fn keep_if_it_fits<'r>(&mut self, result: Checked<'r>) -> Checked<'r> {
        match result {
            Ok(txn) if body_len(&txn) <= self.body_max => {
                self.pending.keep();
                Ok(txn)
            }
            Ok(_) => {
                self.pending.rollback();
                Err(ErrorCode::MarshallingError)
            }
            Err(code) => {
                self.pending.rollback();
                Err(code)
            }
        }
    }
}
