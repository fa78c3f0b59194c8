//! A session's next connection comes behind what it has on its way from the one before, as in Apache (`CommitProcessor`).

mod harness;

use farrier_proto::client::{CreateRequest, PathKind, PathOnly, PathWatch, SetDataRequest};
use farrier_proto::session::password;
use farrier_proto::{OpCode, RawAcl, SessionId};
use farrier_replica::{ConnId, Input};
use harness::ensemble::{Client, Cluster};
use harness::{World, config, connect_frame, encode};
use std::borrow::Cow;

fn create(path: &str) -> Vec<u8> {
    let open = RawAcl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) };
    encode(&CreateRequest { path: Some(Cow::Borrowed(path)), data: None, acl: Some(vec![open]), flags: 0 })
}

fn read(path: &str) -> Vec<u8> {
    encode(&PathWatch { path: Some(Cow::Borrowed(path)), watch: false })
}

fn set(path: &str) -> Vec<u8> {
    encode(&SetDataRequest { path: Some(Cow::Borrowed(path)), data: Some(b"new".into()), version: -1 })
}

fn sync() -> Vec<u8> {
    encode(&PathOnly { path: Some("/".into()) })
}

#[test]
fn on_a_server_alone() {
    let mut w = World::new(config());
    let (old, session) = w.connect(10_000);
    w.sync_at_once = false;
    w.request(old, 1, OpCode::Create, &create("/lock"));
    w.step(Input::ClientDown { conn: old });
    let new = w.dial();
    w.frame(new, &connect_frame(10_000, session, &password(session), 0));
    assert_eq!(w.frames(new).len(), 1, "it has its session at once");
    w.request(new, 1, OpCode::Exists, &read("/lock"));
    w.request(new, 2, OpCode::Create, &create("/next"));
    w.request(new, 3, OpCode::Exists, &read("/next"));
    assert_eq!(w.appended.len(), 2, "its writes do not wait for one another");
    assert!(w.take(new).is_empty());
    let (first, _) = w.appended.remove(0);
    w.step(Input::Durable { id: first });
    assert_eq!(w.replies(new), [(1, 0)]);
    w.sync();
    assert_eq!(w.replies(new), [(2, 0), (3, 0)]);
}

#[test]
fn one_commit_for_all_keeps_the_order_too() {
    let mut w = World::new(config());
    let (old, session) = w.connect(10_000);
    w.sync_at_once = false;
    w.request(old, 1, OpCode::Create, &create("/lock"));
    let new = w.dial();
    w.frame(new, &connect_frame(10_000, session, &password(session), 0));
    assert!(w.closed.contains(&old));
    w.frames(new);
    w.request(new, 1, OpCode::Exists, &read("/next"));
    w.request(new, 2, OpCode::Create, &create("/next"));
    w.sync();
    assert_eq!(w.replies(new), [(1, -101), (2, 0)], "the first reads before the second writes");
}

#[test]
fn a_sync_of_a_server_alone_comes_behind_everybodys_writes() {
    let mut w = World::new(config());
    let ((a, _), (b, _)) = (w.connect(10_000), w.connect(10_000));
    w.sync_at_once = false;
    w.request(b, 1, OpCode::Sync, &sync());
    assert_eq!(w.replies(b), [(1, 0)], "there is none");
    w.request(a, 1, OpCode::Create, &create("/a"));
    w.request(b, 2, OpCode::Exists, &read("/a"));
    assert_eq!(w.replies(b), [(2, -101)]);
    w.request(b, 3, OpCode::Sync, &sync());
    w.request(b, 4, OpCode::Exists, &read("/a"));
    assert!(w.take(b).is_empty());
    // Who leaves meanwhile is not waited for.
    w.request(a, 2, OpCode::Sync, &sync());
    w.step(Input::ClientDown { conn: a });
    w.sync();
    assert_eq!(w.replies(b), [(3, 0), (4, 0)]);
}

/// A session with a write on its way, whose connection to this server is gone.
fn interrupted(c: &mut Cluster, server: i64, path: &str) -> Client {
    let old = c.connect(server, 10_000);
    for s in [1, 2, 3] {
        c.hold_disk(s, true);
    }
    c.request(old, 1, OpCode::SetData, &set(path));
    c.run();
    let new = c.reattach(server, old.session).expect("the session lives");
    assert!(c.is_closed(old.conn));
    new
}

