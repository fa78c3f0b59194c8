//! `farrier export`: a subtree as JSON lines.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use farrier_client::{Acl, Call, Client, Error, ErrorCode, Stat};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::output::{FAILED, Failure, Out, complain};
use crate::session::{self, SessionOptions};
use crate::values::{acl, base64, count};
use crate::walk::Walk;

const EXAMPLES: &str = "\
Examples:
  farrier export /app
  farrier export /app --to app.json
  farrier export /app --to app.json --resume

Each znode is a line: path (below PATH, `/` for PATH itself), data in base64, acl. Parents come before
children. Ephemerals are skipped and counted, and so is /zookeeper; whether a znode is a container or has a
TTL no server tells, so they become ordinary ones. Znodes that change meanwhile are exported as they are
when their turn comes: this is no snapshot.

--to writes to a file that must not exist. --resume goes on where an interrupted export to that file ended.

Exit codes: 0 done, 1 refused by the server or some znodes can't be read, 2 usage, 3 no server.";

/// Options of `farrier export`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The znode at the top
    path: String,

    /// Write to FILE instead of standard output
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,

    /// Go on with FILE where an export ended early
    #[arg(long, requires = "to")]
    resume: bool,

    #[command(flatten)]
    session: SessionOptions,
}

/// Znodes that are read ahead.
const AHEAD: usize = 64;

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    session::run("export", &arguments.session, async |client, out| {
        let mut target = Target::open(arguments, out)?;
        let root = arguments.path.trim_end_matches('/');
        let after = target.after.clone();
        let full = |path: &str| arguments.session.full_path(path);
        let wanted =
            |path: &str| full(path) != "/zookeeper" && after.as_deref().is_none_or(|after| may_hold(path, root, after));
        let bar = progress();
        let mut walk = Walk::choosing(client, &arguments.path, wanted);
        let mut export = Export { client, waiting: VecDeque::new(), exported: 0, ephemerals: 0, unreadable: 0 };
        while let Some(found) = walk.next().await? {
            bar.inc(1);
            let below = relative(&found.path, root);
            if after.as_deref().is_none_or(|after| components(below).gt(components(after))) {
                export.add(found.path, root, &mut target).await?;
            }
        }
        export.finish(root, &mut target).await?;
        target.end()?;
        bar.finish_and_clear();
        let Export { exported, ephemerals, unreadable, .. } = export;
        complain(
            "farrier export",
            format_args!("{} exported, {} skipped", count(exported, "znode"), count(ephemerals, "ephemeral")),
        );
        Ok(if unreadable == 0 { 0 } else { FAILED })
    })
}

/// A line on standard error that tells how far it is; nothing where that is no terminal.
pub(crate) fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {human_pos} znodes, {per_sec}, {elapsed}");
    ProgressBar::new_spinner().with_style(style.expect("the template is well formed"))
}

/// The path below the top; `/` for the top itself.
fn relative<'p>(path: &'p str, root: &str) -> &'p str {
    match path.strip_prefix(root) {
        Some("") | None => "/",
        Some(below) => below,
    }
}

/// Paths in the order of the walk compare by their components.
fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

/// Whether something behind `after` can stand at or below `path`.
fn may_hold(path: &str, root: &str, after: &str) -> bool {
    let below = relative(path, root);
    components(below).ge(components(after)) || components(after).zip(components(below)).all(|(a, b)| a == b)
}

/// Where the lines go.
enum Target<'o> {
    Out(&'o mut Out),
    File(io::BufWriter<File>, PathBuf),
}

/// The target, and the last path that it has already.
struct Opened<'o> {
    to: Target<'o>,
    after: Option<String>,
}

impl<'o> Target<'o> {
    fn open(arguments: &Arguments, out: &'o mut Out) -> anyhow::Result<Opened<'o>> {
        let Some(file) = &arguments.to else { return Ok(Opened { to: Self::Out(out), after: None }) };
        let shown = file.display();
        let open = if arguments.resume {
            OpenOptions::new().read(true).write(true).open(file)
        } else {
            OpenOptions::new().write(true).create_new(true).open(file)
        };
        let mut opened = open.map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::AlreadyExists => "; --resume goes on with it, if it is of an export that ended early",
                _ => "",
            };
            Failure::usage(format!("{shown}: {error}{hint}"))
        })?;
        let after = if arguments.resume { resume(&mut opened, file)? } else { None };
        Ok(Opened { to: Self::File(io::BufWriter::new(opened), file.clone()), after })
    }
}

