//! The commands of the shell: zkCli's, under their names and with their flags.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::InSession;
use crate::span::{self, Bare, MS, TTL_MAX};
use crate::values::AclList;

/// A line of the shell.
#[derive(Debug, Parser)]
#[command(multicall = true, disable_help_flag = true, after_help = NOTES)]
pub(super) struct Line {
    #[command(subcommand)]
    pub(super) command: Command,
}

const NOTES: &str = "\
`help COMMAND` tells more. Words with blanks stand in quotes, \"so\" or 'so'. -w leaves a watch, which is told
once, when something changes.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the children of a znode
    Ls(Ls),
    /// Print the data of a znode
    Get(Get),
    /// Set the data of a znode
    Set(Set),
    /// Create a znode
    Create(Create),
    /// Delete a znode
    Delete(Delete),
    /// Delete a znode and all below it
    #[command(visible_alias = "rmr")]
    Deleteall(DeleteAll),
    /// Print the stat of a znode
    Stat(Stat),
    /// Print who may do what with a znode
    #[command(name = "getAcl")]
    GetAcl(GetAcl),
    /// Set who may do what with a znode
    #[command(name = "setAcl")]
    SetAcl(SetAcl),
    /// Authenticate; not kept in the history file
    Addauth(AddAuth),
    /// Watch a znode, or all below it too, for good
    #[command(name = "addWatch")]
    AddWatch(AddWatch),
    /// Remove watches
    Removewatches(RemoveWatches),
    /// Wait until the server has what was committed
    Sync(Place),
    /// Print how many znodes are below one
    #[command(name = "getAllChildrenNumber")]
    GetAllChildrenNumber(Place),
    /// Print the ephemeral znodes of this session
    #[command(name = "getEphemerals")]
    GetEphemerals(Ephemerals),
    /// Print limits and usage of a znode with a quota
    Listquota(Place),
    /// Limit how much there may be below a znode
    Setquota(SetQuota),
    /// Take limits away
    Delquota(DelQuota),
    /// Print the members of the ensemble, or deal with a configuration and its past
    Config(Config),
    /// Change the members of the ensemble
    Reconfig(Reconfig),
    /// Print the identities of this connection
    Whoami,
    /// Say whether watches are told, or whether they should be
    Printwatches(PrintWatches),
    /// Print the last commands with their numbers
    History,
    /// Run a command of the history again
    Redo(Redo),
    /// Connect, to other servers or again
    Connect(Connect),
    /// End the session
    Close,
    /// Print the version
    Version,
    /// Leave
    #[command(visible_alias = "exit")]
    Quit,
}

#[derive(Debug, Args)]
pub(super) struct Ls {
    /// Print the stat of PATH too
    #[arg(short)]
    pub(super) stat: bool,
    /// Leave a watch for children that come and go
    #[arg(short)]
    pub(super) watch: bool,
    /// Print the path of everything below, a line each
    #[arg(short = 'R', conflicts_with = "stat")]
    pub(super) recursive: bool,
    /// The znode
    pub(super) path: String,
}

#[derive(Debug, Args)]
pub(super) struct Get {
    /// Print the stat too
    #[arg(short)]
    pub(super) stat: bool,
    /// Leave a watch for the data
    #[arg(short)]
    pub(super) watch: bool,
    /// Print base64
    #[arg(short = 'b', conflicts_with = "hex")]
    pub(super) base64: bool,
    /// Print hexadecimal bytes
    #[arg(short = 'x')]
    pub(super) hex: bool,
    /// The znode
    pub(super) path: String,
}

