//! A blocking client that sends any bytes and decodes what comes back.

use crate::enc::{AclEntry, Body, OPEN, body};
use anyhow::{Context as _, Result, bail, ensure};
use farrier_proto::client::{ConnectResponse, ReplyHeader, WatcherEvent};
use farrier_proto::{Acl, Field as _, OpCode, Reader, Stat, Xid};
use std::collections::BTreeSet;
use std::fmt;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long an answer may take before the server counts as silent.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long a server may take to close a connection behind its last reply.
const CLOSING: Duration = Duration::from_millis(300);
/// Largest frame that this client reads.
const FRAME_MAX: usize = 64 << 20;

/// What came from the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// A whole frame, without its length word.
    Payload(Vec<u8>),
    /// The server closed the connection.
    Closed,
    /// Nothing came in time.
    Silent,
}

/// A connection without any notion of a session.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    buf: Vec<u8>,
}

impl Conn {
    /// Connects.
    pub fn open(addr: SocketAddr) -> Result<Self> {
        Self::open_within(addr, PATIENCE)
    }

    /// Connects to a server that may not answer at all.
    pub fn open_within(addr: SocketAddr, patience: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, patience).with_context(|| format!("connecting to {addr}"))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buf: Vec::new() })
    }

    /// Sends bytes as they are. A connection that the server has closed swallows them: the next read
    /// tells.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match self.stream.write_all(bytes) {
            Err(e) if !is_closed(e.kind()) => Err(e).context("sending"),
            _ => Ok(()),
        }
    }

    /// Sends a frame: length word and payload.
    pub fn send_frame(&mut self, payload: &[u8]) -> Result<()> {
        self.send(&framed(payload))
    }

    /// Waits for the next frame, at most for `patience`.
    pub fn frame(&mut self, patience: Duration) -> Result<Frame> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(head) = self.buf.first_chunk::<4>() {
                let len = usize::try_from(i32::from_be_bytes(*head)).context("a frame of negative length")?;
                ensure!(len <= FRAME_MAX, "a frame of {len} bytes");
                if self.buf.len() >= 4 + len {
                    let payload = self.buf[4..4 + len].to_vec();
                    self.buf.drain(..4 + len);
                    return Ok(Frame::Payload(payload));
                }
            }
            match self.fill(deadline)? {
                Fill::More => {}
                Fill::Timeout => return Ok(Frame::Silent),
                Fill::End if self.buf.is_empty() => return Ok(Frame::Closed),
                Fill::End => bail!("the connection ended inside a frame: {:02x?}", self.buf),
            }
        }
    }

    /// Everything until the server closes, unframed.
    pub fn to_end(&mut self) -> Result<Vec<u8>> {
        self.until_end(PATIENCE)
    }

    fn until_end(&mut self, patience: Duration) -> Result<Vec<u8>> {
        let deadline = Instant::now() + patience;
        loop {
            match self.fill(deadline)? {
                Fill::More => {}
                Fill::End => return Ok(std::mem::take(&mut self.buf)),
                Fill::Timeout => bail!("the server did not close the connection; so far: {:02x?}", self.buf),
            }
        }
    }

    fn fill(&mut self, deadline: Instant) -> Result<Fill> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Fill::Timeout);
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut chunk = [0; 16384];
        match self.stream.read(&mut chunk) {
            Ok(0) => Ok(Fill::End),
            Ok(n) => {
                self.buf.extend_from_slice(&chunk[..n]);
                Ok(Fill::More)
            }
            Err(e) if is_closed(e.kind()) => Ok(Fill::End),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(Fill::Timeout),
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(Fill::More),
            Err(e) => Err(e).context("receiving"),
        }
    }

    /// Sends a connect request and reads the answer.
    pub fn handshake(&mut self, ask: &Connect) -> Result<Handshake> {
        self.send_frame(&ask.encode())?;
        self.handshake_answer()
    }

    /// Reads the answer to a connect request.
    pub fn handshake_answer(&mut self) -> Result<Handshake> {
        Ok(match self.frame(PATIENCE)? {
            Frame::Payload(bytes) => {
                Handshake::Response { len: bytes.len(), response: ConnectResponse::read(&mut Reader::new(&bytes))? }
            }
            Frame::Closed => Handshake::Closed,
            Frame::Silent => bail!("no answer to the handshake"),
        })
    }
}

