//! The client against servers in this process: every operation, and what becomes of sessions, watches and requests
//! when connections are cut and servers stop.

mod answers;
mod support;
mod tls;

use farrier_client::{
    Acl, Client, Error, ErrorCode, EventType, NewZnode, Op, OpResult, ReadOp, ReadResult, SessionState, WatchEvent,
    WatcherType, perms,
};
use farrier_testkit::relay::{Mode, Relay};
use std::io::{Read as _, Write as _};
use std::time::Duration;
use support::{Servers, patient, patiently, reached};

fn changed(event: Option<WatchEvent>) -> (EventType, String) {
    match event {
        Some(WatchEvent::Changed(change)) => (change.kind, change.path),
        other => panic!("expected a change, got {other:?}"),
    }
}

#[tokio::test]
async fn every_operation_does_what_it_says() {
    let servers = Servers::start(1).await;
    let client = patient(&servers.connect()).connect().await.expect("a session");

    // create in every mode
    let a = client.create("/a", b"one").await.expect("created");
    assert_eq!((a.path.as_str(), a.stat.data_length, a.stat.version), ("/a", 3, 0));
    let own = client.create("/a/e", "mine").ephemeral().await.expect("created");
    assert_eq!(own.stat.ephemeral_owner, client.lease().expect("a session").session.0);
    let first = client.create("/a/s-", b"").sequential().await.expect("created");
    let second = client.create("/a/", b"").ephemeral().sequential().await.expect("created");
    assert_eq!((first.path.as_str(), second.path.as_str()), ("/a/s-0000000001", "/a/0000000002"));
    assert!(second.stat.czxid > first.stat.czxid);
    client.create("/c", b"").container().await.expect("created");
    client.create("/t", b"").ttl(Duration::from_secs(3600)).await.expect("created");
    client.create("/t-", b"").ttl(Duration::from_secs(3600)).sequential().await.expect("created");
    let error = client.create("/a", b"").await.expect_err("it exists");
    assert!(error.is_node_exists() && error.to_string().contains("create /a: the znode exists already"), "{error}");
    assert!(error.to_string().contains(&servers.address(1).to_string()), "{error}");
    for (znode, why) in [
        (NewZnode::new("/x", b"").ephemeral().container(), "two ways"),
        (NewZnode::new("/x", b"").ttl(Duration::ZERO), "TTL"),
        (NewZnode::new("/x", b"").container().sequential(), "never sequential"),
        (NewZnode::new("x", b""), "does not start with /"),
        (NewZnode::new("/x/", b""), "ends with /"),
    ] {
        let error = client.create_new(znode).await.expect_err(why);
        assert!(matches!(error, Error::Invalid { .. }) && error.to_string().contains(why), "{error}");
    }

    // exists, get, set, delete
    assert_eq!(client.exists("/a").await.expect("answered"), Some(client.get("/a").await.expect("read").stat));
    assert_eq!(client.exists("/no").await.expect("answered"), None);
    let stat = client.set("/a", b"two").version(0).await.expect("set");
    assert_eq!(stat.version, 1);
    let value = client.get("/a").await.expect("read");
    assert_eq!((value.data.as_slice(), value.stat), (&b"two"[..], stat));
    assert!(client.set("/a", b"x").version(0).await.expect_err("an old version").is_bad_version());
    assert!(client.delete("/a").await.expect_err("it has children").is_not_empty());
    client.delete("/a/s-0000000001").version(0).await.expect("deleted");
    assert!(client.delete("/a/s-0000000001").await.expect_err("it is gone").is_no_node());

    // children, descendants, ephemerals
    let mut children = client.children("/a").await.expect("listed");
    children.names.sort();
    assert_eq!((children.names, children.stat.num_children), (vec!["0000000002".into(), "e".into()], 2));
    assert_eq!(client.list("/c").await.expect("listed"), Vec::<String>::new());
    assert_eq!(client.descendants("/a").await.expect("counted"), 2);
    let mut own = client.ephemerals("/").await.expect("listed");
    own.sort();
    assert_eq!(own, ["/a/0000000002", "/a/e"]);
    assert_eq!(client.ephemerals("/a/e").await.expect("listed"), ["/a/e"]);
    assert_eq!(client.ephemerals("/a/0").await.expect("listed"), Vec::<String>::new(), "it only begins alike");
    client.sync("/").await.expect("synced");

    // ACLs and identities
    client.add_auth("digest", "bob:pw").await.expect("taken");
    client.add_auth("digest", "bob:pw").await.expect("taken already");
    let who = client.who_am_i().await.expect("answered");
    assert!(who.iter().any(|i| i.scheme == "digest" && i.user == "bob"), "{who:?}");
    let own = [Acl { perms: perms::ALL, scheme: "auth".into(), id: "".into() }];
    let stat = client.set_acl("/a", &own).version(0).await.expect("set");
    assert_eq!(stat.aversion, 1);
    let (acl, _) = client.get_acl("/a").await.expect("read");
    assert_eq!((acl.len(), &*acl[0].scheme), (1, "digest"));
    let stranger = patient(&servers.connect()).connect().await.expect("a session");
    let error = stranger.get("/a").await.expect_err("not allowed");
    assert_eq!(error.code(), Some(ErrorCode::NoAuth));
    let error = stranger.create("/x", b"").acl(&[]).await.expect_err("an empty list");
    assert_eq!(error.code(), Some(ErrorCode::InvalidAcl));

    // multi
    let done = client
        .multi([
            Op::check("/a", 1),
            Op::create("/m", b"0"),
            Op::set("/m", b"1", 0),
            NewZnode::new("/m/s-", b"").sequential().into(),
            Op::delete("/t", None),
        ])
        .await
        .expect("done");
    assert!(
        matches!(
            &done[..],
            [
                OpResult::Checked,
                OpResult::Created { path: m, stat: Some(m_stat) },
                OpResult::Set(set),
                OpResult::Created { path: s, stat: Some(s_stat) },
                OpResult::Deleted
            ] if m == "/m" && set.version == 1 && s == "/m/s-0000000000" && s_stat.czxid == m_stat.czxid
        ),
        "{done:?}"
    );
    let error = client.multi([Op::set("/m", b"2", None), Op::check("/m", 7)]).await.expect_err("another version");
    assert!(
        matches!(&error, Error::Refused { code: ErrorCode::BadVersion, index: Some(1), path, server, .. }
        if path == "/m" && **server == servers.address(1).to_string()),
        "{error}"
    );
    assert_eq!(client.get("/m").await.expect("read").data, b"1", "nothing was done");
    assert_eq!(client.multi([]).await.expect("done"), []);
    let read = client.multi_read([ReadOp::Get("/m"), ReadOp::Get("/no"), ReadOp::Children("/m")]).await.expect("read");
    assert!(matches!(&read[..], [Ok(ReadResult::Value(v)), Err(ErrorCode::NoNode), Ok(ReadResult::Children(c))]
        if v.data == b"1" && *c == ["s-0000000000"]));

    // membership: one server alone has none, and says so
    assert_eq!(client.config().await.expect("read").data, b"");
    let error = client.reconfig().leaving("2").await.expect_err("no ensemble");
    assert!(matches!(error.code(), Some(ErrorCode::ReconfigDisabled | ErrorCode::Unimplemented)), "{error}");
    assert!(matches!(client.reconfig().await, Err(Error::Invalid { .. })));

    // close: the ephemerals are gone when it returns
    client.close().await.expect("closed");
    assert_eq!(stranger.exists("/a/e").await.expect("answered"), None);
    assert!(matches!(client.get("/m").await, Err(Error::Closed)));
    assert!(matches!(client.close().await, Err(Error::Closed)));
    reached(&client, "the end", |s| *s == SessionState::Closed).await;
}

