//! I: authentication and access control lists.

use crate::case::{Case, Ctx, Profile, list, rel, yes};
use crate::enc::{AclEntry, Body, OPEN, body};
use crate::raw::{Answer, Client, Connect, PATIENCE, Reply};
use anyhow::{Context as _, Result};
use farrier_proto::OpCode;

/// The digest identity of `bob:pw`.
const BOB: &str = "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=";

/// The list in getACL's reply as `perms scheme:id`, or the error.
pub(super) fn acl_of(r: &Reply) -> Result<String> {
    if r.err != 0 {
        return Ok(r.err.to_string());
    }
    let mut reader = r.reader();
    let n = reader.count()?.context("a null list")?;
    let mut got = Vec::new();
    for _ in 0..n {
        let perms = reader.i32()?;
        let scheme = reader.string()?.context("a null scheme")?;
        let id = reader.string()?.context("a null id")?;
        got.push(format!("{perms} {scheme}:{id}"));
    }
    Ok(list(got))
}

fn bob(t: &Ctx<'_>) -> Result<Client> {
    let mut c = t.client()?;
    c.auth("digest", "bob:pw")?.ok()?;
    Ok(c)
}

/// The error codes of creates with these lists, on the case's node with a number behind it.
fn with_acls(t: &Ctx<'_>, c: &mut Client, entries: &[AclEntry<'_>]) -> Result<String> {
    let mut got = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        got.push(c.create_acl(format!("{}-{i}", t.base()), &[*entry])?.err);
    }
    Ok(list(got))
}

/// `xid, err, zxid, number of body bytes` of an auth request sent with xid -4, and the connection's state.
fn auth_raw(t: &Ctx<'_>, request: Body) -> Result<String> {
    let mut c = t.client()?;
    let z = c.z()?;
    c.send_as(-4, OpCode::Auth.code(), request)?;
    Ok(match c.answer(PATIENCE)? {
        Answer::Reply(r) => format!("xid {} err {} at {}, {}", r.xid, r.err, rel(z, r.zxid), c.answer(PATIENCE)?),
        other => other.to_string(),
    })
}

/// A refused request on a connection that enforces authentication.
fn refused(t: &Ctx<'_>, xid: i32, op: i32, request: Body) -> Result<String> {
    let mut c = t.client()?;
    c.send_as(xid, op, request)?;
    Ok(match c.answer(PATIENCE)? {
        Answer::Reply(r) => format!("xid {} err {} at {}, {}", r.xid, r.err, r.zxid, c.answer(PATIENCE)?),
        other => other.to_string(),
    })
}

