//! `farrier log`: what stands in log files, and whether it is whole.

mod txn;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use farrier_proto::Zxid;
use farrier_proto::txn::{read_header, read_txn};
use farrier_storage::segment::{self, HEADER_LEN, SegmentHeader, SegmentReader};
use farrier_storage::verify::ANY_TXN;
use farrier_storage::{Dir, Disk as _, DiskPath, LogVerifier, VerifiedLog};
use serde_json::{Value, json};

use crate::files::{self, Group, Kind, Report};
use crate::output::{FAILED, HEAD, Out, complain, conclude};
use crate::values::{count, parse_zxid};

const EXAMPLES: &str = "\
Examples:
  farrier log dump /var/lib/zookeeper
  farrier log verify /var/lib/zookeeper

Files of Apache ZooKeeper 3.4 to 3.9 and of Farrier are read, also under the names that `farrier repair`
gave them. Nothing is changed, and a server may run on the directory meanwhile.";

const DUMP_EXAMPLES: &str = "\
Examples:
  farrier log dump /var/lib/zookeeper
  farrier log dump /var/lib/zookeeper/version-2/log.1 --from 0x1 --to 0x1f
  farrier log dump /var/lib/zookeeper --from 1:0 --json

A DIR is a data directory or its version-2; its logs come in the order of their zxids. With --json each
transaction is a line: file, offset, length, zxid, time, session, cxid, type, what the type brings with it,
and digest. A damaged record is told of, and left out; the ones behind it follow if its length still tells
where they begin.

Exit codes: 0 all was read, 1 a file is damaged or can't be read, 2 usage.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  farrier log verify /var/lib/zookeeper
  farrier log verify /var/lib/zookeeper/version-2/log.1 --json

Checked are header, checksum and content of every record, that zxids follow one another within and across
files, that names and first records agree, and what stands behind the last record. farrier.mark, if it
lies beside, tells a torn end (never acknowledged, no reason for worry) from damage; so do snapshots where
zxids are missing, since a leader's snapshot may have taken their place. While a server runs on the
directory, the newest file may seem to have a torn end.

Exit codes: 0 sound, or nothing worse than a torn end; 1 damaged or can't be read; 2 usage.";

/// Options of `farrier log`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the transactions of log files
    #[command(after_help = DUMP_EXAMPLES)]
    Dump(Dump),
    /// Check that log files are whole and follow one another
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Verify),
}

#[derive(Debug, Args)]
struct Dump {
    /// Log files, or directories with logs
    #[arg(required = true, value_name = "FILE|DIR")]
    what: Vec<PathBuf>,

    /// First transaction to print
    #[arg(long, value_name = "ZXID", value_parser = parse_zxid)]
    from: Option<Zxid>,

    /// Last transaction to print
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
    /// Log files, or directories with logs
    #[arg(required = true, value_name = "FILE|DIR")]
    what: Vec<PathBuf>,

    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match &arguments.command {
        Command::Dump(dump) => conclude("log dump", dump.run()),
        Command::Verify(verify) => conclude("log verify", verify.run()),
    }
}

impl Dump {
    fn run(&self) -> anyhow::Result<u8> {
        let mut out = Out::open();
        let mut code = 0;
        for group in files::find(&self.what, Kind::Log)? {
            for name in self.wanted(&group) {
                if !self.file(&group, name, &mut out)? {
                    code = FAILED;
                }
            }
        }
        out.flush()?;
        Ok(code)
    }

    fn holds(&self, zxid: Zxid) -> bool {
        self.from.is_none_or(|from| from <= zxid) && self.to.is_none_or(|to| zxid <= to)
    }

