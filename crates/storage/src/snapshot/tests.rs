use super::*;
use crate::disk::DiskErrorKind;
use crate::mem::{Crash, MemDisk, Op};
use crate::state::{Image, LoggedTxn, NodeRecord, Restore, RestoreError, SnapshotDigest};
use farrier_proto::jute::{put_buffer, put_i32, put_i64, put_str};
use farrier_proto::stat::StatPersisted;
use farrier_proto::{Acl, Field, SessionId};
use simd_adler32::adler32;

const ALL: [Compression; 3] = [Compression::Plain, Compression::Gz, Compression::Snappy];

#[derive(Clone, PartialEq, Eq, Debug)]
struct TestNode {
    path: String,
    data: Option<Vec<u8>>,
    acl: i64,
    stat: StatPersisted,
}

/// An image made by hand, and what a reader was told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct TestState {
    zxid: Zxid,
    digest: Option<u64>,
    sessions: Vec<(SessionId, i32)>,
    acls: Vec<(i64, Vec<Acl<'static>>)>,
    nodes: Vec<TestNode>,
}

const NO_STAT: StatPersisted = StatPersisted::ZERO;

impl TestState {
    /// The tree before the first transaction, with Apache's ACL table.
    fn virgin() -> Self {
        let node = |path: &str, acl, stat| TestNode { path: path.to_owned(), data: Some(Vec::new()), acl, stat };
        Self {
            digest: Some(0x51c6_d660),
            acls: vec![(1, vec![Acl::world(1)])],
            nodes: vec![
                node("", -1, NO_STAT),
                node("/zookeeper", -1, NO_STAT),
                node("/zookeeper/config", 1, StatPersisted { aversion: -1, ..NO_STAT }),
                node("/zookeeper/quota", -1, NO_STAT),
            ],
            ..Self::default()
        }
    }

    /// A small state in which every field has a value of its own.
    pub(crate) fn small(zxid: Zxid) -> Self {
        let mut state = Self::virgin();
        state.zxid = zxid;
        state.digest = Some(0x21c_d793_a400 ^ zxid.get());
        state.sessions = vec![(SessionId(0x0200_0015_05de_0000), 10_000), (SessionId(-5), 4_000)];
        let digest = Acl { perms: 31, scheme: "digest".into(), id: "bob:ünïcode".into() };
        state.acls.push((2, vec![digest, Acl::world(17)]));
        state.acls.push((3, Vec::new()));
        state.nodes.push(TestNode {
            path: "/a".to_owned(),
            data: Some(b"hello".to_vec()),
            acl: 2,
            stat: StatPersisted {
                czxid: Zxid::new(1, 2),
                mzxid: Zxid::new(1, 3),
                ctime: 0x1a2_0446_6704,
                mtime: 0x1a2_0446_6705,
                version: 1,
                cversion: 4,
                aversion: 3,
                ephemeral_owner: -5,
                pzxid: zxid,
            },
        });
        state.nodes.push(TestNode { path: "/a/ñ".to_owned(), data: None, acl: 3, stat: NO_STAT });
        state
    }

    /// A state of several compressed blocks and written chunks.
    fn large() -> Self {
        let mut state = Self::small(Zxid::new(3, 7));
        let mut x = 1_u32;
        for i in 0..40_u32 {
            let mut data = Vec::new();
            for _ in 0..i * 1_000 {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // A mix that compresses somewhat.
                data.extend_from_slice(&[x.to_be_bytes()[0], 7, 7]);
            }
            state.nodes.push(TestNode { path: format!("/n{i}"), data: Some(data), acl: -1, stat: NO_STAT });
        }
        state
    }

    fn snapshot_digest(&self) -> Option<SnapshotDigest> {
        let digest = self.digest.filter(|_| self.zxid != Zxid::ZERO)?;
        Some(SnapshotDigest { zxid: self.zxid, version: 2, digest })
    }
}

