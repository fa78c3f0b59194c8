//! A leader that hands over, or is stopped: what clients of each server see of it.

mod harness;

use farrier_proto::client::{CreateRequest, PathOnly, SetDataRequest};
use farrier_proto::{OpCode, RawAcl, SessionId};
use farrier_replica::{HandOverRefused, Input};
use harness::ensemble::{Client, Cluster};
use harness::{connect_frame, encode};
use std::borrow::Cow;

fn create(path: &str) -> Vec<u8> {
    let open = RawAcl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) };
    encode(&CreateRequest { path: Some(Cow::Borrowed(path)), data: None, acl: Some(vec![open]), flags: 0 })
}

fn set(path: &str, data: &[u8]) -> Vec<u8> {
    encode(&SetDataRequest { path: Some(Cow::Borrowed(path)), data: Some(Cow::Borrowed(data)), version: -1 })
}

fn has(c: &Cluster, server: i64, path: &str) -> bool {
    c.replica(server).tree().node(path).is_some()
}

/// A leader with writes of its own clients and of a follower's under way, and nobody's disk moving.
fn with_writes_under_way() -> (Cluster, i64, Client, Client) {
    let mut c = Cluster::of_three();
    let (l, f) = (c.leader(), c.followers());
    let (own, other) = (c.connect(l, 10_000), c.connect(f[0], 10_000));
    for s in [1, 2, 3] {
        c.hold_disk(s, true);
    }
    c.request(own, 1, OpCode::Create, &create("/own"));
    c.request(other, 1, OpCode::Create, &create("/other"));
    c.run();
    (c, l, own, other)
}

#[test]
fn what_was_asked_before_is_answered_and_what_comes_behind_is_not_begun() {
    let (mut c, l, own, other) = with_writes_under_way();
    let now = c.now;
    assert_eq!(c.replica(l).may_hand_over(now), Ok(()));
    c.ask(l, Input::HandOver);
    assert_eq!(c.replica(l).may_hand_over(now), Err(HandOverRefused::UnderWay));
    c.request(own, 2, OpCode::Create, &create("/late"));
    c.request(own, 3, OpCode::Exists, &encode(&PathOnly { path: Some("/own".into()) }));
    c.request(other, 2, OpCode::Create, &create("/late"));
    let newcomer = c.dial(l);
    c.frame(newcomer, &connect_frame(10_000, SessionId::NONE, &[0; 16], 0));
    c.run();
    assert!(!c.is_closed(own.conn), "its write is not answered yet");
    for s in [1, 2, 3] {
        c.hold_disk(s, false);
    }
    assert_eq!(c.replies(own), [(1, 0)]);
    assert_eq!(c.replies(other), [(1, 0)]);
    assert!(c.is_closed(own.conn) && c.is_closed(other.conn));

    assert_ne!(c.leader(), l, "nobody had to wait");
    assert!(c.connected(newcomer).is_some(), "it waited for the next leader");
    for s in [1, 2, 3] {
        assert!(has(&c, s, "/own") && has(&c, s, "/other") && !has(&c, s, "/late"), "on {s}");
    }
    let again = c.reattach(l, own.session).expect("the session lives, and has moved to a follower");
    c.request(again, 2, OpCode::Create, &create("/late"));
    assert_eq!(c.replies(again), [(2, 0)]);
    c.assert_equal();
}

#[test]
fn back_and_forth() {
    let mut c = Cluster::of_three();
    for n in 0..10 {
        // The last leader has to come back.
        c.settle();
        let l = c.leader();
        let client = c.connect(l, 10_000);
        c.request(client, 1, OpCode::Create, &create(&format!("/{n}")));
        assert_eq!(c.replies(client), [(1, 0)]);
        c.ask(l, Input::HandOver);
        c.run();
        assert_ne!(c.leader(), l, "{:#?}", c.notes);
    }
    c.assert_equal();
}

#[test]
fn who_cannot_hand_over_goes_on() {
    let mut c = Cluster::of_three();
    let (l, f) = (c.leader(), c.followers());
    let now = c.now;
    let leader = Some(farrier_proto::ServerId(l));
    assert_eq!(c.replica(f[0]).may_hand_over(now), Err(HandOverRefused::NotLeading { leader }));
    c.crash(f[0]);
    let client = c.connect(l, 10_000);
    c.ask(l, Input::HandOver);
    c.run();
    assert_eq!(c.leader(), l);
    assert!(c.notes.iter().any(|(s, n)| *s == l && n.contains("not handed over")), "{:?}", c.notes);
    c.request(client, 1, OpCode::Create, &create("/a"));
    assert_eq!(c.replies(client), [(1, 0)]);
}

