//! Where values come from, and which of several counts: `--set` over the file over `-D`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::{self, Fallback, KEYS, Key, Kind, Property, Spelling, Support};
use super::value::{self, Parsed};
use super::{Problem, jvmflags, properties, suggest};

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody.
    Default,
    /// A `-D` item of an environment variable.
    JvmFlag {
        /// The environment variable.
        variable: String,
        /// The Java property.
        property: String,
    },
    /// A line of a file.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// `--set`.
    Set,
    /// An argument of the form `port datadir [ticktime] [maxcnxns]`, or of a program.
    Argument,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::JvmFlag { variable, property } => write!(f, "-D{property} in {variable}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Set => f.write_str("--set"),
            Self::Argument => f.write_str("argument"),
        }
    }
}

/// A value that somebody set.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub(super) key: &'static Key,
    /// The canonical name; for a member of a family, with its suffix.
    pub(super) name: String,
    pub(super) text: String,
    pub(super) origin: Origin,
    spelling: Spelling,
}

/// All that was set, the loser of each conflict left out.
#[derive(Debug, Default)]
pub(super) struct Sources {
    set: BTreeMap<String, Assignment>,
    pub(super) warnings: Vec<String>,
    /// Servers that are listed twice: no reason to refuse a start, but to be told with others.
    pub(super) twice_listed: Vec<Problem>,
    pub(super) problems: Vec<Problem>,
    /// Warnings that are true of a server that runs alone.
    if_alone: Vec<String>,
}

impl Sources {
    /// Takes the `-D` items that Apache would take; everything else is named in a warning.
    pub(super) fn add_jvm_flags(&mut self, variables: &[(&str, &str)]) {
        let flags = jvmflags::parse(variables);
        let mut foreign: Vec<String> = flags.others.iter().map(|f| (*f).to_owned()).collect();
        for definition in flags.definitions {
            let (variable, property) = (definition.variable.to_owned(), definition.name.to_owned());
            let origin = Origin::JvmFlag { variable, property };
            let Some((key, spelling)) = keys::find_property(definition.name) else {
                self.unread_property(definition.name, &origin, &mut foreign);
                continue;
            };
            let bare = definition.name.strip_prefix("zookeeper.").unwrap_or(definition.name);
            let text = definition.value.unwrap_or_else(|| self.bare_flag(key, &origin));
            self.assign(key, bare, text, origin, spelling);
        }
        if !foreign.is_empty() {
            self.warnings.push(format!(
                "these flags mean something to a JVM only and are ignored: {} (memory can be bounded by the service manager)",
                foreign.join(" ")
            ));
        }
    }

