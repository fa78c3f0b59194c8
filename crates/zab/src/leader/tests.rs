//! A leader among made-up learners: what it puts out, to the letter.

mod broadcast;
mod hand_over;
mod random;
mod reconfiguration;

use crate::config::{Config, Durable, Ensemble, QuorumVerifier, Recovering};
use crate::history::History;
use crate::io::{Input, LinkId, LinkKind, Located, Output, Outputs, ReadId, Role, SyncTicket, WriteId};
use crate::limits::LINK_UNFLUSHED_MAX;
use crate::peer::{Peer, Phase};
use bytes::Bytes;
use farrier_proto::membership::MemberList;
use farrier_proto::quorum::{ForwardedRequest, Identities, LeaderPacket, LearnerInfo, LearnerPacket};
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId, SessionId, Zxid};

const TICK: u64 = 2000;

struct Run {
    peer: Peer,
    now: u64,
    written: WriteId,
    read: ReadId,
}

/// Server 3 of 1, 2 and 3; 4 observes.
fn setup(epoch: u32, logged: &[(u32, u32)], config: impl FnOnce(&mut Config)) -> Run {
    let mut settings = Config::new(ServerId(3));
    config(&mut settings);
    let voters = [1, 2, 3].map(ServerId).into();
    let text = Bytes::from_static(b"version=0");
    let ensemble = Ensemble::new(0, voters, [ServerId(4)].into(), QuorumVerifier::Majority, text).unwrap();
    let durable = Durable {
        accepted: AcceptedEpoch(epoch),
        current: CurrentEpoch(epoch),
        last_logged: Zxid::ZERO,
        recovering: Recovering::No,
    };
    let mut peer = Peer::new(settings, ensemble, durable);
    let history = &mut peer.core_mut().history;
    for (epoch, counter) in logged {
        history.append(Zxid::new(*epoch, *counter), Bytes::from_static(b"t"));
    }
    while history.deliver_next().is_some() {}
    Run { peer, now: 0, written: WriteId(0), read: ReadId(0) }
}

fn z(zxid: Zxid) -> String {
    format!("{}:{}", zxid.epoch(), zxid.counter())
}

fn leader_packet(packet: LeaderPacket) -> String {
    match packet {
        LeaderPacket::LeaderInfo { epoch, protocol_version, .. } => format!("LEADERINFO {epoch} {protocol_version:#x}"),
        LeaderPacket::Diff { zxid } => format!("DIFF {}", z(zxid)),
        LeaderPacket::Trunc { zxid } => format!("TRUNC {}", z(zxid)),
        LeaderPacket::Snap { zxid } => format!("SNAP {}", z(zxid)),
        LeaderPacket::NewLeader { zxid, config } => {
            let version = MemberList::version_of(&config);
            let of = if version == 0 { String::new() } else { format!(" of {version:x}") };
            format!("NEWLEADER {}{of}", z(zxid))
        }
        LeaderPacket::UpToDate => "UPTODATE".into(),
        LeaderPacket::Proposal { zxid, .. } => format!("PROPOSAL {}", z(zxid)),
        LeaderPacket::Commit { zxid } => format!("COMMIT {}", z(zxid)),
        LeaderPacket::Inform { zxid, .. } => format!("INFORM {}", z(zxid)),
        LeaderPacket::Ping { zxid } => format!("PING {}", z(Zxid::from_wire(zxid))),
        LeaderPacket::Revalidate { session, valid } => format!("REVALIDATE {session} {valid}"),
        LeaderPacket::Sync => "SYNC".into(),
        LeaderPacket::CommitAndActivate { .. } | LeaderPacket::InformAndActivate { .. } => panic!("no reconfiguration"),
    }
}

impl Run {
    fn lead(&mut self) -> Vec<String> {
        let mut out = Outputs::default();
        self.peer.lead(self.now, &mut out);
        self.show(out)
    }

    fn step(&mut self, input: Input) -> Vec<String> {
        let mut out = Outputs::default();
        self.peer.step(self.now, input, &mut out);
        self.show(out)
    }

