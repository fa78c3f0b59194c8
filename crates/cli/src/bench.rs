//! `farrier bench`: load on servers, and what it costs them.

mod servers;

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use farrier_bench::plan::{Outcome, Plan, Task};
use farrier_bench::process::cpu_time;
use farrier_bench::rows::{Kind, Ledger, Space, prepare_told};
use farrier_bench::{Pace, Progress, failover};
use farrier_client::{Client, ConnectString};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use self::servers::Servers;
use crate::delete::Subtree;
use crate::output::{FAILED, Failure, Out, complain, conclude};
use crate::session::{self, SessionOptions};
use crate::signals;
use crate::span::{self, HOUR};

const EXAMPLES: &str = "\
Examples:
  farrier bench
  farrier bench get set --connections 16 --depth 64 --seconds 5
  farrier bench set --rate 2000 --json
  farrier bench fanout --connections 1000
  farrier bench locks --connections 16 --pid 4711
  farrier bench failover --server localhost:2181,localhost:2182,localhost:2183 --start ./1.sh --start ./2.sh --start ./3.sh

Everything is written below /farrier-bench-ID, and removed afterwards. After set, mix, create, delete, multi and fill
every acknowledged write is read back on every server; ephemeral znodes are counted there while their sessions live,
and what fill created is counted again after every later row that writes. fanout fails where a watcher misses an event
or gets it twice, locks where two have the lock at once. Where a row fails or is interrupted, those before it are
told; another interrupt while everything is removed ends that, too. CPU and memory of the servers are told for those on this
machine whose --pid is given. A server that is not on this machine has users, perhaps: it needs --yes.

Each --start is a shell command that runs a server in the foreground, as in --start 'farrier server 1/zoo.cfg': one for
each server of --server, in that order. These servers run for all rows, and are ended behind them. failover kills
their leader and starts it again, --kills times; servers that others started are never killed. Its latencies are the
longest times without an acknowledged write: for each kill one of a session that was on the leader, and one of a
session on another server. The servers have to answer the four-letter word srvr, which tells who leads.

Exit codes: 0 done, 1 refused, an answer was wrong, or a server of --start failed, 2 usage, 3 no server.";

/// The shortest row that tells anything.
const SECOND: Duration = Duration::from_secs(1);

/// Seconds of every row that do not count.
const RAMP: Duration = Duration::from_millis(500);

/// Between two looks whether somebody asks to stop.
const LOOK: Duration = Duration::from_millis(100);

/// Addresses of one name that are tried, and how long each.
const ADDRESSES_MAX: usize = 16;
const DIAL_MAX: Duration = Duration::from_secs(1);

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Row {
    /// Read znodes
    Get,
    /// Write znodes
    Set,
    /// Nine reads, one write
    Mix,
    /// Create znodes
    Create,
    /// Delete --count znodes that were created before
    Delete,
    /// Create ephemeral sequential znodes
    Ephemeral,
    /// List a znode with 1,000 children
    Children,
    /// Ten writes in one multi
    Multi,
    /// Wait until a server has what was committed
    Sync,
    /// Watch events: all connections but one watch what that one writes
    Fanout,
    /// A lock that goes from hand to hand
    Locks,
    /// Sessions opened and closed
    Connect,
    /// Sessions that do nothing: --connections of them
    Idle,
    /// Create --count znodes, and keep them until the end
    Fill,
    /// Kill the leader of servers from --start: how long writes stand still
    Failover,
}

impl Row {
    /// What the load generator does alone; killing servers is no part of it.
    const fn task(self) -> Option<Task> {
        Some(match self {
            Self::Get => Task::Row(Kind::Get),
            Self::Set => Task::Row(Kind::Set),
            Self::Mix => Task::Row(Kind::Mix),
            Self::Create => Task::Row(Kind::Create),
            Self::Delete => Task::Row(Kind::Delete),
            Self::Ephemeral => Task::Row(Kind::Ephemeral),
            Self::Children => Task::Row(Kind::Children),
            Self::Multi => Task::Row(Kind::Multi),
            Self::Sync => Task::Row(Kind::Sync),
            Self::Fanout => Task::Fanout,
            Self::Locks => Task::Locks,
            Self::Connect => Task::Connect,
            Self::Idle => Task::Idle,
            Self::Fill => Task::Fill,
            Self::Failover => return None,
        })
    }

