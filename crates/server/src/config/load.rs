//! From sources to a [`ServerConfig`]: the rules that hold among several keys.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ensemble::EnsembleConfig;
use super::membership::{check_distributed, membership};
use super::settings::{
    AuthSettings, ClientListener, ConnectionThrottle, FourLetterWords, PasswordHash, PurgeSettings, RequestLimits,
    RequestThrottle, ServerConfig, SnapshotCompression, StorageSettings, SweepSettings, TreeSettings,
};
use super::sources::{Origin, Sources};
use super::{ConfigError, Loaded, Overrides, Problem, check, properties, suggest};

/// Reads the file at `path` and everything that it points to.
///
/// # Errors
/// Every problem found: unreadable files, syntax, values out of range, contradictions, and demands
/// for security that this version can't meet.
pub fn load(path: &Path, overrides: &Overrides<'_>) -> Result<Loaded, ConfigError> {
    let mut sources = Sources::default();
    sources.add_jvm_flags(overrides.jvm_flags);
    match read_bounded(path, properties::FILE_MAX) {
        Ok(text) => sources.add_file(path, &text),
        Err(error) => {
            return Err(ConfigError::one(Problem::at(path.display().to_string(), unreadable(path, &error))));
        }
    }
    if !sources.problems.is_empty() {
        // Whatever else would be found follows from the part of the file that can't be read.
        return Err(ConfigError { problems: sources.problems });
    }
    finish(sources, Some(path), overrides)
}

/// Why what was named is no configuration file, and what to name instead.
fn unreadable(path: &Path, error: &str) -> String {
    const INIT: &str = "`farrier init` writes one: see `farrier init --help`";
    let inside = path.join("zoo.cfg");
    if inside.is_file() {
        format!("this is a directory; name its configuration file: {}", inside.display())
    } else if path.is_dir() {
        format!("this is a directory, and has no zoo.cfg; name a configuration file. {INIT}")
    } else if matches!(path.try_exists(), Ok(false)) {
        format!("{error}. {INIT}")
    } else {
        error.to_owned()
    }
}

/// Apache's bare form: `port datadir [ticktime] [maxcnxns]`, without a limit of connections per
/// address unless it is given.
///
/// # Errors
/// A wrong number of arguments, and as [`load`].
pub fn from_arguments(arguments: &[String], overrides: &Overrides<'_>) -> Result<Loaded, ConfigError> {
    const NAMES: [&str; 4] = ["clientPort", "dataDir", "tickTime", "maxClientCnxns"];
    if !(2..=NAMES.len()).contains(&arguments.len()) {
        let message = format!("expected a file, or port datadir [ticktime] [maxcnxns]; got {}", arguments.join(" "));
        return Err(ConfigError::one(Problem::at("arguments".to_owned(), message)));
    }
    let mut sources = Sources::default();
    sources.add_jvm_flags(overrides.jvm_flags);
    sources.add_argument("maxClientCnxns", "0");
    for (name, text) in NAMES.iter().zip(arguments) {
        sources.add_argument(name, text);
    }
    finish(sources, None, overrides)
}

impl ServerConfig {
    /// A standalone server with every default, for programs that start one: port 0 takes any free port.
    #[must_use]
    pub fn standalone(data_dir: impl Into<PathBuf>, client: SocketAddr) -> Self {
        let mut sources = Sources::default();
        let client = ClientListener { address: Some(client.ip()), port: client.port(), ..listener(&sources, None, 0) };
        let config = build(&mut sources, data_dir.into(), client, None, None);
        assert_eq!(sources.problems, [], "the defaults contradict each other");
        config
    }

    /// Whether a server can be started with it: a member of an ensemble must be one of the list.
    ///
    /// # Errors
    /// Names the file and what is missing.
    pub fn runnable(&self) -> Result<(), ConfigError> {
        match &self.ensemble {
            Some(ensemble) => ensemble.check_own_id(&self.data_dir),
            None => Ok(()),
        }
    }
}

