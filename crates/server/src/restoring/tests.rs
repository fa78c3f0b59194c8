use super::*;
use farrier_proto::Txn;
use farrier_proto::jute::{put_i32, put_i64};
use farrier_proto::stat::StatPersisted;
use farrier_proto::txn::{CreateTxn, SetDataTxn};
use farrier_storage::mem::MemDisk;
use farrier_storage::snapshot::snapshot_name;
use farrier_storage::{Compression, Dir, DiskPath, LogOptions, LogWriter, write_snapshot};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const TREE: TreeConfig =
    TreeConfig { extended_types: false, ttl_353: false, digest: true, list_closed: true, enforce_quota: false };

/// More than can be on their way at a time.
const MANY: u32 = (BATCHES_MAX * BATCH_RECORDS_MAX + 3 * BATCH_RECORDS_MAX / 2) as u32;

fn node(path: &str) -> NodeRecord<'_> {
    NodeRecord { path, data: Some(b"data"), acl: -1, stat: StatPersisted::ZERO }
}

/// The path of the `n`th creation.
fn path(n: u32) -> String {
    if n.is_multiple_of(7) { format!("/n{n}") } else { format!("/n{}/m{n}", n / 7 * 7) }
}

/// Sometimes longer than a batch.
fn data(n: u32) -> Vec<u8> {
    vec![n as u8; if n % 5000 == 77 { BATCH_HANDED_MAX + 1 } else { (n % 50) as usize }]
}

/// The `n`th transaction of a log, which creates a znode.
fn create(n: u32, path: String) -> Vec<u8> {
    let acl = vec![Acl::world(1 + (n % 31) as i32)];
    let (path, data, ephemeral) = (path.into(), Some(data(n).into()), n % 7 == 3);
    logged(Zxid::new(0, n + 1), &Txn::Create(CreateTxn { path, data, acl, ephemeral, parent_cversion: n as i32 }))
}

/// The `n`th transaction of a log: creations, then changes.
fn txn(n: u32) -> Vec<u8> {
    if n < MANY / 2 {
        return create(n, path(n));
    }
    let change = SetDataTxn { path: path(n - MANY / 2).into(), data: Some(data(n).into()), version: n as i32 };
    logged(Zxid::new(0, n + 1), &Txn::SetData(change))
}

/// The same of another log, in which all are creations: behind its snapshot some meet a path that is taken, others a
/// parent that is missing.
fn creation(n: u32) -> Vec<u8> {
    match n % 5 {
        3 if n >= MANY / 2 => create(n, path(n - MANY / 2)),
        4 if n >= MANY / 2 => create(n, format!("/missing{n}/m")),
        _ => create(n, path(n)),
    }
}

/// A transaction of session 9 as it stands in the log, without a digest.
fn logged(zxid: Zxid, txn: &Txn<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_i64(&mut bytes, 9);
    put_i32(&mut bytes, 1);
    put_i64(&mut bytes, zxid.to_wire());
    put_i64(&mut bytes, 1000);
    put_i32(&mut bytes, txn.kind().code());
    txn.write_body(&mut bytes);
    bytes
}

/// A disk with two snapshots and a log of [`MANY`] transactions, half of them behind the newer snapshot.
fn used(txn: fn(u32) -> Vec<u8>) -> Arc<MemDisk> {
    let disk = Arc::new(MemDisk::default());
    disk.stop_recording();
    let options = RecoverOptions::default();
    let (mut state, recovered) =
        farrier_replica::restore(&disk, &options, &SnapshotOptions::default(), TREE, 3).expect("a fresh disk");
    let mut log = LogWriter::open(Arc::clone(&disk), &recovered, LogOptions::default());
    for n in 0..MANY {
        let bytes = txn(n);
        log.append(Zxid::new(0, n + 1), &bytes);
        state.replay(&LoggedTxn::read(&bytes).expect("a transaction")).expect("a tree takes it");
        if n == MANY / 2 {
            log.commit().expect("a healthy disk");
            write_snapshot(&*disk, &state.image(), &SnapshotOptions::default()).expect("a healthy disk");
        }
    }
    log.close().expect("a healthy disk");
    disk
}

/// Everything in a state that can be seen.
fn shown(state: &mut TreeRestore) -> (u64, Vec<u8>) {
    let disk = MemDisk::default();
    let written = write_snapshot(&disk, &state.image(), &SnapshotOptions::default()).expect("a healthy disk");
    (state.digest(), disk.content(&written.path).expect("it was just written"))
}

