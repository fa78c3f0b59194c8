//! Learner channels: packets as bytes, and the stream behind SNAP. What the server's own link does with them.

use super::event::Task;
use super::net::{ConnKey, ConnKind, Incoming, Message, Party};
use super::world::World;
use crate::observe::{Saying, ServerEvent};
use bytes::Bytes;
use farrier_proto::limits::TXN_MAX;
use farrier_proto::quorum::{LeaderPacket, LearnerPacket, ServerState};
use farrier_proto::{ServerId, Zxid};
use farrier_replica::{Input, SnapshotImage, TreeRestore};
use farrier_storage::{Image as _, StreamReader, write_stream};
use farrier_zab::{Input as Zab, LinkId, LinkKind, Phase};

/// Bytes of a piece of a stream.
const PIECE_BYTES: usize = 1 << 10;

impl World {
    /// Dials a leader's quorum port. An older attempt is given up.
    pub(crate) fn dial(&mut self, me: ServerId, leader: ServerId) {
        let Some(process) = &mut self.machine_mut(me).process else { return };
        process.dials += 1;
        let attempt = process.dials;
        let (here, there) = (Party::Server(me), Party::Server(leader));
        let machine = self.machine(leader);
        // A system without the process refuses as fast as one with it accepts.
        let heard = self.net.connects(here, there) && machine.powered || self.net.refuses(me, leader);
        let wait = if heard {
            self.trip(here, there) + self.trip(there, here)
        } else {
            let ticks = self.plan.servers.tick_ms * self.plan.servers.sync_limit;
            Self::dial_patience(Some(ticks * 1000))
        };
        self.plan_task(me, wait, Task::Dialled { attempt, leader, answered: heard });
    }

    /// A dial is answered, or nobody waits any longer.
    pub(crate) fn dialled(&mut self, me: ServerId, attempt: u32, leader: ServerId, answered: bool) {
        if self.machine(me).process.as_ref().is_none_or(|p| p.dials != attempt) {
            return;
        }
        let (here, there) = (Party::Server(me), Party::Server(leader));
        let stands = answered && self.machine(leader).process.is_some() && self.net.connects(here, there);
        if !stands {
            return self.step(me, Input::Zab(Zab::DialFailed { leader }));
        }
        let key = self.open(ConnKind::Channel, here, there);
        self.step(me, Input::Zab(Zab::LinkUp { link: LinkId(key.0), kind: LinkKind::Leader(leader) }));
    }

    /// Sends a learner's packet to its leader.
    pub(crate) fn send_to_leader(&mut self, me: ServerId, link: LinkId, packet: &LearnerPacket) {
        self.transcript.line(self.now, || format!("{me} -> leader [{}] {packet:?}", link.0));
        let saying = match packet {
            LearnerPacket::AckEpoch { current, .. } => {
                Some(Saying::Promise { link: link.0, counts: current.is_some() })
            }
            LearnerPacket::Ack { zxid } => Some(Saying::Ack { zxid: *zxid }),
            LearnerPacket::FollowerInfo { .. }
            | LearnerPacket::ObserverInfo { .. }
            | LearnerPacket::Ping { .. }
            | LearnerPacket::Revalidate { .. }
            | LearnerPacket::Request(_) => None,
        };
        if let Some(saying) = saying {
            self.tell_server(me, ServerEvent::Said(saying));
        }
        let mut bytes = Vec::new();
        packet.write(&mut bytes);
        self.send_from(me, link, Message::Payload(bytes.into()));
    }

    /// Sends a leader's packet to a learner.
    pub(crate) fn send_to_learner(&mut self, me: ServerId, link: LinkId, packet: &LeaderPacket) {
        self.transcript.line(self.now, || format!("{me} -> learner [{}] {packet:?}", link.0));
        match packet {
            LeaderPacket::LeaderInfo { epoch, .. } => {
                self.tell_server(me, ServerEvent::Said(Saying::Offer { link: link.0, epoch: *epoch }));
            }
            LeaderPacket::NewLeader { zxid, .. } => {
                self.tell_server(me, ServerEvent::Said(Saying::NewLeader { epoch: zxid.epoch() }));
            }
            _ => {}
        }
        let mut bytes = Vec::new();
        packet.write(&mut bytes);
        self.send_from(me, link, Message::Payload(bytes.into()));
    }

