use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::keys::{self, Fallback, KEYS, Kind, Mark, Spelling, Support};
use super::*;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("a file in a fresh directory");
        path
    }
}

/// Loads `text`, which gets `dataDir` and `clientPort` in front on one line each: line 3 is its first.
fn load_with(text: &str, overrides: &Overrides<'_>) -> Result<Loaded, ConfigError> {
    let dir = Dir::new();
    load(&dir.write("zoo.cfg", &format!("dataDir=/data\nclientPort=2181\n{text}")), overrides).map_err(|error| {
        let prefix = format!("{}/", dir.0.path().display());
        let strip = |p: Problem| Problem { place: p.place.replace(&prefix, ""), message: p.message };
        ConfigError { problems: error.problems.into_iter().map(strip).collect() }
    })
}

fn accepted(text: &str) -> Loaded {
    load_with(text, &Overrides::default()).expect(text)
}

fn refused(text: &str) -> String {
    load_with(text, &Overrides::default()).expect_err(text).to_string()
}

/// Warnings without the directory of the test.
fn warnings(loaded: &Loaded) -> String {
    let dir = loaded.config.config_file.as_ref().and_then(|f| f.parent()).expect("loaded from a file");
    loaded.warnings.join("\n").replace(&format!("{}/", dir.display()), "")
}

#[test]
fn the_table_is_consistent() {
    for key in KEYS {
        if let Fallback::Value(text) = key.default {
            assert!(value::parse(key.kind, text).is_ok(), "{}: default {text}", key.name);
            assert_eq!(value::raised(key.kind, text), None, "{}", key.name);
        }
        assert_eq!(KEYS.iter().filter(|k| k.name == key.name).count(), 1, "{} stands twice", key.name);
        assert_eq!(matches!(key.support, Support::Ignored(_)), key.mark == Mark::Warn, "{}", key.name);
        assert!(!matches!(key.support, Support::Demand(_)) || key.kind == Kind::Bool, "{}", key.name);
        for alias in key.aliases {
            assert!(KEYS.iter().all(|k| k.name != *alias), "{alias} is a name too");
            let (found, spelling) = keys::find(alias).expect("an alias is found");
            assert_eq!((found.name, spelling), (key.name, Spelling::Dead));
        }
        assert!(reference().contains(&format!("`{}`", key.name)));
    }
}

#[test]
fn the_smallest_file_gives_apaches_defaults() {
    let Loaded { config, warnings, .. } = accepted("");
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.data_dir, PathBuf::from("/data"));
    assert_eq!(config.data_log_dir, PathBuf::from("/data"));
    assert_eq!((config.client.address, config.client.port, config.client.backlog), (None, 2181, None));
    assert_eq!((config.client.max_per_address, config.client.max_total), (60, 0));
    assert_eq!(
        (config.tick_time_ms, config.min_session_timeout_ms, config.max_session_timeout_ms),
        (3000, 6000, 60000)
    );
    let storage = &config.storage;
    assert_eq!((storage.snap_count, storage.snap_size_limit), (100_000, Some(4 << 30)));
    assert_eq!((storage.txn_log_size_limit, storage.preallocate), (None, 64 << 20));
    assert!(storage.force_sync && storage.datadir_autocreate && storage.db_autocreate && storage.close_session_txn);
    assert_eq!(
        (storage.flush_delay, storage.write_queue_poll, storage.max_batch),
        (Duration::ZERO, Duration::ZERO, 1000)
    );
    assert_eq!(storage.purge, Some(PurgeSettings { interval: Duration::from_secs(3600), explicit: false, retain: 3 }));
    assert_eq!((config.limits.jute_max_buffer, config.limits.jute_extra_size), (0xf_ffff, 0xf_ffff));
    assert_eq!((config.limits.global_outstanding, config.limits.large_request_threshold), (1000, None));
    assert_eq!(config.sweep.max_never_used, Duration::ZERO);
    assert!(config.tree.digest && !config.tree.extended_types && !config.tree.enforce_quota);
    assert!(!config.auth.skip_acl && config.auth.digest_enabled && config.auth.super_digest.is_none());
    assert!(config.words.allows("srvr") && !config.words.allows("ruok") && !config.words.allows("isro"));
    assert_eq!((config.workers, config.ensemble), (None, None));
}

#[test]
fn a_program_gets_the_same_defaults() {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = ServerConfig::standalone("/data", address);
    assert_eq!(config.client.address, Some(IpAddr::from(Ipv4Addr::LOCALHOST)));
    let loaded = accepted("").config;
    config.client = loaded.client.clone();
    config.config_file.clone_from(&loaded.config_file);
    assert_eq!(config, loaded);
}

#[test]
fn apaches_sample_file_is_silent() {
    let text = "# The number of milliseconds of each tick\ntickTime=2000\ninitLimit=10\nsyncLimit=5\n#maxClientCnxns=60\n\
                autopurge.snapRetainCount=3\nautopurge.purgeInterval=1\nadmin.enableServer=false\n";
    let loaded = accepted(text);
    assert_eq!(loaded.warnings, [""; 0]);
    assert_eq!(loaded.config.max_session_timeout_ms, 40_000);
}

