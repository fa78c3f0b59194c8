//! Access control entries, as clients send them and as they are stored.

use crate::DecodeError;
use crate::jute::{Field, JStr, Reader};
use std::borrow::Cow;

/// Permission bits. Stored verbatim; other bits have no meaning.
pub mod perms {
    /// Read data, list children, see events.
    pub const READ: i32 = 1;
    /// Set data.
    pub const WRITE: i32 = 2;
    /// Create children.
    pub const CREATE: i32 = 4;
    /// Delete children.
    pub const DELETE: i32 = 8;
    /// Set the ACL.
    pub const ADMIN: i32 = 16;
    /// All of them.
    pub const ALL: i32 = 31;
}

/// Scheme and identity of the entry for everybody, and how they stand in a record. Hardly a list has another entry, so
/// this one is recognised as a whole.
const WORLD: (&str, &str) = ("world", "anyone");
const WORLD_BYTES: &[u8] = b"\0\0\0\x05world\0\0\0\x06anyone";

/// An entry as it stands in a request: nothing is checked yet, and both strings may be null.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawAcl<'a> {
    /// Permission bits.
    pub perms: i32,
    /// Authentication scheme.
    pub scheme: JStr<'a>,
    /// Identity within the scheme.
    pub id: JStr<'a>,
}

impl<'a> Field<'a> for RawAcl<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let perms = r.i32()?;
        if r.skip(WORLD_BYTES) {
            let (scheme, id) = WORLD;
            return Ok(RawAcl { perms, scheme: Some(Cow::Borrowed(scheme)), id: Some(Cow::Borrowed(id)) });
        }
        Ok(RawAcl { perms, scheme: Field::read(r)?, id: Field::read(r)? })
    }
    fn write(&self, out: &mut Vec<u8>) {
        self.perms.write(out);
        self.scheme.write(out);
        self.id.write(out);
    }
}

/// A valid entry: what is stored in the tree, in transactions and in snapshots.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Acl<'a> {
    /// Permission bits.
    pub perms: i32,
    /// Authentication scheme.
    pub scheme: Cow<'a, str>,
    /// Identity within the scheme.
    pub id: Cow<'a, str>,
}

impl<'a> Acl<'a> {
    /// `world:anyone` with `perms`.
    #[must_use]
    pub const fn world(perms: i32) -> Self {
        Acl { perms, scheme: Cow::Borrowed(WORLD.0), id: Cow::Borrowed(WORLD.1) }
    }

    /// Whether the entry names everybody.
    #[must_use]
    pub fn is_world(&self) -> bool {
        (&*self.scheme, &*self.id) == WORLD
    }

    /// The same entry, owning its strings.
    #[must_use]
    pub fn into_owned(self) -> Acl<'static> {
        Acl { perms: self.perms, scheme: Cow::Owned(self.scheme.into_owned()), id: Cow::Owned(self.id.into_owned()) }
    }
}

impl<'a> Field<'a> for Acl<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let perms = r.i32()?;
        if r.skip(WORLD_BYTES) {
            return Ok(Acl::world(perms));
        }
        Ok(Acl { perms, scheme: Field::read(r)?, id: Field::read(r)? })
    }
    fn write(&self, out: &mut Vec<u8>) {
        self.perms.write(out);
        self.scheme.write(out);
        self.id.write(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(perms: i32, scheme: &str, id: &str) -> Vec<u8> {
        let mut out = Vec::new();
        RawAcl { perms, scheme: Some(scheme.into()), id: Some(id.into()) }.write(&mut out);
        out
    }

    #[test]
    fn the_entry_for_everybody_is_read_like_any_other() {
        let pairs =
            [("world", "anyone"), ("world", "anyon"), ("world", "anyone1"), ("worl", "danyone"), ("ip", "10.0.0.1")];
        for (scheme, id) in pairs {
            let mut bytes = bytes(7, scheme, id);
            for cut in 0..bytes.len() {
                Acl::read(&mut Reader::new(&bytes[..cut])).unwrap_err();
                RawAcl::read(&mut Reader::new(&bytes[..cut])).unwrap_err();
            }
            bytes.push(9);
            let (mut r, mut raw) = (Reader::new(&bytes), Reader::new(&bytes));
            assert_eq!(Acl::read(&mut r), Ok(Acl { perms: 7, scheme: scheme.into(), id: id.into() }));
            let entry = RawAcl { perms: 7, scheme: Some(scheme.into()), id: Some(id.into()) };
            assert_eq!(RawAcl::read(&mut raw), Ok(entry));
            assert_eq!((r.rest(), raw.rest()), (&[9][..], &[9][..]));
        }
    }
}
