//! Scripts: a machine, a server that says what the script wants, and a clock that stands still between lines.

mod long_replies;
mod watching;

use super::*;
use crate::watch::WatchKind;
use farrier_proto::client::{ConnectResponse, EventType, ReplyHeader, SetWatches2, put_event, put_reply};
use farrier_proto::jute::put_str;
use farrier_proto::{Reader, Stat};
use proptest::prelude::*;

const TIMEOUT: Duration = Duration::from_secs(12);

fn at(millis: u64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

fn settings(servers: u16) -> Settings {
    Settings {
        hosts: (1..=servers).map(|port| Host { name: "h".into(), port }).collect(),
        session_timeout: TIMEOUT,
        allow_read_only: false,
        renew_session: true,
        outstanding_max: 8,
        unsent_bytes_max: 1 << 20,
        request_max: 1000,
        reply_max: 100_000,
        identities: Vec::new(),
    }
}

/// A request as the server sees it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    xid: i32,
    op: OpCode,
    body: Vec<u8>,
}

struct Rig {
    machine: Machine,
    now: Time,
    link: LinkId,
    states: Vec<SessionState>,
    dials: Vec<Host>,
    hangups: usize,
    probes: Vec<usize>,
    events: Vec<WatchEvent>,
}

type Answer = oneshot::Receiver<Outcome>;

impl Rig {
    fn new(settings: Settings) -> Self {
        let machine = Machine::new(settings, 1, at(0));
        let mut rig = Self {
            machine,
            now: at(0),
            link: LinkId(0),
            states: Vec::new(),
            dials: Vec::new(),
            hangups: 0,
            probes: Vec::new(),
            events: Vec::new(),
        };
        rig.tick(0);
        rig
    }

    /// A machine with a session that a server gave at 0.
    fn connected(settings: Settings) -> Self {
        let mut rig = Self::new(settings);
        rig.handshake();
        rig.accept(1, 0xabc, TIMEOUT, false);
        rig.states.clear();
        rig
    }

    fn act(&mut self) {
        let mut outputs = Vec::new();
        self.machine.take_outputs(&mut outputs);
        for output in outputs {
            match output {
                Output::Dial { link, host, .. } => {
                    self.link = link;
                    self.dials.push(host);
                }
                Output::Hangup => self.hangups += 1,
                Output::Probe { index, .. } => self.probes.push(index),
                Output::Answer { reply, outcome } => drop(reply.send(outcome)),
                Output::Event { queue, event, last } => {
                    self.events.push(event.clone());
                    queue.push(event);
                    if last {
                        queue.end();
                    }
                }
                Output::End { queue } => queue.end(),
                Output::State(state) => self.states.push(state),
            }
        }
    }

    /// Time goes on to this millisecond.
    fn tick(&mut self, millis: u64) {
        self.now = at(millis);
        self.machine.tick(self.now);
        self.act();
    }

    /// Time goes on until the next server is dialled.
    fn dial(&mut self) {
        let before = self.dials.len();
        for _ in 0..100 {
            if self.dials.len() > before {
                return;
            }
            self.now = self.now.max(self.machine.next_deadline());
            self.machine.tick(self.now);
            self.act();
        }
        panic!("nobody is dialled: {:?}", self.machine.phase);
    }

    fn sent(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.machine.take_bytes(self.now, &mut bytes);
        bytes
    }

    /// The connection stands; what the client asks for first.
    fn handshake(&mut self) -> (SessionId, Vec<u8>, Zxid) {
        self.machine.connected(self.now, self.link);
        let bytes = self.sent();
        let request = ConnectRequest::read(&mut Reader::new(&bytes[4..])).expect("a connect request");
        (request.session, request.password.expect("a password").into_owned(), request.last_zxid_seen)
    }

    fn accept(&mut self, password: u8, session: i64, timeout: Duration, read_only: bool) {
        let mut bytes = Vec::new();
        let start = begin_frame(&mut bytes);
        let (timeout, session) = (millis(timeout), SessionId(session));
        ConnectResponse { timeout, session, password: [password; 16], read_only: Some(read_only) }.write(&mut bytes);
        end_frame(&mut bytes, start);
        self.receive(&bytes);
    }

