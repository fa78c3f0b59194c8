//! What `farrier server --check` prints: every value that counts, and who set it.

use std::fmt::Write as _;

use super::keys::{Fallback, KEYS, Mark, Support};
use super::settings::{FourLetterWords, ServerConfig};
use super::sources::{Origin, Sources};
use super::value;

/// One line of `--check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The key.
    pub name: String,
    /// The value that counts, hidden if it is a secret.
    pub value: String,
    /// Who set it.
    pub origin: Origin,
    /// What it does here, where that isn't plain.
    pub note: Option<String>,
}

/// All values, in the order of the table: those that the server reads, and others if they are set.
pub(super) fn effective(sources: &Sources, config: &ServerConfig) -> Vec<Effective> {
    let mut lines = Vec::new();
    for key in KEYS {
        let note = match key.support {
            Support::Used | Support::Alone(_) | Support::Partly(_) | Support::Demand(_) => None,
            Support::Ensemble if config.ensemble.is_some() => None,
            Support::Ensemble => Some("concerns ensembles".to_owned()),
            Support::Mapped(how) | Support::Differs(how) => Some(how.to_owned()),
            Support::Ignored(why) => Some(format!("no effect: {why}")),
            Support::NotRunning(what) => Some(format!("not running: {what}")),
        };
        let mut set = sources.assignments().filter(|a| std::ptr::eq(a.key, key)).peekable();
        let is_read = match key.support {
            Support::Used | Support::Differs(_) | Support::Alone(_) | Support::Partly(_) => true,
            Support::Ensemble => config.ensemble.is_some(),
            Support::Mapped(_) | Support::Ignored(_) | Support::NotRunning(_) | Support::Demand(_) => false,
        };
        if set.peek().is_none() && is_read && key.family().is_none() {
            if let Some(value) = value_in_force(key.name, key.default, config) {
                // A member's line in the list says the port where the key does not.
                let note = (key.name == "clientPort").then(|| "as the list of members says".to_owned());
                lines.push(Effective { name: key.name.to_owned(), value, origin: Origin::Default, note });
            }
            continue;
        }
        for a in set {
            let raised = value::raised(key.kind, &a.text).map(|bound| bound.to_string());
            let (name, origin) = (a.name.clone(), a.origin.clone());
            let value = raised.unwrap_or_else(|| a.shown().to_owned());
            let note = match key.support {
                Support::Alone(what) if config.ensemble.is_some() && !a.is_off() => {
                    Some(format!("not running in an ensemble: {what}"))
                }
                Support::Partly(lacks) if config.ensemble.is_some() && !a.is_off() => Some(lacks.to_owned()),
                _ => note.clone(),
            };
            lines.push(Effective { name, value, origin, note });
        }
    }
    lines
}

/// The value of an unset key.
fn value_in_force(name: &str, default: Fallback, config: &ServerConfig) -> Option<String> {
    let derived = match name {
        "clientPort" if config.client.port != 0 => config.client.port.to_string(),
        "dataLogDir" => config.data_log_dir.display().to_string(),
        "minSessionTimeout" => config.min_session_timeout_ms.to_string(),
        "maxSessionTimeout" => config.max_session_timeout_ms.to_string(),
        "maxWriteQueuePollTime" => config.storage.write_queue_poll.as_millis().to_string(),
        "jute.maxbuffer.extrasize" => config.limits.jute_extra_size.to_string(),
        "4lw.commands.whitelist" => match &config.words {
            FourLetterWords::All => "*".to_owned(),
            FourLetterWords::Only(words) => words.join(","),
        },
        _ => match default {
            Fallback::Value(text) => text.to_owned(),
            Fallback::Required | Fallback::Unset | Fallback::Derived(_) => return None,
        },
    };
    Some(derived)
}

/// The lines as text: `key=value`, origin, note.
#[must_use]
pub fn render(lines: &[Effective]) -> String {
    let width = lines.iter().map(|l| l.name.chars().count() + 1 + l.value.chars().count()).max().unwrap_or(0).min(60);
    let mut text = String::new();
    for line in lines {
        let setting = format!("{}={}", line.name, line.value);
        let note = line.note.as_ref().map(|n| format!("; {n}")).unwrap_or_default();
        // Writing to a String can't fail.
        let _ = writeln!(text, "{setting:width$}  ({}{note})", line.origin);
    }
    text
}

/// What the columns of [`reference`] mean.
const LEGEND: &str = "\
The column `mark` says what becomes of a key that is meant for a server in a JVM: `honour`, it means what it means in Apache; \
`map`, this server comes to the same by other means, which the last column names; `warn`, there is nothing here that it could \
change, and a start says so. The column `here` says what this version does with it.

";

/// The table of keys as a Markdown page for the documentation.
#[must_use]
pub fn reference() -> String {
    let mut text =
        format!("{LEGEND}| key | Java property | default | allowed | mark | here |\n|---|---|---|---|---|---|\n");
    for key in KEYS {
        let mark = match key.mark {
            Mark::Must => "honour",
            Mark::Map => "map",
            Mark::Warn => "warn",
        };
        let default = match key.default {
            Fallback::Required => "required".to_owned(),
            Fallback::Unset => "unset".to_owned(),
            Fallback::Value("") => "empty".to_owned(),
            Fallback::Value(text) => format!("`{text}`"),
            Fallback::Derived(how) => how.to_owned(),
        };
        let here = match key.support {
            Support::Used => "honoured".to_owned(),
            Support::Partly(lacks) => format!("honoured, but {lacks}"),
            Support::Differs(how) => format!("honoured: {how}"),
            Support::Alone(what) => {
                format!("honoured by a server that runs alone; not running yet in an ensemble: {what}")
            }
            Support::Ensemble => "honoured by a member of an ensemble; means nothing to a server alone".to_owned(),
            Support::Mapped(how) => format!("accepted: {how}"),
            Support::Ignored(why) => format!("accepted, no effect: {why}"),
            Support::NotRunning(what) => format!("not running yet: {what}"),
            Support::Demand(what) => format!("true is refused until {what} exists"),
        };
        let mut names = vec![format!("`{}`", key.name)];
        names.extend(key.aliases.iter().map(|alias| format!("`{alias}`")));
        let properties: Vec<String> = key.properties().iter().map(|p| format!("`{p}`")).collect();
        let allowed = value::allowed(key.kind);
        let _ = writeln!(
            text,
            "| {} | {} | {default} | {allowed} | {mark} | {here} |",
            names.join(", "),
            properties.join(", ")
        );
    }
    text
}
