//! What clients are shown is the state that the zxid of the reply stands for, what their writes did is what they asked
//! for, and whole trees of servers are equal to the model's.

use super::model::{is_unfollowed, split};
use super::{Call, Checker, Effect, Facts, Model, Record, multi};
use crate::observe::{
    ClientEvent, MultiPart, Observation, PartReply, ReadPart, ReadPartReply, Reply, Request, SeenZnode, ServerEvent,
    What,
};
use farrier_proto::client::CreateMode;
use farrier_proto::{Acl, ErrorCode, Owner, SessionId, Stat, Zxid, perms};

/// Longest value in a message. Bytes.
const BRIEF_MAX: usize = 400;

/// A reply may be refused for its length only if it has more data than this. Bytes.
const REPLY_LONG: usize = 512 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Oracle;

impl Checker for Oracle {
    fn name(&self) -> &'static str {
        "oracle"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        if let Some(why) = &facts.news.unlawful {
            return Err(format!("what no leader may propose is committed: {why}"));
        }
        for zxid in &facts.news.committed {
            if let Some(record) = facts.model.record(*zxid)
                && let Some(call) = facts.write(record.session, record.cxid)
            {
                did_what_was_asked(facts, *zxid, record, call)
                    .map_err(|why| format!("{zxid} of {}: {why}", brief(&call.request)))?;
            }
        }
        match &observation.what {
            What::Client(client, ClientEvent::Returned { call, zxid, outcome, .. }) => {
                let Some(call) = facts.call(*client, *call) else { return Ok(()) };
                let at = Zxid::from_wire(*zxid);
                answered(facts, at, call, outcome)
                    .map_err(|why| format!("{client:?} is told at {at} of {}: {why}", brief(&call.request)))
            }
            What::Server(me, ServerEvent::Inspected { zxid, znodes, sessions, .. }) => {
                if facts.history.position(*zxid).is_none() {
                    return Ok(());
                }
                same_tree(&facts.model, *zxid, znodes, sessions).map_err(|why| format!("server {me} at {zxid}: {why}"))
            }
            _ => Ok(()),
        }
    }
}

fn expect<T: PartialEq + core::fmt::Debug>(what: &str, told: &T, truth: &T) -> Result<(), String> {
    if told == truth { Ok(()) } else { Err(format!("{what} is {}, the truth is {}", brief(told), brief(truth))) }
}

/// Data may be long.
fn brief(value: &impl core::fmt::Debug) -> String {
    let mut text = format!("{value:?}");
    if text.len() > BRIEF_MAX {
        let end = (0..=BRIEF_MAX).rev().find(|i| text.is_char_boundary(*i)).unwrap_or_default();
        text.truncate(end);
        text.push_str("...");
    }
    text
}

fn stat_at(model: &Model, path: &str, at: Zxid) -> Option<Stat> {
    model.znode(path, at).map(|z| z.stat)
}

