//! The lock on three servers that are killed, by clients whose connections are cut.

mod common;

use common::{Ensemble, LONG, SHORT, client, contenders, count, eventually, patient, patiently};
use farrier_client::{Client, Op, OpResult, SessionState};
use farrier_recipes::{DoubleBarrier, Error, Guard, HoldState, Layout, Lock, RwLock, Semaphore, guarded_multi};
use farrier_testkit::relay::Mode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Makes the path a persistent one, which is there whenever somebody comes.
async fn stays(client: &Client, path: &str) {
    loop {
        match client.create(path, b"").await {
            Ok(created) if created.path == path => return,
            Err(error) if error.is_node_exists() => {
                // A container; the servers may have been faster.
                let _ = client.delete(path).await;
            }
            Err(error) if error.is_no_node() => Box::pin(stays(client, path.rsplit_once('/').expect("a path").0)).await,
            other => panic!("{other:?}"),
        }
    }
}

async fn take(lock: &Lock) -> Guard {
    patiently("the lock", lock.acquire()).await.expect("acquired")
}

/// Contenders write their tokens to a register under the lock while leaders are killed. In the order of the ensemble the
/// register never goes back, and nobody is in the lock beside somebody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_holder_at_a_time_while_leaders_are_killed() {
    const CONTENDERS: usize = 5;
    let servers = Ensemble::start().await;
    let setup = client(servers.connect()).await;
    setup.create("/register", b"0").await.expect("created");
    let writes = Arc::new(Mutex::new(Vec::new()));
    let (inside, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut tasks = Vec::new();
    for index in 0..CONTENDERS {
        let client = client(servers.connect()).await;
        let (writes, inside, stop) = (Arc::clone(&writes), Arc::clone(&inside), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            let lock = Lock::new(&client, "/locks/one").data(format!("contender {index}"));
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) || rounds < 3 {
                let guard = take(&lock).await;
                let others = inside.fetch_add(1, Ordering::SeqCst);
                let token = guard.token();
                match guard.multi([Op::set("/register", &token.to_string(), None)]).await {
                    Ok(done) => match done[..] {
                        [OpResult::Set(stat)] => writes.lock().expect("not poisoned").push((stat.mzxid, token)),
                        ref other => panic!("{other:?}"),
                    },
                    Err(Error::Client(error)) if error.is_unknown() => {}
                    Err(Error::Client(farrier_client::Error::NotDone { .. }) | Error::LockLost { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
                inside.fetch_sub(1, Ordering::SeqCst);
                // Who was lost may well have had company: nobody could tell it in time.
                assert!(others == 0 || guard.state() == HoldState::Lost, "{others} others were inside");
                if rounds % 2 == 0 {
                    drop(guard);
                } else if let Err(error) = guard.release().await {
                    assert!(matches!(error, Error::Client(_) | Error::LockLost { .. }), "{error}");
                }
                rounds += 1;
            }
        }));
    }
    for _ in 0..2 {
        let before = writes.lock().expect("not poisoned").len();
        servers.replace_leader().await;
        eventually("they go on", async || writes.lock().expect("not poisoned").len() > before + CONTENDERS).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        patiently("a contender's end", task).await.expect("it does not panic");
    }
    let mut writes = writes.lock().expect("not poisoned").clone();
    writes.sort_unstable();
    assert!(writes.is_sorted_by(|(_, one), (_, next)| one <= next), "the register went back: {writes:?}");
    eventually("nothing is left", async || count(&setup, "/locks/one").await == 0).await;
}

