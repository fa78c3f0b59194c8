//! The examples in the help of the commands that need no server do what they say.

use rustix::process::Signal;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

mod support;

use support::Process;

fn farrier(words: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
    command.args(words).current_dir(dir).stdin(Stdio::null()).env("NO_COLOR", "1");
    for name in ["SERVER_JVMFLAGS", "JVMFLAGS", "FARRIER_LOG", "FARRIER_SERVER"] {
        command.env_remove(name);
    }
    command.output().expect("the binary runs")
}

/// The examples in the help of `farrier COMMAND`, each as words.
fn examples(command: &str, dir: &Path) -> Vec<Vec<String>> {
    let mut words: Vec<&str> = command.split(' ').collect();
    words.push("--help");
    let help = String::from_utf8(farrier(&words, dir).stdout).expect("text");
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1).take_while(|line| !line.is_empty());
    let mut examples: Vec<Vec<String>> = Vec::new();
    for line in lines {
        let words = line.trim_start().split("  ").next().unwrap_or_default().split_whitespace().map(str::to_owned);
        match examples.last_mut().filter(|_| !line.trim_start().starts_with("farrier ")) {
            // Help is wrapped.
            Some(example) => example.extend(words),
            None => examples.push(words.skip(1).collect()),
        }
    }
    examples
}

#[test]
fn examples_without_a_server_do_what_they_say() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    // A server ran here, and the examples find its directory where a system would have it.
    let mut server = Process::new(temp.path(), &[]);
    server.start();
    server.client();
    server.signal(Signal::TERM);
    server.wait_end();
    let data = server.data();
    let data = data.to_str().expect("text");
    let made = temp.path().join("made");
    let made = made.to_str().expect("text");
    let mut ran = 0;
    for command in [
        "log",
        "log dump",
        "log verify",
        "snapshot",
        "snapshot dump",
        "snapshot verify",
        "completions",
        "repair",
        "init",
        "server",
    ] {
        let found = examples(command, temp.path());
        assert!(!found.is_empty(), "{command} has examples");
        for words in found {
            // Those would serve until they are stopped.
            if command == "server" && !words.iter().any(|w| w == "--check") {
                continue;
            }
            let words: Vec<String> =
                words.iter().map(|w| w.replace("/var/lib/zookeeper", data).replace("/var/lib/farrier", made)).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let output = farrier(&words, temp.path());
            assert_eq!(
                output.status.code(),
                Some(0),
                "farrier {}: {}{}",
                words.join(" "),
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
            );
            ran += 1;
        }
    }
    assert!(ran > 15, "{ran} examples ran");
}

