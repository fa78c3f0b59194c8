//! The oracle: a plain znode tree that remembers every state it was ever in, built from committed transactions.
//!
//! It is written from the protocol's rules and shares no code with the `tree` crate, so that both would have to be wrong
//! in the same way. Paths under `/zookeeper` are not followed.

use bytes::Bytes;
use farrier_proto::client::EventType;
use farrier_proto::txn::{CreateTxn, SetDataTxn, read_txn};
use farrier_proto::{Acl, Owner, SessionId, Stat, Txn, TxnHeader, Zxid, perms};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A znode at one time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Znode {
    /// The owner field as it is stored.
    pub owner: i64,
    /// Null and empty are distinct.
    pub data: Option<Bytes>,
    /// Children created so far: the next number of a sequential name.
    pub creations: i32,
    /// What clients see.
    pub stat: Stat,
    /// Its access control list.
    pub acl: Arc<Vec<Acl<'static>>>,
}

/// A change that watches are told of, in the order in which they are told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The transaction.
    pub zxid: Zxid,
    /// What happened.
    pub kind: EventType,
    /// To which znode.
    pub path: String,
}

/// What one operation did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// A deletion, a check, the start or the end of a session.
    Done,
    /// A znode was created.
    Created {
        /// Its path.
        path: String,
        /// Its stat directly after the operation.
        stat: Stat,
    },
    /// Data or an ACL was set.
    Stat(Stat),
    /// The code; 0 in front of the operation that made a multi fail.
    Failed(i32),
}

/// A committed transaction.
#[derive(Clone, Debug)]
pub struct Record {
    /// Whose request.
    pub session: SessionId,
    /// The client's number for it.
    pub cxid: i32,
    /// Its operations, one unless it is a multi.
    pub effects: Vec<Effect>,
    /// Whether it is a multi.
    pub multi: bool,
    /// Whether the session ends with it.
    pub closes: bool,
}

impl Record {
    /// Whether it changed nothing, since the request was refused.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.effects.iter().any(|e| matches!(e, Effect::Failed(code) if *code != 0))
    }
}

/// The life of a session in committed transactions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionSpan {
    /// The transaction that opened it.
    pub opened: Zxid,
    /// The one that ended it.
    pub closed: Option<Zxid>,
    /// In milliseconds.
    pub timeout: i32,
}

/// Every committed state.
#[derive(Debug)]
pub struct Model {
    /// By path: what it became with which transaction; `None` for gone.
    versions: BTreeMap<String, Vec<(Zxid, Option<Znode>)>>,
    /// By parent and name: from which transaction on it was there or not, alternating, "there" first.
    names: BTreeMap<String, BTreeMap<String, Vec<Zxid>>>,
    changes: Vec<Change>,
    records: BTreeMap<Zxid, Record>,
    sessions: BTreeMap<SessionId, SessionSpan>,
    ephemerals: BTreeMap<SessionId, BTreeSet<String>>,
}

const ZERO: Stat = Stat {
    czxid: Zxid::ZERO,
    mzxid: Zxid::ZERO,
    ctime: 0,
    mtime: 0,
    version: 0,
    cversion: 0,
    aversion: 0,
    ephemeral_owner: 0,
    data_length: 0,
    num_children: 0,
    pzxid: Zxid::ZERO,
};

impl Default for Model {
    fn default() -> Self {
        // The root of a virgin tree: its child /zookeeper was never counted.
        let stat = Stat { num_children: 1, cversion: -1, ..ZERO };
        let acl = Arc::new(vec![Acl::world(perms::ALL)]);
        let root = Znode { owner: 0, data: Some(Bytes::new()), creations: 0, stat, acl };
        let zookeeper = BTreeMap::from([("zookeeper".to_owned(), vec![Zxid::ZERO])]);
        Self {
            versions: BTreeMap::from([("/".to_owned(), vec![(Zxid::ZERO, Some(root))])]),
            names: BTreeMap::from([("/".to_owned(), zookeeper)]),
            changes: Vec::new(),
            records: BTreeMap::new(),
            sessions: BTreeMap::new(),
            ephemerals: BTreeMap::new(),
        }
    }
}

/// The parent's path and the name.
pub(super) fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((parent, name)) => (parent, name),
        None => ("/", path),
    }
}

/// Whether the model does not follow this path.
pub(super) fn is_unfollowed(path: &str) -> bool {
    path == "/zookeeper" || path.starts_with("/zookeeper/")
}

