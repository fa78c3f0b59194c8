//! Lines in the log of which strangers could make too many, and text of theirs in them.

use crate::io::{Actions, Level, Time};
use crate::limits::{NUISANCE_PAUSE, TEXT_SHOWN_MAX};

/// One line for many of a kind.
#[derive(Debug, Default)]
pub(crate) struct Quietly {
    /// When the next one may be said. [`Time::mono`].
    due: u64,
    unsaid: u64,
}

impl Quietly {
    /// Warns, unless something like it was said a moment ago.
    pub(crate) fn warn(&mut self, now: Time, out: &mut Actions, text: impl FnOnce() -> String) {
        if now.mono < self.due {
            self.unsaid += 1;
            return;
        }
        self.due = now.mono + NUISANCE_PAUSE;
        let more = match std::mem::take(&mut self.unsaid) {
            0 => String::new(),
            more => format!(" ({more} more of the kind before)"),
        };
        out.note(Level::Warn, text() + &more);
    }
}

/// What is quiet, one for each kind of nuisance.
#[derive(Debug, Default)]
pub(crate) struct Nuisances {
    pub(crate) authentication: Quietly,
    pub(crate) other_ensemble: Quietly,
    pub(crate) ahead: Quietly,
    pub(crate) first_frame: Quietly,
    pub(crate) oversized: Quietly,
}

/// Text of a stranger, for people: without what a log would not show, and only the beginning of a long one.
pub(crate) fn shown(text: &str) -> String {
    let escaped = |text: &str| text.escape_debug().to_string();
    match text.char_indices().nth(TEXT_SHOWN_MAX) {
        Some((end, _)) => format!("{}…", escaped(&text[..end])),
        None => escaped(text),
    }
}
