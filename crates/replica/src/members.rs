//! A server by itself, or one of an ensemble: where transactions get their zxid and go to, and when they are
//! committed. The rest of the replica asks here, and is the same for both.
//!
//! In an ensemble it owns the [`Peer`] and turns what comes out of it into actions, in its order.

use crate::fence::{Digests, Since};
use crate::forward::Learning;
use crate::held::Held;
use crate::io::{Action, Actions, ConnId, Input, Level, Time};
use crate::leading::{Leading, Owner};
use crate::limits::OUTPUTS_KEPT_MAX;
use crate::replica::{Origin, Replica};
use crate::restore::TreeRestore;
use crate::sweep::Sweeper;
use crate::{ReplicaConfig, WriteId};
use bytes::Bytes;
use farrier_proto::jute::leading_path;
use farrier_proto::membership::MemberList;
use farrier_proto::quorum::{LeaderPacket, LearnerPacket};
use farrier_proto::txn::read_txn;
use farrier_proto::{SessionId, TxnHeader, Zxid};
use farrier_tree::Tree;
use farrier_tree::tree::CONFIG_PATH;
use farrier_zab::{Ensemble, LinkId, Output, Outputs, Peer, Role, ShownConfig, SyncTicket};
use std::collections::VecDeque;

/// How this server comes to commits.
#[derive(Debug)]
pub(crate) enum Membership {
    Alone(Alone),
    Ensemble(Box<Members>),
}

/// A standalone server commits what is durable.
#[derive(Debug)]
pub(crate) struct Alone {
    last_proposed: Zxid,
    last_write: WriteId,
}

impl Alone {
    pub(crate) const fn new(last: Zxid) -> Self {
        Self { last_proposed: last, last_write: WriteId(0) }
    }

    /// Notes a proposal; the name of the write that makes it durable.
    pub(crate) const fn wrote(&mut self, zxid: Zxid) -> WriteId {
        self.last_proposed = zxid;
        self.last_write = WriteId(self.last_write.0 + 1);
        self.last_write
    }

    /// How many writes came after `id`.
    pub(crate) fn writes_behind(&self, id: WriteId) -> usize {
        let behind = self.last_write.0.checked_sub(id.0).expect("a completion quotes a write that was asked for");
        usize::try_from(behind).expect("each write is in the queue of proposals")
    }
}

/// A server of an ensemble.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) peer: Peer,
    /// Whether the peer had an input: it does nothing before.
    started: bool,
    /// What the peer put out and is not turned into actions yet.
    pub(crate) outputs: Outputs,
    /// Takes turns with that list, so that a step allocates none; empty.
    spare_outputs: Vec<Output>,
    pub(crate) term: Term,
    /// Connect requests that wait for a role.
    pub(crate) held: VecDeque<Held>,
    /// Syncs of own clients that are asked for, in their order.
    pub(crate) syncs: VecDeque<(SyncTicket, ConnId)>,
    last_ticket: u64,
    /// A state from the leader that the peer has not adopted yet.
    received: Option<(Zxid, TreeRestore)>,
}

/// What this server may do for its clients.
#[derive(Debug)]
pub(crate) enum Term {
    Looking,
    Leading(Leading),
    Learning(Learning),
}

impl Members {
    pub(crate) const fn ticket(&mut self) -> SyncTicket {
        self.last_ticket += 1;
        SyncTicket(self.last_ticket)
    }
}

impl Membership {
    pub(crate) const fn is_ensemble(&self) -> bool {
        matches!(self, Self::Ensemble(_))
    }

    pub(crate) const fn is_looking(&self) -> bool {
        matches!(self, Self::Ensemble(m) if matches!(m.term, Term::Looking))
    }

    /// Whether this server leads others.
    pub(crate) const fn leads(&self) -> bool {
        matches!(self, Self::Ensemble(m) if matches!(m.term, Term::Leading(_)))
    }

    pub(crate) const fn is_learning(&self) -> bool {
        matches!(self, Self::Ensemble(m) if matches!(m.term, Term::Learning(_)))
    }

    /// Whether clients are served.
    pub(crate) const fn is_serving(&self) -> bool {
        !self.is_looking()
    }

