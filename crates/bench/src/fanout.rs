//! One change, told to many: a znode that a writer sets, and connections with a persistent watch on it.

use crate::Source;
use crate::frame::{put_request, put_set};
use anyhow::{Result, bail, ensure};
use farrier_proto::OpCode;
use farrier_proto::jute::{put_i32, put_str};
use std::time::{Duration, Instant};

/// Tags of requests: a watch is left, the znode is set.
const WATCH: u64 = 0;
const SET: u64 = 1;

/// Connection 0 writes; all others watch. The next write follows when every watcher has heard of the last. What counts is
/// an event, with its time from the write.
#[derive(Debug)]
pub struct Fanout<'a> {
    path: &'a str,
    value: &'a [u8],
    watching: Vec<bool>,
    armed: usize,
    /// How many writes each connection has heard of, and how many have heard of the last.
    heard_of: Vec<u64>,
    heard: usize,
    writes: u64,
    sent_at: Option<Instant>,
    wakes: bool,
}

impl<'a> Fanout<'a> {
    /// `watchers` connections beside the writer's watch `path`, which has to exist.
    #[must_use]
    pub fn new(path: &'a str, value: &'a [u8], watchers: usize) -> Self {
        let watching = vec![false; watchers + 1];
        let heard_of = vec![0; watchers + 1];
        Self { path, value, watching, armed: 0, heard_of, heard: 0, writes: 0, sent_at: None, wakes: false }
    }

    /// How many writes every watcher heard of.
    #[must_use]
    pub const fn writes(&self) -> u64 {
        self.writes
    }

    const fn watchers(&self) -> usize {
        self.watching.len() - 1
    }
}

impl Source for Fanout<'_> {
    fn next(&mut self, conn: usize, xid: i32, out: &mut Vec<u8>) -> Option<u64> {
        /// A watch for data and children of one znode, which stays.
        const PERSISTENT: i32 = 0;
        if conn > 0 {
            if self.watching[conn] {
                return None;
            }
            self.watching[conn] = true;
            put_request(out, xid, OpCode::AddWatch, |out| {
                put_str(out, self.path);
                put_i32(out, PERSISTENT);
            });
            return Some(WATCH);
        }
        if self.armed < self.watchers() || self.sent_at.is_some() {
            return None;
        }
        self.heard = 0;
        self.sent_at = Some(Instant::now());
        put_request(out, xid, OpCode::SetData, |out| put_set(out, self.path, self.value));
        Some(SET)
    }

    fn reply(&mut self, _conn: usize, tag: u64, error: i32, _body: &[u8]) -> Result<()> {
        ensure!(error == 0, "{} failed with {error}", if tag == SET { "the write" } else { "addWatch" });
        if tag == WATCH {
            self.armed += 1;
            self.wakes = self.armed == self.watchers();
        }
        Ok(())
    }

    fn counts(&self, _conn: usize, _tag: u64, _asked: Instant) -> Option<Instant> {
        None
    }

    fn event(&mut self, conn: usize, _body: &[u8], now: Instant) -> Result<Option<Duration>> {
        let Some(sent_at) = self.sent_at else {
            bail!("connection {conn} got an event that no write is left for, after {} writes", self.writes)
        };
        ensure!(conn > 0, "the writer got an event, and has no watch");
        // One event too many here must not stand for one too few elsewhere.
        ensure!(self.heard_of[conn] == self.writes, "connection {conn} heard of write {} twice", self.writes + 1);
        self.heard_of[conn] += 1;
        self.heard += 1;
        if self.heard == self.watchers() {
            self.sent_at = None;
            self.writes += 1;
            self.wakes = true;
        }
        Ok(Some(now.duration_since(sent_at)))
    }

    fn wake(&mut self) -> Option<usize> {
        std::mem::take(&mut self.wakes).then_some(0)
    }

    fn awaits(&self) -> Option<usize> {
        self.sent_at?;
        (1..self.heard_of.len()).find(|conn| self.heard_of[*conn] == self.writes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(fanout: &mut Fanout<'_>, conn: usize) -> Option<u64> {
        fanout.next(conn, 1, &mut Vec::new())
    }

    /// Two watchers, and the first write is on its way.
    fn written() -> Fanout<'static> {
        let mut fanout = Fanout::new("/f", b"", 2);
        for conn in [1, 2] {
            assert_eq!(ask(&mut fanout, 0), None, "not before all watch");
            let tag = ask(&mut fanout, conn).expect("it watches");
            fanout.reply(conn, tag, 0, &[]).expect("a good reply");
        }
        assert_eq!(fanout.wake(), Some(0));
        assert_eq!(ask(&mut fanout, 0), Some(SET));
        fanout
    }

    #[test]
    fn the_next_write_comes_when_every_watcher_has_heard_of_the_last() {
        let mut fanout = written();
        for writes in 1..4 {
            assert_eq!(fanout.awaits(), Some(1));
            fanout.event(1, &[], Instant::now()).expect("its event");
            assert_eq!((ask(&mut fanout, 0), fanout.awaits()), (None, Some(2)));
            fanout.event(2, &[], Instant::now()).expect("its event");
            assert_eq!((fanout.writes(), fanout.awaits(), fanout.wake()), (writes, None, Some(0)));
            assert_eq!(ask(&mut fanout, 0), Some(SET));
        }
    }

    #[test]
    fn an_event_that_comes_twice_does_not_stand_for_one_that_is_lost() {
        let mut fanout = written();
        fanout.event(2, &[], Instant::now()).expect("its event");
        let error = fanout.event(2, &[], Instant::now()).expect_err("twice");
        assert_eq!(error.to_string(), "connection 2 heard of write 1 twice");
        assert_eq!(fanout.awaits(), Some(1), "it has heard of nothing");
        fanout.event(0, &[], Instant::now()).expect_err("the writer watches nothing");
    }
}
