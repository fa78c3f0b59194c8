//! Plain requests: reads, writes, and what has to be there for them.
//!
//! Every value carries the key and the number of the write that made it, so that a read tells whether it saw the right
//! znode, and a pass afterwards whether an acknowledged write is there.

use crate::frame::{
    children_of, data, names, put_create, put_delete, put_multi_header, put_read, put_request, put_set,
};
use crate::{Pace, Pool, Progress, Script, Source, Span};
use anyhow::{Context as _, Result, ensure};
use farrier_proto::OpCode;
use farrier_proto::client::CreateMode;
use std::net::SocketAddr;
use std::time::Duration;

/// Least bytes of a value: its key and the number of its write.
pub const VALUE_MIN: usize = 12;
/// Children of the znode whose children are read.
pub const CHILDREN: u32 = 1000;
/// Operations of a multi.
pub const MULTI_OPS: u32 = 10;
/// Deletes in one multi when everything is taken away.
const DELETES_PER_MULTI: usize = 500;
/// Connections of passes that are not measured, and their depth.
pub(crate) const PASS_CONNS: usize = 16;
const PASS_DEPTH: usize = 32;

/// What a row does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// getData.
    Get,
    /// setData.
    Set,
    /// Nine getData, one setData.
    Mix,
    /// create.
    Create,
    /// delete of what was created before; until nothing is left.
    Delete,
    /// create of ephemeral sequential znodes.
    Ephemeral,
    /// getChildren of a znode with [`CHILDREN`] children.
    Children,
    /// multi of [`MULTI_OPS`] setData.
    Multi,
    /// sync.
    Sync,
}

/// Where everything lies, and how big it is.
#[derive(Clone, Debug)]
pub struct Space {
    root: String,
    keys: Vec<String>,
    parents: Vec<String>,
    value: Vec<u8>,
}

impl Space {
    /// Below `root`: `keys` znodes with values of `value_len` bytes, and a parent for what each of `conns` connections
    /// creates.
    ///
    /// # Errors
    ///
    /// Values are too short for what they have to carry, or there are fewer keys than connections.
    pub fn new(root: &str, keys: u32, conns: u32, value_len: usize) -> Result<Self> {
        ensure!(
            value_len >= VALUE_MIN,
            "values of {value_len} bytes: they carry a key and a number, so {VALUE_MIN} at least"
        );
        ensure!(keys >= conns, "{keys} znodes for {conns} connections: each writes znodes of its own");
        Ok(Self {
            root: root.to_owned(),
            keys: (0..keys).map(|key| format!("{root}/k{key:07}")).collect(),
            parents: (0..conns).map(|conn| format!("{root}/c{conn:05}")).collect(),
            value: vec![b'v'; value_len],
        })
    }

    /// The parent of everything.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    fn value(&self, key: u32, write: u64) -> Vec<u8> {
        let mut value = self.value.clone();
        value[..4].copy_from_slice(&key.to_be_bytes());
        value[4..VALUE_MIN].copy_from_slice(&write.to_be_bytes());
        value
    }

    fn written(&self, data: &[u8]) -> Option<(u32, u64)> {
        let key = u32::from_be_bytes(*data.first_chunk()?);
        let write = u64::from_be_bytes(*data.get(4..)?.first_chunk()?);
        (data.len() == self.value.len()).then_some((key, write))
    }

    fn wide_parent(&self) -> String {
        format!("{}/wide", self.root)
    }
}

/// What a server was told and has acknowledged.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// Number of the newest write per key.
    writes: Vec<u64>,
    /// Znodes created per parent so far, and how many of the first of them were deleted.
    created: Vec<u32>,
    deleted: Vec<u32>,
}

/// How many znodes were created and deleted per parent when a row began: those in between stay when it ends.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    created: Vec<u32>,
    deleted: Vec<u32>,
}

impl Kept {
    /// The first number per parent that the row itself can create.
    pub(crate) fn created(&self) -> &[u32] {
        &self.created
    }

