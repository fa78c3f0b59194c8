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

/// Changes the digest of the first transaction in the log that has one, and returns its zxid.
pub(super) fn wrong_digest(path: &Path) -> Result<u64> {
    let mut log = fs::read(path).with_context(|| path.display().to_string())?;
    let zxid = change(&mut log).with_context(|| path.display().to_string())?;
    fs::write(path, log).with_context(|| path.display().to_string())?;
    Ok(zxid)
}

fn change(log: &mut [u8]) -> Result<u64> {
    ensure!(log.starts_with(b"ZKLG"), "no transaction log");
    let mut rest = log.get_mut(HEADER_LEN..).context("a log without a record")?;
    loop {
        let (head, after) = rest.split_at_mut_checked(RECORD_HEAD_LEN).context("no transaction with a digest")?;
        let (checksum, length) = head.split_at_mut(8);
        let length = usize::try_from(u32::from_be_bytes(length.try_into().context("four bytes")?))?;
        ensure!(length > 0, "no transaction with a digest");
        let (payload, after) = after.split_at_mut_checked(length).context("a record that is cut off")?;
        if let Some(at) = digest_of(payload) {
            payload[at] ^= 1;
            checksum.copy_from_slice(&u64::from(adler32(payload)).to_be_bytes());
            return Ok(u64::from_be_bytes(payload[12..20].try_into().context("eight bytes")?));
        }
        rest = after.get_mut(1..).context("a record without an end")?;
    }
}

/// Where the digest's value begins; refused requests leave transactions that have none.
fn digest_of(payload: &[u8]) -> Option<usize> {
    let at = payload.len().checked_sub(DIGEST_LEN).filter(|&at| at >= TXN_HEADER_LEN)?;
    let error = payload[TXN_HEADER_LEN - 4..TXN_HEADER_LEN] == (-1_i32).to_be_bytes();
    (!error && payload[at..at + 4] == DIGEST_VERSION.to_be_bytes()).then_some(at + 4)
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

    fn record(log: &mut Vec<u8>, payload: &[u8]) {
        log.extend_from_slice(&u64::from(adler32(payload)).to_be_bytes());
        log.extend_from_slice(&u32::try_from(payload.len()).expect("short").to_be_bytes());
        log.extend_from_slice(payload);
        log.push(b'B');
    }

    #[test]
    fn only_the_first_digest_and_its_checksum_change() {
        let mut error = vec![0_u8; TXN_HEADER_LEN + 4];
        error[TXN_HEADER_LEN - 4..TXN_HEADER_LEN].fill(0xFF);
        let mut good = vec![0_u8; TXN_HEADER_LEN + DIGEST_LEN];
        good[19] = 7;
        good[TXN_HEADER_LEN + 3] = 2;
        let mut log = b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\0".to_vec();
        record(&mut log, &error);
        let head = log.len();
        record(&mut log, &good);
        record(&mut log, &good);
        let before = log.clone();
        assert_eq!(change(&mut log).expect("a digest"), 7);
        let changed: Vec<usize> = (0..log.len()).filter(|&i| log[i] != before[i]).collect();
        let digest = head + RECORD_HEAD_LEN + TXN_HEADER_LEN + 4;
        assert!(changed.iter().all(|i| (head..head + 8).contains(i) || *i == digest), "{changed:?}");
        assert!(changed.contains(&digest) && changed.len() > 1);
        assert!(change(&mut log[..head]).is_err());
        assert!(change(&mut []).is_err());
    }
}
