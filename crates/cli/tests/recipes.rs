//! The commands of recipes: configuration, membership and queues, through pipes, against a server of our own.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::io::BufRead as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

mod support;
#[path = "support/verb.rs"]
mod verb;

use support::place::Place;
use verb::{first_line, ran};

#[test]
fn a_configuration_keeps_its_past() {
    let at = Place::new();
    at.run(&["config", "get", "/app/config"]).fails(1, "get /app/config: the znode does not exist");
    assert_eq!(at.run(&["config", "set", "/app/config", "one"]).ok(), "version 0\n");
    at.run(&["config", "set", "/app/config", "x", "--new"]).fails(1, "the znode exists already");
    assert_eq!(at.feed(&["config", "set", "/app/config", "--file", "-", "--version", "0"], b"two").ok(), "version 1\n");
    at.run(&["config", "set", "/app/config", "x", "--version", "0"]).fails(1, "another version than expected");
    at.run(&["config", "set", "/app/config"]).fails(2, "no value");
    at.run(&["set", "/app/config", "by hand"]).ok();
    assert_eq!(at.run(&["config", "set", "/app/config", "four"]).ok(), "version 3\n");
    assert_eq!(at.run(&["config", "get", "/app/config"]).ok(), "four");
    assert_eq!(at.run(&["get", "/app/config"]).ok(), "four", "the bare value");

    let listed = at.run(&["config", "history", "/app/config", "--json"]).json_lines();
    let shown: Vec<_> = listed.iter().map(|l| (l["data"].as_str(), l["version"].as_i64())).collect();
    // four, by hand, (gap), one
    assert_eq!(
        shown,
        [(Some("Zm91cg=="), Some(3)), (Some("YnkgaGFuZA=="), Some(2)), (None, None), (Some("b25l"), None)]
    );
    assert_eq!(listed[2], json!({"gap": true}));
    let text = at.run(&["config", "history", "/app/config"]).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines.len() == 4 && lines[0].contains("version 3  set 20") && lines[0].ends_with("4 bytes  \"four\""),
        "{text}"
    );
    assert!(lines[2] == "gap" && lines[3].contains("version -  replaced 20"), "{text}");

    let one = listed[3]["id"].as_str().expect("an id");
    assert_eq!(at.run(&["config", "rollback", "/app/config", one]).ok(), "version 4\n");
    assert_eq!(at.run(&["config", "get", "/app/config"]).ok(), "one");
    let back = at.run(&["config", "rollback", "/app/config", "--json"]).json();
    assert_eq!((back["id"].as_str(), back["stat"]["version"].as_i64()), (listed[0]["id"].as_str(), Some(5)));
    at.run(&["config", "rollback", "/app/config", "0x700000005"]).fails(2, "no earlier value 0x700000005");
    at.run(&["config", "rollback", "/app/config", "--version", "4"]).fails(1, "another version");

    assert_eq!(at.run(&["config", "forget", "/app/config", one]).ok(), "forgot 1 earlier value\n");
    at.run(&["config", "forget", "/app/config", one]).fails(1, "no earlier value");
    at.run(&["config", "forget", "/app/config"]).fails(2, "--all");
    at.run(&["config", "rollback", "/app/config", "3"]).fails(2, "first column");
    assert_eq!(at.run(&["config", "forget", "/app/config", "--all"]).ok(), "forgot 3 earlier values\n");
    assert_eq!(at.run(&["config", "history", "/app/config"]).ok().lines().count(), 1);
    at.run(&["config", "rollback", "/app/config"]).fails(2, "no earlier value is kept");

    // An update carries the value before it.
    let large = vec![b'x'; 600 << 10];
    at.feed(&["config", "set", "/app/config", "--file", "-"], &large).ok();
    let refused = at.feed(&["config", "set", "/app/config", "--file", "-"], &large);
    assert!(refused.stderr.contains("--keep 0") && refused.stderr.contains("--request-max"), "{refused:?}");
    refused.fails(2, "jute.maxbuffer");
    at.feed(&["config", "set", "/app/config", "--file", "-", "--keep", "0"], &large).ok();
}

#[test]
fn a_configuration_is_edited_and_followed() {
    let at = Place::new();
    let mut child =
        at.command(&["config", "watch", "/c", "--count", "3"]).stdout(Stdio::piped()).spawn().expect("the binary runs");
    let (first, mut rest) = first_line(&mut child);
    assert_eq!(first, "none\n");
    at.run(&["config", "set", "/c", "threads=4"]).ok();
    let mut line = String::new();
    rest.read_line(&mut line).expect("a line");
    assert_eq!(line, "0  \"threads=4\"\n");
    let edit = |editor: &str| {
        let mut command = at.command(&["config", "edit", "/c"]);
        command.env_remove("VISUAL").env("EDITOR", editor).env("TMPDIR", at.temp.path());
        ran(command)
    };
    assert_eq!(edit("true").ok(), "unchanged\n");
    // Ctrl-C on a terminal goes to this program as well, and is the editor's.
    assert_eq!(edit("kill -INT $PPID; sed -i s/4/8/").ok(), "version 1\n");
    line.clear();
    rest.read_line(&mut line).expect("a line");
    assert_eq!(line, "1  \"threads=8\"\n");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    edit("false").fails(1, "nothing was set");
    edit("").fails(2, "there is no terminal for vi");
    // Somebody else is faster: the text is kept.
    let binary = env!("CARGO_BIN_EXE_farrier");
    let faster = format!("{binary} config set /c theirs && echo mine >");
    edit(&faster).fails(1, "your text is in ");
    assert_eq!(at.run(&["config", "get", "/c"]).ok(), "theirs");
    let drafts: Vec<_> = fs::read_dir(at.temp.path())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().contains("farrier-config-"))
        .collect();
    assert_eq!(drafts.len(), 1, "the others are removed: {drafts:?}");
    assert_eq!(fs::read(&drafts[0]).expect("it is there"), b"mine\n");
    assert_eq!(drafts[0].metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
}

