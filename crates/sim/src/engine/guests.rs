//! Guests in the world: their dials, frames and deadlines, and processes of theirs that stand still.

use super::event::{Event, GuestEvent};
use super::net::{ConnKey, ConnKind, Message, Party};
use super::world::World;
use crate::guest::{Given, Guests, Pause, Wish};
use crate::observe::{ClientId, DialId};
use farrier_proto::client::{ReplyHeader, RequestHeader};
use farrier_proto::{Field as _, Reader, ServerId};

/// Steps of all guests in one moment; more means that somebody runs in circles.
const STEPS_MAX: usize = 10_000;

/// A connection of a guest, or the attempt to make it.
#[derive(Clone, Copy, Debug)]
struct Line {
    dial: DialId,
    key: Option<ConnKey>,
}

/// What the world keeps for a guest.
#[derive(Debug, Default)]
struct Seat {
    line: Option<Line>,
    armed: Option<u64>,
    /// Not scheduled: what comes waits.
    paused: bool,
    waiting: Vec<Given>,
}

/// The guests of a world; usually there are none.
#[derive(Default)]
pub(crate) struct Company {
    guests: Option<Box<dyn Guests>>,
    seats: Vec<Seat>,
}

impl Company {
    pub(crate) fn come(&mut self, guests: Box<dyn Guests>) {
        self.seats = (0..guests.len()).map(|_| Seat::default()).collect();
        self.guests = Some(guests);
    }

    /// They leave the world.
    pub(crate) fn go(&mut self) -> Box<dyn Guests> {
        self.guests.take().expect("they came")
    }

    pub(crate) fn all(&mut self) -> &mut dyn Guests {
        &mut **self.guests.as_mut().expect("they came")
    }

    pub(crate) fn unserved(&self) -> Option<String> {
        self.guests.as_ref().and_then(|guests| guests.unserved())
    }

    pub(crate) fn have_ended(&self) -> bool {
        self.guests.as_ref().is_none_or(|guests| guests.have_ended())
    }

    fn line_of(&self, guest: usize, dial: DialId) -> Option<Line> {
        self.seats[guest].line.filter(|line| line.dial == dial)
    }
}

impl World {
    /// The name of a guest among the clients.
    fn guest_id(&self, guest: usize) -> ClientId {
        ClientId(u32::try_from(self.people.len() + guest).expect("few clients"))
    }

    /// Which guest a client is, if it is one.
    pub(crate) fn guest_of(&self, id: ClientId) -> Option<usize> {
        (id.0 as usize).checked_sub(self.people.len())
    }

    /// A client that a fault may hit, guests among them.
    pub(crate) fn any_client(&self, size: u64) -> ClientId {
        let all = self.people.len() + self.guests.seats.len();
        ClientId(u32::try_from(size % all as u64).expect("few clients"))
    }

    /// Gives a guest something, and does what it and others want then.
    fn give(&mut self, guest: usize, given: Given) {
        let seat = &mut self.guests.seats[guest];
        if seat.paused {
            return seat.waiting.push(given);
        }
        self.guest_step(guest, given);
        for _ in 0..STEPS_MAX {
            let Company { guests: Some(guests), seats } = &mut self.guests else { return };
            if let Some(next) = guests.work(&|n| !seats[n].paused) {
                self.guest_step(next, Given::Time);
            } else {
                if let Err(what) = guests.judge() {
                    self.fail("guests", what);
                }
                return;
            }
        }
        self.engine_fails(format!("guests take more than {STEPS_MAX} steps in one moment"));
    }

    fn guest_step(&mut self, guest: usize, given: Given) {
        let Some(guests) = &mut self.guests.guests else { return };
        self.transcript.line(self.now, || format!("guest {guest} {}", shown(&given)));
        let mut wishes = Vec::new();
        let due = guests.step(guest, self.now, given, &mut wishes);
        for wish in wishes {
            self.transcript.line(self.now, || format!("guest {guest} {}", shown_wish(&wish)));
            match wish {
                Wish::Send(frame) => {
                    if let Some(key) = self.guests.seats[guest].line.and_then(|line| line.key) {
                        self.send(key, 1, Message::Payload(frame));
                    }
                }
                Wish::Hangup => self.guest_hangs_up(guest),
                Wish::Dial { dial, server, within_us } => {
                    self.guest_hangs_up(guest);
                    self.guest_dials(guest, dial, server, within_us);
                }
            }
        }
        if let Some(due) = due.map(|due| due.max(self.now)) {
            let armed = &mut self.guests.seats[guest].armed;
            if armed.is_none_or(|armed| due < armed) {
                *armed = Some(due);
                self.queue.plan(due, Event::Guest { guest, event: GuestEvent::Timer });
            }
        }
    }

