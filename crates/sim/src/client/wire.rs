//! Requests as frames, and frames as replies.

use crate::observe::{HeldWatches, MultiPart, PartReply, ReadPart, ReadPartReply, Reply, Request};
use bytes::Bytes;
use farrier_proto::client::{
    ConnectRequest, CreateMode, CreateRequest, CreateTtlRequest, PathKind, PathOnly, PathVersion, PathWatch,
    RequestHeader, SetAclRequest, SetDataRequest, SetWatches, SetWatches2,
};
use farrier_proto::jute::JStr;
use farrier_proto::multi::{MultiHeader, put_end};
use farrier_proto::{Acl, DecodeError, Field, OpCode, RawAcl, Reader, SessionId, Stat, Xid, Zxid, perms};
use std::borrow::Cow;

pub(super) fn connect(session: SessionId, password: &[u8], seen: i64, timeout: i32) -> Vec<u8> {
    let mut out = Vec::new();
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::from_wire(seen),
        timeout,
        session,
        password: Some(password.into()),
        read_only: Some(false),
    }
    .write(&mut out);
    out
}

pub(super) fn ping() -> Vec<u8> {
    let mut out = Vec::new();
    RequestHeader { xid: Xid::PING, op: OpCode::Ping.code() }.write(&mut out);
    out
}

pub(super) fn request(xid: i32, request: &Request) -> Vec<u8> {
    let mut out = Vec::new();
    RequestHeader { xid: Xid(xid), op: op_of(request).code() }.write(&mut out);
    let out_ = &mut out;
    match request {
        Request::Create { path, data, mode, ttl: Some(ttl), .. } => CreateTtlRequest {
            path: text(path),
            data: Some(Cow::Borrowed(data)),
            acl: open_acl(),
            flags: mode.code(),
            ttl: *ttl,
        }
        .write(out_),
        Request::Create { path, data, mode, ttl: None, .. } => create(path, data, *mode).write(out_),
        Request::Delete { path, version } => PathVersion { path: text(path), version: *version }.write(out_),
        Request::SetData { path, data, version } => set_data(path, data, *version).write(out_),
        Request::Multi(parts) => multi(parts, out_),
        Request::SetAcl { path, network, version } => {
            let all = Request::acl(*network);
            let raw = |acl: Acl<'static>| RawAcl { perms: acl.perms, scheme: Some(acl.scheme), id: Some(acl.id) };
            let acl = Some(all.into_iter().map(raw).collect());
            SetAclRequest { path: text(path), acl, version: *version }.write(out_);
        }
        Request::GetAcl { path } | Request::CountDescendants { path } | Request::GetEphemerals { prefix: path } => {
            PathOnly { path: text(path) }.write(out_);
        }
        Request::MultiRead(parts) => multi_read(parts, out_),
        Request::Exists { path, watch } | Request::GetData { path, watch } | Request::GetChildren { path, watch } => {
            PathWatch { path: text(path), watch: *watch }.write(out_);
        }
        Request::AddWatch { path, recursive } => {
            PathKind { path: text(path), kind: i32::from(*recursive) }.write(out_);
        }
        Request::RemoveWatches { path, kind } => PathKind { path: text(path), kind: kind.code() }.write(out_),
        Request::SetWatches(held) => set_watches(held).write(out_),
        Request::Sync { path } => PathOnly { path: text(path) }.write(out_),
        Request::Close => {}
    }
    out
}

const fn op_of(request: &Request) -> OpCode {
    match request {
        Request::Create { ttl: Some(_), .. } => OpCode::CreateTtl,
        Request::Create { mode: CreateMode::Container, .. } => OpCode::CreateContainer,
        Request::Create { plain: true, .. } => OpCode::Create,
        Request::Create { .. } => OpCode::Create2,
        Request::Delete { .. } => OpCode::Delete,
        Request::SetData { .. } => OpCode::SetData,
        Request::Multi(_) => OpCode::Multi,
        Request::Exists { .. } => OpCode::Exists,
        Request::GetData { .. } => OpCode::GetData,
        Request::GetChildren { .. } => OpCode::GetChildren2,
        Request::SetAcl { .. } => OpCode::SetAcl,
        Request::GetAcl { .. } => OpCode::GetAcl,
        Request::MultiRead(_) => OpCode::MultiRead,
        Request::GetEphemerals { .. } => OpCode::GetEphemerals,
        Request::CountDescendants { .. } => OpCode::GetAllChildrenNumber,
        Request::AddWatch { .. } => OpCode::AddWatch,
        Request::RemoveWatches { .. } => OpCode::RemoveWatches,
        Request::SetWatches(_) => OpCode::SetWatches2,
        Request::Sync { .. } => OpCode::Sync,
        Request::Close => OpCode::CloseSession,
    }
}

const fn text(path: &str) -> JStr<'_> {
    Some(Cow::Borrowed(path))
}

fn open_acl() -> Option<Vec<RawAcl<'static>>> {
    Some(vec![RawAcl { perms: perms::ALL, scheme: text("world"), id: text("anyone") }])
}

fn create<'a>(path: &'a str, data: &'a [u8], mode: CreateMode) -> CreateRequest<'a> {
    CreateRequest { path: text(path), data: Some(Cow::Borrowed(data)), acl: open_acl(), flags: mode.code() }
}

const fn set_data<'a>(path: &'a str, data: &'a [u8], version: i32) -> SetDataRequest<'a> {
    SetDataRequest { path: text(path), data: Some(Cow::Borrowed(data)), version }
}

