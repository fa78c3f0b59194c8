//! The pages of the book that are made from the program itself: commands from the command line's definition, keys
//! from the table of the server. `cargo xtask reference` writes them; the test here fails when they are stale.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};

/// Columns of a help text.
const WIDTH: usize = 100;

/// `docs/cli.md`.
fn commands() -> String {
    let mut root = crate::usage::flowing(crate::Cli::command()).term_width(WIDTH);
    root.build();
    let mut text = String::from(
        "# Commands\n\n<!-- Written by `cargo xtask reference` from the command line's definition. -->\n\n\
         What `farrier COMMAND --help` prints. Options under *Connection* are those of every command that speaks to a \
         server.\n",
    );
    describe(&root, "", &mut text);
    text
}

fn describe(command: &Command, above: &str, text: &mut String) {
    let path = format!("{above}{}", command.get_name());
    // What the environment holds is nobody's business here.
    let mut shown = command.clone().term_width(WIDTH).mut_args(|arg| arg.hide_env_values(true)).bin_name(&path);
    let help = shown.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(text, "\n## `{path}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
        describe(sub, &format!("{path} "), text);
    }
}

/// `docs/configuration.md`.
fn keys() -> String {
    format!(
        "# Configuration\n\n<!-- Written by `cargo xtask reference` from the table of keys. -->\n\n\
         The keys of `zoo.cfg`, and the Java system properties that stand for them in `JVMFLAGS` and `SERVER_JVMFLAGS`; the \
         file wins over those, and `--set KEY=VALUE` over both. `farrier server zoo.cfg --check` prints what counts and \
         where it comes from. A key that isn't here gets a warning with the nearest one that is.\n\n{}",
        farrier_server::config::reference()
    )
}

#[test]
fn the_reference_pages_are_what_the_program_says() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    for (name, text) in [("cli.md", commands()), ("configuration.md", keys())] {
        let file = docs.join(name);
        if std::env::var_os("FARRIER_REFERENCE_REWRITE").is_some() {
            std::fs::write(&file, &text).expect("written");
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(kept == text, "{} is stale: run `cargo xtask reference`", file.display());
    }
}
