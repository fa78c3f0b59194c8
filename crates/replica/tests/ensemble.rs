//! Three servers over a network and disks in memory: what clients of different servers see of each other.

mod harness;

use farrier_proto::client::{AuthPacket, CreateRequest, PathOnly, PathWatch, SetDataRequest};
use farrier_proto::{OpCode, RawAcl, perms};
use harness::encode;
use harness::ensemble::{Client, Cluster};
use std::borrow::Cow;

fn create(path: &str, flags: i32) -> Vec<u8> {
    let open = RawAcl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) };
    encode(&CreateRequest { path: Some(Cow::Borrowed(path)), data: Some(b"d".into()), acl: Some(vec![open]), flags })
}

fn read(path: &str, watch: bool) -> Vec<u8> {
    encode(&PathWatch { path: Some(Cow::Borrowed(path)), watch })
}

fn set(path: &str, data: &[u8]) -> Vec<u8> {
    encode(&SetDataRequest { path: Some(Cow::Borrowed(path)), data: Some(Cow::Borrowed(data)), version: -1 })
}

fn sync() -> Vec<u8> {
    encode(&PathOnly { path: Some("/".into()) })
}

#[test]
fn sessions_and_writes_through_every_server() {
    let mut c = Cluster::of_three();
    let clients: Vec<Client> = [1, 2, 3].into_iter().map(|s| c.connect(s, 10_000)).collect();
    for (i, client) in clients.iter().enumerate() {
        assert_eq!(client.session.0 >> 56, i as i64 + 1, "a session's top byte is its server's number");
        c.request(*client, 1, OpCode::Create, &create(&format!("/{i}"), 0));
        assert_eq!(c.replies(*client), [(1, 0)]);
    }
    for client in &clients {
        for i in 0..3 {
            c.request(*client, 2, OpCode::Exists, &read(&format!("/{i}"), false));
        }
        assert_eq!(c.replies(*client), [(2, 0); 3]);
    }
    c.assert_equal();
}

#[test]
fn replies_of_a_followers_client_leave_in_request_order_cases_212_to_214() {
    let mut c = Cluster::of_three();
    let f = c.followers()[0];
    let a = c.connect(f, 10_000);
    for i in 0..5 {
        c.request(a, 2 * i, OpCode::Create, &create(&format!("/{i}"), 0));
        c.request(a, 2 * i + 1, OpCode::Exists, &read(&format!("/{i}"), false));
    }
    assert_eq!(c.replies(a), (0..10).map(|xid| (xid, 0)).collect::<Vec<_>>());
    c.request(a, 20, OpCode::Create, &create("/0", 0));
    c.request(a, -2, OpCode::Ping, &[]);
    c.request(a, 21, OpCode::Create, &[]);
    c.request(a, 22, OpCode::Sync, &sync());
    c.request(a, 23, OpCode::Sync, &[0, 0]);
    c.request(a, 24, OpCode::SetData, &set("/0", b"x"));
    c.request(a, 25, OpCode::CloseSession, &[]);
    let zxid = c.replica(f).last_zxid();
    assert_eq!(c.replies(a), [(20, -110), (-2, 0), (21, -5), (22, 0), (23, -5), (24, 0), (25, 0)]);
    assert!(c.is_closed(a.conn));
    let took = c.replica(f).last_zxid().get() - zxid.get();
    assert_eq!(took, 3, "what cannot be decoded is not forwarded, what fails is");
    c.assert_equal();
}

#[test]
fn a_write_is_answered_once_a_quorum_has_it() {
    let mut c = Cluster::of_three();
    let (l, f) = (c.leader(), c.followers());
    let (a, b) = (c.connect(l, 10_000), c.connect(f[0], 10_000));
    c.hold_disk(f[0], true);
    c.hold_disk(f[1], true);
    c.request(a, 1, OpCode::Create, &create("/a", 0));
    c.request(b, 1, OpCode::Create, &create("/b", 0));
    assert_eq!((c.replies(a), c.replies(b)), (vec![], vec![]), "the leader alone is no quorum");
    c.hold_disk(f[1], false);
    assert_eq!((c.replies(a), c.replies(b)), (vec![(1, 0)], vec![(1, 0)]));
    assert_eq!(c.replica(f[0]).tree().node_count(), c.replica(l).tree().node_count(), "delivered with the commit");
    c.hold_disk(f[0], false);
    c.assert_equal();
}

