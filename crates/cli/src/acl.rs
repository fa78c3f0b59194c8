//! `farrier acl`: who may do what with a znode.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::path::PathParser;
use crate::session::{self, SessionOptions};
use crate::values::{AclList, acl, acl_json, stat_json};

const EXAMPLES: &str = "\
Examples:
  farrier acl get /
  farrier acl set /app world:anyone:r,ip:10.0.0.0/8:cdrwa";

const GET_EXAMPLES: &str = "\
Examples:
  farrier acl get /zookeeper
  farrier acl get / --json

One entry a line, `SCHEME:ID:PERMISSIONS` with the letters of create, delete, read, write, admin. What is
printed can be given to `farrier acl set` when the lines are joined by commas.

Exit codes: 0 done, 1 refused by the server, 2 usage, 3 no server.";

const SET_EXAMPLES: &str = "\
Examples:
  farrier acl set /app world:anyone:r,ip:10.0.0.0/8:cdrwa
  farrier acl set /app auth::cdrwa --auth-file identities
  farrier acl set /app world:anyone:r --version 2

`auth::PERMISSIONS` stands for every identity of this session. The list replaces the old one; below PATH
nothing changes.

Exit codes: 0 done, 1 refused by the server or not known to be done, 2 usage, 3 no server.";

/// Options of `farrier acl`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the list of a znode
    #[command(after_help = GET_EXAMPLES)]
    Get(Get),
    /// Replace the list of a znode
    #[command(after_help = SET_EXAMPLES)]
    Set(Set),
}

#[derive(Debug, Args)]
struct Get {
    /// The znode
    #[arg(value_parser = PathParser)]
    path: String,

    /// One JSON object: path, acl, stat
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionOptions,
}

#[derive(Debug, Args)]
struct Set {
    /// The znode
    #[arg(value_parser = PathParser)]
    path: String,

    /// The new list: `SCHEME:ID:PERMISSIONS`, separated by commas
    acl: AclList,

    /// Only if the list has this version, the aversion of the stat
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(0..))]
    version: Option<i32>,

    /// One JSON object: path, stat
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionOptions,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match &arguments.command {
        Command::Get(get) => get.run(),
        Command::Set(set) => set.run(),
    }
}

impl Get {
    fn run(&self) -> ExitCode {
        session::run("acl get", &self.session, async |client, out| {
            let (list, stat) = client.get_acl(&self.path).await?;
            if self.json {
                out.json(&json!({"path": self.path, "acl": acl_json(&list), "stat": stat_json(&stat)}))?;
            } else {
                for entry in &list {
                    out.line(acl(std::slice::from_ref(entry)))?;
                }
            }
            Ok(0)
        })
    }
}

impl Set {
    fn run(&self) -> ExitCode {
        session::run("acl set", &self.session, async |client, out| {
            let mut set = client.set_acl(&self.path, &self.acl.0);
            if let Some(version) = self.version {
                set = set.version(version);
            }
            let stat = set.await?;
            if self.json {
                out.json(&json!({"path": self.path, "stat": stat_json(&stat)}))?;
            }
            Ok(0)
        })
    }
}
