//! One client socket on its worker's thread: bytes in, frames to the replica, replies out.

use crate::core::Core;
use crate::peers::later;
use crate::words;
use crate::worker::WorkerContext;
use farrier_replica::{ConnId, FRAME_SKIP_MAX, Input, REPLY_MAX};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, Sleep, sleep_until};

/// First size of a read buffer; it grows while reads fill it.
const READ_MIN: usize = 512;

/// Largest read: enough to batch hundreds of requests.
const READ_MAX: usize = 64 << 10;

/// How long a closing connection may take to accept what is left for it; with the answer to a four-letter word, how
/// long for [`WORD_PACE`] bytes of it.
const LINGER: Duration = Duration::from_secs(5);

/// How long a client may take to close its end after we closed ours, and how many bytes it may still send
/// in that time: closing a socket with unread input resets the connection, and a reset can destroy the
/// last reply on its way.
const HANG_UP: Duration = Duration::from_secs(1);
const HANG_UP_BYTES: usize = 1 << 20;

/// So many bytes of the answer to a four-letter word must leave within [`LINGER`]: whoever asked wants all of it, and
/// may be slow.
const WORD_PACE: usize = 16 << 10;

/// The same time where the whole server closes.
const HANG_UP_CLOSING: Duration = Duration::from_millis(200);

/// Most bytes that are worth waiting for, besides the longest reply.
const LINGER_BYTES: usize = 4 << 20;

/// Output memory that an idle connection keeps.
const OUT_KEEP_MAX: usize = 4 << 10;

/// Most frames in one turn under the replica's lock. Other connections get theirs before the next turn.
const TURN_FRAMES_MAX: usize = 64;

/// In so many bytes there are usually several frames.
const FORESEEN_MIN: usize = 512;

/// A turn whose frames were answered with so many bytes ends.
const TURN_OUTPUT_MAX: usize = 256 << 10;

/// A turn that took so long ends, with the frame it is at or at most three later.
const TURN_TIME_MAX: Duration = Duration::from_millis(1);

/// Frames from one look at the clock to the next. A look takes some hundredths of what a small request takes.
const FRAMES_PER_LOOK: usize = 4;

/// The part of a connection that others than its task reach.
#[derive(Debug)]
pub(crate) struct Conn {
    id: ConnId,
    write: OwnedWriteHalf,
    out: parking_lot::Mutex<Output>,
    /// The socket took less than it was given: the connection's task waits for room.
    full: AtomicBool,
    paused: AtomicBool,
    closing: AtomicBool,
    broken: AtomicBool,
    /// The client closed its end.
    ended: AtomicBool,
    /// Of the connection's task, which looks at all of the above when it is woken.
    task: Waker,
}

#[derive(Debug, Default)]
struct Output {
    bytes: Vec<u8>,
    sent: usize,
    /// Of all that was ever put here, how much nobody has to send any more.
    taken: u64,
    report: bool,
    dirty: bool,
}

impl Conn {
    fn new(id: ConnId, write: OwnedWriteHalf, task: Waker) -> Self {
        Self {
            id,
            write,
            out: parking_lot::Mutex::default(),
            full: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            task,
        }
    }

    pub(crate) const fn id(&self) -> ConnId {
        self.id
    }

    /// Appends frames; true if the connection had nothing to flush before in this round.
    pub(crate) fn queue(&self, frames: &[u8]) -> bool {
        let mut out = self.out.lock();
        out.bytes.extend_from_slice(frames);
        !std::mem::replace(&mut out.dirty, true)
    }

    pub(crate) fn pause(&self) {
        self.paused.store(true, SeqCst);
    }

