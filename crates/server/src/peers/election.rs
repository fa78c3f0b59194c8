//! The election port: one connection per pair of servers, dialled by the one with the larger id, and one
//! message that waits for each peer.
//!
//! The smaller side dials too, if it has something to say: the larger one takes that as a request to be dialled
//! back. What is dialled again and again is whoever has not got the newest message.

use super::address::{self, Endpoint, Route};
use super::names::Names;
use super::scarce::Handshakes;
use super::{PeerSettings, Report, report_one};
use crate::quietly::Quietly;
use bytes::Bytes;
use farrier_proto::ServerId;
use farrier_proto::quorum::{ELECTION_ADDRESS_MAX, ElectionHeader, NOTIFICATION_MAX, Notification};
use farrier_zab::Input;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::spawn_local;

/// Peers that no configuration of ours names, at once: observers, and members of a configuration that we have
/// not seen yet.
const STRANGERS_MAX: usize = 64;

/// First rest before a peer is dialled again; twice as long each time.
const REDIAL_MIN: Duration = Duration::from_millis(20);
/// Longest rest.
const REDIAL_MAX: Duration = Duration::from_secs(1);

/// Rest after a peer with a larger id was asked to dial us. Asking again makes it drop the connection that it
/// may just have made.
const CALL_BACK_WAIT: Duration = Duration::from_millis(500);

/// What the places of a peer that the configuration knows are tried for before those that somebody named in its name.
const HEAD_START: Duration = Duration::from_millis(500);

/// Of those, how many.
const TOLD_MAX: usize = 4;

/// The id of observers that have none.
const ANONYMOUS: ServerId = ServerId(i64::MAX);

/// Bytes of the longest header.
const HEADER_MAX: usize = 20 + ELECTION_ADDRESS_MAX;

/// Bytes of a header before 3.5: the id.
const OLD_HEADER: usize = 8;

/// Longest name of a host (RFC 1035).
const HOST_MAX: usize = 255;

/// The election port and its connections.
pub(super) struct Election {
    settings: Rc<PeerSettings>,
    /// How places are reached that somebody told.
    told_route: Route,
    report: Report,
    peers: RefCell<BTreeMap<ServerId, Peer>>,
    handshakes: Handshakes,
    next_connection: Cell<u64>,
    next_anonymous: Cell<i64>,
    /// Who this server is, and where the others may dial it.
    header: RefCell<Vec<u8>>,
    nuisance: Quietly,
    twins: Quietly,
}

/// What is known of one peer.
#[derive(Debug, Default)]
struct Peer {
    /// The newest message, until it is sent.
    unsent: Option<Bytes>,
    /// The last message that was sent, said again to whoever connects.
    last: Option<Bytes>,
    connection: Option<Connection>,
    dialling: bool,
    /// Where it asked to be called back, if that is wanted now.
    call_back: Option<Vec<Endpoint>>,
    /// Ends the rest before it is dialled again: there is something new.
    hurry: Rc<Notify>,
    /// Where the attempt to dial it that goes on looks for it, besides where the configuration has it.
    tried: Vec<Endpoint>,
    /// Ends that attempt: it has come itself since that began, or named another place.
    came: Rc<Notify>,
}

#[derive(Debug)]
struct Connection {
    id: u64,
    /// Of the other end, if the system knows it.
    from: Option<IpAddr>,
    /// There is something to send.
    filled: Rc<Notify>,
    task: tokio::task::AbortHandle,
}

impl Election {
    pub(super) fn new(settings: Rc<PeerSettings>, report: Report) -> Self {
        let told_route = Route { names: Names::told(), ..settings.route.clone() };
        let this = Self {
            settings,
            told_route,
            report,
            peers: RefCell::default(),
            handshakes: Handshakes::default(),
            next_connection: Cell::new(0),
            next_anonymous: Cell::new(-1),
            header: RefCell::default(),
            nuisance: Quietly::default(),
            twins: Quietly::default(),
        };
        this.name_addresses();
        this
    }

    /// Whoever is dialled is told of this server's addresses in the members in force from now on. It listens there.
    pub(super) fn name_addresses(&self) {
        let settings = &self.settings;
        let own = settings.election_of(settings.me);
        // Members without this server leave it what it has told so far: a connection begins with that, or means nothing.
        let Some(first) = own.first() else { return };
        if own.iter().any(|own| own.host.len() > HOST_MAX) {
            return tracing::warn!("the others are told no new address of this server: no host has a name so long");
        }
        let mut header = Vec::new();
        if settings.multi_address {
            let all = own.iter().map(|own| (own.host.as_str(), own.port));
            ElectionHeader::write_several(settings.me, all, &mut header);
        } else {
            // Servers before 3.6 know no other.
            ElectionHeader::write(settings.me, &first.host, first.port, &mut header);
        }
        *self.header.borrow_mut() = header;
    }

