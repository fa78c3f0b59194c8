//! The lock: one holder at a time.

use crate::Error;
use crate::guard::Guard;
use crate::names::{Layout, Role};
use crate::place::{Place, place_options};
use crate::standing;
use farrier_client::{Acl, Client};
use std::time::Duration;

/// A path that at most one contender holds at a time, in the order in which they came.
///
/// ```no_run
/// # async fn run() -> Result<(), farrier_recipes::Error> {
/// use farrier_client::{Client, Op};
/// use farrier_recipes::Lock;
///
/// let client = Client::connect("127.0.0.1:2181").await?;
/// let guard = Lock::new(&client, "/app/lock").acquire().await?;
/// tokio::select! {
///     () = guard.lost() => println!("somebody else may hold it now"),
///     // Done while the lock is held, or not at all.
///     done = guard.multi([Op::set("/app/owner", "me", None)]) => println!("{done:?}"),
/// }
/// guard.release().await?;
/// # Ok(())
/// # }
/// ```
///
/// Each contender has an ephemeral znode below the path and waits for the one before it, so a release wakes one of them.
/// A contender whose session expires while it waits goes to the end of the line by itself; one that holds the lock loses
/// it for good. Dropping a call of [`Self::acquire`] leaves nothing behind.
///
/// Contenders of the other [`Layout`] on the same path are refused, as long as one of the znodes is there: the two
/// would exclude nobody.
#[derive(Clone, Debug)]
pub struct Lock {
    place: Place,
}

impl Lock {
    /// The lock at `path`, which need not exist: it is created with the first contender.
    #[must_use]
    pub fn new(client: &Client, path: &str) -> Self {
        Self { place: Place::new(client, path, Role::Lock) }
    }

    place_options! {
        /// Whose contenders it shares the path with; [`Layout::Curator`] by default.
        layout(layout: Layout);
        /// Who may do what with the znodes that are created; everybody everything by default. Contenders need to read the
        /// path and to create and delete below it.
        acl(acl: &[Acl<'static>]);
        /// What the contender's znode holds, for whoever looks at it: a name, say. Empty by default.
        data(data: impl AsRef<[u8]>);
    }

    /// Waits for the lock, as long as it takes. To be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire_within`], without [`Error::NotAcquired`].
    pub async fn acquire(&self) -> Result<Guard, Error> {
        standing::guard(&self.place, None).await
    }

    /// Waits for others to release the lock for this long at most; with [`Duration::ZERO`] it takes what is free.
    ///
    /// # Errors
    ///
    /// [`Error::NotAcquired`] when others held it all the time, [`Error::OtherLayout`], and what creating and listing
    /// znodes is refused with. No server is no error before the time is over.
    pub async fn acquire_within(&self, span: Duration) -> Result<Guard, Error> {
        standing::guard(&self.place, Some(span)).await
    }

    /// The names of the contenders' znodes, the holder's first.
    ///
    /// # Errors
    ///
    /// [`Error::OtherLayout`], or that of the request.
    pub async fn contenders(&self) -> Result<Vec<String>, Error> {
        self.place.queue().await.map(crate::names::Queue::into_names)
    }
}
