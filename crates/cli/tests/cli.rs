//! The binary as people and scripts use it: streams, exit codes, signals.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use farrier_server::disk::RealDisk;
use farrier_storage::Mark;
use farrier_storage::mark::{MarkFile, MarkRead, read_mark};
use rustix::process::{Pid, Signal, kill_process};

mod support;

fn farrier(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
    command.args(arguments).stdin(Stdio::null());
    for name in ["SERVER_JVMFLAGS", "JVMFLAGS", "FARRIER_LOG", "FARRIER_SERVER"] {
        command.env_remove(name);
    }
    command
}

fn output(command: &mut Command) -> Output {
    command.output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A port from the range that tests of this file use, to stay away from 2181.
fn port(index: u16) -> String {
    (23_400 + 100 * index).to_string()
}

struct Dev {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Dev {
    /// Starts `farrier dev` with one server and waits for its first line.
    fn start(arguments: &[&str], temp: &Path) -> Self {
        Self::begin(&[&["dev", "--servers", "1"], arguments].concat(), temp)
    }

    /// The same with all words given.
    fn begin(words: &[&str], temp: &Path) -> Self {
        let mut command = farrier(words);
        command.env("TMPDIR", temp).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the binary runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut first = String::new();
        stdout.read_line(&mut first).expect("a first line");
        let address = first.strip_prefix("connect string: ").and_then(|l| l.strip_suffix('\n')).map(str::to_owned);
        let address = address.unwrap_or_else(|| panic!("not a connect string: {first:?}"));
        Self { child, stdout, address }
    }

    /// Sends `signal` and returns the rest of standard output and the exit code.
    fn end(mut self, signal: Signal) -> (String, Option<i32>) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("text");
        (rest, self.child.wait().expect("it ends").code())
    }
}

fn word(address: &str, word: &str) -> String {
    let mut socket = TcpStream::connect(address).expect("it listens");
    socket.write_all(word.as_bytes()).expect("it reads");
    let mut reply = String::new();
    socket.read_to_string(&mut reply).expect("it answers and closes");
    reply
}

/// Opens a session, which is a transaction, and leaves it to its timeout.
fn open_session(address: &str) {
    // Length; protocol version, last zxid, timeout, session id, password.
    let mut request = Vec::new();
    request.extend_from_slice(&44_i32.to_be_bytes());
    request.extend_from_slice(&[0; 12]);
    request.extend_from_slice(&30_000_i32.to_be_bytes());
    request.extend_from_slice(&[0; 8]);
    request.extend_from_slice(&16_i32.to_be_bytes());
    request.extend_from_slice(&[0; 16]);
    let mut socket = TcpStream::connect(address).expect("it listens");
    socket.write_all(&request).expect("it reads");
    let mut reply = [0; 40];
    socket.read_exact(&mut reply).expect("it answers");
    assert_ne!(reply[12..20], [0; 8], "a session was opened");
}

#[test]
fn version_and_usage() {
    let version = output(&mut farrier(&["--version"]));
    assert_eq!(
        (text(&version.stdout), version.status.code()),
        (format!("farrier {}\n", env!("CARGO_PKG_VERSION")), Some(0))
    );
    for wrong in [&["server"][..], &["frobnicate"], &["dev", "--port", "x"], &["server", "a", "--set", "x"], &[]] {
        assert_eq!(output(&mut farrier(wrong)).status.code(), Some(2), "{wrong:?}");
    }
    let help = text(&output(&mut farrier(&["--help"])).stdout);
    assert!(help.contains("Examples:") && help.contains("farrier server zoo.cfg --check"), "{help}");
}

#[test]
fn check_prints_values_and_origins() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("zoo.cfg");
    fs::write(&file, "dataDir=/data\nclientPort=2181\ntikcTime=5\n").expect("written");
    let name = file.display().to_string();
    let mut command = farrier(&["server", &name, "--check", "--set", "tickTime=700"]);
    let found = output(command.env("SERVER_JVMFLAGS", "-Dzookeeper.snapCount=77"));
    assert_eq!(found.status.code(), Some(0));
    let lines: Vec<String> =
        text(&found.stdout).lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        format!("clientPort=2181 ({name}:2)"),
        "tickTime=700 (--set)".to_owned(),
        "minSessionTimeout=1400 (default)".to_owned(),
        "snapCount=77 (-Dzookeeper.snapCount in SERVER_JVMFLAGS)".to_owned(),
    ] {
        assert!(lines.contains(&line), "{line}: {lines:#?}");
    }
    let warned = text(&found.stderr);
    assert!(warned.contains("zoo.cfg:3: unknown key `tikcTime` is ignored; did you mean `tickTime`?"), "{warned}");
}

