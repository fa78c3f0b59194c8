//! States that differ in the names of servers only are the same.
//!
//! A state's fingerprint is that of a renamed one: servers are sorted by what names do not change, and where that
//! does not tell them apart every order is tried and the smallest fingerprint taken.

use crate::network::Link;
use crate::server::{SERVERS, Server, ends, id, index, link_id};
use crate::state::State;
use farrier_zab::Names;
use foldhash::quality::FixedState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::OnceLock;

/// The six orders of three servers: where each goes.
const ORDERS: [[usize; SERVERS]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// A part of a state with what was computed of it.
#[derive(Debug)]
pub(crate) struct Cached<T> {
    pub(crate) value: T,
    signature: OnceLock<u64>,
    fingerprints: [OnceLock<u64>; ORDERS.len()],
}

impl<T> Cached<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { value, signature: OnceLock::new(), fingerprints: [const { OnceLock::new() }; ORDERS.len()] }
    }

    /// The value will not be what it was.
    pub(crate) fn changed(&mut self) -> &mut Self {
        if self.signature.get().is_some() {
            self.signature = OnceLock::new();
            self.fingerprints = [const { OnceLock::new() }; ORDERS.len()];
        }
        self
    }
}

/// What was computed is of no use to a copy, which is made to be changed.
impl<T: Clone> Clone for Cached<T> {
    fn clone(&self) -> Self {
        Self::new(self.value.clone())
    }
}

fn hash(f: impl FnOnce(&mut dyn Hasher)) -> u64 {
    let mut hasher = FixedState::with_seed(0x5eed).build_hasher();
    f(&mut hasher);
    hasher.finish()
}

impl Cached<Server> {
    fn signature(&self) -> u64 {
        *self.signature.get_or_init(|| {
            let s = &self.value;
            hash(|mut h| (&s.disk, s.part, &s.pending, &s.tree, &s.received, s.serving).hash(&mut h))
        })
    }

    fn fingerprint(&self, order: usize) -> u64 {
        *self.fingerprints[order].get_or_init(|| {
            let to = ORDERS[order];
            let server = |s| id(to[index(s)]);
            let link = |l| {
                let (learner, leader) = ends(l);
                link_id(to[learner], to[leader])
            };
            let peer = self.value.peer.renamed(Names { server: &server, link: &link });
            hash(|mut h| (self.signature(), self.value.lied, peer).hash(&mut h))
        })
    }
}

impl Cached<Link> {
    fn signature(&self) -> u64 {
        *self.signature.get_or_init(|| hash(|mut h| self.value.hash(&mut h)))
    }
}

impl State {
    /// Equal for states that are equal but for the names of servers. That two others have the same one is as
    /// probable as 64 random bits make it.
    pub(crate) fn fingerprint(&self) -> u64 {
        let signatures: [u64; SERVERS] = std::array::from_fn(|s| {
            // Links as each end sees them, in no order.
            let links = |f: &dyn Fn(usize) -> Option<u64>| (0..SERVERS).filter_map(f).fold(0_u64, u64::wrapping_add);
            let of = |learner: usize, leader: usize| self.links[learner][leader].as_ref().map(|l| l.signature());
            let (up, down) = (links(&|other| of(s, other)), links(&|other| of(other, s)));
            hash(|h| {
                h.write_u64(self.servers[s].signature());
                h.write_u64(up);
                h.write_u64(down);
            })
        });
        let sorted = |to: &[usize; SERVERS]| {
            let mut by_place = [0; SERVERS];
            for (s, place) in to.iter().enumerate() {
                by_place[*place] = signatures[s];
            }
            by_place.is_sorted()
        };
        let orders = (0..ORDERS.len()).filter(|o| sorted(&ORDERS[*o]));
        orders.map(|order| self.fingerprint_in(order)).min().expect("some order is sorted")
    }

    fn fingerprint_in(&self, order: usize) -> u64 {
        let to = ORDERS[order];
        let mut servers = [0; SERVERS];
        let mut links = [[0; SERVERS]; SERVERS];
        for s in 0..SERVERS {
            servers[to[s]] = self.servers[s].fingerprint(order);
            for other in 0..SERVERS {
                links[to[s]][to[other]] = self.links[s][other].as_ref().map_or(0, |l| l.signature());
            }
        }
        hash(|mut h| (servers, links, &self.truth, self.left).hash(&mut h))
    }
}
