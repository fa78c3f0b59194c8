//! A session that writes one znode, each write on the condition that it is the next one, and goes on at
//! another server when it loses its connection.
//!
//! It tells when each write was due and when it was acknowledged, and knows at its end how often the znode
//! was written: a write whose reply was lost is found done or not done by the version.

use crate::servers::ROOT;
use anyhow::{Context as _, Result, bail, ensure};
use farrier_proto::client::ConnectResponse;
use farrier_proto::{Field as _, OpCode, Reader};
use farrier_testkit::enc::{Body, body};
use farrier_testkit::raw::{Answer, Client, Conn, Connect, Frame, Reply, Sessions};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Pause between two tries to connect; the first try comes at once.
pub(super) const RECONNECT: Duration = Duration::from_millis(5);
/// How long a server may be silent until the session tries another one.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// How long no server at all may take the session.
const HOMELESS_MAX: Duration = Duration::from_secs(60);
/// Session timeout asked for.
const TIMEOUT_MS: i32 = 40_000;
const BAD_VERSION: i32 = -103;
/// Errors after which a request may have been done or not: system error, connection loss, operation timeout,
/// session moved.
const VAGUE: [i32; 4] = [-1, -4, -7, -118];

/// When the next write is due.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// At fixed times, whether or not the one before was late.
    Every(Duration),
    /// So long after the one before was acknowledged.
    After(Duration),
}

/// An acknowledged write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack {
    pub(super) due: Instant,
    pub(super) at: Instant,
}

/// What a writer shares with those who watch it.
#[derive(Clone, Default, Debug)]
pub(super) struct Watch {
    acks: Arc<Mutex<Vec<Ack>>>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// Acknowledgements so far.
    pub(super) fn acks(&self) -> Result<Vec<Ack>> {
        Ok(self.acks.lock().map_err(|_| anyhow::anyhow!("a writer panicked"))?.clone())
    }

    /// Acknowledgements after a moment.
    pub(super) fn count_since(&self, since: Instant) -> Result<usize> {
        let acks = self.acks.lock().map_err(|_| anyhow::anyhow!("a writer panicked"))?;
        Ok(acks.iter().rev().take_while(|ack| ack.at > since).count())
    }

    /// Asks the writer to end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What is left of a writer.
#[derive(Debug)]
pub(super) struct Done {
    path: String,
    /// Writes that were done, which is the znode's version.
    version: i32,
}

impl Done {
    /// Compares with what a server shows.
    pub(super) fn verify(&self, addr: SocketAddr) -> Result<()> {
        let mut client = Client::open(addr, &Connect::default(), &Sessions::default())?;
        ask(&mut client, OpCode::Sync, body().s("/"))?.context("no reply to sync")?.ok()?;
        let reply = ask(&mut client, OpCode::GetData, body().s(&self.path).z(0))?.context("no reply to getData")?;
        let (version, data) = (reply.stat()?.version, reply.data()?);
        ensure!(
            version == self.version && data.as_deref() == Some(token(self.version).as_slice()),
            "{} was written {} times and has version {version}, {data:?}",
            self.path,
            self.version
        );
        client.close()?;
        Ok(())
    }
}

/// What the write that makes a version writes.
fn token(version: i32) -> Vec<u8> {
    let mut data = vec![b'w'; 100];
    data[..4].copy_from_slice(&version.to_be_bytes());
    data
}

/// `None` when the connection is lost, or the server silent.
fn ask(client: &mut Client, op: OpCode, request: Body) -> Result<Option<Reply>> {
    let xid = client.send(op.code(), request)?;
    match client.answer(SILENCE_MAX) {
        Ok(Answer::Reply(reply)) => {
            ensure!(reply.xid == xid, "a reply with xid {} to the request with xid {xid}", reply.xid);
            Ok(if VAGUE.contains(&reply.err) { None } else { Some(reply) })
        }
        // A frame that was cut off is a connection that was lost.
        Ok(Answer::Closed | Answer::Silent) | Err(_) => Ok(None),
    }
}

/// One session, to be run on a thread of its own.
#[derive(Debug)]
pub(super) struct Writer {
    servers: Vec<SocketAddr>,
    at: usize,
    path: String,
    pace: Pace,
    watch: Watch,
    session: i64,
    password: Vec<u8>,
    zxid: i64,
    version: i32,
}

impl Writer {
    /// A session still to be opened, on `servers[first]`; `name` names its znode.
    pub(super) fn new(servers: &[SocketAddr], first: usize, name: &str, pace: Pace, watch: &Watch) -> Self {
        Self {
            servers: servers.to_vec(),
            at: first,
            path: format!("{ROOT}/{name}"),
            pace,
            watch: watch.clone(),
            session: 0,
            password: vec![0; 16],
            zxid: 0,
            version: 0,
        }
    }

