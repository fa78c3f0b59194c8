use super::*;
use crate::config::ServerConfig;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

fn disk() -> (tempfile::TempDir, RealDisk) {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(&dir.path().join("data"), &dir.path().join("log"), true).unwrap();
    (dir, disk)
}

#[test]
fn files_are_written_read_renamed_and_removed() {
    let (dir, disk) = disk();
    let a = DiskPath::new(Dir::DataVersion, "a");
    let b = DiskPath::new(Dir::DataVersion, "b");
    assert_eq!(disk.describe(&a), dir.path().join("data/version-2/a").display().to_string());

    let file = disk.open(&a, OpenMode::CreateNew).unwrap();
    file.write_at(3, b"xyz").unwrap();
    file.sync().unwrap();
    assert_eq!(file.len().unwrap(), 6);
    let mut buf = [9; 10];
    assert_eq!(file.read_at(1, &mut buf).unwrap(), 5);
    assert_eq!(&buf[..6], b"\0\0xyz\x09");
    file.set_len(4).unwrap();
    assert_eq!(disk.list(Dir::DataVersion).unwrap(), [DirEntry { name: "a".to_owned(), len: 4 }]);

    assert_eq!(disk.open(&a, OpenMode::CreateNew).unwrap_err().kind, DiskErrorKind::Exists);
    disk.rename(&a, &b).unwrap();
    disk.sync_dir(Dir::DataVersion).unwrap();
    let missing = disk.open(&a, OpenMode::Read).unwrap_err();
    assert_eq!(missing.kind, DiskErrorKind::NotFound);
    assert_eq!(missing.path, disk.describe(&a));
    assert_eq!(disk.open(&a, OpenMode::Write).unwrap_err().kind, DiskErrorKind::NotFound);
    assert_eq!(disk.open(&b, OpenMode::Read).unwrap().len().unwrap(), 4);
    assert_eq!(disk.open(&b, OpenMode::CreateTruncate).unwrap().len().unwrap(), 0);
    disk.remove(&b).unwrap();
    assert!(disk.list(Dir::DataVersion).unwrap().is_empty());
}

#[test]
fn each_directory_is_its_own() {
    let (dir, disk) = disk();
    for (which, path) in [
        (Dir::Data, "data"),
        (Dir::DataVersion, "data/version-2"),
        (Dir::Log, "log"),
        (Dir::LogVersion, "log/version-2"),
    ] {
        disk.open(&DiskPath::new(which, "f"), OpenMode::CreateNew).unwrap();
        assert!(dir.path().join(path).join("f").is_file());
        assert_eq!(disk.list(which).unwrap().len(), 1, "subdirectories are not listed");
    }
}

#[test]
fn what_an_operator_can_mend_is_told_apart() {
    for (error, kind) in [
        (io::ErrorKind::StorageFull, DiskErrorKind::Full),
        (io::ErrorKind::QuotaExceeded, DiskErrorKind::Full),
        (io::ErrorKind::ReadOnlyFilesystem, DiskErrorKind::ReadOnly),
        (io::ErrorKind::PermissionDenied, DiskErrorKind::Denied),
        (io::ErrorKind::Other, DiskErrorKind::Other),
    ] {
        assert_eq!(kind_of(&error.into()), kind);
    }
    for errno in [Errno::MFILE, Errno::NFILE] {
        assert_eq!(kind_of(&errno.into()), DiskErrorKind::TooManyFiles);
    }
    let full = File::options().write(true).open("/dev/full").unwrap();
    let full = RealFile::new(full, PathBuf::from("/dev/full"));
    let error = full.write_at(0, b"x").unwrap_err();
    assert_eq!((error.kind, error.operation), (DiskErrorKind::Full, "write"));
}

#[test]
fn missing_directories_are_created_only_if_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("deep/data");
    let error = RealDisk::open(&data, &data, false).unwrap_err();
    assert!(matches!(error, DirectoryError::Missing { .. }), "{error}");
    assert!(!dir.path().join("deep").exists());
    RealDisk::open(&data, &data, true).unwrap();
    RealDisk::open(&data, &data, false).unwrap();

    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert!(matches!(RealDisk::open(&file, &file, true), Err(DirectoryError::Failed { .. })));
}

