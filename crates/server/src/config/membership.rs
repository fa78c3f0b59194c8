//! The members of an ensemble as files tell them: the list in the main or the dynamic file, `myid`, and what
//! must hold among them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ensemble::{self, EnsembleConfig, Role, Tuning};
use super::load::{place_of, read_bounded};
use super::sources::{Origin, Sources};
use super::{ConfigError, Problem, properties};

/// Longest `myid` that is read, in bytes.
const MYID_MAX: usize = 4096;

/// Name of the file in dataDir with this server's number.
const MYID: &str = "myid";

/// Largest number of a server with extended types. It is the top byte of its sessions' ids, and the next one marks TTLs.
const EXTENDED_ID_MAX: i64 = 254;

impl EnsembleConfig {
    /// `myid` must be there and name a member of the list.
    pub(super) fn check_own_id(&self, data_dir: &Path) -> Result<(), ConfigError> {
        let message = match self.my_id {
            None => {
                "the file is missing; in an ensemble it holds this server's number, and nothing else: write it there, \
                     the same as before if the data directory was emptied"
                    .to_owned()
            }
            Some(id) if !self.members.contains_key(&id) => {
                let listed: Vec<_> = self.members.keys().map(i64::to_string).collect();
                format!("it says {id}, and there is no server.{id} line; listed are {}", listed.join(", "))
            }
            Some(_) => return Ok(()),
        };
        Err(ConfigError::one(Problem::at(data_dir.join(MYID).display().to_string(), message)))
    }

    /// Apache's rule: more than one voter, or one that insists.
    pub(super) fn is_distributed(&self) -> bool {
        self.voters() > 1 || (!self.standalone_enabled && !self.members.is_empty())
    }
}

/// The member list of the main file or of the dynamic file that it names; `None` without members.
pub(super) fn membership(sources: &mut Sources, data_dir: &Path) -> Option<EnsembleConfig> {
    let mut lines = member_lines(sources);
    let mut version = 0;
    if let Some(path) = sources.text("dynamicConfigFile").map(PathBuf::from) {
        if !lines.is_empty() {
            sources.refuse("dynamicConfigFile", "members stand in this file and in the main file; keep one of the two");
        }
        version = dynamic_version(&path);
        lines = dynamic_lines(sources, &path);
    }
    let standalone_enabled = sources.flag("standaloneEnabled");
    if lines.is_empty() {
        if !standalone_enabled {
            sources.refuse("standaloneEnabled", "without any server line, only true is possible");
        }
        return None;
    }

    let mut config = EnsembleConfig {
        my_id: read_my_id(sources, data_dir),
        members: BTreeMap::new(),
        groups: BTreeMap::new(),
        weights: BTreeMap::new(),
        version,
        standalone_enabled,
        reconfig_enabled: sources.flag("reconfigEnabled"),
        init_limit: sources.int("initLimit").map_or(0, |_| sources.count("initLimit")),
        sync_limit: sources.int("syncLimit").map_or(0, |_| sources.count("syncLimit")),
        tuning: tuning(sources),
    };
    for line in lines {
        if let Err(why) = line.add_to(&mut config) {
            sources.problems.push(Problem::at(line.origin.to_string(), format!("{}={}: {why}", line.name, line.text)));
        }
    }
    judge_members(sources, &config);
    Some(config)
}

/// One `server.N`, `group.G` or `weight.N`.
struct MemberLine {
    name: String,
    text: String,
    origin: Origin,
}

impl MemberLine {
    fn add_to(&self, config: &mut EnsembleConfig) -> Result<(), String> {
        let Some((kind, number)) = self.name.split_once('.') else {
            return Err("expected server.N, group.G or weight.N".to_owned());
        };
        let id: i64 = number.parse().map_err(|_| format!("`{number}` is no number"))?;
        match kind {
            "server" => {
                config.members.insert(id, ensemble::parse_member(&self.text)?);
            }
            "group" => {
                config.groups.insert(id, ensemble::parse_group(&self.text)?);
            }
            "weight" => {
                let weight = self.text.parse().map_err(|_| "not an integer; allowed: 0 and more".to_owned())?;
                config.weights.insert(id, weight);
            }
            _ => return Err("a dynamic file holds server.N, group.G and weight.N only".to_owned()),
        }
        Ok(())
    }
}

