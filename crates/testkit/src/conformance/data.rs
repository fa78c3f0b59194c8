//! D: delete, setData, reads.

use crate::case::{Case, Ctx, Lane, Profile, list, rel, yes};
use crate::enc::{Body, body};
use crate::raw::{Answer, Client};
use anyhow::Result;
use farrier_proto::OpCode;

/// The error codes of deletes of these paths, in any version.
fn deletes(c: &mut Client, paths: &[String]) -> Result<String> {
    let mut got = Vec::new();
    for path in paths {
        got.push(c.delete(path, -1)?.err);
    }
    Ok(list(got))
}

fn sorted(t: &Ctx<'_>, names: &[String]) -> String {
    list(names.iter().map(|n| t.short(n)))
}

/// deleteContainer on a session of its own: the code, and what becomes of the connection.
fn delete_container(t: &Ctx<'_>, path: &str) -> Result<String> {
    let mut c = t.client()?;
    Ok(match c.ask(OpCode::DeleteContainer.code(), body().s(path))? {
        Answer::Reply(r) => format!("{} {}", r.err, c.state()?),
        other => other.to_string(),
    })
}

pub(super) const CASES: &[Case] = &[
    Case::new(76, Profile::D, "delete with version 5, then 0", "-103, 0 with 0 bytes", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let a = c.delete(&p, 5)?.err;
        let b = c.delete(&p, 0)?;
        Ok(format!("{a}, {} with {} bytes", b.err, b.body.len()))
    }),
    Case::new(77, Profile::D, "delete of a parent: version first", "-103, -111", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        c.create(format!("{p}/k"), b"")?.ok()?;
        Ok(list([c.delete(&p, 9)?.err, c.delete(&p, -1)?.err]))
    }),
    Case::new(
        78,
        Profile::D,
        "delete of built-in nodes and of paths that are none",
        "-8, -8, -8, -8, -8, -8, -8",
        |t| {
            let mut c = t.client()?;
            let p = t.p(&mut c)?;
            let paths = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "", "foo", &format!("{p}\0")];
            deletes(&mut c, &paths.map(ToOwned::to_owned))
        },
    ),
    Case::new(79, Profile::D, "delete of p/, p//b, /nope/x", "-101, -101, -101", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        deletes(&mut c, &[format!("{p}/"), format!("{p}//b"), "/nope/x".to_owned()])
    }),
    Case::new(
        80,
        Profile::D,
        "setData's stat",
        "version 1 mzxid Z length 2, mtime not earlier yes, rest unchanged yes",
        |t| {
            let mut c = t.client()?;
            let p = t.p(&mut c)?;
            let a = c.stat(&p)?;
            let r = c.set(&p, b"ab", -1)?;
            let b = r.stat()?;
            let same = (a.czxid, a.ctime, a.cversion, a.pzxid) == (b.czxid, b.ctime, b.cversion, b.pzxid);
            Ok(format!(
                "version {} mzxid {} length {}, mtime not earlier {}, rest unchanged {}",
                b.version,
                rel(r.zxid, b.mzxid.to_wire()),
                b.data_length,
                yes(b.mtime >= a.mtime),
                yes(same)
            ))
        },
    ),
    Case::new(81, Profile::D, "setData with version 0, 1, -2 on version 1", "-103, version 2, -103", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        c.set(&p, b"v", 0)?.ok()?;
        let a = c.set(&p, b"v", 0)?.err;
        let b = c.set(&p, b"v", 1)?.stat()?.version;
        let d = c.set(&p, b"v", -2)?.err;
        Ok(format!("{a}, version {b}, {d}"))
    }),
    Case::new(82, Profile::D, "setData to null", "0, null, length 0, version 1", |t| {
        let mut c = t.client()?;
        let p = t.base();
        c.create(&p, b"x")?.ok()?;
        let err = c.err(OpCode::SetData, body().s(&p).null().i(-1))?;
        let r = c.get(&p, false)?;
        let data = if r.data()?.is_none() { "null" } else { "a buffer" };
        Ok(format!("{err}, {data}, length {}, version {}", r.stat()?.data_length, r.stat()?.version))
    }),
    Case::new(83, Profile::D, "setData of paths that are none, and of /nope", "-8, -8, -8, -8, -8, -101", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let mut got = Vec::new();
        for path in ["", "foo", &format!("{p}/"), &format!("{p}//b"), &format!("{p}\0"), "/nope"] {
            got.push(c.set(path, b"", -1)?.err);
        }
        Ok(list(got))
    }),
    Case::new(84, Profile::D, "setData of /zookeeper/config", "-102", |t| {
        Ok(t.client()?.set("/zookeeper/config", b"", -1)?.err.to_string())
    }),
    Case::new(
        85,
        Profile::D,
        "reads of foo, p/, /nope: exists, getData, getChildren, getChildren2, getACL, getAllChildrenNumber",
        "-101, -101, -101, -101, -101, -101, -101, -101, -101, -101, -101, -101, -101, -101, -101, -101, -101, -101",
        |t| {
            let mut c = t.client()?;
            let p = t.p(&mut c)?;
            let mut got = Vec::new();
            for path in ["foo", &format!("{p}/"), "/nope"] {
                got.push(c.exists(path, false)?.err);
                got.push(c.get(path, false)?.err);
                got.push(c.children(path, false)?.err);
                got.push(c.children2(path)?.err);
                got.push(c.get_acl(path)?.err);
                got.push(c.count(path)?.err);
            }
            Ok(list(got))
        },
    ),
    Case::new(86, Profile::D, "exists and getData with NUL", "-8, -101", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let path = format!("{p}\0");
        Ok(list([c.exists(&path, false)?.err, c.get(&path, false)?.err]))
    }),
    Case::new(87, Profile::D, "the empty path is the root", "0, 0, same as / yes", |t| {
        let mut c = t.client()?;
        let e = c.exists("", false)?;
        let k = c.children("", false)?;
        let same = e.stat()? == c.stat("/")? && k.names()? == c.children("/", false)?.names()?;
        Ok(format!("{}, {}, same as / {}", e.err, k.err, yes(same)))
    }),
    Case::new(88, Profile::D, "getChildren", "a, b, 0 bytes behind", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        for name in ["b", "a"] {
            c.create(format!("{p}/{name}"), b"")?.ok()?;
        }
        let r = c.children(&p, false)?;
        Ok(format!("{}, {} bytes behind", list(r.names()?), r.body.len() - 4 - 2 * 5))
    }),
    Case::new(89, Profile::D, "getChildren2 of a leaf", "count 0, stat of p yes", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let r = c.children2(&p)?.ok()?;
        let count = r.reader().i32()?;
        Ok(format!("count {count}, stat of p {}", yes(r.body.len() == 72 && r.stat()? == c.stat(&p)?)))
    }),
    Case::new(90, Profile::D, "getAllChildrenNumber counts descendants", "3", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        for name in ["/a", "/a/b", "/ab", "x"] {
            c.create(format!("{p}{name}"), b"")?.ok()?;
        }
        Ok(c.count(&p)?.ok()?.reader().i32()?.to_string())
    }),
    Case::new(91, Profile::D, "getAllChildrenNumber(\"/\")", "3 on a virgin server, 5 with two nodes", |t| {
        let mut c = t.client()?;
        let virgin = c.count("/")?.ok()?.reader().i32()?;
        let p = t.p(&mut c)?;
        c.create(format!("{p}/a"), b"")?.ok()?;
        let more = c.count("/")?.ok()?.reader().i32()?;
        c.delete(format!("{p}/a"), -1)?.ok()?;
        c.delete(&p, -1)?.ok()?;
        Ok(format!("{virgin} on a virgin server, {more} with two nodes"))
    })
    .lane(Lane::Empty),
    Case::new(
        92,
        Profile::D,
        "getEphemerals with prefixes p/, null, /, p",
        "p/e1, p/e2; p/e1, p/e2, pq/e; p/e1, p/e2, pq/e; p/e1, p/e2, pq/e",
        |t| {
            let mut c = t.client()?;
            let p = t.p(&mut c)?;
            c.create(format!("{p}q"), b"")?.ok()?;
            for path in ["/e1", "/e2", "q/e"] {
                c.create_flags(format!("{p}{path}"), b"", 1)?.ok()?;
            }
            let mut got = Vec::new();
            for prefix in [Some(format!("{p}/")), None, Some("/".to_owned()), Some(p)] {
                got.push(sorted(t, &c.ephemerals(prefix.as_deref())?));
            }
            Ok(got.join("; "))
        },
    ),
    Case::new(93, Profile::D, "getEphemerals tells one's own only", "0 of another session", |t| {
        let (mut c1, mut c2) = (t.client()?, t.client()?);
        c1.create_flags(t.base(), b"", 1)?.ok()?;
        Ok(format!("{} of another session", c2.ephemerals(Some("/"))?.len()))
    }),
    Case::new(94, Profile::D, "sync of bogus and /nope", "bogus, /nope", |t| {
        let mut c = t.client()?;
        Ok(list([c.sync("bogus")?.path()?, c.sync("/nope")?.path()?]))
    }),
    Case::new(
        95,
        Profile::D,
        "stats of a virgin tree",
        "/ cversion -1 children 1 zeros yes; /zookeeper cversion -2 children 2 zeros yes; /zookeeper/config aversion -1",
        |t| {
            let mut c = t.client()?;
            let mut got = Vec::new();
            for path in ["/", "/zookeeper"] {
                let s = c.stat(path)?;
                let zeros = [s.czxid.to_wire(), s.mzxid.to_wire(), s.pzxid.to_wire(), s.ctime, s.mtime] == [0; 5];
                got.push(format!("{path} cversion {} children {} zeros {}", s.cversion, s.num_children, yes(zeros)));
            }
            got.push(format!("/zookeeper/config aversion {}", c.stat("/zookeeper/config")?.aversion));
            Ok(got.join("; "))
        },
    )
    .lane(Lane::Virgin),
    Case::new(96, Profile::D, "ACLs of /zookeeper/config and /", "1 world:anyone; 31 world:anyone", |t| {
        let mut c = t.client()?;
        let mut got = Vec::new();
        for path in ["/zookeeper/config", "/"] {
            got.push(super::auth::acl_of(&c.get_acl(path)?)?);
        }
        Ok(got.join("; "))
    }),
    Case::new(97, Profile::D, "create below /zookeeper", "0", |t| {
        let mut c = t.client()?;
        let path = format!("/zookeeper{}", t.base());
        let err = c.create(&path, b"")?.err;
        c.delete(&path, -1)?.ok()?;
        Ok(err.to_string())
    }),
    Case::new(
        98,
        Profile::D,
        "deleteContainer from a client: an empty node, one with a child, an ephemeral, /zookeeper",
        "0 open; -111 open; -103 open; -8 open; the node is gone",
        |t| {
            let mut c = t.client()?;
            let p = t.p(&mut c)?;
            for (name, flags) in [("a", 0), ("b", 0), ("b/k", 0), ("e", 1)] {
                c.create_flags(format!("{p}/{name}"), b"", flags)?.ok()?;
            }
            let mut got = Vec::new();
            for path in [format!("{p}/a"), format!("{p}/b"), format!("{p}/e"), "/zookeeper".to_owned()] {
                got.push(delete_container(t, &path)?);
            }
            let there = if c.exists(format!("{p}/a"), false)?.err == 0 { "there" } else { "gone" };
            Ok(format!("{}; the node is {there}", got.join("; ")))
        },
    )
    .farrier(
        "-6 close; -6 close; -6 close; -6 close; the node is there",
        "the sweeper's own operation checks no ACL, so a client may not use it",
    ),
    Case::new(99, Profile::D, "reconfig, which is disabled", "-123", |t| {
        let request: Body = body().null().s("9").null().l(-1);
        Ok(t.client()?.err(OpCode::Reconfig, request)?.to_string())
    }),
];
