//! What happened, for a reader: who said what to whom, writes and completions, changes of state.

use crate::observe::Moment;
use std::fmt::Write as _;

/// Lines in the order of events, if anybody wants them.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    text: Option<String>,
}

impl Transcript {
    /// One that keeps its lines if somebody will read them.
    pub(crate) fn new(kept: bool) -> Self {
        Self { text: kept.then(String::new) }
    }

    /// Adds a line; `line` is only asked if it is kept.
    pub(crate) fn line(&mut self, now: u64, line: impl FnOnce() -> String) {
        if let Some(text) = &mut self.text {
            // Writing to a String can't fail.
            let _ = writeln!(text, "{} {}", Moment(now), line());
        }
    }

    /// Everything that was kept.
    pub(crate) fn into_text(self) -> String {
        self.text.unwrap_or_default()
    }
}
