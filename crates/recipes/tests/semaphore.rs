//! The semaphore on three servers.

mod common;

use common::{Ensemble, SHORT, client, contenders, count, eventually, patient, patiently};
use farrier_recipes::{Error, HoldState, Permit, Semaphore};
use farrier_testkit::relay::Mode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

async fn take(semaphore: &Semaphore) -> Permit {
    patiently("a permit", semaphore.acquire()).await.expect("acquired")
}

#[tokio::test]
async fn permits_are_bounded_and_come_back() {
    let servers = Ensemble::start().await;
    let relay = servers.relay(0).await;
    let seer = client(servers.connect()).await;
    let own = patient(&relay.connect()).session_timeout(SHORT).connect().await.expect("a session");
    let (theirs, ours) = (Semaphore::new(&own, "/s", 2), Semaphore::new(&seer, "/s", 2).data("us"));
    assert!(matches!(Semaphore::new(&seer, "/s", 0).acquire().await, Err(Error::Invalid { .. })));
    let (first, second) = (take(&theirs).await, take(&ours).await);
    assert!(first.is_held() && second.is_held());
    assert_eq!(seer.get(second.path()).await.expect("read").data, b"us");
    let error = ours.acquire_within(Duration::from_millis(50)).await.expect_err("none is free");
    assert!(matches!(&error, Error::NotAcquired { path, .. } if path == "/s"), "{error}");
    eventually("nothing is left of it", async || {
        count(&seer, "/s/leases").await == 2 && count(&seer, "/s/locks").await == 0
    })
    .await;

    // Two wait, and of them one looks at the permits. A permit comes back by the end of a session.
    let wait = |semaphore: Semaphore| tokio::spawn(async move { take(&semaphore).await });
    let third = wait(ours.clone());
    eventually("the first waiter", async || count(&seer, "/s/leases").await == 3).await;
    let fourth = wait(ours.clone());
    eventually("the second waiter", async || count(&seer, "/s/locks").await == 2).await;
    assert_eq!(count(&seer, "/s/leases").await, 3, "only one of them has come as far as that");
    relay.set(Mode::Refuse);
    relay.cut();
    let third = patiently("the third", third).await.expect("it does not panic");
    assert_eq!(first.state(), HoldState::Lost, "before anybody else can have it");
    assert!(!fourth.is_finished());
    second.release().await.expect("released");
    let fourth = patiently("the fourth", fourth).await.expect("it does not panic");
    // A waiter that is dropped leaves nothing.
    let fifth = wait(ours.clone());
    eventually("a waiter", async || count(&seer, "/s/leases").await == 3).await;
    fifth.abort();
    drop((third, fourth));
    eventually("nothing is left", async || count(&seer, "/s/leases").await == 0 && count(&seer, "/s/locks").await == 0)
        .await;
}

/// Whoever looks at the permits without having the turn any more makes room for the one who has it now.
#[tokio::test]
async fn a_contender_that_loses_its_turn_goes_to_the_end_of_the_line() {
    let servers = Ensemble::start().await;
    let seer = client(servers.connect()).await;
    let semaphore = Semaphore::new(&seer, "/s", 1);
    let held = take(&semaphore).await;
    let wait = |semaphore: Semaphore| tokio::spawn(async move { take(&semaphore).await });
    let first = wait(semaphore.clone());
    eventually("it waits for a permit", async || count(&seer, "/s/leases").await == 2).await;
    let turn = contenders(&seer, "/s/locks").await.pop().expect("its turn");
    let second = wait(semaphore);
    eventually("it waits for its turn", async || count(&seer, "/s/locks").await == 2).await;
    seer.delete(&format!("/s/locks/{turn}")).await.expect("deleted");
    eventually("another one", async || {
        let turns = contenders(&seer, "/s/locks").await;
        turns.len() == 2 && !turns.contains(&turn) && count(&seer, "/s/leases").await == 2
    })
    .await;
    held.release().await.expect("released");
    for waits in [second, first] {
        patiently("a permit", waits).await.expect("it does not panic").release().await.expect("released");
    }
    eventually("nothing is left", async || count(&seer, "/s/leases").await == 0 && count(&seer, "/s/locks").await == 0)
        .await;
}

#[tokio::test]
async fn several_permits_are_taken_at_once_or_not_at_all() {
    let servers = Ensemble::start().await;
    let (a, b) = (client(servers.connect()).await, client(servers.connect()).await);
    let (a_semaphore, b_semaphore) = (Semaphore::new(&a, "/s", 3), Semaphore::new(&b, "/s", 3));
    for count in [0, 4] {
        assert!(matches!(a_semaphore.acquire_many(count).await, Err(Error::Invalid { .. })), "{count} of 3");
    }
    let mut two = patiently("two", a_semaphore.acquire_many(2)).await.expect("acquired");
    assert!(two.len() == 2 && two.iter().all(|permit| permit.is_held()));
    let error = b_semaphore.acquire_many_within(2, Duration::from_millis(50)).await.expect_err("one is free");
    assert!(matches!(&error, Error::NotAcquired { path, .. } if path == "/s"), "{error}");
    eventually("nothing is left of it", async || count(&a, "/s/leases").await == 2).await;

    let waiting = tokio::spawn(async move { b_semaphore.acquire_many(3).await.expect("acquired") });
    eventually("it waits", async || count(&a, "/s/leases").await == 5).await;
    two.pop().expect("two").release().await.expect("released");
    assert!(a_semaphore.acquire_within(Duration::from_millis(50)).await.is_err(), "somebody wants all of them");
    assert!(!waiting.is_finished());
    drop(two);
    let three = patiently("three", waiting).await.expect("it does not panic");
    assert!(three.iter().all(|permit| permit.is_held()));
    drop(three);
    eventually("nothing is left", async || count(&a, "/s/leases").await == 0 && count(&a, "/s/locks").await == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_more_than_there_are_while_leaders_are_killed() {
    const PERMITS: usize = 2;
    let servers = Ensemble::start().await;
    let (inside, rounds) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for _ in 0..5 {
        let client = client(servers.connect()).await;
        let (inside, rounds, stop) = (Arc::clone(&inside), Arc::clone(&rounds), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            let semaphore = Semaphore::new(&client, "/s", PERMITS);
            while !stop.load(Ordering::Relaxed) {
                let permit = take(&semaphore).await;
                let others = inside.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(2)).await;
                inside.fetch_sub(1, Ordering::SeqCst);
                assert!(others < PERMITS || permit.state() == HoldState::Lost, "{others} others");
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
}
