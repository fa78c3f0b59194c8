//! Cases 42 to 75: the create family.

use super::*;
use crate::TreeLoader;
use farrier_proto::stat::StatPersisted;

#[test]
fn a_new_znode_starts_at_zero_case_43() {
    let mut s = Server::new();
    let (path, stat) = s.created(create_op(OpCode::Create2, "/p", 0));
    assert_eq!(path, "/p");
    assert_eq!((stat.version, stat.cversion, stat.aversion, stat.ephemeral_owner, stat.num_children), (0, 0, 0, 0, 0));
    assert_eq!([stat.czxid, stat.mzxid, stat.pzxid], [s.zxid; 3]);
    assert_eq!([stat.ctime, stat.mtime], [s.time; 2]);
}

#[test]
fn children_change_only_the_parents_cversion_and_pzxid_cases_44_and_45() {
    let mut s = Server::new();
    let (_, before) = s.created(create("/p", 0));
    s.ok(create("/p/a", 0));
    let after = Stat { cversion: 1, num_children: 1, pzxid: s.zxid, ..before };
    assert_eq!(s.stat("/p"), after);
    s.ok(delete("/p/a", -1));
    assert_eq!(s.stat("/p"), Stat { cversion: 2, num_children: 0, pzxid: s.zxid, ..before });
}

#[test]
fn the_sequence_counts_creations_and_no_deletions_case_46() {
    let mut s = Server::new();
    s.ok(create("/p", 0));
    s.ok(create("/p/a", 0));
    s.ok(create("/p/b", 0));
    s.ok(delete("/p/a", -1));
    assert_eq!(s.created(create("/p/s-", 2)).0, "/p/s-0000000002");
    assert_eq!(s.stat("/p").cversion, 4);
}

#[test]
fn ephemerals_belong_to_the_session_that_creates_them_case_47() {
    let mut s = Server::new();
    s.ok(create("/p", 0));
    let (path, stat) = s.created(create("/p/x-", 3));
    assert_eq!((path.as_str(), stat.ephemeral_owner), ("/p/x-0000000000", ME.0));
    s.session = OTHER;
    let (path, stat) = s.created(create_op(OpCode::Create2, "/p/x-", 3));
    assert_eq!((path.as_str(), stat.ephemeral_owner), ("/p/x-0000000001", OTHER.0));
}

#[test]
fn a_sequential_name_may_be_the_number_alone_case_48() {
    let mut s = Server::new();
    s.ok(create("/p", 0));
    assert_eq!(s.created(create("/p/", 2)).0, "/p/0000000000");
    assert_eq!(s.created(create("/", 2)).0, "/0000000001", "built-in children were not created");
}

#[test]
fn failed_creates_leave_the_counter_case_49() {
    let mut s = Server::new();
    s.ok(create("/p", 0));
    assert_eq!(s.code(create("/p/.", 0)), -8);
    assert_eq!(s.code(create_acl("/p/b", vec![])), -114);
    assert_eq!(s.created(create("/p/s", 2)).0, "/p/s0000000000");
}

#[test]
fn paths_are_checked_twice_around_the_parents_lookup_cases_50_to_60() {
    let mut s = Server::new();
    s.ok(create("/p", 0));
    s.ok(create("/e", 1));
    for (path, flags, expected) in [
        ("", 0, -8),
        ("foo", 0, -8),
        ("foo/bar", 0, -101),
        ("/p/", 0, -8),
        ("/p/.", 0, -8),
        ("/p/..", 0, -8),
        ("/p/x\0y", 0, -8),
        ("/nope/x\0y", 0, -8),
        ("/p/\u{1}", 0, -8),
        ("/p/\u{7f}", 0, -8),
        ("/p/\u{80}", 0, -8),
        ("/p/\u{d7ff}", 0, 0),
        ("/p/\u{e000}", 0, -8),
        ("/p/\u{fff0}", 0, -8),
        ("/p/\u{fffd}", 0, -8),
        ("/p/\u{1f600}", 0, -8),
        ("/p/...", 0, 0),
        ("/p/..b", 0, 0),
        ("/p/a.b", 0, 0),
        ("/p/é", 0, 0),
        ("/p/a b", 0, 0),
        ("/p//b", 0, -101),
        ("/p/./b", 0, -101),
        ("/p/../b", 0, -101),
        ("//a", 0, -8),
        ("/", 0, -110),
        ("/zookeeper", 0, -110),
        ("/nope/x", 0, -101),
        ("/p", 0, -110),
        ("/e/k", 0, -108),
        ("/e/k", 1, -108),
        ("/e/s", 2, -108),
        ("/zookeeper/foo", 0, 0),
    ] {
        assert_eq!(s.code(create(path, flags)), expected, "{path:?} {flags}");
    }
}

