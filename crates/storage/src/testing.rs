//! What this crate's tests share: a state that is a list of transactions, and a disk with one in use.

use crate::disk::{Dir, Disk, DiskPath};
use crate::log::{LogOptions, LogWriter};
use crate::mem::{Crash, MemDisk};
use crate::recover::{RecoverOptions, Recovered, Refusal, recover, remove_initialize};
use crate::snapshot::{SnapshotOptions, write_snapshot};
use crate::state::{Image, LoggedTxn, NodeRecord, Restore, RestoreError, SnapshotDigest};
use farrier_proto::limits::TXN_MAX;
use farrier_proto::stat::StatPersisted;
use farrier_proto::txn::{CreateTxn, write_txn};
use farrier_proto::{Acl, SessionId, Txn, TxnDigest, TxnHeader, TxnType, Zxid};
use std::sync::Arc;

/// A state in which transaction z has created the node `/n<z>`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Nodes {
    /// In the order in which they came.
    pub(crate) zxids: Vec<u64>,
    pub(crate) loaded: Option<Zxid>,
}

impl Nodes {
    pub(crate) fn up_to(last: u64) -> Self {
        Self { zxids: (1..=last).collect(), loaded: None }
    }

    fn add(&mut self, path: &str, data: Option<&[u8]>) -> Result<(), RestoreError> {
        let hex = path.strip_prefix("/n").ok_or_else(|| RestoreError(format!("unknown path {path}")))?;
        let zxid = u64::from_str_radix(hex, 16).map_err(|e| RestoreError(e.to_string()))?;
        if data != Some(&payload(zxid)[..]) {
            return Err(RestoreError(format!("{path} has other data than it was created with")));
        }
        self.zxids.push(zxid);
        Ok(())
    }
}

impl Restore for Nodes {
    fn reset(&mut self) {
        *self = Self::default();
    }
    fn session(&mut self, _: SessionId, _: i32) -> Result<(), RestoreError> {
        Ok(())
    }
    fn acl(&mut self, _: i64, _: Vec<Acl<'_>>) -> Result<(), RestoreError> {
        Ok(())
    }
    fn node(&mut self, node: NodeRecord<'_>) -> Result<(), RestoreError> {
        if node.path.is_empty() { Ok(()) } else { self.add(node.path, node.data) }
    }
    fn loaded(&mut self, zxid: Zxid, _: Option<SnapshotDigest>) -> Result<(), RestoreError> {
        self.loaded = Some(zxid);
        Ok(())
    }
    fn replay(&mut self, txn: &LoggedTxn<'_>) -> Result<(), RestoreError> {
        match &txn.txn {
            Txn::Create(t) if t.path == format!("/n{:x}", txn.header.zxid.get()) => {
                self.add(&t.path, t.data.as_deref())
            }
            other => Err(RestoreError(format!("unexpected transaction {other:?}"))),
        }
    }
}