fn member_lines(sources: &Sources) -> Vec<MemberLine> {
    let families = ["server.", "group.", "weight."];
    let found = families.into_iter().flat_map(|family| sources.family(family));
    found.map(|(_, a)| MemberLine { name: a.name.clone(), text: a.text.clone(), origin: a.origin.clone() }).collect()
}

fn dynamic_lines(sources: &mut Sources, path: &Path) -> Vec<MemberLine> {
    let text = match read_bounded(path, properties::FILE_MAX) {
        Ok(text) => text,
        Err(error) => {
            sources.refuse("dynamicConfigFile", error);
            return Vec::new();
        }
    };
    let entries = sources.read_entries(path, &text).unwrap_or_default();
    if entries.is_empty() {
        sources.refuse("dynamicConfigFile", "the file names no member");
    }
    let origin = |line| Origin::File { path: path.to_owned(), line };
    entries.into_iter().map(|e| MemberLine { name: e.key, text: e.value, origin: origin(e.line) }).collect()
}

/// The hexadecimal suffix of the file's name.
fn dynamic_version(path: &Path) -> u64 {
    let suffix = path.extension().and_then(|e| e.to_str());
    suffix.and_then(|s| u64::from_str_radix(s, 16).ok()).unwrap_or(0)
}

fn judge_members(sources: &mut Sources, config: &EnsembleConfig) {
    if !sources.problems.is_empty() {
        return;
    }
    if let Err(why) = ensemble::check_groups(config) {
        sources.problems.push(Problem::at("members".to_owned(), why));
    }
    // Apache takes the weight of a server that is gone for nothing, too.
    for id in config.weights.keys().filter(|id| !config.members.contains_key(id)) {
        sources.warnings.push(format!("weight.{id} is ignored: there is no server.{id} line"));
    }
    let observers = config.members.values().filter(|m| m.role == Role::Observer).count();
    let refusal = match config.voters() {
        0 => Some("no listed server votes; an ensemble needs at least one participant"),
        1 if config.standalone_enabled && observers > 0 => {
            Some("one voter with observers needs standaloneEnabled=false; a standalone server has no observers")
        }
        _ => None,
    };
    if let Some(why) = refusal {
        sources.problems.push(Problem::at("members".to_owned(), why.to_owned()));
    }
    match config.voters() {
        1 if config.standalone_enabled => sources.warnings.push(
            "only one server is listed, and standaloneEnabled is true: its server line is ignored, a standalone server runs"
                .to_owned(),
        ),
        n @ (1 | 2) => {
            sources.warnings.push(format!("{n} voting server(s): no failure will be tolerated; at least 3 are needed"));
        }
        n if n % 2 == 0 && n > 0 => {
            sources.warnings.push(format!("{n} voting servers tolerate no more failures than {}; use an odd number", n - 1));
        }
        _ => {}
    }
}