/// Those of the commands that speak to a server, each below a root of its own with what it is about. Left out
/// are those that run until they are stopped or ask on a terminal.
#[test]
fn examples_against_a_server_do_what_they_say() {
    const EXPORT: &str = "{\"path\":\"/\",\"data\":\"djE=\",\"acl\":\"world:anyone:cdrwa\"}\n";
    const END: &str = "{\"end\":true,\"znodes\":1}\n";
    const OPERATIONS: &str = "{\"op\":\"set\",\"path\":\"/app/config\",\"text\":\"v2\",\"version\":7}\n";
    const HISTORY: [&str; 3] =
        ["/app/config/.history", "/app/config/.history/0000000000000001", "/app/config/.history/0000000100000005"];
    const JOBS: [&str; 4] =
        ["/app/jobs", "/app/jobs/entries", "/app/jobs/taken", "/app/jobs/entries/entry-100-0000000000"];
    let temp = tempfile::tempdir().expect("a temporary directory");
    let mut server = Process::new(temp.path(), &["extendedTypesEnabled=true"]);
    server.start();
    let binaries = Path::new(env!("CARGO_BIN_EXE_farrier")).parent().expect("a directory").display().to_string();
    let path = std::env::var("PATH").expect("there is one");
    let mut ran = 0;
    for command in [
        "ls",
        "tree",
        "get",
        "set",
        "create",
        "delete",
        "stat",
        "acl",
        "acl get",
        "acl set",
        "sync",
        "multi",
        "export",
        "import",
        "lock",
        "elect",
        "config",
        "config get",
        "config set",
        "config edit",
        "config history",
        "config rollback",
        "config forget",
        "member",
        "member ls",
        "queue",
        "queue put",
        "queue take",
    ] {
        for words in examples(command, temp.path()) {
            let has = |word: &str| words.iter().any(|w| w == word);
            if has("watch") || has("join") || has("--ephemeral") || (command == "delete" && has("-r") && !has("--yes"))
            {
                continue;
            }
            ran += 1;
            let root = format!("/root{ran}");
            let mut client = server.client();
            let mut znode = |path: &str| {
                client.create(format!("{root}{path}"), b"v1").and_then(farrier_testkit::raw::Reply::ok).expect(path);
            };
            znode("");
            for path in ["/zookeeper", "/zookeeper/config"] {
                znode(path);
            }
            if !(command == "create" && (has("/app") || has("-p"))) {
                znode("/app");
                znode("/app/config");
                let more: &[&str] = match command.split(' ').next() {
                    Some("config") if !has("--new") => &HISTORY,
                    Some("queue") => {
                        if has("take") {
                            &JOBS
                        } else {
                            &JOBS[..3]
                        }
                    }
                    _ => &[],
                };
                more.iter().for_each(|path| znode(path));
                for _ in 0..7 {
                    client.set(format!("{root}/app/config"), b"v1", -1).expect("answered");
                }
                for _ in 0..2 {
                    let open = [(31, "world", "anyone")];
                    client.set_acl(format!("{root}/app"), &open, -1).expect("answered");
                }
            }
            if has("--new") {
                client.delete(format!("{root}/app/config"), -1).expect("answered");
            }
            let dir = temp.path().join(format!("dir{ran}"));
            fs::create_dir(&dir).expect("made");
            for (file, content) in [
                ("config.json", "{}"),
                ("db.json", "{}"),
                ("job.json", "{}"),
                ("operations.json", OPERATIONS),
                ("identities", "digest:me:secret\n"),
                ("app.json", EXPORT),
            ] {
                fs::write(dir.join(file), content).expect("written");
            }
            if command == "export" && !has("--resume") {
                fs::remove_file(dir.join("app.json")).expect("it is there");
            } else if command == "import" {
                fs::write(dir.join("app.json"), format!("{EXPORT}{END}")).expect("written");
            }
            let mut child = Command::new(env!("CARGO_BIN_EXE_farrier"))
                .args(&words)
                .current_dir(&dir)
                .env("FARRIER_SERVER", format!("{}{root}", server.addr()))
                .env("PATH", format!("{binaries}:{path}"))
                .env("EDITOR", "true")
                .env_remove("VISUAL")
                .env_remove("FARRIER_AUTH")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the binary runs");
            let input = if command == "multi" { OPERATIONS.to_owned() } else { format!("{EXPORT}{END}") };
            // It reads it only where it is told to.
            let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
            let output = child.wait_with_output().expect("it ends");
            assert_eq!(
                output.status.code(),
                Some(0),
                "farrier {}: {}{}",
                words.join(" "),
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
            );
        }
    }
    assert!(ran > 25, "{ran} examples ran");
}

/// The script for bash is one, and offers what there is.
#[test]
fn bash_completes_commands() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    for (shell, sign) in [("zsh", "#compdef farrier"), ("fish", "complete -c farrier")] {
        let script = String::from_utf8(farrier(&["completions", shell], temp.path()).stdout).expect("text");
        assert!(script.contains(sign) && script.contains("snapshot"), "{shell}: {script}");
    }
    let script = farrier(&["completions", "bash"], temp.path()).stdout;
    let mut bash = Command::new("bash")
        .args(["--norc", "-s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bash runs");
    let mut input = bash.stdin.take().expect("it is piped");
    input.write_all(&script).expect("written");
    let ask =
        "COMP_WORDS=(farrier log ver); COMP_CWORD=2; _farrier farrier ver log; echo \"offered: ${COMPREPLY[*]}\"\n";
    input.write_all(ask.as_bytes()).expect("written");
    drop(input);
    let output = bash.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("offered: verify"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// Colours are for terminals: a pipe gets none, unless they are asked for.
#[test]
fn a_pipe_gets_no_colours() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    fs::write(temp.path().join("log.1"), [b"ZKLG\0\0\0\x02".as_slice(), &[0; 8]].concat()).expect("written");
    let run = |colour: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
        command.args(["log", "verify", "log.1"]).current_dir(temp.path()).stdin(Stdio::null());
        command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").envs(colour.iter().copied());
        command.output().expect("the binary runs").stdout.contains(&0x1b)
    };
    assert!(!run(&[]));
    assert!(run(&[("CLICOLOR_FORCE", "1")]), "asked for");
}
