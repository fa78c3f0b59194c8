//! addWatch, removeWatches, checkWatches.

use super::{Base, request, simple};
use crate::Client;
use crate::call::{Again, Call, Said, Target, Watching};
use crate::machine::Refusal;
use crate::watch::{Watch, WatchKind};
use farrier_proto::client::{PathKind, WatcherType};
use farrier_proto::{ErrorCode, Field as _, OpCode};

fn body(kind: i32) -> impl Fn(&mut Vec<u8>, &str) + Copy {
    move |out, path| PathKind { path: Some(path.into()), kind }.write(out)
}

/// The request again, with the same body.
fn again(base: &Base<'_>, kind: i32) -> Again {
    let mut bytes = Vec::new();
    body(kind)(&mut bytes, &base.client.full_path(base.path));
    Again::Body(bytes)
}

/// Sets a watch that stays. See [`Client::watch`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a request is sent by awaiting it or by `send`"]
pub struct SetWatch<'a> {
    base: Base<'a>,
    kind: WatchKind,
}

impl<'a> SetWatch<'a> {
    pub(crate) const fn new(client: &'a Client, path: &'a str) -> Self {
        Self { base: Base::new(client, path), kind: WatchKind::Persistent }
    }

    /// Creation, deletion and data of the znode and of everything below it, instead of data and children of just
    /// the one.
    pub const fn recursive(mut self) -> Self {
        self.kind = WatchKind::Recursive;
        self
    }

    /// Sends it. What changes after the answer is told.
    pub fn send(self) -> Call<Watch> {
        let mode = i32::from(self.kind == WatchKind::Recursive);
        let finish = |said: Said, target: &Target, watch: Option<Watch>| match said {
            Ok(_) => Ok(watch.expect("it was asked for")),
            Err(refusal) => Err(target.refused(refusal)),
        };
        let again = again(&self.base, mode);
        self.base.submit_watching("watch", OpCode::AddWatch, again, Watching::Set(self.kind), body(mode), finish)
    }
}
request!(SetWatch => Watch);

/// Removes watches. See [`Client::remove_watches`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a request is sent by awaiting it or by `send`"]
pub struct RemoveWatches<'a> {
    base: Base<'a>,
    kind: WatcherType,
}

impl<'a> RemoveWatches<'a> {
    pub(crate) const fn new(client: &'a Client, path: &'a str, kind: WatcherType) -> Self {
        Self { base: Base::new(client, path), kind }
    }

    /// Sends it.
    pub fn send(self) -> Call<()> {
        let (kind, watching) = (self.kind.code(), Watching::Remove(self.kind));
        let again = again(&self.base, kind);
        self.base.submit_watching("remove watches of", OpCode::RemoveWatches, again, watching, body(kind), simple)
    }
}
request!(RemoveWatches => ());

/// Asks for watches. See [`Client::has_watch`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a request is sent by awaiting it or by `send`"]
pub struct HasWatch<'a> {
    base: Base<'a>,
    kind: WatcherType,
}

impl<'a> HasWatch<'a> {
    pub(crate) const fn new(client: &'a Client, path: &'a str, kind: WatcherType) -> Self {
        Self { base: Base::new(client, path), kind }
    }

    /// Sends it.
    pub fn send(self) -> Call<bool> {
        let finish = |said: Said, target: &Target, _: Option<Watch>| match said {
            Ok(_) => Ok(true),
            Err(Refusal { code: ErrorCode::NoWatcher, .. }) => Ok(false),
            Err(refusal) => Err(target.refused(refusal)),
        };
        let kind = self.kind.code();
        self.base.submit("look for watches of", OpCode::CheckWatches, again(&self.base, kind), body(kind), finish)
    }
}
request!(HasWatch => bool);