#[test]
fn members_are_seen_to_come_and_go() {
    let at = Place::new();
    assert_eq!(at.run(&["member", "ls", "/g"]).ok(), "");
    let mut watch = at
        .command(&["member", "watch", "/g", "--json", "--count", "3"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let (loaded, rest) = first_line(&mut watch);
    assert_eq!(serde_json::from_str::<Value>(&loaded).expect("JSON"), json!({"event": "loaded"}));
    let mut member =
        at.command(&["member", "join", "/g", "10.0.0.7:80"]).stdout(Stdio::piped()).spawn().expect("it runs");
    let (id, _) = first_line(&mut member);
    let id = id.trim();
    assert_eq!(at.run(&["member", "ls", "/g"]).ok(), format!("{id}  \"10.0.0.7:80\"\n"));
    let listed = at.run(&["member", "ls", "/g", "--json"]).json();
    assert_eq!((listed["id"].as_str(), listed["payload"].as_str()), (Some(id), Some("MTAuMC4wLjc6ODA=")));
    kill_process(Pid::from_child(&member), Signal::TERM).expect("it runs");
    assert_eq!(member.wait().expect("it ends").code(), Some(0));
    let events: Vec<Value> = rest.lines().map(|l| serde_json::from_str(&l.expect("text")).expect("JSON")).collect();
    let told: Vec<_> = events.iter().map(|e| (e["event"].as_str(), e["id"].as_str())).collect();
    assert_eq!(told, [(Some("joined"), Some(id)), (Some("left"), Some(id))]);
    assert_eq!(watch.wait().expect("it ends").code(), Some(0));
}

#[test]
fn an_item_is_gone_when_its_command_was_successful() {
    let at = Place::new();
    let none = at.run(&["queue", "take", "/q", "--wait", "0"]);
    none.fails(124, "no item in time");
    let put = at.run(&["queue", "put", "/q", "one"]).ok();
    assert!(put.starts_with("entry-100-"), "{put}");
    assert_eq!(at.run(&["queue", "put", "/q", "first", "--priority", "7", "--plain"]).ok(), "entry-007-0000000001\n");
    at.run(&["queue", "put", "/q", "x", "--limit", "2"]).fails(1, "the queue is full (2 items)");
    assert_eq!(at.run(&["queue", "take", "/q"]).ok(), "first");
    let script = "cat; echo \" $FARRIER_QUEUE_ITEM $FARRIER_SERVER\"; exit 7";
    let failed = at.run(&["queue", "take", "/q", "--", "sh", "-c", script]);
    let expected = format!("one {} {}\n", put.trim(), at.server.addr());
    assert_eq!((failed.code, failed.stdout.as_str()), (Some(7), expected.as_str()), "{failed:?}");
    at.run(&["queue", "take", "/q", "--", "/no/such/program"]).fails(127, "can't be run");
    let killed = at.run(&["queue", "take", "/q", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.code, Some(137), "{killed:?}");
    // It was given back each time; a signal goes to the command.
    let mut busy = at
        .command(&[
            "queue",
            "take",
            "/q",
            "--",
            "sh",
            "-c",
            "trap 'exit 9' TERM; echo on; while :; do sleep 0.05; done",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    assert_eq!(first_line(&mut busy).0, "on\n");
    at.run(&["queue", "take", "/q", "--wait", "0"]).fails(124, "no item in time");
    kill_process(Pid::from_child(&busy), Signal::TERM).expect("it runs");
    assert_eq!(busy.wait().expect("it ends").code(), Some(9));
    let json = at.run(&["queue", "take", "/q", "--json"]).json();
    assert_eq!(json, json!({"path": "/q", "item": put.trim(), "data": "b25l"}));
    at.run(&["queue", "take", "/q", "--wait", "0"]).fails(124, "no item in time");
    at.run(&["queue", "put", "/q", "done"]).ok();
    assert_eq!(at.run(&["queue", "take", "/q", "--", "cat"]).ok(), "done");
    // Nobody reads what is taken: it stays.
    at.run(&["queue", "put", "/q", "kept"]).ok();
    let mut unread = at.command(&["queue", "take", "/q"]).stdout(Stdio::piped()).spawn().expect("it runs");
    drop(unread.stdout.take());
    assert_eq!(unread.wait().expect("it ends").code(), Some(128 + 13));
    assert_eq!(at.run(&["queue", "take", "/q"]).ok(), "kept");
    at.run(&["queue", "take", "/q", "--server", "127.0.0.1:1", "--timeout", "1", "--", "true"])
        .fails(125, "127.0.0.1:1");
    at.run(&["queue", "take", "/q", "--server", "127.0.0.1:1", "--timeout", "1"]).fails(3, "127.0.0.1:1");
}

/// A command whose item is lost with the session is stopped, and the item is there for another one.
#[test]
fn a_command_whose_item_is_lost_is_stopped() {
    let mut at = Place::new();
    at.run(&["queue", "put", "/q", "one"]).ok();
    let mut busy = at
        .command(&["queue", "take", "/q", "--session-timeout", "4", "--", "sh", "-c", "echo on; exec sleep 600"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    assert_eq!(first_line(&mut busy).0, "on\n");
    at.server.kill();
    assert_eq!(busy.wait().expect("it ends").code(), Some(123));
    at.server.start();
    assert_eq!(at.run(&["queue", "take", "/q"]).ok(), "one");
}
