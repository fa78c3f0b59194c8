//! Behaviour of Apache that the protocol reference (section 10.2) advises against and that no numbered
//! case covers. Numbered from 901. What is expected here is what Apache does; Farrier means to differ.

use crate::case::{Case, Ctx, Lane, Profile, yes};
use crate::enc::body;
use crate::raw::{Answer, Client, Frame, PATIENCE};
use anyhow::Result;
use farrier_proto::OpCode;

/// Whether the server still takes sessions and writes, now and after a hard kill.
fn survives(t: &mut Ctx<'_>) -> Result<String> {
    let writes = |t: &Ctx<'_>, name: &str| -> Result<bool> {
        Ok(t.client()?.create(format!("{}-{name}", t.base()), b"")?.err == 0)
    };
    // Whatever goes wrong from here on is the answer "no".
    let now = writes(t, "now").unwrap_or(false);
    let later = t.server.restart().and_then(|()| writes(t, "later")).unwrap_or(false);
    Ok(format!("serves on {}, after a restart {}", yes(now), yes(later)))
}

/// The error code of the answer, or that there is none.
fn shown(answer: &Answer) -> String {
    match answer {
        Answer::Reply(r) => r.err.to_string(),
        Answer::Closed | Answer::Silent => "no answer".to_owned(),
    }
}

fn create_below(c: &mut Client, path: &str) -> Result<Answer> {
    c.ask(OpCode::Create.code(), body().create(path, b"", 0))
}

pub(super) const CASES: &[Case] = &[
    Case::new(901, Profile::D, "createSession from a client", "a second connect response, open", |t| {
        let mut c = t.client()?;
        c.send_as(5, OpCode::CreateSession.code(), body().i(10_000))?;
        let Frame::Payload(bytes) = c.conn.frame(PATIENCE)? else {
            return Ok("no answer".to_owned());
        };
        let what = match bytes.len() {
            36 | 37 => "a second connect response".to_owned(),
            16 => format!("{}", i32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]])),
            n => format!("{n} bytes"),
        };
        Ok(format!("{what}, {}", c.state()?))
    })
    .farrier("-6, close", "only servers make sessions by a transaction; a client does so by the handshake"),
    Case::new(
        902,
        Profile::X,
        "createTTL without a TTL flag and with ttl -1",
        "no answer; serves on no, after a restart no",
        |t| {
            let mut c = t.client()?;
            let answer = c.ask(OpCode::CreateTtl.code(), body().s(t.base()).s(b"").acl(crate::enc::OPEN).i(0).l(-1))?;
            Ok(format!("{}; {}", shown(&answer), survives(t)?))
        },
    )
    .farrier("-8; serves on yes, after a restart yes", "no request may bring a server down")
    .lane(Lane::Own),
    Case::new(903, Profile::D, "a quota on the root", "answered no; serves on no, after a restart no", |t| {
        let mut c = t.client()?;
        let answer = create_below(&mut c, "/zookeeper/quota/zookeeper_limits")?;
        // Refused or stored without effect: either will do, as long as the server lives.
        let answered = matches!(answer, Answer::Reply(_));
        Ok(format!("answered {}; {}", yes(answered), survives(t)?))
    })
    .farrier("answered yes; serves on yes, after a restart yes", "no request may bring a server down")
    .lane(Lane::Own),
    Case::new(
        904,
        Profile::D,
        "garbage in the stats node of a quota",
        "0, no answer; serves on no, after a restart no",
        |t| {
            let mut c = t.client()?;
            let p = t.p(&mut c)?;
            let quota = format!("/zookeeper/quota{p}");
            c.create(&quota, b"")?.ok()?;
            c.create(format!("{quota}/zookeeper_limits"), b"count=-1,bytes=-1")?.ok()?;
            c.create(format!("{quota}/zookeeper_stats"), b"count=0,bytes=0")?.ok()?;
            let set = c.set(format!("{quota}/zookeeper_stats"), b"no quota", -1)?.err;
            let below = create_below(&mut c, &format!("{p}/k"))?;
            Ok(format!("{set}, {}; {}", shown(&below), survives(t)?))
        },
    )
    .farrier("0, 0; serves on yes, after a restart yes", "no request may bring a server down")
    .lane(Lane::Own),
];
