//! Another server ran on a directory, one that writes files as Apache's does: with snapshots of what is not committed, and
//! with logs that stay where a leader's snapshot came to stand above them.

use super::faults::Undo;
use super::process::Death;
use super::world::World;
use crate::observe::{Ending, Fault, Role};
use farrier_proto::limits::TXN_MAX;
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId};
use farrier_replica::{SnapshotImage, restore};
use farrier_storage::mem::MemDisk;
use farrier_storage::{
    Dir, Disk as _, DiskPath, DiskResult, Image as _, SnapshotOptions, verify_snapshot, write_accepted_epoch,
    write_current_epoch, write_snapshot,
};

/// Between the end of the other server and the next start, at most. Microseconds.
const BACK_US_MAX: u64 = 1_000_000;

impl World {
    /// The process of a server ends, another one of a kind that writes as Apache does comes and goes, and ours is started
    /// again.
    pub(crate) fn take_over(&mut self, id: ServerId) {
        self.tell_fault(Fault::TakenOver(id));
        if self.machine(id).process.is_some() {
            self.end(id, &Death::Process(Ending::ProcessCrash));
        }
        let disk = self.machine(id).disk.clone();
        let (recover, snapshots, tree) = (self.recover_options(), self.snapshot_options(), self.tree_config());
        if let Ok((mut state, recovered)) = restore(&disk, &recover, &snapshots, tree, 0) {
            let last = recovered.last_zxid;
            // Nobody follows a leader of an older epoch than the one that was promised.
            let may_follow = |image: &SnapshotImage, epoch| image.zxid() > last && epoch >= recovered.accepted.0;
            let given = self.leader_state(id).filter(|(image, epoch)| may_follow(image, *epoch));
            let done = match given {
                // It followed: its leader's state became a snapshot, and older logs stay below it.
                Some((image, epoch)) => write_as_apache(&disk, &image, &snapshots).and_then(|()| {
                    write_accepted_epoch(&*disk, AcceptedEpoch(epoch))?;
                    write_current_epoch(&*disk, CurrentEpoch(epoch))
                }),
                // It was elected: a snapshot of everything that is logged is the first that it does then.
                None => write_as_apache(&disk, &state.image(), &snapshots),
            };
            self.transcript.line(self.now, || format!("{id} was taken over, from {last} on: {done:?}"));
        }
        let back = self.random.fault.below(BACK_US_MAX);
        self.plan_start(id, back);
    }

    /// What the established leader would send to somebody else as SNAP, and its epoch. In half of the cases none.
    fn leader_state(&mut self, not: ServerId) -> Option<(SnapshotImage, u32)> {
        let wanted = self.random.fault.percent(50);
        let leader = self.established().filter(|leader| wanted && *leader != not)?;
        let process = self.machine(leader).process.as_ref()?;
        match process.told {
            Some((Role::Leading { epoch: Some(epoch) }, true)) => {
                Some((SnapshotImage::of(process.replica.tree().image()), epoch))
            }
            _ => None,
        }
    }

    /// Whoever is elected while the one that is deposed comes back early has to wait for the promises of the others, so
    /// that the one who knows more is heard in time.
    pub(crate) fn note_elected(&mut self, elected: ServerId) {
        let Some((index, deposed)) = self.faults.deposing.filter(|(_, old)| *old != elected) else { return };
        if !self.plan.faults[index].returns_early() {
            return;
        }
        let back = self.random.fault.below(5_000);
        self.queue.plan(self.now + back, super::event::Event::FaultEnds(index));
        let act = self.plan.faults.len() + index;
        for id in self.machines.iter().map(|m| m.id).collect::<Vec<_>>() {
            if id != elected && id != deposed {
                let us = self.random.fault.between(100, 800) * 1000;
                self.machine_mut(id).slow_disk += us;
                let told = Fault::SlowDisk(id, u32::try_from(us / 1000).expect("less than a second"));
                self.last(act, told, Undo::FastDisk(id, us));
            }
        }
        let over = self.random.fault.between(500, 1_500) * 1000;
        self.queue.plan(self.now + over, super::event::Event::FaultEnds(act));
    }
}

/// A snapshot that no list of ours names.
fn write_as_apache(disk: &MemDisk, image: &SnapshotImage, options: &SnapshotOptions) -> DiskResult<()> {
    let own = DiskPath::new(Dir::Data, "farrier.own");
    let before = disk.content(&own);
    let written = write_snapshot(disk, image, options)?;
    debug_assert!(verify_snapshot(disk, &written.path, TXN_MAX).is_ok(), "it was written a moment ago");
    match before {
        Some(content) => disk.put(&own, content),
        None => disk.remove(&own)?,
    }
    disk.sync_dir(Dir::Data)
}