    /// The files that may hold wanted transactions: a file ends where the next one begins.
    fn wanted<'g>(&self, group: &'g Group) -> impl Iterator<Item = &'g str> {
        let first = |name: &str| Kind::Log.zxid(name);
        let from = self.from.filter(|_| group.whole);
        let start = group.names.iter().rposition(|name| from.is_some_and(|from| first(name) <= Some(from)));
        let to = self.to.filter(|_| group.whole);
        let beyond = move |name: &str| to.is_some_and(|to| first(name) > Some(to));
        group.names[start.unwrap_or(0)..].iter().map(String::as_str).take_while(move |name| !beyond(name))
    }

    /// Prints one file; whether all of it is good.
    fn file(&self, group: &Group, name: &str, out: &mut Out) -> anyhow::Result<bool> {
        let path = DiskPath::new(Dir::LogVersion, name);
        let file = group.disk.describe(&path);
        // In the order of what was printed.
        let tell = |out: &mut Out, kind: &str, message: &dyn std::fmt::Display| {
            out.flush()?;
            complain(&format!("farrier log dump{kind}"), format_args!("{file}{message}"));
            anyhow::Ok(())
        };
        let mut reader = SegmentReader::open(&group.disk, &path, ANY_TXN)?;
        let header = reader.header()?;
        if let Some(why) = header_fault(header) {
            // A server that ended before its first write leaves such a file.
            let is_empty = header == SegmentHeader::Empty;
            tell(out, if is_empty { "" } else { ": error" }, &format_args!(": {why}"))?;
            return Ok(is_empty);
        }
        if !self.json {
            out.line(out.paint(HEAD, &file))?;
        }
        let mut good = true;
        let mut failed = None;
        // A bad record in the middle hides none of those behind it.
        let mut last = Kind::Log.zxid(name).map(segment::before);
        let mut from = HEADER_LEN as u64;
        loop {
            let walked = reader.walk_from(from, &mut |offset, txn| match self.record(&file, offset, txn, out) {
                Ok(decoded) => {
                    good &= decoded;
                    last = read_header(txn).map_or(last, |header| Some(header.zxid));
                    true
                }
                Err(error) => {
                    failed = Some(error);
                    false
                }
            });
            let (end, _) = match walked {
                // Behind a bad record it is one place more that is bad.
                Err(error) if !good => {
                    tell(out, ": warning", &format_args!(": {error}"))?;
                    return Ok(false);
                }
                other => other?,
            };
            if let Some(error) = failed {
                return Err(error);
            }
            if reader.is_zero_from(end)? {
                return Ok(good);
            }
            let behind = last.map(|last| reader.behind_bad(end, last)).transpose()?.flatten();
            let Some(behind) = behind else {
                let at = format_args!(", offset {end}: no good record; `farrier log verify` tells why");
                tell(out, ": warning", &at)?;
                return Ok(false);
            };
            let zxid = behind.bad.map(|zxid| format!(" of zxid {zxid}")).unwrap_or_default();
            let next = behind.offset;
            let at = format_args!(
                ", offset {end}: the record{zxid} is bad; the next one, at offset {next}, is whole. `farrier log verify` tells more"
            );
            tell(out, ": warning", &at)?;
            good = false;
            from = next;
        }
    }

    /// Prints one record if it is in the range; whether it could be decoded.
    fn record(&self, file: &str, offset: u64, bytes: &[u8], out: &mut Out) -> anyhow::Result<bool> {
        match read_txn(bytes) {
            Ok((header, body, digest)) => {
                if self.holds(header.zxid) {
                    let record = txn::Record { file, offset, len: bytes.len(), header, body, digest };
                    if self.json { out.json(&record.json(self.data))? } else { record.print(self.data, out)? }
                }
                Ok(true)
            }
            Err(_) if read_header(bytes).is_ok_and(|header| !self.holds(header.zxid)) => Ok(true),
            Err(error) => {
                out.flush()?;
                complain(
                    "farrier log dump: warning",
                    format_args!("{file}, offset {offset}: the transaction can't be decoded: {error}"),
                );
                Ok(false)
            }
        }
    }
}

/// What is wrong with a file that does not begin as a log does.
fn header_fault(header: SegmentHeader) -> Option<String> {
    /// "ZKSN", with which snapshots begin.
    const SNAPSHOT: u32 = 0x5a4b_534e;
    match header {
        SegmentHeader::Good => None,
        SegmentHeader::Empty => Some("the file is empty".to_owned()),
        SegmentHeader::Short => Some(format!("the file is shorter than a header, which has {HEADER_LEN} bytes")),
        SegmentHeader::BadMagic(SNAPSHOT) => Some("this is a snapshot; try `farrier snapshot`".to_owned()),
        SegmentHeader::BadMagic(magic) => {
            Some(format!("this is no log: the file starts with {magic:#010x}, not \"ZKLG\""))
        }
    }
}

impl Verify {
    fn run(&self) -> anyhow::Result<u8> {
        let (groups, wrong) = files::find_each(&self.what, Kind::Log);
        let unfound = files::tell_of("log verify", &wrong);
        if groups.is_empty() {
            return Ok(unfound);
        }
        let mut report = Report::open(self.json);
        let (mut records, mut first, mut last) = (0, None, None);
        for group in groups {
            let mut verifier = LogVerifier::new(&group.disk, &mut |finding| report.finding(&finding))?;
            for name in &group.names {
                let log = verifier.file(name, &mut |finding| report.finding(&finding))?;
                records += log.records;
                first = first.or(log.first);
                last = log.last.or(last);
                report.file(&file_line(&log), &file_json(&log))?;
            }
            verifier.finish(group.whole, &mut |finding| report.finding(&finding))?;
        }
        let code = report.conclude(&format!("{}{}", count(records, "record"), range(first, last)))?;
        // Damage is what whoever asks wants to know first.
        Ok(if code == 0 { unfound } else { code })
    }
}

fn range(first: Option<Zxid>, last: Option<Zxid>) -> String {
    match (first, last) {
        (Some(first), Some(last)) => format!(", {first} to {last}"),
        _ => String::new(),
    }
}

fn file_line(log: &VerifiedLog) -> String {
    let VerifiedLog { file, records, first, last, end, len } = log;
    format!("{file}: {}{}; {end} of {len} bytes used", count(*records, "record"), range(*first, *last))
}

fn file_json(log: &VerifiedLog) -> Value {
    let zxid = |zxid: Option<Zxid>| zxid.map(|z| z.to_string());
    json!({
        "kind": "file",
        "file": log.file,
        "records": log.records,
        "first": zxid(log.first),
        "last": zxid(log.last),
        "used": log.end,
        "length": log.len,
    })
}
