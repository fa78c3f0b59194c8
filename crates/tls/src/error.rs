//! What can be wrong with TLS files and with the other side's certificate.

use rustls::{AlertDescription, CertificateError, Error};
use std::io;

/// Why TLS cannot be set up. Names the file, and what to give instead.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("{what} {file}: {reason}")]
    Unreadable {
        /// What it should hold.
        what: &'static str,
        /// Its path.
        file: String,
        /// The system's word.
        reason: String,
    },
    /// A file that is no PEM, or holds nothing of what it should.
    #[error("{what} {file}: {reason}; expected PEM with `-----BEGIN {expected}-----`")]
    Content {
        /// What it should hold.
        what: &'static str,
        /// Its path.
        file: String,
        /// What is wrong.
        reason: String,
        /// The label that was looked for.
        expected: &'static str,
    },
    /// A certificate and a key that do not go together, or that rustls does not take.
    #[error("certificate {certificate} and key {key} cannot be used: {reason}")]
    Identity {
        /// Where the certificate came from.
        certificate: String,
        /// Where the key came from.
        key: String,
        /// rustls's word.
        reason: String,
    },
    /// A host name that no certificate can have.
    #[error("`{0}` is no host name that a certificate can be checked for; give another with ClientTls::expect_name")]
    Name(String),
    /// rustls could not be set up.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// What went wrong in a connection, in words and with a remedy; `None` if it was not TLS.
pub(crate) fn explain(error: &io::Error, trust: &str) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired; renew it there (or set this machine's clock)".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet; check the clocks of both machines".to_owned()
            }
            // Another key of the same name is a CA that was made anew.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                format!("the server's certificate is not signed by any of {trust}; trust the CA that signed it")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
                "the server's certificate is for another name ({error}); connect by a name that it has, or give one \
                 with ClientTls::expect_name"
            ),
            CertificateError::Revoked => "the server's certificate was revoked; it needs a new one".to_owned(),
            other => format!("the server's certificate cannot be trusted: {other}"),
        },
        Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => {
                "the server wants a client certificate; give one with ClientTls::identity".to_owned()
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate => format!(
                "the server refuses the client's certificate ({alert:?}); give one that a CA of its trust store signed \
                 and that is still valid"
            ),
            AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion => {
                format!("the server and this client have no TLS version or cipher in common ({alert:?})")
            }
            other => format!("the server ended the TLS connection: {other:?}"),
        },
        Error::InvalidMessage(_) => "the server does not speak TLS on this port; use its secureClientPort".to_owned(),
        other => format!("TLS: {other}"),
    })
}
