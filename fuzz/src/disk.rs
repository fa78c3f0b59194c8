//! Files of every kind with arbitrary content, on a disk in memory.

use crate::input::Choices;
use farrier_proto::txn::{CreateTxn, SetDataTxn, write_txn};
use farrier_proto::{Acl, SessionId, Txn, TxnHeader, Zxid};
use farrier_replica::TreeRestore;
use farrier_storage::mark::{Mark, mark_path, read_mark};
use farrier_storage::mem::MemDisk;
use farrier_storage::segment::{header, log_path};
use farrier_storage::{
    Compression, Dir, Disk as _, DiskPath, Image as _, LogOptions, LogWriter, LoggedTxn, RecoverOptions, Recovered,
    Refusal, Restore as _, SnapshotOptions, read_accepted_epoch, read_current_epoch, read_myid, read_snapshot, record,
    recover, remove_initialize, verify_snapshot, write_snapshot,
};
use farrier_tree::TreeConfig;
use std::sync::{Arc, OnceLock};

/// Transactions on the prepared disk.
const LAST: u64 = 40;
/// The transaction behind which its snapshot was taken.
const SNAPSHOT: u64 = 20;

pub(crate) const fn zxid(z: u64) -> Zxid {
    Zxid::from_wire(z.cast_signed())
}

pub(crate) fn tree_config() -> TreeConfig {
    TreeConfig { extended_types: true, ..TreeConfig::default() }
}

/// A disk as a killed server leaves it, and what the tree's digest was after each transaction.
#[derive(Debug)]
struct Prepared {
    disk: MemDisk,
    digests: Vec<u64>,
}

fn header_of(z: u64, txn: &Txn<'_>) -> TxnHeader {
    TxnHeader { session: SessionId(7), cxid: 1, zxid: zxid(z), time: 9, kind: txn.kind().code() }
}

/// Header and body of the transaction `z`.
fn bytes_of(z: u64, txn: &Txn<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_txn(&mut bytes, &header_of(z, txn), txn, None);
    bytes
}

fn replay(state: &mut TreeRestore, bytes: &[u8]) {
    state.replay(&LoggedTxn::read(bytes).expect("it was just written")).expect("it applies");
}

fn prepared_txn(z: u64) -> Txn<'static> {
    let path = format!("/n{}", z.div_ceil(2));
    let data = vec![z as u8; z as usize * 9];
    if z % 2 == 1 {
        let acl = vec![Acl::world(31)];
        let parent_cversion = z.div_ceil(2) as i32;
        Txn::Create(CreateTxn {
            path: path.into(),
            data: Some(data.into()),
            acl,
            ephemeral: z.is_multiple_of(5),
            parent_cversion,
        })
    } else {
        Txn::SetData(SetDataTxn { path: path.into(), data: Some(data.into()), version: 1 })
    }
}

const LOG: LogOptions = LogOptions { segment_size: 2000, size_limit: 0, force_sync: true };

fn prepare() -> Prepared {
    let disk = Arc::new(MemDisk::default());
    let (mut state, recovered) = start(&disk).expect("an empty disk is fine");
    let mut log = LogWriter::open(Arc::clone(&disk), &recovered, LOG);
    let mut digests = vec![digest(&mut state)];
    for z in 1..=LAST {
        let bytes = bytes_of(z, &prepared_txn(z));
        log.append(zxid(z), &bytes);
        replay(&mut state, &bytes);
        digests.push(digest(&mut state));
        if z.is_multiple_of(3) || z == LAST {
            log.commit().expect("a healthy disk");
        }
        if z == SNAPSHOT {
            write_snapshot(&*disk, &state.image(), &SnapshotOptions::default()).expect("a healthy disk");
        }
    }
    let disk = disk.fork();
    disk.clear_ops();
    Prepared { disk, digests }
}

fn digest(state: &mut TreeRestore) -> u64 {
    state.image().digest().expect("digests are on")
}

/// What a server does at its start.
fn start(disk: &Arc<MemDisk>) -> Result<(TreeRestore, Recovered), Refusal> {
    let mut state = TreeRestore::new(tree_config(), 0);
    let recovered = recover(disk, &RecoverOptions::default(), &mut state)?;
    if recovered.fresh {
        write_snapshot(&**disk, &state.image(), &SnapshotOptions::default())?;
        remove_initialize(&**disk)?;
    }
    Ok((state, recovered))
}

