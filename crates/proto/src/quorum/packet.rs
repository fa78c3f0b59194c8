//! The learner channel's packets as bytes.
//!
//! Nothing frames them: `int type, long zxid, buffer data, vector<Id> authinfo` follow each other back to back,
//! so that [`measure`] comes first and the packet is read from exactly the bytes that it names.

use super::{
    CUMULATIVE_TAG, ForwardedRequest, Identities, LEARNER_PROTOCOL_VERSION, LeaderPacket, LearnerInfo, LearnerPacket,
};
use crate::ids::{AcceptedEpoch, CurrentEpoch, ServerId, SessionId, Zxid};
use crate::jute::{Reader, put_buffer, put_i32, put_i64, put_len};
use crate::limits::LEARNER_IDENTITIES_MAX;
use crate::{Blocks, DecodeError};

/// A packet that is of no use to whoever received it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PacketError {
    /// Its type is unknown, or only the other side may send it. Logged and ignored in broadcast, as Apache does;
    /// fatal for the link before.
    #[error("a packet of type {0} is not known here")]
    Unknown(i32),
    /// It is not what its type says: the link closes.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

const REQUEST: i32 = 1;
const PROPOSAL: i32 = 2;
const ACK: i32 = 3;
const COMMIT: i32 = 4;
const PING: i32 = 5;
const REVALIDATE: i32 = 6;
const SYNC: i32 = 7;
const INFORM: i32 = 8;
const COMMIT_AND_ACTIVATE: i32 = 9;
const NEW_LEADER: i32 = 10;
const FOLLOWER_INFO: i32 = 11;
const UP_TO_DATE: i32 = 12;
const DIFF: i32 = 13;
const TRUNC: i32 = 14;
const SNAP: i32 = 15;
const OBSERVER_INFO: i32 = 16;
const LEADER_INFO: i32 = 17;
const ACK_EPOCH: i32 = 18;
const INFORM_AND_ACTIVATE: i32 = 19;

/// Where the zxid field has no meaning.
const NO_ZXID: i64 = -1;
/// Type, zxid and the length of the data.
const DATA_OFFSET: usize = 16;
/// Session, cxid and operation in front of a request's body.
const REQUEST_PREFIX: usize = 16;
/// An identity of two empty strings.
const IDENTITY_MIN: usize = 8;
/// What a learner without a protocol version speaks: 3.3.
const OLDEST_PROTOCOL_VERSION: i32 = 1;

