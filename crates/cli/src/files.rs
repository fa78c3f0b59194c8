//! Files and directories that are looked at without a server: `FILE|DIR…` on the command line.

mod disk;
mod report;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use farrier_proto::Zxid;
use farrier_storage::segment::apache_zxid;
use farrier_storage::verify::name_before_aside;

pub(crate) use disk::ReadOnly;
pub(crate) use report::Report;

use crate::output::{Failure, tell};
use crate::server::load_file;

/// The two kinds of files that hold history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Log,
    Snapshot,
}

impl Kind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Snapshot => "snapshot",
        }
    }

    /// The zxid in a file's name, also of one that was moved aside.
    pub(crate) fn zxid(self, name: &str) -> Option<Zxid> {
        apache_zxid(name_before_aside(name), self.prefix())
    }

    /// Why what has another name is no file of this kind. Only a snapshot's name tells up to which transaction it goes.
    pub(crate) fn misnamed(self, file: &Path) -> Option<String> {
        let name = file.file_name()?.to_str()?;
        if self == Self::Log || self.zxid(name).is_some() || !file.exists() || file.is_dir() {
            return None;
        }
        let hint = if Self::Log.zxid(name).is_some() { "; this is a log: try `farrier log`" } else { "" };
        let shown = file.display();
        Some(format!("{shown}: not the name of a snapshot; expected snapshot.ZXID, as in snapshot.100000002{hint}"))
    }
}

/// Files of one directory, in the order of the zxids in their names.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) disk: ReadOnly,
    pub(crate) names: Vec<String>,
    /// These are all of the directory's files of that kind.
    pub(crate) whole: bool,
}

/// Finds what the arguments name: files as they are, and of directories all files of a kind by their
/// names. A directory may be a data directory or its `version-2`, or hold the zoo.cfg that names one.
pub(crate) fn find(arguments: &[PathBuf], kind: Kind) -> anyhow::Result<Vec<Group>> {
    let (groups, mut wrong) = find_each(arguments, kind);
    if wrong.is_empty() { Ok(groups) } else { Err(wrong.swap_remove(0)) }
}

/// The same for what is looked at each by itself: what some arguments name, and why others name nothing.
pub(crate) fn find_each(arguments: &[PathBuf], kind: Kind) -> (Vec<Group>, Vec<anyhow::Error>) {
    let mut found = BTreeMap::new();
    let mut wrong: Vec<_> = arguments.iter().filter_map(|argument| look(argument, kind, &mut found).err()).collect();
    let mut groups = Vec::with_capacity(found.len());
    for (dir, (mut names, whole)) in found {
        names.sort_by_key(|name| (kind.zxid(name), name.clone()));
        match ReadOnly::open(&dir) {
            Ok(disk) => groups.push(Group { disk, names, whole }),
            Err(error) => wrong.push(error),
        }
    }
    (groups, wrong)
}

/// Tells of arguments that name nothing, each by itself; the exit code if all else is well.
pub(crate) fn tell_of(verb: &str, wrong: &[anyhow::Error]) -> u8 {
    wrong.iter().map(|error| tell(&format!("farrier {verb}: error"), error)).max().unwrap_or(0)
}

/// Adds what an argument names.
fn look(argument: &Path, kind: Kind, found: &mut BTreeMap<PathBuf, (Vec<String>, bool)>) -> anyhow::Result<()> {
    let shown = argument.display();
    let metadata = argument.metadata().map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
    if metadata.is_dir() {
        let dir = configured(argument, kind).unwrap_or_else(|| argument.to_owned());
        let below = dir.join("version-2");
        let dir = if below.is_dir() { below } else { dir };
        let names = names(&dir, kind)?;
        if names.is_empty() {
            return Err(Failure::usage(format!(
                "{}: there is no {}.* here{}",
                dir.display(),
                kind.prefix(),
                match kind {
                    Kind::Log => "; is dataLogDir another directory?",
                    Kind::Snapshot => "; is dataDir another directory?",
                },
            )));
        }
        found.insert(dir, (names, true));
        return Ok(());
    }
    let name = argument.file_name().and_then(|n| n.to_str());
    let name = name.ok_or_else(|| Failure::usage(format!("{shown}: this name is no text")))?.to_owned();
    if let Some(why) = kind.misnamed(argument) {
        return Err(Failure::usage(why));
    }
    let dir = match argument.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    };
    let (names, whole) = found.entry(dir).or_default();
    if !*whole && !names.contains(&name) {
        names.push(name);
    }
    Ok(())
}

/// Where the zoo.cfg in a directory says that these files are, as `farrier init` makes one. A data directory is what it is,
/// whatever lies beside it.
fn configured(argument: &Path, kind: Kind) -> Option<PathBuf> {
    let file = argument.join("zoo.cfg");
    if argument.join("version-2").is_dir()
        || !file.is_file()
        || names(argument, kind).is_ok_and(|names| !names.is_empty())
    {
        return None;
    }
    // Whatever is wrong with it is for `farrier server --check` to say; here it only names no directory.
    let config = load_file(&file, &[]).ok()?.config;
    Some(match kind {
        Kind::Log => config.data_log_dir,
        Kind::Snapshot => config.data_dir,
    })
}

/// Why a path leads nowhere: that nothing is there is claimed only where the system says so.
pub(crate) fn unfound(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("{} does not exist", path.display()),
        _ => format!("{}: {error}", path.display()),
    }
}

fn names(dir: &Path, kind: Kind) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in dir.read_dir().with_context(|| dir.display().to_string())? {
        let entry = entry.with_context(|| dir.display().to_string())?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if apache_zxid(&name, kind.prefix()).is_some() && entry.path().is_file() {
            names.push(name);
        }
    }
    Ok(names)
}
