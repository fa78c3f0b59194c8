//! Cases 100 to 116 and 131: several operations at once.

use super::*;

#[test]
fn each_operation_sees_those_before_it_cases_100_and_104() {
    let mut s = Server::new();
    s.ok(create("/p", 0));
    let create2 = MultiOp::Create { op: OpCode::Create2, request: raw_create("/b", 0), ttl: None };
    let ops = vec![m_create("/a", 0), create2, m_set("/p", b"x", 0), m_check("/p", 1), m_delete("/a", -1)];
    assert_eq!(s.codes(ops), [0; 5]);
    assert!(s.tree.node("/a").is_none());
    let ops = vec![m_create("/p/d", 0), m_create("/p/d/e", 0), m_delete("/p/d/e", -1), m_delete("/p/d", -1)];
    assert_eq!(s.codes(ops), [0; 4]);
}

#[test]
fn create2_can_be_written_as_create_with_the_same_tree_after_it() {
    let mut digests = Vec::new();
    for plain in [false, true] {
        let mut s = Server::new();
        s.prep = Prep::new(Arc::default(), farrier_proto::limits::TXN_MAX).with_plain_creates_in_multi(plain);
        let create2 = |path| MultiOp::Create { op: OpCode::Create2, request: raw_create(path, 3), ttl: None };
        let prepared = s.prepare(WriteRequest::Multi(vec![create2("/a"), create2("/a")]));
        let Txn::Multi(txns) = &prepared.txn else { panic!("{prepared:?}") };
        assert!(txns.iter().all(|t| if plain { matches!(t, Txn::Create(_)) } else { matches!(t, Txn::Create2(_)) }));
        s.apply();
        digests.push(s.tree.digest());
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn a_failure_takes_everything_back_cases_101_and_131() {
    let mut s = Server::new();
    s.ok(create("/p", 0));
    let before = (s.tree.digest(), s.stat("/p"));
    let ops = vec![m_create("/p/a", 0), m_delete("/p/none", -1), m_set("/p", b"x", -1), m_check("/p", -1)];
    let prepared = s.prepare(WriteRequest::Multi(ops));
    assert_eq!(prepared.error, None);
    assert_eq!(prepared.digest, Some(TxnDigest::new(before.0)), "unchanged");
    let Txn::Multi(txns) = &prepared.txn else { panic!("{prepared:?}") };
    assert!(matches!(txns[0], Txn::Create(_)), "the ones before the failure keep their body");
    assert_eq!(txns[1..], [Txn::Error(-101), Txn::Error(-2), Txn::Error(-2)]);
    let outcome = s.apply();
    assert_eq!(outcome, Outcome::Multi([0, -101, -2, -2].map(Outcome::Failed).to_vec()));
    assert_eq!((s.tree.digest(), s.stat("/p")), before);
    assert_eq!(s.prep.outstanding(), 0);
}

#[test]
fn no_operation_is_a_multi_too_case_102() {
    let mut s = Server::new();
    assert_eq!(s.multi(vec![]), []);
    assert_eq!(s.tree.zxid(), s.zxid);
}

#[test]
fn check_fails_by_version_or_existence_case_103() {
    let mut s = Server::new();
    s.ok(create("/p", 0));
    assert_eq!(s.codes(vec![m_check("/p", 7)]), [-103]);
    assert_eq!(s.multi(vec![m_check("/p", -1)]), [Outcome::Done]);
    assert_eq!(s.codes(vec![m_check("/nope", 0)]), [-101]);
    assert_eq!(s.codes(vec![m_check("/p/", 0)]), [-8]);
}

#[test]
fn sequence_counters_roll_back_cases_105_and_106() {
    let mut s = Server::new();
    s.ok(create("/p", 0));
    let ops = vec![m_create("/p/s-", 2), m_create("/p/s-", 2), m_delete("/nope", -1)];
    assert_eq!(s.codes(ops), [0, 0, -101]);
    let outcomes = s.multi(vec![m_create("/p/s-", 2), m_create("/p/s-", 2)]);
    let names: Vec<_> = outcomes
        .iter()
        .map(|o| match o {
            Outcome::Created { path, .. } => path.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["/p/s-0000000000", "/p/s-0000000001"]);
}

#[test]
fn containers_and_ttl_nodes_are_created_in_multis_cases_107_and_108() {
    let mut s = Server::extended();
    let container = MultiOp::Create { op: OpCode::CreateContainer, request: raw_create("/c", 4), ttl: None };
    let ttl = MultiOp::Create { op: OpCode::CreateTtl, request: raw_create("/t", 5), ttl: Some(60_000) };
    assert_eq!(s.codes(vec![container, ttl]), [0, 0]);
    assert_eq!(s.tree.node("/c").unwrap().owner(), Owner::Container);
    assert_eq!(s.tree.node("/t").unwrap().owner(), Owner::Ttl(60_000));
}

#[test]
fn an_empty_acl_fails_the_operation_case_110() {
    let mut s = Server::new();
    let request = CreateRequest { acl: Some(vec![]), ..raw_create("/p", 0) };
    assert_eq!(s.codes(vec![MultiOp::Create { op: OpCode::Create, request, ttl: None }]), [-114]);
}

#[test]
fn a_pending_ephemeral_has_no_children_case_116() {
    let mut s = Server::new();
    assert_eq!(s.codes(vec![m_create("/e", 1), m_create("/e/k", 0)]), [0, -108]);
    assert!(s.tree.node("/e").is_none());
}

#[test]
fn a_rollback_restores_what_was_pending_before() {
    let mut s = Server::new();
    s.prepare(create("/p", 0));
    s.prepare(create("/e", 1));
    s.prepare(set("/p", b"one", -1));
    let ops = vec![
        m_set("/p", b"two", 1),
        m_set("/p", b"three", 2),
        m_delete("/e", -1),
        m_create("/p/new", 1),
        m_delete("/p/new", -1),
        m_create("/p/new", 1),
        m_check("/p", 99),
    ];
    s.prepare(WriteRequest::Multi(ops));
    assert_eq!(s.prepare(set("/p", b"two", 1)).error, None);
    assert_eq!(s.prepare(delete("/p/new", -1)).error, Some(ErrorCode::NoNode));
    let Txn::CloseSession(Some(paths)) = s.prepare(WriteRequest::CloseSession).txn else { panic!() };
    assert_eq!(paths, ["/e"]);
    while !s.unapplied.is_empty() {
        s.apply();
    }
    assert_eq!(s.prep.outstanding(), 0);
}

#[test]
fn lists_of_scheme_auth_cannot_make_a_multi_too_large_to_log() {
    let mut s = Server::new();
    s.ids = (0..40).map(|i| Identity::new("digest", format!("user{i}:{}", "x".repeat(200)))).collect();
    let lists: Vec<(String, Vec<RawAcl<'_>>)> =
        (0..100).map(|i| (format!("/n{i}"), (0..10).map(|p| entry(p, "auth", "")).collect())).collect();
    let ops = |n: usize| -> Vec<MultiOp<'_>> {
        let create = |(path, acl): &(String, Vec<RawAcl<'static>>)| {
            let request =
                CreateRequest { path: Some(path.clone().into()), data: None, acl: Some(acl.clone()), flags: 0 };
            MultiOp::Create { op: OpCode::Create, request, ttl: None }
        };
        lists[..n].iter().map(create).collect()
    };
    let codes = s.codes(ops(100));
    let failing = codes.iter().position(|c| *c != 0).expect("the whole would be 9 MB");
    assert_eq!(codes[failing], ErrorCode::InvalidAcl.code());
    assert!(failing > 1, "few such lists are fine");
    assert_eq!(s.codes(ops(failing)), vec![0; failing]);
}