    /// How many znodes stay.
    pub(crate) fn len(&self) -> u64 {
        self.created.iter().zip(&self.deleted).map(|(created, deleted)| u64::from(created - deleted)).sum()
    }
}

impl Ledger {
    /// What a row finds that begins now.
    pub(crate) fn kept(&self) -> Kept {
        Kept { created: self.created.clone(), deleted: self.deleted.clone() }
    }

    /// Nothing that was there before is deleted by the row that begins.
    pub(crate) fn spare(&mut self, kept: &Kept) {
        self.deleted.clone_from(&kept.created);
    }

    /// All that was created since is gone again; its names are free.
    pub(crate) fn forget_since(&mut self, kept: &Kept) {
        self.created.clone_from(&kept.created);
        self.deleted.clone_from(&kept.deleted);
    }
}

/// Nobody hears of it, and nobody ends it.
const fn untold(_elapsed: Duration, _count: u64) -> Result<()> {
    Ok(())
}

/// A pass that has to succeed and is not measured.
pub(crate) fn pass<S: Source>(addrs: &[SocketAddr], mut source: S, progress: Progress<'_>) -> Result<Duration> {
    let mut pool = Pool::open(addrs, PASS_CONNS)?;
    let (pace, span) = (Pace::Depth(PASS_DEPTH), Span::Exhausted);
    let window = pool.run_told(pace, span, &mut source, &mut || Ok(()), progress)?;
    pool.close()?;
    Ok(window.elapsed)
}

/// Creates everything that rows need.
///
/// # Errors
///
/// A server refuses it; where the root exists already, too.
pub fn prepare(addrs: &[SocketAddr], space: &Space) -> Result<Ledger> {
    prepare_told(addrs, space, &mut untold)
}

/// [`prepare`] that tells how far it is.
///
/// # Errors
///
/// As [`prepare`].
pub fn prepare_told(addrs: &[SocketAddr], space: &Space, progress: Progress<'_>) -> Result<Ledger> {
    let create = |out: &mut Vec<u8>, xid, path: &str, value: &[u8]| {
        put_request(out, xid, OpCode::Create, |out| put_create(out, path, value, CreateMode::Persistent));
    };
    pass(addrs, Script::new(PASS_CONNS, 1, |_, xid, out| create(out, xid, &space.root, b"")), progress)
        .with_context(|| format!("creating {}", space.root))?;
    let keys = u32::try_from(space.keys.len())?;
    let parents = u32::try_from(space.parents.len())?;
    let all = keys + parents + 1;
    let first = Script::new(PASS_CONNS, all, |i, xid, out| {
        if i < keys {
            create(out, xid, &space.keys[i as usize], &space.value(i, 0));
        } else if let Some(parent) = space.parents.get((i - keys) as usize) {
            create(out, xid, parent, b"");
        } else {
            create(out, xid, &space.wide_parent(), b"");
        }
    });
    pass(addrs, first, progress).context("creating what is read and written")?;
    let wide = Script::new(PASS_CONNS, CHILDREN, |i, xid, out| {
        create(out, xid, &format!("{}/child-{i:06}", space.wide_parent()), b"");
    });
    pass(addrs, wide, progress).context("creating children")?;
    Ok(Ledger {
        writes: vec![0; keys as usize],
        created: vec![0; parents as usize],
        deleted: vec![0; parents as usize],
    })
}

/// Creates `count` znodes over the parents: what [`Kind::Delete`] takes away, or a tree of some size.
///
/// # Errors
///
/// A server refuses it.
pub fn fill(addrs: &[SocketAddr], space: &Space, ledger: &mut Ledger, count: u32) -> Result<Duration> {
    fill_told(addrs, space, ledger, count, &mut untold)
}

