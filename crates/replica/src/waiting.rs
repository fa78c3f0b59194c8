//! The queue of a connection: what takes its turn behind unfinished writes, and the bounds of that.

use crate::conn::Waiting;
use crate::io::{Actions, ConnId, Level, Time};
use crate::limits::{BYTES_PER_WORK, REQUEST_WORK, WORK_MAX};
use crate::replica::Replica;
use farrier_proto::client::{RequestHeader, put_reply};
use farrier_proto::{ErrorCode, Field, OpCode, Reader, Zxid};
use farrier_tree::Identity;
use std::sync::Arc;

impl Replica {
    /// Puts a request at the end of the queue.
    pub(crate) fn enqueue(
        &mut self,
        now: Time,
        id: ConnId,
        frame: &[u8],
        identities: Arc<[Identity]>,
        out: &mut Actions,
    ) {
        if self.count_large(id, frame.len(), out).is_none() {
            return;
        }
        let conn = self.conns.get_mut(id).expect("who asks is connected, and was not closed for the size");
        conn.waiting_bytes += frame.len();
        conn.reads_waiting += 1;
        conn.waiting.push_back(Waiting::Frame { frame: frame.into(), identities, arrived: now.mono });
        self.balance(id, out);
    }

    /// Runs what waits for nothing any more, as long as the connection takes its replies. What would take too long for the
    /// others, with what this step has run for whomever, follows with the next timer, which is due at once. A write that may
    /// not add to what is on its way stays, with what is behind it; [`Self::balance`], which comes next, has it woken for that.
    pub(crate) fn run_waiting(&mut self, now: Time, id: ConnId, out: &mut Actions) {
        while let Some(conn) = self.conns.get_mut(id)
            && !conn.is_stalled()
            && conn.waiting.front().is_some_and(|front| !front.blocks(self.tree.zxid()))
        {
            if self.work >= WORK_MAX {
                if !conn.unfinished {
                    conn.unfinished = true;
                    self.unfinished.push_back(id);
                }
                return;
            }
            if self.is_congested() && self.is_write_next(id) {
                return;
            }
            self.run_front(now, id, out);
        }
    }

    /// Goes on with the connections for which a step had no time left, until this one has none either. Whoever is not done
    /// then comes behind the others.
    pub(crate) fn run_unfinished(&mut self, now: Time, out: &mut Actions) {
        for _ in 0..self.unfinished.len() {
            if self.work >= WORK_MAX {
                return;
            }
            let Some(id) = self.unfinished.pop_front() else { return };
            if let Some(conn) = self.conns.get_mut(id) {
                conn.unfinished = false;
            }
            self.run_waiting(now, id, out);
            self.balance(id, out);
        }
    }

    /// Runs everything in front of the first write, which is `zxid` and is about to be applied: no later state may show
    /// in the replies of earlier requests. There is no choice any more whether the connection takes them, so
    /// a write is only proposed while few requests wait ([`Replica::write`]).
    pub(crate) fn run_before(&mut self, now: Time, id: ConnId, zxid: Zxid, out: &mut Actions) {
        while let Some(conn) = self.conns.get_mut(id) {
            match conn.waiting.front() {
                Some(Waiting::Write(front)) => {
                    assert_eq!(*front, zxid, "writes of a connection commit in the order of its requests");
                    return;
                }
                Some(Waiting::Forwarded { .. }) => return,
                // What was before its own write was proposed before it. A sync that is not confirmed yet is with this: a later request of the same connection was
                // committed, by a quorum and behind everything that the sync was to wait for.
                Some(Waiting::Earlier(_) | Waiting::Frame { .. } | Waiting::Answer { .. } | Waiting::Sync { .. }) => {
                    self.run_front(now, id, out);
                }
                None => unreachable!("a proposed write waits in its connection's queue"),
            }
        }
    }