#[tokio::test]
async fn a_chroot_is_invisible() {
    let servers = Servers::start(1).await;
    let root = patient(&servers.connect()).connect().await.expect("a session");
    root.create("/app", b"").await.expect("created");
    let app = patient(&format!("{}/app", servers.connect())).connect().await.expect("a session");
    assert_eq!(app.create("/x", b"1").ephemeral().await.expect("created").path, "/x");
    assert_eq!(app.create("/s-", b"1").sequential().await.expect("created").path, "/s-0000000001");
    assert_eq!(root.get("/app/x").await.expect("read").data, b"1");
    assert_eq!(app.ephemerals("/").await.expect("listed"), ["/x"]);
    assert_eq!(app.children("/").await.expect("listed").stat.num_children, 2);
    let error = app.get("/no").await.expect_err("there is none").to_string();
    assert!(error.starts_with("get /no:"), "{error}");
    let mut watch = app.watch("/").recursive().await.expect("set");
    let deeper = root.chroot("/app").and_then(|c| c.chroot("/deep")).expect("paths");
    root.create("/app/deep", b"").await.expect("created");
    deeper.create("/y", b"").await.expect("created");
    root.set("/app", b"!").await.expect("set");
    assert_eq!(changed(watch.next().await), (EventType::NodeCreated, "/deep".into()));
    assert_eq!(changed(watch.next().await), (EventType::NodeCreated, "/deep/y".into()));
    assert_eq!(changed(watch.next().await), (EventType::NodeDataChanged, "/".into()));
    let done = app.multi([Op::create("/z", b"")]).await.expect("done");
    assert!(matches!(&done[..], [OpResult::Created { path, stat: Some(_) }] if path == "/z"));
    assert!(root.chroot("nowhere").is_err());

    // Digits alone are a name below the root.
    let number = app.create("/", b"").sequential().await.expect("created");
    let done = app.multi([NewZnode::new("/", b"").sequential().into()]).await.expect("done");
    let [OpResult::Created { path: next, .. }] = &done[..] else { panic!("{done:?}") };
    for path in [&number.path, next] {
        let name = path.strip_prefix('/').expect("a path");
        assert!(name.len() == 10 && name.bytes().all(|b| b.is_ascii_digit()), "{path}");
        assert!(root.exists(&format!("/app/{name}")).await.expect("answered").is_some(), "{path}");
        app.delete(path).await.expect("it is there");
    }
    assert_eq!(root.create("/", b"").sequential().await.expect("created").path.len(), 11);
}

