//! One record of the transaction log: checksum, length, transaction, end marker.
//!
//! Owns the framing only. Decoding never panics and never looks further than the bound that it is given;
//! it classifies what it finds, and whoever reads the log decides what that means at that place.

use std::fmt;

/// Byte behind every record, `B`.
pub const MARKER: u8 = 0x42;

/// Checksum and length.
pub const PREFIX: usize = 12;

/// Bytes of a record besides its transaction.
pub const OVERHEAD: usize = PREFIX + 1;

/// Bytes of the record of a transaction of `txn` bytes.
#[must_use]
pub const fn record_len(txn: usize) -> usize {
    txn + OVERHEAD
}

/// Adler-32 as zlib computes it, over the transaction alone.
#[must_use]
pub fn checksum(txn: &[u8]) -> u32 {
    simd_adler32::adler32(&txn)
}

/// Appends the record of a transaction.
///
/// # Panics
/// For an empty transaction, which a reader would take for the end, and for one of 2 GiB or more.
pub fn encode(out: &mut Vec<u8>, txn: &[u8]) {
    assert!(!txn.is_empty(), "a record of length zero means the end of the log");
    let len = i32::try_from(txn.len()).expect("a transaction is bounded far below 2 GiB");
    out.reserve(record_len(txn.len()));
    out.extend_from_slice(&u64::from(checksum(txn)).to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(txn);
    out.push(MARKER);
}

/// What stands at a place in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoded<'a> {
    /// A whole record with a matching checksum; it takes [`record_len`] bytes.
    Good(&'a [u8]),
    /// No good record.
    Stop(Stop),
}

/// Why there is no good record. Apache takes the first three for the end of the file, and refuses to
/// start on the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The length is zero: padding.
    Zero,
    /// The file ends inside the record, or before it.
    Short,
    /// The end marker is not there.
    Marker(u8),
    /// The transaction does not match its checksum.
    Checksum {
        /// As stored.
        stored: u64,
        /// As computed.
        computed: u32,
    },
    /// A negative length, or one above the limit.
    Length(i32),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => write!(f, "zeros instead of a record"),
            Self::Short => write!(f, "the file ends here"),
            Self::Marker(found) => write!(f, "the record ends with byte {found:#04x} instead of 0x42"),
            Self::Checksum { stored, computed } => {
                write!(f, "the record's checksum is {stored:#x}, computed {computed:#x}")
            }
            Self::Length(len) => write!(f, "the record's length is {len}"),
        }
    }
}

/// The length word of a record, if all of the prefix is there.
fn length_word(bytes: &[u8]) -> Option<i32> {
    let word = bytes.get(8..PREFIX)?;
    Some(i32::from_be_bytes(word.try_into().ok()?))
}

/// Bytes that [`decode`] wants to see to judge the record that `prefix` starts: the whole record, or the
/// prefix when the length is no legal one.
#[must_use]
pub fn wanted(prefix: &[u8], txn_max: usize) -> usize {
    match length_word(prefix).map(usize::try_from) {
        Some(Ok(len)) if len > 0 && len <= txn_max => record_len(len),
        _ => PREFIX,
    }
}

/// Decodes the record at the start of `bytes`, which end where the file ends or reach at least as far as
/// [`wanted`] says.
#[must_use]
pub fn decode(bytes: &[u8], txn_max: usize) -> Decoded<'_> {
    let Some(len) = length_word(bytes) else {
        // Fewer bytes than a prefix: the file ends.
        return Decoded::Stop(Stop::Short);
    };
    if len == 0 {
        return Decoded::Stop(Stop::Zero);
    }
    let size = match usize::try_from(len) {
        Ok(size) if size <= txn_max => size,
        _ => return Decoded::Stop(Stop::Length(len)),
    };
    let (Some(txn), Some(&marker)) = (bytes.get(PREFIX..PREFIX + size), bytes.get(PREFIX + size)) else {
        return Decoded::Stop(Stop::Short);
    };
    if marker != MARKER {
        return Decoded::Stop(Stop::Marker(marker));
    }
    let stored = u64::from_be_bytes(bytes[..8].try_into().expect("the prefix was there"));
    let computed = checksum(txn);
    if stored != u64::from(computed) && !farrier_proto::planted!(DamagedRecordReplayed) {
        return Decoded::Stop(Stop::Checksum { stored, computed });
    }
    Decoded::Good(txn)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 4096;

    #[test]
    fn round_trip_and_every_truncation() {
        let mut out = vec![0xee; 3];
        encode(&mut out, b"transaction");
        let record = &out[3..];
        assert_eq!(record.len(), record_len(11));
        assert_eq!(decode(record, MAX), Decoded::Good(b"transaction"));
        assert_eq!(wanted(record, MAX), record.len());
        for cut in 0..record.len() {
            assert_eq!(decode(&record[..cut], MAX), Decoded::Stop(Stop::Short), "{cut}");
        }
    }

    #[test]
    fn every_bit_flip_is_seen() {
        let mut record = Vec::new();
        encode(&mut record, b"some transaction's bytes");
        for bit in 0..record.len() * 8 {
            let mut bad = record.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(&bad, MAX), Decoded::Stop(_)), "bit {bit}");
        }
    }

    #[test]
    fn classification() {
        assert_eq!(decode(&[0; 40], MAX), Decoded::Stop(Stop::Zero));
        let mut record = Vec::new();
        encode(&mut record, &[7; 20]);
        assert_eq!(decode(&record, 19), Decoded::Stop(Stop::Length(20)));
        assert_eq!(wanted(&record, 19), PREFIX);
        record[8] = 0x80;
        assert!(matches!(decode(&record, MAX), Decoded::Stop(Stop::Length(len)) if len < 0));
        let mut record = Vec::new();
        encode(&mut record, &[7; 20]);
        *record.last_mut().unwrap() = 0;
        assert_eq!(decode(&record, MAX), Decoded::Stop(Stop::Marker(0)));
        let mut record = Vec::new();
        encode(&mut record, &[7; 20]);
        record[0] = 1;
        assert!(matches!(decode(&record, MAX), Decoded::Stop(Stop::Checksum { .. })), "the high half counts");
    }
}
