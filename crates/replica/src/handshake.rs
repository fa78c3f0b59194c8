//! The first frame of a connection: a new session, or the re-attachment of an old one.

use crate::conn::Phase;
use crate::io::{Action, Actions, ConnId, Time};
use crate::leading::{Doubt, Doubted};
use crate::replica::{Origin, Replica};
use farrier_proto::client::{ConnectRequest, ConnectResponse, begin_frame, end_frame};
use farrier_proto::session::{password, password_matches};
use farrier_proto::{Field, Reader, SessionId};
use farrier_tree::WriteRequest;

impl Replica {
    pub(crate) fn connect(&mut self, now: Time, id: ConnId, frame: &[u8], out: &mut Actions) {
        let Ok(request) = ConnectRequest::read(&mut Reader::new(frame)) else {
            return self.close(id, out);
        };
        if self.membership.is_looking() || self.membership.is_handing_over() {
            return self.hold(now, id, frame, out);
        }
        if self.is_fenced() || (!self.config.leader_serves && self.membership.leads()) {
            return self.close(id, out);
        }
        let renew = request.session != SessionId::NONE;
        if !self.throttle.admit(now.mono, renew, &mut self.random) {
            self.stats.rejected_connections += 1;
            return self.close(id, out);
        }
        let newest = self.newest_shown();
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.read_only_byte = request.read_only.is_some();
        // Signed, as in Apache: some clients take -1 from the headers of events.
        if request.last_zxid_seen.to_wire() > newest.to_wire() && !farrier_proto::planted!(ClientAheadLetIn) {
            let (peer, seen, have) = (conn.peer, request.last_zxid_seen, self.tree.zxid());
            self.nuisances.ahead.warn(now, out, || {
                format!("refusing session {} from {peer}: the client has seen zxid {seen}, this server is at {have}; it must try another server", request.session)
            });
            return self.close(id, out);
        }
        conn.timeout = request.timeout.clamp(self.config.min_session_timeout, self.config.max_session_timeout);
        if renew {
            self.reattach(now, id, &request, out);
        } else {
            self.create_session(now, id, out);
        }
    }

    fn create_session(&mut self, now: Time, id: ConnId, out: &mut Actions) {
        let session = self.next_session;
        self.next_session = SessionId(session.0.wrapping_add(1));
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.session = session;
        conn.phase = Phase::Creating;
        let timeout = conn.timeout;
        self.attached.insert(session, id);
        let sent = if self.membership.is_learning() {
            self.forward_session(session, timeout)
        } else {
            self.membership.own_here(session);
            let request = WriteRequest::CreateSession { timeout };
            self.propose(now, session, 0, &[], request, Origin::Connect(id), out).is_some()
        };
        if !sent {
            return self.close(id, out);
        }
        self.balance(id, out);
    }

    /// Unlike Apache, the password is checked before the old connection is closed, so that nobody can
    /// disconnect others by guessing session ids.
    fn reattach(&mut self, now: Time, id: ConnId, request: &ConnectRequest<'_>, out: &mut Actions) {
        let session = request.session;
        if !password_matches(session, request.password.as_deref()) {
            return self.refuse_session(id, out);
        }
        if self.membership.is_learning() {
            return self.revalidate(id, session, out);
        }
        if self.tracker.contains(session) {
            return self.reattach_here(now, id, session, out);
        }
        match self.doubt(now, Doubt::Conn(id, session)) {
            Doubted::Asked => {
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.phase = Phase::Creating;
                }
                self.balance(id, out);
            }
            Doubted::Never => self.refuse_session(id, out),
            // The client tries another server, or this one again.
            Doubted::TooMany => self.close(id, out),
        }
    }

    /// Takes the session over, if there is one.
    pub(crate) fn reattach_here(&mut self, now: Time, id: ConnId, session: SessionId, out: &mut Actions) {
        if !self.tracker.contains(session) {
            return self.refuse_session(id, out);
        }
        let Some(conn) = self.conns.get(id) else { return };
        self.tracker.add(session, conn.timeout, now);
        self.membership.own_here(session);
        self.attach(now, id, session, out);
    }

    /// The session lives, and is this connection's from now on.
    pub(crate) fn attach(&mut self, now: Time, id: ConnId, session: SessionId, out: &mut Actions) {
        if let Some(old) = self.attached.get(&session).copied() {
            self.close(old, out);
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.session = session;
        self.attached.insert(session, id);
        self.wait_for_session(id, session);
        self.establish(now, id, out);
    }

    /// Tells the client that its session is gone, and closes.
    pub(crate) fn refuse_session(&mut self, id: ConnId, out: &mut Actions) {
        self.answer_connect(id, None, out);
        self.close(id, out);
    }

    /// The session exists: answers the connect request and serves from now on.
    pub(crate) fn establish(&mut self, now: Time, id: ConnId, out: &mut Actions) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.phase = Phase::Serving;
        conn.heard = now.mono;
        conn.stats.last_op = "SESS";
        conn.stats.last_response = now.mono;
        let session = conn.session;
        self.answer_connect(id, Some(session), out);
        self.balance(id, out);
    }

    fn answer_connect(&mut self, id: ConnId, session: Option<SessionId>, out: &mut Actions) {
        let Some(conn) = self.conns.get(id) else { return };
        let read_only = conn.read_only_byte.then_some(false);
        let response = match session {
            Some(session) => ConnectResponse { timeout: conn.timeout, session, password: password(session), read_only },
            None => ConnectResponse::expired(read_only),
        };
        let start = begin_frame(&mut out.bytes);
        response.write(&mut out.bytes);
        end_frame(&mut out.bytes, start);
        self.emit_unmeasured(id, start, out);
    }

    /// A frame that was too long to be taken, and was skipped.
    pub(crate) fn client_oversized(&mut self, now: Time, id: ConnId, head: [u8; 8], len: usize, out: &mut Actions) {
        if self.is_stopping() || self.membership.is_handing_over() {
            // As for any other request: an answer would overtake those before it that get none.
            return;
        }
        let Some(conn) = self.conns.get(id) else { return };
        let (peer, max) = (conn.peer, self.config.jute_max_buffer);
        match conn.phase {
            Phase::Fresh | Phase::Held | Phase::Creating => {
                self.nuisances.first_frame.warn(now, out, || {
                    format!("closing {peer}: its first frame has {len} bytes, jute.maxbuffer allows {max}")
                });
                out.push(Action::CloseClient { conn: id });
                self.forget(id);
            }
            Phase::Ending => {}
            Phase::Serving => {
                self.nuisances.oversized.warn(now, out, || {
                    format!("refusing a request of {len} bytes from {peer}: jute.maxbuffer allows {max}")
                });
                self.refuse_oversized(now, id, head, out);
            }
        }
    }
}
