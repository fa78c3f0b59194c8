//! The configuration of one server after everything was checked: what the rest of the program may
//! rely on without asking again.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::ensemble::EnsembleConfig;

/// Everything that the operator decides about one server.
///
/// Built by [`super::load()`], [`super::from_arguments`] or [`ServerConfig::standalone`], never by
/// hand from unchecked text: every field is within its documented bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// `dataDir` as written: the directory that holds `myid` and `version-2`, where snapshots are.
    pub data_dir: PathBuf,
    /// `dataLogDir`, or `data_dir` if absent: the directory whose `version-2` holds the logs.
    pub data_log_dir: PathBuf,
    /// The file that this came from; `None` for arguments and for servers that a program starts.
    pub config_file: Option<PathBuf>,
    /// The client port and what connections may cost.
    pub client: ClientListener,
    /// `tickTime` in milliseconds, at least 1.
    pub tick_time_ms: i32,
    /// `minSessionTimeout` in milliseconds, at least 1 and at most `max_session_timeout_ms`.
    pub min_session_timeout_ms: i32,
    /// `maxSessionTimeout` in milliseconds.
    pub max_session_timeout_ms: i32,
    /// `reconfigEnabled`: decides which error reconfig gets on a lone server.
    pub reconfig_enabled: bool,
    /// `readonlymode.enabled`: a lone server is never read-only, but `isro` is whitelisted by it.
    pub read_only_mode: bool,
    /// Log, snapshots and purge.
    pub storage: StorageSettings,
    /// Sizes and counts of requests.
    pub limits: RequestLimits,
    /// The request throttler.
    pub request_throttle: RequestThrottle,
    /// The token bucket for new sessions.
    pub connection_throttle: ConnectionThrottle,
    /// What the tree allows.
    pub tree: TreeSettings,
    /// The sweep for empty containers and expired TTL nodes.
    pub sweep: SweepSettings,
    /// Identities and permissions.
    pub auth: AuthSettings,
    /// Which four-letter words are answered.
    pub words: FourLetterWords,
    /// Network workers: `None` leaves the number to the server, otherwise at least 1.
    pub workers: Option<usize>,
    /// The ensemble that the file describes; `None` runs standalone.
    pub ensemble: Option<EnsembleConfig>,
    /// Where connections to other servers really go, by the address that is meant. Never from a file: a program
    /// that runs several servers can put something of its own in between.
    pub detours: Arc<BTreeMap<SocketAddr, SocketAddr>>,
}

/// The plaintext listener for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientListener {
    /// Address to bind; `None` is every address of the machine, IPv6 and IPv4.
    pub address: Option<IpAddr>,
    /// `clientPort`. 0 (any free port) only when a program asks for it, never from a file.
    pub port: u16,
    /// `clientPortListenBacklog`; `None` is the platform's choice.
    pub backlog: Option<u32>,
    /// `clientTcpKeepAlive`: SO_KEEPALIVE on accepted sockets.
    pub tcp_keep_alive: bool,
    /// `maxClientCnxns`: connections from one address; 0 = no limit.
    pub max_per_address: u32,
    /// `maxCnxns`: connections in total; 0 = no limit.
    pub max_total: u32,
    /// `nio.sessionlessCnxnTimeout`: a socket without a session that idles this long is closed.
    pub sessionless_timeout: Duration,
}

/// How snapshots are compressed when written. All forms are read regardless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotCompression {
    /// Uncompressed, no suffix.
    None,
    /// `gz`.
    Gzip,
    /// `snappy`.
    Snappy,
}

