//! How a session begins: what a client sends first, and what a good answer to it is.

use anyhow::{Context as _, Result, ensure};
use farrier_proto::client::{ConnectRequest, ConnectResponse, begin_frame, end_frame};
use farrier_proto::{Field as _, Reader, SessionId, Zxid};
use std::borrow::Cow;
use std::net::SocketAddr;

/// Session timeout that connections ask for, in milliseconds.
const SESSION_TIMEOUT_MS: i32 = 40_000;

/// The handshake of a new session.
const CONNECT: ConnectRequest<'static> = ConnectRequest {
    protocol_version: 0,
    last_zxid_seen: Zxid::ZERO,
    timeout: SESSION_TIMEOUT_MS,
    session: SessionId::NONE,
    password: Some(Cow::Borrowed(&[0; 16])),
    read_only: Some(false),
};

/// Appends the frame that asks for a new session.
pub(crate) fn put(out: &mut Vec<u8>) {
    put_frame(out, &CONNECT);
}

/// Appends the frame with which a session goes on at another server; with [`SessionId::NONE`] it asks for a new one.
pub(crate) fn put_again(out: &mut Vec<u8>, session: SessionId, password: &[u8], seen: Zxid) {
    put_frame(
        out,
        &ConnectRequest { last_zxid_seen: seen, session, password: Some(Cow::Borrowed(password)), ..CONNECT },
    );
}

fn put_frame(out: &mut Vec<u8>, request: &ConnectRequest<'_>) {
    let at = begin_frame(out);
    request.write(out);
    end_frame(out, at);
}

/// Reads the answer, without its length.
///
/// # Errors
///
/// It is no answer to a handshake.
pub(crate) fn read(answer: &[u8]) -> Result<ConnectResponse> {
    ConnectResponse::read(&mut Reader::new(answer)).context("reading the answer to the handshake")
}

/// Judges the answer, without its length.
///
/// # Errors
///
/// It is no answer to a handshake, or it gives no session.
pub(crate) fn check(answer: &[u8]) -> Result<()> {
    let response = read(answer)?;
    ensure!(response.timeout > 0 && response.session != SessionId::NONE, "the server refuses a session");
    Ok(())
}

/// What stands before the failure of a connection: its number, counted from 0, its server, and the usual reason.
pub(crate) fn failed(index: usize, addr: SocketAddr) -> String {
    format!(
        "connection {} to {addr} (servers take maxClientCnxns from one address, 60 by default; 0 is no limit)",
        index + 1
    )
}
