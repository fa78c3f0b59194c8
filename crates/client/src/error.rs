//! What can go wrong with a call, sorted by what the caller may conclude from it.

use crate::ConnectStringError;
use farrier_proto::ErrorCode;
use std::fmt;
use std::sync::Arc;

/// Why a call did not succeed.
///
/// The one distinction that matters to a writer: after [`Error::Unknown`] the change may have been made or not,
/// and the client never sends it again; after every other error it was **not** made.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// A server answered that it does not do this. Nothing was changed.
    Refused {
        /// What the server said.
        code: ErrorCode,
        /// The operation.
        op: &'static str,
        /// Its path as the caller wrote it; in a multi, that of the operation that failed.
        path: String,
        /// The position in a multi of the operation that failed.
        index: Option<usize>,
        /// The server.
        server: Arc<str>,
    },
    /// The request was sent and never answered, or in a way that can't be read: it may have been executed or not, and it is
    /// not sent again. Read what it would have changed to find out.
    Unknown {
        /// The operation.
        op: &'static str,
        /// Its path as the caller wrote it.
        path: String,
        /// The server it was sent to.
        server: Arc<str>,
        /// What happened instead of an answer.
        reason: Arc<str>,
    },
    /// The request did not reach a server, or it was one that changes nothing and its answer did not come. Nothing
    /// was changed; to try again is safe.
    NotDone {
        /// The operation.
        op: &'static str,
        /// Its path as the caller wrote it.
        path: String,
        /// What stood in the way.
        reason: Arc<str>,
    },
    /// The request changes nothing, and its answer came and is of no use: it is longer than the client takes
    /// ([`crate::ClientBuilder::reply_max`]), or not what a server answers. To try again brings the same.
    Unreadable {
        /// The operation.
        op: &'static str,
        /// Its path as the caller wrote it.
        path: String,
        /// The server.
        server: Arc<str>,
        /// What is wrong with the answer.
        reason: Arc<str>,
    },
    /// The session had expired before the request was sent. Ephemeral znodes and locks of the session are gone.
    SessionExpired {
        /// The operation.
        op: &'static str,
        /// Its path as the caller wrote it.
        path: String,
    },
    /// The call cannot be right, and was not sent.
    Invalid {
        /// The operation.
        op: &'static str,
        /// Its path as the caller wrote it.
        path: String,
        /// The rule that it breaks.
        reason: Arc<str>,
    },
    /// As many requests wait as the client allows. Nothing was sent.
    QueueFull {
        /// The limit that was reached, in words.
        limit: Arc<str>,
    },
    /// No server gave a session in time.
    NoServer {
        /// The servers of the connect string.
        servers: String,
        /// What was tried last, and why it failed.
        reason: Arc<str>,
    },
    /// The connect string is none.
    ConnectString(ConnectStringError),
    /// The TLS files cannot be used.
    Tls(farrier_tls::TlsError),
    /// A server refused the client's credentials; the client is of no use any more.
    AuthFailed,
    /// The client was closed. Nothing was sent.
    Closed,
}

impl Error {
    /// The server's answer, if it was one.
    #[must_use]
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the change may have been made all the same.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    /// Whether one of the servers was there and gave no session, where there is none: mostly it has no quorum, or as many
    /// connections as it takes.
    #[must_use]
    pub fn is_turned_away(&self) -> bool {
        let Self::NoServer { reason, .. } = self else { return false };
        [CLOSED, SILENT, REFUSING, RESET].iter().any(|said| reason.contains(said))
    }

    /// Whether the znode, or the parent of one to be created, does not exist.
    #[must_use]
    pub fn is_no_node(&self) -> bool {
        self.code() == Some(ErrorCode::NoNode)
    }

    /// Whether the znode to be created exists.
    #[must_use]
    pub fn is_node_exists(&self) -> bool {
        self.code() == Some(ErrorCode::NodeExists)
    }

    /// Whether the znode has another version than expected.
    #[must_use]
    pub fn is_bad_version(&self) -> bool {
        self.code() == Some(ErrorCode::BadVersion)
    }

