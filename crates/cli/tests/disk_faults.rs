//! A disk that is full, read-only or broken, against the real binary: the server stops acknowledging,
//! ends with an exit code and a message that names file, error and remedy, loses nothing that it
//! acknowledged, and comes back on a healthy disk. And the orderly stop, which leaves nothing open.
//!
//! Faults come from the system: a small file system, a limit on file sizes, and strace's injection of
//! errors into single calls.

mod support;

use farrier_proto::OpCode;
use farrier_server::disk::RealDisk;
use farrier_storage::mark::{MarkRead, read_mark};
use farrier_testkit::enc::body;
use farrier_testkit::raw::{Answer, Client, Connect, Reply, Sessions, four_letter_word};
use rustix::process::{Pid, Resource, Rlimit, Signal, geteuid, prlimit};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::{PATIENCE, Process, can, can_trace, tell};

/// Requests on their way at a time.
const DEPTH: usize = 16;
const DATA: [u8; 2000] = [b'd'; 2000];

/// What a client knows about its creates.
#[derive(Debug, Default)]
struct Outcome {
    acknowledged: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

/// Creates nodes until the server is gone. `count` is told every acknowledgement.
fn create_until_it_ends(mut client: Client, prefix: &str, count: &AtomicUsize) -> Outcome {
    let mut sent = std::collections::VecDeque::new();
    let mut outcome = Outcome::default();
    for n in 0.. {
        let path = format!("/{prefix}{n:06}");
        client.send(OpCode::Create.code(), body().create(&path, &DATA, 0)).expect("the connection swallows it");
        sent.push_back(path);
        if sent.len() < DEPTH {
            continue;
        }
        match client.answer(PATIENCE) {
            Ok(Answer::Reply(reply)) => {
                let path = sent.pop_front().expect("something was sent");
                assert_eq!(reply.path().expect("created"), path);
                outcome.acknowledged.insert(path);
                count.fetch_add(1, Ordering::SeqCst);
            }
            Ok(Answer::Closed) | Err(_) => break,
            Ok(Answer::Silent) => panic!("neither a reply nor an end"),
        }
    }
    outcome.unknown.extend(sent);
    outcome
}

/// Runs a load, and `fault` once it is under way; waits for the end, which must be a failure that says
/// why. Returns what the client knows.
fn fail(server: &mut Process, words: &[&str], fault: impl FnOnce(&Process)) -> Outcome {
    server.start();
    let client = server.client();
    let count = AtomicUsize::new(0);
    let (outcome, status) = std::thread::scope(|scope| {
        let load = scope.spawn(|| create_until_it_ends(client, "n", &count));
        while count.load(Ordering::SeqCst) < 10 && !load.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        fault(server);
        let outcome = load.join().expect("the client did not fail");
        (outcome, server.wait_end())
    });
    let said = server.said();
    assert_eq!(status.code(), Some(1), "{said}");
    let halted = said.lines().find(|l| l.contains("halted: the transaction log failed")).unwrap_or_else(|| {
        panic!("no reason was given:\n{said}");
    });
    for word in words.iter().chain(&["Remedy: ", "start the server again"]) {
        assert!(halted.contains(word), "`{word}` is missing in: {halted}");
    }
    // The mark is written behind the log and can be the first to fail.
    assert!(halted.contains("version-2/log.") || halted.contains("farrier.mark"), "no file is named: {halted}");
    assert!(outcome.acknowledged.len() >= 10, "there was no load: {said}");
    outcome
}

/// Starts on a healthy disk and looks for everything.
fn comes_back(server: &mut Process, outcome: &Outcome) {
    server.start();
    let mut client = server.client();
    let names = client.children("/", false).and_then(|r| r.names()).expect("names");
    let there: BTreeSet<String> = names.iter().filter(|n| *n != "zookeeper").map(|n| format!("/{n}")).collect();
    let lost: Vec<_> = outcome.acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    for path in &there {
        let known = outcome.acknowledged.contains(path) || outcome.unknown.contains(path);
        assert!(known, "{path} was never asked for");
        let data = client.get(path, false).and_then(|r| r.data()).expect("data");
        assert_eq!(data.as_deref(), Some(&DATA[..]), "{path}");
    }
    client.create("/after", b"").and_then(Reply::ok).expect("it writes again");
    tell(&format!(
        "{} acknowledged, {} unknown, of which {} took place",
        outcome.acknowledged.len(),
        outcome.unknown.len(),
        there.len() - outcome.acknowledged.len()
    ));
}

/// A command that runs a shell which may mount without anybody else seeing it.
fn private_mounts() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["unshare", "-m"], &["unshare", "-rm"]];
    ways.into_iter().find(|way| {
        let try_it = "mount -t tmpfs -o size=64k farrier /mnt";
        let status = Command::new(way[0]).args(&way[1..]).args(["sh", "-c", try_it]).output();
        status.is_ok_and(|o| o.status.success())
    })
}

