//! The watches that each connection must have, and the events that it must be told, computed from what the client asked
//! for and from the committed changes. Shares no code with the server's watch table.

use super::model::Model;
use crate::observe::{ClientId, DialId, HeldWatches, Reply, Request};
use farrier_proto::client::{EventType, WatcherType};
use farrier_proto::{ErrorCode, Zxid};
use std::collections::{BTreeMap, VecDeque};

/// How a path is watched; several at once.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Modes {
    data: bool,
    child: bool,
    persistent: bool,
    recursive: bool,
}

/// One connection.
#[derive(Debug, Default)]
struct Connection {
    watches: BTreeMap<String, Modes>,
    /// Changes looked at so far.
    cursor: usize,
    /// Events that are due, in their order.
    due: VecDeque<(Zxid, EventType, String)>,
    /// Events with zxid -1 that arrived since the last reply.
    caught_up: Vec<(EventType, String)>,
}

/// All connections of all clients.
#[derive(Debug, Default)]
pub(super) struct WatchTwin {
    connections: BTreeMap<(ClientId, DialId), Connection>,
}

/// What an observation shows about watches that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WatchFault {
    /// A reply shows a state whose events did not arrive before it.
    Late(String),
    /// An event that is not due, or not of the right kind, or twice.
    Wrong(String),
}

impl Connection {
    /// Looks at all changes up to `zxid`.
    fn advance(&mut self, model: &Model, zxid: Zxid) {
        let changes = model.changes();
        if self.watches.is_empty() {
            self.cursor += changes[self.cursor..].partition_point(|c| c.zxid <= zxid);
            return;
        }
        while let Some(change) = changes.get(self.cursor).filter(|c| c.zxid <= zxid) {
            self.cursor += 1;
            if self.hears(change.kind, &change.path) {
                self.due.push_back((change.zxid, change.kind, change.path.clone()));
            }
        }
    }

    /// Whether a change is told to this connection; uses up what is one-shot.
    fn hears(&mut self, kind: EventType, path: &str) -> bool {
        let above = |watches: &BTreeMap<String, Modes>| {
            watches.iter().any(|(p, m)| m.recursive && (p == path || p == "/" || is_below(path, p)))
        };
        let recursive = above(&self.watches);
        let Some(modes) = self.watches.get_mut(path) else {
            return recursive && kind != EventType::NodeChildrenChanged;
        };
        let before = *modes;
        let told = match kind {
            EventType::NodeCreated | EventType::NodeDataChanged => {
                modes.data = false;
                before.data || before.persistent || recursive
            }
            EventType::NodeChildrenChanged => {
                modes.child = false;
                before.child || before.persistent
            }
            EventType::NodeDeleted => {
                (modes.data, modes.child) = (false, false);
                before.data || before.child || before.persistent || recursive
            }
        };
        if *modes == Modes::default() {
            self.watches.remove(path);
        }
        told
    }

    fn modes(&mut self, path: &str) -> &mut Modes {
        if !self.watches.contains_key(path) {
            self.watches.insert(path.to_owned(), Modes::default());
        }
        self.watches.get_mut(path).expect("it was inserted")
    }

    /// The events that a client must be told at once that asks for its old watches in the state `at`.
    fn rearm(&mut self, model: &Model, held: &HeldWatches, at: Zxid) -> Vec<(EventType, String)> {
        let mut events = Vec::new();
        for path in &held.data {
            match model.znode(path, at) {
                None => events.push((EventType::NodeDeleted, path.clone())),
                Some(z) if z.stat.mzxid.to_wire() > held.since => {
                    events.push((EventType::NodeDataChanged, path.clone()));
                }
                Some(_) => self.modes(path).data = true,
            }
        }
        for path in &held.exist {
            match model.znode(path, at) {
                Some(_) => events.push((EventType::NodeCreated, path.clone())),
                None => self.modes(path).data = true,
            }
        }
        for path in &held.child {
            match model.znode(path, at) {
                None => events.push((EventType::NodeDeleted, path.clone())),
                Some(z) if z.stat.pzxid.to_wire() > held.since => {
                    events.push((EventType::NodeChildrenChanged, path.clone()));
                }
                Some(_) => self.modes(path).child = true,
            }
        }
        held.persistent.iter().for_each(|path| self.modes(path).persistent = true);
        held.recursive.iter().for_each(|path| self.modes(path).recursive = true);
        events
    }

