//! Programs in the world that use the real client and the real recipes: their engines get bytes and time from here, and
//! their tasks run on a runtime of their own, to the end of what they can do, whenever one of them was given something.

use super::event::{AppEvent, Event};
use super::net::{ConnKey, ConnKind, Message, Party};
use super::world::World;
use crate::observe::{ClientId, DialId};
use bytes::Bytes;
use farrier_client::{Action, Client, Clock, Engine, Input, LinkId, Time};
use farrier_proto::ServerId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Wake, Waker};
use tokio::runtime::Runtime;

/// Turns that tasks get in a row: as many as the longest chain of tasks that wake each other needs, and more.
const TURNS: usize = 16;

/// Steps of one program in one moment; more means that it runs in circles.
const STEPS_MAX: usize = 10_000;

/// The one clock of all programs.
#[derive(Debug, Default)]
pub(crate) struct AppClock(AtomicU64);

impl Clock for AppClock {
    fn now(&self) -> Time {
        Time::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// Set when a task wants something of its engine.
#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection of a program.
#[derive(Clone, Copy, Debug)]
struct Line {
    link: LinkId,
    dial: DialId,
    key: Option<ConnKey>,
}

/// What comes to a program.
#[derive(Debug)]
enum Given {
    Nothing,
    Connected(LinkId),
    Lost(LinkId),
    Frame(LinkId, Bytes),
}

/// One program.
pub(crate) struct App {
    engine: Engine,
    line: Option<Line>,
    dials: u32,
    armed: Option<u64>,
    flag: Arc<Flag>,
    waker: Waker,
    /// Not scheduled: what comes waits.
    paused: bool,
    waiting: Vec<Given>,
}

/// All programs, and what they run on.
pub(crate) struct Apps {
    all: Vec<App>,
    clock: Arc<AppClock>,
    runtime: Runtime,
    /// Called after every step of any program.
    judge: Box<dyn FnMut(u64) -> Result<(), String>>,
}

impl Apps {
    /// Nobody yet. `judge` is asked after every step, with the time in microseconds, whether all is well.
    pub(crate) fn new(judge: Box<dyn FnMut(u64) -> Result<(), String>>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime without input and output");
        Self { all: Vec::new(), clock: Arc::default(), runtime, judge }
    }

    /// A program with a client of its own, that is made of it by `main`.
    pub(crate) fn add<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        builder: farrier_client::ClientBuilder,
        seed: u64,
        main: impl FnOnce(Client) -> F,
    ) {
        let clock = Arc::clone(&self.clock);
        let (client, engine) = builder.detached(clock, seed).expect("a connect string of our own");
        let flag = Arc::<Flag>::default();
        let waker = Waker::from(Arc::clone(&flag));
        self.runtime.spawn(main(client));
        let (line, waiting) = (None, Vec::new());
        self.all.push(App { engine, line, dials: 0, armed: None, flag, waker, paused: false, waiting });
    }

    pub(crate) const fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether every client was closed.
    pub(crate) fn have_ended(&self) -> bool {
        self.all.iter().all(|app| app.engine.has_ended())
    }
}

impl World {
    /// The name of a program among the clients.
    fn app_id(&self, n: usize) -> ClientId {
        ClientId(u32::try_from(self.people.len() + n).expect("few clients"))
    }

    /// Which program a client is, if it is one.
    pub(crate) fn app_of(&self, id: ClientId) -> Option<usize> {
        (id.0 as usize).checked_sub(self.people.len())
    }

