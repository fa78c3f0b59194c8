//! The ephemerals that a session may have while another server leads.
//!
//! The transaction that ends a session lists the paths of its ephemerals. An Apache leader logs and proposes it however
//! long it is (ZOOKEEPER-4306), and then neither it nor any follower can read that again. An end cannot be refused, and
//! comes without anybody's asking when the session expires: so it is the creation that is refused. A leader of Farrier's
//! leaves out a list that is too long.

use crate::conn::{Conn, Waiting};
use crate::io::ConnId;
use crate::replica::Replica;
use core::iter::Sum;
use core::ops::Add;
use farrier_proto::client::{CreateMode, CreateRequest};
use farrier_proto::multi::MultiOp;
use farrier_tree::WriteRequest;

/// Bytes of a length or a count.
const LENGTH: usize = 4;
/// Bytes that a sequence number adds to a path.
const SEQUENCE: usize = 10;
/// The ephemerals of a session are counted anew once this part of those that were counted last, or were created since,
/// is gone: to look at all of them for each request would take too long.
const GONE_PART: usize = 16;

/// Some ephemerals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ephemerals {
    nodes: usize,
    /// Of their paths, as they stand in a list.
    bytes: usize,
}

impl Ephemerals {
    /// What a request creates.
    pub(crate) fn of(request: &WriteRequest<'_>) -> Self {
        match request {
            WriteRequest::Create { request, .. } => Self::created(request),
            WriteRequest::Multi(ops) => ops
                .iter()
                .map(|op| match op {
                    MultiOp::Create { request, .. } => Self::created(request),
                    MultiOp::Delete(_) | MultiOp::SetData(_) | MultiOp::Check(_) => Self::default(),
                })
                .sum(),
            WriteRequest::Delete(_)
            | WriteRequest::SetData(_)
            | WriteRequest::SetAcl(_)
            | WriteRequest::DeleteContainer(_)
            | WriteRequest::CreateSession { .. }
            | WriteRequest::CloseSession
            | WriteRequest::Failed(_) => Self::default(),
        }
    }

    fn created(request: &CreateRequest<'_>) -> Self {
        // A legal path has no character that a Java server writes with more bytes.
        let path = request.path.as_ref().map_or(0, |path| path.len());
        match CreateMode::from_code(request.flags) {
            Some(mode) if mode.is_ephemeral() => {
                Self { nodes: 1, bytes: LENGTH + path + if mode.is_sequential() { SEQUENCE } else { 0 } }
            }
            Some(_) | None => Self::default(),
        }
    }

    const fn fit(self, body_max: usize) -> bool {
        LENGTH + self.bytes <= body_max
    }
}

impl Add for Ephemerals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { nodes: self.nodes + other.nodes, bytes: self.bytes + other.bytes }
    }
}

impl Sum for Ephemerals {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// All ephemerals that a session may have by now: those that were there when they were counted last, and all whose
/// creation was sent to the leader since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    /// The term. In others this server may have led, where nothing is counted.
    epoch: u32,
    sum: Ephemerals,
}

impl Conn {
    /// What was sent to the leader and is not answered yet.
    fn ephemerals_on_their_way(&self) -> Ephemerals {
        let created = |item: &Waiting| match item {
            Waiting::Forwarded { asked, .. } => asked.ephemerals,
            Waiting::Write(_)
            | Waiting::Earlier(_)
            | Waiting::Sync { .. }
            | Waiting::Frame { .. }
            | Waiting::Answer { .. } => Ephemerals::default(),
        };
        self.waiting.iter().map(created).sum()
    }
}

impl Replica {
    /// Whether the end of the connection's session can still be logged when it has these ephemerals too. If so they are
    /// taken to be created.
    ///
    /// Deletions are not followed: what was created is only summed up until that would be too much, and then counted.
    /// What the session's client sent by way of another server a moment ago counts once it is in the tree here.
    pub(crate) fn has_room_for(&mut self, id: ConnId, created: Ephemerals) -> bool {
        if created == Ephemerals::default() {
            return true;
        }
        if !self.leader_may_be_apaches() {
            return true;
        }
        let Some(learning) = self.membership.learning() else { return true };
        let Some(conn) = self.conns.get_mut(id) else { return true };
        let (epoch, body_max) = (learning.epoch, self.prep.body_max());
        let known = conn.ephemerals.filter(|known| known.epoch == epoch).map(|known| known.sum);
        if let Some(sum) = known
            && (sum + created).fit(body_max)
        {
            conn.ephemerals = Some(Counted { epoch, sum: sum + created });
            return true;
        }
        let on_their_way = conn.ephemerals_on_their_way() + learning.left.ephemerals(conn.session);
        let nodes = self.tree.ephemerals_count_of(conn.session);
        if let Some(sum) = known
            && sum.nodes.saturating_sub(nodes + on_their_way.nodes) * GONE_PART < sum.nodes
        {
            return false;
        }
        let bytes = nodes * LENGTH + self.tree.ephemerals_path_bytes(conn.session);
        let sum = Ephemerals { nodes, bytes } + on_their_way;
        let fits = (sum + created).fit(body_max);
        conn.ephemerals = Some(Counted { epoch, sum: if fits { sum + created } else { sum } });
        fits
    }
}
