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
        WriteRequest::DeleteContainer(path) => Some(path.len()),
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

fn text(field: &JStr<'_>) -> usize {
    field.as_ref().map_or(0, |f| f.len())
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
        (scheme != "auth").then(|| sum + 12 + scheme.len() + a.id.as_deref().map_or(0, str::len))
    })
}

/// Bytes of a body.
pub(super) fn body_len(txn: &Txn<'_>) -> usize {
    let mut bytes = Vec::new();
    txn.write_body(&mut bytes);
    bytes.len()
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
