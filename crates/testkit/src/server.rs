//! Launches a server, Farrier or Apache, from the same configuration: text of a `zoo.cfg` and `-D`
//! flags, on a free port of the loopback interface, with a directory of its own.

use crate::apache::Apache;
use crate::ports::free_ports;
use crate::raw::four_letter_word;
use anyhow::{Context as _, Result, bail, ensure};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take until it serves.
const START_MAX: Duration = Duration::from_secs(240);

/// What to launch.
#[derive(Clone, Debug)]
pub enum Target {
    /// Apache ZooKeeper on the machine's Java.
    Apache(Apache),
    /// Farrier's binary.
    Farrier(PathBuf),
}

impl Target {
    /// Farrier from `FARRIER_BIN`.
    pub fn farrier_from_env() -> Option<Self> {
        std::env::var_os("FARRIER_BIN").map(|path| Self::Farrier(PathBuf::from(path)))
    }

    /// Whether it is Farrier.
    #[must_use]
    pub const fn is_farrier(&self) -> bool {
        matches!(self, Self::Farrier(_))
    }

    /// Name with version, for headings.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Apache(a) => format!("Apache {}", a.version),
            Self::Farrier(_) => "Farrier".to_owned(),
        }
    }

    /// The command that runs a server on the configuration `cfg` with `-D` flags, written without the
    /// `-D`; `level` is the least level that Apache logs.
    #[must_use]
    pub fn command(&self, cfg: &Path, flags: &[String], level: &str) -> Command {
        let flags = flags.iter().map(|f| format!("-D{f}"));
        match self {
            Self::Apache(apache) => {
                let mut command = Command::new("java");
                command
                    .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"])
                    .arg(format!("-Dorg.slf4j.simpleLogger.defaultLogLevel={level}"))
                    .arg("-Dorg.slf4j.simpleLogger.showDateTime=true")
                    .args(flags)
                    .args(["-cp", &apache.class_path(), "org.apache.zookeeper.server.quorum.QuorumPeerMain"])
                    .arg(cfg);
                command
            }
            Self::Farrier(binary) => {
                let mut command = Command::new(binary);
                command
                    .arg("server")
                    .arg(cfg)
                    .env("SERVER_JVMFLAGS", flags.collect::<Vec<_>>().join(" "))
                    .env_remove("JVMFLAGS");
                command
            }
        }
    }
}

/// A server's configuration besides directory and port.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Lines of `zoo.cfg`.
    pub zoo: Vec<String>,
    /// `-D` flags without the `-D`.
    pub flags: Vec<String>,
}

/// A server that runs; killed hard when dropped.
#[derive(Debug)]
pub struct Server {
    target: Target,
    config: Config,
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// Starts a server on an empty directory and waits until it serves.
    pub fn start(target: &Target, config: &Config) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("farrier-test-").tempdir()?;
        Self::start_in(target, config, dir)
    }

    /// Starts a server on `data` below a directory that may hold one already.
    pub fn start_in(target: &Target, config: &Config, dir: tempfile::TempDir) -> Result<Self> {
        let port = free_ports(1)?[0];
        let mut server = Self { target: target.clone(), config: config.clone(), dir, port, child: None };
        server.spawn()?;
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), self.port)
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Everything that it wrote to its standard output and error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default()
    }

    /// Its process, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Kills the process hard, if it runs.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().context("killing the server")?;
            child.wait().context("waiting for the server's end")?;
        }
        Ok(())
    }

    /// Kills it hard and starts it again on the same data and port.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.spawn()
    }

    /// Kills it hard and starts another target on the same data and port.
    pub fn restart_as(&mut self, target: &Target) -> Result<()> {
        self.kill()?;
        self.target = target.clone();
        self.spawn()
    }

    fn spawn(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the server runs already");
        let root = self.dir.path();
        let data = self.data_dir();
        fs::create_dir_all(&data)?;
        let cfg = root.join("zoo.cfg");
        let mut text = format!(
            "tickTime=2000\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n",
            data.display(),
            self.port
        );
        for line in &self.config.zoo {
            text.push_str(line);
            text.push('\n');
        }
        fs::write(&cfg, text)?;
        let log = File::options().create(true).append(true).open(root.join("server.log"))?;
        let mut command = self.target.command(&cfg, &self.config.flags, "warn");
        command.current_dir(root).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {}", self.target.name()))?;
        self.child = Some(child);
        self.wait_until_it_serves()
    }

    fn wait_until_it_serves(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_MAX;
        let mut last = String::new();
        while Instant::now() < deadline {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                self.child = None;
                bail!("{} ended with {status} while starting:\n{}", self.target.name(), tail(&self.log()));
            }
            match four_letter_word(self.addr(), "srvr") {
                Ok(text) if text.contains("Mode:") => return Ok(()),
                Ok(text) => last = format!("srvr answered {text:?}"),
                Err(e) => last = format!("{e:#}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.kill()?;
        bail!("{} does not serve: {last}\n{}", self.target.name(), tail(&self.log()))
    }
}

/// The last lines of a server's log.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may be gone already; there is nobody to tell.
        let _ = self.kill();
    }
}
