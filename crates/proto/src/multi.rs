//! multi and multiRead: operations framed by headers and ended by a terminator.

use crate::client::{CreateMode, CreateRequest, CreateTtlRequest, PathVersion, PathWatch, SetDataRequest};
use crate::jute::{Field, Reader, plain_record, put_i32};
use crate::limits::{MULTI_OPS_MAX, MULTI_USUAL};
use crate::{DecodeError, OpCode};

plain_record! {
    /// Stands before each operation and each result, and ends the list.
    pub struct MultiHeader {
        /// Operation, or -1 for an error result and for the terminator.
        pub op: i32,
        /// True in the terminator.
        pub done: bool,
        /// Error of a result; -1 in requests.
        pub err: i32,
    }
}

/// An operation of a write multi.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MultiOp<'a> {
    /// Any of the create family. `op` is [`OpCode::Create`], [`OpCode::Create2`],
    /// [`OpCode::CreateContainer`] or [`OpCode::CreateTtl`], already normalised: container flags make a
    /// container whatever the type was, and createTTL without a TTL flag is a plain create, of unknown flags too.
    Create {
        /// Kind of create; decides the result's form.
        op: OpCode,
        /// Path, data, ACL and flags.
        request: CreateRequest<'a>,
        /// Time to live, for [`OpCode::CreateTtl`].
        ttl: Option<i64>,
    },
    /// delete.
    Delete(PathVersion<'a>),
    /// setData.
    SetData(SetDataRequest<'a>),
    /// check.
    Check(PathVersion<'a>),
}

/// An operation of a multiRead. The watch flag inside is ignored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MultiReadOp<'a> {
    /// getData.
    GetData(PathWatch<'a>),
    /// getChildren.
    GetChildren(PathWatch<'a>),
}

fn next_header(r: &mut Reader<'_>, so_far: usize) -> Result<Option<i32>, DecodeError> {
    let header = MultiHeader::read(r)?;
    if header.done {
        return Ok(None);
    }
    if so_far == MULTI_OPS_MAX {
        return Err(DecodeError::Shape("a multi has more operations than the limit allows"));
    }
    Ok(Some(header.op))
}

const MIXED: DecodeError = DecodeError::Shape("reads and writes do not go together in a multi");

fn create<'a>(op: OpCode, request: CreateRequest<'a>, ttl: Option<i64>) -> Result<MultiOp<'a>, DecodeError> {
    let flags = request.flags;
    if request.acl.is_none() && ttl.is_none() {
        return Err(DecodeError::Null("acl"));
    }
    if request.path.is_none() {
        return Err(DecodeError::Null("path"));
    }
    let (op, ttl) = match (CreateMode::from_code(flags), ttl) {
        (None, None) => return Err(DecodeError::Value { field: "create flags", value: i64::from(flags) }),
        (Some(CreateMode::Container), _) => (OpCode::CreateContainer, None),
        (Some(m), None) if m.is_ttl() => return Err(DecodeError::Shape("TTL flags without a TTL")),
        (Some(m), Some(_)) if m.is_ttl() => (op, ttl),
        // Flags that are none too: the operation fails, and not the multi's decoding.
        (_, Some(_)) => (OpCode::Create, None),
        (Some(_), None) => (op, None),
    };
    Ok(MultiOp::Create { op, request, ttl })
}

fn with_path<'a>(p: PathVersion<'a>) -> Result<PathVersion<'a>, DecodeError> {
    if p.path.is_none() { Err(DecodeError::Null("path")) } else { Ok(p) }
}

/// Decodes the body of a multi. Every failure is answered by a header with
/// [`crate::ErrorCode::MarshallingError`], at the cost of one zxid.
pub fn read_multi<'a>(r: &mut Reader<'a>) -> Result<Vec<MultiOp<'a>>, DecodeError> {
    let mut ops = Vec::with_capacity(MULTI_USUAL);
    while let Some(kind) = next_header(r, ops.len())? {
        let op = OpCode::from_code(kind)
            .ok_or_else(|| DecodeError::Value { field: "multi operation", value: i64::from(kind) })?;
        ops.push(match op {
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer => create(op, CreateRequest::read(r)?, None)?,
            OpCode::CreateTtl => {
                let t = CreateTtlRequest::read(r)?;
                let request = CreateRequest { path: t.path, data: t.data, acl: t.acl, flags: t.flags };
                create(op, request, Some(t.ttl))?
            }
            OpCode::Delete => MultiOp::Delete(with_path(PathVersion::read(r)?)?),
            OpCode::SetData => {
                let s = SetDataRequest::read(r)?;
                if s.path.is_none() {
                    return Err(DecodeError::Null("path"));
                }
                MultiOp::SetData(s)
            }
            OpCode::Check => MultiOp::Check(with_path(PathVersion::read(r)?)?),
            OpCode::GetData | OpCode::GetChildren => return Err(MIXED),
            _ => return Err(DecodeError::Value { field: "multi operation", value: i64::from(kind) }),
        });
    }
    Ok(ops)
}

/// Decodes the body of a multiRead.
pub fn read_multi_read<'a>(r: &mut Reader<'a>) -> Result<Vec<MultiReadOp<'a>>, DecodeError> {
    let mut ops = Vec::new();
    while let Some(kind) = next_header(r, ops.len())? {
        let read = match OpCode::from_code(kind) {
            Some(OpCode::GetData) => MultiReadOp::GetData,
            Some(OpCode::GetChildren) => MultiReadOp::GetChildren,
            _ => return Err(DecodeError::Value { field: "multiRead operation", value: i64::from(kind) }),
        };
        let request = PathWatch::read(r)?;
        if request.path.is_none() {
            return Err(DecodeError::Null("path"));
        }
        ops.push(read(request));
    }
    Ok(ops)
}

/// Appends the header of a successful result; its body follows.
pub fn put_result(out: &mut Vec<u8>, op: OpCode) {
    MultiHeader { op: op.code(), done: false, err: 0 }.write(out);
}

/// Appends an error result: header and ErrorResponse. `err` is 0 for an operation before the one that
/// failed.
pub fn put_error_result(out: &mut Vec<u8>, err: i32) {
    MultiHeader { op: -1, done: false, err }.write(out);
    put_i32(out, err);
}

/// Appends the terminator, of requests and replies alike.
pub fn put_end(out: &mut Vec<u8>) {
    MultiHeader { op: -1, done: true, err: -1 }.write(out);
}
