//! `farrier admin`: the leader moves while clients write, and nobody else may ask for it.

use farrier_testkit::raw::{Client, Connect, Reply, Sessions};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn farrier(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
    command.args(arguments).stdin(Stdio::null());
    for name in ["SERVER_JVMFLAGS", "JVMFLAGS", "FARRIER_LOG", "FARRIER_SERVER"] {
        command.env_remove(name);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn admin(verb: &str, dir: &Path) -> Output {
    let dir = dir.to_str().expect("text");
    farrier(&["admin", verb, "--dir", dir, "--timeout", "60"]).output().expect("the binary runs")
}

fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

/// `farrier dev` with three servers, and where clients connect.
fn dev(data: &Path) -> (Child, Vec<SocketAddr>) {
    let mut command = farrier(&["dev", "--servers", "3", "--port", "24650", "--data", data.to_str().expect("text")]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut first = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut first).expect("a first line");
    let list = first.trim().strip_prefix("connect string: ").expect("a connect string");
    (child, list.split(',').map(|a| a.parse().expect("an address")).collect())
}

/// Creates nodes one after the other, wherever a server takes it, and returns those that were acknowledged.
fn write(addresses: &[SocketAddr], first: usize, stop: &AtomicBool, acknowledged: &AtomicUsize) -> Vec<String> {
    let mut created = Vec::new();
    let mut n = 0;
    for attempt in first.. {
        let address = addresses[attempt % addresses.len()];
        let client = Client::open(address, &Connect::default(), &Sessions::default());
        let Ok(mut client) = client else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        loop {
            if stop.load(Ordering::SeqCst) {
                return created;
            }
            n += 1;
            let path = format!("/w{first}-{n}");
            // Without an answer nobody knows; the next name is another one.
            if client.create(&path, b"x").and_then(Reply::ok).is_err() {
                break;
            }
            created.push(path);
            acknowledged.fetch_add(1, Ordering::SeqCst);
        }
    }
    created
}

#[test]
fn the_leader_moves_and_no_acknowledged_write_is_lost() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let data = temp.path().join("zk");
    let (mut child, addresses) = dev(&data);
    let dir = |server: i64| data.join(server.to_string());
    let leader = || {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = serde_json::from_str::<serde_json::Value>(&done(&admin("status", &dir(1)))).expect("JSON");
            if let (Some(leader), "broadcast") = (status["leader"].as_i64(), status["phase"].as_str().unwrap_or("")) {
                return leader;
            }
            assert!(Instant::now() < end, "nobody leads: {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let mode = std::fs::metadata(dir(1).join("farrier.sock")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let (stop, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let created: Vec<String> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|first| {
                scope.spawn({
                    let (a, s, n) = (&addresses, &stop, &acknowledged);
                    move || write(a, first, s, n)
                })
            })
            .collect();
        for _ in 0..4 {
            let before = acknowledged.load(Ordering::SeqCst);
            let end = Instant::now() + PATIENCE;
            while acknowledged.load(Ordering::SeqCst) < before + 50 {
                assert!(Instant::now() < end, "nothing is written");
                std::thread::sleep(Duration::from_millis(5));
            }
            let old = leader();
            let follower = if old == 1 { 2 } else { 1 };
            // It may have yet to hear who leads.
            loop {
                let refused = admin("transfer-leader", &dir(follower));
                assert_eq!(refused.status.code(), Some(1));
                let why = text(&refused.stderr);
                if why.contains(&format!("server {old} does")) {
                    break;
                }
                assert!(Instant::now() < end, "{why}");
                std::thread::sleep(Duration::from_millis(20));
            }
            // The one that led before may not be back yet.
            let said = loop {
                let moved = admin("transfer-leader", &dir(old));
                if moved.status.code() == Some(0) {
                    break done(&moved);
                }
                let why = text(&moved.stderr);
                assert!(why.contains("no quorum without this one") && Instant::now() < end, "{why}");
                std::thread::sleep(Duration::from_millis(20));
            };
            assert!(said != format!("server {old} leads") && said.ends_with(" leads"), "{said}");
        }
        stop.store(true, Ordering::SeqCst);
        writers.into_iter().flat_map(|w| w.join().expect("it writes")).collect()
    });
    assert!(created.len() >= 200);
    for address in &addresses {
        let mut client = Client::open(*address, &Connect::default(), &Sessions::default()).expect("it serves");
        client.sync("/").and_then(Reply::ok).expect("a sync");
        for path in &created {
            client.stat(path).unwrap_or_else(|e| panic!("{path} was acknowledged: {e:#}"));
        }
    }

    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert!(!dir(1).join("farrier.sock").exists(), "removed with the server");
    let gone = admin("status", &dir(1));
    assert_eq!(gone.status.code(), Some(3));
    assert!(text(&gone.stderr).contains("is the server running"), "{}", text(&gone.stderr));
    // A dead server's socket is in nobody's way, and answers nobody.
    drop(std::os::unix::net::UnixListener::bind(dir(1).join("farrier.sock")).expect("free"));
    assert_eq!(admin("status", &dir(1)).status.code(), Some(3));
    let (mut child, _) = dev(&data);
    assert!((1..=3).contains(&leader()));
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let nowhere = admin("status", &temp.path().join("nowhere"));
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(text(&nowhere.stderr).contains("nowhere does not exist"), "{}", text(&nowhere.stderr));
    let unseen = admin("status", &temp.path().join("n".repeat(300)));
    let said = text(&unseen.stderr);
    assert!(unseen.status.code() == Some(2) && said.contains("name too long") && !said.contains("not exist"), "{said}");
}
