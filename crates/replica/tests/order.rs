//! In which order things leave a replica, and what holds them back.

mod harness;

use farrier_proto::client::{CreateRequest, PathOnly, PathVersion, PathWatch, SetDataRequest};
use farrier_proto::session::password;
use farrier_proto::{OpCode, RawAcl, Zxid};
use farrier_replica::{CONN_UNFLUSHED_MAX, Input};
use harness::{World, config, connect_frame, encode, request};
use std::borrow::Cow;

fn create(path: &str, data: &[u8], flags: i32) -> Vec<u8> {
    let open = RawAcl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) };
    encode(&CreateRequest {
        path: Some(Cow::Borrowed(path)),
        data: Some(Cow::Borrowed(data)),
        acl: Some(vec![open]),
        flags,
    })
}

fn read(path: &str, watch: bool) -> Vec<u8> {
    encode(&PathWatch { path: Some(Cow::Borrowed(path)), watch })
}

fn set(path: &str, data: &[u8]) -> Vec<u8> {
    encode(&SetDataRequest { path: Some(Cow::Borrowed(path)), data: Some(Cow::Borrowed(data)), version: -1 })
}

#[test]
fn no_write_is_answered_before_its_log_record_is_durable() {
    let mut w = World::new(config());
    let (c, _) = w.connect(10_000);
    w.sync_at_once = false;
    w.request(c, 1, OpCode::Create, &create("/a", b"", 0));
    w.request(c, 2, OpCode::Create, &create("/b", b"", 0));
    w.request(c, 3, OpCode::Create, &create("/a", b"", 0));
    assert_eq!(w.appended.len(), 3);
    assert!(w.take(c).is_empty(), "nothing is durable yet");
    let (first, _) = w.appended.remove(0);
    w.step(Input::Durable { id: first });
    assert_eq!(w.replies(c), [(1, 0)], "only what the completion covers");
    w.sync();
    assert_eq!(w.replies(c), [(2, 0), (3, -110)]);
}

/// What a commit sets free to be proposed is not durable with it, and nor is what another proposed meanwhile.
#[test]
fn a_write_that_waited_makes_no_other_durable() {
    let mut w = World::new(config());
    let ((a, _), (b, _)) = (w.connect(10_000), w.connect(10_000));
    w.sync_at_once = false;
    w.request(a, 1, OpCode::Create, &create("/a", b"1", 0));
    // So many reads that the next writes wait behind them.
    (2..=20).for_each(|xid| w.request(a, xid, OpCode::Exists, &read("/a", false)));
    (21..=23).for_each(|xid| w.request(a, xid, OpCode::SetData, &set("/a", b"2")));
    w.request(b, 1, OpCode::Create, &create("/b", b"", 0));
    w.request(b, 2, OpCode::SetData, &set("/b", b"1"));
    assert_eq!(w.appended.len(), 3, "the writes behind the reads wait");
    let (first, _) = w.appended.remove(0);
    w.step(Input::Durable { id: first });
    assert_eq!(w.appended.len(), 3, "the first that waited is proposed");
    assert!(w.take(b).is_empty(), "nothing of the other client is durable");
    assert!(w.replica.tree().node("/b").is_none());
    w.sync();
    assert_eq!(w.replies(b), [(1, 0), (2, 0)]);
}

#[test]
fn behind_a_write_that_is_not_done_nothing_is_answered() {
    let mut w = World::new(config());
    let (c, _) = w.connect(4000);
    w.sync_at_once = false;
    w.request(c, 1, OpCode::Create, &create("/a", b"1", 0));
    // So many reads that the next write waits behind them.
    let reads = 2..=20;
    reads.clone().for_each(|xid| w.request(c, xid, OpCode::Exists, &read("/a", false)));
    w.request(c, 21, OpCode::SetData, &set("/a", b"2"));
    w.request(c, 22, OpCode::Exists, &read("/a", false));
    w.pass(60_000);
    assert_eq!(w.appended.len(), 2, "the session expired, and its end is not durable");
    let (first, _) = w.appended.remove(0);
    w.step(Input::Durable { id: first });
    let answered: Vec<_> = std::iter::once(1).chain(reads).map(|xid| (xid, 0)).collect();
    assert_eq!(w.replies(c), answered);
    assert!(w.closed.contains(&c));
}

