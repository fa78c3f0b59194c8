//! The body of a snapshot: sessions, ACL table, znodes, and the end marker. A file has a header before it
//! and seals behind it; behind a SNAP packet it stands alone.
//!
//! Owns its bytes in both directions, for files and for streams. The parser takes one piece after the other
//! from a window that its caller fills, so memory grows with what really came and not with what a length
//! says.

use super::{END, END_BYTES};
use crate::state::{Image, NodeRecord, Restore, RestoreError};
use farrier_proto::jute::{put_buffer, put_i32, put_i64, put_len, put_str};
use farrier_proto::stat::StatPersisted;
use farrier_proto::{Acl, DecodeError, Field, Reader, SessionId};

/// Bytes gathered before they are handed on.
pub(super) const GATHER: usize = 64 << 10;

/// Bytes of a znode behind its data: ACL key and stat.
const NODE_TAIL: usize = 8 + 60;

/// A znode longer than this is not shown to the state while only measuring.
const SKIM: usize = 256 << 10;

/// Writes the body of `image`; returns the number of znodes. `hand_on` gets what was gathered whenever that
/// has become large, and empties it. The rest stays in `gathered`.
pub(super) fn write_body<I: Image, E>(
    image: &I,
    gathered: &mut Vec<u8>,
    hand_on: &mut dyn FnMut(&mut Vec<u8>) -> Result<(), E>,
) -> Result<u64, E> {
    let mut hand_on_if_large =
        |gathered: &mut Vec<u8>| if gathered.len() >= GATHER { hand_on(gathered) } else { Ok(()) };
    let sessions = image.sessions();
    put_len(gathered, sessions.len());
    for (session, timeout) in sessions {
        put_i64(gathered, session.0);
        put_i32(gathered, timeout);
        hand_on_if_large(gathered)?;
    }
    let acls = image.acls();
    put_len(gathered, acls.len());
    for (key, acl) in acls {
        put_i64(gathered, key);
        acl.write(gathered);
        hand_on_if_large(gathered)?;
    }
    let mut nodes = 0;
    image.nodes::<E>(&mut |node| {
        assert_ne!(node.path, "/", "the root's path is empty; a slash alone ends the znodes");
        nodes += 1;
        put_str(gathered, node.path);
        put_buffer(gathered, node.data);
        put_i64(gathered, node.acl);
        node.stat.write(gathered);
        hand_on_if_large(gathered)
    })?;
    put_buffer(gathered, Some(END));
    Ok(nodes)
}

/// Why bytes are no body.
pub(super) enum Failure {
    Disk(crate::disk::DiskError),
    Damaged(String),
    /// A field of that many bytes is over the limit.
    Limit(u64),
    Refused(RestoreError),
}

impl From<RestoreError> for Failure {
    fn from(reason: RestoreError) -> Self {
        Self::Refused(reason)
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::Damaged(error.to_string())
    }
}

pub(super) fn damaged(message: impl Into<String>) -> Failure {
    Failure::Damaged(message.into())
}

/// The length in a length field: `None` for null.
pub(super) fn checked_len(len: i32, max: usize, what: &str) -> Result<Option<usize>, Failure> {
    match usize::try_from(len) {
        Ok(n) if n <= max => Ok(Some(n)),
        Ok(n) => Err(Failure::Limit(n as u64)),
        Err(_) if len == -1 => Ok(None),
        Err(_) => Err(damaged(format!("{what} has the length {len}, allowed are 0 to {max}"))),
    }
}

/// What one step of the parser came to.
pub(super) enum Step {
    /// Nothing was taken: the window must hold this many bytes.
    Need { bytes: usize, what: &'static str },
    /// A piece of this many bytes was taken.
    Took(usize),
    /// This many bytes belong to a piece that nobody wants to see. Only while measuring.
    Skip(usize),
    /// The end marker, of this many bytes, was taken.
    End(usize),
}

/// What comes next.
#[derive(Debug)]
enum Stage {
    SessionCount,
    Sessions { left: u32 },
    AclCount,
    Acls { left: u32, list: AclList },
    Nodes,
    Ended,
}

/// How far an ACL list was looked through: its bytes may come one by one.
#[derive(Debug, Default)]
struct AclList {
    /// Bytes known to belong to it; 0 before its count was read.
    len: usize,
    /// Entries to come.
    entries: i32,
    /// Whether the next string is an entry's second one.
    id: bool,
}

/// Why the parser stops inside a piece.
enum Pause {
    Need(usize, &'static str),
    Failed(Failure),
}

impl<T: Into<Failure>> From<T> for Pause {
    fn from(failure: T) -> Self {
        Self::Failed(failure.into())
    }
}

/// Reads a body piece by piece. Nothing is believed of a count but its sign.
#[derive(Debug)]
pub(super) struct Parser {
    stage: Stage,
    max: usize,
    skim: bool,
    /// The longest path, data or ACL list so far, in bytes.
    pub(super) widest: usize,
    pub(super) sessions: u64,
    pub(super) acls: u64,
    pub(super) nodes: u64,
}

impl Parser {
    /// `max` bounds a path, a znode's data and an ACL list, each in bytes.
    pub(super) const fn new(max: usize) -> Self {
        Self { stage: Stage::SessionCount, max, skim: false, widest: 0, sessions: 0, acls: 0, nodes: 0 }
    }

    /// One that does not want to see long data.
    pub(super) const fn measuring(max: usize) -> Self {
        Self { skim: true, ..Self::new(max) }
    }

