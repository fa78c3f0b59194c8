//! Fast leader election: Zab phase 0.
//!
//! Each server proposes whom it would follow, itself at first, and takes over a better proposal when it hears of
//! one; a quorum of equal proposals of one round ends the election. A server that comes late joins the leader
//! whom a quorum already has. The result is a hint: discovery finds out whether the leader can lead. So nothing
//! here is written to disk, and no message is trusted beyond its sender's word.
//!
//! A server that votes only by what is pending has no proposal of its own until it hears of one.
//!
//! A server that may not vote (an observer, one that may have forgotten, or one that handed its leadership over)
//! runs the same loop without a proposal of its own, and never tells what it heard: it would count as a vote.

#[cfg(test)]
mod tests;

use crate::config::Recovering;
use crate::core::Core;
use crate::io::{Level, Names, Output, Outputs};
use crate::limits::{LOOKING_TOLD, NOTIFICATION_INTERVAL_MIN};
use farrier_proto::ServerId;
use farrier_proto::quorum::{ElectionRound, Notification, ServerState, Vote};
use std::collections::{BTreeMap, BTreeSet};

/// How an election ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Elected {
    pub(crate) vote: Vote,
    pub(crate) round: ElectionRound,
}

/// An election in progress.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Election {
    round: ElectionRound,
    /// What this server has to offer; [`Vote::NONE`] if it does not stand.
    initial: Vote,
    /// The best vote of this round.
    proposal: Vote,
    /// The last word of each voter in this round, this server's own included.
    votes: BTreeMap<ServerId, Ballot>,
    /// Voters that said they have no voice: nobody waits for their votes.
    voiceless: BTreeSet<ServerId>,
    /// What servers with a leader say, in whatever round they elected it.
    established: BTreeMap<ServerId, Ballot>,
    /// Voters that were asked in an earlier round, and have not heard this server's vote since then.
    asked: BTreeSet<ServerId>,
    /// Links as of the last look.
    links: BTreeSet<ServerId>,
    /// When the proposal is repeated, and the interval before that.
    resend_at: u64,
    interval: u64,
    /// When the proposal, which has a quorum, wins.
    finalize_at: Option<u64>,
}

/// A vote as it was cast.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Ballot {
    vote: Vote,
    round: ElectionRound,
    state: ServerState,
    /// Whether the message was older than 3.4, in which the epoch of an established vote means nothing.
    ancient: bool,
}

impl Ballot {
    const fn looking(vote: Vote, round: ElectionRound) -> Self {
        Self { vote, round, state: ServerState::Looking, ancient: true }
    }

    const fn of(n: &Notification) -> Self {
        Self { vote: n.vote, round: n.round, state: n.state, ancient: n.version <= 0 }
    }

    /// Whether two ballots are for the same leadership. The zxid and the round of an established vote are not the
    /// same on all members, so they count only where somebody looks.
    fn agrees(&self, other: &Self) -> bool {
        if self.state == ServerState::Looking || other.state == ServerState::Looking {
            self.vote == other.vote && self.round == other.round
        } else {
            self.vote.leader == other.vote.leader
                && (self.ancient != other.ancient || self.vote.peer_epoch == other.vote.peer_epoch)
        }
    }
}

impl Election {
    pub(crate) fn new(core: &Core) -> Self {
        let initial = if core.stands() {
            Vote { leader: core.me(), zxid: core.history.last().to_wire(), peer_epoch: i64::from(core.current.0) }
        } else {
            Vote::NONE
        };
        // Whoever votes and does not stand waits for the round of the others: what names nobody moves them to no later one.
        let waits = core.may_vote() && initial == Vote::NONE;
        Self {
            // A peer may have named the last of all rounds.
            round: if waits { ElectionRound::default() } else { ElectionRound(core.round.0.saturating_add(1)) },
            initial,
            proposal: initial,
            votes: BTreeMap::new(),
            voiceless: BTreeSet::new(),
            established: BTreeMap::new(),
            asked: BTreeSet::new(),
            links: core.election_links.clone(),
            resend_at: 0,
            interval: NOTIFICATION_INTERVAL_MIN.min(core.config.notification_interval_max),
            finalize_at: None,
        }
    }

    /// Votes for itself, if it stands, and tells the others. A server that is alone elects itself at once.
    pub(crate) fn start(&mut self, core: &mut Core, now: u64, out: &mut Outputs) -> Option<Elected> {
        assert!(core.is_settled(), "a vote quotes only what is durable");
        self.resend_at = now + self.interval;
        self.propose(core, self.initial, out);
        self.decide(core, now)
    }

