//! What the generator asks: the measured rows, and the passes around them that fill, check and clean up.
//!
//! Every value carries the key and the number of the write that made it, so that a read tells whether it
//! saw the right znode and whether an acknowledged write is there.

use anyhow::{Result, ensure};
use farrier_bench::{Script, Source};
use farrier_testkit::enc::Body;

/// Bytes of a value.
pub(super) const VALUE_LEN: usize = 100;
/// Znodes that reads and writes are spread over.
pub(super) const KEYS: u32 = 10_000;
/// Parents of created and of filled znodes.
pub(super) const CREATE_PARENTS: u32 = 64;
/// Parents of filled znodes.
pub(super) const FILL_PARENTS: u32 = 1000;
/// Parent of everything.
pub(super) const ROOT: &str = "/measure";

const CREATE: i32 = 1;
const EXISTS: i32 = 3;
const GET_DATA: i32 = 4;
const SET_DATA: i32 = 5;
const DELETE: i32 = 2;
const SYNC: i32 = 9;
const MULTI: i32 = 14;

/// Deletes in one multi.
const DELETES_PER_MULTI: u32 = 500;

/// What a row does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// getData.
    Get,
    /// setData.
    Set,
    /// create.
    Create,
    /// Nine getData, one setData.
    Mix,
}

/// Path of a key.
fn key_path(key: u32) -> String {
    format!("{ROOT}/k{key:05}")
}

/// Path of a parent of created znodes.
pub(super) fn create_parent(conn: u32) -> String {
    format!("{ROOT}/c{conn:02}")
}

/// Path of a parent of filled znodes.
fn fill_parent(parent: u32) -> String {
    format!("/p{parent:03}")
}

/// Path of a filled znode; its name has 15 bytes.
fn fill_path(number: u32) -> String {
    format!("{}/node-{number:010}", fill_parent(number % FILL_PARENTS))
}

fn value(key: u32, write: u64) -> [u8; VALUE_LEN] {
    let mut value = [b'v'; VALUE_LEN];
    value[..4].copy_from_slice(&key.to_be_bytes());
    value[4..12].copy_from_slice(&write.to_be_bytes());
    value
}

fn written(data: &[u8]) -> Option<(u32, u64)> {
    let key = u32::from_be_bytes(*data.first_chunk()?);
    let write = u64::from_be_bytes(*data.get(4..)?.first_chunk()?);
    (data.len() == VALUE_LEN).then_some((key, write))
}

/// The data of a getData reply.
fn data(body: &[u8]) -> Option<&[u8]> {
    let len = usize::try_from(i32::from_be_bytes(*body.first_chunk()?)).ok()?;
    body.get(4..)?.get(..len)
}

fn send(out: &mut Vec<u8>, xid: i32, op: i32, write: impl FnOnce(Body) -> Body) {
    let at = out.len();
    let whole = write(Body(std::mem::take(out)).i(0).i(xid).i(op));
    *out = whole.0;
    let len = i32::try_from(out.len() - at - 4).expect("frames here are small");
    out[at..at + 4].copy_from_slice(&len.to_be_bytes());
}

fn get(out: &mut Vec<u8>, xid: i32, path: &str) {
    send(out, xid, GET_DATA, |b| b.s(path).z(0));
}

/// Xorshift: the order of keys only has to have no pattern.
#[derive(Debug)]
struct Keys(u64);

impl Keys {
    const fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * bound as u64) >> 32) as u32
    }
}

/// What a server was told and has acknowledged.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Number of the newest write per key.
    writes: Vec<u64>,
    /// Znodes created per parent since the last cleaning.
    created: Vec<u32>,
}

impl Ledger {
    /// Of a server that was set up with [`setup`].
    pub(super) fn new() -> Self {
        Self { writes: vec![0; KEYS as usize], created: vec![0; CREATE_PARENTS as usize] }
    }

    /// Znodes created since the last cleaning.
    pub(super) fn created(&self) -> u64 {
        self.created.iter().map(|n| u64::from(*n)).sum()
    }
}

/// A measured row. Each connection writes keys and parents of its own, so that the last write of a key is
/// known.
#[derive(Debug)]
pub(super) struct Row<'a> {
    kind: Kind,
    conns: u32,
    paths: &'a [String],
    parents: &'a [String],
    ledger: &'a mut Ledger,
    keys: Keys,
    asked: u64,
}

impl<'a> Row<'a> {
    pub(super) fn new(kind: Kind, conns: u32, paths: &'a Paths, ledger: &'a mut Ledger) -> Self {
        Self {
            kind,
            conns,
            paths: &paths.keys,
            parents: &paths.parents,
            ledger,
            keys: Keys(0x9e37_79b9_7f4a_7c15),
            asked: 0,
        }
    }
}

