//! The election port as bytes: the header of a connection, and notifications in frames behind it.

use super::{ELECTION_ADDRESS_MAX, ElectionRound, NOTIFICATION_MAX, Notification, ServerState, Vote};
use crate::DecodeError;
use crate::ids::ServerId;
use crate::jute::{Reader, put_buffer, put_i32, put_i64, put_len, put_str};
use bytes::Bytes;
use core::net::IpAddr;

/// First word of the header since 3.5; one address.
const HEADER_V1: i64 = -65536;
/// First word of the header since 3.6 where `multiAddress.enabled` is set; addresses separated by `|`.
const HEADER_V2: i64 = -65535;

/// Payload of the messages before 3.4: no peer epoch.
const LEN_WITHOUT_EPOCH: usize = 28;
/// Payload of the messages of 3.4: what stands in place of the version means nothing.
const LEN_WITHOUT_VERSION: usize = 40;

impl ServerState {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::Looking => 0,
            Self::Following => 1,
            Self::Leading => 2,
            Self::Observing => 3,
        }
    }

    /// The state of a number; `None` if there is none.
    #[must_use]
    pub const fn from_code(code: i32) -> Option<Self> {
        match code {
            0 => Some(Self::Looking),
            1 => Some(Self::Following),
            2 => Some(Self::Leading),
            3 => Some(Self::Observing),
            _ => None,
        }
    }
}

/// Length of the frame at the start of `buf`, with its 4 bytes of length; `None` if more bytes are needed. The
/// payload begins at offset 4.
///
/// # Errors
/// [`DecodeError::Length`] for an empty frame or one beyond [`NOTIFICATION_MAX`]: the connection closes.
pub fn measure_notification(buf: &[u8]) -> Result<Option<usize>, DecodeError> {
    let mut r = Reader::new(buf);
    let Ok(len) = r.i32() else { return Ok(None) };
    match usize::try_from(len) {
        Ok(n @ 1..=NOTIFICATION_MAX) => Ok((r.rest().len() >= n).then_some(4 + n)),
        Ok(_) | Err(_) => Err(DecodeError::Length { field: "notification", len, max: NOTIFICATION_MAX }),
    }
}

impl Notification {
    /// Appends the message as a frame. The configuration is left out below version 2.
    pub fn write(&self, out: &mut Vec<u8>) {
        let config = self.config.as_deref().unwrap_or_default();
        let with_config = self.version > 1;
        put_len(out, if with_config { LEN_WITHOUT_VERSION + 4 + config.len() } else { LEN_WITHOUT_VERSION });
        put_i32(out, self.state.code());
        put_i64(out, self.vote.leader.0);
        put_i64(out, self.vote.zxid);
        put_i64(out, self.round.0);
        put_i64(out, self.vote.peer_epoch);
        put_i32(out, self.version);
        if with_config {
            put_buffer(out, Some(config));
        }
    }

    /// Reads the payload of a frame, in any form since 3.3. `None` for a state that is not known; that message is
    /// ignored.
    ///
    /// # Errors
    /// [`DecodeError`] says why the message is skipped. The connection stays, as with Apache.
    pub fn read(payload: &[u8]) -> Result<Option<Self>, DecodeError> {
        let mut r = Reader::new(payload);
        let state = r.i32()?;
        let leader = ServerId(r.i64()?);
        let zxid = r.i64()?;
        let round = ElectionRound(r.i64()?);
        let peer_epoch = if payload.len() == LEN_WITHOUT_EPOCH { zxid >> 32 } else { r.i64()? };
        let version = match payload.len() {
            LEN_WITHOUT_EPOCH | LEN_WITHOUT_VERSION => 0,
            _ => r.i32()?,
        };
        let mut config = None;
        if version > 1 {
            let text = r.buffer()?.ok_or(DecodeError::Null("configuration"))?;
            config = (!text.is_empty()).then(|| Bytes::copy_from_slice(text));
        }
        let vote = Vote { leader, zxid, peer_epoch };
        Ok(ServerState::from_code(state).map(|state| Self { state, vote, round, version, config }))
    }
}