fn release(c: &mut Cluster) {
    for s in [1, 2, 3] {
        c.hold_disk(s, false);
    }
}

#[test]
fn on_the_leader_and_on_a_follower() {
    for on_leader in [true, false] {
        let mut c = Cluster::of_three();
        let server = if on_leader { c.leader() } else { c.followers()[0] };
        let first = c.connect(server, 10_000);
        c.request(first, 1, OpCode::Create, &create("/a"));
        assert_eq!(c.replies(first), [(1, 0)]);
        let new = interrupted(&mut c, server, "/a");
        c.request(new, 5, OpCode::GetData, &read("/a"));
        c.request(new, -2, OpCode::Ping, &[]);
        assert_eq!(c.replies(new), [], "on the leader: {on_leader}");
        release(&mut c);
        let frames = c.frames(new.conn);
        assert_eq!(frames.len(), 2, "on the leader: {on_leader}");
        // Header, length of the data.
        assert_eq!(&frames[0][20..23], b"new", "on the leader: {on_leader}");
        c.request(new, 6, OpCode::Exists, &read("/a"));
        assert_eq!(c.replies(new), [(6, 0)], "and nothing stays behind");
    }
}

/// Clients count their requests anew on each connection, so the leader's answers to both bear one number.
#[test]
fn what_a_follower_hears_of_a_lost_request_answers_no_later_one() {
    let mut c = Cluster::of_three();
    let f = c.followers()[0];
    let first = c.connect(f, 10_000);
    c.request(first, 1, OpCode::Create, &create("/b"));
    assert_eq!(c.replies(first), [(1, 0)]);
    let new = interrupted(&mut c, f, "/missing");
    c.request(new, 1, OpCode::SetData, &set("/b"));
    c.request(new, 2, OpCode::SetData, &set("/missing"));
    assert_eq!(c.replies(new), []);
    release(&mut c);
    assert_eq!(c.replies(new), [(1, 0), (2, -101)]);
    // A second time, with a connection in between that sent nothing.
    let newer = interrupted(&mut c, f, "/missing");
    let newest = c.reattach(f, newer.session).expect("the session lives");
    c.request(newest, 1, OpCode::SetData, &set("/b"));
    assert_eq!(c.replies(newest), []);
    release(&mut c);
    assert_eq!(c.replies(newest), [(1, 0)]);
    c.assert_equal();
}

fn ask_for(c: &mut Cluster, server: i64, session: SessionId) -> ConnId {
    let conn = c.dial(server);
    c.frame(conn, &connect_frame(10_000, session, &password(session), 0));
    c.run();
    conn
}

#[test]
fn a_session_that_ends_before_it_is_there_ends_there() {
    let mut c = Cluster::of_three();
    let f = c.followers();
    let old = c.connect(f[0], 10_000);
    for s in [1, 2, 3] {
        c.hold_disk(s, true);
    }
    c.request(old, 1, OpCode::SetData, &set("/missing"));
    c.run();
    let new = ask_for(&mut c, f[1], old.session);
    c.request(old, 2, OpCode::CloseSession, &[]);
    c.run();
    let late = ask_for(&mut c, f[1], old.session);
    assert!(c.frames(new).is_empty() && c.frames(late).is_empty() && !c.is_closed(new) && !c.is_closed(late));
    release(&mut c);
    assert!(c.connected(new).is_some(), "it was, when it was asked for");
    assert!(c.connected(late).is_none() && c.is_closed(late));
    assert!(c.is_closed(new));
    c.assert_equal();
}

