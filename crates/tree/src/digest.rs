//! The digest of the tree, version 2: a sum, modulo 2^64, of CRC-32s of its znodes.
//!
//! Owns the formula and the history of digests; the tree adds and subtracts as it changes. Each znode keeps its share,
//! so that a change computes one CRC and not two.

use farrier_proto::Zxid;
use farrier_proto::stat::StatPersisted;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::LazyLock;

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

/// Bytes of a znode up to which its digest is computed in one go: a checksum in pieces costs several times as much.
const SHORT_MAX: usize = 384;
/// Bytes of the stat's part.
const STAT_LEN: usize = 60;

/// The key of a path: the root has two names.
pub(crate) fn key(path: &str) -> &str {
    if path == "/" { "" } else { path }
}

/// The stat in the digest's order, which is not the order on disk: pzxid follows mzxid here.
fn stat_bytes(s: &StatPersisted) -> [u8; STAT_LEN] {
    let mut bytes = [0; STAT_LEN];
    let longs = [s.czxid.to_wire(), s.mzxid.to_wire(), s.pzxid.to_wire(), s.ctime, s.mtime];
    for (to, value) in bytes.chunks_exact_mut(8).zip(longs) {
        to.copy_from_slice(&value.to_be_bytes());
    }
    for (to, value) in bytes[40..52].chunks_exact_mut(4).zip([s.version, s.cversion, s.aversion]) {
        to.copy_from_slice(&value.to_be_bytes());
    }
    bytes[52..].copy_from_slice(&s.ephemeral_owner.to_be_bytes());
    bytes
}

/// A CRC of nothing yet. A new one of the library's asks each time what the processor can do.
fn crc() -> crc32fast::Hasher {
    static NEW: LazyLock<crc32fast::Hasher> = LazyLock::new(crc32fast::Hasher::new);
    NEW.clone()
}

/// CRC of these pieces, one behind the other.
fn crc_of(pieces: &[&[u8]]) -> u32 {
    let mut crc = crc();
    if pieces.iter().map(|piece| piece.len()).sum::<usize>() > SHORT_MAX {
        for piece in pieces {
            crc.update(piece);
        }
        return crc.finalize();
    }
    // Unlike an array it is not filled with zeros first, which took as long as the checksum.
    let mut short = SmallVec::<[u8; SHORT_MAX]>::new();
    for piece in pieces {
        short.extend_from_slice(piece);
    }
    crc.update(&short);
    crc.finalize()
}

/// CRC of path and data, with which a znode's digest begins.
pub(crate) fn prefix(path: &str, data: Option<&[u8]>) -> u32 {
    crc_of(&[key(path).as_bytes(), data.unwrap_or_default()])
}

/// The digest of a znode from its [`prefix`].
pub(crate) fn continued(prefix: u32, stat: &StatPersisted) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(prefix);
    crc.update(&stat_bytes(stat));
    crc.finalize()
}

/// Digest of one znode; 0 for an excluded path. The root's path is `""`.
#[must_use]
pub fn node_digest(path: &str, data: Option<&[u8]>, stat: &StatPersisted) -> u32 {
    if is_excluded(path) {
        return 0;
    }
    crc_of(&[key(path).as_bytes(), data.unwrap_or_default(), &stat_bytes(stat)])
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
    fn a_digest_is_the_same_in_one_go_in_pieces_and_from_its_prefix() {
        let stat = StatPersisted { czxid: Zxid::new(1, 2), version: 3, ctime: 4, ..StatPersisted::ZERO };
        for len in [0, 1, 100, SHORT_MAX - STAT_LEN - 2, SHORT_MAX - STAT_LEN - 1, SHORT_MAX, 5000] {
            let data = vec![7; len];
            let mut crc = crc32fast::Hasher::new();
            crc.update(b"/a");
            crc.update(&data);
            crc.update(&stat_bytes(&stat));
            let expected = crc.finalize();
            assert_eq!(node_digest("/a", Some(&data), &stat), expected, "{len}");
            assert_eq!(continued(prefix("/a", Some(&data)), &stat), expected, "{len}");
        }
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
