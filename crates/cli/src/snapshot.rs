//! `farrier snapshot`: what stands in snapshot files, and whether they are whole.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use farrier_proto::{Acl, SessionId, TxnDigest, Zxid};
use farrier_storage::verify::{ANY_TXN, name_before_aside};
use farrier_storage::{
    Compression, Dir, Disk as _, DiskPath, Finding, LoggedTxn, NodeRecord, Restore, RestoreError, Severity,
    SnapshotDigest, SnapshotError, SnapshotRead, snapshot,
};
use farrier_tree::AclKey;
use farrier_tree::digest::node_digest;
use serde_json::{Value, json};

use crate::files::{self, Group, Kind, Report};
use crate::output::{FAILED, GOOD, HEAD, Out, complain, conclude};
use crate::values::{acl, acl_json, base64, count, hex, length, owner, parse_zxid, plain, quoted, time};

const EXAMPLES: &str = "\
Examples:
  farrier snapshot dump /var/lib/zookeeper/version-2/snapshot.0
  farrier snapshot verify /var/lib/zookeeper

Files of Apache ZooKeeper 3.4 to 3.9 and of Farrier are read, plain, gzip and snappy (the name tells), also
under the names that `farrier repair` gave them. Nothing is changed.";

const DUMP_EXAMPLES: &str = "\
Examples:
  farrier snapshot dump /var/lib/zookeeper/version-2/snapshot.0
  farrier snapshot dump /var/lib/zookeeper --from 0x1 --json
  farrier snapshot dump /var/lib/zookeeper/version-2/snapshot.0 --data

A DIR is a data directory or its version-2; its snapshots come in the order of their zxids, --from and --to
choose among them. With --json each session, ACL list and znode is a line, and at the end of a file one of
the kind `end`; without that line, or with exit code 1, the file is not whole.

Exit codes: 0 all was read, 1 a file is damaged or can't be read, 2 usage.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  farrier snapshot verify /var/lib/zookeeper
  farrier snapshot verify /var/lib/zookeeper/version-2/snapshot.0 --json

Checked are the form of every session, ACL list and znode, the checksums, and that the digest of the tree is
the one in the file. Apache writes snapshots while transactions go on; the digest of such a file holds for a
later transaction and can't be compared before the log was replayed, which `farrier repair` does. Znodes whose
ACL list isn't in the file are named.

Exit codes: 0 sound, 1 damaged or can't be read, 2 usage.";

/// Options of `farrier snapshot`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print sessions, ACL lists and znodes of snapshot files
    #[command(after_help = DUMP_EXAMPLES)]
    Dump(Dump),
    /// Check that snapshot files are whole
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Verify),
}

#[derive(Debug, Args)]
struct Dump {
    /// Snapshot files, or directories with snapshots
    #[arg(required = true, value_name = "FILE|DIR")]
    what: Vec<PathBuf>,

    /// First snapshot of a directory to print
    #[arg(long, value_name = "ZXID", value_parser = parse_zxid)]
    from: Option<Zxid>,

    /// Last snapshot of a directory to print
    #[arg(long, value_name = "ZXID", value_parser = parse_zxid)]
    to: Option<Zxid>,