    /// Whether this server makes transactions of requests, expires sessions and sweeps.
    pub(crate) const fn proposes(&self) -> bool {
        match self {
            Self::Alone(_) => true,
            Self::Ensemble(m) => matches!(m.term, Term::Leading(_)),
        }
    }

    /// The established epoch.
    pub(crate) const fn epoch(&self) -> Option<u32> {
        match self {
            Self::Alone(_) => None,
            Self::Ensemble(m) => match &m.term {
                Term::Looking => None,
                Term::Leading(leading) => Some(leading.epoch),
                Term::Learning(learning) => Some(learning.epoch),
            },
        }
    }

    pub(crate) const fn leading(&mut self) -> Option<&mut Leading> {
        match self {
            Self::Ensemble(m) => match &mut m.term {
                Term::Leading(leading) => Some(leading),
                Term::Looking | Term::Learning(_) => None,
            },
            Self::Alone(_) => None,
        }
    }

    pub(crate) const fn learning(&mut self) -> Option<&mut Learning> {
        match self {
            Self::Ensemble(m) => match &mut m.term {
                Term::Learning(learning) => Some(learning),
                Term::Looking | Term::Leading(_) => None,
            },
            Self::Alone(_) => None,
        }
    }

    pub(crate) fn members(&mut self) -> Option<&mut Members> {
        match self {
            Self::Ensemble(members) => Some(members),
            Self::Alone(_) => None,
        }
    }

    /// The zxid of the next proposal, if there can be one.
    pub(crate) fn next_zxid(&self) -> Option<Zxid> {
        match self {
            Self::Alone(a) => Some(a.last_proposed.next().unwrap_or_else(|| Zxid::new(a.last_proposed.epoch() + 1, 0))),
            Self::Ensemble(m) => m.peer.next_zxid(),
        }
    }

    /// When the timer is wanted, beside what every server wants it for.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        match self {
            Self::Alone(_) => None,
            Self::Ensemble(m) => {
                let peer = if m.started { m.peer.next_deadline() } else { Some(0) };
                peer.into_iter().chain(m.held.front().map(|h| h.until)).min()
            }
        }
    }

    /// On a leader, when its peer wants the timer: that it comes much later shows a pause even if no session is due.
    pub(crate) fn next_ping(&self) -> Option<u64> {
        match self {
            Self::Ensemble(m) if matches!(m.term, Term::Leading(_)) => m.peer.next_deadline(),
            Self::Ensemble(_) | Self::Alone(_) => None,
        }
    }

    /// After a pause: every learner has to answer a ping that is sent from now on before a session expires.
    pub(crate) fn expect_pings(&mut self) {
        if let Self::Ensemble(m) = self
            && let Term::Leading(leading) = &mut m.term
        {
            let (begun, _) = m.peer.ping_rounds();
            leading.awaited_round = if farrier_proto::planted!(NoExpiryAfterPause) { u64::MAX } else { begun + 1 };
        }
    }

    /// Whether some of those answers are still missing.
    pub(crate) fn awaits_pings(&self) -> bool {
        match self {
            Self::Ensemble(m) => match &m.term {
                Term::Leading(leading) => m.peer.ping_rounds().1 < leading.awaited_round,
                Term::Looking | Term::Learning(_) => false,
            },
            Self::Alone(_) => false,
        }
    }

    /// A client of this server has the session now.
    pub(crate) fn own_here(&mut self, session: SessionId) {
        if let Some(leading) = self.leading() {
            leading.give(session, Owner::Here);
        }
    }

    /// Whether requests of the session may come from a client of this server, as far as it knows: learners ask
    /// the leader.
    pub(crate) fn owns_here(&mut self, session: SessionId) -> bool {
        self.leading().is_none_or(|l| l.claim(session, Owner::Here))
    }

    /// A connection whose connect request waited is gone.
    pub(crate) fn let_go(&mut self, conn: ConnId) {
        if let Self::Ensemble(m) = self {
            m.held.retain(|h| h.conn != conn);
        }
    }
}

