//! Zab phase 1: the epoch, and the promises for it.

use super::stream::{Learner, Stage};
use super::{Leader, Progress};
use crate::core::{Core, Resign};
use crate::io::{Level, LinkId, Outputs};
use crate::limits::EPOCH_MAX;
use farrier_proto::quorum::{LEARNER_PROTOCOL_VERSION, LeaderPacket, LearnerInfo};
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId, Zxid};
use std::collections::BTreeSet;

impl Leader {
    /// FOLLOWERINFO and OBSERVERINFO.
    #[expect(clippy::too_many_arguments, reason = "the fields of one packet")]
    pub(super) fn info(
        &mut self,
        core: &mut Core,
        now: u64,
        link: LinkId,
        accepted: AcceptedEpoch,
        info: LearnerInfo,
        observer: bool,
        out: &mut Outputs,
    ) {
        let Some(learner) = self.learners.get_mut(&link) else { return };
        if learner.stage != Stage::Connected {
            self.close(link, "PeerViolation: a learner introduces itself once", out);
            return;
        }
        if let Some(reason) = refusal(core, accepted, info) {
            out.note(Level::Warn, format!("a learner is turned away: {reason}"));
            self.close(link, reason, out);
            return;
        }
        if let Some(twin) = info.server.and_then(|s| self.twin(core, now, link, s)) {
            let reason = format!(
                "server {twin} is here already, on another connection, and was heard of a moment ago: two servers have the same myid"
            );
            out.note(Level::Warn, format!("a learner is turned away: {reason}"));
            self.close(link, reason, out);
            return;
        }
        let Some(learner) = self.learners.get_mut(&link) else { return };
        if let Some(server) = info.server.filter(|s| s.0 >= 0) {
            learner.server = server;
        }
        let server = learner.server;
        learner.observer = observer;
        learner.cumulative = info.cumulative && core.config.cumulative;
        learner.votes = !observer && core.ensemble.is_voter(server);
        learner.stage = Stage::Waiting;
        learner.silent_at = None;
        let votes = learner.votes;
        let former = self.learners.iter().find(|(l, other)| **l != link && other.server == server).map(|(l, _)| *l);
        if let Some(former) = former {
            self.close(former, format!("server {server} came again on another link"), out);
        }
        match self.progress {
            Progress::Choosing => {
                self.highest = self.highest.max(accepted);
                if votes || farrier_proto::planted!(ObserversCount) {
                    self.heard.insert(server);
                }
            }
            Progress::Promising => {}
            Progress::Gathering | Progress::Synchronizing => self.offer(core, now, link, out),
            Progress::Broadcasting => {
                if votes {
                    self.highest = self.highest.max(accepted);
                }
                self.offer(core, now, link, out);
            }
        }
    }

    /// Whether there is a server with this id whose link is not only open, but was heard of within a tick. The link of a
    /// server that went away may look open for some time, but nothing is heard on it; so whoever comes again is let in
    /// then.
    fn twin(&self, core: &Core, now: u64, link: LinkId, server: ServerId) -> Option<ServerId> {
        let twin = |l: &Learner| l.server == server && l.heard_within(core, now, core.ticks(1));
        self.learners.iter().any(|(other, l)| *other != link && twin(l)).then_some(server)
    }

    /// One above all promises that were heard of. Nobody hears of it before this server promised it too.
    pub(super) fn choose_epoch(&mut self, core: &mut Core, now: u64, out: &mut Outputs) -> Result<(), Resign> {
        if self.highest.0 >= EPOCH_MAX {
            return Err(Resign::new(
                Level::Error,
                format!("epoch {} is the last one: there is none above", self.highest.0),
            ));
        }
        self.epoch = self.highest.0 + 1;
        assert!(self.epoch > core.history.last().epoch(), "no history is ahead of its server's promise");
        out.note(Level::Info, format!("servers {:?} make it epoch {}", ids(&self.heard), self.epoch));
        core.save_accepted(AcceptedEpoch(self.epoch), out);
        self.progress = Progress::Promising;
        self.wait_until = now + core.ticks(core.config.init_limit);
        Ok(())
    }

    /// The own promise is durable.
    pub(super) fn offer_epoch(&mut self, core: &Core, now: u64, out: &mut Outputs) {
        self.progress = Progress::Gathering;
        self.promised.insert(core.me());
        let waiting: Vec<_> =
            self.learners.iter().filter(|(_, l)| l.stage == Stage::Waiting).map(|(link, _)| *link).collect();
        for link in waiting {
            self.offer(core, now, link, out);
        }
    }

