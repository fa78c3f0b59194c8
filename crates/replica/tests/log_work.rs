//! The order of what is done on disk for a replica.

use bytes::Bytes;
use farrier_proto::txn::{Txn, write_txn};
use farrier_proto::{SessionId, TxnHeader, TxnType, Zxid};
use farrier_replica::{Input, LogCommand, LogHost, LogWork, SnapshotImage, TreeRestore, WriteId, restore};
use farrier_storage::mark::{MarkRead, read_mark};
use farrier_storage::mem::{Crash, MemDisk};
use farrier_storage::{Committed, LogOptions, LogWriter, RecoverOptions, SnapshotOptions};
use farrier_tree::TreeConfig;
use std::sync::Arc;

const HASH_SEED: u64 = 7;

/// Looks at the disk when a snapshot is begun.
struct Host {
    disk: Arc<MemDisk>,
    /// What a start finds then if the power fails: the mark's transaction, and the log's last.
    found: Vec<(Zxid, Zxid)>,
}

impl LogHost for Host {
    type Claim = ();

    fn step(&mut self, _: Input<'static>) {}
    fn committing(&mut self) {}
    fn committed(&mut self, _: WriteId, _: Committed) {}
    fn take_snapshot(&mut self, _: Box<SnapshotImage>) {
        let disk = Arc::new(self.disk.fork());
        disk.restart(Crash::Power, &mut |_| 0);
        let MarkRead::Mark(mark) = read_mark(&*disk).expect("a healthy disk") else { panic!("a mark is there") };
        let (_, recovered) = started(&disk);
        self.found.push((mark.zxid, recovered.last_zxid));
    }
    fn claim(&mut self) {}
    fn set_floor(&mut self, _: Zxid) {}
    fn reloaded(&mut self, _: Zxid) {}
    fn mono(&self) -> u64 {
        0
    }
}

fn started(disk: &Arc<MemDisk>) -> (TreeRestore, farrier_storage::Recovered) {
    let options = RecoverOptions::default();
    restore(disk, &options, &SnapshotOptions::default(), TreeConfig::default(), HASH_SEED).expect("a healthy disk")
}

fn append(n: u32) -> LogCommand {
    let zxid = Zxid::new(0, n);
    let header = TxnHeader { session: SessionId(1), cxid: 0, zxid, time: 0, kind: TxnType::CloseSession.code() };
    let mut txn = Vec::new();
    write_txn(&mut txn, &header, &Txn::CloseSession(None), None);
    LogCommand::Append { id: WriteId(u64::from(n)), zxid, txn: Bytes::from(txn) }
}

/// Whatever `forceSync` says, and though the mark is synced once in a second at most otherwise.
#[test]
fn log_and_mark_are_durable_when_a_snapshot_is_begun() {
    for force_sync in [true, false] {
        let disk = Arc::new(MemDisk::default());
        let (mut state, recovered) = started(&disk);
        let writer = LogWriter::open(Arc::clone(&disk), &recovered, LogOptions { force_sync, ..LogOptions::default() });
        let mut work = LogWork {
            disk: Arc::clone(&disk),
            writer,
            snapshot_options: SnapshotOptions::default(),
            recover: RecoverOptions::default(),
            tree: TreeConfig::default(),
            hash_seed: HASH_SEED,
        };
        let mut host = Host { disk, found: Vec::new() };
        for n in 1..=3 {
            work.run(&mut vec![append(n)], &mut host).expect("a healthy disk");
        }
        let image = Box::new(state.image());
        let mut batch = vec![append(4), LogCommand::TakeSnapshot { image }, LogCommand::Roll, append(5)];
        work.run(&mut batch, &mut host).expect("a healthy disk");
        let four = Zxid::new(0, 4);
        assert_eq!(host.found, [(four, four)], "forceSync: {force_sync}");
    }
}
