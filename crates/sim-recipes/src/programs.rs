//! What the programs do.

use crate::referee::{Held, Referee};
use farrier_client::{Client, Error as ClientError, ErrorCode, Op, OpResult};
use farrier_recipes::{Counter, Election, Guard, Layout, Lock, Queue};
use farrier_sim::random::Random;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;

/// Paths of what they contend for.
pub(super) const LOCK: &str = "/app/lock";
pub(super) const ELECTION: &str = "/app/leader";
pub(super) const QUEUE: &str = "/app/queue";
pub(super) const COUNTER: &str = "/app/counter";
/// What is written under the lock: its holder's token.
const REGISTER: &str = "/app/register";

/// What a program is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Takes the lock again and again, and writes under it.
    Locks(Layout),
    /// Wants to lead.
    Leads,
    Puts,
    Takes,
    Counts,
}

/// Some of each.
pub(super) fn draw(random: &mut Random) -> Vec<Kind> {
    let mut kinds = Vec::new();
    let layout = if random.percent(50) { Layout::Curator } else { Layout::Kazoo };
    kinds.extend((0..random.between(2, 4)).map(|_| Kind::Locks(layout)));
    kinds.extend((0..random.below(4)).map(|_| Kind::Leads));
    if random.percent(50) {
        kinds.extend((0..random.between(1, 2)).map(|_| Kind::Puts));
        kinds.extend((0..random.between(1, 3)).map(|_| Kind::Takes));
    }
    kinds.extend((0..random.below(3)).map(|_| Kind::Counts));
    kinds
}

pub(super) struct Program {
    pub(super) who: usize,
    pub(super) kind: Kind,
    pub(super) referee: Arc<Mutex<Referee>>,
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) random: Random,
}

impl Program {
    pub(super) async fn run(mut self, client: Client) {
        let (who, kind) = (self.who, self.kind);
        let (mut n, mut stopped) = (0, self.stopped.clone());
        while !*self.stopped.borrow() {
            n += 1;
            // Whatever it is at when it is to stop is dropped, as a program does that is told to end.
            tokio::select! {
                biased;
                _ = stopped.changed() => {}
                () = self.once(&client, who, kind, n) => {}
            }
        }
        // However that ends, the session is gone.
        let _ = client.close().await;
    }

    async fn once(&mut self, client: &Client, who: usize, kind: Kind, n: u64) {
        match kind {
            Kind::Locks(layout) => self.lock(client, who, layout).await,
            Kind::Leads => self.lead(client, who).await,
            Kind::Puts => self.put(client, who, n).await,
            Kind::Takes => self.take(client, who).await,
            Kind::Counts => self.count(client, who).await,
        }
        let rest = self.random.between(50, 1500);
        client.sleep(Duration::from_millis(rest)).await;
    }

    fn referee(&self) -> MutexGuard<'_, Referee> {
        self.referee.lock().expect("nobody panics while judging")
    }

    async fn lock(&mut self, client: &Client, who: usize, layout: Layout) {
        let span = Duration::from_millis(self.random.between(500, 30_000));
        let Ok(guard) = Lock::new(client, LOCK).layout(layout).acquire_within(span).await else { return };
        let guard = Arc::new(guard);
        let token = guard.token();
        let nth = self.referee().acquired(LOCK, who, Held::Lock(Arc::downgrade(&guard)), token);
        for _ in 0..self.random.below(8) {
            let rest = Duration::from_millis(self.random.below(1500));
            tokio::select! {
                biased;
                () = guard.lost() => {
                    self.referee().lost(nth);
                    break;
                }
                () = client.sleep(rest) => {}
            }
            self.write(client, &guard).await;
        }
        if self.random.percent(70)
            && let Ok(guard) = Arc::try_unwrap(guard)
        {
            let _ = guard.release().await;
        }
    }

    /// Writes the token under the lock.
    async fn write(&self, client: &Client, guard: &Guard) {
        let token = guard.token();
        let text = token.to_string();
        match guard.multi([Op::set(REGISTER, text.as_bytes(), None)]).await {
            Ok(results) => {
                if let Some(OpResult::Set(stat)) = results.first() {
                    self.referee().wrote(stat.mzxid.get(), token);
                }
            }
            Err(farrier_recipes::Error::Client(ClientError::Refused { code: ErrorCode::NoNode, .. })) => {
                // Whoever comes first makes it.
                let _ = client.create(REGISTER, b"").await;
            }
            Err(_) => {}
        }
    }

    async fn lead(&mut self, client: &Client, who: usize) {
        let span = Duration::from_millis(self.random.between(500, 30_000));
        let Ok(leadership) = Election::new(client, ELECTION).lead_within(span).await else { return };
        let leadership = Arc::new(leadership);
        let token = leadership.token();
        let nth = self.referee().acquired(ELECTION, who, Held::Leader(Arc::downgrade(&leadership)), token);
        let term = Duration::from_millis(self.random.below(10_000));
        tokio::select! {
            biased;
            () = leadership.lost() => self.referee().lost(nth),
            () = client.sleep(term) => {}
        }
        if self.random.percent(70)
            && let Ok(leadership) = Arc::try_unwrap(leadership)
        {
            let _ = leadership.resign().await;
        }
    }

    async fn put(&self, client: &Client, who: usize, n: u64) {
        let item = format!("{who}-{n}");
        // Dropped half-way it may be there.
        self.referee().put(who, item.clone(), false);
        if Queue::new(client, QUEUE).put(item.as_bytes()).await.is_ok() {
            self.referee().put(who, item, true);
        }
    }

    async fn take(&mut self, client: &Client, who: usize) {
        let wait = Duration::from_millis(self.random.below(10_000));
        let Ok(Some(item)) = Queue::new(client, QUEUE).take_within(wait).await else { return };
        let name = String::from_utf8_lossy(item.data()).into_owned();
        self.referee().took(&name);
        client.sleep(Duration::from_millis(self.random.below(500))).await;
        match self.random.below(10) {
            0 => drop(item),
            1 => drop(item.give_back().await),
            _ => {
                self.referee().acks(&name);
                if item.ack().await.is_ok() {
                    self.referee().acked(who, &name);
                }
            }
        }
    }

    async fn count(&self, client: &Client, who: usize) {
        // Dropped half-way, or without a reply, it may have been made.
        self.referee().adds();
        if Counter::new(client, COUNTER).add(1).await.is_ok() {
            self.referee().added(who);
        }
    }
}
