//! Behaviour of Apache that the protocol reference (section 10.2) advises against and no numbered case
//! covers. Numbered from 901; cases that would bring Apache's server down are in Farrier's own tests.

use crate::case::{Case, Profile};
use crate::enc::body;
use crate::raw::{Frame, PATIENCE};
use farrier_proto::OpCode;

pub(super) const CASES: &[Case] =
    &[Case::new(901, Profile::D, "createSession from a client", "a second connect response, open", |t| {
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
    .farrier("-6, close", "only servers make sessions by a transaction; a client does so by the handshake")];
