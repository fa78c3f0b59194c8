//! A line of the shell as words, and where in it the cursor stands.

/// Longest line that is read, in bytes: room for the largest data of one znode, quoted.
pub(super) const LINE_MAX: usize = 4 << 20;

/// Why a line has no words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unclosed(char);

impl std::fmt::Display for Unclosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the {} has no end; a word in quotes holds everything up to the next one like it", self.0)
    }
}

/// The words of a line: between blanks, or as a whole or in part in single or double quotes, which may hold blanks and
/// each other. There are no escapes, as in zkCli: data with line breaks comes from `set --file` of the verbs.
pub(super) fn split(line: &str) -> Result<Vec<String>, Unclosed> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            // An empty pair is an empty word.
            None if c == '"' || c == '\'' => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    match quote {
        Some(open) => Err(Unclosed(open)),
        None => {
            words.extend(word);
            Ok(words)
        }
    }
}

/// The word that ends where the cursor is: where it begins, and how many words stand before it. Quotes count for
/// nothing here.
pub(super) fn at_cursor(line: &str, cursor: usize) -> (usize, usize) {
    let before = &line[..cursor];
    let start =
        before.rfind(char::is_whitespace).map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    (start, before[..start].split_whitespace().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_end_at_blanks_unless_they_are_quoted() {
        for (line, words) in [
            ("", vec![]),
            ("  ls\t/a ", vec!["ls", "/a"]),
            ("set /a \"two words\"", vec!["set", "/a", "two words"]),
            ("set /a 'it is \"so\"'", vec!["set", "/a", "it is \"so\""]),
            ("set /a \"\"", vec!["set", "/a", ""]),
            ("create /a'b c'd", vec!["create", "/ab cd"]),
            ("set /a \\n", vec!["set", "/a", "\\n"]),
        ] {
            assert_eq!(split(line).expect("closed"), words, "{line}");
        }
        assert_eq!(split("set /a \"x"), Err(Unclosed('"')));
        assert_eq!(split("set /a 'x\""), Err(Unclosed('\'')));
    }

    #[test]
    fn the_word_at_the_cursor() {
        assert_eq!(at_cursor("", 0), (0, 0));
        assert_eq!(at_cursor("ls", 2), (0, 0));
        assert_eq!(at_cursor("ls ", 3), (3, 1));
        assert_eq!(at_cursor("ls -s /ap/b x", 9), (6, 2));
        assert_eq!(at_cursor("ls\u{3000}/a", 7), (5, 1));
    }
}