impl Image for TestState {
    fn zxid(&self) -> Zxid {
        self.zxid
    }
    fn digest(&self) -> Option<u64> {
        self.digest
    }
    fn sessions(&self) -> Vec<(SessionId, i32)> {
        self.sessions.clone()
    }
    fn acls(&self) -> Vec<(i64, Vec<Acl<'static>>)> {
        self.acls.clone()
    }
    fn nodes<E>(&self, visit: &mut dyn FnMut(NodeRecord<'_>) -> Result<(), E>) -> Result<(), E> {
        self.nodes
            .iter()
            .try_for_each(|n| visit(NodeRecord { path: &n.path, data: n.data.as_deref(), acl: n.acl, stat: n.stat }))
    }
}

impl Restore for TestState {
    fn reset(&mut self) {
        *self = Self::default();
    }
    fn session(&mut self, session: SessionId, timeout: i32) -> Result<(), RestoreError> {
        self.sessions.push((session, timeout));
        Ok(())
    }
    fn acl(&mut self, key: i64, acl: Vec<Acl<'_>>) -> Result<(), RestoreError> {
        self.acls.push((key, acl.into_iter().map(Acl::into_owned).collect()));
        Ok(())
    }
    fn node(&mut self, node: NodeRecord<'_>) -> Result<(), RestoreError> {
        if node.path == "/refuse" {
            return Err(RestoreError("the parent is missing".to_owned()));
        }
        let (path, data) = (node.path.to_owned(), node.data.map(<[u8]>::to_vec));
        self.nodes.push(TestNode { path, data, acl: node.acl, stat: node.stat });
        Ok(())
    }
    fn loaded(&mut self, zxid: Zxid, digest: Option<SnapshotDigest>) -> Result<(), RestoreError> {
        self.zxid = zxid;
        self.digest = digest.map(|d| d.digest);
        Ok(())
    }
    fn replay(&mut self, _: &LoggedTxn<'_>) -> Result<(), RestoreError> {
        unreachable!("a snapshot holds no transactions")
    }
}

fn at(name: &str) -> DiskPath {
    DiskPath::new(Dir::DataVersion, name)
}

/// The bytes of a snapshot of `state`.
pub(crate) fn bytes_of(state: &TestState, compression: Compression) -> Vec<u8> {
    let disk = MemDisk::default();
    let written = write_snapshot(&disk, state, &SnapshotOptions { compression, ..SnapshotOptions::default() }).unwrap();
    disk.content(&written.path).unwrap()
}

fn read_bytes(name: &str, bytes: Vec<u8>) -> Result<(TestState, SnapshotRead), SnapshotError> {
    let disk = MemDisk::default();
    disk.put(&at(name), bytes);
    let mut state = TestState::default();
    let read = read_snapshot(&disk, &at(name), &mut state)?;
    Ok((state, read))
}

fn damage(name: &str, bytes: Vec<u8>) -> (u64, String) {
    match read_bytes(name, bytes) {
        Err(SnapshotError::Damaged { file, offset, message }) => {
            assert!(file.contains(name), "{file}");
            (offset, message)
        }
        Err(SnapshotError::Limit { offset, len, max, .. }) => (offset, format!("{len} bytes, the limit is {max}")),
        other => panic!("expected damage, got {other:?}"),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
}

fn seal(bytes: &mut Vec<u8>) {
    let sum = adler32(&bytes.as_slice());
    put_i64(bytes, i64::from(sum));
    put_str(bytes, "/");
}

#[test]
fn the_virgin_tree_is_apaches_file_to_the_byte() {
    let zeros = "00".repeat(60);
    let golden = unhex(&format!(
        "5a4b534e 00000002 ffffffffffffffff 00000000 00000001 0000000000000001
         00000001 00000001 00000005 776f726c64 00000006 616e796f6e65
         00000000 00000000 ffffffffffffffff {zeros}
         0000000a 2f7a6f6f6b6565706572 00000000 ffffffffffffffff {zeros}
         00000011 2f7a6f6f6b65657065722f636f6e666967 00000000 0000000000000001
         {} 00000000 00000000 ffffffff 0000000000000000 0000000000000000
         00000010 2f7a6f6f6b65657065722f71756f7461 00000000 ffffffffffffffff {zeros}
         00000001 2f
         00000000b8a23b49 00000001 2f
         0000000000000000 00000002 0000000000000000 0000000095b93d59 00000001 2f
         0000000000000000 00000000bde83f6d 00000001 2f",
        "00".repeat(32)
    ));
    assert_eq!(golden.len(), 478);
    assert_eq!(bytes_of(&TestState::virgin(), Compression::Plain), golden);

    // As 3.9 writes it, as 3.6 does, and as 3.5 does.
    for (len, last_zxid) in [(478, Some(Zxid::ZERO)), (457, None), (424, None)] {
        let (state, read) = read_bytes("snapshot.0", golden[..len].to_vec()).unwrap();
        assert_eq!(state, TestState { digest: None, ..TestState::virgin() });
        assert_eq!((read.last_zxid, read.bytes, read.nodes), (last_zxid, len as u64, 4));
    }
}

#[test]
fn digests_that_are_off_leave_an_empty_trailer() {
    let state = TestState { digest: None, ..TestState::small(Zxid::new(1, 9)) };
    let bytes = bytes_of(&state, Compression::Plain);
    let trailer = bytes.len() - 21 - 33;
    assert_eq!(bytes[trailer..trailer + 20], unhex("0000000000000000 00000002 0000000000000000"));
    let (read_back, read) = read_bytes("snapshot.100000009", bytes).unwrap();
    assert_eq!(read_back, state);
    assert_eq!((read.digest, read.last_zxid), (None, Some(state.zxid)));
}

#[test]
fn what_was_written_is_read_back() {
    for compression in ALL {
        for state in [TestState::virgin(), TestState::small(Zxid::new(1, 9)), TestState::large()] {
            let disk = MemDisk::default();
            let mut paced = 0;
            let written = write_snapshot_paced(
                &disk,
                &state,
                &SnapshotOptions { compression, ..SnapshotOptions::default() },
                &mut |n| paced += n,
            )
            .unwrap();
            assert_eq!(written.path.name, format!("snapshot.{:x}{}", state.zxid.get(), compression.suffix()));
            assert_eq!((paced, written.zxid), (written.len, state.zxid));
            assert_eq!(disk.names(Dir::DataVersion), std::slice::from_ref(&written.path.name));

            let files = list_snapshots(&disk).unwrap();
            assert_eq!(files.len(), 1);
            assert!(files[0].regular && is_plausible(&disk, &files[0]).unwrap());
            let mut read_back = TestState::default();
            let read = read_snapshot(&disk, &files[0].path, &mut read_back).unwrap();
            assert_eq!(read.digest, state.snapshot_digest());
            assert_eq!(read_back, TestState { digest: read.digest.map(|d| d.digest), ..state.clone() });
            assert_eq!((read.seal, read.nodes, read.last_zxid), (written.seal, written.nodes, Some(state.zxid)));
            assert_eq!(verify_snapshot(&disk, &files[0].path, farrier_proto::limits::TXN_MAX).unwrap(), read);
        }
    }
}

#[test]
fn snappy_has_the_framing_of_javas_library() {
    let bytes = bytes_of(&TestState::virgin(), Compression::Snappy);
    assert_eq!(bytes[..16], unhex("82534e4150505900 00000001 00000001"));
    let block = u32::from_be_bytes(bytes[16..20].try_into().unwrap()) as usize;
    assert_eq!(bytes.len(), 20 + block);
    assert_eq!(snap::raw::decompress_len(&bytes[20..]).unwrap(), 478);
    let large = bytes_of(&TestState::large(), Compression::Snappy);
    assert_eq!(snap::raw::decompress_len(&large[20..]).unwrap(), 32 << 10);
}

#[test]
fn no_flipped_bit_changes_what_is_read() {
    let state = TestState::small(Zxid::new(1, 9));
    for compression in ALL {
        let name = snapshot_name(state.zxid, compression);
        let bytes = bytes_of(&state, compression);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // Bytes of a compressed stream's header may mean nothing.
            match read_bytes(&name, flipped) {
                Ok((read_back, _)) => {
                    assert_eq!(read_back, state, "{compression:?}, bit {bit}");
                    assert_ne!(compression, Compression::Plain, "bit {bit} was not noticed");
                }
                Err(SnapshotError::Damaged { offset, .. }) => assert!(offset <= 2_000),
                Err(SnapshotError::Limit { .. }) => {
                    // Whether a length is too long or merely wrong, the checksum tells.
                    let disk = MemDisk::default();
                    let mut flipped = bytes.clone();
                    flipped[bit / 8] ^= 1 << (bit % 8);
                    disk.put(&at(&name), flipped);
                    assert!(matches!(measure_snapshot(&disk, &at(&name)), Err(SnapshotError::Damaged { .. })));
                }
                Err(other) => panic!("{compression:?}, bit {bit}: {other}"),
            }
        }
    }
}

#[test]
fn a_cut_file_is_refused_but_for_missing_trailers() {
    let state = TestState::small(Zxid::new(1, 9));
    for compression in ALL {
        let name = snapshot_name(state.zxid, compression);
        let bytes = bytes_of(&state, compression);
        let mut accepted = Vec::new();
        for len in 0..bytes.len() {
            match read_bytes(&name, bytes[..len].to_vec()) {
                Ok((read_back, read)) => {
                    let digest = read.digest.map(|d| d.digest);
                    assert_eq!(read_back, TestState { digest, ..state.clone() }, "{compression:?} cut to {len}");
                    accepted.push(len);
                }
                Err(SnapshotError::Damaged { .. }) => {}
                Err(other) => panic!("{compression:?} cut to {len}: {other}"),
            }
        }
        match compression {
            // 3.5 wrote no trailers, 3.6 to 3.8 only the first.
            Compression::Plain => assert_eq!(accepted, [bytes.len() - 21 - 33, bytes.len() - 21]),
            Compression::Gz | Compression::Snappy => assert!(accepted.is_empty(), "{accepted:?}"),
        }
    }
}

#[test]
fn a_large_file_cut_anywhere_is_refused() {
    let state = TestState::large();
    for compression in ALL {
        let name = snapshot_name(state.zxid, compression);
        let bytes = bytes_of(&state, compression);
        for len in (0..bytes.len() - 100).step_by(bytes.len() / 50) {
            damage(&name, bytes[..len].to_vec());
        }
    }
}

#[test]
fn bytes_behind_the_trailers_are_ignored() {
    let state = TestState::small(Zxid::new(1, 9));
    let mut bytes = bytes_of(&state, Compression::Plain);
    bytes.extend_from_slice(b"a trailer of the future\0\0\0\x01/");
    assert_eq!(read_bytes("snapshot.100000009", bytes).unwrap().0, state);
}

#[test]
fn a_last_zxid_trailer_alone_is_no_digest() {
    let state = TestState::small(Zxid::new(1, 9));
    let mut bytes = bytes_of(&state, Compression::Plain);
    bytes.truncate(bytes.len() - 21 - 33);
    put_i64(&mut bytes, state.zxid.to_wire());
    seal(&mut bytes);
    let (read_back, read) = read_bytes("snapshot.100000009", bytes).unwrap();
    assert_eq!(read_back, TestState { digest: None, ..state.clone() });
    assert_eq!(read.last_zxid, Some(state.zxid));
}

#[test]
fn digests_of_other_versions_and_times() {
    let state = TestState::small(Zxid::new(1, 9));
    let whole = bytes_of(&state, Compression::Plain);
    let body = &whole[..whole.len() - 21 - 33];
    let with = |zxid: i64, version: i32, digest: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = body.to_vec();
        put_i64(&mut bytes, zxid);
        put_i32(&mut bytes, version);
        digest(&mut bytes);
        seal(&mut bytes);
        read_bytes("snapshot.100000009", bytes)
    };
    let number = |bytes: &mut Vec<u8>| put_i64(bytes, -2);
    let digest = |zxid, version, digest| Some(SnapshotDigest { zxid: Zxid::from_wire(zxid), version, digest });
    let later = 0x1_0000_000a;
    assert_eq!(with(later, 2, &number).unwrap().1.digest, digest(later, 2, u64::MAX - 1), "of a fuzzy snapshot");
    assert_eq!(with(0x1_0000_0008, 2, &number).unwrap().1.digest, None, "older than the snapshot");
    assert_eq!(with(later, 3, &number).unwrap().1.digest, digest(later, 3, u64::MAX - 1));
    assert_eq!(with(later, 1, &|b| put_str(b, "fF01")).unwrap().1.digest, digest(later, 1, 0xff01));
    assert_eq!(with(later, 1, &|b| put_buffer(b, None)).unwrap().1.digest, digest(later, 1, 0));
    for bad in ["", "xyz", "00000000000000001"] {
        assert!(with(later, 1, &|b| put_str(b, bad)).is_err(), "{bad:?}");
    }
}

