//! Recipes with a server that says what the script wants, where a real one would have to be cut off or stopped at one
//! moment and no other. Time passes when nobody has anything to do.

use farrier_client::{
    Action, Client, ClientBuilder, Clock, Engine, Error as ClientError, ErrorCode, Input, LinkId, Time,
};
use farrier_client::{Op, Stat, Zxid};
use farrier_proto::client::{ConnectRequest, ConnectResponse, PathVersion, RequestHeader, SetDataRequest};
use farrier_proto::client::{begin_frame, end_frame, put_reply};
use farrier_proto::jute::{put_buffer, put_i32, put_len, put_str};
use farrier_proto::multi::{MultiHeader, MultiOp, put_end, put_result, read_multi};
use farrier_proto::{Field as _, OpCode, Reader, SessionId, Xid};
use farrier_recipes::{
    Cache, CacheEvent, DoubleBarrier, Election, Error, HoldState, Item, Latch, Lock, Queue, guarded_multi,
};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::JoinHandle;

const TIMEOUT: Duration = Duration::from_secs(12);

/// The request that renews leases.
const BEAT: Xid = Xid(i32::MAX);

/// Turns that tasks get in a row, more than any chain of tasks that wake each other needs.
const TURNS: usize = 16;

/// Looks at what is asked before a test gives up.
const LOOKS_MAX: usize = 10_000;

#[derive(Debug, Default)]
struct ScriptClock(AtomicU64);