#[test]
fn values_reach_their_fields() {
    let text = "dataLogDir=/log\nclientPortAddress=127.0.0.1\nclientPortListenBacklog=200\ntickTime=500\n\
        minSessionTimeout=100\nmaxSessionTimeout=-1\nclientTcpKeepAlive=yes\nmaxClientCnxns=-1\nmaxCnxns=7\nsnapCount=1\n\
        snapSizeLimitInKb=-1\ntxnLogSizeLimitInKb=2\npreAllocSize=1\nforceSync=no\nfsync.warningthresholdms=5\n\
        flushDelay=30\nmaxBatchSize=9\nsnapshot.compression.method=gz\nsnapshot.trust.empty=true\ndatadir.autocreate=false\n\
        db.autocreate=false\nautopurge.snapRetainCount=1\nautopurge.purgeInterval=30m\nglobalOutstandingLimit=8\n\
        largeRequestThreshold=10\nlargeRequestMaxBytes=20\nrequest_throttle_max_requests=3\nthrottled_op_wait_time=4\n\
        connection_throttle_tokens=5\nconnection_throttle_freeze_time=6\nnio.sessionlessCnxnTimeout=1\nenforceQuota=true\n\
        nio.numWorkerThreads=0\nnio.numSelectorThreads=3\nextendedTypesEnabled=YES\nskipACL=yes\n\
        DigestAuthenticationProvider.digestAlg=sha-512\nDigestAuthenticationProvider.superDigest=super:x\n\
        ensembleAuthName=a, b,\nauthProvider.1=org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider\n";
    let Loaded { config, .. } = accepted(text);
    assert_eq!(config.data_log_dir, PathBuf::from("/log"));
    assert_eq!(config.client.address, Some(IpAddr::from(Ipv4Addr::LOCALHOST)));
    assert_eq!((config.client.backlog, config.client.tcp_keep_alive), (Some(200), true));
    assert_eq!((config.client.max_per_address, config.client.max_total), (0, 7));
    assert_eq!((config.min_session_timeout_ms, config.max_session_timeout_ms), (100, 10_000));
    let storage = &config.storage;
    assert_eq!((storage.snap_count, storage.snap_size_limit, storage.txn_log_size_limit), (2, None, Some(2048)));
    assert_eq!((storage.preallocate, storage.force_sync), (1024, false));
    assert_eq!((storage.flush_delay.as_millis(), storage.write_queue_poll.as_millis()), (30, 10));
    assert_eq!(storage.snapshot_compression, SnapshotCompression::Gzip);
    assert!(storage.trust_empty_snapshot && !storage.datadir_autocreate && !storage.db_autocreate);
    assert_eq!(storage.purge, Some(PurgeSettings { interval: Duration::from_secs(1800), explicit: true, retain: 3 }));
    assert_eq!((config.limits.large_request_threshold, config.limits.large_request_max_bytes), (Some(10), 20));
    assert_eq!(config.request_throttle.throttled_op_wait, Duration::from_millis(4));
    assert_eq!(config.connection_throttle.freeze_time, Some(Duration::from_millis(6)));
    assert_eq!(config.workers, Some(3));
    assert!(config.tree.extended_types && config.tree.enforce_quota && config.auth.skip_acl);
    assert_eq!(config.auth.digest_hash, PasswordHash::Sha512);
    assert_eq!(config.auth.ensemble_names, ["a", "b"]);
    assert!(config.auth.ensemble_provider);
    assert!(!format!("{config:?}").contains("super:x"), "secrets stay out of debug output");
}

#[test]
fn refusals_name_file_line_key_value_and_range() {
    let int = "an integer from 1 to 2147483647";
    for (text, expected) in [
        ("tickTime=abc", format!("zoo.cfg:3: tickTime=abc: not an integer; allowed: {int}")),
        ("\n\ntickTime=0", format!("zoo.cfg:5: tickTime=0: out of range; allowed: {int}")),
        ("tickTime=", format!("zoo.cfg:3: tickTime=: not an integer; allowed: {int}")),
        ("tickTime=3000000000", format!("zoo.cfg:3: tickTime=3000000000: out of range; allowed: {int}")),
        ("forceSync=maybe", "zoo.cfg:3: forceSync=maybe: not a boolean; allowed: yes or no".to_owned()),
        ("enforceQuota=1", "zoo.cfg:3: enforceQuota=1: not a boolean; allowed: true, false, yes or no".to_owned()),
        (
            "snapshot.compression.method=zip",
            "zoo.cfg:3: snapshot.compression.method=zip: not one of the choices; allowed: \"\", gz, snappy".to_owned(),
        ),
        (
            "connection_throttle_drop_increase=2",
            "zoo.cfg:3: connection_throttle_drop_increase=2: out of range; allowed: a decimal number from 0 to 1"
                .to_owned(),
        ),
        (
            "minSessionTimeout=9\nmaxSessionTimeout=8",
            "zoo.cfg:3: minSessionTimeout=9: minSessionTimeout (9 ms) must not exceed maxSessionTimeout (8 ms)"
                .to_owned(),
        ),
        ("electionAlg=0", "zoo.cfg:3: electionAlg=0: out of range; allowed: 3".to_owned()),
        ("a=\\u00", "zoo.cfg:3: `\\u00` is no escape: \\u takes four hexadecimal digits".to_owned()),
        (
            "standaloneEnabled=false",
            "zoo.cfg:3: standaloneEnabled=false: without any server line, only true is possible".to_owned(),
        ),
    ] {
        assert_eq!(refused(text), expected);
    }
    let both = refused("tickTime=x\nsnapCount=y");
    assert!(both.contains("zoo.cfg:3: tickTime=x") && both.contains("zoo.cfg:4: snapCount=y"), "{both}");
    assert!(refused("DigestAuthenticationProvider.digestAlg=MD5").contains("SHA-256"));
}

#[test]
fn missing_basics_are_refused() {
    let dir = Dir::new();
    let of = |text: &str| load(&dir.write("zoo.cfg", text), &Overrides::default()).expect_err(text).to_string();
    assert!(of("clientPort=2181").contains("dataDir isn't set"));
    assert!(of("dataDir=\nclientPort=2181").contains("dataDir=: empty"));
    assert!(of("dataDir=/data").contains("clientPort isn't set"));
    assert!(of("dataDir=/data\nclientPort=0").contains("clientPort isn't set"));
    assert!(
        of("dataDir=/data\nclientPortAddress=127.0.0.1").contains("clientPortAddress=127.0.0.1: clientPort isn't set")
    );
    let missing = load(&dir.0.path().join("none.cfg"), &Overrides::default()).expect_err("no file").to_string();
    assert!(missing.contains("none.cfg: can't be opened") && missing.contains("`farrier init`"), "{missing}");
}

