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

/// A Java follower writes six bytes for a character for which the leader has written four, and could not read its own log then.
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