#[test]
fn replies_leave_in_request_order_whatever_they_wait_for() {
    let mut w = World::new(config());
    let (c, _) = w.connect(10_000);
    w.sync_at_once = false;
    w.request(c, 1, OpCode::Create, &create("/a", b"1", 0));
    w.request(c, 2, OpCode::Exists, &read("/a", false));
    w.request(c, -2, OpCode::Ping, &[]);
    w.request(c, 3, OpCode::SetData, &set("/a", b"22"));
    w.request(c, 4, OpCode::GetData, &read("/a", false));
    w.request(c, 5, OpCode::Sync, &encode(&PathOnly { path: Some("/".into()) }));
    w.frame(c, &request(6, OpCode::GetData, &[]));
    assert!(w.take(c).is_empty());
    w.sync();
    assert_eq!(w.replies(c), [(1, 0), (2, 0), (-2, 0), (3, 0), (4, 0), (5, 0), (6, -5)]);
}

#[test]
fn a_read_between_two_writes_sees_the_first_and_not_the_second() {
    let mut w = World::new(config());
    let (c, _) = w.connect(10_000);
    w.sync_at_once = false;
    w.request(c, 1, OpCode::Create, &create("/a", b"first", 0));
    w.request(c, 2, OpCode::GetData, &read("/a", false));
    w.request(c, 3, OpCode::SetData, &set("/a", b"second"));
    w.sync();
    let frames = w.frames(c);
    assert_eq!(frames.len(), 3);
    assert!(frames[1].windows(5).any(|b| b == b"first"), "both became durable together, yet the read ran between them");
}

#[test]
fn others_reads_do_not_wait() {
    let mut w = World::new(config());
    let ((a, _), (b, _)) = (w.connect(10_000), w.connect(10_000));
    w.sync_at_once = false;
    w.request(a, 1, OpCode::Create, &create("/a", b"", 0));
    w.request(b, 1, OpCode::Exists, &read("/a", false));
    assert_eq!(w.replies(b), [(1, -101)], "answered at once, from committed state");
}

#[test]
fn an_event_comes_before_the_reply_that_shows_its_change() {
    let mut w = World::new(config());
    let ((a, _), (b, _)) = (w.connect(10_000), w.connect(10_000));
    w.request(a, 1, OpCode::Create, &create("/a", b"", 0));
    w.request(a, 2, OpCode::GetData, &read("/a", true));
    w.request(b, 1, OpCode::GetData, &read("/a", true));
    w.take(a);
    w.take(b);
    w.sync_at_once = false;
    w.request(a, 3, OpCode::SetData, &set("/a", b"x"));
    w.request(a, 4, OpCode::GetData, &read("/a", false));
    w.sync();
    assert_eq!(w.replies(a), [(-1, 0), (3, 0), (4, 0)], "the event before the reply of the change itself");
    w.request(b, 2, OpCode::GetData, &read("/a", false));
    assert_eq!(w.replies(b), [(-1, 0), (2, 0)]);
}

#[test]
fn behind_close_session_nothing_is_answered() {
    let mut w = World::new(config());
    let (c, _) = w.connect(10_000);
    w.sync_at_once = false;
    w.request(c, 1, OpCode::Create, &create("/e", b"", 1));
    w.request(c, 2, OpCode::CloseSession, &[]);
    assert!(!w.replica.takes_frames(c), "the shell is told to give no more");
    w.step(Input::ClientFrame { conn: c, frame: &request(3, OpCode::Exists, &read("/", false)) });
    w.sync();
    assert_eq!(w.replies(c), [(1, 0), (2, 0)]);
    assert!(w.closed.contains(&c));
    assert!(w.replica.tree().node("/e").is_none(), "the pending ephemeral went with its session");
}

#[test]
fn a_failed_write_halts_for_good() {
    let mut w = World::new(config());
    let (c, _) = w.connect(10_000);
    w.sync_at_once = false;
    w.request(c, 1, OpCode::Create, &create("/a", b"", 0));
    let (id, _) = w.appended[0];
    w.step(Input::WriteFailed { error: "disk gone".into() });
    assert_eq!(w.halted.as_deref(), Some("disk gone"));
    w.step(Input::Durable { id });
    w.step(Input::ClientFrame { conn: c, frame: &request(2, OpCode::Exists, &read("/", false)) });
    assert!(w.take(c).is_empty(), "nothing leaves a halted replica");
    assert_eq!(w.replica.next_deadline(), None);
}

