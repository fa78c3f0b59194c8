use super::*;
use crate::peers::MemberAddresses;
use crate::peers::address::Route;
use crate::peers::names::Names;
use farrier_proto::membership::MemberList;
use farrier_proto::quorum::{ElectionRound, ServerState, Vote};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::timeout;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The server under test, and what it reported.
struct Rig {
    election: Rc<Election>,
    settings: Rc<PeerSettings>,
    port: u16,
    inputs: mpsc::UnboundedReceiver<Input>,
}

fn notification(round: i64) -> Notification {
    Notification {
        state: ServerState::Looking,
        vote: Vote { leader: ServerId(1), zxid: 5, peer_epoch: 1 },
        round: ElectionRound(round),
        version: Notification::VERSION,
        config: None,
    }
}

/// Server 5, whose peers' election ports are those.
async fn rig(others: &[(i64, u16)], header_timeout: Duration) -> Rig {
    rig_with(others, header_timeout, None).await
}

/// The same, with this host as a second one of its own, if it has several.
async fn rig_with(others: &[(i64, u16)], header_timeout: Duration, second: Option<&str>) -> Rig {
    rig_where(others, second, |settings| settings.header_timeout = header_timeout).await
}

async fn rig_where(others: &[(i64, u16)], second: Option<&str>, adjust: impl FnOnce(&mut PeerSettings)) -> Rig {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let port = listener.local_addr().expect("it is bound").port();
    let at = |port| MemberAddresses { quorum: Vec::new(), election: vec![Endpoint { host: "127.0.0.1".into(), port }] };
    let mut members: BTreeMap<_, _> =
        others.iter().copied().chain([(5, port)]).map(|(id, port)| (ServerId(id), at(port))).collect();
    let own = &mut members.get_mut(&ServerId(5)).expect("it is one of them").election;
    own.extend(second.map(|host| Endpoint { host: host.into(), port }));
    let mut settings = PeerSettings {
        route: Route { keep_alive: true, detours: Arc::default(), names: Names::new() },
        multi_address: second.is_some(),
        ..PeerSettings::patient(ServerId(5), members)
    };
    adjust(&mut settings);
    let (sender, inputs) = mpsc::unbounded_channel();
    let report: Report = Rc::new(move |list| {
        for input in list.drain(..) {
            let farrier_replica::Input::Zab(input) = input else { panic!("of the election only") };
            let _ = sender.send(input);
        }
    });
    let settings = Rc::new(settings);
    let election = Rc::new(Election::new(settings.clone(), report));
    election.listen(listener);
    Rig { election, settings, port, inputs }
}

impl Rig {
    async fn input(&mut self) -> Input {
        timeout(PATIENCE, self.inputs.recv()).await.expect("in time").expect("the rig reports")
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.expect("it listens")
    }

    /// A connection with a header.
    async fn as_server(&self, id: i64, own_port: u16) -> TcpStream {
        let mut stream = self.connect().await;
        let mut header = Vec::new();
        ElectionHeader::write(ServerId(id), "127.0.0.1", own_port, &mut header);
        stream.write_all(&header).await.expect("it reads");
        stream
    }
}

fn frame(notification: &Notification) -> Vec<u8> {
    let mut out = Vec::new();
    notification.write(&mut out);
    out
}

async fn read_one(stream: &mut TcpStream) -> Notification {
    let len = timeout(PATIENCE, stream.read_i32()).await.expect("in time").expect("a frame");
    let mut payload = vec![0; usize::try_from(len).expect("a length")];
    stream.read_exact(&mut payload).await.expect("a whole frame");
    Notification::read(&payload).expect("a notification").expect("a known state")
}

/// Until the other side closes; panics if it sends anything.
async fn closed(stream: &mut TcpStream) {
    match timeout(PATIENCE, stream.read_u8()).await.expect("in time") {
        Err(_) => {}
        Ok(byte) => panic!("it says {byte}"),
    }
}

async fn peer_port() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, port)
}

