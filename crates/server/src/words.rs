//! Four-letter words: what a connection gets whose first four bytes are one of them.
//!
//! Texts and their order are Apache's. Words are gated by the whitelist, except for the one that status
//! scripts need (`srvr`), which is always in it.

mod dump;
mod ensemble;

use crate::config::FourLetterWords;
use crate::member::Membership;
use crate::worker::WorkerContext;
use farrier_replica::{ConnectionInfo, Replica};
use farrier_tree::auth::ip::java_text;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU16, Ordering};

/// Version as probes read it: they cut at the first `-`, and know ZooKeeper's.
pub const VERSION: &str = concat!("3.9.4-farrier-", env!("CARGO_PKG_VERSION"), ", built on 2026-11-22 00:00 UTC");

/// `TraceFormatter`'s default, for whoever asks.
const TRACE_MASK_DEFAULT: i64 = 306;

macro_rules! words {
    ($($name:ident = $text:literal,)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        enum Name { $($name,)* }
        impl Name {
            const ALL: &'static [(Self, [u8; 4])] = &[$((Self::$name, *$text),)*];
        }
    };
}

words! {
    Conf = b"conf",
    Cons = b"cons",
    Crst = b"crst",
    Dirs = b"dirs",
    Dump = b"dump",
    Envi = b"envi",
    Gtmk = b"gtmk",
    Hash = b"hash",
    Isro = b"isro",
    Mntr = b"mntr",
    Ruok = b"ruok",
    Srst = b"srst",
    Srvr = b"srvr",
    Stat = b"stat",
    Stmk = b"stmk",
    Wchc = b"wchc",
    Wchp = b"wchp",
    Wchs = b"wchs",
    TelnetClose = b"\xff\xf4\xff\xfd",
}

/// A recognised word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Word {
    name: Name,
    argument: i64,
}

impl Word {
    pub(crate) fn parse(first: [u8; 4]) -> Option<Self> {
        Name::ALL.iter().find(|(_, text)| *text == first).map(|(name, _)| Self { name: *name, argument: 0 })
    }

    /// Whether it is answered while there is no leader.
    const fn needs_no_leader(self) -> bool {
        matches!(self.name, Name::Ruok | Name::Envi | Name::Gtmk | Name::Stmk | Name::TelnetClose)
    }

    /// `stmk` has eight more bytes.
    pub(crate) const fn has_argument(self) -> bool {
        matches!(self.name, Name::Stmk)
    }

    pub(crate) const fn with_argument(self, argument: i64) -> Self {
        Self { name: self.name, argument }
    }

    pub(crate) fn name(self) -> &'static str {
        let (_, text) = Name::ALL.iter().find(|(name, _)| *name == self.name).expect("every name is listed");
        std::str::from_utf8(text).unwrap_or("telnet close")
    }
}

/// What the words show besides the replica.
#[derive(Debug)]
pub(crate) struct WordSettings {
    pub(crate) whitelist: FourLetterWords,
    /// `None` on a standalone server.
    pub(crate) member: Option<Membership>,
    /// A reconfiguration may change it.
    pub(crate) client_port: AtomicU16,
    pub(crate) data_dir: PathBuf,
    pub(crate) data_log_dir: PathBuf,
    pub(crate) tick_time: i32,
    pub(crate) max_client_connections: u32,
    pub(crate) min_session_timeout: i32,
    pub(crate) max_session_timeout: i32,
    pub(crate) backlog: i64,
    pub(crate) started_mono: u64,
    pub(crate) trace_mask: AtomicI64,
}

impl WordSettings {
    pub(crate) const fn default_trace_mask() -> AtomicI64 {
        AtomicI64::new(TRACE_MASK_DEFAULT)
    }
}

/// Reads files on another thread: a slow disk must not hold up this worker's connections.
async fn aside<T: Default + Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

