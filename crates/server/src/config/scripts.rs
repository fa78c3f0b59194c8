//! `zookeeper-env.sh` and `java.env` beside the configuration, which Apache's `zkEnv.sh` executes before it starts a
//! server. They are programs for a shell and are not executed here: what they set is told, and what they demand for
//! protection refuses the start unless the configuration or the environment says the same or otherwise.

use std::path::Path;

use super::keys::{self, Support};
use super::load::read_bounded;
use super::properties;
use super::sources::{Origin, Sources, canonical};
use super::value::{self, Parsed};
use super::{Problem, jvmflags};

/// In the order in which `zkEnv.sh` of 3.9.5 reads them.
const NAMES: [&str; 2] = ["zookeeper-env.sh", "java.env"];

/// One `-Dname` or `-Dname=value` of a script.
#[derive(Debug, PartialEq, Eq)]
struct Definition<'a> {
    /// The line, from 1.
    line: usize,
    name: &'a str,
    /// `None` where a shell would have to tell what it is.
    value: Option<&'a str>,
}

/// All definitions outside of comments, and outside of what is for clients only, whatever a shell would do with them.
fn definitions(text: &str) -> Vec<Definition<'_>> {
    let mut found = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = without_comment(text);
        let assigned = text.trim_start();
        let assigned = assigned.strip_prefix("export ").map_or(assigned, str::trim_start);
        let only_this = !text.contains([';', '&', '|']) && text.matches("JVMFLAGS=").count() == 1;
        if assigned.starts_with("CLIENT_JVMFLAGS=") && only_this {
            continue;
        }
        for (at, _) in text.match_indices("-D") {
            // A shell takes quotes away wherever they stand.
            let item = text[at + 2..].trim_start_matches(['"', '\'', '\\']);
            let (name, rest) = item.split_at(end_of(item, |c| c.is_alphanumeric() || "._-".contains(c)));
            let value = match rest.strip_prefix('=') {
                Some(rest) => {
                    let (value, _) = rest.split_at(end_of(rest, |c| !c.is_whitespace() && !"\"'\\;)}".contains(c)));
                    Some(value).filter(|value| !value.is_empty() && !value.contains(['$', '`']))
                }
                None => Some(""),
            };
            found.push(Definition { line, name, value });
        }
    }
    found
}

