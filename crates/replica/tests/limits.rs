//! The settings that bound what clients may cost, each as the operator sees it take effect.

mod harness;

use farrier_proto::client::{
    AuthPacket, CreateRequest, PathKind, PathOnly, PathVersion, PathWatch, SetDataRequest, SetWatches,
};
use farrier_proto::multi::{put_end, put_result};
use farrier_proto::{OpCode, RawAcl, SessionId};
use farrier_replica::{CONN_UNFLUSHED_MAX, ConnId, ConnectionThrottleConfig, Input, ReplicaConfig};
use harness::ensemble::{Client, Cluster};
use harness::{World, config, connect_frame, encode, request};
use std::borrow::Cow;

const THROTTLED_OP: i32 = -127;

fn create(path: &str, data: &[u8]) -> Vec<u8> {
    let open = RawAcl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) };
    encode(&CreateRequest {
        path: Some(Cow::Borrowed(path)),
        data: Some(Cow::Borrowed(data)),
        acl: Some(vec![open]),
        flags: 0,
    })
}

fn read(path: &str) -> Vec<u8> {
    encode(&PathWatch { path: Some(Cow::Borrowed(path)), watch: false })
}

fn set(path: &str, data: &[u8]) -> Vec<u8> {
    encode(&SetDataRequest { path: Some(Cow::Borrowed(path)), data: Some(Cow::Borrowed(data)), version: -1 })
}

/// `throttled_op_wait_time`: what waited longer is answered with an error instead of being done, but for pings and the
/// end of the session.
#[test]
fn an_operation_that_waited_too_long_is_not_done() {
    let mut w = World::new(ReplicaConfig { throttled_op_wait: 500, ..config() });
    let (c, _) = w.connect(40_000);
    w.sync_at_once = false;
    w.request(c, 1, OpCode::Create, &create("/a", b""));
    w.request(c, 2, OpCode::Exists, &read("/a"));
    w.request(c, -2, OpCode::Ping, &[]);
    w.pass(400);
    w.request(c, 3, OpCode::Exists, &read("/a"));
    w.pass(200);
    w.sync();
    assert_eq!(w.replies(c), [(1, 0), (2, THROTTLED_OP), (-2, 0), (3, 0)]);
    assert_eq!(w.replica.stats().throttled_ops, 1);
}

/// `request_stale_latency_check`: a request that waited longer than its session's timeout is dropped with its
/// connection.
#[test]
fn a_request_older_than_its_sessions_timeout_closes_the_connection() {
    for (check, closed) in [(true, true), (false, false)] {
        let mut w = World::new(ReplicaConfig { drop_stale_requests: check, ..config() });
        let (c, _) = w.connect(4000);
        w.sync_at_once = false;
        w.request(c, 1, OpCode::Create, &create("/a", b""));
        w.request(c, 2, OpCode::Exists, &read("/a"));
        w.pass(2500);
        // It shows itself, so that its session lives.
        w.request(c, -2, OpCode::Ping, &[]);
        w.pass(2500);
        w.sync();
        let replies = w.replies(c);
        assert_eq!(w.closed.contains(&c), closed);
        assert_eq!(replies, if closed { vec![(1, 0)] } else { vec![(1, 0), (2, 0), (-2, 0)] });
    }
}

/// `globalOutstandingLimit`: whoever has something outstanding is not read from; whoever has not, is.
#[test]
fn connections_with_something_outstanding_wait_at_the_limit() {
    let mut w = World::new(ReplicaConfig { global_outstanding_limit: 3, ..config() });
    let ((a, _), (b, _)) = (w.connect(40_000), w.connect(40_000));
    w.sync_at_once = false;
    for xid in 1..4 {
        assert!(w.replica.takes_frames(a));
        w.request(a, xid, OpCode::Create, &create(&format!("/{xid}"), b""));
    }
    assert!(!w.replica.takes_frames(a));
    assert!(w.replica.takes_frames(b));
    w.request(b, 1, OpCode::Exists, &read("/"));
    assert_eq!(w.replies(b), [(1, 0)]);
    w.sync();
    assert!(w.replica.takes_frames(a));
    assert_eq!(w.replies(a), [(1, 0), (2, 0), (3, 0)]);
}

