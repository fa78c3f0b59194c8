//! F: one-shot watches.

use crate::case::{Case, Profile, rel};
use crate::enc::body;
use crate::raw::PATIENCE;
use farrier_proto::OpCode;

pub(super) const CASES: &[Case] = &[
    Case::new(117, Profile::D, "the event precedes the reply of the write", "3(p) before the reply", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        c.get(&p, true)?.ok()?;
        c.set(&p, b"x", -1)?.ok()?;
        // No barrier: what is here came before the reply.
        let events = std::mem::take(&mut c.events);
        Ok(format!("{} before the reply", t.render(&events)))
    }),
    Case::new(118, Profile::D, "another client's change", "3(p) at Z", |t| {
        let (mut c1, mut c2) = (t.client()?, t.client()?);
        let p = t.p(&mut c1)?;
        c1.get(&p, true)?.ok()?;
        let z = c2.set(&p, b"x", -1)?.ok()?.zxid;
        c1.wait_events(1)?;
        let at = c1.events.first().map_or(0, |e| e.zxid);
        Ok(format!("{} at {}", t.events(&mut c1)?, rel(z, at)))
    }),
    Case::new(119, Profile::D, "two changes, one event", "3(p)", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        c.get(&p, true)?.ok()?;
        c.set(&p, b"x", -1)?.ok()?;
        c.set(&p, b"y", -1)?.ok()?;
        t.quiet(&mut c)
    }),
    Case::new(120, Profile::D, "exists of a missing node leaves a watch", "-101; 1(p/n)", |t| {
        let mut c = t.client()?;
        let n = format!("{}/n", t.p(&mut c)?);
        let err = c.exists(&n, true)?.err;
        c.create(&n, b"")?.ok()?;
        Ok(format!("{err}; {}", t.events(&mut c)?))
    }),
    Case::new(121, Profile::D, "getData and getChildren of a missing node leave none", "-101 -101; none", |t| {
        let mut c = t.client()?;
        let n = format!("{}/n", t.p(&mut c)?);
        let a = c.get(&n, true)?.err;
        let b = c.children(&n, true)?.err;
        c.create(&n, b"")?.ok()?;
        Ok(format!("{a} {b}; {}", t.quiet(&mut c)?))
    }),
    Case::new(122, Profile::D, "exists and getData share a watch", "3(p)", |t| {
        let mut c = t.client()?;
        let n = t.p(&mut c)?;
        c.exists(&n, true)?.ok()?;
        c.get(&n, true)?.ok()?;
        c.set(&n, b"x", -1)?.ok()?;
        t.quiet(&mut c)
    }),
    Case::new(123, Profile::D, "one deletion event for two watches", "2(p/n), 4(p)", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let n = format!("{p}/n");
        c.create(&n, b"")?.ok()?;
        c.get(&n, true)?.ok()?;
        c.children(&n, true)?.ok()?;
        c.children(&p, true)?.ok()?;
        c.delete(&n, -1)?.ok()?;
        t.quiet(&mut c)
    }),
    Case::new(124, Profile::D, "a child watch hears the deletion", "2(p)", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        c.children(&p, true)?.ok()?;
        c.delete(&p, -1)?.ok()?;
        t.quiet(&mut c)
    }),
    Case::new(125, Profile::D, "creation: the node's event, then the parent's", "1(p/n), 4(p)", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let n = format!("{p}/n");
        c.exists(&n, true)?;
        c.children(&p, true)?.ok()?;
        c.create(&n, b"")?.ok()?;
        t.events(&mut c)
    }),
    Case::new(126, Profile::D, "a child watch fires once, and not for data", "4(p)", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        c.children(&p, true)?.ok()?;
        c.set(&p, b"x", -1)?.ok()?;
        c.create(format!("{p}/a"), b"")?.ok()?;
        c.create(format!("{p}/b"), b"")?.ok()?;
        t.quiet(&mut c)
    }),
    Case::new(127, Profile::D, "a data watch hears neither children nor ACLs", "none", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        c.get(&p, true)?.ok()?;
        c.create(format!("{p}/a"), b"")?.ok()?;
        c.set_acl(&p, crate::enc::OPEN, -1)?.ok()?;
        t.quiet(&mut c)
    }),
    Case::new(128, Profile::D, "a child watch hears no grandchild", "none", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        c.create(format!("{p}/a"), b"")?.ok()?;
        c.children(&p, true)?.ok()?;
        c.create(format!("{p}/a/b"), b"")?.ok()?;
        t.quiet(&mut c)
    }),
    Case::new(129, Profile::D, "watches end with their connection", "old connection closed; none", |t| {
        let mut c1 = t.client()?;
        let p = t.p(&mut c1)?;
        c1.get(&p, true)?.ok()?;
        let mut again = t.again(&c1)?;
        let old = if c1.closes(PATIENCE)? { "closed" } else { "open" };
        again.set(&p, b"x", -1)?.ok()?;
        Ok(format!("old connection {old}; {}", t.quiet(&mut again)?))
    }),
    Case::new(
        130,
        Profile::D,
        "events of a multi, in the order of its operations",
        "1(p/m), 4(p), all at Z yes",
        |t| {
            let (mut c1, mut c2) = (t.client()?, t.client()?);
            let p = t.p(&mut c1)?;
            let m = format!("{p}/m");
            c1.exists(&m, true)?;
            c1.children(&p, true)?.ok()?;
            let ops = body().op(1).create(&m, b"", 0).op(1).create(format!("{m}/a"), b"", 0).op(5).s(&m).s(b"x").i(-1);
            let z = c2.call(OpCode::Multi, ops.end())?.ok()?.zxid;
            c1.wait_events(2)?;
            let events = c1.take_events()?;
            let all = events.iter().all(|e| e.zxid == z);
            Ok(format!("{}, all at Z {}", t.render(&events), crate::case::yes(all)))
        },
    ),
    Case::new(131, Profile::D, "a failed multi fires nothing", "none", |t| {
        let (mut c1, mut c2) = (t.client()?, t.client()?);
        let p = t.p(&mut c1)?;
        c1.get(&p, true)?.ok()?;
        c2.call(OpCode::Multi, body().op(5).s(&p).s(b"x").i(-1).op(2).s("/nope").i(-1).end())?;
        t.quiet(&mut c1)
    }),
    Case::new(
        132,
        Profile::D,
        "the end of a session with two ephemerals",
        "2(p/e1), 2(p/e2), 4(p), all at the close's zxid yes",
        |t| {
            let (mut c1, mut c2) = (t.client()?, t.client()?);
            let p = t.p(&mut c1)?;
            for name in ["e1", "e2"] {
                c2.create_flags(format!("{p}/{name}"), b"", 1)?.ok()?;
                c1.get(format!("{p}/{name}"), true)?.ok()?;
            }
            c1.children(&p, true)?.ok()?;
            let z = c2.close()?.ok()?.zxid;
            c1.wait_events(3)?;
            let mut events = c1.take_events()?;
            events.sort_by(|a, b| (a.kind, &a.path).cmp(&(b.kind, &b.path)));
            let all = events.iter().all(|e| e.zxid == z);
            Ok(format!("{}, all at the close's zxid {}", t.render(&events), crate::case::yes(all)))
        },
    ),
];
