//! How long writes stand still when the leader is killed.
//!
//! Two sessions write without a pause that counts: one on a survivor, one on the leader. The leader dies by
//! `kill -9`, the sessions go on elsewhere, and the server that was killed comes back before the next kill. A server that
//! has no others is killed under one session, which waits until it is back.
//!
//! What a server is and how it is killed is for [`Servers`] to say.

mod conn;
mod writer;

pub use writer::{Ack, Done, Pace, Running, Watch, Writer};

use crate::plan::Outcome;
use crate::process::cpu_time;
use crate::rows;
use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use std::net::SocketAddr;
use std::thread::{scope, sleep};
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
/// Time between two looks at writers and servers.
const LOOK: Duration = Duration::from_millis(10);

/// The sessions, by the server that each is on when the leader dies.
pub const SESSIONS: [&str; 2] = ["on a survivor", "on the killed leader"];

/// Servers of which one is killed and started again.
pub trait Servers {
    /// Where clients reach them, in the order of their places.
    fn addrs(&self) -> Vec<SocketAddr>;

    /// Waits until all of them serve under one leader; returns its place. A server alone is its own leader.
    ///
    /// # Errors
    ///
    /// They don't, or one has ended by itself.
    fn wait_leader(&mut self) -> Result<usize>;

    /// `kill -9`.
    ///
    /// # Errors
    ///
    /// The system refuses it.
    fn kill(&mut self, place: usize) -> Result<()>;

    /// Starts a server that was killed, and waits until it serves and has caught up.
    ///
    /// # Errors
    ///
    /// It doesn't.
    fn bring_back(&mut self, place: usize) -> Result<()>;

    /// Asked again and again while writes go on.
    ///
    /// # Errors
    ///
    /// There is no sense in going on.
    fn check(&mut self) -> Result<()>;
}

/// The longest time of a session without an acknowledgement.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// When the leader died. Where there are no others, until it was back.
    pub died: Duration,
    /// While it came back.
    pub returned: Duration,
}

/// The row: so many kills, each with a gap of each session in the latencies, and every write is looked for on every server.
/// What it writes lies below `root`, which exists, and is taken away. `told` hears after each kill how many there were.
///
/// # Errors
///
/// [`Servers`] fail, a server answers wrongly or not in time, or an acknowledged write is not there.
pub fn run(
    servers: &mut dyn Servers,
    kills: u32,
    root: &str,
    size: usize,
    told: &mut dyn FnMut(u32),
) -> Result<Outcome> {
    let (begun, cpu) = (Instant::now(), cpu_time(std::process::id())?);
    let mut latency = Histogram::new(3).context("a histogram")?;
    for kill in 1..=kills {
        let gaps = kill_leader(servers, kill, root, size).with_context(|| format!("kill {kill}"))?;
        for gap in &gaps {
            latency.record(u64::try_from(gap.died.as_micros())?.max(1)).context("a gap")?;
        }
        let paths: Vec<String> = (0..gaps.len()).map(|index| path(root, kill, index)).collect();
        rows::delete(&servers.addrs(), &paths, &mut |_, _| Ok(()))?;
        told(kill);
    }
    Ok(Outcome {
        count: kills.into(),
        elapsed: begun.elapsed(),
        latency,
        server_cpu: None,
        server_rss: None,
        server_rss_before: None,
        generator_cpu: cpu_time(std::process::id())?.saturating_sub(cpu),
        unsent: 0,
        is_verified: true,
    })
}

/// The znode that a session writes around a kill.
fn path(root: &str, kill: u32, session: usize) -> String {
    format!("{root}/failover-{kill}-{session}")
}

