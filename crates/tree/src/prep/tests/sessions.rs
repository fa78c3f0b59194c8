//! Cases 192 to 194 and the life of a session: what closing takes along and what it refuses.

use super::*;
use farrier_proto::limits::TXN_MAX;

#[test]
fn closing_takes_the_sessions_ephemerals_cases_192_and_193() {
    let mut s = Server::new();
    s.ok(create("/p", 0));
    let before = s.stat("/p").cversion;
    s.ok(create("/p/e1", 1));
    s.ok(create("/p/e2", 1));
    s.ok(create("/p/kept", 0));
    s.session = OTHER;
    s.ok(create("/p/other", 1));
    s.session = ME;
    let txn = s.prepare(WriteRequest::CloseSession).txn;
    assert_eq!(txn, Txn::CloseSession(Some(vec!["/p/e1".into(), "/p/e2".into()])));
    s.apply();
    let stat = s.stat("/p");
    assert_eq!((stat.pzxid, stat.cversion, stat.num_children), (s.zxid, before + 6, 2));
    assert_eq!(s.tree.session_timeout(ME), None);
}

#[test]
fn closing_counts_pending_creations_and_deletions_case_194() {
    let mut s = Server::new();
    s.ok(create("/gone", 1));
    s.ok(create("/again", 1));
    s.ok(create("/stays", 1));
    s.session = OTHER;
    s.prepare(delete("/gone", -1));
    s.prepare(delete("/again", -1));
    s.prepare(create("/again", 1));
    s.session = ME;
    s.prepare(create("/new", 1));
    s.prepare(create("/short", 1));
    s.prepare(delete("/short", -1));
    let txn = s.prepare(WriteRequest::CloseSession).txn;
    assert_eq!(txn, Txn::CloseSession(Some(vec!["/new".into(), "/stays".into()])));
    while !s.unapplied.is_empty() {
        s.apply();
    }
    assert_eq!(s.tree.node("/again").unwrap().owner(), Owner::Ephemeral(OTHER));
    assert_eq!(s.tree.ephemerals_count(), 1);
}

#[test]
fn a_closing_session_gets_nothing_done() {
    let mut s = Server::new();
    s.ok(create("/p", 0));
    assert!(!s.prep.is_closing(ME));
    s.prepare(WriteRequest::CloseSession);
    assert!(s.prep.is_closing(ME));
    let expired = Some(ErrorCode::SessionExpired);
    assert_eq!(s.prepare(create("/x", 0)).error, expired);
    assert_eq!(s.prepare(create("/x", 1)).error, expired);
    assert_eq!(s.prepare(delete("/p", -1)).error, expired);
    assert_eq!(s.prepare(set("/p", b"", -1)).error, expired);
    assert_eq!(s.prepare(set_acl("/p", open(), -1)).error, expired);
    assert_eq!(s.prepare(create("/x", 99)).error, Some(ErrorCode::BadArguments), "flags come first");
    let multi = s.prepare(WriteRequest::Multi(vec![m_check("/p", -1), m_create("/x", 0)]));
    assert_eq!(multi.txn, Txn::Multi(vec![Txn::Error(-112), Txn::Error(-2)]));
    assert_eq!(s.prepare(WriteRequest::CloseSession).txn, Txn::CloseSession(Some(vec![])), "again, without effect");
    while !s.unapplied.is_empty() {
        s.apply();
    }
    assert!(!s.prep.is_closing(ME), "applied");
    assert_eq!(s.prepare(create("/x", 0)).error, expired, "and gone");
}

#[test]
fn a_session_is_open_from_its_preparation_on() {
    let mut s = Server::new();
    s.session = SessionId(77);
    assert_eq!(s.prepare(create("/e", 1)).error, Some(ErrorCode::SessionExpired));
    s.prepare(WriteRequest::CreateSession { timeout: 9 });
    assert_eq!(s.prepare(create("/e", 1)).error, None);
    while !s.unapplied.is_empty() {
        s.apply();
    }
    assert_eq!(s.tree.session_timeout(SessionId(77)), Some(9));
    assert_eq!(s.tree.ephemerals(SessionId(77)), ["/e"]);
}

#[test]
fn what_failed_before_still_takes_a_transaction() {
    let mut s = Server::new();
    let prepared = s.prepare(WriteRequest::Failed(ErrorCode::MarshallingError));
    assert_eq!((prepared.txn, prepared.digest), (Txn::Error(-5), None));
    assert_eq!(s.apply(), Outcome::Failed(-5));
    assert_eq!(s.tree.zxid(), s.zxid);
}

#[test]
fn a_list_too_long_for_a_transaction_is_left_to_the_trees() {
    let mut s = Server::new();
    let name = "n".repeat(100_000);
    for i in 0..=TXN_MAX / 100_000 {
        s.ok(create(&format!("/{name}{i}"), 1));
    }
    let prepared = s.prepare(WriteRequest::CloseSession);
    assert_eq!(prepared.txn, Txn::CloseSession(Some(vec![])));
    s.apply();
    assert_eq!(s.tree.ephemerals_count(), 0);
    assert_eq!(s.prep.outstanding(), 0);
}

#[test]
fn without_digests_nothing_is_predicted() {
    let mut s = Server::with(TreeConfig { digest: false, ..TreeConfig::default() }, AuthConfig::default());
    assert_eq!(s.prepare(create("/a", 0)).digest, None);
    s.apply();
}

#[test]
fn a_reset_forgets_what_will_not_be_applied() {
    let mut s = Server::new();
    s.prepare(create("/a", 0));
    s.prepare(WriteRequest::CloseSession);
    s.unapplied.clear();
    s.prep.reset();
    assert_eq!(s.prep.outstanding(), 0);
    s.ok(create("/a", 0));
}

#[test]
fn without_its_list_the_end_of_a_session_still_takes_its_ephemerals_along() {
    let mut s = Server::with(TreeConfig { list_closed: false, ..TreeConfig::default() }, AuthConfig::default());
    s.ok(create("/e", 1));
    s.zxid = s.zxid.next().unwrap();
    let ctx = RequestContext { session: ME, cxid: 5, zxid: s.zxid, time: 9, identities: &[] };
    let prepared = s.prep.prepare(&s.tree, &ctx, WriteRequest::CloseSession);
    assert_eq!((&prepared.txn, &prepared.digest), (&Txn::CloseSession(None), &None), "a digest would read as the list");
    let header = TxnHeader { session: ME, cxid: 5, zxid: s.zxid, time: 9, kind: prepared.txn.kind().code() };
    s.tree.apply(&header, &prepared.txn, None);
    s.prep.applied(s.zxid);
    assert!(s.tree.node("/e").is_none());
    s.session = OTHER;
    s.ok(create("/after", 0));
}
