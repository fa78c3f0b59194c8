//! Clients against a real server that stands alone.

use super::*;
use crate::observe::Reply;
use farrier_proto::Zxid;
use farrier_replica::{Action, Actions, ConnId, Input, Replica, ReplicaConfig, Time, TreeRestore};
use farrier_tree::TreeConfig;
use std::collections::{BTreeMap, VecDeque};

const SERVER: ServerId = ServerId(1);

/// A server with a perfect disk and network, and its clients.
struct World {
    replica: Replica,
    now: Moment,
    clients: Vec<Client>,
    conns: BTreeMap<ConnId, (usize, DialId)>,
    next: u64,
    /// On its way to clients; no frame: the connection is gone.
    under_way: VecDeque<(usize, DialId, Option<Vec<u8>>)>,
    told: Vec<(usize, ClientEvent)>,
}

const fn time(now: Moment) -> Time {
    Time { mono: 1_000_000 + now.millis(), wall: 1_700_000_000_000 + now.millis() as i64 }
}

impl World {
    fn new(clients: Vec<Client>) -> Self {
        let now = Moment::default();
        let tree = TreeConfig { extended_types: true, ..TreeConfig::default() };
        let config = ReplicaConfig { tree, seed: 7, ..ReplicaConfig::default() };
        let state = TreeRestore::new(config.tree, config.seed);
        let replica = Replica::standalone(config, state, Zxid::ZERO, 0, time(now));
        Self { replica, now, clients, conns: BTreeMap::new(), next: 1, under_way: VecDeque::new(), told: Vec::new() }
    }

    fn server(&mut self, input: Input<'_>) {
        let mut out = Actions::default();
        self.replica.step(time(self.now), input, &mut out);
        let mut durable = None;
        for action in std::mem::take(&mut out.list) {
            match action {
                Action::Send { conn, start, end } => {
                    let mut rest = &out.bytes[start..end];
                    while let Some(len) = rest.first_chunk::<4>() {
                        let len = u32::from_be_bytes(*len) as usize;
                        let frame = rest[4..4 + len].to_vec();
                        rest = &rest[4 + len..];
                        if let Some((client, dial)) = self.conns.get(&conn).copied() {
                            self.under_way.push_back((client, dial, Some(frame)));
                        }
                    }
                }
                Action::CloseClient { conn } => {
                    if let Some((client, dial)) = self.conns.remove(&conn) {
                        self.under_way.push_back((client, dial, None));
                    }
                }
                Action::ReportFlush { conn } => self.server(Input::Flushed { conn }),
                Action::Append { id, .. } => durable = Some(id),
                _ => {}
            }
        }
        if let Some(id) = durable {
            self.server(Input::Durable { id });
        }
    }

    fn client(&mut self, i: usize, input: ClientInput<'_>) {
        self.step(i, input);
        while let Some((i, dial, frame)) = self.under_way.pop_front() {
            match frame {
                Some(frame) => self.step(i, ClientInput::Frame(dial, &frame)),
                None => self.step(i, ClientInput::Disconnected(dial)),
            }
        }
    }

    fn step(&mut self, i: usize, input: ClientInput<'_>) {
        let mut out = Vec::new();
        let mut connected = Vec::new();
        self.clients[i].step(self.now, input, &mut out);
        for output in out {
            let conn_of =
                |world: &Self, dial| world.conns.iter().find(|(_, c)| **c == (i, dial)).map(|(conn, _)| *conn);
            match output {
                ClientOutput::Dial(dial, server) => {
                    assert_eq!(server, SERVER);
                    let conn = ConnId(self.next);
                    self.next += 1;
                    self.conns.insert(conn, (i, dial));
                    self.server(Input::ClientUp { conn, peer: "127.0.0.1:40000".parse().expect("an address") });
                    connected.push(dial);
                }
                ClientOutput::Send(dial, frame) => {
                    if let Some(conn) = conn_of(self, dial) {
                        self.server(Input::ClientFrame { conn, frame: &frame });
                    }
                }
                ClientOutput::Close(dial) => {
                    if let Some(conn) = conn_of(self, dial) {
                        self.conns.remove(&conn);
                        self.server(Input::ClientDown { conn });
                    }
                }
                ClientOutput::Observed(event) => self.told.push((i, event)),
            }
        }
        connected.into_iter().for_each(|dial| self.step(i, ClientInput::Connected(dial)));
    }

