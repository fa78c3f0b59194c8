//! The two kinds of failure that this crate knows: bytes that do not decode, and the codes that a
//! reply carries to a client.

use std::fmt;

/// Bytes that are not the record they should be. Names the field's type and what was wrong; whoever
/// consumes it adds the peer, or the file and offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("{field} needs {need} bytes, {have} are left")]
    Short {
        /// The field's jute type.
        field: &'static str,
        /// Bytes that the field takes.
        need: usize,
        /// Bytes that were left.
        have: usize,
    },
    /// A length or count below the smallest legal one, or above the limit in force.
    #[error("{field} has the length {len}, allowed are 0 to {max}, and -1 where null is")]
    Length {
        /// The field's jute type.
        field: &'static str,
        /// The length that was read.
        len: i32,
        /// The limit in force.
        max: usize,
    },
    /// A null where the record allows none.
    #[error("{0} is null")]
    Null(&'static str),
    /// A number outside the set that is defined for the field.
    #[error("{field} has the undefined value {value}")]
    Value {
        /// What the number stands for.
        field: &'static str,
        /// The number.
        value: i64,
    },
    /// Well-formed parts in a combination that the record forbids.
    #[error("{0}")]
    Shape(&'static str),
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// Error code of a reply header or of an operation inside a multi. Success is 0 and not an
        /// error, so it is not among them.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
        }

        impl ErrorCode {
            /// The number on the wire.
            #[must_use]
            pub const fn code(self) -> i32 {
                match self { $(Self::$name => $code,)* }
            }

            /// The code with this number, if it is a defined one.
            #[must_use]
            pub const fn from_code(code: i32) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// Every defined code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

error_codes! {
    /// Internal; not sent in normal operation.
    SystemError = -1,
    /// Result of the operations of a multi behind the one that failed.
    RuntimeInconsistency = -2,
    /// Not sent.
    DataInconsistency = -3,
    /// Made by clients.
    ConnectionLoss = -4,
    /// The request's body does not decode, or holds kinds of operations that do not go together.
    MarshallingError = -5,
    /// The operation does not exist, or is switched off here.
    Unimplemented = -6,
    /// Made by clients.
    OperationTimeout = -7,
    /// A path, flag, version or TTL outside of what is legal.
    BadArguments = -8,
    /// A session that this server does not know.
    UnknownSession = -12,
    /// Reconfiguration: no synced quorum in the new configuration.
    NewConfigNoQuorum = -13,
    /// Reconfiguration: another one is pending.
    ReconfigInProgress = -14,
    /// Target or parent is missing.
    NoNode = -101,
    /// The ACL does not permit it.
    NoAuth = -102,
    /// The expected version is not the node's.
    BadVersion = -103,
    /// The parent is an ephemeral node.
    NoChildrenForEphemerals = -108,
    /// The node exists.
    NodeExists = -110,
    /// The node has children.
    NotEmpty = -111,
    /// The session is closing or has expired.
    SessionExpired = -112,
    /// Not sent.
    InvalidCallback = -113,
    /// An ACL list that is empty, or has an entry that no provider accepts.
    InvalidAcl = -114,
    /// The scheme is unknown or refused the credentials.
    AuthFailed = -115,
    /// Internal: the session is owned by another server. Never sent; the connection closes.
    SessionMoved = -118,
    /// A write on a server in read-only mode.
    NotReadOnly = -119,
    /// An ephemeral node on a local session that cannot be upgraded.
    EphemeralOnLocalSession = -120,
    /// No such watch on this connection.
    NoWatcher = -121,
    /// Made by clients.
    RequestTimeout = -122,
    /// Reconfiguration is switched off.
    ReconfigDisabled = -123,
    /// The configuration demands authentication first.
    SessionClosedRequireSaslAuth = -124,
    /// A hard quota would be exceeded.
    QuotaExceeded = -125,
    /// The request waited longer than `throttled_op_wait_time` and was not executed.
    ThrottledOp = -127,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({})", self.code())
    }
}

impl std::error::Error for ErrorCode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_and_are_distinct() {
        for (i, a) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(ErrorCode::from_code(a.code()), Some(*a));
            assert!(ErrorCode::ALL[i + 1..].iter().all(|b| b.code() != a.code()));
        }
        assert_eq!(ErrorCode::from_code(0), None);
        assert_eq!(ErrorCode::from_code(-100), None);
    }
}