impl Clock for ScriptClock {
    fn now(&self) -> Time {
        Time::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

#[derive(Debug)]
struct Request {
    xid: Xid,
    op: OpCode,
    body: Vec<u8>,
}

impl Request {
    fn path(&self) -> String {
        Reader::new(&self.body).string().expect("a string").expect("a path").into_owned()
    }
}

/// One client and its server. What it asks by itself is answered by itself.
struct Script {
    engine: Engine,
    clock: Arc<ScriptClock>,
    link: Option<LinkId>,
    /// A connection that is asked for.
    dialed: Option<LinkId>,
    /// The next thing that the client says is which session it wants.
    greets: bool,
    session: i64,
    /// The next session that is asked for again has expired.
    expires: bool,
    read_only: bool,
    asked: VecDeque<Request>,
    zxid: i64,
    due: Time,
}

impl Script {
    fn new(change: impl FnOnce(ClientBuilder) -> ClientBuilder) -> (Client, Self) {
        let clock = Arc::<ScriptClock>::default();
        let builder = Client::builder("s:1").session_timeout(TIMEOUT).request_timeout(Duration::from_secs(3600));
        let (client, engine) = change(builder).detached(clock.clone(), 1).expect("a connect string");
        let script = Self {
            engine,
            clock,
            link: None,
            dialed: None,
            greets: false,
            session: 0,
            expires: false,
            read_only: false,
            asked: VecDeque::new(),
            zxid: 100,
            due: Time::MAX,
        };
        (client, script)
    }

    fn step(&mut self, input: Option<Input<'_>>) {
        let (mut bytes, mut actions) = (Vec::new(), Vec::new());
        self.due = self.engine.step(input, Some(&mut bytes), Some(Waker::noop()), &mut actions);
        for action in actions {
            match action {
                Action::Dial { link, .. } => self.dialed = Some(link),
                Action::Hangup => self.hung_up(),
                Action::Probe { .. } => unreachable!("there is one server"),
            }
        }
        let mut r = Reader::new(&bytes);
        while !r.is_empty() {
            let frame = r.buffer().expect("a whole frame").expect("not null");
            self.asked(frame);
        }
    }

    fn hung_up(&mut self) {
        (self.link, self.dialed) = (None, None);
        self.asked.clear();
    }

    fn asked(&mut self, frame: &[u8]) {
        let mut r = Reader::new(frame);
        if std::mem::take(&mut self.greets) {
            let request = ConnectRequest::read(&mut r).expect("a connect request");
            return self.greet(request.session);
        }
        let header = RequestHeader::read(&mut r).expect("a header");
        let op = OpCode::from_code(header.op).expect("an operation");
        let request = Request { xid: header.xid, op, body: r.rest().to_vec() };
        if request.xid == BEAT || matches!(op, OpCode::Ping | OpCode::SetWatches) {
            self.answer(&request, |_| {});
        } else {
            self.asked.push_back(request);
        }
    }

    fn greet(&mut self, wanted: SessionId) {
        let expired = wanted != SessionId::NONE && std::mem::take(&mut self.expires);
        if wanted == SessionId::NONE {
            self.session += 1;
        }
        let (timeout, session) = if expired { (0, 0) } else { (12_000, self.session) };
        let mut bytes = Vec::new();
        let start = begin_frame(&mut bytes);
        let read_only = Some(self.read_only);
        ConnectResponse { timeout, session: SessionId(session), password: [7; 16], read_only }.write(&mut bytes);
        end_frame(&mut bytes, start);
        self.receive(&bytes);
    }

    fn receive(&mut self, bytes: &[u8]) {
        let link = self.link.expect("there is a connection");
        self.step(Some(Input::Received { link, bytes }));
    }

    fn answer(&mut self, request: &Request, body: impl FnOnce(&mut Vec<u8>)) {
        self.zxid += 1;
        let mut bytes = Vec::new();
        put_reply(&mut bytes, request.xid, self.zxid, Ok(()), body);
        self.receive(&bytes);
    }

    fn refuse(&mut self, request: &Request, code: ErrorCode) {
        let mut bytes = Vec::new();
        put_reply(&mut bytes, request.xid, self.zxid, Err(code), |_| {});
        self.receive(&bytes);
    }

    /// Lists these children.
    fn list(&mut self, request: &Request, names: &[&str]) {
        let with_stat = request.op == OpCode::GetChildren2;
        assert!(with_stat || request.op == OpCode::GetChildren, "{request:?}");
        self.answer(request, |out| {
            put_len(out, names.len());
            names.iter().for_each(|name| put_str(out, name));
            if with_stat {
                stat(1, 0).write(out);
            }
        });
    }

    /// Cuts the connection.
    fn cut(&mut self) {
        let link = self.link.expect("there is a connection");
        self.hung_up();
        self.step(Some(Input::Lost { link, reason: "cut" }));
    }

    /// Cuts the connection and makes another one, before anybody has a turn.
    fn reconnect(&mut self) {
        self.cut();
        for _ in 0..LOOKS_MAX {
            if let Some(link) = self.dialed.take() {
                (self.link, self.greets) = (Some(link), true);
                return self.step(Some(Input::Connected { link }));
            }
            self.pass_time();
            self.step(None);
        }
        panic!("nobody connects");
    }

    /// Everybody does what there is to do, and then connects.
    async fn work(&mut self) {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        match self.dialed.take() {
            None => self.step(None),
            Some(link) => {
                (self.link, self.greets) = (Some(link), true);
                self.step(Some(Input::Connected { link }));
            }
        }
    }

    fn pass_time(&self) {
        if self.due < Time::MAX {
            self.clock.0.fetch_max(self.due.as_nanos(), Ordering::SeqCst);
        }
    }

    /// Shows a znode without data to whoever keeps an eye on it.
    fn show(&mut self, request: &Request, stat: &Stat) {
        assert_eq!(request.op, OpCode::GetData, "{request:?}");
        self.answer(request, |out| {
            put_buffer(out, Some(b""));
            stat.write(out);
        });
    }

    /// The next request, of this operation.
    async fn next(&mut self, op: OpCode) -> Request {
        for _ in 0..LOOKS_MAX {
            self.work().await;
            if let Some(request) = self.asked.pop_front() {
                assert_eq!(request.op, op, "{request:?}");
                return request;
            }
            self.pass_time();
        }
        panic!("nobody asks for {op:?}");
    }

    /// What comes of a task whose requests are answered so.
    async fn serve<T>(&mut self, task: JoinHandle<T>, mut answer: impl FnMut(&mut Self, &Request)) -> T {
        for _ in 0..LOOKS_MAX {
            self.work().await;
            if task.is_finished() {
                return task.await.expect("it does not panic");
            }
            match self.asked.pop_front() {
                Some(request) => answer(self, &request),
                None => self.pass_time(),
            }
        }
        panic!("it does not end");
    }

    /// What comes of a task that asks for nothing more.
    async fn end<T>(&mut self, task: JoinHandle<T>) -> T {
        self.serve(task, |_, request| panic!("{request:?}")).await
    }

    /// Creates the znode that is asked for, with this behind its name.
    fn make(&mut self, request: &Request, number: &str) -> String {
        let path = format!("{}{number}", request.path());
        let made = Stat { ephemeral_owner: self.session, ..stat(self.zxid, 0) };
        self.answer(request, |out| {
            put_str(out, &path);
            made.write(out);
        });
        path
    }

    /// Creates the znode of a contender.
    async fn create(&mut self, number: &str) -> String {
        let request = self.next(OpCode::Create2).await;
        self.make(&request, number)
    }

    /// Answers a multi whose operation at `index` of `len` failed.
    fn fail(&mut self, request: &Request, len: usize, index: usize, code: ErrorCode) {
        self.answer(request, |out| {
            for n in 0..len {
                let err = match n.cmp(&index) {
                    std::cmp::Ordering::Less => 0,
                    std::cmp::Ordering::Equal => code.code(),
                    std::cmp::Ordering::Greater => ErrorCode::RuntimeInconsistency.code(),
                };
                MultiHeader { op: -1, done: false, err }.write(out);
                put_i32(out, err);
            }
            put_end(out);
        });
    }
}

fn stat(czxid: i64, version: i32) -> Stat {
    let zxid = Zxid::from_wire(czxid);
    Stat {
        czxid: zxid,
        mzxid: zxid,
        ctime: 0,
        mtime: 0,
        version,
        cversion: 0,
        aversion: 0,
        ephemeral_owner: 0,
        data_length: 0,
        num_children: 0,
        pzxid: zxid,
    }
}

#[tokio::test]
async fn a_contender_goes_on_however_many_sessions_end_in_a_row() {
    const SESSIONS: i64 = 5;
    let (client, mut script) = Script::new(|builder| builder);
    let lock = Lock::new(&client, "/lock");
    let mut path = None;
    let mut answer = |script: &mut Script, request: &Request, sessions: i64| match request.op {
        // The creation is not answered, and the session is over when it wants to know what became of it.
        OpCode::Create2 if script.session < sessions => {
            script.expires = true;
            script.cut();
        }
        OpCode::Create2 => path = Some(script.make(request, "0000000001")),
        OpCode::GetChildren => {
            let name = path.as_ref().and_then(|path| path.strip_prefix("/lock/"));
            script.list(request, name.as_slice());
        }
        OpCode::GetData => script.show(request, &stat(101, 0)),
        // What went with a session is looked for, and taken away.
        OpCode::Sync => script.answer(request, |out| put_str(out, "/lock")),
        OpCode::Delete => script.answer(request, |_| {}),
        other => panic!("{other:?}"),
    };
    let acquires = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await }
    });
    let guard = script.serve(acquires, |script, request| answer(script, request, SESSIONS)).await.expect("acquired");
    assert_eq!(script.session, SESSIONS);
    drop(guard);

    // Patience has an end all the same.
    let acquires = tokio::spawn(async move { lock.acquire_within(Duration::from_secs(60)).await });
    let error = script.serve(acquires, |script, request| answer(script, request, i64::MAX)).await.expect_err("no lock");
    assert!(matches!(error, Error::Client(ClientError::SessionExpired { .. })), "{error}");
}

