//! The read-write lock on three servers, in both layouts.

mod common;

use common::{Ensemble, SHORT, client, count, eventually, patient, patiently};
use farrier_client::{Client, Op};
use farrier_recipes::{Error, HoldState, Layout, ReadGuard, RwLock, WriteGuard};
use farrier_testkit::relay::Mode;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Longer than it takes to see that nothing happens where nothing must.
const MOMENT: Duration = Duration::from_millis(200);

async fn read(lock: &RwLock) -> ReadGuard {
    patiently("a reader", lock.read()).await.expect("acquired")
}

async fn write(lock: &RwLock) -> WriteGuard {
    patiently("a writer", lock.write()).await.expect("acquired")
}

/// Stands in line in the background; returns once it does.
async fn queued<T: Send + 'static>(
    seer: &Client,
    line: usize,
    guard: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let task = tokio::spawn(guard);
    eventually("it stands in line", async || count(seer, "/rw").await == line).await;
    task
}

#[tokio::test]
async fn readers_share_and_writers_do_not() {
    for layout in [Layout::Curator, Layout::Kazoo] {
        let servers = Ensemble::start().await;
        let client = client(servers.connect()).await;
        let lock = || RwLock::new(&client, "/rw").layout(layout);
        let (one, two) = (lock(), lock());
        let (first, second) = (read(&one).await, read(&two).await);
        assert!(first.is_held() && second.is_held());
        assert!(matches!(lock().write_within(MOMENT).await, Err(Error::NotAcquired { .. })));
        let error = one.write().await.expect_err("an upgrade");
        assert!(
            matches!(&error, Error::Invalid { reason, .. } if reason.contains("release the read guard")),
            "{error}"
        );

        // A writer, readers and another writer behind the readers.
        let writer = queued(&client, 3, {
            let lock = lock();
            async move { write(&lock).await }
        })
        .await;
        let third = queued(&client, 4, {
            let lock = lock();
            async move { read(&lock).await }
        })
        .await;
        let fourth = queued(&client, 5, {
            let lock = lock();
            async move { read(&lock).await }
        })
        .await;
        let last = queued(&client, 6, {
            let lock = lock();
            async move { write(&lock).await }
        })
        .await;
        first.release().await.expect("released");
        assert!(!writer.is_finished() && !third.is_finished());
        second.release().await.expect("released");
        let writer = patiently("the writer", writer).await.expect("it does not panic");
        assert!(!third.is_finished(), "a reader never passes a waiting writer");

        // Down to a reader: those behind it come in, the next writer does not.
        let token = writer.token();
        let down = patiently("downgraded", writer.downgrade()).await.expect("done");
        assert!(down.is_held() && down.token() > token);
        let third = patiently("a reader", third).await.expect("it does not panic");
        let fourth = patiently("a reader", fourth).await.expect("it does not panic");
        assert_eq!(count(&client, "/rw").await, 4, "the writer's znode is gone");
        assert!(matches!(lock().write_within(MOMENT).await, Err(Error::NotAcquired { .. })));
        drop((third, fourth));
        eventually("two left", async || count(&client, "/rw").await == 2).await;
        assert!(!last.is_finished() && down.is_held());
        let done = down.multi([Op::create("/under-read", b"")]).await.expect("done");
        assert_eq!(done.len(), 1);
        drop(down);
        let last = patiently("the last writer", last).await.expect("it does not panic");
        assert!(last.token() > token);
        // The write lock of one that reads no more is no upgrade.
        drop(last);
        drop(write(&one).await);
        eventually("nothing is left", async || count(&client, "/rw").await == 0).await;
    }
}

