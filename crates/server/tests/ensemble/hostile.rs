//! Bytes and behaviour that no server should show on the ports for servers, while clients go on unharmed.

use super::{Cluster, PATIENCE};
use farrier_proto::quorum::{ElectionHeader, LEARNER_PROTOCOL_VERSION, LearnerInfo, LearnerPacket};
use farrier_proto::{AcceptedEpoch, ServerId};
use farrier_testkit::raw::{Connect, Reply};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

/// Rounds on each port.
const ROUNDS: u64 = 12;

/// Half-open connections on each port of two servers: more than may be silent at once, and both ends of all of them fit
/// into the descriptors that a process usually has.
const HALF_OPEN: usize = 70;

/// What this process may grow by, all three servers and the attackers in it, in KiB.
const GROWTH_MAX: u64 = 200 << 10;

/// splitmix64.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn noise(&mut self, max: u64) -> Vec<u8> {
        let len = 1 + self.next() % max;
        (0..len).map(|_| self.next() as u8).collect()
    }
}

fn socket(addr: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(addr).expect("the port takes connections");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket of our own");
    socket.set_write_timeout(Some(PATIENCE)).expect("a socket of our own");
    socket
}

/// Sends bytes and half-closes; reads until the server closes. Errors are the server's good right.
fn shout(addr: SocketAddr, bytes: &[u8]) {
    let mut socket = socket(addr);
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(e) = socket.take(1 << 20).read_to_end(&mut answer) {
        assert!(e.kind() != ErrorKind::WouldBlock, "{addr} keeps a connection that has ended");
    }
}

/// The header of a server that nobody knows.
fn stranger(server: i64) -> Vec<u8> {
    let mut header = Vec::new();
    ElectionHeader::write(ServerId(server), "127.0.0.1", 9, &mut header);
    header
}

/// A learner that nobody knows introduces itself.
fn learner(server: i64) -> Vec<u8> {
    let info = LearnerInfo {
        server: Some(ServerId(server)),
        protocol_version: LEARNER_PROTOCOL_VERSION,
        config_version: 0,
        cumulative: false,
    };
    let mut packet = Vec::new();
    LearnerPacket::ObserverInfo { accepted: AcceptedEpoch(0), info }.write(&mut packet);
    packet
}

/// Lengths that are none.
const LENGTHS: [i32; 8] = [i32::MAX, i32::MIN, -1, 0, 1, 0xffff, 64 << 20, i32::MAX - 8];

fn attack_election_port(addr: SocketAddr, random: &mut Random) {
    shout(addr, &[]);
    shout(addr, &random.noise(2000));
    for (n, len) in (1000..).zip(LENGTHS) {
        let tail = random.noise(60);
        shout(addr, &[&len.to_be_bytes()[..], &tail].concat());
        // Behind the header of a server with a larger and one with a smaller id.
        for server in [n, -n] {
            shout(addr, &[&stranger(server)[..], &len.to_be_bytes(), &tail].concat());
        }
    }
    let whole = stranger(77);
    for cut in 0..whole.len() {
        shout(addr, &whole[..cut]);
    }
}

fn attack_quorum_port(addr: SocketAddr, random: &mut Random) {
    shout(addr, &[]);
    shout(addr, &random.noise(6000));
    for (n, len) in (1000..).zip(LENGTHS) {
        let (type_and_zxid, tail) = (random.noise(12), random.noise(60));
        // A packet is a type, a zxid and data with its length.
        shout(addr, &[&type_and_zxid[..], &len.to_be_bytes(), &tail].concat());
        shout(addr, &[&11_i32.to_be_bytes()[..], &[0; 8], &len.to_be_bytes(), &tail].concat());
        shout(addr, &[&learner(n)[..], &2_i32.to_be_bytes(), &[0; 8], &len.to_be_bytes(), &tail].concat());
        shout(addr, &[learner(n), learner(n)].concat());
    }
    let whole = learner(77);
    for cut in 0..whole.len() {
        shout(addr, &whole[..cut]);
    }
}

