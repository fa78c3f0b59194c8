//! A relay between clients and a server that can be cut, or told to hold answers back.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a relay does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Passes everything on.
    Pass,
    /// Passes requests on, and holds answers back.
    HoldAnswers,
    /// Takes connections, and closes them.
    Refuse,
}

/// A relay in front of a server. Dropping it ends it.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    /// Each change cuts all connections.
    cuts: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Relay {
    /// A relay to this address, within the runtime of the caller.
    ///
    /// # Panics
    /// The system gives no port.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (mode, cuts) = (watch::Sender::new(Mode::Pass), watch::Sender::new(0));
        let (modes, cut) = (mode.subscribe(), Arc::new(cuts.subscribe()));
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                let mut cut = (*cut).clone();
                cut.mark_unchanged();
                let modes = modes.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        // What was held back until the cut is lost, whatever the mode is then.
                        biased;
                        _ = cut.changed() => {}
                        () = relay(client, server, modes) => {}
                    }
                });
            }
        });
        Self { address, mode, cuts, task }
    }

    /// Where clients find it.
    #[must_use]
    pub fn connect(&self) -> String {
        self.address.to_string()
    }

    /// What it does from now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.cuts.send_modify(|n| *n += 1);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(mut client: TcpStream, server: SocketAddr, mut modes: watch::Receiver<Mode>) {
    if *modes.borrow() == Mode::Refuse {
        return;
    }
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let requests = async {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = from_client.read(&mut bytes).await {
            if to_server.write_all(&bytes[..n]).await.is_err() {
                return;
            }
        }
    };
    let answers = async {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = from_server.read(&mut bytes).await {
            if modes.wait_for(|mode| *mode == Mode::Pass).await.is_err()
                || to_client.write_all(&bytes[..n]).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = requests => {}
        () = answers => {}
    }
}
