//! What stands before a connection's requests though it is not the connection's own: unfinished writes of its session from an
//! earlier connection to this server, and for a sync of a standalone server everybody's.
//!
//! A client that lost its connection asks on the next one whether its write took place, and whoever answers before that is
//! decided makes it write again. Apache keeps the order by session (`CommitProcessor.pendingRequests`), and on a standalone server
//! by its one pipeline.

use crate::conn::{Conn, Waiting};
use crate::ephemerals::Ephemerals;
use crate::forward::can_answer;
use crate::io::{Actions, ConnId, Time};
use crate::limits::{LEFT_BEHIND_MAX, LEFT_BEHIND_SESSION_MAX};
use crate::replica::Replica;
use farrier_proto::{OpCode, SessionId, Txn, TxnHeader, Xid, Zxid};
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Writes that connections which are gone sent to the leader, by session and in their order. The transaction of each comes:
/// the leader answers all that it is sent, if only with an error, or its term ends.
#[derive(Debug, Default)]
pub(crate) struct LeftBehind {
    of: HashMap<SessionId, VecDeque<(Xid, OpCode, Ephemerals)>, foldhash::fast::FixedState>,
    len: usize,
}

impl LeftBehind {
    /// A connection of the session is gone, and so are the requests that it sent to the leader.
    fn leave(&mut self, session: SessionId, waiting: &VecDeque<Waiting>) {
        let sent = waiting.iter().filter_map(|item| match item {
            Waiting::Forwarded { asked, .. } => Some((asked.xid, asked.op, asked.ephemerals)),
            Waiting::Write(_)
            | Waiting::Earlier(_)
            | Waiting::Sync { .. }
            | Waiting::Frame { .. }
            | Waiting::Answer { .. } => None,
        });
        let before = self.of.get(&session).map_or(0, VecDeque::len);
        let room = (LEFT_BEHIND_MAX - self.len).min(LEFT_BEHIND_SESSION_MAX.saturating_sub(before));
        let mut sent = sent.take(room).peekable();
        if sent.peek().is_some() {
            let left = self.of.entry(session).or_default();
            left.extend(sent);
            self.len += left.len() - before;
        }
    }

    /// Whether the transaction may answer one of its session's requests: then it is nobody else's. True with that if it was the
    /// last of them.
    fn answered(&mut self, header: &TxnHeader, txn: &Txn<'_>) -> Option<bool> {
        if self.len == 0 {
            return None;
        }
        let left = self.of.get_mut(&header.session)?;
        if left.front().is_some_and(|(xid, op, _)| xid.0 == header.cxid && can_answer(*op, txn)) {
            left.pop_front();
            self.len -= 1;
        }
        let last = left.is_empty();
        if last {
            self.of.remove(&header.session);
        }
        Some(last)
    }

    /// What is created by those of the session.
    pub(crate) fn ephemerals(&self, session: SessionId) -> Ephemerals {
        self.of.get(&session).into_iter().flatten().map(|(_, _, created)| *created).sum()
    }

    /// The session is over.
    pub(crate) fn end(&mut self, session: SessionId) {
        if let Some(left) = self.of.remove(&session) {
            self.len -= left.len();
        }
    }
}

impl Replica {
    /// A connection is gone: keeps what its session's next one has to wait for.
    pub(crate) fn leave_behind(&mut self, conn: &Conn) {
        if let Some(learning) = self.membership.learning() {
            learning.left.leave(conn.session, &conn.waiting);
        }
    }

    /// The connection is its session's from now on, and asks for what comes behind all that the session has on its way.
    pub(crate) fn wait_for_session(&mut self, id: ConnId, session: SessionId) {
        if farrier_proto::planted!(SessionOrderLost) {
            return;
        }
        let until = match self.membership.learning() {
            Some(learning) => {
                if !learning.left.of.contains_key(&session) {
                    return;
                }
                None
            }
            None => match self.outstanding.iter().rev().find(|o| o.session == session) {
                Some(last) => Some(last.zxid),
                None => return,
            },
        };
        self.wait_until(id, until);
    }

    /// What the connection asks for next comes behind all writes that this server, which stands alone, has received.
    pub(crate) fn wait_for_all(&mut self, id: ConnId) {
        let Some(last) = self.outstanding.back().map(|o| o.zxid) else { return };
        let own = self.conns.get(id).and_then(|conn| conn.waiting.back());
        if !matches!(own, Some(Waiting::Write(zxid)) if *zxid == last) {
            self.wait_until(id, Some(last));
        }
    }

    fn wait_until(&mut self, id: ConnId, until: Option<Zxid>) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.waiting.push_back(Waiting::Earlier(until));
        if let Some(zxid) = until {
            self.awaited.insert((zxid, id));
        }
    }

    /// Whether a transaction from elsewhere answers what a connection left that is gone, or could be taken for the answer to what
    /// came behind that. Behind the last of them the session's new connection goes on.
    pub(crate) fn answers_left_behind(&mut self, header: &TxnHeader, txn: &Txn<'_>) -> bool {
        let Some(learning) = self.membership.learning() else { return false };
        let Some(last) = learning.left.answered(header, txn) else { return false };
        if last
            && let Some(id) = self.attached.get(&header.session).copied()
            && let Some(Waiting::Earlier(until)) = self.conns.get_mut(id).and_then(|conn| conn.waiting.front_mut())
        {
            *until = Some(header.zxid);
            self.awaited.insert((header.zxid, id));
        }
        true
    }

    /// Goes on with what waited for transactions that are applied now.
    pub(crate) fn run_awaited(&mut self, now: Time, out: &mut Actions) {
        while let Some((zxid, id)) = self.awaited.first().copied()
            && zxid <= self.tree.zxid()
        {
            self.awaited.pop_first();
            self.run_waiting(now, id, out);
            self.balance(id, out);
        }
    }
}
