//! From the operator's settings to those of the parts.

use crate::config::{PasswordHash, ServerConfig, SnapshotCompression};
use crate::disk::RealDisk;
use crate::member::Membership;
use farrier_proto::ServerId;
use farrier_replica::{
    ConnectionThrottleConfig, ContainerConfig, IMAGE_SLICE, LOG_LAG_MAX, OUTSTANDING_BYTES_MAX, REPLY_MAX,
    ReplicaConfig,
};
use farrier_storage::{Compression, LogOptions, PurgePolicy, RecoverOptions, SnapshotOptions};
use farrier_tree::{AuthConfig, DigestAlgorithm, TreeConfig};
use std::sync::Arc;
use std::time::Duration;

/// A standalone server's number, in its session ids.
const STANDALONE_ID: ServerId = ServerId(1);

pub(crate) fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn tree(config: &ServerConfig) -> TreeConfig {
    let t = &config.tree;
    TreeConfig {
        extended_types: t.extended_types,
        ttl_353: t.ttl_353,
        digest: t.digest,
        list_closed: config.storage.close_session_txn,
        enforce_quota: t.enforce_quota,
    }
}

fn auth(config: &ServerConfig) -> AuthConfig {
    let a = &config.auth;
    AuthConfig {
        skip_acl: a.skip_acl,
        digest_enabled: a.digest_enabled,
        digest_algorithm: match a.digest_hash {
            PasswordHash::Sha1 => DigestAlgorithm::Sha1,
            PasswordHash::Sha256 => DigestAlgorithm::Sha256,
            PasswordHash::Sha512 => DigestAlgorithm::Sha512,
            PasswordHash::Sha3_256 => DigestAlgorithm::Sha3_256,
        },
        super_digest: a.super_digest.clone(),
        ensemble_names: a.ensemble_provider.then(|| a.ensemble_names.clone()),
    }
}

pub(crate) fn replica(config: &ServerConfig, member: Option<&Membership>, seed: u64) -> ReplicaConfig {
    let (limits, throttle, tokens) = (&config.limits, &config.request_throttle, &config.connection_throttle);
    let (factor, session_weight, renew_weight) = if tokens.weighted {
        (u64::from(tokens.global_weight), u64::from(tokens.global_weight), u64::from(tokens.renew_weight))
    } else {
        (1, 1, 1)
    };
    ReplicaConfig {
        server_id: member.map_or(STANDALONE_ID, |m| m.me),
        tick_time: u64::from(config.tick_time_ms.unsigned_abs()),
        min_session_timeout: config.min_session_timeout_ms,
        max_session_timeout: config.max_session_timeout_ms,
        snap_count: u64::from(config.storage.snap_count),
        snap_size_limit: config.storage.snap_size_limit.unwrap_or(0),
        image_slice: IMAGE_SLICE,
        jute_max_buffer: limits.jute_max_buffer,
        reply_max: REPLY_MAX,
        txn_max: txn_max(config),
        global_outstanding_limit: limits.global_outstanding as usize,
        outstanding_bytes_max: OUTSTANDING_BYTES_MAX,
        log_lag_max: LOG_LAG_MAX,
        request_throttle_max: throttle.max_requests as usize,
        throttled_op_wait: millis(throttle.throttled_op_wait),
        drop_stale_requests: throttle.stale_latency_check,
        large_request_threshold: limits.large_request_threshold.map(|t| t as usize),
        large_request_max_bytes: usize::try_from(limits.large_request_max_bytes).unwrap_or(usize::MAX),
        connection_throttle: ConnectionThrottleConfig {
            tokens: u64::from(tokens.tokens) * factor,
            fill_time: millis(tokens.fill_time).max(1),
            fill_count: u64::from(tokens.fill_count) * factor,
            freeze_time: tokens.freeze_time.map(millis),
            drop_increase: tokens.drop_increase,
            drop_decrease: tokens.drop_decrease,
            decrease_ratio: tokens.decrease_ratio,
            session_weight,
            renew_weight,
        },
        container: ContainerConfig {
            check_interval: millis(config.sweep.interval).max(1),
            max_per_minute: u64::from(config.sweep.max_per_minute),
            max_never_used: i64::try_from(config.sweep.max_never_used.as_millis()).unwrap_or(i64::MAX),
        },
        enforce_auth_schemes: config.auth.enforce_schemes.clone(),
        reconfig_enabled: config.reconfig_enabled,
        config_node: member.map(|m| (m.ensemble.text().to_vec(), m.ensemble.version())),
        leader_serves: member.is_none_or(|m| m.config.tuning.leader_serves),
        peers_apply_create2: member.is_some_and(|m| m.config.tuning.peers_apply_create2),
        auth: Arc::new(auth(config)),
        tree: tree(config),
        seed,
    }
}

pub(crate) fn recover(config: &ServerConfig, disk: &RealDisk) -> RecoverOptions {
    RecoverOptions {
        trust_empty_snapshot: config.storage.trust_empty_snapshot,
        db_autocreate: config.storage.db_autocreate,
        standalone: config.ensemble.is_none(),
        txn_max: txn_max(config),
        current_epoch: 0,
        separate_log_dir: disk.is_separate(),
        config_file: config.config_file.as_ref().map(|file| file.display().to_string()),
    }
}

/// Longest transaction in the log.
pub(crate) const fn txn_max(config: &ServerConfig) -> usize {
    config.limits.jute_max_buffer + config.limits.jute_extra_size
}

pub(crate) const fn log(config: &ServerConfig) -> LogOptions {
    let size_limit = match config.storage.txn_log_size_limit {
        Some(limit) => limit,
        None => 0,
    };
    LogOptions { segment_size: config.storage.preallocate, size_limit, force_sync: config.storage.force_sync }
}

pub(crate) const fn snapshots(config: &ServerConfig) -> SnapshotOptions {
    SnapshotOptions {
        compression: match config.storage.snapshot_compression {
            SnapshotCompression::None => Compression::Plain,
            SnapshotCompression::Gzip => Compression::Gz,
            SnapshotCompression::Snappy => Compression::Snappy,
        },
        omit_last_zxid: !config.storage.serialize_last_zxid,
    }
}

/// What to keep, and how often to look; `None` when the operator switched purging off.
pub(crate) fn purge(config: &ServerConfig) -> Option<(PurgePolicy, Duration)> {
    let settings = config.storage.purge?;
    let defaults = PurgePolicy::default();
    let policy = PurgePolicy {
        retain: settings.retain as usize,
        require_own: if settings.explicit { None } else { defaults.require_own },
        field_max: txn_max(config),
    };
    Some((policy, settings.interval))
}
