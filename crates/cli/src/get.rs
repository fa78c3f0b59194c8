//! `farrier get`: the data of a znode, byte for byte.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::path::PathParser;
use crate::session::{self, SessionOptions};
use crate::values::{base64, stat_json, stat_lines};

const EXAMPLES: &str = "\
Examples:
  farrier get /zookeeper/config
  farrier get /zookeeper/config --json
  farrier get -s /zookeeper

Data is written as it is; on a terminal a line break follows it if it has none. With -s the stat comes on the
lines below it. With --json the data is base64.

Exit codes: 0 done, 1 refused by the server, 2 usage, 3 no server.";

/// Options of `farrier get`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The znode
    #[arg(value_parser = PathParser)]
    path: String,

    /// Show the stat too
    #[arg(short, long)]
    stat: bool,

    /// One JSON object: path, data, stat
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionOptions,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    session::run("get", &arguments.session, async |client, out| {
        let value = client.get(&arguments.path).await?;
        if arguments.json {
            let data = base64(value.data_or_null());
            out.json(&json!({"path": arguments.path, "data": data, "stat": stat_json(&value.stat)}))?;
            return Ok(0);
        }
        out.bytes(&value.data)?;
        let ends = value.data.is_empty() || value.data.ends_with(b"\n");
        if !ends && (arguments.stat || io::stdout().is_terminal()) {
            out.bytes(b"\n")?;
        }
        if arguments.stat {
            out.line(stat_lines(&value.stat))?;
        }
        Ok(0)
    })
}