#[test]
fn null_and_empty_data_stay_apart_cases_61_and_62() {
    let mut s = Server::new();
    let request = CreateRequest { data: None, ..raw_create("/n", 0) };
    s.ok(WriteRequest::Create { op: OpCode::Create, request, ttl: None });
    s.ok(create("/e", 0));
    assert_eq!(s.tree.node("/n").unwrap().data(), None);
    assert_eq!(s.tree.node("/e").unwrap().data(), Some(&b""[..]));
}

#[test]
fn flags_come_first_then_the_acl_then_everything_else_cases_63_to_66() {
    let mut s = Server::new();
    s.ok(create("/p", 0));
    let null_acl = CreateRequest { acl: None, ..raw_create("/p/x", 0) };
    assert_eq!(s.code(WriteRequest::Create { op: OpCode::Create, request: null_acl, ttl: None }), -114);
    for flags in [-1, 7, 8] {
        let request = CreateRequest { acl: None, ..raw_create("x", flags) };
        assert_eq!(s.code(WriteRequest::Create { op: OpCode::Create, request, ttl: None }), -8);
    }
    assert_eq!(s.code(create_acl("/p/.", vec![])), -114);
    assert_eq!(s.code(create_acl("/nope/x", vec![])), -114);
    assert_eq!(s.code(create_acl("noslash", vec![])), -8);
    let null_path = CreateRequest { path: None, ..raw_create("", 0) };
    assert_eq!(s.code(WriteRequest::Create { op: OpCode::Create, request: null_path, ttl: None }), -5);
}

#[test]
fn the_operation_decides_the_kind_and_flags_the_rest_cases_67_and_69() {
    let mut s = Server::extended();
    for (op, flags, ttl, expected) in [
        (OpCode::Create, 4, None, Ok(Owner::Persistent)),
        (OpCode::Create2, 4, None, Ok(Owner::Persistent)),
        (OpCode::Create, 1, None, Ok(Owner::Ephemeral(ME))),
        (OpCode::CreateContainer, 0, None, Ok(Owner::Container)),
        (OpCode::CreateContainer, 1, None, Ok(Owner::Container)),
        (OpCode::CreateContainer, 2, None, Ok(Owner::Container)),
        (OpCode::CreateContainer, 4, None, Ok(Owner::Container)),
        (OpCode::CreateContainer, 5, None, Err(-8)),
        (OpCode::CreateTtl, 5, Some(7), Ok(Owner::Ttl(7))),
        (OpCode::CreateTtl, 6, Some(7), Ok(Owner::Ttl(7))),
        (OpCode::CreateTtl, 0, Some(7), Err(-8)),
        (OpCode::CreateTtl, 4, Some(0), Err(-8)),
        (OpCode::CreateTtl, 0, Some(-1), Err(-8)),
        (OpCode::CreateTtl, 4, Some(-1), Err(-8)),
        (OpCode::CreateTtl, 2, Some(i64::MIN), Err(-8)),
        (OpCode::Create, 5, None, Err(-8)),
        (OpCode::Create2, 6, None, Err(-8)),
    ] {
        let outcome = s.run(WriteRequest::Create { op, request: raw_create("/k", flags), ttl });
        let got = match &outcome {
            Outcome::Created { path, .. } => Ok(s.tree.node(path).unwrap().owner()),
            other => Err(code_of(other)),
        };
        assert_eq!(got, expected, "{op:?} {flags} {ttl:?}");
        if let Outcome::Created { path, stat } = outcome {
            assert_eq!(path.len() > 2, matches!(flags, 2 | 6), "{path}");
            assert_eq!(stat.ephemeral_owner != 0, matches!(got, Ok(Owner::Ephemeral(_))), "markers are not shown");
            s.ok(delete(&path, -1));
        }
    }
}

