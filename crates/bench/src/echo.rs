//! The floor: a server that only sends back what comes, and the load for it. What a request costs here is what sockets and
//! wake-ups cost, whatever a server does with it.

use crate::{Pace, Pool, Source, Span, Window};
use anyhow::{Context as _, Result, bail, ensure};
use farrier_proto::client::{begin_frame, end_frame};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Bytes that one read of the server may bring.
const READ_MAX: usize = 64 << 10;
/// Most connections of the server.
const CONNS_MAX: usize = 1024;
/// Bytes behind the header: about a reply with a value of 100 bytes and a stat.
const BODY_LEN: usize = 172;

/// A connection of the server, and what of it waits for room.
struct Conn {
    stream: TcpStream,
    unsent: Vec<u8>,
}

/// Sends everything back on the connection that it came on, until the process ends: one thread, one read and one write for
/// whatever a connection has.
///
/// # Errors
///
/// The listener or the system fails; a connection that fails is dropped.
pub fn serve(listener: &TcpListener) -> Result<()> {
    const LISTENER: u64 = u64::MAX;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("creating an epoll")?;
    epoll::add(&epoll, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut conns: Vec<Option<Conn>> = Vec::new();
    let mut events: Vec<epoll::Event> = Vec::with_capacity(CONNS_MAX);
    let mut buffer = vec![0; READ_MAX];
    loop {
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e).context("waiting for requests"),
        }
        for event in events.drain(..) {
            if event.data.u64() == LISTENER {
                let (stream, _) = match listener.accept() {
                    Ok(accepted) => accepted,
                    Err(e) if e.kind() == ErrorKind::WouldBlock => continue,
                    Err(e) => return Err(e).context("accepting"),
                };
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let index = conns.iter().position(Option::is_none).unwrap_or(conns.len());
                ensure!(index < CONNS_MAX, "more than {CONNS_MAX} connections to an echo");
                let data = epoll::EventData::new_u64(u64::try_from(index)?);
                epoll::add(
                    &epoll,
                    &stream,
                    data,
                    epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET,
                )?;
                if index == conns.len() {
                    conns.push(None);
                }
                conns[index] = Some(Conn { stream, unsent: Vec::new() });
                continue;
            }
            let index = usize::try_from(event.data.u64())?;
            if let Some(conn) = &mut conns[index]
                && send_back(conn, &mut buffer).is_err()
            {
                conns[index] = None;
            }
        }
    }
}

/// Until the socket has nothing more or takes nothing more.
fn send_back(conn: &mut Conn, buffer: &mut [u8]) -> std::io::Result<()> {
    loop {
        if !conn.unsent.is_empty() {
            match conn.stream.write(&conn.unsent) {
                Ok(n) => drop(conn.unsent.drain(..n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
            continue;
        }
        let n = match conn.stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        let sent = match conn.stream.write(&buffer[..n]) {
            Ok(sent) => sent,
            Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
            Err(e) => return Err(e),
        };
        conn.unsent.extend_from_slice(&buffer[sent..n]);
        if n < buffer.len() && sent == n {
            // Whatever comes from now on makes another event.
            return Ok(());
        }
    }
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
    /// Not counted.
    const RAMP: Duration = Duration::from_millis(300);
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
