//! `farrier config`: a value that any client can read, with the values before it.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode, Stdio};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use farrier_client::{Client, Error as ClientError, Stat, Value, Zxid};
use farrier_recipes::{CONFIG_KEEP, ConfigStore, Earlier, Error, Expected};
use serde_json::{Value as Json, json};

use crate::input::DataOptions;
use crate::output::{FAILED, FAINT, Failure, Out, WARNING, complain};
use crate::path::PathParser;
use crate::session::{self, AclOption, SessionOptions};
use crate::signals::{self, StopSignals};
use crate::values::{base64, count, parse_zxid, quoted, stat_json, time};

const EXAMPLES: &str = "\
Examples:
  farrier config set /app/config threads=8
  farrier config get /app/config
  farrier config watch /app/config
  farrier config history /app/config
  farrier config rollback /app/config

The znode holds the bare value, for any client to read. Each update that is made here keeps the value that it
replaces, in the same transaction, below PATH/.history. What other tools write shows as a gap.";

const GET_EXAMPLES: &str = "\
Examples:
  farrier config get /app/config
  farrier config get /app/config --json

The value is written as it is; on a terminal a line break follows it if it has none. With --json the data is base64.

Exit codes: 0 done, 1 refused by the server, 2 usage, 3 no server.";

const SET_EXAMPLES: &str = "\
Examples:
  farrier config set /app/config threads=8
  farrier config set /app/config --file config.json --version 7
  farrier config set /app/config v1 --new
  farrier config set /app/config v2 --keep 0

The znode and what is missing above it are created, unless --version says that it is there. The value that is
replaced joins the history with the ACL that the znode has; the oldest beyond --keep go.

Exit codes: 0 done, 1 refused by the server or not known to be done, 2 usage, 3 no server.";

const WATCH_EXAMPLES: &str = "\
Examples:
  farrier config watch /app/config
  farrier config watch /app/config --count 1 --json

A line tells the value now, and another one each value that follows: its version and the value in quotes, or `none`
while there is no znode. Quick changes come as one; the versions show it. Ctrl-C ends it.

Exit codes: 0 after --count values, 1 refused by the server, 2 usage, 3 no server.";

const EDIT_EXAMPLES: &str = "\
Examples:
  farrier config edit /app/config

The value is put into a file for $VISUAL or $EDITOR (else vi), and set when the editor ends, if it was changed and
nobody else changed it meanwhile; otherwise the file is kept and named.

Exit codes: 0 done or unchanged, 1 refused by the server or not known to be done, 2 usage, 3 no server.";

const HISTORY_EXAMPLES: &str = "\
Examples:
  farrier config history /app/config
  farrier config history /app/config --json

A line for the current value and each earlier one that is kept, the newest first: the transaction that set it, by
which rollback and forget know it; its version; when it was set or, for earlier ones, replaced; its length; its
beginning. `gap` stands where values are missing that were written by other tools, or forgotten.

Exit codes: 0 done, 1 refused by the server, 2 usage, 3 no server.";

const ROLLBACK_EXAMPLES: &str = "\
Examples:
  farrier config rollback /app/config
  farrier config rollback /app/config --version 7

Makes the newest earlier value, or that of ID, the current one: as a new version, so that nothing is lost. IDs are
those of `farrier config history`. Without ID nothing is done if the value changes in this moment.

Exit codes: 0 done, 1 refused by the server or not known to be done, 2 usage or no such value, 3 no server.";

const FORGET_EXAMPLES: &str = "\
Examples:
  farrier config forget /app/config --all
  farrier config forget /app/config 0x100000005

Deletes earlier values, such as old secrets: those of the IDs that `farrier config history` lists, or with --all all
of them. Their bytes stay in the logs and snapshots of the servers until these are
purged.

Exit codes: 0 done, 1 refused by the server, 2 usage, 3 no server.";

/// Most characters of a value in a list.
const PREVIEW: usize = 60;

/// Options of `farrier config`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the value
    #[command(after_help = GET_EXAMPLES)]
    Get(Verb<Get>),
    /// Set the value, and keep the one that it replaces
    #[command(after_help = SET_EXAMPLES)]
    Set(Verb<Set>),
    /// Tell the value now and whenever it changes
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(Verb<Watch>),
    /// Change the value in an editor
    #[command(after_help = EDIT_EXAMPLES)]
    Edit(Verb<Edit>),
    /// List the value and those before it
    #[command(after_help = HISTORY_EXAMPLES)]
    History(Verb<History>),
    /// Make an earlier value the current one
    #[command(after_help = ROLLBACK_EXAMPLES)]
    Rollback(Verb<Rollback>),
    /// Delete earlier values
    #[command(after_help = FORGET_EXAMPLES)]
    Forget(Forget),
}

