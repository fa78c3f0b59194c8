//! Mistakes to be found. They exist only in builds with `--cfg farrier_planted`, which are never released: there the
//! simulator switches on one at a time, and has to catch it. So every checker shows that it works.
//!
//! A planted bug mutates the line of the product that keeps the rule: `if planted!(AckBeforeSync) { … }`. In every
//! other build the macro is the constant `false`, and nothing of this module is compiled.

/// Whether this mistake is made. The constant `false`, except in builds with `--cfg farrier_planted`.
#[cfg(not(farrier_planted))]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

/// Whether this mistake is made.
#[cfg(farrier_planted)]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::Bug::$bug.is_active()
    };
}

/// Text by which a binary with planted bugs is told from one without.
#[cfg(farrier_planted)]
pub const MARKER: &str = "farrier-planted-bugs-inside";

#[cfg(farrier_planted)]
pub use bugs::{Bug, activate};

#[cfg(farrier_planted)]
mod bugs {
    use core::sync::atomic::{AtomicUsize, Ordering};

    /// Number in [`Bug::ALL`] of the active one, plus one; 0 for none.
    static ACTIVE: AtomicUsize = AtomicUsize::new(0);

    /// Makes this mistake from now on, everywhere in the process, or none.
    pub fn activate(bug: Option<Bug>) {
        ACTIVE.store(bug.map_or(0, |bug| bug as usize + 1), Ordering::Relaxed);
    }

