//! Counters, barriers and caches on three servers that are killed, by clients whose connections are cut.

mod common;

use common::{Ensemble, SHORT, client, contenders, count, eventually, patient, patiently};
use farrier_client::Client;
use farrier_recipes::{Barrier, Cache, CacheEvent, Counter, DoubleBarrier, Encoding, Entered, Error};
use farrier_testkit::relay::{Mode, Relay};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

async fn numbers_stand_as_the_originals_write_them(a: &Client, b: &Client) {
    for (path, encoding, bytes) in [
        ("/n/decimal", Encoding::Decimal, &b"-5"[..]),
        ("/n/int", Encoding::Int32, &[0xff, 0xff, 0xff, 0xfb]),
        ("/n/long", Encoding::Int64, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfb]),
    ] {
        let (counter, other) = (Counter::new(a, path).encoding(encoding), Counter::new(b, path).encoding(encoding));
        assert_eq!(counter.get().await.expect("read"), 0);
        assert_eq!(counter.add(2).await.expect("added"), 2);
        assert_eq!(other.add(-7).await.expect("added"), -5);
        a.sync(path).await.expect("synced");
        assert_eq!(a.get(path).await.expect("read").data, bytes);
        assert!(!counter.compare_and_set(2, 1).await.expect("answered"));
        assert!(counter.compare_and_set(-5, 1).await.expect("answered"));
        assert_eq!(other.add(1).await.expect("added"), 2);
    }
    let int = Counter::new(a, "/n/int").encoding(Encoding::Int32);
    let error = int.add(i64::from(i32::MAX)).await.expect_err("too large");
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    a.sync("/n/int").await.expect("synced");
    assert_eq!(int.get().await.expect("read"), 2);
    let wrong = Counter::new(a, "/n/int").encoding(Encoding::Int64).add(1).await.expect_err("another encoding");
    assert!(matches!(wrong, Error::Unreadable { .. }), "{wrong}");
}