    /// What `-Dname` sets. To Java it is empty, which no switch takes for true, although it looks as if it switched
    /// something on. Where that would be a protection, it is taken at its word.
    fn bare_flag(&mut self, key: &Key, origin: &Origin) -> &'static str {
        let text = match key.kind {
            Kind::Bool if matches!(key.support, Support::Demand(_)) => return "true",
            Kind::Bool | Kind::Word("true") => "false",
            Kind::Word("yes") => "no",
            Kind::Word(_) => "yes",
            _ => return "",
        };
        self.warnings
            .push(format!("{origin} has no value, which is not true, in Apache either: {}={text} counts", key.name));
        text
    }

    fn unread_property(&mut self, name: &str, origin: &Origin, foreign: &mut Vec<String>) {
        let Some(bare) = name.strip_prefix("zookeeper.") else {
            foreign.push(format!("-D{name}"));
            return;
        };
        if jvmflags::is_client_property(name) {
            return;
        }
        match keys::find(bare) {
            Some((key, _)) => self.warnings.push(format!(
                "{origin}: ignored, as in Apache: `{}` is read from the file; write it there or give --set",
                key.name
            )),
            None => self.unknown(bare, origin),
        }
    }

    /// Takes every entry of the main file.
    pub(super) fn add_file(&mut self, path: &Path, text: &[u8]) {
        let Some(entries) = self.read_entries(path, text) else { return };
        for entry in entries {
            let origin = Origin::File { path: path.to_owned(), line: entry.line };
            self.add_named(&entry.key, &entry.value, origin);
        }
    }

    /// Entries of a file, or none with a problem recorded. Warns about what Java would read otherwise.
    pub(super) fn read_entries(&mut self, path: &Path, text: &[u8]) -> Option<Vec<properties::Entry>> {
        match properties::parse(text) {
            Ok(found) => {
                if let Some(line) = found.utf8_line {
                    self.warnings.push(format!(
                        "{}:{line}: read as UTF-8; Apache reads ISO-8859-1 and would see other characters",
                        path.display()
                    ));
                }
                Some(found.entries)
            }
            Err(error) => {
                self.problems.push(Problem::at(format!("{}:{}", path.display(), error.line), error.message));
                None
            }
        }
    }

    /// Takes `name=text` in the spelling of the file.
    pub(super) fn add_named(&mut self, name: &str, text: &str, origin: Origin) {
        let Some((key, spelling)) = keys::find(name) else {
            self.unknown(name, &origin);
            return;
        };
        let bare = name.strip_prefix("zookeeper.").unwrap_or(name);
        if spelling == Spelling::Dead && matches!(origin, Origin::File { .. }) {
            let reason = match key.property {
                Property::Plain => format!("Apache reads it from -D{} only", key.name),
                _ => format!("Apache ignores this spelling of `{}`", canonical(key, bare)),
            };
            let applied = format!("{origin}: {name}={} is applied, although {reason}", shown(key.name, text));
            match key.support {
                Support::Alone(_) => self.if_alone.push(applied),
                // It is not applied, wherever it stands.
                Support::Mapped(_) | Support::Ignored(_) | Support::NotRunning(_) => {}
                Support::Used | Support::Differs(_) | Support::Partly(_) | Support::Ensemble | Support::Demand(_) => {
                    self.warnings.push(applied)
                }
            }
        }
        self.assign(key, bare, text, origin, spelling);
    }

    /// Takes `name=text` from an argument, over what an argument set before.
    pub(super) fn add_argument(&mut self, name: &str, text: &str) {
        let (key, spelling) = keys::find(name).expect("arguments have names of the table");
        let assignment =
            Assignment { key, name: name.to_owned(), text: text.to_owned(), origin: Origin::Argument, spelling };
        self.set.insert(name.to_owned(), assignment);
    }

    fn unknown(&mut self, name: &str, origin: &Origin) {
        let meant = suggest::nearest(name.strip_prefix("zookeeper.").unwrap_or(name), keys::spellings());
        let meant = meant.map_or_else(
            || "no known key resembles it".to_owned(),
            |near| match near.strip_suffix('.') {
                Some(family) => format!("did you mean `{family}.…`?"),
                None => format!("did you mean `{near}`?"),
            },
        );
        self.warnings.push(format!("{origin}: unknown key `{name}` is ignored; {meant}"));
    }

    fn assign(&mut self, key: &'static Key, bare: &str, text: &str, origin: Origin, spelling: Spelling) {
        let name = canonical(key, bare);
        let fresh = Assignment { key, name: name.clone(), text: text.to_owned(), origin, spelling };
        let Some(old) = self.set.get(&name) else {
            self.set.insert(name, fresh);
            return;
        };
        let (layer_old, layer_new) = (layer(&old.origin), layer(&fresh.origin));
        let wins = (layer_new, fresh.spelling) >= (layer_old, old.spelling);
        if layer_old == layer_new && layer_new == layer_of_files() {
            let (winner, loser) = if wins { (&fresh, old) } else { (old, &fresh) };
            if name.starts_with("server.") {
                let listed = format!("{name} is listed twice; {} would count, as in Apache", winner.origin);
                self.twice_listed.push(Problem::at(loser.origin.to_string(), listed));
            }
            self.warnings.push(format!("{}: `{name}` is set twice; {} counts", loser.origin, winner.origin));
        }
        if wins {
            self.set.insert(name, fresh);
        }
    }

    /// Checks every value against its row; what is refused no longer counts as set.
    pub(super) fn validate(&mut self) {
        let mut refused = Vec::new();
        for (name, a) in &self.set {
            match value::parse(a.key.kind, &a.text) {
                Ok(_) => {
                    if let Some(bound) = value::raised(a.key.kind, &a.text) {
                        let origin = &a.origin;
                        self.warnings.push(format!("{origin}: {name}={} is too low; {bound} is used", a.text));
                    }
                    if let Some(word) = value::inert(a.key.kind, &a.text) {
                        let (origin, text) = (&a.origin, &a.text);
                        self.warnings
                            .push(format!("{origin}: {name}={text} does nothing, as in Apache; only `{word}` does"));
                    }
                }
                Err(wrong) => {
                    self.problems.push(a.problem(format!("{wrong}; allowed: {}", value::allowed(a.key.kind))));
                    refused.push(name.clone());
                }
            }
        }
        for name in refused {
            self.set.remove(&name);
        }
    }

    /// Everything set, by name.
    pub(super) fn assignments(&self) -> impl Iterator<Item = &Assignment> {
        self.set.values()
    }

    /// Members of the family `prefix` (which ends in a dot), with their suffix.
    pub(super) fn family<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Assignment)> {
        self.set.values().filter_map(move |a| a.name.strip_prefix(prefix).map(|suffix| (suffix, a)))
    }

    /// Who set `name`, if anybody.
    pub(super) fn assignment(&self, name: &str) -> Option<&Assignment> {
        self.set.get(name)
    }

    /// The value of `name`, or its default; `None` if it is unset and has no fixed default.
    fn parsed(&self, name: &str) -> Option<Parsed> {
        let key = KEYS.iter().find(|k| k.name == name).expect("the loader asks for rows of the table");
        let text = match (self.set.get(name), key.default) {
            (Some(a), _) => a.text.as_str(),
            (None, Fallback::Value(text)) => text,
            (None, Fallback::Required | Fallback::Unset | Fallback::Derived(_)) => return None,
        };
        Some(value::parse(key.kind, text).expect("set values were validated, and a test validates the defaults"))
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        match self.parsed(name) {
            Some(Parsed::Bool(value)) => value,
            other => unreachable!("{name} is a boolean with a default, not {other:?}"),
        }
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        match self.parsed(name) {
            Some(Parsed::Int(value)) => Some(value),
            None => None,
            other => unreachable!("{name} is an integer, not {other:?}"),
        }
    }

    /// A count that the row bounds to 32 bits; negative ones are 0.
    pub(super) fn count(&self, name: &str) -> u32 {
        let value = self.int(name).expect("the row has a default").max(0);
        u32::try_from(value).expect("the row's upper bound is below 2^31")
    }

    /// Milliseconds; negative ones are zero.
    pub(super) fn ms(&self, name: &str) -> Duration {
        Duration::from_millis(self.int(name).expect("the row has a default").max(0).unsigned_abs())
    }

    pub(super) fn real(&self, name: &str) -> f64 {
        match self.parsed(name) {
            Some(Parsed::Real(value)) => value,
            other => unreachable!("{name} is a number with a default, not {other:?}"),
        }
    }

    pub(super) fn period(&self, name: &str) -> Option<Duration> {
        match self.parsed(name) {
            Some(Parsed::Period(value)) => value,
            other => unreachable!("{name} is a period with a default, not {other:?}"),
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.parsed(name) {
            Some(Parsed::Text(value)) => Some(value),
            None => None,
            other => unreachable!("{name} is text, not {other:?}"),
        }
    }

    /// Records that the value of `name` (if set) contradicts something.
    pub(super) fn refuse(&mut self, name: &str, message: impl Into<String>) {
        let problem = match self.set.get(name) {
            Some(a) => a.problem(message.into()),
            None => Problem::at(name.to_owned(), message.into()),
        };
        self.problems.push(problem);
    }

    /// Whether the server runs alone is known: tells what only then is true, or only then is not.
    pub(super) fn judge_alone(&mut self, alone: bool) {
        if alone {
            self.warnings.append(&mut self.if_alone);
            return;
        }
        for a in self.set.values().filter(|a| !a.is_off()) {
            if let Support::Alone(feature) = a.key.support {
                let place = format!("{} ({})", a.name, a.origin);
                self.warnings
                    .push(format!("not running in an ensemble in this version: {feature}; without effect: {place}"));
            }
            if let Support::Partly(lacks) = a.key.support {
                self.warnings.push(format!("{}: {}={}: {lacks}", a.origin, a.name, a.text));
            }
        }
    }

    /// One warning for each feature that the file sets up and that isn't running, one for all keys
    /// that only mean something inside a JVM; a demand for security is refused.
    pub(super) fn judge_support(&mut self) {
        let mut missing: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        let mut ignored = Vec::new();
        let mut demands = Vec::new();
        for a in self.set.values() {
            let place = format!("{} ({})", a.name, a.origin);
            match a.key.support {
                Support::Used
                | Support::Differs(_)
                | Support::Alone(_)
                | Support::Partly(_)
                | Support::Ensemble
                | Support::Mapped(_) => {}
                Support::Ignored(reason) => ignored.push(format!("{place}: {reason}")),
                Support::NotRunning(_) if a.is_off() => {}
                Support::NotRunning(feature) => missing.entry(feature).or_default().push(place),
                Support::Demand(feature) => {
                    if !a.is_off() {
                        demands.push(a.problem(format!(
                            "this version has no {feature}, and starting without it would drop the protection that \
                             is demanded here; remove the key or set it to false to do without"
                        )));
                    }
                }
            }
        }
        for (feature, places) in missing {
            self.warnings
                .push(format!("not running in this version: {feature}; without effect: {}", places.join(", ")));
        }
        if !ignored.is_empty() {
            self.warnings.push(format!("accepted, without effect outside a JVM: {}", ignored.join("; ")));
        }
        self.problems.extend(demands);
    }
}

