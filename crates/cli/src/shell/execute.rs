//! What the commands do in a session. They print as zkCli does.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use farrier_client::{Client, Error, NewZnode, Stat, Value, WatcherType};
use farrier_proto::membership::MemberList;
use farrier_proto::{Acl, Zxid};
use farrier_tree::quota::Limits;

use super::command::{Command, Config, Create, Get, Ls, Mode, Reconfig, RemoveWatches, SetAcl};
use super::quota;
use super::watches::Watches;
use crate::config::InSession;
use crate::delete::Subtree;
use crate::input::DataOptions;
use crate::output::{Failure, Out};
use crate::session::SessionOptions;
use crate::values::{hex, permissions, plain, time};
use crate::walk::Walk;

/// Bytes in a line of `get -x`.
const HEX_LINE: usize = 16;

/// A session, and what a command may need besides.
pub(super) struct Execution<'a> {
    pub(super) client: &'a Client,
    pub(super) out: &'a mut Out,
    pub(super) watches: &'a mut Watches,
    pub(super) session: &'a SessionOptions,
    /// Whether there is somebody to ask.
    pub(super) asks: bool,
}

impl Execution<'_> {
    /// Runs a command that needs a session.
    pub(super) async fn run(&mut self, command: Command) -> anyhow::Result<()> {
        let client = self.client;
        match command {
            Command::Ls(ls) => self.ls(&ls).await,
            Command::Get(get) => self.get(&get).await,
            Command::Set(set) => {
                let data = if set.base64 {
                    STANDARD.decode(&set.data).map_err(|e| Failure::usage(format!("the data is no base64: {e}")))?
                } else {
                    set.data.into_bytes()
                };
                let mut request = client.set(&set.path, &data);
                if let Some(version) = some(set.version) {
                    request = request.version(version);
                }
                let stat = request.await?;
                self.stat_if(set.stat, &stat)
            }
            Command::Create(create) => self.create(create).await,
            Command::Delete(delete) => {
                let mut request = client.delete(&delete.path);
                if let Some(version) = some(delete.version) {
                    request = request.version(version);
                }
                Ok(request.await?)
            }
            Command::Deleteall(delete) => {
                let subtree = Subtree::find(client, &delete.path, self.session).await?;
                // Whoever writes this into a file means it, as with zkCli.
                if self.asks && !delete.yes && subtree.ask().await? == Some(false) {
                    return Err(Failure::refused("nothing was deleted"));
                }
                subtree.delete(client).await.map(drop)
            }
            Command::Stat(stat) => {
                let found = if stat.watch {
                    let (found, watch) = client.exists(&stat.path).watch().await?;
                    self.watches.add(&stat.path, WatcherType::Data, watch);
                    found
                } else {
                    client.exists(&stat.path).await?
                };
                let server = self.session.server();
                let none = || Failure::refused(format!("{}: there is no such znode, at {server}", stat.path));
                self.stat(&found.ok_or_else(none)?)
            }
            Command::GetAcl(get) => {
                let (list, stat) = client.get_acl(&get.path).await?;
                for Acl { perms, scheme, id } in &list {
                    // As zkCli shows an identity: `'scheme,'id`.
                    let (scheme, id) = (plain(scheme), plain(id));
                    self.out.line(format_args!("'{scheme},'{id}\n: {}", permissions(*perms)))?;
                }
                self.stat_if(get.stat, &stat)
            }
            Command::SetAcl(set) => self.set_acl(&set).await,
            Command::Addauth(auth) => Ok(client.add_auth(&auth.scheme, auth.auth).await?),
            Command::AddWatch(watch) => {
                let (request, kind) = match watch.mode {
                    Mode::Persistent => (client.watch(&watch.path), WatcherType::Persistent),
                    Mode::PersistentRecursive => {
                        (client.watch(&watch.path).recursive(), WatcherType::PersistentRecursive)
                    }
                };
                let left = request.await?;
                self.watches.add(&watch.path, kind, left);
                Ok(())
            }
            Command::Removewatches(remove) => self.remove_watches(&remove).await,
            Command::Sync(place) => {
                client.sync(&place.path).await?;
                self.out.line("Sync is OK")
            }
            Command::GetAllChildrenNumber(place) => {
                let number = client.descendants(&place.path).await?;
                self.out.line(number)
            }
            Command::GetEphemerals(place) => {
                let paths = client.ephemerals(&place.path).await?;
                self.list(paths)
            }
            Command::Listquota(place) => quota::list(client, self.out, &place.path).await,
            Command::Setquota(set) => {
                let limits = Limits {
                    count: set.count,
                    bytes: set.bytes,
                    count_hard: set.count_hard,
                    byte_hard: set.bytes_hard,
                };
                quota::set(client, self.out, &set.path, limits).await
            }
            Command::Delquota(delete) => {
                let gone = |flag: bool| flag.then_some(quota::NO_LIMIT);
                let limits = Limits {
                    count: gone(delete.count),
                    bytes: gone(delete.bytes),
                    count_hard: gone(delete.count_hard),
                    byte_hard: gone(delete.bytes_hard),
                };
                quota::delete(client, &delete.path, limits).await
            }
            Command::Config(config) => self.config(&config).await,
            Command::Reconfig(reconfig) => self.reconfig(&reconfig).await,
            Command::Whoami => {
                self.out.line("Auth scheme: User")?;
                for identity in client.who_am_i().await? {
                    self.out.line(format_args!("{}: {}", plain(&identity.scheme), plain(&identity.user)))?;
                }
                Ok(())
            }
            Command::Printwatches(_)
            | Command::History
            | Command::Redo(_)
            | Command::Connect(_)
            | Command::Close
            | Command::Version
            | Command::Quit => unreachable!("the shell does these itself"),
        }
    }

    async fn ls(&mut self, ls: &Ls) -> anyhow::Result<()> {
        if ls.recursive {
            let mut walk = Walk::new(self.client, &ls.path);
            while let Some(found) = walk.next().await? {
                if ls.watch {
                    match self.client.children(&found.path).watch().await {
                        Ok((_, watch)) => self.watches.add(&found.path, WatcherType::Children, watch),
                        // Deleted since it was listed.
                        Err(error) if error.is_no_node() => continue,
                        Err(error) => return Err(error.into()),
                    }
                }
                self.out.line(plain(&found.path))?;
            }
            return Ok(());
        }
        let children = if ls.watch {
            let (children, watch) = self.client.children(&ls.path).watch().await?;
            self.watches.add(&ls.path, WatcherType::Children, watch);
            children
        } else {
            self.client.children(&ls.path).await?
        };
        self.list(children.names)?;
        self.stat_if(ls.stat, &children.stat)
    }

    async fn get(&mut self, get: &Get) -> anyhow::Result<()> {
        let value = self.watched(get.watch, &get.path, self.client.get(&get.path)).await?;
        if get.base64 {
            self.out.line(STANDARD.encode(&value.data))?;
        } else if get.hex {
            for (number, line) in value.data.chunks(HEX_LINE).enumerate() {
                let bytes: Vec<String> = line.iter().map(|b| format!("{b:02x}")).collect();
                self.out.line(format_args!("{:08x}  {}", number * HEX_LINE, bytes.join(" ")))?;
            }
        } else {
            self.data(value.data_or_null().unwrap_or(b"null"))?;
        }
        self.stat_if(get.stat, &value.stat)
    }

    /// Data and a line break. On a terminal nothing of it moves the cursor.
    fn data(&mut self, data: &[u8]) -> anyhow::Result<()> {
        if self.asks {
            let text = String::from_utf8_lossy(data);
            let lines: Vec<String> = text.split('\n').map(plain).collect();
            return self.out.line(lines.join("\n"));
        }
        self.out.bytes(data)?;
        self.out.bytes(b"\n")
    }

    async fn create(&mut self, create: Create) -> anyhow::Result<()> {
        let data = create.data.as_deref().unwrap_or_default();
        let acl = create.acl.map_or_else(|| vec![Acl::world(farrier_client::perms::ALL)], |acl| acl.0);
        let mut znode = NewZnode::new(&create.path, data).acl(&acl);
        if create.data.is_none() {
            znode = znode.null();
        }
        if create.sequential {
            znode = znode.sequential();
        }
        if create.ephemeral {
            znode = znode.ephemeral();
        }
        if create.container {
            znode = znode.container();
        }
        if let Some(ttl) = create.ttl {
            znode = znode.ttl(ttl);
        }
        let created = self.client.create_new(znode).await?;
        self.out.line(format_args!("Created {}", plain(&created.path)))
    }

    async fn set_acl(&mut self, set: &SetAcl) -> anyhow::Result<()> {
        let one = async |path: &str| {
            let mut request = self.client.set_acl(path, &set.acl.0);
            if let Some(version) = some(set.version) {
                request = request.version(version);
            }
            request.await
        };
        if !set.recursive {
            let stat = one(&set.path).await?;
            return self.stat_if(set.stat, &stat);
        }
        // All are found first: the new ACL may forbid to look.
        let mut paths = Vec::new();
        let mut walk = Walk::new(self.client, &set.path);
        while let Some(found) = walk.next().await? {
            paths.push(found.path);
        }
        for (done, path) in paths.iter().enumerate() {
            match one(path).await {
                Ok(_) => {}
                Err(error) if error.is_no_node() && done > 0 => {}
                Err(error) => return Err(anyhow::Error::new(error).context(format!("{done} ACLs were set before"))),
            }
        }
        Ok(())
    }

    async fn remove_watches(&mut self, remove: &RemoveWatches) -> anyhow::Result<()> {
        let kind = match remove {
            RemoveWatches { children: true, .. } => WatcherType::Children,
            RemoveWatches { data: true, .. } => WatcherType::Data,
            RemoveWatches { persistent: true, .. } => WatcherType::Persistent,
            RemoveWatches { recursive: true, .. } => WatcherType::PersistentRecursive,
            _ => WatcherType::Any,
        };
        if remove.local {
            // Dropped ones are taken from the server too, as soon as there is one.
            return match self.watches.remove(&remove.path, kind) {
                0 => Err(Failure::refused(format!("{}: this shell has left no such watch", remove.path))),
                _ => Ok(()),
            };
        }
        self.client.remove_watches(&remove.path, kind).await?;
        self.watches.remove(&remove.path, kind);
        Ok(())
    }

    async fn config(&mut self, config: &Config) -> anyhow::Result<()> {
        match &config.recipe {
            None => {}
            // As `get` prints data.
            Some(InSession::Get(get)) if get.is_bare() => {
                let value = get.value(self.client).await?;
                return self.data(&value.data);
            }
            Some(recipe) => return recipe.execute(self.client, self.out).await,
        }
        let value = self.watched(config.watch, "/zookeeper/config", self.client.config()).await?;
        if config.clients {
            let list = MemberList::parse(&value.data)
                .map_err(|why| anyhow::anyhow!("/zookeeper/config holds what is no membership: {why}"))?;
            let clients: Vec<String> = list
                .members
                .values()
                .filter_map(|m| m.client.as_ref())
                .map(|c| format!("{}:{}", c.host, c.port))
                .collect();
            self.out.line(format_args!("{:x} {}", list.version, clients.join(",")))?;
        } else {
            self.data(&value.data)?;
        }
        self.stat_if(config.stat, &value.stat)
    }

    async fn reconfig(&mut self, reconfig: &Reconfig) -> anyhow::Result<()> {
        let file = reconfig.file.as_ref().map(|file| DataOptions::of_file(file).read()).transpose()?.flatten();
        // In a file each has a line.
        let servers = |data: Vec<u8>| {
            let text = String::from_utf8_lossy(&data);
            let lines = text.lines().map(str::trim).filter(|line| line.starts_with("server."));
            lines.collect::<Vec<_>>().join(",")
        };
        let lines = file.map(servers);
        let mut request = self.client.reconfig();
        if let Some(members) = reconfig.members.as_ref().or(lines.as_ref()) {
            request = request.members(members);
        }
        if let Some(joining) = &reconfig.add {
            request = request.joining(joining);
        }
        if let Some(leaving) = &reconfig.remove {
            request = request.leaving(leaving);
        }
        if let Some(version) = &reconfig.version {
            let wrong = || Failure::usage(format!("-v {version}: expected the hexadecimal number behind `version=`"));
            let version = i64::from_str_radix(version, 16).ok().filter(|v| *v >= 0).ok_or_else(wrong)?;
            request = request.version(Zxid::from_wire(version));
        }
        let value = request.await?;
        self.out.line("Committed new configuration:")?;
        self.data(&value.data)?;
        self.stat_if(reconfig.stat, &value.stat)
    }

    /// Sends a read, with a watch for data if one is wanted.
    async fn watched(&mut self, watch: bool, path: &str, get: farrier_client::Get<'_>) -> Result<Value, Error> {
        if !watch {
            return get.await;
        }
        let (value, left) = get.watch().await?;
        self.watches.add(path, WatcherType::Data, left);
        Ok(value)
    }

    /// Names or paths in brackets, sorted.
    fn list(&mut self, mut all: Vec<String>) -> anyhow::Result<()> {
        all.sort_unstable();
        let shown: Vec<String> = all.iter().map(|one| plain(one)).collect();
        self.out.line(format_args!("[{}]", shown.join(", ")))
    }

    fn stat_if(&mut self, wanted: bool, stat: &Stat) -> anyhow::Result<()> {
        if wanted { self.stat(stat) } else { Ok(()) }
    }

    fn stat(&mut self, stat: &Stat) -> anyhow::Result<()> {
        self.out.line(stat_lines(stat))
    }
}

/// Any version is none.
fn some(version: Option<i32>) -> Option<i32> {
    version.filter(|version| *version >= 0)
}

/// A stat under zkCli's names.
fn stat_lines(stat: &Stat) -> String {
    [
        ("cZxid", stat.czxid.to_string()),
        ("ctime", time(stat.ctime)),
        ("mZxid", stat.mzxid.to_string()),
        ("mtime", time(stat.mtime)),
        ("pZxid", stat.pzxid.to_string()),
        ("cversion", stat.cversion.to_string()),
        ("dataVersion", stat.version.to_string()),
        ("aclVersion", stat.aversion.to_string()),
        ("ephemeralOwner", hex(stat.ephemeral_owner)),
        ("dataLength", stat.data_length.to_string()),
        ("numChildren", stat.num_children.to_string()),
    ]
    .map(|(name, value)| format!("{name} = {value}"))
    .join("\n")
}
