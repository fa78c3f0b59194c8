//! Elections on three servers.

mod common;

use common::{Ensemble, SHORT, client, count, eventually, patient, patiently};
use farrier_client::{Op, OpResult};
use farrier_recipes::{Election, Error, HoldState, Layout, Leadership, Lock};
use farrier_testkit::relay::Mode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// At most one leader acts: what leaders write under their guards never goes back to an earlier term, while the leader of
/// the servers is killed and leaders resign.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_leader_acts_while_leaders_are_killed() {
    let servers = Ensemble::start().await;
    let setup = client(servers.connect()).await;
    setup.create("/beat", b"0").await.expect("created");
    let (stop, terms) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let beats = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for index in 0..4 {
        let client = client(servers.connect()).await;
        let (stop, terms, beats) = (Arc::clone(&stop), Arc::clone(&terms), Arc::clone(&beats));
        tasks.push(tokio::spawn(async move {
            let election = Election::new(&client, "/leader").id(&index.to_string());
            while !stop.load(Ordering::Relaxed) {
                let term = |lead: Arc<Leadership>| async {
                    let lead = lead;
                    for _ in 0..3 {
                        let token = lead.token();
                        if let Ok(done) = lead.multi([Op::set("/beat", &token.to_string(), None)]).await {
                            match done[..] {
                                [OpResult::Set(stat)] => beats.lock().expect("not poisoned").push((stat.mzxid, token)),
                                ref other => panic!("{other:?}"),
                            }
                        }
                    }
                };
                patiently("a term", election.run(term)).await.expect("it led");
                terms.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for _ in 0..2 {
        servers.replace_leader().await;
        let before = terms.load(Ordering::Relaxed);
        eventually("they go on", async || terms.load(Ordering::Relaxed) > before + 8).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        patiently("a candidate's end", task).await.expect("it does not panic");
    }
    let mut beats = beats.lock().expect("not poisoned").clone();
    beats.sort_unstable();
    assert!(beats.len() > 8 && beats.is_sorted_by(|(_, one), (_, next)| one <= next), "it went back: {beats:?}");
    eventually("nothing is left", async || count(&setup, "/leader").await == 0).await;
}

#[tokio::test]
async fn the_latch_stands_again_after_a_lost_term() {
    let servers = Ensemble::start().await;
    let relay = servers.relay(1).await;
    let seer = client(servers.connect()).await;
    let own = patient(&relay.connect()).session_timeout(SHORT).connect().await.expect("a session");
    let first = Election::new(&own, "/leader").id("first").latch();
    let term = patiently("the first leads", first.leading()).await.expect("it led");
    let token = term.token();
    assert!(first.is_leader());
    let election = Election::new(&seer, "/leader").id("second");
    let second = election.latch();
    eventually("two stand", async || count(&seer, "/leader").await == 2).await;
    let ids = async || {
        let candidates = election.candidates().await.expect("listed");
        candidates.into_iter().map(|candidate| candidate.id).collect::<Vec<_>>()
    };
    assert_eq!(ids().await, ["first", "second"]);
    assert!(!second.is_leader() && second.leadership().is_none());

    relay.set(Mode::Refuse);
    relay.cut();
    let next = patiently("the second leads", second.leading()).await.expect("it led");
    assert_eq!(term.state(), HoldState::Lost);
    assert!(!first.is_leader() && next.is_held() && next.token() > token);
    drop(term);
    relay.set(Mode::Pass);
    eventually("the first stands again", async || ids().await == ["second", "first"]).await;
    drop((next, second));
    let term = patiently("the first leads again", first.leading()).await.expect("it led");
    assert!(term.token() > token);
    drop((first, term));
    eventually("nothing is left", async || count(&seer, "/leader").await == 0).await;
}

#[tokio::test]
async fn a_lost_term_is_dropped_and_begun_anew() {
    let servers = Ensemble::start().await;
    let own = client(servers.connect()).await;
    let election = Election::new(&own, "/leader");
    let terms = AtomicUsize::new(0);
    let term = |lead: Arc<Leadership>| async {
        let lead = lead;
        if terms.fetch_add(1, Ordering::Relaxed) == 0 {
            own.delete(lead.path()).await.expect("deleted");
            std::future::pending::<()>().await;
        }
        lead.token()
    };
    let token = patiently("a second term", election.run(term)).await.expect("it led");
    assert_eq!(terms.load(Ordering::Relaxed), 2);
    let lead = patiently("a third", election.lead()).await.expect("it led");
    assert!(lead.token() > token);
    assert!(matches!(election.lead_within(Duration::ZERO).await, Err(Error::NotAcquired { .. })));
    lead.resign().await.expect("resigned");

    // kazoo's elections are its locks.
    let kazoo = Election::new(&own, "/kazoo").layout(Layout::Kazoo);
    let lead = patiently("leads", kazoo.lead()).await.expect("it led");
    let lock = Lock::new(&own, "/kazoo").layout(Layout::Kazoo);
    assert!(matches!(lock.acquire_within(Duration::ZERO).await, Err(Error::NotAcquired { .. })));
    drop(lead);
    let lock = patiently("the lock", lock.acquire()).await.expect("acquired");
    let latch = Election::new(&own, "/kazoo").latch();
    let error = patiently("refused", latch.leading()).await.expect_err("another layout");
    assert!(matches!(error, Error::OtherLayout { .. }), "{error}");
    drop(lock);
}