/// What a command is told, and the session that it gets.
#[derive(Debug, Args)]
struct Verb<T: Args> {
    #[command(flatten)]
    told: T,

    #[command(flatten)]
    session: SessionOptions,
}

/// The same commands within a session that is there already: those of the shell.
#[derive(Debug, Subcommand)]
pub(crate) enum InSession {
    /// Print the value of a configuration
    Get(Get),
    /// Set the value, and keep the one that it replaces
    Set(Set),
    /// Tell the value now and whenever it changes, until Ctrl-C
    Watch(Watch),
    /// Change the value in an editor
    Edit(Edit),
    /// List the value and those before it
    History(History),
    /// Make an earlier value the current one
    Rollback(Rollback),
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The znode
    #[arg(value_parser = PathParser)]
    path: String,

    /// One JSON object: path, data, stat
    #[arg(long)]
    json: bool,
}

/// How much of the past is kept.
#[derive(Clone, Debug, Args)]
struct Keep {
    /// Earlier values to keep; 0 keeps none of this update, and deletes none
    #[arg(long, value_name = "N", default_value_t = CONFIG_KEEP)]
    keep: usize,
}

impl Keep {
    fn store(&self, client: &Client, path: &str) -> ConfigStore {
        ConfigStore::new(client, path).keep(self.keep)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The znode
    #[arg(value_parser = PathParser)]
    path: String,

    #[command(flatten)]
    data: DataOptions,

    /// Only if the value has this version
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(0..))]
    version: Option<i32>,

    /// Only if there is no such znode
    #[arg(long, conflicts_with = "version")]
    new: bool,

    #[command(flatten)]
    keep: Keep,

    #[command(flatten)]
    acl: AclOption,

    /// One JSON object: path, stat
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The znode; it need not exist yet
    #[arg(value_parser = PathParser)]
    path: String,

    /// End after so many values
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// One JSON object a line: path, data, stat
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// The znode
    #[arg(value_parser = PathParser)]
    path: String,

    #[command(flatten)]
    keep: Keep,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// The znode
    #[arg(value_parser = PathParser)]
    path: String,

    /// One JSON object a line: id, version, data, and `set` or `replaced` in milliseconds; or `gap`
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The znode
    #[arg(value_parser = PathParser)]
    path: String,

    /// The earlier value, as in the first column of the history; without it the newest
    #[arg(value_parser = parse_id)]
    id: Option<Zxid>,

    /// Only if the current value has this version
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(0..))]
    version: Option<i32>,

    #[command(flatten)]
    keep: Keep,

    /// One JSON object: path, id of the earlier value, stat
    #[arg(long)]
    json: bool,
}

/// What the history calls a value.
fn parse_id(text: &str) -> Result<Zxid, String> {
    parse_zxid(text).map_err(|why| format!("{why}; `farrier config history` has the IDs in its first column"))
}

#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = false, args = ["ids", "all"])]
struct Forget {
    /// The znode
    #[arg(value_parser = PathParser)]
    path: String,

    /// Earlier values, as in the first column of the history
    #[arg(value_name = "ID", value_parser = parse_id)]
    ids: Vec<Zxid>,

    /// All earlier values
    #[arg(long)]
    all: bool,

    /// One JSON object: path, forgotten (how many)
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionOptions,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match &arguments.command {
        Command::Get(verb) => verb.run("config get", Get::execute),
        Command::Set(verb) => verb.run("config set", Set::execute),
        Command::Watch(verb) => verb.run_until_stopped(),
        Command::Edit(verb) => verb.run("config edit", async |edit, client, out| {
            // Ctrl-C is for the editor, in the same group of the terminal.
            let _caught = signals::catch_interrupt().context("signals can't be handled")?;
            edit.execute(client, out).await
        }),
        Command::History(verb) => verb.run("config history", History::execute),
        Command::Rollback(verb) => verb.run("config rollback", Rollback::execute),
        Command::Forget(forget) => forget.run(),
    }
}

impl<T: Args> Verb<T> {
    /// Runs it in a session of its own.
    fn run(&self, command: &str, execute: impl AsyncFnOnce(&T, &Client, &mut Out) -> anyhow::Result<()>) -> ExitCode {
        session::run(command, &self.session, async |client, out| execute(&self.told, client, out).await.map(|()| 0))
    }
}

impl InSession {
    /// Whether it goes on until it is stopped.
    pub(crate) const fn is_endless(&self) -> bool {
        matches!(self, Self::Watch(_))
    }

    /// Whether Ctrl-C is for the editor on the same terminal.
    pub(crate) const fn has_editor(&self) -> bool {
        matches!(self, Self::Edit(_))
    }