    /// Whether --depth and --rate say how it asks; the others ask in a way of their own.
    const fn is_paced(self) -> bool {
        matches!(self.task(), Some(Task::Row(_)))
    }

    /// Whether its values are as long as --size says.
    const fn is_sized(self) -> bool {
        !matches!(self, Self::Children | Self::Sync | Self::Fanout | Self::Locks | Self::Connect | Self::Idle)
    }

    /// Whether it reads or writes the --keys.
    const fn is_keyed(self) -> bool {
        matches!(self, Self::Get | Self::Set | Self::Mix | Self::Multi)
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Options of `farrier bench`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// What to measure, in this order [default: get set mix create children multi]
    #[arg(value_name = "ROW")]
    rows: Vec<Row>,

    /// Connections, spread over the servers
    #[arg(short, long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,

    /// Requests outstanding on each connection, in the rows from `get` to `sync`
    #[arg(short, long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    depth: u16,

    /// So many requests per second over all connections, whatever the servers do; their time counts from when they were
    /// due. Where that is more than one each millisecond and connection, they are sent once in a millisecond, which is part
    /// of their time. What was due and could not be sent until the end counts with its time so far, and is told. Only for the
    /// rows from `get` to `sync`
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,

    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(12..=100_000))]
    size: u32,

    /// Znodes that are read and written
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: u32,

    /// Length of every row: seconds, or with a unit as in `5m`
    #[arg(short, long, value_name = "TIME", default_value = "5", allow_hyphen_values = true, value_parser = span::seconds(SECOND, HOUR))]
    seconds: Duration,

    /// Znodes of `delete` and `fill`
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: u32,

    /// Leaders that `failover` kills
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    kills: u32,

    /// Shell command that runs a server in the foreground (repeatable: one for each of --server, in that order)
    #[arg(long, value_name = "COMMAND")]
    start: Vec<String>,

    /// A server's process on this machine (repeatable)
    #[arg(long, value_name = "PID", conflicts_with = "start")]
    pid: Vec<u32>,

    /// Servers that are not on this machine, too
    #[arg(long)]
    yes: bool,

    /// One JSON object for each row
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionOptions,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    if let Some(row) = arguments.rows.iter().find(|row| arguments.rate.is_some() && !row.is_paced()) {
        let why = format!("{} has a pace of its own: leave --rate away, or measure it by itself", row.name());
        return conclude("bench", Err(Failure::usage(why)));
    }
    let (addrs, chroot) = match addresses(arguments) {
        Ok(found) => found,
        Err(error) => return conclude("bench", Err(error)),
    };
    if let Some(error) = arguments.pid.iter().find_map(|pid| unmeasurable(*pid)) {
        return conclude("bench", Err(error));
    }
    if arguments.start.is_empty() && arguments.rows.contains(&Row::Failover) {
        return conclude(
            "bench",
            Err(Failure::usage(
                "failover kills servers, and only those that it started: give the command of each with --start, in the order of --server",
            )),
        );
    }
    let stop = Arc::new(AtomicBool::new(false));
    if arguments.start.is_empty() {
        return drive(arguments, &addrs, &chroot, &stop, None).0;
    }
    let servers = match Servers::new(&arguments.start, &addrs, &stop) {
        Ok(servers) => Arc::new(Mutex::new(servers)),
        Err(error) => return conclude("bench", Err(error)),
    };
    // From now on signals end all of it in an orderly way.
    let begun = signals::flag(&stop).and_then(|()| held(&servers).start());
    let (code, went_well) = match begun {
        Ok(()) => drive(arguments, &addrs, &chroot, &stop, Some(&servers)),
        Err(error) => (conclude("bench", Err(error)), false),
    };
    held(&servers).end(went_well);
    code
}

/// Servers that rows and their ends share.
type Started = Arc<Mutex<Servers>>;

fn held(servers: &Mutex<Servers>) -> MutexGuard<'_, Servers> {
    servers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Measures in a session of its own; the exit code, and whether all went well.