    pub(crate) fn notification(
        &mut self,
        core: &mut Core,
        now: u64,
        from: ServerId,
        n: Notification,
        out: &mut Outputs,
    ) -> Option<Elected> {
        if from == core.me() {
            return None;
        }
        if !core.ensemble.is_voter(from) {
            // Votes of an earlier round are of no use to it; and whoever tells us that we are behind is not told
            // again, without end.
            if n.state == ServerState::Looking && n.round <= self.round {
                self.tell(core, from, out);
            }
            return None;
        }
        if core.recovering == Recovering::Fresh
            && n.vote.peer_epoch > 0
            && !farrier_proto::planted!(FreshDirectoryVotes)
        {
            out.note(
                Level::Warn,
                format!("this directory is empty, and server {from} knows epoch {}: no vote before everything came from the leader", n.vote.peer_epoch),
            );
            core.raise_recovering(out);
            self.initial = Vote::NONE;
            self.proposal = Vote::NONE;
            self.votes.clear();
            self.finalize_at = None;
        }
        match n.state {
            ServerState::Looking => {
                if core.recovering == Recovering::Promise {
                    // It waits for others to elect, and they begin: soon there is somebody to join. They answer, so that
                    // asking at once each time would leave Apache's servers no time to end their election (`longer`).
                    let wait = (2 * core.config.finalize_wait).min(core.config.notification_interval_max);
                    self.interval = self.interval.min(wait);
                    self.resend_at = self.resend_at.min(now + wait);
                }
                self.looking(core, from, &n, out);
                self.decide(core, now)
            }
            ServerState::Following | ServerState::Leading => self.established(core, now, from, &n),
            ServerState::Observing => None,
        }
    }

    /// A link came or went: whom to wait for has changed, and who comes has missed what was said. Who goes is
    /// probably dead: its word is forgotten, and it says it again when it comes back.
    pub(crate) fn links_changed(&mut self, core: &mut Core, now: u64, out: &mut Outputs) -> Option<Elected> {
        for peer in core.election_links.difference(&self.links) {
            if core.ensemble.is_voter(*peer) && *peer != core.me() {
                self.tell(core, *peer, out);
            }
        }
        for peer in self.links.difference(&core.election_links) {
            self.votes.remove(peer);
            self.voiceless.remove(peer);
            self.established.remove(peer);
            self.asked.remove(peer);
        }
        self.links.clone_from(&core.election_links);
        self.decide(core, now)
    }

    pub(crate) fn timer(&mut self, core: &mut Core, now: u64, out: &mut Outputs) -> Option<Elected> {
        if self.resend_at <= now {
            if self.interval >= LOOKING_TOLD {
                self.tell_operator(core, out);
            }
            self.interval = self.longer(core);
            self.resend_at = now + self.interval;
            self.repeat(core, out);
        }
        self.decide(core, now)
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        Some(self.finalize_at.map_or(self.resend_at, |at| at.min(self.resend_at)))
    }

    /// See [`Peer::canonicalize`](crate::Peer::canonicalize).
    pub(crate) fn canonicalize(&mut self) {
        self.resend_at = 0;
        self.interval = NOTIFICATION_INTERVAL_MIN;
        self.finalize_at = self.finalize_at.map(|_| 0);
    }

    /// See [`Peer::renamed`](crate::Peer::renamed).
    pub(crate) fn rename(&mut self, names: Names<'_>) {
        let server = |s: &ServerId| (names.server)(*s);
        for vote in [&mut self.initial, &mut self.proposal] {
            if *vote != Vote::NONE {
                vote.leader = server(&vote.leader);
            }
        }
        for ballots in [&mut self.votes, &mut self.established] {
            let renamed = std::mem::take(ballots).into_iter().map(|(s, mut ballot)| {
                ballot.vote.leader = server(&ballot.vote.leader);
                (server(&s), ballot)
            });
            *ballots = renamed.collect();
        }
        self.voiceless = self.voiceless.iter().map(server).collect();
        self.asked = self.asked.iter().map(server).collect();
        self.links = self.links.iter().map(server).collect();
    }

