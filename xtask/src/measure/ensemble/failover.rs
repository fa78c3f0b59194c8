//! How long writes stand still when the leader is killed.
//!
//! Two sessions write without a pause that counts: one on a survivor, one on the leader. The leader dies by
//! `kill -9`, the sessions go on elsewhere, and the server that was killed comes back before the next kill.

use super::super::note;
use super::super::process::Program;
use super::super::report::{Samples, Table, number, ratio};
use super::super::work::{Ledger, Paths};
use super::Options;
use super::members::{Ensemble, SERVERS};
use super::writer::{Ack, Done, Pace, RECONNECT, Watch, Writer};
use anyhow::{Context as _, Result, anyhow, ensure};
use std::thread::{Scope, ScopedJoinHandle, scope, sleep};
use std::time::{Duration, Instant};

/// Pause of a writer between two writes.
const PAUSE: Duration = Duration::from_millis(1);
/// Writing before the kill.
const BEFORE: Duration = Duration::from_millis(1500);
/// Acknowledgements of each writer after the kill until service counts as back.
const BACK: usize = 50;
/// How long writes are watched after service is back: a second election would be a gap too.
const AFTER: Duration = Duration::from_secs(1);
/// How long service may take to come back.
const BACK_MAX: Duration = Duration::from_secs(60);

/// The sessions, by the server that each is on when the leader dies.
const SESSIONS: [&str; 2] = ["on a survivor", "on the killed leader"];

struct Contestant {
    ensemble: Ensemble,
    ledger: Ledger,
    /// Milliseconds per session: when the leader died, and while it came back.
    died: [Samples; 2],
    returned: [Samples; 2],
    losses: [u32; 2],
}

/// Kills leaders; returns this part of the report.
pub(super) fn run(options: &Options, programs: &[Program]) -> Result<String> {
    let paths = Paths::new();
    let mut contestants = Vec::new();
    for program in programs {
        let mut ledger = Ledger::new();
        let ensemble = Ensemble::ready(program, options, &paths, &mut ledger)?;
        contestants.push(Contestant {
            ensemble,
            ledger,
            died: Default::default(),
            returned: Default::default(),
            losses: [0; 2],
        });
    }
    for kill in 1..=options.kills {
        // Who goes first alternates.
        let mut order: Vec<usize> = (0..contestants.len()).collect();
        if kill % 2 == 0 {
            order.reverse();
        }
        for index in order {
            let contestant = &mut contestants[index];
            one(contestant, options, &paths, kill)
                .with_context(|| contestant.ensemble.obituary())
                .with_context(|| format!("{}, kill {kill}", contestant.ensemble.name()))?;
        }
    }
    Ok(report(options, &contestants))
}

fn one(contestant: &mut Contestant, options: &Options, paths: &Paths, kill: u32) -> Result<()> {
    let ensemble = &mut contestant.ensemble;
    if kill > 1 && !ensemble.program().is_farrier() {
        // One of the processes is new.
        ensemble.warm(options.warm_again, paths, &mut contestant.ledger)?;
    }
    let leader = ensemble.wait_serving()?;
    let survivor = (leader + 1 + usize::try_from(kill)? % (SERVERS - 1)) % SERVERS;
    let servers: Vec<_> = (0..SERVERS).map(|index| ensemble.addr(index)).collect();
    let watches: [Watch; 2] = Default::default();
    let (died, returned, done) = scope(|scope| -> Result<_> {
        let writers: Vec<ScopedJoinHandle<'_, Result<Done>>> = [survivor, leader]
            .iter()
            .zip(&watches)
            .enumerate()
            .map(|(index, (first, watch))| {
                let name = format!("failover-{kill}-{index}");
                start(scope, Writer::new(&servers, *first, &name, Pace::After(PAUSE), watch))
            })
            .collect();
        let seen = watch(ensemble, leader, &watches);
        watches.iter().for_each(Watch::stop);
        let done: Result<Vec<Done>> = writers.into_iter().map(join).collect();
        // What became of a writer explains why the kill could not be watched to its end.
        let done = done?;
        let (died, returned) = seen?;
        Ok((died, returned, done))
    })?;
    for (index, done) in done.iter().enumerate() {
        contestant.losses[index] += done.losses;
        for addr in ensemble.addrs() {
            done.verify(addr).with_context(|| format!("the session {}", SESSIONS[index]))?;
        }
    }
    for index in 0..SESSIONS.len() {
        contestant.died[index].push(millis(died[index]));
        contestant.returned[index].push(millis(returned[index]));
    }
    note(&format!(
        "failover {:14} kill {kill:2} (server {}): longest gap {} ms {}, {} ms {}; {} and {} ms while it came back",
        ensemble.name(),
        leader + 1,
        number(millis(died[0])),
        SESSIONS[0],
        number(millis(died[1])),
        SESSIONS[1],
        number(millis(returned[0])),
        number(millis(returned[1])),
    ))
}

