//! Cases 76 to 84 and 161 to 181: deletion, data, ACLs and permissions.

use super::*;

#[test]
fn deletion_checks_version_before_children_cases_76_and_77() {
    let mut s = Server::new();
    s.ok(create("/p", 0));
    s.ok(create("/p/a", 0));
    assert_eq!(s.code(delete("/p", 9)), -103);
    assert_eq!(s.code(delete("/p", -1)), -111);
    assert_eq!(s.code(delete("/p/a", 5)), -103);
    assert_eq!(s.code(delete("/p/a", 0)), 0);
    assert_eq!(s.code(delete("/p", 0)), 0);
}

#[test]
fn built_in_znodes_and_bad_paths_cannot_be_deleted_cases_78_and_79() {
    let mut s = Server::new();
    s.ok(create("/p", 0));
    for (path, expected) in [
        ("/", -8),
        ("/zookeeper", -8),
        ("/zookeeper/quota", -8),
        ("/zookeeper/config", -8),
        ("", -8),
        ("foo", -8),
        ("/p\0", -8),
        ("/p/", -101),
        ("/p//b", -101),
        ("/nope/x", -101),
    ] {
        assert_eq!(s.code(delete(path, -1)), expected, "{path:?}");
        assert_eq!(s.code(WriteRequest::DeleteContainer(path.into())), expected, "{path:?}");
    }
    assert_eq!(s.code(WriteRequest::Delete(PathVersion { path: None, version: -1 })), -5);
}

#[test]
fn set_data_changes_data_fields_only_case_80() {
    let mut s = Server::new();
    let (_, before) = s.created(create("/p", 0));
    let outcome = s.ok(set("/p", b"ab", -1));
    let after = Stat { version: 1, mzxid: s.zxid, mtime: s.time, data_length: 2, ..before };
    assert_eq!(outcome, Outcome::Stat(after));
}

#[test]
fn versions_are_literal_but_for_minus_one_cases_81_and_82() {
    let mut s = Server::new();
    s.ok(create("/p", 0));
    s.ok(set("/p", b"", -1));
    assert_eq!(s.code(set("/p", b"", 0)), -103);
    assert_eq!(s.code(set("/p", b"", 1)), 0);
    assert_eq!(s.code(set("/p", b"", -2)), -103);
    let null = SetDataRequest { data: None, ..raw_set("/p", b"", -1) };
    s.ok(WriteRequest::SetData(null));
    assert_eq!(s.tree.node("/p").unwrap().data(), None);
    assert_eq!(s.stat("/p").version, 3);
}

#[test]
fn versions_wrap_and_do_not_skip_minus_one() {
    assert_eq!(next_version(i32::MAX, -1), Ok(i32::MIN));
    assert_eq!(next_version(-2, -2), Ok(-1));
    assert_eq!(next_version(-1, -1), Ok(0));
}

#[test]
fn set_data_validates_its_path_first_cases_83_and_84() {
    let mut s = Server::new();
    s.ok(create("/p", 0));
    for (path, expected) in [
        ("", -8),
        ("foo", -8),
        ("/p/", -8),
        ("/p//b", -8),
        ("/p\0", -8),
        ("/nope", -101),
        ("/zookeeper/config", -102),
        ("/", 0),
        ("/zookeeper", 0),
        ("/zookeeper/quota", 0),
    ] {
        assert_eq!(s.code(set(path, b"x", -1)), expected, "{path:?}");
    }
    assert_eq!(s.code(WriteRequest::SetData(SetDataRequest { path: None, ..raw_set("", b"", -1) })), -8);
}

const BOB: &str = "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=";

fn bob() -> Vec<Identity> {
    vec![Identity::new("ip", "127.0.0.1"), Identity::new("digest", BOB)]
}

#[test]
fn scheme_auth_is_stored_as_the_identities_cases_161_to_163() {
    let mut s = Server::new();
    assert_eq!(s.code(create_acl("/a", vec![entry(31, "auth", "")])), -114);
    s.ids = bob();
    s.ok(create_acl("/a", vec![entry(31, "auth", "ignored")]));
    let acl = s.tree.node("/a").unwrap().acl().to_vec();
    assert_eq!(acl.len(), 1);
    assert_eq!((acl[0].perms, &*acl[0].scheme, &*acl[0].id), (31, "digest", BOB));
}

