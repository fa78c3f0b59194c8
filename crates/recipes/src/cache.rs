//! Caches: what is below a znode, in memory, with events when it changes.

use crate::Error;

use crate::mirror::{Depth, Mirror, Step, Znode};
use farrier_client::Client;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A change that a cache took in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CacheEvent {
    /// A znode is there.
    Added(Arc<Znode>),
    /// The data of a znode was set.
    Changed {
        /// What the cache had before.
        old: Arc<Znode>,
        /// What it has now.
        new: Arc<Znode>,
    },
    /// A znode is gone; a new one of the same path is told as such.
    Removed(Arc<Znode>),
    /// All that was there at first has been told.
    Loaded,
    /// Changes may have passed by untold: the connection was lost, or the events were read too slowly. What is different
    /// now follows.
    Missed,
}

/// What is below a znode, kept up to date by whoever calls [`Self::next`] again and again. [`Self::view`] shows the same
/// to others.
///
/// It takes one persistent recursive watch, which ZooKeeper has since 3.6, and a read for each change. What may not be
/// read is not part of it.
///
/// ```no_run
/// # async fn run(client: farrier_client::Client) -> Result<(), farrier_recipes::Error> {
/// use farrier_recipes::Cache;
///
/// let mut cache = Cache::tree(&client, "/app");
/// cache.load().await?;
/// let view = cache.view();
/// tokio::spawn(async move { while cache.next().await.is_ok() {} });
/// println!("{:?}", view.get("/app/config"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cache {
    mirror: Mirror,
    view: CacheView,
}

/// The contents of a [`Cache`]. Clones show the same.
#[derive(Clone, Default, Debug)]
pub struct CacheView(Arc<RwLock<BTreeMap<String, Arc<Znode>>>>);

impl Cache {
    /// A cache of the children of `path` with their data, without `path` itself and what is below the children. `path`
    /// need not exist. Nothing is sent before the first call of [`Self::next`].
    #[must_use]
    pub fn children(client: &Client, path: &str) -> Self {
        Self::new(Mirror::new(client, path, Depth::Children))
    }

    /// A cache of `path` and everything below it; otherwise as [`Self::children`].
    #[must_use]
    pub fn tree(client: &Client, path: &str) -> Self {
        Self::new(Mirror::new(client, path, Depth::All))
    }

    fn new(mirror: Mirror) -> Self {
        Self { mirror, view: CacheView::default() }
    }

    /// The next event: at first a [`CacheEvent::Added`] for everything that is there, parents before their children, and
    /// [`CacheEvent::Loaded`]; then changes in the order in which they came. Several quick changes of one znode can be
    /// told as one. The view has an event's change when the event comes back.
    ///
    /// Goes on through reconnects and lost sessions, and says so by [`CacheEvent::Missed`]. Waits for a server as long as
    /// there is none. Cancelling the call loses nothing.
    ///
    /// # Errors
    ///
    /// The servers refuse to show `path`, or the client has ended. [`Error::Invalid`] if there are more than 1,048,576
    /// znodes.
    pub async fn next(&mut self) -> Result<CacheEvent, Error> {
        let step = self.mirror.next().await?;
        let mut view = self.view.0.write();
        Ok(match step {
            Step::Added(new) => {
                view.insert(new.path.clone(), Arc::clone(&new));
                CacheEvent::Added(new)
            }
            Step::Changed { old, new } => {
                view.insert(new.path.clone(), Arc::clone(&new));
                CacheEvent::Changed { old, new }
            }
            Step::Removed(old) => {
                view.remove(&old.path);
                CacheEvent::Removed(old)
            }
            Step::Loaded => CacheEvent::Loaded,
            Step::Missed => CacheEvent::Missed,
        })
    }

    /// Takes in events up to [`CacheEvent::Loaded`], for whoever cares only for what is there. To be called first.
    ///
    /// # Errors
    ///
    /// Those of [`Self::next`].
    pub async fn load(&mut self) -> Result<(), Error> {
        while self.next().await? != CacheEvent::Loaded {}
        Ok(())
    }

    /// What the cache holds, now and later, for anybody.
    #[must_use]
    pub fn view(&self) -> CacheView {
        self.view.clone()
    }
}

impl CacheView {
    /// The znode at a path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Arc<Znode>> {
        self.0.read().get(path).cloned()
    }

    /// Everything at one moment, in the order of paths.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Znode>> {
        self.0.read().values().cloned().collect()
    }

    /// How many znodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.read().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
