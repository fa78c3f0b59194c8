//! The handle of a client.

use crate::call::{Call, Target};
use crate::ops::{
    Children, Create, Delete, Descendants, Ephemerals, Exists, Get, GetAcl, HasWatch, List, Multi, MultiRead, NewZnode,
    Op, ReadOp, Reconfig, RemoveWatches, Set, SetAcl, SetWatch, Sync, WhoAmI, simple,
};
use crate::options::ClientBuilder;
use crate::shared::{Shared, Sleep};
use crate::{Error, Lease, SessionState, Time};
use farrier_proto::client::WatcherType;
use farrier_proto::{Acl, OpCode, Zxid, path};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Ends the session when the last handle goes.
struct Farewell(Arc<Shared>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.farewell();
    }
}

/// A session with an ensemble. Clones share it; a call through any of them takes its place in one order, which only a read
/// can lose, with its connection (see [`Call`]).
///
/// Every call gives back a request that can be given options and is sent by `.await`, or by `.send()` when the
/// answer is to be awaited later:
///
/// ```no_run
/// # async fn run() -> Result<(), farrier_client::Error> {
/// use farrier_client::Client;
///
/// let client = Client::connect("127.0.0.1:2181,127.0.0.1:2182/app").await?;
/// client.create("/config", b"v1").await?;
/// let worker = client.create("/worker-", b"").ephemeral().sequential().await?;
/// let (value, mut watch) = client.get("/config").watch().await?;
/// client.set("/config", b"v2").version(value.stat.version).await?;
/// println!("{} sees {:?}", worker.path, watch.next().await);
///
/// // Both are on their way at once.
/// let (a, b) = (client.get("/config").send(), client.children("/").send());
/// println!("{:?} {:?}", a.await?.data, b.await?.names);
/// client.close().await?;
/// # Ok(())
/// # }
/// ```
///
/// When the last clone is dropped the session is ended in the background; [`Self::close`] waits for it.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    /// Held for its end.
    _farewell: Arc<Farewell>,
    connect: Arc<str>,
    /// Empty, or an absolute path without a slash at its end.
    pub(crate) chroot: Arc<str>,
    pub(crate) timeout: Duration,
}

