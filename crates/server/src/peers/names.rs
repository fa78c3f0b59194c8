//! What the names of peers stand for, and what they stood for last.
//!
//! An ensemble outlives its name servers: where a name does not resolve, its last known addresses are dialled, as Apache's
//! servers do (`MultipleAddresses.recreateSocketAddress`). A look-up cannot be ended, only left alone; so whoever comes
//! while one goes on waits for the same.

use super::address::{self, Endpoint, RESOLVE_MAX};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Longest wait for a name server where there are addresses to go on with. What is found later serves whoever dials then.
const KNOWN_WAIT: Duration = Duration::from_secs(1);

/// The same where this wait was in vain before, and nothing was found since.
const LOST_WAIT: Duration = Duration::from_millis(50);

/// Between two rounds of look-ups ahead of need.
const REFRESH: Duration = Duration::from_secs(60);

/// Names whose addresses are remembered: those of the configurations of a server's life. The one that was asked for longest
/// ago goes first.
const NAMES_MAX: usize = 256;

/// Look-ups for the configuration's names at a time. Each has a thread; the two ends of SNAP need some too.
const LOOKUPS_MAX: usize = 24;

/// Look-ups at a time for names that somebody told.
const TOLD_LOOKUPS_MAX: usize = 8;

const _: () = assert!(LOOKUPS_MAX + TOLD_LOOKUPS_MAX <= super::BLOCKING_MAX / 2);

/// Between two warnings about one name, if it comes and goes.
const WARN_PAUSE: Duration = Duration::from_secs(60);

/// Addresses of a name, with port 0; or what went wrong, for all who wait.
type Answer = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

/// Asks the system; may take long.
type Resolver = fn(&str) -> io::Result<Vec<SocketAddr>>;

/// The names of peers.
#[derive(Debug)]
pub(crate) struct Names {
    resolver: Resolver,
    /// Whether addresses are remembered. Those of names that somebody told are not: anybody could fill the memory with them.
    remembers: bool,
    lookups_max: usize,
    known: Mutex<BTreeMap<String, Name>>,
}

/// What is known of a name.
#[derive(Debug, Default)]
struct Name {
    /// What it stood for last; empty if it never resolved.
    last: Vec<SocketAddr>,
    /// The look-up that goes on.
    lookup: Option<watch::Receiver<Option<Answer>>>,
    /// When it was asked for last.
    used: Option<Instant>,
    /// The operator was told that it does not resolve.
    lost: bool,
    warned: Option<Instant>,
}

impl Name {
    fn is_asked(&self) -> bool {
        // Without a sender its thread is gone, and says nothing any more.
        self.lookup.as_ref().is_some_and(|answer| answer.has_changed().is_ok())
    }
}

impl Names {
    /// For the names of configurations.
    pub(crate) fn new() -> Arc<Self> {
        Self::with(ask_system, true, LOOKUPS_MAX)
    }

    /// For names that somebody told.
    pub(crate) fn told() -> Arc<Self> {
        Self::with(ask_system, false, TOLD_LOOKUPS_MAX)
    }

