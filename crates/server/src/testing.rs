//! Parts of a server for unit tests, without its threads and files.

use crate::clock::Clock;
use crate::config::ServerConfig;
use crate::core::Core;
use crate::limits::ConnectionLimits;
use crate::log_queue::Taking;
use crate::worker::{WorkerContext, WorkerSettings};
use crate::{mapping, server};
use farrier_proto::Zxid;
use farrier_proto::jute::{put_buffer, put_i32, put_i64};
use farrier_replica::{ConnId, Input, LogCommand, Replica, TreeRestore, WriteId};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A virgin server with one network worker and nobody behind its log.
pub(crate) fn core() -> Arc<Core> {
    let config = ServerConfig::standalone("/nowhere", ADDRESS);
    let clock = Clock::new();
    let made = clock.now();
    let state = TreeRestore::new(mapping::tree(&config), 7);
    let replica = Replica::standalone(mapping::replica(&config, None, 7), state, Zxid::ZERO, 0, made);
    Arc::new(Core::new(replica, made, clock, 1))
}

/// What its worker is told.
pub(crate) fn worker_settings(core: &Core) -> WorkerSettings {
    let config = ServerConfig::standalone("/nowhere", ADDRESS);
    WorkerSettings {
        frame_max: config.limits.jute_max_buffer,
        sessionless_timeout: Duration::from_secs(600),
        limits: Arc::new(ConnectionLimits::new(0, 0)),
        words: Arc::new(server::word_settings(&config, None, ADDRESS, *core.clock())),
    }
}

/// Its worker.
pub(crate) fn worker(core: &Arc<Core>) -> Rc<WorkerContext> {
    Rc::new(WorkerContext::new(core, 0, worker_settings(core)))
}

/// A connection that asks for a session. Its transaction stays on its way: nobody writes the log here.
pub(crate) fn connect(core: &Core) -> ConnId {
    let conn = core.name_connection(0);
    core.step(Input::ClientUp { conn, peer: "127.0.0.1:1".parse().expect("an address") });
    let mut connect = Vec::new();
    put_i32(&mut connect, 0);
    put_i64(&mut connect, 0);
    put_i32(&mut connect, 30_000);
    put_i64(&mut connect, 0);
    put_buffer(&mut connect, Some(&[0; 16]));
    core.step(Input::ClientFrame { conn, frame: &connect });
    conn
}

/// Nobody is waited for.
pub(crate) const TAKING: Taking<'_> = Taking {
    max: usize::MAX,
    gather: Duration::ZERO,
    idle: Duration::ZERO,
    crowded: true,
    patience: Duration::ZERO,
    others_first: &|| (),
};

/// The one transaction that waits for the log.
pub(crate) fn append(core: &Core) -> WriteId {
    let mut batch = Vec::new();
    core.log.take(&mut batch, &Taking { max: 2, ..TAKING });
    let [LogCommand::Append { id, .. }] = batch[..] else { panic!("{batch:?}") };
    id
}
