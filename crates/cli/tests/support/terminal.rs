//! A command on a pseudo-terminal.

use super::PATIENCE;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The command, what it shows and what is typed.
#[derive(Debug)]
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    shown: String,
    /// Up to where of it was waited for.
    seen: usize,
}

impl Terminal {
    /// Runs `command` on a terminal of its own.
    pub(crate) fn open(mut command: Command) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&controller).expect("granted");
        unlockpt(&controller).expect("unlocked");
        let name = ptsname(&controller, Vec::new()).expect("it has a name");
        let name = std::ffi::OsStr::from_bytes(name.to_bytes());
        let open = || File::options().read(true).write(true).open(name).expect("the other end");
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        let child = command.stdin(open()).stdout(open()).stderr(open()).spawn().expect("the binary runs");
        // The command would hold the other end.
        drop(command);
        let keyboard = File::from(controller);
        let mut reader = keyboard.try_clone().expect("a second handle");
        let (sender, screen) = channel();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            // When the last holder of the other end has gone the terminal answers with an error.
            while let Ok(n @ 1..) = reader.read(&mut chunk) {
                if sender.send(chunk[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keyboard, screen, shown: String::new(), seen: 0 }
    }

    /// Waits until `text` is shown, behind what was waited for before.
    pub(crate) fn wait_for(&mut self, text: &str) {
        assert!(self.shows(text, PATIENCE), "no {text:?} within {PATIENCE:?} in {:?}", self.shown);
    }

    /// Whether that comes so soon.
    pub(crate) fn shows(&mut self, text: &str, within: Duration) -> bool {
        let end = Instant::now() + within;
        loop {
            if let Some(at) = self.shown[self.seen..].find(text) {
                self.seen += at + text.len();
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => panic!("no {text:?} to the end of {:?}", self.shown),
            }
        }
    }

    /// Types.
    pub(crate) fn enter(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("typed");
    }

    /// The process.
    pub(crate) const fn child(&self) -> &Child {
        &self.child
    }

    /// Waits for the end; all that was shown, and the exit code.
    pub(crate) fn end(mut self) -> (String, Option<i32>) {
        for bytes in &self.screen {
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
        (self.shown, self.child.wait().expect("it ends").code())
    }
}
