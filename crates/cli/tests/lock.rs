//! `farrier lock` and `farrier elect`: commands that run one at a time, and what becomes of them and of their writes when the lock is lost.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

mod support;

use support::place::Place;
use support::{PATIENCE, is_ignored};

impl Place {
    fn new() -> Self {
        Self::with(&["minSessionTimeout=1000"])
    }

    fn start(&self, words: &[&str]) -> Child {
        self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs")
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the binary runs")
    }

    /// Standard output of a run that must succeed.
    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(0), "farrier {}: {}", words.join(" "), said(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    fn fails(&self, words: &[&str], code: i32, why: &str) {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(code), "farrier {}: {}", words.join(" "), said(&output));
        assert!(said(&output).contains(why), "`{why}` is not in {}", said(&output));
    }

    /// What a command wrote to a file, once it did.
    fn written(&self, name: &str) -> String {
        let mut text = String::new();
        eventually(name, || {
            text = fs::read_to_string(self.file(name)).unwrap_or_default();
            text.ends_with('\n')
        });
        text.trim_end().to_owned()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + 2 * PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: never happened");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it takes the signal");
}

/// The output of a process that must end.
fn ended(mut child: Child) -> Output {
    eventually("the end of a process", || child.try_wait().expect("it can be asked").is_some());
    child.wait_with_output().expect("it ended")
}

fn runs(pid: &str) -> bool {
    let pid = pid.parse().ok().and_then(Pid::from_raw).expect("a process id");
    test_kill_process(pid).is_ok()
}

#[test]
fn exit_codes_environment_and_guards() {
    let place = Place::new();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)] {
        place.fails(&["lock", "/l", "--", "sh", "-c", script], code, "");
    }
    place.fails(&["lock", "/l", "--", "no-such-command"], 127, "farrier lock: error: no-such-command can't be run");
    place.fails(&["lock", "/l", "--", "/"], 126, "can't be run");
    place.fails(&["lock", "/l"], 2, "CMD");
    place.fails(&["lock", "l", "--", "true"], 125, "Paths begin with a slash: /l");
    place.fails(&["lock", "/l", "--timeout", "1", "--server", "127.0.0.1:1", "--", "true"], 125, "Is a server running");
    place.fails(&["set", "/l", "x", "--guard"], 2, "FARRIER_LOCK_NODE");

    // The holder's environment, and others who wait and don't.
    let told =
        "echo $FARRIER_SERVER; echo $FARRIER_LOCK_NODE; echo $FARRIER_FENCING_TOKEN; farrier get $FARRIER_LOCK_NODE";
    let out = place.ok(&["lock", "/l", "--data", "it is me", "--", "sh", "-c", told]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], place.server.addr().to_string());
    assert!(lines[1].starts_with("/l/_c_") && lines[1].contains("-lock-"), "{out}");
    assert!(lines[2].parse::<i64>().is_ok_and(|token| token > 0), "{out}");
    assert_eq!(lines[3], "it is me");
    let node = lines[1].to_owned();
    let holder = place.start(&["lock", "/l", "--", "sh", "-c", "echo > held; while [ ! -e go ]; do sleep 0.05; done"]);
    place.written("held");
    place.fails(&["lock", "/l", "--wait", "0", "--", "true"], 124, "not acquired at once; others hold it");
    place.fails(&["lock", "/l", "--layout", "kazoo", "--", "true"], 125, "Curator's layout");
    let waiter = place.start(&["lock", "/l", "--", "sh", "-c", "[ -e go ]"]);
    fs::write(place.file("go"), "").expect("written");
    assert_eq!(ended(holder).status.code(), Some(0));
    assert_eq!(ended(waiter).status.code(), Some(0));

    // Under the lock, and under one that is gone.
    place.ok(&["create", "/d", "v1"]);
    fs::write(place.file("ops"), "{\"op\":\"set\",\"path\":\"/d\",\"text\":\"v3\"}\n").expect("written");
    let script = "farrier set /d v2 --guard --version 0 && farrier multi ops --guard && \
                  farrier create /d/x --guard && farrier delete /d/x --guard && farrier create -q /d/e- --guard";
    assert_eq!(place.ok(&["lock", "/l", "--", "sh", "-c", script]), "set /d\n/d/x\n/d/e-0000000001\n");
    assert_eq!(place.ok(&["get", "/d"]), "v3");
    let guard = format!("--guard={node}");
    for words in [["set", "/d", "v4"], ["create", "/d/y", "v"], ["delete", "/d", "--version=2"]] {
        let words: Vec<&str> = words.iter().copied().chain([guard.as_str()]).collect();
        place.fails(&words, 1, "the lock was lost, and nothing was changed");
    }
    place.fails(&["multi", "ops", &guard], 1, "the lock was lost, and nothing was changed");
    place.fails(&["delete", "-r", "/d", "--yes", &guard], 2, "cannot be used with");
    assert_eq!(place.ok(&["get", "/d"]), "v3");
}

