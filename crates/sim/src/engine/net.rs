//! Connections: two pipes each, FIFO as TCP gives it, with everything that may become of them.
//!
//! A cut keeps what is sent in its pipe, as retransmission does, until it ends or the application gives the connection
//! up. A process that dies lets its system say goodbye: a part of what it had sent, and then the end of the connection. A
//! machine that loses power says nothing; who sends to it is told by the system that runs there later that nobody knows
//! the connection.

use super::event::Event;
use super::world::World;
use crate::observe::{ClientId, DialId};
use bytes::Bytes;
use farrier_proto::{Blocks, ServerId, Zxid};
use farrier_replica::TreeRestore;
use farrier_storage::StreamReader;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Longest wait for a dial that nobody answers, where the dialler has no bound of its own. Microseconds.
const DIAL_US_MAX: u64 = 3_000_000;

/// Names a connection; also as [`LinkId`](farrier_zab::LinkId) and [`ConnId`](farrier_replica::ConnId).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ConnKey(pub(crate) u64);

/// Who has an end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Party {
    /// A process of a server.
    Server(ServerId),
    /// A client.
    Client(ClientId, DialId),
}

/// What it is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ConnKind {
    /// Election messages.
    Election,
    /// Between a learner, which dialled, and its leader.
    Channel,
    /// Between a client, which dialled, and a server.
    Client,
}

/// What travels.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// The dialler is there. What a listener learns with the first bytes.
    Hello,
    /// An election message, a packet or a frame.
    Payload(Bytes),
    /// A piece of the stream behind SNAP.
    Piece(Bytes),
    /// The end of the connection.
    Fin,
}

impl Message {
    fn len(&self) -> u64 {
        match self {
            Self::Hello | Self::Fin => 0,
            Self::Payload(bytes) | Self::Piece(bytes) => bytes.len() as u64,
        }
    }
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    queue: VecDeque<(u64, Message)>,
    /// When the newest message arrives.
    newest: u64,
    /// A delivery is planned.
    planned: bool,
    /// The receiver does not read.
    pub(crate) paused: bool,
    sent: u64,
    delivered: u64,
    /// Whoever wants to know when what was sent up to here is with the system.
    flushes: VecDeque<u64>,
}

/// A state on its way to a learner.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) zxid: Zxid,
    pub(crate) reader: StreamReader,
    pub(crate) state: Box<TreeRestore>,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) kind: ConnKind,
    /// The dialler, and who was dialled.
    pub(crate) ends: [Party; 2],
    /// Whether anybody has the end still.
    pub(crate) open: [bool; 2],
    /// What travels to each end.
    pub(crate) pipes: [Pipe; 2],
    /// By the end that is told: what says so comes from its own system.
    pub(crate) forbidden: [bool; 2],
    /// A learner channel: the leader was told of the link.
    pub(crate) announced: bool,
    /// A learner channel: what the learner gets now.
    pub(crate) incoming: Option<Incoming>,
}

impl Conn {
    /// The end that a server has and has not closed.
    pub(crate) fn end_of(&self, server: ServerId) -> Option<usize> {
        (0..2).find(|end| self.open[*end] && self.ends[*end] == Party::Server(server))
    }
}

/// Everything between the machines.
#[derive(Debug, Default)]
pub(crate) struct Net {
    pub(crate) conns: BTreeMap<ConnKey, Conn>,
    next: u64,
    /// Directions in which nothing passes, with the number of faults that want it so.
    cuts: BTreeMap<(ServerId, ServerId), u32>,
    /// Cut directions in which dialling is refused at once.
    refused: BTreeMap<(ServerId, ServerId), u32>,
    /// Clients that reach nobody.
    pub(crate) lonely: BTreeSet<ClientId>,
    /// Microseconds that a message takes more, both ways.
    pub(crate) slow: BTreeMap<(ServerId, ServerId), u64>,
    /// Memory of what packets bring.
    pub(crate) blocks: Blocks,
}

impl Net {
    pub(crate) fn cut(&mut self, from: ServerId, to: ServerId, refuses: bool) {
        *self.cuts.entry((from, to)).or_default() += 1;
        if refuses {
            *self.refused.entry((from, to)).or_default() += 1;
        }
    }

    pub(crate) fn mend(&mut self, from: ServerId, to: ServerId, refuses: bool) {
        let less = |map: &mut BTreeMap<(ServerId, ServerId), u32>| {
            if let Some(n) = map.get_mut(&(from, to)) {
                *n -= 1;
                if *n == 0 {
                    map.remove(&(from, to));
                }
            }
        };
        less(&mut self.cuts);
        if refuses {
            less(&mut self.refused);
        }
    }

    /// Whether anything passes.
    fn passes(&self, from: Party, to: Party) -> bool {
        match (from, to) {
            (Party::Server(a), Party::Server(b)) => !self.cuts.contains_key(&(a, b)),
            (Party::Client(c, _), _) | (_, Party::Client(c, _)) => !self.lonely.contains(&c),
        }
    }