fn wrapped_in_shell<'a>(way: &[&'a str], script: &'a str) -> Vec<&'a str> {
    way.iter().copied().chain(["sh", "-c", script]).collect()
}

/// Files may not grow any more from here on: writes fail with EFBIG. Needs no privilege.
fn forbid_writes(server: Option<Pid>) {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    prlimit(server, Resource::Fsize, none).expect("limits may be lowered");
}

#[test]
fn a_full_disk() {
    let Some(way) = private_mounts() else {
        // No skip: `a_limit_on_file_sizes` shows the same by another error, and `cargo xtask faults full-disk` fills a disk
        // that it mounts. Machines where tests may not mount would else fail as a whole.
        tell("no small file system can be mounted here; a limit on the size of files stands for it");
        return a_limit_on_file_sizes();
    };
    let (small, healthy) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let mut server = Process::new(small.path(), &["preAllocSize=256"]);
    let mut after = Process::new(healthy.path(), &["preAllocSize=256"]);
    fs::create_dir(after.data()).expect("made");
    // The file system goes with the processes that see it, so its files are taken out before.
    let script = format!(
        "mount -t tmpfs -o size=3m farrier {0} || exit 99; {{}}; code=$?; cp -a {0}/. {1}/; exit $code",
        server.data().display(),
        after.data().display()
    );
    server.wrapped(&wrapped_in_shell(way, &script));
    let outcome = fail(&mut server, &["No space left on device", "make room on the disk"], |_| {});
    let said = server.said();
    let warned = said.find("the next log segment cannot be prepared").expect("a warning came first");
    assert!(warned < said.find("halted:").expect("it halted"), "{said}");
    comes_back(&mut after, &outcome);
}

#[test]
fn a_limit_on_file_sizes() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = Process::new(dir.path(), &["preAllocSize=256"]);
    server.wrapped(&["sh", "-c", "trap '' XFSZ; exec {}"]);
    let outcome = fail(&mut server, &["cannot write", "File too large"], |s| forbid_writes(s.server_pid()));
    server.wrapped(&[]);
    comes_back(&mut server, &outcome);
}

/// A start that goes on for long, here since a port for the other servers is taken, is ended by the first signal.
#[test]
fn a_signal_ends_a_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let election = taken.local_addr().expect("it is bound").port();
    let own = format!("server.1=127.0.0.1:1:{election}");
    let others = ["server.2=127.0.0.1:2:3", "server.3=127.0.0.1:4:5", "initLimit=10", "syncLimit=5"];
    let mut server = Process::new(dir.path(), &[&[own.as_str(), "electionPortBindRetry=0"][..], &others].concat());
    fs::create_dir(server.data()).and_then(|()| fs::write(server.data().join("myid"), "1")).expect("written");
    server.spawn();
    server.wait_said(|said| said.contains("trying again"));
    server.signal(Signal::TERM);
    assert_eq!(server.wait_end().code(), Some(143), "{}", server.said());
    assert!(server.said().contains("SIGTERM: ends before it served"), "{}", server.said());
}

/// Clients that take every file that may be open would leave none for the next segment of the log.
#[test]
fn more_connections_than_open_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = Process::new(dir.path(), &["preAllocSize=256", "snapCount=200", "maxClientCnxns=0"]);
    server.wrapped(&["sh", "-c", "ulimit -n 256; exec {}"]);
    server.start();
    let mut client = server.client();
    let crowd: Vec<_> = (0..400).map(|_| TcpStream::connect(server.addr()).expect("the system takes it")).collect();
    for n in 0..800 {
        let path = format!("/n{n:06}");
        client.create(&path, &DATA).and_then(Reply::ok).unwrap_or_else(|e| panic!("{path}: {e:#}: {}", server.said()));
    }
    // By their names: files that are on their way to theirs come and go meanwhile.
    let files =
        fs::read_dir(server.data().join("version-2")).expect("a directory").map(|entry| entry.expect("an entry"));
    let logs = files.filter(|entry| entry.file_name().to_string_lossy().starts_with("log.")).count();
    assert!(logs > 3, "no segment was full: {logs}");
    let said = server.wait_said(|said| said.contains("Too many connections"));
    assert!(said.contains("Too many connections: 256 files can be open (ulimit -n, LimitNOFILE=)"), "{said}");
    // Others come in once those are gone.
    drop(crowd);
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = Client::open(server.addr(), &Connect::default(), &Sessions::default()) {
        assert!(Instant::now() < deadline, "{error:#}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_server_may_open_all_the_files_that_the_system_lets_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = Process::new(dir.path(), &[]);
    server.wrapped(&["sh", "-c", "ulimit -Sn 300; ulimit -Hn 1000; exec {}"]);
    server.start();
    let pid = server.server_pid().expect("it runs").as_raw_nonzero();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("a running process has limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("that one too");
    assert_eq!(line.split_whitespace().nth(3), Some("1000"), "{line}");
    let said = server.said();
    assert!(said.contains("no more than 1000 files can be open") && said.contains("LimitNOFILE="), "{said}");
}

/// A process that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        // Mostly it has ended.
        let _ = self.0.kill();
    }
}