/// [`fill`] that tells how far it is.
pub(crate) fn fill_told(
    addrs: &[SocketAddr],
    space: &Space,
    ledger: &mut Ledger,
    count: u32,
    progress: Progress<'_>,
) -> Result<Duration> {
    let parents = u32::try_from(space.parents.len())?;
    let before = ledger.created.clone();
    let source = Script::new(PASS_CONNS, count, |i, xid, out| {
        let parent = (i % parents) as usize;
        let number = before[parent] + i / parents;
        let path = created_path(&space.parents[parent], number);
        put_request(out, xid, OpCode::Create, |out| {
            put_create(out, &path, &space.value(number, 0), CreateMode::Persistent);
        });
    });
    let took = pass(addrs, source, progress)?;
    for (parent, created) in (0..parents).zip(&mut ledger.created) {
        *created += count / parents + u32::from(parent < count % parents);
    }
    Ok(took)
}

fn created_path(parent: &str, number: u32) -> String {
    format!("{parent}/n{number:010}")
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

/// A row that is measured. Each connection writes keys and parents of its own, so that the last write of a key is known.
#[derive(Debug)]
pub struct Row<'a> {
    kind: Kind,
    conns: u32,
    space: &'a Space,
    ledger: &'a mut Ledger,
    keys: Keys,
    asked: u64,
    wide: String,
    ephemerals: u64,
}

/// The tag of a read has this bit clear, the tag of a write has it set.
const WRITE: u64 = 1 << 63;

impl<'a> Row<'a> {
    /// A row over so many connections.
    ///
    /// # Panics
    ///
    /// If the space was made for fewer.
    pub fn new(kind: Kind, conns: u32, space: &'a Space, ledger: &'a mut Ledger) -> Self {
        assert!(space.parents.len() >= conns as usize, "the space has a parent for every connection");
        let wide = space.wide_parent();
        Self { kind, conns, space, ledger, keys: Keys(0x9e37_79b9_7f4a_7c15), asked: 0, wide, ephemerals: 0 }
    }

    /// How many ephemeral znodes were acknowledged.
    #[must_use]
    pub const fn ephemerals(&self) -> u64 {
        self.ephemerals
    }

    /// A key that only this connection writes, and the number of its next write.
    fn own_write(&mut self, conn: usize) -> (u32, u64) {
        let all = u32::try_from(self.space.keys.len()).expect("keys are numbered with 32 bits");
        let conn = u32::try_from(conn).expect("few connections");
        let key = self.keys.below(all / self.conns) * self.conns + conn;
        let number = &mut self.ledger.writes[key as usize];
        *number += 1;
        (key, *number)
    }

    fn get(&mut self, xid: i32, out: &mut Vec<u8>) -> u64 {
        let all = u32::try_from(self.space.keys.len()).expect("keys are numbered with 32 bits");
        let key = self.keys.below(all);
        put_request(out, xid, OpCode::GetData, |out| put_read(out, &self.space.keys[key as usize], false));
        u64::from(key)
    }

    fn set(&mut self, conn: usize, xid: i32, out: &mut Vec<u8>) -> u64 {
        let (key, number) = self.own_write(conn);
        let (path, value) = (&self.space.keys[key as usize], self.space.value(key, number));
        put_request(out, xid, OpCode::SetData, |out| put_set(out, path, &value));
        WRITE | u64::from(key)
    }

    fn multi(&mut self, conn: usize, xid: i32, out: &mut Vec<u8>) -> u64 {
        let writes: Vec<(u32, u64)> = (0..MULTI_OPS).map(|_| self.own_write(conn)).collect();
        put_request(out, xid, OpCode::Multi, |out| {
            for (key, number) in writes {
                put_multi_header(out, Some(OpCode::SetData));
                put_set(out, &self.space.keys[key as usize], &self.space.value(key, number));
            }
            put_multi_header(out, None);
        });
        WRITE
    }
}

