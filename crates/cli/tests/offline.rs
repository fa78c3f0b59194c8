//! `farrier log` and `farrier snapshot` on files of Apache's and of our own.

use farrier_proto::stat::StatPersisted;
use farrier_proto::txn::{
    CheckVersionTxn, CreateContainerTxn, CreateTtlTxn, CreateTxn, SetAclTxn, SetDataTxn, write_txn,
};
use farrier_proto::{Acl, SessionId, Txn, TxnDigest, TxnHeader, TxnType, Zxid};
use farrier_storage::mem::MemDisk;
use farrier_storage::{Compression, Image, NodeRecord, SnapshotOptions, record, segment, write_snapshot};
use farrier_tree::digest::node_digest;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

mod support;

use support::Process;

/// Standard output, standard error, exit code.
fn farrier(arguments: &[&str]) -> (String, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
    let output = command.args(arguments).stdin(Stdio::null()).output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

/// The lines of a successful run, as JSON.
fn json_lines(arguments: &[&str]) -> Vec<Value> {
    let (stdout, stderr, code) = farrier(arguments);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}: {stdout}");
    stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("digits");
    digits.chunks(2).map(pair).collect()
}

/// A log of these transactions, as a server writes it.
fn log(txns: &[Vec<u8>]) -> Vec<u8> {
    let mut out = segment::header().to_vec();
    txns.iter().for_each(|txn| record::encode(&mut out, txn));
    out.resize(out.len() + 100, 0);
    out
}