    fn run_until(&mut self, end: Moment) {
        loop {
            let wakes = self.clients.iter().enumerate().filter_map(|(i, c)| Some((c.next_deadline()?, i)));
            let (due, i) = wakes.min().expect("clients always want the timer");
            let server = self.replica.next_deadline().map(|ms| Moment::from_millis(ms.saturating_sub(1_000_000)));
            let next = server.map_or(due, |s| s.min(due));
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if server.is_some_and(|s| s <= self.now) {
                self.server(Input::TimerFired);
                self.client(i, ClientInput::Timer);
            } else {
                self.client(i, ClientInput::Timer);
            }
        }
        self.now = end;
    }
}

const fn weight(deed: &Deed) -> u32 {
    if matches!(deed, Deed::Move | Deed::Close | Deed::FallSilent) { 1 } else { 10 }
}

fn workload(random: &mut Random) -> Workload {
    Workload { large: 8 << 10, weights: Deed::ALL.iter().map(weight).collect(), ..Workload::draw(random) }
}

fn world(seed: u64) -> World {
    let mut random = Random::new(seed);
    let clients = (0..4).map(|n| Client::new(ClientId(n), vec![SERVER], workload(&mut random), random.fork("client")));
    World::new(clients.collect())
}

#[test]
fn a_client_speaks_the_protocol_and_does_everything() {
    let mut w = world(3);
    w.run_until(Moment::from_millis(200_000));
    let count = |f: &dyn Fn(&ClientEvent) -> bool| w.told.iter().filter(|(_, e)| f(e)).count();
    for (_, event) in &w.told {
        assert!(!matches!(event, ClientEvent::Nonsense { .. }), "{event:?}");
    }
    assert!(count(&|e| matches!(e, ClientEvent::Returned { outcome: Ok(_), .. })) > 1000);
    assert!(count(&|e| matches!(e, ClientEvent::Returned { outcome: Err(_), .. })) > 100);
    assert!(count(&|e| matches!(e, ClientEvent::Returned { outcome: Ok(Reply::Multi(_)), .. })) > 50);
    assert!(count(&|e| matches!(e, ClientEvent::Watched { .. })) > 100);
    assert!(count(&|e| matches!(e, ClientEvent::Attached { fresh: false, .. })) > 20, "it moves");
    assert!(count(&|e| matches!(e, ClientEvent::Closed { .. })) > 5);
    assert!(count(&|e| matches!(e, ClientEvent::Expired { .. })) > 2, "silence lets sessions expire");
}

#[test]
fn the_same_seed_does_the_same() {
    let run = |seed| {
        let mut w = world(seed);
        w.run_until(Moment::from_millis(20_000));
        format!("{:?}", w.told)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn at_rest_sessions_stay_and_nothing_is_asked() {
    let mut w = world(4);
    w.run_until(Moment::from_millis(10_000));
    (0..4).for_each(|i| w.client(i, ClientInput::Rest));
    w.run_until(Moment::from_millis(60_000));
    w.told.clear();
    w.run_until(Moment::from_millis(120_000));
    let only_pings = |e: &ClientEvent| matches!(e, ClientEvent::Pinged { .. } | ClientEvent::Ponged { .. });
    assert!(w.told.iter().all(|(_, e)| only_pings(e)), "{:?}", w.told.iter().find(|(_, e)| !only_pings(e)));
    assert!(w.told.iter().any(|(_, e)| matches!(e, ClientEvent::Ponged { .. })));
    assert!(w.clients.iter().all(|c| c.is_attached() && c.outstanding() == 0));
}

#[test]
fn who_is_gone_without_a_word_leaves_its_session_to_expire() {
    let mut w = world(4);
    w.run_until(Moment::from_millis(10_000));
    (0..4).for_each(|i| w.client(i, ClientInput::Rest));
    w.run_until(Moment::from_millis(60_000));
    assert_eq!(w.replica.session_count(), 4);
    w.client(3, ClientInput::Vanish);
    w.told.clear();
    w.run_until(Moment::from_millis(120_000));
    assert!(w.told.iter().all(|(client, _)| *client != 3));
    assert!(w.clients[3].next_deadline().is_none() && !w.clients[3].is_attached());
    assert_eq!(w.replica.session_count(), 3);
}
