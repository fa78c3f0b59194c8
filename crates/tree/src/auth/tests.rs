use super::*;

fn raw(perms: i32, scheme: &'static str, id: &'static str) -> RawAcl<'static> {
    RawAcl { perms, scheme: Some(scheme.into()), id: Some(id.into()) }
}

fn acl(perms: i32, scheme: &'static str, id: &'static str) -> Acl<'static> {
    Acl { perms, scheme: scheme.into(), id: id.into() }
}

const BOB: &str = "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=";
const SUPER_DIGEST: &str = "super:xQJmxLMiHGwaqBvst5y6rkB6HQs=";

fn ids(list: &[(&str, &str)]) -> Vec<Identity> {
    list.iter().map(|(s, i)| Identity::new(s, *i)).collect()
}

#[test]
fn digests_equal_apaches() {
    assert_eq!(DigestAlgorithm::Sha1.digest("bob:pw"), BOB);
    assert_eq!(DigestAlgorithm::Sha1.digest("super:admin"), SUPER_DIGEST);
    assert!(DigestAlgorithm::Sha1.digest("plain").starts_with("plain:"));
    assert!(DigestAlgorithm::Sha1.digest("u:p:q").starts_with("u:"), "a password may hold colons");
    for (a, hash_len) in [(DigestAlgorithm::Sha256, 44), (DigestAlgorithm::Sha512, 88), (DigestAlgorithm::Sha3_256, 44)]
    {
        assert_eq!(a.digest("u:p").len(), 2 + hash_len);
    }
    assert_ne!(DigestAlgorithm::Sha256.digest("u:p"), DigestAlgorithm::Sha3_256.digest("u:p"));
}

#[test]
fn algorithms_are_found_by_their_names_in_java() {
    for (name, expected) in [
        ("SHA1", Some(DigestAlgorithm::Sha1)),
        ("sha-1", Some(DigestAlgorithm::Sha1)),
        ("SHA-256", Some(DigestAlgorithm::Sha256)),
        ("SHA-512", Some(DigestAlgorithm::Sha512)),
        ("SHA3-256", Some(DigestAlgorithm::Sha3_256)),
        ("MD5", None),
        ("", None),
    ] {
        assert_eq!(DigestAlgorithm::from_name(name), expected, "{name}");
    }
}

#[test]
fn auth_packets_give_identities_or_fail() {
    let config = AuthConfig { super_digest: Some(SUPER_DIGEST.into()), ..AuthConfig::default() };
    assert_eq!(config.authenticate(Some("digest"), Some(b"bob:pw")), Ok(ids(&[("digest", BOB)])));
    assert_eq!(
        config.authenticate(Some("digest"), Some(b"super:admin")),
        Ok(ids(&[("super", ""), ("digest", SUPER_DIGEST)]))
    );
    assert_eq!(config.authenticate(Some("ip"), Some(b"x")), Ok(vec![]));
    for (scheme, data) in [
        (Some("nosuch"), Some(&b"x"[..])),
        (Some("sasl"), Some(b"x")),
        (Some("x509"), None),
        (Some("super"), Some(b"")),
        (Some("world"), Some(b"anyone")),
        (Some("auth"), None),
        (Some("ensemble"), Some(b"")),
        (Some("digest"), None),
        (None, None),
    ] {
        assert_eq!(config.authenticate(scheme, data), Err(ErrorCode::AuthFailed), "{scheme:?}");
    }
    let off = AuthConfig { digest_enabled: false, ..config };
    assert_eq!(off.authenticate(Some("digest"), Some(b"bob:pw")), Err(ErrorCode::AuthFailed));
}

#[test]
fn another_ensembles_name_closes_without_an_answer() {
    let config = AuthConfig { ensemble_names: Some(vec!["one".to_owned(), "two".to_owned()]), ..AuthConfig::default() };
    for good in [Some(&b"one"[..]), Some(b"two"), Some(b""), None] {
        assert_eq!(config.authenticate(Some("ensemble"), good), Ok(vec![]));
    }
    for bad in [&b"three"[..], b" one"] {
        assert_eq!(config.authenticate(Some("ensemble"), Some(bad)), Err(ErrorCode::ConnectionLoss));
    }
    let open = AuthConfig { ensemble_names: Some(vec![]), ..AuthConfig::default() };
    assert_eq!(open.authenticate(Some("ensemble"), Some(b"any")), Ok(vec![]));
}

