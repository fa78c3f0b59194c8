//! What a case of an ensemble works with: three servers by their roles, and the run of such cases.

use super::{Row, config};
use crate::case::{Case, Profile, Steps, close_sessions};
use crate::ensemble::{Members, Settings};
use crate::raw::{Client, Conn, Connect, Handshake, Sessions};
use crate::server::Target;
use anyhow::{Context as _, Result, bail, ensure};
use std::net::SocketAddr;

/// A server of the ensemble by what it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The follower with the smaller number.
    F1,
    /// The other follower.
    F2,
    /// The leader.
    Ld,
}

/// Three servers, names of the case's own, and the sessions to clean up.
#[derive(Debug)]
pub struct Trio<'m> {
    members: &'m Members,
    /// Indices of F1, F2 and LD.
    roles: [usize; 3],
    base: String,
    sessions: Sessions,
}

impl<'m> Trio<'m> {
    fn new(members: &'m Members, leader: usize, number: u16) -> Result<Self> {
        let followers: Vec<usize> = (0..members.len()).filter(|&index| index != leader).collect();
        let [f1, f2] = followers[..] else { bail!("{} servers instead of three", members.len()) };
        Ok(Self { members, roles: [f1, f2, leader], base: format!("/c{number}"), sessions: Sessions::default() })
    }

    const fn index(&self, role: Role) -> usize {
        match role {
            Role::F1 => self.roles[0],
            Role::F2 => self.roles[1],
            Role::Ld => self.roles[2],
        }
    }

    /// The number of a server in the configuration.
    #[must_use]
    pub const fn id(&self, role: Role) -> usize {
        self.index(role) + 1
    }

    /// Where clients reach it.
    #[must_use]
    pub fn addr(&self, role: Role) -> SocketAddr {
        self.members.addr(self.index(role))
    }

    /// Where clients reach the servers, by their numbers.
    #[must_use]
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.members.addrs()
    }

    /// The path of the case's node, whether or not it exists.
    #[must_use]
    pub fn base(&self) -> String {
        self.base.clone()
    }

    /// A client of this server with a new session.
    pub fn client(&self, role: Role) -> Result<Client> {
        Client::open(self.addr(role), &Connect::default(), &self.sessions)
    }

    /// A client with a new session, authenticated as the super user.
    pub fn superuser(&self, role: Role) -> Result<Client> {
        let mut client = self.client(role)?;
        client.auth("digest", "super:admin")?.ok()?;
        Ok(client)
    }

    /// Moves the client's session to another server; the old connection stays open.
    pub fn moved(&self, client: &Client, to: Role) -> Result<Client> {
        let new = Client::open(self.addr(to), &Connect::again(client.session, &client.password), &self.sessions)?;
        ensure!(new.session == client.session, "another session after the move");
        Ok(new)
    }

    /// The answer to a handshake that opens no session.
    pub fn handshake(&self, role: Role, ask: &Connect) -> Result<Handshake> {
        Conn::open(self.addr(role))?.handshake(ask)
    }

    /// Whether the session lives, asked without moving it: its ephemeral is there, as this client sees
    /// after a sync.
    pub fn sees(&self, client: &mut Client, path: &str) -> Result<bool> {
        client.sync("/")?.ok()?;
        Ok(client.exists(path, false)?.err == 0)
    }

    /// The ensemble's last zxid: the server's own may lag behind.
    pub fn z(&self, client: &mut Client) -> Result<i64> {
        client.sync("/")?.ok()?;
        client.z()
    }
}

/// Runs cases one after the other on an ensemble of the target's.
pub(super) fn run_group(target: &Target, profile: Profile, mut cases: Vec<Case>) -> Result<Vec<Row>> {
    cases.sort_by_key(|c| c.number);
    let config = config(profile);
    // No case is about a leader that is lost, so none should get lost on a busy machine.
    let mut settings =
        Settings { tick_ms: 1000, sync_limit: 60, list_clients: true, flags: config.flags, ..Settings::default() };
    settings.zoo.extend(config.zoo);
    let three = [(target.clone(), false), (target.clone(), false), (target.clone(), false)];
    let mut members = Members::start(&three, settings).with_context(|| format!("profile {profile:?}"))?;
    let mut rows = Vec::new();
    for case in cases {
        let Steps::Three(run) = case.steps else { bail!("case {} needs one server", case.number) };
        let leader =
            members.wait_serving().with_context(|| format!("before case {}\n{}", case.number, members.logs()))?;
        let trio = Trio::new(&members, leader, case.number)?;
        let mut observed = run(&trio).map_err(|e| format!("{e:#}"));
        if let Err(e) = close_sessions(trio.addr(Role::Ld), &trio.sessions, false)
            && observed.is_ok()
        {
            observed = Err(format!("cleaning up: {e:#}"));
        }
        let (accepted, _) = case.accepts(target.is_farrier());
        rows.push(Row { case, accepted, observed });
    }
    Ok(rows)
}
