//! A state of the whole ensemble, what may happen in it, and what follows.

use crate::check::{Rule, Truth, Violation};
use crate::disk::{Disk, Entry, Write, last};
use crate::network::{Down, Link, Up};
use crate::server::{FAR, Part, QUORUM, SERVERS, Server, Serving, ends, id, index, link_id};
use crate::symmetry::Cached;
use crate::{Bounds, Planted};
use farrier_proto::quorum::{ElectionRound, LeaderPacket, Notification, ServerState, Vote};
use farrier_zab::{Input, LinkId, LinkKind, Output, Outputs, Role, WriteId};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// Answers that a peer gets within an action: looks into the log, and that a link takes everything.
const ANSWERS_MAX: usize = 64;

/// Timers until a leader without a word of anybody has to give up.
const TIMERS_MAX: u64 = 4;

/// Something that may happen. Servers by index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Action {
    /// The election makes one the leader, and another its first follower, which reaches it.
    Lead { first: usize, leader: usize },
    /// The election gives it a leader, which it reaches.
    Follow { learner: usize, leader: usize },
    /// The leader's next packet arrives.
    Down { learner: usize, leader: usize },
    /// The learner's next packet arrives.
    Up { learner: usize, leader: usize },
    /// A connection breaks, or the learner loses its patience.
    Break { learner: usize, leader: usize },
    /// The leader loses its patience.
    Resign(usize),
    /// The oldest write is durable.
    Persist(usize),
    /// A client writes.
    Propose(usize),
    /// The process dies with what was not durable, and starts again.
    Crash(usize),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Lead { first, leader } => write!(f, "{} is elected, and reached by {}", id(leader), id(first)),
            Self::Follow { learner, leader } => write!(f, "{} reaches its leader {}", id(learner), id(leader)),
            Self::Down { learner, leader } => write!(f, "{} gets from leader {}:", id(learner), id(leader)),
            Self::Up { learner, leader } => write!(f, "leader {} gets from {}:", id(leader), id(learner)),
            Self::Break { learner, leader } => {
                write!(f, "{} and its leader {} lose each other", id(learner), id(leader))
            }
            Self::Resign(s) => write!(f, "leader {} waits in vain", id(s)),
            Self::Persist(s) => write!(f, "{} has on disk:", id(s)),
            Self::Propose(s) => write!(f, "leader {} proposes", id(s)),
            Self::Crash(s) => write!(f, "{} dies and starts again", id(s)),
        }
    }
}

/// What may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Left {
    pub(crate) elections: u8,
    pub(crate) proposals: u8,
    pub(crate) crashes: u8,
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) servers: [Arc<Cached<Server>>; SERVERS],
    /// By learner and leader.
    pub(crate) links: [[Option<Arc<Cached<Link>>>; SERVERS]; SERVERS],
    pub(crate) truth: Arc<Truth>,
    pub(crate) left: Left,
    pub(crate) planted: Planted,
}

impl State {
    /// Three servers with empty disks look for a leader.
    pub(crate) fn initial(bounds: &Bounds) -> Result<Self, Violation> {
        let left = Left { elections: bounds.elections, proposals: bounds.proposals, crashes: bounds.crashes };
        let server = |s| Arc::new(Cached::new(Server::start(s, Disk::default())));
        let mut state = Self {
            servers: [server(0), server(1), server(2)],
            links: [const { [const { None }; SERVERS] }; SERVERS],
            truth: Arc::default(),
            left,
            planted: bounds.planted,
        };
        for s in 0..SERVERS {
            state.step(s, 0, Input::Timer)?;
        }
        Ok(state)
    }

    /// Hands everything that may happen to `f`.
    pub(crate) fn actions(&self, mut f: impl FnMut(Action)) {
        for s in 0..SERVERS {
            let server = &self.servers[s].value;
            if !server.pending.is_empty() {
                f(Action::Persist(s));
            }
            match server.part {
                Part::Looking => {
                    for leader in (0..SERVERS).filter(|leader| *leader != s) {
                        match self.servers[leader].value.part {
                            Part::Leading => f(Action::Follow { learner: s, leader }),
                            Part::Looking if self.left.elections > 0 => f(Action::Lead { first: s, leader }),
                            Part::Looking | Part::Settling | Part::Learning => {}
                        }
                    }
                }
                Part::Leading => {
                    f(Action::Resign(s));
                    if self.left.proposals > 0 && server.peer.next_zxid().is_some() {
                        f(Action::Propose(s));
                    }
                }
                Part::Learning | Part::Settling => {}
            }
            if self.left.crashes > 0 {
                f(Action::Crash(s));
            }
        }
        for (learner, links) in self.links.iter().enumerate() {
            for (leader, link) in links.iter().enumerate() {
                let Some(link) = link else { continue };
                if !link.value.up.is_empty() {
                    f(Action::Up { learner, leader });
                }
                if !link.value.down.is_empty() {
                    f(Action::Down { learner, leader });
                }
                f(Action::Break { learner, leader });
            }
        }
    }