    /// removeWatches: whether there was one.
    fn remove(&mut self, path: &str, kind: WatcherType) -> bool {
        let Some(modes) = self.watches.get_mut(path) else { return false };
        let before = *modes;
        match kind {
            WatcherType::Children => modes.child = false,
            WatcherType::Data => modes.data = false,
            WatcherType::Any => *modes = Modes::default(),
            WatcherType::Persistent => modes.persistent = false,
            WatcherType::PersistentRecursive => modes.recursive = false,
        }
        let (after, removed) = (*modes, *modes != before);
        if after == Modes::default() {
            self.watches.remove(path);
        }
        removed
    }
}

fn is_below(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.starts_with('/'))
}

impl WatchTwin {
    pub(super) fn attached(&mut self, client: ClientId, dial: DialId) {
        self.connections.insert((client, dial), Connection::default());
    }

    pub(super) fn disconnected(&mut self, client: ClientId, dial: DialId) {
        self.connections.remove(&(client, dial));
    }

    /// A header with this zxid arrived: every event up to there must have.
    pub(super) fn shown(
        &mut self,
        model: &Model,
        client: ClientId,
        dial: DialId,
        zxid: Zxid,
    ) -> Result<(), WatchFault> {
        let Some(c) = self.connections.get_mut(&(client, dial)) else { return Ok(()) };
        c.advance(model, zxid);
        match c.due.front() {
            Some((due, kind, path)) => Err(WatchFault::Late(format!(
                "{client:?} is shown the state of {zxid}, and was not told {kind:?} of {path} at {due}"
            ))),
            None => Ok(()),
        }
    }

    /// A reply arrived, after [`Self::shown`]: it may leave a watch.
    pub(super) fn answered(
        &mut self,
        model: &Model,
        client: ClientId,
        dial: DialId,
        zxid: Zxid,
        request: &Request,
        outcome: &Result<Reply, ErrorCode>,
    ) -> Result<(), WatchFault> {
        let Some(c) = self.connections.get_mut(&(client, dial)) else { return Ok(()) };
        // They come in front of the reply that they go with, and behind those of earlier requests.
        let asked = matches!(request, Request::SetWatches(_)) && outcome.is_ok();
        if !asked && !c.caught_up.is_empty() {
            return Err(WatchFault::Wrong(format!(
                "{client:?} is told {:?} without a zxid, and has not asked for its watches again",
                c.caught_up
            )));
        }
        match request {
            Request::Exists { path, watch: true } if matches!(outcome, Ok(_) | Err(ErrorCode::NoNode)) => {
                c.modes(path).data = true;
            }
            Request::GetData { path, watch: true } if outcome.is_ok() => c.modes(path).data = true,
            Request::GetChildren { path, watch: true } if outcome.is_ok() => c.modes(path).child = true,
            Request::AddWatch { path, recursive } if outcome.is_ok() => {
                let modes = c.modes(path);
                if *recursive { modes.recursive = true } else { modes.persistent = true }
            }
            Request::RemoveWatches { path, kind } => {
                let there = c.remove(path, *kind);
                let said = match outcome {
                    Ok(_) => true,
                    Err(ErrorCode::NoWatcher) => false,
                    Err(_) => return Ok(()),
                };
                if there != said {
                    return Err(WatchFault::Wrong(format!(
                        "{client:?} removes its {kind:?} watch of {path}: it has one: {there}, it is told: {said}"
                    )));
                }
            }
            Request::SetWatches(held) if outcome.is_ok() => {
                let due = c.rearm(model, held, zxid);
                let told = std::mem::take(&mut c.caught_up);
                if due != told {
                    return Err(WatchFault::Wrong(format!(
                        "{client:?} asks for its watches again in the state of {zxid}, having seen {:#x}: due are {due:?}, told was {told:?}",
                        held.since
                    )));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A watch event arrived.
    pub(super) fn event(
        &mut self,
        model: &Model,
        client: ClientId,
        dial: DialId,
        zxid: i64,
        kind: EventType,
        path: &str,
    ) -> Result<(), WatchFault> {
        let Some(c) = self.connections.get_mut(&(client, dial)) else { return Ok(()) };
        if zxid == -1 {
            c.caught_up.push((kind, path.to_owned()));
            return Ok(());
        }
        let zxid = Zxid::from_wire(zxid);
        c.advance(model, zxid);
        match c.due.pop_front() {
            Some((due, k, p)) if (due, k, p.as_str()) == (zxid, kind, path) => Ok(()),
            due => Err(WatchFault::Wrong(format!("{client:?} is told {kind:?} of {path} at {zxid}; due is {due:?}"))),
        }
    }
}
