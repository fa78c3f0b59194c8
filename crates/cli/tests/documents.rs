//! What README and the book say to type does what it should, against servers of our own.
//!
//! Blocks that begin with "```sh" and nothing behind it are run, all of one document in one shell and in order. A word
//! behind it, `needs-…`, says what a block needs that is not here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Documents, and how many of their blocks are run at least: a typing mistake in a fence must not go unnoticed.
const DOCUMENTS: &[(&str, usize)] = &[("README.md", 1), ("docs/getting-started.md", 6), ("docs/operations.md", 1)];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the crate lies in the workspace").to_owned()
}

/// The blocks of shell commands, each with the line on which it begins.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    // Of the block that is open: whether it is run.
    let mut open = None;
    for (number, line) in (1..).zip(text.lines()) {
        let Some(words) = line.strip_prefix("```") else {
            if open == Some(true) {
                let (_, block) = found.last_mut().expect("a block is open");
                block.push_str(line);
                block.push('\n');
            }
            continue;
        };
        if open.is_some() {
            open = None;
            continue;
        }
        let words: Vec<&str> = words.split_whitespace().collect();
        if let ["sh", need] = words[..] {
            assert!(need.starts_with("needs-"), "line {number}: `{need}` does not say what the block needs");
        }
        open = Some(words == ["sh"]);
        if words == ["sh"] {
            found.push((number + 1, String::new()));
        }
    }
    assert!(open.is_none(), "the last block has no end");
    found
}

#[test]
fn what_documents_say_to_type_works() {
    for (name, at_least) in DOCUMENTS {
        let text = fs::read_to_string(root().join(name)).expect("the document is there");
        let blocks = blocks(&text);
        assert!(blocks.len() >= *at_least, "{name}: only {} blocks are run", blocks.len());
        let temp = tempfile::tempdir().expect("a temporary directory");
        let mut script = String::from("set -eu -o pipefail\n");
        for (line, block) in &blocks {
            script.push_str(&format!("echo '{name}:{line}' >&2\n{block}"));
        }
        // What a document leaves in the background ends with its reader.
        script.push_str("kill $(jobs -p) 2> /dev/null || true\n");
        let file = temp.path().join("script");
        fs::write(&file, script).expect("written");

        let binary = Path::new(env!("CARGO_BIN_EXE_farrier"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut dirs = vec![binary.parent().expect("it lies in a directory").to_owned()];
        dirs.extend(std::env::split_paths(&path));
        let mut command = Command::new(binary);
        command.args(["dev", "--port", "24700", "--", "bash"]).arg(&file).current_dir(temp.path());
        command.env("PATH", std::env::join_paths(dirs).expect("directories")).stdin(Stdio::null());
        for name in ["FARRIER_AUTH", "FARRIER_LOG", "FARRIER_SERVER"] {
            command.env_remove(name);
        }
        let output = command.output().expect("the binary runs");
        let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{name}: the last line told is where it stopped\n{said}\n{told}");
    }
}

#[test]
fn blocks_are_told_apart() {
    let text = "x\n```sh\na\nb\n```\n```sh needs-root\nc\n```\n```rust\nd\n```\n```sh\ne\n```\n";
    assert_eq!(blocks(text), [(3, "a\nb\n".to_owned()), (13, "e\n".to_owned())]);
}

#[test]
#[should_panic(expected = "`java` does not say what the block needs")]
fn a_word_that_says_nothing_is_no_excuse() {
    blocks("```sh java\na\n```\n");
}