    /// What the server got since the last look.
    fn requests(&mut self) -> Vec<Seen> {
        let bytes = self.sent();
        let mut r = Reader::new(&bytes);
        let mut seen = Vec::new();
        while !r.is_empty() {
            let frame = r.buffer().expect("a whole frame").expect("not null");
            let mut f = Reader::new(frame);
            let header = RequestHeader::read(&mut f).expect("a header");
            let op = OpCode::from_code(header.op).expect("an operation");
            seen.push(Seen { xid: header.xid.0, op, body: f.rest().to_vec() });
        }
        seen
    }

    fn ops(&mut self) -> Vec<OpCode> {
        self.requests().into_iter().map(|r| r.op).collect()
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.machine.received(self.now, self.link, bytes);
        self.act();
    }

    fn reply(&mut self, xid: i32, zxid: i64, result: Result<(), ErrorCode>, body: &[u8]) {
        let mut bytes = Vec::new();
        put_reply(&mut bytes, Xid(xid), zxid, result, |out| out.extend_from_slice(body));
        self.receive(&bytes);
    }

    fn lose(&mut self) {
        self.machine.lost(self.now, self.link, "cut");
        self.act();
    }

    fn ask(&mut self, op: OpCode) -> Answer {
        self.ask_until(op, Time::MAX)
    }

    fn ask_until(&mut self, op: OpCode, deadline: Time) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.machine
            .submit(self.now, deadline, op, Some(reply), None, |out| put_str(out, "/a"))
            .expect("there is room");
        answer
    }

    fn watch(&mut self, kind: WatchKind, path: &str) {
        let id = self.machine.fresh_id();
        self.machine.watches.arm(Registration { kind, path: path.into(), id, queue: Arc::default() });
    }
}

fn outcome(answer: &mut Answer) -> Outcome {
    answer.try_recv().expect("an answer")
}

fn waits(answer: &mut Answer) -> bool {
    matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty))
}

#[test]
fn a_session_begins_with_the_bytes_of_the_protocol() {
    let mut rig = Rig::new(Settings { session_timeout: Duration::from_secs(10), ..settings(1) });
    rig.machine.connected(rig.now, rig.link);
    let hex: String = rig.sent().iter().map(|b| format!("{b:02x}")).collect();
    let zeros = "00000000000000000000000000000000";
    assert_eq!(hex, format!("0000002d00000000000000000000000000002710000000000000000000000010{zeros}00"));
    assert_eq!(rig.machine.lease(), None);
    rig.now = at(5);
    rig.accept(7, 0x10, TIMEOUT, false);
    let server: Arc<str> = "h:1".into();
    let connected = SessionState::Connected { session: SessionId(0x10), server, read_only: false };
    assert_eq!(rig.states, [connected]);
    let lease = rig.machine.lease().expect("a session");
    assert_eq!((lease.since, lease.timeout), (at(0), TIMEOUT), "the request counts, not the answer");
}

