//! A session that writes one znode, each write on the condition that it is the next one, and goes on at
//! another server when it loses its connection.
//!
//! It tells when each write was due and when it was acknowledged, and knows at its end how often the znode
//! was written: a write whose reply was lost is found done or not done by the version.

use super::conn::{Conn, Lease};
use crate::frame::{data, put_create, put_read, put_set_at};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use farrier_proto::client::CreateMode;
use farrier_proto::jute::put_str;
use farrier_proto::{ErrorCode, OpCode, SessionId};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{Scope, ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

/// Pause between two tries to connect; the first try comes at once.
const RECONNECT: Duration = Duration::from_millis(5);
/// How long no server at all may take the session.
const HOMELESS_MAX: Duration = Duration::from_secs(60);

/// When the next write is due.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// At fixed times, whether or not the one before was late.
    Every(Duration),
    /// So long after the one before was acknowledged.
    After(Duration),
}

/// An acknowledged write.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// When it should have been sent.
    pub due: Instant,
    /// When its reply came.
    pub at: Instant,
}

/// What a writer shares with those who watch it.
#[derive(Clone, Default, Debug)]
pub struct Watch {
    acks: Arc<Mutex<Vec<Ack>>>,
    stop: Arc<AtomicBool>,
    abandoned: Arc<AtomicBool>,
}

impl Watch {
    /// Acknowledgements so far.
    ///
    /// # Errors
    ///
    /// The writer panicked.
    pub fn acks(&self) -> Result<Vec<Ack>> {
        Ok(self.lock()?.clone())
    }

    /// How many acknowledgements came after a moment.
    ///
    /// # Errors
    ///
    /// The writer panicked.
    pub fn count_since(&self, since: Instant) -> Result<usize> {
        Ok(self.lock()?.iter().rev().take_while(|ack| ack.at > since).count())
    }

    /// Asks the writer to end; it still finds out what became of its last write.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Asks the writer to end, even where no server takes it any more.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
        self.stop();
    }

    fn lock(&self) -> Result<MutexGuard<'_, Vec<Ack>>> {
        self.acks.lock().map_err(|_| anyhow!("a writer panicked"))
    }
}

/// What is left of a writer.
#[derive(Debug)]
pub struct Done {
    path: String,
    size: usize,
    /// Writes that were done, which is the znode's version.
    version: i32,
}

impl Done {
    /// Compares with what a server shows behind a sync.
    ///
    /// # Errors
    ///
    /// An acknowledged write is missing, or the server does not answer.
    pub fn verify(&self, addr: SocketAddr) -> Result<()> {
        let mut lease = Lease::NONE;
        let mut conn = Conn::open(addr, &mut lease)?.with_context(|| format!("{addr} gives no session"))?;
        let sync = conn.ask(&mut lease, OpCode::Sync, |out| put_str(out, &self.path))?;
        sync.with_context(|| format!("{addr} does not answer sync"))?.ok()?;
        let read = conn.ask(&mut lease, OpCode::GetData, |out| put_read(out, &self.path, false))?;
        let reply = read.with_context(|| format!("{addr} does not answer getData"))?;
        let (version, found) = (reply.stat()?.version, data(&reply.body));
        ensure!(
            version == self.version && found == Some(token(self.version, self.size).as_slice()),
            "{} was written {} times and has version {version}, {found:?} on {addr}",
            self.path,
            self.version
        );
        conn.close(&mut lease)
    }
}

/// What the write that makes a version writes.
fn token(version: i32, size: usize) -> Vec<u8> {
    let mut data = version.to_be_bytes().to_vec();
    data.resize(size.max(data.len()), b'w');
    data
}

/// A writer on its thread.
#[derive(Debug)]
pub struct Running<'s>(ScopedJoinHandle<'s, Result<Done>>);

