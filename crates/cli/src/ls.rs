//! `farrier ls`: the children of a znode, or all that is below it.

use std::collections::VecDeque;
use std::process::ExitCode;

use clap::Args;
use farrier_client::{Call, Client, Stat};
use serde_json::json;

use crate::output::Out;
use crate::path::PathParser;
use crate::session::{self, SessionOptions};
use crate::values::{plain, stat_json, stat_line};
use crate::walk::{Walk, join};

const EXAMPLES: &str = "\
Examples:
  farrier ls
  farrier ls /zookeeper
  farrier ls -s /
  farrier ls -R / --json

One name a line, in the order of the alphabet; with -R one path a line, PATH itself first. With -s each has
its stat behind it.

Exit codes: 0 done, 1 refused by the server, 2 usage, 3 no server.";

/// Options of `farrier ls`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The znode
    #[arg(default_value = "/", value_parser = PathParser)]
    path: String,

    /// Go down to the leaves
    #[arg(short = 'R', long)]
    recursive: bool,

    /// Show the stat of each
    #[arg(short, long)]
    stat: bool,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionOptions,
}

/// Stats that are asked for ahead.
const AHEAD: usize = 64;

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    session::run("ls", &arguments.session, async |client, out| {
        let mut lines = Lines { arguments, client, waiting: VecDeque::new() };
        if arguments.recursive {
            let mut walk = Walk::new(client, &arguments.path);
            while let Some(found) = walk.next().await? {
                lines.add(found.path.clone(), found.path, out).await?;
            }
        } else {
            let mut names = client.list(&arguments.path).await?;
            names.sort_unstable();
            for name in names {
                lines.add(join(&arguments.path, &name), name, out).await?;
            }
        }
        lines.finish(out).await?;
        Ok(0)
    })
}

/// Lines that wait for their stats, in order.
struct Lines<'a> {
    arguments: &'a Arguments,
    client: &'a Client,
    waiting: VecDeque<(String, String, Call<Option<Stat>>)>,
}

impl Lines<'_> {
    async fn add(&mut self, path: String, shown: String, out: &mut Out) -> anyhow::Result<()> {
        if !self.arguments.stat {
            return if self.arguments.json { out.json(&json!({"path": path})) } else { out.line(plain(&shown)) };
        }
        let call = self.client.exists(&path).send();
        self.waiting.push_back((path, shown, call));
        if self.waiting.len() < AHEAD { Ok(()) } else { self.one(out).await }
    }

    async fn one(&mut self, out: &mut Out) -> anyhow::Result<()> {
        let Some((path, shown, call)) = self.waiting.pop_front() else { return Ok(()) };
        // Deleted since it was listed: then it is left out.
        let Some(stat) = call.await? else { return Ok(()) };
        if self.arguments.json {
            out.json(&json!({"path": path, "stat": stat_json(&stat)}))
        } else {
            out.line(format_args!("{}  {}", plain(&shown), stat_line(&stat)))
        }
    }

    async fn finish(mut self, out: &mut Out) -> anyhow::Result<()> {
        while !self.waiting.is_empty() {
            self.one(out).await?;
        }
        Ok(())
    }
}