    pub(super) const fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    /// Takes the next piece from the start of `window`, if it is there as a whole.
    pub(super) fn step(&mut self, window: &[u8], state: &mut dyn Restore) -> Result<Step, Failure> {
        let step = match self.stage {
            Stage::SessionCount => count(window, "the number of sessions").map(|left| {
                self.sessions = u64::from(left);
                self.stage = Stage::Sessions { left };
                Step::Took(4)
            }),
            Stage::Sessions { left: 0 } => {
                self.stage = Stage::AclCount;
                Ok(Step::Took(0))
            }
            Stage::Sessions { ref mut left } => session(window, state).inspect(|_| *left -= 1),
            Stage::AclCount => count(window, "the number of ACL lists").map(|left| {
                self.acls = u64::from(left);
                self.stage = Stage::Acls { left, list: AclList::default() };
                Step::Took(4)
            }),
            Stage::Acls { left: 0, .. } => {
                self.stage = Stage::Nodes;
                Ok(Step::Took(0))
            }
            Stage::Acls { .. } => self.acl(window, state),
            Stage::Nodes => self.node(window, state),
            Stage::Ended => unreachable!("nobody asks for more behind the end"),
        };
        match step {
            Ok(step) => Ok(step),
            Err(Pause::Need(bytes, what)) => Ok(Step::Need { bytes, what }),
            Err(Pause::Failed(failure)) => Err(failure),
        }
    }

    /// One entry of the ACL table.
    fn acl(&mut self, window: &[u8], state: &mut dyn Restore) -> Result<Step, Pause> {
        const WHAT: &str = "an ACL list";
        let Stage::Acls { left, list } = &mut self.stage else { unreachable!("the stage was matched") };
        if list.len == 0 {
            let count = i32_at(window, 8, WHAT)?;
            if count == -1 {
                return Err(damaged("an ACL list is null").into());
            }
            // Other negative counts read as empty, as everywhere in jute.
            *list = AclList { len: 8 + 4 + if count > 0 { 4 } else { 0 }, entries: count, id: false };
        }
        while list.entries > 0 {
            // `len` reaches up to the length of a string.
            let n = checked_len(i32_at(window, list.len, WHAT)?, self.max, WHAT)?
                .ok_or_else(|| damaged("a string in an ACL list is null"))?;
            self.widest = self.widest.max(n);
            list.len += 4 + n;
            if list.id {
                list.entries -= 1;
                list.len += if list.entries > 0 { 4 } else { 0 };
            }
            list.id = !list.id;
            if list.len > self.max.saturating_add(8) {
                return Err(Failure::Limit(list.len as u64).into());
            }
        }
        let len = list.len;
        let bytes = window.get(..len).ok_or(Pause::Need(len, WHAT))?;
        let mut r = Reader::new(bytes);
        let key = r.i64()?;
        r.i32()?;
        let mut acl = Vec::new();
        while !r.is_empty() {
            acl.push(Acl::read(&mut r)?);
        }
        state.acl(key, acl)?;
        self.widest = self.widest.max(len - 8);
        *list = AclList::default();
        *left -= 1;
        Ok(Step::Took(len))
    }

    /// One znode, or the end of them.
    fn node(&mut self, window: &[u8], state: &mut dyn Restore) -> Result<Step, Pause> {
        const WHAT: &str = "a znode";
        let path_len = self.length(window, 0, "a path")?.ok_or_else(|| damaged("a path is null"))?;
        if path_len == 1 {
            let end = window.get(..END_BYTES.len()).ok_or(Pause::Need(END_BYTES.len(), "the end of the znodes"))?;
            if end == END_BYTES {
                self.stage = Stage::Ended;
                return Ok(Step::End(END_BYTES.len()));
            }
        }
        let data_at = 4 + path_len + 4;
        let data_len = self.length(window, 4 + path_len, "a znode's data")?;
        let tail_at = data_at + data_len.unwrap_or(0);
        let len = tail_at + NODE_TAIL;
        if self.skim && len > SKIM {
            self.nodes += 1;
            return Ok(Step::Skip(len));
        }
        let bytes = window.get(..len).ok_or(Pause::Need(len, WHAT))?;
        let path = std::str::from_utf8(&bytes[4..4 + path_len]).map_err(|_| damaged("a path is not UTF-8"))?;
        let data = data_len.map(|n| &bytes[data_at..data_at + n]);
        let mut tail = Reader::new(&bytes[tail_at..]);
        let acl = tail.i64()?;
        let stat = StatPersisted::read(&mut tail)?;
        state.node(NodeRecord { path, data, acl, stat })?;
        self.nodes += 1;
        Ok(Step::Took(len))
    }

    fn length(&mut self, window: &[u8], at: usize, what: &'static str) -> Result<Option<usize>, Pause> {
        let len = checked_len(i32_at(window, at, what)?, self.max, what)?;
        self.widest = self.widest.max(len.unwrap_or(0));
        Ok(len)
    }
}

fn i32_at(window: &[u8], at: usize, what: &'static str) -> Result<i32, Pause> {
    let bytes = window.get(at..at + 4).ok_or(Pause::Need(at + 4, what))?;
    Ok(Reader::new(bytes).i32()?)
}

fn count(window: &[u8], what: &'static str) -> Result<u32, Pause> {
    let n = i32_at(window, 0, what)?;
    u32::try_from(n).map_err(|_| damaged(format!("{what} is {n}")).into())
}

fn session(window: &[u8], state: &mut dyn Restore) -> Result<Step, Pause> {
    const LEN: usize = 8 + 4;
    let mut r = Reader::new(window.get(..LEN).ok_or(Pause::Need(LEN, "a session"))?);
    let session = SessionId(r.i64()?);
    state.session(session, r.i32()?)?;
    Ok(Step::Took(LEN))
}