/// The text for `word`, asked by `peer`.
pub(crate) async fn answer(context: &WorkerContext, word: Word, peer: SocketAddr) -> String {
    let settings = context.words();
    let name = word.name();
    if !settings.whitelist.allows(name) {
        return format!("{name} is not executed because it is not in the whitelist.\n");
    }
    let core = context.core();
    let serving = core.with(|s| {
        s.replica.count_word();
        s.replica.is_serving()
    });
    if !serving && !word.needs_no_leader() {
        return match word.name {
            Name::Isro => "null".into(),
            Name::Hash => ensemble::NOT_SERVING.into(),
            _ => format!("{}\n", ensemble::NOT_SERVING),
        };
    }
    match word.name {
        Name::Ruok => "imok".into(),
        Name::Isro => "rw".into(),
        Name::Gtmk => settings.trace_mask.load(Ordering::Relaxed).to_string(),
        Name::Stmk => {
            settings.trace_mask.store(word.argument, Ordering::Relaxed);
            word.argument.to_string()
        }
        Name::Srvr => core.with(|s| server_text(s.replica, None)),
        Name::Stat => core.with(|s| server_text(s.replica, Some(peer))),
        Name::Cons => core.with(|s| connections_text(s.replica, peer)),
        Name::Crst => {
            core.with(|s| s.replica.reset_connection_stats());
            "Connection stats reset.\n".into()
        }
        Name::Srst => {
            core.with(|s| s.replica.reset_stats());
            context.limits().reset();
            "Server stats reset.\n".into()
        }
        Name::Conf => {
            let sizes = directory_sizes(settings).await;
            let members = core.with(|s| s.replica.ensemble_members().map(|members| members.text().clone()));
            conf_text(settings, sizes, members.as_deref())
        }
        Name::Dirs => {
            let (data, log) = directory_sizes(settings).await;
            format!("datadir_size: {data}\nlogdir_size: {log}\n")
        }
        Name::Envi => environment_text(),
        Name::Dump => dump::text(context, peer),
        Name::Wchs => {
            let size = core.with(|s| s.replica.watches().data_table());
            let (watchers, paths, watches) = (size.watchers, size.paths, size.watches);
            format!("{watchers} connections watching {paths} paths\nTotal watches:{watches}\n")
        }
        Name::Wchc => core.with(|s| watches_by_session(s.replica)),
        Name::Wchp => core.with(|s| watches_by_path(s.replica)),
        Name::Hash => core.with(|s| {
            let mut out = String::new();
            for (zxid, digest) in s.replica.tree().digest_log() {
                let _ = writeln!(out, "{:x}: {digest}", zxid.get());
            }
            out
        }),
        Name::Mntr => {
            let open = aside(descriptors).await;
            let now = core.clock().now().mono;
            let refused = context.limits().refused();
            core.with(|s| monitor_text(s.replica, settings, now, open, refused))
        }
        // What telnet sends when it is interrupted. With `*` it is allowed like any word, and there is nothing to say.
        Name::TelnetClose => String::new(),
    }
}

/// A Java double with at most four decimals: `0.0`, `1.6291`.
fn java_average(value: f64) -> String {
    let rounded = (value * 10_000.0).round() / 10_000.0;
    if rounded == rounded.trunc() { format!("{rounded:.1}") } else { rounded.to_string() }
}

/// `/ip:port` as Java prints it: IPv6 in its long form, in brackets.
fn java_address(peer: SocketAddr) -> String {
    match peer {
        SocketAddr::V4(a) => format!("/{a}"),
        SocketAddr::V6(a) => match a.ip().to_ipv4_mapped() {
            Some(v4) => format!("/{v4}:{}", a.port()),
            None => format!("/[{}]:{}", java_text(peer.ip()), a.port()),
        },
    }
}

fn server_text(replica: &Replica, asking: Option<SocketAddr>) -> String {
    let mut out = format!("Zookeeper version: {VERSION}\n");
    if let Some(asking) = asking {
        out.push_str("Clients:\n");
        for c in replica.connections() {
            let _ = writeln!(
                out,
                " {}[{}](queued={},recved={},sent={})",
                java_address(c.peer),
                u8::from(c.reading),
                c.queued,
                c.received,
                c.sent
            );
        }
        let _ = writeln!(out, " {}[0](queued=0,recved=1,sent=0)\n", java_address(asking));
    }
    let stats = replica.stats();
    let _ = writeln!(
        out,
        "Latency min/avg/max: {}/{}/{}",
        stats.latency.min(),
        java_average(stats.latency.average()),
        stats.latency.max()
    );
    let _ = writeln!(out, "Received: {}", stats.received);
    let _ = writeln!(out, "Sent: {}", stats.sent);
    let _ = writeln!(out, "Connections: {}", replica.connection_count() + 1);
    let _ = writeln!(out, "Outstanding: {}", replica.outstanding_requests());
    let _ = writeln!(out, "Zxid: {}", replica.last_zxid());
    let _ = writeln!(out, "Mode: {}", ensemble::mode(replica));
    let _ = writeln!(out, "Node count: {}", replica.tree().node_count());
    if let Some((_, sizes)) = replica.leadership() {
        let _ = writeln!(out, "Proposal sizes last/min/max: {}/{}/{}", sizes.last, sizes.min, sizes.max);
    }
    out
}

