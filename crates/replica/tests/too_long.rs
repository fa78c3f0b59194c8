//! Requests of a learner's clients of which the leader would make a transaction that nobody can read. One of Apache's
//! leaders does not look, so that they are not forwarded.

mod harness;

use farrier_proto::client::{AuthPacket, CreateRequest, PathVersion, SetAclRequest};
use farrier_proto::{OpCode, RawAcl};
use harness::encode;
use harness::ensemble::Cluster;
use std::borrow::Cow;

const MARSHALLING_ERROR: i32 = -5;
const INVALID_ACL: i32 = -114;

fn entry<'r>(perms: i32, scheme: &'r str, id: &'r str) -> RawAcl<'r> {
    RawAcl { perms, scheme: Some(scheme.into()), id: Some(id.into()) }
}

fn create(path: &str, acl: Vec<RawAcl<'_>>, flags: i32) -> Vec<u8> {
    encode(&CreateRequest { path: Some(Cow::Borrowed(path)), data: None, acl: Some(acl), flags })
}

fn multi(creates: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for create in creates {
        farrier_proto::multi::put_result(&mut out, OpCode::Create);
        out.extend_from_slice(create);
    }
    farrier_proto::multi::put_end(&mut out);
    out
}

/// The body with bytes that are not UTF-8 in place of every `X`.
fn broken(mut body: Vec<u8>) -> Vec<u8> {
    for byte in &mut body {
        if *byte == b'X' {
            *byte = 0xff;
        }
    }
    body
}

/// The leader is one of Farrier's, but the others can't know.
fn under_apache() -> Cluster {
    Cluster::of_three_with(|_, zab| zab.cumulative = false)
}

#[test]
fn lists_that_grow_too_long_are_refused_by_the_learner() {
    let mut c = under_apache();
    let f = c.followers()[0];
    let a = c.connect(f, 10_000);
    let user = format!("{}:secret", "u".repeat(60_000));
    let packet = AuthPacket { kind: 0, scheme: Some("digest".into()), auth: Some(user.as_bytes().into()) };
    c.request(a, -4, OpCode::Auth, &encode(&packet));
    assert_eq!(c.replies(a), [(-4, 0)]);
    let auth = |n: i32| (16..16 + n).map(|perms| entry(perms, "auth", "")).collect::<Vec<_>>();
    let set_acl = |acl| encode(&SetAclRequest { path: Some(Cow::Borrowed("/ok")), acl: Some(acl), version: -1 });
    let before = c.replica(f).last_zxid();
    c.request(a, 1, OpCode::Create, &create("/a", auth(60), 0));
    c.request(a, 2, OpCode::SetAcl, &set_acl(auth(60)));
    c.request(a, 3, OpCode::Multi, &multi(&[create("/a", auth(6), 0), create("/b", auth(6), 0)]));
    let text = format!("u:{}", "X".repeat(900_000));
    c.request(a, 4, OpCode::Create, &broken(create("/a", vec![entry(31, "digest", &text)], 0)));
    let half = format!("u:{}", "X".repeat(400_000));
    let op = |path| create(path, vec![entry(31, "digest", &half)], 0);
    c.request(a, 5, OpCode::Multi, &broken(multi(&[op("/a"), op("/b")])));
    let refused =
        [(1, INVALID_ACL), (2, INVALID_ACL), (3, INVALID_ACL), (4, MARSHALLING_ERROR), (5, MARSHALLING_ERROR)];
    assert_eq!(c.replies(a), refused);
    let many = |n: i32| (0..n).map(|perms| entry(perms, "ip", "127.0.0.1")).collect::<Vec<_>>();
    c.request(a, 1, OpCode::Create, &create("/a", many(1001), 0));
    c.request(a, 2, OpCode::SetAcl, &set_acl(many(1001)));
    c.request(a, 3, OpCode::Multi, &multi(&[create("/a", many(1000), 0), create("/b", many(1001), 0)]));
    assert_eq!(c.replies(a), [(1, INVALID_ACL), (2, INVALID_ACL), (3, INVALID_ACL)]);
    assert_eq!(c.replica(f).last_zxid(), before, "the leader has not heard of them");

    c.request(a, 6, OpCode::Create, &create("/ok", auth(8), 0));
    c.request(a, 7, OpCode::SetAcl, &set_acl(auth(7)));
    c.request(a, 8, OpCode::Multi, &multi(&[create("/a", auth(4), 0), create("/b", auth(4), 0)]));
    c.request(a, 9, OpCode::Create, &broken(op("/half")));
    c.request(a, 10, OpCode::Create, &create("/many", many(1000), 0));
    assert_eq!(c.replies(a), [(6, 0), (7, 0), (8, 0), (9, 0), (10, 0)]);
    c.assert_equal();
}

fn open() -> Vec<RawAcl<'static>> {
    vec![entry(31, "world", "anyone")]
}

fn delete(path: &str) -> Vec<u8> {
    encode(&PathVersion { path: Some(Cow::Borrowed(path)), version: -1 })
}