#[tokio::test]
async fn watches_of_all_kinds_tell_and_end() {
    let servers = Servers::start(1).await;
    let client = patient(&servers.connect()).connect().await.expect("a session");
    let other = patient(&servers.connect()).connect().await.expect("a session");
    let (none, mut created) = client.exists("/w").watch().await.expect("answered");
    assert_eq!(none, None);
    other.create("/w", b"").await.expect("created");
    assert_eq!(changed(patiently("created", created.next()).await), (EventType::NodeCreated, "/w".into()));
    assert_eq!(created.next().await, None, "a one-shot watch ends");

    let (_, mut data) = client.get("/w").watch().await.expect("read");
    let (_, mut same) = client.exists("/w").watch().await.expect("answered");
    let (_, mut child) = client.children("/w").watch().await.expect("listed");
    let mut all = client.watch("/w").await.expect("set");
    let mut below = client.watch("/w").recursive().await.expect("set");
    other.create("/w/c", b"").await.expect("created");
    let stat = other.set("/w", b"1").await.expect("set");
    assert_eq!(changed(child.next().await), (EventType::NodeChildrenChanged, "/w".into()));
    assert_eq!(changed(all.next().await), (EventType::NodeChildrenChanged, "/w".into()));
    assert_eq!(changed(below.next().await), (EventType::NodeCreated, "/w/c".into()));
    for watch in [&mut data, &mut same, &mut all, &mut below] {
        match watch.next().await {
            Some(WatchEvent::Changed(change)) => {
                assert_eq!((change.kind, change.zxid), (EventType::NodeDataChanged, Some(stat.mzxid)));
            }
            other => panic!("expected the change, got {other:?}"),
        }
    }
    assert!(client.get("/none").watch().await.expect_err("no znode").is_no_node());

    // Dropped, and removed by type.
    assert!(client.has_watch("/w", WatcherType::Persistent).await.expect("answered"));
    drop(all);
    assert!(!client.has_watch("/w", WatcherType::Persistent).await.expect("answered"));
    assert!(client.has_watch("/w", WatcherType::PersistentRecursive).await.expect("answered"));
    client.remove_watches("/w", WatcherType::Any).await.expect("removed");
    assert_eq!(below.next().await, None);
    let error = client.remove_watches("/w", WatcherType::Any).await.expect_err("there is none");
    assert_eq!(error.code(), Some(ErrorCode::NoWatcher));

    // A second watch of the same kind keeps the server's alive.
    let (one, two) = (client.watch("/w").await.expect("set"), client.watch("/w").await.expect("set"));
    drop(one);
    let mut two = two;
    other.set("/w", b"2").await.expect("set");
    assert_eq!(changed(two.next().await).0, EventType::NodeDataChanged);
    client.close().await.expect("closed");
    assert_eq!(two.next().await, None);
}

