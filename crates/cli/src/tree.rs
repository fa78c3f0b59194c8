//! `farrier tree`: a subtree, drawn.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::output::FAINT;
use crate::path::PathParser;
use crate::session::{self, SessionOptions};
use crate::values::{count, plain};
use crate::walk::Walk;

const EXAMPLES: &str = "\
Examples:
  farrier tree
  farrier tree /zookeeper --depth 1

Exit codes: 0 done, 1 refused by the server, 2 usage, 3 no server.";

/// Options of `farrier tree`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The znode at the top
    #[arg(default_value = "/", value_parser = PathParser)]
    path: String,

    /// Go down this many levels at most
    #[arg(long, value_name = "N")]
    depth: Option<usize>,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionOptions,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    session::run("tree", &arguments.session, async |client, out| {
        let top = levels(&arguments.path);
        let shallow = |path: &str| arguments.depth.is_none_or(|depth| levels(path) - top <= depth);
        let mut walk = Walk::choosing(client, &arguments.path, shallow);
        // Whether the znode on each level of the way down has siblings to come.
        let mut open: Vec<bool> = Vec::new();
        let mut znodes = 0_u64;
        while let Some(found) = walk.next().await? {
            znodes += 1;
            if arguments.json {
                out.json(&json!({"path": found.path, "depth": found.depth, "numChildren": found.children}))?;
                continue;
            }
            open.truncate(found.depth);
            let mut line: String = open.iter().skip(1).map(|more| if *more { "│   " } else { "    " }).collect();
            if found.depth > 0 {
                line.push_str(if found.last { "└── " } else { "├── " });
            }
            let hidden = found.children > 0 && arguments.depth == Some(found.depth);
            let more = if hidden { format!("  ({} more)", found.children) } else { String::new() };
            out.line(format_args!("{line}{}{}", plain(&found.name), out.paint(FAINT, more)))?;
            open.push(!found.last);
        }
        if !arguments.json {
            out.line(format_args!("\n{}", count(znodes, "znode")))?;
        }
        Ok(0)
    })
}

/// How deep a path is.
fn levels(path: &str) -> usize {
    if path == "/" { 0 } else { path.matches('/').count() }
}
