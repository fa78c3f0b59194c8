//! A session's connection to one server, which waits for every reply.

use crate::frame::put_request;
use crate::handshake;
use anyhow::{Context as _, Result, ensure};
use farrier_proto::client::{ConnectResponse, ReplyHeader};
use farrier_proto::{ErrorCode, Field as _, OpCode, Reader, SessionId, Stat, Xid, Zxid};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a server may be silent until the session tries another one.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Longest answer.
const ANSWER_MAX: usize = 256 << 10;
/// Errors after which a request may have been done or not.
const VAGUE: [ErrorCode; 4] =
    [ErrorCode::SystemError, ErrorCode::ConnectionLoss, ErrorCode::OperationTimeout, ErrorCode::SessionMoved];

/// What a session takes from server to server.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) session: SessionId,
    password: [u8; 16],
    /// The newest zxid that it has seen.
    seen: Zxid,
}

impl Lease {
    /// Of a session still to be opened.
    pub(super) const NONE: Self = Self { session: SessionId::NONE, password: [0; 16], seen: Zxid::ZERO };
}

/// A reply without its xid.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) err: i32,
    pub(super) body: Vec<u8>,
}

impl Reply {
    /// Demands success.
    pub(super) fn ok(self) -> Result<Self> {
        ensure!(self.err == 0, "the server refuses it with error {}", self.err);
        Ok(self)
    }

    /// The stat that the body ends with.
    pub(super) fn stat(&self) -> Result<Stat> {
        ensure!(self.err == 0, "error {} instead of a stat", self.err);
        let at = self.body.len().checked_sub(Stat::LEN).context("no room for a stat")?;
        Ok(Stat::read(&mut Reader::new(&self.body[at..]))?)
    }
}

#[derive(Debug)]
pub(super) struct Conn {
    stream: TcpStream,
    xid: i32,
}

impl Conn {
    /// A session at this server, new or going on; `None` if the server does not answer.
    ///
    /// # Errors
    ///
    /// It answers that there is no such session, or something that is no answer.
    pub(super) fn open(addr: SocketAddr, lease: &mut Lease) -> Result<Option<Self>> {
        let mut ask = Vec::new();
        handshake::put_again(&mut ask, lease.session, &lease.password, lease.seen);
        let dial = || -> io::Result<_> {
            let mut stream = TcpStream::connect_timeout(&addr, SILENCE_MAX)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(SILENCE_MAX))?;
            stream.set_write_timeout(Some(SILENCE_MAX))?;
            stream.write_all(&ask)?;
            let answer = receive(&mut stream)?;
            Ok((stream, answer))
        };
        // A server that begins or ends takes connections and drops them.
        let Ok((stream, answer)) = dial() else { return Ok(None) };
        let ConnectResponse { timeout, session, password, .. } = handshake::read(&answer)?;
        ensure!(timeout > 0 && session != SessionId::NONE, "session 0x{:x} has expired", lease.session.0);
        ensure!(lease.session == SessionId::NONE || lease.session == session, "another session came back");
        (lease.session, lease.password) = (session, password);
        Ok(Some(Self { stream, xid: 0 }))
    }

    /// Asks, and waits for the reply. `None` when the connection is lost, the server silent, or itself not sure.
    ///
    /// # Errors
    ///
    /// The reply is to something else.
    pub(super) fn ask(
        &mut self,
        lease: &mut Lease,
        op: OpCode,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Option<Reply>> {
        // A session writes far less than 2^31 times; starting over is legal.
        self.xid = self.xid.checked_add(1).unwrap_or(1);
        let mut ask = Vec::new();
        put_request(&mut ask, self.xid, op, body);
        let Ok(frame) = self.stream.write_all(&ask).and_then(|()| receive(&mut self.stream)) else { return Ok(None) };
        let head = ReplyHeader::read(&mut Reader::new(&frame)).context("reading a reply")?;
        ensure!(head.xid == Xid(self.xid), "a reply with xid {} came where {} was due", head.xid.0, self.xid);
        if VAGUE.iter().any(|vague| vague.code() == head.err) {
            return Ok(None);
        }
        // Signed as on the wire: an error may come with -1.
        lease.seen = Zxid::from_wire(lease.seen.to_wire().max(head.zxid));
        Ok(Some(Reply { err: head.err, body: frame[ReplyHeader::LEN..].to_vec() }))
    }

    /// Ends the session.
    ///
    /// # Errors
    ///
    /// The server does not answer.
    pub(super) fn close(mut self, lease: &mut Lease) -> Result<()> {
        self.ask(lease, OpCode::CloseSession, |_| {})?.context("no reply to the end of a session")?.ok()?;
        Ok(())
    }
}

/// The next frame without its length. A frame that was cut off is a connection that was lost.
fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let len = usize::try_from(i32::from_be_bytes(len)).ok().filter(|len| *len <= ANSWER_MAX);
    let mut frame = vec![0; len.ok_or(io::ErrorKind::InvalidData)?];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}
