//! `farrier queue`: items that are worked on by one at a time and gone only when they are done.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use farrier_client::Client;
use farrier_recipes::{Error, Item, QUEUE_LIMIT, QUEUE_PRIORITY, QUEUE_PRIORITY_MAX, Queue};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command as Process};

use crate::command::{LOST, NOT_ACQUIRED, NOT_STARTED, Signals, cannot_run, code_of_failure, code_of_signal};
use crate::input::DataOptions;
use crate::output::{FAILED, Out, complain};
use crate::session::{self, AclOption, SessionOptions};
use crate::values::{base64, plain};

const EXAMPLES: &str = "\
Examples:
  farrier queue put /app/jobs resize-17.png
  farrier queue take /app/jobs
  farrier queue take /app/jobs -- wc -c

The layout is that of kazoo's LockingQueue, whose producers and consumers can share the queue.";

const PUT_EXAMPLES: &str = "\
Examples:
  farrier queue put /app/jobs resize-17.png
  farrier queue put /app/jobs --file job.json --priority 7
  farrier queue put /app/jobs resize-18.png --limit 100

The item's name is printed. If the reply is lost, the item is looked for by its name; only if it is not there, which
may mean that somebody took it and was done with it already, the outcome is not known.

Exit codes: 0 done, 1 refused by the server, queue full, or not known to be done, 2 usage, 3 no server.";

const TAKE_EXAMPLES: &str = "\
Examples:
  farrier queue take /app/jobs
  farrier queue take /app/jobs --wait 0 --json
  farrier queue take /app/jobs --wait 60 -- wc -c

Takes the first item that nobody works on. Without CMD its data is printed, and the item is done once that was handed
to whoever reads it. With CMD, that gets the data on its standard input, FARRIER_SERVER and FARRIER_QUEUE_ITEM in its
environment; exit code 0 says that the item is done, any other one gives it back. INT, TERM and HUP are passed on to CMD.
If the session is lost meanwhile, others may take the item: then CMD gets TERM, and KILL if it does not end.

An item that was worked on can come again if CMD fails or the session is lost, so doing it twice has to be harmless.

Exit codes: 0 done, 1 refused by the server or not known to be done, 2 usage, 3 no server, 123 the item was lost with
the session, 124 no item within --wait. With CMD its own, 128+N when signal N ended it, 1 when it is not known whether
the item is done, 123, 124, 125 failed before CMD ran, 126 CMD can't be run, 127 it isn't found.";

/// How long CMD may take to end after TERM when its item was lost.
const GRACE: Duration = Duration::from_secs(5);

/// Options of `farrier queue`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put an item at the end
    #[command(after_help = PUT_EXAMPLES)]
    Put(Put),
    /// Take the first item, and have it done
    #[command(after_help = TAKE_EXAMPLES)]
    Take(Take),
}

#[derive(Debug, Args)]
struct Put {
    /// The queue
    path: String,

    #[command(flatten)]
    data: DataOptions,

    /// Items of lower numbers are taken first
    #[arg(long, value_name = "N", default_value_t = QUEUE_PRIORITY,
          value_parser = clap::value_parser!(u16).range(0..=i64::from(QUEUE_PRIORITY_MAX)))]
    priority: u16,

    /// Refuse when so many items are there
    #[arg(long, value_name = "N", default_value_t = QUEUE_LIMIT)]
    limit: usize,

    /// Name it exactly as kazoo does, whose consumers then take it in its turn; a lost reply is not looked into
    #[arg(long)]
    plain: bool,

    #[command(flatten)]
    acl: AclOption,

    /// One JSON object: path, item
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionOptions,
}

#[derive(Debug, Args)]
struct Take {
    /// The queue
    path: String,

    /// Seconds to wait for an item, 0 to look once [default: for ever]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=31_536_000))]
    wait: Option<u64>,

    /// One JSON object: path, item, data
    #[arg(long, conflicts_with = "command")]
    json: bool,

    #[command(flatten)]
    acl: AclOption,

    #[command(flatten)]
    session: SessionOptions,

    /// Run this with the data on its standard input
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match &arguments.command {
        Command::Put(put) => put.run(),
        Command::Take(take) => take.run(),
    }
}

impl Put {
    fn run(&self) -> ExitCode {
        session::run_renewing("queue put", &self.session, async |client, out| {
            let data = self.data.read()?.unwrap_or_default();
            let queue = Queue::new(client, &self.path).limit(self.limit).acl(&self.acl.or_open());
            let item = if self.plain {
                queue.put_plain(self.priority, data).await?
            } else {
                queue.put_at(self.priority, data).await?
            };
            if self.json {
                out.json(&json!({"path": self.path, "item": item}))?;
            } else {
                out.line(plain(&item))?;
            }
            Ok(0)
        })
    }
}

