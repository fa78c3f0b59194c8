use super::*;
use crate::config::{Config, Durable, Ensemble, QuorumVerifier, Recovering};
use crate::io::Role;
use bytes::Bytes;
use farrier_proto::membership::MemberList;
use farrier_proto::quorum::{LEARNER_PROTOCOL_VERSION, LearnerInfo};
use farrier_proto::txn::{SetDataTxn, write_txn};
use farrier_proto::{AcceptedEpoch, CurrentEpoch, SessionId, Txn, TxnHeader, TxnType};
use std::collections::BTreeSet;

const LEADER: ServerId = ServerId(3);
const LINK: LinkId = LinkId(7);

/// A learner with what it shares with other roles. Completions reach the core first, as in a peer.
struct Bench {
    core: Core,
    learner: Learner,
    now: u64,
    started: Vec<Output>,
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
        Self { core, learner, now: 1000, started: out.list }
    }

    fn try_step(&mut self, input: Input) -> (Vec<Output>, Result<(), Resign>) {
        match &input {
            Input::Durable { id } => self.core.completed(*id, true),
            Input::Truncated { id, done } => self.core.completed(*id, *done),
            _ => {}
        }
        let mut out = Outputs::default();
        let result = self.learner.step(&mut self.core, self.now, input, &mut out);
        (out.list, result)
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
    LeaderPacket::LeaderInfo { epoch, protocol_version: LEARNER_PROTOCOL_VERSION }
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
    let info = LearnerInfo { server: Some(ServerId(1)), protocol_version: LEARNER_PROTOCOL_VERSION, config_version: 5 };
    assert_eq!(
        Bench::new(1, disk()).connect(),
        vec![send(LearnerPacket::FollowerInfo { accepted: AcceptedEpoch(1), info })]
    );
}

#[test]
fn an_observer_introduces_itself() {
    let info = LearnerInfo { server: Some(ServerId(4)), protocol_version: LEARNER_PROTOCOL_VERSION, config_version: 5 };
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
            b.step(Input::SnapReceived { link: LINK, zxid: z(1, 9) }),
            vec![Output::AdoptSnapshot { zxid: z(1, 9) }]
        );
        b.says(new_leader(2));
        assert_eq!(b.core.recovering, recovering);
        assert_eq!(b.durable(2), vec![ack(z(2, 0))]);
        assert_eq!(b.core.recovering, Recovering::No);
    }
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
fn diff_appends_at_arrival_and_delivers_at_commit() {
    let mut b = Bench::promised(1, disk());
    assert_eq!(b.says(LeaderPacket::Diff { zxid: z(1, 4) }), vec![]);
    assert_eq!(b.says(proposal(z(1, 3))), vec![append(2, z(1, 3))]);
    assert_eq!(b.says(commit(z(1, 3))), vec![deliver(z(1, 3))]);
    assert_eq!(b.says(proposal(z(1, 4))), vec![append(3, z(1, 4))]);
    assert_eq!(b.says(commit(z(1, 4))), vec![deliver(z(1, 4))]);
    assert_eq!(b.durable(3), vec![], "nothing is acknowledged before NEWLEADER");
    assert_eq!(b.says(new_leader(2)), vec![save_current(4, 2)]);
    assert_eq!(b.core.current, CurrentEpoch(1), "not yet");
    assert_eq!(b.durable(4), vec![ack(z(2, 0))]);
    assert_eq!(b.core.current, CurrentEpoch(2));
    assert_eq!(b.learner.next_deadline(), Some(11_000), "syncLimit of 5 ticks from now on");
    assert_eq!(b.says(LeaderPacket::UpToDate), vec![role(2, false), ack(z(2, 0))]);
    assert_eq!(b.core.vote.peer_epoch, 2);
}

#[test]
fn the_acknowledgement_of_newleader_is_the_first() {
    let mut b = Bench::in_step(1);
    assert_eq!(b.says(proposal(z(2, 1))), vec![append(2, z(2, 1))]);
    assert_eq!(b.says(new_leader(2)), vec![save_current(3, 2)]);
    assert_eq!(b.says(proposal(z(2, 2))), vec![append(4, z(2, 2))]);
    assert_eq!(b.durable(2), vec![], "2:1 is on disk, but the epoch is not");
    assert_eq!(b.durable(3), vec![ack(z(2, 0)), ack(z(2, 1))]);
    assert_eq!(b.says(proposal(z(2, 3))), vec![append(5, z(2, 3))]);
    assert_eq!(b.durable(5), vec![ack(z(2, 2)), ack(z(2, 3))]);
}