    pub(super) fn with(resolver: Resolver, remembers: bool, lookups_max: usize) -> Arc<Self> {
        Arc::new(Self { resolver, remembers, lookups_max, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Name>> {
        self.known.lock().expect("nothing panics while it holds this lock")
    }

    /// What `endpoint` stands for, or stood for last.
    pub(super) async fn resolve(self: &Arc<Self>, endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
        let host = endpoint.host.as_str();
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, endpoint.port)]);
        }
        let (answer, last) = self.ask(host);
        let patience = match (last.is_empty(), self.is_lost(host)) {
            (true, _) => RESOLVE_MAX,
            (false, false) => KNOWN_WAIT,
            (false, true) => LOST_WAIT,
        };
        let found = match answer {
            Some(answer) => wait(answer, patience).await,
            None => Err(io::Error::new(io::ErrorKind::TimedOut, "too many look-ups of other names have no answer yet")),
        };
        let mut found = match found {
            Err(error) if !last.is_empty() => {
                self.tell_lost(host, &last, &error);
                last
            }
            found => found?,
        };
        found.iter_mut().for_each(|address| address.set_port(endpoint.port));
        Ok(found)
    }

    fn is_lost(&self, host: &str) -> bool {
        self.known().get(host).is_some_and(|name| name.lost)
    }

    /// Looks these names up ahead of need, one after the other, and again and again: whoever is always dialled by a peer
    /// would otherwise not know where it is on the day on which it leads.
    pub(super) async fn keep_known(self: &Arc<Self>, hosts: impl Fn() -> BTreeSet<String>) {
        loop {
            for host in hosts() {
                if host.parse::<IpAddr>().is_err()
                    && let (Some(answer), _) = self.ask(&host)
                {
                    // What comes of it is remembered; whoever dials tells of what fails.
                    let _ = wait(answer, RESOLVE_MAX).await;
                }
            }
            tokio::time::sleep(REFRESH).await;
        }
    }

    /// The look-up of a name that goes on, or begins now if there are not too many; and what it stood for last.
    fn ask(self: &Arc<Self>, host: &str) -> (Option<watch::Receiver<Option<Answer>>>, Vec<SocketAddr>) {
        let mut known = self.known();
        let lookups = known.values().filter(|name| name.is_asked()).count();
        if !known.contains_key(host) {
            if lookups >= self.lookups_max {
                return (None, Vec::new());
            }
            make_room(&mut known);
        }
        let name = known.entry(host.to_owned()).or_default();
        name.used = Some(Instant::now());
        if !name.is_asked() {
            if lookups >= self.lookups_max {
                return (None, name.last.clone());
            }
            let (sender, answer) = watch::channel(None);
            name.lookup = Some(answer);
            let (names, host) = (self.clone(), host.to_owned());
            tokio::task::spawn_blocking(move || {
                let found = (names.resolver)(&host).map_err(|error| (error.kind(), error.to_string()));
                names.answered(&host, &found);
                sender.send_replace(Some(found));
            });
        }
        (name.lookup.clone(), name.last.clone())
    }

    /// A look-up is over, whether or not anybody waits for it still.
    fn answered(&self, host: &str, found: &Answer) {
        let mut known = self.known();
        let Some(name) = known.get_mut(host) else { return };
        name.lookup = None;
        match found {
            Ok(found) if self.remembers => {
                name.last.clone_from(found);
                if std::mem::take(&mut name.lost) {
                    tracing::info!("the name {host} resolves again");
                }
            }
            // There is nothing to remember.
            _ if name.last.is_empty() => drop(known.remove(host)),
            _ => {}
        }
    }

    /// Tells the operator, once for as long as a name does not resolve.
    fn tell_lost(&self, host: &str, last: &[SocketAddr], error: &io::Error) {
        let mut known = self.known();
        let Some(name) = known.get_mut(host) else { return };
        let now = Instant::now();
        if name.lost || name.warned.is_some_and(|warned| now.duration_since(warned) < WARN_PAUSE) {
            return;
        }
        (name.lost, name.warned) = (true, Some(now));
        let last: Vec<_> = last.iter().map(SocketAddr::ip).collect();
        tracing::warn!(
            "the name {host} of a peer does not resolve: {error}. Its last known addresses {last:?} are used until it does; \
             without name servers this server will not find it behind a restart"
        );
    }
}

/// One more name fits in.
fn make_room(known: &mut BTreeMap<String, Name>) {
    if known.len() >= NAMES_MAX {
        let idle = known.iter().filter(|(_, name)| !name.is_asked());
        let oldest = idle.min_by_key(|(_, name)| name.used).map(|(host, _)| host.clone());
        oldest.map(|host| known.remove(&host));
    }
}

fn ask_system(host: &str) -> io::Result<Vec<SocketAddr>> {
    address::resolve_now(&Endpoint { host: host.to_owned(), port: 0 })
}

async fn wait(mut answer: watch::Receiver<Option<Answer>>, patience: Duration) -> io::Result<Vec<SocketAddr>> {
    let over = answer.wait_for(Option::is_some);
    match tokio::time::timeout(patience, over).await {
        Ok(Ok(answer)) => {
            answer.clone().unwrap_or_else(given_up).map_err(|(kind, message)| io::Error::new(kind, message))
        }
        Ok(Err(_)) => given_up().map_err(|(kind, message)| io::Error::new(kind, message)),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the name servers do not answer")),
    }
}

