//! `farrier bench` with servers that it starts itself, of which the leader is killed.

mod support;

use farrier_testkit::ports::free_ports;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;
use support::PATIENCE;

/// Configurations of so many servers, each in a directory of its own, and what they need to be started.
struct Home {
    temp: tempfile::TempDir,
    server: String,
    starts: Vec<String>,
}

impl Home {
    fn new(count: usize) -> Self {
        let temp = tempfile::tempdir().expect("a directory");
        let ports = free_ports(3 * count).expect("ports");
        let members: Vec<&[u16]> = ports.chunks_exact(3).collect();
        let mut starts = Vec::new();
        for (number, member) in (1..).zip(&members) {
            let place = temp.path().join(number.to_string());
            let data = place.join("data");
            fs::create_dir_all(&data).expect("a directory");
            let mut text = format!(
                "tickTime=2000\ninitLimit=10\nsyncLimit=5\nadmin.enableServer=false\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\n",
                data.display(),
                member[0]
            );
            if count > 1 {
                fs::write(data.join("myid"), format!("{number}\n")).expect("a file");
                for (number, member) in (1..).zip(&members) {
                    text.push_str(&format!("server.{number}=127.0.0.1:{}:{}\n", member[1], member[2]));
                }
            }
            let cfg = place.join("zoo.cfg");
            fs::write(&cfg, text).expect("a file");
            starts.push(format!("{} server {}", env!("CARGO_BIN_EXE_farrier"), cfg.display()));
        }
        let server = members.iter().map(|ports| format!("127.0.0.1:{}", ports[0])).collect::<Vec<_>>().join(",");
        Self { temp, server, starts }
    }

    /// `farrier bench` on these servers, with what they say in a directory that can be looked into.
    fn bench(&self, words: &[&str]) -> Command {
        let said = self.said();
        fs::create_dir_all(&said).expect("a directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
        command.arg("bench").args(words).args(["--server", &self.server]).env("TMPDIR", said).stdin(Stdio::null());
        for name in ["SERVER_JVMFLAGS", "JVMFLAGS", "FARRIER_LOG", "FARRIER_AUTH"] {
            command.env_remove(name);
        }
        for start in &self.starts {
            command.args(["--start", start]);
        }
        command
    }

    fn said(&self) -> std::path::PathBuf {
        self.temp.path().join("said")
    }

    /// What was left of what the servers said.
    fn logs(&self) -> usize {
        fs::read_dir(self.said()).expect("a directory").count()
    }

    /// The processes whose command line names this directory.
    fn processes(&self) -> Vec<String> {
        let name = self.temp.path().display().to_string();
        let all = fs::read_dir("/proc").expect("/proc").filter_map(|entry| Some(entry.ok()?.path()));
        let pids =
            all.filter(|path| path.file_name().is_some_and(|n| n.as_encoded_bytes().iter().all(u8::is_ascii_digit)));
        let lines = pids.filter_map(|path: std::path::PathBuf| fs::read(Path::new(&path).join("cmdline")).ok());
        lines
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| line.contains(&name))
            .collect()
    }
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_leader_of_three_is_killed_and_nothing_stays_behind() {
    let home = Home::new(3);
    let words =
        ["failover", "set", "--kills", "1", "--json", "--seconds", "1", "--keys", "50", "-c", "3", "--size", "64"];
    let output = home.bench(&words).output().expect("farrier runs");
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let [failover, set] = &rows[..] else { panic!("{out}") };
    assert_eq!(failover["row"], "failover");
    assert_eq!((failover["count"].as_u64(), failover["verified"].as_bool()), (Some(1), Some(true)), "{failover}");
    assert_eq!(failover["size"].as_u64(), Some(64), "{failover}");
    for none in ["connections", "depth", "rate", "perSecond", "serverCpuUs", "serverRss"] {
        assert!(failover.get(none).is_some_and(Value::is_null), "{none}: {failover}");
    }
    let (p50, max) = (&failover["latencyUs"]["p50"], &failover["latencyUs"]["max"]);
    assert!(p50.as_u64().is_some_and(|us| us > 0 && Some(us) <= max.as_u64()), "{failover}");
    assert_eq!(set["verified"].as_bool(), Some(true), "the other rows have the servers too: {set}");
    assert_eq!(home.processes(), Vec::<String>::new());
    assert_eq!(home.logs(), 0, "{err}");
}

#[test]
fn a_server_alone_is_killed_and_comes_back() {
    let home = Home::new(1);
    let output = home.bench(&["failover", "--kills", "2"]).output().expect("farrier runs");
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    let row = out.lines().map(str::trim).find(|line| line.starts_with("failover")).expect("a row");
    assert!(row.contains(" - ") && row.ends_with("2 kills, every write is there"), "{row}");
    assert_eq!(home.processes(), Vec::<String>::new());
}

#[test]
fn a_command_that_fails_is_told_with_what_it_said() {
    let mut home = Home::new(3);
    home.starts[1] = "echo no such luck >&2; exit 7".to_owned();
    let output = home.bench(&["failover"]).output().expect("farrier runs");
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    for told in
        ["server 2 (`echo no such luck >&2; exit 7`) ended by itself, exit status: 7", "2.log", "\n  no such luck\n"]
    {
        assert!(err.contains(told), "{told}: {err}");
    }
    assert_eq!(home.processes(), Vec::<String>::new());
    assert_eq!(home.logs(), 1, "what they said stays: {err}");
}

#[test]
fn an_interrupt_ends_the_servers() {
    let home = Home::new(1);
    let command = home.bench(&["set", "--seconds", "600", "--keys", "50"]).stderr(Stdio::piped()).spawn();
    let child = command.expect("farrier runs");
    let deadline = Instant::now() + PATIENCE;
    let serves = || {
        Command::new(env!("CARGO_BIN_EXE_farrier"))
            .args(["ls", "/", "--timeout", "1", "--server", &home.server])
            .output()
            .is_ok_and(|output| text(&output).0.contains("farrier-bench"))
    };
    while !serves() {
        assert!(Instant::now() < deadline, "the row does not begin");
    }
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output).1.contains("interrupted"), "{output:?}");
    assert_eq!(home.processes(), Vec::<String>::new());
    assert_eq!(home.logs(), 0, "{output:?}");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_started() {
    let mut home = Home::new(2);
    let refused = |home: &Home, words: &[&str], code: i32, told: &str| {
        let output = home.bench(words).output().expect("farrier runs");
        let (out, err) = text(&output);
        assert!(output.status.code() == Some(code) && err.contains(told), "{words:?}: {out}{err}");
        assert_eq!(home.logs(), 0, "{err}");
    };
    refused(&home, &["failover", "--kills", "0"], 2, "1..=1000");
    refused(&home, &["failover", "--pid", "1"], 2, "--start");
    refused(&home, &["failover", "--start", "true"], 2, "--start is there 3 times and --server names 2");
    let port = home.server.rsplit_once(':').expect("a port").1.parse().expect("a port");
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is free");
    refused(&home, &["failover"], 1, &format!("something listens on 127.0.0.1:{port} already"));
    drop(other);
    home.starts.clear();
    refused(&home, &["get", "failover"], 2, "--start");
}
