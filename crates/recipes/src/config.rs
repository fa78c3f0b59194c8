//! Configuration: one znode that any client can read, with the values that it had before.
//!
//! The znode holds the raw value. Below it, `.history/<16 hex digits>` holds each value that an update replaced, named
//! by the transaction that had set it and created by the transaction that replaced it. So the entries tell by
//! themselves where somebody else wrote in between: the creation of one is not the name of the next.

use crate::Error;
use crate::limits::READS_AHEAD;
use crate::parents::create_above;
use crate::steady::until_answered;
use farrier_client::{
    Acl, Client, Error as ClientError, ErrorCode, NewZnode, Op, OpResult, Stat, Value, Watch, Zxid, perms,
};
use std::collections::VecDeque;

/// Earlier values that are kept, unless told otherwise.
pub const KEEP: usize = 20;

/// Most earlier values that one update deletes, when more than [`ConfigStore::keep`] are there.
const TRIM_MAX: usize = 100;

/// How often an update is tried while others come in between.
const ATTEMPTS_MAX: usize = 100;

/// Below the znode, where its earlier values are.
const HISTORY: &str = ".history";

/// What an update expects of the value that it replaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// Any value, or none.
    Any,
    /// The value of this version ([`Stat::version`]).
    Version(i32),
    /// No znode: it is to be created.
    Absent,
}

/// A configuration in one znode, with its history.
///
/// ```no_run
/// # async fn run(client: farrier_client::Client) -> Result<(), farrier_recipes::Error> {
/// use farrier_recipes::{ConfigStore, Expected};
///
/// let config = ConfigStore::new(&client, "/app/config");
/// config.set(b"threads=4", Expected::Any).await?;
/// let current = config.get().await?;
/// config.set(b"threads=8", Expected::Version(current.stat.version)).await?;
/// config.rollback(None, Expected::Any).await?;
/// let mut watch = config.watch();
/// while let Some(value) = watch.next().await? {
///     println!("now {:?}", String::from_utf8_lossy(&value.data));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ConfigStore {
    client: Client,
    path: String,
    keep: usize,
    acl: Vec<Acl<'static>>,
}

/// A value that was replaced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Earlier {
    /// The transaction that had set it, which names it.
    pub id: Zxid,
    /// The value.
    pub data: Vec<u8>,
    /// Its version, where no gap lies between it and the current value.
    pub version: Option<i32>,
    /// When it was replaced: milliseconds since 1970 on the clock of the leader.
    pub replaced_at: i64,
    /// Whether values that came after it, and before the next newer one that is here, are missing: others wrote them
    /// without this recipe, or they were forgotten.
    pub gap: bool,
}

/// The current value and those before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// The current value.
    pub current: Value,
    /// Earlier ones that are kept, the newest first.
    pub earlier: Vec<Earlier>,
}

/// Why an attempt to update did not succeed.
enum Refusal {
    /// Somebody came in between, or the read was old; nothing was done.
    Outdated(ClientError),
    Final(Error),
}

impl<E: Into<Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Final(error.into())
    }
}

impl ConfigStore {
    /// The configuration at `path`, which need not exist. Nothing is sent.
    #[must_use]
    pub fn new(client: &Client, path: &str) -> Self {
        Self { client: client.clone(), path: path.to_owned(), keep: KEEP, acl: vec![Acl::world(perms::ALL)] }
    }

    /// How many earlier values updates by this handle keep; [`KEEP`] by default. With 0 they keep none and leave alone
    /// what is there, and a value may be twice as long: otherwise old and new one have to fit into one request.
    #[must_use]
    pub const fn keep(mut self, keep: usize) -> Self {
        self.keep = keep;
        self
    }