#[test]
fn what_is_no_file_or_no_directory_is_told_with_what_to_name_instead() {
    let dir = Dir::new();
    let of = |path: &Path| load(path, &Overrides::default()).expect_err("refused").to_string();
    let bare = of(dir.0.path());
    assert!(bare.contains("this is a directory, and has no zoo.cfg") && bare.contains("`farrier init`"), "{bare}");
    let data = dir.write("data", "");
    let file = dir.write("zoo.cfg", &format!("clientPort=2181\ndataDir=/tmp\ndataLogDir={}\n", data.display()));
    let inside = of(dir.0.path());
    assert!(
        inside.ends_with(&format!("this is a directory; name its configuration file: {}", file.display())),
        "{inside}"
    );
    let said = of(&file);
    assert!(
        said.starts_with(&format!("{}:3: dataLogDir={}: this is a file", file.display(), data.display())),
        "{said}"
    );
}

#[test]
fn demands_for_security_fail_closed() {
    for key in [
        "sslQuorum",
        "quorum.auth.enableSasl",
        "quorum.auth.learnerRequireSasl",
        "quorum.auth.serverRequireSasl",
        "sessionRequireClientSASLAuth",
    ] {
        for on in ["true", "yes", "TRUE"] {
            let error = refused(&format!("{key}={on}"));
            assert!(error.starts_with(&format!("zoo.cfg:3: {key}={on}: this version has no ")), "{error}");
        }
        assert_eq!(accepted(&format!("{key}=false")).warnings, [""; 0]);
    }
    // Apache ignores this spelling; whoever wrote it demanded it all the same.
    assert!(refused("zookeeper.enforce.auth.enabled=true").contains("enforce.auth.schemes names no scheme"));
    assert!(refused("enforce.auth.enabled=true\nenforce.auth.schemes=sasl").contains("no scheme `sasl` to demand"));
    let config = accepted("enforce.auth.enabled=true\nenforce.auth.schemes=digest, ip").config;
    assert_eq!(config.auth.enforce_schemes, ["digest", "ip"]);
    let flags = [("JVMFLAGS", "-Dzookeeper.sessionRequireClientSASLAuth=true")];
    let error = load_with("", &Overrides { jvm_flags: &flags, sets: &[] }).expect_err("a demand").to_string();
    assert!(error.starts_with("-Dzookeeper.sessionRequireClientSASLAuth in JVMFLAGS: "), "{error}");

    let dir = Dir::new();
    let path = dir.write("zoo.cfg", "dataDir=/data\nsecureClientPort=2281\n");
    let error = load(&path, &Overrides::default()).expect_err("TLS only").to_string();
    assert!(error.contains("zoo.cfg:2: secureClientPort=2281: this version has no TLS"), "{error}");
}

#[test]
fn scripts_beside_the_file_drop_no_protection_in_silence() {
    let with = |script: &str, text: &str, flags: &str, cfg: &str| {
        let dir = Dir::new();
        dir.write(script, text);
        let file = dir.write("zoo.cfg", &format!("dataDir=/data\nclientPort=2181\n{cfg}"));
        let flags = [("JVMFLAGS", flags)];
        let loaded = load(&file, &Overrides { jvm_flags: &flags, sets: &[] });
        let text = loaded.map(|l| l.warnings.join("\n")).map_err(|e| e.to_string());
        let bare = |text: String| text.replace(&format!("{}/", dir.0.path().display()), "");
        text.map(bare).map_err(bare)
    };
    for script in ["java.env", "zookeeper-env.sh"] {
        for demand in [
            "zookeeper.sessionRequireClientSASLAuth=true",
            "zookeeper.enforce.auth.enabled=true",
            "zookeeper.enforce.auth.enabled=$ENFORCE",
            "zookeeper.DigestAuthenticationProvider.enabled=false",
        ] {
            let text = format!("#\nexport SERVER_JVMFLAGS=\"-Xmx4g -D{demand}\"\n");
            let (property, _) = demand.split_once('=').expect("a value");
            let refused = with(script, &text, "", "").expect_err(demand);
            assert!(refused.starts_with(&format!("{script}:2: -D{property}: ")), "{refused}");
            let commented = text.replace("export", "# export");
            assert_eq!(with(script, &commented, "", ""), Ok(String::new()), "a comment demands nothing");
        }
    }
    let enforced = "JVMFLAGS=-Dzookeeper.enforce.auth.enabled=true";
    let said = "enforce.auth.enabled=true\nenforce.auth.schemes=digest";
    assert_eq!(with("java.env", enforced, "", said), Ok(String::new()), "the file says the same");
    assert_eq!(with("java.env", enforced, "", "enforce.auth.enabled=no"), Ok(String::new()), "it is over the flags");
    let exported = "-Dzookeeper.enforce.auth.enabled=true -Dzookeeper.enforce.auth.schemes=ip";
    assert_eq!(with("java.env", enforced, exported, ""), Ok(String::new()), "the environment says the same");
    let other = with("java.env", enforced, "-Dzookeeper.enforce.auth.enabled=false", "").expect("it was said");
    assert!(other.contains("java.env:1: -Dzookeeper.enforce.auth.enabled is set here too"), "{other}");
    assert!(other.contains("-Dzookeeper.enforce.auth.enabled in JVMFLAGS counts"), "{other}");

    let mild = "JVMFLAGS=\"-Dzookeeper.snapCount=5 -Djute.maxbuffer=$BIG -Dzookeeper.enforce.auth.enabled=false\n\
        -Djava.net.preferIPv4Stack=true -Dzookeeper.admin.serverPort=9 -Dcom.sun.management.jmxremote\"";
    let warned = with("java.env", mild, "-Dzookeeper.snapCount=5", "").expect("nothing is demanded");
    let lost = "java.env: this script is not executed, so that what it sets is not in force: -Djute.maxbuffer (line 1), \
        -Dzookeeper.enforce.auth.enabled (line 1), -Dzookeeper.admin.serverPort (line 2); write it into";
    assert!(warned.starts_with(lost), "{warned}");
    assert_eq!(with("other.env", enforced, "", ""), Ok(String::new()), "no script of Apache's reads it");
}

