//! The watches that a client holds: what it must ask for again after a reconnect.

use crate::observe::{HeldWatches, Reply, Request};
use farrier_proto::ErrorCode;
use farrier_proto::client::{EventType, WatcherType};
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub(super) struct WatchBook {
    data: BTreeSet<String>,
    exist: BTreeSet<String>,
    child: BTreeSet<String>,
    persistent: BTreeSet<String>,
    recursive: BTreeSet<String>,
}

impl WatchBook {
    pub(super) fn len(&self) -> usize {
        self.data.len() + self.exist.len() + self.child.len() + self.persistent.len() + self.recursive.len()
    }

    /// A path with a watch, the `n`th of all.
    pub(super) fn nth(&self, n: usize) -> Option<&str> {
        let all = [&self.data, &self.exist, &self.child, &self.persistent, &self.recursive];
        all.into_iter().flatten().nth(n).map(String::as_str)
    }

    pub(super) fn held(&self, since: i64) -> HeldWatches {
        let list = |paths: &BTreeSet<String>| paths.iter().cloned().collect();
        HeldWatches {
            since,
            data: list(&self.data),
            exist: list(&self.exist),
            child: list(&self.child),
            persistent: list(&self.persistent),
            recursive: list(&self.recursive),
        }
    }

    /// A reply may leave a watch, or take one away.
    pub(super) fn answered(&mut self, request: &Request, outcome: &Result<Reply, ErrorCode>) {
        match request {
            Request::Exists { path, watch: true } => match outcome {
                Ok(_) => drop(self.data.insert(path.clone())),
                Err(ErrorCode::NoNode) => drop(self.exist.insert(path.clone())),
                Err(_) => {}
            },
            Request::GetData { path, watch: true } if outcome.is_ok() => drop(self.data.insert(path.clone())),
            Request::GetChildren { path, watch: true } if outcome.is_ok() => drop(self.child.insert(path.clone())),
            Request::AddWatch { path, recursive } if outcome.is_ok() => {
                let list = if *recursive { &mut self.recursive } else { &mut self.persistent };
                list.insert(path.clone());
            }
            Request::RemoveWatches { path, kind } if outcome.is_ok() => self.remove(path, *kind),
            _ => {}
        }
    }

    fn remove(&mut self, path: &str, kind: WatcherType) {
        let any = kind == WatcherType::Any;
        if any || kind == WatcherType::Data {
            self.data.remove(path);
            self.exist.remove(path);
        }
        if any || kind == WatcherType::Children {
            self.child.remove(path);
        }
        if any || kind == WatcherType::Persistent {
            self.persistent.remove(path);
        }
        if any || kind == WatcherType::PersistentRecursive {
            self.recursive.remove(path);
        }
    }

    /// An event uses up one-shot watches.
    pub(super) fn fired(&mut self, kind: EventType, path: &str) {
        if kind != EventType::NodeChildrenChanged {
            self.data.remove(path);
            self.exist.remove(path);
        }
        if matches!(kind, EventType::NodeChildrenChanged | EventType::NodeDeleted) {
            self.child.remove(path);
        }
    }
}
