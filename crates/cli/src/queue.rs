//! `farrier queue`: items that are worked on by one at a time and gone only when they are done.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use farrier_client::{Client, SessionId};
use farrier_recipes::{Error, Item, QUEUE_LIMIT, QUEUE_PRIORITY, QUEUE_PRIORITY_MAX, Queue};
use serde_json::json;

use crate::command::{End, Errand, LOST, Leased, NOT_ACQUIRED, Signals, code_of_signal, run_under};
use crate::input::DataOptions;
use crate::lock::{WaitOption, session_ends};
use crate::output::{FAILED, Out, USAGE, complain};
use crate::path::{self, PathParser};
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
environment; exit code 0 says that the item is done, any other one gives it back.

CMD runs as below `farrier lock`: in a process group of its own, all of which has to end, to which INT, TERM and HUP are
passed on, and which dies with this command where the system can do that. If no server answers for half of the session
timeout the group gets TERM, after two thirds KILL: before anybody else can take the item. A signal while no server
answers what becomes of the item ends this command, and the message says where the item is then.

An item that was worked on can come again if CMD fails or the session is lost, so doing it twice has to be harmless.

Exit codes: 0 done, 1 refused by the server or not known to be done, 2 usage, 3 no server, 123 the item was lost with
the session, 124 no item within --wait, 128+N ended by signal N. With CMD its own, 128+N when signal N ended it or this
command, 1 when it is not known whether the item is done, 123, 124, 125 failed before CMD ran, 126 CMD can't be run, 127 it
isn't found.";

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
    #[arg(value_parser = PathParser)]
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

    #[command(flatten)]
    wait: WaitOption,

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
        if let Some(not_run) = path::refused("queue take", &self.path) {
            return if self.command.is_empty() { ExitCode::from(USAGE) } else { not_run };
        }
        if self.command.is_empty() {
            return session::run_renewing("queue take", &self.session, async |client, out| {
                let mut signals = Signals::listen()?;
                match self.take(client, &mut signals).await? {
                    Ok(item) => self.print(client, item, out, &mut signals).await,
                    Err(code) => Ok(code),
                }
            });
        }
        session::run_command("queue take", &self.session, async |client| {
            let mut signals = Signals::listen()?;
            match self.take(client, &mut signals).await? {
                Ok(item) => self.work(client, item, &mut signals).await,
                Err(code) => Ok(code),
            }
        })
    }

    async fn take(&self, client: &Client, signals: &mut Signals) -> anyhow::Result<Taken> {
        let queue = Queue::new(client, &self.path).acl(&self.acl.or_open());
        let take = async {
            match self.wait.span() {
                None => queue.take().await.map(Some),
                Some(span) => queue.take_within(span).await,
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
    async fn print(&self, client: &Client, item: Item, out: &mut Out, signals: &mut Signals) -> anyhow::Result<u8> {
        let written = if self.json {
            out.json(&json!({"path": self.path, "item": item.name(), "data": base64(Some(item.data()))}))
        } else {
            out.bytes(item.data())
        };
        if let Err(error) = written.and_then(|()| out.flush()) {
            give_back(client, item, signals, FAILED).await;
            return Err(error);
        }
        Ok(acknowledge(client, item, signals).await)
    }

    /// Runs the command on the item.
    async fn work(&self, client: &Client, item: Item, signals: &mut Signals) -> anyhow::Result<u8> {
        let Some(lease) = client.lease() else {
            complain("farrier queue take: error", format_args!("{}: it is lost with the session", item.name()));
            return Ok(LOST);
        };
        let claimed = Claimed { client, session: lease.session, item };
        let environment = [
            ("FARRIER_SERVER", self.session.server().to_owned()),
            ("FARRIER_QUEUE_ITEM", claimed.item.name().to_owned()),
        ];
        let errand = Errand {
            verb: "queue take",
            command: &self.command,
            environment: &environment,
            input: Some(claimed.item.data()),
        };
        let end = run_under(&claimed, client, errand, signals).await;
        let item = claimed.item;
        Ok(match end? {
            End::Lost => LOST,
            End::Ended(0) => acknowledge(client, item, signals).await,
            End::NotRun(code) | End::Ended(code) => give_back(client, item, signals, code).await,
        })
    }
}

/// An item, or an exit code.
type Taken = Result<Item, u8>;

/// An item that a command works on. Others may take it when the session is lost that claimed it.
struct Claimed<'c> {
    client: &'c Client,
    session: SessionId,
    item: Item,
}

impl Leased for Claimed<'_> {
    fn name(&self) -> &str {
        self.item.name()
    }

    fn session(&self) -> SessionId {
        self.session
    }

    fn lost(&self) -> impl Future<Output = ()> {
        self.item.lost()
    }

    fn is_lost(&self) -> bool {
        let lease = self.client.lease().filter(|lease| lease.session == self.session);
        lease.is_none_or(|lease| !lease.holds(self.client.now()))
    }
}

/// Says that an item is done; returns the exit code.
async fn acknowledge(client: &Client, item: Item, signals: &mut Signals) -> u8 {
    let name = item.name().to_owned();
    match signals.or_answer(client, item.ack()).await {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            complain("farrier queue take: error", &error);
            // Otherwise the work is done, but the item may come again.
            if matches!(error, Error::ClaimLost { .. }) { LOST } else { FAILED }
        }
        Err(signal) => {
            let when = session_ends(client);
            complain(
                "farrier queue take: error",
                format_args!(
                    "{name}: ended by a signal while no server answered that the item is done; if none has it so, others can \
                     take it when the session ends, {when}"
                ),
            );
            code_of_signal(signal.as_raw())
        }
    }
}

/// Gives an item back that is not done; returns the exit code, `code` if nothing else went wrong.
async fn give_back(client: &Client, item: Item, signals: &mut Signals, code: u8) -> u8 {
    let name = item.name().to_owned();
    let why = match signals.or_answer(client, item.give_back()).await {
        Ok(Ok(())) => {
            if signals.asked().is_some() {
                complain("farrier queue take", format_args!("{name} is back in the queue"));
            }
            return code;
        }
        Ok(Err(error @ Error::ClaimLost { .. })) => {
            complain("farrier queue take: error", error);
            return LOST;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no server has answered".to_owned(),
    };
    let when = session_ends(client);
    let what = format_args!("{name}: others can take it when the session ends, {when}: {why}");
    complain("farrier queue take: warning", what);
    code
}