impl Source for Row<'_> {
    fn next(&mut self, conn: usize, xid: i32, out: &mut Vec<u8>) -> Option<u64> {
        self.asked += 1;
        Some(match self.kind {
            Kind::Get => self.get(xid, out),
            Kind::Mix if !self.asked.is_multiple_of(10) => self.get(xid, out),
            Kind::Set | Kind::Mix => self.set(conn, xid, out),
            Kind::Create => {
                let number = self.ledger.created[conn];
                self.ledger.created[conn] += 1;
                let path = created_path(&self.space.parents[conn], number);
                let value = self.space.value(number, 0);
                put_request(out, xid, OpCode::Create, |out| put_create(out, &path, &value, CreateMode::Persistent));
                WRITE
            }
            Kind::Delete => {
                let number = self.ledger.deleted[conn];
                if number == self.ledger.created[conn] {
                    return None;
                }
                self.ledger.deleted[conn] += 1;
                let path = created_path(&self.space.parents[conn], number);
                put_request(out, xid, OpCode::Delete, |out| put_delete(out, &path));
                WRITE
            }
            Kind::Ephemeral => {
                let path = format!("{}/e", self.space.parents[conn]);
                put_request(out, xid, OpCode::Create, |out| {
                    put_create(out, &path, &self.space.value, CreateMode::EphemeralSequential);
                });
                WRITE
            }
            Kind::Children => {
                put_request(out, xid, OpCode::GetChildren, |out| put_read(out, &self.wide, false));
                0
            }
            Kind::Multi => self.multi(conn, xid, out),
            Kind::Sync => {
                put_request(out, xid, OpCode::Sync, |out| farrier_proto::jute::put_str(out, &self.space.root));
                0
            }
        })
    }

    fn reply(&mut self, _conn: usize, tag: u64, error: i32, body: &[u8]) -> Result<()> {
        ensure!(error == 0, "{:?} failed with {error}", self.kind);
        match self.kind {
            Kind::Get | Kind::Mix if tag & WRITE == 0 => {
                let found = data(body).and_then(|data| self.space.written(data)).map(|(key, _)| u64::from(key));
                ensure!(found == Some(tag), "key {tag} reads as {found:?}");
            }
            Kind::Children => {
                let found = names(body);
                ensure!(found == Some(CHILDREN), "{found:?} children of {CHILDREN}");
            }
            Kind::Multi => {
                let first = body.first_chunk().map(|op| i32::from_be_bytes(*op));
                ensure!(first == Some(OpCode::SetData.code()), "a multi failed: its first result is {first:?}");
            }
            Kind::Ephemeral => self.ephemerals += 1,
            _ => {}
        }
        Ok(())
    }
}

/// Looks on every one of these servers for every acknowledged write.
///
/// # Errors
///
/// One is missing, or a server does not answer.
pub fn verify(addrs: &[SocketAddr], space: &Space, ledger: &Ledger) -> Result<()> {
    verify_since(addrs, space, ledger, &ledger.deleted, &mut untold)
}

/// [`verify`] that reads the created znodes from these on; the others were read when they were created, and are counted.
pub(crate) fn verify_since(
    addrs: &[SocketAddr],
    space: &Space,
    ledger: &Ledger,
    from: &[u32],
    progress: Progress<'_>,
) -> Result<()> {
    for addr in addrs {
        verify_one(*addr, space, ledger, from, progress).with_context(|| format!("on {addr}"))?;
    }
    Ok(())
}