#[test]
fn a_sync_waits_for_a_quorum_and_takes_its_turn() {
    let mut c = Cluster::of_three();
    let (l, f) = (c.leader(), c.followers());
    let (a, b) = (c.connect(l, 10_000), c.connect(f[0], 10_000));
    c.freeze(f[1]);
    c.request(a, 1, OpCode::Sync, &sync());
    c.request(a, 2, OpCode::Exists, &read("/", false));
    assert_eq!(c.replies(a), [(1, 0), (2, 0)], "one follower answers, which makes two");
    c.freeze(f[0]);
    c.request(a, 3, OpCode::Sync, &sync());
    c.request(a, 4, OpCode::Exists, &read("/", false));
    assert_eq!(c.replies(a), [], "nobody confirms that this server leads still");
    c.request(b, 1, OpCode::Sync, &sync());
    c.request(b, 2, OpCode::Exists, &read("/", false));
    c.thaw(f[0]);
    assert_eq!(c.replies(a), [(3, 0), (4, 0)]);
    assert_eq!(c.replies(b), [(1, 0), (2, 0)]);
    c.thaw(f[1]);
    c.assert_equal();
}

#[test]
fn a_sync_shows_what_was_committed_before_it_case_211() {
    let mut c = Cluster::of_three();
    let f = c.followers();
    let (a, b) = (c.connect(f[0], 10_000), c.connect(f[1], 10_000));
    for i in 0..200 {
        let path = format!("/z{i}");
        c.request(a, i, OpCode::Create, &create(&path, 0));
        assert_eq!(c.replies(a), [(i, 0)]);
        c.request(b, 2 * i, OpCode::Sync, &sync());
        c.request(b, 2 * i + 1, OpCode::Exists, &read(&path, false));
        assert_eq!(c.replies(b), [(2 * i, 0), (2 * i + 1, 0)]);
    }
}

#[test]
fn the_leader_expires_whom_nobody_hears_of_and_no_other() {
    let mut c = Cluster::of_three();
    let (l, f) = (c.leader(), c.followers());
    let (silent, alive, own) = (c.connect(f[0], 4000), c.connect(f[1], 4000), c.connect(l, 4000));
    for (client, path) in [(silent, "/silent"), (alive, "/alive"), (own, "/own")] {
        c.request(client, 1, OpCode::Create, &create(path, 1));
        assert_eq!(c.replies(client), [(1, 0)]);
    }
    for _ in 0..20 {
        c.pass(1000);
        c.request(alive, -2, OpCode::Ping, &[]);
        c.request(own, -2, OpCode::Ping, &[]);
    }
    for s in [1, 2, 3] {
        let has = |path| c.replica(s).tree().node(path).is_some();
        assert_eq!((has("/silent"), has("/alive"), has("/own")), (false, true, true), "on {s}");
        assert_eq!(c.replica(s).session_count(), 2, "on {s}");
    }
    assert!(c.is_closed(silent.conn) && !c.is_closed(alive.conn) && !c.is_closed(own.conn));
    assert_eq!(c.reattach(f[1], silent.session).map(|c| c.session), None, "expired");
    c.assert_equal();
}

#[test]
fn a_session_whose_pings_could_be_delivered_survives_a_pause_of_the_leader() {
    let mut c = Cluster::of_three();
    let (l, f) = (c.leader(), c.followers());
    let (a, own) = (c.connect(f[0], 4000), c.connect(l, 4000));
    let (silent, silent_own) = (c.connect(f[1], 4000), c.connect(l, 4000));
    c.pass(3000);
    c.freeze(l);
    for _ in 0..8 {
        c.pass(1000);
        c.request(a, -2, OpCode::Ping, &[]);
    }
    c.thaw(l);
    // Its timer fires before anybody is heard.
    c.fire(l);
    c.request(own, -2, OpCode::Ping, &[]);
    for _ in 0..5 {
        c.pass(1000);
        c.request(a, -2, OpCode::Ping, &[]);
        c.request(own, -2, OpCode::Ping, &[]);
    }
    assert_eq!(c.leader(), l);
    assert!(!c.is_closed(a.conn) && !c.is_closed(own.conn));
    assert!(c.is_closed(silent.conn) && c.is_closed(silent_own.conn), "nobody heard of them for longer than they bear");
    for s in [1, 2, 3] {
        assert_eq!(c.replica(s).session_count(), 2, "on {s}");
    }
}

