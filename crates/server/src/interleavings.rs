//! What threads share, under a scheduler that stops them at every step in thousands of orders.
//!
//! The files are those of the server, compiled once more over primitives of the scheduler. A thread that waits for
//! what never comes, with nobody left to bring it, fails the test. All atomics are sequentially consistent here: what
//! weaker orders would allow is not tried.

mod sync {
    //! In place of [`crate::sync`].

    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};

    /// As tokio's for one who waits: a call that comes too early is kept.
    #[derive(Debug, Default)]
    pub(crate) struct Notify {
        permit: Mutex<bool>,
        given: Condvar,
    }

    impl Notify {
        pub(crate) fn notify_one(&self) {
            *self.permit.lock().expect("nothing panics while it holds this lock") = true;
            self.given.notify_one();
        }

        pub(crate) async fn notified(&self) {
            let guard = self.permit.lock().expect("nothing panics while it holds this lock");
            let mut permit =
                self.given.wait_while(guard, |permit| !*permit).expect("nothing panics while it holds this lock");
            *permit = false;
        }
    }
}

#[path = "files.rs"]
mod files;
#[expect(dead_code, reason = "no snapshot is sent here")]
#[path = "link_outbox.rs"]
mod link_outbox;
#[path = "log_queue.rs"]
mod log_queue;
#[expect(dead_code, reason = "no socket is written to here")]
#[path = "outbox.rs"]
mod outbox;

use files::Files;
use link_outbox::{LinkOutbox, Piece};
use log_queue::{Feeder, LogQueue, Taking, Weighed};
use outbox::{Deliveries, Delivery, LITTLE_MAX, Outbox, Writing};
use shuttle::thread::yield_now;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use sync::{AtomicBool, AtomicU64, Mutex, Notify, Ordering};

/// Orders that are tried; `FARRIER_INTERLEAVINGS` for another number.
const ORDERS: usize = 2000;

/// Changes of threads at chosen moments in one order, besides those at waits.
const CHANGES: usize = 3;

/// Runs `test` in many orders, half of them by chance and half with few changes of threads at the worst moments.
fn in_many_orders(test: impl Fn() + Send + Sync + Copy + 'static) {
    let orders = std::env::var("FARRIER_INTERLEAVINGS").ok().and_then(|n| n.parse().ok()).unwrap_or(ORDERS);
    shuttle::check_random(test, orders / 2);
    shuttle::check_pct(test, orders / 2, CHANGES);
}

// ---- the queue between replica and worker ----

/// What the worker and whoever steps the replica do with an [`Outbox`].
trait Channel: Default + Send + Sync + 'static {
    fn push(&self, n: u8);
    fn wake(&self);
    fn attend(&self);
    fn wait(&self);
    fn take(&self) -> Vec<u8>;
}

impl Channel for Outbox {
    fn push(&self, n: u8) {
        Self::push(self, farrier_replica::ConnId(1), Delivery::Send(&[n]));
    }

    fn wake(&self) {
        Self::wake(self);
    }

    fn attend(&self) {
        Self::attend(self);
    }

    fn wait(&self) {
        shuttle::future::block_on(Self::wait(self));
    }

    fn take(&self) -> Vec<u8> {
        let mut batch = Deliveries::default();
        Self::take(self, &mut batch);
        let mut taken = Vec::new();
        batch.drain(|_, delivery| match delivery {
            Delivery::Send(bytes) => taken.extend_from_slice(bytes),
            Delivery::Close | Delivery::Pause | Delivery::Resume | Delivery::ReportFlush => {}
        });
        taken
    }
}

