//! The watches of a client, as the server of the moment has them or is about to get them again.

use crate::limits::SET_WATCHES_MAX;
use crate::machine::Output;
use crate::watch::{Change, EventQueue, WatchEvent, WatchKind};
use farrier_proto::Zxid;
use farrier_proto::client::{EventType, WatcherType};
use farrier_proto::jute::{put_i64, put_len, put_str};
use std::collections::BTreeMap;
use std::sync::Arc;

const KINDS: [WatchKind; 5] =
    [WatchKind::Data, WatchKind::Exist, WatchKind::Child, WatchKind::Persistent, WatchKind::Recursive];

/// A watch to be set when its request succeeds.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) kind: WatchKind,
    /// As the server names it.
    pub(crate) path: Box<str>,
    pub(crate) id: u64,
    pub(crate) queue: Arc<EventQueue>,
}

/// What a request does to the client's watches when it succeeds, whether or not somebody still waits for the answer.
#[derive(Debug)]
pub(crate) enum Effect {
    /// It sets this one.
    Set(Registration),
    /// It removes those of a type on a path, as the server names it.
    Remove(Box<str>, WatcherType),
}

#[derive(Debug)]
struct Subscriber {
    id: u64,
    queue: Arc<EventQueue>,
}

/// Which watches one request set again: kinds and paths.
pub(crate) type Chunk = Vec<(WatchKind, Box<str>)>;

/// Watches by kind and path. Those of one kind on one path are one watch at the server.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    tables: [BTreeMap<Box<str>, Vec<Subscriber>>; 5],
    count: usize,
}

impl Watches {
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn arm(&mut self, registration: Registration) {
        let Registration { kind, path, id, queue } = registration;
        self.tables[kind as usize].entry(path).or_default().push(Subscriber { id, queue });
        self.count += 1;
    }

    /// Whether anybody watches this.
    pub(crate) fn has(&self, kind: WatchKind, path: &str) -> bool {
        self.tables[kind as usize].contains_key(path)
    }

    /// Takes a subscriber out. Whether it was the last one of its kind on the path.
    pub(crate) fn remove(&mut self, kind: WatchKind, path: &str, id: u64) -> bool {
        let table = &mut self.tables[kind as usize];
        let Some(all) = table.get_mut(path) else { return false };
        let before = all.len();
        all.retain(|s| s.id != id);
        self.count -= before - all.len();
        if all.is_empty() {
            table.remove(path);
            return true;
        }
        false
    }

    /// The server has dropped these: they end, behind what it told them before.
    pub(crate) fn removed(&mut self, path: &str, kind: WatcherType, out: &mut Vec<Output>) {
        for k in KINDS {
            let meant = match kind {
                WatcherType::Any => true,
                WatcherType::Data => matches!(k, WatchKind::Data | WatchKind::Exist),
                WatcherType::Children => k == WatchKind::Child,
                WatcherType::Persistent => k == WatchKind::Persistent,
                WatcherType::PersistentRecursive => k == WatchKind::Recursive,
            };
            if meant {
                out.extend(self.take(k, path).into_iter().map(|s| Output::End { queue: s.queue }));
            }
        }
    }

    fn take(&mut self, kind: WatchKind, path: &str) -> Vec<Subscriber> {
        let taken = self.tables[kind as usize].remove(path).unwrap_or_default();
        self.count -= taken.len();
        taken
    }

    /// Hands an event to everybody whom it concerns. One-shot watches end with it.
    pub(crate) fn deliver(&mut self, kind: EventType, path: &str, zxid: Option<Zxid>, out: &mut Vec<Output>) {
        let mut tell = |s: &Subscriber, last: bool| {
            let change = Change { kind, path: path.to_owned(), zxid };
            out.push(Output::Event { queue: Arc::clone(&s.queue), event: WatchEvent::Changed(change), last });
        };
        let once: &[WatchKind] = match kind {
            EventType::NodeCreated | EventType::NodeDataChanged => &[WatchKind::Data, WatchKind::Exist],
            EventType::NodeChildrenChanged => &[WatchKind::Child],
            EventType::NodeDeleted => &[WatchKind::Data, WatchKind::Exist, WatchKind::Child],
        };
        for k in once {
            for s in self.take(*k, path) {
                tell(&s, true);
            }
        }
        for s in self.tables[WatchKind::Persistent as usize].get(path).into_iter().flatten() {
            tell(s, false);
        }
        let recursive = &self.tables[WatchKind::Recursive as usize];
        if kind == EventType::NodeChildrenChanged || recursive.is_empty() {
            return;
        }
        for above in ancestors(path) {
            for s in recursive.get(above).into_iter().flatten() {
                tell(s, false);
            }
        }
    }

    /// The bodies of the requests that set all watches again, and what each of them sets.
    pub(crate) fn chunks(&self, relative_zxid: i64) -> Vec<(Vec<u8>, Chunk)> {
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut bytes = usize::MAX;
        for kind in KINDS {
            for path in self.tables[kind as usize].keys() {
                let len = path.len() + 4;
                if bytes.saturating_add(len) > SET_WATCHES_MAX {
                    chunks.push(Vec::new());
                    bytes = 0;
                }
                bytes += len;
                if let Some(chunk) = chunks.last_mut() {
                    chunk.push((kind, path.clone()));
                }
            }
        }
        chunks.into_iter().map(|chunk| (encode(relative_zxid, &chunk), chunk)).collect()
    }

