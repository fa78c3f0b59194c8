//! Elections: one of the candidates leads at a time.

use crate::Error;
use crate::guard::Guard;
use crate::names::{Layout, Queue, Role};
use crate::place::{Place, place_options};
use crate::standing;
use farrier_client::{Acl, Client};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A path at which candidates stand for leadership, in the order in which they came: a lock by another name, with the
/// same lease and the same tokens. A new term is a new znode, so it has a larger token than every term before.
///
/// ```no_run
/// # async fn run(client: farrier_client::Client) -> Result<(), farrier_recipes::Error> {
/// use farrier_client::Op;
/// use farrier_recipes::{Election, Leadership};
/// use std::sync::Arc;
///
/// let election = Election::new(&client, "/app/leader").id("host-7");
/// // Whenever it leads; dropped and begun anew with the next term when it is lost.
/// let beat = |term: Arc<Leadership>| async move {
///     while term.multi([Op::set("/app/beat", "host-7", None)]).await.is_ok() {}
/// };
/// election.run(beat).await?;
///
/// // Or in the background.
/// let latch = election.latch();
/// println!("leads in term {}", latch.leading().await?.token());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Election {
    place: Place,
}

/// Somebody who stands at an election.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// What it calls itself; empty if it does not.
    pub id: String,
    /// The path of its znode.
    pub path: String,
}

impl Election {
    /// The election at `path`, which need not exist.
    #[must_use]
    pub fn new(client: &Client, path: &str) -> Self {
        Self { place: Place::new(client, path, Role::Candidate) }
    }

    place_options! {
        /// Whose candidates stand at the same path: by default those of Curator's `LeaderLatch`. kazoo's elections are its
        /// locks.
        layout(layout: Layout);
        /// See [`crate::Lock::acl`].
        acl(acl: &[Acl<'static>]);
    }

    /// What the candidate calls itself, for [`Self::candidates`]. Nothing by default.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.place = self.place.data(id);
        self
    }

    /// Stands, and waits until this candidate leads.
    ///
    /// # Errors
    ///
    /// As [`crate::Lock::acquire`].
    pub async fn lead(&self) -> Result<Leadership, Error> {
        standing::guard(&self.place, None).await.map(Leadership)
    }

    /// The same for this long at most.
    ///
    /// # Errors
    ///
    /// As [`crate::Lock::acquire_within`].
    pub async fn lead_within(&self, span: Duration) -> Result<Leadership, Error> {
        standing::guard(&self.place, Some(span)).await.map(Leadership)
    }

    /// Calls `term` whenever this candidate leads, until what it gives is done; then resigns. If the lead is lost before,
    /// that is dropped where it waits, and the candidate stands again. Work that does not stop there must look at the state
    /// itself, or write under the guard.
    ///
    /// # Errors
    ///
    /// As [`Self::lead`].
    pub async fn run<T, F: Future<Output = T>>(&self, mut term: impl FnMut(Arc<Leadership>) -> F) -> Result<T, Error> {
        loop {
            let leadership = Arc::new(self.lead().await?);
            let lost = leadership.lost();
            tokio::select! {
                biased;
                () = lost => {}
                done = term(leadership) => return Ok(done),
            }
        }
    }

    /// Stands in the background, again after every lost term, until the latch is dropped. To be called within a tokio
    /// runtime.
    #[must_use]
    pub fn latch(&self) -> Latch {
        let status = watch::Sender::new(Status::Standing);
        let seen = status.subscribe();
        let election = self.clone();
        let task = tokio::spawn(async move {
            loop {
                match election.lead().await {
                    Ok(leadership) => {
                        let lost = leadership.lost();
                        status.send_replace(Status::Leading(Arc::new(leadership)));
                        lost.await;
                        status.send_replace(Status::Standing);
                    }
                    Err(error) => {
                        status.send_replace(Status::Failed(error));
                        return;
                    }
                }
            }
        });
        Latch { seen, task: task.abort_handle() }
    }

    /// Who stands, the leader first.
    ///
    /// # Errors
    ///
    /// [`Error::OtherLayout`], or those of the requests.
    pub async fn candidates(&self) -> Result<Vec<Candidate>, Error> {
        let names = self.place.queue().await.map(Queue::into_names)?;
        let paths: Vec<String> = names.iter().map(|name| self.place.child(name)).collect();
        let reads: Vec<_> = paths.iter().map(|path| self.place.client.get(path).send()).collect();
        let mut candidates = Vec::with_capacity(paths.len());
        for (read, path) in reads.into_iter().zip(paths) {
            match read.await {
                Ok(value) => candidates.push(Candidate { id: String::from_utf8_lossy(&value.data).into_owned(), path }),
                // It left meanwhile.
                Err(error) if error.is_no_node() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(candidates)
    }
}

/// A term of leadership that lasts, or did. See [`Guard`].
#[derive(Debug)]
#[must_use = "the candidate resigns when this is dropped"]
pub struct Leadership(Guard);

impl Deref for Leadership {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.0
    }
}

impl Leadership {
    /// Lets the next candidate lead. See [`Guard::release`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn resign(self) -> Result<(), Error> {
        self.0.release().await
    }
}

#[derive(Clone, Debug)]
enum Status {
    Standing,
    Leading(Arc<Leadership>),
    Failed(Error),
}

/// A candidate in the background, made by [`Election::latch`]. Dropping it resigns; whoever keeps a [`Leadership`] of it
/// keeps the next candidate waiting until that is dropped, too.
#[derive(Debug)]
pub struct Latch {
    seen: watch::Receiver<Status>,
    task: AbortHandle,
}

impl Latch {
    /// The present term, if this candidate leads now.
    #[must_use]
    pub fn leadership(&self) -> Option<Arc<Leadership>> {
        match &*self.seen.borrow() {
            Status::Leading(leadership) if leadership.is_held() => Some(Arc::clone(leadership)),
            Status::Leading(_) | Status::Standing | Status::Failed(_) => None,
        }
    }

    /// Whether this candidate leads now.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.leadership().is_some()
    }

    /// Waits until this candidate leads, by a term that is neither lost nor suspended.
    ///
    /// # Errors
    ///
    /// Why it stands no more; as [`Election::lead`].
    pub async fn leading(&self) -> Result<Arc<Leadership>, Error> {
        let mut seen = self.seen.clone();
        loop {
            let status = seen.borrow_and_update().clone();
            let mut state = match status {
                Status::Leading(leadership) => {
                    let state = leadership.watch();
                    if leadership.is_held() {
                        return Ok(leadership);
                    }
                    // The term is not kept while this waits: if it is lost, the next one begins when nobody has it any more.
                    Some(state)
                }
                Status::Standing => None,
                Status::Failed(error) => return Err(error),
            };
            let held_again = async {
                match &mut state {
                    // A term that has ended is followed by another status, which comes first.
                    Some(state) => drop(state.changed().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = seen.changed() => changed.map_err(|_| farrier_client::Error::Closed)?,
                () = held_again => {}
            }
        }
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
