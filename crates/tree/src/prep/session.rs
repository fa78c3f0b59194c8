//! Start and end of sessions.

use super::Op;
use farrier_proto::Txn;
use farrier_proto::path::split;
use std::borrow::Cow;

impl Op<'_> {
    pub(super) fn create_session<'r>(&mut self, timeout: i32) -> Txn<'r> {
        self.pending.open_session(self.ctx.session, self.ctx.zxid);
        Txn::CreateSession(timeout)
    }

    /// Ends the session with all its ephemerals, those included whose creation is not applied yet.
    ///
    /// A list that would not fit into a transaction is left out: every server then deletes what its own
    /// tree knows, which comes to the same.
    pub(super) fn close_session<'r>(&mut self) -> Txn<'r> {
        let paths = self.pending.ephemerals(self.tree, self.ctx.session);
        for path in &paths {
            let (parent_path, _) = split(path).expect("the path of a znode has a slash");
            let parent = self.pending.find(self.tree, parent_path);
            let place = self.pending.find(self.tree, path);
            self.write_deletion(path, parent, place);
        }
        self.pending.close_session(self.ctx.session, self.ctx.zxid);
        if !self.tree.config().list_closed {
            return Txn::CloseSession(None);
        }
        let len: usize = paths.iter().map(|path| 4 + path.len()).sum();
        let fits = 4 + len <= self.body_max;
        Txn::CloseSession(Some(if fits { paths.into_iter().map(Cow::Owned).collect() } else { Vec::new() }))
    }
}