    /// Whether the znode to be deleted has children.
    #[must_use]
    pub fn is_not_empty(&self) -> bool {
        self.code() == Some(ErrorCode::NotEmpty)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, op, path, index, server } => {
                write!(f, "{op} {path}")?;
                if let Some(index) = index {
                    write!(f, " (operation {index} of the multi, counted from 0)")?;
                }
                let meaning = match (*code, *op) {
                    (ErrorCode::NoNode, "create") => "its parent does not exist",
                    (ErrorCode::NoNode, op) if op != "multi" => "the znode does not exist",
                    (code, op) => of_operation(code, op).unwrap_or_else(|| remedy(code)),
                };
                write!(f, ": {meaning} ({code}, from {server})")
            }
            Self::Unknown { op, path, server, reason } => write!(
                f,
                "{op} {path}: sent to {server} and not answered ({reason}); it may have been done or not, so it is not \
                 sent again: read what it would have changed"
            ),
            Self::Unreadable { op, path, server, reason } => {
                write!(f, "{op} {path}: the answer of {server} is of no use: {reason}")
            }
            Self::NotDone { op, path, reason } => write!(f, "{op} {path}: not done, {reason}"),
            Self::SessionExpired { op, path } => write!(
                f,
                "{op} {path}: not sent, since the session had expired; its ephemeral znodes are gone and have to be \
                 created again"
            ),
            Self::Invalid { op, path, reason } => write!(f, "{op} {path}: not sent, {reason}"),
            Self::QueueFull { limit } => {
                write!(f, "{limit}; wait for some of the calls before making more, or raise the limit")
            }
            Self::NoServer { servers, reason } => write!(f, "no session from {servers}: {reason}"),
            Self::ConnectString(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::AuthFailed => {
                f.write_str("the server refuses the credentials (AuthFailed); check scheme, user and password")
            }
            Self::Closed => f.write_str("the client was closed"),
        }
    }
}

impl std::error::Error for Error {}

impl From<ConnectStringError> for Error {
    fn from(error: ConnectStringError) -> Self {
        Self::ConnectString(error)
    }
}

impl From<farrier_tls::TlsError> for Error {
    fn from(error: farrier_tls::TlsError) -> Self {
        Self::Tls(error)
    }
}

/// The same where it depends on the operation.
fn of_operation(code: ErrorCode, op: &str) -> Option<&'static str> {
    let writes = ["create", "set", "set the ACL of", "delete", "multi"].contains(&op);
    Some(match (code, op) {
        // Servers have one code for what is malformed, which no request of this client is, and for what is too long.
        (ErrorCode::MarshallingError, _) if writes => {
            "the server could not read the request, which may be longer than its jute.maxbuffer; send less at once, or raise \
             jute.maxbuffer on all servers"
        }
        (ErrorCode::MarshallingError, _) => {
            "the reply may be longer than the server sends, 64 MiB or its jute.maxbuffer where that is more (then its log says so); \
             or the request is longer than its jute.maxbuffer"
        }
        (ErrorCode::Unimplemented, "create" | "multi") => {
            "the server does not know the operation, or has it switched off; a TTL needs extendedTypesEnabled=true on all servers"
        }
        (ErrorCode::Unimplemented, "reconfigure") => {
            "a Farrier leader begins no reconfigurations in this version, and neither does a server that runs alone"
        }
        _ => return None,
    })
}

