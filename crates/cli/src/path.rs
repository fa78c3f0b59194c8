//! Paths of znodes on the command line: what can be none is refused before anything is connected to.

use std::ffi::OsStr;
use std::process::ExitCode;

use clap::builder::TypedValueParser;
use clap::{Arg, Command};
use farrier_proto::path::validate;

use crate::command::NOT_STARTED;
use crate::output::complain;
use crate::values::{guarded, plain};

/// Reads the path of a znode.
#[derive(Clone, Debug)]
pub(crate) struct PathParser;

impl TypedValueParser for PathParser {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        guarded(command, arg, value, |text| checked(text, validate(text)))
    }
}

/// Reads the path of a znode to be created, to which the servers may append digits.
#[derive(Clone, Debug)]
pub(crate) struct NewPathParser;

impl TypedValueParser for NewPathParser {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        // Whether digits follow is another option's to say, and the client's to judge.
        guarded(command, arg, value, |text| {
            checked(text, validate(text).or_else(|rule| with_digits(text).map_err(|_| rule)))
        })
    }
}

/// For a verb whose exit codes are those of the command that it runs: tells that `path` can be none, and answers with the
/// code that says that nothing was run.
pub(crate) fn refused(verb: &str, path: &str) -> Option<ExitCode> {
    let why = checked(path, validate(path)).err()?;
    complain(&format!("farrier {verb}: error"), format_args!("{why}"));
    Some(ExitCode::from(NOT_STARTED))
}

fn with_digits(path: &str) -> Result<(), &'static str> {
    validate(&[path, "0"].concat())
}

fn checked(path: &str, verdict: Result<(), &str>) -> Result<String, String> {
    match verdict {
        Ok(()) => Ok(path.to_owned()),
        Err(_) if !path.is_empty() && !path.starts_with('/') => {
            Err(format!("Paths begin with a slash: /{}", plain(path)))
        }
        Err(rule) if path.is_empty() => Err(rule.to_owned()),
        Err(rule) => Err(format!("{}: {rule}", plain(path))),
    }
}
