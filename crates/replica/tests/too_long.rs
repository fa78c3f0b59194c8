//! Requests of a learner's clients of which the leader would make a transaction that nobody can read. One of Apache's leaders does
//! not look, so that they are not forwarded.

mod harness;

use farrier_proto::client::{AuthPacket, CreateRequest, SetAclRequest};
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

#[test]
fn lists_that_grow_too_long_are_refused_by_the_learner() {
    let mut c = Cluster::of_three();
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
    assert_eq!(c.replica(f).last_zxid(), before, "the leader has not heard of them");

    c.request(a, 6, OpCode::Create, &create("/ok", auth(8), 0));
    c.request(a, 7, OpCode::SetAcl, &set_acl(auth(7)));
    c.request(a, 8, OpCode::Multi, &multi(&[create("/a", auth(4), 0), create("/b", auth(4), 0)]));
    c.request(a, 9, OpCode::Create, &broken(op("/half")));
    assert_eq!(c.replies(a), [(6, 0), (7, 0), (8, 0), (9, 0)]);
    c.assert_equal();
}