fn connections_text(replica: &Replica, asking: SocketAddr) -> String {
    let mut out = String::new();
    for c in replica.connections() {
        put_connection(&mut out, &c);
    }
    let _ = writeln!(out, " {}[0](queued=0,recved=1,sent=0)\n", java_address(asking));
    out
}

fn put_connection(out: &mut String, c: &ConnectionInfo) {
    let _ = write!(
        out,
        " {}[{}](queued={},recved={},sent={}",
        java_address(c.peer),
        u8::from(c.reading),
        c.queued,
        c.received,
        c.sent
    );
    if let Some(session) = c.session {
        let _ = write!(out, ",sid={session},lop={},est={},to={}", c.last_op, c.established.wall, c.timeout);
        if c.last_cxid >= 0 {
            let _ = write!(out, ",lcxid={:#x}", c.last_cxid);
        }
        let _ = write!(
            out,
            ",lzxid={:#x},lresp={},llat={},minlat={},avglat={},maxlat={}",
            c.last_zxid,
            c.last_response,
            c.last_latency,
            c.latency.min(),
            c.latency.average() as u64,
            c.latency.max()
        );
    }
    out.push_str(")\n");
}

fn conf_text(s: &WordSettings, (data, log): (u64, u64), members: Option<&[u8]>) -> String {
    format!(
        "clientPort={}\nsecureClientPort=-1\ndataDir={}\ndataDirSize={data}\ndataLogDir={}\ndataLogSize={log}\ntickTime={}\nmaxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog={}\nserverId={}\n{}",
        s.client_port.load(Ordering::Relaxed),
        s.data_dir.display(),
        s.data_log_dir.display(),
        s.tick_time,
        s.max_client_connections,
        s.min_session_timeout,
        s.max_session_timeout,
        s.backlog,
        s.member.as_ref().map_or(0, |m| m.me.0),
        s.member.as_ref().map(|member| ensemble::conf(member, members)).unwrap_or_default(),
    )
}

/// Bytes in the directories of snapshots and logs.
async fn directory_sizes(settings: &WordSettings) -> (u64, u64) {
    let (data, log) = (settings.data_dir.clone(), settings.data_log_dir.clone());
    aside(move || (directory_size(&data), directory_size(&log))).await
}

/// Bytes of the plain files in a directory.
fn directory_size(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.flatten().filter_map(|e| e.metadata().ok()).filter(std::fs::Metadata::is_file).map(|m| m.len()).sum()
}

fn environment_text() -> String {
    let uname = rustix::system::uname();
    let text = |c: &std::ffi::CStr| c.to_string_lossy().into_owned();
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| "<NA>".into());
    let arch = match text(uname.machine()).as_str() {
        "x86_64" => "amd64".to_owned(),
        other => other.to_owned(),
    };
    let cwd = std::env::current_dir().map_or_else(|_| "<NA>".into(), |d| d.display().to_string());
    let rows: [(&str, String); 18] = [
        ("zookeeper.version", VERSION.into()),
        ("host.name", text(uname.nodename())),
        ("java.version", "<NA>".into()),
        ("java.vendor", "<NA>".into()),
        ("java.home", "<NA>".into()),
        ("java.class.path", "<NA>".into()),
        ("java.library.path", "<NA>".into()),
        ("java.io.tmpdir", std::env::temp_dir().display().to_string()),
        ("java.compiler", "<NA>".into()),
        ("os.name", text(uname.sysname())),
        ("os.arch", arch),
        ("os.version", text(uname.release())),
        ("user.name", variable("USER")),
        ("user.home", variable("HOME")),
        ("user.dir", cwd),
        ("os.memory.free", "<NA>".into()),
        ("os.memory.max", "<NA>".into()),
        ("os.memory.total", "<NA>".into()),
    ];
    let mut out = String::from("Environment:\n");
    for (key, value) in rows {
        let _ = writeln!(out, "{key}={value}");
    }
    out
}

