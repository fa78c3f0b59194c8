//! What the tests of crashes, disks and hostile bytes share: the binary as a process that can be
//! wrapped, limited, signalled and killed, and a generator of repeatable numbers.

// Each test binary uses its own part.
#![allow(dead_code, reason = "every test binary compiles this module and none needs all of it")]

pub(crate) mod place;
pub(crate) mod terminal;

use farrier_testkit::raw::{Client, Connect, Sessions};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest wait for anything that a healthy server does at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// splitmix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is not 0.
    pub(crate) const fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True once in `n` times.
    pub(crate) const fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Whether tests, and what they start, were told to ignore this signal, as under nohup.
pub(crate) fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask >> (signal.as_raw() - 1) & 1 == 1)
}

/// Says something to whoever reads the output of a test.
pub(crate) fn tell(text: &str) {
    // Nobody listens if this fails.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether `attempt` works here, for a test that can't do without and ends if it doesn't. That is told as a line that
/// `cargo xtask ci` counts; `.ci/run`, which installs everything, allows no such thing. `remedy` is what to do about it.
pub(crate) fn can(attempt: &[&str], remedy: &str) -> bool {
    let tried = Command::new(attempt[0]).args(&attempt[1..]).stdin(Stdio::null()).output();
    let why = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
        Err(error) => error.to_string(),
    };
    let told = format!("`{}` does not work here ({why}): {remedy}", attempt.join(" "));
    assert!(std::env::var_os("FARRIER_REQUIRE_TOOLS").is_none(), "{told}");
    // With one test at a time its name stands in the line already. Unlike `println!` this is not kept from the output.
    let _ = std::io::stderr().write_all(format!("\nskipped: {told}\n").as_bytes());
    false
}

/// Whether calls can be traced and made to fail.
pub(crate) fn can_trace() -> bool {
    can(&["strace", "-o", "/dev/null", "true"], "this test needs strace; apt-get install strace")
}

#[derive(Debug, Default)]
struct Log {
    text: String,
    serving: bool,
    ended: bool,
}

/// What the process says on standard error.
#[derive(Clone, Debug, Default)]
struct Ear(Arc<(Mutex<Log>, Condvar)>);

impl Ear {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.0.lock().expect("nobody panics while holding the lock")
    }

    fn listen(&self, from: impl std::io::Read) {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line);
            let mut log = self.lock();
            log.serving |= line.contains(" clients on ");
            log.text.push_str(&line);
            log.text.push('\n');
            self.0.1.notify_all();
        }
        self.lock().ended = true;
        self.0.1.notify_all();
    }
}

/// The server's process and its directory.
#[derive(Debug)]
pub(crate) struct Process {
    root: PathBuf,
    lines: Vec<String>,
    wrap: Vec<String>,
    port: u16,
    child: Option<Child>,
    ear: Ear,
    listener: Option<JoinHandle<()>>,
}

impl Process {
    /// A server in `root` that is not yet started. `lines` are added to its `zoo.cfg`.
    pub(crate) fn new(root: &Path, lines: &[&str]) -> Self {
        let lines = lines.iter().map(|l| (*l).to_owned()).collect();
        let port = free_port();
        let ear = Ear::default();
        Self { root: root.to_owned(), lines, wrap: Vec::new(), port, child: None, ear, listener: None }
    }

