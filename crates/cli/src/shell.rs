//! `farrier shell`: commands one after the other, in one session. They are zkCli's, under their names.

mod command;
mod execute;
mod quota;
mod terminal;
mod watches;
mod words;

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::Args;
use farrier_client::SessionState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::InSession;
use crate::output::{Failure, Out, READER_GONE, USAGE, complain, conclude, print, tell};
use crate::session::{self, SessionOptions};
use command::{Command, Line, Switch};
use execute::Execution;
use terminal::{Input, Lines, Shared};
use watches::Watches;

const EXAMPLES: &str = "\
Examples:
  farrier shell
  farrier shell --server zk1:2181,zk2:2181/app
  farrier shell -- get -s /app/config

The commands are those of ZooKeeper's zkCli, with its flags: `help` lists them; and `config get`, `set`, `watch`,
`edit`, `history` and `rollback` are those of `farrier config`. On a terminal they and the paths
of znodes are completed with the Tab key, the last ones come back with the arrow keys, watches are told above
the line that is being edited, and Ctrl-C ends the command that runs. The history is kept in FARRIER_HISTORY, or in
~/.local/state/farrier/shell_history; `addauth` is left out.

From a file or a pipe it takes one command a line, without a prompt, and goes on behind one that fails; lines
that begin with # are left out. `deleteall` asks on a terminal only.

Exit codes: 0 all were done, otherwise that of the last command that failed: 1 refused by the server or not known
to be done, 2 usage, 3 no server. On a terminal 0.";

/// Options of `farrier shell`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    session: SessionOptions,

    /// Run this command and leave
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Commands that `history` prints.
const HISTORY_SHOWN: usize = 11;

/// Commands that `redo` finds.
const HISTORY_MAX: usize = 1000;

/// Code of a program that a signal ended, besides the signal's number.
const BY_SIGNAL: u8 = 128;

/// Numbers of the signals.
const INTERRUPT: u8 = 2;
const TERMINATE: u8 = 15;

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let result = session::runtime().and_then(|runtime| {
        let result = runtime.block_on(live(arguments));
        // A thread may wait for a line that nobody wants any more.
        runtime.shutdown_background();
        result
    });
    conclude("shell", result)
}

async fn live(arguments: &Arguments) -> anyhow::Result<u8> {
    let on_terminal = arguments.command.is_empty() && io::stdin().is_terminal() && io::stdout().is_terminal();
    let mut shell = Shell {
        session: arguments.session.clone(),
        client: Shared::default(),
        state: None,
        watches: Watches::default(),
        tells_watches: true,
        history: History::default(),
        on_terminal,
        signals: Signals::new(on_terminal)?,
    };
    shell.connect(None).await?;
    let code = if arguments.command.is_empty() {
        shell.converse().await?
    } else {
        shell.run_words(&arguments.command, "").await.code
    };
    shell.close().await;
    Ok(code)
}

/// The signals that are not left to the system.
struct Signals {
    /// On a terminal Ctrl-C ends a command, not the shell.
    interrupt: Option<Signal>,
    terminate: Signal,
}

