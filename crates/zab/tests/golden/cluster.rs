//! Servers with a disk each, and FIFO links between them.
//!
//! Everything that is under way is an event with a number; they happen in the order of the numbers, except that what
//! is held waits. Events of one link and of one disk keep their order. Time moves only when a script says so.

mod disk;
mod transcript;

use crate::print;
use bytes::Bytes;
pub(crate) use disk::{Disk, Tree};
use disk::{Write, Written};
use farrier_proto::quorum::{ForwardedRequest, Identities, LeaderPacket, LearnerPacket, Notification};
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId, SessionId};
use farrier_zab::{
    Config, Durable, Ensemble, Input, LinkId, LinkKind, Output, Outputs, Peer, QuorumVerifier, ReadId, Role,
    SyncTicket, WriteId,
};
use std::collections::{BTreeMap, BTreeSet};

/// Steps without an end are a bug of the peers.
const STEPS_MAX: usize = 20_000;

pub(crate) struct Server {
    /// None while it is down.
    pub(crate) peer: Option<Peer>,
    pub(crate) disk: Disk,
    pub(crate) tree: Tree,
    pub(crate) role: Role,
    /// A whole SNAP that is not adopted yet.
    received: Option<Tree>,
    disk_held: bool,
    paused: BTreeSet<LinkId>,
}

#[derive(Clone, Debug)]
enum Item {
    ToLeader(LearnerPacket),
    ToLearner(LeaderPacket),
    Snapshot(Tree),
    /// Reached when all before it is handed over.
    Flush,
    /// The sender closed.
    Gone,
}

#[derive(Clone, Debug)]
enum Event {
    Election { from: ServerId, to: ServerId, notification: Notification },
    ElectionUp { at: ServerId, peer: ServerId },
    ElectionDown { at: ServerId, peer: ServerId },
    Dial { from: ServerId, leader: ServerId },
    Item { link: LinkId, from: ServerId, to: ServerId, item: Item },
    LinkDown { at: ServerId, link: LinkId },
    Write { at: ServerId, id: WriteId, write: Write },
    Read { at: ServerId, answer: Input },
}

struct Link {
    learner: ServerId,
    leader: ServerId,
    open: BTreeSet<ServerId>,
}

impl Link {
    fn other(&self, end: ServerId) -> ServerId {
        if end == self.learner { self.leader } else { self.learner }
    }
}

pub(crate) struct Cluster {
    pub(crate) servers: BTreeMap<ServerId, Server>,
    pub(crate) now: u64,
    pub(crate) config: Config,
    ensemble: Ensemble,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    links: BTreeMap<LinkId, Link>,
    next_link: u64,
    /// Election connections.
    connected: BTreeSet<(ServerId, ServerId)>,
    /// The last notification from one to the other: it is repeated on a new connection.
    last_notification: BTreeMap<(ServerId, ServerId), Notification>,
    /// Pairs (both orders) that cannot talk.
    apart: BTreeSet<(ServerId, ServerId)>,
    /// Directions of the learner channel that deliver nothing.
    held: BTreeSet<(ServerId, ServerId)>,
    /// Directions of the election ports that deliver nothing.
    election_held: BTreeSet<(ServerId, ServerId)>,
    /// The transcript since the last block.
    pub(crate) lines: Vec<String>,
    pub(crate) quiet: bool,
    pub(crate) elections_shown: bool,
    pub(crate) pings_shown: bool,
}

impl Cluster {
    pub(crate) fn new(
        voters: &BTreeSet<ServerId>,
        observers: &BTreeSet<ServerId>,
        verifier: QuorumVerifier,
    ) -> Result<Self, String> {
        let text = Bytes::from_static(b"version=0");
        let ensemble =
            Ensemble::new(0, voters.clone(), observers.clone(), verifier, text).map_err(|e| e.to_string())?;
        let server = || Server {
            peer: None,
            disk: Disk::empty(),
            tree: Tree::default(),
            role: Role::Looking,
            received: None,
            disk_held: false,
            paused: BTreeSet::new(),
        };
        Ok(Self {
            servers: voters.iter().chain(observers).map(|id| (*id, server())).collect(),
            now: 0,
            config: Config::new(ServerId(0)),
            ensemble,
            events: BTreeMap::new(),
            next_event: 0,
            links: BTreeMap::new(),
            next_link: 0,
            connected: BTreeSet::new(),
            last_notification: BTreeMap::new(),
            apart: BTreeSet::new(),
            held: BTreeSet::new(),
            election_held: BTreeSet::new(),
            lines: Vec::new(),
            quiet: false,
            elections_shown: false,
            pings_shown: false,
        })
    }

