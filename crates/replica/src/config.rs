//! Settings of a replica.

use crate::limits::{IMAGE_SLICE, LOG_LAG_MAX, OUTSTANDING_BYTES_MAX, REPLY_MAX};
use farrier_proto::ServerId;
use farrier_proto::limits::{JUTE_MAX_BUFFER, TXN_MAX};
use farrier_tree::{AuthConfig, TreeConfig};
use std::sync::Arc;

/// Everything that a replica is told at its start. Milliseconds throughout.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Top byte of the session ids; 1 for a standalone server, in an ensemble the server's own.
    pub server_id: ServerId,
    /// `tickTime`: width of an expiry bucket; at least 1.
    pub tick_time: u64,
    /// `minSessionTimeout`.
    pub min_session_timeout: i32,
    /// `maxSessionTimeout`; at least the minimum.
    pub max_session_timeout: i32,
    /// `snapCount`: a snapshot follows after a random number of transactions in (half, all] of it.
    pub snap_count: u64,
    /// `snapSizeLimitInKb`, in bytes: the same by bytes logged; 0 is off.
    pub snap_size_limit: u64,
    /// [`IMAGE_SLICE`].
    pub image_slice: u32,
    /// `jute.maxbuffer`: the shell bounds requests by it.
    pub jute_max_buffer: usize,
    /// [`REPLY_MAX`].
    pub reply_max: usize,
    /// Largest transaction: `jute.maxbuffer` and its extra size together.
    pub txn_max: usize,
    /// `globalOutstandingLimit`: from here on, connections with something outstanding wait.
    pub global_outstanding_limit: usize,
    /// [`OUTSTANDING_BYTES_MAX`].
    pub outstanding_bytes_max: usize,
    /// [`LOG_LAG_MAX`].
    pub log_lag_max: usize,
    /// `request_throttle_max_requests`: from here on, every connection waits; 0 is off.
    pub request_throttle_max: usize,
    /// `throttled_op_wait_time`: a request that waited longer is answered -127; 0 is off.
    pub throttled_op_wait: u64,
    /// `request_stale_latency_check`: a request that waited longer than its session's timeout closes its
    /// connection.
    pub drop_stale_requests: bool,
    /// `largeRequestThreshold` in bytes; `None` is off.
    pub large_request_threshold: Option<usize>,
    /// `largeRequestMaxBytes`: all large requests in flight together.
    pub large_request_max_bytes: usize,
    /// Admission of connections.
    pub connection_throttle: ConnectionThrottleConfig,
    /// The sweeper.
    pub container: ContainerConfig,
    /// `enforce.auth.schemes` when `enforce.auth.enabled`, or empty.
    pub enforce_auth_schemes: Vec<String>,
    /// `reconfigEnabled`.
    pub reconfig_enabled: bool,
    /// Ensemble: text and version of the configuration, which `/zookeeper/config` shows.
    pub config_node: Option<(Vec<u8>, u64)>,
    /// `leaderServes`: whether clients are taken while this server leads.
    pub leader_serves: bool,
    /// Ensemble: every member applies create2 inside a multi (`farrier.peers=3.9`). Otherwise it is proposed as
    /// create, which all of them apply (safety contract 4.8).
    pub peers_apply_create2: bool,
    /// Authentication and ACLs.
    pub auth: Arc<AuthConfig>,
    /// The tree's.
    pub tree: TreeConfig,
    /// Drawn by the shell; decides the snapshot's moment and random early drops.
    pub seed: u64,
}

impl Default for ReplicaConfig {
    /// What Apache ZooKeeper 3.9 does without any setting, with its sample `tickTime`.
    fn default() -> Self {
        Self {
            server_id: ServerId(1),
            tick_time: 2000,
            min_session_timeout: 4000,
            max_session_timeout: 40_000,
            snap_count: 100_000,
            snap_size_limit: 4 << 30,
            image_slice: IMAGE_SLICE,
            jute_max_buffer: JUTE_MAX_BUFFER,
            reply_max: REPLY_MAX,
            txn_max: TXN_MAX,
            global_outstanding_limit: 1000,
            outstanding_bytes_max: OUTSTANDING_BYTES_MAX,
            log_lag_max: LOG_LAG_MAX,
            request_throttle_max: 0,
            throttled_op_wait: 0,
            drop_stale_requests: false,
            large_request_threshold: None,
            large_request_max_bytes: 100 << 20,
            connection_throttle: ConnectionThrottleConfig::default(),
            container: ContainerConfig::default(),
            enforce_auth_schemes: Vec::new(),
            reconfig_enabled: false,
            config_node: None,
            leader_serves: true,
            peers_apply_create2: false,
            auth: Arc::default(),
            tree: TreeConfig::default(),
            seed: 0,
        }
    }
}

impl Default for ContainerConfig {
    fn default() -> Self {
        Self { check_interval: 60_000, max_per_minute: 10_000, max_never_used: 0 }
    }
}

impl Default for ConnectionThrottleConfig {
    /// Off.
    fn default() -> Self {
        Self {
            tokens: 0,
            fill_time: 1,
            fill_count: 1,
            freeze_time: None,
            drop_increase: 0.02,
            drop_decrease: 0.002,
            decrease_ratio: 0.0,
            session_weight: 1,
            renew_weight: 1,
        }
    }
}

/// `znode.container.*`.
#[derive(Clone, Debug)]
pub struct ContainerConfig {
    /// `checkIntervalMs`: between two sweeps; at least 1.
    pub check_interval: u64,
    /// `maxPerMinute`: deletions; at least 1.
    pub max_per_minute: u64,
    /// `maxNeverUsedIntervalMs`: containers that never had a child go after this; 0 is never.
    pub max_never_used: i64,
}

/// `connection_throttle_*`: a token bucket for connect requests, with random early drops (BLUE).
#[derive(Clone, Debug)]
pub struct ConnectionThrottleConfig {
    /// Size of the bucket; 0 is off.
    pub tokens: u64,
    /// Milliseconds between refills; at least 1.
    pub fill_time: u64,
    /// Tokens per refill.
    pub fill_count: u64,
    /// More than so many milliseconds pass between adjustments of the drop probability; `None` is off.
    pub freeze_time: Option<u64>,
    /// Step up when the bucket is empty.
    pub drop_increase: f64,
    /// Step down when it is full enough.
    pub drop_decrease: f64,
    /// What "full enough" is: the share of the tokens, from 0 to 1, that may be missing.
    pub decrease_ratio: f64,
    /// Charge of a new session.
    pub session_weight: u64,
    /// Charge of a re-attachment.
    pub renew_weight: u64,
}
