//! Recipes under faults: programs with the real client and the real recipes, on a simulated ensemble whose servers crash,
//! are cut off and come back, while the programs themselves stand still at times and lose their connections.
//!
//! What they believe and what was done is told to a referee, who knows what each recipe promises. The world is
//! `farrier-sim`'s; here is what makes guests of programs: an engine of `farrier-client` each, and a runtime on which their
//! tasks run to the end of what they can do, whenever one of them was given something.

mod programs;
mod referee;

use farrier_client::{Action, Client, ClientBuilder, Clock, Engine, Input, LinkId, Time};
use farrier_proto::ServerId;
use farrier_sim::guest::{self, Given, Guests, Left, Pause, Wish};
use farrier_sim::observe::DialId;
use farrier_sim::plan::Plan;
use farrier_sim::random::Random;
use farrier_sim::run::Outcome;
use programs::Program;
use referee::Referee;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Wake, Waker};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Until then there are faults. Milliseconds.
const FAULTS_MS: u64 = 60_000;

/// Turns that tasks get in a row: as many as the longest chain of tasks that wake each other needs, and more.
const TURNS: usize = 16;

/// Runs the programs of a seed.
#[must_use]
pub fn run(seed: u64, keep_transcript: bool) -> Outcome {
    let plan = plan_of(seed);
    let mut random = Random::new(seed).fork("recipes");
    let hosts: Vec<String> = plan.members.iter().map(|m| format!("s{}:2181", m.id.0)).collect();
    let tick = plan.servers.tick_ms;
    let mut programs = Programs::new();
    for kind in programs::draw(&mut random) {
        // The lease needs three ticks to be sure; see docs/recipes.md.
        let timeout = Duration::from_millis(tick * random.between(3, 12));
        programs.add(Client::builder(&hosts.join(",")).session_timeout(timeout), kind, &mut random);
    }
    let mut pauses = Vec::new();
    for guest in 0..programs.len() {
        for _ in 0..random.below(5) {
            // Some stand still for longer than their session lives.
            let at = random.below(FAULTS_MS * 1000);
            let lasts = random.below(tick * 15_000).min(FAULTS_MS * 1000 - at);
            pauses.push(Pause { guest, at, lasts });
        }
    }
    guest::run(plan, Box::new(programs), &pauses, keep_transcript)
}

/// The ensemble and its faults are those of the seed; one other client is there, for company.
fn plan_of(seed: u64) -> Plan {
    let mut plan = Plan::draw(seed);
    plan.clients.truncate(1);
    plan.safety_ms = FAULTS_MS;
    plan.faults.retain(|fault| fault.at_ms + 2_000 < FAULTS_MS);
    for fault in &mut plan.faults {
        fault.lasts_ms = fault.lasts_ms.min(FAULTS_MS - fault.at_ms);
    }
    plan.txns_min = 0;
    plan
}

/// The one clock of all programs.
#[derive(Debug, Default)]
struct WorldClock(AtomicU64);

impl Clock for WorldClock {
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

/// One program, as far as it is a client.
struct Guest {
    engine: Engine,
    /// The connection that it has, or wants, by both of its names.
    line: Option<(LinkId, DialId)>,
    dials: u32,
    flag: Arc<Flag>,
    waker: Waker,
}

/// All programs.
struct Programs {
    guests: Vec<Guest>,
    clock: Arc<WorldClock>,
    runtime: Runtime,
    referee: Arc<Mutex<Referee>>,
    stop: watch::Sender<bool>,
}

impl Programs {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime without input and output");
        let (referee, stop) = (Arc::default(), watch::Sender::new(false));
        Self { guests: Vec::new(), clock: Arc::default(), runtime, referee, stop }
    }