fn name(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Transactions as Apache 3.8 wrote them into its log.
fn apache() -> Vec<Vec<u8>> {
    [
        "0200001505de0000 00000000 0000000100000001 000001a2044666f4 fffffff6 00002710 00000002 0000000051c6d660",
        "0200001505de0000 00000001 0000000100000002 000001a204466704 00000001 00000002 2f61 00000005 68656c6c6f \
         00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00 00000001 00000002 000000021cd793a4",
        "0100001505c50000 00000003 0000000100000003 000001a204466739 ffffffff ffffff9b",
        "0100001505c50000 00000004 0000000100000004 000001a20446674b fffffff5 00000001 00000002 2f62 \
         00000002 000000016a707d73",
        "0300001508e70000 00000001 0000000100000005 000001a2044669cc 00000005 00000002 2f61 00000002 7732 00000001 \
         00000002 000000013fb8d8ee",
    ]
    .iter()
    .map(|text| unhex(text))
    .collect()
}

#[test]
fn apaches_log_is_shown() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("log.100000001");
    fs::write(&file, log(&apache())).expect("written");
    let file = name(&file);
    let (stdout, stderr, code) = farrier(&["log", "dump", file, "--data"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let expected = format!(
        "{file}
  0x100000001  2026-11-28T05:03:17.364Z  session 0x200001505de0000 cxid 0  createSession timeout 10000 ms  [48 bytes at 16, digest 0x51c6d660]
  0x100000002  2026-11-28T05:03:17.380Z  session 0x200001505de0000 cxid 1  create /a: 5 bytes \"hello\", acl world:anyone:cdrwa, parent cversion 1  [91 bytes at 77, digest 0x21cd793a4]
  0x100000003  2026-11-28T05:03:17.433Z  session 0x100001505c50000 cxid 3  error NoNode (-101)  [36 bytes at 181]
  0x100000004  2026-11-28T05:03:17.451Z  session 0x100001505c50000 cxid 4  closeSession and /b  [54 bytes at 230, digest 0x16a707d73]
  0x100000005  2026-11-28T05:03:18.092Z  session 0x300001508e70000 cxid 1  setData /a: 2 bytes \"w2\", version 1  [60 bytes at 297, digest 0x13fb8d8ee]
"
    );
    let without_dates = |text: &str| -> String {
        text.lines()
            .map(|l| l.split("  ").filter(|w| !w.ends_with('Z')).collect::<Vec<_>>().join("  ") + "\n")
            .collect()
    };
    assert_eq!(without_dates(&stdout), without_dates(&expected));

    let lines = json_lines(&["log", "dump", file, "--json", "--from", "0x100000002", "--to", "1:2"]);
    assert_eq!(
        lines,
        [json!({
            "file": file, "offset": 77, "length": 91, "zxid": "0x100000002", "time": 0x1a2_0446_6704_u64,
            "session": "0x200001505de0000", "cxid": 1, "type": "create", "path": "/a", "dataLength": 5,
            "acl": [{"scheme": "world", "id": "anyone", "perms": "cdrwa"}], "ephemeral": false,
            "parentCversion": 1, "digest": "0x21cd793a4", "digestVersion": 2,
        })]
    );
    let (stdout, _, code) = farrier(&["log", "verify", file]);
    assert_eq!(code, Some(0), "{stdout}");
    assert!(stdout.ends_with("1 file, 5 records, 0x100000001 to 0x100000005: sound\n"), "{stdout}");
}

/// Every type of transaction, in the form for people.
#[test]
fn every_type_is_decoded() {
    let acl = || vec![Acl::world(31), Acl { perms: 1, scheme: "digest".into(), id: "u:h".into() }];
    let create = |ephemeral| CreateTxn { path: "/a".into(), data: None, acl: acl(), ephemeral, parent_cversion: 1 };
    let set = |path: &'static str| SetDataTxn { path: path.into(), data: Some(b"\x1b\xffx"[..].into()), version: 3 };
    let container =
        || CreateContainerTxn { path: "/c".into(), data: Some([][..].into()), acl: acl(), parent_cversion: 2 };
    let ttl = || CreateTtlTxn { path: "/t".into(), data: None, acl: acl(), parent_cversion: 2, ttl: 5000 };
    let check = || CheckVersionTxn { path: "/a".into(), version: -1 };
    let all: Vec<(Txn<'_>, &str)> = vec![
        (Txn::CreateSession(10_000), "createSession timeout 10000 ms"),
        (Txn::Create(create(false)), "create /a: no data, acl world:anyone:cdrwa,digest:u:h:r, parent cversion 1"),
        (
            Txn::Create2(create(true)),
            "create2 /a: no data, acl world:anyone:cdrwa,digest:u:h:r, ephemeral, parent cversion 1",
        ),
        (
            Txn::CreateContainer(container()),
            "createContainer /c: 0 bytes, acl world:anyone:cdrwa,digest:u:h:r, parent cversion 2",
        ),
        (
            Txn::CreateTtl(ttl()),
            "createTTL /t: no data, acl world:anyone:cdrwa,digest:u:h:r, ttl 5000 ms, parent cversion 2",
        ),
        (Txn::Delete("/d\n".into()), "delete /d\\n"),
        (Txn::DeleteContainer("/c".into()), "deleteContainer /c"),
        (Txn::SetData(set("/a")), "setData /a: 3 bytes, version 3"),
        (Txn::Reconfig(set("/zookeeper/config")), "reconfig /zookeeper/config: 3 bytes, version 3"),
        (
            Txn::SetAcl(SetAclTxn { path: "/a".into(), acl: acl(), version: 1 }),
            "setACL /a: acl world:anyone:cdrwa,digest:u:h:r, aversion 1",
        ),
        (Txn::Error(-110), "error NodeExists (-110)"),
        (Txn::Error(-999), "error -999"),
        (
            Txn::Multi(vec![Txn::Check(check()), Txn::SetData(set("/a")), Txn::Error(-2)]),
            "multi of 3\n      check /a: version -1\n      setData /a: 3 bytes, version 3\n      error RuntimeInconsistency (-2)",
        ),
        (Txn::CloseSession(Some(vec!["/a".into(), "/b".into()])), "closeSession and /a /b"),
        (Txn::CloseSession(Some(vec![])), "closeSession without ephemerals"),
        (Txn::CloseSession(None), "closeSession and its ephemerals"),
    ];
    let seen: Vec<TxnType> = all.iter().map(|(txn, _)| txn.kind()).collect();
    assert!((-20..30).filter_map(TxnType::from_code).all(|kind| kind == TxnType::Check || seen.contains(&kind)));
    let txns: Vec<Vec<u8>> = (1..)
        .zip(&all)
        .map(|(counter, (txn, _))| {
            let session = SessionId(if counter == 1 { 0 } else { 0x10 });
            let kind = txn.kind().code();
            let header = TxnHeader { session, cxid: 5, zxid: Zxid::new(2, counter), time: 1, kind };
            let mut out = Vec::new();
            let digest = (!matches!(txn, Txn::Error(_))).then(|| TxnDigest::new(9));
            write_txn(&mut out, &header, txn, digest);
            out
        })
        .collect();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("log.200000001");
    fs::write(&file, log(&txns)).expect("written");
    let (stdout, stderr, code) = farrier(&["log", "dump", name(&file)]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("  server cxid 5  createSession"), "{stdout}");
    for (_, text) in &all {
        let (first, rest) = text.split_once('\n').map_or((*text, ""), |(first, rest)| (first, rest));
        let at = stdout.find(&format!("  {first}  [")).unwrap_or_else(|| panic!("{first} is not in {stdout}"));
        let line_end = at + stdout[at..].find('\n').expect("a line");
        assert!(stdout[line_end + 1..].starts_with(rest), "{text} is not in {stdout}");
    }
    let (with_data, _, _) = farrier(&["log", "dump", name(&file), "--data"]);
    assert!(with_data.contains("setData /a: 3 bytes \"\\u{1b}\\xffx\", version 3"), "{with_data}");
    let lines = json_lines(&["log", "dump", name(&file), "--data", "--json"]);
    assert_eq!(lines.len(), all.len());
    let multi = lines.iter().find(|line| line["type"] == "multi").expect("it is there");
    assert_eq!(
        multi["operations"],
        json!([
            {"type": "check", "path": "/a", "version": -1},
            {"type": "setData", "path": "/a", "dataLength": 3, "data": "G/94", "version": 3},
            {"type": "error", "err": -2, "error": "RuntimeInconsistency"},
        ])
    );
    assert_eq!(lines[15]["paths"], Value::Null);
    assert_eq!(farrier(&["log", "verify", name(&file)]).2, Some(0));
}

#[test]
fn damage_has_a_place_and_an_exit_code() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("log.100000001");
    let verify = |content: &[u8]| {
        fs::write(&file, content).expect("written");
        farrier(&["log", "verify", name(&file)])
    };
    let whole = log(&apache());
    let mut flipped = whole.clone();
    flipped[100] ^= 1;
    let (stdout, _, code) = verify(&flipped);
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("damage: ") && stdout.contains("log.100000001, offset 77: the record's checksum is"));
    assert!(stdout.contains("another one follows at offset 181") && stdout.ends_with(": damaged\n"), "{stdout}");
    let dump = farrier(&["log", "dump", name(&file)]);
    // All but the bad one.
    assert_eq!((dump.0.lines().count(), dump.2), (apache().len(), Some(1)), "{}", dump.0);
    let told = "offset 77: the record of zxid 0x100000002 is bad; the next one, at offset 181, is whole";
    assert!(dump.1.contains(told), "{}", dump.1);
    // Where its length is bad nothing tells where the next one begins.
    let mut length = whole.clone();
    length[77 + 11] ^= 1;
    verify(&length);
    let dump = farrier(&["log", "dump", name(&file)]);
    assert_eq!((dump.0.lines().count(), dump.2), (2, Some(1)), "{}", dump.0);
    assert!(dump.1.contains("offset 77: no good record"), "{}", dump.1);

    let (stdout, _, code) = verify(&whole[..120]);
    assert_eq!(code, Some(0), "{stdout}");
    assert!(stdout.contains("torn end: ") && stdout.contains("offset 77: the file ends here"), "{stdout}");
    let lines = json_lines(&["log", "verify", name(&file), "--json"]);
    assert_eq!((lines[1]["severity"].as_str(), lines[1]["offset"].as_u64()), (Some("torn"), Some(77)));
    assert_eq!((lines[0]["kind"].as_str(), lines[0]["used"].as_u64()), (Some("file"), Some(77)));

    fs::write(&file, unhex("5a4b534e00000002ffffffffffffffff")).expect("written");
    let (_, stderr, code) = farrier(&["log", "dump", name(&file)]);
    assert!(code == Some(1) && stderr.contains("this is a snapshot"), "{stderr}");
    fs::write(&file, "# Notes\n\nand more of them\n").expect("written");
    let (stdout, stderr, code) = farrier(&["log", "dump", name(&file)]);
    assert!(code == Some(1) && stdout.is_empty(), "{stdout}{stderr}");
    assert!(stderr.starts_with("farrier log dump: error: ") && stderr.contains(": this is no log: "), "{stderr}");
    fs::write(&file, "").expect("written");
    let (stdout, stderr, code) = farrier(&["log", "dump", name(&file)]);
    assert_eq!((code, stdout.as_str()), (Some(0), ""));
    assert_eq!(stderr, format!("farrier log dump: {}: the file is empty\n", name(&file)));

    // What has another name is no damaged snapshot.
    let readme = dir.path().join("README.md");
    fs::write(&readme, "# Notes\n").expect("written");
    for verb in ["dump", "verify"] {
        let (stdout, stderr, code) = farrier(&["snapshot", verb, name(&readme)]);
        assert!(code == Some(2) && stdout.is_empty(), "{stdout}{stderr}");
        assert!(stderr.contains("README.md: not the name of a snapshot; expected snapshot.ZXID"), "{stderr}");
        let (_, stderr, code) = farrier(&["snapshot", verb, name(&file)]);
        assert!(code == Some(2) && stderr.contains("; this is a log: try `farrier log`"), "{stderr}");
    }

    for wrong in [&["log", "dump", "/nonexistent"][..], &["log", "verify"], &["snapshot", "dump", "/nonexistent"]] {
        let (_, stderr, code) = farrier(wrong);
        assert_eq!(code, Some(2), "{wrong:?}: {stderr}");
    }
    let (_, stderr, code) = farrier(&["snapshot", "verify", name(dir.path())]);
    assert!(code == Some(2) && stderr.contains("there is no snapshot.*"), "{stderr}");
    let (_, stderr, code) = farrier(&["log", "dump", name(&file), "--from", "12"]);
    assert!(code == Some(2) && stderr.contains("0x100000002"), "{stderr}");
}

