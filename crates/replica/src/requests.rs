//! Requests of an established connection: which are answered at once, which wait their turn, which
//! become transactions.

use crate::conn::{Phase, Waiting};
use crate::io::{Action, Actions, ConnId, Level, Time, WriteId};
use crate::reads;
use crate::replica::{Origin, Outstanding, Replica};
use bytes::Bytes;
use farrier_proto::client::{
    AuthPacket, CreateRequest, CreateTtlRequest, PathVersion, ReconfigRequest, RequestHeader, SaslToken, SetAclRequest,
    SetDataRequest, put_reply,
};
use farrier_proto::multi::read_multi;
use farrier_proto::txn::write_txn;
use farrier_proto::{DecodeError, ErrorCode, Field, OpCode, Reader, SessionId, TxnHeader, Xid, Zxid};
use farrier_tree::{Identity, RequestContext, WriteRequest};
use std::sync::Arc;

/// Identities that one connection may collect. Nobody needs more; without a bound they would multiply the
/// size of ACLs of scheme `auth`.
const IDENTITIES_MAX: usize = 64;

impl Replica {
    pub(crate) fn client_frame(&mut self, now: Time, id: ConnId, frame: &[u8], out: &mut Actions) {
        if self.is_stopping() {
            // Not begun, so the client will know that it was not done.
            return;
        }
        let Some(conn) = self.conns.get_mut(&id) else { return };
        self.stats.received += 1;
        conn.stats.received += 1;
        match conn.phase {
            Phase::Fresh => self.connect(now, id, frame, out),
            // The shell was told to wait.
            Phase::Creating => self.close(id, out),
            Phase::Serving => self.request(now, id, frame, out),
            // Behind the end of a session nothing is answered.
            Phase::Ending => {}
        }
    }

    fn request(&mut self, now: Time, id: ConnId, frame: &[u8], out: &mut Actions) {
        let mut body = Reader::new(frame);
        let Ok(header) = RequestHeader::read(&mut body) else {
            return self.close(id, out);
        };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if !self.tracker.touch(conn.session, now) {
            // The session is being closed; its connection will be, by the commit of that.
            return;
        }
        conn.stats.last_cxid = i64::from(header.xid.0);
        let op = OpCode::from_code(header.op);
        if !self.config.enforce_auth_schemes.is_empty() && !matches!(op, Some(OpCode::Auth | OpCode::Sasl)) {
            let schemes = &self.config.enforce_auth_schemes;
            if !conn.identities.iter().any(|i| schemes.iter().any(|s| **s == *i.scheme)) {
                return self.answer(now, id, header.xid, 0, Err(ErrorCode::SessionClosedRequireSaslAuth), true, out);
            }
        }
        let Some(op) = op else {
            return self.answer(now, id, header.xid, -1, Err(ErrorCode::Unimplemented), true, out);
        };
        match op {
            OpCode::Check | OpCode::DeleteContainer | OpCode::CreateSession => {
                self.answer(now, id, header.xid, -1, Err(ErrorCode::Unimplemented), true, out);
            }
            OpCode::Auth => self.authenticate(now, id, header.xid, &mut body, out),
            OpCode::Sasl => self.sasl(now, id, header.xid, out),
            OpCode::Create
            | OpCode::Create2
            | OpCode::CreateContainer
            | OpCode::CreateTtl
            | OpCode::Delete
            | OpCode::SetData
            | OpCode::SetAcl
            | OpCode::Multi
            | OpCode::Reconfig
            | OpCode::CloseSession => self.write(now, id, &header, op, frame, out),
            OpCode::Exists
            | OpCode::GetData
            | OpCode::GetAcl
            | OpCode::GetChildren
            | OpCode::GetChildren2
            | OpCode::Sync
            | OpCode::Ping
            | OpCode::CheckWatches
            | OpCode::RemoveWatches
            | OpCode::MultiRead
            | OpCode::SetWatches
            | OpCode::SetWatches2
            | OpCode::GetEphemerals
            | OpCode::GetAllChildrenNumber
            | OpCode::AddWatch
            | OpCode::WhoAmI => self.read(now, id, frame, out),
        }
    }