    /// Outputs without notes, one line each; packets are `link> PACKET`.
    fn show(&mut self, out: Outputs) -> Vec<String> {
        let mut lines = Vec::new();
        for output in out.list {
            lines.push(match output {
                Output::Note { .. } | Output::Notify { .. } => continue,
                Output::SendLearner { link, packet } => format!("{}> {}", link.0, leader_packet(packet)),
                Output::SendSnapshot { link, zxid } => format!("{}> SNAP {} + state", link.0, z(zxid)),
                Output::ReportFlush { link } => format!("{} flush?", link.0),
                Output::CloseLink { link, reason } => {
                    format!("{} close: {}", link.0, reason.split(':').next().unwrap())
                }
                Output::Append { id, zxid, .. } => {
                    self.written = id;
                    format!("append {}", z(zxid))
                }
                Output::RaiseRecovering { id } => {
                    self.written = id;
                    "recovering".into()
                }
                Output::SaveAcceptedEpoch { id, epoch } => {
                    self.written = id;
                    format!("accepted {}", epoch.0)
                }
                Output::SaveCurrentEpoch { id, epoch } => {
                    self.written = id;
                    format!("current {}", epoch.0)
                }
                Output::Locate { read, link, zxid } => {
                    self.read = read;
                    format!("{} locate {}", link.0, z(zxid))
                }
                Output::ReadTxns { read, link, after, to } => {
                    self.read = read;
                    format!("{} read {}..{}", link.0, z(after), z(to))
                }
                Output::Deliver { zxid, .. } => format!("deliver {}", z(zxid)),
                Output::Role(Role::Leading { epoch }) => format!("leading {epoch}"),
                Output::Role(Role::Looking) => "looking".into(),
                Output::Activate { config } => format!("activate {:x}", MemberList::version_of(&config)),
                Output::FromLearner { link, server, packet } => {
                    let what = match packet {
                        LearnerPacket::Ping { .. } => "PING",
                        LearnerPacket::Request(_) => "REQUEST",
                        LearnerPacket::Revalidate { .. } => "REVALIDATE",
                        other => panic!("{other:?} is not for the replica"),
                    };
                    format!("from {} on {}: {what}", server.0, link.0)
                }
                Output::LearnerGone { link } => format!("{} gone", link.0),
                Output::Synced { ticket } => format!("synced {}", ticket.0),
                other => panic!("a leader does not put out {other:?}"),
            });
        }
        lines
    }

    fn up(&mut self, link: u64) -> Vec<String> {
        self.step(Input::LinkUp { link: LinkId(link), kind: LinkKind::Learner })
    }

    fn down(&mut self, link: u64) -> Vec<String> {
        self.step(Input::LinkDown { link: LinkId(link) })
    }

    fn says(&mut self, link: u64, packet: LearnerPacket) -> Vec<String> {
        self.step(Input::LearnerPacket { link: LinkId(link), packet })
    }

    fn follower(&mut self, link: u64, server: i64, accepted: u32) -> Vec<String> {
        let packet = LearnerPacket::FollowerInfo { accepted: AcceptedEpoch(accepted), info: info(server) };
        self.says(link, packet)
    }

    fn observer(&mut self, link: u64, server: i64) -> Vec<String> {
        self.says(link, LearnerPacket::ObserverInfo { accepted: AcceptedEpoch(0), info: info(server) })
    }

    fn ack_epoch(&mut self, link: u64, last: Zxid, current: Option<u32>) -> Vec<String> {
        let current = current.map(CurrentEpoch);
        self.says(link, LearnerPacket::AckEpoch { last_logged: last.to_wire(), current })
    }

    fn ack(&mut self, link: u64, epoch: u32, counter: u32) -> Vec<String> {
        self.says(link, LearnerPacket::Ack { zxid: Zxid::new(epoch, counter) })
    }

    fn pong(&mut self, link: u64) -> Vec<String> {
        self.says(link, LearnerPacket::Ping { zxid: 0, touched: Vec::new() })
    }

    /// Everything that was written so far is durable.
    fn durable(&mut self) -> Vec<String> {
        self.step(Input::Durable { id: self.written })
    }

    fn flushed(&mut self, link: u64) -> Vec<String> {
        self.step(Input::Flushed { link: LinkId(link) })
    }

    fn timer(&mut self, after: u64) -> Vec<String> {
        self.now += after;
        self.step(Input::Timer)
    }

