//! `farrier multi`: several writes, done all or not at all.

use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use farrier_client::{Acl, NewZnode, Op, OpResult};
use farrier_recipes::guarded_multi;
use serde::Deserialize;
use serde_json::json;

use crate::guard::GuardOption;
use crate::input::DataOptions;
use crate::output::Failure;
use crate::session::{self, AclOption, SessionOptions};
use crate::values::{checked_acl, json_problem, plain, stat_json};

const EXAMPLES: &str = "\
Examples:
  farrier multi operations.json
  farrier multi - --json

FILE has one JSON object a line, empty lines aside; `-` is standard input:

  {\"op\": \"check\",  \"path\": \"/app/lock\", \"version\": 3}
  {\"op\": \"create\", \"path\": \"/app/job-\", \"text\": \"work\", \"sequential\": true}
  {\"op\": \"set\",    \"path\": \"/app/config\", \"data\": \"djI=\", \"version\": 7}
  {\"op\": \"delete\", \"path\": \"/app/old\"}

Data is `text`, or `data` in base64. `version` may be left out: then any will do. A create may have
`sequential`, `container`, `ttl` (milliseconds), and `acl` as in `world:anyone:r`. If one operation fails
nothing is done, and the message names it. With --guard, below `farrier lock`, nothing is done unless the
lock is held still.

Exit codes: 0 done, 1 refused by the server or not known to be done, 2 usage, 3 no server.";

/// Options of `farrier multi`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The operations; `-` for standard input
    #[arg(value_name = "FILE")]
    from: std::path::PathBuf,

    #[command(flatten)]
    guard: GuardOption,

    #[command(flatten)]
    acl: AclOption,

    /// One JSON object a line, for each operation: op, path, stat (null for what has none, and if the server tells none)
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionOptions,
}

/// A line of the file.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum Line {
    Check {
        path: String,
        version: Option<i32>,
    },
    Delete {
        path: String,
        version: Option<i32>,
    },
    Set {
        path: String,
        version: Option<i32>,
        text: Option<String>,
        data: Option<String>,
    },
    Create {
        path: String,
        text: Option<String>,
        data: Option<String>,
        #[serde(default)]
        sequential: bool,
        #[serde(default)]
        container: bool,
        ttl: Option<u64>,
        acl: Option<String>,
    },
}

/// An operation that owns what it says.
#[derive(Debug)]
struct Operation {
    line: Line,
    data: Vec<u8>,
    acl: Vec<Acl<'static>>,
}

impl Operation {
    fn read(text: &str, open: &[Acl<'static>]) -> Result<Self, String> {
        let line: Line = serde_json::from_str(text).map_err(|error| json_problem(&error))?;
        let (data, acl) = match &line {
            Line::Check { .. } | Line::Delete { .. } => (Vec::new(), Vec::new()),
            Line::Set { text: None, data: None, .. } => return Err("a set needs `text` or `data`".to_owned()),
            Line::Set { text, data, .. } => (bytes(text.as_deref(), data.as_deref())?, Vec::new()),
            Line::Create { text, data, acl, .. } => {
                let acl = acl.as_deref().map_or_else(|| Ok(open.to_vec()), checked_acl)?;
                (bytes(text.as_deref(), data.as_deref())?, acl)
            }
        };
        Ok(Self { line, data, acl })
    }

    fn op(&self) -> Op<'_> {
        match &self.line {
            Line::Check { path, version } => Op::check(path, *version),
            Line::Delete { path, version } => Op::delete(path, *version),
            Line::Set { path, version, .. } => Op::set(path, &self.data, *version),
            Line::Create { path, sequential, container, ttl, .. } => {
                let mut znode = NewZnode::new(path, &self.data).acl(&self.acl);
                if *sequential {
                    znode = znode.sequential();
                }
                if *container {
                    znode = znode.container();
                }
                if let Some(ttl) = ttl {
                    znode = znode.ttl(Duration::from_millis(*ttl));
                }
                Op::Create(znode)
            }
        }
    }
}

fn bytes(text: Option<&str>, data: Option<&str>) -> Result<Vec<u8>, String> {
    match (text, data) {
        (Some(_), Some(_)) => Err("`text` and `data` say the same thing twice".to_owned()),
        (Some(text), None) => Ok(text.as_bytes().to_vec()),
        (None, Some(data)) => STANDARD.decode(data).map_err(|error| format!("`data` is no base64: {error}")),
        (None, None) => Ok(Vec::new()),
    }
}

/// The operations of the file, one at least.
fn operations(arguments: &Arguments) -> anyhow::Result<Vec<Operation>> {
    let shown = arguments.from.display();
    let file = DataOptions::of_file(&arguments.from).read()?.unwrap_or_default();
    let text = String::from_utf8(file).map_err(|_| Failure::usage(format!("{shown}: it is no text")))?;
    let open = arguments.acl.or_open();
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let operations: Vec<Operation> = lines
        .map(|(line, number)| {
            Operation::read(line, &open).map_err(|why| Failure::usage(format!("{shown}, line {number}: {why}")))
        })
        .collect::<anyhow::Result<_>>()?;
    if operations.is_empty() {
        // Servers take one, and answer that nothing was done; whoever wrote the file meant something else.
        return Err(Failure::usage(format!("{shown}: there is no operation in it, so nothing was sent")));
    }
    Ok(operations)
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let ready = || Ok((operations(arguments)?, arguments.guard.node()?));
    session::run_with("multi", &arguments.session, ready, async |client, out, (operations, guard)| {
        let ops = operations.iter().map(Operation::op);
        let results = match guard {
            None => client.multi(ops).await?,
            Some(node) => guarded_multi(client, &node, ops).await?,
        };
        for (result, operation) in results.iter().zip(&operations) {
            let op = operation.op();
            let (verb, path, stat) = match result {
                OpResult::Created { path, stat } => ("create", path.as_str(), stat.as_ref()),
                OpResult::Deleted => ("delete", op.path(), None),
                OpResult::Set(stat) => ("set", op.path(), Some(stat)),
                OpResult::Checked => ("check", op.path(), None),
            };
            if arguments.json {
                out.json(&json!({"op": verb, "path": path, "stat": stat.map(stat_json)}))?;
            } else {
                out.line(format_args!("{verb} {}", plain(path)))?;
            }
        }
        Ok(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_strictly() {
        let open = [Acl::world(31)];
        let read = |text: &str| Operation::read(text, &open);
        let create = read(r#"{"op":"create","path":"/a","text":"x","acl":"world:anyone:r"}"#).expect("good");
        assert_eq!((create.data.as_slice(), create.acl[0].perms), (&b"x"[..], 1));
        assert_eq!(read(r#"{"op":"set","path":"/a","data":"djI="}"#).expect("good").data, b"v2");
        for wrong in [
            r#"{"op":"set","path":"/a"}"#,
            r#"{"op":"set","path":"/a","text":"x","data":"eA=="}"#,
            r#"{"op":"set","path":"/a","data":"?"}"#,
            r#"{"op":"delete","path":"/a","verison":1}"#,
            r#"{"op":"destroy","path":"/a"}"#,
            r#"{"op":"create","path":"/a","acl":"x"}"#,
            r#"{"op":"create","path":"/a","acl":"digest:me:password:r"}"#,
            "[]",
        ] {
            read(wrong).expect_err(wrong);
        }
    }
}