#[test]
fn a_refused_configuration_exits_with_2() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    fs::create_dir(&data).expect("made");
    fs::write(data.join("myid"), "1").expect("written");
    let ensemble = "initLimit=5\nsyncLimit=5\nserver.2=b:1:2\nserver.3=c:1:2\n";
    for (lines, why) in [
        ("tickTime=x\n", "zoo.cfg:3: tickTime=x: not an integer; allowed: an integer from 1 to 2147483647"),
        ("sslQuorum=true\n", "zoo.cfg:3: sslQuorum=true: this version has no TLS between servers"),
        (ensemble, "myid: it says 1, and there is no server.1 line; listed are 2, 3"),
    ] {
        let file = dir.path().join("zoo.cfg");
        fs::write(&file, format!("dataDir={}\nclientPort=2181\n{lines}", data.display())).expect("written");
        for check in [&["server", "--check"][..], &["server"]] {
            let found = output(farrier(check).arg(&file));
            assert_eq!(found.status.code(), Some(2), "{lines}");
            assert!(text(&found.stderr).starts_with("farrier server: error: "), "{}", text(&found.stderr));
            assert!(text(&found.stderr).contains(why), "{lines}: {}", text(&found.stderr));
        }
    }
    assert!(!data.join("version-2").exists(), "nothing was written");
}

#[test]
fn dev_serves_and_cleans_up() {
    for (index, signal) in [(0, Signal::TERM), (1, Signal::INT), (0, Signal::HUP)] {
        if support::is_ignored(signal) {
            continue;
        }
        let temp = tempfile::tempdir().expect("a temporary directory");
        let dev = Dev::start(&["--port", &port(index)], temp.path());
        assert!(dev.address.starts_with("127.0.0.1:"), "{}", dev.address);
        assert_eq!(word(&dev.address, "ruok"), "imok");
        assert_eq!(fs::read_dir(temp.path()).expect("it exists").count(), 1);
        let address = dev.address.clone();
        let (rest, code) = dev.end(signal);
        assert_eq!(code, Some(0));
        assert!(rest.contains(&format!("zkCli.sh -server {address}")), "{rest}");
        assert_eq!(fs::read_dir(temp.path()).expect("it exists").count(), 0, "the temporary directory is gone");
        assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    }
}

#[test]
fn a_taken_port_gives_way() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let first = Dev::start(&["--port", &port(2)], temp.path());
    let second = Dev::start(&["--port", &port(2)], temp.path());
    assert_ne!(first.address, second.address);
    assert_eq!(second.end(Signal::TERM).1, Some(0));
    assert_eq!(first.end(Signal::TERM).1, Some(0));
}

/// Apache takes no lock: a Java server that runs on the directory is noticed by its port alone, and nothing may
/// have been written by then.
#[test]
fn a_server_whose_port_is_taken_touches_no_directory() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = holder.local_addr().expect("bound").port();
    let (data, file) = (temp.path().join("data"), temp.path().join("zoo.cfg"));
    fs::create_dir(&data).expect("made");
    let lines = format!("dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\n", data.display());
    fs::write(&file, lines).expect("written");
    let found = output(farrier(&["server"]).arg(&file));
    assert_eq!(found.status.code(), Some(1));
    let said = text(&found.stderr);
    assert!(said.contains(&format!("cannot listen on 127.0.0.1:{port}")) && said.contains("clientPort"), "{said}");
    assert_eq!(fs::read_dir(&data).expect("it exists").count(), 0, "nothing was written");
}

