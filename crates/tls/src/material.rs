//! PEM, from files or from memory.

use crate::TlsError;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::path::PathBuf;

/// Longest file that is read: far more than a bundle of every public CA.
const FILE_MAX: u64 = 16 << 20;

/// Where PEM comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// A file, which is read again for later connections, so that it can be renewed in place.
    File(PathBuf),
    /// The text itself.
    Text(Vec<u8>),
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text may be a private key.
        f.debug_tuple("Pem").field(&self.shown()).finish()
    }
}

impl<P: Into<PathBuf>> From<P> for Pem {
    fn from(path: P) -> Self {
        Self::File(path.into())
    }
}

impl Pem {
    /// Its name in messages.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Text(_) => "(given as text)".to_owned(),
        }
    }

    pub(crate) fn read(&self, what: &'static str) -> Result<Vec<u8>, TlsError> {
        let path = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::File(path) => path,
        };
        let unreadable = |reason: String| TlsError::Unreadable { what, file: self.shown(), reason };
        let len = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?.len();
        if len > FILE_MAX {
            return Err(unreadable(format!("it has {len} bytes; certificates and keys have less than {FILE_MAX}")));
        }
        std::fs::read(path).map_err(|e| unreadable(e.to_string()))
    }

    pub(crate) fn certificates(
        &self,
        what: &'static str,
        bytes: &[u8],
    ) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
        let wrong = |reason: String| TlsError::Content { what, file: self.shown(), reason, expected: "CERTIFICATE" };
        let found = found.map_err(|e| wrong(e.to_string()))?;
        if found.is_empty() { Err(wrong("it holds no certificate".to_owned())) } else { Ok(found) }
    }

    pub(crate) fn key(&self, what: &'static str, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(bytes).map_err(|error| {
            let encrypted = bytes.windows(9).any(|w| w == b"ENCRYPTED");
            let reason = if encrypted {
                "the key is encrypted; decrypt it (openssl pkey -in FILE -out FILE)".to_owned()
            } else {
                format!("it holds no private key: {error}")
            };
            TlsError::Content { what, file: self.shown(), reason, expected: "PRIVATE KEY" }
        })
    }
}
