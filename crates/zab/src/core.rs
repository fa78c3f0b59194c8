//! What every role of a server shares.

use crate::config::{Config, Ensemble, Recovering};
use crate::history::History;
use crate::io::{Level, Names, Output, Outputs, ReadId, WriteId};
use bytes::Bytes;
use farrier_proto::quorum::{ElectionRound, Vote};
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId, Zxid};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;

/// Durable numbers, the history, the members; and the names of writes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) ensemble: Ensemble,
    /// The newest configuration in the log; if it is not in force, it is pending.
    pub(crate) logged: Option<Ensemble>,
    /// The one that the state shows, if it is in no log of this server: pending as well, and never completed.
    pub(crate) shown: Option<Ensemble>,
    /// The one of the last NEWLEADER, if it is newer than the one in force: pending as well. See [`crate::activate`].
    pub(crate) told: Option<Ensemble>,
    /// What the disk says, never ahead of it.
    pub(crate) accepted: AcceptedEpoch,
    /// What the disk says, never ahead of it.
    pub(crate) current: CurrentEpoch,
    pub(crate) recovering: Recovering,
    pub(crate) history: History,
    /// Servers with whose election port there is a connection.
    pub(crate) election_links: BTreeSet<ServerId>,
    /// Of the last election; only grows.
    pub(crate) round: ElectionRound,
    /// What this server answers to those that look for a leader while it has one. Its epoch becomes the new one
    /// when the leader is established.
    pub(crate) vote: Vote,
    /// How learning from a leader ended the last time.
    pub(crate) setback: Option<Setback>,
    /// Behind a hand-over this server has no voice until then, or until another one leads.
    pub(crate) silent_until: Option<u64>,
    /// The last leader was not as far as this server, which only votes by what is pending, and did not get on without
    /// it: so this server stands in the next election.
    pub(crate) passed_over: bool,
    /// Whom a reconfiguration made the leader: joined without an election.
    pub(crate) designated: Option<ServerId>,
    /// The state is not the one that the log makes (safety contract 7): it is loaded again from disk when the role ends.
    pub(crate) diverged: bool,
    /// The leader of this epoch is to give its state, whatever the log here has.
    pub(crate) state_wanted: Option<u32>,
    last_write: WriteId,
    durable: WriteId,
    last_read: ReadId,
    /// Writes that change what this struct says once they are done, in order.
    changing: VecDeque<(WriteId, Changing)>,
}

/// The end of learning from a leader. Whoever is elected may be joined at once, but who was left a moment ago waits:
/// two servers that do not get on must not go round in circles as fast as they can.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Setback {
    pub(crate) leader: ServerId,
    /// Doubled each time.
    pub(crate) pause: u64,
    /// Until then the leader is not dialled.
    pub(crate) until: u64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Changing {
    Accepted(AcceptedEpoch),
    Current(CurrentEpoch),
    Truncate(Zxid),
}

impl Core {
    pub(crate) fn new(config: Config, ensemble: Ensemble, durable: crate::config::Durable) -> Self {
        let told = ensemble.pending().cloned();
        Self {
            config,
            ensemble,
            logged: None,
            shown: None,
            told,
            accepted: durable.accepted,
            current: durable.current,
            recovering: if farrier_proto::planted!(ForgetfulServerVotes) { Recovering::No } else { durable.recovering },
            history: History::new(durable.last_logged),
            election_links: BTreeSet::new(),
            round: ElectionRound::default(),
            vote: Vote::NONE,
            setback: None,
            silent_until: None,
            passed_over: false,
            designated: None,
            diverged: false,
            state_wanted: None,
            last_write: WriteId(0),
            durable: WriteId(0),
            last_read: ReadId(0),
            changing: VecDeque::new(),
        }
    }

    /// This server.
    pub(crate) const fn me(&self) -> ServerId {
        self.config.server
    }

