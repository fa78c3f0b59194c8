//! Barriers: nobody passes before one opens it, or before enough have come.

use crate::limits::{LOOK_AGAIN, PAUSE, READS_AHEAD};
use crate::parents::{child, create_above, create_container, trimmed};
use crate::standing::watch_for_end;
use crate::steady::{delete_in_background, is_passing, until_answered};
use crate::{Error, Unique};
use farrier_client::{Acl, Client, ErrorCode, NewZnode, Op, Stat, Zxid, perms};
use tokio::runtime::Handle;

/// Below a double barrier, what says that enough have come.
const READY: &str = "ready";

/// A barrier that is closed as long as its znode exists; the same as Curator's DistributedBarrier and kazoo's Barrier.
#[derive(Clone, Debug)]
pub struct Barrier {
    client: Client,
    path: String,
    acl: Vec<Acl<'static>>,
}

impl Barrier {
    /// The barrier at `path`. Nothing is sent.
    #[must_use]
    pub fn new(client: &Client, path: &str) -> Self {
        Self { client: client.clone(), path: path.to_owned(), acl: vec![Acl::world(perms::ALL)] }
    }

    /// Who may do what with the znode, should this handle create it; everybody everything by default.
    #[must_use]
    pub fn acl(mut self, acl: &[Acl<'static>]) -> Self {
        self.acl = acl.to_vec();
        self
    }

    /// Closes the barrier; whether it was open. Creates what is missing above it.
    ///
    /// # Errors
    ///
    /// Those of a creation; after [`farrier_client::Error::Unknown`] it may be closed.
    pub async fn close(&self) -> Result<bool, Error> {
        create_above(&self.client, &self.path, &self.acl).await?;
        match self.client.create(&self.path, b"").acl(&self.acl).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_node_exists() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the barrier and lets everybody pass who waits; whether it was closed.
    ///
    /// # Errors
    ///
    /// Those of a deletion; after [`farrier_client::Error::Unknown`] it may be open.
    pub async fn open(&self) -> Result<bool, Error> {
        match self.client.delete(&self.path).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_no_node() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it is closed now.
    ///
    /// # Errors
    ///
    /// Those of a read.
    pub async fn is_closed(&self) -> Result<bool, Error> {
        Ok(self.client.exists(&self.path).await?.is_some())
    }

    /// Waits until the barrier is open. Waits for a server, too; dropping the call leaves nothing behind.
    ///
    /// # Errors
    ///
    /// The servers refuse it, or the client has ended.
    pub async fn wait(&self) -> Result<(), Error> {
        until_gone(&self.client, &self.path).await
    }
}

/// Waits until a znode does not exist.
async fn until_gone(client: &Client, path: &str) -> Result<(), Error> {
    loop {
        let Some(mut watch) = until_answered(client, || watch_for_end(client, path)).await? else { return Ok(()) };
        watch.next().await;
    }
}

/// A barrier that opens when enough members have come, and is left when all of them have gone; the same as Curator's
/// DistributedDoubleBarrier, which kazoo's DoubleBarrier shares.
///
/// Members are ephemeral children of the path with names of their own. Who completes the number creates `ready` beside
/// them; the last who leaves deletes it. If all members die in between, `ready` stays. It opens nothing then: it counts
/// only as long as somebody is there who stood when it was created, or who came in by it later, which its member notes by
/// a new version of its znode. The next who enters removes it if nobody else is there, the first of several does after a
/// second look, and who completes the number puts another one in its place.
///
/// It can be used again at once: who comes after a round has ended belongs to the next one, and whoever is still about to
/// leave the old one doesn't wait for it.
///
/// ```no_run
/// # async fn run(client: farrier_client::Client) -> Result<(), farrier_recipes::Error> {
/// use farrier_recipes::DoubleBarrier;
///
/// let barrier = DoubleBarrier::new(&client, "/app/barrier", 3)?;
/// let inside = barrier.enter().await?;
/// println!("all three are here");
/// inside.leave().await?;
/// println!("all three are done");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DoubleBarrier {
    client: Client,
    path: String,
    count: usize,
    acl: Vec<Acl<'static>>,
}

impl DoubleBarrier {
    /// A barrier at `path` that opens for `count` members; more may enter then. Nothing is sent.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`]: nobody is to come.
    pub fn new(client: &Client, path: &str, count: usize) -> Result<Self, Error> {
        if count == 0 {
            let reason = "a barrier for no members never opens".to_owned();
            return Err(Error::Invalid { path: path.to_owned(), reason });
        }
        let acl = vec![Acl::world(perms::ALL)];
        Ok(Self { client: client.clone(), path: trimmed(path), count, acl })
    }

    /// Who may do what with znodes that this handle creates; everybody everything by default.
    #[must_use]
    pub fn acl(mut self, acl: &[Acl<'static>]) -> Self {
        self.acl = acl.to_vec();
        self
    }

    fn ready(&self) -> String {
        child(&self.path, READY)
    }

    /// Enters, and waits until enough have. A member that loses its session while it waits enters again. Dropping the call
    /// takes the member away. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The servers refuse it, or the client has ended.
    pub async fn enter(&self) -> Result<Entered, Error> {
        let name = Unique::for_path(&self.client, &self.path)?.to_string();
        let path = child(&self.path, &name);
        let (barrier, runtime, opener) = (self.clone(), Handle::current(), Zxid::ZERO);
        let mut member = Entered { barrier, name, path, opener, runtime, there: true };
        // What stood for as long as it takes to look again, while nobody came in by it.
        let mut idle = None;
        loop {
            self.stand(&member.path).await?;
            let ready = self.ready();
            let (opener, mut opened) = until_answered(&self.client, || self.client.exists(&ready).watch()).await?;
            let (own, mut lost) = until_answered(&self.client, || self.client.exists(&member.path).watch()).await?;
            let Some(own) = own else { continue };
            let members = self.members().await?;
            if let Some(opener) = &opener {
                member.opener = opener.czxid;
                if came_in_by(opener, &own) {
                    return Ok(member);
                }
                if self.has_opened(opener, &members, &member.name).await? {
                    // From now on those who come later can go by this member. Only while that `ready` stands: another one has
                    // another version. What came of it is looked at: a new version of its znode says that it is inside.
                    let ops = vec![Op::check(&ready, opener.version), Op::set(&member.path, b"", None)];
                    self.change(&member.path, ops).await?;
                    continue;
                }
            }
            if members.len() >= self.count {
                self.open(&member.path, opener.as_ref()).await?;
                // It is older than what opened the barrier, whoever did that.
                continue;
            }
            // Those who leave wait for whoever stands by a `ready` of theirs. One of these has to take it away then, if
            // nobody is left by whom it would count.
            if let Some(opener) = &opener
                && (members.len() == 1 || (members.first() == Some(&member.name) && idle == Some(opener.czxid)))
            {
                self.remove(&member.path, opener).await?;
                continue;
            }
            idle = None;
            tokio::select! {
                biased;
                _ = opened.next() => {}
                // With the session, or by somebody's hand.
                _ = lost.next() => {}
                // Somebody who saw that the barrier is open may be about to say so in its own znode.
                () = self.client.sleep(LOOK_AGAIN), if opener.is_some() => idle = opener.map(|ready| ready.czxid),
            }
        }
    }

    /// Whether somebody else is inside by this `ready`.
    async fn has_opened(&self, ready: &Stat, members: &[String], own: &str) -> Result<bool, Error> {
        let others: Vec<&String> = members.iter().filter(|name| *name != own).collect();
        for chunk in others.chunks(READS_AHEAD) {
            if self.stats(chunk).await?.iter().flatten().any(|stat| came_in_by(ready, stat)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What is known of each of these members, if it is there.
    async fn stats(&self, names: &[&String]) -> Result<Vec<Option<Stat>>, Error> {
        let paths: Vec<String> = names.iter().map(|name| child(&self.path, name)).collect();
        let reads: Vec<_> = paths.iter().map(|path| (path, self.client.exists(path).send())).collect();
        let mut stats = Vec::new();
        for (path, read) in reads {
            stats.push(match read.await {
                Err(error) if is_passing(&error) => until_answered(&self.client, || self.client.exists(path)).await?,
                other => other?,
            });
        }
        Ok(stats)
    }

    /// Lets in everybody who stands, in place of what dead members left. That has another version than what comes instead,
    /// so neither this nor [`Self::remove`] takes a `ready` away by which somebody came in; but the one after that has the
    /// same version again. So both are sent once, and done only while this member stands: a round that begins meanwhile
    /// doesn't end without it.
    async fn open(&self, member: &str, left: Option<&Stat>) -> Result<(), Error> {
        let ready = self.ready();
        let create = Op::Create(NewZnode::new(&ready, b"").acl(&self.acl));
        let ops = match left {
            None => vec![create],
            Some(left) if left.version == 0 => vec![Op::delete(&ready, 0), create, Op::set(&ready, b"", None)],
            Some(left) => vec![Op::delete(&ready, left.version), create],
        };
        self.change(member, ops).await
    }

    /// Removes a `ready` that dead members left, or none if somebody was faster. See [`Self::open`].
    async fn remove(&self, member: &str, left: &Stat) -> Result<(), Error> {
        self.change(member, vec![Op::delete(&self.ready(), left.version)]).await
    }

    /// Changes `ready` while this member stands, or leaves it as it is. What came of it is to be looked at.
    async fn change(&self, member: &str, ops: Vec<Op<'_>>) -> Result<(), Error> {
        let Err(error) = self.client.multi(std::iter::once(Op::check(member, None)).chain(ops)).await else {
            return Ok(());
        };
        match error.code() {
            // Somebody was faster, or the member is gone with its session.
            Some(ErrorCode::NoNode | ErrorCode::NodeExists | ErrorCode::BadVersion) => Ok(()),
            _ if is_passing(&error) && !self.client.has_ended() => {
                self.client.sleep(PAUSE).await;
                Ok(())
            }
            _ => Err(error.into()),
        }
    }

    /// Creates the member's znode, if it is not there.
    async fn stand(&self, path: &str) -> Result<(), Error> {
        loop {
            match self.client.create(path, b"").acl(&self.acl).ephemeral().await {
                Ok(_) => return Ok(()),
                // Its name is nobody else's.
                Err(error) if error.is_node_exists() => return Ok(()),
                Err(error) if error.is_no_node() => {
                    until_answered(&self.client, || create_container(&self.client, &self.path, &self.acl)).await?;
                }
                Err(error) if is_passing(&error) && !self.client.has_ended() => self.client.sleep(PAUSE).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Names of those who are inside or wait, in order.
    async fn members(&self) -> Result<Vec<String>, Error> {
        let mut names = match until_answered(&self.client, || self.client.list(&self.path)).await {
            Ok(names) => names,
            Err(error) if error.is_no_node() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        names.retain(|name| name != READY);
        names.sort();
        Ok(names)
    }
}

/// Whether this member stood when `ready` was created, or came in by it later.
fn came_in_by(ready: &Stat, member: &Stat) -> bool {
    member.czxid < ready.czxid || member.version > 0
}

/// Being inside a double barrier. Dropping it takes the member away in the background.
#[derive(Debug)]
#[must_use = "the others wait until it leaves"]
pub struct Entered {
    barrier: DoubleBarrier,
    name: String,
    path: String,
    /// Which `ready` it came in by. Nobody of the next round does.
    opener: Zxid,
    runtime: Handle,
    there: bool,
}

impl Entered {
    /// Leaves, and waits until all others have. Somebody who lost its session has left; somebody who enters again is not
    /// waited for.
    ///
    /// # Errors
    ///
    /// The servers refuse it, or the client has ended.
    pub async fn leave(mut self) -> Result<(), Error> {
        let (client, ready) = (self.barrier.client.clone(), self.barrier.ready());
        loop {
            let (opener, mut changed) = until_answered(&client, || client.exists(&ready).watch()).await?;
            let members = self.barrier.members().await?;
            let is_there = members.contains(&self.name);
            let is_open = opener.as_ref().is_some_and(|ready| ready.czxid == self.opener);
            let mut others: Vec<&String> = members.iter().filter(|other| **other != self.name).collect();
            if !is_open {
                others = self.still_inside(opener.as_ref(), others).await?;
            }
            let (Some(first), Some(last)) = (others.first(), others.last()) else {
                if is_there && is_open {
                    self.leave_last().await?;
                } else if is_there {
                    self.go().await?;
                }
                return Ok(());
            };
            // The first of them stays until the others have gone, and takes `ready` along: so it is there as long as
            // anybody is inside who may not have seen it yet.
            let stays = is_there && self.name < **first;
            let awaited = child(&self.barrier.path, if stays { last } else { first });
            if !stays {
                self.go().await?;
            }
            tokio::select! {
                biased;
                // With it the round has ended, and whoever comes is in the next one.
                _ = changed.next() => {}
                gone = until_gone(&client, &awaited) => gone?,
            }
        }
    }

    /// Of these members those who came in by the same `ready`, which is not there any more. Whoever enters again is not
    /// among them. Some may be left: kazoo's members take `ready` away when they begin to leave.
    async fn still_inside<'a>(&self, now: Option<&Stat>, names: Vec<&'a String>) -> Result<Vec<&'a String>, Error> {
        let is_inside = |stat: &Stat| {
            let came_later = stat.version > 0 && now.is_none_or(|ready| stat.mzxid < ready.czxid);
            stat.czxid < self.opener || came_later
        };
        let mut inside = Vec::new();
        for chunk in names.chunks(READS_AHEAD) {
            let stats = self.barrier.stats(chunk).await?;
            inside.extend(
                chunk.iter().zip(stats).filter(|(_, stat)| stat.as_ref().is_some_and(is_inside)).map(|(n, _)| *n),
            );
        }
        Ok(inside)
    }

    async fn go(&mut self) -> Result<(), Error> {
        let client = &self.barrier.client;
        match until_answered(client, || client.delete(&self.path)).await {
            Err(error) if !error.is_no_node() => Err(error.into()),
            _ => {
                self.there = false;
                Ok(())
            }
        }
    }

    /// Takes `ready` and the last member away at once, so that it is never taken from those who enter next.
    async fn leave_last(&mut self) -> Result<(), Error> {
        let client = &self.barrier.client;
        let ready = self.barrier.ready();
        let both = || client.multi([Op::delete(&self.path, None), Op::delete(&ready, None)]);
        match until_answered(client, both).await {
            Ok(_) => {
                self.there = false;
                Ok(())
            }
            // Done before, or `ready` is gone already.
            Err(error) if error.code() == Some(ErrorCode::NoNode) => self.go().await,
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if std::mem::take(&mut self.there) {
            delete_in_background(&self.runtime, &self.barrier.client, vec![self.path.clone()]);
        }
    }
}