impl Opened<'_> {
    fn line(&mut self, value: &Value) -> anyhow::Result<()> {
        match &mut self.to {
            Target::Out(out) => out.json(value),
            Target::File(file, path) => writeln!(file, "{value}").with_context(|| path.display().to_string()),
        }
    }

    /// Everything is there, and stays there.
    fn end(&mut self) -> anyhow::Result<()> {
        match &mut self.to {
            Target::Out(out) => out.flush(),
            Target::File(file, path) => {
                let sync = file.flush().and_then(|()| file.get_ref().sync_all());
                sync.with_context(|| path.display().to_string())
            }
        }
    }
}

/// The last whole line's path; what stands behind that line is cut off.
fn resume(file: &mut File, path: &Path) -> anyhow::Result<Option<String>> {
    let shown = path.display();
    let (mut last, mut end, mut line) = (None, 0, Vec::new());
    let mut reader = BufReader::new(&mut *file);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).with_context(|| shown.to_string())?;
        if read == 0 || !line.ends_with(b"\n") {
            break;
        }
        let value: Value = serde_json::from_slice(&line)
            .map_err(|error| Failure::usage(format!("{shown} is no export, at byte {end}: {error}")))?;
        let found = value.get("path").and_then(Value::as_str);
        let found = found.ok_or_else(|| Failure::usage(format!("{shown} is no export: no path at byte {end}")))?;
        last = Some(found.to_owned());
        end += read as u64;
    }
    drop(reader);
    file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).with_context(|| shown.to_string())?;
    Ok(last)
}

/// Data and stat, and the ACL, of a znode that was asked for.
type Asked = (String, Call<farrier_client::Value>, Call<(Vec<Acl<'static>>, Stat)>);

struct Export<'c> {
    client: &'c Client,
    waiting: VecDeque<Asked>,
    exported: u64,
    ephemerals: u64,
    unreadable: u64,
}

impl Export<'_> {
    async fn add(&mut self, path: String, root: &str, target: &mut Opened<'_>) -> anyhow::Result<()> {
        let (value, acl) = (self.client.get(&path).send(), self.client.get_acl(&path).send());
        self.waiting.push_back((path, value, acl));
        if self.waiting.len() < AHEAD { Ok(()) } else { self.one(root, target).await }
    }

    async fn finish(&mut self, root: &str, target: &mut Opened<'_>) -> anyhow::Result<()> {
        while !self.waiting.is_empty() {
            self.one(root, target).await?;
        }
        Ok(())
    }

    async fn one(&mut self, root: &str, target: &mut Opened<'_>) -> anyhow::Result<()> {
        let Some((path, value, list)) = self.waiting.pop_front() else { return Ok(()) };
        let (value, list) = match (value.await, list.await) {
            (Ok(value), Ok((list, _))) => (value, list),
            // Deleted since it was listed.
            (Err(error), _) | (_, Err(error)) if error.is_no_node() => return Ok(()),
            (Err(error), _) | (_, Err(error)) => return self.unreadable(error),
        };
        if value.stat.ephemeral_owner != 0 {
            self.ephemerals += 1;
            return Ok(());
        }
        self.exported += 1;
        let path = relative(&path, root);
        target.line(&json!({"path": path, "data": base64(value.data_or_null()), "acl": acl(&list)}))
    }

    /// Goes on without a znode that this client may not read.
    fn unreadable(&mut self, error: Error) -> anyhow::Result<()> {
        if error.code() != Some(ErrorCode::NoAuth) {
            return Err(error.into());
        }
        self.unreadable += 1;
        complain("farrier export: warning", format_args!("left out: {error}"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resuming_leaves_out_what_is_done_and_nothing_else() {
        // In the order of a walk.
        let all = ["/", "/a", "/a/b", "/a/b/c", "/a/d", "/a.b", "/b", "/b/a"];
        for (index, after) in all.iter().enumerate() {
            for (other, path) in all.iter().enumerate() {
                let behind = components(path).gt(components(after));
                assert_eq!(behind, other > index, "{path} behind {after}");
                let full = format!("/root{path}");
                let holds = may_hold(full.trim_end_matches('/'), "/root", after);
                let below = |p: &&&str| {
                    p.strip_prefix(path).is_some_and(|r| r.is_empty() || r.starts_with('/') || *path == "/")
                };
                let expected = all[index + 1..].iter().any(|p| below(&p));
                assert!(holds || !expected, "{path} holds something behind {after}");
            }
        }
    }
}
