//! The other end of the pipeline: a durable transaction is applied, watched for, answered.

use crate::conn::Waiting;
use crate::io::{Action, Actions, ConnId, Level, SnapshotImage, Time};
use crate::reads;
use crate::replica::{Origin, Outstanding, Replica};
use farrier_proto::client::{put_event, put_reply};
use farrier_proto::jute::put_str;
use farrier_proto::multi::{put_end, put_error_result, put_result};
use farrier_proto::txn::read_txn;
use farrier_proto::{ErrorCode, Field, OpCode, Txn, TxnDigest, Xid, Zxid, perms};
use farrier_tree::{Change, OpOutcome, Outcome};
use farrier_zab::WriteId;

impl Replica {
    /// Everything up to this write is in the log for good: commit in order.
    pub(crate) fn durable(&mut self, now: Time, id: WriteId, out: &mut Actions) {
        assert!(id <= self.last_write, "a completion quotes a write that was asked for");
        while let Some(front) = self.outstanding.front()
            && front.id <= id
        {
            let Some(next) = self.outstanding.pop_front() else { break };
            self.commit(now, next, out);
        }
        self.wake_throttled(out);
        self.snapshot_if_due(out);
        self.report_stopped(out);
    }

    fn commit(&mut self, now: Time, next: Outstanding, out: &mut Actions) {
        let (header, txn, digest) = read_txn(&next.txn).expect("a transaction of our own decodes");
        assert_eq!(header.zxid, next.zxid, "the log and the queue hold one history");
        assert!(next.zxid.follows(self.tree.zxid()), "{} is committed right after {}", next.zxid, self.tree.zxid());
        if let Origin::Request { conn, .. } = next.origin {
            self.run_before(now, conn, next.zxid, out);
        }
        let mut changes = Vec::new();
        let outcome = self.tree.apply(&header, &txn, &mut changes);
        self.prep.applied(next.zxid);
        self.outstanding_bytes -= next.txn.len();
        self.stats.commits += 1;
        self.snapshot.txns += 1;
        self.snapshot.bytes += next.txn.len() as u64;
        self.check_digest(next.zxid, digest, out);
        if !self.watches.is_empty() {
            for change in &changes {
                self.notify(next.zxid, change, out);
            }
        }
        match &txn {
            Txn::CreateSession(timeout) => self.tracker.add(header.session, *timeout, now),
            Txn::CloseSession(_) => {
                self.tracker.remove(header.session);
                // The connection of a session that did not close itself goes without a word.
                if !matches!(next.origin, Origin::Request { .. })
                    && let Some(conn) = self.attached.get(&header.session).copied()
                {
                    self.close(conn, out);
                }
            }
            _ => {}
        }
        match next.origin {
            Origin::Server => {}
            Origin::Connect(conn) => self.establish(now, conn, out),
            Origin::Request { conn, xid, op, arrived, large } => {
                self.large_in_flight -= large;
                self.finish(now, conn, reads::name(op), arrived, next.zxid.to_wire());
                self.reply(now, conn, xid, op, next.zxid, &txn, &outcome, out);
            }
        }
    }

    fn check_digest(&mut self, zxid: Zxid, digest: Option<TxnDigest>, out: &mut Actions) {
        let Some(digest) = digest else { return };
        if digest.version != TxnDigest::VERSION || digest.tree == self.tree.digest().cast_signed() {
            return;
        }
        self.stats.digest_mismatches += 1;
        if self.stats.digest_mismatches == 1 {
            out.note(
                Level::Error,
                format!(
                    "digest mismatch at {zxid}: predicted {:#x}, the tree has {:#x}; a follower would report it too. Please report this as a bug with the log segment that holds {zxid}",
                    digest.tree,
                    self.tree.digest()
                ),
            );
        }
        debug_assert!(false, "predicted digest {:#x}, tree {:#x} at {zxid}", digest.tree, self.tree.digest());
    }

