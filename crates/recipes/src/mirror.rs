//! What is below a znode, kept up to date: the part that caches and groups share.
//!
//! A persistent recursive watch is set before anything is read, so nothing falls between. Its events say where to look;
//! what is there is read, and compared with what was known. Where events may be missing, everything is read again.

use crate::Error;
use crate::limits::{PAUSE, READS_AHEAD};
use crate::parents::child;
use crate::steady::is_passing;
use farrier_client::{
    Call, Change, Client, Error as ClientError, ErrorCode, EventType, Stat, Value, Watch, WatchEvent,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Most znodes that a mirror holds.
pub(crate) const ZNODES_MAX: usize = 1 << 20;

/// A znode as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Znode {
    /// Its path.
    pub path: String,
    /// Its data.
    pub data: Vec<u8>,
    /// Its stat. The fields about children are as of when the data was read.
    pub stat: Stat,
}

impl Znode {
    fn is_same(&self, other: &Self) -> bool {
        self.stat.czxid == other.stat.czxid && self.stat.mzxid == other.stat.mzxid
    }

    /// The transaction of its newest change that shows here.
    const fn newest(&self) -> farrier_client::Zxid {
        self.stat.mzxid
    }
}

/// How far down a mirror reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Depth {
    /// The children of the root, without the root.
    Children,
    /// The root and everything below it.
    All,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Added(Arc<Znode>),
    Changed {
        old: Arc<Znode>,
        new: Arc<Znode>,
    },
    Removed(Arc<Znode>),
    /// Everything that was there at first was told.
    Loaded,
    /// Changes may have come that were not told one by one; what differs follows.
    Missed,
}

/// What is found on the way through everything.
#[derive(Debug)]
struct Walk {
    all: bool,
    found: BTreeMap<String, Znode>,
    /// Paths that are yet to be read.
    ahead: VecDeque<String>,
    reads: VecDeque<Reading>,
}

/// A znode on its way.
#[derive(Debug)]
struct Reading {
    path: String,
    /// `None` once it was answered, or if it is not asked for.
    get: Option<Call<Value>>,
    /// The same.
    list: Option<Call<Vec<String>>>,
    value: Option<Znode>,
}

impl Reading {
    fn of(client: &Client, path: String, get: bool, list: bool) -> Self {
        let (get, list) = (get.then(|| client.get(&path).send()), list.then(|| client.list(&path).send()));
        Self { path, get, list, value: None }
    }
}

impl Walk {
    fn new(client: &Client, root: &str, depth: Depth) -> Self {
        let all = depth == Depth::All;
        let first = Reading::of(client, root.to_owned(), all, true);
        Self { all, found: BTreeMap::new(), ahead: VecDeque::new(), reads: [first].into() }
    }

    /// Goes on to the end, or as far as it is allowed to: whether that was the end. Cancelling the call loses nothing.
    async fn finish(&mut self, client: &Client, root: &str) -> Result<bool, ClientError> {
        loop {
            while self.reads.len() < READS_AHEAD
                && let Some(path) = self.ahead.pop_front()
            {
                self.reads.push_back(Reading::of(client, path, true, self.all));
            }
            let Some(reading) = self.reads.front_mut() else { return Ok(true) };
            let path = &reading.path;
            if let Some(get) = &mut reading.get {
                let answer = answered(client, get, || client.get(path).send()).await;
                reading.get = None;
                let Some(Value { data, stat, .. }) = visible(root, path, answer)? else {
                    self.reads.pop_front();
                    continue;
                };
                reading.value = Some(Znode { path: path.clone(), data, stat });
            }
            if let Some(list) = &mut reading.list {
                let answer = answered(client, list, || client.list(path).send()).await;
                reading.list = None;
                let names = visible(root, path, answer)?.unwrap_or_default();
                self.ahead.extend(names.iter().map(|name| child(path, name)));
            }
            if self.found.len() + self.ahead.len() >= ZNODES_MAX {
                return Ok(false);
            }
            let done = self.reads.pop_front().and_then(|reading| reading.value);
            self.found.extend(done.map(|znode| (znode.path.clone(), znode)));
        }
    }
}

