//! `farrier create`: a new znode, of any mode.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use farrier_client::{Acl, Client, Created, NewZnode, Op, OpResult, SessionState};
use farrier_recipes::guarded_multi;
use serde_json::json;

use crate::guard::GuardOption;
use crate::input::DataOptions;
use crate::output::{FAILED, complain};
use crate::path::NewPathParser;
use crate::session::{self, AclOption, SessionOptions};
use crate::signals::StopSignals;
use crate::span::{self, MS, TTL_MAX};
use crate::values::{plain, stat_json};

const EXAMPLES: &str = "\
Examples:
  farrier create /app
  farrier create -p /app/config/db --file db.json
  farrier create --sequential /app/job- work
  farrier create --container /app/locks
  farrier create --ttl 1h /app/cache
  farrier create --ephemeral /app/here
  farrier create --acl world:anyone:r /app/readonly

The path is printed, with the digits that a server put behind a sequential one. Without DATA and --file the
data is empty. An ephemeral znode lives as long as the command: until Ctrl-C or SIGTERM. With --guard, below
`farrier lock`, nothing is created unless the lock is held still.

Exit codes: 0 done, 1 refused by the server or not known to be done, 2 usage, 3 no server.";

/// Options of `farrier create`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The znode
    #[arg(value_parser = NewPathParser)]
    path: String,

    #[command(flatten)]
    data: DataOptions,

    /// Create missing parents too, persistent and empty
    #[arg(short, long, conflicts_with = "guard")]
    parents: bool,

    /// Append ten digits that grow with every child of the parent
    #[arg(short = 'q', long)]
    sequential: bool,

    /// Keep it while this command runs
    #[arg(short, long, conflicts_with_all = ["container", "ttl"])]
    ephemeral: bool,

    /// The servers delete it when its last child has gone
    #[arg(short, long, conflicts_with_all = ["ttl", "sequential"])]
    container: bool,

    /// The servers delete it when it has no children and its data was not set for so long: seconds, or with a unit as
    /// in `500ms`, `1h`
    #[arg(short, long, value_name = "TIME", allow_hyphen_values = true, value_parser = span::seconds(MS, TTL_MAX))]
    ttl: Option<Duration>,

    #[command(flatten)]
    guard: GuardOption,

    #[command(flatten)]
    acl: AclOption,

    /// One JSON object: path, stat (null with --guard, if the server tells none)
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionOptions,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let ready = || Ok((arguments.data.read()?.unwrap_or_default(), arguments.guard.node()?));
    session::run_with("create", &arguments.session, ready, async |client, out, (data, guard)| {
        let acl = arguments.acl.or_open();
        // Listened for before there is anything to end.
        let signals = arguments.ephemeral.then(StopSignals::listen);
        let signals = signals.transpose().context("signals can't be handled")?;
        if arguments.parents {
            create_parents(client, &arguments.path, &acl).await?;
        }
        let mut znode = NewZnode::new(&arguments.path, &data).acl(&acl);
        if arguments.sequential {
            znode = znode.sequential();
        }
        if arguments.ephemeral {
            znode = znode.ephemeral();
        }
        if arguments.container {
            znode = znode.container();
        }
        if let Some(ttl) = arguments.ttl {
            znode = znode.ttl(ttl);
        }
        let (path, stat) = match guard {
            None => {
                let Created { path, stat } = client.create_new(znode).await?;
                (path, Some(stat))
            }
            Some(node) => match guarded_multi(client, &node, [Op::Create(znode)]).await?.pop() {
                Some(OpResult::Created { path, stat }) => (path, stat),
                _ => bail!("the answer is of another kind than the request"),
            },
        };
        if arguments.json {
            out.json(&json!({"path": path, "stat": stat.as_ref().map(stat_json)}))?;
        } else {
            out.line(plain(&path))?;
        }
        out.flush()?;
        let Some(mut signals) = signals else { return Ok(0) };
        let here = format_args!("{path} is there until this command ends: by Ctrl-C or SIGTERM");
        complain("farrier create", here);
        let mut state = client.session();
        let lost = state
            .wait_for(|s| matches!(s, SessionState::Expired { .. } | SessionState::AuthFailed | SessionState::Closed));
        tokio::select! {
            _ = signals.next() => Ok(0),
            _ = lost => {
                complain("farrier create: error", format_args!("{path} is gone: its session has expired"));
                Ok(FAILED)
            }
        }
    })
}

/// Creates what is missing above a path.
async fn create_parents(client: &Client, path: &str, acl: &[Acl<'static>]) -> anyhow::Result<()> {
    let above = path.match_indices('/').map(|(at, _)| &path[..at]).filter(|parent| !parent.is_empty());
    for parent in above {
        match client.create(parent, b"").acl(acl).await {
            Ok(_) => {}
            Err(error) if error.is_node_exists() => {}
            // It may exist all the same, where this client must create nothing.
            Err(error) => match client.exists(parent).await {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Err(error.into()),
            },
        }
    }
    Ok(())
}
