//! Data of a znode from the command line, a file, or standard input.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::output::Failure;

/// Most bytes that are read: above what any server takes, below what hurts.
const DATA_MAX: u64 = 64 << 20;

/// Time between two looks for an answer.
const LOOK: Duration = Duration::from_millis(50);

/// Where data comes from.
#[derive(Clone, Debug, Args)]
pub(crate) struct DataOptions {
    /// The data, as text
    #[arg(value_name = "DATA", allow_negative_numbers = true, conflicts_with = "file")]
    data: Option<String>,

    /// Take the data from FILE, `-` for standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl DataOptions {
    /// All of a file, `-` for standard input.
    pub(crate) fn of_file(file: &Path) -> Self {
        Self { data: None, file: Some(file.to_owned()) }
    }

    /// Whether it is to come from standard input.
    pub(crate) fn is_standard_input(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.as_os_str() == "-")
    }

    /// The data, or `None` where nothing says what it is.
    pub(crate) fn read(&self) -> anyhow::Result<Option<Vec<u8>>> {
        match (&self.data, &self.file) {
            (Some(data), _) => Ok(Some(data.clone().into_bytes())),
            (None, Some(_)) if self.is_standard_input() => bounded(io::stdin().lock(), "standard input").map(Some),
            (None, Some(file)) => {
                let shown = file.display().to_string();
                let opened = File::open(file).map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
                bounded(opened, &shown).map(Some)
            }
            (None, None) => Ok(None),
        }
    }
}

fn bounded(from: impl Read, shown: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(DATA_MAX + 1).read_to_end(&mut bytes).map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
    if bytes.len() as u64 > DATA_MAX {
        return Err(Failure::usage(format!("{shown}: more than {DATA_MAX} bytes; no server takes them in one znode")));
    }
    Ok(bytes)
}

/// Asks on the terminal; `None` if there is none. Dropping the call withdraws the question: the next line is not taken for
/// its answer.
pub(crate) async fn confirm(question: &str) -> anyhow::Result<Option<bool>> {
    use std::io::Write as _;
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    {
        let mut terminal = io::stderr().lock();
        write!(terminal, "{question} [y/N] ")?;
        terminal.flush()?;
    }
    // A terminal has something to read only when a line of it is whole.
    while rustix::event::poll(&mut [PollFd::new(&io::stdin(), PollFlags::IN)], Some(&Timespec::default()))? == 0 {
        tokio::time::sleep(LOOK).await;
    }
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(Some(matches!(answer.trim(), "y" | "Y" | "yes")))
}