    pub(crate) fn resume(&self) {
        self.paused.store(false, SeqCst);
        self.task.wake_by_ref();
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, SeqCst);
        self.task.wake_by_ref();
    }

    /// True if the connection is now due in this round's flush.
    pub(crate) fn report_flush(&self) -> bool {
        let mut out = self.out.lock();
        out.report = true;
        !std::mem::replace(&mut out.dirty, true)
    }

    fn taken(&self) -> u64 {
        self.out.lock().taken
    }

    fn backlog(&self) -> usize {
        let out = self.out.lock();
        out.bytes.len() - out.sent
    }

    /// Sends these at once, as far as the socket takes them, unless others wait before them: then false.
    pub(crate) fn send(&self, frames: &[u8]) -> bool {
        let mut out = self.out.lock();
        if !out.bytes.is_empty() {
            return false;
        }
        let sent = self.write(frames);
        out.taken += sent as u64;
        out.bytes.extend_from_slice(&frames[sent..]);
        true
    }

    /// Writes what the socket takes. True when everything is sent and somebody wants to know.
    pub(crate) fn flush(&self) -> bool {
        let mut guard = self.out.lock();
        let out = &mut *guard;
        out.dirty = false;
        let sent = self.write(&out.bytes[out.sent..]);
        out.sent += sent;
        out.taken += sent as u64;
        if out.sent < out.bytes.len() {
            // What was sent goes, or the buffer of a client that is always a little behind would grow for as long as it is.
            if out.sent > out.bytes.len() / 2 {
                out.bytes.drain(..out.sent);
                out.sent = 0;
                if out.bytes.capacity() / 4 > out.bytes.len().max(OUT_KEEP_MAX) {
                    out.bytes.shrink_to(2 * out.bytes.len());
                }
            }
            return false;
        }
        out.bytes.clear();
        out.sent = 0;
        if out.bytes.capacity() > OUT_KEEP_MAX {
            out.bytes.shrink_to(OUT_KEEP_MAX);
        }
        // Written under the lock only; a store costs more than a look.
        if self.full.load(SeqCst) {
            self.full.store(false, SeqCst);
        }
        std::mem::take(&mut out.report)
    }

    /// How many bytes nobody has to send any more: what the socket took, or all once it is broken.
    fn write(&self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.write.try_write(&bytes[sent..]) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.full.store(true, SeqCst);
                    self.task.wake_by_ref();
                    break;
                }
                Err(_) => {
                    self.broken.store(true, SeqCst);
                    self.task.wake_by_ref();
                    return bytes.len();
                }
            }
        }
        sent
    }
}

/// How the beginning of the input is to be taken.
enum Stage {
    /// Nothing was taken: a four-letter word or the first frame.
    Start,
    /// Frames.
    Frames,
    /// The rest of a frame that is too long: its header, its length, what is still to come of it.
    Skipping { head: [u8; 8], len: usize, left: usize },
}

enum Taken {
    /// More bytes are needed.
    More,
    /// There is more to take, after others had their turn.
    TurnOver,
    /// The replica wants no more for now.
    Paused,
    /// A four-letter word.
    Word(words::Word),
    /// Bytes that no client sends.
    Bad,
}

/// Why a turn is over though there is more.
#[derive(Debug, PartialEq, Eq)]
enum Over {
    /// It took long.
    Time,
    /// Many frames, or much output.
    Size,
}

/// How much of the replica's time a connection has taken in one go.
#[derive(Default)]
struct Turn {
    frames: usize,
    /// When the second frame began: a single one pays for no look at the clock.
    since: Option<std::time::Instant>,
}

impl Turn {
    /// Asked before each frame; says whether and why the turn is over before it.
    fn over(&mut self, emitted: usize) -> Option<Over> {
        self.frames += 1;
        if self.frames == 1 {
            return None;
        }
        let looks = self.frames <= 3 || (self.frames - 2).is_multiple_of(FRAMES_PER_LOOK);
        if looks && self.since.get_or_insert_with(std::time::Instant::now).elapsed() >= TURN_TIME_MAX {
            return Some(Over::Time);
        }
        (self.frames > TURN_FRAMES_MAX || emitted >= TURN_OUTPUT_MAX).then_some(Over::Size)
    }

    /// Nothing whole is left. Whoever pipelines has the next batch in its socket already, and would keep the
    /// worker from the others.
    const fn end(&self) -> Taken {
        if self.frames > 1 { Taken::TurnOver } else { Taken::More }
    }
}

/// The frames with which `bytes` begin, as long as they are whole.
fn whole_frames(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (frame, rest) = rest.split_at_checked(usize::try_from(i32::from_be_bytes(*len)).ok()?)?;
        bytes = rest;
        Some(frame)
    })
}

