//! Reconfiguration as a learner takes part in it: what is logged and pending, and what comes into force.
//!
//! From the proposal of a reconfiguration on, whatever needs a quorum needs one of each configuration. It comes into
//! force with COMMITANDACTIVATE or INFORMANDACTIVATE, with the configuration of NEWLEADER at UPTODATE, or with the word
//! of a peer for which it is in force already, while this server looks for a leader.
//!
//! Pending is the newest of three, as long as it is not in force:
//! - What is **logged**: the last reconfiguration in the log. It comes and goes with the history: whatever replaces the state
//!   says what the new one shows. It is as durable as the history is, and read from it at a start.
//! - What only the state **shows** that the log begins from. Its quorums count, but no leader puts it in force: the directory
//!   may have come from another ensemble, or its members have got other addresses since, and the operator's file is right.
//! - What the last NEWLEADER **told**, in which Apache's leaders send what they saw last (`lastSeenQuorumVerifier`). That
//!   may be in no history: a server of theirs that died between its file of it and its log completes it all the same.
//!   And the state of a SNAP shows what is in force for its sender, also if a later one is in its history. So it goes
//!   to disk by itself, before the epoch does and hence before the ACK by which the leader may put it in force. The next
//!   NEWLEADER replaces it, in either direction: a leader that knows less has the promises of a quorum, among whom somebody
//!   would know of it if it were in force anywhere.

use crate::core::Core;
use crate::ensemble::Ensemble;
use crate::io::{Level, Output, Outputs, ShownConfig};
use bytes::Bytes;
use farrier_proto::membership::{MemberList, Role};
use farrier_proto::txn::read_txn;
use farrier_proto::{ServerId, Txn, TxnType};

/// Where the type stands in a transaction's header.
const TYPE_AT: core::ops::Range<usize> = 28..32;

/// The text that a reconfiguration brings; `None` if the transaction is none.
pub(crate) fn configuration(txn: &[u8]) -> Option<Bytes> {
    if txn.get(TYPE_AT)? != TxnType::Reconfig.code().to_be_bytes() {
        return None;
    }
    match read_txn(txn) {
        Ok((_, Txn::Reconfig(reconfig), _)) => reconfig.data.as_deref().map(Bytes::copy_from_slice),
        Ok(_) | Err(_) => None,
    }
}

impl Core {
    /// A transaction gets into the log: if it is a reconfiguration, its quorums count from now on.
    pub(crate) fn note_pending(&mut self, txn: &[u8], out: &mut Outputs) {
        if !self.config.reconfig {
            return;
        }
        let Some(text) = configuration(txn) else { return };
        self.note_logged(&text, out);
    }

    /// Another state, with the history that made it, took the place of this server's, or is the one at the start. It
    /// shows this configuration (`/zookeeper/config`): what was logged before is gone if it is not in it.
    pub(crate) fn state_shows(&mut self, config: Option<&ShownConfig>, out: &mut Outputs) {
        if !self.config.reconfig {
            return;
        }
        self.shown = None;
        let before = self.logged.take().map(|logged| logged.version());
        if let Some(ShownConfig { text, in_log }) = config
            && MemberList::version_of(text) > self.ensemble.version()
        {
            self.note_logged(text, out);
            if !in_log && before != Some(MemberList::version_of(text)) {
                self.shown = self.logged.take();
            }
        }
        self.count_pending();
    }

    /// What a leader completes.
    pub(crate) fn to_complete(&self) -> Option<&Ensemble> {
        self.logged.iter().chain(&self.told).max_by_key(|known| known.version())
    }

    /// What a leader tells: what it completes, otherwise what is in force. `lastSeenQuorumVerifier` of Apache's servers.
    pub(crate) fn newest(&self) -> &Ensemble {
        self.to_complete().unwrap_or(&self.ensemble)
    }