    /// Whether this server may vote: it is a voter, has not forgotten anything, and did not just hand over.
    pub(crate) fn may_vote(&self) -> bool {
        !self.recovering.is_voiceless() && self.silent_until.is_none() && self.ensemble.is_voter(self.me())
    }

    /// Whether this server proposes itself: if it may vote, and votes by what is in force. One that is to vote by what is
    /// pending tells what it takes over from others, as Apache's servers do (`FastLeaderElection.getInitId`): those that do
    /// not know what is pending would not take it for a voter, and theirs cannot dial it. It stands all the same if
    /// nobody gets on without what it alone has ([`Self::passed_over`]).
    pub(crate) fn stands(&self) -> bool {
        self.may_vote() && (self.passed_over || self.ensemble.voters().contains(&self.me()))
    }

    /// A fresh name for a write.
    pub(crate) const fn write_id(&mut self) -> WriteId {
        self.last_write = WriteId(self.last_write.0 + 1);
        self.last_write
    }

    /// A fresh name for a read.
    pub(crate) const fn read_id(&mut self) -> ReadId {
        self.last_read = ReadId(self.last_read.0 + 1);
        self.last_read
    }

    /// Notes a completion, before any role hears of it. `done` is false for a truncation that was refused.
    pub(crate) fn completed(&mut self, id: WriteId, done: bool) {
        assert!(id <= self.last_write, "a completion quotes a write that was asked for");
        self.durable = self.durable.max(id);
        while let Some((_, change)) = self.changing.pop_front_if(|(due, _)| *due <= id) {
            match change {
                Changing::Accepted(epoch) => self.accepted = epoch,
                Changing::Current(epoch) => {
                    self.current = epoch;
                    self.recovering = Recovering::No;
                }
                Changing::Truncate(after) => {
                    if done {
                        self.diverged = false;
                        self.history.truncate(after);
                    }
                }
            }
            assert!(self.current.0 <= self.accepted.0, "no epoch is adopted that was not promised");
        }
    }

    /// Promises an epoch: [`Self::accepted`] has it once it is durable.
    pub(crate) fn save_accepted(&mut self, epoch: AcceptedEpoch, out: &mut Outputs) -> WriteId {
        assert!(epoch > self.accepted, "promises only grow");
        let id = self.write_id();
        self.changing.push_back((id, Changing::Accepted(epoch)));
        out.push(Output::SaveAcceptedEpoch { id, epoch });
        id
    }

    /// The ensemble has a history that this server, whose disk is empty, may have had a part in: it has no voice from
    /// now on, also after a restart (safety contract 3).
    pub(crate) fn raise_recovering(&mut self, out: &mut Outputs) {
        self.recovering = Recovering::Promise;
        let id = self.write_id();
        out.push(Output::RaiseRecovering { id });
    }

    /// The same while this server has chosen a leader: it may have been elected by words of long ago (a link repeats the
    /// last one), or be deposed, and the promise that would have kept this server from it is lost. So the role ends, and
    /// the server joins a leader whom a quorum has without it.
    pub(crate) fn learn_of_history(&mut self, why: fmt::Arguments<'_>, out: &mut Outputs) -> Result<(), Resign> {
        if self.recovering != Recovering::Fresh || farrier_proto::planted!(FreshDirectoryVotes) {
            return Ok(());
        }
        self.raise_recovering(out);
        Err(Resign::new(
            Level::Warn,
            format!(
                "this directory is empty, and {why}: no vote before everything came from a leader whom a quorum follows"
            ),
        ))
    }

    /// Adopts an epoch: [`Self::current`] has it once it is durable, and everything before it is.
    pub(crate) fn save_current(&mut self, epoch: CurrentEpoch, out: &mut Outputs) -> WriteId {
        let id = self.write_id();
        self.changing.push_back((id, Changing::Current(epoch)));
        out.push(Output::SaveCurrentEpoch { id, epoch });
        id
    }

