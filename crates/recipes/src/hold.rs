//! Something held by an ephemeral znode, for as long as its session is known to live.

use crate::Error;
use crate::limits::PAUSE;
use crate::standing::look_at;
use crate::withdraw::{Armed, Withdrawal};
use farrier_client::{Client, LeaseKeeper, SessionId, SessionState, Stat, Watch, Zxid};
use parking_lot::Mutex;
use std::future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Whether something is held.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HoldState {
    /// The servers' leader was heard of within two thirds of the session timeout, and the znode is there.
    Held,
    /// The connection is gone, or the znode was not seen yet on a new one. Nobody else holds it before the lease ends.
    Suspended,
    /// Somebody else may hold it. Final.
    Lost,
}

/// Which znode it is, and what is known of it.
#[derive(Debug)]
struct Inner {
    client: Client,
    path: String,
    czxid: Zxid,
    session: SessionId,
    state: watch::Sender<HoldState>,
    /// Has seen the session's states up to the connection on which the znode was seen: if there are newer ones, it may not
    /// have been seen on the present one. Locked for as long as it takes to conclude that and to change the state.
    attached: Mutex<watch::Receiver<SessionState>>,
}

impl Inner {
    fn change(&self, to: HoldState) {
        self.state.send_if_modified(|state| {
            let may = *state != HoldState::Lost && *state != to;
            if may {
                *state = to;
            }
            may
        });
    }

    /// The state at this moment, by the clock and not by who was woken in time.
    fn look(&self) -> HoldState {
        // The lease is read before the clock: what comes between can make it look shorter, never longer.
        let lease = self.client.lease().filter(|lease| lease.session == self.session);
        if lease.is_none_or(|lease| !lease.holds(self.client.now())) {
            self.change(HoldState::Lost);
        } else {
            let attached = self.attached.lock();
            let has_moved = attached.has_changed().unwrap_or(true);
            if has_moved || attached.borrow().connected() != Some(self.session) {
                self.change(HoldState::Suspended);
            }
        }
        *self.state.borrow()
    }

    /// What a look at the znode says.
    fn seen(&self, found: Found) -> Seen {
        use farrier_client::Error as E;
        match found {
            Ok(Some((stat, watch))) if stat.czxid == self.czxid => Seen::There(watch),
            Ok(_) | Err(E::SessionExpired { .. } | E::Closed | E::AuthFailed) => Seen::Gone,
            Err(_) => Seen::Nothing,
        }
    }

    /// Keeps the state up to date, and the lease renewed, until it is lost.
    async fn follow(self: Arc<Self>, _lease: LeaseKeeper) {
        let mut session = self.attached.lock().clone();
        let mut eye = Eye::default();
        loop {
            if self.look() == HoldState::Lost {
                return;
            }
            if eye.is_shut() && session.borrow_and_update().connected() == Some(self.session) {
                let (client, path) = (self.client.clone(), self.path.clone());
                eye.look = Some(Box::pin(async move { look_at(&client, &path).await }));
            }
            let ends = self.client.lease().map_or_else(|| self.client.now(), |lease| lease.ends());
            tokio::select! {
                biased;
                changed = session.changed() => {
                    if changed.is_err() {
                        return self.change(HoldState::Lost);
                    }
                    // What was seen on another connection says nothing about this one.
                    eye.shut();
                }
                () = self.client.sleep_until(ends) => {}
                found = eye.next(&self.client) => match found {
                    Glance::Changed => {}
                    Glance::Found(found) => match self.seen(found) {
                        Seen::There(watch) => {
                            eye.watch = Some(watch);
                            // The connection may have gone behind the answer; then its turn comes next.
                            let mut attached = self.attached.lock();
                            if session.has_changed().is_ok_and(|changed| !changed) {
                                attached.clone_from(&session);
                                self.change(HoldState::Held);
                            }
                        }
                        Seen::Gone => return self.change(HoldState::Lost),
                        Seen::Nothing => eye.pause = Some(PAUSE),
                    },
                },
            }
        }
    }
}

enum Seen {
    /// With what tells its end.
    There(Watch),
    Gone,
    Nothing,
}

type Found = Result<Option<(Stat, Watch)>, farrier_client::Error>;

/// What looks after the znode: a look that is on its way, the watch that it left, or a pause before another one.
#[derive(Default)]
struct Eye {
    look: Option<Pin<Box<dyn Future<Output = Found> + Send>>>,
    watch: Option<Watch>,
    pause: Option<Duration>,
}

