//! What a replica wants done, in its order.

use super::event::{Look, Task};
use super::net::{ConnKey, Message};
use super::world::World;
use crate::observe::{ServerEvent, SyncKind};
use bytes::Bytes;
use farrier_proto::ServerId;
use farrier_proto::quorum::LeaderPacket;
use farrier_replica::{Action, Actions, LogCommand};
use farrier_zab::LinkId;

impl World {
    /// Does everything, and gives the memory back to the process.
    pub(crate) fn act(&mut self, me: ServerId, mut out: Actions) {
        let life = self.machine(me).process.as_ref().map(|p| p.life);
        for action in out.list.drain(..) {
            let runs = self.machine(me).process.as_ref().is_some_and(|p| Some(p.life) == life);
            if !runs {
                return;
            }
            self.act_one(me, action, &out.bytes);
        }
        out.clear();
        if let Some(process) = &mut self.machine_mut(me).process {
            process.out = out;
        }
        self.wake_log(me);
    }

    fn act_one(&mut self, me: ServerId, action: Action, bytes: &[u8]) {
        match action {
            Action::Send { conn, start, end } => self.send_frames(me, ConnKey(conn.0), &bytes[start..end]),
            Action::CloseClient { conn } => self.close_of(me, ConnKey(conn.0)),
            Action::PauseClient { conn } => self.read_of(me, ConnKey(conn.0), false),
            Action::ResumeClient { conn } => self.read_of(me, ConnKey(conn.0), true),
            Action::ReportFlush { conn } => self.flush_of(me, ConnKey(conn.0)),
            Action::Append { id, zxid, txn } => self.command(me, LogCommand::Append { id, zxid, txn }),
            Action::RollLog => self.command(me, LogCommand::Roll),
            Action::TakeSnapshot { image } => self.command(me, LogCommand::TakeSnapshot { image }),
            Action::SaveAcceptedEpoch { id, epoch } => self.command(me, LogCommand::SaveAcceptedEpoch { id, epoch }),
            Action::SaveCurrentEpoch { id, epoch } => self.command(me, LogCommand::SaveCurrentEpoch { id, epoch }),
            Action::SavePending { id, config } => self.command(me, LogCommand::SavePending { id, config }),
            Action::RaiseRecovering { id } => self.command(me, LogCommand::RaiseRecovering { id }),
            Action::Truncate { id, after } => self.command(me, LogCommand::Truncate { id, after }),
            Action::InstallSnapshot { id, epoch, image } => {
                self.command(me, LogCommand::Install { id, epoch, image });
            }
            Action::Reload { id } => self.command(me, LogCommand::Reload { id }),
            Action::Locate { read, link, zxid } => self.want_look(me, Look::Locate { read, link, zxid }),
            Action::ReadTxns { read, link, after, to } => {
                self.want_look(me, Look::ReadTxns { read, link, after, to });
            }
            Action::Notify { to, notification } => self.notify(me, to, &notification),
            Action::Dial { leader } => self.dial(me, leader),
            Action::SendLeader { link, packet } => self.send_to_leader(me, link, &packet),
            Action::SendLearner { link, packet } => {
                let how = match &packet {
                    LeaderPacket::Diff { .. } => Some(SyncKind::Diff),
                    LeaderPacket::Trunc { .. } => Some(SyncKind::Trunc),
                    _ => None,
                };
                self.tell_sync(me, link, how);
                self.send_to_learner(me, link, &packet);
            }
            Action::SendSnapshot { link, image } => {
                self.tell_sync(me, link, Some(SyncKind::Snap));
                self.send_snapshot(me, link, &image);
            }
            Action::ReportLinkFlush { link } => self.flush_of(me, ConnKey(link.0)),
            Action::PauseLink { link } => self.read_of(me, ConnKey(link.0), false),
            Action::ResumeLink { link } => self.read_of(me, ConnKey(link.0), true),
            Action::CloseLink { link, reason } => {
                self.transcript.line(self.now, || format!("{me} closes [{}]: {reason}", link.0));
                if reason.contains("PeerViolation") || reason.contains("breaks the protocol") {
                    let peer = self.peer_of(me, link);
                    self.tell_server(me, ServerEvent::PeerRefused { peer, reason });
                }
                self.close_of(me, ConnKey(link.0));
            }
            Action::Note { level, text } => self.transcript.line(self.now, || format!("{me} {level:?}: {text}")),
            Action::Stopped => self.stopped(me),
            Action::Activate { members } => self.transcript.line(self.now, || format!("{me} activates {members:?}")),
            Action::Halt { reason } => self.halted(me, reason),
        }
    }

    fn command(&mut self, me: ServerId, command: LogCommand) {
        if let Some(process) = &mut self.machine_mut(me).process {
            process.commands.push_back(command);
        }
    }

    /// Whole frames to a client.
    fn send_frames(&mut self, me: ServerId, key: ConnKey, bytes: &[u8]) {
        let Some(end) = self.net.conns.get(&key).and_then(|c| c.end_of(me)) else { return };
        let mut rest = bytes;
        while let Some((len, behind)) = rest.split_first_chunk::<4>() {
            let len = usize::try_from(i32::from_be_bytes(*len)).expect("a server's frame has a length");
            let (frame, next) = behind.split_at(len);
            self.send(key, 1 - end, Message::Payload(Bytes::copy_from_slice(frame)));
            rest = next;
        }
        assert!(rest.is_empty(), "a server sends whole frames");
    }

    fn close_of(&mut self, me: ServerId, key: ConnKey) {
        if let Some(end) = self.net.conns.get(&key).and_then(|c| c.end_of(me)) {
            self.close(key, end);
        }
    }

    fn read_of(&mut self, me: ServerId, key: ConnKey, reads: bool) {
        if let Some(end) = self.net.conns.get(&key).and_then(|c| c.end_of(me)) {
            self.set_reading(key, end, reads);
        }
    }

    fn flush_of(&mut self, me: ServerId, key: ConnKey) {
        if let Some(end) = self.net.conns.get(&key).and_then(|c| c.end_of(me)) {
            self.report_flush(key, end);
        }
    }

    fn tell_sync(&mut self, me: ServerId, link: LinkId, how: Option<SyncKind>) {
        if let Some(how) = how
            && let Some(learner) = self.peer_of(me, link)
        {
            self.tell_server(me, ServerEvent::Synchronizing { learner, how });
        }
    }

    /// Goes on with what a pause held up.
    pub(crate) fn resume(&mut self, id: ServerId) {
        let now = self.now;
        let deferred = std::mem::take(&mut self.machine_mut(id).deferred);
        for event in deferred {
            let late = self.random.process.below(2_000);
            self.queue.plan(now + late, event);
        }
        self.plan_task(id, 0, Task::Timer);
        self.pump_all();
    }
}
