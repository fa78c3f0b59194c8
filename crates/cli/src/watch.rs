//! `farrier watch`: changes as they come.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use farrier_client::{EventType, WatchEvent};
use serde_json::json;

use crate::output::{FAILED, FAINT, GOOD, Out, WARNING, complain};
use crate::path::PathParser;
use crate::session::{self, SessionOptions};
use crate::signals::StopSignals;
use crate::values::plain;

const EXAMPLES: &str = "\
Examples:
  farrier watch /app/config
  farrier watch -R /app --json
  farrier watch /app/config --count 1

The first line, `watching PATH`, says that the watch is set; what changes from then on is told, one event a
line. A line `missed` says that changes may have come that nobody was told of, after a lost connection or
because this output was read too slowly: then look again. Ctrl-C ends it.

With -R the znode and all below it are watched for creation, deletion and new data; without it one znode,
for these and for children that come and go.

Exit codes: 0 after --count events, 1 refused by the server or session lost, 2 usage, 3 no server.";

/// Options of `farrier watch`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The znode; it need not exist yet
    #[arg(value_parser = PathParser)]
    path: String,

    /// Watch everything below it too
    #[arg(short = 'R', long)]
    recursive: bool,

    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// One JSON object a line: event, path, zxid
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionOptions,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    session::run("watch", &arguments.session, async |client, out| {
        let mut signals = StopSignals::listen().context("signals can't be handled")?;
        let watch = client.watch(&arguments.path);
        let mut watch = if arguments.recursive { watch.recursive() } else { watch }.await?;
        tell(arguments.json, out, "watching", Some(&arguments.path), None)?;
        let mut left = arguments.count;
        while left != Some(0) {
            let event = tokio::select! {
                event = watch.next() => event,
                // The session ends in order; the code is that of a program which the signal ends.
                signal = signals.next() => return Ok(signal.code()),
            };
            let Some(event) = event else {
                complain(
                    "farrier watch: error",
                    format_args!("{}: the session is lost, and the watch with it; run it again", arguments.path),
                );
                return Ok(FAILED);
            };
            match event {
                WatchEvent::Missed => tell(arguments.json, out, "missed", None, None)?,
                WatchEvent::Changed(change) => {
                    let zxid = change.zxid.map(|zxid| zxid.to_string());
                    tell(arguments.json, out, name(change.kind), Some(&change.path), zxid)?;
                    left = left.map(|left| left - 1);
                }
            }
        }
        Ok(0)
    })
}

pub(crate) const fn name(kind: EventType) -> &'static str {
    match kind {
        EventType::NodeCreated => "created",
        EventType::NodeDeleted => "deleted",
        EventType::NodeDataChanged => "changed",
        EventType::NodeChildrenChanged => "children",
    }
}

/// Prints a line at once.
fn tell(as_json: bool, out: &mut Out, event: &str, path: Option<&str>, zxid: Option<String>) -> anyhow::Result<()> {
    if as_json {
        out.json(&json!({"event": event, "path": path, "zxid": zxid}))?;
    } else {
        let style = match event {
            "missed" => WARNING,
            "watching" => FAINT,
            _ => GOOD,
        };
        let path = path.map(|path| format!(" {}", plain(path))).unwrap_or_default();
        let zxid = zxid.map(|zxid| format!("  {zxid}")).unwrap_or_default();
        out.line(format_args!("{}{path}{}", out.paint(style, event), out.paint(FAINT, zxid)))?;
    }
    out.flush()
}
