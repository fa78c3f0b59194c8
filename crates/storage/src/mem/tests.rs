use super::*;
use crate::disk::DiskFile as _;

fn named(name: &str) -> DiskPath {
    DiskPath::new(Dir::DataVersion, name)
}

#[test]
fn what_a_failed_sync_left_is_on_no_medium_although_a_later_one_succeeds() {
    let disk = MemDisk::new(false);
    let path = named("log.1");
    let file = disk.open(&path, OpenMode::CreateNew).expect("a new file");
    file.write_at(0, b"first").expect("room");
    file.sync().expect("a healthy disk");
    disk.sync_dir(Dir::DataVersion).expect("a healthy disk");
    assert!(disk.is_synced(Dir::LogVersion, "log."));
    file.write_at(5, b"second").expect("room");
    disk.fail_on(FailOn::Sync, DiskErrorKind::Other);
    file.sync().expect_err("it was told to fail");
    file.sync().expect("the pages count as clean");
    assert_eq!(disk.content(&path).as_deref(), Some(&b"firstsecond"[..]));
    assert!(!disk.is_synced(Dir::LogVersion, "log."));
    let again = disk.fork();
    disk.restart(Crash::Power, &mut |n| n - 1);
    assert_eq!(disk.content(&path).as_deref(), Some(&b"first"[..]));
    assert!(disk.is_synced(Dir::LogVersion, "log."));
    // Written once more, it gets there.
    let file = again.open(&path, OpenMode::Write).expect("it is there");
    file.write_at(5, b"second").expect("room");
    file.sync().expect("a healthy disk");
    assert!(again.is_synced(Dir::LogVersion, "log."));
}

#[test]
fn a_copy_is_the_disk_between_two_operations() {
    let disk = MemDisk::new(true);
    disk.copy_after(2);
    let file = disk.open(&named("a"), OpenMode::CreateNew).expect("a new file");
    file.write_at(0, b"one").expect("room");
    assert!(!disk.has_copy(), "it is made before the next operation");
    file.write_at(3, b"two").expect("room");
    assert!(disk.has_copy());
    let copy = disk.take_copy().expect("it was made");
    assert_eq!(copy.content(&named("a")).as_deref(), Some(&b"one"[..]));
    copy.restart(Crash::Power, &mut |_| 0);
    assert_eq!(copy.content(&named("a")), None, "nothing of it was synced");
    assert_eq!(disk.content(&named("a")).as_deref(), Some(&b"onetwo"[..]));
    disk.copy_after(1);
    assert!(disk.take_copy().is_none(), "its time has not come");
    file.sync().expect("a healthy disk");
    file.sync().expect("a healthy disk");
    assert!(!disk.has_copy(), "and will not come");
}
