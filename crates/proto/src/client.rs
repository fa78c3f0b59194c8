//! Records of the client protocol, in the order of their fields on the wire.

use crate::acl::RawAcl;
use crate::jute::{Field, JBuf, JStr, Reader, plain_record, put_i32, put_i64, put_len, put_str, record};
use crate::limits::PASSWORD_LEN;
use crate::numbered::numbered;
use crate::{Acl, DecodeError, ErrorCode, SessionId, Stat, Xid, Zxid};
use std::borrow::Cow;

/// First frame of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectRequest<'a> {
    /// Ignored; clients send 0.
    pub protocol_version: i32,
    /// Newest zxid that the client saw; a server behind it closes the connection.
    pub last_zxid_seen: Zxid,
    /// Session timeout asked for, in milliseconds.
    pub timeout: i32,
    /// 0 for a new session.
    pub session: SessionId,
    /// Ignored for a new session.
    pub password: JBuf<'a>,
    /// Whether a read-only server will do. `None`: the byte is absent, as in clients up to 3.3, and the
    /// response must leave it out too.
    pub read_only: Option<bool>,
}

impl<'a> Field<'a> for ConnectRequest<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            protocol_version: Field::read(r)?,
            last_zxid_seen: Field::read(r)?,
            timeout: Field::read(r)?,
            session: Field::read(r)?,
            password: Field::read(r)?,
            read_only: if r.is_empty() { None } else { Some(r.bool()?) },
        })
    }
    fn write(&self, out: &mut Vec<u8>) {
        self.protocol_version.write(out);
        self.last_zxid_seen.write(out);
        self.timeout.write(out);
        self.session.write(out);
        self.password.write(out);
        if let Some(read_only) = self.read_only {
            read_only.write(out);
        }
    }
}

/// Answer to a [`ConnectRequest`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectResponse {
    /// Negotiated timeout in milliseconds; 0 says that the session does not exist (any more).
    pub timeout: i32,
    /// 0 with timeout 0.
    pub session: SessionId,
    /// Always 16 bytes, zeros with timeout 0: the C client reads a frame of fixed size.
    pub password: [u8; PASSWORD_LEN],
    /// Present exactly when the request had the byte.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// The answer that tells a client that its session is gone.
    #[must_use]
    pub const fn expired(read_only: Option<bool>) -> Self {
        Self { timeout: 0, session: SessionId::NONE, password: [0; PASSWORD_LEN], read_only }
    }
}

impl<'a> Field<'a> for ConnectResponse {
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        r.i32()?;
        let timeout = r.i32()?;
        let session = SessionId(r.i64()?);
        let bytes = r.buffer()?.ok_or(DecodeError::Null("password"))?;
        let password = bytes.try_into().map_err(|_| DecodeError::Shape("the password has not 16 bytes"))?;
        let read_only = if r.is_empty() { None } else { Some(r.bool()?) };
        Ok(Self { timeout, session, password, read_only })
    }
    fn write(&self, out: &mut Vec<u8>) {
        put_i32(out, 0);
        put_i32(out, self.timeout);
        put_i64(out, self.session.0);
        put_len(out, PASSWORD_LEN);
        out.extend_from_slice(&self.password);
        if let Some(read_only) = self.read_only {
            read_only.write(out);
        }
    }
}

plain_record! {
    /// Start of every request.
    pub struct RequestHeader {
        /// Echoed in the reply.
        pub xid: Xid,
        /// See [`crate::OpCode`]; any integer may arrive.
        pub op: i32,
    }

    /// Start of every reply; 16 bytes. A non-zero `err` means that no body follows.
    pub struct ReplyHeader {
        /// The request's, or one of the special ones of [`Xid`].
        pub xid: Xid,
        /// See the protocol reference, section 2.3.
        pub zxid: i64,
        /// 0, or an [`ErrorCode`].
        pub err: i32,
    }
}

impl RequestHeader {
    /// Bytes on the wire.
    pub const LEN: usize = 8;
}

impl ReplyHeader {
    /// Bytes on the wire.
    pub const LEN: usize = 16;
}

