//! A server of a test's own, and the command line pointed at it.

use super::Process;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Both, in a directory that goes with the test.
pub(crate) struct Place {
    pub(crate) temp: tempfile::TempDir,
    pub(crate) server: Process,
}

impl Place {
    /// `lines` are added to the server's `zoo.cfg`.
    pub(crate) fn with(lines: &[&str]) -> Self {
        let temp = tempfile::tempdir().expect("a temporary directory");
        let mut server = Process::new(temp.path(), lines);
        server.start();
        Self { temp, server }
    }

    /// The program with these words. What it runs finds it as `farrier`.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let farrier = env!("CARGO_BIN_EXE_farrier");
        let binaries = Path::new(farrier).parent().expect("a directory").display();
        let path = std::env::var("PATH").expect("there is one");
        let mut command = Command::new(farrier);
        command.args(words).current_dir(self.temp.path()).stdin(Stdio::null());
        for name in ["FARRIER_AUTH", "FARRIER_LOG", "FARRIER_LOCK_NODE", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        command.env("FARRIER_SERVER", self.server.addr().to_string()).env("PATH", format!("{binaries}:{path}"));
        command.env("FARRIER_HISTORY", self.file("state/history"));
        command
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }
}

/// Runs a command with that on its standard input.
pub(crate) fn feed(mut command: Command, input: impl AsRef<[u8]>) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    // It may end before it has read everything.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_ref());
    child.wait_with_output().expect("it ends")
}