    /// Makes the adopted state the disk's history, and adopts the epoch.
    pub(crate) fn install(&mut self, epoch: CurrentEpoch, out: &mut Outputs) -> WriteId {
        let id = self.write_id();
        self.changing.push_back((id, Changing::Current(epoch)));
        out.push(Output::InstallSnapshot { id, zxid: self.history.delivered(), epoch });
        id
    }

    /// Cuts the log. The history in memory is cut when it is done; nothing may be appended before.
    pub(crate) fn truncate(&mut self, after: Zxid, out: &mut Outputs) -> WriteId {
        let id = self.write_id();
        self.changing.push_back((id, Changing::Truncate(after)));
        out.push(Output::Truncate { id, after });
        id
    }

    /// Whether every write that was asked for is durable.
    pub(crate) fn is_settled(&self) -> bool {
        self.durable == self.last_write || farrier_proto::planted!(VoteBeforeSync)
    }

    /// Puts a transaction at the end of the history and hands it to the log.
    pub(crate) fn append(&mut self, zxid: Zxid, txn: Bytes, out: &mut Outputs) -> WriteId {
        self.note_pending(&txn, out);
        self.history.append(zxid, txn.clone());
        let id = self.write_id();
        out.push(Output::Append { id, zxid, txn });
        id
    }

    /// Delivers everything up to `zxid`, in order, and forgets what nobody needs in memory.
    pub(crate) fn deliver(&mut self, zxid: Zxid, out: &mut Outputs) {
        while self.history.delivered() < zxid {
            let (zxid, txn) = self.history.deliver_next().expect("only what is logged is delivered");
            out.push(Output::Deliver { zxid, txn });
        }
        self.history.trim(self.config.window_txns, self.config.window_bytes);
    }

    /// See [`Peer::canonicalize`](crate::Peer::canonicalize). Returns the last durable write under its former name.
    pub(crate) fn canonicalize(&mut self, has_role: bool) -> WriteId {
        let durable = self.durable;
        self.round = ElectionRound::default();
        self.setback = None;
        if !has_role {
            self.vote = Vote::NONE;
        }
        self.last_write = self.last_write.renumbered(durable);
        self.durable = WriteId(0);
        for (id, _) in &mut self.changing {
            *id = id.renumbered(durable);
        }
        durable
    }

    /// Forgets the names of reads; none may be under way.
    pub(crate) fn forget_reads(&mut self) {
        self.last_read = ReadId(0);
    }

    /// See [`Peer::renamed`](crate::Peer::renamed).
    pub(crate) fn rename(&mut self, names: Names<'_>) {
        self.config.server = (names.server)(self.config.server);
        self.election_links = self.election_links.iter().map(|s| (names.server)(*s)).collect();
        if self.vote != Vote::NONE {
            self.vote.leader = (names.server)(self.vote.leader);
        }
        if let Some(setback) = &mut self.setback {
            setback.leader = (names.server)(setback.leader);
        }
        self.designated = self.designated.map(names.server);
    }

    /// Ticks in milliseconds.
    pub(crate) const fn ticks(&self, n: u64) -> u64 {
        n * self.config.tick_time
    }
}

/// Why a role ends; the server looks for a leader again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Resign {
    pub(crate) level: Level,
    pub(crate) reason: String,
    /// Whether another server is to lead next.
    pub(crate) hands_over: bool,
}

impl Resign {
    pub(crate) fn new(level: Level, reason: impl Into<String>) -> Self {
        Self { level, reason: reason.into(), hands_over: false }
    }

    /// Others have everything up to `last`, and enough of them to elect one of themselves.
    pub(crate) fn handed_over(others: &BTreeSet<ServerId>, last: Zxid) -> Self {
        let ids: Vec<_> = others.iter().map(|s| s.0).collect();
        let reason = format!("the leadership is handed over: servers {ids:?} have everything up to {last}");
        Self { level: Level::Info, reason, hands_over: true }
    }
}
