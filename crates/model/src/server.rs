//! One server: the real peer, its disk, and the state that transactions are applied to.

use crate::check::{Rule, Violation};
use crate::disk::{Disk, Entry, Write};
use farrier_proto::quorum::ServerState;
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId, Zxid};
use farrier_zab::{Config, Durable, Ensemble, Input, LinkId, Outputs, Peer, QuorumVerifier, Recovering};
use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

/// Servers in the ensemble.
pub(crate) const SERVERS: usize = 3;

/// So many servers are a quorum.
pub(crate) const QUORUM: usize = 2;

/// Behind every deadline.
pub(crate) const FAR: u64 = 1 << 40;

/// What a server is, as far as the model asks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Part {
    /// Its disk is not done.
    Settling,
    Looking,
    Leading,
    Learning,
}

/// What a server does for clients.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Serving {
    Nothing,
    Learning,
    Leading,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Server {
    pub(crate) peer: Peer,
    pub(crate) part: Part,
    pub(crate) disk: Disk,
    /// Asked for and not durable, in order. The peer calls them 1, 2 and so on.
    pub(crate) pending: VecDeque<Write>,
    /// With a planted bug, so many of them were said to be durable.
    pub(crate) lied: usize,
    pub(crate) tree: Vec<Entry>,
    /// A whole SNAP that is not adopted yet.
    pub(crate) received: Option<Vec<Entry>>,
    pub(crate) serving: Serving,
}

/// The name of the server at an index.
pub(crate) fn id(server: usize) -> ServerId {
    ServerId(server as i64 + 1)
}

/// The server of a name.
pub(crate) fn index(id: ServerId) -> usize {
    usize::try_from(id.0 - 1).expect("a server of the ensemble")
}

/// The one link that a learner has with a leader at a time.
pub(crate) const fn link_id(learner: usize, leader: usize) -> LinkId {
    LinkId((learner * SERVERS + leader) as u64)
}

/// Learner and leader.
pub(crate) fn ends(link: LinkId) -> (usize, usize) {
    let n = usize::try_from(link.0).expect("a link of the model");
    (n / SERVERS, n % SERVERS)
}

static ENSEMBLE: LazyLock<Ensemble> = LazyLock::new(|| {
    let voters = (0..SERVERS).map(id).collect();
    let text = bytes::Bytes::from_static(b"");
    Ensemble::new(0, voters, BTreeSet::new(), QuorumVerifier::Majority, text).expect("three voters")
});

impl Server {
    /// What the disk says, behind a start or restart. Its first step is still to come.
    pub(crate) fn start(server: usize, mut disk: Disk) -> Self {
        disk.recover();
        let durable = Durable {
            accepted: AcceptedEpoch(disk.accepted),
            current: CurrentEpoch(disk.current),
            last_logged: disk.last(),
            recovering: Recovering::No,
        };
        let config = Config { log_diff_permille: Some(0), ..Config::new(id(server)) };
        Self {
            peer: Peer::new(config, ENSEMBLE.clone(), durable),
            part: Part::Settling,
            tree: disk.history.clone(),
            disk,
            pending: VecDeque::new(),
            lied: 0,
            received: None,
            serving: Serving::Nothing,
        }
    }

    /// Steps the peer. A failed assertion is a violation.
    pub(crate) fn step(&mut self, now: u64, input: Input) -> Result<Outputs, Violation> {
        self.call(|peer, out| peer.step(now, input, out))
    }

    pub(crate) fn propose(&mut self, zxid: Zxid, content: u8) -> Result<Outputs, Violation> {
        self.call(|peer, out| peer.propose(0, zxid, Entry { zxid, content }.txn(), out))
    }

    fn call(&mut self, f: impl FnOnce(&mut Peer, &mut Outputs)) -> Result<Outputs, Violation> {
        let peer = &mut self.peer;
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut out = Outputs::default();
            f(peer, &mut out);
            out
        }));
        let out = result.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Violation::new(Rule::Panic, text.unwrap_or_else(|| "no message".into()))
        })?;
        Ok(out)
    }

    /// To be called when all outputs of an action are carried out.
    pub(crate) fn rest(&mut self) {
        self.peer.canonicalize();
        self.part = match self.peer.status().state {
            ServerState::Leading => Part::Leading,
            ServerState::Following | ServerState::Observing => Part::Learning,
            ServerState::Looking if self.peer.next_deadline().is_none() => Part::Settling,
            ServerState::Looking => Part::Looking,
        };
    }
}
