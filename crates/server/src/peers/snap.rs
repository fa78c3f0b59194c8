//! SNAP streams: an image on its way to a learner, and a state on its way from the leader. Neither is ever
//! held in memory as bytes.

use super::ports::Port;
use crate::priority::behind_requests;
use bytes::{Buf, BytesMut};
use farrier_proto::Zxid;
use farrier_replica::{SnapshotImage, TreeRestore};
use farrier_storage::{SnapshotError, StreamReader, write_stream};
use std::io;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

/// Pieces of a stream, each of at most 64 KiB, between the thread that encodes and the socket.
const PIECES_MAX: usize = 8;

/// Nobody takes the pieces any more.
struct GivenUp;

/// Sends `image` as the stream behind a SNAP packet. Returns znodes and bytes. The encoding ends early when this
/// is dropped, or if the learner takes nothing for `stall`.
pub(super) async fn send(image: Box<SnapshotImage>, port: &Port, stall: Duration) -> io::Result<(u64, u64)> {
    let (sender, mut pieces) = mpsc::channel::<Vec<u8>>(PIECES_MAX);
    let encoder = spawn_blocking(move || {
        behind_requests();
        let nodes = write_stream(&*image, &mut |piece| sender.blocking_send(piece.to_vec()).map_err(|_| GivenUp));
        // Many znodes: their memory goes here, where nobody waits.
        drop(image);
        nodes
    });
    let mut bytes = 0;
    while let Some(piece) = pieces.recv().await {
        tokio::time::timeout(stall, port.write_all(&piece))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it does not take the snapshot"))??;
        bytes += piece.len() as u64;
    }
    match encoder.await {
        Ok(Ok(nodes)) => Ok((nodes, bytes)),
        Ok(Err(GivenUp)) | Err(_) => Err(io::Error::other("the snapshot was not encoded to its end")),
    }
}

/// A state that is being received.
pub(super) struct Incoming {
    zxid: Zxid,
    reader: StreamReader,
    state: Box<TreeRestore>,
}

/// What some bytes made of it.
pub(super) enum Fed {
    /// More is to come.
    More(Incoming),
    /// That was all.
    Whole(Box<TreeRestore>),
}

impl Incoming {
    /// The start of a stream whose fields have at most `field_max` bytes.
    pub(super) fn new(zxid: Zxid, field_max: usize, state: TreeRestore) -> Self {
        Self { zxid, reader: StreamReader::new(field_max), state: Box::new(state) }
    }

    /// Takes the stream's bytes from the front of `buffer`, on a thread that may be busy for a while.
    pub(super) async fn feed(mut self, mut buffer: BytesMut) -> Result<(Fed, BytesMut), SnapshotGone> {
        let fed = spawn_blocking(move || {
            behind_requests();
            let progress = self.reader.feed(&buffer, &mut *self.state)?;
            buffer.advance(progress.consumed);
            if !progress.complete {
                return Ok((Fed::More(self), buffer));
            }
            let (nodes, bytes) = (self.reader.nodes(), self.reader.bytes());
            // The replica ends the state: it is in force for the packet's zxid only then.
            tracing::info!("snapshot {} received from the leader: {nodes} znodes, {bytes} bytes", self.zxid);
            Ok((Fed::Whole(self.state), buffer))
        });
        match fed.await {
            Ok(fed) => fed.map_err(SnapshotGone::Bad),
            Err(_) => Err(SnapshotGone::Unread),
        }
    }
}

/// Why a state did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotGone {
    /// What came is none.
    #[error(transparent)]
    Bad(SnapshotError),
    /// The thread that read it is gone.
    #[error("the snapshot from the leader could not be read to its end")]
    Unread,
}
