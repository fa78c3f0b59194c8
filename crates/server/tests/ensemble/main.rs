//! Three servers in one process, over sockets of this machine: they elect, serve through each of them, lose
//! their leader and take it back.

mod hostile;

use farrier_server::config::{EnsembleConfig, FourLetterWords, Member, PeerAddress, Role, ServerConfig};
use farrier_server::{ExitReason, Server};
use farrier_testkit::ports::free_ports;
use farrier_testkit::raw::{Client, Conn, Connect, Sessions, four_letter_word};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Members 1 to `voters`, and observers behind them.
fn members(voters: i64, observers: i64) -> BTreeMap<i64, Member> {
    let count = usize::try_from(2 * (voters + observers)).expect("a small number");
    let ports = free_ports(count).expect("free ports");
    let member = |(id, pair): (i64, &[u16])| {
        let address = PeerAddress { host: "127.0.0.1".into(), quorum_port: pair[0], election_port: pair[1] };
        let role = if id <= voters { Role::Participant } else { Role::Observer };
        (id, Member { addresses: vec![address], role, client: None, secure_client: None })
    };
    (1..).zip(ports.chunks(2)).map(member).collect()
}

struct Cluster {
    dir: tempfile::TempDir,
    members: BTreeMap<i64, Member>,
    servers: BTreeMap<i64, Server>,
}