/// `connection_throttle_tokens`: without a token a connect request is closed without a word.
#[test]
fn new_sessions_take_tokens() {
    let throttle = ConnectionThrottleConfig { tokens: 2, fill_time: 100, fill_count: 1, ..Default::default() };
    let mut w = World::new(ReplicaConfig { connection_throttle: throttle, ..config() });
    w.connect(10_000);
    w.connect(10_000);
    let refused = w.dial();
    w.frame(refused, &connect_frame(10_000, SessionId::NONE, &[0; 16], 0));
    assert!(w.closed.contains(&refused) && w.take(refused).is_empty());
    assert_eq!(w.replica.stats().rejected_connections, 1);
    w.pass(100);
    w.connect(10_000);
}

/// `snapSizeLimitInKb`: a snapshot follows the bytes that were logged, long before `snapCount`.
#[test]
fn bytes_call_for_a_snapshot() {
    let mut w = World::new(ReplicaConfig { snap_size_limit: 50_000, ..config() });
    let (c, _) = w.connect(40_000);
    w.request(c, 1, OpCode::Create, &create("/a", b""));
    for xid in 2..30 {
        w.request(c, xid, OpCode::SetData, &set("/a", b"short"));
    }
    assert_eq!(w.snapshots, 0);
    for xid in 30..33 {
        w.request(c, xid, OpCode::SetData, &set("/a", &[7; 20_000]));
    }
    assert_eq!(w.snapshots, 1);
}

/// `znode.container.maxNeverUsedIntervalMs`: 0, Apache 3.9's, never takes a container that had no child.
#[test]
fn a_container_that_was_never_used_goes_when_it_is_old_enough() {
    for (max_never_used, goes) in [(0, false), (5000, true)] {
        let mut c = config();
        (c.container.check_interval, c.container.max_never_used) = (1000, max_never_used);
        let mut w = World::new(c);
        let (conn, _) = w.connect(40_000);
        let open = RawAcl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) };
        let body = CreateRequest { path: Some("/c".into()), data: None, acl: Some(vec![open]), flags: 4 };
        w.request(conn, 1, OpCode::CreateContainer, &encode(&body));
        w.pass(4000);
        assert!(w.replica.tree().node("/c").is_some());
        w.pass(3000);
        assert_eq!(w.replica.tree().node("/c").is_none(), goes);
    }
}

/// Requests above 1,000 bytes are large, and 5,000 bytes of them may be in flight.
fn bounded() -> ReplicaConfig {
    ReplicaConfig { large_request_threshold: Some(1000), large_request_max_bytes: 5000, ..config() }
}

fn large(w: &mut World, c: ConnId, xid: i32, path: &str) {
    // A request that closes its connection is not looked for twice.
    w.step(Input::ClientFrame { conn: c, frame: &request(xid, OpCode::Create, &create(path, &[1; 2000])) });
}

/// `largeRequestMaxBytes`: what exceeds it closes its connection, and only that; and it is not counted for ever.
#[test]
fn large_requests_have_a_budget_that_comes_back() {
    let mut w = World::new(bounded());
    let (small, _) = w.connect(40_000);
    for round in 0..10 {
        let (c, _) = w.connect(40_000);
        w.sync_at_once = false;
        for n in 0..3 {
            large(&mut w, c, n, &format!("/r{round}n{n}"));
        }
        assert!(w.closed.contains(&c), "round {round}: the third exceeds the budget");
        w.request(small, round, OpCode::SetData, &set("/r0n0", b"small"));
        w.sync_at_once = true;
        w.sync();
        assert_eq!(w.replies(small), [(round, 0)], "small ones never do");
        assert!(w.replica.tree().node(&format!("/r{round}n1")).is_some(), "what was within it is done");
    }
    let (c, _) = w.connect(40_000);
    large(&mut w, c, 1, "/in-the-end");
    assert_eq!(w.replies(c), [(1, 0)]);
}

