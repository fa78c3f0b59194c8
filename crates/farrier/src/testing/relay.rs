//! What lies between the servers of an ensemble: for each pair and direction of dialling a listener of its own, which
//! passes bytes on while the two are not cut off from each other.
//!
//! A thread with its own runtime, so that it goes on whatever the test's runtime does. It ends when the handle
//! goes.

use farrier_server::local::Ports;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::LocalSet;

/// Room for one read.
const CHUNK: usize = 64 << 10;

/// Connections that one listener holds during a cut; the oldest is closed for the next.
const HELD_MAX: usize = 16;

/// Pause after an accept that failed.
const REST: Duration = Duration::from_millis(20);

/// The state of all links: which servers are cut off.
type Cuts = Vec<bool>;

/// The relay of one ensemble.
#[derive(Debug)]
pub(super) struct Relay {
    detours: Vec<Arc<BTreeMap<SocketAddr, SocketAddr>>>,
    /// `None` once it ends.
    cuts: Option<watch::Sender<Cuts>>,
    thread: Option<JoinHandle<()>>,
}

/// The link of a pair of servers.
#[derive(Clone)]
struct Link {
    ends: [usize; 2],
    cuts: watch::Receiver<Cuts>,
}

/// The ensemble is gone.
struct Gone;

impl Link {
    fn is_cut(&self) -> bool {
        let cuts = self.cuts.borrow();
        self.ends.iter().any(|end| cuts[*end])
    }

    /// Waits until it is whole.
    async fn whole(&mut self) -> Result<(), Gone> {
        let ends = self.ends;
        self.cuts.wait_for(|cuts| ends.iter().all(|end| !cuts[*end])).await.map(drop).map_err(|_| Gone)
    }
}

impl Relay {
    /// Listens for every server, on behalf of every other.
    pub(super) fn start(ports: &[Ports]) -> io::Result<Self> {
        let (sender, cuts) = watch::channel(vec![false; ports.len()]);
        let mut detours = Vec::new();
        let mut listeners = Vec::new();
        for dialler in 0..ports.len() {
            let mut own = BTreeMap::new();
            for (target, theirs) in ports.iter().enumerate().filter(|(target, _)| *target != dialler) {
                for port in [theirs.quorum, theirs.election] {
                    let listener = std::net::TcpListener::bind(Ports::address(0))?;
                    listener.set_nonblocking(true)?;
                    own.insert(Ports::address(port), listener.local_addr()?);
                    let link = Link { ends: [dialler, target], cuts: cuts.clone() };
                    listeners.push((listener, link, Ports::address(port)));
                }
            }
            detours.push(Arc::new(own));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            let local = LocalSet::new();
            local.block_on(&runtime, async move {
                for (listener, link, target) in listeners {
                    tokio::task::spawn_local(listen(listener, link, target));
                }
                // Until the sender has gone. What runs here then is dropped, and its sockets with it.
                let mut cuts = cuts;
                while cuts.changed().await.is_ok() {}
            });
        };
        let thread = std::thread::Builder::new().name("relay".into()).spawn(run)?;
        Ok(Self { detours, cuts: Some(sender), thread: Some(thread) })
    }

    /// Where a server finds the others instead.
    pub(super) fn detours(&self, index: usize) -> Arc<BTreeMap<SocketAddr, SocketAddr>> {
        self.detours[index].clone()
    }

    /// Cuts all links of a server, or makes them whole again as far as the other end allows.
    pub(super) fn set_isolated(&self, index: usize, isolated: bool) {
        if let Some(cuts) = &self.cuts {
            cuts.send_modify(|cuts| cuts[index] = isolated);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cuts = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it was printed.
            let _ = thread.join();
        }
    }
}

/// Takes the connections of one listener until the relay ends.
async fn listen(listener: std::net::TcpListener, mut link: Link, target: SocketAddr) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let mut held = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if link.is_cut() => {
                    // It was never made, and the dialler does not know yet.
                    held.push_back(stream);
                    if held.len() > HELD_MAX {
                        held.pop_front();
                    }
                }
                Ok((stream, _)) => {
                    tokio::task::spawn_local(carry(stream, link.clone(), target));
                }
                Err(_) => tokio::time::sleep(REST).await,
            },
            whole = link.whole(), if !held.is_empty() => match whole {
                Ok(()) => held.clear(),
                Err(Gone) => return,
            },
        }
    }
}

/// One connection: both directions until both have ended or one has failed, which the other side then sees.
async fn carry(from: TcpStream, link: Link, target: SocketAddr) {
    let Ok(to) = TcpStream::connect(target).await else { return };
    for stream in [&from, &to] {
        // Only a matter of speed.
        let _ = stream.set_nodelay(true);
    }
    let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
    let there = pass(from_read, to_write, link.clone());
    let back = pass(to_read, from_write, link.clone());
    // A failure is news of the other end, which does not get through a cut.
    let _ = tokio::try_join!(there, back);
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut link: Link) -> Result<(), Gone> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await;
        // What has arrived here stays here until the link is whole; so does the news that there is no more.
        link.whole().await?;
        let passed = match read {
            Ok(0) => return to.shutdown().await.map_err(|_| Gone),
            Ok(len) => to.write_all(&chunk[..len]).await,
            Err(error) => Err(error),
        };
        if passed.is_err() {
            link.whole().await?;
            return Err(Gone);
        }
    }
}
