//! Reader for `java.util.Properties` text, with the line of every entry.
//!
//! The rules are Java's: a key ends at the first unescaped `=`, `:` or blank; `#` and `!` start
//! comment lines; an odd number of backslashes at the end of a line joins the next one, whose leading
//! blanks go; `\t \n \r \f \uXXXX` are escapes and any other escaped character stands for itself.
//! Two things differ: text that is valid UTF-8 is read as UTF-8 instead of ISO-8859-1 (the caller
//! is told), and keys and values lose surrounding blanks, as `zoo.cfg`'s always do.

/// Longest file that is read, in bytes. Apache has no bound; a real file has a few kilobytes.
pub const FILE_MAX: usize = 1 << 20;

/// One entry, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Line of the key's first character, from 1.
    pub line: usize,
    /// Key, trimmed.
    pub key: String,
    /// Value, trimmed.
    pub value: String,
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Entries in the order of the file, repeated keys included; the last one counts.
    pub entries: Vec<Entry>,
    /// First line with characters outside ASCII that were read as UTF-8.
    pub utf8_line: Option<usize>,
}

/// Text that Java refuses too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong and what is expected.
    pub message: String,
}

/// Reads `bytes`.
///
/// # Errors
/// A `\u` that four hexadecimal digits don't follow, a file above [`FILE_MAX`], or a zero byte, which no text has.
pub fn parse(bytes: &[u8]) -> Result<Properties, SyntaxError> {
    if bytes.len() > FILE_MAX {
        let message = format!("the file has {} bytes; at most {FILE_MAX} are read", bytes.len());
        return Err(SyntaxError { line: 1, message });
    }
    // Java reads over a zero in a comment.
    let is_text = |line: &[u8]| !line.contains(&0) || line.trim_ascii_start().starts_with(b"#");
    if let Some(at) = bytes.split(|b| *b == b'\n').position(|line| !is_text(line)) {
        return Err(SyntaxError {
            line: at + 1,
            message: "this is no text; expected lines key=value, as in zoo.cfg".to_owned(),
        });
    }
    let mut properties = Properties::default();
    let text: String = match std::str::from_utf8(bytes) {
        Ok(text) => {
            properties.utf8_line = text.lines().position(|l| !l.is_ascii()).map(|at| at + 1);
            text.strip_prefix('\u{feff}').unwrap_or(text).to_owned()
        }
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    };

    for line in logical_lines(&text) {
        let (key, value) = split(&line.text);
        let unescaped = |part: &str| unescape(part).map_err(|message| SyntaxError { line: line.number, message });
        let key = unescaped(key)?.trim().to_owned();
        let value = unescaped(value)?.trim().to_owned();
        properties.entries.push(Entry { line: line.number, key, value });
    }
    Ok(properties)
}

/// The same text without the entries whose key `goes`, everything else byte for byte.
///
/// # Errors
/// As [`parse`].
pub fn without(bytes: &[u8], goes: impl Fn(&str) -> bool) -> Result<Vec<u8>, SyntaxError> {
    let entries = parse(bytes)?.entries;
    // Lines are counted as `parse` counts them; an entry reaches as far as its lines continue.
    let gone: Vec<usize> = entries.into_iter().filter(|e| goes(&e.key)).map(|e| e.line).collect();
    let mut out = Vec::with_capacity(bytes.len());
    let (mut rest, mut number, mut continues, mut drops) = (bytes, 0, false, false);
    while !rest.is_empty() {
        let at = rest.iter().position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(rest.len());
        let end = if rest[at..].starts_with(b"\r\n") { at + 2 } else { (at + 1).min(rest.len()) };
        let (line, tail) = rest.split_at(end);
        number += 1;
        if !continues {
            drops = gone.contains(&number);
        }
        let body = line[..at].trim_ascii_start();
        let comment = !continues && (body.starts_with(b"#") || body.starts_with(b"!"));
        continues = !comment && body.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1;
        if !drops {
            out.extend_from_slice(line);
        }
        rest = tail;
    }
    Ok(out)
}