/// The second server on a directory hears of that, and not of the ports, which are taken for the same reason.
#[test]
fn a_directory_in_use_is_told_before_its_ports() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let data = temp.path().join("zk");
    let first = Dev::start(&["--port", &port(6), "--data", &data.display().to_string()], temp.path());
    let taken = first.address.rsplit(':').next().expect("a port");
    let second = output(farrier(&["server", taken]).arg(data.join("1")));
    assert_eq!(second.status.code(), Some(1));
    let said = text(&second.stderr);
    let holder = format!("is in use by another server (process {})", first.child.id());
    assert!(said.contains(&holder) && !said.contains("cannot listen"), "{said}");
    assert_eq!(first.end(Signal::TERM).1, Some(0));
}

#[test]
fn data_and_port_are_kept() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let data = temp.path().join("zk");
    let name = data.display().to_string();
    let first = Dev::start(&["--port", &port(3), "--data", &name], temp.path());
    let address = first.address.clone();
    assert_eq!(first.end(Signal::TERM).1, Some(0));
    assert!(data.join("1/version-2").is_dir());
    let again = Dev::start(&["--data", &name], temp.path());
    assert_eq!(again.address, address);

    let refused = output(&mut farrier(&["dev", "--servers", "1", "--data", &name]));
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(1), String::new()));
    assert!(text(&refused.stderr).contains("is taken"), "{}", text(&refused.stderr));
    let other = output(&mut farrier(&["dev", "--data", &name, "--servers", "3"]));
    assert_eq!((other.status.code(), text(&other.stdout)), (Some(1), String::new()));
    assert!(text(&other.stderr).contains("belongs to 1 server,"), "{}", text(&other.stderr));
    assert_eq!(again.end(Signal::TERM).1, Some(0));
}

/// A first start that fails leaves behind how many servers it was for.
#[test]
fn the_number_of_servers_is_kept_before_the_first_starts() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let data = temp.path().join("zk");
    let name = data.display().to_string();
    // The last one can't be started, when the others are.
    fs::create_dir_all(data.join("3/farrier.lock")).expect("made");
    let dev = |servers: &str| output(&mut farrier(&["dev", "--servers", servers, "--port", &port(9), "--data", &name]));
    let failed = dev("3");
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed.stderr));
    assert!(data.join("farrier-dev.properties").is_file() && data.join("1/version-2").is_dir(), "it was on its way");
    let other = dev("1");
    assert_eq!((other.status.code(), text(&other.stdout)), (Some(1), String::new()));
    assert!(text(&other.stderr).contains("belongs to 3 servers,"), "{}", text(&other.stderr));
    fs::remove_dir(data.join("3/farrier.lock")).expect("removed");
    let dev = Dev::begin(&["dev", "--port", &port(9), "--data", &name], temp.path());
    assert_eq!(dev.address.split(',').count(), 3, "all of them serve: {}", dev.address);
    assert_eq!(dev.end(Signal::TERM).1, Some(0));
}

#[test]
fn a_command_runs_beside_the_server_and_gives_its_code() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let port = port(4);
    let run = |words: &[&str]| {
        let found =
            output(farrier(&["dev", "--servers", "1", "--port", &port, "--"]).args(words).env("TMPDIR", temp.path()));
        (text(&found.stdout), text(&found.stderr), found.status.code())
    };
    let (stdout, stderr, code) = run(&["sh", "-c", "echo $FARRIER_SERVER; exit 7"]);
    // Standard output is the command's alone.
    let address = stderr.lines().find_map(|line| line.strip_prefix("connect string: ")).expect("it is told");
    assert_eq!((stdout, code), (format!("{address}\n"), Some(7)));
    assert_eq!(run(&["sh", "-c", "kill -9 $$"]).2, Some(137));
    let (_, stderr, code) = run(&["/nonexistent/program"]);
    assert_eq!(code, Some(127), "{stderr}");
    assert_eq!(run(&["/"]).2, Some(126));
    assert_eq!(fs::read_dir(temp.path()).expect("it exists").count(), 0);
}