#[derive(Debug, Args)]
pub(super) struct Set {
    /// Print the stat afterwards
    #[arg(short)]
    pub(super) stat: bool,
    /// Only if the data has this version
    #[arg(short, value_name = "VERSION", allow_negative_numbers = true)]
    pub(super) version: Option<i32>,
    /// The data is base64
    #[arg(short = 'b')]
    pub(super) base64: bool,
    /// The znode
    pub(super) path: String,
    /// The data
    #[arg(allow_negative_numbers = true)]
    pub(super) data: String,
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Sequential: append ten digits that grow
    #[arg(short)]
    pub(super) sequential: bool,
    /// Ephemeral: it goes with this session
    #[arg(short, conflicts_with_all = ["container", "ttl"])]
    pub(super) ephemeral: bool,
    /// Container: it goes with its last child
    #[arg(short, conflicts_with_all = ["ttl", "sequential"])]
    pub(super) container: bool,
    /// It goes when it has no children and was not set for so long: milliseconds, or with a unit as in `5m`
    #[arg(short, value_name = "TTL", allow_hyphen_values = true, value_parser = milliseconds)]
    pub(super) ttl: Option<Duration>,
    /// The znode
    pub(super) path: String,
    /// Its data
    #[arg(allow_negative_numbers = true)]
    pub(super) data: Option<String>,
    /// Who may do what: SCHEME:ID:PERMISSIONS, separated by commas
    pub(super) acl: Option<AclList>,
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    span::within(span::parse(text, Bare::Milliseconds)?, MS, TTL_MAX)
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// Only if the data has this version
    #[arg(short, value_name = "VERSION", allow_negative_numbers = true)]
    pub(super) version: Option<i32>,
    /// The znode
    pub(super) path: String,
}

#[derive(Debug, Args)]
pub(super) struct DeleteAll {
    /// Don't ask, as the shell does on a terminal
    #[arg(short)]
    pub(super) yes: bool,
    /// Taken for zkCli's sake: deletions go in a pipeline here
    #[arg(short, value_name = "SIZE", hide = true)]
    pub(super) batch: Option<u32>,
    /// The znode
    pub(super) path: String,
}

#[derive(Debug, Args)]
pub(super) struct Stat {
    /// Leave a watch: for the data, or for the creation of what isn't there
    #[arg(short)]
    pub(super) watch: bool,
    /// The znode
    pub(super) path: String,
}

#[derive(Debug, Args)]
pub(super) struct GetAcl {
    /// Print the stat too
    #[arg(short)]
    pub(super) stat: bool,
    /// The znode
    pub(super) path: String,
}

#[derive(Debug, Args)]
pub(super) struct SetAcl {
    /// Print the stat afterwards
    #[arg(short, conflicts_with = "recursive")]
    pub(super) stat: bool,
    /// Only if the ACL has this version
    #[arg(short, value_name = "VERSION", allow_negative_numbers = true)]
    pub(super) version: Option<i32>,
    /// Everything below it too
    #[arg(short = 'R')]
    pub(super) recursive: bool,
    /// The znode
    pub(super) path: String,
    /// SCHEME:ID:PERMISSIONS, separated by commas
    pub(super) acl: AclList,
}

#[derive(Debug, Args)]
pub(super) struct AddAuth {
    /// digest, or another scheme of the server
    pub(super) scheme: String,
    /// For digest USER:PASSWORD
    #[arg(default_value = "")]
    pub(super) auth: String,
}

/// What a watch tells of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Mode {
    /// Data and children of the one znode
    #[value(name = "PERSISTENT")]
    Persistent,
    /// Data, creation and deletion of the znode and all below it
    #[value(name = "PERSISTENT_RECURSIVE")]
    PersistentRecursive,
}

#[derive(Debug, Args)]
pub(super) struct AddWatch {
    /// What it tells of
    #[arg(short, value_name = "MODE", ignore_case = true, default_value = "PERSISTENT_RECURSIVE")]
    pub(super) mode: Mode,
    /// The znode; it need not exist
    pub(super) path: String,
}

#[derive(Debug, Args)]
pub(super) struct RemoveWatches {
    /// Those for children
    #[arg(short, group = "kind")]
    pub(super) children: bool,
    /// Those for data
    #[arg(short, group = "kind")]
    pub(super) data: bool,
    /// Persistent ones
    #[arg(short, group = "kind")]
    pub(super) persistent: bool,
    /// Persistent recursive ones
    #[arg(short, group = "kind")]
    pub(super) recursive: bool,
    /// All, as if none of these is given
    #[arg(short, group = "kind")]
    pub(super) all: bool,
    /// Here, even if the server can't be told
    #[arg(short)]
    pub(super) local: bool,
    /// The znode
    pub(super) path: String,
}

