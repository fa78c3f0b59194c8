//! exists, getData, getACL, getChildren, getAllChildrenNumber, getEphemerals, sync, whoAmI.

use super::{Base, request, simple};
use crate::call::{Again, Call, Said, Target, Watching, Wrong};
use crate::machine::{Refusal, Response};
use crate::watch::{Watch, WatchKind};
use crate::{Client, Error};
use farrier_proto::client::PathWatch;
use farrier_proto::jute::put_str;
use farrier_proto::{Acl, ErrorCode, Field as _, OpCode, Stat};
use std::time::Duration;

/// Data and stat of a znode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    /// The data; empty if it is null.
    pub data: Vec<u8>,
    /// Whether the data is null, which servers tell from empty: zkCli's `create` without data stores it, say.
    pub is_null: bool,
    /// The stat.
    pub stat: Stat,
}

impl Value {
    pub(super) fn new(data: Option<Vec<u8>>, stat: Stat) -> Self {
        let is_null = data.is_none();
        Self { data: data.unwrap_or_default(), is_null, stat }
    }

    /// The data; `None` if it is null.
    #[must_use]
    pub fn data_or_null(&self) -> Option<&[u8]> {
        (!self.is_null).then_some(&self.data)
    }
}

/// Children and stat of a znode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChildrenOf {
    /// Names, not paths, in no order.
    pub names: Vec<String>,
    /// Stat of the parent.
    pub stat: Stat,
}

/// One identity of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Scheme: `ip`, `digest`, …
    pub scheme: String,
    /// The user within it, without credentials.
    pub user: String,
}

fn put_path(out: &mut Vec<u8>, path: &str) {
    put_str(out, path);
}

fn put_path_watch(watch: bool) -> impl FnOnce(&mut Vec<u8>, &str) {
    move |out, path| PathWatch { path: Some(path.into()), watch }.write(out)
}

fn value(said: Said, target: &Target) -> Result<Value, Wrong> {
    match said {
        Ok(Response::Data(data, stat)) => Ok(Value::new(data, stat)),
        Ok(_) => Err(Wrong::Kind),
        Err(refusal) => Err(target.refused(refusal)),
    }
}

fn stat(said: Said, target: &Target) -> Result<Option<Stat>, Wrong> {
    match said {
        Ok(Response::Stat(stat)) => Ok(Some(stat)),
        Ok(_) => Err(Wrong::Kind),
        Err(Refusal { code: ErrorCode::NoNode, .. }) => Ok(None),
        Err(refusal) => Err(target.refused(refusal)),
    }
}

fn children(said: Said, target: &Target) -> Result<ChildrenOf, Wrong> {
    match said {
        Ok(Response::Children(names, Some(stat))) => Ok(ChildrenOf { names, stat }),
        Ok(_) => Err(Wrong::Kind),
        Err(refusal) => Err(target.refused(refusal)),
    }
}

/// A read that can leave a one-shot watch: the operation, its answer, how to make it.
macro_rules! watchable {
    ($(#[$doc:meta])* $name:ident => $output:ty, $verb:literal, $op:expr, $kind:expr, $finish:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        #[must_use = "a request is sent by awaiting it or by `send`"]
        pub struct $name<'a> {
            base: Base<'a>,
        }

        impl<'a> $name<'a> {
            pub(crate) const fn new(client: &'a Client, path: &'a str) -> Self {
                Self { base: Base::new(client, path) }
            }

            /// Leaves a one-shot watch, which comes with the answer: it tells the first change of what was read.
            pub const fn watch(self) -> Watched<'a, $output> {
                Watched { base: self.base, make: Self::submit_watched }
            }

            /// Sends it.
            pub fn send(self) -> Call<$output> {
                let finish = |said: Said, target: &Target, _: Option<Watch>| $finish(said, target);
                self.base.submit($verb, $op, Again::PathWatch(false), put_path_watch(false), finish)
            }

            fn submit_watched(base: Base<'a>) -> Call<($output, Watch)> {
                let finish = |said: Said, target: &Target, watch: Option<Watch>| {
                    let answer = $finish(said, target)?;
                    Ok((answer, watch.expect("it was asked for")))
                };
                base.submit_watching(
                    $verb,
                    $op,
                    Again::PathWatch(true),
                    Watching::Set($kind),
                    put_path_watch(true),
                    finish,
                )
            }
        }
        request!($name => $output);
    };
}

watchable! {
    /// Asks for a znode's stat. See [`Client::exists`]. A watch tells its creation if it does not exist, and its first
    /// change or deletion if it does.
    Exists => Option<Stat>, "look for", OpCode::Exists, WatchKind::Data, stat
}

watchable! {
    /// Reads a znode. See [`Client::get`]. A watch tells its first change or deletion.
    Get => Value, "get", OpCode::GetData, WatchKind::Data, value
}

watchable! {
    /// Lists children. See [`Client::children`]. A watch tells the first child that comes or goes, or the deletion of
    /// the parent.
    Children => ChildrenOf, "list", OpCode::GetChildren2, WatchKind::Child, children
}