    /// The state behind an action.
    pub(crate) fn after(&self, action: Action) -> Result<Self, Violation> {
        let mut next = self.clone();
        match action {
            Action::Lead { first, leader } => {
                next.left.elections -= 1;
                next.elect(leader, leader)?;
                next.elect(first, leader)?;
            }
            Action::Follow { learner, leader } => next.elect(learner, leader)?,
            Action::Down { learner, leader } => next.down(learner, leader)?,
            Action::Up { learner, leader } => next.up(learner, leader)?,
            Action::Break { learner, leader } => next.break_link(link_id(learner, leader), None)?,
            Action::Resign(s) => {
                let mut out = Outputs::default();
                for n in 1..=TIMERS_MAX {
                    if next.servers[s].value.peer.status().state == ServerState::Leading {
                        out.list.extend(next.server(s).step(n * FAR, Input::Timer)?.list);
                    }
                }
                next.carry_out(s, out)?;
            }
            Action::Persist(s) => next.persist(s)?,
            Action::Propose(s) => {
                next.left.proposals -= 1;
                let zxid = next.servers[s].value.peer.next_zxid().expect("it may propose");
                let content = Arc::make_mut(&mut next.truth).propose(zxid)?;
                let out = next.server(s).propose(zxid, content)?;
                next.carry_out(s, out)?;
            }
            Action::Crash(s) => {
                next.left.crashes -= 1;
                next.crash(s)?;
            }
        }
        next.settle_links()?;
        let disks = next.servers.iter().map(|s| &s.value.disk);
        next.truth.is_durable(disks, QUORUM)?;
        Ok(next)
    }