    // ---- what scripts do ----

    pub(crate) fn start(&mut self, ids: &[ServerId]) {
        ids.iter().for_each(|id| self.start_one(*id));
        self.connect();
    }

    fn start_one(&mut self, id: ServerId) {
        let config = Config { server: id, seed: id.0.cast_unsigned(), ..self.config.clone() };
        let ensemble = self.ensemble.clone();
        let server = self.server(id);
        assert!(server.peer.is_none(), "{id} runs");
        let disk = &mut server.disk;
        // As recovery does: a record of an epoch proves that its initial history is there.
        disk.current = disk.current.max(disk.last().epoch());
        disk.accepted = disk.accepted.max(disk.current);
        let durable = Durable {
            accepted: AcceptedEpoch(disk.accepted),
            current: CurrentEpoch(disk.current),
            last_logged: disk.last(),
            recovering: disk.recovering,
        };
        server.tree = disk.tree();
        server.role = Role::Looking;
        server.peer = Some(Peer::new(config, ensemble, durable));
        self.step(id, "starts", Input::Timer);
    }

    pub(crate) fn crash(&mut self, id: ServerId) {
        let server = self.server(id);
        server.peer = None;
        server.received = None;
        server.role = Role::Looking;
        server.paused.clear();
        self.events.retain(|_, event| match event {
            Event::Write { at, .. }
            | Event::Read { at, .. }
            | Event::ElectionUp { at, .. }
            | Event::ElectionDown { at, .. }
            | Event::LinkDown { at, .. } => *at != id,
            Event::Election { to, .. } | Event::Item { to, .. } => *to != id,
            Event::Dial { from, .. } => *from != id,
        });
        self.line(format!("{id} crashes"));
        // What it sent is on its way; behind that the connection is gone.
        let gone: Vec<_> = self.links.iter().filter(|(_, link)| link.open.contains(&id)).map(|(id, _)| *id).collect();
        for link in gone {
            self.close(id, link);
        }
        self.disconnect(id, None);
    }

