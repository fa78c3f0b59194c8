//! The watches that a shell has left, and what they tell.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use farrier_client::{EventType, Watch, WatchEvent, WatcherType};

use crate::values::plain;

/// All watches of one session.
#[derive(Debug, Default)]
pub(super) struct Watches(Vec<Left>);

#[derive(Debug)]
struct Left {
    /// As it was written.
    path: String,
    kind: WatcherType,
    watch: Watch,
}

impl Watches {
    pub(super) fn add(&mut self, path: &str, kind: WatcherType, watch: Watch) {
        self.0.push(Left { path: path.to_owned(), kind, watch });
    }

    /// Drops those of a kind on a path, and with them what they had to tell; returns how many there were.
    pub(super) fn remove(&mut self, path: &str, kind: WatcherType) -> usize {
        let before = self.0.len();
        self.0.retain(|left| left.path != path || (kind != WatcherType::Any && left.kind != kind));
        before - self.0.len()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Waits for the next event, told in a line.
    pub(super) async fn next(&mut self) -> String {
        poll_fn(|cx| self.poll(cx).map_or(Poll::Pending, Poll::Ready)).await
    }

    /// An event that is there already.
    pub(super) fn take(&mut self) -> Option<String> {
        self.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Option<String> {
        let mut index = 0;
        while let Some(left) = self.0.get_mut(index) {
            let event = pin!(left.watch.next()).poll(cx);
            match event {
                Poll::Ready(Some(event)) => return Some(tell(&event, &left.path)),
                // A one-shot watch has told all.
                Poll::Ready(None) => drop(self.0.remove(index)),
                Poll::Pending => index += 1,
            }
        }
        None
    }
}

/// As zkCli heads it, on one line.
fn tell(event: &WatchEvent, watched: &str) -> String {
    match event {
        WatchEvent::Changed(change) => {
            let zxid = change.zxid.map(|zxid| format!("  zxid {zxid}")).unwrap_or_default();
            format!("WATCHER:: {} {}{zxid}", name(change.kind), plain(&change.path))
        }
        WatchEvent::Missed => format!("WATCHER:: changes of {} may have been missed; look again", plain(watched)),
    }
}

const fn name(kind: EventType) -> &'static str {
    match kind {
        EventType::NodeCreated => "NodeCreated",
        EventType::NodeDeleted => "NodeDeleted",
        EventType::NodeDataChanged => "NodeDataChanged",
        EventType::NodeChildrenChanged => "NodeChildrenChanged",
    }
}
