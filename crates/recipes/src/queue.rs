//! A queue whose items are taken by one consumer at a time and gone only when that one says so.
//!
//! The layout is that of kazoo's LockingQueue: items are persistent znodes `entries/entry-<priority>-<number>`, and who
//! takes one creates an ephemeral `taken/` of the same name. Two things are added, which kazoo overlooks: an item that
//! [`Queue::put`] made has a UUID before the number, so that it can be found again after a lost reply; and beside each of
//! our claims stands an ephemeral `taken/claim-<uuid>`, whose name is never used again, so that an acknowledgement can
//! check in one transaction that the claim is still this one and not the next consumer's.

use crate::backoff::random_part;
use crate::limits::PAUSE;
use crate::names::number;
use crate::parents::{child, create_persistent, trimmed};
use crate::steady::{delete_in_background, is_passing, until_answered};
use crate::{Error, Unique};
use farrier_client::{
    Acl, Client, Error as ClientError, ErrorCode, LeaseKeeper, NewZnode, Op, OpResult, SessionId, Watch, perms,
};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::runtime::Handle;

/// Items that may wait in a queue, unless told otherwise.
pub const LIMIT: usize = 10_000;

/// Priority of an item, unless told otherwise; as kazoo's.
pub const PRIORITY: u16 = 100;

/// Largest priority, which is taken last.
pub const PRIORITY_MAX: u16 = 999;

/// Longest pause of a consumer that was woken by an item; a random part of it is taken.
const BACKOFF_MAX: Duration = Duration::from_millis(30);

/// A queue at a path.
///
/// ```no_run
/// # async fn run(client: farrier_client::Client) -> Result<(), farrier_recipes::Error> {
/// use farrier_recipes::Queue;
///
/// let queue = Queue::new(&client, "/app/jobs");
/// queue.put(b"resize 17.png").await?;
/// let item = queue.take().await?;
/// println!("working on {:?}", item.data());
/// item.ack().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Queue {
    client: Client,
    path: String,
    limit: usize,
    acl: Vec<Acl<'static>>,
}

impl Queue {
    /// The queue at `path`, which need not exist. Nothing is sent.
    #[must_use]
    pub fn new(client: &Client, path: &str) -> Self {
        let acl = vec![Acl::world(perms::ALL)];
        Self { client: client.clone(), path: trimmed(path), limit: LIMIT, acl }
    }

