//! reconfig.

use super::{Base, Value, request};
use crate::Client;
use crate::call::{Again, Call, Said, Target, Wrong};
use crate::machine::Response;
use crate::watch::Watch;
use farrier_proto::client::ReconfigRequest;
use farrier_proto::{Field as _, OpCode, Zxid};
use std::borrow::Cow;

/// Where an ensemble keeps its membership.
pub(super) const CONFIG: &str = "/zookeeper/config";

/// Changes the membership of an ensemble: some servers join and leave, or a whole new list replaces the old one.
/// See [`Client::reconfig`]. Answers with the new membership.
#[derive(Clone, Copy, Debug)]
#[must_use = "a request is sent by awaiting it or by `send`"]
pub struct Reconfig<'a> {
    base: Base<'a>,
    joining: Option<&'a str>,
    leaving: Option<&'a str>,
    members: Option<&'a str>,
    version: i64,
}

impl<'a> Reconfig<'a> {
    pub(crate) const fn new(client: &'a Client) -> Self {
        let base = Base { absolute: true, ..Base::new(client, CONFIG) };
        Self { base, joining: None, leaving: None, members: None, version: -1 }
    }

    /// Servers that join, or come back with other addresses:
    /// `server.4=host:2888:3888:participant;2181`, separated by commas.
    pub const fn joining(mut self, servers: &'a str) -> Self {
        self.joining = Some(servers);
        self
    }

    /// Numbers of servers that leave, separated by commas.
    pub const fn leaving(mut self, servers: &'a str) -> Self {
        self.leaving = Some(servers);
        self
    }

    /// The whole new membership, instead.
    pub const fn members(mut self, servers: &'a str) -> Self {
        self.members = Some(servers);
        self
    }

    /// Only if the membership is the one of this version: the number behind `version=` in its text, which is a
    /// zxid.
    pub const fn version(mut self, version: Zxid) -> Self {
        self.version = version.to_wire();
        self
    }

    /// Sends it.
    pub fn send(self) -> Call<Value> {
        if self.members.is_some() && (self.joining.is_some() || self.leaving.is_some()) {
            return self.base.refuse("reconfigure", "servers join and leave, or a whole list replaces the old one");
        }
        if self.members.is_none() && self.joining.is_none() && self.leaving.is_none() {
            return self.base.refuse("reconfigure", "it says neither who joins or leaves, nor who the members are");
        }
        let body = |out: &mut Vec<u8>, _: &str| {
            ReconfigRequest {
                joining: self.joining.map(Cow::Borrowed),
                leaving: self.leaving.map(Cow::Borrowed),
                members: self.members.map(Cow::Borrowed),
                config_id: self.version,
            }
            .write(out);
        };
        let finish = |said: Said, target: &Target, _: Option<Watch>| match said {
            Ok(Response::Data(data, stat)) => Ok(Value::new(data, stat)),
            Ok(_) => Err(Wrong::Kind),
            Err(refusal) => Err(target.refused(refusal)),
        };
        self.base.submit("reconfigure", OpCode::Reconfig, Again::Never, body, finish)
    }
}
request!(Reconfig => Value);
