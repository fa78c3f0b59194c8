//! Requests of an established connection: which are answered at once, which wait their turn, which
//! become transactions.

use crate::conn::{Phase, Waiting};
use crate::io::{Actions, ConnId, Level, Time};
use crate::limits::{IDENTITIES_MAX, IDENTITY_BYTES_MAX, LONG_REPLY_WARNING_PAUSE};
use crate::quietly::shown;
use crate::reads::{self, LongReply};
use crate::replica::Replica;
use farrier_proto::client::{AuthPacket, RequestHeader, SaslToken, put_reply};

use farrier_proto::jute::leading_path;
use farrier_proto::{ErrorCode, Field, OpCode, Reader, SessionId, Xid};
use farrier_tree::Identity;
use farrier_tree::auth::verdicts::Verdicts;
use std::cell::Cell;
use std::sync::Arc;

impl Replica {
    /// Tells which frames of a connection are going to be given next; see [`Tree::foresee`](farrier_tree::Tree::foresee).
    /// It changes nothing.
    pub fn foresee<'f>(&self, frames: impl Iterator<Item = &'f [u8]>) {
        self.tree.foresee(frames.filter_map(|frame| leading_path(frame.get(RequestHeader::LEN..)?)));
    }

    pub(crate) fn client_frame(&mut self, now: Time, id: ConnId, frame: &[u8], out: &mut Actions) {
        if self.is_stopping() {
            // Not begun, so the client will know that it was not done.
            return;
        }
        let handing_over = self.membership.is_handing_over();
        let Some(conn) = self.conns.get_mut(id) else { return };
        if handing_over && conn.phase != Phase::Fresh {
            return;
        }
        self.stats.received += 1;
        conn.stats.received += 1;
        match conn.phase {
            Phase::Fresh => self.connect(now, id, frame, out),
            // The shell was told to wait.
            Phase::Held | Phase::Creating => self.close(id, out),
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
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.stats.last_cxid = i64::from(header.xid.0);
        conn.heard = now.mono;
        let (session, timeout) = (conn.session, conn.timeout);
        if !self.touch(now, session, timeout) {
            // The session is being closed; its connection will be, by the commit of that.
            return;
        }
        let op = OpCode::from_code(header.op);
        if op != Some(OpCode::CloseSession) && !self.membership.owns_here(session) {
            // The client moved on, and must not be answered from here.
            return self.close(id, out);
        }
        if !self.config.enforce_auth_schemes.is_empty() && !matches!(op, Some(OpCode::Auth | OpCode::Sasl)) {
            let Some(conn) = self.conns.get(id) else { return };
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
            | OpCode::CloseSession => self.write(now, id, &header, frame, out),
            OpCode::Sync if self.membership.is_ensemble() => self.write(now, id, &header, frame, out),
            OpCode::Sync => {
                self.wait_for_all(id);
                self.read(now, id, frame, out);
            }
            OpCode::Exists
            | OpCode::GetData
            | OpCode::GetAcl
            | OpCode::GetChildren
            | OpCode::GetChildren2
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
        let Some(conn) = self.conns.get_mut(id) else { return };
        let identities = conn.identities.clone();
        if (conn.waiting.is_empty() || farrier_proto::planted!(ReadPassesOwnWrite)) && !conn.is_stalled() {
            self.run_read(now, id, frame, &identities, now.mono, out);
        } else {
            self.enqueue(now, id, frame, identities, out);
        }
    }

    pub(crate) fn run_read(
        &mut self,
        now: Time,
        id: ConnId,
        frame: &[u8],
        identities: &[Identity],
        arrived: u64,
        out: &mut Actions,
    ) {
        let start = out.bytes.len();
        let reply_max = self.reply_room(id);
        let done = reads::run(
            &mut reads::Scope {
                tree: &self.tree,
                watches: &mut self.watches,
                auth: &self.config.auth,
                session: self.conns.get(id).map_or(SessionId::NONE, |c| c.session),
                conn: id,
                identities,
                reply_max,
                verdicts: Verdicts::default(),
                work: Cell::new(0),
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
        self.work = self.work.saturating_add(done.work);
        if let Some(long) = done.refused {
            self.warn_of_long_reply(now, id, done.op, &long, out);
        }
    }

    /// Says that a reply is too long to be sent, now and then: the client is told no more than that there is none.
    fn warn_of_long_reply(&mut self, now: Time, id: ConnId, op: &str, long: &LongReply, out: &mut Actions) {
        if now.mono < self.long_reply_warning_due {
            return;
        }
        self.long_reply_warning_due = now.mono + LONG_REPLY_WARNING_PAUSE;
        let peer = self.conns.get(id).map(|conn| format!(" of {}", conn.peer)).unwrap_or_default();
        let (LongReply { path, len, room }, most) = (long, self.reply_max());
        let limit = if *room < most {
            format!("there is room for {room}, since other long replies have not been taken yet")
        } else {
            format!("the longest that is sent has {most}")
        };
        out.note(
            Level::Warn,
            format!("refusing {op}{peer} for {path}: the reply has {len} bytes or more, and {limit}"),
        );
    }

    fn balance_after_output(&mut self, id: ConnId, out: &mut Actions) {
        if self.conns.get(id).is_some_and(|c| c.is_stalled() != c.paused) {
            self.balance(id, out);
        }
    }

    /// Keeps the statistics of an answered request.
    pub(crate) fn finish(&mut self, now: Time, id: ConnId, op: &'static str, arrived: u64, zxid: i64) {
        let latency = now.mono.saturating_sub(arrived);
        self.stats.latency.record(latency);
        let Some(conn) = self.conns.get_mut(id) else { return };
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
        let Some(conn) = self.conns.get_mut(id) else { return };
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
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.heard = now.mono;
        let (session, timeout) = (conn.session, conn.timeout);
        if self.touch(now, session, timeout) {
            self.answer(now, id, xid, self.tree.zxid().to_wire(), Err(ErrorCode::MarshallingError), false, out);
        }
    }

    /// Takes effect for the very next request of the connection.
    fn authenticate(&mut self, now: Time, id: ConnId, xid: Xid, body: &mut Reader<'_>, out: &mut Actions) {
        let Ok(packet) = AuthPacket::read(body) else {
            return self.close(id, out);
        };
        let Some(conn) = self.conns.get_mut(id) else { return };
        let accepted = self.config.auth.authenticate(packet.scheme.as_deref(), packet.auth.as_deref());
        let result = accepted.and_then(|new| {
            let mut all: Vec<Identity> = conn.identities.to_vec();
            for identity in new {
                if !all.contains(&identity) {
                    all.push(identity);
                }
            }
            let bytes: usize = all.iter().map(|i| i.scheme.len() + i.id.len()).sum();
            if all.len() > IDENTITIES_MAX || bytes > IDENTITY_BYTES_MAX { Err(ErrorCode::AuthFailed) } else { Ok(all) }
        });
        match result {
            Ok(all) => {
                if all.len() > conn.identities.len() {
                    conn.identities = Arc::from(all);
                }
                self.answer(now, id, xid, 0, Ok(()), false, out);
            }
            Err(code) => {
                self.stats.auth_failures += 1;
                if code == ErrorCode::ConnectionLoss {
                    let peer = conn.peer;
                    self.nuisances
                        .other_ensemble
                        .warn(now, out, || format!("closing {peer}: it looks for another ensemble"));
                    return self.close(id, out);
                }
                let peer = conn.peer;
                self.nuisances.authentication.warn(now, out, || {
                    let scheme = shown(packet.scheme.as_deref().unwrap_or("(none)"));
                    format!("refusing authentication of {peer} with scheme {scheme}")
                });
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
}
