//! Configuration on three servers that are killed, by clients whose connections are cut.

mod common;

use common::{Ensemble, SHORT, client, patient, patiently};
use farrier_client::{Acl, Client, ErrorCode, SessionState, Zxid, perms};
use farrier_recipes::{ConfigStore, Error, Expected};
use farrier_testkit::relay::Mode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const PATH: &str = "/app/config";

fn code(error: &Error) -> Option<ErrorCode> {
    match error {
        Error::Client(error) => error.code(),
        _ => None,
    }
}

async fn earlier(config: &ConfigStore) -> Vec<(String, bool)> {
    let history = config.history().await.expect("read");
    history.earlier.into_iter().map(|e| (String::from_utf8(e.data).expect("text"), e.gap)).collect()
}

async fn versions_are_kept_rolled_back_and_forgotten(client: &Client) {
    let config = ConfigStore::new(client, PATH).keep(3);
    assert_eq!(code(&config.get().await.expect_err("nothing there")), Some(ErrorCode::NoNode));
    assert_eq!(code(&config.set("x", Expected::Version(0)).await.expect_err("none")), Some(ErrorCode::NoNode));
    assert_eq!(config.set("one", Expected::Absent).await.expect("created").version, 0);
    assert_eq!(code(&config.set("x", Expected::Absent).await.expect_err("there")), Some(ErrorCode::NodeExists));
    assert!(client.exists("/app/config/.history").await.expect("read").is_none(), "nothing was replaced yet");

    assert_eq!(config.set("two", Expected::Any).await.expect("set").version, 1);
    assert_eq!(code(&config.set("x", Expected::Version(0)).await.expect_err("old")), Some(ErrorCode::BadVersion));
    assert_eq!(code(&config.set("x", Expected::Version(9)).await.expect_err("none")), Some(ErrorCode::BadVersion));
    let third = config.set("three", Expected::Version(1)).await.expect("set");
    let history = config.history().await.expect("read");
    assert_eq!((history.current.data.as_slice(), history.current.stat), (&b"three"[..], third));
    let shown: Vec<_> = history.earlier.iter().map(|e| (e.data.as_slice(), e.version, e.gap)).collect();
    assert_eq!(shown, [(&b"two"[..], Some(1), false), (b"one", Some(0), false)]);
    // Any client reads the value, and the earlier ones where the page says they are.
    let first = history.earlier[1].id;
    let entry = format!("{PATH}/.history/{:016x}", first.get());
    assert_eq!(client.get(&entry).await.expect("read").data, b"one");
    assert_eq!(client.get(&entry).await.expect("read").stat.czxid, history.earlier[0].id, "one transaction");

    // Somebody else's write is a gap, and its value is kept once it is replaced.
    client.set(PATH, "by hand").await.expect("set");
    assert_eq!(earlier(&config).await[0], ("two".into(), true));
    config.set("four", Expected::Any).await.expect("set");
    // Three are kept.
    assert_eq!(earlier(&config).await, [("by hand".into(), false), ("two".into(), true), ("one".into(), false)]);
    config.set("five", Expected::Any).await.expect("set");
    assert_eq!(earlier(&config).await, [("four".into(), false), ("by hand".into(), false), ("two".into(), true)]);

    let two = config.history().await.expect("read").earlier[2].id;
    let (id, stat) = config.rollback(Some(two), Expected::Any).await.expect("rolled back");
    assert_eq!((id, stat.version), (two, 6));
    assert_eq!(config.get().await.expect("read").data, b"two");
    assert_eq!(config.rollback(None, Expected::Any).await.expect("rolled back").1.version, 7);
    assert_eq!(config.get().await.expect("read").data, b"five");
    assert_eq!(code(&config.rollback(None, Expected::Version(6)).await.expect_err("old")), Some(ErrorCode::BadVersion));
    let error = config.rollback(Some(Zxid::new(0, 5)), Expected::Any).await.expect_err("no such value");
    assert!(error.to_string().contains("no earlier value 0x5"), "{error}");

    let newest = config.history().await.expect("read").earlier[0].id;
    assert!(config.forget(newest).await.expect("forgotten"));
    assert!(!config.forget(newest).await.expect("answered"), "it is gone");
    assert_eq!(config.forget_all().await.expect("forgotten"), 2);
    assert_eq!(earlier(&config).await, []);
    assert_eq!(config.forget_all().await.expect("answered"), 0);
    assert!(config.rollback(None, Expected::Any).await.is_err_and(|e| e.to_string().contains("no earlier value")));
    ConfigStore::new(client, PATH).keep(0).set("six", Expected::Any).await.expect("set");
    assert_eq!(earlier(&config).await, []);
}

async fn earlier_values_are_as_secret_as_the_znode(client: &Client, connect: &str) {
    let owner = patient(connect).auth("digest", "owner:pw").connect().await.expect("a session");
    let config = ConfigStore::new(&owner, "/secret");
    config.set("key 1", Expected::Any).await.expect("created");
    let own = [
        Acl { perms: perms::ALL, scheme: "auth".into(), id: "".into() },
        Acl {
            perms: perms::READ | perms::WRITE | perms::CREATE | perms::DELETE,
            scheme: "digest".into(),
            id: {
                // user `operator` with the password `pw`
                "operator:r3GNtTbgSa/V5YyaxfCrGCQqkDo=".into()
            },
        },
    ];
    owner.set_acl("/secret", &own).await.expect("set");
    config.set("key 2", Expected::Any).await.expect("set");
    let id = config.history().await.expect("read").earlier[0].id;
    let entry = format!("/secret/.history/{:016x}", id.get());
    client.sync("/").await.expect("synced");
    for path in ["/secret", "/secret/.history", &entry] {
        let refused = client.get(path).await.expect_err("it is secret");
        assert_eq!(refused.code(), Some(ErrorCode::NoAuth), "{path}");
        assert_eq!(owner.get_acl(path).await.expect("read").0, owner.get_acl("/secret").await.expect("read").0);
    }
    // Who is shown the ACL with secrets crossed out can't copy it.
    let masked = [
        Acl { perms: perms::ALL, scheme: "digest".into(), id: "owner:x".into() },
        Acl::world(perms::READ | perms::WRITE | perms::CREATE),
    ];
    client.create("/masked", "1").acl(&masked).await.expect("created");
    let error = ConfigStore::new(client, "/masked").set("2", Expected::Any).await.expect_err("the ACL isn't whole");
    assert!(error.to_string().contains("who may administer it"), "{error}");
    ConfigStore::new(client, "/masked").keep(0).set("2", Expected::Any).await.expect("set");
}

