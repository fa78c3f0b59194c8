//! etcd, and its own load generator, from the Go module proxy.
//!
//! It speaks gRPC, so what loads it is its project's tool `benchmark`, whose cost is told. Only rows that tool has an equal for
//! are measured.

use crate::servers::{Home, Process, START_MAX, VALUE_LEN, rest};
use anyhow::{Context as _, Result, bail, ensure};
use farrier_bench::process::cpu_times;
use farrier_testkit::apache::tools_dir;
use farrier_testkit::ports::free_ports;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The newest server, and the newest release of the module that has the load generator.
pub(super) const SERVER: &str = "v3.7.3";
pub(super) const BENCHMARK: &str = "v3.6.8";
/// How long a run of the load generator may take.
const RUN_MAX: Duration = Duration::from_secs(300);
/// Requests of the first run, which says how many fit into a window.
const PILOT: u32 = 3000;
/// The key that is read; as its tool is told, and as JSON has bytes.
const READ_KEY: &str = "measure";
const READ_KEY_BASE64: &str = "bWVhc3VyZQ==";
/// Longest answer of a member to a question of ours.
const ANSWER_MAX: u64 = 1 << 16;
const KEY_LEN: &str = "20";
/// Keys that one server's rows write; its mixed load reads all of the space, so three servers have one key.
const KEYS_OF_ONE: u32 = 10_000;
const KEYS_OF_THREE: u32 = 1;

/// Where the programs are.
#[derive(Clone, Debug)]
pub(super) struct Etcd {
    server: PathBuf,
    benchmark: PathBuf,
}

impl Etcd {
    /// Builds them unless they are here.
    pub(super) fn fetch() -> Result<Self> {
        let tools = tools_dir();
        let build = |name: &str, package: &str, version: &str| -> Result<PathBuf> {
            let dir = tools.join(format!("etcd-{name}-{version}"));
            let program = dir.join(name);
            if program.exists() {
                return fs::canonicalize(&program).context("an etcd program");
            }
            fs::create_dir_all(&dir)?;
            fs::write(dir.join("go.mod"), "module farrier.example/tools\n\ngo 1.23\n")?;
            let partial = dir.join("partial");
            go(&dir, &tools, &["get", &format!("{package}@{version}")])?;
            go(&dir, &tools, &["build", "-o", &partial.display().to_string(), package])?;
            fs::rename(&partial, &program)?;
            fs::canonicalize(&program).context("an etcd program")
        };
        Ok(Self {
            server: build("etcd", "go.etcd.io/etcd/server/v3", SERVER)?,
            benchmark: build("benchmark", "go.etcd.io/etcd/v3/tools/benchmark", BENCHMARK)?,
        })
    }
}

fn go(dir: &Path, tools: &Path, arguments: &[&str]) -> Result<()> {
    let tools = fs::canonicalize(tools)?;
    let status = Command::new("go")
        .args(arguments)
        .current_dir(dir)
        .env("GOMODCACHE", tools.join("go-mod"))
        .stdin(Stdio::null())
        .status()
        .context("running go")?;
    ensure!(status.success(), "go {} failed", arguments.join(" "));
    Ok(())
}

/// A row of etcd's own load generator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Load {
    /// Reads of one key, each agreed on by a quorum as its clients have it by default.
    Range,
    Put,
    /// Transactions of ten puts.
    Txn,
    /// Nine reads, one put.
    Mixed,
}

impl Load {
    fn arguments(self, keys: u32) -> Vec<String> {
        let words: Vec<&str> = match self {
            Self::Range => return vec!["range".to_owned(), READ_KEY.to_owned()],
            Self::Put => vec!["put"],
            Self::Txn => vec!["txn-put", "--txn-ops", "10"],
            Self::Mixed => vec!["txn-mixed", "measure", "--rw-ratio", "9", "--limit", "1"],
        };
        let keys = keys.to_string();
        let values = ["--key-size", KEY_LEN, "--val-size", "100", "--key-space-size", &keys];
        words.into_iter().chain(values).map(str::to_owned).collect()
    }

    /// Revisions that this output stands for.
    fn revisions(self, output: &str, total: u32) -> Result<u64> {
        match self {
            Self::Range => Ok(0),
            // A transaction is one revision, however much it writes.
            Self::Put | Self::Txn => Ok(u64::from(total)),
            Self::Mixed => {
                let found = output.lines().find_map(|line| line.trim().strip_prefix("Total Write Ops:"));
                found.context("the load generator names no writes")?.trim().parse().context("the number of writes")
            }
        }
    }
}

/// What a run showed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub(super) rate: f64,
    pub(super) cpu_us: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// CPUs of the load generator.
    pub(super) generator: f64,
}

/// One server, or three; killed hard when dropped.
#[derive(Debug)]
pub(super) struct Members {
    etcd: Etcd,
    home: Home,
    ports: Vec<u16>,
    processes: Vec<Process>,
}

