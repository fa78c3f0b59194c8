//! The system calls of the real binary, in their order: before the reply to a write leaves, a sync of the
//! log has ended that began after the write of its record, and whatever gets another name was synced before
//! and its directory is synced right behind. A kill proves nothing about that, since the system keeps what a
//! killed process has written.
//!
//! The judges of the trace must themselves be seen to fail: on a trace without its syncs, on one whose syncs
//! stand too late, and on a server that was told not to sync.

mod support;

use farrier_proto::OpCode;
use farrier_testkit::enc::body;
use farrier_testkit::raw::Reply;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use support::{Process, can_trace, tell};

const CALLS: &str =
    "trace=write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,sync_file_range,sendto,sendmsg,/^rename";
/// Creates whose reply is waited for, one by one.
const SINGLE: usize = 40;
/// Creates that are sent together.
const TOGETHER: usize = 300;

/// One system call with its place in the order of beginnings and ends.
#[derive(Clone, Debug)]
struct Call {
    thread: String,
    name: String,
    /// Arguments, with descriptors decoded (`7</dir/log.1>`) and bytes as strace writes them.
    arguments: String,
    began: usize,
    /// `None` while it has not returned; the result otherwise.
    ended: Option<(usize, String)>,
}

impl Call {
    /// The file or socket of the first argument.
    fn target(&self) -> &str {
        let Some((_, rest)) = self.arguments.split_once('<') else { return "" };
        match rest.split_once(">,").or_else(|| rest.split_once(">)")) {
            Some((name, _)) => name,
            None => rest.trim_end_matches('>'),
        }
    }

    fn is_to_log(&self) -> bool {
        Path::new(self.target()).file_name().is_some_and(|n| n.to_string_lossy().starts_with("log."))
    }

    fn is_to_client(&self) -> bool {
        let target = self.target();
        target.starts_with("TCP") || target.starts_with("socket:")
    }

    fn has_succeeded(&self) -> bool {
        self.ended.as_ref().is_some_and(|(_, result)| result.starts_with('0'))
    }

    fn is_sync(&self) -> bool {
        matches!(&*self.name, "fsync" | "fdatasync")
    }

    /// Old and new name of a file that got another one.
    fn renames(&self) -> Option<(&Path, &Path)> {
        if !self.name.starts_with("rename") || !self.has_succeeded() {
            return None;
        }
        let mut names = self.arguments.split('"').skip(1).step_by(2);
        Some((Path::new(names.next()?), Path::new(names.next()?)))
    }
}

/// Reads what `strace -f -o` wrote: a call that another thread's interrupts takes two lines.
fn parse(trace: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, line) in trace.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some(index) = open.remove(thread) else { continue };
            if let Some((_, result)) = resumed.rsplit_once(" = ") {
                calls[index].ended = Some((at, result.to_owned()));
            }
            continue;
        }
        let Some((name, rest)) = rest.split_once('(') else { continue };
        if let Some(arguments) = rest.strip_suffix("<unfinished ...>") {
            open.insert(thread, calls.len());
            let (thread, arguments) = (thread.into(), arguments.trim_end().into());
            calls.push(Call { thread, name: name.into(), arguments, began: at, ended: None });
        } else if let Some((arguments, result)) = rest.rsplit_once(" = ") {
            let ended = Some((at, result.to_owned()));
            calls.push(Call {
                thread: thread.into(),
                name: name.into(),
                arguments: arguments.into(),
                began: at,
                ended,
            });
        }
    }
    calls
}

/// Judges the trace: for each token, which stands in a record and in its reply, a completed sync of the
/// log file between the end of the write and the beginning of the send.
fn judge(trace: &str, tokens: &[String]) -> Result<(), String> {
    let calls = parse(trace);
    for token in tokens {
        let holds = |c: &&Call| c.arguments.contains(token.as_str());
        let write = calls
            .iter()
            .filter(|c| c.is_to_log() && !c.is_sync())
            .find(holds)
            .ok_or_else(|| format!("{token} was written to no log"))?;
        let (written, _) = write.ended.as_ref().ok_or_else(|| format!("the write of {token} has no end"))?;
        let send = calls
            .iter()
            .filter(|c| c.is_to_client())
            .find(holds)
            .ok_or_else(|| format!("{token} was sent to nobody"))?;
        let synced = calls.iter().any(|c| {
            c.is_sync()
                && c.target() == write.target()
                && c.began >= *written
                && c.has_succeeded()
                && c.ended.as_ref().is_some_and(|(end, _)| *end <= send.began)
        });
        if !synced {
            return Err(format!(
                "no sync of {} between the write of {token} (line {written}) and its reply (line {})",
                write.target(),
                send.began
            ));
        }
    }
    Ok(())
}

/// Names that files got while the server ran.
#[derive(Default, Debug)]
struct Renamed {
    segments: usize,
    snapshots: usize,
}

