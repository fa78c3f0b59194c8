//! What clients ask for: a small namespace that they all contend for, and a mix of requests that each draws for itself.

use super::book::WatchBook;
use crate::observe::{MultiPart, PartReply, ReadPart, Reply, Request};
use crate::random::Random;
use bytes::Bytes;
use farrier_proto::ErrorCode;
use farrier_proto::client::{CreateMode, WatcherType};
use std::collections::BTreeMap;

/// Parents under which most znodes live: `/p0`, `/p1`, ...
const PARENTS: u64 = 3;
/// Names of ordinary znodes under each: `k0`, `k1`, ...
const NAMES: u64 = 8;
/// Counters: `/c0`, `/c1`, ...
const COUNTERS: u64 = 2;
/// Paths that a client remembers having created or seen.
const KNOWN_MAX: usize = 48;
/// Watches that a client holds at most.
const WATCHES_MAX: usize = 12;
/// Operations of a multi at most.
const PARTS_MAX: u64 = 5;

macro_rules! deeds {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a client may do next.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Deed {
            $($(#[$doc])* $name,)*
        }

        impl Deed {
            /// Those that a server answers by itself and that change nothing anywhere.
            pub const READS: [Self; 7] = [
                Self::Exists,
                Self::Get,
                Self::Children,
                Self::GetAcl,
                Self::MultiRead,
                Self::GetEphemerals,
                Self::CountDescendants,
            ];
            /// Every one, in the order of [`Workload::weights`].
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

deeds! {
    /// A persistent znode with a name that others use too.
    Create,
    /// An ephemeral one.
    CreateEphemeral,
    /// A persistent one with the parent's counter.
    CreateSequential,
    /// Both.
    CreateEphemeralSequential,
    /// A container with a child, which another deed deletes.
    CreateContainer,
    /// A znode with a short time to live.
    CreateTtl,
    /// setData of any version.
    Set,
    /// getData of a counter, then setData of exactly that version.
    Increment,
    /// Of something known; sometimes of an expected version.
    Delete,
    /// Several operations that are likely to succeed.
    Multi,
    /// Several, one of which is likely to fail.
    FailingMulti,
    /// exists, with or without a watch.
    Exists,
    /// getData, with or without a watch.
    Get,
    /// getChildren, with or without a watch.
    Children,
    /// A persistent watch, recursive or not.
    AddWatch,
    /// removeWatches of something that is watched, or not.
    RemoveWatches,
    /// sync, and a read behind it.
    SyncAndRead,
    /// Large data.
    Large,
    /// The connection is given up for one to another server.
    Move,
    /// closeSession, then a new session.
    Close,
    /// Nothing is sent until the session must have expired.
    FallSilent,
    /// setACL of something known; sometimes of an expected aversion.
    SetAcl,
    /// getACL.
    GetAcl,
    /// Several reads at once.
    MultiRead,
    /// getEphemerals.
    GetEphemerals,
    /// getAllChildrenNumber.
    CountDescendants,
}

/// What a client does with its time. Swarm style: each client draws its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workload {
    /// Mean milliseconds from one burst of requests to the next.
    pub pause_ms: u64,
    /// Most deeds in a burst.
    pub burst_max: u64,
    /// Session timeout that it asks for. Milliseconds.
    pub timeout_ms: i32,
    /// Largest data of an ordinary write. Bytes.
    pub data_max: u64,
    /// Data of a large one. Bytes; must leave room for the rest of the request below `jute.maxbuffer`.
    pub large: u64,
    /// How often it does what, in the order of [`Deed::ALL`].
    pub weights: Vec<u32>,
}

impl Workload {
    /// A mix of its own: some deeds not at all, others often. Writes are always among them.
    #[must_use]
    pub fn draw(random: &mut Random) -> Self {
        let usual = |deed: &Deed| match deed {
            Deed::Set | Deed::Get | Deed::CreateSequential | Deed::Delete => 12,
            Deed::Create | Deed::Increment | Deed::SyncAndRead | Deed::Exists | Deed::Children => 8,
            Deed::CreateEphemeral | Deed::CreateEphemeralSequential | Deed::Multi => 6,
            Deed::FailingMulti | Deed::AddWatch | Deed::RemoveWatches => 3,
            Deed::SetAcl | Deed::GetAcl | Deed::MultiRead => 4,
            Deed::CreateContainer | Deed::CreateTtl | Deed::GetEphemerals | Deed::CountDescendants => 2,
            Deed::Large | Deed::Move | Deed::Close | Deed::FallSilent => 1,
        };
        let mut weights: Vec<u32> = Deed::ALL
            .iter()
            .map(|deed| match random.below(4) {
                0 => 0,
                1 => usual(deed) * 4,
                _ => usual(deed) * 2,
            })
            .collect();
        for always in [Deed::Create, Deed::Set, Deed::Delete] {
            weights[always as usize] = weights[always as usize].max(8);
        }
        Self {
            pause_ms: *random.pick(&[50, 120, 250]),
            burst_max: *random.pick(&[1, 3, 8]),
            timeout_ms: *random.pick(&[1500, 3000, 6000, 12_000]),
            data_max: *random.pick(&[8, 64, 512]),
            large: *random.pick(&[8 << 10, 64 << 10, 300 << 10]),
            weights,
        }
    }
}

/// What the client remembers of what it was told, to make requests that mean something.
#[derive(Debug, Default)]
pub(super) struct Memory {
    known: Vec<String>,
    versions: BTreeMap<String, i32>,
}

impl Memory {
    fn learn(&mut self, path: &str, version: Option<i32>, random: &mut Random) {
        if !self.known.iter().any(|p| p == path) {
            if self.known.len() < KNOWN_MAX {
                self.known.push(path.to_owned());
            } else {
                let out = random.below(KNOWN_MAX as u64) as usize;
                let old = std::mem::replace(&mut self.known[out], path.to_owned());
                self.versions.remove(&old);
            }
        }
        if let Some(version) = version {
            self.versions.insert(path.to_owned(), version);
        }
    }

    fn forget(&mut self, path: &str) {
        self.known.retain(|p| p != path);
        self.versions.remove(path);
    }

    /// Takes note of a reply. A second request may follow from it.
    pub(super) fn answered(
        &mut self,
        request: &Request,
        outcome: &Result<Reply, ErrorCode>,
        random: &mut Random,
    ) -> Option<Request> {
        match (request, outcome) {
            (_, Ok(Reply::Created { path, stat: _ })) => {
                self.learn(path, Some(0), random);
                if let Request::Create { mode: CreateMode::Container, .. } = request {
                    let path = format!("{path}/in");
                    return Some(Request::Create {
                        path,
                        data: Bytes::new(),
                        mode: CreateMode::Persistent,
                        ttl: None,
                        plain: true,
                    });
                }
            }
            (Request::SetData { path, .. }, Ok(Reply::Stat(stat))) => self.learn(path, Some(stat.version), random),
            (Request::GetData { path, .. }, Ok(Reply::Data { data, stat })) => {
                if path.starts_with("/c") {
                    let count = data.as_deref().and_then(|d| std::str::from_utf8(d).ok()?.parse().ok()).unwrap_or(0u64);
                    return Some(Request::SetData {
                        path: path.clone(),
                        data: Bytes::from((count + 1).to_string()),
                        version: stat.version,
                    });
                }
                self.learn(path, Some(stat.version), random);
            }
            (Request::GetChildren { path, .. }, Ok(Reply::Children { names, .. })) if !names.is_empty() => {
                let name = random.pick(names);
                self.learn(&format!("{path}/{name}"), None, random);
            }
            (Request::Delete { path, .. }, Ok(_) | Err(ErrorCode::NoNode)) => self.forget(path),
            (Request::Delete { path, .. }, Err(ErrorCode::BadVersion)) => drop(self.versions.remove(path)),
            (Request::Multi(parts), Ok(Reply::Multi(replies))) => {
                parts.iter().zip(replies).for_each(|(part, reply)| self.part_answered(part, reply, random));
            }
            _ => {}
        }
        None
    }

    fn part_answered(&mut self, part: &MultiPart, reply: &PartReply, random: &mut Random) {
        match (part, reply) {
            (_, PartReply::Created { path, .. }) => self.learn(path, Some(0), random),
            (MultiPart::SetData { path, .. }, PartReply::Stat(stat)) => self.learn(path, Some(stat.version), random),
            (MultiPart::Delete { path, .. }, PartReply::Done) => self.forget(path),
            (
                MultiPart::Delete { path, .. } | MultiPart::SetData { path, .. } | MultiPart::Check { path, .. },
                PartReply::Failed(code),
            ) if *code == ErrorCode::BadVersion.code() => drop(self.versions.remove(path)),
            _ => {}
        }
    }
}

/// Draws requests.
pub(super) struct Draw<'a> {
    pub(super) workload: &'a Workload,
    pub(super) memory: &'a Memory,
    pub(super) watches: &'a WatchBook,
    pub(super) random: &'a mut Random,
}

/// The requests that the rest builds on; each client makes them with its first session.
pub(super) fn groundwork() -> Vec<Request> {
    let plain = |path: String, data: &'static str| Request::Create {
        path,
        data: Bytes::from_static(data.as_bytes()),
        mode: CreateMode::Persistent,
        ttl: None,
        plain: false,
    };
    let parents = (0..PARENTS).map(|n| plain(format!("/p{n}"), ""));
    parents.chain((0..COUNTERS).map(|n| plain(format!("/c{n}"), "0"))).collect()
}

impl Draw<'_> {
    /// The requests of a deed; none for those that are no requests.
    pub(super) fn requests(&mut self, deed: Deed) -> Vec<Request> {
        let one = match deed {
            Deed::Create => self.create(CreateMode::Persistent),
            Deed::CreateEphemeral => self.create(CreateMode::Ephemeral),
            Deed::CreateSequential => self.create(CreateMode::PersistentSequential),
            Deed::CreateEphemeralSequential => self.create(CreateMode::EphemeralSequential),
            Deed::CreateContainer => self.create(CreateMode::Container),
            Deed::CreateTtl => {
                let mode = *self.random.pick(&[CreateMode::PersistentTtl, CreateMode::PersistentSequentialTtl]);
                self.create(mode)
            }
            Deed::Set => Request::SetData { path: self.target(), data: self.data(), version: -1 },
            Deed::Increment => Request::GetData { path: self.counter(), watch: false },
            Deed::Delete => self.delete(),
            Deed::Multi => Request::Multi(self.parts()),
            Deed::FailingMulti => {
                let mut parts = self.parts();
                let at = self.random.below(parts.len() as u64 + 1) as usize;
                let path = self.target();
                // One that never was, or the one before that which was seen last.
                let version = match self.memory.versions.get(&path) {
                    Some(version) if *version > 0 && self.random.percent(50) => version - 1,
                    _ => 1 << 20,
                };
                parts.insert(at, MultiPart::Check { path, version });
                Request::Multi(parts)
            }
            Deed::Exists => Request::Exists { path: self.name(), watch: self.watch() },
            Deed::Get => Request::GetData { path: self.target(), watch: self.watch() },
            Deed::Children => Request::GetChildren { path: self.parent(), watch: self.watch() },
            Deed::AddWatch if self.watches.len() < WATCHES_MAX => {
                let recursive = self.random.percent(50);
                let path = if recursive { self.parent() } else { self.target() };
                Request::AddWatch { path, recursive }
            }
            Deed::AddWatch | Deed::RemoveWatches => self.remove_watches(),
            Deed::SyncAndRead => {
                let read = match self.random.below(3) {
                    0 => Request::GetChildren { path: self.parent(), watch: false },
                    1 => Request::Exists { path: self.name(), watch: false },
                    _ => Request::GetData { path: self.target(), watch: false },
                };
                return vec![Request::Sync { path: "/".to_owned() }, read];
            }
            Deed::Large => {
                let data = self.bytes(self.workload.large);
                Request::SetData { path: self.target(), data, version: -1 }
            }
            Deed::SetAcl => {
                let version = if self.random.percent(70) { -1 } else { self.random.below(4) as i32 };
                Request::SetAcl { path: self.target(), network: self.random.below(8) as u8, version }
            }
            Deed::GetAcl => Request::GetAcl { path: self.target() },
            Deed::MultiRead => {
                let n = self.random.between(1, PARTS_MAX);
                let part = |draw: &mut Self| {
                    if draw.random.percent(60) {
                        ReadPart::Data(draw.target())
                    } else {
                        ReadPart::Children(draw.parent())
                    }
                };
                Request::MultiRead((0..n).map(|_| part(self)).collect())
            }
            Deed::GetEphemerals => {
                Request::GetEphemerals { prefix: if self.random.percent(30) { "/".to_owned() } else { self.parent() } }
            }
            Deed::CountDescendants => Request::CountDescendants { path: self.target() },
            Deed::Close => Request::Close,
            Deed::Move | Deed::FallSilent => return Vec::new(),
        };
        vec![one]
    }

    fn watch(&mut self) -> bool {
        self.watches.len() < WATCHES_MAX && self.random.percent(40)
    }

    fn parent(&mut self) -> String {
        format!("/p{}", self.random.below(PARENTS))
    }

    fn counter(&mut self) -> String {
        format!("/c{}", self.random.below(COUNTERS))
    }

    /// A path that may be there or not.
    fn name(&mut self) -> String {
        format!("{}/k{}", self.parent(), self.random.below(NAMES))
    }

    /// A path that is likely to be there.
    fn target(&mut self) -> String {
        match self.random.below(8) {
            0 => self.parent(),
            1 | 2 => self.name(),
            _ if self.memory.known.is_empty() => self.name(),
            _ => self.random.pick(&self.memory.known).clone(),
        }
    }

    fn bytes(&mut self, len: u64) -> Bytes {
        // Distinct in front, so that no two writes have the same data; the rest compresses well.
        let mut data = self.random.draw().to_be_bytes().to_vec();
        data.resize(len as usize, b'x');
        Bytes::from(data)
    }

    fn data(&mut self) -> Bytes {
        let len = self.random.below(self.workload.data_max + 1);
        self.bytes(len)
    }

    fn create(&mut self, mode: CreateMode) -> Request {
        let path = match mode {
            CreateMode::Container => format!("{}/box{}", self.parent(), self.random.below(NAMES)),
            _ if mode.is_sequential() => format!("{}/s-", self.parent()),
            // Below something ephemeral, sometimes: that is refused.
            _ if self.random.percent(5) => format!("{}/below", self.target()),
            _ => self.name(),
        };
        let ttl = mode.is_ttl().then(|| self.random.between(500, 5000) as i64);
        Request::Create { path, data: self.data(), mode, ttl, plain: self.random.percent(50) }
    }

    fn delete(&mut self) -> Request {
        let path = self.target();
        if path.len() <= 3 {
            // Everybody needs the parents.
            return Request::Delete { path: self.name(), version: -1 };
        }
        let version = match self.memory.versions.get(&path) {
            Some(version) if self.random.percent(50) => *version,
            _ => -1,
        };
        Request::Delete { path, version }
    }

    /// A path with the version that was seen last, which may no longer be its version; or a parent with any.
    fn expected(&mut self) -> (String, i32) {
        let path = self.target();
        match self.memory.versions.get(&path) {
            Some(version) if self.random.percent(40) => (path, *version),
            _ => (self.parent(), -1),
        }
    }

    fn parts(&mut self) -> Vec<MultiPart> {
        let n = self.random.between(1, PARTS_MAX);
        let mut parts = Vec::new();
        for _ in 0..n {
            parts.push(match self.random.below(6) {
                0 | 1 => MultiPart::Create {
                    path: format!("{}/s-", self.parent()),
                    data: self.data(),
                    mode: *self.random.pick(&[CreateMode::PersistentSequential, CreateMode::EphemeralSequential]),
                    plain: self.random.percent(50),
                },
                2 => MultiPart::Create {
                    path: self.name(),
                    data: self.data(),
                    mode: *self.random.pick(&[CreateMode::Persistent, CreateMode::Ephemeral]),
                    plain: self.random.percent(50),
                },
                3 => {
                    let (path, version) = self.expected();
                    MultiPart::SetData { path, data: self.data(), version }
                }
                4 => {
                    let (path, version) = self.expected();
                    MultiPart::Check { path, version }
                }
                _ => match self.delete() {
                    Request::Delete { path, version } => MultiPart::Delete { path, version },
                    other => unreachable!("a deletion is no {other:?}"),
                },
            });
        }
        parts
    }

    fn remove_watches(&mut self) -> Request {
        let held = self.watches.len() as u64;
        let path = match held {
            0 => None,
            _ => self.watches.nth(self.random.below(held) as usize).map(str::to_owned),
        };
        let kind = *self.random.pick(&[
            WatcherType::Any,
            WatcherType::Data,
            WatcherType::Children,
            WatcherType::Persistent,
            WatcherType::PersistentRecursive,
        ]);
        Request::RemoveWatches { path: path.unwrap_or_else(|| self.name()), kind }
    }
}