#[tokio::test]
async fn watches_and_identities_survive_a_lost_connection() {
    let servers = Servers::start(1).await;
    let relay = Relay::to(servers.address(1)).await;
    let other = patient(&servers.connect()).connect().await.expect("a session");
    let client = patient(&relay.connect()).auth("digest", "ann:x").connect().await.expect("a session");
    client.add_auth("digest", "bob:y").await.expect("taken");
    for path in ["/d", "/c", "/gone", "/p", "/r", "/quiet"] {
        client.create(path, b"").await.expect("created");
    }
    let (_, mut data) = client.get("/d").watch().await.expect("read");
    let (_, mut quiet) = client.get("/quiet").watch().await.expect("read");
    let (_, mut child) = client.children("/c").watch().await.expect("listed");
    let (_, mut gone) = client.get("/gone").watch().await.expect("read");
    let (_, mut exist) = client.exists("/new").watch().await.expect("answered");
    let mut persistent = client.watch("/p").await.expect("set");
    let mut recursive = client.watch("/r").recursive().await.expect("set");
    let session = client.lease().expect("a session").session;

    relay.set(Mode::Refuse);
    relay.cut();
    reached(&client, "the loss", |s| matches!(s, SessionState::Suspended { .. })).await;
    for path in ["/d", "/p"] {
        other.set(path, b"1").await.expect("set");
    }
    other.create("/c/x", b"").await.expect("created");
    other.create("/r/x", b"").await.expect("created");
    other.delete("/gone").await.expect("deleted");
    other.create("/new", b"").await.expect("created");
    relay.set(Mode::Pass);
    let state = reached(&client, "the way back", |s| s.connected().is_some()).await;
    assert_eq!(state.connected(), Some(session));

    assert_eq!(changed(patiently("data", data.next()).await), (EventType::NodeDataChanged, "/d".into()));
    assert_eq!(changed(patiently("child", child.next()).await), (EventType::NodeChildrenChanged, "/c".into()));
    assert_eq!(changed(patiently("gone", gone.next()).await), (EventType::NodeDeleted, "/gone".into()));
    assert_eq!(changed(patiently("exist", exist.next()).await), (EventType::NodeCreated, "/new".into()));
    for watch in [&mut persistent, &mut recursive] {
        assert_eq!(patiently("the gap", watch.next()).await, Some(WatchEvent::Missed));
    }
    other.set("/p", b"2").await.expect("set");
    other.delete("/r/x").await.expect("deleted");
    other.set("/quiet", b"1").await.expect("set");
    assert_eq!(changed(patiently("again", persistent.next()).await).0, EventType::NodeDataChanged);
    assert_eq!(changed(patiently("again", recursive.next()).await), (EventType::NodeDeleted, "/r/x".into()));
    assert_eq!(changed(patiently("again", quiet.next()).await).0, EventType::NodeDataChanged);
    let who = client.who_am_i().await.expect("answered");
    for user in ["ann", "bob"] {
        assert!(who.iter().any(|i| i.user == user), "{who:?}");
    }
}

#[tokio::test]
async fn many_watches_come_back() {
    const COUNT: usize = 6000;
    let servers = Servers::start(1).await;
    let relay = Relay::to(servers.address(1)).await;
    let client = patient(&relay.connect()).connect().await.expect("a session");
    let other = patient(&servers.connect()).connect().await.expect("a session");
    let path = |n: usize| format!("/a-path-that-is-rather-long-so-that-many-fill-a-request-{n:08}");
    let mut asked = Vec::new();
    for n in 0..COUNT {
        asked.push(client.exists(&path(n)).watch().send());
    }
    let mut watches = Vec::new();
    for call in asked {
        watches.push(call.await.expect("answered").1);
    }
    relay.cut();
    // The client may not have noticed yet: this read is made again on the next connection.
    client.sync("/").await.expect("synced");
    for n in [0, COUNT / 2, COUNT - 1] {
        other.create(&path(n), b"").await.expect("created");
        assert_eq!(changed(patiently("an event", watches[n].next()).await), (EventType::NodeCreated, path(n)));
    }
}