    fn guest_dials(&mut self, guest: usize, dial: DialId, server: ServerId, within_us: u64) {
        self.guests.seats[guest].line = Some(Line { dial, key: None });
        let (here, there) = (Party::Client(self.guest_id(guest), dial), Party::Server(server));
        let heard = self.net.connects(here, there) && self.machine(server).powered;
        let patience = Self::dial_patience(Some(within_us));
        let wait = if heard { self.trip(here, there) + self.trip(there, here) } else { patience };
        let event = GuestEvent::Dialled { dial, server, answered: heard && wait <= patience };
        self.queue.plan(self.now + wait.min(patience), Event::Guest { guest, event });
    }

    fn guest_hangs_up(&mut self, guest: usize) {
        let id = self.guest_id(guest);
        if let Some(line) = self.guests.seats[guest].line.take()
            && let Some(key) = self.dials.remove(&(id, line.dial))
        {
            self.close(key, 0);
        }
    }

    /// Something of a guest's own.
    pub(crate) fn guest_event(&mut self, guest: usize, event: GuestEvent) {
        match event {
            GuestEvent::Timer => {
                let armed = &mut self.guests.seats[guest].armed;
                if armed.is_some_and(|at| at <= self.now) {
                    *armed = None;
                }
                self.give(guest, Given::Time);
            }
            GuestEvent::Dialled { dial, server, answered } => self.guest_dialled(guest, dial, server, answered),
            GuestEvent::Paused(paused) => self.guest_paused(guest, paused),
        }
    }

    fn guest_dialled(&mut self, guest: usize, dial: DialId, server: ServerId, answered: bool) {
        if self.guests.line_of(guest, dial).is_none() {
            return;
        }
        let id = self.guest_id(guest);
        let (here, there) = (Party::Client(id, dial), Party::Server(server));
        let stands = answered && self.machine(server).process.is_some() && self.net.connects(here, there);
        if !stands {
            self.guests.seats[guest].line = None;
            return self.give(guest, Given::Lost(dial));
        }
        let key = self.open(ConnKind::Client, here, there);
        self.dials.insert((id, dial), key);
        self.guests.seats[guest].line = Some(Line { dial, key: Some(key) });
        self.send(key, 1, Message::Hello);
        self.give(guest, Given::Connected(dial));
    }

    /// Something arrives for a guest.
    pub(crate) fn message_for_guest(&mut self, guest: usize, dial: DialId, message: Message) {
        match message {
            Message::Payload(frame) => {
                if self.guests.line_of(guest, dial).is_some() {
                    self.give(guest, Given::Frame(dial, frame));
                }
            }
            Message::Fin => {
                self.dials.remove(&(self.guest_id(guest), dial));
                if self.guests.line_of(guest, dial).is_some() {
                    self.guests.seats[guest].line = None;
                    self.give(guest, Given::Lost(dial));
                }
            }
            Message::Hello | Message::Piece(_) => unreachable!("servers send clients frames"),
        }
    }

    /// A guest is scheduled no more, or again: then it gets what came meanwhile, in its order.
    fn guest_paused(&mut self, guest: usize, paused: bool) {
        self.transcript.line(self.now, || format!("guest {guest} {}", if paused { "stands still" } else { "goes on" }));
        let seat = &mut self.guests.seats[guest];
        seat.paused = paused;
        if !paused {
            let waiting = std::mem::take(&mut seat.waiting);
            waiting.into_iter().for_each(|given| self.give(guest, given));
            self.give(guest, Given::Time);
        }
    }

    pub(crate) fn plan_pause(&mut self, pause: Pause) {
        let Pause { guest, at, lasts } = pause;
        self.queue.plan(at, Event::Guest { guest, event: GuestEvent::Paused(true) });
        self.queue.plan(at + lasts, Event::Guest { guest, event: GuestEvent::Paused(false) });
    }

    /// Every guest gets a turn.
    pub(crate) fn wake_guests(&mut self) {
        for guest in 0..self.guests.seats.len() {
            self.queue.plan(self.now, Event::Guest { guest, event: GuestEvent::Timer });
        }
    }
}

/// What a guest is given, for people.
fn shown(given: &Given) -> String {
    match given {
        Given::Time => "has a turn".to_owned(),
        Given::Connected(dial) => format!("is connected {dial:?}"),
        Given::Lost(dial) => format!("loses {dial:?}"),
        Given::Frame(dial, frame) => match ReplyHeader::read(&mut Reader::new(frame)) {
            Ok(header) => format!("hears on {dial:?} {header:?}, {} bytes", frame.len()),
            Err(_) => format!("hears on {dial:?} {} bytes", frame.len()),
        },
    }
}

fn shown_wish(wish: &Wish) -> String {
    match wish {
        Wish::Dial { dial, server, .. } => format!("dials {server} {dial:?}"),
        Wish::Hangup => "hangs up".to_owned(),
        Wish::Send(frame) => match RequestHeader::read(&mut Reader::new(frame)) {
            Ok(header) => format!("sends {header:?}, {} bytes", frame.len()),
            Err(_) => format!("sends {} bytes", frame.len()),
        },
    }
}