fn given_up() -> Answer {
    Err((io::ErrorKind::Other, "the look-up of the name was given up".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test);
        runtime.shutdown_background();
    }

    fn at(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.into(), port }
    }

    fn address(last: u8, port: u16) -> SocketAddr {
        SocketAddr::new([10, 0, 0, last].into(), port)
    }

    fn nothing() -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::new(io::ErrorKind::NotFound, "no such name"))
    }

    #[test]
    fn what_a_name_stood_for_last_is_used_while_it_does_not_resolve() {
        static NOW: AtomicUsize = AtomicUsize::new(1);
        fn resolver(host: &str) -> io::Result<Vec<SocketAddr>> {
            match NOW.load(Ordering::SeqCst) {
                now @ 1..=9 if host != "never" => Ok(vec![address(now as u8, 0)]),
                _ => nothing(),
            }
        }
        run(async {
            let names = Names::with(resolver, true, 4);
            assert_eq!(names.resolve(&at("a", 7)).await.expect("it resolves"), [address(1, 7)]);
            NOW.store(0, Ordering::SeqCst);
            for port in [7, 8] {
                assert_eq!(names.resolve(&at("a", port)).await.expect("it is remembered"), [address(1, port)]);
            }
            let lost = || names.known().get("a").map(|name| name.lost);
            assert_eq!(lost(), Some(true), "the operator knows");
            names.resolve(&at("b", 7)).await.expect_err("it never resolved");
            NOW.store(2, Ordering::SeqCst);
            assert_eq!(names.resolve(&at("a", 7)).await.expect("it resolves again"), [address(2, 7)]);
            assert_eq!(lost(), Some(false));
            names.resolve(&at("never", 7)).await.expect_err("it does not resolve");
            assert_eq!(names.known().keys().collect::<Vec<_>>(), ["a"], "of the others there is nothing to remember");
            assert_eq!(
                names.resolve(&at("::1", 7)).await.expect("an address"),
                ["[::1]:7".parse().expect("an address")]
            );
        });
    }

    #[test]
    fn a_name_server_that_does_not_answer_is_asked_once_for_a_name() {
        static SILENT: AtomicBool = AtomicBool::new(false);
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        fn resolver(_host: &str) -> io::Result<Vec<SocketAddr>> {
            ASKED.fetch_add(1, Ordering::SeqCst);
            while SILENT.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(vec![address(1, 0)])
        }
        run(async {
            let names = Names::with(resolver, true, 2);
            names.resolve(&at("a", 7)).await.expect("it resolves");
            SILENT.store(true, Ordering::SeqCst);
            for port in [1, 2] {
                assert_eq!(names.resolve(&at("a", port)).await.expect("it is remembered"), [address(1, port)]);
            }
            assert_eq!(ASKED.load(Ordering::SeqCst), 2);
            // One more may wait beside it; the next is refused at once.
            assert!(names.ask("b").0.is_some());
            let error = names.resolve(&at("c", 7)).await.expect_err("too many");
            assert!(error.to_string().contains("too many look-ups"), "{error}");
            assert!(names.ask("a").0.is_some(), "the same");
            SILENT.store(false, Ordering::SeqCst);
            assert_eq!(names.resolve(&at("b", 7)).await.expect("the same look-up"), [address(1, 7)]);
            assert_eq!(ASKED.load(Ordering::SeqCst), 3);
        });
    }

    #[test]
    fn names_are_few_and_those_that_somebody_told_are_not_remembered() {
        fn resolver(host: &str) -> io::Result<Vec<SocketAddr>> {
            if host.starts_with('x') { nothing() } else { Ok(vec![address(1, 0)]) }
        }
        run(async {
            let (names, told) = (Names::with(resolver, true, 2), Names::with(resolver, false, 2));
            for i in 0..NAMES_MAX + 3 {
                for host in [format!("a{i}"), format!("x{i}")] {
                    let found = names.resolve(&at(&host, 7)).await.is_ok();
                    assert_eq!(told.resolve(&at(&host, 7)).await.is_ok(), found);
                }
            }
            assert!(told.known().is_empty());
            let known = names.known();
            assert_eq!((known.len() <= NAMES_MAX, known.contains_key("a0")), (true, false));
            assert!(known.contains_key(&format!("a{}", NAMES_MAX + 2)), "the newest");
        });
    }

    #[test]
    fn names_of_members_are_known_before_anybody_dials_them() {
        static UP: AtomicBool = AtomicBool::new(true);
        fn resolver(_host: &str) -> io::Result<Vec<SocketAddr>> {
            if UP.load(Ordering::SeqCst) { Ok(vec![address(1, 0)]) } else { nothing() }
        }
        run(async {
            let names = Names::with(resolver, true, 2);
            let hosts = || ["a", "b", "127.0.0.1"].into_iter().map(str::to_owned).collect();
            let known = async {
                while names.known().values().filter(|name| !name.last.is_empty()).count() < 2 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                () = names.keep_known(hosts) => {}
                () = known => {}
            }
            UP.store(false, Ordering::SeqCst);
            assert_eq!(names.resolve(&at("b", 7)).await.expect("it is remembered"), [address(1, 7)]);
        });
    }
}
