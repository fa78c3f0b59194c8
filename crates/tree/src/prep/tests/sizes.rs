//! What no reader of a log would take.

use super::*;
use farrier_proto::limits::{JUTE_MAX_BUFFER, TXN_MAX};

const MARSHALLING_ERROR: i32 = -5;

fn owned(perms: i32, scheme: &'static str, id: String) -> RawAcl<'static> {
    RawAcl { perms, scheme: Some(scheme.into()), id: Some(id.into()) }
}

/// A list of one digest entry and eight of scheme `auth`.
fn list_of(id: &str) -> Vec<RawAcl<'static>> {
    let auth = (1..=8).map(|perms| entry(perms, "auth", ""));
    std::iter::once(owned(31, "digest", id.to_owned())).chain(auth).collect()
}

/// A Java follower writes six bytes for a character for which the leader has written four, and could not read its own
/// log then.
#[test]
fn text_counts_as_a_java_server_writes_it() {
    const CHARS: usize = 245_000;
    const EXPANDED: usize = 8 * 14_000;
    const { assert!(4 * CHARS < JUTE_MAX_BUFFER, "a request can hold it") };
    const { assert!(6 * (CHARS + EXPANDED) > TXN_MAX && 4 * (CHARS + EXPANDED) < TXN_MAX) };
    let id = |c: char| format!("u:{}", c.to_string().repeat(CHARS));
    let mut s = Server::new();
    s.ids = vec![Identity::new("digest", format!("{}:hash", "\u{1f642}".repeat(14_000)))];
    let (long, short) = (id('\u{1f642}'), id('\u{20ac}'));
    s.ok(create("/set", 0));
    assert_eq!(s.code(create_acl("/a", list_of(&long))), MARSHALLING_ERROR);
    assert_eq!(s.code(set_acl("/set", list_of(&long), -1)), MARSHALLING_ERROR);
    let request = |path, id: &str| CreateRequest { acl: Some(list_of(id)), ..raw_create(path, 0) };
    let multi = |path, id: &str| {
        WriteRequest::Multi(vec![MultiOp::Create { op: OpCode::Create, request: request(path, id), ttl: None }])
    };
    assert_eq!(s.code(multi("/b", &long)), MARSHALLING_ERROR);
    assert!(s.tree.node("/a").is_none() && s.tree.node("/b").is_none());
    s.ok(create_acl("/a", list_of(&short)));
    s.ok(set_acl("/set", list_of(&short), -1));
    s.ok(multi("/b", &short));
    assert!(s.tree.node("/b").is_some());
}

#[test]
fn a_multi_of_many_such_texts_is_measured() {
    // Beyond half a limit in UTF-8, and beyond it as Java writes them; no entry of scheme `auth`.
    let id = format!("u:{}", "\u{1f642}".repeat(125_000));
    let mut s = Server::new();
    let op = |path| {
        let request = CreateRequest { acl: Some(vec![owned(31, "digest", id.clone())]), ..raw_create(path, 0) };
        MultiOp::Create { op: OpCode::Create, request, ttl: None }
    };
    assert_eq!(s.code(WriteRequest::Multi(vec![op("/a"), op("/b"), op("/c")])), MARSHALLING_ERROR);
    s.ok(WriteRequest::Multi(vec![op("/a"), op("/b")]));
}

/// What is asked before a request is forwarded agrees with what a leader does with it.
#[test]
fn what_no_leader_could_log_is_told_without_its_tree() {
    let mut s = Server::with(TreeConfig::default(), AuthConfig { skip_acl: true, ..AuthConfig::default() });
    s.ok(create("/p", 0));
    let user = |len| vec![Identity::new("ip", "127.0.0.1"), Identity::new("digest", format!("u:{}", "h".repeat(len)))];
    let auth = |n: i32| (0..n).map(|perms| entry(perms, "auth", "")).collect::<Vec<_>>();
    let bad = |n| vec![owned(31, "digest", format!("u:{}", "\u{fffd}".repeat(n)))];
    let (invalid_acl, fine) = (Some(ErrorCode::InvalidAcl), None);
    let too_long = Some(ErrorCode::MarshallingError);
    let op = |path, acl| {
        let request = CreateRequest { acl: Some(acl), ..raw_create(path, 0) };
        MultiOp::Create { op: OpCode::Create, request, ttl: None }
    };
    let (half, data) = ("\u{1f642}".repeat(100_000), vec![1; 1_000_000]);
    for (len, request, expected) in [
        (60_000, create_acl("/p/a", auth(60)), invalid_acl),
        (60_000, set_acl("/p", auth(60), -1), invalid_acl),
        (60_000, WriteRequest::Multi(vec![op("/p/b", auth(60))]), invalid_acl),
        (60_000, WriteRequest::Multi(vec![op("/p/b", auth(6)), op("/p/c", auth(6))]), invalid_acl),
        (60_000, create_acl("/p/c", auth(8)), fine),
        (60_000, set_acl("/p", auth(8), -1), fine),
        (1, create_acl("/p/d", auth(31)), fine),
        (1, create_acl("/p/q", auth(1001)), invalid_acl),
        (1, set_acl("/p", auth(1001), -1), invalid_acl),
        (1, WriteRequest::Multi(vec![op("/p/r", auth(1)), op("/p/s", auth(1001))]), invalid_acl),
        (1, create_acl("/p/t", auth(1000)), fine),
        (1, create_acl("/p/e", bad(900_000)), too_long),
        (1, create_acl("/p/f", bad(600_000)), fine),
        (1, set_acl("/p", bad(900_000), -1), too_long),
        (1, WriteRequest::Multi(vec![op("/p/g", bad(400_000)), op("/p/h", bad(300_000))]), too_long),
        (1, WriteRequest::Multi(vec![op("/p/i", bad(300_000)), op("/p/j", bad(300_000))]), fine),
        (60_000, WriteRequest::Multi(vec![op("/p/k", auth(8)), m_set("/p", &data, -1)]), fine),
        (
            60_000,
            WriteRequest::Multi(vec![op("/p/l", bad(250_000)), m_set("/p", &data, -1), op("/p/m", auth(6))]),
            too_long,
        ),
        (1, create_acl("/p/o", vec![owned(31, "digest", format!("u:{half}"))]), fine),
        (1, set("/p", &data, -1), fine),
    ] {
        s.ids = user(len);
        let told = s.prep.oversize(&request, &s.ids);
        let done = s.run(request);
        assert_eq!(told, expected, "{done:?}");
        match (done, told) {
            // Of a multi whose list grows too long it is an operation that fails.
            (Outcome::Multi(done), told) => {
                let failed = done.iter().find(|o| code_of(o) == ErrorCode::InvalidAcl.code());
                assert_eq!(failed.is_some(), told.is_some(), "as a leader does");
            }
            (done, told) => assert_eq!(code_of(&done), told.map_or(0, ErrorCode::code), "as a leader does"),
        }
    }
    let invalid = create_acl("/p/n", vec![entry(31, "foo", "x")]);
    assert_eq!(s.prep.oversize(&invalid, &s.ids), None, "small, and so the leader's to refuse");
}
