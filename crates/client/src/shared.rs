//! What the handles of a client and its shell share: the machine behind a lock, its clock, and whoever sleeps by it.

use crate::chance::Chance;
use crate::connect_string::Host;
use crate::limits::{FAREWELL, SLEEPS_MAX};
use crate::machine::{Effect, LinkId, Machine, Outcome, Output, Rejection, Settings};
use crate::watch::WatchKind;
use crate::{Clock, Lease, SessionState, Time};
use farrier_proto::{OpCode, Zxid};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::sync::{oneshot, watch};

#[derive(Debug)]
struct Inner {
    machine: Machine,
    /// The shell, if it sleeps.
    shell: Option<Waker>,
    sleeps: BTreeMap<(Time, u64), Waker>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    clock: Arc<dyn Clock>,
    chance: Chance,
    state: watch::Sender<SessionState>,
}

impl Shared {
    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    pub(crate) fn draw(&self) -> Result<[u8; 16], getrandom::Error> {
        self.chance.draw()
    }

    pub(crate) fn state(&self) -> watch::Receiver<SessionState> {
        self.state.subscribe()
    }

    pub(crate) fn lease(&self) -> Option<Lease> {
        self.inner.lock().machine.lease()
    }

    pub(crate) fn seen(&self) -> Zxid {
        self.inner.lock().machine.seen()
    }

    /// The server of the newest session.
    pub(crate) fn server(&self) -> Arc<str> {
        self.inner.lock().machine.server()
    }

    pub(crate) fn describe(&self) -> String {
        self.inner.lock().machine.describe()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.inner.lock().machine.has_ended()
    }

    pub(crate) fn fresh_id(&self) -> u64 {
        self.inner.lock().machine.fresh_id()
    }

    /// Runs `change` on the machine and has the shell do what came of it.
    fn with<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        let mut inner = self.inner.lock();
        let result = change(&mut inner.machine);
        let shell = inner.shell.take();
        drop(inner);
        if let Some(shell) = shell {
            shell.wake();
        }
        result
    }

    pub(crate) fn submit(
        &self,
        now: Time,
        deadline: Time,
        op: OpCode,
        effect: Option<Effect>,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<oneshot::Receiver<Outcome>, Rejection> {
        let (reply, answer) = oneshot::channel();
        self.with(|machine| machine.submit(now, deadline, op, Some(reply), effect, body))?;
        Ok(answer)
    }

    pub(crate) fn authenticate(
        &self,
        deadline: Time,
        identity: (String, Vec<u8>),
    ) -> Result<oneshot::Receiver<Outcome>, Rejection> {
        let (reply, answer) = oneshot::channel();
        self.with(|machine| machine.authenticate(deadline, identity, reply))?;
        Ok(answer)
    }

    pub(crate) fn close(&self, deadline: Time) -> Result<oneshot::Receiver<Outcome>, Rejection> {
        let (reply, answer) = oneshot::channel();
        let now = self.now();
        self.with(|machine| machine.close(now, deadline, Some(reply)))?;
        Ok(answer)
    }

    /// The last handle is gone: the session ends in the background.
    pub(crate) fn farewell(&self) {
        let now = self.now();
        // It may have been closed before.
        let _ = self.with(|machine| machine.close(now, now + FAREWELL, None));
    }

    pub(crate) fn unwatch(&self, kind: WatchKind, path: &str, id: u64) {
        let now = self.now();
        self.with(|machine| machine.unwatch(now, kind, path, id));
    }

    /// Somebody relies on the lease, until [`Self::let_go`].
    pub(crate) fn keep(&self) {
        self.with(Machine::keep);
    }

    pub(crate) fn let_go(&self) {
        self.with(Machine::let_go);
    }
}

/// Completes at an instant of the client's clock.
#[derive(Debug)]
pub(crate) struct Sleep {
    shared: Arc<Shared>,
    key: (Time, u64),
    waits: bool,
}