/// A reply against the state, or the transaction, that its zxid stands for.
fn answered(facts: &Facts, at: Zxid, call: &Call, outcome: &Result<Reply, ErrorCode>) -> Result<(), String> {
    let model = &facts.model;
    let path = match &call.request {
        Request::Exists { path, .. }
        | Request::GetData { path, .. }
        | Request::GetChildren { path, .. }
        | Request::GetAcl { path }
        | Request::CountDescendants { path } => path,
        Request::Create { .. }
        | Request::Delete { .. }
        | Request::SetData { .. }
        | Request::SetAcl { .. }
        | Request::Multi(_) => {
            return write_answered(model, at, call, outcome);
        }
        Request::MultiRead(parts) => return all_read(model, at, parts, outcome),
        Request::GetEphemerals { prefix } => {
            let Ok(Reply::Paths(paths)) = outcome else { return Err(format!("{outcome:?} is no answer to that")) };
            let mut paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            paths.sort_unstable();
            return expect("the list of ephemerals", &paths, &model.owned(call.session, prefix, at).collect());
        }
        // Which of the two is right the twin of the watches knows.
        Request::RemoveWatches { .. } if *outcome == Err(ErrorCode::NoWatcher) => return Ok(()),
        Request::AddWatch { .. }
        | Request::RemoveWatches { .. }
        | Request::SetWatches(_)
        | Request::Sync { .. }
        | Request::Close => {
            return match outcome {
                Ok(Reply::Done) => Ok(()),
                Err(code) => about_session(facts, at, call, *code)
                    .unwrap_or_else(|| Err(format!("it was refused with {code} and should not have been"))),
                Ok(other) => Err(format!("{other:?} is no answer to that")),
            };
        }
    };
    if is_unfollowed(path) {
        return Ok(());
    }
    match outcome {
        Err(ErrorCode::NoNode) => expect("a znode that is not there", &None, &stat_at(model, path, at)),
        Err(code) => Err(format!("{code} is no answer to that")),
        Ok(Reply::Stat(stat)) => expect("the stat", &Some(stat), &stat_at(model, path, at).as_ref()),
        Ok(Reply::Data { data, stat }) => {
            expect("the stat", &Some(stat), &stat_at(model, path, at).as_ref())?;
            expect("the data", &data.as_ref(), &model.znode(path, at).and_then(|z| z.data.as_ref()))
        }
        Ok(Reply::Children { names, stat }) => {
            expect("the stat", &Some(stat), &stat_at(model, path, at).as_ref())?;
            let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
            names.sort_unstable();
            expect("the list of children", &names, &model.children(path, at))
        }
        Ok(Reply::Acl { acl, stat }) => {
            expect("the stat", &Some(stat), &stat_at(model, path, at).as_ref())?;
            expect("the ACL", &Some(acl), &model.znode(path, at).map(|z| &*z.acl))
        }
        Ok(Reply::Count(n)) => {
            expect("whether it is there", &true, &stat_at(model, path, at).is_some())?;
            expect("the number of descendants", &usize::try_from(*n).ok(), &Some(model.descendants(path, at)))
        }
        Ok(other) => Err(format!("{other:?} is no answer to that")),
    }
}

/// Every part of a multiRead shows the same state.
fn all_read(model: &Model, at: Zxid, parts: &[ReadPart], outcome: &Result<Reply, ErrorCode>) -> Result<(), String> {
    if *outcome == Err(ErrorCode::MarshallingError) {
        let len = |part: &ReadPart| {
            let (ReadPart::Data(path) | ReadPart::Children(path)) = part;
            model.znode(path, at).and_then(|z| z.data.as_ref()).map_or(0, |data| data.len())
        };
        return expect("whether it is too long", &true, &(parts.iter().map(len).sum::<usize>() > REPLY_LONG));
    }
    let Ok(Reply::MultiRead(replies)) = outcome else { return Err(format!("{outcome:?} is no answer to that")) };
    expect("the number of results", &replies.len(), &parts.len())?;
    parts.iter().zip(replies).try_for_each(|(part, reply)| {
        let (ReadPart::Data(path) | ReadPart::Children(path)) = part;
        if is_unfollowed(path) {
            return Ok(());
        }
        match (part, reply) {
            (_, ReadPartReply::Failed(code)) if *code == ErrorCode::NoNode.code() => {
                expect("a znode that is not there", &None, &stat_at(model, path, at))
            }
            (ReadPart::Data(_), ReadPartReply::Data { data, stat }) => {
                expect("a stat", &Some(stat), &stat_at(model, path, at).as_ref())?;
                expect("some data", &data.as_ref(), &model.znode(path, at).and_then(|z| z.data.as_ref()))
            }
            (ReadPart::Children(_), ReadPartReply::Children(names)) => {
                expect("whether it is there", &true, &stat_at(model, path, at).is_some())?;
                let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
                names.sort_unstable();
                expect("a list of children", &names, &model.children(path, at))
            }
            _ => Err(format!("{reply:?} for {part:?}")),
        }
    })
}

fn write_answered(model: &Model, at: Zxid, call: &Call, outcome: &Result<Reply, ErrorCode>) -> Result<(), String> {
    let record = model.record(at).filter(|r| (r.session, r.cxid) == (call.session, call.xid));
    let Some(record) = record else {
        return Err(format!("{outcome:?}, and the transaction is not of this request"));
    };
    match (outcome, &record.effects[..]) {
        (Err(code), [Effect::Failed(truth)]) if !record.multi => expect("the error", &code.code(), truth),
        (Ok(Reply::Done), [Effect::Done]) => Ok(()),
        (Ok(Reply::Stat(stat)), [Effect::Stat(truth)]) => expect("the stat", stat, truth),
        (Ok(Reply::Created { path, stat }), [Effect::Created { path: p, stat: s }]) => {
            created(path, stat.as_ref(), p, s)
        }
        (Ok(Reply::Multi(parts)), effects) if record.multi && parts.len() == effects.len() => {
            parts.iter().zip(effects).try_for_each(|(part, effect)| match (part, effect) {
                (PartReply::Done, Effect::Done) => Ok(()),
                (PartReply::Stat(stat), Effect::Stat(truth)) => expect("a stat", stat, truth),
                (PartReply::Created { path, stat }, Effect::Created { path: p, stat: s }) => {
                    created(path, stat.as_ref(), p, s)
                }
                (PartReply::Failed(code), Effect::Failed(truth)) => expect("an error", code, truth),
                _ => Err(format!("{part:?} for {effect:?}")),
            })
        }
        (outcome, effects) => Err(format!("{outcome:?} for {effects:?}")),
    }
}