/// What a server that dials an election port says first.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ElectionHeader {
    /// Who dials. `i64::MAX` for an observer without an id.
    pub server: ServerId,
    /// Its own election ports, by name or number without brackets. Empty if it did not say, or named a wildcard:
    /// the configured address holds.
    pub addresses: Vec<(String, u16)>,
}

impl ElectionHeader {
    /// Appends the header with one address (V1), which every release since 3.5 reads. It must leave in one
    /// segment: Apache refuses a header that arrives in parts.
    ///
    /// # Panics
    /// When the address is longer than [`ELECTION_ADDRESS_MAX`].
    pub fn write(server: ServerId, host: &str, port: u16, out: &mut Vec<u8>) {
        let text = text_of(host, port);
        assert!(text.len() <= ELECTION_ADDRESS_MAX, "an address of {} bytes is no address", text.len());
        put_header(HEADER_V1, server, &text, out);
    }

    /// Appends the header with several addresses (V2), which releases since 3.6 read: only for ensembles with
    /// `multiAddress.enabled`, and in one segment too. Addresses beyond [`ELECTION_ADDRESS_MAX`] bytes are left out.
    ///
    /// # Panics
    /// When not even the first address fits, or there is none.
    pub fn write_several<'a>(server: ServerId, addresses: impl Iterator<Item = (&'a str, u16)>, out: &mut Vec<u8>) {
        let mut text = String::new();
        for (host, port) in addresses {
            let next = text_of(host, port);
            if text.is_empty() {
                text = next;
            } else if text.len() + 1 + next.len() <= ELECTION_ADDRESS_MAX {
                text.push('|');
                text.push_str(&next);
            }
        }
        assert!((1..=ELECTION_ADDRESS_MAX).contains(&text.len()), "{} bytes are no addresses", text.len());
        put_header(HEADER_V2, server, &text, out);
    }

    /// Reads the header at the start of `buf`, and tells its length; `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`DecodeError`]: the connection closes.
    pub fn parse(buf: &[u8]) -> Result<Option<(Self, usize)>, DecodeError> {
        let mut r = Reader::new(buf);
        match Self::read(&mut r) {
            Ok(header) => Ok(Some((header, r.position()))),
            Err(DecodeError::Short { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let first = r.i64()?;
        if first >= 0 {
            // Before 3.5 the id was all there was.
            return Ok(Self { server: ServerId(first), addresses: Vec::new() });
        }
        if first != HEADER_V1 && first != HEADER_V2 {
            return Err(DecodeError::Value { field: "version of the election header", value: first });
        }
        let server = ServerId(r.i64()?);
        let len = r.i32()?;
        let Ok(n @ 1..=ELECTION_ADDRESS_MAX) = usize::try_from(len) else {
            return Err(DecodeError::Length { field: "election address", len, max: ELECTION_ADDRESS_MAX });
        };
        let text = std::str::from_utf8(r.take(n, "election address")?)
            .map_err(|_| DecodeError::Shape("the election address is not UTF-8"))?;
        let mut addresses = Vec::new();
        for address in text.split('|') {
            let (host, port) = address_of(address)
                .ok_or(DecodeError::Shape("the election address is not host:port, or several of them"))?;
            if !host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
                addresses.push((host.to_owned(), port));
            }
        }
        Ok(Self { server, addresses })
    }
}

fn put_header(version: i64, server: ServerId, addresses: &str, out: &mut Vec<u8>) {
    put_i64(out, version);
    put_i64(out, server.0);
    put_str(out, addresses);
}

fn text_of(host: &str, port: u16) -> String {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if bare.contains(':') { format!("[{bare}]:{port}") } else { format!("{bare}:{port}") }
}

fn address_of(text: &str) -> Option<(&str, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once("]:")?,
        None => text.split_once(':')?,
    };
    // A sign would be accepted by parse.
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    // Brackets stand around a host, never within one.
    let bare = !host.is_empty() && !host.contains(['[', ']']);
    (bare && digits).then_some((host, port.parse().ok()?))
}
