//! What is prepared does not depend on how much of it is applied, and the digest is the tree's.

use super::*;
use proptest::prelude::*;

/// A request by numbers; few paths, so that they meet.
#[derive(Clone, Debug)]
struct Step {
    what: u8,
    path: usize,
    more: i32,
    session: bool,
    lag: usize,
}

const PATHS: [&str; 14] = [
    "/a",
    "/b",
    "/a/x",
    "/a/y",
    "/b/x",
    "/a/x/k",
    "/",
    "/zookeeper",
    "/zookeeper/q",
    "/a/",
    "/e",
    "/a/e",
    "/s-",
    "/a/s-",
];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..24u8, 0..PATHS.len(), -1..7i32, prop::bool::weighted(0.8), 0..6usize)
        .prop_map(|(what, path, more, session, lag)| Step { what, path, more, session, lag });
    prop::collection::vec(step, 1..60)
}

fn acl_of(step: &Step) -> Vec<RawAcl<'static>> {
    match step.more {
        1 => vec![entry(perms::ALL & !perms::CREATE, "world", "anyone")],
        2 => vec![entry(perms::ALL, "digest", "a:b"), entry(perms::READ, "world", "anyone")],
        _ => open(),
    }
}

fn data_of(step: &Step) -> Option<Cow<'static, [u8]>> {
    if step.more == 5 { None } else { Some(vec![b'd'; usize::from(step.what)].into()) }
}

fn op(what: u8, step: &Step) -> MultiOp<'static> {
    let path = PATHS[step.path];
    match what % 8 {
        0..=3 => {
            let request = CreateRequest {
                path: Some(path.into()),
                data: data_of(step),
                acl: Some(acl_of(step)),
                flags: step.more,
            };
            match what % 8 {
                0 | 1 => MultiOp::Create { op: OpCode::Create, request, ttl: None },
                2 => MultiOp::Create { op: OpCode::CreateContainer, request, ttl: None },
                _ => MultiOp::Create { op: OpCode::CreateTtl, request, ttl: Some(3) },
            }
        }
        4 | 5 => MultiOp::Delete(path_version(path, if step.more < 4 { -1 } else { 1 })),
        6 => MultiOp::SetData(SetDataRequest {
            path: Some(path.into()),
            data: data_of(step),
            version: if step.more < 4 { -1 } else { 1 },
        }),
        _ => MultiOp::Check(path_version(path, if step.more < 4 { -1 } else { 1 })),
    }
}

fn request(steps: &[Step]) -> WriteRequest<'static> {
    let step = &steps[0];
    match step.what {
        0..=12 => match op(step.what, step) {
            MultiOp::Create { op, request, ttl } => WriteRequest::Create { op, request, ttl },
            MultiOp::Delete(r) => WriteRequest::Delete(r),
            MultiOp::SetData(r) => WriteRequest::SetData(r),
            MultiOp::Check(_) => WriteRequest::Failed(ErrorCode::MarshallingError),
        },
        13..=15 => WriteRequest::SetAcl(SetAclRequest {
            path: Some(PATHS[step.path].into()),
            acl: Some(acl_of(step)),
            version: -1,
        }),
        16..=19 => WriteRequest::Multi(steps.iter().take(4).map(|s| op(s.what, s)).collect()),
        20 => WriteRequest::DeleteContainer(PATHS[step.path].into()),
        21 => WriteRequest::CloseSession,
        _ => WriteRequest::CreateSession { timeout: step.more },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn pipelining_changes_neither_transactions_nor_digests(steps in steps()) {
        let (mut prompt, mut late) = (Server::extended(), Server::extended());
        for i in 0..steps.len() {
            let step = &steps[i];
            let mut prepared = Vec::new();
            for s in [&mut prompt, &mut late] {
                s.session = if step.session { ME } else { OTHER };
                s.ids = if step.more == 0 { vec![] } else { vec![Identity::new("digest", "a:b")] };
                prepared.push(s.prepare(request(&steps[i..])));
            }
            prop_assert_eq!(&prepared[0], &prepared[1]);
            // Server::apply compares digests.
            prompt.apply();
            prop_assert_eq!(prompt.prep.outstanding(), 0);
            while late.unapplied.len() > step.lag {
                late.apply();
            }
        }
        while !late.unapplied.is_empty() {
            late.apply();
        }
        prop_assert_eq!(late.prep.outstanding(), 0);
        prop_assert_eq!(late.tree.digest(), prompt.tree.digest());
        prop_assert_eq!(late.tree.node_count(), prompt.tree.node_count());
    }
}

/// Where the newest transaction's znodes are said to be, by path.
fn places(s: &Server) -> Vec<Option<String>> {
    let mut places = s.prep.places(s.zxid);
    let path = |id| s.tree.arena.is_live(id).then(|| s.tree.path_of(id));
    (0..5).map(|_| path(places.next())).collect()
}

#[test]
fn the_places_of_the_oldest_transaction_are_known_in_the_order_of_its_changes() {
    let mut s = Server::new();
    s.ok(create("/a", 0));
    s.ok(create("/b", 0));
    let (nowhere, root, a, b) = (None, Some(String::new()), Some("/a".to_owned()), Some("/b".to_owned()));
    let mut expect = |request, expected: [&Option<String>; 5]| {
        s.prepare(request);
        assert_eq!(places(&s).iter().collect::<Vec<_>>(), expected);
        s.apply();
    };
    expect(set("/b", b"1", -1), [&b, &nowhere, &nowhere, &nowhere, &nowhere]);
    expect(create("/c", 0), [&root, &nowhere, &nowhere, &nowhere, &nowhere]);
    let ops = vec![m_set("/a", b"2", -1), m_check("/b", -1), m_delete("/b", -1), m_set("/a", b"3", -1)];
    expect(WriteRequest::Multi(ops), [&a, &root, &b, &a, &nowhere]);
    expect(set("/none", b"", -1), [&nowhere; 5]);
}

#[test]
fn a_place_that_went_to_another_znode_meanwhile_is_not_taken_for_the_first_one() {
    let mut s = Server::new();
    s.ok(create("/a", 0));
    let before = s.tree.find("/a");
    for request in [delete("/a", -1), create("/b", 0), create("/a", 0), set("/a", b"1", 0)] {
        s.prepare(request);
    }
    s.apply();
    s.apply();
    assert_eq!(s.tree.find("/b"), before, "the place is used again");
    s.apply();
    assert_eq!(places(&s)[0].as_deref(), Some("/b"), "what was known of the place is old");
    assert!(matches!(s.apply(), Outcome::Stat(_)));
    assert_eq!((s.stat("/a").version, s.stat("/b").version), (1, 0));
}
