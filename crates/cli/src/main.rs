//! The binary `farrier`.
//!
//! It owns the command line, the environment, signals, and what is printed. It decides nothing about
//! data: every verb hands over to a library and turns the outcome into text and an exit code.

mod acl;
mod admin;
mod bench;
mod command;
mod completions;
mod config;
mod create;
mod delete;
mod dev;
mod elect;
mod export;
mod files;
mod get;
mod guard;
mod hints;
mod import;
mod init;
mod input;
mod lock;
mod log;
mod logging;
mod ls;
mod member;
mod memory;
mod multi;
mod open_files;
mod output;
mod path;
mod queue;
#[cfg(test)]
mod reference;
mod repair;
mod server;
mod session;
mod set;
mod shell;
mod signals;
mod snapshot;
mod span;
mod stat;
mod status;
mod sync;
mod temporary;
mod tree;
mod usage;
mod values;
mod walk;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

// Measured against the system's allocators; only binaries choose one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// ZooKeeper, reforged in Rust: the same protocol, the same files.
#[derive(Debug, Parser)]
#[command(name = "farrier", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  farrier dev                       three servers to try things with, on 127.0.0.1
  farrier dev -- pytest             the same for a command, which finds them in FARRIER_SERVER
  farrier server zoo.cfg            the server that an Apache configuration describes
  farrier server zoo.cfg --check    what that configuration means, and where each value comes from
  farrier init --id 1 --server 1=zk1 --server 2=zk2 --server 3=zk3 --dir zk
  farrier status --server zk1:2181  who leads, who follows, how far
  farrier ls -R / --server zk1:2181  what there is
  farrier create -p /app/config v1  a znode, with its parents
  farrier watch -R /app             what changes, as it changes
  farrier shell --server zk1:2181   commands one after the other, as with zkCli
  farrier lock /app/lock -- backup.sh   a command that runs once at a time, wherever it is started
  farrier config set /app/config v2  a value whose earlier ones are kept
  farrier queue take /app/jobs      the next item of a queue
  farrier admin transfer-leader --dir /var/lib/zookeeper    let another server lead
  farrier repair zoo.cfg            what is wrong with its data, if a start was refused
  farrier bench get set --server zk1:2181 --yes    how fast it is, and what that costs
  farrier log dump /var/lib/zookeeper         the transactions in its logs
  farrier snapshot verify /var/lib/zookeeper  whether its snapshots are whole

Exit codes: 0 done, 1 refused or failed, 2 usage or configuration, 3 no server or data directory.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server as zoo.cfg says
    Server(server::Arguments),
    /// Run throw-away servers on this machine, three of them
    Dev(dev::Arguments),
    /// Write the files of one member of an ensemble
    Init(init::Arguments),
    /// Show the members of an ensemble and how each is
    Status(status::Arguments),
    /// Speak to the server whose data directory is on this machine
    Admin(admin::Arguments),
    /// Examine a damaged data directory, or go on without what is lost
    Repair(repair::Arguments),
    /// List the children of a znode, or all that is below it
    Ls(ls::Arguments),
    /// Draw a subtree
    Tree(tree::Arguments),
    /// Print the data of a znode
    Get(get::Arguments),
    /// Set the data of a znode
    Set(set::Arguments),
    /// Create a znode
    Create(create::Arguments),
    /// Delete a znode, or all of a subtree
    Delete(delete::Arguments),
    /// Show everything about a znode but its data
    Stat(stat::Arguments),
    /// Show or set who may do what with a znode
    Acl(acl::Arguments),
    /// Type commands one after the other, as with zkCli
    Shell(shell::Arguments),
    /// Tell changes as they come
    Watch(watch::Arguments),
    /// Wait until the server has what was committed
    Sync(sync::Arguments),
    /// Do several writes, all or none
    Multi(multi::Arguments),
    /// Run a command while a lock is held
    Lock(lock::Arguments),
    /// Run a command while this candidate leads
    Elect(elect::Arguments),
    /// Write a subtree as JSON lines
    Export(export::Arguments),
    /// Create znodes from JSON lines
    Import(import::Arguments),
    /// Keep a configuration with its history, and follow it
    Config(config::Arguments),
    /// Be in a group, and see who is
    Member(member::Arguments),
    /// Put items into a queue and take them out
    Queue(queue::Arguments),
    /// Look into log files, without a server
    Log(log::Arguments),
    /// Look into snapshot files, without a server
    Snapshot(snapshot::Arguments),
    /// Measure how servers do under load
    Bench(bench::Arguments),
    /// Print what a shell needs to complete this command line
    Completions(completions::Arguments),
}

fn main() -> ExitCode {
    // Before much is allocated.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "server") {
        memory::begin_small();
    }
    if let Some(code) = command::become_another() {
        return code;
    }
    match usage::read().command {
        Command::Server(arguments) => server::run(&arguments),
        Command::Dev(arguments) => dev::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Admin(arguments) => admin::run(&arguments),
        Command::Repair(arguments) => repair::run(&arguments),
        Command::Ls(arguments) => ls::run(&arguments),
        Command::Tree(arguments) => tree::run(&arguments),
        Command::Get(arguments) => get::run(&arguments),
        Command::Set(arguments) => set::run(&arguments),
        Command::Create(arguments) => create::run(&arguments),
        Command::Delete(arguments) => delete::run(&arguments),
        Command::Stat(arguments) => stat::run(&arguments),
        Command::Acl(arguments) => acl::run(&arguments),
        Command::Shell(arguments) => shell::run(&arguments),
        Command::Watch(arguments) => watch::run(&arguments),
        Command::Sync(arguments) => sync::run(&arguments),
        Command::Multi(arguments) => multi::run(&arguments),
        Command::Lock(arguments) => lock::run(&arguments),
        Command::Elect(arguments) => elect::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
        Command::Member(arguments) => member::run(&arguments),
        Command::Queue(arguments) => queue::run(&arguments),
        Command::Log(arguments) => log::run(&arguments),
        Command::Snapshot(arguments) => snapshot::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments, Cli::command()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory as _, Parser as _};

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }

    /// The lines below "Examples:" in a command's help, without the words that explain them.
    fn examples(command: &Command) -> Vec<String> {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1).take_while(|line| !line.is_empty());
        lines.map(|line| line.trim_start().split("  ").next().unwrap_or_default().to_owned()).collect()
    }

    fn check(command: &Command, path: &str) {
        let path = format!("{path}{} ", command.get_name());
        let examples = examples(command);
        assert!(!examples.is_empty(), "`{path}` has no examples in its help");
        for example in &examples {
            assert!(example.starts_with("farrier "), "{path}: {example:?} is no example of it");
            let parsed = super::Cli::try_parse_from(example.split_whitespace());
            assert!(parsed.is_ok(), "{path}: {example:?}: {}", parsed.expect_err("it was refused"));
        }
        if command.get_subcommands().count() == 0 {
            assert!(examples.iter().all(|example| format!("{example} ").starts_with(&path)), "{path}: {examples:?}");
        }
        command.get_subcommands().for_each(|command| check(command, &path));
    }

    #[test]
    fn every_command_has_examples_that_are_taken() {
        check(&super::Cli::command(), "");
    }
}
