//! What of the steps gets into a transcript, and how.

use super::Cluster;
use crate::print;
use farrier_proto::quorum::{LeaderPacket, LearnerPacket};
use farrier_zab::{Level, LinkId, Output};

impl Cluster {
    /// One line for a step: what happened, and what followed, unless neither is worth a line.
    pub(super) fn tell(&mut self, what: &str, mut shown: Vec<String>) {
        // A reason that was noted is not repeated.
        for n in (1..shown.len()).rev() {
            let noted = shown[n - 1].strip_prefix("note \"").and_then(|note| note.strip_suffix('"'));
            if let (Some(note), Some((close, reason))) = (noted, shown[n].split_once(" ("))
                && reason.strip_suffix(')') == Some(note)
            {
                shown[n] = close.to_owned();
            }
        }
        let words: Vec<_> = what.split(' ').collect();
        let ping = words.last() == Some(&"PING") && !self.pings_shown;
        let election = (words.contains(&"<~") || words.contains(&"sees")) && !self.elections_shown;
        let nothing = ["timer", "flushed", "read", "sees", "done"];
        let hidden = ping || election || nothing.iter().any(|word| words.get(1) == Some(word));
        if !shown.is_empty() {
            self.line(format!("{what} | {}", shown.join(" · ")));
        } else if !hidden {
            self.line(what.to_owned());
        }
    }

    pub(super) fn show(&self, output: &Output) -> Option<String> {
        let z = print::zxid;
        let other = |link: &LinkId, learner: bool| {
            let ends = &self.links[link];
            if learner { ends.learner } else { ends.leader }
        };
        Some(match output {
            Output::Notify { to, notification } if self.elections_shown => {
                format!("~> {to} {}", print::notification(notification))
            }
            Output::SendLeader { packet: LearnerPacket::Ping { .. }, .. }
            | Output::SendLearner { packet: LeaderPacket::Ping { .. }, .. }
            | Output::PingReceived { .. }
            | Output::FromLearner { packet: LearnerPacket::Ping { .. }, .. }
                if !self.pings_shown =>
            {
                return None;
            }
            Output::Dial { leader } => format!("dial {leader}"),
            Output::SendLeader { link, packet } => {
                format!("-> {} {}", other(link, false), print::learner_packet(packet))
            }
            Output::SendLearner { link, packet } => {
                format!("-> {} {}", other(link, true), print::leader_packet(packet))
            }
            Output::SendSnapshot { link, zxid } => format!("-> {} SNAP {}", other(link, true), z(*zxid)),
            Output::PauseLink { .. } => "pause".into(),
            Output::ResumeLink { .. } => "resume".into(),
            Output::CloseLink { link, reason } => {
                let ends = &self.links[link];
                format!("close {}-{} ({reason})", ends.learner, ends.leader)
            }
            Output::Append { id, zxid, .. } => format!("append {} w{}", z(*zxid), id.0),
            Output::SavePending { id, .. } => format!("pending w{}", id.0),
            Output::RaiseRecovering { id } => format!("recovering w{}", id.0),
            Output::SaveAcceptedEpoch { id, epoch } => format!("accepted e{} w{}", epoch.0, id.0),
            Output::SaveCurrentEpoch { id, epoch } => format!("current e{} w{}", epoch.0, id.0),
            Output::Truncate { id, after } => format!("truncate after {} w{}", z(*after), id.0),
            Output::AdoptSnapshot { zxid } => format!("adopt {}", z(*zxid)),
            Output::InstallSnapshot { id, zxid, epoch } => format!("install {} e{} w{}", z(*zxid), epoch.0, id.0),
            Output::Reload { id } => format!("reload w{}", id.0),
            Output::Locate { zxid, .. } => format!("locate {}", z(*zxid)),
            Output::ReadTxns { after, to, .. } => format!("read behind {} to {}", z(*after), z(*to)),
            Output::Deliver { zxid, .. } => format!("deliver {}", z(*zxid)),
            Output::Role(role) => print::role(*role),
            Output::FromLeader { packet: LeaderPacket::Sync } => "synced".into(),
            Output::Synced { ticket } => format!("synced {}", ticket.0),
            Output::Activate { config } => format!("activate {}", String::from_utf8_lossy(config)),
            Output::Halt { reason } => format!("HALT {reason}"),
            Output::Note { level: Level::Warn | Level::Error, text } => format!("note \"{text}\""),
            Output::PingReceived { .. }
            | Output::Notify { .. }
            | Output::ReportFlush { .. }
            | Output::FromLearner { .. }
            | Output::FromLeader { .. }
            | Output::LearnerGone { .. }
            | Output::Note { level: Level::Info | Level::Debug, .. } => return None,
        })
    }
}