/// Two threads step the replica and fill the worker's outbox; so does the worker itself, which looks right behind it.
/// Everything arrives, in order.
fn outbox_delivers_all_in_order<C: Channel>() {
    const EACH: usize = 2;
    let outbox = Arc::new(C::default());
    let replica = Arc::new(Mutex::new(0_u8));
    let step = |outbox: &C, replica: &Mutex<u8>| {
        let mut next = replica.lock().expect("nobody panics");
        outbox.push(*next);
        *next += 1;
        outbox.wake();
    };
    let others: Vec<_> = (0..2)
        .map(|_| {
            let (outbox, replica) = (outbox.clone(), replica.clone());
            shuttle::thread::spawn(move || (0..EACH).for_each(|_| step(&outbox, &replica)))
        })
        .collect();
    let mut seen = Vec::new();
    for _ in 0..EACH {
        // A batch of requests of its own.
        outbox.attend();
        step(&outbox, &replica);
        seen.extend(outbox.take());
    }
    while seen.len() < 3 * EACH {
        outbox.wait();
        seen.extend(outbox.take());
    }
    assert!(seen.is_sorted() && seen.len() == 3 * EACH, "{seen:?}");
    for other in others {
        other.join().expect("nobody panics");
    }
}

#[test]
fn no_delivery_is_late_or_out_of_order() {
    in_many_orders(outbox_delivers_all_in_order::<Outbox>);
}

/// An outbox whose worker says that it does not attend any more only after it looked.
#[derive(Default)]
struct Inattentive {
    waiting: Mutex<Vec<u8>>,
    notify: Notify,
    attended: AtomicBool,
}

impl Channel for Inattentive {
    fn push(&self, n: u8) {
        self.waiting.lock().expect("nobody panics").push(n);
    }

    fn wake(&self) {
        if !self.attended.load(Ordering::SeqCst) {
            self.notify.notify_one();
        }
    }

    fn attend(&self) {
        self.attended.store(true, Ordering::SeqCst);
    }

    fn wait(&self) {
        shuttle::future::block_on(self.notify.notified());
    }

    fn take(&self) -> Vec<u8> {
        let taken = std::mem::take(&mut *self.waiting.lock().expect("nobody panics"));
        self.attended.store(false, Ordering::SeqCst);
        taken
    }
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_wake_up_that_is_lost_would_be_found() {
    in_many_orders(outbox_delivers_all_in_order::<Inattentive>);
}

#[test]
fn a_worker_hears_that_the_server_closes_whatever_it_is_at() {
    in_many_orders(|| {
        let outbox = Arc::new(Outbox::default());
        let closing = Arc::new(AtomicBool::new(false));
        let worker = {
            let (outbox, closing) = (outbox.clone(), closing.clone());
            shuttle::thread::spawn(move || {
                loop {
                    outbox.attend();
                    assert!(Channel::take(&*outbox).is_empty(), "nothing was sent");
                    Channel::wait(&*outbox);
                    if closing.load(Ordering::SeqCst) {
                        return;
                    }
                }
            })
        };
        closing.store(true, Ordering::SeqCst);
        outbox.wake_always();
        worker.join().expect("nobody panics");
    });
}

fn write(written: &mut Vec<u8>, batch: &mut Deliveries) -> usize {
    batch.drain(|_, delivery| {
        if let Delivery::Send(bytes) = delivery {
            written.extend_from_slice(bytes);
        }
    });
    written.len()
}

/// Two threads that step the replica write what is little themselves, unless somebody else is at it, and one of them has
/// something for the worker alone as well; the worker steps too. Everything is written in order, and nobody waits for a
/// wake-up that does not come.
#[test]
fn frames_are_written_in_order_by_whoever_stepped_the_replica() {
    const EACH: u8 = 2;
    const ALL: usize = 3 * EACH as usize;
    in_many_orders(|| {
        let shared = Arc::new((Writing::<Vec<u8>>::default(), Mutex::new(0_u8)));
        let step = |(writing, replica): &(Writing<Vec<u8>>, Mutex<u8>)| {
            let mut next = replica.lock().expect("nobody panics");
            if *next == 1 {
                writing.outbox.push(farrier_replica::ConnId(1), Delivery::Resume);
            }
            writing.outbox.push(farrier_replica::ConnId(1), Delivery::Send(&[*next]));
            *next += 1;
            !writing.outbox.is_attended()
        };
        let others: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                shuttle::thread::spawn(move || {
                    for _ in 0..EACH {
                        if step(&shared) && shared.0.deliver_or_wake(&mut LITTLE_MAX.clone(), write) == Some(ALL) {
                            // Only here somebody waits for that.
                            shared.0.outbox.wake_always();
                        }
                    }
                })
            })
            .collect();
        let writing = &shared.0;
        for _ in 0..EACH {
            writing.outbox.attend();
            step(&shared);
            writing.deliver(write);
        }
        while writing.deliver(write) < ALL {
            shuttle::future::block_on(writing.outbox.wait());
        }
        for other in others {
            other.join().expect("nobody panics");
        }
        writing.with(|written| assert_eq!(*written, (0..).take(ALL).collect::<Vec<u8>>()));
    });
}

