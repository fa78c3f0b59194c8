//! The floor: a server that only sends back what comes, and the load for it. What a request costs here is what sockets and
//! wake-ups cost, whatever a server does with it.

use crate::bare::{self, Conn, RAMP};
use crate::{Pace, Pool, Source, Span, Window};
use anyhow::{Result, bail};
use farrier_proto::client::{begin_frame, end_frame};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// Most connections of the server.
const CONNS_MAX: usize = 1024;
/// Bytes behind the header: about a reply with a value of 100 bytes and a stat.
const BODY_LEN: usize = 172;

/// Sends everything back on the connection that it came on, until the process ends: one thread, one read and one write for
/// whatever a connection has.
///
/// # Errors
///
/// The listener or the system fails; a connection that fails is dropped.
pub fn serve(listener: &TcpListener) -> Result<()> {
    bare::serve(listener, CONNS_MAX, |conns, index, buffer| match &mut conns[index] {
        Some(conn) => send_back(conn, buffer),
        None => Ok(()),
    })
}

/// Until the socket has nothing more or takes nothing more.
fn send_back(conn: &mut Conn, buffer: &mut [u8]) -> std::io::Result<()> {
    while conn.flush()? {
        let n = match conn.read(buffer)? {
            0 => return Ok(()),
            n => n,
        };
        conn.send(&buffer[..n])?;
        if n < buffer.len() {
            // Whatever comes from now on makes another event.
            return Ok(());
        }
    }
    Ok(())
}

/// Asks frames that are their own replies.
struct Echo;

impl Source for Echo {
    fn next(&mut self, _conn: usize, xid: i32, out: &mut Vec<u8>) -> Option<u64> {
        let at = begin_frame(out);
        out.extend_from_slice(&xid.to_be_bytes());
        // No zxid, no error.
        out.extend_from_slice(&[0; 12]);
        out.extend_from_slice(&[b'e'; BODY_LEN]);
        end_frame(out, at);
        Some(0)
    }

    fn reply(&mut self, conn: usize, _tag: u64, error: i32, body: &[u8]) -> Result<()> {
        if error != 0 || body != [b'e'; BODY_LEN] {
            bail!("connection {conn} got back something else than it had sent");
        }
        Ok(())
    }
}

/// What a bare echo shows with so many connections of this depth; the probe is asked at both ends.
///
/// # Errors
///
/// The server is gone, or sends something else back.
pub fn measure<P>(
    addr: SocketAddr,
    conns: usize,
    depth: usize,
    window: Duration,
    probe: &mut dyn FnMut() -> Result<P>,
) -> Result<Window<P>> {
    Pool::open_bare(&[addr], conns)?.run(Pace::Depth(depth), Span::Timed { ramp: RAMP, window }, &mut Echo, probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that ends with the tests' process.
    fn served() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        std::thread::spawn(move || serve(&listener));
        addr
    }

    /// So many requests.
    struct Few(u64);

    impl Source for Few {
        fn next(&mut self, conn: usize, xid: i32, out: &mut Vec<u8>) -> Option<u64> {
            self.0 = self.0.checked_sub(1)?;
            Echo.next(conn, xid, out)
        }

        fn reply(&mut self, conn: usize, tag: u64, error: i32, body: &[u8]) -> Result<()> {
            Echo.reply(conn, tag, error, body)
        }
    }

    #[test]
    fn an_open_loop_asks_all_that_its_source_has_however_little_room_there_is() {
        let mut pool = Pool::open_bare(&[served()], 2).expect("an echo");
        for (per_second, depth_max, requests) in [(500.0, 1, 20), (100_000.0, 1, 300), (100_000.0, 4096, 3000)] {
            let pace = Pace::Rate { per_second, depth_max };
            let ran = pool.run(pace, Span::Exhausted, &mut Few(requests), &mut || Ok(())).expect("an echo");
            assert_eq!(ran.replies, requests, "{pace:?}");
        }
    }

    #[test]
    fn what_is_sent_comes_back_on_its_own_connection() {
        let addr = served();
        for (conns, depth) in [(1, 1), (4, 64), (2, 600)] {
            let window = measure(addr, conns, depth, Duration::from_millis(50), &mut || Ok(())).expect("an echo");
            assert!(window.replies > 0);
        }
    }
}
