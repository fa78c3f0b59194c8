//! The members of an ensemble, and which of them together are a quorum.

use bytes::Bytes;
use core::fmt;
use farrier_proto::ServerId;
use farrier_proto::membership::{MemberList, Role};
use std::collections::{BTreeMap, BTreeSet};

/// Who the members are. Immutable; a reconfiguration makes another.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Ensemble {
    version: u64,
    voters: BTreeSet<ServerId>,
    observers: BTreeSet<ServerId>,
    verifier: QuorumVerifier,
    text: Bytes,
    /// Logged, and not known to be in force.
    pending: Option<Box<Self>>,
}

/// What a quorum is. Any two quorums share a server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum QuorumVerifier {
    /// More than half of the voters.
    Majority,
    /// More than half of the weight in more than half of the groups. Groups without weight do not count.
    Hierarchical {
        /// Members of each group.
        groups: BTreeMap<i64, BTreeSet<ServerId>>,
        /// Weights; 1 for those that are not named.
        weights: BTreeMap<ServerId, u64>,
    },
}

/// Why a list of members makes no ensemble.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EnsembleError {
    /// Nobody votes.
    NoVoter,
    /// With groups every voter belongs to one.
    VoterWithoutGroup(ServerId),
    /// It belongs to more than one group.
    InTwoGroups(ServerId),
    /// A group names somebody who is no voter.
    NotAVoter {
        /// The group.
        group: i64,
        /// Who.
        server: ServerId,
    },
    /// No group has any weight.
    NoWeight,
}

impl fmt::Display for EnsembleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVoter => f.write_str("no listed server votes"),
            Self::VoterWithoutGroup(id) => write!(f, "server {id} votes and stands in no group"),
            Self::InTwoGroups(id) => write!(f, "server {id} stands in two groups"),
            Self::NotAVoter { group, server } => write!(f, "group.{group} names server {server}, which doesn't vote"),
            Self::NoWeight => f.write_str("no group has any weight, so there could never be a quorum"),
        }
    }
}

impl Ensemble {
    /// Members with their rule for quorums. `text` is what Apache calls the configuration's string: the lines
    /// `server.N=…`, groups, weights, `version=…`; it goes into notifications and NEWLEADER as it is.
    ///
    /// # Errors
    /// [`EnsembleError`]: what is missing, or contradicts itself.
    pub fn new(
        version: u64,
        voters: BTreeSet<ServerId>,
        observers: BTreeSet<ServerId>,
        verifier: QuorumVerifier,
        text: Bytes,
    ) -> Result<Self, EnsembleError> {
        if voters.is_empty() {
            return Err(EnsembleError::NoVoter);
        }
        if let QuorumVerifier::Hierarchical { groups, .. } = &verifier {
            let mut grouped = BTreeSet::new();
            for (group, members) in groups {
                for server in members {
                    if !voters.contains(server) {
                        return Err(EnsembleError::NotAVoter { group: *group, server: *server });
                    }
                    if !grouped.insert(*server) {
                        return Err(EnsembleError::InTwoGroups(*server));
                    }
                }
            }
            if let Some(alone) = voters.difference(&grouped).next() {
                return Err(EnsembleError::VoterWithoutGroup(*alone));
            }
        }
        let ensemble = Self { version, voters, observers, verifier, text, pending: None };
        if ensemble.is_quorum(&ensemble.voters) { Ok(ensemble) } else { Err(EnsembleError::NoWeight) }
    }