    /// Gives a program something, and does what it and others want then.
    fn app_step(&mut self, n: usize, given: Given) {
        let Some(apps) = &mut self.apps else { return };
        let app = &mut apps.all[n];
        if app.paused {
            app.waiting.push(given);
            return;
        }
        apps.clock.0.store(self.now * 1000, Ordering::Relaxed);
        self.app_turn(n, given);
        let mut steps = 0;
        loop {
            let Some(apps) = &mut self.apps else { return };
            apps.runtime.block_on(async {
                for _ in 0..TURNS {
                    tokio::task::yield_now().await;
                }
            });
            let next = apps.all.iter().position(|app| !app.paused && app.flag.0.swap(false, Ordering::Relaxed));
            let Some(next) = next else { break };
            steps += 1;
            if steps > STEPS_MAX {
                return self.engine_fails(format!("program {next} runs in circles"));
            }
            self.app_turn(next, Given::Nothing);
        }
        let now = self.now;
        if let Some(apps) = &mut self.apps
            && let Err(what) = (apps.judge)(now)
        {
            self.fail("recipes", what);
        }
    }

    /// One step of one engine.
    fn app_turn(&mut self, n: usize, given: Given) {
        let Some(apps) = &mut self.apps else { return };
        let app = &mut apps.all[n];
        let (mut bytes, mut actions, mut received) = (Vec::new(), Vec::new(), Vec::new());
        let input = match &given {
            Given::Nothing => None,
            Given::Connected(link) => Some(Input::Connected { link: *link }),
            Given::Lost(link) => Some(Input::Lost { link: *link, reason: "the other end is gone" }),
            Given::Frame(link, frame) => {
                received.extend_from_slice(&i32::try_from(frame.len()).expect("a frame has a length").to_be_bytes());
                received.extend_from_slice(frame);
                Some(Input::Received { link: *link, bytes: &received })
            }
        };
        let due = app.engine.step(input, Some(&mut bytes), Some(&app.waker), &mut actions);
        let line = app.line;
        // Bytes belong to the connection there was.
        if let Some(key) = line.and_then(|l| l.key) {
            let mut rest = &bytes[..];
            while let Some((len, behind)) = rest.split_first_chunk::<4>() {
                let len = usize::try_from(i32::from_be_bytes(*len)).expect("a client's frame has a length");
                let (frame, next) = behind.split_at(len);
                self.send(key, 1, Message::Payload(Bytes::copy_from_slice(frame)));
                rest = next;
            }
        }
        for action in actions {
            match action {
                Action::Hangup => self.app_hangs_up(n),
                Action::Dial { link, host, within } => {
                    self.app_hangs_up(n);
                    self.app_dials(n, link, &host.name, within);
                }
                Action::Probe { .. } => unreachable!("only who may read only looks for somebody better"),
            }
        }
        if due < Time::MAX {
            self.arm(n, due.as_nanos().div_ceil(1000).max(self.now));
        }
    }

    fn arm(&mut self, n: usize, due: u64) {
        let Some(apps) = &mut self.apps else { return };
        let armed = &mut apps.all[n].armed;
        if armed.is_none_or(|armed| due < armed) {
            *armed = Some(due);
            self.queue.plan(due, Event::App { app: n, event: AppEvent::Timer });
        }
    }

    fn app_dials(&mut self, n: usize, link: LinkId, host: &str, within: std::time::Duration) {
        let id = self.app_id(n);
        let Some(apps) = &mut self.apps else { return };
        let app = &mut apps.all[n];
        let dial = DialId(app.dials);
        app.dials += 1;
        app.line = Some(Line { link, dial, key: None });
        let server = host.strip_prefix('s').and_then(|n| n.parse().ok()).map(ServerId).expect("hosts are named so");
        let (here, there) = (Party::Client(id, dial), Party::Server(server));
        let heard = self.net.connects(here, there) && self.machine(server).powered;
        let patience = Self::dial_patience(u64::try_from(within.as_micros()).ok());
        let wait = if heard { self.trip(here, there) + self.trip(there, here) } else { patience };
        let event = AppEvent::Dialled { dial, server, answered: heard && wait <= patience };
        self.queue.plan(self.now + wait.min(patience), Event::App { app: n, event });
    }