#[test]
fn a_session_expires_with_its_ephemerals_and_its_connection() {
    let mut w = World::new(config());
    let ((a, _), (b, session)) = (w.connect(40_000), w.connect(4000));
    w.request(b, 1, OpCode::Create, &create("/e", b"", 1));
    w.request(a, 1, OpCode::Exists, &read("/e", true));
    w.take(a);
    w.pass(4000);
    assert!(!w.closed.contains(&b), "never before its timeout");
    w.pass(2000);
    assert!(w.closed.contains(&b));
    assert_eq!(w.replies(a), [(-1, 0)]);
    let c = w.dial();
    w.frame(c, &connect_frame(4000, session, &password(session), 0));
    let frames = w.frames(c);
    assert_eq!(frames[0][4..8], [0; 4], "timeout 0: the session is gone");
    assert!(w.closed.contains(&c));
}

#[test]
fn a_pause_of_the_process_expires_nobody_whose_ping_waits() {
    let mut w = World::new(config());
    let (c, _) = w.connect(4000);
    // Stopped for a minute: the timer and the ping are both late, the timer comes first.
    w.now.mono += 60_000;
    w.step(Input::TimerFired);
    assert!(!w.closed.contains(&c), "whoever was not heard because we slept is given a tick");
    w.request(c, -2, OpCode::Ping, &[]);
    w.pass(2500);
    assert!(!w.closed.contains(&c));
    assert_eq!(w.replies(c), [(-2, 0)]);
    w.pass(6000);
    assert!(w.closed.contains(&c), "silence from then on counts");
}

#[test]
fn a_client_that_does_not_read_is_paused_and_then_closed() {
    let mut w = World::new(config());
    let ((slow, _), (busy, _)) = (w.connect(40_000), w.connect(40_000));
    w.request(busy, 1, OpCode::Create, &create("/big", &vec![7; 400_000], 0));
    let mut xid = 1;
    while w.replica.takes_frames(slow) {
        w.request(slow, xid, OpCode::GetData, &read("/big", false));
        xid += 1;
        assert!(xid < 10, "a megabyte of replies is the bound");
    }
    assert!(w.flush_asked.contains(&slow) && w.paused.contains(&slow));
    w.step(Input::Flushed { conn: slow });
    assert!(!w.paused.contains(&slow), "it read everything");

    // Events can't be held back: a persistent watch and nobody reading.
    w.request(
        slow,
        90,
        OpCode::AddWatch,
        &encode(&farrier_proto::client::PathKind { path: Some("/".into()), kind: 1 }),
    );
    let path = format!("/{}", "n".repeat(100_000));
    w.request(busy, 2, OpCode::Create, &create(&path, b"", 0));
    for xid in 3..400 {
        if w.closed.contains(&slow) {
            break;
        }
        w.request(busy, xid, OpCode::SetData, &set(&path, b""));
    }
    assert!(w.closed.contains(&slow), "closed at {CONN_UNFLUSHED_MAX} bytes");
    assert!(!w.closed.contains(&busy));
    assert!(w.notes.iter().any(|n| n.contains("does not read")));
}

#[test]
fn requests_beyond_the_queue_pause_the_connection_until_the_log_catches_up() {
    let mut w = World::new(config());
    let (c, _) = w.connect(10_000);
    w.sync_at_once = false;
    w.request(c, 1, OpCode::Create, &create("/a", b"", 0));
    let mut sent = 1;
    while w.replica.takes_frames(c) {
        sent += 1;
        w.request(c, sent, OpCode::Exists, &read("/a", false));
        assert!(sent < 10_000, "the queue has a bound");
    }
    w.sync();
    assert!(w.replica.takes_frames(c));
    assert_eq!(w.replies(c).len(), sent as usize);
}

#[test]
fn a_stop_finishes_what_is_outstanding_and_takes_nothing_new() {
    let mut w = World::new(config());
    let (c, _) = w.connect(10_000);
    w.sync_at_once = false;
    w.request(c, 1, OpCode::Create, &create("/a", b"", 0));
    w.step(Input::Stop);
    assert!(!w.stopped);
    w.step(Input::ClientFrame { conn: c, frame: &request(2, OpCode::Create, &create("/b", b"", 0)) });
    w.sync();
    assert_eq!(w.replies(c), [(1, 0)]);
    assert!(w.stopped);
    assert!(w.replica.tree().node("/b").is_none());
}