    /// The members that a list names.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub fn of(list: &MemberList) -> Result<Self, EnsembleError> {
        let with = |role| list.members.iter().filter(move |(_, m)| m.role == role).map(|(id, _)| ServerId(*id));
        let voters: BTreeSet<_> = with(Role::Participant).collect();
        let verifier = if list.groups.is_empty() {
            QuorumVerifier::Majority
        } else {
            let voting = |ids: &Vec<i64>| ids.iter().map(|id| ServerId(*id)).filter(|id| voters.contains(id)).collect();
            QuorumVerifier::Hierarchical {
                groups: list.groups.iter().map(|(group, ids)| (*group, voting(ids))).collect(),
                weights: list.weights.iter().map(|(id, weight)| (ServerId(*id), *weight)).collect(),
            }
        };
        Self::new(list.version, voters, with(Role::Observer).collect(), verifier, list.text().into())
    }

    /// The same with a configuration that is logged and may be in force elsewhere, or come into force: whatever
    /// needs a quorum needs one of each until it is known.
    #[must_use]
    pub fn with_pending(self, pending: Option<Self>) -> Self {
        let pending = pending.filter(|p| p.version > self.version).map(Box::new);
        Self { pending, ..self }
    }

    /// The configuration that is logged and not known to be in force.
    #[must_use]
    pub fn pending(&self) -> Option<&Self> {
        self.pending.as_deref()
    }

    /// Version of the configuration: the zxid of the reconfiguration that made it, or 0.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The configuration as text.
    #[must_use]
    pub const fn text(&self) -> &Bytes {
        &self.text
    }

    /// Who votes.
    #[must_use]
    pub const fn voters(&self) -> &BTreeSet<ServerId> {
        &self.voters
    }

    /// Whose votes are wanted: also of those who vote in what is pending.
    pub fn electors(&self) -> impl Iterator<Item = ServerId> {
        let pending = self.pending.iter().flat_map(|p| p.voters.difference(&self.voters));
        self.voters.iter().chain(pending).copied()
    }

    /// Whether a server votes, or is to vote by what is pending and does not observe now.
    #[must_use]
    pub fn is_voter(&self, server: ServerId) -> bool {
        let soon = || !self.is_observer(server) && self.pending.as_ref().is_some_and(|p| p.voters.contains(&server));
        self.voters.contains(&server) || soon()
    }

    /// Whether a server can be elected by all others: it votes by what is in force, with some weight. Apache's servers
    /// cannot dial a leader that votes only by what is pending.
    #[must_use]
    pub fn may_lead(&self, server: ServerId) -> bool {
        self.voters.contains(&server) && self.weight(server) > 0
    }

    /// Whether a server is listed as one that learns without a vote.
    #[must_use]
    pub fn is_observer(&self, server: ServerId) -> bool {
        self.observers.contains(&server)
    }

    /// Whether these servers are a quorum. Servers that do not vote do not count.
    #[must_use]
    pub fn is_quorum(&self, servers: &BTreeSet<ServerId>) -> bool {
        if self.pending.as_ref().is_some_and(|p| !p.is_quorum(servers)) {
            return false;
        }
        match &self.verifier {
            QuorumVerifier::Majority => {
                let counted = if farrier_proto::planted!(ObserversCount) {
                    servers.len()
                } else {
                    servers.intersection(&self.voters).count()
                };
                2 * counted + 2 * usize::from(farrier_proto::planted!(HalfIsAQuorum)) > self.voters.len()
            }
            QuorumVerifier::Hierarchical { groups, .. } => {
                let mut counted = 0;
                let mut won = 0;
                for members in groups.values() {
                    // Wide, since weights are whatever the file says.
                    let weight = |m: &BTreeSet<ServerId>| m.iter().map(|s| u128::from(self.weight(*s))).sum::<u128>();
                    let whole = weight(members);
                    counted += usize::from(whole > 0);
                    won += usize::from(2 * weight(&(members & servers)) > whole);
                }
                2 * won > counted
            }
        }
    }

    /// Weight of a server; one of weight 0 never leads.
    #[must_use]
    pub fn weight(&self, server: ServerId) -> u64 {
        match &self.verifier {
            _ if !self.is_voter(server) => 0,
            QuorumVerifier::Majority => 1,
            QuorumVerifier::Hierarchical { weights, .. } => weights.get(&server).copied().unwrap_or(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(numbers: impl IntoIterator<Item = i64>) -> BTreeSet<ServerId> {
        numbers.into_iter().map(ServerId).collect()
    }

    fn hierarchical(groups: &[(i64, &[i64])], weights: &[(i64, u64)]) -> QuorumVerifier {
        QuorumVerifier::Hierarchical {
            groups: groups.iter().map(|(g, members)| (*g, ids(members.iter().copied()))).collect(),
            weights: weights.iter().map(|(s, w)| (ServerId(*s), *w)).collect(),
        }
    }

    fn ensemble(voters: i64, verifier: QuorumVerifier) -> Result<Ensemble, EnsembleError> {
        Ensemble::new(0, ids(1..=voters), ids([90]), verifier, Bytes::new())
    }

    #[test]
    fn a_majority_of_voters() {
        let four = ensemble(4, QuorumVerifier::Majority).unwrap();
        assert!(!four.is_quorum(&ids([1, 2])));
        assert!(four.is_quorum(&ids([1, 2, 4])));
        assert!(!four.is_quorum(&ids([1, 2, 90, 91])), "others do not count");
        assert_eq!((four.weight(ServerId(1)), four.weight(ServerId(90))), (1, 0));
    }

    #[test]
    fn more_than_half_of_more_than_half_of_the_groups() {
        let nine = ensemble(9, hierarchical(&[(1, &[1, 2, 3]), (2, &[4, 5, 6]), (3, &[7, 8, 9])], &[])).unwrap();
        assert!(nine.is_quorum(&ids([1, 2, 4, 5])));
        assert!(!nine.is_quorum(&ids([1, 2, 3, 4, 7])), "one whole group and one of each other");
        assert!(!nine.is_quorum(&ids([])));
    }

    #[test]
    fn groups_without_weight_are_left_out() {
        let verifier = hierarchical(&[(1, &[1, 2, 3]), (2, &[4, 5])], &[(4, 0), (5, 0)]);
        let five = ensemble(5, verifier).unwrap();
        assert!(five.is_quorum(&ids([1, 2])), "one group counts");
        assert!(!five.is_quorum(&ids([1, 4, 5])));
        assert_eq!((five.weight(ServerId(4)), five.weight(ServerId(3))), (0, 1));
    }

    #[test]
    fn weights_beyond_any_sum() {
        let verifier = hierarchical(&[(1, &[1, 2, 3])], &[(1, u64::MAX), (2, u64::MAX), (3, u64::MAX)]);
        let three = ensemble(3, verifier).unwrap();
        assert!(three.is_quorum(&ids([1, 3])) && !three.is_quorum(&ids([2])));
    }

    #[test]
    fn with_something_pending_both_quorums_count() {
        let list = |version, voters: &[i64]| {
            let lines: String = voters.iter().map(|v| format!("server.{v}=a:1:2:participant\n")).collect();
            Ensemble::of(&MemberList::parse(format!("{lines}version={version:x}").as_bytes()).unwrap()).unwrap()
        };
        let both = list(1, &[1, 2, 3]).with_pending(Some(list(2, &[3, 4, 5])));
        assert!(!both.is_quorum(&ids([1, 2])) && !both.is_quorum(&ids([3, 4, 5])));
        assert!(both.is_quorum(&ids([1, 3, 4])) && both.is_voter(ServerId(5)));
        assert_eq!(both.electors().collect::<BTreeSet<_>>(), ids(1..=5));
        assert_eq!(both.voters().len(), 3);
        let stale = list(2, &[1, 2, 3]).with_pending(Some(list(2, &[4])));
        assert_eq!(stale.pending(), None, "only what is newer can be pending");
    }

    #[test]
    fn what_makes_no_ensemble() {
        let refused = |voters, verifier| ensemble(voters, verifier).unwrap_err();
        assert_eq!(refused(0, QuorumVerifier::Majority), EnsembleError::NoVoter);
        assert_eq!(refused(3, hierarchical(&[(1, &[1, 2])], &[])), EnsembleError::VoterWithoutGroup(ServerId(3)));
        assert_eq!(refused(2, hierarchical(&[(1, &[1, 2]), (2, &[2])], &[])), EnsembleError::InTwoGroups(ServerId(2)));
        let stranger = EnsembleError::NotAVoter { group: 1, server: ServerId(90) };
        assert_eq!(refused(2, hierarchical(&[(1, &[1, 2, 90])], &[])), stranger);
        assert_eq!(refused(2, hierarchical(&[(1, &[1, 2])], &[(1, 0), (2, 0)])), EnsembleError::NoWeight);
    }

    /// Its definition word by word, with Apache's halves that are rounded down.
    fn naive(group_of: &[usize], weights: &[u64], set: &[bool]) -> bool {
        let mut groups = 0;
        let mut won = 0;
        for group in 0..4 {
            let members = || (0..group_of.len()).filter(move |s| group_of[*s] == group);
            let whole: u64 = members().map(|s| weights[s]).sum();
            let sum: u64 = members().filter(|s| set[*s]).map(|s| weights[s]).sum();
            if whole > 0 {
                groups += 1;
                won += u32::from(sum > whole / 2);
            }
        }
        won > groups / 2
    }

    fn members() -> impl Strategy<Value = (Vec<usize>, Vec<u64>, Vec<bool>, Vec<bool>)> {
        (1..9_usize).prop_flat_map(|n| {
            let bools = || proptest::collection::vec(any::<bool>(), n);
            (proptest::collection::vec(0..4_usize, n), proptest::collection::vec(0..5_u64, n), bools(), bools())
        })
    }

    proptest! {
        #[test]
        fn quorums_are_those_of_the_dumb_twin((group_of, weights, one, other) in members()) {
            let sid = |s: usize| ServerId(s as i64);
            let set = |chosen: &[bool]| (0..chosen.len()).filter(|s| chosen[*s]).map(sid).collect::<BTreeSet<_>>();
            let voters = set(&vec![true; group_of.len()]);
            let mut groups: BTreeMap<i64, BTreeSet<ServerId>> = BTreeMap::new();
            for (s, group) in group_of.iter().enumerate() {
                groups.entry(*group as i64).or_default().insert(sid(s));
            }
            let weighed = weights.iter().enumerate().map(|(s, w)| (sid(s), *w)).collect();
            let verifier = QuorumVerifier::Hierarchical { groups, weights: weighed };
            let made = Ensemble::new(0, voters.clone(), BTreeSet::new(), verifier, Bytes::new());
            let Ok(hierarchical) = made else {
                prop_assert!(weights.iter().all(|w| *w == 0), "{:?}", made);
                return Ok(());
            };
            let majority =
                Ensemble::new(0, voters.clone(), BTreeSet::new(), QuorumVerifier::Majority, Bytes::new()).unwrap();
            let half = voters.len() / 2;
            for chosen in [&one, &other] {
                let mut servers = set(chosen);
                let expected = naive(&group_of, &weights, chosen);
                prop_assert_eq!(majority.is_quorum(&servers), servers.len() > half);
                servers.insert(ServerId(77));
                prop_assert_eq!(hierarchical.is_quorum(&servers), expected);
            }
            for ensemble in [&hierarchical, &majority] {
                if ensemble.is_quorum(&set(&one)) && ensemble.is_quorum(&set(&other)) {
                    prop_assert!(!set(&one).is_disjoint(&set(&other)), "two quorums share a server");
                }
            }
        }
    }
}
