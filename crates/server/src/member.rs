//! A member of an ensemble: from the list of members to what the parts are told.

use crate::activation::Activations;
use crate::config::{ConfigError, EnsembleConfig, Member, ServerConfig};
use crate::mapping::{millis, tree};
use crate::peers::address::Route;
use crate::peers::names::Names;
use crate::peers::{PeerSettings, addresses};
use farrier_proto::ServerId;
use farrier_proto::membership::{HostPort, MemberList};
use farrier_zab::{Config, Ensemble, EnsembleError};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Bytes of committed transactions that are kept in memory for learners.
const WINDOW_BYTES: usize = 32 << 20;

/// How long an election waits for a better vote, as in Apache.
const FINALIZE_WAIT_MS: u64 = 200;

/// A server of an ensemble as its configuration describes it.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    pub(crate) me: ServerId,
    pub(crate) config: EnsembleConfig,
    pub(crate) ensemble: Ensemble,
}

impl Membership {
    /// `None` for a standalone server.
    pub(crate) fn of(config: &ServerConfig) -> Result<Option<Self>, ConfigError> {
        config.runnable()?;
        let Some(listed) = &config.ensemble else { return Ok(None) };
        let me = listed.my_id.expect("a runnable configuration names this server");
        let ensemble = ensemble(listed).map_err(|error| {
            let place = config.config_file.as_ref().map_or_else(|| "members".to_owned(), |p| p.display().to_string());
            ConfigError::members(place, error.to_string())
        })?;
        Ok(Some(Self { me: ServerId(me), config: listed.clone(), ensemble }))
    }

    /// The ensemble with the newest of the configurations that this server's disk says may come into force. One that can't
    /// be read was never acknowledged.
    pub(crate) fn with_pending(&self, texts: &[Vec<u8>]) -> Ensemble {
        let lists = texts.iter().filter_map(|text| MemberList::parse(text).ok());
        let newest = lists.filter_map(|list| Ensemble::of(&list).ok()).max_by_key(Ensemble::version);
        self.ensemble.clone().with_pending(newest)
    }

    /// This server's own line.
    pub(crate) fn own(&self) -> &Member {
        self.config.members.get(&self.me.0).expect("a runnable configuration lists this server")
    }

    pub(crate) fn zab(&self, config: &ServerConfig, seed: u64) -> Config {
        let t = &self.config.tuning;
        Config {
            tick_time: u64::from(config.tick_time_ms.unsigned_abs()),
            init_limit: u64::from(self.config.init_limit),
            sync_limit: u64::from(self.config.sync_limit),
            connect_limit: u64::from(t.connect_limit),
            finalize_wait: FINALIZE_WAIT_MS,
            notification_interval_max: millis(t.notification_interval_max).max(1),
            window_txns: t.commit_log_count as usize,
            window_bytes: WINDOW_BYTES,
            log_diff_permille: log_diff_permille(t.snapshot_size_factor),
            force_snapshot_sync: t.force_snapshot_sync,
            snap_syncs_max: t.snap_syncs_max as usize,
            diff_syncs_max: t.diff_syncs_max as usize,
            reconfig: config.reconfig_enabled,
            seed,
            ..Config::new(self.me)
        }
    }

    pub(crate) fn peers(
        &self,
        config: &ServerConfig,
        seed: u64,
        activations: Arc<Activations>,
        client: watch::Sender<Option<HostPort>>,
    ) -> PeerSettings {
        let t = &self.config.tuning;
        let tick = Duration::from_millis(u64::from(config.tick_time_ms.unsigned_abs()));
        PeerSettings {
            me: self.me,
            members: self
                .config
                .members
                .iter()
                .map(|(id, m)| (ServerId(*id), addresses(m)))
                .collect::<BTreeMap<_, _>>()
                .into(),
            pending: RefCell::default(),
            activations,
            client: Arc::new(client),
            route: Route { keep_alive: t.keep_alive, detours: config.detours.clone(), names: Names::new() },
            multi_address: t.multi_address,
            listen_everywhere: t.listen_everywhere,
            bind_retries: t.bind_retries,
            connect_timeout: t.connect_timeout,
            header_timeout: t.header_timeout.unwrap_or_else(|| tick * self.config.sync_limit.max(1)),
            dial_timeout: tick * self.config.sync_limit.max(1),
            first_packet_timeout: tick * self.config.init_limit.max(1),
            field_max: config.limits.jute_max_buffer + config.limits.jute_extra_size,
            tree: tree(config),
            hash_seed: seed,
        }
    }
}