    macro_rules! bugs {
        ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
            /// A mistake.
            #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
            pub enum Bug {
                $($(#[doc = $doc])+ $name,)+
            }

            impl Bug {
                /// All of them.
                pub const ALL: &[Self] = &[$(Self::$name,)+];

                /// Its name, as in the source.
                #[must_use]
                pub const fn name(self) -> &'static str {
                    match self {
                        $(Self::$name => stringify!($name),)+
                    }
                }

                /// What is done wrong, and which rule or known bug that is.
                #[must_use]
                pub const fn description(self) -> &'static str {
                    match self {
                        $(Self::$name => concat!($($doc),+),)+
                    }
                }
            }
        };
    }

    bugs! {
        // ---- zab ----
        /// A follower acknowledges a proposal before its log write is durable (safety contract 1.1).
        AckBeforeSync,
        /// A leader counts its own copy of a proposal before it is durable (safety contract 1.1).
        OwnCopyBeforeSync,
        /// ACKEPOCH leaves before acceptedEpoch is durable (safety contract 1.3).
        PromiseBeforeSync,
        /// A leader offers an epoch that it has not durably promised itself (ZOOKEEPER-1282).
        OfferBeforeOwnPromise,
        /// NEWLEADER is acknowledged before the synchronized history is durable (ZOOKEEPER-3911, 4646).
        NewLeaderAckBeforeHistory,
        /// currentEpoch is written before the synchronized history (ZOOKEEPER-4643, 4785).
        EpochBeforeHistory,
        /// A server that may have forgotten what it acknowledged votes (safety contract 3).
        ForgetfulServerVotes,
        /// A leader ignores that a follower's ACKEPOCH shows a fresher history (safety contract 5.3).
        FresherFollowerIgnored,
        /// The epoch is established once it is promised, before a quorum has the history.
        EstablishedOnPromises,
        /// One voter less than a majority counts as a quorum.
        HalfIsAQuorum,
        /// Promises and acknowledgements of observers count for an epoch and its history (ZOOKEEPER-2959).
        ObserversCount,
        /// UPTODATE is taken for a commit of everything that is logged, proposals in flight included (ZOOKEEPER-1367).
        UpToDateCommitsAll,
        /// A COMMIT that stands for a run of proposals delivers everything that is logged, beyond the run as well.
        CommitDeliversAll,
        /// A COMMIT that stands for a run of proposals goes up to the last one that was sent, whoever has it.
        CommitOfWhatWasSent,
        /// What is proposed between NEWLEADER and UPTODATE is not sent to that follower (first ambiguity of the specification).
        ProposalsWhileSyncingLost,
        /// A follower between NEWLEADER and UPTODATE is not sent the commits of that time (third ambiguity of the specification).
        CommitsWhileSyncingLost,
        /// A learner whose last transaction is not in the leader's history gets a DIFF all the same.
        ForeignTailKept,
        /// Votes are compared by server id only: the shorter log may win.
        VoteIgnoresHistory,
        /// A sync is answered without asking a quorum (safety contract 5.1).
        SyncUnconfirmed,
        /// A server votes while what its vote quotes is on its way to the disk (safety contract 1.1).
        VoteBeforeSync,
        /// A leader is established before its own currentEpoch is durable (safety contract 1.3).
        EstablishedBeforeOwnEpoch,
        /// A vote quotes what is applied, and what is only logged is not applied before it (ZOOKEEPER-2845).
        LoggedTailNotReplayed,
        /// A fresh directory has a vote although others know an epoch (safety contract 3).
        FreshDirectoryVotes,
        /// A server that may have forgotten offers its history, and is counted (safety contract 3).
        ForgetfulHistoryOffered,
        /// A leader's state whose installation never began stays in memory when its link is lost (ZOOKEEPER-2872).
        UninstalledStateKept,
        /// What left the window of transactions is still believed to be in it (safety contract 4.4, ZOOKEEPER-4925).
        WindowHasAGap,
        /// A difference commits what is only proposed (safety contract 4.4, ZOOKEEPER-1367).
        UncommittedSentAsCommitted,
        /// NEWLEADER goes out without the history that it completes (ZOOKEEPER-3104).
        NewLeaderBeforeHistory,
        /// SYNC goes out before the commits that precede it (safety contract 5.1).
        SyncOvertakesCommits,
        /// A sync is confirmed by the acknowledgement of a proposal that was sent before it (safety contract 5.1).
        SyncConfirmedByOldAck,
        /// A follower goes on to answer with the epoch of before its leader was established (ZOOKEEPER-1732, 1805).
        FollowerKeepsOldVote,
        // ---- storage ----
        /// A commit of the log is reported without a sync.
        LogNotSynced,
        /// Records read back past the mark are not written again at a start (safety contract 1.2).
        ReplayedNotRewritten,
        /// The name of a new log segment is not made durable (safety contract 1.5).
        SegmentNameNotSynced,
        /// The mark is written before the log is synced (safety contract 2).
        MarkBeforeSync,
        /// A torn tail is left in the log at a start.
        TornTailKept,
        /// Older logs and snapshots go without a durable intent (safety contract 4.1, ZOOKEEPER-2872).
        InstallWithoutIntent,
        /// Older logs stay when a leader's snapshot is installed.
        OldLogsSurviveInstall,
        /// Snapshots newer than the cut stay when the log is truncated (ZOOKEEPER-1549).
        NewerSnapshotSurvivesCut,
        /// TRUNC leaves one record behind the cut.
        TruncKeepsARecord,
        /// A snapshot gets its name before it is synced (safety contract 4.1, ZOOKEEPER-3644).
        SnapshotNotSynced,
        /// A failed sync of the log is tried again, and the second answer believed (safety contract 1.4).
        FailedSyncRetried,
        /// Epoch files are renamed before they are synced.
        EpochFileNotSynced,
        /// A difference from the disk reaches below the last installed snapshot (safety contract 4.3).
        DiffBelowFloor,
        /// Where the log ends before the snapshot, a mark in force is the floor of differences, and what comes behind the
        /// snapshot looks as if it followed the log's end (safety contract 4.3).
        DiffAcrossSnapshot,
        /// currentEpoch is written while the installed snapshot has no name yet.
        EpochBeforeInstall,
        /// A start makes no directory durable (safety contract 1.2).
        StartSyncsNoDirectory,
        /// The new name of an epoch file or an intent is not made durable (safety contract 1.5).
        SmallFileNameNotSynced,
        /// A failed write is forgotten: the server goes on behind it (safety contract 1.4, ZOOKEEPER-3701).
        FailedWriteForgotten,
        /// Damage below the mark is cut off as a torn tail (safety contract 2).
        DamageIsATornTail,
        /// A torn tail with good records in it counts as damage (safety contract 2).
        TornTailIsDamage,
        /// Damaged files are moved aside before it is durable that the server may have forgotten (safety contract 3).
        AsideBeforeRecovering,
        /// A server counts as whole again before its leader's state is on disk (safety contract 3).
        RecoveringClearedEarly,
        /// A start does not finish an installation (safety contract 4.1, ZOOKEEPER-2872).
        IntentIgnored,
        /// The segment that is cut is not synced (safety contract 4.2).
        CutNotSynced,
        /// A start replays the log past a gap (safety contract 4.5).
        GapReplayed,
        /// The checksums of the log are not compared (safety contract 2).
        DamagedRecordReplayed,
        /// The checksums of a snapshot are not compared (safety contract 4.6, ZOOKEEPER-2325).
        DamagedSnapshotLoaded,
        /// What a purge removes may survive in any combination (safety contract 1.5).
        PurgeNotSynced,
        // ---- tree ----
        /// One ephemeral of a closed session stays.
        EphemeralSurvivesSession,
        /// The suffix of a sequential znode comes from the number of children.
        SequenceFromChildCount,
        /// Versions are checked against what is committed, not against what is proposed.
        VersionOfCommittedState,
        /// A multi that failed leaves the effects of its first operations pending.
        MultiNotRolledBack,
        /// An operation of a multi that checks a version checks only whether there is one.
        MultiCheckIgnored,
        /// A container that has never had a child counts as one that lost its last.
        UnusedContainerSwept,
        /// A one-shot watch stays after it fired.
        WatchFiresTwice,
        /// A snapshot misses the sessions of its state.
        SnapshotWithoutSessions,
        /// An image that is gathered while the tree changes shows what its znodes hold since then (safety contract 4.6).
        GatheredAsItIsNow,
        /// A transaction that a fuzzy snapshot holds takes its parent back (safety contract 4.6, ZOOKEEPER-3125, 3249).
        ReplayNotIdempotent,
        /// The counter for sequential znodes begins anew with a restart.
        SequenceForgottenAtRestart,
        // ---- replica ----
        /// An epoch, a cut or a snapshot gets to the disk before what was appended before it (safety contract 1.3).
        CommandsBeforeAppends,
        /// The reply to a write precedes the events of watches on it.
        WatchAfterReply,
        /// A read does not wait for an unfinished write of its session.
        ReadPassesOwnWrite,
        /// A client that has seen more than this server has is let in.
        ClientAheadLetIn,
        /// Requests are taken from a connection whose session has moved on (ZOOKEEPER-2926).
        MovedSessionServed,
        /// A learner does not tell its leader which sessions it heard of.
        TouchesNotPassedOn,
        /// A session that a leader does not know is refused before a quorum confirmed that it still leads.
        UnknownSessionRefused,
        /// Sessions expire right after a pause, before their pings are heard (safety contract 5.2).
        ExpiryRightAfterPause,
        /// What changed while a client was away does not fire its watches.
        RewatchMissesChanges,
        /// A watch that is left anew by setWatches is not armed.
        RewatchNotArmed,
        /// A snapshot is taken before what is logged is known to be committed (safety contract 4.6, ZOOKEEPER-1549).
        SnapshotOfUncommitted,
        /// Ephemerals stay where the end of their session comes with a synchronization (ZOOKEEPER-2355).
        EphemeralSurvivesDiff,
        /// An older connection of a session stays while the leader is asked for the session again (ZOOKEEPER-2926).
        SessionMovedTwice,
        /// A session's requests do not wait for what it wrote on an earlier connection.
        SessionOrderLost,
        /// A learner does not know the createTTL of its client again, which waits for the answer.
        TtlAnswerLost,
        /// Behind a pause, sessions do not expire any more.
        NoExpiryAfterPause,
        /// A session that comes to another server belongs to its first one still, and writes there are refused.
        SessionStaysBehind,
    }

    impl Bug {
        /// Whether it is the active one.
        #[must_use]
        pub fn is_active(self) -> bool {
            // Wherever a mistake can be made, the text is in the binary.
            core::hint::black_box(super::MARKER);
            ACTIVE.load(Ordering::Relaxed) == self as usize + 1
        }
    }
}
