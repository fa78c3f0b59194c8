//! A call under way: the future of an answer.

use crate::machine::{Effect, End, Failure, Outcome, Refusal, Registration, Rejection, Response};
use crate::shared::Shared;
use crate::watch::{EventQueue, Watch, WatchKind};
use crate::{Error, Time};
use farrier_proto::client::{PathWatch, WatcherType};
use farrier_proto::jute::put_str;
use farrier_proto::{Field as _, OpCode};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::oneshot;

/// What a call is about, for its errors and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) verb: &'static str,
    /// As the server names it.
    pub(crate) path: String,
    /// How much of the path is chroot.
    pub(crate) chroot: usize,
}

impl Target {
    /// The path as the caller names it.
    pub(crate) fn shown(&self) -> String {
        self.without_chroot(&self.path).to_owned()
    }

    /// A path of the server's, as the caller names it.
    pub(crate) fn without_chroot<'p>(&self, path: &'p str) -> &'p str {
        match path.get(self.chroot..) {
            Some("") | None => "/",
            Some(rest) => rest,
        }
    }

    pub(crate) fn refused(&self, refusal: Refusal) -> Wrong {
        Wrong::Error(self.refusal(refusal))
    }

    fn refusal(&self, refusal: Refusal) -> Error {
        let Refusal { code, index, server } = refusal;
        Error::Refused { code, op: self.verb, path: self.shown(), index, server }
    }

    fn invalid(&self, reason: impl Into<Arc<str>>) -> Error {
        Error::Invalid { op: self.verb, path: self.shown(), reason: reason.into() }
    }

    fn failed(&self, failure: Failure) -> Error {
        let (op, path) = (self.verb, self.shown());
        match failure {
            Failure::Refused(refusal) => self.refusal(refusal),
            Failure::Unknown { server, reason } => Error::Unknown { op, path, server, reason },
            Failure::NotDone { reason, .. } => Error::NotDone { op, path, reason },
            Failure::Unreadable { server, reason } => Error::Unreadable { op, path, server, reason },
            Failure::Expired => Error::SessionExpired { op, path },
            Failure::Ended(end) => self.ended(end),
        }
    }

    fn ended(&self, end: End) -> Error {
        match end {
            End::Closed => Error::Closed,
            End::AuthFailed => Error::AuthFailed,
            End::Expired => Error::SessionExpired { op: self.verb, path: self.shown() },
        }
    }

    fn rejected(&self, rejection: Rejection) -> Error {
        match rejection {
            Rejection::Ended(end) => self.ended(end),
            Rejection::Full(limit) => Error::QueueFull { limit },
            Rejection::TooLong(len) => self.invalid(format!(
                "the request has {len} bytes, more than a server takes; store less in one znode, or raise \
                 jute.maxbuffer on the servers and ClientBuilder::request_max here"
            )),
        }
    }
}

/// How a request that changes nothing is made again after its connection was lost.
#[derive(Clone, Debug)]
pub(crate) enum Again {
    /// It is not.
    Never,
    /// Its body is the path.
    Path,
    /// Its body is the path, and whether to watch.
    PathWatch(bool),
    /// Its body is this.
    Body(Vec<u8>),
}

impl Again {
    fn write(&self, path: &str, out: &mut Vec<u8>) {
        match self {
            Self::Never => {}
            Self::Path => put_str(out, path),
            Self::PathWatch(watch) => PathWatch { path: Some(path.into()), watch: *watch }.write(out),
            Self::Body(body) => out.extend_from_slice(body),
        }
    }
}

/// What a call does to the client's watches.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Watching {
    /// Nothing.
    No,
    /// It sets one.
    Set(WatchKind),
    /// It removes those of a type on its path.
    Remove(WatcherType),
}

/// What a server said.
pub(crate) type Said = Result<Response, Refusal>;
type Finish<T> = Box<dyn FnOnce(Said, &Target, Option<Watch>) -> Result<T, Wrong> + Send>;

/// Why what a server said is no result.
#[derive(Debug)]
pub(crate) enum Wrong {
    /// It is a refusal.
    Error(Error),
    /// It answers something else than the request: nothing that the machine decoded by the operation of one, but perhaps
    /// for a part of several.
    Kind,
}

enum State {
    Waiting(oneshot::Receiver<Outcome>),
    Failed(Box<Error>),
    Done,
}

/// The answer to a request that is on its way. It was put in line when this was made, so requests keep the order of
/// their making, however they are awaited.
///
/// There is one exception: a read that was sent and is not answered when the connection is lost. It goes to the end of the
/// line as soon as this is polled again, and may be executed behind a write that was made after it. Whoever has to know
/// what was there before a write awaits the read first.
///
/// Dropping it gives up the answer, not the request: what was sent may be executed, what was not will not be sent
/// on a later connection.
#[must_use = "the answer tells whether the request was done"]
pub struct Call<T> {
    shared: Arc<Shared>,
    state: State,
    target: Target,
    op: OpCode,
    again: Again,
    deadline: Time,
    watch: Option<Watch>,
    removes: Option<WatcherType>,
    finish: Option<Finish<T>>,
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("op", &self.op).field("target", &self.target).finish_non_exhaustive()
    }
}