/// Both ways of reading a disk: with two threads, and with one.
fn both(disk: &MemDisk) -> [(Recovered, (u64, Vec<u8>)); 2] {
    let (options, snapshots) = (RecoverOptions::default(), SnapshotOptions::default());
    let of = |(mut state, recovered): (TreeRestore, Recovered)| (recovered, shown(&mut state));
    let two = restore(&Arc::new(disk.fork()), &options, &snapshots, TREE, 5).expect("a whole disk");
    let one = farrier_replica::restore(&Arc::new(disk.fork()), &options, &snapshots, TREE, 5).expect("a whole disk");
    [of(two), of(one)]
}

#[test]
fn two_threads_restore_what_one_does() {
    let disk = used(txn);
    let [two, one] = both(&disk);
    assert_eq!(two, one);
    assert_eq!((two.0.last_zxid, two.0.warnings.len()), (Zxid::new(0, MANY), 0), "{:?}", two.0.warnings);
    assert!(two.0.replayed > u64::from(MANY) / 3 && two.0.snapshot_zxid > Some(Zxid::ZERO));
}

#[test]
fn two_threads_create_what_one_does_and_refuse_the_same() {
    let disk = used(creation);
    let [two, one] = both(&disk);
    assert_eq!(two, one);
    assert_eq!((two.0.last_zxid, two.0.warnings.len()), (Zxid::new(0, MANY), 0), "{:?}", two.0.warnings);
    assert!(two.0.replayed > u64::from(MANY) / 3 && two.0.snapshot_zxid > Some(Zxid::ZERO));
    let holds = |path: &str| two.1.1.windows(path.len()).any(|bytes| bytes == path.as_bytes());
    // Whose parent was created behind the snapshot, and whose was to be, but was not.
    let behind = |n: u32, rest: u32| n >= MANY / 2 && n.is_multiple_of(7) && n % 5 == rest;
    let [created, refused] =
        [0, 4].map(|rest| (0..MANY).rfind(|n| behind(*n, rest) && n + 7 < MANY).expect("there are many"));
    assert!(holds(&path(created)) && holds(&path(created + 1)));
    assert!(!holds(&path(refused)) && !holds(&path(refused + 1)) && !holds("/missing"));
}

#[test]
fn a_fresh_directory_gets_its_first_snapshot() {
    let [two, one] = both(&MemDisk::default());
    assert_eq!(two, one);
    assert!(two.0.fresh);
    let disk = Arc::new(MemDisk::default());
    restore(&disk, &RecoverOptions::default(), &SnapshotOptions::default(), TREE, 5).expect("a fresh disk");
    assert!(disk.names(Dir::DataVersion).contains(&"snapshot.0".to_owned()));
}

#[test]
fn a_damaged_snapshot_gives_way_to_an_older_one_in_the_middle() {
    let disk = used(txn);
    let newer = DiskPath::new(Dir::DataVersion, snapshot_name(Zxid::new(0, MANY / 2 + 1), Compression::Plain));
    let bytes = disk.content(&newer).expect("it was written");
    // A parent is called otherwise: its children are refused long before the checksum is seen to be wrong.
    let at = bytes.windows(4).position(|window| window == b"/n7\0").expect("it is a parent");
    assert!(disk.rot(&newer, at + 1, 1));
    let [two, one] = both(&disk);
    assert_eq!((&two.1, two.0.snapshot_zxid), (&one.1, Some(Zxid::ZERO)));
    assert_eq!(two.0.replayed, u64::from(MANY));
    assert_eq!(two.0.warnings.len(), 1);
    assert!(two.0.warnings[0].contains("it is passed over"), "{}", two.0.warnings[0]);
}

#[test]
fn a_refusal_comes_out_and_a_reset_forgets_it() {
    let mut state = TreeRestore::new(TREE, 1);
    fill(&mut state, |ahead| {
        for round in 0..3 {
            ahead.node(node("")).expect("the root");
            ahead.node(node("/missing/child")).expect("nobody knows yet");
            let mut path = 0;
            let refused = loop {
                path += 1;
                if let Err(refused) = ahead.node(node(&format!("/n{path}"))) {
                    break refused;
                }
                assert!(path < MANY, "the refusal comes out while there is more to read");
            };
            assert!(refused.0.contains("/missing/child"), "{refused}");
            let again = ahead.loaded(Zxid::new(1, 1), None).expect_err("it stays refused");
            assert_eq!(again, refused, "round {round}");
            ahead.reset();
        }
        // What the maker refuses comes behind what the tree refused before.
        ahead.node(node("")).expect("the root");
        ahead.node(node("/a")).expect("a child");
        ahead.node(node("/a")).expect("nobody knows yet");
        let refused = ahead.node(node("no path")).expect_err("it is none");
        assert_eq!(refused.0, "znode \"/a\" comes twice");
        ahead.reset();
        let refused = ahead.node(node("no path")).expect_err("it is none");
        assert!(refused.0.contains("no path"), "{refused}");
        ahead.reset();
        ahead.session(SessionId(5), 4000).expect("a session");
        ahead.acl(3, vec![Acl::world(1)]).expect("a list");
        ahead.node(node("")).expect("the root");
        ahead.node(NodeRecord { acl: 3, ..node("/good") }).expect("a child");
        ahead.loaded(Zxid::new(1, 2), None).expect("a whole snapshot");
        ahead.catch_up();
    })
    .expect("there are threads");
    let mut alone = TreeRestore::new(TREE, 1);
    alone.session(SessionId(5), 4000).expect("a session");
    alone.acl(3, vec![Acl::world(1)]).expect("a list");
    alone.node(node("")).expect("the root");
    alone.node(NodeRecord { acl: 3, ..node("/good") }).expect("a child");
    alone.loaded(Zxid::new(1, 2), None).expect("a whole snapshot");
    assert_eq!(shown(&mut state), shown(&mut alone));
}