    /// Whether a connection can come about.
    pub(crate) fn connects(&self, a: Party, b: Party) -> bool {
        self.passes(a, b) && self.passes(b, a)
    }

    /// Whether somebody says at once that it can't.
    pub(crate) fn refuses(&self, a: ServerId, b: ServerId) -> bool {
        self.refused.contains_key(&(a, b)) || self.refused.contains_key(&(b, a))
    }

    /// Whether a server reaches another and is reached by it.
    pub(crate) fn joins(&self, a: ServerId, b: ServerId) -> bool {
        self.connects(Party::Server(a), Party::Server(b))
    }

    fn slowness(&self, a: Party, b: Party) -> u64 {
        match (a, b) {
            (Party::Server(a), Party::Server(b)) => self.slow.get(&(a.min(b), a.max(b))).copied().unwrap_or(0),
            _ => 0,
        }
    }
}

impl World {
    /// Microseconds of a message on its way.
    pub(crate) fn trip(&mut self, from: Party, to: Party) -> u64 {
        let (min, max) = (self.plan.rates.message_min, self.plan.rates.message_max);
        self.random.net.between(min, max) + self.net.slowness(from, to)
    }

    /// How long a dial waits that nobody answers, at most.
    pub(crate) const fn dial_patience(own_bound: Option<u64>) -> u64 {
        match own_bound {
            Some(bound) => bound,
            None => DIAL_US_MAX,
        }
    }

    /// A connection stands.
    pub(crate) fn open(&mut self, kind: ConnKind, dialler: Party, dialled: Party) -> ConnKey {
        self.net.next += 1;
        let key = ConnKey(self.net.next);
        let conn = Conn {
            kind,
            ends: [dialler, dialled],
            open: [true; 2],
            pipes: [Pipe::default(), Pipe::default()],
            forbidden: [false; 2],
            announced: false,
            incoming: None,
        };
        self.net.conns.insert(key, conn);
        key
    }

    /// Sends to an end.
    pub(crate) fn send(&mut self, key: ConnKey, to: usize, message: Message) {
        let Some(conn) = self.net.conns.get(&key) else { return };
        let (from, whom) = (conn.ends[1 - to], conn.ends[to]);
        let trip = self.trip(from, whom);
        let Some(conn) = self.net.conns.get_mut(&key) else { return };
        let pipe = &mut conn.pipes[to];
        pipe.newest = pipe.newest.max(self.now + trip);
        pipe.sent += message.len();
        pipe.queue.push_back((pipe.newest, message));
        self.pump(key, to);
    }

    /// Plans the next delivery to an end, if there can be one.
    fn pump(&mut self, key: ConnKey, to: usize) {
        let Some(conn) = self.net.conns.get(&key) else { return };
        let (from, whom) = (conn.ends[1 - to], conn.ends[to]);
        let pipe = &conn.pipes[to];
        let Some((at, _)) = pipe.queue.front() else { return };
        let passes = conn.forbidden[to] || self.net.passes(from, whom);
        if pipe.planned || pipe.paused || !passes || !self.receives(whom) {
            return;
        }
        let at = (*at).max(self.now);
        if let Some(conn) = self.net.conns.get_mut(&key) {
            conn.pipes[to].planned = true;
        }
        self.queue.plan(at, Event::Deliver { conn: key, to });
    }

    /// Something that held up messages is over.
    pub(crate) fn pump_all(&mut self) {
        let keys: Vec<ConnKey> = self.net.conns.keys().copied().collect();
        for key in keys {
            self.pump(key, 0);
            self.pump(key, 1);
        }
    }

    /// Whether the system or process there takes messages.
    fn receives(&self, party: Party) -> bool {
        match party {
            Party::Server(id) => self.machine(id).receives(),
            Party::Client(..) => true,
        }
    }

    /// The front of a pipe arrives.
    pub(crate) fn deliver(&mut self, key: ConnKey, to: usize) {
        let Some(conn) = self.net.conns.get_mut(&key) else { return };
        conn.pipes[to].planned = false;
        let (from, whom) = (conn.ends[1 - to], conn.ends[to]);
        let pipe = &conn.pipes[to];
        let due = pipe.queue.front().is_some_and(|(at, _)| *at <= self.now) && !pipe.paused;
        let passes = conn.forbidden[to] || self.net.passes(from, whom);
        if !due || !passes || !self.receives(whom) {
            return self.pump(key, to);
        }
        let socket = self.plan.rates.socket_bytes;
        let Some(conn) = self.net.conns.get_mut(&key) else { return };
        let pipe = &mut conn.pipes[to];
        let (_, message) = pipe.queue.pop_front().expect("its front is due");
        pipe.delivered += message.len();
        let mut flushed = 0;
        while pipe.flushes.front().is_some_and(|upto| *upto <= pipe.delivered + socket) {
            pipe.flushes.pop_front();
            flushed += 1;
        }
        let (kind, open) = (conn.kind, conn.open);
        // A learner that never said anything comes and goes without notice.
        let known = kind != ConnKind::Channel || to == 0 || conn.announced;
        for _ in 0..flushed {
            self.queue.plan(self.now, Event::Flushed { conn: key, end: 1 - to });
        }
        self.pump(key, to);
        if !open[to] {
            // Nobody is there any more, and the system says so.
            let is_news = !matches!(message, Message::Fin);
            if open[1 - to] && is_news {
                self.reset(key, to);
            }
            return;
        }
        if let Message::Fin = message {
            self.lose_end(key, to);
            if !known {
                return;
            }
        }
        match (kind, whom) {
            (ConnKind::Election, Party::Server(id)) => self.election_message(id, key, to, message),
            (ConnKind::Channel, Party::Server(id)) => self.channel_message(id, key, to, message),
            (ConnKind::Client, Party::Server(id)) => self.client_message(id, key, message),
            (ConnKind::Client, Party::Client(client, dial)) => self.message_for_client(client, dial, message),
            (ConnKind::Election | ConnKind::Channel, Party::Client(..)) => unreachable!("clients have none of these"),
        }
    }

