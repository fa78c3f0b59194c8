//! The floor of sessions that come and go: a server that gives everybody one and knows nothing of it. What a session costs
//! here is what its connection and its two answers cost.

use crate::bare;
use anyhow::Result;
use farrier_proto::client::{ConnectResponse, RequestHeader, begin_frame, end_frame, put_reply};
use farrier_proto::{Field as _, OpCode, Reader, SessionId};
use std::io;
use std::net::TcpListener;

/// Most connections of the server.
const CONNS_MAX: usize = 1024;

/// Answers every handshake and the request that ends a session, and closes the connection behind that, until the process
/// ends.
///
/// # Errors
///
/// The listener or the system fails; a connection that fails is dropped.
pub fn serve(listener: &TcpListener) -> Result<()> {
    let mut opened = Vec::new();
    let at = begin_frame(&mut opened);
    ConnectResponse { timeout: 40_000, session: SessionId(1), password: [1; 16], read_only: Some(false) }
        .write(&mut opened);
    end_frame(&mut opened, at);
    bare::serve(listener, CONNS_MAX, |conns, index, buffer| {
        let Some(conn) = &mut conns[index] else { return Ok(()) };
        conn.flush()?;
        let (mut answer, mut ends) = (Vec::new(), false);
        conn.frames(buffer, |frame| match RequestHeader::read(&mut Reader::new(frame)) {
            Ok(header) if header.op == OpCode::CloseSession.code() => {
                put_reply(&mut answer, header.xid, 0, Ok(()), |_| {});
                ends = true;
            }
            // Whatever its first bytes are as a header.
            Ok(_) | Err(_) => answer.extend_from_slice(&opened),
        })?;
        conn.send(&answer)?;
        if ends { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions;
    use std::time::Duration;

    #[test]
    fn sessions_come_and_go() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        // It ends with the tests' process.
        std::thread::spawn(move || serve(&listener));
        let seen = sessions::connect(&[addr], 4, Duration::from_millis(50), &mut |_, _| Ok(())).expect("sessions");
        assert!(seen.sessions >= 4, "{}", seen.sessions);
    }
}