/// What is beyond the budget is left to the worker, and what another one took is not counted twice.
#[test]
fn who_stepped_the_replica_writes_no_more_than_its_budget() {
    shuttle::check_random(
        || {
            let writing = Writing::<Vec<u8>>::default();
            let push = |n| writing.outbox.push(farrier_replica::ConnId(1), Delivery::Send(&[n]));
            let mut budget = 3;
            (0..2).for_each(push);
            assert_eq!(writing.deliver_or_wake(&mut budget, write), Some(2));
            assert_eq!(budget, 1);
            (2..4).for_each(push);
            assert_eq!(writing.deliver_or_wake(&mut budget, write), None);
            // It was woken.
            shuttle::future::block_on(writing.outbox.wait());
            assert_eq!(writing.deliver(write), 4);
        },
        1,
    );
}

// ---- what leaves on a link ----

/// A socket that takes one byte at a time, and nothing at every third attempt.
#[derive(Default)]
struct Socket {
    sent: Mutex<Vec<u8>>,
    attempts: AtomicU64,
}

impl Socket {
    fn take(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.attempts.fetch_add(1, Ordering::SeqCst) % 3 == 2 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.sent.lock().expect("nobody panics").push(bytes[0]);
        Ok(1)
    }
}

/// Two threads step the replica, put a packet of two bytes into the outbox each time, and write what they can; the link's
/// task waits for the socket. Everything leaves once and in order, a report is made behind what came before it, and the
/// task ends when the link closes, whoever wrote the last byte.
#[test]
fn what_leaves_on_a_link_leaves_in_order_whoever_writes_it() {
    in_many_orders(|| {
        let link = Arc::new((LinkOutbox::default(), Socket::default()));
        let replica = Arc::new(Mutex::new(0_u8));
        let task = {
            let link = link.clone();
            shuttle::thread::spawn(move || {
                let (outbox, socket) = &*link;
                let mut reported = Vec::new();
                while let Some(piece) = shuttle::future::block_on(outbox.next()).expect("the socket is whole") {
                    let mut sent = Vec::new();
                    match piece {
                        Piece::Bytes(bytes) => {
                            socket.sent.lock().expect("nobody panics").extend_from_slice(&bytes);
                            sent = bytes;
                        }
                        Piece::ReportFlush => reported.push(socket.sent.lock().expect("nobody panics").len()),
                        Piece::Snapshot(_) => unreachable!("none was sent"),
                    }
                    outbox.done(sent);
                }
                reported
            })
        };
        let steppers: Vec<_> = (0..2)
            .map(|_| {
                let (link, replica) = (link.clone(), replica.clone());
                shuttle::thread::spawn(move || {
                    let (outbox, socket) = &*link;
                    for _ in 0..2 {
                        let mut next = replica.lock().expect("nobody panics");
                        outbox.push_bytes(|out| out.extend([*next, *next + 1]));
                        *next += 2;
                        if *next == 4 {
                            outbox.push(Piece::ReportFlush);
                        }
                        drop(next);
                        outbox.flush(|bytes| socket.take(bytes));
                    }
                })
            })
            .collect();
        for stepper in steppers {
            stepper.join().expect("nobody panics");
        }
        link.0.close();
        assert_eq!(task.join().expect("nobody panics"), [4]);
        assert_eq!(*link.1.sent.lock().expect("nobody panics"), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(link.0.push_bytes(|_| {}), 0, "bytes are counted down");
    });
}

/// A thread finds that the socket is broken. The link's task hears of it, and nothing is written behind what was lost.
#[test]
fn nothing_is_written_to_a_link_whose_socket_broke() {
    in_many_orders(|| {
        let outbox = Arc::new(LinkOutbox::default());
        let tried = Arc::new(AtomicU64::new(0));
        let steppers: Vec<_> = (0..2)
            .map(|_| {
                let (outbox, tried) = (outbox.clone(), tried.clone());
                shuttle::thread::spawn(move || {
                    outbox.push_bytes(|out| out.push(1));
                    outbox.flush(|_| {
                        tried.fetch_add(1, Ordering::SeqCst);
                        Err(io::ErrorKind::BrokenPipe.into())
                    });
                })
            })
            .collect();
        let seen = shuttle::future::block_on(outbox.next());
        for stepper in steppers {
            stepper.join().expect("nobody panics");
        }
        match seen {
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::BrokenPipe),
            // It came first, and has the turn.
            Ok(piece) => assert!(piece.is_some() && tried.load(Ordering::SeqCst) == 0),
        }
        assert!(tried.load(Ordering::SeqCst) <= 1);
    });
}