#[test]
fn repair_looks_first_and_moves_aside_on_demand() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let data = temp.path().join("zk");
    let name = data.display().to_string();
    let dev = Dev::start(&["--port", &port(5), "--data", &name], temp.path());
    open_session(&dev.address);
    assert_eq!(dev.end(Signal::TERM).1, Some(0));
    let server = data.join("1").display().to_string();

    let repair = |more: &[&str]| {
        let found = output(farrier(&["repair", &server]).args(more));
        (text(&found.stdout), text(&found.stderr), found.status.code())
    };
    let (stdout, stderr, code) = repair(&[]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("A server starts on this directory."), "{stdout}");

    let snapshot = data.join("1/version-2/snapshot.0");
    let mut bytes = fs::read(&snapshot).expect("a fresh server writes it");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&snapshot, bytes).expect("written");
    let (stdout, _, code) = repair(&[]);
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("snapshot.0") && stdout.contains("Nothing was changed."), "{stdout}");
    assert!(snapshot.exists());

    let (stdout, stderr, code) = repair(&["--accept-loss"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("kept aside: "), "{stdout}");
    assert!(!snapshot.exists());
    assert_eq!(repair(&[]).2, Some(0));
    let again = Dev::start(&["--data", &name], temp.path());
    assert_eq!(again.end(Signal::TERM).1, Some(0));

    let nothing = output(farrier(&["repair"]).arg(temp.path()));
    assert_eq!(nothing.status.code(), Some(2), "{}", text(&nothing.stderr));
    let nowhere = output(farrier(&["repair"]).arg(temp.path().join("nowhere")));
    assert!(nowhere.status.code() == Some(2) && text(&nowhere.stderr).contains("nowhere does not exist"));
    // Where nobody can look, nothing is said to be missing.
    let unseen = output(farrier(&["repair"]).arg(temp.path().join("n".repeat(300))));
    assert!(unseen.status.code() == Some(2) && text(&unseen.stderr).contains("File name too long"), "{unseen:?}");
    assert!(!text(&unseen.stderr).contains("does not exist"), "{unseen:?}");
}

/// A directory alone does not say whose it is. Under a member's epoch its mark is in force, and tells what is missing.
#[test]
fn repair_of_a_directory_knows_a_member() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let data = temp.path().join("zk");
    let dev = Dev::start(&["--port", &port(7), "--data", &data.display().to_string()], temp.path());
    open_session(&dev.address);
    assert_eq!(dev.end(Signal::TERM).1, Some(0));
    let server = data.join("1");
    let disk = RealDisk::open(&server, &server, false).expect("it was made");
    let MarkRead::Mark(mark) = read_mark(&disk).expect("readable") else { panic!("there is a mark") };
    let log = server.join(format!("version-2/log.{:x}", mark.segment.get()));
    let file = fs::OpenOptions::new().write(true).open(&log).expect("the mark names it");
    file.set_len(mark.offset - 8).expect("shortened");
    let repair = |more: &[&str]| {
        let found = output(farrier(&["repair", &server.display().to_string()]).args(more));
        (text(&found.stdout), found.status.code())
    };
    assert_eq!(repair(&[]).1, Some(1), "a server alone");
    for name in ["acceptedEpoch", "currentEpoch"] {
        fs::write(server.join("version-2").join(name), "1").expect("written");
    }
    assert_eq!(repair(&[]).1, Some(1), "a former member that works alone");
    MarkFile::create(&disk, Mark { epoch: 1, ..mark }).expect("written");
    let (stdout, code) = repair(&[]);
    assert!(code == Some(1) && stdout.contains("acknowledged and synced"), "{stdout}");
    assert_eq!(repair(&["--accept-loss"]).1, Some(0));
    let MarkRead::Mark(mark) = read_mark(&disk).expect("readable") else { panic!("there is a mark") };
    assert_eq!(mark.epoch, 1, "in force at the next start");
    assert_eq!(repair(&[]).1, Some(0));
}
