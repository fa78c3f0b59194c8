//! What a conformance case is, and what its function works with.

use crate::conformance::Trio;
use crate::raw::{Client, Conn, Connect, Event, Handshake, Sessions};
use crate::server::Server;
use anyhow::{Result, anyhow};
use farrier_proto::SessionId;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

/// How long "no event" is waited for.
pub const QUIET: Duration = Duration::from_millis(300);

/// A server's configuration, as the list of cases names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Profile {
    /// Defaults, every four-letter word allowed.
    D,
    /// D with a super user and quotas enforced.
    S,
    /// D with extended types and a sweeper that runs every 300 ms.
    X,
    /// D with enforced authentication by digest.
    E,
    /// D with `skipACL=yes`.
    K,
    /// `jute.maxbuffer=4096`, three connections per address, default whitelist.
    M,
    /// Three servers with ticks of 1000 ms, `reconfigEnabled=true` and a super user.
    Q,
    /// Q with `enableEagerACLCheck=true` and without `reconfigEnabled`.
    G,
}

/// Which server of a profile runs a case: slow cases and those that kill the server have one of their own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// On a server that nobody has written to; these come first and don't write either.
    Virgin,
    /// On a server without a node that a client left behind; these come next.
    Empty,
    /// One after the other on one server.
    Shared,
    /// On a server beside the shared one: the case waits for seconds.
    Slow,
    /// The case kills its server.
    Restart,
    /// On a server of its own, which may not survive it.
    Own,
}

/// Another answer than the expected one, and the reason.
#[derive(Clone, Copy, Debug)]
pub struct Other {
    /// The answer.
    pub answer: &'static str,
    /// Why it differs.
    pub why: &'static str,
}

/// The function of a case: performs the steps and tells what it saw, in the notation of
/// [`Case::expected`].
pub type Run = fn(&mut Ctx<'_>) -> Result<String>;

/// The function of a case that concerns an ensemble.
pub type RunTrio = fn(&Trio<'_>) -> Result<String>;

/// The steps of a case.
#[derive(Clone, Copy, Debug)]
pub enum Steps {
    /// On one server.
    One(Run),
    /// On an ensemble of three.
    Three(RunTrio),
}

/// One numbered case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Number in the list of cases.
    pub number: u16,
    /// Configuration of the server.
    pub profile: Profile,
    /// What it is about.
    pub title: &'static str,
    /// What should be seen. `p` is the case's own node; bare negative numbers are error codes; `Z` is the
    /// server's last zxid before the step; `1(p)` is an event, `close` the end of the connection.
    pub expected: &'static str,
    /// What Apache 3.9 answers, where that is not [`Case::expected`].
    pub apache: Option<Other>,
    /// What Farrier means to answer, where that is not [`Case::expected`].
    pub farrier: Option<Other>,
    /// Where it runs.
    pub lane: Lane,
    /// The steps.
    pub steps: Steps,
}

impl Case {
    /// A case that both servers answer alike.
    #[must_use]
    pub const fn new(number: u16, profile: Profile, title: &'static str, expected: &'static str, run: Run) -> Self {
        Self::of(number, profile, title, expected, Steps::One(run))
    }

    /// A case of an ensemble that both servers answer alike.
    #[must_use]
    pub const fn ensemble(
        number: u16,
        profile: Profile,
        title: &'static str,
        expected: &'static str,
        run: RunTrio,
    ) -> Self {
        Self::of(number, profile, title, expected, Steps::Three(run))
    }

    const fn of(number: u16, profile: Profile, title: &'static str, expected: &'static str, steps: Steps) -> Self {
        Self { number, profile, title, expected, apache: None, farrier: None, lane: Lane::Shared, steps }
    }

    /// Notes what Apache 3.9 answers instead.
    #[must_use]
    pub const fn apache(self, answer: &'static str, why: &'static str) -> Self {
        Self { apache: Some(Other { answer, why }), ..self }
    }

    /// Notes what Farrier means to answer instead.
    #[must_use]
    pub const fn farrier(self, answer: &'static str, why: &'static str) -> Self {
        Self { farrier: Some(Other { answer, why }), ..self }
    }

    /// Sets where it runs.
    #[must_use]
    pub const fn lane(self, lane: Lane) -> Self {
        Self { lane, ..self }
    }

    /// The answer that this kind of server should give, and the reason if it is not the common one.
    #[must_use]
    pub const fn accepts(&self, is_farrier: bool) -> (&'static str, Option<&'static str>) {
        match if is_farrier { self.farrier } else { self.apache } {
            Some(other) => (other.answer, Some(other.why)),
            None => (self.expected, None),
        }
    }
}

/// What a case works with: a server, names of its own, and the sessions to clean up.
#[derive(Debug)]
pub struct Ctx<'s> {
    /// The server; a case in [`Lane::Restart`] may kill it.
    pub server: &'s mut Server,
    base: String,
    sessions: Sessions,
}

