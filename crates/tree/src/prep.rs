//! From requests to transactions: every check that may refuse a write, in Apache's order, and the
//! idempotent change that the request stands for.
//!
//! Owns the checks and what is outstanding: transactions that were prepared and are not yet applied. A
//! request is checked against the tree as it will be once they are. Nothing here changes the tree, reads
//! a clock or fails for other reasons than those that a client is told.
//!
//! Whoever prepares must apply in the same order, and report each transaction with [`Prep::applied`].

mod multi;
mod session;
mod size;

use crate::Tree;
use crate::auth::verdicts::Verdicts;
use crate::auth::{AuthConfig, Identity};
use crate::outstanding::{Outstanding, PendingAcl, Place, Places, View, new_stat};
use crate::quota::{self, SoftExcess};
use crate::tree::BUILT_IN;
use farrier_proto::client::{CreateMode, CreateRequest, PathVersion, SetAclRequest, SetDataRequest};
use farrier_proto::jute::JStr;
use farrier_proto::limits::PATH_DEPTH_MAX;
use farrier_proto::multi::MultiOp;
use farrier_proto::path::{split, validate};
use farrier_proto::txn::{CheckVersionTxn, CreateContainerTxn, CreateTtlTxn, CreateTxn, SetAclTxn, SetDataTxn};
use farrier_proto::{ErrorCode, OpCode, Owner, SessionId, Txn, TxnDigest, Zxid, perms};
use std::borrow::Cow;
use std::sync::Arc;

/// Where a request comes from, and what the transaction is to be.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    /// The session; [`SessionId::NONE`] for what the server asks of itself.
    pub session: SessionId,
    /// The client's number for the request.
    pub cxid: i32,
    /// The transaction's zxid: later than every one before.
    pub zxid: Zxid,
    /// Wall clock in milliseconds.
    pub time: i64,
    /// The connection's identities when the request arrived.
    pub identities: &'a [Identity],
}

