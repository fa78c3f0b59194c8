//! Where this server listens for the others: where it did when it started, and where a reconfiguration has it since.
//!
//! Places that are left are listened at until the server ends: members that have not heard of the new ones come there. The
//! others dial the new ones as soon as the configuration is in force, so that a server that could not be reached there
//! might win elections and never lead.

use super::address::{self, Endpoint};
use super::election::Election;
use super::learner_channel::LearnerChannel;
use super::{PeerListeners, PeerSettings};
use std::cell::RefCell;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Between two attempts to bind a port for peers.
pub(crate) const BIND_RETRY: Duration = Duration::from_secs(1);

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Election,
    Quorum,
}

/// The ports for peers that are open.
pub(super) struct OwnPorts {
    settings: Rc<PeerSettings>,
    election: Rc<Election>,
    channel: Rc<LearnerChannel>,
    /// Where it listens.
    places: RefCell<Vec<(Kind, SocketAddr)>>,
    /// Endpoints of configurations that those stand for.
    reached: RefCell<Vec<(Kind, Endpoint)>>,
    /// Attempts for the newest configuration.
    attempts: RefCell<JoinSet<()>>,
}

impl OwnPorts {
    /// Accepts on these from now on: what this server's line says at its start.
    pub(super) fn new(
        settings: Rc<PeerSettings>,
        election: Rc<Election>,
        channel: Rc<LearnerChannel>,
        listeners: PeerListeners,
    ) -> Rc<Self> {
        let reached = own(&settings).into();
        let (places, attempts) = (RefCell::default(), RefCell::default());
        let this = Self { settings, election, channel, places, reached, attempts };
        let PeerListeners { election, quorum } = listeners;
        election.into_iter().for_each(|listener| this.accept_on(Kind::Election, listener));
        quorum.into_iter().for_each(|listener| this.accept_on(Kind::Quorum, listener));
        Rc::new(this)
    }

    fn accept_on(&self, kind: Kind, listener: TcpListener) {
        self.places.borrow_mut().extend(listener.local_addr().map(|place| (kind, place)));
        match kind {
            Kind::Election => self.election.listen(listener),
            Kind::Quorum => self.channel.listen(listener),
        }
    }

    /// Listens also where the members in force have this server, however often that takes.
    pub(super) fn follow(self: &Rc<Self>) {
        let mut attempts = JoinSet::new();
        for (kind, endpoint) in own(&self.settings) {
            if !self.is_reached(kind, &endpoint) {
                let this = self.clone();
                attempts.spawn_local(async move { this.reach(kind, endpoint).await });
            }
        }
        // What an older configuration wanted is wanted no more.
        *self.attempts.borrow_mut() = attempts;
        self.name_addresses();
    }

    /// Tells the others where it is, once it can be dialled there.
    fn name_addresses(&self) {
        if self.settings.election_of(self.settings.me).iter().all(|own| self.is_reached(Kind::Election, own)) {
            self.election.name_addresses();
        }
    }

    fn is_reached(&self, kind: Kind, endpoint: &Endpoint) -> bool {
        self.reached.borrow().iter().any(|(k, e)| *k == kind && e == endpoint)
    }

    async fn reach(&self, kind: Kind, endpoint: Endpoint) {
        let mut attempts = 0;
        while let Err(error) = self.open(kind, &endpoint).await {
            attempts += 1;
            let text = endpoint.text();
            if self.settings.bind_retries > 0 && attempts > self.settings.bind_retries {
                tracing::error!(
                    "by a reconfiguration the other servers reach this one at {text}, and it cannot listen there: {error}. \
                     Free that address and start this server again, or correct its line by another reconfiguration"
                );
                return;
            }
            tracing::warn!("cannot listen on {text} for the other servers: {error}; trying again");
            tokio::time::sleep(BIND_RETRY).await;
        }
        tracing::info!("by a reconfiguration this server listens at {} for the other servers", endpoint.text());
        self.reached.borrow_mut().push((kind, endpoint));
        self.name_addresses();
    }

    /// Listens there, unless it does so already, perhaps by another name.
    async fn open(&self, kind: Kind, endpoint: &Endpoint) -> io::Result<()> {
        let found = if self.settings.listen_everywhere {
            vec![SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), endpoint.port)]
        } else {
            // Where it listens is what its name stands for now, and nothing that it stood for once.
            address::resolve(endpoint).await?
        };
        if found.iter().any(|wanted| self.is_open(kind, *wanted)) {
            return Ok(());
        }
        let listener = if self.settings.listen_everywhere {
            address::listen_everywhere(endpoint.port)
        } else {
            address::listen_at_first(&found, endpoint.port)
        };
        self.accept_on(kind, listener.map_err(|(_, error)| error)?);
        Ok(())
    }

    fn is_open(&self, kind: Kind, wanted: SocketAddr) -> bool {
        let places = self.places.borrow();
        let holds = |place: &SocketAddr| {
            place.port() == wanted.port() && (place.ip() == wanted.ip() || place.ip().is_unspecified())
        };
        places.iter().any(|(k, place)| *k == kind && holds(place))
    }
}

