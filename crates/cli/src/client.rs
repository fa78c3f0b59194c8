//! A small blocking client: what `farrier status` needs of a server.
//!
//! Every wait is bounded by one deadline, and every length by [`REPLY_MAX`].

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use farrier_proto::client::{ConnectRequest, ConnectResponse, PathWatch, ReplyHeader, RequestHeader};
use farrier_proto::{Field, OpCode, Reader, SessionId, Xid, Zxid};

/// Longest reply that is read: the limit of a server with the usual `jute.maxbuffer`, and a reserve.
const REPLY_MAX: usize = 2 << 20;

/// Session timeout asked for, in milliseconds; the session is closed long before.
const SESSION_TIMEOUT_MS: i32 = 10_000;

/// A host and a port, as written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    /// Name or address literal, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Address {
    /// `HOST[:PORT]`; 2181 without a port.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}`: expected HOST[:PORT]");
        let (host, rest) = match text.strip_prefix('[') {
            Some(text) => text.split_once(']').ok_or_else(wrong)?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|&port| port > 0).ok_or_else(wrong)?,
            None if rest.is_empty() => 2181,
            None => return Err(wrong()),
        };
        if host.is_empty() || host.contains('/') {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }

    fn connect(&self, deadline: Instant) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let found: Vec<SocketAddr> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        for address in found {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The answer to a four-letter word.
    pub(crate) fn word(&self, word: &str, timeout: Duration) -> io::Result<String> {
        let deadline = Instant::now() + timeout;
        let mut stream = self.connect(deadline)?;
        stream.set_write_timeout(Some(left(deadline)?))?;
        stream.write_all(word.as_bytes())?;
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            stream.set_read_timeout(Some(left(deadline)?))?;
            match stream.read(&mut chunk) {
                Ok(0) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                Ok(n) => bytes.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Some servers reset instead of closing; what came is the answer.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !bytes.is_empty() => {
                    return Ok(String::from_utf8_lossy(&bytes).into_owned());
                }
                Err(error) => return Err(error),
            }
            if bytes.len() > REPLY_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer does not end"));
            }
        }
    }

    /// The data of a znode, read in a session of its own.
    pub(crate) fn read_znode(&self, path: &str, timeout: Duration) -> anyhow::Result<Vec<u8>> {
        let deadline = Instant::now() + timeout;
        let mut stream = self.connect(deadline).with_context(|| self.to_string())?;
        stream.set_nodelay(true)?;
        let connect = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout: SESSION_TIMEOUT_MS,
            session: SessionId::NONE,
            password: Some(vec![0; 16].into()),
            read_only: Some(true),
        };
        send(&mut stream, &connect)?;
        let answer = receive(&mut stream, deadline)?;
        let session = ConnectResponse::read(&mut Reader::new(&answer))?;
        ensure!(session.timeout > 0, "{self} gave no session");

        let (xid, op) = (Xid(1), OpCode::GetData.code());
        send(&mut stream, &Pair(RequestHeader { xid, op }, PathWatch { path: Some(path.into()), watch: false }))?;
        let reply = loop {
            let reply = receive(&mut stream, deadline)?;
            let mut reader = Reader::new(&reply);
            let header = ReplyHeader::read(&mut reader)?;
            if header.xid == xid {
                ensure!(header.err == 0, "{self} answers {path} with error {}", header.err);
                break reader.buffer()?.unwrap_or_default().to_vec();
            }
        };
        // If this is lost, the session ends by itself.
        let _ = send(&mut stream, &RequestHeader { xid: Xid(2), op: OpCode::CloseSession.code() });
        let _ = receive(&mut stream, deadline);
        Ok(reply)
    }
}

/// Two records, one after the other.
struct Pair<A, B>(A, B);

impl<'a, A: Field<'a>, B: Field<'a>> Field<'a> for Pair<A, B> {
    fn read(r: &mut Reader<'a>) -> Result<Self, farrier_proto::DecodeError> {
        Ok(Self(A::read(r)?, B::read(r)?))
    }
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
    }
}

/// What is left of the time; an error if nothing is.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")) } else { Ok(left) }
}

/// Sends a record in a frame. It fits the socket's buffer, so that nothing waits.
fn send<'a>(stream: &mut TcpStream, record: &impl Field<'a>) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    record.write(&mut bytes);
    let len = u32::try_from(bytes.len() - 4).expect("requests are small");
    bytes[..4].copy_from_slice(&len.to_be_bytes());
    stream.write_all(&bytes)
}

fn receive(stream: &mut TcpStream, deadline: Instant) -> anyhow::Result<Vec<u8>> {
    let mut head = [0; 4];
    read_exact(stream, &mut head, deadline)?;
    let len = usize::try_from(i32::from_be_bytes(head)).ok().filter(|&len| len <= REPLY_MAX);
    let Some(len) = len else { bail!("the server sent a frame of {} bytes", i32::from_be_bytes(head)) };
    let mut payload = vec![0; len];
    read_exact(stream, &mut payload, deadline)?;
    Ok(payload)
}

fn read_exact(stream: &mut TcpStream, mut bytes: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => bytes = &mut bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for (text, shown) in [
            ("a", "a:2181"),
            ("a:1", "a:1"),
            ("10.0.0.1:9", "10.0.0.1:9"),
            ("[::1]", "[::1]:2181"),
            ("[::1]:5", "[::1]:5"),
        ] {
            assert_eq!(Address::parse(text).map(|a| a.to_string()), Ok(shown.to_owned()));
        }
        for wrong in ["", ":1", "a:0", "a:x", "[::1", "[::1]5", "a/b", "::1"] {
            Address::parse(wrong).expect_err(wrong);
        }
    }
}