pub(super) fn check_distributed(
    sources: &mut Sources,
    ensemble: &EnsembleConfig,
    data_dir: &Path,
    file: Option<&Path>,
) {
    // A missing file is told with what else is missing; whether its number is listed shows in a list without mistakes. Where
    // the directory is a file, that is told, and there can be none.
    let missing = sources.text("dataDir").is_some() && matches!(data_dir.join(MYID).try_exists(), Ok(false));
    let judged = missing || sources.problems.is_empty();
    let limits = [
        ("initLimit", "ticks that a server may take to connect to its leader and to get what it lacks; 10 is usual"),
        ("syncLimit", "ticks that a server may be behind its leader; 5 is usual"),
    ];
    for (key, what) in limits {
        if sources.assignment(key).is_none() {
            let message = format!("{key} isn't set; an ensemble requires it: {what}");
            sources.problems.push(Problem::at(place_of(file), message));
        }
    }
    if judged && let Err(error) = ensemble.check_own_id(data_dir) {
        sources.problems.extend(error.problems);
    }
    for (id, member) in &ensemble.members {
        if member.addresses.len() > 1 && !ensemble.tuning.multi_address {
            let message = format!("server.{id} has several addresses, and multiAddress.enabled is false");
            sources.problems.push(Problem::at("members".to_owned(), message));
        }
    }
    if let Some(id) = ensemble.my_id.filter(|id| *id > EXTENDED_ID_MAX)
        && sources.flag("extendedTypesEnabled")
    {
        let why = format!(
            "the number of this server is {id}, and its sessions' could be taken for TTLs; with extended types it may be \
             {EXTENDED_ID_MAX} at most"
        );
        sources.refuse("extendedTypesEnabled", why);
    }
    let own = ensemble.my_id.and_then(|id| ensemble.members.get(&id));
    if let (Some(own), Some(peer_type)) = (own, sources.assignment("peerType")) {
        let listed = match own.role {
            Role::Participant => "participant",
            Role::Observer => "observer",
        };
        if !peer_type.text.eq_ignore_ascii_case(listed) {
            let text = format!(
                "{}: peerType={}: the member list says {listed}, and that counts",
                peer_type.origin, peer_type.text
            );
            sources.warnings.push(text);
        }
    }
    for key in ["observer.syncEnabled", "syncEnabled"] {
        if !sources.flag(key) {
            sources.warnings.push(format!("{key}=false: no effect: an observer always writes its log and snapshots"));
        }
    }
}

fn tuning(sources: &Sources) -> Tuning {
    let given = |name| sources.int(name).filter(|&ms| ms > 0).map(|_| sources.ms(name));
    Tuning {
        connect_limit: sources.count("connectToLearnerMasterLimit"),
        connect_timeout: sources.ms("cnxTimeout").max(Duration::from_millis(1)),
        header_timeout: given("quorumCnxnTimeoutMs"),
        notification_interval_max: sources.ms("fastleader.maxNotificationInterval"),
        bind_retries: sources.count("electionPortBindRetry"),
        keep_alive: sources.flag("tcpKeepAlive"),
        leader_serves: sources.flag("leaderServes"),
        listen_everywhere: sources.flag("quorumListenOnAllIPs"),
        multi_address: sources.flag("multiAddress.enabled"),
        commit_log_count: sources.count("commitLogCount"),
        snapshot_size_factor: sources.real("snapshotSizeFactor"),
        force_snapshot_sync: sources.flag("forceSnapshotSync"),
        snap_syncs_max: sources.count("leader.maxConcurrentSnapSyncs"),
        diff_syncs_max: sources.count("leader.maxConcurrentDiffSyncs"),
        peers_apply_create2: sources.text("farrier.peers").as_deref() == Some("3.9"),
    }
}

/// The number in `dataDir/myid`; blanks around it are forgiven.
fn read_my_id(sources: &mut Sources, data_dir: &Path) -> Option<i64> {
    let path = data_dir.join(MYID);
    // A data directory that is a file was told before.
    if path.metadata().is_err_and(|e| matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)) {
        return None;
    }
    let read = read_bounded(&path, MYID_MAX).and_then(|bytes| {
        let text = String::from_utf8_lossy(&bytes);
        if text.trim().is_empty() {
            return Err("the file is empty; in an ensemble it holds this server's number, the N of its server.N line"
                .to_owned());
        }
        let first = text.lines().next().unwrap_or_default().trim();
        first.parse::<i64>().map_err(|_| format!("serverid `{first}` is not a number"))
    });
    match read {
        Ok(id) => Some(id),
        Err(error) => {
            sources.problems.push(Problem::at(path.display().to_string(), error));
            None
        }
    }
}
