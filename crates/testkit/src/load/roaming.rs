//! A session that moves from server to server when its connection is lost, as stock clients do.

use crate::enc::{Body, body};
use crate::raw::{Answer, Client, Conn, Connect, Frame, Reply, Sessions};
use farrier_proto::client::ConnectResponse;
use farrier_proto::{Field as _, OpCode, Reader};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a server may be silent until the session tries another one.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Pause between two tries to connect.
const RETRY: Duration = Duration::from_millis(20);
/// How long no server at all may take the session.
const HOMELESS_MAX: Duration = Duration::from_secs(240);

/// What a server may say instead of doing a request without telling that it was not done.
const VAGUE: [i32; 3] = [
    -1, // system error
    -4, // connection loss
    -7, // operation timeout
];

/// What became of one request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was answered, with success or with an error that means that nothing was done.
    Told(Reply),
    /// It was sent, and its fate is not known.
    Unknown,
    /// The session is lost; nothing was sent.
    Ended,
}

/// One session and the connection that it has at present.
#[derive(Debug)]
pub(super) struct Roaming {
    servers: Vec<SocketAddr>,
    /// Index of the server that was tried last.
    at: usize,
    client: Option<Client>,
    session: i64,
    password: Vec<u8>,
    timeout_ms: i32,
    /// Newest zxid seen.
    zxid: i64,
    heard: Instant,
    /// Times that it found a server.
    pub(super) moves: u32,
    /// What must never happen and did.
    pub(super) violations: Vec<String>,
    ended: bool,
}

impl Roaming {
    /// A session still to be opened, on `servers[first]` if that one is there.
    pub(super) fn new(servers: &[SocketAddr], first: usize, timeout_ms: i32) -> Self {
        Self {
            servers: servers.to_vec(),
            at: first % servers.len(),
            client: None,
            session: 0,
            password: vec![0; 16],
            timeout_ms,
            zxid: 0,
            heard: Instant::now(),
            moves: 0,
            violations: Vec::new(),
            ended: false,
        }
    }

    /// Its number; 0 before it was opened.
    pub(super) const fn session(&self) -> i64 {
        self.session
    }

    /// One request, on whatever server takes the session.
    pub(super) fn ask(&mut self, op: OpCode, request: Body) -> Outcome {
        if !self.settle() {
            return Outcome::Ended;
        }
        let Some(client) = &mut self.client else { return Outcome::Ended };
        let answer = client.send(op.code(), request).and_then(|xid| Ok((xid, client.answer(SILENCE_MAX)?)));
        match answer {
            Ok((xid, Answer::Reply(reply))) if reply.xid == xid => self.told(reply),
            Ok((xid, Answer::Reply(reply))) => {
                self.violations.push(format!("a reply with xid {} to the request with xid {xid}", reply.xid));
                self.leave();
                Outcome::Unknown
            }
            // A frame that was cut off is a connection that was lost.
            Ok((_, Answer::Closed | Answer::Silent)) | Err(_) => {
                self.leave();
                Outcome::Unknown
            }
        }
    }

    fn told(&mut self, reply: Reply) -> Outcome {
        self.heard = Instant::now();
        if reply.zxid > 0 && reply.zxid < self.zxid {
            let server = self.servers[self.at];
            self.violations.push(format!(
                "session 0x{:x} went back from zxid 0x{:x} to 0x{:x} at {server}",
                self.session, self.zxid, reply.zxid
            ));
        }
        self.zxid = self.zxid.max(reply.zxid);
        match reply.err {
            -112 => {
                self.expired();
                Outcome::Unknown
            }
            err if VAGUE.contains(&err) => Outcome::Unknown,
            _ => Outcome::Told(reply),
        }
    }

    /// One ping; a connection that does not answer it is left.
    pub(super) fn ping(&mut self) {
        if !self.settle() {
            return;
        }
        let Some(client) = &mut self.client else { return };
        let answer = client.send_as(-2, OpCode::Ping.code(), body()).and_then(|()| client.answer(SILENCE_MAX));
        match answer {
            Ok(Answer::Reply(reply)) => {
                self.told(reply);
            }
            Ok(Answer::Closed | Answer::Silent) | Err(_) => self.leave(),
        }
    }

    /// Ends the session in order.
    pub(super) fn close(&mut self) -> Outcome {
        let outcome = self.ask(OpCode::CloseSession, body());
        self.ended = true;
        self.client = None;
        outcome
    }

    /// Makes sure that there is a connection; false if the session is lost.
    fn settle(&mut self) -> bool {
        let deadline = Instant::now() + HOMELESS_MAX;
        while !self.ended && self.client.is_none() {
            if Instant::now() >= deadline {
                self.violations.push(format!("no server took session 0x{:x} for {HOMELESS_MAX:?}", self.session));
                self.ended = true;
            } else if !self.connect() {
                self.leave();
                std::thread::sleep(RETRY);
            }
        }
        !self.ended
    }

    /// Drops the connection and turns to the next server.
    fn leave(&mut self) {
        self.client = None;
        self.at = (self.at + 1) % self.servers.len();
    }

    /// One try at one server; false if it can't take the session now.
    fn connect(&mut self) -> bool {
        let ask = Connect {
            last_zxid: self.zxid,
            timeout: self.timeout_ms,
            session: self.session,
            password: Some(self.password.clone()),
            read_only: Some(false),
        };
        let Some((conn, response)) = shake_hands(self.servers[self.at], &ask) else { return false };
        if response.timeout <= 0 {
            self.expired();
            return true;
        }
        let Ok(client) = Client::on(conn, &response, &Sessions::default()) else { return false };
        if self.session != 0 && self.session != client.session {
            self.violations.push(format!(
                "session 0x{:x} came back as 0x{:x} from {}",
                self.session, client.session, self.servers[self.at]
            ));
        }
        self.session = client.session;
        self.password.clone_from(&client.password);
        self.timeout_ms = client.timeout;
        self.client = Some(client);
        self.heard = Instant::now();
        self.moves += 1;
        true
    }

    fn expired(&mut self) {
        self.violations.push(format!(
            "session 0x{:x} with a timeout of {} ms expired; the last word of a server was {:?} ago, now {} says so",
            self.session,
            self.timeout_ms,
            self.heard.elapsed(),
            self.servers[self.at]
        ));
        self.client = None;
        self.ended = true;
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
