//! How the command line is read, refused and explained.

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, FromArgMatches as _};

use crate::Cli;

/// Reads the command line, or ends the program with what is wrong with it.
pub(crate) fn read() -> Cli {
    let words: Vec<OsString> = std::env::args_os().collect();
    let mut command = flowing(<Cli as clap::CommandFactory>::command());
    let matches = command.try_get_matches_from_mut(&words);
    matches.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches)).unwrap_or_else(|error| {
        command.build();
        explained(error, &command, &words).exit()
    })
}

/// The same with help texts that the terminal breaks into lines, once: what stands behind the options was broken by hand.
pub(crate) fn flowing(command: Command) -> Command {
    let help = command.get_after_help().map(|help| flow(&help.to_string()));
    let command = match help {
        Some(help) => command.after_help(help),
        None => command,
    };
    command.mut_subcommands(flowing)
}

/// Joins the lines of each paragraph. Lines that are indented, and heads, stay.
fn flow(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut goes_on = false;
    for (index, line) in text.lines().enumerate() {
        let flows = !line.is_empty() && !line.starts_with(' ');
        match (index, goes_on && flows) {
            (0, _) => {}
            (_, true) => out.push(' '),
            (_, false) => out.push('\n'),
        }
        out.push_str(line);
        goes_on = flows && !line.ends_with(':');
    }
    out
}

/// An error with the command's own usage, since what the environment gives is no part of it, and with a tip if a path
/// stands where a subcommand should.
fn explained(mut error: clap::Error, root: &Command, words: &[OsString]) -> clap::Error {
    let mut command = root;
    for word in words.iter().skip(1).filter_map(|word| word.to_str()) {
        if let Some(below) = command.find_subcommand(word) {
            command = below;
        }
    }
    if error.get(ContextKind::Usage).is_some() {
        error.insert(ContextKind::Usage, ContextValue::StyledStr(command.clone().render_usage()));
    }
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(path)) = error.get(ContextKind::InvalidSubcommand)
        && path.starts_with('/')
    {
        let path = crate::values::plain(path);
        let verbs = command.get_subcommands().filter(|below| below.get_name() != "help").map(|below| {
            let name = below.get_bin_name().unwrap_or_else(|| below.get_name());
            format!("`{name} {path}`")
        });
        // At the top there are too many.
        let tip = match command.get_name() {
            "farrier" => format!("`farrier get {path}` prints its data, `farrier ls {path}` what is below it"),
            _ => format!("which is it: {}?", verbs.collect::<Vec<_>>().join(", ")),
        };
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_flow_and_examples_stay() {
        let text =
            "Examples:\n  farrier ls\n  farrier ls -R\n\nOne line\nand another.\n\nExit codes: 0 done,\n1 refused.";
        let flown =
            "Examples:\n  farrier ls\n  farrier ls -R\n\nOne line and another.\n\nExit codes: 0 done, 1 refused.";
        assert_eq!(flow(text), flown);
    }
}
