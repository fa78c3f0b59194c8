//! The world: every machine, client and connection, one clock and one queue of events.

use super::event::{Event, Task};
use super::guests::Company;
use super::machine::Machine;
use super::net::{ConnKey, Net};
use super::people::Person;
use super::queue::Queue;
use super::transcript::Transcript;
use crate::check::{Checkers, Setup, Voter};
use crate::observe::{ClientId, Fault, FaultId, Moment, Observation, Phase, ServerEvent, What};
use crate::plan::Plan;
use crate::random::Random;
use crate::tally::Tally;
use farrier_proto::ServerId;
use farrier_tree::TreeConfig;
use farrier_zab::Ensemble;
use std::collections::BTreeMap;

/// Sources of chance, one for each part of the world.
pub(crate) struct Randoms {
    pub(crate) net: Random,
    pub(crate) disk: Random,
    pub(crate) process: Random,
    pub(crate) fault: Random,
    pub(crate) probe: Random,
}

/// Why a run is a failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The checker, `panic` for an assertion of the product, or `engine` for what the engine itself demands.
    pub by: String,
    /// When.
    pub at: Moment,
    /// What happened.
    pub what: String,
}

/// Everything.
pub(crate) struct World {
    pub(crate) plan: Plan,
    /// Microseconds since the run began.
    pub(crate) now: u64,
    pub(crate) queue: Queue<Event>,
    pub(crate) random: Randoms,
    pub(crate) machines: Vec<Machine>,
    pub(crate) net: Net,
    pub(crate) people: Vec<Person>,
    pub(crate) guests: Company,
    pub(crate) dials: BTreeMap<(ClientId, crate::observe::DialId), ConnKey>,
    pub(crate) ensemble: Ensemble,
    pub(crate) transcript: Transcript,
    pub(crate) checkers: Checkers,
    pub(crate) tally: Tally,
    pub(crate) failure: Option<Failure>,
    pub(crate) faults: super::faults::Faults,
}

impl World {
    pub(crate) fn new(plan: Plan, keep_transcript: bool) -> Self {
        let mut random = Random::new(plan.seed).fork("world");
        let ensemble = Ensemble::of(&plan.member_list()).expect("a plan's members are an ensemble");
        let machines = plan.members.iter().map(|m| Machine::new(m.id, &plan.servers, random.fork("machine"))).collect();
        let voters = plan.members.iter().filter(|m| !m.observer);
        let setup = Setup {
            voters: voters
                .map(|m| Voter { id: m.id, group: m.group.unwrap_or(0).unsigned_abs(), weight: m.weight })
                .collect(),
            observers: plan.members.iter().filter(|m| m.observer).map(|m| m.id).collect(),
            tick_ms: plan.servers.tick_ms,
        };
        let servers: Vec<ServerId> = plan.members.iter().map(|m| m.id).collect();
        let people = plan.clients.iter().zip(0..).map(|(c, n)| Person::new(ClientId(n), c, &servers)).collect();
        Self {
            now: 0,
            queue: Queue::default(),
            random: Randoms {
                net: random.fork("net"),
                disk: random.fork("disk"),
                process: random.fork("process"),
                fault: random.fork("fault"),
                probe: random.fork("probe"),
            },
            machines,
            net: Net::default(),
            people,
            guests: Company::default(),
            dials: BTreeMap::new(),
            ensemble,
            transcript: Transcript::new(keep_transcript),
            checkers: Checkers::new(&setup),
            tally: Tally::default(),
            failure: None,
            faults: super::faults::Faults::default(),
            plan,
        }
    }

    pub(crate) const fn moment(&self) -> Moment {
        Moment(self.now)
    }

    pub(crate) fn machine(&self, id: ServerId) -> &Machine {
        self.machines.iter().find(|m| m.id == id).expect("a member")
    }

    pub(crate) fn machine_mut(&mut self, id: ServerId) -> &mut Machine {
        self.machines.iter_mut().find(|m| m.id == id).expect("a member")
    }

    pub(crate) const fn tree_config(&self) -> TreeConfig {
        TreeConfig { extended_types: true, ttl_353: false, digest: true, list_closed: true, enforce_quota: false }
    }

    /// Plans something for the process that runs on a machine now.
    pub(crate) fn plan_task(&mut self, server: ServerId, after: u64, task: Task) {
        if let Some(life) = self.machine(server).process.as_ref().map(|p| p.life) {
            self.queue.plan(self.now + after, Event::Process { server, life, task });
        }
    }

    /// Tells an observation to the checkers, the tally and the transcript.
    pub(crate) fn tell(&mut self, what: What) {
        let at = self.moment();
        self.transcript.line(self.now, || super::describe::observation(&what));
        self.tally.count(&what);
        let observation = Observation { at, what };
        if self.failure.is_none()
            && let Err(violation) = self.checkers.observe(&observation)
        {
            self.fail(violation.checker, violation.what);
        }
    }

    pub(crate) fn tell_server(&mut self, server: ServerId, event: ServerEvent) {
        self.tell(What::Server(server, event));
    }

    /// The run is a failure; the first one counts.
    pub(crate) fn fail(&mut self, by: &str, what: String) {
        let at = self.moment();
        self.transcript.line(self.now, || format!("FAILURE {by}: {what}"));
        self.failure.get_or_insert_with(|| Failure { by: by.to_owned(), at, what });
    }

    /// Something that can't be if engine and product do what they should.
    pub(crate) fn engine_fails(&mut self, what: String) {
        self.fail("engine", what);
    }

    /// A fault that is over at once.
    pub(crate) fn tell_fault(&mut self, fault: Fault) {
        let id = self.tell_fault_began(fault);
        self.tell(What::FaultEnded(id));
    }

    /// A fault that lasts.
    pub(crate) fn tell_fault_began(&mut self, fault: Fault) -> FaultId {
        let id = self.faults.name();
        self.tell(What::FaultBegan(id, fault));
        id
    }

    pub(crate) fn tell_phase(&mut self, phase: Phase) {
        self.tell(What::Phase(phase));
    }

    /// Lets everything happen up to a moment, in microseconds, unless the run fails before.
    pub(crate) fn run_until(&mut self, end: u64) {
        while self.failure.is_none()
            && let Some(at) = self.queue.next_at().filter(|at| *at <= end)
        {
            let (_, event) = self.queue.next().expect("there is one");
            self.now = at;
            self.happen(event);
        }
        if self.failure.is_none() {
            self.now = self.now.max(end);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { conn, to } => self.deliver(conn, to),
            Event::Flushed { conn, end } => self.flushed(conn, end),
            Event::Process { server, life, task } => {
                let machine = self.machine_mut(server);
                if machine.process.as_ref().is_none_or(|p| p.life != life) {
                    return;
                }
                if machine.pauses > 0 {
                    return machine.deferred.push(event);
                }
                self.do_task(server, task);
            }
            Event::Start { server, planned } => {
                let machine = self.machine(server);
                if machine.process.is_none() && machine.start_planned == planned {
                    self.start(server);
                }
            }
            Event::ClientTimer { client } => self.client_timer(client),
            Event::ClientDialled { client, dial, server, answered } => {
                self.client_dialled(client, dial, server, answered);
            }
            Event::Guest { guest, event } => self.guest_event(guest, event),
            Event::FaultBegins(index) => self.fault_begins(index),
            Event::FaultEnds(index) => self.fault_ends(index),
            Event::ClientsCut(index) => self.cut_clients(index),
            Event::ClientsReady(index) => self.clients_ready(index),
            Event::ClientsBack(index) => self.clients_back(index),
        }
    }
}
