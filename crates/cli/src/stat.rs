//! `farrier stat`: everything about a znode but its data.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::output::{FAILED, complain};
use crate::path::PathParser;
use crate::session::{self, SessionOptions};
use crate::values::{stat_json, stat_lines};

const EXAMPLES: &str = "\
Examples:
  farrier stat /
  farrier stat /zookeeper --json

Exit codes: 0 done, 1 refused by the server or no such znode, 2 usage, 3 no server.";

/// Options of `farrier stat`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The znode
    #[arg(value_parser = PathParser)]
    path: String,

    /// One JSON object: path, stat
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionOptions,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    session::run("stat", &arguments.session, async |client, out| {
        let path = &arguments.path;
        let Some(stat) = client.exists(path).await? else {
            let server = arguments.session.server();
            complain("farrier stat: error", format_args!("{path}: there is no such znode, at {server}"));
            return Ok(FAILED);
        };
        if arguments.json {
            out.json(&json!({"path": path, "stat": stat_json(&stat)}))?;
        } else {
            out.line(stat_lines(&stat))?;
        }
        Ok(0)
    })
}
