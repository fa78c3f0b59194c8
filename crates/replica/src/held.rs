//! Connect requests that arrive while there is no leader: they wait for the end of the election, for a bounded
//! time, so that clients need not look for another server that would be no better (safety contract 6).

use crate::conn::Phase;
use crate::io::{Actions, ConnId, Time};
use crate::limits::{HELD_FRAME_MAX, HELD_MAX, HELD_MS_MAX};
use crate::replica::Replica;

/// A connect request that waits.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) conn: ConnId,
    frame: Box<[u8]>,
    /// When its connection is closed.
    pub(crate) until: u64,
}

impl Replica {
    pub(crate) fn hold(&mut self, now: Time, id: ConnId, frame: &[u8], out: &mut Actions) {
        let Some(members) = self.membership.members() else { return };
        if members.held.len() >= HELD_MAX || frame.len() > HELD_FRAME_MAX {
            return self.close(id, out);
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.phase = Phase::Held;
        members.held.push_back(Held { conn: id, frame: frame.into(), until: now.mono + HELD_MS_MAX });
        self.balance(id, out);
    }

    /// Closes the connections that waited long enough.
    pub(crate) fn drop_overdue(&mut self, now: Time, out: &mut Actions) {
        while let Some(members) = self.membership.members()
            && let Some(front) = members.held.pop_front_if(|h| h.until <= now.mono)
        {
            self.close(front.conn, out);
        }
    }

    /// There is a leader: answers what waited for it.
    pub(crate) fn admit_held(&mut self, now: Time, out: &mut Actions) {
        let Some(members) = self.membership.members() else { return };
        for held in std::mem::take(&mut members.held) {
            let Some(conn) = self.conns.get_mut(held.conn) else { continue };
            conn.phase = Phase::Fresh;
            self.connect(now, held.conn, &held.frame, out);
            self.balance(held.conn, out);
        }
    }
}