fn end_of(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// The line up to a `#` that begins a word and does not stand between quotes of this line.
fn without_comment(line: &str) -> &str {
    let comment = line.match_indices('#').find(|&(at, _)| {
        let before = &line[..at];
        let quoted = ['"', '\''].into_iter().any(|quote| before.matches(quote).count() % 2 == 1);
        before.trim_start().is_empty() || (!quoted && before.ends_with(char::is_whitespace))
    });
    comment.map_or(line, |(at, _)| &line[..at])
}

impl Sources {
    /// Looks through the scripts beside `file`. Everything else has been added already.
    pub(super) fn add_scripts(&mut self, file: &Path) {
        for name in NAMES {
            let path = file.with_file_name(name);
            if !path.is_file() {
                continue;
            }
            match read_bounded(&path, properties::FILE_MAX) {
                Ok(text) => self.add_script(&path, &String::from_utf8_lossy(&text)),
                Err(error) => self.warnings.push(format!(
                    "{}: {error}; Apache's scripts execute it, and what it sets is not in force here",
                    path.display()
                )),
            }
        }
    }

    fn add_script(&mut self, path: &Path, text: &str) {
        let mut lost: Vec<String> = Vec::new();
        for Definition { line, name, value } in definitions(text) {
            let Some((key, _)) = keys::find_property(name) else { continue };
            let bare = name.strip_prefix("zookeeper.").unwrap_or(name);
            let without_effect = matches!(key.support, Support::Ignored(_) | Support::Mapped(_));
            if without_effect || jvmflags::is_client_property(name) {
                continue;
            }
            let canonical = canonical(key, bare);
            match self.assignment(&canonical) {
                // The file is over the flags, in Apache too.
                Some(a) if !matches!(a.origin, Origin::JvmFlag { .. }) || value == Some(a.text.as_str()) => {}
                Some(a) => self.warnings.push(format!(
                    "{}:{line}: -D{name} is set here too, in a script that is not executed; {} counts",
                    path.display(),
                    a.origin
                )),
                None if key.demands_protection(value) => self.problems.push(Problem::at(
                    format!("{}:{line}", path.display()),
                    format!(
                        "-D{name}: this script is not executed, and starting without it would drop the protection that \
                         is demanded here; write {canonical}=… into the configuration (with true or false, as it shall \
                         be), or export SERVER_JVMFLAGS with it"
                    ),
                )),
                None => lost.push(format!("-D{name} (line {line})")),
            }
        }
        if !lost.is_empty() {
            self.warnings.push(format!(
                "{}: this script is not executed, so that what it sets is not in force: {}; write it into the \
                 configuration, or export SERVER_JVMFLAGS with it",
                path.display(),
                lost.join(", ")
            ));
        }
    }
}

impl keys::Key {
    /// Whether this value (`None`: one that can't be known) of this key asks for a protection that the default does not
    /// give, so that nothing may start as if it had not been asked for.
    fn demands_protection(&self, value: Option<&str>) -> bool {
        let protects_when = match (self.support, self.name) {
            (Support::Demand(_), _) | (_, "enforce.auth.enabled") => true,
            (_, "DigestAuthenticationProvider.enabled") => false,
            _ => return false,
        };
        !matches!(value.map(|text| value::parse(self.kind, text)), Some(Ok(Parsed::Bool(on))) if on != protects_when)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_found_wherever_a_shell_may_set_them() {
        let text = "#!/bin/sh\n\
            # export JVMFLAGS=\"-Dzookeeper.commented=1\"\n\
            export SERVER_JVMFLAGS=\"-Xmx1g -Dzookeeper.a=1 -Dzookeeper.b=x#y -Dzookeeper.c\" # not -Dzookeeper.d=1\n\
            \tJVMFLAGS=\"$JVMFLAGS -Dzookeeper.e=$HOME/x \\\n\
            -Dzookeeper.f=`hostname` -Dzookeeper.g=${X:-true}\"\n\
            FLAGS='-Dzookeeper.h=true'; X=-Dzookeeper.i=\"no\"\n\
            if [ $# -gt 1 ]; then JVMFLAGS=-Dzookeeper.j=false; fi\n\
            export CLIENT_JVMFLAGS=\"-Dzookeeper.k=1\"\n\
            Y=\"-Dzookeeper.l=1 # -Dzookeeper.m=2\"\n\
            F=-D'zookeeper.n=1' G=-D\"zookeeper.o=2\"\n\
            CLIENT_JVMFLAGS=-Dzookeeper.p=1; SERVER_JVMFLAGS=-Dzookeeper.q=2\n\
            -D";
        let found: Vec<_> = definitions(text).into_iter().map(|d| (d.line, d.name, d.value)).collect();
        let expected = [
            (3, "zookeeper.a", Some("1")),
            (3, "zookeeper.b", Some("x#y")),
            (3, "zookeeper.c", Some("")),
            (4, "zookeeper.e", None),
            (5, "zookeeper.f", None),
            (5, "zookeeper.g", None),
            (6, "zookeeper.h", Some("true")),
            (6, "zookeeper.i", None),
            (7, "zookeeper.j", Some("false")),
            (9, "zookeeper.l", Some("1")),
            (9, "zookeeper.m", Some("2")),
            (10, "zookeeper.n", Some("1")),
            (10, "zookeeper.o", Some("2")),
            (11, "zookeeper.p", Some("1")),
            (11, "zookeeper.q", Some("2")),
            (12, "", Some("")),
        ];
        assert_eq!(found, expected);
    }
}
