//! Requests that need no transaction: answered from the committed tree, all of one step's reads between
//! the same two transactions.

use crate::io::ConnId;
use crate::limits::{BYTES_PER_WORK, PATH_WORK};
use crate::quietly::shown;
use crate::rewatch;
use farrier_proto::client::ReplyHeader;
use farrier_proto::client::{
    PathKind, PathOnly, PathWatch, RequestHeader, WatcherType, begin_frame, end_frame, put_acl_reply, put_reply,
};
use farrier_proto::jute::{put_buffer, put_i32, put_len, put_str};
use farrier_proto::multi::{MultiReadOp, put_end, put_error_result, put_result, read_multi_read};
use farrier_proto::{DecodeError, ErrorCode, Field, OpCode, Reader, SessionId, Xid, perms};
use farrier_tree::auth::verdicts::Verdicts;
use farrier_tree::{AuthConfig, Identity, Node, Tree, WatchKind, WatchTable};
use std::cell::Cell;

/// What a read may see and touch.
pub(crate) struct Scope<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) watches: &'a mut WatchTable<ConnId>,
    pub(crate) auth: &'a AuthConfig,
    pub(crate) session: SessionId,
    pub(crate) conn: ConnId,
    pub(crate) identities: &'a [Identity],
    /// Longest frame that may leave.
    pub(crate) reply_max: usize,
    pub(crate) verdicts: Verdicts,
    /// See [`Done::work`].
    pub(crate) work: Cell<usize>,
}

impl Scope<'_> {
    /// Whether the client may do `perm` to the node.
    pub(crate) fn permits(&self, node: &Node<'_>, perm: i32) -> bool {
        self.verdicts.permits(self.auth, node.acl_in_table(), perm, self.identities)
    }

    /// All work, where so many bytes were appended.
    fn work_with(&self, bytes: usize) -> usize {
        self.work.get().saturating_add(self.verdicts.looked_at()).saturating_add(bytes / BYTES_PER_WORK)
    }

    /// Counts some more work.
    pub(crate) fn works(&self, more: usize) {
        self.work.set(self.work.get().saturating_add(more));
    }

    /// A longer one would take too much memory until the client has read it.
    fn check_size(&self, len: usize) -> Result<(), Refusal> {
        if len > self.reply_max { Err(Refusal::TooLong(len)) } else { Ok(()) }
    }
}

/// What was emitted.
pub(crate) struct Done {
    /// Short name, as `cons` shows it.
    pub(crate) op: &'static str,
    /// Frames appended: the reply, and catch-up events before it.
    pub(crate) frames: usize,
    /// Of the reply's header.
    pub(crate) zxid: i64,
    /// What it took, besides what any request takes; see [`WORK_MAX`](crate::limits::WORK_MAX).
    pub(crate) work: usize,
    /// The reply that was refused for its size, if that was so.
    pub(crate) refused: Option<LongReply>,
}

/// A reply that is longer than one may be.
pub(crate) struct LongReply {
    /// What was asked about, as it may be shown.
    pub(crate) path: String,
    /// At least so many bytes long.
    pub(crate) len: usize,
    /// Bytes for which there was room.
    pub(crate) room: usize,
}