pub(super) const CASES: &[Case] = &[
    Case::new(156, Profile::D, "whoAmI", "ip:127.0.0.1", |t| Ok(list(t.client()?.who_am_i()?))),
    Case::new(157, Profile::D, "auth digest", "xid -4 err 0 at 0 with 0 bytes; digest:bob, ip:127.0.0.1", |t| {
        let mut c = t.client()?;
        let r = c.auth("digest", "bob:pw")?;
        let who = list(c.who_am_i()?);
        Ok(format!("xid {} err {} at {} with {} bytes; {who}", r.xid, r.err, r.zxid, r.body.len()))
    }),
    Case::new(158, Profile::D, "auth with an ordinary xid", "5", |t| {
        let mut c = t.client()?;
        c.send_as(5, OpCode::Auth.code(), body().i(0).s("digest").s("bob:pw"))?;
        Ok(c.reply()?.ok()?.xid.to_string())
    }),
    Case::new(
        159,
        Profile::D,
        "auth with scheme nosuch, scheme sasl, null data",
        "xid -4 err -115 at 0, close; xid -4 err -115 at 0, close; xid -4 err -115 at 0, close",
        |t| {
            let mut got = Vec::new();
            for request in
                [body().i(0).s("nosuch").s("x"), body().i(0).s("sasl").s("x"), body().i(0).s("digest").null()]
            {
                got.push(auth_raw(t, request)?);
            }
            Ok(got.join("; "))
        },
    ),
    Case::new(160, Profile::D, "auth with an empty body", "close", |t| auth_raw(t, body())),
    Case::new(161, Profile::D, "the scheme auth", "31 digest:bob:ikIaKsbtGweaHnb/jKn7OHqbunM=", |t| {
        let mut c = bob(t)?;
        c.create_acl(t.base(), &[(31, "auth", "ignored")])?.ok()?;
        acl_of(&c.get_acl(t.base())?)
    }),
    Case::new(162, Profile::D, "the scheme auth with two identities", "31 digest:ann:, 31 digest:bob:", |t| {
        let mut c = bob(t)?;
        c.auth("digest", "ann:pw")?.ok()?;
        c.create_acl(t.base(), &[(31, "auth", "")])?.ok()?;
        let acl = acl_of(&c.get_acl(t.base())?)?;
        let mut users: Vec<&str> = acl.split(", ").map(|e| e.rfind(':').map_or(e, |at| &e[..=at])).collect();
        users.sort_unstable();
        Ok(list(users))
    }),
    Case::new(163, Profile::D, "the scheme auth without any", "-114", |t| {
        Ok(t.client()?.create_acl(t.base(), &[(31, "auth", "")])?.err.to_string())
    }),
    Case::new(
        164,
        Profile::D,
        "ids foo:x, digest:x, x:y:z, x:, :y, world:nobody, null scheme, super:, sasl:x, x509:CN=a",
        "-114, -114, -114, -114, 0, -114; -114; -114, -114, -114",
        |t| {
            let mut c = t.client()?;
            let a = with_acls(
                t,
                &mut c,
                &[
                    (31, "foo", "x"),
                    (31, "digest", "x"),
                    (31, "digest", "x:y:z"),
                    (31, "digest", "x:"),
                    (31, "digest", ":y"),
                    (31, "world", "nobody"),
                ],
            )?;
            let null = body().s(format!("{}-null", t.base())).s(b"").i(1).i(31).null().s("anyone").i(0);
            let b = c.err(OpCode::Create, null)?;
            let d = with_acls(t, &mut c, &[(31, "super", ""), (31, "sasl", "x"), (31, "x509", "CN=a")])?;
            Ok(format!("{a}; {b}; {d}"))
        },
    ),
    Case::new(
        165,
        Profile::D,
        "ip ids 10.0.0.0/8, 1.2.3, 1.2.3.4/33, ::1, ::1/64, localhost, empty",
        "0, -114, -114, 0, 0, -114, -114",
        |t| {
            let ids = ["10.0.0.0/8", "1.2.3", "1.2.3.4/33", "::1", "::1/64", "localhost", ""];
            with_acls(t, &mut t.client()?, &ids.map(|id| (31, "ip", id)))
        },
    ),
    Case::new(166, Profile::D, "a null id", "-5", |t| {
        let request = body().s(t.base()).s(b"").i(1).i(31).s("world").null().i(0);
        Ok(t.client()?.err(OpCode::Create, request)?.to_string())
    }),
    // The node with perms 0 can't be read by anybody, so it keeps ADMIN for one address.
    Case::new(
        167,
        Profile::D,
        "perms 0, 64, -1 are kept",
        "0 world:anyone, 16 ip:127.0.0.1; 64 world:anyone, 16 ip:127.0.0.1; -1 world:anyone, 16 ip:127.0.0.1",
        |t| {
            let mut c = t.client()?;
            let mut got = Vec::new();
            for perms in [0, 64, -1] {
                let path = format!("{}-{}", t.base(), got.len());
                c.create_acl(&path, &[(perms, "world", "anyone"), (16, "ip", "127.0.0.1")])?.ok()?;
                got.push(acl_of(&c.get_acl(&path)?)?);
            }
            Ok(got.join("; "))
        },
    ),
    Case::new(168, Profile::D, "duplicate entries", "31 world:anyone, 1 ip:1.2.3.4", |t| {
        let mut c = t.client()?;
        let x = (31, "world", "anyone");
        c.create_acl(t.base(), &[x, x, (1, "ip", "1.2.3.4")])?.ok()?;
        acl_of(&c.get_acl(t.base())?)
    }),
    Case::new(
        169,
        Profile::D,
        "READ alone: exists, getData, getChildren, getChildren2, getACL, count; setData, create, setACL",
        "0, 0, 0, 0, 0, 0; -102, -102, -102",
        |t| {
            let mut c = t.client()?;
            let n = t.base();
            c.create_acl(&n, &[(1, "world", "anyone")])?.ok()?;
            let reads = [
                c.exists(&n, false)?.err,
                c.get(&n, false)?.err,
                c.children(&n, false)?.err,
                c.children2(&n)?.err,
                c.get_acl(&n)?.err,
                c.count(&n)?.err,
            ];
            let writes = [c.set(&n, b"", -1)?.err, c.create(format!("{n}/k"), b"")?.err, c.set_acl(&n, OPEN, -1)?.err];
            Ok(format!("{}; {}", list(reads), list(writes)))
        },
    ),
    Case::new(
        170,
        Profile::D,
        "WRITE alone: setData; exists, getData, getChildren, getACL; check in a multi",
        "0; -102, -102, -102, -102; -102",
        |t| {
            let mut c = t.client()?;
            let n = t.base();
            c.create_acl(&n, &[(2, "world", "anyone")])?.ok()?;
            let write = c.set(&n, b"", -1)?.err;
            let reads =
                [c.exists(&n, false)?.err, c.get(&n, false)?.err, c.children(&n, false)?.err, c.get_acl(&n)?.err];
            let r = c.call(OpCode::Multi, body().op(13).s(&n).i(-1).end())?.ok()?;
            let mut reader = r.reader();
            reader.take(9, "header")?;
            Ok(format!("{write}; {}; {}", list(reads), reader.i32()?))
        },
    ),
    Case::new(171, Profile::D, "CREATE alone: create and delete a child", "0, -102", |t| {
        let mut c = t.client()?;
        let n = t.base();
        c.create_acl(&n, &[(4, "world", "anyone")])?.ok()?;
        let k = format!("{n}/k");
        Ok(list([c.create(&k, b"")?.err, c.delete(&k, -1)?.err]))
    }),
    Case::new(
        172,
        Profile::D,
        "ADMIN alone: getACL, setACL, getData",
        "16 world:anyone, 31 digest:a:b; 0; -102",
        |t| {
            let mut c = t.client()?;
            let n = t.base();
            let acl = [(16, "world", "anyone"), (31, "digest", "a:b")];
            c.create_acl(&n, &acl)?.ok()?;
            let shown = acl_of(&c.get_acl(&n)?)?;
            let set = c.set_acl(&n, &acl, -1)?.err;
            Ok(format!("{shown}; {set}; {}", c.get(&n, false)?.err))
        },
    ),
    Case::new(173, Profile::D, "delete of a node with perms 0", "0", |t| {
        let mut c = t.client()?;
        c.create_acl(t.base(), &[(0, "world", "anyone")])?.ok()?;
        Ok(c.delete(t.base(), -1)?.err.to_string())
    }),
    Case::new(
        174,
        Profile::D,
        "delete without the parent's DELETE: present, missing, version 99",
        "-102, -102, -102",
        |t| {
            let mut b = bob(t)?;
            let q = t.base();
            b.create_acl(&q, &[(1, "world", "anyone"), (31, "auth", "")])?.ok()?;
            b.create(format!("{q}/k"), b"")?.ok()?;
            let mut c = t.client()?;
            let (k, zz) = (format!("{q}/k"), format!("{q}/zz"));
            Ok(list([c.delete(&k, -1)?.err, c.delete(&zz, -1)?.err, c.delete(&k, 99)?.err]))
        },
    ),
    Case::new(
        175,
        Profile::D,
        "getACL by somebody, and by bob",
        "1 world:anyone, 31 digest:bob:x, 5 ip:127.0.0.1; 1 world:anyone, 31 \
         digest:bob:ikIaKsbtGweaHnb/jKn7OHqbunM=, 5 ip:127.0.0.1",
        |t| {
            let (mut c, mut b) = (t.client()?, bob(t)?);
            let n = t.base();
            c.create_acl(&n, &[(1, "world", "anyone"), (31, "digest", BOB), (5, "ip", "127.0.0.1")])?.ok()?;
            Ok(format!("{}; {}", acl_of(&c.get_acl(&n)?)?, acl_of(&b.get_acl(&n)?)?))
        },
    ),
    Case::new(176, Profile::D, "create below ip 127.0.0.1, 127.0.0.0/8, 10.0.0.0/8", "0, 0, -102", |t| {
        let mut c = t.client()?;
        let mut got = Vec::new();
        for id in ["127.0.0.1", "127.0.0.0/8", "10.0.0.0/8"] {
            let path = format!("{}-{}", t.base(), got.len());
            c.create_acl(&path, &[(4, "ip", id)])?.ok()?;
            got.push(c.create(format!("{path}/k"), b"")?.err);
        }
        Ok(list(got))
    }),
    Case::new(
        177,
        Profile::D,
        "setACL with version 5, 0, 0, -1",
        "-103; aversion 1, rest unchanged yes; -103; aversion 2",
        |t| {
            let mut c = t.client()?;
            let p = t.p(&mut c)?;
            let before = c.stat(&p)?;
            let a = c.set_acl(&p, OPEN, 5)?.err;
            let b = c.set_acl(&p, OPEN, 0)?.stat()?;
            let d = c.set_acl(&p, OPEN, 0)?.err;
            let e = c.set_acl(&p, OPEN, -1)?.stat()?;
            let same = (before.version, before.mzxid, before.mtime) == (b.version, b.mzxid, b.mtime);
            Ok(format!("{a}; aversion {}, rest unchanged {}; {d}; aversion {}", b.aversion, yes(same), e.aversion))
        },
    ),
    Case::new(
        178,
        Profile::D,
        "setACL of /nope with an invalid scheme, of /nope, of p/, of p with an empty list",
        "-114, -101, -8, -114",
        |t| {
            let mut c = t.client()?;
            let p = t.p(&mut c)?;
            Ok(list([
                c.set_acl("/nope", &[(31, "foo", "x")], -1)?.err,
                c.set_acl("/nope", OPEN, -1)?.err,
                c.set_acl(format!("{p}/"), OPEN, -1)?.err,
                c.set_acl(&p, &[], -1)?.err,
            ]))
        },
    ),
    Case::new(
        179,
        Profile::S,
        "the super user: auth, whoAmI, getData with perms 0, setData of /zookeeper/config",
        "0; digest:super, ip:127.0.0.1, super:; 0; 0",
        |t| {
            let mut c = t.client()?;
            c.create_acl(t.base(), &[(0, "world", "anyone")])?.ok()?;
            let a = c.auth("digest", "super:admin")?.err;
            let who = list(c.who_am_i()?);
            let b = c.get(t.base(), false)?.err;
            Ok(format!("{a}; {who}; {b}; {}", c.set("/zookeeper/config", b"", -1)?.err))
        },
    ),
    Case::new(180, Profile::S, "getACL by the super user", "31 digest:bob:ikIaKsbtGweaHnb/jKn7OHqbunM=", |t| {
        let mut c = t.client()?;
        c.create_acl(t.base(), &[(31, "digest", BOB)])?.ok()?;
        c.auth("digest", "super:admin")?.ok()?;
        acl_of(&c.get_acl(t.base())?)
    }),
    Case::new(
        181,
        Profile::K,
        "skipACL: getData and setData with perms 0, create with invalid and empty ACL",
        "0 0, -114, -114",
        |t| {
            let mut c = t.client()?;
            let p = t.base();
            c.create_acl(&p, &[(0, "world", "anyone")])?.ok()?;
            let (a, b) = (c.get(&p, false)?.err, c.set(&p, b"", -1)?.err);
            let d = c.create_acl(format!("{p}x"), &[(31, "foo", "x")])?.err;
            Ok(format!("{a} {b}, {d}, {}", c.create_acl(format!("{p}x"), &[])?.err))
        },
    ),
    Case::new(182, Profile::D, "a filtered event uses the watch up", "none; -121", |t| {
        let (mut c, mut b) = (t.client()?, bob(t)?);
        let n = t.base();
        c.exists(&n, true)?;
        b.create_acl(&n, &[(31, "auth", "")])?.ok()?;
        b.delete(&n, -1)?.ok()?;
        b.create(&n, b"")?.ok()?;
        Ok(format!("{}; {}", t.quiet(&mut c)?, c.check_watches(&n, 2)?.err))
    }),
    Case::new(183, Profile::D, "a recursive watch hears nothing that it may not read", "none", |t| {
        let (mut c, mut b) = (t.client()?, bob(t)?);
        let p = t.p(&mut c)?;
        let n = format!("{p}/n");
        c.add_watch(&p, 1)?.ok()?;
        b.create_acl(&n, &[(31, "auth", "")])?.ok()?;
        b.set(&n, b"x", -1)?.ok()?;
        b.delete(&n, -1)?.ok()?;
        t.quiet(&mut c)
    }),
    Case::new(184, Profile::D, "exists that is not permitted leaves no watch", "-102, -121", |t| {
        let (mut c, mut b) = (t.client()?, bob(t)?);
        let n = t.base();
        b.create_acl(&n, &[(31, "auth", "")])?.ok()?;
        Ok(list([c.exists(&n, true)?.err, c.check_watches(&n, 2)?.err]))
    }),
    Case::new(185, Profile::D, "identities end with their connection", "ip:127.0.0.1", |t| {
        let c1 = bob(t)?;
        Ok(list(t.again(&c1)?.who_am_i()?))
    }),
    Case::new(186, Profile::E, "enforced authentication: ping", "xid -2 err -124 at 0, close", |t| {
        refused(t, -2, OpCode::Ping.code(), body())
    }),
    Case::new(
        187,
        Profile::E,
        "enforced authentication: getData, closeSession, opcode 99",
        "xid 1 err -124 at 0, close; xid 1 err -124 at 0, close; xid 1 err -124 at 0, close",
        |t| {
            let mut got = Vec::new();
            for (op, request) in
                [(OpCode::GetData.code(), body().s("/").z(0)), (OpCode::CloseSession.code(), body()), (99, body())]
            {
                got.push(refused(t, 1, op, request)?);
            }
            Ok(got.join("; "))
        },
    ),
    Case::new(188, Profile::E, "enforced authentication, given", "0, 0", |t| {
        let mut c = t.connect(&Connect::default())?;
        Ok(list([c.auth("digest", "u:p")?.err, c.get("/", false)?.err]))
    }),
];
