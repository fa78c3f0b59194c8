//! Several operations under one zxid: all of them, or none.

use super::{Checked, Op, size};
use crate::auth::{ENTRY_MIN, EXPANDED_MAX};
use farrier_proto::client::CreateRequest;
use farrier_proto::multi::MultiOp;
use farrier_proto::{Acl, ErrorCode, OpCode, RawAcl, Txn};

impl Op<'_> {
    /// Checks the operations in order, each after the effects of those before it. If one fails, all
    /// pending effects are taken back and the transaction says which: the ones before it stand there as
    /// they would have been, the ones behind it were never looked at.
    pub(super) fn multi<'r>(&mut self, ops: Vec<MultiOp<'r>>) -> Checked<'r> {
        let measured = size::multi_may_exceed(&ops, self.ctx.identities, self.body_max);
        self.tree.foresee(ops.iter().filter_map(path_of));
        let mut txns = Vec::with_capacity(ops.len());
        let mut failed = false;
        // How much longer scheme `auth` made the lists of all operations together: each list has its own
        // bound, but many of them could make a transaction that no reader of the log would take.
        let mut expanded = 0;
        self.pending.begin(self.tree);
        for op in ops {
            if failed {
                txns.push(Txn::error(ErrorCode::RuntimeInconsistency));
                continue;
            }
            let result = match op {
                MultiOp::Create { op, request, ttl } => {
                    let asked = asked_len(&request);
                    let op = if self.plain_creates && op == OpCode::Create2 { OpCode::Create } else { op };
                    self.create(op, request, ttl).and_then(|txn| {
                        expanded += grown(asked, &txn);
                        if expanded > EXPANDED_MAX { Err(ErrorCode::InvalidAcl) } else { Ok(txn) }
                    })
                }
                MultiOp::Delete(request) => self.delete(request),
                MultiOp::SetData(request) => self.set_data(request),
                MultiOp::Check(request) => self.check(request),
            };
            failed = result.is_err();
            txns.push(result.unwrap_or_else(Txn::error));
        }
        let multi = Txn::Multi(txns);
        let fits = !measured || size::body_len(&multi) <= self.body_max;
        if (failed && !farrier_proto::planted!(MultiNotRolledBack)) || !fits {
            self.pending.rollback();
        } else {
            self.pending.keep();
        }
        if fits { Ok(multi) } else { Err(ErrorCode::MarshallingError) }
    }
}

/// Bytes of the list in a request.
pub(super) fn asked_len(request: &CreateRequest<'_>) -> usize {
    request.acl.iter().flatten().map(raw_len).sum()
}

/// How much longer than `asked` the list in a transaction is.
pub(super) fn grown(asked: usize, txn: &Txn<'_>) -> usize {
    acl_of(txn).iter().map(entry_len).sum::<usize>().saturating_sub(asked)
}

/// Bytes of an entry: permissions, two lengths, two texts.
fn raw_len(a: &RawAcl<'_>) -> usize {
    ENTRY_MIN + a.scheme.as_deref().map_or(0, str::len) + a.id.as_deref().map_or(0, str::len)
}

/// The same for an entry that is stored.
fn entry_len(a: &Acl<'_>) -> usize {
    ENTRY_MIN + a.scheme.len() + a.id.len()
}

fn path_of<'r>(op: &'r MultiOp<'_>) -> Option<&'r [u8]> {
    let path = match op {
        MultiOp::Create { request, .. } => &request.path,
        MultiOp::Delete(request) | MultiOp::Check(request) => &request.path,
        MultiOp::SetData(request) => &request.path,
    };
    path.as_deref().map(str::as_bytes)
}

fn acl_of<'t>(txn: &'t Txn<'_>) -> &'t [Acl<'t>] {
    match txn {
        Txn::Create(t) | Txn::Create2(t) => &t.acl,
        Txn::CreateContainer(t) => &t.acl,
        Txn::CreateTtl(t) => &t.acl,
        _ => &[],
    }
}