#[test]
fn requests_go_out_at_once_and_answers_come_in_order() {
    let mut rig = Rig::connected(settings(1));
    let (mut a, mut b, mut c) = (rig.ask(OpCode::Delete), rig.ask(OpCode::Sync), rig.ask(OpCode::Delete));
    let seen = rig.requests();
    assert_eq!(seen.iter().map(|r| r.xid).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(seen[0].body, b"\0\0\0\x02/a");
    rig.reply(1, 5, Ok(()), b"");
    assert!(matches!(outcome(&mut a), Ok(Response::Nothing)) && waits(&mut b));
    // A refusal may overtake an answer.
    rig.reply(3, 0, Err(ErrorCode::NoAuth), b"");
    assert!(matches!(outcome(&mut c), Err(Failure::Refused(r)) if r.code == ErrorCode::NoAuth));
    rig.reply(2, 6, Ok(()), b"");
    assert!(matches!(outcome(&mut b), Ok(Response::Nothing)));
    assert_eq!(rig.machine.seen().to_wire(), 6);
    // Nothing else may.
    let mut d = rig.ask(OpCode::Delete);
    rig.sent();
    rig.reply(9, 7, Ok(()), b"");
    assert_eq!(rig.hangups, 1);
    assert!(matches!(outcome(&mut d), Err(Failure::Unknown { reason, .. }) if reason.contains("xid 9")));
}

#[test]
fn an_answer_before_its_request_was_sent_is_none() {
    let mut rig = Rig::connected(settings(1));
    let mut a = rig.ask(OpCode::Delete);
    rig.reply(1, 5, Ok(()), b"");
    assert_eq!(rig.hangups, 1);
    assert!(waits(&mut a), "it was not sent, so it waits for the next connection");
}

#[test]
fn a_lost_connection_leaves_sent_writes_unknown_and_refuses_what_is_behind() {
    let mut rig = Rig::connected(settings(2));
    let (mut read, mut write) = (rig.ask(OpCode::GetData), rig.ask(OpCode::SetData));
    rig.sent();
    let (mut unsent_write, mut unsent_read) = (rig.ask(OpCode::Create2), rig.ask(OpCode::GetData));
    rig.lose();
    assert!(matches!(outcome(&mut read), Err(Failure::NotDone { again: true, .. })));
    assert!(matches!(outcome(&mut write), Err(Failure::Unknown { .. })));
    assert!(matches!(outcome(&mut unsent_write), Err(Failure::NotDone { again: false, .. })));
    assert!(waits(&mut unsent_read));
    assert_eq!(rig.states, [SessionState::Suspended { session: SessionId(0xabc) }]);
    let mut later = rig.ask(OpCode::SetData);
    rig.dial();
    assert_eq!(rig.handshake().0, SessionId(0xabc));
    rig.accept(1, 0xabc, TIMEOUT, false);
    let seen = rig.requests();
    assert_eq!(seen.iter().map(|r| r.op).collect::<Vec<_>>(), [OpCode::GetData, OpCode::SetData]);
    rig.reply(seen[0].xid, 3, Err(ErrorCode::NoNode), b"");
    rig.reply(seen[1].xid, 4, Err(ErrorCode::NoNode), b"");
    assert!(outcome(&mut unsent_read).is_err() && outcome(&mut later).is_err());
}

#[test]
fn writes_that_were_not_sent_go_to_the_next_server() {
    let mut rig = Rig::connected(settings(2));
    let mut read = rig.ask(OpCode::GetData);
    rig.sent();
    let mut write = rig.ask(OpCode::SetData);
    drop(rig.ask(OpCode::Delete));
    rig.lose();
    assert!(matches!(outcome(&mut read), Err(Failure::NotDone { again: true, .. })));
    rig.dial();
    rig.handshake();
    rig.accept(1, 0xabc, TIMEOUT, false);
    assert_eq!(rig.ops(), [OpCode::SetData], "what nobody waits for is left out");
    assert!(waits(&mut write));
}

#[test]
fn deadlines_tell_what_was_sent_from_what_was_not() {
    let mut rig = Rig::connected(settings(1));
    let mut write = rig.ask_until(OpCode::SetData, at(100));
    let mut read = rig.ask_until(OpCode::GetData, at(200));
    let mut patient = rig.ask_until(OpCode::GetData, at(9000));
    rig.sent();
    let mut unsent = rig.ask_until(OpCode::SetData, at(150));
    assert_eq!(rig.machine.next_deadline(), at(100));
    rig.tick(100);
    assert!(matches!(outcome(&mut write), Err(Failure::Unknown { .. })) && waits(&mut read));
    rig.tick(200);
    assert!(matches!(outcome(&mut read), Err(Failure::NotDone { again: false, .. })));
    assert!(matches!(outcome(&mut unsent), Err(Failure::NotDone { again: false, .. })));
    assert_eq!(rig.ops(), [], "a write that was given up is not sent");
    // Late answers have their place all the same.
    rig.reply(1, 1, Ok(()), &[0; Stat::LEN]);
    rig.reply(2, 1, Err(ErrorCode::NoNode), b"");
    assert!(waits(&mut patient));
    rig.reply(3, 1, Err(ErrorCode::NoNode), b"");
    assert!(outcome(&mut patient).is_err());
}

#[test]
fn pings_keep_the_connection_and_silence_ends_it() {
    let mut rig = Rig::connected(settings(2));
    assert_eq!(rig.machine.next_deadline(), at(4000), "a third of the timeout");
    rig.tick(4000);
    assert_eq!(rig.ops(), [OpCode::Ping]);
    rig.now = at(4500);
    rig.reply(Xid::PING.0, 1, Ok(()), b"");
    // A request counts as a ping, from when it was made.
    rig.tick(5000);
    let mut a = rig.ask(OpCode::Sync);
    rig.sent();
    assert_eq!(rig.machine.next_deadline(), at(9000));
    rig.now = at(6000);
    rig.reply(1, 1, Ok(()), b"");
    assert!(outcome(&mut a).is_ok());
    rig.now = at(7000);
    let mut event = Vec::new();
    put_event(&mut event, 9, EventType::NodeCreated, "/x");
    rig.receive(&event);
    rig.tick(9000);
    assert_eq!(rig.ops(), [OpCode::Ping]);
    rig.tick(14_999);
    assert_eq!(rig.hangups, 0);
    rig.tick(15_000);
    assert_eq!((rig.hangups, rig.dials.len()), (1, 1), "two thirds of the timeout after the event");
    rig.dial();
    assert_eq!(rig.handshake(), (SessionId(0xabc), vec![1; 16], Zxid::from_wire(9)), "never behind the event");
}

#[test]
fn only_answers_through_the_leader_extend_a_lease() {
    let mut rig = Rig::connected(settings(1));
    let since = |rig: &Rig| rig.machine.lease().expect("a session").since;
    rig.tick(4000);
    rig.reply(Xid::PING.0, 1, Ok(()), b"");
    let mut event = Vec::new();
    put_event(&mut event, 9, EventType::NodeCreated, "/x");
    rig.receive(&event);
    drop((rig.ask(OpCode::Exists), rig.ask(OpCode::Delete), rig.ask(OpCode::Sync)));
    rig.sent();
    rig.now = at(4001);
    rig.reply(1, 9, Ok(()), &[0; Stat::LEN]);
    rig.reply(2, 9, Err(ErrorCode::ThrottledOp), b"");
    rig.reply(3, 9, Err(ErrorCode::SystemError), b"");
    assert_eq!(since(&rig), at(0), "a server that is cut off from its leader could have said all that");

    rig.now = at(4002);
    drop((rig.ask(OpCode::Delete), rig.ask(OpCode::Sync)));
    rig.sent();
    rig.now = at(4500);
    rig.reply(4, 10, Err(ErrorCode::NoNode), b"");
    assert_eq!(since(&rig), at(4000), "a third of the timeout after the session began");
    rig.reply(5, 10, Ok(()), b"");
    rig.now = at(7500);
    drop(rig.ask(OpCode::Sync));
    rig.sent();
    rig.reply(6, 10, Ok(()), b"");
    let lease = rig.machine.lease().expect("a session");
    assert_eq!((lease.since, lease.ends()), (at(7500), at(15_500)));
    assert!(lease.holds(at(15_499)) && !lease.holds(at(15_500)));

    // Another server takes the session back, by a leader who may be a deposed one.
    rig.lose();
    rig.dial();
    rig.handshake();
    rig.accept(1, 0xabc, TIMEOUT, false);
    assert_eq!(since(&rig), at(7500));
    // A server without a leader has nothing to prove by.
    let mut rig = Rig::new(Settings { allow_read_only: true, ..settings(1) });
    rig.handshake();
    rig.accept(1, 5, TIMEOUT, true);
    rig.tick(1000);
    rig.machine.keep();
    drop(rig.ask(OpCode::Sync));
    assert_eq!(rig.ops(), [OpCode::Sync], "asked for, and no beat");
    rig.reply(1, 9, Ok(()), b"");
    rig.tick(1500);
    assert_eq!((since(&rig), rig.ops()), (at(0), vec![]));
}

#[test]
fn a_server_with_longer_limits_does_not_make_a_lease_longer() {
    let mut rig = Rig::connected(settings(1));
    let ends = rig.machine.lease().expect("a session").ends();
    for timeout in [TIMEOUT * 3, TIMEOUT * 2, TIMEOUT] {
        rig.lose();
        rig.dial();
        rig.handshake();
        rig.accept(1, 0xabc, timeout, false);
        assert_eq!(rig.machine.lease().expect("a session").ends(), ends, "{timeout:?}");
    }
    rig.lose();
    rig.dial();
    rig.handshake();
    rig.accept(1, 0xabc, TIMEOUT / 2, false);
    assert!(rig.machine.lease().expect("a session").ends() < ends);
}

#[test]
fn a_lease_that_is_kept_is_renewed_and_a_silent_server_left_in_time() {
    let mut rig = Rig::connected(settings(2));
    let since = |rig: &Rig| rig.machine.lease().expect("a session").since;
    rig.tick(1000);
    assert_eq!(rig.ops(), []);
    rig.machine.keep();
    rig.machine.keep();
    assert!(rig.machine.next_deadline() <= rig.now, "at once");
    let beat = |rig: &mut Rig, millis| {
        rig.tick(millis);
        let seen = rig.requests();
        assert_eq!(
            seen.iter().map(|r| (r.op, r.body.as_slice())).collect::<Vec<_>>(),
            [(OpCode::Sync, &b"\0\0\0\x01/"[..])]
        );
        seen[0].xid
    };
    let mut xid = beat(&mut rig, 1000);
    rig.tick(2999);
    assert_eq!(rig.ops(), [], "one at a time");
    rig.now = at(1500);
    rig.reply(xid, 3, Ok(()), b"");
    for millis in (3000..20_000).step_by(2000) {
        assert_eq!(rig.machine.next_deadline(), at(millis));
        xid = beat(&mut rig, millis);
        rig.now = at(millis + 100);
        rig.reply(xid, 3, Ok(()), b"");
        assert_eq!(since(&rig), at(millis));
    }
    rig.reply(xid, 3, Ok(()), b"");
    assert_eq!((rig.hangups, rig.dials.len()), (1, 1), "it was answered before");
    rig.dial();
    rig.handshake();
    rig.accept(1, 0xabc, TIMEOUT, false);
    let begun = rig.now.as_nanos() / 1_000_000;
    xid = beat(&mut rig, begun);
    rig.reply(xid, 3, Err(ErrorCode::ThrottledOp), b"");
    assert_eq!(since(&rig), at(19_000));
    xid = beat(&mut rig, begun + 2000);
    // It answers no more. Other requests are no reason to wait longer.
    drop(rig.ask(OpCode::GetData));
    rig.sent();
    rig.tick(begun + 3999);
    assert_eq!(rig.hangups, 1);
    rig.tick(begun + 4000);
    assert_eq!(rig.hangups, 2, "a third of the timeout after its last word");
    rig.dial();
    rig.handshake();
    rig.accept(1, 0xabc, TIMEOUT, false);
    let begun = rig.now.as_nanos() / 1_000_000;
    rig.reply(xid, 3, Ok(()), b"");
    assert_eq!(rig.hangups, 3, "that beat was of another connection");

    // Nobody relies on it any more.
    rig.dial();
    rig.handshake();
    rig.accept(1, 0xabc, TIMEOUT, false);
    assert!(rig.now >= at(begun));
    let begun = rig.now.as_nanos() / 1_000_000;
    rig.machine.let_go();
    assert!(rig.machine.next_deadline() <= rig.now, "one does still");
    rig.machine.let_go();
    assert_eq!(rig.machine.next_deadline(), at(begun + 4000), "a ping");
    // A process that was stopped finds no answer to what it had not asked; that is no reason to leave.
    rig.tick(begun + 7000);
    assert_eq!(rig.ops(), [OpCode::Ping]);
    rig.machine.keep();
    beat(&mut rig, begun + 7100);
    rig.tick(begun + 7999);
    assert_eq!(rig.hangups, 3);
    rig.tick(begun + 8000);
    assert_eq!(rig.hangups, 4, "two thirds are the limit, kept or not");
}

#[test]
fn an_expired_session_fails_what_waits_and_a_new_one_follows() {
    let mut rig = Rig::connected(settings(1));
    rig.watch(WatchKind::Persistent, "/p");
    rig.lose();
    let mut write = rig.ask(OpCode::SetData);
    rig.dial();
    rig.handshake();
    rig.states.clear();
    rig.accept(0, 0, Duration::ZERO, false);
    assert!(matches!(outcome(&mut write), Err(Failure::Expired)));
    assert_eq!(rig.states, [SessionState::Expired { session: SessionId(0xabc) }]);
    assert_eq!(rig.machine.lease(), None);
    rig.tick(rig.now.as_nanos() / 1_000_000 + 1);
    assert_eq!(rig.handshake().0, SessionId::NONE);
    rig.accept(2, 0xdef, TIMEOUT, false);
    assert_eq!(rig.states[1].connected(), Some(SessionId(0xdef)));
    assert_eq!(rig.ops(), [OpCode::SetWatches2]);
    rig.reply(Xid::SET_WATCHES.0, 1, Ok(()), b"");
    assert_eq!(rig.events, [WatchEvent::Missed]);

    let mut once = Rig::connected(Settings { renew_session: false, ..settings(1) });
    once.lose();
    once.dial();
    once.handshake();
    once.accept(0, 0, Duration::ZERO, false);
    assert!(once.machine.has_ended());
    let rejected = once.machine.submit(once.now, Time::MAX, OpCode::Sync, None, None, |_| {});
    assert!(matches!(rejected, Err(Rejection::Ended(End::Expired))));
}

#[test]
fn identities_and_watches_come_before_requests_on_every_connection() {
    let identities = vec![("digest".into(), b"a:b".to_vec())];
    let mut rig = Rig::new(Settings { identities, ..settings(1) });
    let mut early = rig.ask(OpCode::SetData);
    rig.handshake();
    rig.accept(1, 1, TIMEOUT, false);
    let seen = rig.requests();
    assert_eq!(seen.iter().map(|r| r.op).collect::<Vec<_>>(), [OpCode::Auth, OpCode::SetData]);
    rig.reply(Xid::AUTH.0, 0, Ok(()), b"");
    rig.reply(seen[1].xid, 7, Ok(()), &[0; Stat::LEN]);
    assert!(outcome(&mut early).is_ok());
    let (reply, mut added) = oneshot::channel();
    rig.machine.authenticate(Time::MAX, ("digest".into(), b"c:d".to_vec()), reply).expect("there is room");
    assert_eq!(rig.ops(), [OpCode::Auth]);
    rig.reply(Xid::AUTH.0, 0, Ok(()), b"");
    assert!(outcome(&mut added).is_ok());
    rig.watch(WatchKind::Data, "/d");
    rig.watch(WatchKind::Recursive, "/r");
    let mut event = Vec::new();
    put_event(&mut event, 99, EventType::NodeCreated, "/elsewhere");
    rig.receive(&event);
    let mut again = rig.ask(OpCode::GetData);
    rig.lose();
    rig.dial();
    assert_eq!(rig.handshake().2, Zxid::from_wire(99));
    rig.accept(1, 1, TIMEOUT, false);
    let seen = rig.requests();
    let ops: Vec<_> = seen.iter().map(|r| r.op).collect();
    assert_eq!(ops, [OpCode::Auth, OpCode::Auth, OpCode::SetWatches2, OpCode::GetData]);
    let watches = SetWatches2::read(&mut Reader::new(&seen[2].body)).expect("a body");
    assert_eq!(watches.classic.relative_zxid, 7, "events of one transaction may be cut apart, answers not");
    assert!(waits(&mut again));
    // Refused now, they are refused for good.
    rig.reply(Xid::AUTH.0, 0, Err(ErrorCode::AuthFailed), b"");
    assert!(rig.machine.has_ended());
    assert!(matches!(outcome(&mut again), Err(Failure::Unknown { .. } | Failure::Ended(End::AuthFailed))));
    assert_eq!(rig.states.last(), Some(&SessionState::AuthFailed));
}

#[test]
fn a_watch_is_set_by_the_answer_and_only_if_somebody_listens() {
    let mut rig = Rig::connected(settings(1));
    let register = |rig: &mut Rig, op, kind, queue: &Arc<EventQueue>| {
        let id = rig.machine.fresh_id();
        let registration = Registration { kind, path: "/w".into(), id, queue: Arc::clone(queue) };
        rig.machine
            .submit(rig.now, Time::MAX, op, None, Some(Effect::Set(registration)), |_| {})
            .expect("there is room");
        rig.sent();
    };
    let queue = Arc::<EventQueue>::default();
    register(&mut rig, OpCode::Exists, WatchKind::Data, &queue);
    rig.reply(1, 1, Err(ErrorCode::NoNode), b"");
    assert!(rig.machine.watches.has(WatchKind::Exist, "/w"), "it waits for the creation");
    register(&mut rig, OpCode::GetData, WatchKind::Data, &queue);
    rig.reply(2, 1, Err(ErrorCode::NoNode), b"");
    assert!(!rig.machine.watches.has(WatchKind::Data, "/w"));
    let mut event = Vec::new();
    put_event(&mut event, 2, EventType::NodeCreated, "/w");
    rig.receive(&event);
    assert_eq!((rig.events.len(), rig.machine.watches.len()), (1, 0));
    // One that waits for a creation and is dropped leaves nothing.
    register(&mut rig, OpCode::Exists, WatchKind::Data, &queue);
    rig.reply(3, 3, Err(ErrorCode::NoNode), b"");
    assert_eq!(rig.machine.watches.len(), 1);
    let id = rig.machine.next_id;
    rig.machine.unwatch(rig.now, WatchKind::Data, "/w", id);
    assert_eq!(rig.machine.watches.len(), 0);
}

#[test]
fn limits_refuse_with_their_names() {
    let mut rig = Rig::new(settings(1));
    let too_long = rig.machine.submit(rig.now, Time::MAX, OpCode::SetData, None, None, |out| out.resize(2000, 0));
    assert!(matches!(too_long, Err(Rejection::TooLong(len)) if len > 1000));
    for _ in 0..8 {
        rig.machine.submit(rig.now, Time::MAX, OpCode::Sync, None, None, |_| {}).expect("there is room");
    }
    let full = rig.machine.submit(rig.now, Time::MAX, OpCode::Sync, None, None, |_| {});
    assert!(matches!(full, Err(Rejection::Full(limit)) if limit.contains("8 requests")));
    rig.handshake();
    rig.accept(1, 1, TIMEOUT, false);
    assert_eq!(rig.requests().len(), 8, "the one that was too long left nothing behind");
    let mut bytes = 100_001_i32.to_be_bytes().to_vec();
    bytes.extend([0; 10]);
    rig.receive(&bytes);
    assert_eq!(rig.hangups, 1);
}

#[test]
fn a_client_on_a_read_only_server_looks_for_another() {
    let mut rig = Rig::new(Settings { allow_read_only: true, ..settings(2) });
    rig.handshake();
    rig.accept(1, 5, TIMEOUT, true);
    assert!(matches!(rig.states[..], [SessionState::Connected { read_only: true, .. }]));
    rig.tick(100);
    rig.tick(300);
    assert_eq!(rig.probes.len(), 2);
    let link = rig.link;
    rig.machine.probed(rig.now, link, rig.probes[0], false);
    rig.act();
    assert_eq!(rig.hangups, 0);
    rig.machine.probed(rig.now, link, rig.probes[0], true);
    rig.act();
    assert_eq!(rig.hangups, 1);
    rig.tick(300);
    assert_eq!(rig.dials[1], *rig.machine.hosts.get(rig.probes[0]));
    assert_eq!(rig.handshake().0, SessionId::NONE, "nobody else knows a session of a read-only server");
    rig.accept(2, 6, TIMEOUT, false);
    assert!(matches!(rig.states[2], SessionState::Connected { read_only: false, .. }));
}

#[test]
fn a_read_only_server_is_no_server_unless_it_was_allowed() {
    let mut rig = Rig::new(settings(1));
    rig.handshake();
    rig.accept(1, 5, TIMEOUT, true);
    assert_eq!((rig.hangups, rig.states.len(), rig.machine.lease()), (1, 0, None));
    assert!(rig.machine.describe().contains("allow_read_only"));
}

#[test]
fn a_close_comes_after_what_was_asked_before() {
    let mut rig = Rig::connected(settings(1));
    let mut write = rig.ask(OpCode::SetData);
    let (reply, mut closed) = oneshot::channel();
    rig.machine.close(rig.now, at(500), Some(reply)).expect("it is open");
    let after = rig.machine.submit(rig.now, Time::MAX, OpCode::Sync, None, None, |_| {});
    assert!(matches!(after, Err(Rejection::Ended(End::Closed))));
    assert_eq!(rig.ops(), [OpCode::SetData, OpCode::CloseSession]);
    rig.reply(1, 1, Err(ErrorCode::NoNode), b"");
    rig.reply(2, 2, Ok(()), b"");
    assert!(outcome(&mut write).is_err() && outcome(&mut closed).is_ok());
    assert!(rig.machine.has_ended() && rig.hangups == 1 && rig.states == [SessionState::Closed]);

    // Without an answer it ends too.
    let mut rig = Rig::connected(settings(1));
    let (reply, mut closed) = oneshot::channel();
    rig.machine.close(rig.now, at(500), Some(reply)).expect("it is open");
    rig.sent();
    rig.tick(500);
    assert!(matches!(outcome(&mut closed), Err(Failure::Unknown { .. })) && rig.machine.has_ended());
    let mut rig = Rig::connected(settings(1));
    rig.lose();
    let (reply, mut closed) = oneshot::channel();
    rig.machine.close(rig.now, at(500), Some(reply)).expect("it is open");
    rig.act();
    assert!(matches!(outcome(&mut closed), Err(Failure::NotDone { .. })) && rig.machine.has_ended());
}

#[test]
fn words_about_another_connection_are_ignored() {
    let mut rig = Rig::connected(settings(2));
    let old = rig.link;
    rig.lose();
    rig.dial();
    rig.handshake();
    rig.machine.lost(rig.now, old, "late");
    rig.machine.received(rig.now, old, &[0xff; 64]);
    rig.machine.connected(rig.now, old);
    rig.accept(1, 0xabc, TIMEOUT, false);
    assert!(matches!(rig.machine.phase, Phase::Connected { .. }));
}

/// Everything that a server says in one conversation, and what the client makes of it.
fn conversation(cuts: &[usize]) -> (Vec<String>, Vec<WatchEvent>, usize) {
    let mut rig = Rig::new(settings(1));
    let mut answers = [rig.ask(OpCode::Delete), rig.ask(OpCode::GetData), rig.ask(OpCode::GetChildren)];
    rig.handshake();
    let mut bytes = Vec::new();
    let start = begin_frame(&mut bytes);
    ConnectResponse { timeout: 4000, session: SessionId(9), password: [3; 16], read_only: Some(false) }
        .write(&mut bytes);
    end_frame(&mut bytes, start);
    let session = bytes.len();
    rig.watch(WatchKind::Recursive, "/");
    put_reply(&mut bytes, Xid::SET_WATCHES, 1, Ok(()), |_| {});
    put_event(&mut bytes, 4, EventType::NodeDataChanged, "/a/b");
    put_reply(&mut bytes, Xid(1), 4, Ok(()), |_| {});
    put_reply(&mut bytes, Xid(2), 4, Ok(()), |out| {
        put_str(out, "data");
        out.extend([0; Stat::LEN]);
    });
    put_reply(&mut bytes, Xid(3), 4, Err(ErrorCode::NoNode), |_| {});
    let mut from = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        let cut = cut.clamp(from, bytes.len());
        rig.machine.received(rig.now, rig.link, &bytes[from..cut]);
        rig.act();
        from = cut;
        if from >= session {
            rig.sent();
        }
    }
    let outcomes = answers.iter_mut().map(|a| format!("{:?}", a.try_recv())).collect();
    (outcomes, rig.events, rig.hangups)
}