    /// Who may do what with the znode, should this handle create it; everybody everything by default. Earlier values
    /// have the list that the znode has when they are replaced.
    #[must_use]
    pub fn acl(mut self, acl: &[Acl<'static>]) -> Self {
        self.acl = acl.to_vec();
        self
    }

    fn history_dir(&self) -> String {
        format!("{}/{HISTORY}", self.path.trim_end_matches('/'))
    }

    fn entry_path(&self, id: Zxid) -> String {
        format!("{}/{:016x}", self.history_dir(), id.get())
    }

    /// The current value.
    ///
    /// # Errors
    ///
    /// Those of a read.
    pub async fn get(&self) -> Result<Value, Error> {
        Ok(self.client.get(&self.path).await?)
    }

    /// Sets the value, creating the znode and what is missing above it unless a version is expected. The value that it
    /// replaces becomes part of the history in the same transaction, and the oldest ones beyond [`Self::keep`] go.
    ///
    /// The stat that comes back is that of the new value.
    ///
    /// # Errors
    ///
    /// [`Error::Client`]: refused with `BadVersion`, `NodeExists` or `NoNode` if it is not as expected; `Unknown` if the
    /// answer was lost, in which case the history tells whether it was done. [`Error::Invalid`] if the list of the znode
    /// cannot be read in full, which only who may administer it can.
    pub async fn set(&self, data: impl AsRef<[u8]>, expected: Expected) -> Result<Stat, Error> {
        let data = data.as_ref();
        for attempt in 1.. {
            let refused = match self.attempt(data, expected).await {
                Ok(stat) => return Ok(stat),
                Err(Refusal::Final(error)) => return Err(error),
                Err(Refusal::Outdated(error)) => error,
            };
            if attempt == ATTEMPTS_MAX {
                return Err(refused.into());
            }
            // What was read may have been old.
            self.client.sync(&self.path).await?;
        }
        unreachable!("the attempts are bounded")
    }

    async fn attempt(&self, data: &[u8], expected: Expected) -> Result<Stat, Refusal> {
        if expected == Expected::Absent {
            return self.create(data).await.map_err(|error| Refusal::Final(error.into()));
        }
        let history_dir = self.history_dir();
        let reads = (
            self.client.get(&self.path).send(),
            self.client.get_acl(&self.path).send(),
            self.client.list(&history_dir).send(),
        );
        let current = match reads.0.await {
            Ok(current) => current,
            Err(error) if error.is_no_node() && expected == Expected::Any => {
                return self.create(data).await.map_err(|error| match error {
                    // Created by somebody else, or under the feet of this one deleted.
                    error if error.is_node_exists() => Refusal::Outdated(error),
                    error => Refusal::Final(error.into()),
                });
            }
            Err(error) => return Err(error.into()),
        };
        if let Expected::Version(version) = expected
            && version != current.stat.version
        {
            // The servers know better than a read, which may be old; what was read must not go into the history then.
            self.client.multi([Op::check(&self.path, version)]).await?;
            return Err(Refusal::Outdated(self.outdated()));
        }
        let version = current.stat.version;
        if self.keep == 0 {
            return self
                .client
                .set(&self.path, data)
                .version(version)
                .await
                .map_err(|error| self.sorted(error, expected));
        }
        let (acl, acl_stat) = reads.1.await?;
        self.check_acl(&acl)?;
        let (names, has_history) = match reads.2.await {
            Ok(names) => (entries(names), true),
            Err(error) if error.is_no_node() => (Vec::new(), false),
            Err(error) => return Err(error.into()),
        };
        let entry = self.entry_path(current.stat.mzxid);
        let surplus = (names.len() + 1).saturating_sub(self.keep).min(TRIM_MAX);
        let old: Vec<String> = names.iter().take(surplus).map(|id| self.entry_path(*id)).collect();
        let mut ops = vec![Op::set(&self.path, data, version)];
        if !has_history {
            ops.push(NewZnode::new(&history_dir, b"").acl(&acl).into());
        }
        ops.push(NewZnode::new(&entry, &current.data).acl(&acl).into());
        ops.extend(old.iter().map(|path| Op::delete(path, None)));
        let results = self.client.multi(ops).await.map_err(|error| self.sorted(error, expected))?;
        let Some(OpResult::Set(stat)) = results.into_iter().next() else {
            unreachable!("the results of a multi are those of its operations");
        };
        if stat.aversion != acl_stat.aversion {
            self.follow_acl(&entry).await;
        }
        Ok(stat)
    }

    /// Creates the znode and what is missing above it.
    async fn create(&self, data: &[u8]) -> Result<Stat, ClientError> {
        create_above(&self.client, &self.path, &self.acl).await?;
        Ok(self.client.create(&self.path, data).acl(&self.acl).await?.stat)
    }

    /// An error whose like never reaches the caller, but for the last of many attempts.
    fn outdated(&self) -> ClientError {
        let reason = "others keep changing it; try again".into();
        ClientError::NotDone { op: "set", path: self.path.clone(), reason }
    }

    /// Whether the refusal of an update says that it came too late, or that it cannot be done.
    fn sorted(&self, error: ClientError, expected: Expected) -> Refusal {
        let ClientError::Refused { code, index, .. } = &error else { return Refusal::Final(error.into()) };
        let about_value = matches!(index, None | Some(0));
        match code {
            ErrorCode::BadVersion if expected == Expected::Any => Refusal::Outdated(error),
            ErrorCode::NoNode if about_value && expected == Expected::Any => Refusal::Outdated(error),
            // The history is not as it was read: somebody forgot, or began it.
            ErrorCode::NoNode | ErrorCode::NodeExists if !about_value => Refusal::Outdated(error),
            _ => Refusal::Final(error.into()),
        }
    }

    /// Who may not administer a znode is shown its list with the secrets of the scheme `digest` replaced by an x. An
    /// earlier value with such a list would be lost to everybody.
    fn check_acl(&self, acl: &[Acl<'_>]) -> Result<(), Error> {
        let masked = |entry: &Acl<'_>| entry.scheme == "digest" && entry.id.ends_with(":x");
        if !acl.iter().any(masked) {
            return Ok(());
        }
        let reason = "its ACL is shown in full only to who may administer it, and earlier values need the same one; \
                      authenticate as such an identity, or keep no earlier values"
            .to_owned();
        Err(Error::Invalid { path: self.path.clone(), reason })
    }

    /// The list of the znode was changed between its reading and the update: the earlier value gets the new one.
    async fn follow_acl(&self, entry: &str) {
        let follow = async {
            let (acl, _) = self.client.get_acl(&self.path).await?;
            self.client.set_acl(entry, &acl).await
        };
        if let Err(error) = follow.await {
            tracing::warn!(entry, %error, "the ACL of the configuration changed, and an earlier value has the old one");
        }
    }

    /// The current value and the earlier ones that are kept.
    ///
    /// # Errors
    ///
    /// Those of reads.
    pub async fn history(&self) -> Result<History, Error> {
        let dir = self.history_dir();
        let (current, names) = (self.client.get(&self.path).send(), self.client.list(&dir).send());
        let current = current.await?;
        let mut ids = match names.await {
            Ok(names) => entries(names),
            Err(error) if error.is_no_node() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        // An entry that was made after the current value was read belongs to a later one.
        ids.retain(|id| *id < current.stat.mzxid);
        ids.reverse();
        let mut found = Vec::with_capacity(ids.len());
        let mut reads = VecDeque::new();
        let mut ahead = ids.into_iter();
        loop {
            while reads.len() < READS_AHEAD
                && let Some(id) = ahead.next()
            {
                reads.push_back((id, self.client.get(&self.entry_path(id)).send()));
            }
            let Some((id, read)) = reads.pop_front() else { break };
            match read.await {
                Ok(value) => found.push((id, value)),
                // Trimmed or forgotten meanwhile.
                Err(error) if error.is_no_node() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let earlier = with_gaps(&current.stat, found);
        Ok(History { current, earlier })
    }

    /// Makes an earlier value the current one: that with this id, or without one the newest that is kept. It becomes a
    /// new version; nothing is taken out of the history. The id and the stat of the new version come back.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if there is no such value; otherwise as [`Self::set`]. Without an id nothing is done if the
    /// current value changes in between.
    pub async fn rollback(&self, id: Option<Zxid>, expected: Expected) -> Result<(Zxid, Stat), Error> {
        let nothing = |reason: String| Error::Invalid { path: self.path.clone(), reason };
        let (id, data, expected) = match id {
            Some(id) => match self.client.get(&self.entry_path(id)).await {
                Ok(value) => (id, value.data, expected),
                Err(error) if error.is_no_node() => {
                    return Err(nothing(format!(
                        "there is no earlier value {id}; the history lists those that are kept"
                    )));
                }
                Err(error) => return Err(error.into()),
            },
            None => {
                let History { current, earlier } = self.history().await?;
                let Some(newest) = earlier.into_iter().next() else {
                    return Err(nothing("no earlier value is kept".to_owned()));
                };
                let seen = Expected::Version(current.stat.version);
                (newest.id, newest.data, if expected == Expected::Any { seen } else { expected })
            }
        };
        Ok((id, self.set(data, expected).await?))
    }

    /// Deletes an earlier value; whether it was there. Its bytes stay in the logs and snapshots of the servers until
    /// these are purged.
    ///
    /// # Errors
    ///
    /// Those of a deletion.
    pub async fn forget(&self, id: Zxid) -> Result<bool, Error> {
        match self.client.delete(&self.entry_path(id)).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_no_node() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes all earlier values; how many there were. See [`Self::forget`].
    ///
    /// # Errors
    ///
    /// Those of a deletion.
    pub async fn forget_all(&self) -> Result<usize, Error> {
        let dir = self.history_dir();
        let names = match self.client.list(&dir).await {
            Ok(names) => names,
            Err(error) if error.is_no_node() => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let mut forgotten = 0;
        for id in entries(names) {
            forgotten += usize::from(self.forget(id).await?);
        }
        match self.client.delete(&dir).await {
            // An update came in between, or another who forgets.
            Err(error) if !error.is_not_empty() && !error.is_no_node() => Err(error.into()),
            _ => Ok(forgotten),
        }
    }

    /// Follows the value.
    #[must_use]
    pub fn watch(&self) -> ConfigWatch {
        ConfigWatch { client: self.client.clone(), path: self.path.clone(), told: None, watch: None }
    }
}

/// The ids among the names of a history's children, the oldest first. Others' znodes are left alone.
fn entries(names: Vec<String>) -> Vec<Zxid> {
    let id = |name: &String| {
        let id = Zxid::from_wire(i64::from_str_radix(name, 16).ok()?);
        (format!("{:016x}", id.get()) == *name).then_some(id)
    };
    let mut ids: Vec<Zxid> = names.iter().filter_map(id).collect();
    ids.sort_unstable();
    ids
}

/// Earlier values, the newest first, with what lies between them.
fn with_gaps(current: &Stat, newest_first: Vec<(Zxid, Value)>) -> Vec<Earlier> {
    let mut newer = current.mzxid;
    let mut version = Some(current.version);
    let mut all = Vec::with_capacity(newest_first.len());
    for (id, Value { data, stat, .. }) in newest_first {
        // The transaction that replaced a value created its entry.
        let gap = stat.czxid != newer;
        version = version.filter(|_| !gap).map(|version| version.wrapping_sub(1));
        all.push(Earlier { id, data, version, replaced_at: stat.ctime, gap });
        newer = id;
    }
    all
}

/// The value of a configuration, as it changes. It needs no care across reconnects and expired sessions.
#[derive(Debug)]
pub struct ConfigWatch {
    client: Client,
    path: String,
    /// What was told last: creation and change of the value, or that there is none.
    told: Option<Option<(Zxid, Zxid)>>,
    watch: Option<Watch>,
}

impl ConfigWatch {
    /// At first the current value, then the next one that differs from what was told last; `None` says that the znode
    /// does not exist. Quick changes are told as one: the versions show that some were passed over.
    ///
    /// Waits for a server as long as there is none. Cancelling the call loses nothing.
    ///
    /// # Errors
    ///
    /// The servers refuse the read, or the client has ended.
    pub async fn next(&mut self) -> Result<Option<Value>, Error> {
        loop {
            if let Some(watch) = &mut self.watch {
                watch.next().await;
                self.watch = None;
            }
            let found = self.read().await?;
            let state = found.as_ref().map(|value| (value.stat.czxid, value.stat.mzxid));
            if self.told != Some(state) {
                self.told = Some(state);
                return Ok(found);
            }
        }
    }

    /// Reads the value, and leaves a watch.
    async fn read(&mut self) -> Result<Option<Value>, ClientError> {
        loop {
            let read = until_answered(&self.client, || self.client.get(&self.path).watch()).await;
            match read {
                Ok((value, watch)) => {
                    self.watch = Some(watch);
                    return Ok(Some(value));
                }
                Err(error) if error.is_no_node() => {}
                Err(error) => return Err(error),
            }
            let (found, watch) = until_answered(&self.client, || self.client.exists(&self.path).watch()).await?;
            if found.is_none() {
                self.watch = Some(watch);
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(czxid: i64, ctime: i64) -> Value {
        Value { data: ctime.to_string().into_bytes(), is_null: false, stat: stat(czxid, czxid, ctime, 0) }
    }

    fn stat(czxid: i64, mzxid: i64, ctime: i64, version: i32) -> Stat {
        let (czxid, mzxid) = (Zxid::from_wire(czxid), Zxid::from_wire(mzxid));
        let (cversion, aversion, ephemeral_owner, data_length, num_children) = (0, 0, 0, 0, 0);
        let (pzxid, mtime) = (czxid, ctime);
        Stat {
            czxid,
            mzxid,
            pzxid,
            ctime,
            mtime,
            version,
            cversion,
            aversion,
            ephemeral_owner,
            data_length,
            num_children,
        }
    }

    #[test]
    fn entries_are_sorted_and_strangers_left_alone() {
        let names = ["00000001000000ff", "0000000100000002", "notes", "100000002", "0000000100000002x"];
        let ids = entries(names.map(str::to_owned).into());
        assert_eq!(ids, [Zxid::new(1, 2), Zxid::new(1, 0xff)]);
        assert!(entries(vec!["00000001000000FF".to_owned()]).is_empty(), "another spelling is another znode");
    }

    #[test]
    fn a_write_without_the_recipe_is_a_gap() {
        // 5 replaced by 7, 7 by 8; then somebody wrote 9 on their own, which 12 replaced.
        let id = Zxid::from_wire;
        let entries = vec![(id(9), value(12, 3)), (id(7), value(8, 2)), (id(5), value(7, 1))];
        let earlier = with_gaps(&stat(1, 12, 0, 40), entries);
        let shown: Vec<_> = earlier.iter().map(|e| (e.id.get(), e.gap, e.version)).collect();
        assert_eq!(shown, [(9, false, Some(39)), (7, true, None), (5, false, None)]);
        // The current value itself was written without it.
        let earlier = with_gaps(&stat(1, 13, 0, 41), vec![(id(9), value(12, 3))]);
        assert!(earlier[0].gap && earlier[0].version.is_none());
    }
}
