//! What is delivered was broadcast by the leader of its epoch, with the same bytes, and every log that holds a
//! transaction holds the same bytes under its number.

use super::{Checker, Facts};
use crate::observe::{Observation, Role, ServerEvent, What};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Integrity;

impl Checker for Integrity {
    fn name(&self) -> &'static str {
        "integrity"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let What::Server(me, event) = &observation.what else { return Ok(()) };
        match event {
            ServerEvent::Appended { zxid, .. } if facts.news.broadcast => {
                let role = facts.server(*me).role;
                if role == (Role::Leading { epoch: Some(zxid.epoch()) }) {
                    Ok(())
                } else {
                    Err(format!("server {me} is the first to log {zxid}, and is {role:?}"))
                }
            }
            ServerEvent::Appended { zxid, txn } | ServerEvent::Applied { zxid, txn, .. } => {
                match facts.history.proposal(*zxid) {
                    None => Err(format!("server {me} applies {zxid}, which nobody broadcast")),
                    Some(p) if p.txn != *txn => Err(format!(
                        "server {me} has other bytes for {zxid} than server {}, which broadcast it: {} and {} bytes",
                        p.by,
                        txn.len(),
                        p.txn.len()
                    )),
                    Some(_) => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, set_data, z};
    use super::*;
    use bytes::Bytes;

    #[test]
    fn bytes_that_differ_are_caught() {
        let mut play = Play::elected();
        play.commit(set_data("/", 0, "x"));
        assert_eq!(play.verdict(Box::new(Integrity)), Ok(()));
        let txn = Bytes::from_static(b"something else");
        play.server(3, ServerEvent::Appended { zxid: z(1, 1), txn });
        assert!(play.verdict(Box::new(Integrity)).is_err());
    }

    #[test]
    fn a_follower_that_makes_something_up_is_caught() {
        let mut play = Play::elected();
        let txn = play.txn(z(1, 1), &set_data("/", 0, "x"));
        play.server(2, ServerEvent::Appended { zxid: z(1, 1), txn });
        assert!(play.verdict(Box::new(Integrity)).is_err());
    }

    #[test]
    fn what_nobody_broadcast_is_caught() {
        let mut play = Play::elected();
        let txn = play.txn(z(1, 1), &set_data("/", 0, "x"));
        play.server(2, ServerEvent::Applied { zxid: z(1, 1), txn, digest: None });
        assert!(play.verdict(Box::new(Integrity)).is_err());
    }
}
