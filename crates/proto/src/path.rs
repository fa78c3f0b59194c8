//! Which paths are legal.

/// Full validation, as for a node that is created or written: absolute, no empty, `.` or `..`
/// component, no trailing slash except for the root, no character that Java's check refuses.
///
/// The message names the rule that is broken.
pub fn validate(path: &str) -> Result<(), &'static str> {
    if is_plain(path.as_bytes()) {
        return Ok(());
    }
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
    for component in path[1..].split('/') {
        match component {
            "" => return Err("the path has an empty component"),
            "." | ".." => return Err("the path has a relative component"),
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

/// Whether a path is of the kind that nearly all are, and legal: not the root, printable ASCII, no component that is
/// empty or starts with a dot. Every byte is looked at with its successor and nothing ends early, so that the
/// compiler can look at many at once.
fn is_plain(path: &[u8]) -> bool {
    let ([b'/', rest @ ..], [.., last]) = (path, path) else { return false };
    let after_slash = |b: u8| (b == b'/') | (b == b'.');
    let bad =
        path.iter().zip(rest).fold(false, |bad, (&a, &b)| bad | ((a == b'/') & after_slash(b)) | !is_printable(b));
    !bad & (*last != b'/')
}

const fn is_printable(b: u8) -> bool {
    matches!(b, 0x20..=0x7e)
}

/// Java checks UTF-16 units, so everything beyond the basic plane falls into the surrogate range.
const fn is_legal(c: char) -> bool {
    !matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// Splits a path at its last slash: parent and name. The parent of a top-level node is `""`, the
/// root's key. `None` without a slash.
#[must_use]
pub fn split(path: &str) -> Option<(&str, &str)> {
    // Names are short: to look byte by byte is quicker than what searches long texts.
    let at = path.bytes().rposition(|byte| byte == b'/')?;
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
    fn plain_paths_are_those_that_need_no_second_look() {
        for plain in ["/a", "/a/b", "/a.b/c..", "/a b~", "/0123456789abcdef0123456789abcdef/x"] {
            assert!(is_plain(plain.as_bytes()), "{plain:?}");
        }
        for other in ["", "/", "a", "a/b", "//", "/a/", "/a//b", "/.a", "/a/..b", "/é", "/\u{1f}", "/a\u{7f}"] {
            assert!(!is_plain(other.as_bytes()), "{other:?}");
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