impl Cluster {
    fn start(voters: i64, observers: i64) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut cluster = Self { dir, members: members(voters, observers), servers: BTreeMap::new() };
        for id in 1..=voters + observers {
            cluster.start_one(id);
        }
        cluster
    }

    fn start_one(&mut self, id: i64) {
        let config = config(self.dir.path(), id, self.members.clone());
        self.servers.insert(id, Server::start(config).unwrap_or_else(|e| panic!("server {id}: {e}")));
    }

    fn address(&self, id: i64) -> SocketAddr {
        self.servers[&id].client_addr()
    }

    /// What `srvr` calls the role of a server; `None` while it has none.
    fn mode(&self, id: i64) -> Option<String> {
        let text = four_letter_word(self.address(id), "srvr").expect("an answer");
        text.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
    }

    /// The epoch that a server shows.
    fn epoch(&self, id: i64) -> u64 {
        let text = four_letter_word(self.address(id), "srvr").expect("an answer");
        let zxid = text.lines().find_map(|line| line.strip_prefix("Zxid: 0x")).expect("a zxid");
        u64::from_str_radix(zxid, 16).expect("a number") >> 32
    }

    /// Waits until every server that runs has a role and one leads; who.
    fn leader(&self) -> i64 {
        let end = Instant::now() + PATIENCE;
        loop {
            let modes: Vec<_> = self.servers.keys().map(|id| (*id, self.mode(*id))).collect();
            let leaders: Vec<_> = modes.iter().filter(|(_, m)| m.as_deref() == Some("leader")).collect();
            if modes.iter().all(|(_, m)| m.is_some()) && leaders.len() == 1 {
                return leaders[0].0;
            }
            assert!(Instant::now() < end, "no leader: {modes:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A session with one server, once that takes it.
    fn client(&self, id: i64, ask: &Connect) -> Client {
        let end = Instant::now() + PATIENCE;
        loop {
            let client = Conn::open(self.address(id)).and_then(|mut conn| {
                let response = conn.handshake(ask)?.response()?;
                Client::on(conn, &response, &Sessions::default())
            });
            match client {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < end, "no session with server {id}: {error:#}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The znodes below the root, as one server has them.
    fn list(&self, id: i64) -> Vec<String> {
        let mut client = self.client(id, &Connect::default());
        client.sync("/").and_then(farrier_testkit::raw::Reply::ok).expect("a sync");
        client.children("/", false).and_then(|r| r.names()).expect("names")
    }

    /// What a server has under a path, once it has heard of everything before.
    fn read(&self, id: i64, path: &str) -> Vec<u8> {
        let mut client = self.client(id, &Connect::default());
        client.sync(path).and_then(farrier_testkit::raw::Reply::ok).expect("a sync");
        client.get(path, false).and_then(|r| r.data()).expect("a znode").expect("data")
    }
}

fn config(dir: &Path, id: i64, members: BTreeMap<i64, Member>) -> ServerConfig {
    let mut config = ServerConfig::standalone(dir.join(id.to_string()), LOOPBACK);
    config.tick_time_ms = 200;
    (config.min_session_timeout_ms, config.max_session_timeout_ms) = (400, 60_000);
    config.client.max_per_address = 0;
    config.storage.preallocate = 1 << 20;
    config.words = FourLetterWords::All;
    config.workers = Some(1);
    config.ensemble = Some(EnsembleConfig { init_limit: 100, sync_limit: 50, ..EnsembleConfig::new(id, members) });
    config
}

#[test]
fn three_servers_elect_serve_lose_their_leader_and_take_it_back() {
    let mut cluster = Cluster::start(3, 0);
    let first = cluster.leader();
    let mut mover = cluster.client(first, &Connect { timeout: 30_000, ..Connect::default() });
    mover.create_flags("/here", b"", 1).and_then(farrier_testkit::raw::Reply::ok).expect("an ephemeral");
    for id in 1..=3 {
        let mut client = cluster.client(id, &Connect::default());
        let path = format!("/from-{id}");
        client.create(&path, id.to_string().as_bytes()).and_then(farrier_testkit::raw::Reply::ok).expect("created");
    }
    for id in 1..=3 {
        for from in 1..=3 {
            assert_eq!(cluster.read(id, &format!("/from-{from}")), from.to_string().as_bytes());
        }
        let dump = four_letter_word(cluster.address(id), "dump").expect("an answer");
        let (sets, line) = match id == first {
            true => ("\nSession Sets (", format!("\n\t0x{:x}\n", mover.session)),
            false => ("\nGlobal Sessions(", format!("\n0x{:x}\t30000ms\n", mover.session)),
        };
        assert!(dump.contains(sets) && dump.contains(&line), "{id}: {dump}");
    }

    assert_eq!(cluster.servers.remove(&first).map(|s| s.stop()), Some(ExitReason::Stopped));
    let second = cluster.leader();
    assert_ne!(second, first);
    // The session goes on at another server, with what it owns.
    let again = Connect { timeout: 30_000, ..Connect::again(mover.session, &mover.password) };
    let other = *cluster.servers.keys().find(|id| **id != second).expect("two are left");
    let mut moved = cluster.client(other, &again);
    assert_eq!(moved.session, mover.session);
    assert_eq!(moved.stat("/here").expect("still there").ephemeral_owner, moved.session);
    for n in 0..300 {
        let path = format!("/without-{n}");
        moved.create(&path, &[7; 100]).and_then(farrier_testkit::raw::Reply::ok).expect("a quorum is left");
    }

    cluster.start_one(first);
    assert_eq!(cluster.leader(), second, "whoever comes back follows");
    assert_eq!(cluster.read(first, "/without-299"), [7; 100]);
    assert_eq!(cluster.read(first, "/from-1"), b"1");
    let mut client = cluster.client(first, &Connect::default());
    client.create("/back", b"x").and_then(farrier_testkit::raw::Reply::ok).expect("it forwards");
    assert_eq!(cluster.read(second, "/back"), b"x");
}

#[test]
fn what_no_quorum_logged_is_gone_everywhere() {
    let mut cluster = Cluster::start(3, 0);
    let old = cluster.leader();
    let mut client = cluster.client(old, &Connect::default());
    client.create("/before", b"").and_then(farrier_testkit::raw::Reply::ok).expect("created");
    let others: Vec<_> = (1..=3).filter(|id| *id != old).collect();
    // Writes go on while the followers go away: the last of them are in the leader's log only.
    let gone: Vec<_> = others.iter().filter_map(|id| cluster.servers.remove(id)).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| drop(gone));
        for n in 0..2000 {
            let request = farrier_testkit::enc::body().create(format!("/tail-{n}"), &[3; 50], 0);
            if client.send(1, request).is_err() {
                break;
            }
        }
    });
    drop(cluster.servers.remove(&old));
    for id in &others {
        cluster.start_one(*id);
    }
    let new = cluster.leader();
    let mut client = cluster.client(new, &Connect::default());
    client.create("/behind", b"").and_then(farrier_testkit::raw::Reply::ok).expect("created");
    cluster.start_one(old);
    assert_eq!(cluster.leader(), new);
    let expected = cluster.list(new);
    assert!(["before", "behind"].iter().all(|name| expected.iter().any(|n| n == name)), "{expected:?}");
    for id in 1..=3 {
        assert_eq!(cluster.list(id), expected, "server {id}");
    }
    // What it says for itself is what it has on disk as well.
    for id in 1..=3 {
        drop(cluster.servers.remove(&id));
    }
    for id in 1..=3 {
        cluster.start_one(id);
    }
    cluster.leader();
    for id in 1..=3 {
        assert_eq!(cluster.list(id), expected, "server {id} after a restart");
    }
}

#[test]
fn an_empty_server_is_filled_and_an_observer_serves() {
    let mut cluster = Cluster::start(3, 1);
    let leader = cluster.leader();
    assert_eq!(cluster.mode(4).as_deref(), Some("observer"));
    let mut client = cluster.client(4, &Connect::default());
    for n in 0..1000 {
        let path = format!("/n-{n}");
        client.create(&path, &[1; 2000]).and_then(farrier_testkit::raw::Reply::ok).expect("an observer forwards");
    }
    let follower = (1..=3).find(|id| *id != leader).expect("three vote");
    drop(cluster.servers.remove(&follower));
    let dir = cluster.dir.path().join(follower.to_string());
    std::fs::remove_dir_all(&dir).expect("it no longer runs");
    cluster.start_one(follower);
    assert_eq!(cluster.read(follower, "/n-999"), [1; 2000]);
    assert_eq!(cluster.read(follower, "/n-0"), [1; 2000]);

    let rows = ["zk_server_state\tleader", "zk_peer_state\tleading - broadcast", "zk_quorum_size\t3", "zk_learners\t3"];
    let end = Instant::now() + PATIENCE;
    loop {
        let text = four_letter_word(cluster.address(leader), "mntr").expect("an answer");
        let Some(missing) = rows.iter().find(|row| !text.lines().any(|line| line == **row)) else { break };
        // It may still count the follower that went.
        assert!(Instant::now() < end, "{missing}: {text}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = four_letter_word(cluster.address(follower), "conf").expect("an answer");
    assert!(text.contains(&format!("\nserverId={follower}\ninitLimit=100\nsyncLimit=50\nelectionAlg=3\n")), "{text}");
    assert!(text.ends_with(":observer\nversion=0"), "{text}");
}

#[test]
fn a_server_without_a_quorum_says_so() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(config(dir.path(), 1, members(3, 0))).expect("it starts alone");
    let ask = |word| four_letter_word(server.client_addr(), word).expect("an answer");
    for word in ["srvr", "stat", "mntr", "cons", "conf", "dump", "wchs"] {
        assert_eq!(ask(word), "This ZooKeeper instance is not currently serving requests\n", "{word}");
    }
    assert_eq!(ask("hash"), "This ZooKeeper instance is not currently serving requests");
    assert_eq!((ask("ruok"), ask("isro")), ("imok".into(), "null".into()));
    assert_eq!(server.stop(), ExitReason::Stopped);
}

#[test]
fn a_number_that_is_not_listed_and_a_taken_port_are_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let error = Server::start(config(dir.path(), 7, members(3, 0))).expect_err("it is no member").to_string();
    assert!(error.contains("7/myid: it says 7, and there is no server.7 line; listed are 1, 2, 3"), "{error}");

    let members = members(3, 0);
    let port = members[&1].addresses[0].election_port;
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("free a moment ago");
    let mut config = config(dir.path(), 1, members);
    config.ensemble.as_mut().expect("an ensemble").tuning.bind_retries = 1;
    let error = Server::start(config).expect_err("the port is taken");
    assert_eq!(error.exit_code(), 14);
    assert!(error.to_string().contains(&format!("cannot listen on 127.0.0.1:{port}")), "{error}");
    assert!(!dir.path().join("1").exists(), "ports come before directories");
}
