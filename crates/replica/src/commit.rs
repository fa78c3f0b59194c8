//! The other end of the pipeline: a durable transaction is applied, watched for, answered.

use crate::conn::{Asked, Waiting};
use crate::io::{Action, Actions, ConnId, Level, SnapshotImage, Time};
use crate::members::Membership;
use crate::reads;
use crate::replica::{Origin, Outstanding, Replica};
use bytes::Bytes;
use farrier_proto::client::{put_event, put_reply};
use farrier_proto::jute::{put_buffer, put_str};
use farrier_proto::multi::{put_end, put_error_result, put_result};
use farrier_proto::txn::read_txn;
use farrier_proto::{ErrorCode, Field, OpCode, Txn, Zxid, perms};
use farrier_tree::auth::verdicts::Verdicts;
use farrier_tree::{Change, Outcome};
use farrier_zab::WriteId;
use std::collections::BTreeMap;

/// Commits whose memory is fetched together.
const COMMITS_FORESEEN: usize = 64;

impl Replica {
    /// Everything up to this write is in the log for good: commit in order.
    pub(crate) fn durable(&mut self, now: Time, id: WriteId, out: &mut Actions) {
        let Membership::Alone(alone) = &self.membership else {
            self.log_settled(now, id, out);
            return self.peer_step(now, farrier_zab::Input::Durable { id });
        };
        // Counted once: a commit may run writes that waited behind reads, and what they propose is not durable.
        let behind = alone.writes_behind(id);
        let durable =
            self.outstanding.len().checked_sub(behind).expect("what was written and is not durable is outstanding");
        let mut left = durable;
        while left > 0 {
            let together = left.min(COMMITS_FORESEEN);
            self.prep.foresee(&self.tree, self.outstanding[together - 1].zxid);
            for _ in 0..together {
                let next = self.take_outstanding();
                self.commit(now, next.zxid, &next.txn, next.origin, out);
            }
            left -= together;
        }
        self.run_awaited(now, out);
        self.wake_throttled(now, out);
        self.after_commits(out);
    }

    /// The oldest proposal, which is committed now.
    pub(crate) fn take_outstanding(&mut self) -> Outstanding {
        let next = self.outstanding.pop_front().expect("only what was proposed is committed");
        self.outstanding_bytes -= next.txn.len();
        if matches!(next.origin, Origin::Request { .. }) {
            self.asked_bytes -= next.txn.len();
        }
        next
    }

    /// What one or more commits made possible.
    pub(crate) fn after_commits(&mut self, out: &mut Actions) {
        self.snapshot_if_due(out);
        self.report_stopped(out);
    }

    /// The one way by which a transaction gets into the tree of a running server.
    pub(crate) fn commit(&mut self, now: Time, zxid: Zxid, bytes: &Bytes, origin: Origin, out: &mut Actions) {
        let (header, txn, digest) = read_txn(bytes).expect("what is logged was decoded before");
        assert_eq!(header.zxid, zxid, "the log and the queue hold one history");
        assert!(zxid.follows(self.tree.zxid()), "{zxid} is committed right after {}", self.tree.zxid());
        let txn = match txn {
            Txn::CloseSession(_) if farrier_proto::planted!(EphemeralSurvivesDiff) && !self.is_serving() => {
                Txn::Error(0)
            }
            txn => txn,
        };
        let ours = !matches!(origin, Origin::Elsewhere);
        let origin = if ours { origin } else { self.origin_here(&header, &txn) };
        if let Origin::Request { conn, .. } = origin {
            self.run_before(now, conn, zxid, out);
        }
        let mut changes = Vec::new();
        let told = if self.watches.is_empty() { None } else { Some(&mut changes) };
        let outcome = self.tree.apply_prepared(&header, &txn, told, &self.prep);
        self.prep.applied(zxid);
        self.stats.commits += 1;
        self.snapshot.txns += 1;
        self.snapshot.bytes += bytes.len() as u64;
        self.check_digest(now, &header, &txn, digest, ours, out);
        let late = farrier_proto::planted!(WatchAfterReply);
        if !late {
            self.notify_all(zxid, &changes, out);
        }
        match &txn {
            Txn::CreateSession(timeout) => self.session_opened(now, header.session, *timeout),
            Txn::CloseSession(_) => {
                self.session_closed(header.session);
                // The connection of a session that did not close itself goes without a word.
                if !matches!(origin, Origin::Request { .. })
                    && let Some(conn) = self.attached.get(&header.session).copied()
                {
                    self.close(conn, out);
                }
            }
            _ => {}
        }
        match origin {
            Origin::Server | Origin::Learner(_) | Origin::Elsewhere => {}
            Origin::Connect(conn) if matches!(outcome, Outcome::Failed(_)) => self.close(conn, out),
            Origin::Connect(conn) => self.establish(now, conn, out),
            Origin::Request { conn, asked } => {
                if !ours && !self.conns.contains(conn) {
                    // What came before the reply closed the connection, which left this write behind as if it were still to come.
                    self.answers_left_behind(&header, &txn);
                }
                self.large_in_flight -= asked.large;
                self.finish(now, conn, reads::name(asked.op), asked.arrived, zxid.to_wire());
                self.reply(now, conn, &asked, zxid, &txn, &outcome, out);
            }
        }
        if late {
            self.notify_all(zxid, &changes, out);
        }
    }

