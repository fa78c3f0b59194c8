//! The digest of the tree, version 2: a sum, modulo 2^64, of CRC-32s of its znodes.
//!
//! Owns the formula and the history of digests; the tree adds and subtracts as it changes. Digests of
//! znodes are computed when needed and stored nowhere.

use farrier_proto::Zxid;
use farrier_proto::stat::StatPersisted;
use std::collections::VecDeque;

/// Digests are kept for every transaction whose zxid is a multiple of this.
pub const LOG_INTERVAL: u64 = 128;
/// The newest digests that are kept.
pub const LOG_LEN: usize = 1024;

/// Whether a path has no part in the digest: everything below `/zookeeper`, which servers change on
/// their own account. `/zookeeper` itself counts.
#[must_use]
pub fn is_excluded(path: &str) -> bool {
    path.starts_with("/zookeeper/")
}

/// Digest of one znode; 0 for an excluded path. The root's path is `""`.
#[must_use]
pub fn node_digest(path: &str, data: Option<&[u8]>, stat: &StatPersisted) -> u64 {
    let path = if path == "/" { "" } else { path };
    if is_excluded(path) {
        return 0;
    }
    let mut fields = [0u8; 60];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        fields[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    // Not the order on disk: pzxid follows mzxid here.
    put(&stat.czxid.to_wire().to_be_bytes());
    put(&stat.mzxid.to_wire().to_be_bytes());
    put(&stat.pzxid.to_wire().to_be_bytes());
    put(&stat.ctime.to_be_bytes());
    put(&stat.mtime.to_be_bytes());
    put(&stat.version.to_be_bytes());
    put(&stat.cversion.to_be_bytes());
    put(&stat.aversion.to_be_bytes());
    put(&stat.ephemeral_owner.to_be_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(path.as_bytes());
    crc.update(data.unwrap_or_default());
    crc.update(&fields);
    u64::from(crc.finalize())
}

/// Digests of the past, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct DigestLog(VecDeque<(Zxid, u64)>);

impl DigestLog {
    /// Notes the digest after `zxid` if that is one of those to be kept.
    pub(crate) fn note(&mut self, zxid: Zxid, digest: u64) {
        if !zxid.get().is_multiple_of(LOG_INTERVAL) {
            return;
        }
        if self.0.len() == LOG_LEN {
            self.0.pop_front();
        }
        self.0.push_back((zxid, digest));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Zxid, u64)> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_a_live_server() {
        assert_eq!(node_digest("", Some(b""), &StatPersisted::ZERO), 0x0412_8908);
        assert_eq!(node_digest("/", None, &StatPersisted::ZERO), 0x0412_8908);
        assert_eq!(node_digest("/zookeeper", Some(b""), &StatPersisted::ZERO), 0x4db4_4d58);
        assert_eq!(node_digest("/zookeeper/quota", Some(b""), &StatPersisted::ZERO), 0);
        assert_ne!(node_digest("/zookeeperx", Some(b""), &StatPersisted::ZERO), 0);
    }

    #[test]
    fn the_log_keeps_the_newest() {
        let mut log = DigestLog::default();
        for counter in 1..=(LOG_INTERVAL as u32 * (LOG_LEN as u32 + 2)) {
            log.note(Zxid::new(1, counter), u64::from(counter));
        }
        assert_eq!(log.iter().count(), LOG_LEN);
        assert_eq!(log.iter().next(), Some((Zxid::new(1, 384), 384)));
    }
}