/// A shell names all that is in a directory.
#[test]
fn snapshots_are_verified_beside_files_of_other_names() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut server = Process::new(dir.path(), &[]);
    server.start();
    server.kill();
    let version_2 = server.data().join("version-2");
    fs::write(version_2.join("acceptedEpoch"), "0").expect("written");
    let mut files: Vec<_> = version_2.read_dir().expect("there").map(|e| e.expect("read").path()).collect();
    files.sort();
    let names: Vec<&str> = files.iter().map(|file| name(file)).collect();
    let (stdout, stderr, code) = farrier(&[&["snapshot", "verify"], &names[..]].concat());
    assert_eq!(code, Some(2), "{stdout}{stderr}");
    assert!(stdout.contains("snapshot.0: ") && stdout.contains("sound"), "{stdout}{stderr}");
    let wrong = files.iter().filter(|f| !f.ends_with("snapshot.0")).count();
    assert!(wrong > 0 && stderr.matches(": not the name of a snapshot").count() == wrong, "{stderr}");
    // Damage is told by the code before a wrong name is.
    fs::write(version_2.join("snapshot.5"), "damaged").expect("written");
    let damaged = version_2.join("snapshot.5");
    let (stdout, stderr, code) = farrier(&[&["snapshot", "verify", name(&damaged)], &names[..]].concat());
    assert_eq!(code, Some(1), "{stdout}{stderr}");
}