/// Paths, written once.
#[derive(Debug)]
pub(super) struct Paths {
    keys: Vec<String>,
    parents: Vec<String>,
}

impl Paths {
    pub(super) fn new() -> Self {
        Self { keys: (0..KEYS).map(key_path).collect(), parents: (0..CREATE_PARENTS).map(create_parent).collect() }
    }
}

/// The tag of a getData has this bit clear, the tag of a write has it set.
const WRITE: u64 = 1 << 63;

impl Source for Row<'_> {
    fn next(&mut self, conn: usize, xid: i32, out: &mut Vec<u8>) -> Option<u64> {
        let write = match self.kind {
            Kind::Get => false,
            Kind::Set | Kind::Create => true,
            Kind::Mix => self.asked % 10 == 9,
        };
        self.asked += 1;
        let conn = u32::try_from(conn).expect("few connections");
        if self.kind == Kind::Create {
            let parent = conn as usize;
            let number = self.ledger.created[parent];
            self.ledger.created[parent] += 1;
            let mut path = [b'0'; 32];
            let path = created_path(&self.parents[parent], number, &mut path);
            send(out, xid, CREATE, |b| b.create(path, &value(number, 0), 0));
            return Some(WRITE);
        }
        if !write {
            let key = self.keys.below(KEYS);
            get(out, xid, &self.paths[key as usize]);
            return Some(u64::from(key));
        }
        let key = self.keys.below(KEYS / self.conns) * self.conns + conn;
        let number = &mut self.ledger.writes[key as usize];
        *number += 1;
        send(out, xid, SET_DATA, |b| b.s(&self.paths[key as usize]).s(value(key, *number)).i(-1));
        Some(WRITE | u64::from(key))
    }

    fn reply(&mut self, _conn: usize, tag: u64, error: i32, body: &[u8]) -> Result<()> {
        ensure!(error == 0, "{:?} failed with {error}", self.kind);
        if tag & WRITE == 0 {
            let found = data(body).and_then(written).map(|(key, _)| u64::from(key));
            ensure!(found == Some(tag), "key {tag} reads as {found:?}");
        }
        Ok(())
    }
}

/// `parent/n` and ten digits, without going through the formatter.
fn created_path<'b>(parent: &str, number: u32, buffer: &'b mut [u8; 32]) -> &'b [u8] {
    let mut at = parent.len();
    buffer[..at].copy_from_slice(parent.as_bytes());
    buffer[at] = b'/';
    buffer[at + 1] = b'n';
    at += 12;
    let mut rest = number;
    for digit in buffer[at - 10..at].iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).expect("one digit");
        rest /= 10;
    }
    &buffer[..at]
}

/// The parent of everything; run before [`setup`].
pub(super) fn root<'a>(conns: usize) -> Script<'a> {
    Script::new(conns, 1, |_, xid, out| send(out, xid, CREATE, |b| b.create(ROOT, b"", 0)))
}

/// Keys, and parents of what rows create.
pub(super) fn setup<'a>(conns: usize) -> Script<'a> {
    Script::new(conns, KEYS + CREATE_PARENTS, |i, xid, out| {
        send(out, xid, CREATE, |b| match i.checked_sub(KEYS) {
            None => b.create(key_path(i), &value(i, 0), 0),
            Some(parent) => b.create(create_parent(parent), b"", 0),
        });
    })
}

/// Reads every key and compares with what was acknowledged last.
pub(super) fn check_keys<'a>(conns: usize, paths: &'a Paths, ledger: &'a Ledger) -> Script<'a> {
    Script::new(conns, KEYS, |i, xid, out| get(out, xid, &paths.keys[i as usize])).checked(|key, body| {
        let expected = ledger.writes[key as usize];
        let found = data(body).and_then(written);
        ensure!(found == Some((key, expected)), "acknowledged write {expected} of key {key} is lost: {found:?}");
        Ok(())
    })
}

/// Reads the number of children of every parent, and compares with the creates that were acknowledged.
pub(super) fn count_created<'a>(conns: usize, ledger: &'a Ledger) -> Script<'a> {
    Script::new(conns, CREATE_PARENTS, |i, xid, out| send(out, xid, EXISTS, |b| b.s(create_parent(i)).z(0))).checked(
        |parent, body| {
            let expected = ledger.created[parent as usize];
            let found = children(body);
            ensure!(
                found == Some(expected),
                "{} has {found:?} children of {expected} acknowledged",
                create_parent(parent)
            );
            Ok(())
        },
    )
}

/// The number of children in a stat at the beginning of `body`.
fn children(body: &[u8]) -> Option<u32> {
    u32::try_from(i32::from_be_bytes(*body.get(56..)?.first_chunk()?)).ok()
}