/// Log, snapshots and purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageSettings {
    /// `snapCount`: transactions after which a snapshot is taken at the latest; at least 2.
    pub snap_count: u32,
    /// `snapSizeLimitInKb` in bytes: bytes logged after which a snapshot is taken at the latest.
    pub snap_size_limit: Option<u64>,
    /// `txnLogSizeLimitInKb` in bytes: the log rolls at this size.
    pub txn_log_size_limit: Option<u64>,
    /// `preAllocSize` in bytes: segments of the log are prepared in this size, and the log rolls at it. Apache's files
    /// grow in blocks of it, and roll with snapshots alone. Zero prepares nothing.
    pub preallocate: u64,
    /// `forceSync`: sync before acknowledging. False loses acknowledged writes in a power cut.
    pub force_sync: bool,
    /// `fsync.warningthresholdms`: a sync that takes longer is logged.
    pub fsync_warning: Duration,
    /// `flushDelay`: how long a write may wait for others to share its sync; zero = not at all.
    pub flush_delay: Duration,
    /// `maxWriteQueuePollTime`: with a flush delay, an idle queue is flushed after this long.
    pub write_queue_poll: Duration,
    /// `maxBatchSize`: transactions that share one sync at most; at least 1.
    pub max_batch: u32,
    /// `snapshot.compression.method`.
    pub snapshot_compression: SnapshotCompression,
    /// `snapshot.trust.empty`: start from logs without a snapshot.
    pub trust_empty_snapshot: bool,
    /// `datadir.autocreate`: missing directories are made; otherwise exit code 3.
    pub datadir_autocreate: bool,
    /// `db.autocreate`: an empty directory is a new database; otherwise it needs an `initialize` file.
    pub db_autocreate: bool,
    /// `closeSessionTxn.enabled`: the transaction that closes a session lists its ephemerals.
    pub close_session_txn: bool,
    /// `serializeLastProcessedZxid.enabled`: snapshots carry the last zxid.
    pub serialize_last_zxid: bool,
    /// `autopurge.*`; `None` = off.
    pub purge: Option<PurgeSettings>,
}

/// Removal of old snapshots and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeSettings {
    /// `autopurge.purgeInterval`, at least 1 ms: time between two runs and before the first.
    pub interval: Duration,
    /// The file asks for purging. Otherwise it is on by default, and spares what was there before
    /// Farrier until enough snapshots are its own.
    pub explicit: bool,
    /// `autopurge.snapRetainCount`: valid snapshots that stay; at least 3.
    pub retain: u32,
}

/// Sizes and counts of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// `jute.maxbuffer`: largest client frame in bytes.
    pub jute_max_buffer: usize,
    /// `jute.maxbuffer.extrasize`: room for what the server adds, in bytes; at least 1024.
    pub jute_extra_size: usize,
    /// `globalOutstandingLimit`: requests in the server before connections stop being read; at least 1.
    pub global_outstanding: u32,
    /// `largeRequestThreshold` in bytes; `None` = no request counts as large.
    pub large_request_threshold: Option<u32>,
    /// `largeRequestMaxBytes`: all large requests in flight.
    pub large_request_max_bytes: u64,
}

/// The request throttler and stale requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestThrottle {
    /// `request_throttle_max_requests`: requests in the pipeline before it stalls; 0 = off.
    pub max_requests: u32,
    /// `request_throttle_stall_time`: longest stall step.
    pub stall: Duration,
    /// `request_throttle_drop_stale`: stale requests are dropped, with their connection.
    pub drop_stale: bool,
    /// `request_stale_connection_check`: a closed connection makes its requests stale.
    pub stale_connection_check: bool,
    /// `request_stale_latency_check`: a request older than its session's timeout is stale.
    pub stale_latency_check: bool,
    /// `request_throttler.shutdownTimeout`: drain time when the server stops.
    pub shutdown_timeout: Duration,
    /// `throttled_op_wait_time`: a request that waited longer is answered with -127; zero = off.
    pub throttled_op_wait: Duration,
}

