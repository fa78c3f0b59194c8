//! Connections whose client went elsewhere without a word.
//!
//! A session that goes on at another server keeps none of its old connections, but where a path breaks without notice the old
//! server hears nothing of that: the socket, its watches and its place among the client's connections would stay for as long as
//! the session lives.

use crate::conn::Phase;
use crate::io::{Actions, Level, Time};
use crate::limits::SILENCE_MS;
use crate::replica::Replica;

impl Replica {
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
