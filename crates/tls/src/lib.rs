//! TLS of Farrier: certificates, keys and trust from PEM, and errors that say what to do about them.
//!
//! This crate owns how rustls is set up. It opens no connection. Verification cannot be switched off.

mod client;
mod error;
mod material;

pub use client::ClientTls;
pub use error::TlsError;
pub use material::Pem;

pub use rustls::ClientConfig;
pub use rustls_pki_types::ServerName;
