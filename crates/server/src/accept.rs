//! Takes connections and deals them to the workers in turn.

use crate::limits::{ConnectionLimits, Excess};
use crate::worker::WorkerContext;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// How long to wait where a connection cannot be taken: mostly others must close before.
const PAUSE: Duration = Duration::from_millis(50);

/// A task of the first worker: a thread of its own would have to wake that up for each connection.
#[derive(Debug)]
pub(crate) struct Acceptor {
    pub(crate) listener: std::net::TcpListener,
    /// Of all workers, the first among them.
    pub(crate) workers: Vec<mpsc::Sender<(std::net::TcpStream, SocketAddr)>>,
    pub(crate) limits: Arc<ConnectionLimits>,
    pub(crate) keep_alive: bool,
}

impl Acceptor {
    /// Goes on until it is dropped with its worker's tasks.
    pub(crate) async fn run(self, context: Rc<WorkerContext>) {
        let Self { listener, workers, limits, keep_alive } = self;
        let listener = match listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)) {
            Ok(listener) => listener,
            Err(error) => return context.fail(&format!("connections of clients cannot be taken: {error}")),
        };
        let mut turn = 0;
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok((stream, peer)) => (stream, canonical(peer)),
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            match limits.enter(peer.ip()) {
                Ok(()) => {}
                Err(Excess::Address) => {
                    tracing::warn!("Too many connections from {}: the limit is maxClientCnxns", peer.ip());
                    continue;
                }
                Err(Excess::Total) => {
                    tracing::warn!("Too many connections: the limit is maxCnxns; refusing {peer}");
                    continue;
                }
            }
            turn = (turn + 1) % workers.len();
            let ready = prepare(&stream, keep_alive);
            if ready.is_ok() && turn == context.index() {
                context.serve(stream, peer);
            } else if !ready.and_then(|()| stream.into_std()).is_ok_and(|s| workers[turn].try_send((s, peer)).is_ok()) {
                limits.leave(peer.ip());
            }
        }
    }
}

fn prepare(stream: &TcpStream, keep_alive: bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if keep_alive { SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new()) } else { Ok(()) }
}

/// An IPv4 client of a dual-stack listener is an IPv4 client.
const fn canonical(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
            None => peer,
        },
        SocketAddr::V4(_) => peer,
    }
}