/// Where the members in force have this server.
fn own(settings: &PeerSettings) -> Vec<(Kind, Endpoint)> {
    let election = settings.election_of(settings.me).into_iter().map(|endpoint| (Kind::Election, endpoint));
    let quorum = settings.quorum_of(settings.me).into_iter().map(|endpoint| (Kind::Quorum, endpoint));
    election.chain(quorum).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{MemberAddresses, PeerCommand, Report, execute};
    use super::*;
    use farrier_proto::ServerId;
    use farrier_proto::membership::MemberList;
    use farrier_proto::quorum::ElectionHeader;
    use farrier_zab::Input;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpStream;
    use tokio::sync::mpsc;
    use tokio::task::LocalSet;

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    const ME: ServerId = ServerId(5);

    /// Server 5 with its two ports.
    struct Rig {
        settings: Rc<PeerSettings>,
        election: Rc<Election>,
        channel: Rc<LearnerChannel>,
        own: Rc<OwnPorts>,
        inputs: mpsc::UnboundedReceiver<Input>,
    }

    fn rig(election: TcpListener, quorum: TcpListener) -> Rig {
        let at = |listener: &TcpListener| vec![Endpoint { host: "127.0.0.1".into(), port: port(listener) }];
        let own = MemberAddresses { quorum: at(&quorum), election: at(&election) };
        let settings = Rc::new(PeerSettings::patient(ME, BTreeMap::from([(ME, own)])));
        let (sender, inputs) = mpsc::unbounded_channel();
        let report: Report = Rc::new(move |list| {
            for input in list.drain(..) {
                if let farrier_replica::Input::Zab(input) = input {
                    let _ = sender.send(input);
                }
            }
        });
        let listeners = PeerListeners { election: vec![election], quorum: vec![quorum] };
        let election = Rc::new(Election::new(settings.clone(), report.clone()));
        let channel = Rc::new(LearnerChannel::new(settings.clone(), report, Arc::default()));
        let own = OwnPorts::new(settings.clone(), election.clone(), channel.clone(), listeners);
        Rig { settings, election, channel, own, inputs }
    }

    impl Rig {
        /// Server 5 is there from now on, and server 9 elsewhere.
        fn move_to(&self, host: &str, quorum: u16, election: u16) {
            let text = format!("server.5={host}:{quorum}:{election}\nserver.9=127.0.0.1:1:2\nversion=7");
            let members = Box::new(MemberList::parse(text.as_bytes()).expect("a list"));
            execute(&self.settings, &self.election, &self.channel, &self.own, PeerCommand::Activate { members });
        }

        async fn input(&mut self) -> Input {
            tokio::time::timeout(PATIENCE, self.inputs.recv()).await.expect("in time").expect("the rig reports")
        }
    }

    fn port(listener: &TcpListener) -> u16 {
        listener.local_addr().expect("it is bound").port()
    }

    fn some_port() -> TcpListener {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        listener
    }

    /// A connection to it, once there is somebody.
    async fn reached(port: u16) -> TcpStream {
        let connected = async {
            loop {
                match TcpStream::connect(("127.0.0.1", port)).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, connected).await.expect("in time")
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn it_listens_where_a_reconfiguration_has_it_and_where_it_did() {
        run(async {
            let (election, quorum) = (some_port(), some_port());
            let before = (port(&quorum), port(&election));
            let mut rig = rig(election, quorum);
            let (quorum, election) = (some_port(), some_port());
            let now = (port(&quorum), port(&election));
            // One of them is somebody else's for a while.
            drop(election);
            rig.move_to("127.0.0.1", now.0, now.1);
            for election in [now.1, before.1] {
                let mut header = Vec::new();
                ElectionHeader::write(ServerId(9), "127.0.0.1", 1, &mut header);
                reached(election).await.write_all(&header).await.expect("it reads");
                loop {
                    if rig.input().await == (Input::ElectionUp { peer: ServerId(9) }) {
                        break;
                    }
                }
            }
            drop(quorum);
            for port in [now.0, before.0] {
                reached(port).await;
            }
            let mut told = Vec::new();
            ElectionHeader::write(ME, "127.0.0.1", now.1, &mut told);
            assert_eq!(rig.election.header(), told, "and tells where it is");
        });
    }

    #[test]
    fn members_without_it_leave_it_what_it_tells() {
        run(async {
            let rig = rig(some_port(), some_port());
            let told = rig.election.header();
            assert!(!told.is_empty());
            for own in ["", &format!("server.5={}:1:2\n", "x".repeat(3000))] {
                let members = MemberList::parse(format!("{own}server.9=127.0.0.1:1:2\nversion=7").as_bytes());
                let members = Box::new(members.expect("a list"));
                execute(&rig.settings, &rig.election, &rig.channel, &rig.own, PeerCommand::Activate { members });
                rig.election.name_addresses();
                assert_eq!(rig.election.header(), told);
            }
        });
    }

    #[test]
    fn another_name_of_the_same_place_is_not_taken_twice() {
        run(async {
            let (election, quorum) = (some_port(), some_port());
            let ports = (port(&quorum), port(&election));
            let rig = rig(election, quorum);
            rig.move_to("localhost", ports.0, ports.1);
            let done = async {
                while rig.own.reached.borrow().len() < 4 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(PATIENCE, done).await.expect("in time");
            assert_eq!(rig.own.places.borrow().len(), 2);
        });
    }
}