#[test]
fn a_leader_that_is_stopped_hands_over_first() {
    let (mut c, l, own, other) = with_writes_under_way();
    c.ask(l, Input::Stop);
    c.run();
    assert_eq!(c.running().len(), 3, "something is not answered yet");
    for s in [1, 2, 3] {
        c.hold_disk(s, false);
    }
    assert_eq!((c.replies(own), c.replies(other)), (vec![(1, 0)], vec![(1, 0)]));
    assert!(c.running().len() == 2 && c.leader() != l, "nobody had to wait");
    assert!(c.notes.iter().any(|(s, n)| *s == l && n.contains("is handed over")), "{:?}", c.notes);
    c.start(l);
    c.settle();
    c.assert_equal();
}

#[test]
fn a_leader_without_another_quorum_stops_all_the_same() {
    let mut c = Cluster::of_three();
    let (l, f) = (c.leader(), c.followers());
    c.crash(f[0]);
    let client = c.connect(l, 10_000);
    c.request(client, 1, OpCode::Create, &create("/a"));
    c.ask(l, Input::Stop);
    assert_eq!(c.replies(client), [(1, 0)]);
    assert_eq!(c.running(), [f[1]]);

    // They are in time, and one is gone before it has everything.
    let (mut c, l, _, _) = with_writes_under_way();
    let f = c.followers();
    c.ask(l, Input::Stop);
    c.crash(f[0]);
    c.run();
    assert_eq!(c.running(), [f[1]]);
}

#[test]
fn a_leader_without_room_for_its_log_hands_over_once_others_can_do_without_it() {
    let mut c = Cluster::of_three();
    let (l, f) = (c.leader(), c.followers());
    let full = || Input::SegmentPrepared { error: Some("the disk is full".into()) };
    let notes = |c: &Cluster, text: &str| c.notes.iter().filter(|(s, n)| *s == l && n.contains(text)).count();
    c.crash(f[0]);
    c.ask(l, full());
    c.ask(l, full());
    c.pass(20_000);
    assert_eq!(c.leader(), l, "nobody could take over");
    assert_eq!(notes(&c, "the next log segment cannot be prepared: the disk is full"), 1);
    assert_eq!(notes(&c, "another server should lead"), 1, "told once");
    c.start(f[0]);
    c.pass(10_000);
    c.settle();
    let next = c.leader();
    assert_ne!(next, l);

    // It gets the leadership back, and keeps it: the disks of all may be full.
    c.ask(next, Input::HandOver);
    c.pass(1000);
    c.settle();
    assert_eq!(c.leader(), l, "the largest id");
    c.pass(300_000);
    assert_eq!(c.leader(), l);
    c.pass(400_000);
    c.settle();
    assert_ne!(c.leader(), l, "but not for ever");

    c.ask(l, Input::SegmentPrepared { error: None });
    assert_eq!(notes(&c, "there is room again"), 1);
    let next = c.leader();
    c.ask(next, Input::HandOver);
    c.pass(1000);
    c.settle();
    c.pass(1_000_000);
    assert_eq!(c.leader(), l);
}

#[test]
fn a_leader_whose_log_is_far_behind_takes_no_more_writes_and_hands_over() {
    let mut c = Cluster::of_three_with(|replica, _| replica.log_lag_max = 50_000);
    let (l, f) = (c.leader(), c.followers());
    let (own, other) = (c.connect(l, 10_000), c.connect(f[0], 10_000));
    c.request(own, 0, OpCode::Create, &create("/a"));
    assert_eq!(c.replies(own), [(0, 0)]);
    // Its own disk hangs. The other two go on.
    c.hold_disk(l, true);
    let mut taken = 0;
    while !c.is_paused(own.conn) {
        taken += 1;
        assert!(taken < 50, "what waits for the disk is bounded");
        c.request(own, taken, OpCode::SetData, &set("/a", &[1; 5000]));
        c.run();
    }
    let answered: Vec<_> = (1..=taken).map(|xid| (xid, 0)).collect();
    assert_eq!((taken, c.replies(own)), (10, answered));
    c.request(other, 1, OpCode::SetData, &set("/a", b"other"));
    assert_eq!(c.replies(other), [(1, 0)], "a learner's requests come all the same");
    assert!(c.notes.iter().any(|(s, n)| *s == l && n.contains("bytes of transactions wait for the log's disk")));
    // So another one is to lead.
    c.pass(5000);
    assert_ne!(c.leader(), l, "{:?}", c.notes);
    c.hold_disk(l, false);
    c.settle();
    assert_eq!(c.notes.iter().filter(|(s, n)| *s == l && n == "the log's disk has caught up").count(), 1);
    c.assert_equal();
}