/// A connection that goes and comes between two looks of whoever keeps the state up to date is not overlooked.
#[tokio::test]
async fn a_lock_is_held_on_another_connection_only_once_its_znode_was_seen() {
    for looks in [false, true] {
        let (client, mut script) = Script::new(|builder| builder);
        let lock = Lock::new(&client, "/lock");
        let acquires = tokio::spawn(async move { lock.acquire().await });
        let creates = script.next(OpCode::Create2).await;
        let own = stat(script.zxid, 0);
        let path = script.make(&creates, "0000000001");
        let listed = script.next(OpCode::GetChildren).await;
        script.list(&listed, &[path.strip_prefix("/lock/").expect("below it")]);
        let seen = script.next(OpCode::GetData).await;
        script.show(&seen, &own);
        let guard = script.end(acquires).await.expect("acquired");
        script.work().await;
        assert_eq!(guard.state(), HoldState::Held);

        script.reconnect();
        assert!(client.session().borrow().connected().is_some());
        if looks {
            assert_eq!(guard.state(), HoldState::Suspended);
        }
        let seen = script.next(OpCode::GetData).await;
        assert_eq!(*guard.watch().borrow(), HoldState::Suspended);
        script.show(&seen, &own);
        script.work().await;
        assert_eq!((guard.state(), *guard.watch().borrow()), (HoldState::Held, HoldState::Held));
    }
}

