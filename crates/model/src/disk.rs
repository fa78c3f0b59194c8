//! One server's disk: what is durable, and what waits to be.

use crate::check::{Rule, Violation};
use bytes::Bytes;
use farrier_proto::Zxid;
use farrier_zab::Located;

/// Contents of transactions: one byte each, so that two of them under one zxid are told apart.
static CONTENTS: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// A transaction. No two proposals have the same `content`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Entry {
    pub(crate) zxid: Zxid,
    pub(crate) content: u8,
}

impl Entry {
    pub(crate) fn new(zxid: Zxid, txn: &[u8]) -> Self {
        Self { zxid, content: txn[0] }
    }

    pub(crate) fn txn(self) -> Bytes {
        let at = usize::from(self.content);
        Bytes::from_static(&CONTENTS[at..=at])
    }
}

/// The zxid of the last one.
pub(crate) fn last(history: &[Entry]) -> Zxid {
    history.last().map_or(Zxid::ZERO, |e| e.zxid)
}

/// What survives a crash.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) accepted: u32,
    pub(crate) current: u32,
    /// From the first transaction ever on.
    pub(crate) history: Vec<Entry>,
    /// Up to here it is a snapshot and in no log.
    pub(crate) snapshot: Zxid,
}

/// A write on its way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Write {
    Append(Entry),
    Accepted(u32),
    Current(u32),
    Truncate(Zxid),
    Install(Vec<Entry>, u32),
    Reload,
}

impl Write {
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Append(_) => "append",
            Self::Accepted(_) => "acceptedEpoch",
            Self::Current(_) => "currentEpoch",
            Self::Truncate(_) => "truncation",
            Self::Install(..) => "installation",
            Self::Reload => "reload",
        }
    }
}

impl Disk {
    pub(crate) fn last(&self) -> Zxid {
        last(&self.history)
    }

    pub(crate) fn has(&self, zxid: Zxid) -> bool {
        self.history.iter().any(|e| e.zxid == zxid)
    }

    /// Makes a write durable. False for a truncation that cannot be done.
    pub(crate) fn write(&mut self, write: &Write) -> Result<bool, Violation> {
        match write {
            Write::Append(entry) => {
                if !entry.zxid.follows(self.last()) {
                    let (zxid, last) = (entry.zxid, self.last());
                    return Err(Violation::new(Rule::Log, format!("{zxid} is logged behind {last}")));
                }
                self.history.push(*entry);
            }
            Write::Accepted(epoch) => self.promise(*epoch)?,
            Write::Current(epoch) => self.adopt(*epoch)?,
            Write::Truncate(after) => {
                let known = *after >= self.snapshot && (*after == self.snapshot || self.has(*after));
                if known {
                    self.history.retain(|e| e.zxid <= *after);
                }
                return Ok(known);
            }
            Write::Install(history, epoch) => {
                self.history.clone_from(history);
                self.snapshot = self.last();
                self.adopt(*epoch)?;
            }
            Write::Reload => {}
        }
        Ok(true)
    }

    fn promise(&mut self, epoch: u32) -> Result<(), Violation> {
        if epoch <= self.accepted {
            let text = format!("acceptedEpoch goes from {} to {epoch}", self.accepted);
            return Err(Violation::new(Rule::Epochs, text));
        }
        self.accepted = epoch;
        Ok(())
    }

    fn adopt(&mut self, epoch: u32) -> Result<(), Violation> {
        if epoch < self.current || epoch > self.accepted {
            let text = format!("currentEpoch goes from {} to {epoch}, and {} is promised", self.current, self.accepted);
            return Err(Violation::new(Rule::Epochs, text));
        }
        self.current = epoch;
        Ok(())
    }

    /// As recovery does: a record of an epoch proves that its initial history is there.
    pub(crate) fn recover(&mut self) {
        self.current = self.current.max(self.last().epoch());
        self.accepted = self.accepted.max(self.current);
    }

    pub(crate) fn locate(&self, zxid: Zxid) -> Located {
        let logged = self.history.iter().map(|e| e.zxid).rfind(|z| *z <= zxid && *z > self.snapshot);
        let before = logged.or_else(|| (self.snapshot <= zxid).then_some(self.snapshot));
        Located { before, bytes_behind: 0, snapshot_bytes: 0 }
    }

    /// Transactions directly behind `after`, up to `to`.
    pub(crate) fn read(&self, after: Zxid, to: Zxid) -> Vec<(Zxid, Bytes)> {
        if after < self.snapshot {
            return Vec::new();
        }
        let range = self.history.iter().filter(|e| e.zxid > after && e.zxid <= to);
        range.map(|e| (e.zxid, e.txn())).collect()
    }
}