    pub(crate) fn partition(&mut self, groups: &[BTreeSet<ServerId>]) {
        self.apart.clear();
        for (n, group) in groups.iter().enumerate() {
            for other in groups.iter().skip(n + 1) {
                for (a, b) in group.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
                    self.apart.insert((a, b));
                    self.apart.insert((b, a));
                    self.cut(a, b);
                    self.disconnect(a, Some(b));
                }
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.apart.clear();
        self.connect();
    }

    /// Breaks the links of the learner channel between two servers; what was under way is lost.
    pub(crate) fn cut(&mut self, a: ServerId, b: ServerId) {
        let between = |link: &Link| (link.learner == a && link.leader == b) || (link.learner == b && link.leader == a);
        let links: Vec<_> = self.links.iter().filter(|(_, link)| between(link)).map(|(id, _)| *id).collect();
        for id in links {
            self.events.retain(|_, event| !matches!(event, Event::Item { link, .. } if *link == id));
            for at in self.links[&id].open.clone() {
                self.push(Event::LinkDown { at, link: id });
            }
        }
    }

    pub(crate) fn hold(&mut self, from: ServerId, to: ServerId, hold: bool) {
        if hold {
            self.held.insert((from, to));
        } else {
            self.held.remove(&(from, to));
        }
    }

    pub(crate) fn hold_elections(&mut self, from: ServerId, to: ServerId, hold: bool) {
        if hold {
            self.election_held.insert((from, to));
        } else {
            self.election_held.remove(&(from, to));
        }
    }

    pub(crate) fn hold_disk(&mut self, id: ServerId, hold: bool) {
        self.server(id).disk_held = hold;
    }

    /// Completes the oldest write of a server whose disk is held.
    pub(crate) fn complete(&mut self, id: ServerId) -> Result<(), String> {
        let oldest = self.events.iter().find(|(_, event)| matches!(event, Event::Write { at, .. } if *at == id));
        let number = oldest.map(|(number, _)| *number).ok_or_else(|| format!("{id} writes nothing"))?;
        let event = self.events.remove(&number).expect("it was found");
        self.happen(event);
        Ok(())
    }

    /// Delivers the oldest item of a held direction.
    pub(crate) fn deliver(&mut self, from: ServerId, to: ServerId) -> Result<(), String> {
        let is_next = |event: &Event| match event {
            Event::Item { from: f, to: t, item, .. } => (*f, *t) == (from, to) && !matches!(item, Item::Flush),
            _ => false,
        };
        let number = self.events.iter().find(|(_, event)| is_next(event)).map(|(number, _)| *number);
        let number = number.ok_or_else(|| format!("nothing is under way from {from} to {to}"))?;
        let event = self.events.remove(&number).expect("it was found");
        self.happen(event);
        Ok(())
    }

    /// Whatever can happen without time passing.
    pub(crate) fn settle(&mut self) {
        for _ in 0..STEPS_MAX {
            let Some(number) = self.events.iter().find(|(_, e)| !self.is_held(e)).map(|(number, _)| *number) else {
                self.check_agreement();
                return;
            };
            let event = self.events.remove(&number).expect("it was found");
            self.happen(event);
        }
        panic!("no end after {STEPS_MAX} steps:\n{}", self.lines[self.lines.len().saturating_sub(30)..].join("\n"));
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, ms: u64) {
        let end = self.now + ms;
        self.settle();
        for _ in 0..STEPS_MAX {
            let deadline = |server: &Server| server.peer.as_ref().and_then(Peer::next_deadline);
            let next = self.servers.iter().filter_map(|(id, s)| Some((deadline(s)?.max(self.now), *id))).min();
            match next {
                Some((at, id)) if at <= end => {
                    self.now = at;
                    self.step(id, "timer", Input::Timer);
                    self.settle();
                }
                Some(_) | None => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("no end after {STEPS_MAX} timers:\n{}", self.lines[self.lines.len().saturating_sub(30)..].join("\n"));
    }

    pub(crate) fn propose(&mut self, id: ServerId, text: &str) -> Result<(), String> {
        let now = self.now;
        let peer = self.peer(id)?;
        let zxid = peer.next_zxid().ok_or_else(|| format!("{id} does not lead"))?;
        let mut out = Outputs::default();
        peer.propose(now, zxid, Bytes::copy_from_slice(text.as_bytes()), &mut out);
        self.execute(id, &format!("{id} proposes {}", print::zxid(zxid)), out);
        Ok(())
    }

    /// Lets another server lead.
    pub(crate) fn hand_over(&mut self, id: ServerId) -> Result<(), String> {
        let now = self.now;
        let mut out = Outputs::default();
        let result = self.peer(id)?.hand_over(now, &mut out);
        self.execute(id, &format!("{id} hands over"), out);
        if let Err(refused) = result {
            self.line(format!("{id} refuses: {refused}"));
        }
        Ok(())
    }

    /// The state of a learner turns out not to be its leader's.
    pub(crate) fn diverge(&mut self, id: ServerId) -> Result<(), String> {
        let now = self.now;
        let peer = self.peer(id)?;
        peer.state_diverged();
        if peer.ask_for_state(now) { Ok(()) } else { Err(format!("{id} follows nobody")) }
    }

    /// A sync of a client of this server.
    pub(crate) fn sync(&mut self, id: ServerId, ticket: u64) -> Result<(), String> {
        let now = self.now;
        let peer = self.peer(id)?;
        let mut out = Outputs::default();
        let request = LearnerPacket::Request(ForwardedRequest {
            session: SessionId(1),
            cxid: 1,
            op: 9,
            body: Bytes::new(),
            identities: Identities::NONE,
        });
        if !peer.sync(now, SyncTicket(ticket), &mut out) && !peer.send_leader(request, &mut out) {
            return Err(format!("{id} serves nobody"));
        }
        self.execute(id, &format!("{id} syncs"), out);
        Ok(())
    }

    /// Puts a packet on the link from a leader that it did not send.
    pub(crate) fn forge(&mut self, from: ServerId, to: ServerId, packet: LeaderPacket) -> Result<(), String> {
        let ours = |link: &Link| link.leader == from && link.learner == to && link.open.contains(&to);
        let link = self.links.iter().find(|(_, link)| ours(link)).map(|(id, _)| *id);
        let link = link.ok_or_else(|| format!("no link from {from} to {to}"))?;
        self.push(Event::Item { link, from, to, item: Item::ToLearner(packet) });
        Ok(())
    }

    /// Takes a snapshot, and forgets the log that it covers.
    pub(crate) fn snapshot(&mut self, id: ServerId) {
        let server = self.server(id);
        server.disk.snapshot = server.tree.clone();
        let zxid = server.tree.zxid;
        server.disk.log.retain(|(z, _)| *z > zxid);
    }

    pub(crate) fn server(&mut self, id: ServerId) -> &mut Server {
        self.servers.get_mut(&id).unwrap_or_else(|| panic!("there is no server {id}"))
    }

    pub(crate) fn line(&mut self, line: String) {
        if !self.quiet {
            self.lines.push(line);
        }
    }

    // ---- events ----

    fn peer(&mut self, id: ServerId) -> Result<&mut Peer, String> {
        self.server(id).peer.as_mut().ok_or_else(|| format!("{id} is down"))
    }

    fn push(&mut self, event: Event) {
        self.events.insert(self.next_event, event);
        self.next_event += 1;
    }

    fn is_held(&self, event: &Event) -> bool {
        match event {
            Event::Item { link, from, to, .. } => {
                self.held.contains(&(*from, *to)) || self.servers[to].paused.contains(link)
            }
            Event::Election { from, to, .. } => self.election_held.contains(&(*from, *to)),
            Event::Write { at, .. } => self.servers[at].disk_held,
            Event::ElectionUp { .. }
            | Event::ElectionDown { .. }
            | Event::Dial { .. }
            | Event::LinkDown { .. }
            | Event::Read { .. } => false,
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Election { from, to, notification } => {
                let what = format!("<~ {from} {}", print::notification(&notification));
                self.step(to, &what, Input::Notification { from, notification });
            }
            Event::ElectionUp { at, peer } => self.step(at, &format!("sees {peer}"), Input::ElectionUp { peer }),
            Event::ElectionDown { at, peer } => {
                self.step(at, &format!("sees {peer} no more"), Input::ElectionDown { peer });
            }
            Event::Dial { from, leader } => self.dialled(from, leader),
            Event::Item { link, from, to, item } => self.item(link, from, to, item),
            Event::LinkDown { at, link } => self.link_down(at, link),
            Event::Write { at, id, write } => self.written(at, id, write),
            Event::Read { at, answer } => self.step(at, "has read", answer),
        }
    }

    fn item(&mut self, link: LinkId, from: ServerId, to: ServerId, item: Item) {
        let open = self.links[&link].open.contains(&to);
        match item {
            Item::Flush => self.step(from, &format!("flushed {to}"), Input::Flushed { link }),
            _ if !open => {}
            Item::ToLeader(packet) => {
                let what = format!("<- {from} {}", print::learner_packet(&packet));
                self.step(to, &what, Input::LearnerPacket { link, packet });
            }
            Item::ToLearner(packet) => {
                let what = format!("<- {from} {}", print::leader_packet(&packet));
                self.step(to, &what, Input::LeaderPacket { link, packet });
            }
            Item::Snapshot(tree) => {
                let zxid = tree.zxid;
                self.server(to).received = Some(tree);
                self.step(
                    to,
                    &format!("<- {from} SNAP {}", print::zxid(zxid)),
                    Input::SnapReceived { link, zxid, config: None },
                );
            }
            Item::Gone => self.link_down(to, link),
        }
    }

    fn link_down(&mut self, at: ServerId, link: LinkId) {
        let ends = self.links.get_mut(&link).expect("links are kept");
        let other = ends.other(at);
        if ends.open.remove(&at) {
            self.step(at, &format!("loses {other}"), Input::LinkDown { link });
        }
    }

    fn dialled(&mut self, from: ServerId, leader: ServerId) {
        let up = self.servers[&leader].peer.is_some() && !self.apart.contains(&(from, leader));
        if !up {
            self.step(from, &format!("cannot reach {leader}"), Input::DialFailed { leader });
            return;
        }
        self.next_link += 1;
        let link = LinkId(self.next_link);
        self.links.insert(link, Link { learner: from, leader, open: BTreeSet::from([from, leader]) });
        self.step(leader, &format!("linked {from}"), Input::LinkUp { link, kind: LinkKind::Learner });
        self.step(from, &format!("linked {leader}"), Input::LinkUp { link, kind: LinkKind::Leader(leader) });
    }

    fn written(&mut self, at: ServerId, id: WriteId, write: Write) {
        let server = self.server(at);
        let input = match server.disk.take(write) {
            Written::Durable => Input::Durable { id },
            Written::Truncated(done) => {
                if done {
                    server.tree = server.disk.tree();
                }
                Input::Truncated { id, done, config: None }
            }
            Written::Reloaded => {
                server.tree = server.disk.tree();
                Input::Reloaded { id, last: server.tree.zxid, config: None }
            }
        };
        let what = match input {
            Input::Truncated { done: false, .. } => format!("refuses w{}", id.0),
            _ => format!("done w{}", id.0),
        };
        self.step(at, &what, input);
    }

    // ---- elections' links ----

    fn connect(&mut self) {
        let ids: Vec<_> = self.servers.keys().copied().collect();
        let mut repeated = Vec::new();
        for (a, b) in ids.iter().flat_map(|a| ids.iter().map(move |b| (*a, *b))).filter(|(a, b)| a < b) {
            let up = |id: ServerId| self.servers[&id].peer.is_some();
            if up(a) && up(b) && !self.apart.contains(&(a, b)) && self.connected.insert((a, b)) {
                for (at, peer) in [(a, b), (b, a)] {
                    self.push(Event::ElectionUp { at, peer });
                    if let Some(notification) = self.last_notification.get(&(peer, at)).cloned() {
                        repeated.push(Event::Election { from: peer, to: at, notification });
                    }
                }
            }
        }
        repeated.into_iter().for_each(|event| self.push(event));
    }

    /// From one, or from all.
    fn disconnect(&mut self, a: ServerId, b: Option<ServerId>) {
        let gone = |x: ServerId, y: ServerId| b.map_or(x == a || y == a, |b| (x, y) == (a.min(b), a.max(b)));
        let pairs: Vec<_> = self.connected.iter().copied().filter(|(x, y)| gone(*x, *y)).collect();
        for (x, y) in pairs {
            self.connected.remove(&(x, y));
            self.events.retain(|_, event| match event {
                Event::Election { from, to, .. } => (*from.min(to), *from.max(to)) != (x, y),
                Event::ElectionUp { at, peer } => (*at.min(peer), *at.max(peer)) != (x, y),
                _ => true,
            });
            for (at, peer) in [(x, y), (y, x)] {
                if self.servers[&at].peer.is_some() {
                    self.push(Event::ElectionDown { at, peer });
                } else {
                    // A process that starts again has nothing to repeat.
                    self.last_notification.remove(&(at, peer));
                }
            }
        }
    }

    // ---- steps ----

    fn step(&mut self, id: ServerId, what: &str, input: Input) {
        let now = self.now;
        let Some(peer) = self.server(id).peer.as_mut() else { return };
        let mut out = Outputs::default();
        peer.step(now, input, &mut out);
        self.execute(id, &format!("{id} {what}"), out);
    }

    fn execute(&mut self, id: ServerId, what: &str, out: Outputs) {
        let mut shown = Vec::new();
        let mut list: std::collections::VecDeque<_> = out.list.into();
        while let Some(output) = list.pop_front() {
            if let Some(text) = self.show(&output) {
                shown.push(text);
            }
            let mut more = Outputs::default();
            self.carry_out(id, output, &mut more);
            for output in more.list.into_iter().rev() {
                list.push_front(output);
            }
        }
        self.tell(what, shown);
    }

    fn carry_out(&mut self, id: ServerId, output: Output, more: &mut Outputs) {
        let now = self.now;
        let write = |write_id, write| Event::Write { at: id, id: write_id, write };
        match output {
            Output::Notify { to, notification } => {
                assert_ne!(to, id, "a server does not notify itself");
                self.last_notification.insert((id, to), notification.clone());
                if self.connected.contains(&(id.min(to), id.max(to))) {
                    self.push(Event::Election { from: id, to, notification });
                }
            }
            Output::Dial { leader } => {
                self.events.retain(|_, event| !matches!(event, Event::Dial { from, .. } if *from == id));
                self.push(Event::Dial { from: id, leader });
            }
            Output::SendLeader { link, packet } => self.send(id, link, Item::ToLeader(packet)),
            Output::SendLearner { link, packet } => self.send(id, link, Item::ToLearner(packet)),
            Output::SendSnapshot { link, zxid } => {
                let tree = self.servers[&id].tree.clone();
                assert_eq!(tree.zxid, zxid, "a snapshot is of the delivered state");
                self.send(id, link, Item::Snapshot(tree));
            }
            Output::ReportFlush { link } => self.send(id, link, Item::Flush),
            Output::PauseLink { link } => {
                self.server(id).paused.insert(link);
            }
            Output::ResumeLink { link } => {
                self.server(id).paused.remove(&link);
            }
            Output::CloseLink { link, .. } => self.close(id, link),
            Output::Append { id: w, zxid, txn } => self.push(write(w, Write::Append(zxid, txn))),
            Output::SavePending { .. } => unreachable!("no script reconfigures"),
            Output::RaiseRecovering { id: w } => self.push(write(w, Write::Recovering)),
            Output::SaveAcceptedEpoch { id: w, epoch } => self.push(write(w, Write::Accepted(epoch))),
            Output::SaveCurrentEpoch { id: w, epoch } => self.push(write(w, Write::Current(epoch))),
            Output::Truncate { id: w, after } => self.push(write(w, Write::Truncate(after))),
            Output::AdoptSnapshot { zxid } => {
                let server = self.server(id);
                server.tree = server.received.take().expect("only a received snapshot is adopted");
                assert_eq!(server.tree.zxid, zxid);
            }
            Output::InstallSnapshot { id: w, zxid, epoch } => {
                let tree = self.servers[&id].tree.clone();
                assert_eq!(tree.zxid, zxid, "the delivered state is installed");
                self.push(write(w, Write::Install(tree, epoch)));
            }
            Output::Reload { id: w } => self.push(write(w, Write::Reload)),
            Output::Locate { read, link, zxid } => {
                let located = Some(self.servers[&id].disk.locate(zxid));
                self.answer(id, read, link, |read, link| Input::Located { read, link, located });
            }
            Output::ReadTxns { read, link, after, to } => {
                let txns = self.servers[&id].disk.read(after, to);
                self.answer(id, read, link, |read, link| Input::TxnsRead { read, link, txns });
            }
            Output::Deliver { zxid, txn } => self.server(id).tree.apply(zxid, txn),
            Output::Role(role) => self.server(id).role = role,
            Output::FromLearner { link, packet, .. } => {
                if matches!(packet, LearnerPacket::Request(_))
                    && let Ok(peer) = self.peer(id)
                {
                    peer.sync_learner(now, link, more);
                }
            }
            Output::PingReceived { zxid } => {
                if let Ok(peer) = self.peer(id) {
                    peer.answer_ping(zxid, Vec::new(), more);
                }
            }
            Output::Halt { .. } => self.crash(id),
            Output::LearnerGone { .. }
            | Output::FromLeader { .. }
            | Output::Synced { .. }
            | Output::Activate { .. }
            | Output::Note { .. } => {}
        }
    }

    fn answer(&mut self, at: ServerId, read: ReadId, link: LinkId, answer: impl FnOnce(ReadId, LinkId) -> Input) {
        self.push(Event::Read { at, answer: answer(read, link) });
    }

    fn send(&mut self, from: ServerId, link: LinkId, item: Item) {
        let ends = &self.links[&link];
        let to = ends.other(from);
        if ends.open.contains(&from) && ends.open.contains(&to) {
            self.push(Event::Item { link, from, to, item });
        }
    }

    fn close(&mut self, id: ServerId, link: LinkId) {
        let ends = self.links.get_mut(&link).expect("links are kept");
        let to = ends.other(id);
        if ends.open.remove(&id) && ends.open.contains(&to) {
            self.push(Event::Item { link, from: id, to, item: Item::Gone });
        }
    }

    /// What two serving servers applied agrees as far as both got.
    fn check_agreement(&self) {
        let serving: Vec<_> =
            self.servers.iter().filter(|(_, s)| s.peer.is_some() && s.role != Role::Looking).collect();
        for (a, one) in &serving {
            for (b, two) in &serving {
                for (x, y) in one.tree.applied.iter().zip(&two.tree.applied) {
                    assert_eq!(x, y, "{a} and {b} disagree");
                }
            }
        }
    }
}