impl Signals {
    fn new(on_terminal: bool) -> io::Result<Self> {
        let interrupt = on_terminal.then(|| signal(SignalKind::interrupt())).transpose()?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for one; returns its number.
    async fn next(&mut self) -> u8 {
        let interrupt = async {
            match &mut self.interrupt {
                Some(interrupt) => interrupt.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt => INTERRUPT,
            _ = self.terminate.recv() => TERMINATE,
        }
    }
}

/// What came of a command.
struct Done {
    code: u8,
    /// The shell is to end.
    leaves: bool,
}

impl Done {
    const fn with(code: u8) -> Self {
        Self { code, leaves: false }
    }
}

/// The last lines that were run, by their numbers from 0 on.
#[derive(Default)]
struct History {
    /// How many there were.
    count: usize,
    /// The newest of them.
    lines: VecDeque<String>,
}

impl History {
    fn push(&mut self, line: &str) {
        if self.lines.len() == HISTORY_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
        self.count += 1;
    }

    fn get(&self, number: usize) -> Option<&str> {
        let first = self.count - self.lines.len();
        self.lines.get(number.checked_sub(first)?).map(String::as_str)
    }
}

struct Shell {
    session: SessionOptions,
    /// `None` behind `close`.
    client: Shared,
    state: Option<watch::Receiver<SessionState>>,
    watches: Watches,
    tells_watches: bool,
    /// Lines in the order in which they were run.
    history: History,
    on_terminal: bool,
    signals: Signals,
}

impl Shell {
    /// Reads and runs lines until there are no more; returns the code of the last that failed.
    async fn converse(&mut self) -> anyhow::Result<u8> {
        let mut lines =
            if self.on_terminal { Lines::of_terminal(self.client.clone())? } else { Lines::of_standard_input()? };
        let mut code = 0;
        let mut number = 0_u64;
        loop {
            self.tell_watches(&mut lines)?;
            lines.ask(&self.prompt());
            number += 1;
            let line = match self.wait(&mut lines).await? {
                Input::Line(line) => line,
                Input::Cancelled => continue,
                Input::End => break,
                Input::Failed(why) => {
                    return Err(Failure::usage(if self.on_terminal { why } else { format!("line {number}: {why}") }));
                }
            };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let place = (!self.on_terminal).then(|| format!("line {number}: "));
            let done = self.run_line(line, place.as_deref().unwrap_or_default()).await;
            if done.code != 0 {
                code = done.code;
            }
            if done.leaves {
                break;
            }
        }
        // What the last commands caused is told as well.
        self.tell_watches(&mut lines)?;
        Ok(if self.on_terminal && code != BY_SIGNAL + TERMINATE { 0 } else { code })
    }

    /// Waits for a line, and tells meanwhile what happens.
    async fn wait(&mut self, lines: &mut Lines) -> anyhow::Result<Input> {
        loop {
            let text = tokio::select! {
                // In this order: whoever pipes commands gets what a line caused before the next is run.
                biased;
                event = self.watches.next() => event,
                state = next_state(&mut self.state) => match state {
                    // Only people want to know.
                    Some(state) if self.on_terminal => state,
                    Some(_) => continue,
                    None => {
                        self.state = None;
                        continue;
                    }
                },
                input = lines.next() => return Ok(input),
                number = self.signals.next() => {
                    if number == INTERRUPT {
                        // There is no command to end any more; a line that is being edited has its own Ctrl-C.
                        continue;
                    }
                    self.close().await;
                    return Err(Failure::with_code(BY_SIGNAL + number, "ended by a signal"));
                }
            };
            self.say(&text, lines)?;
        }
    }

    /// Tells what watches have told so far.
    fn tell_watches(&mut self, lines: &mut Lines) -> anyhow::Result<()> {
        while let Some(event) = self.watches.take() {
            self.say(&event, lines)?;
        }
        Ok(())
    }

    fn say(&self, text: &str, lines: &mut Lines) -> anyhow::Result<()> {
        if self.tells_watches && !lines.print_above(text) {
            let mut out = Out::open();
            out.line(text)?;
            out.flush()?;
        }
        Ok(())
    }

    fn prompt(&self) -> String {
        let state = match self.state.as_ref().map(|state| state.borrow().clone()) {
            None | Some(SessionState::Closed | SessionState::AuthFailed) => "CLOSED",
            Some(SessionState::Connected { read_only: true, .. }) => "CONNECTEDREADONLY",
            Some(SessionState::Connected { .. }) => "CONNECTED",
            Some(SessionState::Connecting | SessionState::Suspended { .. } | SessionState::Expired { .. }) => {
                "CONNECTING"
            }
        };
        format!("[zk: {}({state}) {}] ", self.session.server(), self.history.count)
    }

    /// Runs a line; `place` says in messages where it stands.
    async fn run_line(&mut self, line: &str, place: &str) -> Done {
        match words::split(line) {
            Ok(words) => {
                let done = self.run_words(&words, place).await;
                self.history.push(line);
                done
            }
            Err(unclosed) => {
                complain("farrier shell: error", format_args!("{place}{unclosed}"));
                Done::with(USAGE)
            }
        }
    }

    async fn run_words(&mut self, words: &[String], place: &str) -> Done {
        let command = match self.read(words, place) {
            Ok(command) => command,
            Err(done) => return done,
        };
        if matches!(command, Command::Quit) {
            return Done { code: 0, leaves: true };
        }
        let mut out = Out::open();
        let result = self.execute(command, &mut out).await;
        // What was printed before a failure is true.
        let flushed = out.flush();
        drop(out);
        match result.and(flushed) {
            Ok(()) => Done::with(0),
            Err(error) => {
                let error =
                    if place.is_empty() { error } else { error.context(place.trim_end_matches(": ").to_owned()) };
                let code = tell("farrier shell: error", &error);
                Done { code, leaves: [READER_GONE, BY_SIGNAL + TERMINATE].contains(&code) }
            }
        }
    }

    /// The command that words are, with `redo` replaced by what it stands for; or what came of words that are none.
    fn read(&self, words: &[String], place: &str) -> Result<Command, Done> {
        let refuse = |why: &str| {
            complain("farrier shell: error", format_args!("{place}{why}"));
            Done::with(USAGE)
        };
        let line = Line::read(words).map_err(|error| {
            let text = error.render().to_string();
            if error.use_stderr() {
                return refuse(text.trim_start_matches("error: ").trim_end());
            }
            // Help is an error in name only.
            Done::with(u8::from(print(&text).is_err()))
        })?;
        let Command::Redo(redo) = line.command else { return Ok(line.command) };
        match self.history.get(redo.number).map(|line| words::split(line).unwrap_or_default()) {
            Some(words) if words.first().is_some_and(|word| word != "redo") => self.read(&words, place),
            Some(_) => Err(refuse(&format!("command {} is a redo itself", redo.number))),
            None => Err(refuse(&format!("there is no command {}; see `history`", redo.number))),
        }
    }

    async fn execute(&mut self, command: Command, out: &mut Out) -> anyhow::Result<()> {
        match command {
            Command::Connect(connect) => self.connect(connect.server.as_deref()).await,
            Command::Close => {
                self.close().await;
                Ok(())
            }
            Command::History => {
                for number in self.history.count.saturating_sub(HISTORY_SHOWN)..self.history.count {
                    out.line(format_args!("{number} - {}", self.history.get(number).unwrap_or_default()))?;
                }
                Ok(())
            }
            Command::Printwatches(printwatches) => match printwatches.on {
                None => out.line(format_args!("printwatches is {}", if self.tells_watches { "on" } else { "off" })),
                Some(switch) => {
                    self.tells_watches = switch == Switch::On;
                    Ok(())
                }
            },
            Command::Version => out.line(format_args!("farrier {}", env!("CARGO_PKG_VERSION"))),
            command => {
                let client = self.client.lock().expect("nobody panics while it holds this lock").clone();
                let none = || Failure::no_server("not connected; `connect`, or `connect HOST:PORT`, changes that");
                let client = client.ok_or_else(none)?;
                let mut execution = Execution {
                    client: &client,
                    out,
                    watches: &mut self.watches,
                    session: &self.session,
                    asks: self.on_terminal,
                };
                let recipe = match &command {
                    Command::Config(config) => config.recipe.as_ref(),
                    _ => None,
                };
                let is_endless = recipe.is_some_and(InSession::is_endless);
                let has_editor = recipe.is_some_and(InSession::has_editor);
                let mut run = std::pin::pin!(execution.run(command));
                loop {
                    tokio::select! {
                        result = &mut run => return result,
                        number = self.signals.next() => match number {
                            INTERRUPT if is_endless => return Ok(()),
                            INTERRUPT if has_editor => {}
                            _ => {
                                let why = "ended by a signal; what was sent to the server may be done all the same";
                                return Err(Failure::with_code(BY_SIGNAL + number, why));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Ends the session and begins another one, with those servers from now on.
    async fn connect(&mut self, server: Option<&str>) -> anyhow::Result<()> {
        self.close().await;
        if let Some(server) = server {
            self.session = self.session.at(server);
        }
        let client = self.session.connect("shell", true).await?;
        let mut state = client.session();
        state.mark_unchanged();
        self.state = Some(state);
        *self.client.lock().expect("nobody panics while it holds this lock") = Some(client);
        Ok(())
    }

    async fn close(&mut self) {
        self.watches.clear();
        self.state = None;
        let client = self.client.lock().expect("nobody panics while it holds this lock").take();
        if let Some(client) = client {
            // If this is lost, the session ends by its timeout.
            let _ = client.close().await;
        }
    }
}

/// The next change of the session's state, in words; `None` when there will be no more.
async fn next_state(state: &mut Option<watch::Receiver<SessionState>>) -> Option<String> {
    let Some(receiver) = state else { return std::future::pending().await };
    receiver.changed().await.ok()?;
    Some(match &*receiver.borrow_and_update() {
        SessionState::Connecting => "SESSION:: looking for a server".to_owned(),
        SessionState::Connected { session, server, read_only } => {
            let how = if *read_only { ", which is read-only" } else { "" };
            format!("SESSION:: {session} is with {server}{how}")
        }
        SessionState::Suspended { session } => {
            format!("SESSION:: {session} has lost its connection; looking for a server")
        }
        SessionState::Expired { session } => {
            format!("SESSION:: {session} has expired, and its ephemeral znodes are gone; asking for another one")
        }
        SessionState::AuthFailed => "SESSION:: the server refuses the credentials".to_owned(),
        SessionState::Closed => "SESSION:: closed".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_lines_are_forgotten_and_keep_their_numbers() {
        let mut history = History::default();
        for number in 0..HISTORY_MAX + 2 {
            history.push(&number.to_string());
        }
        assert_eq!(history.get(1), None);
        assert_eq!(history.get(2), Some("2"));
        assert_eq!(history.get(HISTORY_MAX + 1), Some((HISTORY_MAX + 1).to_string().as_str()));
        assert_eq!(history.get(HISTORY_MAX + 2), None);
    }
}
