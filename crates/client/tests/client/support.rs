//! Servers in this process.

use farrier_client::{Client, ClientBuilder, Host, SessionId, SessionState};
use farrier_proto::client::{ConnectResponse, RequestHeader, begin_frame, end_frame};
use farrier_proto::{Field as _, OpCode, Reader, Xid};
use farrier_server::Server;
use farrier_server::config::{EnsembleConfig, FourLetterWords, Member, PeerAddress, Role, ServerConfig};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as Listener};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_blocking;
use tokio_rustls::{TlsAcceptor, rustls};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The answer of `future`, which must come.
pub(crate) async fn patiently<T>(what: &str, future: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: nothing within {PATIENCE:?}"))
}

/// Waits until the session is as `wanted` says.
pub(crate) async fn reached(client: &Client, what: &str, wanted: impl FnMut(&SessionState) -> bool) -> SessionState {
    let mut state = client.session();
    patiently(what, state.wait_for(wanted)).await.expect("the client lives").clone()
}

/// A builder whose calls take as long as they take.
pub(crate) fn patient(connect: &str) -> ClientBuilder {
    Client::builder(connect)
        .session_timeout(Duration::from_secs(40))
        .connect_timeout(PATIENCE)
        .request_timeout(PATIENCE)
}

/// Servers of one ensemble, or one alone, with fixed client ports.
pub(crate) struct Servers {
    dir: tempfile::TempDir,
    members: BTreeMap<i64, Member>,
    ports: BTreeMap<i64, u16>,
    running: BTreeMap<i64, Server>,
}

impl Servers {
    /// Starts so many and waits until all serve: a new member has no vote before the leader gave it everything, so
    /// that nobody could do without another one.
    pub(crate) async fn start(count: i64) -> Self {
        let servers = spawn_blocking(move || {
            let ports = free_ports(3 * usize::try_from(count).expect("few"));
            let dir = tempfile::tempdir().expect("a temporary directory");
            let mut servers = Self { dir, members: BTreeMap::new(), ports: BTreeMap::new(), running: BTreeMap::new() };
            for (id, three) in (1..).zip(ports.chunks(3)) {
                let address = PeerAddress { host: "127.0.0.1".into(), quorum_port: three[0], election_port: three[1] };
                let role = Role::Participant;
                let member = Member { addresses: vec![address], role, client: None, secure_client: None };
                servers.members.insert(id, member);
                servers.ports.insert(id, three[2]);
            }
            for id in 1..=count {
                servers.run(id);
            }
            servers
        })
        .await
        .expect("started");
        servers.all_serve().await;
        servers
    }