fn watches_by_session(replica: &Replica) -> String {
    let mut out = String::new();
    for (conn, paths) in replica.watches().data_by_watcher() {
        let _ = writeln!(out, "{}", replica.session_of(conn).unwrap_or_default());
        for path in paths {
            let _ = writeln!(out, "\t{path}");
        }
    }
    out.push('\n');
    out
}

fn watches_by_path(replica: &Replica) -> String {
    let mut out = String::new();
    for (path, conns) in replica.watches().data_by_path() {
        let _ = writeln!(out, "{path}");
        for conn in conns {
            let _ = writeln!(out, "\t{}", replica.session_of(conn).unwrap_or_default());
        }
    }
    out.push('\n');
    out
}

/// The classic keys first, in the order in which old scripts expect them.
fn monitor_text(replica: &Replica, settings: &WordSettings, now: u64, (open, max): (u64, u64), refused: u64) -> String {
    let stats = replica.stats();
    let tree = replica.tree();
    let mut out = String::new();
    let rows: [(&str, String); 33] = [
        ("version", VERSION.into()),
        ("server_state", ensemble::mode(replica).into()),
        ("avg_latency", java_average(stats.latency.average())),
        ("min_latency", stats.latency.min().to_string()),
        ("max_latency", stats.latency.max().to_string()),
        ("packets_received", stats.received.to_string()),
        ("packets_sent", stats.sent.to_string()),
        ("num_alive_connections", (replica.connection_count() + 1).to_string()),
        ("outstanding_requests", replica.outstanding_requests().to_string()),
        ("znode_count", tree.node_count().to_string()),
        ("watch_count", replica.watches().watch_count().to_string()),
        ("ephemerals_count", tree.ephemerals_count().to_string()),
        ("approximate_data_size", tree.approximate_data_size().to_string()),
        ("open_file_descriptor_count", open.to_string()),
        ("max_file_descriptor_count", max.to_string()),
        ("outstanding_tls_handshake", "0".into()),
        ("uptime", now.saturating_sub(settings.started_mono).to_string()),
        ("global_sessions", replica.session_count().to_string()),
        ("local_sessions", "0".into()),
        ("auth_failed_count", stats.auth_failures.to_string()),
        ("last_zxid", replica.last_zxid().get().to_string()),
        ("commit_count", stats.commits.to_string()),
        ("snapshot_count", stats.snapshots.to_string()),
        ("stale_sessions_expired", stats.expired_sessions.to_string()),
        ("connection_rejected", (stats.rejected_connections + refused).to_string()),
        ("connection_drop_count", stats.dropped_connections.to_string()),
        ("throttled_ops", stats.throttled_ops.to_string()),
        ("connection_drop_probability", java_average(replica.connection_drop_chance())),
        ("large_requests_rejected", stats.rejected_large.to_string()),
        ("last_client_response_size", stats.reply_sizes.last.to_string()),
        ("max_client_response_size", stats.reply_sizes.max.to_string()),
        ("min_client_response_size", stats.reply_sizes.min.to_string()),
        ("digest_mismatches_count", stats.digest_mismatches.to_string()),
    ];
    for (key, value) in rows {
        let _ = writeln!(out, "zk_{key}\t{value}");
        if key == "server_state" {
            out.push_str(&ensemble::monitor_first(replica));
        }
    }
    if let Some(member) = &settings.member {
        out.push_str(&ensemble::monitor_rest(replica, member, now));
    }
    out
}

/// Open file descriptors and their limit.
fn descriptors() -> (u64, u64) {
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |d| d.count() as u64);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    (open, limit.unwrap_or(u64::MAX >> 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_as_java_prints_them() {
        assert_eq!(java_average(0.0), "0.0");
        assert_eq!(java_average(1.629_149), "1.6291");
        assert_eq!(java_average(2.5), "2.5");
    }

    #[test]
    fn only_exact_words_are_words() {
        assert_eq!(Word::parse(*b"ruok").map(Word::name), Some("ruok"));
        assert_eq!(Word::parse(*b"zzzz"), None);
        assert_eq!(Word::parse(*b"RUOK"), None);
        assert!(Word::parse(*b"stmk").is_some_and(Word::has_argument));
    }
}