/// Kills the leader and brings it back, and looks on every server for what the sessions wrote below `root`; `kill` is the
/// number of this one. Returns the gaps of the sessions in the order of [`SESSIONS`]; where a server is alone, of the only
/// one.
///
/// # Errors
///
/// As [`run`].
pub fn kill_leader(servers: &mut dyn Servers, kill: u32, root: &str, size: usize) -> Result<Vec<Gap>> {
    let leader = servers.wait_leader()?;
    let addrs = servers.addrs();
    let places = sessions(leader, addrs.len(), kill)?;
    let watches: Vec<Watch> = places.iter().map(|_| Watch::default()).collect();
    let (gaps, done) = scope(|scope| -> Result<_> {
        let start = |(index, (first, watch)): (usize, (&(usize, &str), &Watch))| {
            Writer::new(&addrs, first.0, &path(root, kill, index), size, Pace::After(PAUSE), watch).start(scope)
        };
        let writers: Vec<Running<'_>> = places.iter().zip(&watches).enumerate().map(start).collect();
        let sessions = places.iter().map(|(_, name)| *name).zip(&watches).zip(&writers);
        let sessions: Vec<Session<'_>> =
            sessions.map(|((name, watch), writer)| Session { name, watch, writer }).collect();
        match watch(servers, leader, &sessions) {
            Ok(gaps) => {
                watches.iter().for_each(Watch::stop);
                let done: Result<Vec<Done>> = writers.into_iter().map(Running::join).collect();
                Ok((gaps, done?))
            }
            Err(error) => {
                // What became of a writer explains why the kill could not be watched to its end.
                let failed: Vec<bool> = writers.iter().map(Running::is_over).collect();
                watches.iter().for_each(Watch::abandon);
                for (writer, failed) in writers.into_iter().zip(failed) {
                    let ended = writer.join();
                    if failed {
                        ended.map(drop)?;
                    }
                }
                Err(error)
            }
        }
    })?;
    for ((_, session), done) in places.iter().zip(&done) {
        for addr in &addrs {
            done.verify(*addr).with_context(|| format!("the session {session}"))?;
        }
    }
    Ok(gaps)
}

/// Where each session begins.
fn sessions(leader: usize, servers: usize, kill: u32) -> Result<Vec<(usize, &'static str)>> {
    ensure!(leader < servers, "server {leader} of {servers} leads");
    let [survivor, killed] = SESSIONS;
    let mut places = vec![(leader, killed)];
    if servers > 1 {
        places.insert(0, ((leader + 1 + usize::try_from(kill)? % (servers - 1)) % servers, survivor));
    }
    Ok(places)
}

/// A session that is watched.
struct Session<'a> {
    name: &'static str,
    watch: &'a Watch,
    writer: &'a Running<'a>,
}

/// Kills the leader and brings it back; returns the longest gap of each session after the kill, and from
/// the start of the new process until it has caught up.
fn watch(servers: &mut dyn Servers, leader: usize, sessions: &[Session<'_>]) -> Result<Vec<Gap>> {
    let is_alone = servers.addrs().len() == 1;
    let begun = Instant::now();
    wait_acks(servers, sessions, begun)?;
    pass(servers, BEFORE.saturating_sub(begun.elapsed()))?;
    let killed = Instant::now();
    servers.kill(leader)?;
    if !is_alone {
        wait_acks(servers, sessions, Instant::now())?;
        pass(servers, AFTER)?;
    }
    let restarted = Instant::now();
    servers.bring_back(leader)?;
    if is_alone {
        wait_acks(servers, sessions, restarted)?;
    }
    pass(servers, AFTER)?;
    let end = Instant::now();
    sessions
        .iter()
        .map(|session| {
            let acks = session.watch.acks()?;
            let died = longest_gap(&acks, killed, if is_alone { end } else { restarted });
            Ok(Gap { died, returned: longest_gap(&acks, restarted, end) })
        })
        .collect()
}

/// Waits until every session writes again.
fn wait_acks(servers: &mut dyn Servers, sessions: &[Session<'_>], since: Instant) -> Result<()> {
    let deadline = Instant::now() + BACK_MAX;
    for Session { name, watch, writer } in sessions {
        while watch.count_since(since)? < BACK {
            ensure!(!writer.is_over(), "the session {name} has ended");
            ensure!(Instant::now() < deadline, "the session {name} makes no progress for {BACK_MAX:?}");
            servers.check()?;
            sleep(LOOK);
        }
    }
    Ok(())
}

/// Lets time pass.
fn pass(servers: &mut dyn Servers, span: Duration) -> Result<()> {
    let end = Instant::now() + span;
    loop {
        servers.check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        sleep(left.min(LOOK));
    }
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

    #[test]
    fn survivors_take_turns_and_a_server_alone_has_one_session() {
        let firsts = |leader, servers, kill| -> Vec<usize> {
            sessions(leader, servers, kill).expect("a leader").iter().map(|(first, _)| *first).collect()
        };
        assert_eq!(firsts(0, 1, 1), [0]);
        assert_eq!([firsts(1, 3, 1), firsts(1, 3, 2)], [[0, 1], [2, 1]]);
        assert_eq!([firsts(2, 3, 1), firsts(2, 3, 2)], [[1, 2], [0, 2]]);
        sessions(3, 3, 1).expect_err("there is no such server");
    }
}