    fn propose(&mut self, epoch: u32, counter: u32, size: usize) -> Vec<String> {
        let mut out = Outputs::default();
        let txn = Bytes::from(vec![7; size]);
        self.peer.propose(self.now, Zxid::new(epoch, counter), txn, &mut out);
        self.show(out)
    }

    fn sync(&mut self, ticket: u64) -> Vec<String> {
        let mut out = Outputs::default();
        assert!(self.peer.sync(self.now, SyncTicket(ticket), &mut out));
        self.show(out)
    }

    fn sync_learner(&mut self, link: u64) -> Vec<String> {
        let mut out = Outputs::default();
        self.peer.sync_learner(self.now, LinkId(link), &mut out);
        self.show(out)
    }

    fn answer_revalidate(&mut self, link: u64, session: i64, after: Zxid) -> Vec<String> {
        let mut out = Outputs::default();
        self.peer.answer_revalidate(self.now, LinkId(link), SessionId(session), true, after, &mut out);
        self.show(out)
    }

    /// Leads, with server 2 up to date on link 2.
    fn establish(&mut self) -> u32 {
        let last = self.peer.status().last_logged;
        self.lead();
        self.up(2);
        let accepted = self.peer.core_mut().accepted.0;
        self.follower(2, 2, accepted);
        self.durable();
        self.ack_epoch(2, last, Some(accepted));
        self.durable();
        self.ack(2, accepted + 1, 0);
        self.ack(2, accepted + 1, 0);
        assert_eq!(self.peer.status().epoch, Some(accepted + 1));
        accepted + 1
    }

    /// Another learner introduces itself and promises: what it gets for that.
    fn join(&mut self, link: u64, server: i64, last: Zxid) -> Vec<String> {
        self.up(link);
        self.follower(link, server, 0);
        self.ack_epoch(link, last, None)
    }
}

fn info(server: i64) -> LearnerInfo {
    LearnerInfo { server: Some(ServerId(server)), protocol_version: 0x10000, config_version: 0, cumulative: false }
}

fn request() -> LearnerPacket {
    LearnerPacket::Request(ForwardedRequest {
        session: SessionId(1),
        cxid: 1,
        op: 1,
        body: Bytes::new(),
        identities: Identities::NONE,
    })
}

const NONE: [&str; 0] = [];

// ---- discovery ----

#[test]
fn cold_start_of_three() {
    let mut run = setup(0, &[], |_| {});
    assert_eq!(run.lead(), NONE);
    assert_eq!(run.up(11), NONE);
    assert_eq!(run.follower(11, 2, 0), ["accepted 1"]);
    assert_eq!(run.up(12), NONE);
    assert_eq!(run.follower(12, 1, 0), NONE, "nobody hears of an epoch that is not promised here");
    assert_eq!(run.durable(), ["11> LEADERINFO 1 0x10000", "12> LEADERINFO 1 0x10000"]);
    assert_eq!(run.peer.status().phase, Phase::Discovery);
    assert_eq!(run.ack_epoch(11, Zxid::ZERO, Some(0)), ["current 1", "11> DIFF 0:0", "11> NEWLEADER 1:0"]);
    assert_eq!(run.peer.status().phase, Phase::Synchronization);
    assert_eq!(run.ack(11, 1, 0), NONE, "this server itself has not adopted the epoch yet");
    assert_eq!(run.peer.next_zxid(), None);
    assert_eq!(run.durable(), ["leading 1", "11> UPTODATE"]);
    assert_eq!(run.peer.next_zxid(), Some(Zxid::new(1, 1)));
    assert_eq!(run.ack(11, 1, 0), NONE);
    assert_eq!(run.ack_epoch(12, Zxid::ZERO, Some(0)), ["12> DIFF 0:0", "12> NEWLEADER 1:0"]);
    assert_eq!(run.ack(12, 1, 0), ["12> UPTODATE"]);
    assert_eq!(run.ack(12, 1, 0), NONE);
}

#[test]
fn the_epoch_is_above_every_promise_heard_of() {
    let mut run = setup(4, &[(2, 1)], |_| {});
    run.lead();
    run.up(14);
    let packet = LearnerPacket::ObserverInfo { accepted: AcceptedEpoch(9), info: info(4) };
    assert_eq!(run.says(14, packet), NONE, "an observer raises the epoch and closes nothing");
    run.up(11);
    assert_eq!(run.follower(11, 1, 6), ["accepted 10"]);
}

