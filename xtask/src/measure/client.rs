//! What a request costs the client: CPU of this crate's client beside that of the crate `zookeeper-client`, in one
//! process, in turns, against the same server.
//!
//! The other crate and all that it brings is built only with the feature `beside`.

use super::Common;
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

/// Arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Requests outstanding at a time, separated by commas
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1024])]
    depths: Vec<usize>,
    /// Times that each row is measured, for each client in turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each time
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    #[command(flatten)]
    common: Common,
}

#[cfg(not(feature = "beside"))]
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { depths, rounds, seconds, common: _ } = arguments;
    let depths: Vec<String> = depths.iter().map(usize::to_string).collect();
    anyhow::bail!(
        "the crate to compare with is not built in; run `cargo run --release -p xtask --features beside -- measure client \
         --depths {} --rounds {rounds} --seconds {seconds}`",
        depths.join(",")
    )
}

#[cfg(feature = "beside")]
pub(crate) use beside::run;

#[cfg(feature = "beside")]
mod beside {
    use super::{Arguments, ExitCode, Result};
    use anyhow::{Context as _, ensure};
    use farrier_testkit::server::{Config, Server, Target};
    use rustix::time::{ClockId, clock_gettime};
    use std::rc::Rc;
    use std::time::{Duration, Instant};
    use tokio::task::LocalSet;

    const PATH: &str = "/measured";
    /// Bytes of the znode that is read.
    const VALUE: [u8; 100] = [b'x'; 100];
    /// Before anything counts.
    const WARM: Duration = Duration::from_secs(1);

    /// CPU time of this process, all its threads, in the kernel too.
    fn cpu() -> Duration {
        let at = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(at.tv_sec.unsigned_abs(), u32::try_from(at.tv_nsec).unwrap_or(0))
    }

    #[derive(Clone)]
    enum Client {
        Farrier(farrier_client::Client),
        Other(zookeeper_client::Client),
    }

    impl Client {
        async fn get(&self) -> Result<usize> {
            Ok(match self {
                Self::Farrier(client) => client.get(PATH).await?.data.len(),
                Self::Other(client) => client.get_data(PATH).await?.0.len(),
            })
        }
    }

    /// Microseconds of CPU for each request, with `depth` of them outstanding all the time.
    async fn cost(client: &Client, depth: usize, span: Duration) -> Result<f64> {
        let (start, before) = (Instant::now(), cpu());
        let local = LocalSet::new();
        let done = Rc::new(std::cell::Cell::new(0_u64));
        let tasks: Vec<_> = (0..depth)
            .map(|_| {
                let (client, done) = (client.clone(), Rc::clone(&done));
                local.spawn_local(async move {
                    while start.elapsed() < span {
                        ensure!(client.get().await? == VALUE.len(), "a wrong answer");
                        done.set(done.get() + 1);
                    }
                    Ok(())
                })
            })
            .collect();
        local
            .run_until(async {
                for task in tasks {
                    task.await??;
                }
                Ok::<_, anyhow::Error>(())
            })
            .await?;
        Ok((cpu() - before).as_secs_f64() * 1e6 / done.get() as f64)
    }

    pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
        let server = Server::start(&Target::Farrier(super::super::farrier(&arguments.common)?), &Config::default())?;
        let address = server.addr().to_string();
        let dir = arguments.common.dir()?;
        let mut report = super::super::heading("CPU of the client per request", &dir)?;
        report.push_str(&format!(
            "- get of {} bytes over one connection, tokio's current-thread runtime; {} rounds of {} s, the clients in \
             turns; profile: {}\n\n| outstanding | farrier-client, us: median (best) | zookeeper-client 0.11, us: median \
             (best) |\n|---|---|---|\n",
            VALUE.len(),
            arguments.rounds,
            arguments.seconds,
            if cfg!(debug_assertions) { "dev (opt-level 2, assertions)" } else { "release" },
        ));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let own = farrier_client::Client::connect(&address).await?;
            own.create(PATH, &VALUE).await?;
            let other = zookeeper_client::Client::connect(&address).await.context("zookeeper-client")?;
            let clients = [Client::Farrier(own), Client::Other(other)];
            for depth in &arguments.depths {
                let mut costs = [Vec::new(), Vec::new()];
                for round in 0..arguments.rounds {
                    for at in 0..2 {
                        let index = (at + round as usize) % 2;
                        cost(&clients[index], *depth, WARM / 4).await?;
                        let us = cost(&clients[index], *depth, Duration::from_secs(arguments.seconds)).await?;
                        costs[index].push(us);
                        super::super::note(&format!("depth {depth}: client {index}: {us:.2} us"))?;
                    }
                }
                let shown: Vec<String> = costs
                    .iter_mut()
                    .map(|all| {
                        all.sort_by(f64::total_cmp);
                        format!("{:.2} ({:.2})", all[all.len() / 2], all[0])
                    })
                    .collect();
                report.push_str(&format!("| {depth} | {} |\n", shown.join(" | ")));
            }
            Ok::<_, anyhow::Error>(())
        })?;
        arguments.common.publish(&mut report)?;
        Ok(ExitCode::SUCCESS)
    }
}