#[tokio::test]
async fn nobody_is_told_to_lead_by_a_term_that_is_suspended() {
    let (client, mut script) = Script::new(|builder| builder);
    let latch = Arc::new(Election::new(&client, "/lead").latch());
    let creates = script.next(OpCode::Create2).await;
    let own = stat(script.zxid, 0);
    let path = script.make(&creates, "0000000001");
    let listed = script.next(OpCode::GetChildren).await;
    script.list(&listed, &[path.strip_prefix("/lead/").expect("below it")]);
    let seen = script.next(OpCode::GetData).await;
    script.show(&seen, &own);
    let leading = async |latch: Arc<Latch>| latch.leading().await;
    drop(script.end(tokio::spawn(leading(Arc::clone(&latch)))).await.expect("it leads"));

    script.reconnect();
    let waits = tokio::spawn(leading(Arc::clone(&latch)));
    let seen = script.next(OpCode::GetData).await;
    script.work().await;
    assert!(!waits.is_finished() && !latch.is_leader(), "its znode was not seen yet");
    script.show(&seen, &own);
    let term = script.end(waits).await.expect("it leads again");
    assert!(term.is_held() && latch.is_leader());
}

#[tokio::test]
async fn a_double_barrier_is_not_opened_or_closed_twice_by_one_decision() {
    let (client, mut script) = Script::new(|builder| builder);
    let barrier = DoubleBarrier::new(&client, "/b", 2).expect("some");
    let enters = tokio::spawn(async move { barrier.enter().await });
    let path = script.create("").await;
    let own = stat(script.zxid, 0);
    let name = path.strip_prefix("/b/").expect("below it").to_owned();
    // Alone, with what dead members left.
    let ready = script.next(OpCode::Exists).await;
    assert_eq!(ready.path(), "/b/ready");
    script.answer(&ready, |out| stat(7, 0).write(out));
    let looks = script.next(OpCode::Exists).await;
    assert_eq!(looks.path(), path);
    script.answer(&looks, |out| own.write(out));
    let listed = script.next(OpCode::GetChildren).await;
    script.list(&listed, &["ready", &name]);
    // The old `ready` is removed; the answer is lost, and somebody opens the barrier.
    let removal = script.next(OpCode::Multi).await;
    let mut r = Reader::new(&removal.body);
    let first = MultiHeader::read(&mut r).expect("a header");
    let checked = r.string().expect("a string").expect("a path");
    assert_eq!((first.op, checked.as_ref()), (OpCode::Check.code(), path.as_str()), "only while it stands");
    script.cut();
    let again = script.next(OpCode::Create2).await;
    script.refuse(&again, ErrorCode::NodeExists);
    let ready = script.next(OpCode::Exists).await;
    script.answer(&ready, |out| stat(own.czxid.to_wire() + 5, 0).write(out));
    let looks = script.next(OpCode::Exists).await;
    script.answer(&looks, |out| own.write(out));
    let listed = script.next(OpCode::GetChildren).await;
    script.list(&listed, &["ready", &name, "other"]);
    let entered = script.end(enters).await.expect("it stood when the barrier was opened");
    drop(entered);
}

