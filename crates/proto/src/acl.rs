//! Access control entries, as clients send them and as they are stored.

use crate::DecodeError;
use crate::jute::{Field, JStr, Reader, record};
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

record! {
    /// An entry as it stands in a request: nothing is checked yet, and both strings may be null.
    pub struct RawAcl<'a> {
        /// Permission bits.
        pub perms: i32,
        /// Authentication scheme.
        pub scheme: JStr<'a>,
        /// Identity within the scheme.
        pub id: JStr<'a>,
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
        Acl { perms, scheme: Cow::Borrowed("world"), id: Cow::Borrowed("anyone") }
    }

    /// Whether the entry names everybody.
    #[must_use]
    pub fn is_world(&self) -> bool {
        self.scheme == "world" && self.id == "anyone"
    }

    /// The same entry, owning its strings.
    #[must_use]
    pub fn into_owned(self) -> Acl<'static> {
        Acl { perms: self.perms, scheme: Cow::Owned(self.scheme.into_owned()), id: Cow::Owned(self.id.into_owned()) }
    }
}

impl<'a> Field<'a> for Acl<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Acl { perms: Field::read(r)?, scheme: Field::read(r)?, id: Field::read(r)? })
    }
    fn write(&self, out: &mut Vec<u8>) {
        self.perms.write(out);
        self.scheme.write(out);
        self.id.write(out);
    }
}