#[test]
fn behind_a_pause_of_the_leader_a_slow_learner_is_heard_before_its_clients_expire() {
    let mut c = Cluster::of_three();
    let (l, f) = (c.leader(), c.followers());
    let a = c.connect(f[0], 4000);
    c.pass(3000);
    c.freeze(l);
    for _ in 0..5 {
        c.pass(1000);
        c.request(a, -2, OpCode::Ping, &[]);
    }
    c.freeze(f[0]);
    c.thaw(l);
    c.fire(l);
    c.pass(4000);
    c.thaw(f[0]);
    c.request(a, -2, OpCode::Ping, &[]);
    c.pass(3000);
    assert_eq!(c.leader(), l);
    assert!(!c.is_closed(a.conn));
    assert_eq!(c.replica(l).session_count(), 1);
}

/// What is created with scheme `auth` belongs to the identities of the client that a follower forwards for.
#[test]
fn who_a_followers_client_is_counts_at_the_leader() {
    let mut c = Cluster::of_three();
    let (l, f) = (c.leader(), c.followers());
    let (bob, nobody, again) = (c.connect(f[0], 10_000), c.connect(f[0], 10_000), c.connect(l, 10_000));
    let auth = encode(&AuthPacket { kind: 0, scheme: Some("digest".into()), auth: Some(b"bob:secret".into()) });
    for client in [bob, again] {
        c.request(client, -4, OpCode::Auth, &auth);
        assert_eq!(c.replies(client), [(-4, 0)]);
    }
    let mine = RawAcl { perms: perms::ALL, scheme: Some("auth".into()), id: Some("".into()) };
    let acl = Some(vec![mine]);
    let request = CreateRequest { path: Some("/bobs".into()), data: Some(b"d".into()), acl, flags: 0 };
    c.request(bob, 1, OpCode::Create, &encode(&request));
    c.request(bob, 2, OpCode::SetData, &set("/bobs", b"x"));
    c.request(bob, 3, OpCode::Create, &create("/bobs/a", 0));
    c.request(bob, 4, OpCode::Multi, &multi(&[("/bobs/b", 1)]));
    assert_eq!(c.replies(bob), [(1, 0), (2, 0), (3, 0), (4, 0)]);
    let no_auth = -102;
    c.request(nobody, 1, OpCode::SetData, &set("/bobs", b"y"));
    c.request(nobody, 2, OpCode::Create, &create("/bobs/c", 0));
    c.request(nobody, 3, OpCode::GetData, &read("/bobs", false));
    c.request(nobody, 4, OpCode::Create, &encode(&request));
    assert_eq!(c.replies(nobody), [(1, no_auth), (2, no_auth), (3, no_auth), (4, -114)]);
    // He is the same on another server, and the list is on all of them.
    c.request(again, 1, OpCode::SetData, &set("/bobs", b"z"));
    assert_eq!(c.replies(again), [(1, 0)]);
    for s in [1, 2, 3] {
        let node = c.replica(s).tree().node("/bobs").expect("it was created");
        let [entry] = node.acl() else { panic!("on {s} the list is {:?}", node.acl()) };
        assert_eq!((entry.perms, &*entry.scheme), (perms::ALL, "digest"), "on {s}");
        assert!(entry.id.starts_with("bob:"), "on {s} it belongs to {}", entry.id);
        assert_eq!(node.child_count(), 2, "on {s}");
    }
    c.assert_equal();
}

#[test]
fn a_session_moves_between_followers_cases_205_206_and_208() {
    let mut c = Cluster::of_three();
    let f = c.followers();
    let old = c.connect(f[0], 10_000);
    c.request(old, 1, OpCode::Create, &create("/e", 1));
    assert_eq!(c.replies(old), [(1, 0)]);
    let new = c.reattach(f[1], old.session).expect("the session moves");
    assert_eq!(new.session, old.session);
    c.request(new, 1, OpCode::Exists, &read("/e", false));
    assert_eq!(c.replies(new), [(1, 0)]);
    c.request(old, 2, OpCode::Exists, &read("/e", false));
    assert_eq!(c.replies(old), [(2, 0)], "reads are answered still");
    c.request(old, 3, OpCode::Create, &create("/y", 0));
    assert_eq!(c.replies(old), [], "without a reply");
    assert!(c.is_closed(old.conn));
    c.request(new, 2, OpCode::Exists, &read("/y", false));
    c.request(new, 3, OpCode::Create, &create("/y", 0));
    assert_eq!(c.replies(new), [(2, -101), (3, 0)]);
    // And back, by a multi of the connection that is the old one now.
    let back = c.reattach(f[0], old.session).expect("the session moves back");
    c.request(new, 4, OpCode::Multi, &multi(&[("/m", 1)]));
    assert_eq!(c.replies(new), []);
    assert!(c.is_closed(new.conn) && !c.is_closed(back.conn));
    assert!(c.replica(f[0]).tree().node("/m").is_none());
    c.assert_equal();
}

