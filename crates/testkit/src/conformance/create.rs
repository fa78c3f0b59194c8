//! C: create, create2, createContainer, createTTL, sequential names.

use crate::case::{Case, Ctx, Profile, list, rel, yes};
use crate::enc::{Body, OPEN, body};
use crate::raw::{Client, Reply};
use anyhow::Result;
use farrier_proto::OpCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longest wait for the sweeper, which comes every 300 ms.
const SWEEP_MAX: Duration = Duration::from_secs(15);

fn create_raw(c: &mut Client, path: impl AsRef<[u8]>, acl: &Body, flags: i32) -> Result<Reply> {
    c.call(OpCode::Create, body().s(path).s(b"").raw(&acl.0).i(flags))
}

/// The path that a create made, or its error.
fn made(t: &Ctx<'_>, r: &Reply) -> Result<String> {
    Ok(if r.err == 0 { t.short(&r.path()?) } else { r.err.to_string() })
}

/// The error codes of creates with these paths.
fn codes<P: AsRef<[u8]>>(c: &mut Client, paths: &[P]) -> Result<String> {
    let mut got = Vec::new();
    for path in paths {
        got.push(c.create(path, b"")?.err);
    }
    Ok(list(got))
}

/// Waits until the node is gone; tells since when.
fn gone(c: &mut Client, path: &str) -> Result<Option<Instant>> {
    let start = Instant::now();
    while start.elapsed() < SWEEP_MAX {
        if c.exists(path, false)?.err == -101 {
            return Ok(Some(Instant::now()));
        }
        sleep(Duration::from_millis(20));
    }
    Ok(None)
}

