//! The one table of known keys.
//!
//! Names, defaults, ranges and treatment stand here and nowhere else. A row's name is the spelling
//! that works in Apache's file (or, where only a property works there, the property's). A name that
//! ends in `.*` stands for a family.

use Fallback::{Derived, Required, Unset, Value};
use Kind::{Bool, Choice, Host, Int, Opaque, Path, Period, Port, Raised, Real, Text, Word, Words};
use Mark::{Map, Must, Warn};
use Property::{Both, Plain, Prefixed};
use Support::{Alone, Demand, Differs, Ensemble, Ignored, Mapped, NotRunning, Partly, Used};

/// One row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// Documented names that Apache's file parser passes on to a property that nobody reads.
    pub(super) aliases: &'static [&'static str],
    pub(super) property: Property,
    pub(super) kind: Kind,
    pub(super) default: Fallback,
    pub(super) mark: Mark,
    pub(super) support: Support,
}

/// Which Java property sets the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Property {
    /// None: Apache reads the file only.
    None,
    /// `zookeeper.` and the name. Everything that Apache's parser passes on.
    Prefixed,
    /// The name itself, and Apache can't take it from the file.
    Plain,
    /// The name with and without `zookeeper.`.
    Both,
}

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// true, false, yes, no in any case.
    Bool,
    /// yes, no, true, false, of which Apache looks for this word alone (yes and no in this very case): anything else
    /// leaves the default, and must do so here, lest a takeover drop what was in force.
    Word(&'static str),
    /// An integer within bounds.
    Int { min: i64, max: i64 },
    /// An integer; one below `min` is raised to it with a warning.
    Raised { min: i64, max: i64 },
    /// A decimal number within bounds.
    Real { min: f64, max: f64 },
    /// A TCP port; 0 and -1 mean unset.
    Port,
    /// Hours, or a number with a suffix `ms s m h d`; zero or less is off.
    Period,
    /// A path.
    Path,
    /// A host name or address.
    Host,
    /// One of these, in any case.
    Choice(&'static [&'static str]),
    /// A comma list of four-letter words, or `*`.
    Words,
    /// Any text.
    Text,
    /// Not looked at: it belongs to something that isn't running.
    Opaque,
}

/// What counts when nobody sets the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fallback {
    Required,
    Unset,
    Value(&'static str),
    /// Computed; the text says how.
    Derived(&'static str),
}

/// How a server without a JVM treats the key (the marks of the reference).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// M: honoured.
    Must,
    /// A: same outcome by other means.
    Map,
    /// W: accepted, does nothing, one warning.
    Warn,
}