#[test]
fn an_ensemble_of_one_is_established_alone() {
    let mut run = setup(1, &[(1, 1)], |_| {});
    let config = Config::new(ServerId(3));
    let voters = [ServerId(3)].into();
    let ensemble =
        Ensemble::new(0, voters, Default::default(), QuorumVerifier::Majority, Bytes::from_static(b"version=0"));
    let durable = Durable {
        accepted: AcceptedEpoch(1),
        current: CurrentEpoch(1),
        last_logged: Zxid::new(1, 1),
        recovering: Recovering::No,
    };
    run.peer = Peer::new(config, ensemble.unwrap(), durable);
    assert_eq!(run.lead(), ["accepted 2"]);
    assert_eq!(run.durable(), ["current 2"]);
    assert_eq!(run.durable(), ["leading 2"]);
    assert_eq!(run.propose(2, 1, 1), ["append 2:1"]);
    assert_eq!(run.sync(5), NONE, "what was proposed before is not delivered");
    assert_eq!(run.durable(), ["deliver 2:1", "synced 5"]);
}

#[test]
fn a_fresher_learner_ends_a_leadership_that_is_not_established() {
    for (last, current, ends) in [
        (Zxid::new(2, 4), 2, false),
        (Zxid::new(2, 5), 2, true),
        (Zxid::new(1, 1), 3, true),
        (Zxid::new(2, 9), 1, false),
    ] {
        let mut run = setup(3, &[(1, 1), (2, 1), (2, 2), (2, 3), (2, 4)], |_| {});
        run.peer.core_mut().current = CurrentEpoch(2);
        run.lead();
        run.up(11);
        run.follower(11, 1, 3);
        run.durable();
        let outputs = run.ack_epoch(11, last, Some(current));
        assert_eq!(outputs.contains(&"looking".into()), ends, "{last} of epoch {current}");
    }
}

/// Nobody may elect it (a group of weight 0), so a leader that gave way to it would do so for ever.
#[test]
fn a_fresher_voter_without_weight_neither_ends_a_leadership_nor_counts() {
    let mut run = setup(1, &[(1, 1)], |_| {});
    let groups = [(1, [1, 2, 3].map(ServerId).into()), (2, [ServerId(5)].into())].into();
    let verifier = QuorumVerifier::Hierarchical { groups, weights: [(ServerId(5), 0)].into() };
    let (voters, text) = ([1, 2, 3, 5].map(ServerId).into(), Bytes::from_static(b"version=0"));
    run.peer.core_mut().ensemble = Ensemble::new(0, voters, [].into(), verifier, text).unwrap();
    run.lead();
    for link in [1, 5] {
        run.up(link);
        run.follower(link, link.cast_signed(), 1);
    }
    run.durable();
    assert_eq!(run.ack_epoch(5, Zxid::new(1, 2), Some(1)), NONE);
    let out = run.ack_epoch(1, Zxid::new(1, 1), Some(1));
    assert!(out.contains(&"5> TRUNC 1:1".to_owned()), "{out:?}");
}

#[test]
fn a_promise_given_before_does_not_count_but_is_synchronized() {
    let mut run = setup(1, &[(1, 1)], |_| {});
    run.lead();
    for link in [1, 2] {
        run.up(link);
        run.follower(link, link.cast_signed(), 2);
    }
    run.durable();
    assert_eq!(run.ack_epoch(1, Zxid::new(1, 1), None), NONE);
    assert_eq!(
        run.ack_epoch(2, Zxid::new(1, 1), Some(1)),
        ["current 3", "1> DIFF 1:1", "1> NEWLEADER 3:0", "2> DIFF 1:1", "2> NEWLEADER 3:0"]
    );
}