#[test]
fn an_oversized_request_gets_an_error_in_turn() {
    let mut w = World::new(config());
    let (c, _) = w.connect(10_000);
    w.sync_at_once = false;
    w.request(c, 1, OpCode::Create, &create("/a", b"", 0));
    w.step(Input::ClientOversized { conn: c, head: [0, 0, 0, 2, 0, 0, 0, 5], len: 2_000_000 });
    w.sync();
    assert_eq!(w.replies(c), [(1, 0), (2, -5)]);
    assert!(!w.closed.contains(&c));
}

#[test]
fn replies_may_be_longer_than_requests() {
    let mut w = World::new(farrier_replica::ReplicaConfig { jute_max_buffer: 4096, reply_max: 12_000, ..config() });
    let (c, _) = w.connect(10_000);
    for i in 0..100 {
        w.request(c, i, OpCode::Create, &create(&format!("/{i:0>50}"), b"", 0));
    }
    w.take(c);
    w.request(c, 100, OpCode::GetChildren, &read("/", false));
    let [reply] = &w.frames(c)[..] else { panic!("one reply") };
    // Header, count, names, `zookeeper`.
    assert_eq!((reply.len(), &reply[12..20]), (16 + 4 + 100 * 54 + 13, &[0, 0, 0, 0, 0, 0, 0, 101][..]));

    // What the connection has not taken yet counts.
    w.request(c, 101, OpCode::GetChildren, &read("/", false));
    w.request(c, 102, OpCode::GetChildren, &read("/", false));
    assert_eq!(w.replies(c), [(101, 0), (102, -5)]);
    assert!(
        w.notes[0].ends_with(" and there is room for 4096, since other long replies have not been taken yet"),
        "{:?}",
        w.notes
    );
    w.request(c, 103, OpCode::Exists, &read("/", false));
    assert_eq!(w.replies(c), [(103, 0)]);
    assert!(w.flush_asked.contains(&c), "it counts no longer than until it is taken");
    w.step(Input::Flushed { conn: c });
    w.request(c, 104, OpCode::GetChildren, &read("/", false));
    assert_eq!(w.replies(c), [(104, 0)]);
}

#[test]
fn a_long_reply_is_not_held_against_a_client_that_has_yet_to_read_it() {
    let mut w = World::new(config());
    let ((slow, _), (busy, _)) = (w.connect(40_000), w.connect(40_000));
    w.request(busy, 1, OpCode::Create, &create("/big", &vec![7; 900_000], 0));
    let mut request = Vec::new();
    for _ in 0..CONN_UNFLUSHED_MAX / 900_000 + 1 {
        request.extend_from_slice(&[0, 0, 0, 4, 0, 0xff, 0xff, 0xff, 0xff]);
        request.extend_from_slice(&read("/big", false));
    }
    farrier_proto::multi::put_end(&mut request);
    w.request(slow, 1, OpCode::GetData, &read("/big", true));
    w.request(slow, 2, OpCode::MultiRead, &request);
    assert!(w.flush_asked.contains(&slow) && !w.replica.takes_frames(slow));
    w.request(busy, 2, OpCode::SetData, &set("/big", b""));
    assert!(!w.closed.contains(&slow), "an event is no reason");
    let received = w.take(slow).len();
    assert!(received > CONN_UNFLUSHED_MAX, "{received}");
}

/// A write that took place is never answered with an error.
#[test]
fn the_reply_to_a_multi_may_be_longer_than_its_request() {
    for (reply_max, fits) in [(12_000, true), (10_000, false)] {
        let mut w = World::new(farrier_replica::ReplicaConfig { jute_max_buffer: 4096, reply_max, ..config() });
        let ((c, _), (other, _)) = (w.connect(10_000), w.connect(10_000));
        let mut request = Vec::new();
        for _ in 0..150 {
            request.extend_from_slice(&[0, 0, 0, 5, 0, 0xff, 0xff, 0xff, 0xff]);
            request.extend_from_slice(&set("/", b""));
        }
        farrier_proto::multi::put_end(&mut request);
        assert!(request.len() < 4096);
        w.request(c, 7, OpCode::Multi, &request);
        assert_eq!(w.replica.tree().node("/").expect("there").stat().version, 150);
        assert_eq!(w.closed.contains(&c), !fits);
        if fits {
            let [reply] = &w.frames(c)[..] else { panic!("one reply") };
            assert_eq!((reply.len(), &reply[12..16]), (16 + 150 * (9 + 68) + 9, &[0; 4][..]));
        } else {
            assert_eq!(w.replies(c), []);
            assert!(w.notes.iter().any(|n| n.contains("reply")), "{:?}", w.notes);
        }
        w.request(other, 1, OpCode::Exists, &read("/", false));
        assert_eq!(w.replies(other), [(1, 0)]);
    }
}