    /// Sends SNAP and the stream behind it.
    pub(crate) fn send_snapshot(&mut self, me: ServerId, link: LinkId, image: &SnapshotImage) {
        self.send_to_learner(me, link, &LeaderPacket::Snap { zxid: image.zxid() });
        let mut stream = Vec::new();
        let written = write_stream(image, &mut |piece| {
            stream.extend_from_slice(piece);
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(_znodes) = written;
        let stream = Bytes::from(stream);
        for from in (0..stream.len()).step_by(PIECE_BYTES) {
            let piece = stream.slice(from..stream.len().min(from + PIECE_BYTES));
            self.send_from(me, link, Message::Piece(piece));
        }
    }

    fn send_from(&mut self, me: ServerId, link: LinkId, message: Message) {
        let key = ConnKey(link.0);
        // Gone, and the replica has not heard of it when it said this.
        if let Some(end) = self.net.conns.get(&key).and_then(|c| c.end_of(me)) {
            self.send(key, 1 - end, message);
        }
    }

    /// The server at the other end of a link.
    pub(crate) fn peer_of(&self, me: ServerId, link: LinkId) -> Option<ServerId> {
        let conn = self.net.conns.get(&ConnKey(link.0))?;
        conn.ends.iter().find_map(|party| match party {
            Party::Server(id) if *id != me => Some(*id),
            Party::Server(_) | Party::Client(..) => None,
        })
    }

    /// Something arrives on a learner channel.
    pub(crate) fn channel_message(&mut self, me: ServerId, key: ConnKey, to: usize, message: Message) {
        let link = LinkId(key.0);
        match message {
            Message::Payload(bytes) if to == 1 => {
                let conn = self.net.conns.get_mut(&key).expect("it delivers");
                // Nobody is announced before a whole packet came.
                if !std::mem::replace(&mut conn.announced, true) {
                    self.step(me, Input::Zab(Zab::LinkUp { link, kind: LinkKind::Learner }));
                }
                match LearnerPacket::read(&bytes, &mut self.net.blocks) {
                    Ok(packet) if self.is_open(key, to) => {
                        self.tell_promise(me, link, &packet);
                        self.step(me, Input::Zab(Zab::LearnerPacket { link, packet }));
                    }
                    Ok(_) => {}
                    Err(error) => self.engine_fails(format!("a learner of {me} sent what is no packet: {error}")),
                }
            }
            Message::Payload(bytes) => match LeaderPacket::read(&bytes, &mut self.net.blocks) {
                Ok(packet @ LeaderPacket::Snap { zxid }) => {
                    self.note_txn(me, &packet);
                    let Some(hash_seed) = self.machine(me).process.as_ref().map(|p| p.work.hash_seed) else { return };
                    let state = Box::new(TreeRestore::new(self.tree_config(), hash_seed));
                    let conn = self.net.conns.get_mut(&key).expect("it delivers");
                    conn.incoming = Some(Incoming { zxid, reader: StreamReader::new(TXN_MAX), state });
                }
                Ok(packet) => {
                    self.note_txn(me, &packet);
                    self.step(me, Input::Zab(Zab::LeaderPacket { link, packet }));
                }
                Err(error) => self.engine_fails(format!("the leader of {me} sent what is no packet: {error}")),
            },
            Message::Piece(bytes) => {
                let conn = self.net.conns.get_mut(&key).expect("it delivers");
                let Some(mut incoming) = conn.incoming.take() else {
                    return self.engine_fails(format!("{me} got a piece of a stream that it does not expect"));
                };
                match incoming.reader.feed(&bytes, &mut *incoming.state) {
                    Ok(progress) if progress.complete => {
                        let input = Input::SnapReceived { link, zxid: incoming.zxid, state: incoming.state };
                        self.step(me, input);
                    }
                    Ok(_) => {
                        conn.incoming = Some(incoming);
                        self.step(me, Input::Zab(Zab::SnapProgress { link }));
                    }
                    Err(error) => self.engine_fails(format!("{me} cannot read the snapshot of its leader: {error}")),
                }
            }
            Message::Fin => self.step(me, Input::Zab(Zab::LinkDown { link })),
            Message::Hello => {}
        }
    }

    /// An ACKEPOCH of a voter that comes while promises are gathered.
    fn tell_promise(&mut self, me: ServerId, link: LinkId, packet: &LearnerPacket) {
        let LearnerPacket::AckEpoch { last_logged, current } = packet else { return };
        let status = self.machine(me).process.as_ref().and_then(|p| p.replica.peer_status());
        let gathers = status.is_some_and(|s| s.state == ServerState::Leading && s.phase == Phase::Discovery);
        let by = self.peer_of(me, link).filter(|by| self.ensemble.is_voter(*by));
        if let (true, Some(by), Some(current), 0..) = (gathers, by, *current, *last_logged) {
            let last = Zxid::from_wire(*last_logged);
            self.tell_server(me, ServerEvent::PromiseHeard { by, current, last });
        }
    }

    fn is_open(&self, key: ConnKey, end: usize) -> bool {
        self.net.conns.get(&key).is_some_and(|c| c.open[end])
    }
}
