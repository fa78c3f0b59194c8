//! J: sessions and their expiry. Lower bounds of time are checked, upper ones only by patience.

use crate::case::{Case, Ctx, Lane, Profile, rel, yes};
use crate::raw::{Client, Connect};
use anyhow::Result;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longest wait for an expiry: the timeout, a tick, and what a busy machine adds.
const EXPIRY_MAX: Duration = Duration::from_secs(60);
/// Session timeout of those that expire or live by their pings, in milliseconds: seconds more than a busy machine
/// keeps a client from its next step.
const TIMEOUT_MS: i32 = 8000;
/// That timeout, less what the clocks of two processes may differ.
const NOT_BEFORE: Duration = Duration::from_millis(7990);

/// An ephemeral of a session that will expire, watched by another client.
fn watched_ephemeral(t: &Ctx<'_>) -> Result<(Client, Client, Instant)> {
    let mut c1 = t.client_with(40_000)?;
    let mut c2 = t.client_with(TIMEOUT_MS)?;
    let e = t.base();
    c1.exists(&e, false)?;
    // The server sees the request after this moment, so it may not expire the session earlier.
    let last = Instant::now();
    c2.create_flags(&e, b"", 1)?.ok()?;
    c1.exists(&e, true)?.ok()?;
    Ok((c1, c2, last))
}

fn expired(t: &Ctx<'_>, c: &Client) -> Result<&'static str> {
    Ok(yes(t.handshake(&Connect::again(c.session, &c.password))?.1.is_expired()))
}

pub(super) const CASES: &[Case] = &[
    Case::new(
        189,
        Profile::D,
        "a silent client's session expires",
        "connection closed yes, not early yes, 2(p), expired yes",
        |t| {
            let (mut c1, mut c2, last) = watched_ephemeral(t)?;
            let closed = c2.closes(EXPIRY_MAX)?;
            let not_early = last.elapsed() >= NOT_BEFORE;
            c1.wait_events(1)?;
            let events = t.events(&mut c1)?;
            Ok(format!(
                "connection closed {}, not early {}, {events}, expired {}",
                yes(closed),
                yes(not_early),
                expired(t, &c2)?
            ))
        },
    )
    .lane(Lane::Slow),
    Case::new(190, Profile::D, "pings keep a session", "open, open, open, open, expired no", |t| {
        let mut c2 = t.client_with(TIMEOUT_MS)?;
        let mut got = Vec::new();
        // Longer than the timeout.
        for _ in 0..4 {
            sleep(Duration::from_millis(2000));
            got.push(c2.state()?);
        }
        Ok(format!("{}, expired {}", got.join(", "), expired(t, &c2)?))
    })
    .lane(Lane::Slow),
    Case::new(
        191,
        Profile::D,
        "a lost connection leaves the ephemeral until the expiry",
        "at first 0; 2(p), not early yes",
        |t| {
            let (mut c1, c2, last) = watched_ephemeral(t)?;
            drop(c2);
            sleep(Duration::from_millis(500));
            let there = c1.exists(t.base(), true)?.err;
            let deadline = Instant::now() + EXPIRY_MAX;
            while c1.events.is_empty() && Instant::now() < deadline {
                c1.wait_events(1)?;
            }
            let not_early = last.elapsed() >= NOT_BEFORE;
            Ok(format!("at first {there}; {}, not early {}", t.events(&mut c1)?, yes(not_early)))
        },
    )
    .lane(Lane::Slow),
    Case::new(
        192,
        Profile::D,
        "closeSession takes the ephemerals along",
        "-101 -101, parent's pzxid Z, cversion +2",
        |t| {
            let (mut c1, mut c2) = (t.client()?, t.client()?);
            let p = t.p(&mut c1)?;
            for name in ["e1", "e2"] {
                c2.create_flags(format!("{p}/{name}"), b"", 1)?.ok()?;
            }
            let before = c1.stat(&p)?;
            let z = c2.close()?.ok()?.zxid;
            let a = c1.exists(format!("{p}/e1"), false)?.err;
            let b = c1.exists(format!("{p}/e2"), false)?.err;
            let s = c1.stat(&p)?;
            Ok(format!(
                "{a} {b}, parent's pzxid {}, cversion {:+}",
                rel(z, s.pzxid.to_wire()),
                s.cversion - before.cversion
            ))
        },
    ),
    Case::new(193, Profile::D, "closeSession leaves persistent nodes", "0", |t| {
        let (mut c1, mut c2) = (t.client()?, t.client()?);
        let p = t.p(&mut c1)?;
        c1.close()?.ok()?;
        Ok(c2.exists(&p, false)?.err.to_string())
    }),
    Case::new(194, Profile::D, "closeSession after another client deleted the ephemeral", "0, 0", |t| {
        let (mut c1, mut c2) = (t.client()?, t.client()?);
        c1.create_flags(t.base(), b"", 1)?.ok()?;
        let deleted = c2.delete(t.base(), -1)?.err;
        Ok(format!("{deleted}, {}", c1.close()?.err))
    }),
];