#[test]
fn a_directory_without_write_permission_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    RealDisk::open(dir.path(), dir.path(), true).unwrap();
    let version = dir.path().join(VERSION_DIR);
    std::fs::set_permissions(&version, std::fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write everywhere; for everybody else the refusal names the directory.
    match RealDisk::open(dir.path(), dir.path(), true) {
        Ok(_) => assert!(File::create(version.join("probe")).is_ok()),
        Err(error) => assert!(error.to_string().contains(&version.display().to_string()), "{error}"),
    }
    std::fs::set_permissions(&version, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn snapshots_among_logs_are_refused_unless_both_share_a_directory() {
    let (dir, _) = disk();
    let (data, log) = (dir.path().join("data"), dir.path().join("log"));
    let recovered = |data: &Path, log: &Path| {
        let disk = Arc::new(RealDisk::open(data, log, true).unwrap());
        let mut config = ServerConfig::standalone(data.to_owned(), (std::net::Ipv4Addr::LOCALHOST, 0).into());
        config.data_log_dir = log.to_owned();
        let tree = crate::mapping::tree(&config);
        let mut state = farrier_replica::TreeRestore::new(tree, 0);
        let options = crate::mapping::recover(&config, &disk);
        let recovered = farrier_storage::recover(&disk, &options, &mut state)?;
        if recovered.needs_snapshot() {
            farrier_storage::write_snapshot(&*disk, &state.image(), &farrier_storage::SnapshotOptions::default())?;
        }
        Ok::<_, farrier_storage::Refusal>(options.separate_log_dir)
    };
    assert!(recovered(&data, &log).unwrap());
    assert!(recovered(&data, &log).unwrap());
    let refusal = recovered(&log, &data).unwrap_err();
    assert_eq!(refusal.kind, farrier_storage::RefusalKind::Misplaced, "{refusal}");
    assert_eq!(crate::server::StartError::from(refusal).exit_code(), 3, "as Apache");
    std::fs::write(data.join("version-2/log.1"), b"").unwrap();
    assert!(recovered(&data, &log).unwrap_err().to_string().contains("version-2/log.1"));
    // One directory under two names is one.
    let (one, link) = (dir.path().join("one"), dir.path().join("link"));
    std::fs::create_dir(&one).unwrap();
    std::os::unix::fs::symlink(&one, &link).unwrap();
    for _ in 0..2 {
        assert!(!recovered(&one, &link).unwrap());
    }
}

#[test]
fn a_second_lock_is_refused_and_names_the_first() {
    let (dir, _) = disk();
    let (data, log) = (dir.path().join("data"), dir.path().join("log"));
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let lock = DirectoryLock::acquire(&data, &log).unwrap();
    for (a, b, busy) in [(&data, &data, &data), (&other, &log, &log), (&data, &other, &data)] {
        match DirectoryLock::acquire(a, b).unwrap_err() {
            LockError::Held { dir, holder } => {
                assert_eq!((&dir, holder), (busy, Some(std::process::id())));
            }
            error @ LockError::Failed { .. } => panic!("{error}"),
        }
    }
    let error = DirectoryLock::acquire(&data, &data).unwrap_err().to_string();
    assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
    DirectoryLock::acquire(&other, &other).expect("a refused attempt keeps nothing");
    match DirectoryLock::to_read(&data, &data).unwrap_err() {
        LockError::Held { holder, .. } => assert_eq!(holder, Some(std::process::id())),
        error @ LockError::Failed { .. } => panic!("{error}"),
    }
    drop(lock);

    // Whoever only reads makes nothing, writes nothing, and keeps servers off.
    let unused = dir.path().join("unused");
    std::fs::create_dir(&unused).unwrap();
    std::fs::write(data.join(LOCK), "7\n").unwrap();
    let readers = [DirectoryLock::to_read(&data, &unused).unwrap(), DirectoryLock::to_read(&data, &unused).unwrap()];
    assert_eq!(std::fs::read_dir(&unused).unwrap().count(), 0);
    assert_eq!(std::fs::read(data.join(LOCK)).unwrap(), b"7\n");
    assert!(matches!(DirectoryLock::acquire(&data, &data), Err(LockError::Held { .. })));
    drop(readers);
    DirectoryLock::acquire(&data, &log).expect("the files are there, the lock is not");

    // What is there is locked, and nothing is made.
    let fresh = dir.path().join("fresh");
    std::fs::create_dir(&fresh).unwrap();
    let part = DirectoryLock::existing(&data, &fresh).unwrap();
    assert_eq!(std::fs::read_dir(&fresh).unwrap().count(), 0);
    assert!(matches!(DirectoryLock::existing(&fresh, &data), Err(LockError::Held { .. })));
    let whole = part.complete(&data, &fresh).unwrap();
    assert!(matches!(DirectoryLock::existing(&fresh, &fresh), Err(LockError::Held { .. })));
    drop(whole);
    DirectoryLock::existing(&dir.path().join("nowhere"), &fresh).expect("nobody holds it");
}

#[test]
fn one_directory_under_two_names_is_locked_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&data, &link).unwrap();
    std::fs::write(data.join(LOCK), b"not a number, and longer than one").unwrap();
    let lock = DirectoryLock::acquire(&data, &link).unwrap();
    assert_eq!(std::fs::read_to_string(data.join(LOCK)).unwrap(), format!("{}\n", std::process::id()));
    assert!(matches!(DirectoryLock::acquire(&link, &link), Err(LockError::Held { .. })));
    drop(lock);
}