/// Apache's factor in thousandths.
fn log_diff_permille(factor: f64) -> Option<u64> {
    // Bounded by the table of keys, and what is cut off is below a thousandth.
    if factor < 0.0 { None } else { Some((factor * 1000.0) as u64) }
}

fn ensemble(config: &EnsembleConfig) -> Result<Ensemble, EnsembleError> {
    Ensemble::of(&config.list())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PeerAddress, Role};

    fn member(hosts: &[&str], role: Role, client: Option<(&str, u16)>) -> Member {
        let address = |h: &&str| PeerAddress { host: (*h).into(), quorum_port: 2888, election_port: 3888 };
        Member {
            addresses: hosts.iter().map(address).collect(),
            role,
            client: client.map(|(host, port)| HostPort { host: host.into(), port }),
            secure_client: None,
        }
    }

    fn config() -> EnsembleConfig {
        let members = [
            (10, member(&["::1"], Role::Observer, Some(("0.0.0.0", 2184)))),
            (2, member(&["zk2", "10.0.0.2"], Role::Participant, None)),
            (1, member(&["zk1"], Role::Participant, Some(("::", 2181)))),
        ];
        EnsembleConfig { version: 0x2_0000_0006, ..EnsembleConfig::new(1, members.into()) }
    }

    #[test]
    fn the_text_is_apaches() {
        let mut config = config();
        let servers = "server.1=zk1:2888:3888:participant;[::]:2181\n\
                       server.2=10.0.0.2:2888:3888|zk2:2888:3888:participant\n\
                       server.10=[::1]:2888:3888:observer;0.0.0.0:2184\n";
        assert_eq!(config.list().text(), format!("{servers}version=200000006"));
        config.groups = [(1, vec![1, 2])].into();
        config.weights = [(2, 3)].into();
        assert_eq!(config.list().text(), format!("{servers}group.1=1:2\nweight.1=1\nweight.2=3\nversion=200000006"));
        config.members.get_mut(&2).expect("listed").secure_client = Some(HostPort { host: "a".into(), port: 5 });
        assert!(config.list().text().contains("zk2:2888:3888:participant;;a:5\n"));
    }

    #[test]
    fn what_the_disk_says_may_come_into_force_counts_if_it_is_newer() {
        let config = config();
        let membership = Membership { me: ServerId(1), ensemble: ensemble(&config).expect("voters"), config };
        let pending_of = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
            membership.with_pending(&texts).pending().map(Ensemble::version)
        };
        let pending = |text: Option<&str>| pending_of(text.as_slice());
        assert_eq!(pending(None), None);
        let both = ["server.1=zk1:2888:3888\nversion=200000008", "server.1=zk1:2888:3888\nversion=200000007"];
        assert_eq!(pending_of(&both), Some(0x2_0000_0008), "the newest");
        assert_eq!(pending(Some("server.1=zk1:2888:3888\nversion=200000007")), Some(0x2_0000_0007));
        assert_eq!(pending(Some("server.1=zk1:2888:3888\nversion=200000006")), None, "it is in force");
        assert_eq!(pending(Some("version=200000007")), None, "nobody votes");
    }

    #[test]
    fn who_votes_and_what_a_quorum_is() {
        let mut config = config();
        let ensemble = ensemble(&config).expect("there are voters");
        assert!(ensemble.is_voter(ServerId(1)) && ensemble.is_observer(ServerId(10)));
        assert!(!ensemble.is_quorum(&[ServerId(1)].into()));
        config.groups = [(1, vec![1, 2, 10])].into();
        config.weights = [(1, 5)].into();
        let weighted = super::ensemble(&config).expect("an observer in a group counts for nothing");
        assert!(weighted.is_quorum(&[ServerId(1)].into()));
        config.weights = [(1, 0), (2, 0)].into();
        let none = super::ensemble(&config).expect_err("no weight at all");
        assert!(none.to_string().contains("no group has any weight"));
    }

    #[test]
    fn factors() {
        assert_eq!(log_diff_permille(0.33), Some(330));
        assert_eq!(log_diff_permille(0.0), Some(0));
        assert_eq!(log_diff_permille(-1.0), None);
    }
}
