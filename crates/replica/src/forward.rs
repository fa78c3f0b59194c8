//! What a learner does for its clients: it sends writes, syncs and sessions to the leader, recognises the answers,
//! and tells who is alive.

use crate::conn::{Asked, Phase, Waiting};
use crate::earlier::LeftBehind;
use crate::io::{Actions, ConnId, Level, Time};
use crate::limits::{ASKED_MAX, PING_TOUCHED_MAX};
use crate::members::Term;
use crate::replica::{Origin, Replica};
use farrier_proto::client::{PathOnly, RequestHeader};
use farrier_proto::quorum::{ForwardedRequest, Identities, LeaderPacket, LearnerPacket};
use farrier_proto::{ErrorCode, Field, OpCode, Reader, SessionId, Txn, TxnHeader, Zxid};
use farrier_tree::Identity;
use farrier_zab::SyncTicket;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A term under another leader.
#[derive(Debug)]
pub(crate) struct Learning {
    pub(crate) epoch: u32,
    /// Sessions that were heard of since the last ping, with their timeouts.
    touched: BTreeMap<SessionId, i32>,
    /// The first of them whose turn it is, when they are more than one answer takes.
    turn: SessionId,
    /// Connections whose session the leader was asked for, in the order of the questions.
    revalidations: VecDeque<(SessionId, ConnId)>,
    pub(crate) left: LeftBehind,
}

impl Learning {
    pub(crate) fn new(epoch: u32) -> Self {
        Self {
            epoch,
            touched: BTreeMap::new(),
            turn: SessionId(i64::MIN),
            revalidations: VecDeque::new(),
            left: LeftBehind::default(),
        }
    }

    /// Notes a session that lives, as far as this server knows.
    pub(crate) fn hear(&mut self, session: SessionId, timeout: i32) {
        self.touched.insert(session, timeout);
    }

    /// What one answer tells of those that were heard of; the rest has its turn with the next one.
    fn tell_touched(&mut self) -> Vec<(SessionId, i32)> {
        if self.touched.len() <= PING_TOUCHED_MAX {
            return std::mem::take(&mut self.touched).into_iter().collect();
        }
        let in_turn = self.touched.range(self.turn..).chain(self.touched.range(..self.turn));
        let told: Vec<_> = in_turn.take(PING_TOUCHED_MAX).map(|(session, timeout)| (*session, *timeout)).collect();
        for (session, _) in &told {
            self.touched.remove(session);
        }
        if let Some((session, _)) = told.last() {
            self.turn = SessionId(session.0.wrapping_add(1));
        }
        told
    }
}

impl Replica {
    /// Notes a sign of life of an attached session. False if the session is about to end.
    pub(crate) fn touch(&mut self, now: Time, session: SessionId, timeout: i32) -> bool {
        match self.membership.learning() {
            Some(learning) => {
                learning.touched.insert(session, timeout);
                true
            }
            None => self.tracker.touch(session, now),
        }
    }

    /// Whether an attached session may still have requests.
    pub(crate) fn is_live(&self, session: SessionId) -> bool {
        self.membership.is_learning() || self.tracker.contains(session)
    }

    /// A createSession was applied.
    pub(crate) fn session_opened(&mut self, now: Time, session: SessionId, timeout: i32) {
        if self.membership.proposes() {
            self.tracker.add(session, timeout, now);
        } else if self.attached.contains_key(&session)
            && let Some(learning) = self.membership.learning()
        {
            learning.touched.insert(session, timeout);
        }
    }

    /// A closeSession was applied.
    pub(crate) fn session_closed(&mut self, session: SessionId) {
        self.tracker.remove(session);
        if let Some(leading) = self.membership.leading() {
            leading.closed(session);
        }
        if let Some(learning) = self.membership.learning() {
            learning.touched.remove(&session);
            learning.left.end(session);
        }
    }

    fn send_leader(&mut self, packet: LearnerPacket) -> bool {
        self.membership.members().is_some_and(|m| m.peer.send_leader(packet, &mut m.outputs))
    }

    /// Sends a client's write to the leader. `None` if that was no longer possible; the connection is closed then.
    pub(crate) fn forward(
        &mut self,
        id: ConnId,
        asked: Asked,
        body: &[u8],
        identities: &[Identity],
        out: &mut Actions,
    ) -> Option<Waiting> {
        let session = self.conns.get(id)?.session;
        let request = ForwardedRequest {
            session,
            cxid: asked.xid.0,
            op: asked.op.code(),
            body: self.blocks.copied(body),
            identities: Identities::of(identities.iter().map(|i| (&*i.scheme, &*i.id)), &mut self.blocks),
        };
        if !self.send_leader(LearnerPacket::Request(request)) {
            self.large_in_flight -= asked.large;
            self.close(id, out);
            return None;
        }
        self.forwarded += 1;
        self.outstanding_bytes += body.len();
        self.asked_bytes += body.len();
        Some(Waiting::Forwarded { asked, bytes: body.len() })
    }