    /// Sends the events of one change. A connection that may not read the node hears nothing, and its
    /// one-shot watch is used up all the same.
    fn notify(&mut self, zxid: Zxid, change: &Change<'_>, out: &mut Actions) {
        let path = &*change.path;
        let mut heard: Vec<ConnId> = Vec::new();
        self.watches.trigger(change.kind, path, &mut |conn| heard.push(conn));
        for conn in heard {
            let Some(c) = self.conns.get(&conn) else { continue };
            if self.config.auth.permits(&change.acl, perms::READ, &c.identities) {
                let start = out.bytes.len();
                put_event(&mut out.bytes, zxid.to_wire(), change.kind, path);
                self.emit(conn, start, out);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a reply is made of these")]
    fn reply(
        &mut self,
        now: Time,
        id: ConnId,
        xid: Xid,
        op: OpCode,
        zxid: Zxid,
        txn: &Txn<'_>,
        outcome: &Outcome,
        out: &mut Actions,
    ) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let front = conn.waiting.pop_front();
        assert!(matches!(front, Some(Waiting::Write(z)) if z == zxid), "replies leave in the order of requests");
        let start = out.bytes.len();
        put_write_reply(&mut out.bytes, xid, op, zxid, txn, outcome);
        if out.bytes.len() - start - 4 > self.config.jute_max_buffer {
            // The write took place, but clients would take the frame for garbage.
            out.bytes.truncate(start);
            put_reply(&mut out.bytes, xid, zxid.to_wire(), Err(ErrorCode::MarshallingError), |_| {});
        }
        self.emit(id, start, out);
        if op == OpCode::CloseSession {
            return self.close(id, out);
        }
        self.run_waiting(now, id, out);
        self.balance(id, out);
    }

    fn wake_throttled(&mut self, out: &mut Actions) {
        if self.throttled.is_empty() || self.outstanding.len() >= self.config.request_throttle_max {
            return;
        }
        for id in std::mem::take(&mut self.throttled) {
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.throttled = false;
            }
            self.balance(id, out);
        }
    }

    /// The log up to the tree's zxid is durable here, so an image of the tree is never ahead of it.
    fn snapshot_if_due(&mut self, out: &mut Actions) {
        let s = &self.snapshot;
        if s.running || (s.txns < s.at_txns && s.bytes < s.at_bytes) {
            return;
        }
        self.redraw_snapshot();
        self.snapshot.running = true;
        out.push(Action::RollLog);
        out.push(Action::TakeSnapshot { image: Box::new(SnapshotImage(self.tree.image())) });
    }
}

fn put_write_reply(out: &mut Vec<u8>, xid: Xid, op: OpCode, zxid: Zxid, txn: &Txn<'_>, outcome: &Outcome) {
    let zxid = zxid.to_wire();
    match outcome {
        Outcome::Failed(code) => {
            let code = ErrorCode::from_code(*code).unwrap_or(ErrorCode::SystemError);
            put_reply(out, xid, zxid, Err(code), |_| {});
        }
        Outcome::Done => put_reply(out, xid, zxid, Ok(()), |_| {}),
        Outcome::Stat(stat) => put_reply(out, xid, zxid, Ok(()), |out| stat.write(out)),
        Outcome::Created { path, stat } => put_reply(out, xid, zxid, Ok(()), |out| {
            put_str(out, path);
            if op != OpCode::Create {
                stat.write(out);
            }
        }),
        Outcome::Multi(results) => {
            let Txn::Multi(txns) = txn else { unreachable!("only a multi has several outcomes") };
            put_reply(out, xid, zxid, Ok(()), |out| put_multi_results(out, txns, results));
        }
    }
}

fn put_multi_results(out: &mut Vec<u8>, txns: &[Txn<'_>], results: &[OpOutcome]) {
    assert_eq!(txns.len(), results.len(), "one outcome per operation");
    for (txn, result) in txns.iter().zip(results) {
        match result {
            OpOutcome::Failed(code) => put_error_result(out, *code),
            OpOutcome::Done => {
                put_result(out, if matches!(txn, Txn::Check(_)) { OpCode::Check } else { OpCode::Delete })
            }
            OpOutcome::Stat(stat) => {
                put_result(out, OpCode::SetData);
                stat.write(out);
            }
            OpOutcome::Created { path, stat } => {
                let plain = matches!(txn, Txn::Create(_));
                put_result(out, if plain { OpCode::Create } else { OpCode::Create2 });
                put_str(out, path);
                if !plain {
                    stat.write(out);
                }
            }
        }
    }
    put_end(out);
}