record! {
    /// create, create2, createContainer.
    pub struct CreateRequest<'a> {
        /// Path, or prefix for sequential modes.
        pub path: JStr<'a>,
        /// Initial data.
        pub data: JBuf<'a>,
        /// Access control list.
        pub acl: Option<Vec<RawAcl<'a>>>,
        /// See [`CreateMode`].
        pub flags: i32,
    }

    /// createTTL.
    pub struct CreateTtlRequest<'a> {
        /// Path, or prefix for sequential modes.
        pub path: JStr<'a>,
        /// Initial data.
        pub data: JBuf<'a>,
        /// Access control list.
        pub acl: Option<Vec<RawAcl<'a>>>,
        /// See [`CreateMode`].
        pub flags: i32,
        /// Time to live in milliseconds.
        pub ttl: i64,
    }

    /// delete, check.
    pub struct PathVersion<'a> {
        /// Path of the node.
        pub path: JStr<'a>,
        /// Expected version; -1 for any.
        pub version: i32,
    }

    /// exists, getData, getChildren, getChildren2.
    pub struct PathWatch<'a> {
        /// Path of the node.
        pub path: JStr<'a>,
        /// Whether to leave a watch.
        pub watch: bool,
    }

    /// setData.
    pub struct SetDataRequest<'a> {
        /// Path of the node.
        pub path: JStr<'a>,
        /// New data.
        pub data: JBuf<'a>,
        /// Expected version; -1 for any.
        pub version: i32,
    }

    /// getACL, sync, getAllChildrenNumber, getEphemerals (a prefix), deleteContainer; also the replies of
    /// create and sync.
    pub struct PathOnly<'a> {
        /// The path.
        pub path: JStr<'a>,
    }

    /// setACL.
    pub struct SetAclRequest<'a> {
        /// Path of the node.
        pub path: JStr<'a>,
        /// New list.
        pub acl: Option<Vec<RawAcl<'a>>>,
        /// Expected aversion; -1 for any.
        pub version: i32,
    }

    /// setWatches.
    pub struct SetWatches<'a> {
        /// Newest zxid that the client saw before it lost its connection.
        pub relative_zxid: i64,
        /// Paths with data watches.
        pub data: Option<Vec<JStr<'a>>>,
        /// Paths watched for creation.
        pub exist: Option<Vec<JStr<'a>>>,
        /// Paths with child watches.
        pub child: Option<Vec<JStr<'a>>>,
    }

    /// setWatches2.
    pub struct SetWatches2<'a> {
        /// The part that setWatches has too.
        pub classic: SetWatches<'a>,
        /// Paths with persistent watches.
        pub persistent: Option<Vec<JStr<'a>>>,
        /// Paths with persistent recursive watches.
        pub recursive: Option<Vec<JStr<'a>>>,
    }

    /// addWatch, checkWatches, removeWatches: a path and a mode or type.
    pub struct PathKind<'a> {
        /// Path of the watch.
        pub path: JStr<'a>,
        /// addWatch: 0 persistent, 1 recursive. The others: see [`WatcherType`].
        pub kind: i32,
    }

    /// auth.
    pub struct AuthPacket<'a> {
        /// Ignored.
        pub kind: i32,
        /// Scheme.
        pub scheme: JStr<'a>,
        /// Credentials.
        pub auth: JBuf<'a>,
    }

    /// sasl: request and reply.
    pub struct SaslToken<'a> {
        /// One step of the exchange.
        pub token: JBuf<'a>,
    }

    /// reconfig.
    pub struct ReconfigRequest<'a> {
        /// Servers to add.
        pub joining: JStr<'a>,
        /// Servers to remove.
        pub leaving: JStr<'a>,
        /// The whole new membership instead.
        pub members: JStr<'a>,
        /// Expected version of the configuration; -1 for any.
        pub config_id: i64,
    }

    /// A watch event; the body behind a header with [`Xid::NOTIFICATION`].
    pub struct WatcherEvent<'a> {
        /// See [`EventType`].
        pub kind: i32,
        /// Always 3 (SyncConnected) from a server.
        pub state: i32,
        /// Path of the change.
        pub path: Cow<'a, str>,
    }

    /// One identity of a connection, in the reply of whoAmI.
    pub struct ClientInfo<'a> {
        /// Scheme.
        pub scheme: Cow<'a, str>,
        /// User, without credentials.
        pub user: Cow<'a, str>,
    }
}