#[test]
fn permission_bits_by_operation_cases_169_to_174() {
    let only = |perm| vec![entry(perm, "world", "anyone")];
    let cases = [
        (perms::READ, [-102, -102, -102, -102, 0]),
        (perms::WRITE, [0, -102, -102, -102, -102]),
        (perms::CREATE, [-102, 0, -102, -102, -102]),
        (perms::DELETE, [-102, -102, 0, -102, -102]),
        (perms::ADMIN, [-102, -102, -102, 0, -102]),
        (0, [-102, -102, -102, -102, -102]),
    ];
    for (perm, [write, make, remove, admin, check]) in cases {
        let mut s = Server::new();
        s.ok(create("/n", 0));
        s.ok(create("/n/k", 0));
        s.ok(set_acl("/n", only(perm), -1));
        assert_eq!(s.code(set("/n", b"", -1)), write, "{perm}");
        assert_eq!(s.code(create("/n/new", 0)), make, "{perm}");
        // Even for a missing znode or a wrong version.
        assert_eq!(s.code(delete("/n/zz", -1)), if remove == 0 { -101 } else { remove }, "{perm}");
        assert_eq!(s.code(delete("/n/k", 99)), if remove == 0 { -103 } else { remove }, "{perm}");
        assert_eq!(s.code(delete("/n/k", -1)), remove, "{perm}");
        assert_eq!(s.codes(vec![m_check("/n", -1)]), [check], "{perm}");
        assert_eq!(s.code(set_acl("/n", only(perm), 0)), if admin == 0 { -103 } else { admin }, "{perm}");
        assert_eq!(s.code(set_acl("/n", only(perm), -1)), admin, "{perm}");
    }
}

#[test]
fn a_znodes_own_acl_does_not_keep_it_from_deletion_case_173() {
    let mut s = Server::new();
    s.ok(create_acl("/n", vec![entry(0, "world", "anyone")]));
    s.ok(delete("/n", -1));
}

#[test]
fn set_acl_checks_the_list_before_existence_cases_177_and_178() {
    let mut s = Server::new();
    let (_, before) = s.created(create("/p", 0));
    assert_eq!(s.code(set_acl("/p", open(), 5)), -103);
    assert_eq!(s.ok(set_acl("/p", open(), 0)), Outcome::Stat(Stat { aversion: 1, ..before }));
    assert_eq!(s.code(set_acl("/p", open(), 0)), -103);
    assert_eq!(s.ok(set_acl("/p", open(), -1)), Outcome::Stat(Stat { aversion: 2, ..before }));
    assert_eq!(s.code(set_acl("/nope", vec![entry(31, "foo", "x")], -1)), -114);
    assert_eq!(s.code(set_acl("/nope", open(), -1)), -101);
    assert_eq!(s.code(set_acl("/p/", open(), -1)), -8);
    assert_eq!(s.code(set_acl("/p/", vec![], -1)), -8);
    assert_eq!(s.code(set_acl("/p", vec![], -1)), -114);
}

#[test]
fn pending_acls_are_in_force_at_once() {
    let mut s = Server::new();
    s.prepare(create_acl("/w", vec![entry(perms::WRITE, "world", "anyone")]));
    s.prepare(create_acl("/b", vec![entry(perms::ALL, "digest", BOB)]));
    assert_eq!(s.prepare(set("/w", b"", -1)).error, None);
    assert_eq!(s.prepare(create("/w/k", 0)).error, Some(ErrorCode::NoAuth));
    assert_eq!(s.prepare(set("/b", b"", -1)).error, Some(ErrorCode::NoAuth));
    s.ids = bob();
    assert_eq!(s.prepare(set("/b", b"", -1)).error, None);
    assert_eq!(s.prepare(set_acl("/b", vec![entry(perms::READ, "auth", "")], -1)).error, None);
    assert_eq!(s.prepare(set("/b", b"", -1)).error, Some(ErrorCode::NoAuth));
    while !s.unapplied.is_empty() {
        s.apply();
    }
}

#[test]
fn the_superuser_passes_and_skip_acl_validates_cases_179_and_181() {
    let mut s = Server::new();
    s.ok(create_acl("/n", vec![entry(0, "world", "anyone")]));
    assert_eq!(s.code(set("/n", b"", -1)), -102);
    s.ids = vec![Identity::superuser()];
    assert_eq!(s.code(set("/n", b"", -1)), 0);
    assert_eq!(s.code(set("/zookeeper/config", b"x", -1)), 0);

    let mut s = Server::with(TreeConfig::default(), AuthConfig { skip_acl: true, ..AuthConfig::default() });
    s.ok(create_acl("/n", vec![entry(0, "world", "anyone")]));
    assert_eq!(s.code(set("/n", b"", -1)), 0);
    assert_eq!(s.code(create_acl("/x", vec![entry(31, "foo", "x")])), -114);
    assert_eq!(s.code(create_acl("/x", vec![])), -114);
}