/// Goes on behind what was recovered, and finds it again.
fn goes_on(disk: &Arc<MemDisk>, recovered: &Recovered) {
    let Some(next) = recovered.last_zxid.next() else { return };
    let mut log = LogWriter::open(Arc::clone(disk), recovered, LOG);
    log.append(next, &bytes_of(next.get(), &Txn::Error(-101)));
    log.commit().expect("a healthy disk");
    drop(log);
    let (_, again) = start(disk).unwrap_or_else(|e| panic!("refused what it wrote itself: {e}"));
    assert_eq!(again.last_zxid, next, "what was acknowledged is there");
}

/// A server's directory with some bytes changed, files cut or gone: refused, or a state that was one.
/// Damage in the log alone never costs what the mark covers.
pub fn fuzz_damaged_directory(data: &[u8]) {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    let prepared = PREPARED.get_or_init(prepare);
    let disk = Arc::new(prepared.disk.fork());
    let mut files: Vec<DiskPath> = Vec::new();
    for dir in [Dir::Data, Dir::DataVersion] {
        files.extend(disk.names(dir).into_iter().map(|name| DiskPath::new(dir, name)));
    }
    let mut choices = Choices::new(data);
    let mut only_log = true;
    while !choices.is_empty() {
        let path = &files[choices.below(files.len())];
        let Some(mut content) = disk.content(path) else { continue };
        let at = usize::from(choices.byte()) << 8 | usize::from(choices.byte());
        let at = at % (content.len() + 1);
        match choices.below(8) {
            0 => content.truncate(at),
            1 => content[at..].fill(0),
            2 => {
                let more = choices.below(64);
                content.splice(at..at, choices.take(more).iter().copied());
            }
            3 => {
                disk.remove(path).expect("a healthy disk");
                only_log &= path.name.starts_with("log.");
                continue;
            }
            _ => {
                if let Some(byte) = content.get_mut(at) {
                    *byte ^= choices.byte().max(1);
                }
            }
        }
        only_log &= path.name.starts_with("log.");
        disk.put(path, content);
    }
    let Ok((mut state, recovered)) = start(&disk) else { return };
    let last = recovered.last_zxid.get();
    if let Some(known) = prepared.digests.get(last as usize) {
        assert_eq!(digest(&mut state), *known, "the state at {last} is what it was");
    } else {
        panic!("recovered up to {last}, which was never written");
    }
    assert!(!only_log || last == LAST, "the mark covers {LAST}, recovered was {last}");
    goes_on(&disk, &recovered);
}

/// A log segment with any bytes behind its header, or any bytes at all.
pub fn fuzz_log(data: &[u8]) {
    let disk = Arc::new(MemDisk::default());
    let (_, _) = start(&disk).expect("an empty disk is fine");
    let mut choices = Choices::new(data);
    let mut content = if choices.one_in(4) { Vec::new() } else { header().to_vec() };
    content.extend_from_slice(choices.rest());
    disk.put(&log_path(zxid(1)), content);
    if let Ok((_, recovered)) = start(&disk) {
        goes_on(&disk, &recovered);
    }
}

/// A log of whole records with consecutive zxids and arbitrary bodies: whatever decodes is applied, and
/// the state that it makes survives a snapshot.
pub fn fuzz_records(data: &[u8]) {
    let disk = Arc::new(MemDisk::default());
    let (_, _) = start(&disk).expect("an empty disk is fine");
    let mut choices = Choices::new(data);
    let mut content = header().to_vec();
    for z in 1_u64.. {
        if choices.is_empty() {
            break;
        }
        let len = usize::from(choices.byte());
        let mut txn = choices.take(len).to_vec();
        txn.resize(txn.len().max(TxnHeader::LEN), 0);
        txn[12..20].copy_from_slice(&z.to_be_bytes());
        record::encode(&mut content, &txn);
    }
    disk.put(&log_path(zxid(1)), content);
    let Ok((mut state, _)) = start(&disk) else { return };
    survives(&mut state);
}

