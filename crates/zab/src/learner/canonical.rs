//! A learner's part of [`Peer::canonicalize`](crate::Peer::canonicalize) and [`Peer::renamed`](crate::Peer::renamed).

use super::{Learner, Stage};
use crate::io::{Names, WriteId};

impl Learner {
    pub(crate) fn canonicalize(&mut self, durable: WriteId) {
        self.deadline = self.deadline.map(|_| 0);
        match &mut self.stage {
            Stage::Connecting(stage) => stage.canonicalize(),
            Stage::Promising(stage) => stage.canonicalize(durable),
            Stage::Cutting(stage) => stage.canonicalize(durable),
            Stage::Receiving(stage) => stage.canonicalize(durable),
            Stage::Adopting(stage) => stage.canonicalize(durable),
            Stage::Adopted(stage) => stage.canonicalize(durable),
            Stage::Broadcast(stage) => stage.canonicalize(durable),
            Stage::Discovering(_) | Stage::Choosing(_) | Stage::Left => {}
        }
    }

    pub(crate) fn rename(&mut self, names: Names<'_>) {
        self.leader = (names.server)(self.leader);
        if let Some(link) = &mut self.link {
            link.id = (names.link)(link.id);
            link.leader = (names.server)(link.leader);
        }
    }
}
