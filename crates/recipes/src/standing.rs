//! Standing in line: a znode of one's own, and the wait for whoever is before it.

use crate::guard::Guard;
use crate::hold::Hold;
use crate::limits::PAUSE;
use crate::place::Place;
use crate::steady::is_passing;
use crate::withdraw::{Armed, Withdrawal, find};
use crate::{Error, Unique};
use farrier_client::{Client, SessionId, SessionState, Stat, Time, Watch, Zxid};
use std::time::Duration;
use tokio::runtime::Handle;

/// Looks at a lease that is not worth enough yet, in a session's timeout.
const LEASE_LOOKS: u32 = 12;

/// How long somebody is willing to wait for others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    span: Option<Duration>,
    until: Time,
}

impl Patience {
    /// From now on; `None` is for ever.
    pub(crate) fn from_now(client: &Client, span: Option<Duration>) -> Self {
        Self { span, until: span.map_or(Time::MAX, |span| client.now() + span) }
    }

    pub(crate) const fn until(&self) -> Time {
        self.until
    }

    /// The error of whoever runs out of it at `path`.
    pub(crate) fn over(&self, path: &str) -> Error {
        Error::NotAcquired { path: path.to_owned(), waited: self.span.unwrap_or_default() }
    }

    /// Returns when it is time for another try, or passes on an error that another one can't help, or that comes too
    /// late for one. The end of a session is such an error: what it left has to be made anew.
    pub(crate) async fn or_again(&self, client: &Client, error: farrier_client::Error) -> Result<(), Error> {
        use farrier_client::Error as E;
        let is_final = !is_passing(&error) || matches!(error, E::SessionExpired { .. }) || client.has_ended();
        if is_final || client.now() >= self.until {
            return Err(error.into());
        }
        if !matches!(error, E::NotDone { .. }) {
            client.sleep(PAUSE).await;
        }
        Ok(())
    }
}

/// One's own znode in line.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) path: String,
    pub(crate) czxid: Zxid,
    pub(crate) session: SessionId,
}

impl Own {
    pub(crate) const fn of(path: String, stat: &Stat) -> Self {
        Self { path, czxid: stat.czxid, session: SessionId(stat.ephemeral_owner) }
    }
}

/// A contender. Dropping it takes its znode away, whether or not the answer to its creation ever came.
#[derive(Debug)]
pub(crate) struct Standing {
    withdrawal: Armed,
    own: Own,
}

impl Standing {
    /// Goes to the end of the line, and makes the path if it does not exist. The znode is made once: after a lost answer
    /// it is found again by its name.
    pub(crate) async fn enter(place: &Place, patience: Patience) -> Result<Self, Error> {
        let unique = Unique::for_path(&place.client, &place.dir)?;
        let prefix = place.layout.name(place.role, unique);
        let path = place.child(&prefix);
        let client = &place.client;
        let runtime = Handle::current();
        let withdrawal = Withdrawal { place: place.clone(), prefix: prefix.clone(), path: None, runtime };
        loop {
            let armed = Armed::new(withdrawal.clone());
            let create = client.create(&path, place.znode_data()).acl(place.znode_acl()).ephemeral().sequential();
            let made = match create.await {
                Ok(created) => Ok(Some(Own::of(created.path, &created.stat))),
                Err(error) if error.is_unknown() => find_own(place, &prefix, patience).await.map(Ok)?,
                Err(error) => Err(error),
            };
            if let Ok(Some(own)) = made {
                let withdrawal = Withdrawal { path: Some(own.path.clone()), ..armed.disarm() };
                return Ok(Self { withdrawal: Armed::new(withdrawal), own });
            }
            // It was not made, so there is nothing to take away.
            drop(armed.disarm());
            let Err(error) = made else { continue };
            if !error.is_no_node() {
                patience.or_again(client, error).await?;
            } else if let Err(error) = place.create().await {
                patience.or_again(client, error).await?;
            }
        }
    }

    pub(crate) const fn own(&self) -> &Own {
        &self.own
    }