fn created(path: &str, stat: Option<&Stat>, truth: &str, true_stat: &Stat) -> Result<(), String> {
    expect("the path", &path, &truth)?;
    stat.map_or(Ok(()), |s| expect("the stat", s, true_stat))
}

/// A committed write against the request, and against the state before it.
fn did_what_was_asked(facts: &Facts, zxid: Zxid, record: &Record, call: &Call) -> Result<(), String> {
    let (model, before) = (&facts.model, Model::before(zxid));
    match (&call.request, &record.effects[..]) {
        (Request::Multi(parts), effects) if record.multi && parts.len() == effects.len() => {
            multi::did(model, before, parts, effects, |code| about_session(facts, before, call, code))?;
            let left = |(part, effect)| part_left(model, zxid, call.session, parts, part, effect);
            parts.iter().zip(effects).try_for_each(left)
        }
        (request, [Effect::Failed(code)]) => {
            let code = ErrorCode::from_code(*code).ok_or_else(|| format!("it was refused with {code}"))?;
            about_session(facts, before, call, code).unwrap_or_else(|| refused_rightly(model, before, request, code))
        }
        (Request::Create { path: prefix, data, mode, ttl, .. }, [Effect::Created { path, .. }]) => {
            name_fits(prefix, path, mode.is_sequential())?;
            let owner = model.znode(path, zxid).map(|z| z.owner);
            expect("the owner", &owner, &Some(owner_of(*mode, *ttl, call.session)))?;
            expect("the ACL", &model.znode(path, zxid).map(|z| &*z.acl), &Some(&open_acl()))?;
            expect("the data", &Some(data), &model.znode(path, zxid).and_then(|z| z.data.as_ref()))
        }
        (Request::Delete { path, version }, [Effect::Done]) => {
            expect("what is left", &model.znode(path, zxid), &None)?;
            version_fits(*version, model.znode(path, before).map(|z| z.stat.version))
        }
        (Request::SetData { path, data, version }, [Effect::Stat(_)]) => {
            expect("the data", &Some(data), &model.znode(path, zxid).and_then(|z| z.data.as_ref()))?;
            version_fits(*version, model.znode(path, before).map(|z| z.stat.version))
        }
        (Request::SetAcl { path, network, version }, [Effect::Stat(_)]) => {
            let acl = model.znode(path, zxid).map(|z| &*z.acl);
            expect("the ACL", &acl, &Some(&Request::acl(*network)))?;
            version_fits(*version, model.znode(path, before).map(|z| z.stat.aversion))
        }
        (Request::Close, [Effect::Done]) if record.closes => Ok(()),
        (_, effects) => Err(format!("it became {effects:?}")),
    }
}

fn name_fits(prefix: &str, path: &str, sequential: bool) -> Result<(), String> {
    let fits = if sequential { path.starts_with(prefix) } else { path == prefix };
    if fits { Ok(()) } else { Err(format!("{path} was created")) }
}

fn version_fits(asked: i32, was: Option<i32>) -> Result<(), String> {
    if asked == -1 || Some(asked) == was { Ok(()) } else { Err(format!("the version was {was:?}")) }
}

/// What the owner field of such a znode says.
fn owner_of(mode: CreateMode, ttl: Option<i64>, session: SessionId) -> i64 {
    match mode {
        CreateMode::Ephemeral | CreateMode::EphemeralSequential => session.0,
        CreateMode::Container => Owner::Container.encode(),
        CreateMode::PersistentTtl | CreateMode::PersistentSequentialTtl => {
            Owner::Ttl(ttl.and_then(|ttl| u64::try_from(ttl).ok()).unwrap_or_default()).encode()
        }
        CreateMode::Persistent | CreateMode::PersistentSequential => 0,
    }
}

