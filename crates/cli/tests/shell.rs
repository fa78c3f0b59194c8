//! `farrier shell`, through pipes and on a terminal, against a server of our own.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Output, Stdio};
use std::time::Duration;

mod support;

use support::place::{Place, feed};
use support::terminal::Terminal;

impl Place {
    fn new() -> Self {
        Self::with(&["extendedTypesEnabled=true"])
    }

    /// Runs these lines.
    fn feed(&self, lines: &str) -> Output {
        feed(self.command(&["shell"]), lines)
    }

    /// What running these lines prints; all must be done.
    fn ok(&self, lines: &str) -> String {
        let output = self.feed(lines);
        assert_eq!(output.status.code(), Some(0), "{lines}: {output:?}");
        // On a busy machine it may tell that it still waits for its session.
        let said = text(&output.stderr);
        assert!(said.lines().all(|line| line.contains(": connecting to ")), "{output:?}");
        text(&output.stdout)
    }

    /// A shell on a terminal, at its first prompt.
    fn terminal(&self) -> Terminal {
        let mut terminal = Terminal::open(self.command(&["shell", "--timeout", "60"]));
        terminal.wait_for("(CONNECTED) 0] ");
        terminal
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn commands_do_and_print_what_zkclis_do() {
    let place = Place::new();
    let said = place.ok("# what there is at first\nls /\n\ncreate /app \"two words\"\nget /app\nls /\n");
    assert_eq!(said, "[zookeeper]\nCreated /app\ntwo words\n[app, zookeeper]\n");
    let said =
        place.ok("create -s /app/job- x\ncreate -e /app/here\ngetEphemerals\ngetAllChildrenNumber /app\nls -R /app");
    assert_eq!(
        said,
        "Created /app/job-0000000000\nCreated /app/here\n[/app/here]\n2\n/app\n/app/here\n/app/job-0000000000\n"
    );
    // It went with its session.
    assert_eq!(
        place.ok("ls /app\ncreate -t 60000 /app/ttl\ncreate -c /app/c\n"),
        "[job-0000000000]\nCreated /app/ttl\nCreated /app/c\n"
    );
    let stat = place.ok("stat /app");
    let names: Vec<&str> = stat.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name).collect();
    let order = [
        "cZxid",
        "ctime",
        "mZxid",
        "mtime",
        "pZxid",
        "cversion",
        "dataVersion",
        "aclVersion",
        "ephemeralOwner",
        "dataLength",
        "numChildren",
    ];
    assert_eq!(names, order, "{stat}");
    assert!(stat.contains("dataVersion = 0\n") && stat.contains("dataLength = 9\n"), "{stat}");
    assert!(place.ok("set -s -v 0 /app x").contains("dataVersion = 1\n"));
    assert_eq!(place.ok("set -b /app AAH/\nget -b /app\nget -x /app"), "AAH/\n00000000  00 01 ff\n");
    assert_eq!(
        place.ok("setAcl -R /app world:anyone:cdra\ngetAcl /app/ttl\nsetAcl /app world:anyone:cdrwa"),
        "'world,'anyone\n: cdra\n"
    );
    let said = place.ok(
        "addauth digest me:secret\nwhoami\nsync /\nversion\nprintwatches\nprintwatches off\nprintwatches\nconfig -c",
    );
    assert!(said.starts_with("Auth scheme: User\nip: 127.0.0.1\ndigest: me\nSync is OK\nfarrier "), "{said}");
    assert!(said.ends_with("printwatches is on\nprintwatches is off\n0 \n"), "{said}");
    assert_eq!(
        place.ok("create /gone\ncreate /gone/a\ncreate /gone/a/b\ndeleteall /gone\ndelete /app/c\nls /"),
        "Created /gone\nCreated /gone/a\nCreated /gone/a/b\n[app, zookeeper]\n"
    );
}

#[test]
fn quotas_are_those_that_the_server_counts() {
    let place = Place::new();
    let said = place.ok("create /q\ncreate /q/a 12345\nsetquota -n 9 -B 100 /q\nlistquota /q\ncreate /q/b 1\nsetquota -n 2 /q\nlistquota /q");
    assert!(said.contains("Output quota for /q count=9,bytes=-1=;byteHardLimit=100;countHardLimit=-1\n"), "{said}");
    assert!(said.contains("Output stat for /q count=2,bytes=5\n"), "{said}");
    assert!(said.contains("[Warning]: the count quota is less than what there is already: 3\n"), "{said}");
    assert!(said.contains("Output quota for /q count=2,bytes=-1=;byteHardLimit=100;countHardLimit=-1\n"), "{said}");
    for (line, why) in [
        ("setquota -n 5 /q/a", "/q/a has an ancestor with a quota, /q"),
        ("setquota -n 5 /none", "/none does not exist"),
        ("listquota /q/a", "/q/a has no quota"),
        ("delquota /q/a", "/q/a has no quota"),
    ] {
        let refused = place.feed(line);
        assert_eq!(refused.status.code(), Some(1), "{line}: {refused:?}");
        assert!(text(&refused.stderr).contains(why), "{line}: {refused:?}");
    }
    assert!(place.ok("delquota -n /q\nlistquota /q").contains("count=-1,bytes=-1=;byteHardLimit=100"));
    assert_eq!(place.ok("delquota /q\nls /zookeeper/quota"), "[]\n");
    let said = place.feed("create /p\ncreate /p/x\nsetquota -n 5 /p/x\nsetquota -n 5 /p");
    assert!(text(&said.stderr).contains("line 4: /p has a descendant with a quota, /p/x"), "{said:?}");
}

/// Beside zkCli's `config`, that of the recipe.
#[test]
fn a_configuration_has_the_commands_of_its_verb() {
    let place = Place::new();
    let lines = "config set /app/c one\nconfig set /app/c \"threads = 2\" --version 0\nconfig get /app/c\nconfig get /app/c \
                 --json\nconfig rollback /app/c\nget /app/c\nconfig history /app/c\nconfig watch /app/c --count 1\nconfig -c\n";
    let said = place.ok(lines);
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said[..3], ["version 0", "version 1", "threads = 2"], "{said:?}");
    assert!(said[3].contains(r#""data":"dGhyZWFkcyA9IDI=""#), "{said:?}");
    assert_eq!(said[4..6], ["version 2", "one"], "{said:?}");
    assert!(
        said[6].ends_with("\"one\"") && said[7].ends_with("\"threads = 2\"") && said[8].ends_with("\"one\""),
        "{said:?}"
    );
    assert_eq!((said[9], said[10].split(' ').next(), said.len()), ("2  \"one\"", Some("0"), 11), "{said:?}");

    let mut shell = place.command(&["shell"]);
    shell.env_remove("VISUAL").env("EDITOR", "sed -i s/one/two/").env("TMPDIR", place.temp.path());
    let edited = feed(shell, "config edit /app/c\nconfig get /app/c\n");
    assert_eq!(text(&edited.stdout), "version 3\ntwo\n", "{edited:?}");

    let refused = place.feed("config get /none\nconfig set /app/c --file -\nconfig set /app/c x --version 0\n");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let told = text(&refused.stderr);
    for why in
        ["line 1: get /none: ", "line 2: --file -: standard input is the shell's own", "line 3: ", "another version"]
    {
        assert!(told.contains(why), "`{why}` is not in {told}");
    }

    // Ctrl-C is the end of a watch, not a failure.
    let mut terminal = place.terminal();
    terminal.enter("config watch /app/c\r");
    terminal.wait_for("3  \"two\"");
    kill_process(Pid::from_child(terminal.child()), Signal::INT).expect("it runs");
    terminal.wait_for(" 1] ");
    terminal.enter("quit\r");
    let (shown, code) = terminal.end();
    assert!(code == Some(0) && !shown.contains("ended by a signal"), "{shown}");
}

#[test]
fn watches_are_told_before_the_next_line() {
    let place = Place::new();
    let said = place.ok(
        "create /w\nget -w /w\nset /w 1\nset /w 2\nls -w /\ncreate /new\nstat -w /w\ndelete /w\naddWatch -m PERSISTENT /new\n\
         set /new 1\nset /new 2\nremovewatches /new\nset /new 3\nprintwatches off\naddWatch /\nset /new 4\n",
    );
    let told: Vec<String> = said
        .lines()
        .filter_map(|line| line.strip_prefix("WATCHER:: "))
        .map(|line| line.split("  zxid 0x").next().unwrap_or_default().to_owned())
        .collect();
    let expected = [
        "NodeDataChanged /w",
        "NodeChildrenChanged /",
        "NodeDeleted /w",
        "NodeDataChanged /new",
        "NodeDataChanged /new",
    ];
    assert_eq!(told, expected, "{said}");
    let (before, after) = said.split_once("WATCHER:: NodeDataChanged /w").expect("it was told");
    assert!(!before.contains("Created /new") && after.contains("Created /new"), "{said}");
}

#[test]
fn the_exit_code_is_that_of_the_last_failure_and_messages_name_the_line() {
    let place = Place::new();
    for (lines, code, why) in [
        ("ls /\nget /none\nls /", 1, "line 2: get /none: the znode does not exist (NoNode"),
        ("get /none\nlss /\nls /", 2, "line 2: unrecognized subcommand 'lss'"),
        ("lss /\nget /none", 1, "line 2: get /none"),
        ("set /a two words", 2, "line 1: unexpected argument 'words'"),
        ("get \"/a", 2, "line 1: the \" has no end"),
        ("close\n# nobody\nls /", 3, "line 3: not connected; `connect`"),
        ("redo 7", 2, "line 1: there is no command 7; see `history`"),
        ("deleteall /", 2, "/ is never deleted"),
        ("set -b /a !", 2, "no base64"),
        ("quit\nget /none", 0, ""),
    ] {
        let output = place.feed(lines);
        assert_eq!(output.status.code(), Some(code), "{lines:?}: {output:?}");
        assert!(text(&output.stderr).contains(why), "{lines:?}: {output:?}");
    }
    let output = place.feed("ls /\nget /none\nhistory\nredo 0\nredo 1\nhelp set");
    let said = text(&output.stdout);
    assert!(said.contains("[zookeeper]\n0 - ls /\n1 - get /none\n[zookeeper]\n"), "{said}");
    assert!(said.contains("Usage: set "), "{said}");

    let one = place.command(&["shell", "--", "ls", "/"]).output().expect("it runs");
    assert_eq!((text(&one.stdout).as_str(), one.status.code()), ("[zookeeper]\n", Some(0)));
    let one = place.command(&["shell", "--", "get", "/none"]).output().expect("it runs");
    assert_eq!(one.status.code(), Some(1));

    let mut nobody = place.command(&["shell", "--timeout", "1"]);
    nobody.env("FARRIER_SERVER", "127.0.0.1:1");
    let output = feed(nobody, "ls /");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(text(&output.stderr).contains("127.0.0.1:1"), "{output:?}");
}

#[test]
fn a_terminal_completes_tells_watches_above_the_prompt_and_keeps_a_history() {
    let place = Place::new();
    place.ok("create /unmistakable 1\ncreate /unmistakable/child-one 2\ncreate /unmistakable/child-two 3\n");
    let mut terminal = place.terminal();
    // Commands and paths.
    terminal.enter("getAllC\t /unmis\t\r");
    terminal.wait_for("getAllChildrenNumber");
    terminal.wait_for("/unmistakable");
    terminal.wait_for("2\r\n");
    terminal.wait_for("(CONNECTED) 1] ");
    // As far as it is clear, and then what there is.
    terminal.enter("ls /unmistakable/c\t");
    terminal.wait_for("/unmistakable/child-");
    terminal.enter("\t\t");
    terminal.wait_for("child-two");
    terminal.enter("one\r");
    terminal.wait_for("[]\r\n");
    terminal.wait_for("(CONNECTED) 2] ");
    terminal.enter("addWatch /\r");
    terminal.wait_for("(CONNECTED) 3] ");
    terminal.enter("ls /half-");
    terminal.wait_for("/half-");
    let output = place.command(&["set", "/unmistakable", "4"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    terminal.wait_for("WATCHER:: NodeDataChanged /unmistakable  zxid 0x");
    // The line is drawn again below it, and is not lost.
    terminal.wait_for("/half-");
    terminal.enter("done\r");
    terminal.wait_for("list /half-done: the znode");
    terminal.wait_for("(CONNECTED) 4] ");
    terminal.enter("addauth digest me:secret\r");
    terminal.wait_for("(CONNECTED) 5] ");
    terminal.enter("deleteall /unmistakable\r");
    terminal.wait_for("delete /unmistakable and the 2 znodes below it, at ");
    terminal.wait_for("[y/N] ");
    terminal.enter("n\r");
    terminal.wait_for("nothing was deleted");
    terminal.wait_for("(CONNECTED) 6] ");
    terminal.enter("this is not meant\u{3}");
    terminal.wait_for("(CONNECTED) 6] ");
    terminal.enter("close\r");
    terminal.wait_for("(CLOSED) 7] ");
    terminal.enter("\u{4}");
    let (shown, code) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");

    let kept = fs::read_to_string(place.temp.path().join("state/history")).expect("a history");
    assert!(kept.contains("deleteall /unmistakable\n") && !kept.contains("secret"), "{kept}");
    let mut again = place.terminal();
    // Up three times: close, deleteall, ls.
    again.enter("\u{1b}[A\u{1b}[A\u{1b}[A\r");
    again.wait_for("list /half-done: the znode");
    again.enter("quit\r");
    assert_eq!(again.end().1, Some(0));
}

/// Also while a command runs: what follows it in a file is not run any more.
#[test]
fn sigterm_ends_the_shell_and_not_only_its_command() {
    let place = Place::new();
    place.ok("create /c x\n");
    let mut shell = place.command(&["shell"]);
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut input = shell.stdin.take().expect("it is piped");
    input.write_all(b"config watch /c\ncreate /after\n").expect("written");
    let mut output = BufReader::new(shell.stdout.take().expect("it is piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("text");
    assert_eq!(line, "0  \"x\"\n", "the command runs");
    kill_process(Pid::from_child(&shell), Signal::TERM).expect("it runs");
    drop(input);
    assert_eq!(shell.wait().expect("it ends").code(), Some(128 + 15));
    assert_eq!(place.ok("ls /"), "[c, zookeeper]\n");

    let mut terminal = place.terminal();
    terminal.enter("config watch /c\r");
    terminal.wait_for("0  \"x\"");
    kill_process(Pid::from_child(terminal.child()), Signal::TERM).expect("it runs");
    let (shown, code) = terminal.end();
    assert_eq!(code, Some(128 + 15), "{shown}");
    assert_eq!(place.ok("ls /"), "[c, zookeeper]\n");
}

/// Whoever thinks over a question keeps the session, and Ctrl-C withdraws the question.
#[test]
fn a_question_is_thought_over_in_peace() {
    let place = Place::new();
    place.ok("create /c x\n");
    let mut terminal = Terminal::open(place.command(&["shell", "--timeout", "60", "--session-timeout", "4"]));
    terminal.wait_for("(CONNECTED) 0] ");
    terminal.enter("create -e /mine\r");
    terminal.wait_for("(CONNECTED) 1] ");
    terminal.enter("deleteall /c\r");
    terminal.wait_for("[y/N] ");
    // Longer than a session lasts of which nothing is heard.
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(place.ok("ls /"), "[c, mine, zookeeper]\n");
    kill_process(Pid::from_child(terminal.child()), Signal::INT).expect("it runs");
    terminal.wait_for("ended by a signal");
    terminal.wait_for("(CONNECTED) 2] ");
    // No answer to it, but the next line.
    terminal.enter("get /c\r");
    terminal.wait_for("x\r\n");
    terminal.wait_for("(CONNECTED) 3] ");
    terminal.enter("deleteall /c\r");
    terminal.wait_for("[y/N] ");
    terminal.enter("y\r");
    terminal.wait_for("(CONNECTED) 4] ");
    assert_eq!(place.ok("ls /"), "[mine, zookeeper]\n");
    terminal.enter("quit\r");
    let (shown, code) = terminal.end();
    assert!(code == Some(0) && !shown.contains("SESSION::"), "{shown}");
}

#[test]
fn ctrl_c_ends_the_command_and_sigterm_the_shell() {
    let place = Place::new();
    let mut terminal = place.terminal();
    place.server.signal(Signal::STOP);
    terminal.enter("get /zookeeper\r");
    terminal.wait_for("get /zookeeper");
    // To the process, as it is not the terminal's here; again, as one that comes before the command runs ends nothing.
    let pid = Pid::from_child(terminal.child());
    let attempts = 60;
    let ended = (0..attempts).any(|_| {
        kill_process(pid, Signal::INT).expect("it runs");
        terminal
            .shows("ended by a signal; what was sent to the server may be done all the same", Duration::from_secs(1))
    });
    assert!(ended, "the command goes on after {attempts} signals");
    terminal.wait_for("] ");
    place.server.signal(Signal::CONT);
    terminal.enter("create -e /mine\r");
    terminal.wait_for("Created /mine");
    terminal.wait_for("] ");
    kill_process(pid, Signal::TERM).expect("it runs");
    let (shown, code) = terminal.end();
    assert_eq!(code, Some(128 + 15), "{shown}");
    // The session was closed in order, long before its timeout.
    assert_eq!(place.ok("ls /"), "[zookeeper]\n");
}
