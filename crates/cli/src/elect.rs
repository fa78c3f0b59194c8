//! `farrier elect`: a command that runs while this candidate leads.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;
use farrier_recipes::Election;

use crate::command::{End, Errand, LOST, Signals, code_of_signal, run_under};
use crate::lock::{LayoutOption, WaitOption, acquired, environment, released};
use crate::path;
use crate::session::{self, AclOption, SessionOptions};

const EXAMPLES: &str = "\
Examples:
  farrier elect /app/leader -- true
  farrier elect /app/leader --id host-7 --once -- true
  farrier elect /app/leader --wait 60 -- farrier set /app/config host-7 --guard

CMD runs while this candidate leads, as below `farrier lock`: in a process group of its own, with the same
environment, and stopped before anybody else can lead. Then this candidate stands again, and runs CMD
again in its next term; with --once it ends instead. When CMD ends by itself the candidate resigns. A new
term has a new FARRIER_LOCK_NODE and a larger FARRIER_FENCING_TOKEN.

Exit codes: that of CMD, 128+N when signal N ended it, 123 the lead was lost (with --once), 124 not elected
in time, 125 failed before CMD ran, 126 CMD can't be run, 127 it isn't found.";

/// Options of `farrier elect`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The election; it need not exist
    path: String,

    /// End when the lead is lost, instead of standing again
    #[arg(long)]
    once: bool,

    /// What the candidate calls itself, for people who look
    #[arg(long, value_name = "TEXT", default_value = "")]
    id: String,

    #[command(flatten)]
    wait: WaitOption,

    #[command(flatten)]
    layout: LayoutOption,

    #[command(flatten)]
    acl: AclOption,

    #[command(flatten)]
    session: SessionOptions,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    if let Some(code) = path::refused("elect", &arguments.path) {
        return code;
    }
    session::run_command("elect", &arguments.session, async |client| {
        let mut signals = Signals::listen()?;
        let acl = arguments.acl.or_open();
        let election =
            Election::new(client, &arguments.path).layout(arguments.layout.layout()).acl(&acl).id(&arguments.id);
        loop {
            let lead = async {
                match arguments.wait.span() {
                    Some(span) => election.lead_within(span).await,
                    None => election.lead().await,
                }
            };
            let leadership = match acquired("elect", lead, &mut signals).await? {
                Ok(leadership) => leadership,
                Err(code) => return Ok(code),
            };
            let environment = environment(&arguments.session, &leadership);
            let errand = Errand { verb: "elect", command: &arguments.command, environment: &environment, input: None };
            match (run_under(&**leadership, client, errand, &mut signals).await?, signals.asked()) {
                (End::NotRun(code), _) => return Ok(code),
                (End::Ended(code), _) => {
                    return Ok(released("elect", client, leadership.resign(), code, &mut signals).await);
                }
                (End::Lost, _) if arguments.once => return Ok(LOST),
                (End::Lost, Some(signal)) => return Ok(code_of_signal(signal.as_raw())),
                (End::Lost, None) => {}
            }
        }
    })
}