/// Header, then what `rest` appends; the offset and words of the refusal.
fn refused(rest: impl Fn(&mut Vec<u8>)) -> (u64, String) {
    let mut bytes = unhex("5a4b534e 00000002 ffffffffffffffff");
    rest(&mut bytes);
    // Enough that no file just ends too soon.
    bytes.extend_from_slice(&[0; 100]);
    damage("snapshot.5", bytes)
}

#[test]
fn lengths_and_counts_are_not_believed() {
    let counts = |bytes: &mut Vec<u8>| bytes.extend_from_slice(&[0; 8]);
    let too_long = i32::try_from(farrier_proto::limits::TXN_MAX).unwrap() + 1;

    assert_eq!(refused(|b| put_i32(b, -1)), (16, "the number of sessions is -1".to_owned()));
    let many = refused(|b| put_i32(b, i32::MAX));
    assert!(many.1.starts_with("the file ends inside a session"), "{many:?}");

    for len in [-2, i32::MIN, too_long, i32::MAX] {
        let expected = |what: &str| match len {
            1.. => format!("{len} bytes, the limit is {}", too_long - 1),
            _ => format!("{what} has the length {len}, allowed are 0 to {}", too_long - 1),
        };
        let path = refused(|b| {
            counts(b);
            put_i32(b, len);
        });
        assert_eq!(path, (24, expected("a path")));
        let data = refused(|b| {
            counts(b);
            put_str(b, "/x");
            put_i32(b, len);
        });
        assert_eq!(data, (24, expected("a znode's data")));
        let scheme = refused(|b| {
            b.extend_from_slice(&unhex("00000000 00000001 0000000000000001 00000001 0000001f"));
            put_i32(b, len);
        });
        assert_eq!(scheme, (24, expected("an ACL list")));
    }
    let null_path = refused(|b| {
        counts(b);
        put_i32(b, -1);
    });
    assert_eq!(null_path.1, "a path is null");
    let bad_path = refused(|b| {
        counts(b);
        put_buffer(b, Some(b"/\xff"));
    });
    assert_eq!(bad_path.1, "a path is not UTF-8");
    let null_list = refused(|b| b.extend_from_slice(&unhex("00000000 00000001 0000000000000001 ffffffff")));
    assert_eq!(null_list.1, "an ACL list is null");

    // A list of many entries is bounded as a whole, whatever its count says.
    let entry = unhex("0000001f 00000004") // perms, scheme
        .into_iter()
        .chain(*b"aaaa")
        .chain([0; 4])
        .collect::<Vec<u8>>();
    let mut list = unhex("5a4b534e 00000002 ffffffffffffffff 00000000 00000001 0000000000000001 7fffffff");
    for _ in 0..too_long / 12 {
        list.extend_from_slice(&entry);
    }
    let (offset, message) = damage("snapshot.5", list);
    assert_eq!(offset, 24);
    assert!(message.ends_with("the limit is 2097150"), "{message}");
}