#[test]
fn who_is_turned_away() {
    let mut run = setup(1, &[(1, 1)], |_| {});
    run.lead();
    run.up(1);
    assert_eq!(run.follower(1, 3, 0), ["1 close: it claims to be server 3, which is this server"]);
    run.up(2);
    let newer = LearnerInfo { config_version: 5, ..info(1) };
    let packet = LearnerPacket::FollowerInfo { accepted: AcceptedEpoch(1), info: newer };
    assert_eq!(run.says(2, packet), ["2 close: it knows configuration 0x5, which is newer than 0x0 here"]);
    run.up(3);
    let older = LearnerInfo { protocol_version: 1, ..info(1) };
    let packet = LearnerPacket::FollowerInfo { accepted: AcceptedEpoch(1), info: older };
    assert_eq!(run.says(3, packet), ["3 close: its protocol version 0x1 is older than ZooKeeper 3.4"]);
    run.up(4);
    assert_eq!(run.follower(4, 1, 0x7fff_ffff), ["4 close: PeerViolation"]);
    let stale = Input::LinkUp { link: LinkId(9), kind: LinkKind::Leader(ServerId(1)) };
    assert_eq!(run.step(stale), ["9 close: this server leads by now"]);
    run.up(5);
    assert_eq!(run.follower(5, 1, 1), ["accepted 2"]);
    run.up(6);
    assert_eq!(run.follower(6, 1, 1), ["5 close: server 1 came again on another link"]);
    assert_eq!(run.ack(5, 2, 0), NONE, "a packet of a link that is closed");
    assert_eq!(run.down(5), NONE);
    assert_eq!(run.ack_epoch(6, Zxid::ZERO, None), ["6 close: PeerViolation"], "no epoch was offered yet");
}

// ---- what a learner gets ----

const LOGGED: [(u32, u32); 9] = [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 1), (2, 2), (2, 3), (2, 4)];

fn pairs(zxids: &[&str]) -> Vec<String> {
    zxids.iter().flat_map(|z| [format!("1> PROPOSAL {z}"), format!("1> COMMIT {z}")]).collect()
}

#[test]
fn the_difference_that_apache_would_send() {
    let behind = ["1:4", "1:5", "2:1", "2:2", "2:3", "2:4"];
    for (peer, first, rest) in [
        (Zxid::new(2, 4), "1> DIFF 2:4", &behind[6..]),
        (Zxid::new(2, 2), "1> DIFF 2:4", &behind[4..]),
        (Zxid::new(2, 9), "1> TRUNC 2:4", &behind[6..]),
        (Zxid::new(2, 0), "1> DIFF 2:4", &behind[2..]),
        (Zxid::new(1, 5), "1> DIFF 2:4", &behind[2..]),
        (Zxid::new(1, 3), "1> DIFF 2:4", &behind),
        (Zxid::new(1, 9), "1> SNAP 2:4 + state", &behind[6..]),
        (Zxid::new(1, 0), "1> SNAP 2:4 + state", &behind[6..]),
        (Zxid::ZERO, "1> SNAP 2:4 + state", &behind[6..]),
        (Zxid::new(3, 0), "1> SNAP 2:4 + state", &behind[6..]),
        (Zxid::from_wire(-1), "1> SNAP 2:4 + state", &behind[6..]),
    ] {
        let mut run = setup(2, &LOGGED, |_| {});
        run.establish();
        let mut got = run.join(1, 1, peer);
        if got.last().is_some_and(|l| l == "1 flush?") {
            got.pop();
            got.extend(run.flushed(1));
        }
        let mut wanted = vec![first.to_string()];
        wanted.extend(pairs(rest));
        wanted.push("1> NEWLEADER 3:0".into());
        assert_eq!(got, wanted, "of a learner that has {peer}");
    }
}

#[test]
fn a_cut_needs_a_transaction_to_cut_behind() {
    let mut run = setup(2, &[(1, 1), (2, 0)], |_| {});
    run.establish();
    assert_eq!(run.join(1, 1, Zxid::new(2, 7)), ["1> SNAP 2:0 + state", "1 flush?"]);
    let mut run = setup(2, &[], |_| {});
    run.establish();
    assert_eq!(run.join(1, 1, Zxid::new(1, 7)), ["1> SNAP 0:0 + state", "1 flush?"]);
}

#[test]
fn a_snapshot_can_be_forced() {
    let mut run = setup(2, &LOGGED, |c| c.force_snapshot_sync = true);
    run.establish_with_snapshot();
    assert_eq!(run.join(1, 1, Zxid::new(2, 4)), ["1> SNAP 2:4 + state", "1 flush?"]);
}