/// A request that becomes a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WriteRequest<'r> {
    /// Any of the create family.
    Create {
        /// [`OpCode::Create`], [`OpCode::Create2`], [`OpCode::CreateContainer`] or [`OpCode::CreateTtl`].
        op: OpCode,
        /// Path, data, ACL and flags.
        request: CreateRequest<'r>,
        /// Time to live in milliseconds; present exactly for [`OpCode::CreateTtl`].
        ttl: Option<i64>,
    },
    /// delete.
    Delete(PathVersion<'r>),
    /// setData.
    SetData(SetDataRequest<'r>),
    /// setACL.
    SetAcl(SetAclRequest<'r>),
    /// multi.
    Multi(Vec<MultiOp<'r>>),
    /// The sweeper's removal of a container or TTL node. Not for clients: no ACL is checked.
    DeleteContainer(Cow<'r, str>),
    /// Start of the session in the context.
    CreateSession {
        /// Negotiated timeout in milliseconds.
        timeout: i32,
    },
    /// End of the session in the context.
    CloseSession,
    /// A request that failed before it got here, yet takes a zxid.
    Failed(ErrorCode),
}

impl WriteRequest<'_> {
    /// The error of a request at which Apache's servers stop for good, or which makes every later one below a quota expensive. A
    /// leader refuses it while it [prepares](Prep::prepare) it, or, where it is no usage of a quota, makes that harmless; one of
    /// Apache's does neither, so that whoever forwards requests to it asks here first.
    #[must_use]
    pub fn refusal(&self) -> Option<ErrorCode> {
        let refused = match self {
            Self::Create { op, request, .. } => {
                // Of flags without a TTL it does not look whether the number is one.
                let is_plain = CreateMode::from_code(request.flags).is_some_and(|mode| !mode.is_ttl());
                (*op == OpCode::CreateTtl && is_plain) || is_creation_refused(request)
            }
            Self::Delete(request) => deletion_stops_apache(request),
            Self::SetData(request) => is_data_refused(request),
            Self::Multi(ops) => {
                let mut counts = 0;
                ops.iter().any(|op| match op {
                    MultiOp::Create { request, .. } => {
                        counts += usize::from(plain_path(request).is_some_and(quota::is_usage));
                        counts > quota::COUNTS_MAX || is_creation_refused(request)
                    }
                    MultiOp::Delete(request) => deletion_stops_apache(request),
                    MultiOp::SetData(request) => is_data_refused(request),
                    MultiOp::Check(_) => false,
                })
            }
            Self::SetAcl(_) | Self::DeleteContainer(_) | Self::CreateSession { .. } => false,
            Self::CloseSession | Self::Failed(_) => false,
        };
        refused.then_some(ErrorCode::BadArguments)
    }
}

/// The path of what is created, if the request says all of it.
fn plain_path<'a>(request: &'a CreateRequest<'_>) -> Option<&'a str> {
    let is_sequential = CreateMode::from_code(request.flags).is_some_and(CreateMode::is_sequential);
    request.path.as_deref().filter(|_| !is_sequential)
}

fn is_creation_refused(request: &CreateRequest<'_>) -> bool {
    request.path.as_deref().is_some_and(is_too_deep)
        || plain_path(request).is_some_and(|path| {
            split(path).is_some_and(|(p, name)| quota::creation_stops_apache(p, name))
                || quota::is_too_long(path, request.data.as_deref())
        })
}

fn deletion_stops_apache(request: &PathVersion<'_>) -> bool {
    request.path.as_deref().and_then(split).is_some_and(|(p, name)| quota::deletion_stops_apache(p, name))
}

fn is_data_refused(request: &SetDataRequest<'_>) -> bool {
    let data = request.data.as_deref();
    request.path.as_deref().is_some_and(|path| quota::is_too_long(path, data) || quota::is_no_usage(path, data))
}

/// A transaction, ready to be logged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prepared<'r> {
    /// Its body; the header's type follows from it.
    pub txn: Txn<'r>,
    /// Digest of the tree after it. `None` for an error, and if digests are off.
    pub digest: Option<TxnDigest>,
    /// Set exactly when the body is [`Txn::Error`]. A multi that failed is not an error in this sense:
    /// its reply has no code in the header.
    pub error: Option<ErrorCode>,
}

/// Prepares requests, one after the other, against one tree until [`Prep::reset`].
#[derive(Debug)]
pub struct Prep {
    auth: Arc<AuthConfig>,
    txn_max: usize,
    /// See [`Self::with_plain_creates_in_multi`].
    plain_creates: bool,
    pending: Outstanding,
    /// See [`Self::take_soft_excess`].
    soft_excess: Option<SoftExcess>,
}

impl Prep {
    /// Nothing is outstanding. `txn_max` is the most bytes that a transaction may take, header and digest
    /// included: what every reader of the log can decode.
    #[must_use]
    pub fn new(auth: Arc<AuthConfig>, txn_max: usize) -> Self {
        Self { auth, txn_max, plain_creates: false, pending: Outstanding::default(), soft_excess: None }
    }

    /// Writes create2 inside a multi as create: some servers apply no other (safety contract 4.8). The tree
    /// after it is the same; what the client gets is up to whoever answers.
    #[must_use]
    pub const fn with_plain_creates_in_multi(mut self, on: bool) -> Self {
        self.plain_creates = on;
        self
    }

    /// Turns a request into the transaction `ctx.zxid`, which is outstanding from now on.
    ///
    /// A request whose transaction would exceed `txn_max` becomes an error transaction with
    /// [`ErrorCode::MarshallingError`].
    ///
    /// A request of a session that does not exist or is closing becomes an error transaction with
    /// [`ErrorCode::SessionExpired`] (inside a multi: such a result), where Apache makes this check: after
    /// the flags of a create and before everything else. A repeated closeSession is a transaction without
    /// effect, as in Apache.
    ///
    /// # Panics
    /// When `ctx.zxid` is older than that of a change that is outstanding.
    pub fn prepare<'r>(&mut self, tree: &Tree, ctx: &RequestContext<'_>, request: WriteRequest<'r>) -> Prepared<'r> {
        let body_max = self.body_max();
        // Nearly every request is so small that nobody needs to measure its transaction.
        let measured = size::may_exceed(&request, ctx.identities, body_max);
        let mut op = Op {
            tree,
            ctx,
            auth: &self.auth,
            body_max,
            plain_creates: self.plain_creates,
            session_is_open: ctx.session == SessionId::NONE,
            counts: 0,
            verdicts: Verdicts::default(),
            pending: &mut self.pending,
            soft_excess: &mut self.soft_excess,
        };
        if measured {
            op.pending.begin(tree);
        }
        let result = match request {
            WriteRequest::Create { op: kind, request, ttl } => op.create(kind, request, ttl),
            WriteRequest::Delete(request) => op.delete(request),
            WriteRequest::SetData(request) => op.set_data(request),
            WriteRequest::SetAcl(request) => op.set_acl(&request),
            WriteRequest::Multi(ops) => op.multi(ops),
            WriteRequest::DeleteContainer(path) => op.delete_container(path),
            WriteRequest::CreateSession { timeout } => Ok(op.create_session(timeout)),
            WriteRequest::CloseSession => Ok(op.close_session()),
            WriteRequest::Failed(code) => Err(code),
        };
        let result = if measured { op.keep_if_it_fits(result) } else { result };
        match result {
            Ok(txn @ Txn::CloseSession(None)) => Prepared { txn, digest: None, error: None },
            Ok(txn) => Prepared { txn, digest: self.digest(tree), error: None },
            Err(code) => Prepared { txn: Txn::error(code), digest: None, error: Some(code) },
        }
    }

    /// A soft limit that the last requests have exceeded, for the log of the server.
    pub const fn take_soft_excess(&mut self) -> Option<SoftExcess> {
        self.soft_excess.take()
    }

    fn digest(&self, tree: &Tree) -> Option<TxnDigest> {
        tree.config().digest.then(|| TxnDigest::new(self.pending.predicted(tree)))
    }

    /// Where the transaction's znodes were.
    pub(crate) const fn places(&self, zxid: Zxid) -> Places<'_> {
        Places::of(&self.pending, zxid)
    }

    /// Looks where the application of what was prepared up to `zxid`, or its beginning, is going to look, and does nothing
    /// else; see [`Tree::foresee`].
    pub fn foresee(&self, tree: &Tree, zxid: Zxid) {
        self.pending.foresee(tree, zxid);
    }

    /// The transaction `zxid`, and so every earlier one, is in the tree.
    pub fn applied(&mut self, zxid: Zxid) {
        self.pending.applied(zxid);
    }

    /// Forgets what is outstanding: those transactions will not be applied by this server as leader.
    pub fn reset(&mut self) {
        self.pending = Outstanding::default();
    }

    /// Whether the session's end is prepared and not yet applied.
    #[must_use]
    pub fn is_closing(&self, session: SessionId) -> bool {
        self.pending.is_closing(session)
    }

    /// Whether an outstanding transaction changes the znode at `path`, or would create or delete it.
    #[must_use]
    pub fn is_pending(&self, tree: &Tree, path: &str) -> bool {
        self.pending.find(tree, path).is_pending()
    }

    /// Znodes and sessions that outstanding transactions change.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.pending.len()
    }
}