#[test]
fn a_raised_limit_is_obeyed() {
    let mut state = TestState::small(Zxid::new(1, 9));
    state.nodes[4].data = Some(vec![1; 2 * farrier_proto::limits::TXN_MAX]);
    let disk = MemDisk::default();
    let path = write_snapshot(&disk, &state, &SnapshotOptions::default()).unwrap().path;
    assert!(matches!(
        verify_snapshot(&disk, &path, farrier_proto::limits::TXN_MAX),
        Err(SnapshotError::Limit { len: 4_194_300, max: 2_097_150, .. })
    ));
    let measured = measure_snapshot(&disk, &path).unwrap();
    assert_eq!(measured.widest, 4_194_300);
    assert_eq!(measured, verify_snapshot(&disk, &path, 4_194_300).unwrap(), "the least limit that does");
    let mut read_back = TestState::default();
    read_snapshot_bounded(&disk, &path, 3 * farrier_proto::limits::TXN_MAX, &mut read_back).unwrap();
    assert_eq!(read_back, state);
}

#[test]
fn wrong_beginnings_are_named() {
    assert_eq!(
        damage("snapshot.5", b"ZKLG\0\0\0\x02".to_vec()).1,
        "the header begins with 0x5a4b4c47 instead of 0x5a4b534e"
    );
    assert_eq!(damage("snapshot.5", b"ZKSN\0\0\0\x03".to_vec()).1, "the format has version 3, known is 2");
    damage("snapshot.5.gz", b"ZKSN\0\0\0\x02".to_vec());
    damage("snapshot.5.snappy", b"ZKSN\0\0\0\x02ffffffffff".to_vec());
    damage("snapshot.5.snappy", unhex("82534e4150505900 00000001 00000001 7fffffff 00"));
    damage("snapshot.5.snappy", unhex("82534e4150505900 00000001 00000001 00000005 ffffffff7f"));
    damage("snapshot.x", Vec::new());
    let missing = read_snapshot(&MemDisk::default(), &at("snapshot.5"), &mut TestState::default());
    assert!(matches!(missing, Err(SnapshotError::Disk(e)) if e.kind == DiskErrorKind::NotFound));
}

