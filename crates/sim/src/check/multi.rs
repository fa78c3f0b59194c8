//! What a multi must have come to: its operations one after the other, each in the state that those before it left.

use super::model::{is_unfollowed, split};
use super::{Effect, Model};
use crate::observe::MultiPart;
use farrier_proto::{ErrorCode, Zxid};
use std::collections::BTreeMap;

/// A znode as far as operations of a multi depend on it.
#[derive(Clone, Copy, Debug)]
struct Sketch {
    version: i32,
    children: i32,
    creations: i32,
    ephemeral: bool,
}

/// The state before a multi, with what its first operations did.
struct Scratch<'a> {
    model: &'a Model,
    before: Zxid,
    /// `None` for gone.
    changed: BTreeMap<String, Option<Sketch>>,
}

impl Scratch<'_> {
    fn find(&self, path: &str) -> Option<Sketch> {
        if let Some(changed) = self.changed.get(path) {
            return *changed;
        }
        self.model.znode(path, self.before).map(|z| Sketch {
            version: z.stat.version,
            children: z.stat.num_children,
            creations: z.creations,
            ephemeral: z.stat.ephemeral_owner != 0,
        })
    }

    fn put(&mut self, path: &str, sketch: Option<Sketch>) {
        self.changed.insert(path.to_owned(), sketch);
    }

    /// The znode, if the operation names its version.
    fn expected(&self, path: &str, version: i32) -> Result<Sketch, ErrorCode> {
        let sketch = self.find(path).ok_or(ErrorCode::NoNode)?;
        if version == -1 || version == sketch.version { Ok(sketch) } else { Err(ErrorCode::BadVersion) }
    }

    /// Does one operation; the path of what it creates.
    fn take(&mut self, part: &MultiPart) -> Result<Option<String>, ErrorCode> {
        match part {
            MultiPart::Create { path, mode, .. } => {
                let parent_path = split(path).0.to_owned();
                let mut parent = self.find(&parent_path).ok_or(ErrorCode::NoNode)?;
                let path = if mode.is_sequential() { format!("{path}{:010}", parent.creations) } else { path.clone() };
                if self.find(&path).is_some() {
                    return Err(ErrorCode::NodeExists);
                }
                if parent.ephemeral {
                    return Err(ErrorCode::NoChildrenForEphemerals);
                }
                parent.children += 1;
                parent.creations += 1;
                self.put(&parent_path, Some(parent));
                let new = Sketch { version: 0, children: 0, creations: 0, ephemeral: mode.is_ephemeral() };
                self.put(&path, Some(new));
                Ok(Some(path))
            }
            MultiPart::Delete { path, version } => {
                if self.expected(path, *version)?.children > 0 {
                    return Err(ErrorCode::NotEmpty);
                }
                let parent_path = split(path).0;
                if let Some(mut parent) = self.find(parent_path) {
                    parent.children -= 1;
                    self.put(parent_path, Some(parent));
                }
                self.put(path, None);
                Ok(None)
            }
            MultiPart::SetData { path, version, .. } => {
                let mut sketch = self.expected(path, *version)?;
                sketch.version += 1;
                self.put(path, Some(sketch));
                Ok(None)
            }
            MultiPart::Check { path, version } => self.expected(path, *version).map(|_| None),
        }
    }
}

fn path_of(part: &MultiPart) -> &str {
    match part {
        MultiPart::Create { path, .. }
        | MultiPart::Delete { path, .. }
        | MultiPart::SetData { path, .. }
        | MultiPart::Check { path, .. } => path,
    }
}

/// A committed multi, one effect for each of its operations, against the state before it. `of_session` judges an error that
/// is about the session and not about znodes, which its first operation then meets; `None` if it is another one.
pub(super) fn did(
    model: &Model,
    before: Zxid,
    parts: &[MultiPart],
    effects: &[Effect],
    of_session: impl FnOnce(ErrorCode) -> Option<Result<(), String>>,
) -> Result<(), String> {
    if parts.iter().any(|part| is_unfollowed(path_of(part))) {
        return Ok(());
    }
    let refused = effects.iter().any(|e| matches!(e, Effect::Failed(code) if *code != 0));
    if refused
        && let Some(Effect::Failed(code)) = effects.first()
        && let Some(verdict) = ErrorCode::from_code(*code).and_then(of_session)
    {
        verdict?;
        return behind(&effects[1..]);
    }
    let mut scratch = Scratch { model, before, changed: BTreeMap::new() };
    for (n, (part, effect)) in parts.iter().zip(effects).enumerate() {
        let truth = scratch.take(part);
        match (&truth, effect) {
            (Ok(_), Effect::Failed(0)) if refused => {}
            (Ok(Some(path)), Effect::Created { path: created, .. }) if path == created => {}
            (Ok(None), Effect::Done) if matches!(part, MultiPart::Delete { .. } | MultiPart::Check { .. }) => {}
            (Ok(None), Effect::Stat(_)) if matches!(part, MultiPart::SetData { .. }) => {}
            (Err(code), Effect::Failed(told)) if code.code() == *told => return behind(&effects[n + 1..]),
            _ => return Err(format!("operation {n}, {part:?}, became {effect:?}, and {truth:?} is right")),
        }
    }
    if refused { Err(format!("no operation had to fail, and it became {effects:?}")) } else { Ok(()) }
}