    /// Runs a request that needs no transaction, or queues it behind the connection's unfinished writes.
    fn read(&mut self, now: Time, id: ConnId, frame: &[u8], out: &mut Actions) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.waiting.is_empty() && !conn.is_stalled() {
            let identities = conn.identities.clone();
            self.run_read(now, id, frame, &identities, now.mono, out);
        } else {
            let identities = conn.identities.clone();
            conn.waiting_bytes += frame.len();
            let waiting = Waiting::Frame { frame: frame.into(), identities, arrived: now.mono };
            conn.waiting.push_back(waiting);
            self.count_large(id, frame.len(), out);
            self.balance(id, out);
        }
    }

    fn run_read(
        &mut self,
        now: Time,
        id: ConnId,
        frame: &[u8],
        identities: &[Identity],
        arrived: u64,
        out: &mut Actions,
    ) {
        let start = out.bytes.len();
        let done = reads::run(
            &mut reads::Scope {
                tree: &self.tree,
                watches: &mut self.watches,
                auth: &self.config.auth,
                session: self.conns.get(&id).map_or(SessionId::NONE, |c| c.session),
                conn: id,
                identities,
                reply_max: self.config.jute_max_buffer,
            },
            frame,
            &mut out.bytes,
        );
        for _ in 1..done.frames {
            // Catch-up events of setWatches count as packets of their own.
            self.stats.sent += 1;
        }
        self.finish(now, id, done.op, arrived, done.zxid);
        self.emit(id, start, out);
        self.balance_after_output(id, out);
    }

    fn balance_after_output(&mut self, id: ConnId, out: &mut Actions) {
        if self.conns.get(&id).is_some_and(|c| c.is_stalled() != c.paused) {
            self.balance(id, out);
        }
    }

    /// Keeps the statistics of an answered request.
    pub(crate) fn finish(&mut self, now: Time, id: ConnId, op: &'static str, arrived: u64, zxid: i64) {
        let latency = now.mono.saturating_sub(arrived);
        self.stats.latency.record(latency);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.stats.latency.record(latency);
        conn.stats.last_op = op;
        conn.stats.last_latency = latency;
        conn.stats.last_response = now.mono;
        if zxid > 0 {
            conn.stats.last_zxid = zxid;
        }
    }

    /// Answers in turn, without a body. `close` ends the connection behind the answer.
    #[expect(clippy::too_many_arguments, reason = "an answer is a header, and a header has these fields")]
    pub(crate) fn answer(
        &mut self,
        now: Time,
        id: ConnId,
        xid: Xid,
        zxid: i64,
        result: Result<(), ErrorCode>,
        close: bool,
        out: &mut Actions,
    ) {
        let mut frame = Vec::new();
        put_reply(&mut frame, xid, zxid, result, |_| {});
        self.answer_frame(now, id, frame, close, out);
    }

    fn answer_frame(&mut self, now: Time, id: ConnId, frame: Vec<u8>, close: bool, out: &mut Actions) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if close {
            conn.phase = Phase::Ending;
        }
        conn.waiting_bytes += frame.len();
        conn.waiting.push_back(Waiting::Answer { frame, close });
        self.run_waiting(now, id, out);
        self.balance(id, out);
    }

    pub(crate) fn refuse_oversized(&mut self, now: Time, id: ConnId, head: [u8; 8], out: &mut Actions) {
        let [a, b, c, d, ..] = head;
        let xid = Xid(i32::from_be_bytes([a, b, c, d]));
        let Some(conn) = self.conns.get(&id) else { return };
        if self.tracker.touch(conn.session, now) {
            self.answer(now, id, xid, self.tree.zxid().to_wire(), Err(ErrorCode::MarshallingError), false, out);
        }
    }

    /// Takes effect for the very next request of the connection.
    fn authenticate(&mut self, now: Time, id: ConnId, xid: Xid, body: &mut Reader<'_>, out: &mut Actions) {
        let Ok(packet) = AuthPacket::read(body) else {
            return self.close(id, out);
        };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let accepted = self.config.auth.authenticate(packet.scheme.as_deref(), packet.auth.as_deref());
        let result = accepted.and_then(|new| {
            let mut all: Vec<Identity> = conn.identities.to_vec();
            for identity in new {
                if !all.contains(&identity) {
                    all.push(identity);
                }
            }
            if all.len() > IDENTITIES_MAX { Err(ErrorCode::AuthFailed) } else { Ok(all) }
        });
        match result {
            Ok(all) => {
                conn.identities = Arc::from(all);
                self.answer(now, id, xid, 0, Ok(()), false, out);
            }
            Err(code) => {
                self.stats.auth_failures += 1;
                if code == ErrorCode::ConnectionLoss {
                    out.note(Level::Warn, format!("closing {}: it looks for another ensemble", conn.peer));
                    return self.close(id, out);
                }
                let scheme = packet.scheme.as_deref().unwrap_or("(none)").escape_default().to_string();
                out.note(Level::Warn, format!("refusing authentication of {} with scheme {scheme}", conn.peer));
                self.answer(now, id, xid, 0, Err(code), true, out);
            }
        }
    }

    /// No SASL mechanism is configured: a null token, upon which clients go on unauthenticated.
    fn sasl(&mut self, now: Time, id: ConnId, xid: Xid, out: &mut Actions) {
        let mut frame = Vec::new();
        put_reply(&mut frame, xid, 0, Ok(()), |out| SaslToken { token: None }.write(out));
        self.answer_frame(now, id, frame, false, out);
    }

    /// Proposes a write at once; its answer comes with its commit, in turn.
    fn write(&mut self, now: Time, id: ConnId, header: &RequestHeader, op: OpCode, frame: &[u8], out: &mut Actions) {
        let mut body = Reader::new(frame);
        let decoded = RequestHeader::read(&mut body).and_then(|_| self.decode_write(op, &mut body));
        let Ok(request) = decoded else {
            // Not proposed: an undecodable body must not cost the ensemble a transaction.
            let zxid = self.tree.zxid().to_wire();
            return self.answer(now, id, header.xid, zxid, Err(ErrorCode::MarshallingError), false, out);
        };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let session = conn.session;
        if matches!(request, WriteRequest::CloseSession) {
            conn.phase = Phase::Ending;
        }
        let identities = conn.identities.clone();
        let large = self.config.large_request_threshold.filter(|t| frame.len() > *t).map_or(0, |_| frame.len());
        let origin = Origin::Request { conn: id, xid: header.xid, op, arrived: now.mono, large };
        if matches!(request, WriteRequest::CloseSession) {
            self.tracker.remove(session);
        }
        let zxid = self.propose(now, session, header.xid.0, &identities, request, origin, out);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.waiting.push_back(Waiting::Write(zxid));
        }
        self.count_large(id, frame.len(), out);
        self.balance(id, out);
    }

    fn decode_write<'f>(&self, op: OpCode, body: &mut Reader<'f>) -> Result<WriteRequest<'f>, DecodeError> {
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

    /// Turns a request into a transaction with the next zxid and sends it to the log.
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
    ) -> Zxid {
        let last = self.last_proposed;
        let zxid = last.next().unwrap_or_else(|| Zxid::new(last.epoch() + 1, 0));
        let context = RequestContext { session, cxid, zxid, time: now.wall, identities };
        let prepared = self.prep.prepare(&self.tree, &context, request);
        let header = TxnHeader { session, cxid, zxid, time: now.wall, kind: prepared.txn.kind().code() };
        let mut bytes = Vec::with_capacity(256);
        write_txn(&mut bytes, &header, &prepared.txn, prepared.digest);
        assert!(bytes.len() <= self.config.txn_max, "prep keeps transactions within what every reader can decode");
        self.last_proposed = zxid;
        self.last_write = WriteId(self.last_write.0 + 1);
        let id = self.last_write;
        let txn = Bytes::from(bytes);
        out.push(Action::Append { id, zxid, txn: txn.clone() });
        self.outstanding.push_back(Outstanding { id, zxid, txn, origin });
        zxid
    }

    /// A session that nobody closes: expired, or owner of ephemerals without a session.
    pub(crate) fn close_session_of_server(&mut self, now: Time, session: SessionId, out: &mut Actions) {
        self.propose(now, session, 0, &[], WriteRequest::CloseSession, Origin::Server, out);
    }

    /// Runs what waits for nothing any more.
    pub(crate) fn run_waiting(&mut self, now: Time, id: ConnId, out: &mut Actions) {
        loop {
            let Some(conn) = self.conns.get_mut(&id) else { return };
            if conn.is_stalled() {
                return;
            }
            let timeout = u64::from(conn.timeout.unsigned_abs());
            match conn.waiting.pop_front() {
                None => return,
                Some(Waiting::Write(zxid)) => {
                    conn.waiting.push_front(Waiting::Write(zxid));
                    return;
                }
                Some(Waiting::Frame { frame, identities, arrived }) => {
                    conn.waiting_bytes -= frame.len();
                    self.release_large(frame.len());
                    let waited = now.mono.saturating_sub(arrived);
                    if self.config.drop_stale_requests && waited > timeout {
                        self.stats.dropped_connections += 1;
                        return self.close(id, out);
                    }
                    let wait = self.config.throttled_op_wait;
                    if wait > 0 && waited > wait && self.refuse_late(id, &frame, out) {
                        continue;
                    }
                    self.run_read(now, id, &frame, &identities, arrived, out);
                }
                Some(Waiting::Answer { frame, close }) => {
                    conn.waiting_bytes -= frame.len();
                    let start = out.bytes.len();
                    out.bytes.extend_from_slice(&frame);
                    quote_newest(&mut out.bytes[start..], self.tree.zxid());
                    self.emit(id, start, out);
                    if close {
                        return self.close(id, out);
                    }
                }
            }
        }
    }

    /// Answers a request that waited too long, unless it is a ping.
    fn refuse_late(&mut self, id: ConnId, frame: &[u8], out: &mut Actions) -> bool {
        let Ok(header) = RequestHeader::read(&mut Reader::new(frame)) else { return false };
        if header.op == OpCode::Ping.code() {
            return false;
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
            // A write's bytes are released by its commit.
            Waiting::Frame { .. } | Waiting::Write(_) | Waiting::Answer { .. } => 0,
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

    fn count_large(&mut self, id: ConnId, len: usize, out: &mut Actions) {
        if !self.is_large(len) {
            return;
        }
        self.large_in_flight += len;
        if self.large_in_flight > self.config.large_request_max_bytes {
            self.stats.dropped_connections += 1;
            let budget = self.config.large_request_max_bytes;
            out.note(
                Level::Warn,
                format!("closing a connection: large requests in flight exceed largeRequestMaxBytes ({budget})"),
            );
            self.close(id, out);
        }
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