/// One operation under preparation. Each method checks everything first and changes what is pending only
/// if the operation succeeds.
struct Op<'a> {
    tree: &'a Tree,
    ctx: &'a RequestContext<'a>,
    auth: &'a AuthConfig,
    body_max: usize,
    plain_creates: bool,
    /// Whether the session was found open: it stays so for all operations of a multi.
    session_is_open: bool,
    /// Subtrees that are going to be counted for a quota.
    counts: usize,
    verdicts: Verdicts,
    pending: &'a mut Outstanding,
    soft_excess: &'a mut Option<SoftExcess>,
}

type Checked<'r> = Result<Txn<'r>, ErrorCode>;

impl Op<'_> {
    fn create<'r>(&mut self, op: OpCode, request: CreateRequest<'r>, ttl: Option<i64>) -> Checked<'r> {
        let mode = CreateMode::from_code(request.flags).ok_or(ErrorCode::BadArguments)?;
        let owner = self.owner_of_new(op, mode, ttl)?;
        self.check_session()?;
        if mode.is_ephemeral() && self.ctx.session == SessionId::NONE {
            return Err(ErrorCode::SessionExpired);
        }
        let path = request.path.ok_or(ErrorCode::MarshallingError)?;
        let parent_len = light_check(&path)?;
        let acl = self.auth.fix_up(request.acl.as_deref(), self.ctx.identities)?;

        let parent = self.pending.find(self.tree, &path[..parent_len]);
        let view = self.pending.view(&parent).ok_or(ErrorCode::NoNode)?;
        self.permit(&view, perms::CREATE)?;
        let cversion = view.stat().cversion;
        let parent_owner = view.owner();
        let child_count = i32::try_from(view.child_count()).unwrap_or(i32::MAX);
        let suffix = if farrier_proto::planted!(SequenceFromChildCount) { child_count } else { cversion };
        let path = if mode.is_sequential() { Cow::Owned(format!("{path}{suffix:010}")) } else { path };
        check_path(&path)?;
        if is_too_deep(&path) || quota::creation_stops_apache(&path[..parent_len], &path[parent_len + 1..]) {
            return Err(ErrorCode::BadArguments);
        }
        let place = self.pending.find(self.tree, &path);
        if self.pending.view(&place).is_some() {
            return Err(ErrorCode::NodeExists);
        }
        if matches!(parent_owner, Owner::Ephemeral(_)) {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let data = request.data;
        self.counts += usize::from(quota::is_usage(&path));
        if quota::is_too_long(&path, data.as_deref()) || self.counts > quota::COUNTS_MAX {
            return Err(ErrorCode::BadArguments);
        }
        let data_len = data.as_ref().map_or(0, |d| d.len());
        if let Some(excess) = self.tree.check_quota(&path, 1, data_len as i64)? {
            self.soft_excess.get_or_insert(excess);
        }

        let (tree, zxid) = (self.tree, self.ctx.zxid);
        let parent_cversion = cversion.wrapping_add(1);
        self.pending.write(tree, parent, &path[..parent_len], zxid, |r| {
            r.children += 1;
            // As the tree applies it: replay must not set the counter back, so it cannot wrap either.
            if parent_cversion > r.stat.cversion {
                r.stat.cversion = parent_cversion;
                r.stat.pzxid = zxid;
            }
        });
        let stat = new_stat(zxid, self.ctx.time, owner);
        let prefix = Outstanding::prefix(tree, &path, data.as_deref());
        self.pending.write(tree, place, &path, zxid, |r| {
            r.exists = true;
            r.stat = stat;
            r.owner = tree.owner_of(stat.ephemeral_owner);
            r.children = 0;
            r.data_len = data_len;
            r.acl = PendingAcl::of(&acl);
            r.prefix = prefix;
        });
        Ok(match op {
            OpCode::CreateContainer => Txn::CreateContainer(CreateContainerTxn { path, data, acl, parent_cversion }),
            OpCode::CreateTtl => {
                let ttl = ttl.ok_or(ErrorCode::BadArguments)?;
                Txn::CreateTtl(CreateTtlTxn { path, data, acl, parent_cversion, ttl })
            }
            OpCode::Create2 => {
                Txn::Create2(CreateTxn { path, data, acl, ephemeral: mode.is_ephemeral(), parent_cversion })
            }
            _ => Txn::Create(CreateTxn { path, data, acl, ephemeral: mode.is_ephemeral(), parent_cversion }),
        })
    }

    /// The kind of a new znode: the operation decides on containers and TTL nodes, the flags on
    /// ephemerals. Container flags in a plain create mean nothing.
    fn owner_of_new(&self, op: OpCode, mode: CreateMode, ttl: Option<i64>) -> Result<Owner, ErrorCode> {
        if mode.is_ttl() && !self.tree.config().extended_types {
            return Err(ErrorCode::Unimplemented);
        }
        let ttl = match ttl {
            Some(ttl) if mode.is_ttl() && (Owner::TTL_MIN..=Owner::TTL_MAX).contains(&ttl) => Some(ttl.cast_unsigned()),
            None if !mode.is_ttl() => None,
            // A negative TTL with other flags crashes Apache for good.
            Some(_) | None => return Err(ErrorCode::BadArguments),
        };
        match (op, ttl) {
            (OpCode::CreateTtl, Some(ttl)) => Ok(Owner::Ttl(ttl)),
            (OpCode::CreateContainer, None) => Ok(Owner::Container),
            (OpCode::Create | OpCode::Create2, None) if mode.is_ephemeral() => Ok(Owner::Ephemeral(self.ctx.session)),
            (OpCode::Create | OpCode::Create2, None) => Ok(Owner::Persistent),
            _ => Err(ErrorCode::BadArguments),
        }
    }

    fn delete<'r>(&mut self, request: PathVersion<'r>) -> Checked<'r> {
        self.check_session()?;
        let path = request.path.ok_or(ErrorCode::MarshallingError)?;
        let parent_len = light_check_deletion(&path)?;
        let parent = self.pending.find(self.tree, &path[..parent_len]);
        let view = self.pending.view(&parent).ok_or(ErrorCode::NoNode)?;
        self.permit(&view, perms::DELETE)?;
        let place = self.pending.find(self.tree, &path);
        let view = self.pending.view(&place).ok_or(ErrorCode::NoNode)?;
        next_version(view.stat().version, request.version)?;
        if quota::deletion_stops_apache(&path[..parent_len], &path[parent_len + 1..]) {
            return Err(ErrorCode::BadArguments);
        }
        if view.has_children() {
            return Err(ErrorCode::NotEmpty);
        }
        self.write_deletion(&path, parent, place);
        Ok(Txn::Delete(path))
    }

    fn delete_container<'r>(&mut self, path: Cow<'r, str>) -> Checked<'r> {
        let parent_len = light_check_deletion(&path)?;
        let place = self.pending.find(self.tree, &path);
        let view = self.pending.view(&place).ok_or(ErrorCode::NoNode)?;
        if view.has_children() {
            return Err(ErrorCode::NotEmpty);
        }
        let is_due = match view.owner() {
            Owner::Container => true,
            // A setData since the sweeper looked restarts the clock.
            Owner::Ttl(ttl) => {
                let age = self.ctx.time.saturating_sub(view.stat().mtime);
                u64::try_from(age).is_ok_and(|age| age > ttl)
            }
            // Deleted and created again since the sweeper looked. Apache would take the plain one too.
            Owner::Ephemeral(_) | Owner::Persistent => false,
        };
        if !is_due {
            return Err(ErrorCode::BadVersion);
        }
        let parent = self.pending.find(self.tree, &path[..parent_len]);
        self.write_deletion(&path, parent, place);
        Ok(Txn::DeleteContainer(path))
    }

    /// Makes the deletion of an existing childless znode pending.
    fn write_deletion(&mut self, path: &str, parent: Place<'_>, place: Place<'_>) {
        let zxid = self.ctx.zxid;
        let (parent_path, _) = split(path).expect("the path of an existing znode has a slash");
        self.pending.write(self.tree, parent, parent_path, zxid, |r| {
            r.children = r.children.checked_sub(1).expect("the parent of a znode has a child");
            r.stat.pzxid = zxid;
        });
        self.pending.write(self.tree, place, path, zxid, |r| {
            assert!(r.exists, "what is deleted exists");
            r.exists = false;
        });
    }

    fn set_data<'r>(&mut self, request: SetDataRequest<'r>) -> Checked<'r> {
        self.check_session()?;
        let path = full_check(request.path)?;
        let place = self.pending.find(self.tree, &path);
        let view = self.pending.view(&place).ok_or(ErrorCode::NoNode)?;
        self.permit(&view, perms::WRITE)?;
        if quota::is_too_long(&path, request.data.as_deref()) {
            return Err(ErrorCode::BadArguments);
        }
        // What is no usage counts as none, and is written as none: Apache's servers would stop at the next change below the quota.
        let is_no_usage = quota::is_no_usage(&path, request.data.as_deref());
        let data = if is_no_usage { Some(Cow::Borrowed(quota::NO_USAGE.as_bytes())) } else { request.data };
        let data_len = data.as_ref().map_or(0, |d| d.len());
        let grown = data_len as i64 - view.data_len() as i64;
        if let Some(excess) = self.tree.check_quota(&path, 0, grown)? {
            self.soft_excess.get_or_insert(excess);
        }
        let mut version = view.stat().version;
        if farrier_proto::planted!(VersionOfCommittedState)
            && let Some(node) = self.tree.node(&path)
        {
            version = node.stat().version;
        }
        let version = next_version(version, request.version)?;

        let prefix = Outstanding::prefix(self.tree, &path, data.as_deref());
        let (zxid, time) = (self.ctx.zxid, self.ctx.time);
        self.pending.write(self.tree, place, &path, zxid, |r| {
            r.stat.version = version;
            r.stat.mzxid = zxid;
            r.stat.mtime = time;
            r.data_len = data_len;
            r.prefix = prefix;
        });
        Ok(Txn::SetData(SetDataTxn { path, data, version }))
    }

    fn set_acl<'r>(&mut self, request: &SetAclRequest<'r>) -> Checked<'r> {
        self.check_session()?;
        let path = full_check(request.path.clone())?;
        let acl = self.auth.fix_up(request.acl.as_deref(), self.ctx.identities)?;
        let place = self.pending.find(self.tree, &path);
        let view = self.pending.view(&place).ok_or(ErrorCode::NoNode)?;
        self.permit(&view, perms::ADMIN)?;
        let version = next_version(view.stat().aversion, request.version)?;

        self.pending.write(self.tree, place, &path, self.ctx.zxid, |r| {
            r.stat.aversion = version;
            r.acl = PendingAcl::of(&acl);
        });
        Ok(Txn::SetAcl(SetAclTxn { path, acl, version }))
    }

    fn check<'r>(&mut self, request: PathVersion<'r>) -> Checked<'r> {
        self.check_session()?;
        let path = full_check(request.path)?;
        let place = self.pending.find(self.tree, &path);
        let view = self.pending.view(&place).ok_or(ErrorCode::NoNode)?;
        self.permit(&view, perms::READ)?;
        let expected = if farrier_proto::planted!(MultiCheckIgnored) { -1 } else { request.version };
        // The version after, though nothing changes: what Apache logs.
        let version = next_version(view.stat().version, expected)?;
        Ok(Txn::Check(CheckVersionTxn { path, version }))
    }

    fn check_session(&mut self) -> Result<(), ErrorCode> {
        self.session_is_open = self.session_is_open || self.pending.is_open(self.tree, self.ctx.session);
        if self.session_is_open { Ok(()) } else { Err(ErrorCode::SessionExpired) }
    }

    fn permit(&self, view: &View<'_>, perm: i32) -> Result<(), ErrorCode> {
        let permitted = self.verdicts.permits(self.auth, view.acl(self.tree), perm, self.ctx.identities);
        if permitted { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }
}