    /// Starts it by this command from now on; `{}` stands for the binary and its arguments where it is
    /// part of a word, otherwise they follow.
    pub(crate) fn wrapped(&mut self, wrap: &[&str]) {
        self.wrap = wrap.iter().map(|w| (*w).to_owned()).collect();
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), self.port)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// What it said since its last start.
    pub(crate) fn said(&self) -> String {
        self.ear.lock().text.clone()
    }

    /// What it said, once that is `enough` or patience ends: its words arrive later than its deeds.
    pub(crate) fn wait_said(&self, enough: impl Fn(&str) -> bool) -> String {
        let (log, _) = self
            .ear
            .0
            .1
            .wait_timeout_while(self.ear.lock(), PATIENCE, |l| !enough(&l.text) && !l.ended)
            .expect("nobody panics while holding the lock");
        log.text.clone()
    }

    fn write_config(&self) -> PathBuf {
        fs::create_dir_all(self.data()).expect("a data directory");
        let mut text = format!(
            "tickTime=2000\nmaxSessionTimeout=600000\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n",
            self.data().display(),
            self.port
        );
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        let cfg = self.root.join("zoo.cfg");
        fs::write(&cfg, text).expect("a configuration");
        cfg
    }

    /// Starts the process and does not wait.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let cfg = self.write_config();
        let direct = [env!("CARGO_BIN_EXE_farrier").to_owned(), "server".to_owned(), cfg.display().to_string()];
        let mut words: Vec<String> = self.wrap.iter().map(|w| w.replace("{}", &direct.join(" "))).collect();
        if !self.wrap.iter().any(|w| w.contains("{}")) {
            words.extend(direct);
        }
        let mut command = Command::new(&words[0]);
        for name in ["SERVER_JVMFLAGS", "JVMFLAGS", "FARRIER_LOG", "FARRIER_SERVER"] {
            command.env_remove(name);
        }
        command.args(&words[1..]).current_dir(&self.root);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{} does not start: {e}", words[0]));
        let stderr = child.stderr.take().expect("it is piped");
        self.ear = Ear::default();
        let ear = self.ear.clone();
        self.listener = Some(std::thread::spawn(move || ear.listen(stderr)));
        self.child = Some(child);
    }

    /// Waits until it serves.
    pub(crate) fn wait_serving(&mut self) {
        let ear = self.ear.clone();
        let (log, _) = ear
            .0
            .1
            .wait_timeout_while(ear.lock(), PATIENCE, |l| !l.serving && !l.ended)
            .expect("nobody panics while holding the lock");
        assert!(log.serving, "the server does not serve:\n{}", log.text);
    }

    /// Starts the process and waits until it serves.
    pub(crate) fn start(&mut self) {
        self.spawn();
        self.wait_serving();
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if !self.wrap.is_empty()
            && let Some(pid) = self.server_pid()
        {
            // The wrapper's end may not be the end of what it wraps.
            let _ = kill_process(pid, Signal::KILL);
        }
        let Some(child) = &mut self.child else { return };
        child.kill().expect("a process of our own can be killed");
        self.reap();
    }

    fn reap(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it was started");
        let status = child.wait().expect("a process of our own can be waited for");
        if let Some(listener) = self.listener.take() {
            listener.join().expect("the listener does not panic");
        }
        status
    }

    /// Sends a signal to the server itself, wrapped or not.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.server_pid().expect("the server runs"), signal).expect("it takes the signal");
    }

    /// Waits for the end of the process.
    pub(crate) fn wait_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let child = self.child.as_mut().expect("it was started");
            if child.try_wait().expect("it can be asked").is_some() {
                return self.reap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let said = self.said();
        self.kill();
        panic!("the server does not end:\n{said}");
    }

    /// The process of the server itself below its wrapper.
    pub(crate) fn server_pid(&self) -> Option<Pid> {
        let mut pid = self.child.as_ref()?.id();
        loop {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            if comm.trim() == "farrier" {
                return Pid::from_raw(i32::try_from(pid).ok()?);
            }
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            pid = children.split_whitespace().next()?.parse().ok()?;
        }
    }

    /// Resident memory of the server in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let pid = self.server_pid().expect("the server runs").as_raw_nonzero();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process has a status");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("a status tells the memory");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number of KiB")
    }

    /// A client with a new session.
    pub(crate) fn client(&self) -> Client {
        Client::open(self.addr(), &Connect::default(), &Sessions::default()).expect("the server gives a session")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
        if std::thread::panicking() {
            tell(&format!("the server's last words:\n{}", self.said()));
        }
    }
}

/// A port below those that the system gives to outgoing connections, so that nobody takes it while the
/// server is down.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id() * 61;
    for _ in 0..1000 {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(11_000 + (start + step) % 12_000).expect("it is below 65536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}