/// Others put in more all the time: who writes stops after a while, and the task, which waits, goes on.
#[test]
fn one_thread_does_not_write_a_link_for_all_others() {
    in_many_orders(|| {
        let outbox = Arc::new(LinkOutbox::default());
        let task = {
            let outbox = outbox.clone();
            shuttle::thread::spawn(move || shuttle::future::block_on(outbox.next()))
        };
        let tried = AtomicU64::new(0);
        outbox.push_bytes(|out| out.push(1));
        outbox.flush(|_| {
            tried.fetch_add(1, Ordering::SeqCst);
            outbox.push_bytes(|out| out.push(1));
            Ok(1)
        });
        assert!(tried.load(Ordering::SeqCst) < 10);
        assert!(matches!(task.join().expect("nobody panics"), Ok(Some(Piece::Bytes(rest))) if rest == [1]));
    });
}

// ---- the queue of the log thread ----

impl Weighed for u8 {
    fn len(&self) -> usize {
        usize::from(*self)
    }
}

/// Waits have no end here but that somebody ends them.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// In turns, so that both ways are tried.
fn taking(taken: usize) -> Taking<'static> {
    Taking {
        max: 2,
        gather: Duration::ZERO,
        idle: Duration::ZERO,
        crowded: taken.is_multiple_of(2),
        patience: if taken.is_multiple_of(3) { Duration::ZERO } else { FOR_EVER },
        others_first: &yield_now,
    }
}

#[test]
fn every_command_reaches_the_log_thread_once_and_in_order() {
    in_many_orders(|| {
        const EACH: u8 = 2;
        let queue = Arc::new(LogQueue::default());
        let replica = Arc::new(Mutex::new(1_u8));
        let log = {
            let queue = queue.clone();
            shuttle::thread::spawn(move || {
                let mut all: Vec<u8> = Vec::new();
                loop {
                    let mut batch = Vec::new();
                    queue.take(&mut batch, &taking(all.len()));
                    if batch.is_empty() {
                        assert!(queue.is_empty(), "it is closed");
                        return all;
                    }
                    assert!(batch.len() <= 2, "a batch is bounded");
                    all.append(&mut batch);
                }
            })
        };
        let steppers: Vec<_> = (0..2)
            .map(|_| {
                let (queue, replica) = (queue.clone(), replica.clone());
                shuttle::thread::spawn(move || {
                    let feeder = Feeder::new(queue.clone());
                    for n in 0..EACH {
                        let mut next = replica.lock().expect("nobody panics");
                        queue.append(&mut vec![*next]);
                        *next += 1;
                        drop(next);
                        if n == 0 {
                            feeder.sleeps();
                            yield_now();
                            feeder.wakes();
                        }
                    }
                })
            })
            .collect();
        for stepper in steppers {
            stepper.join().expect("nobody panics");
        }
        queue.close();
        let all = log.join().expect("nobody panics");
        assert_eq!(all, (1..=2 * EACH).collect::<Vec<_>>());
        assert_eq!(queue.bytes(), 0);
    });
}

