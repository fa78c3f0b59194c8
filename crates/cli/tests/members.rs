//! `farrier init` and `farrier status`, as people and scripts use them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

fn farrier(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
    command.args(arguments).stdin(Stdio::null());
    for name in ["SERVER_JVMFLAGS", "JVMFLAGS", "FARRIER_LOG", "FARRIER_SERVER"] {
        command.env_remove(name);
    }
    command
}

fn output(arguments: &[&str]) -> Output {
    farrier(arguments).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const LIST: [&str; 6] = ["--server", "1=zk1", "--server", "2=zk2:2889:3889", "--server", "3=zk3:2888:3888:observer"];

fn init(id: &str, dir: &Path) -> Output {
    let mut arguments = vec!["init", "--id", id, "--dir", dir.to_str().expect("text")];
    arguments.extend(LIST);
    output(&arguments)
}

/// `farrier dev` with one server, and its connect string.
fn dev(temp: &Path, port: &str) -> (Child, String) {
    let mut command = farrier(&["dev", "--servers", "1", "--port", port]);
    let mut child = command.env("TMPDIR", temp).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut first = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut first).expect("a first line");
    let address = first.trim().strip_prefix("connect string: ").expect("a connect string").to_owned();
    (child, address)
}

#[test]
fn init_writes_what_a_server_reads_and_never_overwrites() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let dir = temp.path().join("zk");
    let made = init("2", &dir);
    let (stdout, stderr) = (text(&made.stdout), text(&made.stderr));
    assert_eq!(made.status.code(), Some(0), "{stderr}");
    assert_eq!(fs::read_to_string(dir.join("data/myid")).expect("written"), "2\n");
    assert!(stdout.contains("farrier init --id 1 ") && stdout.contains("farrier init --id 3 "), "{stdout}");
    assert!(!stdout.contains("--id 2 "), "{stdout}");

    let cfg = fs::read_to_string(dir.join("zoo.cfg")).expect("written");
    for line in ["server.1=zk1:2888:3888;2181", "server.2=zk2:2889:3889;2181", "server.3=zk3:2888:3888:observer;2181"] {
        assert!(cfg.lines().any(|l| l == line), "{cfg}");
    }
    let check = output(&["server", "--check", dir.join("zoo.cfg").to_str().expect("text")]);
    assert!(text(&check.stdout).contains("server.2=zk2:2889:3889"), "{}", text(&check.stderr));

    let again = init("1", &dir);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("is there already"), "{}", text(&again.stderr));
    assert_eq!(fs::read_to_string(dir.join("data/myid")).expect("still there"), "2\n");
    assert_eq!(fs::read_to_string(dir.join("zoo.cfg")).expect("still there"), cfg);
}

#[test]
fn init_leaves_nothing_behind_when_it_refuses() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let dir = temp.path().join("new/zk");
    let name = dir.to_str().expect("text");
    for wrong in [
        &["--id", "4", "--server", "1=a", "--server", "2=b"][..],
        &["--id", "1", "--server", "1=a", "--server", "1=b"],
        &["--id", "1", "--server", "1=a:2888:2888", "--server", "2=b"],
        &["--id", "0", "--server", "1=a"],
        &["--id", "1", "--server", "1=127.0.0.1", "--server", "2=127.0.0.1"],
        // The same port for clients.
        &["--id", "1", "--server", "1=127.0.0.1:1:2", "--server", "2=127.0.0.1:3:4"],
        &["--id", "1", "--server", "1=::1", "--server", "2=b"],
        &["--id", "1", "--server", "a"],
        &["--id", "1"],
    ] {
        let refused = output(&[&["init", "--dir", name][..], wrong].concat());
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}: {}", text(&refused.stderr));
        assert_eq!(fs::read_dir(temp.path()).expect("a directory").count(), 0, "{wrong:?}");
        // No file is cited that is gone.
        assert!(!text(&refused.stderr).contains(name), "{}", text(&refused.stderr));
    }
}

/// Three members on one machine, as `init` writes them: every one of them tells all the others, with their numbers; and
/// `admin` finds the server by the directory that `init` made.
#[test]
fn status_shows_what_init_made() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    // Below the range of outgoing connections, and beside what others here use.
    let first = 25_000 + u16::try_from(std::process::id() % 600).expect("small") * 10;
    let free = |base: u16| (base + 1..=base + 9).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    let base = (first..32_000).step_by(10).find(|base| free(*base)).expect("free ports");
    let port = |n: u16| base + n;
    let list: Vec<String> =
        (1..=3).map(|n: u16| format!("{n}=127.0.0.1:{}:{};{}", port(n), port(n + 3), port(n + 6))).collect();
    let servers: Vec<&str> = list.iter().flat_map(|member| ["--server", member]).collect();
    let dirs: Vec<String> = (1..=3).map(|n| temp.path().join(format!("zk{n}")).display().to_string()).collect();
    let mut running = Vec::new();
    for (id, dir) in ["1", "2", "3"].iter().zip(&dirs) {
        let made = output(&[&["init", "--id", id, "--dir", dir][..], &servers].concat());
        assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
        let said = text(&made.stdout);
        assert!(said.contains("--server '2=127.0.0.1:") && said.contains(";"), "{said}");
        let log = fs::File::create(temp.path().join(format!("log{id}"))).expect("a file");
        running.push(Running(farrier(&["server", &format!("{dir}/zoo.cfg")]).stderr(log).spawn().expect("it runs")));
    }
    let any = format!("127.0.0.1:{}", port(8));
    let deadline = Instant::now() + Duration::from_secs(240);
    loop {
        let found = output(&["status", "--json", "--server", &any]);
        let rows: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap_or_default();
        let rows = rows.as_array().cloned().unwrap_or_default();
        let serving = rows.iter().filter(|row| !row["zxid"].is_null()).count();
        if serving == 3 {
            let ids: Vec<_> = rows.iter().map(|row| row["id"].clone()).collect();
            assert_eq!(ids, [1, 2, 3], "{rows:?}");
            break;
        }
        assert!(Instant::now() < deadline, "{rows:?}{}", text(&found.stderr));
        thread::sleep(Duration::from_millis(100));
    }
    let admin = output(&["admin", "status", "--dir", &dirs[0]]);
    assert_eq!(admin.status.code(), Some(0), "{}", text(&admin.stderr));

    // A follower says whom it follows, and that it has everything.
    drop(running);
    let logs: Vec<String> =
        (1..=3).map(|n| fs::read_to_string(temp.path().join(format!("log{n}"))).expect("text")).collect();
    for part in ["connected with leader ", "following leader ", "caught up with leader "] {
        let followers = logs.iter().filter(|log| log.contains(part)).count();
        assert!(followers >= 2, "`{part}`: {logs:?}");
    }
}

