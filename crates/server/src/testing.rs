//! Parts of a server for unit tests, without its threads and files.

use crate::clock::Clock;
use crate::config::ServerConfig;
use crate::core::Core;
use crate::limits::ConnectionLimits;
use crate::worker::{WorkerContext, WorkerSettings};
use crate::{mapping, server};
use farrier_proto::Zxid;
use farrier_replica::{Replica, TreeRestore};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A virgin server with one network worker and nobody behind its log.
pub(crate) fn core() -> Arc<Core> {
    let config = ServerConfig::standalone("/nowhere", ADDRESS);
    let clock = Clock::new();
    let state = TreeRestore::new(mapping::tree(&config), 7);
    let replica = Replica::standalone(mapping::replica(&config, None, 7), state, Zxid::ZERO, 0, clock.now());
    Arc::new(Core::new(replica, clock, 1))
}

/// Its worker.
pub(crate) fn worker(core: &Arc<Core>) -> Rc<WorkerContext> {
    let config = ServerConfig::standalone("/nowhere", ADDRESS);
    let settings = WorkerSettings {
        frame_max: config.limits.jute_max_buffer,
        sessionless_timeout: Duration::from_secs(600),
        limits: Arc::new(ConnectionLimits::new(0, 0)),
        words: Arc::new(server::word_settings(&config, None, ADDRESS, *core.clock())),
    };
    Rc::new(WorkerContext::new(core, 0, settings))
}