    /// What arrives or becomes durable with an action.
    pub(crate) fn kind(&self, action: Action) -> Option<&'static str> {
        let link = |learner: usize, leader: usize| self.links[learner][leader].as_ref().map(|l| &l.value);
        match action {
            Action::Down { learner, leader } => link(learner, leader)?.down.front().map(Down::kind),
            Action::Up { learner, leader } => link(learner, leader)?.up.front().map(Up::kind),
            Action::Persist(s) => self.servers[s].value.pending.front().map(Write::kind),
            Action::Lead { .. }
            | Action::Follow { .. }
            | Action::Break { .. }
            | Action::Resign(_)
            | Action::Propose(_)
            | Action::Crash(_) => None,
        }
    }

    /// What an action is about, for whoever reads a path.
    pub(crate) fn describe(&self, action: Action) -> String {
        let what = match action {
            Action::Down { learner, leader } => {
                self.links[learner][leader].as_ref().and_then(|l| l.value.down.front()).map(|p| format!("{p:?}"))
            }
            Action::Up { learner, leader } => {
                self.links[learner][leader].as_ref().and_then(|l| l.value.up.front()).map(|p| format!("{p:?}"))
            }
            Action::Persist(s) => self.servers[s].value.pending.front().map(|w| format!("{w:?}")),
            Action::Propose(s) => self.servers[s].value.peer.next_zxid().map(|z| format!("{z}")),
            Action::Lead { .. }
            | Action::Follow { .. }
            | Action::Break { .. }
            | Action::Resign(_)
            | Action::Crash(_) => None,
        };
        format!("{action} {}", what.unwrap_or_default()).trim_end().to_owned()
    }

    // ---- what actions do ----

    /// All others say that they follow `leader`, which ends this server's election.
    fn elect(&mut self, s: usize, leader: usize) -> Result<(), Violation> {
        let vote = Vote { leader: id(leader), zxid: 0, peer_epoch: 0 };
        for other in (0..SERVERS).filter(|other| *other != s) {
            let state = if other == leader { ServerState::Leading } else { ServerState::Following };
            // The first round of whoever begins anew each time.
            let round = ElectionRound(1);
            let notification = Notification { state, vote, round, version: Notification::VERSION, config: None };
            if self.servers[s].value.peer.status().state == ServerState::Looking {
                self.step(s, 0, Input::Notification { from: id(other), notification })?;
            }
        }
        let status = self.servers[s].value.peer.status();
        assert_eq!(status.leader, Some(id(leader)), "the election of server {} ends as it was told to", id(s));
        Ok(())
    }

    /// A dial is answered at once: the leader hears FOLLOWERINFO, or there is none. That it takes time is the same as
    /// to look for longer.
    fn dial(&mut self, learner: usize, leader: usize) -> Result<(), Violation> {
        if self.servers[leader].value.part != Part::Leading || self.links[learner][leader].is_some() {
            return self.step(learner, 0, Input::DialFailed { leader: id(leader) });
        }
        self.links[learner][leader] = Some(Arc::new(Cached::new(Link::default())));
        let link = link_id(learner, leader);
        self.step(learner, 0, Input::LinkUp { link, kind: LinkKind::Leader(id(leader)) })?;
        self.step(leader, 0, Input::LinkUp { link, kind: LinkKind::Learner })?;
        self.up(learner, leader)
    }

    fn down(&mut self, learner: usize, leader: usize) -> Result<(), Violation> {
        let id = link_id(learner, leader);
        let link = self.link(id).expect("packets are on links");
        let input = match link.down.pop_front().expect("a packet") {
            Down::Packet(packet) => {
                if let LeaderPacket::LeaderInfo { epoch, .. } = packet {
                    link.offered = epoch;
                }
                Input::LeaderPacket { link: id, packet }
            }
            Down::Snapshot(state) => {
                let zxid = last(&state);
                self.server(learner).received = Some(state);
                Input::SnapReceived { link: id, zxid, config: None }
            }
        };
        self.step(learner, 0, input)
    }

    fn up(&mut self, learner: usize, leader: usize) -> Result<(), Violation> {
        let link_id = link_id(learner, leader);
        let link = self.link(link_id).expect("packets are on links");
        let packet = link.up.pop_front().expect("a packet").packet(id(learner));
        self.step(leader, 0, Input::LearnerPacket { link: link_id, packet })
    }

    /// Packets that bring nothing lasting arrive.
    fn settle_links(&mut self) -> Result<(), Violation> {
        for learner in 0..SERVERS {
            for leader in 0..SERVERS {
                while self.links[learner][leader].as_ref().is_some_and(|l| l.value.brings_nothing_lasting()) {
                    self.down(learner, leader)?;
                }
            }
        }
        Ok(())
    }

    /// A connection is gone. Whoever did not close it itself hears of it.
    fn break_link(&mut self, link: LinkId, closed_by: Option<usize>) -> Result<(), Violation> {
        let (learner, leader) = ends(link);
        if self.links[learner][leader].take().is_none() {
            return Ok(());
        }
        for end in [learner, leader] {
            if closed_by != Some(end) {
                self.step(end, 0, Input::LinkDown { link })?;
            }
        }
        Ok(())
    }

    fn persist(&mut self, s: usize) -> Result<(), Violation> {
        let server = self.server(s);
        let write = server.pending.pop_front().expect("a write");
        let done = server.disk.write(&write)?;
        if server.lied > 0 {
            server.lied -= 1;
            return Ok(());
        }
        let id = WriteId(1);
        let input = match write {
            Write::Append(_) | Write::Accepted(_) | Write::Current(_) | Write::Install(..) => Input::Durable { id },
            Write::Truncate(_) => {
                if done {
                    server.tree.clone_from(&server.disk.history);
                }
                Input::Truncated { id, done, config: None }
            }
            Write::Reload => {
                server.tree.clone_from(&server.disk.history);
                Input::Reloaded { id, last: server.disk.last(), config: None }
            }
        };
        self.step(s, 0, input)
    }

    fn crash(&mut self, s: usize) -> Result<(), Violation> {
        for other in 0..SERVERS {
            self.break_link(link_id(s, other), Some(s))?;
            self.break_link(link_id(other, s), Some(s))?;
        }
        let mut disk = self.servers[s].value.disk.clone();
        match self.planted {
            Planted::ForgetsPromise => disk.accepted = disk.current,
            Planted::ForgetsLog => drop(disk.history.pop()),
            Planted::Nothing | Planted::DurableTooEarly => {}
        }
        *self.server(s) = Server::start(s, disk);
        self.step(s, 0, Input::Timer)
    }

    // ---- the driver of one peer ----

    fn step(&mut self, s: usize, now: u64, input: Input) -> Result<(), Violation> {
        let out = self.server(s).step(now, input)?;
        self.carry_out(s, out)
    }

    fn server(&mut self, s: usize) -> &mut Server {
        &mut Arc::make_mut(&mut self.servers[s]).changed().value
    }

    fn link(&mut self, link: LinkId) -> Option<&mut Link> {
        let (learner, leader) = ends(link);
        self.links[learner][leader].as_mut().map(|l| &mut Arc::make_mut(l).changed().value)
    }

    /// Does what the peer wants, and answers at once what is answered at once.
    fn carry_out(&mut self, s: usize, out: Outputs) -> Result<(), Violation> {
        let mut answers = VecDeque::new();
        let mut dials = Vec::new();
        let mut closed = Vec::new();
        let mut list = out.list;
        for _ in 0..ANSWERS_MAX {
            for output in list {
                match output {
                    Output::Dial { leader } => dials.push(index(leader)),
                    Output::CloseLink { link, .. } => closed.push(link),
                    output => self.output(s, output, &mut answers)?,
                }
            }
            let Some(answer) = answers.pop_front() else {
                self.server(s).rest();
                for link in closed {
                    self.break_link(link, Some(s))?;
                }
                for leader in dials {
                    self.dial(s, leader)?;
                }
                return Ok(());
            };
            list = self.server(s).step(0, answer)?.list;
        }
        Err(Violation::new(Rule::Unknown, format!("server {} never rests", id(s))))
    }

    fn output(&mut self, s: usize, output: Output, answers: &mut VecDeque<Input>) -> Result<(), Violation> {
        match output {
            Output::Notify { notification, .. } => self.told_vote(s, &notification)?,
            Output::SendLeader { link, packet } => {
                if let Some(up) = Up::of(&packet) {
                    self.told_leader(s, link, up)?;
                    let confirms_up_to_date = matches!(up, Up::Ack(z) if z.counter() == 0)
                        && self.servers[s].value.serving == Serving::Learning;
                    // From then on pings are counted, and there are none.
                    if let Some(link) = self.link(link)
                        && !confirms_up_to_date
                    {
                        link.up.push_back(up);
                    }
                }
            }
            // Every part of the model takes pings for granted.
            Output::SendLearner { packet: LeaderPacket::Ping { .. }, .. } => {}
            Output::SendLearner { link, packet } => {
                if let LeaderPacket::LeaderInfo { epoch, .. } = packet {
                    self.told(epoch <= self.servers[s].value.disk.accepted, || format!("LEADERINFO of {epoch}"))?;
                }
                self.send_down(link, Down::Packet(packet));
            }
            Output::SendSnapshot { link, zxid } => {
                let state = self.servers[s].value.tree.clone();
                assert_eq!(last(&state), zxid, "SNAP has the zxid of its state");
                self.send_down(link, Down::Snapshot(state));
            }
            Output::ReportFlush { link } => answers.push_back(Input::Flushed { link }),
            Output::Append { id, zxid, txn } => {
                self.write(s, id, Write::Append(Entry::new(zxid, &txn)));
                if self.planted == Planted::DurableTooEarly {
                    self.lie(s, id, answers);
                }
            }
            Output::SaveAcceptedEpoch { id, epoch } => self.write(s, id, Write::Accepted(epoch.0)),
            Output::SaveCurrentEpoch { id, epoch } => self.write(s, id, Write::Current(epoch.0)),
            Output::Truncate { id, after } => self.write(s, id, Write::Truncate(after)),
            Output::AdoptSnapshot { zxid } => {
                let state = self.server(s).received.take().expect("a SNAP was received");
                assert_eq!(last(&state), zxid, "the SNAP that was received is adopted");
                self.server(s).tree = state;
            }
            Output::InstallSnapshot { id, zxid, epoch } => {
                let state = self.servers[s].value.tree.clone();
                assert_eq!(last(&state), zxid, "what is installed is the state");
                self.write(s, id, Write::Install(state, epoch.0));
            }
            Output::Reload { id } => self.write(s, id, Write::Reload),
            Output::Locate { read, link, zxid } => {
                let located = Some(self.servers[s].value.disk.locate(zxid));
                answers.push_back(Input::Located { read, link, located });
            }
            Output::ReadTxns { read, link, after, to } => {
                let txns = self.servers[s].value.disk.read(after, to);
                answers.push_back(Input::TxnsRead { read, link, txns });
            }
            Output::Deliver { zxid, txn } => self.deliver(s, Entry::new(zxid, &txn))?,
            Output::Role(role) => self.role(s, role)?,
            Output::Note { .. } | Output::LearnerGone { .. } => {}
            Output::Dial { .. }
            | Output::CloseLink { .. }
            | Output::PauseLink { .. }
            | Output::ResumeLink { .. }
            | Output::SavePending { .. }
            | Output::RaiseRecovering { .. }
            | Output::FromLearner { .. }
            | Output::FromLeader { .. }
            | Output::PingReceived { .. }
            | Output::Synced { .. }
            | Output::Activate { .. }
            | Output::Halt { .. } => {
                return Err(Violation::new(Rule::Unknown, format!("server {} asks for {output:?}", id(s))));
            }
        }
        Ok(())
    }

    fn send_down(&mut self, link: LinkId, down: Down) {
        if let Some(link) = self.link(link) {
            link.down.push_back(down);
        }
    }

    fn write(&mut self, s: usize, id: WriteId, write: Write) {
        assert!(id > WriteId(0), "writes have names");
        self.server(s).pending.push_back(write);
    }

    /// A planted bug: what was appended is called durable.
    fn lie(&mut self, s: usize, id: WriteId, answers: &mut VecDeque<Input>) {
        let server = self.server(s);
        if !server.pending.iter().any(|w| matches!(w, Write::Truncate(_) | Write::Reload)) {
            server.lied = server.pending.len();
            answers.push_back(Input::Durable { id });
        }
    }

    fn deliver(&mut self, s: usize, entry: Entry) -> Result<(), Violation> {
        let server = self.server(s);
        if entry.zxid <= last(&server.tree) {
            let (zxid, last) = (entry.zxid, last(&server.tree));
            return Err(Violation::new(Rule::Log, format!("{zxid} is applied behind {last}")));
        }
        server.tree.push(entry);
        self.serves(s)
    }

    fn role(&mut self, s: usize, role: Role) -> Result<(), Violation> {
        let server = self.server(s);
        match role {
            Role::Looking => {
                server.serving = Serving::Nothing;
                server.received = None;
                Ok(())
            }
            Role::Learning { .. } => {
                server.serving = Serving::Learning;
                self.serves(s)
            }
            Role::Leading { epoch } => {
                server.serving = Serving::Leading;
                Arc::make_mut(&mut self.truth).establish(epoch, &self.servers[s].value.tree)
            }
        }
    }

    fn serves(&mut self, s: usize) -> Result<(), Violation> {
        let server = &self.servers[s].value;
        match server.serving {
            Serving::Nothing => Ok(()),
            Serving::Learning => self.truth.serve(&server.tree),
            Serving::Leading => Arc::make_mut(&mut self.truth).commit(&server.tree),
        }
    }

    // ---- durable before told ----

    fn told(&self, holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
        if holds || self.planted != Planted::Nothing {
            return Ok(());
        }
        Err(Violation::new(Rule::Told, format!("{} is told before it is durable", what())))
    }

    fn told_vote(&self, s: usize, n: &Notification) -> Result<(), Violation> {
        let disk = &self.servers[s].value.disk;
        let own = n.state == ServerState::Looking && n.vote.leader == id(s);
        let kept = n.vote.zxid == disk.last().to_wire() && n.vote.peer_epoch == i64::from(disk.current);
        self.told(!own || kept, || format!("{:?} of server {}", n.vote, id(s)))
    }

    fn told_leader(&self, s: usize, link: LinkId, up: Up) -> Result<(), Violation> {
        let disk = &self.servers[s].value.disk;
        let (learner, leader) = ends(link);
        let offered = self.links[learner][leader].as_ref().map_or(0, |l| l.value.offered);
        let kept = match up {
            Up::Info(accepted) => accepted.0 == disk.accepted,
            Up::AckEpoch(last_logged, current) => {
                let whole = last_logged == disk.last().to_wire() && current.is_none_or(|c| c.0 == disk.current);
                disk.accepted >= offered && (whole || (last_logged == 0 && current.is_none()))
            }
            Up::Ack(zxid) if zxid.counter() == 0 => disk.current >= zxid.epoch(),
            Up::Ack(zxid) => disk.has(zxid),
        };
        self.told(kept, || format!("{up:?} of server {}", id(s)))
    }
}
