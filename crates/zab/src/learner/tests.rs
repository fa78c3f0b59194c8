use super::*;
use crate::config::{Config, Durable, Ensemble, QuorumVerifier, Recovering};
use crate::io::Role;
use bytes::Bytes;
use farrier_proto::membership::MemberList;
use farrier_proto::quorum::{ElectionRound, LEARNER_PROTOCOL_VERSION, LearnerInfo, Notification, ServerState, Vote};
use farrier_proto::txn::{SetDataTxn, write_txn};
use farrier_proto::{AcceptedEpoch, CurrentEpoch, SessionId, Txn, TxnHeader, TxnType};
use std::collections::BTreeSet;

const LEADER: ServerId = ServerId(3);
const LINK: LinkId = LinkId(7);

mod cumulative;
mod inquiry;
mod reconfiguration;
mod synchronization;

/// A learner with what it shares with other roles. Completions reach the core first, as in a peer.
struct Bench {
    core: Core,
    learner: Learner,
    now: u64,
    started: Vec<Output>,
    /// What was told for the record, which no other output depends on.
    told: Vec<String>,
}

fn z(epoch: u32, counter: u32) -> Zxid {
    Zxid::new(epoch, counter)
}

fn ensemble() -> Ensemble {
    let ids = |ids: &[i64]| ids.iter().map(|id| ServerId(*id)).collect::<BTreeSet<_>>();
    Ensemble::new(5, ids(&[1, 2, 3]), ids(&[4]), QuorumVerifier::Majority, Bytes::from_static(b"version=5")).unwrap()
}

/// What the disk says: epochs 1, log up to 1:2.
fn disk() -> Durable {
    Durable { accepted: AcceptedEpoch(1), current: CurrentEpoch(1), last_logged: z(1, 2), recovering: Recovering::No }
}

impl Bench {
    fn new(server: i64, durable: Durable) -> Self {
        let config = Config { reconfig: true, ..Config::new(ServerId(server)) };
        let mut core = Core::new(config, ensemble(), durable);
        core.election_links.insert(LEADER);
        let mut out = Outputs::default();
        let learner = Learner::start(&mut core, 1000, LEADER, &mut out);
        Self { core, learner, now: 1000, started: out.list, told: Vec::new() }
    }

    fn try_step(&mut self, input: Input) -> (Vec<Output>, Result<(), Resign>) {
        match &input {
            Input::Durable { id } => self.core.completed(*id, true),
            Input::Truncated { id, done, config } => {
                self.core.completed(*id, *done);
                if *done {
                    self.core.state_shows(config.as_ref(), &mut Outputs::default());
                }
            }
            _ => {}
        }
        let mut out = Outputs::default();
        let result = self.learner.step(&mut self.core, self.now, input, &mut out);
        let mut list = Vec::new();
        for output in out.list {
            match output {
                Output::Note { level: Level::Info, text } => self.told.push(text),
                output => list.push(output),
            }
        }
        (list, result)
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        let (out, result) = self.try_step(input);
        result.unwrap();
        out
    }

    fn says(&mut self, packet: LeaderPacket) -> Vec<Output> {
        self.step(Input::LeaderPacket { link: LINK, packet })
    }

    fn durable(&mut self, id: u64) -> Vec<Output> {
        self.step(Input::Durable { id: WriteId(id) })
    }

    /// The reason of the end; nothing was done on the way to it.
    fn ends(&mut self, input: Input) -> String {
        let (out, result) = self.try_step(input);
        assert_eq!(out, vec![]);
        result.expect_err("the role ends").reason
    }

    fn ends_at(&mut self, packet: LeaderPacket) -> String {
        self.ends(Input::LeaderPacket { link: LINK, packet })
    }

    fn connect(&mut self) -> Vec<Output> {
        self.step(Input::LinkUp { link: LINK, kind: LinkKind::Leader(LEADER) })
    }

    /// Connected, and epoch 2 promised with write 1.
    fn promised(server: i64, durable: Durable) -> Self {
        let mut bench = Self::new(server, durable);
        bench.connect();
        bench.says(leader_info(2));
        bench.durable(1);
        bench
    }

