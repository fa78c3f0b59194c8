//! Where lines come from: a terminal with an editor, or anything else line by line. Either has a thread of its own,
//! which hands over one line when it is asked for one.

use std::io::{self, BufRead as _, Read as _};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::Context as _;
use farrier_client::Client;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Editor, ExternalPrinter, Helper};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::command::Line;
use super::words::{LINE_MAX, at_cursor};
use crate::output::complain;
use crate::walk::join;

/// Commands that the history file keeps.
const HISTORY_MAX: usize = 1000;

/// Completions that are offered at once.
const CANDIDATES_MAX: usize = 1000;

/// What came instead of a line, or with it.
pub(super) enum Input {
    /// A line.
    Line(String),
    /// Ctrl-C: this line is not meant.
    Cancelled,
    /// There are no more.
    End,
    /// Nothing can be read.
    Failed(String),
}

/// The session whose znodes complete paths.
pub(super) type Shared = Arc<Mutex<Option<Client>>>;

/// Where lines come from.
pub(super) struct Lines {
    ask: SyncSender<String>,
    lines: mpsc::Receiver<Input>,
    /// Prints above the line that is being edited.
    above: Option<Box<dyn ExternalPrinter + Send>>,
}

impl Lines {
    /// A terminal, with completion from that session.
    pub(super) fn of_terminal(client: Shared) -> anyhow::Result<Self> {
        let config = Config::builder()
            .max_history_size(HISTORY_MAX)
            .context("a history of this size can't be kept")?
            .completion_type(CompletionType::List)
            .build();
        let mut editor: Editor<Help, FileHistory> =
            Editor::with_config(config).context("the terminal can't be used; `farrier shell < FILE` needs none")?;
        editor.set_helper(Some(Help { client, runtime: Handle::current() }));
        let above = editor.create_external_printer().context("the terminal can't be used")?;
        let (ask, asked) = sync_channel(1);
        let (found, lines) = mpsc::channel(1);
        let run = move || edit(editor, &asked, &found);
        thread::Builder::new().name("lines".into()).spawn(run).context("a thread can't be started")?;
        Ok(Self { ask, lines, above: Some(Box::new(above)) })
    }

    /// Standard input that is no terminal.
    pub(super) fn of_standard_input() -> anyhow::Result<Self> {
        let (ask, asked) = sync_channel(1);
        let (found, lines) = mpsc::channel(1);
        let run = move || read(&asked, &found);
        thread::Builder::new().name("lines".into()).spawn(run).context("a thread can't be started")?;
        Ok(Self { ask, lines, above: None })
    }

    /// Asks for a line, which [`Self::next`] then waits for.
    pub(super) fn ask(&self, prompt: &str) {
        // A thread that has ended said so.
        let _ = self.ask.send(prompt.to_owned());
    }

    /// The line that was asked for. Cancelling the call loses nothing.
    pub(super) async fn next(&mut self) -> Input {
        self.lines.recv().await.unwrap_or(Input::End)
    }

    /// Prints a line above the one that is being edited; false where there is no such thing.
    pub(super) fn print_above(&mut self, text: &str) -> bool {
        self.above.as_mut().is_some_and(|above| above.print(format!("{text}\n")).is_ok())
    }
}

/// Edits a line whenever it is asked for one.
fn edit(mut editor: Editor<Help, FileHistory>, asked: &Receiver<String>, found: &mpsc::Sender<Input>) {
    let file = history_file();
    if let Some(file) = &file
        && let Err(error) = editor.load_history(file)
        && !matches!(&error, ReadlineError::Io(e) if e.kind() == io::ErrorKind::NotFound)
    {
        complain("farrier shell: warning", format_args!("{}: the history can't be read: {error}", file.display()));
    }
    while let Ok(prompt) = asked.recv() {
        let input = match editor.readline(&prompt) {
            Ok(line) => {
                if is_kept(&line)
                    && editor.add_history_entry(&line).is_ok()
                    && let Some(file) = &file
                {
                    // Without a history file the session goes on all the same.
                    let _ = file.parent().map(std::fs::create_dir_all);
                    let _ = editor.append_history(file);
                }
                Input::Line(line)
            }
            Err(ReadlineError::Interrupted) => Input::Cancelled,
            Err(ReadlineError::Eof) => Input::End,
            Err(error) => Input::Failed(format!("the terminal can't be read: {error}")),
        };
        if found.blocking_send(input).is_err() {
            return;
        }
    }
}

/// Secrets are not written down.
fn is_kept(line: &str) -> bool {
    !line.trim().is_empty() && line.split_whitespace().next() != Some("addauth")
}

/// `FARRIER_HISTORY`, which may be empty for none, or a file in the user's state directory.
fn history_file() -> Option<PathBuf> {
    if let Some(file) = std::env::var_os("FARRIER_HISTORY") {
        return (!file.is_empty()).then(|| file.into());
    }
    let state = std::env::var_os("XDG_STATE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("farrier/shell_history"))
}

/// Reads a line whenever it is asked for one.
fn read(asked: &Receiver<String>, found: &mpsc::Sender<Input>) {
    let mut stdin = io::stdin().lock();
    while asked.recv().is_ok() {
        let mut line = Vec::new();
        let input = match stdin.by_ref().take(LINE_MAX as u64 + 1).read_until(b'\n', &mut line) {
            Ok(0) => Input::End,
            Ok(_) if line.len() > LINE_MAX => Input::Failed(format!("a line of more than {LINE_MAX} bytes")),
            Ok(_) => match String::from_utf8(line) {
                Ok(line) => Input::Line(line),
                Err(_) => Input::Failed("a line that is no text; `farrier set --file` takes any data".to_owned()),
            },
            Err(error) => Input::Failed(format!("standard input can't be read: {error}")),
        };
        if found.blocking_send(input).is_err() {
            return;
        }
    }
}

/// Completes commands and paths.
struct Help {
    client: Shared,
    runtime: Handle,
}

impl Help {
    /// The children of the znode in which a path ends that begin like it.
    fn paths(&self, begun: &str) -> Vec<String> {
        let Some((parent, name)) = begun.rsplit_once('/') else { return Vec::new() };
        let parent = if parent.is_empty() { "/" } else { parent };
        let client = self.client.lock().expect("nobody panics while it holds this lock").clone();
        let Some(client) = client else { return Vec::new() };
        // An error has no room here; it comes when the line is run.
        let mut names = self.runtime.block_on(client.list(parent).into_future()).unwrap_or_default();
        // Others would need quotes, or would move the cursor.
        let plain = |n: &String| !n.chars().any(|c| c.is_control() || c.is_whitespace() || c == '"' || c == '\'');
        names.retain(|n| n.starts_with(name) && plain(n));
        names.sort_unstable();
        names.truncate(CANDIDATES_MAX);
        names.iter().map(|name| join(parent, name)).collect()
    }
}

impl Completer for Help {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        cursor: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let (start, words_before) = at_cursor(line, cursor);
        let begun = &line[start..cursor];
        let helps = line.split_whitespace().next() == Some("help") && words_before == 1;
        let found = if begun.starts_with('/') {
            self.paths(begun)
        } else if words_before == 0 || helps {
            Line::names().into_iter().filter(|name| name.starts_with(begun)).collect()
        } else {
            Vec::new()
        };
        Ok((start, found))
    }
}

impl Hinter for Help {
    type Hint = String;
}

impl Highlighter for Help {}
impl Validator for Help {}
impl Helper for Help {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_kept() {
        assert!(is_kept("ls /"));
        assert!(!is_kept("  addauth digest u:p"));
        assert!(!is_kept("  "));
    }
}