    /// How many items may wait, those that are being worked on included; [`LIMIT`] by default. Puts that are on their way
    /// at the same time can exceed it by their number. With [`usize::MAX`] nobody counts, which saves a request.
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Who may do what with znodes that this handle creates; everybody everything by default.
    #[must_use]
    pub fn acl(mut self, acl: &[Acl<'static>]) -> Self {
        self.acl = acl.to_vec();
        self
    }

    fn entries(&self) -> String {
        child(&self.path, "entries")
    }

    fn taken(&self) -> String {
        child(&self.path, "taken")
    }

    /// Puts an item at the end, creating the queue if it does not exist. The item's name comes back.
    ///
    /// If the reply is lost, the item is looked for by the UUID in its name, as soon as a server can be asked.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`]. [`ClientError::Unknown`] in [`Error::Client`] if the reply was lost and the item is not there:
    /// it was never put, or somebody took and acknowledged it already; or if the servers don't let it be looked for, which
    /// the error says then. [`ClientError::NotDone`] if no server could be reached.
    pub async fn put(&self, data: impl AsRef<[u8]>) -> Result<String, Error> {
        self.put_at(PRIORITY, data).await
    }

    /// Puts an item behind all of its priority and those of lower numbers, which are taken first: from 0 to
    /// [`PRIORITY_MAX`]. Otherwise as [`Self::put`].
    ///
    /// # Errors
    ///
    /// As [`Self::put`]; [`Error::Invalid`] for a priority that is too large.
    pub async fn put_at(&self, priority: u16, data: impl AsRef<[u8]>) -> Result<String, Error> {
        let unique = Unique::for_path(&self.client, &self.path)?.hex();
        let prefix = format!("{}-{unique}-", self.prefix(priority)?);
        let mut lost = match self.create(&prefix, data.as_ref()).await {
            Err(Error::Client(lost @ ClientError::Unknown { .. })) => lost,
            other => return other,
        };
        // What was sent before is executed or refused once the sync is answered.
        let names = until_answered(&self.client, async || {
            self.client.sync(&self.path).await?;
            self.client.list(&self.entries()).await
        });
        match names.await {
            Ok(names) => names.into_iter().find(|name| name.starts_with(&prefix)).ok_or_else(|| lost.into()),
            Err(error) if error.is_no_node() => Err(lost.into()),
            // It says nothing about the item, so the item may be there.
            Err(error) => {
                if let ClientError::Unknown { reason, .. } = &mut lost {
                    *reason = format!("{reason}; and it can't be looked for: {error}").into();
                }
                Err(lost.into())
            }
        }
    }

    /// Puts an item under exactly the name that kazoo would give it, so that kazoo's consumers take it in its turn too:
    /// they go by names, and the UUID of [`Self::put`] has no order. Otherwise as [`Self::put_at`].
    ///
    /// # Errors
    ///
    /// As [`Self::put_at`]; but whenever the reply is lost, [`ClientError::Unknown`].
    pub async fn put_plain(&self, priority: u16, data: impl AsRef<[u8]>) -> Result<String, Error> {
        self.create(&format!("{}-", self.prefix(priority)?), data.as_ref()).await
    }

    fn prefix(&self, priority: u16) -> Result<String, Error> {
        if priority > PRIORITY_MAX {
            let reason = format!("priority {priority}: it is from 0 to {PRIORITY_MAX}");
            return Err(Error::Invalid { path: self.path.clone(), reason });
        }
        Ok(format!("entry-{priority:03}"))
    }

    async fn create(&self, prefix: &str, data: &[u8]) -> Result<String, Error> {
        let path = format!("{}/{prefix}", self.entries());
        let mut made = false;
        loop {
            if self.limit != usize::MAX && self.len().await? >= self.limit {
                return Err(Error::QueueFull { path: self.path.clone(), limit: self.limit });
            }
            match self.client.create(&path, data).acl(&self.acl).sequential().await {
                Ok(created) => return Ok(name_of(&created.path).to_owned()),
                Err(error) if error.is_no_node() && !made => self.make().await?,
                Err(error) => return Err(error.into()),
            }
            made = true;
        }
    }

    /// Creates what is missing of the queue.
    async fn make(&self) -> Result<(), ClientError> {
        create_persistent(&self.client, &self.entries(), &self.acl).await?;
        create_persistent(&self.client, &self.taken(), &self.acl).await
    }

    /// How many items there are, those that are being worked on included.
    ///
    /// # Errors
    ///
    /// Those of a read.
    pub async fn len(&self) -> Result<usize, Error> {
        let stat = self.client.exists(&self.entries()).await?;
        Ok(stat.map_or(0, |stat| usize::try_from(stat.num_children).unwrap_or_default()))
    }

    /// Whether there is no item.
    ///
    /// # Errors
    ///
    /// Those of a read.
    pub async fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len().await? == 0)
    }

    /// Takes the first item that nobody works on, waiting for one as long as it takes. Items are taken for the first time
    /// in the order of their putting; one comes again only after the claim of whoever had it was lost or given back.
    ///
    /// Waits for a server, too. Dropping the call gives back what it may have taken. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    ///
    /// The servers refuse it, or the client has ended.
    pub async fn take(&self) -> Result<Item, Error> {
        loop {
            let mut watches = match self.look().await {
                Ok(Look::Took(item)) => return Ok(item),
                Ok(Look::Nothing(watches)) => watches,
                Err(Error::Client(error)) if is_passing(&error) && !self.client.has_ended() => {
                    self.client.sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            tokio::select! {
                biased;
                _ = watches.0.next() => {}
                _ = watches.1.next() => {}
            }
            // Others were woken by the same item.
            self.client.sleep(random_part(&self.client, BACKOFF_MAX)).await;
        }
    }

    /// Takes the first item that nobody works on, if one comes within `wait`; with [`Duration::ZERO`], if one is there.
    ///
    /// # Errors
    ///
    /// As [`Self::take`]; [`ClientError::NotDone`] in [`Error::Client`] if no server answered within the time of a request,
    /// and `wait` is over.
    pub async fn take_within(&self, wait: Duration) -> Result<Option<Item>, Error> {
        let end = self.client.now() + wait;
        match self.look().await {
            Ok(Look::Took(item)) => return Ok(Some(item)),
            Ok(Look::Nothing(_)) => {}
            Err(Error::Client(error)) if is_passing(&error) && self.client.now() < end => {}
            Err(error) => return Err(error),
        }
        tokio::select! {
            biased;
            item = self.take() => item.map(Some),
            () = self.client.sleep_until(end) => Ok(None),
        }
    }

    /// Takes the first item that can be had now.
    async fn look(&self) -> Result<Look, Error> {
        let (entries, taken) = (self.entries(), self.taken());
        let lists = (self.client.children(&entries).watch().send(), self.client.children(&taken).watch().send());
        let (items, claimed) = match (lists.0.await, lists.1.await) {
            (Ok(items), Ok(claimed)) => (items, claimed),
            (Err(error), _) | (_, Err(error)) if error.is_no_node() => {
                self.make().await?;
                let claimed = self.client.children(&taken).watch().send();
                (self.client.children(&entries).watch().await?, claimed.await?)
            }
            (Err(error), _) | (_, Err(error)) => return Err(error.into()),
        };
        for name in waiting(items.0.names, claimed.0.names).into_iter().take(TRIES_MAX) {
            if let Some(item) = self.claim(name).await? {
                return Ok(Look::Took(item));
            }
        }
        // If others were faster, their claims have fired a watch.
        Ok(Look::Nothing((items.1, claimed.1)))
    }

    /// Claims an item, unless it is gone or another one has it.
    async fn claim(&self, name: String) -> Result<Option<Item>, Error> {
        let unique = Unique::for_path(&self.client, &self.path)?.hex();
        let mut claim = Claim {
            client: self.client.clone(),
            entry: format!("{}/{name}", self.entries()),
            taken: format!("{}/{name}", self.taken()),
            marker: format!("{}/claim-{unique}", self.taken()),
            session: SessionId(0),
            runtime: Handle::current(),
            open: true,
        };
        let multi = self.client.multi([
            Op::check(&claim.entry, None),
            NewZnode::new(&claim.taken, &unique).acl(&self.acl).ephemeral().into(),
            NewZnode::new(&claim.marker, b"").acl(&self.acl).ephemeral().into(),
        ]);
        let (claimed, read) = (multi.send(), self.client.get(&claim.entry).send());
        let told = match claimed.await {
            Ok(results) => match results.get(1) {
                Some(OpResult::Created { stat: Some(stat), .. }) => Ok(SessionId(stat.ephemeral_owner)),
                // Some servers say no more than that it was made.
                Some(OpResult::Created { stat: None, .. }) => Err("the claim went with its session".into()),
                _ => unreachable!("the results of a multi are those of its operations"),
            },
            Err(ClientError::Unknown { reason, .. }) => Err(reason),
            Err(error) => {
                claim.open = false;
                return match error.code() {
                    Some(ErrorCode::NoNode | ErrorCode::NodeExists) => Ok(None),
                    _ => Err(error.into()),
                };
            }
        };
        claim.session = match told {
            Ok(session) => session,
            Err(reason) => match claim.find().await? {
                Some(session) => session,
                None => {
                    claim.open = false;
                    // Nothing has changed that would wake anybody, so it is to be tried again.
                    return Err(ClientError::NotDone { op: "take", path: claim.entry.clone(), reason }.into());
                }
            },
        };
        let data = match read.await {
            Err(error) if is_passing(&error) => until_answered(&self.client, || self.client.get(&claim.entry)).await,
            other => other,
        };
        // Whoever stood still meanwhile may have lost the claim with the session, and another one may be done with it.
        let lease = self.client.lease().filter(|lease| lease.session == claim.session);
        if lease.is_none_or(|lease| !lease.holds(self.client.now())) {
            return Ok(None);
        }
        match data {
            Ok(value) => {
                let lease = self.client.keep_lease();
                Ok(Some(Item { name, data: value.data, claim, _lease: lease }))
            }
            // Deleted by somebody who claims nothing.
            Err(error) if error.is_no_node() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Items that one look at the queue tries to claim before it looks again.
const TRIES_MAX: usize = 16;

/// What a look at a queue found.
enum Look {
    Took(Item),
    /// These tell when to look again.
    Nothing((Watch, Watch)),
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Priority and number of an item's name; `None` if it is none.
fn parse(name: &str) -> Option<(u16, i32)> {
    let (priority, rest) = name.strip_prefix("entry-")?.split_at_checked(3)?;
    let rest = rest.strip_prefix('-')?;
    let digits = match rest.split_at_checked(UUID_LEN) {
        Some((uuid, rest)) if uuid.bytes().all(|b| b.is_ascii_hexdigit()) => rest.strip_prefix('-')?,
        _ => rest,
    };
    Some((priority.parse().ok()?, number(digits)?))
}

const UUID_LEN: usize = 32;

/// The items that nobody has claimed, in the order of their turn.
fn waiting(items: Vec<String>, claimed: Vec<String>) -> Vec<String> {
    let claimed: BTreeSet<String> = claimed.into_iter().collect();
    let mut items: Vec<((u16, i32), String)> =
        items.into_iter().filter(|n| !claimed.contains(n)).filter_map(|n| Some((parse(&n)?, n))).collect();
    // Numbers wrap and have no order of their own; but all that wait at a time lie within half of their range, so their
    // distances from any of them have.
    let origin = items.first().map_or(0, |((_, number), _)| *number);
    items.sort_by_key(|((priority, number), _)| (*priority, number.wrapping_sub(origin)));
    items.into_iter().map(|(_, name)| name).collect()
}

/// What makes an item somebody's. Dropped while it is open, it is given back.
#[derive(Debug)]
struct Claim {
    client: Client,
    entry: String,
    taken: String,
    /// Exists as long as the claim; its name is never used again.
    marker: String,
    session: SessionId,
    runtime: Handle,
    open: bool,
}

impl Claim {
    /// After a lost reply: the session that has the claim, if it was made.
    async fn find(&self) -> Result<Option<SessionId>, ClientError> {
        let found = until_answered(&self.client, async || {
            // What was sent before is executed or refused once this is answered.
            self.client.sync(&self.marker).await?;
            self.client.exists(&self.marker).await
        });
        Ok(found.await?.map(|stat| SessionId(stat.ephemeral_owner)))
    }

    fn removal(&self) -> [Op<'_>; 3] {
        [Op::check(&self.marker, None), Op::delete(&self.taken, None), Op::delete(&self.marker, None)]
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if std::mem::take(&mut self.open) {
            // Nothing is deleted without the marker, which is this claim's alone.
            let paths = vec![std::mem::take(&mut self.marker), std::mem::take(&mut self.taken)];
            delete_in_background(&self.runtime, &self.client, paths);
        }
    }
}

/// An item that was taken. It is gone for good by [`Self::ack`]; dropped, it is given back in the background, and so it is
/// by the servers when the session is lost.
#[derive(Debug)]
#[must_use = "an item that is dropped is given back"]
pub struct Item {
    name: String,
    data: Vec<u8>,
    claim: Claim,
    /// Held for its end: [`Self::lost`] relies on it.
    _lease: LeaseKeeper,
}

impl Item {
    /// Its name, which no other item of the queue has.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its data.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Completes when others may take the item: the session is lost, or the servers' leader was not heard of for two thirds
    /// of its timeout ([`farrier_client::Lease`]).
    /// It does not borrow, so that it can be waited for beside the work.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let (client, session) = (self.claim.client.clone(), self.claim.session);
        let kept = client.keep_lease();
        async move {
            let _kept = kept;
            let mut state = client.session();
            while let Some(lease) = client.lease().filter(|lease| lease.session == session)
                && lease.holds(client.now())
            {
                tokio::select! {
                    biased;
                    changed = state.changed() => if changed.is_err() { return },
                    () = client.sleep_until(lease.ends()) => {}
                }
            }
        }
    }

    /// Says that the item is done, which removes it: in one transaction, and only if it is still this consumer's. Goes on
    /// until that is decided; dropped before, it gives the item back unless it is removed already.
    ///
    /// # Errors
    ///
    /// [`Error::ClaimLost`]: the session was lost, the item is still there, and another one may have taken it. Nothing was
    /// changed. [`ClientError::Unknown`] in [`Error::Client`]: the reply was lost, and the session with it or for all that is
    /// known, and the item is gone, by this acknowledgement or by that of somebody who had it afterwards.
    pub async fn ack(mut self) -> Result<(), Error> {
        let claim = &mut self.claim;
        loop {
            let [check, delete_taken, delete_marker] = claim.removal();
            let done = claim.client.multi([check, Op::delete(&claim.entry, None), delete_taken, delete_marker]).await;
            let Err(error) = done else {
                claim.open = false;
                return Ok(());
            };
            match &error {
                ClientError::SessionExpired { .. }
                | ClientError::Refused { code: ErrorCode::NoNode, index: Some(0), .. } => {
                    claim.open = false;
                    return Err(Error::ClaimLost { path: claim.entry.clone() });
                }
                ClientError::Unknown { .. } => {
                    if claim.find().await?.is_some() {
                        continue;
                    }
                    claim.open = false;
                    // As long as the session lives nobody else has removed the marker. That it lived when the servers were asked
                    // is known only if the lease holds still: this process may have stood still around the answer.
                    let lease = claim.client.lease().filter(|lease| lease.session == claim.session);
                    if lease.is_some_and(|lease| lease.holds(claim.client.now())) {
                        return Ok(());
                    }
                    let entry = until_answered(&claim.client, || claim.client.exists(&claim.entry)).await?;
                    let lost = Error::ClaimLost { path: claim.entry.clone() };
                    return Err(if entry.is_some() { lost } else { error.into() });
                }
                error if is_passing(error) && !claim.client.has_ended() => claim.client.sleep(PAUSE).await,
                _ => return Err(error.into()),
            }
        }
    }

    /// Gives the item back, so that it is taken again in its turn; the same as dropping it, but tells how that went.
    ///
    /// # Errors
    ///
    /// [`Error::ClaimLost`] if the session was lost, and the item with it. After another error it is given back in the
    /// background.
    pub async fn give_back(mut self) -> Result<(), Error> {
        let claim = &mut self.claim;
        match claim.client.multi(claim.removal()).await {
            Ok(_) => {
                claim.open = false;
                Ok(())
            }
            Err(
                ClientError::SessionExpired { .. }
                | ClientError::Refused { code: ErrorCode::NoNode, index: Some(0), .. },
            ) => {
                claim.open = false;
                Err(Error::ClaimLost { path: claim.entry.clone() })
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(items: &[&str], claimed: &[&str]) -> Vec<String> {
        let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        waiting(own(items), own(claimed))
    }

    #[test]
    fn names_tell_priority_and_number() {
        let uuid = "0123456789abcdef0123456789abcdef";
        assert_eq!(parse("entry-100-0000000007"), Some((100, 7)), "kazoo's");
        assert_eq!(parse(&format!("entry-007-{uuid}-0000000012")), Some((7, 12)));
        assert_eq!(parse("entry-100--2147483648"), Some((100, i32::MIN)));
        assert_eq!(parse(&format!("entry-100-{uuid}--000000001")), Some((100, -1)));
        for other in
            ["entry-100-7", "entry-1-0000000007", "entry-100-+000000007", "claim-x", "entry-100-", "entry-\u{e4}x"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn items_have_their_turn_by_priority_and_number_across_the_wrap() {
        let uuid = "f123456789abcdef0123456789abcdef";
        let by_us = format!("entry-100-{uuid}-0000000001");
        let items = ["entry-100-0000000002", &by_us, "entry-050-0000000009", "entry-100-0000000003", "else"];
        assert_eq!(
            order(&items, &["entry-100-0000000003", "claim-1"]),
            ["entry-050-0000000009", by_us.as_str(), "entry-100-0000000002"]
        );
        let wrap = ["entry-100--2147483647", "entry-100-2147483646", "entry-100--2147483648", "entry-100-2147483647"];
        assert_eq!(
            order(&wrap, &[]),
            ["entry-100-2147483646", "entry-100-2147483647", "entry-100--2147483648", "entry-100--2147483647"]
        );
    }
}