    pub(crate) async fn execute(&self, client: &Client, out: &mut Out) -> anyhow::Result<()> {
        match self {
            Self::Get(get) => get.execute(client, out).await,
            // The shell reads its commands there, or the keys.
            Self::Set(set) if set.data.is_standard_input() => {
                Err(Failure::usage("--file -: standard input is the shell's own; name a file"))
            }
            Self::Set(set) => set.execute(client, out).await,
            Self::Watch(watch) => watch.execute(client, out).await,
            Self::Edit(edit) => edit.execute(client, out).await,
            Self::History(history) => history.execute(client, out).await,
            Self::Rollback(rollback) => rollback.execute(client, out).await,
        }
    }
}

fn expected(version: Option<i32>) -> Expected {
    version.map_or(Expected::Any, Expected::Version)
}

fn value_json(path: &str, value: Option<&Value>) -> Json {
    json!({
        "path": path,
        "data": base64(value.map(|value| value.data.as_slice())),
        "stat": value.map(|value| stat_json(&value.stat)),
    })
}

impl Get {
    async fn execute(&self, client: &Client, out: &mut Out) -> anyhow::Result<()> {
        let value = self.value(client).await?;
        if self.json {
            return out.json(&value_json(&self.path, Some(&value)));
        }
        out.bytes(&value.data)?;
        if io::stdout().is_terminal() && !value.data.is_empty() && !value.data.ends_with(b"\n") {
            out.bytes(b"\n")?;
        }
        Ok(())
    }

    /// Whether the value is wanted as it is.
    pub(crate) const fn is_bare(&self) -> bool {
        !self.json
    }

    pub(crate) async fn value(&self, client: &Client) -> anyhow::Result<Value> {
        Ok(ConfigStore::new(client, &self.path).get().await?)
    }
}

/// Says what became of an update.
fn updated(out: &mut Out, as_json: Option<Json>, stat: &Stat) -> anyhow::Result<()> {
    match as_json {
        Some(object) => out.json(&object),
        None => out.line(format_args!("version {}", stat.version)),
    }
}

impl Set {
    async fn execute(&self, client: &Client, out: &mut Out) -> anyhow::Result<()> {
        let data = self.data.read()?;
        let data =
            data.ok_or_else(|| Failure::usage("no value: give it as DATA, or with --file FILE, - for standard input"))?;
        let expected = if self.new { Expected::Absent } else { expected(self.version) };
        let store = self.keep.store(client, &self.path).acl(&self.acl.or_open());
        let stat = store.set(data, expected).await.map_err(|error| self.too_long(error))?;
        updated(out, self.json.then(|| json!({"path": self.path, "stat": stat_json(&stat)})), &stat)
    }
}

impl Set {
    /// An update has two values to carry, of which whoever gave one sees only that.
    fn too_long(&self, error: Error) -> anyhow::Error {
        let is_too_long =
            matches!(&error, Error::Client(ClientError::Invalid { reason, .. }) if reason.contains("jute.maxbuffer"));
        let error = anyhow::Error::new(error);
        if is_too_long && self.keep.keep > 0 {
            return error
                .context("the value and the earlier one, which is kept, go in one request (--keep 0 keeps none)");
        }
        error
    }
}

impl Verb<Watch> {
    fn run_until_stopped(&self) -> ExitCode {
        session::run_renewing("config watch", &self.session, async |client, out| {
            let mut signals = StopSignals::listen().context("signals can't be handled")?;
            tokio::select! {
                done = self.told.execute(client, out) => done.map(|()| 0),
                // The session ends in order; the code is that of a program which the signal ends.
                signal = signals.next() => Ok(signal.code()),
            }
        })
    }
}

impl Watch {
    async fn execute(&self, client: &Client, out: &mut Out) -> anyhow::Result<()> {
        let mut watch = ConfigStore::new(client, &self.path).watch();
        let mut left = self.count;
        while left != Some(0) {
            let value = watch.next().await?;
            if self.json {
                out.json(&value_json(&self.path, value.as_ref()))?;
            } else {
                match value {
                    Some(Value { data, stat, .. }) => out.line(format_args!("{}  {}", stat.version, quoted(&data)))?,
                    None => out.line(out.paint(WARNING, "none"))?,
                }
            }
            out.flush()?;
            left = left.map(|left| left - 1);
        }
        Ok(())
    }
}

impl History {
    async fn execute(&self, client: &Client, out: &mut Out) -> anyhow::Result<()> {
        let history = ConfigStore::new(client, &self.path).history().await?;
        let Value { data, stat, .. } = &history.current;
        self.line(out, stat.mzxid, Some(stat.version), ("set", stat.mtime), data)?;
        for Earlier { id, data, version, replaced_at, gap } in &history.earlier {
            if *gap {
                if self.json {
                    out.json(&json!({"gap": true}))?;
                } else {
                    out.line(out.paint(WARNING, "gap"))?;
                }
            }
            self.line(out, *id, *version, ("replaced", *replaced_at), data)?;
        }
        Ok(())
    }