/// The sweeper may take a container once it has had a child, and a TTL znode that nobody has written to for longer than its
/// time to live.
fn is_swept_rightly(znode: &Znode, at: i64, path: &str) -> Result<(), String> {
    let is_due = match Owner::decode(znode.owner, true, false) {
        Some(Owner::Container) => znode.creations > 0,
        Some(Owner::Ttl(ttl)) => u64::try_from(at - znode.stat.mtime).is_ok_and(|age| age > ttl),
        Some(Owner::Persistent | Owner::Ephemeral(_)) | None => false,
    };
    if is_due { Ok(()) } else { Err(format!("{path} is swept away at {at}, and is {znode:?}")) }
}

impl Model {
    /// The znode as it was after the transaction `at` and before the next.
    #[must_use]
    pub fn znode(&self, path: &str, at: Zxid) -> Option<&Znode> {
        let versions = self.versions.get(path)?;
        let after = versions.partition_point(|(zxid, _)| *zxid <= at);
        versions[..after].last()?.1.as_ref()
    }

    /// The znode as it is now.
    #[must_use]
    pub fn latest(&self, path: &str) -> Option<&Znode> {
        self.versions.get(path)?.last()?.1.as_ref()
    }

    /// Names of the children after the transaction `at`, sorted.
    #[must_use]
    pub fn children(&self, path: &str, at: Zxid) -> Vec<&str> {
        let there = |spans: &[Zxid]| spans.partition_point(|zxid| *zxid <= at) % 2 == 1;
        let Some(names) = self.names.get(path) else { return Vec::new() };
        names.iter().filter(|(_, spans)| there(spans)).map(|(name, _)| name.as_str()).collect()
    }

    /// Every path that is there after the transaction `at`.
    pub fn paths(&self, at: Zxid) -> impl Iterator<Item = (&str, &Znode)> {
        self.versions.keys().filter_map(move |path| Some((path.as_str(), self.znode(path, at)?)))
    }

    /// What a session owns below a prefix after the transaction `at`, sorted.
    pub fn owned(&self, session: SessionId, prefix: &str, at: Zxid) -> impl Iterator<Item = &str> {
        let owned = move |z: &Znode| z.stat.ephemeral_owner == session.0;
        self.paths(at).filter(move |(path, z)| path.starts_with(prefix) && owned(z)).map(|(path, _)| path)
    }

    /// How many znodes are below one after the transaction `at`.
    #[must_use]
    pub fn descendants(&self, path: &str, at: Zxid) -> usize {
        let below = format!("{path}/");
        self.paths(at).filter(|(other, _)| other.starts_with(&below)).count()
    }

    /// All changes so far.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// A committed transaction.
    #[must_use]
    pub fn record(&self, zxid: Zxid) -> Option<&Record> {
        self.records.get(&zxid)
    }

