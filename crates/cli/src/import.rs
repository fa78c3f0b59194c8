//! `farrier import`: JSON lines, as `export` writes them, as znodes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use farrier_client::{Acl, Call, Client, Created, Error, ErrorCode};
use serde::Deserialize;

use crate::export::{is_servers_own, progress};
use crate::output::{Failure, complain};
use crate::path::PathParser;
use crate::session::{self, AclOption, SessionOptions};
use crate::values::{count, is_masked, json_problem, parse_acl};
use crate::walk::join;

const EXAMPLES: &str = "\
Examples:
  farrier import /app app.json
  farrier import /copy app.json --update
  farrier import /copy - --acl world:anyone:cdrwa

FILE is what `farrier export` wrote; `-` is standard input. Znodes that exist are left alone and counted, or
with --update get the data of the file; their ACL stays. Missing parents of PATH are not created. An import
that ended early is resumed by running it again: what is there already is left alone.

A file without the line that ends every export, {\"end\":true,\"znodes\":N}, was cut off, and is refused before
anything is created; on standard input that shows only at the end. --partial takes it as it is.

Exit codes: 0 done, 1 refused by the server or not known to be done, 2 usage, 3 no server.";

/// Options of `farrier import`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The znode at the top
    #[arg(value_parser = PathParser)]
    path: String,

    /// The file; `-` for standard input
    #[arg(value_name = "FILE")]
    from: PathBuf,

    /// Set the data of znodes that exist
    #[arg(long)]
    update: bool,

    /// Take what there is of an export that was cut off, or lines that something else wrote
    #[arg(long)]
    partial: bool,

    #[command(flatten)]
    acl: AclOption,

    #[command(flatten)]
    session: SessionOptions,
}

/// Writes on their way at a time.
const AHEAD: usize = 64;

/// Longest line: the base64 of what no server takes in one znode.
const LINE_MAX: u64 = 128 << 20;

/// A line of the file: a znode, or the end with their number.
#[derive(Debug, Deserialize)]
struct Line {
    path: Option<String>,
    data: Option<String>,
    acl: Option<AclForm>,
    #[serde(default)]
    end: bool,
    znodes: Option<u64>,
}

/// The forms of an ACL list.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected `acl` as a list of {\"scheme\", \"id\", \"perms\"}, or as text")]
enum AclForm {
    /// As `export` writes it: everything has a form in it.
    Exact(Vec<Entry>),
    /// As the command line takes it, and as exports have it that an earlier build wrote.
    Text(String),
}

/// An entry of an ACL list, with the permissions as the bits that they are.
#[derive(Debug, Deserialize)]
struct Entry {
    scheme: String,
    id: String,
    perms: i32,
}

impl AclForm {
    fn list(self) -> Result<Vec<Acl<'static>>, String> {
        let acl = |entry: Entry| Acl { perms: entry.perms, scheme: entry.scheme.into(), id: entry.id.into() };
        match self {
            Self::Exact(entries) => Ok(entries.into_iter().map(acl).collect()),
            Self::Text(text) => parse_acl(&text),
        }
    }
}

/// What a line says.
enum Said {
    Znode(Znode),
    /// All has been said; how many znodes there were.
    End(Option<u64>),
}

/// A znode to write.
struct Znode {
    path: String,
    data: Option<Vec<u8>>,
    acl: Vec<Acl<'static>>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    session::run("import", &arguments.session, async |client, _| {
        let mut lines = Lines::open(arguments)?;
        let bar = progress();
        let mut import = Import { client, arguments, waiting: VecDeque::new(), counts: Counts::default() };
        let result = loop {
            let result = match lines.next() {
                Ok(Some(znode)) => import.add(znode).await,
                Ok(None) => break import.finish().await,
                Err(error) => import.finish().await.and(Err(error)),
            };
            bar.inc(1);
            if result.is_err() {
                break result;
            }
        };
        bar.finish_and_clear();
        let Counts { created, updated, there, skipped } = import.counts;
        let counts =
            format!("{} created, {updated} updated, {there} left alone, {skipped} skipped", count(created, "znode"));
        if let Err(error) = result {
            // Only what nobody refused comes to another end next time.
            let passes = matches!(
                error.downcast_ref(),
                Some(Error::NotDone { .. } | Error::Unknown { .. } | Error::SessionExpired { .. })
            );
            let hint = if passes { "; the same command goes on from there" } else { "" };
            complain("farrier import", format_args!("{counts}, then it failed{hint}"));
            return Err(error);
        }
        complain("farrier import", counts);
        Ok(0)
    })
}

