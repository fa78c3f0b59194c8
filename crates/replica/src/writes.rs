//! Writes: from a frame to a transaction on its way to the log.

use crate::conn::{Asked, Phase, Waiting};
use crate::ephemerals::Ephemerals;
use crate::io::{Action, Actions, ConnId, Level, Time};
use crate::limits::{FORCED_READS_MAX, QUOTA_WARNING_PAUSE};
use crate::members::{Membership, Term};
use crate::replica::{Origin, Outstanding, Replica};
use farrier_proto::client::{
    CreateRequest, CreateTtlRequest, PathVersion, ReconfigRequest, RequestHeader, SetAclRequest, SetDataRequest,
};
use farrier_proto::multi::{MultiOp, read_multi};
use farrier_proto::txn::write_txn;
use farrier_proto::{DecodeError, ErrorCode, Field, OpCode, Reader, SessionId, TxnHeader, Zxid};
use farrier_tree::quota::SoftExcess;
use farrier_tree::{Identity, RequestContext, WriteRequest};
use std::sync::Arc;

impl Replica {
    /// Submits a write at once, and in an ensemble a sync; its answer comes with its commit, in turn.
    ///
    /// Once submitted it commits whatever its connection does, and what waits in front of it has to run
    /// before that. So it is not submitted, but waits its turn like a read, while the connection does not take
    /// its replies, or too many reads would have to run at once. Nor while too much is on its way already: then each connection
    /// waits with the one write that it had sent, and is not read from.
    pub(crate) fn write(&mut self, now: Time, id: ConnId, header: &RequestHeader, frame: &[u8], out: &mut Actions) {
        let congested = self.is_congested();
        let Some(conn) = self.conns.get_mut(id) else { return };
        if header.op == OpCode::CloseSession.code() {
            conn.phase = Phase::Ending;
        }
        let identities = conn.identities.clone();
        if congested || conn.is_stalled() || conn.reads_waiting > FORCED_READS_MAX || conn.writes_deferred > 0 {
            conn.writes_deferred += 1;
            return self.enqueue(now, id, frame, identities, out);
        }
        if let Some(item) = self.submit(now, id, frame, &identities, now.mono, out)
            && let Some(conn) = self.conns.get_mut(id)
        {
            conn.waiting.push_back(item);
        }
        self.balance(id, out);
    }

    /// Proposes the write in a frame, or sends it to the leader; what waits for the answer is returned. An
    /// undecodable one is answered instead, in turn, and not proposed: it must not cost an ensemble a transaction.
    pub(crate) fn submit(
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
        let op = OpCode::from_code(header.op).expect("the type was told when the frame arrived");
        if op == OpCode::Sync {
            return self.submit_sync(now, id, frame, identities, arrived, out);
        }
        let start = body.position();
        let Ok(request) = self.decode_write(op, &mut body) else {
            let zxid = self.tree.zxid().to_wire();
            self.answer(now, id, header.xid, zxid, Err(ErrorCode::MarshallingError), false, out);
            return None;
        };
        let ephemerals = Ephemerals::of(&request);
        if self.leader_may_be_apaches()
            && let Some(error) = refusal(&request, op)
                .or_else(|| self.prep.oversize(&request, identities))
                .or_else(|| (!self.has_room_for(id, ephemerals)).then_some(ErrorCode::MarshallingError))
        {
            let zxid = self.tree.zxid().to_wire();
            self.answer(now, id, header.xid, zxid, Err(error), false, out);
            return None;
        }
        let session = self.conns.get(id)?.session;
        let large = self.count_large(id, frame.len(), out)?;
        let asked = Asked { xid: header.xid, op, arrived, large, ephemerals, create2: create2_of(&request) };
        if self.membership.is_learning() {
            return self.forward(id, asked, &frame[start..], identities, out);
        }
        if matches!(request, WriteRequest::CloseSession) {
            self.tracker.remove(session);
        }
        let origin = Origin::Request { conn: id, asked };
        let zxid = self.propose(now, session, header.xid.0, identities, request, origin, out);
        if zxid.is_none() {
            self.large_in_flight -= large;
            self.close(id, out);
        }
        zxid.map(Waiting::Write)
    }

    /// Whether this server learns from one that may be of Apache's. Its own kind refuses by itself what it must not do.
    pub(crate) fn leader_may_be_apaches(&mut self) -> bool {
        self.membership.is_learning() && !self.membership.members().is_some_and(|m| m.peer.leader_is_cumulative())
    }

