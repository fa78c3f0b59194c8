//! B: reply headers, xids, dispatch.

use crate::case::{Case, Ctx, Profile, list, rel};
use crate::enc::{Body, body};
use crate::raw::{Answer, PATIENCE};
use anyhow::Result;
use farrier_proto::OpCode;

/// The answer to a request on a session of its own, with the zxid and what becomes of the connection.
fn one_shot(t: &Ctx<'_>, op: i32, request: Body) -> Result<String> {
    let mut c = t.client()?;
    let z = c.z()?;
    Ok(match c.ask(op, request)? {
        Answer::Reply(r) => {
            format!("{} at {} with {} bytes, {}", r.err, rel(z, r.zxid), r.body.len(), c.state()?)
        }
        other => other.to_string(),
    })
}

pub(super) const CASES: &[Case] = &[
    Case::new(26, Profile::D, "xids are echoed", "0, -3, -2147483648, 2147483647", |t| {
        let mut c = t.client()?;
        let mut got = Vec::new();
        for xid in [0, -3, i32::MIN, i32::MAX] {
            c.send_as(xid, OpCode::Exists.code(), body().s("/").z(0))?;
            got.push(c.reply()?.ok()?.xid);
        }
        Ok(list(got))
    }),
    Case::new(
        27,
        Profile::D,
        "ping with xid -2 and with 77",
        "xid -2 err 0 at Z with 0 bytes, xid -2 err 0 at Z with 0 bytes",
        |t| {
            let mut c = t.client()?;
            let z = c.exists("/", false)?.zxid;
            let mut got = Vec::new();
            for xid in [-2, 77] {
                c.send_as(xid, OpCode::Ping.code(), body())?;
                let r = c.reply()?;
                got.push(format!("xid {} err {} at {} with {} bytes", r.xid, r.err, rel(z, r.zxid), r.body.len()));
            }
            Ok(list(got))
        },
    ),
    Case::new(28, Profile::D, "getData of a missing node", "-101 at Z with 0 bytes; then Z", |t| {
        let mut c = t.client()?;
        let z = c.z()?;
        let r = c.get(t.base(), false)?;
        Ok(format!("{} at {} with {} bytes; then {}", r.err, rel(z, r.zxid), r.body.len(), rel(z, c.z()?)))
    }),
    Case::new(29, Profile::D, "a create takes the next zxid", "0 at Z+1, czxid Z+1", |t| {
        let mut c = t.client()?;
        let z = c.z()?;
        let r = c.create(t.base(), b"")?;
        Ok(format!("{} at {}, czxid {}", r.err, rel(z, r.zxid), rel(z, c.stat(t.base())?.czxid.to_wire())))
    }),
    Case::new(30, Profile::D, "a failed write takes a zxid", "-110 at Z+1", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let z = c.z()?;
        let r = c.create(p, b"")?;
        Ok(format!("{} at {}", r.err, rel(z, r.zxid)))
    }),
    Case::new(31, Profile::D, "a new session takes a zxid", "Z+1", |t| {
        let mut c = t.client()?;
        let z = c.z()?;
        t.client()?;
        Ok(rel(z, c.z()?))
    }),
    Case::new(
        32,
        Profile::D,
        "opcodes 99, 0, 13, 10, -1",
        "99: -6 at -1 with 0 bytes, close; 0: -6 at -1 with 0 bytes, close; 13: -6 at -1 with 0 bytes, close; 10: -6 at \
         -1 with 0 bytes, close; -1: -6 at -1 with 0 bytes, close",
        |t| {
            let mut got = Vec::new();
            for op in [99, 0, 13, 10, -1] {
                got.push(format!("{op}: {}", one_shot(t, op, body())?));
            }
            Ok(got.join("; "))
        },
    ),
    Case::new(33, Profile::D, "getData with an empty body", "-5 at Z with 0 bytes, open", |t| {
        one_shot(t, OpCode::GetData.code(), body())
    }),
    Case::new(34, Profile::D, "a watch byte of 5 is true", "0; 3(p)", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let err = c.err(OpCode::Exists, body().s(&p).z(5))?;
        c.set(&p, b"x", -1)?.ok()?;
        Ok(format!("{err}; {}", t.events(&mut c)?))
    }),
    Case::new(35, Profile::D, "bytes behind the record are ignored", "0", |t| {
        Ok(t.client()?.err(OpCode::GetData, body().s("/").z(0).raw(b"more"))?.to_string())
    }),
    Case::new(36, Profile::D, "a path length of -2", "-5 at Z with 0 bytes, open", |t| {
        one_shot(t, OpCode::GetData.code(), body().i(-2).z(0))
    }),
    Case::new(
        37,
        Profile::D,
        "null path: exists, getData, getChildren, getACL, delete, create, setData, sync",
        "-5, -5, -5, -5, -5, -5, -8, 0; sync's body ffffffff",
        |t| {
            let mut c = t.client()?;
            let mut got = Vec::new();
            for (op, request) in [
                (OpCode::Exists, body().null().z(0)),
                (OpCode::GetData, body().null().z(0)),
                (OpCode::GetChildren, body().null().z(0)),
                (OpCode::GetAcl, body().null()),
                (OpCode::Delete, body().null().i(-1)),
                (OpCode::Create, body().null().s(b"").acl(crate::enc::OPEN).i(0)),
                (OpCode::SetData, body().null().s(b"").i(-1)),
            ] {
                got.push(c.err(op, request)?);
            }
            let sync = c.call(OpCode::Sync, body().null())?;
            got.push(sync.err);
            let hex: String = sync.body.iter().map(|b| format!("{b:02x}")).collect();
            Ok(format!("{}; sync's body {hex}", list(got)))
        },
    ),
    Case::new(38, Profile::D, "50 creates and exists in one go", "100 replies in order, 100 succeed", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let mut xids = Vec::new();
        for i in 0..50 {
            let path = format!("{p}/{i}");
            xids.push(c.send(OpCode::Create.code(), body().create(&path, b"", 0))?);
            xids.push(c.send(OpCode::Exists.code(), body().s(&path).z(0))?);
        }
        let (mut in_order, mut good) = (0, 0);
        for xid in xids {
            let r = c.reply()?;
            in_order += usize::from(r.xid == xid);
            good += usize::from(r.err == 0);
        }
        Ok(format!("{in_order} replies in order, {good} succeed"))
    }),
    Case::new(39, Profile::D, "closeSession", "xid 9 err 0 at Z+1 with 0 bytes, close", |t| {
        let mut c = t.client()?;
        let z = c.z()?;
        c.send_as(9, OpCode::CloseSession.code(), body())?;
        let r = c.reply()?;
        let end = c.answer(PATIENCE)?;
        Ok(format!("xid {} err {} at {} with {} bytes, {end}", r.xid, r.err, rel(z, r.zxid), r.body.len()))
    }),
    Case::new(40, Profile::D, "closeSession and exists in one write", "xid 1 err 0, close", |t| {
        let mut c = t.client()?;
        let close = body().i(1).i(OpCode::CloseSession.code()).0;
        let exists = body().i(2).i(OpCode::Exists.code()).s("/").z(0).0;
        c.conn.send(&[crate::raw::framed(&close), crate::raw::framed(&exists)].concat())?;
        let r = c.reply()?;
        Ok(format!("xid {} err {}, {}", r.xid, r.err, c.answer(PATIENCE)?))
    }),
    Case::new(41, Profile::D, "sasl without SASL configured", "0 at 0, body ffffffff, open", |t| {
        let mut c = t.client()?;
        let z = c.z()?;
        let r = c.call(OpCode::Sasl, body().s(b""))?;
        let hex: String = r.body.iter().map(|b| format!("{b:02x}")).collect();
        Ok(format!("{} at {}, body {hex}, {}", r.err, rel(z, r.zxid), c.state()?))
    }),
];