/// The same for what waits behind a connection's own output.
#[test]
fn deferred_large_requests_give_their_budget_back_too() {
    let mut w = World::new(bounded());
    let (first, _) = w.connect(40_000);
    w.request(first, 1, OpCode::Create, &create("/big", &[1; 900]));
    w.take(first);
    for round in 0..10 {
        let (c, _) = w.connect(40_000);
        // As many replies as it takes until its own output holds it up.
        let mut xid = 0;
        while w.replica.takes_frames(c) {
            xid += 1;
            w.request(c, xid, OpCode::GetData, &read("/big"));
        }
        // The shell may have read more before it was told.
        for n in 0..3 {
            large(&mut w, c, xid + n, &format!("/d{round}n{n}"));
        }
        assert!(w.closed.contains(&c), "round {round}");
    }
    let (c, _) = w.connect(40_000);
    w.request(c, 1, OpCode::Create, &create("/in-the-end", &[1; 4500]));
    assert_eq!(w.replies(c), [(1, 0)], "all of the budget is there");
}

/// `emulate353TTLNodes`: what is created now is no TTL node of 3.5.3, and grows as old as it was told.
#[test]
fn ttl_nodes_expire_beside_those_of_3_5_3() {
    for ttl_353 in [false, true] {
        let tree = farrier_tree::TreeConfig { ttl_353, ..config().tree };
        let mut w = World::new(ReplicaConfig { tree, ..config() });
        let (c, _) = w.connect(40_000);
        let mut frame = create("/t", b"");
        frame.truncate(frame.len() - 4);
        frame.extend_from_slice(&[0, 0, 0, 5]);
        frame.extend_from_slice(&1000_i64.to_be_bytes());
        w.request(c, 1, OpCode::CreateTtl, &frame);
        assert!(w.replica.tree().node("/t").is_some());
        w.pass(130_000);
        assert!(w.replica.tree().node("/t").is_none(), "ttl_353: {ttl_353}");
    }
}

/// What is told of connections that were lost and of requests that were refused.
#[test]
fn what_was_dropped_and_refused_is_counted() {
    let settings = ReplicaConfig { large_request_threshold: Some(1000), large_request_max_bytes: 5000, ..config() };
    let mut w = World::new(settings);
    let ((gone, _), (ended, _), (large, _)) = (w.connect(40_000), w.connect(40_000), w.connect(40_000));
    let probe = w.dial();
    w.step(Input::ClientDown { conn: probe });
    w.request(ended, 1, OpCode::CloseSession, &[]);
    w.step(Input::ClientDown { conn: ended });
    assert_eq!(w.replica.stats().dropped_connections, 0);
    w.step(Input::ClientDown { conn: gone });
    assert_eq!(w.replica.stats().dropped_connections, 1);

    w.step(Input::ClientOversized { conn: large, head: [0, 0, 0, 1, 0, 0, 0, 5], len: 2_000_000 });
    assert_eq!((w.replica.stats().rejected_large, w.closed.contains(&large)), (0, false));
    w.request(large, 2, OpCode::SetData, &set("/a", &[7; 6000]));
    assert!(w.closed.contains(&large));
    assert_eq!((w.replica.stats().rejected_large, w.replica.stats().dropped_connections), (1, 1));
}

/// A soft quota: the write is done, and the log says now and then that there is too much.
#[test]
fn a_soft_quota_warns() {
    let tree = farrier_tree::TreeConfig { enforce_quota: true, ..config().tree };
    let mut w = World::new(ReplicaConfig { tree, ..config() });
    let (c, _) = w.connect(40_000);
    w.request(c, 1, OpCode::Create, &create("/a", b""));
    w.request(c, 2, OpCode::Create, &create("/zookeeper/quota/a", b""));
    w.request(c, 3, OpCode::Create, &create("/zookeeper/quota/a/zookeeper_limits", b"count=1,bytes=-1"));
    w.request(c, 4, OpCode::Create, &create("/zookeeper/quota/a/zookeeper_stats", b""));
    assert!(w.replies(c).iter().all(|(_, error)| *error == 0));
    let told = |w: &World| w.notes.iter().filter(|note| note.contains("quota")).count();
    assert_eq!(told(&w), 0);
    for xid in 5..8 {
        w.request(c, xid, OpCode::Create, &create(&format!("/a/{xid}"), b""));
    }
    assert_eq!(w.replies(c), [(5, 0), (6, 0), (7, 0)]);
    assert_eq!(told(&w), 1, "{:?}", w.notes);
    assert!(
        w.notes.iter().any(|n| n == "the quota of /a is exceeded: 2 znodes, and the soft limit is 1"),
        "{:?}",
        w.notes
    );
    w.request(c, -2, OpCode::Ping, &[]);
    w.pass(30_000);
    w.request(c, -2, OpCode::Ping, &[]);
    w.pass(30_000);
    w.request(c, 8, OpCode::SetData, &set("/a", b"more"));
    assert_eq!(told(&w), 1, "as many znodes as before");
    w.request(c, 9, OpCode::Create, &create("/a/9", b""));
    assert_eq!(told(&w), 2);
}

