//! The semaphore: a bounded number of holders at a time.

use crate::Error;
use crate::hold::Hold;
use crate::names::{Queue, Role};
use crate::place::Place;
use crate::standing::{self, Patience, Standing, session_gone};
use farrier_client::{Acl, Client};
use std::ops::Deref;
use std::time::Duration;

/// A path that a bounded number of contenders hold at a time, in the order in which they came. The layout is that of
/// Curator's `InterProcessSemaphoreV2`.
///
/// ```no_run
/// # async fn run(client: farrier_client::Client) -> Result<(), farrier_recipes::Error> {
/// let permit = farrier_recipes::Semaphore::new(&client, "/app/workers", 3).acquire().await?;
/// println!("at most two others: {}", permit.is_held());
/// permit.release().await?;
/// # Ok(())
/// # }
/// ```
///
/// Whoever wants a permit takes a lock below `locks` first, so that only one contender at a time watches the permits below
/// `leases`. How many there may be is a convention: all contenders have to be told the same number. Permits carry no
/// token, since several of them are valid at a time.
#[derive(Clone, Debug)]
pub struct Semaphore {
    path: String,
    locks: Place,
    leases: Place,
    permits: usize,
}

impl Semaphore {
    /// The semaphore at `path`, which need not exist, with so many permits.
    #[must_use]
    pub fn new(client: &Client, path: &str, permits: usize) -> Self {
        let below = |name: &str| format!("{}/{name}", path.trim_end_matches('/'));
        let locks = Place::new(client, below("locks"), Role::Lock);
        let leases = Place::new(client, below("leases"), Role::Permit);
        Self { path: path.to_owned(), locks, leases, permits }
    }

    /// See [`crate::Lock::acl`].
    #[must_use]
    pub fn acl(mut self, acl: &[Acl<'static>]) -> Self {
        (self.locks, self.leases) = (self.locks.acl(acl), self.leases.acl(acl));
        self
    }

    /// What the permit's znode holds. Empty by default.
    #[must_use]
    pub fn data(mut self, data: impl AsRef<[u8]>) -> Self {
        self.leases = self.leases.data(data.as_ref());
        self
    }

    /// Waits for a permit.
    ///
    /// # Errors
    ///
    /// As [`crate::Lock::acquire`]; [`Error::Invalid`] for a semaphore without permits.
    pub async fn acquire(&self) -> Result<Permit, Error> {
        self.take(1, None).await.map(only)
    }

    /// The same for this long at most.
    ///
    /// # Errors
    ///
    /// As [`crate::Lock::acquire_within`]; [`Error::Invalid`] for a semaphore without permits.
    pub async fn acquire_within(&self, span: Duration) -> Result<Permit, Error> {
        self.take(1, Some(span)).await.map(only)
    }

    /// Waits for so many permits, and takes all of them or none. Until there are enough nobody who comes later gets one, so
    /// contenders who want several don't wait for each other. Each permit is given back by itself.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`]; [`Error::Invalid`] for no permits, or more than there are.
    pub async fn acquire_many(&self, count: usize) -> Result<Vec<Permit>, Error> {
        self.take(count, None).await
    }

    /// The same for this long at most.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire_within`]; [`Error::Invalid`] for no permits, or more than there are.
    pub async fn acquire_many_within(&self, count: usize, span: Duration) -> Result<Vec<Permit>, Error> {
        self.take(count, Some(span)).await
    }

    async fn take(&self, wanted: usize, span: Option<Duration>) -> Result<Vec<Permit>, Error> {
        if wanted == 0 || wanted > self.permits {
            let reason = format!("{wanted} permits can't be acquired: the semaphore has {}", self.permits);
            return Err(Error::Invalid { path: self.path.clone(), reason });
        }
        let patience = Patience::from_now(&self.leases.client, span);
        self.take_within(wanted, patience).await.map_err(|error| match error {
            Error::NotAcquired { .. } => patience.over(&self.path),
            other => other,
        })
    }

    async fn take_within(&self, wanted: usize, patience: Patience) -> Result<Vec<Permit>, Error> {
        loop {
            // Held while this contender is the one that looks at the permits; released when it is dropped.
            let turn = standing::acquire(&self.locks, patience).await?;
            let mut standing = Vec::new();
            let result = self.wait_permits(&turn, &mut standing, wanted, patience).await;
            match result {
                Ok(true) => return Ok(standing.into_iter().map(|own| Permit(own.into_hold())).collect()),
                Ok(false) => {}
                Err(error) => {
                    // The others go before it.
                    if let Some(last) = standing.pop() {
                        drop(standing);
                        last.leave().await;
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Puts so many permits of its own among the others, and waits until there are no more than there may be. `false` if
    /// one's own are gone, or so is the turn: then somebody else does the same, and of two who wait for permits beside each
    /// other's none would ever get in.
    async fn wait_permits(
        &self,
        turn: &Hold,
        standing: &mut Vec<Standing>,
        wanted: usize,
        patience: Patience,
    ) -> Result<bool, Error> {
        while standing.len() < wanted {
            match Standing::enter(&self.leases, patience).await {
                Err(Error::Client(farrier_client::Error::SessionExpired { .. })) => return Ok(false),
                entered => standing.push(entered?),
            }
        }
        let Some(newest) = standing.last() else { return Ok(false) };
        let client = &self.leases.client;
        loop {
            let (children, mut watch) = match client.children(&self.leases.dir).watch().await {
                Ok(listed) => listed,
                Err(farrier_client::Error::SessionExpired { .. }) => return Ok(false),
                Err(error) if error.is_no_node() => return Ok(false),
                Err(error) => {
                    patience.or_again(client, error).await?;
                    continue;
                }
            };
            // Curator counts whatever is there.
            let count = children.names.len();
            let queue = Queue::of(&self.leases.dir, self.leases.layout, Role::Permit, children.names)?;
            if standing.iter().any(|own| queue.before(self.leases.name_of(&own.own().path)).is_none()) {
                return Ok(false);
            }
            if count <= self.permits {
                return newest.has_lease(&self.leases, patience).await;
            }
            tokio::select! {
                biased;
                _ = watch.next() => {}
                () = session_gone(client, newest.own().session) => return Ok(false),
                () = turn.lost() => return Ok(false),
                () = client.sleep_until(patience.until()) => {
                    if client.now() >= patience.until() {
                        return Err(patience.over(&self.path));
                    }
                }
            }
        }
    }
}

/// The permit, where one was taken.
fn only(mut permits: Vec<Permit>) -> Permit {
    permits.pop().expect("as many are taken as were wanted")
}

/// A permit that is held, or was; see [`Hold`] for what it tells of that.
#[derive(Debug)]
#[must_use = "a permit is given back when it is dropped"]
pub struct Permit(Hold);

impl Deref for Permit {
    type Target = Hold;

    fn deref(&self) -> &Hold {
        &self.0
    }
}

impl Permit {
    /// See [`crate::Guard::release`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn release(self) -> Result<(), Error> {
        self.0.release().await
    }
}