/// A value as it has to be written.
#[must_use]
pub fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\")
}

struct LogicalLine {
    number: usize,
    text: String,
}

/// Natural lines joined at their trailing backslashes; comments and blank lines left out.
fn logical_lines(text: &str) -> Vec<LogicalLine> {
    let mut lines = Vec::new();
    let mut open: Option<LogicalLine> = None;
    for (index, natural) in natural_lines(text).enumerate() {
        let body = natural.trim_start_matches(is_blank);
        if open.is_none() && (body.is_empty() || body.starts_with(['#', '!'])) {
            continue;
        }
        let continues = body.chars().rev().take_while(|&c| c == '\\').count() % 2 == 1;
        let part = if continues { &body[..body.len() - 1] } else { body };
        let mut line = open.take().unwrap_or_else(|| LogicalLine { number: index + 1, text: String::new() });
        line.text.push_str(part);
        if continues {
            open = Some(line);
        } else if !line.text.is_empty() {
            lines.push(line);
        }
    }
    lines.extend(open.filter(|line| !line.text.is_empty()));
    lines
}

/// Splits at `\n`, `\r` and `\r\n`, which count as one end each.
fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(at) = text.find(['\n', '\r']) else {
            rest = None;
            return Some(text);
        };
        let end = if text[at..].starts_with("\r\n") { at + 2 } else { at + 1 };
        rest = Some(&text[end..]);
        Some(&text[..at])
    })
}

/// Key and value, both still escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c| {
        let ends = !escaped && (matches!(c, '=' | ':') || is_blank(c));
        escaped = c == '\\' && !escaped;
        ends
    });
    let Some(end) = end else { return (line, "") };
    let rest = line[end..].trim_start_matches(is_blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], rest.trim_start_matches(is_blank))
}

/// Java's blanks within a line: space, tab, form feed.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