/// Runs `farrier dev` with these words behind it, forbids it to write once it has told where clients connect, and writes.
/// Returns what it said besides and its exit code; a command of it has ended then.
fn dev_that_must_not_write(words: &[&str]) -> (String, Option<i32>) {
    let temp = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_farrier"), "dev"]).args(words);
    for name in ["FARRIER_LOG", "FARRIER_SERVER"] {
        command.env_remove(name);
    }
    command.env("TMPDIR", temp.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut dev = Ends(command.spawn().expect("there is a shell"));
    let child = &mut dev.0;
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut stderr = child.stderr.take().expect("it is piped");
    let ear = std::thread::spawn(move || {
        let mut said = String::new();
        stderr.read_to_string(&mut said).map(|_| said)
    });
    // The program prints it, or the command that it runs.
    let mut first = String::new();
    stdout.read_line(&mut first).expect("a first line");
    let addresses = first.trim().trim_start_matches("connect string: ");
    let address: SocketAddr = addresses.split(',').next().and_then(|a| a.parse().ok()).expect("an address");
    let mut client = Client::open(address, &Connect::default(), &Sessions::default()).expect("a session");
    client.create("/before", b"").and_then(Reply::ok).expect("it writes");

    forbid_writes(Some(Pid::from_child(child)));
    client.send(OpCode::Create.code(), body().create("/n", &DATA, 0)).expect("the connection swallows it");
    assert!(!matches!(client.answer(PATIENCE), Ok(Answer::Reply(_) | Answer::Silent)), "acknowledged, or no end");
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().expect("it can be asked") {
            Some(status) => break status,
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            None => panic!("it does not end"),
        }
    };
    // Until everybody has closed it.
    stdout.read_to_string(&mut String::new()).expect("text");
    let said = ear.join().expect("it does not panic").expect("text");
    (said, status.code())
}

/// A server that halts ends `farrier dev`, as it ends `farrier server`: nothing hangs, and why is told.
#[test]
fn dev_ends_with_the_first_server_that_halts() {
    const STUBBORN: &str = "trap '' TERM; echo $FARRIER_SERVER; for n in $(seq 120); do sleep 1; done";
    let command = ["--", "sh", "-c", "echo $FARRIER_SERVER; exec sleep 120"];
    for (servers, port, command, code) in [
        ("1", "24800", &[][..], 1),
        ("3", "24820", &[], 1),
        ("1", "24840", &["--", "sh", "-c", STUBBORN], 125),
        ("3", "24860", &command, 125),
    ] {
        let options = ["--servers", servers, "--port", port];
        let (said, ended) = dev_that_must_not_write(&[&options[..], command].concat());
        assert_eq!(ended, Some(code), "{servers} {command:?}: {said}");
        let told = said.lines().rfind(|line| line.starts_with("farrier dev: error: server ")).unwrap_or_else(|| {
            panic!("no reason was given:\n{said}");
        });
        for word in ["halted: the transaction log failed", "File too large", "Remedy: ", "start the server again"] {
            assert!(told.contains(word), "`{word}` is missing in: {said}");
        }
    }
}

/// Lets a call of the log's thread fail, and answers why the server said that it halted; nothing where calls can't be traced.
fn injected(what: &str, words: &[&str]) -> Option<String> {
    if !can_trace() {
        return None;
    }
    let dir = tempfile::tempdir().expect("a directory");
    // No segment is full before that call: calls are counted for each thread, and the one that prepares segments makes the
    // same ones.
    let mut server = Process::new(dir.path(), &["preAllocSize=16384"]);
    let (call, _) = what.split_once(':').expect("a call and what becomes of it");
    let (trace, inject) = (format!("trace={call}"), format!("inject={what}"));
    server.wrapped(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]);
    let outcome = fail(&mut server, words, |_| {});
    let halted = server.said().lines().find(|line| line.contains("halted: ")).map(str::to_owned);
    server.wrapped(&[]);
    comes_back(&mut server, &outcome);
    Some(halted.expect("the reason was found before"))
}

#[test]
fn a_failed_sync() {
    injected("fdatasync:error=EIO:when=25", &["cannot sync", "Input/output error", "check the disk"]);
}

/// The second attempt would succeed, and must not be made.
#[test]
fn a_failed_write() {
    if let Some(halted) = injected("pwritev:error=ENOSPC:when=20", &["cannot write", "No space left on device"]) {
        assert!(halted.contains("/version-2/log."), "{halted}");
    }
}