/// Who names several directories hears of each.
#[test]
fn a_sound_directory_is_verified_beside_one_that_holds_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut server = Process::new(dir.path(), &[]);
    server.start();
    server.client().create("/a", b"one").and_then(farrier_testkit::raw::Reply::ok).expect("created");
    server.kill();
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).expect("made");
    let (sound, nowhere) = (server.data(), dir.path().join("nowhere"));
    for verb in ["log", "snapshot"] {
        let (stdout, stderr, code) = farrier(&[verb, "verify", name(&empty), name(&sound), name(&nowhere)]);
        assert_eq!(code, Some(2), "{stdout}{stderr}");
        assert!(stdout.contains(name(&sound)) && stdout.contains("sound"), "{stdout}{stderr}");
        assert!(stderr.contains(&format!("empty: there is no {verb}.* here")), "{stderr}");
        assert!(stderr.contains("nowhere: No such file"), "{stderr}");
    }
}

/// As `farrier init` makes one: zoo.cfg, and the data below it.
#[test]
fn a_directory_with_a_zoo_cfg_names_its_files() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let (dir, logs) = (temp.path().join("farrier"), temp.path().join("logs"));
    for made in [dir.join("data/version-2"), logs.join("version-2")] {
        fs::create_dir_all(made).expect("made");
    }
    fs::write(logs.join("version-2/log.100000001"), log(&apache())).expect("written");
    let text = format!("dataDir={}\ndataLogDir={}\nclientPort=2181\n", dir.join("data").display(), logs.display());
    fs::write(dir.join("zoo.cfg"), text).expect("written");
    for what in [&dir, &logs] {
        let (stdout, stderr, code) = farrier(&["log", "verify", name(what)]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    }
    let (_, stderr, code) = farrier(&["snapshot", "verify", name(&dir)]);
    let expected = format!("{}: there is no snapshot.* here", dir.join("data/version-2").display());
    assert!(code == Some(2) && stderr.contains(&expected), "{stderr}");
    let (_, stderr, code) = farrier(&["repair", name(&dir)]);
    assert!(code == Some(2) && stderr.contains("try ") && stderr.contains("farrier/zoo.cfg"), "{stderr}");
}

