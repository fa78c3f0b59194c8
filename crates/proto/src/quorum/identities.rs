//! What a client has proved to be, on its way to the leader with each of its writes.

use crate::jute::{JStr, Reader, put_len, put_str};
use crate::{Blocks, DecodeError};
use bytes::Bytes;
use std::borrow::Cow;

/// Scheme and id of each identity of a client, as they stand behind a forwarded request: every write of a client of
/// a learner brings the same few, and whoever takes a packet apart need not.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Identities(Bytes);

impl Identities {
    /// No identity.
    pub const NONE: Self = Self(Bytes::new());

    /// These, of `len` identities, in memory of `blocks`.
    pub fn of<'a>(identities: impl ExactSizeIterator<Item = (&'a str, &'a str)>, blocks: &mut Blocks) -> Self {
        if identities.len() == 0 {
            return Self::NONE;
        }
        Self(blocks.written(|out| {
            put_len(out, identities.len());
            for (scheme, id) in identities {
                put_str(out, scheme);
                put_str(out, id);
            }
        }))
    }

    /// Reads the vector that a packet ends with.
    pub(super) fn read(vector: &[u8], blocks: &mut Blocks) -> Result<Self, DecodeError> {
        let mut r = Reader::new(vector);
        let count = r.count()?.unwrap_or(0);
        for _ in 0..count {
            pair(&mut r)?;
        }
        Ok(if count == 0 { Self::NONE } else { Self(blocks.copied(vector)) })
    }

    /// The vector that a packet ends with: null for no identity.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.0.is_empty() { &[0xff; 4] } else { &self.0 });
    }

    /// Scheme and id of each.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        let mut r = Reader::new(&self.0);
        let count = if self.0.is_empty() { None } else { r.count().expect("it was counted when it was read") };
        (0..count.unwrap_or(0)).map(move |_| pair(&mut r).expect("it was read before"))
    }
}

fn pair<'a>(r: &mut Reader<'a>) -> Result<(Cow<'a, str>, Cow<'a, str>), DecodeError> {
    let part = |text: JStr<'a>, field| text.ok_or(DecodeError::Null(field));
    Ok((part(r.string()?, "scheme")?, part(r.string()?, "id")?))
}
