//! Recovery at a start with two threads: one reads the files and makes znodes, the other takes them into the tree.
//!
//! The reading thread does all that needs no look into the tree: files, checksums, decoding, the znodes' heap blocks and
//! their shares in the digest. What it has gathered goes over in batches; each comes back when it was taken in, with
//! its buffers, and with what the tree refused of it. So the reading thread knows what is on its way, and waits for all
//! of it before a snapshot is believed and before anything on disk changes.
//!
//! Where the reading thread panics, so does the one that waits for its end; where the other one does, the channel
//! closes, and the reading thread panics for want of it. Neither hangs, and a mistake of the server's is never told as
//! damage on the disk, for which a member would move files aside.

use crate::server::StartError;
use farrier_proto::{Acl, SessionId, Zxid};
use farrier_replica::{TreeRestore, complete};
use farrier_storage::{
    Disk, LoggedTxn, NodeRecord, RecoverOptions, Recovered, Restore, RestoreError, SnapshotDigest, SnapshotOptions,
    recover,
};
use farrier_tree::{NodeMaker, ReadyNode, TreeConfig};
use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Builder};

/// Records of a batch. Enough that waking up the other thread costs each of them little.
const BATCH_RECORDS_MAX: usize = 512;

/// Bytes of paths and transactions in a batch; one record may exceed it.
const BATCH_BYTES_MAX: usize = 32 << 10;

/// Bytes of the znodes and ACL lists that a batch hands over; one record may exceed it.
const BATCH_HANDED_MAX: usize = 256 << 10;

/// Batches on their way at a time. One thread may be so far ahead that the other one does not run dry while the system
/// clears memory for it.
const BATCHES_MAX: usize = 32;

/// Bytes of paths and transactions on their way at a time; one batch may exceed it. Only long transactions meet it.
const AHEAD_BYTES_MAX: usize = 2 << 20;

const _: () = assert!(BATCHES_MAX * BATCH_BYTES_MAX < AHEAD_BYTES_MAX);

/// Batches that are given back together, unless the other thread may be waiting for them.
const GIVEN_BACK: usize = BATCHES_MAX / 4;

/// What the tree is to take in.
#[derive(Debug)]
enum Record {
    /// Everything before is forgotten, and with it what was refused.
    Reset,
    Session(SessionId, i32),
    Acl(i64, Vec<Acl<'static>>),
    /// Its path stands among the batch's.
    Node {
        path_len: usize,
        acl: i64,
        node: ReadyNode,
    },
    Loaded(Zxid, Option<SnapshotDigest>),
    /// It stands among the batch's transactions.
    Txn {
        len: usize,
        made: Option<ReadyNode>,
    },
}

/// Records on their way, in order.
#[derive(Debug, Default)]
struct Batch {
    records: Vec<Record>,
    /// Paths of the znodes, one behind the other.
    paths: String,
    /// Transactions, as the log has them, one behind the other.
    txns: Vec<u8>,
    /// Bytes of the znodes and ACL lists that go over with it.
    handed_over: usize,
}

impl Batch {
    fn bytes(&self) -> usize {
        self.paths.len() + self.txns.len()
    }

    fn is_full(&self) -> bool {
        self.records.len() >= BATCH_RECORDS_MAX
            || self.bytes() >= BATCH_BYTES_MAX
            || self.handed_over >= BATCH_HANDED_MAX
    }

    /// Empties it for the next records. Buffers that one long record made large are given back.
    fn clear(&mut self) {
        self.records.clear();
        self.paths.clear();
        self.paths.shrink_to(2 * BATCH_BYTES_MAX);
        self.txns.clear();
        self.txns.shrink_to(2 * BATCH_BYTES_MAX);
        self.handed_over = 0;
    }