    pub(crate) fn decode_write<'f>(&self, op: OpCode, body: &mut Reader<'f>) -> Result<WriteRequest<'f>, DecodeError> {
        Ok(match op {
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer => {
                let request = CreateRequest::read(body)?;
                if request.path.is_none() {
                    return Err(DecodeError::Null("path"));
                }
                WriteRequest::Create { op, request, ttl: None }
            }
            OpCode::CreateTtl => {
                let r = CreateTtlRequest::read(body)?;
                if r.path.is_none() {
                    return Err(DecodeError::Null("path"));
                }
                let request = CreateRequest { path: r.path, data: r.data, acl: r.acl, flags: r.flags };
                WriteRequest::Create { op, request, ttl: Some(r.ttl) }
            }
            OpCode::Delete => {
                let request = PathVersion::read(body)?;
                if request.path.is_none() {
                    return Err(DecodeError::Null("path"));
                }
                WriteRequest::Delete(request)
            }
            OpCode::SetData => WriteRequest::SetData(SetDataRequest::read(body)?),
            OpCode::SetAcl => WriteRequest::SetAcl(SetAclRequest::read(body)?),
            OpCode::Multi => match read_multi(body) {
                Ok(ops) => WriteRequest::Multi(ops),
                // Unlike the others it takes a zxid, as in Apache.
                Err(_) => WriteRequest::Failed(ErrorCode::MarshallingError),
            },
            OpCode::Reconfig => {
                ReconfigRequest::read(body)?;
                let enabled = self.config.reconfig_enabled;
                WriteRequest::Failed(if enabled { ErrorCode::Unimplemented } else { ErrorCode::ReconfigDisabled })
            }
            OpCode::CloseSession => WriteRequest::CloseSession,
            other => unreachable!("{other:?} is not a write"),
        })
    }

    /// Turns a request into a transaction with the next zxid and proposes it: to the log, or to the ensemble.
    /// `None` if nothing can be proposed any more, since the leadership is about to end.
    #[expect(clippy::too_many_arguments, reason = "what a transaction header and a reply need")]
    pub(crate) fn propose(
        &mut self,
        now: Time,
        session: SessionId,
        cxid: i32,
        identities: &[Identity],
        request: WriteRequest<'_>,
        origin: Origin,
        out: &mut Actions,
    ) -> Option<Zxid> {
        let zxid = self.membership.next_zxid()?;
        let context = RequestContext { session, cxid, zxid, time: now.wall, identities };
        let prepared = self.prep.prepare(&self.tree, &context, request);
        if let Some(excess) = self.prep.take_soft_excess() {
            self.warn_of_quota(now, &excess, out);
        }
        let header = TxnHeader { session, cxid, zxid, time: now.wall, kind: prepared.txn.kind().code() };
        let txn = self.blocks.written(|bytes| write_txn(bytes, &header, &prepared.txn, prepared.digest));
        assert!(txn.len() <= self.config.txn_max, "prep keeps transactions within what every reader can decode");
        self.outstanding_bytes += txn.len();
        if matches!(origin, Origin::Request { .. }) {
            self.asked_bytes += txn.len();
        }
        match &mut self.membership {
            Membership::Alone(alone) => {
                let id = alone.wrote(zxid);
                out.push(Action::Append { id, zxid, txn: txn.clone() });
            }
            Membership::Ensemble(members) => {
                if let Term::Leading(leading) = &mut members.term {
                    leading.proposal_sizes.record(txn.len());
                }
                members.peer.propose(now.mono, zxid, txn.clone(), &mut members.outputs);
            }
        }
        self.outstanding.push_back(Outstanding { zxid, session, txn, origin });
        Some(zxid)
    }

    /// Says that a soft limit is exceeded, now and then: every write beyond it would say so.
    fn warn_of_quota(&mut self, now: Time, excess: &SoftExcess, out: &mut Actions) {
        if now.mono < self.quota_warning_due {
            return;
        }
        self.quota_warning_due = now.mono + QUOTA_WARNING_PAUSE;
        let SoftExcess { path, what, limit, usage } = excess;
        out.note(
            Level::Warn,
            format!("the quota of {path} is exceeded: {usage} {what}, and the soft limit is {limit}"),
        );
    }

    /// A session that nobody closes: expired, or owner of ephemerals without a session.
    pub(crate) fn close_session_of_server(&mut self, now: Time, session: SessionId, out: &mut Actions) {
        self.propose(now, session, 0, &[], WriteRequest::CloseSession, Origin::Server, out);
    }
}

/// The error of a request that no leader is asked for: one of Apache's would not do any more. An undecodable multi may hold what
/// makes it propose a zxid twice (`CreateOptions` of a null ACL).
fn refusal(request: &WriteRequest<'_>, op: OpCode) -> Option<ErrorCode> {
    match request {
        WriteRequest::Failed(error) if op == OpCode::Multi => Some(*error),
        _ => request.refusal(),
    }
}

/// See [`Asked::create2`].
fn create2_of(request: &WriteRequest<'_>) -> Box<[bool]> {
    let is_create2 = |op: &MultiOp<'_>| matches!(op, MultiOp::Create { op: OpCode::Create2, .. });
    match request {
        WriteRequest::Multi(ops) if ops.iter().any(is_create2) => ops.iter().map(is_create2).collect(),
        _ => Box::default(),
    }
}