#[tokio::test]
async fn an_unanswered_write_is_unknown_and_done_once_at_most() {
    let servers = Servers::start(1).await;
    let relay = Relay::to(servers.address(1)).await;
    let other = patient(&servers.connect()).connect().await.expect("a session");
    let client = patient(&relay.connect()).connect().await.expect("a session");
    client.create("/s", b"").await.expect("created");
    relay.set(Mode::HoldAnswers);
    let write = client.create("/s/n-", b"").sequential().send();
    let read = client.get("/s").send();
    let mut children = other.list("/s").await.expect("listed");
    while children.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        children = other.list("/s").await.expect("listed");
    }
    relay.cut();
    reached(&client, "the loss", |s| matches!(s, SessionState::Suspended { .. })).await;
    relay.set(Mode::Pass);
    let error = patiently("the write", write).await.expect_err("no answer came");
    assert!(error.is_unknown() && error.to_string().contains("create /s/n-: sent to"), "{error}");
    // A read is made again.
    assert_eq!(patiently("the read", read).await.expect("read").stat.num_children, 1);
    client.sync("/").await.expect("synced");
    assert_eq!(other.list("/s").await.expect("listed").len(), 1, "it was not sent again");
}

#[tokio::test]
async fn a_deadline_holds_with_and_without_a_server() {
    let servers = Servers::start(1).await;
    let relay = Relay::to(servers.address(1)).await;
    let client = patient(&relay.connect()).connect().await.expect("a session");
    client.create("/a", b"").await.expect("created");
    relay.set(Mode::HoldAnswers);
    let short = Duration::from_millis(50);
    let (write, read) = (client.set("/a", b"1").timeout(short).send(), client.get("/a").timeout(short).send());
    assert!(patiently("the write", write).await.expect_err("no answer").is_unknown());
    let error = patiently("the read", read).await.expect_err("no answer");
    assert!(matches!(error, Error::NotDone { .. }), "{error}");
    relay.set(Mode::Refuse);
    relay.cut();
    reached(&client, "the loss", |s| matches!(s, SessionState::Suspended { .. })).await;
    let error = patiently("the write", client.set("/a", b"2").timeout(short)).await.expect_err("no server");
    assert!(matches!(error, Error::NotDone { .. }), "{error}");
    assert!(error.to_string().contains("could not be sent before the deadline"), "{error}");
    relay.set(Mode::Pass);
    assert_eq!(client.get("/a").await.expect("read").data, b"1", "the second write was never sent");
}

#[tokio::test]
async fn dropping_a_call_disturbs_nobody() {
    let servers = Servers::start(1).await;
    let relay = Relay::to(servers.address(1)).await;
    let client = patient(&relay.connect()).connect().await.expect("a session");
    client.create("/a", b"").await.expect("created");
    for n in 0..200 {
        drop(client.set("/a", &n.to_string()).send());
        drop(client.get("/a").watch().send());
        drop(client.watch("/a").send());
        assert_eq!(client.get("/a").await.expect("read").data, n.to_string().as_bytes());
    }
    assert!(!client.has_watch("/a", WatcherType::Persistent).await.expect("answered"), "nobody has it");
    // What waits for a server and is given up is not sent later.
    relay.set(Mode::Refuse);
    relay.cut();
    reached(&client, "the loss", |s| matches!(s, SessionState::Suspended { .. })).await;
    drop(client.set("/a", b"given up").send());
    let kept = client.create("/kept", b"").send();
    relay.set(Mode::Pass);
    patiently("the other", kept).await.expect("created");
    assert_eq!(client.get("/a").await.expect("read").data, b"199");
}

#[tokio::test]
async fn an_expired_session_is_followed_by_a_new_one() {
    let servers = Servers::start(1).await;
    let relay = Relay::to(servers.address(1)).await;
    let other = patient(&servers.connect()).connect().await.expect("a session");
    let connect = relay.connect();
    let short = |renew| patient(&connect).session_timeout(Duration::from_millis(400)).renew_session(renew).connect();
    let (client, once) = (short(true).await.expect("a session"), short(false).await.expect("a session"));
    client.create("/mine", b"").ephemeral().await.expect("created");
    let mut watch = client.watch("/").await.expect("set");
    let first = client.lease().expect("a session").session;
    relay.set(Mode::Refuse);
    relay.cut();
    reached(&client, "the loss", |s| matches!(s, SessionState::Suspended { .. })).await;
    let waiting = client.get("/").send();
    while other.exists("/mine").await.expect("answered").is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(client.lease().is_none_or(|lease| !lease.holds(client.now())), "the lease ends before the session");
    relay.set(Mode::Pass);
    assert!(matches!(patiently("what waited", waiting).await, Err(Error::SessionExpired { .. })));
    let second = reached(&client, "a new session", |s| s.connected().is_some_and(|id| id != first)).await;
    assert_ne!(second.connected(), Some(first));
    assert_eq!(patiently("the gap", watch.next()).await, Some(WatchEvent::Missed));
    client.create("/again", b"").await.expect("created");
    assert_eq!(changed(patiently("a change", watch.next()).await), (EventType::NodeChildrenChanged, "/".into()));
    reached(&once, "the end", |s| matches!(s, SessionState::Expired { .. })).await;
    assert!(matches!(once.get("/").await, Err(Error::SessionExpired { .. })));
    assert!(once.has_ended() && !client.has_ended());
}