/// Why a read has no body.
enum Refusal {
    Code(ErrorCode),
    Undecodable,
    /// The reply would have at least so many bytes.
    TooLong(usize),
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<DecodeError> for Refusal {
    fn from(_: DecodeError) -> Self {
        Self::Undecodable
    }
}

/// The watch that the request asks for, to be left once its reply is known to leave.
type Body = Result<Option<(String, WatchKind)>, Refusal>;

/// Runs one request and appends its reply.
pub(crate) fn run(scope: &mut Scope<'_>, frame: &[u8], out: &mut Vec<u8>) -> Done {
    let mut body = Reader::new(frame);
    let zxid = scope.tree.zxid().to_wire();
    // The header was decoded when the request was told apart from a write.
    let header = RequestHeader::read(&mut body).expect("a queued request has a header");
    let op = OpCode::from_code(header.op).expect("a queued request has a known type");
    let mut frames = 1;
    if matches!(op, OpCode::SetWatches | OpCode::SetWatches2) {
        let before = out.len();
        match rewatch::run(scope, op, &mut body, out) {
            Ok(events) => {
                frames += events;
                put_reply(out, header.xid, zxid, Ok(()), |_| {});
            }
            Err(_) => put_reply(out, header.xid, zxid, Err(ErrorCode::MarshallingError), |_| {}),
        }
        let work = scope.work_with(out.len() - before);
        return Done { op: name(op), frames, zxid, work, refused: None };
    }
    let xid = if op == OpCode::Ping { Xid::PING } else { header.xid };
    let at = begin_frame(out);
    ReplyHeader { xid, zxid, err: 0 }.write(out);
    let mut refused = None;
    let result = body_of(scope, op, &mut body, out, at + 4).and_then(|watch| {
        scope.check_size(out.len() - at - 4)?;
        Ok(watch)
    });
    let work = scope.work_with(out.len() - at);
    match result {
        Ok(watch) => {
            end_frame(out, at);
            if let Some((path, kind)) = watch {
                scope.watches.add(&path, scope.conn, kind);
            }
        }
        Err(refusal) => {
            out.truncate(at);
            let code = match refusal {
                Refusal::Code(code) => code,
                Refusal::Undecodable => ErrorCode::MarshallingError,
                Refusal::TooLong(len) => {
                    refused = Some(LongReply { path: shown_path(frame), len, room: scope.reply_max });
                    ErrorCode::MarshallingError
                }
            };
            put_reply(out, xid, zxid, Err(code), |_| {});
        }
    }
    Done { op: name(op), frames, zxid, work, refused }
}

/// The path that a request begins with, for people.
fn shown_path(frame: &[u8]) -> String {
    let mut body = Reader::new(frame);
    let header = RequestHeader::read(&mut body);
    if header.is_ok_and(|header| OpCode::from_code(header.op) == Some(OpCode::MultiRead)) {
        return "several paths".to_owned();
    }
    shown(&body.string().ok().flatten().unwrap_or_else(|| "/".into()))
}

/// Appends a request's body. `start` is where the reply began, for those that watch its size as it grows.
fn body_of(scope: &mut Scope<'_>, op: OpCode, body: &mut Reader<'_>, out: &mut Vec<u8>, start: usize) -> Body {
    match op {
        OpCode::Exists => exists(scope, body, out),
        OpCode::GetData => get_data(scope, body, out),
        OpCode::GetAcl => get_acl(scope, body, out),
        OpCode::GetChildren => get_children(scope, body, out, start, false),
        OpCode::GetChildren2 => get_children(scope, body, out, start, true),
        OpCode::Sync => {
            PathOnly::read(body)?.write(out);
            Ok(None)
        }
        OpCode::Ping => Ok(None),
        OpCode::CheckWatches => {
            let (request, kind) = watcher_type(body)?;
            let watched = request.path.is_some_and(|path| scope.watches.contains(&path, scope.conn, kind));
            if watched { Ok(None) } else { Err(ErrorCode::NoWatcher.into()) }
        }
        OpCode::RemoveWatches => {
            let (request, kind) = watcher_type(body)?;
            let removed = request.path.is_some_and(|path| scope.watches.remove(&path, scope.conn, kind));
            if removed { Ok(None) } else { Err(ErrorCode::NoWatcher.into()) }
        }
        OpCode::AddWatch => {
            let request = PathKind::read(body)?;
            let kind = match request.kind {
                0 => WatchKind::Persistent,
                1 => WatchKind::Recursive,
                _ => return Err(ErrorCode::MarshallingError.into()),
            };
            // Apache accepts a watch on no path, too, and nothing ever triggers it.
            if let Some(path) = request.path {
                scope.watches.add(&path, scope.conn, kind);
            }
            put_i32(out, 0);
            Ok(None)
        }
        OpCode::MultiRead => multi_read(scope, body, out, start),
        OpCode::GetEphemerals => get_ephemerals(scope, body, out, start),
        OpCode::GetAllChildrenNumber => {
            let request = PathOnly::read(body)?;
            let path = path_of(&request.path)?;
            readable(scope, path)?;
            let n = scope.tree.descendants(path).ok_or(ErrorCode::NoNode)?;
            scope.works(n);
            put_len(out, n);
            Ok(None)
        }
        OpCode::WhoAmI => {
            let who = AuthConfig::who_am_i(scope.identities);
            put_len(out, who.len());
            for (scheme, user) in who {
                put_str(out, scheme);
                put_str(out, user);
            }
            Ok(None)
        }
        OpCode::SetWatches
        | OpCode::SetWatches2
        | OpCode::Create
        | OpCode::Create2
        | OpCode::CreateContainer
        | OpCode::CreateTtl
        | OpCode::Delete
        | OpCode::DeleteContainer
        | OpCode::SetData
        | OpCode::SetAcl
        | OpCode::Check
        | OpCode::Multi
        | OpCode::Reconfig
        | OpCode::Auth
        | OpCode::Sasl
        | OpCode::CreateSession
        | OpCode::CloseSession => unreachable!("{op:?} does not run as a read"),
    }
}

fn path_of<'a>(path: &'a Option<std::borrow::Cow<'_, str>>) -> Result<&'a str, Refusal> {
    path.as_deref().ok_or(Refusal::Undecodable)
}

/// The node at `path`, if there is one that the client may read.
fn readable<'t>(scope: &Scope<'t>, path: &str) -> Result<Node<'t>, Refusal> {
    let tree: &'t Tree = scope.tree;
    let node = tree.node(path).ok_or(ErrorCode::NoNode)?;
    if !scope.permits(&node, perms::READ) {
        return Err(ErrorCode::NoAuth.into());
    }
    Ok(node)
}

