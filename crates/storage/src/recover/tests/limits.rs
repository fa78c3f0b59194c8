//! What is whole and does not go with the configuration.

use super::*;

#[test]
fn a_record_over_the_limit_is_no_torn_tail() {
    let disk = used(&[9]);
    let small = RecoverOptions { txn_max: 2000, ..RecoverOptions::default() };
    let before = disk.content(&log_file(1));
    let refusal = recover(&disk, &small, &mut Nodes::default()).unwrap_err();
    assert!(refusal.to_string().contains("jute.maxbuffer"), "{refusal}");
    assert_eq!(disk.content(&log_file(1)), before);
    without_mark(&disk);
    assert_eq!(recover(&disk, &small, &mut Nodes::default()).unwrap_err().kind, RefusalKind::Setup);
    check(&disk, 9, 9, "with the old limit");
}

#[test]
fn a_whole_snapshot_over_the_limit_is_no_damage() {
    for compression in [Compression::Plain, Compression::Gz, Compression::Snappy] {
        let disk = used(&[9]);
        let options = SnapshotOptions { compression, ..SnapshotOptions::default() };
        write_snapshot(&*disk, &Nodes::up_to(9), &options).unwrap();
        let small = RecoverOptions { txn_max: 2000, config_file: Some("/etc/zoo.cfg".into()), ..Default::default() };
        let refusal = recover(&disk, &small, &mut Nodes::default()).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Setup, "{refusal}");
        assert!(refusal.to_string().contains("jute.maxbuffer to at least 3000"), "{refusal}");
        assert!(!refusal.to_string().contains("repair"), "{refusal}");
        let refusal = crate::repair::accept_loss(&*disk, &small, &mut Nodes::default()).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Setup, "{refusal}");
        check(&disk, 9, 9, "nothing was moved");
        // One that is damaged besides is damage, and the log has the rest.
        let name = snapshot_name(zxid(9), compression);
        let path = DiskPath::new(Dir::DataVersion, name);
        let mut content = disk.content(&path).unwrap();
        let end = content.len() - 30;
        content[end] ^= 1;
        disk.put(&path, content);
        let refusal = recover(&disk, &small, &mut Nodes::default()).unwrap_err();
        assert!(refusal.file.is_some_and(|f| f.contains("log.")), "the snapshot was passed over");
    }
}

#[test]
fn a_whole_snapshot_that_the_state_refuses_is_no_damage() {
    #[derive(Default)]
    struct Picky(Nodes);
    impl Restore for Picky {
        fn reset(&mut self) {
            self.0.reset();
        }
        fn session(&mut self, id: farrier_proto::SessionId, timeout: i32) -> Result<(), crate::RestoreError> {
            self.0.session(id, timeout)
        }
        fn acl(&mut self, key: i64, acl: Vec<farrier_proto::Acl<'_>>) -> Result<(), crate::RestoreError> {
            self.0.acl(key, acl)
        }
        fn node(&mut self, node: crate::NodeRecord<'_>) -> Result<(), crate::RestoreError> {
            if node.path == "/n2" { Err(crate::RestoreError("an illegal owner".into())) } else { self.0.node(node) }
        }
        fn loaded(&mut self, zxid: Zxid, digest: Option<crate::SnapshotDigest>) -> Result<(), crate::RestoreError> {
            self.0.loaded(zxid, digest)
        }
        fn replay(&mut self, txn: &LoggedTxn<'_>) -> Result<(), crate::RestoreError> {
            self.0.replay(txn)
        }
    }
    let disk = used(&[5]);
    snapshot_of(&disk, 5);
    let names = disk.names(Dir::DataVersion);
    let options = RecoverOptions::default();
    let refusal = recover(&disk, &options, &mut Picky::default()).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Setup, "{refusal}");
    assert!(crate::repair::accept_loss(&*disk, &options, &mut Picky::default()).is_err());
    assert_eq!(disk.names(Dir::DataVersion), names);
}

#[test]
fn the_remedy_names_the_configuration() {
    let disk = used(&[3]);
    let mut log = disk.content(&log_file(1)).unwrap();
    log[40] ^= 1;
    disk.put(&log_file(1), log);
    let options = RecoverOptions { config_file: Some("/etc/zoo.cfg".into()), ..RecoverOptions::default() };
    let refusal = recover(&disk, &options, &mut Nodes::default()).unwrap_err();
    assert!(refusal.remedy.contains("`farrier repair /etc/zoo.cfg`"), "{refusal}");
    assert!(start(&disk).unwrap_err().remedy.contains("`farrier repair /data`"));
}