#[test]
fn what_is_not_running_gets_one_warning_for_each_feature() {
    let text = "secureClientPort=2281\nssl.keyStore.location=/k\nssl.keyStore.password=hunter2\nadmin.serverPort=8080\n\
        admin.enableServer=true\nmetricsProvider.className=x.Prometheus\nmetricsProvider.httpPort=7000\naudit.enable=true\n\
        authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\nauthProvider.x=com.example.Mine\n";
    let loaded = accepted(text);
    let found = warnings(&loaded);
    for part in [
        "TLS; without effect: secureClientPort (zoo.cfg:3), ssl.keyStore.location (zoo.cfg:4)",
        "the HTTP admin server; without effect: admin.enableServer (zoo.cfg:7), admin.serverPort (zoo.cfg:6)",
        "the metrics endpoint; without effect: metricsProvider.className (zoo.cfg:8), metricsProvider.httpPort (zoo.cfg:9)",
        "the audit log; without effect: audit.enable (zoo.cfg:10)",
        "zoo.cfg:11: authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider: not running in this version: SASL",
        "zoo.cfg:12: authProvider.x=com.example.Mine: not running in this version: classes of Java",
    ] {
        assert!(found.contains(part), "{part}\n---\n{found}");
    }
    assert_eq!(loaded.warnings.len(), 6, "{found}");
    let printed = render(&loaded.effective);
    assert!(printed.contains("ssl.keyStore.password=(hidden)") && !printed.contains("hunter2"), "{printed}");
}

#[test]
fn what_apache_does_not_act_upon_drops_no_protection() {
    for (line, word) in [
        ("skipACL=true", "yes"),
        ("skipACL=YES", "yes"),
        ("forceSync=false", "no"),
        ("forceSync=NO", "no"),
        ("snapshot.trust.empty=yes", "true"),
    ] {
        let loaded = accepted(line);
        assert!(!loaded.config.auth.skip_acl && loaded.config.storage.force_sync, "{line}");
        assert!(!loaded.config.storage.trust_empty_snapshot, "{line}");
        assert_eq!(warnings(&loaded), format!("zoo.cfg:3: {line} does nothing, as in Apache; only `{word}` does"));
    }
    for line in ["skipACL=false", "skipACL=no", "forceSync=true", "forceSync=yes"] {
        assert_eq!(accepted(line).warnings, [""; 0], "{line}");
    }
    // To Java such a property is empty.
    let names = ["skipACL", "forceSync", "snapshot.trust.empty", "digest.enabled"];
    let flags = names.map(|name| format!("-Dzookeeper.{name}")).join(" ");
    let loaded = load_with("", &Overrides { jvm_flags: &[("JVMFLAGS", &flags)], sets: &[] }).expect("valid");
    assert!(!loaded.config.auth.skip_acl && loaded.config.storage.force_sync && !loaded.config.tree.digest);
    assert!(!loaded.config.storage.trust_empty_snapshot);
    assert_eq!(
        loaded.warnings[0],
        "-Dzookeeper.skipACL in JVMFLAGS has no value, which is not true, in Apache either: skipACL=no counts"
    );
    assert_eq!(loaded.warnings.len(), names.len(), "{}", warnings(&loaded));
    let flags = [("JVMFLAGS", "-Dzookeeper.sessionRequireClientSASLAuth")];
    assert!(load_with("", &Overrides { jvm_flags: &flags, sets: &[] }).is_err(), "a protection is not dropped");
    for (text, serves) in [("no", false), ("false", true), ("NO", true), ("yes", true)] {
        let loaded = load_member(Some("1"), &format!("clientPort=2181\n{THREE}leaderServes={text}\n")).expect(text);
        assert_eq!(loaded.config.ensemble.expect("several voters").tuning.leader_serves, serves, "{text}");
        let inert = loaded.warnings.iter().any(|w| w.contains("does nothing, as in Apache; only `no` does"));
        assert_eq!(inert, serves && text != "yes", "{text}: {:?}", loaded.warnings);
    }
    assert!(
        accepted("localSessionsEnabled=true").warnings[0].starts_with("not running in this version: local sessions")
    );
}

#[test]
fn keys_for_a_jvm_share_one_warning() {
    let loaded = accepted("nio.directBufferBytes=1\nwatcherCleanThreshold=5\nmaxResponseCacheSize=9");
    assert_eq!(loaded.warnings.len(), 1);
    let found = warnings(&loaded);
    assert!(found.contains("nio.directBufferBytes (zoo.cfg:3)") && found.contains("watcherCleanThreshold (zoo.cfg:4)"));
}

#[test]
fn unknown_keys_start_with_the_nearest_known_one() {
    for (text, expected) in [
        ("tikcTime=1", "zoo.cfg:3: unknown key `tikcTime` is ignored; did you mean `tickTime`?"),
        (
            "maxClientConnections=1",
            "zoo.cfg:3: unknown key `maxClientConnections` is ignored; did you mean `maxClientCnxns`?",
        ),
        ("autopurge.snapRetainCounts=9", "did you mean `autopurge.snapRetainCount`?"),
        ("connectionMaxToken=9", "did you mean `connectionMaxTokens`?"),
        ("zookeeper.snapCuont=9", "did you mean `snapCount`?"),
        (
            "something.else.entirely=9",
            "zoo.cfg:3: unknown key `something.else.entirely` is ignored; no known key resembles it",
        ),
        ("=9", "unknown key `` is ignored"),
    ] {
        let loaded = accepted(text);
        let found = warnings(&loaded);
        assert!(found.contains(expected), "{text}: {found}");
        assert_eq!(loaded.warnings.len(), 1);
    }
}