impl<'s> Ctx<'s> {
    /// For case `number`.
    #[must_use]
    pub fn new(server: &'s mut Server, number: u16) -> Self {
        Self { server, base: format!("/c{number}"), sessions: Sessions::default() }
    }

    /// Where the server listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// The path of the case's node, whether or not it exists.
    #[must_use]
    pub fn base(&self) -> String {
        self.base.clone()
    }

    /// Creates the case's node and tells its path.
    pub fn p(&self, client: &mut Client) -> Result<String> {
        client.create(&self.base, b"")?.ok()?;
        Ok(self.base())
    }

    /// A client with a new session.
    pub fn client(&self) -> Result<Client> {
        self.connect(&Connect::default())
    }

    /// A client with a new session of this timeout in milliseconds.
    pub fn client_with(&self, timeout: i32) -> Result<Client> {
        self.connect(&Connect { timeout, ..Connect::default() })
    }

    /// A client by this handshake.
    pub fn connect(&self, ask: &Connect) -> Result<Client> {
        Client::open(self.addr(), ask, &self.sessions)
    }

    /// A second connection of the client's session.
    pub fn again(&self, client: &Client) -> Result<Client> {
        self.connect(&Connect::again(client.session, &client.password))
    }

    /// A bare connection.
    pub fn conn(&self) -> Result<Conn> {
        Conn::open(self.addr())
    }

    /// The answer to a handshake on a fresh connection; a session that it opens is noted.
    pub fn handshake(&self, ask: &Connect) -> Result<(Conn, Handshake)> {
        let mut conn = self.conn()?;
        let answer = conn.handshake(ask)?;
        if let Handshake::Response { response, .. } = &answer {
            self.note(response.session)?;
        }
        Ok((conn, answer))
    }

    /// Remembers a session for the cleaning up.
    pub fn note(&self, session: SessionId) -> Result<()> {
        if session != SessionId::NONE {
            self.sessions.lock().map_err(|_| anyhow!("another thread panicked"))?.insert(session.0);
        }
        Ok(())
    }

    /// The case's sessions, for clients that are made by hand.
    #[must_use]
    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// A path or text with the case's node written as `p`.
    #[must_use]
    pub fn short(&self, text: &str) -> String {
        text.replace(&self.base, "p")
    }

    /// Events as `1(p), 4(/)`; `none` if there are none. An event with another state than 3 says so.
    #[must_use]
    pub fn render(&self, events: &[Event]) -> String {
        if events.is_empty() {
            return "none".to_owned();
        }
        list(events.iter().map(|e| {
            let state = if e.state == 3 { String::new() } else { format!(" state {}", e.state) };
            format!("{}({}){state}", e.kind, self.short(&e.path))
        }))
    }

    /// The events that the server has sent up to now.
    pub fn events(&self, client: &mut Client) -> Result<String> {
        Ok(self.render(&client.take_events()?))
    }

    /// The events that the server has sent up to now and sends while nothing happens.
    pub fn quiet(&self, client: &mut Client) -> Result<String> {
        client.z()?;
        client.listen(QUIET)?;
        self.events(client)
    }

    /// Closes the sessions that the case left, so that none expires in the midst of another case.
    /// Authenticates first where that is enforced.
    pub fn clean_up(&mut self, enforced_auth: bool) -> Result<()> {
        close_sessions(self.addr(), &self.sessions, enforced_auth)
    }
}

/// Closes the noted sessions through the server at `addr`.
pub(crate) fn close_sessions(addr: SocketAddr, sessions: &Sessions, enforced_auth: bool) -> Result<()> {
    let left = {
        let mut guard = sessions.lock().map_err(|_| anyhow!("another thread panicked"))?;
        std::mem::take(&mut *guard)
    };
    for session in left {
        let password = farrier_proto::session::password(SessionId(session));
        let mut conn = Conn::open(addr)?;
        let answer = conn.handshake(&Connect::again(session, &password))?;
        if answer.is_expired() || answer == Handshake::Closed {
            continue;
        }
        let mut client = Client::on(conn, &answer.response()?, &Sessions::default())?;
        if enforced_auth {
            client.auth("digest", "u:p")?;
        }
        client.close()?;
    }
    Ok(())
}

/// Items joined by `, `.
pub fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|i| i.to_string()).collect::<Vec<_>>().join(", ")
}

/// A zxid relative to `z`: `Z`, `Z+1`; the special values 0 and -1 as they are.
#[must_use]
pub fn rel(z: i64, zxid: i64) -> String {
    match zxid {
        0 | -1 => zxid.to_string(),
        _ if zxid == z => "Z".to_owned(),
        _ => format!("Z{:+}", zxid - z),
    }
}

/// `yes` or `no`.
#[must_use]
pub const fn yes(fact: bool) -> &'static str {
    if fact { "yes" } else { "no" }
}