enum Fill {
    More,
    End,
    Timeout,
}

const fn is_closed(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted | ErrorKind::NotConnected
    )
}

/// `payload` behind its length word.
#[must_use]
pub fn framed(payload: &[u8]) -> Vec<u8> {
    body().s(payload).0
}

/// The bytes of a four-letter word's answer.
pub fn four_letter_word(addr: SocketAddr, word: &str) -> Result<String> {
    four_letter_word_within(addr, word, PATIENCE)
}

/// The bytes of a four-letter word's answer, if it is complete within `patience`.
pub fn four_letter_word_within(addr: SocketAddr, word: &str, patience: Duration) -> Result<String> {
    let mut conn = Conn::open_within(addr, patience)?;
    conn.send(word.as_bytes())?;
    Ok(String::from_utf8_lossy(&conn.until_end(patience)?).into_owned())
}

/// A connect request.
#[derive(Clone, Debug)]
pub struct Connect {
    /// Newest zxid that the client claims to have seen.
    pub last_zxid: i64,
    /// Session timeout asked for, in milliseconds.
    pub timeout: i32,
    /// 0 for a new session.
    pub session: i64,
    /// `None` for null.
    pub password: Option<Vec<u8>>,
    /// `None` leaves the byte out.
    pub read_only: Option<bool>,
}

impl Default for Connect {
    fn default() -> Self {
        Self { last_zxid: 0, timeout: 10_000, session: 0, password: Some(vec![0; 16]), read_only: Some(false) }
    }
}

impl Connect {
    /// Re-attachment to a session.
    #[must_use]
    pub fn again(session: i64, password: &[u8]) -> Self {
        Self { session, password: Some(password.to_vec()), ..Self::default() }
    }

    /// The payload of the frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let b = body().i(0).l(self.last_zxid).i(self.timeout).l(self.session).opt(self.password.as_deref());
        match self.read_only {
            Some(flag) => b.z(u8::from(flag)).0,
            None => b.0,
        }
    }
}

/// What a server says to a connect request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Handshake {
    /// A response, and the length of its frame.
    Response {
        /// Bytes of the payload.
        len: usize,
        /// The response.
        response: ConnectResponse,
    },
    /// The connection was closed without a byte.
    Closed,
}

impl Handshake {
    /// The response; an error if there is none.
    pub fn response(self) -> Result<ConnectResponse> {
        match self {
            Self::Response { response, .. } => Ok(response),
            Self::Closed => bail!("the server closed the connection instead of answering the handshake"),
        }
    }

    /// Whether it is the well-formed response that tells that the session is gone.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        matches!(self, Self::Response { response, .. } if *response == ConnectResponse::expired(response.read_only))
    }
}

/// A reply to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// As in the header.
    pub xid: i32,
    /// As in the header.
    pub zxid: i64,
    /// As in the header; 0 for success.
    pub err: i32,
    /// What follows the header.
    pub body: Vec<u8>,
}

impl Reply {
    /// Demands success: for the steps that set a case up.
    pub fn ok(self) -> Result<Self> {
        ensure!(self.err == 0, "a step that should succeed got the error {}", self.err);
        Ok(self)
    }

    /// A cursor over the body.
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(&self.body)
    }

    /// The path that the body starts with.
    pub fn path(&self) -> Result<String> {
        ensure!(self.err == 0, "error {} instead of a path", self.err);
        Ok(self.reader().string()?.context("a null path")?.into_owned())
    }

    /// The stat that the body ends with.
    pub fn stat(&self) -> Result<Stat> {
        ensure!(self.err == 0, "error {} instead of a stat", self.err);
        let at = self.body.len().checked_sub(Stat::LEN).context("no room for a stat")?;
        Ok(Stat::read(&mut Reader::new(&self.body[at..]))?)
    }

    /// The data of getData's reply; `None` for null.
    pub fn data(&self) -> Result<Option<Vec<u8>>> {
        ensure!(self.err == 0, "error {} instead of data", self.err);
        Ok(self.reader().buffer()?.map(<[u8]>::to_vec))
    }

    /// The list of getACL's reply.
    pub fn acl(&self) -> Result<Vec<Acl<'static>>> {
        ensure!(self.err == 0, "error {} instead of an ACL", self.err);
        let mut r = self.reader();
        let n = r.count()?.context("a null list")?;
        (0..n).map(|_| Ok(Acl::read(&mut r)?.into_owned())).collect()
    }

    /// The vector of strings that the body starts with, sorted.
    pub fn names(&self) -> Result<Vec<String>> {
        ensure!(self.err == 0, "error {} instead of names", self.err);
        let mut r = self.reader();
        let n = r.count()?.context("a null vector")?;
        let mut out = Vec::new();
        for _ in 0..n {
            out.push(r.string()?.context("a null name")?.into_owned());
        }
        out.sort();
        Ok(out)
    }
}

