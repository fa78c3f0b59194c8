//! The queue on three servers that are killed, by clients whose connections are cut and whose sessions expire.

mod common;

use common::{Ensemble, SHORT, client, eventually, patient, patiently, reached};
use farrier_client::{Client, SessionState};
use farrier_recipes::{Error, Item, Queue};
use farrier_testkit::relay::{Mode, Relay};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

async fn take(queue: &Queue) -> Item {
    patiently("an item", queue.take()).await.expect("taken")
}

async fn nothing(queue: &Queue) -> bool {
    queue.take_within(Duration::ZERO).await.expect("answered").is_none()
}

fn text(item: &Item) -> String {
    String::from_utf8(item.data().to_vec()).expect("text")
}

async fn children(client: &Client, path: &str) -> Vec<String> {
    client.sync(path).await.expect("synced");
    client.list(path).await.expect("listed")
}

/// The next item, of all that are there now.
async fn turn(client: &Client, queue: &Queue) -> Item {
    client.sync("/").await.expect("synced");
    take(queue).await
}

async fn items_are_taken_in_their_turn_and_gone_when_done(a: &Client, b: &Client) {
    let (queue, other) = (Queue::new(a, "/q").limit(4), Queue::new(b, "/q"));
    assert!(nothing(&other).await);
    assert!(queue.is_empty().await.expect("read"));
    let first = queue.put("one").await.expect("put");
    queue.put_plain(100, "two").await.expect("put");
    queue.put_at(7, "urgent").await.expect("put");
    queue.put("three").await.expect("put");
    let full = queue.put("four").await.expect_err("it is full");
    assert!(matches!(full, Error::QueueFull { limit: 4, .. }), "{full}");
    assert!(queue.put_at(1000, "x").await.is_err_and(|e| e.to_string().contains("from 0 to 999")));
    assert_eq!(queue.len().await.expect("read"), 4);

    let urgent = turn(b, &other).await;
    let one = turn(a, &queue).await;
    assert_eq!((text(&urgent), text(&one), one.name()), ("urgent".into(), "one".into(), first.as_str()));
    urgent.ack().await.expect("done");
    assert_eq!(other.len().await.expect("read"), 3, "what is worked on counts");
    one.give_back().await.expect("given back");
    let one = turn(b, &other).await;
    assert_eq!(text(&one), "one");
    let two = turn(b, &other).await;
    assert_eq!(text(&two), "two");
    let (claim, path) = (one.name().to_owned(), "/q/taken");
    drop(one);
    eventually("it is given back", async || !children(a, path).await.contains(&claim)).await;
    let one = turn(a, &queue).await;
    assert_eq!(text(&one), "one", "dropped is given back");
    let three = turn(a, &queue).await;
    assert!(nothing(&other).await);
    // Whoever waits is woken by an item that comes back, or comes.
    let (woken, freed) = tokio::join!(turn(b, &other), three.give_back());
    freed.expect("given back");
    assert_eq!(text(&woken), "three");
    for item in [one, two, woken] {
        item.ack().await.expect("done");
    }
    let (late, put) = tokio::join!(turn(b, &other), queue.put("late"));
    assert_eq!(late.name(), put.expect("put"));
    // Somebody else's hand: the item's znode is gone, which is what the one who works on it wants, too.
    b.delete(&format!("/q/entries/{}", late.name())).await.expect("deleted");
    assert!(late.ack().await.is_err());
    eventually("nothing is left", async || children(a, "/q/taken").await.is_empty()).await;
    assert!(queue.is_empty().await.expect("read"));
}

/// Cuts a connection whose answers are held, so that they are lost for certain, and lets the client come again.
async fn lose(relay: &Relay, client: &Client) {
    relay.cut();
    reached(client, "the loss", |state| matches!(state, SessionState::Suspended { .. })).await;
    relay.set(Mode::Pass);
}

/// An item whose consumer loses its session goes to another one, and the first can't acknowledge it any more: not even
/// when the second holds a claim of the same name.
async fn a_lost_claim_is_told(servers: &Ensemble, steady: &Client) {
    let relay = servers.relay(0).await;
    let frail = patient(&relay.connect()).session_timeout(SHORT).connect().await.expect("a session");
    let (queue, other) = (Queue::new(&frail, "/lost"), Queue::new(steady, "/lost"));
    other.put("a").await.expect("put");
    let mine = take(&queue).await;
    let lost = tokio::spawn(mine.lost());
    relay.set(Mode::Refuse);
    relay.cut();
    patiently("the loss", lost).await.expect("it does not panic");
    let theirs = take(&other).await;
    assert_eq!(theirs.name(), mine.name());
    relay.set(Mode::Pass);
    let refused = patiently("a word", mine.ack()).await.expect_err("it is another one's");
    assert!(matches!(refused, Error::ClaimLost { .. }), "{refused}");
    assert_eq!(other.len().await.expect("read"), 1);
    theirs.ack().await.expect("done");
    assert!(other.is_empty().await.expect("read"));
}