    /// Has `state` take in the records, up to one that it refuses. From then on it refuses all, until it is reset.
    fn take_in(&mut self, state: &mut TreeRestore, refusing: &mut bool) -> Result<(), RestoreError> {
        let Self { records, paths, txns, .. } = self;
        if *refusing && !matches!(records.first(), Some(Record::Reset)) {
            return Ok(());
        }
        let txns: Vec<_> = txns_of(records, txns).collect();
        state.foresee(&txns);
        let (mut paths, mut txns) = (paths.as_str(), txns.into_iter());
        for record in records.drain(..) {
            let result = match record {
                Record::Reset => {
                    *refusing = false;
                    state.reset();
                    Ok(())
                }
                Record::Session(session, timeout) => state.session(session, timeout),
                Record::Acl(key, acl) => state.acl(key, acl),
                Record::Node { path_len, acl, node } => {
                    let (path, rest) = paths.split_at(path_len);
                    paths = rest;
                    state.ready(path, acl, node)
                }
                Record::Loaded(zxid, digest) => state.loaded(zxid, digest),
                Record::Txn { made, .. } => {
                    state.replay_made(&txns.next().expect("each was decoded"), made);
                    Ok(())
                }
            };
            if result.is_err() {
                *refusing = true;
                return result;
            }
        }
        Ok(())
    }
}

/// The transactions among `records`, whose bytes these are.
fn txns_of<'b>(records: &[Record], mut bytes: &'b [u8]) -> impl Iterator<Item = LoggedTxn<'b>> {
    records.iter().filter_map(move |record| {
        let Record::Txn { len, .. } = record else { return None };
        let txn;
        (txn, bytes) = bytes.split_at(*len);
        Some(LoggedTxn::read(txn).expect("the reading thread has decoded it"))
    })
}

/// A batch that was taken in, and what was refused of it.
type Taken = (Batch, Result<(), RestoreError>);

/// The state as the reading thread sees it.
#[derive(Debug)]
struct Ahead {
    maker: NodeMaker,
    batch: Batch,
    to: SyncSender<Batch>,
    back: Receiver<Taken>,
    /// Batches that have not come back.
    on_their_way: usize,
    /// Their bytes.
    bytes_ahead: usize,
    /// Buffers for later batches.
    spare: Vec<Batch>,
    /// What the tree refused. It has taken in nothing since.
    refused: Option<RestoreError>,
}

/// Why a thread panics whose other half is gone.
const TAKER_GONE: &str = "the thread that fills the tree has panicked";

impl Ahead {
    /// Adds a record to the batch, which goes over when it is full.
    fn push(&mut self, record: Record) -> Result<(), RestoreError> {
        self.batch.records.push(record);
        if self.batch.is_full() {
            self.send();
        }
        self.answer()
    }

    fn answer(&self) -> Result<(), RestoreError> {
        self.refused.clone().map_or(Ok(()), Err)
    }

    fn send(&mut self) {
        while let Ok(taken) = self.back.try_recv() {
            self.came_back(taken);
        }
        let bytes = self.batch.bytes();
        while self.on_their_way == BATCHES_MAX || (self.on_their_way > 0 && self.bytes_ahead + bytes > AHEAD_BYTES_MAX)
        {
            self.wait_for_one();
        }
        let batch = std::mem::replace(&mut self.batch, self.spare.pop().unwrap_or_default());
        self.to.send(batch).expect(TAKER_GONE);
        self.on_their_way += 1;
        self.bytes_ahead += bytes;
    }

    fn wait_for_one(&mut self) {
        let taken = self.back.recv().expect(TAKER_GONE);
        self.came_back(taken);
    }

    fn came_back(&mut self, (mut batch, result): Taken) {
        self.on_their_way -= 1;
        self.bytes_ahead -= batch.bytes();
        if let Err(refused) = result {
            self.refused.get_or_insert(refused);
        }
        batch.clear();
        self.spare.push(batch);
    }

    /// Sends what was gathered and waits until all of it has been taken in.
    fn wait(&mut self) -> Result<(), RestoreError> {
        if !self.batch.records.is_empty() {
            self.send();
        }
        while self.on_their_way > 0 {
            self.wait_for_one();
        }
        self.answer()
    }
}

impl Restore for Ahead {
    fn reset(&mut self) {
        self.batch.clear();
        while self.on_their_way > 0 {
            self.wait_for_one();
        }
        self.refused = None;
        self.batch.records.push(Record::Reset);
    }

    fn session(&mut self, session: SessionId, timeout: i32) -> Result<(), RestoreError> {
        self.push(Record::Session(session, timeout))
    }

