//! Election ports: one connection per pair of servers, made by the larger id, and one message that waits for each peer.
//!
//! What the server's own election thread does: the smaller one dials too if it has something to say, which the larger
//! takes as a request to be dialled back; a newer message replaces one that is not sent; whoever connects is told the last
//! message again.

use super::event::Task;
use super::net::{ConnKey, ConnKind, Message, Party};
use super::world::World;
use crate::observe::{Saying, ServerEvent};
use bytes::Bytes;
use farrier_proto::ServerId;
use farrier_proto::quorum::{Notification, ServerState, Vote};
use farrier_replica::Input;
use farrier_zab::Input as Zab;

/// First rest before a peer is dialled again; twice as long each time. Microseconds.
const REDIAL_MIN: u64 = 20_000;
/// Longest rest.
const REDIAL_MAX: u64 = 1_000_000;
/// Rest after a peer with a larger id was asked to dial us.
const CALL_BACK_WAIT: u64 = 500_000;
/// `cnxTimeout`.
const CONNECT_US_MAX: u64 = 5_000_000;

/// What is said to one peer.
#[derive(Debug, Default)]
pub(crate) struct Voice {
    /// The newest message, until it is sent.
    unsent: Option<Bytes>,
    /// The last that was sent.
    last: Option<Bytes>,
    conn: Option<ConnKey>,
    /// It asked to be called back.
    call_back: bool,
    dialling: bool,
    rest: u64,
}

impl World {
    fn voice(&mut self, me: ServerId, peer: ServerId) -> Option<&mut Voice> {
        Some(self.machine_mut(me).process.as_mut()?.voices.entry(peer).or_default())
    }

    /// Sends an election message.
    pub(crate) fn notify(&mut self, me: ServerId, to: ServerId, notification: &Notification) {
        if notification.state == ServerState::Looking {
            let Vote { leader, zxid, .. } = notification.vote;
            self.tell_server(me, ServerEvent::Said(Saying::Vote { leader, zxid }));
        }
        let mut bytes = Vec::new();
        notification.write(&mut bytes);
        let Some(voice) = self.voice(me, to) else { return };
        voice.unsent = Some(bytes.into());
        if voice.conn.is_some() {
            self.transmit(me, to, false);
        } else {
            self.dial_election(me, to);
        }
    }

    fn dial_election(&mut self, me: ServerId, to: ServerId) {
        let Some(voice) = self.voice(me, to) else { return };
        if !voice.dialling {
            voice.dialling = true;
            voice.rest = REDIAL_MIN;
            self.plan_task(me, 0, Task::ElectionDial { to });
        }
    }

    /// One attempt of a dial that goes on until nothing is left to say.
    pub(crate) fn election_dial(&mut self, me: ServerId, to: ServerId) {
        let Some(voice) = self.voice(me, to) else { return };
        if voice.conn.is_some() || (voice.unsent.is_none() && !voice.call_back) {
            voice.dialling = false;
            return;
        }
        voice.call_back = false;
        let (here, there) = (Party::Server(me), Party::Server(to));
        let machine = self.machine(to);
        let reachable = self.net.connects(here, there) && machine.powered;
        if reachable && machine.process.is_some() {
            let key = self.open(ConnKind::Election, here, there);
            self.send(key, 1, Message::Hello);
            if to < me {
                if let Some(voice) = self.voice(me, to) {
                    voice.dialling = false;
                }
                self.adopt(me, to, key);
            } else {
                // It is told who we are, and dials us.
                self.close(key, 0);
                self.plan_task(me, CALL_BACK_WAIT, Task::ElectionDial { to });
            }
            return;
        }
        let refused = reachable || self.net.refuses(me, to);
        let waited = if refused { self.trip(here, there) } else { Self::dial_patience(Some(CONNECT_US_MAX)) };
        let Some(voice) = self.voice(me, to) else { return };
        let rest = voice.rest;
        voice.rest = (rest * 2).min(REDIAL_MAX);
        self.plan_task(me, waited + rest, Task::ElectionDial { to });
    }

    /// This is the connection with the peer from now on.
    fn adopt(&mut self, me: ServerId, peer: ServerId, key: ConnKey) {
        let Some(voice) = self.voice(me, peer) else { return };
        voice.call_back = false;
        if let Some(old) = voice.conn.replace(key) {
            self.close_own(me, old);
            self.step(me, Input::Zab(Zab::ElectionDown { peer }));
        }
        self.step(me, Input::Zab(Zab::ElectionUp { peer }));
        self.transmit(me, peer, true);
    }

    fn transmit(&mut self, me: ServerId, to: ServerId, first: bool) {
        let Some(voice) = self.voice(me, to) else { return };
        let Some(key) = voice.conn else { return };
        if voice.unsent.is_some() {
            voice.last = voice.unsent.take();
        } else if !first {
            return;
        }
        // What was said last may have been lost with the connection before.
        let Some(bytes) = voice.last.clone() else { return };
        if let Some(end) = self.net.conns.get(&key).and_then(|c| c.end_of(me)) {
            self.send(key, 1 - end, Message::Payload(bytes));
        }
    }

    fn close_own(&mut self, me: ServerId, key: ConnKey) {
        if let Some(end) = self.net.conns.get(&key).and_then(|c| c.end_of(me)) {
            self.close(key, end);
        }
    }

    /// Something arrives on an election connection.
    pub(crate) fn election_message(&mut self, me: ServerId, key: ConnKey, to: usize, message: Message) {
        match message {
            Message::Hello => {
                let Some(Party::Server(peer)) = self.net.conns.get(&key).map(|c| c.ends[1 - to]) else { return };
                if peer > me {
                    return self.adopt(me, peer, key);
                }
                // It believes that there is no connection with us, and asks for one.
                self.close(key, to);
                let Some(voice) = self.voice(me, peer) else { return };
                voice.call_back = true;
                let old = voice.conn.take();
                self.dial_election(me, peer);
                if let Some(old) = old {
                    self.close_own(me, old);
                    self.step(me, Input::Zab(Zab::ElectionDown { peer }));
                }
            }
            Message::Payload(bytes) => {
                let Some(Party::Server(from)) = self.net.conns.get(&key).map(|c| c.ends[1 - to]) else { return };
                // The length comes first.
                match Notification::read(&bytes[4..]) {
                    Ok(Some(notification)) => {
                        self.transcript.line(self.now, || format!("{from} -> {me} {notification:?}"));
                        self.step(me, Input::Zab(Zab::Notification { from, notification }));
                    }
                    other => self.engine_fails(format!("{from} sent {me} a notification that reads as {other:?}")),
                }
            }
            Message::Fin => {
                let process = self.machine_mut(me).process.as_mut();
                let lost = process.and_then(|p| p.voices.iter_mut().find(|(_, v)| v.conn == Some(key)));
                let Some((peer, voice)) = lost else { return };
                let peer = *peer;
                voice.conn = None;
                if voice.unsent.is_some() {
                    self.dial_election(me, peer);
                }
                self.step(me, Input::Zab(Zab::ElectionDown { peer }));
            }
            Message::Piece(_) => unreachable!("streams are of learner channels"),
        }
    }
}