    fn app_hangs_up(&mut self, n: usize) {
        let id = self.app_id(n);
        let Some(apps) = &mut self.apps else { return };
        if let Some(line) = apps.all[n].line.take()
            && let Some(key) = self.dials.remove(&(id, line.dial))
        {
            self.close(key, 0);
        }
    }

    fn line_of(&self, n: usize, dial: DialId) -> Option<Line> {
        self.apps.as_ref()?.all[n].line.filter(|line| line.dial == dial)
    }

    /// Something of a program's own.
    pub(crate) fn app_event(&mut self, n: usize, event: AppEvent) {
        match event {
            AppEvent::Timer => {
                if let Some(apps) = &mut self.apps {
                    let armed = &mut apps.all[n].armed;
                    if armed.is_some_and(|at| at <= self.now) {
                        *armed = None;
                    }
                }
                self.app_step(n, Given::Nothing);
            }
            AppEvent::Dialled { dial, server, answered } => self.app_dialled(n, dial, server, answered),
            AppEvent::Paused(paused) => self.app_paused(n, paused),
        }
    }

    fn app_dialled(&mut self, n: usize, dial: DialId, server: ServerId, answered: bool) {
        let Some(line) = self.line_of(n, dial) else { return };
        let id = self.app_id(n);
        let (here, there) = (Party::Client(id, dial), Party::Server(server));
        let stands = answered && self.machine(server).process.is_some() && self.net.connects(here, there);
        if !stands {
            return self.app_step(n, Given::Lost(line.link));
        }
        let key = self.open(ConnKind::Client, here, there);
        self.dials.insert((id, dial), key);
        if let Some(line) = self.apps.as_mut().and_then(|apps| apps.all[n].line.as_mut()) {
            line.key = Some(key);
        }
        self.send(key, 1, Message::Hello);
        self.app_step(n, Given::Connected(line.link));
    }

    /// Something arrives for a program.
    pub(crate) fn message_for_app(&mut self, n: usize, dial: DialId, message: Message) {
        let line = self.line_of(n, dial);
        match message {
            Message::Payload(frame) => {
                if let Some(line) = line {
                    self.app_step(n, Given::Frame(line.link, frame));
                }
            }
            Message::Fin => {
                let id = self.app_id(n);
                self.dials.remove(&(id, dial));
                if let Some(line) = line {
                    if let Some(apps) = &mut self.apps {
                        apps.all[n].line = None;
                    }
                    self.app_step(n, Given::Lost(line.link));
                }
            }
            Message::Hello | Message::Piece(_) => unreachable!("servers send clients frames"),
        }
    }

    /// A program is scheduled no more, or again: then it gets what came meanwhile, in its order.
    fn app_paused(&mut self, n: usize, paused: bool) {
        let Some(apps) = &mut self.apps else { return };
        let app = &mut apps.all[n];
        app.paused = paused;
        self.transcript.line(self.now, || format!("program {n} {}", if paused { "stands still" } else { "goes on" }));
        if paused {
            return;
        }
        let waiting = std::mem::take(&mut app.waiting);
        for given in waiting {
            self.app_step(n, given);
        }
        self.app_step(n, Given::Nothing);
    }

    /// A program's process stands still for a while.
    pub(crate) fn plan_pause(&mut self, n: usize, at: u64, lasts: u64) {
        self.queue.plan(at, Event::App { app: n, event: AppEvent::Paused(true) });
        self.queue.plan(at + lasts, Event::App { app: n, event: AppEvent::Paused(false) });
    }

    /// Programs begin.
    pub(crate) fn start_apps(&mut self) {
        for n in 0..self.apps.as_ref().map_or(0, Apps::len) {
            self.queue.plan(self.now, Event::App { app: n, event: AppEvent::Timer });
        }
    }

    /// A client that a fault may hit, programs among them.
    pub(crate) fn any_client(&self, size: u64) -> ClientId {
        let all = self.people.len() + self.apps.as_ref().map_or(0, Apps::len);
        ClientId(u32::try_from(size % all as u64).expect("few clients"))
    }
}
