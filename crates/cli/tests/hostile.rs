//! Bytes and behaviour that no client should show, while an ordinary client goes on unharmed.

mod support;

use farrier_proto::OpCode;
use farrier_testkit::enc::{Body, body};
use farrier_testkit::raw::{Client, Conn, Connect, Frame, Reply, Sessions, framed};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{PATIENCE, Process, Random, tell};

/// What the server's memory may grow by under any of these attacks, in KiB.
const GROWTH_MAX: u64 = 120 << 10;

/// create, get, set, exists, delete, in a loop, each answer checked. The last time is after `stop`. Returns the
/// number of requests.
fn ordinary(addr: SocketAddr, name: &str, stop: &AtomicBool) -> u64 {
    let ask = Connect { timeout: 60_000, ..Connect::default() };
    let mut client = Client::open(addr, &ask, &Sessions::default()).expect("a session");
    let mut n = 0;
    let mut last = false;
    while !last {
        last = stop.load(Ordering::Relaxed);
        let path = format!("/{name}-{n}");
        let data = format!("{name} {n}").into_bytes();
        assert_eq!(client.create(&path, &data).and_then(|r| r.path()).expect("created"), path);
        let got = client.get(&path, false).expect("a reply");
        assert_eq!(got.data().expect("data").as_deref(), Some(&data[..]));
        assert_eq!(client.set(&path, b"new", 0).and_then(|r| r.stat()).expect("set").version, 1);
        assert_eq!(client.stat(&path).expect("a stat").data_length, 3);
        assert_eq!(client.set(&path, b"", 0).expect("a reply").err, -103);
        client.delete(&path, 1).and_then(Reply::ok).expect("deleted");
        n += 6;
    }
    client.close().and_then(Reply::ok).expect("the session was never lost");
    n
}

/// Runs an attack beside two ordinary clients and looks after the server's memory.
fn attacked(lines: &[&str], prepare: impl FnOnce(&Process), attack: impl FnOnce(&Process)) -> Process {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut all = vec!["preAllocSize=1024", "maxClientCnxns=0"];
    all.extend(lines);
    let mut server = Process::new(dir.path(), &all);
    server.start();
    prepare(&server);
    let addr = server.addr();
    let stop = AtomicBool::new(false);
    let before = server.resident_kib();
    let peak = AtomicU64::new(before);
    let requests: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> =
            ["left", "right"].iter().map(|name| scope.spawn(|| ordinary(addr, name, &stop))).collect();
        let server = &server;
        let (stop, peak) = (&stop, &peak);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                peak.fetch_max(server.resident_kib(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attack(server)));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        workers.into_iter().map(|w| w.join().expect("an ordinary client was harmed")).sum()
    });
    let grown = peak.load(Ordering::Relaxed).saturating_sub(before);
    tell(&format!("{requests} ordinary requests; memory {before} KiB, at most {grown} more"));
    assert!(grown < GROWTH_MAX, "the memory grew by {grown} KiB");
    assert!(!server.said().contains("panicked"), "{}", server.said());
    server
}

fn socket(addr: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(addr).expect("the server takes connections");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket of our own");
    socket.set_write_timeout(Some(PATIENCE)).expect("a socket of our own");
    socket
}

/// Sends bytes and half-closes; reads until the server closes. Errors are the server's good right.
fn shout(addr: SocketAddr, bytes: &[u8]) {
    let mut socket = socket(addr);
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let ended = socket.take(1 << 20).read_to_end(&mut answer);
    if let Err(e) = ended {
        assert!(e.kind() != std::io::ErrorKind::WouldBlock, "the server keeps a connection that has ended");
    }
}

fn handshake() -> Vec<u8> {
    framed(&Connect::default().encode())
}

fn noise(random: &mut Random, len: u64) -> Vec<u8> {
    (0..len).map(|_| random.next() as u8).collect()
}

/// A request that is valid up to some flipped bytes.
fn damaged_request(random: &mut Random) -> Vec<u8> {
    let ops = [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 100, 101, 102, 103, 104, 105, 106,
        107, -10, -11,
    ];
    let op = ops[random.below(ops.len() as u64) as usize];
    let b = body().i(random.below(100) as i32).i(op).create("/zookeeper/quota", b"data", 0);
    let mut bytes = b.op(1).create("/a", b"", 2).end().0;
    for _ in 0..random.below(4) {
        let at = 8 + random.below(bytes.len() as u64 - 8) as usize;
        bytes[at] = [0, 0xff, 0x7f, 0x80, random.next() as u8][random.below(5) as usize];
    }
    bytes.truncate(bytes.len() - random.below(20) as usize);
    bytes
}