impl Members {
    /// Starts so many members on empty directories; returns how long it took until they answered.
    pub(super) fn start(etcd: &Etcd, base: &Path, size: usize) -> Result<(Self, Duration)> {
        let ports = free_ports(2 * size)?;
        let home = Home::new(base, "etcd-")?;
        let (clients, peers) = ports.split_at(size);
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let all: Vec<String> = (1..).zip(peers).map(|(number, port)| format!("m{number}={}", url(*port))).collect();
        let mut members = Self { etcd: etcd.clone(), home, ports: clients.to_vec(), processes: Vec::new() };
        let begun = Instant::now();
        for (number, (client, peer)) in (1..).zip(clients.iter().zip(peers)) {
            let mut command = Command::new(&etcd.server);
            command
                .args(["--name", &format!("m{number}"), "--log-level", "error"])
                .arg("--data-dir")
                .arg(members.home.path().join(number.to_string()))
                .args(["--listen-client-urls", &url(*client), "--advertise-client-urls", &url(*client)])
                .args(["--listen-peer-urls", &url(*peer), "--initial-advertise-peer-urls", &url(*peer)])
                .args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
            members.processes.push(Process::spawn(command, &members.log())?);
        }
        for port in &members.ports {
            while revision(*port).is_err() {
                ensure!(begun.elapsed() < START_MAX, "etcd does not serve: {}", members.last_words());
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let took = begun.elapsed();
        Ok((members, took))
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("log")
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::id).collect()
    }

    fn keys(&self) -> u32 {
        if self.ports.len() > 1 { KEYS_OF_THREE } else { KEYS_OF_ONE }
    }

    /// Load for about `window`, with the rate that `last` showed, or a pilot's. Every member has every put afterwards.
    pub(super) fn run(
        &self,
        load: Load,
        conns: u32,
        depth: usize,
        window: Duration,
        last: Option<f64>,
    ) -> Result<Outcome> {
        if load == Load::Range && last.is_none() {
            // What is not there costs less to read.
            put_read_key(self.ports[0]).context("putting the key that is read")?;
        }
        let rate = match last {
            Some(rate) => rate,
            None => self.run_total(load, conns, depth, PILOT)?.rate,
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count below 2^32")]
        let total = (rate * window.as_secs_f64()).max(100.0) as u32;
        self.run_total(load, conns, depth, total)
    }

    fn run_total(&self, load: Load, conns: u32, depth: usize, total: u32) -> Result<Outcome> {
        rest()?;
        let before: Vec<u64> = self.ports.iter().map(|port| revision(*port)).collect::<Result<_>>()?;
        let mut endpoints: Vec<String> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        if conns == 1 {
            // One connection is the leader's, as it is for the others: a follower would add its own way there.
            endpoints = vec![format!("127.0.0.1:{}", self.leader()?)];
        }
        let mut command = Command::new(&self.etcd.benchmark);
        command
            .args(["--endpoints", &endpoints.join(","), "--conns", &conns.to_string()])
            .args(["--clients", &(u64::from(conns) * u64::try_from(depth)?).to_string()])
            .args(load.arguments(self.keys()))
            .args(["--total", &total.to_string()]);
        let output = self.home.path().join("benchmark.log");
        // One file for each run.
        let _ = fs::remove_file(&output);
        let cpu = (cpu_times(&self.pids())?, children_cpu()?);
        let begun = Instant::now();
        let status = Process::spawn(command, &output)?.wait(RUN_MAX).with_context(|| self.last_words())?;
        let elapsed = begun.elapsed().as_secs_f64();
        let cpu = (cpu_times(&self.pids())? - cpu.0, children_cpu()? - cpu.1);
        let text = fs::read_to_string(&output)?;
        ensure!(status.success() && !text.contains("Error distribution"), "etcd's load generator failed: {text}");
        let expected = load.revisions(&text, total)?;
        for (port, before) in self.ports.iter().zip(before) {
            let after = revision(*port)?;
            ensure!(
                after == before + expected,
                "etcd's member at port {port} has revision {after} after {expected} acknowledged writes on {before}"
            );
        }
        let (rate, p50_ms, p99_ms) = read(&text, total)?;
        Ok(Outcome {
            rate,
            p50_ms,
            p99_ms,
            cpu_us: cpu.0.as_secs_f64() * 1e6 / f64::from(total),
            generator: cpu.1.as_secs_f64() / elapsed,
        })
    }

    /// The port of the member that leads, once one does.
    fn leader(&self) -> Result<u16> {
        let begun = Instant::now();
        while begun.elapsed() < START_MAX {
            for port in &self.ports {
                if read_leads(&ask(*port, "maintenance/status", "{}")?)? {
                    return Ok(*port);
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("no member of etcd leads: {}", self.last_words())
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// CPU time of children that have ended.
fn children_cpu() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("/proc/self/stat has no name")?;
    let ticks: Vec<u64> = fields.split_ascii_whitespace().skip(13).take(2).map_while(|f| f.parse().ok()).collect();
    let [user, system] = ticks[..] else { bail!("/proc/self/stat is short") };
    Ok(Duration::from_millis((user + system) * 1000 / rustix::param::clock_ticks_per_second()))
}

/// Requests per second, and milliseconds at the median and the 99th percentile; of the reads, where there are both.
fn read(output: &str, total: u32) -> Result<(f64, f64, f64)> {
    let number = |line: Option<&str>, unit: &str| -> Result<f64> {
        let line = line.context("etcd's load generator left a figure out")?;
        line.trim().trim_end_matches(unit).trim().parse().with_context(|| format!("a figure in {line:?}"))
    };
    let find = |key: &str| output.lines().find_map(|line| line.trim().strip_prefix(key));
    // Reads and writes of a mixed load have a summary each, over the same time.
    let seconds = number(find("Total:"), "secs.")?;
    let at = |quantile: &str| number(find(quantile), "secs.").map(|seconds| seconds * 1e3);
    Ok((f64::from(total) / seconds, at("50% in ")?, at("99% in ")?))
}

/// A question to a member, by JSON.
fn ask(port: u16, what: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "POST /v3/{what} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

/// The newest revision that a member can serve, as a quorum has it.
fn revision(port: u16) -> Result<u64> {
    // The key is one zero byte, of which there is none.
    read_revision(&ask(port, "kv/range", r#"{"key":"AA==","limit":"1"}"#)?)
}

/// Puts the key that is read; its value has as many bytes as those of the others.
fn put_read_key(port: u16) -> Result<()> {
    let before = revision(port)?;
    let value = base64_of_vs(VALUE_LEN);
    let after = read_revision(&ask(port, "kv/put", &format!(r#"{{"key":"{READ_KEY_BASE64}","value":"{value}"}}"#))?)?;
    ensure!(after == before + 1, "etcd has revision {after} after one put on {before}");
    Ok(())
}

/// So many letters v in base64.
fn base64_of_vs(count: usize) -> String {
    let rest = ["", "dg==", "dnY="][count % 3];
    "dnZ2".repeat(count / 3) + rest
}

/// Whether the member that gave this status leads.
fn read_leads(answer: &str) -> Result<bool> {
    let status = read_body(answer)?;
    let leader = status["leader"].as_str().context("a status without a leader")?;
    Ok(status["header"]["member_id"].as_str() == Some(leader))
}

fn read_body(answer: &str) -> Result<serde_json::Value> {
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer of HTTP")?;
    ensure!(head.contains(" 200 "), "etcd answers {head:?}");
    serde_json::from_str(body.trim()).context("an answer that is no JSON")
}

fn read_revision(answer: &str) -> Result<u64> {
    let body = read_body(answer)?;
    body["header"]["revision"].as_str().context("no revision")?.parse().context("a revision")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = "bench with linearizable range\nTotal Read Ops: 4506\nDetails:\nSummary:\n  Total:\t2.5000 secs.\n  \
                         Slowest:\t0.7310 secs.\n  Requests/sec:\t326.3\n\nLatency distribution:\n  50% in 0.1442 secs.\n  99% in \
                         0.5854 secs.\n\nTotal Write Ops: 494\nDetails:\nSummary:\n  Total:\t2.5 secs.\n  50% in 0.0913 secs.\n";

    #[test]
    fn a_summary_is_read() {
        let (rate, p50, p99) = read(MIXED, 5000).unwrap();
        assert!((rate - 2000.0).abs() < 1e-6 && (p50 - 144.2).abs() < 1e-6 && (p99 - 585.4).abs() < 1e-6);
        assert_eq!(Load::Mixed.revisions(MIXED, 5000).unwrap(), 494);
        assert_eq!(Load::Put.revisions("", 5000).unwrap(), 5000);
        read("Summary:\n", 1).unwrap_err();
    }

    #[test]
    fn a_revision_is_read() {
        let answer = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"header\":{\"revision\":\"20495\"}}\n";
        assert_eq!(read_revision(answer).unwrap(), 20_495);
        read_revision("HTTP/1.0 503 Unavailable\r\n\r\n").unwrap_err();
    }

    #[test]
    fn a_member_leads_whose_id_is_the_leaders() {
        let status = |leader| {
            format!(
                "HTTP/1.0 200 OK\r\n\r\n{{\"header\":{{\"member_id\":\"8925027824743593106\"}},\"leader\":\"{leader}\"}}\n"
            )
        };
        assert!(read_leads(&status("8925027824743593106")).unwrap());
        assert!(!read_leads(&status("1")).unwrap());
        read_leads("HTTP/1.0 200 OK\r\n\r\n{}").unwrap_err();
    }

    #[test]
    fn a_value_is_as_long_as_it_is_told() {
        assert_eq!(
            (base64_of_vs(4), base64_of_vs(5), base64_of_vs(6)),
            ("dnZ2dg==".into(), "dnZ2dnY=".into(), "dnZ2dnZ2".into())
        );
    }
}