#[test]
fn what_the_state_refuses_is_told_with_its_place() {
    let mut state = TestState::small(Zxid::new(1, 9));
    let node = TestNode { path: "/refuse".to_owned(), data: None, acl: -1, stat: NO_STAT };
    state.nodes.insert(0, node);
    let error = read_bytes("snapshot.100000009", bytes_of(&state, Compression::Plain)).unwrap_err();
    assert!(matches!(&error, SnapshotError::Refused { reason, .. } if reason.0 == "the parent is missing"));
    assert!(error.to_string().contains("snapshot.100000009"), "{error}");
}

#[test]
fn names() {
    for (name, zxid) in [
        ("snapshot.0", Some(0)),
        ("snapshot.1a", Some(26)),
        ("snapshot.1A.gz", Some(26)),
        ("snapshot.5.tmp", Some(5)),
        ("snapshot.5.bad.old", Some(5)),
        ("snapshot.7fffffffffffffff", Some(i64::MAX)),
        ("snapshot.8000000000000000", None),
        ("snapshot.-5", None),
        ("snapshot.+5", None),
        ("snapshot.", None),
        ("snapshot", None),
        ("snapshot.gz", None),
        ("snapshots.5", None),
        ("log.5", None),
        ("farrier.snapshot.5", None),
    ] {
        assert_eq!(zxid_of_name("snapshot", name), zxid.map(Zxid::from_wire), "{name}");
    }
}

