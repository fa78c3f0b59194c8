//! `farrier member`: who is in a group.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use farrier_recipes::{Group, GroupEvent, Member};
use serde_json::json;

use crate::input::DataOptions;
use crate::output::{FAILED, GOOD, Out, WARNING, complain};
use crate::path::PathParser;
use crate::session::{self, AclOption, SessionOptions};
use crate::signals::StopSignals;
use crate::values::{base64, hex, plain, quoted};

const EXAMPLES: &str = "\
Examples:
  farrier member join /app/workers 10.0.0.7:8080
  farrier member ls /app/workers
  farrier member watch /app/workers

A member is an ephemeral child of PATH with a payload. Its names are those of kazoo's Party, and Curator's GroupMember
takes it for one of its own; both are seen here.";

const JOIN_EXAMPLES: &str = "\
Examples:
  farrier member join /app/workers 10.0.0.7:8080
  farrier member join /app/workers --file worker.json

The member stays as long as the command runs, until Ctrl-C or SIGTERM. Its id is printed; if its session is lost, it
joins again as soon as it can, and another id is printed.

Exit codes: 0 left, 1 refused by the server, 2 usage, 3 no server.";

const LS_EXAMPLES: &str = "\
Examples:
  farrier member ls /app/workers
  farrier member ls /app/workers --json

A line for each member, who joined first before the others: its id and its payload in quotes.

Exit codes: 0 done, 1 refused by the server, 2 usage, 3 no server.";

const WATCH_EXAMPLES: &str = "\
Examples:
  farrier member watch /app/workers
  farrier member watch /app/workers --json --count 10

At first a line `joined` for everybody who is there, and `loaded`; then lines for members that join, leave, or change
their payload, in order. A line `missed` says that somebody may have come and gone untold, after a lost connection;
what is different then follows. Ctrl-C ends it.

Exit codes: 0 after --count lines, 1 refused by the server, 2 usage, 3 no server.";

/// Options of `farrier member`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be a member while this command runs
    #[command(after_help = JOIN_EXAMPLES)]
    Join(Join),
    /// List the members
    #[command(after_help = LS_EXAMPLES)]
    Ls(Ls),
    /// Tell who joins and leaves
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(Watch),
}

#[derive(Debug, Args)]
struct Join {
    /// The group
    #[arg(value_parser = PathParser)]
    path: String,

    #[command(flatten)]
    payload: DataOptions,

    #[command(flatten)]
    acl: AclOption,

    /// One JSON object a line: id
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionOptions,
}

#[derive(Debug, Args)]
struct Ls {
    /// The group
    #[arg(value_parser = PathParser)]
    path: String,

    /// One JSON object a line: id, payload, joined, session
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionOptions,
}

#[derive(Debug, Args)]
struct Watch {
    /// The group
    #[arg(value_parser = PathParser)]
    path: String,

    /// End after so many lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// One JSON object a line: event, and of the member id, payload, joined, session
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionOptions,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match &arguments.command {
        Command::Join(join) => join.run(),
        Command::Ls(ls) => ls.run(),
        Command::Watch(watch) => watch.run(),
    }
}

impl Join {
    fn run(&self) -> ExitCode {
        session::run_renewing("member join", &self.session, async |client, out| {
            let mut signals = StopSignals::listen().context("signals can't be handled")?;
            let payload = self.payload.read()?.unwrap_or_default();
            let group = Group::new(client, &self.path).acl(&self.acl.or_open());
            let membership = group.join(payload).await?;
            let mut ids = membership.ids();
            let mut told = None;
            loop {
                let id = ids.borrow_and_update().clone();
                if let Some(id) = id.filter(|id| told.as_ref() != Some(id)) {
                    if self.json {
                        out.json(&json!({"id": id}))?;
                    } else {
                        out.line(plain(&id))?;
                    }
                    out.flush()?;
                    told = Some(id);
                }
                tokio::select! {
                    changed = ids.changed() => if changed.is_err() {
                        complain("farrier member join: error", format_args!("{}: it can't join again", self.path));
                        return Ok(FAILED);
                    },
                    _ = signals.next() => break,
                }
            }
            membership.leave().await?;
            Ok(0)
        })
    }
}

fn member_json(member: &Member) -> serde_json::Value {
    json!({
        "id": member.id,
        "payload": base64(Some(&member.payload)),
        "joined": member.joined.to_string(),
        "session": hex(member.session.0),
    })
}

impl Ls {
    fn run(&self) -> ExitCode {
        session::run("member ls", &self.session, async |client, out| {
            let members = Group::new(client, &self.path).members().await?;
            if members.is_empty() && client.exists(&self.path).await?.is_none() {
                // The first member makes it, so that is no failure.
                complain("farrier member ls", format_args!("{} does not exist, so it has no members", self.path));
            }
            for member in members {
                if self.json {
                    out.json(&member_json(&member))?;
                } else {
                    out.line(format_args!("{}  {}", plain(&member.id), quoted(&member.payload)))?;
                }
            }
            Ok(0)
        })
    }
}

impl Watch {
    fn run(&self) -> ExitCode {
        session::run_renewing("member watch", &self.session, async |client, out| {
            let mut signals = StopSignals::listen().context("signals can't be handled")?;
            let mut watch = Group::new(client, &self.path).watch();
            let mut left = self.count;
            while left != Some(0) {
                let event = tokio::select! {
                    event = watch.next() => event?,
                    // The session ends in order; the code is that of a program which the signal ends.
                    signal = signals.next() => return Ok(signal.code()),
                };
                self.tell(out, event)?;
                left = left.map(|left| left - 1);
            }
            Ok(0)
        })
    }

    fn tell(&self, out: &mut Out, event: GroupEvent) -> anyhow::Result<()> {
        let (word, member) = match event {
            GroupEvent::Joined(member) => ("joined", Some(member)),
            GroupEvent::Left(member) => ("left", Some(member)),
            GroupEvent::Payload(member) => ("payload", Some(member)),
            GroupEvent::Loaded => ("loaded", None),
            GroupEvent::Missed => ("missed", None),
        };
        if self.json {
            let mut object = member.as_ref().map_or_else(|| json!({}), member_json);
            object["event"] = word.into();
            out.json(&object)?;
        } else {
            let style = if member.is_some() { GOOD } else { WARNING };
            let member = member.map(|m| format!("  {}  {}", plain(&m.id), quoted(&m.payload))).unwrap_or_default();
            out.line(format_args!("{}{member}", out.paint(style, word)))?;
        }
        out.flush()
    }
}