#[test]
fn a_failed_write_of_the_mark() {
    if let Some(halted) = injected("pwrite64:error=ENOSPC:when=60", &["cannot write", "No space left on device"]) {
        assert!(halted.contains("farrier.mark"), "{halted}");
    }
}

#[test]
fn a_read_only_directory() {
    let way = private_mounts();
    // Without a mount the modes of directories forbid, which root does not heed.
    let other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let tried = [&other[..], &["true"]].concat();
    if way.is_none()
        && geteuid().is_root()
        && !can(&tried, "this test needs mounts or setpriv; apt-get install util-linux")
    {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = Process::new(dir.path(), &["preAllocSize=64"]);
    server.start();
    server.client().create("/before", b"").and_then(Reply::ok).expect("created");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_end().code(), Some(0));
    let before = listing(&server.data());

    let data = server.data().display().to_string();
    let script = format!("mount --bind {data} {data} && mount -o remount,ro,bind {data} && exec {{}}");
    let locked = fs::Permissions::from_mode(0o555);
    match way {
        Some(way) => server.wrapped(&wrapped_in_shell(way, &script)),
        None => {
            for dir in [server.data(), server.data().join("version-2")] {
                fs::set_permissions(dir, locked.clone()).expect("changed");
            }
            if geteuid().is_root() {
                fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("changed");
                server.wrapped(&other);
            }
        }
    }
    server.spawn();
    let status = server.wait_end();
    let said = server.said();
    assert!(status.code().is_some_and(|c| c == 1 || c == 3), "{status}: {said}");
    assert!(said.contains("not started: ") && said.contains(&data), "{said}");
    assert!(said.contains("Read-only file system") || said.contains("ermission denied"), "{said}");
    assert_eq!(listing(&server.data()), before, "nothing was touched");

    for dir in [server.data(), server.data().join("version-2")] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("changed");
    }
    server.wrapped(&[]);
    server.start();
    assert_eq!(server.client().exists("/before", false).expect("a reply").err, 0);
}

/// Every file with its content.
fn listing(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(listing(&path));
        } else if path.file_name().is_some_and(|n| n != "farrier.lock") {
            files.push((path.display().to_string(), fs::read(&path).expect("readable")));
        }
    }
    files.sort();
    files
}

#[test]
fn an_orderly_stop_leaves_nothing_unknown() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = Process::new(dir.path(), &["preAllocSize=256"]);
    for round in 0..5 {
        server.start();
        let clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
        let count = AtomicUsize::new(0);
        let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
            let loads: Vec<_> = clients
                .into_iter()
                .enumerate()
                .map(|(i, client)| {
                    let count = &count;
                    scope.spawn(move || create_until_it_ends(client, &format!("r{round}c{i}-"), count))
                })
                .collect();
            while count.load(Ordering::SeqCst) < 50 {
                std::thread::sleep(Duration::from_millis(1));
            }
            server.signal(Signal::TERM);
            loads.into_iter().map(|l| l.join().expect("the client did not fail")).collect()
        });
        let status = server.wait_end();
        assert_eq!(status.code(), Some(0), "{}", server.said());

        let disk = RealDisk::open(&server.data(), &server.data(), false).expect("the directory is free");
        let MarkRead::Mark(mark) = read_mark(&disk).expect("readable") else { panic!("there is a mark") };
        drop(disk);
        server.start();
        let text = four_letter_word(server.addr(), "srvr").expect("an answer");
        let zxid = text.lines().find_map(|l| l.strip_prefix("Zxid: 0x")).expect("srvr tells the zxid");
        let zxid = u64::from_str_radix(zxid, 16).expect("hexadecimal");
        assert_eq!(mark.zxid.get(), zxid, "the mark covers the whole log");
        // But for the speed of the disk.
        let said = server.said();
        let complaints = said.lines().filter(|l| l.contains("WARN") && !l.contains("fsync-ing")).count();
        assert_eq!(complaints, 0, "nothing to complain about:\n{said}");

        let mut client = server.client();
        let names = client.children("/", false).and_then(|r| r.names()).expect("names");
        let prefix = format!("r{round}");
        let there: BTreeSet<String> =
            names.iter().filter(|n| n.starts_with(&prefix)).map(|n| format!("/{n}")).collect();
        let acknowledged: BTreeSet<String> = outcomes.iter().flat_map(|o| o.acknowledged.iter().cloned()).collect();
        assert_eq!(there, acknowledged, "what was done was answered, and the other way round");
        client.close().and_then(Reply::ok).expect("closed");
        server.signal(Signal::TERM);
        assert_eq!(server.wait_end().code(), Some(0), "{}", server.said());
    }
}
