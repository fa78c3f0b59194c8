//! Barriers: nobody passes before one opens it, or before enough have come.

use crate::limits::{LOOK_AGAIN, PAUSE, READS_AHEAD};
use crate::parents::{create_above, create_container};
use crate::steady::{delete_in_background, is_passing, until_answered};
use crate::{Error, Unique};
use farrier_client::{Acl, Client, ErrorCode, NewZnode, Op, Stat, perms};
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
        let (found, mut watch) = until_answered(client, || client.exists(path).watch()).await?;
        if found.is_none() {
            return Ok(());
        }
        watch.next().await;
    }
}

/// A barrier that opens when enough members have come, and is left when all of them have gone; the same as Curator's
/// DistributedDoubleBarrier, which kazoo's DoubleBarrier shares.
///
/// Members are ephemeral children of the path with names of their own. Who completes the number creates `ready` beside
/// them; the last who leaves deletes it. If all members die in between, `ready` stays. It opens nothing then: it counts
/// only as long as somebody is there who stood when it was created, or who came in by it later, which its member notes by
/// a new version of its znode. The next who enters removes it if nobody else is there, and who completes the number puts
/// another one in its place.
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
        Ok(Self { client: client.clone(), path: path.trim_end_matches('/').to_owned(), count, acl })
    }

    /// Who may do what with znodes that this handle creates; everybody everything by default.
    #[must_use]
    pub fn acl(mut self, acl: &[Acl<'static>]) -> Self {
        self.acl = acl.to_vec();
        self
    }

    fn ready(&self) -> String {
        format!("{}/{READY}", self.path)
    }

    /// Enters, and waits until enough have. A member that loses its session while it waits enters again. Dropping the call
    /// takes the member away. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The servers refuse it, or the client has ended.
    pub async fn enter(&self) -> Result<Entered, Error> {
        let name = Unique::for_path(&self.client, &self.path)?.to_string();
        let path = format!("{}/{name}", self.path);
        let member = Entered { barrier: self.clone(), name, path, runtime: Handle::current(), there: true };
        loop {
            self.stand(&member.path).await?;
            let ready = self.ready();
            let (opener, mut opened) = until_answered(&self.client, || self.client.exists(&ready).watch()).await?;
            let (own, mut lost) = until_answered(&self.client, || self.client.exists(&member.path).watch()).await?;
            let Some(own) = own else { continue };
            let members = self.members().await?;
            if let Some(opener) = &opener {
                if came_in_by(opener, &own) {
                    return Ok(member);
                }
                if self.has_opened(opener, &members, &member.name).await? {
                    // From now on those who come later can go by this member.
                    match until_answered(&self.client, || self.client.set(&member.path, b"")).await {
                        Ok(_) => return Ok(member),
                        Err(error) if error.is_no_node() => continue,
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            if members.len() >= self.count {
                self.open(opener.as_ref()).await?;
                // It is older than what opened the barrier, whoever did that.
                continue;
            }
            if let Some(opener) = &opener
                && members.len() == 1
            {
                self.remove(opener).await?;
                continue;
            }
            tokio::select! {
                biased;
                _ = opened.next() => {}
                // With the session, or by somebody's hand.
                _ = lost.next() => {}
                // Somebody who saw that the barrier is open may be about to say so in its own znode.
                () = self.client.sleep(LOOK_AGAIN), if opener.is_some() => {}
            }
        }
    }

    /// Whether somebody else is inside by this `ready`.
    async fn has_opened(&self, ready: &Stat, members: &[String], own: &str) -> Result<bool, Error> {
        let others: Vec<String> =
            members.iter().filter(|name| *name != own).map(|name| format!("{}/{name}", self.path)).collect();
        for chunk in others.chunks(READS_AHEAD) {
            let reads: Vec<_> = chunk.iter().map(|path| (path, self.client.exists(path).send())).collect();
            for (path, read) in reads {
                let stat = match read.await {
                    Err(error) if is_passing(&error) => {
                        until_answered(&self.client, || self.client.exists(path)).await?
                    }
                    other => other?,
                };
                if stat.is_some_and(|stat| came_in_by(ready, &stat)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Lets in everybody who stands, in place of what dead members left. That has another version than what comes instead,
    /// so neither this nor [`Self::remove`] takes a `ready` away by which somebody came in.
    async fn open(&self, left: Option<&Stat>) -> Result<(), Error> {
        let ready = self.ready();
        let create = Op::Create(NewZnode::new(&ready, b"").acl(&self.acl));
        let ops = match left {
            None => vec![create],
            Some(left) if left.version == 0 => vec![Op::delete(&ready, 0), create, Op::set(&ready, b"", None)],
            Some(left) => vec![Op::delete(&ready, left.version), create],
        };
        changed(until_answered(&self.client, || self.client.multi(ops.iter().copied())).await.map(drop))
    }

    /// Removes a `ready` that dead members left.
    async fn remove(&self, left: &Stat) -> Result<(), Error> {
        let ready = self.ready();
        changed(until_answered(&self.client, || self.client.delete(&ready).version(left.version)).await)
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

/// A change of `ready`, or none because somebody was faster.
fn changed(result: Result<(), farrier_client::Error>) -> Result<(), Error> {
    match result {
        Err(error) => match error.code() {
            Some(ErrorCode::NoNode | ErrorCode::NodeExists | ErrorCode::BadVersion) => Ok(()),
            _ => Err(error.into()),
        },
        Ok(()) => Ok(()),
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
    runtime: Handle,
    there: bool,
}

impl Entered {
    /// Leaves, and waits until all others have. Somebody who lost its session has left.
    ///
    /// # Errors
    ///
    /// The servers refuse it, or the client has ended.
    pub async fn leave(mut self) -> Result<(), Error> {
        loop {
            let (barrier, client) = (&self.barrier, &self.barrier.client);
            let members = barrier.members().await?;
            let others: Vec<&String> = members.iter().filter(|other| **other != self.name).collect();
            let is_there = members.len() > others.len();
            match others.last() {
                None if is_there => {
                    self.leave_last().await?;
                    return Ok(());
                }
                None => return Ok(()),
                // The first of them stays until the others have gone, and takes `ready` along: so it is there as long as
                // anybody is inside who may not have seen it yet.
                Some(last) if is_there && members[0] == self.name => {
                    until_gone(client, &format!("{}/{last}", barrier.path)).await?;
                }
                Some(_) => {
                    let first = format!("{}/{}", barrier.path, others[0]);
                    self.go().await?;
                    until_gone(&self.barrier.client, &first).await?;
                }
            }
        }
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