impl Replica {
    /// A server of an ensemble over the state that recovery restored; `replayed` is recovery's. It looks for a
    /// leader once it gets its first input, for which it is due at once. What is pending in `members` is what
    /// [`Action::SavePending`] wrote last.
    ///
    /// # Panics
    /// When `durable` names another last transaction than the state.
    #[must_use]
    pub fn ensemble(
        config: ReplicaConfig,
        zab: farrier_zab::Config,
        members: Ensemble,
        durable: farrier_zab::Durable,
        state: TreeRestore,
        replayed: u64,
        now: Time,
    ) -> Self {
        let since = Since::After(state.fuzzy_until());
        let from = state.begins_at();
        let tree = state.into_tree();
        let shows = configuration(&tree, Some(from));
        assert_eq!(tree.zxid(), durable.last_logged, "recovery and tree agree on the last transaction");
        let mut outputs = Outputs::default();
        let members = Members {
            peer: Peer::new(zab, members, durable).over_state(shows.as_ref(), &mut outputs),
            started: false,
            outputs,
            spare_outputs: Vec::new(),
            term: Term::Looking,
            held: VecDeque::new(),
            syncs: VecDeque::new(),
            last_ticket: 0,
            received: None,
        };
        let mut replica = Self::over(config, tree, Membership::Ensemble(Box::new(members)), replayed, now);
        replica.digests = Digests::new(since);
        replica.show_membership(now);
        replica
    }

    /// Tells which inputs are going to be given next; see [`Tree::foresee`]. It changes nothing.
    pub fn foresee_inputs(&self, inputs: &[Input<'_>]) {
        let Membership::Ensemble(members) = &self.membership else { return };
        let told = inputs.iter().filter_map(|input| match input {
            Input::Zab(farrier_zab::Input::LearnerPacket { packet: LearnerPacket::Request(request), .. }) => {
                leading_path(&request.body)
            }
            Input::Zab(farrier_zab::Input::LeaderPacket { packet: LeaderPacket::Inform { txn, .. }, .. }) => {
                changed_path(txn)
            }
            _ => None,
        });
        self.tree.foresee(told);
        // One for each: where a packet commits several, they are looked for when they come out of the peer.
        let is_commit = |input: &&Input<'_>| {
            let Input::Zab(farrier_zab::Input::LeaderPacket { packet, .. }) = input else { return false };
            matches!(packet, LeaderPacket::Commit { .. })
        };
        let commits = inputs.iter().filter(is_commit).count();
        self.tree.foresee(members.peer.undelivered().take(commits).filter_map(|txn| changed_path(txn)));
    }

    /// Gives the peer an input. What comes out is dealt with at the end of the step.
    pub(crate) fn peer_step(&mut self, now: Time, input: farrier_zab::Input) {
        let Membership::Ensemble(m) = &mut self.membership else { unreachable!("a standalone server has no peers") };
        m.started = true;
        m.peer.step(now.mono, input, &mut m.outputs);
    }

    /// Gives the peer its timer if that is due.
    pub(crate) fn peer_timer(&mut self, now: Time) {
        if let Membership::Ensemble(m) = &self.membership
            && (!m.started || m.peer.next_deadline().is_some_and(|due| due <= now.mono))
        {
            self.peer_step(now, farrier_zab::Input::Timer);
        }
    }

    /// An input for the peer. What a transaction from elsewhere may not be is refused before it gets into the log.
    pub(crate) fn peer_input(&mut self, now: Time, input: farrier_zab::Input, out: &mut Actions) {
        use farrier_zab::Input as In;
        if let In::LeaderPacket { link, .. } = &input {
            self.log_lag.heard(*link);
        }
        match &input {
            In::LeaderPacket {
                link,
                packet:
                    LeaderPacket::Proposal { zxid, txn }
                    | LeaderPacket::Inform { zxid, txn }
                    | LeaderPacket::InformAndActivate { zxid, txn, .. },
            } => {
                let reason = match read_txn(txn) {
                    Ok((header, ..)) if header.zxid == *zxid => None,
                    Ok((header, ..)) => Some(format!("the transaction {} came as {zxid}", header.zxid)),
                    Err(e) => Some(format!("the transaction {zxid} is not one that this server knows: {e}")),
                };
                if let Some(reason) = reason {
                    return self.refuse_link(now, *link, reason, out);
                }
            }
            In::SnapReceived { .. } | In::Truncated { .. } | In::Reloaded { .. } => {
                unreachable!("a state comes along with this, as an input of the replica")
            }
            In::LeaderPacket { .. }
            | In::ElectionUp { .. }
            | In::ElectionDown { .. }
            | In::Notification { .. }
            | In::LinkUp { .. }
            | In::DialFailed { .. }
            | In::LinkDown { .. }
            | In::LearnerPacket { .. }
            | In::SnapProgress { .. }
            | In::Flushed { .. }
            | In::Located { .. }
            | In::TxnsRead { .. }
            | In::Durable { .. }
            | In::Timer => {}
        }
        self.peer_step(now, input);
    }