impl<T> Call<T> {
    /// Puts a request in line.
    pub(crate) fn submit(
        shared: &Arc<Shared>,
        target: Target,
        (op, timeout): (OpCode, Duration),
        again: Again,
        watching: Watching,
        body: impl FnOnce(&mut Vec<u8>, &str),
        finish: impl FnOnce(Said, &Target, Option<Watch>) -> Result<T, Wrong> + Send + 'static,
    ) -> Self {
        let (watch, removes) = match watching {
            Watching::No => (None, None),
            Watching::Set(kind) => {
                let (shared, id, path) = (Arc::clone(shared), shared.fresh_id(), target.path.as_str().into());
                let queue = Arc::<EventQueue>::default();
                (Some(Watch { shared, queue, id, kind, path, chroot: target.chroot }), None)
            }
            Watching::Remove(kind) => (None, Some(kind)),
        };
        let effect = Self::effect(watch.as_ref(), removes, &target);
        let path = &target.path;
        let now = shared.now();
        let deadline = now + timeout;
        let state = match shared.submit(now, deadline, op, effect, |out| body(out, path)) {
            Ok(answer) => State::Waiting(answer),
            Err(rejection) => State::Failed(Box::new(target.rejected(rejection))),
        };
        let (shared, finish) = (Arc::clone(shared), Some(Box::new(finish) as Finish<T>));
        Self { shared, state, target, op, again, deadline, watch, removes, finish }
    }

    /// Waits for an answer that was asked for otherwise.
    pub(crate) fn waiting(
        shared: &Arc<Shared>,
        target: Target,
        op: OpCode,
        answer: Result<oneshot::Receiver<Outcome>, Rejection>,
        finish: impl FnOnce(Said, &Target, Option<Watch>) -> Result<T, Wrong> + Send + 'static,
    ) -> Self {
        let state = match answer {
            Ok(answer) => State::Waiting(answer),
            Err(rejection) => State::Failed(Box::new(target.rejected(rejection))),
        };
        let (shared, finish) = (Arc::clone(shared), Some(Box::new(finish) as Finish<T>));
        let (again, deadline) = (Again::Never, Time::MAX);
        Self { shared, state, target, op, again, deadline, watch: None, removes: None, finish }
    }

    /// A call that cannot be made.
    pub(crate) fn refuse(shared: &Arc<Shared>, target: Target, reason: impl Into<Arc<str>>) -> Self {
        let state = State::Failed(Box::new(target.invalid(reason)));
        let shared = Arc::clone(shared);
        let (op, again, deadline) = (OpCode::Ping, Again::Never, Time::MAX);
        Self { shared, state, target, op, again, deadline, watch: None, removes: None, finish: None }
    }

    fn effect(watch: Option<&Watch>, removes: Option<WatcherType>, target: &Target) -> Option<Effect> {
        let set = watch.map(|watch| {
            let (path, queue) = (watch.path.clone(), Arc::clone(&watch.queue));
            Effect::Set(Registration { kind: watch.kind, path, id: watch.id, queue })
        });
        set.or_else(|| removes.map(|kind| Effect::Remove(target.path.as_str().into(), kind)))
    }

    /// It was answered, but with something else.
    fn misunderstood(&self) -> Error {
        let (server, reason) = (self.shared.server(), "the answer is of another kind than the request".into());
        let is_write = self.op.is_write();
        self.target.failed(if is_write {
            Failure::Unknown { server, reason }
        } else {
            Failure::Unreadable { server, reason }
        })
    }

    /// The connection was lost with a request that is harmless: it goes to the next one.
    fn resubmit(&mut self, now: Time) -> Result<oneshot::Receiver<Outcome>, Error> {
        let effect = Self::effect(self.watch.as_ref(), self.removes, &self.target);
        let body = |out: &mut Vec<u8>| self.again.write(&self.target.path, out);
        self.shared
            .submit(now, self.deadline, self.op, effect, body)
            .map_err(|rejection| self.target.rejected(rejection))
    }
}

impl<T> Future for Call<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Error>> {
        let this = &mut *self;
        loop {
            let State::Waiting(answer) = &mut this.state else {
                let State::Failed(error) = std::mem::replace(&mut this.state, State::Done) else {
                    panic!("polled after its answer");
                };
                return Poll::Ready(Err(*error));
            };
            // Without an answer the shell is gone, and the client with it.
            let outcome = ready!(Pin::new(answer).poll(cx)).unwrap_or(Err(Failure::Ended(End::Closed)));
            this.state = State::Done;
            let said = match outcome {
                Ok(response) => Ok(response),
                Err(Failure::Refused(refusal)) => Err(refusal),
                Err(Failure::NotDone { again: true, reason }) if !matches!(this.again, Again::Never) => {
                    let now = this.shared.now();
                    if now >= this.deadline {
                        let failure = Failure::NotDone { again: false, reason };
                        return Poll::Ready(Err(this.target.failed(failure)));
                    }
                    match this.resubmit(now) {
                        Ok(answer) => this.state = State::Waiting(answer),
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                    continue;
                }
                Err(failure) => return Poll::Ready(Err(this.target.failed(failure))),
            };
            let finish = this.finish.take().expect("a call that was submitted ends once");
            let done = finish(said, &this.target, this.watch.take());
            return Poll::Ready(done.map_err(|wrong| match wrong {
                Wrong::Error(error) => error,
                Wrong::Kind => this.misunderstood(),
            }));
        }
    }
}

// Everything inside is `Unpin`, whatever the answer is.
impl<T> Unpin for Call<T> {}
