//! Hand-over of the leadership, as the replica has a part in it: what its clients get meanwhile.
//!
//! Requests that come behind its beginning are not begun. Those before it are answered, since the peer gives the
//! leadership away only once everything is committed; then the connections are closed, and clients find the next
//! leader. Connect requests wait for that leader here.

use crate::io::{Actions, Level, Time};
use crate::members::Membership;
use crate::replica::Replica;
use farrier_zab::HandOverRefused;
use std::collections::BTreeSet;

impl Membership {
    /// Whether this server leads still and hands that over.
    pub(crate) fn is_handing_over(&self) -> bool {
        match self {
            Self::Alone(_) => false,
            Self::Ensemble(m) => m.peer.is_handing_over(),
        }
    }
}

impl Replica {
    /// Whether [`Input::HandOver`](crate::Input::HandOver) would begin.
    ///
    /// # Errors
    /// Why it would not.
    pub fn may_hand_over(&self, now: Time) -> Result<(), HandOverRefused> {
        match &self.membership {
            Membership::Alone(_) => Err(HandOverRefused::NoOtherQuorum { ready: BTreeSet::new() }),
            Membership::Ensemble(m) => m.peer.may_hand_over(now.mono),
        }
    }

    /// Somebody wants another server to lead.
    pub(crate) fn hand_over(&mut self, now: Time, out: &mut Actions) {
        if let Err(refused) = self.begin_hand_over(now) {
            out.note(Level::Warn, format!("the leadership is not handed over: {refused}"));
        }
    }

    /// A leader that stops hands over first, if the others can do without it.
    pub(crate) fn hand_over_to_stop(&mut self, now: Time, out: &mut Actions) {
        match self.begin_hand_over(now) {
            Ok(()) | Err(HandOverRefused::NotLeading { .. } | HandOverRefused::UnderWay) => {}
            Err(refused @ (HandOverRefused::NotEstablished | HandOverRefused::NoOtherQuorum { .. })) => {
                out.note(Level::Info, format!("stopping without a hand-over: {refused}"));
            }
        }
    }

    fn begin_hand_over(&mut self, now: Time) -> Result<(), HandOverRefused> {
        match &mut self.membership {
            Membership::Alone(_) => self.may_hand_over(now),
            Membership::Ensemble(m) => m.peer.hand_over(now.mono, &mut m.outputs),
        }
    }
}