    fn refuse_link(&mut self, now: Time, link: LinkId, reason: String, out: &mut Actions) {
        out.note(Level::Error, format!("closing the link to the leader: {reason}"));
        self.drop_link(now, link, reason, out);
    }

    /// Closes a link to the leader or a learner, which may come again.
    pub(crate) fn drop_link(&mut self, now: Time, link: LinkId, reason: String, out: &mut Actions) {
        out.push(Action::CloseLink { link, reason });
        self.peer_step(now, farrier_zab::Input::LinkDown { link });
    }

    pub(crate) fn snap_received(&mut self, now: Time, link: LinkId, zxid: Zxid, state: TreeRestore, out: &mut Actions) {
        match state.received(zxid) {
            Ok(mut state) => {
                let config = configuration(state.tree(), None);
                let Some(members) = self.membership.members() else { unreachable!("a standalone server has no peers") };
                members.received = Some((zxid, state));
                self.peer_step(now, farrier_zab::Input::SnapReceived { link, zxid, config });
            }
            Err(e) => self.refuse_link(now, link, format!("the state that it sent is not one: {e}"), out),
        }
    }

    pub(crate) fn truncated(&mut self, now: Time, id: WriteId, state: Option<Box<TreeRestore>>, out: &mut Actions) {
        self.log_settled(now, id, out);
        let done = state.is_some();
        let mut config = None;
        if let Some(state) = state {
            let (since, from) = (Since::After(state.fuzzy_until()), state.begins_at());
            self.replace_tree(now, *state, since, out);
            config = configuration(&self.tree, Some(from));
        }
        self.peer_step(now, farrier_zab::Input::Truncated { id, done, config });
    }

    pub(crate) fn reloaded(&mut self, now: Time, id: WriteId, state: TreeRestore, out: &mut Actions) {
        self.log_settled(now, id, out);
        let (since, from) = (Since::After(state.fuzzy_until()), state.begins_at());
        self.replace_tree(now, state, since, out);
        let config = configuration(&self.tree, Some(from));
        self.peer_step(now, farrier_zab::Input::Reloaded { id, last: self.tree.zxid(), config });
    }

    fn replace_tree(&mut self, now: Time, state: TreeRestore, since: Since, out: &mut Actions) {
        assert!(self.membership.is_looking(), "the state of a server that serves is its own");
        assert_eq!(self.prep.outstanding(), 0, "nothing is prepared against a state that is replaced");
        for warning in state.warnings() {
            out.note(Level::Warn, warning);
        }
        self.forget_image();
        self.tree = state.into_tree();
        self.digests.replaced(since);
        self.show_membership(now);
    }

    /// Lets `/zookeeper/config` say what this server knows.
    fn show_membership(&mut self, now: Time) {
        if let Some((text, version)) = &self.config.config_node
            && !(self.config.reconfig_enabled && shown(&self.tree).is_some_and(|(_, v)| v >= *version))
        {
            self.tree.set_membership(text, Zxid::from_wire(version.cast_signed()), now.wall);
        }
    }