/// What a code means to whoever made the call, and what to do.
const fn remedy(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::NoNode => "the znode, or the parent of a new one, does not exist",
        ErrorCode::NodeExists => "the znode exists already",
        ErrorCode::BadVersion => "the znode has another version than expected; read it again",
        ErrorCode::NotEmpty => "the znode has children; delete them first",
        ErrorCode::NoAuth => "the ACL does not permit it; authenticate as an identity that it names",
        ErrorCode::NoChildrenForEphemerals => "the parent is ephemeral and can have no children",
        ErrorCode::InvalidAcl => "the ACL is empty, or has an entry that the server does not accept",
        ErrorCode::AuthFailed => "the server refuses the scheme or the credentials",
        ErrorCode::NotReadOnly => "the server is read-only while it has no quorum; writes work again once it has one",
        ErrorCode::BadArguments => "the path or an argument is not legal",
        ErrorCode::Unimplemented => "the server does not know the operation, or has it switched off",
        ErrorCode::QuotaExceeded => "a hard quota would be exceeded; raise it or delete something",
        ErrorCode::NoWatcher => "there is no such watch on this connection",
        ErrorCode::SessionExpired => "the session is closing or has expired",
        ErrorCode::EphemeralOnLocalSession => "a local session cannot own ephemeral znodes",
        ErrorCode::ThrottledOp => "the server was too busy and did not execute it; try again later",
        ErrorCode::ReconfigDisabled => "reconfiguration is switched off; set reconfigEnabled=true on the servers",
        ErrorCode::ReconfigInProgress => "another reconfiguration is pending; try again later",
        ErrorCode::NewConfigNoQuorum => "too few servers of the new configuration are up to date",
        ErrorCode::SessionClosedRequireSaslAuth => "the server demands authentication first",
        ErrorCode::MarshallingError => "the server could not read the request, or it or its reply is too long",
        ErrorCode::RuntimeInconsistency => "an earlier operation of the multi failed",
        _ => "the server refused it",
    }
}

/// Why a server that is there gave no session. Servers close without a word for many reasons.
pub(crate) const CLOSED: &str =
    "the server closed it; it may be without a leader, behind what this client has seen, or full";
pub(crate) const SILENT: &str = "it took the connection and gave no session in time";
pub(crate) const REFUSING: &str = "it refuses to give a session";
/// In the system's words.
const RESET: &str = "Connection reset by peer";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_operation_path_server_and_remedy() {
        let server: Arc<str> = "h:2181".into();
        let refused = |index| Error::Refused {
            code: ErrorCode::NotEmpty,
            op: "delete",
            path: "/a".into(),
            index,
            server: Arc::clone(&server),
        };
        assert_eq!(
            refused(None).to_string(),
            "delete /a: the znode has children; delete them first (NotEmpty (-111), from h:2181)"
        );
        assert!(refused(Some(2)).to_string().starts_with("delete /a (operation 2 of the multi"));
        assert!(refused(None).is_not_empty() && !refused(None).is_unknown());
        for (op, meaning) in [("create", "its parent does not exist"), ("set", "the znode does not exist")] {
            let (path, server) = ("/a/b".to_owned(), Arc::clone(&server));
            let missing = Error::Refused { code: ErrorCode::NoNode, op, path, index: None, server };
            assert!(missing.to_string().starts_with(&format!("{op} /a/b: {meaning} (NoNode")), "{missing}");
        }
        for (op, code, named) in [
            ("set", ErrorCode::MarshallingError, "jute.maxbuffer on all servers (MarshallingError"),
            (
                "list",
                ErrorCode::MarshallingError,
                "the reply may be longer than the server sends, 64 MiB or its jute.maxbuffer",
            ),
            ("create", ErrorCode::Unimplemented, "extendedTypesEnabled=true on all servers (Unimplemented"),
            ("reconfigure", ErrorCode::Unimplemented, "a Farrier leader begins no reconfigurations in this version"),
        ] {
            let (path, server) = ("/a".to_owned(), Arc::clone(&server));
            let refused = Error::Refused { code, op, path, index: None, server }.to_string();
            assert!(refused.contains(named), "{refused}");
        }
        let reason = "the connection was lost".into();
        let unknown = Error::Unknown { op: "set", path: "/a".into(), server, reason };
        assert!(unknown.is_unknown() && unknown.code().is_none());
        assert!(unknown.to_string().contains("h:2181") && unknown.to_string().contains("not sent again"));
    }

    #[test]
    fn a_server_that_is_there_and_gives_no_session_is_known() {
        let error = |reason: &str| Error::NoServer { servers: "a:1,b:2".into(), reason: reason.into() };
        let reset = std::io::Error::from_raw_os_error(104).to_string();
        for said in [CLOSED, SILENT, REFUSING, &reset] {
            assert!(error(&format!("a:1: Connection refused (os error 111); b:2: {said}")).is_turned_away(), "{said}");
        }
        assert!(!error("a:1: Connection refused (os error 111)").is_turned_away());
        assert!(!Error::NotDone { op: "get", path: "/".into(), reason: CLOSED.into() }.is_turned_away());
    }
}