fn half_open(election: SocketAddr, quorum: SocketAddr) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for n in 0..HALF_OPEN {
        for (addr, words) in [(election, stranger(500)), (quorum, learner(500))] {
            let mut socket = socket(addr);
            // The server may have had enough of silent ones in this moment.
            let _ = socket.write_all(&words[..n % words.len()]);
            open.push(socket);
        }
    }
    open
}

/// create, get, set, delete, in a loop, each answer checked. The last time is after `stop`.
fn ordinary(cluster: &Cluster, id: i64, stop: &AtomicBool) -> u64 {
    let mut client = cluster.client(id, &Connect { timeout: 60_000, ..Connect::default() });
    let mut n = 0;
    let mut last = false;
    while !last {
        last = stop.load(Ordering::Relaxed);
        let path = format!("/of-{id}-{n}");
        client.create(&path, b"1").and_then(Reply::ok).expect("created");
        assert_eq!(client.get(&path, false).and_then(|r| r.data()).expect("a reply").as_deref(), Some(&b"1"[..]));
        assert_eq!(client.set(&path, b"2", 0).and_then(|r| r.stat()).expect("set").version, 1);
        client.delete(&path, 1).and_then(Reply::ok).expect("deleted");
        n += 4;
    }
    client.close().and_then(Reply::ok).expect("the session was never lost");
    n
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("a status tells the memory");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number of KiB")
}

#[test]
fn strangers_on_the_ports_for_servers_harm_nobody() {
    let mut cluster = Cluster::start(3, 0);
    let leader = cluster.leader();
    // No epoch shows before its first transaction.
    let mut client = cluster.client(leader, &Connect::default());
    client.create("/before", b"").and_then(Reply::ok).expect("created");
    let epoch = cluster.epoch(leader);
    let follower = (1..=3).find(|id| *id != leader).expect("three vote");
    let ports: Vec<(SocketAddr, SocketAddr, bool)> = cluster
        .members
        .iter()
        .map(|(id, m)| {
            let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
            let besieged = *id == leader || *id == follower;
            (at(m.addresses[0].election_port), at(m.addresses[0].quorum_port), besieged)
        })
        .collect();
    let before = resident_kib();
    let stop = AtomicBool::new(false);
    let open = std::thread::scope(|scope| {
        let (cluster, stop) = (&cluster, &stop);
        let clients: Vec<_> = (1..=3).map(|id| scope.spawn(move || ordinary(cluster, id, stop))).collect();
        let attackers: Vec<_> = (7..)
            .zip(&ports)
            .map(|(seed, (election, quorum, besieged))| {
                scope.spawn(move || {
                    let mut random = Random(seed);
                    let open = if *besieged { half_open(*election, *quorum) } else { Vec::new() };
                    for _ in 0..ROUNDS {
                        attack_election_port(*election, &mut random);
                        attack_quorum_port(*quorum, &mut random);
                    }
                    open
                })
            })
            .collect();
        let attacked: Vec<_> = attackers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        let requests: u64 = clients.into_iter().map(|c| c.join().expect("a client was harmed")).sum();
        assert!(requests > 0);
        attacked.into_iter().flat_map(|a| a.expect("an attacker's own doing")).collect::<Vec<_>>()
    });
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "the memory grew by {grown} KiB");
    assert_eq!((cluster.leader(), cluster.epoch(leader)), (leader, epoch), "nobody had to elect anybody");

    // With all the silent connections still there, members find each other.
    drop(cluster.servers.remove(&follower));
    cluster.start_one(follower);
    assert_eq!(cluster.leader(), leader);
    let mut client = cluster.client(follower, &Connect::default());
    client.create("/behind-all-that", b"").and_then(Reply::ok).expect("created");
    drop(open);
}
