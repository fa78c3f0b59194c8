//! Lines for people and scripts. Only here does the program write to its standard streams.
//!
//! What `--json` means everywhere: standard output holds JSON and nothing else, one object a line where
//! lines come one after the other, one value for an answer as a whole. Names are those of ZooKeeper's
//! records (`czxid`, `dataLength`), zxids, sessions and digests are strings in hexadecimal (`"0x1f"`),
//! times are milliseconds since 1970, data is base64, what isn't known is null. Errors and warnings are
//! text on standard error, with and without it.
//!
//! Colours appear on a terminal only, and not with `NO_COLOR`.

use std::fmt::{self, Display};
use std::io::{self, BufWriter, StdoutLock, Write as _};
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Effects, Style};

use crate::hints;
use crate::session;
use crate::values::plain;

/// What something is drawn with that is as it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What asks for attention.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default();
/// What is wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);
/// The head of what follows.
pub(crate) const HEAD: Style = Style::new().effects(Effects::BOLD);
/// What is there for completeness.
pub(crate) const FAINT: Style = Style::new().effects(Effects::DIMMED);

/// Exit code: refused by the server, or failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code: arguments or configuration.
pub(crate) const USAGE: u8 = 2;
/// Exit code: no server.
pub(crate) const NO_SERVER: u8 = 3;
/// Exit code when the reader of standard output has gone: that of a program which SIGPIPE ends.
pub(crate) const READER_GONE: u8 = 128 + 13;

/// Writes `text` to standard output at once, so that a reader on a pipe sees it.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes one message to standard error, its continuation lines indented.
pub(crate) fn complain(kind: &str, message: impl Display) {
    // It may quote what others named.
    let message = message.to_string().lines().map(plain).collect::<Vec<_>>().join("\n  ");
    let colour = has_colour(&AutoStream::choice(&io::stderr()));
    let style = match kind {
        kind if kind.ends_with("error") => BAD,
        kind if kind.ends_with("warning") => WARNING,
        _ => Style::new(),
    };
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{}: {message}", Painted { style: colour.then_some(style), what: kind });
}

const fn has_colour(choice: &ColorChoice) -> bool {
    !matches!(choice, ColorChoice::Never)
}

/// Standard output for many lines: buffered, with colours where they are wanted.
pub(crate) struct Out {
    to: BufWriter<StdoutLock<'static>>,
    colour: bool,
}

impl Out {
    pub(crate) fn open() -> Self {
        let colour = has_colour(&AutoStream::choice(&io::stdout()));
        Self { to: BufWriter::new(io::stdout().lock()), colour }
    }

    /// `what` in a style, or plain where there are no colours.
    pub(crate) fn paint<T: Display>(&self, style: Style, what: T) -> Painted<T> {
        Painted { style: self.colour.then_some(style), what }
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, text: impl Display) -> anyhow::Result<()> {
        writeln!(self.to, "{text}").map_err(OutputError::into)
    }

    /// Writes a line of JSON.
    pub(crate) fn json(&mut self, value: &serde_json::Value) -> anyhow::Result<()> {
        self.line(value)
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.to.write_all(bytes).map_err(OutputError::into)
    }

    /// Hands everything on to whoever reads it.
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        self.to.flush().map_err(OutputError::into)
    }
}

/// Something in a style.
pub(crate) struct Painted<T> {
    style: Option<Style>,
    what: T,
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = self.style.unwrap_or_default();
        write!(f, "{style}{}{style:#}", self.what)
    }
}

/// Standard output can't be written.
#[derive(Debug)]
struct OutputError(io::Error);

impl OutputError {
    fn into(error: io::Error) -> anyhow::Error {
        anyhow::Error::new(Self(error))
    }
}

impl Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "standard output can't be written: {}", self.0)
    }
}

impl std::error::Error for OutputError {}

/// A failure with an exit code of its own; every other one ends with [`FAILED`].
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// What was asked for can't be done as things are.
    pub(crate) fn refused(message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { code: FAILED, message: message.into() })
    }

    /// What ends with a code of its own.
    pub(crate) fn with_code(code: u8, message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { code, message: message.into() })
    }

    /// There is no server to do it.
    pub(crate) fn no_server(message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { code: NO_SERVER, message: message.into() })
    }

    /// What was asked for makes no sense, or names what isn't there.
    pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { code: USAGE, message: message.into() })
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The end of a command: its code, or why it failed, told on standard error.
pub(crate) fn conclude(command: &str, result: anyhow::Result<u8>) -> ExitCode {
    ExitCode::from(result.unwrap_or_else(|error| tell(&format!("farrier {command}: error"), &error)))
}

/// Tells of a failure on standard error; returns the code that it stands for.
pub(crate) fn tell(kind: &str, error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<OutputError>().is_some_and(|e| e.0.kind() == io::ErrorKind::BrokenPipe) {
        // `| head` has seen enough.
        return READER_GONE;
    }
    let code = error.downcast_ref::<Failure>().map_or_else(|| code_of(error), |failure| failure.code);
    let hint = hints::next_step(error).map(|hint| format!("\n{hint}")).unwrap_or_default();
    complain(kind, format_args!("{}{hint}", hints::message(error)));
    code
}

/// The end of a command of which every failure ends with one code.
pub(crate) fn conclude_as(command: &str, result: anyhow::Result<u8>, failed: u8) -> ExitCode {
    ExitCode::from(result.unwrap_or_else(|error| {
        tell(&format!("farrier {command}: error"), &error);
        failed
    }))
}

/// The exit code of an error that is not a [`Failure`].
fn code_of(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<farrier_recipes::Error>() {
        return session::recipe_exit_code(error);
    }
    error.downcast_ref::<farrier_client::Error>().map_or(FAILED, session::exit_code)
}