fn drive(
    arguments: &Arguments,
    addrs: &[SocketAddr],
    chroot: &str,
    stop: &Arc<AtomicBool>,
    started: Option<&Started>,
) -> (ExitCode, bool) {
    let mut went_well = false;
    let code = session::run("bench", &arguments.session, async |client, out| {
        if started.is_none() {
            signals::flag(stop)?;
        }
        // Two at once are told apart by their sessions.
        let id = format!("{:x}", client.lease().context("the session is gone already")?.session.0);
        let root = format!("{chroot}/farrier-bench-{id}");
        let measured = measure(arguments, addrs, &root, stop, started, out).await;
        // Whatever became of it, nothing stays behind.
        let below = format!("/farrier-bench-{id}");
        let removed = unless_stopped(stop, remove(client, &below, &arguments.session)).await;
        let removed = removed.with_context(|| format!("{root} could not be removed: `farrier delete -r` does it"));
        let code = match (measured, removed) {
            (measured, Ok(())) => measured?,
            (Ok(_), Err(error)) => return Err(error),
            (Err(error), Err(left)) => {
                // What came first is told last, and says how all of it ended.
                complain("farrier bench: error", format_args!("{left:#}"));
                return Err(error);
            }
        };
        went_well = code == 0;
        Ok(code)
    });
    (code, went_well)
}

/// Does this, unless somebody asks to stop from now on. Whatever asked before is forgotten meanwhile.
async fn unless_stopped(stop: &AtomicBool, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let asked_before = stop.swap(false, Ordering::Relaxed);
    let asked = async {
        while !stop.load(Ordering::Relaxed) {
            sleep(LOOK).await;
        }
    };
    let done = tokio::select! {
        done = work => done,
        () = asked => Err(anyhow!("interrupted")),
    };
    stop.fetch_or(asked_before, Ordering::Relaxed);
    done
}

/// Why nothing can be learnt of a process.
fn unmeasurable(pid: u32) -> Option<anyhow::Error> {
    let error = cpu_time(pid).err()?;
    let gone = error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound);
    let why = if gone { "there is no such process on this machine".to_owned() } else { format!("{error:#}") };
    Some(Failure::usage(format!("--pid {pid}: {why}")))
}

/// The servers' addresses, and the path below which everything has to lie.
fn addresses(arguments: &Arguments) -> anyhow::Result<(Vec<SocketAddr>, String)> {
    if arguments.session.is_tls() {
        return Err(Failure::usage("bench speaks to servers without TLS only"));
    }
    let server = arguments.session.server();
    let connect: ConnectString = server.parse().map_err(farrier_client::Error::from)?;
    let mut addrs = Vec::new();
    for host in &connect.hosts {
        let found =
            (&*host.name, host.port).to_socket_addrs().map_err(|e| Failure::no_server(format!("{host}: {e}")))?;
        let found = reachable(found.take(ADDRESSES_MAX).collect());
        addrs.push(found.ok_or_else(|| Failure::no_server(format!("{host} has no address")))?);
    }
    if let Some(far) = addrs.iter().find(|addr| !addr.ip().is_loopback())
        && !arguments.yes
    {
        return Err(Failure::usage(format!(
            "{far} is not on this machine, and a load may hurt whoever uses it: add --yes if it may"
        )));
    }
    Ok((addrs, connect.chroot))
}

/// Where the server of a name is: the first of the name's addresses that takes a connection, as the client looks for it,
/// or the first of all if none does. IPv4 is tried first, since servers listen there first.
fn reachable(mut found: Vec<SocketAddr>) -> Option<SocketAddr> {
    found.sort_by_key(SocketAddr::is_ipv6);
    let takes = |address: &&SocketAddr| found.len() == 1 || TcpStream::connect_timeout(address, DIAL_MAX).is_ok();
    found.iter().find(takes).or_else(|| found.first()).copied()
}