/// Length of the packet at the start of `buf`; `None` if more bytes are needed to tell, or to have it whole.
///
/// # Errors
/// [`DecodeError::Length`] as soon as a length is out of bounds: more data than `data_max`, or more identities
/// than [`LEARNER_IDENTITIES_MAX`]. The link is of no use any more.
pub fn measure(buf: &[u8], data_max: usize) -> Result<Option<usize>, DecodeError> {
    match Raw::read(buf, data_max) {
        Ok(raw) => Ok(Some(raw.len)),
        Err(DecodeError::Short { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

/// A packet whose data has no meaning yet.
struct Raw<'a> {
    kind: i32,
    zxid: i64,
    data: Option<&'a [u8]>,
    /// The vector, with its count.
    identities: &'a [u8],
    len: usize,
}

impl<'a> Raw<'a> {
    fn read(buf: &'a [u8], data_max: usize) -> Result<Self, DecodeError> {
        let mut r = Reader::new(buf);
        let kind = r.i32()?;
        let zxid = r.i64()?;
        let data = bounded(&mut r, "packet data", data_max)?;
        let start = r.position();
        let len = r.i32()?;
        // Negative counts other than -1 read as empty, as in jute.
        let count = usize::try_from(len).unwrap_or(0);
        let most = LEARNER_IDENTITIES_MAX / IDENTITY_MIN;
        if count > most {
            return Err(DecodeError::Length { field: "identities", len, max: most });
        }
        for _ in 0..2 * count {
            let left = (start + LEARNER_IDENTITIES_MAX).saturating_sub(r.position());
            bounded(&mut r, "identity", left)?;
        }
        Ok(Self { kind, zxid, data, identities: &buf[start..r.position()], len: r.position() })
    }

    /// One whole packet and nothing else.
    fn exactly(packet: &'a [u8]) -> Result<Self, DecodeError> {
        let raw = Self::read(packet, packet.len())?;
        if raw.len == packet.len() { Ok(raw) } else { Err(DecodeError::Shape("there are bytes behind the packet")) }
    }

    fn data(&self, field: &'static str) -> Result<Reader<'a>, DecodeError> {
        self.data.map(Reader::new).ok_or(DecodeError::Null(field))
    }

    const fn zxid(&self) -> Zxid {
        Zxid::from_wire(self.zxid)
    }
}

fn bounded<'a>(r: &mut Reader<'a>, field: &'static str, max: usize) -> Result<Option<&'a [u8]>, DecodeError> {
    let len = r.i32()?;
    match usize::try_from(len) {
        Ok(n) if n <= max => r.take(n, field).map(Some),
        Err(_) if len == -1 => Ok(None),
        Ok(_) | Err(_) => Err(DecodeError::Length { field, len, max }),
    }
}

fn put_start(out: &mut Vec<u8>, kind: i32, zxid: i64) {
    put_i32(out, kind);
    put_i64(out, zxid);
}

/// A packet without identities, which only requests have.
fn put_packet(out: &mut Vec<u8>, kind: i32, zxid: i64, data: Option<&[u8]>) {
    out.reserve(DATA_OFFSET + data.map_or(0, <[u8]>::len) + 4);
    put_start(out, kind, zxid);
    put_buffer(out, data);
    put_i32(out, -1);
}

impl LearnerInfo {
    /// Apache decides by length, since the record grew.
    fn read(data: Option<&[u8]>) -> Result<Self, DecodeError> {
        let mut info =
            Self { server: None, protocol_version: OLDEST_PROTOCOL_VERSION, config_version: 0, cumulative: false };
        let Some(data) = data else { return Ok(info) };
        let mut r = Reader::new(data);
        if data.len() >= 8 {
            info.server = Some(ServerId(r.i64()?));
        }
        if data.len() >= 12 {
            info.protocol_version = r.i32()?;
        }
        if data.len() >= 20 {
            info.config_version = r.i64()?.cast_unsigned();
            info.cumulative = r.rest().starts_with(&CUMULATIVE_TAG);
        }
        Ok(info)
    }

    fn put(&self, out: &mut Vec<u8>, kind: i32, accepted: AcceptedEpoch) {
        let zxid = Zxid::new(accepted.0, 0).to_wire();
        let Some(server) = self.server else { return put_packet(out, kind, zxid, None) };
        let mut data = [0; 28];
        data[..8].copy_from_slice(&server.0.to_be_bytes());
        data[8..12].copy_from_slice(&self.protocol_version.to_be_bytes());
        data[12..20].copy_from_slice(&self.config_version.to_be_bytes());
        data[20..].copy_from_slice(&CUMULATIVE_TAG);
        let len = if self.cumulative { data.len() } else { 20 };
        put_packet(out, kind, zxid, Some(&data[..len]));
    }
}

impl LearnerPacket {
    /// Which server says by this packet that it is at the other end. Those of before 3.4 don't say.
    #[must_use]
    pub const fn introduces(&self) -> Option<ServerId> {
        match self {
            Self::FollowerInfo { info, .. } | Self::ObserverInfo { info, .. } => info.server,
            Self::AckEpoch { .. }
            | Self::Ack { .. }
            | Self::Ping { .. }
            | Self::Revalidate { .. }
            | Self::Request(_) => None,
        }
    }

    /// Appends the packet's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::FollowerInfo { accepted, info } => info.put(out, FOLLOWER_INFO, *accepted),
            Self::ObserverInfo { accepted, info } => info.put(out, OBSERVER_INFO, *accepted),
            Self::AckEpoch { last_logged, current } => {
                let epoch = current.map_or(u32::MAX, |c| c.0);
                put_packet(out, ACK_EPOCH, *last_logged, Some(&epoch.to_be_bytes()));
            }
            Self::Ack { zxid } => put_packet(out, ACK, zxid.to_wire(), None),
            Self::Ping { zxid, touched } => {
                put_start(out, PING, *zxid);
                // Never null: an Apache leader drops the connection over that.
                put_len(out, touched.len() * 12);
                for (session, timeout) in touched {
                    put_i64(out, session.0);
                    put_i32(out, *timeout);
                }
                put_i32(out, -1);
            }
            Self::Revalidate { session, timeout } => {
                put_start(out, REVALIDATE, NO_ZXID);
                put_len(out, 12);
                put_i64(out, session.0);
                put_i32(out, *timeout);
                put_i32(out, -1);
            }
            Self::Request(request) => request.put(out),
        }
    }

    /// Reads what a learner sent; `packet` is the length that [`measure`] tells. What it keeps of it is in `blocks`.
    ///
    /// # Errors
    /// [`PacketError`].
    pub fn read(packet: &[u8], blocks: &mut Blocks) -> Result<Self, PacketError> {
        let raw = Raw::exactly(packet)?;
        Ok(match raw.kind {
            FOLLOWER_INFO | OBSERVER_INFO => {
                let accepted = AcceptedEpoch(raw.zxid().epoch());
                let info = LearnerInfo::read(raw.data)?;
                if raw.kind == FOLLOWER_INFO {
                    Self::FollowerInfo { accepted, info }
                } else {
                    Self::ObserverInfo { accepted, info }
                }
            }
            ACK_EPOCH => {
                let epoch = raw.data("current epoch")?.i32()?;
                let current = (epoch != -1).then_some(CurrentEpoch(epoch.cast_unsigned()));
                Self::AckEpoch { last_logged: raw.zxid, current }
            }
            ACK => Self::Ack { zxid: raw.zxid() },
            PING => {
                let mut r = raw.data("touched sessions")?;
                let mut touched = Vec::with_capacity(r.rest().len() / 12);
                while !r.is_empty() {
                    touched.push((SessionId(r.i64()?), r.i32()?));
                }
                Self::Ping { zxid: raw.zxid, touched }
            }
            REVALIDATE => {
                let mut r = raw.data("session")?;
                Self::Revalidate { session: SessionId(r.i64()?), timeout: r.i32()? }
            }
            REQUEST => {
                let mut r = raw.data("request")?;
                Self::Request(ForwardedRequest {
                    session: SessionId(r.i64()?),
                    cxid: r.i32()?,
                    op: r.i32()?,
                    body: blocks.copied(r.rest()),
                    identities: Identities::read(raw.identities, blocks)?,
                })
            }
            unknown => return Err(PacketError::Unknown(unknown)),
        })
    }
}

impl ForwardedRequest {
    fn put(&self, out: &mut Vec<u8>) {
        out.reserve(DATA_OFFSET + REQUEST_PREFIX + self.body.len() + 4);
        put_start(out, REQUEST, NO_ZXID);
        put_len(out, REQUEST_PREFIX + self.body.len());
        put_i64(out, self.session.0);
        put_i32(out, self.cxid);
        put_i32(out, self.op);
        out.extend_from_slice(&self.body);
        self.identities.put(out);
    }
}

impl LeaderPacket {
    /// Appends the packet's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::LeaderInfo { epoch, protocol_version, cumulative } => {
                let mut data = [0; 12];
                data[..4].copy_from_slice(&protocol_version.to_be_bytes());
                data[4..].copy_from_slice(&CUMULATIVE_TAG);
                let len = if *cumulative { data.len() } else { 4 };
                put_packet(out, LEADER_INFO, Zxid::new(*epoch, 0).to_wire(), Some(&data[..len]));
            }
            Self::Diff { zxid } => put_packet(out, DIFF, zxid.to_wire(), None),
            Self::Trunc { zxid } => put_packet(out, TRUNC, zxid.to_wire(), None),
            Self::Snap { zxid } => put_packet(out, SNAP, zxid.to_wire(), None),
            Self::NewLeader { zxid, config } => {
                let text = (!config.is_empty()).then_some(&config[..]);
                put_packet(out, NEW_LEADER, zxid.to_wire(), text);
            }
            Self::UpToDate => put_packet(out, UP_TO_DATE, NO_ZXID, None),
            Self::Proposal { zxid, txn } => put_packet(out, PROPOSAL, zxid.to_wire(), Some(txn)),
            Self::Commit { zxid } => put_packet(out, COMMIT, zxid.to_wire(), None),
            Self::Inform { zxid, txn } => put_packet(out, INFORM, zxid.to_wire(), Some(txn)),
            Self::CommitAndActivate { zxid, designated } => {
                put_packet(out, COMMIT_AND_ACTIVATE, zxid.to_wire(), Some(&designated.0.to_be_bytes()));
            }
            Self::InformAndActivate { zxid, designated, txn } => {
                put_start(out, INFORM_AND_ACTIVATE, zxid.to_wire());
                put_len(out, 8 + txn.len());
                put_i64(out, designated.0);
                out.extend_from_slice(txn);
                put_i32(out, -1);
            }
            Self::Ping { zxid } => put_packet(out, PING, *zxid, None),
            Self::Revalidate { session, valid } => {
                put_start(out, REVALIDATE, NO_ZXID);
                put_len(out, 9);
                put_i64(out, session.0);
                out.push(u8::from(*valid));
                put_i32(out, -1);
            }
            Self::Sync => put_packet(out, SYNC, 0, None),
        }
    }

    /// Reads what a leader sent; `packet` is the length that [`measure`] tells. Transactions and texts are kept in
    /// `blocks`.
    ///
    /// # Errors
    /// [`PacketError`].
    pub fn read(packet: &[u8], blocks: &mut Blocks) -> Result<Self, PacketError> {
        let raw = Raw::exactly(packet)?;
        let zxid = raw.zxid();
        let mut kept = |skip: usize| blocks.copied(&raw.data.unwrap_or_default()[skip..]);
        Ok(match raw.kind {
            LEADER_INFO => {
                let mut r = raw.data("protocol version")?;
                let protocol_version = r.i32()?;
                Self::LeaderInfo {
                    epoch: zxid.epoch(),
                    protocol_version,
                    cumulative: r.rest().starts_with(&CUMULATIVE_TAG),
                }
            }
            DIFF => Self::Diff { zxid },
            TRUNC => Self::Trunc { zxid },
            SNAP => Self::Snap { zxid },
            NEW_LEADER => Self::NewLeader { zxid, config: kept(0) },
            UP_TO_DATE => Self::UpToDate,
            PROPOSAL => {
                raw.data("transaction")?;
                Self::Proposal { zxid, txn: kept(0) }
            }
            COMMIT => Self::Commit { zxid },
            INFORM => {
                raw.data("transaction")?;
                Self::Inform { zxid, txn: kept(0) }
            }
            COMMIT_AND_ACTIVATE => {
                Self::CommitAndActivate { zxid, designated: ServerId(raw.data("designated leader")?.i64()?) }
            }
            INFORM_AND_ACTIVATE => {
                let mut r = raw.data("designated leader")?;
                let designated = ServerId(r.i64()?);
                Self::InformAndActivate { zxid, designated, txn: kept(r.position()) }
            }
            PING => Self::Ping { zxid: raw.zxid },
            REVALIDATE => {
                let mut r = raw.data("session")?;
                Self::Revalidate { session: SessionId(r.i64()?), valid: r.bool()? }
            }
            SYNC => Self::Sync,
            unknown => return Err(PacketError::Unknown(unknown)),
        })
    }
}

const _: () = assert!(OLDEST_PROTOCOL_VERSION < LEARNER_PROTOCOL_VERSION);
