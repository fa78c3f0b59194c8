//! Encoders of requests, malformed ones included: lengths and counts may be written as one likes.

/// An entry of an access control list: permissions, scheme, id.
pub type AclEntry<'a> = (i32, &'a str, &'a str);

/// `world:anyone` with every permission.
pub const OPEN: &[AclEntry<'static>] = &[(31, "world", "anyone")];

/// The bytes of a request's body, field by field.
#[derive(Clone, Default, Debug)]
pub struct Body(pub Vec<u8>);

impl Body {
    /// No bytes.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// An int.
    #[must_use]
    pub fn i(mut self, v: i32) -> Self {
        self.0.extend_from_slice(&v.to_be_bytes());
        self
    }

    /// A long.
    #[must_use]
    pub fn l(mut self, v: i64) -> Self {
        self.0.extend_from_slice(&v.to_be_bytes());
        self
    }

    /// A byte, or a boolean with any value.
    #[must_use]
    pub fn z(mut self, v: u8) -> Self {
        self.0.push(v);
        self
    }

    /// A string or buffer.
    #[must_use]
    pub fn s(self, v: impl AsRef<[u8]>) -> Self {
        let bytes = v.as_ref();
        let len = i32::try_from(bytes.len()).expect("test data is small");
        self.i(len).raw(bytes)
    }

    /// A null string, buffer or vector.
    #[must_use]
    pub fn null(self) -> Self {
        self.i(-1)
    }

    /// A buffer or string that may be null.
    #[must_use]
    pub fn opt(self, v: Option<&[u8]>) -> Self {
        match v {
            Some(v) => self.s(v),
            None => self.null(),
        }
    }

    /// Bytes as they are.
    #[must_use]
    pub fn raw(mut self, v: &[u8]) -> Self {
        self.0.extend_from_slice(v);
        self
    }

    /// An access control list.
    #[must_use]
    pub fn acl(self, acl: &[AclEntry<'_>]) -> Self {
        let n = i32::try_from(acl.len()).expect("test data is small");
        acl.iter().fold(self.i(n), |b, (perms, scheme, id)| b.i(*perms).s(scheme).s(id))
    }

    /// A vector of strings.
    #[must_use]
    pub fn strings<S: AsRef<[u8]>>(self, items: &[S]) -> Self {
        let n = i32::try_from(items.len()).expect("test data is small");
        items.iter().fold(self.i(n), |b, s| b.s(s))
    }

    /// The header of an operation inside a multi; the operation's body follows.
    #[must_use]
    pub fn op(self, kind: i32) -> Self {
        self.i(kind).z(0).i(-1)
    }

    /// The terminator of a multi.
    #[must_use]
    pub fn end(self) -> Self {
        self.i(-1).z(1).i(-1)
    }

    /// A create request's body with an open list.
    #[must_use]
    pub fn create(self, path: impl AsRef<[u8]>, data: &[u8], flags: i32) -> Self {
        self.s(path).s(data).acl(OPEN).i(flags)
    }
}

/// Shorthand for [`Body::new`].
#[must_use]
pub const fn body() -> Body {
    Body::new()
}

/// A request's whole frame: length word, xid, operation and body.
#[must_use]
pub fn request(xid: i32, op: i32, content: &Body) -> Vec<u8> {
    body().s(body().i(xid).i(op).raw(&content.0).0).0
}