/// A server that goes with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn status_of_a_server() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let (mut child, address) = dev(temp.path(), "24500");
    let table = output(&["status", "--server", &address]);
    let json = output(&["status", "--server", &address, "--json"]);
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));

    let shown = text(&table.stdout);
    assert_eq!(table.status.code(), Some(0), "{shown}{}", text(&table.stderr));
    let lines: Vec<Vec<&str>> = shown.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["id", "address", "role", "epoch", "last", "zxid", "lag", "connections", "version"]);
    assert_eq!(lines[1][1..4], [address.as_str(), "standalone", "0"], "{shown}");
    assert!(lines[1].last().is_some_and(|v| v.contains("farrier")), "{shown}");

    let rows: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!((&rows[0]["address"], &rows[0]["role"]), (&address.as_str().into(), &"standalone".into()), "{rows}");
    assert_eq!(rows[0]["lag"], 0, "{rows}");

    let gone = output(&["status", "--server", &address, "--timeout", "5"]);
    assert_eq!(gone.status.code(), Some(3));
    assert!(text(&gone.stdout).contains("unreachable"), "{}", text(&gone.stdout));
}

#[test]
fn status_says_which_setting_hides_something() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    // Every connection is a word or a handshake for the look at the configuration, which gets no answer; the last one
    // says nothing.
    let server = thread::spawn(move || {
        let mut words = Vec::new();
        for socket in listener.incoming() {
            let mut socket = socket.expect("a connection");
            let mut word = [0; 4];
            if socket.read_exact(&mut word).is_err() {
                break;
            }
            if word.is_ascii() && word[0] != 0 {
                let word = text(&word);
                writeln!(socket, "{word} is not executed because it is not in the whitelist.").expect("sent");
                words.push(word);
            }
        }
        words
    });
    let found = output(&["status", "--server", &address, "--timeout", "5"]);
    drop(TcpStream::connect(&address).expect("it still listens"));
    assert_eq!(server.join().expect("it served"), ["srvr", "mntr", "srvr", "mntr"]);
    let shown = text(&found.stdout);
    assert_eq!(found.status.code(), Some(1), "{shown}");
    assert!(shown.contains("refuses to tell") && shown.contains("set 4lw.commands.whitelist=srvr,mntr"), "{shown}");
}

#[test]
fn status_refuses_what_is_no_address() {
    for wrong in ["", "a:0", "a:b", "a/chroot/"] {
        assert_eq!(output(&["status", "--server", wrong]).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn dev_runs_an_ensemble_and_status_shows_its_members() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let data = temp.path().join("zk");
    let data = data.to_str().expect("text");
    let status = ["--", env!("CARGO_BIN_EXE_farrier"), "status", "--json", "--timeout", "120"];
    let run = |options: &[&str]| {
        let found = output(&[&["dev", "--data", data][..], options, &status[..]].concat());
        assert_eq!(found.status.code(), Some(0), "{}", text(&found.stderr));
        let stderr = text(&found.stderr);
        // New members have forgotten nothing, and where all stop nobody misses the leader.
        let (start, stop) = stderr.split_once("connect string: ").expect("it is told");
        let warns = |text: &str, of: &str| text.lines().any(|l| l.contains(" WARN ") && l.contains(of));
        assert!(!warns(start, "no vote") && !warns(stop, "closed the connection"), "{stderr}");
        let first = stderr.lines().find_map(|line| line.strip_prefix("connect string: ")).expect("it is told");
        let addresses: Vec<String> = first.split(',').map(str::to_owned).collect();
        (addresses, serde_json::from_slice::<serde_json::Value>(&found.stdout).expect("JSON"))
    };
    let (addresses, rows) = run(&["--port", "24600"]);
    assert_eq!(addresses.len(), 3);
    let rows = rows.as_array().expect("an array");
    let of = |key: &str| rows.iter().map(|row| row[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("id"), [1, 2, 3]);
    assert_eq!(of("address"), addresses.iter().map(|a| a.as_str().into()).collect::<Vec<serde_json::Value>>());
    let mut roles = of("role");
    roles.sort_by_key(serde_json::Value::to_string);
    assert_eq!(roles, ["follower", "follower", "leader"]);
    // What the look itself wrote has reached everybody.
    assert_eq!(of("lag"), [0, 0, 0], "{rows:?}");

    // The directory keeps the number of servers and their ports.
    let (again, rows) = run(&[]);
    assert_eq!(again, addresses);
    assert_eq!(rows.as_array().map(Vec::len), Some(3));
    let other = output(&["dev", "--data", data, "--servers", "5"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains("belongs to 3 servers"), "{}", text(&other.stderr));
}
