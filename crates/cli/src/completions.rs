//! `farrier completions`: what a shell needs to complete the command line.

use std::process::ExitCode;

use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;

use crate::output::{Out, conclude};

const EXAMPLES: &str = "\
Examples:
  farrier completions bash
  farrier completions zsh
  farrier completions fish

bash:  farrier completions bash > ~/.local/share/bash-completion/completions/farrier
zsh:   farrier completions zsh > DIR/_farrier, where DIR is in $fpath
fish:  farrier completions fish > ~/.config/fish/completions/farrier.fish";

/// The shells that are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// GNU bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// Options of `farrier completions`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Name,
}

pub(crate) fn run(arguments: &Arguments, mut command: Command) -> ExitCode {
    let shell = match arguments.shell {
        Name::Bash => Shell::Bash,
        Name::Zsh => Shell::Zsh,
        Name::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "farrier", &mut script);
    let mut out = Out::open();
    conclude("completions", out.bytes(&script).and_then(|()| out.flush()).map(|()| 0))
}
