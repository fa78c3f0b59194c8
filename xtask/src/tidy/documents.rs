//! Rules of the documents: every link within the repository leads somewhere, and the book's list of pages has all of
//! them.

use super::read;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Pages outside of the book.
const OUTSIDE: &[&str] = &["README.md", "ARCHITECTURE.md", "CHANGELOG.md"];

/// The book's list of pages.
const SUMMARY: &str = "SUMMARY.md";

/// One line for each finding.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let docs = root.join("docs");
    let mut pages: Vec<PathBuf> = OUTSIDE.iter().map(|name| root.join(name)).filter(|page| page.exists()).collect();
    let mut book = Vec::new();
    if docs.is_dir() {
        for entry in std::fs::read_dir(&docs).with_context(|| docs.display().to_string())? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "md") {
                book.push(path);
            }
        }
    }
    book.sort();
    pages.extend(book.iter().cloned());
    let mut found = Vec::new();
    for page in &pages {
        let text = read(page)?;
        let shown = page.strip_prefix(root).unwrap_or(page).display();
        for (number, target) in links(&text) {
            if let Some(why) = broken(page, &text, target)? {
                found.push(format!("{shown}:{number}: the link {target} {why}"));
            }
        }
    }
    if !book.is_empty() {
        let summary = read(&docs.join(SUMMARY))?;
        let listed: Vec<&str> = links(&summary).into_iter().map(|(_, target)| target).collect();
        for page in book.iter().filter_map(|page| page.file_name()?.to_str()) {
            if page != SUMMARY && !listed.contains(&page) {
                found.push(format!("docs/{page}: docs/{SUMMARY} does not list it"));
            }
        }
    }
    Ok(found)
}

/// Targets of links outside of blocks of code, each with its line.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut all = Vec::new();
    let mut in_block = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        if in_block {
            continue;
        }
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        all.extend(targets.map(|target| (number, target)));
    }
    all
}

/// What is wrong with a link, if anything. Nothing is asked of other machines.
fn broken(page: &Path, text: &str, target: &str) -> Result<Option<&'static str>> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(None);
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let other = page.parent().map(|dir| dir.join(file));
    let text = match other.filter(|_| !file.is_empty()) {
        None => text.to_owned(),
        Some(other) if !other.exists() => return Ok(Some("leads nowhere")),
        Some(other) if anchor.is_some() => read(&other)?,
        Some(_) => return Ok(None),
    };
    let has = |anchor: &str| text.lines().any(|line| line.starts_with('#') && slug(line) == anchor);
    Ok(anchor.filter(|anchor| !has(anchor)).map(|_| "names a heading that is not there"))
}

/// The anchor of a heading.
fn slug(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    words
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_links_and_pages_that_are_not_listed_are_found() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let docs = dir.path().join("docs");
        std::fs::create_dir(&docs).expect("writable");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("writable");
        write("README.md", "[a](docs/a.md) [b](docs/none.md)\n```sh\n[c](docs/never.md)\n```\n[d](https://x/y)\n");
        write("docs/SUMMARY.md", "- [A](a.md)\n");
        write("docs/a.md", "# Of `a`, and more\n[up](../README.md) [here](#of-a-and-more) [there](b.md#nothing)\n");
        write("docs/b.md", "# Something\n");
        let found = check(dir.path()).expect("readable");
        let expected = [
            "README.md:1: the link docs/none.md leads nowhere",
            "docs/a.md:2: the link b.md#nothing names a heading that is not there",
            "docs/b.md: docs/SUMMARY.md does not list it",
        ];
        assert_eq!(found, expected);
    }
}
