//! E: multi and multiRead.

use crate::case::{Case, Ctx, Profile, list, rel};
use crate::enc::{Body, OPEN, body};
use crate::raw::{Client, Reply};
use anyhow::{Context as _, Result, bail, ensure};
use farrier_proto::multi::MultiHeader;
use farrier_proto::{Field as _, OpCode, Stat};

/// The results of a multi or multiRead: `type/err` with what the body tells, then `end`.
fn results(t: &Ctx<'_>, r: &Reply) -> Result<String> {
    if r.err != 0 {
        ensure!(r.body.is_empty(), "an error with a body");
        return Ok(format!("header {}", r.err));
    }
    let mut reader = r.reader();
    let mut got = Vec::new();
    loop {
        let h = MultiHeader::read(&mut reader)?;
        if h.done {
            ensure!(reader.is_empty(), "bytes behind the terminator");
            ensure!(h.op == -1 && h.err == -1, "the terminator is {h:?}");
            got.push("end".to_owned());
            return Ok(got.join(" "));
        }
        let detail = match h.op {
            -1 => format!("={}", reader.i32()?),
            1 => format!(":{}", t.short(&reader.string()?.context("null path")?)),
            15 => {
                let path = t.short(&reader.string()?.context("null path")?);
                let stat = Stat::read(&mut reader)?;
                ensure!(stat.czxid.to_wire() == r.zxid, "the stat's czxid is not the header's zxid");
                format!(":{path}")
            }
            2 | 13 => String::new(),
            5 => {
                let stat = Stat::read(&mut reader)?;
                ensure!(stat.mzxid.to_wire() == r.zxid, "the stat's mzxid is not the header's zxid");
                format!(":v{}", stat.version)
            }
            4 => {
                let data = reader.buffer()?.map(String::from_utf8_lossy);
                Stat::read(&mut reader)?;
                format!(":{}", data.as_deref().unwrap_or("null"))
            }
            8 => {
                let n = reader.count()?.context("a null vector")?;
                let mut names = Vec::new();
                for _ in 0..n {
                    names.push(reader.string()?.context("a null name")?.into_owned());
                }
                format!(":[{}]", names.join(" "))
            }
            other => bail!("a result of type {other}"),
        };
        got.push(format!("{}/{}{detail}", h.op, h.err));
    }
}

fn multi(t: &Ctx<'_>, c: &mut Client, ops: Body) -> Result<String> {
    let r = c.call(OpCode::Multi, ops)?;
    results(t, &r)
}

fn multi_read(t: &Ctx<'_>, c: &mut Client, ops: Body) -> Result<String> {
    let r = c.call(OpCode::MultiRead, ops)?;
    results(t, &r)
}

