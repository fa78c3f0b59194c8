//! `farrier bench` against an ensemble of our own.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Runs a shell line beside three servers; what it printed, and whether it succeeded.
fn beside_servers(line: &str) -> (Vec<String>, bool) {
    let farrier = env!("CARGO_BIN_EXE_farrier");
    let out = Command::new(farrier)
        .args(["dev", "--servers", "3", "--", "sh", "-c", &line.replace("farrier ", &format!("{farrier} "))])
        .stderr(Stdio::inherit())
        .output()
        .expect("farrier runs");
    let text = String::from_utf8(out.stdout).expect("text");
    let lines = text.lines().map(str::to_owned).collect();
    (lines, out.status.success())
}

#[test]
fn every_row_runs_checks_its_writes_and_leaves_nothing_behind() {
    let (lines, succeeded) = beside_servers(
        "farrier bench get set mix create delete ephemeral children multi sync fanout locks connect idle fill \
         --connections 4 --depth 4 --seconds 1 --keys 200 --count 2000 --json --pid $PPID && farrier ls /",
    );
    assert!(succeeded, "{lines:?}");
    let (last, rows) = lines.split_last().expect("lines");
    assert_eq!(last, "zookeeper");
    assert_eq!(rows.len(), 14);
    for row in rows {
        let row: Value = serde_json::from_str(row).expect("JSON");
        let name = row["row"].as_str().expect("a name");
        assert!(row["count"].as_u64().is_some_and(|count| count > 0), "{row}");
        assert!(row["serverRss"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{row}");
        // Only options that the row goes by are told.
        let is_paced = !["fanout", "locks", "connect", "idle", "fill"].contains(&name);
        assert_eq!(row["depth"].as_u64(), is_paced.then_some(4), "{row}");
        assert_eq!(row["connections"].as_u64(), (name != "fill").then_some(4), "{row}");
        let is_sized = (is_paced && !["children", "sync"].contains(&name)) || name == "fill";
        assert_eq!(row["size"].as_u64(), is_sized.then_some(100), "{row}");
        assert_eq!(row["keys"].as_u64(), ["get", "set", "mix", "multi"].contains(&name).then_some(200), "{row}");
        let writes = ["set", "mix", "create", "delete", "ephemeral", "multi", "fill"].contains(&name);
        assert_eq!(row["verified"].as_bool(), Some(writes), "{row}");
    }
}

#[test]
fn what_fill_created_stays_beside_all_other_rows() {
    // The last row sees it: its znodes and its parents' children are counted again there.
    let (lines, succeeded) = beside_servers(
        "farrier bench fill set delete ephemeral create delete \
         --connections 4 --depth 4 --seconds 1 --keys 200 --count 2001 --json",
    );
    assert!(succeeded, "{lines:?}");
    for row in &lines {
        let row: Value = serde_json::from_str(row).expect("JSON");
        let (name, count) = (row["row"].as_str().expect("a name"), row["count"].as_u64());
        if ["fill", "delete"].contains(&name) {
            assert_eq!(count, Some(2001), "{row}");
        }
        assert_eq!(row["verified"].as_bool(), Some(true), "{row}");
    }
}

#[test]
fn an_open_loop_that_cannot_keep_its_rate_says_so() {
    let (lines, succeeded) =
        beside_servers("farrier bench set --rate 1000000 --depth 1 --connections 1 --keys 50 --seconds 1 --json 2>&1");
    assert!(succeeded, "{lines:?}");
    let row: Value = serde_json::from_str(&lines[0]).expect("JSON");
    let is_told = lines[1..].iter().any(|line| line.contains("that were due at the end were never sent"));
    assert!(is_told, "{lines:?}");
    let (unsent, count) = (row["unsent"].as_u64().expect("a count"), row["count"].as_u64().expect("a count"));
    // What counts and what is left behind is at least what was due while it counted.
    assert!(unsent + count + 1 >= 1_000_000, "{row}");
    assert!(row["latencyUs"]["p50"].as_u64().expect("a time") > 100_000, "{row}");
}

#[test]
fn an_open_loop_keeps_its_rate_or_falls_behind_but_never_exceeds_it() {
    let (lines, succeeded) =
        beside_servers("farrier bench set --rate 200 --connections 4 --keys 50 --seconds 2 --json");
    assert!(succeeded, "{lines:?}");
    let row: Value = serde_json::from_str(&lines[0]).expect("JSON");
    let count = row["count"].as_u64().expect("a count");
    // Two seconds, and what was held up before they began to count.
    assert!(count > 0 && count <= 200 * 3, "{row}");
}

#[test]
fn a_server_elsewhere_needs_a_word_and_nonsense_is_refused() {
    let farrier = |words: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_farrier")).arg("bench").args(words).output().expect("farrier runs");
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (code, text) = farrier(&["get", "--pid", "4194305"]);
    assert!(code == Some(2) && text.contains("--pid 4194305: there is no such process"), "{text}");
    let (code, text) = farrier(&["--size", "3"]);
    assert_eq!(code, Some(2), "{text}");
    let (code, text) = farrier(&["get", "fanout", "--rate", "100"]);
    assert!(code == Some(2) && text.contains("fanout has a pace of its own"), "{text}");
    let (code, text) = farrier(&["--server", "127.0.0.1:1", "--timeout", "1"]);
    assert_eq!(code, Some(3), "{text}");
    // Nobody can have that name.
    let (code, text) = farrier(&["--server", "nowhere.invalid:2181", "--timeout", "1"]);
    assert!(code == Some(3) && text.contains("nowhere.invalid:2181: "), "{text}");
    let (code, text) = farrier(&["--server", "192.0.2.1:2181", "--timeout", "1"]);
    assert!(code == Some(2) && text.contains("--yes"), "{text}");
}

/// Interrupts `bench` with these options once one of its znodes has this name; what it printed.
fn interrupted(options: &str, once: &str) -> Vec<String> {
    let farrier = env!("CARGO_BIN_EXE_farrier");
    let mut dev = Command::new(farrier)
        .args(["dev", "--servers", "1", "--", "sh", "-c"])
        .arg(format!(
            "echo $FARRIER_SERVER; {farrier} bench {options} & echo $!; wait $!; echo code $?; {farrier} ls /"
        ))
        .stdout(Stdio::piped())
        .spawn()
        .expect("farrier runs");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(dev.stdout.take().expect("a pipe")));
    let mut next = || lines.next().expect("a line").expect("text");
    let server = next();
    let pid: i32 = next().parse().expect("a pid");
    for _ in 0..600 {
        let out = Command::new(farrier).args(["ls", "-R", "/", "--server", &server]).output().expect("farrier runs");
        if String::from_utf8_lossy(&out.stdout).contains(once) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    kill_process(Pid::from_raw(pid).expect("a pid"), Signal::INT).expect("it runs");
    let mut printed = Vec::new();
    let code = loop {
        let line = next();
        if line.starts_with("code ") {
            break line;
        }
        printed.push(line);
    };
    assert_eq!(code, "code 1");
    assert_eq!(next(), "zookeeper");
    assert!(dev.wait().expect("it ends").success());
    printed
}

#[test]
fn an_interrupt_takes_everything_away_again() {
    // It is in the middle of its row once its znodes are there.
    assert_eq!(interrupted("set --seconds 600 --keys 100", "child-000999"), Vec::<String>::new());
}

#[test]
fn an_interrupt_while_znodes_are_created_ends_that_and_what_was_measured_is_told() {
    let printed = interrupted("get fill --seconds 1 --keys 100 --count 10000000", "/n0000000005");
    assert_eq!(printed.len(), 2, "{printed:?}");
    let begins = |line: usize, word| printed[line].trim_start().starts_with(word);
    assert!(begins(0, "row") && begins(1, "get"), "{printed:?}");
}