/// A write is on its way by another server, or by this one before it lost its leader, and what becomes of it bears the number of
/// the new connection's first request.
#[test]
fn what_a_session_sent_by_another_way_answers_no_later_request() {
    for (back, path) in [(false, "/missing"), (false, "/b"), (true, "/missing"), (true, "/b")] {
        let mut c = Cluster::of_three();
        let (l, f) = (c.leader(), c.followers());
        let (old, idle) = (c.connect(f[0], 10_000), c.connect(f[0], 10_000));
        c.request(old, 1, OpCode::Create, &create("/b"));
        assert_eq!(c.replies(old), [(1, 0)]);
        for s in [1, 2, 3] {
            c.hold_disk(s, true);
        }
        c.request(old, 1, OpCode::SetData, &set(path));
        c.run();
        let to = if back {
            let link = c.link(f[0]);
            c.inject(l, farrier_zab::Input::LinkDown { link });
            c.inject(f[0], farrier_zab::Input::LinkDown { link });
            // It joins again; the others have a quorum, but no disk to commit with.
            c.hold_disk(f[0], false);
            c.settle();
            assert_eq!(c.leader(), l);
            f[0]
        } else {
            c.crash(f[0]);
            f[1]
        };
        assert!(c.reattach(to, idle.session).is_some(), "who has nothing on its way does not wait");
        let conn = ask_for(&mut c, to, old.session);
        assert_eq!(c.frames(conn).len(), 0, "the session is there once that is over: {back} {path}");
        c.hold_disk(l, false);
        c.hold_disk(to, false);
        let session = c.connected(conn).expect("the session lives");
        let new = Client { conn, session };
        for s in [1, 2, 3] {
            c.hold_disk(s, true);
        }
        c.request(new, 1, OpCode::SetData, &set("/b"));
        assert_eq!(c.replies(new), [], "{back} {path}");
        release(&mut c);
        assert_eq!(c.replies(new), [(1, 0)], "{back} {path}");
        c.assert_equal();
    }
}

/// What is refused because the session went elsewhere is nobody's request any more once it comes back.
#[test]
fn a_session_that_comes_back_waits_for_the_refusal_of_what_it_left() {
    let mut c = Cluster::of_three();
    let f = c.followers();
    let (old, idle) = (c.connect(f[0], 10_000), c.connect(f[0], 10_000));
    c.reattach(f[1], old.session).expect("the session moves");
    for s in [1, 2, 3] {
        c.hold_disk(s, true);
    }
    c.request(old, 1, OpCode::SetData, &set("/missing"));
    c.run();
    assert!(c.reattach(f[0], idle.session).is_some(), "who has nothing on its way does not wait");
    let back = ask_for(&mut c, f[0], old.session);
    assert_eq!(c.frames(back).len(), 0);
    release(&mut c);
    assert!(c.connected(back).is_some() && c.is_closed(old.conn));
    c.assert_equal();
}

/// Events cannot be held back: the one of its own write may be what closes a connection that does not read.
#[test]
fn what_closes_a_connection_before_its_write_is_answered_leaves_nothing_behind() {
    let mut c = Cluster::of_three();
    let (writer, watcher) = (c.connect(c.leader(), 10_000), c.connect(c.followers()[0], 10_000));
    let path = format!("/{}", "x".repeat(950_000));
    c.request(watcher, 1, OpCode::AddWatch, &encode(&PathKind { path: Some("/".into()), kind: 1 }));
    c.request(writer, 1, OpCode::Create, &create(&path));
    assert_eq!(c.replies(watcher).len(), 2, "the event, too");
    c.stop_taking(watcher.conn);
    for s in [1, 2, 3] {
        c.hold_disk(s, true);
    }
    // With the one above so many events have less than 16 MiB; one more does not.
    (2..18).for_each(|xid| c.request(writer, xid, OpCode::SetData, &set(&path)));
    c.run();
    c.request(watcher, 2, OpCode::SetData, &set(&path));
    c.run();
    assert!(!c.is_closed(watcher.conn));
    release(&mut c);
    assert_eq!(c.replies(watcher), [(-1, 0); 17], "the write is not answered");
    assert!(c.is_closed(watcher.conn));
    let new = c.reattach(c.followers()[0], watcher.session).expect("the session lives");
    c.request(new, 1, OpCode::Exists, &read("/"));
    assert_eq!(c.replies(new), [(1, 0)], "nothing is awaited");
}

