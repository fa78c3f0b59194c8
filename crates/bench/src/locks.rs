//! A lock that goes from hand to hand: every connection wants it all the time, by the recipe that clients use (an ephemeral
//! sequential znode, a watch on the one before it).

use crate::Source;
use crate::frame::{put_create, put_delete, put_read, put_request};
use anyhow::{Context as _, Result, ensure};
use farrier_proto::client::CreateMode;
use farrier_proto::jute::Field as _;
use farrier_proto::{ErrorCode, OpCode, Reader};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Where a contender is.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    /// It has no znode.
    Out,
    /// Its znode has this name; who is before it?
    Look(String),
    /// This one is: a watch goes there.
    Watch(String, String),
    /// It waits for the event.
    Wait(String),
    /// It has the lock, and gives it away.
    Release(String),
}

/// Contenders for one lock. What counts is a lock that was released, with its time from the wish for it.
#[derive(Debug)]
pub struct Locks<'a> {
    path: &'a str,
    contenders: Vec<Contender>,
    awake: VecDeque<usize>,
}

#[derive(Debug)]
struct Contender {
    step: Step,
    asked: bool,
    since: Instant,
}

impl<'a> Locks<'a> {
    /// `contenders` connections want the lock below `path`, which has to exist.
    #[must_use]
    pub fn new(path: &'a str, contenders: usize) -> Self {
        let one = || Contender { step: Step::Out, asked: false, since: Instant::now() };
        Self { path, contenders: (0..contenders).map(|_| one()).collect(), awake: VecDeque::new() }
    }

    /// Whether this connection can have the lock by this name: it was told that no znode comes before its own. Every other
    /// contender that was told of an earlier one and has not asked to delete it still has it, so one of them holds the lock.
    fn check_alone(&self, conn: usize, name: &str) -> Result<()> {
        let others = self.contenders.iter().enumerate().filter(|(other, _)| *other != conn);
        for (other, contender) in others {
            let theirs = match &contender.step {
                Step::Out => continue,
                Step::Release(_) if contender.asked => continue,
                Step::Look(theirs) | Step::Watch(theirs, _) | Step::Wait(theirs) | Step::Release(theirs) => theirs,
            };
            ensure!(
                **theirs > *name,
                "two hold the lock at once: connection {conn} was told that nobody is before its {name}, and connection \
                 {other} has {theirs}"
            );
        }
        Ok(())
    }
}

const COUNTS: u64 = 1;

