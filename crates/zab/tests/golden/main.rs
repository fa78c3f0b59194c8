//! Runs the scripts in `testdata`: commands to simulated servers, and the transcript that they give.
//!
//! A script begins with a comment that states a property. Then come blocks: commands, a line `----`, the transcript,
//! an empty line. `cargo xtask golden --rewrite` writes the transcripts anew; whoever commits them can explain each
//! line. The verbs are in [`script`].

#![allow(clippy::disallowed_methods, reason = "tests read their scripts")]

mod cluster;
mod print;
mod script;

use std::path::{Path, PathBuf};

fn scripts() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let entries = std::fs::read_dir(dir).expect("scripts are there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    paths
}

#[test]
fn transcripts_are_as_written() {
    let rewrite = std::env::var_os("FARRIER_GOLDEN_REWRITE").is_some();
    let only = std::env::var("FARRIER_GOLDEN_ONLY").unwrap_or_default();
    let mut wrong = Vec::new();
    let scripts = scripts();
    assert!(!scripts.is_empty());
    for path in scripts {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.contains(&only) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.starts_with("# ") {
            wrong.push(format!("{name}: states no property"));
        }
        let result = std::panic::catch_unwind(|| script::run(&text));
        match result {
            Err(_) => wrong.push(format!("{name}: panicked")),
            Ok(Err(error)) => wrong.push(format!("{name}: {error}")),
            Ok(Ok(actual)) if actual == text => {}
            Ok(Ok(actual)) if rewrite => std::fs::write(&path, actual).unwrap(),
            Ok(Ok(actual)) => wrong.push(format!("{name}: {}", first_difference(&text, &actual))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn first_difference(expected: &str, actual: &str) -> String {
    let (mut e, mut a) = (expected.lines(), actual.lines());
    for number in 1.. {
        match (e.next(), a.next()) {
            (None, None) => break,
            (e, a) if e == a => {}
            (e, a) => {
                return format!("line {number}\n  expected {}\n  actual   {}", e.unwrap_or("-"), a.unwrap_or("-"));
            }
        }
    }
    "white space differs".into()
}