/// Behind many reads a write waits until they ran, and leaves in the moment in which they do.
#[test]
fn a_write_that_waited_behind_another_connections_leaves_at_once() {
    let mut c = Cluster::of_three();
    let f = c.followers()[0];
    let first = c.connect(f, 10_000);
    c.request(first, 1, OpCode::Create, &create("/a"));
    assert_eq!(c.replies(first), [(1, 0)]);
    let new = interrupted(&mut c, f, "/a");
    (1..=20).for_each(|xid| c.request(new, xid, OpCode::Exists, &read("/a")));
    c.request(new, 21, OpCode::SetData, &set("/a"));
    c.request(new, 22, OpCode::Exists, &read("/a"));
    assert_eq!(c.replies(new), []);
    release(&mut c);
    assert_eq!(c.replies(new), (1..=22).map(|xid| (xid, 0)).collect::<Vec<_>>());
}

/// `crst` sets figures back, and nothing else.
#[test]
fn who_is_silent_is_not_told_by_a_figure() {
    let mut c = Cluster::of_three();
    let f = c.followers()[0];
    let client = c.connect(f, 30_000);
    for _ in 0..6 {
        c.pass(5000);
        c.request(client, -2, OpCode::Ping, &[]);
        assert_eq!(c.replies(client), [(-2, 0)]);
    }
    c.reset_connection_stats(f);
    c.pass(15_000);
    assert!(!c.is_closed(client.conn));
}

/// The path to the first server breaks without notice to either end.
#[test]
fn a_connection_whose_session_went_elsewhere_does_not_stay_for_ever() {
    for to_leader in [true, false] {
        let mut c = Cluster::of_three();
        let (l, f) = (c.leader(), c.followers());
        let (from, to) = if to_leader { (f[0], l) } else { (l, f[0]) };
        let (other, old) = (c.connect(from, 4000), c.connect(from, 10_000));
        let new = c.reattach(to, old.session).expect("the session moves");
        let live = |c: &mut Cluster, ms: u64| {
            for _ in 0..ms / 1000 {
                c.pass(1000);
                for client in [other, new] {
                    c.request(client, -2, OpCode::Ping, &[]);
                    assert_eq!(c.replies(client), [(-2, 0)]);
                }
            }
        };
        live(&mut c, 15_000);
        assert!(!c.is_closed(old.conn), "a client may be as silent as its timeout is long");
        live(&mut c, 20_000);
        assert!(c.is_closed(old.conn) && !c.is_closed(new.conn), "to the leader: {to_leader}");
        if from == l {
            // All stood still, and this one has its clients' pings yet to read.
            c.advance(20_000);
            c.fire(l);
            assert!(!c.is_closed(other.conn));
        }
    }
}

/// Nothing is read from a client that does not take its replies, so that it is not heard either. One that has gone elsewhere
/// will not take them any more.
#[test]
fn a_connection_that_stalled_before_its_session_went_elsewhere_does_not_stay_for_ever() {
    let mut c = Cluster::of_three();
    let (l, f) = (c.leader(), c.followers()[0]);
    let (taking, old) = (c.connect(f, 10_000), c.connect(f, 10_000));
    let big = SetDataRequest { path: Some("/big".into()), data: Some(vec![7; 400_000].into()), version: -1 };
    c.request(taking, 1, OpCode::Create, &create("/big"));
    c.request(taking, 2, OpCode::SetData, &encode(&big));
    assert_eq!(c.replies(taking), [(1, 0), (2, 0)]);
    c.stop_taking(old.conn);
    let mut xid = 0;
    while !c.is_paused(old.conn) {
        xid += 1;
        c.request(old, xid, OpCode::GetData, &read("/big"));
        assert!(xid < 10, "a megabyte of replies is the bound");
    }
    let new = c.reattach(l, old.session).expect("the session moves");
    for second in 1..40 {
        c.pass(1000);
        for client in [taking, new] {
            c.request(client, -2, OpCode::Ping, &[]);
            assert_eq!(c.replies(client), [(-2, 0)]);
        }
        assert!(second > 10 || !c.is_closed(old.conn), "a client may be as slow as its timeout is long");
    }
    assert!(c.is_closed(old.conn));
    assert!(!c.is_closed(new.conn) && !c.is_closed(taking.conn));
}