fn verify_one(addr: SocketAddr, space: &Space, ledger: &Ledger, from: &[u32], progress: Progress<'_>) -> Result<()> {
    let addr = [addr];
    let conns = u32::try_from(PASS_CONNS)?;
    // What was acknowledged anywhere is read behind a sync.
    pass(
        &addr,
        Script::new(PASS_CONNS, conns, |_, xid, out| {
            put_request(out, xid, OpCode::Sync, |out| farrier_proto::jute::put_str(out, &space.root));
        }),
        progress,
    )?;
    let keys = Script::new(PASS_CONNS, u32::try_from(space.keys.len())?, |i, xid, out| {
        put_request(out, xid, OpCode::GetData, |out| put_read(out, &space.keys[i as usize], false));
    });
    pass(
        &addr,
        keys.checked(|key, body| {
            let expected = ledger.writes[key as usize];
            let found = data(body).and_then(|data| space.written(data));
            ensure!(
                found == Some((key, expected)),
                "acknowledged write {expected} of {} is lost: {found:?} is there",
                space.keys[key as usize]
            );
            Ok(())
        }),
        progress,
    )?;
    let parents = Script::new(PASS_CONNS, u32::try_from(space.parents.len())?, |i, xid, out| {
        put_request(out, xid, OpCode::Exists, |out| put_read(out, &space.parents[i as usize], false));
    });
    pass(
        &addr,
        parents.checked(|parent, body| {
            let parent = parent as usize;
            let expected = ledger.created[parent] - ledger.deleted[parent];
            let found = children_of(body);
            ensure!(found == Some(expected), "{} has {found:?} children of {expected}", space.parents[parent]);
            Ok(())
        }),
        progress,
    )?;
    let all = created(from, ledger);
    let script = Script::new(PASS_CONNS, u32::try_from(all.len())?, |i, xid, out| {
        let (parent, number) = all[i as usize];
        let path = created_path(&space.parents[parent], number);
        put_request(out, xid, OpCode::GetData, |out| put_read(out, &path, false));
    });
    pass(
        &addr,
        script.checked(|i, body| {
            let expected = all[i as usize].1;
            let found = data(body).and_then(|data| space.written(data));
            ensure!(found == Some((expected, 0)), "created znode {expected} reads as {found:?}");
            Ok(())
        }),
        progress,
    )?;
    Ok(())
}

/// How many znodes there are below the parents on this server, behind a sync.
///
/// # Errors
///
/// It does not answer.
pub fn count_created(addr: SocketAddr, space: &Space) -> Result<u64> {
    let addr = [addr];
    let conns = u32::try_from(PASS_CONNS)?;
    let sync = Script::new(PASS_CONNS, conns, |_, xid, out| {
        put_request(out, xid, OpCode::Sync, |out| farrier_proto::jute::put_str(out, &space.root));
    });
    pass(&addr, sync, &mut untold)?;
    let mut total = 0;
    let parents = Script::new(PASS_CONNS, u32::try_from(space.parents.len())?, |i, xid, out| {
        put_request(out, xid, OpCode::Exists, |out| put_read(out, &space.parents[i as usize], false));
    });
    let counted = parents.checked(|_, body| {
        total += u64::from(children_of(body).context("a reply without a stat")?);
        Ok(())
    });
    pass(&addr, counted, &mut untold)?;
    Ok(total)
}

fn created(from: &[u32], ledger: &Ledger) -> Vec<(usize, u32)> {
    let ranges = from.iter().zip(&ledger.created).enumerate();
    ranges.flat_map(|(parent, (from, to))| (*from..*to).map(move |number| (parent, number))).collect()
}

/// Takes away what a row created.
pub(crate) fn clear(
    addrs: &[SocketAddr],
    space: &Space,
    ledger: &mut Ledger,
    kept: &Kept,
    progress: Progress<'_>,
) -> Result<()> {
    let all = created(&kept.created, ledger);
    let paths: Vec<String> =
        all.iter().map(|(parent, number)| created_path(&space.parents[*parent], *number)).collect();
    delete(addrs, &paths, progress)?;
    ledger.forget_since(kept);
    Ok(())
}

/// Deletes znodes without children, many in one multi.
pub(crate) fn delete(addrs: &[SocketAddr], paths: &[String], progress: Progress<'_>) -> Result<()> {
    let multis: Vec<&[String]> = paths.chunks(DELETES_PER_MULTI).collect();
    pass(
        addrs,
        Script::new(PASS_CONNS, u32::try_from(multis.len())?, |i, xid, out| {
            put_request(out, xid, OpCode::Multi, |out| {
                for path in multis[i as usize] {
                    put_multi_header(out, Some(OpCode::Delete));
                    put_delete(out, path);
                }
                put_multi_header(out, None);
            });
        })
        .checked(|_, body| {
            let first = body.first_chunk().map(|op| i32::from_be_bytes(*op));
            ensure!(first == Some(OpCode::Delete.code()), "nothing was deleted: the first result is {first:?}");
            Ok(())
        }),
        progress,
    )?;
    Ok(())
}