fn with_quota(limits: &str) -> Server {
    let mut s = Server::with(TreeConfig { enforce_quota: true, ..TreeConfig::default() }, AuthConfig::default());
    s.ok(create("/p", 0));
    s.ok(create_data("/p/a", b"12345"));
    s.ok(create("/zookeeper/quota/p", 0));
    s.ok(create_data("/zookeeper/quota/p/zookeeper_limits", limits.as_bytes()));
    s.ok(create_data("/zookeeper/quota/p/zookeeper_stats", b"count=0,bytes=0"));
    s
}

#[test]
fn hard_quotas_refuse_before_the_version_is_looked_at_cases_195_to_197() {
    let mut s = with_quota("count=-1,bytes=-1=;byteHardLimit=12;countHardLimit=3");
    assert_eq!(s.code(create("/p/b", 0)), 0);
    assert_eq!(s.code(create("/p/c", 0)), -125);
    assert_eq!(s.code(set("/p/a", b"123456789012", -1)), 0);
    assert_eq!(s.code(set("/p/a", b"1234567890123", -1)), -125);
    assert_eq!(s.code(set("/p/a", b"1234567890123", 77)), -125);
    assert_eq!(s.code(set("/p/a", b"1", -1)), 0);
}

#[test]
fn quotas_look_at_what_is_committed_case_200() {
    let mut s = with_quota("count=-1,bytes=-1=;countHardLimit=2");
    assert_eq!(s.codes(vec![m_delete("/p/a", -1), m_create("/p/b", 0)]), [0, -125]);
}

#[test]
fn what_would_stop_apaches_servers_is_refused() {
    let mut s = with_quota("count=-1,bytes=-1");
    s.ok(create("/zookeeper/short", 0));
    for parent in ["/zookeeper", "/zookeeper/short", "/zookeeper/quota"] {
        let limits = format!("{parent}/zookeeper_limits");
        assert_eq!(s.code(create(&limits, 0)), -8, "{limits}");
        assert_eq!(s.codes(vec![m_create("/q", 0), m_create(&limits, 0)]), [0, -8]);
        assert_eq!(create(&limits, 0).refusal(), Some(ErrorCode::BadArguments));
        assert_eq!(create(&limits, 2).refusal(), None, "it gets a number");
        assert_eq!(WriteRequest::Multi(vec![m_create(&limits, 0)]).refusal(), Some(ErrorCode::BadArguments));
        assert_eq!(delete(&limits, -1).refusal(), Some(ErrorCode::BadArguments));
        assert_eq!(s.code(delete(&limits, -1)), -101);
    }
    let (blank, cut) = ("/zookeeper/quota/ ", "/zookeeper/quota/zookeeper_limits-old");
    for parent in [blank, cut, "/zookeeper/quotas"] {
        s.ok(create(parent, 0));
        let limits = format!("{parent}/zookeeper_limits");
        assert_eq!((s.code(create(&limits, 0)), create(&limits, 0).refusal().is_some()), (-8, true), "{limits}");
        assert_eq!(delete(&limits, -1).refusal().is_some(), parent == blank);
    }
    assert_eq!(s.code(create("/zookeeper/quotas/zookeeper_stats", 0)), -8);
    let mut path = String::new();
    for depth in 1..=1001 {
        path.push_str("/d");
        let refused = depth > 1000;
        assert_eq!(s.code(create(&path, 0)), if refused { -8 } else { 0 }, "{depth}");
        assert_eq!(create(&path, 2).refusal().is_some(), refused);
    }
    let stats = "/zookeeper/quota/p/zookeeper_stats";
    for (text, is_usage) in
        [(&b"garbage"[..], false), (b"count=9,bytes=", false), (b"count=9,bytes==3", true), (b"", true)]
    {
        s.ok(set(stats, text, -1));
        let stored = s.tree.node(stats).and_then(|node| node.data().map(<[u8]>::to_vec));
        assert_eq!(stored.as_deref(), Some(if is_usage { text } else { b"count=0,bytes=0" }), "{text:?}");
        assert_eq!(set(stats, text, -1).refusal().is_some(), !is_usage, "nor may a leader of Apache's be asked");
    }
    assert_eq!(s.code(create("/p/b", 0)), 0);
    // Of a TTL that is none, only these flags let an Apache leader pass.
    for (flags, refused) in [(0, true), (1, true), (4, true), (5, false), (99, false)] {
        assert_eq!(create_ttl("/t", flags, -1).refusal().is_some(), refused, "{flags}");
    }
}