impl Run {
    fn establish_with_snapshot(&mut self) {
        self.lead();
        self.up(2);
        self.follower(2, 2, 2);
        self.durable();
        assert_eq!(self.ack_epoch(2, Zxid::new(2, 4), Some(2)), ["current 3", "2> SNAP 2:4 + state", "2 flush?"]);
        assert_eq!(self.flushed(2), ["2> NEWLEADER 3:0"]);
        self.durable();
        assert_eq!(self.ack(2, 3, 0), ["leading 3", "2> UPTODATE"]);
    }

    fn located(&mut self, link: u64, before: Option<Zxid>, bytes_behind: u64, snapshot_bytes: u64) -> Vec<String> {
        let located = Some(Located { before, bytes_behind, snapshot_bytes });
        self.step(Input::Located { read: self.read, link: LinkId(link), located })
    }

    fn read(&mut self, link: u64, zxids: &[(u32, u32)]) -> Vec<String> {
        let txns = zxids.iter().map(|(e, c)| (Zxid::new(*e, *c), Bytes::from_static(b"t"))).collect();
        self.step(Input::TxnsRead { read: self.read, link: LinkId(link), txns })
    }

    /// Nothing of the history is in memory, as after a start.
    fn forget_history(&mut self, last: Zxid) {
        self.peer.core_mut().history = History::new(last);
    }
}

#[test]
fn what_is_not_in_memory_is_looked_for_on_disk() {
    let peer = Zxid::new(1, 5);
    for (before, bytes, snapshot, difference) in [
        (Some(peer), 330, 1000, true),
        (Some(peer), 331, 1000, false),
        (Some(peer), 331, 0, true),
        (Some(Zxid::new(1, 4)), 1, 1000, false),
        (None, 1, 1000, false),
    ] {
        let mut run = setup(2, &[], |_| {});
        run.forget_history(Zxid::new(2, 4));
        run.establish();
        assert_eq!(run.join(1, 1, peer), ["1 locate 1:5"]);
        let got = run.located(1, before, bytes, snapshot);
        if difference {
            assert_eq!(got, ["1> DIFF 2:4", "1 read 1:5..2:4"]);
            assert_eq!(run.read(1, &[(2, 1), (2, 2)])[..3], ["1> PROPOSAL 2:1", "1> COMMIT 2:1", "1> PROPOSAL 2:2"]);
            let got = run.read(1, &[(2, 3), (2, 4)]);
            assert_eq!(got.last().map(String::as_str), Some("1> NEWLEADER 3:0"));
        } else {
            assert_eq!(got, ["1> SNAP 2:4 + state", "1 flush?"]);
        }
    }
    let mut run = setup(2, &[], |c| c.log_diff_permille = None);
    run.forget_history(Zxid::new(2, 4));
    run.establish();
    assert_eq!(run.join(1, 1, peer), ["1> SNAP 2:4 + state", "1 flush?"]);
}

#[test]
fn a_log_that_cannot_be_read_makes_a_snapshot_of_the_next_attempt() {
    for answer in [&[][..], &[(2, 2)], &[(2, 1), (2, 2), (2, 3), (2, 4), (2, 5)]] {
        let mut run = setup(2, &[], |_| {});
        run.forget_history(Zxid::new(2, 4));
        run.establish();
        run.join(1, 1, Zxid::new(1, 5));
        run.located(1, Some(Zxid::new(1, 5)), 1, 0);
        let got = run.read(1, answer);
        assert_eq!(
            got.last().map(String::as_str),
            Some("1 close: what it lacks cannot be read here; the next time it gets a snapshot")
        );
        assert_eq!(run.join(5, 1, Zxid::new(1, 5)), ["5> SNAP 2:4 + state", "5 flush?"]);
    }
}

#[test]
fn answers_to_reads_of_a_link_that_is_gone_are_ignored() {
    let mut run = setup(2, &[], |_| {});
    run.forget_history(Zxid::new(2, 4));
    run.establish();
    run.join(1, 1, Zxid::new(1, 5));
    run.down(1);
    assert_eq!(run.located(1, Some(Zxid::new(1, 5)), 1, 0), NONE);
    assert_eq!(run.join(5, 1, Zxid::new(1, 5)), ["5 locate 1:5"]);
    run.located(5, Some(Zxid::new(1, 5)), 1, 0);
    let input = Input::TxnsRead { read: ReadId(999), link: LinkId(5), txns: Vec::new() };
    assert_eq!(run.step(input), NONE);
    assert_eq!(run.read(5, &[(2, 1), (2, 2), (2, 3), (2, 4)]).len(), 9);
}