#[test]
fn what_is_committed_before_newleader_is_not_acknowledged() {
    let mut b = Bench::in_step(1);
    b.says(proposal(z(2, 1)));
    b.says(commit(z(2, 1)));
    b.says(proposal(z(2, 2)));
    assert_eq!(b.says(new_leader(2)), vec![save_current(4, 2)]);
    assert_eq!(b.durable(4), vec![ack(z(2, 0)), ack(z(2, 2))]);
}

#[test]
fn a_commit_before_uptodate_is_delivered() {
    let mut b = Bench::in_step(1);
    b.says(proposal(z(2, 1)));
    b.says(new_leader(2));
    assert_eq!(b.says(LeaderPacket::Ping { zxid: 0 }), vec![], "not answered, as by Apache");
    assert_eq!(b.says(commit(z(2, 1))), vec![deliver(z(2, 1))]);
    assert_eq!(b.durable(3), vec![ack(z(2, 0)), ack(z(2, 1))]);
    assert_eq!(b.says(LeaderPacket::Ping { zxid: 0 }), vec![]);
    assert_eq!(b.says(proposal(z(2, 2))), vec![append(4, z(2, 2))]);
    assert_eq!(b.says(LeaderPacket::UpToDate), vec![role(2, false), ack(z(2, 0))]);
    assert_eq!(b.says(commit(z(2, 2))), vec![deliver(z(2, 2))], "a quorum has it, whether we have or not");
}

#[test]
fn uptodate_commits_the_initial_history_and_nothing_else() {
    let mut b = Bench::in_step(1);
    b.says(proposal(z(1, 3)));
    b.says(proposal(z(1, 4)));
    b.says(commit(z(1, 3)));
    b.says(proposal(z(2, 1)));
    b.says(new_leader(2));
    assert_eq!(b.durable(5), vec![ack(z(2, 0)), ack(z(2, 1))]);
    assert_eq!(b.says(LeaderPacket::UpToDate), vec![deliver(z(1, 4)), role(2, false), ack(z(2, 0))]);
    assert_eq!(b.says(commit(z(1, 4))), vec![], "late, and known");
    assert_eq!(b.says(commit(z(2, 1))), vec![deliver(z(2, 1))]);
}

#[test]
fn what_the_synchronization_began_from_may_come_again() {
    let mut b = Bench::in_step(1);
    for zxid in [z(1, 1), z(1, 2)] {
        assert_eq!(b.says(proposal(zxid)), vec![]);
        assert_eq!(b.says(commit(zxid)), vec![]);
        assert_eq!(b.says(inform(zxid)), vec![]);
    }
    assert_eq!(b.says(proposal(z(1, 3))), vec![append(2, z(1, 3))]);
}

#[test]
fn a_configuration_of_newleader_is_in_force_with_uptodate() {
    let mut b = Bench::in_step(1);
    let config = Bytes::from_static(b"server.3=c:1:2:participant\nserver.4=d:1:2:observer\nversion=6");
    b.says(LeaderPacket::NewLeader { zxid: z(2, 0), config: config.clone() });
    b.durable(2);
    b.core.ensemble =
        Ensemble::of(&MemberList::parse(b"server.3=c:1:2:participant\nserver.4=d:1:2:observer\nversion=0").unwrap())
            .unwrap();
    let out = b.says(LeaderPacket::UpToDate);
    assert_eq!(activated(&out), [config]);
    assert_eq!(without_notes(out)[1..], [role(2, false), ack(z(2, 0))]);
    assert_eq!(b.core.ensemble.version(), 6);
}

#[test]
fn a_configuration_that_is_not_to_be_taken_is_not() {
    let mut b = Bench::in_step(1);
    b.core.config.reconfig = false;
    b.says(LeaderPacket::NewLeader { zxid: z(2, 0), config: Bytes::from_static(b"version=6") });
    b.durable(2);
    assert_eq!(b.says(LeaderPacket::UpToDate), vec![role(2, false), ack(z(2, 0))], "reconfigEnabled=false");
}

