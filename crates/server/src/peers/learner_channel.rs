//! The learner channel: the quorum port, which learners dial, and the dialling of a leader.
//!
//! The port is listened on whatever the server is: learners of a leader that is about to be may come early.
//! Nobody is announced to the replica before it has sent a whole packet.

use super::link::Link;
use super::ports::Ports;
use super::scarce::Handshakes;
use super::{PeerSettings, Report, address, report_one};
use crate::quietly::Quietly;
use bytes::BytesMut;
use farrier_proto::quorum::{LearnerPacket, measure};
use farrier_proto::{Blocks, ServerId};
use farrier_zab::{Input, LinkId, LinkKind};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet, spawn_local};

/// Links at once. Those that are about to close don't count.
const LINKS_MAX: usize = 1024;

/// A first packet is longer only if it is none.
const FIRST_PACKET_MAX: usize = 4096;

/// How long links may take to send their last when the server closes.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// The learner channel's port and links.
pub(super) struct LearnerChannel {
    settings: Rc<PeerSettings>,
    report: Report,
    ports: Arc<Ports>,
    links: RefCell<HashMap<LinkId, Rc<Link>>>,
    blocks: Rc<RefCell<Blocks>>,
    next_link: Cell<u64>,
    /// Links whose tasks run: also those that the replica has closed.
    running: Cell<usize>,
    dialling: RefCell<Option<AbortHandle>>,
    handshakes: Handshakes,
    nuisance: Quietly,
    /// Packets of a type that no version knows.
    unknown: Rc<Quietly>,
}

impl LearnerChannel {
    pub(super) fn new(settings: Rc<PeerSettings>, report: Report, ports: Arc<Ports>) -> Self {
        Self {
            settings,
            report,
            ports,
            links: RefCell::default(),
            blocks: Rc::default(),
            next_link: Cell::new(1),
            running: Cell::new(0),
            dialling: RefCell::default(),
            handshakes: Handshakes::default(),
            nuisance: Quietly::default(),
            unknown: Rc::default(),
        }
    }