/// The lines of the file, one by one.
struct Lines<'a> {
    arguments: &'a Arguments,
    shown: String,
    reader: Box<dyn BufRead>,
    line: Vec<u8>,
    number: u64,
    znodes: u64,
    ended: bool,
}

impl<'a> Lines<'a> {
    /// Opens the file. Where it can be read twice it is refused right away if it has no end.
    fn open(arguments: &'a Arguments) -> anyhow::Result<Self> {
        let is_input = arguments.from.as_os_str() == "-";
        let shown = if is_input { "standard input".to_owned() } else { arguments.from.display().to_string() };
        let lines = |reader| Lines {
            arguments,
            shown: shown.clone(),
            reader,
            line: Vec::new(),
            number: 0,
            znodes: 0,
            ended: false,
        };
        if is_input {
            return Ok(lines(Box::new(io::stdin().lock())));
        }
        let open = || File::open(&arguments.from).map_err(|error| Failure::usage(format!("{shown}: {error}")));
        let file = open()?;
        if !arguments.partial && file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            let mut first = lines(Box::new(BufReader::new(open()?)));
            let mut last = Vec::new();
            let mut begins = None;
            while first.read()? {
                if !first.line.trim_ascii().is_empty() {
                    begins.get_or_insert_with(|| is_of_an_export(&first.line));
                    last.clone_from(&first.line);
                }
            }
            if !serde_json::from_slice(&last).is_ok_and(|line: Line| line.end) {
                first.number -= 1;
                // Of an export that was cut off at once nothing is left.
                return Err(if begins.unwrap_or(true) {
                    first.cut_off()
                } else {
                    Failure::usage(format!(
                        "{shown}: this is no export: `farrier export` writes lines of JSON, and this begins with something else"
                    ))
                });
            }
        }
        Ok(lines(Box::new(BufReader::new(file))))
    }

    /// Reads the next line into `line`; whether there is one.
    fn read(&mut self) -> anyhow::Result<bool> {
        self.line.clear();
        self.number += 1;
        let read = io::Read::take(&mut self.reader, LINE_MAX).read_until(b'\n', &mut self.line);
        Ok(read.with_context(|| self.shown.clone())? > 0)
    }

    /// The next znode; `None` when all have come.
    fn next(&mut self) -> anyhow::Result<Option<Znode>> {
        while self.read()? {
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            let said = self.arguments.read(&self.line).map_err(|why| self.wrong(&why))?;
            if self.ended && !self.arguments.partial {
                return Err(self.wrong("it stands behind the end of the export; are these two in one file?"));
            }
            match said {
                Said::Znode(znode) => {
                    self.znodes += 1;
                    return Ok(Some(znode));
                }
                Said::End(znodes) => {
                    self.ended = true;
                    let (there, partial) = (self.znodes, self.arguments.partial);
                    if let Some(znodes) = znodes.filter(|znodes| *znodes != there && !partial) {
                        return Err(self.wrong(&format!(
                            "it ends an export of {}, and {there} came before it; export it again, or take what is there \
                             with --partial",
                            count(znodes, "znode")
                        )));
                    }
                }
            }
        }
        if self.ended || self.arguments.partial {
            return Ok(None);
        }
        self.number -= 1;
        Err(self.cut_off())
    }

    fn wrong(&self, why: &str) -> anyhow::Error {
        Failure::usage(format!("{}, line {}: {why}", self.shown, self.number))
    }

    fn cut_off(&self) -> anyhow::Error {
        self.wrong(
            "this is the last, and it is not the end of an export: it was cut off here. Export it again, or with \
             `farrier export … --to FILE --resume` the rest; --partial takes what is there",
        )
    }
}

/// Whether a line is one of an export, or the beginning of one.
fn is_of_an_export(line: &[u8]) -> bool {
    match serde_json::from_slice(line) {
        Ok(Line { path, end, .. }) => path.is_some() || end,
        Err(error) => error.is_eof() && line.starts_with(b"{"),
    }
}