#[derive(Debug, Args)]
pub(super) struct Place {
    /// The znode
    pub(super) path: String,
}

#[derive(Debug, Args)]
pub(super) struct Ephemerals {
    /// Only those at or below it
    #[arg(default_value = "/")]
    pub(super) path: String,
}

#[derive(Debug, Args)]
pub(super) struct SetQuota {
    /// Znodes, itself counted; more are only warned of in the server's log
    #[arg(
        short = 'n',
        value_name = "ZNODES",
        value_parser = clap::value_parser!(i64).range(1..),
        required_unless_present_any = ["bytes", "count_hard", "bytes_hard"]
    )]
    pub(super) count: Option<i64>,
    /// Bytes of data; more are only warned of
    #[arg(short = 'b', value_name = "BYTES", value_parser = clap::value_parser!(i64).range(0..))]
    pub(super) bytes: Option<i64>,
    /// Znodes; more are refused where the server enforces quotas
    #[arg(short = 'N', value_name = "ZNODES", value_parser = clap::value_parser!(i64).range(1..))]
    pub(super) count_hard: Option<i64>,
    /// Bytes of data; more are refused where the server enforces quotas
    #[arg(short = 'B', value_name = "BYTES", value_parser = clap::value_parser!(i64).range(0..))]
    pub(super) bytes_hard: Option<i64>,
    /// The znode
    pub(super) path: String,
}

#[derive(Debug, Args)]
pub(super) struct DelQuota {
    /// The limit of znodes
    #[arg(short = 'n')]
    pub(super) count: bool,
    /// The limit of bytes
    #[arg(short = 'b')]
    pub(super) bytes: bool,
    /// The hard limit of znodes
    #[arg(short = 'N')]
    pub(super) count_hard: bool,
    /// The hard limit of bytes
    #[arg(short = 'B')]
    pub(super) bytes_hard: bool,
    /// The znode; without a flag its quota goes as a whole
    pub(super) path: String,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Config {
    /// What is done with the configuration at a path; without it the members are printed
    #[command(subcommand)]
    pub(super) recipe: Option<InSession>,
    /// Print the version and what clients connect to, only
    #[arg(short)]
    pub(super) clients: bool,
    /// Leave a watch
    #[arg(short)]
    pub(super) watch: bool,
    /// Print the stat too
    #[arg(short)]
    pub(super) stat: bool,
}

#[derive(Debug, Args)]
pub(super) struct Reconfig {
    /// Print the stat afterwards
    #[arg(short)]
    pub(super) stat: bool,
    /// Only if the membership has this version, in hexadecimal as `config` shows it
    #[arg(short, value_name = "VERSION")]
    pub(super) version: Option<String>,
    /// The whole new membership, from a file in the form of `config`
    #[arg(
        long,
        value_name = "PATH",
        conflicts_with_all = ["members", "add", "remove"],
        required_unless_present_any = ["members", "add", "remove"]
    )]
    pub(super) file: Option<std::path::PathBuf>,
    /// The whole new membership: server.N=HOST:PORT:PORT;PORT, separated by commas
    #[arg(long, value_name = "SERVERS", conflicts_with_all = ["add", "remove"])]
    pub(super) members: Option<String>,
    /// Servers that join: server.N=HOST:PORT:PORT;PORT, separated by commas
    #[arg(long, value_name = "SERVERS")]
    pub(super) add: Option<String>,
    /// Numbers of servers that leave, separated by commas
    #[arg(long, value_name = "NUMBERS")]
    pub(super) remove: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct PrintWatches {
    /// What should be
    pub(super) on: Option<Switch>,
}

/// On or off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Switch {
    /// They are told
    On,
    /// They are not
    Off,
}

#[derive(Debug, Args)]
pub(super) struct Redo {
    /// Its number in the history
    pub(super) number: usize,
}

#[derive(Debug, Args)]
pub(super) struct Connect {
    /// HOST:PORT,…[/PATH]; the same as before without it
    pub(super) server: Option<String>,
}