#[tokio::test]
async fn waiters_wake_in_order_and_one_at_a_time() {
    const WAITERS: usize = 5;
    let servers = Ensemble::start().await;
    let own = client(servers.connect()).await;
    let guard = take(&Lock::new(&own, "/l")).await;
    assert!(guard.is_held());
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    let mut clients = Vec::new();
    for index in 0..WAITERS {
        let client = client(servers.connect()).await;
        clients.push(client.clone());
        let order = Arc::clone(&order);
        tasks.push(tokio::spawn(async move {
            let guard = take(&Lock::new(&client, "/l")).await;
            order.lock().expect("not poisoned").push((index, guard.token()));
            drop(guard);
        }));
        eventually("it stands in line", async || count(&own, "/l").await == index + 2).await;
    }
    // Everybody's znode is watched by the one behind it and, if it is the holder's, by the holder.
    let line = Lock::new(&own, "/l").contenders().await.expect("listed");
    assert_eq!(guard.path(), format!("/l/{}", line[0]));
    eventually("each watches the one before it", async || {
        let watched = servers.watched().await;
        let watchers = |name: &String| watched.iter().filter(|path| **path == format!("/l/{name}")).count();
        line.iter().map(watchers).eq([2, 1, 1, 1, 1, 0])
    })
    .await;
    guard.release().await.expect("released");
    for task in tasks {
        patiently("a waiter", task).await.expect("it does not panic");
    }
    let order = order.lock().expect("not poisoned").clone();
    assert_eq!(order.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert!(order.is_sorted_by_key(|(_, token)| *token), "{order:?}");
}

/// Whatever is dropped, nothing is left: before the znode is made, while it is made, while it waits, while it is held;
/// with a connection and without one.
#[tokio::test]
async fn what_is_dropped_leaves_nothing() {
    let servers = Ensemble::start().await;
    let relay = servers.relay(0).await;
    let (seer, own) = (client(servers.connect()).await, client(&relay.connect()).await);
    let lock = Lock::new(&own, "/deep/l");
    let none = async |what: &str| eventually(what, async || count(&seer, "/deep/l").await == 0).await;

    // As far as it came in some time, with its guard if it came to one.
    for millis in 0..12 {
        drop(tokio::time::timeout(Duration::from_millis(millis), lock.acquire()).await);
    }
    none("after drops at any time").await;

    // The answer to the creation is on its way, and lost.
    stays(&seer, "/deep/l").await;
    relay.set(Mode::HoldAnswers);
    let acquiring = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await.map(|_| ()) }
    });
    eventually("its znode", async || count(&seer, "/deep/l").await == 1).await;
    acquiring.abort();
    assert!(acquiring.await.expect_err("it was dropped").is_cancelled());
    relay.cut();
    relay.set(Mode::Pass);
    none("after a lost answer").await;

    // In line.
    let other = take(&Lock::new(&seer, "/deep/l")).await;
    let error = lock.acquire_within(Duration::from_millis(50)).await.expect_err("it is held");
    assert!(matches!(&error, Error::NotAcquired { path, .. } if path == "/deep/l"), "{error}");
    assert_eq!(count(&seer, "/deep/l").await, 1, "it is gone with the error");
    assert!(matches!(lock.acquire_within(Duration::ZERO).await, Err(Error::NotAcquired { .. })));
    let acquiring = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await.map(|_| ()) }
    });
    eventually("two in line", async || count(&seer, "/deep/l").await == 2).await;
    acquiring.abort();
    eventually("one in line", async || count(&seer, "/deep/l").await == 1).await;
    other.release().await.expect("released");

    // Held, without a connection.
    let guard = take(&lock).await;
    relay.set(Mode::Refuse);
    relay.cut();
    let mut state = guard.watch();
    patiently("suspended", state.wait_for(|s| *s == HoldState::Suspended)).await.expect("it is there");
    drop(guard);
    assert_eq!(count(&seer, "/deep/l").await, 1);
    relay.set(Mode::Pass);
    none("after a drop without a connection").await;
}

/// A creation whose answer is lost is found again, and the lock has one znode for it.
#[tokio::test]
async fn a_lost_answer_is_made_up_for() {
    let servers = Ensemble::start().await;
    let relay = servers.relay(1).await;
    let (seer, own) = (client(servers.connect()).await, client(&relay.connect()).await);
    stays(&seer, "/l").await;
    for kill in [false, true] {
        eventually("it is free", async || count(&seer, "/l").await == 0).await;
        relay.set(Mode::HoldAnswers);
        let acquiring = tokio::spawn({
            let lock = Lock::new(&own, "/l");
            async move { take(&lock).await }
        });
        eventually("its znode", async || count(&seer, "/l").await == 1).await;
        if kill {
            servers.kill(1).await;
        }
        relay.cut();
        relay.set(Mode::Pass);
        if kill {
            servers.start_again(1).await;
        }
        let guard = patiently("the guard", acquiring).await.expect("it does not panic");
        assert!(guard.is_held());
        assert_eq!(contenders(&seer, "/l").await, [guard.path().trim_start_matches("/l/")]);
        let stat = seer.exists(guard.path()).await.expect("answered").expect("it exists");
        assert_eq!(guard.token().get(), stat.czxid.to_wire());
        drop(guard);
    }
}