fn exists(scope: &mut Scope<'_>, body: &mut Reader<'_>, out: &mut Vec<u8>) -> Body {
    let request = PathWatch::read(body)?;
    let path = path_of(&request.path)?;
    if path.contains('\0') {
        return Err(ErrorCode::BadArguments.into());
    }
    let found = readable(scope, path);
    // "No node" leaves the watch too: it is how clients wait for a creation.
    if request.watch && matches!(found, Ok(_) | Err(Refusal::Code(ErrorCode::NoNode))) {
        scope.watches.add(path, scope.conn, WatchKind::Data);
    }
    found?.stat().write(out);
    Ok(None)
}

fn get_data(scope: &mut Scope<'_>, body: &mut Reader<'_>, out: &mut Vec<u8>) -> Body {
    let request = PathWatch::read(body)?;
    let path = path_of(&request.path)?;
    let node = readable(scope, path)?;
    put_buffer(out, node.data());
    node.stat().write(out);
    Ok(request.watch.then(|| (path.to_owned(), WatchKind::Data)))
}

fn get_acl(scope: &mut Scope<'_>, body: &mut Reader<'_>, out: &mut Vec<u8>) -> Body {
    let request = PathOnly::read(body)?;
    let node = scope.tree.node(path_of(&request.path)?).ok_or(ErrorCode::NoNode)?;
    let acl = node.acl();
    if !scope.permits(&node, perms::READ | perms::ADMIN) {
        return Err(ErrorCode::NoAuth.into());
    }
    put_acl_reply(out, &scope.auth.shown(acl, scope.identities), &node.stat());
    Ok(None)
}

fn get_children(scope: &Scope<'_>, body: &mut Reader<'_>, out: &mut Vec<u8>, start: usize, with_stat: bool) -> Body {
    let request = PathWatch::read(body)?;
    let path = path_of(&request.path)?;
    let node = readable(scope, path)?;
    put_children(scope, out, start, &node)?;
    if with_stat {
        node.stat().write(out);
    }
    Ok(request.watch.then(|| (path.to_owned(), WatchKind::Child)))
}

