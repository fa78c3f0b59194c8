//! Watches: what they tell, and the queue in which it waits.

use crate::shared::Shared;
use farrier_proto::Zxid;
use farrier_proto::client::EventType;
use futures_core::Stream;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use crate::limits::WATCH_EVENTS_MAX;

/// Which changes a watch tells of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum WatchKind {
    /// One-shot: the znode's data changes or the znode is deleted.
    Data,
    /// One-shot: the znode is created.
    Exist,
    /// One-shot: a child comes or goes, or the znode is deleted.
    Child,
    /// All of these of one znode, until it is removed.
    Persistent,
    /// Creation, deletion and data of a znode and everything below it, until it is removed.
    Recursive,
}

/// What a watch tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WatchEvent {
    /// A change.
    Changed(Change),
    /// Changes may have come that nobody was told of: the connection was lost and the watch has just been set again,
    /// or the reader was too slow. Read again what you watch; what changes from now on is told.
    ///
    /// One-shot watches never say it after a reconnect: the server tells what became of the znode meanwhile. Only
    /// a znode that was created *and* deleted again goes unnoticed by a watch for its creation.
    Missed,
}

/// A change of a znode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// What happened.
    pub kind: EventType,
    /// The znode, as this client names it (without the chroot).
    pub path: String,
    /// The transaction that changed it, if the server said so: servers since 3.9 do, unless the event catches up
    /// after a reconnect.
    pub zxid: Option<Zxid>,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<WatchEvent>,
    /// The machine will add nothing more.
    ended: bool,
    /// Nobody will read.
    closed: bool,
    reader: Option<Waker>,
}

/// What the machine puts in and a [`Watch`] takes out.
#[derive(Debug, Default)]
pub(crate) struct EventQueue(Mutex<Waiting>);

impl EventQueue {
    pub(crate) fn push(&self, event: WatchEvent) {
        let mut waiting = self.0.lock();
        if waiting.closed || waiting.ended {
            return;
        }
        let missed = waiting.events.back() == Some(&WatchEvent::Missed);
        if event == WatchEvent::Missed || waiting.events.len() >= WATCH_EVENTS_MAX - 1 {
            // Two in a row say no more than one. Behind the word that some were missed there is no room either:
            // else the reader would take what follows for all there is.
            if missed {
                return;
            }
            waiting.events.push_back(WatchEvent::Missed);
        } else {
            waiting.events.push_back(event);
        }
        Self::wake(waiting);
    }

    pub(crate) fn end(&self) {
        let mut waiting = self.0.lock();
        waiting.ended = true;
        Self::wake(waiting);
    }

    fn wake(mut waiting: parking_lot::MutexGuard<'_, Waiting>) {
        let reader = waiting.reader.take();
        drop(waiting);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().closed
    }

    /// Nobody will read. Whether it had ended.
    pub(crate) fn close(&self) -> bool {
        let mut waiting = self.0.lock();
        waiting.closed = true;
        waiting.ended
    }

    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Option<WatchEvent>> {
        let mut waiting = self.0.lock();
        if let Some(event) = waiting.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if waiting.ended {
            return Poll::Ready(None);
        }
        waiting.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// A watch of any kind. Dropping it removes it, from the server too if it was a persistent one.
///
/// Take events with [`Self::next`], or as a [`Stream`]. A one-shot watch ends after its event; every watch ends
/// when the client is closed or the watch is removed by [`crate::Client::remove_watches`].
#[derive(Debug)]
pub struct Watch {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Arc<EventQueue>,
    pub(crate) id: u64,
    pub(crate) kind: WatchKind,
    /// As the server names it.
    pub(crate) path: Box<str>,
    /// Length of the chroot in paths of events.
    pub(crate) chroot: usize,
}

impl Watch {
    /// The next event, in the order of the changes; `None` once the watch has ended.
    ///
    /// Cancelling the call loses nothing.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&self, cx: &Context<'_>) -> Poll<Option<WatchEvent>> {
        let mut event = ready!(self.queue.poll(cx));
        if let Some(WatchEvent::Changed(change)) = &mut event {
            change.path.drain(..self.chroot.min(change.path.len()));
            if change.path.is_empty() {
                change.path.push('/');
            }
        }
        Poll::Ready(event)
    }
}

impl Stream for Watch {
    type Item = WatchEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        self.poll_event(cx)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.queue.close() {
            self.shared.unwatch(self.kind, &self.path, self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(queue: &EventQueue) -> Vec<WatchEvent> {
        let cx = Context::from_waker(Waker::noop());
        std::iter::from_fn(|| match queue.poll(&cx) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        })
        .collect()
    }

    fn change(n: usize) -> WatchEvent {
        WatchEvent::Changed(Change { kind: EventType::NodeCreated, path: format!("/{n}"), zxid: None })
    }

    #[test]
    fn a_slow_reader_is_told_that_it_missed_something() {
        let queue = EventQueue::default();
        for n in 0..2 * WATCH_EVENTS_MAX {
            queue.push(change(n));
        }
        let events = taken(&queue);
        assert_eq!(events.len(), WATCH_EVENTS_MAX);
        assert_eq!(events[WATCH_EVENTS_MAX - 2], change(WATCH_EVENTS_MAX - 2));
        assert_eq!(events[WATCH_EVENTS_MAX - 1], WatchEvent::Missed);
        queue.push(change(7));
        queue.push(WatchEvent::Missed);
        queue.push(WatchEvent::Missed);
        queue.end();
        queue.push(change(8));
        assert_eq!(taken(&queue), [change(7), WatchEvent::Missed]);
    }
}