fn finish(mut sources: Sources, file: Option<&Path>, overrides: &Overrides<'_>) -> Result<Loaded, ConfigError> {
    for (name, text) in overrides.sets {
        sources.add_named(name, text, Origin::Set);
    }
    if let Some(file) = file {
        sources.add_scripts(file);
    }
    sources.validate();
    sources.judge_support();

    let data_dir = sources.text("dataDir").map(PathBuf::from);
    if data_dir.is_none() {
        sources.problems.push(Problem::at(place_of(file), "dataDir isn't set; it is required".to_owned()));
    }
    let data_dir = data_dir.unwrap_or_default();
    for key in ["dataDir", "dataLogDir"] {
        if let Some(path) = sources.text(key) {
            let path = Path::new(&path);
            warn_if_relative(&mut sources, key, path);
            if path.exists() && !path.is_dir() {
                sources
                    .refuse(key, "this is a file, not a directory; name the directory that holds the server's files");
            }
        }
    }

    let membership = membership(&mut sources, &data_dir);
    let client = client_listener(&mut sources, file, membership.as_ref());
    // Of several lines that can't all be read, nobody knows the voters; what else an ensemble lacks is told with that.
    let lines = sources.family("server.").count();
    let unread = membership.clone().filter(|m| lines > 1 && m.members.len() < lines);
    let ensemble = membership.filter(EnsembleConfig::is_distributed);
    sources.judge_alone(ensemble.is_none());
    if let Some(ensemble) = ensemble.as_ref().or(unread.as_ref()) {
        check_distributed(&mut sources, ensemble, &data_dir, file);
    }
    let config = build(&mut sources, data_dir, client, file, ensemble);
    if !sources.problems.is_empty() {
        sources.problems.append(&mut sources.twice_listed);
        return Err(ConfigError { problems: sources.problems });
    }
    let effective = check::effective(&sources, &config);
    Ok(Loaded { config, warnings: sources.warnings, effective })
}

fn build(
    sources: &mut Sources,
    data_dir: PathBuf,
    client: ClientListener,
    file: Option<&Path>,
    ensemble: Option<EnsembleConfig>,
) -> ServerConfig {
    let tick_time_ms = i32_of(sources.int("tickTime").expect("it has a default"));
    let (min_session_timeout_ms, max_session_timeout_ms) = session_timeouts(sources, tick_time_ms);
    ServerConfig {
        data_log_dir: sources.text("dataLogDir").map_or_else(|| data_dir.clone(), PathBuf::from),
        data_dir,
        config_file: file.map(Path::to_owned),
        client,
        tick_time_ms,
        min_session_timeout_ms,
        max_session_timeout_ms,
        reconfig_enabled: sources.flag("reconfigEnabled"),
        read_only_mode: sources.flag("readonlymode.enabled"),
        storage: storage(sources),
        limits: limits(sources),
        request_throttle: request_throttle(sources),
        connection_throttle: connection_throttle(sources),
        tree: TreeSettings {
            extended_types: sources.flag("extendedTypesEnabled"),
            ttl_353: sources.flag("emulate353TTLNodes"),
            digest: sources.flag("digest.enabled"),
            enforce_quota: sources.flag("enforceQuota"),
        },
        sweep: SweepSettings {
            interval: sources.ms("znode.container.checkIntervalMs"),
            max_per_minute: sources.count("znode.container.maxPerMinute"),
            max_never_used: sources.ms("znode.container.maxNeverUsedIntervalMs"),
        },
        auth: auth(sources),
        words: words(sources),
        workers: workers(sources),
        ensemble,
        detours: Arc::default(),
    }
}

fn session_timeouts(sources: &mut Sources, tick_time_ms: i32) -> (i32, i32) {
    let given = |name| sources.int(name).filter(|&ms| ms != -1).map(i32_of);
    let min = given("minSessionTimeout").unwrap_or_else(|| tick_time_ms.saturating_mul(2)).max(1);
    let max = given("maxSessionTimeout").unwrap_or_else(|| tick_time_ms.saturating_mul(20)).max(1);
    if min > max {
        let key =
            if sources.assignment("minSessionTimeout").is_some() { "minSessionTimeout" } else { "maxSessionTimeout" };
        sources.refuse(key, format!("minSessionTimeout ({min} ms) must not exceed maxSessionTimeout ({max} ms)"));
    }
    (min, max)
}

/// The listener with its limits; address and port are arguments because several keys decide them.
fn listener(sources: &Sources, address: Option<IpAddr>, port: u16) -> ClientListener {
    let backlog = sources.int("clientPortListenBacklog").and_then(|n| u32::try_from(n).ok());
    ClientListener {
        address,
        port,
        backlog,
        tcp_keep_alive: sources.flag("clientTcpKeepAlive"),
        max_per_address: sources.count("maxClientCnxns"),
        max_total: sources.count("maxCnxns"),
        sessionless_timeout: sources.ms("nio.sessionlessCnxnTimeout"),
    }
}