enum Glance {
    /// The znode changed, or it is time to look again.
    Changed,
    Found(Found),
}

impl Eye {
    fn shut(&mut self) {
        (self.look, self.watch, self.pause) = (None, None, None);
    }

    const fn is_shut(&self) -> bool {
        self.look.is_none() && self.watch.is_none() && self.pause.is_none()
    }

    /// Dropping it loses nothing but a pause.
    async fn next(&mut self, client: &Client) -> Glance {
        if let Some(look) = &mut self.look {
            let found = look.await;
            self.look = None;
            return Glance::Found(found);
        }
        if let Some(watch) = &mut self.watch {
            watch.next().await;
            self.watch = None;
            return Glance::Changed;
        }
        if let Some(pause) = self.pause {
            client.sleep(pause).await;
            self.pause = None;
            return Glance::Changed;
        }
        future::pending().await
    }
}

/// Something that is held by an ephemeral znode of its own: a lock, a place among the holders of a semaphore, the lead.
///
/// It tells in time when it may be lost: at the latest when two thirds of the session timeout have passed since the
/// newest request was sent that was answered *by way of the servers' leader*, on a clock that counts the time for which the
/// machine was suspended. See [`farrier_client::Lease`], which it has renewed as long as it lasts. Once lost, it stays
/// lost.
///
/// Dropping it puts the deletion of the znode in line at once and sees to it in the background, until a server has
/// answered or the session has ended. So drop it only when nothing acts under it any more, after a loss too.
#[derive(Debug)]
pub struct Hold {
    inner: Arc<Inner>,
    withdrawal: Armed,
    /// Held for its end.
    follower: Follower,
}

/// Ends the task that keeps a state up to date.
#[derive(Debug)]
struct Follower(AbortHandle);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Hold {
    /// `path` was created by `session` in `czxid` and is held now.
    pub(crate) fn new(withdrawal: Withdrawal, path: String, czxid: Zxid, session: SessionId) -> Self {
        let client = withdrawal.place.client.clone();
        let state = watch::Sender::new(HoldState::Held);
        let attached = Mutex::new(client.session());
        let inner = Arc::new(Inner { client, path, czxid, session, state, attached });
        let lease = inner.client.keep_lease();
        let follower = withdrawal.runtime.spawn(Arc::clone(&inner).follow(lease)).abort_handle();
        Self { inner, withdrawal: Armed::new(withdrawal), follower: Follower(follower) }
    }

    /// The state now. Unlike what [`Self::watch`] shows it is exact at the moment of the call, even if the process had
    /// been stopped until then; but it is a look and not a deed, so what must not happen after a loss needs a guarded write
    /// or a token.
    #[must_use]
    pub fn state(&self) -> HoldState {
        self.inner.look()
    }

    /// Whether it is [`HoldState::Held`] now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.state() == HoldState::Held
    }

    /// The state, to wait for.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<HoldState> {
        self.inner.state.subscribe()
    }

    /// Completes when it is lost. It does not borrow, so that it can be waited for beside the work.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut state = self.watch();
        async move {
            // Without a sender nobody holds it any more.
            let _ = state.wait_for(|state| *state == HoldState::Lost).await;
        }
    }

    /// The path of the znode. Its name is never used again, so whoever checks in a multi that it exists knows that it is
    /// still held; see [`crate::guarded_multi`].
    #[must_use]
    pub fn path(&self) -> &str {
        &self.inner.path
    }

    /// The session that holds it.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.inner.session
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    pub(crate) fn czxid(&self) -> Zxid {
        self.inner.czxid
    }

    /// The znode was seen to be gone.
    pub(crate) fn lose(&self) {
        self.inner.change(HoldState::Lost);
    }

    /// Deletes the znode, and tells how that went.
    pub(crate) async fn release(self) -> Result<(), Error> {
        let path = self.inner.path.clone();
        // From here on somebody else may hold it. Nobody has to look at the znode any more either: the deletion would only
        // make the follower ask for what is gone.
        self.inner.change(HoldState::Lost);
        drop(self.follower);
        match self.withdrawal.disarm().begin().await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.is_no_node() => Err(Error::LockLost { path }),
            Ok(Err(farrier_client::Error::SessionExpired { .. })) => Err(Error::LockLost { path }),
            Ok(Err(error)) => Err(error.into()),
            // The runtime is ending, and the session with it.
            Err(_) => Err(farrier_client::Error::Closed.into()),
        }
    }
}
