//! What tests of the whole server need: a client that speaks the protocol byte by byte, launchers of
//! Farrier and of Apache ZooKeeper, and the conformance cases that judge both.
//!
//! Nothing here is part of a server. The client writes requests with its own encoders, so that it can
//! send what no client should, and reads replies with `farrier-proto`.

pub mod apache;
pub mod case;
pub mod conformance;
pub mod enc;
pub mod ensemble;
pub mod load;
pub mod net;
pub mod ports;
pub mod raw;
pub mod relay;
pub mod server;
pub mod walk;