fn set_watches(held: &HeldWatches) -> SetWatches2<'_> {
    let list = |paths: &'_ [String]| -> Option<Vec<JStr<'_>>> {
        // Lifetimes of closures do not follow from their arguments, hence the explicit loop.
        Some(paths.iter().map(|p| Some(Cow::Owned(p.clone()))).collect())
    };
    SetWatches2 {
        classic: SetWatches {
            relative_zxid: held.since,
            data: list(&held.data),
            exist: list(&held.exist),
            child: list(&held.child),
        },
        persistent: list(&held.persistent),
        recursive: list(&held.recursive),
    }
}

fn multi(parts: &[MultiPart], out: &mut Vec<u8>) {
    for part in parts {
        let op = match part {
            MultiPart::Create { mode: CreateMode::Container, .. } => OpCode::CreateContainer,
            MultiPart::Create { plain: true, .. } => OpCode::Create,
            MultiPart::Create { .. } => OpCode::Create2,
            MultiPart::Delete { .. } => OpCode::Delete,
            MultiPart::SetData { .. } => OpCode::SetData,
            MultiPart::Check { .. } => OpCode::Check,
        };
        MultiHeader { op: op.code(), done: false, err: -1 }.write(out);
        match part {
            MultiPart::Create { path, data, mode, .. } => create(path, data, *mode).write(out),
            MultiPart::Delete { path, version } | MultiPart::Check { path, version } => {
                PathVersion { path: text(path), version: *version }.write(out);
            }
            MultiPart::SetData { path, data, version } => set_data(path, data, *version).write(out),
        }
    }
    put_end(out);
}

fn multi_read(parts: &[ReadPart], out: &mut Vec<u8>) {
    for part in parts {
        let (op, path) = match part {
            ReadPart::Data(path) => (OpCode::GetData, path),
            ReadPart::Children(path) => (OpCode::GetChildren, path),
        };
        MultiHeader { op: op.code(), done: false, err: -1 }.write(out);
        PathWatch { path: text(path), watch: false }.write(out);
    }
    put_end(out);
}

/// What the body of a successful reply to `request` says.
pub(super) fn reply(request: &Request, body: &mut Reader<'_>) -> Result<Reply, DecodeError> {
    let reply = match request {
        Request::Create { plain, mode, ttl, .. } => {
            let path = <Cow<'_, str>>::read(body)?.into_owned();
            let without = *plain && *mode != CreateMode::Container && ttl.is_none();
            Reply::Created { path, stat: if without { None } else { Some(Stat::read(body)?) } }
        }
        Request::SetData { .. } | Request::SetAcl { .. } | Request::Exists { .. } => Reply::Stat(Stat::read(body)?),
        Request::GetData { .. } => {
            Reply::Data { data: body.buffer()?.map(Bytes::copy_from_slice), stat: Stat::read(body)? }
        }
        Request::GetChildren { .. } => {
            let names = strings(body)?;
            Reply::Children { names, stat: Stat::read(body)? }
        }
        Request::GetAcl { .. } => {
            let acl = <Vec<Acl<'_>>>::read(body)?.into_iter().map(Acl::into_owned).collect();
            Reply::Acl { acl, stat: Stat::read(body)? }
        }
        Request::MultiRead(_) => Reply::MultiRead(read_parts(body)?),
        Request::GetEphemerals { .. } => Reply::Paths(strings(body)?),
        Request::CountDescendants { .. } => Reply::Count(body.i32()?),
        Request::Multi(_) => Reply::Multi(parts(body)?),
        Request::Sync { .. } => {
            PathOnly::read(body)?;
            Reply::Done
        }
        Request::AddWatch { .. } => {
            body.i32()?;
            Reply::Done
        }
        Request::Delete { .. } | Request::RemoveWatches { .. } | Request::SetWatches(_) | Request::Close => Reply::Done,
    };
    if body.is_empty() { Ok(reply) } else { Err(DecodeError::Shape("bytes are left behind the reply")) }
}

fn strings(body: &mut Reader<'_>) -> Result<Vec<String>, DecodeError> {
    Ok(<Vec<Cow<'_, str>>>::read(body)?.into_iter().map(Cow::into_owned).collect())
}

fn read_parts(body: &mut Reader<'_>) -> Result<Vec<ReadPartReply>, DecodeError> {
    let mut parts = Vec::new();
    loop {
        let header = MultiHeader::read(body)?;
        if header.done {
            return Ok(parts);
        }
        parts.push(match OpCode::from_code(header.op) {
            None if header.op == -1 => ReadPartReply::Failed(body.i32()?),
            Some(OpCode::GetData) => {
                ReadPartReply::Data { data: body.buffer()?.map(Bytes::copy_from_slice), stat: Stat::read(body)? }
            }
            Some(OpCode::GetChildren) => ReadPartReply::Children(strings(body)?),
            _ => return Err(DecodeError::Value { field: "multiRead result", value: i64::from(header.op) }),
        });
    }
}

fn parts(body: &mut Reader<'_>) -> Result<Vec<PartReply>, DecodeError> {
    let mut parts = Vec::new();
    loop {
        let header = MultiHeader::read(body)?;
        if header.done {
            return Ok(parts);
        }
        parts.push(match OpCode::from_code(header.op) {
            None if header.op == -1 => PartReply::Failed(body.i32()?),
            Some(OpCode::Create) => PartReply::Created { path: <Cow<'_, str>>::read(body)?.into_owned(), stat: None },
            Some(OpCode::Create2) => {
                PartReply::Created { path: <Cow<'_, str>>::read(body)?.into_owned(), stat: Some(Stat::read(body)?) }
            }
            Some(OpCode::SetData) => PartReply::Stat(Stat::read(body)?),
            Some(OpCode::Delete | OpCode::Check) => PartReply::Done,
            _ => return Err(DecodeError::Value { field: "multi result", value: i64::from(header.op) }),
        });
    }
}