    fn notify_all(&mut self, zxid: Zxid, changes: &[Change<'_>], out: &mut Actions) {
        // What a connection may hear under lists that take long to look through; its identities stay as they are meanwhile.
        let mut verdicts = BTreeMap::new();
        for change in changes {
            self.notify(zxid, change, &mut verdicts, out);
        }
    }

    /// Sends the events of one change. A connection that may not read the node hears nothing, and its
    /// one-shot watch is used up all the same.
    fn notify(
        &mut self,
        zxid: Zxid,
        change: &Change<'_>,
        verdicts: &mut BTreeMap<ConnId, Verdicts>,
        out: &mut Actions,
    ) {
        let path = &*change.path;
        let mut heard: Vec<ConnId> = Vec::new();
        self.watches.trigger(change.kind, path, &mut |conn| heard.push(conn));
        for conn in heard {
            let Some(c) = self.conns.get(conn) else { continue };
            let auth = &self.config.auth;
            let permitted = if Verdicts::are_kept_for(&change.acl) {
                verdicts.entry(conn).or_default().permits(auth, &change.acl, perms::READ, &c.identities)
            } else {
                auth.permits(&change.acl, perms::READ, &c.identities)
            };
            if permitted {
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
        asked: &Asked,
        zxid: Zxid,
        txn: &Txn<'_>,
        outcome: &Outcome,
        out: &mut Actions,
    ) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let peer = conn.peer;
        match conn.waiting.pop_front() {
            Some(Waiting::Write(front)) => assert_eq!(front, zxid, "replies leave in the order of requests"),
            Some(Waiting::Forwarded { asked, bytes }) => {
                self.forwarded -= 1;
                self.outstanding_bytes -= bytes;
                self.asked_bytes -= bytes;
                self.large_in_flight -= asked.large;
            }
            other => unreachable!("a write that is answered is in front, not {other:?}"),
        }
        if is_moved(outcome) {
            // Another server has the session; whoever holds this connection is not to hear of it.
            return self.close(id, out);
        }
        let start = out.bytes.len();
        put_write_reply(&mut out.bytes, asked, zxid, txn, outcome);
        let (len, longest) = (out.bytes.len() - start - 4, self.reply_max());
        if len > longest {
            // The write took place, which an error would deny.
            out.bytes.truncate(start);
            out.note(
                Level::Warn,
                format!("closing {peer}: the reply to its write {zxid} has {len} bytes, more than {longest}"),
            );
            return self.close(id, out);
        }
        self.emit(id, start, out);
        if asked.op == OpCode::CloseSession {
            return self.close(id, out);
        }
        self.run_waiting(now, id, out);
        self.balance(id, out);
    }

    /// The log up to the tree's zxid is durable by the time at which the shell writes the image. Nothing is taken
    /// before there is a leader: what the log ends with then may not be committed. Nor of a state that may be wrong.
    fn snapshot_if_due(&mut self, out: &mut Actions) {
        let s = &self.snapshot;
        if !(self.is_serving() || farrier_proto::planted!(SnapshotOfUncommitted))
            || self.digests.are_in_doubt()
            || s.running
            || (s.txns < s.at_txns && s.bytes < s.at_bytes)
        {
            return;
        }
        self.redraw_snapshot();
        self.snapshot.running = true;
        self.tree.begin_image();
        self.gather_snapshot(out);
    }

    /// Goes on with the image of the snapshot that is running, which is written once it is whole.
    pub(crate) fn gather_snapshot(&mut self, out: &mut Actions) {
        self.snapshot.gather_at = None;
        let Some(image) = self.tree.gather_image(self.config.image_slice) else {
            self.snapshot.gather_at = Some(self.newest + 1);
            return;
        };
        // They may have become so meanwhile.
        if self.digests.are_in_doubt() {
            self.snapshot.running = false;
            return;
        }
        out.push(Action::TakeSnapshot { image: Box::new(SnapshotImage(image)) });
        // How full the segment is shows once everything before is in it.
        out.push(Action::RollLog);
    }

    /// The tree is about to be replaced by another one, and no image of it that is not whole becomes a snapshot.
    pub(crate) fn forget_image(&mut self) {
        if self.snapshot.gather_at.take().is_some() {
            self.snapshot.running = false;
        }
    }

    /// The tree as it is now.
    pub(crate) fn image(&self) -> Box<SnapshotImage> {
        Box::new(SnapshotImage(self.tree.image()))
    }
}

/// Whether a write, or an operation of a multi, failed because its session is another server's now.
fn is_moved(outcome: &Outcome) -> bool {
    const MOVED: i32 = ErrorCode::SessionMoved.code();
    match outcome {
        Outcome::Failed(code) => *code == MOVED,
        Outcome::Multi(results) => results.contains(&Outcome::Failed(MOVED)),
        Outcome::Done | Outcome::Created { .. } | Outcome::Stat(_) => false,
    }
}

fn put_write_reply(out: &mut Vec<u8>, asked: &Asked, zxid: Zxid, txn: &Txn<'_>, outcome: &Outcome) {
    let (xid, zxid) = (asked.xid, zxid.to_wire());
    match outcome {
        Outcome::Failed(code) => {
            let code = ErrorCode::from_code(*code).unwrap_or(ErrorCode::SystemError);
            put_reply(out, xid, zxid, Err(code), |_| {});
        }
        Outcome::Done => put_reply(out, xid, zxid, Ok(()), |_| {}),
        Outcome::Stat(stat) => put_reply(out, xid, zxid, Ok(()), |out| {
            if let Txn::Reconfig(t) = txn {
                put_buffer(out, t.data.as_deref());
            }
            stat.write(out);
        }),
        Outcome::Created { path, stat } => put_reply(out, xid, zxid, Ok(()), |out| {
            put_str(out, path);
            if asked.op != OpCode::Create {
                stat.write(out);
            }
        }),
        Outcome::Multi(results) => {
            let Txn::Multi(txns) = txn else { unreachable!("only a multi has several outcomes") };
            put_reply(out, xid, zxid, Ok(()), |out| put_multi_results(out, txns, results, &asked.create2));
        }
    }
}

fn put_multi_results(out: &mut Vec<u8>, txns: &[Txn<'_>], results: &[Outcome], create2: &[bool]) {
    assert_eq!(txns.len(), results.len(), "one outcome per operation");
    for (i, (txn, result)) in txns.iter().zip(results).enumerate() {
        match result {
            Outcome::Failed(code) => put_error_result(out, *code),
            Outcome::Done => put_result(out, if matches!(txn, Txn::Check(_)) { OpCode::Check } else { OpCode::Delete }),
            Outcome::Stat(stat) => {
                put_result(out, OpCode::SetData);
                stat.write(out);
            }
            Outcome::Created { path, stat } => {
                let plain = matches!(txn, Txn::Create(_)) && !create2.get(i).is_some_and(|is| *is);
                put_result(out, if plain { OpCode::Create } else { OpCode::Create2 });
                put_str(out, path);
                if !plain {
                    stat.write(out);
                }
            }
            Outcome::Multi(_) => unreachable!("multis do not nest"),
        }
    }
    put_end(out);
}