#[test]
fn a_wrong_password_disturbs_nobody() {
    let mut w = World::new(config());
    let (c, session) = w.connect(10_000);
    let d = w.dial();
    w.frame(d, &connect_frame(10_000, session, &[1; 16], 0));
    assert!(w.closed.contains(&d) && !w.closed.contains(&c));
    w.request(c, 1, OpCode::Exists, &read("/", false));
    assert_eq!(w.replies(c), [(1, 0)]);
}

#[test]
fn snapshots_follow_the_count_and_one_at_a_time() {
    let mut often = config();
    often.snap_count = 10;
    let mut w = World::new(often);
    let (c, _) = w.connect(10_000);
    for i in 0..40 {
        w.request(c, i, OpCode::Create, &create(&format!("/{i}"), b"", 0));
    }
    assert_eq!((w.snapshots, w.rolls), (1, 1), "the first is still being written");
    w.step(Input::SnapshotDone { error: None });
    for i in 40..60 {
        w.request(c, i, OpCode::Create, &create(&format!("/{i}"), b"", 0));
    }
    assert_eq!((w.snapshots, w.rolls), (2, 2));
}

#[test]
fn the_image_of_a_snapshot_is_gathered_while_the_state_changes() {
    let mut slowly = config();
    (slowly.snap_count, slowly.image_slice) = (10, 2);
    let mut w = World::new(slowly);
    let (c, _) = w.connect(10_000);
    for i in 0..10 {
        w.request(c, i, OpCode::Create, &create(&format!("/{i}"), b"first", 0));
    }
    // Sets, deletions and creations of everything, in front of what is gathered and behind it.
    let begun = w.replica.tree().zxid();
    for i in 10..40 {
        let path = format!("/{}", i % 10);
        let (op, body) = match i / 10 {
            1 => (OpCode::SetData, set(&path, b"second")),
            2 => (OpCode::Delete, encode(&PathVersion { path: Some(path.into()), version: -1 })),
            _ => (OpCode::Create, create(&format!("/other-{i}"), b"third", 0)),
        };
        w.request(c, i, op, &body);
        assert_eq!((w.snapshots, w.rolls), (0, 0), "{i}");
        if i % 10 == 5 {
            w.pass(1);
        }
    }
    w.pass(20);
    assert_eq!((w.snapshots, w.rolls), (1, 1), "it is written once it is whole");
    assert!(w.imaged <= begun && w.imaged > Zxid::ZERO, "{}", w.imaged);
    assert!(w.replies(c).iter().all(|(_, error)| *error == 0));
}

#[test]
fn the_sweeper_spares_a_ttl_node_that_is_being_written() {
    let mut c = config();
    c.container.check_interval = 1000;
    let mut w = World::new(c);
    let (a, _) = w.connect(40_000);
    let mut ttl = create("/t", b"", 5);
    ttl.extend_from_slice(&2000i64.to_be_bytes());
    w.request(a, 1, OpCode::CreateTtl, &ttl);
    assert_eq!(w.replies(a), [(1, 0)]);
    w.pass(1999);
    w.sync_at_once = false;
    w.request(a, 2, OpCode::SetData, &set("/t", b"young"));
    w.pass(1500);
    w.sync_at_once = true;
    w.sync();
    assert!(w.replica.tree().node("/t").is_some(), "the write made it young again");
    w.pass(5000);
    assert!(w.replica.tree().node("/t").is_none());
}