    /// A voter looks for a leader as well.
    fn looking(&mut self, core: &Core, from: ServerId, n: &Notification, out: &mut Outputs) {
        // It has left whomever it had.
        self.established.remove(&from);
        let behind = n.round < self.round;
        // In the same round it may have missed our vote: nothing is heard between two roles. Who has no voice would
        // tell nothing, and be answered at once, without end.
        let missed = self.asked.remove(&from) || newer(core, self.proposal, n.vote);
        if core.may_vote() && (behind || (n.round == self.round && missed)) {
            self.tell(core, from, out);
        }
        if n.vote == Vote::NONE {
            self.voiceless.insert(from);
        } else {
            self.voiceless.remove(&from);
        }
        if behind || !has_voice(core, n.vote) {
            return;
        }
        if n.round > self.round {
            self.round = n.round;
            self.votes.clear();
            let better = newer(core, n.vote, self.initial);
            self.propose(core, if better { n.vote } else { self.initial }, out);
        } else if newer(core, n.vote, self.proposal) {
            self.propose(core, n.vote, out);
        }
        self.votes.insert(from, Ballot::looking(n.vote, n.round));
    }

    /// A voter has a leader, or is one.
    fn established(&mut self, core: &Core, now: u64, from: ServerId, n: &Notification) -> Option<Elected> {
        if !core.ensemble.is_voter(n.vote.leader) {
            return None;
        }
        let said = Ballot::of(n);
        let mut joins = false;
        if n.round == self.round {
            // Kept without its version, as Apache does: against a newer message only the leader counts.
            self.votes.insert(from, Ballot { ancient: true, ..said });
            joins = self.may_join(core, &self.votes, &said);
        }
        self.established.insert(from, said);
        if joins || self.may_join(core, &self.established, &said) {
            return Some(Elected { vote: n.vote, round: n.round });
        }
        self.decide(core, now)
    }

    /// Whether a quorum has this leader, and it leads: by its own word, or, if we are meant, in our round.
    fn may_join(&self, core: &Core, ballots: &BTreeMap<ServerId, Ballot>, said: &Ballot) -> bool {
        let leader = said.vote.leader;
        let leads = if leader == core.me() {
            self.round == said.round && core.may_vote() && core.ensemble.weight(leader) > 0
        } else {
            ballots.get(&leader).is_some_and(|b| b.state == ServerState::Leading)
        };
        leads && core.ensemble.is_quorum(&supporters(ballots, said))
    }

    /// Ends the election if the proposal has a quorum, and either everybody whom we could hear agrees or nothing
    /// better was heard for a while.
    fn decide(&mut self, core: &Core, now: u64) -> Option<Elected> {
        // Who forgot its promises must not be counted in the choice of an epoch, so it waits for others to elect.
        if core.recovering == Recovering::Promise {
            return None;
        }
        let supporters = supporters(&self.votes, &Ballot::looking(self.proposal, self.round));
        if !core.ensemble.is_quorum(&supporters) {
            self.finalize_at = None;
            return None;
        }
        let unanimous = core
            .election_links
            .iter()
            .filter(|s| core.ensemble.is_voter(**s) && **s != core.me())
            .all(|s| supporters.contains(s) || self.voiceless.contains(s));
        let finalize_at = *self.finalize_at.get_or_insert(now + core.config.finalize_wait);
        (unanimous || finalize_at <= now).then_some(Elected { vote: self.proposal, round: self.round })
    }

    fn propose(&mut self, core: &Core, vote: Vote, out: &mut Outputs) {
        self.proposal = vote;
        self.finalize_at = None;
        if core.may_vote() {
            self.votes.insert(core.me(), Ballot::looking(vote, self.round));
        }
        self.tell_all(core, out);
    }

    fn tell_all(&self, core: &Core, out: &mut Outputs) {
        for voter in core.ensemble.electors().filter(|voter| *voter != core.me()) {
            self.tell(core, voter, out);
        }
    }

    /// For whom this server waits. Said with the repetitions, and so more and more rarely.
    fn tell_operator(&self, core: &Core, out: &mut Outputs) {
        let (mut heard, mut voiceless, mut silent, mut away) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for voter in core.ensemble.electors().filter(|voter| *voter != core.me()) {
            let said = [&self.votes, &self.established].iter().any(|ballots| ballots.contains_key(&voter));
            let list = match (self.voiceless.contains(&voter), said, core.election_links.contains(&voter)) {
                (true, _, _) => &mut voiceless,
                (false, true, _) => &mut heard,
                (false, false, true) => &mut silent,
                (false, false, false) => &mut away,
            };
            list.push(voter.0);
        }
        let mut text = format!("no leader yet: servers {heard:?} were heard");
        if !voiceless.is_empty() {
            text += &format!(", {voiceless:?} have no vote to give yet");
        }
        if !silent.is_empty() {
            text += &format!(", {silent:?} are connected and say nothing");
        }
        if !away.is_empty() {
            text += &format!(", {away:?} are not connected");
        }
        if let Some(pending) = core.ensemble.pending() {
            let (version, voters) = (pending.version(), pending.voters().iter().map(|s| s.0).collect::<Vec<_>>());
            text +=
                &format!("; configuration {version:#x} may come into force, so a quorum of {voters:?} is needed, too");
            if core.shown.as_ref().is_some_and(|shown| shown.version() == version) {
                let newer = version.saturating_add(1);
                text += &format!(
                    ". The state shows it and no log does: if this directory is a copy from another ensemble, let \
                     dynamicConfigFile name the members in a file zoo.cfg.dynamic.{newer:x}, on every server"
                );
            }
        }
        out.note(Level::Warn, text);
    }

