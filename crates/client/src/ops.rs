//! Requests with their options. Each is sent by `.send()`, or by awaiting it.

mod create;
mod multi;
mod read;
mod reconfig;
mod watching;
mod write;

pub use create::{Create, Created, NewZnode};
pub use multi::{Multi, MultiRead, Op, OpResult, ReadOp, ReadResult};
pub use read::{
    Children, ChildrenOf, Descendants, Ephemerals, Exists, Get, GetAcl, Identity, List, Sync, Value, Watched, WhoAmI,
};
pub use reconfig::Reconfig;
pub use watching::{HasWatch, RemoveWatches, SetWatch};
pub use write::{Delete, Set, SetAcl};

use crate::Client;
use crate::call::{Again, Call, Said, Target, Watching, Wrong};
use crate::watch::Watch;
use farrier_proto::{OpCode, path};
use std::time::Duration;

/// What every request has.
#[derive(Clone, Copy, Debug)]
struct Base<'a> {
    client: &'a Client,
    path: &'a str,
    timeout: Duration,
    /// The path is not below the client's chroot.
    absolute: bool,
}

impl<'a> Base<'a> {
    const fn new(client: &'a Client, path: &'a str) -> Self {
        Self { client, path, timeout: client.timeout, absolute: false }
    }

    fn submit<T>(
        &self,
        verb: &'static str,
        op: OpCode,
        again: Again,
        body: impl FnOnce(&mut Vec<u8>, &str),
        finish: impl FnOnce(Said, &Target, Option<Watch>) -> Result<T, Wrong> + Send + 'static,
    ) -> Call<T> {
        self.submit_watching(verb, op, again, Watching::No, body, finish)
    }

    fn submit_watching<T>(
        &self,
        verb: &'static str,
        op: OpCode,
        again: Again,
        watching: Watching,
        body: impl FnOnce(&mut Vec<u8>, &str),
        finish: impl FnOnce(Said, &Target, Option<Watch>) -> Result<T, Wrong> + Send + 'static,
    ) -> Call<T> {
        if let Err(rule) = path::validate(self.path) {
            return self.refuse(verb, rule);
        }
        let target = if self.absolute {
            Target { verb, path: self.path.to_owned(), chroot: 0 }
        } else {
            self.client.target(verb, self.path)
        };
        Call::submit(&self.client.shared, target, (op, self.timeout), again, watching, body, finish)
    }

    fn refuse<T>(&self, verb: &'static str, reason: &str) -> Call<T> {
        let target = Target { verb, path: self.path.to_owned(), chroot: 0 };
        Call::refuse(&self.client.shared, target, reason)
    }
}

/// What a request has from its base: a timeout, and the ways to send it.
macro_rules! request {
    ($name:ident => $output:ty) => {
        impl<'a> $name<'a> {
            /// How long this call may take; otherwise as the client was told.
            pub const fn timeout(mut self, timeout: std::time::Duration) -> Self {
                self.base.timeout = timeout;
                self
            }
        }

        impl<'a> IntoFuture for $name<'a> {
            type Output = Result<$output, $crate::Error>;
            type IntoFuture = $crate::Call<$output>;

            fn into_future(self) -> $crate::Call<$output> {
                self.send()
            }
        }
    };
}
use request;

/// Ends a call whose answer says no more than that it was done.
pub(crate) fn simple(said: Said, target: &Target, _: Option<Watch>) -> Result<(), Wrong> {
    said.map(|_| ()).map_err(|refusal| target.refused(refusal))
}
