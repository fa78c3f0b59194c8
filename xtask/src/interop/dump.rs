//! Compares two dumps of a whole tree, as the Java program `Inspect` writes them: one JSON object per
//! znode and line.

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Differences that are told in full; the rest is counted.
const TOLD_MAX: usize = 10;
/// Characters of a value that are shown.
const SHOWN_MAX: usize = 60;

type Tree = BTreeMap<String, Map<String, Value>>;

pub(super) fn read(path: &Path) -> Result<Tree> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut tree = Tree::new();
    for line in text.lines() {
        let znode: Map<String, Value> = serde_json::from_str(line).context("a line of a dump")?;
        let path = znode.get("path").and_then(Value::as_str).context("a znode without a path")?;
        tree.insert(path.to_owned(), znode);
    }
    Ok(tree)
}

/// The number of znodes when both are equal, otherwise an error that tells the first differences.
pub(super) fn compare(want: &Path, got: &Path) -> Result<String> {
    let (want, got) = (read(want)?, read(got)?);
    let mut differences = Vec::new();
    for path in want.keys().chain(got.keys()).collect::<BTreeSet<_>>() {
        match (want.get(path), got.get(path)) {
            (Some(a), Some(b)) => {
                for field in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                    if a.get(field) != b.get(field) {
                        differences.push(format!(
                            "{path} {field}: want {}, got {}",
                            shown(a.get(field)),
                            shown(b.get(field))
                        ));
                    }
                }
            }
            (Some(_), None) => differences.push(format!("{path} is missing")),
            (None, _) => differences.push(format!("{path} is too many")),
        }
    }
    if differences.is_empty() {
        return Ok(format!("{} znodes, every field equal", got.len()));
    }
    let told = differences.iter().take(TOLD_MAX).map(|d| format!("\n       {d}")).collect::<String>();
    bail!("{} differences{told}", differences.len())
}

fn shown(value: Option<&Value>) -> String {
    let text = value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    if text.len() <= SHOWN_MAX {
        return text;
    }
    format!("{}… ({} bytes)", text.chars().take(SHOWN_MAX).collect::<String>(), text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dumps(want: &str, got: &str) -> Result<String> {
        let dir = tempfile::tempdir()?;
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, want)?;
        fs::write(&b, got)?;
        compare(&a, &b)
    }

    #[test]
    fn equal_trees_are_counted() {
        let text = "{\"path\":\"/\",\"data\":null}\n{\"path\":\"/a\",\"data\":\"eA==\"}\n";
        assert_eq!(dumps(text, text).expect("equal"), "2 znodes, every field equal");
    }

    #[test]
    fn each_kind_of_difference_is_told() {
        let want = "{\"path\":\"/\",\"data\":null}\n{\"path\":\"/a\"}\n{\"path\":\"/b\"}\n";
        let got = "{\"path\":\"/\",\"data\":\"\"}\n{\"path\":\"/b\"}\n{\"path\":\"/c\"}\n";
        let why = dumps(want, got).expect_err("different").to_string();
        for part in ["3 differences", "/ data: want null, got \"\"", "/a is missing", "/c is too many"] {
            assert!(why.contains(part), "{part} is not in {why}");
        }
    }
}
