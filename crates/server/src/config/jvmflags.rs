//! `-D` items of `SERVER_JVMFLAGS` and `JVMFLAGS`, as Apache's scripts pass them on.

/// One `-Dname=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition<'a> {
    pub(super) variable: &'a str,
    pub(super) name: &'a str,
    /// `None` for `-Dname`.
    pub(super) value: Option<&'a str>,
}

/// The definitions, in order (a later one wins), and all other flags.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct JvmFlags<'a> {
    pub(super) definitions: Vec<Definition<'a>>,
    pub(super) others: Vec<&'a str>,
}

/// Splits each variable at blanks, as the scripts' unquoted expansion does; quotes mean nothing.
pub(super) fn parse<'a>(variables: &[(&'a str, &'a str)]) -> JvmFlags<'a> {
    let mut flags = JvmFlags::default();
    for (variable, text) in variables {
        for word in text.split_whitespace() {
            let Some(definition) = word.strip_prefix("-D") else {
                flags.others.push(word);
                continue;
            };
            let (name, value) = match definition.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (definition, None),
            };
            flags.definitions.push(Definition { variable, name, value });
        }
    }
    flags
}

/// Whether `name` is a property of Apache's client tools, which read `JVMFLAGS` too.
pub(super) fn is_client_property(name: &str) -> bool {
    const NAMES: [&str; 7] = [
        "zookeeper.clientCnxnSocket",
        "zookeeper.request.timeout",
        "zookeeper.disableAutoWatchReset",
        "zookeeper.shuffleDnsResponse",
        "zookeeper.server.principal",
        "zookeeper.server.realm",
        "zookeeper.client.secure",
    ];
    NAMES.contains(&name) || name.starts_with("zookeeper.sasl.client") || name.starts_with("zookeeper.hostProvider.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_a_shell_would() {
        let flags = parse(&[
            ("SERVER_JVMFLAGS", " -Xmx1g  -Dzookeeper.snapCount=5 -Dreadonlymode.enabled\t-Da=b=c"),
            ("JVMFLAGS", "-XX:+UseG1GC -Dx="),
        ]);
        let found: Vec<_> = flags.definitions.iter().map(|d| (d.variable, d.name, d.value)).collect();
        let expected = [
            ("SERVER_JVMFLAGS", "zookeeper.snapCount", Some("5")),
            ("SERVER_JVMFLAGS", "readonlymode.enabled", None),
            ("SERVER_JVMFLAGS", "a", Some("b=c")),
            ("JVMFLAGS", "x", Some("")),
        ];
        assert_eq!(found, expected);
        assert_eq!(flags.others, ["-Xmx1g", "-XX:+UseG1GC"]);
    }
}