pub(super) const CASES: &[Case] = &[
    Case::new(42, Profile::D, "create answers with the path", "p, nothing behind it", |t| {
        let mut c = t.client()?;
        let r = c.create(t.base(), b"")?;
        let rest = r.body.len() - 4 - t.base().len();
        Ok(format!("{}, {}", made(t, &r)?, if rest == 0 { "nothing behind it" } else { "more behind it" }))
    }),
    Case::new(
        43,
        Profile::D,
        "create2 answers with path and stat",
        "p: version 0 cversion 0 aversion 0 owner 0 length 1 children 0 czxid Z mzxid Z pzxid Z times equal yes, 0 bytes \
         behind",
        |t| {
            let mut c = t.client()?;
            let r = c.create2(t.base(), b"x", 0)?;
            let s = r.stat()?;
            let z = |zxid: farrier_proto::Zxid| rel(r.zxid, zxid.to_wire());
            Ok(format!(
                "{}: version {} cversion {} aversion {} owner {} length {} children {} czxid {} mzxid {} pzxid {} times \
                 equal {}, {} bytes behind",
                made(t, &r)?,
                s.version,
                s.cversion,
                s.aversion,
                s.ephemeral_owner,
                s.data_length,
                s.num_children,
                z(s.czxid),
                z(s.mzxid),
                z(s.pzxid),
                yes(s.ctime == s.mtime),
                r.body.len() - 4 - t.base().len() - 68
            ))
        },
    ),
    Case::new(
        44,
        Profile::D,
        "a child's creation in the parent's stat",
        "cversion 1 children 1 pzxid Z, rest unchanged yes",
        |t| {
            let mut c = t.client()?;
            let p = t.p(&mut c)?;
            let before = c.stat(&p)?;
            let z = c.create(format!("{p}/a"), b"")?.ok()?.zxid;
            let s = c.stat(&p)?;
            let same = (s.mzxid, s.mtime, s.version) == (before.mzxid, before.mtime, before.version);
            Ok(format!(
                "cversion {} children {} pzxid {}, rest unchanged {}",
                s.cversion,
                s.num_children,
                rel(z, s.pzxid.to_wire()),
                yes(same)
            ))
        },
    ),
    Case::new(45, Profile::D, "a child's deletion in the parent's stat", "cversion 2 children 0 pzxid Z", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        c.create(format!("{p}/a"), b"")?.ok()?;
        let z = c.delete(format!("{p}/a"), -1)?.ok()?.zxid;
        let s = c.stat(&p)?;
        Ok(format!("cversion {} children {} pzxid {}", s.cversion, s.num_children, rel(z, s.pzxid.to_wire())))
    }),
    Case::new(46, Profile::D, "the counter counts creations", "p/s-0000000002, cversion 4", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        c.create(format!("{p}/a"), b"")?.ok()?;
        c.create(format!("{p}/b"), b"")?.ok()?;
        c.delete(format!("{p}/a"), -1)?.ok()?;
        let r = c.create_flags(format!("{p}/s-"), b"", 2)?;
        Ok(format!("{}, cversion {}", made(t, &r)?, c.stat(&p)?.cversion))
    }),
    Case::new(
        47,
        Profile::D,
        "ephemeral sequential nodes of two sessions",
        "p/x-0000000000 owned yes, p/x-0000000001 owned yes",
        |t| {
            let (mut c1, mut c2) = (t.client()?, t.client()?);
            let p = t.p(&mut c1)?;
            let mut got = Vec::new();
            for c in [&mut c1, &mut c2] {
                let r = c.create_flags(format!("{p}/x-"), b"", 3)?;
                let owner = c.stat(r.path()?)?.ephemeral_owner;
                got.push(format!("{} owned {}", made(t, &r)?, yes(owner == c.session)));
            }
            Ok(list(got))
        },
    ),
    Case::new(48, Profile::D, "a sequential node without a prefix", "p/0000000000", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let r = c.create_flags(format!("{p}/"), b"", 2)?;
        made(t, &r)
    }),
    Case::new(49, Profile::D, "failed creates do not count", "-8, -114, p/s0000000000", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let a = c.create(format!("{p}/."), b"")?.err;
        let b = c.create_acl(format!("{p}/b"), &[])?.err;
        let r = c.create_flags(format!("{p}/s"), b"", 2)?;
        Ok(format!("{a}, {b}, {}", made(t, &r)?))
    }),
    Case::new(50, Profile::D, "create(\"\"), create(\"foo\")", "-8, -8", |t| codes(&mut t.client()?, &["", "foo"])),
    Case::new(51, Profile::D, "create(\"foo/bar\")", "-101", |t| codes(&mut t.client()?, &["foo/bar"])),
    Case::new(
        52,
        Profile::D,
        "illegal last components; only U+D7FF is legal",
        "-8, -8, -8, -8, -8, -8, -8, 0, -8, -8, -8",
        |t| {
            let mut c = t.client()?;
            let p = t.p(&mut c)?;
            let names =
                ["", ".", "..", "x\0y", "\u{1}", "\u{7f}", "\u{80}", "\u{d7ff}", "\u{e000}", "\u{fff0}", "\u{1f600}"];
            codes(&mut c, &names.map(|n| format!("{p}/{n}")))
        },
    ),
    Case::new(53, Profile::D, "unusual legal names", "0, 0, 0, 0, 0", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        codes(&mut c, &["...", "..b", "a.b", "é", "a b"].map(|n| format!("{p}/{n}")))
    }),
    Case::new(54, Profile::D, "parents p/, p/. and p/.. are no nodes", "-101, -101, -101", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        codes(&mut c, &["/b", "./b", "../b"].map(|n| format!("{p}/{n}")))
    }),
    Case::new(55, Profile::D, "create(\"//a\")", "-8", |t| codes(&mut t.client()?, &["//a"])),
    Case::new(56, Profile::D, "a name that is not UTF-8", "-8", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        codes(&mut c, &[[p.as_bytes(), b"/\xff\xfe"].concat()])
    }),
    Case::new(57, Profile::D, "create(\"/\"), create(\"/zookeeper\")", "-110, -110", |t| {
        codes(&mut t.client()?, &["/", "/zookeeper"])
    }),
    Case::new(58, Profile::D, "a missing parent", "-101", |t| codes(&mut t.client()?, &["/nope/x"])),
    Case::new(59, Profile::D, "create of an existing node", "-110, data v", |t| {
        let mut c = t.client()?;
        let p = t.base();
        c.create(&p, b"v")?.ok()?;
        let err = c.create(&p, b"w")?.err;
        Ok(format!("{err}, data {}", String::from_utf8_lossy(&c.get(&p, false)?.data()?.unwrap_or_default())))
    }),
    Case::new(60, Profile::D, "children of an ephemeral", "-108, -108, -108", |t| {
        let mut c = t.client()?;
        let e = t.base();
        c.create_flags(&e, b"", 1)?.ok()?;
        let mut got = Vec::new();
        for flags in [0, 1, 2] {
            got.push(c.create_flags(format!("{e}/k"), b"", flags)?.err);
        }
        Ok(list(got))
    }),
    Case::new(61, Profile::D, "null data", "0, null, length 0", |t| {
        let mut c = t.client()?;
        let d = t.base();
        let err = c.err(OpCode::Create, body().s(&d).null().acl(OPEN).i(0))?;
        let r = c.get(&d, false)?;
        let data = if r.data()?.is_none() { "null" } else { "a buffer" };
        Ok(format!("{err}, {data}, length {}", r.stat()?.data_length))
    }),
    Case::new(62, Profile::D, "empty data", "0, Some([]), length 0", |t| {
        let mut c = t.client()?;
        let d = t.base();
        let err = c.create(&d, b"")?.err;
        let r = c.get(&d, false)?;
        Ok(format!("{err}, {:?}, length {}", r.data()?, r.stat()?.data_length))
    }),
    Case::new(63, Profile::D, "ACL null, empty, of count -2", "-114, -114, -114", |t| {
        let mut c = t.client()?;
        let mut got = Vec::new();
        for acl in [body().null(), body().i(0), body().i(-2)] {
            got.push(create_raw(&mut c, t.base(), &acl, 0)?.err);
        }
        Ok(list(got))
    }),
    Case::new(64, Profile::D, "flags -1, 7, 8", "-8, -8, -8", |t| {
        let mut c = t.client()?;
        let mut got = Vec::new();
        for flags in [-1, 7, 8] {
            got.push(c.create_flags(t.base(), b"", flags)?.err);
        }
        Ok(list(got))
    }),
    Case::new(65, Profile::D, "path and ACL invalid", "-114", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        Ok(c.create_acl(format!("{p}/."), &[])?.err.to_string())
    }),
    Case::new(66, Profile::D, "no parent and an invalid ACL", "-114", |t| {
        Ok(t.client()?.create_acl("/nope/x", &[])?.err.to_string())
    }),
    Case::new(67, Profile::D, "create with the container flag is a plain node", "p, owner 0", |t| {
        let mut c = t.client()?;
        let r = c.create_flags(t.base(), b"", 4)?;
        Ok(format!("{}, owner {}", made(t, &r)?, c.stat(t.base())?.ephemeral_owner))
    }),
    Case::new(68, Profile::D, "TTL with extended types off", "-6, -6, open", |t| {
        let mut c = t.client()?;
        let a = c.create_ttl(t.base(), 5, 1000)?.err;
        let b = c.create2(t.base(), b"", 5)?.err;
        Ok(format!("{a}, {b}, {}", c.state()?))
    }),
    Case::new(69, Profile::D, "createContainer", "p, owner 0", |t| {
        let r = t.client()?.create_container(t.base())?;
        Ok(format!("{}, owner {}", made(t, &r)?, r.stat()?.ephemeral_owner))
    }),
    Case::new(
        70,
        Profile::X,
        "createTTL with ttl 0, -1, 1, 2^40-1, 2^40",
        "-8, -8, p/c owner 0, p/d owner 0, -8",
        |t| {
            let mut c = t.client()?;
            let p = t.p(&mut c)?;
            let mut got = Vec::new();
            for (name, ttl) in [("a", 0), ("b", -1), ("c", 1), ("d", (1 << 40) - 1), ("e", 1 << 40)] {
                let r = c.create_ttl(format!("{p}/{name}"), 5, ttl)?;
                let owner = if r.err == 0 { format!(" owner {}", r.stat()?.ephemeral_owner) } else { String::new() };
                got.push(made(t, &r)? + &owner);
            }
            Ok(list(got))
        },
    ),
    Case::new(71, Profile::X, "createTTL, sequential", "p/s0000000000", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let r = c.create_ttl(format!("{p}/s"), 6, 60_000)?;
        made(t, &r)
    }),
    Case::new(72, Profile::X, "TTL flags without a ttl; a ttl without TTL flags", "-8, -8, -8", |t| {
        let mut c = t.client()?;
        let a = c.create_flags(t.base(), b"", 5)?.err;
        let b = c.create2(t.base(), b"", 5)?.err;
        let d = c.create_ttl(t.base(), 0, 1000)?.err;
        Ok(list([a, b, d]))
    }),
    Case::new(
        73,
        Profile::X,
        "a TTL node goes its ttl after the last setData",
        "there after the ttl of its creation: yes; 2(p); early: no",
        |t| {
            const TTL: Duration = Duration::from_secs(4);
            let mut c = t.client_with(40_000)?;
            let p = t.base();
            c.create_ttl(&p, 5, 4000)?.ok()?;
            let made = Instant::now();
            sleep(TTL * 3 / 8);
            let set = Instant::now();
            c.set(&p, b"x", -1)?.ok()?;
            sleep((TTL + Duration::from_millis(100)).saturating_sub(made.elapsed()));
            // A machine that comes here too late can't tell, and has seen nothing wrong.
            let err = c.exists(&p, true)?.err;
            let alive = err == 0 || set.elapsed() > TTL - Duration::from_millis(50);
            c.wait_events(1)?;
            let early = set.elapsed() < TTL;
            Ok(format!(
                "there after the ttl of its creation: {}; {}; early: {}",
                yes(alive),
                t.events(&mut c)?,
                yes(early)
            ))
        },
    )
    .lane(crate::case::Lane::Slow),
    Case::new(74, Profile::X, "a child keeps a TTL node", "with a child 0; without: gone yes", |t| {
        let mut c = t.client()?;
        let p = t.base();
        // Long enough for the child to come in time.
        c.create_ttl(&p, 5, 3000)?.ok()?;
        c.create(format!("{p}/k"), b"")?.ok()?;
        sleep(Duration::from_millis(4500));
        let with = c.exists(&p, false)?.err;
        c.delete(format!("{p}/k"), -1)?.ok()?;
        Ok(format!("with a child {with}; without: gone {}", yes(gone(&mut c, &p)?.is_some())))
    })
    .lane(crate::case::Lane::Slow),
    Case::new(
        75,
        Profile::X,
        "a container goes after its last child, never before its first; a plain node with the flag stays",
        "never used 0; used: gone yes; plain 0",
        |t| {
            let mut c = t.client()?;
            let p = t.p(&mut c)?;
            let (n, u, plain) = (format!("{p}/n"), format!("{p}/u"), format!("{p}/plain"));
            c.create_container(&n)?.ok()?;
            c.create_container(&u)?.ok()?;
            c.create_flags(&plain, b"", 4)?.ok()?;
            for parent in [&u, &plain] {
                c.create(format!("{parent}/k"), b"")?.ok()?;
                c.delete(format!("{parent}/k"), -1)?.ok()?;
            }
            let used = gone(&mut c, &u)?.is_some();
            sleep(Duration::from_millis(1000));
            let never = c.exists(&n, false)?.err;
            Ok(format!("never used {never}; used: gone {}; plain {}", yes(used), c.exists(&plain, false)?.err))
        },
    )
    .lane(crate::case::Lane::Slow),
];