    /// Writes until it is asked to end; a write of unknown fate is resolved first.
    pub(super) fn run(mut self) -> Result<Done> {
        let mut client = self.connect()?;
        let create = body().create(&self.path, &token(0), 0);
        ask(&mut client, OpCode::Create, create)?.context("no reply to create")?.ok()?;
        let mut due = Instant::now();
        let mut lost = false;
        while lost || !self.watch.stop.load(Ordering::Relaxed) {
            let next = self.version + 1;
            let request = body().s(&self.path).s(token(next)).i(self.version);
            let reply = ask(&mut client, OpCode::SetData, request)?;
            let Some(reply) = reply else {
                lost = true;
                drop(client);
                self.at = (self.at + 1) % self.servers.len();
                client = self.connect()?;
                continue;
            };
            self.zxid = self.zxid.max(reply.zxid);
            if lost && reply.err == BAD_VERSION {
                // The write whose reply was lost was done.
                self.version = next;
                lost = false;
                continue;
            }
            let version = reply.stat().with_context(|| format!("write {next} of {}", self.path))?.version;
            ensure!(version == next, "write {next} of {} made version {version}", self.path);
            lost = false;
            self.version = next;
            let at = Instant::now();
            self.watch.acks.lock().map_err(|_| anyhow::anyhow!("a watcher panicked"))?.push(Ack { due, at });
            match self.pace {
                Pace::Every(period) => {
                    due += period;
                    std::thread::sleep(due.saturating_duration_since(at));
                }
                Pace::After(pause) => {
                    std::thread::sleep(pause);
                    due = Instant::now();
                }
            }
        }
        client.close()?;
        Ok(Done { path: self.path, version: self.version })
    }

    fn connect(&mut self) -> Result<Client> {
        let deadline = Instant::now() + HOMELESS_MAX;
        while Instant::now() < deadline {
            let ask = Connect {
                last_zxid: self.zxid,
                timeout: TIMEOUT_MS,
                session: self.session,
                password: Some(self.password.clone()),
                read_only: Some(false),
            };
            if let Some((conn, response)) = shake_hands(self.servers[self.at], &ask) {
                ensure!(response.timeout > 0, "session 0x{:x} has expired", self.session);
                let client = Client::on(conn, &response, &Sessions::default())?;
                ensure!(self.session == 0 || self.session == client.session, "another session came back");
                self.session = client.session;
                self.password.clone_from(&client.password);
                return Ok(client);
            }
            self.at = (self.at + 1) % self.servers.len();
            std::thread::sleep(RECONNECT);
        }
        bail!("no server took session 0x{:x} for {HOMELESS_MAX:?}", self.session)
    }
}

/// A handshake with one server, if it answers.
fn shake_hands(addr: SocketAddr, ask: &Connect) -> Option<(Conn, ConnectResponse)> {
    let mut conn = Conn::open_within(addr, SILENCE_MAX).ok()?;
    conn.send_frame(&ask.encode()).ok()?;
    match conn.frame(SILENCE_MAX).ok()? {
        Frame::Payload(bytes) => Some((conn, ConnectResponse::read(&mut Reader::new(&bytes)).ok()?)),
        Frame::Closed | Frame::Silent => None,
    }
}
