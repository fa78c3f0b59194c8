//! The read-write lock: many readers or one writer.

use crate::guard::Guard;
use crate::hold::{Hold, HoldState};
use crate::names::{self, Layout, Role};
use crate::place::{Place, place_options};
use crate::standing::{self, Own};
use crate::withdraw::{Armed, Withdrawal};
use crate::{Error, Unique};
use farrier_client::{Acl, Client, ErrorCode, NewZnode, Op, OpResult};
use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;

/// A path that many readers or one writer hold at a time, in the order in which they came: a reader never passes a
/// writer that waits, so writers are not starved.
///
/// ```no_run
/// # async fn run(client: farrier_client::Client) -> Result<(), farrier_recipes::Error> {
/// use farrier_client::Op;
/// use farrier_recipes::RwLock;
///
/// let lock = RwLock::new(&client, "/app/table");
/// let write = lock.write().await?;
/// write.multi([Op::set("/app/rows", "7", None)]).await?;
/// // Other readers come in, and no writer came between.
/// let read = write.downgrade().await?;
/// println!("{:?}", client.get("/app/rows").await?);
/// read.release().await?;
/// # Ok(())
/// # }
/// ```
///
/// One value is one contender: while it holds a read guard, [`Self::write`] on it is refused as an upgrade, which could
/// only wait for itself. Each clone is a contender of its own.
///
/// A resource that is fenced by [tokens](crate::Token) refuses those that are smaller than the largest token of a
/// *writer* that it has seen; those of readers don't raise it.
#[derive(Debug)]
pub struct RwLock {
    place: Place,
    /// One more for each read guard.
    reads: Arc<()>,
}

impl Clone for RwLock {
    fn clone(&self) -> Self {
        Self { place: self.place.clone(), reads: Arc::default() }
    }
}

impl RwLock {
    /// The lock at `path`, which need not exist.
    #[must_use]
    pub fn new(client: &Client, path: &str) -> Self {
        Self { place: Place::new(client, path, Role::Writer), reads: Arc::default() }
    }

    place_options! {
        /// See [`crate::Lock::layout`].
        layout(layout: Layout);
        /// See [`crate::Lock::acl`].
        acl(acl: &[Acl<'static>]);
        /// See [`crate::Lock::data`].
        data(data: impl AsRef<[u8]>);
    }

    /// Waits until no writer is before it.
    ///
    /// # Errors
    ///
    /// As [`crate::Lock::acquire`].
    pub async fn read(&self) -> Result<ReadGuard, Error> {
        self.take_read(None).await
    }

    /// The same for this long at most.
    ///
    /// # Errors
    ///
    /// As [`crate::Lock::acquire_within`].
    pub async fn read_within(&self, span: Duration) -> Result<ReadGuard, Error> {
        self.take_read(Some(span)).await
    }

    async fn take_read(&self, span: Option<Duration>) -> Result<ReadGuard, Error> {
        let place = self.place.with_role(Role::Reader);
        let guard = standing::guard(&place, span).await?;
        Ok(ReadGuard { guard, _counted: Arc::clone(&self.reads) })
    }

    /// Waits until nobody is before it.
    ///
    /// # Errors
    ///
    /// As [`crate::Lock::acquire`]; [`Error::Invalid`] while this value holds a read guard.
    pub async fn write(&self) -> Result<WriteGuard, Error> {
        self.take_write(None).await
    }

    /// The same for this long at most.
    ///
    /// # Errors
    ///
    /// As [`crate::Lock::acquire_within`]; [`Error::Invalid`] while this value holds a read guard.
    pub async fn write_within(&self, span: Duration) -> Result<WriteGuard, Error> {
        self.take_write(Some(span)).await
    }

    async fn take_write(&self, span: Option<Duration>) -> Result<WriteGuard, Error> {
        if Arc::strong_count(&self.reads) > 1 {
            return Err(Error::Invalid {
                path: self.place.dir.clone(),
                reason: "a read lock can't become a write lock, which would wait for the readers and so for itself; \
                         release the read guard before"
                    .to_owned(),
            });
        }
        let guard = standing::guard(&self.place, span).await?;
        let reader = self.place.with_role(Role::Reader);
        Ok(WriteGuard { guard, reader, reads: Arc::downgrade(&self.reads) })
    }
}

/// A read lock that is held, or was. See [`Guard`].
#[derive(Debug)]
#[must_use = "the lock is released when its guard is dropped"]
pub struct ReadGuard {
    guard: Guard,
    _counted: Arc<()>,
}

impl Deref for ReadGuard {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.guard
    }
}

impl ReadGuard {
    /// See [`Guard::release`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn release(self) -> Result<(), Error> {
        self.guard.release().await
    }
}

/// A write lock that is held, or was. See [`Guard`].
#[derive(Debug)]
#[must_use = "the lock is released when its guard is dropped"]
pub struct WriteGuard {
    guard: Guard,
    reader: Place,
    /// Not counted: only readers are in the way of a writer.
    reads: Weak<()>,
}

impl Deref for WriteGuard {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.guard
    }
}

impl WriteGuard {
    /// See [`Guard::release`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn release(self) -> Result<(), Error> {
        self.guard.release().await
    }

    /// Becomes a reader in the writer's place, in one step: no writer comes between, also none that waits already, and
    /// the readers behind it come in.
    ///
    /// # Errors
    ///
    /// [`Error::LockLost`], or why it could not be done. The lock is released then.
    pub async fn downgrade(self) -> Result<ReadGuard, Error> {
        let client = &self.reader.client;
        let lost = || Error::LockLost { path: self.path().to_owned() };
        // A name with the writer's own digits stands where the writer stood.
        let digits = names::digits(self.reader.name_of(self.path())).ok_or_else(lost)?;
        let unique = Unique::for_path(&self.reader.client, &self.reader.dir)?;
        let name = self.reader.layout.name(Role::Reader, unique) + digits;
        let path = self.reader.child(&name);
        let withdrawal = Withdrawal {
            place: self.reader.clone(),
            prefix: name,
            path: Some(path.clone()),
            runtime: Handle::current(),
        };
        let armed = Armed::new(withdrawal);
        loop {
            let own = NewZnode::new(&path, self.reader.znode_data()).acl(self.reader.znode_acl()).ephemeral();
            let ops = [Op::check(self.path(), None), Op::Create(own), Op::delete(self.path(), None)];
            let told = match client.multi(ops).await {
                Ok(results) => results.into_iter().find_map(|result| match result {
                    OpResult::Created { stat, .. } => stat,
                    _ => None,
                }),
                Err(farrier_client::Error::Refused { code: ErrorCode::NoNode, .. }) => return Err(lost()),
                Err(farrier_client::Error::NotDone { .. }) if self.state() != HoldState::Lost => continue,
                Err(error) if error.is_unknown() => None,
                Err(error) => return Err(error.into()),
            };
            let stat = match told {
                Some(stat) => Some(stat),
                None => {
                    client.sync(&path).await?;
                    client.exists(&path).await?
                }
            };
            // If it is not there after all, the multi was not executed.
            if let Some(stat) = stat {
                let Own { path, czxid, session } = Own::of(path, &stat);
                let hold = Hold::new(armed.disarm(), path, czxid, session);
                return Ok(ReadGuard { guard: Guard::new(hold), _counted: self.reads.upgrade().unwrap_or_default() });
            }
        }
    }
}