/// Judges every new name of a file: what was written under the old one was synced before, and the next thing that the
/// thread does is a sync of the directory. So for a segment of the log that is in order before any sync of its records, and
/// for a snapshot before anybody is told of it.
fn judge_names(trace: &str) -> Result<Renamed, String> {
    let calls = parse(trace);
    let mut renamed = Renamed::default();
    for (at, call) in calls.iter().enumerate() {
        let Some((from, to)) = call.renames() else { continue };
        let of_file: Vec<&Call> = calls[..at].iter().filter(|c| Path::new(c.target()) == from).collect();
        let written = of_file.iter().rposition(|c| !c.is_sync());
        let is_behind = |c: &&&Call, write: &Call| {
            let ended = |c: &Call| c.ended.as_ref().map(|(end, _)| *end);
            c.is_sync()
                && c.has_succeeded()
                && ended(write).is_some_and(|end| end <= c.began)
                && ended(c).is_some_and(|end| end <= call.began)
        };
        if let Some(written) = written
            && !of_file[written..].iter().any(|c| is_behind(&c, of_file[written]))
        {
            return Err(format!(
                "no sync of {} between its last write and its new name {}",
                from.display(),
                to.display()
            ));
        }
        let next = calls[at + 1..].iter().find(|c| c.thread == call.thread);
        // A thread that does nothing any more tells nobody: the process has ended.
        let Some(next) = next.filter(|c| !c.is_sync() || c.ended.is_some()) else { continue };
        if !next.is_sync() || !next.has_succeeded() || Some(Path::new(next.target())) != to.parent() {
            return Err(format!("no sync of the directory behind the new name {}", to.display()));
        }
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        renamed.segments += usize::from(name.starts_with("log."));
        renamed.snapshots += usize::from(name.starts_with("snapshot."));
        if name.starts_with("snapshot.") && written.is_none() {
            return Err(format!("{} has no bytes", to.display()));
        }
    }
    Ok(renamed)
}

/// Runs the server under strace and creates nodes; their names are the tokens. With `snapshot` it ends once it has taken one.
fn record(lines: &[&str], snapshot: bool) -> (String, Vec<String>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let trace = dir.path().join("trace");
    let mut server = Process::new(dir.path(), lines);
    let name = trace.display().to_string();
    server.wrapped(&["strace", "-f", "-y", "-s", "1000000", "-e", CALLS, "-o", &name]);
    server.start();
    let mut client = server.client();
    let mut tokens = Vec::new();
    for i in 0..SINGLE {
        tokens.push(format!("/single-{i:06}"));
        client.create(&tokens[i], b"x").and_then(Reply::ok).expect("created");
    }
    for i in 0..TOGETHER {
        let path = format!("/together-{i:06}");
        client.send(OpCode::Create.code(), body().create(&path, b"x", 0)).expect("sent");
        tokens.push(path);
    }
    for _ in 0..TOGETHER {
        client.reply().and_then(Reply::ok).expect("created");
    }
    if snapshot {
        let written = |said: &str| said.lines().any(|l| l.contains("snapshot ") && l.contains(" written: "));
        let said = server.wait_said(written);
        assert!(written(&said), "{said}");
    }
    server.signal(Signal::TERM);
    let status = server.wait_end();
    assert_eq!(status.code(), Some(0), "{}", server.said());
    (std::fs::read_to_string(&trace).expect("strace wrote a trace"), tokens)
}

/// Whoever made the data directory may not have made that last.
#[test]
fn the_first_start_syncs_the_names_of_its_directories() {
    if !can_trace() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let trace = dir.path().join("trace");
    let name = trace.display().to_string();
    let mut server = Process::new(dir.path(), &[]);
    server.wrapped(&["strace", "-f", "-y", "-e", "trace=fsync", "-o", &name]);
    let mut synced = || {
        server.start();
        server.signal(Signal::TERM);
        assert_eq!(server.wait_end().code(), Some(0), "{}", server.said());
        let calls = parse(&std::fs::read_to_string(&trace).expect("strace wrote a trace"));
        let root = dir.path().canonicalize().expect("it is there");
        calls.iter().filter(|c| c.is_sync() && Path::new(c.target()) == root && c.has_succeeded()).count()
    };
    assert!(synced() > 0);
    assert_eq!(synced(), 0, "once is enough");
}

