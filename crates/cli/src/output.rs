//! Lines for people and scripts. Only here does the program write to its standard streams.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Writes `text` to standard output at once, so that a reader on a pipe sees it.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes one message to standard error, its continuation lines indented.
pub(crate) fn complain(kind: &str, message: impl Display) {
    let message = message.to_string().replace('\n', "\n  ");
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{kind}: {message}");
}