#[test]
fn a_configuration_of_one_byte_is_none() {
    let mut b = Bench::in_step(1);
    b.says(LeaderPacket::NewLeader { zxid: z(2, 0), config: Bytes::from_static(b"\0") });
    b.durable(2);
    assert_eq!(b.says(LeaderPacket::UpToDate), vec![role(2, false), ack(z(2, 0))]);
}

#[test]
fn trunc_cuts_and_then_appends() {
    let mut b = Bench::promised(1, Durable { last_logged: z(1, 9), ..disk() });
    let cut = Output::Truncate { id: WriteId(2), after: z(1, 4) };
    assert_eq!(b.says(LeaderPacket::Trunc { zxid: z(1, 4) }), vec![cut]);
    assert_eq!(b.learner.next_deadline(), None);
    assert_eq!(b.says(proposal(z(1, 5))), vec![], "held");
    assert_eq!(b.says(commit(z(1, 5))), vec![], "held");
    assert_eq!(b.step(Input::Truncated { id: WriteId(2), done: true }), vec![append(3, z(1, 5)), deliver(z(1, 5))]);
    assert_eq!(b.learner.next_deadline(), Some(21_000));
    assert_eq!(b.says(new_leader(2)), vec![save_current(4, 2)]);
    assert_eq!(b.durable(4), vec![ack(z(2, 0))]);
}

#[test]
fn trunc_to_the_last_transaction_cuts_nothing() {
    let mut b = Bench::promised(1, disk());
    assert_eq!(b.says(LeaderPacket::Trunc { zxid: z(1, 2) }), vec![]);
    assert_eq!(b.says(proposal(z(2, 1))), vec![append(2, z(2, 1))]);
}

#[test]
fn trunc_beyond_the_log_is_a_violation() {
    let mut b = Bench::promised(1, disk());
    assert_eq!(
        b.ends_at(LeaderPacket::Trunc { zxid: z(1, 3) }),
        "leader 3 breaks the protocol: TRUNC to 0x100000003, but the log ends with 0x100000002"
    );
}

#[test]
fn a_log_that_cannot_be_cut_is_replaced_by_a_snapshot() {
    let mut b = Bench::promised(1, Durable { last_logged: z(1, 9), ..disk() });
    b.says(LeaderPacket::Trunc { zxid: z(1, 4) });
    b.says(proposal(z(1, 5)));
    let what = "the log cannot be cut where leader 3 wants it";
    assert_eq!(
        b.step(Input::Truncated { id: WriteId(2), done: false }),
        vec![
            Output::Note { level: Level::Warn, text: format!("{what}; asking for a snapshot") },
            Output::CloseLink { link: LINK, reason: what.into() },
            Output::Dial { leader: LEADER },
        ]
    );
    assert_eq!(b.core.history.last(), z(1, 9), "nothing was changed");
    b.step(Input::LinkUp { link: LinkId(8), kind: LinkKind::Leader(LEADER) });
    let says = |packet| Input::LeaderPacket { link: LinkId(8), packet };
    let packet = LearnerPacket::AckEpoch { last_logged: 0, current: None };
    assert_eq!(b.step(says(leader_info(2))), vec![Output::SendLeader { link: LinkId(8), packet }]);
    // A leader that wants it cut all the same does not get a third attempt.
    b.step(says(LeaderPacket::Trunc { zxid: Zxid::ZERO }));
    let reason = b.ends(Input::Truncated { id: WriteId(3), done: false });
    assert_eq!(reason, format!("{what}, and it sends no snapshot"));
}

#[test]
fn a_link_pauses_while_the_log_is_cut() {
    let mut b = Bench::promised(1, disk());
    b.says(LeaderPacket::Trunc { zxid: z(1, 1) });
    let half = crate::limits::HELD_PACKETS_MAX / 2;
    for _ in 1..half {
        assert_eq!(b.says(LeaderPacket::Ping { zxid: 0 }), vec![]);
    }
    assert_eq!(b.says(LeaderPacket::Ping { zxid: 0 }), vec![Output::PauseLink { link: LINK }]);
    assert_eq!(b.says(proposal(z(1, 2))), vec![]);
    let resume = Output::ResumeLink { link: LINK };
    assert_eq!(b.step(Input::Truncated { id: WriteId(2), done: true }), vec![append(3, z(1, 2)), resume]);

    let mut b = Bench::promised(1, disk());
    b.says(LeaderPacket::Trunc { zxid: z(1, 1) });
    for _ in 0..2 * half {
        b.says(LeaderPacket::Ping { zxid: 0 });
    }
    assert_eq!(b.ends_at(LeaderPacket::Ping { zxid: 0 }), "too many packets came while the log was being cut");
}

