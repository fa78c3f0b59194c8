//! The line of requests: sent and not answered first, then those that wait to be sent, with their bytes.

use super::lease::BEAT;
use super::{Effect, Outcome};
use crate::Time;
use farrier_proto::client::{RequestHeader, begin_frame, end_frame};
use farrier_proto::{Field as _, OpCode, Xid};
use std::collections::VecDeque;
use tokio::sync::oneshot;

/// What a request has to do with time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// When it was sent, or earlier.
    pub(crate) sent: Time,
    /// What its answer makes of [`crate::Lease::since`], if it came through the leader.
    pub(crate) since: Time,
    pub(crate) deadline: Time,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) xid: Xid,
    pub(crate) op: OpCode,
    /// Bytes of the frame.
    len: usize,
    pub(crate) times: Times,
    /// `None`: nobody waits any more, but the answer still has its place.
    pub(crate) reply: Option<oneshot::Sender<Outcome>>,
    pub(crate) effect: Option<Box<Effect>>,
}

impl Entry {
    /// Whether whoever asked has gone.
    fn is_abandoned(&self) -> bool {
        self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    /// Whether it may be executed twice without harm.
    pub(crate) const fn is_harmless(&self) -> bool {
        !self.op.is_write()
    }
}

/// The line. Entries keep the order in which they were made; answers come in that order.
#[derive(Debug)]
pub(crate) struct Line {
    entries: VecDeque<Entry>,
    /// How many of them were handed to a connection: the front.
    sent: usize,
    /// The frames of the others.
    unsent: Vec<u8>,
    last: i32,
    /// Not later than the first deadline.
    earliest: Time,
}

/// What becomes of a request that is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keep {
    Yes,
    No,
}

impl Line {
    pub(crate) const fn new() -> Self {
        Self { entries: VecDeque::new(), sent: 0, unsent: Vec::new(), last: 0, earliest: Time::MAX }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub(crate) fn unsent_bytes(&self) -> usize {
        self.unsent.len()
    }

    /// Puts a request at the end. Gives back what was asked if its frame is longer than `max`: the length.
    pub(crate) fn push(
        &mut self,
        op: OpCode,
        times: Times,
        reply: Option<oneshot::Sender<Outcome>>,
        effect: Option<Box<Effect>>,
        max: usize,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), usize> {
        let xid = Xid(if self.last == BEAT.0 - 1 { 1 } else { self.last + 1 });
        let start = begin_frame(&mut self.unsent);
        RequestHeader { xid, op: op.code() }.write(&mut self.unsent);
        body(&mut self.unsent);
        let len = self.unsent.len() - start;
        if len - 4 > max {
            self.unsent.truncate(start);
            return Err(len - 4);
        }
        end_frame(&mut self.unsent, start);
        self.last = xid.0;
        self.earliest = self.earliest.min(times.deadline);
        self.entries.push_back(Entry { xid, op, len, times, reply, effect });
        Ok(())
    }

    /// Moves the bytes that wait to `into`; their requests count as sent from now on.
    pub(crate) fn take_unsent(&mut self, into: &mut Vec<u8>) {
        if into.is_empty() {
            std::mem::swap(into, &mut self.unsent);
        } else {
            into.append(&mut self.unsent);
        }
        self.sent = self.entries.len();
    }

    /// The request that a reply with this xid answers. Answers come in order; but some servers let a refusal
    /// overtake earlier answers, so an error may be for a later one.
    pub(crate) fn answered(&mut self, xid: Xid, is_error: bool) -> Option<Entry> {
        let front = self.entries.front()?;
        let index = if front.xid == xid {
            0
        } else if is_error {
            self.entries.iter().take(self.sent).position(|e| e.xid == xid)?
        } else {
            return None;
        };
        if index >= self.sent {
            return None;
        }
        self.sent -= 1;
        self.entries.remove(index)
    }

    /// The connection is gone: takes out what it was given.
    pub(crate) fn take_sent(&mut self) -> impl Iterator<Item = Entry> + use<> {
        let unsent = self.entries.split_off(self.sent);
        self.sent = 0;
        std::mem::replace(&mut self.entries, unsent).into_iter()
    }

    /// Takes everything out.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Entry> + use<> {
        self.sent = 0;
        self.unsent.clear();
        self.earliest = Time::MAX;
        std::mem::take(&mut self.entries).into_iter()
    }

    /// Keeps of what waits to be sent only what `keep` says, bytes and all. Gives back what went.
    pub(crate) fn retain_unsent(&mut self, mut keep: impl FnMut(&Entry) -> Keep) -> Vec<Entry> {
        let mut gone = Vec::new();
        let mut bytes = Vec::with_capacity(self.unsent.len());
        let mut offset = 0;
        for entry in self.entries.split_off(self.sent) {
            let frame = offset..offset + entry.len;
            offset = frame.end;
            match keep(&entry) {
                Keep::Yes => {
                    bytes.extend_from_slice(&self.unsent[frame]);
                    self.entries.push_back(entry);
                }
                Keep::No => gone.push(entry),
            }
        }
        assert_eq!(offset, self.unsent.len(), "the bytes are those of the unsent requests");
        self.unsent = bytes;
        gone
    }

    /// A connection begins: what waits goes out with it, unless nobody wants it any more.
    pub(crate) fn begin(&mut self, sent: Time, since: Time) {
        drop(self.retain_unsent(|entry| if entry.is_abandoned() { Keep::No } else { Keep::Yes }));
        for entry in &mut self.entries {
            entry.times = Times { sent, since, ..entry.times };
        }
    }

    /// Not later than the first deadline of a request that somebody waits for.
    pub(crate) const fn earliest(&self) -> Time {
        self.earliest
    }

    /// Takes out what is due and not sent, and gives the answer of `late` to what is due and sent.
    pub(crate) fn expire(&mut self, now: Time, mut late: impl FnMut(&Entry) -> Outcome) -> Vec<Entry> {
        if now < self.earliest {
            return Vec::new();
        }
        let mut earliest = Time::MAX;
        let mut answers = Vec::new();
        for entry in self.entries.iter_mut().take(self.sent).filter(|e| e.reply.is_some()) {
            if entry.times.deadline > now {
                earliest = earliest.min(entry.times.deadline);
            } else if let Some(reply) = entry.reply.take() {
                // What it does to watches stays: the server does it too.
                answers.push((reply, late(entry)));
            }
        }
        let mut any = false;
        for entry in self.entries.iter().skip(self.sent) {
            any |= entry.times.deadline <= now;
            if entry.times.deadline > now {
                earliest = earliest.min(entry.times.deadline);
            }
        }
        self.earliest = earliest;
        for (reply, answer) in answers {
            // Whoever asked may have gone.
            let _ = reply.send(answer);
        }
        let due = |entry: &Entry| if entry.times.deadline <= now { Keep::No } else { Keep::Yes };
        if any { self.retain_unsent(due) } else { Vec::new() }
    }

    /// Every request, for questions about all.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }
}
