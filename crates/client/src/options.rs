//! How a client is set up.

use crate::chance::Chance;
use crate::driver::{self, BootClock};
use crate::limits::{OUTSTANDING_MAX, REPLY_MAX, REQUEST_MAX, UNSENT_BYTES_MAX};
use crate::machine::Settings;
use crate::shared::Engine;
use crate::{Client, Clock, ConnectString, Error, SessionState};
use farrier_tls::ClientTls;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Session timeout that is asked for, unless told otherwise.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(15);
/// Time that a call gets, and the first connection, unless told otherwise.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Sets up a [`Client`]; made by [`Client::builder`].
#[derive(Clone)]
#[must_use = "a builder does nothing until connect is called"]
pub struct ClientBuilder {
    connect: String,
    settings: Settings,
    connect_timeout: Duration,
    request_timeout: Duration,
    tls: Option<Arc<ClientTls>>,
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The settings hold credentials.
        f.debug_struct("ClientBuilder").field("connect", &self.connect).finish_non_exhaustive()
    }
}

impl ClientBuilder {
    pub(crate) fn new(connect: &str) -> Self {
        let settings = Settings {
            hosts: Vec::new(),
            session_timeout: SESSION_TIMEOUT,
            allow_read_only: false,
            renew_session: true,
            outstanding_max: OUTSTANDING_MAX,
            unsent_bytes_max: UNSENT_BYTES_MAX,
            request_max: REQUEST_MAX,
            reply_max: REPLY_MAX,
            identities: Vec::new(),
        };
        let (connect_timeout, request_timeout) = (TIMEOUT, TIMEOUT);
        Self { connect: connect.to_owned(), settings, connect_timeout, request_timeout, tls: None }
    }

    /// Session timeout to ask for: how long the servers wait for a sign of the client before they end its session
    /// and delete its ephemeral znodes. 15 s by default. Servers keep it between 2 and 20 of their ticks; what they
    /// gave is in [`Client::lease`].
    pub const fn session_timeout(mut self, timeout: Duration) -> Self {
        self.settings.session_timeout = timeout;
        self
    }

    /// How long [`Self::connect`] may take until there is a session. 10 s by default.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a call may take, unless it has a timeout of its own. 10 s by default. The time counts while the
    /// client is without a server, too.
    pub const fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Presents an identity on every connection, before any request: for scheme `digest` the credentials are
    /// `user:password`. If a server refuses it, the client ends with [`Error::AuthFailed`].
    pub fn auth(mut self, scheme: &str, credentials: impl AsRef<[u8]>) -> Self {
        self.settings.identities.push((scheme.to_owned(), credentials.as_ref().to_vec()));
        self
    }

    /// Speaks TLS with every server of the connect string; its ports are then the servers' `secureClientPort`.
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(Arc::new(tls));
        self
    }

    /// Takes a server that is read-only while it has no quorum, too. Reads may then be old and writes are refused;
    /// [`crate::SessionState::Connected`] says so. The client looks for a server that takes writes and moves there.
    pub const fn allow_read_only(mut self, allow: bool) -> Self {
        self.settings.allow_read_only = allow;
        self
    }

    /// Whether a new session follows one that has expired. It does by default; calls that waited fail with
    /// [`Error::SessionExpired`], watches are set again. With `false` the client is of no use after the first.
    pub const fn renew_session(mut self, renew: bool) -> Self {
        self.settings.renew_session = renew;
        self
    }

    /// Requests that may wait for their turn or their answer; [`OUTSTANDING_MAX`] by default. Every further one
    /// fails with [`Error::QueueFull`].
    pub const fn outstanding_max(mut self, max: usize) -> Self {
        self.settings.outstanding_max = max;
        self
    }

    /// Longest request in bytes; [`REQUEST_MAX`] by default. Raise it together with the servers' `jute.maxbuffer`.
    pub const fn request_max(mut self, max: usize) -> Self {
        self.settings.request_max = max;
        self
    }

    /// Longest reply in bytes; [`REPLY_MAX`] by default. The request that a longer one would answer
    /// fails for good, and the server is left.
    pub const fn reply_max(mut self, max: usize) -> Self {
        self.settings.reply_max = max;
        self
    }

    /// Connects, and waits for a session. Must be called within a tokio runtime, which then runs the connection.
    ///
    /// # Errors
    /// [`Error::ConnectString`], [`Error::Tls`], [`Error::AuthFailed`], or [`Error::NoServer`] when no server gave a
    /// session in time.
    pub async fn connect(self) -> Result<Client, Error> {
        let timeout = self.connect_timeout;
        self.connect_noting(timeout, |_, _| {}).await
    }

    /// [`Self::connect`], which calls `note` once if there is no session after `patience`: with why there is none, and
    /// with the time for which it is tried on.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_noting(self, patience: Duration, note: impl FnOnce(&str, Duration)) -> Result<Client, Error> {
        let (servers, tls, timeout) = (self.connect.clone(), self.tls.clone(), self.connect_timeout);
        if let Some(tls) = &tls {
            // Files that can't be used are told now, not with the first connection.
            tls.config()?;
        }
        let seed = getrandom::u64().map_err(|error| Error::NoServer {
            servers: servers.clone(),
            reason: format!("the system gives no random number: {error}").into(),
        })?;
        let (client, engine) = self.build(Arc::new(BootClock), seed, Chance::System)?;
        driver::spawn(engine, tls);
        let (first, rest) = (patience.min(timeout), timeout.saturating_sub(patience));
        let mut state = client.settled(first).await;
        if state.is_none() && !rest.is_zero() {
            note(&client.shared.describe(), rest);
            state = client.settled(rest).await;
        }
        let why = client.shared.describe();
        let reason = match state {
            Some(SessionState::Connected { .. }) => return Ok(client),
            Some(SessionState::AuthFailed) => return Err(Error::AuthFailed),
            Some(_) => why,
            None => format!("{why} (after {timeout:?})"),
        };
        Err(Error::NoServer { servers, reason: reason.into() })
    }

    /// A client without sockets, clock or randomness of its own, for simulations: whoever calls this moves the bytes
    /// between the engine and a server. TLS is ignored.
    ///
    /// # Errors
    /// [`Error::ConnectString`].
    pub fn detached(self, clock: Arc<dyn Clock>, seed: u64) -> Result<(Client, Engine), Error> {
        self.build(clock, seed, Chance::seeded(seed))
    }

    fn build(mut self, clock: Arc<dyn Clock>, seed: u64, chance: Chance) -> Result<(Client, Engine), Error> {
        let ConnectString { hosts, chroot } = self.connect.parse()?;
        self.settings.hosts = hosts;
        let engine = Engine::new(self.settings, clock, seed, chance);
        let client = Client::new(engine.shared(), self.connect.into(), &chroot, self.request_timeout);
        Ok((client, engine))
    }
}
