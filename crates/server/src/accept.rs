//! Takes connections and deals them to the workers in turn.

use crate::limits::{self, ConnectionLimits, Excess};
use crate::peers::address::{self, Endpoint};
use crate::quietly::Quietly;
use crate::worker::WorkerContext;
use farrier_proto::membership::HostPort;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// How long to wait where a connection cannot be taken: mostly others must close before.
const PAUSE: Duration = Duration::from_millis(50);

/// Between two attempts to listen anywhere.
const RETRY: Duration = Duration::from_secs(1);

/// A task of the first worker: a thread of its own would have to wake that up for each connection.
#[derive(Debug)]
pub(crate) struct Acceptor {
    pub(crate) listener: std::net::TcpListener,
    /// Of all workers, the first among them.
    pub(crate) workers: Vec<mpsc::Sender<(std::net::TcpStream, SocketAddr)>>,
    pub(crate) limits: Arc<ConnectionLimits>,
    pub(crate) keep_alive: bool,
    /// Of listen(2).
    pub(crate) backlog: i32,
    /// Where a configuration in force lets clients of this server connect.
    pub(crate) moves: watch::Receiver<Option<HostPort>>,
}

impl Acceptor {
    /// Goes on until it is dropped with its worker's tasks.
    pub(crate) async fn run(self, context: Rc<WorkerContext>) {
        let Self { listener, workers, limits, keep_alive, backlog, mut moves } = self;
        let mut listener = match listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)) {
            Ok(listener) => listener,
            Err(error) => return context.fail(&format!("connections of clients cannot be taken: {error}")),
        };
        let (mut turn, lines) = (0, [(); 4].map(|()| Quietly::default()));
        let [failed, too_many_of_one, too_many, too_many_files] = &lines;
        // Where to, and what that stands for, once it is known.
        let mut lookup: Option<JoinHandle<(Endpoint, io::Result<SocketAddr>)>> = None;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Ok(()) = moves.changed() => {
                    if let Some(to) = moves.borrow_and_update().clone() {
                        // The last word counts.
                        let task = tokio::task::spawn_local(look_up(Endpoint { host: to.host, port: to.port }));
                        if let Some(before) = lookup.replace(task) {
                            before.abort();
                        }
                    }
                    continue;
                }
                found = async { lookup.as_mut().expect("there is one").await }, if lookup.is_some() => {
                    lookup = None;
                    // Nobody aborts the last one.
                    if let Ok((to, found)) = found {
                        listener = follow(listener, &to, found, backlog, &context).await;
                    }
                    continue;
                }
            };
            let (stream, peer) = match accepted {
                Ok((stream, peer)) => (stream, canonical(peer)),
                Err(error) => {
                    failed.warn(|| format!("cannot accept a connection: {error}"));
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            if let Some(limit) = is_kept(&stream) {
                limits.refuse();
                too_many_files.warn(|| {
                    format!(
                        "Too many connections: {limit} files can be open (ulimit -n, LimitNOFILE=), and the last of \
                         them are not for clients; refusing {peer}"
                    )
                });
                continue;
            }
            match limits.enter(peer.ip()) {
                Ok(()) => {}
                Err(Excess::Address) => {
                    let text = || format!("Too many connections from {}: the limit is maxClientCnxns", peer.ip());
                    too_many_of_one.warn(text);
                    continue;
                }
                Err(Excess::Total) => {
                    too_many.warn(|| format!("Too many connections: the limit is maxCnxns; refusing {peer}"));
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

/// Listens at an address for clients, or at every one.
pub(crate) fn listen(
    ip: Option<IpAddr>,
    port: u16,
    backlog: i32,
) -> Result<std::net::TcpListener, (SocketAddr, io::Error)> {
    match ip.map(|ip| SocketAddr::new(ip, port)) {
        Some(address) => address::open(address, backlog).map_err(|error| (address, error)),
        None => address::open_everywhere(port, backlog),
    }
}

/// The first address of a name, which may take seconds: others connect meanwhile.
async fn look_up(to: Endpoint) -> (Endpoint, io::Result<SocketAddr>) {
    let found = address::resolve(&to).await;
    (to, found.and_then(|found| found.first().copied().ok_or_else(|| io::ErrorKind::NotFound.into())))
}

/// Listens where a reconfiguration says, if that is elsewhere, and no longer at `old`. Connections that were taken
/// there stay. Where it cannot listen, it stays where it was: clients may know only that place.
async fn follow(
    old: TcpListener,
    to: &Endpoint,
    found: io::Result<SocketAddr>,
    backlog: i32,
    context: &WorkerContext,
) -> TcpListener {
    let Ok(was) = old.local_addr() else { return old };
    let open = |at| listen_at(at, backlog).and_then(|listener| TcpListener::from_std(listener));
    let moved = |listener| {
        tracing::info!("by a reconfiguration, clients connect at {} now, and no longer at {was}", to.text());
        context.words().client_port.store(to.port, Ordering::Relaxed);
        listener
    };
    let stays = |error: &io::Error| {
        tracing::error!(
            "by a reconfiguration, clients are to connect at {}, and this server cannot listen there: {error}. They \
             connect at {was} as before. Free that address and start this server again, or correct its line by another \
             reconfiguration",
            to.text()
        );
    };
    let new = match found {
        Ok(new) => new,
        Err(error) => {
            stays(&error);
            return old;
        }
    };
    if place(new) == place(was) {
        return old;
    }
    match open(new) {
        Ok(listener) => return moved(listener),
        // The same port at every address and at one of them exclude each other: the old one has to go first.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && new.port() == was.port() => drop(old),
        Err(error) => {
            stays(&error);
            return old;
        }
    }
    loop {
        match open(new) {
            Ok(listener) => return moved(listener),
            Err(error) => stays(&error),
        }
        match open(was) {
            Ok(listener) => return listener,
            Err(error) => tracing::error!("cannot listen at {was} again: {error}; trying both once more"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// What an address to listen at stands for: every address of the machine has two forms.
fn place(address: SocketAddr) -> (Option<IpAddr>, u16) {
    (Some(address.ip()).filter(|ip| !ip.is_unspecified()), address.port())
}

fn listen_at(address: SocketAddr, backlog: i32) -> io::Result<std::net::TcpListener> {
    let (ip, port) = place(address);
    listen(ip, port, backlog).map_err(|(_, error)| error)
}

/// The limit of open files, if this one stands among those that are not for clients. The system gives the lowest number
/// that is free, so that this counts whatever else the process has open. Asked each time: an operator can raise the limit of
/// a process that runs.
fn is_kept(stream: &TcpStream) -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current?;
    let number = u64::try_from(stream.as_raw_fd()).ok()?;
    (number >= limits::descriptors_for_clients(limit)).then_some(limit)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use crate::worker::WorkerSettings;
    use std::sync::atomic::AtomicUsize;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::task::LocalSet;

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// An acceptor that runs, and what moves it.
    struct Rig {
        address: SocketAddr,
        context: Rc<WorkerContext>,
        client: watch::Sender<Option<HostPort>>,
    }

    impl Rig {
        fn new(max_per_address: u32) -> Self {
            let core = testing::core();
            let limits = Arc::new(ConnectionLimits::new(max_per_address, 0));
            let settings = WorkerSettings { limits: limits.clone(), ..testing::worker_settings(&core) };
            let context = Rc::new(WorkerContext::new(&core, 0, settings));
            let listener = listen(Some(LOOPBACK), 0, 16).expect("a free port");
            let address = listener.local_addr().expect("it is bound");
            let (client, moves) = watch::channel(None);
            let acceptor =
                Acceptor { listener, workers: vec![mpsc::channel(1).0], limits, keep_alive: false, backlog: 16, moves };
            tokio::task::spawn_local(acceptor.run(context.clone()));
            Self { address, context, client }
        }

        fn go(&self, host: &str, port: u16) {
            self.client.send_replace(Some(HostPort { host: host.into(), port }));
        }
    }

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, async { tokio::time::timeout(PATIENCE, test).await.expect("in time") });
    }

    /// Whether the server answers on it.
    async fn answers(mut conn: TcpStream) -> bool {
        let mut text = String::new();
        conn.write_all(b"srvr").await.is_ok() && conn.read_to_string(&mut text).await.is_ok_and(|n| n > 0)
    }

    /// Waits until somebody answers there, or nobody does.
    async fn until(is_served: bool, address: SocketAddr) {
        loop {
            let served = match TcpStream::connect(address).await {
                Ok(conn) => answers(conn).await,
                Err(_) => false,
            };
            if served == is_served {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[test]
    fn clients_connect_where_a_reconfiguration_says_and_those_that_are_there_stay() {
        run(async {
            let rig = Rig::new(0);
            let before = TcpStream::connect(rig.address).await.expect("it listens");
            while rig.context.only_connection().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let free = std::net::TcpListener::bind((LOOPBACK, 0)).and_then(|l| l.local_addr()).expect("a free port");
            rig.go("localhost", free.port());
            until(true, free).await;
            until(false, rig.address).await;
            assert!(answers(before).await);
            assert_eq!(rig.context.words().client_port.load(Ordering::Relaxed), free.port());

            // The same port everywhere and at one address, which exclude each other.
            let other: SocketAddr = format!("127.0.0.2:{}", free.port()).parse().expect("an address");
            until(false, other).await;
            rig.go("0.0.0.0", free.port());
            until(true, other).await;
            rig.go("127.0.0.2", free.port());
            until(false, free).await;
            until(true, other).await;
        });
    }

    #[test]
    fn where_it_cannot_listen_it_stays() {
        run(async {
            let rig = Rig::new(0);
            let taken = std::net::TcpListener::bind("127.0.0.2:0").expect("a free port");
            let port = taken.local_addr().expect("it is bound").port();
            let unused = std::net::TcpListener::bind((LOOPBACK, 0)).and_then(|l| l.local_addr()).expect("a free port");
            for (host, port) in [("127.0.0.2", port), ("192.0.2.7", rig.address.port()), ("no.such.host.invalid", 1)] {
                rig.go(host, port);
                tokio::time::sleep(Duration::from_millis(20)).await;
                until(true, rig.address).await;
            }
            // The port is its own, and somebody else's at another address: what it gave up for it, it takes again.
            let own = std::net::TcpListener::bind(("127.0.0.2", rig.address.port()));
            rig.go("0.0.0.0", rig.address.port());
            tokio::time::sleep(Duration::from_millis(20)).await;
            until(true, rig.address).await;
            drop(own);
            rig.go("127.0.0.1", unused.port());
            until(true, unused).await;
        });
    }

    /// Counts events.
    struct Lines(Arc<AtomicUsize>);

    impl tracing::Subscriber for Lines {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() <= tracing::Level::WARN
        }

        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }

        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

        fn event(&self, _: &tracing::Event<'_>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }

        fn enter(&self, _: &tracing::span::Id) {}

        fn exit(&self, _: &tracing::span::Id) {}
    }

    #[test]
    fn who_connects_too_often_does_not_fill_the_log() {
        let lines = Arc::new(AtomicUsize::new(0));
        tracing::subscriber::with_default(Lines(lines.clone()), || {
            run(async {
                let rig = Rig::new(1);
                let _only = TcpStream::connect(rig.address).await.expect("it listens");
                for _ in 0..50 {
                    let mut refused = TcpStream::connect(rig.address).await.expect("it listens");
                    assert_eq!(refused.read(&mut [0]).await.ok().unwrap_or_default(), 0);
                }
            });
        });
        assert_eq!(lines.load(Ordering::SeqCst), 1);
    }
}