#[test]
fn the_newest_comes_first_and_regular_names_before_others() {
    let disk = MemDisk::default();
    for name in ["snapshot.5.tmp", "snapshot.5", "snapshot.10", "snapshot.5.gz", "snapshot.05", "log.20", "myid"] {
        disk.put(&at(name), Vec::new());
    }
    let files = list_snapshots(&disk).unwrap();
    let names: Vec<_> = files.iter().map(|f| f.path.name.as_str()).collect();
    assert_eq!(names, ["snapshot.10", "snapshot.5", "snapshot.5.gz", "snapshot.05", "snapshot.5.tmp"]);
    assert!(files.iter().all(|f| f.regular != ["snapshot.05", "snapshot.5.tmp"].contains(&f.path.name.as_str())));
}

#[test]
fn the_quick_check_is_apaches() {
    let disk = MemDisk::default();
    for (name, content, plausible) in [
        ("snapshot.1", &b"00000\0\0\0\x01/"[..], true),
        ("snapshot.2", b"0000\0\0\0\x01/", false),
        ("snapshot.3", b"00000\0\0\0\x01/0", false),
        ("snapshot.4", b"", false),
        ("snapshot.5.gz", b"\x1f\x8b", true),
        ("snapshot.6.gz", b"00000\0\0\0\x01/", false),
        ("snapshot.7.snappy", b"\x82SNAPPY\0", true),
        ("snapshot.8.snappy", b"\x82SNAPPY", false),
        ("snapshot.9.tmp", b"00000\0\0\0\x01/", true),
    ] {
        disk.put(&at(name), content.to_vec());
        let file = list_snapshots(&disk).unwrap().into_iter().find(|f| f.path.name == name).unwrap();
        assert_eq!(is_plausible(&disk, &file).unwrap(), plausible, "{name}");
    }
}

