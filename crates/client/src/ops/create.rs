//! create, create2, createContainer, createTTL.

use super::{Base, request};
use crate::Client;
use crate::Owner;
use crate::call::{Again, Call, Said, Target, Watching, Wrong};
use crate::machine::Response;
use crate::watch::Watch;
use farrier_proto::acl::perms;
use farrier_proto::client::{CreateMode, CreateRequest, CreateTtlRequest};
use farrier_proto::{Acl, Field as _, OpCode, RawAcl, Stat, path};
use std::borrow::Cow;
use std::time::Duration;

/// Everybody may do everything.
const OPEN: &[Acl<'static>] = &[Acl::world(perms::ALL)];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    Persistent,
    Ephemeral,
    Container,
    Ttl(Duration),
}

/// A znode to be created.
#[derive(Clone, Copy, Debug)]
#[must_use = "a description creates nothing by itself"]
pub struct NewZnode<'a> {
    pub(super) path: &'a str,
    data: Option<&'a [u8]>,
    acl: &'a [Acl<'a>],
    life: Life,
    sequential: bool,
    /// Told to live in two ways.
    contradiction: bool,
}

impl<'a> NewZnode<'a> {
    /// A persistent znode that is open to everybody.
    pub fn new(path: &'a str, data: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        let data = Some(data.as_ref());
        Self { path, data, acl: OPEN, life: Life::Persistent, sequential: false, contradiction: false }
    }

    fn living(mut self, life: Life) -> Self {
        self.contradiction |= self.life != Life::Persistent && self.life != life;
        self.life = life;
        self
    }

    /// Deleted when the session ends. It can have no children.
    pub fn ephemeral(self) -> Self {
        self.living(Life::Ephemeral)
    }

    /// Deleted by the servers, some time after its last child.
    pub fn container(self) -> Self {
        self.living(Life::Container)
    }

    /// Deleted by the servers when it has no children and its data was not set for `ttl`: from a millisecond to 34
    /// years. Needs `extendedTypesEnabled=true` on the servers.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.living(Life::Ttl(ttl))
    }

    /// Appends ten digits to the name: how many children the parent has had. The answer has the full path. One that ends
    /// with a slash, as `/` does, leaves the name to the digits.
    pub const fn sequential(mut self) -> Self {
        self.sequential = true;
        self
    }

    /// With null instead of data, which servers tell from empty; see [`crate::Value::is_null`].
    pub const fn null(mut self) -> Self {
        self.data = None;
        self
    }

    /// Who may do what.
    pub const fn acl(mut self, acl: &'a [Acl<'a>]) -> Self {
        self.acl = acl;
        self
    }

    /// Its path as the server names it, without the digits of a sequential one: those make a child of the root of `client`
    /// if there is no other name, and not a sibling.
    pub(super) fn full_path(&self, client: &Client) -> String {
        if self.sequential && self.path == "/" { format!("{}/", client.chroot) } else { client.full_path(self.path) }
    }

    /// How it is asked for; or what is wrong with it.
    pub(super) fn kind(&self) -> Result<Kind, &'static str> {
        if self.contradiction {
            return Err("it is told to live in two ways: a znode is ephemeral, a container, or has a TTL");
        }
        let checked =
            if self.sequential { path::validate(&[self.path, "0"].concat()) } else { path::validate(self.path) };
        checked?;
        let (op, mode, ttl) = match (self.life, self.sequential) {
            (Life::Persistent, false) => (OpCode::Create2, CreateMode::Persistent, None),
            (Life::Persistent, true) => (OpCode::Create2, CreateMode::PersistentSequential, None),
            (Life::Ephemeral, false) => (OpCode::Create2, CreateMode::Ephemeral, None),
            (Life::Ephemeral, true) => (OpCode::Create2, CreateMode::EphemeralSequential, None),
            (Life::Container, false) => (OpCode::CreateContainer, CreateMode::Container, None),
            (Life::Container, true) => return Err("a container is never sequential"),
            (Life::Ttl(ttl), sequential) => {
                let millis = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
                if !(Owner::TTL_MIN..=Owner::TTL_MAX).contains(&millis) {
                    return Err("a TTL is from one millisecond to 2^40-1 of them, about 34 years");
                }
                let mode = if sequential { CreateMode::PersistentSequentialTtl } else { CreateMode::PersistentTtl };
                (OpCode::CreateTtl, mode, Some(millis))
            }
        };
        Ok(Kind { op, mode, ttl })
    }

    /// Appends the body of the request for `path`, the full one.
    pub(super) fn write(&self, kind: Kind, path: &str, out: &mut Vec<u8>) {
        let flags = kind.mode.code();
        let path = Some(Cow::Borrowed(path));
        let data = self.data.map(Cow::Borrowed);
        let acl = Some(self.acl.iter().map(raw).collect());
        match kind.ttl {
            None => CreateRequest { path, data, acl, flags }.write(out),
            Some(ttl) => CreateTtlRequest { path, data, acl, flags, ttl }.write(out),
        }
    }
}