impl Source for Locks<'_> {
    fn next(&mut self, conn: usize, xid: i32, out: &mut Vec<u8>) -> Option<u64> {
        let contender = &mut self.contenders[conn];
        if contender.asked {
            return None;
        }
        let path = self.path;
        let mut tag = 0;
        match &contender.step {
            Step::Wait(_) => return None,
            Step::Out => {
                contender.since = Instant::now();
                put_request(out, xid, OpCode::Create, |out| {
                    put_create(out, &format!("{path}/lock-"), b"", CreateMode::EphemeralSequential);
                });
            }
            Step::Look(_) => put_request(out, xid, OpCode::GetChildren, |out| put_read(out, path, false)),
            Step::Watch(_, before) => {
                // Of what is gone, exists would leave a watch that nobody ever hears of.
                put_request(out, xid, OpCode::GetData, |out| put_read(out, &format!("{path}/{before}"), true));
            }
            Step::Release(name) => {
                tag = COUNTS;
                put_request(out, xid, OpCode::Delete, |out| put_delete(out, &format!("{path}/{name}")));
            }
        }
        contender.asked = true;
        Some(tag)
    }

    fn reply(&mut self, conn: usize, _tag: u64, error: i32, body: &[u8]) -> Result<()> {
        let contender = &mut self.contenders[conn];
        contender.asked = false;
        let step = std::mem::replace(&mut contender.step, Step::Out);
        if let Step::Watch(name, _) = step {
            // Whoever was before it may be gone already: then it looks again.
            let gone = error == ErrorCode::NoNode.code();
            ensure!(error == 0 || gone, "getData failed with {error}");
            contender.step = if gone { Step::Look(name) } else { Step::Wait(name) };
            return Ok(());
        }
        ensure!(error == 0, "{step:?} failed with {error}");
        self.contenders[conn].step = match step {
            Step::Out => {
                let path = <Cow<'_, str>>::read(&mut Reader::new(body))?;
                let name = path.strip_prefix(self.path).and_then(|rest| rest.strip_prefix('/'));
                Step::Look(name.context("a znode with another parent")?.to_owned())
            }
            Step::Look(name) => {
                let names = <Vec<Cow<'_, str>>>::read(&mut Reader::new(body))?;
                match names.iter().filter(|other| ***other < *name).max() {
                    Some(before) => Step::Watch(name, before.clone().into_owned()),
                    None => {
                        self.check_alone(conn, &name)?;
                        Step::Release(name)
                    }
                }
            }
            Step::Release(_) => Step::Out,
            Step::Watch(..) | Step::Wait(_) => unreachable!("handled above, or never asked"),
        };
        Ok(())
    }

    fn counts(&self, conn: usize, tag: u64, _asked: Instant) -> Option<Instant> {
        (tag == COUNTS).then(|| self.contenders[conn].since)
    }

    fn event(&mut self, conn: usize, _body: &[u8], _now: Instant) -> Result<Option<Duration>> {
        let contender = &mut self.contenders[conn];
        if let Step::Wait(name) = &mut contender.step {
            contender.step = Step::Look(std::mem::take(name));
            self.awake.push_back(conn);
        }
        Ok(None)
    }

    fn wake(&mut self) -> Option<usize> {
        self.awake.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frame of a request: its operation.
    fn asked(locks: &mut Locks<'_>, conn: usize) -> Option<i32> {
        let mut out = Vec::new();
        locks.next(conn, 1, &mut out)?;
        Some(i32::from_be_bytes(*out[8..].first_chunk().expect("a whole header")))
    }

    fn created(locks: &mut Locks<'_>, conn: usize, path: &str) {
        let mut body = Vec::new();
        farrier_proto::jute::put_str(&mut body, path);
        locks.reply(conn, 0, 0, &body).expect("a good reply");
    }

    fn children(locks: &mut Locks<'_>, conn: usize, names: &[&str]) {
        let mut body = Vec::new();
        names.iter().map(|name| Cow::Borrowed(*name)).collect::<Vec<Cow<'_, str>>>().write(&mut body);
        locks.reply(conn, 0, 0, &body).expect("a good reply");
    }

    #[test]
    fn the_second_waits_for_the_first_and_is_woken_by_its_end() {
        let mut locks = Locks::new("/l", 2);
        for conn in [0, 1] {
            assert_eq!(asked(&mut locks, conn), Some(OpCode::Create.code()));
            assert_eq!(asked(&mut locks, conn), None, "one request at a time");
            created(&mut locks, conn, &format!("/l/lock-000000000{conn}"));
            assert_eq!(asked(&mut locks, conn), Some(OpCode::GetChildren.code()));
        }
        let both = ["lock-0000000001", "lock-0000000000"];
        children(&mut locks, 0, &both);
        children(&mut locks, 1, &both);
        assert_eq!(asked(&mut locks, 1), Some(OpCode::GetData.code()));
        locks.reply(1, 0, 0, &[]).expect("it is there");
        assert_eq!(asked(&mut locks, 1), None);
        assert_eq!(asked(&mut locks, 0), Some(OpCode::Delete.code()));
        locks.event(1, &[], Instant::now()).expect("an event");
        assert_eq!(locks.wake(), Some(1));
        assert_eq!(asked(&mut locks, 1), Some(OpCode::GetChildren.code()));
        children(&mut locks, 1, &both[..1]);
        assert_eq!(asked(&mut locks, 1), Some(OpCode::Delete.code()));
    }

    #[test]
    fn two_holders_at_once_are_a_failure() {
        let mut locks = Locks::new("/l", 2);
        for conn in [0, 1] {
            asked(&mut locks, conn);
            created(&mut locks, conn, &format!("/l/lock-000000000{conn}"));
            asked(&mut locks, conn);
        }
        // This server has lost the first one's znode, or never had it.
        let mut body = Vec::new();
        vec![Cow::Borrowed("lock-0000000001")].write(&mut body);
        let error = locks.reply(1, 0, 0, &body).expect_err("the first one's turn");
        assert!(error.to_string().starts_with("two hold the lock at once: connection 1"), "{error}");
    }

    #[test]
    fn who_is_gone_before_the_watch_is_not_waited_for() {
        let mut locks = Locks::new("/l", 1);
        asked(&mut locks, 0);
        created(&mut locks, 0, "/l/lock-0000000007");
        asked(&mut locks, 0);
        children(&mut locks, 0, &["lock-0000000003", "lock-0000000007"]);
        asked(&mut locks, 0);
        locks.reply(0, 0, ErrorCode::NoNode.code(), &[]).expect("that is no failure");
        assert_eq!(asked(&mut locks, 0), Some(OpCode::GetChildren.code()));
    }
}
