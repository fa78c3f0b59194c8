//! The sockets between servers, on one thread of their own.
//!
//! Owns the election port and the learner channel: who is dialled and accepted, frames and streams, what
//! waits to be sent. It decides nothing about votes, packets or roles; what arrives goes to the replica, and
//! what the replica wants done comes through [`PeerOutbox`], in order.
//!
//! Packets are written to the links' sockets by whoever stepped the replica ([`Ports`]; workers put it off for a moment,
//! [`later`]), and here only where a socket has to be waited for. Everything else here runs on one current-thread runtime. Name look-ups and the two ends of a SNAP
//! stream have threads that may block.

pub(crate) mod address;
mod election;
pub(crate) mod later;
mod learner_channel;
mod link;
pub(crate) mod names;
mod own_ports;
mod ports;
mod scarce;
mod snap;

use crate::activation::Activations;
use crate::core::Core;
use crate::priority::Courtesy;
use address::{Endpoint, Route};
use election::Election;
use farrier_proto::ServerId;
use farrier_proto::membership::{HostPort, Member, MemberList, PeerAddress};
use farrier_proto::quorum::Notification;
use farrier_replica::Input;
use farrier_tree::TreeConfig;
use farrier_zab::LinkId;
use learner_channel::LearnerChannel;
pub(crate) use own_ports::BIND_RETRY;
use own_ports::OwnPorts;
pub(crate) use ports::{Port, Ports};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::{LocalSet, spawn_local};

/// Threads for look-ups of names and for snapshots on their way; more wait for their turn.
const BLOCKING_MAX: usize = 64;

/// Something to do with a peer's connection, besides sending on its link.
#[derive(Debug)]
pub(crate) enum PeerCommand {
    Notify {
        to: ServerId,
        notification: Notification,
    },
    Dial {
        leader: ServerId,
    },
    Pause {
        link: LinkId,
    },
    Resume {
        link: LinkId,
    },
    Close {
        link: LinkId,
        reason: String,
    },
    Activate {
        members: Box<MemberList>,
    },
    /// A configuration may come into force, or none any more.
    Pending {
        members: Option<Box<MemberList>>,
    },
}

/// What the replica wants done with its peers, in order, except for what leaves on links: that goes through [`Ports`].
/// Filled under the replica's lock, drained by the peers' thread.
#[derive(Debug, Default)]
pub(crate) struct PeerOutbox {
    waiting: Mutex<Vec<PeerCommand>>,
    notify: Notify,
}

impl PeerOutbox {
    /// Appends. Only under the replica's lock.
    pub(crate) fn push(&self, command: PeerCommand) {
        self.waiting.lock().expect("nothing panics while it holds this lock").push(command);
    }

    /// Tells the thread, of commands or of the server's end.
    pub(crate) fn wake(&self) {
        self.notify.notify_one();
    }

    /// Swaps what waits for an empty list.
    fn take(&self, into: &mut Vec<PeerCommand>) {
        debug_assert!(into.is_empty());
        std::mem::swap(&mut *self.waiting.lock().expect("nothing panics while it holds this lock"), into);
    }
}

#[cfg(test)]
impl PeerOutbox {
    /// What was put into it since.
    pub(crate) fn waiting_now(&self) -> Vec<PeerCommand> {
        let mut waiting = Vec::new();
        self.take(&mut waiting);
        waiting
    }
}

/// Where a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberAddresses {
    /// Ports of the learner channel.
    pub(crate) quorum: Vec<Endpoint>,
    /// Election ports.
    pub(crate) election: Vec<Endpoint>,
}

/// What the thread is told at its start.
#[derive(Clone, Debug)]
pub(crate) struct PeerSettings {
    /// This server.
    pub(crate) me: ServerId,
    /// All members, this one too; others once a reconfiguration is in force.
    pub(crate) members: RefCell<BTreeMap<ServerId, MemberAddresses>>,
    /// Those of a configuration that may come into force: their votes count, and one of them may lead.
    pub(crate) pending: RefCell<BTreeMap<ServerId, MemberAddresses>>,
    /// For the operator's files, which change with the members.
    pub(crate) activations: Arc<Activations>,
    /// Where a configuration in force lets clients of this server connect.
    pub(crate) client: Arc<watch::Sender<Option<HostPort>>>,
    /// How they are reached.
    pub(crate) route: Route,
    /// `multiAddress.enabled`: whoever is dialled on its election port is told all of our addresses.
    pub(crate) multi_address: bool,
    /// `quorumListenOnAllIPs`: its own ports are those of every address.
    pub(crate) listen_everywhere: bool,
    /// `electionPortBindRetry`: how often it tries again to listen; 0 is for ever.
    pub(crate) bind_retries: u32,
    /// `cnxTimeout`: to connect to an election port.
    pub(crate) connect_timeout: Duration,
    /// Within it the header of an election connection must arrive.
    pub(crate) header_timeout: Duration,
    /// To connect to a leader.
    pub(crate) dial_timeout: Duration,
    /// Within it a learner that dialled us must say its first word.
    pub(crate) first_packet_timeout: Duration,
    /// Longest data of a packet and longest field of a SNAP stream.
    pub(crate) field_max: usize,
    /// Of the tree that a SNAP stream fills.
    pub(crate) tree: TreeConfig,
    /// For its index.
    pub(crate) hash_seed: u64,
}

