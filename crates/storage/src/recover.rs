//! Start-up.
use crate::mark::Mark;
use farrier_proto::Zxid;
use farrier_proto::limits::TXN_MAX;
use std::fmt;

/// What recovery is told.
#[derive(Clone, Debug)]
pub struct RecoverOptions {
    /// `snapshot.trust.empty`: replay a log without any snapshot over an empty tree.
    pub trust_empty_snapshot: bool,
    /// `db.autocreate`: an empty directory is a new, empty database.
    pub db_autocreate: bool,
    /// Whether digests are verified; passed on to whoever reads snapshots.
    pub digest: bool,
    /// A standalone server: there is nobody to ask for what is missing.
    pub standalone: bool,
    /// Largest transaction accepted, in bytes.
    pub txn_max: usize,
    /// Content of the file `currentEpoch`; 0 for a standalone server.
    pub current_epoch: u32,
    /// Whether `dataLogDir` differs from `dataDir`. Differing listings show it too.
    pub separate_log_dir: bool,
}

impl Default for RecoverOptions {
    fn default() -> Self {
        Self {
            trust_empty_snapshot: false,
            db_autocreate: true,
            digest: true,
            standalone: true,
            txn_max: TXN_MAX,
            current_epoch: 0,
            separate_log_dir: false,
        }
    }
}

/// What recovery found and left behind; everything in it is durable.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// The last transaction of the state; the first append follows it.
    pub last_zxid: Zxid,
    /// The snapshot that was loaded.
    pub snapshot_zxid: Option<Zxid>,
    /// Transactions replayed from the log.
    pub replayed: u64,
    /// For the operator, one sentence each.
    pub warnings: Vec<String>,
    /// There was nothing. The caller writes `snapshot.0` of the empty tree, then calls
    /// [`remove_initialize`], and only then appends or serves.
    pub fresh: bool,
    /// The directory was empty and must not count as an empty database (`db.autocreate=false`): the server
    /// may join a leader, and its vote says that it knows nothing.
    pub voteless: bool,
    /// The mark as it stands on disk.
    pub mark: Mark,
}

/// What kind of refusal it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusalKind {
    /// Acknowledged data is missing or bad.
    Damage,
    /// The files and the configuration do not go together.
    Setup,
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

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        write!(f, ". {}", self.remedy)
    }
}

impl std::error::Error for Refusal {}
