//! Where peers are: from names to addresses, listeners and connections.

use super::names::Names;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// Longest wait for a name server.
pub(super) const RESOLVE_MAX: Duration = Duration::from_secs(5);

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// listen(2) backlog of the ports for peers: what Java asks for.
const BACKLOG: i32 = 50;

/// A host and a port of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Endpoint {
    /// `host:port`, an IPv6 literal in brackets.
    pub(crate) fn text(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// What a name stands for now. As Java does, IPv4 comes first.
pub(crate) fn resolve_now(endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    let mut found: Vec<_> = (endpoint.host.as_str(), endpoint.port).to_socket_addrs()?.take(ADDRESSES_MAX).collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.dedup();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found)
}

/// The same on a thread that may block, and for so long at most.
pub(crate) async fn resolve(endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = endpoint.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, endpoint.port)]);
    }
    let asked = endpoint.clone();
    let answer = tokio::task::spawn_blocking(move || resolve_now(&asked));
    match tokio::time::timeout(RESOLVE_MAX, answer).await {
        Ok(Ok(found)) => found,
        Ok(Err(_)) => Err(io::Error::other("the look-up of the name was given up")),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the name servers do not answer")),
    }
}

/// How a peer is reached.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// `tcpKeepAlive`.
    pub(crate) keep_alive: bool,
    /// [`ServerConfig::detours`](crate::config::ServerConfig::detours).
    pub(crate) detours: Arc<BTreeMap<SocketAddr, SocketAddr>>,
    /// What its name stands for.
    pub(crate) names: Arc<Names>,
}

/// Connects to the first address that accepts, each within `patience`.
pub(crate) async fn connect(endpoint: &Endpoint, patience: Duration, route: &Route) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in route.names.resolve(endpoint).await? {
        let address = route.detours.get(&address).copied().unwrap_or(address);
        match tokio::time::timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                prepare(&stream, route.keep_alive)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer")),
        }
    }
    Err(last)
}

/// What every connection between servers has.
pub(crate) fn prepare(stream: &TcpStream, keep_alive: bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if keep_alive { SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new()) } else { Ok(()) }
}

/// Listens where `endpoint` says, or on its port at every address of the machine. Does not block later.
pub(crate) fn listen(endpoint: &Endpoint, everywhere: bool) -> Result<TcpListener, (SocketAddr, io::Error)> {
    if everywhere {
        return listen_everywhere(endpoint.port);
    }
    let found = resolve_now(endpoint).map_err(|error| (unknown(endpoint.port), error))?;
    listen_at_first(&found, endpoint.port)
}

/// Listens at a port of every address of the machine.
pub(crate) fn listen_everywhere(port: u16) -> Result<TcpListener, (SocketAddr, io::Error)> {
    open_everywhere(port, BACKLOG)
}

/// Listens at the first address of a name that is this machine's. Does not block later.
pub(crate) fn listen_at_first(found: &[SocketAddr], port: u16) -> Result<TcpListener, (SocketAddr, io::Error)> {
    let mut last = None;
    for address in found {
        match open(*address, BACKLOG) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = last.or(Some((*address, error))),
        }
    }
    Err(last.unwrap_or_else(|| (unknown(port), io::Error::new(io::ErrorKind::NotFound, "the name has no address"))))
}

/// What messages name where a name stands for nothing.
const fn unknown(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

/// Listens on a port of every address: both families where the machine has IPv6, otherwise IPv4.
pub(crate) fn open_everywhere(port: u16, backlog: i32) -> Result<TcpListener, (SocketAddr, io::Error)> {
    let everything = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    match open(everything, backlog) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
            open(address, backlog).map_err(|error| (address, error))
        }
        other => other.map_err(|error| (everything, error)),
    }
}

/// Listens there. Does not block later.
pub(crate) fn open(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str) -> Endpoint {
        Endpoint { host: host.into(), port: 7 }
    }

    #[test]
    fn endpoints_as_text() {
        assert_eq!(at("zk1").text(), "zk1:7");
        assert_eq!(at("::1").text(), "[::1]:7");
    }

    #[test]
    fn a_taken_port_is_an_error_with_its_address() {
        let first = listen(&Endpoint { host: "127.0.0.1".into(), port: 0 }, false).expect("a free port");
        let taken = first.local_addr().expect("it is bound");
        let again = listen(&Endpoint { host: "127.0.0.1".into(), port: taken.port() }, false);
        let (address, error) = again.expect_err("it is taken");
        assert_eq!((address, error.kind()), (taken, io::ErrorKind::AddrInUse));
    }
}