/// Reads every created znode.
pub(super) fn check_created<'a>(conns: usize, ledger: &'a Ledger) -> Script<'a> {
    let all = all_created(ledger);
    let count = u32::try_from(all.len()).expect("fewer than 2^32 znodes");
    let numbers = all.clone();
    Script::new(conns, count, move |i, xid, out| {
        let (parent, number) = all[i as usize];
        let mut path = [0; 32];
        let path = created_path(&create_parent(parent), number, &mut path);
        send(out, xid, GET_DATA, |b| b.s(path).z(0));
    })
    .checked(move |i, body| {
        let expected = numbers[i as usize].1;
        let found = data(body).and_then(written);
        ensure!(found == Some((expected, 0)), "created znode {expected} reads as {found:?}");
        Ok(())
    })
}

fn all_created(ledger: &Ledger) -> Vec<(u32, u32)> {
    (0..CREATE_PARENTS).flat_map(|p| (0..ledger.created[p as usize]).map(move |n| (p, n))).collect()
}

/// Deletes every created znode, many in one multi.
pub(super) fn delete_created<'a>(conns: usize, ledger: &Ledger) -> Script<'a> {
    let all = all_created(ledger);
    let multis = u32::try_from(all.len()).expect("fewer than 2^32 znodes").div_ceil(DELETES_PER_MULTI);
    Script::new(conns, multis, move |i, xid, out| {
        let from = (i * DELETES_PER_MULTI) as usize;
        let batch = &all[from..all.len().min(from + DELETES_PER_MULTI as usize)];
        send(out, xid, MULTI, |b| {
            let mut path = [0; 32];
            batch
                .iter()
                .fold(b, |b, (parent, number)| {
                    b.op(DELETE).s(created_path(&create_parent(*parent), *number, &mut path)).i(-1)
                })
                .end()
        });
    })
}

/// Forgets the created znodes.
pub(super) fn forget_created(ledger: &mut Ledger) {
    ledger.created.fill(0);
}

/// Parents of [`fill`].
pub(super) fn fill_parents<'a>(conns: usize) -> Script<'a> {
    Script::new(conns, FILL_PARENTS, |i, xid, out| send(out, xid, CREATE, |b| b.create(fill_parent(i), b"", 0)))
}

/// Creates `count` znodes, round robin over the parents.
pub(super) fn fill<'a>(conns: usize, count: u32) -> Script<'a> {
    Script::new(conns, count, |i, xid, out| {
        send(out, xid, CREATE, |b| b.create(fill_path(i), &value(i, 0), 0));
    })
}

/// Reads every `stride`th filled znode.
pub(super) fn check_filled<'a>(conns: usize, count: u32, stride: u32) -> Script<'a> {
    Script::new(conns, count / stride, move |i, xid, out| get(out, xid, &fill_path(i * stride))).checked(
        move |i, body| {
            let found = data(body).and_then(written);
            ensure!(found == Some((i * stride, 0)), "filled znode {} reads as {found:?}", i * stride);
            Ok(())
        },
    )
}

/// Reads the number of children of every parent of a fill; `total` gets their sum.
pub(super) fn count_filled<'a>(conns: usize, total: &'a mut u32) -> Script<'a> {
    Script::new(conns, FILL_PARENTS, |i, xid, out| send(out, xid, EXISTS, |b| b.s(fill_parent(i)).z(0))).checked(
        move |_, body| {
            *total += children(body).unwrap_or_default();
            Ok(())
        },
    )
}

/// A sync on every connection: what was acknowledged before it anywhere is read behind it.
pub(super) fn sync<'a>(conns: usize) -> Script<'a> {
    let count = u32::try_from(conns).expect("few connections");
    Script::new(conns, count, |_, xid, out| send(out, xid, SYNC, |b| b.s("/")))
}

/// Writes keys in turn, `count` times in all; one connection each key, so that the last write is known.
pub(super) fn rewrite<'a>(conns: usize, count: u32, paths: &'a Paths, ledger: &mut Ledger) -> Script<'a> {
    let before = ledger.writes.clone();
    for key in 0..KEYS {
        ledger.writes[key as usize] += u64::from(count / KEYS);
    }
    // Key and connection repeat together, because the connections divide the keys.
    assert!(count.is_multiple_of(KEYS) && KEYS.is_multiple_of(u32::try_from(conns).expect("few connections")));
    Script::new(conns, count, move |i, xid, out| {
        let (key, write) = (i % KEYS, before[(i % KEYS) as usize] + u64::from(i / KEYS) + 1);
        send(out, xid, SET_DATA, |b| b.s(&paths.keys[key as usize]).s(value(key, write)).i(-1));
    })
}

/// A one-off `exists` of the root, as a framed request.
pub(super) fn exists_root(xid: i32) -> Vec<u8> {
    let mut out = Vec::new();
    send(&mut out, xid, EXISTS, |b| b.s("/").z(0));
    out
}