/// Nobody closes the queue and no time passes: what waits is taken because those who might add to it sleep.
#[test]
fn the_log_thread_waits_for_feeders_no_longer_than_until_the_last_one_sleeps() {
    in_many_orders(|| {
        const FEEDERS: u8 = 2;
        let queue = Arc::new(LogQueue::default());
        // All of them are awake before the first can sleep.
        let feeders: Vec<_> = (1..=FEEDERS).map(|n| (n, Feeder::new(queue.clone()))).collect();
        let feeders: Vec<_> = feeders
            .into_iter()
            .map(|(n, feeder)| {
                let queue = queue.clone();
                shuttle::thread::spawn(move || {
                    queue.append(&mut vec![n]);
                    feeder.sleeps();
                })
            })
            .collect();
        let mut taken: Vec<u8> = Vec::new();
        queue.take(&mut taken, &Taking { max: 10, crowded: false, patience: FOR_EVER, ..taking(0) });
        taken.sort_unstable();
        assert_eq!(taken, (1..=FEEDERS).collect::<Vec<_>>());
        for feeder in feeders {
            feeder.join().expect("nobody panics");
        }
        assert_eq!((queue.awake(), queue.bytes()), (0, 0));
    });
}

/// Whatever is taken before the queue is abandoned is the beginning of what was pushed: the log never has a gap.
#[test]
fn an_abandoned_queue_ends_the_log_thread_with_a_beginning() {
    in_many_orders(|| {
        let queue = Arc::new(LogQueue::default());
        let log = {
            let queue = queue.clone();
            shuttle::thread::spawn(move || {
                let mut all: Vec<u8> = Vec::new();
                loop {
                    let mut batch = Vec::new();
                    queue.take(&mut batch, &taking(all.len()));
                    if batch.is_empty() {
                        return all;
                    }
                    all.append(&mut batch);
                }
            })
        };
        let stepper = {
            let queue = queue.clone();
            shuttle::thread::spawn(move || {
                for n in 1..=4 {
                    queue.append(&mut vec![n]);
                }
            })
        };
        queue.abandon();
        let all = log.join().expect("nobody panics");
        stepper.join().expect("nobody panics");
        assert!(all.iter().copied().eq(1..=u8::try_from(all.len()).expect("four at most")), "{all:?}");
        assert_eq!(queue.bytes(), 0);
    });
}

// ---- the files of the history ----

/// The log thread changes the history twice and asks for a snapshot of each. No snapshot is begun or finished of a
/// history that is gone, and no segment is prepared while it changes.
#[test]
fn a_change_of_the_history_has_the_files_to_itself() {
    in_many_orders(|| {
        let files = Arc::new(Files::default());
        // What is on disk; odd while it is being changed.
        let disk = Arc::new(AtomicU64::new(0));
        let (ask, asked) = shuttle::sync::mpsc::channel::<(u64, u64)>();
        let snapshots = {
            let (files, disk) = (files.clone(), disk.clone());
            shuttle::thread::spawn(move || {
                while let Ok((history, image)) = asked.recv() {
                    let guard = files.snapshots();
                    if history != files.history() {
                        continue;
                    }
                    // Pieces of a file: each may be the last.
                    let whole = (0..2).all(|_| {
                        assert_eq!(disk.load(Ordering::SeqCst), image, "a snapshot of another history is written");
                        !files.are_claimed()
                    });
                    if whole {
                        assert_eq!(disk.load(Ordering::SeqCst), image, "a snapshot of another history gets its name");
                    }
                    drop(guard);
                }
            })
        };
        let preparer = {
            let (files, disk) = (files.clone(), disk.clone());
            shuttle::thread::spawn(move || {
                let guard = files.segments();
                let before = disk.load(Ordering::SeqCst);
                let after = disk.load(Ordering::SeqCst);
                assert!(before == after && before % 2 == 0, "a segment is prepared while the history changes");
                drop(guard);
            })
        };
        for image in [0, 2] {
            ask.send((files.history(), image)).expect("somebody listens");
            let claim = files.claim();
            assert!(!files.are_claimed(), "who has them does not wait for them");
            disk.fetch_add(1, Ordering::SeqCst);
            disk.fetch_add(1, Ordering::SeqCst);
            drop(claim);
        }
        drop(ask);
        snapshots.join().expect("nobody panics");
        preparer.join().expect("nobody panics");
        assert_eq!(files.history(), 2);
    });
}