#[test]
fn a_link_lost_while_the_log_is_cut_ends_the_role_and_the_cut_goes_on() {
    let mut b = Bench::promised(1, disk());
    b.says(LeaderPacket::Trunc { zxid: z(1, 1) });
    b.says(proposal(z(1, 2)));
    assert_eq!(b.ends(Input::LinkDown { link: LINK }), "leader 3 closed the connection");
    assert_eq!(b.step(Input::Truncated { id: WriteId(2), done: true }), vec![], "what was held is forgotten");
    assert_eq!(b.core.history.last(), z(1, 1));
}

#[test]
fn a_snapshot_may_take_its_time_as_long_as_it_goes_on() {
    let mut b = Bench::promised(1, disk());
    let limit = b.learner.next_deadline().expect("the leader has to say something");
    b.now = limit - 1;
    b.step(Input::SnapProgress { link: LinkId(99) });
    assert_eq!(b.learner.next_deadline(), Some(limit), "not our leader's");
    b.step(Input::SnapProgress { link: LINK });
    assert!(b.learner.next_deadline() > Some(limit));
}

#[test]
fn a_snapshot_goes_to_disk_at_newleader() {
    let mut b = Bench::promised(1, disk());
    let snap = Input::SnapReceived { link: LINK, zxid: z(1, 5) };
    assert_eq!(b.step(snap), vec![Output::AdoptSnapshot { zxid: z(1, 5) }]);
    assert!(b.learner.has_uninstalled_snapshot());
    assert_eq!(b.says(proposal(z(1, 5))), vec![], "is in the snapshot");
    assert_eq!(b.says(commit(z(1, 5))), vec![]);
    assert_eq!(b.says(proposal(z(1, 6))), vec![], "not logged");
    assert_eq!(b.says(proposal(z(2, 1))), vec![]);
    assert_eq!(b.says(commit(z(1, 6))), vec![deliver(z(1, 6))]);
    assert_eq!(b.core.history.last(), z(1, 6));
    let install = Output::InstallSnapshot { id: WriteId(2), zxid: z(1, 6), epoch: CurrentEpoch(2) };
    assert_eq!(b.says(new_leader(2)), vec![install, append(3, z(2, 1))]);
    assert!(!b.learner.has_uninstalled_snapshot());
    assert_eq!(b.says(commit(z(2, 1))), vec![deliver(z(2, 1))]);
    assert_eq!(b.says(proposal(z(2, 2))), vec![append(4, z(2, 2))]);
    assert_eq!(b.durable(2), vec![ack(z(2, 0))]);
    assert_eq!(b.durable(4), vec![ack(z(2, 1)), ack(z(2, 2))], "a leader waits for what it sent behind NEWLEADER");
    assert_eq!(b.says(LeaderPacket::UpToDate), vec![role(2, false), ack(z(2, 0))]);
}

#[test]
fn a_snapshot_of_an_established_leader_without_proposals() {
    let mut b = Bench::promised(1, disk());
    b.step(Input::SnapReceived { link: LINK, zxid: z(2, 0) });
    let install = Output::InstallSnapshot { id: WriteId(2), zxid: z(2, 0), epoch: CurrentEpoch(2) };
    assert_eq!(b.says(new_leader(2)), vec![install]);
    assert_eq!(b.says(proposal(z(2, 1))), vec![append(3, z(2, 1))]);
}

#[test]
fn a_link_lost_before_newleader_leaves_a_state_to_be_reloaded() {
    let mut b = Bench::promised(1, disk());
    b.step(Input::SnapReceived { link: LINK, zxid: z(1, 5) });
    b.ends(Input::LinkDown { link: LINK });
    assert!(b.learner.has_uninstalled_snapshot());
    let mut out = Outputs::default();
    b.learner.close_link(&mut out);
    assert_eq!(out.list, vec![], "it is closed");
}