#[test]
fn reads_between_two_writes_run_before_the_second_even_when_the_client_is_slow() {
    let mut w = World::new(config());
    let (c, _) = w.connect(40_000);
    w.request(c, 1, OpCode::Create, &create("/a", &vec![b'x'; 700_000], 0));
    w.take(c);
    w.sync_at_once = false;
    w.request(c, 2, OpCode::SetData, &set("/a", &vec![b'1'; 700_000]));
    for xid in 3..8 {
        w.request(c, xid, OpCode::GetData, &read("/a", false));
    }
    w.request(c, 8, OpCode::SetData, &set("/a", b"2"));
    assert_eq!(w.appended.len(), 2, "both writes are proposed");
    w.sync();
    let frames = w.frames(c);
    assert_eq!(frames.len(), 7);
    for f in &frames[1..6] {
        assert_eq!(f[20], b'1', "what stood there between the two writes");
    }
}

#[test]
fn a_write_behind_many_reads_waits_its_turn_and_everything_stays_in_order() {
    let mut w = World::new(config());
    let (c, _) = w.connect(40_000);
    w.request(c, 1, OpCode::Create, &create("/a", b"0", 0));
    w.take(c);
    w.sync_at_once = false;
    let mut want = Vec::new();
    let mut xid = 1;
    for round in 0..5 {
        for write in [true, false] {
            for _ in 0..if write { 2 } else { 20 } {
                xid += 1;
                want.push((xid, 0));
                if write {
                    w.request(c, xid, OpCode::SetData, &set("/a", format!("{round}").as_bytes()));
                } else {
                    w.request(c, xid, OpCode::GetData, &read("/a", false));
                }
            }
        }
    }
    xid += 1;
    want.push((xid, -5));
    w.frame(c, &request(xid, OpCode::SetData, &[]));
    xid += 1;
    want.push((xid, 0));
    w.request(c, xid, OpCode::CloseSession, &[]);
    assert!(w.appended.len() < 10, "most writes are not proposed yet");
    w.sync();
    assert_eq!(w.replies(c), want);
    assert!(w.closed.contains(&c));
}

#[test]
fn events_that_stall_a_connection_do_not_upset_its_queue() {
    let mut w = World::new(config());
    let ((a, _), (b, _)) = (w.connect(40_000), w.connect(40_000));
    let path = format!("/{}", "n".repeat(400_000));
    w.request(a, 1, OpCode::AddWatch, &encode(&farrier_proto::client::PathKind { path: Some("/".into()), kind: 1 }));
    w.sync_at_once = false;
    w.request(a, 2, OpCode::Create, &create("/mine", b"", 0));
    w.request(a, 3, OpCode::Exists, &read("/mine", false));
    w.request(b, 1, OpCode::Create, &create(&path, b"", 0));
    for xid in 2..6 {
        w.request(b, xid, OpCode::SetData, &set(&path, b""));
    }
    w.request(a, 4, OpCode::SetData, &set("/mine", b""));
    w.sync();
    let answered: Vec<_> = w.replies(a).into_iter().filter(|(xid, _)| *xid > 0).collect();
    assert_eq!(answered, [(1, 0), (2, 0), (3, 0), (4, 0)]);
}

#[test]
fn a_text_that_grows_in_decoding_cannot_exceed_what_the_log_takes() {
    let mut w = World::new(config());
    let (c, _) = w.connect(10_000);
    // Each byte that is no UTF-8 decodes to three.
    let mut body = Vec::new();
    body.extend_from_slice(&[0, 0, 0, 2, b'/', b'a', 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 31, 0, 0, 0, 6]);
    body.extend_from_slice(b"digest");
    body.extend_from_slice(&1_000_002u32.to_be_bytes());
    body.extend(std::iter::repeat_n(0xff, 1_000_000));
    body.extend_from_slice(b":y\0\0\0\0");
    w.request(c, 1, OpCode::Create, &body);
    assert_eq!(w.replies(c), [(1, -5)]);
    assert!(w.replica.tree().node("/a").is_none());
    w.request(c, 2, OpCode::Create, &create("/a", b"", 0));
    assert_eq!(w.replies(c), [(2, 0)]);
}

#[test]
fn the_end_of_a_session_fits_the_log_whatever_it_owns() {
    let mut small = config();
    small.jute_max_buffer = 4096;
    small.txn_max = 8192;
    let mut w = World::new(small);
    let (c, session) = w.connect(10_000);
    for i in 0..200 {
        w.request(c, i, OpCode::Create, &create(&format!("/{i:0>100}"), b"", 1));
    }
    w.request(c, 200, OpCode::CloseSession, &[]);
    assert!(w.closed.contains(&c));
    assert!(w.replica.tree().ephemerals(session).is_empty());
    assert_eq!(w.replica.tree().node_count(), 5);
}

