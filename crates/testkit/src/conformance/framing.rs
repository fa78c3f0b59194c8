//! A: framing and handshake.

use crate::case::{Case, Ctx, Profile, list, yes};
use crate::enc::body;
use crate::raw::{Answer, Client, Connect, Frame, Handshake, PATIENCE, four_letter_word, framed};
use anyhow::{Context as _, Result, bail};
use farrier_proto::session::password;
use farrier_proto::{OpCode, SessionId};
use std::thread::sleep;
use std::time::Duration;

/// Why an oversized request is answered instead of cutting the connection.
const TOO_LARGE: &str = "the protocol can express the refusal: the frame is read and discarded, the reply carries its \
                         xid and -5, and the connection stays";

/// What a handshake with `sid` and `password` gives: `expired`, `expired then open`, `accepted` or `close`.
fn verdict(t: &Ctx<'_>, ask: &Connect) -> Result<String> {
    let (mut conn, answer) = t.handshake(ask)?;
    if answer.is_expired() {
        return Ok(match conn.frame(PATIENCE)? {
            Frame::Closed => "expired, close".to_owned(),
            other => format!("expired, then {other:?}"),
        });
    }
    Ok(match answer {
        Handshake::Closed => "close".to_owned(),
        Handshake::Response { .. } => "accepted".to_owned(),
    })
}

fn response_shape(answer: &Handshake) -> Result<String> {
    let Handshake::Response { len, response } = answer else { bail!("closed") };
    let flag = match response.read_only {
        None => "none",
        Some(false) => "00",
        Some(true) => "01",
    };
    let sid = if response.session == SessionId::NONE { "sid 0" } else { "sid" };
    Ok(format!("{len} bytes, timeout {}, {sid}, flag {flag}", response.timeout))
}

/// The answer to raw bytes on a fresh connection.
fn raw_first(t: &Ctx<'_>, bytes: &[u8]) -> Result<String> {
    let mut conn = t.conn()?;
    conn.send(bytes)?;
    Ok(match conn.frame(PATIENCE)? {
        Frame::Closed => "close".to_owned(),
        Frame::Silent => "silence".to_owned(),
        Frame::Payload(p) => format!("a frame of {} bytes", p.len()),
    })
}

/// A setData whose frame has exactly `len` bytes; its xid is 7.
fn set_of(path: &str, len: usize) -> Result<Vec<u8>> {
    let overhead = 8 + 4 + path.len() + 4 + 4;
    let data = vec![b'x'; len.checked_sub(overhead).context("too short")?];
    Ok(body().i(7).i(OpCode::SetData.code()).s(path).s(data).i(-1).0)
}

/// The answer to a setData in a frame of `len` bytes, and the connection's state after it.
fn set_answer(c: &mut Client, path: &str, len: usize) -> Result<String> {
    c.conn.send_frame(&set_of(path, len)?)?;
    let answer = match c.answer(PATIENCE)? {
        Answer::Reply(r) => format!("{} xid {}", r.err, r.xid),
        other => other.to_string(),
    };
    Ok(format!("{answer}, {}", c.state()?))
}

