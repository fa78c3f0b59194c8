//! One connection of the learner channel: packets and streams in both directions.

use super::ports::{Port, UNSENT_MAX};
use super::snap::{self, Fed, Incoming};
use super::{PeerSettings, Report, report_one};
use crate::link_outbox::Piece;
use crate::quietly::Quietly;
use bytes::{Buf, BytesMut};
use farrier_proto::quorum::{LeaderPacket, LearnerPacket, PacketError, measure};
use farrier_proto::{Blocks, Zxid};
use farrier_replica::{Input, TreeRestore};
use farrier_zab::{LinkId, LinkKind};
use std::cell::{Cell, RefCell};
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::Notify;

/// How often the replica hears that a snapshot stream goes on, as long as any of it arrives. How long a leader may be
/// silent is the replica's to say, and by far longer.
const STREAM_REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// Room for one read.
const READ_CHUNK: usize = 64 << 10;

/// Packets that are given to the replica in one turn.
const TURN_PACKETS_MAX: usize = 128;

/// Bytes of them.
const TURN_BYTES_MAX: usize = 256 << 10;

/// How long a closing link may take to hand over what is left, and again until the peer closes its end:
/// closing a socket with unread input resets the connection, which can destroy the last packets on their way.
const LINGER: Duration = Duration::from_secs(2);

/// A link as the thread's other tasks reach it.
#[derive(Debug)]
pub(super) struct Link {
    id: LinkId,
    /// For the log.
    who: String,
    kind: LinkKind,
    port: Arc<Port>,
    /// Memory of what its packets bring, which all links share.
    blocks: Rc<RefCell<Blocks>>,
    /// Packets of a type that no version knows, on whatever link.
    unknown: Rc<Quietly>,
    paused: Cell<bool>,
    closing: Cell<bool>,
    /// Wakes the reader: it may read on, or must end.
    wake: Notify,
}

/// Why a link no longer delivers.
pub(super) enum Ended {
    /// The replica closed it.
    Closed,
    /// It broke, or the peer did what no peer does.
    Lost(String),
}

/// What parsing came to.
enum Parsed {
    /// All whole packets were taken.
    NeedBytes,
    /// There may be more.
    TurnOver,
    /// A stream follows.
    Stream(Zxid),
}

impl Link {
    /// `who` is at the other end, for the log.
    pub(super) fn new(
        id: LinkId,
        kind: LinkKind,
        who: String,
        port: Arc<Port>,
        blocks: Rc<RefCell<Blocks>>,
        unknown: Rc<Quietly>,
    ) -> Self {
        let (paused, closing) = (Cell::new(false), Cell::new(false));
        Self { id, who, kind, port, blocks, unknown, paused, closing, wake: Notify::new() }
    }

    pub(super) const fn id(&self) -> LinkId {
        self.id
    }

    pub(super) fn who(&self) -> &str {
        &self.who
    }

    pub(super) fn pause(&self) {
        self.paused.set(true);
    }

    pub(super) fn resume(&self) {
        self.paused.set(false);
        self.wake.notify_one();
    }

    /// Nothing is delivered any more; what waits is still sent.
    pub(super) fn close(&self) {
        self.closing.set(true);
        self.wake.notify_one();
        self.port.outbox.close();
    }

    /// Serves the link until it ends. `buffer` holds what was read before. When the replica has closed the link,
    /// what waits is sent first.
    pub(super) async fn run(
        self: Rc<Self>,
        settings: &PeerSettings,
        report: &Report,
        mut read: OwnedReadHalf,
        buffer: BytesMut,
        lost: impl FnOnce(String),
    ) {
        let mut writer = Box::pin(self.write_out(report, settings.first_packet_timeout));
        let (ended, mut all_sent) = tokio::select! {
            ended = self.read_in(settings, report, &mut read, buffer) => (ended, false),
            // It ends by itself only once everything is sent and the link closes.
            done = &mut writer => match done {
                Ok(()) => (Ended::Closed, true),
                Err(error) => (Ended::Lost(error.to_string()), false),
            },
            () = self.port.overrun.notified() => (Ended::Lost(format!("more than {UNSENT_MAX} bytes wait for it")), false),
        };
        if let Ended::Lost(why) = ended {
            return lost(why);
        }
        if !all_sent {
            all_sent = matches!(tokio::time::timeout(LINGER, &mut writer).await, Ok(Ok(())));
        }
        drop(writer);
        if all_sent && socket2::SockRef::from(self.port.write.as_ref()).shutdown(Shutdown::Write).is_ok() {
            let _ = tokio::time::timeout(LINGER, drain(&mut read)).await;
        }
    }