#[test]
fn identities_of_a_connection_are_bounded_in_bytes() {
    let mut w = World::new(config());
    let (c, _) = w.connect(10_000);
    let auth = |user: &[u8]| {
        let mut packet = vec![0, 0, 0, 0, 0, 0, 0, 6];
        packet.extend_from_slice(b"digest");
        packet.extend_from_slice(&(user.len() as u32).to_be_bytes());
        packet.extend_from_slice(user);
        packet
    };
    w.request(c, -4, OpCode::Auth, &auth(b"bob:pw"));
    assert_eq!(w.replies(c), [(-4, 0)]);
    w.request(c, -4, OpCode::Auth, &auth(&vec![b'u'; 900_000]));
    assert_eq!(w.replies(c), [(-4, -115)]);
    assert!(w.closed.contains(&c));
}

#[test]
fn large_replies_do_not_close_a_client_that_reads() {
    let mut large = config();
    large.jute_max_buffer = 40_000_000;
    large.txn_max = 80_000_000;
    let mut w = World::new(large);
    let (c, _) = w.connect(10_000);
    w.request(c, 1, OpCode::Create, &create("/big", &vec![1; 30_000_000], 0));
    for xid in 2..5 {
        w.request(c, xid, OpCode::GetData, &read("/big", false));
        assert!(w.flush_asked.remove(&c));
        w.step(Input::Flushed { conn: c });
        assert!(!w.closed.contains(&c));
    }
}

/// Its pings wait in its socket, where nobody reads them.
#[test]
fn a_client_that_reads_slowly_lives_and_one_that_reads_nothing_does_not() {
    for reads in [true, false] {
        let mut w = World::new(config());
        let ((slow, _), (busy, _)) = (w.connect(4000), w.connect(40_000));
        w.request(busy, 1, OpCode::Create, &create("/big", &vec![7; 900_000], 0));
        (1..=2).for_each(|xid| w.request(slow, xid, OpCode::GetData, &read("/big", false)));
        assert!(!w.replica.takes_frames(slow) && w.flush_asked.contains(&slow));
        for _ in 0..10 {
            w.pass(1500);
            if reads {
                w.drain(slow, u64::MAX);
            }
        }
        assert_eq!(w.closed.contains(&slow), !reads);
        if reads {
            w.drain(slow, u64::MAX);
            w.step(Input::Flushed { conn: slow });
            w.pass(3000);
            assert!(!w.closed.contains(&slow), "what it sent meanwhile has yet to be read");
            w.pass(6000);
            assert!(w.closed.contains(&slow), "and then it must ping again");
        }
    }
}

#[test]
fn a_connection_that_waits_for_two_reasons_goes_on_after_both() {
    let mut c = config();
    c.request_throttle_max = 3;
    let mut w = World::new(c);
    let ((a, _), (b, _)) = (w.connect(40_000), w.connect(40_000));
    w.request(a, 1, OpCode::Create, &create("/big", &vec![1; 900_000], 0));
    w.sync_at_once = false;
    for xid in 2..4 {
        w.request(a, xid, OpCode::GetData, &read("/big", false));
    }
    assert!(!w.replica.takes_frames(a), "its replies are not taken");
    for xid in 1..4 {
        w.request(b, xid, OpCode::Create, &create(&format!("/{xid}"), b"", 0));
    }
    assert!(!w.replica.takes_frames(b), "throttled");
    w.step(Input::Flushed { conn: a });
    w.sync();
    assert!(w.replica.takes_frames(a) && w.replica.takes_frames(b));
}

#[test]
fn ttl_nodes_survive_a_start_without_extended_types() {
    let mut w = World::new(config());
    let (a, _) = w.connect(40_000);
    let mut ttl = create("/t", b"", 5);
    ttl.extend_from_slice(&60_000i64.to_be_bytes());
    w.request(a, 1, OpCode::CreateTtl, &ttl);
    let without = farrier_tree::TreeConfig { extended_types: false, ..config().tree };
    let mut again = w.restart_with(farrier_replica::ReplicaConfig { tree: without, ..config() });
    again.pass(100_000);
    assert!(again.replica.tree().node("/t").is_some());
    assert!(again.notes.iter().any(|n| n.contains("extendedTypesEnabled")), "{:?}", again.notes);
}

