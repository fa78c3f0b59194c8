//! Three servers, clients that come and go, and whatever may happen to servers: what was acknowledged stays, a
//! sync shows it, and in the end all servers are equal.

mod harness;

use farrier_proto::client::{ConnectResponse, CreateRequest, PathOnly, PathWatch, ReplyHeader};
use farrier_proto::{Field, OpCode, RawAcl, Reader, SessionId};
use farrier_replica::ConnId;
use harness::encode;
use harness::ensemble::{Client, Cluster};
use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};

const SEEDS: u64 = 60;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

enum Asked {
    Create(String),
    /// With what was acknowledged to anybody before it was asked for.
    Sync(BTreeSet<String>),
    Exists(String),
    Other,
}

struct Somebody {
    conn: Option<ConnId>,
    /// The connect request was answered.
    established: bool,
    session: Option<SessionId>,
    xid: i32,
    seen: i64,
    asked: VecDeque<(i32, Asked)>,
    /// What the last sync makes visible.
    must_see: BTreeSet<String>,
}

fn create(path: &str, flags: i32) -> Vec<u8> {
    let open = RawAcl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) };
    encode(&CreateRequest { path: Some(Cow::Borrowed(path)), data: Some(b"d".into()), acl: Some(vec![open]), flags })
}

struct Play {
    cluster: Cluster,
    random: Random,
    people: Vec<Somebody>,
    acked: BTreeSet<String>,
    names: u64,
    down: BTreeSet<i64>,
    frozen: BTreeSet<i64>,
    replies: usize,
}

impl Play {
    fn hear(&mut self) {
        self.cluster.run();
        for who in &mut self.people {
            let Some(conn) = who.conn else { continue };
            for frame in self.cluster.frames(conn) {
                if !who.established {
                    let response = ConnectResponse::read(&mut Reader::new(&frame)).expect("a connect response");
                    who.established = response.timeout > 0;
                    assert!(who.session.is_none_or(|s| s == response.session || !who.established));
                    who.session = who.established.then_some(response.session);
                    if !who.established {
                        who.seen = 0;
                    }
                    continue;
                }
                let header = ReplyHeader::read(&mut Reader::new(&frame)).expect("a header");
                let (xid, asked) = who.asked.pop_front().expect("nobody is answered who did not ask");
                assert_eq!(header.xid.0, xid, "replies come in the order of requests");
                assert!(header.zxid >= who.seen, "time does not go back for a client");
                who.seen = header.zxid;
                self.replies += 1;
                match asked {
                    Asked::Create(path) if header.err == 0 => {
                        self.acked.insert(path);
                    }
                    Asked::Sync(acked) => {
                        assert_eq!(header.err, 0);
                        who.must_see = acked;
                    }
                    Asked::Exists(path) => {
                        assert!(header.err == 0 || !who.must_see.contains(&path), "{path} was synced, and is not seen");
                    }
                    Asked::Create(_) | Asked::Other => {}
                }
            }
            if self.cluster.is_closed(conn) {
                who.conn = None;
                who.asked.clear();
            }
        }
    }

    fn act(&mut self) {
        let up: Vec<i64> = self.cluster.running().into_iter().filter(|s| !self.frozen.contains(s)).collect();
        let server = self.random.below(3) as i64 + 1;
        match self.random.below(40) {
            0 if self.down.is_empty() => {
                self.frozen.remove(&server).then(|| self.cluster.thaw(server));
                self.cluster.hold_disk(server, false);
                self.cluster.crash(server);
                self.down.insert(server);
            }
            1 | 2 => {
                if let Some(server) = self.down.pop_first() {
                    self.cluster.start(server);
                }
            }
            3 if self.frozen.is_empty() && !self.down.contains(&server) => {
                self.cluster.freeze(server);
                self.frozen.insert(server);
            }
            4..=6 => {
                if let Some(server) = self.frozen.pop_first() {
                    self.cluster.thaw(server);
                }
            }
            7 if !self.down.contains(&server) => self.cluster.hold_disk(server, true),
            8 | 9 => (1..=3).for_each(|s| self.cluster.hold_disk(s, false)),
            10..=12 => {
                let ms = [1, 30, 300, 3000, 9000][self.random.below(5) as usize];
                self.cluster.pass(ms);
            }
            13..=18 => {
                let i = self.random.below(self.people.len() as u64) as usize;
                let Some(server) = up.get(self.random.below(up.len().max(1) as u64) as usize) else { return };
                self.join(i, *server);
            }
            _ => {
                let i = self.random.below(self.people.len() as u64) as usize;
                self.ask(i);
            }
        }
    }