    /// The system of an end without an owner tells the other end.
    fn reset(&mut self, key: ConnKey, end: usize) {
        if let Some(conn) = self.net.conns.get_mut(&key) {
            let other = 1 - end;
            conn.pipes[end].queue.clear();
            if !conn.pipes[other].queue.iter().any(|(_, m)| matches!(m, Message::Fin)) {
                conn.pipes[other].queue.clear();
                self.send(key, other, Message::Fin);
            }
        }
    }

    /// An end has no owner any more. The connection is forgotten once none has.
    fn lose_end(&mut self, key: ConnKey, end: usize) {
        if let Some(conn) = self.net.conns.get_mut(&key) {
            conn.open[end] = false;
            if end == 0 {
                // The dialler's. What its leader sent before it closed still comes.
                conn.incoming = None;
            }
            conn.pipes[1 - end].flushes.clear();
            conn.pipes[end].paused = false;
            if conn.open == [false; 2] {
                self.net.conns.remove(&key);
                self.forget_conn(key);
            }
        }
    }

    /// The owner of an end closes the connection behind what it sent.
    pub(crate) fn close(&mut self, key: ConnKey, end: usize) {
        if self.net.conns.get(&key).is_some_and(|c| c.open[end]) {
            self.send(key, 1 - end, Message::Fin);
            self.lose_end(key, end);
            self.pump(key, end);
        }
    }

    /// A connection breaks: each end hears of it, and of a part of what was on its way.
    pub(crate) fn break_conn(&mut self, key: ConnKey) {
        for to in 0..2 {
            self.cut_short(key, to);
            self.send(key, to, Message::Fin);
        }
    }

    /// A connection is forbidden: each end hears of it at once, across the cut.
    pub(crate) fn refuse_conn(&mut self, key: ConnKey) {
        for to in 0..2 {
            self.refuse_end(key, to);
        }
    }

    /// One end hears at once that its connection is forbidden, across the cut; the other one does not.
    pub(crate) fn refuse_end(&mut self, key: ConnKey, to: usize) {
        if let Some(conn) = self.net.conns.get_mut(&key).filter(|c| c.open[to]) {
            conn.pipes[to].queue.clear();
            conn.pipes[to].queue.push_back((self.now, Message::Fin));
            conn.forbidden[to] = true;
            self.pump(key, to);
        }
    }

    /// A part of what is on its way to an end gets lost.
    fn cut_short(&mut self, key: ConnKey, to: usize) {
        if let Some(conn) = self.net.conns.get_mut(&key) {
            let queue = &mut conn.pipes[to].queue;
            let keep = self.random.net.below(queue.len() as u64 + 1) as usize;
            queue.truncate(keep);
        }
    }

    /// A server's process is gone. `tells`: the system under it says so to the others.
    pub(crate) fn abandon(&mut self, server: ServerId, tells: bool) {
        let mine = |c: &Conn| c.end_of(server);
        let all: Vec<_> = self.net.conns.iter().filter_map(|(key, c)| Some((*key, mine(c)?))).collect();
        for (key, end) in all {
            self.cut_short(key, 1 - end);
            if tells {
                self.close(key, end);
            } else {
                self.lose_end(key, end);
            }
        }
    }

    /// Wants [`Event::Flushed`] once everything sent by an end is with its system.
    pub(crate) fn report_flush(&mut self, key: ConnKey, end: usize) {
        let socket = self.plan.rates.socket_bytes;
        let Some(conn) = self.net.conns.get_mut(&key) else { return };
        let pipe = &mut conn.pipes[1 - end];
        if pipe.sent <= pipe.delivered + socket {
            self.queue.plan(self.now, Event::Flushed { conn: key, end });
        } else {
            pipe.flushes.push_back(pipe.sent);
        }
    }

    /// The owner of an end stops or goes on reading.
    pub(crate) fn set_reading(&mut self, key: ConnKey, end: usize, reads: bool) {
        if let Some(conn) = self.net.conns.get_mut(&key) {
            conn.pipes[end].paused = !reads;
            self.pump(key, end);
        }
    }
}