/// The answer of a read, which is sent again in the place of `call` as long as no server deals with it.
async fn answered<T>(client: &Client, call: &mut Call<T>, again: impl Fn() -> Call<T>) -> Result<T, ClientError> {
    loop {
        match (&mut *call).await {
            Err(error) if is_passing(&error) && !client.has_ended() => {
                // At once: a call that was answered has no other answer for whoever comes back to it.
                *call = again();
                client.sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}

/// See the module. What is asked for is kept here until it is used, so that calls can be cancelled and come to an end
/// all the same.
#[derive(Debug)]
pub(crate) struct Mirror {
    client: Client,
    root: String,
    depth: Depth,
    known: BTreeMap<String, Arc<Znode>>,
    watch: Option<Watch>,
    /// The request for that.
    asks: Option<Call<Watch>>,
    steps: VecDeque<Step>,
    /// Everything has to be read.
    stale: bool,
    loaded: bool,
    /// How far the reading of everything has come.
    walk: Option<Walk>,
    /// A change whose znode is yet to be read.
    pending: Option<Change>,
    /// That reading.
    read: Option<Call<Value>>,
}

impl Mirror {
    pub(crate) fn new(client: &Client, root: &str, depth: Depth) -> Self {
        Self {
            client: client.clone(),
            root: root.to_owned(),
            depth,
            known: BTreeMap::new(),
            watch: None,
            asks: None,
            steps: VecDeque::new(),
            stale: true,
            loaded: false,
            walk: None,
            pending: None,
            read: None,
        }
    }

    pub(crate) const fn known(&self) -> &BTreeMap<String, Arc<Znode>> {
        &self.known
    }

    /// The next thing that happened. Waits for a server as long as there is none; cancelling the call loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Step, Error> {
        loop {
            if let Some(step) = self.steps.pop_front() {
                return Ok(step);
            }
            if self.stale {
                self.read_all().await?;
                continue;
            }
            if let Some(change) = self.pending.clone() {
                self.follow(&change).await?;
                self.pending = None;
                continue;
            }
            let event = match &mut self.watch {
                Some(watch) => watch.next().await,
                None => None,
            };
            match event {
                Some(WatchEvent::Changed(change)) if self.holds(&change.path) => self.pending = Some(change),
                Some(WatchEvent::Changed(_)) => {}
                Some(WatchEvent::Missed) => self.stale = true,
                // Removed by somebody, or refused by a server after a reconnect; or the client has ended, which the
                // next request tells.
                None => {
                    self.watch = None;
                    self.stale = true;
                }
            }
        }
    }

    /// Whether the mirror reaches a path at or below its root.
    fn holds(&self, path: &str) -> bool {
        match self.depth {
            Depth::All => true,
            Depth::Children => {
                let name = path.strip_prefix(self.root.trim_end_matches('/')).and_then(|rest| rest.strip_prefix('/'));
                name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
            }
        }
    }

    /// Reads everything, and tells what differs from what was known.
    async fn read_all(&mut self) -> Result<(), Error> {
        if self.watch.is_none() {
            let again = || self.client.watch(&self.root).recursive().send();
            let watch = answered(&self.client, self.asks.get_or_insert_with(again), again).await;
            self.asks = None;
            self.watch = Some(watch?);
        }
        // It outlives this call if that is cancelled.
        let walk = self.walk.get_or_insert_with(|| Walk::new(&self.client, &self.root, self.depth));
        let walked = walk.finish(&self.client, &self.root).await;
        let found = self.walk.take().map(|walk| walk.found).unwrap_or_default();
        if !walked? {
            return Err(self.too_many());
        }
        let mut steps = Vec::new();
        for (path, old) in &self.known {
            if found.get(path).is_none_or(|new| new.stat.czxid != old.stat.czxid) {
                steps.push(Step::Removed(Arc::clone(old)));
            }
        }
        // Children go before their parents.
        steps.reverse();
        let mut changes = Vec::new();
        for (path, new) in &found {
            let new = Arc::new(new.clone());
            match self.known.get(path) {
                Some(old) if old.is_same(&new) => {}
                Some(old) if old.stat.czxid == new.stat.czxid => {
                    changes.push((new.newest(), Step::Changed { old: Arc::clone(old), new }));
                }
                Some(_) | None => changes.push((new.newest(), Step::Added(new))),
            }
        }
        if self.loaded {
            // In the order in which the last change of each came. At first parents come before their children.
            changes.sort_by_key(|(zxid, _)| *zxid);
            self.steps.push_back(Step::Missed);
        }
        for step in steps.into_iter().chain(changes.into_iter().map(|(_, step)| step)) {
            self.tell(step);
        }
        if !self.loaded {
            self.loaded = true;
            self.steps.push_back(Step::Loaded);
        }
        (self.stale, self.pending) = (false, None);
        Ok(())
    }

    fn tell(&mut self, step: Step) {
        match &step {
            Step::Added(new) | Step::Changed { new, .. } => {
                self.known.insert(new.path.clone(), Arc::clone(new));
            }
            Step::Removed(old) => {
                self.known.remove(&old.path);
            }
            Step::Loaded | Step::Missed => {}
        }
        self.steps.push_back(step);
    }

    fn too_many(&self) -> Error {
        let reason = format!("more than {ZNODES_MAX} znodes; follow a part of them");
        Error::Invalid { path: self.root.clone(), reason }
    }

    /// Reads where an event points, and tells what differs.
    async fn follow(&mut self, change: &Change) -> Result<(), Error> {
        let path = &change.path;
        let old = self.known.get(path).cloned();
        if change.kind == EventType::NodeDeleted {
            let Some(old) = old else { return Ok(()) };
            // What was read on an earlier event may be newer than this one.
            let is_older = match change.zxid {
                Some(zxid) => old.stat.czxid < zxid,
                None => match self.read(path).await? {
                    Some(now) => now.stat.czxid != old.stat.czxid,
                    None => true,
                },
            };
            if is_older {
                self.tell(Step::Removed(old));
            }
            return Ok(());
        }
        // If it is gone already, the event of its deletion follows.
        let Some(new) = self.read(path).await?.map(Arc::new) else { return Ok(()) };
        match old {
            Some(old) if old.is_same(&new) => {}
            Some(old) if old.stat.czxid == new.stat.czxid => self.tell(Step::Changed { old, new }),
            old => {
                if let Some(old) = old {
                    self.tell(Step::Removed(old));
                }
                if self.known.len() >= ZNODES_MAX {
                    return Err(self.too_many());
                }
                self.tell(Step::Added(new));
            }
        }
        Ok(())
    }

    /// Reads where the pending change points.
    async fn read(&mut self, path: &str) -> Result<Option<Znode>, Error> {
        let again = || self.client.get(path).send();
        let read = answered(&self.client, self.read.get_or_insert_with(again), again).await;
        self.read = None;
        let value = visible(&self.root, path, read)?;
        Ok(value.map(|Value { data, stat, .. }| Znode { path: path.to_owned(), data, stat }))
    }
}

/// What was read, if it is there for this client: below the root, what may not be read is as if it were not there.
fn visible<T>(root: &str, path: &str, read: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_no_node() => Ok(None),
        Err(error) if error.code() == Some(ErrorCode::NoAuth) && path != root => Ok(None),
        Err(error) => Err(error),
    }
}
