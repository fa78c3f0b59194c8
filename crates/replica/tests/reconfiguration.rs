//! What a server holds for pending of the members' configurations, as it follows from the states that it has.

use bytes::Bytes;
use farrier_proto::membership::MemberList;
use farrier_proto::quorum::{
    ElectionRound, LEARNER_PROTOCOL_VERSION, LeaderPacket, LearnerPacket, Notification, ServerState, Vote,
};
use farrier_proto::stat::StatPersisted;
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId, Zxid};
use farrier_replica::{Action, Actions, Input, Replica, ReplicaConfig, Time, TreeRestore, WriteId};
use farrier_storage::{NodeRecord, Restore as _};
use farrier_zab::{Config, Durable, Ensemble, Input as Zab, LinkId, LinkKind, Recovering};
use std::collections::BTreeSet;

const LEADER: ServerId = ServerId(3);
const LINK: LinkId = LinkId(7);
const OLD: &str = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nversion=0";
/// Logged as 1:5, in which servers 4 and 5 take the places of 1 and 2.
const NEW: &str = "server.3=c:1:2\nserver.4=d:1:2\nserver.5=e:1:2\nversion=100000005";

fn ensemble(text: &str) -> Ensemble {
    Ensemble::of(&MemberList::parse(text.as_bytes()).expect("a list")).expect("members")
}

/// A state whose `/zookeeper/config` has this text.
fn state(text: &str) -> TreeRestore {
    let config = ReplicaConfig::default();
    let mut state = TreeRestore::new(config.tree, config.seed);
    state.acl(1, vec![farrier_proto::Acl::world(31)]).expect("a list");
    for path in ["", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"] {
        let shown = path.ends_with("config");
        let version = i64::try_from(MemberList::version_of(text.as_bytes())).expect("a zxid");
        let stat = StatPersisted { mzxid: Zxid::from_wire(if shown { version } else { 0 }), ..StatPersisted::ZERO };
        let data = Some(if shown { text.as_bytes() } else { b"" });
        state.node(NodeRecord { path, data, acl: 1, stat }).expect("a znode");
    }
    state
}

struct Run {
    replica: Replica,
    now: Time,
}

impl Run {
    /// Server 1 starts with a state that ends with 1:5.
    fn start(shows: &str) -> (Self, Vec<Action>) {
        let zab = Config { reconfig: true, ..Config::new(ServerId(1)) };
        let config = ReplicaConfig {
            reconfig_enabled: true,
            config_node: Some((OLD.as_bytes().to_vec(), 0)),
            ..ReplicaConfig::default()
        };
        let durable = Durable {
            accepted: AcceptedEpoch(1),
            current: CurrentEpoch(1),
            last_logged: Zxid::new(1, 5),
            recovering: Recovering::No,
        };
        let mut restored = state(shows);
        restored.loaded(Zxid::new(1, 5), None).expect("a tree");
        let now = Time { mono: 1000, wall: 0 };
        let replica = Replica::ensemble(config, zab, ensemble(OLD), durable, restored, 0, now);
        let mut run = Self { replica, now };
        let out = run.step(Input::TimerFired);
        (run, out)
    }

    fn step(&mut self, input: Input<'_>) -> Vec<Action> {
        let mut out = Actions::default();
        self.replica.step(self.now, input, &mut out);
        out.list
    }

    fn says(&mut self, packet: LeaderPacket) -> Vec<Action> {
        self.step(Input::Zab(Zab::LeaderPacket { link: LINK, packet }))
    }

    /// The last write that was asked for.
    fn write(out: &[Action]) -> WriteId {
        let id = |a: &Action| match a {
            Action::SaveAcceptedEpoch { id, .. }
            | Action::SaveCurrentEpoch { id, .. }
            | Action::SavePending { id, .. }
            | Action::Truncate { id, .. }
            | Action::InstallSnapshot { id, .. } => Some(*id),
            _ => None,
        };
        out.iter().filter_map(id).next_back().expect("a write")
    }

    fn durable(&mut self, out: &[Action]) -> Vec<Action> {
        self.step(Input::Durable { id: Self::write(out) })
    }

    /// It follows server 3 and gets a state that ends with 2:0 and shows this.
    fn snapshot(&mut self, shows: &str) {
        self.promise();
        self.step(Input::SnapReceived { link: LINK, zxid: Zxid::new(2, 0), state: Box::new(state(shows)) });
    }