/// How a znode is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) op: OpCode,
    mode: CreateMode,
    /// Milliseconds.
    ttl: Option<i64>,
}

pub(super) fn raw<'a>(acl: &'a Acl<'_>) -> RawAcl<'a> {
    RawAcl { perms: acl.perms, scheme: Some((&*acl.scheme).into()), id: Some((&*acl.id).into()) }
}

/// What was created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Created {
    /// Its path: with the digits if it is sequential, without the chroot.
    pub path: String,
    /// Its stat; `czxid` grows from creation to creation in all of the tree.
    pub stat: Stat,
}

/// Creates a znode. See [`Client::create`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a request is sent by awaiting it or by `send`"]
pub struct Create<'a> {
    base: Base<'a>,
    znode: NewZnode<'a>,
}

impl<'a> Create<'a> {
    pub(crate) const fn new(client: &'a Client, znode: NewZnode<'a>) -> Self {
        Self { base: Base::new(client, znode.path), znode }
    }

    /// See [`NewZnode::ephemeral`].
    pub fn ephemeral(mut self) -> Self {
        self.znode = self.znode.ephemeral();
        self
    }

    /// See [`NewZnode::container`].
    pub fn container(mut self) -> Self {
        self.znode = self.znode.container();
        self
    }

    /// See [`NewZnode::ttl`].
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.znode = self.znode.ttl(ttl);
        self
    }

    /// See [`NewZnode::sequential`].
    pub const fn sequential(mut self) -> Self {
        self.znode = self.znode.sequential();
        self
    }

    /// See [`NewZnode::null`].
    pub const fn null(mut self) -> Self {
        self.znode = self.znode.null();
        self
    }

    /// See [`NewZnode::acl`].
    pub const fn acl(mut self, acl: &'a [Acl<'a>]) -> Self {
        self.znode = self.znode.acl(acl);
        self
    }

    /// Sends it.
    pub fn send(self) -> Call<Created> {
        let Base { client, path, timeout, .. } = self.base;
        let kind = match self.znode.kind() {
            Ok(kind) => kind,
            Err(rule) => return self.base.refuse("create", rule),
        };
        // Not by `Base::submit`: the path of a sequential znode may end with a slash.
        let target = Target { path: self.znode.full_path(client), ..client.target("create", path) };
        let body = |out: &mut Vec<u8>, path: &str| self.znode.write(kind, path, out);
        Call::submit(&client.shared, target, (kind.op, timeout), Again::Never, Watching::No, body, created)
    }
}
request!(Create => Created);

fn created(said: Said, target: &Target, _: Option<Watch>) -> Result<Created, Wrong> {
    match said {
        Ok(Response::Created(path, Some(stat))) => Ok(Created { path: target.without_chroot(&path).to_owned(), stat }),
        Ok(_) => Err(Wrong::Kind),
        Err(refusal) => Err(target.refused(refusal)),
    }
}
