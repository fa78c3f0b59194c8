//! `farrier export`: a subtree as JSON lines. The last line says that the others are all; without it nobody would see
//! that an export was cut off.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use farrier_client::{Acl, Call, Client, Stat};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::output::{Failure, Out, complain};
use crate::path::PathParser;
use crate::session::{self, SessionOptions};
use crate::values::{acl_exact, base64, count, is_masked, json_problem};
use crate::walk::Walk;

const EXAMPLES: &str = "\
Examples:
  farrier export /app
  farrier export /app --to app.json
  farrier export /app --to app.json --resume

Each znode is a line: path (below PATH, `/` for PATH itself), data in base64, acl (a list of scheme, id and
perms, a number). Servers show the digests in an ACL only to who may administer the znode; to anybody else the
export is refused, unless --no-acl leaves all ACLs out: then the import has to give one. Parents come before
children. Ephemerals are skipped and counted, and so is /zookeeper; PATH may not be that, nor below it. Whether a
znode is a container or has a TTL no server tells, so they become ordinary ones. Znodes that change meanwhile are
exported as they are when their turn comes: this is no snapshot. The last
line, {\"end\":true,\"znodes\":N}, says that the export is whole; `farrier import` refuses one without it.

--to writes to FILE.part, which becomes FILE when it is whole; FILE must not exist. --resume goes on where an
interrupted export to FILE ended; without it, the export begins anew.

Exit codes: 0 done, 1 refused by the server (some znode can't be read, say), 2 usage, 3 no server.";

/// Options of `farrier export`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The znode at the top
    #[arg(value_parser = PathParser)]
    path: String,

    /// Write to FILE instead of standard output, by way of FILE.part
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,

    /// Go on where an export to FILE ended early
    #[arg(long, requires = "to")]
    resume: bool,

    /// Leave the ACLs out, for an import with --acl
    #[arg(long)]
    no_acl: bool,

    #[command(flatten)]
    session: SessionOptions,
}

/// Znodes that are read ahead.
const AHEAD: usize = 64;

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let full = |path: &str| arguments.session.full_path(path);
    let may_be = || match full(&arguments.path) {
        own if is_servers_own(&own) => Err(Failure::usage(format!(
            "{own}: what is at and below /zookeeper is the servers' own, and neither exported nor imported"
        ))),
        _ => Ok(()),
    };
    session::run_with("export", &arguments.session, may_be, async |client, out, ()| {
        let mut target = Target::open(arguments, out)?;
        let root = arguments.path.trim_end_matches('/');
        let after = target.after.clone();
        let left_out = Cell::new(false);
        let wanted = |path: &str| {
            if is_servers_own(&full(path)) {
                left_out.set(true);
                return false;
            }
            after.as_deref().is_none_or(|after| may_hold(path, root, after))
        };
        let bar = progress();
        let mut walk = Walk::choosing(client, &arguments.path, wanted);
        let before = target.before;
        let asks_acl = !arguments.no_acl;
        let mut export = Export { client, asks_acl, waiting: VecDeque::new(), exported: 0, ephemerals: 0 };
        while let Some(found) = walk.next().await? {
            bar.inc(1);
            let below = relative(&found.path, root);
            if after.as_deref().is_none_or(|after| components(below).gt(components(after))) {
                export.add(found.path, root, &mut target).await?;
            }
        }
        export.finish(root, &mut target).await?;
        target.end(before + export.exported)?;
        bar.finish_and_clear();
        let Export { exported, ephemerals, .. } = export;
        let and = if left_out.get() { " and /zookeeper" } else { "" };
        complain(
            "farrier export",
            format_args!("{} exported, {}{and} skipped", count(exported, "znode"), count(ephemerals, "ephemeral")),
        );
        Ok(0)
    })
}

/// Whether the servers keep that themselves; the path is theirs, whatever the chroot. An import leaves it out as well.
pub(crate) fn is_servers_own(full: &str) -> bool {
    full == "/zookeeper" || full.starts_with("/zookeeper/")
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
    File(io::BufWriter<File>, Place),
}

/// A file, and the name that it has until it is whole.
struct Place {
    part: PathBuf,
    file: PathBuf,
}

/// The target, and what it has already: how many znodes, up to which path.
struct Opened<'o> {
    to: Target<'o>,
    before: u64,
    after: Option<String>,
}

