//! The commands that speak to a server, against three of which one dies.

use farrier::testing::Ensemble;
use std::process::{Command, Output};
use tokio::task::spawn_blocking;

/// Runs the program with that server; patient enough for an election on a busy machine.
async fn farrier(server: &str, words: &[&str], timeout: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
    command.args(words).args(["--timeout", timeout]).env("FARRIER_SERVER", server);
    for name in ["FARRIER_AUTH", "FARRIER_LOG"] {
        command.env_remove(name);
    }
    spawn_blocking(move || command.output().expect("the binary runs")).await.expect("running does not panic")
}

async fn ok(server: &str, words: &[&str]) -> String {
    let output = farrier(server, words, "60").await;
    assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verbs_go_on_when_a_server_dies() {
    let mut ensemble = Ensemble::start(3).await.expect("three servers");
    let all = ensemble.connect_string();
    ok(&all, &["create", "-p", "/app/config", "v0"]).await;
    for round in 1..=3 {
        let leader = ensemble.leader().await.expect("a leader");
        ensemble.kill(leader).await;
        let value = format!("v{round}");
        let version = (round - 1).to_string();
        // Another session each time: it finds a server that lives, which finds a leader.
        ok(&all, &["set", "/app/config", &value, "--version", &version]).await;
        assert_eq!(ok(&all, &["get", "/app/config"]).await, value);
        ok(&all, &["create", &format!("/app/{round}"), "x"]).await;
        let refused = farrier(&all, &["create", &format!("/app/{round}"), "x"], "60").await;
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let status = ok(&all, &["status"]).await;
        assert!(status.contains("unreachable") && status.contains("leader"), "{status}");
        ensemble.restart(leader).await.expect("it starts again");
        ensemble.wait_serving().await.expect("all three serve");
    }
    // Every server has everything.
    for n in 1..=3 {
        let one = ensemble.address(n).to_string();
        ok(&one, &["sync"]).await;
        assert_eq!(ok(&one, &["ls", "-R", "/app"]).await, "/app\n/app/1\n/app/2\n/app/3\n/app/config\n");
    }
    assert_eq!(ok(&all, &["delete", "-r", "/app", "--yes"]).await, "deleted 5 znodes\n");
    for n in 1..=3 {
        ensemble.kill(n).await;
    }
    let nobody = farrier(&all, &["get", "/app"], "1").await;
    assert_eq!(nobody.status.code(), Some(3), "{nobody:?}");
}