/// Has the lease of a client's session renewed until it is dropped; made by [`Client::keep_lease`]. It does not keep the
/// session itself.
#[derive(Debug)]
#[must_use = "the lease is kept until this is dropped"]
pub struct LeaseKeeper(Arc<Shared>);

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state().borrow().clone();
        f.debug_struct("Client").field("connect", &self.connect).field("state", &state).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to one of the servers in `host:port,host:port/chroot` with the defaults of [`Self::builder`].
    ///
    /// # Errors
    /// Those of [`ClientBuilder::connect`].
    pub async fn connect(connect: &str) -> Result<Self, Error> {
        Self::builder(connect).connect().await
    }

    /// A client with other settings: timeouts, identities, TLS.
    pub fn builder(connect: &str) -> ClientBuilder {
        ClientBuilder::new(connect)
    }

    pub(crate) fn new(shared: &Arc<Shared>, connect: Arc<str>, chroot: &str, timeout: Duration) -> Self {
        let _farewell = Arc::new(Farewell(Arc::clone(shared)));
        Self { shared: Arc::clone(shared), _farewell, connect, chroot: chroot.into(), timeout }
    }

    /// Waits until there is a session or will never be one; `None` if that takes longer than `timeout`.
    pub(crate) async fn settled(&self, timeout: Duration) -> Option<SessionState> {
        let mut state = self.session();
        let wanted = state.wait_for(|s| {
            matches!(s, SessionState::Connected { .. } | SessionState::AuthFailed | SessionState::Closed)
        });
        let late = self.sleep(timeout);
        let (mut wanted, mut late) = (std::pin::pin!(wanted), std::pin::pin!(late));
        let settled = std::future::poll_fn(|cx| match wanted.as_mut().poll(cx) {
            std::task::Poll::Ready(state) => std::task::Poll::Ready(state.ok().map(|s| s.clone())),
            std::task::Poll::Pending => late.as_mut().poll(cx).map(|()| None),
        });
        settled.await
    }

    // The tree.

    /// Creates a znode: a persistent one, open to everybody, unless told otherwise.
    pub fn create<'a>(&'a self, path: &'a str, data: &'a (impl AsRef<[u8]> + ?Sized)) -> Create<'a> {
        self.create_new(NewZnode::new(path, data))
    }

    /// Creates a znode that was described before.
    pub fn create_new<'a>(&'a self, znode: NewZnode<'a>) -> Create<'a> {
        Create::new(self, znode)
    }

    /// Deletes a znode that has no children.
    pub fn delete<'a>(&'a self, path: &'a str) -> Delete<'a> {
        Delete::new(self, path)
    }

    /// The stat of a znode, or `None` if there is none.
    pub fn exists<'a>(&'a self, path: &'a str) -> Exists<'a> {
        Exists::new(self, path)
    }

    /// Data and stat of a znode.
    pub fn get<'a>(&'a self, path: &'a str) -> Get<'a> {
        Get::new(self, path)
    }

    /// Sets the data of a znode that exists.
    pub fn set<'a>(&'a self, path: &'a str, data: &'a (impl AsRef<[u8]> + ?Sized)) -> Set<'a> {
        Set::new(self, path, data.as_ref())
    }

    /// Access control list and stat of a znode.
    pub fn get_acl<'a>(&'a self, path: &'a str) -> GetAcl<'a> {
        GetAcl::new(self, path)
    }

    /// Sets the access control list of a znode.
    pub fn set_acl<'a>(&'a self, path: &'a str, acl: &'a [Acl<'a>]) -> SetAcl<'a> {
        SetAcl::new(self, path, acl)
    }

    /// Names of the children of a znode, in no order, and its stat.
    pub fn children<'a>(&'a self, path: &'a str) -> Children<'a> {
        Children::new(self, path)
    }

    /// Names of the children of a znode, in no order, without its stat.
    pub fn list<'a>(&'a self, path: &'a str) -> List<'a> {
        List::new(self, path)
    }

    /// How many znodes there are below a znode.
    pub fn descendants<'a>(&'a self, path: &'a str) -> Descendants<'a> {
        Descendants::new(self, path)
    }

    /// The ephemeral znodes of this session at and below `path`.
    pub fn ephemerals<'a>(&'a self, path: &'a str) -> Ephemerals<'a> {
        Ephemerals::new(self, path)
    }

    /// Waits until this client's server has everything that was committed when the call was made. Reads that follow
    /// see it.
    pub fn sync<'a>(&'a self, path: &'a str) -> Sync<'a> {
        Sync::new(self, path)
    }

    /// Several writes and checks, done all or not at all.
    pub fn multi<'a>(&'a self, ops: impl IntoIterator<Item = Op<'a>>) -> Multi<'a> {
        Multi::new(self, ops.into_iter().collect())
    }

    /// Several reads of one state of the tree; each succeeds or fails for itself.
    pub fn multi_read<'a>(&'a self, ops: impl IntoIterator<Item = ReadOp<'a>>) -> MultiRead<'a> {
        MultiRead::new(self, ops.into_iter().collect())
    }

    // Watches.

    /// Watches a znode, or with [`SetWatch::recursive`] all below it too, until the watch is dropped.
    pub fn watch<'a>(&'a self, path: &'a str) -> SetWatch<'a> {
        SetWatch::new(self, path)
    }

    /// Removes watches of one type on a path, of all clones of this client; they end. Dropping a
    /// [`crate::Watch`] removes just that one. [`farrier_proto::ErrorCode::NoWatcher`] if there is none.
    pub fn remove_watches<'a>(&'a self, path: &'a str, kind: WatcherType) -> RemoveWatches<'a> {
        RemoveWatches::new(self, path, kind)
    }

    /// Whether the server has a watch of one type on a path for this client.
    pub fn has_watch<'a>(&'a self, path: &'a str, kind: WatcherType) -> HasWatch<'a> {
        HasWatch::new(self, path, kind)
    }

    // Identity and membership.

    /// Presents an identity, now and on every later connection: for scheme `digest` the credentials are
    /// `user:password`. Requests made after this one are executed with it.
    pub fn add_auth(&self, scheme: &str, credentials: impl AsRef<[u8]>) -> Call<()> {
        let deadline = self.shared.now() + self.timeout;
        let target = Target { verb: "authenticate with scheme", path: scheme.to_owned(), chroot: 0 };
        let identity = (scheme.to_owned(), credentials.as_ref().to_vec());
        Call::waiting(&self.shared, target, OpCode::Auth, self.shared.authenticate(deadline, identity), simple)
    }

    /// The identities that the server knows this connection by.
    pub const fn who_am_i(&self) -> WhoAmI<'_> {
        WhoAmI::new(self)
    }

    /// The membership of the ensemble, as text; empty on a server that is alone.
    pub fn config(&self) -> Get<'_> {
        Get::config(self)
    }

    /// Changes the membership of the ensemble.
    pub fn reconfig(&self) -> Reconfig<'_> {
        Reconfig::new(self)
    }

    // The session.

    /// The state of the session, to look at and to wait for. Quick changes may show as one.
    #[must_use]
    pub fn session(&self) -> watch::Receiver<SessionState> {
        self.shared.state()
    }

    /// How sure the session is to be alive; `None` without one. It runs out while nothing is written, unless somebody
    /// keeps it with [`Self::keep_lease`].
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        self.shared.lease()
    }

    /// Has the lease renewed as long as the keeper lives: by a `sync` every sixth of the session timeout, in place of
    /// pings and at once, however many keepers there are. A server that leaves one without an answer and says nothing for
    /// a third of the timeout is given up then, so that there is time to find another one before the lease ends.
    pub fn keep_lease(&self) -> LeaseKeeper {
        self.shared.keep();
        LeaseKeeper(Arc::clone(&self.shared))
    }

    /// Whether the client is of no use any more: it was closed, a server refused its credentials, or its session
    /// expired and it was told to have no other. Then every call fails at once, and so does every one after it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.shared.has_ended()
    }

    /// The newest transaction that the client has seen. It goes to no server that lags behind it.
    #[must_use]
    pub fn last_zxid(&self) -> Zxid {
        self.shared.seen()
    }

    /// Now, on the clock of [`Self::lease`].
    #[must_use]
    pub fn now(&self) -> Time {
        self.shared.now()
    }

    /// Sixteen random bytes: the system's, or in a simulation what follows from its seed.
    ///
    /// # Errors
    /// The system's source of random numbers failed.
    pub fn random_bytes(&self) -> Result<[u8; 16], getrandom::Error> {
        self.shared.draw()
    }

    /// Waits, on the client's clock; returns at once when the client has ended.
    pub async fn sleep(&self, span: Duration) {
        self.sleep_until(self.now() + span).await;
    }

    /// Waits for an instant of the client's clock; returns at once when the client has ended.
    pub async fn sleep_until(&self, at: Time) {
        Sleep::until(&self.shared, at).await;
    }

    /// The same session, with all paths below `path`. The znode need not exist.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `path` is no path.
    pub fn chroot(&self, path: &str) -> Result<Self, Error> {
        let rule = |rule: &str| Error::Invalid { op: "chroot", path: path.to_owned(), reason: rule.into() };
        path::validate(path).map_err(rule)?;
        let chroot = self.full_path(path);
        Ok(Self { chroot: if chroot == "/" { "".into() } else { chroot.into() }, ..self.clone() })
    }

    /// The same session, with another timeout for calls that have none of their own.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Ends the session after what was asked for before, for all clones. Its ephemeral znodes are gone when this
    /// returns.
    ///
    /// # Errors
    /// [`Error::NotDone`] without a connection and [`Error::Unknown`] without an answer: the session then ends by its
    /// timeout. [`Error::Closed`] if it was closed before.
    pub fn close(&self) -> Call<()> {
        let target = Target { verb: "close", path: self.connect.to_string(), chroot: 0 };
        let answer = self.shared.close(self.shared.now() + self.timeout);
        Call::waiting(&self.shared, target, OpCode::CloseSession, answer, simple)
    }

    pub(crate) fn full_path(&self, path: &str) -> String {
        match (&*self.chroot, path) {
            ("", path) => path.to_owned(),
            (chroot, "/") => chroot.to_owned(),
            (chroot, path) => [chroot, path].concat(),
        }
    }

    pub(crate) fn target(&self, verb: &'static str, path: &str) -> Target {
        Target { verb, path: self.full_path(path), chroot: self.chroot.len() }
    }
}