/// The first check of a path that is created or deleted: a slash and no NUL. The length of the parent's
/// path.
fn light_check(path: &str) -> Result<usize, ErrorCode> {
    let (parent, _) = split(path).ok_or(ErrorCode::BadArguments)?;
    if path.as_bytes().contains(&0) {
        return Err(ErrorCode::BadArguments);
    }
    Ok(parent.len())
}

fn light_check_deletion(path: &str) -> Result<usize, ErrorCode> {
    if path == "/" || BUILT_IN.contains(&path) {
        return Err(ErrorCode::BadArguments);
    }
    light_check(path)
}

fn full_check(path: JStr<'_>) -> Result<Cow<'_, str>, ErrorCode> {
    let path = path.ok_or(ErrorCode::BadArguments)?;
    check_path(&path)?;
    Ok(path)
}

fn check_path(path: &str) -> Result<(), ErrorCode> {
    validate(path).map_err(|_| ErrorCode::BadArguments)
}

fn is_too_deep(path: &str) -> bool {
    path.len() > 2 * PATH_DEPTH_MAX && path.bytes().filter(|b| *b == b'/').count() > PATH_DEPTH_MAX
}

/// The version after a change of a znode that has `current`, if that is what the client expects.
const fn next_version(current: i32, expected: i32) -> Result<i32, ErrorCode> {
    if expected != -1 && expected != current {
        return Err(ErrorCode::BadVersion);
    }
    Ok(current.wrapping_add(1))
}

#[cfg(test)]
mod tests;