#[test]
fn every_reply_leaves_after_the_sync_of_its_record() {
    if !can_trace() {
        return;
    }
    // Small segments, so that the rule is seen to hold where one ends and the next begins.
    let (trace, tokens) = record(&["snapCount=100", "preAllocSize=16"], true);
    judge(&trace, &tokens).expect("every reply is covered by a sync");
    let renamed = judge_names(&trace).expect("every new name is covered by a sync");
    assert!(renamed.segments > 1 && renamed.snapshots > 1, "{renamed:?}");

    let syncs = parse(&trace).iter().filter(|c| c.is_sync() && c.is_to_log()).count();
    tell(&format!("{} replies, {syncs} syncs of the log", tokens.len()));
    assert!(syncs < tokens.len(), "requests that come together are synced together");

    // The judge goes red when the calls are removed from the trace.
    let is_log_sync = |line: &str| line.contains("fdatasync") && line.contains("/log.");
    let without: String = trace
        .lines()
        .filter(|l| !is_log_sync(l) && !l.contains("fdatasync resumed"))
        .map(|l| format!("{l}\n"))
        .collect();
    let red = judge(&without, &tokens).expect_err("a trace without syncs is not in order");
    assert!(red.contains("no sync of"), "{red}");

    // And when a single one is: the one that covers the last token.
    let last = std::slice::from_ref(&tokens[SINGLE - 1]);
    judge(&trace, last).expect("in order");
    let from = trace.find(last[0].as_str()).expect("it is in the trace");
    let tail = trace[from..].find("fdatasync").expect("its sync") + from;
    let one = format!("{}getpid{}", &trace[..tail], &trace[tail + "fdatasync".len()..]);
    judge(&one, last).expect_err("its only sync is gone");

    // And when the syncs failed.
    let failed = trace.replace(" = 0\n", " = -1 EIO (Input/output error)\n");
    judge(&failed, &tokens).expect_err("a failed sync covers nothing");

    // The other one too: for each segment and each snapshot, when its directory is not synced, or its own bytes are not.
    let lines: Vec<&str> = trace.lines().collect();
    let is_sync_of = |line: &str, what: &str| line.contains("sync(") && line.contains(what);
    for named in ["/version-2/log.", "/version-2/snapshot."] {
        let renames = (0..lines.len()).filter(|at| lines[*at].contains("rename") && lines[*at].contains(named));
        let mut found = 0;
        for at in renames {
            let thread = lines[at].split(' ').next();
            let is_its = |at: &usize| lines[*at].split(' ').next() == thread;
            let Some(directory) = (at..lines.len()).filter(is_its).find(|at| is_sync_of(lines[*at], "/version-2>"))
            else {
                continue;
            };
            // The process may have ended here.
            if !(directory + 1..lines.len()).any(|at| is_its(&at)) {
                continue;
            }
            let mut without = lines.clone();
            without[directory] = "";
            let red = judge_names(&without.join("\n")).expect_err("a directory that is not synced");
            assert!(red.contains("no sync of the directory"), "{red}");
            found += 1;
        }
        assert!(found > 1, "{named}");
    }
    let mut without = lines.clone();
    let own = (0..lines.len()).rfind(|at| is_sync_of(lines[*at], "/farrier.snapshot."));
    without[own.expect("a snapshot is synced")] = "";
    let red = judge_names(&without.join("\n")).expect_err("a snapshot that is not synced");
    assert!(red.contains("between its last write and its new name"), "{red}");
}

#[test]
fn a_server_that_does_not_sync_is_found_out() {
    if !can_trace() {
        return;
    }
    let (trace, tokens) = record(&["snapCount=100000", "preAllocSize=16384", "forceSync=no"], false);
    let red = judge(&trace, &tokens).expect_err("forceSync=no leaves the syncs out");
    assert!(red.contains("no sync of"), "{red}");
}

#[test]
fn without_strace_a_test_is_skipped_aloud_unless_tools_are_required() {
    let this = std::env::current_exe().expect("a test has a file");
    let run = |required: bool| {
        let mut one = Command::new(&this);
        one.args(["--exact", "a_server_that_does_not_sync_is_found_out"]).env("PATH", "/nowhere");
        one.env_remove("FARRIER_REQUIRE_TOOLS");
        if required {
            one.env("FARRIER_REQUIRE_TOOLS", "1");
        }
        let output = one.output().expect("it runs");
        let told = [output.stdout, b"\n".to_vec(), output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&told).into_owned())
    };
    let (passed, told) = run(false);
    assert!(passed && told.lines().any(|line| line.starts_with("skipped: `strace ")), "{told}");
    let (passed, told) = run(true);
    assert!(!passed && told.contains("apt-get install strace") && !told.contains("skipped: "), "{told}");
}

#[test]
fn calls_that_are_interrupted_are_put_together() {
    let trace = "7  pwrite64(9</d/log.1>, \"..tok..\", 7, 16) = 7\n\
                 7  fdatasync(9</d/log.1> <unfinished ...>\n\
                 8  sendto(5<TCP:[1->2]>, \"..tok..\", 7, 0, NULL, 0) = 7\n\
                 7  <... fdatasync resumed>) = 0\n";
    let tokens = ["tok".to_owned()];
    judge(trace, &tokens).expect_err("sent while the sync ran");
    let lines: Vec<&str> = trace.lines().collect();
    judge(&[lines[0], lines[1], lines[3], lines[2]].join("\n"), &tokens).expect("sent after it");
    judge(&[lines[1], lines[0], lines[3], lines[2]].join("\n"), &tokens).expect_err("written while the sync ran");
}