    /// The same, and what is logged is kept.
    fn in_step(server: i64) -> Self {
        let mut bench = Self::promised(server, disk());
        bench.says(LeaderPacket::Diff { zxid: z(1, 2) });
        bench
    }

    /// Up to date in epoch 2 with history 1:2; write 2 was the last.
    fn broadcast(server: i64) -> Self {
        let mut bench = Self::in_step(server);
        bench.says(new_leader(2));
        bench.durable(2);
        bench.says(LeaderPacket::UpToDate);
        bench
    }
}

fn leader_info(epoch: u32) -> LeaderPacket {
    LeaderPacket::LeaderInfo { epoch, protocol_version: LEARNER_PROTOCOL_VERSION, cumulative: false }
}

fn new_leader(epoch: u32) -> LeaderPacket {
    LeaderPacket::NewLeader { zxid: z(epoch, 0), config: Bytes::from_static(b"version=5") }
}

fn txn(zxid: Zxid) -> Bytes {
    Bytes::from(format!("txn {zxid}"))
}

fn proposal(zxid: Zxid) -> LeaderPacket {
    LeaderPacket::Proposal { zxid, txn: txn(zxid) }
}

fn inform(zxid: Zxid) -> LeaderPacket {
    LeaderPacket::Inform { zxid, txn: txn(zxid) }
}

fn commit(zxid: Zxid) -> LeaderPacket {
    LeaderPacket::Commit { zxid }
}

fn reconfig(zxid: Zxid, text: &'static str) -> Bytes {
    let header = TxnHeader { session: SessionId::NONE, cxid: 0, zxid, time: 0, kind: TxnType::Reconfig.code() };
    let body =
        Txn::Reconfig(SetDataTxn { path: "/zookeeper/config".into(), data: Some(text.as_bytes().into()), version: -1 });
    let mut bytes = Vec::new();
    write_txn(&mut bytes, &header, &body, None);
    bytes.into()
}

fn send(packet: LearnerPacket) -> Output {
    Output::SendLeader { link: LINK, packet }
}

fn ack(zxid: Zxid) -> Output {
    send(LearnerPacket::Ack { zxid })
}

fn ack_epoch(last_logged: Zxid, current: Option<u32>) -> Output {
    send(LearnerPacket::AckEpoch { last_logged: last_logged.to_wire(), current: current.map(CurrentEpoch) })
}

fn append(id: u64, zxid: Zxid) -> Output {
    Output::Append { id: WriteId(id), zxid, txn: txn(zxid) }
}

fn deliver(zxid: Zxid) -> Output {
    Output::Deliver { zxid, txn: txn(zxid) }
}

fn save_current(id: u64, epoch: u32) -> Output {
    Output::SaveCurrentEpoch { id: WriteId(id), epoch: CurrentEpoch(epoch) }
}

fn role(epoch: u32, observing: bool) -> Output {
    Output::Role(Role::Learning { leader: LEADER, epoch, observing })
}

// ---- discovery ----

fn activated(out: &[Output]) -> Vec<Bytes> {
    let config = |o: &Output| if let Output::Activate { config } = o { Some(config.clone()) } else { None };
    out.iter().filter_map(config).collect()
}

fn without_notes(out: Vec<Output>) -> Vec<Output> {
    out.into_iter().filter(|o| !matches!(o, Output::Note { .. })).collect()
}

/// A server of [`OLD`] that is up to date.
#[test]
fn a_failed_dial_is_repeated_until_the_limit() {
    let mut b = Bench::new(1, disk());
    assert_eq!(b.started, vec![Output::Dial { leader: LEADER }]);
    assert_eq!(b.learner.next_deadline(), Some(21_000), "initLimit of 10 ticks");
    assert_eq!(b.step(Input::DialFailed { leader: ServerId(2) }), vec![], "of an earlier election");
    assert_eq!(b.learner.next_deadline(), Some(21_000));
    assert_eq!(b.step(Input::DialFailed { leader: LEADER }), vec![]);
    assert_eq!(b.learner.next_deadline(), Some(1010));
    assert_eq!(b.step(Input::Timer), vec![], "too early");
    b.now = 1010;
    assert_eq!(b.step(Input::Timer), vec![Output::Dial { leader: LEADER }]);
    assert_eq!(b.step(Input::Timer), vec![], "one dial is enough");
    b.now = 21_000;
    assert_eq!(b.ends(Input::Timer), "leader 3 cannot be reached");
}