/// It waits with others for the log while it waits for the next leader, and the list of the others ends with the term.
#[test]
fn who_is_held_while_the_log_is_behind_is_not_forgotten() {
    let mut c = Cluster::of_three_with(|replica, _| replica.log_lag_max = 50_000);
    let (l, f) = (c.leader(), c.followers());
    let (own, other) = (c.connect(l, 10_000), c.connect(f[0], 10_000));
    c.request(own, 0, OpCode::Create, &create("/a"));
    assert_eq!(c.replies(own), [(0, 0)]);
    let fall_behind = |c: &mut Cluster, client: Client, xids: std::ops::Range<i32>| {
        for xid in xids {
            c.request(client, xid, OpCode::SetData, &set("/a", &[1; 5000]));
            c.run();
        }
    };
    c.hold_disk(l, true);
    fall_behind(&mut c, other, 1..12);
    // The hand-over waits for a write.
    f.iter().for_each(|f| c.hold_disk(*f, true));
    fall_behind(&mut c, other, 12..13);
    c.ask(l, Input::HandOver);
    let newcomer = c.dial(l);
    c.frame(newcomer, &connect_frame(10_000, SessionId::NONE, &[0; 16], 0));
    f.iter().for_each(|f| c.hold_disk(*f, false));
    c.hold_disk(l, false);
    assert_ne!(c.leader(), l);
    let session = c.connected(newcomer).expect("it was held for the next leader");

    let next = c.leader();
    let other = c.connect(next, 10_000);
    c.hold_disk(l, true);
    fall_behind(&mut c, other, 1..12);
    c.request(Client { conn: newcomer, session }, 1, OpCode::SetData, &set("/a", b"held"));
    assert!(c.replies(Client { conn: newcomer, session }).is_empty(), "it waits for the disk");
    c.hold_disk(l, false);
    assert_eq!(c.replies(Client { conn: newcomer, session }), [(1, 0)]);
}

#[test]
fn clients_of_a_leader_whose_log_catches_up_go_on() {
    let mut c = Cluster::of_three_with(|replica, _| replica.log_lag_max = 50_000);
    let l = c.leader();
    let own = c.connect(l, 10_000);
    c.request(own, 0, OpCode::Create, &create("/a"));
    c.hold_disk(l, true);
    (1..=10).for_each(|xid| {
        c.request(own, xid, OpCode::SetData, &set("/a", &[1; 5000]));
        c.run();
    });
    assert!(c.is_paused(own.conn));
    c.hold_disk(l, false);
    assert_eq!(c.replies(own), (0..=10).map(|xid| (xid, 0)).collect::<Vec<_>>());
    assert!(!c.is_paused(own.conn));
    c.pass(5000);
    assert_eq!(c.leader(), l, "there is no reason any more");
}

#[test]
fn a_follower_whose_log_is_far_behind_does_not_read_from_its_leader() {
    let mut c = Cluster::of_three_with(|replica, _| replica.log_lag_max = 50_000);
    let (l, f) = (c.leader(), c.followers()[0]);
    let client = c.connect(l, 10_000);
    c.request(client, 0, OpCode::Create, &create("/a"));
    c.hold_disk(f, true);
    let behind = (f, c.link(f));
    for xid in 1..=12 {
        assert_eq!(c.links_paused.contains(&behind), xid > 10, "before {xid}");
        c.request(client, xid, OpCode::SetData, &set("/a", &[1; 5000]));
        c.run();
    }
    c.hold_disk(f, false);
    assert!(c.links_paused.is_empty(), "it reads on");
    c.assert_equal();
}