    /// Until the next repetition. What a voter without a voice says is no vote, but Apache's servers, who have a quorum
    /// and wait for 200 ms whether anything better comes, begin to wait anew with whatever comes
    /// (`FastLeaderElection.lookForLeader`): so behind its first word it keeps silent for longer than that.
    fn longer(&self, core: &Core) -> u64 {
        let silent = !core.may_vote() && core.ensemble.is_voter(core.me());
        let least = if silent { 2 * core.config.finalize_wait } else { 1 };
        (2 * self.interval).max(least).min(core.config.notification_interval_max).max(1)
    }

    /// Says it again, and asks those of whom nothing was heard. One of Apache's servers that looks for a leader, too, and
    /// has a better vote has told it already, perhaps before this server listened, and says it again only if nothing
    /// comes for a while, which this server's own words prevent. Who is in an earlier round is answered at once
    /// (`FastLeaderElection.WorkerReceiver`), and by whoever has a leader as well.
    fn repeat(&mut self, core: &Core, out: &mut Outputs) {
        for voter in core.ensemble.electors().filter(|voter| *voter != core.me()) {
            let heard = [&self.votes, &self.established].iter().any(|ballots| ballots.contains_key(&voter));
            if heard || self.voiceless.contains(&voter) || !core.may_vote() {
                self.tell(core, voter, out);
            } else {
                self.asked.insert(voter);
                notify(core, voter, ServerState::Looking, self.proposal, ElectionRound::default(), out);
            }
        }
    }

    fn tell(&self, core: &Core, to: ServerId, out: &mut Outputs) {
        let vote = if core.may_vote() { self.proposal } else { Vote::NONE };
        notify(core, to, ServerState::Looking, vote, self.round, out);
    }
}

/// What a server that has a leader, or is one, says to somebody who looks for one.
pub(crate) fn answer(core: &Core, state: ServerState, from: ServerId, n: &Notification, out: &mut Outputs) {
    match n.state {
        ServerState::Looking if from != core.me() => notify(core, from, state, core.vote, core.round, out),
        ServerState::Looking | ServerState::Following | ServerState::Leading | ServerState::Observing => {}
    }
}

/// Asks all others whom they follow, without a vote.
pub(crate) fn inquire(core: &Core, out: &mut Outputs) {
    for voter in core.ensemble.electors().filter(|voter| *voter != core.me()) {
        notify(core, voter, ServerState::Looking, Vote::NONE, core.round, out);
    }
}

fn notify(core: &Core, to: ServerId, state: ServerState, vote: Vote, round: ElectionRound, out: &mut Outputs) {
    let config = Some(core.ensemble.text().clone());
    let notification = Notification { state, vote, round, version: Notification::VERSION, config };
    out.push(Output::Notify { to, notification });
}

/// Whether the sender of a vote has something to say about who leads. Observers have `i64::MIN`; -1 is the zxid of
/// an Apache server whose empty directory is not to be trusted.
fn has_voice(core: &Core, vote: Vote) -> bool {
    core.ensemble.is_voter(vote.leader) && vote.zxid != -1 && vote.zxid != i64::MIN
}

/// Whether a vote is better than another. A leader without weight never is; nor is a server without a voice in its
/// own eyes, whatever it said before it forgot. One that does not stand takes over what others say of it all the same:
/// it did stand a moment ago, and they wait for its vote.
fn newer(core: &Core, new: Vote, current: Vote) -> bool {
    if farrier_proto::planted!(VoteIgnoresHistory) {
        return new.leader > current.leader && (new.leader != core.me() || core.may_vote());
    }
    core.ensemble.weight(new.leader) > 0 && (new.leader != core.me() || core.may_vote()) && new > current
}

fn supporters(ballots: &BTreeMap<ServerId, Ballot>, of: &Ballot) -> BTreeSet<ServerId> {
    ballots.iter().filter(|(_, b)| b.agrees(of)).map(|(s, _)| *s).collect()
}
