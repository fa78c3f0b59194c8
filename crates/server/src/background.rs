//! Threads that must never hold up requests: snapshots, the next log segment, purging.

use crate::core::Core;
use farrier_replica::{Input, SnapshotImage};
use farrier_storage::{Disk, PurgePolicy, SnapshotOptions, prepare_segment, purge, write_snapshot};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Held while a snapshot is written and while files are purged: the one must not see the other's work
/// half done.
pub(crate) type SnapshotFiles = Arc<Mutex<()>>;

/// Writes the snapshots that the replica asks for, until the channel closes.
pub(crate) fn run_snapshots<D: Disk>(
    core: &Core,
    disk: &D,
    options: SnapshotOptions,
    images: &Receiver<Box<SnapshotImage>>,
    files: &SnapshotFiles,
) {
    while let Some(image) = next_image(core, images) {
        let start = Instant::now();
        let guard = files.lock().expect("nothing panics while it holds this lock");
        let written = write_snapshot(disk, &*image, &options);
        drop(guard);
        // Many znodes: their memory goes before anybody is told.
        drop(image);
        let error = match written {
            Ok(done) => {
                let ms = start.elapsed().as_millis();
                tracing::info!("snapshot {} written: {} znodes, {} bytes, {ms} ms", done.zxid, done.nodes, done.len);
                None
            }
            Err(e) => Some(format!(
                "no snapshot was written: {e}. The log keeps everything, so nothing is lost; the next one is tried after snapCount more transactions"
            )),
        };
        core.step(Input::SnapshotDone { error });
    }
}

fn next_image(core: &Core, images: &Receiver<Box<SnapshotImage>>) -> Option<Box<SnapshotImage>> {
    loop {
        match images.recv_timeout(Duration::from_millis(500)) {
            Ok(image) => return Some(image),
            Err(RecvTimeoutError::Timeout) if !core.is_closing() => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// Zero-fills the next log segment whenever one was begun, until the channel closes.
pub(crate) fn run_preparer<D: Disk>(disk: &D, segment_size: u64, wanted: &Receiver<()>) {
    while wanted.recv().is_ok() {
        // Short rests leave the disk to the log's syncs.
        let mut rest = |_: u64| std::thread::sleep(Duration::from_micros(500));
        if let Err(e) = prepare_segment(disk, segment_size, &mut rest) {
            tracing::warn!(
                "the next log segment cannot be prepared: {e}. The current one goes on; the server stops when it is full and there is still no room"
            );
        }
    }
}

/// Purges at every interval, the first time one interval after the start.
pub(crate) fn run_purge<D: Disk>(
    core: &Core,
    disk: &D,
    policy: &PurgePolicy,
    interval: Duration,
    files: &SnapshotFiles,
) {
    let mut next = Instant::now() + interval;
    while !core.is_closing() {
        let now = Instant::now();
        if now < next {
            std::thread::sleep((next - now).min(Duration::from_millis(500)));
            continue;
        }
        next = now + interval;
        let guard = files.lock().expect("nothing panics while it holds this lock");
        let purged = purge(disk, policy);
        drop(guard);
        match purged {
            Ok(purged) => {
                for file in &purged.removed {
                    tracing::info!("purged {file}");
                }
                for text in &purged.invalid {
                    tracing::warn!("a snapshot does not read back: {text}");
                }
                if let Some(why) = purged.held_back {
                    tracing::info!("nothing purged yet: {why:?}");
                }
                if let Some(e) = purged.failed {
                    tracing::warn!("purging stopped: {e}");
                }
            }
            Err(e) => tracing::warn!("nothing purged: {e}"),
        }
    }
}
