//! Recipes under faults: programs with the real client and the real recipes, on a simulated ensemble whose servers crash,
//! are cut off and come back, while the programs themselves stand still at times and lose their connections.
//!
//! What they believe and what was done is told to a [`Referee`], who knows what each recipe promises.

mod programs;
mod referee;

use crate::engine::{Apps, World};
use crate::observe::Phase;
use crate::plan::Plan;
use crate::random::Random;
use crate::run::Outcome;
use farrier_client::Client;
use referee::Referee;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Until then there are faults. Milliseconds.
const FAULTS_MS: u64 = 60_000;

/// Programs do everything once more within this, when nothing hinders them. Microseconds.
const SERVICE_US: u64 = 180_000_000;

/// All end within this. Microseconds.
const END_US: u64 = 120_000_000;

/// Paths of what they contend for.
const LOCK: &str = "/app/lock";
const ELECTION: &str = "/app/leader";
const QUEUE: &str = "/app/queue";
const COUNTER: &str = "/app/counter";
/// What is written under the lock: its holder's token.
const REGISTER: &str = "/app/register";

/// Runs the programs of a seed.
#[must_use]
pub fn run(seed: u64, keep_transcript: bool) -> Outcome {
    crate::run::catch(World::new(plan_of(seed), keep_transcript), |world| play(world, seed))
}

/// The ensemble and its faults are those of the seed; only one other client is there, for company.
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

fn play(world: &mut World, seed: u64) {
    let mut random = Random::new(seed).fork("recipes");
    let referee = Arc::new(Mutex::new(Referee::default()));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let judge = Arc::clone(&referee);
    let mut apps = Apps::new(Box::new(move |now| judge.lock().expect("nobody panics while judging").judge(now)));
    let hosts: Vec<String> = world.plan.members.iter().map(|m| format!("s{}:2181", m.id.0)).collect();
    // The lease needs three ticks to be sure; see docs/recipes.md.
    let tick = world.plan.servers.tick_ms;
    let kinds = programs::draw(&mut random);
    for kind in kinds {
        let timeout = Duration::from_millis(tick * random.between(3, 12));
        let builder = Client::builder(&hosts.join(",")).session_timeout(timeout);
        let (chance, seed) = (random.fork("program"), random.draw());
        let program =
            programs::Program { kind, referee: Arc::clone(&referee), stopped: stopped.clone(), random: chance };
        apps.add(builder, seed, |client| program.run(client));
    }
    let programs = apps.len();
    world.apps = Some(apps);
    world.begin();
    world.start_apps();
    for n in 0..programs {
        for _ in 0..random.below(5) {
            // Some stand still for longer than their session lives.
            let at = random.below(FAULTS_MS * 1000);
            let lasts = random.below(tick * 15_000);
            world.plan_pause(n, at, lasts.min(FAULTS_MS * 1000 - at));
        }
    }
    world.run_until(FAULTS_MS * 1000);
    if !world.heals() {
        return;
    }
    let about = |referee: &Mutex<Referee>| referee.lock().expect("nobody panics while judging").unserved(programs);
    referee.lock().expect("nobody panics while judging").begin_service();
    if !world.run_while(world.now + SERVICE_US, |_| about(&referee).is_some()) {
        let what = about(&referee).unwrap_or_default();
        world.fail("recipes", format!("nothing hinders anybody for {} s, and {what}", SERVICE_US / 1_000_000));
    }
    // Whoever has a receiver hears it; and it is theirs alone to look at it.
    let _ = stop.send(true);
    world.start_apps();
    if !world.run_while(world.now + END_US, |w| !w.apps.as_ref().is_some_and(Apps::have_ended)) {
        world.fail("recipes", format!("{} s after they were asked to end not all programs have", END_US / 1_000_000));
    }
    if !world.comes_to_rest() {
        return;
    }
    let left: Vec<String> = [LOCK, ELECTION].iter().flat_map(|path| world.children(path)).collect();
    if !left.is_empty() {
        world.fail("recipes", format!("all are gone, and left {left:?} behind"));
    }
    let (items, count) = (world.children(&format!("{QUEUE}/entries")), world.data(COUNTER));
    let verdict = referee.lock().expect("nobody panics while judging").finish(items.len(), count.as_deref());
    if let Err(what) = verdict {
        world.fail("recipes", what);
    }
    let done = referee.lock().expect("nobody panics while judging").describe();
    world.transcript.line(world.now, || done.clone());
    world.tell_phase(Phase::Settled);
}