fn unescape(text: &str) -> Result<String, String> {
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        // A lone backslash at the very end of a file continues into nothing.
        let escaped = if c == '\\' { chars.next() } else { None };
        let meant = match (c, escaped) {
            ('\\', None) => break,
            ('\\', Some('u')) => {
                let digits: String = chars.by_ref().take(4).collect();
                let hex = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
                let unit = u16::from_str_radix(&digits, 16).ok().filter(|_| hex);
                units.push(
                    unit.ok_or_else(|| format!("`\\u{digits}` is no escape: \\u takes four hexadecimal digits"))?,
                );
                continue;
            }
            ('\\', Some('t')) => '\t',
            ('\\', Some('n')) => '\n',
            ('\\', Some('r')) => '\r',
            ('\\', Some('f')) => '\u{c}',
            ('\\', Some(other)) => other,
            (plain, _) => plain,
        };
        units.extend_from_slice(meant.encode_utf16(&mut [0; 2]));
    }
    // Java strings hold lone surrogates; no setting means one.
    Ok(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Expected = &'static [(usize, &'static str, &'static str)];

    fn pairs(text: &[u8]) -> Vec<(usize, String, String)> {
        parse(text).expect("valid text").entries.into_iter().map(|e| (e.line, e.key, e.value)).collect()
    }

    #[test]
    fn a_zero_is_read_over_in_a_comment_only() {
        assert_eq!(pairs(b" # a\0b\nc=d").len(), 1);
        assert_eq!(parse(b"a=b\nc=\0").expect_err("no text").line, 2);
    }

    #[test]
    fn reads_what_java_reads() {
        // Each expectation follows the grammar in the documentation of java.util.Properties.load.
        let table: &[(&[u8], Expected)] = &[
            (b"", &[]),
            (b"\n\r\n  \t\n", &[]),
            (b"# a\n! b\n  # c\n\t! d", &[]),
            (b"a=b", &[(1, "a", "b")]),
            (b"a:b", &[(1, "a", "b")]),
            (b"a b", &[(1, "a", "b")]),
            (b"a\tb", &[(1, "a", "b")]),
            (b"a\x0cb", &[(1, "a", "b")]),
            (b"  a  =  b  ", &[(1, "a", "b")]),
            (b"a = = b", &[(1, "a", "= b")]),
            (b"a == b", &[(1, "a", "= b")]),
            (b"a : = b", &[(1, "a", "= b")]),
            (b"server.1=h:2888:3888;2181", &[(1, "server.1", "h:2888:3888;2181")]),
            (b"a", &[(1, "a", "")]),
            (b"a=", &[(1, "a", "")]),
            (b"=b", &[(1, "", "b")]),
            (b"a=b # no comment", &[(1, "a", "b # no comment")]),
            (b"a=b ! no comment", &[(1, "a", "b ! no comment")]),
            (br"a\=b=c", &[(1, "a=b", "c")]),
            (br"a\:b\ c=d", &[(1, "a:b c", "d")]),
            (br"a\\=b", &[(1, r"a\", "b")]),
            (br"a=C:\\data\tx", &[(1, "a", "C:\\data\tx")]),
            (br"a=C:\qdata", &[(1, "a", "C:qdata")]),
            (br"\#a=b", &[(1, "#a", "b")]),
            (br"a=\u0041\u00e9\uD83D\uDE00", &[(1, "a", "A\u{e9}\u{1f600}")]),
            (br"\u0061=b", &[(1, "a", "b")]),
            (b"a=b\\\n   c\nd=e", &[(1, "a", "bc"), (3, "d", "e")]),
            (b"a=b\\\r\n\tc", &[(1, "a", "bc")]),
            (b"a=b\\\rc", &[(1, "a", "bc")]),
            (b"a=b\\\\\nc=d", &[(1, "a", "b\\"), (2, "c", "d")]),
            (b"a=b\\\\\\\nc", &[(1, "a", "b\\c")]),
            (b"a\\\n=b", &[(1, "a", "b")]),
            // a comment can't be continued, and a continued line is no comment
            (b"# a\\\nb=c", &[(2, "b", "c")]),
            (b"a=b\\\n# c", &[(1, "a", "b# c")]),
            (b"a=b\\\n\nc=d", &[(1, "a", "b"), (3, "c", "d")]),
            (b"a=b\\", &[(1, "a", "b")]),
            (b"a=b\rc=d\r\n\re=f", &[(1, "a", "b"), (2, "c", "d"), (4, "e", "f")]),
            (b"a=1\na=2", &[(1, "a", "1"), (2, "a", "2")]),
            // ISO-8859-1
            (b"a=caf\xe9", &[(1, "a", "caf\u{e9}")]),
        ];
        for (text, expected) in table {
            let found = pairs(text);
            let found: Vec<_> = found.iter().map(|(l, k, v)| (*l, k.as_str(), v.as_str())).collect();
            assert_eq!(found, *expected, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn utf8_is_read_as_utf8_and_reported() {
        let found = parse("a=b\n# ok\ndataDir=/data/caf\u{e9}".as_bytes()).expect("valid text");
        assert_eq!(found.utf8_line, Some(3));
        assert_eq!(found.entries[1].value, "/data/caf\u{e9}");
        assert_eq!(parse(b"a=caf\xe9").expect("valid text").utf8_line, None);
        assert_eq!(parse(b"a=b").expect("valid text").utf8_line, None);
    }

    #[test]
    fn malformed_escapes_are_refused_with_their_line() {
        for text in [&b"a=b\nc=\\u12"[..], b"a=b\nc=\\u12g4", b"a=b\nc\\u=d", b"a=b\nc=\\u+123"] {
            let error = parse(text).expect_err("Java throws too");
            assert_eq!(error.line, 2);
            assert!(error.message.contains("four hexadecimal digits"), "{}", error.message);
        }
        assert!(parse(&vec![b'#'; FILE_MAX + 1]).is_err());
    }
}
