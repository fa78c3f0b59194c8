//! The shell for tokio: one task that moves the bytes of one client.

mod clock;
mod dial;

pub(crate) use clock::BootClock;

use crate::Time;
use crate::error::CLOSED;
use crate::limits::{NAP_MAX, READ_CHUNK};
use crate::machine::LinkId;
use crate::shared::{Action, Engine, Input};
use dial::Transport;
use farrier_tls::ClientTls;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::{Instant, Sleep};

type Attempt<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Reads and writes without a pause in one poll; then others get their turn.
const TURNS_MAX: usize = 32;

enum Link {
    None,
    Dialing(LinkId, Attempt<Result<Transport, String>>),
    Open(LinkId, Transport),
}

struct Driver {
    engine: Engine,
    tls: Option<Arc<ClientTls>>,
    link: Link,
    probe: Option<(LinkId, usize, Attempt<bool>)>,
    /// Being written, from `written` on.
    bytes: Vec<u8>,
    written: usize,
    /// Written and not flushed, which matters to TLS.
    unflushed: bool,
    chunk: Box<[u8]>,
    /// A write failed; not yet told.
    failed: Option<(LinkId, String)>,
    timer: Pin<Box<Sleep>>,
    /// What the timer is set to.
    alarm: Time,
    actions: Vec<Action>,
}

/// Runs a client until it ends.
pub(crate) fn spawn(engine: Engine, tls: Option<Arc<ClientTls>>) {
    let driver = Driver {
        engine,
        tls,
        link: Link::None,
        probe: None,
        bytes: Vec::new(),
        written: 0,
        unflushed: false,
        chunk: vec![0; READ_CHUNK].into(),
        failed: None,
        timer: Box::pin(tokio::time::sleep_until(Instant::now())),
        alarm: Time::MAX,
        actions: Vec::new(),
    };
    tokio::spawn(driver);
}

/// What came of a look at the connection.
enum Event {
    Connected(LinkId),
    Lost(LinkId, String),
    Received(LinkId, usize),
    Probed(LinkId, usize, bool),
}

impl Driver {
    /// Looks at the connection, or the attempt to make one.
    fn look(&mut self, cx: &mut Context<'_>) -> Option<Event> {
        if let Some((link, reason)) = self.failed.take() {
            return Some(Event::Lost(link, reason));
        }
        match &mut self.link {
            Link::None => {}
            Link::Dialing(link, attempt) => {
                if let Poll::Ready(result) = attempt.as_mut().poll(cx) {
                    let link = *link;
                    return Some(match result {
                        Ok(transport) => {
                            self.link = Link::Open(link, transport);
                            Event::Connected(link)
                        }
                        Err(reason) => self.lose(link, reason),
                    });
                }
            }
            Link::Open(link, transport) => {
                let link = *link;
                let mut buf = ReadBuf::new(&mut self.chunk);
                let read = Pin::new(transport).poll_read(cx, &mut buf);
                let len = buf.filled().len();
                match read {
                    Poll::Ready(Ok(())) if len > 0 => return Some(Event::Received(link, len)),
                    Poll::Ready(Ok(())) => return Some(self.lose(link, CLOSED.to_owned())),
                    Poll::Ready(Err(error)) => {
                        let reason = dial::explain(self.tls.as_deref(), &error);
                        return Some(self.lose(link, reason));
                    }
                    Poll::Pending => {}
                }
            }
        }
        if let Some((link, index, attempt)) = &mut self.probe
            && let Poll::Ready(takes_writes) = attempt.as_mut().poll(cx)
        {
            let event = Event::Probed(*link, *index, takes_writes);
            self.probe = None;
            return Some(event);
        }
        None
    }

    fn lose(&mut self, link: LinkId, reason: String) -> Event {
        self.link = Link::None;
        self.forget_bytes();
        Event::Lost(link, reason)
    }