#[test]
fn a_violation_behind_a_snapshot_leaves_a_state_to_be_reloaded() {
    let mut b = Bench::promised(1, disk());
    b.step(Input::SnapReceived { link: LINK, zxid: z(1, 5) });
    let reason = b.ends_at(new_leader(3));
    assert_eq!(reason, "leader 3 breaks the protocol: NEWLEADER 0x300000000 after LEADERINFO of epoch 2");
    assert!(b.learner.has_uninstalled_snapshot());
    let mut out = Outputs::default();
    b.learner.close_link(&mut out);
    assert_eq!(out.list, vec![Output::CloseLink { link: LINK, reason }]);
}

#[test]
fn a_snapshot_comes_first_and_whole() {
    let mut b = Bench::in_step(1);
    assert_eq!(
        b.ends(Input::SnapReceived { link: LINK, zxid: z(1, 5) }),
        "leader 3 breaks the protocol: SNAP of 0x100000005 that is not the first packet of synchronization"
    );
    let mut b = Bench::promised(1, disk());
    assert_eq!(
        b.ends_at(LeaderPacket::Snap { zxid: z(1, 5) }),
        "leader 3 breaks the protocol: SNAP instead of DIFF, TRUNC or a whole SNAP"
    );
    let mut b = Bench::promised(1, disk());
    assert_eq!(
        b.ends(Input::SnapReceived { link: LINK, zxid: z(3, 1) }),
        "leader 3 breaks the protocol: SNAP of 0x300000001, which is behind its epoch 2"
    );
}

#[test]
fn a_gap_in_the_stream_is_a_violation() {
    for (packet, what) in [
        (proposal(z(1, 4)), "proposal 0x100000004 does not follow 0x100000002"),
        (proposal(z(2, 2)), "proposal 0x200000002 does not follow 0x100000002"),
        (proposal(z(3, 1)), "proposal 0x300000001 is not of its epoch 2"),
        (inform(z(1, 4)), "proposal 0x100000004 does not follow 0x100000002"),
        (commit(z(1, 3)), "commit of 0x100000003, but no proposal waits for one"),
        (LeaderPacket::UpToDate, "UPTODATE before NEWLEADER"),
        (LeaderPacket::Diff { zxid: z(1, 2) }, "DIFF before NEWLEADER"),
    ] {
        assert_eq!(Bench::in_step(1).ends_at(packet), format!("leader 3 breaks the protocol: {what}"));
    }
}

#[test]
fn behind_newleader_only_its_epoch_follows() {
    let mut b = Bench::in_step(1);
    b.says(new_leader(2));
    assert_eq!(
        b.ends_at(proposal(z(1, 3))),
        "leader 3 breaks the protocol: proposal 0x100000003 is not of its epoch 2"
    );
    for acknowledged in [false, true] {
        let mut b = Bench::in_step(1);
        b.says(new_leader(2));
        if acknowledged {
            b.durable(2);
        }
        assert!(b.ends_at(new_leader(2)).contains("NEWLEADER before"));
    }
}

#[test]
fn uptodate_does_not_overtake_the_acknowledgement() {
    let mut b = Bench::in_step(1);
    b.says(new_leader(2));
    let reason = b.ends_at(LeaderPacket::UpToDate);
    assert_eq!(reason, "leader 3 breaks the protocol: UPTODATE before it got ACK of NEWLEADER");
}

#[test]
fn uncommitted_proposals_are_bounded() {
    let mut b = Bench::in_step(1);
    let part = Bytes::from(vec![0; crate::limits::UNCOMMITTED_BYTES_MAX / 2]);
    let mut propose = |counter, txn: &Bytes| {
        let packet = LeaderPacket::Proposal { zxid: z(2, counter), txn: txn.clone() };
        b.try_step(Input::LeaderPacket { link: LINK, packet }).1
    };
    assert_eq!(propose(1, &part), Ok(()));
    assert_eq!(propose(2, &part), Ok(()));
    let resign = propose(3, &Bytes::from_static(b"x")).unwrap_err();
    assert_eq!(resign.reason, "leader 3 breaks the protocol: too much is not committed before proposal 0x200000003");
}

// ---- broadcast ----

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
    b.step(Input::SnapReceived { link: LINK, zxid: z(1, 5) });
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

/// Of [`OLD`], changed.
fn changed(from: &str, to: &str) -> &'static str {
    let text = OLD.replace(from, to).replace("version=0", "version=200000001");
    assert_ne!(text, OLD);
    Box::leak(text.into_boxed_str())
}