impl Line {
    /// Reads the words of a line.
    pub(super) fn read(words: &[String]) -> Result<Self, clap::Error> {
        // zkCli's long flags have one dash.
        let long = |word: &String| match word.as_str() {
            "-file" | "-members" | "-add" | "-remove" => format!("-{word}"),
            word => word.to_owned(),
        };
        if words.first().is_some_and(|word| word == "reconfig") {
            Self::try_parse_from(words.iter().map(long))
        } else {
            Self::try_parse_from(words)
        }
    }

    /// Names of commands, for completion.
    pub(super) fn names() -> Vec<String> {
        use clap::CommandFactory as _;
        let mut names: Vec<String> = Self::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
        names.push("help".to_owned());
        names.sort_unstable();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::words::split;

    fn read(line: &str) -> Result<Line, clap::Error> {
        Line::read(&split(line).expect("closed"))
    }

    #[test]
    fn the_commands_are_well_formed() {
        use clap::CommandFactory as _;
        Line::command().debug_assert();
    }

    #[test]
    fn lines_that_zkcli_takes() {
        for line in [
            "ls /",
            "ls -s /",
            "ls -w /",
            "ls -R /",
            "ls / -s",
            "get -s -w /a",
            "get -sw /a",
            "get -b /a",
            "set /a x",
            "set -s -v 3 /a x",
            "set /a x -v -1",
            "set /a -5",
            "set -b /a eA==",
            "create /a",
            "create -s -e /a x",
            "create -e /a",
            "create -c /a",
            "create -t 1000 /a",
            "create -s -t 10 /a x world:anyone:r",
            "delete /a",
            "delete -v 3 /a",
            "deleteall /a",
            "deleteall /a -b 100",
            "rmr /a",
            "stat -w /a",
            "getAcl /a",
            "getAcl -s /a",
            "setAcl -s -v 2 /a world:anyone:cdrwa",
            "setAcl -R /a world:anyone:r",
            "addauth digest u:p",
            "addWatch /a",
            "addWatch -m PERSISTENT /a",
            "addWatch -m persistent_recursive /a",
            "removewatches /a",
            "removewatches /a -d",
            "removewatches -c -l /a",
            "sync /",
            "history",
            "redo 3",
            "version",
            "close",
            "connect",
            "connect h:2181,i/x",
            "quit",
            "exit",
            "getAllChildrenNumber /",
            "getEphemerals",
            "getEphemerals /a",
            "listquota /a",
            "setquota -n 5 /a",
            "setquota -b 0 -N 5 -B 7 /a",
            "delquota /a",
            "delquota -n /a",
            "config",
            "config -c",
            "config -s -w",
            "config get /a",
            "config set /a x --keep 3",
            "config watch /a --count 1",
            "config edit /a",
            "config history /a --json",
            "config rollback /a 0x100000005",
            "whoami",
            "printwatches",
            "printwatches off",
            "reconfig -add server.4=h:1:2;3 -remove 1,2",
            "reconfig -s -v 10000000a -members server.1=h:1:2;3",
            "reconfig -file members.txt",
        ] {
            assert!(read(line).is_ok(), "{line}: {}", read(line).expect_err("it was refused"));
        }
    }

    #[test]
    fn lines_that_make_no_sense() {
        for line in [
            "",
            "lss /",
            "ls",
            "set /a",
            "create -c -e /a",
            "create -e -t 5 /a",
            "create -t x /a",
            "setquota /a",
            "setquota -n 0 /a",
            "setquota -b -1 /a",
            "reconfig",
            "reconfig -file x -add y",
            "redo",
            "redo x",
            "set /a two words",
            "removewatches -c -d /a",
            "addWatch -m DATA /a",
            "printwatches perhaps",
            "config /a",
            "config -s get /a",
            "config set",
        ] {
            assert!(read(line).is_err(), "{line} was taken");
        }
    }

    #[test]
    fn names_are_complete() {
        let names = Line::names();
        for name in ["ls", "getAcl", "addWatch", "getAllChildrenNumber", "help", "quit"] {
            assert!(names.iter().any(|n| n == name), "{name}: {names:?}");
        }
    }
}