    fn acl(&mut self, key: i64, acl: Vec<Acl<'_>>) -> Result<(), RestoreError> {
        let acl: Vec<_> = acl.into_iter().map(Acl::into_owned).collect();
        self.batch.handed_over += acl.iter().map(|a| size_of_val(a) + a.scheme.len() + a.id.len()).sum::<usize>();
        self.push(Record::Acl(key, acl))
    }

    fn node(&mut self, node: NodeRecord<'_>) -> Result<(), RestoreError> {
        let NodeRecord { path, data, acl, stat } = node;
        match self.maker.make(path, data, stat) {
            Ok(node) => {
                self.batch.paths.push_str(path);
                self.batch.handed_over += node.bytes();
                self.push(Record::Node { path_len: path.len(), acl, node })
            }
            // What was refused before it comes first.
            Err(error) => self.wait().and(Err(RestoreError(error))),
        }
    }

    fn loaded(&mut self, zxid: Zxid, digest: Option<SnapshotDigest>) -> Result<(), RestoreError> {
        self.batch.records.push(Record::Loaded(zxid, digest));
        self.wait()
    }

    fn replay(&mut self, txn: &LoggedTxn<'_>) -> Result<(), RestoreError> {
        self.batch.txns.extend_from_slice(txn.bytes);
        let made = self.maker.creation(&txn.header, &txn.txn);
        self.batch.handed_over += made.as_ref().map_or(0, ReadyNode::bytes);
        self.push(Record::Txn { len: txn.bytes.len(), made })
    }

    fn catch_up(&mut self) {
        self.wait().expect("what a snapshot is refused for is told before any transaction");
    }
}

/// [`farrier_replica::restore`] with two threads.
///
/// # Errors
/// What recovery refuses, a failed disk, and a system that gives no thread. Nothing was acknowledged.
pub(crate) fn restore<D: Disk>(
    disk: &Arc<D>,
    options: &RecoverOptions,
    snapshots: &SnapshotOptions,
    tree: TreeConfig,
    hash_seed: u64,
) -> Result<(TreeRestore, Recovered), StartError> {
    let mut state = TreeRestore::new(tree, hash_seed);
    let recovered = fill(&mut state, |ahead| recover(disk, options, ahead))??;
    complete(&**disk, snapshots, &recovered, &mut state)?;
    Ok((state, recovered))
}

/// Fills `state`, on the calling thread, with what `read` hands over on another one.
fn fill<T: Send>(state: &mut TreeRestore, read: impl FnOnce(&mut dyn Restore) -> T + Send) -> io::Result<T> {
    let (mut ahead, from, give_back) = connect(state.maker());
    thread::scope(|scope| {
        let reading = Builder::new().name("recovery".into()).spawn_scoped(scope, move || read(&mut ahead))?;
        take_in(state, from, give_back);
        Ok(reading.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// Both ends: the state as the reading thread sees it, where its batches arrive, and where they go back.
fn connect(maker: NodeMaker) -> (Ahead, Receiver<Batch>, SyncSender<Taken>) {
    let (to, from) = sync_channel(BATCHES_MAX);
    let (give_back, back) = sync_channel(BATCHES_MAX);
    let batch = Batch::default();
    (
        Ahead { maker, batch, to, back, on_their_way: 0, bytes_ahead: 0, spare: Vec::new(), refused: None },
        from,
        give_back,
    )
}

/// Takes in batches until the reading thread has ended. Owns its ends of the channels: if it panics they close.
fn take_in(state: &mut TreeRestore, from: Receiver<Batch>, give_back: SyncSender<Taken>) {
    let mut refusing = false;
    // They go back several at a time, since each time may wake up the reading thread.
    let mut taken = Vec::new();
    loop {
        let waiting = if taken.len() < GIVEN_BACK { from.try_recv().ok() } else { None };
        if waiting.is_none() {
            for batch in taken.drain(..) {
                // Where nobody is left to whom they could go, no batch comes any more either.
                let _ = give_back.send(batch);
            }
        }
        let Some(mut batch) = waiting.or_else(|| from.recv().ok()) else { return };
        let result = batch.take_in(state, &mut refusing);
        taken.push((batch, result));
    }
}

#[cfg(test)]
mod tests;