impl Take {
    fn run(&self) -> ExitCode {
        if self.command.is_empty() {
            return session::run_renewing("queue take", &self.session, async |client, out| {
                match self.take(client).await? {
                    Ok(item) => self.print(item, out).await,
                    Err(code) => Ok(code),
                }
            });
        }
        session::run_command("queue take", &self.session, async |client| match self.take(client).await? {
            Ok(item) => self.work(item).await,
            Err(code) => Ok(code),
        })
    }

    async fn take(&self, client: &Client) -> anyhow::Result<Taken> {
        let queue = Queue::new(client, &self.path).acl(&self.acl.or_open());
        let mut signals = Signals::listen()?;
        let take = async {
            match self.wait {
                None => queue.take().await.map(Some),
                Some(seconds) => queue.take_within(Duration::from_secs(seconds)).await,
            }
        };
        let taken = tokio::select! {
            taken = take => taken?,
            signal = signals.next() => return Ok(Err(code_of_signal(signal.as_raw()))),
        };
        Ok(match taken {
            Some(item) => Ok(item),
            None => {
                complain("farrier queue take: error", format_args!("{}: no item in time", self.path));
                Err(NOT_ACQUIRED)
            }
        })
    }

    /// Hands the item's data on, and only then says that it is done.
    async fn print(&self, item: Item, out: &mut Out) -> anyhow::Result<u8> {
        let written = if self.json {
            out.json(&json!({"path": self.path, "item": item.name(), "data": base64(Some(item.data()))}))
        } else {
            out.bytes(item.data())
        };
        if let Err(error) = written.and_then(|()| out.flush()) {
            item.give_back().await?;
            return Err(error);
        }
        item.ack().await?;
        Ok(0)
    }

    /// Runs the command on the item.
    async fn work(&self, item: Item) -> anyhow::Result<u8> {
        let mut signals = Signals::listen()?;
        let Some((program, words)) = self.command.split_first() else { return Ok(NOT_STARTED) };
        let mut command = Process::new(program);
        command.args(words).env("FARRIER_SERVER", self.session.server()).env("FARRIER_QUEUE_ITEM", item.name());
        let mut child = match command.stdin(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) => {
                complain("farrier queue take: error", cannot_run(program, &error));
                item.give_back().await?;
                return Ok(code_of_failure(&error));
            }
        };
        if let Some(mut input) = child.stdin.take() {
            let data = item.data().to_vec();
            // A command that does not read its input, or not all of it, does so on purpose.
            tokio::spawn(async move { input.write_all(&data).await });
        }
        let code = match wait(&mut child, &item, &mut signals).await? {
            Some(status) => code_of(status),
            None => return Ok(LOST),
        };
        let end = if code == 0 { item.ack().await } else { item.give_back().await };
        match end {
            Ok(()) => Ok(code),
            Err(error @ Error::ClaimLost { .. }) => {
                complain("farrier queue take: error", error);
                Ok(LOST)
            }
            // The command's work is done, but the item may come again.
            Err(error) if code == 0 => {
                complain("farrier queue take: error", error);
                Ok(FAILED)
            }
            Err(error) => {
                complain("farrier queue take: warning", error);
                Ok(code)
            }
        }
    }
}

/// An item, or an exit code.
type Taken = Result<Item, u8>;

/// Waits for the command that works on an item; `None` if the item was lost, and the command stopped for that.
async fn wait(child: &mut Child, item: &Item, signals: &mut Signals) -> anyhow::Result<Option<ExitStatus>> {
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let tell = |signal: Signal| {
        if let Some(id) = id {
            // It may have ended in this moment.
            let _ = kill_process(id, signal);
        }
    };
    let mut lost = std::pin::pin!(item.lost());
    loop {
        tokio::select! {
            status = child.wait() => return Ok(Some(status.context("the command can't be waited for")?)),
            signal = signals.next() => tell(signal),
            () = &mut lost => break,
        }
    }
    complain("farrier queue take: error", "the session is lost, and the item with it; the command is told to end");
    tell(Signal::TERM);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        child.kill().await.context("the command can't be killed")?;
    }
    Ok(None)
}

/// A shell's code for `status`.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.or_else(|| status.signal().map(code_of_signal)).unwrap_or(NOT_STARTED)
}