#[test]
fn documented_names_that_do_nothing_in_apache_are_applied_and_reported() {
    for (line, field) in [
        ("connectionMaxTokens=7", "connection_throttle_tokens"),
        ("requestThrottleLimit=7", "request_throttle_max_requests"),
        ("throttledOpWaitTime=7", "throttled_op_wait_time"),
        ("zookeeper.connection_throttle_tokens=7", "connection_throttle_tokens"),
        ("zookeeper.nio.sessionlessCnxnTimeout=7", "nio.sessionlessCnxnTimeout"),
        ("znode.container.maxPerMinute=7", "znode.container.maxPerMinute"),
        ("zookeeper.clientPortListenBacklog=7", "clientPortListenBacklog"),
    ] {
        let loaded = accepted(line);
        let set = loaded.effective.iter().find(|e| e.name == field).expect(line);
        assert_eq!(set.value, "7");
        let found = warnings(&loaded);
        assert!(found.contains("zoo.cfg:3: ") && found.contains(" is applied, although Apache "), "{line}: {found}");
    }
    let loaded = accepted("jute.maxbuffer=4194304");
    assert_eq!((loaded.config.limits.jute_max_buffer, loaded.config.limits.jute_extra_size), (4 << 20, 4 << 20));
    assert!(warnings(&loaded).contains("Apache reads it from -Djute.maxbuffer only"));
    // The name that works in Apache counts, wherever it stands.
    let loaded = accepted("connection_throttle_tokens=1\nconnectionMaxTokens=2");
    assert_eq!(loaded.config.connection_throttle.tokens, 1);
}

