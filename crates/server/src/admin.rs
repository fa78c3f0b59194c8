//! The door for whoever runs the server: a Unix socket in `dataDir`, for its owner only.
//!
//! One connection is one request: a line with a command, answered by one line of JSON, which has a key `error` if the
//! command was refused. One at a time, in bounded time, so that nobody keeps others out for long.

use crate::core::Core;
use farrier_proto::ServerId;
use farrier_proto::quorum::ServerState;
use farrier_replica::{HandOverRefused, Input};
use farrier_zab::{Phase, Status};
use serde_json::{Value, json};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::fs::Permissions;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the socket in `dataDir`.
pub const SOCKET: &str = "farrier.sock";

/// Longest request, its newline included.
const REQUEST_MAX: usize = 256;

/// How long a request may take to arrive, and its answer to leave.
const PATIENCE: Duration = Duration::from_secs(2);

/// Connections that wait their turn.
const BACKLOG: i32 = 16;

/// The socket while the server runs.
#[derive(Debug)]
pub(crate) struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Listens. Whoever calls has the directory's lock, so a socket that is there is a dead server's.
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(SOCKET);
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(&path)?,
            Ok(_) => return Err(io::Error::other("something else has that name")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(&path)?)?;
        // Before anybody can connect.
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        socket.listen(BACKLOG)?;
        Ok(Self { listener: socket.into(), path })
    }

    /// Nobody comes in any more, and [`Self::run`] returns.
    pub(crate) fn close(&self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }

    /// Answers until the server closes.
    pub(crate) fn run(&self, core: &Core, me: ServerId) {
        loop {
            let accepted = self.listener.accept();
            if core.is_closing() {
                return;
            }
            let served = match accepted {
                Ok((mut socket, _)) => serve(core, me, &mut socket),
                Err(error) => {
                    // Out of descriptors, mostly.
                    std::thread::sleep(Duration::from_millis(50));
                    Err(error)
                }
            };
            if let Err(error) = served {
                tracing::debug!("{}: {error}", self.path.display());
            }
        }
    }
}

fn serve(core: &Core, me: ServerId, socket: &mut UnixStream) -> io::Result<()> {
    let answer = match read_line(socket)?.as_deref() {
        Some("status") => status(core, me),
        Some("transfer-leader") => transfer_leader(core),
        Some(_) => json!({ "error": "unknown command; there are: status, transfer-leader" }),
        None => json!({ "error": "a request is one line of text" }),
    };
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.write_all(format!("{answer}\n").as_bytes())
}

/// A request without its newline; `None` if it is none.
fn read_line(socket: &mut UnixStream) -> io::Result<Option<String>> {
    let end = Instant::now() + PATIENCE;
    let mut bytes = [0; REQUEST_MAX];
    let mut have = 0;
    while have < bytes.len() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let n = socket.read(&mut bytes[have..])?;
        if n == 0 {
            break;
        }
        have += n;
        if let Some(len) = bytes[..have].iter().position(|b| *b == b'\n') {
            return Ok(std::str::from_utf8(&bytes[..len]).ok().map(str::to_owned));
        }
    }
    Ok(None)
}

fn status(core: &Core, me: ServerId) -> Value {
    let (status, fenced) = core.with(|session| (session.replica.peer_status(), session.replica.is_fenced()));
    match status {
        Some(status) => as_json(me, &status, fenced),
        None => json!({ "state": "standalone" }),
    }
}

fn as_json(me: ServerId, status: &Status, fenced: bool) -> Value {
    let phase = match status.phase {
        Phase::Election => "election",
        Phase::Discovery => "discovery",
        Phase::Synchronization => "synchronization",
        Phase::Broadcast => "broadcast",
    };
    let state = match status.state {
        ServerState::Looking => "looking",
        ServerState::Following => "following",
        ServerState::Leading => "leading",
        ServerState::Observing => "observing",
    };
    let learner = |l: &farrier_zab::LearnerStatus| json!({ "server": l.server.0, "observer": l.observer, "synced": l.synced, "acked": l.acked.to_string() });
    json!({
        "server": me.0,
        "state": state,
        "phase": phase,
        "leader": status.leader.map(|s| s.0),
        "epoch": status.epoch,
        "last_logged": status.last_logged.to_string(),
        "delivered": status.delivered.to_string(),
        "learners": status.learners.iter().map(learner).collect::<Vec<_>>(),
        "pending_syncs": status.pending_syncs,
        "recovering": status.recovering,
        "fenced": fenced,
        "handing_over": status.handing_over,
    })
}

fn transfer_leader(core: &Core) -> Value {
    let begun = core.with(|session| {
        session.may_hand_over()?;
        session.step(Input::HandOver);
        Ok(())
    });
    match begun {
        Ok(()) => json!({ "begun": true }),
        Err(refused) => {
            let leader = match &refused {
                HandOverRefused::NotLeading { leader } => leader.map(|s| s.0),
                HandOverRefused::NotEstablished | HandOverRefused::NoOtherQuorum { .. } | HandOverRefused::UnderWay => {
                    None
                }
            };
            json!({ "error": refused.to_string(), "leader": leader })
        }
    }
}
