//! N: what survives a hard kill.

use crate::case::{Case, Ctx, Lane, Profile, list, rel, yes};
use crate::enc::{OPEN, body};
use crate::raw::{Client, Connect};
use anyhow::Result;
use farrier_proto::{OpCode, Stat};

/// What a client knew when the server was killed, and its connection to the restarted one.
struct Restarted {
    before: Client,
    after: Client,
    z: i64,
    q: Stat,
}

fn killed_and_restarted(t: &mut Ctx<'_>) -> Result<Restarted> {
    let mut c = t.client_with(30_000)?;
    let p = t.p(&mut c)?;
    let [n, e, q, a, b, eph] = ["n", "e", "q", "q/a", "q/b", "eph"].map(|name| format!("{p}/{name}"));
    c.call(OpCode::Create, body().s(&n).null().acl(OPEN).i(0))?.ok()?;
    c.create(&e, b"")?.ok()?;
    c.create(&q, b"")?.ok()?;
    c.create(&a, b"")?.ok()?;
    c.delete(&a, -1)?.ok()?;
    c.create_flags(&eph, b"", 1)?.ok()?;
    c.create_flags(&b, b"", 1)?.ok()?;
    let q = c.stat(&q)?;
    let z = c.z()?;
    t.server.restart()?;
    let ask = Connect { timeout: 30_000, last_zxid: z, ..Connect::again(c.session, &c.password) };
    let after = t.connect(&ask)?;
    Ok(Restarted { before: c, after, z, q })
}

pub(super) const CASES: &[Case] = &[
    Case::new(
        243,
        Profile::D,
        "re-attachment after a kill",
        "same sid yes, same password yes, timeout 30000, last zxid Z",
        |t| {
            let mut r = killed_and_restarted(t)?;
            let z = r.after.z()?;
            Ok(format!(
                "same sid {}, same password {}, timeout {}, last zxid {}",
                yes(r.before.session == r.after.session),
                yes(r.before.password == r.after.password),
                r.after.timeout,
                rel(r.z, z)
            ))
        },
    )
    .lane(Lane::Restart),
    Case::new(
        244,
        Profile::D,
        "data, stats and ephemerals after a kill",
        "null, Some([]), stat identical yes, p/eph, p/q/b",
        |t| {
            let mut r = killed_and_restarted(t)?;
            let p = t.base();
            let n = if r.after.get(format!("{p}/n"), false)?.data()?.is_none() { "null" } else { "a buffer" };
            let e = r.after.get(format!("{p}/e"), false)?.data()?;
            let same = r.after.stat(format!("{p}/q"))? == r.q;
            let owned = r.after.ephemerals(Some("/"))?;
            Ok(format!("{n}, {e:?}, stat identical {}, {}", yes(same), list(owned.iter().map(|path| t.short(path)))))
        },
    )
    .lane(Lane::Restart),
    Case::new(245, Profile::D, "the counter of sequential names after a kill", "p/q/s0000000002", |t| {
        let mut r = killed_and_restarted(t)?;
        let reply = r.after.create_flags(format!("{}/q/s", t.base()), b"", 2)?;
        Ok(t.short(&reply.path()?))
    })
    .lane(Lane::Restart),
];