    /// It follows server 3, and promises epoch 2.
    fn promise(&mut self) {
        for (from, server_state) in
            [(3, ServerState::Leading), (4, ServerState::Following), (2, ServerState::Following)]
        {
            self.step(Input::Zab(Zab::ElectionUp { peer: ServerId(from) }));
            let vote = Vote { leader: LEADER, zxid: Zxid::new(1, 9).to_wire(), peer_epoch: 2 };
            let notification = Notification {
                state: server_state,
                vote,
                round: ElectionRound(9),
                version: Notification::VERSION,
                config: None,
            };
            self.step(Input::Zab(Zab::Notification { from: ServerId(from), notification }));
        }
        self.step(Input::Zab(Zab::LinkUp { link: LINK, kind: LinkKind::Leader(LEADER) }));
        let protocol_version = LEARNER_PROTOCOL_VERSION;
        let out = self.says(LeaderPacket::LeaderInfo { epoch: 2, protocol_version, cumulative: false });
        let out = self.durable(&out);
        assert!(out.iter().any(|a| matches!(a, Action::SendLeader { packet: LearnerPacket::AckEpoch { .. }, .. })));
    }

    fn new_leader(&mut self, config: &'static str) -> Vec<Action> {
        let config = Bytes::from_static(config.as_bytes());
        self.says(LeaderPacket::NewLeader { zxid: Zxid::new(2, 0), config })
    }

    /// The leader is gone.
    fn lose(&mut self) -> Vec<Action> {
        self.step(Input::Zab(Zab::LinkDown { link: LINK }))
    }
}

/// Whose votes it wants.
fn asked(out: &[Action]) -> BTreeSet<i64> {
    out.iter().filter_map(|a| if let Action::Notify { to, .. } = a { Some(to.0) } else { None }).collect()
}

#[test]
fn a_state_that_shows_a_later_configuration_makes_it_pending() {
    let (mut run, out) = Run::start(OLD);
    assert_eq!(asked(&out), [2, 3].into());
    run.snapshot(NEW);
    let out = run.new_leader(OLD);
    run.durable(&out);
    assert_eq!(asked(&run.lose()), [2, 3, 4, 5].into());
}

#[test]
fn a_state_without_the_logged_configuration_makes_it_void() {
    let (mut run, out) = Run::start(NEW);
    assert_eq!(asked(&out), [2, 3, 4, 5].into());
    run.snapshot(OLD);
    let out = run.new_leader(OLD);
    run.durable(&out);
    assert_eq!(asked(&run.lose()), [2, 3].into());
}

#[test]
fn a_log_that_is_cut_before_the_logged_configuration_makes_it_void() {
    let (mut run, _) = Run::start(NEW);
    run.promise();
    let out = run.says(LeaderPacket::Trunc { zxid: Zxid::new(1, 4) });
    let mut restored = state(OLD);
    restored.loaded(Zxid::new(1, 4), None).expect("a tree");
    run.step(Input::Truncated { id: Run::write(&out), state: Some(Box::new(restored)) });
    let out = run.new_leader(OLD);
    run.durable(&out);
    assert_eq!(asked(&run.lose()), [2, 3].into());
}

/// A link that is lost before NEWLEADER leaves the disk as it was, and with it what is logged there.
#[test]
fn the_state_of_the_disk_brings_back_what_is_pending() {
    let (mut run, _) = Run::start(NEW);
    run.snapshot(OLD);
    let out = run.lose();
    let reload = out.iter().find_map(|a| if let Action::Reload { id } = a { Some(*id) } else { None });
    let mut restored = state(NEW);
    restored.loaded(Zxid::new(1, 5), None).expect("a tree");
    let out = run.step(Input::Reloaded { id: reload.expect("it has to load it again"), state: Box::new(restored) });
    assert_eq!(asked(&out), [2, 3, 4, 5].into());
}

#[test]
fn what_a_leader_tells_goes_to_disk_before_the_state_and_the_acknowledgement() {
    let (mut run, _) = Run::start(OLD);
    run.snapshot(OLD);
    let out = run.new_leader(NEW);
    let order: Vec<_> = out
        .iter()
        .filter_map(|a| match a {
            Action::SavePending { config, .. } => Some(config.as_deref() == Some(NEW.as_bytes())),
            Action::InstallSnapshot { .. } => Some(false),
            Action::SendLeader { .. } => panic!("acknowledged before it is on disk"),
            _ => None,
        })
        .collect();
    assert_eq!(order, [true, false]);
    let out = run.durable(&out);
    assert!(out.iter().any(|a| matches!(a, Action::SendLeader { packet: LearnerPacket::Ack { .. }, .. })));
    assert_eq!(asked(&run.lose()), [2, 3, 4, 5].into());
}