/// A client with a recursive watch, and another one whose every write is an event of 100 KB for it.
fn watched() -> (World, ConnId, ConnId, String) {
    let mut w = World::new(config());
    let ((watcher, _), (writer, _)) = (w.connect(40_000), w.connect(40_000));
    w.request(watcher, 1, OpCode::AddWatch, &encode(&PathKind { path: Some("/".into()), kind: 1 }));
    let path = format!("/{}", "n".repeat(100_000));
    w.request(writer, 1, OpCode::Create, &create(&path, b""));
    (w, watcher, writer, path)
}

#[test]
fn a_client_that_is_always_a_little_behind_is_served() {
    let (mut w, watcher, writer, path) = watched();
    for xid in 2..402 {
        w.request(writer, xid, OpCode::SetData, &set(&path, b""));
        w.drain(watcher, 150_000);
        assert!(!w.closed.contains(&watcher), "after {xid} events: {:?}", w.notes);
        assert!(w.replica.takes_frames(watcher), "its requests do not wait: {xid}");
        w.take(watcher);
        w.request(watcher, xid, OpCode::Exists, &read("/"));
        assert_eq!(w.replies(watcher), [(xid, 0)]);
    }
}

#[test]
fn what_a_client_has_not_taken_is_bounded_though_it_takes_something() {
    let (mut w, watcher, writer, path) = watched();
    let mut events = 1;
    while !w.closed.contains(&watcher) {
        w.request(writer, 2, OpCode::SetData, &set(&path, b""));
        events += 1;
        if !w.closed.contains(&watcher) {
            w.drain(watcher, events * 50_000);
        }
        assert!(events < 1000, "the half that it does not take is bounded");
    }
    assert!(events * 50_000 > (CONN_UNFLUSHED_MAX - 200_000) as u64, "{events} events");
    assert!(w.notes.iter().any(|n| n.contains("it does not read")), "{:?}", w.notes);
}

#[test]
fn requests_go_on_once_little_enough_is_left_to_take() {
    let mut w = World::new(config());
    let (c, _) = w.connect(40_000);
    w.request(c, 1, OpCode::Create, &create("/big", &[1; 400_000]));
    for xid in 2..5 {
        w.request(c, xid, OpCode::GetData, &read("/big"));
    }
    assert!(!w.replica.takes_frames(c));
    // The shell had read it before it was told.
    w.step(Input::ClientFrame { conn: c, frame: &request(5, OpCode::Exists, &read("/big")) });
    w.take(c);
    w.drain(c, 1_100_000);
    assert_eq!((w.replica.takes_frames(c), w.replies(c)), (false, vec![]));
    w.drain(c, 900_000);
    assert_eq!((w.replica.takes_frames(c), w.replies(c)), (true, vec![(5, 0)]));
    // What was counted before that takes nothing back.
    w.drain(c, 1_100_000);
    assert!(w.replica.takes_frames(c));
}

/// Writes of so many bytes may be outstanding, and twice as many before everybody waits.
const FEW_BYTES: usize = 20_000;

/// Bytes of outstanding writes: whoever has nothing outstanding may not add to them for ever, or many could.
#[test]
fn idle_connections_may_not_add_to_outstanding_bytes_without_end() {
    let mut w = World::new(ReplicaConfig { outstanding_bytes_max: FEW_BYTES, ..config() });
    let clients: Vec<_> = (0..30).map(|_| w.connect(40_000).0).collect();
    let (reader, _) = w.connect(40_000);
    w.sync_at_once = false;
    for (n, c) in clients.iter().enumerate() {
        w.request(*c, 1, OpCode::Create, &create(&format!("/{n}"), &[1; 5000]));
    }
    assert!((4..=9).contains(&w.appended.len()), "{} of 5 KB each", w.appended.len());
    assert!(clients.iter().skip(9).all(|c| !w.replica.takes_frames(*c)), "and nobody is read from");
    w.request(reader, 1, OpCode::Exists, &read("/"));
    assert_eq!(w.replies(reader), [(1, 0)], "whoever only reads is");
    // Each one that is done makes room for another.
    while let Some((id, _)) = w.appended.first().copied() {
        w.appended.remove(0);
        w.step(Input::Durable { id });
        assert!(w.appended.len() <= 9);
    }
    for c in clients {
        assert_eq!((w.replies(c), w.replica.takes_frames(c)), (vec![(1, 0)], true));
    }
    assert!((0..30).all(|n| w.replica.tree().node(&format!("/{n}")).is_some()));
}