/// What became of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It was answered.
    Reply(Reply),
    /// The connection was closed instead.
    Closed,
    /// Neither, in time.
    Silent,
}

/// The error code, `close` or `silence`.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply(r) => write!(f, "{}", r.err),
            Self::Closed => f.write_str("close"),
            Self::Silent => f.write_str("silence"),
        }
    }
}

/// A watch event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// zxid of the header.
    pub zxid: i64,
    /// 1 created, 2 deleted, 3 data changed, 4 children changed.
    pub kind: i32,
    /// Connection state in the event, always 3.
    pub state: i32,
    /// Path.
    pub path: String,
}

/// Sessions that a case opened, so that it can close them.
pub type Sessions = Arc<Mutex<BTreeSet<i64>>>;

/// A connection with a session. Dropping it leaves the session alive.
#[derive(Debug)]
pub struct Client {
    /// The connection below.
    pub conn: Conn,
    /// Session id.
    pub session: i64,
    /// Session password.
    pub password: Vec<u8>,
    /// Negotiated timeout in milliseconds.
    pub timeout: i32,
    /// Events that came and were not taken yet.
    pub events: Vec<Event>,
    xid: i32,
}

impl Client {
    /// Opens or re-attaches a session; an error if the server does not agree.
    pub fn open(addr: SocketAddr, ask: &Connect, sessions: &Sessions) -> Result<Self> {
        let mut conn = Conn::open(addr)?;
        let response = conn.handshake(ask)?.response()?;
        Self::on(conn, &response, sessions)
    }

    /// A client on a connection whose handshake is done.
    pub fn on(conn: Conn, response: &ConnectResponse, sessions: &Sessions) -> Result<Self> {
        ensure!(response.timeout != 0, "the server says that the session has expired");
        sessions.lock().map_err(|_| anyhow::anyhow!("another thread panicked"))?.insert(response.session.0);
        Ok(Self {
            conn,
            session: response.session.0,
            password: response.password.to_vec(),
            timeout: response.timeout,
            events: Vec::new(),
            xid: 0,
        })
    }

    /// Sends a request without waiting; returns its xid.
    pub fn send(&mut self, op: i32, body: Body) -> Result<i32> {
        self.xid += 1;
        self.send_as(self.xid, op, body)?;
        Ok(self.xid)
    }

    /// Sends a request with an xid of one's own.
    pub fn send_as(&mut self, xid: i32, op: i32, body: Body) -> Result<()> {
        self.conn.send_frame(&Body::new().i(xid).i(op).raw(&body.0).0)
    }

