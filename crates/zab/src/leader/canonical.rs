//! A leader's part of [`Peer::canonicalize`](crate::Peer::canonicalize) and [`Peer::renamed`](crate::Peer::renamed).

use super::stream::Learner;
use super::{Leader, Progress};
use crate::core::Core;
use crate::io::{Names, WriteId};
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId, Zxid};
use std::collections::BTreeSet;

impl Leader {
    pub(crate) fn canonicalize(&mut self, core: &mut Core, durable: WriteId) {
        if self.progress > Progress::Choosing {
            self.heard.clear();
            self.highest = AcceptedEpoch(0);
        }
        if self.progress > Progress::Gathering {
            self.promised.clear();
            self.elected = (CurrentEpoch(0), Zxid::ZERO);
        }
        self.anonymous = self.learners.values().map(|l| l.server.0).min().unwrap_or(0).min(0);
        for learner in self.learners.values_mut() {
            learner.canonicalize();
        }
        for (id, _) in &mut self.writes {
            *id = id.renumbered(durable);
        }
        self.pinged = 0;
        self.wait_until = 0;
        self.next_timer = 0;
        self.half_ticks = 0;
        self.grace_until = 0;
        if !self.learners.values().any(Learner::reads) {
            core.forget_reads();
        }
    }

    pub(crate) fn rename(&mut self, names: Names<'_>) {
        let all = |set: &BTreeSet<ServerId>| set.iter().map(|s| (names.server)(*s)).collect();
        self.heard = all(&self.heard);
        self.promised = all(&self.promised);
        self.want_snapshot = all(&self.want_snapshot);
        let learners = std::mem::take(&mut self.learners).into_iter().map(|(link, mut learner)| {
            if learner.server.0 >= 0 {
                learner.server = (names.server)(learner.server);
            }
            ((names.link)(link), learner)
        });
        self.learners = learners.collect();
    }
}
