//! Several operations under one zxid: all of them, or none.

use super::Op;
use farrier_proto::multi::MultiOp;
use farrier_proto::{ErrorCode, Txn};

impl Op<'_> {
    /// Checks the operations in order, each after the effects of those before it. If one fails, all
    /// pending effects are taken back and the transaction says which: the ones before it stand there as
    /// they would have been, the ones behind it were never looked at.
    pub(super) fn multi<'r>(&mut self, ops: Vec<MultiOp<'r>>) -> Txn<'r> {
        let mut txns = Vec::with_capacity(ops.len());
        let mut failed = false;
        self.pending.begin(self.tree);
        for op in ops {
            if failed {
                txns.push(Txn::error(ErrorCode::RuntimeInconsistency));
                continue;
            }
            let result = match op {
                MultiOp::Create { op, request, ttl } => self.create(op, request, ttl),
                MultiOp::Delete(request) => self.delete(request),
                MultiOp::SetData(request) => self.set_data(request),
                MultiOp::Check(request) => self.check(request),
            };
            failed = result.is_err();
            txns.push(result.unwrap_or_else(Txn::error));
        }
        if failed {
            self.pending.rollback();
        } else {
            self.pending.keep();
        }
        Txn::Multi(txns)
    }
}