#[tokio::test]
async fn held_suspended_and_lost_for_good() {
    let servers = Ensemble::start().await;
    let relay = servers.relay(2).await;
    let seer = client(servers.connect()).await;
    seer.create("/data", b"0").await.expect("created");

    // Back in time: it is held again once the znode was seen.
    let own = patient(&relay.connect()).session_timeout(LONG).connect().await.expect("a session");
    let guard = take(&Lock::new(&own, "/l")).await;
    let mut state = guard.watch();
    relay.set(Mode::Refuse);
    relay.cut();
    patiently("suspended", state.wait_for(|s| *s == HoldState::Suspended)).await.expect("it is there");
    assert_eq!(guard.state(), HoldState::Suspended);
    relay.set(Mode::Pass);
    patiently("held again", state.wait_for(|s| *s == HoldState::Held)).await.expect("it is there");

    // Taken away by hand: lost at once, and the line goes on.
    seer.delete(guard.path()).await.expect("deleted");
    patiently("lost", guard.lost()).await;
    assert!(matches!(guard.multi([Op::set("/data", b"1", None)]).await, Err(Error::LockLost { .. })));
    assert!(matches!(guard.release().await, Err(Error::LockLost { .. })));
    own.close().await.expect("closed");

    // Too late: when somebody else has it, the old holder knows, and knows for good.
    let own = patient(&relay.connect()).session_timeout(SHORT).connect().await.expect("a session");
    let (lock, other) = (Lock::new(&own, "/l"), Lock::new(&seer, "/l"));
    let guard = take(&lock).await;
    let token = guard.token();
    let queued = tokio::spawn(async move { take(&other).await });
    eventually("two in line", async || count(&seer, "/l").await == 2).await;
    relay.set(Mode::Refuse);
    relay.cut();
    let next = patiently("the next holder", queued).await.expect("it does not panic");
    assert_eq!(guard.state(), HoldState::Lost, "before anybody else can have it");
    patiently("told too", guard.lost()).await;
    assert!(next.is_held() && next.token() > token);
    relay.set(Mode::Pass);
    common::reached(&own, "a new session", |s| s.connected().is_some_and(|id| id != guard.session())).await;
    assert_eq!(guard.state(), HoldState::Lost);
    assert!(matches!(guard.multi([Op::set("/data", b"1", None)]).await, Err(Error::LockLost { .. })));
    // The servers say the same to whoever does not ask itself.
    let path = guard.path().to_owned();
    let stale = guarded_multi(&own, &path, [Op::set("/data", b"1", None)]).await;
    assert!(matches!(stale, Err(Error::LockLost { .. })), "{stale:?}");
    assert_eq!(seer.get("/data").await.expect("read").data, b"0");
    drop(guard);
    next.release().await.expect("released");
}

/// Who waits and loses its session stands in line anew.
#[tokio::test]
async fn a_waiter_outlives_its_session() {
    let servers = Ensemble::start().await;
    let relay = servers.relay(0).await;
    let seer = client(servers.connect()).await;
    let own = patient(&relay.connect()).session_timeout(SHORT).connect().await.expect("a session");
    let guard = take(&Lock::new(&seer, "/l")).await;
    let waiting = tokio::spawn({
        let lock = Lock::new(&own, "/l");
        async move { take(&lock).await }
    });
    eventually("two in line", async || count(&seer, "/l").await == 2).await;
    relay.set(Mode::Refuse);
    relay.cut();
    eventually("its znode went with its session", async || count(&seer, "/l").await == 1).await;
    relay.set(Mode::Pass);
    eventually("it is back in line", async || count(&seer, "/l").await == 2).await;
    // Its znode may go by another hand, too.
    let line = Lock::new(&seer, "/l").contenders().await.expect("listed");
    seer.delete(&format!("/l/{}", line[1])).await.expect("deleted");
    guard.release().await.expect("released");
    let guard = patiently("its turn", waiting).await.expect("it does not panic");
    assert!(guard.is_held() && guard.path() != format!("/l/{}", line[1]));
    assert!(matches!(*own.session().borrow(), SessionState::Connected { .. }));
}

