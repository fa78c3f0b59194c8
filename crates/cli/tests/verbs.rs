//! The commands that speak to a server, through pipes and on a terminal, against a server of our own.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

mod support;
#[path = "support/verb.rs"]
mod verb;

use support::place::Place;
use support::terminal::Terminal;
use verb::{first_line, ran};

impl Place {
    /// On a terminal, on which `typed` is entered once `prompt` was shown; what the terminal shows, and the code.
    fn terminal(&self, words: &[&str], prompt: &str, typed: &str) -> (String, Option<i32>) {
        let mut terminal = Terminal::open(self.command(words));
        if !prompt.is_empty() {
            terminal.wait_for(prompt);
            terminal.enter(typed);
        }
        terminal.end()
    }
}

#[test]
fn znodes_come_change_and_go() {
    let at = Place::new();
    at.run(&["create", "/app/config/db"]).fails(1, "create /app/config/db: its parent does not exist");
    assert_eq!(at.run(&["create", "-p", "/app/config/db", "v1"]).ok(), "/app/config/db\n");
    at.run(&["create", "/app/config/db"]).fails(1, "exists already");
    assert_eq!(at.run(&["get", "/app/config/db"]).ok(), "v1");
    assert_eq!(at.run(&["set", "/app/config/db", "v2", "--version", "0"]).ok(), "");
    let stale = at.run(&["set", "/app/config/db", "v3", "--version", "0"]);
    assert!(stale.stderr.contains(&at.server.addr().to_string()), "{stale:?}");
    stale.fails(1, "another version than expected");
    let bytes = [0_u8, 159, 10, 13, 255];
    assert_eq!(at.feed(&["set", "/app/config/db", "--file", "-"], &bytes).ok(), "");
    let got = at.run(&["get", "/app/config/db", "--json"]).json();
    assert_eq!((got["data"].as_str(), got["stat"]["version"].as_i64()), (Some("AJ8KDf8="), Some(2)));
    let raw = at.command(&["get", "/app/config/db"]).output().expect("the binary runs");
    assert_eq!(raw.stdout, bytes);
    fs::write(at.temp.path().join("value"), "from a file\n").expect("written");
    assert_eq!(at.run(&["create", "/app/file", "--file", "value"]).ok(), "/app/file\n");
    let shown = at.run(&["get", "-s", "/app/file"]).ok();
    assert!(shown.starts_with("from a file\nczxid ") && shown.contains("dataLength"), "{shown}");
    let stat = at.run(&["stat", "/app", "--json"]).json();
    assert_eq!((stat["stat"]["numChildren"].as_i64(), stat["stat"]["version"].as_i64()), (Some(2), Some(0)));
    at.run(&["stat", "/none"]).fails(1, "/none: there is no such znode");
    at.run(&["delete", "/app"]).fails(1, "has children");
    assert_eq!(at.run(&["delete", "/app/file"]).ok(), "");
    at.run(&["get", "/app/file"]).fails(1, "get /app/file: the znode");
    at.run(&["create", "/no/parent"]).fails(1, "farrier create -p /no");
    at.run(&["get", "/app/confg"]).fails(1, "farrier ls /app");
    at.run(&["set", "/app/confg", "x"]).fails(1, "`farrier create /app/confg` makes it");
    for path in ["/zookeeper", "/zookeeper/config"] {
        at.run(&["delete", path]).fails(1, &format!("{path} is reserved"));
    }
    at.run(&["delete", "/"]).fails(1, "/ is the root of all");
    at.run(&["set", "/app", "-5"]).ok();
    assert_eq!(at.run(&["get", "/app"]).ok(), "-5");
    at.run(&["set", "/app", "x", "--version", "-1"]).fails(2, "-1 is not in 0..");
    // What the environment gives is not asked for.
    at.run(&["get"]).fails(2, "Usage: farrier get [OPTIONS] <PATH>");
    at.run(&["acl", "/app"]).fails(2, "`farrier acl get /app`");
    at.run(&["set", "/app"]).fails(2, "no data");
    at.run(&["set", "/app", "--file", "nowhere"]).fails(2, "nowhere");
    assert_eq!(at.run(&["sync", "--json"]).json()["path"], "/");
}

