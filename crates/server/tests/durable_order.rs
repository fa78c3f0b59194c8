//! The order of durable steps, without a socket: a replica and the log's writer over a disk in memory
//! that records every operation. Each reply to a write is noted among them where it is emitted, and
//! must stand behind a completed sync after its record's last byte. A writer without its syncs is found
//! out by the same judge.

use farrier_proto::client::{ConnectRequest, CreateRequest, ReplyHeader, RequestHeader};
use farrier_proto::{Field as _, OpCode, RawAcl, Reader, SessionId, Xid, Zxid, jute};
use farrier_replica::{Action, Actions, ConnId, Input, Replica, ReplicaConfig, Time, TreeRestore, WriteId};
use farrier_storage::mem::{MemDisk, Op};
use farrier_storage::{
    Image as _, LogOptions, LogWriter, RecoverOptions, SnapshotOptions, recover, remove_initialize, write_snapshot,
};
use farrier_tree::TreeConfig;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

const TREE: TreeConfig =
    TreeConfig { extended_types: false, ttl_353: false, digest: true, list_closed: true, enforce_quota: false };

fn config() -> ReplicaConfig {
    ReplicaConfig { snap_count: 60, tree: TREE, seed: 1, ..ReplicaConfig::default() }
}

/// What must stand in the log before a reply: bytes of the record, and where the reply is noted.
struct Claim {
    record: Vec<u8>,
    note: u64,
}

struct Rig {
    disk: Arc<MemDisk>,
    replica: Replica,
    writer: LogWriter<MemDisk>,
    out: Actions,
    /// Appended and not yet committed.
    waiting: Option<WriteId>,
    /// By zxid: header and body of what was appended.
    records: Vec<(Zxid, Vec<u8>)>,
    claims: Vec<Claim>,
    opened: bool,
    snapshots: usize,
}

const NOW: Time = Time { mono: 1, wall: 1_700_000_000_000 };
const CONN: ConnId = ConnId(1);

impl Rig {
    fn new(force_sync: bool) -> Self {
        let disk = Arc::new(MemDisk::default());
        let mut state = TreeRestore::new(TREE, 0);
        let recovered = recover(&disk, &RecoverOptions::default(), &mut state).expect("an empty disk is fine");
        write_snapshot(&*disk, &state.image(), &SnapshotOptions::default()).expect("a healthy disk");
        remove_initialize(&*disk).expect("a healthy disk");
        let options = LogOptions { segment_size: 4000, size_limit: 0, force_sync };
        let writer = LogWriter::open(Arc::clone(&disk), &recovered, options);
        let replica = Replica::standalone(config(), state, recovered.last_zxid, recovered.replayed, NOW);
        let (records, claims) = (Vec::new(), Vec::new());
        Self {
            disk,
            replica,
            writer,
            out: Actions::default(),
            waiting: None,
            records,
            claims,
            opened: false,
            snapshots: 0,
        }
    }

    fn step(&mut self, input: Input<'_>) {
        self.replica.step(NOW, input, &mut self.out);
        let mut snapshots = 0;
        for action in std::mem::take(&mut self.out.list) {
            match action {
                Action::Append { id, zxid, txn } => {
                    self.writer.append(zxid, &txn);
                    self.records.push((zxid, txn.to_vec()));
                    self.waiting = Some(id);
                }
                Action::RollLog => self.writer.roll(),
                Action::TakeSnapshot { image } => {
                    // A snapshot ahead of the log would be a state that a crash has no way to.
                    assert!(image.zxid() <= self.writer.durable(), "the log is durable up to the snapshot");
                    self.snapshots += 1;
                    self.writer.settle().expect("a healthy disk");
                    write_snapshot(&*self.disk, &*image, &SnapshotOptions::default()).expect("a healthy disk");
                    snapshots += 1;
                }
                Action::Send { start, end, .. } => {
                    let frames = self.out.bytes[start..end].to_vec();
                    self.sent(&frames);
                }
                Action::Halt { reason } => panic!("{reason}"),
                Action::CloseClient { .. }
                | Action::PauseClient { .. }
                | Action::ResumeClient { .. }
                | Action::ReportFlush { .. }
                | Action::Note { .. }
                | Action::Activate { .. }
                | Action::Stopped => {}
                Action::SavePending { .. }
                | Action::RaiseRecovering { .. }
                | Action::SaveAcceptedEpoch { .. }
                | Action::SaveCurrentEpoch { .. }
                | Action::Truncate { .. }
                | Action::InstallSnapshot { .. }
                | Action::Reload { .. }
                | Action::Locate { .. }
                | Action::ReadTxns { .. }
                | Action::Notify { .. }
                | Action::Dial { .. }
                | Action::SendLeader { .. }
                | Action::SendLearner { .. }
                | Action::SendSnapshot { .. }
                | Action::ReportLinkFlush { .. }
                | Action::PauseLink { .. }
                | Action::ResumeLink { .. }
                | Action::CloseLink { .. } => panic!("a standalone server has no peers"),
            }
        }
        self.out.clear();
        for _ in 0..snapshots {
            self.step(Input::SnapshotDone { error: None });
        }
    }