    /// A session that was ever opened.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<&SessionSpan> {
        self.sessions.get(&id)
    }

    /// Sessions that are open after the transaction `at`.
    pub fn open_sessions(&self, at: Zxid) -> impl Iterator<Item = (SessionId, i32)> + '_ {
        let open = move |s: &SessionSpan| s.opened <= at && s.closed.is_none_or(|closed| closed > at);
        self.sessions.iter().filter(move |(_, s)| open(s)).map(|(id, s)| (*id, s.timeout))
    }

    /// What a session owns now.
    #[must_use]
    pub fn ephemerals(&self, session: SessionId) -> Option<&BTreeSet<String>> {
        self.ephemerals.get(&session).filter(|paths| !paths.is_empty())
    }

    /// The state before the transaction `zxid`, as a number for the other functions.
    #[must_use]
    pub const fn before(zxid: Zxid) -> Zxid {
        Zxid::from_wire(zxid.to_wire() - 1)
    }

    /// Applies the next committed transaction.
    ///
    /// # Errors
    /// What no leader may propose in this state. The model goes on as well as it can.
    pub fn apply(&mut self, bytes: &Bytes) -> Result<(), String> {
        let (header, txn, _) = read_txn(bytes).map_err(|e| format!("a committed transaction does not decode: {e}"))?;
        let mut wrong = None;
        let mut record = Record {
            session: header.session,
            cxid: header.cxid,
            effects: Vec::new(),
            multi: matches!(txn, Txn::Multi(_)),
            closes: matches!(txn, Txn::CloseSession(_)),
        };
        match &txn {
            Txn::Multi(parts) => {
                let code = |t: &Txn<'_>| if let Txn::Error(code) = t { *code } else { 0 };
                if parts.iter().any(|t| code(t) != 0) {
                    record.effects = parts.iter().map(|t| Effect::Failed(code(t))).collect();
                } else {
                    for part in parts {
                        let effect = self.operation(&header, part, bytes).unwrap_or_else(|e| {
                            wrong.get_or_insert(e);
                            Effect::Done
                        });
                        record.effects.push(effect);
                    }
                }
            }
            other => match self.operation(&header, other, bytes) {
                Ok(effect) => record.effects.push(effect),
                Err(e) => wrong = Some(e),
            },
        }
        self.records.insert(header.zxid, record);
        wrong.map_or(Ok(()), |e| Err(format!("{}: {e}", header.zxid)))
    }

    fn operation(&mut self, header: &TxnHeader, txn: &Txn<'_>, bytes: &Bytes) -> Result<Effect, String> {
        let zxid = header.zxid;
        match txn {
            Txn::Error(code) => return Ok(Effect::Failed(*code)),
            Txn::CreateSession(timeout) => {
                let span = SessionSpan { opened: zxid, closed: None, timeout: *timeout };
                if let Some(old) = self.sessions.insert(header.session, span) {
                    return Err(format!("session {} is opened again: {old:?}", header.session));
                }
            }
            Txn::CloseSession(listed) => {
                for path in listed.as_deref().unwrap_or_default() {
                    self.delete(zxid, path)?;
                }
                // A list that does not fit is left out; then each server deletes what it knows.
                for path in self.ephemerals.get(&header.session).cloned().unwrap_or_default() {
                    if listed.as_ref().is_some_and(|paths| !paths.is_empty()) {
                        return Err(format!("the end of session {} does not list its {path}", header.session));
                    }
                    self.delete(zxid, &path)?;
                }
                match self.sessions.get_mut(&header.session) {
                    Some(span) if span.closed.is_none() => span.closed = Some(zxid),
                    // A repeated end is a transaction without effect.
                    Some(_) => {}
                    None => return Err(format!("session {} ends and never began", header.session)),
                }
            }
            Txn::Create(t) | Txn::Create2(t) => {
                let owner = if t.ephemeral { header.session.0 } else { 0 };
                return self.create(header, t, owner, bytes);
            }
            Txn::CreateContainer(t) => {
                let plain = CreateTxn {
                    path: t.path.clone(),
                    data: t.data.clone(),
                    acl: t.acl.clone(),
                    ephemeral: false,
                    parent_cversion: t.parent_cversion,
                };
                return self.create(header, &plain, Owner::Container.encode(), bytes);
            }
            Txn::CreateTtl(t) => {
                let plain = CreateTxn {
                    path: t.path.clone(),
                    data: t.data.clone(),
                    acl: t.acl.clone(),
                    ephemeral: false,
                    parent_cversion: t.parent_cversion,
                };
                return self.create(header, &plain, Owner::Ttl(t.ttl.unsigned_abs()).encode(), bytes);
            }
            Txn::Delete(path) => self.delete(zxid, path)?,
            Txn::DeleteContainer(path) => {
                self.latest(path).map_or(Ok(()), |znode| is_swept_rightly(znode, header.time, path))?;
                self.delete(zxid, path)?;
            }
            Txn::SetData(t) => return self.set_data(header, t, bytes),
            Txn::Reconfig(_) | Txn::Check(_) => {}
            Txn::SetAcl(t) => {
                let mut znode =
                    self.latest(&t.path).ok_or_else(|| format!("ACL of {}, which is not there", t.path))?.clone();
                if t.version != znode.stat.aversion.wrapping_add(1) {
                    return Err(format!("{} gets aversion {} behind {}", t.path, t.version, znode.stat.aversion));
                }
                znode.stat.aversion = t.version;
                znode.acl = Arc::new(t.acl.iter().cloned().map(Acl::into_owned).collect());
                let stat = znode.stat;
                self.put(zxid, &t.path, Some(znode));
                return Ok(Effect::Stat(stat));
            }
            Txn::Multi(_) => return Err("a multi inside a multi".to_owned()),
        }
        Ok(Effect::Done)
    }

    fn put(&mut self, zxid: Zxid, path: &str, znode: Option<Znode>) {
        let versions = match self.versions.get_mut(path) {
            Some(versions) => versions,
            None => self.versions.entry(path.to_owned()).or_default(),
        };
        match versions.last_mut() {
            // Several operations of one multi.
            Some((last, version)) if *last == zxid => *version = znode,
            _ => versions.push((zxid, znode)),
        }
    }

    /// Notes that a child came or went.
    fn flip(&mut self, zxid: Zxid, path: &str) {
        let (parent, name) = split(path);
        let spans = self.names.entry(parent.to_owned()).or_default().entry(name.to_owned()).or_default();
        match spans.last() {
            // There and gone in one transaction, or the other way.
            Some(last) if *last == zxid => drop(spans.pop()),
            _ => spans.push(zxid),
        }
    }

    fn tell(&mut self, zxid: Zxid, kind: EventType, path: &str) {
        self.changes.push(Change { zxid, kind, path: path.to_owned() });
    }

    fn create(&mut self, header: &TxnHeader, txn: &CreateTxn<'_>, owner: i64, bytes: &Bytes) -> Result<Effect, String> {
        let (zxid, path) = (header.zxid, &*txn.path);
        let (parent_path, _) = split(path);
        if is_unfollowed(path) {
            return Ok(Effect::Done);
        }
        let Some(parent) = self.latest(parent_path) else {
            return Err(format!("{path} is created without its parent"));
        };
        if matches!(Owner::decode(parent.owner, true, false), Some(Owner::Ephemeral(_))) {
            return Err(format!("{path} is created under an ephemeral"));
        }
        if self.latest(path).is_some() {
            return Err(format!("{path} is created and was there"));
        }
        if txn.parent_cversion != parent.creations.wrapping_add(1) {
            return Err(format!(
                "{path} is creation {} under its parent, which had {}",
                txn.parent_cversion, parent.creations
            ));
        }
        let ephemeral = if txn.ephemeral { header.session.0 } else { 0 };
        if txn.ephemeral && self.sessions.get(&header.session).is_none_or(|s| s.closed.is_some()) {
            return Err(format!("{path} is created for session {}, which is not open", header.session));
        }
        let mut parent = parent.clone();
        parent.creations = txn.parent_cversion;
        parent.stat.num_children += 1;
        parent.stat.cversion = 2 * parent.creations - parent.stat.num_children;
        parent.stat.pzxid = zxid;
        let data = txn.data.as_deref().map(|d| bytes.slice_ref(d));
        let stat = Stat {
            czxid: zxid,
            mzxid: zxid,
            ctime: header.time,
            mtime: header.time,
            ephemeral_owner: ephemeral,
            data_length: data.as_ref().map_or(0, Bytes::len) as i32,
            pzxid: zxid,
            ..ZERO
        };
        let acl = Arc::new(txn.acl.iter().cloned().map(Acl::into_owned).collect());
        self.put(zxid, parent_path, Some(parent));
        self.put(zxid, path, Some(Znode { owner, data, creations: 0, stat, acl }));
        self.flip(zxid, path);
        if txn.ephemeral {
            self.ephemerals.entry(header.session).or_default().insert(path.to_owned());
        }
        self.tell(zxid, EventType::NodeCreated, path);
        self.tell(zxid, EventType::NodeChildrenChanged, parent_path);
        Ok(Effect::Created { path: path.to_owned(), stat })
    }

    fn delete(&mut self, zxid: Zxid, path: &str) -> Result<(), String> {
        let (parent_path, _) = split(path);
        if is_unfollowed(path) {
            return Ok(());
        }
        let Some(znode) = self.latest(path) else { return Err(format!("{path} is deleted and was not there")) };
        if znode.stat.num_children > 0 {
            return Err(format!("{path} is deleted and has children"));
        }
        let owner = SessionId(znode.stat.ephemeral_owner);
        let mut parent = self.latest(parent_path).ok_or_else(|| format!("{path} has no parent"))?.clone();
        parent.stat.num_children -= 1;
        parent.stat.cversion = 2 * parent.creations - parent.stat.num_children;
        parent.stat.pzxid = zxid;
        self.put(zxid, parent_path, Some(parent));
        self.put(zxid, path, None);
        self.flip(zxid, path);
        if let Some(paths) = self.ephemerals.get_mut(&owner) {
            paths.remove(path);
        }
        self.tell(zxid, EventType::NodeDeleted, path);
        self.tell(zxid, EventType::NodeChildrenChanged, parent_path);
        Ok(())
    }

    fn set_data(&mut self, header: &TxnHeader, txn: &SetDataTxn<'_>, bytes: &Bytes) -> Result<Effect, String> {
        let (zxid, path) = (header.zxid, &*txn.path);
        if is_unfollowed(path) {
            return Ok(Effect::Done);
        }
        let Some(znode) = self.latest(path) else { return Err(format!("data of {path}, which is not there")) };
        let mut znode = znode.clone();
        if txn.version != znode.stat.version.wrapping_add(1) {
            return Err(format!("{path} gets version {} after {}", txn.version, znode.stat.version));
        }
        znode.data = txn.data.as_deref().map(|d| bytes.slice_ref(d));
        znode.stat.data_length = znode.data.as_ref().map_or(0, Bytes::len) as i32;
        znode.stat.version = txn.version;
        znode.stat.mzxid = zxid;
        znode.stat.mtime = header.time;
        let stat = znode.stat;
        self.put(zxid, path, Some(znode));
        self.tell(zxid, EventType::NodeDataChanged, path);
        Ok(Effect::Stat(stat))
    }
}