#[test]
fn the_leader_checks_reads_of_a_session_that_moved_too_case_207() {
    let mut c = Cluster::of_three();
    let (l, f) = (c.leader(), c.followers());
    let old = c.connect(l, 10_000);
    let new = c.reattach(f[0], old.session).expect("the session moves");
    c.request(old, 1, OpCode::Exists, &read("/", false));
    assert_eq!(c.replies(old), []);
    assert!(c.is_closed(old.conn) && !c.is_closed(new.conn));
    let back = c.reattach(l, old.session).expect("the session moves back");
    c.request(new, 1, OpCode::Create, &create("/y", 0));
    assert_eq!(c.replies(new), []);
    c.request(back, 1, OpCode::Create, &create("/y", 0));
    assert_eq!(c.replies(back), [(1, 0)]);
    c.assert_equal();
}

#[test]
fn a_stale_connection_can_end_the_session_case_209() {
    let mut c = Cluster::of_three();
    let f = c.followers();
    let old = c.connect(f[0], 10_000);
    c.request(old, 1, OpCode::Create, &create("/e", 1));
    assert_eq!(c.replies(old), [(1, 0)]);
    let new = c.reattach(f[1], old.session).expect("the session moves");
    c.request(old, 2, OpCode::CloseSession, &[]);
    assert_eq!(c.replies(old), [(2, 0)]);
    assert!(c.is_closed(new.conn));
    assert!(c.replica(f[1]).tree().node("/e").is_none());
}

#[test]
fn who_cannot_have_the_session_is_told_that_it_expired_case_210() {
    let mut c = Cluster::of_three();
    let f = c.followers();
    let a = c.connect(f[0], 10_000);
    let conn = c.dial(f[1]);
    c.frame(conn, &harness::connect_frame(10_000, a.session, &[1; 16], 0));
    c.run();
    assert_eq!(c.frames(conn).len(), 1);
    assert!(c.is_closed(conn) && !c.is_closed(a.conn), "a wrong password");
    let nobody = farrier_proto::SessionId(0x77);
    assert_eq!(c.reattach(f[1], nobody).map(|c| c.session), None, "no such session");
    let again = c.reattach(f[0], a.session).expect("on the same server");
    assert!(c.is_closed(a.conn) && !c.is_closed(again.conn));
}

/// The leader takes a question for a session as a move back; what a stale connection still holds must not come behind it.
#[test]
fn a_connection_ends_when_its_server_asks_for_the_session_again() {
    let mut c = Cluster::of_three();
    let f = c.followers();
    let a = c.connect(f[0], 10_000);
    let moved = c.reattach(f[1], a.session).expect("it moves");
    c.request(moved, 7, OpCode::Create, &create("/later", 0));
    assert_eq!(c.replies(moved), [(7, 0)]);
    // The client tried the first server once more before, which was slow to hear of it.
    let stale = c.dial(f[0]);
    c.frame(stale, &harness::connect_frame(10_000, a.session, &farrier_proto::session::password(a.session), 0));
    assert!(c.is_closed(a.conn), "before the leader answers");
    c.run();
    assert!(c.replica(f[0]).tree().node("/later").is_some());
    c.assert_equal();
}