fn client_listener(sources: &mut Sources, file: Option<&Path>, members: Option<&EnsembleConfig>) -> ClientListener {
    let own = members.and_then(|m| m.members.get(&m.my_id?)).and_then(|m| m.client.clone());
    let host = sources.text("clientPortAddress").filter(|h| !h.is_empty());
    let port = port(sources, "clientPort");
    let mut address = None;

    match (port, host) {
        (None, Some(_)) => sources.refuse("clientPortAddress", "clientPort isn't set"),
        (Some(_), Some(host)) => address = resolve(sources, "clientPortAddress", &host),
        (_, None) => {}
    }
    let mut chosen = port;
    if let Some(own) = own {
        let (own_address, key) = (resolve(sources, "server line of this server", &own.host), "clientPort");
        // What is set for every address goes with any address of the line, as in Apache.
        let other = address.filter(|ip| !ip.is_unspecified()).is_some_and(|ip| Some(ip) != own_address);
        if other || port.is_some_and(|p| p != own.port) {
            sources.refuse(key, format!("the server line of this server gives {}:{} instead", own.host, own.port));
        }
        chosen = Some(own.port);
        address = own_address;
    }
    if chosen.is_none() {
        if self::port(sources, "secureClientPort").is_some() {
            let why =
                "this version has no TLS, and there is no plain port beside it; set clientPort to serve without TLS";
            sources.refuse("secureClientPort", why);
        } else if sources.problems.is_empty() && !members.is_some_and(lacks_own_line) {
            let message = "clientPort isn't set, so no client could connect".to_owned();
            sources.problems.push(Problem::at(place_of(file), message));
        }
    }
    listener(sources, address.filter(|ip| !ip.is_unspecified()), chosen.unwrap_or(0))
}

/// Whether the port for clients may stand in this server's line, which is not known without `myid`.
fn lacks_own_line(members: &EnsembleConfig) -> bool {
    members.is_distributed() && members.my_id.is_none() && members.members.values().any(|m| m.client.is_some())
}

fn port(sources: &Sources, key: &str) -> Option<u16> {
    sources.int(key).and_then(|port| u16::try_from(port).ok()).filter(|&port| port > 0)
}

fn resolve(sources: &mut Sources, key: &str, host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    match (bare, 0).to_socket_addrs().map(first) {
        Ok(Some(ip)) => Some(ip),
        Ok(None) => {
            sources.refuse(key, format!("`{host}` has no address"));
            None
        }
        Err(error) => {
            sources.refuse(key, format!("`{host}` can't be resolved: {error}"));
            None
        }
    }
}

/// Where Java would listen: it takes IPv4 before IPv6. Elsewhere the clients of a name with both would find nobody, and a
/// server of Apache's that still runs would not be noticed.
fn first(found: impl Iterator<Item = SocketAddr>) -> Option<IpAddr> {
    found.min_by_key(SocketAddr::is_ipv6).map(|address| address.ip())
}

fn storage(sources: &mut Sources) -> StorageSettings {
    let kib = |name| sources.int(name).filter(|&n| n > 0).map(|n| n.unsigned_abs() * 1024);
    let flush_delay = sources.ms("flushDelay");
    let poll = sources.int("maxWriteQueuePollTime").map(|_| sources.ms("maxWriteQueuePollTime"));
    let snapshot_compression = match sources.text("snapshot.compression.method").as_deref() {
        Some("gz") => SnapshotCompression::Gzip,
        Some("snappy") => SnapshotCompression::Snappy,
        _ => SnapshotCompression::None,
    };
    let retain = sources.count("autopurge.snapRetainCount");
    let settings = StorageSettings {
        snap_count: sources.count("snapCount"),
        snap_size_limit: kib("snapSizeLimitInKb"),
        txn_log_size_limit: kib("txnLogSizeLimitInKb"),
        preallocate: kib("preAllocSize").unwrap_or(0),
        force_sync: sources.flag("forceSync"),
        fsync_warning: sources.ms("fsync.warningthresholdms"),
        flush_delay,
        write_queue_poll: poll.unwrap_or(flush_delay / 3),
        max_batch: sources.count("maxBatchSize"),
        snapshot_compression,
        trust_empty_snapshot: sources.flag("snapshot.trust.empty"),
        datadir_autocreate: sources.flag("datadir.autocreate"),
        db_autocreate: sources.flag("db.autocreate"),
        close_session_txn: sources.flag("closeSessionTxn.enabled"),
        serialize_last_zxid: sources.flag("serializeLastProcessedZxid.enabled"),
        purge: sources.period("autopurge.purgeInterval").map(|interval| PurgeSettings {
            interval,
            explicit: sources.assignment("autopurge.purgeInterval").is_some(),
            retain,
        }),
    };
    if !settings.force_sync {
        let text = "forceSync is off: a power cut loses writes that were acknowledged";
        sources.warnings.push(text.to_owned());
    }
    settings
}