    /// A chunk is set again. What persistent watches would have told meanwhile is lost; one-shot ones were told.
    pub(crate) fn set_again(&self, chunk: &Chunk, out: &mut Vec<Output>) {
        for (kind, path) in chunk {
            if matches!(kind, WatchKind::Persistent | WatchKind::Recursive) {
                for s in self.tables[*kind as usize].get(path).into_iter().flatten() {
                    out.push(Output::Event { queue: Arc::clone(&s.queue), event: WatchEvent::Missed, last: false });
                }
            }
        }
    }

    /// The server does not set them again: they end.
    pub(crate) fn refused(&mut self, chunk: &Chunk, out: &mut Vec<Output>) {
        for (kind, path) in chunk {
            for s in self.take(*kind, path) {
                out.push(Output::Event { queue: s.queue, event: WatchEvent::Missed, last: true });
            }
        }
    }

    /// The client ends, and every watch with it, behind what it was told before.
    pub(crate) fn end(&mut self, out: &mut Vec<Output>) {
        for table in &mut self.tables {
            let all = std::mem::take(table).into_values().flatten();
            out.extend(all.map(|s| Output::End { queue: s.queue }));
        }
        self.count = 0;
    }
}

/// The path itself and everything above it.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |p| match p.rfind('/') {
        Some(0) if p.len() > 1 => Some("/"),
        Some(0) | None => None,
        Some(at) => Some(&p[..at]),
    })
}

/// Whether the chunk needs setWatches2, which servers before 3.6 do not know.
pub(crate) fn needs_persistent(chunk: &Chunk) -> bool {
    chunk.iter().any(|(kind, _)| matches!(kind, WatchKind::Persistent | WatchKind::Recursive))
}

fn encode(relative_zxid: i64, chunk: &Chunk) -> Vec<u8> {
    let mut out = Vec::new();
    put_i64(&mut out, relative_zxid);
    let lists = if needs_persistent(chunk) { &KINDS[..] } else { &KINDS[..3] };
    for kind in lists {
        let paths = chunk.iter().filter(|(k, _)| k == kind);
        put_len(&mut out, paths.clone().count());
        for (_, path) in paths {
            put_str(&mut out, path);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::client::{SetWatches, SetWatches2};
    use farrier_proto::{Field as _, Reader};

    fn arm(watches: &mut Watches, kind: WatchKind, path: &str, id: u64) {
        watches.arm(Registration { kind, path: path.into(), id, queue: Arc::default() });
    }

    fn told(watches: &mut Watches, kind: EventType, path: &str) -> usize {
        let mut out = Vec::new();
        watches.deliver(kind, path, None, &mut out);
        out.len()
    }

    #[test]
    fn each_event_reaches_whom_it_concerns() {
        let mut w = Watches::default();
        for (id, (kind, path)) in [
            (WatchKind::Data, "/a/b"),
            (WatchKind::Exist, "/a/b"),
            (WatchKind::Child, "/a/b"),
            (WatchKind::Persistent, "/a/b"),
            (WatchKind::Recursive, "/a/b"),
            (WatchKind::Recursive, "/a"),
            (WatchKind::Recursive, "/"),
            (WatchKind::Recursive, "/a/bb"),
        ]
        .into_iter()
        .enumerate()
        {
            arm(&mut w, kind, path, id as u64);
        }
        assert_eq!(told(&mut w, EventType::NodeChildrenChanged, "/a/b"), 2, "the child watch and the persistent one");
        assert_eq!(told(&mut w, EventType::NodeChildrenChanged, "/a/b"), 1, "the persistent one");
        assert_eq!(told(&mut w, EventType::NodeDataChanged, "/a/b"), 6);
        assert_eq!(told(&mut w, EventType::NodeDeleted, "/a/b"), 4);
        assert_eq!(told(&mut w, EventType::NodeCreated, "/a/c"), 2, "what recurses from above");
        assert_eq!(w.len(), 5);
        assert!(!w.remove(WatchKind::Recursive, "/a", 99));
        assert!(w.remove(WatchKind::Recursive, "/a", 5));
        let mut out = Vec::new();
        w.end(&mut out);
        assert_eq!((w.len(), out.len()), (0, 4));
    }

    #[test]
    fn many_watches_are_set_again_in_requests_of_bounded_size() {
        let mut w = Watches::default();
        for n in 0..20_000 {
            arm(&mut w, WatchKind::Data, &format!("/a-rather-long-path/{n:010}"), n);
        }
        arm(&mut w, WatchKind::Recursive, "/r", 1 << 40);
        let chunks = w.chunks(77);
        assert!(chunks.len() > 4);
        let mut paths = 0;
        for (body, chunk) in &chunks {
            assert!(body.len() <= SET_WATCHES_MAX + 64);
            let mut r = Reader::new(body);
            let classic = if needs_persistent(chunk) {
                let all = SetWatches2::read(&mut r).expect("a body");
                paths += all.persistent.expect("a list").len() + all.recursive.expect("a list").len();
                all.classic
            } else {
                SetWatches::read(&mut r).expect("a body")
            };
            assert!(r.is_empty());
            assert_eq!(classic.relative_zxid, 77);
            paths += classic.data.expect("a list").len();
        }
        assert_eq!(paths, 20_001);
        assert!(Watches::default().chunks(0).is_empty());
    }
}