    async fn write_out(&self, report: &Report, stall: Duration) -> std::io::Result<()> {
        let port = &*self.port;
        while let Some(piece) = port.outbox.next().await? {
            let mut sent = Vec::new();
            match piece {
                Piece::Bytes(bytes) => {
                    port.write_all(&bytes).await?;
                    sent = bytes;
                }
                Piece::Snapshot(image) => {
                    let zxid = farrier_storage::Image::zxid(&*image);
                    let (nodes, bytes) = snap::send(image, port, stall).await?;
                    tracing::info!("snapshot {zxid} sent to {}: {nodes} znodes, {bytes} bytes", self.who);
                }
                Piece::ReportFlush => report_one(report, farrier_zab::Input::Flushed { link: self.id }),
            }
            port.outbox.done(sent);
            // A socket that takes everything would keep this thread from other links.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn read_in(
        &self,
        settings: &PeerSettings,
        report: &Report,
        read: &mut OwnedReadHalf,
        mut buffer: BytesMut,
    ) -> Ended {
        let mut inputs = Vec::new();
        loop {
            if self.closing.get() {
                return Ended::Closed;
            }
            if self.paused.get() {
                self.wake.notified().await;
                continue;
            }
            let parsed = match self.parse(settings, &mut buffer, &mut inputs) {
                Ok(parsed) => parsed,
                Err(error) => return Ended::Lost(error),
            };
            if !inputs.is_empty() {
                report(&mut inputs);
                // What the replica wants done about it may be a pause.
                tokio::task::yield_now().await;
            }
            let more = match parsed {
                Parsed::TurnOver => continue,
                Parsed::NeedBytes => self.read_more(read, &mut buffer).await,
                Parsed::Stream(zxid) => match self.receive_stream(settings, zxid, read, &mut buffer, report).await {
                    Ok(state) => {
                        report(&mut vec![Input::SnapReceived { link: self.id, zxid, state }]);
                        Ok(())
                    }
                    Err(ended) => Err(ended),
                },
            };
            if let Err(ended) = more {
                return ended;
            }
        }
    }

    /// Takes whole packets from the front of `buffer`.
    fn parse(
        &self,
        settings: &PeerSettings,
        buffer: &mut BytesMut,
        inputs: &mut Vec<Input<'static>>,
    ) -> Result<Parsed, String> {
        let blocks = &mut *self.blocks.borrow_mut();
        let mut bytes = 0;
        while inputs.len() < TURN_PACKETS_MAX && bytes < TURN_BYTES_MAX {
            let Some(len) = measure(buffer, settings.field_max).map_err(|e| e.to_string())? else {
                return Ok(Parsed::NeedBytes);
            };
            bytes += len;
            let packet = &buffer[..len];
            let link = self.id;
            let read =
                match self.kind {
                    LinkKind::Learner => LearnerPacket::read(packet, blocks)
                        .map(|packet| farrier_zab::Input::LearnerPacket { link, packet }),
                    LinkKind::Leader(_) => LeaderPacket::read(packet, blocks)
                        .map(|packet| farrier_zab::Input::LeaderPacket { link, packet }),
                };
            buffer.advance(len);
            if let Ok(farrier_zab::Input::LeaderPacket { packet: LeaderPacket::Snap { zxid }, .. }) = read {
                return Ok(Parsed::Stream(zxid));
            }
            match read {
                Ok(input) => inputs.push(Input::Zab(input)),
                // As Apache: a later version may say more.
                Err(PacketError::Unknown(kind)) => {
                    self.unknown.warn(|| format!("a packet of type {kind} from {} is ignored", self.who));
                }
                Err(PacketError::Malformed(error)) => return Err(error.to_string()),
            }
        }
        Ok(Parsed::TurnOver)
    }

    async fn read_more(&self, read: &mut OwnedReadHalf, buffer: &mut BytesMut) -> Result<(), Ended> {
        buffer.reserve(READ_CHUNK);
        tokio::select! {
            got = read.read_buf(buffer) => match got {
                Ok(0) => Err(Ended::Lost("the other side closed it".into())),
                Ok(_) => Ok(()),
                Err(error) => Err(Ended::Lost(error.to_string())),
            },
            () = self.wake.notified() => Ok(()),
        }
    }

    async fn receive_stream(
        &self,
        settings: &PeerSettings,
        zxid: Zxid,
        read: &mut OwnedReadHalf,
        buffer: &mut BytesMut,
        report: &Report,
    ) -> Result<Box<TreeRestore>, Ended> {
        tracing::info!("the leader sends a snapshot at {zxid}");
        let state = TreeRestore::new(settings.tree, settings.hash_seed);
        let mut incoming = Incoming::new(zxid, settings.field_max, state);
        // The packet itself is given to the replica only with its whole stream.
        let mut report_at = Instant::now();
        let mut arrived = true;
        loop {
            let now = Instant::now();
            if arrived && now >= report_at {
                report_at = now + STREAM_REPORT_INTERVAL;
                report_one(report, farrier_zab::Input::SnapProgress { link: self.id });
            }
            let (fed, rest) =
                incoming.feed(std::mem::take(buffer)).await.map_err(|error| Ended::Lost(error.to_string()))?;
            *buffer = rest;
            match fed {
                Fed::Whole(state) => return Ok(state),
                Fed::More(more) => incoming = more,
            }
            let before = buffer.len();
            self.read_more(read, buffer).await?;
            arrived = buffer.len() > before;
            if self.closing.get() {
                return Err(Ended::Closed);
            }
        }
    }
}

/// Reads what nobody wants until the peer closes its end.
async fn drain(read: &mut OwnedReadHalf) {
    let mut scratch = vec![0; READ_CHUNK];
    while let Ok(1..) = read.read(&mut scratch).await {}
}