    /// Does what the peer put out, in its order, until nothing is left.
    pub(crate) fn follow_peer(&mut self, now: Time, out: &mut Actions) {
        let Some(members) = self.membership.members() else { return };
        let mut outputs = std::mem::take(&mut members.spare_outputs);
        loop {
            let Some(members) = self.membership.members() else { return };
            std::mem::swap(&mut members.outputs.list, &mut outputs);
            if outputs.is_empty() {
                // What goes on now may have something for the peer.
                self.run_awaited(now, out);
                self.wake_throttled(now, out);
                if self.membership.members().is_none_or(|m| m.outputs.list.is_empty()) {
                    break;
                }
                continue;
            }
            if outputs.len() > 1 {
                self.foresee_outputs(&outputs);
            }
            for output in outputs.drain(..) {
                if self.halted {
                    return;
                }
                self.output(now, output, out);
            }
        }
        if let Some(members) = self.membership.members() {
            outputs.shrink_to(OUTPUTS_KEPT_MAX);
            members.spare_outputs = outputs;
            // A state that the peer did not adopt at once came on a link that is gone.
            members.received = None;
        }
        if !self.halted {
            self.enforce_fence(out);
            self.after_commits(out);
        }
    }

    fn foresee_outputs(&self, outputs: &[Output]) {
        let zxid_of = |output: &Output| if let Output::Deliver { zxid, .. } = output { Some(*zxid) } else { None };
        if !self.membership.proposes() {
            self.tree.foresee(outputs.iter().filter_map(delivered_path));
        } else if let Some(last) = outputs.iter().rev().find_map(zxid_of) {
            // It prepared what it delivers.
            self.prep.foresee(&self.tree, last);
        }
    }

    fn output(&mut self, now: Time, output: Output, out: &mut Actions) {
        match output {
            Output::Notify { to, notification } => out.push(Action::Notify { to, notification }),
            Output::Dial { leader } => out.push(Action::Dial { leader }),
            Output::SendLeader { link, packet } => out.push(Action::SendLeader { link, packet }),
            Output::SendLearner { link, packet } => out.push(Action::SendLearner { link, packet }),
            Output::SendSnapshot { link, zxid } => {
                assert_eq!(self.tree.zxid(), zxid, "a learner gets the delivered state");
                out.push(Action::SendSnapshot { link, image: self.image() });
            }
            Output::ReportFlush { link } => out.push(Action::ReportLinkFlush { link }),
            Output::PauseLink { link } => out.push(Action::PauseLink { link }),
            Output::ResumeLink { link } => out.push(Action::ResumeLink { link }),
            Output::CloseLink { link, reason } => out.push(Action::CloseLink { link, reason }),
            Output::Append { id, zxid, txn } => self.append(now, Action::Append { id, zxid, txn }, out),
            Output::SavePending { id, config } => out.push(Action::SavePending { id, config }),
            Output::RaiseRecovering { id } => out.push(Action::RaiseRecovering { id }),
            Output::SaveAcceptedEpoch { id, epoch } => out.push(Action::SaveAcceptedEpoch { id, epoch }),
            Output::SaveCurrentEpoch { id, epoch } => out.push(Action::SaveCurrentEpoch { id, epoch }),
            Output::Truncate { id, after } => out.push(Action::Truncate { id, after }),
            Output::AdoptSnapshot { zxid } => {
                let received = self.membership.members().and_then(|m| m.received.take());
                let (of, state) = received.expect("only a state that was received is adopted");
                assert_eq!(of, zxid, "the state that is adopted is the one that was received last");
                self.replace_tree(now, state, Since::AfterPing, out);
            }
            Output::InstallSnapshot { id, zxid, epoch } => {
                assert_eq!(self.tree.zxid(), zxid, "what becomes the disk's history is the delivered state");
                self.redraw_snapshot();
                out.push(Action::InstallSnapshot { id, epoch, image: self.image() });
            }
            Output::Reload { id } => out.push(Action::Reload { id }),
            Output::Locate { read, link, zxid } => out.push(Action::Locate { read, link, zxid }),
            Output::ReadTxns { read, link, after, to } => out.push(Action::ReadTxns { read, link, after, to }),
            Output::Deliver { zxid, txn } => {
                let origin = if self.membership.proposes() {
                    let front = self.take_outstanding();
                    assert_eq!(front.zxid, zxid, "a leader delivers what it proposed, in order");
                    front.origin
                } else {
                    Origin::Elsewhere
                };
                self.commit(now, zxid, &txn, origin, out);
            }
            Output::Role(role) => self.take_role(now, role, out),
            Output::FromLearner { link, server: _, packet } => self.learner_says(now, link, packet, out),
            // Its sessions move when their clients come back, from wherever.
            Output::LearnerGone { link: _ } => {}
            Output::FromLeader { packet } => self.leader_says(now, packet, out),
            Output::PingReceived { zxid } => self.answer_ping(zxid),
            Output::Synced { ticket } => self.synced(now, ticket, out),
            Output::Activate { config } => {
                self.config.config_node = Some((config.to_vec(), MemberList::version_of(&config)));
                self.show_membership(now);
                if let Ok(members) = MemberList::parse(&config) {
                    out.push(Action::Activate { members: Box::new(members) });
                }
            }
            Output::Halt { reason } => self.halt(reason, out),
            Output::Note { level, text } => out.note(level_of(level), text),
        }
    }