#[test]
fn acl_ids_are_valid_as_in_cases_164_and_165() {
    let config = AuthConfig::default();
    for (scheme, id, good) in [
        ("world", "anyone", true),
        ("world", "nobody", false),
        ("foo", "x", false),
        ("digest", "x", false),
        ("digest", "x:", false),
        ("digest", "x:y:z", false),
        ("digest", "x:y", true),
        ("digest", ":y", true),
        ("digest", "", false),
        ("digest", ":", false),
        ("super", "", false),
        ("sasl", "x", false),
        ("x509", "CN=a", false),
        ("ensemble", "x", false),
        ("ip", "10.0.0.0/8", true),
        ("ip", "1.2.3.4", true),
        ("ip", "1.2.3", false),
        ("ip", "1.2.3.4.5", false),
        ("ip", "1.2.3.256", false),
        ("ip", "1.2.3.4/33", false),
        ("ip", "1.2.3.4/-1", false),
        ("ip", "1.2.3.4/", false),
        ("ip", "::1", true),
        ("ip", "::1/64", true),
        ("ip", "::1/129", false),
        ("ip", "0:0:0:0:0:0:0:1", true),
        ("ip", "::ffff:1.2.3.4", false),
        ("ip", "fe80::1%eth0", false),
        ("ip", "localhost", false),
        ("ip", "", false),
    ] {
        let list = [raw(31, scheme, id)];
        let expected = if good { Ok(vec![acl(31, scheme, id)]) } else { Err(ErrorCode::InvalidAcl) };
        assert_eq!(config.fix_up(Some(&list), &[]), expected, "{scheme}:{id}");
    }
}

#[test]
fn fix_up_refuses_missing_lists_and_null_parts() {
    let config = AuthConfig::default();
    assert_eq!(config.fix_up(None, &[]), Err(ErrorCode::InvalidAcl));
    assert_eq!(config.fix_up(Some(&[]), &[]), Err(ErrorCode::InvalidAcl));
    let null_scheme = RawAcl { perms: 31, scheme: None, id: Some("x".into()) };
    assert_eq!(config.fix_up(Some(&[null_scheme]), &[]), Err(ErrorCode::InvalidAcl));
    for (scheme, code) in [
        ("world", ErrorCode::MarshallingError),
        ("digest", ErrorCode::MarshallingError),
        ("ip", ErrorCode::MarshallingError),
        ("foo", ErrorCode::InvalidAcl),
    ] {
        let null_id = RawAcl { perms: 31, scheme: Some(scheme.into()), id: None };
        assert_eq!(config.fix_up(Some(&[null_id]), &[]), Err(code), "{scheme}");
    }
}

#[test]
fn scheme_auth_stands_for_the_authenticated_identities() {
    let config = AuthConfig::default();
    let who = ids(&[("ip", "1.2.3.4"), ("super", ""), ("digest", BOB), ("digest", "al:x=")]);
    let null_id = RawAcl { perms: 5, scheme: Some("auth".into()), id: None };
    let expected = vec![acl(5, "digest", BOB), acl(5, "digest", "al:x=")];
    assert_eq!(config.fix_up(Some(&[null_id]), &who), Ok(expected));
    assert_eq!(config.fix_up(Some(&[raw(31, "auth", "ignored")]), &who[..2]), Err(ErrorCode::InvalidAcl));
}

#[test]
fn scheme_auth_does_not_blow_a_list_up() {
    let config = AuthConfig::default();
    let who: Vec<_> = (0..1000).map(|i| Identity::new("digest", format!("user{i}:hash"))).collect();
    let list: Vec<_> = (0..1000).map(|perms| raw(perms, "auth", "")).collect();
    assert_eq!(config.fix_up(Some(&list), &who), Err(ErrorCode::InvalidAcl));
    assert_eq!(config.fix_up(Some(&list[..1]), &who).map(|l| l.len()), Ok(1000));
    assert_eq!(config.fix_up(Some(&list[..2]), &who), Err(ErrorCode::InvalidAcl), "too many entries");
}

#[test]
fn a_list_has_a_thousand_entries_at_most() {
    let config = AuthConfig::default();
    let mut list: Vec<_> = (0..1001).map(|perms| raw(perms, "ip", "10.1.2.3")).collect();
    assert_eq!(config.fix_up(Some(&list), &[]), Err(ErrorCode::InvalidAcl));
    list[1000] = list[0].clone();
    assert_eq!(config.fix_up(Some(&list), &[]).map(|l| l.len()), Ok(1000), "a repetition does not count");
}

#[test]
fn duplicates_go_order_and_bits_stay() {
    let config = AuthConfig::default();
    let (x, y) = (raw(64, "world", "anyone"), raw(-1, "ip", "1.2.3.4"));
    let list = [x.clone(), x.clone(), y.clone(), x];
    assert_eq!(config.fix_up(Some(&list), &[]), Ok(vec![acl(64, "world", "anyone"), acl(-1, "ip", "1.2.3.4")]));
    let mut long: Vec<_> = (0..100).map(|i| raw(i % 20, "world", "anyone")).collect();
    long.push(y);
    let fixed = config.fix_up(Some(&long), &[]).unwrap();
    assert_eq!(fixed.iter().map(|a| a.perms).collect::<Vec<_>>(), (0..20).chain([-1]).collect::<Vec<_>>());
}