/// Gives up as soon as the reply is too long: building a listing of millions only to drop it would hold
/// up everybody.
fn put_children(scope: &Scope<'_>, out: &mut Vec<u8>, start: usize, node: &Node<'_>) -> Result<(), Refusal> {
    // Each name has at least a length and a byte.
    scope.check_size(out.len() - start + node.child_count().saturating_mul(5))?;
    scope.works(node.child_count());
    put_len(out, node.child_count());
    for name in node.children_bytes() {
        put_buffer(out, Some(name));
        scope.check_size(out.len() - start)?;
    }
    Ok(())
}

fn get_ephemerals(scope: &Scope<'_>, body: &mut Reader<'_>, out: &mut Vec<u8>, start: usize) -> Body {
    let request = PathOnly::read(body)?;
    let prefix = request.path.as_deref().unwrap_or("");
    // Java's trim takes away control characters too.
    let all = matches!(prefix.trim_matches(|c| c <= ' '), "" | "/");
    let (mut paths, mut len) = (Vec::new(), out.len() - start + 4);
    for path in scope.tree.ephemeral_paths(scope.session) {
        scope.works(PATH_WORK);
        if all || path.starts_with(prefix) {
            len += 4 + path.len();
            scope.check_size(len)?;
            paths.push(path);
        }
    }
    paths.sort_unstable();
    put_len(out, paths.len());
    for path in &paths {
        put_str(out, path);
    }
    Ok(None)
}

fn watcher_type<'r>(body: &mut Reader<'r>) -> Result<(PathKind<'r>, WatcherType), Refusal> {
    let request = PathKind::read(body)?;
    let kind = WatcherType::from_code(request.kind).ok_or(ErrorCode::MarshallingError)?;
    Ok((request, kind))
}

fn multi_read(scope: &Scope<'_>, body: &mut Reader<'_>, out: &mut Vec<u8>, start: usize) -> Body {
    for op in read_multi_read(body)? {
        scope.works(PATH_WORK);
        scope.check_size(out.len() - start)?;
        let (request, code) = match &op {
            MultiReadOp::GetData(r) => (r, OpCode::GetData),
            MultiReadOp::GetChildren(r) => (r, OpCode::GetChildren),
        };
        match readable(scope, path_of(&request.path)?) {
            Ok(node) => {
                put_result(out, code);
                match op {
                    MultiReadOp::GetData(_) => {
                        put_buffer(out, node.data());
                        node.stat().write(out);
                    }
                    MultiReadOp::GetChildren(_) => put_children(scope, out, start, &node)?,
                }
            }
            Err(Refusal::Code(code)) => put_error_result(out, code.code()),
            Err(refusal) => return Err(refusal),
        }
    }
    put_end(out);
    Ok(None)
}

/// Short names of `cons`.
pub(crate) const fn name(op: OpCode) -> &'static str {
    match op {
        OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => "CREA",
        OpCode::Delete | OpCode::DeleteContainer => "DELE",
        OpCode::SetData => "SETD",
        OpCode::GetData => "GETD",
        OpCode::Exists => "EXIS",
        OpCode::GetChildren | OpCode::GetChildren2 => "GETC",
        OpCode::GetAllChildrenNumber => "GETACN",
        OpCode::GetEphemerals => "GETE",
        OpCode::GetAcl => "GETA",
        OpCode::SetAcl => "SETA",
        OpCode::SetWatches => "SETW",
        OpCode::SetWatches2 => "STW2",
        OpCode::AddWatch => "ADDW",
        OpCode::RemoveWatches => "REMW",
        OpCode::Check => "CHEC",
        OpCode::CheckWatches => "CHKW",
        OpCode::Sync => "SYNC",
        OpCode::Multi => "MULT",
        OpCode::MultiRead => "MLTR",
        OpCode::Reconfig => "RECO",
        OpCode::WhoAmI => "HOMI",
        OpCode::CloseSession => "CLOS",
        OpCode::CreateSession => "SESS",
        OpCode::Ping => "PING",
        OpCode::Auth | OpCode::Sasl => "NA",
    }
}
