//! A few servers and the links between them.

use super::*;
use std::collections::VecDeque;

pub(super) struct Server {
    pub(super) core: Core,
    pub(super) election: Election,
    pub(super) elected: Option<Elected>,
}

/// Servers and the links between them. Time passes only where a test says so.
pub(super) struct Net {
    pub(super) now: u64,
    pub(super) servers: BTreeMap<ServerId, Server>,
    pub(super) wire: VecDeque<(ServerId, ServerId, Notification)>,
    pub(super) last: BTreeMap<(ServerId, ServerId), Notification>,
}

impl Net {
    pub(super) const fn new() -> Self {
        Self { now: 1000, servers: BTreeMap::new(), wire: VecDeque::new(), last: BTreeMap::new() }
    }

    /// Servers that have all links and have not begun.
    pub(super) fn linked(cores: impl IntoIterator<Item = Core>) -> Self {
        let mut net = Self::new();
        for core in cores {
            net.add(core);
        }
        let all: Vec<_> = net.servers.keys().map(|s| s.0).collect();
        for server in &all {
            net.link(*server, &all);
        }
        net
    }

    pub(super) fn majority(states: &[(i64, Durable)], voters: i64) -> Self {
        let ensemble = majority(voters);
        Self::linked(states.iter().map(|(s, d)| core(*s, &ensemble, *d)))
    }

    pub(super) fn add(&mut self, core: Core) {
        self.servers.insert(core.me(), Server { election: Election::new(&core), core, elected: None });
    }

    pub(super) fn server(&mut self, server: i64) -> &mut Server {
        self.servers.get_mut(&ServerId(server)).expect("it was added")
    }

    pub(super) fn said_by(&mut self, server: ServerId, out: &Outputs) {
        for (to, notification) in notified(out) {
            self.last.insert((server, ServerId(to)), notification.clone());
            self.wire.push_back((server, ServerId(to), notification));
        }
    }

    pub(super) fn act(
        &mut self,
        id: ServerId,
        act: impl FnOnce(&mut Election, &mut Core, u64, &mut Outputs) -> Option<Elected>,
    ) {
        let mut out = Outputs::default();
        let server = self.servers.get_mut(&id).expect("it was added");
        if let Some(elected) = act(&mut server.election, &mut server.core, self.now, &mut out) {
            server.core.round = elected.round;
            server.core.vote = elected.vote;
            server.elected = Some(elected);
        }
        self.said_by(id, &out);
    }

    pub(super) fn start(&mut self, servers: impl IntoIterator<Item = i64>) {
        for server in servers {
            let core = &self.server(server).core;
            let election = Election::new(core);
            *self.server(server) = Server { election, elected: None, core: core.clone() };
            self.act(ServerId(server), Election::start);
        }
    }

    /// Links of one server with others, in both directions. As with Apache the last message is said again.
    pub(super) fn link(&mut self, one: i64, others: &[i64]) {
        for other in others {
            for (a, b) in [(ServerId(one), ServerId(*other)), (ServerId(*other), ServerId(one))] {
                if a == b || !self.server(a.0).core.election_links.insert(b) {
                    continue;
                }
                if let Some(last) = self.last.get(&(a, b)) {
                    self.wire.push_back((a, b, last.clone()));
                }
                if self.server(a.0).elected.is_none() && self.server(a.0).election.resend_at > 0 {
                    self.act(a, Election::links_changed);
                }
            }
        }
    }

    pub(super) fn unlink(&mut self, one: i64, others: &[i64]) {
        for other in others {
            for (a, b) in [(ServerId(one), ServerId(*other)), (ServerId(*other), ServerId(one))] {
                self.server(a.0).core.election_links.remove(&b);
                if self.server(a.0).elected.is_none() && self.server(a.0).election.resend_at > 0 {
                    self.act(a, Election::links_changed);
                }
            }
        }
        self.wire.retain(|(from, to, _)| self.servers[from].core.election_links.contains(to));
    }

    pub(super) fn state(&self, server: &Server) -> ServerState {
        match server.elected {
            None => ServerState::Looking,
            Some(e) if e.vote.leader == server.core.me() => ServerState::Leading,
            Some(_) if server.core.ensemble.is_observer(server.core.me()) => ServerState::Observing,
            Some(_) => ServerState::Following,
        }
    }

    pub(super) fn deliver_one(&mut self, at: usize) {
        let Some((from, to, notification)) = self.wire.remove(at) else { return };
        let Some(server) = self.servers.get(&to) else { return };
        if !server.core.election_links.contains(&from) || server.election.resend_at == 0 {
            return;
        }
        if server.elected.is_none() {
            self.act(to, |e, core, now, out| e.notification(core, now, from, notification, out));
        } else {
            let mut out = Outputs::default();
            answer(&server.core, self.state(server), from, &notification, &mut out);
            self.said_by(to, &out);
        }
    }

    /// Hands on everything that was said, and what is said to it.
    pub(super) fn settle(&mut self) {
        for _ in 0..2000 {
            self.deliver_one(0);
            if self.wire.is_empty() {
                return;
            }
        }
        panic!("they never stop talking");
    }

    /// Lets time pass, with its deadlines.
    pub(super) fn pass(&mut self, millis: u64) {
        let end = self.now + millis;
        loop {
            self.settle();
            let looking = self.servers.iter().filter(|(_, s)| s.elected.is_none() && s.election.resend_at > 0);
            let due = looking.filter_map(|(id, s)| Some((s.election.next_deadline()?, *id))).min();
            let Some((at, id)) = due.filter(|(at, _)| *at <= end) else { break };
            self.now = self.now.max(at);
            self.act(id, Election::timer);
        }
        self.now = end;
    }

    /// Whom each of these servers elected; 0 for nobody yet.
    pub(super) fn leaders(&self, servers: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let leader = |s: i64| self.servers[&ServerId(s)].elected.map_or(0, |e| e.vote.leader.0);
        servers.into_iter().map(leader).collect()
    }

    /// What members say once an epoch is established.
    pub(super) fn establish(&mut self, epoch: i64) {
        for server in self.servers.values_mut().filter(|s| s.elected.is_some()) {
            server.core.vote.peer_epoch = epoch;
        }
    }
}