/// What a server of ours leaves behind, as logs and as a snapshot.
#[test]
fn a_servers_directory_is_sound() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut server = Process::new(dir.path(), &[]);
    server.start();
    let mut client = server.client();
    client.create("/a", b"one").and_then(farrier_testkit::raw::Reply::ok).expect("created");
    client.set("/a", b"two", 0).and_then(farrier_testkit::raw::Reply::ok).expect("set");
    client.delete("/none", -1).expect("answered");
    // kill -9 in the middle of life: the mark is behind the log.
    server.kill();
    let data = server.data();
    let lines = json_lines(&["log", "dump", name(&data), "--json", "--data"]);
    let types: Vec<&str> = lines.iter().filter_map(|l| l["type"].as_str()).collect();
    assert_eq!(types, ["createSession", "create", "setData", "error"]);
    assert_eq!((lines[2]["data"].as_str(), lines[2]["version"].as_i64()), (Some("dHdv"), Some(1)));
    let (stdout, _, code) = farrier(&["log", "verify", name(&data)]);
    assert_eq!(code, Some(0), "{stdout}");
    server.start();
    server.client();
    server.signal(Signal::TERM);
    server.wait_end();
    let (stdout, _, code) = farrier(&["log", "verify", name(&data.join("version-2"))]);
    assert!(code == Some(0) && stdout.ends_with(": sound\n"), "{stdout}");
    assert!(stdout.contains("2 files"), "{stdout}");
    let first = data.join("version-2/log.1");
    let kept = fs::read(&first).expect("a log");
    // Of two logs the second one alone is sound, and the first one is missed by the mark's snapshot alone.
    let last = lines.last().and_then(|l| l["offset"].as_u64()).expect("an offset");
    let mut cut = kept.clone();
    cut.truncate(usize::try_from(last).expect("small"));
    fs::write(&first, &cut).expect("written");
    let (stdout, _, code) = farrier(&["log", "verify", name(&data)]);
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("expected the one that follows zxid 0x3"), "{stdout}");
    fs::write(&first, &kept).expect("written");
    let (stdout, _, code) = farrier(&["snapshot", "verify", name(&data)]);
    assert!(code == Some(0) && stdout.ends_with(": sound\n"), "{stdout}");

    // An orderly stop leaves the mark at the very end; a record lost below it is damage and no torn end.
    let newest = newest_log(&data.join("version-2"));
    let bytes = fs::read(&newest).expect("a log");
    let records = json_lines(&["log", "dump", name(&newest), "--json"]);
    let last = records.last().and_then(|l| l["offset"].as_u64()).expect("an offset");
    fs::write(&newest, &bytes[..usize::try_from(last).expect("small") + 20]).expect("written");
    let (stdout, _, code) = farrier(&["log", "verify", name(&data)]);
    assert!(code == Some(1) && stdout.contains("acknowledged and synced"), "{stdout}");
}