/// A snapshot of the state reads back as the same state.
pub(crate) fn survives(state: &mut TreeRestore) {
    let disk = MemDisk::default();
    let before = digest(state);
    let image = state.image();
    let written = write_snapshot(&disk, &image, &SnapshotOptions::default()).expect("a healthy disk");
    let mut again = TreeRestore::new(tree_config(), 0);
    read_snapshot(&disk, &written.path, &mut again).unwrap_or_else(|e| panic!("its own snapshot: {e}"));
    assert_eq!(digest(&mut again), before, "the digest comes back");
    let image_again = again.image();
    assert_eq!(image_again.sessions(), image.sessions());
    assert_eq!(image_again.acls(), image.acls());
}

/// A snapshot file of any form. Half of the inputs get a checksum that matches, so that their content
/// counts.
pub fn fuzz_snapshot(data: &[u8]) {
    let mut choices = Choices::new(data);
    let (name, sealed) = match choices.below(6) {
        0 => ("snapshot.5", false),
        1 => ("snapshot.5.gz", false),
        2 => ("snapshot.5.snappy", false),
        _ => ("snapshot.5", true),
    };
    let mut content = choices.rest().to_vec();
    if sealed {
        let sum = simd_adler32::adler32(&&content[..]);
        content.extend(u64::from(sum).to_be_bytes());
        content.extend([0, 0, 0, 1, b'/']);
    }
    let disk = MemDisk::default();
    let path = DiskPath::new(Dir::DataVersion, name);
    disk.put(&path, content);
    let verified = verify_snapshot(&disk, &path, 1 << 20).is_ok();
    let mut state = TreeRestore::new(tree_config(), 0);
    let read = read_snapshot(&disk, &path, &mut state).is_ok();
    assert!(verified || !read, "what is read was verified");
    if read {
        survives(&mut state);
    }
}

/// The mark and the files that hold a number.
pub fn fuzz_small_files(data: &[u8]) {
    let disk = Arc::new(MemDisk::default());
    disk.put(&mark_path(), data.to_vec());
    let _ = read_mark(&*disk);
    for (dir, name) in [(Dir::DataVersion, "acceptedEpoch"), (Dir::DataVersion, "currentEpoch"), (Dir::Data, "myid")] {
        disk.put(&DiskPath::new(dir, name), data.to_vec());
    }
    let _ = (read_accepted_epoch(&*disk), read_current_epoch(&*disk), read_myid(&*disk));
    let _ = start(&disk);
}

fn file(name: &str) -> Vec<u8> {
    let prepared = prepare();
    prepared.disk.content(&DiskPath::new(Dir::DataVersion, name)).expect("it was written")
}

pub(crate) fn log_seeds() -> Vec<Vec<u8>> {
    let log = file("log.1");
    vec![log.clone(), [&[0], &log[16..]].concat(), [&[3], &log[..]].concat()]
}

pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
    let mut seed = Vec::new();
    for z in 1..=12 {
        let bytes = bytes_of(z, &prepared_txn(z));
        seed.push(bytes.len() as u8);
        seed.extend(bytes);
    }
    vec![seed]
}

pub(crate) fn snapshot_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (choice, compression) in [(0, Compression::Plain), (1, Compression::Gz), (2, Compression::Snappy)] {
        let disk = Arc::new(MemDisk::default());
        let mut state = TreeRestore::new(tree_config(), 0);
        for z in 1..=10 {
            replay(&mut state, &bytes_of(z, &prepared_txn(z)));
        }
        replay(&mut state, &bytes_of(11, &Txn::CreateSession(4000)));
        for omit_last_zxid in [false, true] {
            let options = SnapshotOptions { omit_last_zxid, compression };
            let written = write_snapshot(&*disk, &state.image(), &options).expect("a healthy disk");
            let content = disk.content(&written.path).expect("it was written");
            seeds.push([&[choice], &content[..]].concat());
            if omit_last_zxid && choice == 0 {
                seeds.push([&[3], &content[..content.len() - 13]].concat());
            }
        }
    }
    seeds
}

pub(crate) fn small_seeds() -> Vec<Vec<u8>> {
    let mark = Mark { sequence: 4, segment: zxid(1), offset: 99, zxid: zxid(7), epoch: 1, floor: zxid(0) };
    vec![b"5\n".to_vec(), b"-1".to_vec(), mark.encode().to_vec()]
}
