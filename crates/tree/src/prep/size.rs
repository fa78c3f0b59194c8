//! Transactions that no reader of the log would take are never made.

use super::{Checked, Op, WriteRequest};
use farrier_proto::client::CreateRequest;
use farrier_proto::jute::{JBuf, JStr};
use farrier_proto::multi::MultiOp;
use farrier_proto::{ErrorCode, RawAcl, Txn, TxnDigest, TxnHeader};

/// Bytes of a transaction besides its body.
pub(super) const AROUND_BODY: usize = TxnHeader::LEN + TxnDigest::LEN;

/// More than an operation's fixed fields take in a transaction: lengths, versions, flags, TTL, a sequence
/// number, and its frame inside a multi.
const FIXED: usize = 64;

/// Whether the body of the request's transaction might exceed `max`. Counts too much rather than too
/// little.
pub(super) fn may_exceed(request: &WriteRequest<'_>, max: usize) -> bool {
    let len = match request {
        WriteRequest::Create { request, .. } => create(request),
        WriteRequest::Delete(r) => Some(text(&r.path)),
        WriteRequest::SetData(r) => Some(text(&r.path) + data(&r.data)),
        WriteRequest::SetAcl(r) => list(r.acl.as_deref()).map(|acl| acl + text(&r.path)),
        // Makes and takes back its own changes; see `Op::multi`.
        WriteRequest::Multi(_) => return false,
        // Its list is left out if it does not fit.
        WriteRequest::CloseSession => return false,
        WriteRequest::DeleteContainer(path) => Some(java_len_at_most(path.len())),
        WriteRequest::CreateSession { .. } | WriteRequest::Failed(_) => Some(0),
    };
    len.is_none_or(|len| len + FIXED > max)
}

/// The same for a multi.
pub(super) fn multi_may_exceed(ops: &[MultiOp<'_>], max: usize) -> bool {
    let len = ops.iter().try_fold(0, |sum, op| {
        let len = match op {
            MultiOp::Create { request, .. } => create(request)?,
            MultiOp::Delete(r) | MultiOp::Check(r) => text(&r.path),
            MultiOp::SetData(r) => text(&r.path) + data(&r.data),
        };
        Some(sum + len + FIXED)
    });
    len.is_none_or(|len| len + FIXED > max)
}

/// Bytes of a text as a Java server writes it: it turns each half of a character beyond the basic plane into three bytes
/// (`BinaryOutputArchive.stringToByteBuffer`), where UTF-8 has four for the whole. Followers write what they are sent
/// anew, and do not look whether they can read it again.
pub(super) fn java_len(text: &str) -> usize {
    const FIRST_OF_FOUR: u8 = 0xf0;
    text.len() + 2 * text.bytes().filter(|b| *b >= FIRST_OF_FOUR).count()
}

/// At least [`java_len`] of a text of `len` bytes.
const fn java_len_at_most(len: usize) -> usize {
    len + len / 2
}

fn text(field: &JStr<'_>) -> usize {
    java_len_at_most(field.as_ref().map_or(0, |f| f.len()))
}

fn data(field: &JBuf<'_>) -> usize {
    field.as_ref().map_or(0, |f| f.len())
}

fn create(r: &CreateRequest<'_>) -> Option<usize> {
    list(r.acl.as_deref()).map(|acl| acl + text(&r.path) + data(&r.data))
}

/// Bytes of a list; `None` if scheme `auth` may make it any longer.
fn list(acl: Option<&[RawAcl<'_>]>) -> Option<usize> {
    acl.unwrap_or_default().iter().try_fold(0, |sum, a| {
        let scheme = a.scheme.as_deref().unwrap_or_default();
        (scheme != "auth").then(|| sum + 12 + java_len_at_most(scheme.len()) + text(&a.id))
    })
}

/// Bytes of a body, where the server that writes it makes it longest.
pub(super) fn body_len(txn: &Txn<'_>) -> usize {
    let mut bytes = Vec::new();
    txn.write_body(&mut bytes);
    bytes.len() + growth(txn)
}

/// How much longer a Java server writes the texts of a body. None but those of lists can be: a legal path has no character beyond
/// the basic plane.
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