#[test]
fn permissions() {
    let config = AuthConfig::default();
    let bob = ids(&[("ip", "10.1.2.3"), ("digest", BOB)]);
    let root = ids(&[("super", "")]);
    let list =
        [acl(perms::READ, "world", "anyone"), acl(perms::WRITE, "digest", BOB), acl(perms::CREATE, "ip", "10.0.0.0/8")];
    for (ids, perm, expected) in [
        (&[][..], perms::READ, true),
        (&[], perms::WRITE, false),
        (&[], perms::READ | perms::ADMIN, true),
        (&bob, perms::WRITE, true),
        (&bob, perms::CREATE, true),
        (&bob, perms::ADMIN, false),
        (&root, perms::ADMIN, true),
    ] {
        assert_eq!(config.permits(&list, perm, ids), expected, "{perm} {ids:?}");
    }
    assert!(config.permits(&[], perms::ALL, &[]), "an empty list permits everything");
    assert!(!config.permits(&[acl(0, "world", "anyone")], perms::ALL, &bob));
    let skip = AuthConfig { skip_acl: true, ..AuthConfig::default() };
    assert!(skip.permits(&[acl(0, "world", "anyone")], perms::ALL, &[]));
    let off = AuthConfig { digest_enabled: false, ..AuthConfig::default() };
    assert!(!off.permits(&list, perms::WRITE, &bob), "a scheme that is off matches nobody");
}

#[test]
fn addresses_match_by_prefix_and_family() {
    for (peer, entry, expected) in [
        ("127.0.0.1", "127.0.0.1", true),
        ("127.0.0.1", "127.0.0.0/8", true),
        ("127.0.0.1", "10.0.0.0/8", false),
        ("127.0.0.1", "0.0.0.0/0", true),
        ("127.0.0.129", "127.0.0.128/25", true),
        ("127.0.0.1", "127.0.0.128/25", false),
        ("0:0:0:0:0:0:0:1", "::1", true),
        ("0:0:0:0:0:0:0:1", "::/64", true),
        ("2001:db8:0:0:0:0:0:1", "2001:db8::/32", true),
        ("2001:db9:0:0:0:0:0:1", "2001:db8::/32", false),
        ("127.0.0.1", "::/0", false),
        ("127.0.0.1", "+127.00.0.0001", true),
        ("127.0.0.1", "0127.0.0.1/-0", true),
        ("127.0.0.1", "127.0.0.256/0", false),
        ("127.0.0.1", "127.0.0/0", false),
        ("127.0.0.1", "127.0.0./0", false),
        ("127.0.0.1", "127..0.1/0", false),
        ("127.0.0.1", "127.0.0.1.1/0", false),
        ("127.0.0.1", "127.0.0.1/33", false),
        ("0:0:0:0:0:0:0:1", "0.0.0.0/0", false),
        ("fe80:0:0:0:0:0:0:1%eth0", "fe80::/10", false),
    ] {
        assert_eq!(ip::is_within_any(peer, std::iter::once(entry)), expected, "{peer} {entry}");
    }
}

#[test]
fn peers_addresses_are_spelled_as_in_java() {
    for (addr, expected) in [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "0:0:0:0:0:0:0:1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("2001:DB8::A", "2001:db8:0:0:0:0:0:a"),
    ] {
        let id = AuthConfig::ip_identity(addr.parse().unwrap());
        assert_eq!((&*id.scheme, &*id.id), ("ip", expected));
    }
}

#[test]
fn who_am_i_shows_users_and_no_hashes() {
    let who = ids(&[("ip", "1.2.3.4"), ("digest", BOB), ("super", "")]);
    assert_eq!(AuthConfig::who_am_i(&who), [("ip", "1.2.3.4"), ("digest", "bob"), ("super", "")]);
}

#[test]
fn hashes_are_masked_for_who_lacks_admin() {
    let config = AuthConfig::default();
    let list = [acl(1, "world", "anyone"), acl(31, "digest", BOB), acl(5, "ip", "127.0.0.1")];
    let bob = ids(&[("digest", BOB)]);
    assert_eq!(&*config.shown(&list, &bob), &list);
    assert_eq!(
        &*config.shown(&list, &[]),
        &[acl(1, "world", "anyone"), acl(31, "digest", "bob:x"), acl(5, "ip", "127.0.0.1")]
    );
    assert_eq!(&*config.shown(&list, &ids(&[("super", "")])), &list);
}