    /// What NEWLEADER says. A new one is on its way to disk with this.
    ///
    /// # Errors
    /// Why the text is no configuration.
    pub(crate) fn told_by_leader(&mut self, text: &Bytes, out: &mut Outputs) -> Result<(), String> {
        if !self.config.reconfig {
            return Ok(());
        }
        let newer = MemberList::version_of(text) > self.ensemble.version();
        let told = if newer { Some(parse(text)?.1) } else { None };
        if told != self.told {
            let id = self.write_id();
            out.push(Output::SavePending { id, config: told.as_ref().map(|_| text.clone()) });
            self.told = told;
            self.count_pending();
        }
        Ok(())
    }

    fn note_logged(&mut self, text: &[u8], out: &mut Outputs) {
        match parse(text) {
            Ok((_, logged)) => self.logged = Some(logged),
            Err(why) => out.note(Level::Error, format!("a reconfiguration was proposed that cannot be read: {why}")),
        }
        self.count_pending();
    }

    /// What is in force, or what is pending, has changed.
    fn count_pending(&mut self) {
        let version = self.ensemble.version();
        for known in [&mut self.logged, &mut self.shown, &mut self.told] {
            known.take_if(|known| known.version() <= version);
        }
        let pending =
            self.logged.iter().chain(&self.shown).chain(&self.told).max_by_key(|known| known.version()).cloned();
        self.ensemble = self.ensemble.clone().with_pending(pending);
    }

    /// A configuration is in force, if it is newer than ours. `leader` is whom this server has, if any, and
    /// `designated` whom the reconfiguration made the leader. True if this server has to leave it: its own part has
    /// changed, or the leader has.
    ///
    /// # Errors
    /// Why the text is no configuration.
    pub(crate) fn activate(
        &mut self,
        text: &Bytes,
        leader: Option<ServerId>,
        designated: Option<ServerId>,
        out: &mut Outputs,
    ) -> Result<bool, String> {
        if !self.config.reconfig || MemberList::version_of(text) <= self.ensemble.version() {
            return Ok(false);
        }
        let (list, ensemble) = parse(text)?;
        let me = self.me();
        let old = MemberList::parse(self.ensemble.text()).ok();
        let same = old.as_ref().is_some_and(|old| old.members == list.members && old.groups == list.groups);
        let observed = self.ensemble.is_observer(me);
        self.ensemble = ensemble;
        self.count_pending();
        out.note(Level::Info, format!("configuration {:#x} is in force", self.ensemble.version()));
        out.push(Output::Activate { config: text.clone() });
        if same {
            return Ok(false);
        }
        let place = |list: &MemberList, of: ServerId| {
            list.get(of).filter(|m| m.role == Role::Participant).map(|m| m.addresses.clone())
        };
        let leader_changed = match (designated, leader) {
            (Some(designated), leader) => leader != Some(designated),
            (None, Some(leader)) => {
                let (before, now) = (old.as_ref().and_then(|old| place(old, leader)), place(&list, leader));
                now.is_none() || before != now
            }
            (None, None) => false,
        };
        let leaves = leader_changed || observed != self.ensemble.is_observer(me);
        self.designated = designated.filter(|_| leaves);
        Ok(leaves)
    }
}

/// Most characters of a configuration's text in a line of the log.
const TEXT_SHOWN_MAX: usize = 300;

fn parse(text: &[u8]) -> Result<(MemberList, Ensemble), String> {
    // What is wrong quotes the text, which a stranger may have sent.
    let list = MemberList::parse(text).map_err(|why| shown(&why))?;
    let ensemble = Ensemble::of(&list).map_err(|why| shown(&why.to_string()))?;
    Ok((list, ensemble))
}

/// The beginning, without what a log would not show.
fn shown(why: &str) -> String {
    let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    why.chars().take(TEXT_SHOWN_MAX).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_configuration_is_quoted_shortly_and_without_what_a_log_would_not_show() {
        let long = parse("x".repeat(1 << 20).as_bytes()).expect_err("no configuration");
        assert_eq!(long.chars().count(), TEXT_SHOWN_MAX);
        let strange = parse(b"server.1=\x1b[31m").expect_err("no configuration");
        assert!(strange.starts_with("server.1=\u{fffd}[31m: "), "{strange}");
    }
}
