//! Why a server does not start, told for a person: where, what, and what to do.

use super::RecoverOptions;
use crate::disk::{Dir, Disk, DiskError, DiskErrorKind, dir_name};
use std::fmt;

/// What kind of refusal it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusalKind {
    /// Acknowledged data is missing or bad.
    Damage,
    /// The files and the configuration do not go together.
    Setup,
    /// Snapshots among logs, or logs among snapshots.
    Misplaced,
    /// The disk refused an operation.
    Disk,
}

/// Why a server does not start on these files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What kind it is.
    pub kind: RefusalKind,
    /// The file, as the operator knows it.
    pub file: Option<String>,
    /// Where in the file.
    pub offset: Option<u64>,
    /// What was found.
    pub found: String,
    /// What should be there.
    pub expected: String,
    /// What to do.
    pub remedy: String,
}

impl Refusal {
    fn fmt_damage(&self, f: &mut impl fmt::Write) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}")?;
            if let Some(offset) = self.offset {
                write!(f, ", offset {offset}")?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{}", self.found)?;
        if !self.expected.is_empty() {
            write!(f, "; expected {}", self.expected)?;
        }
        Ok(())
    }

    /// Where what is wrong, without what to do about it.
    pub(super) fn damage(&self) -> String {
        let mut text = String::new();
        self.fmt_damage(&mut text).expect("a string takes everything");
        text
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_damage(f)?;
        write!(f, ". {}", self.remedy)
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    pub(crate) fn disk(e: &DiskError) -> Self {
        let remedy = match e.kind {
            DiskErrorKind::Full => "make room on that disk",
            _ => "check the disk",
        };
        Self {
            kind: RefusalKind::Disk,
            file: None,
            offset: None,
            found: e.to_string(),
            expected: String::new(),
            remedy: format!("Nothing was lost by this start; {remedy} and start again"),
        }
    }

    pub(super) fn setup(file: Option<String>, found: &str, expected: &str, remedy: String) -> Self {
        let (found, expected) = (found.to_owned(), expected.to_owned());
        Self { kind: RefusalKind::Setup, file, offset: None, found, expected, remedy }
    }
}

impl From<DiskError> for Refusal {
    fn from(e: DiskError) -> Self {
        Self::disk(&e)
    }
}

/// The directories, as an operator would name them on a command line.
fn command_line_dirs<D: Disk>(disk: &D) -> String {
    let (data, log) = (dir_name(disk, Dir::Data), dir_name(disk, Dir::Log));
    if data == log { data } else { format!("{data} --log-dir {log}") }
}

pub(crate) fn repair_remedy<D: Disk>(disk: &D, options: &RecoverOptions) -> String {
    let what = repair_what(disk, options);
    format!(
        "Nothing was changed. `farrier repair {what}` shows what is wrong; with --accept-loss it moves the bad \
         files aside and says what may be lost"
    )
}

/// What `farrier repair` is given: the configuration, whose limits and ports count, or the directories.
pub(crate) fn repair_what<D: Disk>(disk: &D, options: &RecoverOptions) -> String {
    options.config_file.clone().unwrap_or_else(|| command_line_dirs(disk))
}
