//! Simulated clients: ZooKeeper's client protocol as a state machine without sockets or clocks.
//!
//! A client dials servers, opens and re-attaches its session, pings, reconnects with back-off, moves between servers of
//! its own will, and makes the requests that its [`Workload`] draws. It decides nothing about right and wrong: it tells what
//! it did and heard ([`ClientEvent`]), and checkers judge. Everything follows from the seed and the inputs.

use crate::observe::{ClientEvent, DialId};
use farrier_proto::ServerId;

/// Everything that can wake a client. Inputs of connections that it has closed, or was told to be closed, are ignored.
#[derive(Debug)]
pub enum ClientInput<'a> {
    /// The dial succeeded.
    Connected(DialId),
    /// The connection is gone, or the dial was refused.
    Disconnected(DialId),
    /// A whole frame arrived, without its length word.
    Frame(DialId, &'a [u8]),
    /// The moment of [`Client::next_deadline`] came. Also the first input, when the client is to begin.
    Timer,
    /// From now on make no new requests; keep the session alive. Answers to requests under way still come.
    Rest,
}

/// What is to be done for a client, in this order.
#[derive(Debug)]
pub enum ClientOutput {
    /// Dial a server; then [`ClientInput::Connected`] or [`ClientInput::Disconnected`].
    Dial(DialId, ServerId),
    /// Send a whole frame, without its length word.
    Send(DialId, Vec<u8>),
    /// Close the connection. What was sent before still leaves; what arrives is for nobody.
    Close(DialId),
    /// Tell this, at the moment of the input.
    Observed(ClientEvent),
}
