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
use farrier_client::{Acl, Call, Client, Created, ErrorCode};
use serde::Deserialize;

use crate::export::progress;
use crate::output::{Failure, complain};
use crate::session::{self, AclOption, SessionOptions};
use crate::values::{count, parse_acl};
use crate::walk::join;

const EXAMPLES: &str = "\
Examples:
  farrier import /app app.json
  farrier import /copy app.json --update
  farrier import /copy - --acl world:anyone:cdrwa

FILE is what `farrier export` wrote; `-` is standard input. Znodes that exist are left alone and counted, or
with --update get the data of the file; their ACL stays. Missing parents of PATH are not created. An import
that ended early is resumed by running it again: what is there already is left alone.

Exit codes: 0 done, 1 refused by the server or not known to be done, 2 usage, 3 no server.";

/// Options of `farrier import`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The znode at the top
    path: String,

    /// The file; `-` for standard input
    #[arg(value_name = "FILE")]
    from: PathBuf,

    /// Set the data of znodes that exist
    #[arg(long)]
    update: bool,

    #[command(flatten)]
    acl: AclOption,

    #[command(flatten)]
    session: SessionOptions,
}

/// Writes on their way at a time.
const AHEAD: usize = 64;

/// Longest line: the base64 of what no server takes in one znode.
const LINE_MAX: u64 = 128 << 20;

/// A line of the file.
#[derive(Debug, Deserialize)]
struct Line {
    path: String,
    data: Option<String>,
    acl: String,
}

/// A znode to write.
struct Znode {
    path: String,
    data: Option<Vec<u8>>,
    acl: Vec<Acl<'static>>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    session::run("import", &arguments.session, async |client, _| {
        let shown = if arguments.from.as_os_str() == "-" {
            "standard input".to_owned()
        } else {
            arguments.from.display().to_string()
        };
        let mut reader: Box<dyn BufRead> = if arguments.from.as_os_str() == "-" {
            Box::new(io::stdin().lock())
        } else {
            let file = File::open(&arguments.from).map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
            Box::new(BufReader::new(file))
        };
        let bar = progress();
        let mut import = Import { client, arguments, waiting: VecDeque::new(), counts: Counts::default() };
        let (mut line, mut number) = (Vec::new(), 0_u64);
        let result = loop {
            line.clear();
            number += 1;
            let read = io::Read::take(&mut reader, LINE_MAX).read_until(b'\n', &mut line);
            if read.with_context(|| shown.clone())? == 0 {
                break import.finish().await;
            }
            let znode = arguments.read(&line).map_err(|why| Failure::usage(format!("{shown}, line {number}: {why}")));
            let result = match znode {
                Ok(None) => continue,
                Ok(Some(znode)) => import.add(znode).await,
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
        result.with_context(|| format!("{counts}; run it again to go on"))?;
        complain("farrier import", counts);
        Ok(0)
    })
}

impl Arguments {
    /// What a line says; `None` for an empty one.
    fn read(&self, line: &[u8]) -> Result<Option<Znode>, String> {
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let Line { path, data, acl } = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let below = path.strip_prefix('/').ok_or_else(|| format!("the path {path} does not begin with a slash"))?;
        let path = if below.is_empty() { self.path.clone() } else { join(&self.path, below) };
        let data = data.map(|data| STANDARD.decode(data)).transpose();
        let data = data.map_err(|error| format!("data is no base64: {error}"))?;
        let acl = match self.acl.given() {
            Some(acl) => acl.to_vec(),
            None => parse_acl(&acl)?,
        };
        Ok(Some(Znode { path, data, acl }))
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
        if full == "/zookeeper" || full.starts_with("/zookeeper/") {
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