/// What cannot be right needs no server to be refused.
#[test]
fn words_are_looked_at_before_anything_is_connected_to() {
    let refused_with = |code: i32, words: &str, why: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
        // Nobody listens at the discard port.
        command
            .args(words.split(' '))
            .env("FARRIER_SERVER", "127.0.0.1:9")
            .env_remove("FARRIER_AUTH")
            .env_remove("FARRIER_LOCK_NODE");
        let started = std::time::Instant::now();
        let refused = ran(command);
        assert!(started.elapsed().as_secs() < 5 && !refused.stderr.contains("connect"), "{words}: {refused:?}");
        refused.fails(code, why);
    };
    let refused = |words: &str, why: &str| refused_with(2, words, why);
    for words in ["lock no/path -- true", "elect no/path -- true", "queue take no/path -- true"] {
        refused_with(125, words, "Paths begin with a slash: /no/path");
    }
    for words in [
        "get no/path",
        "set no/path x",
        "create no/path",
        "delete -r no/path",
        "stat no/path",
        "ls -R no/path",
        "tree no/path",
        "watch no/path",
        "sync no/path",
        "acl get no/path",
        "acl set no/path world:anyone:r",
        "export no/path",
        "import no/path nowhere.json",
        "queue put no/path x",
        "queue take no/path",
        "member join no/path x",
        "member ls no/path",
        "member watch no/path",
        "config get no/path",
        "config set no/path x",
        "config watch no/path",
        "config edit no/path",
        "config history no/path",
        "config rollback no/path",
        "config forget no/path --all",
    ] {
        refused(words, "Paths begin with a slash: /no/path");
    }
    // So is what else is wrong with the command.
    for words in ["set /a x --guard", "create /a --guard", "delete /a --guard", "multi /dev/null --guard"] {
        refused(words, if words.starts_with("multi") { "there is no operation in it" } else { "FARRIER_LOCK_NODE" });
    }
    refused("set /a --file nowhere", "nowhere: ");
    refused("multi nowhere", "nowhere: ");
    refused("get /a//b", "/a//b: the path has an empty component");
    refused("get /a/\u{202e}\u{1}", "/a/\\u{202e}\\u{1}: the path has a character");
    refused("create /a/../b", "/a/../b: the path has a relative component");
}

/// The servers' answer is a bare number; which of their settings stands behind it is for the client to say.
#[test]
fn what_the_servers_settings_forbid_names_the_setting() {
    let at = Place::with(&[]);
    at.run(&["create", "/t", "--ttl", "5"]).fails(1, "a TTL needs extendedTypesEnabled=true on all servers");
    fs::write(at.file("big"), vec![b'x'; 1_500_000]).expect("written");
    let big = ["create", "/big", "--file", "big", "--request-max", "2000000"];
    at.run(&big).fails(1, "longer than its jute.maxbuffer; send less at once, or raise jute.maxbuffer on all servers");
    at.run(&["stat", "/big"]).fails(1, "no such znode");
    at.feed(&["shell"], b"reconfig -remove 3\n").fails(1, "set reconfigEnabled=true on the servers");
    let at = Place::with(&["reconfigEnabled=true"]);
    at.feed(&["shell"], b"reconfig -remove 3\n")
        .fails(1, "a Farrier leader begins no reconfigurations in this version");
}

#[test]
fn refusals_tell_what_to_do() {
    let at = Place::new();
    at.run(&["create", "/v"]).ok();
    at.run(&["acl", "set", "/v", "auth::cdrwa"])
        .fails(1, "the identities of this session, which --auth-file or --auth give");
    fs::write(at.file("notes"), "# Notes\nof no export\n").expect("written");
    at.run(&["import", "/v", "notes"]).fails(2, "notes: this is no export: ");
    fs::write(at.file("cut"), "{\"path\":\"/\",\"data\":\"\",\"ac").expect("written");
    at.run(&["import", "/v", "cut"]).fails(2, "it was cut off here");
    let nobody = at.run(&["member", "ls", "/nope"]);
    assert!(nobody.stderr.contains("/nope does not exist, so it has no members"), "{nobody:?}");
    assert_eq!(nobody.ok(), "");
    let data = at.server.data();
    let data = data.to_str().expect("text");
    at.run(&["repair", data]).fails(1, "); stop that server first");
}

/// Whoever probes every few seconds fills nobody's log.
#[test]
fn a_probe_leaves_no_line_in_the_log() {
    let at = Place::new();
    assert!(at.run(&["status"]).ok().contains("standalone"));
    at.server.signal(Signal::TERM);
    let said = at.server.wait_said(|said| said.contains("stopping"));
    assert!(said.contains("stopping") && !said.contains("srvr"), "{said}");
}