    /// Asks the leader for a new session.
    pub(crate) fn forward_session(&mut self, session: SessionId, timeout: i32) -> bool {
        let body = self.blocks.copied(&timeout.to_be_bytes());
        let op = OpCode::CreateSession.code();
        self.send_leader(LearnerPacket::Request(ForwardedRequest {
            session,
            cxid: 0,
            op,
            body,
            identities: Identities::NONE,
        }))
    }

    /// Asks the leader whether a session lives, and takes it over. Whether it is in the tree here says nothing:
    /// this server may lag.
    ///
    /// An older connection here ends at once: the question makes this server the owner of the session again, and what
    /// waited on that connection while the client was elsewhere would be let in.
    pub(crate) fn revalidate(&mut self, id: ConnId, session: SessionId, out: &mut Actions) {
        if let Some(old) = self.attached.get(&session).copied()
            && !farrier_proto::planted!(SessionMovedTwice)
        {
            self.close(old, out);
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.phase = Phase::Creating;
        let timeout = conn.timeout;
        let Some(learning) = self.membership.learning() else { return };
        if learning.revalidations.len() >= ASKED_MAX {
            return self.close(id, out);
        }
        learning.revalidations.push_back((session, id));
        if !self.send_leader(LearnerPacket::Revalidate { session, timeout }) {
            return self.close(id, out);
        }
        self.balance(id, out);
    }

    pub(crate) fn leader_says(&mut self, now: Time, packet: LeaderPacket, out: &mut Actions) {
        match packet {
            LeaderPacket::Revalidate { session, valid } => self.revalidated(now, session, valid, out),
            LeaderPacket::Sync => {
                let oldest = self.membership.members().and_then(|m| m.syncs.front().map(|(ticket, _)| *ticket));
                match oldest {
                    Some(ticket) => self.synced(now, ticket, out),
                    None => out.note(Level::Warn, "the leader answers a sync that nobody asked for".into()),
                }
            }
            LeaderPacket::LeaderInfo { .. }
            | LeaderPacket::Diff { .. }
            | LeaderPacket::Trunc { .. }
            | LeaderPacket::Snap { .. }
            | LeaderPacket::NewLeader { .. }
            | LeaderPacket::UpToDate
            | LeaderPacket::Proposal { .. }
            | LeaderPacket::Commit { .. }
            | LeaderPacket::Inform { .. }
            | LeaderPacket::CommitAndActivate { .. }
            | LeaderPacket::InformAndActivate { .. }
            | LeaderPacket::Ping { .. } => unreachable!("the peer deals with {packet:?} itself"),
        }
    }

    fn revalidated(&mut self, now: Time, session: SessionId, valid: bool, out: &mut Actions) {
        let Some(learning) = self.membership.learning() else { return };
        let at = learning.revalidations.iter().position(|(s, _)| *s == session);
        let Some((_, id)) = at.and_then(|at| learning.revalidations.remove(at)) else {
            return out.note(Level::Warn, format!("the leader answers for session {session}, which nobody asked for"));
        };
        if !self.conns.contains(id) {
            return;
        }
        if valid {
            self.attach(now, id, session, out);
        } else {
            self.refuse_session(id, out);
        }
    }

    /// Tells the leader who was heard of.
    pub(crate) fn answer_ping(&mut self, zxid: i64) {
        self.digests.pinged(Zxid::from_wire(zxid));
        self.tell_unread();
        let Some(members) = self.membership.members() else { return };
        let touched = match &mut members.term {
            Term::Learning(learning) => learning.tell_touched(),
            Term::Looking | Term::Leading(_) => Vec::new(),
        };
        let touched = if farrier_proto::planted!(TouchesNotPassedOn) { Vec::new() } else { touched };
        members.peer.answer_ping(zxid, touched, &mut members.outputs);
    }

    /// Asks for a sync: the leader, or as leader a quorum. What waits for its turn is returned.
    pub(crate) fn submit_sync(
        &mut self,
        now: Time,
        id: ConnId,
        frame: &[u8],
        identities: &Arc<[Identity]>,
        arrived: u64,
        out: &mut Actions,
    ) -> Option<Waiting> {
        let mut body = Reader::new(frame);
        let header = RequestHeader::read(&mut body).expect("the header was decoded when the frame arrived");
        let start = body.position();
        if PathOnly::read(&mut body).is_err() {
            let zxid = self.tree.zxid().to_wire();
            self.answer(now, id, header.xid, zxid, Err(ErrorCode::MarshallingError), false, out);
            return None;
        }
        let asked = if self.membership.members().is_some_and(|m| m.syncs.len() >= ASKED_MAX) {
            None
        } else if self.membership.is_learning() {
            self.ask_leader(id, header.xid.0, &frame[start..], identities)
        } else {
            self.ask_quorum(now, id)
        };
        let Some(ticket) = asked else {
            self.close(id, out);
            return None;
        };
        self.count_large(id, frame.len(), out)?;
        let conn = self.conns.get_mut(id)?;
        conn.waiting_bytes += frame.len();
        conn.reads_waiting += 1;
        Some(Waiting::Sync { ticket, frame: frame.into(), identities: identities.clone(), arrived, done: false })
    }

    fn ask_leader(&mut self, id: ConnId, cxid: i32, body: &[u8], identities: &[Identity]) -> Option<SyncTicket> {
        let session = self.conns.get(id)?.session;
        let request = ForwardedRequest {
            session,
            cxid,
            op: OpCode::Sync.code(),
            body: self.blocks.copied(body),
            identities: Identities::of(identities.iter().map(|i| (&*i.scheme, &*i.id)), &mut self.blocks),
        };
        if !self.send_leader(LearnerPacket::Request(request)) {
            return None;
        }
        let members = self.membership.members()?;
        let ticket = members.ticket();
        members.syncs.push_back((ticket, id));
        Some(ticket)
    }

    /// A sync is confirmed: it is answered in its turn, unless that was before.
    pub(crate) fn synced(&mut self, now: Time, ticket: SyncTicket, out: &mut Actions) {
        if self.undoubted(now, ticket, out) {
            return;
        }
        let Some(members) = self.membership.members() else { return };
        let Some(at) = members.syncs.iter().position(|(t, _)| *t == ticket) else { return };
        let Some((_, id)) = members.syncs.remove(at) else { return };
        let Some(conn) = self.conns.get_mut(id) else { return };
        for item in &mut conn.waiting {
            if let Waiting::Sync { ticket: asked, done, .. } = item
                && *asked == ticket
            {
                *done = true;
            }
        }
        self.run_waiting(now, id, out);
        self.balance(id, out);
    }

    /// The request here that a transaction from elsewhere answers: the oldest write that the connection of its
    /// session sent to the leader, if it has the transaction's number and the transaction can come of it.
    pub(crate) fn origin_here(&mut self, header: &TxnHeader, txn: &Txn<'_>) -> Origin {
        if self.answers_left_behind(header, txn) {
            return Origin::Elsewhere;
        }
        let attached = self.attached.get(&header.session).copied();
        let Some((id, conn)) = attached.and_then(|id| Some((id, self.conns.get(id)?))) else {
            return Origin::Elsewhere;
        };
        if conn.phase == Phase::Creating {
            let answers = header.cxid == 0 && matches!(txn, Txn::CreateSession(_) | Txn::Error(_));
            return if answers { Origin::Connect(id) } else { Origin::Elsewhere };
        }
        let oldest = conn.waiting.iter().find_map(|item| match item {
            Waiting::Forwarded { asked, .. } => Some(asked),
            Waiting::Write(_)
            | Waiting::Earlier(_)
            | Waiting::Sync { .. }
            | Waiting::Frame { .. }
            | Waiting::Answer { .. } => None,
        });
        match oldest {
            Some(asked)
                if asked.xid.0 == header.cxid
                    && can_answer(asked.op, txn)
                    && !(farrier_proto::planted!(TtlAnswerLost) && matches!(txn, Txn::CreateTtl(_))) =>
            {
                // What it counts against budgets goes with its place in the queue.
                Origin::Request { conn: id, asked: Asked { large: 0, ..asked.clone() } }
            }
            Some(_) | None => Origin::Elsewhere,
        }
    }
}

/// Whether a request of this type can have become that transaction.
pub(crate) const fn can_answer(op: OpCode, txn: &Txn<'_>) -> bool {
    match txn {
        Txn::Error(_) => true,
        Txn::Create(_) | Txn::Create2(_) | Txn::CreateContainer(_) | Txn::CreateTtl(_) => {
            matches!(op, OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl)
        }
        Txn::Delete(_) => matches!(op, OpCode::Delete),
        Txn::SetData(_) => matches!(op, OpCode::SetData),
        Txn::SetAcl(_) => matches!(op, OpCode::SetAcl),
        Txn::Multi(_) => matches!(op, OpCode::Multi),
        Txn::Reconfig(_) => matches!(op, OpCode::Reconfig),
        Txn::CloseSession(_) => matches!(op, OpCode::CloseSession),
        Txn::CreateSession(_) | Txn::DeleteContainer(_) | Txn::Check(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_answer_cannot_tell_has_its_turn_with_the_next() {
        let mut learning = Learning::new(1);
        let all = i64::try_from(PING_TOUCHED_MAX).unwrap() + 3;
        let touch = |learning: &mut Learning| learning.touched.extend((0..all).map(|s| (SessionId(s), 9)));
        let sessions = |told: Vec<(SessionId, i32)>| told.into_iter().map(|(s, _)| s.0).collect::<Vec<_>>();
        touch(&mut learning);
        assert_eq!(sessions(learning.tell_touched()), (0..all - 3).collect::<Vec<_>>());
        touch(&mut learning);
        let second = sessions(learning.tell_touched());
        assert_eq!(second[..4], [all - 3, all - 2, all - 1, 0], "those that waited come first");
        assert_eq!(second.len(), PING_TOUCHED_MAX);
        assert_eq!(sessions(learning.tell_touched()), [all - 6, all - 5, all - 4]);
        assert_eq!(learning.tell_touched(), []);
    }
}