/// Both are read, and usage is written, with every change below the quota.
#[test]
fn limits_and_usage_are_short() {
    let mut s = with_quota("count=-1,bytes=-1");
    let (limits, stats) = ("/zookeeper/quota/p/zookeeper_limits", "/zookeeper/quota/p/zookeeper_stats");
    let text = |len: usize| format!("count=1,bytes=1=;x={}", "7".repeat(len - 19)).into_bytes();
    let (longest, longer) = (format!("{:<256}", "count=1;").replace(' ', ";"), text(257));
    assert_eq!(text(40).len(), 40);
    for path in [limits, stats] {
        assert_eq!(s.code(set(path, longest.as_bytes(), -1)), 0, "{path}");
        assert_eq!(s.code(set(path, &longer, -1)), -8, "{path}");
        assert_eq!(s.codes(vec![m_create("/q", 0), m_set(path, &longer, -1)]), [0, -8], "{path}");
        assert_eq!(s.tree.node(path).and_then(|n| n.data().map(<[u8]>::len)), Some(256), "{path}");
        assert_eq!(set(path, longest.as_bytes(), -1).refusal(), None);
        assert_eq!(set(path, &longer, -1).refusal(), Some(ErrorCode::BadArguments), "nor is Apache's leader asked");
        s.ok(delete(path, -1));
        assert_eq!(s.code(create_data(path, &longer)), -8, "{path}");
        assert_eq!(create_data(path, &longer).refusal(), Some(ErrorCode::BadArguments));
        s.ok(create_data(path, longest.as_bytes()));
    }
    // Anywhere else it is a text as any other.
    s.ok(set("/p/a", &longer, -1));
    s.ok(create_data("/p/zookeeper_stats", &longer));
}

/// Each counts the whole subtree.
#[test]
fn a_multi_makes_usage_counted_a_few_times_only() {
    let mut s = with_quota("count=-1,bytes=-1");
    let stats = "/zookeeper/quota/p/zookeeper_stats";
    let again = |n: usize| (0..n).flat_map(|_| [m_delete(stats, -1), m_create(stats, 0)]).collect::<Vec<_>>();
    assert_eq!(s.codes(again(16)), [0; 32]);
    assert_eq!(s.codes(again(17))[32..], [0, -8]);
    assert_eq!(WriteRequest::Multi(again(16)).refusal(), None);
    assert_eq!(WriteRequest::Multi(again(17)).refusal(), Some(ErrorCode::BadArguments));
    assert_eq!(s.codes(again(16)), [0; 32], "of each multi so many");
}

/// An Apache server may have made it, or an earlier version.
#[test]
fn limits_that_stop_apaches_servers_when_they_go_stay() {
    let mut s = Server::new();
    let path = "/zookeeper/zookeeper_limits".into();
    let acl = vec![farrier_proto::Acl { perms: 31, scheme: "world".into(), id: "anyone".into() }];
    let txn = CreateTxn { path, data: None, acl, ephemeral: false, parent_cversion: 9 };
    s.zxid = s.zxid.next().expect("another one");
    let header = TxnHeader { session: SessionId::NONE, cxid: 0, zxid: s.zxid, time: 0, kind: 1 };
    s.tree.apply(&header, &Txn::Create(txn), None);
    assert_eq!(s.code(delete("/zookeeper/zookeeper_limits", -1)), -8);
}

#[test]
fn a_set_after_a_pending_set_counts_from_the_pending_length() {
    let mut s = with_quota("count=-1,bytes=-1=;byteHardLimit=12");
    assert_eq!(s.prepare(set("/p/a", b"123456789012", -1)).error, None);
    // No further bytes, so nothing is checked.
    assert_eq!(s.prepare(set("/p/a", b"abcdefghijkl", -1)).error, None);
    s.apply();
    s.apply();
}

#[test]
fn the_sweeper_takes_only_what_is_due() {
    let mut s = Server::extended();
    s.ok(create_op(OpCode::CreateContainer, "/c", 0));
    s.ok(create("/c/k", 0));
    s.ok(create("/plain", 0));
    s.ok(create("/e", 1));
    s.ok(create_ttl("/t", 5, 10));
    s.session = SessionId::NONE;
    for (path, expected) in [("/c", -111), ("/plain", -103), ("/e", -103), ("/none", -101)] {
        assert_eq!(s.code(WriteRequest::DeleteContainer(path.into())), expected, "{path}");
    }
    s.ok(delete("/c/k", -1));
    s.ok(WriteRequest::DeleteContainer("/c".into()));
    assert_eq!(s.code(WriteRequest::DeleteContainer("/t".into())), -103, "not due yet");
    s.time += 100;
    s.prepare(set("/t", b"again", -1));
    let refused = s.prepare(WriteRequest::DeleteContainer("/t".into()));
    assert_eq!(refused.error, Some(ErrorCode::BadVersion), "a pending set restarts the clock");
    s.time += 100;
    assert_eq!(s.prepare(WriteRequest::DeleteContainer("/t".into())).error, None);
}