    fn take_role(&mut self, now: Time, role: Role, out: &mut Actions) {
        self.leave_term(out);
        self.reconsider(now);
        let term = match role {
            Role::Looking => Term::Looking,
            Role::Leading { epoch } => {
                self.track_sessions(now);
                self.sweeper = Sweeper::new(now.mono + self.config.container.check_interval);
                self.find_orphans();
                Term::Leading(Leading::new(epoch, now.mono))
            }
            Role::Learning { leader: _, epoch, observing: _ } => Term::Learning(Learning::new(epoch)),
        };
        if let Some(members) = self.membership.members() {
            members.term = term;
        }
        if self.membership.is_serving() {
            self.admit_held(now, out);
        }
    }

    /// Ends what was served. Whether a write that was not answered takes place is for its client to find out.
    fn leave_term(&mut self, out: &mut Actions) {
        self.outstanding.clear();
        self.log_lag.leave_term();
        self.awaited.clear();
        self.prep.reset();
        self.track_nobody();
        if let Some(members) = self.membership.members() {
            members.term = Term::Looking;
            members.syncs.clear();
            members.received = None;
        }
        self.close_served(out);
        assert_eq!(self.forwarded, 0, "who forwarded something is gone");
        self.outstanding_bytes = 0;
        self.asked_bytes = 0;
        self.large_in_flight = 0;
        for id in std::mem::take(&mut self.unfinished) {
            if let Some(conn) = self.conns.get_mut(id) {
                conn.unfinished = false;
            }
        }
        // Who is held stays, and is listed again when it is served.
        for id in std::mem::take(&mut self.throttled) {
            if let Some(conn) = self.conns.get_mut(id) {
                conn.throttled = false;
            }
        }
    }

    /// The newest zxid that a client may have been shown by this ensemble: Apache's servers show the one of
    /// NEWLEADER, which names no transaction.
    pub(crate) fn newest_shown(&self) -> Zxid {
        let applied = self.tree.zxid();
        self.membership.epoch().map_or(applied, |epoch| applied.max(Zxid::new(epoch, 0)))
    }
}

/// The configuration that a tree shows, and its version.
fn shown(tree: &Tree) -> Option<(&[u8], u64)> {
    let node = tree.node(CONFIG_PATH)?;
    let text = node.data().filter(|text| !text.is_empty())?;
    Some((text, node.stat().mzxid.get()))
}

/// The configuration that a tree shows, for the peer. `from` is the snapshot that it was made from, if a log was replayed on that.
fn configuration(tree: &Tree, from: Option<Zxid>) -> Option<ShownConfig> {
    let (text, version) = shown(tree)?;
    Some(ShownConfig { text: Bytes::copy_from_slice(text), in_log: from.is_some_and(|from| version > from.get()) })
}

/// Where a transaction that is delivered changes something.
fn delivered_path(output: &Output) -> Option<&[u8]> {
    match output {
        Output::Deliver { txn, .. } => changed_path(txn),
        _ => None,
    }
}

/// Where a transaction changes something, if its bytes tell at once.
fn changed_path(txn: &[u8]) -> Option<&[u8]> {
    leading_path(txn.get(TxnHeader::LEN..)?)
}

const fn level_of(level: farrier_zab::Level) -> Level {
    match level {
        farrier_zab::Level::Error => Level::Error,
        farrier_zab::Level::Warn => Level::Warn,
        farrier_zab::Level::Info => Level::Info,
        farrier_zab::Level::Debug => Level::Debug,
    }
}