impl PeerSettings {
    /// Whether the configuration in force names this server, or the one that may come into force.
    fn is_member(&self, server: ServerId) -> bool {
        self.members.borrow().contains_key(&server) || self.pending.borrow().contains_key(&server)
    }

    /// Learner channel's addresses of a member.
    fn quorum_of(&self, server: ServerId) -> Vec<Endpoint> {
        self.known(server, |m| &m.quorum)
    }

    /// Election addresses of a member.
    fn election_of(&self, server: ServerId) -> Vec<Endpoint> {
        self.known(server, |m| &m.election)
    }

    /// Where the others are, in force and pending, by name.
    fn other_hosts(&self) -> BTreeSet<String> {
        let (members, pending) = (self.members.borrow(), self.pending.borrow());
        let others = members.iter().chain(&*pending).filter(|(id, _)| **id != self.me);
        others.flat_map(|(_, at)| at.quorum.iter().chain(&at.election)).map(|at| at.host.clone()).collect()
    }

    /// What is in force comes first, as for Apache's servers (`QuorumCnxManager.connectOne`); and this server itself is
    /// nowhere else.
    fn known(&self, server: ServerId, ports: fn(&MemberAddresses) -> &Vec<Endpoint>) -> Vec<Endpoint> {
        let mut known = self.members.borrow().get(&server).map(ports).cloned().unwrap_or_default();
        if server != self.me
            && let Some(pending) = self.pending.borrow().get(&server)
        {
            for endpoint in ports(pending) {
                if !known.contains(endpoint) {
                    known.push(endpoint.clone());
                }
            }
        }
        known
    }

    /// These may become the members.
    fn expect(&self, list: Option<Box<MemberList>>) {
        *self.pending.borrow_mut() = list.map(|list| all_addresses(&list)).unwrap_or_default();
    }

    /// These are the members from now on.
    fn activate(&self, list: Box<MemberList>) {
        let now = all_addresses(&list);
        let ids: Vec<_> = now.keys().map(|id| id.0).collect();
        tracing::info!("a reconfiguration is in force: the members are {ids:?} now, version {:x}", list.version);
        if let Some(client) = list.get(self.me).and_then(|own| own.client.clone()) {
            self.client.send_if_modified(|known| {
                let moves = known.as_ref() != Some(&client);
                *known = Some(client);
                moves
            });
        }
        *self.members.borrow_mut() = now;
        self.activations.put(list);
    }
}

#[cfg(test)]
impl PeerSettings {
    /// For tests: nothing takes long, and what does is patiently waited for.
    fn patient(me: ServerId, members: BTreeMap<ServerId, MemberAddresses>) -> Self {
        const PATIENCE: Duration = Duration::from_secs(60);
        Self {
            me,
            members: members.into(),
            pending: RefCell::default(),
            activations: Arc::default(),
            client: Arc::default(),
            route: Route { keep_alive: false, detours: Arc::default(), names: names::Names::new() },
            multi_address: false,
            listen_everywhere: false,
            bind_retries: 0,
            connect_timeout: PATIENCE,
            header_timeout: PATIENCE,
            dial_timeout: PATIENCE,
            first_packet_timeout: PATIENCE,
            field_max: 1 << 20,
            tree: TreeConfig::default(),
            hash_seed: 0,
        }
    }
}

fn all_addresses(list: &MemberList) -> BTreeMap<ServerId, MemberAddresses> {
    list.members.iter().map(|(id, member)| (ServerId(*id), addresses(member))).collect()
}

/// Where a member of a list is.
pub(crate) fn addresses(member: &Member) -> MemberAddresses {
    let at = |port: fn(&PeerAddress) -> u16| {
        member.addresses.iter().map(|a| Endpoint { host: a.host.clone(), port: port(a) }).collect()
    };
    MemberAddresses { quorum: at(|a| a.quorum_port), election: at(|a| a.election_port) }
}

/// The ports for peers, bound.
#[derive(Debug)]
pub(crate) struct PeerListeners {
    pub(crate) election: Vec<TcpListener>,
    pub(crate) quorum: Vec<TcpListener>,
}