    /// What whoever is dialled is told first.
    pub(super) fn header(&self) -> Vec<u8> {
        self.header.borrow().clone()
    }

    /// Accepts on this port from now on.
    pub(super) fn listen(self: &Rc<Self>, listener: std::net::TcpListener) {
        let this = self.clone();
        spawn_local(async move {
            let listener = match TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!("the election port cannot be listened on: {error}"),
            };
            loop {
                let (stream, peer) = match listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        this.nuisance.warn(|| format!("cannot accept a connection on the election port: {error}"));
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                };
                let election = this.clone();
                let task = spawn_local(async move { election.welcome(stream, peer).await });
                if this.handshakes.enter(task.abort_handle()) {
                    this.nuisance
                        .warn(|| "too many silent connections on the election port; the oldest is closed".into());
                }
            }
        });
    }

    /// Sends `notification`, instead of what waits for that peer.
    pub(super) fn send(self: &Rc<Self>, to: ServerId, notification: &Notification) {
        let mut frame = Vec::new();
        notification.write(&mut frame);
        let mut peers = self.peers.borrow_mut();
        if !self.settings.is_member(to) && !peers.contains_key(&to) {
            return self.nuisance.warn(|| format!("server {to} is in no configuration; nothing can be sent to it"));
        }
        let peer = peers.entry(to).or_default();
        peer.unsent = Some(frame.into());
        match &peer.connection {
            Some(connection) => connection.filled.notify_one(),
            None => self.dial(to, peer),
        }
    }

    /// Dials `to` until nothing is left to say, unless that is going on already.
    fn dial(self: &Rc<Self>, to: ServerId, peer: &mut Peer) {
        if std::mem::replace(&mut peer.dialling, true) {
            peer.hurry.notify_one();
        } else {
            let (this, hurry) = (self.clone(), peer.hurry.clone());
            spawn_local(async move { this.keep_dialling(to, &hurry).await });
        }
    }

    async fn keep_dialling(self: Rc<Self>, to: ServerId, hurry: &Notify) {
        let (mut rest, mut told) = (REDIAL_MIN, false);
        loop {
            // A new one each time: what came before an attempt does not end it.
            let came = Rc::new(Notify::new());
            let told_places = {
                let mut peers = self.peers.borrow_mut();
                let Some(peer) = peers.get_mut(&to) else { return };
                let called_back = peer.call_back.take();
                if peer.connection.is_some() || (peer.unsent.is_none() && called_back.is_none()) {
                    peer.dialling = false;
                    self.forget_stranger(&mut peers, to);
                    return;
                }
                peer.came = came.clone();
                peer.tried = called_back.unwrap_or_default();
                peer.tried.clone()
            };
            let attempt = tokio::select! {
                attempt = self.dial_once(to, &told_places) => attempt,
                () = came.notified() => continue,
            };
            match attempt {
                Ok(stream) if to < self.settings.me => {
                    if let Some(peer) = self.peers.borrow_mut().get_mut(&to) {
                        peer.dialling = false;
                    }
                    return self.adopt(to, stream);
                }
                Ok(mut stream) => {
                    // It was told who we are, and dials us. Its end of this connection closes it.
                    let _ = stream.shutdown().await;
                    drop(stream);
                    tokio::time::sleep(CALL_BACK_WAIT).await;
                }
                Err(error) => {
                    tracing::debug!("no connection with the election port of server {to}: {error}");
                    if !self.settings.is_member(to) {
                        self.peers.borrow_mut().remove(&to);
                        return;
                    }
                    if rest == REDIAL_MAX && !std::mem::replace(&mut told, true) {
                        tracing::warn!("server {to} cannot be reached at its election port: {error}; trying again");
                    }
                    let _ = tokio::time::timeout(rest, hurry.notified()).await;
                    rest = (rest * 2).min(REDIAL_MAX);
                }
            }
        }
    }

    /// Connects and says who we are. Whoever said that it is `to` may have lied, and so about where it is: what the
    /// configuration says is not kept waiting for that, and that takes no longer than one address that does not answer.
    async fn dial_once(&self, to: ServerId, told: &[Endpoint]) -> io::Result<TcpStream> {
        let known = self.settings.election_of(to);
        let mut first = pin!(self.dial_each(&known, &self.settings.route));
        let mut early = None;
        if !told.is_empty() {
            early = tokio::time::timeout(HEAD_START, &mut first).await.ok();
            if let Some(Ok(stream)) = early {
                return Ok(stream);
            }
        }
        let patience = address::RESOLVE_MAX + self.settings.connect_timeout;
        let mut then = pin!(async {
            let silent = |_| io::Error::new(io::ErrorKind::TimedOut, "the addresses that it told do not answer");
            tokio::time::timeout(patience, self.dial_each(told, &self.told_route)).await.map_err(silent).flatten()
        });
        match early {
            Some(_) => then.await,
            None if told.is_empty() => first.await,
            None => tokio::select! {
                result = &mut first => if result.is_ok() { result } else { then.await },
                result = &mut then => if result.is_ok() { result } else { first.await },
            },
        }
    }

    /// The first of these places that accepts.
    async fn dial_each(&self, endpoints: &[Endpoint], route: &Route) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "its address is not known");
        for endpoint in endpoints {
            match address::connect(endpoint, self.settings.connect_timeout, route).await {
                Ok(mut stream) => {
                    stream.write_all(&self.header()).await?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Reads the header of a connection that was accepted.
    async fn welcome(self: Rc<Self>, mut stream: TcpStream, from: SocketAddr) {
        let header = tokio::time::timeout(self.settings.header_timeout, read_header(&mut stream));
        let (header, is_old) = match header.await {
            Ok(Ok(header)) => header,
            Ok(Err(why)) => {
                return self.nuisance.warn(|| format!("{from} connected to the election port and is no server: {why}"));
            }
            Err(_) => return self.nuisance.warn(|| format!("{from} connected to the election port and says nothing")),
        };
        if address::prepare(&stream, self.settings.route.keep_alive).is_err() {
            return;
        }
        let mut server = header.server;
        if server == self.settings.me {
            return self.twins.warn(|| {
                format!("{from} says that it is server {server}, as this one is: two servers have this myid")
            });
        }
        if server == ANONYMOUS {
            server = ServerId(self.next_anonymous.get());
            self.next_anonymous.set(server.0.wrapping_sub(1).min(-1));
        }
        if is_old && !self.settings.is_member(server) {
            // Any eight bytes are such a header, if the first is below 128.
            return self
                .nuisance
                .warn(|| format!("{from} connected to the election port and is no server of 3.5 or later"));
        }
        if !self.admits(server) {
            return self.nuisance.warn(|| {
                format!(
                    "{from} says that it is server {server}, which is in no configuration; there are too many of them"
                )
            });
        }
        if server > self.settings.me {
            return self.adopt(server, stream);
        }
        // It believes that there is no connection with us, and asks for one.
        drop(stream);
        let mut peers = self.peers.borrow_mut();
        let peer = peers.entry(server).or_default();
        let known = self.settings.election_of(server);
        let told = header.addresses.into_iter().map(|(host, port)| Endpoint { host, port });
        let told: Vec<_> = told.filter(|place| !known.contains(place)).take(TOLD_MAX).collect();
        // It asks again and again until it is called back: an attempt that looks for it at these places already goes on.
        if peer.dialling && told.iter().any(|place| !peer.tried.contains(place)) {
            peer.came.notify_one();
        }
        peer.call_back = Some(told);
        let old = peer.connection.take();
        self.dial(server, peer);
        drop(peers);
        if let Some(old) = old {
            old.task.abort();
            report_one(&self.report, Input::ElectionDown { peer: server });
        }
    }

    fn admits(&self, server: ServerId) -> bool {
        let (peers, settings) = (self.peers.borrow(), &self.settings);
        settings.is_member(server)
            || peers.contains_key(&server)
            || peers.keys().filter(|id| !settings.is_member(**id)).count() < STRANGERS_MAX
    }

    /// Whoever is in no configuration is known only as long as it is connected.
    fn forget_stranger(&self, peers: &mut BTreeMap<ServerId, Peer>, server: ServerId) {
        let idle = |p: &Peer| p.connection.is_none() && !p.dialling;
        if !self.settings.is_member(server) && peers.get(&server).is_some_and(idle) {
            peers.remove(&server);
        }
    }

    /// This is the connection with `server` from now on.
    fn adopt(self: &Rc<Self>, server: ServerId, stream: TcpStream) {
        let id = self.next_connection.get();
        self.next_connection.set(id + 1);
        let from = stream.peer_addr().ok().map(|address| address.ip());
        let filled = Rc::new(Notify::new());
        let (this, notify) = (self.clone(), filled.clone());
        let task = spawn_local(async move {
            let (read, write) = stream.into_split();
            // Both are cancelled at an await only: a frame that was read whole is reported.
            let why = tokio::select! {
                error = this.receive(server, read) => error,
                error = this.transmit(server, write, &notify) => error,
            };
            this.lost(server, id, &why);
        });
        let old = {
            let mut peers = self.peers.borrow_mut();
            let peer = peers.entry(server).or_default();
            peer.call_back = None;
            if peer.dialling {
                peer.came.notify_one();
            }
            peer.connection.replace(Connection { id, from, filled, task: task.abort_handle() })
        };
        if let Some(old) = old {
            if let (Some(before), Some(now)) = (old.from, from)
                && before != now
            {
                self.twins.warn(|| {
                    format!("server {server} was connected from {before} and is from {now} now: if both run, two servers have this myid")
                });
            }
            old.task.abort();
            report_one(&self.report, Input::ElectionDown { peer: server });
        }
        tracing::debug!("election connection with server {server}");
        report_one(&self.report, Input::ElectionUp { peer: server });
    }

    /// The connection `id` is gone.
    fn lost(self: &Rc<Self>, server: ServerId, id: u64, why: &io::Error) {
        {
            let mut peers = self.peers.borrow_mut();
            let Some(peer) = peers.get_mut(&server) else { return };
            if peer.connection.as_ref().is_none_or(|c| c.id != id) {
                return;
            }
            peer.connection = None;
            if peer.unsent.is_some() {
                self.dial(server, peer);
            }
            self.forget_stranger(&mut peers, server);
        }
        tracing::debug!("election connection with server {server} lost: {why}");
        report_one(&self.report, Input::ElectionDown { peer: server });
    }

    async fn receive(&self, from: ServerId, mut read: OwnedReadHalf) -> io::Error {
        let mut frame = Vec::new();
        loop {
            if let Err(error) = read_frame(&mut read, &mut frame).await {
                return error;
            }
            match Notification::read(&frame) {
                Ok(Some(notification)) => {
                    report_one(&self.report, Input::Notification { from, notification });
                }
                Ok(None) => self.nuisance.warn(|| format!("server {from} sent a notification with an unknown state")),
                Err(error) => self.nuisance.warn(|| format!("server {from} sent a bad notification: {error}")),
            }
        }
    }

    async fn transmit(&self, to: ServerId, mut write: OwnedWriteHalf, filled: &Notify) -> io::Error {
        let mut first = true;
        loop {
            let (frame, is_new) = {
                let mut peers = self.peers.borrow_mut();
                let Some(peer) = peers.get_mut(&to) else { return io::Error::other("replaced") };
                let unsent = peer.unsent.take();
                let is_new = unsent.is_some();
                if is_new {
                    peer.last.clone_from(&unsent);
                }
                // What was said last may have been lost with the connection before.
                (unsent.or_else(|| if first { peer.last.clone() } else { None }), is_new)
            };
            first = false;
            let Some(frame) = frame else {
                filled.notified().await;
                continue;
            };
            if let Err(error) = write.write_all(&frame).await {
                if is_new && let Some(peer) = self.peers.borrow_mut().get_mut(&to) {
                    peer.unsent.get_or_insert(frame);
                }
                return error;
            }
        }
    }
}

/// The header, and whether it is in the form before 3.5. Byte for byte: what is behind it is not to be lost.
async fn read_header(stream: &mut TcpStream) -> io::Result<(ElectionHeader, bool)> {
    let mut buffer = Vec::with_capacity(64);
    loop {
        match ElectionHeader::parse(&buffer) {
            Ok(Some((header, len))) => return Ok((header, len == OLD_HEADER)),
            Ok(None) if buffer.len() >= HEADER_MAX => return Err(io::Error::other("the header does not end")),
            Ok(None) => {}
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
        }
        buffer.push(stream.read_u8().await?);
    }
}

async fn read_frame(read: &mut OwnedReadHalf, frame: &mut Vec<u8>) -> io::Result<()> {
    let len = read.read_i32().await?;
    let len = usize::try_from(len).ok().filter(|len| (1..=NOTIFICATION_MAX).contains(len));
    let Some(len) = len else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the length of a notification is out of bounds"));
    };
    frame.clear();
    // Grows as bytes come: a length alone costs nothing.
    let read = (&mut *read).take(len as u64).read_to_end(frame).await?;
    if read < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