    /// Waits until nobody is before it. `false` if the znode is gone, with its session or by somebody else's hand: then
    /// another one has to go to the end of the line.
    pub(crate) async fn wait_turn(&self, place: &Place, patience: Patience) -> Result<bool, Error> {
        let client = &place.client;
        let name = place.name_of(&self.own.path);
        loop {
            let queue = match place.queue().await {
                Ok(queue) => queue,
                Err(Error::Client(farrier_client::Error::SessionExpired { .. })) => return Ok(false),
                Err(Error::Client(error)) => {
                    patience.or_again(client, error).await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(before) = queue.before(name) else { return Ok(false) };
            let Some(before) = before else { return self.has_lease(place, patience).await };
            let path = place.child(&before.name);
            let mut watch = match watch_for_end(client, &path).await {
                Ok(Some(watch)) => watch,
                Ok(None) => continue,
                Err(farrier_client::Error::SessionExpired { .. }) => return Ok(false),
                Err(error) => {
                    patience.or_again(client, error).await?;
                    continue;
                }
            };
            tokio::select! {
                biased;
                _ = watch.next() => {}
                () = session_gone(client, self.own.session) => return Ok(false),
                () = client.sleep_until(patience.until()) => {
                    // A client that has ended sleeps no more.
                    if client.now() >= patience.until() {
                        return Err(patience.over(&place.dir));
                    }
                }
            }
        }
    }

    /// Sees to it that whatever is held from now on is held by a lease that has just begun: who stood in line for long
    /// may have heard of a server that was cut off from its leader. Behind a silence of this client one answer may not
    /// prove enough yet (see [`farrier_client::Lease`]), and what is held would be lost again at once. `false` if the session
    /// has ended.
    pub(crate) async fn has_lease(&self, place: &Place, patience: Patience) -> Result<bool, Error> {
        let client = &place.client;
        let mut is_renewed = false;
        loop {
            let now = client.now();
            let Some(lease) = client.lease().filter(|lease| lease.session == self.own.session) else {
                return Ok(false);
            };
            if now < lease.since + lease.timeout / 3 {
                return Ok(true);
            }
            if is_renewed && now >= patience.until() {
                // Though it may hold now: what it is worth may be over before an answer proves more.
                return Err(patience.over(&place.dir));
            }
            if is_renewed {
                client.sleep(lease.timeout / LEASE_LOOKS).await;
            }
            match client.sync(&place.dir).await {
                Ok(()) => is_renewed = true,
                Err(farrier_client::Error::SessionExpired { .. }) => return Ok(false),
                Err(error) => patience.or_again(client, error).await?,
            }
        }
    }

    /// Its turn has come.
    pub(crate) fn into_hold(self) -> Hold {
        let Own { path, czxid, session } = self.own;
        Hold::new(self.withdrawal.disarm(), path, czxid, session)
    }

    /// Leaves the line, and waits until that is done or known to take longer.
    pub(crate) async fn leave(self) {
        // Whatever comes of it, the work goes on in the background.
        let _ = self.withdrawal.disarm().begin().await;
    }
}

/// Waits for its turn for `span` at most, or as long as it takes, and for what only a holder can do.
pub(crate) async fn guard(place: &Place, span: Option<Duration>) -> Result<Guard, Error> {
    acquire(place, Patience::from_now(&place.client, span)).await.map(Guard::new)
}

/// Goes to the end of the line and waits for its turn, anew after every lost session.
pub(crate) async fn acquire(place: &Place, patience: Patience) -> Result<Hold, Error> {
    let client = &place.client;
    loop {
        let standing = match Standing::enter(place, patience).await {
            // What it made, if anything, went with the session. The next one may live longer.
            Err(Error::Client(farrier_client::Error::SessionExpired { .. }))
                if !client.has_ended() && client.now() < patience.until() =>
            {
                continue;
            }
            entered => entered?,
        };
        match standing.wait_turn(place, patience).await {
            Ok(true) => return Ok(standing.into_hold()),
            Ok(false) => {}
            Err(error) => {
                standing.leave().await;
                return Err(error);
            }
        }
    }
}

/// The znode that was created without an answer, if it was.
async fn find_own(place: &Place, prefix: &str, patience: Patience) -> Result<Option<Own>, Error> {
    loop {
        let found = match find(place, prefix).await {
            Ok(None) => return Ok(None),
            Ok(Some(path)) => place.client.exists(&path).await.map(|stat| stat.map(|stat| Own::of(path, &stat))),
            Err(error) => Err(error),
        };
        match found {
            Ok(own) => return Ok(own),
            Err(error) => patience.or_again(&place.client, error).await?,
        }
    }
}

/// A watch that tells the end of a znode; `None` if it is gone already.
pub(crate) async fn watch_for_end(client: &Client, path: &str) -> Result<Option<Watch>, farrier_client::Error> {
    Ok(look_at(client, path).await?.map(|(_, watch)| watch))
}

/// What there is to say of a znode whose name is never used again, with a watch that tells its end; `None` if it is gone.
pub(crate) async fn look_at(client: &Client, path: &str) -> Result<Option<(Stat, Watch)>, farrier_client::Error> {
    // A read that finds nothing leaves no watch behind, unlike a question whether there is something: that one would stay
    // at the server for as long as the connection does.
    match client.get(path).watch().await {
        Ok((value, watch)) => Ok(Some((value.stat, watch))),
        Err(error) if error.is_no_node() => Ok(None),
        Err(error) if error.code() == Some(farrier_client::ErrorCode::NoAuth) => {
            let (stat, watch) = client.exists(path).watch().await?;
            Ok(stat.map(|stat| (stat, watch)))
        }
        Err(error) => Err(error),
    }
}

/// Completes when this session is known to have ended.
pub(crate) async fn session_gone(client: &Client, own: SessionId) {
    let mut state = client.session();
    let gone = |state: &SessionState| match state {
        SessionState::Connected { session, .. } | SessionState::Suspended { session } => *session != own,
        SessionState::Expired { .. } | SessionState::AuthFailed | SessionState::Closed => true,
        SessionState::Connecting => false,
    };
    // Without a sender the client is gone.
    let _ = state.wait_for(gone).await;
}
