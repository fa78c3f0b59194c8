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
        Self { path, value, watching, armed: 0, heard: 0, writes: 0, sent_at: None, wakes: false }
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
        let Some(sent_at) = self.sent_at else { bail!("connection {conn} got an event before anything was written") };
        self.heard += 1;
        ensure!(self.heard <= self.watchers(), "connection {conn} heard of one write twice");
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
}
