//! What a leader does for the ensemble: requests of its learners, owners of sessions, and who is alive.

use crate::io::{Actions, ConnId, Time};
use crate::limits::ASKED_MAX;
use crate::members::{Membership, Term};
use crate::replica::{Origin, Outstanding, Replica};
use crate::stats::Sizes;
use farrier_proto::quorum::{ForwardedRequest, LearnerPacket};
use farrier_proto::{ErrorCode, OpCode, Reader, SessionId, Zxid};
use farrier_tree::{Identity, WriteRequest};
use farrier_zab::{LinkId, SyncTicket};
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// Where the client of a session is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// To this server.
    Here,
    /// To a learner. One that is gone owns them still: its clients come back by another link, or another server.
    Learner(LinkId),
}

/// A session that this leader does not know, and who asked for it. A leader that was deposed and has not heard of it knows
/// none that was opened since: only a quorum that still follows it shows that the session is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Doubt {
    /// A connection here.
    Conn(ConnId, SessionId),
    /// A learner, with the timeout that its client is to have, in milliseconds.
    Learner(LinkId, SessionId, i32),
}

/// Whether a quorum is asked about a session that is not known here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Doubted {
    /// It is.
    Asked,
    /// There is nobody else who could know it.
    Never,
    /// Too much waits for a quorum already. The session can be neither refused nor taken back.
    TooMany,
}

/// An established leadership.
#[derive(Debug)]
pub(crate) struct Leading {
    pub(crate) epoch: u32,
    owners: HashMap<SessionId, Owner, foldhash::fast::FixedState>,
    /// Answered once a quorum confirmed this leader.
    doubts: BTreeMap<SyncTicket, Doubt>,
    /// The round of pings that every learner has to answer before a session may expire. A process that was stopped
    /// finds answers in its sockets that were given long ago; only those to later pings tell who was heard of
    /// meanwhile (safety contract 5.2).
    pub(crate) awaited_round: u64,
    /// Monotonic milliseconds of its establishment.
    pub(crate) since: u64,
    pub(crate) proposal_sizes: Sizes,
}

impl Leading {
    pub(crate) fn new(epoch: u32, now: u64) -> Self {
        let owners = HashMap::default();
        Self { epoch, owners, doubts: BTreeMap::new(), awaited_round: 0, since: now, proposal_sizes: Sizes::default() }
    }

    /// The session moved.
    pub(crate) fn give(&mut self, session: SessionId, owner: Owner) {
        self.owners.insert(session, owner);
    }

    /// Whether the session's requests may come from there. Behind a change of leadership, the first who sends one
    /// owns it.
    pub(crate) fn claim(&mut self, session: SessionId, owner: Owner) -> bool {
        *self.owners.entry(session).or_insert(owner) == owner || farrier_proto::planted!(MovedSessionServed)
    }

    pub(crate) fn closed(&mut self, session: SessionId) {
        self.owners.remove(&session);
    }
}

impl Replica {
    pub(crate) fn learner_says(&mut self, now: Time, link: LinkId, packet: LearnerPacket, out: &mut Actions) {
        if self.membership.leading().is_none() {
            return;
        }
        match packet {
            LearnerPacket::Request(request) => self.learners_request(now, link, &request, out),
            LearnerPacket::Revalidate { session, timeout } => {
                if self.tracker.contains(session) {
                    return self.answer_revalidate(now, link, session, timeout);
                }
                match self.doubt(now, Doubt::Learner(link, session, timeout)) {
                    Doubted::Asked => {}
                    Doubted::Never => self.answer_revalidate(now, link, session, timeout),
                    Doubted::TooMany => {
                        let reason = "too many sessions wait for a quorum to confirm that they are gone".to_owned();
                        self.drop_link(now, link, reason, out);
                    }
                }
            }
            LearnerPacket::Ping { zxid: _, touched } => {
                for (session, timeout) in touched {
                    self.tracker.touch_with(session, timeout, now);
                }
            }
            LearnerPacket::FollowerInfo { .. }
            | LearnerPacket::ObserverInfo { .. }
            | LearnerPacket::AckEpoch { .. }
            | LearnerPacket::Ack { .. } => unreachable!("the peer deals with {packet:?} itself"),
        }
    }

