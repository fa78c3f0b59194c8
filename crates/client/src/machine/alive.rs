//! What keeps a connection, its session and its lease alive: pings, beats, and the end of a server that says nothing.

use super::lease::{self, BEAT};
use super::{Connected, Machine, Phase, put_request};
use crate::Time;
use crate::limits::PING_MAX;
use farrier_proto::client::PathOnly;
use farrier_proto::{Field as _, OpCode, Xid};

/// A `sync` that renews the lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beat {
    pub(super) sent: Time,
    /// What its answer makes of [`crate::Lease::since`].
    pub(super) since: Time,
    pub(super) is_answered: bool,
}

impl Machine {
    /// Somebody relies on the lease from now on, until [`Self::let_go`]: it is renewed as long as there is a server.
    pub(crate) const fn keep(&mut self) {
        self.keepers += 1;
    }

    /// Undoes one [`Self::keep`].
    pub(crate) fn let_go(&mut self) {
        self.keepers = self.keepers.checked_sub(1).expect("whoever lets go has kept it");
    }

    /// Whether anybody relies on the lease.
    pub(crate) const fn is_kept(&self) -> bool {
        self.keepers > 0
    }

    pub(super) fn ping_at(&self, state: &Connected) -> Time {
        state.sent + (self.timeout() / 3).min(PING_MAX)
    }

    /// When the lease is to be renewed. A read-only server can't.
    pub(super) fn beat_at(&self, state: &Connected) -> Time {
        match state.beat {
            _ if self.keepers == 0 || state.read_only => Time::MAX,
            None => state.since,
            Some(beat) if beat.is_answered => {
                let regular = beat.sent + lease::beat_span(self.timeout());
                // After a silence it renewed the lease in part, and the next one can do so in whole before its time.
                let counts = state.touches.counts_more(beat.sent, self.timeout());
                if beat.since < beat.sent { regular.min(counts) } else { regular }
            }
            Some(_) => Time::MAX,
        }
    }

    /// A server that is silent for two thirds of the timeout is given up, which leaves a third to find another; while the
    /// lease is kept, one that is silent for a third and owes an answer to a beat.
    pub(super) fn silent_at(&self, state: &Connected) -> Time {
        let timeout = self.timeout();
        let at_last = state.heard + timeout * 2 / 3;
        match state.beat {
            Some(beat) if self.keepers > 0 && !beat.is_answered => {
                let owed = beat.sent + lease::beat_span(timeout);
                at_last.min(owed.max(state.heard + lease::silence_max(timeout)))
            }
            Some(_) | None => at_last,
        }
    }

    pub(super) fn watch_over(&mut self, now: Time) {
        let Phase::Connected { state, .. } = &self.phase else { return };
        if self.silent_at(state) <= now {
            let silence = format!("nothing came for {:?}", now - state.heard);
            self.hang_up(now, &silence);
            return;
        }
        let (beats, pings, timeout) = (self.beat_at(state) <= now, self.ping_at(state) <= now, self.timeout());
        let Phase::Connected { state, .. } = &mut self.phase else { return };
        if beats {
            let since = state.touches.since(now, timeout);
            state.beat = Some(Beat { sent: now, since, is_answered: false });
            put_request(&mut self.control, BEAT, OpCode::Sync, |out| PathOnly { path: Some("/".into()) }.write(out));
        } else if pings {
            state.pings.push_back(now);
            put_request(&mut self.control, Xid::PING, OpCode::Ping, |_| {});
        } else {
            return;
        }
        state.sent = now;
    }
}