    /// Print the data of znodes too, not only its length
    #[arg(long)]
    data: bool,

    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Verify {
    /// Snapshot files, or directories with snapshots
    #[arg(required = true, value_name = "FILE|DIR")]
    what: Vec<PathBuf>,

    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match &arguments.command {
        Command::Dump(dump) => conclude("snapshot dump", dump.run()),
        Command::Verify(verify) => conclude("snapshot verify", verify.run()),
    }
}

/// Calls with each record of a snapshot, in the order of the file.
trait Visit {
    fn session(&mut self, session: SessionId, timeout: i32) -> anyhow::Result<()>;
    fn acl(&mut self, key: i64, acl: Vec<Acl<'_>>) -> anyhow::Result<()>;
    fn node(&mut self, node: NodeRecord<'_>) -> anyhow::Result<()>;
}

/// Hands the records of a file to a visitor, and keeps why that stopped.
struct Reading<'v> {
    to: &'v mut dyn Visit,
    stopped: Option<anyhow::Error>,
}

impl Reading<'_> {
    fn keep(&mut self, result: anyhow::Result<()>) -> Result<(), RestoreError> {
        result.map_err(|error| {
            self.stopped = Some(error);
            RestoreError("the reading was stopped".to_owned())
        })
    }
}

impl Restore for Reading<'_> {
    fn reset(&mut self) {}
    fn session(&mut self, session: SessionId, timeout: i32) -> Result<(), RestoreError> {
        let result = self.to.session(session, timeout);
        self.keep(result)
    }
    fn acl(&mut self, key: i64, acl: Vec<Acl<'_>>) -> Result<(), RestoreError> {
        let result = self.to.acl(key, acl);
        self.keep(result)
    }
    fn node(&mut self, node: NodeRecord<'_>) -> Result<(), RestoreError> {
        let result = self.to.node(node);
        self.keep(result)
    }
    fn loaded(&mut self, _: Zxid, _: Option<SnapshotDigest>) -> Result<(), RestoreError> {
        Ok(())
    }
    fn replay(&mut self, _: &LoggedTxn<'_>) -> Result<(), RestoreError> {
        unreachable!("a snapshot has no transactions")
    }
}

/// Reads a file from start to end; the inner error is what is wrong with the file.
fn read(group: &Group, name: &str, to: &mut dyn Visit) -> anyhow::Result<Result<SnapshotRead, SnapshotError>> {
    let path = DiskPath::new(Dir::DataVersion, name);
    let mut reading = Reading { to, stopped: None };
    let named = name_before_aside(name);
    let read = snapshot::read_snapshot_named(&group.disk, &path, named, ANY_TXN, &mut reading);
    reading.stopped.map_or(Ok(read), Err)
}

impl Dump {
    fn run(&self) -> anyhow::Result<u8> {
        let mut printer = Printer { out: Out::open(), data: self.data, json: self.json, file: String::new() };
        let mut code = 0;
        for group in files::find(&self.what, Kind::Snapshot)? {
            for name in group.names.iter().filter(|name| !group.whole || self.holds(Kind::Snapshot.zxid(name))) {
                printer.file = group.disk.describe(&DiskPath::new(Dir::DataVersion, name));
                printer.begin()?;
                match read(&group, name, &mut printer)? {
                    Ok(read) => printer.end(&read)?,
                    Err(error) => {
                        // In the order of what was printed.
                        printer.out.flush()?;
                        complain("farrier snapshot dump: warning", error);
                        code = FAILED;
                    }
                }
            }
        }
        printer.out.flush()?;
        Ok(code)
    }

    fn holds(&self, zxid: Option<Zxid>) -> bool {
        self.from.is_none_or(|from| Some(from) <= zxid) && self.to.is_none_or(|to| zxid <= Some(to))
    }
}

/// Prints what stands in a file.
struct Printer {
    out: Out,
    data: bool,
    json: bool,
    file: String,
}

impl Printer {
    fn begin(&mut self) -> anyhow::Result<()> {
        if self.json { Ok(()) } else { self.out.line(self.out.paint(HEAD, &self.file)) }
    }

    fn end(&mut self, read: &SnapshotRead) -> anyhow::Result<()> {
        if self.json {
            return self.out.json(&file_json("end", &self.file, read));
        }
        self.out.line(format_args!("  {}", counts(read)))
    }
}

impl Visit for Printer {
    fn session(&mut self, session: SessionId, timeout: i32) -> anyhow::Result<()> {
        if self.json {
            let (file, session) = (&self.file, session.to_string());
            return self.out.json(&json!({"kind": "session", "file": file, "session": session, "timeout": timeout}));
        }
        self.out.line(format_args!("  session {session} timeout {timeout} ms"))
    }