/// A leader that was deposed and has not noticed knows none of the sessions that were opened since.
#[test]
fn a_session_that_a_leader_does_not_know_is_refused_once_a_quorum_follows_it_still() {
    let mut c = Cluster::of_three();
    let (l, f) = (c.leader(), c.followers());
    let nobody = farrier_proto::SessionId(0x77);
    let frame = harness::connect_frame(10_000, nobody, &farrier_proto::session::password(nobody), 0);
    let through_follower = c.dial(f[0]);
    c.frame(through_follower, &frame);
    c.freeze(f[0]);
    c.freeze(f[1]);
    let here = c.dial(l);
    c.frame(here, &frame);
    c.run();
    assert!(c.frames(here).is_empty() && !c.is_closed(here), "nobody confirms that this server leads still");
    c.thaw(f[1]);
    c.run();
    assert_eq!(c.connected(here), None);
    assert!(c.is_closed(here), "two of three say that there is no such session");
    assert_eq!(c.replica(l).session_count(), 0);
    c.thaw(f[0]);
    c.run();
    assert_eq!(c.connected(through_follower), None);
    assert!(c.is_closed(through_follower));
    // The connection may be gone by then.
    c.freeze(f[0]);
    c.freeze(f[1]);
    let gone = c.dial(l);
    c.frame(gone, &frame);
    c.ask(l, farrier_replica::Input::ClientDown { conn: gone });
    c.thaw(f[0]);
    c.thaw(f[1]);
    c.assert_equal();
}

/// As many as may wait for a quorum do. A further one is neither refused, which its client would take for the end of the
/// session, nor let in.
#[test]
fn a_session_that_nobody_can_be_asked_about_is_not_refused() {
    const ASKED_MAX: i64 = 1 << 16;
    let mut c = Cluster::new(&[1, 2, 3, 4, 5], |_, _| {});
    for server in 1..=5 {
        c.start(server);
    }
    c.settle();
    let (l, f) = (c.leader(), c.followers());
    for follower in &f[1..] {
        c.freeze(*follower);
    }
    let frame = |session| {
        let session = farrier_proto::SessionId(session);
        harness::connect_frame(10_000, session, &farrier_proto::session::password(session), 0)
    };
    let mut last = c.dial(l);
    for session in 1..=ASKED_MAX {
        last = c.dial(l);
        c.frame(last, &frame(session));
    }
    c.run();
    assert!(!c.is_closed(last) && c.frames(last).is_empty(), "it waits for a quorum");
    let (here, through_follower) = (c.dial(l), c.dial(f[0]));
    c.frame(here, &frame(ASKED_MAX + 1));
    assert!(c.is_closed(here) && c.frames(here).is_empty());
    c.frame(through_follower, &frame(ASKED_MAX + 1));
    c.run();
    assert!(c.is_closed(through_follower) && c.frames(through_follower).is_empty());
    assert!(!c.is_closed(last) && c.frames(last).is_empty(), "it waits still");
}

