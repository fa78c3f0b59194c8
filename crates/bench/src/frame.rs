//! Requests as frames, and the few fields of replies that sources look at.

use farrier_proto::client::{CreateMode, RequestHeader, begin_frame, end_frame};
use farrier_proto::jute::{put_buffer, put_i32, put_str};
use farrier_proto::{Field as _, OpCode, Xid};

/// Appends a whole request.
pub fn put_request(out: &mut Vec<u8>, xid: i32, op: OpCode, body: impl FnOnce(&mut Vec<u8>)) {
    let at = begin_frame(out);
    RequestHeader { xid: Xid(xid), op: op.code() }.write(out);
    body(out);
    end_frame(out, at);
}

/// The body of create: anybody may do everything with the znode.
pub fn put_create(out: &mut Vec<u8>, path: &str, data: &[u8], mode: CreateMode) {
    const ALL: i32 = 31;
    put_str(out, path);
    put_buffer(out, Some(data));
    put_i32(out, 1);
    put_i32(out, ALL);
    put_str(out, "world");
    put_str(out, "anyone");
    put_i32(out, mode.code());
}

/// The body of setData, whatever the version.
pub fn put_set(out: &mut Vec<u8>, path: &str, data: &[u8]) {
    put_set_at(out, path, data, -1);
}

/// The body of setData on the condition that the znode has this version.
pub fn put_set_at(out: &mut Vec<u8>, path: &str, data: &[u8], version: i32) {
    put_str(out, path);
    put_buffer(out, Some(data));
    put_i32(out, version);
}

/// The body of delete, whatever the version.
pub fn put_delete(out: &mut Vec<u8>, path: &str) {
    put_str(out, path);
    put_i32(out, -1);
}

/// The body of a read, with or without a watch.
pub fn put_read(out: &mut Vec<u8>, path: &str, watch: bool) {
    put_str(out, path);
    out.push(u8::from(watch));
}

/// What stands before each operation of a multi, and ends it.
pub fn put_multi_header(out: &mut Vec<u8>, op: Option<OpCode>) {
    put_i32(out, op.map_or(-1, OpCode::code));
    out.push(u8::from(op.is_none()));
    put_i32(out, -1);
}

/// The data at the beginning of a getData reply.
#[must_use]
pub fn data(body: &[u8]) -> Option<&[u8]> {
    let len = usize::try_from(i32::from_be_bytes(*body.first_chunk()?)).ok()?;
    body.get(4..)?.get(..len)
}

/// The number of children in a stat at the beginning of a reply.
#[must_use]
pub fn children_of(stat: &[u8]) -> Option<u32> {
    u32::try_from(i32::from_be_bytes(*stat.get(56..)?.first_chunk()?)).ok()
}

/// The number of names at the beginning of a getChildren reply.
#[must_use]
pub fn names(body: &[u8]) -> Option<u32> {
    u32::try_from(i32::from_be_bytes(*body.first_chunk()?)).ok()
}