    fn acl(&mut self, key: i64, list: Vec<Acl<'_>>) -> anyhow::Result<()> {
        if self.json {
            return self.out.json(&json!({"kind": "acl", "file": self.file, "id": key, "acl": acl_json(&list)}));
        }
        self.out.line(format_args!("  acl {key} {}", acl(&list)))
    }

    fn node(&mut self, node: NodeRecord<'_>) -> anyhow::Result<()> {
        let NodeRecord { path, data, acl, stat } = node;
        let path = if path.is_empty() { "/" } else { path };
        if self.json {
            let mut value = json!({
                "kind": "znode",
                "file": self.file,
                "path": path,
                "dataLength": data.map(<[u8]>::len),
                "acl": acl,
                "czxid": stat.czxid.to_string(),
                "mzxid": stat.mzxid.to_string(),
                "pzxid": stat.pzxid.to_string(),
                "ctime": stat.ctime,
                "mtime": stat.mtime,
                "version": stat.version,
                "cversion": stat.cversion,
                "aversion": stat.aversion,
                "ephemeralOwner": hex(stat.ephemeral_owner),
            });
            if self.data {
                value["data"] = base64(data);
            }
            return self.out.json(&value);
        }
        let shown = match data.filter(|_| self.data) {
            Some(data) => format!("{} {}", length(Some(data)), quoted(data)),
            None => length(data),
        };
        self.out.line(format_args!(
            "  {}: {shown}, {}, acl {acl}, version {}, cversion {}, aversion {}, czxid {}, mzxid {}, pzxid {}, \
             ctime {}, mtime {}",
            self.out.paint(GOOD, plain(path)),
            owner(stat.ephemeral_owner),
            stat.version,
            stat.cversion,
            stat.aversion,
            stat.czxid,
            stat.mzxid,
            stat.pzxid,
            time(stat.ctime),
            time(stat.mtime),
        ))
    }
}

fn counts(read: &SnapshotRead) -> String {
    let digest = read.digest.map_or_else(
        || "no digest".to_owned(),
        |d| format!("digest {} of zxid {}", hex(d.digest.cast_signed()), d.zxid),
    );
    let (znodes, sessions) = (count(read.nodes, "znode"), count(read.sessions, "session"));
    format!("{znodes}, {sessions}, {}, {digest}", count(read.acls, "ACL list"))
}

fn file_json(kind: &str, file: &str, read: &SnapshotRead) -> Value {
    json!({
        "kind": kind,
        "file": file,
        "zxid": read.zxid.to_string(),
        "sessions": read.sessions,
        "acls": read.acls,
        "znodes": read.nodes,
        "digest": read.digest.map(|d| hex(d.digest.cast_signed())),
        "digestVersion": read.digest.map(|d| d.version),
        "digestZxid": read.digest.map(|d| d.zxid.to_string()),
        "lastZxid": read.last_zxid.map(|z| z.to_string()),
        "bytes": read.bytes,
    })
}

/// Znodes without ACL that a finding names.
const UNLISTED_NAMED: usize = 10;

/// Adds up the digest of the tree, and finds znodes whose ACL the file does not hold.
#[derive(Default)]
struct Sum {
    digest: u64,
    lists: BTreeSet<i64>,
    unlisted: u64,
    first_unlisted: Vec<String>,
}

impl Visit for Sum {
    fn session(&mut self, _: SessionId, _: i32) -> anyhow::Result<()> {
        Ok(())
    }
    fn acl(&mut self, key: i64, _: Vec<Acl<'_>>) -> anyhow::Result<()> {
        self.lists.insert(key);
        Ok(())
    }
    fn node(&mut self, node: NodeRecord<'_>) -> anyhow::Result<()> {
        self.digest = self.digest.wrapping_add(node_digest(node.path, node.data, &node.stat).into());
        if node.acl != AclKey::OPEN.to_disk() && !self.lists.contains(&node.acl) {
            self.unlisted += 1;
            if self.first_unlisted.len() < UNLISTED_NAMED {
                self.first_unlisted.push(plain(if node.path.is_empty() { "/" } else { node.path }));
            }
        }
        Ok(())
    }
}