    fn add(&mut self, builder: ClientBuilder, kind: programs::Kind, random: &mut Random) {
        let clock = Arc::clone(&self.clock);
        let (client, engine) = builder.detached(clock, random.draw()).expect("a connect string of our own");
        let program = Program {
            who: self.guests.len(),
            kind,
            referee: Arc::clone(&self.referee),
            stopped: self.stop.subscribe(),
            random: random.fork("program"),
        };
        self.runtime.spawn(program.run(client));
        let flag = Arc::<Flag>::default();
        let waker = Waker::from(Arc::clone(&flag));
        self.guests.push(Guest { engine, line: None, dials: 0, flag, waker });
    }

    fn referee(&self) -> MutexGuard<'_, Referee> {
        self.referee.lock().expect("nobody panics while judging")
    }
}

/// The server of a host, as [`run`] names them.
fn server(host: &str) -> ServerId {
    ServerId(host.strip_prefix('s').and_then(|n| n.parse().ok()).expect("hosts are named so"))
}

impl Guests for Programs {
    fn len(&self) -> usize {
        self.guests.len()
    }

    fn step(&mut self, guest: usize, now: u64, given: Given, wishes: &mut Vec<Wish>) -> Option<u64> {
        self.clock.0.store(now * 1000, Ordering::Relaxed);
        let guest = &mut self.guests[guest];
        let link = |dial: DialId| guest.line.filter(|(_, d)| *d == dial).map(|(link, _)| link);
        let mut received = Vec::new();
        let input = match given {
            Given::Time => None,
            Given::Connected(dial) => link(dial).map(|link| Input::Connected { link }),
            Given::Lost(dial) => link(dial).map(|link| Input::Lost { link, reason: "the other end is gone" }),
            Given::Frame(dial, frame) => {
                received.extend_from_slice(&i32::try_from(frame.len()).expect("a frame has a length").to_be_bytes());
                received.extend_from_slice(&frame);
                link(dial).map(|link| Input::Received { link, bytes: &received })
            }
        };
        let (mut bytes, mut actions) = (Vec::new(), Vec::new());
        let due = guest.engine.step(input, Some(&mut bytes), Some(&guest.waker), &mut actions);
        let mut rest = &bytes[..];
        while let Some((len, behind)) = rest.split_first_chunk::<4>() {
            let len = usize::try_from(i32::from_be_bytes(*len)).expect("a client's frame has a length");
            let (frame, next) = behind.split_at(len);
            wishes.push(Wish::Send(frame.to_vec().into()));
            rest = next;
        }
        for action in actions {
            match action {
                Action::Hangup => {
                    guest.line = None;
                    wishes.push(Wish::Hangup);
                }
                Action::Dial { link, host, within } => {
                    let dial = DialId(guest.dials);
                    guest.dials += 1;
                    guest.line = Some((link, dial));
                    let within_us = u64::try_from(within.as_micros()).unwrap_or(u64::MAX);
                    wishes.push(Wish::Dial { dial, server: server(&host.name), within_us });
                }
                Action::Probe { .. } => unreachable!("only who may read only looks for somebody better"),
            }
        }
        (due < Time::MAX).then(|| due.as_nanos().div_ceil(1000))
    }

    fn work(&mut self, is_awake: &dyn Fn(usize) -> bool) -> Option<usize> {
        self.runtime.block_on(async {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        });
        (0..self.guests.len()).find(|n| is_awake(*n) && self.guests[*n].flag.0.swap(false, Ordering::Relaxed))
    }

    fn judge(&mut self) -> Result<(), String> {
        self.referee().judge()
    }

    fn begin_service(&mut self) {
        self.referee().begin_service();
    }

    fn unserved(&self) -> Option<String> {
        self.referee().unserved(self.guests.len())
    }

    fn stop(&mut self) {
        self.stop.send_replace(true);
    }

    fn have_ended(&self) -> bool {
        self.guests.iter().all(|guest| guest.engine.has_ended())
    }

    fn finish(&mut self, left: &dyn Left) -> Result<String, String> {
        self.referee().finish(left)
    }
}
