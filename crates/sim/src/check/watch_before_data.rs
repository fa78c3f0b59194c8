//! A client hears of a change that it watches before it is shown a state with that change.

use super::{Checker, Facts, WatchFault};
use crate::observe::Observation;

/// See the module; the events that are due are computed by the facts' twin of the watch table.
#[derive(Debug, Default)]
pub(super) struct WatchBeforeData;

impl Checker for WatchBeforeData {
    fn name(&self) -> &'static str {
        "watch-before-data"
    }

    fn observe(&mut self, facts: &Facts, _observation: &Observation) -> Result<(), String> {
        match &facts.news.watch {
            Some(WatchFault::Late(what)) => Err(what.clone()),
            Some(WatchFault::Wrong(_)) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, set_data};
    use super::*;
    use crate::observe::{ClientEvent, Request};
    use farrier_proto::client::EventType;

    #[test]
    fn data_before_the_event_is_caught() {
        let mut play = Play::elected();
        play.commit(set_data("/", 0, "x"));
        let dial = play.connect();
        let call = play.invoke(Request::GetData { path: "/".into(), watch: true });
        play.answer_read(call);
        play.commit(set_data("/", 1, "y"));
        let zxid = play.tip().to_wire();
        let mut lawful = play.clone();
        lawful.client(ClientEvent::Watched { dial, zxid, kind: EventType::NodeDataChanged, path: "/".into() });
        lawful.client(ClientEvent::Ponged { dial, zxid });
        assert_eq!(lawful.verdict(Box::new(WatchBeforeData)), Ok(()));
        play.client(ClientEvent::Ponged { dial, zxid });
        assert!(play.verdict(Box::new(WatchBeforeData)).is_err());
    }
}