/// Takes what happened on the sockets to the replica, and leaves the list empty.
type Report = Rc<dyn Fn(&mut Vec<Input<'static>>)>;

/// One input.
fn report_one(report: &Report, input: farrier_zab::Input) {
    report(&mut vec![Input::Zab(input)]);
}

/// Runs until the server closes.
pub(crate) fn run(core: &Arc<Core>, settings: PeerSettings, listeners: PeerListeners) {
    let courtesy = Courtesy::new();
    let feeder = core.feeder();
    let feeding = feeder.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_MAX)
        // Where processors are busy, more packets have come by then, and one wake-up is saved.
        .on_thread_park(move || {
            courtesy.others_first();
            feeder.sleeps();
        })
        .on_thread_unpark(move || feeding.wakes())
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            core.step(Input::WriteFailed { error: format!("the thread for peers cannot start: {error}") });
            return;
        }
    };
    let shared = core.clone();
    let report: Report = Rc::new(move |inputs| {
        shared.with(|session| {
            if inputs.len() > 1 {
                session.replica.foresee_inputs(inputs);
            }
            for input in inputs.drain(..) {
                session.step(input);
            }
        });
    });
    let settings = Rc::new(settings);
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let election = Rc::new(Election::new(settings.clone(), report.clone()));
        let channel = Rc::new(LearnerChannel::new(settings.clone(), report, core.ports().clone()));
        let known = settings.clone();
        spawn_local(async move { known.route.names.keep_known(|| known.other_hosts()).await });
        let own = OwnPorts::new(settings.clone(), election.clone(), channel.clone(), listeners);
        let mut commands = Vec::new();
        loop {
            core.peers().notify.notified().await;
            core.peers().take(&mut commands);
            for command in commands.drain(..) {
                execute(&settings, &election, &channel, &own, command);
            }
            if core.is_closing() {
                break;
            }
        }
        if !core.is_killed() {
            channel.close().await;
        }
    });
    drop(local);
    core.ports().clear();
    // A look-up of a name may hang for long; nobody waits for it any more.
    runtime.shutdown_background();
}

fn execute(
    settings: &PeerSettings,
    election: &Rc<Election>,
    channel: &Rc<LearnerChannel>,
    own: &Rc<OwnPorts>,
    command: PeerCommand,
) {
    match command {
        PeerCommand::Notify { to, notification } => election.send(to, &notification),
        PeerCommand::Dial { leader } => channel.dial(leader),
        PeerCommand::Pause { link } => channel.pause(link),
        PeerCommand::Resume { link } => channel.resume(link),
        PeerCommand::Activate { members } => {
            settings.activate(members);
            own.follow();
        }
        PeerCommand::Pending { members } => settings.expect(members),
        PeerCommand::Close { link, reason } => channel.close_link(link, &reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EnsembleConfig, ServerConfig};
    use crate::member::Membership;

    fn list(text: &str) -> Box<MemberList> {
        Box::new(MemberList::parse(text.as_bytes()).expect("a list"))
    }

    #[test]
    fn members_that_are_expected_are_known_behind_those_in_force() {
        let settings = PeerSettings::patient(ServerId(1), BTreeMap::new());
        let at = |server| -> Vec<_> { settings.quorum_of(ServerId(server)).iter().map(Endpoint::text).collect() };
        settings.activate(list("server.1=a:1:2\nserver.2=b:1:2\nversion=7"));
        settings.expect(Some(list("server.1=x:1:2\nserver.2=y:1:2\nserver.4=d:1:2\nversion=8")));
        assert_eq!((at(1), at(2), at(4)), (vec!["a:1".into()], vec!["b:1".into(), "y:1".into()], vec!["d:1".into()]));
        assert_eq!(settings.election_of(ServerId(4)), [Endpoint { host: "d".into(), port: 2 }]);
        assert!(settings.is_member(ServerId(4)));
        settings.expect(None);
        assert_eq!((at(2), at(4)), (vec!["b:1".into()], Vec::<String>::new()));
        assert!(!settings.is_member(ServerId(4)));
    }

    #[test]
    fn who_takes_connections_is_told_where_clients_may_connect() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("myid"), "1").expect("written");
        let list = |client: &str| {
            let text = format!("server.1=a:1:2{client}\nserver.2=b:1:2;c:5\nserver.3=c:1:2\nversion=7");
            Box::new(MemberList::parse(text.as_bytes()).expect("a list"))
        };
        let config = ServerConfig {
            ensemble: Some(EnsembleConfig::new(1, list("").members)),
            ..ServerConfig::standalone(dir.path(), "127.0.0.1:0".parse().expect("an address"))
        };
        let member = Membership::of(&config).expect("valid").expect("a member");
        let (client, mut told) = watch::channel(None);
        let settings = member.peers(&config, 7, Arc::default(), client);
        settings.activate(list(""));
        assert_eq!(*told.borrow(), None, "it stays where it is");
        settings.activate(list(";a:4"));
        let place = Some(HostPort { host: "a".into(), port: 4 });
        assert!(told.has_changed().expect("it is there"));
        assert_eq!(*told.borrow_and_update(), place);
        for same in [";a:4", ""] {
            settings.activate(list(same));
            assert!(!told.has_changed().expect("it is there"), "nothing to look up");
            assert_eq!(*told.borrow(), place, "and where it went");
        }
    }
}