/// One of two contenders is stopped past its session while its command goes on writing under the guard. What the other
/// one writes is never followed by a write of the first.
#[test]
fn a_stopped_holder_writes_nothing_after_the_next_one() {
    let place = Place::new();
    place.ok(&["create", "/log", "0"]);
    let write = |name: &str| format!("farrier create -q /log/{name}- --guard");
    let first = format!("echo $$ > first; while {}; do :; done; echo > refused; sleep 600", write("first"));
    let session = ["--session-timeout", "6"];
    let lock = |script: &str| {
        let words = ["lock", "/l", session[0], session[1], "--", "sh", "-c", script];
        place.start(&words)
    };
    let stale = lock(&first);
    let pid = place.written("first");
    let log = || place.ok(&["ls", "/log"]);
    eventually("it writes", || log().contains("first-"));
    signal(&stale, Signal::STOP);
    let second = format!("for i in 1 2 3; do {} || exit 9; done", write("second"));
    let output = ended(lock(&second));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    place.written("refused");
    assert!(runs(&pid), "nobody could stop it");
    let mut names: Vec<String> = log().lines().map(str::to_owned).collect();
    names.sort_by_key(|name| name.rsplit('-').next().map(str::to_owned));
    let last = names.iter().rposition(|name| name.starts_with("first-")).expect("it wrote");
    let next = names.iter().position(|name| name.starts_with("second-")).expect("it wrote");
    assert!(last < next, "{names:?}");
    assert_eq!(names.len() - next, 3, "{names:?}");
    signal(&stale, Signal::CONT);
    let output = ended(stale);
    assert_eq!(output.status.code(), Some(123), "{}", said(&output));
    eventually("its command is killed", || !runs(&pid));
}

/// Without servers the command is told to end and then killed, all of its group.
#[test]
fn without_servers_the_command_is_stopped() {
    let mut place = Place::new();
    let script = "trap 'echo > told' TERM; (trap '' TERM; echo $$ > child; while :; do sleep 1; done) & \
                  echo $$ > pid; while :; do sleep 1; done";
    let holder = place.start(&["lock", "/l", "--session-timeout", "12", "--", "sh", "-c", script]);
    let (pid, _) = (place.written("pid"), place.written("child"));
    place.server.kill();
    place.written("told");
    let output = ended(holder);
    assert_eq!(output.status.code(), Some(123), "{}", said(&output));
    assert!(!runs(&pid), "{}", said(&output));
    assert!(said(&output).contains("told to end") && said(&output).contains("killed"), "{}", said(&output));
}

/// Whoever does not read the warnings does not keep the command from its end.
#[test]
fn a_full_standard_error_does_not_hold_up_signals() {
    let mut place = Place::new();
    let (reader, mut full) = std::io::pipe().expect("a pipe");
    let flags = fcntl_getfl(&full).expect("its flags");
    fcntl_setfl(&full, flags | OFlags::NONBLOCK).expect("set");
    for size in [4096, 1] {
        while full.write(&vec![b'.'; size]).is_ok() {}
    }
    fcntl_setfl(&full, flags).expect("set");
    let script = "trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done";
    let words = ["lock", "/l", "--session-timeout", "6", "--", "sh", "-c", script];
    let holder = place.command(&words).stdout(Stdio::null()).stderr(full).spawn().expect("the binary runs");
    let pid = place.written("pid");
    place.server.kill();
    eventually("the command's end", || !runs(&pid));
    drop(reader);
    assert_eq!(ended(holder).status.code(), Some(123));
}