impl<'o> Target<'o> {
    fn open(arguments: &Arguments, out: &'o mut Out) -> anyhow::Result<Opened<'o>> {
        let Some(file) = &arguments.to else { return Ok(Opened { to: Self::Out(out), before: 0, after: None }) };
        let place = Place { part: with_suffix(file, ".part"), file: file.clone() };
        let failed = |path: &Path, error: &io::Error| Failure::usage(format!("{}: {error}", path.display()));
        if file.symlink_metadata().is_ok() {
            if !arguments.resume {
                return Err(Failure::usage(format!(
                    "{0} is there already, and nothing is overwritten; --resume goes on with it, if an export to it ended early",
                    file.display()
                )));
            }
            if place.part.symlink_metadata().is_ok() {
                return Err(Failure::usage(format!(
                    "{0} and {1} are both there, and either may be what is to be resumed: remove the one that is not",
                    file.display(),
                    place.part.display()
                )));
            }
            // Of somebody who sent standard output to it. What has an end stays what it is.
            let mut whole = OpenOptions::new().read(true).write(true).open(file).map_err(|e| failed(file, &e))?;
            kept(&mut whole, file)?;
            fs::rename(file, &place.part).map_err(|e| failed(file, &e))?;
        }
        let mut open = OpenOptions::new();
        let open = open.read(true).write(true).create(!arguments.resume).truncate(!arguments.resume);
        let mut opened = open.open(&place.part).map_err(|e| failed(&place.part, &e))?;
        let (before, after) = if arguments.resume { kept(&mut opened, &place.part)? } else { (0, None) };
        Ok(Opened { to: Self::File(io::BufWriter::new(opened), place), before, after })
    }
}

/// A path with something behind its last name.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl Opened<'_> {
    fn line(&mut self, value: &Value) -> anyhow::Result<()> {
        match &mut self.to {
            Target::Out(out) => out.json(value),
            Target::File(file, place) => writeln!(file, "{value}").with_context(|| place.part.display().to_string()),
        }
    }

    /// All znodes are there: says so, and sees to it that this stays true.
    fn end(&mut self, znodes: u64) -> anyhow::Result<()> {
        self.line(&json!({"end": true, "znodes": znodes}))?;
        match &mut self.to {
            Target::Out(out) => out.flush(),
            Target::File(file, Place { part, file: name }) => {
                let sync = file.flush().and_then(|()| file.get_ref().sync_all());
                sync.with_context(|| part.display().to_string())?;
                let renamed = fs::rename(&part, &name).and_then(|()| {
                    let dir = name.parent().filter(|dir| !dir.as_os_str().is_empty());
                    File::open(dir.unwrap_or_else(|| Path::new(".")))?.sync_all()
                });
                renamed.with_context(|| name.display().to_string())
            }
        }
    }
}

/// The znodes that a part of an export has, and the path of the last; what stands behind the last whole line is cut off.
fn kept(file: &mut File, path: &Path) -> anyhow::Result<(u64, Option<String>)> {
    let shown = path.display();
    let (mut znodes, mut last, mut end, mut line) = (0_u64, None, 0, Vec::new());
    let mut reader = BufReader::new(&mut *file);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).with_context(|| shown.to_string())?;
        if read == 0 || !line.ends_with(b"\n") {
            break;
        }
        let number = znodes + 1;
        let value: Value = serde_json::from_slice(&line).map_err(|error| {
            Failure::usage(format!("{shown} is no export: line {number}: {}", json_problem(&error)))
        })?;
        if value.get("end").is_some() {
            return Err(Failure::usage(format!(
                "{shown} is whole: line {number} is its end, and there is nothing to resume"
            )));
        }
        let found = value.get("path").and_then(Value::as_str);
        let found = found.ok_or_else(|| Failure::usage(format!("{shown} is no export: line {number} has no path")))?;
        last = Some(found.to_owned());
        znodes = number;
        end += read as u64;
    }
    drop(reader);
    file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).with_context(|| shown.to_string())?;
    Ok((znodes, last))
}

/// Data and stat, and the ACL if that is wanted, of a znode that was asked for.
type Asked = (String, Call<farrier_client::Value>, Option<Call<(Vec<Acl<'static>>, Stat)>>);

struct Export<'c> {
    client: &'c Client,
    asks_acl: bool,
    waiting: VecDeque<Asked>,
    exported: u64,
    ephemerals: u64,
}

impl Export<'_> {
    async fn add(&mut self, path: String, root: &str, target: &mut Opened<'_>) -> anyhow::Result<()> {
        let value = self.client.get(&path).send();
        let acl = self.asks_acl.then(|| self.client.get_acl(&path).send());
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
        let list = async {
            match list {
                Some(list) => list.await.map(|(list, _)| Some(list)),
                None => Ok(None),
            }
        };
        let (value, list) = match (value.await, list.await) {
            (Ok(value), Ok(list)) => (value, list),
            // Deleted since it was listed.
            (Err(error), _) | (_, Err(error)) if error.is_no_node() => return Ok(()),
            // One that may not be read ends it, as in the walk: what has an end has everything.
            (Err(error), _) | (_, Err(error)) => return Err(error.into()),
        };
        if value.stat.ephemeral_owner != 0 {
            self.ephemerals += 1;
            return Ok(());
        }
        if list.as_deref().is_some_and(is_masked) {
            // Whoever imported that would lock everybody out.
            bail!(
                "{path}: its ACL has digests, which servers show only to who may administer it; say who that is with \
                 --auth-file, or leave ACLs out with --no-acl"
            );
        }
        self.exported += 1;
        let mut line = json!({"path": relative(&path, root), "data": base64(value.data_or_null())});
        if let Some(list) = list {
            line["acl"] = acl_exact(&list);
        }
        target.line(&line)
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
