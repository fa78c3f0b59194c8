//! `farrier delete`: a znode, or all of a subtree.

use std::collections::VecDeque;
use std::process::ExitCode;

use clap::Args;
use farrier_client::{Call, Client, Op};
use farrier_recipes::guarded_multi;
use serde_json::json;

use crate::guard::GuardOption;
use crate::input::confirm;
use crate::output::{FAILED, Failure, complain};
use crate::path::PathParser;
use crate::session::{self, SessionOptions};
use crate::values::{count, plain};
use crate::walk::Walk;

const EXAMPLES: &str = "\
Examples:
  farrier delete /app/config
  farrier delete /app/config --version 7
  farrier delete -r /app
  farrier delete -r /app --yes

With -r the znodes are counted first, and on a terminal the command asks before it deletes; elsewhere it
needs --yes. Znodes that others create meanwhile below PATH are not deleted, and neither is what is above
them. / and /zookeeper are never deleted with -r. With --guard, below `farrier lock`, nothing is deleted
unless the lock is held still.

Exit codes: 0 done, 1 refused by the server, by you, or not known to be done, 2 usage, 3 no server.";

/// Options of `farrier delete`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The znode
    #[arg(value_parser = PathParser)]
    path: String,

    /// Only if the data has this version
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(0..), conflicts_with = "recursive")]
    version: Option<i32>,

    #[command(flatten)]
    guard: GuardOption,

    /// Delete everything below it too
    #[arg(short, long, conflicts_with = "guard")]
    recursive: bool,

    /// Don't ask
    #[arg(short, long)]
    yes: bool,

    /// One JSON object: path, deleted
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionOptions,
}

/// Deletions on their way at a time.
const AHEAD: usize = 64;

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    session::run_with(
        "delete",
        &arguments.session,
        || arguments.guard.node(),
        async |client, out, guard| {
            let path = arguments.path.as_str();
            let deleted = if arguments.recursive {
                match recursive(arguments, client).await? {
                    Some(deleted) => deleted,
                    None => return Ok(FAILED),
                }
            } else if let Some(node) = guard {
                guarded_multi(client, &node, [Op::delete(path, arguments.version)]).await?;
                1
            } else {
                let mut delete = client.delete(path);
                if let Some(version) = arguments.version {
                    delete = delete.version(version);
                }
                delete.await?;
                1
            };
            if arguments.json {
                out.json(&json!({"path": path, "deleted": deleted}))?;
            } else if arguments.recursive {
                out.line(format_args!("deleted {}", count(deleted, "znode")))?;
            }
            Ok(0)
        },
    )
}

/// Deletes a subtree; `None` if whoever was asked doesn't want that.
async fn recursive(arguments: &Arguments, client: &Client) -> anyhow::Result<Option<u64>> {
    let subtree = Subtree::find(client, &arguments.path, &arguments.session).await?;
    if !arguments.yes {
        match subtree.ask().await? {
            Some(true) => {}
            Some(false) => {
                complain("farrier delete: error", "nothing was deleted");
                return Ok(None);
            }
            None => {
                return Err(Failure::usage(format!(
                    "this would delete {}; there is no terminal to ask on, so add --yes",
                    subtree.description()
                )));
            }
        }
    }
    subtree.delete(client).await.map(Some)
}

/// All of a subtree, on its way to be deleted.
pub(crate) struct Subtree<'a> {
    /// Parents before their children; at least one.
    paths: Vec<String>,
    server: &'a str,
}

impl<'a> Subtree<'a> {
    /// Looks for what there is.
    pub(crate) async fn find(client: &Client, path: &str, session: &'a SessionOptions) -> anyhow::Result<Self> {
        let full = session.full_path(path);
        if path == "/" || full == "/" || full == "/zookeeper" {
            return Err(Failure::usage(format!(
                "{full} is never deleted with all below it; name what is below it, one by one"
            )));
        }
        let mut paths = Vec::new();
        let mut walk = Walk::new(client, path);
        while let Some(found) = walk.next().await? {
            paths.push(found.path);
        }
        Ok(Self { paths, server: session.server() })
    }

    fn description(&self) -> String {
        match self.paths.len() - 1 {
            0 => plain(&self.paths[0]),
            below => format!("{} and the {} below it", plain(&self.paths[0]), count(below as u64, "znode")),
        }
    }

    /// Asks on the terminal; `None` if there is none.
    pub(crate) async fn ask(&self) -> anyhow::Result<Option<bool>> {
        confirm(&format!("delete {}, at {}?", self.description(), self.server)).await
    }

    /// Deletes it; returns how many znodes were deleted by this.
    pub(crate) async fn delete(self, client: &Client) -> anyhow::Result<u64> {
        let mut paths = self.paths;
        let mut deleted = 0;
        let mut waiting: VecDeque<(String, Call<()>)> = VecDeque::new();
        // Children come behind their parents in the walk.
        while !paths.is_empty() || !waiting.is_empty() {
            while waiting.len() < AHEAD {
                let Some(path) = paths.pop() else { break };
                let call = client.delete(&path).send();
                waiting.push_back((path, call));
            }
            let Some((path, call)) = waiting.pop_front() else { break };
            match call.await {
                Ok(()) => deleted += 1,
                // Somebody else was faster.
                Err(error) if error.is_no_node() => {}
                Err(error) if error.is_not_empty() => {
                    return Err(anyhow::Error::new(error).context(format!(
                        "{} were deleted; below {path} others were created meanwhile, so it stays: run it again",
                        count(deleted, "znode"),
                    )));
                }
                Err(error) => {
                    return Err(
                        anyhow::Error::new(error).context(format!("{} were deleted before", count(deleted, "znode")))
                    );
                }
            }
        }
        Ok(deleted)
    }
}