pub(super) const CASES: &[Case] = &[
    Case::new(
        100,
        Profile::D,
        "multi[create a, create2 b, setData p, check p, delete a]",
        "1/0:p/a 15/0:p/b 5/0:v1 13/0 2/0 end at Z+1; p has b",
        |t| {
            let mut c = t.client()?;
            let p = t.p(&mut c)?;
            let z = c.z()?;
            let ops = body()
                .op(1)
                .create(format!("{p}/a"), b"", 0)
                .op(15)
                .create(format!("{p}/b"), b"", 0)
                .op(5)
                .s(&p)
                .s(b"x")
                .i(0)
                .op(13)
                .s(&p)
                .i(1)
                .op(2)
                .s(format!("{p}/a"))
                .i(-1)
                .end();
            let r = c.call(OpCode::Multi, ops)?;
            Ok(format!("{} at {}; p has {}", results(t, &r)?, rel(z, r.zxid), list(c.children(&p, false)?.names()?)))
        },
    ),
    Case::new(
        101,
        Profile::D,
        "a multi whose second operation fails",
        "-1/0=0 -1/-101=-101 -1/-2=-2 -1/-2=-2 end at Z+1; then Z+1, p/a -101, version 0",
        |t| {
            let mut c = t.client()?;
            let p = t.p(&mut c)?;
            let z = c.z()?;
            let ops = body()
                .op(1)
                .create(format!("{p}/a"), b"", 0)
                .op(2)
                .s(format!("{p}/none"))
                .i(-1)
                .op(5)
                .s(&p)
                .s(b"x")
                .i(-1)
                .op(13)
                .s(&p)
                .i(0)
                .end();
            let r = c.call(OpCode::Multi, ops)?;
            let after = rel(z, c.z()?);
            let a = c.exists(format!("{p}/a"), false)?.err;
            let version = c.stat(&p)?.version;
            Ok(format!("{} at {}; then {after}, p/a {a}, version {version}", results(t, &r)?, rel(z, r.zxid)))
        },
    ),
    Case::new(102, Profile::D, "an empty multi", "end at Z+1", |t| {
        let mut c = t.client()?;
        let z = c.z()?;
        let r = c.call(OpCode::Multi, body().end())?;
        Ok(format!("{} at {}", results(t, &r)?, rel(z, r.zxid)))
    }),
    Case::new(103, Profile::D, "check of p 7, p -1, /nope 0", "-1/-103=-103 end; 13/0 end; -1/-101=-101 end", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let mut got = Vec::new();
        for (path, version) in [(p.as_str(), 7), (&p, -1), ("/nope", 0)] {
            got.push(multi(t, &mut c, body().op(13).s(path).i(version).end())?);
        }
        Ok(got.join("; "))
    }),
    Case::new(104, Profile::D, "operations see those before them", "1/0:p/d 1/0:p/d/e 2/0 2/0 end", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let (d, e) = (format!("{p}/d"), format!("{p}/d/e"));
        let ops = body().op(1).create(&d, b"", 0).op(1).create(&e, b"", 0).op(2).s(&e).i(-1).op(2).s(&d).i(-1);
        multi(t, &mut c, ops.end())
    }),
    Case::new(
        105,
        Profile::D,
        "a failed multi gives its sequence numbers back",
        "-1/0=0 -1/0=0 -1/-101=-101 end; p/s-0000000000",
        |t| {
            let mut c = t.client()?;
            let p = t.p(&mut c)?;
            let s = format!("{p}/s-");
            let ops = body().op(1).create(&s, b"", 2).op(1).create(&s, b"", 2).op(2).s("/nope").i(-1).end();
            let failed = multi(t, &mut c, ops)?;
            Ok(format!("{failed}; {}", t.short(&c.create_flags(&s, b"", 2)?.path()?)))
        },
    ),
    Case::new(106, Profile::D, "sequential creates in a multi", "1/0:p/s-0000000000 1/0:p/s-0000000001 end", |t| {
        let mut c = t.client()?;
        let s = format!("{}/s-", t.p(&mut c)?);
        multi(t, &mut c, body().op(1).create(&s, b"", 2).op(1).create(&s, b"", 2).end())
    }),
    Case::new(107, Profile::D, "createContainer in a multi", "15/0:p/c end", |t| {
        let mut c = t.client()?;
        let path = format!("{}/c", t.p(&mut c)?);
        multi(t, &mut c, body().op(19).create(path, b"", 4).end())
    }),
    Case::new(108, Profile::X, "createTTL in a multi", "15/0:p/t end", |t| {
        let mut c = t.client()?;
        let path = format!("{}/t", t.p(&mut c)?);
        multi(t, &mut c, body().op(21).s(path).s(b"").acl(OPEN).i(5).l(60_000).end())
    }),
    Case::new(
        109,
        Profile::D,
        "undecodable multis: flags 9, null ACL, setACL, getData, create with getData",
        "header -5, header -5, header -5, header -5, header -5, open",
        |t| {
            let mut c = t.client()?;
            let p = t.p(&mut c)?;
            let a = format!("{p}/a");
            let mut got = Vec::new();
            for ops in [
                body().op(1).create(&a, b"", 9),
                body().op(1).s(&a).s(b"").null().i(0),
                body().op(7).s(&p).acl(OPEN).i(-1),
                body().op(4).s(&p).z(0),
                body().op(1).create(&a, b"", 0).op(4).s(&p).z(0),
            ] {
                got.push(multi(t, &mut c, ops.end())?);
            }
            got.push(c.state()?.to_owned());
            Ok(list(got))
        },
    ),
    Case::new(962, Profile::X, "createTTL with flags 9 in a multi", "-1/0=0 -1/-8=-8 -1/-2=-2 end", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let ops = body().op(1).create(format!("{p}/a"), b"", 0);
        let ops = ops.op(21).s(format!("{p}/t")).s(b"").acl(OPEN).i(9).l(60_000);
        multi(t, &mut c, ops.op(2).s(&p).i(-1).end())
    }),
    Case::new(110, Profile::D, "an empty ACL in a multi", "-1/-114=-114 end", |t| {
        let mut c = t.client()?;
        let a = format!("{}/a", t.p(&mut c)?);
        multi(t, &mut c, body().op(1).s(a).s(b"").i(0).i(0).end())
    }),
    Case::new(111, Profile::D, "a multi without terminator, and one without a body", "header -5, header -5", |t| {
        let mut c = t.client()?;
        let a = format!("{}/a", t.p(&mut c)?);
        let x = multi(t, &mut c, body().op(1).create(a, b"", 0))?;
        let y = multi(t, &mut c, body())?;
        Ok(list([x, y]))
    }),
    Case::new(112, Profile::D, "a multiRead goes on after an error", "4/0:x 8/0:[k] -1/-101=-101 8/0:[k] end", |t| {
        let mut c = t.client()?;
        let p = t.base();
        c.create(&p, b"x")?.ok()?;
        c.create(format!("{p}/k"), b"")?.ok()?;
        let ops = body().op(4).s(&p).z(0).op(8).s(&p).z(0).op(4).s("/nope").z(0).op(8).s(&p).z(0).end();
        multi_read(t, &mut c, ops)
    }),
    Case::new(113, Profile::D, "a multiRead leaves no watch", "4/0: end; none", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let r = multi_read(t, &mut c, body().op(4).s(&p).z(1).end())?;
        c.set(&p, b"x", -1)?.ok()?;
        Ok(format!("{r}; {}", t.quiet(&mut c)?))
    }),
    // Apache's -5 carries an empty result list behind it, so only the codes are compared.
    Case::new(114, Profile::D, "multiRead of exists, and of delete", "-5, -5, open", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let a = c.err(OpCode::MultiRead, body().op(3).s(&p).z(0).end())?;
        let b = c.err(OpCode::MultiRead, body().op(2).s(&p).i(-1).end())?;
        Ok(format!("{a}, {b}, {}", c.state()?))
    }),
    Case::new(115, Profile::D, "an empty multiRead", "end at Z; then Z", |t| {
        let mut c = t.client()?;
        let z = c.z()?;
        let r = c.call(OpCode::MultiRead, body().end())?;
        Ok(format!("{} at {}; then {}", results(t, &r)?, rel(z, r.zxid), rel(z, c.z()?)))
    }),
    Case::new(116, Profile::D, "an ephemeral parent that is not applied yet", "-1/0=0 -1/-108=-108 end", |t| {
        let mut c = t.client()?;
        let e = t.base();
        multi(t, &mut c, body().op(1).create(&e, b"", 1).op(1).create(format!("{e}/k"), b"", 0).end())
    }),
];