/// The same where the leader is another server, which stands still.
#[test]
fn a_learners_clients_may_not_send_a_silent_leader_without_end() {
    let mut c = Cluster::of_three_with(|replica, _| replica.outstanding_bytes_max = FEW_BYTES);
    let (l, f) = (c.leader(), c.followers()[0]);
    let clients: Vec<Client> = (0..30).map(|_| c.connect(f, 40_000)).collect();
    c.freeze(l);
    for (n, client) in clients.iter().enumerate() {
        c.request(*client, 1, OpCode::Create, &create(&format!("/{n}"), &[1; 5000]));
    }
    c.run();
    assert_eq!(c.replica(f).outstanding_requests(), 8, "of 5 KB each");
    c.thaw(l);
    c.run();
    for client in clients {
        assert_eq!((c.replies(client), c.is_paused(client.conn)), (vec![(1, 0)], false));
    }
    c.assert_equal();
}

/// What learners ask a leader for is bounded by them, and its own clients have their turn beside it.
#[test]
fn a_leaders_own_clients_write_beside_whatever_learners_ask_for() {
    let mut c = Cluster::of_three_with(|replica, _| replica.outstanding_bytes_max = FEW_BYTES);
    let (l, f) = (c.leader(), c.followers());
    let others: Vec<Client> = (0..16).map(|n| c.connect(f[n % 2], 40_000)).collect();
    let own = c.connect(l, 40_000);
    for s in [1, 2, 3] {
        c.hold_disk(s, true);
    }
    for (n, client) in others.iter().enumerate() {
        c.request(*client, 1, OpCode::Create, &create(&format!("/{n}"), &[1; 5000]));
    }
    c.run();
    assert_eq!(c.replica(l).outstanding_requests(), 16, "of 5 KB each");
    c.request(own, 1, OpCode::Create, &create("/own", b""));
    c.run();
    assert_eq!(c.replica(l).outstanding_requests(), 17);
    for s in [1, 2, 3] {
        c.hold_disk(s, false);
    }
    for client in others.into_iter().chain([own]) {
        assert_eq!(c.replies(client), [(1, 0)]);
    }
    c.assert_equal();
}

/// Whoever is not listened to is not silent.
#[test]
fn a_session_does_not_expire_while_its_connection_is_not_read_from() {
    let mut w = World::new(ReplicaConfig { global_outstanding_limit: 4, ..config() });
    let ((a, _), (b, _), (quiet, _)) = (w.connect(4000), w.connect(4000), w.connect(4000));
    w.sync_at_once = false;
    w.request(b, 1, OpCode::Create, &create("/b", b""));
    for xid in 1..4 {
        w.request(a, xid, OpCode::Create, &create(&format!("/{xid}"), b""));
    }
    // Its answer waits behind the write, and nothing more is read.
    w.request(b, -2, OpCode::Ping, &[]);
    assert!(!w.replica.takes_frames(a) && !w.replica.takes_frames(b));
    w.pass(23_900);
    assert!(w.closed.is_empty(), "the end of the quiet one waits for the disk, too");
    w.sync();
    assert_eq!(w.closed.iter().collect::<Vec<_>>(), [&quiet], "it could have pinged");
    assert_eq!((w.replies(b), w.replies(a).len()), (vec![(1, 0), (-2, 0)], 3));
    assert!(w.replica.takes_frames(a) && w.replica.takes_frames(b));
    w.sync_at_once = true;
    w.pass(3900);
    assert!(!w.closed.contains(&a), "what it sent meanwhile has yet to be read");
    w.pass(3000);
    assert!(w.closed.contains(&a) && w.closed.contains(&b), "and from then on silence counts");
}

