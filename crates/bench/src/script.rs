//! Requests that are known beforehand.

use crate::Source;
use anyhow::{Result, ensure};

/// Appends the request with a number and an xid.
type Write<'a> = dyn Fn(u32, i32, &mut Vec<u8>) + 'a;
/// Judges the body of the reply to the request with a number.
type Check<'a> = dyn FnMut(u32, &[u8]) -> Result<()> + 'a;

/// Requests known beforehand, handed to the connections round robin; each must succeed.
pub struct Script<'a> {
    next: Vec<u32>,
    count: u32,
    write: Box<Write<'a>>,
    check: Box<Check<'a>>,
}

impl<'a> Script<'a> {
    /// The requests 0 to `count`, over `conns` connections.
    ///
    /// # Panics
    ///
    /// With more than 2^32 connections.
    pub fn new(conns: usize, count: u32, write: impl Fn(u32, i32, &mut Vec<u8>) + 'a) -> Self {
        let conns = u32::try_from(conns).expect("few connections");
        Self { next: (0..conns).collect(), count, write: Box::new(write), check: Box::new(|_, _| Ok(())) }
    }

    /// The same, with a look at every reply.
    #[must_use]
    pub fn checked(mut self, check: impl FnMut(u32, &[u8]) -> Result<()> + 'a) -> Self {
        self.check = Box::new(check);
        self
    }
}

impl Source for Script<'_> {
    fn next(&mut self, conn: usize, xid: i32, out: &mut Vec<u8>) -> Option<u64> {
        let conns = u32::try_from(self.next.len()).expect("few connections");
        let number = self.next[conn];
        if number >= self.count {
            return None;
        }
        self.next[conn] += conns;
        (self.write)(number, xid, out);
        Some(u64::from(number))
    }

    fn reply(&mut self, _conn: usize, tag: u64, error: i32, body: &[u8]) -> Result<()> {
        let number = u32::try_from(tag)?;
        ensure!(error == 0, "request {number} failed with {error}");
        (self.check)(number, body)
    }
}