/// The token bucket for new sessions, with random early refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionThrottle {
    /// `connection_throttle_tokens`: size of the bucket; 0 = off.
    pub tokens: u32,
    /// `connection_throttle_fill_time`: refill period; at least 1 ms.
    pub fill_time: Duration,
    /// `connection_throttle_fill_count`: tokens per refill.
    pub fill_count: u32,
    /// `connection_throttle_freeze_time`: least time between two changes of the probability;
    /// `None` = no random refusal.
    pub freeze_time: Option<Duration>,
    /// `connection_throttle_drop_increase`: step up, 0 to 1.
    pub drop_increase: f64,
    /// `connection_throttle_drop_decrease`: step down, 0 to 1.
    pub drop_decrease: f64,
    /// `connection_throttle_decrease_ratio`: the share of the bucket, 0 to 1, that may be missing for a step down.
    pub decrease_ratio: f64,
    /// `connection_throttle_weight_enabled`: charge by kind of session.
    pub weighted: bool,
    /// `connection_throttle_global_session_weight`: tokens for a new global session.
    pub global_weight: u32,
    /// `connection_throttle_renew_session_weight`: tokens for a session that comes back.
    pub renew_weight: u32,
    /// `connection_throttle_local_session_weight`: tokens for a new local session.
    pub local_weight: u32,
}

/// What the tree allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeSettings {
    /// `extendedTypesEnabled`: TTL nodes.
    pub extended_types: bool,
    /// `emulate353TTLNodes`: TTL nodes are coded as 3.5.3 did.
    pub ttl_353: bool,
    /// `digest.enabled`: digests in transactions and snapshots.
    pub digest: bool,
    /// `enforceQuota`: hard quotas are refused with -125.
    pub enforce_quota: bool,
}

/// The sweep for empty containers and expired TTL nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepSettings {
    /// `znode.container.checkIntervalMs`, at least 1 ms.
    pub interval: Duration,
    /// `znode.container.maxPerMinute`, at least 1: pace of deletions.
    pub max_per_minute: u32,
    /// `znode.container.maxNeverUsedIntervalMs`: age at which a container that never had a child
    /// goes; zero = never (the default, as in 3.9).
    pub max_never_used: Duration,
}

/// Hash of digest identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordHash {
    /// `SHA1`, the default.
    Sha1,
    /// `SHA-256`.
    Sha256,
    /// `SHA-512`.
    Sha512,
    /// `SHA3-256`.
    Sha3_256,
}

/// Identities and permissions.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// `skipACL`: every access check passes.
    pub skip_acl: bool,
    /// `DigestAuthenticationProvider.enabled`: scheme `digest` exists.
    pub digest_enabled: bool,
    /// `DigestAuthenticationProvider.digestAlg`.
    pub digest_hash: PasswordHash,
    /// `DigestAuthenticationProvider.superDigest`: a user, `:` and the base64 of a hash.
    pub super_digest: Option<String>,
    /// Scheme `ensemble` is registered by an `authProvider.N` line.
    pub ensemble_provider: bool,
    /// `ensembleAuthName`: the names that scheme `ensemble` accepts; empty accepts every name.
    pub ensemble_names: Vec<String>,
    /// `enforce.auth.schemes` if `enforce.auth.enabled`: a connection needs an identity of one of these
    /// before anything else is done for it. Empty: no demand.
    pub enforce_schemes: Vec<String>,
}

impl std::fmt::Debug for AuthSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthSettings")
            .field("skip_acl", &self.skip_acl)
            .field("digest_enabled", &self.digest_enabled)
            .field("digest_hash", &self.digest_hash)
            .field("super_digest", &self.super_digest.as_ref().map(|_| "(hidden)"))
            .field("ensemble_provider", &self.ensemble_provider)
            .field("ensemble_names", &self.ensemble_names)
            .field("enforce_schemes", &self.enforce_schemes)
            .finish()
    }
}

/// Which four-letter words are answered. `srvr` always is, because Apache's scripts need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FourLetterWords {
    /// `*`.
    All,
    /// These and no other.
    Only(Vec<String>),
}

impl FourLetterWords {
    /// Whether `word` is answered.
    #[must_use]
    pub fn allows(&self, word: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(words) => words.iter().any(|w| w == word),
        }
    }
}