/// Readers and writers of a register while leaders are killed: what a reader sees does not change under it, and in the
/// order of the ensemble the writers' tokens never go back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_no_writer_while_leaders_are_killed() {
    let servers = Ensemble::start().await;
    let setup = client(servers.connect()).await;
    setup.create("/register", b"0").await.expect("created");
    let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let writes = Arc::new(Mutex::new(Vec::new()));
    // Readers inside, or -1 for a writer.
    let inside = Arc::new(AtomicI64::new(0));
    let mut tasks = Vec::new();
    for index in 0..5 {
        let client = client(servers.connect()).await;
        let (stop, rounds, inside) = (Arc::clone(&stop), Arc::clone(&rounds), Arc::clone(&inside));
        let writes = Arc::clone(&writes);
        tasks.push(tokio::spawn(async move {
            let lock = RwLock::new(&client, "/rw");
            while !stop.load(Ordering::Relaxed) {
                if index < 2 {
                    let guard = write(&lock).await;
                    let others = inside.fetch_sub(1, Ordering::SeqCst);
                    let token = guard.token();
                    match guard.multi([Op::set("/register", &token.to_string(), None)]).await {
                        Ok(done) => match done[..] {
                            [farrier_client::OpResult::Set(stat)] => {
                                writes.lock().expect("not poisoned").push((stat.mzxid, token));
                            }
                            ref other => panic!("{other:?}"),
                        },
                        Err(Error::Client(_) | Error::LockLost { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                    inside.fetch_add(1, Ordering::SeqCst);
                    assert!(others == 0 || guard.state() == HoldState::Lost, "{others} inside beside a writer");
                } else {
                    let guard = read(&lock).await;
                    let before = inside.fetch_add(1, Ordering::SeqCst);
                    let (one, next) = (client.get("/register").await, client.get("/register").await);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    let sure = guard.state() != HoldState::Lost;
                    assert!(before >= 0 || !sure, "a writer inside beside a reader");
                    if let (Ok(one), Ok(next), true) = (one, next, sure) {
                        assert_eq!(one, next, "it changed under a reader");
                    }
                }
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for _ in 0..2 {
        servers.replace_leader().await;
        let before = rounds.load(Ordering::Relaxed);
        eventually("they go on", async || rounds.load(Ordering::Relaxed) > before + 10).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        patiently("a contender's end", task).await.expect("it does not panic");
    }
    let mut writes = writes.lock().expect("not poisoned").clone();
    writes.sort_unstable();
    assert!(writes.len() > 1 && writes.is_sorted_by(|(_, one), (_, next)| one <= next), "it went back: {writes:?}");
    eventually("nothing is left", async || count(&setup, "/rw").await == 0).await;
}

/// A downgrade whose answer is lost was made all the same; one of a writer that is lost is refused.
#[tokio::test]
async fn a_downgrade_is_done_once_or_refused() {
    let servers = Ensemble::start().await;
    let relay = servers.relay(0).await;
    let seer = client(servers.connect()).await;
    let own = patient(&relay.connect()).connect().await.expect("a session");
    let guard = write(&RwLock::new(&own, "/rw")).await;
    let path = guard.path().to_owned();
    relay.set(Mode::HoldAnswers);
    let downgrading = tokio::spawn(guard.downgrade());
    eventually("it is made", async || seer.exists(&path).await.expect("answered").is_none()).await;
    relay.cut();
    relay.set(Mode::Pass);
    let guard = patiently("downgraded", downgrading).await.expect("it does not panic").expect("done");
    assert_eq!(guard.state(), HoldState::Held);
    assert_ne!(guard.path(), path);
    assert_eq!(count(&seer, "/rw").await, 1);
    drop(guard);

    let own = patient(&relay.connect()).session_timeout(SHORT).connect().await.expect("a session");
    let guard = write(&RwLock::new(&own, "/rw")).await;
    seer.delete(guard.path()).await.expect("deleted");
    let error = guard.downgrade().await.expect_err("it is lost");
    assert!(matches!(error, Error::LockLost { .. }), "{error}");
    eventually("nothing is left", async || count(&seer, "/rw").await == 0).await;
}