#[test]
fn a_leader_without_an_election_link_is_given_up_at_once() {
    let mut b = Bench::new(1, disk());
    b.core.election_links.remove(&LEADER);
    assert_eq!(b.ends(Input::DialFailed { leader: LEADER }), "leader 3 cannot be reached");
}

#[test]
fn the_limit_for_connecting_can_be_set_apart() {
    let mut core = Core::new(Config { connect_limit: 3, ..Config::new(ServerId(1)) }, ensemble(), disk());
    let learner = Learner::start(&mut core, 1000, LEADER, &mut Outputs::default());
    assert_eq!(learner.next_deadline(), Some(7000));
}

#[test]
fn a_leader_that_was_left_a_moment_ago_waits() {
    let mut b = Bench::new(1, disk());
    let mut pauses = Vec::new();
    for _ in 0..9 {
        b.connect();
        b.ends(Input::LinkDown { link: LINK });
        let mut out = Outputs::default();
        b.learner = Learner::start(&mut b.core, b.now, LEADER, &mut out);
        assert_eq!(out.list, vec![]);
        let redial = b.learner.next_deadline().unwrap();
        pauses.push(redial - b.now);
        b.now = redial;
        assert_eq!(b.step(Input::Timer), vec![Output::Dial { leader: LEADER }]);
    }
    assert_eq!(pauses, vec![10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    b.connect();
    b.now += 1000;
    b.ends(Input::LinkDown { link: LINK });
    let mut out = Outputs::default();
    b.learner = Learner::start(&mut b.core, b.now, ServerId(2), &mut out);
    assert_eq!(out.list, vec![Output::Dial { leader: ServerId(2) }], "another one is joined at once");
    let learner = Learner::start(&mut b.core, b.now, LEADER, &mut out);
    assert_eq!(learner.next_deadline(), Some(b.now + 10), "it lasted long enough to begin again");
}

#[test]
fn a_link_that_nobody_waits_for_is_closed() {
    let close = |link| Output::CloseLink { link, reason: "nobody waits for this connection".into() };
    let mut b = Bench::new(1, disk());
    let other = Input::LinkUp { link: LinkId(8), kind: LinkKind::Leader(ServerId(2)) };
    assert_eq!(b.step(other), vec![close(LinkId(8))]);
    b.connect();
    let second = Input::LinkUp { link: LinkId(9), kind: LinkKind::Leader(LEADER) };
    assert_eq!(b.step(second), vec![close(LinkId(9))]);
    assert_eq!(b.step(Input::LinkDown { link: LinkId(9) }), vec![], "not ours");
    let stray = Input::LeaderPacket { link: LinkId(9), packet: LeaderPacket::UpToDate };
    assert_eq!(b.step(stray), vec![], "not from our link");
}

#[test]
fn a_follower_introduces_itself() {
    let info = LearnerInfo {
        server: Some(ServerId(1)),
        protocol_version: LEARNER_PROTOCOL_VERSION,
        config_version: 5,
        cumulative: true,
    };
    assert_eq!(
        Bench::new(1, disk()).connect(),
        vec![send(LearnerPacket::FollowerInfo { accepted: AcceptedEpoch(1), info })]
    );
}

#[test]
fn an_observer_introduces_itself() {
    let info = LearnerInfo {
        server: Some(ServerId(4)),
        protocol_version: LEARNER_PROTOCOL_VERSION,
        config_version: 5,
        cumulative: true,
    };
    assert_eq!(
        Bench::new(4, disk()).connect(),
        vec![send(LearnerPacket::ObserverInfo { accepted: AcceptedEpoch(1), info })]
    );
}

#[test]
fn a_server_outside_the_ensemble_follows_without_a_vote() {
    assert!(matches!(
        Bench::new(9, disk()).connect()[..],
        [Output::SendLeader { packet: LearnerPacket::FollowerInfo { .. }, .. }]
    ));
}

#[test]
fn a_promise_is_durable_before_it_is_given() {
    let mut b = Bench::new(1, disk());
    b.connect();
    let save = Output::SaveAcceptedEpoch { id: WriteId(1), epoch: AcceptedEpoch(2) };
    assert_eq!(b.says(leader_info(2)), vec![save]);
    assert_eq!(b.core.accepted, AcceptedEpoch(1), "not yet");
    assert_eq!(b.learner.next_deadline(), None, "the leader waits for us");
    assert_eq!(b.durable(1), vec![ack_epoch(z(1, 2), Some(1))]);
    assert_eq!(b.core.accepted, AcceptedEpoch(2));
    assert_eq!(b.learner.next_deadline(), Some(21_000));
}

#[test]
fn an_epoch_is_promised_once() {
    let mut b = Bench::new(1, disk());
    b.connect();
    assert_eq!(b.says(leader_info(1)), vec![ack_epoch(z(1, 2), None)]);
}

#[test]
fn an_older_epoch_is_refused() {
    let mut b = Bench::new(1, Durable { accepted: AcceptedEpoch(4), ..disk() });
    b.connect();
    assert_eq!(b.ends_at(leader_info(3)), "leader 3 begins epoch 3, but 4 is promised");
    // A leader that has a newer configuration may have counted the promise of who is a voter only there.
    let mut b = Bench::new(9, Durable { accepted: AcceptedEpoch(4), ..disk() });
    b.connect();
    assert_eq!(b.ends_at(leader_info(3)), "leader 3 begins epoch 3, but 4 is promised");
}

#[test]
fn a_promise_without_a_vote_keeps_nobody_away() {
    let mut b = Bench::new(4, Durable { accepted: AcceptedEpoch(4), ..disk() });
    b.connect();
    assert_eq!(b.says(leader_info(3)), vec![ack_epoch(z(1, 2), None)], "an observer's promise counts nowhere");
    b.says(LeaderPacket::Diff { zxid: z(1, 2) });
    assert_eq!(b.says(new_leader(3)), vec![save_current(1, 3)]);
    assert_eq!(b.durable(1), vec![ack(z(3, 0))]);
    assert_eq!(b.core.accepted, AcceptedEpoch(4), "promises do not shrink");

    let mut b = Bench::new(4, Durable { accepted: AcceptedEpoch(4), current: CurrentEpoch(4), ..disk() });
    b.connect();
    assert_eq!(b.ends_at(leader_info(3)), "leader 3 begins epoch 3, but 4 is promised", "it had a later leader");
}

#[test]
fn an_epoch_that_no_leader_could_follow_is_not_promised() {
    let mut b = Bench::new(1, disk());
    b.connect();
    assert_eq!(
        b.ends_at(leader_info(0x7fff_ffff)),
        "leader 3 breaks the protocol: LEADERINFO of epoch 2147483647, which cannot be"
    );
    assert_eq!(b.core.accepted, AcceptedEpoch(1));
}

#[test]
fn a_server_that_may_have_forgotten_offers_nothing_and_is_not_counted() {
    for recovering in [Recovering::History, Recovering::Promise] {
        let mut b = Bench::new(1, Durable { recovering, ..disk() });
        b.connect();
        b.says(leader_info(2));
        assert_eq!(b.durable(1), vec![ack_epoch(Zxid::ZERO, None)]);
        assert_eq!(
            b.step(Input::SnapReceived { link: LINK, zxid: z(1, 9), config: None }),
            vec![Output::AdoptSnapshot { zxid: z(1, 9) }]
        );
        b.says(new_leader(2));
        assert_eq!(b.core.recovering, recovering);
        assert_eq!(b.durable(2), vec![ack(z(2, 0))]);
        assert_eq!(b.core.recovering, Recovering::No);
    }
}

/// Nothing is there.
const FRESH: Durable = Durable {
    accepted: AcceptedEpoch(0),
    current: CurrentEpoch(0),
    last_logged: Zxid::ZERO,
    recovering: Recovering::Fresh,
};

#[test]
fn an_empty_directory_follows_nobody_with_a_history_before_a_quorum_has_it() {
    for (synchronization, lawful) in [
        (vec![Input::SnapReceived { link: LINK, zxid: z(1, 9), config: None }], false),
        (vec![Input::SnapReceived { link: LINK, zxid: Zxid::ZERO, config: None }], true),
        (vec![Input::SnapReceived { link: LINK, zxid: z(0, 9), config: None }], true),
        (vec![Input::SnapReceived { link: LINK, zxid: Zxid::ZERO, config: None }, proposal_input(z(1, 1))], false),
        (vec![diff_input(Zxid::ZERO)], true),
        (vec![diff_input(z(1, 1)), proposal_input(z(1, 1))], false),
    ] {
        let mut b = Bench::promised(1, FRESH);
        for input in synchronization {
            b.step(input);
        }
        let (out, result) = b.try_step(Input::LeaderPacket { link: LINK, packet: new_leader(2) });
        let raised = out.iter().any(|output| matches!(output, Output::RaiseRecovering { .. }));
        assert_eq!((result.is_ok(), !raised), (lawful, lawful), "{out:?}");
        assert_eq!(b.core.recovering, if lawful { Recovering::Fresh } else { Recovering::Promise });
    }
}

#[test]
fn an_empty_directory_leaves_its_leader_when_somebody_knows_another_epoch() {
    let vote = |leader, epoch| Vote { leader: ServerId(leader), zxid: 0, peer_epoch: epoch };
    for (from, state, vote, lawful) in [
        (2, ServerState::Looking, vote(2, 0), true),
        (2, ServerState::Looking, vote(2, 1), false),
        (2, ServerState::Leading, vote(2, 1), false),
        (2, ServerState::Following, vote(3, 1), true),
        (3, ServerState::Leading, vote(3, 1), true),
        (3, ServerState::Looking, vote(3, 1), false),
        (4, ServerState::Looking, vote(2, 1), true),
    ] {
        let mut b = Bench::promised(1, FRESH);
        let n = Notification { state, vote, round: ElectionRound(1), version: 2, config: None };
        let result = b.learner.notification(&mut b.core, ServerId(from), &n, &mut Outputs::default());
        assert_eq!(result.is_ok(), lawful, "{from} {state:?} {vote:?}");
        assert_eq!(b.core.recovering, if lawful { Recovering::Fresh } else { Recovering::Promise });
    }
}

fn diff_input(zxid: Zxid) -> Input {
    Input::LeaderPacket { link: LINK, packet: LeaderPacket::Diff { zxid } }
}

fn proposal_input(zxid: Zxid) -> Input {
    Input::LeaderPacket { link: LINK, packet: proposal(zxid) }
}

#[test]
fn a_leader_says_its_epoch_first() {
    for (packet, name) in [
        (LeaderPacket::Diff { zxid: z(1, 2) }, "DIFF"),
        (new_leader(2), "NEWLEADER"),
        (LeaderPacket::Ping { zxid: 0 }, "PING"),
    ] {
        let mut b = Bench::new(1, disk());
        b.connect();
        assert_eq!(b.ends_at(packet), format!("leader 3 breaks the protocol: {name} instead of LEADERINFO"));
    }
}

#[test]
fn nothing_comes_before_the_promise_is_given() {
    let mut b = Bench::new(1, disk());
    b.connect();
    b.says(leader_info(2));
    let reason = b.ends_at(LeaderPacket::Diff { zxid: z(1, 2) });
    assert_eq!(reason, "leader 3 breaks the protocol: DIFF before it got ACKEPOCH");
}

#[test]
fn a_dial_that_succeeds_after_its_role_ended_is_hung_up() {
    let mut peer = crate::Peer::new(Config::new(ServerId(1)), ensemble(), disk());
    let mut out = Outputs::default();
    peer.step(1000, Input::LinkUp { link: LINK, kind: LinkKind::Leader(LEADER) }, &mut out);
    let close = Output::CloseLink { link: LINK, reason: "nobody waits for this connection".into() };
    assert_eq!(out.list.first(), Some(&close));
}

// ---- synchronization ----

#[test]
fn a_proposal_is_acknowledged_once_it_is_on_disk() {
    let mut b = Bench::broadcast(1);
    assert_eq!(b.says(proposal(z(2, 1))), vec![append(3, z(2, 1))]);
    assert_eq!(b.says(proposal(z(2, 2))), vec![append(4, z(2, 2))]);
    assert_eq!(b.says(proposal(z(2, 3))), vec![append(5, z(2, 3))]);
    assert_eq!(b.durable(4), vec![ack(z(2, 1)), ack(z(2, 2))]);
    assert_eq!(b.says(commit(z(2, 1))), vec![deliver(z(2, 1))]);
    assert_eq!(b.says(commit(z(2, 2))), vec![deliver(z(2, 2))]);
    assert_eq!(b.says(commit(z(2, 3))), vec![deliver(z(2, 3))], "a quorum has it without us");
    assert_eq!(b.durable(5), vec![ack(z(2, 3))]);
}

#[test]
fn a_repeated_proposal_is_taken_once() {
    let mut b = Bench::broadcast(1);
    b.says(proposal(z(2, 1)));
    let text = "leader 3 proposes 0x200000001 twice".into();
    assert_eq!(b.says(proposal(z(2, 1))), vec![Output::Note { level: Level::Warn, text }]);
    assert_eq!(b.durable(3), vec![ack(z(2, 1))], "once");
    assert_eq!(b.says(commit(z(2, 1))), vec![deliver(z(2, 1))]);
}

#[test]
fn what_does_not_fit_ends_the_role() {
    for (packet, what) in [
        (proposal(z(2, 3)), "proposal 0x200000003 does not follow 0x200000001"),
        (proposal(z(3, 1)), "proposal 0x300000001 is not of its epoch 2"),
        (commit(z(2, 2)), "commit of 0x200000002, but 0x200000001 is the oldest proposal"),
        (new_leader(2), "NEWLEADER after UPTODATE"),
        (leader_info(3), "LEADERINFO after UPTODATE"),
    ] {
        let mut b = Bench::broadcast(1);
        b.says(proposal(z(2, 1)));
        assert_eq!(b.ends_at(packet), format!("leader 3 breaks the protocol: {what}"));
    }
    let mut b = Bench::broadcast(1);
    b.says(proposal(z(2, 1)));
    b.says(commit(z(2, 1)));
    assert_eq!(
        b.ends_at(commit(z(2, 1))),
        "leader 3 breaks the protocol: commit of 0x200000001, but no proposal waits for one"
    );
}

#[test]
fn an_observer_learns_by_inform_and_acknowledges_no_proposal() {
    let mut b = Bench::broadcast(4);
    assert_eq!(b.says(inform(z(2, 1))), vec![append(3, z(2, 1)), deliver(z(2, 1))]);
    assert_eq!(b.durable(3), vec![]);
    assert_eq!(b.says(inform(z(2, 1))), vec![], "known");
    let text = |name| format!("leader 3 sends {name} once too often");
    for (packet, name) in [(proposal(z(2, 2)), "PROPOSAL"), (commit(z(2, 2)), "COMMIT")] {
        assert_eq!(b.says(packet), vec![Output::Note { level: Level::Warn, text: text(name) }]);
    }
    assert_eq!(
        b.ends_at(inform(z(2, 3))),
        "leader 3 breaks the protocol: proposal 0x200000003 does not follow 0x200000001"
    );
}

#[test]
fn an_observer_gets_proposals_and_commits_while_it_synchronizes() {
    let mut b = Bench::promised(4, disk());
    b.says(LeaderPacket::Diff { zxid: z(1, 3) });
    b.says(proposal(z(1, 3)));
    b.says(commit(z(1, 3)));
    assert_eq!(b.says(inform(z(2, 1))), vec![append(3, z(2, 1)), deliver(z(2, 1))]);
    b.says(new_leader(2));
    assert_eq!(b.durable(4), vec![ack(z(2, 0))]);
    assert_eq!(b.says(LeaderPacket::UpToDate), vec![role(2, true), ack(z(2, 0))]);
}

#[test]
fn an_observers_snapshot_takes_informs() {
    let mut b = Bench::promised(4, disk());
    b.step(Input::SnapReceived { link: LINK, zxid: z(1, 5), config: None });
    assert_eq!(b.says(inform(z(1, 5))), vec![], "is in the snapshot");
    assert_eq!(b.says(inform(z(2, 1))), vec![deliver(z(2, 1))]);
    let install = Output::InstallSnapshot { id: WriteId(2), zxid: z(2, 1), epoch: CurrentEpoch(2) };
    assert_eq!(b.says(new_leader(2)), vec![install]);
    assert_eq!(b.says(inform(z(2, 2))), vec![append(3, z(2, 2)), deliver(z(2, 2))]);
}

#[test]
fn a_follower_has_no_use_for_inform_nor_for_a_second_uptodate() {
    let mut b = Bench::broadcast(1);
    for (packet, name) in [(inform(z(2, 1)), "INFORM"), (LeaderPacket::UpToDate, "UPTODATE")] {
        let text = format!("leader 3 sends {name} once too often");
        assert_eq!(b.says(packet), vec![Output::Note { level: Level::Warn, text }]);
    }
    assert_eq!(b.says(proposal(z(2, 1))), vec![append(3, z(2, 1))], "nothing was taken from it");
}

const OLD: &str = "server.1=a:1:2:participant\nserver.2=b:1:2:participant\nserver.3=c:1:2:participant\nserver.4=d:1:2:observer\nversion=0";

#[test]
fn only_a_server_that_is_up_to_date_sends() {
    let packet = || LearnerPacket::Revalidate { session: SessionId(9), timeout: 4000 };
    let mut out = Outputs::default();
    let mut b = Bench::in_step(1);
    b.says(new_leader(2));
    b.durable(2);
    assert!(!b.learner.send(packet(), &mut out));
    b.says(LeaderPacket::UpToDate);
    assert!(b.learner.send(packet(), &mut out));
    assert_eq!(out.list, vec![send(packet())]);
}

#[test]
fn pings_and_answers_go_up() {
    let mut b = Bench::broadcast(1);
    assert_eq!(b.says(LeaderPacket::Ping { zxid: -1 }), vec![Output::PingReceived { zxid: -1 }]);
    for packet in [LeaderPacket::Sync, LeaderPacket::Revalidate { session: SessionId(9), valid: true }] {
        assert_eq!(b.says(packet.clone()), vec![Output::FromLeader { packet: packet.clone() }]);
        let reason = Bench::in_step(1).ends_at(packet.clone());
        assert!(reason.ends_with("before NEWLEADER"), "{reason}");
    }
}

#[test]
fn a_silent_leader_is_given_up() {
    let mut b = Bench::broadcast(1);
    b.now = 5000;
    b.says(LeaderPacket::Ping { zxid: 0 });
    assert_eq!(b.learner.next_deadline(), Some(15_000));
    b.now = 14_999;
    assert_eq!(b.step(Input::Timer), vec![]);
    b.says(proposal(z(2, 1)));
    b.now = 20_000;
    b.durable(3);
    assert_eq!(b.learner.next_deadline(), Some(24_999), "our own disk says nothing about the leader");
    b.now = 24_999;
    assert_eq!(b.ends(Input::Timer), "leader 3 is silent");
}

#[test]
fn before_newleader_a_leader_may_be_silent_longer() {
    let mut b = Bench::in_step(1);
    b.now = 11_000;
    b.says(proposal(z(1, 3)));
    assert_eq!(b.learner.next_deadline(), Some(31_000));
    b.says(new_leader(2));
    assert_eq!(b.learner.next_deadline(), None, "the leader waits for our disk");
    b.now = 60_000;
    b.durable(3);
    assert_eq!(b.learner.next_deadline(), Some(70_000));
}

#[test]
fn status_says_how_far_it_got() {
    let phase = |b: &Bench| {
        let mut status = Status {
            state: ServerState::Following,
            phase: Phase::Election,
            leader: None,
            epoch: None,
            last_logged: Zxid::ZERO,
            delivered: Zxid::ZERO,
            learners: Vec::new(),
            pending_syncs: 0,
            recovering: false,
            handing_over: false,
        };
        b.learner.describe(&mut status);
        assert_eq!(status.leader, Some(LEADER));
        (status.phase, status.epoch)
    };
    assert_eq!(phase(&Bench::new(1, disk())), (Phase::Discovery, None));
    assert_eq!(phase(&Bench::in_step(1)), (Phase::Synchronization, None));
    assert_eq!(phase(&Bench::broadcast(1)), (Phase::Broadcast, Some(2)));
}