pub(super) const CASES: &[Case] = &[
    Case::new(1, Profile::D, "connect request of 45 bytes", "37 bytes, timeout 10000, sid, flag 00", |t| {
        response_shape(&t.handshake(&Connect::default())?.1)
    }),
    Case::new(
        2,
        Profile::D,
        "connect request without the readOnly byte",
        "36 bytes, timeout 10000, sid, flag none; open",
        |t| {
            let (conn, answer) = t.handshake(&Connect { read_only: None, ..Connect::default() })?;
            let shape = response_shape(&answer)?;
            let mut c = Client::on(conn, &answer.response()?, t.sessions())?;
            Ok(format!("{shape}; {}", c.state()?))
        },
    ),
    Case::new(3, Profile::D, "readOnly=1 on a read-write server", "37 bytes, timeout 10000, sid, flag 00", |t| {
        response_shape(&t.handshake(&Connect { read_only: Some(true), ..Connect::default() })?.1)
    }),
    Case::new(
        4,
        Profile::D,
        "timeouts 0, -5, 1, 3999, 4000, 4001, 40000, 40001, 10^9",
        "4000, 4000, 4000, 4000, 4000, 4001, 40000, 40000, 40000",
        |t| {
            let mut got = Vec::new();
            for ask in [0, -5, 1, 3999, 4000, 4001, 40000, 40001, 1_000_000_000] {
                got.push(t.client_with(ask)?.timeout);
            }
            Ok(list(got))
        },
    ),
    Case::new(5, Profile::D, "sid 0 with null and with empty password", "16, 16", |t| {
        let mut got = Vec::new();
        for password in [None, Some(Vec::new())] {
            got.push(t.connect(&Connect { password, ..Connect::default() })?.password.len());
        }
        Ok(list(got))
    }),
    Case::new(6, Profile::D, "the password is a function of the id", "yes", |t| {
        let c = t.client()?;
        Ok(yes(c.password == password(SessionId(c.session))).to_owned())
    }),
    Case::new(7, Profile::D, "lastZxidSeen = Z, and Z + 10^6", "accepted, close", |t| {
        let z = t.client()?.z()?;
        let a = verdict(t, &Connect { last_zxid: z, ..Connect::default() })?;
        let b = verdict(t, &Connect { last_zxid: z + 1_000_000, ..Connect::default() })?;
        Ok(list([a, b]))
    }),
    Case::new(
        8,
        Profile::D,
        "re-attachment with another timeout",
        "first connection closes, same sid, same password, timeout 20000, ephemeral 0",
        |t| {
            let mut c1 = t.client()?;
            let e = t.base();
            c1.create_flags(&e, b"", 1)?.ok()?;
            let mut c2 = t.connect(&Connect { timeout: 20_000, ..Connect::again(c1.session, &c1.password) })?;
            let first = if c1.closes(PATIENCE)? { "closes" } else { "stays" };
            let sid = if c2.session == c1.session { "same" } else { "other" };
            let pw = if c2.password == c1.password { "same" } else { "other" };
            let e = c2.exists(&e, false)?.err;
            Ok(format!("first connection {first}, {sid} sid, {pw} password, timeout {}, ephemeral {e}", c2.timeout))
        },
    ),
    Case::new(
        9,
        Profile::D,
        "re-attachment with a wrong password",
        "expired, close; victim's connection close; session accepted",
        |t| {
            let mut c1 = t.client()?;
            let wrong = verdict(t, &Connect::again(c1.session, &[7; 16]))?;
            let victim = c1.state()?;
            let right = verdict(t, &Connect::again(c1.session, &c1.password))?;
            Ok(format!("{wrong}; victim's connection {victim}; session {right}"))
        },
    )
    .farrier(
        "expired, close; victim's connection open; session accepted",
        "the password is checked first: whoever merely knows an id must not cut a client's connection",
    ),
    Case::new(
        10,
        Profile::D,
        "re-attachment with 8 bytes of the password, and with null",
        "expired, close; expired, close",
        |t| {
            let c1 = t.client()?;
            let short = Connect::again(c1.session, &c1.password[..8]);
            let null = Connect { password: None, ..short.clone() };
            Ok(format!("{}; {}", verdict(t, &short)?, verdict(t, &null)?))
        },
    ),
    Case::new(11, Profile::D, "a session that never was, with its right password", "expired, close", |t| {
        verdict(t, &Connect::again(0x1234, &password(SessionId(0x1234))))
    }),
    Case::new(12, Profile::D, "re-attachment to a closed session", "expired, close", |t| {
        let mut c1 = t.client()?;
        c1.close()?.ok()?;
        verdict(t, &Connect::again(c1.session, &c1.password))
    }),
    Case::new(
        13,
        Profile::D,
        "re-attachment to a dead session without the readOnly byte",
        "36 bytes, timeout 0, sid 0, flag none",
        |t| {
            let ask = Connect { read_only: None, ..Connect::again(0x1234, &password(SessionId(0x1234))) };
            response_shape(&t.handshake(&ask)?.1)
        },
    ),
    Case::new(14, Profile::D, "handshake and exists(\"/\") in one segment", "response, xid 5 err 0", |t| {
        let mut conn = t.conn()?;
        let exists = body().i(5).i(OpCode::Exists.code()).s("/").z(0).0;
        conn.send(&[framed(&Connect::default().encode()), framed(&exists)].concat())?;
        let response = conn.handshake_answer()?.response()?;
        let mut c = Client::on(conn, &response, t.sessions())?;
        let r = c.reply()?;
        Ok(format!("response, xid {} err {}", r.xid, r.err))
    }),
    Case::new(15, Profile::D, "first frame of length 0, -5, 0x100000", "close, close, close", |t| {
        let mut got = Vec::new();
        for len in [0, -5, 0x10_0000] {
            got.push(raw_first(t, &body().i(len).0)?);
        }
        Ok(list(got))
    }),
    Case::new(16, Profile::D, "a frame of exactly 1048575 bytes", "0 xid 7, open; 1048551 bytes of data", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let answer = set_answer(&mut c, &p, 1_048_575)?;
        let len = c.stat(&p)?.data_length;
        c.delete(&p, -1)?.ok()?;
        Ok(format!("{answer}; {len} bytes of data"))
    }),
    Case::new(17, Profile::D, "a frame of 1048576 bytes", "close, close; 0 bytes of data", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let answer = set_answer(&mut c, &p, 1_048_576)?;
        let len = t.client()?.stat(&p)?.data_length;
        Ok(format!("{answer}; {len} bytes of data"))
    })
    .farrier("-5 xid 7, open; 0 bytes of data", TOO_LARGE),
    Case::new(18, Profile::D, "a frame of length 4, and one of length 0", "close, close", |t| {
        let mut got = Vec::new();
        for payload in [&[0, 0, 0, 1][..], &[]] {
            let mut c = t.client()?;
            c.conn.send_frame(payload)?;
            got.push(c.answer(PATIENCE)?);
        }
        Ok(list(got))
    }),
    Case::new(19, Profile::D, "ruok", "\"imok\"", |t| Ok(format!("{:?}", four_letter_word(t.addr(), "ruok")?))),
    Case::new(20, Profile::D, "isro", "\"rw\"", |t| Ok(format!("{:?}", four_letter_word(t.addr(), "isro")?))),
    Case::new(
        21,
        Profile::M,
        "ruok with the default whitelist",
        "\"ruok is not executed because it is not in the whitelist.\\n\"",
        |t| Ok(format!("{:?}", four_letter_word(t.addr(), "ruok")?)),
    ),
    Case::new(22, Profile::D, "an unknown word is a length", "close", |t| raw_first(t, b"zzzz")),
    Case::new(23, Profile::D, "ruok on an established session is a length", "close", |t| {
        let mut c = t.client()?;
        c.conn.send(b"ruok")?;
        Ok(c.answer(PATIENCE)?.to_string())
    }),
    Case::new(24, Profile::M, "one connection more than maxClientCnxns", "3 accepted, close", |t| {
        // The server may still count connections that were closed a moment ago.
        let mut open: Vec<Client> = Vec::new();
        for _ in 0..100 {
            match t.client() {
                Ok(c) => open.push(c),
                Err(_) => sleep(Duration::from_millis(50)),
            }
            if open.len() == 3 {
                break;
            }
        }
        let fourth = verdict(t, &Connect::default())?;
        for c in &mut open {
            c.close()?.ok()?;
            c.closes(PATIENCE)?;
        }
        sleep(Duration::from_millis(200));
        Ok(format!("{} accepted, {fourth}", open.len()))
    }),
    Case::new(25, Profile::M, "frames of 4096 and 4097 bytes", "0 xid 7, open; close, close", |t| {
        let mut c = t.client()?;
        let p = t.p(&mut c)?;
        let fits = set_answer(&mut c, &p, 4096)?;
        c.close()?.ok()?;
        c.closes(PATIENCE)?;
        let mut c = t.client()?;
        let over = set_answer(&mut c, &p, 4097)?;
        drop(c);
        sleep(Duration::from_millis(200));
        Ok(format!("{fits}; {over}"))
    })
    .farrier("0 xid 7, open; -5 xid 7, open", TOO_LARGE),
];