#[test]
fn ttl_nodes_need_extended_types_case_68() {
    let mut s = Server::new();
    assert_eq!(s.code(create_ttl("/t", 5, 1000)), -6);
    assert_eq!(s.code(create_ttl("/t", 5, -1)), -6);
    assert_eq!(s.code(create_op(OpCode::Create2, "/t", 5)), -6);
    assert_eq!(s.code(create_ttl("/t", 0, 1000)), -8);
}

#[test]
fn ttls_have_40_bits_cases_70_to_72() {
    let mut s = Server::extended();
    for (ttl, expected) in [(0, -8), (-1, -8), (1, 0), ((1 << 40) - 1, 0), (1 << 40, -8), (i64::MAX, -8)] {
        assert_eq!(s.code(create_ttl(&format!("/t{ttl}"), 5, ttl)), expected, "{ttl}");
    }
    assert_eq!(s.created(create_ttl("/s", 6, 60_000)).0, "/s0000000002");
}

#[test]
fn containers_and_ttl_nodes_may_have_children() {
    let mut s = Server::extended();
    s.ok(create_op(OpCode::CreateContainer, "/c", 4));
    s.ok(create_ttl("/t", 5, 5));
    s.ok(create("/c/k", 1));
    s.ok(create_ttl("/t/k", 5, 5));
}

#[test]
fn ephemerals_need_a_session() {
    let mut s = Server::new();
    s.session = SessionId::NONE;
    assert_eq!(s.code(create("/e", 1)), -112);
    assert_eq!(s.code(create("/p", 0)), 0);
}

/// A server whose `/p` has had `cversion` children.
fn with_counter(cversion: i32) -> Server {
    let mut s = Server::new();
    let mut loader = TreeLoader::new(TreeConfig::default());
    loader.session(ME, 4000);
    for path in ["", "/p"] {
        let stat = StatPersisted { cversion, ..new_stat(Zxid::ZERO, 0, Owner::Persistent) };
        loader.node(path, Some(b""), -1, stat).unwrap();
    }
    s.tree = loader.finish(s.zxid).unwrap();
    s
}

#[test]
fn the_sequence_number_has_ten_places_sign_included() {
    for (cversion, name) in [
        (-1, "/p/-000000001"),
        (-5, "/p/-000000005"),
        (i32::MIN, "/p/-2147483648"),
        (i32::MIN + 1, "/p/-2147483647"),
        (i32::MAX, "/p/2147483647"),
        (42, "/p/0000000042"),
    ] {
        assert_eq!(with_counter(cversion).created(create("/p/", 2)).0, name);
    }
}

#[test]
fn a_counter_passes_minus_one() {
    let mut s = with_counter(-3);
    let names: Vec<_> = (0..4).map(|_| s.created(create("/p/", 2)).0).collect();
    assert_eq!(names, ["/p/-000000003", "/p/-000000002", "/p/-000000001", "/p/0000000000"]);
}

#[test]
fn pending_creations_count_for_names_and_for_existence() {
    let mut s = Server::new();
    s.prepare(create("/p", 0));
    let names: Vec<_> = (0..3)
        .map(|_| match s.prepare(create("/p/n", 2)).txn {
            Txn::Create(t) => t.path.into_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["/p/n0000000000", "/p/n0000000001", "/p/n0000000002"]);
    assert_eq!(s.prepare(create("/p", 0)).error, Some(ErrorCode::NodeExists));
    assert_eq!(s.prepare(create("/p/n0000000001/x", 1)).error, None);
    assert_eq!(s.prepare(create("/p/n0000000001/x/y", 0)).error, Some(ErrorCode::NoChildrenForEphemerals));
    while !s.unapplied.is_empty() {
        s.apply();
    }
    assert_eq!(s.prep.outstanding(), 0);
}
