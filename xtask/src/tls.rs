//! `cargo xtask tls`: the client over TLS against Apache's `secureClientPort`, with right, wrong and expired
//! certificates on either side.

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use farrier_client::{Client, ClientTls, Error};
use farrier_testkit::apache::Apache;
use farrier_testkit::server::{Config, Server, Target};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use std::future::Future;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

/// How long a client that should get a session may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one that should get none is given to try.
const TRIES: Duration = Duration::from_secs(15);

/// Arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {}

/// A CA, and where its certificate lies.
struct Ca {
    file: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in files.
#[derive(Clone)]
struct Leaf {
    certificate: PathBuf,
    key: PathBuf,
    /// Both in one, as Apache wants them.
    both: PathBuf,
}

impl Ca {
    fn new(dir: &Path, name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let file = dir.join(format!("{name}.pem"));
        std::fs::write(&file, params.self_signed(&key)?.pem())?;
        Ok(Self { file, issuer: Issuer::new(params, key) })
    }

    fn leaf(&self, dir: &Path, name: &str, hosts: &[&str], last_year: i32) -> Result<Leaf> {
        let mut params = CertificateParams::new(hosts.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(last_year, 1, 1));
        let key = KeyPair::generate()?;
        let (certificate, key) = (params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem());
        let file = |what: &str| dir.join(format!("{name}.{what}"));
        let leaf = Leaf { certificate: file("crt"), key: file("key"), both: file("both") };
        std::fs::write(&leaf.certificate, &certificate)?;
        std::fs::write(&leaf.key, &key)?;
        std::fs::write(&leaf.both, format!("{key}{certificate}"))?;
        Ok(leaf)
    }
}

/// An Apache server with this certificate, which wants one of its clients; and its TLS address.
fn apache(target: &Target, own: &Leaf, trust: &Ca) -> Result<(Server, String)> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let zoo = vec![
        format!("secureClientPort={port}"),
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory".to_owned(),
        format!("ssl.keyStore.location={}", own.both.display()),
        "ssl.keyStore.type=PEM".to_owned(),
        format!("ssl.trustStore.location={}", trust.file.display()),
        "ssl.trustStore.type=PEM".to_owned(),
        "maxClientCnxns=0".to_owned(),
    ];
    Ok((Server::start(target, &Config { zoo, flags: Vec::new() })?, format!("localhost:{port}")))
}

type Case = Pin<Box<dyn Future<Output = Result<String>>>>;

/// A client that must get no session, and must say one of these words.
fn refused(what: &'static str, address: &str, tls: Option<ClientTls>, words: &'static [&'static str]) -> Case {
    let mut builder = Client::builder(address).connect_timeout(TRIES);
    if let Some(tls) = tls {
        builder = builder.tls(tls);
    }
    Box::pin(async move {
        match builder.connect().await {
            Ok(_) => bail!("{what}: it got a session"),
            Err(Error::NoServer { reason, .. }) => {
                ensure!(words.iter().any(|w| reason.contains(w)), "{what}: the message is {reason:?}");
                Ok(format!("{what}: {reason}"))
            }
            Err(other) => bail!("{what}: {other}"),
        }
    })
}

/// A client that must be served, and be known by its certificate.
async fn served(address: String, tls: ClientTls) -> Result<String> {
    let client =
        Client::builder(&address).tls(tls).connect_timeout(PATIENCE).request_timeout(PATIENCE).connect().await?;
    let big = vec![7; 900_000];
    client.create("/big", &big).await?;
    ensure!(client.get("/big").await?.data == big, "other data than was written");
    let mut calls = Vec::new();
    for n in 0..2000 {
        calls.push(client.create(&format!("/n{n}"), b"").ephemeral().send());
    }
    for call in calls {
        call.await?;
    }
    let who = client.who_am_i().await?;
    let name = who.iter().find(|i| i.scheme == "x509").context("the server does not know the certificate")?;
    let seen = format!("served over TLS, known as {}", name.user);
    client.close().await?;
    Ok(seen)
}

/// Runs every case.
pub(crate) fn run(_: &Arguments) -> Result<ExitCode> {
    let target = Target::Apache(Apache::newest()?);
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let (ca, other) = (Ca::new(dir, "ca")?, Ca::new(dir, "other-ca")?);
    let (good, late, wrong) = (
        ca.leaf(dir, "server", &["localhost"], 2100)?,
        ca.leaf(dir, "late-server", &["localhost"], 2002)?,
        ca.leaf(dir, "wrong-server", &["elsewhere.example"], 2100)?,
    );
    let client = ca.leaf(dir, "client", &[], 2100)?;
    let (foreign, old) = (other.leaf(dir, "foreign-client", &[], 2100)?, ca.leaf(dir, "old-client", &[], 2002)?);
    let (good_server, good_address) = apache(&target, &good, &ca)?;
    let (_late_server, late_address) = apache(&target, &late, &ca)?;
    let (_wrong_server, wrong_address) = apache(&target, &wrong, &ca)?;
    let plain_address = good_server.addr().to_string();

    let with = |trust: &Ca, own: Option<&Leaf>| {
        let tls = ClientTls::new(trust.file.clone());
        match own {
            Some(own) => tls.identity(own.certificate.clone(), own.key.clone()),
            None => tls,
        }
    };
    // The server may tell why and close before the reason is read.
    const NO_CLIENT: &[&str] = &["client certificate", "client's certificate", "reset", "closed", "roken pipe"];
    let mut cases: Vec<Case> = vec![
        refused("a server of another CA", &good_address, Some(with(&other, Some(&client))), &["trust the CA"]),
        refused("a server whose certificate has expired", &late_address, Some(with(&ca, Some(&client))), &["expired"]),
        refused("a server of another name", &wrong_address, Some(with(&ca, Some(&client))), &["another name"]),
        refused("no client certificate", &good_address, Some(with(&ca, None)), NO_CLIENT),
        refused("a client certificate of another CA", &good_address, Some(with(&ca, Some(&foreign))), NO_CLIENT),
        refused("a client certificate that has expired", &good_address, Some(with(&ca, Some(&old))), NO_CLIENT),
        refused("no TLS on the TLS port", &good_address, None, &["closed", "reset", "gave no session", "frame"]),
        refused(
            "TLS on the plain port",
            &plain_address,
            Some(with(&ca, Some(&client))),
            &["TLS", "closed", "reset", "eof"],
        ),
    ];
    cases.push(Box::pin(served(good_address.clone(), with(&ca, Some(&client)))));
    let named = with(&ca, Some(&client)).expect_name("elsewhere.example");
    cases.push(Box::pin(served(wrong_address, named)));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let failed = runtime.block_on(async {
        let local = tokio::task::LocalSet::new();
        let tasks: Vec<_> = cases.into_iter().map(|case| local.spawn_local(case)).collect();
        local
            .run_until(async {
                let mut failed = 0;
                for task in tasks {
                    match task.await? {
                        Ok(seen) => crate::say(&format!("ok   {seen}")),
                        Err(error) => {
                            failed += 1;
                            crate::say(&format!("FAIL {error:#}"));
                        }
                    }
                }
                Ok::<_, anyhow::Error>(failed)
            })
            .await
    })?;
    crate::say(&format!("TLS against {}: {failed} failed", target.name()));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