/// A reply that is lost while the session lives is no loss: what was asked for is done, once.
async fn a_lost_reply_is_made_up_for(servers: &Ensemble, steady: &Client) {
    let relay = servers.relay(1).await;
    let frail = client(&relay.connect()).await;
    let (queue, other) = (Queue::new(&frail, "/lost"), Queue::new(steady, "/lost"));
    other.put("b").await.expect("put");
    let item = take(&queue).await;
    relay.set(Mode::HoldAnswers);
    let done = tokio::spawn(item.ack());
    eventually("it is done", async || children(steady, "/lost/entries").await.is_empty()).await;
    lose(&relay, &frail).await;
    patiently("a word", done).await.expect("it does not panic").expect("done");
    // And the item that was put is found again.
    relay.set(Mode::HoldAnswers);
    let again = queue.clone().limit(usize::MAX);
    let put = tokio::spawn(async move { again.put("c").await });
    eventually("it is there", async || children(steady, "/lost/entries").await.len() == 1).await;
    lose(&relay, &frail).await;
    let name = patiently("a word", put).await.expect("it does not panic").expect("put");
    assert_eq!(children(steady, "/lost/entries").await, [name]);
    // A take that is given up leaves no claim.
    for delay in 0..10 {
        tokio::select! {
            biased;
            item = queue.take() => drop(item.expect("taken")),
            () = tokio::time::sleep(Duration::from_micros(300 * delay)) => {}
        }
    }
    eventually("no claim is left", async || children(steady, "/lost/taken").await.is_empty()).await;
    take(&other).await.ack().await.expect("done");
}

/// Producers and consumers while leaders are killed: everything that was put for certain is done exactly once, what is
/// not certain at most once, and each producer's items in order.
async fn nothing_is_lost_or_done_twice(servers: &Ensemble) {
    const PRODUCERS: usize = 2;
    const CONSUMERS: usize = 3;
    const EACH: usize = 40;
    let done: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut producers = Vec::new();
    for producer in 0..PRODUCERS {
        let client = client(servers.connect()).await;
        producers.push(tokio::spawn(async move {
            let queue = Queue::new(&client, "/work");
            let mut put = BTreeMap::new();
            for n in 0..EACH {
                let item = format!("{producer}.{n:02}");
                let outcome = queue.put(&item).await;
                let certain = match outcome {
                    Ok(_) => Some(true),
                    Err(Error::Client(farrier_client::Error::Unknown { .. })) => None,
                    Err(Error::Client(_)) => Some(false),
                    Err(other) => panic!("{other}"),
                };
                put.insert(item, certain);
            }
            put
        }));
    }
    let mut consumers = Vec::new();
    for _ in 0..CONSUMERS {
        let client = client(servers.connect()).await;
        let done = Arc::clone(&done);
        consumers.push(tokio::spawn(async move {
            let queue = Queue::new(&client, "/work");
            loop {
                let item = take(&queue).await;
                let what = text(&item);
                if what == "end" {
                    item.ack().await.expect("done");
                    return;
                }
                match item.ack().await {
                    Ok(()) => done.lock().expect("not poisoned").push(what),
                    Err(Error::ClaimLost { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }));
    }
    servers.replace_leader().await;
    eventually("a part is done", async || done.lock().expect("not poisoned").len() > EACH / 2).await;
    servers.replace_leader().await;
    let mut put = BTreeMap::new();
    for producer in producers {
        put.extend(patiently("a producer", producer).await.expect("it does not panic"));
    }
    let closing = client(servers.connect()).await;
    for _ in 0..CONSUMERS {
        Queue::new(&closing, "/work").put_at(999, "end").await.expect("put");
    }
    for consumer in consumers {
        patiently("a consumer", consumer).await.expect("it does not panic");
    }
    let done = done.lock().expect("not poisoned").clone();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for item in &done {
        *times.entry(item).or_default() += 1;
    }
    for (item, certain) in &put {
        let times = times.get(item.as_str()).copied().unwrap_or_default();
        match certain {
            Some(true) => assert_eq!(times, 1, "{item}"),
            Some(false) => assert_eq!(times, 0, "{item}"),
            None => assert!(times <= 1, "{item}: {times}"),
        }
    }
    assert!(times.len() > EACH, "{} of {} are done", times.len(), put.len());
    closing.sync("/").await.expect("synced");
    assert!(Queue::new(&closing, "/work").is_empty().await.expect("read"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_on_servers_that_are_killed() {
    let servers = Ensemble::start().await;
    let (a, b) = (client(servers.connect()).await, client(servers.connect()).await);
    items_are_taken_in_their_turn_and_gone_when_done(&a, &b).await;
    a_lost_claim_is_told(&servers, &a).await;
    a_lost_reply_is_made_up_for(&servers, &a).await;
    nothing_is_lost_or_done_twice(&servers).await;
}
