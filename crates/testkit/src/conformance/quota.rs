//! K: quotas.

use crate::case::{Case, Ctx, Profile, list, yes};
use crate::enc::body;
use crate::raw::Client;
use anyhow::{Context as _, Result};
use farrier_proto::OpCode;
use farrier_proto::multi::MultiHeader;
use farrier_proto::{Field as _, Reader};

/// Creates `p` with the child `a` of five bytes, and a quota on it.
fn with_quota(t: &Ctx<'_>, c: &mut Client, limits: &str) -> Result<String> {
    let p = t.p(c)?;
    c.create(format!("{p}/a"), b"12345")?.ok()?;
    let node = format!("/zookeeper/quota{p}");
    c.create(&node, b"")?.ok()?;
    c.create(format!("{node}/zookeeper_limits"), limits.as_bytes())?.ok()?;
    c.create(format!("{node}/zookeeper_stats"), b"count=0,bytes=0")?.ok()?;
    Ok(p)
}

fn stats_path(t: &Ctx<'_>) -> String {
    format!("/zookeeper/quota{}/zookeeper_stats", t.base())
}

fn stats(t: &Ctx<'_>, c: &mut Client) -> Result<String> {
    Ok(String::from_utf8_lossy(&c.get(stats_path(t), false)?.data()?.unwrap_or_default()).into_owned())
}

const NO_LIMITS: &str = "count=-1,bytes=-1";

pub(super) const CASES: &[Case] = &[
    Case::new(195, Profile::S, "the stats node gets the real totals", "count=2,bytes=5", |t| {
        let mut c = t.client()?;
        with_quota(t, &mut c, NO_LIMITS)?;
        stats(t, &mut c)
    }),
    Case::new(196, Profile::S, "a hard limit of three nodes", "0 count=3,bytes=5, -125", |t| {
        let mut c = t.client()?;
        let p = with_quota(t, &mut c, "count=-1,bytes=-1=;countHardLimit=3")?;
        let b = c.create(format!("{p}/b"), b"")?.err;
        let s = stats(t, &mut c)?;
        Ok(format!("{b} {s}, {}", c.create(format!("{p}/c"), b"")?.err))
    }),
    Case::new(
        197,
        Profile::S,
        "a hard limit of 12 bytes: 12, 13, 13 with a wrong version, 1",
        "0, -125, -125, 0",
        |t| {
            let mut c = t.client()?;
            let a = with_quota(t, &mut c, "count=-1,bytes=-1=;byteHardLimit=12")? + "/a";
            Ok(list([
                c.set(&a, &[b'x'; 12], -1)?.err,
                c.set(&a, &[b'x'; 13], -1)?.err,
                c.set(&a, &[b'x'; 13], 99)?.err,
                c.set(&a, b"x", -1)?.err,
            ]))
        },
    ),
    Case::new(198, Profile::S, "soft limits only log", "0", |t| {
        let mut c = t.client()?;
        let p = with_quota(t, &mut c, "count=1,bytes=1")?;
        Ok(c.create(format!("{p}/c"), &[b'x'; 100])?.err.to_string())
    }),
    Case::new(199, Profile::D, "a hard limit that is not enforced", "0, count=3,bytes=5", |t| {
        let mut c = t.client()?;
        let p = with_quota(t, &mut c, "count=-1,bytes=-1=;countHardLimit=1")?;
        let err = c.create(format!("{p}/b"), b"")?.err;
        Ok(format!("{err}, {}", stats(t, &mut c)?))
    }),
    Case::new(200, Profile::S, "a multi at the limit: delete a, create b", "0, -125", |t| {
        let mut c = t.client()?;
        let p = with_quota(t, &mut c, "count=-1,bytes=-1=;countHardLimit=2")?;
        let ops = body().op(2).s(format!("{p}/a")).i(-1).op(1).create(format!("{p}/b"), b"", 0).end();
        let r = c.call(OpCode::Multi, ops)?.ok()?;
        let mut reader: Reader<'_> = r.reader();
        let mut got = Vec::new();
        loop {
            let h = MultiHeader::read(&mut reader)?;
            if h.done {
                return Ok(list(got));
            }
            got.push(if h.op == -1 { reader.i32()? } else { 0 });
            if h.op == 1 {
                reader.string()?.context("a null path")?;
            }
        }
    }),
    Case::new(
        201,
        Profile::D,
        "the stats change silently",
        "count=3,bytes=5, none, version and mzxid unchanged yes",
        |t| {
            let mut c = t.client()?;
            let p = with_quota(t, &mut c, NO_LIMITS)?;
            let before = c.get(stats_path(t), true)?.stat()?;
            c.create(format!("{p}/b"), b"")?.ok()?;
            let events = t.quiet(&mut c)?;
            let after = c.stat(stats_path(t))?;
            let same = (before.version, before.mzxid) == (after.version, after.mzxid);
            Ok(format!("{}, {events}, version and mzxid unchanged {}", stats(t, &mut c)?, yes(same)))
        },
    ),
    Case::new(202, Profile::D, "without limits the stats stay", "count=2,bytes=5", |t| {
        let mut c = t.client()?;
        let p = with_quota(t, &mut c, NO_LIMITS)?;
        c.delete(format!("/zookeeper/quota{p}/zookeeper_limits"), -1)?.ok()?;
        c.create(format!("{p}/b"), b"")?.ok()?;
        stats(t, &mut c)
    }),
];
