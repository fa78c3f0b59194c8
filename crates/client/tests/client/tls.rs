//! The client over TLS, before a front that ends it.

use crate::support::{PATIENCE, Servers, patiently, tls_front};
use farrier_client::{Client, ClientTls, Error, WatchEvent};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A CA in a file, and the configuration of a server that it vouches for under this name.
fn vouched(dir: &std::path::Path, name: &str) -> (std::path::PathBuf, Arc<ServerConfig>) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let file = dir.join(format!("{name}.pem"));
    std::fs::write(&file, params.self_signed(&key).expect("signed").pem()).expect("written");
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec![name.to_owned()]).expect("a name").signed_by(&key, &issuer).expect("signed");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
        .expect("a pair");
    (file, Arc::new(config))
}

#[tokio::test]
async fn everything_works_over_tls_and_nothing_without_trust() {
    let servers = Servers::start(1).await;
    let dir = tempfile::tempdir().expect("a directory");
    let (right, config) = vouched(dir.path(), "localhost");
    let (wrong, _) = vouched(dir.path(), "elsewhere");
    let address = format!("localhost:{}", tls_front(servers.address(1), config).await);
    let builder = Client::builder(&address).request_timeout(PATIENCE);

    let client = builder.clone().tls(ClientTls::new(right)).connect_timeout(PATIENCE).connect().await;
    let client = client.expect("a session");
    let big: Vec<u8> = (0..900_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    client.create("/big", &big).await.expect("created");
    let (read, mut watch) = client.get("/big").watch().await.expect("read");
    assert!(read.data == big);
    let calls: Vec<_> = (0..500).map(|n| client.create(&format!("/n{n}"), b"").send()).collect();
    for call in calls {
        call.await.expect("created");
    }
    client.set("/big", b"").await.expect("set");
    assert!(matches!(patiently("a change", watch.next()).await, Some(WatchEvent::Changed(_))));
    client.close().await.expect("closed");

    let mut reasons = Vec::new();
    // However slow the machine is, one attempt comes to its end some day.
    for seconds in [1, 5, 20, 60] {
        let tls = ClientTls::new(wrong.clone());
        let connect = builder.clone().tls(tls).connect_timeout(Duration::from_secs(seconds)).connect();
        match patiently("the end", connect).await {
            Err(Error::NoServer { reason, .. }) => reasons.push(reason),
            other => panic!("expected no session, got {other:?}"),
        }
        if reasons.iter().any(|r| r.contains("trust the CA that signed it")) {
            return;
        }
    }
    panic!("no reason says what to do: {reasons:?}");
}
