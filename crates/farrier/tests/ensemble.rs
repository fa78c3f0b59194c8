//! The ensemble for tests, as a program's tests use it.

use farrier::recipes::{HoldState, Lock};
use farrier::testing::Ensemble;
use farrier::{Client, Error, SessionState};
use std::time::Duration;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(120);

async fn client(connect: &str) -> Client {
    let builder = Client::builder(connect).connect_timeout(PATIENCE).request_timeout(PATIENCE);
    builder.session_timeout(Duration::from_secs(10)).connect().await.expect("a session")
}

/// Writes the next numbers below `/log` until so many were acknowledged; what was not is told.
struct Writer {
    client: Client,
    next: u32,
    acknowledged: Vec<u32>,
    unknown: Vec<u32>,
}

impl Writer {
    async fn start(connect: &str) -> Self {
        let client = client(connect).await;
        client.create("/log", b"").await.expect("a new ensemble is empty");
        Self { client, next: 0, acknowledged: Vec::new(), unknown: Vec::new() }
    }

    async fn write(&mut self, count: usize) {
        let wanted = self.acknowledged.len() + count;
        while self.acknowledged.len() < wanted {
            let number = self.next;
            self.next += 1;
            match self.client.create(&format!("/log/{number}"), b"").await {
                Ok(_) => self.acknowledged.push(number),
                Err(Error::Unknown { .. }) => self.unknown.push(number),
                // Nothing was changed.
                Err(Error::NotDone { .. } | Error::SessionExpired { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Every acknowledged write is there, and nothing that was not made.
    async fn check(&self, connect: &str) {
        let reader = client(connect).await;
        reader.sync("/").await.expect("a quorum is there");
        let names = reader.list("/log").await.expect("the log is there");
        let mut found: Vec<u32> = names.iter().map(|name| name.parse().expect("a number")).collect();
        found.sort_unstable();
        for number in &self.acknowledged {
            assert!(found.binary_search(number).is_ok(), "{connect}: {number} was acknowledged and is lost");
        }
        for number in &found {
            assert!(
                self.acknowledged.contains(number) || self.unknown.contains(number),
                "{connect}: {number} was refused and is there"
            );
        }
    }
}

#[tokio::test]
async fn a_client_writes_through_kills_and_restarts() {
    let mut ensemble = Ensemble::start(3).await.expect("three servers");
    let mut writer = Writer::start(&ensemble.connect_string()).await;
    for _ in 0..3 {
        writer.write(50).await;
        let leader = ensemble.leader().await.expect("a leader");
        ensemble.kill(leader).await;
        assert!(!ensemble.is_running(leader));
        writer.write(50).await;
        let follower = (1..=3).find(|n| *n != leader).expect("three servers");
        ensemble.restart(leader).await.expect("it takes its directory and ports again");
        ensemble.wait_serving().await.expect("all three serve");
        ensemble.restart(follower).await.expect("a follower too");
        writer.write(50).await;
    }
    ensemble.wait_serving().await.expect("all three serve");
    for n in 1..=3 {
        writer.check(&ensemble.address(n).to_string()).await;
    }
}

#[tokio::test]
async fn what_all_servers_had_acknowledged_survives_their_death() {
    let mut ensemble = Ensemble::start(3).await.expect("three servers");
    let mut writer = Writer::start(&ensemble.connect_string()).await;
    writer.write(100).await;
    for n in 1..=3 {
        ensemble.kill(n).await;
    }
    for n in 1..=3 {
        ensemble.restart(n).await.expect("each starts again");
    }
    ensemble.wait_serving().await.expect("all three serve");
    writer.check(&ensemble.connect_string()).await;
    writer.write(10).await;
}

#[tokio::test]
async fn a_leader_that_is_cut_off_is_replaced_and_follows_when_it_is_back() {
    let mut ensemble = Ensemble::start(3).await.expect("three servers");
    let mut writer = Writer::start(&ensemble.connect_string()).await;
    writer.write(20).await;
    let old = ensemble.leader().await.expect("a leader");
    ensemble.partition(old);
    let new = ensemble.leader().await.expect("another leader");
    assert_ne!(new, old);
    let others: Vec<String> = (1..=3).filter(|n| *n != old).map(|n| ensemble.address(n).to_string()).collect();
    let elsewhere = client(&others.join(",")).await;
    elsewhere.create("/elsewhere", b"").await.expect("a quorum is left");
    // The old one has no quorum, so it can't even give a session in the end.
    let alone = Client::builder(&ensemble.address(old).to_string()).connect_timeout(Duration::from_secs(1));
    let told = async {
        loop {
            let Ok(client) = alone.clone().request_timeout(Duration::from_secs(1)).connect().await else { return };
            // It may not have noticed yet; but it has nothing that is new, and it acknowledges nothing.
            client.create("/alone", b"").await.expect_err("it has no quorum");
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("it notices");

    ensemble.heal(old);
    ensemble.wait_serving().await.expect("all three serve");
    writer.write(20).await;
    for n in 1..=3 {
        let address = ensemble.address(n).to_string();
        writer.check(&address).await;
        let reader = client(&address).await;
        reader.sync("/").await.expect("a quorum is there");
        assert!(reader.exists("/elsewhere").await.expect("an answer").is_some(), "{address}");
    }
}

#[tokio::test]
async fn a_client_does_not_go_back_to_a_server_that_lags() {
    let mut ensemble = Ensemble::start(3).await.expect("three servers");
    let leader = ensemble.leader().await.expect("a leader");
    let followers: Vec<u8> = (1..=3).filter(|n| *n != leader).collect();
    let [ahead, behind] = followers[..] else { panic!("two follow: {followers:?}") };
    let both = format!("{},{}", ensemble.address(ahead), ensemble.address(behind));
    // Servers are tried in any order.
    let (client, seen) = loop {
        let client = client(&both).await;
        let state = client.session().borrow().clone();
        if matches!(state, SessionState::Connected { server, .. } if *server == *ensemble.address(ahead).to_string()) {
            ensemble.partition(behind);
            client.create("/last", b"").await.expect("two are a quorum");
            let seen = client.last_zxid();
            break (client, seen);
        }
    };
    ensemble.kill(ahead).await;
    // The one that is left serves until it notices that it is cut off, and knows nothing of this.
    let read = client.get("/last").send();
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensemble.heal(behind);
    read.await.expect("nobody may say that it is not there");
    assert!(client.last_zxid() >= seen);
}

#[tokio::test]
async fn a_short_cut_goes_unnoticed() {
    let mut ensemble = Ensemble::start(3).await.expect("three servers");
    let mut writer = Writer::start(&ensemble.connect_string()).await;
    for n in [1, 2, 3, 1, 2, 3] {
        ensemble.partition(n);
        while writer.client.exists("/log").await.is_err() {}
        ensemble.heal(n);
        writer.write(5).await;
    }
    ensemble.wait_serving().await.expect("all three serve");
    writer.check(&ensemble.connect_string()).await;
}

/// A follower that is cut off answers its clients from its own memory, while the leader lets their sessions expire. Who holds
/// a lock there and asks for nothing learns in time that it may be lost.
#[tokio::test]
async fn an_idle_holder_behind_a_cut_is_lost_before_the_next_one_holds() {
    // A minute, longer than any session here: nobody notices the cut by itself.
    let mut ensemble = Ensemble::start_with_sync_limit(3, 120).await.expect("three servers");
    let leader = ensemble.leader().await.expect("a leader");
    let follower = (1..=3).find(|n| *n != leader).expect("three servers");
    let session = |n| {
        let builder = Client::builder(&ensemble.address(n).to_string()).connect_timeout(PATIENCE);
        builder.request_timeout(PATIENCE).session_timeout(Duration::from_secs(6)).connect()
    };
    let (holder, other) = (session(follower).await.expect("a session"), session(leader).await.expect("a session"));
    let (lock, next) = (Lock::new(&holder, "/lock"), Lock::new(&other, "/lock"));
    let guard = lock.acquire().await.expect("it is free");
    let waiting = tokio::spawn({
        let next = next.clone();
        async move { next.acquire().await }
    });
    let ends = || holder.lease().map(|lease| lease.ends());
    let begun = ends();
    let set_up = async {
        // On a machine that stands still for long it is lost already, which will do.
        while guard.state() != HoldState::Lost
            && (next.contenders().await.expect("listed").len() < 2 || ends() <= begun)
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, set_up).await.expect("the other waits, and the lease is renewed");

    ensemble.partition(follower);
    let taken = tokio::time::timeout(PATIENCE, waiting).await.expect("the session expires").expect("no panic");
    let taken = taken.expect("acquired");
    let since = other.now();
    assert_eq!(guard.state(), HoldState::Lost);
    assert!(holder.lease().is_none_or(|lease| lease.ends() <= since), "it ended before the next one held");
    ensemble.heal(follower);
    guard.release().await.expect_err("it was lost");
    drop(taken);
}

#[tokio::test]
async fn one_server_alone() {
    let mut ensemble = Ensemble::start(1).await.expect("one server");
    assert_eq!((ensemble.len(), ensemble.is_empty()), (1, false));
    assert_eq!(ensemble.leader().await.expect("it is its own"), 1);
    let mut writer = Writer::start(&ensemble.connect_string()).await;
    writer.write(20).await;
    ensemble.restart(1).await.expect("it starts again");
    writer.write(20).await;
    // There is nobody to cut it off from.
    ensemble.partition(1);
    ensemble.heal(1);
    writer.check(&ensemble.connect_string()).await;
}

#[tokio::test]
#[should_panic(expected = "there is no server 4; they are numbered from 1 to 3")]
async fn a_server_that_is_not_there() {
    let ensemble = Ensemble::start(3).await.expect("three servers");
    let _ = ensemble.address(4);
}