    fn line(
        &self,
        out: &mut Out,
        id: Zxid,
        version: Option<i32>,
        (event, at): (&str, i64),
        data: &[u8],
    ) -> anyhow::Result<()> {
        if self.json {
            let mut object = json!({"id": id.to_string(), "version": version, "data": base64(Some(data))});
            object[event] = at.into();
            return out.json(&object);
        }
        let version = version.map_or_else(|| "-".to_owned(), |version| version.to_string());
        let mut preview = quoted(data);
        if let Some((end, _)) = preview.char_indices().nth(PREVIEW) {
            preview.truncate(end);
            preview.push('…');
        }
        let length = count(data.len() as u64, "byte");
        let event = out.paint(FAINT, format_args!("{event} {}  {length}", time(at))).to_string();
        out.line(format_args!("{id}  version {version}  {event}  {preview}"))
    }
}

impl Rollback {
    async fn execute(&self, client: &Client, out: &mut Out) -> anyhow::Result<()> {
        let store = self.keep.store(client, &self.path);
        let (id, stat) = store.rollback(self.id, expected(self.version)).await?;
        let object = || json!({"path": self.path, "id": id.to_string(), "stat": stat_json(&stat)});
        updated(out, self.json.then(object), &stat)
    }
}

impl Forget {
    fn run(&self) -> ExitCode {
        session::run("config forget", &self.session, async |client, out| {
            let store = ConfigStore::new(client, &self.path);
            let mut forgotten = 0;
            let mut code = 0;
            if self.all {
                forgotten = store.forget_all().await?;
            }
            for id in &self.ids {
                if store.forget(*id).await? {
                    forgotten += 1;
                } else {
                    code = FAILED;
                    complain("farrier config forget: error", format_args!("{}: no earlier value {id}", self.path));
                }
            }
            if self.json {
                out.json(&json!({"path": self.path, "forgotten": forgotten}))?;
            } else {
                out.line(format_args!("forgot {}", count(forgotten as u64, "earlier value")))?;
            }
            Ok(code)
        })
    }
}

impl Edit {
    async fn execute(&self, client: &Client, out: &mut Out) -> anyhow::Result<()> {
        let store = self.keep.store(client, &self.path);
        let value = store.get().await?;
        let draft = Draft::new(&value.data)?;
        let file = draft.path.clone();
        // The session lives on meanwhile.
        let ended = tokio::task::spawn_blocking(move || edit(&file)).await.context("the editor's thread")?;
        if let Err(error) = ended {
            draft.remove();
            return Err(error);
        }
        let edited = draft.read()?;
        if edited == value.data {
            draft.remove();
            out.line("unchanged")?;
            return Ok(());
        }
        match store.set(&edited, Expected::Version(value.stat.version)).await {
            Ok(stat) => {
                draft.remove();
                updated(out, None, &stat)
            }
            Err(error) => Err(anyhow::Error::new(error).context(format!("your text is in {}", draft.path.display()))),
        }
    }
}

/// A file for the editor. It stays when the value could not be set.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn new(data: &[u8]) -> anyhow::Result<Self> {
        // Nobody else may read what may be a secret.
        let unique = farrier_recipes::Unique::draw().context("the system gives no random number")?;
        let path = std::env::temp_dir().join(format!("farrier-config-{}", unique.hex()));
        let written =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).and_then(|mut f| f.write_all(data));
        written.with_context(|| path.display().to_string())?;
        Ok(Self { path })
    }

    fn read(&self) -> anyhow::Result<Vec<u8>> {
        let read = DataOptions::of_file(&self.path).read()?;
        read.with_context(|| format!("{} can't be read", self.path.display()))
    }

    fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            complain("farrier config edit: warning", format_args!("{} stays: {error}", self.path.display()));
        }
    }
}

/// Runs the editor on a file.
fn edit(file: &Path) -> anyhow::Result<()> {
    let named = ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.trim().is_empty()));
    let editor = match named {
        Some(editor) => editor,
        None if io::stdin().is_terminal() => "vi".to_owned(),
        None => {
            return Err(Failure::usage(
                "there is no terminal for vi; VISUAL or EDITOR names an editor that needs none, and `farrier config set \
                 PATH --file FILE` sets what is in a file",
            ));
        }
    };
    // The variable may hold arguments, so a shell takes it apart.
    let status = Process::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(file)
        .stdin(Stdio::inherit())
        .status()
        .with_context(|| format!("the editor `{editor}` can't be run"))?;
    if !status.success() {
        bail!("the editor `{editor}` ended with {status}, so nothing was set; VISUAL or EDITOR names another one");
    }
    Ok(())
}