#[test]
fn a_zxid_of_minus_one_is_older_than_everything() {
    let mut w = World::new(config());
    let c = w.dial();
    w.frame(c, &connect_frame(10_000, farrier_proto::SessionId::NONE, &[0; 16], -1));
    assert!(!w.closed.contains(&c));
    assert_eq!(w.frames(c).len(), 1);
}

#[test]
fn a_reply_that_is_refused_for_its_size_leaves_no_watch() {
    let mut w = World::new(farrier_replica::ReplicaConfig { jute_max_buffer: 4096, reply_max: 5000, ..config() });
    let (c, _) = w.connect(10_000);
    for i in 0..100 {
        w.request(c, i, OpCode::Create, &create(&format!("/{i:0>50}"), b"", 0));
    }
    w.request(c, 100, OpCode::GetChildren, &read("/", true));
    w.request(c, 100, OpCode::GetChildren, &read("/", true));
    let told: Vec<_> = w.notes.iter().filter(|note| note.contains("refusing GETC of ")).collect();
    let [told] = told[..] else { panic!("one line for both: {:?}", w.notes) };
    assert!(
        told.contains(" for /: the reply has ") && told.ends_with(" and the longest that is sent has 5000"),
        "{told}"
    );
    w.take(c);
    w.request(c, 101, OpCode::Create, &create("/more", b"", 0));
    assert_eq!(w.replies(c), [(101, 0)], "no event");
}

#[test]
fn requests_that_count_many_znodes_take_turns_with_others() {
    let mut w = World::new(config());
    let (c, _) = w.connect(40_000);
    w.request(c, 1, OpCode::Create, &create("/t", b"", 0));
    for i in 0..3000 {
        w.request(c, i, OpCode::Create, &create(&format!("/t/{i}"), b"", 0));
    }
    w.take(c);
    w.sync_at_once = false;
    w.request(c, 1, OpCode::Create, &create("/x", b"", 0));
    let count = encode(&PathOnly { path: Some("/t".into()) });
    for xid in 2..302 {
        w.request(c, xid, OpCode::GetAllChildrenNumber, &count);
    }
    w.sync();
    let first = w.replies(c).len();
    assert!(first < 200, "not all in one step: {first}");
    assert_eq!(w.replica.next_deadline(), Some(w.now.mono), "the rest is due at once");
    let mut total = first;
    while w.replica.next_deadline() == Some(w.now.mono) {
        w.step(Input::TimerFired);
        total += w.replies(c).len();
    }
    assert_eq!(total, 301);
}

#[test]
fn ephemerals_are_listed_below_a_prefix_that_may_have_blanks_around() {
    let mut w = World::new(config());
    let (c, _) = w.connect(40_000);
    w.request(c, 1, OpCode::Create, &create("/a", b"", 1));
    w.request(c, 2, OpCode::Create, &create("/b", b"", 1));
    w.take(c);
    for (prefix, count) in [("/", 2), (" / ", 2), ("/\u{1}", 2), ("\t", 2), ("/a", 1), (" /a", 0), ("\u{3000}/", 0)] {
        w.request(c, 3, OpCode::GetEphemerals, &encode(&PathOnly { path: Some(prefix.into()) }));
        let [reply] = &w.frames(c)[..] else { panic!("one reply") };
        assert_eq!(reply[12..20], [0, 0, 0, 0, 0, 0, 0, count], "{prefix:?}");
    }
}

#[test]
fn operations_have_apaches_short_names() {
    let mut w = World::new(config());
    let (c, _) = w.connect(40_000);
    // A zxid and lists without paths.
    let classic = [0; 8 + 3 * 4];
    let with_persistent = [0; 8 + 5 * 4];
    for (op, body, name) in
        [(OpCode::SetWatches, &classic[..], "SETW"), (OpCode::SetWatches2, &with_persistent, "STW2")]
    {
        w.request(c, -8, op, body);
        assert_eq!(w.replies(c), [(-8, 0)]);
        assert_eq!(w.replica.connections()[0].last_op, name);
    }
}