    /// Accepts learners on this port from now on.
    pub(super) fn listen(self: &Rc<Self>, listener: std::net::TcpListener) {
        let this = self.clone();
        spawn_local(async move {
            let listener = match TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!("the quorum port cannot be listened on: {error}"),
            };
            loop {
                let (stream, peer) = match listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        this.nuisance.warn(|| format!("cannot accept a connection on the quorum port: {error}"));
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                };
                let channel = this.clone();
                let task = spawn_local(async move { channel.welcome(stream, peer).await });
                if this.handshakes.enter(task.abort_handle()) {
                    this.nuisance
                        .warn(|| "too many silent connections on the quorum port; the oldest is closed".into());
                }
            }
        });
    }

    async fn welcome(self: Rc<Self>, mut stream: TcpStream, from: SocketAddr) {
        let mut buffer = BytesMut::new();
        let patience = self.settings.first_packet_timeout;
        let server = match tokio::time::timeout(patience, first_packet(&mut stream, &mut buffer)).await {
            Ok(Ok(server)) => server,
            Ok(Err(why)) => {
                return self.nuisance.warn(|| format!("{from} connected to the quorum port and is no learner: {why}"));
            }
            Err(_) => return self.nuisance.warn(|| format!("{from} connected to the quorum port and says nothing")),
        };
        if self.links.borrow().len() >= LINKS_MAX {
            return self.nuisance.warn(|| format!("there are {LINKS_MAX} learners; {from} is refused"));
        }
        if address::prepare(&stream, self.settings.route.keep_alive).is_ok() {
            let who = match server {
                Some(server) => format!("learner {server} at {from}"),
                None => format!("a learner at {from}"),
            };
            self.establish(stream, buffer, LinkKind::Learner, who);
        }
    }

    /// Dials a leader, at all its addresses at once. An older attempt is given up.
    pub(super) fn dial(self: &Rc<Self>, leader: ServerId) {
        let this = self.clone();
        let task = spawn_local(async move {
            match this.connect(leader).await {
                Ok((stream, at)) => {
                    let who = format!("leader {leader} at {at}");
                    tracing::info!("connected with {who}");
                    this.establish(stream, BytesMut::new(), LinkKind::Leader(leader), who);
                }
                Err(error) => {
                    tracing::debug!("no connection with the quorum port of server {leader}: {error}");
                    report_one(&this.report, Input::DialFailed { leader });
                }
            }
        });
        if let Some(old) = self.dialling.borrow_mut().replace(task.abort_handle()) {
            old.abort();
        }
    }

    /// A connection, and the address at its other end.
    async fn connect(&self, leader: ServerId) -> io::Result<(TcpStream, SocketAddr)> {
        let mut attempts = JoinSet::new();
        for endpoint in self.settings.quorum_of(leader) {
            let (patience, route) = (self.settings.dial_timeout, self.settings.route.clone());
            attempts.spawn_local(async move { address::connect(&endpoint, patience, &route).await });
        }
        let mut last = io::Error::new(io::ErrorKind::NotFound, "its address is not known");
        while let Some(attempt) = attempts.join_next().await {
            match attempt {
                Ok(Ok(stream)) => {
                    let at = stream.peer_addr()?;
                    return Ok((stream, at));
                }
                Ok(Err(error)) => last = error,
                Err(_) => {}
            }
        }
        Err(last)
    }

    fn establish(self: &Rc<Self>, stream: TcpStream, buffer: BytesMut, kind: LinkKind, who: String) {
        let id = LinkId(self.next_link.get());
        self.next_link.set(id.0 + 1);
        let (read, write) = stream.into_split();
        let link =
            Rc::new(Link::new(id, kind, who, self.ports.open(id, write), self.blocks.clone(), self.unknown.clone()));
        self.links.borrow_mut().insert(id, link.clone());
        self.running.set(self.running.get() + 1);
        report_one(&self.report, Input::LinkUp { link: id, kind });
        let this = self.clone();
        spawn_local(async move {
            let lost = |why: String| this.lost(id, &why);
            link.run(&this.settings, &this.report, read, buffer, lost).await;
            this.running.set(this.running.get() - 1);
        });
    }

    fn lost(&self, id: LinkId, why: &str) {
        self.ports.remove(id);
        if let Some(link) = self.links.borrow_mut().remove(&id) {
            tracing::info!("the connection with {} is lost: {why}", link.who());
        } else {
            // The replica closed it a moment ago.
            return;
        }
        report_one(&self.report, Input::LinkDown { link: id });
    }

    fn with_link(&self, id: LinkId, f: impl FnOnce(&Link)) {
        // Gone, and the replica has not heard of it when it said this.
        if let Some(link) = self.links.borrow().get(&id) {
            f(link);
        }
    }

    pub(super) fn pause(&self, id: LinkId) {
        self.with_link(id, Link::pause);
    }

    pub(super) fn resume(&self, id: LinkId) {
        self.with_link(id, Link::resume);
    }

    /// Closes a link behind what was sent to it.
    pub(super) fn close_link(&self, id: LinkId, reason: &str) {
        self.ports.remove(id);
        if let Some(link) = self.links.borrow_mut().remove(&id) {
            tracing::debug!("link {} is closed: {reason}", link.id().0);
            link.close();
        }
    }

    /// The server closes: every link sends what waits for it and ends.
    pub(super) async fn close(&self) {
        if let Some(dial) = self.dialling.borrow_mut().take() {
            dial.abort();
        }
        let all: Vec<_> = self.links.borrow_mut().drain().map(|(_, link)| link).collect();
        for link in all {
            link.close();
        }
        let end = tokio::time::Instant::now() + CLOSE_MAX;
        while self.running.get() > 0 && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Reads until there is a whole packet in the buffer, and has looked at it: who says that it sent it.
async fn first_packet(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<Option<ServerId>, String> {
    loop {
        if let Some(len) = measure(buffer, FIRST_PACKET_MAX).map_err(|e| e.to_string())? {
            let packet = LearnerPacket::read(&buffer[..len], &mut Blocks::default()).map_err(|e| e.to_string())?;
            return Ok(packet.introduces());
        }
        if buffer.len() > 2 * FIRST_PACKET_MAX {
            return Err("its first packet does not end".into());
        }
        buffer.reserve(512);
        match stream.read_buf(buffer).await {
            Ok(0) => return Err("it closed".into()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