#[test]
fn a_frame_may_be_cut_at_every_boundary() {
    // The requests have to be sent before their answers come: the first cut is behind the session.
    let whole = conversation(&[41]);
    assert_eq!((whole.1.len(), whole.2), (2, 0), "{whole:?}");
    for first in 0..=41 {
        assert_eq!(conversation(&[first, 41]), whole, "cut at {first}");
    }
    for second in 41..300 {
        assert_eq!(conversation(&[41, second]), whole, "cut at {second}");
    }
    let bytes: Vec<usize> = (0..300).collect();
    assert_eq!(conversation(&bytes), whole, "byte by byte");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_survived(frames in prop::collection::vec((any::<i32>(), any::<i32>(), prop::collection::vec(any::<u8>(), 0..60)), 1..6), raw in prop::collection::vec(any::<u8>(), 0..60), cut in 0usize..200) {
        let mut rig = Rig::connected(settings(1));
        rig.watch(WatchKind::Persistent, "/");
        for op in [OpCode::GetData, OpCode::Multi, OpCode::GetChildren2, OpCode::WhoAmI, OpCode::GetAcl] {
            drop(rig.ask(op));
        }
        rig.sent();
        let mut bytes = Vec::new();
        for (xid, err, body) in frames {
            let start = begin_frame(&mut bytes);
            ReplyHeader { xid: Xid(xid % 7), zxid: 1, err: err % 3 }.write(&mut bytes);
            bytes.extend_from_slice(&body);
            end_frame(&mut bytes, start);
        }
        bytes.extend_from_slice(&raw);
        let cut = cut.min(bytes.len());
        rig.receive(&bytes[..cut]);
        rig.receive(&bytes[cut..]);
        rig.tick(20_000);
    }
}