/// Serves one socket, which counts against the limits, until it ends.
pub(crate) async fn serve(context: Rc<WorkerContext>, stream: TcpStream, peer: SocketAddr) {
    let core = context.core();
    let id = core.name_connection(context.index());
    let (mut read, write) = stream.into_split();
    let task = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let conn = Arc::new(Conn::new(id, write, task));
    context.register(&conn);
    core.step(Input::ClientUp { conn: id, peer });
    context.deliver();
    let word = Task { context: &context, core, conn: &conn, stage: Stage::Start, buffer: Vec::new(), started: false }
        .run(&mut read)
        .await;
    // Harmless if the replica closed it first.
    core.step(Input::ClientDown { conn: id });
    context.deliver();
    // Apart: as long as it serves, a connection holds no room for its end.
    Box::pin(end(&context, &conn, &read, word, peer)).await;
    context.unregister(id);
    context.limits().leave(peer.ip());
}

/// Answers a four-letter word, sends what is left, and hangs up.
async fn end(context: &WorkerContext, conn: &Conn, read: &OwnedReadHalf, word: Option<words::Word>, peer: SocketAddr) {
    let (mut worth, mut pace) = (LINGER_BYTES + REPLY_MAX.max(4 * context.frame_max()), None);
    if let Some(word) = word {
        // Probes ask every few seconds.
        tracing::debug!("processing {} command from {peer}", word.name());
        let answer = words::answer(context, word, peer).await;
        conn.queue(answer.as_bytes());
        (worth, pace) = (answer.len(), Some(WORD_PACE));
    }
    if finish(conn, worth, LINGER, pace).await && !conn.ended.load(SeqCst) {
        hang_up(conn, read, if context.core().is_closing() { HANG_UP_CLOSING } else { HANG_UP }).await;
    }
}

/// Sends what is left, within bounds of time and of `worth` bytes; true if everything is sent. The time is `linger`,
/// and begins again whenever `pace` bytes have left.
async fn finish(conn: &Conn, worth: usize, linger: Duration, pace: Option<usize>) -> bool {
    let (mut mark, mut deadline) = (conn.backlog(), Instant::now() + linger);
    loop {
        conn.flush();
        let left = conn.backlog();
        if pace.is_some_and(|pace| mark.saturating_sub(left) >= pace) {
            (mark, deadline) = (left, Instant::now() + linger);
        }
        if left > worth {
            // It was closed because it does not read; what it was sent only costs memory.
            return false;
        }
        if conn.broken.load(SeqCst) || left == 0 {
            return !conn.broken.load(SeqCst);
        }
        // Only now: this process may have stood still, and its client not.
        if Instant::now() >= deadline {
            return false;
        }
        tokio::select! {
            ready = conn.write.writable() => if ready.is_err() { return false },
            () = sleep_until(deadline) => {}
        }
    }
}

/// Closes our end and waits, within bounds, for the client to close its own.
async fn hang_up(conn: &Conn, read: &OwnedReadHalf, patience: Duration) {
    if socket2::SockRef::from(conn.write.as_ref()).shutdown(Shutdown::Write).is_err() {
        return;
    }
    let deadline = Instant::now() + patience;
    let mut left = HANG_UP_BYTES;
    while discard(read, &mut left) {
        tokio::select! {
            ready = read.readable() => if ready.is_err() { return },
            () = sleep_until(deadline) => return,
        }
    }
}

