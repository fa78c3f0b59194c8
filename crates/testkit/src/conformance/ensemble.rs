//! L: an ensemble of three servers: the followers F1 and F2, the leader LD.

use super::trio::Role::{F1, F2, Ld};
use super::trio::{Role, Trio};
use crate::case::{Case, Profile, list, rel, yes};
use crate::enc::{AclEntry, Body, body, request};
use crate::raw::{Answer, Client, Connect, PATIENCE, Reply};
use anyhow::{Context as _, Result};
use farrier_proto::{OpCode, SessionId};

/// The digest identity of `bob:pw`.
const BOB: &[AclEntry<'static>] = &[(31, "digest", "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=")];
/// Where an ensemble says who belongs to it.
const CONFIG: &str = "/zookeeper/config";
/// What Farrier answers to a change of the members.
const NO_RECONFIG: &str = "members change only by their configuration files";
/// Rounds of a case that looks for a race.
const ROUNDS: usize = 200;

fn reconfig(joining: Option<&str>, leaving: Option<&str>, version: i64) -> Body {
    body().opt(joining.map(str::as_bytes)).opt(leaving.map(str::as_bytes)).null().l(version)
}

/// The error code of a change of the members, and its zxid.
fn reconfig_err(t: &Trio<'_>, c: &mut Client, request: Body) -> Result<String> {
    let z = t.z(c)?;
    let r = c.call(OpCode::Reconfig, request)?;
    Ok(format!("{} at {}", r.err, rel(z, r.zxid)))
}

/// A line of the configuration, with `host` for the servers' address and names for numbers that only
/// this run knows.
fn config_line(t: &Trio<'_>, line: &str) -> String {
    let Some((server, rest)) = line.split_once('=').filter(|(key, _)| key.starts_with("server.")) else {
        return line.to_owned();
    };
    let (quorum, client) = rest.split_once(';').unwrap_or((rest, ""));
    let number = server["server.".len()..].parse::<usize>().unwrap_or_default();
    let own = t.addrs().get(number.wrapping_sub(1)).is_some_and(|addr| addr.to_string() == client);
    let client = if own { "host:cport" } else { client };
    let mut fields: Vec<&str> = quorum.split(':').collect();
    if let [host, quorum, election, ..] = &mut fields[..]
        && *host == "127.0.0.1"
        && quorum.parse::<u16>().is_ok()
        && election.parse::<u16>().is_ok()
    {
        (*host, *quorum, *election) = ("host", "qport", "eport");
    }
    format!("{server}={};{client}", fields.join(":"))
}

/// The lines about servers in a reply with the configuration, and the version that the last line tells.
fn config_of(t: &Trio<'_>, r: &Reply) -> Result<(Vec<String>, i64)> {
    let text = String::from_utf8(r.data()?.context("no data")?)?;
    let mut lines: Vec<&str> = text.split('\n').collect();
    let last = lines.pop().context("no line")?;
    let version = last.strip_prefix("version=").with_context(|| format!("{last:?} is the last line"))?;
    let mut servers: Vec<String> = lines.into_iter().map(|line| config_line(t, line)).collect();
    servers.sort();
    Ok((servers, i64::from_str_radix(version, 16)?))
}

/// A session that owns the case's node, on its first connection, and its second connection at `to`.
fn moved(t: &Trio<'_>, from: Role, to: Role) -> Result<(Client, Client)> {
    let mut old = t.client(from)?;
    old.create_flags(t.base(), b"", 1)?.ok()?;
    let new = t.moved(&old, to)?;
    Ok((old, new))
}

/// Two requests sent at once with xids of their own, and what comes back: `xid err` each, until there are
/// two or the connection ends.
fn pipelined(c: &mut Client, requests: [(i32, i32, Body); 2]) -> Result<Vec<String>> {
    let bytes: Vec<u8> = requests.into_iter().flat_map(|(xid, op, body)| request(xid, op, &body)).collect();
    c.conn.send(&bytes)?;
    let mut got = Vec::new();
    while got.len() < 2 {
        match c.answer(PATIENCE)? {
            Answer::Reply(r) => got.push(format!("{} {}", r.xid, r.err)),
            other => {
                got.push(other.to_string());
                break;
            }
        }
    }
    Ok(got)
}

/// A node that only bob may touch, seen by every server.
fn bobs(t: &Trio<'_>) -> Result<String> {
    let mut c = t.client(Ld)?;
    c.create_acl(t.base(), BOB)?.ok()?;
    for role in [F1, F2] {
        t.client(role)?.sync("/")?.ok()?;
    }
    Ok(t.base())
}

pub(super) const CASES: &[Case] = &[
    Case::ensemble(203, Profile::Q, "session ids tell the server", "yes, yes, yes", |t| {
        let mut got = Vec::new();
        for role in [F1, F2, Ld] {
            let [top, ..] = t.client(role)?.session.to_be_bytes();
            got.push(yes(usize::from(top) == t.id(role)));
        }
        Ok(list(got))
    }),
    Case::ensemble(
        204,
        Profile::Q,
        "the configuration node",
        "server.1=host:qport:eport:participant;host:cport, server.2=host:qport:eport:participant;host:cport, \
         server.3=host:qport:eport:participant;host:cport; version -1, aversion -1, mzxid yes; alike everywhere yes",
        |t| {
            let r = t.client(F1)?.get(CONFIG, false)?.ok()?;
            let (servers, version) = config_of(t, &r)?;
            let s = r.stat()?;
            let mut alike = true;
            for role in [F2, Ld] {
                alike &= t.client(role)?.get(CONFIG, false)?.data()? == r.data()?;
            }
            let mzxid = yes(s.mzxid.to_wire() == version);
            Ok(format!(
                "{}; version {}, aversion {}, mzxid {mzxid}; alike everywhere {}",
                list(servers),
                s.version,
                s.aversion,
                yes(alike)
            ))
        },
    ),
    Case::ensemble(
        205,
        Profile::Q,
        "a session moves to another follower",
        "same password yes, ephemeral there yes",
        |t| {
            let (old, mut new) = moved(t, F1, F2)?;
            let there = t.sees(&mut new, &t.base())?;
            Ok(format!("same password {}, ephemeral there {}", yes(old.password == new.password), yes(there)))
        },
    ),
    Case::ensemble(
        206,
        Profile::Q,
        "the old connection of a moved session",
        "exists 0, create close; created no; by the new connection 0",
        |t| {
            let (mut old, mut new) = moved(t, F1, F2)?;
            let exists = old.exists(t.base(), false)?.err;
            let y = format!("{}-y", t.base());
            let create = old.ask(OpCode::Create.code(), body().create(&y, b"", 0))?;
            let created = t.sees(&mut new, &y)?;
            let again = new.create(&y, b"")?.err;
            Ok(format!("exists {exists}, create {create}; created {}; by the new connection {again}", yes(created)))
        },
    ),
    Case::ensemble(207, Profile::Q, "the old connection to the leader reads", "close; ephemeral there yes", |t| {
        let (mut old, mut new) = moved(t, Ld, F1)?;
        let exists = old.ask(OpCode::Exists.code(), body().s("/").z(0))?;
        let there = t.sees(&mut new, &t.base())?;
        Ok(format!("{exists}; ephemeral there {}", yes(there)))
    }),
    Case::ensemble(208, Profile::Q, "multi on the old connection", "close; created no", |t| {
        let (mut old, mut new) = moved(t, F1, F2)?;
        let y = format!("{}-y", t.base());
        let multi = old.ask(OpCode::Multi.code(), body().op(1).create(&y, b"", 0).end())?;
        let created = t.sees(&mut new, &y)?;
        Ok(format!("{multi}; created {}", yes(created)))
    }),
    Case::ensemble(
        209,
        Profile::Q,
        "closeSession on the old connection",
        "0; ephemeral there no, new connection closed yes",
        |t| {
            let (mut old, mut new) = moved(t, F1, F2)?;
            let mut other = t.client(Ld)?;
            let closed = old.ask(OpCode::CloseSession.code(), body())?;
            let there = t.sees(&mut other, &t.base())?;
            Ok(format!(
                "{closed}; ephemeral there {}, new connection closed {}",
                yes(there),
                yes(new.closes(PATIENCE)?)
            ))
        },
    ),
    Case::ensemble(
        210,
        Profile::Q,
        "re-attachment through a follower: wrong password, unknown session",
        "expired yes, expired yes; the session lives yes",
        |t| {
            let mut c = t.client(F1)?;
            c.create_flags(t.base(), b"", 1)?.ok()?;
            let wrong = t.handshake(F2, &Connect::again(c.session, &[7; 16]))?.is_expired();
            let unknown = SessionId(0x0100_0000_0000_1234);
            let password = farrier_proto::session::password(unknown);
            let expired = t.handshake(F2, &Connect::again(unknown.0, &password))?.is_expired();
            let lives = t.sees(&mut t.client(F2)?, &t.base())?;
            Ok(format!("expired {}, expired {}; the session lives {}", yes(wrong), yes(expired), yes(lives)))
        },
    ),
    Case::ensemble(211, Profile::Q, "a sync sees what another server has answered", "0 of 200 missed", |t| {
        let (mut c1, mut c2) = (t.client(F1)?, t.client(F2)?);
        let mut missed = 0;
        for round in 0..ROUNDS {
            let z = format!("{}-{round}", t.base());
            c1.create(&z, b"")?.ok()?;
            missed += usize::from(!t.sees(&mut c2, &z)?);
        }
        Ok(format!("{missed} of {ROUNDS} missed"))
    }),
    Case::ensemble(
        212,
        Profile::Q,
        "reads wait for the connection's own writes",
        "1 0, 2 0, 3 0, 4 0, 5 0, 6 0, 7 0, 8 0, 9 0, 10 0",
        |t| {
            let mut c = t.client(F2)?;
            let mut bytes = Vec::new();
            for i in 0..5 {
                let path = format!("{}-{i}", t.base());
                bytes.extend(request(2 * i + 1, OpCode::Create.code(), &body().create(&path, b"", 0)));
                bytes.extend(request(2 * i + 2, OpCode::Exists.code(), &body().s(&path).z(0)));
            }
            c.conn.send(&bytes)?;
            let mut got = Vec::new();
            for _ in 0..10 {
                let r = c.reply()?;
                got.push(format!("{} {}", r.xid, r.err));
            }
            Ok(list(got))
        },
    ),
    Case::ensemble(213, Profile::Q, "a failed write through a follower has a zxid", "-110 at Z+1", |t| {
        let mut c = t.client(F1)?;
        c.create(t.base(), b"")?.ok()?;
        let z = t.z(&mut c)?;
        let r = c.create(t.base(), b"")?;
        Ok(format!("{} at {}", r.err, rel(z, r.zxid)))
    }),
    Case::ensemble(214, Profile::Q, "a ping waits behind a write", "1 0, -2 0", |t| {
        let create = body().create(t.base(), b"", 0);
        let requests = [(1, OpCode::Create.code(), create), (-2, OpCode::Ping.code(), body())];
        Ok(list(pipelined(&mut t.client(F1)?, requests)?))
    }),
    Case::ensemble(215, Profile::Q, "auth behind a write, in either order", "-4 0, 1 0", |t| {
        let create = body().create(t.base(), b"", 0);
        let auth = body().i(0).s("digest").s("bob:pw");
        let requests = [(1, OpCode::Create.code(), create), (-4, OpCode::Auth.code(), auth)];
        let mut got = pipelined(&mut t.client(F1)?, requests)?;
        got.sort();
        Ok(list(got))
    }),
    Case::ensemble(
        216,
        Profile::Q,
        "an unknown operation behind a write",
        // Apache may leave out the first reply.
        "the write 0 or nothing, 2 -6, close",
        |t| {
            let mut c = t.client(F1)?;
            let create = body().create(t.base(), b"", 0);
            let mut got = pipelined(&mut c, [(1, OpCode::Create.code(), create), (2, 99, body())])?;
            if got.first().is_some_and(|first| first == "1 0") {
                got.remove(0);
            }
            if got.last().is_some_and(|last| last != "close") {
                got.push(c.answer(PATIENCE)?.to_string());
            }
            Ok(format!("the write 0 or nothing, {}", list(got)))
        },
    ),
    Case::ensemble(217, Profile::Q, "reconfig without permission", "-102 at Z+1", |t| {
        let mut c = t.client(F1)?;
        reconfig_err(t, &mut c, reconfig(None, Some("9"), -1))
    })
    .farrier("-6 at Z+1", NO_RECONFIG),
    Case::ensemble(218, Profile::Q, "reconfig of another configuration", "-103 at Z+1", |t| {
        let mut c = t.superuser(F1)?;
        reconfig_err(t, &mut c, reconfig(None, Some("9"), 12345))
    })
    .farrier("-6 at Z+1", NO_RECONFIG),
    Case::ensemble(219, Profile::Q, "reconfig with a malformed server", "-8 at Z+1", |t| {
        let mut c = t.superuser(F1)?;
        reconfig_err(t, &mut c, reconfig(Some("server.9=foo"), None, -1))
    })
    .farrier("-6 at Z+1", NO_RECONFIG),
    Case::ensemble(220, Profile::Q, "reconfig that leaves one voter", "-8 at Z+1", |t| {
        let mut c = t.superuser(F1)?;
        reconfig_err(t, &mut c, reconfig(None, Some("1,2"), -1))
    })
    .farrier("-6 at Z+1", NO_RECONFIG),
    Case::ensemble(
        221,
        Profile::Q,
        "reconfig that changes nothing",
        "0 at Z+1, 3 servers, version yes, stat version -1, mzxid yes; before the reply 3(/zookeeper/config)",
        |t| {
            let mut c = t.superuser(F1)?;
            c.get(CONFIG, true)?.ok()?;
            let z = t.z(&mut c)?;
            let r = c.call(OpCode::Reconfig, reconfig(None, None, -1))?;
            let events = match &c.events[..] {
                [] => "none".to_owned(),
                events => list(events.iter().map(|e| format!("{}({})", e.kind, e.path))),
            };
            if r.err != 0 {
                return Ok(format!("{} at {}; before the reply {events}", r.err, rel(z, r.zxid)));
            }
            let (servers, version) = config_of(t, &r)?;
            let s = r.stat()?;
            Ok(format!(
                "0 at {}, {} servers, version {}, stat version {}, mzxid {}; before the reply {events}",
                rel(z, r.zxid),
                servers.len(),
                yes(version == r.zxid),
                s.version,
                yes(s.mzxid.to_wire() == r.zxid)
            ))
        },
    )
    .farrier("-6 at Z+1; before the reply none", NO_RECONFIG),
    Case::ensemble(
        222,
        Profile::Q,
        "an observer joins and leaves",
        "0: 4 servers, server.4=host:qport:eport:observer;0.0.0.0:24003; 0: 3 servers",
        |t| {
            let mut c = t.superuser(F1)?;
            let join = "server.4=127.0.0.1:24001:24002:observer;24003";
            let joined = c.call(OpCode::Reconfig, reconfig(Some(join), None, -1))?;
            if joined.err != 0 {
                return Ok(joined.err.to_string());
            }
            let (with, _) = config_of(t, &joined)?;
            let left = c.call(OpCode::Reconfig, reconfig(None, Some("4"), -1))?;
            let (without, _) = config_of(t, &left)?;
            let fourth = with.last().cloned().unwrap_or_default();
            Ok(format!("0: {} servers, {fourth}; 0: {} servers", with.len(), without.len()))
        },
    )
    .farrier("-6", NO_RECONFIG),
    Case::ensemble(223, Profile::G, "reconfig where it is disabled", "-123", |t| {
        Ok(t.client(F1)?.err(OpCode::Reconfig, reconfig(None, Some("9"), -1))?.to_string())
    }),
    Case::ensemble(224, Profile::G, "a forbidden create", "-102 at 0, -102 at 0", |t| {
        let p = bobs(t)?;
        let mut got = Vec::new();
        for role in [F1, Ld] {
            let mut c = t.client(role)?;
            let z = t.z(&mut c)?;
            let r = c.create(format!("{p}/x"), b"")?;
            got.push(format!("{} at {}", r.err, rel(z, r.zxid)));
        }
        Ok(list(got))
    })
    .farrier("-102 at Z+1, -102 at Z+1", EAGER),
    Case::ensemble(225, Profile::G, "a create without a list", "-114 at 0, -114 at 0", |t| {
        let mut got = Vec::new();
        for role in [F1, Ld] {
            let mut c = t.client(role)?;
            let z = t.z(&mut c)?;
            let r = c.create_acl(t.base(), &[])?;
            got.push(format!("{} at {}", r.err, rel(z, r.zxid)));
        }
        Ok(list(got))
    })
    .farrier("-114 at Z+1, -114 at Z+1", EAGER),
    Case::ensemble(226, Profile::G, "a forbidden create behind an allowed one, in either order", "1 0, 2 -102", |t| {
        let p = bobs(t)?;
        let mut c = t.client(F1)?;
        let creates = [(1, format!("{p}-w")), (2, format!("{p}/y"))];
        let requests = creates.map(|(xid, path)| (xid, OpCode::Create.code(), body().create(&path, b"", 0)));
        let mut got = pipelined(&mut c, requests)?;
        got.sort();
        Ok(list(got))
    }),
];

/// What Farrier does where Apache checks access before the leader does.
const EAGER: &str = "access is checked by the leader alone, which makes the refusal a transaction";
