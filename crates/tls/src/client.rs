//! The client's side.

use crate::error::explain;
use crate::{Pem, TlsError};
use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;

/// How a client speaks TLS: whom it trusts, who it is, and which name it expects of the server.
///
/// The server's certificate is always verified: its chain, its dates, its name. Files are read again for every
/// connection, so that a renewed certificate is used without a restart.
#[derive(Debug)]
pub struct ClientTls {
    trust: Pem,
    identity: Option<(Pem, Pem)>,
    name: Option<String>,
    made: Mutex<Option<Made>>,
}

/// The configuration made of what the files had.
#[derive(Debug)]
struct Made {
    bytes: Vec<Vec<u8>>,
    config: Arc<ClientConfig>,
}

impl ClientTls {
    /// Trusts servers whose certificate was signed by one of these CAs.
    pub fn new(trust: impl Into<Pem>) -> Self {
        Self { trust: trust.into(), identity: None, name: None, made: Mutex::new(None) }
    }

    /// Shows this certificate (its chain, leaf first) to servers that ask for one. Apache's do unless they have
    /// `ssl.clientAuth=none`.
    #[must_use]
    pub fn identity(self, certificate: impl Into<Pem>, key: impl Into<Pem>) -> Self {
        Self { identity: Some((certificate.into(), key.into())), ..self }
    }

    /// Expects this name in the servers' certificates, instead of the host that was connected to: for servers that
    /// share a certificate.
    #[must_use]
    pub fn expect_name(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// The configuration for rustls. Reads the files; the same configuration as last time if nothing changed.
    ///
    /// # Errors
    /// When a file cannot be read or used; names it.
    pub fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let (ca, certificate, key) = ("trusted certificates", "client certificate", "client key");
        let mut bytes = vec![self.trust.read(ca)?];
        if let Some((chain, private)) = &self.identity {
            bytes.extend([chain.read(certificate)?, private.read(key)?]);
        }
        let mut made = self.made.lock();
        if let Some(made) = made.as_ref().filter(|made| made.bytes == bytes) {
            return Ok(Arc::clone(&made.config));
        }
        let mut roots = RootCertStore::empty();
        for root in self.trust.certificates(ca, &bytes[0])? {
            roots.add(root).map_err(|e| TlsError::Content {
                what: ca,
                file: self.trust.shown(),
                reason: e.to_string(),
                expected: "CERTIFICATE",
            })?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::Setup(e.to_string()))?
            .with_root_certificates(roots);
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, private)) => {
                let chain_der = chain.certificates(certificate, &bytes[1])?;
                let key_der = private.key(key, &bytes[2])?;
                builder.with_client_auth_cert(chain_der, key_der).map_err(|e| TlsError::Identity {
                    certificate: chain.shown(),
                    key: private.shown(),
                    reason: e.to_string(),
                })?
            }
        };
        let config = Arc::new(config);
        *made = Some(Made { bytes, config: Arc::clone(&config) });
        Ok(config)
    }

    /// The name to expect of the server at `host`, a name or an address.
    ///
    /// # Errors
    /// When no certificate can have such a name.
    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        let name = self.name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))
    }

    /// What went wrong in a connection, in words and with a remedy; `None` if it was not TLS.
    #[must_use]
    pub fn explain(&self, error: &io::Error) -> Option<String> {
        explain(error, &self.trust.shown())
    }
}