#[test]
fn signals_go_to_the_command_and_it_dies_with_the_holder() {
    let place = Place::new();
    let script = "trap 'exit 5' TERM; trap 'echo > hup' HUP; echo $$ > pid; while :; do sleep 0.05; done";
    let holder = place.start(&["lock", "/l", "--", "sh", "-c", script]);
    place.written("pid");
    if !is_ignored(Signal::HUP) {
        signal(&holder, Signal::HUP);
        place.written("hup");
    }
    signal(&holder, Signal::TERM);
    assert_eq!(ended(holder).status.code(), Some(5));

    // What was started to outlive its terminal does, and so does its command.
    let script = "echo $$ > nohup; while [ ! -e stop ]; do sleep 0.05; done; exit 4";
    let mut outlives = Command::new("sh");
    let line = "trap '' HUP INT; exec \"$0\" \"$@\"";
    let holder = place.command(&["lock", "/l", "--", "sh", "-c", script]);
    outlives.args(["-c", line]).arg(holder.get_program()).args(holder.get_args()).current_dir(place.temp.path());
    outlives.envs(holder.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    let holder = outlives.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a shell");
    place.written("nohup");
    signal(&holder, Signal::HUP);
    signal(&holder, Signal::INT);
    // If it told its command to end, that is not there to see this.
    fs::write(place.file("stop"), "").expect("written");
    assert_eq!(ended(holder).status.code(), Some(4));

    // The lock is held until the last of the group has ended.
    let script = "(while [ ! -e go ]; do sleep 0.05; done) & echo > left; exit 3";
    let holder = place.start(&["lock", "/l", "--", "sh", "-c", script]);
    place.written("left");
    place.fails(&["lock", "/l", "--wait", "0", "--", "true"], 124, "others hold it");
    fs::write(place.file("go"), "").expect("written");
    assert_eq!(ended(holder).status.code(), Some(3));

    // While it waits, a signal ends it; nothing is left.
    let holder =
        place.start(&["lock", "/l", "--session-timeout", "6", "--", "sh", "-c", "echo $$ > last; exec sleep 600"]);
    let pid = place.written("last");
    let waiter = place.start(&["lock", "/l", "--", "true"]);
    eventually("two in line", || place.ok(&["ls", "/l"]).lines().count() == 2);
    let (asks, code) = if is_ignored(Signal::INT) { (Signal::TERM, 143) } else { (Signal::INT, 130) };
    signal(&waiter, asks);
    assert_eq!(ended(waiter).status.code(), Some(code));
    assert_eq!(place.ok(&["ls", "/l"]).lines().count(), 1);

    // Killed, it takes the command with it, and its session ends.
    signal(&holder, Signal::KILL);
    ended(holder);
    eventually("the command's end", || !runs(&pid));
    place.ok(&["lock", "/l", "--", "true"]);
}

#[test]
fn the_elected_run_their_command_in_every_term() {
    let place = Place::new();
    place.fails(&["elect", "/leader", "--", "sh", "-c", "exit 4"], 4, "");
    let script = "echo $FARRIER_FENCING_TOKEN $FARRIER_LOCK_NODE >> terms; echo $$ > pid; \
                  while [ ! -e end ]; do sleep 0.05; done; exit 6";
    let leader = place.start(&["elect", "/leader", "--id", "me", "--session-timeout", "12", "--", "sh", "-c", script]);
    place.written("pid");
    place.fails(&["elect", "/leader", "--wait", "0", "--", "true"], 124, "others hold it");
    let node = |line: usize| {
        let terms = place.written("terms");
        terms
            .lines()
            .nth(line)
            .map(|line| line.split_once(' ').map(|(t, n)| (t.to_owned(), n.to_owned())).expect("two"))
    };
    let (token, path) = node(0).expect("a term");
    assert_eq!(place.ok(&["get", &path]), "me");
    place.ok(&["delete", &path]);
    eventually("a second term", || node(1).is_some());
    let (next, _) = node(1).expect("a second term");
    assert!(next.parse::<i64>().expect("a number") > token.parse().expect("a number"));
    fs::write(place.file("end"), "").expect("written");
    assert_eq!(ended(leader).status.code(), Some(6));
    fs::remove_file(place.file("end")).expect("it is there");
    fs::remove_file(place.file("pid")).expect("it is there");

    let leader = place.start(&["elect", "/leader", "--once", "--", "sh", "-c", script]);
    place.written("pid");
    let (_, path) = node(2).expect("a third term");
    place.ok(&["delete", &path]);
    let output = ended(leader);
    assert_eq!(output.status.code(), Some(123), "{}", said(&output));
    assert_eq!(place.ok(&["ls", "/leader"]), "");
}

/// What works on an item of a queue runs like what runs under a lock: all of its group gets the signals, and none of it is
/// left. The item is back afterwards.
#[test]
fn signals_go_to_all_that_works_on_an_item() {
    let place = Place::new();
    place.ok(&["queue", "put", "/q", "one"]);
    let script = "sh -c 'trap \"echo > told; exit\" TERM; echo > on; while :; do sleep 0.05; done' & wait";
    let taker = place.start(&["queue", "take", "/q", "--", "sh", "-c", script]);
    place.written("on");
    signal(&taker, Signal::TERM);
    let output = ended(taker);
    assert_eq!(output.status.code(), Some(143), "{}", said(&output));
    assert!(said(&output).contains("is back in the queue"), "{}", said(&output));
    place.written("told");
    assert_eq!(place.ok(&["queue", "take", "/q", "--wait", "0", "--", "cat"]), "one");
}

/// Without a server nobody can say that an item is done; that must not keep anybody from ending the command.
#[test]
fn a_take_that_nobody_answers_can_be_ended() {
    let mut place = Place::new();
    place.ok(&["queue", "put", "/q", "one"]);
    let script = "trap '' TERM; echo > on; while [ ! -e go ]; do sleep 0.05; done";
    let mut taker =
        place.start(&["queue", "take", "/q", "--session-timeout", "600", "--timeout", "2", "--", "sh", "-c", script]);
    place.written("on");
    place.server.kill();
    fs::write(place.file("go"), "").expect("written");
    // While the command runs the signal is for that.
    eventually("its end", || {
        signal(&taker, Signal::TERM);
        taker.try_wait().expect("it can be asked").is_some()
    });
    let output = ended(taker);
    assert_eq!(output.status.code(), Some(143), "{}", said(&output));
    assert!(said(&output).contains("others can take it when the session ends, within 600 s"), "{}", said(&output));
}
