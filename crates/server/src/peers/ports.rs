//! Links by their names, for whoever steps the replica.

use crate::link_outbox::{LinkOutbox, Piece};
use farrier_proto::quorum::LeaderPacket;
use farrier_replica::SnapshotImage;
use farrier_zab::LinkId;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

/// Bytes that may wait for a peer. The replica stops long before, and one whose packets pile up regardless is
/// of no use.
pub(super) const UNSENT_MAX: usize = 256 << 20;

/// The sending end of a link.
#[derive(Debug)]
pub(crate) struct Port {
    pub(super) outbox: LinkOutbox,
    /// Written to without waiting by every thread that has the outbox's turn, and with waiting by the link's task.
    pub(super) write: OwnedWriteHalf,
    /// More than [`UNSENT_MAX`] bytes wait.
    pub(super) overrun: Notify,
}

impl Port {
    /// Writes what the socket takes at once.
    pub(crate) fn flush(&self) {
        self.outbox.flush(|bytes| self.write.try_write(bytes));
    }

    /// What waits is written by the link's task.
    pub(crate) fn leave_to_task(&self) {
        self.outbox.leave_to_task();
    }

    /// Writes all of it; for who has the outbox's turn.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.write.writable().await?;
            match self.write.try_write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => bytes = &bytes[n..],
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// All links that are open.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    by_link: Mutex<HashMap<LinkId, Arc<Port>>>,
}

impl Ports {
    fn by_link(&self) -> MutexGuard<'_, HashMap<LinkId, Arc<Port>>> {
        self.by_link.lock().expect("nothing panics while it holds this lock")
    }

    /// A link is up, before the replica hears of it.
    pub(super) fn open(&self, link: LinkId, write: OwnedWriteHalf) -> Arc<Port> {
        let port = Arc::new(Port { outbox: LinkOutbox::default(), write, overrun: Notify::new() });
        self.by_link().insert(link, port.clone());
        port
    }

    pub(super) fn remove(&self, link: LinkId) {
        self.by_link().remove(&link);
    }

    pub(super) fn clear(&self) {
        self.by_link().clear();
    }

    /// Where what is for this link goes; [`Port::flush`] has to follow. `None` if it is gone and the replica has not
    /// heard of it.
    fn port(&self, link: LinkId) -> Option<Arc<Port>> {
        self.by_link().get(&link).cloned()
    }

    /// Appends what `write` writes.
    pub(crate) fn send(&self, link: LinkId, write: impl FnOnce(&mut Vec<u8>)) -> Option<Arc<Port>> {
        let port = self.port(link)?;
        if port.outbox.push_bytes(write) > UNSENT_MAX {
            port.overrun.notify_one();
        }
        Some(port)
    }

    /// SNAP, and the stream behind it.
    pub(crate) fn send_snapshot(&self, link: LinkId, image: Box<SnapshotImage>) -> Option<Arc<Port>> {
        let packet = LeaderPacket::Snap { zxid: farrier_storage::Image::zxid(&*image) };
        let port = self.send(link, |out| packet.write(out))?;
        port.outbox.push(Piece::Snapshot(image));
        Some(port)
    }

    /// Reports when everything before is handed to the system.
    pub(crate) fn report_flush(&self, link: LinkId) -> Option<Arc<Port>> {
        let port = self.port(link)?;
        port.outbox.push(Piece::ReportFlush);
        Some(port)
    }
}