async fn accept(listener: &TcpListener) -> (TcpStream, ElectionHeader) {
    let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("a connection");
    let (header, _) = timeout(PATIENCE, read_header(&mut stream)).await.expect("in time").expect("a header");
    (stream, header)
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn the_larger_id_keeps_the_connection_that_it_dialled() {
    run(async {
        let mut rig = rig(&[(9, 1)], PATIENCE).await;
        let mut stream = rig.as_server(9, 1).await;
        assert_eq!(rig.input().await, Input::ElectionUp { peer: ServerId(9) });
        stream.write_all(&frame(&notification(3))).await.expect("it reads");
        let heard = Input::Notification { from: ServerId(9), notification: notification(3) };
        assert_eq!(rig.input().await, heard);
        rig.election.send(ServerId(9), &notification(4));
        assert_eq!(read_one(&mut stream).await.round, ElectionRound(4));

        // A newer connection takes the place of the older one, and hears the last message once more.
        let mut again = rig.as_server(9, 1).await;
        assert_eq!(rig.input().await, Input::ElectionDown { peer: ServerId(9) });
        assert_eq!(rig.input().await, Input::ElectionUp { peer: ServerId(9) });
        assert_eq!(read_one(&mut again).await.round, ElectionRound(4));
        closed(&mut stream).await;
        drop(again);
        assert_eq!(rig.input().await, Input::ElectionDown { peer: ServerId(9) });
    });
}

#[test]
fn all_own_addresses_are_told_where_there_may_be_several() {
    run(async {
        let (listener, port) = peer_port().await;
        let rig = rig_with(&[(2, port)], PATIENCE, Some("::1")).await;
        rig.election.send(ServerId(2), &notification(1));
        let (_stream, header) = accept(&listener).await;
        let addresses = vec![("127.0.0.1".into(), rig.port), ("::1".into(), rig.port)];
        assert_eq!(header, ElectionHeader { server: ServerId(5), addresses });
    });
}

/// It has a vote in what may come into force, and need not look for a leader: nobody waits until it dials.
#[test]
fn a_member_of_what_may_come_into_force_is_dialled() {
    run(async {
        let (listener, port) = peer_port().await;
        let rig = rig(&[], PATIENCE).await;
        let text = format!("server.2=127.0.0.1:1:{port}\nversion=7");
        rig.settings.expect(MemberList::parse(text.as_bytes()).ok().map(Box::new));
        rig.election.send(ServerId(2), &notification(1));
        let (mut stream, header) = accept(&listener).await;
        assert_eq!(header.server, ServerId(5));
        assert_eq!(read_one(&mut stream).await.round, ElectionRound(1));
    });
}

#[test]
fn a_smaller_id_is_dialled_back_at_the_address_that_it_names() {
    run(async {
        let (listener, port) = peer_port().await;
        // The configuration knows another address.
        let mut rig = rig(&[(2, 1)], PATIENCE).await;
        let mut asking = rig.as_server(2, port).await;
        let (mut stream, header) = accept(&listener).await;
        assert_eq!(header, ElectionHeader { server: ServerId(5), addresses: vec![("127.0.0.1".into(), rig.port)] });
        assert_eq!(rig.input().await, Input::ElectionUp { peer: ServerId(2) });
        closed(&mut asking).await;
        rig.election.send(ServerId(2), &notification(1));
        assert_eq!(read_one(&mut stream).await.round, ElectionRound(1));

        // It asks again: what it had is dropped, and it is dialled anew.
        let _asking = rig.as_server(2, port).await;
        let (mut anew, _) = accept(&listener).await;
        assert_eq!(rig.input().await, Input::ElectionDown { peer: ServerId(2) });
        assert_eq!(rig.input().await, Input::ElectionUp { peer: ServerId(2) });
        assert_eq!(read_one(&mut anew).await.round, ElectionRound(1));
        closed(&mut stream).await;
    });
}

/// Whoever says that it is server 2, and somewhere else, does not keep this server from the real one.
#[test]
fn a_smaller_id_is_dialled_back_where_the_configuration_has_it_first() {
    run(async {
        let (real, port) = peer_port().await;
        let (stranger, told) = peer_port().await;
        let mut rig = rig(&[(2, port)], PATIENCE).await;
        for _ in 0..2 {
            let _asking = rig.as_server(2, told).await;
            let (mut stream, _) = tokio::select! {
                accepted = accept(&real) => accepted,
                _ = accept(&stranger) => panic!("the stranger is believed"),
            };
            assert_eq!(rig.input().await, Input::ElectionUp { peer: ServerId(2) });
            stream.shutdown().await.expect("it is open");
            assert_eq!(rig.input().await, Input::ElectionDown { peer: ServerId(2) });
        }
    });
}

/// As Apache's servers do: an ensemble finds a leader without its name servers.
#[test]
fn a_peer_whose_name_no_longer_resolves_is_dialled_where_it_was() {
    static DOWN: AtomicBool = AtomicBool::new(false);
    fn resolver(_host: &str) -> io::Result<Vec<SocketAddr>> {
        if DOWN.load(Ordering::SeqCst) {
            return Err(io::Error::other("no name server can be reached"));
        }
        Ok(vec![([127, 0, 0, 1], 0).into()])
    }
    run(async {
        let (listener, port) = peer_port().await;
        let mut rig = rig_where(&[(2, port)], None, |settings| {
            settings.route.names = Names::with(resolver, true, 4);
            settings.members.borrow_mut().get_mut(&ServerId(2)).expect("it is one of them").election[0].host =
                "zk2".into();
        })
        .await;
        for round in 1..=2 {
            rig.election.send(ServerId(2), &notification(round));
            let (mut stream, _) = accept(&listener).await;
            assert_eq!(rig.input().await, Input::ElectionUp { peer: ServerId(2) });
            assert_eq!(read_one(&mut stream).await.round, ElectionRound(round));
            DOWN.store(true, Ordering::SeqCst);
            drop(stream);
            assert_eq!(rig.input().await, Input::ElectionDown { peer: ServerId(2) });
        }
    });
}

/// It asks more often than one of its places takes that does not answer, and the next one is tried all the same.
#[test]
fn whoever_asks_again_and_again_is_found_at_its_second_place() {
    run(async {
        let (_socket, _waiting, jammed) = jammed_port().await;
        let (listener, port) = peer_port().await;
        let rig = rig_where(&[(2, jammed)], None, |settings| {
            settings.connect_timeout = Duration::from_secs(1);
            let mut members = settings.members.borrow_mut();
            let places = &mut members.get_mut(&ServerId(2)).expect("it is one of them").election;
            places.push(Endpoint { host: "127.0.0.1".into(), port });
        })
        .await;
        let asks = async {
            loop {
                let _asking = rig.as_server(2, port).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::select! {
            _ = accept(&listener) => {}
            () = asks => {}
        }
    });
}

/// A port whose connections are not accepted, and so full that further ones are not answered.
async fn jammed_port() -> (socket2::Socket, Vec<TcpStream>, u16) {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).expect("a free port");
    socket.listen(0).expect("it listens");
    let at = socket.local_addr().ok().and_then(|at| at.as_socket()).expect("it is bound");
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(at)).await {
        waiting.push(stream);
    }
    (socket, waiting, at.port())
}

#[test]
fn whoever_comes_again_is_not_kept_waiting_by_an_attempt_that_hangs() {
    run(async {
        let (_socket, _waiting, jammed) = jammed_port().await;
        let (listener, port) = peer_port().await;
        let mut rig = rig(&[(2, jammed)], PATIENCE).await;
        rig.election.send(ServerId(2), &notification(1));
        tokio::task::yield_now().await;
        let _asking = rig.as_server(2, jammed).await;
        let _again = rig.as_server(2, port).await;
        let (mut stream, _) = accept(&listener).await;
        assert_eq!(rig.input().await, Input::ElectionUp { peer: ServerId(2) });
        assert_eq!(read_one(&mut stream).await.round, ElectionRound(1));
    });
}

#[test]
fn only_the_newest_message_waits_for_a_peer_that_comes_later() {
    run(async {
        let (listener, port) = peer_port().await;
        drop(listener);
        let mut rig = rig(&[(2, port), (9, port)], PATIENCE).await;
        for round in 1..=3 {
            rig.election.send(ServerId(2), &notification(round));
        }
        let listener = loop {
            // It was ours a moment ago; a dial may hold it for an instant.
            match TcpListener::bind(("127.0.0.1", port)).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let (mut stream, _) = accept(&listener).await;
        assert_eq!(rig.input().await, Input::ElectionUp { peer: ServerId(2) });
        assert_eq!(read_one(&mut stream).await.round, ElectionRound(3));
        drop(stream);
        assert_eq!(rig.input().await, Input::ElectionDown { peer: ServerId(2) });

        // A larger id is only told who we are, and dials us.
        rig.election.send(ServerId(9), &notification(7));
        let (mut asked, header) = accept(&listener).await;
        assert_eq!(header.server, ServerId(5));
        closed(&mut asked).await;
        let mut stream = rig.as_server(9, port).await;
        assert_eq!(rig.input().await, Input::ElectionUp { peer: ServerId(9) });
        assert_eq!(read_one(&mut stream).await.round, ElectionRound(7));
    });
}

#[test]
fn what_is_no_server_is_closed_and_never_reported() {
    run(async {
        let mut rig = rig(&[(9, 1)], PATIENCE).await;
        for bytes in [
            &b"GET / HTTP/1.0\r\n\r\n"[..],
            // An unknown version; our own id; an address of no bytes and one without a port.
            &[0xff; 8],
            &[0, 0, 0, 0, 0, 0, 0, 5],
            b"\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\x09\0\0\0\0",
            b"\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\x09\0\0\0\x01a",
        ] {
            let mut stream = rig.connect().await;
            stream.write_all(bytes).await.expect("it reads");
            closed(&mut stream).await;
        }
        // A header in two parts is one; frames out of bounds end the connection, a bad message does not.
        let mut header = Vec::new();
        ElectionHeader::write(ServerId(9), "[::1]", 1, &mut header);
        for length in [0_i32, -1, 512 * 1024 + 1] {
            let mut stream = rig.connect().await;
            stream.write_all(&header[..11]).await.expect("it reads");
            tokio::task::yield_now().await;
            stream.write_all(&header[11..]).await.expect("it reads");
            assert_eq!(rig.input().await, Input::ElectionUp { peer: ServerId(9) });
            stream.write_all(&[0, 0, 0, 2, 7, 7]).await.expect("it reads");
            stream.write_all(&frame(&notification(1))).await.expect("it reads");
            let heard = Input::Notification { from: ServerId(9), notification: notification(1) };
            assert_eq!(rig.input().await, heard);
            stream.write_all(&length.to_be_bytes()).await.expect("it reads");
            assert_eq!(rig.input().await, Input::ElectionDown { peer: ServerId(9) });
            closed(&mut stream).await;
        }
        assert!(rig.inputs.try_recv().is_err());
    });
}

#[test]
fn the_silent_are_bounded_in_time_and_number() {
    run(async {
        let rig = rig(&[], Duration::from_millis(20)).await;
        let mut silent = rig.connect().await;
        closed(&mut silent).await;
    });
    run(async {
        use crate::peers::scarce::HANDSHAKES_MAX;
        let mut rig = rig(&[(9, 1)], PATIENCE).await;
        let mut silent = Vec::new();
        for _ in 0..HANDSHAKES_MAX {
            silent.push(rig.connect().await);
        }
        // The oldest goes for whoever comes, and a server gets through.
        let _peer = rig.as_server(9, 1).await;
        assert_eq!(rig.input().await, Input::ElectionUp { peer: ServerId(9) });
        closed(&mut silent[0]).await;
    });
}

#[test]
fn strangers_are_taken_in_small_numbers_and_forgotten_when_they_go() {
    run(async {
        let mut rig = rig(&[], PATIENCE).await;
        let mut strangers = Vec::new();
        for id in 0..i64::try_from(STRANGERS_MAX).expect("small") {
            strangers.push(rig.as_server(100 + id, 1).await);
            assert_eq!(rig.input().await, Input::ElectionUp { peer: ServerId(100 + id) });
        }
        let mut one_more = rig.as_server(99, 1).await;
        closed(&mut one_more).await;
        drop(strangers.remove(0));
        assert_eq!(rig.input().await, Input::ElectionDown { peer: ServerId(100) });
        let _one_more = rig.as_server(99, 1).await;
        assert_eq!(rig.input().await, Input::ElectionUp { peer: ServerId(99) });
    });
}