/// Somebody who comes late is let in only by the `ready` by which those whom it saw are inside: whatever took its place
/// belongs to another round, which may not have begun yet.
#[tokio::test]
async fn who_comes_late_to_a_double_barrier_comes_in_only_by_the_ready_that_it_saw() {
    const READY: i32 = 3;
    for stands in [true, false] {
        let (client, mut script) = Script::new(|builder| builder);
        let barrier = DoubleBarrier::new(&client, "/b", 3).expect("some");
        let enters = tokio::spawn(async move { barrier.enter().await });
        let path = script.create("").await;
        let own = stat(script.zxid, 0);
        let name = path.strip_prefix("/b/").expect("below it").to_owned();
        let ready = script.next(OpCode::Exists).await;
        script.answer(&ready, |out| stat(7, READY).write(out));
        let looks = script.next(OpCode::Exists).await;
        script.answer(&looks, |out| own.write(out));
        let listed = script.next(OpCode::GetChildren).await;
        script.list(&listed, &["ready", &name, "other"]);
        let other = script.next(OpCode::Exists).await;
        assert_eq!(other.path(), "/b/other");
        script.answer(&other, |out| stat(5, 0).write(out));
        let notes = script.next(OpCode::Multi).await;
        let mut r = Reader::new(&notes.body);
        let check = |path, version| MultiOp::Check(PathVersion { path: Some(Cow::Borrowed(path)), version });
        let set = SetDataRequest { path: Some(Cow::Borrowed(&path)), data: Some(Cow::Borrowed(b"")), version: -1 };
        let expected = [check(path.as_str(), -1), check("/b/ready", READY), MultiOp::SetData(set)];
        assert_eq!(read_multi(&mut r).expect("a multi"), expected);
        if stands {
            script.answer(&notes, |out| {
                put_result(out, OpCode::Check);
                put_result(out, OpCode::Check);
                put_result(out, OpCode::SetData);
                stat(5, 1).write(out);
                put_end(out);
            });
        } else {
            // The last of the others left meanwhile and took it along.
            script.fail(&notes, 3, 1, ErrorCode::NoNode);
        }
        let again = script.next(OpCode::Create2).await;
        script.refuse(&again, ErrorCode::NodeExists);
        let ready = script.next(OpCode::Exists).await;
        if stands {
            script.answer(&ready, |out| stat(7, READY).write(out));
        } else {
            script.refuse(&ready, ErrorCode::NoNode);
        }
        let looks = script.next(OpCode::Exists).await;
        assert_eq!(looks.path(), path);
        script.answer(&looks, |out| stat(own.czxid.to_wire(), i32::from(stands)).write(out));
        let listed = script.next(OpCode::GetChildren).await;
        if stands {
            script.list(&listed, &["ready", &name, "other"]);
            drop(script.end(enters).await.expect("its znode says so"));
        } else {
            script.list(&listed, &[&name]);
            script.work().await;
            assert!(!enters.is_finished() && script.asked.is_empty(), "it waits for the next round");
        }
    }
}

/// An item that was taken, from a server that says all that it knows of what a multi created, or just the paths.
async fn take_from(client: &Client, script: &mut Script, says_all: bool) -> Item {
    let queue = Queue::new(client, "/q");
    let takes = tokio::spawn(async move { queue.take().await });
    let listed = script.next(OpCode::GetChildren2).await;
    script.list(&listed, &["entry-100-0000000001"]);
    let listed = script.next(OpCode::GetChildren2).await;
    script.list(&listed, &[]);
    let claims = script.next(OpCode::Multi).await;
    let made = Stat { ephemeral_owner: script.session, ..stat(script.zxid, 0) };
    let create = if says_all { OpCode::Create2 } else { OpCode::Create };
    script.answer(&claims, |out| {
        put_result(out, OpCode::Check);
        for path in ["/q/taken/entry-100-0000000001", "/q/taken/claim-x"] {
            put_result(out, create);
            put_str(out, path);
            if says_all {
                made.write(out);
            }
        }
        put_end(out);
    });
    let read = script.next(OpCode::GetData).await;
    script.answer(&read, |out| {
        put_buffer(out, Some(b"work"));
        stat(50, 0).write(out);
    });
    if !says_all {
        let syncs = script.next(OpCode::Sync).await;
        script.answer(&syncs, |out| put_str(out, "/q"));
        let looks = script.next(OpCode::Exists).await;
        script.answer(&looks, |out| made.write(out));
    }
    script.end(takes).await.expect("taken")
}

async fn take(client: &Client, script: &mut Script) -> Item {
    take_from(client, script, true).await
}