impl Arguments {
    /// What a line says.
    fn read(&self, line: &[u8]) -> Result<Said, String> {
        let Line { path, data, acl, end, znodes } = serde_json::from_slice(line).map_err(|error| {
            let cut = if error.is_eof() && !line.ends_with(b"\n") { "the file ends in the midst of it: " } else { "" };
            format!("{cut}{}", json_problem(&error))
        })?;
        if end {
            return Ok(Said::End(znodes));
        }
        let path = path.ok_or("it has no `path`")?;
        let below = path.strip_prefix('/').ok_or_else(|| format!("the path {path} does not begin with a slash"))?;
        let path = if below.is_empty() { self.path.clone() } else { join(&self.path, below) };
        let data = data.map(|data| STANDARD.decode(data)).transpose();
        let data = data.map_err(|error| format!("data is no base64: {error}"))?;
        let acl = match (self.acl.given(), acl) {
            (Some(given), _) => given.to_vec(),
            (None, Some(acl)) => acl.list()?,
            (None, None) => return Err("it has no `acl`; --acl gives one to all".to_owned()),
        };
        if self.acl.given().is_none() && is_masked(&acl) {
            return Err(format!(
                "the ACL of {path} has the digest `x`, which stands where the servers told whoever exported it nothing, \
                 and which nobody has a password for: export it again as somebody who may administer it, or give an ACL \
                 to all with --acl"
            ));
        }
        Ok(Said::Znode(Znode { path, data, acl }))
    }
}

#[derive(Debug, Default)]
struct Counts {
    created: u64,
    updated: u64,
    there: u64,
    skipped: u64,
}

struct Import<'c> {
    client: &'c Client,
    arguments: &'c Arguments,
    waiting: VecDeque<(Znode, Call<Created>)>,
    counts: Counts,
}

impl Import<'_> {
    async fn add(&mut self, znode: Znode) -> anyhow::Result<()> {
        // The servers' own; they differ from ensemble to ensemble.
        let full = self.arguments.session.full_path(&znode.path);
        if is_servers_own(&full) {
            self.counts.skipped += 1;
            return Ok(());
        }
        // Requests are executed in the order in which they are made: a parent is there before its children.
        let create = self.client.create(&znode.path, znode.data.as_deref().unwrap_or_default()).acl(&znode.acl);
        let call = if znode.data.is_none() { create.null() } else { create }.send();
        self.waiting.push_back((znode, call));
        if self.waiting.len() < AHEAD { Ok(()) } else { self.one().await }
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        while !self.waiting.is_empty() {
            self.one().await?;
        }
        Ok(())
    }

    async fn one(&mut self) -> anyhow::Result<()> {
        let Some((znode, call)) = self.waiting.pop_front() else { return Ok(()) };
        let Err(error) = call.await else {
            self.counts.created += 1;
            return Ok(());
        };
        // The root always exists; a server may say instead that it can't be created.
        let is_there = error.is_node_exists() || znode.path == "/" && error.code() == Some(ErrorCode::BadArguments);
        if !is_there {
            return Err(error.into());
        }
        if !self.arguments.update {
            self.counts.there += 1;
            return Ok(());
        }
        let set = self.client.set(&znode.path, znode.data.as_deref().unwrap_or_default());
        if znode.data.is_none() { set.null() } else { set }.await?;
        self.counts.updated += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::acl_exact;

    fn read(acl: &str) -> Result<Vec<Acl<'static>>, String> {
        let line: Line =
            serde_json::from_str(&format!("{{\"path\":\"/\",\"acl\":{acl}}}")).map_err(|e| json_problem(&e))?;
        line.acl.expect("there is one").list()
    }

    #[test]
    fn every_acl_list_comes_back_as_it_went() {
        let entry =
            |perms, scheme: &str, id: &str| Acl { perms, scheme: scheme.to_owned().into(), id: id.to_owned().into() };
        let list = vec![
            Acl::world(31),
            entry(0, "ip", "::1"),
            entry(0x41, "x509", "CN=a,OU=b:c"),
            entry(i32::MIN, "", ""),
            entry(-1, "sasl", "a\u{202e}\n\"\\u{7}\u{1}"),
        ];
        assert_eq!(read(&acl_exact(&list).to_string()), Ok(list));
    }

    #[test]
    fn acl_lists_are_read_as_text_too_and_as_nothing_else() {
        assert_eq!(read("\"world:anyone:cdrwa\""), Ok(vec![Acl::world(31)]));
        read("\"world:anyone\"").expect_err("no permissions");
        for wrong in ["7", "{}", "[\"world:anyone:r\"]", "[{\"scheme\":\"world\",\"id\":\"anyone\"}]"] {
            let said = read(wrong).expect_err(wrong);
            assert!(said.contains("expected `acl` as a list of"), "{said}");
        }
    }
}