#[test]
fn garbage_and_wrong_lengths() {
    attacked(
        &[],
        |_| {},
        |server| {
            let addr = server.addr();
            let mut random = Random(0xbad);
            let end = Instant::now() + Duration::from_secs(4);
            let mut n = 0;
            while Instant::now() < end {
                n += 1;
                let len = 1 + random.below(2000);
                shout(addr, &noise(&mut random, len));
                for len in [i32::MAX, i32::MIN, -1, -5, 0, 1, 0xf_ffff, 0x10_0000, 64 << 20, (64 << 20) + 1] {
                    let tail = random.below(60);
                    // As the first frame, and as one behind a handshake.
                    let wrong = Body::new().i(len).raw(&noise(&mut random, tail)).0;
                    shout(addr, &wrong);
                    shout(addr, &[handshake(), wrong].concat());
                }
                let mut many = handshake();
                for _ in 0..50 {
                    many.extend(framed(&damaged_request(&mut random)));
                }
                let cut = random.below(many.len() as u64) as usize;
                shout(addr, &many);
                shout(addr, &many[..cut]);
            }
            tell(&format!("{n} rounds of garbage"));
        },
    );
}

#[test]
fn half_frames_slow_bytes_and_silence() {
    attacked(
        &[],
        |_| {},
        |server| {
            let addr = server.addr();
            // Kept open to the end: silent ones, some with half a length, half a frame or a handshake.
            let mut stalled = Vec::new();
            for i in 0..300 {
                let mut socket = socket(addr);
                let bytes = match i % 4 {
                    0 => Vec::new(),
                    1 => vec![0, 0],
                    2 => handshake()[..20].to_vec(),
                    _ => [handshake(), vec![0, 0x0f, 0xff, 0xff, 1, 2, 3]].concat(),
                };
                socket.write_all(&bytes).expect("the server takes it");
                stalled.push(socket);
            }
            // A byte per millisecond, and still answered.
            std::thread::scope(|scope| {
                for i in 0..20 {
                    scope.spawn(move || {
                        let mut conn = Conn::open(addr).expect("connected");
                        let request = body().i(7).i(OpCode::Create.code()).create(format!("/slow{i}"), b"x", 0);
                        for byte in [handshake(), framed(&request.0)].concat() {
                            conn.send(&[byte]).expect("sent");
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        conn.handshake_answer().and_then(|h| h.response()).expect("a session");
                        let Frame::Payload(reply) = conn.frame(PATIENCE).expect("a frame") else { panic!("no reply") };
                        assert_eq!(reply[..4], 7i32.to_be_bytes());
                        assert_eq!(reply[12..16], [0; 4], "created");
                    });
                }
            });
        },
    );
}

#[test]
fn thousands_of_short_connections() {
    attacked(
        &[],
        |_| {},
        |server| {
            let addr = server.addr();
            std::thread::scope(|scope| {
                for t in 0..2 {
                    scope.spawn(move || {
                        let mut random = Random(t);
                        for _ in 0..2000 {
                            let mut socket = socket(addr);
                            match random.below(4) {
                                0 => {}
                                1 => socket.write_all(&handshake()).expect("sent"),
                                2 => socket.write_all(&handshake()[..30]).expect("sent"),
                                _ => socket.write_all(b"ruok").expect("sent"),
                            }
                        }
                    });
                }
            });
        },
    );
}

#[test]
fn a_client_that_asks_and_never_reads() {
    const NODE: usize = 500_000;
    const REQUESTS: usize = 10_000;
    let prepare = |server: &Process| {
        let mut client = server.client();
        client.create("/large", &vec![b'l'; NODE]).and_then(Reply::ok).expect("created");
    };
    attacked(&[], prepare, |server| {
        let mut greedy = socket(server.addr());
        greedy.write_all(&handshake()).expect("sent");
        let request = framed(&body().i(1).i(OpCode::GetData.code()).s("/large").z(0).0);
        let all = request.repeat(REQUESTS);
        // All requests together are small; the server may stop taking them.
        greedy.set_write_timeout(Some(Duration::from_secs(2))).expect("a socket of our own");
        let _ = greedy.write_all(&all);
        std::thread::sleep(Duration::from_secs(2));
        // It is only slow: what it asked for is still there.
        let mut reader = greedy.take(3 * NODE as u64);
        let read = std::io::copy(&mut reader, &mut std::io::sink()).expect("the connection lives");
        assert_eq!(read, 3 * NODE as u64);
    });
}

#[test]
fn watchers_that_never_read() {
    // Each may cost 16 MiB, and twice that while its buffer grows.
    const WATCHERS: usize = 3;
    const SETS: usize = 100;
    const MULTIS: usize = 500;
    let path = format!("/watched-{}", "w".repeat(900));
    let prepare = |server: &Process| {
        server.client().create(&path, b"").and_then(Reply::ok).expect("created");
    };
    let server = attacked(&[], prepare, |server| {
        let deaf: Vec<Client> = (0..WATCHERS)
            .map(|_| {
                let mut client = server.client();
                client.add_watch(&path, 0).and_then(Reply::ok).expect("a persistent watch");
                client
            })
            .collect();
        let mut hears = server.client();
        hears.add_watch(&path, 0).and_then(Reply::ok).expect("a persistent watch");
        let mut writer = server.client();
        let set = |b: Body| b.op(OpCode::SetData.code()).s(&path).s(b"").i(-1);
        let multi = (0..SETS).fold(body(), |b, _| set(b)).end();
        for _ in 0..MULTIS {
            writer.call(OpCode::Multi, multi.clone()).and_then(Reply::ok).expect("committed");
            assert_eq!(hears.take_events().expect("events").len(), SETS, "who reads hears everything");
        }
        drop(deaf);
    });
    let closed = |said: &str| said.matches("it does not read").count();
    let said = server.wait_said(|said| closed(said) >= WATCHERS);
    assert_eq!(closed(&said), WATCHERS, "{said}");
}

#[test]
fn a_batch_of_expensive_requests_leaves_room_for_others() {
    const NODES: usize = 100_000;
    // Thousands of them come with one read of the socket, and all together are many seconds of work.
    const REQUESTS: usize = 20_000;
    // Many times the number of reads in the batch, so that not all that one read brings is answered in one go.
    // And a small part of the batch, so that it does not matter how fast the machine is or what else it does.
    const OTHERS: usize = 200;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut server = Process::new(dir.path(), &["preAllocSize=1024"]);
    server.start();
    let mut other = server.client();
    // The root's descendants are known without a walk.
    other.create("/all", b"").and_then(Reply::ok).expect("created");
    for first in (0..NODES).step_by(1000) {
        let create = |b: Body, n| b.op(OpCode::Create.code()).create(format!("/all/n{n}"), b"", 0);
        let nodes = (first..first + 1000).fold(body(), create);
        other.call(OpCode::Multi, nodes.end()).and_then(Reply::ok).expect("committed");
    }
    // Another worker serves it, unless there is one only.
    let greedy = socket(server.addr());
    let (mut requests, mut replies) = (&greedy, &greedy);
    let mut frame = move || {
        let mut len = [0; 4];
        replies.read_exact(&mut len).expect("every request is answered");
        let mut bytes = vec![0; u32::from_be_bytes(len) as usize];
        replies.read_exact(&mut bytes).expect("every request is answered");
        bytes
    };
    let served = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A long request first: whoever sends such is read from in large pieces.
            let long = framed(&body().i(1).i(OpCode::Exists.code()).s(format!("/{}", "x".repeat(200_000))).z(0).0);
            let count = framed(&body().i(1).i(OpCode::GetAllChildrenNumber.code()).s("/all").0);
            // It fails where the others are served before everything is sent.
            let _ = requests.write_all(&[handshake(), long, count.repeat(REQUESTS)].concat());
        });
        frame();
        assert_eq!(frame()[12..], (-101i32).to_be_bytes(), "no such node");
        let replies = scope.spawn(|| {
            let mut answered = 0;
            while answered < REQUESTS && !served.load(Ordering::SeqCst) {
                assert_eq!(frame()[12..], [[0; 4], (NODES as u32).to_be_bytes()].concat());
                answered += 1;
            }
            answered
        });
        for _ in 0..OTHERS {
            other.stat("/all/n1").expect("a stat");
        }
        served.store(true, Ordering::SeqCst);
        let answered = replies.join().expect("right replies");
        let _ = greedy.shutdown(std::net::Shutdown::Both);
        answered
    });
    tell(&format!("{OTHERS} requests of another client were answered beside {answered} expensive ones"));
    assert!(answered < REQUESTS, "all of the batch was answered before {OTHERS} requests of another client");
}

#[test]
fn the_last_reply_arrives_though_the_client_sent_more() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut server = Process::new(dir.path(), &["preAllocSize=1024"]);
    server.start();
    for _ in 0..20 {
        let mut socket = socket(server.addr());
        let close = framed(&body().i(1).i(OpCode::CloseSession.code()).0);
        // More than a read takes, and nobody wants it.
        socket.write_all(&[handshake(), close, vec![0; 300_000]].concat()).expect("sent");
        socket.shutdown(std::net::Shutdown::Write).expect("a socket of our own");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).expect("an orderly end and no reset");
        assert_eq!(answer.len(), 41 + 20, "the handshake's answer and one reply");
        assert_eq!(answer[41..49], [0, 0, 0, 16, 0, 0, 0, 1]);
        assert_eq!(answer[57..], [0; 4], "no error");
    }
}
