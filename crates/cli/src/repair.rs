//! `farrier repair`: what is wrong with a directory, and going on without what is lost.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use farrier_server::StartError;
use farrier_server::config::{ConfigError, ServerConfig};
use farrier_server::disk::LockError;
use farrier_server::repair::{self, Whose};

use crate::files::unfound;
use crate::output::{complain, print};
use crate::server::{load_file, parse_set, refuse};

const EXAMPLES: &str = "\
Examples:
  farrier repair zoo.cfg                  look, change nothing
  farrier repair /var/lib/zookeeper       the same, with no limits; the port isn't checked
  farrier repair zoo.cfg --accept-loss    move bad files aside and say what may be lost

Nothing is deleted: what is bad stays beside the rest as version-2/farrier.damaged.N.NAME. The server
must be stopped. A member of an ensemble is better off without its version-2 and farrier.* files, all moved
away: its peers give it everything. myid stays.

Exit codes: 0 sound or repaired, 1 damaged or not repairable, 2 arguments or configuration.";

/// Options of `farrier repair`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The server's configuration file, or its data directory (the one that holds version-2)
    #[arg(value_name = "DIR|ZOO.CFG")]
    what: PathBuf,

    /// The log directory, if it is another one (with DIR)
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,

    /// Move bad files aside, so that a server starts on what is left
    #[arg(long)]
    accept_loss: bool,

    /// Set a key, over the file (repeatable, with ZOO.CFG)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_set)]
    set: Vec<(String, String)>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let config = match config(arguments) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let whose = if arguments.what.is_dir() { Whose::Unknown } else { Whose::Configured };
    match if arguments.accept_loss { accept_loss(&config, whose) } else { examine(arguments, &config, whose) } {
        Ok(code) => code,
        Err(error) => {
            let message = match error.downcast_ref() {
                Some(StartError::Locked(LockError::Held { dir, holder })) => {
                    let holder = holder.map(|pid| format!(" (process {pid})")).unwrap_or_default();
                    format!("a server runs on {}{holder}; stop that server first", dir.display())
                }
                _ => format!("{error:#}"),
            };
            complain("farrier repair: error", message);
            ExitCode::FAILURE
        }
    }
}

fn config(arguments: &Arguments) -> Result<ServerConfig, ExitCode> {
    let usage = |message: String| {
        complain("farrier repair: error", message);
        ExitCode::from(ConfigError::EXIT_CODE)
    };
    let config = if arguments.what.is_dir() {
        let Some(data) = data_dir(&arguments.what) else {
            let (shown, file) = (arguments.what.display(), arguments.what.join("zoo.cfg"));
            let hint = if file.is_file() { format!("; try {}", file.display()) } else { String::new() };
            return Err(usage(format!("{shown} holds no version-2, so it is no data directory{hint}")));
        };
        let log = arguments.log_dir.as_deref().map_or_else(|| Some(data.clone()), data_dir);
        let Some(log) = log else {
            return Err(usage("--log-dir holds no version-2, so it is no log directory".to_owned()));
        };
        let mut config = ServerConfig::standalone(data, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.data_log_dir = log;
        // Nobody said under which limits the files were written; whatever the format allows is sound.
        config.limits.jute_max_buffer = usize::try_from(i32::MAX).unwrap_or(usize::MAX);
        config.limits.jute_extra_size = 0;
        config
    } else {
        if arguments.log_dir.is_some() {
            return Err(usage("--log-dir goes with a directory; a configuration file names both".to_owned()));
        }
        if let Err(error) = arguments.what.metadata() {
            return Err(usage(unfound(&arguments.what, &error)));
        }
        let loaded = load_file(&arguments.what, &arguments.set).map_err(|error| refuse("repair", &error))?;
        loaded.config.runnable().map_err(|error| refuse("repair", &error))?;
        loaded.config
    };
    Ok(config)
}

/// The directory that holds `version-2`, also if `version-2` itself is named.
fn data_dir(named: &Path) -> Option<PathBuf> {
    if named.join("version-2").is_dir() {
        return Some(named.to_owned());
    }
    let real = named.canonicalize().ok()?;
    (real.file_name()? == "version-2").then(|| real.parent().map(Path::to_owned)).flatten()
}

fn examine(arguments: &Arguments, config: &ServerConfig, whose: Whose) -> anyhow::Result<ExitCode> {
    let report = repair::examine(config, whose)?;
    let mut text = report.to_string();
    if report.is_sound() {
        text.push_str("A server starts on this directory.\n");
    } else {
        let log_dir = arguments.log_dir.as_ref().map(|d| format!(" --log-dir {}", d.display())).unwrap_or_default();
        let what = arguments.what.display();
        text.push_str(&format!(
            "Nothing was changed. To go on without what may be lost: farrier repair {what}{log_dir} --accept-loss\n"
        ));
    }
    print(&text)?;
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn accept_loss(config: &ServerConfig, whose: Whose) -> anyhow::Result<ExitCode> {
    let repaired = repair::accept_loss(config, whose)?;
    if repaired.before.is_sound() {
        print(&format!("{}Nothing had to be repaired.\n", repaired.after))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("before:\n{}", repaired.before);
    for file in &repaired.aside {
        text.push_str(&format!("kept aside: {file}\n"));
    }
    text.push_str(&format!("now:\n{}A server starts on this directory.\n", repaired.after));
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