#[test]
fn bytes_and_names_are_durable_in_this_order() {
    let disk = MemDisk::new(true);
    let written = write_snapshot_paced(&disk, &TestState::large(), &SnapshotOptions::default(), &mut |_| {}).unwrap();
    let ops = disk.ops();
    let (renamed, file) = ops
        .iter()
        .enumerate()
        .find_map(|(i, op)| match op {
            Op::Rename { file, to, .. } if *to == written.path => Some((i, *file)),
            _ => None,
        })
        .unwrap();
    let writes: Vec<_> =
        (0..ops.len()).filter(|i| matches!(&ops[*i], Op::Write { file: f, .. } if *f == file)).collect();
    assert_eq!(writes.len() as u64, written.len.div_ceil(256 << 10), "few and large writes");
    let synced = |pair: &[usize]| ops[pair[0]..pair[1]].contains(&Op::Sync { file });
    assert!(writes.windows(2).all(synced), "none has to write what others gathered");
    let last = *writes.last().unwrap();
    assert!(ops[last..renamed].contains(&Op::Sync { file }));
    assert!(ops[renamed..].contains(&Op::SyncDir { dir: Dir::DataVersion }));
    let own_dir = ops[last..renamed].contains(&Op::SyncDir { dir: Dir::Data });
    assert!(own_dir, "it is known as an own one before it has its name");
}

#[test]
fn a_failed_write_leaves_what_was_there() {
    let old = TestState::small(Zxid::new(1, 9));
    let new = TestState::small(Zxid::new(1, 20));
    for compression in ALL {
        let options = SnapshotOptions { compression, ..SnapshotOptions::default() };
        let disk = MemDisk::default();
        write_snapshot(&disk, &old, &options).unwrap();
        let before = disk.count();
        let whole = disk.fork();
        write_snapshot(&whole, &new, &options).unwrap();
        let steps = whole.count() - before;
        assert!(steps >= 8, "two files, two renames: {steps} steps");
        for n in 1..=steps {
            let disk = disk.fork();
            disk.fail_nth(n, DiskErrorKind::Full);
            assert_eq!(write_snapshot(&disk, &new, &options).unwrap_err().kind, DiskErrorKind::Full, "step {n}");
            disk.heal();
            let names = disk.names(Dir::DataVersion);
            assert!(!names.iter().any(|name| name.starts_with("farrier.")), "{names:?}");
            assert!(verify_snapshot(&disk, &at(&snapshot_name(old.zxid, compression)), 1 << 20).is_ok());
            write_snapshot(&disk, &new, &options).unwrap();
        }
    }
}

#[test]
fn a_crash_leaves_only_whole_snapshots_under_their_names() {
    let old = TestState::small(Zxid::new(1, 9));
    let new = TestState::small(Zxid::new(1, 20));
    let disk = MemDisk::default();
    write_snapshot(&disk, &old, &SnapshotOptions::default()).unwrap();
    let whole = disk.fork();
    write_snapshot(&whole, &new, &SnapshotOptions::default()).unwrap();
    let steps = whole.count() - disk.count();
    let mut seen = Vec::new();
    for n in 0..steps {
        for seed in 0..20_usize {
            let disk = disk.fork();
            disk.crash_after(n, 100);
            assert!(write_snapshot(&disk, &new, &SnapshotOptions::default()).is_err());
            let mut turn = seed;
            disk.restart(Crash::Power, &mut |n| {
                turn = turn.wrapping_mul(31).wrapping_add(7);
                turn / 3 % n
            });
            let files = list_snapshots(&disk).unwrap();
            for file in &files {
                verify_snapshot(&disk, &file.path, 1 << 20).unwrap();
            }
            assert_eq!(files.last().unwrap().zxid, old.zxid);
            seen.push(files.len());
            remove_temporaries(&disk).unwrap();
            assert!(!disk.names(Dir::DataVersion).iter().any(|name| name.starts_with("farrier.")));
        }
    }
    assert!(seen.contains(&1) && seen.contains(&2), "crashes before and after the rename");
    let unchanged = whole.fork();
    unchanged.restart(Crash::Power, &mut |_| 0);
    assert_eq!(list_snapshots(&unchanged).unwrap().len(), 2, "what returned is durable");
}

#[test]
fn a_name_without_a_readable_zxid_is_not_written() {
    let disk = MemDisk::default();
    let state = TestState::small(Zxid::from_wire(-1));
    assert!(write_snapshot(&disk, &state, &SnapshotOptions::default()).is_err());
    assert!(disk.names(Dir::DataVersion).is_empty());
}

#[test]
fn entries_are_written_as_fields_are() {
    // The reader checks the length of a list before it decodes it; both must agree on the layout.
    let acl = vec![Acl::world(31)];
    let mut bytes = Vec::new();
    acl.write(&mut bytes);
    assert_eq!(bytes.len(), 4 + 4 + 4 + 5 + 4 + 6);
}
