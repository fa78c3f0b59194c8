//! `farrier set`: new data for a znode.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use farrier_client::{Op, OpResult};
use farrier_recipes::guarded_multi;
use serde_json::json;

use crate::guard::GuardOption;
use crate::input::DataOptions;
use crate::output::Failure;
use crate::path::PathParser;
use crate::session::{self, SessionOptions};
use crate::values::{stat_json, stat_lines};

const EXAMPLES: &str = "\
Examples:
  farrier set /app/config v2
  farrier set /app/config --file config.json
  farrier set /app/config v3 --version 7

With --version nothing is set unless the data has that version, which `farrier stat` shows: so nobody's
change is lost. With --guard, below `farrier lock`, nothing is set unless the lock is held still.

Exit codes: 0 done, 1 refused by the server or not known to be done, 2 usage, 3 no server.";

/// Options of `farrier set`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The znode
    #[arg(value_parser = PathParser)]
    path: String,

    #[command(flatten)]
    data: DataOptions,

    /// Only if the data has this version
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(0..))]
    version: Option<i32>,

    #[command(flatten)]
    guard: GuardOption,

    /// Show the stat afterwards
    #[arg(short, long)]
    stat: bool,

    /// One JSON object: path, stat
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionOptions,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let ready = || {
        let data = arguments.data.read()?;
        let data =
            data.ok_or_else(|| Failure::usage("no data: give it as DATA, or with --file FILE, - for standard input"))?;
        Ok((data, arguments.guard.node()?))
    };
    session::run_with("set", &arguments.session, ready, async |client, out, (data, guard)| {
        let stat = match guard {
            None => {
                let mut set = client.set(&arguments.path, &data);
                if let Some(version) = arguments.version {
                    set = set.version(version);
                }
                set.await?
            }
            Some(node) => {
                let set = Op::set(&arguments.path, &data, arguments.version);
                match guarded_multi(client, &node, [set]).await?[..] {
                    [OpResult::Set(stat)] => stat,
                    _ => bail!("the answer is of another kind than the request"),
                }
            }
        };
        if arguments.json {
            out.json(&json!({"path": arguments.path, "stat": stat_json(&stat)}))?;
        } else if arguments.stat {
            out.line(stat_lines(&stat))?;
        }
        Ok(0)
    })
}