    const fn has_room(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// One step of the engine. Whether it had the connection exchanged.
    fn step(&mut self, cx: &Context<'_>, event: Option<&Event>) -> bool {
        let input = event.map(|event| match event {
            Event::Connected(link) => Input::Connected { link: *link },
            Event::Lost(link, reason) => Input::Lost { link: *link, reason },
            Event::Received(link, len) => Input::Received { link: *link, bytes: &self.chunk[..*len] },
            Event::Probed(link, index, takes_writes) => {
                Input::Probed { link: *link, index: *index, takes_writes: *takes_writes }
            }
        });
        let room = if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
            Some(&mut self.bytes)
        } else {
            None
        };
        let deadline = self.engine.step(input, room, Some(cx.waker()), &mut self.actions);
        self.set_timer(deadline);
        let acts = !self.actions.is_empty();
        for action in std::mem::take(&mut self.actions) {
            self.act(action);
        }
        acts
    }

    fn set_timer(&mut self, deadline: Time) {
        if !self.engine.is_relied_on() && deadline >= self.alarm {
            return;
        }
        let now = self.engine.shared().now();
        // The deadline is one of a clock that goes on while the machine is suspended, and the timer stands still then.
        let deadline = if self.engine.is_relied_on() { deadline.min(now + NAP_MAX) } else { deadline };
        // A timer that fires early does no harm, and setting it is not free. One that is due and did not fire stood still.
        if deadline < self.alarm || self.alarm <= now {
            self.alarm = deadline;
            if let Some(at) = Instant::now().checked_add(deadline - now) {
                self.timer.as_mut().reset(at);
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Dial { link, host, within } => {
                self.forget_bytes();
                self.link = Link::Dialing(link, Box::pin(dial::dial(host, within, self.tls.clone())));
            }
            Action::Hangup => {
                self.forget_bytes();
                self.link = Link::None;
            }
            Action::Probe { link, index, host } => {
                self.probe = Some((link, index, Box::pin(dial::probe(host, self.tls.clone()))));
            }
        }
    }

    fn forget_bytes(&mut self) {
        self.bytes.clear();
        self.written = 0;
        self.unflushed = false;
        self.failed = None;
    }

    /// Writes what there is.
    fn write(&mut self, cx: &mut Context<'_>) {
        let Link::Open(link, transport) = &mut self.link else { return };
        let error = loop {
            if self.written < self.bytes.len() {
                match Pin::new(&mut *transport).poll_write(cx, &self.bytes[self.written..]) {
                    Poll::Ready(Ok(0)) => break io::Error::from(io::ErrorKind::WriteZero),
                    Poll::Ready(Ok(n)) => {
                        self.written += n;
                        self.unflushed = true;
                    }
                    Poll::Ready(Err(error)) => break error,
                    Poll::Pending => return,
                }
            } else if self.unflushed {
                match Pin::new(&mut *transport).poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.unflushed = false,
                    Poll::Ready(Err(error)) => break error,
                    Poll::Pending => return,
                }
            } else {
                return;
            }
        };
        let link = *link;
        let reason = dial::explain(self.tls.as_deref(), &error);
        self.link = Link::None;
        self.forget_bytes();
        self.failed = Some((link, reason));
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        for _ in 0..TURNS_MAX {
            // What has arrived is taken before time counts, so that a process that was stopped for a while does not
            // give up a connection whose answers are there to be read.
            let event = this.look(cx);
            if let Some(Event::Lost(_, reason)) = &event {
                tracing::debug!("connection lost: {reason}");
            }
            let had_room = this.has_room();
            let acted = this.step(cx, event.as_ref());
            if this.engine.has_ended() {
                return Poll::Ready(());
            }
            this.write(cx);
            let alarmed = this.alarm < Time::MAX && this.timer.as_mut().poll(cx).is_ready();
            if alarmed {
                this.alarm = Time::MAX;
            }
            // With room again there may be bytes that were left out above.
            let more = !had_room && this.has_room();
            if event.is_none() && !acted && !alarmed && !more && this.failed.is_none() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, Clock, SessionState};
    use farrier_proto::client::{ConnectResponse, begin_frame, end_frame};
    use farrier_proto::{Field as _, SessionId};
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// So long that nothing is due while a test runs.
    const TIMEOUT: Duration = Duration::from_secs(40);

    /// Longer than a nap takes on a busy machine, and shorter than the time to the next ping or beat.
    const SOON: Duration = Duration::from_secs(4);

    /// The system's clock, of a machine that is suspended at times.
    #[derive(Debug, Default)]
    struct Suspended {
        nanos: AtomicU64,
        looks: AtomicUsize,
    }

    impl Clock for Suspended {
        fn now(&self) -> Time {
            self.looks.fetch_add(1, Ordering::SeqCst);
            BootClock.now() + Duration::from_nanos(self.nanos.load(Ordering::SeqCst))
        }
    }

    impl Suspended {
        fn sleep(&self, span: Duration) {
            self.nanos.fetch_add(u64::try_from(span.as_nanos()).expect("not that long"), Ordering::SeqCst);
        }
    }

    /// A server that gives sessions and says nothing else.
    async fn server() -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = Vec::new();
                let start = begin_frame(&mut bytes);
                let timeout = i32::try_from(TIMEOUT.as_millis()).expect("not that long");
                ConnectResponse { timeout, session: SessionId(9), password: [3; 16], read_only: Some(false) }
                    .write(&mut bytes);
                end_frame(&mut bytes, start);
                let mut request = [0; 64];
                while stream.read(&mut request).await.is_ok_and(|n| n > 0) {
                    // Only the first one is answered.
                    if stream.write_all(&std::mem::take(&mut bytes)).await.is_err() {
                        break;
                    }
                }
            }
        });
        address
    }

    async fn client() -> (Arc<Suspended>, Client) {
        let clock = Arc::<Suspended>::default();
        let builder = Client::builder(&server().await.to_string()).session_timeout(TIMEOUT);
        let (client, engine) = builder.detached(clock.clone(), 1).expect("a connect string");
        spawn(engine, None);
        let mut state = client.session();
        state.wait_for(|state| state.connected().is_some()).await.expect("the client lives");
        (clock, client)
    }

    async fn soon(what: &str, future: impl Future) {
        assert!(tokio::time::timeout(SOON, future).await.is_ok(), "{what}");
    }

    #[tokio::test]
    async fn what_was_due_while_the_machine_was_suspended_comes_soon_after() {
        let (clock, client) = client().await;
        let sleep = tokio::spawn({
            let client = client.clone();
            async move { client.sleep(Duration::from_secs(1800)).await }
        });
        tokio::time::sleep(NAP_MAX).await;
        assert!(!sleep.is_finished());
        clock.sleep(Duration::from_secs(3600));
        soon("it slept long enough", sleep).await;

        let (clock, client) = self::client().await;
        let kept = client.keep_lease();
        let lease = client.lease().expect("a session");
        clock.sleep(Duration::from_secs(3600));
        assert!(!lease.holds(client.now()));
        let mut state = client.session();
        let suspended = state.wait_for(|state| !matches!(state, SessionState::Connected { .. }));
        soon("the server was silent for an hour", suspended).await;
        drop(kept);
    }

    /// The timer that was set before has as much of its time left as when the machine went to sleep: far more than a nap.
    #[tokio::test]
    async fn what_is_asked_for_after_the_machine_was_suspended_does_not_wait_for_what_was_due_before() {
        let (clock, client) = client().await;
        clock.sleep(Duration::from_secs(3600));
        let sleep = tokio::spawn(async move { client.sleep(Duration::from_secs(1)).await });
        soon("a second has passed", sleep).await;
    }

    #[tokio::test]
    async fn a_client_on_which_nobody_relies_is_not_woken() {
        let (clock, client) = client().await;
        drop(client.keep_lease());
        let endless = tokio::spawn(async move { client.sleep_until(Time::MAX).await });
        // The nap that was begun for the lease ends.
        tokio::time::sleep(NAP_MAX * 2).await;
        let before = clock.looks.load(Ordering::SeqCst);
        tokio::time::sleep(NAP_MAX * 4).await;
        assert_eq!(clock.looks.load(Ordering::SeqCst), before, "nothing is due");
        assert!(!endless.is_finished());
    }
}