fn limits(sources: &mut Sources) -> RequestLimits {
    let size = |n: i64| usize::try_from(n).expect("the row bounds it to 1024 and more");
    let jute_max_buffer = size(sources.int("jute.maxbuffer").expect("it has a default"));
    RequestLimits {
        jute_max_buffer,
        jute_extra_size: sources.int("jute.maxbuffer.extrasize").map_or(jute_max_buffer, size),
        global_outstanding: sources.count("globalOutstandingLimit"),
        large_request_threshold: sources.int("largeRequestThreshold").and_then(|n| u32::try_from(n).ok()),
        large_request_max_bytes: u64::from(sources.count("largeRequestMaxBytes")),
    }
}

fn request_throttle(sources: &Sources) -> RequestThrottle {
    RequestThrottle {
        max_requests: sources.count("request_throttle_max_requests"),
        stall: sources.ms("request_throttle_stall_time"),
        drop_stale: sources.flag("request_throttle_drop_stale"),
        stale_connection_check: sources.flag("request_stale_connection_check"),
        stale_latency_check: sources.flag("request_stale_latency_check"),
        shutdown_timeout: sources.ms("request_throttler.shutdownTimeout"),
        throttled_op_wait: sources.ms("throttled_op_wait_time"),
    }
}

fn connection_throttle(sources: &mut Sources) -> ConnectionThrottle {
    let freezes = sources.int("connection_throttle_freeze_time").is_some_and(|ms| ms != -1);
    let throttle = ConnectionThrottle {
        tokens: sources.count("connection_throttle_tokens"),
        fill_time: sources.ms("connection_throttle_fill_time"),
        fill_count: sources.count("connection_throttle_fill_count"),
        freeze_time: freezes.then(|| sources.ms("connection_throttle_freeze_time")),
        drop_increase: sources.real("connection_throttle_drop_increase"),
        drop_decrease: sources.real("connection_throttle_drop_decrease"),
        decrease_ratio: sources.real("connection_throttle_decrease_ratio"),
        weighted: sources.flag("connection_throttle_weight_enabled"),
        global_weight: sources.count("connection_throttle_global_session_weight"),
        renew_weight: sources.count("connection_throttle_renew_session_weight"),
        local_weight: sources.count("connection_throttle_local_session_weight"),
    };
    let lightest = throttle.local_weight;
    if throttle.weighted && (throttle.renew_weight < lightest || throttle.global_weight < lightest) {
        let message = "a local session must not weigh more than a global or a renewed one";
        sources.refuse("connection_throttle_local_session_weight", message);
    }
    throttle
}

fn auth(sources: &mut Sources) -> AuthSettings {
    let mut ensemble_provider = false;
    let mut warnings = Vec::new();
    for (_, provider) in sources.family("authProvider.") {
        let class = provider.text.rsplit('.').next().unwrap_or_default();
        let missing = match class {
            "EnsembleAuthenticationProvider" => {
                ensemble_provider = true;
                continue;
            }
            // Always there, as in Apache.
            "DigestAuthenticationProvider" | "IPAuthenticationProvider" => continue,
            "SASLAuthenticationProvider" => "SASL",
            "X509AuthenticationProvider" => "x509 authentication",
            _ => "classes of Java",
        };
        let (origin, name, text) = (&provider.origin, &provider.name, &provider.text);
        warnings
            .push(format!("{origin}: {name}={text}: not running in this version: {missing}; its scheme doesn't exist"));
    }
    sources.warnings.append(&mut warnings);

    let super_digest = sources.text("DigestAuthenticationProvider.superDigest").filter(|d| !d.is_empty());
    if super_digest.as_ref().is_some_and(|d| !d.contains(':')) {
        let text = "DigestAuthenticationProvider.superDigest isn't USER:HASH; no identity can match it";
        sources.warnings.push(text.to_owned());
    }
    let digest_hash = match sources.text("DigestAuthenticationProvider.digestAlg").as_deref() {
        Some("SHA-256") => PasswordHash::Sha256,
        Some("SHA-512") => PasswordHash::Sha512,
        Some("SHA3-256") => PasswordHash::Sha3_256,
        _ => PasswordHash::Sha1,
    };
    let names = sources.text("ensembleAuthName").unwrap_or_default();
    let enforce_schemes = enforced_schemes(sources);
    AuthSettings {
        enforce_schemes,
        skip_acl: sources.flag("skipACL"),
        digest_enabled: sources.flag("DigestAuthenticationProvider.enabled"),
        digest_hash,
        super_digest,
        ensemble_provider,
        ensemble_names: list(&names),
    }
}

