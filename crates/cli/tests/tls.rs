//! The TLS flags of the commands, before a front that ends TLS and demands certificates.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_blocking;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

mod support;

use support::Process;

/// A CA, and files with what it vouches for.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        let file = dir.join(format!("{name}.pem"));
        fs::write(&file, certificate.pem()).expect("written");
        Self { issuer: Issuer::new(params, key), file, certificate }
    }

    fn leaf(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.signed_by(&key, &self.issuer).expect("signed"), key)
    }
}

/// Speaks TLS with those who show a certificate of `ca`, and hands on to the server.
async fn front(server: SocketAddr, ca: &Authority) -> u16 {
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate.der().clone()).expect("a certificate");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let (leaf, key) = ca.leaf("localhost");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("roots"))
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
        .expect("a pair");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.expect("a connection");
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Whoever does not shake hands properly is none of the server's business.
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let Ok(mut server) = TcpStream::connect(server).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

async fn farrier(server: &str, words: Vec<String>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
    command.args(words).env("FARRIER_SERVER", server).env_remove("FARRIER_AUTH").env_remove("FARRIER_LOG");
    spawn_blocking(move || command.output().expect("the binary runs")).await.expect("running does not panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_given_as_flags_are_shown_and_checked() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut server = Process::new(dir.path(), &[]);
    server.start();
    let (ca, stranger) = (Authority::new(dir.path(), "ca"), Authority::new(dir.path(), "stranger"));
    let address = format!("localhost:{}", front(server.addr(), &ca).await);
    let (certificate, key) = ca.leaf("me");
    let (cert_file, key_file) = (dir.path().join("me.pem"), dir.path().join("me.key"));
    fs::write(&cert_file, certificate.pem()).expect("written");
    fs::write(&key_file, key.serialize_pem()).expect("written");
    let flag = |name: &str, file: &Path| vec![name.to_owned(), file.to_str().expect("text").to_owned()];
    let words = |all: &[&str]| all.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let identity = [flag("--tls-cert", &cert_file), flag("--tls-key", &key_file)].concat();

    let trusting = [flag("--tls-ca", &ca.file), identity.clone(), words(&["--timeout", "60"])].concat();
    for command in [words(&["create", "/over-tls", "x"]), words(&["get", "/over-tls"])] {
        let done = farrier(&address, [command.clone(), trusting.clone()].concat()).await;
        assert_eq!(done.status.code(), Some(0), "{command:?}: {done:?}");
    }

    let get = words(&["get", "/over-tls", "--timeout", "3"]);
    for (flags, code, why) in [
        // Nobody that this side trusts.
        ([flag("--tls-ca", &stranger.file), identity.clone()].concat(), 3, "localhost"),
        // No certificate to show.
        (flag("--tls-ca", &ca.file), 3, "localhost"),
        // No TLS at all.
        (Vec::new(), 3, "localhost"),
        // Files that can't be used.
        (flag("--tls-ca", &dir.path().join("none.pem")), 2, "none.pem"),
        (flag("--tls-ca", &key_file), 2, "me.key"),
        (identity.clone(), 2, "--tls-ca"),
        (flag("--tls-cert", &cert_file), 2, "--tls-key"),
    ] {
        let refused = farrier(&address, [get.clone(), flags.clone()].concat()).await;
        assert_eq!(refused.status.code(), Some(code), "{flags:?}: {refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(why), "{flags:?}: {refused:?}");
    }
}