/// Takes away what is left.
async fn remove(client: &Client, path: &str, session: &SessionOptions) -> anyhow::Result<()> {
    match Subtree::find(client, path, session).await {
        Ok(subtree) => subtree.delete(client).await.map(drop),
        Err(error) if error.downcast_ref::<farrier_client::Error>().is_some_and(|e| e.is_no_node()) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn measure(
    arguments: &Arguments,
    addrs: &[SocketAddr],
    root: &str,
    stop: &Arc<AtomicBool>,
    started: Option<&Started>,
    out: &mut Out,
) -> anyhow::Result<u8> {
    const USUAL: [Row; 6] = [Row::Get, Row::Set, Row::Mix, Row::Create, Row::Children, Row::Multi];
    let rows = if arguments.rows.is_empty() { USUAL.to_vec() } else { arguments.rows.clone() };
    let depth = usize::from(arguments.depth);
    let pace = match arguments.rate {
        None => Pace::Depth(depth),
        Some(rate) => Pace::Rate { per_second: f64::from(rate), depth_max: depth },
    };
    let plan = Plan {
        addrs: addrs.to_vec(),
        conns: arguments.connections,
        pace,
        ramp: RAMP,
        window: arguments.seconds,
        count: arguments.count,
        pids: arguments.pid.clone(),
    };
    let space =
        Space::new(root, arguments.keys.max(arguments.connections), arguments.connections, arguments.size as usize)
            .map_err(|error| Failure::usage(format!("{error:#}")))?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "row",
        "per second",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "server CPU µs",
        "server MB",
        "",
    ]);
    for column in 1..9 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let measured = measure_rows(arguments, &rows, &plan, &space, stop, started, out, &mut table).await;
    // What was measured is told, whatever became of the rest.
    if !arguments.json && !table.is_empty() {
        out.line(table.trim_fmt())?;
        out.flush()?;
    }
    measured
}

/// Measures row by row; each is in the table or printed as soon as it is done.
#[expect(clippy::too_many_arguments, reason = "one call")]
async fn measure_rows(
    arguments: &Arguments,
    rows: &[Row],
    plan: &Plan,
    space: &Space,
    stop: &Arc<AtomicBool>,
    started: Option<&Started>,
    out: &mut Out,
    table: &mut Table,
) -> anyhow::Result<u8> {
    let mut state = {
        let (addrs, space, stop) = (plan.addrs.clone(), space.clone(), stop.clone());
        let bar = bar("prepare", 0, "{msg} replies");
        let shown = bar.clone();
        let prepared = spawn_blocking(move || {
            let mut told = |_, count: u64| {
                shown.set_message(count.to_string());
                shown.tick();
                go_on(&stop)
            };
            prepare_told(&addrs, &space, &mut told)
        })
        .await?;
        bar.finish_and_clear();
        prepared?
    };
    for &row in rows {
        let bar = if row == Row::Failover {
            bar(&row.name(), arguments.kills.into(), "{pos} of {len} kills")
        } else if row == Row::Fill {
            bar(&row.name(), arguments.count.into(), "{pos} of {len} znodes")
        } else {
            bar(&row.name(), millis(RAMP + plan.window), "{msg} replies")
        };
        let (work, space, asked, shown) = (plan.clone(), space.clone(), stop.clone(), bar.clone());
        let (servers, root) = (started.cloned(), space.root().to_owned());
        let (kills, size) = (arguments.kills, arguments.size as usize);
        let (ledger, outcome) = spawn_blocking(move || {
            let mut ledger: Ledger = state;
            let mut servers = servers.as_deref().map(held);
            let outcome = match (row.task(), &mut servers) {
                (Some(task), servers) => {
                    let mut told = |elapsed: Duration, count: u64| {
                        let position = if row == Row::Fill { count } else { millis(elapsed) };
                        shown.set_position(position);
                        shown.set_message(count.to_string());
                        if let Some(servers) = servers {
                            servers.check()?;
                        }
                        go_on(&asked)
                    };
                    let progress: Progress<'_> = &mut told;
                    work.run(task, &space, &mut ledger, progress)
                }
                (None, Some(servers)) => {
                    shown.tick();
                    let mut told = |kill: u32| shown.set_position(kill.into());
                    failover::run(&mut **servers, kills, &root, size, &mut told)
                }
                (None, None) => Err(anyhow!("no server was started")),
            };
            // Where a server has ended, that says more than what it was in the middle of.
            let ended = servers.and_then(|mut servers| servers.check().err());
            (ledger, ended.map_or(outcome, Err))
        })
        .await?;
        bar.finish_and_clear();
        state = ledger;
        let outcome = outcome.with_context(|| row.name())?;
        if arguments.json {
            out.json(&object(row, arguments, &outcome))?;
            out.flush()?;
        } else {
            table.add_row(cells(row, &outcome));
        }
        if outcome.unsent > 0 {
            complain(
                "farrier bench: warning",
                format_args!(
                    "{}: {:.0} of {} requests per second were answered, and {} that were due at the end were never sent; \
                     their times end there",
                    row.name(),
                    outcome.rate(),
                    arguments.rate.unwrap_or_default(),
                    outcome.unsent,
                ),
            );
        }
        if outcome.is_generator_bound() {
            complain(
                "farrier bench: warning",
                format_args!(
                    "{}: this program used {:.0} % of its processor, so the servers may be faster than it can ask",
                    row.name(),
                    outcome.generator() * 100.0
                ),
            );
        }
        if stop.load(Ordering::Relaxed) {
            complain("farrier bench: error", "interrupted");
            return Ok(FAILED);
        }
    }
    Ok(0)
}

