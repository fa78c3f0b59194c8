//! The ensemble that the other tests run on does what they ask of it.

mod common;

use common::{Ensemble, client, eventually, patiently};

#[tokio::test]
async fn servers_are_killed_and_connections_cut() {
    let servers = Ensemble::start().await;
    let relay = servers.relay(0).await;
    let (far, near) = (client(servers.connect()).await, client(&relay.connect()).await);
    near.create("/a", b"1").await.expect("created");
    servers.replace_leader().await;
    patiently("a write after it", far.set("/a", b"2")).await.expect("set");
    relay.cut();
    eventually("the other client sees it", async || near.get("/a").await.is_ok_and(|v| v.data == b"2")).await;
}
