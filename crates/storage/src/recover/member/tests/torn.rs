//! What Apache leaves when it is killed under load, and where it went on in a later epoch.

use super::*;
use crate::segment::header;
use crate::testing::apaches_snapshot;

const E2: u64 = 2 * E1;

fn records(zxids: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut out = Vec::new();
    for z in zxids {
        crate::record::encode(&mut out, &txn(z));
    }
    out
}

/// (1,1) to (1,3), `end`, and in the next file (2,1) and (2,2).
fn apaches(end: &[u8]) -> Arc<MemDisk> {
    let disk = Arc::new(MemDisk::default());
    apaches_snapshot(&disk, &Nodes::default());
    disk.put(&log_path(zxid(E1 + 1)), [&header()[..], &records(E1 + 1..=E1 + 3), end].concat());
    disk.put(&log_path(zxid(E2 + 1)), [&header()[..], &records(E2 + 1..=E2 + 2), &[0; 100]].concat());
    put_epoch(&disk, &accepted_epoch_path(), "2");
    put_epoch(&disk, &current_epoch_path(), "2");
    disk
}

/// Ends that Apache takes for the end of the file: within the prefix, within the transaction, and without zeros behind.
fn torn() -> [Vec<u8>; 3] {
    let record = records([E1 + 4]);
    let zeros = vec![0; 100];
    [[&record[..8], &zeros].concat(), [&record[..record.len() / 2], &zeros].concat(), record[..40].to_vec()]
}

/// Nothing tells whether that record was acknowledged.
#[test]
fn a_torn_end_before_a_later_epoch_costs_the_vote() {
    for end in torn() {
        let disk = apaches(&end);
        let was: Vec<_> =
            [E1 + 1, E2 + 1].map(|z| (log_path(zxid(z)), disk.content(&log_path(zxid(z))).unwrap())).into();
        let recovered = start_twice(&disk);
        assert_eq!((recovered.recovering, recovered.last_zxid), (Recovering::History, zxid(E1 + 3)));
        assert_eq!((recovered.accepted.0, recovered.current.0), (2, 2));
        // The way back to Apache: the old names.
        for (path, content) in was {
            let name = format!("{DAMAGED_PREFIX}1.{}", path.name);
            let kept = disk.content(&DiskPath::new(Dir::LogVersion, name)).unwrap();
            let used = content.iter().rposition(|b| *b != 0).unwrap() + 1;
            assert_eq!(kept[..used], content[..used], "{path:?}");
        }
    }
    assert_eq!(start_twice(&apaches(&[0; 100])).recovering, Recovering::No, "a whole one");
}

/// A follower that came back was sent what it had lost, and a snapshot behind the place tells all that is there.
#[test]
fn a_torn_end_that_is_shown_to_be_harmless_costs_nothing() {
    for end in torn() {
        let disk = apaches(&end);
        disk.put(&log_path(zxid(E1 + 4)), [&header()[..], &records([E1 + 4]), &[0; 9]].concat());
        let (state, recovered) = start_member(&disk).unwrap();
        assert_eq!(state.zxids, [E1 + 1, E1 + 2, E1 + 3, E1 + 4, E2 + 1, E2 + 2]);
        assert_eq!(recovered.recovering, Recovering::No, "{:?}", recovered.warnings);

        let disk = apaches(&end);
        apaches_snapshot(&disk, &Nodes { zxids: vec![E1 + 1, E1 + 2, E1 + 3, E2 + 1], loaded: None });
        let (state, recovered) = start_member(&disk).unwrap();
        assert_eq!(state.zxids, [E1 + 1, E1 + 2, E1 + 3, E2 + 1, E2 + 2]);
        assert_eq!(recovered.recovering, Recovering::No, "{:?}", recovered.warnings);
    }
}
