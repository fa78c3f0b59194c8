//! Who was silent, and who was only not listened to.
//!
//! A session that goes on at another server keeps none of its old connections, but where a path breaks without notice the old
//! server hears nothing of that: the socket, its watches and its place among the client's connections would stay for as long as
//! the session lives.

use crate::conn::Phase;
use crate::io::{Actions, ConnId, Level, Time};
use crate::limits::SILENCE_MS;
use crate::replica::Replica;
use farrier_proto::SessionId;

impl Replica {
    /// Notes whether this server reads from a connection whose client takes its replies. Where it does again, what the client
    /// sent meanwhile is about to be read, and must be before the silence counts.
    pub(crate) fn note_unread(&mut self, id: ConnId, unread: bool) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.unread != unread) else { return };
        conn.unread = unread;
        if unread {
            self.unread.insert(id);
            return;
        }
        self.unread.remove(&id);
        if conn.phase == Phase::Serving {
            conn.heard = self.newest;
            let (session, timeout) = (conn.session, conn.timeout);
            self.touch(Time { mono: self.newest, wall: 0 }, session, timeout);
        }
    }

    /// Sessions whose pings wait in sockets that this server does not read, with their timeouts. That those come is not known,
    /// and not for their clients to prove (safety contract 5.2). Whoever does not take its replies is not among them.
    fn unread_sessions(&self) -> Vec<(SessionId, i32)> {
        let conns = self.unread.iter().filter_map(|id| self.conns.get(*id));
        let mute = conns.filter(|conn| conn.phase == Phase::Serving && !conn.is_stalled());
        mute.map(|conn| (conn.session, conn.timeout)).collect()
    }

    /// Nobody expires because this server does not listen.
    pub(crate) fn spare_unread(&mut self, now: Time) {
        if self.tracker.next_expiry().is_none_or(|due| now.mono < due) {
            return;
        }
        for (session, _) in self.unread_sessions() {
            self.tracker.touch(session, now);
        }
    }

    /// The same where the leader decides: it is told of them as of those that were heard.
    pub(crate) fn tell_unread(&mut self) {
        for (session, timeout) in self.unread_sessions() {
            if let Some(learning) = self.membership.learning() {
                learning.hear(session, timeout);
            }
        }
    }

    /// When [`Self::drop_silent`] is wanted. A server alone has no silent connections but those of sessions that expire.
    pub(crate) fn next_silence(&self) -> Option<u64> {
        (self.membership.is_ensemble() && self.membership.is_serving()).then_some(self.silence_due)
    }

    /// Closes connections that were silent for longer than their session's timeout. Whoever was not scheduled when it should have
    /// looked does not yet know who is silent.
    pub(crate) fn drop_silent(&mut self, now: Time, out: &mut Actions) {
        if self.next_silence().is_none_or(|due| now.mono < due) {
            return;
        }
        let in_time = now.mono < self.silence_due + SILENCE_MS / 10;
        self.silence_due = now.mono + SILENCE_MS;
        if !in_time {
            return;
        }
        let silent: Vec<_> = self
            .conns
            .iter()
            .filter(|(_, conn)| {
                conn.phase == Phase::Serving && (conn.is_stalled() || !conn.paused && conn.waiting.is_empty())
            })
            .filter(|(_, conn)| now.mono > conn.heard + u64::from(conn.timeout.unsigned_abs()) + SILENCE_MS)
            .map(|(id, conn)| (id, conn.peer, conn.session))
            .collect();
        for (id, peer, session) in silent {
            let text = format!(
                "closing {peer}: it was silent for longer than the timeout of session {session}, which lives elsewhere"
            );
            out.note(Level::Info, text);
            self.close(id, out);
        }
    }
}
