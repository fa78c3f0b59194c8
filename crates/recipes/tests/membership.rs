//! A group on three servers that are killed, by clients whose connections are cut and whose sessions expire.

mod common;

use common::{Ensemble, SHORT, client, eventually, patient, patiently};
use farrier_client::Client;
use farrier_recipes::{Group, GroupEvent, GroupWatch};
use farrier_testkit::relay::Mode;
use std::time::Duration;

const PATH: &str = "/app/group";

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

async fn next(watch: &mut GroupWatch) -> GroupEvent {
    patiently("an event", watch.next()).await.expect("the client lives")
}

/// The event as a word and the payload.
async fn told(watch: &mut GroupWatch) -> (&'static str, String) {
    match next(watch).await {
        GroupEvent::Joined(member) => ("joined", text(&member.payload)),
        GroupEvent::Left(member) => ("left", text(&member.payload)),
        GroupEvent::Payload(member) => ("payload", text(&member.payload)),
        GroupEvent::Loaded => ("loaded", String::new()),
        GroupEvent::Missed => ("missed", String::new()),
    }
}

fn event(kind: &'static str, payload: &str) -> (&'static str, String) {
    (kind, payload.to_owned())
}

async fn members_come_change_and_go_in_order(a: &Client, b: &Client) {
    let (group, other) = (Group::new(a, PATH), Group::new(b, PATH));
    let mut watch = group.watch();
    assert_eq!(told(&mut watch).await, event("loaded", ""));
    assert_eq!(group.members().await.expect("read"), []);
    let one = group.join("one").await.expect("joined");
    let two = other.join("two").await.expect("joined");
    assert_eq!(told(&mut watch).await, event("joined", "one"));
    assert_eq!(told(&mut watch).await, event("joined", "two"));
    let members = watch.members();
    assert_eq!(members.iter().map(|m| text(&m.payload)).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(Some(&members[0].id), one.id().as_ref());
    assert!(members[0].id.ends_with("__party__"), "kazoo knows it by that");
    assert_eq!(members[1].session, b.lease().expect("a session").session);
    two.set_payload("zwei").await.expect("set");
    assert_eq!(told(&mut watch).await, event("payload", "zwei"));
    // Strangers' ephemerals are members, too; what stays is none.
    let stranger = b.create(&format!("{PATH}/curator"), "by name").ephemeral().await.expect("created");
    b.create(&format!("{PATH}/notes"), "").await.expect("created");
    assert_eq!(told(&mut watch).await, event("joined", "by name"));
    one.leave().await.expect("left");
    assert_eq!(told(&mut watch).await, event("left", "one"));
    drop(two);
    assert_eq!(told(&mut watch).await, event("left", "zwei"));
    b.delete(&stranger.path).await.expect("deleted");
    assert_eq!(told(&mut watch).await, event("left", "by name"));
    // Before its end, a join leaves nothing.
    drop(group.join("never"));
    a.sync(PATH).await.expect("synced");
    assert_eq!(group.members().await.expect("read"), []);
    // Whose znode is deleted joins again under another id.
    let again = group.join("again").await.expect("joined");
    assert_eq!(told(&mut watch).await, event("joined", "again"));
    let id = again.id().expect("it is there");
    b.delete(&format!("{PATH}/{id}")).await.expect("deleted");
    assert_eq!(told(&mut watch).await, event("left", "again"));
    assert_eq!(told(&mut watch).await, event("joined", "again"));
    assert_ne!(watch.members()[0].id, id);
    again.leave().await.expect("left");
}

/// Who watches across a cut connection is told; a member stays the same.
async fn a_cut_connection_is_told(servers: &Ensemble, observer: &Client) {
    let relay = servers.relay(1).await;
    let far = client(&relay.connect()).await;
    let mut watch = Group::new(&far, "/far").watch();
    assert_eq!(told(&mut watch).await, event("loaded", ""));
    let membership = Group::new(&far, "/far").join("here").await.expect("joined");
    assert_eq!(told(&mut watch).await, event("joined", "here"));
    let first = membership.id();
    relay.cut();
    assert_eq!(told(&mut watch).await, event("missed", ""));
    let other = Group::new(observer, "/far").join("other").await.expect("joined");
    assert_eq!(told(&mut watch).await, event("joined", "other"));
    assert_eq!(membership.id(), first);
    other.leave().await.expect("left");
    assert_eq!(told(&mut watch).await, event("left", "other"));
    far.close().await.expect("closed");
    assert!(membership.leave().await.is_err(), "the client has ended");
    // That it went with the session may be told before.
    patiently("its end", async { while watch.next().await.is_ok() {} }).await;
}

/// A member whose session expires is gone, and comes back as a new one.
async fn a_lost_session_is_a_new_member(servers: &Ensemble, observer: &Client) {
    let relay = servers.relay(2).await;
    let lonely = patient(&relay.connect()).session_timeout(SHORT).connect().await.expect("a session");
    let group = Group::new(observer, "/lonely");
    let (mut watch, mut own_watch) = (group.watch(), Group::new(&lonely, "/lonely").watch());
    assert_eq!(told(&mut watch).await, event("loaded", ""));
    assert_eq!(told(&mut own_watch).await, event("loaded", ""));
    let membership = Group::new(&lonely, "/lonely").join("here").await.expect("joined");
    assert_eq!(told(&mut watch).await, event("joined", "here"));
    assert_eq!(told(&mut own_watch).await, event("joined", "here"));
    let first = watch.members()[0].id.clone();

    relay.set(Mode::Refuse);
    relay.cut();
    while !watch.members().is_empty() {
        next(&mut watch).await;
    }
    let mut ids = membership.ids();
    relay.set(Mode::Pass);
    let second = patiently("a new id", ids.wait_for(|id| id.as_ref().is_some_and(|id| *id != first))).await;
    let second = second.expect("it lives").clone().expect("it is there");
    match next(&mut watch).await {
        GroupEvent::Joined(member) => assert_eq!((member.id, text(&member.payload)), (second, "here".to_owned())),
        other => panic!("{other:?}"),
    }
    // What its own one-shot watch is told after the reconnect may come before the word that something was missed.
    let mut seen = [told(&mut own_watch).await, told(&mut own_watch).await, told(&mut own_watch).await];
    seen.sort();
    assert_eq!(seen, [event("joined", "here"), event("left", "here"), event("missed", "")]);
    // The new payload is that of the next time, too.
    membership.set_payload("still here").await.expect("set");
    assert_eq!(told(&mut watch).await, event("payload", "still here"));
    observer.delete(&format!("/lonely/{}", membership.id().expect("it is there"))).await.expect("deleted");
    assert_eq!(told(&mut watch).await, event("left", "still here"));
    assert_eq!(told(&mut watch).await, event("joined", "still here"));
    membership.leave().await.expect("left");
    assert_eq!(told(&mut watch).await, event("left", "still here"));
}

/// A member whose znode is gone, and which gets no answer when it makes another one, can leave all the same.
async fn a_member_leaves_while_it_joins_again(servers: &Ensemble, observer: &Client) {
    let relay = servers.relay(1).await;
    let client = patient(&relay.connect()).session_timeout(SHORT).request_timeout(Duration::from_secs(1));
    let client = client.connect().await.expect("a session");
    let group = Group::new(&client, "/restless");
    loop {
        let Ok(membership) = group.join("here").await else { continue };
        let mut ids = membership.ids();
        let Some(id) = membership.id() else { continue };
        observer.sync("/").await.expect("synced");
        if observer.delete(&format!("/restless/{id}")).await.is_err() {
            // Its session ended before, on a slow machine.
            continue;
        }
        patiently("the loss", ids.wait_for(Option::is_none)).await.expect("it lives");
        relay.set(Mode::HoldAnswers);
        let is_faster = tokio::time::timeout(Duration::from_millis(300), ids.wait_for(Option::is_some)).await.is_ok();
        if !is_faster {
            patiently("its end", membership.leave()).await.expect_err("nobody answers");
            relay.set(Mode::Pass);
            break;
        }
        relay.set(Mode::Pass);
    }
    eventually("nobody is there", async || {
        observer.sync("/").await.expect("synced");
        Group::new(observer, "/restless").members().await.expect("read").is_empty()
    })
    .await;
}

/// Members join and leave while leaders are killed; whoever watches ends up with what is there, and nothing is left over.
async fn a_crowd_while_leaders_are_killed(servers: &Ensemble, observer: &Client) {
    const MEMBERS: usize = 6;
    let mut watch = Group::new(observer, "/crowd").watch();
    let mut tasks = Vec::new();
    for n in 0..MEMBERS {
        let client = client(servers.connect()).await;
        tasks.push(tokio::spawn(async move {
            let group = Group::new(&client, "/crowd");
            for round in 0..20 {
                let Ok(membership) = group.join(format!("{n}.{round}")).await else { continue };
                client.sleep(Duration::from_millis(50)).await;
                if round % 2 == 0 {
                    drop(membership);
                } else {
                    // Left in the background otherwise.
                    let _ = membership.leave().await;
                }
            }
            let stays = loop {
                if let Ok(membership) = group.join(format!("{n} stays")).await {
                    break membership;
                }
            };
            (client, stays)
        }));
    }
    servers.replace_leader().await;
    let mut staying = Vec::new();
    for task in tasks {
        staying.push(patiently("a member", task).await.expect("it does not panic"));
    }
    let wanted: Vec<String> = (0..MEMBERS).map(|n| format!("{n} stays")).collect();
    eventually("only those who stay", async || {
        observer.sync("/").await.expect("synced");
        let members = Group::new(observer, "/crowd").members().await.expect("read");
        let mut payloads: Vec<String> = members.iter().map(|m| text(&m.payload)).collect();
        payloads.sort();
        payloads == wanted
    })
    .await;
    let mut here = std::collections::BTreeMap::new();
    while here.len() != MEMBERS || here.values().any(|payload: &String| !payload.ends_with("stays")) {
        match next(&mut watch).await {
            GroupEvent::Joined(member) => {
                assert!(here.insert(member.id, text(&member.payload)).is_none(), "nobody joins twice under one id");
            }
            GroupEvent::Left(member) => assert!(here.remove(&member.id).is_some(), "who leaves was there"),
            GroupEvent::Payload(member) => panic!("{member:?} has another payload"),
            GroupEvent::Loaded | GroupEvent::Missed => {}
        }
    }
    drop(staying);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_on_servers_that_are_killed() {
    let servers = Ensemble::start().await;
    let (a, b) = (client(servers.connect()).await, client(servers.connect()).await);
    members_come_change_and_go_in_order(&a, &b).await;
    a_cut_connection_is_told(&servers, &b).await;
    a_lost_session_is_a_new_member(&servers, &b).await;
    a_member_leaves_while_it_joins_again(&servers, &b).await;
    a_crowd_while_leaders_are_killed(&servers, &a).await;
}