    /// Notes each frame among the disk's operations.
    fn sent(&mut self, frames: &[u8]) {
        let mut reader = Reader::new(frames);
        while !reader.is_empty() {
            let frame = reader.buffer().expect("whole frames").expect("not null");
            // The first frame answers the handshake, by whose time the first transaction is durable.
            let zxid = if std::mem::replace(&mut self.opened, true) {
                let header = ReplyHeader::read(&mut Reader::new(frame)).expect("a reply");
                if header.xid.0 < 0 {
                    continue;
                }
                Zxid::from_wire(header.zxid)
            } else {
                self.records[0].0
            };
            let record = self.records.iter().find(|(z, _)| *z == zxid).expect("a write's zxid").1.clone();
            let note = self.claims.len() as u64;
            self.disk.note(note);
            self.claims.push(Claim { record, note });
        }
    }

    fn commit(&mut self) {
        let Some(id) = self.waiting.take() else { return };
        self.writer.commit().expect("a healthy disk");
        self.step(Input::Durable { id });
        self.writer.maintain(NOW.mono).expect("a healthy disk");
    }

    fn create(&mut self, n: usize) {
        let mut frame = Vec::new();
        RequestHeader { xid: Xid(n as i32), op: OpCode::Create.code() }.write(&mut frame);
        let acl = RawAcl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) };
        let data = vec![b'x'; n % 300];
        let path = format!("/n{n:05}");
        CreateRequest { path: Some(path.into()), data: Some(data.into()), acl: Some(vec![acl]), flags: 0 }
            .write(&mut frame);
        self.step(Input::ClientFrame { conn: CONN, frame: &frame });
    }

    fn run(force_sync: bool) -> Self {
        let mut rig = Self::new(force_sync);
        rig.step(Input::ClientUp { conn: CONN, peer: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1) });
        let mut frame = Vec::new();
        jute::put_i32(&mut frame, 0);
        jute::put_i64(&mut frame, 0);
        jute::put_i32(&mut frame, 30_000);
        jute::put_i64(&mut frame, SessionId::NONE.0);
        jute::put_buffer(&mut frame, Some(&[0; 16]));
        ConnectRequest::read(&mut Reader::new(&frame)).expect("a connect request");
        rig.step(Input::ClientFrame { conn: CONN, frame: &frame });
        rig.commit();
        let mut n = 0;
        for batch in (1..12).cycle().take(60) {
            for _ in 0..batch {
                n += 1;
                rig.create(n);
            }
            rig.commit();
        }
        assert_eq!(rig.claims.len(), n + 1, "every request was answered");
        rig
    }

    /// The first claim that the recorded operations do not bear out.
    fn judge(&self, ops: &[Op]) -> Result<(), String> {
        for claim in &self.claims {
            let told = ops.iter().position(|op| *op == Op::Note(claim.note)).expect("noted");
            let before = &ops[..told];
            // Writes of the record: where it was logged, not where a snapshot repeats its parts.
            let written = before.iter().rposition(|op| match op {
                Op::Write { bytes, .. } => bytes.windows(claim.record.len()).any(|w| w == claim.record),
                _ => false,
            });
            let Some(written) = written else { return Err(format!("reply {} before its record", claim.note)) };
            let Op::Write { file, .. } = &before[written] else { unreachable!("a write was looked for") };
            if !before[written..].contains(&Op::Sync { file: *file }) {
                return Err(format!("reply {} without a sync behind its record", claim.note));
            }
        }
        Ok(())
    }
}

#[test]
fn each_reply_follows_a_sync_of_its_record() {
    let rig = Rig::run(true);
    let ops = rig.disk.ops();
    rig.judge(&ops).expect("synced before acknowledged");
    assert!(rig.snapshots > 1, "and snapshots were taken meanwhile");
    let syncs = ops.iter().filter(|op| matches!(op, Op::Sync { .. })).count();
    assert!(syncs < rig.claims.len(), "what comes together is synced together: {syncs} syncs");

    // Any single sync that is left out, and does not stand before another one, is missed.
    let logs: Vec<usize> = ops
        .iter()
        .filter_map(|op| match op {
            Op::Rename { file, to, .. } if to.name.starts_with("log.") => Some(*file),
            _ => None,
        })
        .collect();
    assert!(logs.len() > 3, "there were segments");
    let without: Vec<Op> =
        ops.iter().filter(|op| !matches!(op, Op::Sync { file } if logs.contains(file))).cloned().collect();
    rig.judge(&without).expect_err("no sync of the log at all");
}

#[test]
fn a_writer_without_syncs_is_found_out() {
    let rig = Rig::run(false);
    rig.judge(&rig.disk.ops()).expect_err("forceSync=no leaves the syncs out");
}