/// Reads away what is there; true if more may come.
fn discard(read: &OwnedReadHalf, left: &mut usize) -> bool {
    let mut nowhere = [0; 8 << 10];
    loop {
        match read.try_read(&mut nowhere) {
            Ok(n) if n > 0 && n < *left => *left -= n,
            Ok(_) => return false,
            Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

/// Reads what is there into the buffer, which gets its memory only once something is.
fn poll_receive(read: &mut OwnedReadHalf, buffer: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    if buffer.capacity() == 0 {
        ready!(read.as_ref().poll_read_ready(cx))?;
        buffer.reserve(READ_MIN);
    }
    pin!(read.read_buf(buffer)).poll(cx)
}

/// What a connection's task waits for.
enum Event {
    /// Others want something of it, which its [`Conn`] tells.
    Woken,
    /// So many bytes came, none at the client's end of them.
    Received(io::Result<usize>),
    /// The socket takes more.
    Writable(io::Result<()>),
    /// The client has said nothing for too long.
    Late,
}

struct Task<'a> {
    context: &'a WorkerContext,
    core: &'a Core,
    conn: &'a Arc<Conn>,
    stage: Stage,
    buffer: Vec<u8>,
    /// A whole first frame was seen.
    started: bool,
}

impl Task<'_> {
    /// Returns the four-letter word that the connection turned out to be, if it did.
    async fn run(mut self, read: &mut OwnedReadHalf) -> Option<words::Word> {
        let mut sessionless = Some(Box::pin(sleep_until(Instant::now() + self.context.sessionless_timeout())));
        loop {
            if self.conn.closing.load(SeqCst) || self.conn.broken.load(SeqCst) || self.core.is_closing() {
                return None;
            }
            let may_read = !self.conn.paused.load(SeqCst);
            if may_read && !self.buffer.is_empty() {
                match self.take() {
                    Taken::More => {}
                    Taken::TurnOver => {
                        self.context.deliver();
                        tokio::task::yield_now().await;
                        continue;
                    }
                    Taken::Paused => {
                        // Also where no pause was announced: a replica that halted never heard of this
                        // connection. A resumption comes later than this, or the frame had been taken.
                        self.conn.pause();
                        self.context.deliver();
                        continue;
                    }
                    Taken::Word(word) => return Some(word),
                    Taken::Bad => return None,
                }
                self.context.deliver();
                if self.conn.closing.load(SeqCst) || self.conn.paused.load(SeqCst) {
                    continue;
                }
            }
            self.reserve();
            if self.started {
                sessionless = None;
            }
            match poll_fn(|cx| self.poll_event(read, sessionless.as_mut(), may_read, cx)).await {
                Event::Woken | Event::Received(Ok(1..)) => {}
                Event::Received(Ok(0) | Err(_)) => {
                    self.conn.ended.store(true, SeqCst);
                    return None;
                }
                Event::Writable(Err(_)) => return None,
                Event::Writable(Ok(())) => {
                    let conn = self.conn.id;
                    let asked = self.conn.out.lock().report;
                    if self.conn.flush() {
                        self.core.step(Input::Flushed { conn });
                    }
                    if asked {
                        // Behind the other, which takes what is emitted from then on for all that waits.
                        let taken = self.conn.taken();
                        self.core.step(Input::Draining { conn, taken });
                    }
                    self.context.deliver();
                }
                Event::Late => {
                    tracing::debug!("closing a connection that sent no connect request");
                    return None;
                }
            }
        }
    }

    /// `may_read` is what the caller knows about a pause. Whoever changes what is looked at here wakes the task behind that.
    fn poll_event(
        &mut self,
        read: &mut OwnedReadHalf,
        sessionless: Option<&mut Pin<Box<Sleep>>>,
        may_read: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Event> {
        let conn = self.conn;
        if conn.closing.load(SeqCst) || conn.broken.load(SeqCst) || conn.paused.load(SeqCst) == may_read {
            return Poll::Ready(Event::Woken);
        }
        if may_read && let Poll::Ready(got) = poll_receive(read, &mut self.buffer, cx) {
            return Poll::Ready(Event::Received(got));
        }
        if conn.full.load(SeqCst)
            && let Poll::Ready(ready) = conn.write.as_ref().poll_write_ready(cx)
        {
            return Poll::Ready(Event::Writable(ready));
        }
        if sessionless.is_some_and(|at| at.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Event::Late);
        }
        Poll::Pending
    }

    /// Room for the next read: none while idle, more while reads come back full or a frame is long.
    fn reserve(&mut self) {
        if self.buffer.is_empty() {
            if self.context.is_idle() {
                self.buffer = Vec::new();
                return;
            }
            // What a large frame needed is not kept; what batches of small ones need is.
            self.buffer.shrink_to(READ_MAX);
        }
        let spare = self.buffer.capacity() - self.buffer.len();
        if spare < READ_MIN {
            self.buffer.reserve(self.buffer.capacity().clamp(READ_MIN, READ_MAX));
        }
    }

    /// Takes what can be taken from the buffer.
    fn take(&mut self) -> Taken {
        if matches!(self.stage, Stage::Start) {
            let Some(first) = self.buffer.first_chunk::<4>() else { return Taken::More };
            if let Some(word) = words::Word::parse(*first) {
                if !word.has_argument() {
                    return Taken::Word(word);
                }
                let Some(argument) = self.buffer.get(4..12).and_then(|b| b.first_chunk::<8>()) else {
                    return Taken::More;
                };
                return Taken::Word(word.with_argument(i64::from_be_bytes(*argument)));
            }
            self.stage = Stage::Frames;
        }
        let mut used = 0;
        let taken = self.take_frames(&mut used);
        self.buffer.drain(..used);
        taken
    }

    /// What is known without the replica: that no whole frame is there, as during all but the last read of
    /// a long one.
    fn take_alone(&mut self, used: &mut usize) -> Option<Taken> {
        if let Stage::Skipping { left, .. } = &mut self.stage {
            if self.buffer.len() >= *left {
                return None;
            }
            *used = self.buffer.len();
            *left -= *used;
            return Some(Taken::More);
        }
        let Some(prefix) = self.buffer.first_chunk::<4>() else { return Some(Taken::More) };
        let Ok(len) = usize::try_from(i32::from_be_bytes(*prefix)) else { return Some(Taken::Bad) };
        (len <= self.context.frame_max() && self.buffer.len() - 4 < len).then_some(Taken::More)
    }

    fn take_frames(&mut self, used: &mut usize) -> Taken {
        if let Some(taken) = self.take_alone(used) {
            later::put_off([]);
            return taken;
        }
        let max = self.context.frame_max();
        let id = self.conn.id;
        let (stage, buffer, started) = (&mut self.stage, &self.buffer, &mut self.started);
        self.context.attend();
        self.core.with_requests(|session| {
            let mut turn = Turn::default();
            if buffer.len() >= FORESEEN_MIN && matches!(stage, Stage::Frames) && session.replica.takes_frames(id) {
                session.replica.foresee(whole_frames(&buffer[*used..]).take(TURN_FRAMES_MAX));
            }
            loop {
                if !session.replica.takes_frames(id) {
                    return Taken::Paused;
                }
                let rest = &buffer[*used..];
                if let Stage::Skipping { head, len, left } = stage {
                    let n = rest.len().min(*left);
                    *used += n;
                    *left -= n;
                    if *left > 0 {
                        return Taken::More;
                    }
                    session.step(Input::ClientOversized { conn: id, head: *head, len: *len });
                    *stage = Stage::Frames;
                    continue;
                }
                let Some(prefix) = rest.first_chunk::<4>() else { return turn.end() };
                let Ok(len) = usize::try_from(i32::from_be_bytes(*prefix)) else { return Taken::Bad };
                if len > max {
                    if len > FRAME_SKIP_MAX || !*started {
                        return Taken::Bad;
                    }
                    let Some(head) = rest[4..].first_chunk::<8>() else { return Taken::More };
                    *stage = Stage::Skipping { head: *head, len, left: len - 8 };
                    *used += 12;
                    continue;
                }
                let Some(frame) = rest.get(4..4 + len) else { return turn.end() };
                if let Some(over) = turn.over(session.emitted()) {
                    if over == Over::Time {
                        session.give_way();
                    }
                    return Taken::TurnOver;
                }
                *started = true;
                session.step(Input::ClientFrame { conn: id, frame });
                *used += 4 + len;
                if *used == buffer.len() {
                    return turn.end();
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// Bytes of a connection's task while it serves: each session holds them, and with those of tokio they fit into 512.
    const SERVING_MAX: usize = 400;
    use std::io::Write as _;

    #[test]
    fn a_connection_that_the_replica_does_not_know_waits_and_does_not_spin() {
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let core = testing::core();
            core.step(Input::WriteFailed { error: "a broken disk".into() });
            // As in the moment before the loops are told to end.
            core.closing_flag().store(false, SeqCst);
            let context = testing::worker(&core);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
                let mut client =
                    std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
                client.write_all(&[0, 0, 0, 4, 1, 2, 3, 4]).expect("sent");
                let (stream, peer) = listener.accept().await.expect("a connection");
                stream.readable().await.expect("something was sent");
                context.limits().enter(peer.ip()).map_err(|_| ()).expect("one is admitted");
                let served = tokio::task::spawn_local(serve(context.clone(), stream, peer));
                // Nothing else runs on this thread while the connection spins.
                while context.only_connection().is_none_or(|conn| !conn.paused.load(SeqCst)) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                context.only_connection().expect("it lives").close();
                drop(client);
                served.await.expect("it ends");
            });
            let _ = done.send(());
        });
        ended.recv_timeout(Duration::from_secs(60)).expect("the connection's task lets others run, and ends");
    }

    #[tokio::test]
    async fn an_idle_connection_holds_no_room_for_what_it_may_do_later() {
        let core = testing::core();
        let context = testing::worker(&core);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let _client = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (stream, peer) = listener.accept().await.expect("a connection");
        let task = serve(context, stream, peer);
        assert!(size_of_val(&task) <= SERVING_MAX, "{} bytes", size_of_val(&task));
    }

    #[tokio::test]
    async fn frames_keep_their_order_whether_the_socket_takes_them_or_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut client = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (stream, _) = listener.accept().await.expect("a connection");
        let (_read, write) = stream.into_split();
        let conn = Conn::new(ConnId(0), write, Waker::noop().clone());
        conn.write.writable().await.expect("room");
        let frame = |n: u32| [n.to_be_bytes(); 1 << 16].concat();
        let mut sent = 0;
        while conn.send(&frame(sent)) {
            sent += 1;
        }
        assert!(sent > 0 && conn.full.load(SeqCst) && conn.backlog() > 0);
        // What was refused is queued, behind what waits.
        assert!(conn.queue(&frame(sent)) && !conn.flush());
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            io::Read::read_to_end(&mut client, &mut all).expect("everything, then the end");
            all
        });
        while conn.backlog() > 0 {
            conn.write.writable().await.expect("room");
            conn.flush();
            let out = conn.out.lock();
            assert!(out.sent <= out.bytes.len() / 2, "what was sent does not stay");
        }
        assert_eq!(conn.taken(), u64::from(sent + 1) * (4 << 16));
        assert!(!conn.full.load(SeqCst), "and the task does not wait for room any more");
        drop(conn);
        let all = reader.join().expect("it read");
        assert!(all == (0..=sent).flat_map(frame).collect::<Vec<_>>(), "{} bytes of {sent} frames", all.len());
    }

    #[tokio::test]
    async fn a_slow_reader_of_a_word_gets_all_of_it_and_one_that_stalls_does_not() {
        const PIECE: usize = 128 << 10;
        let answer = vec![b'x'; 30 * PIECE];
        for (reads, linger) in [(true, Duration::from_secs(2)), (false, Duration::from_millis(100))] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            // Set first: what is accepted has it from the beginning.
            socket2::SockRef::from(&listener).set_send_buffer_size(PIECE).expect("set");
            let mut client = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
            socket2::SockRef::from(&client).set_recv_buffer_size(PIECE).expect("set");
            let (stream, _) = listener.accept().await.expect("a connection");
            let (_read, write) = stream.into_split();
            let conn = Conn::new(ConnId(0), write, Waker::noop().clone());
            conn.queue(&answer);
            let len = answer.len();
            let reader = std::thread::spawn(move || {
                let mut piece = vec![0; PIECE];
                for _ in 0..if reads { len / PIECE } else { 0 } {
                    std::thread::sleep(Duration::from_millis(80));
                    io::Read::read_exact(&mut client, &mut piece).expect("more comes");
                }
                client
            });
            let began = Instant::now();
            assert_eq!(finish(&conn, len, linger, Some(WORD_PACE)).await, reads);
            assert_eq!(began.elapsed() > Duration::from_secs(2), reads, "{:?}", began.elapsed());
            drop(conn);
            reader.join().expect("it read");
        }
    }

    #[test]
    fn whole_frames_end_with_what_is_no_whole_frame() {
        let frames = |bytes: &[u8]| whole_frames(bytes).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let two = [0, 0, 0, 2, 7, 8, 0, 0, 0, 0];
        assert_eq!(frames(&two), [vec![7, 8], vec![]]);
        for rest in [[].as_slice(), &[0, 0, 0], &[0, 0, 0, 1], &[0xff; 9]] {
            assert_eq!(frames(&[&two, rest].concat()), [vec![7, 8], vec![]], "{rest:?}");
        }
    }

    #[test]
    fn a_turn_ends_by_frames_output_or_time_but_never_before_its_first_frame() {
        let mut frames = Turn::default();
        // Only time can end it early, on a machine that stands still for so long.
        let taken = (0..).take_while(|_| frames.over(0).is_none()).count();
        assert!((1..=TURN_FRAMES_MAX).contains(&taken), "{taken}");

        let mut output = Turn::default();
        assert!(output.over(TURN_OUTPUT_MAX).is_none(), "the first frame is always taken");
        assert!(output.over(TURN_OUTPUT_MAX).is_some());

        let mut time = Turn::default();
        assert!(time.over(0).is_none());
        let _ = time.over(0);
        std::thread::sleep(TURN_TIME_MAX);
        assert!((0..FRAMES_PER_LOOK).any(|_| time.over(0) == Some(Over::Time)));
    }
}
