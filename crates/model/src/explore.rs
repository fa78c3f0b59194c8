//! The search: every state once.

use crate::Bounds;
use crate::check::Violation;
use crate::state::{Action, State};
use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// Parts of the set of states, each with a lock of its own. A power of two.
const SHARDS: usize = 64;

/// A thread that has more states than this to go on from gives some to those that have none.
const SHARE_ABOVE: usize = 64;

/// How the search is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Threads.
    pub threads: usize,
    /// States beyond which it is cut short.
    pub states_max: u64,
    /// Shortest paths first, in one thread. Takes much more memory.
    pub breadth_first: bool,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Different states.
    pub states: u64,
    /// Ways from one to the next, of which all were tried.
    pub transitions: u64,
    /// The most that happened on the way to a state, as it was found.
    pub depth: u64,
    /// Whether no state within the bounds was left out.
    pub complete: bool,
    /// Kinds of packets and writes that arrived or became durable on the way.
    pub seen: BTreeSet<&'static str>,
    /// A state in which a property does not hold, and how to get there.
    pub violation: Option<(Violation, Vec<String>)>,
}

/// How a state was found.
struct Way {
    action: Action,
    before: Option<Arc<Self>>,
    depth: u64,
}

struct Node {
    state: State,
    way: Option<Arc<Way>>,
}

/// Fingerprints are random enough.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("fingerprints are numbers");
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

type Fingerprints = hashbrown::HashSet<u64, BuildHasherDefault<Identity>>;

struct Search<'s> {
    states_seen: Vec<Mutex<Fingerprints>>,
    open: Mutex<VecDeque<Node>>,
    given: Condvar,
    /// Threads without anything to do.
    idle: AtomicUsize,
    threads: usize,
    stop: AtomicBool,
    states: AtomicU64,
    transitions: AtomicU64,
    depth: AtomicU64,
    seen_kinds: Mutex<BTreeSet<&'static str>>,
    found: Mutex<Option<(Violation, Arc<Way>)>>,
    limits: Limits,
    cut_short: &'s (dyn Fn(u64) -> bool + Sync),
}

/// Visits every state within the bounds. `cut_short` is asked now and then, with the number of states so far, whether
/// it takes too long.
#[must_use]
pub fn explore(bounds: &Bounds, limits: Limits, cut_short: &(dyn Fn(u64) -> bool + Sync)) -> Outcome {
    let initial = match State::initial(bounds) {
        Ok(initial) => initial,
        Err(violation) => {
            let violation = Some((violation, Vec::new()));
            return Outcome { states: 0, transitions: 0, depth: 0, complete: false, seen: BTreeSet::new(), violation };
        }
    };
    let threads = if limits.breadth_first { 1 } else { limits.threads.max(1) };
    let search = Search {
        states_seen: (0..SHARDS).map(|_| Mutex::default()).collect(),
        open: Mutex::default(),
        given: Condvar::new(),
        idle: AtomicUsize::new(0),
        threads,
        stop: AtomicBool::new(false),
        states: AtomicU64::new(0),
        transitions: AtomicU64::new(0),
        depth: AtomicU64::new(0),
        seen_kinds: Mutex::default(),
        found: Mutex::default(),
        limits,
        cut_short,
    };
    search.is_new(&initial);
    search.open.lock().expect("no thread panics").push_back(Node { state: initial.clone(), way: None });
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| search.run());
        }
    });
    let found = search.found.into_inner().expect("no thread panicked");
    let complete = !search.stop.into_inner();
    Outcome {
        states: search.states.into_inner(),
        transitions: search.transitions.into_inner(),
        depth: search.depth.into_inner(),
        complete,
        seen: search.seen_kinds.into_inner().expect("no thread panicked"),
        violation: found.map(|(violation, way)| (violation, tell(&initial, &way))),
    }
}

impl Search<'_> {
    fn run(&self) {
        let mut kinds = BTreeSet::new();
        self.search(&mut kinds);
        self.seen_kinds.lock().expect("no thread panics").append(&mut kinds);
    }

    fn search(&self, kinds: &mut BTreeSet<&'static str>) {
        let mut mine = VecDeque::new();
        loop {
            let next = if self.limits.breadth_first { mine.pop_front() } else { mine.pop_back() };
            let Some(node) = next.or_else(|| self.get()) else { return };
            self.visit(&node, &mut mine, kinds);
            if self.stop.load(Ordering::Relaxed) {
                // Under the lock: between its look at the flag and its sleep another thread would not hear it.
                let open = self.open.lock().expect("no thread panics");
                self.given.notify_all();
                drop(open);
                return;
            }
            if mine.len() > SHARE_ABOVE && self.idle.load(Ordering::Relaxed) > 0 {
                // The oldest ones, from where there is most to be found.
                self.open.lock().expect("no thread panics").extend(mine.drain(..SHARE_ABOVE / 2));
                self.given.notify_all();
            }
        }
    }

    /// Something to go on from. `None` if there is nothing left anywhere.
    fn get(&self) -> Option<Node> {
        let mut open = self.open.lock().expect("no thread panics");
        self.idle.fetch_add(1, Ordering::Relaxed);
        loop {
            if let Some(node) = open.pop_front() {
                self.idle.fetch_sub(1, Ordering::Relaxed);
                return Some(node);
            }
            if self.idle.load(Ordering::Relaxed) == self.threads || self.stop.load(Ordering::Relaxed) {
                self.given.notify_all();
                return None;
            }
            open = self.given.wait(open).expect("no thread panics");
        }
    }

    fn visit(&self, node: &Node, mine: &mut VecDeque<Node>, kinds: &mut BTreeSet<&'static str>) {
        let depth = node.way.as_ref().map_or(0, |w| w.depth) + 1;
        let mut transitions = 0;
        node.state.actions(|action| {
            transitions += 1;
            kinds.extend(node.state.kind(action));
            let way = || Some(Arc::new(Way { action, before: node.way.clone(), depth }));
            match node.state.after(action) {
                Ok(state) => {
                    if self.is_new(&state) {
                        mine.push_back(Node { state, way: way() });
                    }
                }
                Err(violation) => {
                    let mut found = self.found.lock().expect("no thread panics");
                    if found.is_none() {
                        *found = way().map(|way| (violation, way));
                    }
                    self.stop.store(true, Ordering::Relaxed);
                }
            }
        });
        self.transitions.fetch_add(transitions, Ordering::Relaxed);
        self.depth.fetch_max(depth, Ordering::Relaxed);
    }

    fn is_new(&self, state: &State) -> bool {
        let fingerprint = state.fingerprint();
        let shard = &self.states_seen[fingerprint as usize % SHARDS];
        // The table inside takes the low and the highest bits.
        let inside = fingerprint.rotate_right(SHARDS.trailing_zeros());
        if !shard.lock().expect("no thread panics").insert(inside) {
            return false;
        }
        let states = self.states.fetch_add(1, Ordering::Relaxed) + 1;
        if states >= self.limits.states_max || (states.is_multiple_of(1 << 10) && (self.cut_short)(states)) {
            self.stop.store(true, Ordering::Relaxed);
        }
        true
    }
}

/// Goes the way again and says what happens on it.
fn tell(initial: &State, end: &Arc<Way>) -> Vec<String> {
    let mut actions = Vec::new();
    let mut way = Some(end);
    while let Some(w) = way {
        actions.push(w.action);
        way = w.before.as_ref();
    }
    let mut lines = Vec::new();
    let mut state = initial.clone();
    for action in actions.into_iter().rev() {
        lines.push(state.describe(action));
        if let Ok(next) = state.after(action) {
            state = next;
        }
    }
    lines
}
