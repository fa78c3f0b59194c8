//! Barriers: nobody passes before one opens it, or before enough have come.

use crate::parents::{create_above, create_container};
use crate::steady::{is_passing, until_answered};
use crate::{Error, Unique};
use farrier_client::{Acl, Client, ErrorCode, Op, perms};
use std::time::Duration;
use tokio::runtime::Handle;

/// Pause before another attempt when no server answered.
const PAUSE: Duration = Duration::from_millis(100);

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
/// them; the last who leaves deletes it. If all members die in between, `ready` stays, and the next who enters removes it
/// if nobody else is there.
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
        let unique = Unique::draw().map_err(|error| Error::Invalid {
            path: self.path.clone(),
            reason: format!("the system gives no random number: {error}; nothing was done"),
        })?;
        let name = unique.to_string();
        let path = format!("{}/{name}", self.path);
        let member = Entered { barrier: self.clone(), name, path, runtime: Handle::current(), there: true };
        loop {
            self.stand(&member.path).await?;
            let ready = self.ready();
            let (is_ready, mut opened) = until_answered(&self.client, || self.client.exists(&ready).watch()).await?;
            let (own, mut lost) = until_answered(&self.client, || self.client.exists(&member.path).watch()).await?;
            if own.is_none() {
                continue;
            }
            let members = self.members().await?;
            if is_ready.is_some() {
                if members.iter().any(|other| *other != member.name) || self.count == 1 {
                    return Ok(member);
                }
                // Of members that have died.
                self.remove_ready().await?;
                continue;
            }
            if members.len() >= self.count {
                match until_answered(&self.client, || self.client.create(&ready, b"").acl(&self.acl)).await {
                    Ok(_) => return Ok(member),
                    Err(error) if error.is_node_exists() => return Ok(member),
                    Err(error) => return Err(error.into()),
                }
            }
            tokio::select! {
                _ = opened.next() => {}
                // With the session, or by somebody's hand.
                _ = lost.next() => {}
            }
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

    async fn remove_ready(&self) -> Result<(), Error> {
        let ready = self.ready();
        match until_answered(&self.client, || self.client.delete(&ready)).await {
            Err(error) if !error.is_no_node() => Err(error.into()),
            _ => Ok(()),
        }
    }
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
            let (client, path) = (self.barrier.client.clone(), self.path.clone());
            let first = client.delete(&path).send();
            self.runtime.spawn(async move {
                if first.await.is_err() {
                    let again = async || {
                        // What was sent before is executed or refused once this is answered.
                        client.sync(&path).await?;
                        client.delete(&path).await
                    };
                    // If it is refused the znode is gone, or goes with the session.
                    let _ = until_answered(&client, again).await;
                }
            });
        }
    }
}
