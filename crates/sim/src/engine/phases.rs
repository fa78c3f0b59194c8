//! From phase to phase: how a run begins, and when it has come to rest.

use super::event::Event;
use super::machine::Machine;
use super::world::World;
use crate::client::ClientInput;
use crate::observe::{ClientId, Phase, SeenZnode, ServerEvent};
use bytes::Bytes;
use farrier_proto::{ServerId, SessionId};
use farrier_replica::Replica;
use farrier_tree::Tree;
use std::convert::Infallible;

/// Servers start within this. Microseconds.
const START_US_SPREAD: u64 = 300_000;

impl World {
    /// Servers and clients are started one after the other, and faults are planned.
    pub(crate) fn begin(&mut self) {
        self.tell_phase(Phase::Safety);
        for id in self.ids() {
            let after = self.random.process.below(START_US_SPREAD);
            self.plan_start(id, after);
        }
        for n in 0..self.people.len() {
            let client = ClientId(u32::try_from(n).expect("few clients"));
            self.queue.plan(self.now, Event::ClientTimer { client });
        }
        for (index, fault) in self.plan.faults.iter().enumerate() {
            self.queue.plan(fault.at_ms * 1000, Event::FaultBegins(index));
        }
    }

    fn ids(&self) -> Vec<ServerId> {
        self.machines.iter().map(|m| m.id).collect()
    }

    /// Whether every server serves.
    pub(crate) fn all_serve(&self) -> bool {
        self.machines.iter().all(Machine::serves)
    }

    /// Those that do not.
    pub(crate) fn who_does_not_serve(&self) -> String {
        let idle: Vec<_> = self.machines.iter().filter(|m| !m.serves()).map(|m| m.id.to_string()).collect();
        format!("server {}", idle.join(", "))
    }

    /// Clients make no new requests, and the last of them is gone without a word.
    pub(crate) fn rest(&mut self) {
        for n in 0..self.people.len() {
            let input = if n + 1 == self.people.len() { ClientInput::Vanish } else { ClientInput::Rest };
            self.client_step(ClientId(u32::try_from(n).expect("few clients")), input);
        }
    }

    /// Whether every server serves, all show the same state with nothing on its way, and clients have all their answers.
    pub(crate) fn is_settled(&self) -> bool {
        let zxid = |m: &Machine| m.process.as_ref().map(|p| p.replica.last_zxid());
        let first = self.machines.first().and_then(zxid);
        self.all_serve()
            && self.machines.iter().all(|m| zxid(m) == first)
            && self.machines.iter().filter_map(|m| m.process.as_ref()).all(|p| p.replica.outstanding_requests() == 0)
            && self.all_are_answered()
    }

    /// Sessions of the tree that no client is attached with, and the longest timeout among them in milliseconds. Guests
    /// keep sessions of their own, which are not looked at.
    pub(crate) fn sessions_left(&self) -> Option<(Vec<SessionId>, u64)> {
        let in_use = self.sessions_in_use();
        let tree = self.first_tree().filter(|_| !self.people.is_empty())?;
        let left: Vec<_> = tree.sessions().filter(|(id, _)| !in_use.contains(id)).collect();
        let longest = left.iter().map(|(_, timeout)| u64::from(timeout.unsigned_abs())).max()?;
        Some((left.into_iter().map(|(id, _)| id).collect(), longest))
    }

    /// What each server has.
    pub(crate) fn states(&self) -> String {
        let one = |m: &Machine| match &m.process {
            Some(p) => format!("{}: {} {:?}", m.id, p.replica.last_zxid(), p.told),
            None => format!("{}: does not run", m.id),
        };
        self.machines.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// Shows every server's whole state.
    pub(crate) fn inspect_all(&mut self) {
        for id in self.ids() {
            let shown = self.machine(id).process.as_ref().map(|p| inspect(&p.replica));
            if let Some(shown) = shown {
                self.tell_server(id, shown);
            }
        }
    }

    /// The first server's tree.
    pub(crate) fn first_tree(&self) -> Option<&Tree> {
        self.machines.first().and_then(|m| m.process.as_ref()).map(|p| p.replica.tree())
    }

    /// The checkers' last words.
    pub(crate) fn finish_checks(&mut self) {
        if let Err(violation) = self.checkers.finish() {
            self.fail(violation.checker, violation.what);
        }
    }
}

fn inspect(replica: &Replica) -> ServerEvent {
    let tree = replica.tree();
    let mut znodes = Vec::new();
    let visit = &mut |node: farrier_tree::ImageNode<'_>| {
        let path = if node.path.is_empty() { "/" } else { node.path };
        let there = tree.node(path).expect("the image is the tree's");
        let (stat, acl) = (there.stat(), there.acl().to_vec());
        znodes.push(SeenZnode { path: path.to_owned(), stat, data: node.data.map(Bytes::copy_from_slice), acl });
        Ok::<(), Infallible>(())
    };
    let Ok(()) = tree.image().nodes(visit);
    ServerEvent::Inspected {
        zxid: tree.zxid(),
        digest: Some(tree.digest()),
        znodes,
        sessions: tree.sessions().collect(),
    }
}
