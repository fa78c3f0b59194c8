//! Handshakes in memory between the client's side and a server of rustls, with certificates of all sorts.

use farrier_tls::{ClientConfig, ClientTls, Pem, TlsError};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::sync::Arc;

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
struct Leaf {
    certificate: String,
    key: String,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn leaf(&self, name: &str, last_year: i32) -> Leaf {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed").pem();
        Leaf { certificate, key: key.serialize_pem() }
    }

    fn trusted(&self) -> ClientTls {
        ClientTls::new(text(&self.pem))
    }
}

fn text(pem: &str) -> Pem {
    Pem::Text(pem.as_bytes().to_vec())
}

/// A server with this certificate, which wants one of its clients if there is a CA for them.
fn server(leaf: &Leaf, clients: Option<&Ca>) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).expect("a CA")).expect("a CA");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("a key");
    Arc::new(builder.with_single_cert(chain, key).expect("a pair"))
}

/// Shakes hands, and passes one message each way. What went wrong for the client, in words.
fn meet(tls: &ClientTls, server: &Arc<ServerConfig>) -> Result<(), String> {
    let config: Arc<ClientConfig> = tls.config().map_err(|e| e.to_string())?;
    let name = tls.server_name("zk.example").map_err(|e| e.to_string())?;
    let mut client = ClientConnection::new(config, name).expect("a client");
    let mut server = ServerConnection::new(Arc::clone(server)).expect("a server");
    let words = |e: rustls::Error| {
        let error = io::Error::new(io::ErrorKind::InvalidData, e);
        tls.explain(&error).expect("it is about TLS")
    };
    // Either side may have the last word, so both go on until nobody has any.
    loop {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("memory");
        let mut refused = None;
        let mut from = &bytes[..];
        while !from.is_empty() {
            server.read_tls(&mut from).expect("memory");
            refused = server.process_new_packets().err();
        }
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer).expect("memory");
        }
        let mut from = &answer[..];
        while !from.is_empty() {
            client.read_tls(&mut from).expect("memory");
            client.process_new_packets().map_err(words)?;
        }
        assert!(refused.is_none(), "the client heard nothing of {refused:?}");
        if bytes.is_empty() && answer.is_empty() {
            assert!(!client.is_handshaking() && !server.is_handshaking());
            return Ok(());
        }
    }
}

#[test]
fn the_right_certificate_and_no_other() {
    let (ca, other) = (Ca::new(), Ca::new());
    let right = server(&ca.leaf("zk.example", 2100), None);
    meet(&ca.trusted(), &right).expect("the right one");

    let error = meet(&other.trusted(), &right).expect_err("another CA");
    assert!(error.contains("not signed by any of (given as text)") && error.contains("trust the CA"), "{error}");
    let error = meet(&ca.trusted(), &server(&ca.leaf("zk.example", 2001), None)).expect_err("expired");
    assert!(error.contains("has expired; renew it"), "{error}");
    let elsewhere = server(&ca.leaf("other.example", 2100), None);
    let error = meet(&ca.trusted(), &elsewhere).expect_err("another name");
    assert!(error.contains("for another name") && error.contains("expect_name"), "{error}");
    meet(&ca.trusted().expect_name("other.example"), &elsewhere).expect("the name that was told");
}

#[test]
fn a_server_that_wants_a_certificate_gets_one() {
    let (ca, other) = (Ca::new(), Ca::new());
    let strict = server(&ca.leaf("zk.example", 2100), Some(&ca));
    let error = meet(&ca.trusted(), &strict).expect_err("none is shown");
    assert!(error.contains("wants a client certificate") && error.contains("ClientTls::identity"), "{error}");
    let own = ca.leaf("client.example", 2100);
    meet(&ca.trusted().identity(text(&own.certificate), text(&own.key)), &strict).expect("one that it trusts");
    let foreign = other.leaf("client.example", 2100);
    let error = meet(&ca.trusted().identity(text(&foreign.certificate), text(&foreign.key)), &strict)
        .expect_err("one that it does not trust");
    assert!(error.contains("refuses the client's certificate"), "{error}");
    let late = ca.leaf("client.example", 2001);
    let error = meet(&ca.trusted().identity(text(&late.certificate), text(&late.key)), &strict).expect_err("expired");
    assert!(error.contains("refuses the client's certificate"), "{error}");
}

#[test]
fn a_server_without_tls_is_told() {
    let ca = Ca::new();
    let tls = ca.trusted();
    let name = tls.server_name("zk.example").expect("a name");
    let mut client = ClientConnection::new(tls.config().expect("usable"), name).expect("a client");
    client.read_tls(&mut &b"\0\0\0\x25\0\0\0\0"[..]).expect("memory");
    let error = client.process_new_packets().expect_err("no TLS");
    let words = tls.explain(&io::Error::new(io::ErrorKind::InvalidData, error)).expect("it is about TLS");
    assert!(words.contains("secureClientPort"), "{words}");
    assert_eq!(tls.explain(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
}

#[test]
fn files_are_named_when_they_are_wrong_and_read_again_when_they_change() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let (one, two) = (Ca::new(), Ca::new());
    let leaf = one.leaf("client.example", 2100);
    let (ca, certificate) = (file("ca.pem", &one.pem), file("client.pem", &leaf.certificate));
    let key = file("client.key", &leaf.key);

    let missing = ClientTls::new(dir.path().join("none.pem")).config().expect_err("no file");
    assert!(matches!(&missing, TlsError::Unreadable { file, .. } if file.ends_with("none.pem")), "{missing}");
    for (tls, why) in [
        (ClientTls::new(key.clone()), "client.key: it holds no certificate"),
        (ClientTls::new(ca.clone()).identity(certificate.clone(), ca.clone()), "ca.pem: it holds no private key"),
        (
            ClientTls::new(ca.clone()).identity(certificate.clone(), file("other.key", &two.leaf("x", 2100).key)),
            "cannot be used",
        ),
        (
            ClientTls::new(ca.clone()).identity(
                certificate.clone(),
                file("enc.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
            ),
            "the key is encrypted; decrypt it",
        ),
    ] {
        let error = tls.config().expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
        assert!(!format!("{tls:?}").contains("BEGIN"), "no secret is shown");
    }

    let tls = ClientTls::new(ca).identity(certificate, key);
    let first = tls.config().expect("usable");
    assert!(Arc::ptr_eq(&first, &tls.config().expect("usable")), "nothing changed");
    let right = server(&two.leaf("zk.example", 2100), None);
    meet(&tls, &right).expect_err("not trusted yet");
    file("ca.pem", &two.pem);
    meet(&tls, &right).expect("trusted now");
    assert!(matches!(tls.server_name("not a name"), Err(TlsError::Name(_))));
}