    fn answer_revalidate(&mut self, now: Time, link: LinkId, session: SessionId, timeout: i32) {
        let valid = self.tracker.touch_with(session, timeout, now) && !self.prep.is_closing(session);
        let Some(leading) = self.membership.leading() else { return };
        if valid && !farrier_proto::planted!(SessionStaysBehind) {
            leading.give(session, Owner::Learner(link));
        }
        // A learner matches transactions with requests by numbers that many clients begin anew on each connection. It keeps those
        // apart that it was asked for itself since it joined; what came by another way is over before the session is there.
        let elsewhere =
            |o: &&Outstanding| o.session == session && !matches!(o.origin, Origin::Learner(by) if by == link);
        let after = self.outstanding.iter().rev().find(elsewhere).map_or(Zxid::ZERO, |o| o.zxid);
        let after = if farrier_proto::planted!(SessionOrderLost) { Zxid::ZERO } else { after };
        if let Some(m) = self.membership.members() {
            m.peer.answer_revalidate(now.mono, link, session, valid, after, &mut m.outputs);
        }
    }

    /// Asks a quorum before a session that nobody knows here is refused.
    pub(crate) fn doubt(&mut self, now: Time, doubt: Doubt) -> Doubted {
        let Membership::Ensemble(m) = &mut self.membership else { return Doubted::Never };
        if farrier_proto::planted!(UnknownSessionRefused) {
            return Doubted::Never;
        }
        let ticket = m.ticket();
        let Term::Leading(leading) = &mut m.term else { return Doubted::TooMany };
        if leading.doubts.len() >= ASKED_MAX {
            return Doubted::TooMany;
        }
        leading.doubts.insert(ticket, doubt);
        if m.peer.sync(now.mono, ticket, &mut m.outputs) {
            return Doubted::Asked;
        }
        leading.doubts.remove(&ticket);
        Doubted::TooMany
    }

    /// A quorum confirmed that nothing was missed. False if the ticket is of a sync.
    pub(crate) fn undoubted(&mut self, now: Time, ticket: SyncTicket, out: &mut Actions) -> bool {
        let Some(doubt) = self.membership.leading().and_then(|l| l.doubts.remove(&ticket)) else { return false };
        match doubt {
            Doubt::Conn(id, session) => {
                if self.conns.contains(id) {
                    self.reattach_here(now, id, session, out);
                }
            }
            Doubt::Learner(link, session, timeout) => self.answer_revalidate(now, link, session, timeout),
        }
        true
    }

    /// Turns a request of a learner's client into a transaction, always: the learner waits for one.
    fn learners_request(&mut self, now: Time, link: LinkId, asked: &ForwardedRequest, out: &mut Actions) {
        let session = asked.session;
        let known = self.tracker.touch(session, now);
        let op = OpCode::from_code(asked.op);
        if op == Some(OpCode::Sync) {
            if let Some(m) = self.membership.members() {
                m.peer.sync_learner(now.mono, link, &mut m.outputs);
            }
            return;
        }
        let Some(leading) = self.membership.leading() else { return };
        let mut body = Reader::new(&asked.body);
        let mut origin = Origin::Learner(link);
        let request = match op {
            Some(OpCode::CreateSession) => match body.i32() {
                Ok(timeout) => {
                    leading.give(session, Owner::Learner(link));
                    WriteRequest::CreateSession { timeout }
                }
                Err(_) => WriteRequest::Failed(ErrorCode::MarshallingError),
            },
            // Whoever has the session's number and password may end it, wherever it is attached, as in Apache.
            Some(OpCode::CloseSession) => {
                self.tracker.remove(session);
                WriteRequest::CloseSession
            }
            _ if known && !leading.claim(session, Owner::Learner(link)) => {
                // Not the learner's own: its connection may be gone, and nobody there keep this apart, when the session is back.
                origin = Origin::Server;
                WriteRequest::Failed(ErrorCode::SessionMoved)
            }
            Some(op) if op.is_write() && op != OpCode::DeleteContainer => {
                self.decode_write(op, &mut body).unwrap_or(WriteRequest::Failed(ErrorCode::MarshallingError))
            }
            Some(_) | None => WriteRequest::Failed(ErrorCode::Unimplemented),
        };
        let identities: Vec<Identity> =
            asked.identities.iter().map(|(scheme, id)| Identity::new(&scheme, &*id)).collect();
        self.propose(now, session, asked.cxid, &identities, request, origin, out);
    }

    /// Asks a quorum whether this server leads still, for a client of its own.
    pub(crate) fn ask_quorum(&mut self, now: Time, id: ConnId) -> Option<SyncTicket> {
        let Membership::Ensemble(m) = &mut self.membership else { return None };
        let ticket = m.ticket();
        if !m.peer.sync(now.mono, ticket, &mut m.outputs) {
            return None;
        }
        m.syncs.push_back((ticket, id));
        Some(ticket)
    }
}