impl Running<'_> {
    /// Whether it has ended. One that was not asked to has failed.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// A server refused a write or answered wrongly, or none took the session.
    pub fn join(self) -> Result<Done> {
        self.0.join().map_err(|_| anyhow!("a writer panicked"))?
    }
}

/// One session.
#[derive(Debug)]
pub struct Writer {
    servers: Vec<SocketAddr>,
    at: usize,
    path: String,
    size: usize,
    pace: Pace,
    watch: Watch,
    lease: Lease,
    version: i32,
}

impl Writer {
    /// A session still to be opened, on `servers[first]`, that creates a znode at `path` and writes values of so many bytes.
    #[must_use]
    pub fn new(servers: &[SocketAddr], first: usize, path: &str, size: usize, pace: Pace, watch: &Watch) -> Self {
        Self {
            servers: servers.to_vec(),
            at: first,
            path: path.to_owned(),
            size,
            pace,
            watch: watch.clone(),
            lease: Lease::NONE,
            version: 0,
        }
    }

    /// Lets it run on a thread of its own, until [`Watch::stop`].
    pub fn start<'s>(self, scope: &'s Scope<'s, '_>) -> Running<'s> {
        Running(scope.spawn(move || self.run()))
    }

    /// Writes until it is asked to end; a write of unknown fate is resolved first.
    fn run(mut self) -> Result<Done> {
        let mut conn = self.connect()?;
        let create = conn.ask(&mut self.lease, OpCode::Create, |out| {
            put_create(out, &self.path, &token(0, self.size), CreateMode::Persistent);
        })?;
        create.with_context(|| format!("no reply to the creation of {}", self.path))?.ok()?;
        let mut due = Instant::now();
        let mut lost = false;
        while lost || !self.watch.stop.load(Ordering::Relaxed) {
            let next = self.version + 1;
            let reply = conn.ask(&mut self.lease, OpCode::SetData, |out| {
                put_set_at(out, &self.path, &token(next, self.size), self.version);
            })?;
            let Some(reply) = reply else {
                lost = true;
                drop(conn);
                self.at = (self.at + 1) % self.servers.len();
                conn = self.connect()?;
                continue;
            };
            if lost && reply.err == ErrorCode::BadVersion.code() {
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
            self.watch.lock()?.push(Ack { due, at });
            match self.pace {
                Pace::Every(period) => {
                    due += period;
                    sleep(due.saturating_duration_since(at));
                }
                Pace::After(pause) => {
                    sleep(pause);
                    due = Instant::now();
                }
            }
        }
        conn.close(&mut self.lease)?;
        Ok(Done { path: self.path, size: self.size, version: self.version })
    }

    fn connect(&mut self) -> Result<Conn> {
        let deadline = Instant::now() + HOMELESS_MAX;
        while Instant::now() < deadline && !self.watch.abandoned.load(Ordering::Relaxed) {
            if let Some(conn) = Conn::open(self.servers[self.at], &mut self.lease)? {
                return Ok(conn);
            }
            self.at = (self.at + 1) % self.servers.len();
            sleep(RECONNECT);
        }
        match self.lease.session {
            SessionId::NONE => bail!("no server gave a session within {HOMELESS_MAX:?}"),
            session => bail!("no server took session 0x{:x} for {HOMELESS_MAX:?}", session.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::client::{ConnectRequest, ConnectResponse, ReplyHeader, begin_frame, end_frame};
    use farrier_proto::{Field as _, Reader, Stat, Xid, Zxid};
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::thread::scope;

    /// One znode, behind an address that drops each connection at its third request, in turn before and after the request
    /// is done.
    #[derive(Default)]
    struct Flaky {
        version: i32,
        data: Vec<u8>,
        sessions: i64,
        drops: usize,
    }

    impl Flaky {
        /// Until the connection ends.
        fn serve(&mut self, stream: &mut TcpStream, drops: bool) -> Option<()> {
            let ask = receive(stream)?;
            let request = ConnectRequest::read(&mut Reader::new(&ask)).ok()?;
            let session = match request.session {
                SessionId::NONE => {
                    self.sessions += 1;
                    SessionId(self.sessions)
                }
                again => again,
            };
            let response = ConnectResponse { timeout: 40_000, session, password: [7; 16], read_only: Some(false) };
            send(stream, |out| response.write(out))?;
            for number in 1.. {
                let ask = receive(stream)?;
                let mut reader = Reader::new(&ask);
                let (xid, op) = (reader.i32().ok()?, reader.i32().ok()?);
                let is_lost = drops && number == 3;
                if is_lost {
                    self.drops += 1;
                    if self.drops % 2 == 1 {
                        return None;
                    }
                }
                let (mut err, mut body) = (0, Vec::new());
                match OpCode::from_code(op)? {
                    OpCode::Create => put_str(&mut body, reader.string().ok()??.as_ref()),
                    OpCode::SetData => {
                        reader.string().ok()??;
                        let data = reader.buffer().ok()??.to_vec();
                        if reader.i32().ok()? == self.version {
                            self.version += 1;
                            self.data = data;
                            self.stat().write(&mut body);
                        } else {
                            err = ErrorCode::BadVersion.code();
                        }
                    }
                    OpCode::GetData => {
                        farrier_proto::jute::put_buffer(&mut body, Some(&self.data));
                        self.stat().write(&mut body);
                    }
                    _ => {}
                }
                if is_lost {
                    return None;
                }
                send(stream, |out| {
                    ReplyHeader { xid: Xid(xid), zxid: 1, err }.write(out);
                    out.extend_from_slice(&body);
                })?;
            }
            None
        }

        fn stat(&self) -> Stat {
            let zero = Zxid::ZERO;
            Stat {
                czxid: zero,
                mzxid: zero,
                ctime: 0,
                mtime: 0,
                version: self.version,
                cversion: 0,
                aversion: 0,
                ephemeral_owner: 0,
                data_length: 0,
                num_children: 0,
                pzxid: zero,
            }
        }
    }

    fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
        let mut len = [0; 4];
        stream.read_exact(&mut len).ok()?;
        let mut ask = vec![0; usize::try_from(i32::from_be_bytes(len)).ok()?];
        stream.read_exact(&mut ask).ok()?;
        Some(ask)
    }

    fn send(stream: &mut TcpStream, write: impl FnOnce(&mut Vec<u8>)) -> Option<()> {
        let mut frame = Vec::new();
        let at = begin_frame(&mut frame);
        write(&mut frame);
        end_frame(&mut frame, at);
        stream.write_all(&frame).ok()
    }

    #[test]
    fn a_session_goes_on_and_finds_out_what_became_of_its_last_write() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let watch = Watch::default();
        let mut flaky = Flaky::default();
        scope(|scope| {
            let writer = Writer::new(&[addr], 0, "/w", 20, Pace::After(Duration::ZERO), &watch).start(scope);
            // A connection lost before its write was done, one after, and so on.
            while flaky.drops < 6 {
                flaky.serve(&mut listener.accept().expect("the writer comes").0, true);
            }
            watch.stop();
            flaky.serve(&mut listener.accept().expect("the writer comes").0, false);
            let done = writer.join().expect("nothing went wrong");
            assert_eq!((done.version, done.size, flaky.sessions), (flaky.version, 20, 1));
            // Each third write's reply never came, if it was done.
            assert_eq!(watch.acks().expect("acknowledgements").len() + 3, usize::try_from(done.version).expect("few"));
            let verified = scope.spawn(move || {
                done.verify(addr).expect("it is there");
                Done { version: done.version + 1, ..done }.verify(addr)
            });
            for _ in 0..2 {
                flaky.serve(&mut listener.accept().expect("somebody looks").0, false);
            }
            let missing = verified.join().expect("no panic").expect_err("a write that was never done");
            assert!(missing.to_string().contains("was written"), "{missing}");
        });
    }
}
