//! Numbers of sequential names are unique under a parent, and grow as long as it lives.

use super::{Checker, Effect, Facts};
use crate::observe::{MultiPart, Observation, Request};
use farrier_proto::Zxid;
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct SequenceNumbers {
    /// By parent: its birth, and the last number.
    last: BTreeMap<String, (Zxid, u64)>,
}

/// Digits behind a sequential name.
const DIGITS: usize = 10;

impl SequenceNumbers {
    fn created(&mut self, facts: &Facts, zxid: Zxid, prefix: &str, path: &str) -> Result<(), String> {
        let number = path.strip_prefix(prefix).filter(|n| n.len() == DIGITS).and_then(|n| n.parse::<u64>().ok());
        let Some(number) = number else {
            return Err(format!("at {zxid} the sequential name {prefix} became {path}"));
        };
        let parent = super::model::split(path).0;
        let born = facts.model.latest(parent).map_or(Zxid::ZERO, |z| z.stat.czxid);
        match self.last.insert(parent.to_owned(), (born, number)) {
            Some((before, last)) if before == born && last >= number => {
                Err(format!("at {zxid} {path} is created; the last number under {parent} was {last}"))
            }
            _ => Ok(()),
        }
    }
}

impl Checker for SequenceNumbers {
    fn name(&self) -> &'static str {
        "sequence-numbers"
    }

    fn observe(&mut self, facts: &Facts, _observation: &Observation) -> Result<(), String> {
        for zxid in &facts.news.committed {
            let Some(record) = facts.model.record(*zxid) else { continue };
            let Some(call) = facts.write(record.session, record.cxid) else { continue };
            match (&call.request, &record.effects[..]) {
                (Request::Create { path: prefix, mode, .. }, [Effect::Created { path, .. }])
                    if mode.is_sequential() =>
                {
                    self.created(facts, *zxid, prefix, path)?;
                }
                (Request::Multi(parts), effects) => {
                    for (part, effect) in parts.iter().zip(effects) {
                        if let (MultiPart::Create { path: prefix, mode, .. }, Effect::Created { path, .. }) =
                            (part, effect)
                            && mode.is_sequential()
                        {
                            self.created(facts, *zxid, prefix, path)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, create};
    use super::*;
    use bytes::Bytes;
    use farrier_proto::client::CreateMode;

    fn sequential(play: &mut Play, path: &str, creations: i32) {
        let request = Request::Create {
            path: "/s-".into(),
            data: Bytes::new(),
            mode: CreateMode::PersistentSequential,
            ttl: None,
            plain: false,
        };
        let call = play.invoke(request);
        play.commit(play.of_client(call, create(path, creations)));
    }

    #[test]
    fn a_number_again_is_caught() {
        let mut play = Play::elected();
        play.connect();
        sequential(&mut play, "/s-0000000000", 1);
        sequential(&mut play, "/s-0000000001", 2);
        assert_eq!(play.verdict(Box::<SequenceNumbers>::default()), Ok(()));
        let mut other = play.clone();
        sequential(&mut other, "/s-2", 3);
        assert!(other.verdict(Box::<SequenceNumbers>::default()).is_err());
        play.commit((farrier_proto::SessionId::NONE, 0, farrier_proto::Txn::Delete("/s-0000000001".into())));
        sequential(&mut play, "/s-0000000001", 3);
        assert!(play.verdict(Box::<SequenceNumbers>::default()).is_err());
    }
}
