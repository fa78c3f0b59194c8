//! What a server refuses for its limits, and how it tells.

use farrier_proto::OpCode;
use farrier_server::Server;
use farrier_server::config::{FourLetterWords, ServerConfig};
use farrier_testkit::enc::body;
use farrier_testkit::raw::{Client, Conn, Connect, Reply, Sessions};
use socket2::{Domain, Socket, Type};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};

/// The answer to a word that is asked from another address than that of the other connections.
fn word_from_elsewhere(server: SocketAddr, word: &str) -> String {
    let mut socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0)).into()).expect("an address of this machine");
    socket.connect(&server.into()).expect("it is taken");
    socket.write_all(word.as_bytes()).expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn connections_beyond_the_limit_are_counted() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut config = ServerConfig::standalone(dir.path(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    config.client.max_per_address = 1;
    config.words = FourLetterWords::All;
    let server = Server::start(config).expect("it starts");
    let mut first = Conn::open(server.client_addr()).expect("it is taken");
    first.handshake(&Connect::default()).expect("a session");
    let rejected = |n: u64| {
        let text = word_from_elsewhere(server.client_addr(), "mntr");
        for row in [format!("zk_connection_rejected\t{n}"), "zk_connection_drop_probability\t0.0".to_owned()] {
            assert!(text.lines().any(|line| line == row), "{row}: {text}");
        }
        let size = text.lines().find_map(|line| line.strip_prefix("zk_last_client_response_size\t"));
        assert_eq!(size, Some("-1"), "no reply yet: the answer to a connect request is none");
    };
    rejected(0);
    let second = Conn::open(server.client_addr()).and_then(|mut conn| conn.handshake(&Connect::default())?.response());
    assert!(second.is_err(), "{second:?}");
    rejected(1);
}

/// `jute.maxbuffer` bounds requests and no replies, as in Apache.
#[test]
fn replies_are_longer_than_requests_may_be() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut config = ServerConfig::standalone(dir.path(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    config.limits.jute_max_buffer = 4096;
    let server = Server::start(config).expect("it starts");
    let mut client = Client::open(server.client_addr(), &Connect::default(), &Sessions::default()).expect("a session");
    for n in 0..100 {
        client.create(format!("/{n:0>50}"), b"").and_then(Reply::ok).expect("created");
    }
    let names = client.children("/", false).and_then(|reply| reply.names()).expect("all of them");
    assert_eq!(names.len(), 101);

    let mut multi = body();
    for _ in 0..150 {
        multi = multi.op(OpCode::SetData.code()).s("/").s("").i(-1);
    }
    let done = client.call(OpCode::Multi, multi.end()).and_then(Reply::ok).expect("what was applied is no error");
    assert_eq!(done.body.len(), 150 * (9 + 68) + 9);
    assert_eq!(client.stat("/").expect("there").version, 150);
}