#[tokio::test]
async fn layouts_parents_and_guarded_writes() {
    let servers = Ensemble::start().await;
    let (one, two) = (client(servers.connect()).await, client(servers.connect()).await);
    for (path, ours, theirs) in
        [("/a/curator", Layout::Curator, Layout::Kazoo), ("/a/kazoo", Layout::Kazoo, Layout::Curator)]
    {
        let guard = take(&Lock::new(&one, path).layout(ours).data("me")).await;
        // Its server may be behind.
        two.sync(path).await.expect("synced");
        assert_eq!(two.get(guard.path()).await.expect("read").data, b"me");
        let error = Lock::new(&two, path).layout(theirs).acquire().await.expect_err("another layout");
        assert!(matches!(&error, Error::OtherLayout { path: p, .. } if p == path), "{error}");
        assert_eq!(count(&two, path).await, 1, "nothing is left of the attempt");
        assert!(guard.is_held());
        guard.release().await.expect("released");
    }
    eventually("the container goes", async || two.exists("/a/curator").await.expect("answered").is_none()).await;
    assert_eq!(contenders(&two, "/a").await, ["kazoo"]);

    let guard = take(&Lock::new(&one, "/g")).await;
    two.create("/d", b"0").await.expect("created");
    let node = guard.path().to_owned();
    let done = guarded_multi(&two, &node, [Op::set("/d", b"1", 0), Op::create("/d/x", b"")]).await.expect("done");
    assert!(
        matches!(&done[..], [OpResult::Set(stat), OpResult::Created { path, .. }] if stat.version == 1 && path == "/d/x")
    );
    let error = guard.multi([Op::check("/d", 1), Op::set("/d", b"2", 7)]).await.expect_err("another version");
    assert!(
        matches!(&error, Error::Client(farrier_client::Error::Refused { index: Some(1), path, .. }) if path == "/d"),
        "counted without the check: {error:?}"
    );
    // A parent that does not exist is not the lock's znode.
    let error = guard.multi([Op::create("/no/x", b"")]).await.expect_err("no parent");
    assert!(matches!(&error, Error::Client(e) if e.is_no_node()), "{error:?}");
    assert!(guard.is_held());
    guard.release().await.expect("released");
    let error = guarded_multi(&two, &node, [Op::set("/d", b"3", None)]).await.expect_err("released");
    assert!(matches!(&error, Error::LockLost { path } if *path == node), "{error}");
    assert_eq!(two.get("/d").await.expect("read").data, b"1");

    // A chroot is as invisible here as elsewhere.
    two.create("/root", b"").await.expect("created");
    let guard = take(&Lock::new(&two.chroot("/root").expect("a path"), "/l")).await;
    assert!(
        guard.path().starts_with("/l/_c_")
            && two.exists(&format!("/root{}", guard.path())).await.expect("answered").is_some()
    );
}

/// Who has a session for long and takes and gives back all the time leaves no watch at the servers: names are never used
/// again, so one that waits for such a znode waits as long as the connection lasts.
#[tokio::test]
async fn what_was_held_leaves_no_watch() {
    const ROUNDS: usize = 4;
    let servers = Ensemble::start().await;
    let (own, other) = (client(servers.connect()).await, client(servers.connect()).await);
    let (lock, table, seats) = (Lock::new(&own, "/w/l"), RwLock::new(&own, "/w/t"), Semaphore::new(&own, "/w/s", 2));
    let barriers = [&own, &other].map(|client| DoubleBarrier::new(client, "/w/b", 2).expect("some"));
    for _ in 0..ROUNDS {
        let guard = take(&lock).await;
        eventually("the holder's watch", async || servers.watched().await.iter().any(|path| path == guard.path()))
            .await;
        guard.release().await.expect("released");
        let write = patiently("the table", table.write()).await.expect("acquired");
        patiently("the readers", write.downgrade()).await.expect("a reader").release().await.expect("released");
        patiently("a seat", seats.acquire()).await.expect("acquired").release().await.expect("released");
        // By somebody else's hand.
        let guard = take(&lock).await;
        other.delete(guard.path()).await.expect("deleted");
        patiently("it is lost", guard.lost()).await;
        let enter =
            async |barrier: &DoubleBarrier| barrier.enter().await.expect("entered").leave().await.expect("left");
        patiently("the barrier", async { tokio::join!(enter(&barriers[0]), enter(&barriers[1])) }).await;
    }
    // The name by which a barrier opens is the same in every round.
    eventually("none is left", async || servers.watched().await.iter().all(|path| path == "/w/b/ready")).await;
}