    fn offer(&mut self, core: &Core, now: u64, link: LinkId, out: &mut Outputs) {
        if let Some(learner) = self.learners.get_mut(&link) {
            let packet = LeaderPacket::LeaderInfo {
                epoch: self.epoch,
                protocol_version: LEARNER_PROTOCOL_VERSION,
                cumulative: core.config.cumulative,
            };
            learner.send(link, packet, out);
            learner.stage = Stage::Offered;
            learner.silent_at = Some(now + core.ticks(core.config.init_limit));
        }
    }

    /// ACKEPOCH. Until a quorum promised, somebody with a fresher history should lead instead; after that, what
    /// anybody has beyond ours cannot have been committed. Whoever cannot be elected all the same (it has no weight, or
    /// votes only by what is pending) would depose one leader after the other: its promise does not count instead. What
    /// is committed was acknowledged by somebody of any quorum that promises, who is compared.
    pub(super) fn ack_epoch(
        &mut self,
        core: &mut Core,
        now: u64,
        link: LinkId,
        last_logged: i64,
        current: Option<CurrentEpoch>,
        out: &mut Outputs,
    ) -> Result<(), Resign> {
        let Some(learner) = self.learners.get_mut(&link) else { return Ok(()) };
        if learner.stage != Stage::Offered {
            self.close(link, "PeerViolation: ACKEPOCH answers LEADERINFO, once", out);
            return Ok(());
        }
        learner.stage = Stage::Promised { last_logged };
        learner.silent_at = None;
        let (server, votes) = (learner.server, learner.votes);
        match self.progress {
            Progress::Gathering => {
                if let Some(current) = current
                    && (votes || farrier_proto::planted!(ObserversCount))
                    && last_logged >= 0
                {
                    let theirs = (current, Zxid::from_wire(last_logged));
                    if theirs > self.elected && !farrier_proto::planted!(FresherFollowerIgnored) {
                        let ahead = format!(
                            "server {server} is ahead of this leader: epoch {} and {} against epoch {} and {}",
                            theirs.0.0, theirs.1, self.elected.0.0, self.elected.1
                        );
                        if core.ensemble.may_lead(server) {
                            return Err(Resign::new(Level::Warn, ahead));
                        }
                        out.note(Level::Warn, format!("{ahead}; it cannot be elected, so its promise does not count"));
                        return Ok(());
                    }
                    self.promised.insert(server);
                }
            }
            Progress::Synchronizing | Progress::Broadcasting => self.synchronize(core, now, link, out),
            Progress::Choosing | Progress::Promising => unreachable!("no epoch was offered yet"),
        }
        Ok(())
    }

    /// A quorum promised the epoch: this server's history is the one to be adopted.
    pub(super) fn begin_synchronization(&mut self, core: &mut Core, now: u64, out: &mut Outputs) {
        self.progress = Progress::Synchronizing;
        self.wait_until = now + core.ticks(core.config.init_limit);
        core.save_current(CurrentEpoch(self.epoch), out);
        let ready: Vec<_> = self
            .learners
            .iter()
            .filter(|(_, l)| matches!(l.stage, Stage::Promised { .. }))
            .map(|(link, _)| *link)
            .collect();
        for link in ready {
            self.synchronize(core, now, link, out);
        }
    }
}

/// Why a learner cannot be one of ours.
fn refusal(core: &Core, accepted: AcceptedEpoch, info: LearnerInfo) -> Option<String> {
    if info.server == Some(core.me()) {
        return Some(format!(
            "it claims to be server {}, which is this server: two servers have the same myid",
            core.me()
        ));
    }
    if info.protocol_version < LEARNER_PROTOCOL_VERSION {
        return Some(format!("its protocol version {:#x} is older than ZooKeeper 3.4", info.protocol_version));
    }
    // What is in force there may be what is pending here, and is completed then. Nothing in between: that is in force, and
    // nobody here counts its quorums.
    let ours = core.ensemble.version();
    if info.config_version > ours && info.config_version != core.newest().version() {
        let theirs = info.config_version;
        return Some(format!("it knows configuration {theirs:#x}, which is newer than {ours:#x} here"));
    }
    (accepted.0 >= EPOCH_MAX).then(|| format!("PeerViolation: it promised epoch {}, which cannot be", accepted.0))
}

fn ids(servers: &BTreeSet<ServerId>) -> Vec<i64> {
    servers.iter().map(|s| s.0).collect()
}