/// Writers add to a list by expected version while leaders are killed; nothing of it is lost, doubled or missing in the
/// history, and a watch sees versions that only grow up to the last.
async fn updates_are_neither_lost_nor_doubled(servers: &Ensemble) {
    const WRITERS: usize = 3;
    const EACH: usize = 15;
    let setup = client(servers.connect()).await;
    let config = ConfigStore::new(&setup, "/list").keep(1000);
    config.set("", Expected::Absent).await.expect("created");
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let client = client(servers.connect()).await;
        let done = Arc::clone(&done);
        tasks.push(tokio::spawn(async move {
            let config = ConfigStore::new(&client, "/list").keep(1000);
            for n in 0..EACH {
                let mine = format!("{writer}.{n};");
                loop {
                    let Ok(current) = config.get().await else { continue };
                    let text = String::from_utf8(current.data).expect("text");
                    if text.contains(&mine) {
                        // A lost reply to what was done.
                        break;
                    }
                    match config.set(text + &mine, Expected::Version(current.stat.version)).await {
                        Ok(_) => break,
                        Err(Error::Client(_)) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    let watcher = {
        let client = client(servers.connect()).await;
        tokio::spawn(async move {
            let mut watch = ConfigStore::new(&client, "/list").watch();
            let mut versions = Vec::new();
            loop {
                let value = watch.next().await.expect("read").expect("it is there");
                versions.push(value.stat.version);
                if value.data.iter().filter(|b| **b == b';').count() == WRITERS * EACH {
                    return versions;
                }
            }
        })
    };
    servers.replace_leader().await;
    common::eventually("a third", async || done.load(Ordering::SeqCst) > WRITERS * EACH / 3).await;
    servers.replace_leader().await;
    for task in tasks {
        patiently("a writer", task).await.expect("it does not panic");
    }
    let versions = patiently("the watch", watcher).await.expect("it does not panic");
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    setup.sync("/").await.expect("synced");
    let history = config.history().await.expect("read");
    assert_eq!(history.current.stat.version as usize, WRITERS * EACH, "each is one version");
    assert_eq!(history.earlier.len(), WRITERS * EACH);
    assert!(history.earlier.iter().all(|e| !e.gap));
    let mut newer = String::from_utf8(history.current.data).expect("text");
    for earlier in history.earlier {
        let older = String::from_utf8(earlier.data).expect("text");
        let added = newer.strip_prefix(&older).expect("a list that grows").to_owned();
        assert_eq!(added.matches(';').count(), 1, "{added}");
        newer = older;
    }
}

/// A watch goes on through reconnects and a session that expired.
async fn a_watch_survives(servers: &Ensemble) {
    let writer = client(servers.connect()).await;
    let relay = servers.relay(1).await;
    let reader = patient(&relay.connect()).session_timeout(SHORT).connect().await.expect("a session");
    let mut watch = ConfigStore::new(&reader, "/watched").watch();
    assert_eq!(patiently("nothing yet", watch.next()).await.expect("read"), None);
    let config = ConfigStore::new(&writer, "/watched");
    config.set("1", Expected::Absent).await.expect("created");
    let next = async |watch: &mut farrier_recipes::ConfigWatch| {
        let value = patiently("a value", watch.next()).await.expect("read").expect("it is there");
        String::from_utf8(value.data).expect("text")
    };
    assert_eq!(next(&mut watch).await, "1");
    relay.cut();
    config.set("2", Expected::Any).await.expect("set");
    assert_eq!(next(&mut watch).await, "2");
    let session = reader.lease().expect("a session").session;
    reader.create("/of-the-session", "").ephemeral().await.expect("created");
    relay.set(Mode::Refuse);
    relay.cut();
    config.set("3", Expected::Any).await.expect("set");
    common::eventually("the end of the session", async || {
        writer.exists("/of-the-session").await.expect("answered").is_none()
    })
    .await;
    relay.set(Mode::Pass);
    assert_eq!(next(&mut watch).await, "3");
    let fresh = |state: &SessionState| state.connected().is_some_and(|id| id != session);
    common::reached(&reader, "a new session", fresh).await;
    config.set("4", Expected::Any).await.expect("set");
    assert_eq!(next(&mut watch).await, "4");
    config.forget_all().await.expect("forgotten");
    writer.delete("/watched").await.expect("deleted");
    assert_eq!(patiently("the end", watch.next()).await.expect("read"), None);
    reader.close().await.expect("closed");
    assert!(patiently("no client", watch.next()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_on_servers_that_are_killed() {
    let servers = Ensemble::start().await;
    let plain = client(servers.connect()).await;
    versions_are_kept_rolled_back_and_forgotten(&plain).await;
    earlier_values_are_as_secret_as_the_znode(&plain, servers.connect()).await;
    a_watch_survives(&servers).await;
    updates_are_neither_lost_nor_doubled(&servers).await;
}
