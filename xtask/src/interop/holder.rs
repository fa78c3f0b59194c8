//! Our recipes, held on behalf of a program that tries its own beside them: `HOLD? WHAT LAYOUT PATH` is answered by
//! `HELD`, or by `TAKEN` if others hold it; `LET GO? PATH` by `DONE`.

use anyhow::{Context as _, Result, anyhow, bail};
use farrier_client::Client;
use farrier_recipes::{Election, Error, Layout, Lock, RwLock, Semaphore};
use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Permits of a semaphore, on both sides.
const PERMITS: usize = 2;

/// One client, and what it holds.
pub(super) struct Holder {
    runtime: Runtime,
    client: Client,
    held: BTreeMap<String, Box<dyn Any>>,
}

impl Holder {
    pub(super) fn new(server: SocketAddr) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime.block_on(async { Client::connect(&server.to_string()).await })?;
        Ok(Self { runtime, client, held: BTreeMap::new() })
    }

    /// Takes what is free; the answer.
    pub(super) fn hold(&mut self, wanted: &str) -> Result<&'static str> {
        let mut words = wanted.split(' ');
        let mut word = || words.next().with_context(|| format!("HOLD? {wanted}: three words are needed"));
        let (what, layout, path) = (word()?, word()?, word()?);
        let layout = match layout {
            "curator" => Layout::Curator,
            "kazoo" => Layout::Kazoo,
            other => bail!("no layout is called {other}"),
        };
        let client = &self.client;
        let taken: Result<Box<dyn Any>, Error> = self.runtime.block_on(async {
            Ok(match what {
                "lock" => boxed(Lock::new(client, path).layout(layout).acquire_within(Duration::ZERO).await?),
                "read" => boxed(RwLock::new(client, path).layout(layout).read_within(Duration::ZERO).await?),
                "write" => boxed(RwLock::new(client, path).layout(layout).write_within(Duration::ZERO).await?),
                "permit" => boxed(Semaphore::new(client, path, PERMITS).acquire_within(Duration::ZERO).await?),
                "lead" => {
                    boxed(Election::new(client, path).layout(layout).id("farrier").lead_within(Duration::ZERO).await?)
                }
                other => {
                    return Err(Error::Invalid {
                        path: path.to_owned(),
                        reason: format!("no recipe is called {other}"),
                    });
                }
            })
        });
        match taken {
            Ok(guard) => {
                self.held.insert(path.to_owned(), guard);
                Ok("HELD")
            }
            Err(Error::NotAcquired { .. }) => Ok("TAKEN"),
            Err(error) => Err(anyhow!(error)),
        }
    }

    /// Gives up what it holds at a path, and waits until the server has that.
    pub(super) fn let_go(&mut self, path: &str) -> Result<()> {
        let _runtime = self.runtime.enter();
        drop(self.held.remove(path).with_context(|| format!("nothing is held at {path}"))?);
        // Behind the deletion, which was put in line by the drop.
        self.runtime.block_on(self.client.sync("/").send())?;
        Ok(())
    }
}

fn boxed(guard: impl Any) -> Box<dyn Any> {
    Box::new(guard)
}
