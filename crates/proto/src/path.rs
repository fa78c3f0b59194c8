//! Which paths are legal.

/// Full validation, as for a node that is created or written: absolute, no empty, `.` or `..`
/// component, no trailing slash except for the root, no character that Java's check refuses.
///
/// The message names the rule that is broken.
pub fn validate(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("the path is empty");
    }
    if !path.starts_with('/') {
        return Err("the path does not start with /");
    }
    if path.len() == 1 {
        return Ok(());
    }
    if path.ends_with('/') {
        return Err("the path ends with /");
    }
    // As bytes: a search for a character costs more than these few.
    for component in path.as_bytes()[1..].split(|b| *b == b'/') {
        match component {
            b"" => return Err("the path has an empty component"),
            b"." | b".." => return Err("the path has a relative component"),
            _ => {}
        }
    }
    if path.is_ascii() {
        if path.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err("the path has a control character");
        }
    } else if !path.chars().all(is_legal) {
        return Err("the path has a character outside of the legal ranges");
    }
    Ok(())
}

/// Java checks UTF-16 units, so everything beyond the basic plane falls into the surrogate range.
const fn is_legal(c: char) -> bool {
    !matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// Splits a path at its last slash: parent and name. The parent of a top-level node is `""`, the
/// root's key. `None` without a slash.
#[must_use]
pub fn split(path: &str) -> Option<(&str, &str)> {
    let at = path.rfind('/')?;
    Some((&path[..at], &path[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_and_illegal() {
        for good in ["/", "/a", "/a/b", "/...", "/..b", "/a.b", "/a b", "/é", "/\u{d7ff}", "/\u{f900}", "/\u{ffef}"] {
            assert_eq!(validate(good), Ok(()), "{good:?}");
        }
        for bad in [
            "",
            "a",
            "a/b",
            "/a/",
            "//",
            "//a",
            "/a//b",
            "/.",
            "/..",
            "/a/./b",
            "/a/../b",
            "/\0",
            "/\u{1}",
            "/\u{1f}",
            "/\u{7f}",
            "/\u{80}",
            "/\u{9f}",
            "/\u{e000}",
            "/\u{f8ff}",
            "/\u{fff0}",
            "/\u{fffd}",
            "/\u{1f600}",
            "/é\u{1}",
        ] {
            assert!(validate(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn split_at_the_last_slash() {
        assert_eq!(split("/a"), Some(("", "a")));
        assert_eq!(split("/a/b"), Some(("/a", "b")));
        assert_eq!(split("/"), Some(("", "")));
        assert_eq!(split("a"), None);
    }
}