/// The same at a learner, whose leader decides.
#[test]
fn a_learner_tells_of_sessions_that_it_does_not_read_from() {
    let mut c = Cluster::of_three_with(|replica, _| replica.global_outstanding_limit = 4);
    let (l, f) = (c.leader(), c.followers()[0]);
    let (a, b) = (c.connect(f, 4000), c.connect(f, 4000));
    for s in [1, 2, 3] {
        c.hold_disk(s, true);
    }
    c.request(b, 1, OpCode::Create, &create("/b", b""));
    (1..4).for_each(|xid| c.request(a, xid, OpCode::Create, &create(&format!("/{xid}"), b"")));
    c.request(b, -2, OpCode::Ping, &[]);
    assert!(c.is_paused(a.conn) && c.is_paused(b.conn));
    c.pass(7000);
    assert_eq!(c.replica(l).stats().expired_sessions, 0);
    for s in [1, 2, 3] {
        c.hold_disk(s, false);
    }
    assert_eq!((c.replies(b), c.is_closed(b.conn)), (vec![(1, 0), (-2, 0)], false));
    assert_eq!(c.replies(a).len(), 3);
}

fn get_many(path: &str, n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..n {
        put_result(&mut out, OpCode::GetData);
        out.extend_from_slice(&read(path));
    }
    put_end(&mut out);
    out
}

/// Connections, each with a write and behind it so many requests of the same kind; the writes are durable only with the next step.
fn queued(op: OpCode, body: &[u8], requests: &[i32]) -> (World, Vec<ConnId>) {
    let mut w = World::new(ReplicaConfig { reply_max: 2_000_000, ..config() });
    let conns: Vec<ConnId> = requests.iter().map(|_| w.connect(40_000).0).collect();
    w.request(conns[0], 1, OpCode::Create, &create("/large", &[7; 100_000]));
    for n in 0..3000 {
        let mut ephemeral = create(&format!("/{n}"), b"");
        *ephemeral.last_mut().expect("flags") = 1;
        w.request(conns[0], 1, OpCode::Create, &ephemeral);
    }
    w.take(conns[0]);
    w.sync_at_once = false;
    for (conn, requests) in conns.iter().zip(requests) {
        w.request(*conn, 1, OpCode::SetData, &set("/large", &[7; 100_000]));
        for xid in 2..2 + requests {
            w.request(*conn, xid, op, body);
        }
    }
    (w, conns)
}

/// Makes the writes durable and fires the timer until nothing is due at once any more: the replies after each step.
fn finish(w: &mut World, conns: &[ConnId]) -> Vec<Vec<usize>> {
    let count = |w: &mut World| conns.iter().map(|conn| w.replies(*conn).len()).collect::<Vec<_>>();
    w.sync();
    let mut replies = vec![count(w)];
    while w.replica.next_deadline() == Some(w.now.mono) {
        w.step(Input::TimerFired);
        replies.push(count(w));
    }
    replies
}

#[test]
fn queued_reads_take_turns_with_others_whatever_makes_them_expensive() {
    let none = encode(&PathOnly { path: Some("/none".into()) });
    let paths = (0..300).map(|n| Some(Cow::Owned(format!("/none/{n}")))).collect();
    let list = || Some(Vec::new());
    let watches = SetWatches { relative_zxid: 0, data: list(), exist: Some(paths), child: list() };
    for (op, what, body) in [
        (OpCode::GetEphemerals, "ephemerals, none of which is asked for", none),
        (OpCode::MultiRead, "replies that are refused for their size", get_many("/large", 30)),
        (OpCode::SetWatches, "watches", encode(&watches)),
    ] {
        let (mut w, conns) = queued(op, &body, &[300]);
        let replies = finish(&mut w, &conns);
        assert_eq!(replies.iter().flatten().sum::<usize>(), 301, "{what}");
        assert!(replies.len() > 1, "{what}: not all in one step: {replies:?}");
    }
}

#[test]
fn all_connections_share_the_time_of_a_step() {
    let body = get_many("/large", 30);
    let first = |requests: &[i32]| {
        let (mut w, conns) = queued(OpCode::MultiRead, &body, requests);
        let replies = finish(&mut w, &conns);
        assert_eq!(replies.iter().flatten().sum::<usize>(), 51 * requests.len());
        replies[0].iter().sum::<usize>() - requests.len()
    };
    let alone = first(&[50]);
    assert!(alone < 50);
    assert_eq!(first(&[50; 4]), alone, "four of them get no more");
}

