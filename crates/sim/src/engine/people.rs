//! Clients in the world: their dials, frames and deadlines.

use super::event::Event;
use super::net::{ConnKey, ConnKind, Message, Party};
use super::world::World;
use crate::client::{Client, ClientInput, ClientOutput};
use crate::observe::{ClientId, DialId, What};
use crate::plan::PlannedClient;
use crate::random::Random;
use farrier_proto::{ServerId, SessionId};
use farrier_replica::{ConnId, Input};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

/// A client, and when its timer is.
pub(crate) struct Person {
    client: Client,
    armed: Option<u64>,
}

impl Person {
    pub(crate) fn new(id: ClientId, plan: &PlannedClient, servers: &[ServerId]) -> Self {
        let client = Client::new(id, servers.to_vec(), plan.workload.clone(), Random::new(plan.seed));
        Self { client, armed: None }
    }
}

impl World {
    /// Whether every client that does not keep silent on purpose is attached, and has all its answers.
    pub(crate) fn all_are_answered(&self) -> bool {
        let served = |c: &Client| c.is_silent() || (c.is_attached() && c.outstanding() == 0);
        self.people.iter().all(|p| served(&p.client))
    }

    /// The sessions that clients are attached with.
    pub(crate) fn sessions_in_use(&self) -> BTreeSet<SessionId> {
        self.people.iter().filter_map(|p| p.client.attached_session()).collect()
    }

    /// Gives a client an input, and does what it wants.
    pub(crate) fn client_step(&mut self, id: ClientId, input: ClientInput<'_>) {
        let now = self.moment();
        let mut out = Vec::new();
        // Guests have manners of their own.
        let Some(person) = self.people.get_mut(id.0 as usize) else { return };
        person.client.step(now, input, &mut out);
        for output in out {
            match output {
                ClientOutput::Dial(dial, server) => {
                    let (here, there) = (Party::Client(id, dial), Party::Server(server));
                    let heard = self.net.connects(here, there) && self.machine(server).powered;
                    let wait =
                        if heard { self.trip(here, there) + self.trip(there, here) } else { Self::dial_patience(None) };
                    let event = Event::ClientDialled { client: id, dial, server, answered: heard };
                    self.queue.plan(self.now + wait, event);
                }
                ClientOutput::Send(dial, frame) => {
                    if let Some(key) = self.dials.get(&(id, dial)) {
                        self.send(*key, 1, Message::Payload(frame.into()));
                    }
                }
                ClientOutput::Close(dial) => {
                    if let Some(key) = self.dials.remove(&(id, dial)) {
                        self.close(key, 0);
                    }
                }
                ClientOutput::Observed(event) => self.tell(What::Client(id, event)),
            }
        }
        let person = &mut self.people[id.0 as usize];
        if let Some(due) = person.client.next_deadline().map(|d| d.0.max(now.0))
            && person.armed.is_none_or(|armed| due < armed)
        {
            person.armed = Some(due);
            self.queue.plan(due, Event::ClientTimer { client: id });
        }
    }

    /// A client's timer, perhaps one that was set for what is no longer wanted.
    pub(crate) fn client_timer(&mut self, id: ClientId) {
        let now = self.moment();
        let person = &mut self.people[id.0 as usize];
        if person.armed.is_some_and(|armed| armed <= now.0) {
            person.armed = None;
        }
        let due = person.client.next_deadline();
        if due.is_some_and(|d| d <= now) {
            return self.client_step(id, ClientInput::Timer);
        }
        if let Some(due) = due
            && person.armed.is_none_or(|armed| due.0 < armed)
        {
            person.armed = Some(due.0);
            self.queue.plan(due.0, Event::ClientTimer { client: id });
        }
    }

    /// A client's dial is answered, or it waits no longer.
    pub(crate) fn client_dialled(&mut self, id: ClientId, dial: DialId, server: ServerId, answered: bool) {
        let (here, there) = (Party::Client(id, dial), Party::Server(server));
        let stands = answered && self.machine(server).process.is_some() && self.net.connects(here, there);
        if !stands {
            return self.client_step(id, ClientInput::Disconnected(dial));
        }
        let key = self.open(ConnKind::Client, here, there);
        self.dials.insert((id, dial), key);
        self.send(key, 1, Message::Hello);
        self.client_step(id, ClientInput::Connected(dial));
    }

    /// Something arrives for a client.
    pub(crate) fn message_for_client(&mut self, id: ClientId, dial: DialId, message: Message) {
        if let Some(guest) = self.guest_of(id) {
            return self.message_for_guest(guest, dial, message);
        }
        match message {
            Message::Payload(frame) => self.client_step(id, ClientInput::Frame(dial, &frame)),
            Message::Fin => {
                self.dials.remove(&(id, dial));
                self.client_step(id, ClientInput::Disconnected(dial));
            }
            Message::Hello | Message::Piece(_) => unreachable!("servers send clients frames"),
        }
    }

    /// Something arrives from a client.
    pub(crate) fn client_message(&mut self, me: ServerId, key: ConnKey, message: Message) {
        let conn = ConnId(key.0);
        match message {
            Message::Hello => {
                let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
                self.step(me, Input::ClientUp { conn, peer });
            }
            Message::Payload(frame) => self.step(me, Input::ClientFrame { conn, frame: &frame }),
            Message::Fin => self.step(me, Input::ClientDown { conn }),
            Message::Piece(_) => unreachable!("clients send frames"),
        }
    }

    /// A connection has no owner any more.
    pub(crate) fn forget_conn(&mut self, key: ConnKey) {
        self.dials.retain(|_, known| *known != key);
    }
}
