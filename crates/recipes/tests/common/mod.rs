//! Three servers in processes of their own, Farrier's or, with `FARRIER_RECIPES_AGAINST=apache`, Apache's: killed, paused
//! and started again under the recipes, with relays in front of them that can be cut.

#![allow(dead_code, reason = "every test binary compiles this module and none needs all of it")]

use farrier_client::{Client, ClientBuilder, SessionState};
use farrier_testkit::apache::Apache;
use farrier_testkit::ensemble::{Members, Settings};
use farrier_testkit::raw::four_letter_word;
use farrier_testkit::relay::Relay;
use farrier_testkit::server::Target;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::spawn_blocking;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A session that outlives whatever a test does to servers.
pub(crate) const LONG: Duration = Duration::from_secs(40);

/// A session that a test waits to see the end of.
pub(crate) const SHORT: Duration = Duration::from_secs(4);

/// How many servers there are.
pub(crate) const SERVERS: usize = 3;

/// The answer of `future`, which must come.
pub(crate) async fn patiently<T>(what: &str, future: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: nothing within {PATIENCE:?}"))
}

/// Waits until `holds` does.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let look = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently(what, look).await;
}

/// Waits until the session is as `wanted` says.
pub(crate) async fn reached(client: &Client, what: &str, wanted: impl FnMut(&SessionState) -> bool) {
    let mut state = client.session();
    patiently(what, state.wait_for(wanted)).await.expect("the client lives");
}

/// A builder whose calls take as long as they take.
pub(crate) fn patient(connect: &str) -> ClientBuilder {
    Client::builder(connect).session_timeout(LONG).connect_timeout(PATIENCE).request_timeout(PATIENCE)
}

/// A client for which the servers may go away for a while.
pub(crate) async fn client(connect: &str) -> Client {
    patient(connect).connect().await.expect("a session")
}

/// The children of a path, as they are now.
pub(crate) async fn contenders(client: &Client, path: &str) -> Vec<String> {
    client.sync(path).await.expect("synced");
    match client.list(path).await {
        Ok(names) => names,
        Err(error) if error.is_no_node() => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

/// How many there are.
pub(crate) async fn count(client: &Client, path: &str) -> usize {
    contenders(client, path).await.len()
}

/// Three servers; killed hard when dropped.
#[derive(Clone)]
pub(crate) struct Ensemble {
    members: Arc<Mutex<Members>>,
    connect: String,
}

impl Ensemble {
    pub(crate) async fn start() -> Self {
        let members = spawn_blocking(|| {
            let zoo = ["syncLimit=60", "minSessionTimeout=1000", "snapCount=100000"];
            let mut settings = Settings { tick_ms: 500, ..Settings::default() };
            settings.zoo.extend(zoo.map(str::to_owned));
            // Containers go soon, under whoever is about to come.
            settings.flags.push("znode.container.checkIntervalMs=300".to_owned());
            let target = target();
            Members::start(&[(target.clone(), false), (target.clone(), false), (target, false)], settings)
        });
        let members = members.await.expect("it does not panic").unwrap_or_else(|error| panic!("servers: {error:#}"));
        let connect: Vec<String> = members.addrs().iter().map(ToString::to_string).collect();
        Self { members: Arc::new(Mutex::new(members)), connect: connect.join(",") }
    }

    /// The connect string of all servers, running or not.
    pub(crate) fn connect(&self) -> &str {
        &self.connect
    }

    /// A relay in front of one server.
    pub(crate) async fn relay(&self, server: usize) -> Relay {
        let address = self.members.lock().expect("nobody panicked").addr(server);
        Relay::to(address).await
    }

    async fn with<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(&mut Members) -> anyhow::Result<T> + Send + 'static,
    ) -> T {
        let members = Arc::clone(&self.members);
        let done = spawn_blocking(move || work(&mut members.lock().expect("nobody panicked"))).await;
        done.expect("it does not panic").unwrap_or_else(|error| panic!("{what}: {error:#}"))
    }

    /// The paths that are watched for data, once for each session that watches, on all servers.
    pub(crate) async fn watched(&self) -> Vec<String> {
        self.with("wchp", |members| {
            let mut watched = Vec::new();
            for address in members.addrs() {
                let answer = four_letter_word(address, "wchp")?;
                let mut path = "";
                for line in answer.lines() {
                    if line.starts_with('/') {
                        path = line;
                    } else if line.trim().starts_with("0x") {
                        watched.push(path.to_owned());
                    }
                }
            }
            Ok(watched)
        })
        .await
    }

    /// Kills a server hard.
    pub(crate) async fn kill(&self, server: usize) {
        self.with("kill", move |members| members.kill(server)).await;
    }

    /// Starts a server that was killed, and waits until all that were started serve.
    pub(crate) async fn start_again(&self, server: usize) {
        self.with("start", move |members| {
            members.spawn(server)?;
            members.wait_serving().map(|_| ())
        })
        .await;
    }

    /// The server that leads.
    pub(crate) async fn leader(&self) -> usize {
        self.with("leader", Members::wait_serving).await
    }

    /// Kills the leader hard, waits for another one, and starts the killed one again.
    pub(crate) async fn replace_leader(&self) {
        let leader = self.leader().await;
        self.kill(leader).await;
        self.leader().await;
        self.start_again(leader).await;
    }
}

/// What runs as servers.
fn target() -> Target {
    match std::env::var("FARRIER_RECIPES_AGAINST").as_deref() {
        Ok("apache") => Target::Apache(Apache::newest().unwrap_or_else(|error| panic!("Apache: {error:#}"))),
        Ok("farrier") | Err(_) => Target::Farrier(farrier()),
        Ok(other) => panic!("FARRIER_RECIPES_AGAINST={other}: it is `farrier` or `apache`"),
    }
}

/// The binary: the one that is named, or that of the build that this test is part of. A build of the workspace makes it
/// before any test runs; a build of this package alone doesn't, so it may have to be made now.
pub(crate) fn farrier() -> PathBuf {
    if let Some(named) = std::env::var_os("FARRIER_BIN") {
        return PathBuf::from(named);
    }
    let test = std::env::current_exe().expect("a test has a path");
    let built = test.parent().and_then(Path::parent).expect("tests lie in target/debug/deps").join("farrier");
    if !built.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo).args(["build", "--quiet", "--package", "farrier-cli"]).status();
        assert!(status.is_ok_and(|s| s.success()), "farrier does not build");
    }
    built
}