#[test]
fn a_refusal_at_the_end_is_told_before_the_snapshot_is_believed() {
    let mut state = TreeRestore::new(TREE, 1);
    let refused = fill(&mut state, |ahead| {
        ahead.node(node("")).expect("the root");
        ahead.node(node("/a/b")).expect("nobody knows yet");
        ahead.loaded(Zxid::new(1, 1), None)
    });
    let refused = refused.expect("there are threads").expect_err("the parent is missing");
    assert_eq!(refused.0, "znode \"/a/b\" comes without its parent");
}

#[test]
fn to_catch_up_is_to_wait_until_all_is_taken_in() {
    let (mut ahead, from, give_back) = connect(NodeMaker::new(TREE));
    let taken = &AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(move || {
            for batch in from {
                // So slow that whoever does not wait is ahead.
                thread::sleep(Duration::from_millis(5));
                taken.fetch_add(batch.records.len(), Ordering::SeqCst);
                give_back.send((batch, Ok(()))).expect("the other side waits");
            }
        });
        let mut sent = 0;
        for rounds in [3 * BATCH_RECORDS_MAX, 1, 0, BATCH_RECORDS_MAX] {
            for n in 0..rounds {
                let bytes = txn(n as u32);
                ahead.replay(&LoggedTxn::read(&bytes).expect("a transaction")).expect("nothing is refused");
            }
            sent += rounds;
            ahead.catch_up();
            assert_eq!(taken.load(Ordering::SeqCst), sent);
        }
        drop(ahead);
    });
}

#[test]
fn long_transactions_wait_for_one_another() {
    let (mut ahead, from, give_back) = connect(NodeMaker::new(TREE));
    let data = Some(vec![1; AHEAD_BYTES_MAX / 3].into());
    let long = Txn::SetData(SetDataTxn { path: "/a".into(), data, version: 1 });
    let bytes = logged(Zxid::new(1, 1), &long);
    let long = LoggedTxn::read(&bytes).expect("a transaction");
    thread::scope(|scope| {
        scope.spawn(move || take_in(&mut TreeRestore::new(TREE, 1), from, give_back));
        let mut most = 0;
        for _ in 0..20 {
            ahead.replay(&long).expect("nothing is refused");
            most = most.max(ahead.bytes_ahead);
        }
        assert!((bytes.len()..=AHEAD_BYTES_MAX).contains(&most), "{most}");
        ahead.catch_up();
        assert_eq!((ahead.bytes_ahead, ahead.on_their_way), (0, 0));
        let kept = |batch: &Batch| batch.txns.capacity().max(batch.paths.capacity());
        assert!(ahead.spare.iter().all(|batch| kept(batch) <= 2 * BATCH_BYTES_MAX), "large buffers are given back");
        drop(ahead);
    });
}

#[test]
fn a_panic_of_either_thread_ends_the_other() {
    let good = txn(0);
    let mut bad = LoggedTxn::read(&good).expect("a transaction");
    bad.bytes = b"garbage";
    for records in [1, 2 * MANY] {
        let mut state = TreeRestore::new(TREE, 1);
        let filled = catch_unwind(AssertUnwindSafe(|| {
            fill(&mut state, |ahead| {
                for _ in 0..records {
                    ahead.replay(&bad).expect("nobody knows yet");
                }
                ahead.catch_up();
                unreachable!("nobody has taken it in");
            })
        }));
        assert!(filled.is_err(), "the tree's thread panicked");
    }
    let mut state = TreeRestore::new(TREE, 1);
    let filled = catch_unwind(AssertUnwindSafe(|| {
        fill(&mut state, |ahead| {
            ahead.node(node("")).expect("the root");
            panic!("the reading thread's own words");
        })
    }));
    let panic = filled.expect_err("the reading thread panicked");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the reading thread's own words"));
}