/// The end of a session lists its ephemerals, and comes unasked.
#[test]
fn a_session_gets_no_more_ephemerals_than_its_end_can_list() {
    const EPHEMERAL: i32 = 1;
    const EPHEMERAL_SEQUENTIAL: i32 = 3;
    let mut c = under_apache();
    let (l, f) = (c.leader(), c.followers());
    let a = c.connect(f[0], 10_000);
    let name = "n".repeat(3900);
    let path = |n: i32| format!("/{n:04}{name}");
    // Each takes 3,909 bytes of 2,097,102.
    let most = 536;
    for n in 0..600 {
        c.request(a, n, OpCode::Create, &create(&path(n), open(), EPHEMERAL));
        if n % 3 == 0 {
            c.run();
        }
    }
    let error = |n| if n < most { 0 } else { MARSHALLING_ERROR };
    assert_eq!(c.replies(a), (0..600).map(|n| (n, error(n))).collect::<Vec<_>>());
    let before = c.replica(l).last_zxid();
    let short = || create("/short", open(), EPHEMERAL);
    c.request(a, 600, OpCode::Multi, &multi(&[short(), create(&path(700), open(), EPHEMERAL)]));
    c.request(a, 601, OpCode::Create, &create(&format!("/{}", "s".repeat(1870)), open(), EPHEMERAL_SEQUENTIAL));
    assert_eq!(c.replies(a), [(600, MARSHALLING_ERROR), (601, MARSHALLING_ERROR)]);
    assert_eq!(c.replica(l).last_zxid(), before, "the leader has not heard of them");
    c.request(a, 602, OpCode::Create, &create(&path(700), open(), 0));
    c.request(a, 603, OpCode::Multi, &multi(&[short(), create(&path(701), open(), 0)]));
    assert_eq!(c.replies(a), [(602, 0), (603, 0)], "others are not listed");

    // Another connection of the session counts what is there, and what was on its way when the last one went.
    let b = c.reattach(f[1], a.session).expect("the session moves");
    c.request(b, 1, OpCode::Create, &create(&path(702), open(), EPHEMERAL));
    assert_eq!(c.replies(b), [(1, MARSHALLING_ERROR)]);
    for n in 0..100 {
        c.request(b, n, OpCode::Delete, &delete(&path(n)));
    }
    for n in 100..200 {
        c.request(b, n, OpCode::Create, &create(&path(n - 100), open(), EPHEMERAL));
    }
    let mut replies = c.replies(b);
    assert!(replies.iter().take(100).all(|(_, error)| *error == 0));
    assert!(replies.iter().skip(100).all(|(_, error)| *error == MARSHALLING_ERROR), "before the deletions are applied");
    for n in 200..300 {
        c.request(b, n, OpCode::Create, &create(&path(n - 200), open(), EPHEMERAL));
    }
    replies = c.replies(b);
    assert_eq!(replies, (200..300).map(|n| (n, 0)).collect::<Vec<_>>(), "there is room again");
    c.request(b, 300, OpCode::CloseSession, &[]);
    assert_eq!(c.replies(b), [(300, 0)]);
    assert_eq!(c.replica(l).tree().ephemerals_count(), 0);
    let (_, end) = c.log(l).last().expect("the end is logged");
    assert!(end.len() > 2_000_000, "with all of them");
    c.assert_equal();
}

#[test]
fn what_is_on_its_way_counts_also_from_an_earlier_connection() {
    let mut c = under_apache();
    let (l, f) = (c.leader(), c.followers());
    let a = c.connect(f[0], 10_000);
    let path = |n: i32| format!("/{n:04}{}", "n".repeat(100_000));
    c.hold_disk(f[0], true);
    c.hold_disk(f[1], true);
    for n in 0..15 {
        c.request(a, n, OpCode::Create, &create(&path(n), open(), 1));
    }
    let b = c.reattach(f[0], a.session).expect("the session goes on");
    for n in 15..30 {
        c.request(b, n, OpCode::Create, &create(&path(n), open(), 1));
    }
    c.hold_disk(f[0], false);
    c.hold_disk(f[1], false);
    let error = |n| if n < 20 { 0 } else { MARSHALLING_ERROR };
    assert_eq!(c.replies(b), (15..30).map(|n| (n, error(n))).collect::<Vec<_>>());
    assert_eq!(c.replica(l).tree().ephemerals_count(), 20);
}

/// Together they are far longer than a list can be, and hardly any is there at a time.
#[test]
fn locks_that_come_and_go_are_never_refused() {
    let mut c = under_apache();
    let a = c.connect(c.followers()[0], 10_000);
    let path = |n: i32| format!("/{n:08}{}", "lock".repeat(100));
    for n in 0..10_000 {
        c.request(a, 2 * n, OpCode::Create, &create(&path(n), open(), 1));
        c.request(a, 2 * n + 1, OpCode::Delete, &delete(&path(n)));
        assert_eq!(c.replies(a), [(2 * n, 0), (2 * n + 1, 0)]);
    }
}

/// It leaves out a list that is too long.
#[test]
fn under_a_leader_of_its_own_kind_a_session_has_as_many_ephemerals_as_it_likes() {
    let mut c = Cluster::of_three();
    let (l, f) = (c.leader(), c.followers()[0]);
    let a = c.connect(f, 10_000);
    let path = |n: i32| format!("/{n:04}{}", "n".repeat(100_000));
    for n in 0..30 {
        c.request(a, n, OpCode::Create, &create(&path(n), open(), 1));
    }
    assert_eq!(c.replies(a), (0..30).map(|n| (n, 0)).collect::<Vec<_>>());
    c.request(a, 30, OpCode::CloseSession, &[]);
    assert_eq!(c.replies(a), [(30, 0)]);
    let (_, end) = c.log(l).last().expect("the end is logged");
    assert!(end.len() < 100, "without them");
    for s in [1, 2, 3] {
        assert_eq!(c.replica(s).tree().ephemerals_count(), 0);
    }
    c.assert_equal();
}