impl<'a> Get<'a> {
    /// The znode that holds the ensemble's membership, wherever the client's root is.
    pub(crate) const fn config(client: &'a Client) -> Self {
        Self { base: Base { absolute: true, ..Base::new(client, super::reconfig::CONFIG) } }
    }
}

/// A read that leaves a one-shot watch, which comes with its answer.
#[derive(Debug)]
#[must_use = "a request is sent by awaiting it or by `send`"]
pub struct Watched<'a, T> {
    base: Base<'a>,
    make: fn(Base<'a>) -> Call<(T, Watch)>,
}

impl<T> Watched<'_, T> {
    /// How long this call may take; otherwise as the client was told.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.base.timeout = timeout;
        self
    }

    /// Sends it.
    pub fn send(self) -> Call<(T, Watch)> {
        (self.make)(self.base)
    }
}

impl<T> IntoFuture for Watched<'_, T> {
    type Output = Result<(T, Watch), Error>;
    type IntoFuture = Call<(T, Watch)>;

    fn into_future(self) -> Call<(T, Watch)> {
        self.send()
    }
}

/// A read that has a path and nothing else.
macro_rules! plain {
    ($(#[$doc:meta])* $name:ident => $output:ty, $verb:literal, $op:expr, $again:expr, $body:expr, $finish:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        #[must_use = "a request is sent by awaiting it or by `send`"]
        pub struct $name<'a> {
            base: Base<'a>,
        }

        impl<'a> $name<'a> {
            pub(crate) const fn new(client: &'a Client, path: &'a str) -> Self {
                Self { base: Base::new(client, path) }
            }

            /// Sends it.
            pub fn send(self) -> Call<$output> {
                self.base.submit($verb, $op, $again, $body, $finish)
            }
        }
        request!($name => $output);
    };
}

plain! {
    /// Reads an access control list. See [`Client::get_acl`].
    GetAcl => (Vec<Acl<'static>>, Stat), "get the ACL of", OpCode::GetAcl, Again::Path, put_path, |said, target, _| {
        match said {
            Ok(Response::Acl(acl, stat)) => Ok((acl, stat)),
            Ok(_) => Err(Wrong::Kind),
            Err(refusal) => Err(target.refused(refusal)),
        }
    }
}

plain! {
    /// Lists names of children. See [`Client::list`].
    List => Vec<String>, "list", OpCode::GetChildren, Again::PathWatch(false), put_path_watch(false),
    |said, target, _| {
        match said {
            Ok(Response::Children(names, _)) => Ok(names),
            Ok(_) => Err(Wrong::Kind),
            Err(refusal) => Err(target.refused(refusal)),
        }
    }
}

plain! {
    /// Counts znodes below one. See [`Client::descendants`].
    Descendants => usize, "count below", OpCode::GetAllChildrenNumber, Again::Path, put_path, |said, target, _| {
        match said {
            Ok(Response::Number(n)) => usize::try_from(n).map_err(|_| Wrong::Kind),
            Ok(_) => Err(Wrong::Kind),
            Err(refusal) => Err(target.refused(refusal)),
        }
    }
}

plain! {
    /// Lists ephemeral znodes of this session. See [`Client::ephemerals`].
    Ephemerals => Vec<String>, "list ephemerals below", OpCode::GetEphemerals, Again::Path, put_path,
    |said, target, _| {
        // The server compares text, so it also names what merely begins like the path.
        let below = |path: &str| match path.strip_prefix(&*target.path) {
            Some(rest) => target.path == "/" || rest.is_empty() || rest.starts_with('/'),
            None => false,
        };
        match said {
            Ok(Response::Paths(all)) => {
                Ok(all.iter().filter(|p| below(p)).map(|p| target.without_chroot(p).to_owned()).collect())
            }
            Ok(_) => Err(Wrong::Kind),
            Err(refusal) => Err(target.refused(refusal)),
        }
    }
}

plain! {
    /// Waits for what is committed. See [`Client::sync`].
    Sync => (), "sync", OpCode::Sync, Again::Path, put_path, simple
}

/// Asks who the client is. See [`Client::who_am_i`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a request is sent by awaiting it or by `send`"]
pub struct WhoAmI<'a> {
    base: Base<'a>,
}

impl<'a> WhoAmI<'a> {
    pub(crate) const fn new(client: &'a Client) -> Self {
        Self { base: Base::new(client, "/") }
    }

    /// Sends it.
    pub fn send(self) -> Call<Vec<Identity>> {
        let finish = |said: Said, target: &Target, _: Option<Watch>| match said {
            Ok(Response::Identities(all)) => {
                Ok(all.into_iter().map(|(scheme, user)| Identity { scheme, user }).collect())
            }
            Ok(_) => Err(Wrong::Kind),
            Err(refusal) => Err(target.refused(refusal)),
        };
        self.base.submit("ask who is at", OpCode::WhoAmI, Again::Body(Vec::new()), |_, _| {}, finish)
    }
}
request!(WhoAmI => Vec<Identity>);