#[tokio::test]
async fn an_item_is_taken_from_a_server_that_says_little_of_what_a_multi_created() {
    let (client, mut script) = Script::new(|builder| builder);
    let item = take_from(&client, &mut script, false).await;
    assert_eq!(item.data(), b"work");
    let acks = tokio::spawn(item.ack());
    let request = script.next(OpCode::Multi).await;
    script.answer(&request, |out| {
        put_result(out, OpCode::Check);
        (0..3).for_each(|_| put_result(out, OpCode::Delete));
        put_end(out);
    });
    script.end(acks).await.expect("it is still its own");
}

#[tokio::test]
async fn a_list_that_is_too_long_for_the_client_is_not_asked_for_again_and_again() {
    let (client, mut script) = Script::new(|builder| builder.reply_max(4000));
    let queue = Queue::new(&client, "/q");
    let takes = tokio::spawn(async move { queue.take().await });
    let error = script.serve(takes, |script, request| script.list(request, &["entry-100-0000000001"; 1000])).await;
    let error = error.expect_err("it can't be read");
    assert!(matches!(error, Error::Client(ClientError::Unreadable { .. })), "{error}");
}

/// Whoever looks after a cache between other things, and leaves it before every answer, has it loaded all the same.
#[tokio::test]
async fn a_cache_is_loaded_by_calls_that_are_all_cancelled_but_the_last() {
    let (client, mut script) = Script::new(|builder| builder);
    let mut cache = Cache::tree(&client, "/c");
    let mut reads = 0;
    for _ in 0..100 {
        let looked = pin!(cache.next()).poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(event) = looked {
            let CacheEvent::Added(first) = event.expect("nothing is refused") else { panic!("not the first one") };
            assert_eq!((first.path.as_str(), reads), ("/c", 8));
            cache.load().await.expect("everything is there");
            let all: Vec<String> = cache.view().all().iter().map(|znode| znode.path.clone()).collect();
            assert_eq!(all, ["/c", "/c/a", "/c/a/b", "/c/d"]);
            return;
        }
        script.work().await;
        script.pass_time();
        let Some(request) = script.asked.pop_front() else { continue };
        let below: &[&str] = match request.path().as_str() {
            "/c" => &["a", "d"],
            "/c/a" => &["b"],
            _ => &[],
        };
        match request.op {
            OpCode::AddWatch => script.answer(&request, |_| {}),
            OpCode::GetChildren => script.list(&request, below),
            OpCode::GetData => script.answer(&request, |out| {
                put_buffer(out, Some(b""));
                stat(50, 0).write(out);
            }),
            other => panic!("{other:?}"),
        }
        reads += usize::from(request.op != OpCode::AddWatch);
    }
    panic!("it is never loaded");
}

#[tokio::test]
async fn an_item_without_a_reply_is_found_at_the_root_of_a_chroot() {
    for refused in [false, true] {
        let (client, mut script) = Script::new(|builder| builder);
        let queue = Queue::new(&client.chroot("/q").expect("a path"), "/").limit(usize::MAX);
        let puts = tokio::spawn(async move { queue.put("work").await });
        let request = script.next(OpCode::Create2).await;
        let name = format!("{}0000000004", request.path().strip_prefix("/q/entries/").expect("below it"));
        script.cut();
        let syncs = script.next(OpCode::Sync).await;
        assert_eq!(syncs.path(), "/q");
        if refused {
            script.refuse(&syncs, ErrorCode::NoAuth);
            let error = script.end(puts).await.expect_err("nobody knows");
            assert!(matches!(&error, Error::Client(client) if client.is_unknown()), "{error}");
            assert!(error.to_string().contains("can't be looked for"), "{error}");
            continue;
        }
        script.answer(&syncs, |out| put_str(out, "/q"));
        let lists = script.next(OpCode::GetChildren).await;
        assert_eq!(lists.path(), "/q/entries");
        script.list(&lists, &["entry-100-0000000003", &name]);
        assert_eq!(script.end(puts).await.expect("it is there"), name);
    }
}

