use super::*;
use crate::mem::{Crash, MemDisk, Op};

fn put(name: &str, text: &[u8]) -> MemDisk {
    let disk = MemDisk::default();
    disk.put(&DiskPath::new(Dir::DataVersion, name), text.to_vec());
    disk.put(&DiskPath::new(Dir::Data, name), text.to_vec());
    disk
}

#[test]
fn written_as_apache_writes() {
    let disk = MemDisk::default();
    assert_eq!(read_accepted_epoch(&disk).unwrap(), None);
    assert_eq!(read_current_epoch(&disk).unwrap(), None);
    write_accepted_epoch(&disk, AcceptedEpoch(1)).unwrap();
    write_current_epoch(&disk, CurrentEpoch(u32::MAX)).unwrap();
    assert_eq!(disk.content(&DiskPath::new(Dir::DataVersion, "acceptedEpoch")).unwrap(), [0x31]);
    assert_eq!(disk.content(&DiskPath::new(Dir::DataVersion, "currentEpoch")).unwrap(), b"4294967295");
    assert_eq!(read_accepted_epoch(&disk).unwrap(), Some(AcceptedEpoch(1)));
    assert_eq!(read_current_epoch(&disk).unwrap(), Some(CurrentEpoch(u32::MAX)));
    assert_eq!(disk.names(Dir::DataVersion), ["acceptedEpoch", "currentEpoch"]);
}

#[test]
fn a_write_that_returned_is_durable_and_one_that_did_not_leaves_old_or_new() {
    let disk = MemDisk::default();
    write_accepted_epoch(&disk, AcceptedEpoch(7)).unwrap();
    let written = disk.fork();
    written.clear_ops();
    write_accepted_epoch(&written, AcceptedEpoch(1_234_567)).unwrap();
    let steps = written.count() - disk.count();
    assert!(written.ops().ends_with(&[Op::SyncDir { dir: Dir::DataVersion }]));
    written.restart(Crash::Power, &mut |_| 0);
    assert_eq!(read_accepted_epoch(&written).unwrap(), Some(AcceptedEpoch(1_234_567)));

    for n in 0..steps {
        for bits in 0..32_usize {
            let disk = disk.fork();
            disk.crash_after(n, 3);
            assert!(write_accepted_epoch(&disk, AcceptedEpoch(1_234_567)).is_err());
            let mut turn = bits;
            disk.restart(Crash::Power, &mut |n| {
                turn /= 2;
                turn % n
            });
            let epoch = read_accepted_epoch(&disk).unwrap().unwrap().0;
            assert!(epoch == 7 || epoch == 1_234_567, "{epoch}");
        }
        let disk = disk.fork();
        disk.fail_nth(n + 1, DiskErrorKind::Full);
        assert_eq!(write_accepted_epoch(&disk, AcceptedEpoch(8)).unwrap_err().kind, DiskErrorKind::Full);
        assert_eq!(disk.names(Dir::DataVersion), ["acceptedEpoch"], "step {n}: no temporary for Apache to adopt");
    }
}

#[test]
fn the_first_line_counts_without_the_blanks_around_it() {
    for text in [&b"12"[..], b"12\n", b" 12 \r\nrest", b"012"] {
        assert_eq!(read_current_epoch(&put("currentEpoch", text)).unwrap(), Some(CurrentEpoch(12)));
        assert_eq!(read_myid(&put("myid", text)).unwrap(), Some(ServerId(12)));
    }
    assert_eq!(read_myid(&MemDisk::default()).unwrap(), None);
    assert_eq!(read_myid(&put("myid", b"9223372036854775807")).unwrap(), Some(ServerId(i64::MAX)));
}

#[test]
fn anything_else_is_refused_with_file_and_finding() {
    for text in ["", "\n12", "-1", "+1", "1 2", "0x10", "4294967296", "99999999999999999999", "\u{661}"] {
        let disk = put("acceptedEpoch", text.as_bytes());
        let error = read_accepted_epoch(&disk).unwrap_err();
        let NumberError::Value { file, found, .. } = &error else { panic!("{error}") };
        assert_eq!(*file, disk.describe(&DiskPath::new(Dir::DataVersion, "acceptedEpoch")));
        assert_eq!(found, text.lines().next().unwrap_or_default());
        assert!(error.to_string().contains("0 to 4294967295"), "{error}");
    }
    for text in ["", "one", "-1", "9223372036854775808"] {
        assert!(matches!(read_myid(&put("myid", text.as_bytes())), Err(NumberError::Value { .. })), "{text:?}");
    }
    assert!(read_accepted_epoch(&put("acceptedEpoch", &[0xff; 500])).is_err());
}
