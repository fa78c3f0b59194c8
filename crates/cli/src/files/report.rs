//! What `verify` tells: findings as they come, a line for each file, and the verdict.

use farrier_storage::{Finding, Severity};
use serde_json::{Value, json};

use crate::output::{BAD, FAILED, GOOD, HEAD, Out, WARNING};
use crate::values::count;

/// Standard output of a check, and the worst that it told.
pub(crate) struct Report {
    out: Out,
    json: bool,
    files: u64,
    worst: Option<Severity>,
    /// Why a finding could not be told.
    failed: Option<anyhow::Error>,
}

impl Report {
    pub(crate) fn open(json: bool) -> Self {
        Self { out: Out::open(), json, files: 0, worst: None, failed: None }
    }

    /// Tells a finding; if that fails, the next call that can say so does.
    pub(crate) fn finding(&mut self, finding: &Finding) {
        self.worst = self.worst.max(Some(finding.severity));
        if self.failed.is_none() {
            self.failed = self.tell(finding).err();
        }
    }

    fn tell(&mut self, finding: &Finding) -> anyhow::Result<()> {
        let (style, word, name) = match finding.severity {
            Severity::Note => (HEAD, "note", "note"),
            Severity::Torn => (WARNING, "torn end", "torn"),
            Severity::Damage => (BAD, "damage", "damage"),
        };
        if !self.json {
            return self.out.line(format_args!("{}: {finding}", self.out.paint(style, word)));
        }
        self.out.json(&json!({
            "kind": "finding",
            "severity": name,
            "file": finding.file,
            "offset": finding.offset,
            "found": finding.found,
            "expected": finding.expected,
        }))
    }

    /// Tells of a file, behind what was found in it.
    pub(crate) fn file(&mut self, line: &str, value: &Value) -> anyhow::Result<()> {
        self.files += 1;
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.json { self.out.json(value) } else { self.out.line(line) }
    }

    /// Ends with the verdict, for people, and gives the exit code.
    pub(crate) fn conclude(mut self, sum: &str) -> anyhow::Result<u8> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if !self.json {
            let (style, verdict) = match self.worst {
                None | Some(Severity::Note) => (GOOD, "sound"),
                Some(Severity::Torn) => (WARNING, "sound but for a torn end"),
                Some(Severity::Damage) => (BAD, "damaged"),
            };
            let files = count(self.files, "file");
            self.out.line(format_args!("{files}, {sum}: {}", self.out.paint(style, verdict)))?;
        }
        self.out.flush()?;
        Ok(if self.worst == Some(Severity::Damage) { FAILED } else { 0 })
    }
}