impl Sleep {
    pub(crate) fn until(shared: &Arc<Shared>, at: Time) -> Self {
        let id = shared.fresh_id();
        Self { shared: Arc::clone(shared), key: (at, id), waits: false }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = Arc::clone(&self.shared);
        let mut inner = shared.inner.lock();
        // A client that has ended has no shell that would wake anybody.
        if shared.clock.now() >= self.key.0 || inner.machine.has_ended() {
            inner.sleeps.remove(&self.key);
            self.waits = false;
            return Poll::Ready(());
        }
        assert!(inner.sleeps.len() < SLEEPS_MAX, "more than {SLEEPS_MAX} calls of Client::sleep at a time");
        let first = inner.sleeps.first_key_value().map(|(key, _)| *key);
        inner.sleeps.insert(self.key, cx.waker().clone());
        self.waits = true;
        if first.is_none_or(|first| self.key < first)
            && let Some(shell) = inner.shell.take()
        {
            drop(inner);
            shell.wake();
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if self.waits {
            self.shared.inner.lock().sleeps.remove(&self.key);
        }
    }
}

/// What the shell tells an [`Engine`].
#[derive(Debug)]
pub enum Input<'a> {
    /// The connection that [`Action::Dial`] asked for stands.
    Connected {
        /// Of the action.
        link: LinkId,
    },
    /// It could not be made, or is gone.
    Lost {
        /// Of the action.
        link: LinkId,
        /// Why, for people.
        reason: &'a str,
    },
    /// It brought bytes, cut anywhere.
    Received {
        /// Of the action.
        link: LinkId,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// A server answered `isro`, or did not.
    Probed {
        /// Of the action.
        link: LinkId,
        /// Of the action.
        index: usize,
        /// Whether it said `rw`.
        takes_writes: bool,
    },
}

/// What an [`Engine`] wants its shell to do.
#[derive(Debug)]
pub enum Action {
    /// Connect to a server. The name is resolved each time.
    Dial {
        /// Names the connection in inputs.
        link: LinkId,
        /// The server.
        host: Host,
        /// How long it may take.
        within: std::time::Duration,
    },
    /// Drop the connection, or the attempt to make it; nothing needs to be told of it.
    Hangup,
    /// Send `isro` on a connection of its own.
    Probe {
        /// To be quoted.
        link: LinkId,
        /// To be quoted.
        index: usize,
        /// The server.
        host: Host,
    },
}

/// The client without a connection of its own: whoever holds it moves the bytes. The driver for tokio is one such
/// shell, a simulator another.
///
/// Dropping it ends the client: every call that waits is answered.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    outputs: Vec<Output>,
    /// As of the last step; see [`Self::is_relied_on`].
    relied_on: bool,
}

impl Engine {
    pub(crate) fn new(settings: Settings, clock: Arc<dyn Clock>, seed: u64, chance: Chance) -> Self {
        let machine = Machine::new(settings, seed, clock.now());
        let inner = Mutex::new(Inner { machine, shell: None, sleeps: BTreeMap::new() });
        let state = watch::Sender::new(SessionState::Connecting);
        Self { shared: Arc::new(Shared { inner, clock, chance, state }), outputs: Vec::new(), relied_on: false }
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes an input, lets time pass, and answers whoever can be answered. Appends what is to be done to
    /// `actions`, and what is to be sent to `bytes` if there is room for it. Returns when to come back at the
    /// latest; `waker` is woken when a caller wants something before.
    pub fn step(
        &mut self,
        input: Option<Input<'_>>,
        bytes: Option<&mut Vec<u8>>,
        waker: Option<&Waker>,
        actions: &mut Vec<Action>,
    ) -> Time {
        let now = self.shared.now();
        let mut woken = Vec::new();
        let mut inner = self.shared.inner.lock();
        let machine = &mut inner.machine;
        match input {
            None => {}
            Some(Input::Connected { link }) => machine.connected(now, link),
            Some(Input::Lost { link, reason }) => machine.lost(now, link, reason),
            Some(Input::Received { link, bytes }) => machine.received(now, link, bytes),
            Some(Input::Probed { link, index, takes_writes }) => machine.probed(now, link, index, takes_writes),
        }
        let mut deadline = machine.next_deadline();
        if deadline <= now {
            machine.tick(now);
            deadline = machine.next_deadline();
        }
        if let Some(bytes) = bytes {
            machine.take_bytes(now, bytes);
        }
        machine.take_outputs(&mut self.outputs);
        let ended = machine.has_ended();
        while let Some(sleep) = inner.sleeps.first_entry()
            && (ended || sleep.key().0 <= now)
        {
            woken.push(sleep.remove());
        }
        let first = inner.sleeps.first_key_value().map_or(Time::MAX, |(key, _)| key.0);
        deadline = deadline.min(first);
        self.relied_on = !ended && (inner.machine.is_kept() || first < Time::MAX);
        match (&mut inner.shell, waker) {
            (Some(old), Some(new)) => old.clone_from(new),
            (shell, new) => *shell = new.cloned(),
        }
        drop(inner);
        for waker in woken {
            waker.wake();
        }
        self.act(actions);
        deadline
    }

    /// Whether somebody counts on being told in time what the clock says, as of the last step: then the shell may not
    /// leave it to a timer that a suspended machine delays.
    pub(crate) const fn is_relied_on(&self) -> bool {
        self.relied_on
    }

    /// Whether the client has ended and wants nothing any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.shared.inner.lock().machine.has_ended()
    }

    fn act(&mut self, actions: &mut Vec<Action>) {
        for output in self.outputs.drain(..) {
            match output {
                Output::Dial { link, host, within } => actions.push(Action::Dial { link, host, within }),
                Output::Hangup => actions.push(Action::Hangup),
                Output::Probe { link, index, host } => actions.push(Action::Probe { link, index, host }),
                Output::Answer { reply, outcome } => {
                    // Whoever asked may have gone.
                    let _ = reply.send(outcome);
                }
                Output::Event { queue, event, last } => {
                    queue.push(event);
                    if last {
                        queue.end();
                    }
                }
                Output::End { queue } => queue.end(),
                Output::State(state) => {
                    self.shared.state.send_replace(state);
                }
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.inner.lock().machine.abort();
        // Answers whoever waits; there is nothing left to connect to.
        self.step(None, None, None, &mut Vec::new());
    }
}