fn activated(out: &[Output]) -> Vec<Bytes> {
    let config = |o: &Output| if let Output::Activate { config } = o { Some(config.clone()) } else { None };
    out.iter().filter_map(config).collect()
}

fn without_notes(out: Vec<Output>) -> Vec<Output> {
    out.into_iter().filter(|o| !matches!(o, Output::Note { .. })).collect()
}

/// A server of [`OLD`] that is up to date.
fn member(server: i64) -> Bench {
    let mut b = Bench::broadcast(server);
    b.core.ensemble = Ensemble::of(&MemberList::parse(OLD.as_bytes()).unwrap()).unwrap();
    b
}

#[test]
fn a_committed_reconfiguration_is_activated() {
    let text = changed("b:1:2", "b:1:7");
    let txn = reconfig(z(2, 1), text);
    let expected = vec![
        Output::Deliver { zxid: z(2, 1), txn: txn.clone() },
        Output::Activate { config: Bytes::from_static(text.as_bytes()) },
    ];
    let mut b = member(1);
    b.says(LeaderPacket::Proposal { zxid: z(2, 1), txn: txn.clone() });
    assert_eq!(b.core.ensemble.pending().map(Ensemble::version), Some(0x2_0000_0001), "both quorums from now on");
    let activate = LeaderPacket::CommitAndActivate { zxid: z(2, 1), designated: LEADER };
    assert_eq!(without_notes(b.says(activate)), expected);
    assert_eq!((b.core.ensemble.version(), b.core.ensemble.pending()), (0x2_0000_0001, None));

    let mut b = member(4);
    let inform = LeaderPacket::InformAndActivate { zxid: z(2, 1), designated: LEADER, txn: txn.clone() };
    let mut appended = vec![Output::Append { id: WriteId(3), zxid: z(2, 1), txn }];
    appended.extend(expected);
    assert_eq!(without_notes(b.says(inform)), appended);
}

#[test]
fn who_gets_another_part_or_leader_leaves() {
    let leaves = |server, text, designated| {
        let mut b = member(server);
        let txn = reconfig(z(2, 1), text);
        let packet = if server == 4 {
            LeaderPacket::InformAndActivate { zxid: z(2, 1), designated: ServerId(designated), txn }
        } else {
            b.says(LeaderPacket::Proposal { zxid: z(2, 1), txn });
            LeaderPacket::CommitAndActivate { zxid: z(2, 1), designated: ServerId(designated) }
        };
        let (out, result) = b.try_step(Input::LeaderPacket { link: LINK, packet });
        assert_eq!(activated(&out).len(), 1, "{text}");
        assert_eq!(b.core.designated, result.is_err().then_some(ServerId(designated)));
        result.is_err()
    };
    assert!(leaves(1, changed("server.1=a:1:2:participant", "server.1=a:1:2:observer"), 3), "demoted");
    assert!(leaves(4, changed("server.4=d:1:2:observer", "server.4=d:1:2:participant"), 3), "promoted");
    assert!(leaves(1, changed("server.3=c:1:2:participant\n", ""), 2), "another leads");
    assert!(!leaves(1, changed("server.2=b:1:2:participant\n", ""), 3), "another server went");
    assert!(!leaves(1, changed("server.1=a:1:2:participant\n", ""), 3), "it stays without a vote");
}

#[test]
fn what_was_pending_goes_with_a_cut_of_the_log() {
    let mut b = member(1);
    b.says(LeaderPacket::Proposal { zxid: z(2, 1), txn: reconfig(z(2, 1), changed("b:1:2", "b:1:7")) });
    b.core.forget_pending(z(2, 1));
    assert!(b.core.ensemble.pending().is_some(), "it is kept");
    b.core.forget_pending(z(1, 5));
    assert!(b.core.ensemble.pending().is_none());
}

#[test]
fn only_a_reconfiguration_can_be_activated() {
    let mut b = Bench::broadcast(1);
    b.says(proposal(z(2, 1)));
    let packet = LeaderPacket::CommitAndActivate { zxid: z(2, 1), designated: LEADER };
    let (_, result) = b.try_step(Input::LeaderPacket { link: LINK, packet });
    assert_eq!(
        result.unwrap_err().reason,
        "leader 3 breaks the protocol: 0x200000001 is to be activated and is no reconfiguration"
    );
}

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
            state: farrier_proto::quorum::ServerState::Following,
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
