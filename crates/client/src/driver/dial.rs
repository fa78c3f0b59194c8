//! Connections to servers: names, sockets, TLS.

use crate::Host;
use farrier_tls::ClientTls;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// How long a look for a server that takes writes may take.
const PROBE_MAX: Duration = Duration::from_secs(2);

/// A connection.
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects; or says why not.
pub(crate) async fn dial(host: Host, within: Duration, tls: Option<Arc<ClientTls>>) -> Result<Transport, String> {
    match timeout(within, connect(&host, within, tls)).await {
        Ok(result) => result,
        Err(_) => Err(format!("no connection within {within:?}")),
    }
}

async fn connect(host: &Host, within: Duration, tls: Option<Arc<ClientTls>>) -> Result<Transport, String> {
    let found = lookup_host((&*host.name, host.port)).await;
    let addresses: Vec<_> = found.map_err(|e| format!("its name has no address: {e}"))?.take(ADDRESSES_MAX).collect();
    let mut last = "its name has no address".to_owned();
    let count = u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    for address in addresses {
        match timeout(within / count, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(|e| e.to_string())?;
                return secured(host, stream, tls).await;
            }
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no connection within {:?}", within / count),
        }
    }
    Err(last)
}

async fn secured(host: &Host, stream: TcpStream, tls: Option<Arc<ClientTls>>) -> Result<Transport, String> {
    let Some(tls) = tls else { return Ok(Transport::Plain(stream)) };
    // The files may have changed since the last connection.
    let shared = Arc::clone(&tls);
    let config = tokio::task::spawn_blocking(move || shared.config()).await.map_err(|e| e.to_string())?;
    let config = config.map_err(|e| e.to_string())?;
    let name = tls.server_name(&host.name).map_err(|e| e.to_string())?;
    match TlsConnector::from(config).connect(name, stream).await {
        Ok(stream) => Ok(Transport::Tls(Box::new(stream))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err("it closed the connection when TLS began; use its secureClientPort".to_owned())
        }
        Err(error) => Err(explain(Some(&tls), &error)),
    }
}

/// An error of a connection, in words; with TLS it may be one of certificates.
pub(crate) fn explain(tls: Option<&ClientTls>, error: &io::Error) -> String {
    tls.and_then(|tls| tls.explain(error)).unwrap_or_else(|| error.to_string())
}

/// Whether a server takes writes, as it says itself.
pub(crate) async fn probe(host: Host, tls: Option<Arc<ClientTls>>) -> bool {
    let ask = async {
        let mut transport = connect(&host, PROBE_MAX, tls).await.ok()?;
        transport.write_all(b"isro").await.ok()?;
        transport.flush().await.ok()?;
        let mut answer = [0; 2];
        transport.read_exact(&mut answer).await.ok()?;
        Some(&answer == b"rw")
    };
    timeout(PROBE_MAX, ask).await.ok().flatten().unwrap_or(false)
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