/// A multi of creates: path and operation code.
fn multi(ops: &[(&str, i32)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (path, op) in ops {
        farrier_proto::multi::put_result(&mut out, OpCode::from_code(*op).expect("an operation"));
        // A request's header says -1 where a result's says 0.
        let at = out.len() - 4;
        out[at..].copy_from_slice(&(-1i32).to_be_bytes());
        out.extend_from_slice(&create(path, 0));
    }
    farrier_proto::multi::put_end(&mut out);
    out
}

#[test]
fn create2_in_a_multi_is_answered_in_full_and_proposed_as_create() {
    let mut c = Cluster::of_three();
    let mut lengths = Vec::new();
    for s in [1, 2, 3] {
        let a = c.connect(s, 10_000);
        c.request(a, 1, OpCode::Multi, &multi(&[(&format!("/a{s}"), 15), (&format!("/b{s}"), 1)]));
        c.run();
        let frames = c.frames(a.conn);
        let result = &frames[0][16..];
        assert_eq!(&result[..4], &15i32.to_be_bytes(), "a create2's result");
        lengths.push(frames[0].len());
        let (_, txn) = c.log(s).last().expect("a record");
        let (_, txn, _) = farrier_proto::txn::read_txn(txn).expect("a transaction");
        let farrier_proto::Txn::Multi(txns) = txn else { panic!("{txn:?}") };
        assert!(txns.iter().all(|t| matches!(t, farrier_proto::Txn::Create(_))), "{txns:?}");
    }
    assert_eq!(lengths, [lengths[0]; 3], "the same from leader and followers");
    c.assert_equal();
}

/// The leader is one of Farrier's, but the others can't know.
#[test]
fn what_would_stop_a_leader_is_answered_by_the_follower() {
    let mut c = Cluster::of_three_with(|_, zab| zab.cumulative = false);
    let f = c.followers()[0];
    let a = c.connect(f, 10_000);
    c.run();
    let zxid = c.replica(f).last_zxid();
    let mut plain = create("/x", 0);
    plain.extend_from_slice(&(-1_i64).to_be_bytes());
    c.request(a, 1, OpCode::CreateTtl, &plain);
    c.request(a, 2, OpCode::Create, &create("/zookeeper/quota/zookeeper_limits", 0));
    c.request(a, 3, OpCode::Multi, &multi(&[("/y", 1), ("/zookeeper/zookeeper_limits", 1)]));
    c.request(a, 4, OpCode::SetData, &set("/zookeeper/quota/a/zookeeper_stats", b"garbage"));
    // Its ACL is null.
    let mut null = multi(&[("/y", 1)]);
    let at = null.windows(5).position(|w| w == b"world").expect("an ACL") - 12;
    null[at..at + 4].copy_from_slice(&(-1_i32).to_be_bytes());
    c.request(a, 5, OpCode::Multi, &null);
    assert_eq!(c.replies(a), [(1, -8), (2, -8), (3, -8), (4, -8), (5, -5)]);
    assert_eq!(c.replica(f).last_zxid(), zxid, "nothing was forwarded");
    c.request(a, 6, OpCode::Create, &create("/y", 0));
    assert_eq!(c.replies(a), [(6, 0)]);
    c.assert_equal();
}

#[test]
fn the_leader_dies_and_its_clients_go_on_elsewhere() {
    let mut c = Cluster::of_three();
    let (l, f) = (c.leader(), c.followers());
    let (a, b) = (c.connect(l, 20_000), c.connect(f[0], 20_000));
    for (client, path) in [(a, "/a"), (b, "/b")] {
        c.request(client, 1, OpCode::Create, &create(path, 1));
        assert_eq!(c.replies(client), [(1, 0)]);
    }
    c.freeze(f[1]);
    c.crash(l);
    assert!(c.is_closed(b.conn), "without a leader nobody is served");
    assert!(!c.replica(f[0]).is_serving());
    let conn = c.dial(f[0]);
    c.frame(conn, &harness::connect_frame(20_000, a.session, &farrier_proto::session::password(a.session), 0));
    c.run();
    assert!(!c.is_closed(conn) && c.frames(conn).is_empty(), "held until there is one");
    c.pass(400);
    c.thaw(f[1]);
    c.run();
    assert_eq!(c.connected(conn), Some(a.session), "{:#?}", c.notes);
    let b = c.reattach(f[1], b.session).expect("the session lives");
    let a = Client { conn, ..a };
    for (client, path) in [(a, "/a"), (b, "/b")] {
        c.request(client, 2, OpCode::Exists, &read(path, false));
        c.request(client, 3, OpCode::Create, &create(&format!("{path}2"), 0));
        assert_eq!(c.replies(client), [(2, 0), (3, 0)]);
    }
    c.start(l);
    c.settle();
    c.assert_equal();
    let again = c.connect(l, 10_000);
    c.request(again, 1, OpCode::Exists, &read("/a2", false));
    assert_eq!(c.replies(again), [(1, 0)]);
}

#[test]
fn what_a_deposed_leader_could_not_commit_is_never_answered() {
    let mut c = Cluster::of_three();
    let (l, f) = (c.leader(), c.followers());
    let (a, b) = (c.connect(l, 10_000), c.connect(f[0], 10_000));
    c.hold_disk(f[0], true);
    c.hold_disk(f[1], true);
    c.request(a, 1, OpCode::Create, &create("/lost", 0));
    c.request(b, 1, OpCode::Create, &create("/lost2", 0));
    c.run();
    assert_eq!(c.log(l).last().map(|(z, _)| z.counter()), Some(4), "both are in the leader's log");
    c.crash(f[0]);
    c.crash(f[1]);
    c.pass(3000);
    assert!(c.is_closed(a.conn) && c.replies(a).is_empty(), "its outcome is unknown");
    assert!(c.replies(b).is_empty());
    c.crash(l);
    c.hold_disk(f[0], false);
    c.hold_disk(f[1], false);
    c.start(f[0]);
    c.start(f[1]);
    c.settle();
    let b = c.connect(f[0], 10_000);
    c.request(b, 1, OpCode::Create, &create("/kept", 0));
    assert_eq!(c.replies(b), [(1, 0)]);
    c.start(l);
    c.settle();
    c.assert_equal();
    for s in [1, 2, 3] {
        let tree = c.replica(s).tree();
        assert!(tree.node("/kept").is_some() && tree.node("/lost").is_none(), "on {s}");
    }
}

/// Writes through one server; then a member that was away comes back.
fn join_late(configure: fn(&mut farrier_replica::ReplicaConfig, &mut farrier_zab::Config)) -> Cluster {
    let mut c = Cluster::of_three_with(configure);
    let late = c.followers()[1];
    let a = c.connect(c.leader(), 10_000);
    c.run();
    c.crash(late);
    for i in 0..50 {
        c.request(a, i, OpCode::Create, &create(&format!("/{i}"), i32::from(i % 10 == 0)));
    }
    assert_eq!(c.replies(a).len(), 50);
    c.start(late);
    c.settle();
    c.request(a, 50, OpCode::Create, &create("/behind", 0));
    assert_eq!(c.replies(a), [(50, 0)]);
    c.assert_equal();
    let b = c.connect(late, 10_000);
    c.request(b, 1, OpCode::GetChildren, &read("/", true));
    c.request(b, 2, OpCode::Create, &create("/b", 0));
    assert_eq!(c.replies(b), [(1, 0), (-1, 0), (2, 0)], "the event before the reply");
    // What it has on its disk is what it serves.
    c.crash(late);
    c.start(late);
    c.settle();
    c.assert_equal();
    c
}

#[test]
fn a_late_member_gets_the_difference() {
    assert_eq!(join_late(|_, _| {}).streams, 0);
    let from_disk = join_late(|_, zab| zab.window_txns = 2);
    assert_eq!(from_disk.streams, 0);
}

#[test]
fn a_late_member_gets_the_state() {
    assert!(join_late(|_, zab| zab.force_snapshot_sync = true).streams > 0);
}

#[test]
fn an_image_of_a_state_that_another_replaces_is_forgotten() {
    let mut c = Cluster::of_three_with(|config, zab| {
        (config.snap_count, config.image_slice) = (2000, 1);
        zab.force_snapshot_sync = true;
    });
    let write = |c: &mut Cluster, from: i32| {
        let client = c.connect(c.leader(), 30_000);
        for i in from..from + 2000 {
            c.request(client, i, OpCode::Create, &create(&format!("/{i}"), 0));
            assert_eq!(c.replies(client), [(i, 0)]);
        }
    };
    write(&mut c, 0);
    assert_eq!(c.snapshots, 0, "the clock stands still, and all three gather");
    let streams = c.streams;
    c.crash(c.leader());
    c.settle();
    assert_eq!((c.snapshots, c.streams - streams), (0, 1), "one leads, and the other has its state, within a second");
    c.pass(5000);
    assert_eq!(c.snapshots, 1);
    write(&mut c, 2000);
    c.pass(5000);
    assert_eq!(c.snapshots, 3, "one on each that runs");
    c.assert_equal();
}

#[test]
fn the_membership_shows() {
    let mut c = join_late(|_, zab| zab.force_snapshot_sync = true);
    for s in [1, 2, 3] {
        let node = c.replica(s).tree().node("/zookeeper/config").expect("a built-in znode");
        assert_eq!(node.data(), Some(b"server.1=a\nversion=0".as_slice()), "on {s}");
        assert_eq!(node.stat().version, -1);
    }
    let a = c.connect(1, 10_000);
    c.request(a, 1, OpCode::GetData, &read("/zookeeper/config", false));
    assert_eq!(c.replies(a), [(1, 0)]);
}

#[test]
fn a_connect_request_is_held_only_so_long() {
    let mut c = Cluster::new(&[1, 2, 3], |_, _| {});
    c.start(1);
    let conn = c.dial(1);
    c.frame(conn, &harness::connect_frame(10_000, farrier_proto::SessionId::NONE, &[0; 16], 0));
    c.pass(499);
    assert!(!c.is_closed(conn) && c.is_paused(conn));
    c.pass(2);
    assert!(c.is_closed(conn) && c.frames(conn).is_empty());
}

#[test]
fn a_client_that_saw_the_epochs_first_zxid_is_not_ahead() {
    let mut c = Cluster::of_three();
    for s in [1, 2, 3] {
        let epoch = c.replica(s).peer_status().and_then(|s| s.epoch).expect("a leader");
        let zxid = |counter| farrier_proto::Zxid::new(epoch, counter).to_wire();
        assert!(c.replica(s).last_zxid().to_wire() < zxid(0), "nothing was written yet");
        let [apaches, ahead] = [0, 1].map(|counter| {
            let conn = c.dial(s);
            let nobody = farrier_proto::SessionId(0x77);
            c.frame(conn, &harness::connect_frame(10_000, nobody, &[0; 16], zxid(counter)));
            c.run();
            c.frames(conn).len()
        });
        assert_eq!((apaches, ahead), (1, 0), "told that it has no session; closed without a word");
    }
}

#[test]
fn a_forwarded_request_that_makes_no_sense_takes_a_zxid_all_the_same() {
    use farrier_proto::quorum::{ForwardedRequest, Identities, LearnerPacket};
    let mut c = Cluster::of_three();
    let (l, f) = (c.leader(), c.followers());
    let a = c.connect(f[0], 10_000);
    let link = c.link(f[0]);
    for (cxid, op) in [(1, 1), (2, 14), (3, 13), (4, 99), (5, 20), (6, -10)] {
        let body = bytes::Bytes::from_static(&[0, 0]);
        let request = ForwardedRequest { session: a.session, cxid, op, body, identities: Identities::NONE };
        let before = c.replica(l).last_zxid();
        let packet = LearnerPacket::Request(request);
        c.inject(l, farrier_zab::Input::LearnerPacket { link, packet });
        let (zxid, txn) = c.log(l).last().expect("a record");
        assert_eq!(Some(*zxid), before.next());
        let (header, txn, _) = farrier_proto::txn::read_txn(txn).expect("a transaction");
        let code = if [13, 99, 20].contains(&op) { -6 } else { -5 };
        assert_eq!((header.cxid, &txn), (cxid, &farrier_proto::Txn::Error(code)), "operation {op}");
    }
    assert!(!c.is_closed(a.conn));
    c.request(a, 7, OpCode::Create, &create("/a", 0));
    assert_eq!(c.replies(a), [(7, 0)]);
    c.assert_equal();
}

#[test]
fn a_transaction_that_is_none_does_not_get_into_the_log() {
    use farrier_proto::quorum::LeaderPacket;
    let mut c = Cluster::of_three();
    let f = c.followers();
    let a = c.connect(f[0], 10_000);
    c.run();
    let link = c.link(f[0]);
    let zxid = c.replica(f[0]).last_zxid().next().expect("another one");
    let length = c.log(f[0]).len();
    let packet = LeaderPacket::Proposal { zxid, txn: bytes::Bytes::from_static(b"no transaction") };
    c.inject(f[0], farrier_zab::Input::LeaderPacket { link, packet });
    assert_eq!(c.log(f[0]).len(), length);
    assert!(c.is_closed(a.conn), "its server left the leader");
    c.settle();
    assert!(c.reattach(f[0], a.session).is_some(), "and is back");
}

#[test]
fn a_leader_that_does_not_serve_takes_no_clients() {
    let mut c = Cluster::of_three_with(|replica, _| replica.leader_serves = false);
    let leader = c.leader();
    let follower = if leader == 1 { 2 } else { 1 };
    let refused = c.dial(leader);
    c.frame(refused, &harness::connect_frame(10_000, farrier_proto::SessionId::NONE, &[0; 16], 0));
    c.run();
    assert!(c.is_closed(refused) && c.frames(refused).is_empty());
    let client = c.connect(follower, 10_000);
    c.request(client, 1, OpCode::Create, &create("/a", 0));
    assert_eq!(c.replies(client), [(1, 0)], "the leader leads all the same");
}

#[test]
fn a_leader_knows_the_sizes_of_its_proposals() {
    let mut c = Cluster::of_three();
    let leader = c.leader();
    let sizes = |c: &Cluster| c.replica(leader).leadership().map(|(_, s)| (s.last, s.min, s.max));
    assert_eq!(sizes(&c), Some((-1, -1, -1)), "nothing is proposed yet");
    let client = c.connect(leader, 10_000);
    let session = sizes(&c).expect("it leads").0;
    c.request(client, 1, OpCode::Create, &create("/a", 0));
    c.request(client, 2, OpCode::SetData, &set("/a", &[7; 1000]));
    assert_eq!(c.replies(client), [(1, 0), (2, 0)]);
    let (last, min, max) = sizes(&c).expect("it leads");
    assert!(min == session && last == max && last > 1000 + session / 2, "{last}/{min}/{max}");
    assert_eq!(c.replica(if leader == 1 { 2 } else { 1 }).leadership(), None);
}
