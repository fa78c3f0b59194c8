//! H: setWatches and setWatches2.

use crate::case::{Case, Ctx, Profile, yes};
use crate::enc::{Body, body};
use crate::raw::{Client, Reply};
use anyhow::Result;
use farrier_proto::OpCode;

/// The lists of a setWatches request.
fn lists(z: i64, data: &[&str], exist: &[&str], child: &[&str]) -> Body {
    body().l(z).strings(data).strings(exist).strings(child)
}

/// Sends setWatches with the conventional xid; the events before its reply, and the reply.
fn set_watches(t: &Ctx<'_>, c: &mut Client, op: OpCode, request: Body) -> Result<(String, Reply)> {
    c.send_as(-8, op.code(), request)?;
    let reply = c.reply()?;
    let events = std::mem::take(&mut c.events);
    let caught_up = events.iter().all(|e| e.zxid == -1);
    let text = t.render(&events) + if caught_up { "" } else { " with other zxids than -1" };
    Ok((text, reply))
}

/// Case 149 and what 150 builds on: what setWatches says after changes that the client missed.
fn missed(t: &Ctx<'_>, c: &mut Client) -> Result<(String, Reply)> {
    let p = t.p(c)?;
    let [a, b, ch, d, none, new] = ["a", "b", "c", "d", "none", "new"].map(|n| format!("{p}/{n}"));
    let mut z = 0;
    for path in [&a, &b, &ch, &d] {
        z = c.create(path, b"")?.ok()?.zxid;
    }
    c.set(&a, b"x", -1)?.ok()?;
    c.create(format!("{ch}/k"), b"")?.ok()?;
    c.delete(&d, -1)?.ok()?;
    c.create(&new, b"")?.ok()?;
    set_watches(t, c, OpCode::SetWatches, lists(z, &[&a, &b, &d, &none], &[&a, &d, &new], &[&b, &ch, &d]))
}

pub(super) const CASES: &[Case] = &[
    Case::new(
        149,
        Profile::D,
        "setWatches catches up in the order of its lists",
        "3(p/a), 2(p/d), 2(p/none), 1(p/a), 1(p/new), 4(p/c), 2(p/d); xid -8 err 0 with 0 bytes",
        |t| {
            let mut c = t.client()?;
            let (events, r) = missed(t, &mut c)?;
            Ok(format!("{events}; xid {} err {} with {} bytes", r.xid, r.err, r.body.len()))
        },
    ),
    Case::new(150, Profile::D, "what did not fire is armed", "3(p/b), 4(p/b), 1(p/d)", |t| {
        let mut c = t.client()?;
        missed(t, &mut c)?;
        let p = t.base();
        c.set(format!("{p}/b"), b"x", -1)?.ok()?;
        c.create(format!("{p}/b/k"), b"")?.ok()?;
        c.create(format!("{p}/d"), b"")?.ok()?;
        t.quiet(&mut c)
    }),
    Case::new(151, Profile::D, "setWatches with an ordinary xid", "xid 77 err 0", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let z = c.z()?;
        c.send_as(77, OpCode::SetWatches.code(), lists(z, &[&p], &[], &[]))?;
        let r = c.reply()?;
        Ok(format!("xid {} err {}", r.xid, r.err))
    }),
    Case::new(152, Profile::D, "a change at the client's own zxid is not missed", "none, armed 3(p); 3(p)", |t| {
        let mut c = t.client()?;
        let p = t.base();
        let z = c.create(&p, b"")?.ok()?.zxid;
        let (at, _) = set_watches(t, &mut c, OpCode::SetWatches, lists(z, &[&p], &[], &[]))?;
        let changed = c.set(&p, b"x", -1)?.ok()?.zxid;
        let armed = t.events(&mut c)?;
        let (before, _) = set_watches(t, &mut c, OpCode::SetWatches, lists(changed - 1, &[&p], &[], &[]))?;
        Ok(format!("{at}, armed {armed}; {before}"))
    }),
    Case::new(153, Profile::D, "the exist list ignores the zxid", "1(p)", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        Ok(set_watches(t, &mut c, OpCode::SetWatches, lists(i64::MAX, &[], &[&p], &[]))?.0)
    }),
    Case::new(154, Profile::D, "setWatches2 arms persistent watches", "none; 1(p/c/x); 3(p), 3(p)", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let ch = format!("{p}/c");
        c.create(&ch, b"")?.ok()?;
        let request = lists(0, &[], &[], &[]).strings(&[&p]).strings(&[&ch]);
        let (at_once, _) = set_watches(t, &mut c, OpCode::SetWatches2, request)?;
        c.create(format!("{ch}/x"), b"")?.ok()?;
        let created = t.events(&mut c)?;
        c.set(&p, b"x", -1)?.ok()?;
        c.set(&p, b"y", -1)?.ok()?;
        Ok(format!("{at_once}; {created}; {}", t.quiet(&mut c)?))
    }),
    Case::new(155, Profile::D, "setWatches with a null list", "-5, open yes", |t| {
        let mut c = t.client()?;
        let z = c.z()?;
        let err = c.err(OpCode::SetWatches, body().l(z).null().i(0).i(0))?;
        Ok(format!("{err}, open {}", yes(c.state()? == "open")))
    }),
];
