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