    /// Waits until every server that runs serves.
    async fn all_serve(&self) {
        for id in self.running.keys() {
            let host = Host::from(self.address(*id));
            let serves = async {
                while !host.word("srvr", PATIENCE).await.is_ok_and(|text| text.contains("Mode: ")) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            patiently("a server", serves).await;
        }
    }

    fn run(&mut self, id: i64) {
        let address = SocketAddr::new(LOOPBACK.ip(), self.ports[&id]);
        let mut config = ServerConfig::standalone(self.dir.path().join(id.to_string()), address);
        config.tick_time_ms = 200;
        (config.min_session_timeout_ms, config.max_session_timeout_ms) = (400, 60_000);
        config.client.max_per_address = 0;
        config.tree.extended_types = true;
        config.storage.preallocate = 1 << 20;
        config.words = FourLetterWords::All;
        config.workers = Some(1);
        if self.members.len() > 1 {
            let ensemble = EnsembleConfig::new(id, self.members.clone());
            config.ensemble = Some(EnsembleConfig { init_limit: 100, sync_limit: 50, ..ensemble });
        }
        let server = Server::start(config).unwrap_or_else(|e| panic!("server {id}: {e}"));
        self.running.insert(id, server);
    }

    pub(crate) fn address(&self, id: i64) -> SocketAddr {
        SocketAddr::new(LOOPBACK.ip(), self.ports[&id])
    }

    /// The connect string of all servers, running or not.
    pub(crate) fn connect(&self) -> String {
        let all: Vec<String> = self.ports.keys().map(|id| self.address(*id).to_string()).collect();
        all.join(",")
    }

    /// The number of the server that a client is connected to.
    pub(crate) fn id_of(&self, server: &str) -> i64 {
        *self.ports.keys().find(|id| self.address(**id).to_string() == server).expect("one of these")
    }

    pub(crate) async fn stop(&mut self, id: i64) {
        let server = self.running.remove(&id).expect("it runs");
        spawn_blocking(move || server.stop()).await.expect("stopped");
    }

    pub(crate) async fn start_again(mut self, id: i64) -> Self {
        let servers = spawn_blocking(move || {
            self.run(id);
            self
        })
        .await
        .expect("started");
        servers.all_serve().await;
        servers
    }
}

fn free_ports(count: usize) -> Vec<u16> {
    let bound: Vec<_> = (0..count).map(|_| Listener::bind(LOOPBACK).expect("a free port")).collect();
    bound.iter().map(|l| l.local_addr().expect("it is bound").port()).collect()
}

/// A front of a server that speaks TLS.
pub(crate) async fn tls_front(server: SocketAddr, config: Arc<rustls::ServerConfig>) -> u16 {
    let listener = TcpListener::bind(LOOPBACK).await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.expect("a connection");
            let acceptor = TlsAcceptor::from(Arc::clone(&config));
            tokio::spawn(async move {
                // Whoever does not shake hands properly is none of the server's business.
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let Ok(mut server) = TcpStream::connect(server).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

/// A server that gives everybody the same session and answers requests with the frames that `answer` makes, one connection
/// after the other.
pub(crate) async fn scripted_server(
    mut answer: impl FnMut(Xid, OpCode, &[u8]) -> Vec<u8> + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind(LOOPBACK).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.expect("a connection");
            // A client that hangs up ends its connection and nothing else.
            let _ = serve(client, &mut answer).await;
        }
    });
    address
}

async fn serve(mut client: TcpStream, answer: &mut impl FnMut(Xid, OpCode, &[u8]) -> Vec<u8>) -> std::io::Result<()> {
    let mut is_greeted = false;
    loop {
        let mut request = vec![0; usize::try_from(client.read_u32().await?).expect("a length")];
        client.read_exact(&mut request).await?;
        let mut r = Reader::new(&request);
        let mut bytes = Vec::new();
        if std::mem::replace(&mut is_greeted, true) {
            let header = RequestHeader::read(&mut r).expect("a header");
            let op = OpCode::from_code(header.op).expect("an operation");
            bytes = answer(header.xid, op, r.rest());
        } else {
            let (timeout, session) = (40_000, SessionId(0x77));
            let start = begin_frame(&mut bytes);
            ConnectResponse { timeout, session, password: [1; 16], read_only: Some(false) }.write(&mut bytes);
            end_frame(&mut bytes, start);
        }
        client.write_all(&bytes).await?;
    }
}

/// A server without a quorum, which gives one session, answers no request, and ends the connection when it is dropped.
pub(crate) async fn read_only_server() -> SocketAddr {
    let listener = TcpListener::bind(LOOPBACK).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.expect("a connection");
            tokio::spawn(async move {
                let mut word = [0; 4];
                client.read_exact(&mut word).await.ok()?;
                if &word == b"isro" {
                    return client.write_all(b"ro").await.ok();
                }
                let mut request = vec![0; usize::try_from(u32::from_be_bytes(word)).ok()?];
                client.read_exact(&mut request).await.ok()?;
                let (timeout, session) = (40_000, SessionId(0x77));
                let mut bytes = Vec::new();
                let start = begin_frame(&mut bytes);
                ConnectResponse { timeout, session, password: [1; 16], read_only: Some(true) }.write(&mut bytes);
                end_frame(&mut bytes, start);
                client.write_all(&bytes).await.ok()?;
                let mut rest = Vec::new();
                client.read_to_end(&mut rest).await.ok().map(|_| ())
            });
        }
    });
    address
}