    fn run_front(&mut self, now: Time, id: ConnId, out: &mut Actions) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let timeout = u64::from(conn.timeout.unsigned_abs());
        match conn.waiting.pop_front() {
            None | Some(Waiting::Earlier(_)) => {}
            Some(write @ (Waiting::Write(_) | Waiting::Forwarded { .. })) => conn.waiting.push_front(write),
            Some(Waiting::Sync { frame, identities, arrived, .. }) => {
                conn.waiting_bytes -= frame.len();
                conn.reads_waiting -= 1;
                self.release_large(frame.len());
                self.run_read(now, id, &frame, &identities, arrived, out);
            }
            Some(Waiting::Answer { frame, close }) => {
                conn.waiting_bytes -= frame.len();
                let start = out.bytes.len();
                out.bytes.extend_from_slice(&frame);
                quote_newest(&mut out.bytes[start..], self.tree.zxid());
                self.emit(id, start, out);
                if close {
                    self.close(id, out);
                }
            }
            Some(Waiting::Frame { frame, identities, arrived }) => {
                conn.waiting_bytes -= frame.len();
                conn.reads_waiting -= 1;
                self.work = self.work.saturating_add(REQUEST_WORK + frame.len() / BYTES_PER_WORK);
                self.release_large(frame.len());
                let waited = now.mono.saturating_sub(arrived);
                if self.config.drop_stale_requests && waited > timeout {
                    self.stats.dropped_connections += 1;
                    return self.close(id, out);
                }
                if self.refuse_late(id, &frame, waited, out) {
                    return;
                }
                if self.is_submitted(&frame) {
                    self.run_deferred_write(now, id, &frame, &identities, arrived, out);
                } else {
                    self.run_read(now, id, &frame, &identities, arrived, out);
                }
            }
        }
    }

    fn run_deferred_write(
        &mut self,
        now: Time,
        id: ConnId,
        frame: &[u8],
        identities: &Arc<[Identity]>,
        arrived: u64,
        out: &mut Actions,
    ) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.writes_deferred -= 1;
        let session = conn.session;
        let ends = matches!(RequestHeader::read(&mut Reader::new(frame)), Ok(h) if h.op == OpCode::CloseSession.code());
        if !self.is_live(session) || !(ends || self.membership.owns_here(session)) {
            // It ended or moved meanwhile. No write is done in it from here any more, or it would come behind later ones,
            // and nothing behind this one may be answered in its place.
            return self.close(id, out);
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        // Whatever is behind it must not be answered before it.
        let behind = std::mem::take(&mut conn.waiting);
        let submitted = self.submit(now, id, frame, identities, arrived, out);
        let Some(conn) = self.conns.get_mut(id) else {
            // It was closed, and this was not in its queue then.
            self.drop_waiting(&behind);
            return;
        };
        let answered = std::mem::replace(&mut conn.waiting, behind);
        for item in answered.into_iter().rev() {
            conn.waiting.push_front(item);
        }
        if let Some(item) = submitted {
            conn.waiting.push_front(item);
        }
    }

    /// Answers a request that waited too long, unless it is a ping or ends the session.
    fn refuse_late(&mut self, id: ConnId, frame: &[u8], waited: u64, out: &mut Actions) -> bool {
        let longest = self.config.throttled_op_wait;
        if longest == 0 || waited <= longest {
            return false;
        }
        let Ok(header) = RequestHeader::read(&mut Reader::new(frame)) else { return false };
        if header.op == OpCode::Ping.code() || header.op == OpCode::CloseSession.code() {
            return false;
        }
        if self.is_submitted(frame)
            && let Some(conn) = self.conns.get_mut(id)
        {
            conn.writes_deferred -= 1;
        }
        self.stats.throttled_ops += 1;
        let start = out.bytes.len();
        put_reply(&mut out.bytes, header.xid, self.tree.zxid().to_wire(), Err(ErrorCode::ThrottledOp), |_| {});
        self.emit(id, start, out);
        true
    }

    /// What a waiting item counts against the budget of large requests.
    pub(crate) fn large_size(&self, waiting: &Waiting) -> usize {
        match waiting {
            Waiting::Frame { frame, .. } if self.is_large(frame.len()) => frame.len(),
            Waiting::Sync { frame, .. } if self.is_large(frame.len()) => frame.len(),
            Waiting::Forwarded { asked, .. } => asked.large,
            // A proposal's bytes are released by its commit.
            Waiting::Frame { .. }
            | Waiting::Sync { .. }
            | Waiting::Write(_)
            | Waiting::Earlier(_)
            | Waiting::Answer { .. } => 0,
        }
    }

    fn is_large(&self, len: usize) -> bool {
        self.config.large_request_threshold.is_some_and(|t| len > t)
    }

    pub(crate) fn release_large(&mut self, len: usize) {
        if self.is_large(len) {
            self.large_in_flight -= len;
        }
    }

    /// Counts a request against the budget of large ones: its size if it is large, otherwise 0. `None` if
    /// that exceeded the budget and closed the connection.
    pub(crate) fn count_large(&mut self, id: ConnId, len: usize, out: &mut Actions) -> Option<usize> {
        if !self.is_large(len) {
            return Some(0);
        }
        if self.large_in_flight + len > self.config.large_request_max_bytes {
            self.stats.rejected_large += 1;
            let budget = self.config.large_request_max_bytes;
            out.note(
                Level::Warn,
                format!("closing a connection: large requests in flight exceed largeRequestMaxBytes ({budget})"),
            );
            self.close(id, out);
            return None;
        }
        self.large_in_flight += len;
        Some(len)
    }

    fn is_write_next(&self, id: ConnId) -> bool {
        let front = self.conns.get(id).and_then(|conn| conn.waiting.front());
        matches!(front, Some(Waiting::Frame { frame, .. }) if self.is_submitted(frame))
    }

    /// Whether a queued request is one for [`Self::submit`] that was not submitted when it arrived.
    fn is_submitted(&self, frame: &[u8]) -> bool {
        let header = RequestHeader::read(&mut Reader::new(frame));
        let op = header.ok().and_then(|h| OpCode::from_code(h.op));
        op.is_some_and(|op| op.is_write() || (op == OpCode::Sync && self.membership.is_ensemble()))
    }
}

/// An answer that quotes a zxid of the tree quotes that of the moment when it leaves: the replies that it
/// waited for have shown newer ones, and a client's zxid must not go back.
fn quote_newest(frame: &mut [u8], newest: Zxid) {
    // Length, xid, zxid. 0 and -1 say that no state was looked at.
    if let Some(zxid) = frame.get_mut(8..16).and_then(|f| f.first_chunk_mut::<8>())
        && i64::from_be_bytes(*zxid) > 0
    {
        *zxid = newest.to_wire().to_be_bytes();
    }
}