/// Ends what is being done once somebody asks to stop.
fn go_on(stop: &AtomicBool) -> anyhow::Result<()> {
    if stop.load(Ordering::Relaxed) { bail!("interrupted") } else { Ok(()) }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn bar(name: &str, length: u64, shown: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{prefix:10}} {{bar:30}} {shown}"));
    let bar = ProgressBar::new(length);
    bar.set_style(style.expect("the templates are well-formed").progress_chars("=> "));
    bar.set_prefix(name.to_owned());
    bar
}

#[expect(clippy::cast_precision_loss, reason = "microseconds and bytes far below 2^52")]
fn cells(row: Row, outcome: &Outcome) -> Vec<String> {
    let ms = |quantile: f64| {
        let us = outcome.latency.value_at_quantile(quantile);
        if outcome.latency.is_empty() { "-".to_owned() } else { format!("{:.2}", us as f64 / 1e3) }
    };
    let mut note = Vec::new();
    if row == Row::Failover {
        note.push(format!("{} kills", outcome.count));
    }
    if outcome.is_verified {
        note.push("every write is there".to_owned());
    }
    if let (Some(before), Some(after)) = (outcome.server_rss_before, outcome.server_rss) {
        note.push(format!("{} bytes a session", after.saturating_sub(before) / outcome.count.max(1)));
    }
    if row == Row::Idle {
        note.push(format!("{} sessions", outcome.count));
    }
    vec![
        row.name(),
        if matches!(row, Row::Idle | Row::Failover) { "-".to_owned() } else { format!("{:.0}", outcome.rate()) },
        ms(0.5),
        ms(0.9),
        ms(0.99),
        ms(0.999),
        ms(1.0),
        outcome.server_us().map_or_else(|| "-".to_owned(), |us| format!("{us:.2}")),
        outcome.server_rss.map_or_else(|| "-".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1e6)),
        note.join(", "),
    ]
}

fn object(row: Row, arguments: &Arguments, outcome: &Outcome) -> Value {
    let us = |quantile: f64| (!outcome.latency.is_empty()).then(|| outcome.latency.value_at_quantile(quantile));
    // How failover writes is not for the options to say, and how often it kills is its own choice.
    let is_load = row != Row::Failover;
    // Only options that this row goes by.
    json!({
        "row": row.name(),
        "connections": (is_load && row != Row::Fill).then_some(arguments.connections),
        "depth": row.is_paced().then_some(arguments.depth),
        "rate": arguments.rate.filter(|_| row.is_paced()),
        "size": row.is_sized().then_some(arguments.size),
        "keys": row.is_keyed().then_some(arguments.keys.max(arguments.connections)),
        "count": outcome.count,
        "seconds": outcome.elapsed.as_secs_f64(),
        "perSecond": is_load.then(|| outcome.rate()),
        "latencyUs": {"p50": us(0.5), "p90": us(0.9), "p99": us(0.99), "p999": us(0.999), "max": us(1.0)},
        "serverCpuUs": outcome.server_us(),
        "serverRss": outcome.server_rss,
        "serverRssBefore": outcome.server_rss_before,
        "unsent": arguments.rate.filter(|_| row.is_paced()).map(|_| outcome.unsent),
        "generatorCpus": outcome.generator(),
        "generatorBound": outcome.is_generator_bound(),
        "verified": outcome.is_verified,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_server_is_at_the_address_of_its_name_that_takes_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let server = listener.local_addr().expect("it is bound");
        let nobody = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("it was bound");
        let sixth: SocketAddr = "[::1]:9".parse().expect("an address");
        assert_eq!(reachable(vec![sixth, nobody, server]), Some(server));
        assert_eq!(reachable(vec![sixth, nobody]), Some(nobody), "IPv4 first where nobody answers");
        assert_eq!(reachable(vec![sixth]), Some(sixth));
        assert_eq!(reachable(vec![]), None);
    }
}