/// Names can hold what a terminal would not show but do.
#[test]
fn names_cannot_hide_what_they_are() {
    let at = Place::new();
    let name = "/evil\u{202e}txt.\u{feff}x";
    let shown = "/evil\\u{202e}txt.\\u{feff}x";
    assert_eq!(at.run(&["create", name]).ok(), format!("{shown}\n"));
    assert!(at.run(&["ls"]).ok().contains(&shown[1..]));
    assert!(at.run(&["tree"]).ok().contains(&shown[1..]));
    let missing = format!("{name}/none");
    at.run(&["get", &missing]).fails(1, &format!("get {shown}/none"));
    let (seen, code) = at.terminal(&["ls"], "", "");
    assert!(code == Some(0) && seen.contains(&shown[1..]) && !seen.contains('\u{202e}'), "{seen}");
}

#[test]
fn every_mode_can_be_created() {
    let at = Place::new();
    assert_eq!(at.run(&["create", "/m"]).ok(), "/m\n");
    assert_eq!(at.run(&["create", "--sequential", "/m/job-", "x"]).ok(), "/m/job-0000000000\n");
    assert_eq!(at.run(&["create", "--container", "/m/locks"]).ok(), "/m/locks\n");
    assert_eq!(at.run(&["create", "--ttl", "1h", "/m/cache"]).ok(), "/m/cache\n");
    assert_eq!(at.run(&["create", "--acl", "world:anyone:r", "/m/readonly"]).ok(), "/m/readonly\n");
    assert_eq!(at.run(&["acl", "get", "/m/readonly"]).ok(), "world:anyone:r\n");
    at.run(&["create", "--container", "--ttl", "1h", "/m/both"]).fails(2, "cannot be used with");
    at.run(&["create", "--acl", "world:anyone:x", "/m/bad"]).fails(2, "cdrwa");

    // An ephemeral one lives as long as the command, and goes with it at once.
    let mut command = at.command(&["create", "--ephemeral", "/m/here"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    assert_eq!(first_line(&mut child).0, "/m/here\n");
    // On a busy machine it may tell before that it still waits for its session.
    let mut told = BufReader::new(child.stderr.take().expect("it is piped")).lines().map(|line| line.expect("text"));
    let told = told.find(|line| !line.contains(": connecting to "));
    assert_eq!(told.as_deref(), Some("farrier create: /m/here is there until this command ends: by Ctrl-C or SIGTERM"));
    let stat = at.run(&["stat", "/m/here", "--json"]).json();
    assert_ne!(stat["stat"]["ephemeralOwner"], "0x0");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    at.run(&["stat", "/m/here"]).fails(1, "no such znode");
}

/// The first line of a child's output, and the rest to come.
#[test]
fn listing_and_drawing() {
    let at = Place::new();
    for path in ["/b/x", "/a/y/z", "/a/c"] {
        at.run(&["create", "-p", path, "12345"]).ok();
    }
    assert_eq!(at.run(&["ls"]).ok(), "a\nb\nzookeeper\n");
    assert_eq!(at.run(&["ls", "-R", "/a"]).ok(), "/a\n/a/c\n/a/y\n/a/y/z\n");
    let long = at.run(&["ls", "-s", "/a"]).ok();
    assert!(long.lines().next().is_some_and(|l| l.starts_with("c  ") && l.contains("5 bytes")), "{long}");
    let lines = at.run(&["ls", "-R", "-s", "/a", "--json"]).json_lines();
    let found: Vec<_> = lines.iter().map(|l| (l["path"].as_str(), l["stat"]["numChildren"].as_i64())).collect();
    assert_eq!(
        found,
        [(Some("/a"), Some(2)), (Some("/a/c"), Some(0)), (Some("/a/y"), Some(1)), (Some("/a/y/z"), Some(0))]
    );
    let drawn = at.run(&["tree", "/a"]).ok();
    assert_eq!(drawn, "/a\n├── c\n└── y\n    └── z\n\n4 znodes\n");
    let shallow = at.run(&["tree", "/", "--depth", "1"]).ok();
    assert_eq!(shallow, "/\n├── a  (2 more)\n├── b  (1 more)\n└── zookeeper  (2 more)\n\n4 znodes\n");
    at.run(&["ls", "/none"]).fails(1, "list /none");
    at.run(&["ls", "-R", "/none"]).fails(1, "list /none");
}

#[test]
fn deletion_of_a_subtree_asks_first() {
    let at = Place::new();
    for path in ["/a/b/c", "/a/d"] {
        at.run(&["create", "-p", path]).ok();
    }
    at.run(&["delete", "-r", "/a"]).fails(2, "delete /a and the 3 znodes below it; there is no terminal");
    let (shown, code) = at.terminal(&["delete", "-r", "/a"], "[y/N]", "n\n");
    assert!(code == Some(1) && shown.contains("nothing was deleted"), "{shown}");
    assert_eq!(at.run(&["ls", "/a"]).ok(), "b\nd\n");
    let (shown, code) = at.terminal(&["delete", "-r", "/a"], "[y/N]", "y\n");
    assert!(code == Some(0) && shown.contains("deleted 4 znodes"), "{shown}");
    at.run(&["stat", "/a"]).fails(1, "no such znode");
    at.run(&["create", "-p", "/a/b"]).ok();
    assert_eq!(at.run(&["delete", "-r", "/a", "--yes", "--json"]).json(), json!({"path": "/a", "deleted": 2}));
    for never in ["/", "/zookeeper"] {
        at.run(&["delete", "-r", never, "--yes"]).fails(2, "never deleted");
    }
    let server = format!("{}/zookeeper", at.server.addr());
    at.run(&["delete", "-r", "/", "--yes", "--server", &server]).fails(2, "never deleted");
}

/// Colours and line breaks are for terminals, unless NO_COLOR is set.
#[test]
fn a_terminal_is_told_apart_from_a_pipe() {
    let at = Place::new();
    at.run(&["create", "/a", "text"]).ok();
    let (shown, code) = at.terminal(&["get", "/a"], "", "");
    assert_eq!((shown.as_str(), code), ("text\r\n", Some(0)));
    assert_eq!(at.run(&["get", "/a"]).ok(), "text");
    let (shown, code) = at.terminal(&["get", "/none"], "", "");
    assert!(code == Some(1) && shown.contains("\u{1b}["), "{shown}");
    assert!(!at.run(&["get", "/none"]).stderr.contains('\u{1b}'));
}

#[test]
fn acls_and_identities() {
    let at = Place::new();
    at.run(&["create", "/a", "secret"]).ok();
    let file = at.temp.path().join("identities");
    fs::write(&file, "# who I am\n\ndigest:me:password\n").expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("changed");
    assert_eq!(at.run(&["acl", "set", "/a", "auth::cdrwa", "--auth-file", "identities"]).ok(), "");
    at.run(&["get", "/a"]).fails(1, "the ACL does not permit it");
    let mine = at.run(&["get", "/a", "--auth-file", "identities"]);
    assert!(!mine.stderr.contains("warning"), "{mine:?}");
    assert_eq!(mine.ok(), "secret");
    let mut command = at.command(&["get", "/a"]);
    command.env("FARRIER_AUTH", "identities");
    assert_eq!(ran(command).ok(), "secret");
    assert_eq!(at.run(&["get", "/a", "--auth", "digest:me:password"]).ok(), "secret");
    let shown = at.run(&["acl", "get", "/a", "--auth", "digest:me:password", "--json"]).json();
    assert_eq!(
        (shown["acl"][0]["scheme"].as_str(), shown["acl"][0]["perms"].as_str()),
        (Some("digest"), Some("cdrwa"))
    );
    let useless = at.run(&["create", "/useless", "--acl", "digest:me:password:cdrwa"]);
    assert!(!useless.stderr.contains("me:password"), "{useless:?}");
    assert!(useless.stderr.contains("Write auth::cdrwa") && useless.stderr.contains("--auth-file"), "{useless:?}");
    useless.fails(2, "nobody can be this digest");
    for words in [
        &["--acl", "digest:me:hidden"][..],
        &["--acl", "digest:hidden:cdrwa"],
        &["--acl", "digest:me:hidden:cdrwa"],
        &["--auth", "hidden"],
    ] {
        let refused = at.run(&[&["create", "/useless"][..], words].concat());
        assert!(refused.code == Some(2) && !refused.stderr.contains("hidden"), "{refused:?}");
        assert!(refused.stderr.contains(&format!("invalid value for '{} <", words[0])), "{refused:?}");
    }
    let line = r#"{"op": "create", "path": "/useless", "acl": "digest:me:hidden:r"}"#;
    at.feed(&["multi", "-"], line.as_bytes()).fails(2, "line 1: nobody can be this digest");
    at.run(&["stat", "/useless"]).fails(1, "no such znode");
    // As it is meant: with the hash, and by way of what this session shows.
    let hashed = "digest:me:0DPiKuNIrrVmD8IUCuw1hQxNqZc=:r";
    assert_eq!(at.run(&["create", "/hashed", "--acl", hashed]).ok(), "/hashed\n");
    let own = ["create", "/own", "mine", "--acl", "auth::r", "--auth-file", "identities"];
    assert_eq!(at.run(&own).ok(), "/own\n");
    assert_eq!(at.run(&["get", "/own", "--auth-file", "identities"]).ok(), "mine");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("changed");
    let open = at.run(&["get", "/a", "--auth-file", "identities"]);
    assert!(open.code == Some(0) && open.stderr.contains("chmod 600"), "{open:?}");
    assert!(open.stderr.starts_with("farrier get: warning: "), "{open:?}");
    fs::write(&file, "password\n").expect("written");
    let wrong = at.run(&["get", "/a", "--auth-file", "identities"]);
    assert!(!wrong.stderr.contains("`password`"), "{wrong:?}");
    wrong.fails(2, "line 1: expected SCHEME:CREDENTIALS");
}

#[test]
fn watching_tells_what_comes() {
    let at = Place::new();
    let mut child = at
        .command(&["watch", "-R", "/w", "--json", "--count", "4"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let (first, rest) = first_line(&mut child);
    let first: Value = serde_json::from_str(&first).expect("JSON");
    assert_eq!((first["event"].as_str(), first["path"].as_str()), (Some("watching"), Some("/w")));
    at.run(&["create", "/w"]).ok();
    at.run(&["create", "/w/a"]).ok();
    at.run(&["set", "/w/a", "x"]).ok();
    at.run(&["delete", "/w/a"]).ok();
    let events: Vec<Value> = rest.lines().map(|l| serde_json::from_str(&l.expect("text")).expect("JSON")).collect();
    let told: Vec<_> = events.iter().map(|e| (e["event"].as_str(), e["path"].as_str())).collect();
    assert_eq!(
        told,
        [
            (Some("created"), Some("/w")),
            (Some("created"), Some("/w/a")),
            (Some("changed"), Some("/w/a")),
            (Some("deleted"), Some("/w/a"))
        ]
    );
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_multi_is_done_whole_or_not_at_all() {
    let at = Place::new();
    at.run(&["create", "/m", "old"]).ok();
    let operations = r#"{"op": "check", "path": "/m", "version": 0}

{"op": "create", "path": "/m/job-", "text": "work", "sequential": true}
{"op": "set", "path": "/m", "data": "bmV3", "version": 0}
"#;
    assert_eq!(at.feed(&["multi", "-"], operations.as_bytes()).ok(), "check /m\ncreate /m/job-0000000000\nset /m\n");
    assert_eq!(at.run(&["get", "/m"]).ok(), "new");
    fs::write(at.temp.path().join("operations.json"), operations).expect("written");
    at.run(&["multi", "operations.json"]).fails(1, "multi /m (operation 0");
    assert_eq!(at.run(&["ls", "/m"]).ok(), "job-0000000000\n");
    at.feed(&["multi", "-"], b"{\"op\": \"set\", \"path\": \"/m\"}\n").fails(2, "line 1: a set needs");
    at.feed(&["multi", "-"], b"\n\n").fails(2, "no operation");
}

/// Servers show digests only to who may administer a znode. What anybody else exports would lock everybody out.
#[test]
fn an_acl_that_was_not_shown_is_neither_exported_nor_imported() {
    let at = Place::new();
    // Of `reader:secret` and of `admin:secret`, told by whoever is that.
    let (reader, admin) = (["--auth", "digest:reader:secret"], ["--auth", "digest:admin:secret"]);
    at.run(&["create", "/app", "one", "--acl", "auth::cdrwa", admin[0], admin[1]]).ok();
    let own = at.run(&["acl", "get", "/app", admin[0], admin[1]]).ok();
    let acl = format!("{},world:anyone:r", own.trim());
    at.run(&["acl", "set", "/app", &acl, admin[0], admin[1]]).ok();

    at.run(&["export", "/app", reader[0], reader[1]]).fails(1, "/app: its ACL has digests");
    let without = at.run(&["export", "/app", "--no-acl"]).ok();
    at.feed(&["import", "/copy", "-"], without.as_bytes()).fails(2, "--acl gives one to all");
    at.feed(&["import", "/copy", "-", "--acl", "world:anyone:cdrwa"], without.as_bytes()).ok();
    assert_eq!(at.run(&["get", "/copy"]).ok(), "one");
    let whole = at.run(&["export", "/app", admin[0], admin[1]]).ok();
    at.feed(&["import", "/whole", "-"], whole.as_bytes()).ok();
    at.run(&["set", "/whole", "two", admin[0], admin[1]]).ok();

    let masked = br#"{"path":"/","data":"dHdv","acl":[{"scheme":"digest","id":"admin:x","perms":31}]}"#;
    at.feed(&["import", "/masked", "-", "--partial"], masked).fails(2, "line 1: the ACL of /masked has the digest `x`");
    at.run(&["stat", "/masked"]).fails(1, "no such znode");
    at.feed(&["import", "/masked", "-", "--partial", "--acl", "world:anyone:r"], masked).ok();
}

#[test]
fn a_subtree_goes_out_and_comes_back() {
    let at = Place::new();
    at.run(&["create", "-p", "/app/a/b", "one"]).ok();
    at.feed(&["create", "/app/a.c", "--file", "-"], &[0, 255, 10]).ok();
    at.run(&["create", "/app/r", "two", "--acl", "world:anyone:r"]).ok();
    let mut holder = at.command(&["create", "-e", "/app/here"]).stdout(Stdio::piped()).spawn().expect("it runs");
    first_line(&mut holder);

    let out = at.run(&["export", "/app"]);
    assert!(out.stderr.contains("5 znodes exported, 1 ephemeral skipped"), "{out:?}");
    let lines = out.json_lines();
    let paths: Vec<_> = lines.iter().filter_map(|l| l["path"].as_str()).collect();
    assert_eq!(paths, ["/", "/a", "/a/b", "/a.c", "/r"]);
    assert_eq!(
        lines[4],
        json!({"path": "/r", "data": "dHdv", "acl": [{"scheme": "world", "id": "anyone", "perms": 1}]})
    );
    assert_eq!(lines[5..], [json!({"end": true, "znodes": 5})]);

    let (file, part) = (at.temp.path().join("app.json"), at.temp.path().join("app.json.part"));
    // What another attempt left is in nobody's way.
    fs::write(&part, "left").expect("written");
    at.run(&["export", "/app", "--to", "app.json"]).ok();
    assert!(!part.exists());
    at.run(&["export", "/app", "--to", "app.json"]).fails(2, "--resume");
    fs::write(&part, "left").expect("written");
    at.run(&["export", "/app", "--to", "app.json", "--resume"]).fails(2, "are both there");
    fs::remove_file(&part).expect("it is there");
    at.run(&["export", "/app", "--to", "app.json", "--resume"]).fails(2, "nothing to resume");
    let whole = fs::read_to_string(&file).expect("it was written");
    // Wherever it was cut off, resuming makes it whole, and importing refuses it and creates nothing.
    for cut in (0..whole.len()).step_by(37) {
        fs::write(&file, &whole[..cut]).expect("written");
        let line = format!("line {}: ", whole[..cut].lines().count());
        let refused = at.run(&["import", "/cut", "app.json"]);
        assert!(refused.stderr.contains("cut off here") && refused.stderr.contains("--resume"), "{cut}: {refused:?}");
        refused.fails(2, &line);
        fs::rename(&file, if cut % 2 == 0 { &part } else { &file }).expect("renamed");
        at.run(&["export", "/app", "--to", "app.json", "--resume"]).ok();
        assert_eq!(fs::read_to_string(&file).expect("text"), whole, "cut at {cut}");
    }
    at.run(&["stat", "/cut"]).fails(1, "no such znode");
    // From a pipe that shows at the end only. Without the middle the number is wrong.
    let two = whole.lines().take(2).collect::<Vec<_>>().join("\n");
    at.feed(&["import", "/cut", "-"], two.as_bytes()).fails(2, "standard input, line 2: ");
    at.feed(&["import", "/cut", "-", "--partial"], two.as_bytes()).ok();
    at.feed(&["import", "/cut", "-"], &whole.as_bytes()[..two.len() - 9])
        .fails(2, "line 2: the file ends in the midst of it");
    let gap: String = whole.lines().filter(|line| !line.contains("/r\"")).map(|line| format!("{line}\n")).collect();
    at.feed(&["import", "/cut", "-"], gap.as_bytes()).fails(2, "line 5: it ends an export of 5 znodes, and 4 came");
    at.feed(&["import", "/cut", "-"], [&*whole, &*whole].concat().as_bytes())
        .fails(2, "line 7: it stands behind the end");

    // By its path a pipe is read once, as well.
    at.feed(&["import", "/cut", "/dev/stdin"], whole.as_bytes()).ok();
    at.run(&["delete", "-r", "/cut", "--yes"]).ok();

    let into = at.run(&["import", "/copy", "app.json"]);
    assert!(into.code == Some(0) && into.stderr.contains("5 znodes created, 0 updated, 0 left alone"), "{into:?}");
    let same = |a: &Value, b: &Value| a["path"] == b["path"] && a["data"] == b["data"] && a["acl"] == b["acl"];
    let copied = at.run(&["export", "/copy"]).json_lines();
    assert!(copied.len() == lines.len() && copied.iter().zip(&lines).all(|(a, b)| same(a, b)), "{copied:?}");

    at.run(&["set", "/copy/a/b", "changed"]).ok();
    let again = at.run(&["import", "/copy", "app.json"]);
    assert!(again.stderr.contains("0 znodes created, 0 updated, 5 left alone"), "{again:?}");
    assert_eq!(at.run(&["get", "/copy/a/b"]).ok(), "changed");
    at.run(&["delete", "/copy/r"]).ok();
    let update = at.feed(&["import", "/copy", "-", "--update", "--acl", "world:anyone:cdrwa"], whole.as_bytes());
    assert!(update.stderr.contains("1 znode created, 4 updated"), "{update:?}");
    assert_eq!(at.run(&["get", "/copy/a/b"]).ok(), "one");
    at.feed(&["import", "/copy", "-"], b"{}\n").fails(2, "line 1: it has no `path`");
    at.feed(&["import", "/copy", "-"], b"{]\n").fails(2, "line 1: key must be a string (column 2)");
    let nowhere = at.run(&["import", "/no/where", "app.json"]);
    assert!(!nowhere.stderr.contains("goes on"), "it would be refused again: {nowhere:?}");
    nowhere.fails(1, "create /no/where");

    let all = at.run(&["export", "/"]);
    assert!(all.stderr.contains("znodes exported, 1 ephemeral and /zookeeper skipped"), "{all:?}");
    let all = all.json_lines();
    assert!(all.iter().all(|l| !l["path"].as_str().is_some_and(|p| p.starts_with("/zookeeper"))), "{all:?}");
    kill_process(Pid::from_child(&holder), Signal::INT).expect("it runs");
    assert_eq!(holder.wait().expect("it ends").code(), Some(0));
}

/// A list of children longer than what is asked for ahead, in order and whole.
#[test]
fn wide_trees_are_walked_in_order() {
    let at = Place::new();
    let lines: String = std::iter::once("{\"path\":\"/\",\"data\":\"\",\"acl\":\"world:anyone:cdrwa\"}\n".to_owned())
        .chain((0..300).map(|n| format!("{{\"path\":\"/n{n:03}\",\"data\":\"\",\"acl\":\"world:anyone:cdrwa\"}}\n")))
        .collect();
    at.feed(&["import", "/wide", "-", "--partial"], lines.as_bytes()).ok();
    let listed = at.run(&["ls", "-R", "-s", "/wide", "--json"]).json_lines();
    let paths: Vec<_> = listed.iter().skip(1).filter_map(|l| l["path"].as_str().map(str::to_owned)).collect();
    assert_eq!(paths, (0..300).map(|n| format!("/wide/n{n:03}")).collect::<Vec<_>>());
    assert_eq!(at.run(&["delete", "-r", "/wide", "--yes"]).ok(), "deleted 301 znodes\n");
}

/// Every span of time is written in the same ways.
#[test]
fn spans_of_time_have_one_form() {
    let at = Place::new();
    for words in [
        &["get", "/", "--timeout", "2m", "--session-timeout", "30s"][..],
        &["get", "/", "--timeout", "60"],
        &["status", "--timeout", "60s"],
        &["create", "--ttl", "3600", "/seconds"],
        &["create", "--ttl", "1h", "/hours"],
        &["lock", "/l", "--wait", "500ms", "--", "true"],
        &["lock", "/l", "--wait", "0", "--", "true"],
    ] {
        at.run(words).ok();
    }
    let typed = b"create -t 60000 /ms\ncreate -t 1m /minute\n";
    assert_eq!(at.feed(&["shell"], typed).ok(), "Created /ms\nCreated /minute\n");
    let form = "expected a number of seconds, or one with its unit: 500ms, 10s, 5m, 1h";
    for wrong in [
        &["get", "/", "--timeout", "-1"][..],
        &["get", "/", "--session-timeout", "soon"],
        &["lock", "/l", "--wait", "abc", "--", "true"],
        &["lock", "/l", "--wait", "-1s", "--", "true"],
        &["status", "--timeout", "-1"],
        &["admin", "status", "--dir", ".", "--timeout", "1x"],
        &["bench", "get", "--seconds", "-5"],
        &["create", "--ttl", "-1s", "/x"],
    ] {
        at.run(wrong).fails(2, form);
    }
    at.run(&["get", "/", "--timeout", "2h"]).fails(2, "it has to be from 1ms to 1h");
    let long = at.run(&["create", "-p", "/far/away", "--ttl", "35y"]);
    long.fails(2, "it has to be from 1ms to about 34years 10months");
    at.run(&["stat", "/far"]).fails(1, "no such znode");
    at.feed(&["shell"], b"create -t 0 /far\n").fails(2, "it has to be from 1ms to about 34years 10months");
    at.run(&["get", "/", "--timeout", "0"]).fails(2, "it has to be from 1ms to 1h");
}

/// Where nobody gives a session, the wait for one is told, and what there is instead of it.
#[test]
fn a_wait_for_a_session_is_told() {
    let at = Place::new();
    let dead = at.run(&["get", "/", "--server", "127.0.0.1:1", "--timeout", "1500ms"]);
    let lines: Vec<&str> = dead.stderr.lines().collect();
    assert!(lines[0].starts_with("farrier get: connecting to 127.0.0.1:1: Connection refused"), "{dead:?}");
    assert!(lines[0].ends_with("; trying for 1 s more"), "{dead:?}");
    assert_eq!(lines.len(), 3, "{dead:?}");
    dead.fails(3, "(after 1.5s)\n  Is a server running there?");

    // Somebody takes connections and gives no session, as a member without a quorum does.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let _ = connection.read(&mut [0; 64]);
        }
    });
    let silent = at.run(&["get", "/", "--server", &address, "--timeout", "3"]);
    let lines = silent.stderr.lines().filter(|line| !line.contains(": connecting to "));
    assert_eq!(lines.count(), 2, "{silent:?}");
    let next = format!("`farrier status --server {address}` tells whether it has a quorum");
    assert!(
        silent.stderr.contains("A server is there and gives no session, perhaps since it has no quorum, or too many ")
    );
    silent.fails(3, &next);
}

#[test]
fn no_server_is_another_code_than_no_znode() {
    let at = Place::new();
    let nobody = ["--server", "127.0.0.1:1", "--timeout", "1"];
    for words in [&["get", "/a"][..], &["ls"], &["delete", "-r", "/a", "--yes"], &["watch", "/a"]] {
        let all: Vec<&str> = words.iter().chain(&nobody).copied().collect();
        at.run(&all).fails(3, "127.0.0.1:1");
    }
    at.run(&["get", "/a", "--server", "a:b"]).fails(2, "connect string");
    at.run(&["get", "/a", "--tls-ca", "nowhere.pem"]).fails(2, "nowhere.pem");
    at.run(&["get", "/a", "--tls-cert", "c.pem"]).fails(2, "--tls-key");
    at.run(&["export", "/quota", "--server", "127.0.0.1:1/zookeeper"])
        .fails(2, "/zookeeper/quota: what is at and below");
    // Below a chroot everything has the shorter name.
    at.run(&["create", "-p", "/app/x", "in"]).ok();
    let chroot = format!("{}/app", at.server.addr());
    assert_eq!(at.run(&["get", "/x", "--server", &chroot]).ok(), "in");
    at.run(&["get", "/y", "--server", &chroot]).fails(1, "get /y: ");
    let missing = format!("{}/none", at.server.addr());
    at.run(&["ls", "/", "--server", &missing]).fails(1, "`farrier create -p /` makes it");
    at.run(&["create", "-p", "/", "--server", &missing]).ok();
    assert_eq!(at.run(&["ls", "/", "--server", &missing]).ok(), "");
}

/// What other commands take as FARRIER_SERVER, `status` takes too.
#[test]
fn status_takes_a_connect_string_and_shows_who_asks() {
    // The super user's password is `admin`.
    let at = Place::with(&["DigestAuthenticationProvider.superDigest=super:xQJmxLMiHGwaqBvst5y6rkB6HQs="]);
    let address = at.server.addr().to_string();
    for server in [format!("{address}/app"), format!("{address}, {address}"), format!("{address}/")] {
        let mut command = at.command(&["status"]);
        command.env("FARRIER_SERVER", &server);
        let told = ran(command);
        assert!(told.stderr.is_empty(), "{server}: {told:?}");
        assert!(told.ok().contains(&format!("{address}  standalone")), "{server}");
    }
    at.run(&["status", "--server", "127.0.0.1:1/app"]).fails(3, "");
    at.run(&["status", "--server", "::1"]).fails(2, "An IPv6 address stands in brackets");
    at.run(&["status", "--server", "a:b"]).fails(2, "connect string `a:b`");

    // Who may read the list of members is for its ACL to say.
    at.run(&["acl", "set", "/zookeeper/config", "auth::r", "--auth", "digest:super:admin"]).ok();
    let refused = at.run(&["status"]);
    assert!(refused.stderr.contains("--auth-file or --auth says who may read it"), "{refused:?}");
    assert!(refused.ok().contains("standalone"));
    let mine = at.run(&["status", "--auth", "digest:super:admin"]);
    assert!(mine.stderr.is_empty() && mine.ok().contains("standalone"));
    at.run(&["status", "--auth-file", "nowhere"]).fails(2, "--auth-file nowhere: ");
}