pub(super) fn start<'s>(scope: &'s Scope<'s, '_>, writer: Writer) -> ScopedJoinHandle<'s, Result<Done>> {
    scope.spawn(move || writer.run())
}

pub(super) fn join(writer: ScopedJoinHandle<'_, Result<Done>>) -> Result<Done> {
    writer.join().map_err(|_| anyhow!("a writer panicked"))?
}

/// Kills the leader and brings it back; returns the longest gap of each session after the kill, and from
/// the start of the new process until it has caught up.
fn watch(ensemble: &mut Ensemble, leader: usize, watches: &[Watch; 2]) -> Result<([Duration; 2], [Duration; 2])> {
    let begun = Instant::now();
    wait_acks(watches, begun)?;
    sleep(BEFORE.saturating_sub(begun.elapsed()));
    let killed = Instant::now();
    ensemble.kill(leader)?;
    wait_acks(watches, Instant::now())?;
    sleep(AFTER);
    let restarted = Instant::now();
    ensemble.spawn(leader)?;
    ensemble.wait_first_reply(leader)?;
    ensemble.wait_serving()?;
    sleep(AFTER);
    let end = Instant::now();
    let mut died = [Duration::ZERO; 2];
    let mut returned = [Duration::ZERO; 2];
    for (index, watch) in watches.iter().enumerate() {
        let acks = watch.acks()?;
        died[index] = longest_gap(&acks, killed, restarted);
        returned[index] = longest_gap(&acks, restarted, end);
    }
    Ok((died, returned))
}

/// Waits until every session writes again.
fn wait_acks(watches: &[Watch; 2], since: Instant) -> Result<()> {
    let deadline = Instant::now() + BACK_MAX;
    for (session, watch) in SESSIONS.iter().zip(watches) {
        while watch.count_since(since)? < BACK {
            ensure!(Instant::now() < deadline, "the session {session} makes no progress");
            sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

/// The longest time without an acknowledgement that reaches into the span.
fn longest_gap(acks: &[Ack], from: Instant, until: Instant) -> Duration {
    let mut last: Option<Instant> = None;
    let mut longest = Duration::ZERO;
    for at in acks.iter().map(|ack| ack.at).chain([until]) {
        let at = at.min(until);
        if at > from {
            longest = longest.max(at.saturating_duration_since(last.unwrap_or(from)));
        }
        last = Some(at);
    }
    longest
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn report(options: &Options, contestants: &[Contestant]) -> String {
    let mut table = Table::new(&[
        "session",
        "server",
        "longest gap when the leader dies, ms",
        "longest gap while it comes back, ms",
        "connections lost",
    ]);
    for (index, session) in SESSIONS.iter().enumerate() {
        for c in contestants {
            table.row(&[
                (*session).to_owned(),
                c.ensemble.name(),
                c.died[index].show(),
                c.returned[index].show(),
                c.losses[index].to_string(),
            ]);
        }
        if let [f, a] = contestants {
            let share = |f: &Samples, a: &Samples| ratio(f.median(), a.median());
            table.row(&[
                (*session).to_owned(),
                "Farrier : Apache".to_owned(),
                share(&f.died[index], &a.died[index]),
                share(&f.returned[index], &a.returned[index]),
                String::new(),
            ]);
        }
    }
    let mut text = format!(
        "\n## Failover\n\n{} kills of the leader by `kill -9`, median (least–most). Two sessions write, each write on the \
         condition of the version before, {} ms after the reply to the one before; a session that loses its connection \
         tries the next server at once and the others {} ms apart. The gap is the longest time between two \
         acknowledged writes of a session that reaches behind the kill. Apache gets {} s of load before each kill, \
         since one of its processes is new. After each kill every server shows every acknowledged write.\n\n{}",
        options.kills,
        PAUSE.as_millis(),
        RECONNECT.as_millis(),
        options.warm_again.as_secs(),
        table.text()
    );
    for c in contestants.iter().filter(|c| c.ensemble.program().is_farrier()) {
        // Apache warns about every connection that breaks.
        text.push_str(&c.ensemble.complaints());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_may_begin_before_the_span_and_be_open_at_its_end() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let acks: Vec<Ack> = [0, 50, 90, 300, 310].map(|ms| Ack { due: zero, at: at(ms) }).to_vec();
        let gap = |from, until| longest_gap(&acks, at(from), at(until)).as_millis();
        assert_eq!(gap(100, 320), 210);
        assert_eq!(gap(91, 95), 5);
        assert_eq!(gap(305, 400), 90);
        assert_eq!(gap(300, 312), 10);
        assert_eq!(gap(320, 330), 20);
        assert_eq!(longest_gap(&[], at(5), at(8)), Duration::from_millis(3));
    }
}
