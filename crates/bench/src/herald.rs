//! The floor of watch events: a server that tells every other connection of a write, and does nothing else. What an event
//! costs here is what it costs to send it.

use crate::bare::{self, RAMP};
use crate::fanout::Fanout;
use crate::{Pace, Pool, Span, Window};
use anyhow::Result;
use farrier_proto::client::{EventType, RequestHeader, put_event, put_reply};
use farrier_proto::{Field as _, OpCode, Reader};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// Most connections of the server.
const CONNS_MAX: usize = 12_000;
/// As long as that of the row which this is the floor of.
const PATH: &str = "/farrier-bench/0123456789abcdef/fanout";

/// Answers every request without a look at it, and tells all other connections of each setData, until the process ends.
///
/// # Errors
///
/// The listener or the system fails; a connection that fails is dropped.
pub fn serve(listener: &TcpListener) -> Result<()> {
    let (mut event, mut reply) = (Vec::new(), Vec::new());
    put_event(&mut event, -1, EventType::NodeDataChanged, PATH);
    let mut asked = Vec::new();
    bare::serve(listener, CONNS_MAX, move |conns, index, buffer| {
        let Some(conn) = &mut conns[index] else { return Ok(()) };
        conn.flush()?;
        conn.frames(buffer, |frame| asked.extend(RequestHeader::read(&mut Reader::new(frame))))?;
        for RequestHeader { xid, op } in asked.drain(..) {
            for (other, place) in conns.iter_mut().enumerate().filter(|_| op == OpCode::SetData.code()) {
                if other != index && place.as_mut().is_some_and(|conn| conn.send(&event).is_err()) {
                    *place = None;
                }
            }
            if let Some(conn) = &mut conns[index] {
                reply.clear();
                put_reply(&mut reply, xid, 0, Ok(()), |_| {});
                conn.send(&reply)?;
            }
        }
        Ok(())
    })
}

/// What events to so many watchers show; the probe is asked at both ends.
///
/// # Errors
///
/// The server is gone, or sends something else.
pub fn measure<P>(
    addr: SocketAddr,
    watchers: usize,
    window: Duration,
    probe: &mut dyn FnMut() -> Result<P>,
) -> Result<Window<P>> {
    let mut fanout = Fanout::new(PATH, b"", watchers);
    Pool::open_bare(&[addr], watchers + 1)?.run(Pace::Depth(1), Span::Timed { ramp: RAMP, window }, &mut fanout, probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_watcher_hears_of_every_write() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        // It ends with the tests' process.
        std::thread::spawn(move || serve(&listener));
        for watchers in [1, 40] {
            // The next write comes behind the last event, and an event that comes twice is an error.
            let window = measure(addr, watchers, Duration::from_millis(50), &mut || Ok(())).expect("events");
            assert!(window.replies > 2 * watchers as u64, "{} events", window.replies);
        }
    }
}
