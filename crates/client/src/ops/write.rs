//! delete, setData, setACL.

use super::create::raw;
use super::{Base, request, simple};
use crate::Client;
use crate::call::{Again, Call, Said, Target, Wrong};
use crate::machine::Response;
use crate::watch::Watch;
use farrier_proto::client::{PathVersion, SetAclRequest, SetDataRequest};
use farrier_proto::{Acl, Field as _, OpCode, Stat};

/// Stands for any version.
pub(super) const ANY: i32 = -1;

/// Deletes a znode. See [`Client::delete`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a request is sent by awaiting it or by `send`"]
pub struct Delete<'a> {
    base: Base<'a>,
    version: i32,
}

impl<'a> Delete<'a> {
    pub(crate) const fn new(client: &'a Client, path: &'a str) -> Self {
        Self { base: Base::new(client, path), version: ANY }
    }

    /// Only if its data has this version ([`Stat::version`]).
    pub const fn version(mut self, version: i32) -> Self {
        self.version = version;
        self
    }

    /// Sends it.
    pub fn send(self) -> Call<()> {
        let version = self.version;
        let body = move |out: &mut Vec<u8>, path: &str| PathVersion { path: Some(path.into()), version }.write(out);
        self.base.submit("delete", OpCode::Delete, Again::Never, body, simple)
    }
}
request!(Delete => ());

/// Sets data. See [`Client::set`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a request is sent by awaiting it or by `send`"]
pub struct Set<'a> {
    base: Base<'a>,
    data: Option<&'a [u8]>,
    version: i32,
}

impl<'a> Set<'a> {
    pub(crate) const fn new(client: &'a Client, path: &'a str, data: &'a [u8]) -> Self {
        Self { base: Base::new(client, path), data: Some(data), version: ANY }
    }

    /// Only if the data has this version ([`Stat::version`]).
    pub const fn version(mut self, version: i32) -> Self {
        self.version = version;
        self
    }

    /// Null instead of data, which servers tell from empty; see [`crate::Value::is_null`].
    pub const fn null(mut self) -> Self {
        self.data = None;
        self
    }

    /// Sends it.
    pub fn send(self) -> Call<Stat> {
        let (data, version) = (self.data, self.version);
        let body = |out: &mut Vec<u8>, path: &str| {
            SetDataRequest { path: Some(path.into()), data: data.map(Into::into), version }.write(out);
        };
        self.base.submit("set", OpCode::SetData, Again::Never, body, stat)
    }
}
request!(Set => Stat);

/// Sets an access control list. See [`Client::set_acl`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a request is sent by awaiting it or by `send`"]
pub struct SetAcl<'a> {
    base: Base<'a>,
    acl: &'a [Acl<'a>],
    version: i32,
}

impl<'a> SetAcl<'a> {
    pub(crate) const fn new(client: &'a Client, path: &'a str, acl: &'a [Acl<'a>]) -> Self {
        Self { base: Base::new(client, path), acl, version: ANY }
    }

    /// Only if the list has this version ([`Stat::aversion`]).
    pub const fn version(mut self, version: i32) -> Self {
        self.version = version;
        self
    }

    /// Sends it.
    pub fn send(self) -> Call<Stat> {
        let (acl, version) = (self.acl, self.version);
        let body = |out: &mut Vec<u8>, path: &str| {
            let acl = Some(acl.iter().map(raw).collect());
            SetAclRequest { path: Some(path.into()), acl, version }.write(out);
        };
        self.base.submit("set the ACL of", OpCode::SetAcl, Again::Never, body, stat)
    }
}
request!(SetAcl => Stat);

fn stat(said: Said, target: &Target, _: Option<Watch>) -> Result<Stat, Wrong> {
    match said {
        Ok(Response::Stat(stat)) => Ok(stat),
        Ok(_) => Err(Wrong::Kind),
        Err(refusal) => Err(target.refused(refusal)),
    }
}