impl Assignment {
    fn problem(&self, message: String) -> Problem {
        let value = shown(&self.name, &self.text);
        Problem::at(self.origin.to_string(), format!("{}={value}: {message}", self.name))
    }

    /// The value as it may be printed.
    pub(super) fn shown(&self) -> &str {
        shown(&self.name, &self.text)
    }

    /// Whether the value switches off or unsets what the key belongs to.
    pub(super) fn is_off(&self) -> bool {
        match value::parse(self.key.kind, &self.text) {
            Ok(Parsed::Bool(value)) => !value,
            Ok(Parsed::Int(value)) => self.key.kind == Kind::Port && value <= 0,
            Ok(Parsed::Text(text)) => text.is_empty(),
            Ok(Parsed::Real(_) | Parsed::Period(_)) | Err(_) => false,
        }
    }
}

/// The name under which an assignment is kept.
pub(super) fn canonical(key: &Key, bare: &str) -> String {
    if key.family().is_some() { bare.to_owned() } else { key.name.to_owned() }
}

pub(super) fn shown<'a>(name: &str, text: &'a str) -> &'a str {
    if Key::secret(name) { "(hidden)" } else { text }
}

fn layer(origin: &Origin) -> u8 {
    match origin {
        Origin::Default => 0,
        Origin::JvmFlag { .. } => 1,
        Origin::File { .. } | Origin::Argument => layer_of_files(),
        Origin::Set => 3,
    }
}

const fn layer_of_files() -> u8 {
    2
}