/// Every addition counts once if it is certain, and at most once if it is not.
async fn additions_are_neither_lost_nor_doubled(servers: &Ensemble) {
    const ADDERS: usize = 4;
    const EACH: usize = 50;
    let certain = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..ADDERS {
        let client = client(servers.connect()).await;
        let certain = Arc::clone(&certain);
        tasks.push(tokio::spawn(async move {
            let counter = Counter::new(&client, "/n/many");
            let mut unknown = 0;
            for _ in 0..EACH {
                match counter.add(1).await {
                    Ok(_) => {
                        certain.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(Error::Client(error)) if error.is_unknown() => unknown += 1,
                    Err(Error::Client(farrier_client::Error::NotDone { .. })) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            unknown
        }));
    }
    eventually("they count", async || certain.load(Ordering::SeqCst) > EACH / 2).await;
    servers.replace_leader().await;
    let mut unknown = 0;
    for task in tasks {
        unknown += patiently("an adder", task).await.expect("it does not panic");
    }
    let reader = client(servers.connect()).await;
    reader.sync("/").await.expect("synced");
    let sum = usize::try_from(Counter::new(&reader, "/n/many").get().await.expect("read")).expect("it only grows");
    let certain = certain.load(Ordering::SeqCst);
    assert!((certain..=certain + unknown).contains(&sum), "{sum}: {certain} certain, {unknown} unknown");
    assert!(certain > ADDERS * EACH / 2, "{certain}");
}

async fn a_barrier_holds_until_it_is_opened(servers: &Ensemble, a: &Client) {
    let relay = servers.relay(1).await;
    let waiter = client(&relay.connect()).await;
    let (barrier, other) = (Barrier::new(a, "/b/simple"), Barrier::new(&waiter, "/b/simple"));
    patiently("an open one", other.wait()).await.expect("passed");
    assert!(barrier.close().await.expect("closed"));
    assert!(!barrier.close().await.expect("answered"), "it is closed already");
    assert!(barrier.is_closed().await.expect("read"));
    let passed = Arc::new(AtomicUsize::new(0));
    waiter.sync("/").await.expect("synced");
    let waits = {
        let (other, passed) = (other.clone(), Arc::clone(&passed));
        tokio::spawn(async move {
            other.wait().await.expect("passed");
            passed.fetch_add(1, Ordering::SeqCst);
        })
    };
    relay.cut();
    servers.replace_leader().await;
    assert_eq!(passed.load(Ordering::SeqCst), 0);
    assert!(barrier.open().await.expect("opened"));
    patiently("it opens", waits).await.expect("it does not panic");
    assert!(!barrier.open().await.expect("answered"), "it is open already");
}

async fn a_double_barrier_holds_until_all_are_there_and_until_all_are_gone(servers: &Ensemble) {
    const MEMBERS: usize = 4;
    assert!(DoubleBarrier::new(&client(servers.connect()).await, "/b/double", 0).is_err());
    for round in 0..2 {
        let (arrived, left) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = Vec::new();
        for n in 0..MEMBERS {
            if n == MEMBERS - 1 {
                // The last one comes after a leader was lost under those who wait.
                servers.replace_leader().await;
                assert_eq!(left.load(Ordering::SeqCst), 0);
            }
            let client = client(servers.connect()).await;
            let (arrived, left) = (Arc::clone(&arrived), Arc::clone(&left));
            tasks.push(tokio::spawn(async move {
                let barrier = DoubleBarrier::new(&client, "/b/double", MEMBERS).expect("some");
                arrived.fetch_add(1, Ordering::SeqCst);
                let inside = barrier.enter().await.expect("entered");
                assert_eq!(arrived.load(Ordering::SeqCst), MEMBERS, "all have arrived");
                client.sleep(Duration::from_millis(20 * n as u64)).await;
                left.fetch_add(1, Ordering::SeqCst);
                inside.leave().await.expect("left");
                assert_eq!(left.load(Ordering::SeqCst), MEMBERS, "all are about to leave");
                client
            }));
        }
        let mut clients = Vec::new();
        for task in tasks {
            clients.push(patiently("a member", task).await.unwrap_or_else(|e| panic!("round {round}: {e}")));
        }
        clients[0].sync("/b").await.expect("synced");
        let rest = clients[0].list("/b/double").await;
        assert!(rest.as_ref().is_ok_and(Vec::is_empty) || rest.is_err_and(|e| e.is_no_node()), "nothing is left");
    }
    // Who gives up leaves nothing, and what dead members left doesn't let the next one through.
    let client = client(servers.connect()).await;
    let barrier = DoubleBarrier::new(&client, "/b/double", 2).expect("some");
    client.create("/b/double", "").await.ok();
    client.create("/b/double/ready", "").await.expect("created");
    let entered = tokio::time::timeout(Duration::from_millis(500), barrier.enter()).await;
    assert!(entered.is_err(), "nobody else is there");
    eventually("nothing is left", async || match client.list("/b/double").await {
        Ok(names) => names.is_empty(),
        Err(error) => error.is_no_node(),
    })
    .await;
}

/// A `ready` that dead members left lets nobody through, however many come at once.
async fn a_double_barrier_is_not_opened_by_what_dead_members_left(servers: &Ensemble) {
    let (seer, a) = (client(servers.connect()).await, client(servers.connect()).await);
    let b = client(servers.connect()).await;
    seer.create("/b/left", "").await.expect("created");
    seer.create("/b/left/ready", "").await.expect("created");
    // Somebody who comes at the same time; the name is before all others.
    seer.create("/b/left/-", "").ephemeral().await.expect("created");
    let barrier = |client: &Client| DoubleBarrier::new(client, "/b/left", 3).expect("some");
    a.sync("/").await.expect("synced");
    let mut first = tokio::spawn({
        let barrier = barrier(&a);
        async move { barrier.enter().await }
    });
    let stood = async || contenders(&seer, "/b/left").await.len() == 3;
    eventually("it stands", stood).await;
    assert!(tokio::time::timeout(Duration::from_millis(500), &mut first).await.is_err(), "two of three are there");
    let second = patiently("the third", barrier(&b).enter()).await.expect("entered");
    let first = patiently("the second", first).await.expect("it does not panic").expect("entered");
    seer.sync("/").await.expect("synced");
    assert_eq!(seer.exists("/b/left/ready").await.expect("read").map(|stat| stat.version), Some(1), "another one");
    // Who comes later passes, and so does who comes after that.
    let third = patiently("a late one", barrier(&seer).enter()).await.expect("entered");
    let fourth = patiently("a later one", barrier(&a).enter()).await.expect("entered");
    seer.delete("/b/left/-").await.expect("deleted");
    // Whoever sees it still leaves `ready` to it.
    for client in [&a, &b] {
        client.sync("/").await.expect("synced");
    }
    let left = async { tokio::try_join!(first.leave(), second.leave(), third.leave(), fourth.leave()) };
    patiently("all leave", left).await.expect("left");
    // The last one may have left on another server.
    assert_eq!(contenders(&seer, "/b/left").await, Vec::<String>::new(), "nothing is left");
}

/// A client whose answers a test can hold back.
async fn far(servers: &Ensemble, server: usize) -> (Client, Relay) {
    let relay = servers.relay(server).await;
    (client(&relay.connect()).await, relay)
}

/// A call of `enter` whose member stands, sorts before all others, and knows nothing yet: its answers are held back.
async fn stands_first(seer: &Client, barrier: &DoubleBarrier, relay: &Relay, path: &str) -> JoinHandle<Entered> {
    loop {
        let before = contenders(seer, path).await;
        relay.set(Mode::HoldAnswers);
        let barrier = barrier.clone();
        let enters = tokio::spawn(async move { barrier.enter().await.expect("entered") });
        eventually("it stands", async || contenders(seer, path).await.len() > before.len()).await;
        if contenders(seer, path).await.into_iter().min().is_some_and(|first| !before.contains(&first)) {
            return enters;
        }
        enters.abort();
        relay.set(Mode::Pass);
        eventually("it goes", async || contenders(seer, path).await.len() == before.len()).await;
    }
}

/// Who is still to see that all have left doesn't wait for those who enter again meanwhile.
async fn a_double_barrier_can_be_used_again_at_once(servers: &Ensemble) {
    const PATH: &str = "/b/again";
    let seer = client(servers.connect()).await;
    let far = [far(servers, 0).await, far(servers, 1).await];
    let barriers = [0, 1].map(|n| DoubleBarrier::new(&far[n].0, PATH, 2).expect("some"));
    let (one, other) = tokio::join!(patiently("one", barriers[0].enter()), patiently("another", barriers[1].enter()));
    let mut inside = [Some(one.expect("entered")), Some(other.expect("entered"))];
    // The first in order stays until the other one has gone.
    let first = contenders(&seer, PATH).await.into_iter().min().expect("two members");
    let owner = seer.exists(&format!("{PATH}/{first}")).await.expect("read").expect("it stands").ephemeral_owner;
    let first = usize::from(far[1].0.session().borrow().connected().is_some_and(|session| session.0 == owner));
    let last = 1 - first;
    let leaves = tokio::spawn(inside[last].take().expect("inside").leave());
    eventually("it is gone", async || contenders(&seer, PATH).await.len() == 2).await;
    far[last].1.set(Mode::HoldAnswers);
    patiently("the first", inside[first].take().expect("inside").leave()).await.expect("left");
    let barrier = barriers[first].clone();
    let again = tokio::spawn(async move { barrier.enter().await });
    eventually("it stands again", async || contenders(&seer, PATH).await.len() == 1).await;
    far[last].1.set(Mode::Pass);
    patiently("all had left", leaves).await.expect("it does not panic").expect("left");
    let one = patiently("it follows", barriers[last].enter()).await.expect("entered");
    let other = patiently("again", again).await.expect("it does not panic").expect("entered");
    patiently("both", async { tokio::try_join!(one.leave(), other.leave()) }).await.expect("left");

    let rounds = barriers.map(|barrier| {
        tokio::spawn(async move {
            for _ in 0..100 {
                barrier.enter().await.expect("entered").leave().await.expect("left");
            }
        })
    });
    for rounds in rounds {
        patiently("a hundred rounds", rounds).await.expect("it does not panic");
    }
    assert_eq!(count(&seer, PATH).await, 0, "nothing is left");
}

/// Who leaves doesn't wait for those who came too late to get in, however many they are.
async fn a_double_barrier_is_left_while_others_come_too_late(servers: &Ensemble) {
    const PATH: &str = "/b/late";
    let seer = client(servers.connect()).await;
    let (a, b) = (client(servers.connect()).await, client(servers.connect()).await);
    let (late, relay) = far(servers, 0).await;
    for (round, size) in [2, 3].into_iter().enumerate() {
        let barrier = |client: &Client| DoubleBarrier::new(client, PATH, size).expect("some");
        let (third, later) = (client(servers.connect()).await, client(servers.connect()).await);
        let mut enter = vec![barrier(&a), barrier(&b)];
        enter.extend((size == 3).then(|| barrier(&third)));
        let enter: Vec<_> = enter.into_iter().map(|b| tokio::spawn(async move { b.enter().await })).collect();
        let mut inside = Vec::new();
        for entered in enter {
            inside.push(patiently("a member", entered).await.expect("it does not panic").expect("entered"));
        }
        let mut waiting = vec![stands_first(&seer, &barrier(&late), &relay, PATH).await];
        let leaves: Vec<_> = inside.into_iter().map(|inside| tokio::spawn(inside.leave())).collect();
        eventually("they go", async || contenders(&seer, PATH).await.len() == 2).await;
        if size == 3 {
            let barrier = barrier(&later);
            waiting.push(tokio::spawn(async move { barrier.enter().await.expect("entered") }));
            eventually("another one", async || contenders(&seer, PATH).await.len() == 3).await;
        }
        relay.set(Mode::Pass);
        for left in leaves {
            patiently("all are gone", left).await.expect("it does not panic").expect("left");
        }
        assert!(waiting.iter().all(|waits| !waits.is_finished()), "round {round}: nobody let them in");
        for waits in waiting {
            waits.abort();
        }
        eventually("nothing is left", async || count(&seer, PATH).await == 0).await;
    }
}

async fn told(cache: &mut Cache) -> String {
    let text = |data: &[u8]| String::from_utf8(data.to_vec()).expect("text");
    match patiently("an event", cache.next()).await.expect("the client lives") {
        CacheEvent::Added(new) => format!("+{} {}", new.path, text(&new.data)),
        CacheEvent::Changed { old, new } => format!("{} {}>{}", new.path, text(&old.data), text(&new.data)),
        CacheEvent::Removed(old) => format!("-{} {}", old.path, text(&old.data)),
        CacheEvent::Loaded => "loaded".to_owned(),
        CacheEvent::Missed => "missed".to_owned(),
    }
}

async fn caches_tell_what_comes(servers: &Ensemble, writer: &Client) {
    let relay = servers.relay(2).await;
    let reader = patient(&relay.connect()).session_timeout(SHORT).connect().await.expect("a session");
    for (path, data) in [("/c", "root"), ("/c/a", "1"), ("/c/a/x", "2"), ("/c/b", "3"), ("/cc", "other")] {
        writer.create(path, data).await.expect("created");
    }
    reader.sync("/").await.expect("synced");
    let (mut tree, mut children) = (Cache::tree(&reader, "/c"), Cache::children(&reader, "/c"));
    let view = tree.view();
    assert!(view.is_empty());
    for expected in ["+/c root", "+/c/a 1", "+/c/a/x 2", "+/c/b 3", "loaded"] {
        assert_eq!(told(&mut tree).await, expected);
    }
    for expected in ["+/c/a 1", "+/c/b 3", "loaded"] {
        assert_eq!(told(&mut children).await, expected);
    }
    writer.set("/c/a", "4").await.expect("set");
    writer.set("/c/a/x", "5").await.expect("set");
    writer.create("/c/d", "6").await.expect("created");
    writer.delete("/c/a/x").await.expect("deleted");
    writer.set("/c", "top").await.expect("set");
    let mut seen = Vec::new();
    while seen.last().is_none_or(|event| event != "/c root>top") {
        seen.push(told(&mut tree).await);
    }
    // A change that was overtaken by the deletion before it was read isn't told.
    seen.retain(|event| event != "/c/a/x 2>5");
    let gone = seen.iter().position(|e| e == "-/c/a/x 5" || e == "-/c/a/x 2").expect("the deletion");
    seen.remove(gone);
    assert_eq!(seen, ["/c/a 1>4", "+/c/d 6", "/c root>top"]);
    assert_eq!(told(&mut children).await, "/c/a 1>4");
    assert_eq!(told(&mut children).await, "+/c/d 6");
    assert_eq!(view.get("/c").expect("it is there").data, b"top");
    assert_eq!(view.all().iter().map(|z| z.path.as_str()).collect::<Vec<_>>(), ["/c", "/c/a", "/c/b", "/c/d"]);

    // Behind the back of a connection that is cut, and of a session that expires.
    for round in ["reconnected", "expired"] {
        relay.set(Mode::Refuse);
        relay.cut();
        writer.set("/c/a", round).await.expect("set");
        writer.delete("/c/b").await.expect("deleted");
        writer.create("/c/b", "new").await.expect("created");
        writer.create("/c/b/y", round).await.expect("created");
        if round == "expired" {
            eventually("the session's end", async || writer.exists("/own").await.expect("read").is_none()).await;
        }
        relay.set(Mode::Pass);
        let before = if round == "reconnected" { "4" } else { "reconnected" };
        for expected in [
            "missed".to_owned(),
            if round == "reconnected" { "-/c/b 3".to_owned() } else { "-/c/b new".to_owned() },
            format!("/c/a {before}>{round}"),
            "+/c/b new".to_owned(),
            format!("+/c/b/y {round}"),
        ] {
            assert_eq!(told(&mut tree).await, expected, "{round}");
        }
        for _ in 0..4 {
            told(&mut children).await;
        }
        if round == "reconnected" {
            writer.delete("/c/b/y").await.expect("deleted");
            assert_eq!(told(&mut tree).await, "-/c/b/y reconnected");
            reader.create("/own", "").ephemeral().await.expect("created");
        }
    }
    servers.replace_leader().await;
    writer.set("/c/d", "last").await.expect("set");
    let mut last = String::new();
    while !last.ends_with(">last") {
        last = told(&mut tree).await;
    }
    reader.close().await.expect("closed");
    while patiently("its end", tree.next()).await.is_ok() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_barriers_and_caches_on_servers_that_are_killed() {
    let servers = Ensemble::start().await;
    let (a, b) = (client(servers.connect()).await, client(servers.connect()).await);
    numbers_stand_as_the_originals_write_them(&a, &b).await;
    caches_tell_what_comes(&servers, &a).await;
    additions_are_neither_lost_nor_doubled(&servers).await;
    a_barrier_holds_until_it_is_opened(&servers, &a).await;
    a_double_barrier_holds_until_all_are_there_and_until_all_are_gone(&servers).await;
    a_double_barrier_is_not_opened_by_what_dead_members_left(&servers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn double_barriers_in_one_round_after_another() {
    let servers = Ensemble::start().await;
    a_double_barrier_can_be_used_again_at_once(&servers).await;
    a_double_barrier_is_left_while_others_come_too_late(&servers).await;
}
