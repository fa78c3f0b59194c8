//! Structured logs on standard error.

use std::io::{self, IsTerminal as _};

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One line of text each
    Text,
    /// One JSON object each
    Json,
}

/// Options of every command that runs a server.
#[derive(Clone, Debug, Args)]
pub(crate) struct LogOptions {
    /// Form of the log on standard error
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    log_format: Format,

    /// Least severity that is logged: error, warn, info, debug, trace, or directives such as
    /// `info,farrier_storage=debug` [default: info, for dev warn]
    #[arg(long, value_name = "LEVEL", env = "FARRIER_LOG", value_parser = parse_level)]
    log_level: Option<String>,
}

fn parse_level(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("empty".to_owned());
    }
    // A bare word that is no level would be taken as the name of a module, and log nothing else.
    let bare = !text.contains(['=', ',']);
    if bare && text.parse::<tracing::level_filters::LevelFilter>().is_err() {
        return Err("expected error, warn, info, debug, trace, off, or directives".to_owned());
    }
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Starts logging, for the life of the process.
pub(crate) fn start(options: &LogOptions, default_level: &str) {
    let level = options.log_level.as_deref().unwrap_or(default_level);
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new(default_level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // What cannot be written (a full disk behind standard error) would panic on its way to the same place.
    let builder = builder.log_internal_errors(false);
    match options.log_format {
        Format::Text => builder.with_ansi(io::stderr().is_terminal()).init(),
        Format::Json => builder.json().flatten_event(true).init(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        for text in ["error", "WARN", "info", "off", "info,farrier_storage=debug", "farrier_server=trace"] {
            assert_eq!(parse_level(text).as_deref(), Ok(text));
        }
        for text in ["", "loud", "info,x=loud"] {
            assert!(parse_level(text).is_err(), "{text}");
        }
    }
}