/// What `enforce.auth.*` demands. A scheme that this version does not have would let nobody in, or, were
/// it ignored, everybody: both refuse the start.
fn enforced_schemes(sources: &mut Sources) -> Vec<String> {
    if !sources.flag("enforce.auth.enabled") {
        return Vec::new();
    }
    let schemes = list(&sources.text("enforce.auth.schemes").unwrap_or_default());
    if schemes.is_empty() {
        sources.refuse("enforce.auth.enabled", "enforce.auth.schemes names no scheme that would have to be used");
    }
    let digest = sources.flag("DigestAuthenticationProvider.enabled");
    for scheme in &schemes {
        if !(scheme == "ip" || (scheme == "digest" && digest)) {
            sources.refuse(
                "enforce.auth.schemes",
                format!("this version has no scheme `{scheme}` to demand; it has digest and ip"),
            );
        }
    }
    schemes
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn words(sources: &mut Sources) -> FourLetterWords {
    const KNOWN: [&str; 20] = [
        "conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "hash", "isro", "lead", "mntr", "ruok", "srst", "srvr",
        "stat", "stmk", "wchc", "wchp", "wchs", "lsnp",
    ];
    let key = "4lw.commands.whitelist";
    let mut words = list(&sources.text(key).unwrap_or_default());
    if words.iter().any(|w| w == "*") {
        return FourLetterWords::All;
    }
    let unknown: Vec<&String> = words.iter().filter(|w| !KNOWN.contains(&w.as_str())).collect();
    let unknown: Vec<String> = unknown
        .into_iter()
        .map(|word| match suggest::nearest(word, KNOWN.into_iter()) {
            Some(near) => format!("`{word}` (did you mean `{near}`?)"),
            None => format!("`{word}`"),
        })
        .collect();
    if let (false, Some(a)) = (unknown.is_empty(), sources.assignment(key)) {
        let text = format!("{}: {key}: no such word is known: {}", a.origin, unknown.join(", "));
        sources.warnings.push(text);
    }
    // Apache's own scripts and clients need these two.
    words.push("srvr".to_owned());
    if sources.flag("readonlymode.enabled") {
        words.push("isro".to_owned());
    }
    words.sort();
    words.dedup();
    FourLetterWords::Only(words)
}

fn workers(sources: &Sources) -> Option<usize> {
    let given = |name| sources.int(name).and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
    given("nio.numWorkerThreads").or_else(|| given("nio.numSelectorThreads"))
}

pub(super) fn read_bounded(path: &Path, max: usize) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let file = std::fs::File::open(path).map_err(|error| format!("can't be opened: {error}"))?;
    file.take(limit).read_to_end(&mut bytes).map_err(|error| format!("can't be read: {error}"))?;
    if bytes.len() > max { Err(format!("has more than {max} bytes")) } else { Ok(bytes) }
}

fn warn_if_relative(sources: &mut Sources, what: &str, path: &Path) {
    if path.is_relative() && !path.starts_with("./") {
        let text = format!("{what} {} is relative to the working directory; begin it with ./ or /", path.display());
        sources.warnings.push(text);
    }
}

pub(super) fn place_of(file: Option<&Path>) -> String {
    file.map_or_else(|| "arguments".to_owned(), |path| path.display().to_string())
}

fn i32_of(value: i64) -> i32 {
    i32::try_from(value).expect("the row's bounds fit 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_both_kinds_of_addresses_is_an_ipv4_address() {
        let of =
            |texts: &[&str]| first(texts.iter().map(|text| text.parse().expect("an address"))).map(|ip| ip.to_string());
        assert_eq!(of(&["[::1]:0", "127.0.0.1:0", "127.0.0.2:0"]).as_deref(), Some("127.0.0.1"));
        assert_eq!(of(&["[::1]:0", "[::2]:0"]).as_deref(), Some("::1"));
        assert_eq!(of(&[]), None);
    }
}