impl Image for Nodes {
    fn zxid(&self) -> Zxid {
        zxid(self.zxids.last().copied().unwrap_or(0))
    }
    fn digest(&self) -> Option<u64> {
        None
    }
    fn sessions(&self) -> Vec<(SessionId, i32)> {
        Vec::new()
    }
    fn acls(&self) -> Vec<(i64, Vec<Acl<'static>>)> {
        Vec::new()
    }
    fn nodes<E>(&self, visit: &mut dyn FnMut(NodeRecord<'_>) -> Result<(), E>) -> Result<(), E> {
        let stat = STAT;
        visit(NodeRecord { path: "", data: Some(b""), acl: -1, stat })?;
        for z in &self.zxids {
            visit(NodeRecord { path: &format!("/n{z:x}"), data: Some(&payload(*z)), acl: -1, stat })?;
        }
        Ok(())
    }
}

const STAT: StatPersisted = StatPersisted::ZERO;

pub(crate) const fn zxid(z: u64) -> Zxid {
    Zxid::from_wire(z.cast_signed())
}

/// Data of different lengths; every 16th is longer than the test's segments.
pub(crate) fn payload(z: u64) -> Vec<u8> {
    let len = if z % 16 == 9 { 3000 } else { 3 + (z % 256 * 37 % 90) as usize };
    (0..len).map(|i| ((z % 256) as usize * 31 + i * 7) as u8 | 1).collect()
}

pub(crate) fn txn(z: u64) -> Vec<u8> {
    let data = payload(z);
    let header = TxnHeader { session: SessionId(7), cxid: 3, zxid: zxid(z), time: 99, kind: TxnType::Create.code() };
    let body = CreateTxn {
        path: format!("/n{z:x}").into(),
        data: Some(data.into()),
        acl: vec![Acl::world(31)],
        ephemeral: false,
        parent_cversion: 1,
    };
    let mut out = Vec::new();
    write_txn(&mut out, &header, &Txn::Create(body), Some(TxnDigest::new(z)));
    out
}

/// Recovers, and writes the first snapshot where a server would.
pub(crate) fn start(disk: &Arc<MemDisk>) -> Result<(Nodes, Recovered), Refusal> {
    let mut state = Nodes::default();
    let recovered = recover(disk, &on(disk, RecoverOptions::default()), &mut state)?;
    if recovered.needs_snapshot() {
        write_snapshot(&**disk, &state, &SnapshotOptions::default())?;
        remove_initialize(&**disk)?;
    }
    Ok((state, recovered))
}

/// [`start`] for a member of an ensemble.
pub(crate) fn start_member(disk: &Arc<MemDisk>) -> Result<(Nodes, Recovered), Refusal> {
    let mut state = Nodes::default();
    let recovered = recover(disk, &on(disk, MEMBER), &mut state)?;
    if recovered.needs_snapshot() {
        write_snapshot(&**disk, &state, &SnapshotOptions::default())?;
        remove_initialize(&**disk)?;
    }
    Ok((state, recovered))
}

/// `options` for the directories of `disk`.
pub(crate) fn on(disk: &MemDisk, options: RecoverOptions) -> RecoverOptions {
    let at = |dir| disk.describe(&DiskPath::new(dir, "file"));
    RecoverOptions { separate_log_dir: at(Dir::Data) != at(Dir::Log), ..options }
}

pub(crate) const MEMBER: RecoverOptions = RecoverOptions {
    trust_empty_snapshot: false,
    db_autocreate: true,
    standalone: false,
    txn_max: TXN_MAX,
    current_epoch: 0,
    separate_log_dir: false,
    config_file: None,
};

pub(crate) const TEST_LOG: LogOptions = LogOptions { segment_size: 1200, size_limit: 0, force_sync: true };

pub(crate) fn writer(disk: &Arc<MemDisk>, recovered: &Recovered) -> LogWriter<MemDisk> {
    LogWriter::open(Arc::clone(disk), recovered, TEST_LOG)
}

/// A disk on which a server ran and was killed after it had acknowledged everything, `batches` of the
/// given sizes. The mark on it is that of the last batch.
pub(crate) fn used(batches: &[u64]) -> Arc<MemDisk> {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start(&disk).unwrap();
    let mut log = LogWriter::open(Arc::clone(&disk), &recovered, LogOptions::default());
    let mut z = 0;
    for n in batches {
        for _ in 0..*n {
            z += 1;
            log.append(zxid(z), &txn(z));
        }
        log.commit().unwrap();
    }
    disk
}

/// A snapshot that nothing of Farrier's tells of.
pub(crate) fn apaches_snapshot(disk: &MemDisk, state: &Nodes) {
    write_snapshot(disk, state, &SnapshotOptions::default()).unwrap();
    disk.remove(&DiskPath::new(Dir::Data, "farrier.own")).unwrap();
}

/// Choices that look random and are the same every time.
pub(crate) fn chooser(seed: u64) -> impl FnMut(usize) -> usize {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |n| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 16) as usize % n
    }
}

/// How a server dies, and how its machine does after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Process,
    Power(u64),
    ProcessThenPower(u64),
}

pub(crate) fn restart(disk: &MemDisk, kind: Kind) {
    match kind {
        Kind::Process => disk.restart(Crash::Process, &mut |_| 0),
        Kind::Power(seed) => disk.restart(Crash::Power, &mut chooser(seed)),
        Kind::ProcessThenPower(seed) => {
            disk.restart(Crash::Process, &mut |_| 0);
            disk.restart(Crash::Power, &mut chooser(seed));
        }
    }
}