/// The list of every znode that simulated clients create.
fn open_acl() -> Vec<Acl<'static>> {
    vec![Acl::world(perms::ALL)]
}

/// What is in the tree of one operation of a multi that succeeded, unless a later one touched the same znode.
fn part_left(
    model: &Model,
    zxid: Zxid,
    session: SessionId,
    parts: &[MultiPart],
    part: &MultiPart,
    effect: &Effect,
) -> Result<(), String> {
    let path = match (part, effect) {
        (MultiPart::Create { .. }, Effect::Created { path, .. }) => path,
        (MultiPart::SetData { path, .. }, Effect::Stat(_)) => path,
        _ => return Ok(()),
    };
    let touches = |other: &&MultiPart| match other {
        MultiPart::Delete { path: p, .. } | MultiPart::SetData { path: p, .. } => p == path,
        MultiPart::Create { .. } | MultiPart::Check { .. } => false,
    };
    let (MultiPart::Create { data, .. } | MultiPart::SetData { data, .. }) = part else { return Ok(()) };
    if parts.iter().filter(touches).any(|other| !core::ptr::eq(other, part)) {
        return Ok(());
    }
    let left = model.znode(path, zxid);
    expect("the data", &Some(data), &left.and_then(|z| z.data.as_ref()))?;
    match part {
        MultiPart::Create { mode, .. } => {
            expect("the owner", &left.map(|z| z.owner), &Some(owner_of(*mode, None, session)))?;
            expect("the ACL", &left.map(|z| &*z.acl), &Some(&open_acl()))
        }
        _ => Ok(()),
    }
}

/// Judges an error that is about the session and its connections; `None` if it is another one.
fn about_session(facts: &Facts, before: Zxid, call: &Call, code: ErrorCode) -> Option<Result<(), String>> {
    match code {
        ErrorCode::SessionExpired => Some(session_was_over(&facts.model, before, call.session)),
        ErrorCode::SessionMoved if facts.may_have_moved(call) => Some(Ok(())),
        ErrorCode::SessionMoved => {
            Some(Err(format!("session {} is on {:?} and was on no other since", call.session, call.dial)))
        }
        _ => None,
    }
}

/// Whether the state before a refused write gives reason to refuse it.
fn refused_rightly(model: &Model, before: Zxid, request: &Request, code: ErrorCode) -> Result<(), String> {
    let here = |path: &str| model.znode(path, before);
    let parent = |path: &str| here(split(path).0);
    let is_right = match (request, code) {
        (Request::Create { path, .. }, ErrorCode::NoNode) => parent(path).is_none(),
        (Request::Create { path, mode, .. }, ErrorCode::NodeExists) => mode.is_sequential() || here(path).is_some(),
        (Request::Create { path, .. }, ErrorCode::NoChildrenForEphemerals) => {
            parent(path).is_some_and(|z| z.stat.ephemeral_owner != 0)
        }
        (
            Request::Delete { path, .. } | Request::SetData { path, .. } | Request::SetAcl { path, .. },
            ErrorCode::NoNode,
        ) => here(path).is_none(),
        (Request::SetAcl { path, version, .. }, ErrorCode::BadVersion) => {
            *version != -1 && here(path).is_some_and(|z| z.stat.aversion != *version)
        }
        (Request::Delete { path, version } | Request::SetData { path, version, .. }, ErrorCode::BadVersion) => {
            *version != -1 && here(path).is_some_and(|z| z.stat.version != *version)
        }
        (Request::Delete { path, .. }, ErrorCode::NotEmpty) => here(path).is_some_and(|z| z.stat.num_children > 0),
        _ => false,
    };
    if is_right { Ok(()) } else { Err(format!("it was refused with {code} and should not have been")) }
}

/// A session that is about to end is over for its leader from the proposal of its end on, so the end may lie ahead.
fn session_was_over(model: &Model, before: Zxid, session: SessionId) -> Result<(), String> {
    match model.session(session) {
        Some(span) if span.closed.is_none() => {
            Err(format!("it was refused at {before} since session {session} were over, and it is open"))
        }
        _ => Ok(()),
    }
}

