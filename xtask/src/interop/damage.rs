//! Plants a wrong tree digest into a transaction log, with a right checksum, so that only the digest
//! check of the server that replays it can notice.

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;

/// Bytes before the first record: magic, version, database id.
const HEADER_LEN: usize = 16;
/// Before a record's payload: checksum and length.
const RECORD_HEAD_LEN: usize = 12;
/// The payload's header: session, cxid, zxid, time, type.
const TXN_HEADER_LEN: usize = 32;
/// The digest at the end of a payload: version and value.
const DIGEST_LEN: usize = 12;
/// The only version of digests that there is.
const DIGEST_VERSION: u32 = 2;

/// Changes the digest of the log's first transaction and returns its zxid.
pub(super) fn wrong_digest(path: &Path) -> Result<u64> {
    let mut log = fs::read(path).with_context(|| path.display().to_string())?;
    let zxid = change(&mut log).with_context(|| path.display().to_string())?;
    fs::write(path, log).with_context(|| path.display().to_string())?;
    Ok(zxid)
}

fn change(log: &mut [u8]) -> Result<u64> {
    ensure!(log.starts_with(b"ZKLG"), "no transaction log");
    let (head, rest) = log
        .get_mut(HEADER_LEN..)
        .and_then(|records| records.split_at_mut_checked(RECORD_HEAD_LEN))
        .context("a log without a record")?;
    let (checksum, length) = head.split_at_mut(8);
    let length = u32::from_be_bytes(length.try_into().context("four bytes")?);
    let payload = rest.get_mut(..usize::try_from(length)?).context("a record that is cut off")?;
    ensure!(payload.len() >= TXN_HEADER_LEN + DIGEST_LEN, "a transaction without a digest");
    let zxid = u64::from_be_bytes(payload[12..20].try_into().context("eight bytes")?);
    let digest = payload.len() - DIGEST_LEN;
    let version = u32::from_be_bytes(payload[digest..digest + 4].try_into().context("four bytes")?);
    ensure!(version == DIGEST_VERSION, "the digest of {zxid:x} has version {version}");
    payload[digest + 4] ^= 1;
    checksum.copy_from_slice(&u64::from(adler32(payload)).to_be_bytes());
    Ok(zxid)
}

fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    let (mut a, mut b) = (1_u32, 0_u32);
    for &byte in bytes {
        a = (a + u32::from(byte)) % MODULUS;
        b = (b + a) % MODULUS;
    }
    (b << 16) | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_adler32() {
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn only_digest_and_checksum_change() {
        let mut payload = vec![0_u8; TXN_HEADER_LEN + DIGEST_LEN];
        payload[19] = 7;
        payload[TXN_HEADER_LEN + 3] = 2;
        let mut log = b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\0".to_vec();
        log.extend_from_slice(&u64::from(adler32(&payload)).to_be_bytes());
        log.extend_from_slice(&44_u32.to_be_bytes());
        log.extend_from_slice(&payload);
        let before = log.clone();
        assert_eq!(change(&mut log).expect("a record"), 7);
        let changed: Vec<usize> = (0..log.len()).filter(|&i| log[i] != before[i]).collect();
        assert!(changed.iter().all(|i| (HEADER_LEN..HEADER_LEN + 8).contains(i) || *i == HEADER_LEN + 12 + 36));
        assert!(changed.contains(&(HEADER_LEN + 12 + 36)) && changed.len() > 1);
        assert!(change(&mut []).is_err());
    }
}