    /// Waits for the next reply, and keeps the events that come before it.
    pub fn answer(&mut self, patience: Duration) -> Result<Answer> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let bytes = match self.conn.frame(left)? {
                Frame::Payload(bytes) => bytes,
                Frame::Closed => return Ok(Answer::Closed),
                Frame::Silent => return Ok(Answer::Silent),
            };
            let mut r = Reader::new(&bytes);
            let header = ReplyHeader::read(&mut r)?;
            // No test sends a request with this xid.
            if header.xid == Xid::NOTIFICATION {
                let event = WatcherEvent::read(&mut r)?;
                ensure!(r.is_empty(), "bytes behind an event");
                self.events.push(Event {
                    zxid: header.zxid,
                    kind: event.kind,
                    state: event.state,
                    path: event.path.into_owned(),
                });
                continue;
            }
            return Ok(Answer::Reply(Reply {
                xid: header.xid.0,
                zxid: header.zxid,
                err: header.err,
                body: r.rest().to_vec(),
            }));
        }
    }

    /// Waits for a reply; anything else is an error.
    pub fn reply(&mut self) -> Result<Reply> {
        match self.answer(PATIENCE)? {
            Answer::Reply(r) => Ok(r),
            Answer::Closed => bail!("the connection was closed instead of a reply"),
            Answer::Silent => bail!("no reply in time"),
        }
    }

    /// One request, whatever comes of it.
    pub fn ask(&mut self, op: i32, body: Body) -> Result<Answer> {
        self.send(op, body)?;
        self.answer(PATIENCE)
    }

    /// One request that must be answered, with the xid that it had.
    pub fn call(&mut self, op: OpCode, body: Body) -> Result<Reply> {
        let xid = self.send(op.code(), body)?;
        let reply = self.reply()?;
        ensure!(reply.xid == xid, "a reply with xid {} to the request with xid {xid}", reply.xid);
        Ok(reply)
    }

    /// Like [`Client::call`], for the error code alone.
    pub fn err(&mut self, op: OpCode, body: Body) -> Result<i32> {
        Ok(self.call(op, body)?.err)
    }

    /// What has become of the connection: `open` if a ping is answered, otherwise `close` or `silence`.
    /// Leaves the server a moment to close it first, since it may still answer while it does.
    pub fn state(&mut self) -> Result<&'static str> {
        if self.closes(CLOSING)? {
            return Ok("close");
        }
        self.send_as(-2, OpCode::Ping.code(), body())?;
        Ok(match self.answer(PATIENCE)? {
            Answer::Reply(_) => "open",
            Answer::Closed => "close",
            Answer::Silent => "silence",
        })
    }

    /// Whether the server closes the connection, all by itself, within `patience`.
    pub fn closes(&mut self, patience: Duration) -> Result<bool> {
        Ok(match self.answer(patience)? {
            Answer::Closed => true,
            Answer::Silent => false,
            Answer::Reply(r) => bail!("an unexpected reply: {r:?}"),
        })
    }

    /// The server's last zxid, by a ping.
    pub fn z(&mut self) -> Result<i64> {
        self.send_as(-2, OpCode::Ping.code(), body())?;
        Ok(self.reply()?.ok()?.zxid)
    }

    /// Events that were sent before now: what precedes the reply of a ping.
    pub fn take_events(&mut self) -> Result<Vec<Event>> {
        self.z()?;
        Ok(std::mem::take(&mut self.events))
    }

    /// Waits until there are `n` events, or patience ends.
    pub fn wait_events(&mut self, n: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE * 2;
        while self.events.len() < n && Instant::now() < deadline {
            match self.answer(Duration::from_millis(100))? {
                Answer::Silent => {}
                Answer::Closed => bail!("the connection was closed instead of an event"),
                Answer::Reply(r) => bail!("an unexpected reply: {r:?}"),
            }
        }
        Ok(())
    }

    /// Listens for `time`, and keeps the events that come.
    pub fn listen(&mut self, time: Duration) -> Result<()> {
        match self.answer(time)? {
            Answer::Silent => Ok(()),
            Answer::Closed => bail!("the connection was closed"),
            Answer::Reply(r) => bail!("an unexpected reply: {r:?}"),
        }
    }

    /// create with data and an open list.
    pub fn create(&mut self, path: impl AsRef<[u8]>, data: &[u8]) -> Result<Reply> {
        self.create_flags(path, data, 0)
    }

    /// create with flags.
    pub fn create_flags(&mut self, path: impl AsRef<[u8]>, data: &[u8], flags: i32) -> Result<Reply> {
        self.call(OpCode::Create, body().create(path, data, flags))
    }

    /// create with a list.
    pub fn create_acl(&mut self, path: impl AsRef<[u8]>, acl: &[AclEntry<'_>]) -> Result<Reply> {
        self.call(OpCode::Create, body().s(path).s(b"").acl(acl).i(0))
    }

    /// create2.
    pub fn create2(&mut self, path: impl AsRef<[u8]>, data: &[u8], flags: i32) -> Result<Reply> {
        self.call(OpCode::Create2, body().create(path, data, flags))
    }

    /// createContainer.
    pub fn create_container(&mut self, path: impl AsRef<[u8]>) -> Result<Reply> {
        self.call(OpCode::CreateContainer, body().create(path, b"", 4))
    }

    /// createTTL.
    pub fn create_ttl(&mut self, path: impl AsRef<[u8]>, flags: i32, ttl: i64) -> Result<Reply> {
        self.call(OpCode::CreateTtl, body().s(path).s(b"").acl(OPEN).i(flags).l(ttl))
    }

    /// delete.
    pub fn delete(&mut self, path: impl AsRef<[u8]>, version: i32) -> Result<Reply> {
        self.call(OpCode::Delete, body().s(path).i(version))
    }

    /// setData.
    pub fn set(&mut self, path: impl AsRef<[u8]>, data: &[u8], version: i32) -> Result<Reply> {
        self.call(OpCode::SetData, body().s(path).s(data).i(version))
    }

    /// getData.
    pub fn get(&mut self, path: impl AsRef<[u8]>, watch: bool) -> Result<Reply> {
        self.call(OpCode::GetData, body().s(path).z(u8::from(watch)))
    }

    /// exists.
    pub fn exists(&mut self, path: impl AsRef<[u8]>, watch: bool) -> Result<Reply> {
        self.call(OpCode::Exists, body().s(path).z(u8::from(watch)))
    }

    /// The stat of a node that must exist.
    pub fn stat(&mut self, path: impl AsRef<[u8]>) -> Result<Stat> {
        self.exists(path, false)?.stat()
    }

    /// getChildren.
    pub fn children(&mut self, path: impl AsRef<[u8]>, watch: bool) -> Result<Reply> {
        self.call(OpCode::GetChildren, body().s(path).z(u8::from(watch)))
    }

    /// getChildren2.
    pub fn children2(&mut self, path: impl AsRef<[u8]>) -> Result<Reply> {
        self.call(OpCode::GetChildren2, body().s(path).z(0))
    }

    /// getACL.
    pub fn get_acl(&mut self, path: impl AsRef<[u8]>) -> Result<Reply> {
        self.call(OpCode::GetAcl, body().s(path))
    }

    /// setACL.
    pub fn set_acl(&mut self, path: impl AsRef<[u8]>, acl: &[AclEntry<'_>], version: i32) -> Result<Reply> {
        self.call(OpCode::SetAcl, body().s(path).acl(acl).i(version))
    }

    /// sync.
    pub fn sync(&mut self, path: impl AsRef<[u8]>) -> Result<Reply> {
        self.call(OpCode::Sync, body().s(path))
    }

    /// getAllChildrenNumber.
    pub fn count(&mut self, path: impl AsRef<[u8]>) -> Result<Reply> {
        self.call(OpCode::GetAllChildrenNumber, body().s(path))
    }

    /// getEphemerals; `None` for a null prefix.
    pub fn ephemerals(&mut self, prefix: Option<&str>) -> Result<Vec<String>> {
        self.call(OpCode::GetEphemerals, body().opt(prefix.map(str::as_bytes)))?.names()
    }

    /// addWatch.
    pub fn add_watch(&mut self, path: impl AsRef<[u8]>, mode: i32) -> Result<Reply> {
        self.call(OpCode::AddWatch, body().s(path).i(mode))
    }

    /// checkWatches.
    pub fn check_watches(&mut self, path: impl AsRef<[u8]>, kind: i32) -> Result<Reply> {
        self.call(OpCode::CheckWatches, body().s(path).i(kind))
    }

    /// removeWatches.
    pub fn remove_watches(&mut self, path: impl AsRef<[u8]>, kind: i32) -> Result<Reply> {
        self.call(OpCode::RemoveWatches, body().s(path).i(kind))
    }

    /// auth with the conventional xid.
    pub fn auth(&mut self, scheme: &str, data: &str) -> Result<Reply> {
        self.send_as(-4, OpCode::Auth.code(), body().i(0).s(scheme).s(data))?;
        self.reply()
    }

    /// whoAmI as sorted `scheme:user`.
    pub fn who_am_i(&mut self) -> Result<Vec<String>> {
        let reply = self.call(OpCode::WhoAmI, body())?.ok()?;
        let mut r = reply.reader();
        let n = r.count()?.context("a null vector")?;
        let mut out = Vec::new();
        for _ in 0..n {
            let scheme = r.string()?.context("a null scheme")?;
            let user = r.string()?.context("a null user")?;
            out.push(format!("{scheme}:{user}"));
        }
        out.sort();
        Ok(out)
    }

    /// closeSession, without waiting for the end of the connection.
    pub fn close(&mut self) -> Result<Reply> {
        self.call(OpCode::CloseSession, body())
    }
}