/// What this version does with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Support {
    /// Read by the server.
    Used,
    /// Read by the server. It means more or less than in Apache, which the text says.
    Differs(&'static str),
    /// Read by a server that runs alone. In an ensemble it belongs to this feature, which isn't running yet.
    Alone(&'static str),
    /// Read by the server. In an ensemble something is missing in this version, which the text says.
    Partly(&'static str),
    /// Means something in an ensemble only; silent on a lone server, as in Apache.
    Ensemble,
    /// Accepted; the text says what does the same here.
    Mapped(&'static str),
    /// Means nothing outside a JVM; the text says why.
    Ignored(&'static str),
    /// Belongs to this feature, which isn't running yet.
    NotRunning(&'static str),
    /// Demands security that this feature would give: true refuses the start.
    Demand(&'static str),
}

impl Key {
    const fn new(name: &'static str, kind: Kind, default: Fallback) -> Self {
        Self { name, aliases: &[], property: Prefixed, kind, default, mark: Must, support: Used }
    }

    const fn mark(self, mark: Mark) -> Self {
        Self { mark, ..self }
    }

    const fn support(self, support: Support) -> Self {
        Self { support, ..self }
    }

    const fn file_only(self) -> Self {
        Self { property: Property::None, ..self }
    }

    const fn property(self, property: Property) -> Self {
        Self { property, ..self }
    }

    const fn alias(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    /// The part before `*`, for a family.
    pub(super) fn family(&self) -> Option<&'static str> {
        self.name.strip_suffix('*')
    }

    /// The Java properties that set it (a family's end in `*`).
    pub(super) fn properties(&self) -> Vec<String> {
        let prefixed = || format!("zookeeper.{}", self.name);
        match self.property {
            Property::None => Vec::new(),
            Prefixed => vec![prefixed()],
            Plain => vec![self.name.to_owned()],
            Both => vec![prefixed(), self.name.to_owned()],
        }
    }

    /// Whether the value must not be printed.
    pub(super) fn secret(name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        name.ends_with("password") || name.ends_with("superdigest")
    }
}

/// How a name was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spelling {
    /// A documented name that does nothing in Apache's file.
    Dead,
    /// The name that works.
    Exact,
}

/// The row of `name` as a file spells it, and the spelling.
pub(super) fn find(name: &str) -> Option<(&'static Key, Spelling)> {
    let (bare, prefixed) = match name.strip_prefix("zookeeper.") {
        Some(bare) => (bare, true),
        None => (name, false),
    };
    let exact = |key: &'static Key| {
        let dead = prefixed || key.property == Plain;
        (key, if dead { Spelling::Dead } else { Spelling::Exact })
    };
    if let Some(key) = KEYS.iter().find(|k| k.family().is_none() && k.name == bare) {
        return Some(exact(key));
    }
    if let Some(key) = KEYS.iter().find(|k| k.aliases.contains(&bare)) {
        return Some((key, Spelling::Dead));
    }
    let member = |k: &&Key| k.family().is_some_and(|f| bare.len() > f.len() && bare.starts_with(f));
    KEYS.iter().filter(member).max_by_key(|k| k.name.len()).map(exact)
}

/// The row of the Java property `name`, if Apache (or the reference's rule that both spellings
/// count) reads it.
pub(super) fn find_property(name: &str) -> Option<(&'static Key, Spelling)> {
    let (key, _) = find(name)?;
    let prefixed = name.starts_with("zookeeper.");
    let bare = name.strip_prefix("zookeeper.").unwrap_or(name);
    let own_name = key.family().is_some() || key.name == bare;
    match key.property {
        Property::None => None,
        Both => Some((key, Spelling::Exact)),
        Prefixed if prefixed => Some((key, if own_name { Spelling::Exact } else { Spelling::Dead })),
        // `snapCount` without the prefix is some other program's property.
        Prefixed => None,
        Plain => Some((key, if prefixed { Spelling::Dead } else { Spelling::Exact })),
    }
}

/// Every spelling that a misspelled key could have meant.
pub(super) fn spellings() -> impl Iterator<Item = &'static str> {
    KEYS.iter().flat_map(|k| std::iter::once(k.family().unwrap_or(k.name)).chain(k.aliases.iter().copied()))
}

const INT_MAX: i64 = i32::MAX as i64;
const ANY: Kind = Int { min: 0, max: INT_MAX };
const POSITIVE: Kind = Int { min: 1, max: INT_MAX };
/// -1 is "off" or "default".
const OR_OFF: Kind = Int { min: -1, max: INT_MAX };
const BYTES_OR_OFF: Kind = Int { min: -1, max: i64::MAX / 1024 };
const SHARE: Kind = Real { min: 0.0, max: 1.0 };

const YES: Fallback = Value("true");
const NO: Fallback = Value("false");

const TLS: Support = NotRunning("TLS");
const SASL: Support = NotRunning("SASL");
const ADMIN: Support = NotRunning("the HTTP admin server");
const METRICS: Support = NotRunning("the metrics endpoint");
const LOCAL_SESSIONS: Support = NotRunning("local sessions (every session is known to the whole ensemble)");
const X509: Support = NotRunning("x509 authentication");
const OWN_QUEUE: Support = Mapped("requests wait in their own connection, never in a common queue, and go with it");
const PIPELINE: Support = Mapped("reads and commits of different sessions never wait for each other");
const RESPONSES: Support = Mapped("replies are encoded from the tree, without a cache");
const ADDRESSES: Support = Mapped("whether an address can be reached shows when it is dialled");
const NO_DELAY: Support = Mapped("connections between servers never wait for more to send, whatever is set");
const OBSERVER: Support = Mapped("an observer always writes its log and snapshots, whatever is set");
const TOP_PATHS: Support = NotRunning("path statistics");
const STALLS: Support = NotRunning("the stall monitor");
const CLEANER: Support = Ignored("watches are removed with their connection, not by a cleaner");
const POOL: Support = Ignored("there is no worker pool to wait for");

/// All rows, in the order of the reference; one line each, so that the table reads as one.
#[rustfmt::skip]
pub(super) static KEYS: &[Key] = &[
    // Directories, listeners, basic timing
    Key::new("dataDir", Path, Required).file_only(),
    Key::new("dataLogDir", Path, Derived("dataDir")).file_only(),
    Key::new("clientPort", Port, Unset).file_only(),
    Key::new("clientPortAddress", Host, Unset).file_only(),
    Key::new("secureClientPort", Port, Unset).file_only().support(TLS),
    Key::new("secureClientPortAddress", Host, Unset).file_only().support(TLS),
    Key::new("clientPortListenBacklog", OR_OFF, Value("-1")).file_only(),
    Key::new("observerMasterPort", Port, Unset).file_only().support(NotRunning("the observer master")),
    Key::new("tickTime", POSITIVE, Value("3000")).file_only(),
    Key::new("minSessionTimeout", OR_OFF, Derived("2 × tickTime")).file_only(),
    Key::new("maxSessionTimeout", OR_OFF, Derived("20 × tickTime")).file_only(),
    Key::new("serverCnxnFactory", Text, Unset).mark(Map).support(Mapped("one native listener serves both names")),
    Key::new("clientTcpKeepAlive", Bool, NO),
    Key::new("maxClientCnxns", OR_OFF, Value("60")).file_only(),
    Key::new("maxCnxns", OR_OFF, Value("0")),
    // Ensemble membership and quorum
    Key::new("server.*", Text, Unset).file_only(),
    Key::new("group.*", Text, Unset).file_only(),
    Key::new("weight.*", ANY, Value("1")).file_only(),
    Key::new("peerType", Choice(&["participant", "observer"]), Value("participant")).file_only().support(Ensemble),
    Key::new("dynamicConfigFile", Path, Unset).file_only(),
    Key::new("standaloneEnabled", Bool, YES).file_only(),
    Key::new("reconfigEnabled", Bool, NO).file_only().support(Partly(
        "a Farrier leader begins no reconfigurations in this version; those that a leader of Apache's begins take place",
    )),
    Key::new("electionAlg", Int { min: 3, max: 3 }, Value("3")).file_only().mark(Map).support(Ensemble),
    Key::new("electionPort", Port, Unset).mark(Map).support(Mapped("the port of elections stands in each `server.N` line")),
    Key::new("quorumListenOnAllIPs", Bool, NO).file_only().support(Ensemble),
    Key::new("leaderServes", Word("no"), Value("yes")).support(Ensemble),
    Key::new("multiAddress.enabled", Bool, NO).support(Ensemble),
    Key::new("multiAddress.reachabilityCheckEnabled", Bool, YES).mark(Map).support(ADDRESSES),
    Key::new("multiAddress.reachabilityCheckTimeoutMs", ANY, Value("1000")).mark(Map).support(ADDRESSES),
    Key::new("oraclePath", Path, Unset).file_only().support(NotRunning("the quorum oracle")),
    Key::new("farrier.peers", Choice(&["", "3.9"]), Value("")).file_only().support(Ensemble),
    Key::new("kerberos.canonicalizeHostNames", Bool, NO).support(SASL),
    // Ensemble timing and election
    Key::new("initLimit", POSITIVE, Unset).file_only().support(Ensemble),
    Key::new("syncLimit", POSITIVE, Unset).file_only().support(Ensemble),
    Key::new("connectToLearnerMasterLimit", ANY, Value("0")).file_only().support(Ensemble),
    Key::new("leader.maxTimeToWaitForEpoch", OR_OFF, Value("-1")).alias(&["maxTimeToWaitForEpoch"]).mark(Warn).support(Ignored("who was elected waits for a quorum until initLimit")),
    Key::new("leaderConnectDelayDuringRetryMs", ANY, Value("100")).mark(Warn).support(Ignored("a leader that does not accept yet is dialled every 10 ms")),
    Key::new("cnxTimeout", ANY, Value("5000")).support(Ensemble),
    Key::new("quorumCnxnTimeoutMs", OR_OFF, Value("-1")).support(Ensemble),
    Key::new("fastleader.minNotificationInterval", POSITIVE, Value("200")).mark(Warn).support(Ignored("votes are repeated after 20 ms at first, then less and less often")),
    Key::new("fastleader.maxNotificationInterval", POSITIVE, Value("60000")).support(Ensemble),
    Key::new("electionPortBindRetry", ANY, Value("3")).support(Ensemble),
    Key::new("tcpKeepAlive", Bool, NO).support(Ensemble),
    Key::new("quorum.cnxn.threads.size", ANY, Value("20")).file_only().mark(Warn).support(Ignored("no threads wait for handshakes")),
    Key::new("observer.reconnectDelayMs", ANY, Value("0")).mark(Warn).support(Ignored("pauses before a leader is joined again grow by themselves")),
    Key::new("observer.election.DelayMs", ANY, Value("200")).mark(Warn).support(Ignored("observers ask who leads at once")),
    Key::new("observerMaster.sizeLimit", ANY, Value("33554432")).support(NotRunning("the observer master")),
    Key::new("follower.nodelay", Bool, YES).property(Plain).mark(Map).support(NO_DELAY),
    Key::new("leader.nodelay", Bool, YES).property(Plain).mark(Map).support(NO_DELAY),
    Key::new("leader.ackLoggingFrequency", ANY, Value("1000")).mark(Warn).support(Ignored("acks are not sampled into the log")),
    Key::new("testingonly.initialZxid", Text, Unset).mark(Warn).support(Ignored("a hook of Apache's tests")),
    Key::new("test.allowDiscontinuousProposals", Text, Unset).mark(Warn).support(Ignored("a hook of Apache's tests")),
    // Storage, durability, snapshots, purge
    Key::new("snapCount", Raised { min: 2, max: INT_MAX }, Value("100000")),
    Key::new("snapSizeLimitInKb", BYTES_OR_OFF, Value("4194304")),
    Key::new("txnLogSizeLimitInKb", BYTES_OR_OFF, Value("-1")),
    Key::new("preAllocSize", Int { min: 0, max: 4 << 20 }, Value("65536")).mark(Map).support(Differs("the log rolls at this size too, and each time with several syncs, so a few KiB cost much")),
    Key::new("commitLogCount", Raised { min: 500, max: INT_MAX }, Value("500")).support(Ensemble),
    Key::new("snapshotSizeFactor", Real { min: -1.0, max: 1e9 }, Value("0.33")).support(Ensemble),
    Key::new("forceSync", Word("no"), Value("yes")),
    Key::new("fsync.warningthresholdms", ANY, Value("1000")).property(Both),
    Key::new("flushDelay", ANY, Value("0")),
    Key::new("maxWriteQueuePollTime", ANY, Derived("flushDelay / 3")),
    Key::new("maxBatchSize", POSITIVE, Value("1000")),
    Key::new("snapshot.compression.method", Choice(&["", "gz", "snappy"]), Value("")),
    Key::new("snapshot.trust.empty", Word("true"), NO),
    Key::new("serializeLastProcessedZxid.enabled", Bool, YES),
    Key::new("digest.enabled", Bool, YES),
    Key::new("closeSessionTxn.enabled", Bool, YES),
    Key::new("datadir.autocreate", Bool, YES),
    Key::new("db.autocreate", Bool, YES),
    Key::new("autopurge.snapRetainCount", Raised { min: 3, max: INT_MAX }, Value("3")).file_only(),
    Key::new("autopurge.purgeInterval", Period, Value("1h")).file_only(),
    Key::new("syncEnabled", Bool, YES).file_only().mark(Map).support(OBSERVER),
    Key::new("observer.syncEnabled", Bool, YES).mark(Map).support(OBSERVER),
    Key::new("readonlymode.enabled", Bool, NO).property(Plain).support(Alone("read-only mode, so nothing is served without a quorum")),
    // Learner synchronisation
    Key::new("leader.maxConcurrentSnapSyncs", POSITIVE, Value("10")).alias(&["maxConcurrentSnapSyncs"]).support(Ensemble),
    Key::new("leader.maxConcurrentDiffSyncs", POSITIVE, Value("100")).alias(&["maxConcurrentDiffSyncs"]).support(Ensemble),
    Key::new("forceSnapshotSync", Bool, NO).mark(Map).support(Ensemble),
    Key::new("learner.closeSocketAsync", Bool, NO).property(Both).mark(Warn).support(Ignored("closing a socket never blocks here")),
    Key::new("leader.closeSocketAsync", Bool, NO).property(Both).mark(Warn).support(Ignored("closing a socket never blocks here")),
    Key::new("learner.asyncSending", Bool, NO).property(Both).mark(Warn).support(Ignored("sending never blocks receiving here")),
    Key::new("forward_learner_requests_to_commit_processor_disabled", Bool, NO).mark(Warn).support(Ignored("there is no such pipeline stage")),
    Key::new("follower.skipLearnerRequestToNextProcessor", Bool, NO).mark(Warn).support(Ignored("there is no such pipeline stage")),
    // Limits and throttles
    Key::new("jute.maxbuffer", Int { min: 1024, max: INT_MAX }, Value("1048575")).property(Plain),
    Key::new("jute.maxbuffer.extrasize", Raised { min: 1024, max: INT_MAX }, Derived("jute.maxbuffer")),
    Key::new("globalOutstandingLimit", POSITIVE, Value("1000")),
    Key::new("request_throttle_max_requests", ANY, Value("0")).alias(&["requestThrottleLimit"]),
    Key::new("request_throttle_stall_time", POSITIVE, Value("100")).alias(&["requestThrottleStallTime"]).support(OWN_QUEUE),
    Key::new("request_throttle_drop_stale", Bool, YES).alias(&["requestThrottleDropStale"]).support(OWN_QUEUE),
    Key::new("request_stale_connection_check", Bool, YES).alias(&["requestStaleConnectionCheck"]).support(OWN_QUEUE),
    Key::new("request_stale_latency_check", Bool, NO).alias(&["requestStaleLatencyCheck"]),
    Key::new("request_throttler.shutdownTimeout", ANY, Value("10000")),
    Key::new("throttled_op_wait_time", ANY, Value("0")).alias(&["throttledOpWaitTime"]),
    Key::new("connection_throttle_tokens", ANY, Value("0")).alias(&["connectionMaxTokens"]),
    Key::new("connection_throttle_fill_time", POSITIVE, Value("1")).alias(&["connectionTokenFillTime"]),
    Key::new("connection_throttle_fill_count", ANY, Value("1")).alias(&["connectionTokenFillCount"]),
    Key::new("connection_throttle_freeze_time", OR_OFF, Value("-1")).alias(&["connectionFreezeTime"]),
    Key::new("connection_throttle_drop_increase", SHARE, Value("0.02")).alias(&["connectionDropIncrease"]),
    Key::new("connection_throttle_drop_decrease", SHARE, Value("0.002")).alias(&["connectionDropDecrease"]),
    Key::new("connection_throttle_decrease_ratio", SHARE, Value("0")).alias(&["connectionDecreaseRatio"]),
    Key::new("connection_throttle_weight_enabled", Bool, NO),
    Key::new("connection_throttle_global_session_weight", POSITIVE, Value("3")),
    Key::new("connection_throttle_renew_session_weight", POSITIVE, Value("2")),
    Key::new("connection_throttle_local_session_weight", POSITIVE, Value("1")).support(LOCAL_SESSIONS),
    Key::new("largeRequestThreshold", OR_OFF, Value("-1")),
    Key::new("largeRequestMaxBytes", POSITIVE, Value("104857600")),
    Key::new("netty.server.outstandingHandshake.limit", OR_OFF, Value("-1")).alias(&["outstandingHandshake.limit"]).support(TLS),
    Key::new("netty.server.earlyDropSecureConnectionHandshakes", Bool, NO).support(TLS),
    Key::new("netty.advancedFlowControl.enabled", Bool, NO).alias(&["advancedFlowControlEnabled"]).mark(Warn).support(Ignored("a socket is read only as fast as it is served")),
    Key::new("nio.sessionlessCnxnTimeout", POSITIVE, Value("10000")),
    Key::new("enforceQuota", Bool, NO),
    // Threads, buffers, caches
    Key::new("nio.numSelectorThreads", POSITIVE, Unset).mark(Map),
    Key::new("nio.numWorkerThreads", ANY, Unset).mark(Map),
    Key::new("nio.directBufferBytes", ANY, Value("65536")).mark(Warn).support(Ignored("there are no Java direct buffers")),
    Key::new("nio.shutdownTimeout", ANY, Value("5000")).mark(Warn).support(POOL),
    Key::new("commitProcessor.numWorkerThreads", ANY, Unset).mark(Map).support(PIPELINE),
    Key::new("commitProcessor.maxReadBatchSize", OR_OFF, Value("-1")).mark(Map).support(PIPELINE),
    Key::new("commitProcessor.maxCommitBatchSize", OR_OFF, Value("1")).mark(Map).support(PIPELINE),
    Key::new("commitProcessor.shutdownTimeout", ANY, Value("5000")).mark(Warn).support(POOL),
    Key::new("intBufferStartingSizeBytes", Int { min: 32, max: INT_MAX }, Value("1024")).mark(Warn).support(Ignored("buffers grow as needed")),
    Key::new("maxResponseCacheSize", OR_OFF, Value("400")).mark(Map).support(RESPONSES),
    Key::new("maxGetChildrenResponseCacheSize", OR_OFF, Value("400")).mark(Map).support(RESPONSES),
    Key::new("watchManagerName", Text, Unset).mark(Map).support(Mapped("one native structure serves both names")),
    Key::new("watcherCleanThreadsNum", ANY, Value("2")).mark(Warn).support(CLEANER),
    Key::new("watcherCleanThreshold", ANY, Value("1000")).mark(Warn).support(CLEANER),
    Key::new("watcherCleanIntervalInSeconds", ANY, Value("600")).mark(Warn).support(CLEANER),
    Key::new("maxInProcessingDeadWatchers", OR_OFF, Value("-1")).mark(Warn).support(CLEANER),
    Key::new("bitHashCacheSize", ANY, Value("10")).mark(Warn).support(CLEANER),
    Key::new("pathStats.*", Opaque, Unset).mark(Map).support(TOP_PATHS),
    Key::new("messageTracker.*", Opaque, Unset).support(NotRunning("the message tracker")),
    // Sessions, containers, TTL
    Key::new("localSessionsEnabled", Bool, NO).file_only().support(LOCAL_SESSIONS),
    Key::new("localSessionsUpgradingEnabled", Bool, NO).file_only().support(LOCAL_SESSIONS),
    Key::new("extendedTypesEnabled", Bool, NO),
    Key::new("emulate353TTLNodes", Bool, NO),
    Key::new("znode.container.checkIntervalMs", POSITIVE, Value("60000")).property(Plain),
    Key::new("znode.container.maxPerMinute", POSITIVE, Value("10000")).property(Plain),
    Key::new("znode.container.maxNeverUsedIntervalMs", Int { min: 0, max: i64::MAX / 1000 }, Value("0")).property(Plain),
    // Authentication and authorisation
    Key::new("skipACL", Word("yes"), Value("no")),
    Key::new("enableEagerACLCheck", Bool, NO).mark(Warn).support(Ignored("permissions are checked where a write is proposed, on the leader")),
    Key::new("authProvider.*", Text, Unset).mark(Map),
    Key::new("DigestAuthenticationProvider.enabled", Bool, YES),
    Key::new("DigestAuthenticationProvider.superDigest", Text, Unset),
    Key::new("DigestAuthenticationProvider.digestAlg", Choice(&["SHA1", "SHA-1", "SHA", "SHA-256", "SHA-512", "SHA3-256"]), Value("SHA1")),
    Key::new("IPAuthenticationProvider.usexforwardedfor", Bool, NO).support(ADMIN),
    Key::new("X509AuthenticationProvider.*", Opaque, Unset).support(X509),
    Key::new("superUser", Opaque, Unset).support(SASL),
    Key::new("superUser.*", Opaque, Unset).support(SASL),
    Key::new("SASLAuthenticationProvider.superPassword", Opaque, Unset).support(SASL),
    Key::new("ensembleAuthName", Text, Unset),
    Key::new("sessionRequireClientSASLAuth", Bool, NO).support(Demand("SASL")),
    Key::new("enforce.auth.enabled", Bool, NO),
    Key::new("enforce.auth.schemes", Text, Unset),
    Key::new("allowSaslFailedClients", Bool, NO).support(SASL),
    Key::new("letAnySaslUserDoX", Opaque, Unset).support(SASL),
    // SASL and Kerberos
    Key::new("java.security.auth.login.config", Opaque, Unset).property(Plain).mark(Map).support(SASL),
    Key::new("java.security.krb5.*", Opaque, Unset).property(Plain).mark(Map).support(SASL),
    Key::new("sun.security.jgss.native", Opaque, Unset).property(Plain).mark(Map).support(SASL),
    Key::new("sasl.serverconfig", Opaque, Unset).mark(Map).support(SASL),
    Key::new("kerberos.*", Opaque, Unset).support(SASL),
    Key::new("security.auth_to_local", Opaque, Unset).support(SASL),
    Key::new("requireKerberosConfig", Bool, NO).mark(Map).support(SASL),
    Key::new("kinit", Opaque, Unset).mark(Map).support(SASL),
    Key::new("quorum.auth.enableSasl", Bool, NO).file_only().support(Demand("SASL between servers")),
    Key::new("quorum.auth.learnerRequireSasl", Bool, NO).file_only().support(Demand("SASL between servers")),
    Key::new("quorum.auth.serverRequireSasl", Bool, NO).file_only().support(Demand("SASL between servers")),
    Key::new("quorum.auth.*", Opaque, Unset).file_only().support(SASL),
    Key::new("fips-mode", Bool, YES).support(TLS),
    // TLS settings
    Key::new("sslQuorum", Bool, NO).file_only().support(Demand("TLS between servers")),
    Key::new("portUnification", Bool, NO).file_only().support(TLS),
    Key::new("sslQuorumReloadCertFiles", Bool, NO).file_only().support(TLS),
    Key::new("client.portUnification", Bool, NO).support(TLS),
    Key::new("client.certReload", Bool, NO).support(TLS),
    Key::new("ssl.*", Opaque, Unset).support(TLS),
    Key::new("ssl.sslProvider", Text, Unset).mark(Warn).support(Ignored("there is no Netty")),
    Key::new("ssl.context.supplier.class", Text, Unset).mark(Warn).support(Ignored("Java classes can't be loaded")),
    Key::new("ssl.quorum.context.supplier.class", Text, Unset).mark(Warn).support(Ignored("Java classes can't be loaded")),
    Key::new("jdk.tls.rejectClientInitiatedRenegotiation", Text, Unset).property(Plain).mark(Warn).support(Ignored("there is no renegotiation")),
    // AdminServer and four-letter words
    Key::new("4lw.commands.whitelist", Words, Value("srvr")),
    Key::new("admin.*", Opaque, Unset).support(ADMIN),
    Key::new("admin.enableServer", Bool, NO).support(ADMIN),
    // Metrics, audit, logging, JVM
    Key::new("metricsProvider.*", Opaque, Unset).support(METRICS),
    Key::new("audit.enable", Bool, NO).support(NotRunning("the audit log")),
    Key::new("audit.impl.class", Text, Unset).mark(Warn).support(Ignored("Java classes can't be loaded")),
    Key::new("jvm.pause.*", Opaque, Unset).file_only().mark(Map).support(STALLS),
    Key::new("log.*", Opaque, Unset).mark(Map).support(Mapped("logs go to standard error; see --log-level and --log-format")),
    Key::new("console.threshold", Opaque, Unset).mark(Map).support(Mapped("see --log-level")),
    Key::new("tracelog.*", Opaque, Unset).mark(Warn).support(Ignored("it belongs to Java's logging")),
    Key::new("auditlog.*", Opaque, Unset).mark(Warn).support(Ignored("it belongs to Java's logging")),
    Key::new("root.logger", Opaque, Unset).mark(Warn).support(Ignored("it belongs to Java's logging")),
    Key::new("logback.configurationFile", Opaque, Unset).property(Plain).mark(Warn).support(Ignored("it belongs to Java's logging")),
    Key::new("log4j.*", Opaque, Unset).property(Plain).mark(Warn).support(Ignored("it belongs to Java's logging")),
    Key::new("jmx.log4j.*", Opaque, Unset).mark(Warn).support(Ignored("there is no JMX")),
    Key::new("com.sun.management.*", Opaque, Unset).property(Plain).mark(Warn).support(Ignored("there is no JMX")),
];