/// What a file holds that got these zeros over other bytes, and what it should.
fn with_zeros(path: &Path, before: usize, offset: usize, len: usize) -> (Vec<u8>, Vec<u8>) {
    let mut expected = vec![7; before];
    expected.resize(before.max(offset + len), 0);
    expected[offset..offset + len].fill(0);
    std::fs::write(path, vec![7; before]).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    write_zeros(&file, offset as u64, len as u64).unwrap();
    // The file still takes what stands anywhere.
    file.write_all_at(b"!", offset as u64).unwrap();
    expected[offset] = b'!';
    (std::fs::read(path).unwrap(), expected)
}

#[test]
fn zeros_are_written_whatever_the_file_system_and_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let memory = tempfile::tempdir_in("/dev/shm").ok();
    for dir in std::iter::once(&dir).chain(&memory) {
        for before in [0, 10, 5000, 30_000] {
            for offset in [0, 1, 16, 4095, 4096, 8192, 9000] {
                for len in [1, 15, 4095, 4096, 4097, 8192, 20_000] {
                    let (found, expected) = with_zeros(&dir.path().join("f"), before, offset, len);
                    assert!(found == expected, "{before} bytes, {len} zeros at {offset} in {}", dir.path().display());
                }
            }
        }
    }
}

#[test]
fn what_is_written_into_zeros_changes_nothing_but_its_place() {
    let (_dir, disk) = disk();
    let file = disk.open(&DiskPath::new(Dir::LogVersion, "f"), OpenMode::CreateNew).unwrap();
    for (offset, len, end) in [(0, 3, 9000), (4090, 6, 9000), (4090, 7, 4097), (100, 8000, 9000), (8999, 1, 9000)] {
        file.set_len(0).and_then(|()| file.write_zeros(0, 9000)).unwrap();
        file.write_at(0, &vec![5; offset]).unwrap();
        file.write_into_zeros(offset as u64, &vec![9; len], end).unwrap();
        let mut found = vec![1; 9001];
        assert_eq!(file.read_at(0, &mut found).unwrap(), 9000, "the file does not grow");
        let expected = [vec![5; offset], vec![9; len], vec![0; 9000 - offset - len]].concat();
        assert!(found[..9000] == expected, "{len} bytes at {offset}");
    }
    // Nothing is known to be zero there: the file ends with the bytes.
    file.set_len(0).and_then(|()| file.write_into_zeros(5, b"abc", 0)).unwrap();
    assert_eq!(file.len().unwrap(), 8);
}

#[test]
fn what_leaves_the_cache_stays_in_the_file() {
    let (_dir, disk) = disk();
    let file = disk.open(&DiskPath::new(Dir::LogVersion, "log.1"), OpenMode::CreateNew).unwrap();
    let end = 5 * LEAVE;
    let left = || file.left.load(Ordering::Relaxed);
    let piece = |at: u64| vec![(at / 4000 % 251) as u8; 4000];
    let mut at = 0;
    while at + 4000 < end {
        file.write_into_zeros(at, &piece(at), end).unwrap();
        assert!(left() <= at && at < left() + 2 * LEAVE, "{at}: {}", left());
        file.sync().unwrap();
        at += 4000;
    }
    let mut buf = vec![0; 4000];
    for before in (0..at).step_by(4000) {
        assert_eq!(file.read_at(before, &mut buf).unwrap(), buf.len());
        assert_eq!(buf, piece(before), "{before}");
    }
    // An end that was cut is written again.
    file.write_into_zeros(10, b"abc", end).unwrap();
    assert_eq!(left(), 3 * LEAVE);
}

#[test]
fn who_reads_a_beginning_fetches_nothing_ahead() {
    let (_dir, disk) = disk();
    let path = DiskPath::new(Dir::LogVersion, "log.1");
    disk.open(&path, OpenMode::CreateNew).unwrap().set_len(20 << 20).unwrap();
    let file = disk.open(&path, OpenMode::Read).unwrap();
    let ahead = || file.ahead.load(Ordering::Relaxed);
    let mut buf = vec![1; 1 << 16];
    let mut at = 0;
    while at + 65536 < AHEAD_FROM {
        assert_eq!(file.read_at(at, &mut buf).unwrap(), buf.len());
        at += 65536;
        assert_eq!(ahead(), 0, "{at}");
    }
    while file.read_at(at, &mut buf).unwrap() == buf.len() {
        assert!(buf.iter().all(|b| *b == 0));
        at += 65536;
        assert!(ahead() >= at + AHEAD.get() / 2 && ahead() <= at + 2 * AHEAD.get(), "{at}: {}", ahead());
    }
    assert_eq!(at, 20 << 20);
    assert_eq!(file.read_at(u64::MAX >> 1, &mut buf).unwrap_or(0), 0);
}
