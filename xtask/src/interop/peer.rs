//! Our side of a scenario: the recipes of `farrier-recipes`, as a stock client's program asks for them.
//!
//! A program writes `OURS? VERB WORDS…` and gets one line back: `DONE`, with a word if there is something to tell, or
//! `FAILED WHY`. What is held stays held until a later verb ends it.

use anyhow::{Context as _, Result, bail};
use farrier_client::Client;
use farrier_recipes::{Barrier, Counter, DoubleBarrier, Encoding, Entered, Error, Group, Item, Membership, Queue};
use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Longest time that a verb may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a line says, and where its answer goes.
type Order = (String, SyncSender<String>);

/// A thread with a session, in which waiting goes on between two lines.
pub(super) struct Peer(mpsc::Sender<Order>);

impl Peer {
    pub(super) fn connect(server: SocketAddr) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let connect = Client::builder(&server.to_string()).request_timeout(PATIENCE).connect();
        let client = runtime.block_on(connect)?;
        let (orders, inbox) = mpsc::channel(1);
        std::thread::spawn(move || runtime.block_on(Held::new(client).serve(inbox)));
        Ok(Self(orders))
    }

    /// Does what a line says; what there is to answer.
    pub(super) fn obey(&self, line: &str) -> Result<String> {
        let (reply, answer) = sync_channel(1);
        self.0.blocking_send((line.to_owned(), reply)).context("our side has ended")?;
        answer.recv().context("our side has ended")
    }
}

/// The session and what it holds.
struct Held {
    client: Client,
    item: Option<Item>,
    membership: Option<Membership>,
    entering: Option<JoinHandle<Result<Entered, Error>>>,
    waiting: Option<JoinHandle<Result<(), Error>>>,
}

impl Held {
    const fn new(client: Client) -> Self {
        Self { client, item: None, membership: None, entering: None, waiting: None }
    }

    async fn serve(mut self, mut inbox: mpsc::Receiver<Order>) {
        while let Some((line, reply)) = inbox.recv().await {
            let done = tokio::time::timeout(PATIENCE, self.carry_out(&line)).await;
            let answer = match done.context("it takes too long").flatten() {
                Ok(told) if told.is_empty() => "DONE".to_owned(),
                Ok(told) => format!("DONE {told}"),
                Err(error) => format!("FAILED {error:#}").replace('\n', " "),
            };
            // Whoever asked waits for it.
            let _ = reply.send(answer);
        }
    }

    async fn carry_out(&mut self, line: &str) -> Result<String> {
        let Self { client, item, membership, entering, waiting } = self;
        let words: Vec<&str> = line.split(' ').collect();
        Ok(match words[..] {
            ["queue-put", path, data] => Queue::new(client, path).put(data).await?,
            ["queue-put-plain", path, data] => Queue::new(client, path).put_plain(100, data).await?,
            ["queue-take", path] => {
                let taken = Queue::new(client, path).take().await?;
                let data = String::from_utf8_lossy(taken.data()).into_owned();
                *item = Some(taken);
                data
            }
            ["queue-ack"] => told(item.take().context("no item was taken")?.ack().await)?,
            ["queue-give-back"] => told(item.take().context("no item was taken")?.give_back().await)?,
            ["counter-add", path, encoding, n] => {
                let counter = Counter::new(client, path).encoding(parse_encoding(encoding)?);
                counter.add(n.parse()?).await?.to_string()
            }
            ["barrier-close", path] => Barrier::new(client, path).close().await?.to_string(),
            ["barrier-open", path] => Barrier::new(client, path).open().await?.to_string(),
            ["barrier-wait", path] => {
                let barrier = Barrier::new(client, path);
                *waiting = Some(tokio::spawn(async move { barrier.wait().await }));
                String::new()
            }
            ["double-enter", path, count] => {
                let barrier = DoubleBarrier::new(client, path, count.parse()?)?;
                *entering = Some(tokio::spawn(async move { barrier.enter().await }));
                String::new()
            }
            ["double-leave"] => {
                let entered = entering.take().context("nobody entered")?.await??;
                *waiting = Some(tokio::spawn(entered.leave()));
                String::new()
            }
            ["is-waiting"] => (!waiting.as_ref().context("nobody waits")?.is_finished()).to_string(),
            ["is-entering"] => (!entering.as_ref().context("nobody enters")?.is_finished()).to_string(),
            ["waited"] => told(waiting.take().context("nobody waits")?.await?)?,
            ["member-join", path, payload] => {
                let joined = Group::new(client, path).join(payload).await?;
                let id = joined.id().context("it joined")?;
                *membership = Some(joined);
                id
            }
            ["member-leave"] => told(membership.take().context("nobody joined")?.leave().await)?,
            ["member-list", path] => {
                client.sync(path).await?;
                let members = Group::new(client, path).members().await?;
                let mut payloads: Vec<_> =
                    members.iter().map(|m| String::from_utf8_lossy(&m.payload).into_owned()).collect();
                payloads.sort();
                payloads.join(",")
            }
            _ => bail!("an unknown verb: {line}"),
        })
    }
}

fn told(result: Result<(), Error>) -> Result<String> {
    result?;
    Ok(String::new())
}

fn parse_encoding(word: &str) -> Result<Encoding> {
    let encodings = [("decimal", Encoding::Decimal), ("int", Encoding::Int32), ("long", Encoding::Int64)];
    let found = encodings.iter().find(|(name, _)| *name == word);
    found.map(|(_, encoding)| *encoding).with_context(|| format!("an unknown encoding: {word}"))
}