impl Sum {
    /// What a server warns of if no transaction brings the lists.
    fn unlisted(&self, file: &str) -> Option<Finding> {
        let more = if self.unlisted > self.first_unlisted.len() as u64 { ", …" } else { "" };
        let found = format!(
            "{} without their ACL: {}{more}; only a super user can use them, unless the log has it",
            count(self.unlisted, "znode"),
            self.first_unlisted.join(", ")
        );
        let finding =
            Finding { severity: Severity::Note, file: file.to_owned(), offset: None, found, expected: String::new() };
        (self.unlisted > 0).then_some(finding)
    }
}

impl Verify {
    fn run(&self) -> anyhow::Result<u8> {
        // `version-2/*` names other files too: they are told, and the snapshots checked all the same.
        let (groups, wrong) = files::find_each(&self.what, Kind::Snapshot);
        let unfound = files::tell_of("snapshot verify", &wrong);
        if groups.is_empty() {
            return Ok(unfound);
        }
        let mut report = Report::open(self.json);
        let mut nodes = 0;
        for group in groups {
            for name in &group.names {
                let file = group.disk.describe(&DiskPath::new(Dir::DataVersion, name));
                let mut sum = Sum::default();
                match read(&group, name, &mut sum)? {
                    Ok(read) => {
                        for finding in judge(&file, &read, sum.digest).iter().chain(&sum.unlisted(&file)) {
                            report.finding(finding);
                        }
                        nodes += read.nodes;
                        report.file(&format!("{file}: {}", counts(&read)), &file_json("file", &file, &read))?;
                    }
                    Err(SnapshotError::Disk(error)) => return Err(error.into()),
                    Err(error) => report.finding(&damage(&file, name, error)),
                }
            }
        }
        let code = report.conclude(&count(nodes, "znode"))?;
        // Damage is what whoever asks wants to know first.
        Ok(if code == 0 { unfound } else { code })
    }
}

/// What there is to say of a file that is whole.
fn judge(file: &str, read: &SnapshotRead, computed: u64) -> Option<Finding> {
    let digest = read.digest.filter(|d| d.version == TxnDigest::VERSION)?;
    let finding = |severity, found: String, expected: String| {
        Some(Finding { severity, file: file.to_owned(), offset: None, found, expected })
    };
    if digest.zxid > read.zxid {
        let found = format!(
            "it was written while transactions went on, up to {}; its digest can't be compared by itself",
            digest.zxid
        );
        return finding(Severity::Note, found, String::new());
    }
    if digest.digest == computed {
        return None;
    }
    let found = format!("the tree has the digest {:#x}", computed);
    finding(Severity::Damage, found, format!("{:#x}, as the file says", digest.digest))
}

fn damage(file: &str, name: &str, error: SnapshotError) -> Finding {
    let uncompressed = match Compression::of_name(name_before_aside(name)) {
        Compression::Plain => "",
        Compression::Gz | Compression::Snappy => " (the offset counts uncompressed bytes)",
    };
    let (offset, found) = match error {
        SnapshotError::Damaged { offset, message, .. } => (Some(offset), format!("{message}{uncompressed}")),
        SnapshotError::Refused { offset, reason, .. } => (Some(offset), format!("{reason}{uncompressed}")),
        error @ (SnapshotError::Limit { .. } | SnapshotError::Disk(_)) => (None, error.to_string()),
    };
    Finding { severity: Severity::Damage, file: file.to_owned(), offset, found, expected: String::new() }
}