    fn join(&mut self, i: usize, server: i64) {
        let who = &mut self.people[i];
        who.asked.clear();
        who.must_see.clear();
        let c = &mut self.cluster;
        let (session, seen) = (who.session.unwrap_or(SessionId::NONE), who.seen);
        let conn = c.dial(server);
        c.frame(conn, &harness::connect_frame(8000, session, &farrier_proto::session::password(session), seen));
        (who.conn, who.established) = (Some(conn), false);
    }

    fn ask(&mut self, i: usize) {
        let who = &mut self.people[i];
        let (Some(conn), Some(session), true) = (who.conn, who.session, who.established) else { return };
        let client = Client { conn, session };
        for _ in 0..=self.random.below(3) {
            if self.cluster.is_closed(client.conn) || self.cluster.is_paused(client.conn) {
                return;
            }
            who.xid += 1;
            let mut path = format!("/{}", self.names);
            let (op, body, asked) = match self.random.below(10) {
                0..=3 => {
                    self.names += 1;
                    (OpCode::Create, create(&path, 0), Asked::Create(path))
                }
                4 => {
                    self.names += 1;
                    (OpCode::Create2, create(&path, 1), Asked::Other)
                }
                5 | 6 => (OpCode::Sync, encode(&PathOnly { path: Some("/".into()) }), Asked::Sync(self.acked.clone())),
                7 => (OpCode::SetData, Vec::new(), Asked::Other),
                _ => {
                    path = format!("/{}", self.random.below(self.names + 1));
                    let body = encode(&PathWatch { path: Some(Cow::Borrowed(&path)), watch: false });
                    (OpCode::Exists, body, Asked::Exists(path))
                }
            };
            who.asked.push_back((who.xid, asked));
            self.cluster.request(client, who.xid, op, &body);
        }
    }
}

/// Plays; how many requests were answered, snapshots taken and states sent.
fn play(seed: u64) -> (usize, usize, usize) {
    let somebody = |_| Somebody {
        conn: None,
        established: false,
        session: None,
        xid: 0,
        seen: 0,
        asked: VecDeque::new(),
        must_see: BTreeSet::new(),
    };
    let mut play = Play {
        cluster: Cluster::of_three_with(match seed % 3 {
            0 => |config, _| (config.snap_count, config.image_slice) = (30, 2),
            1 => |_, zab| zab.window_txns = 3,
            _ => |_, zab| zab.force_snapshot_sync = true,
        }),
        random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
        people: (0..5).map(somebody).collect(),
        acked: BTreeSet::new(),
        names: 0,
        down: BTreeSet::new(),
        frozen: BTreeSet::new(),
        replies: 0,
    };
    for _ in 0..400 {
        play.act();
        play.hear();
    }
    let c = &mut play.cluster;
    for server in std::mem::take(&mut play.frozen) {
        c.thaw(server);
    }
    for s in 1..=3 {
        c.hold_disk(s, false);
    }
    for server in std::mem::take(&mut play.down) {
        c.start(server);
    }
    // A leader that was deposed while nobody scheduled it learns that only when its learners stay silent.
    c.pass(30_000);
    c.settle();
    play.hear();
    let c = &mut play.cluster;
    c.assert_equal();
    for s in 1..=3 {
        for path in &play.acked {
            assert!(c.replica(s).tree().node(path).is_some(), "{path} was acknowledged, and is not on {s}");
        }
    }
    (play.replies, play.cluster.snapshots, play.cluster.streams)
}

#[test]
fn whatever_happens_to_servers_and_clients() {
    let mut done = (0, 0, 0);
    for seed in 1..=SEEDS {
        let result = std::panic::catch_unwind(|| play(seed));
        let one = result.unwrap_or_else(|e| {
            eprintln_seed(seed);
            std::panic::resume_unwind(e)
        });
        done = (done.0 + one.0, done.1 + one.1, done.2 + one.2);
    }
    assert!(done.0 > 1000 && done.1 > 10 && done.2 > 10, "replies, snapshots, states: {done:?}");
}

#[expect(clippy::print_stderr, reason = "the seed is what one needs to see the failure again")]
fn eprintln_seed(seed: u64) {
    eprintln!("seed {seed}");
}