#[tokio::test]
async fn a_double_barrier_stands_at_the_root_of_a_chroot() {
    let (client, mut script) = Script::new(|builder| builder);
    let barrier = DoubleBarrier::new(&client.chroot("/b").expect("a path"), "/", 1).expect("some");
    let enters = tokio::spawn(async move { barrier.enter().await });
    let path = script.create("").await;
    let own = stat(script.zxid, 0);
    let name = path.strip_prefix("/b/").expect("below it");
    let ready = script.next(OpCode::Exists).await;
    assert_eq!(ready.path(), "/b/ready");
    script.answer(&ready, |out| stat(own.czxid.to_wire() + 1, 0).write(out));
    let looks = script.next(OpCode::Exists).await;
    assert_eq!(looks.path(), path);
    script.answer(&looks, |out| own.write(out));
    let lists = script.next(OpCode::GetChildren).await;
    assert_eq!(lists.path(), "/b");
    script.list(&lists, &["ready", name]);
    drop(script.end(enters).await.expect("it stood when the barrier was opened"));
}

#[tokio::test]
async fn an_acknowledgement_is_believed_only_while_the_session_is_known_to_live() {
    for stopped in [false, true] {
        let (client, mut script) = Script::new(|builder| builder);
        let item = take(&client, &mut script).await;
        let acks = tokio::spawn(item.ack());
        script.next(OpCode::Multi).await;
        script.cut();
        let sync = script.next(OpCode::Sync).await;
        script.answer(&sync, |out| put_str(out, "/q"));
        let marker = script.next(OpCode::Exists).await;
        if stopped {
            // The session ends at the servers meanwhile, and the claim with it.
            script.clock.0.fetch_add(u64::try_from(TIMEOUT.as_nanos()).expect("not that long"), Ordering::SeqCst);
        }
        script.refuse(&marker, ErrorCode::NoNode);
        if !stopped {
            script.end(acks).await.expect("nobody else removes a marker of a session that lives");
            continue;
        }
        let entry = script.next(OpCode::Exists).await;
        assert_eq!(entry.path(), "/q/entries/entry-100-0000000001");
        script.answer(&entry, |out| stat(50, 0).write(out));
        let result = script.end(acks).await;
        assert!(matches!(result, Err(Error::ClaimLost { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn an_item_that_went_with_the_session_is_not_given_back() {
    let (client, mut script) = Script::new(|builder| builder);
    let item = take(&client, &mut script).await;
    script.expires = true;
    script.cut();
    let gives_back = tokio::spawn(item.give_back());
    let result = script.end(gives_back).await;
    assert!(matches!(result, Err(Error::ClaimLost { .. })), "{result:?}");
}

#[tokio::test]
async fn a_server_without_a_leader_is_waited_for() {
    let (client, mut script) = Script::new(|builder| builder.allow_read_only(true));
    script.read_only = true;
    let lock = Lock::new(&client, "/lock");
    let acquires = tokio::spawn(async move { lock.acquire().await });
    for _ in 0..2 {
        let request = script.next(OpCode::Create2).await;
        script.refuse(&request, ErrorCode::NotReadOnly);
    }
    script.read_only = false;
    script.cut();
    let path = script.create("0000000001").await;
    let made = script.zxid - 1;
    let listed = script.next(OpCode::GetChildren).await;
    script.list(&listed, &[path.strip_prefix("/lock/").expect("below it")]);
    let guard = script.end(acquires).await.expect("acquired");
    let look = script.next(OpCode::GetData).await;
    script.show(&look, &stat(made, 0));
    // And so it is with the release.
    let releases = tokio::spawn(guard.release());
    let request = script.next(OpCode::Delete).await;
    script.refuse(&request, ErrorCode::NotReadOnly);
    let request = script.next(OpCode::Delete).await;
    script.answer(&request, |_| {});
    script.end(releases).await.expect("released");
}

#[tokio::test]
async fn errors_of_a_guarded_write_are_counted_without_its_check() {
    let (client, mut script) = Script::new(|builder| builder);
    for (failed, told) in [(0, None), (1, Some(0)), (2, Some(1))] {
        let client = client.clone();
        let writes = tokio::spawn(async move {
            let ops = [Op::set("/a", b"1", None), Op::delete("/b", None)];
            guarded_multi(&client, "/lock/node", ops).await
        });
        let request = script.next(OpCode::Multi).await;
        script.fail(&request, 3, failed, ErrorCode::NoAuth);
        let result = script.end(writes).await;
        let Err(Error::Client(ClientError::Refused { code: ErrorCode::NoAuth, index, .. })) = result else {
            panic!("{result:?}");
        };
        assert_eq!(index, told, "{failed}");
    }
}
