//! `farrier sync`: wait until the server has what was committed.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::path::PathParser;
use crate::session::{self, SessionOptions};

const EXAMPLES: &str = "\
Examples:
  farrier sync
  farrier sync /app --json

When this returns, the server that answered has every write that was acknowledged before the command ran.
Behind a Farrier leader a quorum has confirmed that; behind an Apache leader it is as sure as Apache's sync.

Exit codes: 0 done, 1 refused by the server, 2 usage, 3 no server.";

/// Options of `farrier sync`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The znode that it is about; servers synchronize everything, whatever it is
    #[arg(default_value = "/", value_parser = PathParser)]
    path: String,

    /// One JSON object: path, zxid
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionOptions,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    session::run("sync", &arguments.session, async |client, out| {
        client.sync(&arguments.path).await?;
        if arguments.json {
            let zxid = client.last_zxid().to_string();
            out.json(&json!({"path": arguments.path, "zxid": zxid}))?;
        }
        Ok(0)
    })
}