#[tokio::test]
async fn a_restarted_server_takes_its_sessions_back() {
    let mut servers = Servers::start(1).await;
    let client = patient(&servers.connect()).connect().await.expect("a session");
    let made = client.create("/mine", b"").ephemeral().await.expect("created");
    let zxid = client.last_zxid();
    assert!(zxid >= made.stat.czxid);
    servers.stop(1).await;
    let waiting = client.get("/mine").send();
    let servers = servers.start_again(1).await;
    let value = patiently("the read", waiting).await.expect("read");
    assert_eq!(value.stat.ephemeral_owner, client.lease().expect("a session").session.0);
    assert!(client.last_zxid() >= zxid);
    drop(servers);
}

#[tokio::test]
async fn a_session_moves_between_three_servers() {
    let mut servers = Servers::start(3).await;
    let client = patient(&servers.connect()).connect().await.expect("a session");
    let session = client.lease().expect("a session").session;
    client.create("/mine", b"").ephemeral().await.expect("created");
    client.create("/n", b"").await.expect("created");
    let mut watch = client.watch("/n").await.expect("set");
    let mut done = 0;
    for _ in 0..3 {
        let SessionState::Connected { server, .. } = reached(&client, "a server", |s| s.connected().is_some()).await
        else {
            unreachable!("it is connected");
        };
        let id = servers.id_of(&server);
        servers.stop(id).await;
        // Each write is conditional, so that one whose answer was lost can be told apart.
        loop {
            match patiently("a write", client.set("/n", &done.to_string()).version(done)).await {
                Ok(_) => break,
                Err(error) if error.is_unknown() => {
                    if client.get("/n").await.expect("read").stat.version == done + 1 {
                        break;
                    }
                }
                Err(Error::NotDone { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        done += 1;
        assert_eq!(client.exists("/mine").await.expect("answered").expect("alive").ephemeral_owner, session.0);
        servers = servers.start_again(id).await;
    }
    assert_eq!(client.get("/n").await.expect("read").stat.version, done);
    assert!(patiently("an event", watch.next()).await.is_some());
    client.close().await.expect("closed");
}

#[tokio::test]
async fn null_and_empty_data_are_told_apart() {
    let servers = Servers::start(1).await;
    let client = patient(&servers.connect()).connect().await.expect("a session");
    client.create("/null", b"").null().await.expect("created");
    client.create("/empty", b"").await.expect("created");
    let is_null = async |path: &str| client.get(path).await.expect("read").is_null;
    assert!(is_null("/null").await && !is_null("/empty").await);
    let read = client.multi_read([ReadOp::Get("/null"), ReadOp::Get("/empty")]).await.expect("read");
    let null = |result: &Result<ReadResult, ErrorCode>| match result {
        Ok(ReadResult::Value(value)) => value.data_or_null().is_none(),
        other => panic!("{other:?}"),
    };
    assert_eq!(read.iter().map(null).collect::<Vec<_>>(), [true, false]);
    client.set("/empty", b"").null().await.expect("set");
    client.set("/null", b"").await.expect("set");
    assert!(!is_null("/null").await && is_null("/empty").await);
    // It is so on disk as well.
    drop(client);
    let servers = {
        let mut servers = servers;
        servers.stop(1).await;
        servers.start_again(1).await
    };
    let client = patient(&servers.connect()).connect().await.expect("a session");
    assert!(client.get("/empty").await.expect("read").is_null);
    assert!(!client.get("/null").await.expect("read").is_null);
}

#[tokio::test]
async fn requests_are_pipelined_in_the_order_of_their_making() {
    let servers = Servers::start(1).await;
    let client = patient(&servers.connect()).connect().await.expect("a session");
    client.create("/n", b"").await.expect("created");
    let data: Vec<String> = (0..3000).map(|n: i32| n.to_string()).collect();
    let calls: Vec<_> = (0..).zip(&data).map(|(n, data)| client.set("/n", data).version(n).send()).collect();
    for call in calls {
        patiently("a write", call).await.expect("each saw the one before it");
    }
    let full = patient(&servers.connect()).outstanding_max(2).connect().await.expect("a session");
    let (one, two, three) = (full.sync("/").send(), full.sync("/").send(), full.sync("/").send());
    assert!(matches!(three.await, Err(Error::QueueFull { .. })));
    one.await.expect("synced");
    two.await.expect("synced");
    let long = client.set("/n", &vec![0; 1 << 20]).await.expect_err("too long");
    assert!(long.to_string().contains("jute.maxbuffer"), "{long}");
}

#[tokio::test]
async fn a_client_leaves_a_read_only_server_for_one_that_takes_writes() {
    let servers = Servers::start(1).await;
    let relay = Relay::to(servers.address(1)).await;
    relay.set(Mode::Refuse);
    let both = format!("{},{}", support::read_only_server().await, relay.connect());
    let client = patient(&both).allow_read_only(true).connect().await.expect("a session");
    let state = client.session().borrow().clone();
    assert!(
        matches!(state, SessionState::Connected { read_only: true, session, .. } if session.0 == 0x77),
        "{state:?}"
    );
    relay.set(Mode::Pass);
    let state = reached(&client, "the other", |s| matches!(s, SessionState::Connected { read_only: false, .. })).await;
    assert!(state.connected().is_some_and(|session| session.0 != 0x77), "nobody else knows that session");
    client.create("/written", b"").await.expect("created");
}

#[tokio::test]
async fn credentials_that_are_refused_say_so() {
    let servers = Servers::start(1).await;
    let error = patient(&servers.connect()).auth("nonsense", "x").connect().await.expect_err("no such scheme");
    assert!(matches!(error, Error::AuthFailed), "{error}");
    let client = patient(&servers.connect()).connect().await.expect("a session");
    let error = client.add_auth("nonsense", "x").await.expect_err("no such scheme");
    assert_eq!(error.code(), Some(ErrorCode::AuthFailed));
    // The server closed the connection; the client goes on without the identity.
    client.sync("/").await.expect("synced");
}

#[tokio::test]
async fn no_server_is_told_with_what_was_tried() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    let connect = Client::builder(&closed.to_string()).connect_timeout(Duration::from_millis(100)).connect();
    let error = patiently("the end", connect).await.expect_err("nobody listens");
    assert!(matches!(error, Error::NoServer { .. }) && !error.is_turned_away(), "{error}");
    assert!(error.to_string().contains(&closed.to_string()), "{error}");
    assert!(matches!(Client::connect("a:b").await, Err(Error::ConnectString(_))));
}

/// What a server says to a client that it gives no session: nothing, or a session of no time.
#[tokio::test]
async fn whoever_is_turned_away_is_told_so_at_once() {
    let mut refusal = vec![0; 41];
    refusal[3] = 37;
    refusal[23] = 16;
    for (answer, renew) in [(refusal, false), (Vec::new(), true)] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        std::thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let _ = connection.read(&mut [0; 64]);
                let _ = connection.write_all(&answer);
            }
        });
        // A client that has ended waits no longer; the other one goes on.
        let timeout = Duration::from_secs(if renew { 1 } else { 40 });
        let builder = Client::builder(&address).renew_session(renew).connect_timeout(timeout);
        let mut noted = false;
        let connect = builder.connect_noting(timeout / 2, |_, _| noted = true);
        let error = patiently("the end", connect).await.expect_err("no session");
        assert!(error.is_turned_away(), "{error}");
        assert_eq!((noted, error.to_string().ends_with(" (after 1s)")), (renew, renew), "{error}");
    }
}

#[test]
fn a_client_ends_with_its_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (first, second) = (runtime(), runtime());
    let servers = second.block_on(Servers::start(1));
    let client = first.block_on(patient(&servers.connect()).connect()).expect("a session");
    let call = client.get("/").send();
    drop(first);
    let error = second.block_on(patiently("the call", call)).expect_err("nobody moves its bytes");
    assert!(matches!(error, Error::Closed), "{error}");
    assert!(matches!(second.block_on(client.get("/").into_future()), Err(Error::Closed)));
    second.block_on(client.sleep(Duration::from_secs(3600)));
}