fn newest_log(dir: &Path) -> PathBuf {
    let names = fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry").path());
    let zxid = |path: &PathBuf| u64::from_str_radix(path.to_str()?.rsplit_once("log.")?.1, 16).ok();
    names.filter(|path| zxid(path).is_some()).max_by_key(zxid).expect("a log")
}

/// A small tree.
struct Tree;

impl Tree {
    fn nodes() -> Vec<(&'static str, Option<&'static [u8]>, i64, StatPersisted)> {
        let stat = StatPersisted { czxid: Zxid::new(1, 2), ctime: 1000, version: 3, ..StatPersisted::ZERO };
        let owned = StatPersisted { ephemeral_owner: 0x1_0000, ..stat };
        let root = StatPersisted::ZERO;
        vec![("", None, -1, root), ("/a", Some(b"data"), 1, stat), ("/a/b", Some(b""), 1, owned)]
    }
}

impl Image for Tree {
    fn zxid(&self) -> Zxid {
        Zxid::new(1, 7)
    }
    fn digest(&self) -> Option<u64> {
        Some(Self::nodes().iter().map(|(path, data, _, stat)| u64::from(node_digest(path, *data, stat))).sum())
    }
    fn sessions(&self) -> Vec<(SessionId, i32)> {
        vec![(SessionId(0x1_0000), 30_000)]
    }
    fn acls(&self) -> Vec<(i64, Vec<Acl<'static>>)> {
        vec![(1, vec![Acl::world(31)])]
    }
    fn nodes<E>(&self, visit: &mut dyn FnMut(NodeRecord<'_>) -> Result<(), E>) -> Result<(), E> {
        Self::nodes().into_iter().try_for_each(|(path, data, acl, stat)| visit(NodeRecord { path, data, acl, stat }))
    }
}

#[test]
fn snapshots_of_every_compression_are_shown_and_verified() {
    for compression in [Compression::Plain, Compression::Gz, Compression::Snappy] {
        let disk = MemDisk::default();
        let options = SnapshotOptions { compression, ..SnapshotOptions::default() };
        let written = write_snapshot(&disk, &Tree, &options).expect("written");
        let content = disk.content(&written.path).expect("it is there");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join(&written.path.name);
        fs::write(&file, &content).expect("written");
        let file = name(&file);
        let (stdout, stderr, code) = farrier(&["snapshot", "dump", file, "--data"]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        let digest = Tree.digest().expect("a sum");
        let rest = "acl 1, version 3, cversion 0, aversion 0, czxid 0x100000002, mzxid 0x0, pzxid 0x0, \
                    ctime 1970-01-01T00:00:01.000Z, mtime 1970-01-01T00:00:00.000Z";
        let expected = [
            file.to_owned(),
            "  session 0x10000 timeout 30000 ms".to_owned(),
            "  acl 1 world:anyone:cdrwa".to_owned(),
            "  /: no data, persistent, acl -1, version 0, cversion 0, aversion 0, czxid 0x0, mzxid 0x0, pzxid 0x0, \
             ctime 1970-01-01T00:00:00.000Z, mtime 1970-01-01T00:00:00.000Z"
                .to_owned(),
            format!("  /a: 4 bytes \"data\", persistent, {rest}"),
            format!("  /a/b: 0 bytes \"\", ephemeral of 0x10000, {rest}"),
            format!("  3 znodes, 1 session, 1 ACL list, digest {digest:#x} of zxid 0x100000007"),
        ];
        assert_eq!(stdout.lines().collect::<Vec<_>>(), expected);
        let lines = json_lines(&["snapshot", "dump", file, "--json"]);
        let kinds: Vec<&str> = lines.iter().filter_map(|l| l["kind"].as_str()).collect();
        assert_eq!(kinds, ["session", "acl", "znode", "znode", "znode", "end"]);
        assert_eq!((lines[3]["path"].as_str(), lines[3]["dataLength"].as_u64()), (Some("/a"), Some(4)));
        assert_eq!(lines[5]["digest"].as_str(), Some(format!("{digest:#x}").as_str()));

        let (stdout, _, code) = farrier(&["snapshot", "verify", file]);
        assert!(code == Some(0) && stdout.ends_with("1 file, 3 znodes: sound\n"), "{stdout}");
        // No truncation and no flip of a bit goes unnoticed; gzip and snappy have bytes of no meaning, so
        // plain files are tried at every place, the others where their content is.
        let tried: Vec<usize> = match compression {
            Compression::Plain => (0..content.len()).step_by(13).collect(),
            Compression::Gz | Compression::Snappy => vec![content.len() / 2],
        };
        for at in tried.into_iter().filter(|at| compression != Compression::Plain || !(8..16).contains(at)) {
            let mut bad = content.clone();
            bad[at] ^= 4;
            fs::write(file, &bad).expect("written");
            let (stdout, _, code) = farrier(&["snapshot", "verify", file]);
            assert_eq!(code, Some(1), "byte {at} of {compression:?}: {stdout}");
            assert!(stdout.contains("damage: ") && stdout.contains(&written.path.name), "{stdout}");
        }
        fs::write(file, &content[..content.len() / 2]).expect("written");
        let (_, stderr, code) = farrier(&["snapshot", "dump", file]);
        assert!(code == Some(1) && stderr.contains("is damaged or incomplete"), "{stderr}");
    }
}

/// The tree's digest is compared: a file whose checksums are right and whose trailer is not is damaged.
#[test]
fn a_digest_of_another_tree_is_damage() {
    struct Wrong;
    impl Image for Wrong {
        fn zxid(&self) -> Zxid {
            Tree.zxid()
        }
        fn digest(&self) -> Option<u64> {
            Some(1)
        }
        fn sessions(&self) -> Vec<(SessionId, i32)> {
            Tree.sessions()
        }
        fn acls(&self) -> Vec<(i64, Vec<Acl<'static>>)> {
            Tree.acls()
        }
        fn nodes<E>(&self, visit: &mut dyn FnMut(NodeRecord<'_>) -> Result<(), E>) -> Result<(), E> {
            Image::nodes(&Tree, visit)
        }
    }
    let disk = MemDisk::default();
    let written = write_snapshot(&disk, &Wrong, &SnapshotOptions::default()).expect("written");
    let dir = tempfile::tempdir().expect("a temporary directory");
    // Moved aside, as repair does.
    let file = dir.path().join(format!("farrier.damaged.3.{}", written.path.name));
    fs::write(&file, disk.content(&written.path).expect("it is there")).expect("written");
    let (stdout, _, code) = farrier(&["snapshot", "verify", name(&file)]);
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("; expected 0x1, as the file says"), "{stdout}");
}

/// Apache before 3.9.4 could write snapshots that lack the list of a znode. The log may have it.
#[test]
fn znodes_without_acl_are_named() {
    struct Lacking;
    impl Image for Lacking {
        fn zxid(&self) -> Zxid {
            Tree.zxid()
        }
        fn digest(&self) -> Option<u64> {
            Image::digest(&Tree)
        }
        fn sessions(&self) -> Vec<(SessionId, i32)> {
            Tree.sessions()
        }
        fn acls(&self) -> Vec<(i64, Vec<Acl<'static>>)> {
            Vec::new()
        }
        fn nodes<E>(&self, visit: &mut dyn FnMut(NodeRecord<'_>) -> Result<(), E>) -> Result<(), E> {
            Image::nodes(&Tree, visit)
        }
    }
    let disk = MemDisk::default();
    let written = write_snapshot(&disk, &Lacking, &SnapshotOptions::default()).expect("written");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join(&written.path.name);
    fs::write(&file, disk.content(&written.path).expect("it is there")).expect("written");
    let (stdout, _, code) = farrier(&["snapshot", "verify", name(&file)]);
    assert_eq!(code, Some(0), "{stdout}");
    assert!(stdout.starts_with("note: ") && stdout.contains(": 2 znodes without their ACL: /a, /a/b; "), "{stdout}");
    assert!(stdout.ends_with("1 file, 3 znodes: sound\n"), "{stdout}");
}

#[test]
fn apaches_first_snapshot_is_sound() {
    let zeros = "00".repeat(60);
    let acl = "00000001 00000001 00000005 776f726c64 00000006 616e796f6e65";
    let body = format!(
        "5a4b534e 00000002 ffffffffffffffff 00000000 00000001 0000000000000001 {acl} \
         00000000 00000000 ffffffffffffffff {zeros} \
         0000000a 2f7a6f6f6b6565706572 00000000 ffffffffffffffff {zeros} \
         00000011 2f7a6f6f6b65657065722f636f6e666967 00000000 0000000000000001 {} 00000000 00000000 ffffffff {} \
         00000010 2f7a6f6f6b65657065722f71756f7461 00000000 ffffffffffffffff {zeros} 00000001 2f \
         00000000b8a23b49 00000001 2f 0000000000000000 00000002 0000000000000000 0000000095b93d59 00000001 2f",
        "00".repeat(32),
        "00".repeat(16),
    );
    let bytes = unhex(&body);
    assert_eq!(bytes.len(), 457);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("snapshot.0");
    fs::write(&file, bytes).expect("written");
    let (stdout, _, code) = farrier(&["snapshot", "verify", name(dir.path())]);
    assert_eq!(code, Some(0), "{stdout}");
    assert!(stdout.contains("4 znodes, 0 sessions, 1 ACL list, no digest"), "{stdout}");
    let lines = json_lines(&["snapshot", "dump", name(&file), "--json"]);
    let paths: Vec<&str> = lines.iter().filter_map(|l| l["path"].as_str()).collect();
    assert_eq!(paths, ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"]);
}

/// A reader that has seen enough is no failure to complain of.
#[test]
fn a_closed_pipe_ends_it_in_silence() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("log.1");
    let txn = |z| {
        let header = TxnHeader { session: SessionId(1), cxid: 1, zxid: Zxid::new(0, z), time: 0, kind: 2 };
        let mut out = Vec::new();
        write_txn(&mut out, &header, &Txn::Delete("/a".into()), None);
        out
    };
    fs::write(&file, log(&(1..20_000).map(txn).collect::<Vec<_>>())).expect("written");
    let mut child = Command::new(env!("CARGO_BIN_EXE_farrier"))
        .args(["log", "dump", name(&file)])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("a line");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(141), &b""[..]));
}