#[test]
fn only_learners_without_a_vote_wait_for_their_turn() {
    let mut run = setup(2, &LOGGED, |c| c.snap_syncs_max = 1);
    run.establish();
    run.up(4);
    run.observer(4, 4);
    assert_eq!(run.ack_epoch(4, Zxid::ZERO, None), ["4> SNAP 2:4 + state", "4 flush?"]);
    assert_eq!(run.join(5, 9, Zxid::ZERO), ["5 close: too many learners are synchronized at once"]);
    assert_eq!(run.join(1, 1, Zxid::ZERO), ["1> SNAP 2:4 + state", "1 flush?"]);
    run.flushed(1);
    run.flushed(4);
    assert_eq!(run.join(6, 9, Zxid::ZERO), ["6> SNAP 2:4 + state", "6 flush?"]);
}

#[test]
fn what_is_proposed_while_a_learner_is_synchronized_comes_behind_newleader() {
    let mut run = setup(1, &[(1, 1)], |_| {});
    run.establish();
    run.propose(2, 1, 1);
    assert_eq!(run.join(1, 1, Zxid::ZERO), ["1> SNAP 1:1 + state", "1 flush?"]);
    assert_eq!(run.propose(2, 2, 1), ["append 2:2", "2> PROPOSAL 2:2"]);
    run.durable();
    assert_eq!(run.ack(2, 2, 1), ["deliver 2:1", "2> COMMIT 2:1"]);
    assert_eq!(
        run.flushed(1),
        ["1> NEWLEADER 2:0", "1> PROPOSAL 2:1", "1> COMMIT 2:1", "1> PROPOSAL 2:2"],
        "no COMMIT behind NEWLEADER is for a PROPOSAL before it"
    );
    assert_eq!(run.ack(1, 2, 2), NONE, "an old learner may acknowledge proposals before NEWLEADER");
    assert_eq!(run.ack(1, 2, 0), ["1> UPTODATE", "deliver 2:2", "1> COMMIT 2:2", "2> COMMIT 2:2"]);
}

#[test]
fn a_late_joiner_gets_what_is_committed_before_and_what_is_not_behind_newleader() {
    let mut run = setup(1, &[(1, 1)], |_| {});
    run.establish();
    run.propose(2, 1, 1);
    run.durable();
    run.ack(2, 2, 1);
    run.propose(2, 2, 1);
    assert_eq!(
        run.join(1, 1, Zxid::new(1, 1)),
        ["1> DIFF 2:1", "1> PROPOSAL 2:1", "1> COMMIT 2:1", "1> NEWLEADER 2:0", "1> PROPOSAL 2:2"]
    );
    assert_eq!(run.ack(1, 2, 0), ["1> UPTODATE"]);
    assert_eq!(run.ack(1, 2, 2), NONE);
    assert_eq!(run.durable(), ["deliver 2:2", "1> COMMIT 2:2", "2> COMMIT 2:2"]);
}

#[test]
fn what_came_to_be_committed_before_the_end_of_a_synchronization_precedes_uptodate() {
    let mut run = setup(1, &[(1, 1)], |_| {});
    run.establish();
    run.join(1, 1, Zxid::new(1, 1));
    run.propose(2, 1, LINK_UNFLUSHED_MAX);
    run.durable();
    assert_eq!(run.ack(2, 2, 1), ["deliver 2:1"], "both links are full");
    assert_eq!(run.flushed(2), ["2> COMMIT 2:1"]);
    assert_eq!(run.ack(1, 2, 0), NONE);
    assert_eq!(run.flushed(1), ["1> COMMIT 2:1", "1> UPTODATE"]);
}

