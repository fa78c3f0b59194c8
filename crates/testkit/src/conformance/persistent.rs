//! G: persistent watches, checkWatches, removeWatches.

use crate::case::{Case, Profile, list};
use crate::enc::body;
use crate::raw::Client;
use anyhow::Result;
use farrier_proto::OpCode;

/// Creates, changes and deletes a node, its child and its grandchild, and creates the node again.
fn life(c: &mut Client, w: &str) -> Result<()> {
    let (k, kk) = (format!("{w}/k"), format!("{w}/k/kk"));
    c.create(w, b"")?.ok()?;
    c.set(w, b"x", -1)?.ok()?;
    c.create(&k, b"")?.ok()?;
    c.create(&kk, b"")?.ok()?;
    c.set(&k, b"x", -1)?.ok()?;
    c.delete(&kk, -1)?.ok()?;
    c.delete(&k, -1)?.ok()?;
    c.delete(w, -1)?.ok()?;
    c.create(w, b"")?.ok()?;
    Ok(())
}

fn check(c: &mut Client, path: &str, kinds: &[i32]) -> Result<String> {
    let mut got = Vec::new();
    for kind in kinds {
        got.push(c.check_watches(path, *kind)?.err);
    }
    Ok(list(got))
}

pub(super) const CASES: &[Case] = &[
    Case::new(133, Profile::D, "addWatch on a missing node", "0, body [0, 0, 0, 0]", |t| {
        let r = t.client()?.add_watch(t.base(), 0)?;
        Ok(format!("{}, body {:?}", r.err, r.body))
    }),
    Case::new(134, Profile::D, "addWatch with mode 2, -1", "-5, -5", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        Ok(list([c.add_watch(&p, 2)?.err, c.add_watch(&p, -1)?.err]))
    }),
    Case::new(135, Profile::D, "a persistent watch", "1(p), 3(p), 4(p), 4(p), 2(p), 1(p)", |t| {
        let mut c = t.client()?;
        c.add_watch(t.base(), 0)?.ok()?;
        life(&mut c, &t.base())?;
        t.quiet(&mut c)
    }),
    Case::new(
        136,
        Profile::D,
        "a recursive watch",
        "1(p), 3(p), 1(p/k), 1(p/k/kk), 3(p/k), 2(p/k/kk), 2(p/k), 2(p), 1(p)",
        |t| {
            let mut c = t.client()?;
            c.add_watch(t.base(), 1)?.ok()?;
            life(&mut c, &t.base())?;
            t.quiet(&mut c)
        },
    ),
    Case::new(137, Profile::D, "both modes on a node", "1(p), 1(p/x), 4(p), 3(p/x), 2(p/x), 4(p), 2(p)", |t| {
        let mut c = t.client()?;
        let w = t.base();
        let x = format!("{w}/x");
        c.add_watch(&w, 0)?.ok()?;
        c.add_watch(&w, 1)?.ok()?;
        c.create(&w, b"")?.ok()?;
        c.create(&x, b"")?.ok()?;
        c.set(&x, b"x", -1)?.ok()?;
        c.delete(&x, -1)?.ok()?;
        c.delete(&w, -1)?.ok()?;
        t.quiet(&mut c)
    }),
    Case::new(138, Profile::D, "a recursive and a one-shot watch share the event", "3(p/t)", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let n = format!("{p}/t");
        c.create(&n, b"")?.ok()?;
        c.add_watch(&p, 1)?.ok()?;
        c.get(&n, true)?.ok()?;
        c.set(&n, b"x", -1)?.ok()?;
        t.quiet(&mut c)
    }),
    Case::new(139, Profile::D, "a recursive and a child watch", "1(p/u), 4(p)", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        c.add_watch(&p, 1)?.ok()?;
        c.children(&p, true)?.ok()?;
        c.create(format!("{p}/u"), b"")?.ok()?;
        t.quiet(&mut c)
    }),
    Case::new(140, Profile::D, "a recursive watch on the root", "1(p), 2(p), 3(/)", |t| {
        let mut c = t.client()?;
        c.add_watch("/", 1)?.ok()?;
        c.create(t.base(), b"")?.ok()?;
        c.delete(t.base(), -1)?.ok()?;
        c.set("/", b"", -1)?.ok()?;
        t.quiet(&mut c)
    }),
    Case::new(141, Profile::D, "a persistent watch on the root", "4(/), 3(/), 4(/)", |t| {
        let mut c = t.client()?;
        c.add_watch("/", 0)?.ok()?;
        c.create(t.base(), b"")?.ok()?;
        c.set("/", b"", -1)?.ok()?;
        c.delete(t.base(), -1)?.ok()?;
        t.quiet(&mut c)
    }),
    Case::new(
        142,
        Profile::D,
        "checkWatches 1 to 5, 0, 6 with both persistent modes",
        "-121, -121, 0, 0, 0, -5, -5; 0 bytes",
        |t| {
            let mut c = t.client()?;
            let q = t.base();
            c.add_watch(&q, 0)?.ok()?;
            c.add_watch(&q, 1)?.ok()?;
            let got = check(&mut c, &q, &[1, 2, 3, 4, 5, 0, 6])?;
            Ok(format!("{got}; {} bytes", c.check_watches(&q, 3)?.ok()?.body.len()))
        },
    ),
    Case::new(143, Profile::D, "checkWatches 1 to 5 with one-shot watches", "0, 0, 0, -121, -121", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        c.get(&p, true)?.ok()?;
        c.children(&p, true)?.ok()?;
        check(&mut c, &p, &[1, 2, 3, 4, 5])
    }),
    Case::new(144, Profile::D, "an exists watch is a data watch", "0, 0, -121", |t| {
        let mut c = t.client()?;
        let n = t.base();
        c.exists(&n, true)?;
        Ok(list([c.check_watches(&n, 2)?.err, c.remove_watches(&n, 2)?.err, c.check_watches(&n, 2)?.err]))
    }),
    Case::new(145, Profile::D, "removal of a data watch", "0, -121; none; 4(p)", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        c.get(&p, true)?.ok()?;
        c.children(&p, true)?.ok()?;
        let a = c.remove_watches(&p, 2)?.err;
        let b = c.remove_watches(&p, 2)?.err;
        c.set(&p, b"x", -1)?.ok()?;
        let silent = t.quiet(&mut c)?;
        c.create(format!("{p}/a"), b"")?.ok()?;
        Ok(format!("{a}, {b}; {silent}; {}", t.events(&mut c)?))
    }),
    Case::new(146, Profile::D, "removal of a recursive watch", "0; 4(p), 3(p)", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        c.add_watch(&p, 0)?.ok()?;
        c.add_watch(&p, 1)?.ok()?;
        let err = c.remove_watches(&p, 5)?.err;
        c.create(format!("{p}/a"), b"")?.ok()?;
        c.set(&p, b"x", -1)?.ok()?;
        Ok(format!("{err}; {}", t.quiet(&mut c)?))
    }),
    Case::new(147, Profile::D, "removal of any watch", "0, -121; none", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        c.add_watch(&p, 0)?.ok()?;
        c.add_watch(&p, 1)?.ok()?;
        c.get(&p, true)?.ok()?;
        c.children(&p, true)?.ok()?;
        let a = c.remove_watches(&p, 3)?.err;
        let b = c.remove_watches(&p, 3)?.err;
        c.set(&p, b"x", -1)?.ok()?;
        c.create(format!("{p}/a"), b"")?.ok()?;
        Ok(format!("{a}, {b}; {}", t.quiet(&mut c)?))
    }),
    Case::new(
        963,
        Profile::D,
        "watches on no path: none to check or to remove, and one to add",
        "-121, -121, 0, 0, open",
        |t| {
            let mut c = t.client()?;
            let mut got = Vec::new();
            for (op, kind) in
                [(OpCode::CheckWatches, 3), (OpCode::RemoveWatches, 3), (OpCode::AddWatch, 0), (OpCode::AddWatch, 1)]
            {
                got.push(c.call(op, body().null().i(kind))?.err.to_string());
            }
            got.push(c.state()?.to_owned());
            Ok(list(got))
        },
    ),
    Case::new(148, Profile::D, "a persistent and a one-shot watch", "3(p), 3(p)", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        c.add_watch(&p, 0)?.ok()?;
        c.get(&p, true)?.ok()?;
        c.set(&p, b"x", -1)?.ok()?;
        c.set(&p, b"y", -1)?.ok()?;
        t.quiet(&mut c)
    }),
];