/// What stands behind the operation that failed was never looked at.
fn behind(effects: &[Effect]) -> Result<(), String> {
    let unseen = Effect::Failed(ErrorCode::RuntimeInconsistency.code());
    if effects.iter().all(|e| *e == unseen) {
        Ok(())
    } else {
        Err(format!("behind the operation that failed stands {effects:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, create, ephemeral, set_data};
    use super::*;
    use bytes::Bytes;
    use farrier_proto::client::CreateMode;
    use farrier_proto::{SessionId, Stat};

    /// `/a` has version 1 and the child `/a/b`; `/e` is an ephemeral.
    fn judge(parts: &[MultiPart], effects: &[Effect]) -> Result<(), String> {
        let mut play = Play::elected();
        play.connect();
        play.commit((SessionId::NONE, 0, create("/a", 1)));
        play.commit(set_data("/a", 0, "x"));
        play.commit((SessionId::NONE, 0, create("/a/b", 1)));
        play.commit((play.session(), 0, ephemeral("/e", 2)));
        did(&play.facts().model, play.tip(), parts, effects, |_| None)
    }

    fn check(path: &str, version: i32) -> MultiPart {
        MultiPart::Check { path: path.into(), version }
    }

    fn delete(path: &str, version: i32) -> MultiPart {
        MultiPart::Delete { path: path.into(), version }
    }

    fn make(path: &str, mode: CreateMode) -> MultiPart {
        MultiPart::Create { path: path.into(), data: Bytes::new(), mode, plain: true }
    }

    fn created(path: &str) -> Effect {
        let stat = Play::elected().facts().model.latest("/").expect("the root").stat;
        Effect::Created { path: path.into(), stat: Stat { num_children: 0, ..stat } }
    }

    /// `None` stands in front of the operation that failed.
    fn failed(codes: &[Option<ErrorCode>]) -> Vec<Effect> {
        codes.iter().map(|code| Effect::Failed(code.map_or(0, ErrorCode::code))).collect()
    }

    #[test]
    fn a_version_that_was_named_must_be_there() {
        assert_eq!(judge(&[check("/a", 1)], &[Effect::Done]), Ok(()));
        assert!(judge(&[check("/a", 0)], &[Effect::Done]).is_err());
        assert!(judge(&[delete("/a/b", 3)], &[Effect::Done]).is_err());
        assert_eq!(judge(&[check("/a", 0)], &failed(&[Some(ErrorCode::BadVersion)])), Ok(()));
        assert!(judge(&[check("/a", 1)], &failed(&[Some(ErrorCode::BadVersion)])).is_err());
        assert!(judge(&[check("/a", 0)], &failed(&[Some(ErrorCode::NoNode)])).is_err());
    }

    #[test]
    fn operations_meet_what_those_before_them_did() {
        let parts = [
            delete("/a/b", 0),
            delete("/a", 1),
            make("/a", CreateMode::Persistent),
            check("/a", 0),
            make("/a/s-", CreateMode::PersistentSequential),
        ];
        let effects = [Effect::Done, Effect::Done, created("/a"), Effect::Done, created("/a/s-0000000000")];
        assert_eq!(judge(&parts, &effects), Ok(()));
        assert!(judge(&parts[1..], &effects[1..]).is_err(), "it has a child");
        let (not_empty, unseen) = (Some(ErrorCode::NotEmpty), Some(ErrorCode::RuntimeInconsistency));
        let refusal =
            |codes: &[Option<ErrorCode>]| judge(&[check("/a", 1), delete("/a", 1), check("/a", 1)], &failed(codes));
        assert_eq!(refusal(&[None, not_empty, unseen]), Ok(()));
        assert!(refusal(&[None, not_empty, None]).is_err());
        assert!(refusal(&[not_empty, unseen, unseen]).is_err());
        assert!(refusal(&[None, None, Some(ErrorCode::BadVersion)]).is_err());
        let of_session = |lawful: Result<(), String>| {
            let (parts, effects) =
                ([check("/a", 1), check("/a", 1)], failed(&[Some(ErrorCode::SessionExpired), unseen]));
            let play = Play::elected();
            did(&play.facts().model, play.tip(), &parts, &effects, |_| Some(lawful))
        };
        assert_eq!(of_session(Ok(())), Ok(()));
        assert!(of_session(Err("it is open".into())).is_err());
    }

    #[test]
    fn creations_need_a_parent_that_may_have_children() {
        let mode = CreateMode::Persistent;
        for (path, code) in [
            ("/none/x", ErrorCode::NoNode),
            ("/a/b", ErrorCode::NodeExists),
            ("/e/x", ErrorCode::NoChildrenForEphemerals),
        ] {
            assert_eq!(judge(&[make(path, mode)], &failed(&[Some(code)])), Ok(()));
            assert!(judge(&[make(path, mode)], &[created(path)]).is_err());
        }
        assert_eq!(judge(&[make("/a/c", mode)], &[created("/a/c")]), Ok(()));
        assert!(judge(&[make("/a/c", mode)], &[created("/a/d")]).is_err());
        assert!(judge(&[make("/a/s-", CreateMode::PersistentSequential)], &[created("/a/s-0000000007")]).is_err());
    }
}