numbered! {
    /// Flags of a create request.
    pub enum CreateMode {
        /// Stays until deleted.
        Persistent = 0,
        /// Lives with the session.
        Ephemeral = 1,
        /// Persistent, with the parent's counter appended to the name.
        PersistentSequential = 2,
        /// Ephemeral, with the parent's counter appended to the name.
        EphemeralSequential = 3,
        /// Removed by the sweeper after its last child. The opcode decides at top level, the flag in a multi.
        Container = 4,
        /// Removed by the sweeper when old and childless.
        PersistentTtl = 5,
        /// Both of the above.
        PersistentSequentialTtl = 6,
    }
}

impl CreateMode {
    /// Whether the parent's counter is appended to the name.
    #[must_use]
    pub const fn is_sequential(self) -> bool {
        matches!(self, Self::PersistentSequential | Self::EphemeralSequential | Self::PersistentSequentialTtl)
    }

    /// Whether the node lives with the session.
    #[must_use]
    pub const fn is_ephemeral(self) -> bool {
        matches!(self, Self::Ephemeral | Self::EphemeralSequential)
    }

    /// Whether the node has a time to live.
    #[must_use]
    pub const fn is_ttl(self) -> bool {
        matches!(self, Self::PersistentTtl | Self::PersistentSequentialTtl)
    }
}

numbered! {
    /// What a watch event tells. Types −1 and 5 to 7 exist only inside clients.
    pub enum EventType {
        /// The node was created.
        NodeCreated = 1,
        /// The node was deleted.
        NodeDeleted = 2,
        /// The node's data was set.
        NodeDataChanged = 3,
        /// A child was created or deleted.
        NodeChildrenChanged = 4,
    }
}

numbered! {
    /// Which watches checkWatches and removeWatches mean.
    pub enum WatcherType {
        /// One-shot child watches.
        Children = 1,
        /// One-shot data and exists watches.
        Data = 2,
        /// All.
        Any = 3,
        /// Persistent.
        Persistent = 4,
        /// Persistent recursive.
        PersistentRecursive = 5,
    }
}

/// State in every event that a server sends.
pub const SYNC_CONNECTED: i32 = 3;

/// Starts a frame: reserves the length word, to be filled by [`end_frame`]. Returns where it began.
#[must_use]
pub fn begin_frame(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    put_i32(out, 0);
    at
}

/// Fills in the length of the frame that began at `at`.
///
/// # Panics
/// When `at` is not a frame's start, or the frame is 2 GiB or larger.
pub fn end_frame(out: &mut [u8], at: usize) {
    let len = i32::try_from(out.len() - at - 4).expect("a frame is bounded far below 2 GiB");
    out[at..at + 4].copy_from_slice(&len.to_be_bytes());
}

/// Appends a whole frame with a reply header and, for success, a body.
pub fn put_reply(
    out: &mut Vec<u8>,
    xid: Xid,
    zxid: i64,
    result: Result<(), ErrorCode>,
    body: impl FnOnce(&mut Vec<u8>),
) {
    let at = begin_frame(out);
    ReplyHeader { xid, zxid, err: result.err().map_or(0, ErrorCode::code) }.write(out);
    if result.is_ok() {
        body(out);
    }
    end_frame(out, at);
}

/// Appends the frame of a watch event. `zxid` is the transaction of the change, or -1 for events that
/// catch up after a reconnect.
pub fn put_event(out: &mut Vec<u8>, zxid: i64, kind: EventType, path: &str) {
    put_reply(out, Xid::NOTIFICATION, zxid, Ok(()), |out| {
        put_i32(out, kind.code());
        put_i32(out, SYNC_CONNECTED);
        put_str(out, path);
    });
}

/// Appends the body of getACL's reply.
pub fn put_acl_reply(out: &mut Vec<u8>, acl: &[Acl<'_>], stat: &Stat) {
    put_len(out, acl.len());
    for a in acl {
        a.write(out);
    }
    stat.write(out);
}
