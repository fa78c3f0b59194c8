//! How long nobody could write.
//!
//! One client per server writes to that server and to no other: whatever clients do to find a server that
//! serves is left out. Service is there when any of them gets a write acknowledged.

use anyhow::{Context as _, Result};
use farrier_proto::client::ConnectResponse;
use farrier_proto::{Field as _, OpCode, Reader};
use farrier_testkit::enc::body;
use farrier_testkit::raw::{Answer, Client, Conn, Connect, Frame, Sessions};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Where it writes.
const PATH: &str = "/gauge";
/// Session timeout of its clients, in milliseconds.
const TIMEOUT_MS: i32 = 10_000;
/// How long a server may take to answer one of them.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause between two requests of a client.
const PACE: Duration = Duration::from_millis(10);

/// Clients that measure until they are told to end.
pub(super) struct Gauge {
    ends: Arc<AtomicBool>,
    marks: Arc<Mutex<Marks>>,
    clients: Vec<JoinHandle<()>>,
}

/// The last acknowledged write, and the longest time between two.
struct Marks {
    last: Instant,
    longest: Duration,
}

impl Marks {
    fn acknowledged(&mut self, now: Instant) {
        self.longest = self.longest.max(now.saturating_duration_since(self.last));
        self.last = now;
    }
}

impl Gauge {
    /// Begins to measure when every server has had the chance to give its client a session.
    pub(super) fn start(servers: &[SocketAddr]) -> Result<Self> {
        let ends = Arc::new(AtomicBool::new(false));
        let marks = Arc::new(Mutex::new(Marks { last: Instant::now(), longest: Duration::ZERO }));
        let mut gauge = Self { ends, marks, clients: Vec::new() };
        let mut maker = servers.iter().find_map(|&addr| connect(addr)).context("no server takes a session")?;
        maker.create(PATH, b"")?;
        maker.close()?;
        for &addr in servers {
            let mut client = connect(addr);
            let (ends, marks) = (gauge.ends.clone(), gauge.marks.clone());
            gauge.clients.push(std::thread::Builder::new().name("gauge".into()).spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    client = client.take().or_else(|| connect(addr));
                    if client.as_mut().is_some_and(writes) {
                        marks.lock().unwrap_or_else(PoisonError::into_inner).acknowledged(Instant::now());
                    } else {
                        client = None;
                    }
                    std::thread::sleep(PACE);
                }
                // A session that can't be closed expires.
                let _ = client.map(|mut client| client.send(OpCode::CloseSession.code(), body()));
            })?);
        }
        *gauge.marks.lock().unwrap_or_else(PoisonError::into_inner) =
            Marks { last: Instant::now(), longest: Duration::ZERO };
        Ok(gauge)
    }

    /// The longest gap so far, one that lasts included.
    pub(super) fn end(self) -> Duration {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.acknowledged(Instant::now());
        marks.longest
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            // A panic has been printed.
            let _ = client.join();
        }
    }
}

fn writes(client: &mut Client) -> bool {
    let answer = client.send(OpCode::SetData.code(), body().s(PATH).s(b"").i(-1)).and_then(|_| client.answer(PATIENCE));
    matches!(answer, Ok(Answer::Reply(reply)) if reply.err == 0)
}

fn connect(addr: SocketAddr) -> Option<Client> {
    let mut conn = Conn::open_within(addr, PATIENCE).ok()?;
    conn.send_frame(&Connect { timeout: TIMEOUT_MS, ..Connect::default() }.encode()).ok()?;
    match conn.frame(PATIENCE).ok()? {
        Frame::Payload(bytes) => {
            let response = ConnectResponse::read(&mut Reader::new(&bytes)).ok()?;
            Client::on(conn, &response, &Sessions::default()).ok().filter(|_| response.timeout > 0)
        }
        Frame::Closed | Frame::Silent => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_is_kept() {
        let start = Instant::now();
        let mut marks = Marks { last: start, longest: Duration::ZERO };
        for ms in [10, 310, 320] {
            marks.acknowledged(start + Duration::from_millis(ms));
        }
        assert_eq!(marks.longest, Duration::from_millis(300));
    }
}
