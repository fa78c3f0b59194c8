//! `farrier lock`: a command that runs while a lock is held.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use farrier_client::Client;
use farrier_recipes::{Error, Guard, Layout, Lock};

use crate::command::{End, Errand, LOST, NOT_ACQUIRED, Signals, code_of_signal, run_under};
use crate::output::complain;
use crate::path;
use crate::session::{self, AclOption, SessionOptions};
use crate::span;

const EXAMPLES: &str = "\
Examples:
  farrier lock /app/backup -- true
  farrier lock /app/backup --wait 0 -- true   only if nobody else does it now
  farrier lock /app/backup --wait 60 --layout kazoo -- true
  farrier lock /app/config -- farrier set /app/config v2 --guard

CMD runs in a process group of its own. INT, TERM and HUP are passed on to it. It sees FARRIER_SERVER,
FARRIER_LOCK_NODE and FARRIER_FENCING_TOKEN, and reads nothing from a terminal. The lock is released when
all of the group has ended. CMD dies with this command, where the system can do that.

If no server answers for half of the session timeout the group gets TERM, after two thirds KILL: before
anybody else can have the lock. But if this command itself is stopped, or the machine is, CMD may run on
while others hold the lock. Then only two things protect what it writes: in the ensemble
`farrier set|create|delete|multi --guard`, and elsewhere a store that refuses a FARRIER_FENCING_TOKEN
smaller than the largest it has seen, compared as a number.

Exit codes: that of CMD, 128+N when signal N ended it, 123 the lock was lost, 124 not acquired in time,
125 failed before CMD ran, 126 CMD can't be run, 127 it isn't found.";

/// Options of `farrier lock`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The lock; it need not exist
    path: String,

    #[command(flatten)]
    wait: WaitOption,

    #[command(flatten)]
    layout: LayoutOption,

    /// What the holder's znode says, for people who look
    #[arg(long, value_name = "TEXT", default_value = "")]
    data: String,

    #[command(flatten)]
    acl: AclOption,

    #[command(flatten)]
    session: SessionOptions,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Longest that somebody waits who doesn't wait for ever, in seconds that fit 32 bits.
const WAIT_MAX: Duration = Duration::from_secs(u32::MAX as u64);

/// How long to wait for others.
#[derive(Clone, Debug, Args)]
pub(crate) struct WaitOption {
    /// How long to wait until it can be had, 0 to try once: seconds, or with a unit as in `500ms`, `5m`
    /// [default: for ever]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = span::seconds(Duration::ZERO, WAIT_MAX))]
    wait: Option<Duration>,
}

impl WaitOption {
    pub(crate) const fn span(&self) -> Option<Duration> {
        self.wait
    }
}

/// Whose contenders share the path.
#[derive(Clone, Debug, Args)]
pub(crate) struct LayoutOption {
    /// Whose clients contend on the same path
    #[arg(long, value_enum, default_value_t = LayoutName::Curator)]
    layout: LayoutName,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum LayoutName {
    /// Curator's, for Java, and Farrier's own
    Curator,
    /// kazoo's, for Python
    Kazoo,
}

impl LayoutOption {
    pub(crate) const fn layout(&self) -> Layout {
        match self.layout {
            LayoutName::Curator => Layout::Curator,
            LayoutName::Kazoo => Layout::Kazoo,
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    if let Some(code) = path::refused("lock", &arguments.path) {
        return code;
    }
    session::run_command("lock", &arguments.session, async |client| {
        let mut signals = Signals::listen()?;
        let acl = arguments.acl.or_open();
        let lock = Lock::new(client, &arguments.path).layout(arguments.layout.layout()).acl(&acl).data(&arguments.data);
        let acquire = async {
            match arguments.wait.span() {
                Some(span) => lock.acquire_within(span).await,
                None => lock.acquire().await,
            }
        };
        let guard = match acquired("lock", acquire, &mut signals).await? {
            Ok(guard) => guard,
            Err(code) => return Ok(code),
        };
        let environment = environment(&arguments.session, &guard);
        let errand = Errand { verb: "lock", command: &arguments.command, environment: &environment, input: None };
        Ok(match run_under(&*guard, client, errand, &mut signals).await? {
            End::NotRun(code) => code,
            End::Lost => LOST,
            End::Ended(code) => released("lock", client, guard.release(), code, &mut signals).await,
        })
    })
}

/// Waits for what a command is to run under, or says with which code to end instead.
pub(crate) async fn acquired<T>(
    verb: &str,
    acquire: impl Future<Output = Result<T, Error>>,
    signals: &mut Signals,
) -> anyhow::Result<Result<T, u8>> {
    let acquired = tokio::select! {
        acquired = acquire => acquired,
        signal = signals.next() => return Ok(Err(code_of_signal(signal.as_raw()))),
    };
    match acquired {
        Ok(held) => Ok(Ok(held)),
        Err(error @ Error::NotAcquired { .. }) => {
            complain(&format!("farrier {verb}: error"), error);
            Ok(Err(NOT_ACQUIRED))
        }
        Err(error) => Err(error.into()),
    }
}

/// What a command under a lock finds in its environment.
pub(crate) fn environment(session: &SessionOptions, guard: &Guard) -> [(&'static str, String); 3] {
    [
        ("FARRIER_SERVER", session.server().to_owned()),
        ("FARRIER_FENCING_TOKEN", guard.token().to_string()),
        ("FARRIER_LOCK_NODE", guard.path().to_owned()),
    ]
}

/// Waits for the release of what a command ran under that ended with `code`; the code to end with.
pub(crate) async fn released(
    verb: &str,
    client: &Client,
    release: impl Future<Output = Result<(), Error>>,
    code: u8,
    signals: &mut Signals,
) -> u8 {
    let why = match signals.or_answer(client, release).await {
        Ok(Ok(())) => return code,
        Ok(Err(error @ Error::LockLost { .. })) => {
            complain(&format!("farrier {verb}: error"), format_args!("the command may have had company: {error}"));
            return LOST;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no server has answered".to_owned(),
    };
    let what = format_args!("it is released with the session, {}: {why}", session_ends(client));
    complain(&format!("farrier {verb}: warning"), what);
    code
}

/// When a session ends that no server can be told to end.
pub(crate) fn session_ends(client: &Client) -> String {
    match client.lease() {
        Some(lease) => format!("within {} s", lease.timeout.as_secs()),
        None => "by its timeout".to_owned(),
    }
}