fn same_tree(model: &Model, at: Zxid, znodes: &[SeenZnode], sessions: &[(SessionId, i32)]) -> Result<(), String> {
    let mut count = 0;
    for seen in znodes.iter().filter(|z| !is_unfollowed(&z.path)) {
        count += 1;
        let truth = model.znode(&seen.path, at);
        let Some(truth) = truth else { return Err(format!("{} is there, and must not be", seen.path)) };
        expect(&format!("the stat of {}", seen.path), &seen.stat, &truth.stat)?;
        expect(&format!("the data of {}", seen.path), &seen.data, &truth.data)?;
        expect(&format!("the ACL of {}", seen.path), &seen.acl, &*truth.acl)?;
    }
    let all = model.paths(at).count();
    if all != count {
        let missing = model.paths(at).find(|(path, _)| !znodes.iter().any(|z| z.path == *path));
        return Err(format!("it has {count} znodes, not {all}; missing is {:?}", missing.map(|(p, _)| p)));
    }
    let mut sessions: Vec<(SessionId, i32)> = sessions.to_vec();
    sessions.sort_unstable();
    expect("the list of sessions", &sessions, &model.open_sessions(at).collect())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, create, set_data};
    use super::*;
    use crate::observe::{DialId, HeldWatches};
    use bytes::Bytes;
    use farrier_proto::client::WatcherType;
    use farrier_proto::txn::{CreateContainerTxn, CreateTtlTxn, CreateTxn, SetAclTxn};
    use farrier_proto::{ServerId, Txn};

    fn verdict(play: &Play) -> Result<(), String> {
        play.verdict(Box::new(Oracle))
    }

    #[test]
    fn stale_data_under_a_new_zxid_is_caught() {
        let mut play = Play::elected();
        play.commit((SessionId::NONE, 0, create("/a", 1)));
        play.commit(set_data("/a", 0, "old"));
        let old = play.facts().model.latest("/a").expect("it was created").clone();
        play.commit(set_data("/a", 1, "new"));
        play.connect();
        let call = play.invoke(Request::GetData { path: "/a".into(), watch: false });
        let mut lawful = play.clone();
        lawful.answer_read(call);
        assert_eq!(verdict(&lawful), Ok(()));
        play.answer(call, play.tip(), Ok(Reply::Data { data: old.data, stat: old.stat }));
        assert!(verdict(&play).is_err());
    }

    #[test]
    fn a_missing_child_is_caught() {
        let mut play = Play::elected();
        play.commit((SessionId::NONE, 0, create("/a", 1)));
        play.connect();
        let call = play.invoke(Request::GetChildren { path: "/".into(), watch: false });
        let mut lawful = play.clone();
        lawful.answer_read(call);
        assert_eq!(verdict(&lawful), Ok(()));
        let stat = play.facts().model.latest("/").expect("the root").stat;
        play.answer(call, play.tip(), Ok(Reply::Children { names: vec!["zookeeper".into()], stat }));
        assert!(verdict(&play).is_err());
    }

    #[test]
    fn the_wrong_acl_and_a_part_of_another_state_are_caught() {
        let mut play = Play::elected();
        play.commit((SessionId::NONE, 0, create("/a", 1)));
        let before = play.facts().model.latest("/a").expect("it was created").clone();
        let txn = SetAclTxn { path: "/a".into(), acl: Request::acl(3), version: 1 };
        play.commit((SessionId::NONE, 0, Txn::SetAcl(txn)));
        let znode = play.facts().model.latest("/a").expect("it is there").clone();
        play.connect();
        let answered = |request: Request, reply: Reply| {
            let mut play = play.clone();
            let call = play.invoke(request);
            play.answer(call, play.tip(), Ok(reply));
            verdict(&play).is_ok()
        };
        let get = || Request::GetAcl { path: "/a".into() };
        assert!(answered(get(), Reply::Acl { acl: Request::acl(3), stat: znode.stat }));
        assert!(!answered(get(), Reply::Acl { acl: Request::acl(4), stat: znode.stat }));
        let read = || Request::MultiRead(vec![ReadPart::Data("/a".into()), ReadPart::Children("/none".into())]);
        let parts = |stat| {
            let data = ReadPartReply::Data { data: znode.data.clone(), stat };
            Reply::MultiRead(vec![data, ReadPartReply::Failed(ErrorCode::NoNode.code())])
        };
        assert!(answered(read(), parts(znode.stat)));
        assert!(!answered(read(), parts(before.stat)));
        let count = || Request::CountDescendants { path: "/a".into() };
        assert!(answered(count(), Reply::Count(0)) && !answered(count(), Reply::Count(1)));
        let mine = || Request::GetEphemerals { prefix: "/".into() };
        assert!(answered(mine(), Reply::Paths(vec![])) && !answered(mine(), Reply::Paths(vec!["/a".into()])));
    }

    #[test]
    fn another_effect_than_asked_for_is_caught() {
        let mut play = Play::elected();
        play.connect();
        let call = play.invoke(Play::set_request("/", "x"));
        let mut lawful = play.clone();
        lawful.commit(lawful.of_client(call, set_data("/", 0, "x")));
        assert_eq!(verdict(&lawful), Ok(()));
        play.commit(play.of_client(call, set_data("/", 0, "y")));
        assert!(verdict(&play).is_err());
    }

    #[test]
    fn another_kind_of_znode_than_asked_for_is_caught() {
        let created = |mode, ttl, txn: &dyn Fn(CreateTxn<'static>) -> Txn<'static>| {
            let mut play = Play::elected();
            play.connect();
            let data = Bytes::from_static(b"x");
            let call = play.invoke(Request::Create { path: "/a".into(), data, mode, ttl, plain: true });
            let (data, acl) = (Some(b"x".as_slice().into()), open_acl());
            let txn = txn(CreateTxn { path: "/a".into(), data, acl, ephemeral: false, parent_cversion: 1 });
            play.commit(play.of_client(call, txn));
            verdict(&play)
        };
        let persistent = |t: CreateTxn<'static>| Txn::Create(t);
        let ephemeral = |t: CreateTxn<'static>| Txn::Create(CreateTxn { ephemeral: true, ..t });
        let container = |t: CreateTxn<'static>| {
            let CreateTxn { path, data, acl, parent_cversion, .. } = t;
            Txn::CreateContainer(CreateContainerTxn { path, data, acl, parent_cversion })
        };
        let ttl = |t: CreateTxn<'static>| {
            let CreateTxn { path, data, acl, parent_cversion, .. } = t;
            Txn::CreateTtl(CreateTtlTxn { path, data, acl, parent_cversion, ttl: 500 })
        };
        assert_eq!(created(CreateMode::Persistent, None, &persistent), Ok(()));
        assert_eq!(created(CreateMode::Ephemeral, None, &ephemeral), Ok(()));
        assert_eq!(created(CreateMode::Container, None, &container), Ok(()));
        assert_eq!(created(CreateMode::PersistentTtl, Some(500), &ttl), Ok(()));
        assert!(created(CreateMode::Ephemeral, None, &persistent).is_err());
        assert!(created(CreateMode::Persistent, None, &ephemeral).is_err());
        assert!(created(CreateMode::Container, None, &persistent).is_err());
        assert!(created(CreateMode::PersistentTtl, Some(501), &ttl).is_err());
    }

    #[test]
    fn refusals_need_a_reason() {
        let mut play = Play::elected();
        play.connect();
        let request = |path: &str| Request::Delete { path: path.into(), version: -1 };
        let call = play.invoke(request("/none"));
        play.commit(play.of_client(call, (SessionId::NONE, 0, Txn::error(ErrorCode::NoNode))));
        assert_eq!(verdict(&play), Ok(()));
        play.commit((SessionId::NONE, 0, create("/a", 1)));
        let call = play.invoke(request("/a"));
        play.commit(play.of_client(call, (SessionId::NONE, 0, Txn::error(ErrorCode::NoNode))));
        assert!(verdict(&play).is_err());
    }

    #[test]
    fn what_no_leader_may_propose_is_caught() {
        let bad: [Txn<'static>; 4] =
            [create("/a", 2), Txn::Delete("/none".into()), set_data("/", 1, "x").2, create("/none/a", 1)];
        for txn in bad {
            let mut play = Play::elected();
            play.commit((SessionId::NONE, 0, txn));
            assert!(verdict(&play).is_err());
        }
    }

    #[test]
    fn only_what_is_due_is_swept_away() {
        let container = || {
            let (data, acl) = (None, vec![]);
            Txn::CreateContainer(CreateContainerTxn { path: "/a".into(), data, acl, parent_cversion: 1 })
        };
        let ttl = || {
            let (data, acl) = (None, vec![]);
            Txn::CreateTtl(CreateTtlTxn { path: "/a".into(), data, acl, parent_cversion: 1, ttl: 500 })
        };
        let swept = |changes: Vec<Txn<'static>>, ms: u64| {
            let mut play = Play::elected();
            changes.into_iter().for_each(|txn| drop(play.commit((SessionId::NONE, 0, txn))));
            play.pass(ms);
            play.commit((SessionId::NONE, 0, Txn::DeleteContainer("/a".into())));
            verdict(&play)
        };
        let used = || vec![container(), create("/a/b", 1), Txn::Delete("/a/b".into())];
        assert_eq!(swept(used(), 0), Ok(()));
        assert!(swept(used()[..2].to_vec(), 0).is_err(), "it has a child");
        assert!(swept(vec![container()], 10_000).is_err(), "it never had a child");
        assert_eq!(swept(vec![ttl()], 600), Ok(()));
        assert!(swept(vec![ttl()], 400).is_err());
        assert!(swept(vec![create("/a", 1)], 10_000).is_err());
    }

    #[test]
    fn what_cannot_fail_must_not_be_refused() {
        let refused = |request: Request, code: ErrorCode, before: &dyn Fn(&mut Play)| {
            let mut play = Play::elected();
            play.connect();
            let call = play.invoke(request);
            before(&mut play);
            play.answer(call, play.tip(), Err(code));
            verdict(&play).is_err()
        };
        let nothing = |_: &mut Play| {};
        let sync = || Request::Sync { path: "/".into() };
        assert!(refused(sync(), ErrorCode::SystemError, &nothing));
        assert!(refused(Request::SetWatches(HeldWatches::default()), ErrorCode::MarshallingError, &nothing));
        assert!(refused(Request::AddWatch { path: "/".into(), recursive: true }, ErrorCode::NoNode, &nothing));
        let remove = || Request::RemoveWatches { path: "/".into(), kind: WatcherType::Any };
        assert!(!refused(remove(), ErrorCode::NoWatcher, &nothing));
        assert!(refused(remove(), ErrorCode::NoNode, &nothing));
        assert!(refused(Play::set_request("/", "x"), ErrorCode::MarshallingError, &nothing));
        assert!(refused(Request::Close, ErrorCode::SessionExpired, &nothing));
    }

    #[test]
    fn who_moved_nowhere_must_not_be_told_that_it_did() {
        let moved = |before: &dyn Fn(&mut Play)| {
            let mut play = Play::elected();
            play.connect();
            before(&mut play);
            let call = play.invoke(Play::set_request("/", "x"));
            play.commit(play.of_client(call, Txn::error(ErrorCode::SessionMoved)));
            verdict(&play)
        };
        assert!(moved(&|_| {}).is_err());
        let again = |p: &mut Play| {
            p.reconnect();
        };
        assert!(moved(&again).is_err(), "it is where it was last");
        let dial = |n| {
            move |p: &mut Play| {
                let (dial, server, session) = (DialId(n), ServerId(2), p.session());
                p.client(ClientEvent::Dialled { dial, server, session, seen: Zxid::ZERO, timeout: 6000 });
            }
        };
        assert_eq!(moved(&dial(1)), Ok(()), "it left for another server");
        let both = |p: &mut Play| {
            dial(1)(p);
            dial(2)(p);
            p.reconnect();
            p.reconnect();
        };
        assert!(moved(&both).is_err(), "both were attached");
        let late = |p: &mut Play| {
            dial(0)(p);
            p.reconnect();
        };
        assert_eq!(moved(&late), Ok(()), "what it gave up without an answer may come late");
    }

    #[test]
    fn another_tree_is_caught() {
        let mut play = Play::elected();
        play.commit((SessionId::NONE, 0, create("/a", 1)));
        let all: Vec<SeenZnode> = play
            .facts()
            .model
            .paths(play.tip())
            .map(|(path, z)| SeenZnode { path: path.into(), stat: z.stat, data: z.data.clone(), acl: z.acl.to_vec() })
            .collect();
        let inspected = |znodes: &[SeenZnode]| ServerEvent::Inspected {
            zxid: play.tip(),
            digest: None,
            znodes: znodes.to_vec(),
            sessions: vec![],
        };
        let mut closed = all.clone();
        closed[1].acl = vec![Acl::world(perms::READ)];
        let [whole, part, closed] = [&all[..], &all[1..], &closed[..]].map(inspected);
        play.server(2, whole);
        assert_eq!(verdict(&play), Ok(()));
        let mut other = play.clone();
        other.server(2, closed);
        assert!(verdict(&other).is_err());
        play.server(2, part);
        assert!(verdict(&play).is_err());
    }
}
