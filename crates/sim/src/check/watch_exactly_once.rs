//! Every watch is told exactly what it must be told, in the order of the changes: a one-shot watch one event, persistent
//! ones each, and after a reconnect what was missed and nothing else.

use super::{Checker, Facts, WatchFault};
use crate::observe::Observation;

/// See the module; the events that are due are computed by the facts' twin of the watch table.
#[derive(Debug, Default)]
pub(super) struct WatchExactlyOnce;

impl Checker for WatchExactlyOnce {
    fn name(&self) -> &'static str {
        "watch-exactly-once"
    }

    fn observe(&mut self, facts: &Facts, _observation: &Observation) -> Result<(), String> {
        match &facts.news.watch {
            Some(WatchFault::Wrong(what)) => Err(what.clone()),
            Some(WatchFault::Late(_)) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, create, set_data};
    use super::*;
    use crate::observe::{ClientEvent, DialId, HeldWatches, Reply, Request};
    use farrier_proto::client::{EventType, WatcherType};
    use farrier_proto::{ErrorCode, SessionId};

    fn changed(play: &mut Play, dial: DialId) {
        let zxid = play.tip().to_wire();
        play.client(ClientEvent::Watched { dial, zxid, kind: EventType::NodeDataChanged, path: "/".into() });
    }

    #[test]
    fn twice_is_caught_and_a_persistent_watch_hears_twice() {
        for persistent in [false, true] {
            let mut play = Play::elected();
            let dial = play.connect();
            let request = if persistent {
                Request::AddWatch { path: "/".into(), recursive: true }
            } else {
                Request::GetData { path: "/".into(), watch: true }
            };
            let call = play.invoke(request);
            play.answer_read(call);
            play.commit(set_data("/", 0, "x"));
            changed(&mut play, dial);
            assert_eq!(play.verdict(Box::new(WatchExactlyOnce)), Ok(()));
            let mut again = play.clone();
            changed(&mut again, dial);
            assert!(again.verdict(Box::new(WatchExactlyOnce)).is_err(), "the same event twice");
            play.commit(set_data("/", 1, "y"));
            changed(&mut play, dial);
            assert_eq!(play.verdict(Box::new(WatchExactlyOnce)).is_ok(), persistent);
        }
    }

    #[test]
    fn a_reconnect_tells_what_was_missed() {
        let mut play = Play::elected();
        play.commit((SessionId::NONE, 0, create("/a", 1)));
        play.connect();
        let since = play.tip().to_wire();
        play.commit(set_data("/a", 0, "x"));
        let dial = play.reconnect();
        let held = HeldWatches { since, data: vec!["/a".into()], child: vec!["/a".into()], ..HeldWatches::default() };
        let call = play.invoke(Request::SetWatches(held));
        let mut silent = play.clone();
        silent.answer(call, silent.tip(), Ok(Reply::Done));
        assert!(silent.verdict(Box::new(WatchExactlyOnce)).is_err());
        play.client(ClientEvent::Watched { dial, zxid: -1, kind: EventType::NodeDataChanged, path: "/a".into() });
        play.answer(call, play.tip(), Ok(Reply::Done));
        assert_eq!(play.verdict(Box::new(WatchExactlyOnce)), Ok(()));
    }

    #[test]
    fn an_event_without_a_zxid_that_nobody_asked_for_is_caught() {
        let mut play = Play::elected();
        let dial = play.connect();
        let call = play.invoke(Request::GetData { path: "/".into(), watch: true });
        let mut lawful = play.clone();
        lawful.answer_read(call);
        assert_eq!(lawful.verdict(Box::new(WatchExactlyOnce)), Ok(()));
        play.client(ClientEvent::Watched { dial, zxid: -1, kind: EventType::NodeDataChanged, path: "/".into() });
        play.answer_read(call);
        assert!(play.verdict(Box::new(WatchExactlyOnce)).is_err());
    }

    #[test]
    fn a_removed_watch_must_have_been_there() {
        let mut play = Play::elected();
        play.commit(set_data("/", 0, "x"));
        play.connect();
        let call = play.invoke(Request::RemoveWatches { path: "/".into(), kind: WatcherType::Any });
        let mut lawful = play.clone();
        lawful.answer(call, lawful.tip(), Err(ErrorCode::NoWatcher));
        assert_eq!(lawful.verdict(Box::new(WatchExactlyOnce)), Ok(()));
        play.answer(call, play.tip(), Ok(Reply::Done));
        assert!(play.verdict(Box::new(WatchExactlyOnce)).is_err());
    }
}