#[test]
fn later_duplicates_win_and_are_reported() {
    let loaded = accepted("tickTime=1000\ntickTime=2000");
    assert_eq!(loaded.config.tick_time_ms, 2000);
    assert!(warnings(&loaded).contains("zoo.cfg:3: `tickTime` is set twice; zoo.cfg:4 counts"));
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn precedence() {
    let sets = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    };
    let flags = [
        ("SERVER_JVMFLAGS", "-Xmx1g -Dzookeeper.snapCount=10 -Dzookeeper.maxCnxns=1 -Djute.maxbuffer=0x1fffff"),
        (
            "JVMFLAGS",
            "-Dzookeeper.maxCnxns=2 -Dreadonlymode.enabled=true -Dzookeeper.tickTime=77 -Dzookeeper.snapcount=3",
        ),
    ];
    let from_flags = load_with("", &Overrides { jvm_flags: &flags, sets: &[] }).expect("valid flags");
    assert_eq!(from_flags.config.storage.snap_count, 10);
    assert_eq!(from_flags.config.client.max_total, 2);
    assert_eq!(from_flags.config.limits.jute_max_buffer, 0x1f_ffff);
    assert!(from_flags.config.read_only_mode && from_flags.config.words.allows("isro"));
    assert_eq!(from_flags.config.tick_time_ms, 3000, "Apache reads it from the file only");
    let found = warnings(&from_flags);
    for part in
        ["-Dzookeeper.tickTime in JVMFLAGS: ignored, as in Apache", "did you mean `snapCount`?", "ignored: -Xmx1g"]
    {
        assert!(found.contains(part), "{part}: {found}");
    }
    assert_eq!(from_flags.warnings.len(), 3, "{found}");

    let over = load_with("snapCount=20\nmaxCnxns=3", &Overrides { jvm_flags: &flags, sets: &[] }).expect("valid");
    assert_eq!((over.config.storage.snap_count, over.config.client.max_total), (20, 3));

    let sets = sets(&[("snapCount", "30"), ("tickTime", "1"), ("zookeeper.maxCnxns", "5"), ("tickTime", "2")]);
    let set = load_with("snapCount=20\ntickTime=9", &Overrides { jvm_flags: &flags, sets: &sets }).expect("valid");
    assert_eq!((set.config.storage.snap_count, set.config.client.max_total, set.config.tick_time_ms), (30, 5, 2));
    let printed = render(&set.effective);
    for line in
        ["snapCount=30", "(--set)", "(default)", "jute.maxbuffer=0x1fffff", "(-Djute.maxbuffer in SERVER_JVMFLAGS)"]
    {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
}

#[test]
fn words() {
    let of = |text: &str| accepted(text).config.words;
    assert_eq!(of("4lw.commands.whitelist=*"), FourLetterWords::All);
    assert_eq!(of("4lw.commands.whitelist=stat, *"), FourLetterWords::All);
    let some = of("4lw.commands.whitelist= stat , ruok,");
    assert!(some.allows("stat") && some.allows("ruok") && some.allows("srvr") && !some.allows("mntr"));
    assert!(of("readonlymode.enabled=true").allows("isro"));
    let loaded = accepted("4lw.commands.whitelist=rouk");
    assert!(warnings(&loaded).contains("`rouk` (did you mean `ruok`?)"), "{}", warnings(&loaded));
}

#[test]
fn purge_is_on_unless_the_file_says_off() {
    assert_eq!(accepted("autopurge.purgeInterval=0").config.storage.purge, None);
    let on = accepted("autopurge.snapRetainCount=5").config.storage.purge;
    assert_eq!(on, Some(PurgeSettings { interval: Duration::from_secs(3600), explicit: false, retain: 5 }));
    let loaded = accepted("autopurge.snapRetainCount=1");
    assert!(warnings(&loaded).contains("zoo.cfg:3: autopurge.snapRetainCount=1 is too low; 3 is used"));
    assert!(render(&loaded.effective).contains("autopurge.snapRetainCount=3 "));
}

#[test]
fn bare_arguments() {
    let arguments = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    let of = |text: &str| from_arguments(&arguments(text), &Overrides::default());
    let config = of("2182 /data").expect("valid").config;
    assert_eq!((config.client.port, config.client.max_per_address, config.tick_time_ms), (2182, 0, 3000));
    assert_eq!((config.data_dir, config.config_file), (PathBuf::from("/data"), None));
    let config = of("2182 /data 500 7").expect("valid").config;
    assert_eq!((config.client.max_per_address, config.tick_time_ms), (7, 500));
    for text in ["2182", "1 /data 2 3 4", "x /data", "2182 /data x"] {
        assert!(of(text).is_err(), "{text}");
    }
}

const THREE: &str =
    "initLimit=10\nsyncLimit=5\nserver.1=a:2888:3888\nserver.2=b:2888:3888\nserver.3=c:2888:3888:observer\n";

/// Loads `text` with a data directory that holds `myid`.
fn load_member(my_id: Option<&str>, text: &str) -> Result<Loaded, String> {
    let dir = Dir::new();
    if let Some(id) = my_id {
        dir.write("myid", id);
    }
    let text = format!("dataDir={}\n{text}", dir.0.path().display());
    load(&dir.write("zoo.cfg", &text), &Overrides::default()).map_err(|error| error.to_string())
}

#[test]
fn an_ensemble_is_read() {
    let loaded = load_member(Some("1 \n"), &format!("clientPort=2181\n{THREE}")).expect("a valid ensemble");
    let ensemble = loaded.config.ensemble.as_ref().expect("several voters");
    assert_eq!((ensemble.my_id, ensemble.voters(), ensemble.members.len()), (Some(1), 2, 3));
    assert_eq!((ensemble.init_limit, ensemble.sync_limit), (10, 5));
    assert_eq!((loaded.config.runnable(), &ensemble.tuning), (Ok(()), &Tuning::default()));
    assert!(loaded.warnings.iter().any(|w| w.contains("no failure will be tolerated")));

    for (my_id, text, why) in [
        (None, "clientPort=1\ninitLimit=1\nsyncLimit=1\nserver.1=a:1:2\nserver.2=b:1:2", "myid: the file is missing"),
        (
            Some("x"),
            "clientPort=1\ninitLimit=1\nsyncLimit=1\nserver.1=a:1:2\nserver.2=b:1:2",
            "serverid `x` is not a number",
        ),
        (
            Some("3"),
            "clientPort=1\ninitLimit=1\nsyncLimit=1\nserver.1=a:1:2\nserver.2=b:1:2",
            "myid: it says 3, and there is no server.3 line; listed are 1, 2",
        ),
        (
            Some("1"),
            "clientPort=1\ninitLimit=1\nsyncLimit=1\nserver.1=a:1:2|b:1:2\nserver.2=b:1:2",
            "server.1 has several addresses, and multiAddress.enabled is false",
        ),
        (Some("1"), "clientPort=1\nsyncLimit=1\nserver.1=a:1:2\nserver.2=b:1:2", "initLimit isn't set"),
        (Some("1"), "clientPort=1\nserver.1=a:1:1", "server.1=a:1:1: quorum port and election port"),
        (Some("1"), "clientPort=1\nserver.x=a:1:2", "`x` is no number"),
        (Some("1"), "clientPort=1\nserver.1=a:1:2:observer", "no listed server votes"),
        (Some("1"), "clientPort=1\nserver.1=a:1:2\nserver.2=b:1:2:observer", "needs standaloneEnabled=false"),
        (Some("1"), "clientPort=1\nserver.1=a:1:2\nserver.2=b:1:2\ngroup.1=1:1", "stands in two groups"),
        (Some("1"), "clientPort=1\nserver.1=a:1:2\nserver.2=b:1:2\ngroup.1=1", "server 2 votes and stands in no group"),
        (Some("1"), "clientPort=1\nserver.1=a:1:2;2", "gives 0.0.0.0:2 instead"),
        (
            Some("1"),
            "clientPort=2\nclientPortAddress=127.0.0.2\nserver.1=a:1:2;127.0.0.1:2",
            "gives 127.0.0.1:2 instead",
        ),
        (Some("1"), "clientPort=2\nclientPortAddress=127.0.0.2\nserver.1=a:1:2;2", "gives 0.0.0.0:2 instead"),
        (Some("1"), "clientPort=1\nclientPortAddress=0.0.0.0\nserver.1=a:1:2;127.0.0.1:2", "gives 127.0.0.1:2 instead"),
    ] {
        let error = load_member(my_id, text).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn what_is_missing_of_reconfiguration_is_said_to_who_asks_for_it() {
    let said = |text: &str| {
        let loaded = load_member(Some("1"), &format!("clientPort=2181\n{THREE}{text}")).expect("a valid ensemble");
        loaded.warnings.into_iter().filter(|warning| warning.contains("reconfig")).collect::<Vec<_>>()
    };
    let [warning] = &said("reconfigEnabled=true")[..] else { panic!("one warning") };
    assert!(warning.contains(": reconfigEnabled=true: a Farrier leader begins no reconfigurations in this version"));
    assert_eq!((said("reconfigEnabled=false"), said("")), (vec![], vec![]));
    assert_eq!(accepted("reconfigEnabled=true").warnings, [""; 0]);
}

#[test]
fn what_is_no_text_is_no_configuration() {
    assert!(refused("key=\u{7f}ELF\0\u{1}").contains(":3: this is no text; expected lines key=value"));
}

#[test]
fn extended_types_need_a_small_number() {
    let with = |id: &str, more: &str| {
        let text = format!("clientPort=2181\ninitLimit=1\nsyncLimit=1\nserver.{id}=a:1:2\nserver.2=b:1:2\n{more}");
        load_member(Some(id), &text).map(|loaded| loaded.config.tree.extended_types)
    };
    assert_eq!(with("254", "extendedTypesEnabled=true"), Ok(true));
    assert_eq!(with("255", ""), Ok(false));
    let error = with("255", "extendedTypesEnabled=true").expect_err("Apache refuses it");
    assert!(error.contains("extendedTypesEnabled=true: the number of this server is 255, and "), "{error}");
}

#[test]
fn what_apache_lets_stand_is_no_contradiction() {
    let text = format!("clientPort=2181\n{THREE}group.1=1:2\nweight.1=2\nweight.9=5");
    let loaded = load_member(Some("1"), &text).expect("a weight that is left of a server is none");
    assert!(loaded.warnings.contains(&"weight.9 is ignored: there is no server.9 line".to_owned()), "{loaded:?}");
    let list = loaded.config.ensemble.expect("several voters").list();
    assert!(list.text().ends_with("group.1=1:2\nweight.1=2\nweight.2=1\nversion=0"), "{}", list.text());

    for every in ["0.0.0.0", "::", "[::]"] {
        let text = format!("clientPort=2185\nclientPortAddress={every}\nserver.1=localhost:1:2;127.0.0.1:2185");
        let client = load_member(Some("1"), &text).expect(every).config.client;
        assert_eq!((client.address, client.port), (Some(IpAddr::from(Ipv4Addr::LOCALHOST)), 2185), "the line counts");
    }
}

#[test]
fn all_that_an_ensemble_lacks_is_told_at_once() {
    // The client's port stands in the line that only myid tells.
    for members in ["clientPort=1\nserver.1=a:1:2\nserver.2=b:1:2", "server.1=a:1:2;1\nserver.2=b:1:2;1"] {
        let error = load_member(None, members).expect_err("much is missing");
        for part in
            ["initLimit isn't set", "10 is usual", "syncLimit isn't set", "5 is usual", "myid: the file is missing"]
        {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert_eq!(error.lines().count(), 3, "{error}");
    }
    // Lines that can't be read hide nothing else.
    let members = "server.1=a:1\nserver.2=b:1:2\nserver.3=c\nserver.2=d:1:2";
    let error = load_member(None, members).expect_err("much is missing");
    let parts = [
        "zoo.cfg:2: server.1=a:1: `a:1` can't be read",
        "zoo.cfg:4: server.3=c: no ports in `c`",
        "initLimit isn't set",
        "syncLimit isn't set",
        "myid: the file is missing",
        "zoo.cfg:3: server.2 is listed twice; ",
    ];
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    // A data directory that is a file has no myid to be written.
    let dir = Dir::new();
    let text = format!("dataDir={}\nclientPort=1\n{THREE}", dir.write("data", "").display());
    let error = load(&dir.write("zoo.cfg", &text), &Overrides::default()).expect_err("a file").to_string();
    assert!(error.contains("a file, not a directory") && error.lines().count() == 1, "{error}");
    // Nothing is said to be missing where nobody can look.
    let text = format!("dataDir=/{}\nclientPort=1\n{THREE}", "n".repeat(300));
    let error = load(&dir.write("zoo.cfg", &text), &Overrides::default()).expect_err("a long name").to_string();
    assert!(error.contains("name too long") && !error.contains("missing"), "{error}");
    let error = load(Path::new(&"n".repeat(300)), &Overrides::default()).expect_err("a long name").to_string();
    assert!(error.contains("name too long") && !error.contains("farrier init"), "{error}");
    for empty in ["", "\n", " "] {
        let error = load_member(Some(empty), &format!("clientPort=1\n{THREE}")).expect_err("no number");
        assert!(error.contains("myid: the file is empty; "), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn one_listed_server_runs_standalone() {
    let loaded = load_member(Some("1"), "server.1=localhost:2888:3888;127.0.0.1:2185").expect("valid");
    assert_eq!(loaded.config.ensemble, None);
    assert_eq!(loaded.config.runnable(), Ok(()));
    assert_eq!(loaded.config.client.port, 2185);
    assert_eq!(loaded.config.client.address, Some(IpAddr::from(Ipv4Addr::LOCALHOST)));
    assert!(loaded.warnings.iter().any(|w| w.contains("only one server is listed")));

    let text = "clientPort=1\nstandaloneEnabled=false\ninitLimit=1\nsyncLimit=1\nserver.1=a:1:2";
    let loaded = load_member(Some("1"), text).expect("valid");
    assert_eq!(loaded.config.ensemble.map(|e| e.voters()), Some(1), "an ensemble of one that can grow");
}

#[test]
fn the_list_says_who_votes_and_what_is_set_counts() {
    let text = format!(
        "clientPort=2181\n{THREE}peerType=observer\ncnxTimeout=70\nquorumCnxnTimeoutMs=80\nsnapshotSizeFactor=-1\n\
         farrier.peers=3.9\nmultiAddress.enabled=true\nquorumListenOnAllIPs=true\nobserverMasterPort=2191\n\
         leaderServes=no\nobserver.syncEnabled=false\nfastleader.minNotificationInterval=100\n"
    );
    let loaded = load_member(Some("1"), &text).expect("valid");
    let tuning = &loaded.config.ensemble.as_ref().expect("several voters").tuning;
    assert_eq!(
        (tuning.connect_timeout, tuning.header_timeout),
        (Duration::from_millis(70), Some(Duration::from_millis(80)))
    );
    assert!(tuning.peers_apply_create2 && tuning.multi_address && tuning.listen_everywhere);
    assert!(tuning.snapshot_size_factor < 0.0 && !tuning.leader_serves);
    for part in [
        "peerType=observer: the member list says participant",
        "not running in this version: the observer master",
        "observer.syncEnabled=false: no effect",
        "votes are repeated after 20 ms at first",
    ] {
        assert!(loaded.warnings.iter().any(|w| w.contains(part)), "{part}: {:?}", loaded.warnings);
    }
}

/// A member reads more than a server alone does, and knows where clients are from its line in the list.
#[test]
fn the_table_has_what_a_member_reads() {
    let listed = THREE.replace(":3888", ":3888;2185").replace(";2185:observer", ":observer;2185");
    let loaded = load_member(Some("1"), &listed).expect("valid");
    let table = render(&loaded.effective);
    let line = |setting: &str| table.lines().find(|line| line.starts_with(setting)).unwrap_or_default().to_owned();
    assert!(line("clientPort=2185 ").contains("as the list of members says"), "{table}");
    for unset in ["commitLogCount=500 ", "cnxTimeout=5000 ", "leaderServes=yes ", "leader.maxConcurrentSnapSyncs=10 "] {
        assert!(line(unset).contains("default"), "{unset}: {table}");
    }
    assert!(line("initLimit=10 ").contains("zoo.cfg") && !table.contains("concerns"), "{table}");
    // What nothing reads is not told as done.
    let loaded = accepted("messageTracker.enabled=true\nfollower.nodelay=false");
    let found = warnings(&loaded);
    assert!(found.contains("not running in this version: the message tracker; without effect: "), "{found}");
    assert!(!found.contains("applied"), "{found}");
    let table = render(&accepted("cnxTimeout=70").effective);
    assert!(table.contains("concerns ensembles") && !table.contains("commitLogCount"), "{table}");
}

/// What only a lone server does is not told as done in an ensemble, and the table says so.
#[test]
fn read_only_mode_is_told_as_what_it_is() {
    let alone = accepted("readonlymode.enabled=true");
    assert!(warnings(&alone).contains("readonlymode.enabled=true is applied, although"), "{}", warnings(&alone));
    assert!(!render(&alone.effective).contains("not running"), "{}", render(&alone.effective));

    let of = |value| {
        let text = format!("clientPort=2181\n{THREE}readonlymode.enabled={value}\n");
        let loaded = load_member(Some("1"), &text).expect("valid");
        (loaded.warnings.join("\n"), render(&loaded.effective))
    };
    let (warned, table) = of("true");
    assert!(!warned.contains("applied"), "{warned}");
    assert!(warned.contains("not running in an ensemble in this version: read-only mode, so nothing"), "{warned}");
    assert!(warned.contains("without effect: readonlymode.enabled ("), "{warned}");
    let line = table.lines().find(|l| l.starts_with("readonlymode.enabled=true")).expect("it is set");
    assert!(
        line.ends_with("; not running in an ensemble: read-only mode, so nothing is served without a quorum)"),
        "{line}"
    );
    let (warned, table) = of("false");
    assert!(!warned.contains("read-only") && !table.contains("read-only"), "{warned}{table}");
}

#[test]
fn the_dynamic_file_is_read() {
    let dir = Dir::new();
    dir.write("myid", "2");
    let dynamic = dir.write("zoo.cfg.dynamic.100000000", "server.1=a:1:2;2181\nserver.2=127.0.0.1:1:2;2182\n");
    let text = format!(
        "dataDir={}\ninitLimit=1\nsyncLimit=1\ndynamicConfigFile={}\n",
        dir.0.path().display(),
        dynamic.display()
    );
    let loaded = load(&dir.write("zoo.cfg", &text), &Overrides::default()).expect("valid");
    let ensemble = loaded.config.ensemble.expect("two voters");
    assert_eq!((ensemble.version, ensemble.members.len()), (0x1_0000_0000, 2));
    assert_eq!((loaded.config.client.address, loaded.config.client.port), (None, 2182));

    let both = format!("{text}server.3=c:1:2\n");
    let error = load(&dir.write("zoo.cfg", &both), &Overrides::default()).expect_err("both").to_string();
    assert!(error.contains("keep one of the two"), "{error}");
    dir.write("zoo.cfg.dynamic.100000000", "server.1=a:1:2\ntickTime=5\n");
    let error = load(&dir.write("zoo.cfg", &text), &Overrides::default()).expect_err("foreign key").to_string();
    assert!(error.contains("dynamic.100000000:2: tickTime=5: expected server.N"), "{error}");
}

#[test]
fn random_refusals_are_off_at_minus_one_only() {
    let freeze = |text: &str| accepted(text).config.connection_throttle.freeze_time;
    assert_eq!(freeze(""), None);
    assert_eq!(freeze("connection_throttle_freeze_time=-1"), None);
    assert_eq!(freeze("connection_throttle_freeze_time=0"), Some(Duration::ZERO));
    assert_eq!(freeze("connection_throttle_freeze_time=6"), Some(Duration::from_millis(6)));
}

#[test]
fn a_super_digest_may_have_any_user_but_needs_one() {
    let warned = |value: &str| warnings(&accepted(&format!("DigestAuthenticationProvider.superDigest={value}")));
    assert_eq!(warned("super:xQJmxLMiHGwaqBvst5y6rkB6HQs="), "");
    assert_eq!(warned("admin:xQJmxLMiHGwaqBvst5y6rkB6HQs="), "");
    assert!(warned("xQJmxLMiHGwaqBvst5y6rkB6HQs=").contains("no identity can match it"));
}

/// Apache's log does not roll at it; whoever takes a small one over can see what it does.
#[test]
fn a_key_that_means_more_than_in_apache_says_so() {
    let loaded = accepted("preAllocSize=64");
    assert_eq!((loaded.config.storage.preallocate, warnings(&loaded)), (64 << 10, String::new()));
    let table = render(&loaded.effective);
    assert!(table.contains("the log rolls at this size too"), "{table}");
}
