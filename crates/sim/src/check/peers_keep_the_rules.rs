//! No server of ours breaks the rules between peers in the eyes of another: what a `PeerViolation` refuses is a mistake
//! of the one or of the other.

use super::{Checker, Facts};
use crate::observe::{Observation, ServerEvent, What};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PeersKeepTheRules;

impl Checker for PeersKeepTheRules {
    fn name(&self) -> &'static str {
        "peers-keep-the-rules"
    }

    fn observe(&mut self, _: &Facts, observation: &Observation) -> Result<(), String> {
        match &observation.what {
            What::Server(me, ServerEvent::PeerRefused { peer, reason }) => {
                let peer = peer.map_or_else(|| "a peer".to_owned(), |p| format!("server {p}"));
                Err(format!("server {me} refuses {peer}: {reason}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Play;
    use super::*;
    use farrier_proto::ServerId;

    #[test]
    fn a_refusal_is_caught() {
        let mut play = Play::elected();
        assert_eq!(play.verdict(Box::<PeersKeepTheRules>::default()), Ok(()));
        let reason = "PeerViolation: COMMIT of what was not proposed".to_owned();
        play.server(2, ServerEvent::PeerRefused { peer: Some(ServerId(1)), reason });
        assert!(play.verdict(Box::<PeersKeepTheRules>::default()).is_err());
    }
}