#[test]
fn an_observer_is_informed_once_it_is_up_to_date() {
    let mut run = setup(1, &[(1, 1), (1, 2)], |_| {});
    run.establish();
    run.up(4);
    run.observer(4, 4);
    assert_eq!(
        run.ack_epoch(4, Zxid::new(1, 1), Some(1)),
        ["4> DIFF 1:2", "4> PROPOSAL 1:2", "4> COMMIT 1:2", "4> NEWLEADER 2:0"]
    );
    assert_eq!(run.propose(2, 1, 1), ["append 2:1", "2> PROPOSAL 2:1"]);
    run.durable();
    assert_eq!(run.ack(2, 2, 1), ["deliver 2:1", "2> COMMIT 2:1"]);
    assert_eq!(run.ack(4, 2, 0), ["4> UPTODATE", "4> INFORM 2:1"]);
    run.propose(2, 2, 1);
    assert_eq!(run.durable(), NONE, "one copy of three");
    assert_eq!(run.ack(2, 2, 2), ["deliver 2:2", "2> COMMIT 2:2", "4> INFORM 2:2"]);
}

#[test]
fn a_slow_learner_holds_up_nobody_and_reads_from_disk() {
    let half = LINK_UNFLUSHED_MAX / 2;
    let mut run = setup(1, &[(1, 1)], |c| c.window_txns = 1);
    run.establish();
    run.join(1, 1, Zxid::new(1, 1));
    run.ack(1, 2, 0);
    run.ack(1, 2, 0);
    assert_eq!(run.propose(2, 1, half), ["append 2:1", "1> PROPOSAL 2:1", "2> PROPOSAL 2:1"]);
    assert_eq!(run.propose(2, 2, half), ["append 2:2", "1> PROPOSAL 2:2", "1 flush?", "2> PROPOSAL 2:2", "2 flush?"]);
    assert_eq!(run.flushed(2), NONE);
    run.durable();
    assert_eq!(run.ack(2, 2, 2), ["deliver 2:1", "deliver 2:2", "2> COMMIT 2:1", "2> COMMIT 2:2"]);
    for counter in 3..=6 {
        assert_eq!(run.propose(2, counter, 1), [format!("append 2:{counter}"), format!("2> PROPOSAL 2:{counter}")]);
        run.durable();
        assert_eq!(run.ack(2, 2, counter), [format!("deliver 2:{counter}"), format!("2> COMMIT 2:{counter}")]);
    }
    assert_eq!(run.flushed(1), ["1> COMMIT 2:1", "1> COMMIT 2:2", "1 read 2:2..2:5"]);
    assert_eq!(run.propose(2, 7, 1), ["append 2:7", "2> PROPOSAL 2:7"], "what is read comes first");
    assert_eq!(
        run.read(1, &[(2, 3), (2, 4)]),
        ["1> PROPOSAL 2:3", "1> COMMIT 2:3", "1> PROPOSAL 2:4", "1> COMMIT 2:4", "1 read 2:4..2:5"]
    );
    assert_eq!(
        run.read(1, &[(2, 5)]),
        ["1> PROPOSAL 2:5", "1> COMMIT 2:5", "1> PROPOSAL 2:6", "1> COMMIT 2:6", "1> PROPOSAL 2:7"]
    );
}

#[test]
fn only_what_the_own_log_has_is_read_from_it() {
    let mut run = setup(1, &[(1, 1)], |c| c.window_txns = 0);
    run.establish();
    run.join(1, 1, Zxid::new(1, 1));
    run.ack(1, 2, 0);
    run.up(4);
    run.observer(4, 4);
    assert_eq!(run.ack_epoch(4, Zxid::ZERO, None), ["4> SNAP 1:1 + state", "4 flush?"]);
    run.propose(2, 1, 1);
    run.propose(2, 2, 1);
    run.ack(1, 2, 2);
    assert_eq!(run.ack(2, 2, 2)[..2], ["deliver 2:1", "deliver 2:2"], "this server's disk is slow");
    assert_eq!(run.flushed(4), NONE, "what it lacks is neither in memory nor on disk");
    assert_eq!(run.durable(), ["4 read 1:1..2:2"]);
    assert_eq!(
        run.read(4, &[(2, 1), (2, 2)]),
        ["4> PROPOSAL 2:1", "4> COMMIT 2:1", "4> PROPOSAL 2:2", "4> COMMIT 2:2", "4> NEWLEADER 2:0"],
        "so far behind, it is not time for NEWLEADER yet"
    );
}