#[test]
fn whoever_has_little_to_do_does_not_wait_for_whoever_has_much() {
    let (mut w, conns) = queued(OpCode::MultiRead, &get_many("/large", 30), &[200, 1, 200]);
    let replies = finish(&mut w, &conns);
    let done = replies.iter().rposition(|of| of[1] > 0).expect("answered");
    assert!(done <= 2 && replies.len() > 10, "{replies:?}");
}

/// As short ones are, which are looked at once more each time.
#[test]
fn long_lists_decide_who_hears_of_a_change() {
    let mut w = World::new(config());
    let ((watcher, _), (writer, _)) = (w.connect(40_000), w.connect(40_000));
    w.request(watcher, 1, OpCode::AddWatch, &encode(&PathKind { path: Some("/".into()), kind: 1 }));
    w.take(watcher);
    let entry = |perms, id: &'static str| RawAcl { perms, scheme: Some("ip".into()), id: Some(id.into()) };
    for (id, heard) in [("127.0.0.0/8", 3), ("10.0.0.0/8", 0)] {
        // Everything but to read, for whomever; to read as the last one says.
        let others = (32..62).map(|n| entry(n * 32 + 30, "0.0.0.0/0"));
        let acl: Vec<_> = others.chain([entry(1, id)]).collect();
        let request = CreateRequest { path: Some("/a".into()), data: None, acl: Some(acl), flags: 0 };
        w.request(writer, 1, OpCode::Create, &encode(&request));
        w.request(writer, 2, OpCode::SetData, &set("/a", b"x"));
        w.request(writer, 3, OpCode::Delete, &encode(&PathVersion { path: Some("/a".into()), version: -1 }));
        assert_eq!(w.replies(writer), [(1, 0), (2, 0), (3, 0)]);
        let reads = get_many("/a", 3);
        w.request(writer, 4, OpCode::Create, &encode(&request));
        w.request(writer, 5, OpCode::MultiRead, &reads);
        w.request(writer, 6, OpCode::Delete, &encode(&PathVersion { path: Some("/a".into()), version: -1 }));
        let frames = w.frames(writer);
        assert_eq!(frames[1].len() > 16 + 3 * 13 + 9, heard > 0, "{id}: three stats, or three errors");
        assert_eq!(w.replies(watcher).len(), heard + heard * 2 / 3, "{id}");
    }
}

/// Or strangers could fill the disk that the log of the server is on.
#[test]
fn lines_about_strangers_are_short_and_few() {
    let mut w = World::new(config());
    let packet = AuthPacket { kind: 0, scheme: Some("\u{1}".repeat(100_000).into()), auth: None };
    let bad = encode(&packet);
    let ask = |w: &mut World| {
        let (stranger, _) = w.connect(40_000);
        w.request(stranger, -4, OpCode::Auth, &bad);
        let ahead = w.dial();
        w.frame(ahead, &connect_frame(40_000, SessionId::NONE, &[0; 16], i64::MAX));
        let large = w.dial();
        w.step(Input::ClientOversized { conn: large, head: [0; 8], len: 2_000_000 });
        let (large, _) = w.connect(40_000);
        w.step(Input::ClientOversized { conn: large, head: [0; 8], len: 2_000_000 });
        for conn in [stranger, ahead] {
            assert!(w.closed.contains(&conn), "refused");
        }
        std::mem::take(&mut w.notes)
    };
    let notes = ask(&mut w);
    assert_eq!(notes.len(), 4, "{notes:?}");
    assert!(notes[0].starts_with("refusing authentication of 127.0.0.1:40000 with scheme \\u{1}\\u{1}"), "{notes:?}");
    assert!(notes.iter().all(|note| note.len() < 2500), "{notes:?}");
    assert_eq!(ask(&mut w), [""; 0], "all of it was said a moment ago");
    w.pass(10_000);
    w.notes.clear();
    let notes = ask(&mut w);
    assert_eq!(notes.len(), 4, "{notes:?}");
    assert!(notes.iter().all(|note| note.ends_with(" (1 more of the kind before)")), "{notes:?}");
}
